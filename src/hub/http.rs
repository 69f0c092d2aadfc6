//! One request, with limits on everything a server controls: redirects, headers, silence, speed, length. The token is
//! only sent to the endpoint's own scheme, host and port.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::http::header::{AUTHORIZATION, HeaderValue, LOCATION, RANGE};
use ureq::http::{HeaderMap, Uri};

use super::environment::Hub;
use super::names::{quoted, without_user};
use crate::error::UsageError;

const MOST_HOPS: usize = 5;
const MOST_HEADER_BYTES: usize = 1 << 16;
/// A body that delivers less than this within [`Hub::patience`] is abandoned.
const SLOWEST: u64 = 1 << 16;

/// Why there is no response, or no complete one. Messages are kept but causes are not: a broken connection must not
/// pass for a closed standard output.
#[derive(Debug)]
pub(super) enum Failure {
    /// No response.
    Silent {
        elsewhere: Elsewhere,
        why: String,
    },
    Status {
        elsewhere: Elsewhere,
        code: u16,
    },
    /// A response that no hub gives.
    Unlike(String),
    /// The body broke off.
    Broken(String),
    /// This machine could not keep what arrived.
    Local(String),
}

/// The scheme, host and port that a redirect led to, if not the endpoint. The rest of such an address is a key to the
/// file, and is not repeated.
pub(super) type Elsewhere = Option<String>;

/// Which bytes of a file are requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Whole,
    First,
    From(u64),
}

/// How far redirects are followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Follow {
    /// To the response that describes the file: at the latest the redirect that leaves the endpoint's own host.
    ToMetadata,
    Everywhere,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    body: ureq::Body,
    patience: Duration,
}

pub(super) struct Client {
    agent: Agent,
    endpoint: Uri,
    token: Option<HeaderValue>,
    patience: Duration,
}

impl Client {
    pub(super) fn new(hub: &Hub) -> Result<Self, UsageError> {
        let endpoint = address(&hub.endpoint).map_err(|why| {
            UsageError::new(format!(
                "HF_ENDPOINT {}: {why}; leave out user and password and set HF_TOKEN",
                quoted(&without_user(&hub.endpoint))
            ))
        })?;
        let bearer = |token: &String| -> Result<HeaderValue, UsageError> {
            let value = Some(token).filter(|token| token.is_ascii());
            let value = value.and_then(|t| HeaderValue::from_str(&format!("Bearer {t}")).ok());
            let mut value = value
                .ok_or_else(|| UsageError::new("HF_TOKEN has invalid characters; set it again"))?;
            value.set_sensitive(true);
            Ok(value)
        };
        let patience = Some(hub.patience);
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // Followed here, where it is known which host may see the token.
            .max_redirects(0)
            .max_response_header_size(MOST_HEADER_BYTES)
            .timeout_resolve(patience)
            .timeout_connect(patience)
            .timeout_send_request(patience)
            .timeout_recv_response(patience)
            .timeout_per_read(patience)
            .user_agent(concat!("bitfit/", env!("CARGO_PKG_VERSION")))
            // Sizes and hashes are those of the uncompressed file.
            .accept_encoding("identity")
            .build()
            .new_agent();
        Ok(Self {
            agent,
            endpoint,
            token: hub.token.as_ref().map(bearer).transpose()?,
            patience: hub.patience,
        })
    }

    /// The server's response for `url`: status 200 or 206, or the redirect at which `follow` stops.
    pub(super) fn get(&self, url: &str, asked: Asked, follow: Follow) -> Result<Answer, Failure> {
        let mut url = address(url).map_err(Failure::Unlike)?;
        for _ in 0..=MOST_HOPS {
            let answer = self.once(&url, asked)?;
            match answer.status {
                200 | 206 => return Ok(answer),
                300..=399 => {}
                code => return Err(Failure::Status { elsewhere: self.elsewhere(&url), code }),
            }
            let next = answer
                .text(LOCATION.as_str())?
                .ok_or_else(|| Failure::Unlike("a redirect to nowhere".to_string()))?;
            let next = onward(&url, next).map_err(|why| {
                let next = quoted(&without_user(next));
                Failure::Unlike(format!("a redirect to {next}: {why}"))
            })?;
            let says =
                answer.headers.contains_key("x-linked-etag") || !same_origin(&next, &self.endpoint);
            if follow == Follow::ToMetadata && says {
                return Ok(answer);
            }
            url = next;
        }
        Err(Failure::Unlike(format!("more than {MOST_HOPS} redirects")))
    }

    fn once(&self, url: &Uri, asked: Asked) -> Result<Answer, Failure> {
        let mut request = self.agent.get(url);
        request = match asked {
            Asked::Whole => request,
            Asked::First => request.header(RANGE, "bytes=0-0"),
            Asked::From(start) => request.header(RANGE, format!("bytes={start}-")),
        };
        if let Some(token) = &self.token
            && same_origin(url, &self.endpoint)
        {
            request = request.header(AUTHORIZATION, token.clone());
        }
        let response = request.call().map_err(|error| self.failure(&error, self.elsewhere(url)))?;
        let (parts, body) = response.into_parts();
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
            patience: self.patience,
        })
    }

    fn elsewhere(&self, url: &Uri) -> Elsewhere {
        let origin = || Some(format!("{}://{}", url.scheme_str()?, url.authority()?.as_str()));
        if same_origin(url, &self.endpoint) { None } else { origin() }
    }

    fn failure(&self, error: &ureq::Error, elsewhere: Elsewhere) -> Failure {
        use ureq::Error as E;
        match error {
            E::Timeout(_) => {
                let why = format!("no answer for {} s", self.patience.as_secs());
                Failure::Silent { elsewhere, why }
            }
            E::Io(_) | E::HostNotFound | E::ConnectionFailed | E::Tls(_) | E::Rustls(_) => {
                Failure::Silent { elsewhere, why: tame(&error.to_string()) }
            }
            other => {
                let who = elsewhere
                    .map_or(String::new(), |who| format!("{who}, the redirect's target: "));
                Failure::Unlike(who + &tame(&other.to_string()))
            }
        }
    }
}

impl Answer {
    /// A header's text; none if it is absent or empty.
    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Failure> {
        let mut values = self.headers.get_all(name).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.any(|other| other != value) {
            return Err(Failure::Unlike(format!("two different headers {name}")));
        }
        match value.to_str() {
            Ok(text) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
            Err(_) => Err(Failure::Unlike(format!(
                "a header {name} that is not text: {}",
                quoted(&String::from_utf8_lossy(value.as_bytes()))
            ))),
        }
    }

    /// Whether the body itself indicates where it ends.
    pub(super) fn is_chunked(&self) -> bool {
        matches!(self.text("transfer-encoding"), Ok(Some(text)) if text.eq_ignore_ascii_case("chunked"))
    }

    /// Passes the body to `take`, at most `most` bytes of it, in pieces.
    pub(super) fn read(
        self,
        most: u64,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let pieces = pieces(self.body);
        let (mut left, mut pace) = (most, Pace::new(self.patience));
        // The library's own limit applies to each of its reads, and triggers first if nothing arrives.
        let patience = 2 * self.patience;
        loop {
            let piece = match pieces.recv_timeout(patience) {
                Ok(Ok(piece)) if piece.is_empty() => return Ok(()),
                Ok(Ok(piece)) => piece,
                Ok(Err(error)) => return Err(Failure::Broken(tame(&error.to_string()))),
                Err(_) => {
                    let seconds = patience.as_secs();
                    return Err(Failure::Broken(format!("no data for {seconds} s")));
                }
            };
            let read = piece.len() as u64;
            left = left
                .checked_sub(read)
                .ok_or_else(|| Failure::Unlike(format!("a body of more than {most} bytes")))?;
            take(&piece).map_err(|error| Failure::Local(error.to_string()))?;
            pace.went_on(read)?;
        }
    }
}

/// A body piece by piece, with an empty piece at its end, from a separate thread: after a chunked body a server can
/// send headers endlessly, and the library reads them all before it returns. Such a thread is abandoned, since the
/// fetch fails.
fn pieces(body: ureq::Body) -> Receiver<io::Result<Vec<u8>>> {
    let (give, pieces) = sync_channel(1);
    std::thread::spawn(move || {
        let mut body = body.into_reader();
        loop {
            let mut piece = vec![0; 1 << 16];
            let read = match body.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read,
            };
            let more = matches!(read, Ok(1..));
            let piece = read.map(|read| {
                piece.truncate(read);
                piece
            });
            if give.send(piece).is_err() || !more {
                return;
            }
        }
    });
    pieces
}

/// Enforces a minimum speed on a body: one byte now and then would keep a reader forever.
struct Pace {
    patience: Duration,
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn new(patience: Duration) -> Self {
        Self { patience, since: Instant::now(), bytes: 0 }
    }

    fn went_on(&mut self, read: u64) -> Result<(), Failure> {
        self.bytes += read;
        let passed = self.since.elapsed();
        if passed < self.patience {
            return Ok(());
        }
        if self.bytes < SLOWEST {
            let (bytes, seconds) = (self.bytes, passed.as_secs());
            return Err(Failure::Broken(format!("only {bytes} bytes in {seconds} s")));
        }
        (self.since, self.bytes) = (Instant::now(), 0);
        Ok(())
    }
}

/// An acceptable address: http or https, a host, no user name before it.
fn address(text: &str) -> Result<Uri, String> {
    let uri: Uri = text.parse().map_err(|_| "not a web address".to_string())?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    let host = uri.host().unwrap_or("");
    let plain = uri.authority().is_some_and(|authority| {
        let alone = authority.as_str() == host;
        !authority.as_str().contains('@') && (alone || authority.port_u16().is_some())
    });
    if known && !host.is_empty() && plain {
        Ok(uri)
    } else {
        Err("not an address of the form https://host/".to_string())
    }
}

/// Where a redirect leads from `base`: a full address, or a path on the same host. Encrypted connections stay
/// encrypted.
fn onward(base: &Uri, location: &str) -> Result<Uri, String> {
    let next = if location.starts_with('/') && !location.starts_with("//") {
        let (scheme, host) = (base.scheme_str(), base.authority());
        let host = host.map_or("", |authority| authority.as_str());
        address(&format!("{}://{host}{location}", scheme.unwrap_or("https")))?
    } else {
        address(location)?
    };
    if base.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
        return Err("it leaves https".to_string());
    }
    Ok(next)
}

/// Whether both have the same scheme, host and port.
fn same_origin(a: &Uri, b: &Uri) -> bool {
    let origin = |uri: &Uri| {
        let usual = match uri.scheme_str() {
            Some("https") => 443,
            _ => 80,
        };
        (
            uri.scheme_str().map(str::to_ascii_lowercase),
            uri.host().map(str::to_ascii_lowercase),
            uri.port_u16().unwrap_or(usual),
        )
    };
    origin(a) == origin(b)
}

/// A library's message without control characters, since it may contain parts of a response.
fn tame(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_leads_to_an_address_or_a_path_and_never_out_of_https() {
        let base = address("https://hub.test:8443/a/b?c").unwrap();
        let to = |location: &str| onward(&base, location).map(|uri| uri.to_string());
        assert_eq!(to("/x?y").unwrap(), "https://hub.test:8443/x?y");
        assert_eq!(to("https://cdn.test/x").unwrap(), "https://cdn.test/x");
        for wrong in [
            "http://cdn.test/x",
            "//cdn.test/x",
            "?x",
            "*",
            "x/y",
            "file:///etc/passwd",
            "https://",
            "https://u:p@cdn.test/",
            "/a b",
            "/\u{1}",
            "https://cdn.test:99999/",
        ] {
            assert!(to(wrong).is_err(), "{wrong}: {:?}", to(wrong));
        }
    }

    #[test]
    fn the_same_origin_is_the_same_scheme_host_and_port() {
        let same = |a: &str, b: &str| same_origin(&address(a).unwrap(), &address(b).unwrap());
        assert!(same("https://HUB.test/a", "https://hub.test:443/b"));
        for other in [
            "http://hub.test/",
            "https://hub.test:444/",
            "https://cdn.hub.test/",
            "https://hub.test.evil/",
        ] {
            assert!(!same("https://hub.test/", other), "{other}");
        }
    }
}
