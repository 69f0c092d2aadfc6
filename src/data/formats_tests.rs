//! Behaviour of the row readers, good input and bad.

use super::*;
use crate::data::{ColumnNames, LabelUse, Table};
use crate::processor_time::ProcessorTime;
use std::path::Path;

fn options(label_use: LabelUse) -> ReadOptions {
    let columns = ColumnNames::default();
    ReadOptions { format: None, columns, label_use, label_lists: false, trained: None }
}

fn read(format: FileFormat, input: impl AsRef<[u8]>, label_use: LabelUse) -> Result<Vec<Row>> {
    rows(input.as_ref(), "f", format, &options(label_use))?.collect()
}

/// (line, text, label) of each row.
fn labelled(format: FileFormat, input: impl AsRef<[u8]>) -> Vec<(u64, String, String)> {
    let rows = read(format, input, LabelUse::Required).unwrap();
    rows.into_iter().map(|row| (row.line, row.text, row.label.unwrap())).collect()
}

fn refused(format: FileFormat, input: impl AsRef<[u8]>) -> String {
    read(format, input, LabelUse::Required).unwrap_err().to_string()
}

fn row(line: u64, text: &str, label: &str) -> (u64, String, String) {
    (line, text.to_owned(), label.to_owned())
}

#[test]
fn the_three_formats_give_the_same_rows() {
    let expected = [row(2, "a \"b\"", "1"), row(3, "c, d", "0")];
    assert_eq!(labelled(FileFormat::Tsv, "text\tlabel\na \"b\"\t1\nc, d\t0\n"), expected);
    assert_eq!(labelled(FileFormat::Csv, "label,text\n1,\"a \"\"b\"\"\"\n0,\"c, d\"\n"), expected);
    let jsonl = "{\"text\": \"a \\\"b\\\"\", \"label\": 1}\n{\"label\": 0, \"text\": \"c, d\"}";
    let expected = [row(1, "a \"b\"", "1"), row(2, "c, d", "0")];
    assert_eq!(labelled(FileFormat::Jsonl, jsonl), expected);
}

#[test]
fn byte_order_mark_crlf_and_blank_lines_at_the_end_are_accepted() {
    let expected = [row(2, "a", "x")];
    assert_eq!(labelled(FileFormat::Tsv, "\u{feff}text\tlabel\r\na\tx\r\n\r\n\r\n"), expected);
    assert_eq!(labelled(FileFormat::Csv, "\u{feff}text,label\r\na,x\r\n\n"), expected);
    let jsonl = "\u{feff}{\"text\": \"a\", \"label\": true}\r\n\r\n";
    assert_eq!(labelled(FileFormat::Jsonl, jsonl), [row(1, "a", "true")]);
}

#[test]
fn pairs_and_json_labels_of_every_kind_are_read() {
    let jsonl = "{\"premise\": \"p\", \"hypothesis\": \"h\", \"label\": \"yes\"}\n\
                 {\"premise\": \"p\", \"hypothesis\": null, \"label\": -1.5, \"more\": [1]}\n";
    let rows = read(FileFormat::Jsonl, jsonl, LabelUse::Required).unwrap();
    assert_eq!(rows[0].text_pair.as_deref(), Some("h"));
    assert_eq!(rows[1].text_pair, None);
    assert_eq!(rows[1].label.as_deref(), Some("-1.5"));
}

#[test]
fn the_time_for_json_lines_grows_with_their_keys_and_no_faster() {
    let keys: String = (0..100_000).map(|i| format!(", \"k{i}\": {i}")).collect();
    let line = |i: usize, more: &str| format!("{{\"text\": \"a\", \"label\": {i}{more}}}\n");
    let fresh: String = (0..20_000).map(|i| line(i, &format!(", \"new{i}\": 0"))).collect();
    let begun = ProcessorTime::begin();
    assert_eq!(labelled(FileFormat::Jsonl, line(7, &keys)), [row(1, "a", "7")]);
    assert_eq!(labelled(FileFormat::Jsonl, fresh).len(), 20_000);
    // If it were quadratic, it would take minutes.
    assert!(begun.taken().as_secs() < 20, "{:?}", begun.taken());
    // A key of a later row still counts where it changes what is read.
    let later = line(0, "") + "{\"text\": \"a\", \"label\": 1, \"text_pair\": \"b\"}\n";
    let rows = read(FileFormat::Jsonl, later, LabelUse::Required).unwrap();
    assert_eq!(rows[1].text_pair.as_deref(), Some("b"));
    let twice = line(0, ", \"label\": 1");
    assert!(refused(FileFormat::Jsonl, twice).contains("\"label\" occurs twice"));
}

#[test]
fn a_record_over_several_lines_keeps_the_numbers_of_later_rows_right() {
    let input = "text,label\n\"a\nb\n\",x\nc,y\nd\n";
    let message = refused(FileFormat::Csv, input);
    assert_eq!(message, "f:6: 1 field, but the header has 2");
    let rows = labelled(FileFormat::Csv, &input[..input.len() - 2]);
    assert_eq!(rows, [row(2, "a\nb\n", "x"), row(5, "c", "y")]);
}

#[test]
fn ragged_rows_are_refused_with_their_line() {
    assert_eq!(
        refused(FileFormat::Tsv, "text\tlabel\na\tx\nb\n"),
        "f:3: 1 field, but the header has 2"
    );
    assert_eq!(
        refused(FileFormat::Tsv, "text\tlabel\na\tx\ty\n"),
        "f:2: 3 fields, but the header has 2"
    );
}

#[test]
fn a_blank_line_between_rows_is_an_error_unless_it_can_be_an_empty_text() {
    let message = refused(FileFormat::Tsv, "text\tlabel\na\tx\n\n\nb\ty\n");
    assert_eq!(message, "f:3: a blank line between the examples");
    let rows = read(FileFormat::Tsv, "text\na\n\n\nb\n\n", LabelUse::Ignored).unwrap();
    let texts: Vec<_> = rows.iter().map(|row| (row.line, row.text.as_str())).collect();
    assert_eq!(texts, [(2, "a"), (3, ""), (4, ""), (5, "b"), (6, "")], "also at the end");
}

#[test]
fn the_header_once_more_is_refused_and_a_text_may_be_the_name_of_its_column() {
    for (format, input) in [
        (FileFormat::Tsv, "text\tlabel\na\tx\n\u{feff}text\tlabel\nb\ty\n"),
        (FileFormat::Csv, "text,label\na,x\n\"text\", label\nb,y\n"),
    ] {
        let message = refused(format, input);
        assert!(message.starts_with("f:3: this line repeats the column names"), "{message}");
    }
    assert_eq!(read(FileFormat::Tsv, "text\na\ntext\n", LabelUse::Ignored).unwrap().len(), 2);
    assert_eq!(labelled(FileFormat::Tsv, "text\tlabel\ntext\tx\n"), [row(2, "text", "x")]);
}

#[test]
fn columns_parted_by_spaces_are_named_as_such() {
    for format in [FileFormat::Tsv, FileFormat::Csv] {
        let message = refused(format, "text label\na x\n");
        assert!(message.contains("separated by spaces: save it with commas or tabs"), "{message}");
    }
}

#[test]
fn invalid_utf8_is_refused_in_every_format() {
    for (format, start) in [
        (FileFormat::Tsv, "text\tlabel\n"),
        (FileFormat::Csv, "text,label\n"),
        (FileFormat::Jsonl, "{\"text\": \"\", \"label\": 0}\n"),
    ] {
        let message = refused(format, [start.as_bytes(), b"a\xC3(\n"].concat());
        assert!(message.starts_with("f:2:2: invalid UTF-8 (byte 0xC3)"), "{message}");
    }
}

#[test]
fn inputs_without_examples_are_refused() {
    assert!(refused(FileFormat::Tsv, "").contains("the file is empty"));
    let bare = "f: there is only a header row; add at least one example below it";
    assert_eq!(refused(FileFormat::Tsv, "text\tlabel\n"), bare);
    assert_eq!(refused(FileFormat::Csv, "text,label\n\n"), bare);
    assert_eq!(refused(FileFormat::Jsonl, ""), "f: the file has no examples");
}

#[test]
fn broken_json_is_reported_with_line_and_column() {
    let good = "{\"text\": \"a\", \"label\": 0}\n";
    let message = refused(FileFormat::Jsonl, format!("{good}{{\"text\": \"a\" \"label\": 0}}\n"));
    assert!(message.starts_with("f:2:14: not a JSON object on one line: expected"), "{message}");
    assert!(!message.contains("at line"), "{message}");
    assert!(refused(FileFormat::Jsonl, "[{\"text\": \"a\"}]\n").contains("an array"));
    assert_eq!(refused(FileFormat::Jsonl, format!("{good}3\n")), "f:2: not a JSON object");
}

#[test]
fn missing_keys_and_wrong_kinds_are_reported_with_their_line() {
    let good = "{\"text\": \"a\", \"label\": 0}\n";
    let after = |line: &str| refused(FileFormat::Jsonl, format!("{good}{line}\n"));
    assert_eq!(after("{\"text\": \"a\"}"), "f:2: the key \"label\" is missing");
    assert_eq!(
        after("{\"text\": null, \"label\": 0}"),
        "f:2: the value of \"text\" is null, not a string"
    );
    assert!(
        after("{\"text\": \"\", \"label\": []}")
            .starts_with("f:2: the value of \"label\" is an array")
    );
}

#[test]
fn a_missing_column_is_reported_at_the_header() {
    let message = refused(FileFormat::Csv, "txt,label\na,x\n");
    assert!(
        message.starts_with("f:1: no text column") && message.contains("did you mean \"txt\"?"),
        "{message}"
    );
}

#[test]
fn an_error_ends_the_iterator() {
    let input = "text\na\nb\tc\nd\n";
    let mut rows =
        rows(input.as_bytes(), "f", FileFormat::Tsv, &options(LabelUse::Ignored)).unwrap();
    assert!(rows.next().unwrap().is_ok());
    assert!(rows.next().unwrap().is_err());
    assert!(rows.next().is_none() && rows.next().is_none());
}

#[test]
fn rows_arrive_before_the_input_has_ended() {
    /// Gives one line, then fails the test if asked for more before the row was returned.
    struct Pipe(std::cell::Cell<usize>);
    impl std::io::Read for &Pipe {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let part: &[u8] = match self.0.replace(self.0.get() + 1) {
                0 => b"text\n",
                1 => b"first\n",
                _ => b"",
            };
            buffer[..part.len()].copy_from_slice(part);
            Ok(part.len())
        }
    }
    let pipe = Pipe(std::cell::Cell::new(0));
    let reader = std::io::BufReader::new(&pipe);
    let mut rows = rows(reader, "f", FileFormat::Tsv, &options(LabelUse::Ignored)).unwrap();
    assert_eq!(rows.next().unwrap().unwrap().text, "first");
    assert_eq!(pipe.0.get(), 2, "the reader looked past the row it gave");
}

#[test]
fn the_format_follows_the_extension_or_is_given() {
    assert_eq!(FileFormat::from_path(Path::new("a/b.TSV")).unwrap(), FileFormat::Tsv);
    assert_eq!(FileFormat::from_path(Path::new("b.txt")).unwrap(), FileFormat::Tsv);
    assert_eq!(FileFormat::from_path(Path::new("b.ndjson")).unwrap(), FileFormat::Jsonl);
    let message = FileFormat::from_path(Path::new("b.data")).unwrap_err().to_string();
    assert!(message.starts_with("b.data: cannot tell the format"), "{message}");
    assert!("xml".parse::<FileFormat>().is_err());
}

#[test]
fn a_table_is_a_whole_file_and_names_it_in_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.csv");
    std::fs::write(&path, "text,label\na,x\nb,y\n").unwrap();
    let options = options(LabelUse::Required);
    let table = Table::read(&path, &options).unwrap();
    assert_eq!(table.rows.len(), 2);
    assert_eq!(table.select(&[1]).rows[0].text, "b");
    std::fs::write(&path, "text,label\na\n").unwrap();
    let message = Table::read(&path, &options).unwrap_err().to_string();
    assert_eq!(message, format!("{}:2: 1 field, but the header has 2", path.display()));
    let message = Table::read(&folder.path().join("no.csv"), &options).unwrap_err().to_string();
    assert!(message.starts_with("cannot open "), "{message}");
}

fn jsonl(lines: &[&str], change: impl FnOnce(&mut ReadOptions)) -> Result<Vec<Row>> {
    let mut options = options(LabelUse::Required);
    change(&mut options);
    let text = lines.join("\n");
    let mut reader = rows(text.as_bytes(), "f", FileFormat::Jsonl, &options)?;
    let rows = reader.by_ref().collect::<Result<Vec<_>>>()?;
    reader.complete()?;
    Ok(rows)
}

const SINGLE: &str = r#"{"text": "a", "label": 0}"#;
const PAIR: &str = r#"{"text": "a", "text_pair": "b", "label": 0}"#;

#[test]
fn a_key_that_first_comes_later_counts_from_there() {
    let pairs =
        |rows: Vec<Row>| -> Vec<bool> { rows.iter().map(|row| row.text_pair.is_some()).collect() };
    let found = jsonl(&[SINGLE, PAIR, SINGLE], |_| ()).unwrap();
    assert_eq!(pairs(found), [false, true, false]);
    let by_name = |options: &mut ReadOptions| {
        options.columns.text_pair = Some("text_pair".to_owned());
    };
    assert_eq!(pairs(jsonl(&[SINGLE, PAIR], by_name).unwrap()), [false, true]);
    let message = jsonl(&[SINGLE], by_name).unwrap_err().to_string();
    assert!(message.contains("no row has the key \"text_pair\""), "{message}");
}

#[test]
fn a_late_key_that_would_change_what_was_read_is_refused() {
    for late in [
        r#"{"sentence": "a", "question": "b", "label": 0}"#,
        r#"{"sentence": "a", "text": "b", "label": 0}"#,
    ] {
        let message = jsonl(&[r#"{"sentence": "a", "label": 0}"#, late], |_| ()).unwrap_err();
        assert!(message.to_string().starts_with("f:2: the key "), "{message}");
    }
    assert!(jsonl(&[r#"{"text": "a", "score": 0}"#, SINGLE], |_| ()).is_err());
}

#[test]
fn a_trained_task_is_held_by_the_keys_of_all_rows() {
    let trained = |pair: Option<&str>| {
        let pair = pair.map(str::to_owned);
        move |options: &mut ReadOptions| {
            options.trained =
                Some(Columns { text: "text".to_owned(), text_pair: pair, label: None });
        }
    };
    assert!(jsonl(&[SINGLE, PAIR], trained(Some("text_pair"))).is_ok());
    let message = jsonl(&[SINGLE], trained(Some("text_pair"))).unwrap_err();
    assert!(message.to_string().contains("trained on pairs"), "{message}");
    let message = jsonl(&[SINGLE, PAIR], trained(None)).unwrap_err();
    assert!(message.to_string().starts_with("f:2: the task was trained on single"));
}

#[test]
fn an_empty_text_in_a_list_of_labels_is_refused_as_a_null_is() {
    for list in ["[\"a\", \"\"]", "[\" \"]", "[null]"] {
        let line = format!("{{\"text\": \"t\", \"label\": {list}}}");
        let message =
            jsonl(&[&line], |options| options.label_lists = true).unwrap_err().to_string();
        assert!(message.starts_with("f:1: the list \"label\" has "), "{message}");
    }
}

#[test]
fn json_labels_stay_as_they_are_written_and_null_is_none() {
    let labels = ["1", "1.0", "1e2", "true", "12345678901234567890123", "null", "\"x\""];
    let rows = labels.map(|label| format!("{{\"text\": \"a\", \"label\": {label}}}"));
    let rows = jsonl(&rows.each_ref().map(String::as_str), |_| ()).unwrap();
    let read: Vec<_> = rows.into_iter().filter_map(|row| row.label).collect();
    assert_eq!(read, ["1", "1.0", "1e2", "true", labels[4], "", "x"]);
    let twice = jsonl(&[r#"{"text": "a", "label": 0, "label": 1}"#], |_| ()).unwrap_err();
    assert!(twice.to_string().contains("occurs twice"), "{twice}");
}

#[test]
fn a_file_of_another_kind_is_named_as_what_it_is() {
    let says = |format, input: &[u8], part: &str| {
        let message = refused(format, input);
        assert!(message.contains(part), "{message}");
        assert!(!message.contains("did you mean"), "{message}");
    };
    says(FileFormat::Tsv, b"\x1f\x8b\x08\0", "gzip");
    says(FileFormat::Csv, b"text;label\na;1\n", "semicolons");
    says(FileFormat::Csv, b"text\tlabel\na\t1\n", "--format tsv");
    says(FileFormat::Tsv, b"text,label\na,1\n", "--format csv");
    says(FileFormat::Tsv, b"\"text\"\t\"label\"\n\"a\"\t\"1\"\n", "quotes");
    says(FileFormat::Tsv, b"{\"text\": \"a\"}\n", "--format jsonl");
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n";
    says(FileFormat::Tsv, pointer, "Git LFS");
    let message = FileFormat::from_path(Path::new("a.tsv.gz")).unwrap_err();
    assert!(message.to_string().contains("gzip"), "{message}");
}
