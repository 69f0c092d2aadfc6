//! What a continued sweep is checked against: its grid, what its runs left, the files they read, and its own records.
#![cfg(unix)]

use crate::common::*;
use crate::sweep::{grid, resume, sweep};
use serde_json::Value;
use std::fs;

#[test]
fn the_folder_of_another_sweep_is_refused_with_what_differs() {
    let folder = Folder::new();
    let text = "epochs = 1\ndev-fraction = 0.25\n[grid]\nlr = [1e-3, 1e-2]\n";
    let (path, output) = (grid(&folder, text), folder.path("sweep"));
    Finished::of(&mut sweep(&path, &output, &["--quiet"])).success();
    Finished::of(&mut sweep(&path, &output, &[])).fails(1, &["is not empty", "--resume"]);
    let other = |from: &str, to: &str, parts: &[&str]| {
        let path = grid(&folder, &text.replace(from, to));
        let refused = Finished::of(&mut sweep(&path, &output, &["--resume"]));
        refused.fails(1, &[&["the folder has another sweep: "], parts].concat());
    };
    other("1e-2", "2e-2", &["it has runs that this one does not", "bitfit-lr1e-2"]);
    other("epochs = 1", "epochs = 2", &["in the run `bitfit-lr1e-3` epochs was 1 and is 2"]);
}

#[test]
fn runs_that_have_begun_are_held_to_what_they_left_and_to_their_files() {
    let folder = Folder::new();
    let text = "epochs = 1\ndev-fraction = 0.25\nsave-steps = 1\n[grid]\nlr = [1e-3, 1e-2]\n";
    let (path, output) = (grid(&folder, text), folder.path("sweep"));
    Finished::of(&mut sweep(&path, &output, &["--quiet"])).success();
    let again = || Finished::of(&mut resume(&output));
    let (data, run) = (folder.path("a.tsv"), output.join("bitfit-lr1e-3"));
    let kept = fs::read(&data).unwrap();
    fs::write(&data, toy_tsv(50, 2)).unwrap();
    again().fails(1, &["bitfit-lr1e-3: ", "is done, with other files", "training data was "]);
    // A continued one is checked against them, too.
    fs::remove_dir_all(output.join("bitfit-lr1e-2")).unwrap();
    fs::remove_file(run.join("result.json")).unwrap();
    again().fails(1, &["has begun, with other files", "training data was "]);
    fs::write(&data, kept).unwrap();
    again().success();
    let delta = run.join("bias.safetensors");
    let whole = fs::read(&delta).unwrap();
    fs::write(&delta, &whole[..whole.len() - 1]).unwrap();
    again().fails(1, &["bitfit-lr1e-3: ", "has changed since the run"]);
    fs::write(&delta, whole).unwrap();
    again().success();
}

#[test]
fn runs_are_held_to_what_their_base_says_beside_its_weights() {
    let folder = Folder::new();
    let model = folder.copy_of("bert");
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let text = format!(
        "model = {:?}\ntrain = {:?}\nsteps = 1\n[grid]\nmax-length = [8, 12]\n",
        model.display(),
        data.display()
    );
    let (grid, output) = (folder.write("grid.toml", text), folder.path("sweep"));
    Finished::of(&mut sweep(&grid, &output, &["--quiet"])).success();
    let again = || Finished::of(&mut resume(&output));
    again().success();
    type Change = fn(&mut Value);
    let changes: [(&str, &str, Change); 3] = [
        ("config.json", "config.json.hidden_dropout_prob was ", |json| {
            json["hidden_dropout_prob"] = 0.4.into();
        }),
        ("config.json", "config.json.layer_norm_eps was ", |json| {
            json["layer_norm_eps"] = 1e-3.into();
        }),
        ("tokenizer.json", "tokenizer.model.vocab was ", |json| {
            let words = json["model"]["vocab"].as_object_mut().unwrap();
            let last: Vec<String> = words.keys().rev().take(2).cloned().collect();
            let (one, other) = (words[&last[0]].clone(), words[&last[1]].clone());
            words[&last[0]] = other;
            words[&last[1]] = one;
        }),
    ];
    for (name, says, change) in changes {
        let path = model.join(name);
        let kept = fs::read(&path).unwrap();
        let mut content = json(&path);
        change(&mut content);
        fs::write(&path, content.to_string()).unwrap();
        again().fails(1, &["bitfit-max-length8: ", "is done, with other files", says]);
        fs::write(&path, kept).unwrap();
    }
    again().success();
}

#[test]
fn a_sweep_goes_on_in_the_precision_in_which_it_began() {
    let folder = Folder::new();
    let text = "steps = 1\nprecision = \"bf16\"\n[grid]\nlr = [1e-3, 1e-2]\n";
    let (path, output) = (grid(&folder, text), folder.path("sweep"));
    Finished::of(&mut sweep(&path, &output, &["--quiet"])).success();
    // As if `auto` had been bf16, and the second run were still to come.
    for file in ["sweep.toml", "bitfit-lr1e-3/settings.toml"] {
        let path = output.join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("precision = \"bf16\""), "{text}");
        fs::write(path, text.replace("precision = \"bf16\"", "precision = \"auto\"")).unwrap();
    }
    fs::remove_dir_all(output.join("bitfit-lr1e-2")).unwrap();
    // Without dot products of bf16, `auto` is f32.
    Finished::of(resume(&output).env("BITFIT_SIMD", "avx2"))
        .fails(1, &["bitfit-lr1e-3: ", "precision was \"bf16\" and is \"f32\""]);
    assert!(!output.join("bitfit-lr1e-2").exists());
}

#[test]
fn a_sweep_that_was_killed_before_its_list_was_there_has_begun_nothing() {
    let folder = Folder::new();
    let text = "epochs = 1\ndev-fraction = 0.25\n[grid]\nlr = [1e-3, 1e-2]\n";
    let (grid, output) = (grid(&folder, text), folder.path("sweep"));
    fs::create_dir(&output).unwrap();
    fs::write(output.join("run.lock"), "").unwrap();
    fs::write(output.join(".sweep.toml.aB3dE6.tmp"), "model = ").unwrap();
    Finished::of(&mut sweep(&grid, &output, &["--quiet"])).success();
    assert_eq!(sweep_rows(&output).len(), 2);
}

#[test]
fn a_line_or_answers_that_are_not_the_runs_own_are_not_believed() {
    let folder = Folder::new();
    let text = "epochs = 2\ndev-fraction = 0.25\n[grid]\nlr = [1e-3, 1e-2]\n";
    let (grid, output) = (grid(&folder, text), folder.path("sweep"));
    Finished::of(&mut sweep(&grid, &output, &["--quiet"])).success();
    let again = || Finished::of(&mut resume(&output));
    let ledger = output.join("sweep.jsonl");
    let (whole, mut rows) = (fs::read_to_string(&ledger).unwrap(), sweep_rows(&output));
    rows[0]["dev"] = 0.99.into();
    let lines: Vec<_> = rows.iter().map(|row| format!("{row}\n")).collect();
    fs::write(&ledger, lines.concat()).unwrap();
    again().success();
    assert_eq!(fs::read_to_string(&ledger).unwrap(), whole);
    let path = output.join("answers/bitfit-lr1e-3.json");
    let answers = fs::read_to_string(&path).unwrap();
    let other = answers.replace("1.0", "0.5").replace("0.0", "0.25");
    assert_ne!(other, answers);
    fs::write(&path, other).unwrap();
    again().fails(1, &["bitfit-lr1e-3.json does not match the answers", "remove it"]);
    fs::remove_file(&path).unwrap();
    again().success();
    assert_eq!(fs::read_to_string(&path).unwrap(), answers);
}
