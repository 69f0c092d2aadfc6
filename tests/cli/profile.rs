//! `profile`: every operation of a step with its time, and on the emulator with its launches.

use crate::common::*;
use std::process::Command;

fn profile(more: &[&str]) -> Command {
    let model = fixture("bert");
    let mut command = bitfit(["profile", "--batch-size", "3", "--max-length", "8"]);
    command.arg("--model").arg(model).args(more);
    command
}

#[test]
fn every_operation_of_a_step_is_timed_for_each_task_and_method() {
    let folder = Folder::new();
    let file = folder.path("profile.json");
    let json_file = file.to_str().unwrap();
    for (more, operation) in [
        (&["--task", "regression", "--outputs", "3"][..], "Loss"),
        (&["--task", "multi-label", "--pooling", "mean"], "PoolBack"),
        (&["--task", "token-classification"], "Dense"),
        (&["--task", "question-answering"], "Loss"),
        (&["--method", "ia3"], "ScaleBack"),
        (&["--method", "lora", "--lora-rank", "2"], "AddColumns"),
        (&["--method", "full"], "WeightGrad"),
        (&["--weights", "nf4", "--precision", "f32", "--saving", "recompute"], "Linear"),
    ] {
        let run = &["--device", "cpu", "--threads", "2", "--repeat", "2", "--json", json_file];
        let text = Finished::of(&mut profile(&[run, more].concat())).success().stdout;
        assert!(text.contains(operation) && text.contains("tokens/s"), "{more:?}: {text}");
        let profile = json(&file);
        let rows = profile["operations"].as_array().unwrap();
        let together: f64 = rows.iter().map(|row| number(row, "seconds_per_step")).sum();
        assert!(together > 0.0 && number(&profile, "seconds_per_step") > 0.0, "{profile}");
        // As many as `plan` lists.
        let listed: f64 = rows.iter().map(|row| number(row, "times")).sum();
        let mut plan = bitfit(["plan", "--list", "--device", "cpu", "--batch-size", "3"]);
        plan.args(["--max-length", "8", "--model"]).arg(fixture("bert"));
        let plan = Finished::of(plan.args(more)).success().stdout;
        let line = plan.lines().find(|line| line.starts_with("together")).unwrap();
        let count: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        assert_eq!(listed, count, "{plan}");
    }
}

#[test]
fn a_batch_of_hidden_words_is_timed() {
    let mut command = bitfit(["profile", "--task", "masked-lm", "--batch-size", "3"]);
    command.args(["--max-length", "8", "--device", "cpu", "--threads", "1", "--repeat", "1"]);
    let text = Finished::of(command.arg("--model").arg(fixture("bert-mlm"))).success().stdout;
    assert!(text.contains("ActNormBack"), "{text}");
}

#[test]
fn a_picture_has_the_operations_below_the_roofs() {
    let folder = Folder::new();
    for name in ["roofs.svg", "roofs.png"] {
        let path = folder.path(name);
        let options = ["--device", "cpu", "--threads", "1", "--repeat", "1", "--picture"];
        Finished::of(profile(&options).arg(&path)).success();
        let bytes = std::fs::read(&path).unwrap();
        let begins: &[u8] = if name.ends_with("png") { b"\x89PNG" } else { b"<svg" };
        assert!(bytes.starts_with(begins), "{name}");
    }
    for option in ["--picture", "--json"] {
        let path = folder.path("nowhere/roofs.svg");
        let mut command = profile(&[option, path.to_str().unwrap()]);
        let refused = Finished::of(&mut command);
        refused.fails(1, &[option, "there is no folder", "nowhere"]);
        assert_eq!(refused.stdout, "", "nothing was measured");
    }
    for option in ["--json", "--picture"] {
        let path = folder.path("folder.svg");
        let _ = std::fs::create_dir(&path);
        let refused = Finished::of(&mut profile(&[option, path.to_str().unwrap()]));
        refused.fails(1, &[option, "folder.svg", "it is a folder"]);
        assert_eq!(refused.stdout, "", "nothing was measured");
    }
    Finished::of(profile(&["--picture", "roofs.gif"]).env("NO_COLOR", "1"))
        .fails(2, &["roofs.gif", ".svg or .png"]);
}

#[test]
fn what_cannot_be_timed_is_wrong_usage() {
    for (more, said) in [
        (&["--lora-rank", "4"][..], "--lora-rank is only for --method lora"),
        (&["--repeat", "0"], "--repeat"),
        (&["--task", "masked-lm", "--method", "full"], "--method full is not for --task masked-lm"),
        (&["--method", "lora", "--precision", "bf16", "--device", "cpu"], "--precision bf16"),
        (&["--tiles", "tiles.tsv", "--device", "cpu"], "a CPU has no choice of tiles"),
    ] {
        Finished::of(&mut profile(more)).fails(2, &[said]);
    }
}

#[cfg(unix)]
#[test]
fn files_are_written_where_the_user_says_and_a_device_or_a_link_stays_one() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let folder = Folder::new();
    let (target, link, pipe) = (folder.write("old", "old"), folder.path("link"), folder.path("p"));
    symlink(&target, &link).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let timed = ["--device", "cpu", "--threads", "1", "--repeat", "1", "--json"];
    Finished::of(profile(&timed).arg(&link)).success();
    assert!(link.is_symlink() && number(&json(&target), "seconds_per_step") > 0.0);

    let read = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::read_to_string(pipe).unwrap()
    });
    Finished::of(profile(&timed).arg(&pipe)).success();
    assert!(read.join().unwrap().contains("\"operations\""));
    assert!(std::fs::metadata(&pipe).unwrap().file_type().is_fifo());
    // The table and the JSON.
    let both = Finished::of(profile(&timed).arg("/dev/stdout")).success().stdout;
    assert!(both.contains("\"operations\"") && both.contains("tokens/s"), "{both}");
}

#[cfg(target_os = "linux")]
#[test]
fn what_can_be_written_is_written_although_another_file_fails() {
    let folder = Folder::new();
    let picture = folder.path("roofs.svg");
    let run = ["--device", "cpu", "--threads", "1", "--repeat", "1", "--json", "/dev/full"];
    let failed = Finished::of(profile(&run).arg("--picture").arg(&picture));
    failed.fails(1, &["/dev/full", "No space left"]);
    assert!(failed.stdout.contains("tokens/s"), "{}", failed.stdout);
    assert!(std::fs::read(&picture).unwrap().starts_with(b"<svg"));
}

#[test]
fn files_that_cannot_all_be_written_are_wrong_usage() {
    let folder = Folder::new();
    let name = folder.path("same.svg").to_str().unwrap().to_owned();
    let other = folder.path(".").join("same.svg").to_str().unwrap().to_owned();
    for made in [false, true] {
        if made {
            folder.write("same.svg", "old");
        }
        let refused = Finished::of(&mut profile(&["--json", &name, "--picture", &other]));
        refused.fails(2, &["--json and --picture both name", "same.svg"]);
        assert_eq!(refused.stdout, "", "nothing was measured");
    }
    Finished::of(&mut profile(&["--json", "-"])).fails(2, &["--json -", "name a file"]);
    let config = fixture("bert").join("config.json");
    Finished::of(&mut profile(&["--json", config.to_str().unwrap()]))
        .fails(2, &["--json", "config.json", "which the command reads"]);
}

/// What is written last would replace what was written before.
#[cfg(unix)]
#[test]
fn a_link_and_the_file_that_it_will_make_are_one_output() {
    let folder = Folder::new();
    std::os::unix::fs::symlink("new.svg", folder.path("link")).unwrap();
    std::os::unix::fs::symlink("link", folder.path("link.svg")).unwrap();
    let (link, new) = (folder.path("link.svg"), folder.path("new.svg"));
    let refused = Finished::of(profile(&["--json"]).arg(&new).arg("--picture").arg(&link));
    refused.fails(2, &["--json and --picture both name", "link.svg"]);
    assert!(!new.exists() && refused.stdout.is_empty());
}

#[test]
fn sizes_that_no_machine_addresses_are_refused_by_part_before_anything_runs() {
    for more in [
        &["--batch-size", "18446744073709551615"][..],
        &["--batch-size", "9000000000000000000", "--max-length", "64"],
        &["--batch-size", "18446744073709551615", "--batch-tokens", "18446744073709551615"],
        &["--batch-size", "18446744073709551615", "--task", "token-classification"],
    ] {
        let mut command = bitfit(["profile", "--device", "cpu", "--threads", "1", "--repeat", "1"]);
        let refused = Finished::of(command.arg("--model").arg(fixture("bert")).args(more));
        refused.fails(1, &["the tensor `", "any machine can address"]);
        assert_eq!(refused.stdout, "", "{more:?}");
    }
    let mut command =
        bitfit(["profile", "--device", "cpu", "--max-length", "18446744073709551615"]);
    Finished::of(command.arg("--model").arg(fixture("bert"))).fails(2, &["--max-length", "64"]);
}

/// Each operation at most reaches the roofs that were measured, but for what a cache holds; a row counted for one that is
/// not moved would be far above.
#[test]
fn first_tokens_are_counted_as_a_row_per_sequence() {
    let mut plan = bitfit(["plan", "--list", "--device", "cpu", "--precision", "f32"]);
    plan.args(["--batch-size", "4", "--max-length", "16", "--model"]).arg(fixture("bert"));
    let text = Finished::of(&mut plan).success().stdout;
    // The last table is by kind of operation: times, GFLOP and bytes.
    let bytes = |name: &str| {
        let line = text.lines().rfind(|line| line.split_whitespace().next() == Some(name)).unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    };
    // 4 rows of 64 f32, read and written; then read twice and written once.
    assert_eq!((bytes("First"), bytes("AddFirst")), ("2,048".into(), "3,072".into()), "{text}");
}
