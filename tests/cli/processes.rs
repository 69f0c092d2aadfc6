//! Several processes and one folder, signals, pipes, and outputs that are inputs.
#![cfg(unix)]

use crate::common::*;
use crate::resume::{reaches, same_end, signal};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// A run that lasts as long as a test needs, with its first step done.
fn long_run(folder: &Folder, output: &Path) -> Child {
    let data = folder.write("long.tsv", toy_tsv(24, 2));
    let options = "--steps 2000000 --save-steps 1000000 --batch-size 4";
    let mut command = bitfit(train_args(&fixture("bert"), &data, output, options));
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    assert!(reaches(&mut child, output, 2));
    child
}

#[test]
fn a_folder_is_one_runs_until_it_ends() {
    let folder = Folder::new();
    let output = folder.path("run");
    let mut child = long_run(&folder, &output);
    let holder = format!("process {}", child.id());
    let data = folder.write("a.tsv", toy_tsv(6, 2));
    let second = Finished::of(&mut bitfit(train_args(&fixture("bert"), &data, &output, "")));
    second.fails(1, &["another run is writing", &holder]);
    let resumed = Finished::of(bitfit(["train", "--resume", "--output"]).arg(&output));
    resumed.fails(1, &["--resume", "another run is writing", &holder]);
    // Killed, it leaves its lock file, which blocks nothing.
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(output.join("run.lock").exists());
    let resumed =
        Finished::of(bitfit(["train", "--resume", "--output"]).arg(&output).args(["--steps", "3"]));
    assert!(!resumed.stderr.contains("another run is writing"), "{}", resumed.stderr);
}

#[test]
fn a_run_that_ends_leaves_no_lock() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(6, 2));
    let output = folder.path("run");
    train(&fixture("bert"), &data, &output, "--steps 1");
    assert!(!output.join("run.lock").exists());
}

#[test]
fn sigterm_and_sighup_save_like_ctrl_c_and_may_come_twice() {
    for name in ["TERM", "HUP", "INT"] {
        let folder = Folder::new();
        let output = folder.path("run");
        let child = long_run(&folder, &output);
        signal(&child, name);
        if name == "TERM" {
            signal(&child, name);
        }
        let left = child.wait_with_output().unwrap();
        let said = String::from_utf8(left.stderr).unwrap();
        assert_eq!(left.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains("everything is saved"), "{name}: {said}");
        assert!(output.join("checkpoint.safetensors").exists(), "{name}");
    }
}

/// Before the first step there is nothing to save: the run ends at once, while reading its texts, and leaves nothing.
#[test]
fn a_signal_before_the_first_step_ends_a_run_cleanly() {
    let folder = Folder::new();
    let data = folder.write("long.tsv", toy_tsv(400_000, 2));
    let start = |output: &Path, more: &[&str]| {
        // Reading all rows would take longer.
        let args = train_args(&fixture("bert"), &data, output, "--steps 1");
        let mut command = limited("ulimit -t 10", &args);
        let command = command.args(more).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lock = output.join("run.lock");
        while !fs::read_to_string(&lock).is_ok_and(|text| text.contains("started")) {
            assert!(child.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(100));
        child
    };
    let ends = |child: Child, name: &str| {
        signal(&child, name);
        let left = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(left.stderr).unwrap();
        let finished = Finished { code: left.status.code(), stdout: String::new(), stderr };
        finished.fails(1, &["stopped on request before the first step"]);
    };
    for name in ["TERM", "HUP", "INT"] {
        ends(start(&folder.path("new/run"), &[]), name);
        assert!(!folder.path("new").exists(), "{name}");
    }
    // Existing content stays as it is.
    let output = folder.path("run");
    fs::create_dir(&output).unwrap();
    fs::write(output.join("settings.toml"), "").unwrap();
    ends(start(&output, &["--resume"]), "TERM");
    assert_eq!(names(&output), ["settings.toml"]);
}

/// What it has written so far becomes no file, and disappears with it.
#[test]
fn predictions_that_are_broken_off_leave_nothing() {
    let folder = Folder::new();
    let (_, run) = trained(&folder);
    for (name, number) in [("TERM", 15), ("INT", 2), ("HUP", 1)] {
        let mut command = bitfit(["predict", "--delta"]);
        command.arg(&run).arg("--output").arg(folder.path("out/answers.tsv"));
        fs::create_dir_all(folder.path("out")).unwrap();
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        // With column names there is something to write.
        input.write_all(b"text\na ship\n").unwrap();
        while names(&folder.path("out")).is_empty() {
            assert!(child.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(1));
        }
        signal(&child, name);
        let status = child.wait().unwrap();
        drop(input);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(number));
        assert_eq!(names(&folder.path("out")), [""; 0], "{name}");
    }
}

#[test]
fn a_folder_is_one_merges_until_it_ends() {
    let folder = Folder::new();
    let (_, run) = trained(&folder);
    let output = folder.path("merged");
    fs::create_dir(&output).unwrap();
    let merge = || {
        let mut command = bitfit(["merge", "--delta"]);
        Finished::of(command.arg(&run).arg("--output").arg(&output))
    };
    let lock = fs::File::create(output.join("run.lock")).unwrap();
    lock.lock().unwrap();
    merge().fails(1, &["--output", "another run is writing"]);
    drop(lock);
    merge().success();
    assert!(!output.join("run.lock").exists());
    merge().fails(1, &["already has a model"]);
    // Several at once: one makes it, and it is complete.
    let output = folder.path("many/merged");
    let start = || {
        let mut command = bitfit(["merge", "--quiet", "--delta"]);
        let command = command.arg(&run).arg("--output").arg(&output);
        command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let all: Vec<Child> = (0..4).map(|_| start()).collect();
    let ended = all.into_iter().map(|child| child.wait_with_output().unwrap());
    let good = ended.filter(|left| left.status.success()).count();
    assert_eq!(good, 1);
    assert!(output.join("config.json").exists() && output.join("model.safetensors").exists());
}

#[test]
fn a_run_that_was_told_to_end_goes_on_to_the_same_bits() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let args = |output: &Path| {
        train_args(&fixture("bert"), &data, output, "--epochs 60 --batch-size 4 --dev-fraction 0.2")
    };
    let [whole, stopped] = ["whole", "stopped"].map(|name| folder.path(name));
    Finished::of(&mut bitfit(args(&whole))).success();
    let mut child = bitfit(args(&stopped))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    if reaches(&mut child, &stopped, 20) {
        signal(&child, "TERM");
    }
    if !child.wait().unwrap().success() {
        Finished::of(bitfit(["train", "--resume", "--output"]).arg(&stopped)).success();
    }
    same_end(&whole, &stopped);
}

#[test]
fn under_nohup_a_closing_terminal_is_outlived() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let output = folder.path("run");
    let args = train_args(&fixture("bert"), &data, &output, "--steps 2000000 --quiet");
    let mut child = std::process::Command::new("sh")
        .args(["-c", "trap '' HUP; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_bitfit")])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(reaches(&mut child, &output, 2));
    signal(&child, "HUP");
    let lines = metrics(&output).len();
    assert!(reaches(&mut child, &output, lines + 20), "it went on");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_comparison_that_is_asked_to_stop_saves_its_run() {
    for name in ["TERM", "INT"] {
        let folder = Folder::new();
        let data = folder.write("a.tsv", toy_tsv(24, 2));
        let output = folder.path("compare");
        let args = train_args(&fixture("bert"), &data, &output, "--steps 2000000 --quiet");
        let mut child = bitfit(["compare"])
            .args(&args[1..])
            .args(["--dev-fraction", "0.25", "--run", "bitfit"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        assert!(reaches(&mut child, &output.join("bitfit"), 2), "{name}");
        signal(&child, name);
        let left = child.wait_with_output().unwrap();
        assert_eq!(left.status.code(), Some(1), "{name}");
        let said = String::from_utf8(left.stderr).unwrap();
        let last = said.lines().last().unwrap();
        assert!(last.contains("stopped on request with 0 of 1 runs done"), "{said}");
        assert!(last.contains("bitfit compare --resume --output"), "{said}");
        assert!(output.join("bitfit/checkpoint.safetensors").exists(), "{name}");
    }
}

fn trained(folder: &Folder) -> (PathBuf, PathBuf) {
    let data = folder.write("t.tsv", toy_tsv(6, 2));
    let run = folder.path("run");
    train(&fixture("bert"), &data, &run, "--steps 1");
    (data, run)
}

#[test]
fn a_line_in_a_pipe_is_answered_before_the_next_is_there() {
    let folder = Folder::new();
    let (_, run) = trained(&folder);
    for (format, rows) in [
        ("tsv", ["text\ngood film\n", "the train\n\"quoted\n"]),
        ("csv", ["text\n\"good, film\"\n", "the train\nharbour\n"]),
        // A blank line is an empty text.
        ("tsv", ["text\n\n", "the train\n\n"]),
        ("jsonl", ["{\"text\": \"a\"}\n", "{\"text\": \"b\"}\n{\"text\": \"c\"}\n"]),
    ] {
        let mut child = bitfit(["predict", "--quiet", "--format", format, "--delta"])
            .arg(&run)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let (send, lines) = std::sync::mpsc::channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        let reading = std::thread::spawn(move || {
            for line in out.lines() {
                send.send(line.unwrap()).unwrap();
            }
        });
        let wait = |what: &str| {
            let line = lines.recv_timeout(HANGS);
            line.unwrap_or_else(|_| panic!("{format}: no answer to {what}"))
        };
        stdin.write_all(rows[0].as_bytes()).unwrap();
        assert!(wait("the header").starts_with("label\t"));
        wait("the first row");
        stdin.write_all(rows[1].as_bytes()).unwrap();
        wait("the second row");
        wait("the third row");
        drop(stdin);
        assert!(child.wait().unwrap().success());
        reading.join().unwrap();
        assert!(lines.recv().is_err(), "{format}: one answer a row");
    }
}

#[test]
fn an_output_that_is_an_input_is_wrong_usage() {
    let folder = Folder::new();
    let (data, run) = trained(&folder);
    let before = fs::read(&data).unwrap();
    let delta = run.join("bias.safetensors");
    let delta_before = fs::read(&delta).unwrap();
    let hard = folder.path("hard.tsv");
    fs::hard_link(&data, &hard).unwrap();
    let soft = folder.path("soft.tsv");
    std::os::unix::fs::symlink(&data, &soft).unwrap();
    let again = folder.path("run/../t.tsv");
    for output in [&data, &hard, &soft, &again, &delta, &run.join("metrics.jsonl")] {
        for (command, option) in [("predict", "--input"), ("eval", "--data")] {
            let mut command = bitfit([command, "--threads", "1", "--delta"]);
            command.arg(&run).arg(option).arg(&data);
            command.arg("--output").arg(output);
            Finished::of(&mut command).fails(2, &["--output", "which the command reads"]);
        }
    }
    // By redirection, on either side.
    let program = env!("CARGO_BIN_EXE_bitfit");
    let paths = [&run, &data].map(|path| path.display().to_string());
    for line in [
        format!("{program} predict --delta {} < {} --output {}", paths[0], paths[1], paths[1]),
        format!("{program} predict --delta {} --input {} >> {}", paths[0], paths[1], paths[1]),
    ] {
        let finished = Finished::of(std::process::Command::new("sh").args(["-c", &line]));
        finished.fails(2, &["which the command reads"]);
    }
    assert_eq!(fs::read(&data).unwrap(), before);
    assert_eq!(fs::read(&delta).unwrap(), delta_before);
    // Files merely next to them may be written, and overwritten.
    for _ in 0..2 {
        let mut command = bitfit(["predict", "--threads", "1", "--delta"]);
        command.arg(&run).arg("--input").arg(&data);
        command.arg("--output").arg(run.join("labelled.tsv"));
        Finished::of(&mut command).success();
    }

    let model = folder.copy_of("bert");
    let args = train_args(&model, &data, &model, "--method full");
    Finished::of(&mut bitfit(args)).fails(2, &["--output", "which the command reads"]);
    let weights = fs::read(model.join("model.safetensors")).unwrap();
    let mut merge = bitfit(["merge", "--delta"]);
    merge.arg(&run).arg("--output").arg(&run);
    Finished::of(&mut merge).fails(2, &["--output", "which the command reads"]);
    let mut merge = bitfit(["merge", "--delta"]);
    merge.arg(&run).arg("--model").arg(&model).arg("--output").arg(&model);
    Finished::of(&mut merge).fails(2, &["--output", "which the command reads"]);
    assert!(fs::read(model.join("model.safetensors")).unwrap() == weights);
    assert!(!model.join("run.lock").exists());
}

#[test]
fn a_rate_that_the_warm_up_never_reaches_is_said() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(6, 2));
    let output = folder.path("run");
    let run = train(&fixture("bert"), &data, &output, "--steps 3 --warmup 100 --quiet");
    let says = "warning: the warm-up takes 100 steps but the run has 3";
    assert!(run.stderr.contains(says), "{}", run.stderr);
}

#[test]
fn deltas_of_one_run_in_two_folders_are_one_file_and_name_no_place() {
    let folder = Folder::new();
    let (mut files, mut moved) = (Vec::new(), Vec::new());
    for place in ["one", "another"] {
        // Everything is elsewhere: model, data and output.
        let here = folder.path(place);
        fs::create_dir(&here).unwrap();
        let model = folder.copy_of("bert");
        fs::rename(&model, here.join("bert")).unwrap();
        fs::write(here.join("a.tsv"), toy_tsv(8, 2)).unwrap();
        fs::write(here.join("dev.tsv"), toy_tsv(4, 2)).unwrap();
        let options = format!("--steps 2 --dev {}", here.join("dev.tsv").display());
        train(&here.join("bert"), &here.join("a.tsv"), &here.join("run"), &options);
        let delta = here.join("run/bias.safetensors");
        files.push(fs::read(&delta).unwrap());
        moved.push(folder.path(&format!("{place}.safetensors")));
        fs::copy(&delta, moved.last().unwrap()).unwrap();
        // The run's folder still knows where its base is.
        let mut eval = bitfit(["eval", "--quiet", "--delta"]);
        eval.arg(here.join("run")).arg("--data").arg(here.join("a.tsv"));
        Finished::of(&mut eval).success();
    }
    assert!(files[0] == files[1], "the files differ");
    let text = String::from_utf8_lossy(&files[0]).into_owned();
    let root = folder.path("");
    assert!(!text.contains(root.to_str().unwrap().trim_end_matches('/')), "{text}");
    assert!(text.contains("./bert") && text.contains("data_sha256") && text.contains("dev.tsv"));
    // The file on its own does not, and looks for nothing on a hub.
    let mut inspect = bitfit(["inspect", "--delta"]);
    inspect.arg(&moved[0]).env("HF_ENDPOINT", "http://127.0.0.1:9");
    let refused = Finished::of(&mut inspect);
    let said =
        refused.fails(1, &["names ./bert as its base model", "no such folder here: give --model"]);
    assert_eq!(said.matches("./bert").count(), 1, "{said}");
    inspect.arg("--model").arg(folder.path("one/bert"));
    Finished::of(&mut inspect).success();
}

#[test]
fn a_delta_whose_base_is_elsewhere_asks_for_the_model() {
    let folder = Folder::new();
    let model = folder.copy_of("bert");
    let data = folder.write("a.tsv", toy_tsv(6, 2));
    let output = folder.path("run");
    train(&model, &data, &output, "--steps 1");
    let moved = folder.path("moved");
    fs::rename(&model, &moved).unwrap();
    for command in [&["predict", "--input"][..], &["eval", "--data"], &["inspect"]] {
        let run = |more: &[&Path]| {
            let mut run = bitfit([command[0], "--delta"]);
            run.arg(&output);
            if let Some(option) = command.get(1) {
                run.arg(option).arg(&data);
            }
            if let [model] = more {
                run.arg("--model").arg(model);
            }
            Finished::of(&mut run)
        };
        // It is a path, so no hub is asked.
        run(&[]).fails(1, &["no such folder here: give --model", "bert"]);
        run(&[&moved]).success();
    }
}
