//! `--tensorboard`: event files that follow a run without changing it.
#![cfg(unix)]

use crate::common::*;
use crate::resume::reaches;
use std::fs;
use std::path::Path;
use std::process::Stdio;

const OPTIONS: &str = "--lr 5e-3 --epochs 12 --batch-size 4 --save-steps 3 --dev-fraction 0.2";

/// The contents of a run's event files, ordered by name.
fn events(output: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = fs::read_dir(output.join("tensorboard"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn has(bytes: &[u8], part: &str) -> usize {
    bytes.windows(part.len()).filter(|window| *window == part.as_bytes()).count()
}

#[test]
fn event_files_go_on_with_the_run_and_its_delta_knows_nothing_of_them() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(60, 3));
    let (without, with) = (folder.path("without"), folder.path("with"));
    train(&fixture("bert"), &data, &without, OPTIONS);
    assert!(!without.join("tensorboard").exists());
    let mut args = train_args(&fixture("bert"), &data, &with, OPTIONS);
    args.push("--tensorboard".to_owned());
    let mut child = bitfit(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    reaches(&mut child, &with, 20);
    child.kill().unwrap();
    let killed = !child.wait().unwrap().success();
    let begun = events(&with);
    assert_eq!(begun.len(), 1);
    assert!(has(&begun[0], "brain.Event:2") == 1 && has(&begun[0], "train/grad_norm") >= 12);
    // Its settings say that there are event files.
    Finished::of(bitfit(["train", "--resume", "--output"]).arg(&with)).success();
    let ended = events(&with);
    assert_eq!(ended.len(), 1 + usize::from(killed));
    let last = ended.last().unwrap();
    assert!(has(last, "dev/accuracy") >= 1 && has(last, "train/tokens_per_s") >= 1);
    let delta = |output: &Path| fs::read(output.join("bias.safetensors")).unwrap();
    assert!(delta(&with) == delta(&without));
}

#[test]
fn event_files_go_where_no_link_leads() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(12, 3));
    let (output, elsewhere) = (folder.path("run"), folder.path("elsewhere"));
    fs::create_dir(&output).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, output.join("tensorboard")).unwrap();
    let mut args = train_args(&fixture("bert"), &data, &output, "--steps 1");
    args.push("--tensorboard".to_owned());
    Finished::of(&mut bitfit(args)).fails(1, &["tensorboard is a link to"]);
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}
