//! `bitfit compare`: several ways of training on the same data, each in a process of its own, side by side.
//!
//! A process of its own for each run: the peak of its memory is then its own, and nothing that one run leaves behind
//! helps or harms the next.

mod picture;
mod report;

use super::base::MOST_SETTINGS;
use super::stop::Parent;
use super::train::{Inputs, identity};
use super::{outputs, say, show, warn};
use crate::cli::{CompareCommand, REPORT, REPORT_FORMS, RunList, list_file, settings_file};
use crate::files::{no_links, only_files, read_bounded, sha256_file, write_bytes_atomic};
use crate::formats::fingerprint::Fingerprint;
use crate::formats::run_state::recorded;
use crate::settings::rate::Rate;
use crate::settings::train::TrainConfig;
use crate::train::lock::{FolderLock, LOCK_FILE};
use crate::train::output::{CHECKPOINT_FILE, RESULT_FILE, SETTINGS_FILE, result_file};
use anyhow::{Context, Result, bail, ensure};
use report::{Report, RunRow};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

pub fn run(command: &CompareCommand) -> Result<()> {
    let output = &command.output;
    let models: Vec<&Path> = command.runs.iter().map(|(_, c)| Path::new(&c.model)).collect();
    outputs::no_input_folder(output, &models)?;
    if !command.resume {
        let used = std::fs::read_dir(output).is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != LOCK_FILE))
        });
        ensure!(
            !used,
            "--output {}: the folder holds something already; name a new one, or go on with a comparison with --resume",
            output.display()
        );
    }
    std::fs::create_dir_all(output)
        .with_context(|| format!("--output {}: cannot make the folder", output.display()))?;
    let _lock = FolderLock::take(output).context("--output")?;
    let runs = command.runs.iter().map(|(name, _)| name);
    no_links(output, &runs.collect::<Vec<_>>())?;
    only_files(output, &files(command))?;
    for (name, config) in &command.runs {
        same_settings(name, config, command)?;
        same_files(name, config)?;
    }
    // All of them before the first run, so that a comparison that was stopped knows what is left to do.
    let list = RunList { runs: command.runs.iter().map(|(name, _)| name.clone()).collect() };
    for (name, config) in &command.runs {
        write_bytes_atomic(&settings_file(output, name), config.to_toml()?.as_bytes())?;
    }
    write_bytes_atomic(&list_file(output), toml::to_string(&list)?.as_bytes())?;

    // A signal is for the run that is on: it saves and ends, and so does the comparison.
    let parent = Parent::listening()?;
    let go_on = || format!("go on with `bitfit compare --resume --output {}`", output.display());
    let mut rows = Vec::new();
    for (name, config) in &command.runs {
        ensure!(!parent.stopped(), "stopped before the run {name}, as asked; {}", go_on());
        let ended = train(name, config, command, &parent)?;
        if let Some(status) = ended.filter(|status| !status.success()) {
            ensure!(!parent.stopped(), "stopped in the run {name}, as asked; {}", go_on());
            bail!(
                "the run {name} ended with {}; what it said stands above; {}, or repeat the run with `bitfit train \
                 --config {}`",
                status,
                go_on(),
                settings_file(output, name).display()
            );
        }
        rows.push(RunRow::read(name, config)?);
    }
    all_on_the_same_files(&command.runs)?;
    let metric = command.runs.first().map(|(_, config)| report::measured(config)).transpose()?;
    let report = Report::new(rows, metric);
    let picture = picture::Picture::of(&report);
    for form in REPORT_FORMS {
        let bytes = match form {
            "json" => report.json()?.into_bytes(),
            "md" => report.markdown().into_bytes(),
            "svg" => picture.svg()?.into_bytes(),
            _ => picture.png()?,
        };
        write_bytes_atomic(&output.join(REPORT).with_extension(form), &bytes)?;
    }
    show(report.table())?;
    let json = output.join(REPORT).with_extension("json");
    show(format_args!("written: {}, and as .md, .svg and .png\n", json.display()))
}

/// The names of all files that a comparison writes into its folder.
fn files(command: &CompareCommand) -> Vec<String> {
    let report = REPORT_FORMS.iter().map(|form| format!("{REPORT}.{form}"));
    let runs = command.runs.iter().map(|(name, _)| format!("{name}.toml"));
    report.chain(runs).chain([format!("{REPORT}.toml")]).collect()
}

/// Trains one run in a process of its own and returns how that ended; `None` where the run is done already.
fn train(
    name: &str,
    config: &TrainConfig,
    command: &CompareCommand,
    parent: &Parent,
) -> Result<Option<ExitStatus>> {
    if command.resume && config.output.join(RESULT_FILE).exists() {
        say(command.quiet, format_args!("{name}: is done"));
        return Ok(None);
    }
    say(command.quiet, format_args!("{name}:"));
    let program = std::env::current_exe().context("this program's own file is not known")?;
    let mut child = Command::new(program);
    child.arg("train").arg("--config").arg(settings_file(&command.output, name));
    if command.resume && config.output.join(SETTINGS_FILE).exists() {
        child.arg("--resume");
    }
    if command.quiet {
        child.arg("--quiet");
    }
    ends_with_parent(&mut child);
    // Its results come in the table; its notes and errors are for the user.
    let mut child = child
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start a process for the run")?;
    parent.wait(&mut child).map(Some).context("cannot wait for the run")
}

/// Has the system ask the run to stop once this process is gone, however it went: a run that nobody waits for would go on
/// writing where a resumed comparison writes, too.
#[cfg(target_os = "linux")]
fn ends_with_parent(child: &mut Command) {
    use std::os::unix::process::CommandExt;
    let parent = std::process::id();
    let ask = move || {
        // SAFETY: both calls take numbers alone, touch no memory, and may be made between fork and exec.
        let gone = unsafe {
            let failed = libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0;
            // It may have gone before it was asked.
            failed || libc::getppid() as u32 != parent
        };
        if gone { Err(std::io::Error::other("its parent is gone")) } else { Ok(()) }
    };
    // SAFETY: `ask` allocates nothing where it succeeds and takes no lock.
    unsafe { child.pre_exec(ask) };
}

#[cfg(not(target_os = "linux"))]
fn ends_with_parent(_: &mut Command) {}

/// Holds a run against what the folder has of it. One that is done is not repeated and must be the one that is asked for;
/// one that goes on may change what decides nothing.
fn same_settings(name: &str, config: &TrainConfig, command: &CompareCommand) -> Result<()> {
    let done = config.output.join(RESULT_FILE).exists();
    let path = match done {
        true => config.output.join(SETTINGS_FILE),
        false => settings_file(&command.output, name),
    };
    if !path.exists() {
        return Ok(());
    }
    let text = String::from_utf8(read_bounded(&path, MOST_SETTINGS)?);
    let recorded = text.map_err(Into::into).and_then(|text| TrainConfig::from_toml(&text));
    let recorded = recorded.with_context(|| path.display().to_string())?;
    // A run that is done says which rate its trial chose.
    let lr = match config.lr {
        Rate::Auto if done && report::has_trial(config)? => Rate::Auto,
        _ => recorded.lr,
    };
    // The folder may have moved.
    let recorded = TrainConfig { output: config.output.clone(), lr, ..recorded };
    let differences = Fingerprint::of(config)?.differences(&Fingerprint::of(&recorded)?);
    ensure!(
        differences.is_none() && (!done || recorded == *config),
        "{name}: the run in {} has other settings than this one{}; remove its folder or name a new --output",
        config.output.display(),
        differences.map_or(String::new(), |differences| format!(": {differences}"))
    );
    Ok(())
}

/// Holds a run that is done to the files that are there now: its row stands beside those of runs that read these.
fn same_files(name: &str, config: &TrainConfig) -> Result<()> {
    if !config.output.join(RESULT_FILE).exists() {
        // One that goes on is held to them when it does.
        return Ok(());
    }
    hold_result(name, config)?;
    let Some(recorded) = fingerprint_of(config)? else {
        warn(format_args!(
            "{name}: {CHECKPOINT_FILE} is gone from {}: whether the run was on the same data and base cannot be told",
            config.output.display()
        ));
        return Ok(());
    };
    let now = identity::of_files_now(config, &Inputs::default())
        .with_context(|| format!("{name}, which is done"))?;
    if let Some(differences) = now.differences(&identity::files_in(&recorded)) {
        bail!(
            "{name}: the run in {} is done, and was on other files: {differences}; put these back as they were, remove its \
             folder to have it run on the new ones, or name a new --output",
            config.output.display()
        );
    }
    Ok(())
}

/// Holds what a run that is done left to what its result says of it.
fn hold_result(name: &str, config: &TrainConfig) -> Result<()> {
    let left = config.output.join(result_file(config.method.facts().leaves));
    let Some(sha256) = report::sha256_of_result(config)? else {
        warn(format_args!(
            "{name}: its {RESULT_FILE} does not say which {} it left: whether that is still the same cannot be told",
            left.display()
        ));
        return Ok(());
    };
    ensure!(
        sha256_file(&left)? == sha256,
        "{name}: {} is not what the run left there; put it back, or remove the run's folder to have it run again",
        left.display()
    );
    Ok(())
}

/// Files may also change between one run and the next.
fn all_on_the_same_files(runs: &[(String, TrainConfig)]) -> Result<()> {
    let mut first: Option<(&str, Fingerprint)> = None;
    for (name, config) in runs {
        let Some(recorded) = fingerprint_of(config)? else { continue };
        let files = identity::shared_files_in(&recorded);
        let Some((other, before)) = &first else {
            first = Some((name, files));
            continue;
        };
        if let Some(differences) = files.differences(before) {
            bail!(
                "{name}: it was on other files than {other}: {differences}; they changed while the comparison ran, and its \
                 runs cannot stand side by side: remove the folders of those on the wrong ones, and go on with --resume"
            );
        }
    }
    Ok(())
}

/// What decided what a run computed; `None` where its checkpoint is gone.
fn fingerprint_of(config: &TrainConfig) -> Result<Option<Fingerprint>> {
    let path = config.output.join(CHECKPOINT_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let found = recorded(&path).with_context(|| format!("checkpoint {}", path.display()))?;
    Ok(Some(found))
}
