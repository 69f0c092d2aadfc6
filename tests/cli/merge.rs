//! `bitfit merge`: the folder that it writes has the base's tensors with the delta's in their places, and says so in
//! its configuration. That `transformers` computes the same logits from it is held by `scripts/check_merge.py`.

use crate::common::*;
use serde_json::json as value;
use std::fs;
use std::path::{Path, PathBuf};

fn trained(folder: &Folder, model: &Path, options: &str) -> PathBuf {
    let data = folder.write("a.tsv", toy_tsv(24, 3));
    let output = folder.path("run");
    train(model, &data, &output, &format!("--steps 4 --lr 1e-2 --weights f32 {options}"));
    output
}

fn merge(folder: &Folder, run: &Path) -> (PathBuf, Finished) {
    let merged = folder.path("merged");
    let mut command = bitfit(["merge", "--delta"]);
    let done = Finished::of(command.arg(run).arg("--output").arg(&merged)).success();
    (merged, done)
}

#[test]
fn a_merged_classifier_is_the_base_with_the_delta_in_place() {
    for (name, class) in
        [("bert", "BertForSequenceClassification"), ("roberta", "RobertaForSequenceClassification")]
    {
        let folder = Folder::new();
        let run = trained(&folder, &fixture(name), "");
        let (merged, _) = merge(&folder, &run);
        let base = tensors(&fixture(name).join("model.safetensors"));
        let delta = tensors(&run.join("bias.safetensors"));
        let made = tensors(&merged.join("model.safetensors"));
        for (tensor, content) in &made {
            let expected = delta.get(tensor).or(base.get(tensor));
            assert_eq!(Some(content), expected, "{name}: {tensor}");
        }
        for tensor in delta.keys() {
            assert!(made.contains_key(tensor), "{name}: {tensor} is missing");
        }
        // The base has a classifier of its own here, of the same names: no tensor but those.
        assert!(made.keys().eq(base.keys()), "{name}");
        assert_eq!(metadata(&merged.join("model.safetensors"))["format"], "pt");
        let config = json(&merged.join("config.json"));
        assert_eq!(config["architectures"], value!([class]));
        assert_eq!(config["id2label"], value!({"0": "land", "1": "people", "2": "sea"}));
        assert_eq!(config["label2id"], value!({"land": 0, "people": 1, "sea": 2}));
        assert_eq!(config["problem_type"], "single_label_classification");
        assert_eq!(config["hidden_size"], json(&fixture(name).join("config.json"))["hidden_size"]);
    }
}

#[test]
fn old_names_and_shards_and_other_heads_do_not_survive_a_merge() {
    let folder = Folder::new();
    let run = trained(&folder, &fixture("bert-mlm"), "");
    let (merged, _) = merge(&folder, &run);
    let made = tensors(&merged.join("model.safetensors"));
    assert!(made.keys().all(|name| !name.starts_with("cls.")));
    assert!(made.keys().all(|name| !name.contains("gamma") && !name.contains("beta")));
    assert!(made.contains_key("bert.embeddings.LayerNorm.weight"));
    assert!(!names(&merged).iter().any(|name| name.contains("index") || name.contains("-of-")));
}

#[test]
fn a_merged_model_is_a_base_that_predicts_as_the_run_did() {
    let folder = Folder::new();
    let run = trained(&folder, &fixture("bert"), "");
    let (merged, _) = merge(&folder, &run);
    // Frozen but for the head, which starts from the merged one and does not move at a rate of almost 0.
    let data = folder.path("a.tsv");
    let again = folder.path("again");
    let head = merged.join("model.safetensors");
    let options =
        format!("--steps 1 --lr 1e-30 --method head --weights f32 --init-head {}", head.display());
    train(&merged, &data, &again, &options);
    let predict = |run: &Path| {
        let mut command = bitfit(["predict", "--output-format", "jsonl", "--delta"]);
        Finished::of(command.arg(run).arg("--input").arg(&data)).success().stdout
    };
    assert_eq!(predict(&run), predict(&again));
}

#[test]
fn mean_pooling_has_no_class_so_encoder_and_head_are_written_apart() {
    let folder = Folder::new();
    let run = trained(&folder, &fixture("bert-mean"), "--pooling mean");
    let (merged, done) = merge(&folder, &run);
    assert!(done.stderr.contains("head.safetensors"), "{}", done.stderr);
    assert_eq!(json(&merged.join("config.json"))["architectures"], value!(["BertModel"]));
    let delta = tensors(&run.join("bias.safetensors"));
    let encoder = tensors(&merged.join("model.safetensors"));
    let head = tensors(&merged.join("head.safetensors"));
    assert!(head.keys().eq(["classifier.bias", "classifier.weight"]));
    assert!(
        encoder.keys().all(|name| !name.starts_with("bert.") && !name.starts_with("classifier"))
    );
    let mut seen = 0;
    for (name, content) in &delta {
        let place = head.get(name).or_else(|| encoder.get(name.strip_prefix("bert.")?));
        assert_eq!(place, Some(content), "{name}");
        seen += 1;
    }
    assert_eq!(seen, delta.len());
}

/// Otherwise `--pooling auto` would pool the merged model differently from its base.
#[test]
fn a_merged_sentence_encoder_keeps_its_pooling_file_if_the_run_pooled_the_same_way() {
    for (options, goes_with_it) in [("", true), ("--pooling cls", false)] {
        let folder = Folder::new();
        let model = folder.copy_of("bert-mean");
        let pooling = "1_Pooling/config.json";
        fs::create_dir(model.join("1_Pooling")).unwrap();
        fs::write(model.join(pooling), r#"{"pooling_mode_mean_tokens": true}"#).unwrap();
        let run = trained(&folder, &model, options);
        let (merged, _) = merge(&folder, &run);
        let merged = fs::read(merged.join(pooling)).ok();
        let expected = goes_with_it.then(|| fs::read(model.join(pooling)).unwrap());
        assert_eq!(merged, expected, "{options}");
    }
}

#[test]
fn a_folder_with_a_model_is_not_written_into() {
    let folder = Folder::new();
    let run = trained(&folder, &fixture("bert"), "");
    let model = folder.copy_of("bert");
    let before = names(&model);
    let mut command = bitfit(["merge", "--delta"]);
    let failed = Finished::of(command.arg(&run).arg("--output").arg(&model));
    failed.fails(1, &["--output", "holds a model already"]);
    assert_eq!(names(&model), before);
    assert_eq!(
        tensors(&model.join("model.safetensors")),
        tensors(&fixture("bert").join("model.safetensors"))
    );
}
