//! The head next to a bare encoder, checked against it: the tensors of neither say that they were trained together.

use super::container::read_metadata;
use super::model_files::{HEAD, WEIGHTS};
use crate::files::sha256_file;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::Path;

/// Metadata key of the weights: the sha256 of the head's file.
const KEY: &str = "head_sha256";

/// Has the metadata of weights that are to be written name the head that was just written beside them.
///
/// # Errors
/// The head cannot be read.
pub fn seal(folder: &Path, metadata: &mut BTreeMap<String, String>) -> Result<()> {
    metadata.insert(KEY.to_owned(), sha256_file(&folder.join(HEAD))?);
    Ok(())
}

/// Holds the head in a folder to the weights; false where these, as an earlier version wrote them, do not say.
///
/// # Errors
/// It is another one.
pub fn check(folder: &Path) -> Result<bool> {
    let weights = folder.join(WEIGHTS);
    let metadata =
        read_metadata(&weights).with_context(|| format!("model {}", weights.display()))?;
    let remedy = "restore the run's own, or, if the run was stopped while writing them, continue with --resume";
    is_of(folder, (&metadata, WEIGHTS), remedy)
}

/// The same of other weights, by their metadata and name; `remedy` is what to do where it is another one.
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
