//! What the base's files say besides the weights (how texts become ids, the arithmetic of config.json) is checked when
//! a trained task is used: with other files the same values would give other answers, without any error.

use crate::common::*;
use serde_json::{Value, json as value};
use std::fs;
use std::path::{Path, PathBuf};

/// A checkpoint whose tokenizer class follows its settings, and a task trained on it.
struct Task {
    folder: Folder,
    model: PathBuf,
    data: PathBuf,
    run: PathBuf,
}

const SETTINGS: &str = r#"{"tokenizer_class": "BertTokenizer", "do_lower_case": true}"#;

impl Task {
    fn new(fixture: &str, options: &str) -> Self {
        let folder = Folder::new();
        let model = folder.copy_of(fixture);
        if fixture == "bert" {
            fs::write(model.join("tokenizer_config.json"), SETTINGS).unwrap();
        }
        let data = folder.write("a.tsv", toy_tsv(8, 2));
        let run = folder.path("run");
        train(&model, &data, &run, &format!("--steps 2 {options}"));
        Self { folder, model, data, run }
    }

    fn settings(&self, settings: &str) {
        fs::write(self.model.join("tokenizer_config.json"), settings).unwrap();
    }

    fn all_succeed(&self) {
        self.uses().into_iter().for_each(|used| drop(used.success()));
    }

    /// Every command that uses the delta.
    fn uses(&self) -> [Finished; 3] {
        let run = |command: &str, option: &str, path: &Path| {
            let mut bitfit = bitfit([command, "--delta"]);
            Finished::of(bitfit.arg(&self.run).arg(option).arg(path))
        };
        let merged = self.folder.path("merged");
        let merge = run("merge", "--output", &merged);
        let _ = fs::remove_dir_all(merged);
        [run("eval", "--data", &self.data), run("predict", "--input", &self.data), merge]
    }
}

/// Changes a JSON file of the model.
fn edit(model: &Path, name: &str, change: impl FnOnce(&mut Value)) {
    let mut content = json(&model.join(name));
    change(&mut content);
    fs::write(model.join(name), content.to_string()).unwrap();
}

#[test]
fn a_tokenizer_that_is_another_than_in_training_is_refused_by_what_differs() {
    let task = Task::new("bert", "");
    task.all_succeed();
    for (settings, says) in [
        (
            r#"{"tokenizer_class": "BertTokenizer", "do_lower_case": false}"#,
            "tokenizer.normalizer.lowercase was true and is false",
        ),
        (
            r#"{"tokenizer_class": "BertTokenizer", "strip_accents": false}"#,
            "tokenizer.normalizer.strip_accents was null and is false",
        ),
        (
            r#"{"tokenizer_class": "BertTokenizer", "truncation_side": "left"}"#,
            "tokenizer.truncation_side was right and is left",
        ),
        (
            r#"{"tokenizer_class": "BertTokenizer", "split_special_tokens": true}"#,
            "tokenizer.split_special_tokens was false and is true",
        ),
        (
            r#"{"tokenizer_class": "BertTokenizer", "additional_special_tokens": ["harbour"]}"#,
            "tokenizer.added_tokens.harbour was not given and is ",
        ),
        (r#"{"tokenizer_class": "BertTokenizer", "sep_token": "[CLS]"}"#, "tokenizer.text was "),
    ] {
        task.settings(settings);
        for used in task.uses() {
            let folder = task.model.display().to_string();
            used.fails(1, &[&folder, "tokenizer_config.json", says, "restore them", "train again"]);
        }
    }
    task.settings(SETTINGS);
    task.all_succeed();
}

#[test]
fn another_vocabulary_and_other_arithmetic_are_refused() {
    let task = Task::new("bert", "");
    let tokenizer = fs::read(task.model.join("tokenizer.json")).unwrap();
    edit(&task.model, "tokenizer.json", |json| {
        let vocab = json["model"]["vocab"].as_object_mut().unwrap();
        let (a, b) = (vocab["harbour"].clone(), vocab["film"].clone());
        vocab.insert("harbour".into(), b);
        vocab.insert("film".into(), a);
    });
    for used in task.uses() {
        used.fails(1, &["tokenizer.model.vocab was sha256 "]);
    }
    fs::write(task.model.join("tokenizer.json"), tokenizer).unwrap();
    let config = fs::read(task.model.join("config.json")).unwrap();
    let heads = json(&task.model.join("config.json"))["num_attention_heads"].as_u64().unwrap();
    for (key, other) in [
        ("num_attention_heads", value!(heads / 2)),
        ("layer_norm_eps", value!(0.5)),
        ("hidden_act", value!("relu")),
    ] {
        edit(&task.model, "config.json", |json| json[key] = other);
        for used in task.uses() {
            used.fails(1, &[&format!("config.json.{key} was ")]);
        }
        fs::write(task.model.join("config.json"), &config).unwrap();
    }
    task.all_succeed();
}

#[test]
fn the_same_tokenizer_in_other_words_is_the_same() {
    let task = Task::new("bert", "");
    // As Rust formats it, with irrelevant keys, without the decoder, and set to truncate and pad.
    edit(&task.model, "tokenizer.json", |json| {
        json["decoder"] = Value::Null;
        json["truncation"] = value!({"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0});
        json["padding"] = Value::Null;
    });
    task.settings(
        r#"{"do_lower_case": true, "clean_up_tokenization_spaces": true, "strip_accents": null,
            "tokenizer_class": "BertTokenizerFast", "name_or_path": "x", "model_max_length": 1000000}"#,
    );
    edit(&task.model, "config.json", |json| {
        json["architectures"] = value!(["BertForMaskedLM"]);
        json["hidden_dropout_prob"] = value!(0.5);
    });
    task.all_succeed();
}

#[test]
fn texts_are_cut_where_they_were_cut_in_training_whatever_the_files_say_now() {
    let settings =
        |n: usize| format!(r#"{{"tokenizer_class": "BertTokenizer", "model_max_length": {n}}}"#);
    let folder = Folder::new();
    let model = folder.copy_of("bert");
    fs::write(model.join("tokenizer_config.json"), settings(6)).unwrap();
    let data = folder.write("a.tsv", toy_tsv(8, 2));
    let run = folder.path("run");
    train(&model, &data, &run, "--steps 2");
    let long = folder.write("long.tsv", "text\nthe harbour is in the morning and again the film\n");
    let predict = |more: &[&str]| {
        let mut command = bitfit(["predict", "--delta"]);
        Finished::of(command.arg(&run).arg("--input").arg(&long).args(more)).success()
    };
    let before = predict(&[]).stdout;
    fs::write(model.join("tokenizer_config.json"), settings(20)).unwrap();
    let after = predict(&[]);
    assert_eq!(before, after.stdout);
    assert!(after.stderr.contains("1 text cut to 6 tokens"), "{}", after.stderr);
    assert_ne!(before, predict(&["--max-length", "20"]).stdout);
    Finished::of(bitfit(["train", "--resume", "--output"]).arg(&run))
        .fails(1, &["longest text was 6 and is 20"]);
}

#[test]
fn a_whole_model_holds_its_own_files_to_those_of_its_training() {
    let task = Task::new("bert", "--method full");
    let use_it = || {
        let mut command = bitfit(["eval", "--delta"]);
        Finished::of(command.arg(&task.run).arg("--data").arg(&task.data))
    };
    use_it().success();
    // The base may change: the model has its own files.
    task.settings("{}");
    use_it().success();
    let cased = r#"{"tokenizer_class": "BertTokenizer", "do_lower_case": false}"#;
    fs::write(task.run.join("tokenizer_config.json"), cased).unwrap();
    use_it().fails(1, &["tokenizer.normalizer.lowercase was true and is false"]);
}

#[test]
fn a_run_does_not_go_on_with_another_tokenizer_arithmetic_or_pooling() {
    let task = Task::new("bert", "--method head --pooling auto");
    let resume = || Finished::of(bitfit(["train", "--resume", "--output"]).arg(&task.run));
    resume().success();
    task.settings(r#"{"tokenizer_class": "BertTokenizer", "do_lower_case": false}"#);
    resume().fails(
        1,
        &["other settings or files", "tokenizer.normalizer.lowercase was true and is false"],
    );
    task.settings(SETTINGS);
    edit(&task.model, "config.json", |json| json["layer_norm_eps"] = value!(0.5));
    resume().fails(1, &["config.json.layer_norm_eps was "]);
}

#[test]
fn a_delta_of_an_earlier_program_is_taken_and_that_is_said_once() {
    let task = Task::new("roberta", "");
    edit_tensors(&task.run.join("bias.safetensors"), |_, metadata| {
        assert!(metadata.remove("base_files").is_some());
        assert!(metadata.remove("max_length").is_some());
    });
    let [eval, predict, merge] = task.uses().map(Finished::success);
    for used in [&eval, &predict, &merge] {
        let says = used.stderr.matches("did not record the tokenizer").count();
        assert_eq!(says, 1, "{}", used.stderr);
    }
}

/// A name that a later version of a library changes would separate every delta from its base.
#[test]
fn the_record_of_a_tokenizer_stays_what_it_is() {
    let task = Task::new("bert", "");
    let recorded = metadata(&task.run.join("bias.safetensors"))["base_files"].clone();
    let recorded: Value = serde_json::from_str(&recorded).unwrap();
    for (name, expected) in [
        ("config.json.hidden_act", "GeluErf"),
        ("config.json.layer_norm_eps", "1e-12"),
        ("config.json.position_offset", "0"),
        ("tokenizer.normalizer.type", "\"BertNormalizer\""),
        ("tokenizer.normalizer.clean_text", "true"),
        ("tokenizer.normalizer.handle_chinese_chars", "true"),
        ("tokenizer.normalizer.strip_accents", "null"),
        ("tokenizer.normalizer.lowercase", "true"),
        ("tokenizer.pre_tokenizer.type", "\"BertPreTokenizer\""),
        ("tokenizer.model.type", "\"WordPiece\""),
        ("tokenizer.model.unk_token", "\"[UNK]\""),
        ("tokenizer.split_special_tokens", "false"),
        ("tokenizer.truncation_side", "right"),
    ] {
        assert_eq!(recorded[name], expected, "{name}: {recorded:#}");
    }
}
