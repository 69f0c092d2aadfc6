//! The identity of a base's weights, computed on a thread of its own: reading them takes as long as loading the model,
//! and a run needs it only at the end of that.

use crate::error::one_line;
use crate::files::weights_sha256;
use anyhow::{Context, Result, anyhow};
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::{Builder, JoinHandle};

/// See [`weights_sha256`].
pub struct WeightsHash {
    /// Until somebody has waited for it.
    running: Mutex<Option<JoinHandle<Result<String>>>>,
    /// The hash, or why there is none.
    known: OnceLock<Result<String, String>>,
}

impl WeightsHash {
    /// Starts to hash these files.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn start(files: Vec<PathBuf>) -> Result<Self> {
        let thread = Builder::new().name("weights' sha256".to_owned());
        let running = thread
            .spawn(move || weights_sha256(&files))
            .context("cannot start a thread that hashes the weights")?;
        Ok(Self { running: Mutex::new(Some(running)), known: OnceLock::new() })
    }

    /// Waits for the hash.
    ///
    /// # Errors
    /// As [`weights_sha256`].
    pub fn get(&self) -> Result<&str> {
        let known = self.known.get_or_init(|| {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
            let hashed = running.map(JoinHandle::join);
            let Some(Ok(hashed)) = hashed else {
                return Err("hashing the weights ended unexpectedly".to_owned());
            };
            hashed.map_err(|error| one_line(&error))
        });
        known.as_deref().map_err(|why| anyhow!("{why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_files_however_often_it_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weights");
        std::fs::write(&file, "weights").unwrap();
        let hash = WeightsHash::start(vec![file.clone()]).unwrap();
        let expected = weights_sha256(&[file]).unwrap();
        assert_eq!([hash.get().unwrap(), hash.get().unwrap()], [&expected; 2]);
    }

    #[test]
    fn files_that_cannot_be_read_are_named_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let hash = WeightsHash::start(vec![folder.path().join("none")]).unwrap();
        for _ in 0..2 {
            let said = hash.get().unwrap_err().to_string();
            assert!(said.contains("none") && said.contains("cannot read"), "{said}");
        }
    }
}
