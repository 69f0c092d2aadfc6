//! A named task's rows from a hub: only that task's files, once, under the names that other tools look for; and the
//! message if there are none.

use crate::server::{COMMIT, SET, Server};
use bitfit::hub::{Hub, HubName};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const TRAIN: &str = "cola/train-00000-of-00001.parquet";
const DEV: &str = "cola/validation-00000-of-00001.parquet";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The fixtures' files of CoLA and AX, plus an unneeded one.
fn server() -> Server {
    let mut files = vec![("README.md".to_owned(), b"not needed".to_vec())];
    for name in [TRAIN, DEV, "cola/test-00000-of-00001.parquet", "ax/test-00000-of-00001.parquet"] {
        let bytes = fs::read(repository().join("tests/fixtures/glue").join(name)).unwrap();
        files.push((name.to_owned(), bytes));
    }
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    Server::start(&files)
}

fn fetch(hub: &Hub, wanted: &[&str]) -> Result<PathBuf, String> {
    let choose = |files: &BTreeSet<String>| {
        let there = wanted.iter().all(|name| files.contains(*name));
        match there {
            true => Ok(wanted.iter().map(|name| name.to_string()).collect()),
            false => anyhow::bail!("nothing of the task"),
        }
    };
    let name = HubName::dataset(SET).unwrap();
    hub.fetch_dataset(&name, &choose, &mut |_| ()).map_err(|e| bitfit::error::one_line(&e))
}

#[test]
fn only_the_wanted_files_come_and_they_come_once() {
    let cache = tempfile::tempdir().unwrap();
    let server = server();
    let hub = server.hub(cache.path());
    let folder = fetch(&hub, &[TRAIN]).unwrap();
    assert_eq!(folder, cache.path().join(format!("datasets--nyu-mll--glue/snapshots/{COMMIT}")));
    assert!(folder.join(TRAIN).exists() && !folder.join(DEV).exists());
    server.requests();
    fetch(&hub, &[TRAIN]).unwrap();
    assert_eq!(server.requests(), [format!("/api/datasets/{SET}/revision/main")]);

    let offline = Hub { offline: true, ..server.hub(cache.path()) };
    assert_eq!(fetch(&offline, &[TRAIN]).unwrap(), folder);
    let error = fetch(&offline, &[TRAIN, DEV]).unwrap_err();
    for part in ["data set nyu-mll/glue is not in the cache", "HF_HUB_OFFLINE"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(server.requests().is_empty());
}

#[test]
fn the_hubs_own_parquet_form_serves_where_the_main_branch_has_a_script() {
    let cache = tempfile::tempdir().unwrap();
    let server = server();
    server.state.lock().unwrap().revision = Some("refs/convert/parquet".into());
    let folder = fetch(&server.hub(cache.path()), &[TRAIN]).unwrap();
    assert!(folder.join(TRAIN).exists());
    let offline = Hub { offline: true, ..server.hub(cache.path()) };
    assert_eq!(fetch(&offline, &[TRAIN]).unwrap(), folder);
    let error = fetch(&server.hub(cache.path()), &["no/such.parquet"]).unwrap_err();
    assert!(
        error.contains("data set nyu-mll/glue on http") && error.contains("nothing of"),
        "{error}"
    );
}

#[test]
fn a_data_set_that_is_gated_or_damaged_is_explained() {
    let cache = tempfile::tempdir().unwrap();
    let server = server();
    server.state.lock().unwrap().needs_token = true;
    let error = fetch(&server.hub(cache.path()), &[TRAIN]).unwrap_err();
    assert!(error.contains("data set nyu-mll/glue") && error.contains("HF_TOKEN"), "{error}");
    let with = Hub { token: Some("secret".into()), ..server.hub(cache.path()) };
    server.state.lock().unwrap().large.insert(TRAIN.into(), "0".repeat(64));
    let error = fetch(&with, &[TRAIN]).unwrap_err();
    assert!(error.contains("arrived damaged"), "{error}");
    server.state.lock().unwrap().large.clear();
    fetch(&with, &[TRAIN]).unwrap();
}

/// The program with its own hub and home.
fn train(server: &Server, home: &Path, more: &[&str]) -> Output {
    let output = home.join("run");
    let model = repository().join("tests/fixtures/parity/bert");
    Command::new(env!("CARGO_BIN_EXE_bitfit"))
        .args(["train", "--task", "cola", "--epochs", "1", "--threads", "1", "--model"])
        .arg(model)
        .arg("--output")
        .arg(output)
        .args(more)
        .env("HF_ENDPOINT", &server.endpoint)
        .env("HF_HOME", home)
        .env_remove("HF_HUB_CACHE")
        .env_remove("HF_HUB_OFFLINE")
        .env_remove("HF_TOKEN")
        .output()
        .unwrap()
}

#[test]
fn without_a_folder_a_named_task_is_fetched_and_trained() {
    let home = tempfile::tempdir().unwrap();
    let server = server();
    let answered = home.path().join("answers");
    let done = train(&server, home.path(), &["--predict-test", answered.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(said.contains(&format!("fetching {TRAIN} of {SET}")), "{said}");
    assert_eq!(fs::read_to_string(answered.join("CoLA.tsv")).unwrap().lines().count(), 8);
    let settings = fs::read_to_string(home.path().join("run/settings.toml")).unwrap();
    assert!(settings.contains("task = \"cola\"") && !settings.contains("data ="), "{settings}");
    // Evaluated where it was trained from, without a network.
    server.requests();
    let eval = Command::new(env!("CARGO_BIN_EXE_bitfit"))
        .args(["eval", "--delta"])
        .arg(home.path().join("run"))
        .env("HF_HOME", home.path())
        .env("HF_HUB_OFFLINE", "1")
        .env_remove("HF_HUB_CACHE")
        .output()
        .unwrap();
    assert!(eval.status.success(), "{}", String::from_utf8_lossy(&eval.stderr));
    assert!(String::from_utf8_lossy(&eval.stdout).contains("matthews"));
    assert!(server.requests().is_empty());
}

#[test]
fn an_answer_that_is_no_parquet_file_leaves_no_run() {
    let home = tempfile::tempdir().unwrap();
    let server = server();
    let page = b"<!DOCTYPE html><title>Not here</title>".to_vec();
    server.state.lock().unwrap().files.insert(TRAIN.into(), page);
    let done = train(&server, home.path(), &[]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("not a parquet file") && said.contains(TRAIN), "{said}");
    assert!(!home.path().join("run").exists());
}
