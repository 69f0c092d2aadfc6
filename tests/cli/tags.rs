//! `--task token-classification` as its user sees it: tagged words in columns or JSON, trained, measured, predicted,
//! merged.

use crate::common::*;
use serde_json::{Value, json as value};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Words of the fixtures' vocabularies, each with its tag; the second word of a name continues the first.
const WORDS: [(&str, &str); 8] = [
    ("the", "O"),
    ("harbour", "B-PLACE"),
    ("again", "O"),
    ("friends", "B-PEOPLE"),
    ("and", "O"),
    ("they", "O"),
    ("tickets", "B-PLACE"),
    ("train", "I-PLACE"),
];

/// The `i`th sentence of some words.
fn sentence(i: usize) -> Vec<(&'static str, &'static str)> {
    let mut words = Vec::new();
    for k in 0..3 + i % 4 {
        match (i * 5 + k * 3 + i / 8) % 7 {
            6 => words.extend([WORDS[6], WORDS[7]]),
            word => words.push(WORDS[word]),
        }
    }
    words
}

pub fn conll(sentences: impl IntoIterator<Item = usize>) -> String {
    let lines = |i| -> String {
        sentence(i).iter().map(|(word, tag)| format!("{word}\t{tag}\n")).collect::<String>() + "\n"
    };
    sentences.into_iter().map(lines).collect()
}

fn jsonl(sentences: impl IntoIterator<Item = usize>) -> String {
    let line = |i| {
        let (words, tags): (Vec<_>, Vec<_>) = sentence(i).into_iter().unzip();
        value!({ "tokens": words, "tags": tags }).to_string() + "\n"
    };
    sentences.into_iter().map(line).collect()
}

pub const TASK: &str = "--task token-classification --batch-size 8";

struct Trained {
    folder: Folder,
    data: PathBuf,
    output: PathBuf,
    stderr: String,
}

impl Trained {
    fn new(model: &str, epochs: usize, more: &str) -> Self {
        let folder = Folder::new();
        let data = folder.write("a.conll", conll(0..40));
        let output = folder.path("run");
        let more = format!("{TASK} --epochs {epochs} --dev {} --lr 1e-2 {more}", data.display());
        let stderr = train(&fixture(model), &data, &output, &more).stderr;
        Self { folder, data, output, stderr }
    }

    fn command(&self, name: &str, more: &[&str]) -> Command {
        let delta = self.output.to_str().unwrap();
        bitfit([&[name, "--delta", delta][..], more].concat())
    }

    #[track_caller]
    fn run(&self, name: &str, more: &[&str]) -> Finished {
        Finished::of(&mut self.command(name, more)).success()
    }

    #[track_caller]
    fn predict_jsonl(&self, input: &str, more: &[&str]) -> Vec<Value> {
        let args = [&["--format", "jsonl", "--output-format", "jsonl"][..], more].concat();
        let mut command = self.command("predict", &args);
        let done = Finished::fed(&mut command, input.to_owned()).success();
        done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn str_of(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Tags that are not entities are classes of words: counted like those, with the same warnings.
#[test]
fn parts_of_speech_have_a_table_of_which_was_taken_for_which() {
    let folder = Folder::new();
    let sentence = |i: usize| {
        let words = ["the DET", "film NOUN", "train NOUN", "again ADV"];
        let words: String = words[..2 + i % 3].iter().map(|word| format!("{word}\n")).collect();
        words + "\n"
    };
    let data = folder.write("a.conll", (0..24).map(sentence).collect::<String>());
    let output = folder.path("run");
    let dev = format!("{TASK} --dev {}", data.display());
    let said = train(&fixture("bert"), &data, &output, &format!("{dev} --epochs 10 --lr 1e-2"));
    assert!(said.stdout.contains("as NOUN"), "{}", said.stdout);
    let best = json(&output.join("result.json"))["best"]["eval"].clone();
    assert_eq!(best["confusion"]["labels"], value!(["ADV", "DET", "NOUN"]));
    let file = folder.path("eval.json");
    let delta = ["eval", "--per-class", "--delta", str_of(&output)];
    let args = ["--data", str_of(&data), "--output", str_of(&file)];
    let shown = Finished::of(bitfit(delta).args(args)).success().stdout;
    assert!(shown.contains("precision") && shown.contains("as DET"), "{shown}");
    let measured = json(&file);
    let rows = |class: usize| measured["classes"][class]["rows"].as_u64().unwrap();
    assert_eq!([rows(0), rows(1), rows(2)], [8, 24, 40]);

    let weights = folder.write("w.json", r#"{"ADV": 0.000001, "DET": 0.000001, "NOUN": 1000}"#);
    let nouns = folder.path("nouns");
    let more = format!("{dev} --epochs 10 --lr 1e-2 --class-weights {}", weights.display());
    let said = train(&fixture("bert"), &data, &nouns, &more);
    assert!(said.stderr.contains("all of the 72 words"), "{}", said.stderr);
    assert!(said.stderr.contains("--class-weights"), "{}", said.stderr);
    // Here every word has its own tag in training, which is as good as it gets.
    let same = train(&fixture("bert"), &data, &folder.path("short"), &format!("{dev} --steps 1"));
    assert!(same.stderr.contains("warning: "), "{}", same.stderr);
}

#[test]
fn tags_are_learned_measured_and_predicted_alike() {
    for model in ["bert", "roberta"] {
        let trained = Trained::new(model, 12, "");
        assert!(
            trained.stderr.contains("words from column 1, tags from column 2"),
            "{}",
            trained.stderr
        );
        assert!(
            trained.stderr.contains("4 tags and their words: \"B-PEOPLE\""),
            "{}",
            trained.stderr
        );
        let best = json(&trained.output.join("result.json"))["best"].clone();
        assert_eq!(best["metric"], "entity_f1");
        assert!(number(&best, "value") > 0.95, "{model}: {best}");
        let eval = trained.folder.path("eval.json");
        let args = ["--data", str_of(&trained.data), "--output", str_of(&eval)];
        trained.run("eval", &args);
        let eval = json(&eval);
        assert_eq!(eval["entity_f1"], best["value"]);
        assert_eq!(number(&eval, "rows"), 40.0);
        assert!(number(&eval, "precision") > 0.9 && number(&eval, "recall") > 0.9);
        assert!(eval.get("macro_f1").is_none());
        assert!(number(&eval["types"]["PLACE"], "f1") > 0.9, "{eval}");
        assert!(eval["types"].as_object().unwrap().keys().eq(["PEOPLE", "PLACE"]));

        let columns = trained.run("predict", &["--input", str_of(&trained.data)]).stdout;
        let records = trained.predict_jsonl(&jsonl(0..40), &[]);
        assert_eq!(records.len(), 40);
        let mut right = (0, 0);
        for (i, (block, record)) in columns.split("\n\n").zip(&records).enumerate() {
            for (k, (line, (word, tag))) in block.lines().zip(sentence(i)).enumerate() {
                let (said, predicted) = line.split_once('\t').unwrap();
                assert_eq!((said, &record["tags"][k]), (word, &value!(predicted)));
                right = (right.0 + usize::from(predicted == tag), right.1 + 1);
            }
        }
        let accuracy = right.0 as f64 / right.1 as f64;
        assert!((accuracy - number(&eval, "accuracy")).abs() < 1e-12);
    }
}

#[test]
fn entities_are_cut_from_the_text_by_characters() {
    let trained = Trained::new("bert", 12, "");
    let text = "the 😀 harbour  again, Zoë and friends";
    let all = trained.predict_jsonl(&value!({ "id": "x", "text": text }).to_string(), &[]);
    let tokens = ["the", "😀", "harbour", "again", ",", "Zoë", "and", "friends"];
    assert_eq!((&all[0]["tokens"], &all[0]["id"]), (&value!(tokens), &value!("x")));
    let characters: Vec<char> = text.chars().collect();
    let part = |from: &Value, to: &Value| -> String {
        let [from, to] = [from, to].map(|at| at.as_u64().unwrap() as usize);
        characters[from..to].iter().collect()
    };
    for (token, at) in tokens.iter().zip(all[0]["offsets"].as_array().unwrap()) {
        assert_eq!(part(&at[0], &at[1]), *token);
    }
    let entities = all[0]["entities"].as_array().unwrap();
    assert!(!entities.is_empty(), "{}", all[0]);
    for entity in entities {
        assert_eq!(value!(part(&entity["start"], &entity["end"])), entity["text"]);
    }
    let begun =
        all[0]["tags"].as_array().unwrap().iter().filter(|t| t.as_str().unwrap().starts_with('B'));
    assert!(entities.len() >= begun.count());
}

#[test]
fn no_word_of_a_long_document_is_lost() {
    let trained = Trained::new("roberta", 12, "");
    let words: Vec<(&str, &str)> = (0..60).flat_map(sentence).collect();
    let (words, gold): (Vec<&str>, Vec<&str>) = words.into_iter().unzip();
    let input = value!({ "tokens": words, "tags": gold }).to_string();
    let data = trained.folder.write("long.jsonl", format!("{input}\n{}", jsonl(0..3)));
    for more in [&["--max-length", "24"][..], &["--max-length", "24", "--stride", "3"]] {
        let all = trained.predict_jsonl(&fs::read_to_string(&data).unwrap(), more);
        assert_eq!(all.len(), 4);
        assert_eq!(all[0]["tags"].as_array().unwrap().len(), words.len());
        let right = gold.iter().enumerate().filter(|&(i, tag)| all[0]["tags"][i] == *tag).count();
        assert!(right as f64 > 0.75 * gold.len() as f64, "{right} of {}", gold.len());
        let args = [&["--data", str_of(&data)][..], more].concat();
        let eval = trained.run("eval", &args);
        assert!(eval.stderr.contains("1 of 4 texts is longer than 24 tokens"), "{}", eval.stderr);
    }
    let mut command =
        trained.command("eval", &["--data", str_of(&data), "--max-length", "9", "--stride", "7"]);
    Finished::of(&mut command)
        .fails(1, &["long.jsonl: line 1", "leaves 7 tokens", "--stride of 7"]);
}

#[test]
fn a_sentence_in_a_pipe_is_answered_before_the_next_comes() {
    let trained = Trained::new("bert", 1, "");
    let mut command = trained.command("predict", &[]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for words in [&["the", "harbour"][..], &["friends"]] {
        stdin.write_all(format!("{}\n\n", words.join("\n")).as_bytes()).unwrap();
        stdin.flush().unwrap();
        for word in words {
            let line = lines.next().unwrap().unwrap();
            assert!(line.starts_with(&format!("{word}\t")), "{line}");
        }
        assert_eq!(lines.next().unwrap().unwrap(), "");
    }
    drop(stdin);
    assert!(lines.next().is_none());
    assert!(child.wait().unwrap().success());
}

#[test]
fn words_without_a_token_are_told_and_answered() {
    let trained = Trained::new("bert", 1, "");
    // BERT's normalizer drops zero-width characters.
    let line = value!({ "tokens": ["they", "\u{200b}", "", "friends"], "tags": ["O", "O", "O", "B-PEOPLE"] });
    let data = trained.folder.write("odd.jsonl", format!("{line}\n"));
    let eval = trained.run("eval", &["--data", str_of(&data)]);
    assert!(eval.stderr.contains("2 words have no token"), "{}", eval.stderr);
    let all = trained.predict_jsonl(&line.to_string(), &[]);
    assert_eq!(all[0]["tokens"].as_array().unwrap().len(), 4);
    assert_eq!((&all[0]["tags"][1], &all[0]["tags"][2]), (&value!("O"), &value!("O")));
    let empty = trained.predict_jsonl("{\"tokens\": []}\n{\"tokens\": [\"\"]}\n", &[]);
    assert_eq!((&empty[0]["tags"], &empty[1]["tags"]), (&value!([]), &value!(["O"])));
    let mut command = trained.command("predict", &["--format", "jsonl"]);
    let mixed = "{\"tokens\": [\"they\"]}\n{\"text\": \"they\"}\n".to_owned();
    let done = Finished::fed(&mut command, mixed);
    done.fails(1, &["standard input:2: the key \"tokens\" is missing"]);
    assert!(done.stdout.starts_with("they\t"), "what came before is answered");
}

#[test]
fn parts_of_speech_are_measured_word_by_word() {
    let folder = Folder::new();
    let row = |(i, (word, tag)): (usize, &(&str, &str))| {
        let upos = if tag.starts_with('O') { "PART" } else { "NOUN" };
        format!("{}\t{word}\t_\t{upos}\t_\t_\t_\t_\t_\t_\n", i + 1)
    };
    let block = |i| sentence(i).iter().enumerate().map(row).collect::<String>() + "\n";
    let data = folder.write("a.conllu", (0..24).map(block).collect::<String>());
    let output = folder.path("run");
    let dev = format!("{TASK} --dev-fraction 0.25");
    let run = train(&fixture("bert"), &data, &output, &dev);
    assert!(
        run.stderr.contains("entity-f1 is not defined for these labels: accuracy chooses"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("words from form, tags from upos"), "{}", run.stderr);
    let result = json(&output.join("result.json"));
    assert_eq!(result["best"]["metric"], "accuracy");
    assert!(result["last"].get("macro_f1").is_some() && result["last"].get("precision").is_none());
    // Nobody asked for the measure that these tags lack, nor do the saved settings.
    Finished::of(&mut bitfit(["train", "--resume", "--output", str_of(&output)])).success();
    let settings = output.join("settings.toml");
    let again = folder.path("again");
    let args = ["train", "--config", str_of(&settings), "--output", str_of(&again)];
    Finished::of(&mut bitfit(args)).success();
    let other = folder.path("b");
    let asked = folder.write("asked.toml", "metric = \"entity-f1\"\n");
    for (more, metric) in [
        ("--metric recall".to_owned(), "recall"),
        ("--metric entity-f1".to_owned(), "entity-f1"),
        (format!("--config {}", asked.display()), "entity-f1"),
    ] {
        let args = train_args(&fixture("bert"), &data, &other, &format!("{dev} {more}"));
        let says = format!(
            "--metric {metric} is not defined for these labels; use accuracy, macro-f1, loss"
        );
        Finished::of(&mut bitfit(args)).fails(1, &[&says]);
        assert!(!other.exists());
    }
}

#[test]
fn a_merged_tagger_is_a_model_for_token_classification() {
    for (name, class) in
        [("bert", "BertForTokenClassification"), ("roberta", "RobertaForTokenClassification")]
    {
        let trained = Trained::new(name, 1, "");
        let merged = trained.folder.path("merged");
        trained.run("merge", &["--output", str_of(&merged)]);
        let config = json(&merged.join("config.json"));
        assert_eq!(config["architectures"], value!([class]));
        let names = value!({"0": "B-PEOPLE", "1": "B-PLACE", "2": "I-PLACE", "3": "O"});
        assert_eq!(config["id2label"], names);
        assert!(config.get("problem_type").is_none());
        let made = tensors(&merged.join("model.safetensors"));
        assert_eq!(made["classifier.weight"].0[0], 4);
        assert!(made.keys().all(|name| !name.contains("pooler") && !name.contains("dense.out")));
        assert!(
            made.contains_key("classifier.bias") && !made.contains_key("classifier.dense.bias")
        );
    }
}

#[test]
fn rare_tags_can_weigh_more_and_the_choice_is_kept() {
    let plain = Trained::new("bert", 1, "");
    let weighted = Trained::new("bert", 1, "--class-weights balanced");
    let losses = |trained: &Trained| number(&steps(&trained.output)[0], "loss");
    assert!(losses(&plain) != losses(&weighted));
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let folder = Folder::new();
    let good = folder.write("a.conll", conll(0..8));
    let refuse = |data: &Path, more: &str, code, parts: &[&str]| {
        let output = folder.path("none");
        let args = train_args(&fixture("bert"), data, &output, &format!("{TASK} {more}"));
        Finished::of(&mut bitfit(args)).fails(code, parts);
        assert!(!output.exists());
    };
    let other = folder.write("b.conll", "the O\nharbour B-SHIP\n");
    let dev = format!("--dev {}", other.display());
    refuse(&good, &dev, 1, &["b.conll:2: the label \"B-SHIP\" is unknown", "\"B-PLACE\""]);
    let other = folder.write("b.jsonl", r#"{"tokens": ["a", "b"], "tags": ["O", "B-SHIP"]}"#);
    let dev = format!("--dev {}", other.display());
    refuse(&good, &dev, 1, &["b.jsonl:1: word 2: the label \"B-SHIP\" is unknown"]);
    let uneven = folder.write("c.jsonl", "{\"tokens\": [\"a\"], \"tags\": []}\n");
    refuse(&uneven, "", 1, &["c.jsonl:1: 1 word in \"tokens\" and 0 tags in \"tags\""]);
    let table = folder.write("d.tsv", "text\tlabel\nthe harbour is quiet\tO\n");
    refuse(&table, "", 1, &["d.tsv:1: the line looks like column names"]);
    let csv = folder.write("e.csv", "the,O\n");
    refuse(&csv, "", 1, &["e.csv: cannot tell the format"]);
    refuse(&good, "--format csv", 1, &["reads words in columns"]);
    let same = folder.write("f.conll", "the O\nand O\n");
    refuse(&same, "", 1, &["f.conll: every row has the label \"O\""]);
    for (option, value) in [
        ("pooling", "mean"),
        ("pooler", "reinit"),
        ("text-pair-column", "b"),
        ("unlabelled", "drop"),
    ] {
        refuse(&good, &format!("--{option} {value}"), 2, &[&format!("--{option} does not apply")]);
    }
    refuse(&good, "--label-separator ,", 2, &["--label-separator splits a cell into labels"]);
    let texts = folder.write("g.tsv", toy_tsv(8, 2));
    let args = train_args(&fixture("bert"), &texts, &folder.path("none"), "--stride 4");
    Finished::of(&mut bitfit(args)).fails(2, &["--stride does not apply to --task classification"]);
    let args = train_args(&fixture("bert"), &good, &folder.path("none"), "--format conll");
    Finished::of(&mut bitfit(args)).fails(1, &["is for --task token-classification"]);
}
