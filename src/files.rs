//! Files that survive a kill at any moment: whole or absent, never half-written. And what a file's content is
//! called: its sha256.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

/// Writes `path` by way of a temporary file in the same folder, synced and then renamed.
///
/// Whoever looks at `path`, at any moment, sees the old content or all of the new one. On an error, a full disk
/// included, the temporary file is gone and `path` is as it was. Only a kill can leave a temporary file behind; its
/// name begins with a dot and ends in `.tmp`. A link is replaced: what it leads to stays as it is.
///
/// # Errors
/// Whatever keeps the file from being written, which names `path`, and whatever else `write` returns, as it is: what it
/// reads is no fault of this file.
pub fn write_atomic(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut own = None;
    let written = replace(path, |file| outcome(write, file, &mut own));
    own_or_written(own, written, path)
}

/// [`write_atomic`] for bytes that exist already.
pub fn write_bytes_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic(path, |file| Ok(file.write_all(bytes)?))
}

/// [`write_atomic`] for a file that the user names: a link stands for what it leads to, and a device or a pipe, which has
/// no content to keep whole, is written as it is.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_named(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let target = fs::canonicalize(path);
    let target = target.as_deref().unwrap_or(path);
    let mut own = None;
    let written = match fs::metadata(target) {
        Ok(meta) if !meta.is_file() && !meta.is_dir() => {
            OpenOptions::new().write(true).open(target).map_err(Into::into).and_then(|mut file| {
                outcome(write, &mut file, &mut own)?;
                Ok(file.flush()?)
            })
        }
        _ => replace(target, |file| outcome(write, file, &mut own)),
    };
    own_or_written(own, written, path)
}

/// A file that remembers whether it could not be written.
struct Watched<'a> {
    file: &'a mut dyn Write,
    failed: bool,
}

impl Watched<'_> {
    fn seen<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        self.failed |= done.as_ref().is_err_and(|e| e.kind() != io::ErrorKind::Interrupted);
        done
    }
}

impl Write for Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = self.file.write(bytes);
        self.seen(done)
    }

    fn flush(&mut self) -> io::Result<()> {
        let done = self.file.flush();
        self.seen(done)
    }
}

/// Has `write` write a file; an error of its own, where the file could be written, is also put into `own`.
fn outcome(
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
    file: &mut dyn Write,
    own: &mut Option<anyhow::Error>,
) -> Result<()> {
    let mut file = Watched { file, failed: false };
    match write(&mut file) {
        Err(error) if !file.failed => {
            *own = Some(error);
            bail!("what was to be written could not be made")
        }
        done => done,
    }
}

fn own_or_written(own: Option<anyhow::Error>, written: Result<()>, path: &Path) -> Result<()> {
    match own {
        Some(error) => Err(error),
        None => written.with_context(|| format!("cannot write {}", path.display())),
    }
}

/// Refuses links in the places of files and folders that the program writes in `folder`: whoever put one there would
/// have it write elsewhere.
///
/// # Errors
/// The first of `names` that is a link.
pub fn no_links<S: AsRef<str>>(folder: &Path, names: &[S]) -> Result<()> {
    for name in names {
        let path = folder.join(name.as_ref());
        if let Ok(target) = fs::read_link(&path) {
            bail!(
                "{} is a link to {}, and the program writes {} itself there: remove the link, or name another folder",
                path.display(),
                target.display(),
                name.as_ref()
            );
        }
    }
    Ok(())
}

/// Opens a file that is written in place in a folder of the program's: itself, and nothing that a link leads to.
///
/// # Errors
/// As [`OpenOptions::open`]; a link, a file with a second name, or no file at all.
pub fn open_own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
        let file = options.custom_flags(libc::O_NOFOLLOW).open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() || meta.nlink() > 1 {
            let what = if meta.is_file() { "has a second name elsewhere" } else { "is no file" };
            return Err(io::Error::other(format!("{} {what}: remove it", path.display())));
        }
        Ok(file)
    }
    #[cfg(not(unix))]
    options.open(path)
}

fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let name = path.file_name().ok_or_else(|| anyhow!("the path names no file"))?;
    let folder = folder_of(path);
    let mut builder = tempfile::Builder::new();
    let prefix = format!(".{}.", name.to_string_lossy());
    remove_dead(folder, &prefix);
    builder.prefix(&prefix).suffix(".tmp");
    // A temporary file is private unless told otherwise; this one becomes an ordinary file, as the umask says.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    // Dropping `temporary` on any early return removes the file.
    let mut temporary = builder.tempfile_in(folder)?;
    while !lives(&temporary) {
        temporary = builder.tempfile_in(folder)?;
    }
    let mut buffered = BufWriter::with_capacity(1 << 16, temporary.as_file_mut());
    write(&mut buffered)?;
    buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    sync_folder(folder)
}

/// Locks a fresh temporary file, which says to [`remove_dead`] that its writer lives; false where another writer of the same
/// target was faster, and has removed it or is about to.
fn lives(temporary: &NamedTempFile) -> bool {
    match temporary.as_file().try_lock() {
        Err(TryLockError::WouldBlock) => false,
        // Where there are no locks, nobody removes anything.
        Err(TryLockError::Error(_)) => true,
        Ok(()) => temporary.path().exists(),
    }
}

/// Removes temporary files for the same target whose writer was killed. A live one holds a lock on its own; whatever
/// cannot be locked or removed is left alone.
fn remove_dead(folder: &Path, prefix: &str) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let random = name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(".tmp"));
        // As `tempfile` draws it: a file of somebody's own would hardly look like it.
        let ours = random.is_some_and(|random| {
            random.len() == 6 && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
        // Locked until it is gone: a writer that has just made it then makes another.
        if ours
            && let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The folder that `path` stands in; "." for a bare name.
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

/// Opens a file that is there as a whole: not a pipe or a device, which has no size and may have no end.
///
/// # Errors
/// As [`File::open`]; what is no ordinary file.
pub fn open_whole(path: &Path) -> io::Result<File> {
    // Before it is opened: a pipe would wait for its writer.
    if fs::metadata(path)?.is_file() {
        return File::open(path);
    }
    Err(io::Error::other("it is no ordinary file"))
}

/// The content of a file that should not be large: more than `most` bytes are refused and not read, whatever the file
/// says of its length.
///
/// # Errors
/// The file cannot be read or is larger; the error names it.
pub fn read_bounded(path: &Path, most: u64) -> Result<Vec<u8>> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.len() as u64 > most {
        return Err(anyhow!(
            "{} has more than {most} bytes, too many for what it should be",
            path.display()
        ));
    }
    Ok(bytes)
}

/// The sha256 of a file's content, in hexadecimal. Reads it in pieces, so its size does not matter.
///
/// # Errors
/// The file cannot be read; the error names it.
pub fn sha256_file(path: &Path) -> Result<String> {
    let digest = || -> io::Result<String> {
        let mut file = open_whole(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(hex(&hasher.finalize())),
                Ok(read) => hasher.update(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    };
    digest().with_context(|| format!("cannot read {}", path.display()))
}

/// The sha256 that stands for a model's weights, whatever number of files they are in.
///
/// One file: its own sha256. Several: the sha256 of the listing that `sha256sum` prints for them, `HASH  NAME` a line
/// in the order of the names without folders; in a shell, `sha256sum *.safetensors | sha256sum` with `LC_ALL=C`.
///
/// # Errors
/// No file at all, or one that cannot be read.
pub fn weights_sha256(files: &[PathBuf]) -> Result<String> {
    match files {
        [] => Err(anyhow!("a model without weight files has no sha256")),
        [file] => sha256_file(file),
        several => {
            let mut lines = Vec::with_capacity(several.len());
            for file in several {
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                lines.push((name, sha256_file(file)?));
            }
            lines.sort();
            let listing: String =
                lines.iter().map(|(name, hash)| format!("{hash}  {name}\n")).collect();
            Ok(sha256_bytes(listing.as_bytes()))
        }
    }
}

/// The sha256 of bytes in memory, in hexadecimal.
pub fn sha256_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Removes temporary files that a killed [`write_atomic`] left in `folder`; says how many.
///
/// # Errors
/// The folder cannot be read or a file not removed.
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

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
