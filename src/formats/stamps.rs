//! Checks that files are still the same as before: a model's weights are hashed first and read later, and results
//! recorded with a hash must come from the bytes that gave it.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Length and time of files, for later comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamps(Vec<(PathBuf, Stamp)>);

type Stamp = (u64, Option<SystemTime>);

impl Stamps {
    /// The current ones; must be taken before the files are first read.
    ///
    /// # Errors
    /// A missing file.
    pub fn of(files: &[PathBuf]) -> Result<Self> {
        let stamps = files.iter().map(|path| Ok((path.clone(), stamp(path)?)));
        stamps.collect::<Result<_>>().map(Self)
    }

    /// # Errors
    /// Names the file that has changed.
    pub fn check(&self) -> Result<()> {
        for (path, before) in &self.0 {
            if stamp(path)? != *before {
                bail!("{} changed while being read; start again", path.display());
            }
        }
        Ok(())
    }
}

fn stamp(path: &Path) -> Result<Stamp> {
    let about = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok((about.len(), about.modified().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_length_or_time_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, "abc").unwrap();
        let stamps = Stamps::of(std::slice::from_ref(&path)).unwrap();
        stamps.check().unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let error = stamps.check().unwrap_err().to_string();
        assert!(error.contains("x changed while being read"), "{error}");
        let stamps = Stamps::of(std::slice::from_ref(&path)).unwrap();
        file.set_len(2).unwrap();
        assert!(stamps.check().is_err());
        fs::remove_file(&path).unwrap();
        assert!(stamps.check().is_err());
    }
}
