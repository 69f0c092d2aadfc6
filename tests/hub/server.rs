//! A small server on loopback that answers like the hub.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bitfit::hub::{Hub, HubName};
use sha1::{Digest, Sha1};

/// The server's data set.
pub const SET: &str = "nyu-mll/glue";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server has and the requests it got.
#[derive(Default)]
pub struct State {
    pub files: BTreeMap<String, Vec<u8>>,
    /// Files that are announced with a sha256 and then served from another path, like large ones.
    pub large: BTreeMap<String, String>,
    pub needs_token: bool,
    /// The revision of these files, for a data set's; a model's are those of `main`.
    pub revision: Option<String>,
    /// Whole files, whatever part is requested.
    pub no_ranges: bool,
    pub requests: Vec<String>,
    pub ranges: Vec<String>,
    pub tokens: Vec<Option<String>>,
}

pub struct Server {
    pub state: Arc<Mutex<State>>,
    pub endpoint: String,
}

impl Server {
    pub fn start(files: &[(&str, &[u8])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let files = files.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec())).collect();
        let state = Arc::new(Mutex::new(State { files, ..State::default() }));
        let shared = Arc::clone(&state);
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || answer(stream, &shared));
            }
        });
        Self { state, endpoint }
    }

    pub fn hub(&self, cache: &Path) -> Hub {
        Hub {
            endpoint: self.endpoint.clone(),
            cache: cache.to_path_buf(),
            token: None,
            offline: false,
            patience: Duration::from_secs(10),
        }
    }

    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut first = String::new();
    if reader.read_line(&mut first).is_err() {
        return;
    }
    let path = first.split(' ').nth(1).unwrap_or("").to_string();
    let mut headers = BTreeMap::new();
    for line in reader.lines().map_while(Result::ok).take_while(|line| !line.is_empty()) {
        if let Some((name, value)) = line.split_once(": ") {
            headers.insert(name.to_ascii_lowercase(), value.to_string());
        }
    }
    let mut state = state.lock().unwrap();
    let token = headers.get("authorization").cloned();
    state.requests.push(path.clone());
    state.tokens.push(token.clone());
    state.ranges.extend(headers.get("range").cloned());
    let (status, extra, body) = respond(
        &state,
        &path,
        headers.get("host").map_or("", String::as_str),
        token,
        headers.get("range").map(String::as_str),
    );
    drop(state);
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{extra}\r\n"
    );
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

/// Status line, more header lines, body.
fn respond(
    state: &State,
    path: &str,
    host: &str,
    token: Option<String>,
    range: Option<&str>,
) -> (&'static str, String, Vec<u8>) {
    let none = |status| (status, String::new(), Vec::new());
    if let Some(name) = path.strip_prefix("/cdn/") {
        let bytes = &state.files[name];
        return match state.no_ranges {
            true => ("200 OK", String::new(), bytes.clone()),
            false => part(bytes, range, String::new()),
        };
    }
    if state.needs_token && token.as_deref() != Some("Bearer secret") {
        return none("401 Unauthorized");
    }
    let revision = state.revision.as_deref().unwrap_or("main").replace('/', "%2F");
    let other = format!("/api/datasets/{SET}/revision/main");
    if path == other && revision != "main" {
        let body = serde_json::json!({"sha": COMMIT, "siblings": [{"rfilename": "glue.py"}]});
        return ("200 OK", String::new(), body.to_string().into_bytes());
    }
    if path == "/api/models/org/tiny/revision/main"
        || path == format!("/api/datasets/{SET}/revision/{revision}")
    {
        let siblings: Vec<_> =
            state.files.keys().map(|name| serde_json::json!({"rfilename": name})).collect();
        let body = serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string();
        return ("200 OK", String::new(), body.into_bytes());
    }
    let name = path.strip_prefix(&format!("/org/tiny/resolve/{COMMIT}/"));
    let of_set = path.strip_prefix(&format!("/datasets/{SET}/resolve/{COMMIT}/"));
    let Some(name) = name.or(of_set) else {
        return none("404 Not Found");
    };
    let Some(bytes) = state.files.get(name) else {
        return none("404 Not Found");
    };
    let commit = format!("X-Repo-Commit: {COMMIT}\r\n");
    match state.large.get(name) {
        // In reality another host; here the same server under its own name.
        Some(sha256) => {
            let extra = format!(
                "{commit}X-Linked-Etag: \"{sha256}\"\r\nX-Linked-Size: {}\r\nETag: \"x\"\r\nLocation: http://{host}/cdn/{name}\r\n",
                bytes.len()
            );
            ("302 Found", extra, Vec::new())
        }
        None => part(bytes, range, format!("{commit}ETag: \"{}\"\r\n", git_sha1(bytes))),
    }
}

fn part(bytes: &[u8], range: Option<&str>, extra: String) -> (&'static str, String, Vec<u8>) {
    let (from, to) =
        range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')).unwrap_or(("0", ""));
    let from: usize = from.parse().unwrap();
    let to = to.parse().map_or(bytes.len(), |to: usize| (to + 1).min(bytes.len()));
    if from >= bytes.len() {
        return ("416 Range Not Satisfiable", String::new(), Vec::new());
    }
    let range = format!("Content-Range: bytes {from}-{}/{}\r\n", to.saturating_sub(1), bytes.len());
    ("206 Partial Content", extra + &range, bytes[from..to].to_vec())
}

/// Git's name for this content.
pub fn git_sha1(bytes: &[u8]) -> String {
    let mut hasher = Sha1::new_with_prefix(format!("blob {}\0", bytes.len()));
    hasher.update(bytes);
    bitfit::files::hex(&hasher.finalize())
}

pub const TINY: [(&str, &[u8]); 6] = [
    ("config.json", b"{\"model_type\": \"bert\"}"),
    ("tokenizer.json", b"{}"),
    ("model.safetensors", b"weights that are long enough for two ranges"),
    ("1_Pooling/config.json", b"{\"pooling_mode_mean_tokens\": true}"),
    ("README.md", b"not needed"),
    ("pytorch_model.bin", b"not needed"),
];

pub fn tiny() -> HubName {
    "org/tiny".parse().unwrap()
}

pub fn failure(hub: &Hub) -> String {
    bitfit::error::one_line(&hub.fetch(&tiny(), &mut |_| ()).unwrap_err())
}
