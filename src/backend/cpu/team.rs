//! Persistent threads: a step's few hundred short stretches of work are spread over the same threads in the same way,
//! so that each finds its data from before in its caches.
//!
//! A stretch is split into tasks, and each thread owns a block of neighbouring ones. A thread that has finished its own
//! takes over others' tasks that have not begun, so a thread whose core is busy elsewhere delays at most one task, and
//! one that never shows up delays nothing. Results depend on the tasks, not on the threads, so they are the same for
//! any number of threads.
//!
//! Waiting threads look for work for some microseconds, then yield for as long, then sleep.

use crate::backend::CoreShare;
use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::thread::{JoinHandle, Thread};

/// Rounds of looking for work before a thread yields, and of yielding before it sleeps.
const LOOKS: usize = 2_000;
const YIELDS: usize = 20;

/// The calling thread is one of them.
pub struct Team {
    board: Arc<Board>,
    /// How many of them may work at a time.
    cores: CoreShare,
    threads: Vec<JoinHandle<()>>,
    /// One stretch at a time, which sharing a `&Team` with another thread could violate.
    _alone: PhantomData<Cell<()>>,
}

/// What all threads share.
struct Board {
    gate: AtomicU64,
    /// The work, as `(thread, task)`. Only callable inside the gate.
    work: AtomicPtr<*const (dyn Fn(usize, usize) + Sync)>,
    /// Each thread's own tasks that nobody has begun.
    blocks: Box<[Block]>,
    ends: AtomicBool,
    panicked: AtomicBool,
}

/// On its own cache line.
#[repr(align(128))]
#[derive(Default)]
struct Block {
    next: AtomicUsize,
    end: AtomicUsize,
    asleep: AtomicBool,
}

/// The gate: how often it has been opened, whether it is open, and how many threads are inside.
const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;
const OPENED: u64 = 1 << 32;

impl Team {
    /// With this many threads, including the current one; those with a core work.
    ///
    /// # Errors
    /// The system refuses to create a thread.
    pub fn new(threads: usize, cores: CoreShare) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let board = Arc::new(Board {
            gate: AtomicU64::new(0),
            work: AtomicPtr::new(std::ptr::null_mut()),
            blocks: (0..threads).map(|_| Block::default()).collect(),
            ends: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
        });
        // Extended thread by thread, so that if one fails, the earlier ones end with it.
        let mut team = Self { board, cores, threads: Vec::new(), _alone: PhantomData };
        for thread in 1..threads {
            let board = team.board.clone();
            let name = format!("step {thread}");
            let spawned =
                std::thread::Builder::new().name(name).spawn(move || board.attend(thread));
            team.threads.push(spawned?);
        }
        Ok(team)
    }

    pub fn threads(&self) -> usize {
        self.board.blocks.len()
    }

    /// Calls `work(thread, task)` for each of `tasks`, and returns when all are done. No two concurrent calls have the
    /// same thread.
    ///
    /// # Panics
    /// If a task does.
    pub fn run(&self, tasks: usize, work: &(dyn Fn(usize, usize) + Sync)) {
        let threads = self.threads().min(self.cores.now());
        if threads == 1 || tasks <= 1 {
            return (0..tasks).for_each(|task| work(0, task));
        }
        let board = &*self.board;
        board.panicked.store(false, Ordering::Relaxed);
        for (thread, block) in board.blocks.iter().enumerate() {
            let from = |thread: usize| tasks * thread.min(threads) / threads;
            block.next.store(from(thread), Ordering::Relaxed);
            block.end.store(from(thread + 1), Ordering::Relaxed);
        }
        // SAFETY: this only removes the lifetime. The pointer is read only inside the gate, which `Closing` shuts, and
        // empties, before `work` and `pointer` are dropped.
        let mut pointer: *const (dyn Fn(usize, usize) + Sync) = unsafe {
            std::mem::transmute::<
                &(dyn Fn(usize, usize) + Sync),
                &'static (dyn Fn(usize, usize) + Sync),
            >(work)
        };
        board.work.store(&mut pointer, Ordering::Relaxed);
        let closing = Closing(board);
        board.gate.fetch_add(OPENED | OPEN, Ordering::SeqCst);
        for (block, thread) in board.blocks[1..threads].iter().zip(&self.threads) {
            wake(block, thread.thread());
        }
        board.tasks(0, work);
        drop(closing);
        if board.panicked.load(Ordering::Relaxed) {
            panic!("a task of a step panicked; what it said is above");
        }
    }
}

fn wake(block: &Block, thread: &Thread) {
    if block.asleep.load(Ordering::SeqCst) {
        thread.unpark();
    }
}

/// Shuts the gate and waits until nobody is inside, even if a task of this thread panics.
struct Closing<'a>(&'a Board);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.gate.fetch_and(!OPEN, Ordering::SeqCst);
        let mut looks = 0;
        while self.0.gate.load(Ordering::Acquire) & INSIDE != 0 {
            looks += 1;
            match looks < LOOKS {
                true => std::hint::spin_loop(),
                // Someone is still running a task: give them this core.
                false => std::thread::yield_now(),
            }
        }
    }
}

impl Board {
    /// A thread's main loop.
    fn attend(&self, thread: usize) {
        let mut seen = 0;
        while self.enter(thread, &mut seen) {
            // SAFETY: inside the gate, see `Team::run`.
            let work = unsafe { &**self.work.load(Ordering::Relaxed) };
            let result = catch_unwind(AssertUnwindSafe(|| self.tasks(thread, work)));
            if let Err(panic) = result {
                self.panicked.store(true, Ordering::Relaxed);
                self.gate.fetch_sub(1, Ordering::Release);
                drop(panic);
                continue;
            }
            self.gate.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits until the gate is opened again, and enters. Returns `false` at the end.
    fn enter(&self, thread: usize, seen: &mut u64) -> bool {
        let mut looks = 0;
        loop {
            if self.ends.load(Ordering::SeqCst) {
                return false;
            }
            let gate = self.gate.load(Ordering::SeqCst);
            if gate & OPEN != 0 && gate / OPENED != *seen {
                let inside = gate + 1;
                let went =
                    self.gate.compare_exchange(gate, inside, Ordering::Acquire, Ordering::Relaxed);
                if went.is_ok() {
                    *seen = gate / OPENED;
                    return true;
                }
                continue;
            }
            looks += 1;
            if looks < LOOKS {
                std::hint::spin_loop();
            } else if looks < LOOKS + YIELDS {
                std::thread::yield_now();
            } else {
                self.sleep(thread, *seen);
                looks = 0;
            }
        }
    }

    fn sleep(&self, thread: usize, seen: u64) {
        let asleep = &self.blocks[thread].asleep;
        asleep.store(true, Ordering::SeqCst);
        // Opened before this thread announced its sleep: nobody will wake it.
        let gate = self.gate.load(Ordering::SeqCst);
        let missed = gate & OPEN != 0 && gate / OPENED != seen;
        if !missed && !self.ends.load(Ordering::SeqCst) {
            std::thread::park();
        }
        asleep.store(false, Ordering::SeqCst);
    }

    /// A thread's own tasks, then what is left of the others'.
    fn tasks(&self, thread: usize, work: &(dyn Fn(usize, usize) + Sync)) {
        let threads = self.blocks.len();
        for other in 0..threads {
            let block = &self.blocks[(thread + other) % threads];
            let end = block.end.load(Ordering::Relaxed);
            loop {
                let task = block.next.fetch_add(1, Ordering::Relaxed);
                if task >= end {
                    break;
                }
                work(thread, task);
            }
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.board.ends.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            if let Err(panic) = thread.join()
                && !std::thread::panicking()
            {
                resume_unwind(panic);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cores;
    use crate::processor_time::ProcessorTime;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    fn counts(count: usize) -> Vec<AtomicU32> {
        (0..count).map(|_| AtomicU32::new(0)).collect()
    }

    #[test]
    fn every_task_runs_once_whatever_the_numbers() {
        for threads in [1, 2, 3, 7] {
            let team = Team::new(threads, CoreShare::default()).unwrap();
            for tasks in [0, 1, 2, 3, 6, 7, 8, 100] {
                for _ in 0..200 {
                    let done = counts(tasks);
                    team.run(tasks, &|thread, task| {
                        assert!(thread < threads);
                        done[task].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(done.iter().all(|n| n.load(Ordering::Relaxed) == 1));
                }
            }
        }
    }

    #[test]
    fn no_more_threads_work_than_have_a_core() {
        let cores = Cores::new(3);
        let (seat, other) = (cores.seat(), cores.seat());
        let team = Team::new(3, other.share().clone()).unwrap();
        let alone = std::thread::current().id();
        let run = |on_others: &AtomicU32| {
            let done = counts(64);
            team.run(64, &|_, task| {
                done[task].fetch_add(1, Ordering::Relaxed);
                if std::thread::current().id() != alone {
                    on_others.fetch_add(1, Ordering::Relaxed);
                }
            });
            assert!(done.iter().all(|n| n.load(Ordering::Relaxed) == 1));
        };
        let none = AtomicU32::new(0);
        (0..200).for_each(|_| run(&none));
        assert_eq!(none.into_inner(), 0);
        drop(seat);
        let (some, begun) = (AtomicU32::new(0), ProcessorTime::begin());
        while some.load(Ordering::Relaxed) == 0 {
            // This thread works meanwhile.
            assert!(begun.taken() < Duration::from_secs(20), "no other thread came");
            run(&some);
        }
    }

    #[test]
    fn threads_that_slept_come_back() {
        let team = Team::new(3, CoreShare::default()).unwrap();
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(3));
            let done = counts(64);
            team.run(64, &|_, task| {
                done[task].fetch_add(1, Ordering::Relaxed);
            });
            assert!(done.iter().all(|n| n.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn who_is_held_up_has_his_tasks_taken_over() {
        let team = Team::new(2, CoreShare::default()).unwrap();
        let done = AtomicU32::new(0);
        team.run(40, &|_, task| {
            let begun = ProcessorTime::begin();
            // The first of the second thread's own tasks, whoever runs it, ends after all others.
            while task == 20 && done.load(Ordering::Relaxed) < 39 {
                assert!(begun.taken() < Duration::from_secs(20), "the others were not done");
                std::thread::yield_now();
            }
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 40);
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller_and_the_team_goes_on() {
        let team = Team::new(2, CoreShare::default()).unwrap();
        for at in [0, 39] {
            let run = catch_unwind(AssertUnwindSafe(|| {
                team.run(40, &|_, task| assert!(task != at, "told to"));
            }));
            assert!(run.is_err());
        }
        let done = counts(40);
        team.run(40, &|_, task| {
            done[task].fetch_add(1, Ordering::Relaxed);
        });
        assert!(done.iter().all(|n| n.load(Ordering::Relaxed) == 1));
    }
}
