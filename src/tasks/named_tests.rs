//! Every layout of the benchmarks' files with its quirks, small and made up, and the messages about each.

use super::*;
use crate::settings::benchmark::Answers;
use crate::settings::benchmarks::TASKS;
use std::fs;

/// A folder with files at these paths.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

fn task(name: &str) -> &'static NamedTask {
    NamedTask::named(name).unwrap()
}

fn try_read(folder: &Path, name: &str, purpose: ReadFor) -> Result<Option<PartRows>> {
    let task = task(name);
    let part = match purpose {
        ReadFor::Train => task.train.as_ref().unwrap(),
        ReadFor::Dev => &task.dev[0],
        ReadFor::Test => &task.test[0],
    };
    read(folder, task, part, purpose, false)
}

fn rows_of(files: &[(&str, &str)], name: &str, purpose: ReadFor) -> PartRows {
    try_read(folder(files).path(), name, purpose).unwrap().unwrap()
}

#[track_caller]
fn refused(files: &[(&str, &str)], name: &str, purpose: ReadFor, parts: &[&str]) {
    let error = try_read(folder(files).path(), name, purpose).unwrap_err();
    let error = crate::error::one_line(&error);
    for part in parts {
        assert!(error.contains(part), "no `{part}` in: {error}");
    }
}

/// Text, pair and label of each row.
fn seen(rows: &PartRows) -> Vec<(&str, Option<&str>, Option<&str>)> {
    rows.table
        .rows
        .iter()
        .map(|row| (row.text.as_str(), row.text_pair.as_deref(), row.label.as_deref()))
        .collect()
}

const GLUE: &str = "tests/fixtures/glue";

#[test]
fn the_hubs_parquet_files_are_read_with_their_classes() {
    let train = try_read(Path::new(GLUE), "cola", ReadFor::Train).unwrap().unwrap();
    assert_eq!(train.table.rows.len(), 32);
    assert_eq!(
        train.table.columns.to_string(),
        "text from column \"sentence\", label from \"label\""
    );
    let labels: HashSet<_> = train.table.rows.iter().filter_map(|r| r.label.as_deref()).collect();
    assert_eq!(labels, HashSet::from(["acceptable", "unacceptable"]));
    assert!(train.notes.is_empty(), "0 and 1 are CoLA's own words: {:?}", train.notes);
    let mnli = try_read(Path::new(GLUE), "mnli", ReadFor::Train).unwrap().unwrap();
    assert!(mnli.notes[0].contains("0 is entailment, 1 is neutral"), "{:?}", mnli.notes);
    let test = try_read(Path::new(GLUE), "cola", ReadFor::Test).unwrap().unwrap();
    assert_eq!(test.index, ["0", "1", "2", "3", "4", "5", "6"]);
    assert!(test.table.rows.iter().all(|row| row.label.is_none()) && test.notes.is_empty());
    let scores = try_read(Path::new(GLUE), "stsb", ReadFor::Dev).unwrap().unwrap();
    assert_eq!(seen(&scores)[1].2, Some("4.8"));
    let qqp = try_read(Path::new(GLUE), "qqp", ReadFor::Train).unwrap().unwrap();
    assert_eq!(qqp.table.rows.len(), 7, "one has no second question");
    assert!(qqp.notes[0].contains("no question or no label in 1 row,"), "{:?}", qqp.notes);
}

#[test]
fn cola_has_no_header_but_in_its_test_file() {
    let files = [
        ("CoLA/train.tsv", "gj04\t1\t\tOur \"friends\" won't buy this.\nbc01\t0\t*\tHe, left\n"),
        ("CoLA/test.tsv", "index\tsentence\n0\tBill whistled\n1\tIt \"rang\n"),
    ];
    let train = rows_of(&files, "cola", ReadFor::Train);
    assert_eq!(
        seen(&train),
        [
            ("Our \"friends\" won't buy this.", None, Some("acceptable")),
            ("He, left", None, Some("unacceptable"))
        ]
    );
    assert_eq!(train.table.rows[1].line, 2);
    let test = rows_of(&files, "cola", ReadFor::Test);
    assert_eq!((test.index.len(), seen(&test)[1].0), (2, "It \"rang"));
    // With a header, as some programs write it.
    let named =
        rows_of(&[("train.tsv", "label\tsentence\tx\n1\tA b\tc\n")], "cola", ReadFor::Train);
    assert_eq!(seen(&named), [("A b", None, Some("acceptable"))]);
    assert_eq!(named.table.unread, ["x"]);
    refused(
        &[("CoLA/train.tsv", "sentence one\t1\nsentence two\t0\n")],
        "cola",
        ReadFor::Train,
        &["train.tsv:1", "2 field(s)", "has 4"],
    );
    refused(
        &[("CoLA/train.tsv", "gj04\t2\t\tx\n")],
        "cola",
        ReadFor::Train,
        &["train.tsv:1", "column \"label\"", "\"2\" is not a label of CoLA", "acceptable (1)"],
    );
}

const MSR: &str = "\u{feff}Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t11\t12\tA \"b\tc\r\n0\t21\t22\td\te\r\n1\t31\t32\tf\tg\r\n";

#[test]
fn mrpc_has_its_own_names_and_two_layouts() {
    for file in ["MRPC/train.tsv", "MRPC/msr_paraphrase_train.txt", "msr_paraphrase_train.txt"] {
        let train = rows_of(&[(file, MSR)], "mrpc", ReadFor::Train);
        assert_eq!(seen(&train)[0], ("A \"b", Some("c"), Some("equivalent")), "{file}");
        assert_eq!(seen(&train).len(), 3);
    }
    // The original's development rows are the rows of the training file that another file lists.
    let ids = ("MRPC/dev_ids.tsv", "21\t22\n");
    let both = [("MRPC/msr_paraphrase_train.txt", MSR), ids];
    assert_eq!(seen(&rows_of(&both, "mrpc", ReadFor::Train)).len(), 2);
    assert_eq!(
        seen(&rows_of(&both, "mrpc", ReadFor::Dev)),
        [("d", Some("e"), Some("not_equivalent"))]
    );
    let own = [both[0], ids, ("MRPC/dev.tsv", MSR)];
    assert_eq!(seen(&rows_of(&own, "mrpc", ReadFor::Train)).len(), 3, "dev has a file");
    assert_eq!(seen(&rows_of(&own, "mrpc", ReadFor::Dev)).len(), 3);
    let test = rows_of(&[("MRPC/msr_paraphrase_test.txt", MSR)], "mrpc", ReadFor::Test);
    assert_eq!(test.index, ["0", "1", "2"]);
    refused(
        &[both[0], ("MRPC/dev_ids.tsv", "21\n")],
        "mrpc",
        ReadFor::Dev,
        &["dev_ids.tsv:1", "two ids"],
    );
}

#[test]
fn rows_of_qqp_with_missing_fields_are_counted_said_and_left_out() {
    let text = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n\
                0\t1\t2\ta\tb\t0\n1\t3\t4\tbroken\n2\t5\t6\tc\td\t1\n3\t7\t8\te\tf\t\n";
    let train = rows_of(&[("QQP/train.tsv", text)], "qqp", ReadFor::Train);
    assert_eq!(
        seen(&train),
        [("a", Some("b"), Some("not_duplicate")), ("c", Some("d"), Some("duplicate"))]
    );
    assert!(
        train.notes.iter().any(|note| note.contains("1 row has fewer fields")),
        "{:?}",
        train.notes
    );
    assert!(
        train.notes.iter().any(|note| note.contains("no question or no label in 1 row")),
        "{:?}",
        train.notes
    );
    // Each test row needs an answer.
    let text = "id\tquestion1\tquestion2\n0\ta\tb\n1\tc\n";
    let test = rows_of(&[("QQP/test.tsv", text)], "qqp", ReadFor::Test);
    assert_eq!((test.index.len(), seen(&test)[1]), (2, ("c", Some(""), None)));
    assert!(test.notes[0].contains("read as empty"), "{:?}", test.notes);
}

#[test]
fn a_last_line_that_is_cut_is_left_out_and_one_within_is_an_error() {
    let head = "index\tquestion\tsentence\tlabel\n0\tWhat is \"it\tThe \"b\" one\tentailment\n";
    for cut in ["1\tWho\tHe\t", "1\tWho\tHe", "1\tWho", "1\tWho\tHe\t\n"] {
        let train = rows_of(&[("QNLI/train.tsv", &format!("{head}{cut}"))], "qnli", ReadFor::Train);
        assert_eq!(seen(&train), [("What is \"it", Some("The \"b\" one"), Some("entailment"))]);
        assert!(
            train.notes[0].contains("train.tsv:3: the last line"),
            "{cut:?}: {:?}",
            train.notes
        );
    }
    let within = format!("{head}1\tWho\n2\ta\tb\tentailment\n");
    refused(
        &[("QNLI/train.tsv", &within)],
        "qnli",
        ReadFor::Train,
        &["train.tsv:3", "fewer fields"],
    );
    let within = format!("{head}1\tWho\tHe\t\n2\ta\tb\tentailment\n");
    refused(
        &[("QNLI/train.tsv", &within)],
        "qnli",
        ReadFor::Train,
        &["train.tsv:3, column \"label\"", "an empty field means that the row has no label"],
    );
    let more = format!("{head}1\tWho\tHe\tentailment\tx\n");
    refused(
        &[("QNLI/train.tsv", &more)],
        "qnli",
        ReadFor::Train,
        &["train.tsv:3", "5 field(s)", "has 4"],
    );
    let blank = format!("{head}\n1\tWho\tHe\tentailment\n");
    refused(&[("QNLI/train.tsv", &blank)], "qnli", ReadFor::Train, &["train.tsv:3", "blank line"]);
    let test = "index\tquestion\tsentence\n0\ta\tb\n1\tc\n";
    refused(
        &[("QNLI/test.tsv", test)],
        "qnli",
        ReadFor::Test,
        &["test.tsv:3", "each of its rows needs an answer"],
    );
}

#[test]
fn mnlis_dev_sets_have_more_columns_than_its_training_rows() {
    let wide = "index\tpairID\tsentence1\tsentence2\tlabel1\tlabel2\tgold_label\n\
                0\t1\ta\tb\tneutral\tneutral\tneutral\n";
    let files = [
        (
            "MNLI/train.tsv",
            "index\tsentence1\tsentence2\tlabel1\tgold_label\n0\ta\tb\tneutral\tentailment\n",
        ),
        ("MNLI/dev_matched.tsv", wide),
        ("MNLI/test_matched.tsv", "index\tpairID\tsentence1\tsentence2\n0\t1\ta\tb\n"),
        ("diagnostic/diagnostic.tsv", "index\tsentence1\tsentence2\n0\tx\ty\n"),
    ];
    assert_eq!(
        seen(&rows_of(&files, "mnli", ReadFor::Train)),
        [("a", Some("b"), Some("entailment"))]
    );
    assert_eq!(seen(&rows_of(&files, "mnli", ReadFor::Dev)), [("a", Some("b"), Some("neutral"))]);
    assert_eq!(rows_of(&files, "mnli", ReadFor::Test).index, ["0"]);
    assert_eq!(seen(&rows_of(&files, "ax", ReadFor::Test)), [("x", Some("y"), None)]);
}

#[test]
fn scores_lie_within_their_range() {
    let head = "index\tgenre\tsentence1\tsentence2\tscore\n";
    let good = format!("{head}0\tg\ta\tb\t5.000\n1\tg\tc\td\t0\n");
    let rows = rows_of(&[("STS-B/train.tsv", &good)], "stsb", ReadFor::Train);
    assert_eq!(seen(&rows)[0], ("a", Some("b"), Some("5.000")));
    for (score, said) in [
        ("5.1", "5.1 is outside"),
        ("-0.5", "outside"),
        ("nan", "has no label"),
        ("x", "not a number"),
    ] {
        let text = format!("{head}0\tg\ta\tb\t1\n1\tg\ta\tb\t{score}\n");
        refused(
            &[("STS-B/train.tsv", &text)],
            "stsb",
            ReadFor::Train,
            &["train.tsv:3, column \"score\"", said],
        );
    }
}

#[test]
fn superglue_is_json_lines() {
    let boolq = r#"{"question": "is it", "passage": "It \"is\".", "idx": 0, "label": true}
{"question": "was it", "passage": "No.", "idx": 1, "label": false}
"#;
    let rows = rows_of(&[("BoolQ/train.jsonl", boolq)], "boolq", ReadFor::Train);
    assert_eq!(
        seen(&rows),
        [("is it", Some("It \"is\"."), Some("True")), ("was it", Some("No."), Some("False"))]
    );
    let cb = r#"{"premise": "a", "hypothesis": "b", "label": "contradiction", "idx": 3}"#;
    let rows = rows_of(&[("CB/val.jsonl", cb)], "cb", ReadFor::Dev);
    assert_eq!(seen(&rows), [("a", Some("b"), Some("contradiction"))]);
    let wic = r#"{"word": "place", "sentence1": "a place", "sentence2": "to place", "idx": 0, "start1": 2}"#;
    let rows = rows_of(&[("WiC/test.jsonl", wic)], "wic", ReadFor::Test);
    assert_eq!(seen(&rows), [("place: a place", Some("to place"), None)]);
    assert_eq!(
        (rows.index[0].as_str(), rows.table.columns.text.as_str()),
        ("0", "word: sentence1")
    );
    refused(
        &[("CB/val.jsonl", "{\"premise\": \"a\"}")],
        "cb",
        ReadFor::Dev,
        &["val.jsonl:1", "\"hypothesis\" is missing"],
    );
    refused(
        &[("CB/val.jsonl", "{\"premise\"")],
        "cb",
        ReadFor::Dev,
        &["val.jsonl:1:", "not a JSON object"],
    );
    let list = r#"{"premise": ["a"], "hypothesis": "b", "label": "neutral"}"#;
    refused(
        &[("CB/val.jsonl", list)],
        "cb",
        ReadFor::Dev,
        &["val.jsonl:1, column \"premise\"", "not text"],
    );
    let other = r#"{"premise": "a", "hypothesis": "b", "label": "maybe"}"#;
    refused(&[("CB/val.jsonl", other)], "cb", ReadFor::Dev, &["\"maybe\" is not a label of CB"]);
}

#[test]
fn files_of_another_task_are_refused_by_what_they_are() {
    refused(
        &[("train.tsv", MSR)],
        "rte",
        ReadFor::Train,
        &["\"sentence1\", \"sentence2\", \"label\" are needed", "these are MRPC's"],
    );
    // The same columns, distinguished by the classes that the file states.
    let copy = tempfile::tempdir().unwrap();
    let name = "train-00000-of-00001.parquet";
    fs::copy(Path::new(GLUE).join("cola").join(name), copy.path().join(name)).unwrap();
    let error = try_read(copy.path(), "sst2", ReadFor::Train).unwrap_err().to_string();
    assert!(error.contains("\"unacceptable\"") && error.contains("another task"), "{error}");
    // By the folder's name.
    let named = copy.path().join("SST-2");
    fs::create_dir(&named).unwrap();
    fs::copy(copy.path().join(name), named.join(name)).unwrap();
    let error = try_read(&named, "cola", ReadFor::Train).unwrap_err().to_string();
    assert!(error.contains("judging by its name,"), "{error}");
    assert!(
        try_read(copy.path(), "rte", ReadFor::Train)
            .unwrap_err()
            .to_string()
            .contains("are needed")
    );
    assert!(try_read(Path::new(GLUE), "rte", ReadFor::Train).unwrap().is_none());
}

#[test]
fn files_of_a_look_alike_are_refused_by_its_name() {
    let pairs = "index\tsentence1\tsentence2\tlabel\n0\ta\tb\t";
    let (rte, wnli) = (format!("{pairs}entailment\n"), format!("{pairs}1\n"));
    let sst2 = "sentence\tlabel\nA b\t1\n";
    let names = |task: &str, text: &str, other: &str| {
        let parts = ["train.tsv: ", other, "but --task is"];
        refused(&[("train.tsv", text)], task, ReadFor::Train, &parts);
    };
    names("wnli", &rte, "a file of RTE");
    names("rte", &wnli, "a file of WNLI");
    names("cola", sst2, "a file of SST-2");
    for (task, text) in [("wnli", &wnli[..]), ("rte", &rte), ("sst2", sst2)] {
        assert_eq!(seen(&rows_of(&[("train.tsv", text)], task, ReadFor::Train)).len(), 1);
    }
    // Numbers in the hub's order, as programs write its rows.
    let hub = rows_of(
        &[("train.tsv", "sentence1\tsentence2\tlabel\tidx\na\tb\t1\t0\n")],
        "rte",
        ReadFor::Train,
    );
    assert!(hub.notes[0].contains("1 is not_entailment"), "{:?}", hub.notes);
    refused(
        &[("train.tsv", sst2)],
        "rte",
        ReadFor::Train,
        &["train.tsv:1", "are needed", "these are SST-2's"],
    );
}

#[test]
fn rows_of_another_split_are_refused() {
    let train = "index\tquestion\tsentence\tlabel\n0\ta\tb\tentailment\n";
    refused(
        &[("QNLI/test.tsv", train)],
        "qnli",
        ReadFor::Test,
        &["test.tsv:2, column \"label\"", "\"entailment\" is a label", "another split"],
    );
    let bare = "gj04\t1\t\tThey drank.\n";
    refused(&[("test.tsv", bare)], "cola", ReadFor::Test, &["test.tsv:1", "\"1\" is a label"]);
    for (task, test) in [
        ("qnli", "index\tquestion\tsentence\n0\ta\tb\n"),
        ("cola", "index\tsentence\n0\tThey drank.\n"),
    ] {
        let parts = ["train.tsv:1", "are needed", "are these the test rows"];
        refused(&[("train.tsv", test)], task, ReadFor::Train, &parts);
    }
}

#[test]
fn test_rows_keep_their_numbers_and_get_some_where_there_are_none() {
    let any = rows_of(&[("test.tsv", "index\tsentence\n1\tA\n0\tB\n")], "sst2", ReadFor::Test);
    assert_eq!((any.index.join(" "), any.notes.len()), ("1 0".to_owned(), 0));
    let none = rows_of(&[("test.tsv", "sentence\nA\nB\n")], "sst2", ReadFor::Test);
    assert_eq!(none.index, ["0", "1"]);
    assert!(none.notes[0].contains("numbered from 0"), "{:?}", none.notes);
    let twice = "index\tsentence\n0\tA\n0\tB\n";
    refused(&[("test.tsv", twice)], "sst2", ReadFor::Test, &["test.tsv:3, column \"index\""]);
}

#[test]
fn what_is_no_parquet_file_is_named_and_nothing_panics() {
    let name = "cola/train-00000-of-00001.parquet";
    let good = fs::read(Path::new(GLUE).join(name)).unwrap();
    let here = tempfile::tempdir().unwrap();
    fs::create_dir(here.path().join("cola")).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(here.path().join(name), bytes).unwrap();
        try_read(here.path(), "cola", ReadFor::Train).map(drop)
    };
    for (bytes, said) in [
        (&b"<!DOCTYPE html>"[..], "was an error page"),
        (b"", "not a parquet file"),
        (b"PAR1", "not a readable parquet file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (&good[..good.len() / 2], "not a readable parquet file"),
    ] {
        let error = refused(bytes).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("train-00000"), "{error}");
    }
    // Any byte may be wrong: an error or other text, but never a panic.
    let mut errors = 0;
    for at in (0..good.len()).step_by(3) {
        for bits in [0xFF, 0x01] {
            let mut bytes = good.clone();
            bytes[at] ^= bits;
            errors += usize::from(refused(&bytes).is_err());
        }
    }
    assert!(errors > 100, "{errors}");
}

#[test]
fn parquet_files_of_other_forms_are_read_or_named_with_row_and_column() {
    let read = |name: &str| {
        let here = tempfile::tempdir().unwrap();
        let from = Path::new("tests/fixtures/parquet").join(format!("{name}.parquet"));
        fs::copy(from, here.path().join("train.parquet")).unwrap();
        try_read(here.path(), "cola", ReadFor::Train)
    };
    let groups = read("groups").unwrap().unwrap().table;
    assert_eq!((groups.rows.len(), groups.rows[2499].line), (2500, 2500));
    for (name, parts) in [
        ("zstd", &["compressed with ZSTD", "snappy"][..]),
        ("nested", &["the column \"sentence\" holds structures"]),
        ("dates", &["the column \"sentence\" holds numbers", "text is needed"]),
        ("words", &["row 3, column \"label\"", "\"maybe\" is not a label of CoLA"]),
        ("halves", &["row 2, column \"label\"", "\"0.5\" is not a label"]),
        ("null", &["row 2, column \"label\"", "an empty field means"]),
        ("bytes", &["row 2, column \"sentence\"", "invalid UTF-8"]),
        ("numbers", &["the column \"sentence\" holds numbers"]),
    ] {
        let error = read(name).unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{name}: no `{part}` in: {error}");
        }
    }
}

#[test]
fn labels_of_the_test_rows_are_none_to_train_on() {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("cola")).unwrap();
    let from = Path::new(GLUE).join("cola/test-00000-of-00001.parquet");
    fs::copy(from, copy.path().join("cola/train-00000-of-00001.parquet")).unwrap();
    let error = try_read(copy.path(), "cola", ReadFor::Train).unwrap_err().to_string();
    for part in
        ["train-00000-of-00001.parquet, row 1, column \"label\"", "means that", "--unlabelled drop"]
    {
        assert!(error.contains(part), "{error}");
    }
    let task = task("cola");
    let none = read(copy.path(), task, task.train.as_ref().unwrap(), ReadFor::Train, true);
    assert!(none.unwrap_err().to_string().contains("no rows are left"));
}

#[test]
fn every_task_reads_what_its_archive_has() {
    for task in TASKS.iter().filter(|task| task.train.is_some()) {
        let columns = &task.archive.columns;
        let label = match task.answers {
            Answers::Classes(classes) => classes[1].word,
            Answers::Scores(..) => "2.5",
        };
        let names: Vec<&str> = columns.text.iter().chain(&columns.pair).copied().collect();
        let file = task.train.as_ref().unwrap().files[0];
        let text = if file.ends_with(".jsonl") {
            let texts: String = names.iter().map(|name| format!("{name:?}: \"x\", ")).collect();
            format!("{{{texts}\"label\": {label:?}}}\n")
        } else {
            // CoLA's has no header, and with one of these columns it would be SST-2's.
            let columns = [&names[..], &[columns.label]].concat();
            let columns = task.archive.bare.unwrap_or(&columns);
            let cells = columns.iter().map(|name| match *name == task.archive.columns.label {
                true => label,
                false => "x",
            });
            let row = cells.collect::<Vec<_>>().join("\t");
            match task.archive.bare {
                Some(_) => row,
                None => format!("{}\n{row}\n", columns.join("\t")),
            }
        };
        let path = format!("{}/{file}", task.archive.folder);
        let rows = rows_of(&[(&path, &text)], task.name, ReadFor::Train);
        assert_eq!(rows.table.rows.len(), 1, "{}", task.name);
    }
}
