//! Files read as something other than what they are: each is refused with its place, or the reading is reported.

use crate::common::*;
use crate::tags::TASK;
use std::path::Path;

fn tried(folder: &Folder, name: &str, content: &str, more: &str) -> Finished {
    let data = folder.write(name, content);
    let args = train_args(&fixture("bert"), &data, &folder.path("run"), more);
    let run = Finished::of(&mut bitfit(args));
    let _ = std::fs::remove_dir_all(folder.path("run"));
    run
}

fn asked(name: &str, delta: &Path, option: &str, input: &Path) -> Finished {
    let mut command = bitfit([name, "--delta"]);
    command.arg(delta).arg(option).arg(input);
    if name == "predict" {
        command.args(["--output", "-"]);
    }
    Finished::of(&mut command)
}

#[track_caller]
fn says(run: Finished, parts: &[&str]) {
    let run = run.success();
    for part in parts {
        assert!(run.stderr.contains(part), "no `{part}` in {}", run.stderr);
    }
}

#[test]
fn quotes_that_a_csv_has_otherwise_are_refused_and_a_tsvs_are_counted() {
    let folder = Folder::new();
    let csv = "text,label\n\"the harbour\",sea\n\"the \\\"film\\\" again\",land\n";
    tried(&folder, "a.csv", csv, "--steps 1").fails(1, &["a.csv:3:8: 'f'", "a backslash"]);
    let run = folder.path("trained");
    let data = folder.write("a.tsv", toy_tsv(8, 2));
    train(&fixture("bert"), &data, &run, "--steps 1");
    let input = folder.write("b.csv", "text\n\"the \"film\" again\"\n");
    asked("predict", &run, "--input", &input).fails(1, &["b.csv:2:7: 'f'"]);
    let tsv = toy_tsv(8, 2) + "\"he said \"\"again\"\" they\"\tsea\n";
    says(tried(&folder, "a.tsv", &tsv, "--steps 1"), &["1 text is in quotes", "on line 10"]);
    let tsv = toy_tsv(8, 2) + "\"again they\"\tsea\n";
    says(tried(&folder, "a.tsv", &tsv, "--steps 1"), &["1 text begins and ends with a quote"]);
}

#[test]
fn columns_of_words_that_are_numbers_or_tags_are_refused() {
    let folder = Folder::new();
    let task = format!("{TASK} --steps 1");
    for numbers in
        ["0\tthe\tO\n1\tharbour\tB-X\n2\tagain\tO\n", "1\tthe\tO\n2\tharbour\tB-X\n\n1\tagain\tO\n"]
    {
        let run = tried(&folder, "a.tsv", numbers, &task);
        run.fails(1, &["a.tsv:1: column 1 numbers", "--text-column 2"]);
    }
    let turned = "O\tthe\nB-X\tharbour\n\nO\tagain\n";
    tried(&folder, "a.tsv", turned, &task)
        .fails(1, &["a.tsv:2: \"B-X\" is taken for a word", "--text-column"]);
    says(tried(&folder, "a.tsv", turned, &format!("{task} --text-column 2 --label-column 1")), &[]);
}

#[test]
fn rows_of_pairs_without_a_second_text_are_counted_where_they_are_answered() {
    let folder = Folder::new();
    let row = |i: usize| format!("{}\tthe film\t{}\n", text_of(i % 2, i), CLASSES[i % 2]);
    let rows: String = (0..8).map(row).collect();
    let data = folder.write("p.tsv", format!("text\ttext_pair\tlabel\n{rows}"));
    let run = folder.path("trained");
    train(&fixture("bert"), &data, &run, "--steps 1");
    let some = folder.write("a.tsv", "text\ttext_pair\nharbour\tfilm\nthe train\t\n");
    says(asked("predict", &run, "--input", &some), &["a.tsv: no second text for 1 of 2 rows"]);
    let none = folder.write("b.tsv", "text\ttext_pair\nharbour\t\nthe train\t\n");
    says(
        asked("predict", &run, "--input", &none),
        &["warning: ", "b.tsv: the column for the second text is empty in every row"],
    );
}

#[test]
fn numbers_for_none_are_dealt_with_in_evaluation_as_in_training() {
    let folder = Folder::new();
    let rows = |labels: &[&str]| {
        let row = |(i, label): (usize, &&str)| format!("{}\t{label}\n", text_of(0, i));
        format!("text\tlabel\n{}", labels.iter().enumerate().map(row).collect::<String>())
    };
    let data = folder.write("a.tsv", rows(&["0.5", "4", "1", "-3"]));
    let run = folder.path("trained");
    // One is negative there, so any may be here.
    let dev = folder.write("dev.tsv", rows(&["0.5", "-9", "2"]));
    let more = format!("--task regression --steps 1 --dev {}", dev.display());
    train(&fixture("bert"), &data, &run, &more);
    asked("eval", &run, "--data", &dev).fails(1, &["dev.tsv:3: the label \"-9\"", "--unlabelled"]);
    let one = folder.write("one.tsv", rows(&["0.5", "-1", "2"]));
    says(
        asked("eval", &run, "--data", &one),
        &["the label -1 often means", "measured as a number"],
    );
}

#[test]
fn rows_in_the_order_of_their_labels_that_stay_so_are_said() {
    let folder = Folder::new();
    let row = |i: usize| format!("{}\t{}\n", text_of(i / 4, i), CLASSES[i / 4]);
    let rows: String = (0..8).map(row).collect();
    let sorted = format!("text\tlabel\n{rows}");
    let said = "--no-shuffle: the rows to train on are sorted by label";
    says(tried(&folder, "a.tsv", &sorted, "--steps 1 --no-shuffle"), &[said]);
    let shuffled = tried(&folder, "a.tsv", &sorted, "--steps 1").success();
    assert!(!shuffled.stderr.contains(said), "{}", shuffled.stderr);
}

#[test]
fn questions_that_no_text_answers_teach_nothing_and_that_is_said() {
    let folder = Folder::new();
    let line = "{\"question\": \"what is that?\", \"context\": \"the harbour\", \"answers\": []}\n";
    let run = tried(&folder, "a.jsonl", &line.repeat(2), "--task question-answering --steps 1");
    let run = run.success();
    assert!(run.stderr.contains("the model can only learn to give no answer"), "{}", run.stderr);
    for unfit in ["all to evaluate on have one", " words", "2 texts"] {
        assert!(!run.stderr.contains(unfit), "{}", run.stderr);
    }
}

#[test]
fn a_users_file_of_another_named_task_is_refused_or_said() {
    let folder = Folder::new();
    let glue = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/glue");
    let trained = |task: &str| {
        let run = folder.path(task);
        let mut command =
            bitfit(["train", "--threads", "1", "--task", task, "--steps", "1", "--data"]);
        let model = fixture("bert");
        command.arg(&glue).arg("--model").arg(model).arg("--output").arg(&run);
        Finished::of(&mut command).success();
        run
    };
    let reviews = folder.write("dev.tsv", "sentence\tlabel\nthe harbour\t1\nthe film\t0\n");
    says(asked("eval", &trained("cola"), "--data", &reviews), &["may be a file of SST-2"]);
    let questions = folder.write(
        "q.tsv",
        "question\tsentence\tlabel\nwhat\tthe harbour\tentailment\nwhat\tthe film\tnot_entailment\n",
    );
    let model = fixture("bert");
    let args = train_args(&model, &questions, &folder.path("run"), "--task rte --steps 1");
    Finished::of(&mut bitfit(args)).fails(1, &["q.tsv: judging by its columns", "a file of QNLI"]);
}

#[test]
fn a_benchmarks_files_that_do_not_go_together_are_refused_or_said() {
    let folder = Folder::new();
    let data = folder.path("files");
    std::fs::create_dir(&data).unwrap();
    let tried = |task: &str, files: &[(&str, &str)]| {
        for (name, content) in files {
            std::fs::write(data.join(name), content).unwrap();
        }
        let output = folder.path("run");
        let mut command = bitfit(["train", "--threads", "1", "--task", task, "--steps", "1"]);
        command.arg("--data").arg(&data).arg("--model").arg(fixture("bert"));
        let run = Finished::of(command.arg("--output").arg(output));
        for (name, _) in files {
            std::fs::remove_file(data.join(name)).unwrap();
        }
        run
    };
    let qnli = "index\tquestion\tsentence\tlabel\n0\ta\tb\tentailment\n";
    tried("rte", &[("train.tsv", qnli), ("dev.tsv", qnli)])
        .fails(1, &["train.tsv:1", "are needed", "these are QNLI's"]);
    let twice = "sentence\tlabel\nthe harbour\t1\nsentence\tlabel\nthe film\t0\n";
    tried("sst2", &[("train.tsv", twice), ("dev.tsv", twice)])
        .fails(1, &["train.tsv:3", "this line repeats the column names"]);
    let msr = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n\
               1\t11\t12\tthe harbour\tharbour\n0\t21\t22\tthe film\ttickets\n1\t31\t32\tsea\tsea\n";
    let ids = "#1 ID\t#2 ID\n21\t22\n8\t9\n7\t7\n";
    let run = tried("mrpc", &[("msr_paraphrase_train.txt", msr), ("dev_ids.tsv", ids)]);
    says(run, &["dev_ids.tsv: no row has the ids of 2 of the 3 lines, such as \"7\" and \"7\""]);
}
