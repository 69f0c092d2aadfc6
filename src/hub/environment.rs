//! The hub and cache to use, from the environment variables that all Hugging Face tools read.

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::names::{quoted, without_user};
use crate::error::UsageError;
use crate::files::read_bounded;

/// Longest wait for a response or for more of one, as in `huggingface_hub`.
const PATIENCE: Duration = Duration::from_secs(10);
/// Variables that redirect the traffic.
const PROXIES: [&str; 6] =
    ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];
const TIMEOUT: &str = "HF_HUB_DOWNLOAD_TIMEOUT";

/// The hub and cache to use.
#[derive(Clone)]
pub struct Hub {
    /// Without a trailing slash.
    pub endpoint: String,
    /// The folder with `models--org--name` folders.
    pub cache: PathBuf,
    pub token: Option<String>,
    /// Use the cache only.
    pub offline: bool,
    /// How long the hub may stay silent.
    pub patience: Duration,
}

impl std::fmt::Debug for Hub {
    /// Without the token, and without a password in the address.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} into {}", without_user(&self.endpoint), self.cache.display())
    }
}

impl Hub {
    /// The hub that the environment names.
    ///
    /// # Errors
    /// As [`from_variables`](Self::from_variables); an invalid proxy.
    pub fn from_env() -> Result<Self> {
        for name in PROXIES {
            let Some(proxy) = env::var(name).ok().filter(|proxy| !proxy.trim().is_empty()) else {
                continue;
            };
            // Silently ignored, it would send the traffic another way than requested.
            ureq::Proxy::new(&proxy).map_err(|_| {
                UsageError::new(format!("{name} {}: no proxy", quoted(&without_user(&proxy))))
            })?;
        }
        Self::from_variables(|name| env::var(name).ok(), env::home_dir())
    }

    /// Reads HF_ENDPOINT, HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME, HF_TOKEN, HF_TOKEN_PATH, HF_HUB_OFFLINE and
    /// HF_HUB_DOWNLOAD_TIMEOUT, with the same meaning as in `huggingface_hub`. An empty variable counts as unset.
    ///
    /// # Errors
    /// No cache folder is named and there is no home folder; an invalid time limit.
    pub fn from_variables(
        variable: impl Fn(&str) -> Option<String>,
        home: Option<PathBuf>,
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
        let offline = variable("HF_HUB_OFFLINE").unwrap_or_default().to_ascii_uppercase();
        let endpoint =
            variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_string());
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_string(),
            cache,
            token: variable("HF_TOKEN").or_else(|| saved_token(&token_file?)),
            offline: ["1", "ON", "YES", "TRUE"].contains(&offline.as_str()),
            patience: variable(TIMEOUT).map_or(Ok(PATIENCE), |text| patience(&text))?,
        })
    }
}

/// A time limit in seconds. An unsupported one is not silently ignored, since the user relies on it.
fn patience(text: &str) -> Result<Duration, UsageError> {
    let seconds = text.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| {
        let text = quoted(text);
        UsageError::new(format!("{TIMEOUT} must be whole seconds from 1 to 3600, got {text}"))
    })
}

/// The token saved by `huggingface-cli login`.
fn saved_token(file: &Path) -> Option<String> {
    let bytes = read_bounded(file, 1 << 16).ok()?;
    let token = String::from_utf8(bytes).ok()?.trim().to_string();
    Some(token).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn hub(variables: &[(&str, &str)]) -> Hub {
        let get = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
        };
        Hub::from_variables(get, Some("/home/x".into())).unwrap()
    }

    #[test]
    fn the_environment_decides_the_cache_in_the_known_order() {
        let cache = |variables: &[(&str, &str)]| hub(variables).cache;
        assert_eq!(cache(&[]), Path::new("/home/x/.cache/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/c")]), Path::new("/c/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/c"), ("HF_HOME", "/h")]), Path::new("/h/hub"));
        assert_eq!(cache(&[("HF_HUB_CACHE", "/k"), ("HF_HOME", "/h")]), Path::new("/k"));
        assert_eq!(cache(&[("HF_HUB_CACHE", ""), ("HF_HOME", "/h")]), Path::new("/h/hub"));
        assert!(Hub::from_variables(|_| None, None).is_err());
    }

    #[test]
    fn token_endpoint_and_offline_are_read() {
        let plain = hub(&[]);
        assert_eq!(
            (plain.endpoint.as_str(), plain.offline, plain.token),
            ("https://huggingface.co", false, None)
        );
        let set = hub(&[
            ("HF_ENDPOINT", "http://localhost:1/"),
            ("HF_TOKEN", " t "),
            ("HF_HUB_OFFLINE", "true"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "25"),
        ]);
        assert_eq!(
            (set.endpoint.as_str(), set.offline, set.token.as_deref()),
            ("http://localhost:1", true, Some("t"))
        );
        assert_eq!(set.patience, Duration::from_secs(25));
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("token"), "saved\n").unwrap();
        let home = folder.path().to_str().unwrap();
        assert_eq!(hub(&[("HF_HOME", home)]).token.as_deref(), Some("saved"));
        assert_eq!(hub(&[("HF_HOME", home), ("HF_TOKEN", "t")]).token.as_deref(), Some("t"));
        assert_eq!(hub(&[("HF_TOKEN_PATH", "/dev/zero")]).token, None);
    }

    #[test]
    fn a_hub_is_shown_without_its_token() {
        let shown = format!("{:?}", hub(&[("HF_TOKEN", "hf_SECRET")]));
        assert!(!shown.contains("SECRET"), "{shown}");
        let shown = format!("{:?}", hub(&[("HF_ENDPOINT", "https://me:SECRET@hub.test")]));
        assert!(shown.starts_with("https://***@hub.test "), "{shown}");
    }

    #[test]
    fn a_time_limit_that_cannot_be_kept_is_refused_by_name() {
        for wrong in
            ["0", "-1", "nan", "inf", "1e30", "2.5", "soon", "3601", "99999999999999999999"]
        {
            let get = |name: &str| (name == TIMEOUT).then(|| wrong.to_owned());
            let error = Hub::from_variables(get, Some("/home/x".into())).unwrap_err();
            assert_eq!(crate::error::exit_code(&error), 2);
            let expected = format!("{TIMEOUT} must be whole seconds from 1 to 3600, got {wrong:?}");
            assert_eq!(error.to_string(), expected);
        }
    }
}
