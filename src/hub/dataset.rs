//! Files of a dataset, fetched into the cache shared with Hugging Face's `datasets`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};

use super::cache::Cache;
use super::listing::RepoFiles;
use super::names::{HubName, Kind, path_part};
use super::transfer::Transfer;
use super::{Hub, Listener};

/// Where the hub keeps its own parquet version of a dataset in another format.
const CONVERTED: [&str; 3] = ["refs", "convert", "parquet"];

/// Selects files by name.
///
/// # Errors
/// Required files are not among them.
type Choose<'a> = &'a dyn Fn(&BTreeSet<String>) -> Result<Vec<String>>;

impl Hub {
    /// The folder with the files that `wanted` selects, all from one commit: of the dataset's main branch or, if that
    /// has none of them, of the hub's own parquet version. Downloads what is not in the cache.
    ///
    /// # Errors
    /// No such dataset, no access, no network and not in the cache, none of the files, a response that no hub gives, a
    /// damaged download.
    pub fn fetch_dataset(
        &self,
        name: &HubName,
        wanted: Choose<'_>,
        listener: Listener<'_>,
    ) -> Result<PathBuf> {
        let parts = CONVERTED.map(|part| path_part(Kind::File, part));
        let revision: Result<Vec<_>, String> = parts.into_iter().collect();
        let revision = revision.map_err(|why| anyhow!(why))?;
        let converted = HubName { revision, ..name.clone() };
        let lacking = std::cell::Cell::new(false);
        let main = self.fetch_from(name, wanted, listener, &lacking);
        match main {
            Err(error) if lacking.get() || self.offline => {
                self.fetch_from(&converted, wanted, listener, &lacking).map_err(|_| error)
            }
            main => main,
        }
    }

    /// From one revision; `lacking` says whether the files are missing there.
    fn fetch_from(
        &self,
        name: &HubName,
        wanted: Choose<'_>,
        listener: Listener<'_>,
        lacking: &std::cell::Cell<bool>,
    ) -> Result<PathBuf> {
        let take = |transfer: &mut Transfer<'_>, listing: &RepoFiles| {
            let files = wanted(&listing.files).map_err(|error| {
                lacking.set(true);
                error.context(format!("{} on {}", name.what(), self.endpoint))
            })?;
            files.iter().try_for_each(|file| transfer.take_named(&listing.commit, file).map(drop))
        };
        self.snapshot(name, listener, &|cache| cached(cache, name, wanted), &take)
    }
}

/// The cached commit, if it has everything wanted.
fn cached(cache: &Cache, name: &HubName, wanted: Choose<'_>) -> Option<PathBuf> {
    let folder = cache.snapshot(&cache.commit(name)?);
    let mut files = BTreeSet::new();
    list(&folder, "", 2, &mut files);
    wanted(&files).ok().map(|_| folder)
}

/// The files of a folder and, to this depth, of its subfolders.
fn list(folder: &Path, prefix: &str, levels: usize, files: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let path = entry.path();
        if path.is_file() {
            files.insert(format!("{prefix}{name}"));
        } else if levels > 0 {
            list(&path, &format!("{prefix}{name}/"), levels - 1, files);
        }
    }
}
