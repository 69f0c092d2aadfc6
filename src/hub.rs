//! `--model`: a folder on this machine, or a model of a hub, fetched once into the cache that all Hugging Face tools
//! share.
//!
//! The `hf-hub` crate does the transfer. What it leaves to its caller is here: the environment variables other than
//! HF_HOME and HF_ENDPOINT, working offline, taking all files from one commit, checking what arrived, and errors that
//! say what to do.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use crate::error::UsageError;
use crate::files::sha256_file;
use crate::formats::model_files::{
    CONFIG, SENTENCE_ENCODER_FILES, TOKENIZER_FILES, TokenizerSource, WEIGHTS, WEIGHTS_INDEX,
};

/// The folder of the model that `--model` names: an existing one, or one fetched from the hub.
///
/// # Errors
/// Neither a folder nor a model's name; see [`Hub::fetch`] for what can go wrong with the hub.
pub fn resolve(model: &str, quiet: bool) -> Result<PathBuf> {
    let path = Path::new(model);
    if path.is_dir() {
        return Ok(path.to_path_buf());
    }
    if path.exists() {
        return Err(UsageError::new(format!(
            "--model {model}: this is a file; name the folder it is in"
        ))
        .into());
    }
    let of_a_path = model.starts_with(['.', '/', '~']) || model.split('/').count() > 2;
    if of_a_path {
        bail!(
            "--model {model}: there is no such folder; give a folder with config.json and model.safetensors, or a \
             model on the hub as org/name"
        );
    }
    let name: HubName = model.parse()?;
    Hub::from_env(quiet)?.fetch(&name)
}

/// The name of a model on the hub: `org/name` or `name`, and a branch, tag or commit after an `@`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubName {
    repository: String,
    revision: String,
}

impl FromStr for HubName {
    type Err = UsageError;

    /// Accepts only what is safe as part of a URL and of a path in the cache.
    fn from_str(text: &str) -> Result<Self, UsageError> {
        let wrong = |why: &str| {
            UsageError::new(format!(
                "--model {text}: {why}; give an existing folder, or a model on the hub as org/name or \
                 org/name@revision"
            ))
        };
        let (repository, revision) = text.split_once('@').unwrap_or((text, "main"));
        let safe = |part: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            !part.is_empty() && part.chars().all(allowed) && !part.starts_with('.')
        };
        let parts: Vec<&str> = repository.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| safe(part)) {
            return Err(wrong("there is no such folder, and this is no name of a model"));
        }
        if !revision.split('/').all(safe) {
            return Err(wrong("what follows the @ is no branch, tag or commit"));
        }
        Ok(Self { repository: repository.to_string(), revision: revision.to_string() })
    }
}

impl std::fmt::Display for HubName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.repository)?;
        if self.revision != "main" { write!(f, "@{}", self.revision) } else { Ok(()) }
    }
}

/// Where models come from and go to.
#[derive(Debug, Clone)]
pub struct Hub {
    /// Without a slash at the end.
    pub endpoint: String,
    /// The folder with `models--org--name` folders.
    pub cache: PathBuf,
    pub token: Option<String>,
    /// Use the cache only.
    pub offline: bool,
    /// Say nothing about downloads.
    pub quiet: bool,
}

impl Hub {
    /// The hub that the environment names.
    ///
    /// # Errors
    /// No cache folder is named and there is no home folder.
    pub fn from_env(quiet: bool) -> Result<Self> {
        Self::from_variables(|name| env::var(name).ok(), env::home_dir(), quiet)
    }

    /// Reads HF_ENDPOINT, HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME, HF_TOKEN, HF_TOKEN_PATH and HF_HUB_OFFLINE, with the
    /// meaning that `huggingface_hub` gives them. An empty variable is one that is not set.
    ///
    /// # Errors
    /// No cache folder is named and there is no home folder.
    pub fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
        home: Option<PathBuf>,
        quiet: bool,
    ) -> Result<Self> {
        let variable =
            |name: &str| variable(name).map(|v| v.trim().to_string()).filter(|v| !v.is_empty());
        let folder = |name: &str| variable(name).map(PathBuf::from);
        let hf_home = folder("HF_HOME")
            .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("huggingface")))
            .or_else(|| home.map(|home| home.join(".cache/huggingface")));
        let cache = folder("HF_HUB_CACHE")
            .or_else(|| hf_home.as_ref().map(|home| home.join("hub")))
            .ok_or_else(|| anyhow!("no home folder to keep models in; set HF_HOME"))?;
        let token_file = folder("HF_TOKEN_PATH").or_else(|| hf_home.map(|home| home.join("token")));
        let saved = || Some(fs::read_to_string(token_file?).ok()?.trim().to_string());
        let offline = variable("HF_HUB_OFFLINE").unwrap_or_default().to_ascii_uppercase();
        let endpoint =
            variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_string());
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_string(),
            cache,
            token: variable("HF_TOKEN").or_else(saved).filter(|token| !token.is_empty()),
            offline: ["1", "ON", "YES", "TRUE"].contains(&offline.as_str()),
            quiet,
        })
    }

    /// The folder with the model's configuration, tokenizer and weights, all of one commit. Downloads what the cache
    /// does not have.
    ///
    /// # Errors
    /// No such model or revision, no access, no network and not in the cache, no safetensors weights, a damaged
    /// download.
    pub fn fetch(&self, name: &HubName) -> Result<PathBuf> {
        if self.offline {
            return self.cached(name).ok_or_else(|| {
                anyhow!(
                    "model {name} is not in the cache {} and HF_HUB_OFFLINE is set; unset it once to fetch the model, \
                     or give a folder",
                    self.cache.display()
                )
            });
        }
        let api = ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_progress(!self.quiet && stderr().is_terminal())
            .build()
            .map_err(|error| self.explain(name, error).0)?;
        let repo =
            Repo::with_revision(name.repository.clone(), RepoType::Model, name.revision.clone());
        let info = match api.repo(repo.clone()).info() {
            Ok(info) => info,
            Err(error) => {
                let (error, unreachable) = self.explain(name, error);
                // No network, and all is here: the cache serves.
                return match self.cached(name).filter(|_| unreachable) {
                    Some(folder) => {
                        self.say(&format!(
                            "cannot reach {}: model {name} is taken from the cache",
                            self.endpoint
                        ));
                        Ok(folder)
                    }
                    None => Err(error),
                };
            }
        };
        if info.sha.is_empty() || !info.sha.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            bail!(
                "model {name}: {} answered with a commit that is none: {:?}",
                self.endpoint,
                info.sha
            );
        }
        let files: BTreeSet<String> =
            info.siblings.into_iter().map(|file| file.rfilename).collect();
        let folder = self.take(&api, name, &info.sha, &files)?;
        // So that the branch's name finds this commit when offline.
        Cache::new(self.cache.clone())
            .repo(repo)
            .create_ref(&info.sha)
            .with_context(|| format!("cannot write to the cache {}", self.cache.display()))?;
        Ok(folder)
    }

    /// Downloads what is missing of a commit that has `files`.
    fn take(
        &self,
        api: &Api,
        name: &HubName,
        commit: &str,
        files: &BTreeSet<String>,
    ) -> Result<PathBuf> {
        let has = |file: &str| files.contains(file);
        if !has(CONFIG) {
            bail!(
                "model {name} has no {CONFIG} on {}: it is no model for transformers",
                self.endpoint
            );
        }
        if !has(WEIGHTS) && !has(WEIGHTS_INDEX) {
            bail!(
                "model {name} has no safetensors weights on {} ({WEIGHTS} or {WEIGHTS_INDEX}); convert it with \
                 transformers' save_pretrained and give the folder",
                self.endpoint
            );
        }
        if TokenizerSource::find(has).is_none() {
            bail!(
                "model {name} has no tokenizer on {} (tokenizer.json, vocab.txt, or vocab.json with merges.txt)",
                self.endpoint
            );
        }
        self.take_file(api, name, commit, CONFIG)?;
        let optional = TOKENIZER_FILES.into_iter().chain(SENTENCE_ENCODER_FILES);
        for file in optional.filter(|file| has(file)) {
            self.take_file(api, name, commit, file)?;
        }
        if has(WEIGHTS) {
            self.take_file(api, name, commit, WEIGHTS)?;
        } else {
            let index = self.take_file(api, name, commit, WEIGHTS_INDEX)?;
            for shard in shards(&index)? {
                self.take_file(api, name, commit, &shard)?;
            }
        }
        Ok(self.snapshot(name, commit))
    }

    /// One file of a commit, from the cache or the hub.
    fn take_file(&self, api: &Api, name: &HubName, commit: &str, file: &str) -> Result<PathBuf> {
        let path = self.snapshot(name, commit).join(file);
        if path.exists() {
            return Ok(path);
        }
        if !stderr().is_terminal() {
            self.say(&format!("fetching {file} of {name}"));
        }
        let repo =
            Repo::with_revision(name.repository.clone(), RepoType::Model, commit.to_string());
        let got = api
            .repo(repo)
            .download(file)
            .map_err(|error| self.explain(name, error).0.context(format!("cannot fetch {file}")))?;
        if got != path {
            bail!("model {name}: {} sent {file} of another commit; try again", self.endpoint);
        }
        verify(&path).with_context(|| format!("model {name}"))?;
        Ok(path)
    }

    fn repository_folder(&self, name: &HubName) -> PathBuf {
        self.cache.join(Repo::model(name.repository.clone()).folder_name())
    }

    fn snapshot(&self, name: &HubName, commit: &str) -> PathBuf {
        self.repository_folder(name).join("snapshots").join(commit)
    }

    /// The cached model, if it is complete.
    fn cached(&self, name: &HubName) -> Option<PathBuf> {
        let reference = self.repository_folder(name).join("refs").join(&name.revision);
        // A commit needs no reference: it names its own folder.
        let commit = fs::read_to_string(reference).unwrap_or_else(|_| name.revision.clone());
        let folder = self.snapshot(name, commit.trim());
        let index = folder.join(WEIGHTS_INDEX);
        let weights = folder.join(WEIGHTS).exists()
            || shards(&index)
                .is_ok_and(|shards| shards.iter().all(|shard| folder.join(shard).exists()));
        let tokenizer = TokenizerSource::find(|file| folder.join(file).exists()).is_some();
        (folder.join(CONFIG).exists() && weights && tokenizer).then_some(folder)
    }

    /// What an error of the transfer means and what to do; and whether the hub could not be reached at all.
    ///
    /// The text is kept and the cause is not: a connection that broke must not pass for a closed standard output.
    fn explain(&self, name: &HubName, error: ApiError) -> (anyhow::Error, bool) {
        let endpoint = &self.endpoint;
        match error {
            ApiError::TooManyRetries(inner) => self.explain(name, *inner),
            ApiError::RequestError(request) => {
                let text = request.to_string();
                match (*request).into_response().map(|response| response.status()) {
                    Some(401 | 403) => {
                        let with = match self.token {
                            Some(_) => "the token that is set has no access; check HF_TOKEN",
                            None => {
                                "if it is private or gated set HF_TOKEN; a wrong name is answered like this too"
                            }
                        };
                        (anyhow!("model {name}: {endpoint} refuses access: {with}"), false)
                    }
                    Some(404) => {
                        let message = format!(
                            "model {name}: neither a folder here, nor a model, revision or file on {endpoint}; check \
                             the name"
                        );
                        (anyhow!(message), false)
                    }
                    Some(status) => (
                        anyhow!(
                            "model {name}: {endpoint} answers with status {status}; try again later"
                        ),
                        status >= 500,
                    ),
                    None => {
                        let message = format!(
                            "model {name}: cannot reach {endpoint} ({text}) and the model is not in the cache {}; check \
                             the network, or give a folder",
                            self.cache.display()
                        );
                        (anyhow!(message), true)
                    }
                }
            }
            ApiError::IoError(error) => (
                anyhow!(
                    "model {name}: the transfer or the cache {} failed: {error}",
                    self.cache.display()
                ),
                false,
            ),
            ApiError::LockAcquisition(path) => {
                let path = path.display();
                (
                    anyhow!(
                        "model {name}: another process is fetching it (lock {path}); wait for it"
                    ),
                    false,
                )
            }
            other => (anyhow!("model {name}: {endpoint} answers unlike a hub: {other}"), false),
        }
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            eprintln!("{text}");
        }
    }
}

/// File names of the weights that an index lists.
fn shards(index: &Path) -> Result<BTreeSet<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let place = || format!("cannot read {}", index.display());
    let text = fs::read_to_string(index).with_context(place)?;
    let index: Index = serde_json::from_str(&text).with_context(place)?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    match names.iter().find(|name| name.contains(['/', '\\']) || name.starts_with('.')) {
        // Such a name could point out of the cache.
        Some(name) => {
            Err(anyhow!("it lists {name:?}, which is no plain file name").context(place()))
        }
        None if names.is_empty() => Err(anyhow!("it lists no file").context(place())),
        None => Ok(names),
    }
}

/// Compares a download with its hash: large files are cached under the sha256 of their content. A file that differs
/// is removed.
fn verify(path: &Path) -> Result<()> {
    let blob = fs::canonicalize(path).with_context(|| format!("cannot read {}", path.display()))?;
    let expected = blob.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_sha256 = expected.len() == 64 && expected.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_sha256 {
        return Ok(());
    }
    let found = sha256_file(&blob)?;
    if found.eq_ignore_ascii_case(&expected) {
        return Ok(());
    }
    // The next attempt must not find them; if they cannot be removed, it will fail here again.
    let _ = fs::remove_file(path);
    let _ = fs::remove_file(&blob);
    bail!("{} arrived damaged (sha256 {found}, announced {expected}); try again", path.display())
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
