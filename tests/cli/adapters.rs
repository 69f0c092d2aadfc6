//! `bitfit export` and `bitfit import`: deltas as PEFT adapters and back. `scripts/check_peft.py`, which runs here if
//! Python has peft, checks what PEFT itself makes of them; `tests/fixtures/peft` has adapters saved by peft.

use crate::common::*;
use serde_json::json as value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

fn trained(folder: &Folder, model: &Path, options: &str) -> PathBuf {
    let data = folder.write("a.tsv", toy_tsv(24, 3));
    let output = folder.path("run");
    let weights = if options.contains("--weights") { "" } else { "--weights f32" };
    train(model, &data, &output, &format!("--steps 4 --lr 1e-2 {weights} {options}"));
    output
}

fn export(run: &Path, adapter: &Path) -> Finished {
    let mut command = bitfit(["export", "--delta"]);
    Finished::of(command.arg(run).arg("--peft").arg(adapter))
}

fn import(adapter: &Path, output: &Path, more: &[&str]) -> Finished {
    let mut command = bitfit(["import", "--peft"]);
    Finished::of(command.arg(adapter).args(more).arg("--output").arg(output))
}

/// An adapter saved by peft.
fn of_peft(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/peft").join(name)
}

/// A copy of it, to be damaged.
fn copy_of_peft(folder: &Folder, name: &str) -> PathBuf {
    let to = folder.path(name);
    fs::create_dir(&to).unwrap();
    for file in [CONFIG, WEIGHTS] {
        fs::copy(of_peft(name).join(file), to.join(file)).unwrap();
    }
    to
}

fn edit_json(path: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let mut content = json(path);
    edit(&mut content);
    fs::write(path, content.to_string()).unwrap();
}

fn logits(run: &Path, data: &Path) -> Vec<Vec<f64>> {
    let mut command =
        bitfit(["predict", "--precision", "f32", "--output-format", "jsonl", "--delta"]);
    let done = Finished::of(command.arg(run).arg("--input").arg(data)).success();
    let row = |line: &str| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        row["logits"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
    };
    done.stdout.lines().map(row).collect()
}

#[test]
fn an_exported_delta_comes_back_to_the_bit() {
    for (name, options) in [
        ("bert", ""),
        ("bert", "--biases query,intermediate@1,output-layernorm@0"),
        ("bert", "--method head"),
        ("bert", "--method layernorm"),
        ("bert", "--pooler reinit"),
        ("bert-mlm", ""),
        ("bert-mean", "--pooling mean"),
        ("roberta", ""),
        ("roberta", "--pooling mean --weights f16"),
    ] {
        let folder = Folder::new();
        let run = trained(&folder, &fixture(name), options);
        let (adapter, back) = (folder.path("adapter"), folder.path("back"));
        export(&run, &adapter).success();
        import(&adapter, &back, &["--model", fixture(name).to_str().unwrap()]).success();
        let delta = |folder: &Path| fs::read(folder.join("bias.safetensors")).unwrap();
        assert!(delta(&run) == delta(&back), "{name} {options}");
        let data = folder.path("a.tsv");
        assert_eq!(logits(&run, &data), logits(&back, &data), "{name} {options}");
    }
}

/// It was not trained in this folder, so there is nothing to continue, and starting again would replace it.
#[test]
fn an_imported_delta_is_not_a_run_to_resume() {
    let folder = Folder::new();
    let run = trained(&folder, &fixture("bert"), "");
    let (adapter, back) = (folder.path("adapter"), folder.path("back"));
    export(&run, &adapter).success();
    let model = fixture("bert");
    import(&adapter, &back, &["--model", model.to_str().unwrap()]).success();
    let delta = || fs::read(back.join("bias.safetensors")).unwrap();
    let before = delta();
    let data = folder.path("a.tsv");
    let mut resume = bitfit(train_args(&model, &data, &back, "--resume --steps 4 --weights f32"));
    Finished::of(&mut resume).fails(1, &["bias.safetensors", "not from a run in this folder"]);
    assert!(before == delta());
    let again = import(&adapter, &back, &["--model", model.to_str().unwrap()]);
    assert!(!again.fails(1, &["use a new folder"]).contains("--resume"));
}

#[test]
fn an_adapters_card_cuts_texts_where_the_run_did() {
    let folder = Folder::new();
    let run = trained(&folder, &fixture("bert"), "--max-length 7");
    export(&run, &folder.path("adapter")).success();
    let card = fs::read_to_string(folder.path("adapter/README.md")).unwrap();
    assert!(card.contains(", model_max_length=7)"), "{card}");
}

#[test]
fn an_adapter_has_vectors_for_linear_layers_and_layer_norms_and_the_head_whole() {
    let folder = Folder::new();
    let run = trained(&folder, &fixture("bert"), "--biases query@1,output-layernorm@0,pooler");
    let adapter = folder.path("adapter");
    export(&run, &adapter).success();
    assert_eq!(names(&adapter), ["README.md", CONFIG, WEIGHTS]);
    let config = json(&adapter.join(CONFIG));
    let expected = value!({
        "base_model_name_or_path": "./bert",
        "inference_mode": true,
        "init_weights": true,
        "modules_to_save": ["classifier", "encoder.layer.0.output.LayerNorm"],
        "peft_type": "BEFT",
        "revision": null,
        "target_modules": ["encoder.layer.1.attention.self.query", "pooler.dense"],
        "task_type": "SEQ_CLS",
    });
    assert_eq!(config, expected);
    let base = tensors(&fixture("bert").join("model.safetensors"));
    let delta = tensors(&run.join("bias.safetensors"));
    let made = tensors(&adapter.join(WEIGHTS));
    let encoder = "base_model.model.bert.encoder.layer";
    let query = "bert.encoder.layer.1.attention.self.query.bias";
    let (shape, vector) = &made[&format!("{encoder}.1.attention.self.query.beft_bias")];
    assert_eq!(*shape, [1, 64]);
    for (i, added) in vector.iter().enumerate() {
        assert_eq!(*added, delta[query].1[i] - base[query].1[i]);
    }
    let norm = "bert.encoder.layer.0.output.LayerNorm";
    assert_eq!(made[&format!("base_model.model.{norm}.bias")], delta[&format!("{norm}.bias")]);
    assert_eq!(made[&format!("base_model.model.{norm}.weight")], base[&format!("{norm}.weight")]);
    assert_eq!(made["base_model.model.classifier.weight"], delta["classifier.weight"]);
    assert_eq!(made.len(), 6);
}

/// With a task type, PEFT wraps RoBERTa's head as one module and cannot merge it.
#[test]
fn robertas_head_is_saved_layer_by_layer_and_its_class_is_named() {
    let folder = Folder::new();
    let run = trained(&folder, &fixture("roberta"), "");
    let adapter = folder.path("adapter");
    export(&run, &adapter).success();
    let config = json(&adapter.join(CONFIG));
    assert_eq!(config["task_type"], value!(null));
    let saved = config["modules_to_save"].as_array().unwrap();
    for module in ["classifier.dense", "classifier.out_proj"] {
        assert!(saved.contains(&value!(module)), "{config}");
    }
    let mapping = value!({
        "base_model_class": "RobertaForSequenceClassification",
        "parent_library": "transformers.models.roberta.modeling_roberta",
    });
    assert_eq!(config["auto_mapping"], mapping);
}

#[test]
fn what_beft_has_no_place_for_is_refused_by_name_and_nothing_is_written() {
    for (model, options, tensor) in [
        ("bert", "--method lora", "lora_A.weight"),
        ("bert", "--method ia3", ".ia3_l"),
        ("bert", "--method random --biases query", ".sparse_index"),
        ("bert-mlm", "--task masked-lm", "cls.predictions.bias"),
    ] {
        let folder = Folder::new();
        let run = match options.contains("masked") {
            true => {
                let data = folder.write("a.txt", "the harbour is in the morning\n".repeat(8));
                train(&fixture(model), &data, &folder.path("run"), &format!("--steps 2 {options}"));
                folder.path("run")
            }
            false => trained(&folder, &fixture(model), options),
        };
        let adapter = folder.path("adapter");
        export(&run, &adapter).fails(1, &["bias.safetensors", tensor, "BEFT cannot hold this"]);
        assert!(!adapter.exists(), "{options}");
    }
}

#[test]
fn a_folder_in_use_is_not_written_into() {
    let folder = Folder::new();
    let run = trained(&folder, &fixture("bert"), "");
    let adapter = folder.path("adapter");
    export(&run, &adapter).success();
    let before = fs::read(adapter.join(WEIGHTS)).unwrap();
    for taken in [adapter.clone(), run.clone(), folder.copy_of("bert")] {
        let there = names(&taken);
        export(&run, &taken)
            .fails(1, &["--peft", "the folder has a run, a model or another adapter"]);
        assert_eq!(names(&taken), there);
    }
    assert_eq!(fs::read(adapter.join(WEIGHTS)).unwrap(), before);
    import(&adapter, &adapter, &[]).fails(2, &["--output", "which the command reads"]);
    import(&adapter, &run, &["--model", fixture("bert").to_str().unwrap()])
        .fails(1, &["--output", "has another run"]);
    assert_eq!(names(&adapter), ["README.md", CONFIG, WEIGHTS]);
}

#[test]
fn adapters_that_peft_saved_answer_as_they_do_there() {
    let expected = json(&of_peft("expected.json"));
    for (name, method, biases) in [
        ("beft", "bitfit", "all"),
        ("beft-some", "bitfit", "query@1,intermediate"),
        (
            "beft-roberta",
            "bitfit",
            "query,key,value,attention-output,attention-layernorm,intermediate,output,\
          output-layernorm,embeddings-layernorm",
        ),
        ("lora-biases", "bitfit", "all"),
        ("ln-tuning", "layernorm", "attention-layernorm,output-layernorm,embeddings-layernorm"),
    ] {
        let folder = Folder::new();
        let run = folder.path("run");
        let base = fixture(expected[name]["model"].as_str().unwrap());
        import(&of_peft(name), &run, &["--model", base.to_str().unwrap()]).success();
        let said = metadata(&run.join("bias.safetensors"));
        assert_eq!([said["method"].as_str(), said["biases"].as_str()], [method, biases], "{name}");
        let theirs = expected[name]["logits"].as_array().unwrap();
        let ours = logits(&run, &base.join("texts.tsv"));
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(theirs) {
            for (ours, theirs) in ours.iter().zip(theirs.as_array().unwrap()) {
                let theirs = theirs.as_f64().unwrap();
                assert!((ours - theirs).abs() < 1e-5, "{name}: {ours} and {theirs}");
            }
        }
    }
}

#[test]
fn the_user_says_what_an_adapter_does_not() {
    let folder = Folder::new();
    let base = fixture("bert");
    let base = base.to_str().unwrap();
    let imported = |name: &str, run: &str, more: &[&str]| {
        let run = folder.path(run);
        let done = import(&of_peft(name), &run, &[&["--model", base], more].concat());
        (done, run)
    };
    let says = |run: &Path, key: &str| metadata(&run.join("bias.safetensors"))[key].clone();
    let (done, run) = imported("beft", "a", &[]);
    done.success();
    assert_eq!(says(&run, "labels"), r#"["LABEL_0","LABEL_1","LABEL_2"]"#);
    assert_eq!(says(&run, "task"), "classification");
    let (done, run) = imported("beft", "b", &["--labels", "sea, land,people"]);
    done.success();
    assert_eq!(says(&run, "labels"), r#"["sea","land","people"]"#);
    let (done, run) =
        imported("beft", "c", &["--labels", r#"["a,b","c","d"]"#, "--task", "multi-label"]);
    done.success();
    assert_eq!([says(&run, "labels"), says(&run, "task")], [r#"["a,b","c","d"]"#, "multi-label"]);
    let (done, run) = imported("beft-tokens", "d", &[]);
    done.success();
    assert_eq!([says(&run, "task"), says(&run, "pooling")], ["token-classification", "auto"]);

    for (labels, said) in [
        ("a,b", "2 names for a head with 3 outputs"),
        ("[1]", "not a JSON list of names"),
        ("a,a,b", "two classes are called \"a\""),
    ] {
        imported("beft", "e", &["--labels", labels]).0.fails(2, &["--labels", said]);
    }
    let (done, _) = imported("beft", "e", &["--task", "regression", "--labels", "a,b,c"]);
    done.fails(2, &["--labels does not apply to --task regression"]);
    // An adapter written by this program says everything itself.
    let adapter = folder.path("adapter");
    export(&run, &adapter).success();
    import(&adapter, &folder.path("f"), &["--labels", "a"])
        .fails(2, &["--labels", "leave the option out"]);
}

#[test]
fn an_adapter_that_is_more_than_a_delta_is_refused_by_name() {
    let folder = Folder::new();
    let base = fixture("bert");
    for (name, parts) in [
        ("lora", &["lora_A.weight", "changes the matrix of", "merge_and_unload"][..]),
        ("beft-gains", &["LayerNorm.weight", ".bias", "no single method trains"]),
        ("ia3", &["adapter_config.json", "IA3", "BEFT"]),
    ] {
        let run = folder.path("run");
        import(&of_peft(name), &run, &["--model", base.to_str().unwrap()]).fails(1, parts);
        assert!(!run.exists(), "{name}");
    }
}

#[test]
fn a_damaged_adapter_is_refused_by_name() {
    type Edit = fn(&mut std::collections::BTreeMap<String, RawTensor>);
    let query = "base_model.model.bert.encoder.layer.0.attention.self.query.beft_bias";
    let cases: [(&str, Edit, &[&str]); 9] = [
        (
            "missing",
            |t| t.retain(|name, _| !name.contains("layer.0.attention.self.query")),
            &["query.beft_bias", "missing"],
        ),
        (
            "missing head",
            |t| drop(t.remove("base_model.model.classifier.weight")),
            &["classifier.weight", "missing"],
        ),
        (
            "no head",
            |t| t.retain(|name, _| !name.contains("classifier")),
            &["no head", "modules_to_save"],
        ),
        (
            "half a LayerNorm",
            |t| drop(t.remove("base_model.model.bert.embeddings.LayerNorm.bias")),
            &["embeddings.LayerNorm.bias", "missing"],
        ),
        (
            "other width",
            |t| {
                let tensor = t
                    .get_mut("base_model.model.bert.encoder.layer.0.attention.self.query.beft_bias")
                    .unwrap();
                tensor.shape = vec![1, 32];
                tensor.bytes.truncate(128);
            },
            &["query.beft_bias", "32 values", "another model"],
        ),
        (
            "two rows",
            |t| {
                let tensor = t
                    .get_mut("base_model.model.bert.encoder.layer.0.attention.self.query.beft_bias")
                    .unwrap();
                tensor.shape = vec![2, 32];
            },
            &["query.beft_bias", "should be one row"],
        ),
        (
            "not a number",
            |t| {
                let tensor = t
                    .get_mut("base_model.model.bert.encoder.layer.0.attention.self.query.beft_bias")
                    .unwrap();
                tensor.bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
            },
            &["query.beft_bias", "NaN"],
        ),
        (
            "too large",
            |t| {
                let tensor =
                    t.get_mut("base_model.model.bert.embeddings.LayerNorm.weight").unwrap();
                tensor.bytes[..4].copy_from_slice(&2f32.to_le_bytes());
            },
            &["embeddings.LayerNorm.weight", "no single method trains"],
        ),
        (
            "a matrix",
            |t| {
                let RawTensor { dtype, .. } = t["base_model.model.classifier.weight"];
                let bytes = vec![0; 64 * 64 * 4];
                let tensor = RawTensor { dtype, shape: vec![64, 64], bytes };
                t.insert(
                    "base_model.model.bert.encoder.layer.0.output.dense.weight".into(),
                    tensor,
                );
            },
            &["output.dense.weight", "only biases, LayerNorms and the head"],
        ),
    ];
    for (what, edit, parts) in cases {
        let folder = Folder::new();
        let adapter = copy_of_peft(&folder, "beft");
        edit_tensors(&adapter.join(WEIGHTS), |tensors, _| {
            assert!(tensors.contains_key(query), "{what}");
            edit(tensors);
        });
        let run = folder.path("run");
        let base = fixture("bert");
        import(&adapter, &run, &["--model", base.to_str().unwrap()]).fails(1, parts);
        assert!(!run.exists(), "{what}");
    }
}

#[test]
fn a_folder_that_is_no_adapter_is_refused_with_what_to_do() {
    let folder = Folder::new();
    let refused = |adapter: &Path, more: &[&str], code: i32, parts: &[&str]| {
        let run = folder.path("run");
        import(adapter, &run, more).fails(code, parts);
        assert!(!run.exists());
    };
    refused(&fixture("bert"), &[], 1, &[CONFIG, "not the folder of a PEFT adapter"]);
    refused(&folder.path("none"), &[], 1, &["none", CONFIG]);
    let adapter = copy_of_peft(&folder, "beft");
    let base = fixture("bert");
    edit_json(&adapter.join(CONFIG), |c| c["base_model_name_or_path"] = value!("./nowhere"));
    refused(&adapter, &[], 1, &["names ./nowhere as its base model", "give --model"]);
    edit_json(&adapter.join(CONFIG), |c| c["base_model_name_or_path"] = value!(null));
    refused(&adapter, &[], 2, &["--model is missing", "does not name its base"]);
    let on_base = ["--model", base.to_str().unwrap()];
    edit_json(&adapter.join(CONFIG), |c| c["task_type"] = value!("CAUSAL_LM"));
    refused(&adapter, &on_base, 1, &["CAUSAL_LM", "--task"]);
    edit_json(&adapter.join(CONFIG), |c| c["peft_type"] = value!(7));
    refused(&adapter, &on_base, 1, &[CONFIG, "`peft_type` is 7"]);
    fs::write(adapter.join(CONFIG), "{").unwrap();
    refused(&adapter, &on_base, 1, &[CONFIG, "not JSON"]);
    fs::copy(of_peft("beft").join(CONFIG), adapter.join(CONFIG)).unwrap();
    fs::write(adapter.join(WEIGHTS), [0; 40]).unwrap();
    refused(&adapter, &on_base, 1, &[WEIGHTS, "safetensors"]);
    fs::remove_file(adapter.join(WEIGHTS)).unwrap();
    refused(&adapter, &on_base, 1, &[WEIGHTS, "safe_serialization=True"]);
    // Of a different shape, and of the same shape with other weights.
    refused(
        &of_peft("beft"),
        &["--model", fixture("bert-mlm").to_str().unwrap()],
        1,
        &["another model"],
    );
}

#[test]
fn an_exported_adapter_is_held_to_its_base_and_to_what_it_was_written_as() {
    let folder = Folder::new();
    let run = trained(&folder, &fixture("bert"), "");
    let adapter = folder.path("adapter");
    export(&run, &adapter).success();
    let other = folder.copy_of("bert");
    edit_tensors(&other.join("model.safetensors"), |tensors, _| {
        tensors.get_mut("bert.embeddings.LayerNorm.weight").unwrap().bytes[0] ^= 1;
    });
    let back = folder.path("back");
    import(&adapter, &back, &["--model", other.to_str().unwrap()])
        .fails(1, &["trained on another base model"]);
    let base = fixture("bert");
    let on_base = ["--model", base.to_str().unwrap()];
    edit_tensors(&adapter.join(WEIGHTS), |tensors, metadata| {
        let key = "base_model.model.bert.encoder.layer.0.attention.self.query.beft_bias";
        tensors.get_mut(key).unwrap().bytes[1] ^= 1;
        let exact = value!({"bert.encoder.layer.0.attention.self.query.bias": [[0, 1065353216]]});
        metadata.insert("beft_exact".into(), exact.to_string());
    });
    import(&adapter, &back, &on_base).fails(1, &["query.beft_bias", "beft_exact", "was changed"]);
    assert!(!back.exists());
}

#[test]
fn peft_itself_computes_the_same_from_an_export() {
    let Some(python) = python_that("import peft; from peft import BeftConfig") else {
        eprintln!("skipped: no Python with peft; BITFIT_PYTHON names one");
        return;
    };
    for (name, options) in
        [("bert", ""), ("roberta", ""), ("bert-mean", "--pooling mean"), ("bert", "--method head")]
    {
        let folder = Folder::new();
        let run = trained(&folder, &fixture(name), &format!("--precision f32 {options}"));
        let (adapter, merged) = (folder.path("adapter"), folder.path("merged"));
        export(&run, &adapter).success();
        let mut command = bitfit(["merge", "--delta"]);
        Finished::of(command.arg(&run).arg("--output").arg(&merged)).success();
        let data = folder.path("a.tsv");
        let mut command = bitfit(["predict", "--output-format", "jsonl", "--delta"]);
        let done = Finished::of(command.arg(&run).arg("--input").arg(&data)).success();
        let predictions = folder.write("p.jsonl", done.stdout);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/check_peft.py");
        let mut command = Command::new(&python);
        command.arg(script).args([&fixture(name), &adapter, &data]);
        command.arg("--merged").arg(&merged).arg("--against").arg(&predictions);
        let done = Finished::of(command.env("HF_HUB_OFFLINE", "1"));
        eprintln!("{name} {options}: {}", done.stdout);
        done.success();
    }
}
