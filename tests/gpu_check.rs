//! scripts/gpu-check on the emulator: the program end to end and the report, as on a machine with a GPU.
#![cfg(unix)]

#[path = "ops/driver.rs"]
mod driver;

use std::path::Path;
use std::process::Command;

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
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let report = tempfile::tempdir().unwrap();
    let output = Command::new("python3")
        .arg(root.join("scripts/gpu-check"))
        .args(["run", "--emulator", "--slower", "10", "--report"])
        .arg(report.path())
        .args(["--bitfit", env!("CARGO_BIN_EXE_bitfit"), "--library"])
        .arg(driver::folder().join("libcuda.so.1"))
        .arg("--fixtures")
        .arg(root.join("tests/fixtures/parity"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
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
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let report = tempfile::tempdir().unwrap();
    let output = Command::new("python3")
        .arg(root.join("scripts/gpu-check"))
        .args(["run", "--bitfit", "/bin/false", "--report"])
        .arg(report.path())
        .arg("--fixtures")
        .arg(root.join("tests/fixtures/parity"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("neither half type trains"), "{said}");
    assert!(!said.contains("throughput"), "{said}");
    let markdown = std::fs::read_to_string(report.path().join("report.md")).unwrap();
    assert!(markdown.contains("| steps | six steps, bf16 | FAILED |"), "{markdown}");
}
