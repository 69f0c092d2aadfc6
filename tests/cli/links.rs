//! Links and folders in place of what the program writes into an output folder: links are not followed, their targets
//! stay untouched, and a folder is found before there is anything to write.
#![cfg(unix)]

use crate::common::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

const OF_A_RUN: [&str; 6] = [
    "run.lock",
    "settings.toml",
    "bias.safetensors",
    "metrics.jsonl",
    "checkpoint.safetensors",
    "result.json",
];

/// A folder in which `name` leads out of it, to a file or to nothing.
fn leads_out(folder: &Folder, output: &str, name: &str, to: &Path) {
    let output = folder.path(output);
    fs::create_dir_all(&output).unwrap();
    let _ = fs::remove_file(output.join(name));
    symlink(to, output.join(name)).unwrap();
}

#[test]
fn a_run_follows_no_link_in_its_folder() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let outside = folder.write("outside", "kept");
    let dangling = folder.path("dangling");
    for name in OF_A_RUN {
        for to in [&outside, &dangling] {
            leads_out(&folder, "new", name, to);
            let run = train_args(&fixture("bert"), &data, &folder.path("new"), "--steps 1");
            let run = Finished::of(&mut bitfit(run));
            run.fails(1, &["--output", name, "is a link to", "remove the link"]);
            fs::remove_dir_all(folder.path("new")).unwrap();
        }
    }
    // The same for a run that continues.
    let stopped = folder.path("stopped");
    train(&fixture("bert"), &data, &stopped, "--steps 2 --save-steps 1");
    for name in OF_A_RUN {
        let held = fs::read(stopped.join(name)).ok();
        leads_out(&folder, "stopped", name, &outside);
        let run = Finished::of(bitfit(["train", "--resume", "--output"]).arg(&stopped));
        let code = if name == "settings.toml" { 2 } else { 1 };
        run.fails(code, &[name]);
        fs::remove_file(stopped.join(name)).unwrap();
        if let Some(held) = held {
            fs::write(stopped.join(name), held).unwrap();
        }
    }
    fs::hard_link(&outside, stopped.join("run.lock")).unwrap();
    let run = Finished::of(bitfit(["train", "--resume", "--output"]).arg(&stopped));
    run.fails(1, &["run.lock", "has a second name elsewhere"]);
    assert_eq!(fs::read_to_string(&outside).unwrap(), "kept");
    assert!(!dangling.exists());
}

#[test]
fn merge_and_compare_follow_no_link_either() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let outside = folder.write("outside", "kept");
    let out = folder.path("out");
    fs::create_dir(&out).unwrap();
    let dangling = folder.path("dangling");
    let run = folder.path("run");
    train(&fixture("bert-mean"), &data, &run, "--steps 1 --pooling mean");
    let merge = |to: &str| {
        Finished::of(bitfit(["merge", "--delta"]).arg(&run).arg("--output").arg(folder.path(to)))
    };
    for (name, to) in [
        ("run.lock", &outside),
        ("config.json", &dangling),
        ("model.safetensors", &outside),
        ("head.safetensors", &outside),
        ("1_Pooling", &out),
    ] {
        leads_out(&folder, "merged", name, to);
        merge("merged").fails(1, &[name]);
        assert_eq!(names(&folder.path("merged")), [name], "nothing of a model stays");
        fs::remove_dir_all(folder.path("merged")).unwrap();
    }
    leads_out(&folder, "merged", "tokenizer.json", &outside);
    merge("merged").fails(1, &["the folder has tokenizer.json"]);
    assert!(folder.path("merged").join("tokenizer.json").is_symlink());
    // From a killed merge.
    fs::write(folder.path("merged").join("run.lock"), "").unwrap();
    merge("merged").success();
    assert!(!folder.path("merged").join("tokenizer.json").is_symlink());

    let compare = |more: &[&str]| {
        let args =
            train_args(&fixture("bert"), &data, &folder.path("compare"), "--steps 1 --quiet");
        let mut command = bitfit(["compare"]);
        Finished::of(command.args(&args[1..]).args(["--run", "head"]).args(more))
    };
    for (name, to) in [
        ("run.lock", &outside),
        ("head.log", &outside),
        ("sweep.toml", &outside),
        ("sweep.md", &outside),
        ("head", &out),
    ] {
        leads_out(&folder, "compare", name, to);
        compare(&["--resume"]).fails(1, &[name, "is a link to"]);
        fs::remove_dir_all(folder.path("compare")).unwrap();
    }
    assert_eq!(fs::read_to_string(&outside).unwrap(), "kept");
    assert!(names(&out).is_empty() && !dangling.exists());
}

#[test]
fn a_link_that_the_user_names_is_followed() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let run = folder.path("run");
    train(&fixture("bert"), &data, &run, "--steps 1");
    let outside = folder.write("outside", "old");
    for (command, input) in [("predict", "--input"), ("eval", "--data")] {
        symlink(&outside, folder.path(command)).unwrap();
        let mut command_line = bitfit([command, "--delta"]);
        command_line.arg(&run).arg(input).arg(&data).arg("--output").arg(folder.path(command));
        Finished::of(&mut command_line).success();
        assert!(folder.path(command).is_symlink());
        assert_ne!(fs::read_to_string(&outside).unwrap(), "old");
        fs::write(&outside, "old").unwrap();
    }
}

/// Otherwise, an obstacle to what is written last would only be found then.
#[test]
fn a_folder_in_the_place_of_a_file_is_found_before_the_work() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let run = folder.path("run");
    train(&fixture("bert"), &data, &run, "--steps 1");
    fs::remove_file(run.join("result.json")).unwrap();
    fs::create_dir(run.join("result.json")).unwrap();
    Finished::of(bitfit(["train", "--resume", "--steps", "2", "--output"]).arg(&run))
        .fails(1, &["--resume", "result.json is a folder", "move it away"]);
    assert_eq!(steps(&run).len(), 1);

    let new = folder.path("new");
    fs::create_dir_all(new.join("bias.safetensors")).unwrap();
    Finished::of(&mut bitfit(train_args(&fixture("bert"), &data, &new, "--steps 1")))
        .fails(1, &["--output", "bias.safetensors is a folder"]);
    assert_eq!(names(&new), ["bias.safetensors"]);

    let nowhere = folder.path("no/such/folder/x");
    for (to, said) in [(&new, "it is a folder; name a file"), (&nowhere, "there is no folder")] {
        for (command, input) in [("eval", "--data"), ("predict", "--input")] {
            let mut command = bitfit([command, "--delta"]);
            command.arg(&run).arg(input).arg(&data).arg("--output").arg(to);
            let done = Finished::of(&mut command);
            done.fails(1, &["cannot write", to.to_str().unwrap(), said]);
            assert_eq!(done.stdout, "", "nothing was evaluated");
        }
    }

    let compared = folder.path("compared");
    fs::create_dir_all(compared.join("sweep.md")).unwrap();
    let args = train_args(&fixture("bert"), &data, &compared, "--steps 1 --quiet --resume");
    Finished::of(bitfit(["compare", "--run", "head"]).args(&args[1..]))
        .fails(1, &["sweep.md is a folder"]);
    assert_eq!(names(&compared), ["sweep.md"]);
}
