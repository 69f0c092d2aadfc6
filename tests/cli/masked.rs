//! `--task masked-lm`, from running text to perplexity, filled masks and a merged model.

use crate::common::*;
use crate::resume::{reaches, same_end, signal};
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A copy of a fixture's checkpoint with its masked-word head.
pub fn checkpoint(folder: &Folder, name: &str) -> PathBuf {
    let to = folder.copy_of(name);
    let head = to.join("masked_head.safetensors");
    if head.exists() {
        join(&[to.join("model.safetensors"), head], &to.join("model.safetensors"));
    }
    to
}

/// Writes the tensors of several files to one.
fn join(files: &[PathBuf; 2], to: &Path) {
    let bytes = files.each_ref().map(|file| std::fs::read(file).unwrap());
    let parts = bytes.each_ref().map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    let tensors = parts.iter().flat_map(SafeTensors::tensors);
    std::fs::write(to, safetensors::serialize(tensors, None).unwrap()).unwrap();
}

/// Lines, every third of which is longer than a window, and blank ones.
pub fn texts(count: usize) -> String {
    let line = |i: usize| {
        let text = text_of(i % 3, i);
        let text = if i % 3 == 2 { vec![text; 12].join(" ") } else { text };
        if i % 5 == 4 { format!("{text}\n\n") } else { format!("{text}\n") }
    };
    (0..count).map(line).collect()
}

struct Trained {
    folder: Folder,
    model: PathBuf,
    data: PathBuf,
    output: PathBuf,
}

impl Trained {
    fn new(name: &str, more: &str) -> Self {
        let folder = Folder::new();
        let model = checkpoint(&folder, name);
        let data = folder.write("a.txt", texts(60));
        let output = folder.path("run");
        let options = "--task masked-lm --device cpu --batch-size 8 --lr 1e-2 --dev-fraction 0.2";
        train(&model, &data, &output, &format!("{options} {more}"));
        Self { folder, model, data, output }
    }

    fn run(&self, name: &str, more: &[&str]) -> Finished {
        let delta = self.output.to_str().unwrap();
        Finished::of(&mut bitfit([&[name, "--delta", delta][..], more].concat()))
    }

    fn trains(&self, output: &str, data: &Path, more: &str) -> Finished {
        let args = train_args(&self.model, data, &self.folder.path(output), more);
        Finished::of(&mut bitfit(args))
    }
}

fn evaluations(output: &Path) -> Vec<Value> {
    let log = std::fs::read_to_string(output.join("metrics.jsonl")).unwrap();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| line.get("eval").cloned()).collect()
}

#[test]
fn biases_learn_the_words_of_running_text() {
    for name in ["bert-mlm", "roberta"] {
        let trained = Trained::new(name, "--epochs 8");
        let found = evaluations(&trained.output);
        let perplexity = |i: usize| found[i]["perplexity"].as_f64().unwrap();
        let last = found.len() - 1;
        assert!(perplexity(last) < 0.8 * perplexity(0), "{name}: {found:?}");
        let loss = found[last]["loss"].as_f64().unwrap();
        assert!((loss.exp() / perplexity(last) - 1.0).abs() < 1e-9, "{name}");
        let delta = std::fs::read(trained.output.join("bias.safetensors")).unwrap();
        let delta = SafeTensors::deserialize(&delta).unwrap();
        let head = if name == "roberta" { "lm_head." } else { "cls.predictions." };
        assert_eq!(delta.names().iter().filter(|tensor| tensor.starts_with(head)).count(), 3);
    }
}

#[test]
fn the_same_rows_have_the_same_masks_when_they_are_evaluated_again() {
    let trained = Trained::new("bert-mlm", "--epochs 2 --precision f32 --weights f32");
    let output = trained.folder.path("eval.json");
    let data = trained.data.to_str().unwrap();
    let args = ["--data", data, "--output", output.to_str().unwrap(), "--device", "cpu"];
    trained.run("eval", &args).success();
    let first = json(&output);
    trained.run("eval", &args).success();
    assert_eq!(json(&output), first);
    assert!(first["perplexity"].as_f64().unwrap() > 1.0, "{first}");
    assert!(first["accuracy"].as_f64().is_some(), "{first}");
}

#[test]
fn a_run_that_was_stopped_goes_on_with_the_same_masks() {
    let folder = Folder::new();
    let model = checkpoint(&folder, "bert-mlm");
    let data = folder.write("a.txt", texts(60));
    let options = "--task masked-lm --device cpu --batch-size 4 --epochs 3 --dev-fraction 0.2 --lr 1e-2 --save-steps 1 \
                   --whole-word-masking --mask-probability 0.3";
    let [whole, cut] = ["whole", "cut"].map(|name| folder.path(name));
    train(&model, &data, &whole, options);
    let mut child = bitfit(train_args(&model, &data, &cut, options)).spawn().unwrap();
    assert!(reaches(&mut child, &cut, 7));
    signal(&child, "KILL");
    let _ = child.wait();
    Finished::of(&mut bitfit(["train", "--resume", "--output", cut.to_str().unwrap()])).success();
    same_end(&whole, &cut);
}

#[test]
fn micro_batches_hide_the_same_words() {
    let folder = Folder::new();
    let model = checkpoint(&folder, "bert-mlm");
    let data = folder.write("a.txt", texts(24));
    let options =
        "--task masked-lm --device cpu --batch-size 8 --epochs 1 --precision f32 --weights f32";
    let losses = |name: &str, more: &str| -> Vec<f64> {
        let output = folder.path(name);
        train(&model, &data, &output, &format!("{options} {more}"));
        let log = std::fs::read_to_string(output.join("metrics.jsonl")).unwrap();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter_map(|line| line["loss"].as_f64()).collect()
    };
    let refused = Finished::of(&mut bitfit(train_args(
        &model,
        &data,
        &folder.path("small"),
        &format!("{options} --memory 1KiB"),
    )));
    let least = refused.fails(1, &["--memory"]).to_owned();
    let least = least.split("the smallest that runs is ").nth(1).unwrap();
    let least: String =
        least.chars().take_while(|c| *c != '(').filter(char::is_ascii_digit).collect();
    let whole = losses("whole", "");
    let cut = losses("cut", &format!("--memory {least}"));
    assert_eq!(whole.len(), cut.len());
    for (a, b) in whole.iter().zip(&cut) {
        assert!((a - b).abs() < 1e-4 * a.abs(), "{whole:?} and {cut:?}");
    }
}

#[test]
fn a_merged_model_has_the_head_and_no_labels() {
    for name in ["bert-mlm", "roberta"] {
        let trained = Trained::new(name, "--epochs 1");
        let merged = trained.folder.path("merged");
        trained.run("merge", &["--output", merged.to_str().unwrap()]).success();
        let config = json(&merged.join("config.json"));
        let class = if name == "roberta" { "RobertaForMaskedLM" } else { "BertForMaskedLM" };
        assert_eq!(config["architectures"][0], class);
        let bytes = std::fs::read(merged.join("model.safetensors")).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let head = if name == "roberta" { "lm_head." } else { "cls.predictions." };
        let names = tensors.names();
        assert_eq!(names.iter().filter(|tensor| tensor.starts_with(head)).count(), 5, "{names:?}");
        assert!(!names.iter().any(|name| name.contains("classifier") || name.contains("seq_rel")));
        // It is a checkpoint to continue from.
        let again = trained.folder.path("again");
        let options = "--task masked-lm --device cpu --steps 1";
        train(&merged, &trained.data, &again, options);
    }
}

#[test]
fn what_masked_words_cannot_be_trained_with_is_refused_by_name() {
    let folder = Folder::new();
    let data = folder.write("a.txt", texts(6));
    let refuse = |model: &Path, data: &Path, more: &str, code: i32, parts: &[&str]| {
        let output = folder.path("refused");
        let args = train_args(model, data, &output, &format!("--task masked-lm {more}"));
        Finished::of(&mut bitfit(args)).fails(code, parts);
        assert!(!output.join("bias.safetensors").exists());
    };
    let model = checkpoint(&folder, "bert-mlm");
    let head = ["bert/model.safetensors", "cls.predictions.transform.dense.weight", "masked-lm"];
    refuse(&folder.copy_of("bert"), &data, "--device cpu", 1, &head);
    refuse(&model, &data, "--method full", 2, &["--method", "masked-lm"]);
    refuse(&model, &data, "--class-weights balanced", 2, &["--class-weights"]);
    refuse(&model, &data, "--mask-probability 0", 2, &["--mask-probability"]);
    refuse(&model, &data, "--label-column a", 2, &["--label-column"]);
    let blank = folder.write("blank.txt", "\n\n");
    refuse(&model, &blank, "--device cpu", 1, &["blank.txt"]);
    let unknown = folder.write("a.xyz", "a\n");
    refuse(&model, &unknown, "--device cpu", 1, &["a.xyz", "extension"]);
    refuse(&model, &data, "--text-column text", 1, &["a.txt", "--text-column", "--format tsv"]);
    let masks = folder.write("masks.txt", "[MASK]\n[MASK] [SEP]\n");
    refuse(&model, &masks, "--device cpu", 1, &["masks.txt", "could be hidden"]);
    let column = folder.write("a.csv", "number\n1\n");
    refuse(&model, &column, "--device cpu", 1, &["a.csv:1"]);
    let args = train_args(&model, &data, &folder.path("r"), "--mask-probability 0.2");
    Finished::of(&mut bitfit(args)).fails(2, &["--mask-probability", "classification"]);
    // A copy of the table is checked against it; so are the two names of the words' bias.
    let weights = model.join("model.safetensors");
    join(&[1, 2].map(|i| model.join(format!("model-0000{i}-of-00002.safetensors"))), &weights);
    std::fs::remove_file(model.join("model.safetensors.index.json")).unwrap();
    edit_tensors(&weights, |tensors, _| {
        let table = &tensors["bert.embeddings.word_embeddings.weight"];
        let copy = RawTensor {
            dtype: table.dtype,
            shape: table.shape.clone(),
            bytes: table.bytes.clone(),
        };
        tensors.insert("cls.predictions.decoder.weight".into(), copy);
    });
    train(&model, &data, &folder.path("tied"), "--task masked-lm --device cpu --steps 1");
    edit_tensors(&weights, |tensors, _| {
        tensors.get_mut("cls.predictions.decoder.weight").unwrap().bytes[3] ^= 1;
    });
    let said = ["model.safetensors", "cls.predictions.decoder.weight", "not supported"];
    refuse(&model, &data, "--device cpu", 1, &said);
    edit_tensors(&weights, |tensors, _| {
        tensors.remove("cls.predictions.decoder.weight");
        let bias = &tensors["cls.predictions.bias"];
        let mut bytes = bias.bytes.clone();
        bytes[3] ^= 1;
        let other = RawTensor { dtype: bias.dtype, shape: bias.shape.clone(), bytes };
        tensors.insert("cls.predictions.decoder.bias".into(), other);
    });
    refuse(&model, &data, "--device cpu", 1, &["cls.predictions.decoder.bias", "differ"]);
    edit_tensors(&weights, |tensors, _| {
        tensors.remove("cls.predictions.decoder.bias");
    });
    let config = model.join("config.json");
    let mut untied = json(&config);
    untied["tie_word_embeddings"] = false.into();
    std::fs::write(&config, untied.to_string()).unwrap();
    refuse(&model, &data, "--device cpu", 1, &["tie_word_embeddings"]);
}

#[test]
fn masks_in_a_text_are_filled_in_their_order() {
    for (name, mask) in [("bert-mlm", "[MASK]"), ("roberta", "<mask>")] {
        let trained = Trained::new(name, "--epochs 6");
        let text = format!("é the {mask} is in the {mask}");
        let input = trained.folder.write("in.txt", format!("{text}\n\nnothing is asked\n"));
        let args = ["--input", input.to_str().unwrap(), "--device", "cpu"];
        let out = trained.run("predict", &[&args[..], &["--output-format", "jsonl"]].concat());
        let out = out.success();
        // One of the three is blank.
        assert!(out.stderr.contains("2 texts have no mask, so there is nothing"), "{}", out.stderr);
        let out = out.stdout;
        let lines: Vec<Value> =
            out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3, "{out}");
        let masks = lines[0]["masks"].as_array().unwrap();
        assert_eq!(masks.len(), 2, "{out}");
        for found in masks {
            let [start, end] = ["start", "end"].map(|key| found[key].as_u64().unwrap() as usize);
            let part: String = text.chars().skip(start).take(end - start).collect();
            assert_eq!(part, mask);
            let words = found["words"].as_array().unwrap();
            let p: Vec<f64> = words.iter().map(|w| w["probability"].as_f64().unwrap()).collect();
            assert_eq!(p.len(), 5);
            assert!(p.windows(2).all(|pair| pair[0] >= pair[1]) && p.iter().sum::<f64>() <= 1.0);
            assert!(words.iter().all(|w| w["id"].is_u64()), "{out}");
            assert!(words.iter().all(|w| !w["word"].as_str().unwrap().contains('Ġ')), "{out}");
        }
        assert!(lines[1..].iter().all(|line| line["masks"].as_array().unwrap().is_empty()));
        let table = trained.run("predict", &args).success().stdout;
        let fields: Vec<usize> = table.lines().map(|line| line.split('\t').count()).collect();
        assert_eq!(fields, [10, 10, 1, 1, 1], "{table}");
    }
}

#[test]
fn the_memory_that_is_planned_is_what_is_allocated() {
    let trained = Trained::new("bert-mlm", "--steps 2");
    let memory = &json(&trained.output.join("result.json"))["memory"];
    assert_eq!(memory["planned"], memory["allocated"], "{memory}");

    // `plan` says the same without the data, assuming maximum-length windows: these eight tokens are two.
    let data = trained.folder.write("full.txt", "the is in the is in\n".repeat(16));
    let sizes = "--batch-size 8 --max-length 6 --precision f32 --threads 2 --device cpu";
    let options = format!("--task masked-lm --steps 2 {sizes}");
    trained.trains("full", &data, &options).success();
    let model = trained.model.to_str().unwrap();
    let args =
        ["plan", "--task", "masked-lm", "--model", model].into_iter().chain(sizes.split(' '));
    let text = Finished::of(&mut bitfit(args)).success().stdout;
    let line = text.lines().find(|line| line.starts_with("peak")).unwrap();
    let peak: String = line.split_whitespace().nth(1).unwrap().replace(',', "");
    let memory = &json(&trained.folder.path("full/result.json"))["memory"];
    assert_eq!(memory["allocated"].to_string(), peak, "{text}");
}

#[test]
fn another_task_starts_from_the_biases_that_masked_words_left() {
    let trained = Trained::new("bert-mlm", "--epochs 4");
    let rows: String =
        (0..24).map(|i| format!("{}\t{}\n", text_of(i % 2, i), CLASSES[i % 2])).collect();
    let rows = trained.folder.write("rows.tsv", format!("text\tlabel\n{rows}"));
    let from = format!("--init-delta {}", trained.output.display());
    let options = "--device cpu --lr 1e-9 --steps 1 --batch-size 4";
    let told = trained.trains("from", &rows, &format!("{options} {from}")).success().stderr;
    let words = ["--init-delta: ", "bias.safetensors, trained for masked-lm", "3 tensors"];
    assert!(words.iter().all(|part| told.contains(part)), "{told}");
    let delta = |run: &Path| tensors(&run.join("bias.safetensors"));
    let (before, after) = (delta(&trained.output), delta(&trained.folder.path("from")));
    let mut same = 0;
    for (name, (_, values)) in before.iter().filter(|(name, _)| name.starts_with("bert.")) {
        same += 1;
        let near = values.iter().zip(&after[name].1).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(near, "{name}");
    }
    assert!(same > 10);

    // Values that this run does not train would be lost, and another base's biases would be wrong.
    let some = format!("{options} --biases query {from}");
    trained.trains("some", &rows, &some).fails(1, &["--init-delta", "bitfit, biases all"]);
    let head = format!("{options} --method head {from}");
    trained.trains("head", &rows, &head).fails(2, &["--init-delta", "--method head"]);
    let args = train_args(
        &fixture("bert"),
        &rows,
        &trained.folder.path("other"),
        &format!("{options} {from}"),
    );
    Finished::of(&mut bitfit(args)).fails(1, &["--init-delta", "base"]);
    let none = format!("{options} --init-delta {}", trained.folder.path("none").display());
    trained.trains("none-run", &rows, &none).fails(1, &["--init-delta"]);

    // A resumed run is tied to the delta that it began with.
    let delta_file = trained.output.join("bias.safetensors");
    std::fs::copy(trained.folder.path("from").join("bias.safetensors"), &delta_file).unwrap();
    let output = trained.folder.path("from");
    let resumed =
        Finished::of(&mut bitfit(["train", "--resume", "--output", output.to_str().unwrap()]));
    resumed.fails(1, &["initial delta"]);
}

#[test]
fn a_run_of_a_comparison_may_begin_with_another_runs_biases() {
    let Trained { folder, model, data, output } = Trained::new("bert-mlm", "--steps 2");
    let mut compare = bitfit(["compare", "--task", "masked-lm", "--device", "cpu", "--steps", "2"]);
    compare.args(["--threads", "1", "--dev-fraction", "0.2", "--run", "anew", "--output"]);
    compare.arg(folder.path("all")).arg("--model").arg(&model).arg("--train").arg(&data);
    compare.arg("--run").arg(format!("further: --init-delta {}", output.display()));
    Finished::of(&mut compare).success();
    let rows = sweep_rows(&folder.path("all"));
    assert_eq!(rows[1]["run"], "further");
}
