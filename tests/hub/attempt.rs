//! A fetch from a server whose every answer a test gives, byte for byte; and what must be left after a refused one.

use bitfit::hub::{Event, Hub, HubName};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const COMMIT: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub const CONFIG: &[u8] = br#"{"model_type": "bert"}"#;

/// Raw bytes for each request, given the request and the server's port.
pub type Answers = dyn Fn(&Request) -> Vec<u8> + Send + Sync;

pub struct Request {
    pub path: String,
    pub range: Option<String>,
    pub token: Option<String>,
    pub port: u16,
}

impl Request {
    pub fn is_listing(&self) -> bool {
        self.path.starts_with("/api/")
    }
}

/// Serves `answers` and returns the port. Ends with the test's process.
pub fn serve(answers: Arc<Answers>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answers = Arc::clone(&answers);
            std::thread::spawn(move || answer(stream, port, &*answers));
        }
    });
    port
}

fn answer(mut stream: TcpStream, port: u16, answers: &Answers) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else {
        return;
    };
    let mut request = Request {
        path: first.split(' ').nth(1).unwrap_or("").to_string(),
        range: None,
        token: None,
        port,
    };
    for line in lines.map_while(Result::ok).take_while(|l| !l.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap_or(("", ""));
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = Some(value.to_string()),
            "authorization" => request.token = Some(value.to_string()),
            _ => {}
        }
    }
    let _ = stream.write_all(&answers(&request));
}

pub fn message(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// An honest list of three files.
pub fn listing() -> Vec<u8> {
    let names = ["config.json", "tokenizer.json", "model.safetensors"];
    let siblings = names.map(|name| serde_json::json!({"rfilename": name}));
    let body = serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string();
    message("200 OK", "", body.as_bytes())
}

/// An honest file.
pub fn file() -> Vec<u8> {
    let etag = super::server::git_sha1(CONFIG);
    message("200 OK", &format!("ETag: \"{etag}\"\r\n"), CONFIG)
}

pub struct Attempt {
    pub folder: tempfile::TempDir,
    pub cache: PathBuf,
    pub result: Result<PathBuf, String>,
    pub took: Duration,
    pub notes: Vec<String>,
}

impl Attempt {
    /// Fetches from `answers` with a token and a patience of one second.
    pub fn at(answers: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        let port = serve(Arc::new(answers));
        Self::of(folder, cache, port)
    }

    pub fn of(folder: tempfile::TempDir, cache: PathBuf, port: u16) -> Self {
        let hub = Hub {
            endpoint: format!("http://127.0.0.1:{port}"),
            cache: cache.clone(),
            token: Some("hf_SECRET".to_string()),
            offline: false,
            patience: Duration::from_secs(1),
        };
        let name: HubName = "org/name".parse().unwrap();
        let (begun, mut notes) = (Instant::now(), Vec::new());
        let result = hub
            .fetch(&name, &mut |event| {
                if let Event::Note(text) = event {
                    notes.push(text.to_string());
                }
            })
            .map_err(|error| bitfit::error::one_line(&error));
        Self { folder, cache, result, took: begun.elapsed(), notes }
    }

    /// It failed with these words, soon, and left no file or part of one anywhere.
    #[track_caller]
    pub fn is_refused(&self, case: &str, words: &[&str]) {
        let error = self.result.as_ref().expect_err(case);
        for word in words {
            assert!(error.contains(word), "{case}: no `{word}` in: {error}");
        }
        assert!(error.len() < 1000, "{case}: {error}");
        assert!(!error.chars().any(char::is_control), "{case}: {error:?}");
        assert!(!error.contains("SECRET"), "{case}: {error}");
        assert!(self.took < Duration::from_secs(6), "{case}: {:?}", self.took);
        let left: Vec<PathBuf> = files(self.folder.path())
            .into_iter()
            .filter(|path| path.extension().is_none_or(|end| end != "lock"))
            // A download that a hash will check is resumed.
            .filter(|path| !(path.ends_with(part_name()) && error.contains("bytes are kept")))
            .collect();
        assert!(left.is_empty(), "{case}: {left:?}");
        let inside = fs::read_dir(self.folder.path()).unwrap().flatten();
        for entry in inside {
            assert_eq!(entry.path(), self.cache, "{case}");
        }
    }
}

/// The name of [`CONFIG`] while it arrives.
fn part_name() -> String {
    format!("{}.incomplete", super::server::git_sha1(CONFIG))
}

/// All files and links below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}
