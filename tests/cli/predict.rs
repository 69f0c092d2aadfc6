//! `bitfit eval`, `predict` and `inspect` on a trained run.

use crate::common::*;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A run of three classes that has learned its task.
struct Trained {
    folder: Folder,
    data: PathBuf,
    output: PathBuf,
}

impl Trained {
    fn new(model: &str) -> Self {
        let folder = Folder::new();
        let data = folder.write("a.tsv", toy_tsv(48, 3));
        let output = folder.path("run");
        let dev = format!("--lr 1e-2 --epochs 8 --batch-size 8 --dev {}", data.display());
        train(&fixture(model), &data, &output, &dev);
        Self { folder, data, output }
    }

    fn command(&self, name: &str, more: &[&str]) -> Command {
        let delta = self.output.to_str().unwrap();
        bitfit([&[name, "--delta", delta][..], more].concat())
    }

    #[track_caller]
    fn run(&self, name: &str, more: &[&str]) -> Finished {
        Finished::of(&mut self.command(name, more)).success()
    }

    /// Predictions for the given standard input.
    #[track_caller]
    fn piped(&self, input: &str, more: &[&str]) -> String {
        let mut command = self.command("predict", more);
        Finished::fed(&mut command, input.to_owned()).success().stdout
    }
}

fn str_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn eval_measures_what_training_measured_at_its_best() {
    for model in ["bert", "roberta"] {
        let trained = Trained::new(model);
        let json_file = trained.folder.path("eval.json");
        let run =
            trained.run("eval", &["--data", str_of(&trained.data), "--output", str_of(&json_file)]);
        let best = json(&trained.output.join("result.json"))["best"].clone();
        let at_best = metrics(&trained.output)
            .into_iter()
            .find(|line| line.get("eval").is_some() && line["step"] == best["step"])
            .unwrap();
        let measured = json(&json_file);
        assert_eq!(number(&measured, "rows"), 48.0);
        for key in ["accuracy", "macro_f1", "matthews"] {
            assert_eq!(measured[key], at_best["eval"][key], "{model}: {key}");
        }
        let (a, b) = (number(&measured, "loss"), number(&at_best["eval"], "loss"));
        assert!((a - b).abs() < 1e-5, "{model}: {a} {b}");
        assert!(run.stdout.contains("accuracy"), "{}", run.stdout);
    }
}

#[test]
fn an_input_whose_first_example_is_refused_gets_no_table() {
    let trained = Trained::new("bert");
    for (text, said) in
        [("text,label\nthe train,sea,1\n", ":2: 3 fields"), ("text\n", "only a header row")]
    {
        let input = trained.folder.write("broken.csv", text);
        let refused = Finished::of(&mut trained.command("predict", &["--input", str_of(&input)]));
        refused.fails(1, &["broken.csv", said]);
        assert_eq!(refused.stdout, "");
    }
}

#[test]
fn predictions_agree_over_formats_and_sources() {
    let trained = Trained::new("bert");
    let input = fs::read_to_string(&trained.data).unwrap();
    let file = trained.run("predict", &["--input", str_of(&trained.data)]).stdout;
    assert_eq!(trained.piped(&input, &[]), file, "file and standard input");
    let to = trained.folder.path("out.tsv");
    let run = trained.run("predict", &["--input", str_of(&trained.data), "--output", str_of(&to)]);
    assert_eq!((run.stdout.as_str(), fs::read_to_string(&to).unwrap()), ("", file.clone()));

    let mut lines = file.lines();
    assert_eq!(lines.next(), Some("label\tp(land)\tp(people)\tp(sea)"));
    let jsonl = trained.piped(&input, &["--output-format", "jsonl"]);
    let names = ["land", "people", "sea"];
    let mut right = 0;
    assert_eq!((jsonl.lines().count(), file.lines().count()), (48, 49));
    for ((line, record), gold) in lines.zip(jsonl.lines()).zip(input.lines().skip(1)) {
        let record: Value = serde_json::from_str(record).unwrap();
        let fields: Vec<&str> = line.split('\t').collect();
        assert_eq!(record["label"], fields[0]);
        let logits: Vec<f64> = (0..3).map(|i| record["logits"][i].as_f64().unwrap()).collect();
        let total: f64 = logits.iter().map(|x| x.exp()).sum();
        let mut sum = 0.0;
        for (i, name) in names.iter().enumerate() {
            let p = number(&record["probabilities"], name);
            assert!((p - logits[i].exp() / total).abs() < 1e-6, "{record}");
            assert!((p - fields[1 + i].parse::<f64>().unwrap()).abs() < 1e-6);
            sum += p;
        }
        assert!((sum - 1.0).abs() < 1e-9, "{record}");
        let top = (0..3).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
        assert_eq!(fields[0], names[top]);
        right += usize::from(gold.ends_with(fields[0]));
    }
    let best = json(&trained.output.join("result.json"));
    assert_eq!(right as f64 / 48.0, number(&best["best"], "value"));
}

#[test]
fn order_is_kept_over_more_rows_than_are_held_at_once() {
    let trained = Trained::new("bert");
    // Many lengths, so that batches are not in row order.
    let texts: Vec<String> = (0..2100)
        .map(|i| {
            let words = "the film again ".repeat(i * 7 % 11);
            format!("{words}{}", text_of(i % 3, i))
        })
        .collect();
    let many =
        trained.piped(&format!("text\n{}\n", texts.join("\n")), &["--output-format", "jsonl"]);
    let many: Vec<Value> = many.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(many.len(), 2100);
    for i in [0, 1, 500, 1023, 1024, 1025, 2047, 2048, 2099] {
        let one = trained.piped(&format!("text\n{}\n", texts[i]), &["--output-format", "jsonl"]);
        let one: Value = serde_json::from_str(one.trim()).unwrap();
        for class in 0..3 {
            let (a, b) = (&one["logits"][class], &many[i]["logits"][class]);
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            assert!((a - b).abs() < 1e-4, "row {i}: {a} {b}");
        }
    }
}

#[test]
fn pairs_and_jsonl_are_predicted_too() {
    let folder = Folder::new();
    let rows = (0..24).map(|i| format!("{}\tthe film\t{}\n", text_of(i % 3, i), CLASSES[i % 3]));
    let header = "text\ttext_pair\tlabel\n".to_owned();
    let data = folder.write("p.tsv", header + &rows.collect::<String>());
    let output = folder.path("run");
    train(&fixture("bert"), &data, &output, "--lr 1e-2 --steps 20");
    let trained = Trained { folder, data, output };
    let tsv = "text\ttext_pair\nharbour\tfilm\nthe train\t\n";
    let jsonl = "{\"text\": \"harbour\", \"text_pair\": \"film\"}\n{\"text\": \"the train\", \"text_pair\": null}\n";
    let from_tsv = trained.piped(tsv, &[]);
    assert_eq!(from_tsv.lines().count(), 3);
    assert_eq!(from_tsv, trained.piped(jsonl, &["--format", "jsonl"]));
    let single = trained.piped("text\ttext_pair\nharbour\t\nthe train\t\n", &[]);
    let line = |text: &str, i: usize| text.lines().nth(i).unwrap().to_owned();
    assert_ne!(line(&from_tsv, 1), line(&single, 1), "the second text counts");
    assert_eq!(line(&from_tsv, 2), line(&single, 2), "an empty one does not");
}

#[test]
fn a_regression_predicts_values() {
    let folder = Folder::new();
    let rows = (0..24).map(|i| format!("{}\t{}\n", text_of(i % 2, i), i % 2));
    let data = folder.write("a.tsv", format!("text\tlabel\n{}", rows.collect::<String>()));
    let output = folder.path("run");
    let options = "--task regression --pooling mean --lr 1e-2 --epochs 3";
    train(&fixture("bert-mean"), &data, &output, options);
    let args = ["predict", "--delta", str_of(&output), "--input", str_of(&data)];
    let tsv = Finished::of(&mut bitfit(args)).success().stdout;
    let mut lines = tsv.lines();
    assert_eq!(lines.next(), Some("value"));
    let values: Vec<f64> = lines.map(|line| line.parse().unwrap()).collect();
    assert_eq!(values.len(), 24);
    let jsonl = Finished::of(bitfit(args).args(["--output-format", "jsonl"])).success();
    for (line, value) in jsonl.stdout.lines().zip(values) {
        let record: Value = serde_json::from_str(line).unwrap();
        assert!((number(&record, "value") - value).abs() < 1e-6);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let trained = Trained::new("bert");
    let many: String = (0..6000).map(|i| text_of(i % 3, i) + "\n").collect();
    let input = trained.folder.write("many.tsv", format!("text\n{many}"));
    let delta = str_of(&trained.output);
    let bitfit = env!("CARGO_BIN_EXE_bitfit");
    for command in [
        format!("{bitfit} predict --quiet --delta {delta} --input {} | head -1", str_of(&input)),
        format!("{bitfit} inspect --delta {delta} | true"),
        format!("{bitfit} eval --quiet --delta {delta} --data {} | true", str_of(&trained.data)),
    ] {
        let run = Finished::of(Command::new("sh").args(["-c", &command]));
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{command}");
    }
}

#[test]
fn inspect_counts_parameters_and_shows_what_moved() {
    let model = fixture("bert");
    let args = ["inspect", "--model", str_of(&model), "--biases", "query,output@1"];
    let shown = Finished::of(&mut bitfit(args)).success().stdout;
    // Of 2 layers of width 64: two query biases and one output bias.
    assert!(shown.contains("--biases query,output@1 trains 192 of "), "{shown}");
    let all: usize = tensors(&model.join("model.safetensors"))
        .iter()
        .filter(|(name, _)| name.starts_with("bert."))
        .map(|(_, (_, values))| values.len())
        .sum();
    let plain = shown.replace(['\u{202f}', '\u{2009}', ',', '_', ' '], "");
    assert!(plain.contains(&format!("of{all}encoderparameters")), "{all}: {shown}");

    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(16, 2));
    let output = folder.path("run");
    train(&model, &data, &output, "--steps 3 --biases query@1,pooler");
    let args = ["inspect", "--delta", str_of(&output)];
    let shown = Finished::of(&mut bitfit(args)).success().stdout;
    assert!(shown.contains("labels: land, sea"), "{shown}");
    let rows: Vec<Vec<&str>> = shown.lines().map(|l| l.split_whitespace().collect()).collect();
    let row = |first: &str| rows.iter().find(|row| row.first() == Some(&first)).unwrap();
    let header = row("layer");
    let query = header.iter().position(|&name| name == "query").unwrap();
    assert_eq!(row("0")[query], "-");
    assert!(row("1")[query].parse::<f64>().unwrap() > 0.0);
    assert!(row("1").iter().skip(1).filter(|cell| **cell != "-").count() == 1, "{shown}");
    assert!(row("pooler:")[1].parse::<f64>().unwrap() > 0.0);
}

#[test]
fn an_input_that_cannot_be_read_is_no_output_that_cannot_be_written() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(8, 2));
    let run = folder.path("run");
    train(&fixture("bert"), &data, &run, "--steps 1");
    let bad = folder.write("bad.jsonl", "{\"text\": \"a\"}\n{\"words\": \"b\"}\n");
    let mut predict = bitfit(["predict", "--delta"]);
    predict.arg(&run).arg("--input").arg(&bad).arg("--output").arg(folder.path("p.tsv"));
    let done = Finished::of(&mut predict);
    let error = done.fails(1, &["bad.jsonl:2", "text"]);
    assert!(!error.contains("cannot write"), "{error}");
    assert!(!folder.path("p.tsv").exists());
}

#[test]
fn options_that_predict_and_eval_do_not_have_a_use_for_are_refused() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(8, 2));
    let run = folder.path("run");
    train(&fixture("bert"), &data, &run, "--steps 1");
    let mut predict = bitfit(["predict", "--label-column", "nonsense", "--delta"]);
    Finished::of(predict.arg(&run).arg("--input").arg(&data))
        .fails(2, &["--label-column: predict reads no labels"]);
    let mut eval = bitfit(["eval", "--data", "-", "--delta"]);
    Finished::of(eval.arg(&run)).fails(2, &["--data -: eval reads only files"]);
}

#[test]
fn labels_that_a_table_cannot_hold_are_counted() {
    let folder = Folder::new();
    let rows = ["a\\tb", "c"].repeat(4).into_iter().enumerate();
    let rows =
        rows.map(|(i, l)| format!("{{\"text\": \"{}\", \"label\": \"{l}\"}}\n", text_of(i % 2, i)));
    let data = folder.write("a.jsonl", rows.collect::<String>());
    let run = folder.path("run");
    train(&fixture("bert"), &data, &run, "--steps 1");
    let predict = |format: &str| {
        let mut command = bitfit(["predict", "--quiet", "--output-format", format, "--delta"]);
        Finished::of(command.arg(&run).arg("--input").arg(&data)).success()
    };
    let table = predict("tsv");
    assert!(table.stdout.contains("a b"), "{}", table.stdout);
    assert!(
        table.stderr.contains("warning: ") && table.stderr.contains("written as a space in tsv"),
        "{}",
        table.stderr
    );
    let lines = predict("jsonl");
    assert_eq!(lines.stderr, "");
    assert!(lines.stdout.contains("a\\tb"), "{}", lines.stdout);
}
