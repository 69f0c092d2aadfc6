//! Behaviour of the row readers, good input and bad.

use super::*;
use crate::data::{ReadOptions, Table};

fn read(format: FileFormat, input: impl AsRef<[u8]>, label_use: LabelUse) -> Result<Vec<Row>> {
    rows(input.as_ref(), "f", format, &ColumnNames::default(), label_use)?.collect()
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
fn a_record_over_several_lines_keeps_the_numbers_of_later_rows_right() {
    let input = "text,label\n\"a\nb\n\",x\nc,y\nd\n";
    let message = refused(FileFormat::Csv, input);
    assert_eq!(message, "f:6: 1 field(s) where the header has 2");
    let rows = labelled(FileFormat::Csv, &input[..input.len() - 2]);
    assert_eq!(rows, [row(2, "a\nb\n", "x"), row(5, "c", "y")]);
}

#[test]
fn ragged_rows_are_refused_with_their_line() {
    assert_eq!(
        refused(FileFormat::Tsv, "text\tlabel\na\tx\nb\n"),
        "f:3: 1 field(s) where the header has 2"
    );
    assert_eq!(
        refused(FileFormat::Tsv, "text\tlabel\na\tx\ty\n"),
        "f:2: 3 field(s) where the header has 2"
    );
}

#[test]
fn a_blank_line_between_rows_is_an_error_unless_it_can_be_an_empty_text() {
    let message = refused(FileFormat::Tsv, "text\tlabel\na\tx\n\n\nb\ty\n");
    assert_eq!(message, "f:3: a blank line between the examples");
    let rows = read(FileFormat::Tsv, "text\na\n\n\nb\n\n", LabelUse::Ignored).unwrap();
    let texts: Vec<_> = rows.iter().map(|row| (row.line, row.text.as_str())).collect();
    assert_eq!(texts, [(2, "a"), (3, ""), (4, ""), (5, "b")]);
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
    assert_eq!(refused(FileFormat::Tsv, "text\tlabel\n"), "f: the file has no examples");
    assert_eq!(refused(FileFormat::Csv, "text,label\n\n"), "f: the file has no examples");
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
            .starts_with("f:2: the label \"label\" is an array")
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
        rows(input.as_bytes(), "f", FileFormat::Tsv, &ColumnNames::default(), LabelUse::Ignored)
            .unwrap();
    assert!(rows.next().unwrap().is_ok());
    assert!(rows.next().unwrap().is_err());
    assert!(rows.next().is_none() && rows.next().is_none());
}

#[test]
fn rows_arrive_before_the_input_has_ended() {
    /// Gives one line, then fails the test when asked for more before the row was handed out.
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
    let mut rows =
        rows(reader, "f", FileFormat::Tsv, &ColumnNames::default(), LabelUse::Ignored).unwrap();
    assert_eq!(rows.next().unwrap().unwrap().text, "first");
    assert_eq!(pipe.0.get(), 2, "the reader looked past the row it gave");
}

#[test]
fn the_format_follows_the_extension_or_is_given() {
    assert_eq!(FileFormat::from_path(Path::new("a/b.TSV")).unwrap(), FileFormat::Tsv);
    assert_eq!(FileFormat::from_path(Path::new("b.ndjson")).unwrap(), FileFormat::Jsonl);
    let message = FileFormat::from_path(Path::new("b.txt")).unwrap_err().to_string();
    assert!(message.starts_with("b.txt: cannot tell the format"), "{message}");
    assert!("xml".parse::<FileFormat>().is_err());
}

#[test]
fn a_table_is_a_whole_file_and_names_it_in_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.csv");
    std::fs::write(&path, "text,label\na,x\nb,y\n").unwrap();
    let options = ReadOptions {
        format: None,
        columns: ColumnNames::default(),
        label_use: LabelUse::Required,
    };
    let table = Table::read(&path, &options).unwrap();
    assert_eq!(table.rows.len(), 2);
    assert_eq!(table.select(&[1]).rows[0].text, "b");
    std::fs::write(&path, "text,label\na\n").unwrap();
    let message = Table::read(&path, &options).unwrap_err().to_string();
    assert_eq!(message, format!("{}:2: 1 field(s) where the header has 2", path.display()));
    let message = Table::read(&folder.path().join("no.csv"), &options).unwrap_err().to_string();
    assert!(message.starts_with("cannot open "), "{message}");
}
