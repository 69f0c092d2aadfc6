//! Files that survive a kill at any moment: whole or absent, never half-written. And what a file's content is
//! called: its sha256.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};

use crate::temporary::Temporary;

/// Writes `path` by way of a temporary file in the same folder, synced and then renamed.
///
/// Whoever looks at `path`, at any moment, sees the old content or all of the new one. On an error, a full disk
/// included, the temporary file is gone and `path` is as it was. A link is replaced: what it leads to stays as it is.
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

/// Whether [`write_named`] can write there: to be asked before the work whose results it gets.
///
/// # Errors
/// Whatever keeps the file from being made, which names `path`.
pub fn can_be_written(path: &Path) -> Result<()> {
    let target = target_of(path);
    let made = if is_device(&target) { Ok(()) } else { Temporary::for_file(&target).map(drop) };
    made.with_context(|| format!("cannot write {}", path.display()))
}

/// What a path stands for.
fn target_of(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir())
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
                "{} is a link to {}, where bitfit would write {}: remove the link, or use another folder",
                path.display(),
                target.display(),
                name.as_ref()
            );
        }
    }
    Ok(())
}

/// Refuses what is not a regular file in the places of files that the program writes in `folder`: at their end it would
/// be too late.
///
/// # Errors
/// The first of `names` that is a link, a folder, or else no file.
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
    // Dropping it on any early return removes it.
    let mut temporary = Temporary::for_file(path)?;
    let mut buffered = BufWriter::with_capacity(1 << 16, temporary.file());
    write(&mut buffered)?;
    buffered.into_inner().map_err(io::IntoInnerError::into_error)?;
    temporary.become_file(path)
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
    Err(io::Error::other("it is not a regular file"))
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

#[cfg(test)]
#[path = "files_tests.rs"]
mod tests;
