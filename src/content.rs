//! Identifies a file by its first bytes, if it was mistaken for something else: archives, tables of other programs, and
//! the pointers that Git LFS leaves in place of large files.

use crate::files::open_whole;
use std::io::Read;
use std::path::Path;

/// Names content that is neither text nor weights, with advice.
pub fn mistaken(start: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 9] = [
        (
            b"version https://git-lfs.github.com/spec/",
            "it is a Git LFS pointer, not the file itself: fetch the file with `git lfs pull`",
        ),
        (b"\x1f\x8b", "it is compressed with gzip: unpack it with `gunzip` first"),
        (b"\x28\xb5\x2f\xfd", "it is compressed with zstd: unpack it with `unzstd` first"),
        (b"BZh", "it is compressed with bzip2: unpack it with `bunzip2` first"),
        (b"\xfd7zXZ\0", "it is compressed with xz: unpack it with `unxz` first"),
        (
            b"PK\x03\x04",
            "it is a zip archive (Excel workbooks and PyTorch's files are, too): unpack or convert it first",
        ),
        (b"PAR1", "it is a Parquet file: convert it to csv or jsonl first"),
        (b"ARROW1", "it is an Arrow file: convert it to csv or jsonl first"),
        (b"%PDF-", "it is a PDF document"),
    ];
    let kind = KINDS.iter().find(|(magic, _)| start.starts_with(magic));
    kind.map(|&(_, text)| text)
}

/// The same for a file, as far as it can be read.
pub fn mistaken_file(path: &Path) -> Option<&'static str> {
    let mut start = Vec::new();
    open_whole(path).ok()?.take(64).read_to_end(&mut start).ok()?;
    mistaken(&start)
}

/// The same by a file's last extension, for messages before it is opened.
pub fn mistaken_extension(extension: &str) -> Option<&'static str> {
    let magic: &[u8] = match extension.to_ascii_lowercase().as_str() {
        "gz" | "tgz" => b"\x1f\x8b",
        "zst" => b"\x28\xb5\x2f\xfd",
        "bz2" => b"BZh",
        "xz" => b"\xfd7zXZ\0",
        "zip" | "xlsx" | "ods" => b"PK\x03\x04",
        "parquet" => b"PAR1",
        "arrow" | "feather" => b"ARROW1",
        "pdf" => b"%PDF-",
        _ => return None,
    };
    mistaken(magic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_neither_text_nor_weights_is_named() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
        assert!(mistaken(pointer).unwrap().contains("git lfs pull"));
        assert!(mistaken(b"\x1f\x8b\x08").unwrap().contains("gzip"));
        assert_eq!(mistaken(b"text\tlabel\n"), None);
        assert_eq!(mistaken(b""), None);
        assert!(mistaken_extension("GZ").unwrap().contains("gzip"));
        assert!(mistaken_extension("parquet").unwrap().contains("Parquet"));
        assert_eq!(mistaken_extension("data"), None);
    }
}
