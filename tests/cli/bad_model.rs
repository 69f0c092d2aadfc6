//! Checkpoints and deltas that are damaged, of another kind, or hostile: refused by file and tensor before anything is
//! written.

use crate::common::*;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const WEIGHTS: &str = "model.safetensors";
const QUERY: &str = "bert.encoder.layer.1.attention.self.query.weight";

/// A `train` on a copy of a fixture that `damage` has changed; it must fail with 1 and say `says`.
#[track_caller]
fn refused(model: &str, damage: impl FnOnce(&Path), says: &[&str]) {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(8, 2));
    let output = folder.path("run");
    let model = folder.copy_of(model);
    damage(&model);
    let run = Finished::of(&mut bitfit(train_args(&model, &data, &output, "")));
    let error = run.fails(1, says);
    assert!(error.contains(model.to_str().unwrap()), "the folder is named: {error}");
    assert_eq!(run.stdout, "");
    assert!(!output.exists(), "the output was begun");
}

fn edit_json(path: &Path, edit: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let mut value = json(path);
    edit(value.as_object_mut().unwrap());
    fs::write(path, value.to_string()).unwrap();
}

#[test]
fn missing_and_truncated_weights_are_refused() {
    refused("bert", |m| fs::remove_file(m.join(WEIGHTS)).unwrap(), &[WEIGHTS]);
    for keep in [0, 5, 100, 10_000] {
        let cut = |m: &Path| {
            let bytes = fs::read(m.join(WEIGHTS)).unwrap();
            fs::write(m.join(WEIGHTS), &bytes[..keep]).unwrap();
        };
        refused("bert", cut, &[WEIGHTS]);
    }
    let shard = "model-00002-of-00002.safetensors";
    refused("bert-mlm", |m| fs::remove_file(m.join(shard)).unwrap(), &[shard, "missing"]);
    let cut = |m: &Path| {
        let bytes = fs::read(m.join(shard)).unwrap();
        fs::write(m.join(shard), &bytes[..bytes.len() - 1]).unwrap();
    };
    refused("bert-mlm", cut, &[shard, "truncated"]);
}

#[test]
fn a_missing_tensor_and_a_wrong_shape_are_named() {
    let remove = |m: &Path| {
        edit_tensors(&m.join(WEIGHTS), |tensors, _| {
            tensors.remove(QUERY).unwrap();
        })
    };
    refused("bert", remove, &[WEIGHTS, QUERY, "missing"]);
    let reshape = |m: &Path| {
        edit_tensors(&m.join(WEIGHTS), |tensors, _| {
            tensors.get_mut(QUERY).unwrap().shape = vec![32, 128];
        })
    };
    refused("bert", reshape, &[WEIGHTS, QUERY, "[32, 128]", "[64, 64]"]);
    let bias = "bert.encoder.layer.0.output.dense.bias";
    let lengthen = |m: &Path| {
        edit_tensors(&m.join(WEIGHTS), |tensors, _| {
            let tensor = tensors.get_mut(bias).unwrap();
            tensor.shape = vec![65];
            tensor.bytes.extend([0; 4]);
        })
    };
    refused("bert", lengthen, &[WEIGHTS, bias, "[65]", "[64]"]);
    let integers = |m: &Path| {
        edit_tensors(&m.join(WEIGHTS), |tensors, _| {
            tensors.get_mut(QUERY).unwrap().dtype = safetensors::Dtype::I32;
        })
    };
    refused("bert", integers, &[WEIGHTS, QUERY, "I32"]);
}

#[test]
fn values_that_are_not_finite_are_named_with_their_place() {
    for (value, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        for name in [
            QUERY,
            "bert.encoder.layer.1.output.LayerNorm.bias",
            "bert.embeddings.word_embeddings.weight",
        ] {
            let spoil = |m: &Path| {
                edit_tensors(&m.join(WEIGHTS), |tensors, _| {
                    tensors.get_mut(name).unwrap().bytes[40..44]
                        .copy_from_slice(&value.to_le_bytes());
                })
            };
            refused("bert", spoil, &[WEIGHTS, name, shown, "element 10"]);
        }
    }
}

#[test]
fn a_value_too_large_for_sixteen_bits_does_not_become_infinite_in_silence() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(8, 2));
    let model = folder.copy_of("bert");
    edit_tensors(&model.join(WEIGHTS), |tensors, _| {
        tensors.get_mut(QUERY).unwrap().bytes[..4].copy_from_slice(&1e6f32.to_le_bytes());
    });
    let run = |name: &str, options: &str| {
        let output = folder.path(name);
        Finished::of(&mut bitfit(train_args(&model, &data, &output, options)))
    };
    run("f16", "--steps 1 --weights f16")
        .fails(1, &["encoder.layer.1.attention.self", "weights as f32"]);
    run("f32", "--steps 1 --weights f32").success();
}

#[test]
fn other_architectures_and_arithmetic_are_refused_by_name() {
    for (key, value, says) in [
        ("model_type", "deberta-v2".into(), "deberta-v2"),
        ("hidden_act", "silu".into(), "silu"),
        ("position_embedding_type", "relative_key".into(), "relative_key"),
        ("is_decoder", true.into(), "is_decoder"),
        ("hidden_size", Value::from(0), "hidden_size"),
        ("num_attention_heads", Value::from(5), "num_attention_heads"),
        ("num_hidden_layers", Value::from(3), "encoder.layer.2."),
        ("vocab_size", Value::from(149), "tokenizer has 150 tokens"),
        ("vocab_size", Value::from(151), "embeddings.word_embeddings"),
        ("hidden_dropout_prob", Value::from(2), "hidden_dropout_prob"),
    ] {
        let change = |m: &Path| {
            edit_json(&m.join("config.json"), |config| {
                config.insert(key.into(), value);
            })
        };
        refused("bert", change, &[says]);
    }
}

/// A missing key has transformers' default, which does not fit this model.
#[test]
fn a_configuration_without_what_the_model_needs_is_refused() {
    for (key, parts) in [
        ("model_type", &["config.json", "`model_type` is missing"][..]),
        ("hidden_size", &["[150, 64]", "[150, 768]"]),
        ("num_hidden_layers", &["encoder.layer.2", "missing"]),
        ("num_attention_heads", &["hidden_size 64", "12"]),
        ("intermediate_size", &["[128, 64]", "[3072, 64]"]),
        ("vocab_size", &["[150, 64]", "[30522, 64]"]),
        ("max_position_embeddings", &["[64, 64]", "[512, 64]"]),
    ] {
        let remove = |m: &Path| {
            edit_json(&m.join("config.json"), |config| {
                config.remove(key).unwrap();
            })
        };
        refused("bert", remove, parts);
    }
    refused("bert", |m| fs::remove_file(m.join("config.json")).unwrap(), &["config.json"]);
    refused("bert", |m| fs::write(m.join("config.json"), "{").unwrap(), &["config.json"]);
}

#[test]
fn a_missing_broken_or_foreign_tokenizer_is_refused() {
    let tokenizer = "tokenizer.json";
    refused(
        "bert",
        |m| fs::remove_file(m.join(tokenizer)).unwrap(),
        &["no tokenizer", "vocab.txt"],
    );
    refused("bert", |m| fs::write(m.join(tokenizer), "{}").unwrap(), &[tokenizer]);
    let longer = |m: &Path| {
        let vocab = fs::read_to_string(m.join("vocab.txt")).unwrap();
        fs::write(m.join("vocab.txt"), vocab + "one\ntwo\n").unwrap();
    };
    refused("bert-mean", longer, &["tokenizer has 152 tokens", "150"]);
}

#[test]
fn a_model_that_is_nowhere_is_said_to_be() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(8, 2));
    let output = folder.path("runs/new");
    let args = train_args(&folder.path("none"), &data, &output, "");
    let run = Finished::of(bitfit(args).env("HF_HUB_OFFLINE", "1"));
    run.fails(1, &["--model: there is no folder ", "none"]);
    // A name that could be one on the hub is looked for there, after it is said that it is no folder.
    let args = train_args(Path::new("minlm"), &data, &output, "");
    let run = Finished::of(bitfit(args).env("HF_HUB_OFFLINE", "1").current_dir(folder.path("")));
    run.fails(
        1,
        &["--model: there is no folder minlm; asked the hub: model minlm is not in the cache"],
    );
    assert!(!folder.path("runs").exists());
}

#[test]
fn an_initial_head_of_another_shape_is_refused() {
    let folder = Folder::new();
    // Two classes, but the head has three.
    let data = folder.write("a.tsv", toy_tsv(8, 2));
    let output = folder.path("run");
    let head = fixture("bert").join("head.safetensors");
    let options = format!("--init-head {}", head.display());
    let run = Finished::of(&mut bitfit(train_args(&fixture("bert"), &data, &output, &options)));
    run.fails(1, &["--init-head", "head.safetensors", "classifier.weight", "[3, 64]", "[2, 64]"]);
    let head = fixture("roberta").join("head.safetensors");
    let options = format!("--init-head {}", head.display());
    let run = Finished::of(&mut bitfit(train_args(&fixture("bert"), &data, &output, &options)));
    run.fails(1, &["--init-head", "classifier.weight", "missing"]);
    assert!(!output.exists());
}

/// A trained delta, and every command that takes one.
struct Delta {
    folder: Folder,
    data: PathBuf,
    file: PathBuf,
}

impl Delta {
    fn new() -> Self {
        let folder = Folder::new();
        let data = folder.write("a.tsv", toy_tsv(8, 2));
        let run = folder.path("run");
        train(&fixture("bert"), &data, &run, "--steps 1");
        let file = folder.path("delta.safetensors");
        fs::copy(run.join("bias.safetensors"), &file).unwrap();
        // Where the base is.
        fs::copy(run.join("settings.toml"), folder.path("settings.toml")).unwrap();
        Self { folder, data, file }
    }

    /// All commands must refuse the file, and write nothing.
    #[track_caller]
    fn refused(&self, more: &[&str], says: &[&str]) {
        let (to, data) = (self.folder.path("to"), self.data.to_str().unwrap());
        let to_name = to.to_str().unwrap();
        for command in [
            vec!["predict", "--input", data, "--output", to_name],
            vec!["eval", "--data", data, "--output", to_name],
            vec!["merge", "--output", to_name],
            vec!["inspect"],
        ] {
            let mut command = bitfit(command);
            let run = Finished::of(command.arg("--delta").arg(&self.file).args(more));
            let error = run.fails(1, says);
            assert!(error.contains("delta.safetensors"), "the file is named: {error}");
            assert_eq!(run.stdout, "");
            assert!(!to.exists(), "{command:?} wrote something");
        }
    }

    fn damaged(
        &self,
        edit: impl FnOnce(
            &mut std::collections::BTreeMap<String, RawTensor>,
            &mut std::collections::HashMap<String, String>,
        ),
        says: &[&str],
    ) {
        let sound = fs::read(&self.file).unwrap();
        edit_tensors(&self.file, edit);
        self.refused(&[], says);
        fs::write(&self.file, sound).unwrap();
    }
}

#[test]
fn a_delta_for_another_base_is_refused() {
    let delta = Delta::new();
    let other = delta.folder.copy_of("bert");
    edit_tensors(&other.join(WEIGHTS), |tensors, _| {
        tensors.get_mut(QUERY).unwrap().bytes[0] ^= 1;
    });
    let model = ["--model", other.to_str().unwrap()];
    delta.refused(&model, &["another base model", "sha256"]);
    let roberta = fixture("roberta");
    let model = ["--model", roberta.to_str().unwrap()];
    delta.refused(&model, &["another base model"]);
}

#[test]
fn a_delta_that_does_not_fit_its_base_is_refused_by_the_tensor() {
    let delta = Delta::new();
    let bias = "bert.encoder.layer.0.output.dense.bias";
    delta.damaged(|tensors, _| drop(tensors.remove(bias)), &[bias, "missing"]);
    delta.damaged(
        |tensors, _| {
            let tensor = tensors.get_mut(bias).unwrap();
            tensor.shape = vec![1, 64];
        },
        &[bias, "[1, 64]", "[64]"],
    );
    delta.damaged(
        |tensors, _| {
            let tensor =
                RawTensor { dtype: safetensors::Dtype::F32, shape: vec![1], bytes: vec![0; 4] };
            tensors.insert("extra.bias".into(), tensor);
        },
        &["extra.bias", "does not belong"],
    );
    delta.damaged(
        |tensors, _| {
            tensors.get_mut(bias).unwrap().bytes[8..12].copy_from_slice(&f32::NAN.to_le_bytes())
        },
        &[bias, "NaN", "place 2"],
    );
}

#[test]
fn a_delta_with_false_metadata_is_refused_by_the_key() {
    let delta = Delta::new();
    for (key, value, says) in [
        ("format", "", "not a delta"),
        ("format_version", "99", "update bitfit"),
        ("format_version", "x", "`format_version`"),
        ("base_sha256", "abc", "`base_sha256`"),
        ("labels", "[\"one\"]", "`labels`"),
        ("labels", "{", "`labels`"),
        ("labels", "[\"a\",\"b\",\"c\"]", "classifier."),
        ("pooling", "max", "`pooling`"),
        ("biases", "everything", "`biases`"),
        ("settings", "lr = 1", "`settings`"),
        ("task", "ranking", "`task`"),
    ] {
        delta.damaged(|_, metadata| drop(metadata.insert(key.into(), value.into())), &[says]);
    }
    for key in ["format", "base_sha256", "labels", "settings", "biases", "pooling", "task"] {
        let says = if key == "format" { "not a delta" } else { key };
        delta.damaged(|_, metadata| drop(metadata.remove(key)), &[says]);
    }
}

#[test]
fn hostile_headers_are_refused_without_harm() {
    let delta = Delta::new();
    let file = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    };
    let tensor = |shape: &str, from: u64, to: u64| {
        format!(r#"{{"x":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}}}"#)
    };
    for bytes in [
        Vec::new(),
        b"PK\x03\x04".to_vec(),
        u64::MAX.to_le_bytes().to_vec(),
        (1u64 << 40).to_le_bytes().to_vec(),
        [&100u64.to_le_bytes()[..], b"{}"].concat(),
        file("[[[[[[[[", 0),
        file(&"[".repeat(1 << 20), 0),
        file("\u{0}", 0),
        file("{}", 0),
        file("{\"__metadata__\":{\"format\":1}}", 0),
        file("{\"__metadata__\":{\"format\":\"bitfit-delta\",\"format\":\"x\"}}", 0),
        file(&tensor("[1099511627776,1099511627776,1099511627776]", 0, 8), 8),
        file(&tensor("[2]", 0, 1 << 60), 8),
        file(&tensor("[2]", 8, 0), 8),
        file(&tensor("[-2]", 0, 8), 8),
    ] {
        fs::write(&delta.file, &bytes).unwrap();
        delta.refused(&[], &["delta.safetensors"]);
    }
    // A model's weights are not a delta.
    fs::copy(fixture("bert").join(WEIGHTS), &delta.file).unwrap();
    delta.refused(&[], &["not a delta"]);
    fs::remove_file(&delta.file).unwrap();
    delta.refused(&[], &["delta.safetensors", "No such file"]);
}

#[cfg(unix)]
#[test]
fn a_model_file_that_is_no_ordinary_one_is_refused_at_once() {
    let folder = Folder::new();
    let model = folder.copy_of("bert");
    let weights = model.join("model.safetensors");
    let data = folder.write("a.tsv", toy_tsv(6, 2));
    std::fs::remove_file(&weights).unwrap();
    for make in [["mkfifo"].as_slice(), &["ln", "-s", "/dev/zero"]] {
        let made = std::process::Command::new(make[0]).args(&make[1..]).arg(&weights).status();
        assert!(made.unwrap().success());
        let args = train_args(&model, &data, &folder.path("run"), "--steps 1");
        Finished::of(&mut bitfit(args)).fails(1, &["model.safetensors", "not a regular file"]);
        std::fs::remove_file(&weights).unwrap();
    }
}
