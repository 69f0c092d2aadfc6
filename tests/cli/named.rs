//! Tasks by name: rows from the hub's layout and from the archives, both sets of MNLI, submission files, and refusals.

use crate::common::*;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn glue() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/glue")
}

/// Arguments of a run of a named task on the small BERT; `more` are words as on a command line.
fn named(task: &str, data: &Path, output: &Path, more: &str) -> Vec<String> {
    let model = fixture("bert").display().to_string();
    let mut args =
        ["train", "--threads", "1", "--dropout", "0", "--task", task].map(str::to_owned).to_vec();
    args.extend(["--model".into(), model, "--data".into(), data.display().to_string()]);
    args.extend(["--output".into(), output.display().to_string()]);
    args.extend(more.split_whitespace().map(str::to_owned));
    args
}

#[track_caller]
fn run(args: &[String]) -> Finished {
    Finished::of(&mut bitfit(args)).success()
}

fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(str::to_owned).collect()
}

/// Number and word of each answer in a submission file.
fn answers(path: &Path) -> Vec<(String, String)> {
    let lines = lines(path);
    assert_eq!(lines[0], "index\tprediction");
    let pair = |line: &String| {
        let (index, word) = line.split_once('\t').unwrap();
        (index.to_owned(), word.to_owned())
    };
    lines[1..].iter().map(pair).collect()
}

#[test]
fn a_task_by_its_name_brings_its_rows_recipe_and_measures() {
    let folder = Folder::new();
    let (output, answered) = (folder.path("run"), folder.path("answers"));
    let test = format!("--epochs 12 --lr 1e-2 --predict-test {}", answered.display());
    let done = run(&named("cola", &glue(), &output, &test));
    for said in [
        "CoLA of GLUE: 12 epochs at --lr 0.01, --batch-size 8, --schedule constant, --max-length 128, best by matthews",
        "CoLA.tsv: 7 answers",
    ] {
        assert!(done.stderr.contains(said), "no `{said}` in {}", done.stderr);
    }
    for said in ["best matthews", "as acceptable", "macro", "micro"] {
        assert!(done.stdout.contains(said), "no `{said}` in {}", done.stdout);
    }
    let result = json(&output.join("result.json"));
    let best = &result["best"];
    assert_eq!(best["metric"], "matthews");
    assert!(number(best, "value") > 0.9, "{result}");
    let confusion = &best["eval"]["confusion"];
    assert_eq!(confusion["labels"][1], "acceptable");
    let counted: u64 =
        (0..4).map(|i| confusion["gold_by_predicted"][i / 2][i % 2].as_u64().unwrap()).sum();
    assert_eq!(counted, 12);
    assert_eq!(best["eval"]["averages"]["micro"]["f1"], best["eval"]["accuracy"]);
    let settings = fs::read_to_string(output.join("settings.toml")).unwrap();
    for said in ["task = \"cola\"", "schedule = \"constant\"", "batch-size = 8", "data = "] {
        assert!(settings.contains(said), "{settings}");
    }
    assert_eq!(
        metadata(&output.join("bias.safetensors"))["labels"],
        r#"["unacceptable","acceptable"]"#
    );
    let answers = answers(&answered.join("CoLA.tsv"));
    let indices: Vec<_> = answers.iter().map(|(index, _)| index.as_str()).collect();
    assert_eq!(indices, ["0", "1", "2", "3", "4", "5", "6"]);
    // The classes of the test rows come in the same turn as those of the training rows.
    let words: Vec<_> = answers.iter().map(|(_, word)| word.as_str()).collect();
    assert!(words.contains(&"0") && words.contains(&"1"), "{words:?}");

    // The settings reproduce the run, and the delta on its own gives the answers, too.
    let again = folder.path("again");
    let settings = output.join("settings.toml");
    let args = ["train", "--config", settings.to_str().unwrap(), "--output"];
    Finished::of(bitfit(args).arg(&again)).success();
    assert_eq!(tensors(&output.join("bias.safetensors")), tensors(&again.join("bias.safetensors")));
    let other = folder.path("other");
    let args = ["predict", "--delta", output.to_str().unwrap(), "--predict-test"];
    Finished::of(bitfit(args).arg(&other)).success();
    assert_eq!(lines(&other.join("CoLA.tsv")), lines(&answered.join("CoLA.tsv")));
}

#[test]
fn where_the_answers_cannot_go_is_said_before_the_run() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path("taken/CoLA.tsv")).unwrap();
    folder.write("file", "");
    for (to, said) in [
        ("taken", "CoLA.tsv is a folder"),
        ("file", "is a file; name a folder"),
        ("file/in/it", "is a file; name a folder"),
    ] {
        let output = folder.path("run");
        let test = format!("--predict-test {}", folder.path(to).display());
        Finished::of(&mut bitfit(named("cola", &glue(), &output, &test)))
            .fails(1, &["--predict-test", said]);
        assert!(!output.exists());
    }
}

#[test]
fn mnli_is_measured_on_both_of_its_dev_sets_and_answers_the_diagnostic_rows() {
    let folder = Folder::new();
    let (output, answered) = (folder.path("run"), folder.path("answers"));
    let test = format!("--epochs 2 --lr 1e-2 --predict-test {}", answered.display());
    let done = run(&named("mnli", &glue(), &output, &test));
    assert!(
        done.stderr.contains("dev matched loss") && done.stderr.contains("dev mismatched loss")
    );
    assert!(done.stdout.contains("mismatched accuracy at that step"), "{}", done.stdout);
    let evals: Vec<Value> =
        metrics(&output).into_iter().filter(|line| line.get("eval").is_some()).collect();
    assert_eq!(evals.len(), 2);
    for line in &evals {
        number(&line["eval"], "accuracy");
        number(&line["eval_mismatched"], "accuracy");
    }
    let result = json(&output.join("result.json"));
    let best = &result["best"];
    assert_eq!(best["eval"]["accuracy"], best["value"], "matched chooses");
    number(&best["eval_mismatched"], "accuracy");
    number(&result["last_mismatched"], "accuracy");
    for (file, rows) in [("MNLI-m.tsv", 5), ("MNLI-mm.tsv", 4), ("AX.tsv", 6)] {
        let answers = answers(&answered.join(file));
        assert_eq!(answers.len(), rows, "{file}");
        let known = ["entailment", "neutral", "contradiction"];
        assert!(answers.iter().all(|(_, word)| known.contains(&word.as_str())), "{answers:?}");
    }

    let delta = output.to_str().unwrap();
    let measured = folder.path("measured.json");
    let args = ["eval", "--delta", delta, "--per-class", "--output"];
    let done = Finished::of(bitfit(args).arg(&measured)).success();
    for said in ["matched rows", "mismatched rows", "precision", "contradiction"] {
        assert!(done.stdout.contains(said), "no `{said}` in {}", done.stdout);
    }
    let measured = json(&measured);
    assert_eq!(measured["accuracy"], best["eval"]["accuracy"]);
    assert_eq!(measured["mismatched"]["accuracy"], best["eval_mismatched"]["accuracy"]);
    assert_eq!(measured["classes"][2]["label"], "contradiction");
    assert_eq!(measured["rows"], 12);

    // Only the diagnostic rows.
    let alone = folder.path("alone");
    let args = ["predict", "--delta", delta, "--task", "ax", "--predict-test"];
    Finished::of(bitfit(args).arg(&alone)).success();
    assert_eq!(lines(&alone.join("AX.tsv")), lines(&answered.join("AX.tsv")));
    assert_eq!(fs::read_dir(&alone).unwrap().count(), 1);
    let args = ["predict", "--delta", delta, "--task", "rte", "--predict-test"];
    Finished::of(bitfit(args).arg(&alone)).fails(1, &["trained on MNLI", "those of RTE"]);
}

#[test]
fn each_of_two_dev_sets_that_learned_nothing_is_said() {
    let folder = Folder::new();
    let output = folder.path("run");
    let trained = run(&named("mnli", &glue(), &output, "--steps 1"));
    let args = ["eval", "--delta", output.to_str().unwrap()];
    let measured = Finished::of(&mut bitfit(args)).success();
    for said in [trained.stderr, measured.stderr] {
        for part in ["matched", "mismatched"] {
            assert!(said.contains(&format!("warning: {part} rows: the accuracy of 0.")), "{said}");
        }
    }
}

#[test]
fn a_run_of_two_dev_sets_gives_its_result_again_when_it_is_resumed() {
    let folder = Folder::new();
    let (whole, parts) = (folder.path("whole"), folder.path("parts"));
    run(&named("mnli", &glue(), &whole, "--epochs 2 --lr 1e-2"));
    run(&named("mnli", &glue(), &parts, "--epochs 2 --lr 1e-2"));
    let args = ["train", "--resume", "--output", parts.to_str().unwrap()];
    Finished::of(&mut bitfit(args)).success();
    assert_eq!(timeless(&whole), timeless(&parts));
    let best = |run: &Path| json(&run.join("result.json"))["best"].clone();
    assert_eq!(best(&whole), best(&parts));
}

/// STS-B as in its archive; the scores of the test rows are to be predicted.
fn sts(folder: &Folder) -> PathBuf {
    let base = folder.path("STS-B");
    fs::create_dir(&base).unwrap();
    let head = "index\tgenre\tsentence1\tsentence2";
    let row = |i: usize| format!("{i}\tg\tthe second \"film\t{}", text_of(i % 2, i));
    let scored = |i: usize| format!("{}\t{}\n", row(i), [4.8, 0.1][i % 2]);
    let of = |rows: std::ops::Range<usize>| rows.map(scored).collect::<String>();
    fs::write(base.join("train.tsv"), format!("{head}\tscore\n{}", of(0..32))).unwrap();
    fs::write(base.join("dev.tsv"), format!("{head}\tscore\n{}", of(32..44))).unwrap();
    let test: String = (0..6).rev().map(|i| row(i) + "\n").collect();
    fs::write(base.join("test.tsv"), format!("{head}\n{test}")).unwrap();
    base
}

#[test]
fn scores_of_test_rows_stay_in_their_range_under_the_files_own_numbers() {
    let folder = Folder::new();
    let data = sts(&folder);
    let (output, answered) = (folder.path("run"), folder.path("answers"));
    // Such a high rate overshoots.
    let more = format!("--epochs 4 --lr 5e-2 --predict-test {}", answered.display());
    run(&named("stsb", &data, &output, &more));
    let result = json(&output.join("result.json"));
    assert_eq!(result["best"]["metric"], "pearson");
    number(&result["best"]["eval"], "spearman");
    let answers = answers(&answered.join("STS-B.tsv"));
    let indices: Vec<_> = answers.iter().map(|(index, _)| index.as_str()).collect();
    assert_eq!(indices, ["5", "4", "3", "2", "1", "0"]);
    for (_, score) in answers {
        assert!((0.0..=5.0).contains(&score.parse::<f32>().unwrap()), "{score}");
    }
}

#[test]
fn a_plain_file_of_a_named_task_has_its_classes_and_measures() {
    let folder = Folder::new();
    let mut text = "sentence1\tsentence2\tlabel\n".to_owned();
    for i in 0..24 {
        text += &format!("the second film\t{}\t{}\n", text_of(i % 2, i), i % 2);
    }
    let data = folder.write("a.tsv", &text);
    let output = folder.path("run");
    let more = format!("--task mrpc --epochs 2 --dev {}", data.display());
    let done = train(&fixture("bert"), &data, &output, &more);
    assert!(
        done.stdout.contains("best f1") && done.stdout.contains("accuracy at that step"),
        "{}",
        done.stdout
    );
    let delta = output.to_str().unwrap();
    let done =
        Finished::of(&mut bitfit(["eval", "--delta", delta, "--data", data.to_str().unwrap()]));
    assert!(done.success().stdout.contains("f1"));
    let about = metadata(&output.join("bias.safetensors"));
    assert_eq!(about["labels"], r#"["not_equivalent","equivalent"]"#);
}

#[test]
fn rows_of_mnli_without_a_gold_label_are_refused_or_left_out_as_in_any_file() {
    let folder = Folder::new();
    let base = folder.path("MNLI");
    fs::create_dir(&base).unwrap();
    let head = "sentence1\tsentence2\tgold_label\n";
    let of = |words: &[&str]| -> String {
        let row = |(i, word): (usize, &&str)| format!("the film\t{}\t{word}\n", text_of(i % 3, i));
        head.to_owned() + &words.iter().enumerate().map(row).collect::<String>()
    };
    let words = ["entailment", "neutral", "contradiction"];
    let dashed = of(&[&words[..], &["-"], &words, &["null", "-1"]].concat());
    for (name, text) in [
        ("train.tsv", of(&words.repeat(4))),
        ("dev_matched.tsv", dashed.clone()),
        ("dev_mismatched.tsv", of(&words)),
    ] {
        fs::write(base.join(name), text).unwrap();
    }
    let output = folder.path("run");
    let args = |more: &str| named("mnli", &folder.path("."), &output, &format!("--steps 1 {more}"));
    Finished::of(&mut bitfit(args(""))).fails(
        1,
        &["dev_matched.tsv:5, column \"gold_label\"", "\"-\" means", "--unlabelled drop"],
    );
    assert!(!output.exists());
    let done = run(&args("--unlabelled drop"));
    assert!(done.stderr.contains("3 rows without a label are left out"), "{}", done.stderr);

    let delta = output.to_str().unwrap();
    let eval = |more: &[&str]| {
        Finished::of(&mut bitfit([&["eval", "--delta", delta, "--quiet"], more].concat()))
    };
    eval(&["--unlabelled", "refuse"]).fails(1, &["dev_matched.tsv:5", "--unlabelled drop"]);
    eval(&[]).success();

    // The same rows in a user's own file.
    let own = folder.write("own.tsv", dashed);
    let args = |more: &str| {
        let more = format!("--task mnli --steps 1 --dev-fraction 0.5 {more}");
        train_args(&fixture("bert"), &own, &folder.path("own"), &more)
    };
    Finished::of(&mut bitfit(args(""))).fails(1, &["own.tsv:5", "\"-\"", "--unlabelled drop"]);
    run(&args("--unlabelled drop"));
}

#[test]
fn a_collapse_is_said_after_train_and_after_eval() {
    let folder = Folder::new();
    let mut text = "text\tlabel\n".to_owned();
    for i in 0..20 {
        text += &format!("{}\t{}\n", text_of(0, i), ["often", "rare"][usize::from(i % 5 == 0)]);
    }
    let data = folder.write("a.tsv", &text);
    let output = folder.path("run");
    let done =
        train(&fixture("bert"), &data, &output, &format!("--epochs 1 --dev {}", data.display()));
    let told = "warning: all of the 20 rows";
    for part in [told, "\"often\"", "--class-weights", "--lr", "--epochs"] {
        assert!(done.stderr.contains(part), "no `{part}` in {}", done.stderr);
    }
    let args =
        ["eval", "--delta", output.to_str().unwrap(), "--data", data.to_str().unwrap(), "--quiet"];
    let done = Finished::of(&mut bitfit(args)).success();
    assert!(done.stderr.contains(told), "{}", done.stderr);
}

#[test]
fn what_a_name_cannot_mean_is_refused_before_anything_runs() {
    let folder = Folder::new();
    let output = folder.path("run");
    let data = folder.write("a.tsv", toy_tsv(8, 2));
    let refused = |args: &[String], code, parts: &[&str]| {
        Finished::of(&mut bitfit(args)).fails(code, parts);
        assert!(!output.exists());
    };
    for (task, parts) in [
        ("copa", &["copa is not supported", "two pairs"][..]),
        ("ax", &["ax has no rows to train on", "train mnli", "predict --task ax"]),
        (
            "wnli",
            &[
                "no train rows of WNLI",
                "wnli/train-00000-of-00001.parquet",
                "WNLI/train.tsv",
                "there are files of CoLA",
            ],
        ),
    ] {
        let code = if task == "wnli" { 1 } else { 2 };
        refused(&named(task, &glue(), &output, ""), code, parts);
    }
    let plain = |more: &str| train_args(&fixture("bert"), &data, &output, more);
    let glue = glue();
    refused(
        &plain("--task wic"),
        2,
        &["--train does not apply to --task wic", "word and sentence1"],
    );
    refused(
        &plain(&format!("--data {}", glue.display())),
        2,
        &["--data is the folder of a named task"],
    );
    let both = format!("--task cola --data {}", glue.display());
    refused(&plain(&both), 2, &["--data names the folder with all of CoLA's files"]);
    refused(
        &plain("--predict-test x"),
        2,
        &["--predict-test answers the test rows of a named task"],
    );
    refused(&plain("--metric f1"), 2, &["f1 does not fit --task classification"]);
    refused(&named("cola", &folder.path("none"), &output, ""), 1, &["there is no such folder"]);
    refused(
        &named("cola", &glue, &output, "--metric pearson"),
        2,
        &["use matthews, accuracy, macro-f1, loss"],
    );
    // Missing test rows are noticed before hours are spent.
    refused(
        &named("qqp", &glue, &output, "--dev-fraction 0.5 --predict-test x"),
        1,
        &["no test rows of QQP"],
    );
    // Two of its three splits.
    refused(
        &named("qqp", &glue, &output, ""),
        1,
        &["no validation rows of QQP", "--dev FILE or --dev-fraction"],
    );
    let help = Finished::of(&mut bitfit(["train", "--help"])).success().stdout;
    for part in ["GLUE: is a sentence acceptable", "SuperGLUE: does a word", "--predict-test"] {
        assert!(help.contains(part), "{part}");
    }
    assert!(!help.contains("copa"));
}
