//! One run at a time per folder: a file that the run holds locked while it is alive.
//!
//! The lock is the operating system's, so it always ends with its holder; the file's content only tells others who
//! holds it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use indicatif::HumanDuration;

use crate::files::{no_links, open_own};

/// The file's name.
pub const LOCK_FILE: &str = "run.lock";

/// A folder that nobody else writes to while this value lives.
#[derive(Debug)]
pub struct FolderLock {
    path: PathBuf,
    /// Locked; closing it unlocks.
    file: File,
}

impl FolderLock {
    /// Locks `folder`, which must exist.
    ///
    /// # Errors
    /// Another process holds it, which is named; the file cannot be made.
    pub fn take(folder: &Path) -> Result<Self> {
        let path = folder.join(LOCK_FILE);
        no_links(folder, &[LOCK_FILE])?;
        loop {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            let open = open_own(&path, &mut options);
            let mut file = open.with_context(|| format!("cannot make {}", path.display()))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => bail!(
                    "another run is writing {}{}; wait until it ends, or use another folder",
                    folder.display(),
                    holder(&mut file)
                ),
                // Some network file systems have no locks; training there is still allowed.
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
            // The previous holder may have removed the file since it was opened here.
            if !is_at(&file, &path) {
                continue;
            }
            let mut lock = Self { path, file };
            // If that fails, the file is removed with the lock.
            let signed = sign(&mut lock.file);
            signed.with_context(|| format!("cannot write {}", lock.path.display()))?;
            return Ok(lock);
        }
    }
}

impl FolderLock {
    /// The file that is locked.
    pub fn file(&self) -> &Path {
        &self.path
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Still locked, so nobody has signed it since. A file that cannot be removed does no harm.
        if cfg!(unix) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    writeln!(file, "pid {}\nstarted {now}", std::process::id())?;
    if let Ok(host) = fs::read_to_string("/proc/sys/kernel/hostname") {
        writeln!(file, "host {}", host.trim())?;
    }
    Ok(())
}

/// What a lock file says about its holder, as far as it has been written.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.take(4096).read_to_string(&mut text);
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.trim().to_owned()).filter(|value| !value.is_empty())
    };
    let Some(pid) = value("pid ") else {
        return String::new();
    };
    let host = value("host ").map_or(String::new(), |host| format!(" on {host}"));
    let started = value("started ").and_then(|seconds| seconds.parse().ok());
    let since = started
        .and_then(|seconds| {
            let start = UNIX_EPOCH + Duration::from_secs(seconds);
            SystemTime::now().duration_since(start).ok()
        })
        .map_or(String::new(), |time| format!(", started {} ago", HumanDuration(time)));
    format!(" (process {pid}{host}{since})")
}

/// Whether `path` still names this file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |meta: &fs::Metadata| (meta.dev(), meta.ino());
    matches!((file.metadata(), fs::metadata(path)), (Ok(a), Ok(b)) if id(&a) == id(&b))
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_holders_until_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let lock = FolderLock::take(folder.path()).unwrap();
        let error = FolderLock::take(folder.path()).unwrap_err().to_string();
        let pid = format!("process {}", std::process::id());
        assert!(error.contains(&pid) && error.contains("started"), "{error}");
        drop(lock);
        assert!(!folder.path().join(LOCK_FILE).exists());
        FolderLock::take(folder.path()).unwrap();
    }

    #[test]
    fn the_file_of_a_dead_holder_blocks_nobody() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(LOCK_FILE), "pid 1\nstarted 0\nand more").unwrap();
        let _lock = FolderLock::take(folder.path()).unwrap();
        let text = fs::read_to_string(folder.path().join(LOCK_FILE)).unwrap();
        assert!(text.starts_with(&format!("pid {}\n", std::process::id())));
        assert!(!text.contains("more"));
    }
}
