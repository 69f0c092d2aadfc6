//! Where help, tables and notes go: colours only on a terminal, and an error if nothing can be written.
#![cfg(target_os = "linux")]

use crate::common::*;
use std::fs::OpenOptions;
use std::process::{Command, Stdio};

const HELP: [&[&str]; 4] =
    [&["--help"], &["help", "train"], &["compare", "--help"], &["--version"]];

#[test]
fn help_that_cannot_be_written_is_a_failure() {
    for args in HELP {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = bitfit(args).stdout(full).stderr(Stdio::piped()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.starts_with("error: cannot write to standard output: No space"), "{said}");
    }
    // A reader that stops early has read enough.
    let head = "\"$0\" help train | head -n 1 > /dev/null; echo ${PIPESTATUS[0]}";
    let run = Finished::of(Command::new("bash").args(["-c", head, env!("CARGO_BIN_EXE_bitfit")]));
    assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("0\n", ""));
}

/// What a command prints on a terminal, or nothing if no program can emulate one.
fn on_a_terminal(args: &str, environment: &str) -> Option<String> {
    let command =
        format!("env -u NO_COLOR {environment} TERM=xterm {} {args}", env!("CARGO_BIN_EXE_bitfit"));
    let mut script = Command::new("script");
    let output = script.args(["-qec", &command, "/dev/null"]).stdin(Stdio::null()).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn colours_are_for_a_terminal_that_wants_them() {
    for args in HELP.into_iter().chain([&["doctor"][..], &["--bad"], &["train", "--lr", "x"]]) {
        let run = Finished::of(bitfit(args).env_remove("NO_COLOR"));
        assert!(!(run.stdout + &run.stderr).contains('\u{1b}'), "{args:?} in a pipe");
        if let Some(seen) = on_a_terminal(&args.join(" "), "NO_COLOR=1") {
            assert!(!seen.contains('\u{1b}'), "{args:?} with NO_COLOR: {seen:?}");
        }
    }
    if let Some(seen) = on_a_terminal("--help", "") {
        assert!(seen.contains('\u{1b}'), "{seen:?}");
    }
}
