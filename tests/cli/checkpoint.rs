//! What a checkpoint's own files say about its use: how it pools, how long its texts are, which files and tensors are
//! its own.

use crate::common::*;
use safetensors::Dtype;
use serde_json::json as value;
use std::fs;
use std::path::{Path, PathBuf};

const TWO: &str = "text\tlabel\ngood film\tyes\nso so\tno\n";
const MEAN: &str = r#"{"pooling_mode": "mean"}"#;

/// A copy of a fixture with a file in one of its folders.
fn with(folder: &Folder, fixture: &str, name: &str, content: &str) -> PathBuf {
    let model = folder.copy_of(fixture);
    put(&model, name, content);
    model
}

fn put(model: &Path, name: &str, content: &str) {
    let path = model.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Trains one step and returns the output.
fn said(folder: &Folder, model: &Path, more: &str) -> String {
    let data = folder.write("a.tsv", TWO);
    let output = folder.path("said");
    let done = train(model, &data, &output, &format!("--steps 1 {more}"));
    fs::remove_dir_all(output).unwrap();
    done.stderr
}

#[test]
fn the_pooling_is_the_makers_in_either_form_of_its_file() {
    for (config, expected) in [
        (MEAN, "the mean over all tokens"),
        (r#"{"pooling_mode_mean_tokens": true}"#, "the mean over all tokens"),
        (r#"{"pooling_mode": "cls"}"#, "the first token"),
    ] {
        let folder = Folder::new();
        let model = with(&folder, "bert-mean", "1_Pooling/config.json", config);
        let said = said(&folder, &model, "");
        let line = format!("pooling: {expected}, as the checkpoint's makers do\n");
        assert!(said.contains(&line), "{config}: {said}");
    }
}

#[test]
fn a_way_to_pool_that_is_not_done_is_refused_until_one_is_chosen() {
    let folder = Folder::new();
    let model = with(&folder, "bert-mean", "1_Pooling/config.json", r#"{"pooling_mode": "max"}"#);
    let data = folder.write("a.tsv", TWO);
    let output = folder.path("run");
    let args = train_args(&model, &data, &output, "--steps 1");
    let failed = Finished::of(&mut bitfit(args));
    failed.fails(1, &["1_Pooling", "max", "--pooling mean"]);
    assert!(!output.exists());
    let said = said(&folder, &model, "--pooling mean");
    assert!(said.contains("pooling: the mean over all tokens\n"), "{said}");
}

/// Otherwise the next training would take the first token of a mean-pooled model, and call it the makers' way.
#[test]
fn what_is_made_from_a_mean_pooled_base_is_mean_pooled() {
    let pooling = |model: &Path| put(model, "1_Pooling/config.json", MEAN);
    let elsewhere = |model: &Path| {
        put(model, "9_Pool/config.json", MEAN);
        put(
            model,
            "modules.json",
            r#"[{"path": "", "type": "sentence_transformers.models.Transformer"},
                {"path": "9_Pool", "type": "sentence_transformers.models.Pooling"}]"#,
        );
    };
    let unsaid = |_: &Path| {};
    type Prepare = fn(&Path);
    let cases: [(Prepare, &str); 3] = [(pooling, ""), (elsewhere, ""), (unsaid, "--pooling mean")];
    for (prepare, options) in cases {
        let folder = Folder::new();
        let model = folder.copy_of("bert-mean");
        prepare(&model);
        let data = folder.write("a.tsv", TWO);
        let (run, merged, full) = (folder.path("run"), folder.path("merged"), folder.path("full"));
        train(&model, &data, &run, &format!("--steps 1 {options}"));
        merge(&run, &merged).success();
        let options = format!("--steps 1 --method full {options}");
        train(&model, &data, &full, &options);
        for made in [merged, full] {
            let said = said(&folder, &made, "");
            let line = "pooling: the mean over all tokens, as the checkpoint's makers do\n";
            assert!(said.contains(line), "{}: {said}", made.display());
            assert!(made.join("modules.json").exists());
        }
    }
}

fn merge(run: &Path, output: &Path) -> Finished {
    let mut command = bitfit(["merge", "--delta"]);
    Finished::of(command.arg(run).arg("--output").arg(output))
}

#[test]
fn files_in_the_output_are_refused_by_name_and_a_killed_merges_are_removed() {
    for (pooling, left) in [("cls", "mean"), ("mean", "cls")] {
        let folder = Folder::new();
        let data = folder.write("a.tsv", TWO);
        let run = folder.path("run");
        let options = format!("--steps 1 --pooling {pooling}");
        train(&fixture("bert-mean"), &data, &run, &options);
        let merged = folder.path("merged");
        let stale = format!(r#"{{"pooling_mode": "{left}"}}"#);
        put(&merged, "1_Pooling/config.json", &stale);
        // The base has only a vocab.txt: this one would be read before it.
        put(&merged, "tokenizer.json", "{}");
        put(&merged, "notes.txt", "mine");
        put(&merged, "sentence_bert_config.json", r#"{"max_seq_length": 7}"#);
        put(&merged, "head.safetensors", "mine");
        let before = names(&merged);
        let files =
            "tokenizer.json, 1_Pooling/config.json, sentence_bert_config.json, head.safetensors";
        let refused =
            ["--output", &format!("the folder has {files}, which the model would replace")];
        merge(&run, &merged).fails(1, &refused);
        assert_eq!(names(&merged), before);
        assert_eq!(fs::read(merged.join("tokenizer.json")).unwrap(), b"{}");
        // A killed process has left its lock, and had found none of these.
        put(&merged, "run.lock", "pid 1");
        let done = merge(&run, &merged).success();
        assert!(done.stderr.contains("removed tokenizer.json"), "{}", done.stderr);
        assert_eq!(fs::read(merged.join("notes.txt")).unwrap(), b"mine");
        assert!(!merged.join("tokenizer.json").exists());
        assert!(!merged.join("sentence_bert_config.json").exists());
        let vector = match pooling {
            "cls" => "the first token",
            _ => "the mean over all tokens",
        };
        let said = said(&folder, &merged, "");
        assert!(said.contains(&format!("pooling: {vector}, as")), "{said}");
    }
}

#[test]
fn the_makers_longest_text_is_kept_to_and_said() {
    let folder = Folder::new();
    let config = r#"{"max_seq_length": 5, "do_lower_case": false}"#;
    let model = with(&folder, "bert", "sentence_bert_config.json", config);
    let data = folder.write("long.tsv", "text\tlabel\nthe film is good and long\ta\nno\tb\n");
    let run = folder.path("run");
    let done = train(&model, &data, &run, "--steps 1");
    assert!(
        done.stderr.contains(
            "texts are cut to 5 tokens, as set by max_seq_length in sentence_bert_config.json"
        ),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("1 text cut to 5 tokens"), "{}", done.stderr);
    // Models made from it follow it as well.
    let merged = folder.path("merged");
    merge(&run, &merged).success();
    assert!(said(&folder, &merged, "").contains("texts are cut to 5 tokens"));
    let said = said(&folder, &model, "--max-length 20");
    assert!(!said.contains("cut to"), "{said}");

    let folder = Folder::new();
    let model = with(
        &folder,
        "bert",
        "tokenizer_config.json",
        r#"{"tokenizer_class": "BertTokenizer", "model_max_length": 6}"#,
    );
    let said = self::said(&folder, &model, "");
    assert!(said.contains("as set by model_max_length in tokenizer_config.json"), "{said}");
}

#[test]
fn a_sentence_encoder_that_lower_cases_its_texts_does_so_here() {
    for (lower, same) in [("true", true), ("false", false)] {
        let folder = Folder::new();
        let config = format!(r#"{{"do_lower_case": {lower}}}"#);
        // Its vocabulary has both cases.
        let model = with(&folder, "bert-mean", "sentence_bert_config.json", &config);
        let data = folder.write("a.tsv", TWO);
        let run = folder.path("run");
        train(&model, &data, &run, "--steps 1 --pooling mean");
        let input = folder.write("two.tsv", "text\ngood film\nGOOD FILM\n");
        let mut command = bitfit(["predict", "--quiet", "--threads", "1", "--delta"]);
        let predicted = Finished::of(command.arg(&run).arg("--input").arg(&input)).success().stdout;
        let lines: Vec<&str> = predicted.lines().skip(1).collect();
        let results = lines.iter().map(|line| line.split_once('\t').unwrap().1);
        let results: Vec<&str> = results.collect();
        assert_eq!(results[0] == results[1], same, "{predicted}");
    }
}

#[test]
fn tensors_that_the_model_does_not_have_stop_nothing_and_stay_out_of_a_merge() {
    let folder = Folder::new();
    let model = folder.copy_of("bert");
    edit_tensors(&model.join("model.safetensors"), |tensors, _| {
        for (name, dtype, bytes) in [
            ("bert.embeddings.position_ids", Dtype::I64, 64 * 8),
            ("bert.embeddings.token_type_ids", Dtype::I64, 64 * 8),
            ("bert.encoder.layer.0.attention.self.steps", Dtype::I32, 64 * 4),
            ("bert.encoder.layer.1.mask", Dtype::BOOL, 64),
            ("bert.encoder.layer.9.output.dense.bias", Dtype::F32, 64 * 4),
        ] {
            let shape = vec![64];
            let bytes = vec![0; bytes];
            tensors.insert(name.into(), RawTensor { dtype, shape, bytes });
        }
    });
    let data = folder.write("a.tsv", TWO);
    let (run, merged) = (folder.path("run"), folder.path("merged"));
    train(&model, &data, &run, "--steps 1");
    merge(&run, &merged).success();
    let base = tensors(&fixture("bert").join("model.safetensors"));
    let made = tensors(&merged.join("model.safetensors"));
    assert!(made.keys().eq(base.keys()));
    let full = folder.path("full");
    train(&model, &data, &full, "--steps 1 --method full");
    assert!(tensors(&full.join("model.safetensors")).keys().eq(base.keys()));
    assert_eq!(
        json(&full.join("config.json"))["architectures"],
        value!(["BertForSequenceClassification"])
    );
}

/// RoBERTa's positions start after the padding id, which is 1 in its configuration class.
#[test]
fn a_key_that_is_left_out_counts_as_in_transformers() {
    let loss = |config: &dyn Fn(&mut serde_json::Map<String, serde_json::Value>)| {
        let folder = Folder::new();
        let model = folder.copy_of("roberta");
        let mut json = json(&model.join("config.json"));
        config(json.as_object_mut().unwrap());
        put(&model, "config.json", &json.to_string());
        let data = folder.write("a.tsv", TWO);
        let run = folder.path("run");
        train(&model, &data, &run, "--steps 1 --weights f32 --no-shuffle");
        number(&steps(&run)[0], "loss")
    };
    let as_it_is = loss(&|_| {});
    for key in ["pad_token_id", "hidden_act", "hidden_dropout_prob"] {
        let without = loss(&|json| drop(json.remove(key).unwrap()));
        assert_eq!(without, as_it_is, "{key}");
    }
    let other = loss(&|json| drop(json.insert("pad_token_id".into(), 0.into())));
    assert_ne!(other, as_it_is);
}

#[test]
fn a_padding_id_of_null_is_refused_where_positions_count_from_it() {
    let folder = Folder::new();
    let model = folder.copy_of("roberta");
    let mut config = json(&model.join("config.json"));
    config["pad_token_id"] = value!(null);
    put(&model, "config.json", &config.to_string());
    let data = folder.write("a.tsv", TWO);
    let args = train_args(&model, &data, &folder.path("run"), "--steps 1");
    Finished::of(&mut bitfit(args)).fails(1, &["config.json", "`pad_token_id` is null"]);
}
