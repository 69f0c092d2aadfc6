//! Temporary files that will become files. None is left for long: an error removes it, a process that is told to end
//! removes its own, and what a killed one left is removed when the same file is written again.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::{Builder, NamedTempFile};

/// Those of this process.
static OWN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn own() -> MutexGuard<'static, Vec<PathBuf>> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The prefix of temporary names for `file`.
fn prefix_of(file: &str) -> String {
    format!(".{file}.")
}

/// Whether a file of this name is a temporary one for `file` in the same folder.
pub fn is_of(name: &str, file: &str) -> bool {
    let random = name.strip_prefix(&prefix_of(file)).and_then(|rest| rest.strip_suffix(".tmp"));
    // As drawn by `tempfile`: a user's own file is unlikely to look like it.
    random.is_some_and(|random| {
        random.len() == 6 && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// One of [`OWN`].
#[derive(Debug)]
struct Listed(PathBuf);

impl Drop for Listed {
    fn drop(&mut self) {
        own().retain(|path| *path != self.0);
    }
}

/// In the same folder as the file that it becomes; its name begins with a dot and that file's name, and ends in `.tmp`.
/// Locked while its writer lives. Removed on drop.
#[derive(Debug)]
pub struct Temporary {
    // Dropped, and so removed, before it is no longer listed.
    file: NamedTempFile,
    listed: Listed,
}

impl Temporary {
    /// An empty one for `path`.
    ///
    /// # Errors
    /// A folder in the file's place, or a parent folder in which nothing can be created.
    pub fn for_file(path: &Path) -> Result<Self> {
        let name = path.file_name().ok_or_else(|| anyhow!("the path does not name a file"))?;
        // Otherwise it would only show after everything is written.
        let is_folder = fs::symlink_metadata(path).is_ok_and(|there| there.is_dir());
        ensure!(!is_folder, "it is a folder; name a file");
        let name = name.to_string_lossy();
        let (prefix, folder) = (prefix_of(&name), folder_of(path));
        ensure!(folder.exists(), "there is no folder {}", folder.display());
        remove_dead(folder, &name);
        let mut builder = Builder::new();
        builder.prefix(&prefix).suffix(".tmp");
        let mut own = own();
        let mut file = created(&builder, folder)?;
        while !lives(&file) {
            file = created(&builder, folder)?;
        }
        let path = file.path().to_path_buf();
        own.push(path.clone());
        Ok(Self { file, listed: Listed(path) })
    }

    pub fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Renames it to the file that it is for, replacing any existing one.
    ///
    /// # Errors
    /// The disk refuses; the temporary file is then removed.
    pub fn become_file(self, path: &Path) -> Result<()> {
        let Self { file, listed: _listed } = self;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        sync_folder(folder_of(path))
    }
}

/// A fresh file with the permissions of any other: `tempfile` would make a private one. The error is the system's,
/// without the random name that `tempfile` adds to it: the caller names the file that was asked for.
fn created(builder: &Builder<'_, '_>, folder: &Path) -> io::Result<NamedTempFile> {
    let mut refused = None;
    let open = |path: &Path| {
        let opened = File::options().read(true).write(true).create_new(true).open(path);
        opened.inspect_err(|error| refused = error.raw_os_error())
    };
    let made = builder.make_in(folder, open);
    made.map_err(|named| refused.map_or(named, io::Error::from_raw_os_error))
}

/// Checks that files can be created in `folder`.
///
/// # Errors
/// If none can.
pub fn takes_files(folder: &Path) -> io::Result<()> {
    created(&Builder::new(), folder).map(drop)
}

/// Removes those of this process, which is about to end: nothing may be started after this.
pub fn remove_own() {
    let own = own();
    for path in own.iter() {
        let _ = fs::remove_file(path);
    }
    std::mem::forget(own);
}

/// Locks a fresh temporary file, which tells [`remove_dead`] that its writer is alive; false if another writer of the
/// same target was faster, and has removed it or is about to.
fn lives(temporary: &NamedTempFile) -> bool {
    match temporary.as_file().try_lock() {
        Err(TryLockError::WouldBlock) => false,
        // Without locks, nobody removes anything.
        Err(TryLockError::Error(_)) => true,
        Ok(()) => temporary.path().exists(),
    }
}

/// Removes temporary files for the same target whose writer was killed. A live writer holds a lock on its own; whatever
/// cannot be locked or removed is left alone.
fn remove_dead(folder: &Path, file: &str) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Locked until it is removed: a writer that has just created it then creates another.
        if is_of(&name, file)
            && let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The folder that contains `path`; "." for a bare name.
fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes a rename in `folder` durable. Only Unix can open a folder for that.
fn sync_folder(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

/// Removes temporary files that a killed writer left in `folder`; says how many.
///
/// # Errors
/// The folder cannot be read or a file cannot be removed.
pub fn remove_leftovers(folder: &Path, names: &[&str]) -> Result<usize> {
    let mut removed = 0;
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let ours = names
            .iter()
            .any(|target| name.starts_with(&format!(".{target}.")) && name.ends_with(".tmp"));
        if ours {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            removed += 1;
        }
    }
    Ok(removed)
}
