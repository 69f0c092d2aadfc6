//! The workers of a sweep: each takes the next run of the grid that has not ended, until none is left or somebody asks
//! to stop.

use super::board::Board;
use super::held::FilesNow;
use super::ledger::{Ledger, lock};
use super::measure::{self, FinishedRun};
use super::one::{Surroundings, make};
use super::room::{Most, Need, Room};
use crate::backend::Cores;
use crate::cli::SweepCommand;
use crate::commands::counter::Counter;
use crate::commands::notes::unheard;
use crate::commands::say;
use crate::commands::stop::Stop;
use crate::commands::train::{Inputs, plan};
use crate::ranks::Share;
use crate::results::groups::{AtRate, Group, Groups};
use crate::results::rows::{RunEnd, RunRow};
use crate::rss;
use crate::session::gpu;
use crate::settings::metric::Metric;
use crate::settings::sweep_run::SweepRun;
use crate::words::count;
use anyhow::{Context, Error, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The same as a process's main thread.
const STACK: usize = 8 << 20;

/// The remaining runs, and what they need.
pub struct Work<'a> {
    command: &'a SweepCommand,
    inputs: &'a Inputs,
    left: Vec<&'a SweepRun>,
    /// One per concurrent run.
    pools: Vec<ThreadPool>,
    memory: Room,
    cores: Cores,
}

impl<'a> Work<'a> {
    /// For the runs of a command that have not ended.
    ///
    /// # Errors
    /// A file that cannot be read; a run that does not fit in memory; threads that the system refuses.
    pub fn planned(
        command: &'a SweepCommand,
        inputs: &'a Inputs,
        files: &mut FilesNow<'_>,
        has_ended: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let SweepCommand { runs, jobs, quiet, .. } = command;
        let left: Vec<&SweepRun> = runs.iter().filter(|run| !has_ended(&run.name)).collect();
        let first = &runs.first().context("a grid without runs")?.config;
        if !left.is_empty() {
            // All runs use it: none begins without it or without their texts.
            inputs.base(first, *quiet)?;
        }
        for run in &left {
            // Messages about the texts are given when the run begins.
            unheard(|| files.of(&run.config).map(drop))
                .with_context(|| format!("the run {}", run.name))?;
        }
        let on_gpu = gpu(first.device, Share::WHOLE).is_some();
        let cores = Cores::new(rayon::current_num_threads());
        let workers = match (jobs, on_gpu) {
            // A single run uses all of it.
            (_, true) => 1,
            (None, false) => cores.total(),
            (Some(jobs), false) => *jobs,
        };
        if on_gpu && jobs.is_some_and(|jobs| jobs > 1) {
            say(*quiet, "--jobs: on a GPU, runs are done one after another");
        }
        let limit = first.memory.map(|size| size.0);
        // If the user sets no limit, the system's free memory keeps a large model from being trained many times at
        // once.
        let free = if jobs.is_none() { rss::available() } else { None };
        let memory = Room::new(limit.or(free));
        let pools = (0..workers.min(runs.len())).map(|_| pool(cores.total()));
        let pools = pools.collect::<Result<Vec<_>>>()?;
        if limit.is_some() {
            for run in &left {
                let plan_of = || plan(&run.config, &*inputs.of(&run.config, false)?).map(drop);
                let planned = pools[0].install(|| unheard(plan_of));
                planned.with_context(|| format!("the run {}", run.name))?;
            }
        }
        Ok(Self { command, inputs, left, pools, memory, cores })
    }

    /// Executes them. If somebody asks to stop, some are missing from the ledger afterwards.
    ///
    /// # Errors
    /// A file of the sweep that cannot be written.
    pub fn make(&self, stop: &Stop, ledger: &Mutex<Ledger>) -> Result<()> {
        let &Self { command, inputs, ref left, ref pools, ref memory, ref cores } = self;
        let SweepCommand { runs, output, quiet, .. } = command;
        if left.is_empty() {
            return Ok(());
        }
        let (to_make, threads) = (count(left.len(), "run"), count(cores.total(), "thread"));
        let at_a_time = match pools.len().min(left.len()) {
            1 => "1".to_owned(),
            most => format!("up to {most}"),
        };
        say(*quiet, format_args!("{to_make} to run, {at_a_time} at a time on {threads}"));
        let board = Board::new(runs.len(), runs.len() - left.len(), *quiet);
        let asked = stop.after_the_step();
        let shared = Surroundings { output, inputs, memory, cores, stop, asked, board: &board };
        let ended = self.each(left, asked, |run| {
            if let Some(row) = make(run, &shared)? {
                board.ended(&run.name, &said(&row));
                lock(ledger).add(row)?;
            }
            Ok(())
        });
        board.finish();
        ended
    }

    /// Measures the table's runs on rows that they were trained on: those at the best rate of each of its rows. False
    /// if somebody asked to stop before all were done.
    ///
    /// # Errors
    /// A run's files cannot be read; a device without room.
    pub fn measure_best(&self, stop: &Stop, ledger: &Mutex<Ledger>) -> Result<bool> {
        let rows = lock(ledger).in_order()?;
        let best = Groups::of(&rows);
        let best = best.list.iter().filter_map(Group::at_best).flat_map(AtRate::measured);
        let best: Vec<&RunRow> = best.map(|(row, _)| row).collect();
        lock(ledger).measured_no_others(&best.iter().map(|row| row.run.as_str()).collect());
        let unmeasured: HashMap<&str, (Metric, u64)> =
            (best.iter().filter(|row| row.train.is_none()))
                .filter_map(|row| Some((row.run.as_str(), (row.metric?, row.steps?))))
                .collect();
        let SweepCommand { runs, quiet, .. } = self.command;
        let known = runs.iter().filter(|run| measure::reads_texts(&run.config));
        let unmeasured: Vec<(&SweepRun, (Metric, u64))> =
            known.filter_map(|run| Some((run, *unmeasured.get(run.name.as_str())?))).collect();
        let counter = Counter::new("on trained rows", Some(unmeasured.len() as u64), *quiet);
        let measured = AtomicUsize::new(0);
        self.each(&unmeasured, stop.after_the_step(), |&(run, (metric, steps))| {
            let found = unheard(|| self.on_trained_rows(run, metric, steps));
            if let Some(value) = found.with_context(|| format!("the run {}", run.name))? {
                lock(ledger).measured_on_trained_rows(&run.name, value);
            }
            counter.add(1);
            measured.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })?;
        Ok(measured.into_inner() == unmeasured.len())
    }

    fn on_trained_rows(&self, run: &SweepRun, metric: Metric, steps: u64) -> Result<Option<f64>> {
        let config = &run.config;
        let texts = self.inputs.of(config, true)?;
        let need = Need::of(config, plan(config, &texts)?.planned);
        let _place = self.memory.take(&need, |frozen| self.inputs.release(frozen));
        rss::give_back();
        let seat = self.cores.seat();
        let run = FinishedRun { config, texts: &texts, cores: seat.share().clone() };
        measure::on_trained_rows(&run, metric, steps)
    }

    /// The peak bytes that concurrent runs were planned to take.
    pub fn most(&self) -> Most {
        self.memory.most()
    }

    /// Processes a list, as many items at a time as there are pools, until one fails or somebody asks to stop.
    fn each<T: Sync>(
        &self,
        list: &[T],
        asked: &AtomicBool,
        work: impl Fn(&T) -> Result<()> + Sync,
    ) -> Result<()> {
        let (next, broken) = (AtomicUsize::new(0), AtomicBool::new(false));
        let some = || -> Result<()> {
            while !asked.load(Ordering::Relaxed)
                && !broken.load(Ordering::Relaxed)
                && let Some(thing) = list.get(next.fetch_add(1, Ordering::Relaxed))
            {
                work(thing)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let (some, broken) = (&some, &broken);
            let broke = |_: &Error| broken.store(true, Ordering::Relaxed);
            let pools = self.pools.iter().take(list.len());
            let workers: Vec<_> = pools
                .map(|pool| scope.spawn(move || pool.install(some).inspect_err(broke)))
                .collect();
            // The scope waits for the others after an error.
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
        })
    }
}

/// The threads of a run.
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
