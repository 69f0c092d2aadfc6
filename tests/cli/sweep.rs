//! `bitfit sweep`: many runs in one process, each the same as `bitfit train` with its settings.
#![cfg(unix)]

use crate::common::*;
use crate::resume::{reaches, signal};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Two variants at two seeds and two rates each, and full fine-tuning.
const GRID: &str = r#"
dev-fraction = 0.25
epochs = 2
batch-size = 8
dropout = 0.1
save-steps = 1

[grid]
lr = [1e-3, 1e-2]
seed = [1, 2]

[[variant]]
name = "qi"
biases = "query,intermediate"
[[variant]]
name = "head"
[[variant]]
name = "full"
lr = 1e-4
"#;

pub fn grid(folder: &Folder, text: &str) -> PathBuf {
    let (model, data) = (fixture("bert"), folder.write("a.tsv", toy_tsv(48, 2)));
    let inputs = format!("model = {:?}\ntrain = {:?}\n", model.display(), data.display());
    folder.write("grid.toml", inputs + text)
}

pub fn sweep(grid: &Path, output: &Path, more: &[&str]) -> Command {
    let mut command = bitfit(["sweep", "--grid"]);
    command.arg(grid).arg("--output").arg(output).args(["--threads", "2", "--device", "cpu"]);
    command.args(more);
    command
}

/// Continues the sweep in a folder.
pub fn resume(output: &Path) -> Command {
    let mut command = bitfit(["sweep", "--resume", "--output"]);
    command.arg(output);
    command
}

/// The rows without anything that depends on the machine's speed.
fn timeless_rows(output: &Path) -> Vec<Value> {
    let mut rows = sweep_rows(output);
    for row in &mut rows {
        for time in ["seconds", "seconds_per_step", "tokens_per_s"] {
            row.as_object_mut().unwrap().remove(time);
        }
    }
    rows
}

/// The names of the runs, as in their rows.
fn runs(output: &Path) -> Vec<String> {
    sweep_rows(output).iter().map(|row| row["run"].as_str().unwrap().to_owned()).collect()
}

/// What a run leaves, a delta or a model.
fn left(run: &Path) -> Vec<u8> {
    let delta = run.join("bias.safetensors");
    fs::read(if delta.exists() { delta } else { run.join("model.safetensors") }).unwrap()
}

/// Asserts that two sweeps of one grid gave the same result, to the last bit.
#[track_caller]
fn same_sweeps(one: &Path, other: &Path) {
    assert_eq!(timeless_rows(one), timeless_rows(other));
    for run in runs(one) {
        let (one, other) = (one.join(&run), other.join(&run));
        assert!(left(&one) == left(&other), "{run}");
        assert_eq!(timeless(&one), timeless(&other), "{run}");
    }
    let answers = |output: &Path| -> Vec<(String, Vec<u8>)> {
        let folder = output.join("answers");
        let of = |name: String| (name.clone(), fs::read(folder.join(name)).unwrap());
        names(&folder).into_iter().map(of).collect()
    };
    assert!(answers(one) == answers(other), "answers row by row");
}

#[test]
fn every_run_is_what_train_makes_of_its_settings() {
    let folder = Folder::new();
    let output = folder.path("sweep");
    Finished::of(&mut sweep(&grid(&folder, GRID), &output, &["--jobs", "2"])).success();
    let names = runs(&output);
    assert_eq!(names.len(), 10);
    assert_eq!((names[0].as_str(), names[8].as_str()), ("qi-lr1e-3-seed1", "full-seed1"));
    for row in sweep_rows(&output) {
        let name = row["run"].as_str().unwrap();
        let (run, alone) = (output.join(name), folder.path(&format!("alone-{name}")));
        let mut train = bitfit(["train", "--quiet", "--config"]);
        train.arg(run.join("settings.toml")).arg("--output").arg(&alone);
        Finished::of(&mut train).success();
        assert!(left(&run) == left(&alone), "{name}");
        assert_eq!(timeless(&run), timeless(&alone), "{name}");
        let (result, of_alone) = (json(&run.join("result.json")), json(&alone.join("result.json")));
        for key in ["end", "steps", "best", "last", "sha256", "trained_parameters", "tokens"] {
            assert_eq!(result[key], of_alone[key], "{name}: {key}");
        }
        // And the row says what the run did.
        assert_eq!(row["outcome"], "done");
        assert_eq!(row["dev"], result["best"]["value"]);
        assert_eq!(row["train_rows"], 36);
        let answers = json(&output.join("answers").join(format!("{name}.json")));
        let each = answers["answers"]["each"].as_array().unwrap();
        let right: f64 = each.iter().map(|right| right.as_f64().unwrap()).sum();
        assert_eq!(each.len(), 12, "{answers}");
        assert!((right / 12.0 - number(&row, "dev")).abs() < 1e-9, "{name}: {answers}");
    }
}

#[test]
fn the_runs_at_each_best_rate_are_measured_on_rows_that_they_were_trained_on() {
    let folder = Folder::new();
    let output = folder.path("sweep");
    Finished::of(&mut sweep(&grid(&folder, GRID), &output, &["--quiet"])).success();
    let rows = sweep_rows(&output);
    for variant in ["qi", "head", "full"] {
        let of = rows.iter().filter(|row| row["variant"] == variant);
        let mut by_rate: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
        of.for_each(|row| by_rate.entry(row["axes"]["lr"].to_string()).or_default().push(row));
        let mean = |rows: &[&Value]| rows.iter().map(|row| number(row, "dev")).sum::<f64>();
        let best = by_rate.values().map(|rows| mean(rows)).fold(0.0, f64::max);
        let measured: Vec<_> = by_rate
            .values()
            .filter(|rows| rows.iter().all(|row| !row["train"].is_null()))
            .collect();
        assert_eq!(measured.len(), 1, "{variant}: {by_rate:?}");
        assert_eq!(mean(measured[0]), best, "{variant}");
        for row in rows.iter().filter(|row| row["variant"] == variant) {
            let shown = measured[0].contains(&row);
            assert_eq!(row["train"].is_number(), shown, "{row}");
            assert!(!shown || (0.0..=1.0).contains(&number(row, "train")), "{row}");
        }
    }
}

#[test]
fn any_number_of_runs_side_by_side_gives_the_same_bytes() {
    let folder = Folder::new();
    let grid = grid(&folder, GRID);
    let outputs = ["1", "2", "3"].map(|jobs| {
        let output = folder.path(jobs);
        Finished::of(&mut sweep(&grid, &output, &["--jobs", jobs])).success();
        output
    });
    same_sweeps(&outputs[0], &outputs[1]);
    same_sweeps(&outputs[0], &outputs[2]);
}

#[test]
fn a_sweep_that_is_killed_again_and_again_comes_to_the_same_end() {
    let folder = Folder::new();
    let grid = grid(&folder, &GRID.replace("epochs = 2", "epochs = 6"));
    let whole = folder.path("whole");
    Finished::of(&mut sweep(&grid, &whole, &["--quiet"])).success();
    let output = folder.path("killed");
    let mut kills = 0;
    for attempt in 0..40 {
        let more: &[&str] = if attempt == 0 { &[] } else { &["--resume"] };
        let mut command = sweep(&grid, &output, more);
        command.args(["--jobs", "2"]).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // A little later each time, so that eventually all of it gets done.
        std::thread::sleep(Duration::from_millis(60 + 67 * attempt));
        if let Some(status) = child.try_wait().unwrap() {
            let said = child.wait_with_output().unwrap();
            assert!(status.success(), "{}", String::from_utf8_lossy(&said.stderr));
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills > 3, "it was killed {kills} times");
    same_sweeps(&whole, &output);
    // A finished sweep reports what it found, and only recomputes what is missing.
    let before = fs::metadata(output.join("qi-lr1e-3-seed1/result.json")).unwrap().modified();
    let answers = output.join("answers/head-lr1e-2-seed2.json");
    let again = || Finished::of(&mut resume(&output));
    again().success();
    fs::write(&answers, "").unwrap();
    again().fails(1, &["head-lr1e-2-seed2.json is damaged: remove it"]);
    fs::remove_file(&answers).unwrap();
    again().success();
    let after = fs::metadata(output.join("qi-lr1e-3-seed1/result.json")).unwrap().modified();
    assert_eq!(before.unwrap(), after.unwrap());
    same_sweeps(&whole, &output);
}

#[test]
fn a_signal_has_all_runs_at_work_saved_and_the_sweep_goes_on() {
    for name in ["TERM", "INT"] {
        let folder = Folder::new();
        let grid = grid(&folder, &GRID.replace("epochs = 2", "epochs = 2000000"));
        let output = folder.path("sweep");
        let mut command = sweep(&grid, &output, &["--jobs", "2", "--quiet"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let at_work = ["qi-lr1e-3-seed1", "qi-lr1e-3-seed2"].map(|run| output.join(run));
        for run in &at_work {
            assert!(reaches(&mut child, run, 2), "{name}");
        }
        signal(&child, name);
        let ended = child.wait_with_output().unwrap();
        assert_eq!(ended.status.code(), Some(1), "{name}");
        let said = String::from_utf8(ended.stderr).unwrap();
        let last = said.lines().last().unwrap();
        assert!(last.contains("stopped on request with 0 of 10 runs done"), "{said}");
        assert!(last.contains("bitfit sweep --resume --output"), "{said}");
        for run in &at_work {
            assert!(run.join("checkpoint.safetensors").exists() && !run.join("run.lock").exists());
        }
        assert!(!output.join("run.lock").exists());
    }
}

#[test]
fn a_run_that_diverges_is_recorded_and_the_others_go_on() {
    let folder = Folder::new();
    let text = "epochs = 4\ndev-fraction = 0.25\nclip-norm = 0\n[grid]\nlr = [1e30, 1e-2]\n";
    let output = folder.path("sweep");
    let run = Finished::of(&mut sweep(&grid(&folder, text), &output, &[])).success();
    let rows = sweep_rows(&output);
    assert_eq!((&rows[0]["outcome"], &rows[1]["outcome"]), (&"diverged".into(), &"done".into()));
    let why = rows[0]["why"].as_str().unwrap();
    assert!(why.contains("not finite") || why.contains("too large to compute with"), "{why}");
    assert!(run.stderr.contains("bitfit-lr1e30: diverged: "), "{}", run.stderr);
    // It is not tried again.
    let log = fs::read(output.join("bitfit-lr1e30.log")).unwrap();
    Finished::of(&mut resume(&output)).success();
    assert_eq!(fs::read(output.join("bitfit-lr1e30.log")).unwrap(), log);

    let all = folder.path("all");
    let text = text.replace("1e-2", "1e29");
    Finished::of(&mut sweep(&grid(&folder, &text), &all, &[]))
        .fails(1, &["all runs diverged; the first: bitfit-lr1e30: "]);
}

#[test]
fn a_run_that_fails_is_named_and_tried_again_when_the_sweep_goes_on() {
    let folder = Folder::new();
    let text = "epochs = 1\ndev-fraction = 0.25\n[grid]\ntrain-rows = [1000, 20]\n";
    let (grid, output) = (grid(&folder, text), folder.path("sweep"));
    let failed =
        ["1 of 2 runs failed", "the first: bitfit-train-rows1000: ", "36 rows to train on"];
    Finished::of(&mut sweep(&grid, &output, &[])).fails(1, &failed);
    assert_eq!(sweep_rows(&output)[1]["train_rows"], 20);
    Finished::of(&mut resume(&output)).fails(1, &failed);
}

#[test]
fn files_that_cannot_be_read_are_refused_before_anything_is_written() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let broken = folder.write("broken.tsv", "a\tb\nno\tlabel\n");
    let gone = folder.path("gone.tsv");
    let top = format!("model = {:?}\nsteps = 1\n", fixture("bert").display());
    let files = |option: &str, files: [&Path; 2]| {
        let [one, other] = files.map(|file| format!("{:?}", file.display()));
        format!("{top}[grid]\n{option} = [{one}, {other}]\n")
    };
    let of_all = format!("{top}train = {:?}\n[grid]\nlr = [1e-3, 1e-2]\n", gone.display());
    let of_dev = format!("train = {:?}\n{}", data.display(), files("dev", [&data, &broken]));
    for (text, says) in
        [(of_all, "gone.tsv"), (files("train", [&data, &gone]), "gone.tsv"), (of_dev, "broken.tsv")]
    {
        let (grid, output) = (folder.write("grid.toml", text), folder.path("sweep"));
        let refused = Finished::of(&mut sweep(&grid, &output, &[]));
        let said = refused.fails(1, &["the run bitfit-", says]);
        assert!(!said.contains("runs failed"), "{said}");
        assert!(!output.exists());
    }
}

#[test]
fn no_link_is_followed() {
    let folder = Folder::new();
    let text = "epochs = 1\n";
    let (path, outside) = (grid(&folder, text), folder.path("outside"));
    fs::create_dir(&outside).unwrap();
    for name in [
        "bitfit",
        "bitfit.log",
        "sweep.jsonl",
        "sweep.toml",
        "answers",
        "pictures",
        "report.html",
        "run.lock",
    ] {
        let output = folder.path("sweep");
        fs::create_dir(&output).unwrap();
        std::os::unix::fs::symlink(&outside, output.join(name)).unwrap();
        let refused = Finished::of(&mut sweep(&path, &output, &["--resume"]));
        refused.fails(1, &[name, "is a link to"]);
        fs::remove_dir_all(&output).unwrap();
    }
    assert!(names(&outside).is_empty());
}

#[test]
fn memory_decides_how_many_runs_are_at_work() {
    let folder = Folder::new();
    let path = grid(&folder, GRID);
    let output = folder.path("sweep");
    // Full fine-tuning takes the most: within what it needs, bias-only runs fit side by side.
    let mut tight = sweep(&path, &output, &["--memory", "100KiB"]);
    let error = Finished::of(&mut tight);
    let said = error.fails(1, &["the run ", "--memory 102,400 bytes is too little"]);
    assert!(!said.contains("runs failed"), "before the first run: {said}");
    assert!(!output.exists());

    let output = folder.path("fits");
    let wide = Finished::of(&mut sweep(&path, &output, &["--memory", "16MiB"])).success();
    assert_eq!(sweep_rows(&output).len(), 10);
    let logs: BTreeSet<String> =
        names(&output).into_iter().filter(|n| n.ends_with(".log")).collect();
    assert_eq!(logs.len(), 10);
    // Notes of runs are in their logs, not on the terminal.
    assert!(!wide.stderr.contains("device: "), "{}", wide.stderr);
    let log = fs::read_to_string(output.join("full-seed1.log")).unwrap();
    assert!(log.contains("memory: ") && log.contains("best accuracy"), "{log}");
}

#[test]
fn mistakes_in_a_grid_are_found_before_anything_runs() {
    let folder = Folder::new();
    let wrong = |text: &str, parts: &[&str]| {
        let output = folder.path("sweep");
        Finished::of(&mut sweep(&grid(&folder, text), &output, &[])).fails(2, parts);
        assert!(!output.exists());
    };
    wrong("[grid]\nlearning-rate = [1e-3]\n", &["grid.toml:4: unknown option `learning-rate`"]);
    wrong("[grid]\nlr = [1e-3, 0]\n", &["grid.toml:4: ", "--lr must be above 0"]);
    wrong("lr = \"quick\"\n", &["grid.toml:3: "]);
    let mut none = bitfit(["sweep", "--output"]);
    Finished::of(none.arg(folder.path("sweep"))).fails(2, &["--grid is missing"]);
}

#[test]
fn a_variant_called_nearly_as_a_method_is_said_to_be_none() {
    let folder = Folder::new();
    let text = "epochs = 1\ndev-fraction = 0.25\n[[variant]]\nname = \"fulll\"\n";
    let run = Finished::of(&mut sweep(&grid(&folder, text), &folder.path("sweep"), &[])).success();
    let said = "fulll: this is not a method's name (did you mean `full`?), so it trains bitfit";
    assert!(run.stderr.contains(said), "{}", run.stderr);
}

#[test]
fn a_run_whose_batches_other_threads_would_cut_otherwise_does_not_go_on() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(48, 2));
    let output = folder.path("run");
    let train = |threads: &str, output: &Path, steps: &str| {
        let mut command = bitfit(["train", "--device", "cpu", "--model"]);
        command.arg(fixture("bert")).arg("--train").arg(&data).arg("--output").arg(output);
        command.args(["--steps", steps, "--batch-size", "16", "--memory", "1500000"]);
        command.args(["--threads", threads]);
        command
    };
    let cut = |threads: &str| {
        let run = Finished::of(&mut train(threads, &folder.path(threads), "1")).success();
        let (_, tokens) = run.stderr.split_once("saving ").unwrap();
        tokens.lines().next().unwrap().to_owned()
    };
    assert_ne!(cut("1"), cut("2"), "the limit shows nothing");
    let mut command = train("1", &output, "2000000");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    assert!(reaches(&mut child, &output, 2));
    signal(&child, "TERM");
    child.wait().unwrap();
    let mut resumed = train("2", &output, "2000000");
    Finished::of(resumed.arg("--resume")).fails(1, &["tokens at a time (--memory, --threads)"]);
}
