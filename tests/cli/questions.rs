//! `--task question-answering`, from SQuAD's files to answers and a merged model.

use crate::common::*;
use crate::resume::{reaches, same_end, signal};
use serde_json::{Value, json as value};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

const FILLER: [&str; 6] = ["the", "is in", "and", "again", "they", "that"];
const TELLING: [&str; 3] = ["harbour", "tickets", "film"];

/// Where a question's answer is, in characters.
struct Question {
    context: String,
    answer: Option<(String, usize)>,
}

/// Every fourth has no answer if `none` is set; every fifth is longer than a window. Before the answer come multi-byte
/// characters, one written as two, and in every third a two-character line break.
fn question(i: usize, none: bool) -> Question {
    let fill = |n: usize| (0..n).map(|k| FILLER[(i * 5 + k * 7) % 6]).collect::<Vec<_>>().join(" ");
    let before = format!("😀 e\u{301} {}", fill(if i % 5 == 4 { 60 } else { 2 + i % 5 }));
    let word = TELLING[i % 3].to_owned();
    if none && i % 4 == 3 {
        return Question { context: before, answer: None };
    }
    let between = if i.is_multiple_of(3) { "\r\n" } else { " " };
    let start = before.chars().count() + between.len();
    Question {
        context: format!("{before}{between}{word}, {}", fill(3)),
        answer: Some((word, start)),
    }
}

/// SQuAD's form, two questions on each paragraph and several paragraphs per article.
pub fn squad(count: usize, none: bool) -> String {
    let paragraph = |i: usize| {
        let Question { context, answer } = question(i, none);
        let mut one = value!({"id": format!("q{i}"), "question": "what is that?"});
        match answer {
            Some((text, start)) => {
                one["answers"] = value!([{"text": text, "answer_start": start}, {"text": context[..4], "answer_start": 0}]);
            }
            None => {
                one["answers"] = value!([]);
                one["is_impossible"] = value!(true);
                one["plausible_answers"] = value!([{"text": "nowhere", "answer_start": 1}]);
            }
        }
        value!({"context": context, "qas": [one]})
    };
    let all: Vec<Value> = (0..count).map(paragraph).collect();
    let articles: Vec<Value> =
        all.chunks(5).map(|part| value!({"title": "t", "paragraphs": part})).collect();
    value!({"version": "v2.0", "data": articles}).to_string()
}

/// The same questions as JSON lines, without answers.
pub fn lines(count: usize, none: bool) -> String {
    let line = |i: usize| {
        let question = question(i, none);
        value!({"question": "what is that?", "context": question.context}).to_string() + "\n"
    };
    (0..count).map(line).collect()
}

struct Trained {
    folder: Folder,
    data: PathBuf,
    output: PathBuf,
}

impl Trained {
    fn new(model: &str, none: bool) -> Self {
        let folder = Folder::new();
        let data = folder.write("a.json", squad(40, none));
        let output = folder.path("run");
        let options = "--task question-answering --lr 1e-2 --epochs 40 --batch-size 8 --dev";
        train(&fixture(model), &data, &output, &format!("{options} {}", data.display()));
        Self { folder, data, output }
    }

    fn run(&self, name: &str, more: &[&str]) -> Finished {
        let delta = self.output.to_str().unwrap();
        Finished::of(&mut bitfit([&[name, "--delta", delta][..], more].concat()))
    }

    fn answers(&self, input: &Path, more: &[&str]) -> Vec<Value> {
        let args = [&["--output-format", "jsonl", "--input", input.to_str().unwrap()][..], more];
        let out = self.run("predict", &args.concat()).success().stdout;
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn questions_are_learned_and_answered_from_the_text_by_its_offsets() {
    for model in ["bert", "roberta"] {
        let trained = Trained::new(model, true);
        let best = number(&json(&trained.output.join("result.json"))["best"], "value");
        assert!(best > 0.8, "{model}: {best}");
        let threshold = metadata(&trained.output.join("bias.safetensors"))["no_answer"].clone();
        assert!(threshold.parse::<f64>().is_ok(), "{threshold}");

        let answers = trained.answers(&trained.data, &[]);
        assert_eq!(answers.len(), 40);
        let mut right = 0.0;
        for (i, answer) in answers.iter().enumerate() {
            assert_eq!(answer["id"], format!("q{i}"));
            let Question { context, answer: gold } = question(i, true);
            let text = answer["answer"].as_str().unwrap();
            let p = number(answer, "score");
            assert!(p > 0.0 && p <= 1.0, "{answer}");
            if text.is_empty() {
                assert_eq!((&answer["start"], &answer["end"]), (&Value::Null, &Value::Null));
            } else {
                let [start, end] =
                    ["start", "end"].map(|key| answer[key].as_u64().unwrap() as usize);
                let cut: String = context.chars().skip(start).take(end - start).collect();
                assert_eq!(cut, text, "{model}");
            }
            let exceeds = number(answer, "null_score") > threshold.parse().unwrap();
            assert_eq!(exceeds, text.is_empty(), "{answer}");
            right += f64::from(u8::from(text == gold.map_or(String::new(), |(word, _)| word)));
        }
        assert!(right / 40.0 > 0.7, "{model}: {right}");

        // Lines have no ids, and a different key order; tables say the same.
        let plain = trained.folder.write("a.jsonl", lines(40, true));
        let from_lines = trained.answers(&plain, &[]);
        let texts =
            |answers: &[Value]| answers.iter().map(|a| a["answer"].clone()).collect::<Vec<_>>();
        assert_eq!(texts(&from_lines), texts(&answers), "{model}");
        let args = ["--input", plain.to_str().unwrap(), "--output-format", "tsv"];
        let table = trained.run("predict", &args).success().stdout;
        let fields: Vec<Value> =
            table.lines().skip(1).map(|line| line.split('\t').nth(1).unwrap().into()).collect();
        assert_eq!(fields, texts(&answers), "{model}");
    }
}

#[test]
fn eval_measures_what_training_measured_at_its_best_and_squads_file_has_every_id() {
    let trained = Trained::new("bert", true);
    let to = trained.folder.path("eval.json");
    let data = trained.data.to_str().unwrap();
    trained.run("eval", &["--data", data, "--output", to.to_str().unwrap()]).success();
    let best = json(&trained.output.join("result.json"))["best"].clone();
    let at_best = metrics(&trained.output)
        .into_iter()
        .find(|line| line.get("eval").is_some() && line["step"] == best["step"])
        .unwrap();
    let measured = json(&to);
    for key in ["f1", "exact_match", "has_answer_f1", "has_answer_exact", "no_answer_exact"] {
        let (a, b) = (number(&measured, key), number(&at_best["eval"], key));
        assert!((a - b).abs() < 1e-12, "{key}: {a} {b}");
    }
    assert_eq!(number(&measured, "rows"), 40.0);
    assert_eq!(measured["no_answer_threshold"], at_best["eval"]["no_answer_threshold"]);

    let answers = trained.answers(&trained.data, &[]);
    let file = trained.folder.path("predictions.json");
    let args = ["--input", data, "--output-format", "squad", "--output", file.to_str().unwrap()];
    trained.run("predict", &args).success();
    let predictions = json(&file);
    assert_eq!(predictions.as_object().unwrap().len(), 40);
    for answer in &answers {
        assert_eq!(predictions[answer["id"].as_str().unwrap()], answer["answer"]);
    }

    // Another threshold: nothing is answered, or everything.
    let none = trained.answers(&trained.data, &["--no-answer-threshold", "-1e6"]);
    assert!(none.iter().all(|answer| answer["answer"] == ""));
    let all = trained.answers(&trained.data, &["--no-answer-threshold", "never"]);
    assert!(all.iter().all(|answer| answer["answer"] != "" && answer.get("null_score").is_none()));
    let short = trained
        .answers(&trained.data, &["--no-answer-threshold", "never", "--max-answer-length", "1"]);
    assert!(short.iter().all(|answer| !answer["answer"].as_str().unwrap().contains(' ')));
}

#[test]
fn where_every_question_has_an_answer_one_is_always_given() {
    let trained = Trained::new("bert", false);
    assert_eq!(metadata(&trained.output.join("bias.safetensors"))["no_answer"], "never");
    let plain = trained.folder.write("a.jsonl", lines(40, true));
    let answers = trained.answers(&plain, &[]);
    assert!(answers.iter().all(|answer| answer["answer"] != ""));
}

#[test]
fn questions_without_an_answer_are_told_of_where_one_is_always_given() {
    let trained = Trained::new("bert", false);
    let some = trained.folder.write("some.json", squad(8, true));
    let evaluated = trained.run("eval", &["--data", some.to_str().unwrap()]).success();
    let part = "the model always gives one";
    assert!(evaluated.stderr.contains(part), "{}", evaluated.stderr);
    let output = trained.folder.path("other");
    let options = format!("--task question-answering --steps 1 --dev {}", some.display());
    let run = train(&fixture("bert"), &trained.data, &output, &options);
    assert!(run.stderr.contains(part), "{}", run.stderr);
    assert_eq!(metadata(&output.join("bias.safetensors"))["no_answer"], "never");
    // Conversely, no dev row says when to give none.
    let options = format!("--task question-answering --steps 1 --dev {}", trained.data.display());
    let output = trained.folder.path("third");
    let run = train(&fixture("bert"), &some, &output, &options);
    assert!(run.stderr.contains("the threshold for giving no answer stays at 0"), "{}", run.stderr);
    assert_eq!(metadata(&output.join("bias.safetensors"))["no_answer"], "0");
}

#[test]
fn an_interrupted_run_goes_on_to_the_same_bits_and_the_same_threshold() {
    let folder = Folder::new();
    let data = folder.write("a.json", squad(24, true));
    let options = format!(
        "--task question-answering --lr 5e-3 --epochs 12 --batch-size 8 --dropout 0.1 --dev {}",
        data.display()
    );
    let [whole, killed] = ["whole", "killed"].map(|name| folder.path(name));
    train(&fixture("bert"), &data, &whole, &options);
    let mut child = bitfit(train_args(&fixture("bert"), &data, &killed, &options))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(reaches(&mut child, &killed, 10), "the run ended before it could be killed");
    signal(&child, "KILL");
    child.wait().unwrap();
    Finished::of(bitfit(["train", "--resume", "--output"]).arg(&killed)).success();
    same_end(&whole, &killed);
    let threshold = |run: &Path| metadata(&run.join("bias.safetensors"))["no_answer"].clone();
    assert_eq!(threshold(&whole), threshold(&killed));
    let result = json(&killed.join("result.json"));
    let told = number(&result["best"]["eval"], "no_answer_threshold");
    assert_eq!(threshold(&killed).parse(), Ok(told));
}

#[test]
fn a_whole_model_keeps_its_threshold() {
    let folder = Folder::new();
    let data = folder.write("a.json", squad(8, true));
    let output = folder.path("run");
    let options =
        format!("--task question-answering --method full --steps 2 --dev {0}", data.display());
    train(&fixture("bert"), &data, &output, &options);
    let to = folder.path("eval.json");
    let mut eval = bitfit(["eval", "--delta"]);
    let eval = eval.arg(&output).arg("--data").arg(&data).arg("--output").arg(&to);
    Finished::of(eval).success();
    let best = json(&output.join("result.json"))["best"]["eval"].clone();
    for key in ["f1", "exact_match", "no_answer_threshold"] {
        assert_eq!(number(&json(&to), key), number(&best, key), "{key}");
    }
}

#[test]
fn a_question_in_a_pipe_is_answered_before_the_next_is_there() {
    let trained = Trained::new("bert", true);
    let mut child = bitfit(["predict", "--quiet", "--output-format", "jsonl", "--delta"])
        .arg(&trained.output)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let (send, answers) = std::sync::mpsc::channel();
    let out = BufReader::new(child.stdout.take().unwrap());
    let reading = std::thread::spawn(move || {
        for line in out.lines() {
            send.send(line.unwrap()).unwrap();
        }
    });
    for line in lines(3, false).lines() {
        writeln!(stdin, "{line}").unwrap();
        stdin.flush().unwrap();
        let answer = answers.recv_timeout(HANGS).expect("an answer");
        assert!(answer.contains("\"answer\""), "{answer}");
    }
    drop(stdin);
    reading.join().unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_merged_model_is_the_class_that_transformers_answers_questions_with() {
    for (name, class) in
        [("bert", "BertForQuestionAnswering"), ("roberta", "RobertaForQuestionAnswering")]
    {
        let folder = Folder::new();
        let data = folder.write("a.json", squad(8, true));
        let output = folder.path("run");
        let options = "--task question-answering --steps 2 --weights f32";
        train(&fixture(name), &data, &output, options);
        let merged = folder.path("merged");
        let mut command = bitfit(["merge", "--delta"]);
        Finished::of(command.arg(&output).arg("--output").arg(&merged)).success();
        let config = json(&merged.join("config.json"));
        assert_eq!(config["architectures"], value!([class]));
        let (made, delta) =
            (tensors(&merged.join("model.safetensors")), tensors(&output.join("bias.safetensors")));
        assert!(delta.iter().all(|(name, content)| made.get(name) == Some(content)));
        assert_eq!(made["qa_outputs.weight"].0[0], 2);
        assert!(made.keys().all(|name| !name.contains("pooler") && !name.contains("classifier")));
    }
}

#[test]
fn what_cannot_be_answered_or_read_is_refused_by_its_place() {
    let folder = Folder::new();
    let model = fixture("bert");
    let good = squad(4, true);
    let answered = squad(4, false);
    let shifted = good.replacen("\"answer_start\":16", "\"answer_start\":17", 1);
    for (file, content, options, code, parts) in [
        (
            "a.json",
            shifted.as_str(),
            "",
            1,
            &["a.json:1: data[0].paragraphs[0].qas[0] (id \"q0\")", "it is at 16"][..],
        ),
        ("a.json", "{\"data\": [", "", 1, &["a.json:1:10: no SQuAD file"]),
        ("a.tsv", "question\tcontext\n", "", 1, &["a.tsv: questions are read from SQuAD's JSON"]),
        ("a.json", good.as_str(), "--format csv", 1, &["--task question-answering reads"]),
        ("a.json", good.as_str(), "--text-column body", 2, &["--text-column"]),
        ("a.json", good.as_str(), "--metric accuracy", 2, &["--metric", "f1, exact-match"]),
        (
            "a.json",
            answered.as_str(),
            "--metric no-answer-exact --dev-fraction 0.5",
            1,
            &[
                "--metric no-answer-exact is not defined for these labels; use f1, exact-match, loss",
            ],
        ),
        ("a.json", good.as_str(), "--max-answer-length 0", 2, &["--max-answer-length"]),
        ("a.json", good.as_str(), "--stride 60", 1, &["a.json", "line 1", "--stride of 60"]),
    ] {
        let data = folder.write(file, content);
        let output = folder.path("run");
        let options = format!("--task question-answering {options}");
        let run = Finished::of(&mut bitfit(train_args(&model, &data, &output, &options)));
        run.fails(code, parts);
        assert!(!output.exists(), "{options}");
    }

    let data = folder.write("a.json", good);
    let output = folder.path("run");
    train(&model, &data, &output, "--task question-answering --steps 1");
    let predict = |input: &str, more: &[&str]| {
        let input = folder.write("in.jsonl", input);
        let mut command = bitfit(["predict", "--quiet", "--delta"]);
        Finished::of(command.arg(&output).arg("--input").arg(input).args(more))
    };
    let line = "{\"question\": \"a\", \"context\": \"b\"}\n";
    let run = predict(&format!("{line}{{\"question\": \"a\"}}\n"), &["--output-format", "jsonl"]);
    run.fails(1, &["in.jsonl:2: the key \"context\" is missing"]);
    assert_eq!(run.stdout.lines().count(), 1, "the question ahead is answered");
    predict(line, &["--output-format", "squad"]).fails(1, &["in.jsonl:1", "has no id"]);
    let twice = "{\"id\": 1, \"question\": \"a\", \"context\": \"b\"}\n".repeat(2);
    predict(&twice, &["--output-format", "squad"])
        .fails(1, &["in.jsonl:2", "the id \"1\" is used twice"]);

    let texts = folder.write("t.tsv", toy_tsv(12, 3));
    let other = folder.path("other");
    train(&model, &texts, &other, "--steps 1");
    let run = predict(line, &["--text-column", "context"]);
    run.fails(2, &["--text-column does not apply to --task question-answering"]);
    for more in
        [["--output-format", "squad"], ["--no-answer-threshold", "0"], ["--max-answer-length", "3"]]
    {
        let mut command = bitfit(["predict", "--delta"]);
        let run = Finished::of(command.arg(&other).arg("--input").arg(&texts).args(more));
        run.fails(2, &[more[0], "does not apply to --task classification"]);
    }
}

#[test]
fn ids_that_come_twice_and_answers_beyond_a_window_are_said() {
    let folder = Folder::new();
    let mut file: Value = serde_json::from_str(&squad(4, true)).unwrap();
    let qas = &mut file["data"][0]["paragraphs"][1]["qas"];
    let context = question(1, true).context;
    qas[0]["id"] = value!("q0");
    qas[0]["answers"] = value!([{"text": context, "answer_start": 0}]);
    let data = folder.write("a.json", file.to_string());
    let output = folder.path("run");
    // Windows of 12 tokens, at most 6 of them the question's.
    let run = train(
        &fixture("bert"),
        &data,
        &output,
        "--task question-answering --steps 1 --max-length 14",
    );
    assert!(
        run.stderr.contains("1 question has the id of another question, the first \"q0\""),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("4 questions, 1 of them without an answer;"), "{}", run.stderr);
    assert!(run.stderr.contains("whole in no window"), "{}", run.stderr);
}
