//! Checks a file's content against its ETag: large files are named by their sha256, small ones by git's sha1.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::names::PathPart;
use crate::files::hex;

/// What an ETag says about the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    /// Of git's form of the file; on some mirrors of the plain file.
    Sha1,
    /// Nothing checkable.
    None,
}

impl Hash {
    pub(super) fn of(blob: &PathPart) -> Self {
        let hexadecimal = blob.as_str().bytes().all(|byte| byte.is_ascii_hexdigit());
        match blob.as_str().len() {
            64 if hexadecimal => Self::Sha256,
            40 if hexadecimal => Self::Sha1,
            _ => Self::None,
        }
    }
}

/// `None` if the file at `path` matches `blob`, otherwise the hash that it has.
pub(super) fn differs(path: &Path, blob: &PathPart) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let found = match Hash::of(blob) {
        Hash::None => return Ok(None),
        Hash::Sha256 => vec![hex(&read_into(&mut file, [Sha256::new()])?[0])],
        Hash::Sha1 => {
            let git = Sha1::new_with_prefix(format!("blob {}\0", file.metadata()?.len()));
            let hashes = read_into(&mut file, [git, Sha1::new()])?;
            hashes.iter().map(|hash| hex(hash)).collect()
        }
    };
    let right = found.iter().any(|hash| hash.eq_ignore_ascii_case(blob.as_str()));
    Ok((!right).then(|| found.into_iter().next().unwrap_or_default()))
}

fn read_into<D: Digest, const N: usize>(
    file: &mut File,
    mut hashers: [D; N],
) -> io::Result<Vec<Vec<u8>>> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => hashers.iter_mut().for_each(|hasher| hasher.update(&buffer[..read])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hashers.into_iter().map(|hasher| hasher.finalize().to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::names::{Kind, path_part};

    #[test]
    fn a_content_is_held_against_the_hash_that_its_name_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "hello\n").unwrap();
        // `git hash-object`, `sha1sum` and `sha256sum` of the same six bytes, and a name that is not a hash.
        for right in [
            "ce013625030ba8dba906f756967f9e9ca394464a",
            "f572d396fae9206628714fb2ce00f72e94f2258f",
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
            "abc-1",
        ] {
            let blob = path_part(Kind::Blob, right).unwrap();
            assert_eq!(differs(&path, &blob).unwrap(), None, "{right}");
        }
        for wrong in ["0".repeat(40), "0".repeat(64)] {
            let blob = path_part(Kind::Blob, &wrong).unwrap();
            assert!(differs(&path, &blob).unwrap().is_some(), "{wrong}");
        }
    }
}
