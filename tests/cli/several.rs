//! Several labels or numbers per text, and weighted classes: trained, measured, predicted, merged.

use crate::common::*;
use serde_json::{Value, json as value};
use std::fs;
use std::path::{Path, PathBuf};

/// Words that decide, and what they decide.
const WORDS: [(&str, &str); 3] = [("harbour", "sea"), ("friends", "people"), ("tickets", "trade")];

/// The words and the labels of the `i`th text: any number of them, none included.
fn text(i: usize) -> (String, Vec<&'static str>) {
    let there = WORDS.iter().enumerate().filter(|(bit, _)| i >> bit & 1 == 1);
    let (words, labels): (Vec<_>, Vec<_>) = there.map(|(_, &pair)| pair).unzip();
    (format!("the {} again", words.join(" and ")), labels)
}

fn jsonl(texts: usize) -> String {
    let line = |i| {
        let (text, labels) = text(i);
        value!({ "text": text, "labels": labels }).to_string() + "\n"
    };
    (0..texts).map(line).collect()
}

fn run_of(folder: &Folder, data: &Path, more: &str) -> PathBuf {
    let output = folder.path("run");
    let more = format!("--epochs 12 --batch-size 8 --lr 1e-2 --dev {} {more}", data.display());
    train(&fixture("bert"), data, &output, &more);
    output
}

fn with_delta(name: &str, output: &Path, more: &[&str]) -> Finished {
    let delta = output.to_str().unwrap();
    Finished::of(&mut bitfit([&[name, "--delta", delta][..], more].concat())).success()
}

#[test]
fn a_text_has_any_number_of_labels() {
    let folder = Folder::new();
    let data = folder.write("a.jsonl", jsonl(48));
    let output = run_of(&folder, &data, "--task multi-label");
    let result = json(&output.join("result.json"));
    assert_eq!(result["best"]["metric"], "micro_f1");
    assert!(number(&result["best"], "value") > 0.95, "{result}");

    let args = ["--input", data.to_str().unwrap(), "--output-format", "jsonl"];
    let answers = with_delta("predict", &output, &args).stdout;
    let mut right = 0;
    for (i, line) in answers.lines().enumerate() {
        let answer: Value = serde_json::from_str(line).unwrap();
        let mut gold = text(i).1;
        gold.sort_unstable();
        right += usize::from(answer["labels"] == value!(gold));
        for p in answer["probabilities"].as_object().unwrap().values() {
            assert!((0.0..=1.0).contains(&p.as_f64().unwrap()), "{line}");
        }
    }
    assert_eq!(answers.lines().count(), 48);
    let measured = with_delta("eval", &output, &["--data", data.to_str().unwrap()]).stdout;
    let accuracy = format!("{:.4}", right as f64 / 48.0);
    assert!(measured.contains(&accuracy), "{accuracy}: {measured}");

    let file = folder.path("eval.json");
    let more =
        ["--data", data.to_str().unwrap(), "--per-class", "--output", file.to_str().unwrap()];
    let measured = with_delta("eval", &output, &more).stdout;
    assert!(measured.contains("class   precision") && measured.contains("people"), "{measured}");
    let classes = json(&file)["classes"].clone();
    let labels: Vec<&Value> = classes.as_array().unwrap().iter().map(|c| &c["label"]).collect();
    assert_eq!(labels, ["people", "sea", "trade"]);
    assert!(classes.as_array().unwrap().iter().all(|c| c["rows"] == 24), "{classes}");

    let table = with_delta("predict", &output, &args[..2]).stdout;
    assert!(table.starts_with("labels\tp(people)\tp(sea)\tp(trade)\n"), "{table}");
    let chosen = [&args[..2], &["--class", "trade", "--class", "people"]].concat();
    let chosen = with_delta("predict", &output, &chosen).stdout;
    let fields = |text: &str, places: &[usize]| -> Vec<String> {
        let fields = |line: &str| -> Vec<String> {
            let all: Vec<&str> = line.split('\t').collect();
            places.iter().map(|&place| all[place].to_owned()).collect()
        };
        text.lines().flat_map(fields).collect()
    };
    assert_eq!(fields(&chosen, &[0, 1, 2]), fields(&table, &[0, 3, 1]));
    let alone = with_delta("predict", &output, &[&args[..], &["--no-probabilities"]].concat());
    assert_eq!(alone.stdout.lines().next(), Some(r#"{"labels":[]}"#));
    let delta = output.to_str().unwrap();
    let wrong = ["predict", "--delta", delta, "--class", "traed"];
    Finished::of(&mut bitfit(wrong)).fails(2, &["no such class (did you mean `trade`?)"]);

    let merged = folder.path("merged");
    with_delta("merge", &output, &["--output", merged.to_str().unwrap()]);
    let config = json(&merged.join("config.json"));
    assert_eq!(config["problem_type"], "multi_label_classification");
    assert_eq!(config["id2label"], value!({ "0": "people", "1": "sea", "2": "trade" }));
}

/// Trained on lists, and evaluated on a table that separates its labels.
#[test]
fn eval_parts_labels_where_its_user_says() {
    let folder = Folder::new();
    let data = folder.write("a.jsonl", jsonl(48));
    let output = folder.path("run");
    train(&fixture("bert"), &data, &output, "--task multi-label --steps 2");
    let row = |i: usize| format!("{}\t{}\n", text(i).0, text(i).1.join("|"));
    let table =
        folder.write("b.tsv", "text\tlabels\n".to_owned() + &(1..9).map(row).collect::<String>());
    let measure = |more: &[&str]| {
        let data = ["eval", "--delta", output.to_str().unwrap(), "--data"];
        Finished::of(bitfit(data).arg(&table).args(more))
    };
    measure(&[]).fails(1, &["is unknown"]);
    measure(&["--label-separator", "|"]).success();
    measure(&["--label-separator", ""]).fails(2, &["--label-separator must not be empty"]);
}

#[test]
fn numbers_that_are_told_no_better_than_by_their_mean_are_said_to_be() {
    let folder = Folder::new();
    let row = |i: usize| format!("{}\t{}\n", text(i).0, 90 + i);
    let data =
        folder.write("a.tsv", "text\tlabel\n".to_owned() + &(0..8).map(row).collect::<String>());
    let output = folder.path("run");
    let more = format!("--task regression --steps 1 --dev {}", data.display());
    let trained = train(&fixture("bert"), &data, &output, &more).stderr;
    let measured = with_delta("eval", &output, &["--data", data.to_str().unwrap()]).stderr;
    for said in [trained, measured] {
        assert!(
            said.contains("is no better than the 5.2500 of always giving the mean to every row"),
            "{said}"
        );
        assert!(said.contains("--epochs") && !said.contains("--class-weights"), "{said}");
    }
}

#[test]
fn a_list_that_was_cut_is_no_label() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", "text\tlabels\na\t[\"x\",\"y\"\nb\t[\"x\"]\n");
    let args = train_args(&fixture("bert"), &data, &folder.path("run"), "--task multi-label");
    Finished::of(&mut bitfit(args)).fails(1, &["a.tsv:2", "looks like a list"]);
}

#[test]
fn labels_in_one_field_are_parted_where_the_user_says() {
    let folder = Folder::new();
    let line = |i| {
        let (text, labels) = text(i);
        format!("{text}\t{}\n", labels.join("|"))
    };
    let rows: String = (0..48).map(line).collect();
    let data = folder.write("a.tsv", format!("text\tlabel\n{rows}"));
    let output = run_of(&folder, &data, "--task multi-label --label-separator |");
    let result = json(&output.join("result.json"));
    assert!(number(&result["best"], "value") > 0.95, "{result}");
    let answers = with_delta("predict", &output, &["--input", data.to_str().unwrap()]).stdout;
    assert!(answers.contains("people|sea|trade\t"), "{answers}");
}

#[test]
fn a_text_has_several_numbers() {
    let folder = Folder::new();
    let line = |i| {
        let (text, labels) = text(i);
        let there = |label| if labels.contains(&label) { 1.0 } else { -0.5 };
        format!("{text}\t{};{}\n", there("sea"), there("trade"))
    };
    let rows: String = (0..48).map(line).collect();
    let data = folder.write("a.tsv", format!("text\tlabel\n{rows}"));
    let output = run_of(&folder, &data, "--task regression --label-separator ;");
    let result = json(&output.join("result.json"));
    assert!(number(&result["best"], "value") > 0.9, "{result}");
    let answers = with_delta("predict", &output, &["--input", data.to_str().unwrap()]).stdout;
    assert!(answers.starts_with("value_1\tvalue_2\n"), "{answers}");
    assert_eq!(answers.lines().count(), 49);

    let merged = folder.path("merged");
    with_delta("merge", &output, &["--output", merged.to_str().unwrap()]);
    let config = json(&merged.join("config.json"));
    assert_eq!(config["problem_type"], "regression");
    assert_eq!(config["id2label"].as_object().unwrap().len(), 2);
}

#[test]
fn weights_that_are_all_the_same_change_nothing() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(48, 3));
    let threes = folder.write("w.json", r#"{"sea": 3, "land": 3, "people": 3}"#);
    let losses = |name: &str, more: &str| -> Vec<f64> {
        let output = folder.path(name);
        train(&fixture("bert"), &data, &output, &format!("--steps 4 --batch-size 8 {more}"));
        metrics(&output).iter().map(|line| number(line, "loss")).collect()
    };
    let plain = losses("plain", "");
    assert_eq!(plain, losses("balanced", "--class-weights balanced"), "48 rows of three classes");
    for (a, b) in
        plain.iter().zip(losses("threes", &format!("--class-weights {}", threes.display())))
    {
        assert!((a - b).abs() < 1e-5, "{a} {b}");
    }
}

#[test]
fn a_class_that_counts_for_nothing_is_not_learned() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(48, 2));
    let labels = fs::read_to_string(&data).unwrap();
    let labels: Vec<&str> =
        labels.lines().skip(1).map(|l| l.rsplit('\t').next().unwrap()).collect();
    let mut names = labels.clone();
    names.sort_unstable();
    names.dedup();
    let weights = value!({ names[0]: 1.0, names[1]: 1e-6 });
    let weights = folder.write("w.json", weights.to_string());
    let more = format!("--class-weights {}", weights.display());
    let output = run_of(&folder, &data, &more);
    let answers = with_delta("predict", &output, &["--input", data.to_str().unwrap()]).stdout;
    let first = answers.lines().skip(1).filter(|line| line.starts_with(names[0])).count();
    assert!(first >= 44, "{first} of 48 are {}", names[0]);
}

#[test]
fn what_a_task_has_no_use_for_is_wrong_usage_and_bad_labels_are_named() {
    let folder = Folder::new();
    let output = folder.path("run");
    let run = |data: &Path, more: &[&str]| {
        let (model, output) = (fixture("bert"), output.clone());
        let args = ["train", "--model", model.to_str().unwrap(), "--train", data.to_str().unwrap()];
        let output = ["--output", output.to_str().unwrap()];
        Finished::of(&mut bitfit([&args[..], &output, more].concat()))
    };
    let toy = folder.write("a.tsv", toy_tsv(12, 2));
    run(&toy, &["--label-separator", ","]).fails(2, &["--label-separator", "--task multi-label"]);
    run(&toy, &["--task", "multi-label", "--class-weights", "balanced"])
        .fails(2, &["--class-weights", "multi-label"]);
    run(&toy, &["--class-weights", "balancd"]).fails(1, &["balancd", "balanced, inverse-sqrt"]);
    let twice = folder.write("b.tsv", "text\tlabel\nthe sea\ta,b\nagain\tb,b\n");
    run(&twice, &["--task", "multi-label"]).fails(1, &["b.tsv:3", "\"b\" occurs twice"]);
    let list = folder.write("c.jsonl", "{\"text\": \"a\", \"label\": [\"x\"]}\n");
    run(&list, &[]).fails(1, &["c.jsonl:1", "an array"]);
    let fewer = folder.write("d.tsv", "text\tlabel\nthe sea\t1;2\nagain\t3\n");
    run(&fewer, &["--task", "regression", "--label-separator", ";"])
        .fails(1, &["d.tsv:3", "1 number for a label, but the first row has 2"]);
    let null = folder.write(
        "e.jsonl",
        "{\"text\": \"a\", \"labels\": [\"x\"]}\n{\"text\": \"b\", \"labels\": null}\n",
    );
    run(&null, &["--task", "multi-label"]).fails(1, &["e.jsonl:2", "there is none"]);
    let python = folder.write("f.tsv", "text\tlabel\nthe sea\t['a', 'b']\n");
    run(&python, &["--task", "multi-label"]).fails(1, &["f.tsv:2", "looks like a list"]);
    assert!(!output.exists());
}

#[test]
fn what_a_list_in_a_table_or_a_0_and_1_for_each_label_means_is_not_guessed() {
    let folder = Folder::new();
    let rows = "the sea\t[\"a\", \"b, c\"]\nagain\t[]\nthey\t[\"a\"]\n";
    let data = folder.write("a.tsv", format!("text\tlabel\n{rows}"));
    let run = train(&fixture("bert"), &data, &folder.path("run"), "--task multi-label --steps 1");
    let said = "2 labels and their rows: \"a\" (2), \"b, c\" (1); 1 row without any";
    assert!(run.stderr.contains(said), "{}", run.stderr);
    let hot = folder.write("b.tsv", "text\tlabel\nthe sea\t1,0\nagain\t0,1\n");
    let run = train(&fixture("bert"), &hot, &folder.path("hot"), "--task multi-label --steps 1");
    assert!(run.stderr.contains("warning: every row has every label"), "{}", run.stderr);
}
