//! A run's log: one JSON object per line, written during the run and truncated when it resumes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use crate::files::open_own;
use crate::words::{are, count};

/// A file with one JSON object per line, written during a run and truncated when the run resumes.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    file: File,
    /// Length of the complete lines in the file, in bytes.
    len: u64,
    /// What an existing file lacks of what the checkpoint says it had.
    lost: Option<String>,
}

impl JsonLines {
    /// Starts an empty file.
    ///
    /// # Errors
    /// The file cannot be made; the error names it.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path: path.to_path_buf(), file, len: 0, lost: None })
    }

    /// Opens the file of a run that resumes from a checkpoint, which recorded the file's length as `checkpointed`
    /// bytes, and cuts off everything later. The resumed run writes those lines again.
    ///
    /// A shorter file (not synced before a power failure, or cut by someone) keeps its complete lines, and a missing
    /// file is created; [`lost`](Self::lost) then says what is missing.
    ///
    /// # Errors
    /// The file cannot be opened, read or cut; it is a link.
    pub fn resume(path: &Path, checkpointed: u64) -> Result<Self> {
        let there = path.exists();
        let open = || -> io::Result<(File, Found)> {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            let mut file = open_own(path, &mut options)?;
            let found = Found::of(&mut file, checkpointed)?;
            file.set_len(found.len)?;
            file.seek(SeekFrom::Start(found.len))?;
            Ok((file, found))
        };
        let (file, found) = open().with_context(|| format!("cannot resume {}", path.display()))?;
        let lost = found.lost(checkpointed, there);
        let lost = lost.map(|what| format!("{}: {what}", path.display()));
        Ok(Self { path: path.to_path_buf(), file, len: found.len, lost })
    }

    /// What the file lacks since the checkpoint, as a sentence for people.
    pub fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    /// Appends one record as a line. Numbers that are not finite become `null`.
    ///
    /// # Errors
    /// The line cannot be written (disk full, say); no part of it stays in the file.
    pub fn append<T: Serialize>(&mut self, record: &T) -> Result<()> {
        let mut line = serde_json::to_vec(record).context("cannot make a JSON line")?;
        line.push(b'\n');
        if let Err(error) = self.file.write_all(&line) {
            // Best effort: a torn last line is also cut when the run resumes.
            let _ = self.file.set_len(self.len);
            let _ = self.file.seek(SeekFrom::Start(self.len));
            return Err(error).with_context(|| format!("cannot append to {}", self.path.display()));
        }
        self.len += line.len() as u64;
        Ok(())
    }

    /// Syncs all lines to disk and returns the file's length; call it before a checkpoint records that.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn sync(&mut self) -> Result<u64> {
        self.file.sync_data().with_context(|| format!("cannot sync {}", self.path.display()))?;
        Ok(self.len)
    }

    /// Length of the file, in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The records of a log in order. Damaged lines are skipped: they were reported when the run resumed, and are no reason
/// to lose its results.
///
/// # Errors
/// The file cannot be opened, or read on.
pub fn records(path: &Path) -> Result<impl Iterator<Item = Result<Value>>> {
    let place = format!("cannot read {}", path.display());
    let file = File::open(path).with_context(|| place.clone())?;
    let lines = BufReader::new(file).split(b'\n');
    Ok(lines.filter_map(move |line| match line {
        Ok(line) => serde_json::from_slice(&line).ok().map(Ok),
        Err(error) => Some(Err(error).with_context(|| place.clone())),
    }))
}

/// The contents of a log that will be continued.
#[derive(Default)]
struct Found {
    /// Bytes of the complete lines.
    len: u64,
    lines: usize,
    /// The first line that is not a JSON object, counted from 1.
    broken: Option<usize>,
}

impl Found {
    /// Reads the first `limit` bytes.
    fn of(file: &mut File, limit: u64) -> io::Result<Self> {
        let mut reader = BufReader::new(file.take(limit));
        let mut found = Self::default();
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line)?;
            if line.last() != Some(&b'\n') {
                return Ok(found);
            }
            found.len += read as u64;
            found.lines += 1;
            let object = serde_json::from_slice(&line).is_ok_and(|value: Value| value.is_object());
            if !object && found.broken.is_none() {
                found.broken = Some(found.lines);
            }
        }
    }

    fn lost(&self, checkpointed: u64, there: bool) -> Option<String> {
        if self.len < checkpointed && !there {
            return Some(
                "it is missing: a new one starts here, without the steps so far".to_owned(),
            );
        }
        if self.len < checkpointed {
            let lines = count(self.lines, "whole line");
            return Some(format!(
                "it was truncated: {lines} {} left, and the lines after that, up to the checkpoint, are missing",
                are(self.lines)
            ));
        }
        let line = self.broken?;
        Some(format!("line {line} is damaged and is left as it is"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs;

    #[test]
    fn a_resumed_log_keeps_exactly_the_lines_of_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut log = JsonLines::create(&path).unwrap();
        log.append(&json!({"step": 1})).unwrap();
        let checkpointed = log.sync().unwrap();
        log.append(&json!({"step": 2})).unwrap();
        drop(log);
        // Killed in the middle of a line.
        let mut torn = File::options().append(true).open(&path).unwrap();
        torn.write_all(b"{\"step\": 3, \"lo").unwrap();

        let mut log = JsonLines::resume(&path, checkpointed).unwrap();
        assert_eq!((log.len(), log.lost()), (checkpointed, None));
        log.append(&json!({"step": 2, "again": true})).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"step\":1}\n{\"again\":true,\"step\":2}\n");
        assert_eq!(log.len(), text.len() as u64);
    }

    #[test]
    fn a_log_shorter_than_its_checkpoint_keeps_its_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, "{\"step\":1}\n{\"st").unwrap();
        let log = JsonLines::resume(&path, 1000).unwrap();
        assert_eq!(log.len(), 11);
        assert!(log.lost().unwrap().ends_with(
            "it was truncated: 1 whole line is left, and the lines after that, up \
            to the checkpoint, are missing"
        ));
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"step\":1}\n");
        let missing = JsonLines::resume(&folder.path().join("none.jsonl"), 1000).unwrap();
        assert!(missing.is_empty() && missing.lost().unwrap().contains("it is missing"));
        fs::write(&path, "{\"step\":1}\n{\"st\0p\":\n").unwrap();
        let damaged = JsonLines::resume(&path, 20).unwrap();
        assert!(damaged.lost().unwrap().ends_with("line 2 is damaged and is left as it is"));
    }

    #[test]
    fn numbers_that_json_does_not_have_are_null() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        JsonLines::create(&path).unwrap().append(&json!({"loss": f64::NAN})).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"loss\":null}\n");
    }
}
