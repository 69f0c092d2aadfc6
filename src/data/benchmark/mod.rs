//! The files of a benchmark's task: `layout` finds them, on the hub or in a folder, and `parquet`, `tsv` and `jsonl`
//! extract the wanted fields. `tasks::named` interprets the fields.

mod jsonl;
pub mod layout;
mod parquet;
mod parquet_claims;
mod raw;
mod thrift;
mod tsv;

use std::path::Path;

use anyhow::Result;

use crate::settings::benchmark::Archive;
pub use raw::{Fields, RawFile, RawRow, RawRows};
pub use tsv::list;

/// Reads the wanted fields of a file, in the format that its name indicates.
///
/// # Errors
/// With the file and the place in it: not such a file, or a missing column.
pub fn read(path: &Path, archive: &Archive, fields: &Fields<'_>) -> Result<RawRows> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("parquet") => parquet::read(path, fields),
        Some("jsonl") => jsonl::read(path, fields),
        _ => tsv::read(path, archive, fields),
    }
}

/// The pairs of words in a tab-separated file without a header.
///
/// # Errors
/// A line with another number of words.
pub fn read_pairs(path: &Path) -> Result<std::collections::HashSet<[String; 2]>> {
    tsv::read_pairs(path)
}
