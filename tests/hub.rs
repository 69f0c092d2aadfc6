//! A model fetched from a hub: against a small server on loopback that answers as the hub does.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use bitfit::files::sha256_bytes;
use bitfit::hub::{Hub, HubName};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server has and what it was asked.
#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// Files that are announced with a sha256 and then served from another path, as large ones are.
    large: BTreeMap<String, String>,
    needs_token: bool,
    requests: Vec<String>,
    tokens: Vec<Option<String>>,
}

struct Server {
    state: Arc<Mutex<State>>,
    endpoint: String,
}

impl Server {
    fn start(files: &[(&str, &[u8])]) -> Self {
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

    fn hub(&self, cache: &Path) -> Hub {
        Hub {
            endpoint: self.endpoint.clone(),
            cache: cache.to_path_buf(),
            token: None,
            offline: false,
            quiet: true,
        }
    }

    fn requests(&self) -> Vec<String> {
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
        return part(&state.files[name], range, String::new());
    }
    if state.needs_token && token.as_deref() != Some("Bearer secret") {
        return none("401 Unauthorized");
    }
    if path == "/api/models/org/tiny/revision/main" {
        let siblings: Vec<_> =
            state.files.keys().map(|name| serde_json::json!({"rfilename": name})).collect();
        let body = serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string();
        return ("200 OK", String::new(), body.into_bytes());
    }
    let Some(name) = path.strip_prefix(&format!("/org/tiny/resolve/{COMMIT}/")) else {
        return none("404 Not Found");
    };
    let Some(bytes) = state.files.get(name) else {
        return none("404 Not Found");
    };
    let commit = format!("X-Repo-Commit: {COMMIT}\r\n");
    match state.large.get(name) {
        // Another host in life; here the same server under its own name.
        Some(sha256) => {
            let extra = format!(
                "{commit}X-Linked-Etag: \"{sha256}\"\r\nETag: \"x\"\r\nLocation: http://{host}/cdn/{name}\r\n"
            );
            ("302 Found", extra, Vec::new())
        }
        None => part(bytes, range, format!("{commit}ETag: \"{}\"\r\n", &sha256_bytes(bytes)[..40])),
    }
}

fn part(bytes: &[u8], range: Option<&str>, extra: String) -> (&'static str, String, Vec<u8>) {
    let (from, to) =
        range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')).unwrap_or(("0", ""));
    let from: usize = from.parse().unwrap();
    let to = to.parse().map_or(bytes.len(), |to: usize| (to + 1).min(bytes.len()));
    let range = format!("Content-Range: bytes {from}-{}/{}\r\n", to.saturating_sub(1), bytes.len());
    ("206 Partial Content", extra + &range, bytes[from..to].to_vec())
}

const TINY: [(&str, &[u8]); 6] = [
    ("config.json", b"{\"model_type\": \"bert\"}"),
    ("tokenizer.json", b"{}"),
    ("model.safetensors", b"weights that are long enough for two ranges"),
    ("1_Pooling/config.json", b"{\"pooling_mode_mean_tokens\": true}"),
    ("README.md", b"not needed"),
    ("pytorch_model.bin", b"not needed"),
];

fn tiny() -> HubName {
    "org/tiny".parse().unwrap()
}

fn failure(hub: &Hub) -> String {
    bitfit::error::one_line(&hub.fetch(&tiny()).unwrap_err())
}

#[test]
fn a_model_is_fetched_once_and_only_what_is_needed() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(&TINY);
    let folder = server.hub(cache.path()).fetch(&tiny()).unwrap();
    assert_eq!(fs::read(folder.join("config.json")).unwrap(), TINY[0].1);
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), TINY[2].1);
    assert_eq!(fs::read(folder.join("1_Pooling/config.json")).unwrap(), TINY[3].1);
    assert!(!folder.join("pytorch_model.bin").exists() && !folder.join("README.md").exists());
    server.requests();

    assert_eq!(server.hub(cache.path()).fetch(&tiny()).unwrap(), folder);
    assert_eq!(server.requests(), ["/api/models/org/tiny/revision/main"]);
}

#[test]
fn what_is_cached_serves_offline_and_without_a_network() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(&TINY);
    let offline = Hub { offline: true, ..server.hub(cache.path()) };
    let message = failure(&offline);
    assert!(
        message.contains("not in the cache") && message.contains("HF_HUB_OFFLINE"),
        "{message}"
    );

    let folder = server.hub(cache.path()).fetch(&tiny()).unwrap();
    server.requests();
    assert_eq!(offline.fetch(&tiny()).unwrap(), folder);
    let by_commit = format!("org/tiny@{COMMIT}").parse().unwrap();
    assert_eq!(offline.fetch(&by_commit).unwrap(), folder);
    assert!(server.requests().is_empty());

    // A port that was free a moment ago: nobody listens.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable = Hub { endpoint: format!("http://{closed}"), ..server.hub(cache.path()) };
    assert_eq!(unreachable.fetch(&tiny()).unwrap(), folder);
    let empty = tempfile::tempdir().unwrap();
    let message = failure(&Hub { cache: empty.path().into(), ..unreachable });
    assert!(message.contains("cannot reach") && message.contains("check the network"), "{message}");
}

#[test]
fn the_token_is_sent_and_its_absence_explained() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(&TINY);
    server.state.lock().unwrap().needs_token = true;
    let message = failure(&server.hub(cache.path()));
    assert!(message.contains("refuses access") && message.contains("HF_TOKEN"), "{message}");
    assert_eq!(std::mem::take(&mut server.state.lock().unwrap().tokens), [None]);

    let with = Hub { token: Some("secret".into()), ..server.hub(cache.path()) };
    with.fetch(&tiny()).unwrap();
    let tokens = &server.state.lock().unwrap().tokens;
    assert!(tokens.iter().all(|token| token.as_deref() == Some("Bearer secret")), "{tokens:?}");
}

#[test]
fn an_unknown_model_or_revision_is_explained() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(&TINY);
    for name in ["org/other", "org/tiny@v9"] {
        let error = server.hub(cache.path()).fetch(&name.parse().unwrap()).unwrap_err();
        let line = bitfit::error::one_line(&error);
        assert!(line.contains(name) && line.contains("check the name"), "{line}");
    }
}

#[test]
fn shards_are_fetched_by_their_index() {
    let cache = tempfile::tempdir().unwrap();
    let index = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    let server = Server::start(&[
        TINY[0],
        ("vocab.txt", b"[PAD]"),
        ("model.safetensors.index.json", index),
        ("model-1.safetensors", b"one"),
        ("model-2.safetensors", b"two"),
    ]);
    let folder = server.hub(cache.path()).fetch(&tiny()).unwrap();
    assert_eq!(fs::read(folder.join("model-2.safetensors")).unwrap(), b"two");
    let offline = Hub { offline: true, ..server.hub(cache.path()) };
    assert_eq!(offline.fetch(&tiny()).unwrap(), folder);
    fs::remove_file(folder.join("model-1.safetensors")).unwrap();
    assert!(failure(&offline).contains("not in the cache"));
}

/// What another tool reads of the folder, or what `merge` copies from it, must be there too.
#[test]
fn a_tokenizer_is_fetched_with_all_of_its_files() {
    let old = [
        "vocab.txt",
        "added_tokens.json",
        "special_tokens_map.json",
        "tokenizer_config.json",
        "vocab.json",
        "merges.txt",
        "sentencepiece.bpe.model",
    ];
    let files: Vec<(&str, &[u8])> = old.iter().map(|&name| (name, name.as_bytes())).collect();
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(&[&files[..], &[TINY[0], TINY[2]]].concat());
    let folder = server.hub(cache.path()).fetch(&tiny()).unwrap();
    for name in old {
        assert_eq!(fs::read(folder.join(name)).ok().as_deref(), Some(name.as_bytes()), "{name}");
    }
}

#[test]
fn large_files_come_by_redirect_and_are_checked_against_their_hash() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(&TINY);
    let right = sha256_bytes(TINY[2].1);
    let announce = |sha256: String| {
        server.state.lock().unwrap().large.insert("model.safetensors".into(), sha256)
    };
    announce("0".repeat(64));
    let message = failure(&server.hub(cache.path()));
    assert!(message.contains("damaged") && message.contains(&right), "{message}");
    announce(right);
    let folder = server.hub(cache.path()).fetch(&tiny()).unwrap();
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), TINY[2].1);
}

#[test]
fn a_repository_without_what_is_needed_is_refused_before_any_download() {
    for (left_out, said) in [
        ("config.json", "no config.json"),
        ("model.safetensors", "no safetensors weights"),
        ("tokenizer.json", "no tokenizer"),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let files: Vec<_> = TINY.into_iter().filter(|(name, _)| *name != left_out).collect();
        let server = Server::start(&files);
        let message = failure(&server.hub(cache.path()));
        assert!(message.contains(said), "{message}");
        assert_eq!(server.requests().len(), 1);
    }
}
