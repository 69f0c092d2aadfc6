//! The cache shared by all Hugging Face tools: `models--org--name/{blobs,refs,snapshots}`, and `datasets--…`. A blob is
//! a file's content named by its ETag, a snapshot a folder of links to blobs, a ref the commit that a branch was at.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::names::{HubName, Kind, PathPart, joined, path_part};
use crate::files::{open_own, open_whole, read_bounded, write_bytes_atomic};

/// Opens a file of the cache that is modified in place. Others may share the cache, so links that one of them put there
/// are not followed, and pipes are not waited for.
fn open_kept(path: &Path) -> io::Result<File> {
    open_own(path, OpenOptions::new().create(true).truncate(false).read(true).write(true))
}

/// The cache's part for one model or dataset.
pub(super) struct Cache {
    folder: PathBuf,
    locks: PathBuf,
}

impl Cache {
    pub(super) fn new(cache: &Path, name: &HubName) -> Self {
        let folder = format!("{}--{}", name.holding.plural(), joined(&name.repository, "--"));
        Self { locks: cache.join(".locks").join(&folder), folder: cache.join(folder) }
    }

    pub(super) fn snapshot(&self, commit: &PathPart) -> PathBuf {
        self.folder.join("snapshots").join(commit.as_str())
    }

    /// Where a file of a commit is, or would be.
    pub(super) fn pointer(&self, commit: &PathPart, file: &[PathPart]) -> PathBuf {
        let mut path = self.snapshot(commit);
        path.extend(file.iter().map(PathPart::as_str));
        path
    }

    pub(super) fn blob(&self, blob: &PathPart) -> PathBuf {
        self.folder.join("blobs").join(blob.as_str())
    }

    /// The part of a blob that has arrived; `huggingface_hub` can also resume from it.
    pub(super) fn part(&self, blob: &PathPart) -> PathBuf {
        self.folder.join("blobs").join(format!("{blob}.incomplete"))
    }

    /// The lock file held by the one process that fetches a blob, as in `huggingface_hub`.
    pub(super) fn lock_file(&self, blob: &PathPart) -> io::Result<File> {
        fs::create_dir_all(&self.locks)?;
        fs::create_dir_all(self.folder.join("blobs"))?;
        open_kept(&self.locks.join(format!("{blob}.lock")))
    }

    /// The part of a blob that has arrived, to be continued.
    pub(super) fn open_part(&self, blob: &PathPart) -> io::Result<File> {
        open_kept(&self.part(blob))
    }

    /// Links a blob into a snapshot under the file's name.
    pub(super) fn link(
        &self,
        commit: &PathPart,
        file: &[PathPart],
        blob: &PathPart,
    ) -> io::Result<()> {
        let pointer = self.pointer(commit, file);
        let parent = pointer.parent().unwrap_or(&self.folder);
        fs::create_dir_all(parent)?;
        #[cfg(unix)]
        {
            // Relative to snapshots/COMMIT, plus one level up per folder in the file's path.
            let target = format!("{}blobs/{blob}", "../".repeat(file.len() + 1));
            // Renamed into place, so that a process reading the file meanwhile finds either the old or the new one.
            // Only the holder of the blob's lock creates a link of this name: an existing one was left by a kill.
            let link = parent.join(format!(".{blob}.tmp"));
            match fs::remove_file(&link) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            std::os::unix::fs::symlink(&target, &link)?;
            fs::rename(&link, &pointer)
        }
        #[cfg(not(unix))]
        fs::copy(self.blob(blob), &pointer).map(drop)
    }

    fn reference(&self, name: &HubName) -> PathBuf {
        let mut path = self.folder.join("refs");
        path.extend(name.revision.iter().map(PathPart::as_str));
        path
    }

    /// Records which commit a revision is at, so that it is found offline.
    pub(super) fn point(&self, name: &HubName, commit: &PathPart) -> anyhow::Result<()> {
        if name.revision() == commit.as_str() {
            return Ok(());
        }
        let reference = self.reference(name);
        if let Some(parent) = reference.parent() {
            fs::create_dir_all(parent)?;
        }
        write_bytes_atomic(&reference, commit.as_str().as_bytes())
    }

    /// The last known commit of a revision, or the one that it names itself.
    pub(super) fn commit(&self, name: &HubName) -> Option<PathPart> {
        let reference = self.reference(name);
        // Reading a pipe in its place would block.
        let text = open_whole(&reference)
            .ok()
            .and_then(|_| read_bounded(&reference, 1 << 10).ok())
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .unwrap_or_else(|| name.revision());
        path_part(Kind::Commit, text.trim()).ok()
    }
}
