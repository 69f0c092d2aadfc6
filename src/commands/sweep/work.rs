//! The workers of a sweep: each takes the next run of the grid that has not ended, until none is left or somebody asks to
//! stop.

use super::board::Board;
use super::held::FilesNow;
use super::ledger::Ledger;
use super::one::{Surroundings, make};
use super::room::{Most, Room};
use crate::cli::SweepCommand;
use crate::commands::notes::unheard;
use crate::commands::say;
use crate::commands::stop::Stop;
use crate::commands::train::{Inputs, plan};
use crate::ranks::Share;
use crate::results::rows::{RunEnd, RunRow};
use crate::rss;
use crate::session::gpu;
use crate::settings::sweep_run::SweepRun;
use crate::words::count;
use anyhow::{Context, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// As the thread has that a process begins with.
const STACK: usize = 8 << 20;

/// The runs that are left, and what they are made with.
pub struct Work<'a> {
    left: Vec<&'a SweepRun>,
    /// One for each that is at work at a time.
    pools: Vec<ThreadPool>,
    memory: Room,
    threads: usize,
}

impl<'a> Work<'a> {
    /// For the runs of a command that have not ended.
    ///
    /// # Errors
    /// A file that cannot be read; a run that does not fit the memory; threads that the system does not give.
    pub fn planned(
        command: &'a SweepCommand,
        inputs: &Inputs,
        files: &mut FilesNow<'_>,
        has_ended: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let SweepCommand { runs, jobs, quiet, .. } = command;
        let left: Vec<&SweepRun> = runs.iter().filter(|run| !has_ended(&run.name)).collect();
        let Some(first) = left.first() else {
            return Ok(Self { left, pools: Vec::new(), memory: Room::new(None), threads: 0 });
        };
        let threads = rayon::current_num_threads();
        // All runs are of it: without it none begins, nor without their texts.
        inputs.base(&first.config, *quiet)?;
        for run in &left {
            // What there is to say of the texts is said when the run begins.
            unheard(|| files.of(&run.config).map(drop))
                .with_context(|| format!("the run {}", run.name))?;
        }
        let on_gpu = gpu(first.config.device, Share::WHOLE).is_some();
        let workers = match (jobs, on_gpu) {
            // One fills it.
            (_, true) => 1,
            (None, false) => threads,
            (Some(jobs), false) => *jobs,
        };
        let workers = workers.min(left.len());
        if on_gpu && jobs.is_some_and(|jobs| jobs > 1) {
            say(*quiet, "--jobs: runs on a GPU are made one after another");
        }
        let limit = first.config.memory.map(|size| size.0);
        // Without a limit of the user's, what the system has free keeps a large model from being trained many times at once.
        let free = if jobs.is_none() { rss::available() } else { None };
        let memory = Room::new(limit.or(free));
        let of_worker = |worker| threads / workers + usize::from(worker < threads % workers);
        let pools = (0..workers).map(|worker| pool(of_worker(worker).max(1)));
        let pools = pools.collect::<Result<Vec<_>>>()?;
        for run in &left {
            inputs.expect(&run.config)?;
        }
        if limit.is_some() {
            for run in &left {
                let plan_of = || plan(&run.config, &*inputs.of(&run.config, false)?).map(drop);
                let planned = pools[0].install(|| unheard(plan_of));
                planned.with_context(|| format!("the run {}", run.name))?;
            }
        }
        Ok(Self { left, pools, memory, threads })
    }

    /// Makes them, and returns the most bytes that those at work were planned to take at a time. Where somebody asks to stop,
    /// some are missing in the ledger afterwards.
    ///
    /// # Errors
    /// A file of the sweep that cannot be written.
    pub fn make(
        self,
        command: &SweepCommand,
        inputs: &Inputs,
        stop: &Stop,
        ledger: &Mutex<Ledger>,
    ) -> Result<Most> {
        let Self { left, pools, memory, threads } = self;
        let SweepCommand { runs, output, quiet, .. } = command;
        if left.is_empty() {
            return Ok(Most::default());
        }
        let (to_make, threads) = (count(left.len(), "run"), count(threads, "thread"));
        let at_a_time = match pools.len() {
            1 => "1".to_owned(),
            most => format!("up to {most}"),
        };
        say(*quiet, format_args!("{to_make} to make, {at_a_time} at a time on {threads}"));
        let board = Board::new(runs.len(), runs.len() - left.len(), *quiet);
        let asked = stop.after_the_step();
        let shared = Surroundings { output, inputs, memory: &memory, stop, asked, board: &board };
        let (next, broken) = (AtomicUsize::new(0), AtomicBool::new(false));
        let work = || -> Result<()> {
            while !asked.load(Ordering::Relaxed)
                && !broken.load(Ordering::Relaxed)
                && let Some(run) = left.get(next.fetch_add(1, Ordering::Relaxed))
            {
                let row = make(run, &shared)?;
                inputs.done(&run.config)?;
                if let Some(row) = row {
                    board.ended(&run.name, &said(&row));
                    ledger.lock().unwrap_or_else(PoisonError::into_inner).add(row)?;
                }
            }
            Ok(())
        };
        let ended: Result<()> = std::thread::scope(|scope| {
            let worker = |pool: ThreadPool| {
                let (work, broken) = (&work, &broken);
                scope.spawn(move || {
                    pool.install(work).inspect_err(|_| broken.store(true, Ordering::Relaxed))
                })
            };
            let workers: Vec<_> = pools.into_iter().map(worker).collect();
            // A run's panics are caught where it is made; the scope waits for the others after an error.
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().expect("a worker catches panics"))
        });
        board.finish();
        ended.map(|()| memory.most())
    }
}

/// What a run computes with.
fn pool(threads: usize) -> Result<ThreadPool> {
    let builder = ThreadPoolBuilder::new().num_threads(threads).stack_size(STACK);
    builder.build().context("cannot start the threads; try a smaller --threads")
}

/// How a run ended, for people.
fn said(row: &RunRow) -> String {
    match (row.outcome, row.dev, &row.metric, &row.why) {
        (RunEnd::Done, Some(dev), Some(metric), _) => format!("done, dev {metric} {dev:.4}"),
        (RunEnd::Done, ..) => "done".to_owned(),
        (RunEnd::Diverged, .., Some(why)) => format!("diverged: {why}"),
        (RunEnd::Failed, .., Some(why)) => format!("failed: {why}"),
        (RunEnd::Diverged, ..) => "diverged".to_owned(),
        (RunEnd::Failed, ..) => "failed".to_owned(),
    }
}
