//! `bitfit merge`: the folder it writes has the base's tensors with the delta's in their places, and says so in its
//! configuration. `scripts/check_merge.py` checks that `transformers` computes the same logits from it.

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
        // Here the base has its own classifier, with the same names: no other tensors.
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
    // Frozen except the head, which starts from the merged one and does not move at a rate of almost 0.
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
    failed.fails(1, &["--output", "already has a model"]);
    assert_eq!(names(&model), before);
    assert_eq!(
        tensors(&model.join("model.safetensors")),
        tensors(&fixture("bert").join("model.safetensors"))
    );
}

/// A model that reads more of a text than it was trained on gives different answers.
#[test]
fn a_written_model_says_where_texts_are_cut() {
    for (options, max_length) in
        [("--max-length 9", 9), ("", 7), ("--method full --max-length 9", 9)]
    {
        let folder = Folder::new();
        let model = folder.copy_of("bert-mlm");
        fs::write(
            model.join("sentence_bert_config.json"),
            r#"{"max_seq_length": 7, "do_lower_case": false}"#,
        )
        .unwrap();
        let options = format!("--pooling cls {options}");
        let made = match options.contains("full") {
            true => {
                let (data, run) = (folder.write("a.tsv", toy_tsv(8, 2)), folder.path("run"));
                train(&model, &data, &run, &format!("--steps 1 {options}"));
                run
            }
            false => merge(&folder, &trained(&folder, &model, &options)).0,
        };
        let says = |file: &str| json(&made.join(file));
        assert_eq!(says("tokenizer_config.json")["model_max_length"], max_length, "{options}");
        let sentence = value!({"max_seq_length": max_length, "do_lower_case": false});
        assert_eq!(says("sentence_bert_config.json"), sentence, "{options}");
        let tokenizer = says("tokenizer.json");
        assert_eq!(tokenizer["truncation"]["max_length"], max_length, "{options}");
        assert_eq!(tokenizer["model"], json(&model.join("tokenizer.json"))["model"]);
    }
    // A folder without tokenizer settings gets some.
    let folder = Folder::new();
    let model = folder.copy_of("bert");
    fs::remove_file(model.join("tokenizer_config.json")).unwrap();
    let (merged, _) = merge(&folder, &trained(&folder, &model, "--max-length 9"));
    assert_eq!(json(&merged.join("tokenizer_config.json")), value!({"model_max_length": 9}));
}

/// `transformers` does not read what asks for it.
#[test]
fn lower_casing_by_a_sentence_encoders_settings_is_said_and_goes_with_the_model() {
    let lowers = r#"{"max_seq_length": 40, "do_lower_case": true}"#;
    let made = |name: &str, options: &str| {
        let folder = Folder::new();
        let model = folder.copy_of(name);
        fs::write(model.join("sentence_bert_config.json"), lowers).unwrap();
        let (data, run) = (folder.write("a.tsv", toy_tsv(12, 3)), folder.path("run"));
        let done = train(&model, &data, &run, &format!("--steps 1 --weights f32 {options}"));
        (folder, run, done.stderr)
    };
    let said = "texts are lower-cased first, as set by do_lower_case in sentence_bert_config.json";
    let predict = |run: &Path, data: &Path| {
        let mut command = bitfit(["predict", "--output-format", "jsonl", "--delta"]);
        Finished::of(command.arg(run).arg("--input").arg(data)).success().stdout
    };

    // A tokenizer that has only vocab.txt and keeps case.
    let (folder, run, stderr) = made("bert-mean", "--pooling cls");
    assert!(stderr.contains(said), "{stderr}");
    let (merged, done) = merge(&folder, &run);
    assert!(!done.stderr.contains("will not lower-case"), "{}", done.stderr);
    let settings = json(&merged.join("tokenizer_config.json"));
    assert_eq!(
        [&settings["do_lower_case"], &settings["strip_accents"]],
        [&value!(true), &value!(false)]
    );
    // A whole model follows its own files.
    let full = folder.path("full");
    let data = folder.path("a.tsv");
    train(&folder.path("bert-mean"), &data, &full, "--method full --steps 1");
    let upper = folder.write(
        "upper.tsv",
        toy_tsv(12, 3).to_uppercase().replacen("TEXT\tLABEL", "text\tlabel", 1),
    );
    assert_eq!(predict(&full, &data), predict(&full, &upper));

    // One that lower-cases anyway, and one whose class has no setting for it.
    let (_, _, stderr) = made("bert", "");
    assert!(!stderr.contains("lower-cased"), "{stderr}");
    let (folder, run, stderr) = made("roberta", "--pooling cls");
    assert!(stderr.contains(said), "{stderr}");
    let (_, done) = merge(&folder, &run);
    assert!(done.stderr.contains("warning: transformers will not lower-case"), "{}", done.stderr);
}

#[test]
fn a_key_that_would_quantise_the_weights_is_said_and_not_written() {
    let folder = Folder::new();
    let model = folder.copy_of("bert");
    let mut config = json(&model.join("config.json"));
    config["quantization_config"] = value!({"quant_method": "bitsandbytes", "load_in_4bit": true});
    fs::write(model.join("config.json"), config.to_string()).unwrap();
    let data = folder.write("a.tsv", toy_tsv(12, 2));
    let run = folder.path("run");
    let done = train(&model, &data, &run, "--steps 1");
    let said = "has `quantization_config`, with which transformers quantises";
    assert!(done.stderr.contains(said), "{}", done.stderr);
    let (merged, done) = merge(&folder, &run);
    assert!(done.stderr.contains(said), "{}", done.stderr);
    assert_eq!(json(&merged.join("config.json")).get("quantization_config"), None);
}
