//! Invalid data and options: each is refused with one line that says where and what to do, with the right exit code,
//! and leaves nothing behind.

use crate::common::*;
use std::path::Path;

/// A `train` run that must fail: its files, its other options, and what the error line must contain.
struct Case {
    name: &'static str,
    /// Name and content of the training file.
    data: (&'static str, &'static [u8]),
    options: &'static str,
    code: i32,
    /// What the line must contain; `{}` is the path of the training file.
    says: &'static [&'static str],
}

const GOOD: (&str, &[u8]) = ("a.tsv", b"text\tlabel\nthe film\tsea\nthe train\tland\n");

const CASES: &[Case] = &[
    Case {
        name: "no file",
        data: GOOD,
        options: "--train nowhere/none.tsv",
        code: 1,
        says: &["nowhere/none.tsv", "No such file"],
    },
    Case {
        name: "empty file",
        data: ("a.tsv", b""),
        options: "",
        code: 1,
        says: &["{}: the file is empty", "header"],
    },
    Case {
        name: "header without rows",
        data: ("a.csv", b"text,label\n"),
        options: "",
        code: 1,
        says: &["{}: there is only a header row"],
    },
    Case {
        name: "no JSON lines",
        data: ("a.jsonl", b""),
        options: "",
        code: 1,
        says: &["{}: the file has no examples"],
    },
    Case {
        name: "a NUL in a text",
        data: ("a.tsv", b"text\tlabel\nthe train\tsea\nthe \0train\tland\n"),
        options: "",
        code: 1,
        says: &["{}:3:5: a NUL character", "tr -d '\\000'"],
    },
    Case {
        name: "unknown extension",
        data: ("a.data", b"text\tlabel\nx\t1\n"),
        options: "",
        code: 1,
        says: &["{}: cannot tell the format"],
    },
    Case {
        name: "missing text column",
        data: ("a.tsv", b"words\tlabel\nx\t1\n"),
        options: "",
        code: 1,
        says: &["{}:1: no text column", "\"words\"", "--text-column"],
    },
    Case {
        name: "missing label column",
        data: ("a.tsv", b"text\tlable\nx\t1\n"),
        options: "",
        code: 1,
        says: &["{}:1: no label column", "--label-column", "did you mean \"lable\"?"],
    },
    Case {
        name: "column named by an option is not there",
        data: GOOD,
        options: "--text-column Text",
        code: 1,
        says: &["{}:1: no text column \"Text\"", "did you mean \"text\"?"],
    },
    Case {
        name: "missing key",
        data: ("a.jsonl", b"{\"text\":\"a\",\"label\":1}\n{\"text\":\"b\"}\n"),
        options: "",
        code: 1,
        says: &["{}:2: the key \"label\" is missing"],
    },
    Case {
        name: "broken JSON",
        data: ("a.jsonl", b"{\"text\":\"a\",\"label\":1}\n{\"text\":\"b\",\n"),
        options: "",
        code: 1,
        says: &["{}:2:", "not a JSON object"],
    },
    Case {
        name: "ragged tsv row",
        data: ("a.tsv", b"text\tlabel\na\t1\nb\t2\tc\n"),
        options: "",
        code: 1,
        says: &["{}:3: 3 fields, but the header has 2"],
    },
    Case {
        name: "ragged csv row after a quoted line break",
        data: ("a.csv", b"text,label\n\"a\nb\",1\nc\n"),
        options: "",
        code: 1,
        says: &["{}:4: 1 field, but the header has 2"],
    },
    Case {
        name: "open quote",
        data: ("a.csv", b"text,label\n\"a,1\nc,2\n"),
        options: "",
        code: 1,
        says: &["{}:2: a quoted field begins here and is never closed"],
    },
    Case {
        name: "blank line between rows",
        data: ("a.tsv", b"text\tlabel\na\t1\n\nb\t2\n"),
        options: "",
        code: 1,
        says: &["{}:3: a blank line"],
    },
    Case {
        name: "invalid UTF-8",
        data: ("a.tsv", b"text\tlabel\na\t1\ncaf\xe9\t2\n"),
        options: "",
        code: 1,
        says: &["{}:3:4: invalid UTF-8 (byte 0xE9)", "save the file as UTF-8"],
    },
    Case {
        name: "UTF-16",
        data: ("a.tsv", b"\xff\xfet\0e\0x\0t\0"),
        options: "",
        code: 1,
        says: &["{}:1: the file is UTF-16"],
    },
    Case {
        name: "one class only",
        data: ("a.tsv", b"text\tlabel\na\tsea\nb\tsea\n"),
        options: "",
        code: 1,
        says: &["{}: every row has the label \"sea\"", "at least two classes"],
    },
    Case {
        name: "empty label",
        data: ("a.tsv", b"text\tlabel\na\tsea\nb\t\n"),
        options: "",
        code: 1,
        says: &["{}:3: the label is empty"],
    },
    Case {
        name: "words for numbers",
        data: GOOD,
        options: "--task regression",
        code: 1,
        says: &["{}:2: the label \"sea\" is not a number", "--task classification"],
    },
    Case {
        name: "a number that is none",
        data: ("a.tsv", b"text\tlabel\na\t1.5\nb\tNaN\n"),
        options: "--task regression",
        code: 1,
        says: &["{}:3: the label \"NaN\" usually means", "--unlabelled drop"],
    },
    Case {
        name: "a number that is too large",
        data: ("a.tsv", b"text\tlabel\na\t1.5\nb\tinf\n"),
        options: "--task regression",
        code: 1,
        says: &["{}:3: the label \"inf\" is not a finite number"],
    },
    Case {
        name: "unknown bias name",
        data: GOOD,
        options: "--biases query,intermediat",
        code: 2,
        says: &["--biases", "`intermediat`", "did you mean `intermediate`?"],
    },
    Case {
        name: "layers that the model has not",
        data: GOOD,
        options: "--biases intermediate@1..4",
        code: 2,
        says: &["--biases", "intermediate@1..4", "2 layers"],
    },
    Case {
        name: "a rate below zero",
        data: GOOD,
        options: "--lr -1",
        code: 2,
        says: &["--lr must be above 0, got -1"],
    },
    Case {
        name: "a measure that does not fit",
        data: GOOD,
        options: "--metric pearson",
        code: 2,
        says: &["--metric pearson does not fit", "accuracy"],
    },
    Case {
        name: "patience without evaluation",
        data: GOOD,
        options: "--patience 2",
        code: 2,
        says: &["--patience needs rows", "--dev"],
    },
    Case {
        name: "two options that cannot be used together",
        data: GOOD,
        options: "--epochs 1 --steps 2",
        code: 2,
        says: &["--epochs", "--steps"],
    },
    Case {
        name: "unknown option",
        data: GOOD,
        options: "--learning-rate 1",
        code: 2,
        says: &["--learning-rate"],
    },
    Case {
        name: "more tokens than positions",
        data: GOOD,
        options: "--max-length 65",
        code: 2,
        says: &["--max-length must be at most 64", "got 65"],
    },
    Case {
        name: "a share that is none",
        data: GOOD,
        options: "--dev-fraction 1",
        code: 2,
        says: &["--dev-fraction must lie between 0 and 1, got 1"],
    },
    Case {
        name: "no such configuration file",
        data: GOOD,
        options: "--config nowhere/run.toml",
        code: 2,
        says: &["nowhere/run.toml"],
    },
    Case {
        name: "no such initial head",
        data: GOOD,
        options: "--init-head nowhere/head.safetensors",
        code: 1,
        says: &["--init-head", "nowhere/head.safetensors"],
    },
];

fn refused(case: &Case) {
    let folder = Folder::new();
    let data = folder.write(case.data.0, case.data.1);
    let output = folder.path("run");
    // The case's own --train takes the place of the file's.
    let mut args = train_args(&fixture("bert"), &data, &output, case.options);
    if case.options.contains("--train") {
        args.drain(3..5);
    }
    let run = Finished::of(&mut bitfit(args));
    let says: Vec<String> =
        case.says.iter().map(|part| part.replace("{}", &data.display().to_string())).collect();
    eprintln!("case: {}", case.name);
    run.fails(case.code, &says.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(run.stdout, "");
    assert!(!output.exists(), "{}: the output was begun", case.name);
}

#[test]
fn each_mistake_in_data_or_options_is_one_line_with_its_place() {
    for case in CASES {
        refused(case);
    }
}

#[test]
fn the_dev_file_is_checked_like_the_training_file() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(8, 2));
    let output = folder.path("run");
    let dev = folder.write("dev.tsv", "text\tlabel\nthe film\tsea\nthe boat\tspace\n");
    let args = train_args(&fixture("bert"), &data, &output, &format!("--dev {}", dev.display()));
    let place = format!("{}:3: the label \"space\" is unknown", dev.display());
    Finished::of(&mut bitfit(args)).fails(1, &[&place, "\"land\", \"sea\""]);
    assert!(!output.exists());
}

/// A configuration file that must be refused.
fn config_refused(content: &str, says: &[&str]) {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(8, 2));
    let output = folder.path("run");
    let config = folder.write("run.toml", content);
    let args =
        train_args(&fixture("bert"), &data, &output, &format!("--config {}", config.display()));
    let run = Finished::of(&mut bitfit(args));
    let error = run.fails(2, says);
    assert!(error.contains(&format!("{}:", config.display())), "{error}");
    assert!(!output.exists());
}

#[test]
fn a_configuration_file_is_refused_with_the_line() {
    config_refused("seed = 1\n\nlearning-rate = 1\n", &[".toml:3: unknown option `learning-rate`"]);
    config_refused("batch_sise = 8\n", &[".toml:1: ", "did you mean `batch-size`?"]);
    config_refused("seed = 1\nlr = -2.0\n", &[".toml:2: --lr must be above 0"]);
    config_refused("seed = 1\nlr = \n", &[".toml:2: not valid TOML"]);
    config_refused("biases = [\"querry\"]\n", &[".toml:1: ", "did you mean `query`?"]);
}

#[test]
fn predict_and_eval_name_the_line_and_leave_no_file() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(12, 2));
    let run = folder.path("run");
    train(&fixture("bert"), &data, &run, "--steps 1");
    let to = folder.path("out.tsv");
    let command = |name: &str, more: &[(&str, &Path)]| {
        let mut command = bitfit([name, "--delta"]);
        command.arg(&run);
        for (option, path) in more {
            command.arg(option).arg(path);
        }
        Finished::of(&mut command)
    };
    // Beyond the first rows that are held at once, so that some have already been predicted.
    let mut rows: String = (0..1500).map(|i| text_of(i % 2, i) + "\n").collect();
    rows.insert_str(0, "text\n");
    let mut bytes = rows.into_bytes();
    bytes.extend(b"ab\xff\n");
    let bad = folder.write("bad.tsv", bytes);
    let place = format!("{}:1502:3: invalid UTF-8", bad.display());
    command("predict", &[("--input", &bad), ("--output", &to)]).fails(1, &[&place]);
    assert!(!to.exists());
    let shown = command("predict", &[("--input", &bad)]);
    shown.fails(1, &[&place]);
    assert_eq!(shown.stdout.lines().count(), 1501, "what came before the bad line is out");

    let unseen = folder.write("unseen.tsv", "text\tlabel\nthe film\tsea\nthe boat\tspace\n");
    let place = format!("{}:3: the label \"space\" is unknown", unseen.display());
    command("eval", &[("--data", &unseen), ("--output", &to)])
        .fails(1, &[&place, "\"land\", \"sea\""]);
    let unlabelled = folder.write("unlabelled.tsv", "text\nthe film\n");
    command("eval", &[("--data", &unlabelled), ("--output", &to)]).fails(1, &["no label column"]);
    command("predict", &[("--input", &folder.path("none.tsv")), ("--output", &to)])
        .fails(1, &["none.tsv", "No such file"]);
    assert!(!to.exists());
    assert!(names(&folder.path("")).iter().all(|name| !name.ends_with(".tmp")));
}

#[test]
fn a_wrong_command_line_exits_with_two() {
    Finished::of(&mut bitfit(["fit"])).fails(2, &["fit"]);
    Finished::of(&mut bitfit([""; 0])).fails(2, &["a command is missing"]);
    Finished::of(&mut bitfit(["train"])).fails(2, &["--model"]);
    Finished::of(&mut bitfit(["merge", "--delta", "x"])).fails(2, &["--output"]);
    Finished::of(&mut bitfit(["inspect"])).fails(2, &["--model"]);
}
