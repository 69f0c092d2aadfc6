//! What `--lr auto` leaves: the trial's line, first in the run's log, and then a checkpoint at step 0. A killed run
//! continues with the chosen rate; without that checkpoint it restarts the trial.

use crate::formats::run_state::Checkpoint;
use crate::ranks::Ranks;
use crate::session::Session;
use crate::settings::train::TrainConfig;
use crate::table::TextTable;
use crate::train::log::{JsonLines, records};
use crate::train::output::OutputFolder;
use crate::train::run::{Writer, save_state};
use crate::train::trial::{ChosenRate, Tried};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// The key of the trial, in the log and in the result.
pub const KEY: &str = "lr_trial";

/// The trial recorded in a run's log, if any.
///
/// # Errors
/// A log that cannot be read, or an invalid trial.
pub fn recorded(output: &OutputFolder) -> Result<Option<ChosenRate>> {
    let path = output.metrics();
    if !path.exists() {
        return Ok(None);
    }
    for record in records(&path)? {
        if let Some(trial) = record?.get_mut(KEY) {
            let choice = serde_json::from_value(trial.take());
            return choice.map(Some).with_context(|| format!("{}: {KEY}", path.display()));
        }
    }
    Ok(None)
}

/// The rate that a trial chose before its run was stopped; the first rank sends its `found` to all.
///
/// # Errors
/// The log has no trial; another rank is gone.
pub fn chosen(found: Option<&ChosenRate>, ranks: &dyn Ranks) -> Result<f64> {
    let mine = found.map_or(f64::NAN, |choice| choice.chosen).to_bits().to_le_bytes();
    let bytes: [u8; 8] = match ranks.several() {
        true => ranks.broadcast(&mine)?.as_slice().try_into().context("no rate was sent")?,
        false => mine,
    };
    let lr = f64::from_bits(u64::from_le_bytes(bytes));
    ensure!(
        lr.is_finite(),
        "--lr auto: the log no longer has the rate that this run's trial chose; continue with the one in settings.toml (--lr \
         RATE)"
    );
    Ok(lr)
}

/// Records that a run of `total` steps begins with this choice, and returns its initial state.
///
/// # Errors
/// A file that cannot be written.
pub fn begin(
    writer: Option<&Writer<'_>>,
    session: &Session,
    choice: &ChosenRate,
    total: u64,
) -> Result<Checkpoint> {
    let mut state =
        Checkpoint { total, loss_scaling: session.loss_scaling()?, ..Checkpoint::default() };
    if let Some(writer) = writer {
        let mut log = JsonLines::resume(&writer.output.metrics(), 0)?;
        log.append(&json!({ KEY: choice }))?;
        state.metrics_len = log.sync()?;
        save_state(writer, session, &state)?;
    }
    Ok(state)
}

/// The settings that a run leaves, preceded by the trial's findings.
///
/// # Errors
/// Settings that cannot be serialised.
pub fn settings(config: &TrainConfig, choice: Option<&ChosenRate>) -> Result<String> {
    let mut text = String::new();
    if let Some(choice) = choice {
        text = format!("# lr was chosen by --lr auto: {}.\n", choice.said());
        for tried in &choice.tried {
            text += &format!("# lr {}: {}\n", tried.lr, tried.said());
        }
    }
    Ok(text + &config.to_toml()?)
}

/// For people.
pub fn table(choice: &ChosenRate) -> TextTable {
    let measures: Vec<&String> =
        choice.tried.iter().flat_map(|tried| tried.measures.keys()).collect();
    let mut names: Vec<&str> = Vec::new();
    for name in measures {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let heading = ["--lr", "loss"].into_iter().chain(names.iter().copied()).chain([""]);
    let mut table = TextTable::new(heading);
    for tried in &choice.tried {
        let Tried { lr, loss, measures, .. } = tried;
        let number =
            |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.4}"));
        let of = |name: &&str| number(measures.get(*name).and_then(Value::as_f64));
        let note = match loss {
            None => tried.said(),
            Some(_) if *lr == choice.chosen => "chosen".to_owned(),
            Some(_) => String::new(),
        };
        let cells = [lr.to_string(), number(*loss)].into_iter().chain(names.iter().map(of));
        table.row(cells.chain([note]));
    }
    table
}
