//! One record of a delimited file: tab-separated lines, or comma-separated values after RFC 4180.

use std::io::Read;

use anyhow::{Result, bail};
use csv_core::ReadRecordResult;

use super::lines::Lines;
use super::quoting::{Behind, Quoting};

/// The fields of one record, in a buffer that is reused for the next.
#[derive(Default)]
pub(super) struct Record {
    text: Vec<u8>,
    /// End of each field in `text`.
    ends: Vec<usize>,
}

impl Record {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn get(&self, field: usize) -> &str {
        let start = if field == 0 { 0 } else { self.ends[field - 1] };
        // Cannot fail: `Lines` has validated the text, and only whole ASCII bytes (separators, quotes) were removed.
        std::str::from_utf8(&self.text[start..self.ends[field]]).expect("fields of checked UTF-8")
    }

    pub fn fields(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|field| self.get(field))
    }
}

/// How lines become records.
pub(super) enum Splitter {
    /// Every tab separates; quotes are ordinary characters, as GLUE's files require.
    Tsv,
    /// Commas separate, quotes may enclose commas and line breaks. A line break inside quotes reads as LF.
    Csv(Box<csv_core::Reader>),
}

impl Splitter {
    pub fn csv() -> Self {
        // Lines come without their ending; only the LF added back below ends a record, so a stray CR is text.
        let reader =
            csv_core::ReaderBuilder::new().terminator(csv_core::Terminator::Any(b'\n')).build();
        Self::Csv(Box::new(reader))
    }

    /// Splits the line in `first` into `record`, reading more from `lines` while a quoted field is open.
    pub fn split<R: Read>(
        &mut self,
        first: &str,
        lines: &mut Lines<R>,
        record: &mut Record,
    ) -> Result<()> {
        match self {
            Splitter::Tsv => {
                record.text.clear();
                record.ends.clear();
                for field in first.split('\t') {
                    record.text.extend_from_slice(field.as_bytes());
                    record.ends.push(record.text.len());
                }
                Ok(())
            }
            Splitter::Csv(reader) => {
                reader.reset();
                let mut progress = (0, 0);
                let start = lines.number();
                let mut quoting = Quoting::default();
                hold_quotes(&mut quoting, first, lines, start)?;
                if feed(reader, first.as_bytes(), record, &mut progress) {
                    return Ok(());
                }
                let opened = lines.place();
                loop {
                    let Some(line) = lines.next()?.map(str::to_owned) else {
                        bail!("{opened}: a quoted field begins here and is never closed");
                    };
                    hold_quotes(&mut quoting, &line, lines, start)?;
                    if feed(reader, line.as_bytes(), record, &mut progress) {
                        return Ok(());
                    }
                    if progress.0 > MAX_RECORD {
                        bail!(
                            "{opened}: a quoted field begins here and is still open {} lines later",
                            lines.number() - start
                        );
                    }
                }
            }
        }
    }
}

/// # Errors
/// Something follows the quote that closes a field: the intended text cannot be determined.
fn hold_quotes<R: Read>(
    quoting: &mut Quoting,
    line: &str,
    lines: &Lines<R>,
    start: u64,
) -> Result<()> {
    let Some(Behind { column, character, escaped }) = quoting.line(line) else {
        return Ok(());
    };
    let row = match lines.number() {
        here if here == start => String::new(),
        _ => format!(" (the row begins on line {start}: look for a stray quote there, too)"),
    };
    let how = match escaped {
        true => {
            "; a backslash does not escape a quote in a csv: save the file with doubled quotes (\"\"), or as JSON \
             lines"
        }
        false => "; double a quote within a field (\"\")",
    };
    bail!(
        "{}:{column}: {character:?} follows the quote that closes a field{row}{how}",
        lines.place()
    )
}

/// Longest record accepted, in bytes: a forgotten quote must not swallow a huge file.
const MAX_RECORD: usize = 64 << 20;

/// Feeds one line and its LF to the parser; true if that ended the record. `progress` is the number of bytes and of
/// fields found so far.
fn feed(
    reader: &mut csv_core::Reader,
    line: &[u8],
    record: &mut Record,
    progress: &mut (usize, usize),
) -> bool {
    let (bytes, fields) = progress;
    for mut input in [line, b"\n".as_slice()] {
        // Each byte of input yields at most one byte of output and one end of a field.
        record.text.resize((*bytes + input.len() + 1).max(record.text.len()), 0);
        record.ends.resize((*fields + input.len() + 1).max(record.ends.len()), 0);
        while !input.is_empty() {
            let (result, read, wrote, ended) =
                reader.read_record(input, &mut record.text[*bytes..], &mut record.ends[*fields..]);
            input = &input[read..];
            *bytes += wrote;
            *fields += ended;
            if matches!(result, ReadRecordResult::Record | ReadRecordResult::End) {
                record.text.truncate(*bytes);
                record.ends.truncate(*fields);
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records(mut splitter: Splitter, input: &str) -> Result<Vec<(u64, Vec<String>)>> {
        let mut lines = Lines::new(input.as_bytes(), "t");
        let mut record = Record::default();
        let mut out = Vec::new();
        while let Some(line) = lines.next()?.map(str::to_owned) {
            let number = lines.number();
            splitter.split(&line, &mut lines, &mut record)?;
            out.push((number, record.fields().map(str::to_owned).collect()));
        }
        Ok(out)
    }

    #[test]
    fn tabs_separate_and_quotes_stay_as_they_are() {
        let out = records(Splitter::Tsv, "a\t\"b\t c\"\t\n").unwrap();
        assert_eq!(out, [(1, vec!["a".into(), "\"b".into(), " c\"".into(), String::new()])]);
    }

    #[test]
    fn csv_quotes_enclose_commas_quotes_and_line_breaks() {
        let input = "a,\"b, \"\"c\"\"\nd\n\ne\",f\r\n\"\",x,\n";
        let out = records(Splitter::csv(), input).unwrap();
        assert_eq!(
            out,
            [
                (1, vec!["a".into(), "b, \"c\"\nd\n\ne".into(), "f".into()]),
                (5, vec![String::new(), "x".into(), String::new()]),
            ]
        );
    }

    #[test]
    fn an_unclosed_quote_is_reported_where_it_opens() {
        let message = records(Splitter::csv(), "a,b\nc,\"d\ne,f\n").unwrap_err().to_string();
        assert_eq!(message, "t:2: a quoted field begins here and is never closed");
    }

    #[test]
    fn a_quote_that_closes_a_field_too_early_is_refused_by_line_and_column() {
        let message = |input: &str| records(Splitter::csv(), input).unwrap_err().to_string();
        let plain = message("a,b\n\"the \"film\" good\",pos\n");
        assert!(plain.starts_with("t:2:7: 'f' follows the quote"), "{plain}");
        assert!(plain.contains("double a quote within a field"), "{plain}");
        let escaped = message("\"the \\\"film\\\" good\",pos\n");
        assert!(escaped.starts_with("t:1:8: 'f'") && escaped.contains("a backslash"), "{escaped}");
        let over = message("\"bad,pos\nx,\"good\",neg\n");
        assert!(over.starts_with("t:2:4: 'g'") && over.contains("begins on line 1"), "{over}");
    }

    proptest! {
        #[test]
        fn whatever_is_quoted_after_rfc_4180_is_read_back(
            rows in prop::collection::vec(prop::collection::vec("[a-c,\"\n é\t]{0,6}", 2..4), 1..6)
        ) {
            let quoted = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
            let text: String = rows.iter()
                .map(|row| row.iter().map(quoted).collect::<Vec<_>>().join(",") + "\r\n").collect();
            let read: Vec<_> = records(Splitter::csv(), &text).unwrap().into_iter().map(|r| r.1).collect();
            prop_assert_eq!(read, rows);
        }
    }
}
