//! What a user is told before a model is trained or queried: classes, columns, and anything that may not be what it was
//! taken for. Nothing ambiguous is read silently.

use crate::common::*;
use std::fs;
use std::path::{Path, PathBuf};

/// One training step, to see the output.
fn try_train(folder: &Folder, data: &Path, more: &str) -> Finished {
    let output = folder.path("run");
    let _ = fs::remove_dir_all(&output);
    let options = format!("--steps 1 {more}");
    Finished::of(&mut bitfit(train_args(&fixture("bert"), data, &output, &options)))
}

fn run_with(command: &str, delta: &Path, option: &str, data: &Path, more: &str) -> Finished {
    let mut run = bitfit([command, "--threads", "1", "--delta"]);
    run.arg(delta).arg(option).arg(data);
    Finished::of(run.args(more.split_whitespace()))
}

fn labels_in(delta: &Path) -> String {
    metadata(&delta.join("bias.safetensors"))["labels"].clone()
}

#[test]
fn classes_and_their_rows_are_said_before_training() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(30, 3));
    let run = try_train(&folder, &data, "--dev-fraction 0.1").success();
    let place = data.display();
    for line in [
        format!("{place}: text from column \"text\", label from \"label\""),
        format!("{place} (to train on): 3 classes and their rows: \"land\" ("),
        format!("{place} (to evaluate on): 3 classes and their rows: "),
    ] {
        assert!(run.stderr.contains(&line), "{line}: {}", run.stderr);
    }
    let values = folder.write("v.tsv", "text\tlabel\na\t1.5\nb\t-2\n");
    let run = try_train(&folder, &values, "--task regression").success();
    assert!(run.stderr.contains("labels are 2 numbers from -2 to 1.5"), "{}", run.stderr);
    let values = folder.write("v3.tsv", "text\tlabel\na\t1;0;0.5\nb\t0;1;0\n");
    let output = folder.path("three");
    let options = "--steps 1 --task regression --label-separator ;";
    let run = train(&fixture("bert"), &values, &output, options);
    let said = "labels are 3 numbers for each text, from 0 to 1";
    assert!(run.stderr.contains(said), "{}", run.stderr);
    let inspect = Finished::of(bitfit(["inspect", "--delta"]).arg(&output)).success();
    assert!(inspect.stdout.contains("answers: 3 numbers for each text"), "{}", inspect.stdout);
}

#[test]
fn a_class_that_only_one_part_of_the_rows_has_is_said_even_when_quiet() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(9, 3));
    let dev = folder.write("dev.tsv", "text\tlabel\nfilm\tsea\n");
    let run = try_train(&folder, &data, &format!("--quiet --dev {}", dev.display())).success();
    assert!(
        run.stderr.contains("warning: no row to evaluate on has the label \"land\", \"people\""),
        "{}",
        run.stderr
    );
    // Three rows of one class each: any row held back is missing from the rest.
    let few = folder.write("few.tsv", toy_tsv(3, 3));
    let run = try_train(&folder, &few, "--quiet --dev-fraction 0.4").success();
    assert!(run.stderr.contains("warning: no row to train on has the label"), "{}", run.stderr);
}

#[test]
fn a_number_is_the_class_of_that_number_and_never_a_place_in_the_list() {
    let folder = Folder::new();
    let texts = |labels: [&str; 3]| {
        let rows = (0..24).map(|i| format!("{}\t{}\n", text_of(i % 3, i), labels[i % 3]));
        "text\tlabel\n".to_owned() + &rows.collect::<String>()
    };
    let data = folder.write("a.tsv", texts(["1.0", "2.0", "3.0"]));
    let dev = folder.write("dev.tsv", texts(["1", "2", "3"]));
    let output = folder.path("learned");
    let options = "--lr 1e-2 --epochs 8 --batch-size 8";
    train(&fixture("bert"), &data, &output, options);
    assert_eq!(labels_in(&output), r#"["1.0","2.0","3.0"]"#);
    let [same, other] = [&data, &dev].map(|file| {
        let to = folder.path("e.json");
        let more = format!("--output {}", to.display());
        let run = run_with("eval", &output, "--data", file, &more).success();
        (number(&json(&to), "accuracy"), run.stderr)
    });
    assert_eq!(same.0, other.0);
    assert!(other.1.contains("\"1\" (8 rows) is the class \"1.0\""), "{}", other.1);

    let words = folder.write("words.tsv", toy_tsv(9, 3));
    try_train(&folder, &words, "").success();
    let run = run_with("eval", &folder.path("run"), "--data", &dev, "");
    run.fails(1, &["the label \"1\" is unknown", "24 of 24 rows", "no", "position in this list"]);
}

#[test]
fn one_label_in_several_spellings_is_refused_with_counts() {
    let folder = Folder::new();
    for (name, content) in [
        ("a.csv", "text,label\na,1\nb,0\nc,1.0\n"),
        ("b.csv", "text,label\na,café\nb,cafe\u{301}\nc,no\n"),
        (
            "c.jsonl",
            "{\"text\":\"a\",\"label\":true}\n{\"text\":\"b\",\"label\":\"True\"}\n{\"text\":\"b\",\"label\":\"no\"}\n",
        ),
    ] {
        let data = folder.write(name, content);
        let run = try_train(&folder, &data, "");
        run.fails(1, &[name, "spelled in several ways", "(1 row)"]);
    }
    let data = folder.write("d.csv", "text,label\na,00\nb,+1\n");
    try_train(&folder, &data, "").success();
    assert_eq!(labels_in(&folder.path("run")), r#"["00","+1"]"#);
    let data = folder.write("e.csv", "text,label\na,Yes\nb,yes\nc,None\n");
    let run = try_train(&folder, &data, "--quiet").success();
    assert!(run.stderr.contains("only in case"), "{}", run.stderr);
    assert!(run.stderr.contains("\"None\" is taken for a class"), "{}", run.stderr);
}

#[test]
fn rows_without_a_label_are_asked_for() {
    let folder = Folder::new();
    let data = folder.write("a.csv", "text,label\na,1\nb,-1\nc,0\nd,1\n");
    let run = try_train(&folder, &data, "");
    run.fails(1, &["a.csv:3: the label \"-1\"", "1 of 4;", "--unlabelled drop", "keep"]);
    let run = try_train(&folder, &data, "--unlabelled drop").success();
    assert!(run.stderr.contains("1 row without a label is left out, 3 stay"), "{}", run.stderr);
    // What was reported in training applies to eval.
    let nan = folder.write("b.csv", "text,label\na,1\nb,\nc,nan\n");
    let run = run_with("eval", &folder.path("run"), "--data", &nan, "").success();
    assert!(run.stderr.contains("2 rows without a label"), "{}", run.stderr);
    let run = run_with("eval", &folder.path("run"), "--data", &nan, "--unlabelled refuse");
    run.fails(1, &["b.csv:3: the label is empty", "2 of 3;"]);
    try_train(&folder, &data, "--unlabelled keep").success();
    assert_eq!(labels_in(&folder.path("run")), r#"["-1","0","1"]"#);
}

#[test]
fn a_task_is_held_to_pairs_or_single_texts() {
    let folder = Folder::new();
    let pairs = folder.write("p.tsv", "text\ttext_pair\tlabel\na\tb\tyes\nc\td\tno\n");
    let single = folder.write("s.tsv", "text\tlabel\na\tyes\nc\tno\n");
    let [on_pairs, on_single] = [&pairs, &single].map(|data| {
        try_train(&folder, data, "").success();
        let kept = folder.path(&format!("{}-run", data.file_stem().unwrap().display()));
        fs::rename(folder.path("run"), &kept).unwrap();
        kept
    });
    for quiet in ["", "--quiet"] {
        for (command, option) in [("predict", "--input"), ("eval", "--data")] {
            let run = run_with(command, &on_pairs, option, &single, quiet);
            run.fails(1, &["trained on pairs", "--text-pair-column"]);
            let run = run_with(command, &on_single, option, &pairs, quiet);
            run.fails(1, &["trained on single texts", "--text-column"]);
        }
        let run = try_train(&folder, &pairs, &format!("{quiet} --dev {}", single.display()));
        run.fails(1, &["s.tsv:1: the task was trained on pairs"]);
        let run = try_train(&folder, &single, &format!("{quiet} --dev {}", pairs.display()));
        run.fails(1, &["p.tsv:1: the task was trained on single texts"]);
    }
    run_with("predict", &on_single, "--input", &pairs, "--text-column text").success();
    let jsonl = folder.write("s.jsonl", "{\"text\": \"a\"}\n");
    run_with("predict", &on_pairs, "--input", &jsonl, "").fails(1, &["trained on pairs"]);

    // A delta from an earlier version knows no columns, and everything works as before.
    let delta = on_pairs.join("bias.safetensors");
    edit_tensors(&delta, |_, metadata| {
        metadata.remove("columns").unwrap();
    });
    run_with("predict", &on_pairs, "--input", &single, "").success();
}

#[test]
fn a_key_that_the_first_row_lacks_counts() {
    let folder = Folder::new();
    let row = |pair: &str| format!("{{\"text\": \"good film\"{pair}, \"label\": ");
    let tokens = |name: &str, first: &str| {
        let second = row(", \"text_pair\": \"the train\"");
        let content = format!("{}0}}\n{second}1}}\n", row(first));
        try_train(&folder, &folder.write(name, content), "--dropout 0").success();
        number(&steps(&folder.path("run"))[0], "tokens")
    };
    assert_eq!(tokens("missing.jsonl", ""), tokens("null.jsonl", ", \"text_pair\": null"));
}

fn head_run(folder: &Folder, head: &Path, labels: [&str; 3]) -> (Finished, PathBuf) {
    let rows = labels.iter().map(|label| format!("good film\t{label}\n"));
    let data = folder.write("h.tsv", "text\tlabel\n".to_owned() + &rows.collect::<String>());
    let more = format!("--lr 1e-12 --init-head {}", head.display());
    let run = try_train(folder, &data, &more).success();
    (run, folder.path("run/bias.safetensors"))
}

#[test]
fn the_rows_of_a_given_head_are_matched_to_the_classes_or_the_order_is_said() {
    let folder = Folder::new();
    let source = fixture("bert").join("head.safetensors");
    let names = ["negative", "neutral", "positive"];
    let bias = |delta: &Path| tensors(delta)["classifier.bias"].1.clone();
    let given = bias(&source);
    let near = |a: &[f32], b: [f32; 3]| a.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-6);

    let (run, delta) = head_run(&folder, &source, names);
    assert!(near(&given, bias(&delta).try_into().unwrap()));
    assert!(run.stderr.contains("matched to the classes by"), "{}", run.stderr);

    // The same head with its rows in another order, and a config next to it that says so.
    let other = folder.path("other");
    fs::create_dir(&other).unwrap();
    let head = other.join("head.safetensors");
    fs::copy(&source, &head).unwrap();
    let config = r#"{"id2label": {"0": "positive", "1": "negative", "2": "neutral"}}"#;
    fs::write(other.join("config.json"), config).unwrap();
    let (_, delta) = head_run(&folder, &head, names);
    assert!(near(&bias(&delta), [given[1], given[2], given[0]]));

    for (config, says) in [
        (config, "these are not the task's classes"),
        (r#"{"id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}}"#, "according to "),
        (
            r#"{"id2label": {"1": "0", "2": "1", "3": "2"}}"#,
            "the ids in its id2label are 1, 2, 3, but rows are counted from 0",
        ),
    ] {
        fs::write(other.join("config.json"), config).unwrap();
        let (run, delta) = head_run(&folder, &head, ["0", "1", "2"]);
        assert!(near(&given, bias(&delta).try_into().unwrap()));
        assert!(run.stderr.contains("warning: --init-head: "), "{}", run.stderr);
        assert!(run.stderr.contains(says), "{}", run.stderr);
    }
}

#[test]
fn a_trained_head_of_the_checkpoint_that_is_not_used_is_said() {
    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(6, 3));
    let run = try_train(&folder, &data, "").success();
    let says = "has a trained head for negative, neutral, positive, which is not used";
    assert!(run.stderr.contains(says), "{}", run.stderr);
    assert!(run.stderr.contains("--init-head"), "{}", run.stderr);
}

#[test]
fn files_of_another_kind_are_named_as_what_they_are() {
    let folder = Folder::new();
    let lfs = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n";
    let cases: [(&str, &[u8], &str, &[&str]); 9] = [
        ("a.tsv.gz", b"\x1f\x8b\x08\0", "", &["gzip", "gunzip"]),
        ("b.tsv.gz", b"\x1f\x8b\x08\0", "--format tsv", &["gzip", "gunzip"]),
        ("c.csv", b"text;label\na;1\nb;0\n", "", &["semicolons"]),
        ("d.tsv", b"\"text\"\t\"label\"\n\"a\"\t\"1\"\n\"b\"\t\"0\"\n", "", &["quotes"]),
        ("d2.tsv", b"text\tlabel\na\t\"1\"\nb\tNA\n", "", &["d2.tsv:2:", "quotes", "1 of 2 rows"]),
        ("e.tsv", lfs.as_bytes(), "", &["Git LFS", "git lfs pull"]),
        ("f.tsv", b"sentence1\tlabel\na\t1\nb\t0\n", "", &["\"sentence2\" is missing"]),
        ("g.tsv", b"text\tlabel\na\t1e38\nb\t1\n", "--task regression", &["g.tsv:2:", "divide"]),
        ("h.parquet", b"PAR1", "", &["Parquet"]),
    ];
    for (name, content, options, says) in cases {
        let data = folder.write(name, content);
        let run = try_train(&folder, &data, options);
        let error = run.fails(1, says);
        assert!(!error.contains("did you mean"), "{error}");
    }
    let text = folder.write("i.txt", "text\tlabels\na\t1\nb\t0\n");
    try_train(&folder, &text, "").success();

    let model = folder.copy_of("bert");
    let data = folder.write("a.tsv", toy_tsv(6, 3));
    let args = || train_args(&model, &data, &folder.path("m"), "");
    for name in ["model.safetensors", "tokenizer.json"] {
        let kept = fs::read(model.join(name)).unwrap();
        fs::write(model.join(name), lfs).unwrap();
        Finished::of(&mut bitfit(args())).fails(1, &[name, "Git LFS"]);
        fs::write(model.join(name), kept).unwrap();
    }
    let inner = folder.path("old/0_Transformer");
    fs::create_dir_all(folder.path("old")).unwrap();
    fs::rename(&model, &inner).unwrap();
    let args = train_args(&folder.path("old"), &data, &folder.path("m"), "");
    let says = ["--model", "0_Transformer", "--pooling mean"];
    Finished::of(&mut bitfit(args)).fails(1, &says);
    for command in ["plan", "inspect"] {
        let mut command = bitfit([command, "--model"]);
        Finished::of(command.arg(folder.path("old"))).fails(1, &says);
    }
}

#[test]
fn names_of_classes_and_columns_steer_no_terminal() {
    let folder = Folder::new();
    let rows = (0..8).map(|i| {
        let label = if i % 2 == 0 { "good\u{1b}[31m" } else { "bad\nnews\u{202e}" };
        serde_json::json!({"text": format!("a {i}"), "la\u{1b}]0;bel": label}).to_string() + "\n"
    });
    let data = folder.write("a.jsonl", rows.collect::<String>());
    let run = folder.path("run");
    let mut args = train_args(&fixture("bert"), &data, &run, "--steps 2 --dev-fraction 0.5");
    args.extend(["--label-column".into(), "la\u{1b}]0;bel".into()]);
    let trained = Finished::of(&mut bitfit(args)).success();
    let mut eval = bitfit(["eval", "--delta"]);
    eval.arg(&run).arg("--data").arg(&data);
    let evaluated = Finished::of(&mut eval).success();
    let inspected = Finished::of(bitfit(["inspect", "--delta"]).arg(&run)).success();
    for out in [trained, evaluated, inspected] {
        for text in [out.stdout, out.stderr] {
            assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
        }
    }
}

/// Ranks of a job write to the same place, and another's line must not fall into the middle of one.
#[cfg(unix)]
#[test]
fn every_line_on_standard_error_is_one_write() {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;
    use std::process::Stdio;

    let folder = Folder::new();
    let data = folder.write("a.tsv", toy_tsv(30, 3));
    let output = folder.path("run");
    for (more, lines) in [("--steps 1 --dev-fraction 0.1", 3), ("--lr 0", 1)] {
        // Data written at once to such a socket is read at once.
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let mut run = bitfit(train_args(&fixture("bert"), &data, &output, more));
        let reader = std::thread::spawn(move || {
            let mut piece = vec![0; 1 << 16];
            let mut pieces = Vec::new();
            while let Ok(length @ 1..) = ours.recv(&mut piece) {
                pieces.push(String::from_utf8(piece[..length].to_vec()).unwrap());
            }
            pieces
        });
        let end = theirs.try_clone().unwrap();
        run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(OwnedFd::from(theirs));
        run.status().unwrap();
        // Empty: the reader's end.
        end.send(&[]).unwrap();
        let pieces = reader.join().unwrap();
        assert!(pieces.len() >= lines, "{pieces:?}");
        for piece in pieces {
            assert!(piece.ends_with('\n'), "{piece:?}");
        }
    }
}
