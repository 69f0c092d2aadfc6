//! A hub that answers with the input: the bytes between two NULs answer one request. In them `{hub}` stands for the hub's
//! own address, and `{other}` for the same server under another name.

use super::tame;
use bitfit::hub::Hub;
use std::collections::VecDeque;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

const TOKEN: &str = "hf_secret";

struct Server {
    port: u16,
    answers: Mutex<VecDeque<Vec<u8>>>,
    /// The token was sent to the other name.
    leaked: Mutex<bool>,
}

static SERVER: LazyLock<&Server> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server: &Server =
        Box::leak(Box::new(Server { port, answers: Mutex::default(), leaked: Mutex::default() }));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            server.answer(stream);
        }
    });
    server
});

impl Server {
    /// Answers one request per connection.
    fn answer(&self, mut stream: TcpStream) {
        let mut request = Vec::new();
        let mut piece = [0; 4096];
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut piece) {
                Ok(read @ 1..) => request.extend_from_slice(&piece[..read]),
                _ => return,
            }
        }
        let request = String::from_utf8_lossy(&request).to_ascii_lowercase();
        if request.contains("host: localhost") && request.contains(TOKEN) {
            *self.leaked.lock().unwrap() = true;
        }
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or_default();
        let _ = stream.write_all(&answer);
    }
}

pub fn answers(data: &[u8], folder: &Path) -> Option<()> {
    let server = *SERVER;
    let (hub, other) = (format!("127.0.0.1:{}", server.port), format!("localhost:{}", server.port));
    let text = String::from_utf8_lossy(data).replace("{hub}", &hub).replace("{other}", &other);
    // No input may send requests to another machine.
    let here = |rest: &str| {
        let rest = rest.strip_prefix(&hub).or(rest.strip_prefix(&other));
        rest.is_some_and(|rest| rest.starts_with(['/', '\r', '\n']))
    };
    if !text.split("//").skip(1).all(here) {
        return None;
    }
    *server.answers.lock().unwrap() =
        text.split('\0').map(|part| part.as_bytes().to_vec()).collect();

    let around = folder.join("around");
    let _ = fs::remove_dir_all(&around);
    let cache = around.join("cache");
    fs::create_dir_all(&cache).unwrap();
    let client = Hub {
        endpoint: format!("http://{hub}"),
        cache: cache.clone(),
        token: Some(TOKEN.to_owned()),
        offline: false,
        patience: Duration::from_millis(300),
    };
    let fetched = tame(client.fetch(&"org/name".parse().unwrap(), &mut |_| ()));
    assert!(!*server.leaked.lock().unwrap(), "the token went to another host");
    assert_eq!(fs::read_dir(&around).unwrap().count(), 1, "something is outside the cache");
    plain(&cache, &cache);
    fetched.map(drop)
}

/// Checks that every name in the cache is a plain one, and that every link leads into the cache.
fn plain(folder: &Path, cache: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().expect("a name in ASCII");
        let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        assert!(name.bytes().all(safe), "{name:?}");
        if path.is_symlink() {
            let to = fs::canonicalize(&path).expect("a link that leads somewhere");
            assert!(to.starts_with(fs::canonicalize(cache).unwrap()), "{path:?} leads to {to:?}");
        } else if path.is_dir() {
            plain(&path, cache);
        }
    }
}
