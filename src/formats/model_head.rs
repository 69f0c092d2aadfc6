//! The head next to a bare encoder, checked against it: the tensors themselves do not show that the two were trained
//! together.

use super::container::read_metadata;
use super::model_files::{HEAD, WEIGHTS};
use crate::files::sha256_file;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::Path;

/// Metadata key of the weights: the sha256 of the head's file.
const KEY: &str = "head_sha256";

/// Records the head just written in the metadata of the weights to be written next to it.
///
/// # Errors
/// The head cannot be read.
pub fn seal(folder: &Path, metadata: &mut BTreeMap<String, String>) -> Result<()> {
    metadata.insert(KEY.to_owned(), sha256_file(&folder.join(HEAD))?);
    Ok(())
}

/// Checks the head in a folder against the weights; false if these come from an earlier version and do not state it.
///
/// # Errors
/// It is a different one.
pub fn check(folder: &Path) -> Result<bool> {
    let weights = folder.join(WEIGHTS);
    let metadata =
        read_metadata(&weights).with_context(|| format!("model {}", weights.display()))?;
    let remedy = "restore the run's own, or, if the run was stopped while writing them, continue with --resume";
    is_of(folder, (&metadata, WEIGHTS), remedy)
}

/// The same for other weights, by their metadata and name; `remedy` is the advice if it is a different one.
///
/// # Errors
/// As [`check`].
pub fn is_of(
    folder: &Path,
    (metadata, weights): (&BTreeMap<String, String>, &str),
    remedy: &str,
) -> Result<bool> {
    let Some(sealed) = metadata.get(KEY) else {
        return Ok(false);
    };
    let head = folder.join(HEAD);
    let found = sha256_file(&head)?;
    ensure!(
        found == *sealed,
        "{}: this is not the head that was trained with {weights} next to it: that one has sha256 {sealed}, this one \
         {found}; {remedy}",
        head.display()
    );
    Ok(true)
}
