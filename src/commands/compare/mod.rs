//! `bitfit compare`: several ways of training on the same data, each in a process of its own, side by side.
//!
//! A process of its own for each run: the peak of its memory is then its own, and nothing that one run leaves behind
//! helps or harms the next.

mod picture;
mod report;

use super::{outputs, say, show, stop};
use crate::cli::CompareCommand;
use crate::files::write_bytes_atomic;
use crate::settings::train::TrainConfig;
use crate::train::lock::{FolderLock, LOCK_FILE};
use crate::train::output::{RESULT_FILE, SETTINGS_FILE};
use anyhow::{Context, Result, bail, ensure};
use report::{Report, RunRow};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// The files that a comparison writes beside the folders of its runs.
const REPORT: &str = "compare";

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
    // A signal is for the run that is on: it saves and ends, and so does the comparison.
    let (stop, child) = stop::of_a_parent()?;
    let mut rows = Vec::new();
    for (name, config) in &command.runs {
        ensure!(
            !stop.load(Ordering::Relaxed),
            "stopped before the run {name}, as asked; go on with --resume"
        );
        train(name, config, command, &child)?;
        rows.push(RunRow::read(name, config)?);
    }
    let metric = command.runs.first().map(|(_, config)| report::measured(config)).transpose()?;
    let report = Report::new(rows, metric);
    let file = |extension: &str| output.join(REPORT).with_extension(extension);
    write_bytes_atomic(&file("json"), report.json()?.as_bytes())?;
    write_bytes_atomic(&file("md"), report.markdown().as_bytes())?;
    let picture = picture::Picture::of(&report);
    write_bytes_atomic(&file("svg"), picture.svg()?.as_bytes())?;
    write_bytes_atomic(&file("png"), &picture.png()?)?;
    show(report.table())?;
    show(format_args!("written: {}, and as .md, .svg and .png\n", file("json").display()))
}

/// Trains one run in a process of its own, unless it is done.
fn train(name: &str, config: &TrainConfig, command: &CompareCommand, id: &AtomicU32) -> Result<()> {
    if command.resume && config.output.join(RESULT_FILE).exists() {
        same_settings(name, config)?;
        say(command.quiet, format_args!("{name}: is done"));
        return Ok(());
    }
    say(command.quiet, format_args!("{name}:"));
    // The settings as a file: the run can be repeated by hand with it.
    let settings = command.output.join(format!("{name}.toml"));
    write_bytes_atomic(&settings, config.to_toml()?.as_bytes())?;
    let program = std::env::current_exe().context("this program's own file is not known")?;
    let mut child = Command::new(program);
    child.arg("train").arg("--config").arg(&settings);
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
    id.store(child.id(), Ordering::Relaxed);
    let status = child.wait();
    id.store(0, Ordering::Relaxed);
    let status = status.context("cannot wait for the run")?;
    if !status.success() {
        bail!(
            "the run {name} ended with {status}; what it said stands above; go on with --resume, or repeat the run \
             with `bitfit train --config {}`",
            settings.display()
        );
    }
    Ok(())
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

/// A run that is not repeated must be the one that is asked for.
fn same_settings(name: &str, config: &TrainConfig) -> Result<()> {
    let path: &Path = &config.output.join(SETTINGS_FILE);
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let done = TrainConfig::from_toml(&text).with_context(|| path.display().to_string())?;
    ensure!(
        done == *config,
        "{name}: the run in {} has other settings than this one; remove its folder or name a new --output",
        config.output.display()
    );
    Ok(())
}
