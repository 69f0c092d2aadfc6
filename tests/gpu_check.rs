//! scripts/gpu-check on the emulator: the program end to end and the report, as on a machine with a GPU.
#![cfg(unix)]

#[path = "ops/driver.rs"]
mod driver;

use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Runs the check with these options; returns whether it succeeded, and what it said.
fn gpu_check(report: &TempDir, options: impl FnOnce(&mut Command)) -> (bool, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("python3");
    command.arg(root.join("scripts/gpu-check")).arg("run").arg("--report").arg(report.path());
    command.arg("--fixtures").arg(root.join("tests/fixtures/parity"));
    options(&mut command);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

#[test]
fn the_check_for_machines_with_a_gpu_runs_on_the_emulator() {
    if !bitfit::backend::cuda::images::built_in() {
        eprintln!("skipped: built without CUDA kernels; scripts/fetch-cuda gets a compiler");
        return;
    }
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: no python3");
        return;
    }
    let report = tempfile::tempdir().unwrap();
    let library = driver::folder().join("libcuda.so.1");
    let (succeeded, said) = gpu_check(&report, |command| {
        command.args(["--emulator", "--slower", "10", "--bitfit", env!("CARGO_BIN_EXE_bitfit")]);
        command.arg("--library").arg(library);
    });
    assert!(succeeded, "{said}");
    let lines = std::fs::read_to_string(report.path().join("results.jsonl")).unwrap();
    let results: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for stage in ["there", "steps", "throughput", "few-bits"] {
        assert!(results.iter().any(|r| r["stage"] == stage), "{stage} did not run: {said}");
    }
    let markdown = std::fs::read_to_string(report.path().join("report.md")).unwrap();
    assert!(markdown.contains("| steps | six steps, bf16, PTX | passed |"), "{markdown}");
    let json = std::fs::read_to_string(report.path().join("report.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["results"].as_array().unwrap(), &results);
}

/// A rented machine may go at any moment, and one that computes NaN is not worth its minutes.
#[test]
fn a_check_whose_first_steps_fail_ends_there_and_keeps_what_it_has() {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("skipped: no python3");
        return;
    }
    let report = tempfile::tempdir().unwrap();
    let (succeeded, said) = gpu_check(&report, |command| {
        command.args(["--bitfit", "/bin/false"]);
    });
    assert!(!succeeded && said.contains("neither half type trains"), "{said}");
    assert!(!said.contains("throughput"), "{said}");
    let markdown = std::fs::read_to_string(report.path().join("report.md")).unwrap();
    assert!(markdown.contains("| steps | six steps, bf16 | FAILED |"), "{markdown}");
}
