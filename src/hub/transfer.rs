//! One file of a model or dataset, from the hub into the cache: inspected, locked, resumed or started, checked against
//! every size and hash that was given, and only then named.

use std::fs::{self, File, TryLockError};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use super::announced::{Announced, agreed, announced, number, sent};
use super::cache::Cache;
use super::content::{Hash, differs};
use super::http::{Answer, Asked, Client, Failure, Follow};
use super::names::{HubName, Kind, PathPart, joined, path_part};
use super::{Event, Hub, Listener};

/// Largest file, and largest one whose size the hub does not state.
const MOST_BYTES: u64 = 128 << 30;
const MOST_UNKNOWN: u64 = 256 << 20;
/// What a broken connection must have delivered for an immediate retry.
const WORTH_ANOTHER: u64 = 1 << 20;
/// Longest time that another process may hold a lock while nothing arrives.
const OTHERS_PATIENCE: Duration = Duration::from_secs(60);

/// The transfer of one model's files.
pub(super) struct Transfer<'a> {
    pub(super) hub: &'a Hub,
    pub(super) name: &'a HubName,
    pub(super) client: &'a Client,
    pub(super) cache: &'a Cache,
    pub(super) listener: Listener<'a>,
}

/// Why a download ended early, and whether what has arrived is usable.
struct Ended {
    failure: Failure,
    keep: bool,
}

impl Ended {
    fn useless(failure: Failure) -> Self {
        Self { failure, keep: false }
    }
}

impl Transfer<'_> {
    /// One file of a commit by the hub's name for it.
    pub(super) fn take_named(&mut self, commit: &PathPart, file: &str) -> Result<PathBuf> {
        let parts: Result<Vec<PathPart>, String> =
            file.split('/').map(|part| path_part(Kind::File, part)).collect();
        let parts = parts.map_err(|why| anyhow!("{}: {why}", self.name.what()))?;
        self.take(commit, &parts)
    }

    /// One file of a commit, from the cache or the hub.
    pub(super) fn take(&mut self, commit: &PathPart, file: &[PathPart]) -> Result<PathBuf> {
        let pointer = self.cache.pointer(commit, file);
        if pointer.exists() {
            return Ok(pointer);
        }
        let shown = joined(file, "/");
        let fail = |hub: &Hub, failure| {
            super::explain(hub, self.name, failure).context(format!("cannot fetch {shown}"))
        };
        let url = format!(
            "{}/{}{}/resolve/{commit}/{shown}",
            self.hub.endpoint,
            self.name.holding.prefix(),
            self.name.repository()
        );
        let about = self.look(&url, commit).map_err(|failure| fail(self.hub, failure))?;
        let blob = self.cache.blob(&about.blob);
        let _lock = self.lock(&about.blob, &shown)?;
        let whole = match fs::metadata(&blob) {
            Ok(there) if about.size.is_none_or(|size| size == there.len()) => true,
            Ok(there) => {
                let length = there.len();
                self.note(format!(
                    "{shown} in the cache has {length} bytes, unlike the hub's: fetching it again"
                ));
                false
            }
            Err(_) => false,
        };
        if !whole {
            let part = self.cache.part(&about.blob);
            if let Err(ended) = self.download(&url, &about, &part, &shown) {
                let failure = fail(self.hub, ended.failure);
                return Err(match set_aside(&part, ended.keep) {
                    Some(said) => anyhow!("{failure:#}; {said}"),
                    None => failure,
                });
            }
            self.check(&part, &about.blob, &shown)?;
            fs::rename(&part, &blob)
                .map_err(|error| anyhow!("cannot write {}: {error}", blob.display()))?;
        }
        self.cache
            .link(commit, file, &about.blob)
            .map_err(|error| anyhow!("cannot write {}: {error}", pointer.display()))?;
        Ok(pointer)
    }

    /// What the hub says about a file.
    fn look(&self, url: &str, commit: &PathPart) -> Result<Announced, Failure> {
        let answer = match self.client.get(url, Asked::First, Follow::ToMetadata) {
            // An empty file has no first byte.
            Err(Failure::Status { code: 416, .. }) => {
                self.client.get(url, Asked::Whole, Follow::ToMetadata)
            }
            answer => answer,
        }?;
        let about = announced(&answer, commit)?;
        match about.size {
            Some(size) if size > most_bytes(url) => {
                Err(Failure::Unlike(format!("a file of {size} bytes")))
            }
            _ => Ok(about),
        }
    }

    /// Locks a blob against other processes until dropped.
    fn lock(&mut self, blob: &PathPart, shown: &str) -> Result<File> {
        let failed = |error: std::io::Error| {
            anyhow!(
                "{}: cannot lock {shown} in the cache {}: {error}",
                self.name.what(),
                self.hub.cache.display()
            )
        };
        let file = self.cache.lock_file(blob).map_err(failed)?;
        let arrived = || fs::metadata(self.cache.part(blob)).map_or(0, |there| there.len());
        let (mut since, mut seen, mut told) = (Instant::now(), arrived(), false);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Err(TryLockError::WouldBlock) => {}
            }
            if !told {
                (self.listener)(Event::Note(&format!(
                    "waiting for another process that is fetching {shown}"
                )));
                told = true;
            }
            std::thread::sleep(Duration::from_millis(100));
            let now = arrived();
            if now != seen {
                (since, seen) = (Instant::now(), now);
            }
            if since.elapsed() > OTHERS_PATIENCE {
                bail!(
                    "{}: another process has been fetching {shown} without progress; end it and try again",
                    self.name.what()
                );
            }
        }
    }

    /// Downloads all of a file into `part`.
    fn download(
        &mut self,
        url: &str,
        about: &Announced,
        part: &Path,
        shown: &str,
    ) -> Result<(), Ended> {
        let resumable = Hash::of(&about.blob) != Hash::None;
        let local = |error: std::io::Error| {
            Ended::useless(Failure::Local(format!("{}: {error}", part.display())))
        };
        let mut file = self.cache.open_part(&about.blob).map_err(local)?;
        let mut kept = file.metadata().map_err(local)?.len();
        let mut begun_anew = false;
        if kept > 0 && (!resumable || about.size.is_some_and(|size| kept > size)) {
            self.note(format!(
                "the partial download of {shown} cannot be continued and was removed"
            ));
            kept = 0;
        }
        loop {
            if kept > 0 && about.size == Some(kept) {
                break;
            }
            let asked = if kept == 0 { Asked::Whole } else { Asked::From(kept) };
            let answer = match self.client.get(url, asked, Follow::Everywhere) {
                Ok(answer) => answer,
                Err(Failure::Status { code: 416, .. }) if kept > 0 => {
                    self.begin_anew(&mut begun_anew, shown)?;
                    kept = 0;
                    continue;
                }
                Err(failure) => {
                    return Err(Ended { failure, keep: resumable && kept > 0 });
                }
            };
            let body = body(&answer, about, kept, resumable).map_err(Ended::useless)?;
            let Some(body) = body else {
                self.begin_anew(&mut begun_anew, shown)?;
                kept = 0;
                continue;
            };
            if body.start != kept {
                self.begin_anew(&mut begun_anew, shown)?;
                kept = body.start;
            }
            file.set_len(kept).map_err(local)?;
            file.seek(SeekFrom::Start(kept)).map_err(local)?;
            let before = kept;
            (self.listener)(Event::Begin { file: shown, done: kept, size: body.total });
            let most = body.total.unwrap_or(MOST_UNKNOWN).saturating_sub(kept);
            let listener = &mut *self.listener;
            let read = answer.read(most, |bytes| {
                file.write_all(bytes)?;
                kept += bytes.len() as u64;
                listener(Event::Received(bytes.len() as u64));
                Ok(())
            });
            (self.listener)(Event::End);
            let broken = match read {
                Ok(()) if body.total.is_none_or(|total| total == kept) => break,
                Ok(()) => "the connection ended early".to_string(),
                Err(Failure::Broken(why)) => why,
                Err(failure) => return Err(Ended::useless(failure)),
            };
            if !(resumable && kept - before >= WORTH_ANOTHER) {
                let of = body.total.map_or(String::new(), |total| format!(" of {total}"));
                let failure = Failure::Broken(format!("{broken}, after {kept}{of} bytes"));
                return Err(Ended { failure, keep: resumable && kept > 0 });
            }
            self.note(format!("{shown}: connection lost ({broken}); continuing"));
        }
        file.sync_all().map_err(local)
    }

    /// Checks a finished download against its hash; removes it on a mismatch.
    fn check(&self, part: &Path, blob: &PathPart, shown: &str) -> Result<()> {
        let found = differs(part, blob)
            .map_err(|error| anyhow!("cannot read {}: {error}", part.display()))?;
        let Some(found) = found else {
            return Ok(());
        };
        let removed = set_aside(part, false).unwrap_or_default();
        bail!(
            "{}: {shown} arrived damaged (hash {found}, announced {blob}); {removed}; try again",
            self.name.what()
        )
    }

    /// Allowed once per file: otherwise a hub that keeps breaking off would hold us here forever.
    fn begin_anew(&mut self, already: &mut bool, shown: &str) -> Result<(), Ended> {
        if std::mem::replace(already, true) {
            return Err(Ended::useless(Failure::Unlike(
                "other bytes than those asked for, twice".to_string(),
            )));
        }
        self.note(format!(
            "the hub cannot continue {shown} where it stopped: starting again from the beginning"
        ));
        Ok(())
    }

    fn note(&mut self, text: String) {
        (self.listener)(Event::Note(&text));
    }
}

/// Size limit by suffix: weights and rows are large; of other files no more is read.
fn most_bytes(name: &str) -> u64 {
    let large = [".safetensors", ".parquet"].into_iter().any(|end| name.ends_with(end));
    if large { MOST_BYTES } else { MOST_UNKNOWN }
}

/// Where a body starts and how long the whole file is.
struct Body {
    start: u64,
    total: Option<u64>,
}

/// Checks a response's body against what was announced; none if it cannot continue after `kept` bytes.
fn body(
    answer: &Answer,
    about: &Announced,
    kept: u64,
    resumable: bool,
) -> Result<Option<Body>, Failure> {
    if let Some(encoding) = answer.text("content-encoding")?
        && !encoding.eq_ignore_ascii_case("identity")
    {
        return Err(Failure::Unlike("an encoded body that was not asked for".to_string()));
    }
    let part = sent(answer)?.ok_or_else(|| Failure::Unlike("no body".to_string()))?;
    let start = match (answer.status, kept) {
        // Everything was requested: a part's position has no meaning.
        (_, 0) | (200, _) => 0,
        _ if part.start == kept => kept,
        _ => return Ok(None),
    };
    let length = number(answer, "content-length")?;
    let ends = length
        .map(|length| {
            start
                .checked_add(length)
                .ok_or_else(|| Failure::Unlike(format!("a body of {length} bytes")))
        })
        .transpose()?;
    let total = agreed(agreed(about.size, part.total)?, ends)?;
    if total.is_none() && !answer.is_chunked() && !resumable {
        return Err(Failure::Unlike(
            "a file without a size or a hash, so it cannot be checked".to_string(),
        ));
    }
    match total {
        Some(total) if total > MOST_BYTES => {
            Err(Failure::Unlike(format!("a file of {total} bytes")))
        }
        total => Ok(Some(Body { start, total })),
    }
}

/// Keeps or removes what has arrived, and says which; nothing if nothing has.
fn set_aside(part: &Path, keep: bool) -> Option<String> {
    let length = fs::metadata(part).ok()?.len();
    if length == 0 {
        // Nobody misses it; if it cannot be removed, the next attempt continues from it.
        let _ = fs::remove_file(part);
        return None;
    }
    if keep {
        return Some(format!("{length} bytes are kept, and the next attempt continues from there"));
    }
    match fs::remove_file(part) {
        Ok(()) => Some("the partial download was removed".to_string()),
        Err(error) => Some(format!("{} cannot be removed: {error}", part.display())),
    }
}
