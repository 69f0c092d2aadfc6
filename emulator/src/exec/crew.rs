//! The threads that run the blocks of a launch. On a device, blocks that fit on it at the same time may wait for each
//! other. Here, a block that seems to wait keeps its thread, and another thread starts the next block.

use super::block::Block;
use super::grid::Grid;
use super::launch::invalid;
use super::residency::blocks_at_a_time;
use super::tally::Tally;
use crate::check::{Fault, FaultKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::Scope;

/// Threads of one launch, whatever fits on the device.
const MOST: u64 = 1024;

struct Crew<'e> {
    grid: &'e Grid<'e>,
    blocks: u64,
    /// The block that starts next.
    next: AtomicU64,
    /// Blocks that can be on the device at the same time.
    resident: u64,
    threads: AtomicU64,
    tallies: Mutex<Vec<Tally>>,
    failure: Mutex<Option<(u64, Box<Fault>)>>,
    panicked: AtomicBool,
}

/// Runs all blocks, or until one fails.
pub fn run(grid: &Grid, blocks: u64) -> (Vec<Tally>, Result<(), Box<Fault>>) {
    let config = grid.config;
    let workers = (config.worker_count() as u64).min(blocks).max(1);
    let threads = grid.launch.block.iter().product();
    let fit = blocks_at_a_time(config, grid.kernel, threads, grid.launch.dynamic_shared);
    let crew = Crew {
        grid,
        blocks,
        next: AtomicU64::new(0),
        resident: fit.min(MOST).max(workers),
        threads: AtomicU64::new(workers),
        tallies: Mutex::default(),
        failure: Mutex::default(),
        panicked: AtomicBool::new(false),
    };
    grid.running.store(workers, Relaxed);
    std::thread::scope(|s| {
        for n in 1..workers {
            let crew = &crew;
            s.spawn(move || work(s, crew, n));
        }
        work(s, &crew, 0);
    });
    let tallies = crew.tallies.into_inner().unwrap_or_else(|e| e.into_inner());
    if crew.panicked.load(Relaxed) {
        let message = "the emulator itself failed in this kernel".into();
        return (tallies, Err(invalid(grid.kernel, FaultKind::IllegalInstruction, message)));
    }
    let failure = crew.failure.into_inner().unwrap_or_else(|e| e.into_inner());
    (tallies, failure.map_or(Ok(()), |(_, fault)| Err(fault)))
}

fn work<'s, 'e>(s: &'s Scope<'s, 'e>, crew: &'e Crew<'e>, worker: u64) {
    let blocks = || {
        let mut tally = Tally::default();
        let mut block = Block::new(crew.grid, worker as u32);
        // A thread for the next block, if one is left and the device has room for it.
        let hire = || {
            let room = crew.next.load(Relaxed) < crew.blocks && !crew.grid.stop.load(Relaxed);
            let one_more = |n: u64| (room && n < crew.resident).then_some(n + 1);
            if let Ok(n) = crew.threads.fetch_update(Relaxed, Relaxed, one_more) {
                crew.grid.running.fetch_add(1, Relaxed);
                s.spawn(move || work(s, crew, n));
            }
        };
        loop {
            let n = crew.next.fetch_add(1, Relaxed);
            if n >= crew.blocks || crew.grid.stop.load(Relaxed) {
                break;
            }
            if let Err(fault) = block.run(n, &mut tally, &hire) {
                crew.grid.stop.store(true, Relaxed);
                let mut failure = crew.failure.lock().unwrap_or_else(|e| e.into_inner());
                // As far as possible, the report must not depend on which block's thread came first.
                if failure.as_ref().is_none_or(|(at, _)| n < *at) {
                    *failure = Some((n, fault));
                }
                break;
            }
        }
        tally
    };
    let done = catch_unwind(AssertUnwindSafe(blocks));
    crew.grid.running.fetch_sub(1, Relaxed);
    match done {
        Ok(tally) => crew.tallies.lock().unwrap_or_else(|e| e.into_inner()).push(tally),
        Err(_) => {
            crew.panicked.store(true, Relaxed);
            crew.grid.stop.store(true, Relaxed);
        }
    }
}
