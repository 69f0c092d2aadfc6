//! Names that become parts of paths and addresses. A name from the user or the network passes [`path_part`] before it
//! is joined to a folder: there is no other way to a path.

use std::fmt;
use std::str::FromStr;

use crate::error::UsageError;
pub(super) use crate::words::quoted;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A commit: 40 or 64 hexadecimal digits.
    Commit,
    /// The content of a file, as an ETag names it.
    Blob,
    /// A file of a model, an owner, a model, or a part of a branch's name.
    File,
}

/// A name that is safe as one component of a path and of an address: ASCII letters, digits, `-`, `_` and, except for
/// blobs, dots inside. It cannot go up, be absolute, be hidden, or name a drive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PathPart(String);

/// Converts a name to a [`PathPart`], or says what is wrong with it.
///
/// # Errors
/// Empty, too long, or with a character that is not allowed in this kind of name.
pub fn path_part(kind: Kind, text: &str) -> Result<PathPart, String> {
    let hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let safe = match kind {
        Kind::Commit => hexadecimal && [40, 64].contains(&text.len()),
        Kind::Blob => (1..=128).contains(&text.len()) && text.bytes().all(word),
        Kind::File => {
            (1..=200).contains(&text.len())
                && text.bytes().all(|byte| word(byte) || byte == b'.')
                && !text.starts_with('.')
                && !text.ends_with('.')
        }
    };
    if safe {
        return Ok(PathPart(text.to_string()));
    }
    let what = match kind {
        Kind::Commit => "no commit",
        Kind::Blob => "not a hub's ETag",
        Kind::File => "not a plain file name",
    };
    Err(format!("{} is {what}", quoted(text)))
}

impl PathPart {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PathPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An address without any user and password before its host.
pub fn without_user(address: &str) -> String {
    let host = address.find("//").map_or(0, |at| at + 2);
    // The last one anywhere: a password may contain a slash that should have been escaped.
    match address[host..].rfind('@') {
        Some(at) => format!("{}***{}", &address[..host], &address[host + at..]),
        None => address.to_owned(),
    }
}

/// The kind of repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    Model,
    Dataset,
}

impl Holding {
    /// For people.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Dataset => "data set",
        }
    }

    /// In addresses of the API, and in folders of the cache.
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::Dataset => "datasets",
        }
    }

    /// Before a repository's name in the address of a file.
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Model => "",
            Self::Dataset => "datasets/",
        }
    }
}

/// The name of a model or a dataset on the hub: `org/name` or `name`, with an optional branch, tag or commit after an
/// `@`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubName {
    pub(super) holding: Holding,
    pub(super) repository: Vec<PathPart>,
    pub(super) revision: Vec<PathPart>,
}

impl FromStr for HubName {
    type Err = UsageError;

    /// Accepts only what is safe as part of an address and of a path in the cache.
    fn from_str(text: &str) -> Result<Self, UsageError> {
        let wrong = |why: &str| {
            UsageError::new(format!(
                "{text}: {why}; give an existing folder, or a model on the hub as org/name or \
                 org/name@revision"
            ))
        };
        let (repository, revision) = text.split_once('@').unwrap_or((text, "main"));
        let parts = |text: &str| -> Result<Vec<PathPart>, String> {
            text.split('/').map(|part| path_part(Kind::File, part)).collect()
        };
        let repository = parts(repository)
            .ok()
            .filter(|parts| parts.len() <= 2)
            .ok_or_else(|| wrong("there is no such folder, and this is not a model name"))?;
        let revision = parts(revision)
            .map_err(|_| wrong("what follows the @ is not a branch, tag or commit"))?;
        Ok(Self { holding: Holding::Model, repository, revision })
    }
}

impl HubName {
    /// A dataset of this name.
    ///
    /// # Errors
    /// As for a model.
    pub fn dataset(text: &str) -> Result<Self, UsageError> {
        Ok(Self { holding: Holding::Dataset, ..text.parse()? })
    }

    /// "model org/name", the start of a message.
    pub(super) fn what(&self) -> String {
        format!("{} {self}", self.holding.word())
    }

    /// `org/name`.
    pub(super) fn repository(&self) -> String {
        joined(&self.repository, "/")
    }

    /// The branch, tag or commit.
    pub(super) fn revision(&self) -> String {
        joined(&self.revision, "/")
    }
}

pub(super) fn joined(parts: &[PathPart], between: &str) -> String {
    let parts: Vec<&str> = parts.iter().map(PathPart::as_str).collect();
    parts.join(between)
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository())?;
        match self.revision().as_str() {
            "main" => Ok(()),
            revision => write!(f, "@{revision}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        for address in
            ["https://me:SECRET@hub.test/x", "https://SE/CRET@hub.test/x", "me:S@CRET@hub.test/x"]
        {
            let shown = without_user(address);
            assert!(!shown.contains("CRET") && shown.ends_with("***@hub.test/x"), "{shown}");
        }
        assert_eq!(without_user("http://hub.test:80/a?b"), "http://hub.test:80/a?b");
    }

    #[test]
    fn nothing_that_climbs_hides_or_steers_is_a_component() {
        let hostile = [
            "",
            ".",
            "..",
            ".x",
            "x.",
            "a/b",
            "a\\b",
            "/abs",
            "C:x",
            "a b",
            "a\0b",
            "a%00b",
            "a\nb",
            "é",
            "~",
            "a\u{202e}b",
            "../../etc/passwd",
        ];
        for kind in [Kind::Commit, Kind::Blob, Kind::File] {
            for text in hostile {
                assert!(path_part(kind, text).is_err(), "{kind:?} {text:?}");
            }
            assert!(path_part(kind, &"a".repeat(5000)).is_err(), "{kind:?}");
        }
        assert!(path_part(Kind::Blob, "a.lock").is_err());
        assert!(path_part(Kind::Commit, "main").is_err());
        for (kind, text) in [
            (Kind::Commit, "0123456789abcdef0123456789abcdef01234567"),
            (Kind::Blob, "d41d8cd98f00b204e9800998ecf8427e-12"),
            (Kind::File, "model-00001-of-00002.safetensors"),
        ] {
            assert_eq!(path_part(kind, text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn names_have_an_owner_and_a_revision_at_most() {
        let name: HubName = "org/name@refs/pr/1".parse().unwrap();
        assert_eq!(
            (name.repository().as_str(), name.revision().as_str()),
            ("org/name", "refs/pr/1")
        );
        let plain: HubName = "bert-base-uncased".parse().unwrap();
        assert_eq!(plain.revision(), "main");
        assert_eq!(name.to_string(), "org/name@refs/pr/1");
        for wrong in [
            "./x",
            "../x",
            "/abs/x",
            "a/b/c",
            "a//b",
            "",
            "a/b@",
            "a/b@../../x",
            "a b",
            "~/x",
            "a\\b",
            "é/x",
        ] {
            let error = wrong.parse::<HubName>().expect_err(wrong).to_string();
            assert!(error.contains("existing folder"), "{error}");
        }
    }

    #[test]
    fn a_hostile_text_is_quoted_short_and_tame() {
        assert_eq!(quoted("a\u{1b}[2J"), r#""a\u{1b}[2J""#);
        assert!(quoted(&"x".repeat(100_000)).len() < 100);
    }
}
