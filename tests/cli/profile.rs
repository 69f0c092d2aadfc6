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
