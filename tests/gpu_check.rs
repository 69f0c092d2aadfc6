//! scripts/gpu-check on the emulator: the program end to end and the report, as on a machine with a GPU.
#![cfg(unix)]

#[path = "ops/driver.rs"]
mod driver;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts");
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/parity");

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

/// The check with a report in this folder.
fn check(report: &Path) -> Command {
    let mut command = Command::new("python3");
    command.arg(format!("{SCRIPTS}/gpu-check")).arg("run").arg("--report").arg(report);
    command.args(["--fixtures", FIXTURES]);
    command
}

/// Runs the check with these options; returns whether it succeeded, and what it said.
fn gpu_check(report: &TempDir, options: impl FnOnce(&mut Command)) -> (bool, String) {
    let mut command = check(report.path());
    options(&mut command);
    run(&mut command)
}

/// An executable script in place of the program.
fn program(folder: &TempDir, script: &str) -> PathBuf {
    let path = folder.path().join("program");
    std::fs::write(&path, format!("#!/bin/sh\n{script}")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// From a report, as recorded line by line.
fn results(report: &TempDir) -> Vec<serde_json::Value> {
    let lines = std::fs::read_to_string(report.path().join("results.jsonl")).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The report as a table.
fn markdown(report: &TempDir) -> String {
    std::fs::read_to_string(report.path().join("report.md")).unwrap()
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
        // `there`, which finds the capability, is not asked for and yet runs.
        command.args(["--stage", "tiles", "--stage", "hopper"]);
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

/// A rented machine may disappear at any moment, and one that computes nonsense is not worth its minutes.
#[test]
fn a_check_whose_first_steps_fail_ends_there_and_keeps_what_it_has() {
    if !python() {
        return;
    }
    let [folder, report] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let wrong = with_losses(&folder, "cuda:0", "0.6");
    let (succeeded, said) = gpu_check(&report, |command| {
        command.arg("--bitfit").arg(&wrong);
    });
    assert!(!succeeded && said.contains("neither half type trains"), "{said}");
    assert!(!said.contains("throughput"), "{said}");
    let markdown = markdown(&report);
    assert!(markdown.contains("| steps | six steps, bf16 | FAILED |"), "{markdown}");
}

#[test]
fn a_stage_that_hangs_is_cut_off_with_all_that_it_started_and_costs_no_other() {
    if !python() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // The process it starts holds its output open.
    let hangs = program(&folder, "echo begun\nsleep 600 &\nsleep 600\n");
    let report = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let (succeeded, said) = gpu_check(&report, |command| {
        command.args(["--slower", "0.05", "--stage", "there", "--stage", "few-bits", "--bitfit"]);
        command.arg(&hangs);
    });
    // The program itself would take ten minutes.
    assert!(!succeeded && started.elapsed() < Duration::from_secs(300), "{said}");
    let stages: Vec<_> = results(&report)
        .iter()
        .map(|r| {
            assert!(r["output"].as_str().unwrap().contains("the stage's time is up"), "{r}");
            r["stage"].clone()
        })
        .collect();
    assert_eq!(stages, ["there", "few-bits", "few-bits"]);
    let markdown = markdown(&report);
    assert!(markdown.contains("begun"), "what was said before the cut is kept: {markdown}");
}

/// Writes six losses, of which those of one device or type are `last`.
fn with_losses(folder: &TempDir, of: &str, last: &str) -> PathBuf {
    let loss = format!("loss=0.5; case \"$*\" in *\"{of}\"*) loss={last};; esac");
    let line = "echo \"{\\\"step\\\":$i,\\\"loss\\\":$loss}\"";
    let script = format!(
        "[ $1 = train ] || exit 1\nmkdir \"$3\"\n{loss}\nfor i in 1 2 3 4 5 6; do {line}; done \
         >\"$3/metrics.jsonl\"\n"
    );
    program(folder, &script)
}

/// JSON has no NaN: the program writes null.
#[test]
fn a_loss_that_is_not_finite_ends_the_check() {
    if !python() {
        return;
    }
    let [folder, report] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let nan = with_losses(&folder, "f16", "null");
    let (succeeded, said) = gpu_check(&report, |command| {
        command.arg("--bitfit").arg(&nan);
    });
    assert!(!succeeded && said.contains("f16 gave losses that are not finite"), "{said}");
    assert!(said.contains("ok   steps: six steps, cpu"), "{said}");
    let json = std::fs::read_to_string(report.path().join("report.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["left_out"]["throughput"], "the run ended before it");
    assert!(!results(&report).iter().any(|r| r["stage"] == "throughput"), "{said}");
}

#[test]
fn nothing_passes_that_had_nothing_to_be_compared_with() {
    if !python() {
        return;
    }
    let [folder, report] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let fails = program(&folder, "case \"$*\" in *\"--device cpu\"*) exit 1;; esac\nexit 0\n");
    let (succeeded, said) = gpu_check(&report, |command| {
        command.arg("--bitfit").arg(&fails);
    });
    assert!(!succeeded && said.contains("nothing to compare with"), "{said}");
    assert!(!said.contains("ok   steps"), "{said}");
}

#[test]
fn a_signal_ends_the_check_with_all_that_it_started_and_what_it_has_is_kept() {
    if !python() {
        return;
    }
    for signal in ["INT", "TERM"] {
        let [folder, report] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let pid = folder.path().join("pid");
        let hangs = program(
            &folder,
            &format!("echo $$ >{0}.new; mv {0}.new {0}\nsleep 600\n", pid.display()),
        );
        let mut command = check(report.path());
        command.arg("--bitfit").arg(&hangs).args(["--slower", "100"]);
        let running = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        while !pid.exists() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let started = std::fs::read_to_string(&pid).unwrap();
        let told = |of: &str, who: &str| {
            Command::new("kill").args([&format!("-{of}"), who]).output().unwrap().status.success()
        };
        assert!(told(signal, &running.id().to_string()));
        let output = running.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("gpu-check: there: interrupted"), "{said}");
        assert!(!told("0", started.trim()), "{signal}: its program still runs");
        let results = results(&report);
        assert!(results[0]["output"].as_str().unwrap().contains("interrupted"), "{results:?}");
        let markdown = markdown(&report);
        assert!(markdown.contains("Left out: throughput: the run ended before it."), "{markdown}");
    }
}

#[test]
fn the_check_runs_on_when_nobody_reads_what_it_says() {
    if !python() {
        return;
    }
    let report = tempfile::tempdir().unwrap();
    let mut command = check(report.path());
    command.args(["--emulator", "--library", "/bin/false", "--bitfit", "/bin/false"]);
    command.args(["--stage", "few-bits"]).stdout(Stdio::piped());
    let mut running = command.spawn().unwrap();
    drop(running.stdout.take());
    assert_eq!(running.wait().unwrap().code(), Some(1));
    let stages: Vec<_> = results(&report).iter().map(|r| r["stage"].clone()).collect();
    assert_eq!(stages, ["there", "few-bits", "few-bits"]);
}

#[test]
fn no_check_writes_into_the_report_of_another() {
    if !python() {
        return;
    }
    let report = tempfile::tempdir().unwrap();
    let once = |options: &[&str], report: &Path| {
        let output = check(report).args(options).args(["--stage", "there"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.contains("Traceback"), "{said}");
        (output.status.code(), said)
    };
    // What is in the folder is somebody's, whatever its name.
    let work = report.path().join("work");
    std::fs::create_dir(&work).unwrap();
    std::fs::write(work.join("mine"), "mine").unwrap();
    let (code, said) = once(&["--bitfit", "/bin/false"], report.path());
    assert!(code == Some(2) && said.contains("name a new folder"), "{said}");
    let (code, said) = once(&["--bitfit", "/bin/false"], &work.join("mine"));
    assert!(code == Some(2) && said.contains("not a folder"), "{said}");
    assert_eq!(std::fs::read_to_string(work.join("mine")).unwrap(), "mine");
    // By default each has a folder of its own.
    for name in ["gpu-check-report", "gpu-check-report-2"] {
        let mut command = Command::new("python3");
        command.arg(format!("{SCRIPTS}/gpu-check"));
        command.args(["run", "--bitfit", "/bin/false", "--fixtures", FIXTURES, "--stage", "there"]);
        run(command.current_dir(report.path()));
        assert!(report.path().join(name).join("report.md").exists(), "{name}");
        // Models and data made for the run are not part of its report.
        assert!(!report.path().join(name).join("work").exists(), "{name}");
    }
}

/// Each result is written at once, so the first that cannot be is known at once.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_the_check_and_is_said() {
    if !python() {
        return;
    }
    let report = tempfile::tempdir().unwrap();
    // Every write to this file fails as on a full disk.
    let opened = "import builtins, sys; real = builtins.open; builtins.open = lambda file, *more, **named: \
                  real('/dev/full', 'w') if str(file).endswith('results.jsonl') else real(file, *more, **named); \
                  sys.argv = sys.argv[1:]; import runpy; runpy.run_path(sys.argv[0], run_name='__main__')";
    let mut command = Command::new("python3");
    command.args(["-c", opened]).arg(format!("{SCRIPTS}/gpu-check")).arg("run").arg("--report");
    command.arg(report.path()).args(["--fixtures", FIXTURES, "--bitfit", "/bin/false"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("there: cannot write to") && said.contains("No space left"), "{said}");
    assert!(!said.contains("Traceback"), "{said}");
    let markdown = markdown(&report);
    assert!(markdown.contains("| there | doctor | FAILED |"), "{markdown}");
}

/// A pack with half of the stages done must not look like one with all of them.
#[test]
fn stages_that_had_no_time_are_named_and_the_check_has_not_passed() {
    if !python() {
        return;
    }
    let report = tempfile::tempdir().unwrap();
    let output =
        check(report.path()).args(["--bitfit", "/bin/false", "--minutes", "0.01"]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("left throughput: no time was left"), "{said}");
    let markdown = markdown(&report);
    assert!(markdown.contains("Left out: throughput: no time was left."), "{markdown}");
}

#[test]
fn wrong_usage_of_the_check_is_said_before_anything_is_built_or_run() {
    if !python() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let pack = |file: &str, archs: &'static str| {
        let file = folder.path().join(file).display().to_string();
        ["pack".to_owned(), file, "--archs".to_owned(), archs.to_owned()]
    };
    let run = |option: &str, value: &str| {
        let report = folder.path().join("report").display().to_string();
        [
            "run".to_owned(),
            format!("--report={report}"),
            format!("{option}={value}"),
            "--emulator".to_owned(),
        ]
    };
    for (arguments, part) in [
        (pack("it.tar.xz", "abc"), "`abc` is not a compute capability"),
        (pack("it.tar.xz", "9.0"), "`9.0` is not"),
        (pack("it.tar.xz", "off"), "`off` is not"),
        (pack("it.tar.xz", ""), "`` is not"),
        (pack("it.tar.xz", "75"), "80 or later"),
        (pack("it.tar.xz", "90a"), "90 includes the kernels for 90a"),
        (pack("none/it.tar.xz", "90"), "there is no folder"),
        (pack(".", "90"), "this is a folder"),
        (run("--slower", "0"), "0 is not a positive number"),
        (run("--slower", "-1"), "-1 is not a positive number"),
        (run("--minutes", "nan"), "nan is not a positive number"),
        (run("--jobs", "0"), "0 is not at least 1"),
        (run("--bitfit", "/no/such"), "there is no /no/such"),
        (run("--fixtures", "/no/such"), "another with --fixtures"),
        (run("--bitfit", "/etc/passwd"), "/etc/passwd: this is not a program"),
        (run("--slower", "1e308"), "1e308 is not a positive number up to a million"),
        (run("--stage", "none"), "invalid choice: 'none'"),
    ] {
        let mut command = Command::new("python3");
        command.arg(format!("{SCRIPTS}/gpu-check")).args(&arguments);
        if !arguments.iter().any(|given| given.starts_with("--bitfit")) && arguments[0] == "run" {
            command.args(["--bitfit", "/bin/false"]);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(part) && !said.contains("Traceback"), "{arguments:?}: {said}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{arguments:?}");
    }
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
    command.arg(folder.path().join("gpu-check")).args([
        "run",
        "--bitfit",
        "/bin/false",
        "--fixtures",
    ]);
    command
        .arg(FIXTURES)
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap());
    let (succeeded, said) = run(&mut command);
    assert!(!succeeded && said.contains("nothing to compare with"), "{said}");
}
