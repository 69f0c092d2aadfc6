//! Event files for TensorBoard: records of its `Event` message, of which a run uses a few kinds.
//!
//! A record is its length, the length's checksum, the message and its checksum (TFRecord). Only the needed fields of
//! the message are written, by hand, in the protocol buffer encoding.

use crate::files::open_own;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The prefix of event file names, followed by seconds since 1970.
const BEGINNING: &str = "events.out.tfevents.";
/// Their suffix, in place of the machine's name.
const ENDING: &str = ".bitfit";

/// A file of events, extended during a run.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Starts a file in a folder, which is created if necessary. Everything that earlier files there say about
    /// `next_step`, the step that comes first, and later ones becomes void.
    ///
    /// # Errors
    /// The folder or the file cannot be created or written.
    pub fn begin(folder: &Path, next_step: u64) -> Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make {}", folder.display()))?;
        // Files are read in name order: this one comes last, whatever the clock says.
        let entries = std::fs::read_dir(folder)
            .with_context(|| format!("cannot read {}", folder.display()))?;
        let last = entries.filter_map(|entry| time_in(entry.ok()?.file_name().to_str()?)).max();
        let time = last.map_or(0, |last| last.saturating_add(1)).max(now() as u64);
        let path = folder.join(format!("{BEGINNING}{time:010}{ENDING}"));
        let file = open_own(&path, File::options().write(true).create_new(true))
            .with_context(|| format!("cannot make {}", path.display()))?;
        let mut events = Self { path, file };
        events.append(&version(now()))?;
        events.append(&begun(now(), next_step))?;
        Ok(events)
    }

    /// Values at a step, by name.
    ///
    /// # Errors
    /// They cannot be written: a full disk, say.
    pub fn scalars(&mut self, step: u64, values: &[(String, f64)]) -> Result<()> {
        self.append(&scalars(now(), step, values))
    }

    fn append(&mut self, event: &[u8]) -> Result<()> {
        let written = self.file.write_all(&record(event));
        written.with_context(|| format!("cannot append to {}", self.path.display()))
    }
}

/// The time in the name of an event file.
fn time_in(name: &str) -> Option<u64> {
    name.strip_prefix(BEGINNING)?.split('.').next()?.parse().ok()
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// A message with its framing.
fn record(message: &[u8]) -> Vec<u8> {
    // Checksums of data that contains checksums would be weak, so they are rotated and offset.
    let checksum = |bytes: &[u8]| {
        let turned = crc32c::crc32c(bytes).rotate_right(15);
        turned.wrapping_add(0xa282_ead8).to_le_bytes()
    };
    let length = (message.len() as u64).to_le_bytes();
    [&length[..], &checksum(&length), message, &checksum(message)].concat()
}

/// Fields of a protocol buffer, in numerical order.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A field's number and the encoding of its value.
    fn key(&mut self, field: u64, kind: u64) {
        self.varint(field << 3 | kind);
    }

    /// Zero is the default for a missing field, and is not written.
    fn integer(mut self, field: u64, value: u64) -> Self {
        if value > 0 {
            self.key(field, 0);
            self.varint(value);
        }
        self
    }

    fn double(mut self, field: u64, value: f64) -> Self {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn float(mut self, field: u64, value: f32) -> Self {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.key(field, 2);
        self.varint(value.len() as u64);
        self.0.extend(value);
        self
    }
}

/// The first event of a file: its format version.
fn version(time: f64) -> Vec<u8> {
    Message::default().double(1, time).bytes(3, b"brain.Event:2").0
}

/// A session that starts at this step.
fn begun(time: f64, step: u64) -> Vec<u8> {
    const START: u64 = 1;
    let session = Message::default().integer(1, START);
    Message::default().double(1, time).integer(2, step).bytes(7, &session.0).0
}

fn scalars(time: f64, step: u64, values: &[(String, f64)]) -> Vec<u8> {
    let summary = values.iter().fold(Message::default(), |summary, (tag, value)| {
        let value = Message::default().bytes(1, tag.as_bytes()).float(2, *value as f32);
        summary.bytes(1, &value.0)
    });
    Message::default().double(1, time).integer(2, step).bytes(5, &summary.0).0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by TensorBoard's own code: `scripts/make_events.py`.
    static EXPECTED: &[u8] = include_bytes!("../../tests/fixtures/events.tfevents");

    #[test]
    fn a_file_is_to_the_byte_what_tensorboard_writes() {
        let values = |loss: f64, accuracy: f64| {
            [("train/loss".to_owned(), loss), ("dev/accuracy".to_owned(), accuracy)]
        };
        let long = [("x".repeat(200), f64::NAN)];
        let found = [
            version(1.5),
            begun(2.25, 1),
            scalars(3.0, 1, &values(0.7, 0.5)),
            scalars(4.0, 300, &values(1e-9, -1.0)),
            begun(5.0, 200),
            scalars(6.0, 1 << 40, &long),
        ];
        let found: Vec<u8> = found.iter().flat_map(|event| record(event)).collect();
        assert_eq!(found, EXPECTED);
    }

    #[test]
    fn a_later_file_comes_after_an_earlier_one_in_the_order_of_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tensorboard");
        let mut names = Vec::new();
        for step in [1, 5, 9] {
            let mut file = EventFile::begin(&path, step).unwrap();
            file.scalars(step, &[("a".to_owned(), 1.0)]).unwrap();
            names.push(file.path.clone());
        }
        let mut sorted = names.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted, names);
        std::fs::write(path.join("events.out.tfevents.9999999999.other"), "").unwrap();
        let last = EventFile::begin(&path, 10).unwrap();
        assert!(last.path.to_str().unwrap().contains("10000000000"), "{:?}", last.path);
    }
}
