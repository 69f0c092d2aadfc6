//! Which files a model has: the hub's listing of a revision, and the listing in an index of weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;

use super::Hub;
use super::http::{Asked, Client, Failure, Follow};
use super::names::{HubName, Kind, PathPart, path_part, quoted};
use crate::files::read_bounded;

const MOST_LISTING: u64 = 16 << 20;
const MOST_INDEX: u64 = 64 << 20;

/// A commit and its files. The names are only compared, never joined to a path.
pub(super) struct RepoFiles {
    pub(super) commit: PathPart,
    pub(super) files: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl RepoFiles {
    pub(super) fn ask(hub: &Hub, client: &Client, name: &HubName) -> Result<Self, Failure> {
        let url = format!(
            "{}/api/{}/{}/revision/{}",
            hub.endpoint,
            name.holding.plural(),
            name.repository(),
            name.revision().replace('/', "%2F")
        );
        let mut bytes = Vec::new();
        client.get(&url, Asked::Whole, Follow::Everywhere)?.read(MOST_LISTING, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        let info: Info = serde_json::from_slice(&bytes).map_err(|error| {
            let what = quoted(&error.to_string());
            Failure::Unlike(format!("an invalid list of files: {what}"))
        })?;
        Ok(Self {
            commit: path_part(Kind::Commit, &info.sha).map_err(Failure::Unlike)?,
            files: info.siblings.into_iter().map(|file| file.rfilename).collect(),
        })
    }
}

/// File names of the weights in an index.
pub(super) fn shards(index: &Path) -> Result<BTreeSet<PathPart>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let place = || format!("cannot read {}", index.display());
    let bytes = read_bounded(index, MOST_INDEX)?;
    let index: Index = serde_json::from_slice(&bytes).with_context(place)?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    if names.is_empty() {
        return Err(anyhow!("it lists no files").context(place()));
    }
    names
        .iter()
        .map(|name| path_part(Kind::File, name).map_err(|why| anyhow!(why).context(place())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_index_cannot_name_a_file_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let index = folder.path().join("model.safetensors.index.json");
        fs::write(&index, r#"{"weight_map": {"a": "b.safetensors", "c": "b.safetensors"}}"#)
            .unwrap();
        let found = shards(&index).unwrap();
        let found: Vec<&str> = found.iter().map(PathPart::as_str).collect();
        assert_eq!(found, ["b.safetensors"]);
        for hostile in [r#"{"weight_map": {"a": "../x"}}"#, r#"{"weight_map": {}}"#, "{}", "no"] {
            fs::write(&index, hostile).unwrap();
            assert!(shards(&index).is_err(), "{hostile}");
        }
    }
}
