//! Physical lines of a text input, with what every format needs: a number for error messages, valid UTF-8, no byte
//! order mark, no line ending, and bounded memory.

use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, Result, bail};

use crate::content::mistaken;

/// Longest line accepted, in bytes. A file without line breaks must not fill the memory of a streaming run.
const MAX_LINE: u64 = 64 << 20;

/// Reads lines and keeps track of the position.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    /// File name, or "standard input", for messages.
    name: String,
    /// Number of the last line read, from 1.
    number: u64,
    /// Most bytes per line.
    longest: u64,
    buffer: Vec<u8>,
}

impl<R: Read> Lines<R> {
    pub fn new(reader: R, name: &str) -> Self {
        Self::with_longest(reader, name, MAX_LINE)
    }

    /// Accepts lines of up to this many bytes.
    pub fn with_longest(reader: R, name: &str, longest: u64) -> Self {
        Self {
            reader: BufReader::with_capacity(1 << 16, reader),
            name: name.to_owned(),
            number: 0,
            longest,
            buffer: Vec::new(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of the last line read, from 1; 0 before the first.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// "file:line", the start of every message about the last line read.
    pub fn place(&self) -> String {
        place(&self.name, self.number)
    }

    /// Whether a whole line, even a blank one, has been read from the input but not yet returned.
    pub fn any_ready(&self) -> bool {
        self.reader.buffer().contains(&b'\n')
    }

    /// Whether a whole nonblank line has been read from the input but not yet returned.
    pub fn ready(&self) -> bool {
        let lines = self.reader.buffer().split_inclusive(|&b| b == b'\n');
        lines
            .filter(|line| line.ends_with(b"\n"))
            .any(|line| line.iter().any(|b| !b"\r\n".contains(b)))
    }

    /// Whether nonblank lines followed by a blank one have been read but not yet returned.
    pub fn block_ready(&self) -> bool {
        let lines = self.reader.buffer().split_inclusive(|&b| b == b'\n');
        let mut lines = lines.filter(|line| line.ends_with(b"\n"));
        let blank = |line: &[u8]| line.trim_ascii().is_empty();
        lines.any(|line| !blank(line)) && lines.any(blank)
    }

    /// The next line without its ending (LF or CRLF), or `None` at the end of the input.
    ///
    /// # Errors
    /// If the input cannot be read, is not UTF-8 (with the byte's position), or a line is too long.
    pub fn next(&mut self) -> Result<Option<&str>> {
        self.buffer.clear();
        let mut limited = (&mut self.reader).take(self.longest + 1);
        let read = limited
            .read_until(b'\n', &mut self.buffer)
            .with_context(|| format!("cannot read {} after line {}", self.name, self.number))?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if read as u64 > self.longest {
            bail!(
                "{}: the line is longer than {} MiB; is this a text file with one example per line?",
                self.place(),
                self.longest >> 20
            );
        }
        if self.number == 1 {
            if let Some(what) = mistaken(&self.buffer) {
                bail!("{}: {what}", self.name);
            }
            // By a byte order mark, or by the zero half of its first letter.
            if matches!(
                self.buffer.as_slice(),
                [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [0, 1..=255, ..] | [1..=255, 0, ..]
            ) {
                bail!("{}: the file is UTF-16; save it as UTF-8", self.place());
            }
            if self.buffer.starts_with(&[0xEF, 0xBB, 0xBF]) {
                self.buffer.drain(..3);
            }
        }
        if self.buffer.last() == Some(&b'\n') {
            self.buffer.pop();
            if self.buffer.last() == Some(&b'\r') {
                self.buffer.pop();
            }
        }
        // Some tokenizers drop it and others take it for a letter; no editor writes one.
        if let Some(at) = self.buffer.iter().position(|&byte| byte == 0) {
            bail!(
                "{}:{}: a NUL character, which no text has: the file is damaged, or not text; `tr -d '\\000' < FILE > NEW` \
                 removes all of them",
                self.place(),
                at + 1
            );
        }
        match std::str::from_utf8(&self.buffer) {
            Ok(line) => Ok(Some(line)),
            Err(e) => {
                let at = e.valid_up_to();
                bail!(
                    "{}:{}: invalid UTF-8 (byte 0x{:02X}); save the file as UTF-8",
                    self.place(),
                    at + 1,
                    self.buffer[at]
                );
            }
        }
    }
}

/// "file:line".
pub(crate) fn place(name: &str, line: u64) -> String {
    format!("{name}:{line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8]) -> Result<Vec<String>> {
        let mut lines = Lines::new(input, "t.tsv");
        let mut out = Vec::new();
        while let Some(line) = lines.next()? {
            out.push(line.to_owned());
        }
        Ok(out)
    }

    #[test]
    fn byte_order_mark_and_both_line_endings_are_removed() {
        assert_eq!(all(b"\xEF\xBB\xBFa\r\nb\nc").unwrap(), ["a", "b", "c"]);
        assert_eq!(all(b"a\rb\n\n").unwrap(), ["a\rb", ""]);
        assert!(all(b"").unwrap().is_empty());
    }

    #[test]
    fn invalid_utf8_is_reported_with_file_line_and_byte() {
        let message = all(b"good\nab\xFFc\n").unwrap_err().to_string();
        assert_eq!(message, "t.tsv:2:3: invalid UTF-8 (byte 0xFF); save the file as UTF-8");
    }

    #[test]
    fn utf16_is_named_as_such() {
        for start in [b"\xFF\xFEa\0", b"\xFE\xFF\0a", b"a\0b\0", b"\0a\0b"] {
            assert!(all(start).unwrap_err().to_string().contains("UTF-16"), "{start:?}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused_before_memory_runs_out() {
        let endless = std::io::BufReader::new(std::io::repeat(b'x'));
        let message = Lines::new(endless, "t").next().unwrap_err().to_string();
        assert!(message.contains("t:1: the line is longer than 64 MiB"), "{message}");
    }
}
