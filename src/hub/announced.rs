//! What a hub announces about a file before sending it: its name in the cache, its size, its commit. All of it is
//! checked here, and recorded for the body to be checked against.

use super::http::{Answer, Failure};
use super::names::{Kind, PathPart, path_part, quoted};

/// A file as announced by its hub.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Announced {
    pub(super) blob: PathPart,
    pub(super) size: Option<u64>,
}

/// Parses the headers of a response about a file of `commit`.
pub(super) fn announced(answer: &Answer, commit: &PathPart) -> Result<Announced, Failure> {
    if let Some(other) = answer.text("x-repo-commit")?
        && !other.eq_ignore_ascii_case(commit.as_str())
    {
        return Err(Failure::Unlike(format!(
            "a file of commit {}, asked for {commit}",
            quoted(other)
        )));
    }
    let etag = match answer.text("x-linked-etag")? {
        Some(linked) => Some(linked),
        None => answer.text("etag")?,
    };
    let etag = etag.ok_or_else(|| Failure::Unlike("a file without an ETag".to_string()))?;
    let etag = etag.strip_prefix("W/").unwrap_or(etag);
    let blob = path_part(Kind::Blob, etag.trim_matches('"')).map_err(Failure::Unlike)?;
    let linked = number(answer, "x-linked-size")?;
    let sent = sent(answer)?.and_then(|sent| sent.total);
    let size = agreed(linked, sent)?;
    Ok(Announced { blob, size })
}

/// Which part of a file a body is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) start: u64,
    pub(super) total: Option<u64>,
}

/// What a response's body is, from `Content-Range` or `Content-Length`; none for a redirect.
pub(super) fn sent(answer: &Answer) -> Result<Option<Sent>, Failure> {
    let length = number(answer, "content-length")?;
    match (answer.status, answer.text("content-range")?) {
        (206, Some(range)) => match content_range(range) {
            Some(sent) => Ok(Some(sent)),
            None => Err(Failure::Unlike(format!("an invalid Content-Range {}", quoted(range)))),
        },
        // No range although one was requested: it is unknown which bytes these are.
        (206, None) => Ok(Some(Sent { start: 0, total: None })),
        (200, _) => Ok(Some(Sent { start: 0, total: length })),
        _ => Ok(None),
    }
}

/// The common size, if two may be given.
pub(super) fn agreed(a: Option<u64>, b: Option<u64>) -> Result<Option<u64>, Failure> {
    match (a, b) {
        (Some(a), Some(b)) if a != b => {
            Err(Failure::Unlike(format!("two sizes for one file, {a} and {b} bytes")))
        }
        (a, b) => Ok(a.or(b)),
    }
}

/// A header with a number of bytes.
pub(super) fn number(answer: &Answer, name: &str) -> Result<Option<u64>, Failure> {
    let Some(text) = answer.text(name)? else {
        return Ok(None);
    };
    match digits(text) {
        Some(number) => Ok(Some(number)),
        None => {
            Err(Failure::Unlike(format!("a header {name} that is not a size: {}", quoted(text))))
        }
    }
}

/// `bytes 0-9/100`, or `*` for an unknown total.
fn content_range(text: &str) -> Option<Sent> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = range.split_once('-')?;
    let (start, end) = (digits(start)?, digits(end)?);
    let total = match total {
        "*" => None,
        total => Some(digits(total)?),
    };
    (start <= end && total.is_none_or(|total| end < total)).then_some(Sent { start, total })
}

/// Only digits: `parse` also accepts a plus sign, which is not valid in a size.
fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_lies_in_its_file() {
        let sent = |start, total| Some(Sent { start, total });
        assert_eq!(content_range("bytes 0-0/100"), sent(0, Some(100)));
        assert_eq!(content_range("bytes 7-99/*"), sent(7, None));
        for wrong in [
            "",
            "bytes",
            "bytes 0-0",
            "bytes 0-0/-5",
            "bytes 0-0/x",
            "bytes 5-4/10",
            "bytes 0-10/10",
            "bytes +0-0/10",
            "bytes 0-0/99999999999999999999999",
            "0-0/10",
            "bytes */10",
            "bytes -1-0/10",
        ] {
            assert_eq!(content_range(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn two_sizes_must_be_one() {
        assert!(matches!(agreed(Some(1), None), Ok(Some(1))));
        assert!(matches!(agreed(Some(1), Some(1)), Ok(Some(1))));
        assert!(agreed(Some(1), Some(2)).is_err());
    }
}
