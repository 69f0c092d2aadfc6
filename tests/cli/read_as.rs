//! What is reported about a file before anything is made from it: columns that are not read, texts that the tokenizer
//! does not know, labels and tags that may not be any, and what files of words are.

use crate::common::*;
use crate::tags::{TASK, conll};
use std::path::Path;

/// The run of a file that is trained on with the options in `more`.
fn run(name: &str, content: &str, more: &str) -> Finished {
    let folder = Folder::new();
    let data = folder.write(name, content);
    let args = train_args(&fixture("bert"), &data, &folder.path("run"), more);
    Finished::of(&mut bitfit(args))
}

#[track_caller]
fn says(run: Finished, parts: &[&str]) {
    let run = run.success();
    for part in parts {
        assert!(run.stderr.contains(part), "no `{part}` in {}", run.stderr);
    }
}

fn command(name: &str, delta: &Path, option: &str, input: &Path) -> Finished {
    let mut command = bitfit([name, "--delta"]);
    command.arg(delta).arg(option).arg(input);
    if name == "predict" {
        command.args(["--output", "-"]);
    }
    Finished::of(&mut command).success()
}

#[test]
fn columns_that_are_not_read_are_named_wherever_a_file_is_read() {
    let folder = Folder::new();
    let rows: String =
        (0..6).map(|i| format!("{i}\t{}\t{}\tx\n", text_of(i % 2, i), CLASSES[i % 2])).collect();
    let data = folder.write("a.tsv", format!("id\ttext\tlabel\tsource\n{rows}"));
    let (file, output) = (data.display(), folder.path("run"));
    let done = train(&fixture("bert"), &data, &output, &format!("--steps 2 --dev {file}"));
    let said = format!(
        "{file}: text from column \"text\", label from \"label\"; not read: \"id\", \"source\""
    );
    assert_eq!(done.stderr.matches(&said).count(), 2, "{}", done.stderr);
    assert!(command("eval", &output, "--data", &data).stderr.contains(&said));
    let done = command("predict", &output, "--input", &data);
    let said =
        format!("{file}: text from column \"text\"; not read: \"id\", \"label\", \"source\"");
    assert_eq!(done.stderr.matches(&said).count(), 1, "{}", done.stderr);
    // Keys that come late do not repeat the message.
    let lines: String =
        (0..3000).map(|i| format!("{{\"text\": \"harbour\", \"k{}\": 1}}\n", i % 7)).collect();
    let input = folder.write("b.jsonl", lines);
    let done = command("predict", &output, "--input", &input);
    assert_eq!(done.stderr.matches("not read: \"k0\"").count(), 1, "{}", done.stderr);
}

#[test]
fn texts_that_the_tokenizer_knows_nothing_of_are_counted_with_the_first() {
    let folder = Folder::new();
    let output = folder.path("run");
    let mut rows = toy_tsv(20, 2);
    rows += "\u{265e}\u{265e} \u{265f}\tsea\n[SEP] [CLS]\tland\n \tland\n";
    let data = folder.write("a.tsv", rows);
    let file = data.display();
    let said = [
        format!("{file}: 1 text is empty after tokenization (on line 24)"),
        format!("{file}: 2 texts have only unknown and special tokens (the first on line 22)"),
    ];
    let trained = train(&fixture("bert"), &data, &output, "--steps 2");
    let evaluated = command("eval", &output, "--data", &data);
    let predicted = command("predict", &output, "--input", &data);
    for done in [trained, evaluated, predicted] {
        for said in &said {
            assert!(done.stderr.contains(said), "no `{said}` in {}", done.stderr);
        }
        assert!(!done.stderr.contains("does not fit"), "{}", done.stderr);
    }
    let foreign = folder.write("b.tsv", "text\n\u{265e} \u{265f}\n\u{265f} harbour\n");
    let done = command("predict", &output, "--input", &foreign);
    let said = "warning: ";
    assert!(done.stderr.contains(said), "{}", done.stderr);
    assert!(done.stderr.contains("75 % of all tokens are unknown"), "{}", done.stderr);
}

#[test]
fn labels_that_say_that_there_is_none_are_refused_in_every_task_with_classes() {
    let rows = |labels: &[&str]| -> String {
        let rows = labels.iter().enumerate();
        let rows: String = rows.map(|(i, label)| format!("{}\t{label}\n", text_of(0, i))).collect();
        format!("text\tlabel\n{rows}")
    };
    let usually = "usually means that there is none";
    for labels in
        [&["0", "1", "-100"][..], &["a", "b", "\\N"], &["0", "1", "-99"], &["a", "b", "-9"]]
    {
        run("a.tsv", &rows(labels), "--steps 1")
            .fails(1, &["a.tsv:4: the label ", usually, "1 of 3;"]);
    }
    let several = ["a,b", "b", "nan", "a,-1"];
    let more = "--steps 1 --task multi-label";
    run("a.tsv", &rows(&several), more).fails(1, &["a.tsv:4: the label \"nan\"", "2 of 4;"]);
    says(run("a.tsv", &rows(&several), &format!("{more} --unlabelled drop")), &["2 rows without"]);
    says(run("a.tsv", &rows(&["a", "b", "none"]), more), &["\"none\" is taken for a class"]);
    says(
        run("a.tsv", &rows(&["Good", "good", "bad "]), "--steps 1"),
        &[
            "the classes \"Good\" (1 row), \"good\" (1 row) differ only in case",
            "spaces around labels ignored: \"bad \" (1 row)",
        ],
    );
    let values = rows(&["0.5", "4", "-99"]);
    let more = "--steps 1 --task regression";
    run("a.tsv", &values, more).fails(1, &["a.tsv:4: the label \"-99\"", usually, "1 of 3;"]);
    says(run("a.tsv", &values, &format!("{more} --unlabelled drop")), &["1 row without a label"]);
    says(
        run("a.tsv", &values, &format!("{more} --unlabelled keep")),
        &["the label -99 often means that there is none", "(1 of 3 rows)"],
    );
    says(run("a.tsv", &rows(&["0.5", "4", "-1"]), more), &["the label -1 often means"]);
}

#[test]
fn tags_that_are_numbers_or_of_no_scheme_are_named_with_their_place() {
    let task = format!("{TASK} --steps 1");
    let numbers = "the\t0\nharbour\t1\n\nagain\t0\n";
    run("a.conll", numbers, &task).fails(
        1,
        &["a.conll:1: the tag \"0\" is a number, like all 2 tags", "the tags themselves"],
    );
    let numbers = "{\"tokens\": [\"the\", \"harbour\"], \"tags\": [\"3\", \"0\"]}\n";
    run("a.jsonl", numbers, &task).fails(1, &["a.jsonl:1: word 2: the tag \"0\" is a number"]);
    let odd = conll(0..8) + "harbour\tPLACE\nagain\tO\nthe\tb-place\n";
    says(
        run("a.conll", &odd, &task),
        &[
            "of the tags, \"PLACE\" (1 word, first at ",
            "a.conll:51), \"b-place\" (1 word",
            "not IOB or IOBES",
        ],
    );
    let case = conll(0..8) + "harbour\tB-place\n";
    says(
        run("a.conll", &case, &task),
        &["the types \"PLACE\" (", "\"place\" (1 word) differ only in"],
    );
    // The most common one, too.
    says(
        run("a.conll", &conll(0..8).replace("\tO\n", "\t0\n"), &task),
        &["of the tags, \"0\" (", "not IOB or IOBES"],
    );
    says(
        run("a.conll", &conll(0..8).replace("I-PLACE", "I-place"), &task),
        &["the types \"PLACE\" (", "differ only in case"],
    );
    for (label, part) in
        [("B-PLACE", "a span's label is its type, \"PLACE\""), ("O", "leave the span out")]
    {
        let spans = format!(
            "{{\"text\": \"the harbour\", \"spans\": [[0, 3, \"X\"], [4, 11, \"{label}\"]]}}\n"
        );
        run("a.jsonl", &spans, &task).fails(1, &["a.jsonl:1: span 2 (4 to 11, ", part]);
    }
}

#[test]
fn files_of_words_say_how_many_texts_and_words_they_have() {
    let task = format!("{TASK} --steps 1");
    says(run("a.conll", &conll(0..8), &task), &["a.conll: 8 texts, ", " words, at most "]);
    let long = conll(0..2) + &"the\tO\nharbour\tB-PLACE\n".repeat(300);
    says(
        run("a.conll", &long, &task),
        &[
            "has 600 words; in a file with one word per line blank lines separate sentences: put one",
        ],
    );
    let commented = "# id a1 domain=en\n".to_owned() + &conll(0..4) + "# a comment\n";
    says(
        run("a.conll", &commented, &task),
        &["2 lines starting with # taken for comments", "tags from column 2, of 2 columns"],
    );
    let row =
        |i: usize, form: &str, upos: &str| format!("{i}\t{form}\t_\t{upos}\t_\t_\t_\t_\t_\t_\n");
    let universal = ["# sent_id = 1\n", &row(1, "the", "DET"), &row(2, "harbour", "NOUN")].concat();
    says(
        run("a.conll", &universal, &task),
        &["words from form, tags from upos, of the 10 columns of CoNLL-U"],
    );
    let numbered = "1\tthe\tO\n2\tharbour\tB-PLACE\n3\tagain\tO\n";
    run("a.conll", numbered, &task)
        .fails(1, &["a.conll:1: column 1 numbers the words", "--text-column 2"]);
    says(run("a.conll", numbered, &format!("{task} --text-column 2")), &["words from column 2"]);
}

#[test]
fn running_text_is_not_taken_for_columns_of_words() {
    let folder = Folder::new();
    let output = folder.path("run");
    let data = folder.write("a.conll", conll(0..8));
    train(&fixture("bert"), &data, &output, &format!("{TASK} --steps 1"));
    let predict = |name: &str, content: &str, more: &[&str]| {
        let input = folder.write(name, content);
        let mut command = bitfit(["predict", "--delta", output.to_str().unwrap(), "--input"]);
        Finished::of(command.arg(input).args(more))
    };
    let text = "they train again\n";
    predict("b.txt", text, &[])
        .fails(1, &["b.txt:1: 3 words on one line", "\"text\"", "--format conll"]);
    assert_eq!(predict("b.txt", text, &["--format", "conll"]).success().stdout.lines().count(), 2);
    assert_eq!(predict("b.txt", "they\ntrain\n", &[]).success().stdout.lines().count(), 3);
    let uneven = "they train again\nthe harbour\n";
    predict("b.conll", uneven, &[])
        .fails(1, &["b.conll:2: 2 columns", "for running text use JSON"]);
    predict("b.tsv", "text\nthe harbour\n", &[])
        .fails(1, &["b.tsv:2", "for running text use JSON"]);
}
