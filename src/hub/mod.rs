//! `--model`: a local folder, or a hub's model, fetched once into the cache that all Hugging Face tools share.
//!
//! A hub is not trusted. What it says becomes a path only through [`names::path_part`], what it sends is bounded in
//! `http`, and a file gets its name in the cache only after `content` has checked its hash.

mod announced;
mod cache;
mod content;
mod dataset;
mod environment;
mod http;
mod listing;
pub mod names;
mod transfer;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::formats::model_files::{
    CONFIG, SENTENCE_ENCODER_FILES, TOKENIZER_FILES, TokenizerSource, WEIGHTS, WEIGHTS_INDEX,
};
use cache::Cache;
use http::{Client, Failure};
use listing::{RepoFiles, shards};
use transfer::Transfer;

pub use environment::Hub;
pub use names::HubName;

/// The events of a fetch, for its caller.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A sentence for a person.
    Note(&'a str),
    /// A file starts to arrive; `done` bytes of it were there before.
    Begin { file: &'a str, done: u64, size: Option<u64> },
    /// This many more bytes.
    Received(u64),
    /// The file has arrived, or the transfer has failed.
    End,
}

pub type Listener<'a> = &'a mut dyn FnMut(Event<'_>);

/// The folder of a model: an existing one, or one fetched from the hub.
///
/// # Errors
/// Neither a folder nor a model's name; see [`Hub::fetch`] for problems with the hub.
pub fn resolve(model: &str, listener: Listener<'_>) -> Result<PathBuf> {
    let path = Path::new(model);
    if path.is_dir() {
        return Ok(path.to_path_buf());
    }
    if path.exists() {
        bail!("{model} is a file; name the folder it is in");
    }
    if is_a_path(model) {
        bail!(
            "there is no folder {model}; give one with config.json and model.safetensors, or a model on the hub as \
             org/name"
        );
    }
    let name: HubName = model.parse()?;
    Hub::from_env()?
        .fetch(&name, listener)
        .with_context(|| format!("there is no folder {model}; asked the hub"))
}

/// Whether a model's name can only be a path, and never one on the hub.
pub fn is_a_path(model: &str) -> bool {
    let (place, _revision) = model.split_once('@').unwrap_or((model, ""));
    model.starts_with(['.', '/', '~']) || place.split('/').count() > 2
}

impl Hub {
    /// The folder with the model's configuration, tokenizer and weights, all from one commit. Downloads what is not in
    /// the cache.
    ///
    /// # Errors
    /// No such model or revision, no access, no network and not in the cache, no safetensors weights, a response that
    /// no hub gives, a damaged download.
    pub fn fetch(&self, name: &HubName, listener: Listener<'_>) -> Result<PathBuf> {
        self.snapshot(name, listener, &|cache| cached(cache, name), &take)
    }

    /// The folder of a commit, after `take` has fetched what is needed from it; or the result of `cached`, if there is
    /// no hub to ask.
    fn snapshot(
        &self,
        name: &HubName,
        listener: Listener<'_>,
        cached: &dyn Fn(&Cache) -> Option<PathBuf>,
        take: &dyn Fn(&mut Transfer<'_>, &RepoFiles) -> Result<()>,
    ) -> Result<PathBuf> {
        let cache = Cache::new(&self.cache, name);
        let what = name.what();
        if self.offline {
            return cached(&cache).ok_or_else(|| {
                anyhow!(
                    "{what} is not in the cache {} and HF_HUB_OFFLINE is set; unset it once to fetch the {}, or give a \
                     folder",
                    self.cache.display(),
                    name.holding.word()
                )
            });
        }
        let client = Client::new(self)?;
        let listing = match RepoFiles::ask(self, &client, name) {
            Ok(listing) => listing,
            Err(failure) => {
                // No network, but everything is in the cache.
                let away =
                    matches!(failure, Failure::Silent { .. } | Failure::Status { code: 500.., .. });
                return match cached(&cache).filter(|_| away) {
                    Some(folder) => {
                        listener(Event::Note(&format!(
                            "cannot reach {}: {what} is taken from the cache",
                            self.endpoint
                        )));
                        Ok(folder)
                    }
                    None => Err(explain(self, name, failure)),
                };
            }
        };
        let commit = &listing.commit;
        let mut transfer = Transfer { hub: self, name, client: &client, cache: &cache, listener };
        take(&mut transfer, &listing)?;
        // So that the branch's name leads to this commit when offline.
        cache
            .point(name, commit)
            .with_context(|| format!("cannot write to the cache {}", self.cache.display()))?;
        Ok(cache.snapshot(commit))
    }
}

/// Downloads what is missing from a commit.
fn take(transfer: &mut Transfer<'_>, listing: &RepoFiles) -> Result<()> {
    let (name, endpoint) = (transfer.name, &transfer.hub.endpoint);
    let has = |file: &str| listing.files.contains(file);
    if !has(CONFIG) {
        bail!("model {name} has no {CONFIG} on {endpoint}: it is not a transformers model");
    }
    if !has(WEIGHTS) && !has(WEIGHTS_INDEX) {
        bail!(
            "model {name} has no safetensors weights on {endpoint} ({WEIGHTS} or {WEIGHTS_INDEX}); convert it with \
             transformers' save_pretrained and give the folder"
        );
    }
    if TokenizerSource::find(has).is_none() {
        bail!(
            "model {name} has no tokenizer on {endpoint} (tokenizer.json, vocab.txt, or vocab.json with merges.txt)"
        );
    }
    let mut take = |file: &str| transfer.take_named(&listing.commit, file);
    take(CONFIG)?;
    let optional = TOKENIZER_FILES.into_iter().chain(SENTENCE_ENCODER_FILES);
    for file in optional.filter(|file| has(file)) {
        take(file)?;
    }
    if has(WEIGHTS) {
        take(WEIGHTS)?;
    } else {
        let index = take(WEIGHTS_INDEX)?;
        for shard in shards(&index)? {
            take(shard.as_str())?;
        }
    }
    Ok(())
}

/// The cached model, if it is complete.
fn cached(cache: &Cache, name: &HubName) -> Option<PathBuf> {
    let folder = cache.snapshot(&cache.commit(name)?);
    let has = |file: &str| folder.join(file).exists();
    let weights = has(WEIGHTS)
        || shards(&folder.join(WEIGHTS_INDEX))
            .is_ok_and(|shards| shards.iter().all(|shard| has(shard.as_str())));
    let tokenizer = TokenizerSource::find(has).is_some();
    (has(CONFIG) && weights && tokenizer).then_some(folder)
}

/// What a failure means and what to do.
fn explain(hub: &Hub, name: &HubName, failure: Failure) -> anyhow::Error {
    let (what, endpoint) = (name.what(), &hub.endpoint);
    match failure {
        Failure::Silent { elsewhere: None, why } => anyhow!(
            "{what}: cannot reach {endpoint} ({why}) and it is not in the cache {}; check the network, \
             or give a folder",
            hub.cache.display()
        ),
        Failure::Silent { elsewhere: Some(host), why } => anyhow!(
            "{what}: {endpoint} redirects to {host}, which cannot be reached ({why}); check the network and its proxies, or \
             give a folder"
        ),
        // It was not sent a token, and does not know names of models.
        Failure::Status { elsewhere: Some(host), code } => anyhow!(
            "{what}: {endpoint} redirects to {host}, which answers with status {code}; try again later"
        ),
        Failure::Status { code: 401 | 403, .. } => {
            let with = match hub.token {
                Some(_) => "the token has no access; check HF_TOKEN",
                None => {
                    "if it is private or gated, set HF_TOKEN; a wrong name gives the same answer"
                }
            };
            anyhow!("{what}: {endpoint} refuses access: {with}")
        }
        Failure::Status { code: 404, .. } => anyhow!(
            "{what}: not a {}, revision or file on {endpoint}; check the name",
            name.holding.word()
        ),
        Failure::Status { code, .. } => {
            anyhow!("{what}: {endpoint} answers with status {code}; try again later")
        }
        Failure::Unlike(how) => anyhow!("{what}: {endpoint} does not answer like a hub: {how}"),
        Failure::Broken(how) => {
            anyhow!("{what}: a file of {endpoint} arrived damaged: {how}")
        }
        Failure::Local(why) => anyhow!("{what}: cannot save the download: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_folder_is_taken_and_a_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let mut nobody = |_: Event<'_>| {};
        assert_eq!(resolve(path, &mut nobody).unwrap(), folder.path());
        let file = folder.path().join("model.safetensors");
        fs::write(&file, "").unwrap();
        let error = resolve(file.to_str().unwrap(), &mut nobody).unwrap_err();
        assert!(error.to_string().contains("is a file; name the folder"));
    }
}
