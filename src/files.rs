//! Files that survive a kill at any moment: complete or absent, never half-written. Also the sha256 of files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};

use crate::error::UNWRITTEN;
use crate::temporary::Temporary;

/// Writes `path` via a temporary file in the same folder, which is synced and then renamed.
///
/// A reader of `path` sees, at any moment, either the old content or all of the new. On an error, including a full
/// disk, the temporary file is removed and `path` is unchanged. A link is replaced; its target is unchanged.
///
/// # Errors
/// Whatever prevents writing the file, naming `path`; any other error from `write` unchanged, since problems with what
/// it reads are not this file's.
pub fn write_atomic(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut own = None;
    let written = replace(path, |file| outcome(write, file, &mut own));
    own_or_written(own, written, path)
}

/// [`write_atomic`] for bytes in memory.
pub fn write_bytes_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic(path, |file| Ok(file.write_all(bytes)?))
}

/// [`write_atomic`] for a file that the user names: a link stands for its target, and a device or a pipe, which has no
/// content to protect, is written directly.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_named(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let target = target_of(path);
    let mut own = None;
    let written = match is_device(&target) {
        true => {
            OpenOptions::new().write(true).open(&target).map_err(Into::into).and_then(|mut file| {
                outcome(write, &mut file, &mut own)?;
                Ok(file.flush()?)
            })
        }
        false => replace(&target, |file| outcome(write, file, &mut own)),
    };
    own_or_written(own, written, path)
}

/// [`write_named`] for standard output.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_stdout(write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut out = io::stdout().lock();
    let mut own = None;
    let written = outcome(write, &mut out, &mut own).and_then(|()| Ok(out.flush()?));
    own.map_or_else(|| written.context(UNWRITTEN), Err)
}

/// Checks that [`write_named`] can write there: call it before the work that produces the content.
///
/// # Errors
/// Whatever prevents creating the file, naming `path`.
pub fn can_be_written(path: &Path) -> Result<()> {
    let target = target_of(path);
    let made = if is_device(&target) { Ok(()) } else { Temporary::for_file(&target).map(drop) };
    made.with_context(|| format!("cannot write {}", path.display()))
}

/// The target of a path.
fn target_of(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir())
}

/// A file that remembers whether writing to it failed.
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

/// Makes `write` write a file; its own error, if the file itself could be written, is also stored in `own`.
fn outcome(
    write: impl FnOnce(&mut dyn Write) -> Result<()>,
    file: &mut dyn Write,
    own: &mut Option<anyhow::Error>,
) -> Result<()> {
    let mut file = Watched { file, failed: false };
    match write(&mut file) {
        Err(error) if !file.failed => {
            *own = Some(error);
            bail!("could not make what was to be written")
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

/// Refuses links with the names of files and folders that the program writes in `folder`: their creator could redirect
/// the writes.
///
/// # Errors
/// The first of `names` that is a link.
pub fn no_links<S: AsRef<str>>(folder: &Path, names: &[S]) -> Result<()> {
    for name in names {
        let path = folder.join(name.as_ref());
        if let Ok(target) = fs::read_link(&path) {
            bail!(
                "{} is a link to {}, where bitfit would write {}: remove the link, or use another folder",
                path.display(),
                target.display(),
                name.as_ref()
            );
        }
    }
    Ok(())
}

/// Refuses anything but regular files with the names of files that the program writes in `folder`: detecting it when
/// they are written would be too late.
///
/// # Errors
/// The first of `names` that is a link, a folder, or otherwise not a file.
pub fn only_files<S: AsRef<str>>(folder: &Path, names: &[S]) -> Result<()> {
    no_links(folder, names)?;
    for name in names {
        let path = folder.join(name.as_ref());
        if let Ok(there) = fs::symlink_metadata(&path)
            && !there.is_file()
        {
            let what = if there.is_dir() { "a folder" } else { "no file" };
            bail!(
                "{} is {what}, where bitfit would write {}: move it away, or use another folder",
                path.display(),
                name.as_ref()
            );
        }
    }
    Ok(())
}

/// Opens a file that is modified in place in a folder of the program's: never through a link.
///
/// # Errors
/// As [`OpenOptions::open`]; a link, a file with a second name, or not a file.
pub fn open_own(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
        let file = options.custom_flags(libc::O_NOFOLLOW).open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() || meta.nlink() > 1 {
            let what = if meta.is_file() {
                "has a second name elsewhere"
            } else {
                "is not a regular file"
            };
            return Err(io::Error::other(format!("{} {what}: remove it", path.display())));
        }
        Ok(file)
    }
    #[cfg(not(unix))]
    options.open(path)
}

fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    // Dropped on any early return, which removes it.
    let mut temporary = Temporary::for_file(path)?;
    let mut buffered = BufWriter::with_capacity(1 << 16, temporary.file());
    write(&mut buffered)?;
    buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    temporary.become_file(path)
}

/// Opens an ordinary file: not a pipe or a device, which has no size and may be endless.
///
/// # Errors
/// As [`File::open`]; anything but an ordinary file.
pub fn open_whole(path: &Path) -> io::Result<File> {
    // Checked before opening, since opening a pipe would wait for its writer.
    if fs::metadata(path)?.is_file() {
        return File::open(path);
    }
    Err(io::Error::other("it is not a regular file"))
}

/// The content of a file that should not be large: more than `most` bytes are refused unread, whatever length the file
/// claims.
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
            "{} has more than {most} bytes, too many for such a file",
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

/// The sha256 that identifies a model's weights, however many files they are in.
///
/// For one file its sha256. For several, the sha256 of the listing that `sha256sum` prints for them, a line
/// `HASH  NAME` per file, sorted by name without folders; in a shell, `sha256sum *.safetensors | sha256sum` with
/// `LC_ALL=C`.
///
/// # Errors
/// No files, or one that cannot be read.
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

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
