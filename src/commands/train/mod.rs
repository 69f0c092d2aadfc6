//! `bitfit train`: one run in its own folder, by one process or by several ranks.

mod core;
mod data;
pub mod identity;
mod inputs;
mod keep;
pub mod rate;
mod saved;
mod start;
mod summary;
mod told;

use super::ranks as agreement;
use super::{outputs, say, set_threads, stop, submission};
use crate::backend::CoreShare;
use crate::cli::TrainCommand;
use crate::error::{OfAllRanks, UsageError};
use crate::ranks::Ranks;
use crate::train::output::OutputFolder;
use crate::words::count;
use anyhow::{Result, bail};
pub use core::{Ended, Job, device_of, plan, task_spec, train};
pub use inputs::{Inputs, OpenBase, Texts, frozen_name, texts_key};
use std::path::Path;
use std::rc::Rc;

pub fn run(command: TrainCommand, ranks: &Rc<dyn Ranks>) -> Result<()> {
    let TrainCommand { config, resume, predict_test, quiet } = command;
    set_threads(config.threads, &**ranks)?;
    let of = ranks.share().of;
    if config.batch_size < of {
        return Err(UsageError::new(format!(
            "--batch-size {}: {of} ranks share each batch, so some would have nothing to do; use at least {of}",
            config.batch_size
        ))
        .into());
    }
    outputs::no_input_folder(&config.output, &[Path::new(&config.model)])?;
    if let Some(folder) = &predict_test {
        submission::possible(&config, folder)?;
    }
    let stop = stop::when_asked()?;
    let output = match (ranks.first(), resume) {
        (false, _) => None,
        (true, true) => Some(OutputFolder::for_resumed_run(&config.output)?),
        (true, false) => {
            let leaves = config.method.facts().leaves;
            Some(OutputFolder::for_new_run(&config.output, leaves)?)
        }
    };
    if let Some(output) = &output {
        stop.undo_before_steps(output.undo());
    }
    let job = Job {
        config: &config,
        cores: CoreShare::default(),
        output: output.as_ref(),
        resume,
        quiet,
    };
    let result = say_ranks(quiet, &**ranks)
        .and_then(|()| Inputs::default().of(&config, quiet))
        .and_then(|texts| train(&job, &texts, &stop, ranks));
    if let (Some(output), Err(_)) = (output, &result) {
        output.remove_if_unused();
    }
    if let Ended::Stopped { step, total } = result? {
        bail!(OfAllRanks::new(format!(
            "stopped on request after step {step} of {total}; everything is saved: continue with `bitfit train \
             --resume --output {}`",
            config.output.display()
        )));
    }
    match predict_test {
        // One process is enough.
        Some(folder) if ranks.first() => submission::after_training(&config, &folder, quiet),
        _ => Ok(()),
    }
}

fn say_ranks(quiet: bool, ranks: &dyn Ranks) -> Result<()> {
    if ranks.several() {
        let (described, threads) = (agreement::describe(ranks)?, rayon::current_num_threads());
        let threads = count(threads, "thread");
        say(
            quiet,
            format_args!("{described}; {threads} each; each takes its share of every batch"),
        );
    }
    Ok(())
}
