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
        .args(["run", "--emulator", "--report"])
        .arg(report.path())
        .args(["--bitfit", env!("CARGO_BIN_EXE_bitfit"), "--library"])
        .arg(driver::folder().join("libcuda.so.1"))
        .arg("--fixtures")
        .arg(root.join("tests/fixtures/parity"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let json = std::fs::read_to_string(report.path().join("gpu-check.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let ran: Vec<&str> =
        json["results"].as_array().unwrap().iter().map(|r| r["part"].as_str().unwrap()).collect();
    for part in ["doctor", "training", "throughput"] {
        assert!(ran.contains(&part), "{part} did not run: {said}");
    }
    let markdown = std::fs::read_to_string(report.path().join("gpu-check.md")).unwrap();
    assert!(markdown.contains("| throughput | tiny bf16 | passed |"), "{markdown}");
}
