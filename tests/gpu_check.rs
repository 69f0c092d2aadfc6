//! scripts/gpu-check on the emulator: the program end to end and the report, as on a machine with a GPU.
#![cfg(unix)]

#[path = "ops/driver.rs"]
mod driver;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts");

fn python() -> bool {
    let there = Command::new("python3").arg("--version").output().is_ok();
    if !there {
        eprintln!("skipped: no python3");
    }
    there
}

fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

/// Runs the check with these options; returns whether it succeeded, and what it said.
fn gpu_check(report: &TempDir, options: impl FnOnce(&mut Command)) -> (bool, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("python3");
    command.arg(root.join("scripts/gpu-check")).arg("run").arg("--report").arg(report.path());
    command.arg("--fixtures").arg(root.join("tests/fixtures/parity"));
    options(&mut command);
    run(&mut command)
}

/// From a report, as recorded line by line.
fn results(report: &TempDir) -> Vec<serde_json::Value> {
    let lines = std::fs::read_to_string(report.path().join("results.jsonl")).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_check_for_machines_with_a_gpu_runs_on_the_emulator() {
    if !bitfit::backend::cuda::images::built_in() {
        eprintln!("skipped: built without CUDA kernels; scripts/fetch-cuda gets a compiler");
        return;
    }
    if !python() {
        return;
    }
    let report = tempfile::tempdir().unwrap();
    let library = driver::folder().join("libcuda.so.1");
    let (succeeded, said) = gpu_check(&report, |command| {
        command.args(["--emulator", "--slower", "10", "--bitfit", env!("CARGO_BIN_EXE_bitfit")]);
        command.arg("--library").arg(library);
    });
    assert!(succeeded, "{said}");
    let results = results(&report);
    for stage in ["there", "steps", "throughput", "profile", "tiles", "reviews", "few-bits"] {
        assert!(results.iter().any(|r| r["stage"] == stage), "{stage} did not run: {said}");
    }
    let read = |name: &str| std::fs::read_to_string(report.path().join(name)).unwrap();
    let markdown = read("report.md");
    assert!(markdown.contains("| steps | six steps, bf16, PTX | passed |"), "{markdown}");
    let json: serde_json::Value = serde_json::from_str(&read("report.json")).unwrap();
    assert_eq!(json["results"].as_array().unwrap(), &results);
    let profile = read("profile-tiny-4x32.json");
    assert!(profile.contains("gemm_bias_"), "{profile}");
    // Each product ran in each tile, and nothing is passed off as a time.
    let table = read("tiles.tsv");
    assert!(table.lines().all(|line| line.starts_with('#')), "{table}");
    for kernel in ["gemm_back_slope", "gemm_int8_bias", "gemm_nf4_back_add", "weight_grad"] {
        let line = table.lines().find(|line| line.contains(&format!(": {kernel}\t")));
        let line = line.unwrap_or_else(|| panic!("no {kernel} in\n{table}"));
        let untimed = line.matches("\t-").count();
        // Three are Hopper's.
        assert_eq!(untimed, 3 + usize::from(kernel == "weight_grad"), "{line}");
    }
}

/// On compute capability 9.0: its own products in each of their tiles, the portable ones as well, and its own in each way
/// that can be set.
#[test]
fn a_hopper_has_a_stage_of_its_own() {
    if !bitfit::backend::cuda::images::built_in() || !python() {
        eprintln!("skipped: built without CUDA kernels; scripts/fetch-cuda gets a compiler");
        return;
    }
    let report = tempfile::tempdir().unwrap();
    let library = driver::folder().join("libcuda.so.1");
    let (succeeded, said) = gpu_check(&report, |command| {
        command.args(["--emulator", "--slower", "10", "--bitfit", env!("CARGO_BIN_EXE_bitfit")]);
        command.arg("--library").arg(library).env("CUDA_EMULATOR_CAPABILITY", "9.0");
        command.args(["--stage", "there", "--stage", "tiles", "--stage", "hopper"]);
    });
    assert!(
        succeeded && said.contains("ok   hopper: tiny 4x32 --weights int8, portable"),
        "{said}"
    );
    for told in ["defaults", "stages=3", "maps=plain", "launches=ordered", "defaults again"] {
        assert!(said.contains(&format!("ok   hopper: tiny 4x32, {told} (")), "{told}: {said}");
    }
    let table = std::fs::read_to_string(report.path().join("tiles.tsv")).unwrap();
    for (kernel, tiles) in [("hopper_gemm_back_slope", 3), ("hopper_gemm_nf4_bias", 2)] {
        let line = table.lines().find(|line| line.contains(&format!(": {kernel}\t")));
        let line = line.unwrap_or_else(|| panic!("no {kernel} in\n{table}"));
        assert_eq!(line.matches("\t-").count(), 6 - tiles, "{line}");
    }
}

/// Packing fails if a kernel spills on one of the architectures. The stages run away from the sources.
#[test]
#[ignore = "compiles every kernel for six architectures, which takes long where none is compiled yet"]
fn a_pack_for_all_architectures_is_built_and_its_stages_run_on_the_emulator() {
    assert!(bitfit::backend::cuda::images::built_in(), "scripts/fetch-cuda gets a compiler");
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("python3");
    command.arg(format!("{SCRIPTS}/gpu-check")).arg("pack").arg(folder.path().join("it.tar.xz"));
    command.args(["--archs", "80,86,89,90,100,120", "--emulator", "--debug"]);
    let (succeeded, said) = run(&mut command);
    assert!(succeeded, "{said}");
    let unpacked = run(Command::new("tar").args(["xf", "it.tar.xz"]).current_dir(folder.path()));
    assert!(unpacked.0, "{}", unpacked.1);
    let mut command = Command::new("python3");
    command.args(["gpu-check/gpu-check", "run", "--emulator", "--slower", "10"]);
    let (succeeded, said) = run(command.current_dir(folder.path()));
    assert!(succeeded && said.contains("ok   tests: "), "{said}");
}

/// Twelve minutes are rented, and packing, unpacking and copying take some of them.
#[test]
fn all_stages_together_leave_two_of_twelve_minutes() {
    if !python() {
        return;
    }
    let (succeeded, said) =
        run(Command::new("python3").arg(format!("{SCRIPTS}/gpu-check")).arg("plan"));
    assert!(succeeded, "{said}");
    let seconds = |line: &str| line.split_whitespace().nth(1)?.parse::<u32>().ok();
    let (stages, together): (Vec<&str>, Vec<&str>) =
        said.lines().partition(|line| !line.starts_with("together"));
    assert!(stages.len() >= 11, "{said}");
    // Five more minutes are for just one compute capability.
    let (hopper, stages): (Vec<&str>, Vec<&str>) =
        stages.into_iter().partition(|line| line.starts_with("hopper"));
    assert_eq!(seconds(hopper[0]), Some(5 * 60), "{said}");
    let sum: u32 = stages.iter().map(|line| seconds(line).unwrap()).sum();
    assert_eq!(seconds(together[0]), Some(sum), "{said}");
    assert!(sum <= 10 * 60, "{said}");
}

/// A rented machine may disappear at any moment, and one that computes NaN is not worth its minutes.
#[test]
fn a_check_whose_first_steps_fail_ends_there_and_keeps_what_it_has() {
    if !python() {
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

#[test]
fn a_stage_that_hangs_is_cut_off_with_all_that_it_started_and_costs_no_other() {
    if !python() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let hangs = folder.path().join("hangs");
    // The process it starts holds its output open.
    std::fs::write(&hangs, "#!/bin/sh\necho begun\nsleep 60 &\nsleep 60\n").unwrap();
    std::fs::set_permissions(&hangs, std::fs::Permissions::from_mode(0o755)).unwrap();
    let report = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let (succeeded, said) = gpu_check(&report, |command| {
        command.args(["--slower", "0.05", "--stage", "there", "--stage", "few-bits", "--bitfit"]);
        command.arg(&hangs);
    });
    assert!(!succeeded && started.elapsed() < Duration::from_secs(30), "{said}");
    let stages: Vec<_> = results(&report)
        .iter()
        .map(|r| {
            assert!(r["output"].as_str().unwrap().contains("the stage's time is up"), "{r}");
            r["stage"].clone()
        })
        .collect();
    assert_eq!(stages, ["there", "few-bits", "few-bits"]);
    let markdown = std::fs::read_to_string(report.path().join("report.md")).unwrap();
    assert!(markdown.contains("begun"), "what was said before the cut is kept: {markdown}");
}

/// The scripts in a pack are all they need.
#[test]
fn what_is_packed_runs_away_from_the_sources() {
    if !python() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let pack = "import sys, pathlib; sys.path.insert(0, sys.argv[1]); from gpu_check import pack; \
                pack.scripts_into(pathlib.Path(sys.argv[2]))";
    let (succeeded, said) =
        run(Command::new("python3").args(["-c", pack, SCRIPTS]).arg(folder.path()));
    assert!(succeeded, "{said}");
    let mut command = Command::new("python3");
    command.arg(folder.path().join("gpu-check")).args(["run", "--bitfit", "/bin/false"]);
    command.current_dir(folder.path()).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    let (succeeded, said) = run(&mut command);
    assert!(!succeeded && said.contains("neither half type trains"), "{said}");
}
