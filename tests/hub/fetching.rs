//! What a fetch brings, and what it says if there is nothing to fetch.

use crate::server::{COMMIT, Server, TINY, failure, tiny};
use bitfit::files::sha256_bytes;
use bitfit::hub::Hub;
use std::fs;
use std::net::TcpListener;

#[test]
fn a_model_is_fetched_once_and_only_what_is_needed() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(&TINY);
    let folder = server.hub(cache.path()).fetch(&tiny(), &mut |_| ()).unwrap();
    assert_eq!(fs::read(folder.join("config.json")).unwrap(), TINY[0].1);
    assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), TINY[2].1);
    assert_eq!(fs::read(folder.join("1_Pooling/config.json")).unwrap(), TINY[3].1);
    assert!(!folder.join("pytorch_model.bin").exists() && !folder.join("README.md").exists());
    server.requests();

    assert_eq!(server.hub(cache.path()).fetch(&tiny(), &mut |_| ()).unwrap(), folder);
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

    let folder = server.hub(cache.path()).fetch(&tiny(), &mut |_| ()).unwrap();
    server.requests();
    assert_eq!(offline.fetch(&tiny(), &mut |_| ()).unwrap(), folder);
    let by_commit = format!("org/tiny@{COMMIT}").parse().unwrap();
    assert_eq!(offline.fetch(&by_commit, &mut |_| ()).unwrap(), folder);
    assert!(server.requests().is_empty());

    // A port that was free a moment ago: nothing listens.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable = Hub { endpoint: format!("http://{closed}"), ..server.hub(cache.path()) };
    assert_eq!(unreachable.fetch(&tiny(), &mut |_| ()).unwrap(), folder);
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
    with.fetch(&tiny(), &mut |_| ()).unwrap();
    let tokens = &server.state.lock().unwrap().tokens;
    assert!(tokens.iter().all(|token| token.as_deref() == Some("Bearer secret")), "{tokens:?}");
}

#[test]
fn an_unknown_model_or_revision_is_explained() {
    let cache = tempfile::tempdir().unwrap();
    let server = Server::start(&TINY);
    for name in ["org/other", "org/tiny@v9"] {
        let error =
            server.hub(cache.path()).fetch(&name.parse().unwrap(), &mut |_| ()).unwrap_err();
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
    let folder = server.hub(cache.path()).fetch(&tiny(), &mut |_| ()).unwrap();
    assert_eq!(fs::read(folder.join("model-2.safetensors")).unwrap(), b"two");
    let offline = Hub { offline: true, ..server.hub(cache.path()) };
    assert_eq!(offline.fetch(&tiny(), &mut |_| ()).unwrap(), folder);
    fs::remove_file(folder.join("model-1.safetensors")).unwrap();
    assert!(failure(&offline).contains("not in the cache"));
}

/// Files that another tool reads from the folder, or that `merge` copies from it, must be there too.
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
    let folder = server.hub(cache.path()).fetch(&tiny(), &mut |_| ()).unwrap();
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
    let folder = server.hub(cache.path()).fetch(&tiny(), &mut |_| ()).unwrap();
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
