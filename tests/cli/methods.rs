//! Each method next to bitfit, end to end: it learns, resumes to the same bits, is measured, answers, is inspected and
//! merged. And its options are accepted only with it.
#![cfg(unix)]

use crate::common::*;
use crate::resume::{reaches, same_end};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// A method, its model, its options, and the endings of the names of what trains in the encoder.
struct Method {
    name: &'static str,
    options: &'static str,
    trains: &'static [&'static str],
    /// Whether it is for models whose linear layers have no biases.
    without_biases: bool,
}

const METHODS: [Method; 6] = [
    Method {
        name: "layernorm",
        options: "--lr 1e-2",
        trains: &["LayerNorm.weight", "LayerNorm.bias"],
        without_biases: false,
    },
    Method {
        name: "ia3",
        options: "--lr 5e-2",
        trains: &["key.ia3_l", "value.ia3_l", "output.dense.ia3_l"],
        without_biases: false,
    },
    Method {
        name: "lora",
        options: "--lr 5e-3 --lora-rank 4 --lora-alpha 8 --lora-dropout 0.1 --lora-on query,value,output",
        trains: &["lora_A.weight", "lora_B.weight"],
        without_biases: false,
    },
    Method {
        name: "random",
        options: "--lr 1e-2 --seed 3",
        trains: &["sparse_values"],
        without_biases: false,
    },
    Method {
        name: "rows",
        options: "--lr 3e-2",
        trains: &["weight.sparse_values"],
        without_biases: false,
    },
    Method {
        name: "added-biases",
        options: "--lr 1e-2",
        trains: &["query.bias", "key.bias", "value.bias", "dense.bias"],
        without_biases: true,
    },
];

/// A fixture checkpoint whose blocks have no biases except the LayerNorms'.
fn without_biases(folder: &Folder, name: &str) -> PathBuf {
    let model = folder.copy_of(name);
    edit_tensors(&model.join("model.safetensors"), |tensors, _| {
        tensors.retain(|name, _| {
            let linear = name.contains("encoder.layer.") && !name.contains("LayerNorm");
            !linear || !name.ends_with(".bias")
        });
    });
    model
}

fn str_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

struct Trained {
    folder: Folder,
    model: PathBuf,
    data: PathBuf,
    run: PathBuf,
    options: String,
}

impl Trained {
    fn new(method: &Method, model: &str, more: &str) -> Self {
        let folder = Folder::new();
        let model = match method.without_biases {
            true => without_biases(&folder, model),
            false => fixture(model),
        };
        let data = folder.write("a.tsv", toy_tsv(48, 2));
        let run = folder.path("run");
        let options = format!(
            "--method {} {} --epochs 20 --batch-size 8 --dropout 0.1 --dev {} {more}",
            method.name,
            method.options,
            data.display()
        );
        train(&model, &data, &run, &options);
        Self { folder, model, data, run, options }
    }

    fn of_run(&self, command: &str, run: &Path, more: &[&str]) -> Finished {
        let mut command = bitfit([command, "--delta"]);
        Finished::of(command.arg(run).args(more)).success()
    }
}

#[test]
fn each_method_learns_and_its_delta_holds_what_trained_and_nothing_else() {
    for method in &METHODS {
        for model in ["bert", "roberta"] {
            let trained = Trained::new(method, model, "");
            let result = json(&trained.run.join("result.json"));
            assert!(number(&result["best"], "value") > 0.8, "{} {model}: {result}", method.name);
            let delta = tensors(&trained.run.join("bias.safetensors"));
            let values: usize = delta.values().map(|(_, values)| values.len()).sum();
            assert_eq!(number(&result, "trained_parameters"), values as f64);
            for name in delta.keys().filter(|name| !name.starts_with("classifier")) {
                let known = method.trains.iter().any(|end| name.ends_with(end));
                assert!(known, "{} {model}: {name}", method.name);
            }
            for end in method.trains {
                assert!(delta.keys().any(|name| name.ends_with(end)), "{}: {end}", method.name);
            }
            let about = metadata(&trained.run.join("bias.safetensors"));
            assert_eq!(about["method"], method.name);
        }
    }
}

#[test]
fn each_method_killed_twice_comes_to_the_same_bits() {
    for method in &METHODS {
        let whole = Trained::new(method, "bert", "--save-steps 5");
        let output = whole.folder.path("killed");
        let args = train_args(&whole.model, &whole.data, &output, &whole.options);
        let mut child = bitfit(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut killed = 0;
        for lines in [12, 60] {
            if !reaches(&mut child, &output, lines) {
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            killed += 1;
            let mut again = bitfit(["train", "--resume", "--output"]);
            again.arg(&output).stdout(Stdio::null()).stderr(Stdio::null());
            child = again.spawn().unwrap();
        }
        assert!(child.wait().unwrap().success() && killed > 0, "{}", method.name);
        same_end(&whole.run, &output);
    }
}

#[test]
fn each_method_is_measured_answers_and_is_looked_at() {
    for method in &METHODS {
        let trained = Trained::new(method, "roberta", "");
        let data = str_of(&trained.data);
        let measured = trained.folder.path("eval.json");
        let more = ["--threads", "1", "--data", data, "--output", str_of(&measured)];
        trained.of_run("eval", &trained.run, &more);
        let best = json(&trained.run.join("result.json"))["best"].clone();
        assert_eq!(number(&json(&measured), "accuracy"), number(&best, "value"), "{}", method.name);
        let answers = trained.of_run("predict", &trained.run, &["--input", data]).stdout;
        assert_eq!(answers.lines().count(), 49, "{answers}");
        let looked = trained.of_run("inspect", &trained.run, &[]).stdout;
        assert!(looked.contains(method.name) && looked.contains("mean |Δ"), "{looked}");
    }
}

#[test]
fn each_method_merged_answers_as_its_run() {
    for method in &METHODS {
        for (model, pooling) in [("bert", "cls"), ("roberta", "cls"), ("bert-mean", "mean")] {
            let more = format!("--weights f32 --precision f32 --pooling {pooling}");
            let trained = Trained::new(method, model, &more);
            let merged = trained.folder.path("merged");
            trained.of_run("merge", &trained.run, &["--output", str_of(&merged)]);
            // Frozen except the head, which starts from the merged one and does not move at a rate of almost 0.
            let head = match pooling {
                "mean" => merged.join("head.safetensors"),
                _ => merged.join("model.safetensors"),
            };
            let again = trained.folder.path("again");
            let options = format!(
                "--steps 1 --lr 1e-30 --method head --weights f32 --precision f32 --pooling {pooling} --init-head {}",
                head.display()
            );
            train(&merged, &trained.data, &again, &options);
            let data = str_of(&trained.data);
            let logits = |run: &Path| -> Vec<f64> {
                let more = ["--output-format", "jsonl", "--input", data];
                let out = trained.of_run("predict", run, &more).stdout;
                let lines = out.lines().map(|line| serde_json::from_str(line).unwrap());
                let all = lines.flat_map(|line: serde_json::Value| {
                    line["logits"].as_array().cloned().unwrap_or_default()
                });
                all.map(|logit| logit.as_f64().unwrap()).collect()
            };
            let (ours, merged) = (logits(&trained.run), logits(&again));
            assert_eq!((ours.len(), merged.len()), (96, 96));
            for (a, b) in ours.iter().zip(&merged) {
                assert!((a - b).abs() < 1e-4, "{} {model}: {a} and {b}", method.name);
            }
        }
    }
}

#[test]
fn a_run_begins_where_another_of_its_method_ended_and_one_that_would_lose_something_is_refused() {
    for method in &METHODS {
        let trained = Trained::new(method, "bert", "");
        let run = |name: &str, options: &str| {
            let from =
                format!("{options} --steps 1 --lr 1e-9 --init-delta {}", trained.run.display());
            let output = trained.folder.path(name);
            let args = train_args(&trained.model, &trained.data, &output, &from);
            (Finished::of(&mut bitfit(args)), output)
        };
        let of_lora = method.options.split_once(' ').and_then(|(_, rest)| rest.split_once(' '));
        let own = of_lora.map_or("", |(_, rest)| rest);
        let (done, output) = run("further", &format!("--method {} {own}", method.name));
        if method.trains.iter().any(|end| end.ends_with("sparse_values")) {
            done.fails(2, &["--init-delta", "trains those that it draws"]);
            continue;
        }
        let told = done.success().stderr;
        let before = tensors(&trained.run.join("bias.safetensors"));
        let after = tensors(&output.join("bias.safetensors"));
        let learned = before.iter().filter(|(name, _)| name.starts_with("bert.encoder"));
        let mut count = 0;
        for (name, (_, values)) in learned {
            count += 1;
            let near = values.iter().zip(&after[name].1).all(|(a, b)| (a - b).abs() < 1e-6);
            assert!(near, "{}: {name}; {told}", method.name);
        }
        assert!(count > 3 && told.contains("of the encoder"), "{told}");
        let other = if method.name == "lora" { "ia3" } else { "lora" };
        let (lost, _) = run("lost", &format!("--method {other}"));
        if method.without_biases {
            lost.fails(1, &["is missing"]);
        } else {
            lost.fails(1, &["--init-delta", "has trained `bert.", "would lack it", method.name]);
        }
    }
}

#[test]
fn a_product_too_large_to_compute_with_is_not_merged() {
    let trained = Trained::new(&METHODS[2], "bert", "");
    let delta = trained.run.join("bias.safetensors");
    edit_tensors(&delta, |tensors, _| {
        let ends = ["query.lora_A.weight", "query.lora_B.weight"];
        let factors =
            tensors.iter_mut().filter(|(name, _)| ends.iter().any(|end| name.ends_with(end)));
        factors.for_each(|(_, tensor)| {
            let values = tensor.bytes.chunks_exact_mut(4);
            values.for_each(|value| value.copy_from_slice(&1e30f32.to_le_bytes()));
        });
    });
    let merged = trained.folder.path("merged");
    let mut merge = bitfit(["merge", "--delta"]);
    merge.arg(&trained.run).arg("--output").arg(&merged);
    Finished::of(&mut merge).fails(1, &["query.weight` is not finite", "too large"]);
    assert!(!merged.exists());
}

/// The file says where its values belong, and a changed place is refused.
#[test]
fn a_delta_of_single_values_says_where_they_belong_and_holds_to_it() {
    let trained = Trained::new(&METHODS[3], "bert", "");
    let path = trained.run.join("bias.safetensors");
    let values = tensors(&path);
    let base = tensors(&trained.model.join("model.safetensors"));
    let biases =
        base.iter().filter(|(name, _)| name.ends_with(".bias") && name.starts_with("bert."));
    let count: usize = biases.map(|(_, (_, values))| values.len()).sum();
    let mut chosen = 0;
    edit_tensors(&path, |tensors, _| {
        for (name, index) in
            tensors.iter().filter(|(_, tensor)| tensor.dtype == safetensors::Dtype::I32)
        {
            let of = name.strip_suffix(".sparse_index").unwrap();
            assert_eq!(values[&format!("{of}.sparse_values")].0, index.shape, "{name}");
            let words = index.bytes.chunks_exact(4);
            let places: Vec<i32> =
                words.map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect();
            let last = *places.last().unwrap() as usize;
            assert!(last < base[of].1.len(), "{name}: {last}");
            chosen += places.len();
        }
        let (name, index) =
            tensors.iter_mut().find(|(_, tensor)| tensor.dtype == safetensors::Dtype::I32).unwrap();
        assert!(name.ends_with(".sparse_index"));
        let last = index.bytes.len() - 4;
        index.bytes[last] ^= 1;
    });
    assert_eq!(chosen, count, "as many as biases");
    let mut eval = bitfit(["eval", "--delta"]);
    eval.arg(&trained.run).arg("--data").arg(&trained.data);
    Finished::of(&mut eval).fails(1, &["sparse_index", "seed"]);
}

#[test]
fn inspect_counts_what_the_method_trains_row_by_row() {
    let folder = Folder::new();
    let model = folder.copy_of("bert");
    let trains = |method: &str| -> Vec<(String, String)> {
        let mut command = bitfit(["inspect", "--method", method, "--model"]);
        let said = Finished::of(command.arg(&model)).success().stdout;
        let rows = said.lines().skip_while(|line| !line.starts_with('─')).skip(1);
        let rows = rows.take_while(|line| !line.is_empty() && !line.starts_with("--"));
        let cells = rows.map(|line| line.split("  ").filter(|cell| !cell.is_empty()));
        cells
            .map(|mut cells| (cells.next().unwrap().into(), cells.last().unwrap().into()))
            .collect()
    };
    let of = |rows: &[(String, String)], row: &str| -> String {
        let found = rows.iter().find(|(name, _)| name.trim() == row);
        found.unwrap_or_else(|| panic!("no {row} in {rows:?}")).1.trim().to_owned()
    };
    let head = trains("head");
    assert!(head.iter().all(|(_, trains)| trains.trim() == "-"), "{head:?}");
    // 2 layers of 2 LayerNorms of 64, and the embeddings'.
    let norms = trains("layernorm");
    assert_eq!(of(&norms, "LayerNorm gains"), "320");
    assert_eq!(of(&norms, "all of the encoder"), "640");
    assert_eq!(of(&norms, "query"), "-");
    let full = trains("full");
    assert!(full.iter().all(|(_, trains)| trains.trim() != "-"), "{full:?}");
    let all = trains("bitfit");
    assert_eq!((of(&all, "pooler"), of(&all, "all of the encoder")), ("64".into(), "1,280".into()));
    // The mean of the tokens needs no pooler.
    std::fs::create_dir(model.join("1_Pooling")).unwrap();
    std::fs::write(
        model.join("1_Pooling/config.json"),
        r#"{"word_embedding_dimension": 64, "pooling_mode_mean_tokens": true}"#,
    )
    .unwrap();
    let all = trains("bitfit");
    assert_eq!((of(&all, "pooler"), of(&all, "all of the encoder")), ("-".into(), "1,216".into()));
}

/// The number of values a control trains is reported before it does.
#[test]
fn controls_tell_how_many_values_they_train() {
    let inspect = |more: &[&str]| {
        let mut command = bitfit(["inspect", "--model"]);
        Finished::of(command.arg(fixture("bert")).args(more)).success().stdout
    };
    // 2 layers of 7·64 + 128 biases, and 64 of the embeddings' LayerNorm and of the pooler.
    let said = inspect(&["--method", "random"]);
    assert!(said.contains("--method random, as many as biases all trains 1,280 values"), "{said}");
    let said = inspect(&["--method", "random", "--biases", "query"]);
    assert!(said.contains("as many as biases query trains 128 values"), "{said}");
    let said = inspect(&["--method", "rows"]);
    assert!(said.contains("--method rows, about as many as biases all trains 1,2"), "{said}");
    let folder = Folder::new();
    let data = folder.write("a.txt", "a text\n");
    let mut masked = bitfit(train_args(
        &fixture("bert-mlm"),
        &data,
        &folder.path("run"),
        "--task masked-lm --method random",
    ));
    Finished::of(&mut masked)
        .fails(2, &["random is not for --task masked-lm", "table of the words"]);
}

/// A missing bias may just as well mean a damaged file: one is added only on request, and that is reported.
#[test]
fn biases_are_added_where_there_are_none_and_nowhere_else() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let model = without_biases(&folder, "bert");
    let run = |model: &Path, more: &str| {
        Finished::of(&mut bitfit(train_args(model, &data, &folder.path("run"), more)))
    };
    run(&model, "").fails(1, &["query.bias` is missing", "--method added-biases"]);
    let has_all = run(&fixture("bert"), "--method added-biases");
    has_all.fails(2, &["--method added-biases has nothing to add", "--method bitfit"]);
    let some = run(&model, "--method added-biases --biases query,attention-layernorm --steps 1");
    let said = some.success().stderr;
    assert!(said.contains("2 linear layers without a bias: 128 bias values are added"), "{said}");
    let delta = tensors(&folder.path("run").join("bias.safetensors"));
    let encoder = delta.keys().filter(|name| !name.starts_with("classifier"));
    assert!(encoder.clone().all(|name| name.ends_with("query.bias")) && encoder.count() == 2);
    // Those not selected stay zero, and are in the merged model.
    let merged = folder.path("merged");
    let mut command = bitfit(["merge", "--delta"]);
    Finished::of(command.arg(folder.path("run")).arg("--output").arg(&merged)).success();
    let made = tensors(&merged.join("model.safetensors"));
    let base = tensors(&fixture("bert").join("model.safetensors"));
    assert!(made.keys().eq(base.keys()));
    let key = &made["bert.encoder.layer.0.attention.self.key.bias"];
    assert!(key.1.iter().all(|&x| x == 0.0));
    let inspected = Finished::of(bitfit(["inspect", "--model"]).arg(&model)).success().stdout;
    assert!(!inspected.contains("query"), "{inspected}");
}

#[test]
fn an_option_of_another_method_is_refused() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(24, 2));
    let refused = |more: &str, parts: &[&str]| {
        let mut command = bitfit(train_args(&fixture("bert"), &data, &folder.path("run"), more));
        Finished::of(&mut command).fails(2, parts);
        assert!(!folder.path("run").exists(), "{more}");
    };
    refused(
        "--method layernorm --biases query",
        &["--biases", "bitfit or added-biases", "--method layernorm", "leave one of them out"],
    );
    refused("--method random --biases none", &["--biases", "selects nothing"]);
    refused("--method ia3 --lora-rank 4", &["--lora-rank", "only for --method lora", "ia3"]);
    refused("--lora-on query", &["--lora-on", "only for --method lora", "bitfit"]);
    refused("--method lora --lora-on query,intermediate", &["intermediate", "known: query"]);
    refused("--method lora --lora-rank 0", &["--lora-rank must be from 1"]);
    refused("--method lora --lora-dropout 1", &["--lora-dropout must be from 0 to below 1"]);
    refused("--method lora --lora-alpha 0", &["--lora-alpha must be a number above 0"]);
    refused("--method lora --precision bf16 --device cpu", &["--precision bf16", "lora"]);
}
