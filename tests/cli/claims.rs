//! Files and options whose numbers are excessive or not numbers at all: each is refused by name before anything is
//! allocated for it, or does nothing.
#![cfg(target_os = "linux")]

use crate::common::*;
use crate::faults::confined;
use serde_json::json as value;
use std::fs;
use std::path::Path;

/// `bitfit COMMAND --delta DELTA`, on one thread within 4 GB.
fn with_delta(command: &str, delta: &Path, more: &[&str]) -> Finished {
    let delta = ["--threads", "1", "--quiet", "--delta", delta.to_str().unwrap()];
    Finished::of(&mut confined(&[&[command], &delta[..], more].concat()))
}

#[test]
fn padding_and_truncation_of_a_tokenizer_file_cost_nothing_and_change_nothing() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(8, 2));
    let model = folder.copy_of("bert");
    let plain = folder.path("plain");
    train(&model, &data, &plain, "--steps 1");
    let path = model.join("tokenizer.json");
    let mut tokenizer = json(&path);
    tokenizer["padding"] = value!({"strategy": {"Fixed": 1_000_000_000_000_u64}, "direction": "Right",
        "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"});
    tokenizer["truncation"] = value!({"direction": "Right", "max_length": 1_000_000_000_000_u64,
        "strategy": "LongestFirst", "stride": 999_999_999_999_u64});
    fs::write(&path, tokenizer.to_string()).unwrap();
    let output = folder.path("run");
    let args = train_args(&model, &data, &output, "--steps 1");
    Finished::of(&mut confined(&args.iter().map(String::as_str).collect::<Vec<_>>())).success();
    assert!(tensors(&output.join("bias.safetensors")) == tensors(&plain.join("bias.safetensors")));
}

#[test]
fn a_text_that_is_too_long_is_refused_by_line() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(8, 2));
    let model = fixture("bert");
    let output = folder.path("run");
    train(&model, &data, &output, "--steps 1");
    let long =
        folder.write("long.tsv", format!("text\tlabel\nthe\tsea\n{}\tsea\n", "a ".repeat(5 << 19)));
    let long = long.to_str().unwrap();
    let says = ["long.tsv: line 3: the text", "5242880 bytes; the limit is 4 MiB"];
    let answers = folder.path("answers.tsv");
    let to = answers.to_str().unwrap();
    with_delta("predict", &output, &["--input", long, "--output", to]).fails(1, &says);
    with_delta("eval", &output, &["--data", long]).fails(1, &says);
    assert!(!answers.exists());
}

#[test]
fn a_delta_too_large_to_compute_with_gives_no_answer() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(8, 2));
    let model = fixture("bert");
    let output = folder.path("run");
    train(&model, &data, &output, "--steps 1");
    let delta = output.join("bias.safetensors");
    edit_tensors(&delta, |tensors, _| {
        for (name, tensor) in tensors.iter_mut().filter(|(name, _)| name.ends_with("bias")) {
            assert_eq!(tensor.dtype, safetensors::Dtype::F32, "{name}");
            tensor.bytes = 3e38f32.to_le_bytes().repeat(tensor.bytes.len() / 4);
        }
    });
    let says = ["a.tsv: line ", ": the model's answer is", "too large to compute with"];
    let data = data.to_str().unwrap();
    let answers = folder.path("answers.tsv");
    let record = folder.path("eval.json");
    let (answers_to, record_to) = (answers.to_str().unwrap(), record.to_str().unwrap());
    with_delta("predict", &output, &["--input", data, "--output", answers_to]).fails(1, &says);
    with_delta("eval", &output, &["--data", data, "--output", record_to]).fails(1, &says);
    assert!(!answers.exists() && !record.exists());
}

#[test]
fn accumulation_that_cannot_be_counted_is_wrong_usage() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(8, 2));
    let output = folder.path("run");
    let more = "--epochs 3 --grad-accumulation 4611686018427387904";
    let run = Finished::of(&mut bitfit(train_args(&fixture("bert"), &data, &output, more)));
    run.fails(2, &["--grad-accumulation 4611686018427387904 in 3 steps"]);
    assert!(!output.exists());
}

#[test]
fn a_password_in_the_hubs_address_is_not_repeated() {
    let folder = Folder::new();
    let plan = |variables: [(&str, &str); 2]| {
        let mut plan = bitfit(["plan", "--model", "org/name"]);
        plan.env("HF_HOME", folder.path("home")).env_remove("HF_HUB_OFFLINE").envs(variables);
        Finished::of(&mut plan)
    };
    let time = ("HF_HUB_DOWNLOAD_TIMEOUT", "5");
    let run = plan([("HF_ENDPOINT", "https://me:SECRET@127.0.0.1:9"), time]);
    run.fails(2, &["HF_ENDPOINT", "***@127.0.0.1:9"]);
    assert!(!run.stderr.contains("SECRET"), "{}", run.stderr);
    let run = plan([("HF_ENDPOINT", "http://127.0.0.1:9"), (time.0, "1e30")]);
    run.fails(2, &["HF_HUB_DOWNLOAD_TIMEOUT must be whole seconds from 1 to 3600"]);
}
