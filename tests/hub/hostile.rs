//! A hub that tries to write elsewhere, to read the token, to keep its client forever, or to crash it.

use crate::attempt::{Attempt, COMMIT, CONFIG, Request, file, listing, message, serve};
use crate::server::git_sha1;
use proptest::prelude::*;
use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[test]
fn nothing_from_a_header_becomes_a_path() {
    let elsewhere = tempfile::tempdir().unwrap();
    let outside = elsewhere.path().join("owned");
    let climbing = format!("{}{}", "../".repeat(16), outside.display());
    let absolute = outside.display().to_string();
    let names = [
        climbing.as_str(),
        absolute.as_str(),
        "..",
        ".",
        "",
        "a%00b",
        "a/b",
        "a\\b",
        "x.lock",
        "a b",
        &"e".repeat(5000),
        "a\u{1b}[2J",
    ];
    for name in names {
        for header in ["ETag", "X-Linked-ETag", "X-Repo-Commit"] {
            // An empty commit means that none is given.
            if header == "X-Repo-Commit" && name.is_empty() {
                continue;
            }
            let etag = git_sha1(CONFIG);
            let headers = match header {
                "X-Repo-Commit" => format!("ETag: \"{etag}\"\r\nX-Repo-Commit: {name}\r\n"),
                // An empty linked ETag leaves the other.
                "X-Linked-ETag" if name.is_empty() => "X-Linked-ETag: \"\"\r\n".to_string(),
                header => format!("{header}: \"{name}\"\r\n"),
            };
            let attempt = Attempt::at(move |request| match request.is_listing() {
                true => listing(),
                false => message("200 OK", &headers, CONFIG),
            });
            attempt.is_refused(&format!("{header} {name:?}"), &["does not answer like a hub"]);
        }
    }
    assert!(!outside.exists());
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[test]
fn nothing_from_a_list_or_an_index_becomes_a_path() {
    let elsewhere = tempfile::tempdir().unwrap();
    let outside = elsewhere.path().join("owned").display().to_string();
    for sha in [&outside, "../../x", "", "main", &"a".repeat(100_000)] {
        let body = serde_json::json!({"sha": sha, "siblings": []}).to_string();
        Attempt::at(move |_| message("200 OK", "", body.as_bytes()))
            .is_refused(sha, &["does not answer like a hub", "no commit"]);
    }
    for shard in [outside.as_str(), "../../evil.safetensors", ".hidden", "a/b"] {
        let index = serde_json::json!({"weight_map": {"a": shard}}).to_string();
        let attempt = Attempt::at(move |request| {
            let names =
                ["config.json", "tokenizer.json", "model.safetensors.index.json", "a/../../b"];
            let siblings = names.map(|name| serde_json::json!({"rfilename": name}));
            let list = serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string();
            let etag = git_sha1(index.as_bytes());
            match request.path.as_str() {
                path if path.starts_with("/api/") => message("200 OK", "", list.as_bytes()),
                path if path.ends_with("index.json") => {
                    message("200 OK", &format!("ETag: \"{etag}\"\r\n"), index.as_bytes())
                }
                _ => file(),
            }
        });
        let error = attempt.result.expect_err(shard);
        assert!(error.contains("not a plain file name"), "{error}");
    }
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

/// Another port is another origin, just like another host.
#[test]
fn the_token_stays_with_the_endpoint_s_own_host() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let other = serve(Arc::new(move |request: &Request| {
        log.lock().unwrap().push(request.token.clone());
        let whole = git_sha1(CONFIG);
        message("200 OK", &format!("ETag: \"{whole}\"\r\n"), CONFIG)
    }));
    for host in ["127.0.0.1", "localhost"] {
        let attempt = Attempt::at(move |request| match request.is_listing() {
            true => listing(),
            false => {
                assert_eq!(request.token.as_deref(), Some("Bearer hf_SECRET"));
                let etag = git_sha1(CONFIG);
                let headers = format!(
                    "ETag: \"{etag}\"\r\nLocation: http://{host}:{other}{}\r\n",
                    request.path
                );
                message("302 Found", &headers, b"")
            }
        });
        attempt.result.unwrap();
    }
    let seen = seen.lock().unwrap();
    assert_eq!(*seen, vec![None; 2], "three files of one content, on two hosts");
}

#[test]
fn a_redirect_must_lead_somewhere_and_not_in_circles() {
    let etag = format!("ETag: \"{}\"\r\n", git_sha1(CONFIG));
    for (location, words) in [
        ("", "a redirect to nowhere"),
        ("Location: ?x\r\n", "a redirect to"),
        ("Location: *\r\n", "a redirect to"),
        ("Location: file:///etc/passwd\r\n", "a redirect to"),
        ("Location: //127.0.0.1/x\r\n", "a redirect to"),
        ("Location: http://u:p@127.0.0.1/x\r\n", "a redirect to"),
        ("Location: \u{1b}[2J\r\n", "does not answer like a hub"),
        ("Location: /round\r\n", "more than 5 redirects"),
    ] {
        for status in ["301 x", "302 x", "307 x", "308 x", "300 x"] {
            let headers = format!("{etag}{location}");
            Attempt::at(move |request| match request.is_listing() {
                true => listing(),
                false => message(status, &headers, b""),
            })
            .is_refused(location, &["does not answer like a hub", words]);
            let headers = format!("{etag}{location}");
            Attempt::at(move |_| message(status, &headers, b""))
                .is_refused(location, &["does not answer like a hub", words]);
        }
    }
    // In circles over two hosts, once the file is fetched.
    let attempt = Attempt::at(|request| match request.is_listing() {
        true => listing(),
        false => {
            let etag = git_sha1(CONFIG);
            let to = format!("http://localhost:{}{}", request.port, request.path);
            let headers = format!("ETag: \"{etag}\"\r\nLocation: {to}\r\n");
            message("302 Found", &headers, b"")
        }
    });
    attempt.is_refused("two hosts", &["more than 5 redirects"]);
}

/// The endpoint answers; the host behind it is the one to check.
#[test]
fn a_host_that_a_redirect_leads_to_is_named_where_it_fails_and_its_key_is_not() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let refusing = serve(Arc::new(|_: &Request| message("403 Forbidden", "", b"")));
    let odd = serve(Arc::new(|_: &Request| b"what?\r\n\r\n".to_vec()));
    for (port, words) in [
        (closed, "which cannot be reached"),
        (refusing, "which answers with status 403"),
        (odd, "the redirect's target"),
    ] {
        let attempt = Attempt::at(move |request| match request.is_listing() {
            true => listing(),
            false => {
                let etag = git_sha1(CONFIG);
                let to = format!("http://localhost:{port}/x?key=SECRET");
                message("302 Found", &format!("ETag: \"{etag}\"\r\nLocation: {to}\r\n"), b"")
            }
        });
        let error = attempt.result.unwrap_err();
        assert!(error.contains(&format!("http://localhost:{port}")), "{error}");
        assert!(error.contains(words), "{error}");
        assert!(!error.contains("SECRET") && !error.contains("HF_TOKEN"), "{error}");
        let listed = Attempt::at(move |_| {
            let to = format!("Location: http://localhost:{port}/x?key=SECRET\r\n");
            message("302 Found", &to, b"")
        });
        let error = listed.result.unwrap_err();
        assert!(error.contains(words) && !error.contains("SECRET"), "{error}");
    }
}

/// Heads that are not HTTP, of every kind that may trip a parser: all end in an error, for the list and for a file.
#[test]
fn an_answer_that_is_no_http_is_an_error() {
    let etag = format!("ETag: \"{}\"\r\n", git_sha1(CONFIG));
    let endless_header = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1 << 20));
    let many_headers = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(20_000));
    let many_100 = "HTTP/1.1 100 Continue\r\n\r\n".repeat(20_000);
    let heads: Vec<String> = [
        "",
        "\r\n",
        "\0\0\0\0",
        "<html>",
        "HTTP/1.1 099 x\r\n\r\n",
        "HTTP/1.1 000 x\r\n\r\n",
        "HTTP/1.1 999 x\r\n\r\n",
        "HTTP/1.1 -1 x\r\n\r\n",
        "HTTP/1.1 20 x\r\n\r\n",
        "HTTP/9.9 200 x\r\n\r\n",
        "HTTP/1.1 200",
        "HTTP/1.1 204 x\r\n\r\n",
        "HTTP/1.1 304 x\r\n\r\n",
        "HTTP/1.1 101 x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nab",
        "HTTP/1.1 200 OK\r\n: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA\0: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab",
    ]
    .map(str::to_string)
    .into_iter()
    .chain([endless_header, many_headers, many_100])
    .collect();
    for head in heads {
        let case: String = head.chars().take(60).collect();
        let raw = head.clone().into_bytes();
        Attempt::at(move |_| raw.clone()).is_refused(&case, &[]);
        let raw = head.replacen("\r\n", &format!("\r\n{etag}"), 1).into_bytes();
        Attempt::at(move |request| match request.is_listing() {
            true => listing(),
            false => raw.clone(),
        })
        .is_refused(&case, &[]);
    }
}

#[test]
fn a_list_that_is_none_is_refused() {
    let deep = "[".repeat(1_000_000);
    let long = format!(r#"{{"sha": "{}"}}"#, "\u{1b}".repeat(100));
    for body in ["<html>", r#"{"sha": null, "siblings": null}"#, "", "{}", "[]", &deep, &long] {
        let body = body.as_bytes().to_vec();
        Attempt::at(move |_| message("200 OK", "", &body))
            .is_refused("list", &["does not answer like a hub"]);
    }
    // 20 MB of a list that never ends.
    let endless = format!(r#"{{"siblings": [{}"#, "0,".repeat(10 << 20));
    Attempt::at(move |_| message("200 OK", "", endless.as_bytes()))
        .is_refused("endless", &["does not answer like a hub", "more than 16777216 bytes"]);
}

#[test]
fn sizes_that_contradict_each_other_are_refused() {
    let etag = format!("ETag: \"{}\"\r\n", git_sha1(CONFIG));
    for (status, headers) in [
        ("200 OK", "X-Linked-Size: 23\r\n"),
        ("200 OK", "X-Linked-Size: -1\r\n"),
        ("200 OK", "X-Linked-Size: 99999999999999999999999\r\n"),
        ("206 x", "Content-Range: bytes 0-0/10\r\n"),
        ("206 x", "Content-Range: bytes 0-0/4611686018427387904\r\n"),
        ("206 x", "Content-Range: bytes 0-0/-5\r\n"),
        ("206 x", "Content-Range: bytes 0-0/x\r\n"),
        ("206 x", "Content-Range: bytes 5-1/22\r\n"),
    ] {
        let headers = format!("{etag}{headers}");
        Attempt::at(move |request| match request.is_listing() {
            true => listing(),
            false => message(status, &headers, CONFIG),
        })
        .is_refused(status, &["does not answer like a hub"]);
    }
}

/// Silence, or an occasional byte: both end in bounded time.
#[test]
fn a_hub_that_keeps_its_client_waiting_is_given_up() {
    let etag = format!("ETag: \"{}\"\r\n", git_sha1(CONFIG));
    let hang = |_: &Request| {
        std::thread::sleep(Duration::from_secs(60));
        Vec::new()
    };
    Attempt::at(hang).is_refused("list", &["cannot reach", "no answer"]);
    Attempt::at(move |request| match request.is_listing() {
        true => listing(),
        false => hang(request),
    })
    .is_refused("file", &["cannot fetch config.json", "no answer"]);

    // Headers or a body that drip: written here, piece by piece.
    for (head, least) in
        [("HTTP/1.1 200 OK\r\nX: ", ""), ("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n", "\r\n")]
    {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let head = format!("{head}{least}");
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.write_all(head.as_bytes());
                while stream.write_all(b"x").is_ok() {
                    std::thread::sleep(Duration::from_millis(300));
                }
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        Attempt::of(folder, cache, port).is_refused(&format!("drip {least:?}"), &[]);
    }
    // A file's body that stops: none of it can be continued under this ETag.
    Attempt::at(move |request| match (request.is_listing(), &request.range) {
        (true, _) => listing(),
        (_, Some(_)) => message("206 x", "ETag: \"name\"\r\nContent-Range: bytes 0-0/22\r\n", b"x"),
        _ => format!("HTTP/1.1 200 OK\r\n{etag}Content-Length: 22\r\n\r\nabc").into_bytes(),
    })
    .is_refused("cut", &["arrived damaged", "the partial download was removed"]);
}

/// The size is known only from the first request; the body ends where the connection does.
#[test]
fn a_small_file_cut_short_is_not_kept() {
    for (etag, words) in
        [(git_sha1(CONFIG), "bytes are kept"), ("no-hash".to_string(), "arrived damaged")]
    {
        let attempt = Attempt::at(move |request| match (request.is_listing(), &request.range) {
            (true, _) => listing(),
            (_, Some(_)) => {
                let headers = format!("ETag: \"{etag}\"\r\nContent-Range: bytes 0-0/22\r\n");
                message("206 x", &headers, &CONFIG[..1])
            }
            _ => [
                format!("HTTP/1.1 200 OK\r\nETag: \"{etag}\"\r\nConnection: close\r\n\r\n")
                    .as_bytes(),
                &CONFIG[..11],
            ]
            .concat(),
        });
        let error = attempt.result.unwrap_err();
        assert!(error.contains(words) && error.contains("11 of 22 bytes"), "{error}");
        assert!(!attempt.cache.join("models--org--name/snapshots").exists());
    }
    // Neither a size nor a hash anywhere.
    Attempt::at(|request| match request.is_listing() {
        true => listing(),
        false => b"HTTP/1.1 200 OK\r\nETag: \"x\"\r\nConnection: close\r\n\r\n{}".to_vec(),
    })
    .is_refused("no size", &["so it cannot be checked"]);
}

#[test]
fn a_body_without_end_is_cut_at_what_was_announced() {
    let attempt = Attempt::at(|request| match (request.is_listing(), &request.range) {
        (true, _) => listing(),
        (_, Some(_)) => message("206 x", "ETag: \"x\"\r\nContent-Range: bytes 0-0/22\r\n", b"x"),
        _ => {
            let mut body = b"HTTP/1.1 200 OK\r\nETag: \"x\"\r\nConnection: close\r\n\r\n".to_vec();
            body.resize(10 << 20, b'x');
            body
        }
    });
    attempt.is_refused("endless", &["a body of more than 22 bytes"]);
}

#[test]
fn notes_of_an_honest_fetch_are_none() {
    let attempt = Attempt::at(|request| match request.is_listing() {
        true => listing(),
        false => file(),
    });
    assert!(attempt.result.is_ok(), "{:?}", attempt.result);
    assert_eq!(attempt.notes, Vec::<String>::new());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever comes, the client returns with a message about it, and nothing is outside the cache.
    #[test]
    fn a_mutated_answer_never_panics(
        cut in 0usize..400,
        at in 0usize..400,
        bytes in prop::collection::vec(any::<u8>(), 0..6),
        in_list in any::<bool>(),
    ) {
        let attempt = Attempt::at(move |request| {
            let mut answer = if request.is_listing() { listing() } else { file() };
            if request.is_listing() == in_list {
                let at = at.min(answer.len());
                let end = (at + bytes.len()).min(answer.len());
                answer.splice(at..end, bytes.iter().copied());
                answer.truncate(answer.len().saturating_sub(cut / 8));
            }
            answer
        });
        prop_assert!(attempt.took < Duration::from_secs(8));
        for entry in fs::read_dir(attempt.folder.path()).unwrap().flatten() {
            prop_assert_eq!(entry.path(), attempt.cache.clone());
        }
    }
}

/// They are read after the last piece of a body, before the library returns.
#[test]
fn headers_without_end_behind_a_body_are_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n";
                let _ = stream.write_all(head.as_bytes());
                let trailer = format!("X-A: {}\r\n", "y".repeat(1000));
                let begun = std::time::Instant::now();
                while begun.elapsed() < Duration::from_secs(20)
                    && stream.write_all(trailer.as_bytes()).is_ok()
                {}
            });
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    Attempt::of(folder, cache, port).is_refused("trailers", &["no data for 2 s"]);
}

/// Someone who shares the cache may have put a link or a pipe there.
#[cfg(unix)]
#[test]
fn no_link_in_the_cache_is_written_through() {
    for name in ["blobs/ETAG.incomplete", ".locks/models--org--name/ETAG.lock"] {
        for there in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let outside = tempfile::tempdir().unwrap();
            let victim = outside.path().join("victim");
            if there {
                fs::write(&victim, "kept").unwrap();
            }
            let cache = folder.path().join("cache");
            let name = name.replace("ETAG", &git_sha1(CONFIG));
            let link = match name.strip_prefix("blobs") {
                Some(_) => cache.join("models--org--name").join(&name),
                None => cache.join(&name),
            };
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(&victim, &link).unwrap();
            let port = serve(Arc::new(|request: &Request| match request.is_listing() {
                true => listing(),
                false => file(),
            }));
            let attempt = Attempt::of(folder, cache, port);
            assert!(attempt.result.is_err(), "{name}");
            let left = fs::read_to_string(&victim).ok();
            assert_eq!(left.as_deref(), there.then_some("kept"), "{name}");
        }
    }
}

#[test]
fn a_small_file_that_is_announced_as_a_huge_one_is_not_fetched() {
    let etag = git_sha1(CONFIG);
    let attempt = Attempt::at(move |request| match request.is_listing() {
        true => listing(),
        false => {
            let headers = format!("ETag: \"{etag}\"\r\nContent-Range: bytes 0-0/8589934592\r\n");
            message("206 x", &headers, b"x")
        }
    });
    attempt.is_refused("huge", &["a file of 8589934592 bytes"]);
}
