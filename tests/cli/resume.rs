//! A run that is killed or stopped continues to exactly the same result, and no run continues as another.
#![cfg(unix)]

use crate::common::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Dropout and shuffling on: randomness must be restored, too.
const OPTIONS: &str = "--lr 5e-3 --epochs 12 --batch-size 4 --dropout 0.1 --eval-steps 7 --save-steps 3 --dev-fraction 0.2";

struct Runs {
    folder: Folder,
    data: PathBuf,
}

impl Runs {
    fn new() -> Self {
        let folder = Folder::new();
        let data = folder.write("a.tsv", toy_tsv(60, 3));
        Self { folder, data }
    }

    /// The run's command; the output's name is the same for all, as the delta contains the settings.
    fn command(&self, output: &Path) -> Command {
        let mut command = bitfit(train_args(&fixture("bert"), &self.data, output, OPTIONS));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    fn whole(&self) -> PathBuf {
        let output = self.folder.path("whole");
        train(&fixture("bert"), &self.data, &output, OPTIONS);
        output
    }

    #[track_caller]
    fn resume(&self, output: &Path) -> Finished {
        Finished::of(bitfit(["train", "--resume", "--output"]).arg(output)).success()
    }
}

/// Waits until the run's metrics have this many lines; false if it ended before.
pub fn reaches(child: &mut Child, output: &Path, lines: usize) -> bool {
    let deadline = Instant::now() + HANGS;
    loop {
        let text = fs::read_to_string(output.join("metrics.jsonl")).unwrap_or_default();
        if text.lines().count() >= lines {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(Instant::now() < deadline, "the run does not get to {lines} lines");
        std::thread::sleep(Duration::from_micros(200));
    }
}

pub fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
    assert!(sent.success());
}

/// The same biases to the last bit, and the same log except for speeds.
#[track_caller]
pub fn same_end(a: &Path, b: &Path) {
    let bits = |run: &Path| -> Vec<(String, Vec<u32>)> {
        let tensors = tensors(&run.join("bias.safetensors")).into_iter();
        tensors
            .map(|(name, (_, values))| (name, values.iter().map(|x| x.to_bits()).collect()))
            .collect()
    };
    assert_eq!(timeless(a), timeless(b));
    assert!(bits(a) == bits(b), "the biases differ");
    let best = |run: &Path| json(&run.join("result.json"))["best"].clone();
    assert_eq!(best(a), best(b));
}

#[test]
fn a_run_killed_at_any_moment_resumes_to_the_same_bits() {
    let runs = Runs::new();
    let whole = runs.whole();
    assert_eq!(steps(&whole).len(), 144);
    let mut killed = 0;
    for lines in [0, 1, 3, 8, 20, 61, 120] {
        let output = runs.folder.path(&format!("killed-{lines}"));
        let mut child = runs.command(&output).stderr(Stdio::null()).spawn().unwrap();
        if lines == 0 {
            // Before the first step: nothing but the settings may be there yet.
            while !output.join("settings.toml").exists() && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_micros(200));
            }
        } else if !reaches(&mut child, &output, lines) {
            continue;
        }
        child.kill().unwrap();
        if child.wait().unwrap().success() {
            continue;
        }
        killed += 1;
        // What a kill in the middle of writing a checkpoint leaves.
        fs::write(output.join(".checkpoint.safetensors.a1b2c3.tmp"), "half").unwrap();
        runs.resume(&output);
        same_end(&whole, &output);
        let left = names(&output);
        assert!(left.iter().all(|name| !name.ends_with(".tmp")), "{left:?}");
    }
    assert!(killed >= 4, "only {killed} runs were caught alive");
}

#[test]
fn a_run_killed_again_and_again_still_comes_to_the_same_bits() {
    let runs = Runs::new();
    let whole = runs.whole();
    let output = runs.folder.path("often");
    let mut child = runs.command(&output).stderr(Stdio::null()).spawn().unwrap();
    for lines in [10, 30, 50, 70, 90] {
        if !reaches(&mut child, &output, lines) {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let mut again = bitfit(["train", "--resume", "--output"]);
        again.arg(&output).stdout(Stdio::null()).stderr(Stdio::null());
        child = again.spawn().unwrap();
    }
    assert!(child.wait().unwrap().success());
    same_end(&whole, &output);
}

#[test]
fn ctrl_c_finishes_the_step_saves_and_says_how_to_go_on() {
    let runs = Runs::new();
    let whole = runs.whole();
    let output = runs.folder.path("stopped");
    let stopped = || {
        let mut command = runs.command(&output);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        assert!(reaches(&mut child, &output, 4));
        signal(&child, "INT");
        let done = child.wait_with_output().unwrap();
        Finished {
            code: done.status.code(),
            stdout: String::new(),
            stderr: String::from_utf8(done.stderr).unwrap(),
        }
    };
    let mut run = stopped();
    // On a busy machine the run may be over before the signal is sent.
    for _ in 0..5 {
        if run.code != Some(0) {
            break;
        }
        fs::remove_dir_all(&output).unwrap();
        run = stopped();
    }
    let way_on = format!("bitfit train --resume --output {}", output.display());
    run.fails(1, &["stopped on request after step", &way_on]);
    // Saved exactly at the step where it stopped: nothing is lost.
    let saved: usize = metadata(&output.join("checkpoint.safetensors"))["step"].parse().unwrap();
    assert_eq!(steps(&output).len(), saved);
    runs.resume(&output);
    same_end(&whole, &output);
}

#[test]
fn a_finished_run_may_be_resumed_and_stays_as_it_is() {
    let runs = Runs::new();
    let whole = runs.whole();
    let (log, delta) = (timeless(&whole), tensors(&whole.join("bias.safetensors")));
    let result = json(&whole.join("result.json"));
    runs.resume(&whole);
    assert_eq!(timeless(&whole), log);
    assert_eq!(tensors(&whole.join("bias.safetensors")), delta);
    let again = json(&whole.join("result.json"));
    for key in ["best", "steps", "last", "end", "trained_parameters"] {
        assert_eq!(again[key], result[key], "{key}");
    }
}

#[test]
fn a_resumption_with_something_else_is_refused_by_name() {
    let runs = Runs::new();
    let whole = runs.whole();
    let delta = fs::read(whole.join("bias.safetensors")).unwrap();
    let settings = fs::read(whole.join("settings.toml")).unwrap();
    let resume = |more: &[&str]| {
        let mut command = bitfit(["train", "--resume", "--output"]);
        Finished::of(command.arg(&whole).args(more))
    };
    resume(&["--lr", "1e-4"]).fails(1, &["checkpoint.safetensors", "lr was 0.005 and is 0.0001"]);
    resume(&["--biases", "query"]).fails(1, &["biases was \"all\" and is \"query\""]);
    resume(&["--seed", "1"]).fails(1, &["seed was 42 and is 1"]);
    let other = runs.folder.write("other.tsv", toy_tsv(63, 3));
    resume(&["--train", other.to_str().unwrap()]).fails(1, &["training data"]);
    let model = runs.folder.copy_of("bert");
    edit_tensors(&model.join("model.safetensors"), |tensors, _| {
        tensors.get_mut("bert.pooler.dense.bias").unwrap().bytes[0] ^= 1;
    });
    resume(&["--model", model.to_str().unwrap()]).fails(1, &["base weights"]);
    assert_eq!(fs::read(whole.join("bias.safetensors")).unwrap(), delta);
    assert_eq!(fs::read(whole.join("settings.toml")).unwrap(), settings);
    // Settings that do not affect the result may change.
    resume(&["--threads", "2"]).success();
}

#[test]
fn rows_from_a_pipe_are_told_apart_by_what_they_hold() {
    let runs = Runs::new();
    let whole = runs.whole();
    let piped = |rows: String| {
        let mut command = bitfit(["train", "--resume", "--format", "tsv", "--output"]);
        command.arg(&whole).args(["--train", "/dev/stdin"]);
        Finished::fed(&mut command, rows)
    };
    piped(toy_tsv(63, 3)).fails(1, &["training data"]);
    piped(fs::read_to_string(&runs.data).unwrap()).success();
}

#[test]
fn a_folder_of_another_run_is_refused_and_left_alone() {
    let runs = Runs::new();
    let whole = runs.whole();
    let before = names(&whole);
    let delta = fs::read(whole.join("bias.safetensors")).unwrap();
    let run = Finished::of(&mut runs.command(&whole));
    run.fails(1, &["--output", "has another run", "--resume"]);
    assert_eq!(names(&whole), before);
    assert_eq!(fs::read(whole.join("bias.safetensors")).unwrap(), delta);
}

#[test]
fn a_log_that_was_cut_lost_or_damaged_is_said_when_the_run_goes_on() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let output = folder.path("run");
    let options = "--epochs 2 --batch-size 8 --dev-fraction 0.25 --quiet";
    train(&fixture("bert"), &data, &output, options);
    let log = output.join("metrics.jsonl");
    let whole = fs::read(&log).unwrap();
    let resume = |left: Option<&[u8]>| {
        match left {
            Some(bytes) => fs::write(&log, bytes).unwrap(),
            None => fs::remove_file(&log).unwrap(),
        }
        // A finished run: whatever is lost, its result is not.
        Finished::of(bitfit(["train", "--resume", "--output"]).arg(&output)).success().stderr
    };
    let said = resume(Some(&whole));
    assert!(!said.contains("metrics.jsonl"), "{said}");
    let mut damaged = whole.clone();
    damaged[3] = 0xff;
    for (left, says) in [
        (None, "it is missing"),
        (Some(&whole[..whole.len() - 30]), "it was truncated: 7 whole lines are left"),
        (Some(&[][..]), "it was truncated: 0 whole lines are left"),
        (Some(&damaged), "line 1 is damaged"),
    ] {
        let said = resume(left);
        let warns = said.lines().any(|line| {
            line.starts_with("warning: ") && line.contains("metrics.jsonl") && line.contains(says)
        });
        assert!(warns, "{says}: {said}");
        fs::write(&log, &whole).unwrap();
    }
}

#[test]
fn there_must_be_a_run_to_resume() {
    let runs = Runs::new();
    let output = runs.folder.path("none");
    let args = train_args(&fixture("bert"), &runs.data, &output, "--resume");
    Finished::of(&mut bitfit(args)).fails(1, &["--resume", "has no run"]);
    assert!(!output.exists());
}

#[test]
fn a_run_is_saved_by_time_within_an_epoch_and_not_where_that_is_off() {
    let folder = Folder::new();
    let data = folder.write("long.tsv", toy_tsv(6000, 2));
    for (minutes, saved) in [("0.00001", true), ("0", false)] {
        let output = folder.path(&format!("every-{minutes}"));
        let options = format!("--epochs 1 --batch-size 1 --save-minutes {minutes}");
        let args = train_args(&fixture("bert"), &data, &output, &options);
        let mut child = bitfit(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        assert!(reaches(&mut child, &output, 20), "the run ended");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(output.join("checkpoint.safetensors").exists(), saved, "{minutes}");
    }
}

#[test]
fn a_run_whose_checkpoint_is_empty_or_gone_does_not_begin_anew_over_what_it_had_saved() {
    let runs = Runs::new();
    let output = runs.whole();
    let checkpoint = output.join("checkpoint.safetensors");
    let log = fs::read(output.join("metrics.jsonl")).unwrap();
    let resume = || Finished::of(bitfit(["train", "--resume", "--output"]).arg(&output));
    fs::write(&checkpoint, "").unwrap();
    resume().fails(1, &["checkpoint.safetensors: the file is empty"]);
    fs::remove_file(&checkpoint).unwrap();
    resume().fails(1, &["checkpoint.safetensors: missing", "bias.safetensors"]);
    assert_eq!(fs::read(output.join("metrics.jsonl")).unwrap(), log);
}

#[test]
fn a_run_is_held_to_the_content_of_its_class_weights() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(16, 2));
    let weights = folder.write("w.json", r#"{"sea": 1, "land": 5}"#);
    let output = folder.path("run");
    let options = format!("--steps 2 --class-weights {}", weights.display());
    train(&fixture("bert"), &data, &output, &options);
    let again = || Finished::of(bitfit(["train", "--resume", "--output"]).arg(&output));
    again().success();
    fs::write(&weights, r#"{"sea": 5, "land": 1}"#).unwrap();
    again()
        .fails(1, &["the run to resume has other settings or files", "file of class weights was "]);
}
