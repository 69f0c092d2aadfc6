//! Downloads that broke off, that two processes want, and that are damaged in the cache.

use crate::server::{COMMIT, Server, TINY, failure, tiny};
use bitfit::files::sha256_bytes;
use bitfit::hub::Event;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const WEIGHTS: &[u8] = TINY[2].1;

/// A server that has the weights as a large file, and the paths of its blob and its partial download.
fn large(cache: &Path) -> (Server, PathBuf, PathBuf) {
    let server = Server::start(&TINY);
    let sha256 = sha256_bytes(WEIGHTS);
    let announced = sha256.clone();
    server.state.lock().unwrap().large.insert("model.safetensors".into(), announced);
    let blobs = cache.join("models--org--tiny/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let part = blobs.join(format!("{sha256}.incomplete"));
    (server, blobs.join(sha256), part)
}

fn notes(server: &Server, cache: &Path) -> Vec<String> {
    let mut notes = Vec::new();
    server
        .hub(cache)
        .fetch(&tiny(), &mut |event| {
            if let Event::Note(text) = event {
                notes.push(text.to_string());
            }
        })
        .unwrap();
    notes
}

#[test]
fn a_download_goes_on_where_it_broke_off() {
    let cache = tempfile::tempdir().unwrap();
    let (server, blob, part) = large(cache.path());
    fs::write(&part, &WEIGHTS[..20]).unwrap();
    assert_eq!(notes(&server, cache.path()), Vec::<String>::new());
    assert_eq!(fs::read(&blob).unwrap(), WEIGHTS);
    assert!(!part.exists());
    let ranges = &server.state.lock().unwrap().ranges;
    assert!(ranges.contains(&"bytes=20-".to_string()), "{ranges:?}");
}

#[test]
fn all_of_a_file_that_only_lacks_its_name_is_not_fetched_again() {
    let cache = tempfile::tempdir().unwrap();
    let (server, blob, part) = large(cache.path());
    fs::write(&part, WEIGHTS).unwrap();
    notes(&server, cache.path());
    assert_eq!(fs::read(&blob).unwrap(), WEIGHTS);
    assert!(!server.requests().contains(&"/cdn/model.safetensors".to_string()));
}

#[test]
fn what_cannot_be_finished_is_removed_and_said() {
    let cache = tempfile::tempdir().unwrap();
    let (server, blob, part) = large(cache.path());
    // Longer than the file.
    fs::write(&part, [WEIGHTS, WEIGHTS].concat()).unwrap();
    let said = notes(&server, cache.path()).join("\n");
    assert!(said.contains("cannot be continued and was removed"), "{said}");
    assert_eq!(fs::read(&blob).unwrap(), WEIGHTS);

    // The server does not continue in the middle.
    let cache = tempfile::tempdir().unwrap();
    let (server, blob, part) = large(cache.path());
    server.state.lock().unwrap().no_ranges = true;
    fs::write(&part, &WEIGHTS[..20]).unwrap();
    let said = notes(&server, cache.path()).join("\n");
    assert!(said.contains("starting again"), "{said}");
    assert_eq!(fs::read(&blob).unwrap(), WEIGHTS);

    // Bytes other than the file's: found by the hash, and gone the next time.
    let cache = tempfile::tempdir().unwrap();
    let (server, blob, part) = large(cache.path());
    fs::write(&part, "something else      ").unwrap();
    let message = failure(&server.hub(cache.path()));
    assert!(message.contains("arrived damaged") && message.contains("removed"), "{message}");
    assert!(!part.exists() && !blob.exists());
    notes(&server, cache.path());
    assert_eq!(fs::read(&blob).unwrap(), WEIGHTS);
}

#[test]
fn a_blob_of_another_length_is_fetched_anew() {
    let cache = tempfile::tempdir().unwrap();
    let (server, blob, _) = large(cache.path());
    fs::write(&blob, "cut").unwrap();
    let said = notes(&server, cache.path()).join("\n");
    assert!(said.contains("fetching it again"), "{said}");
    assert_eq!(fs::read(&blob).unwrap(), WEIGHTS);
}

/// As `huggingface_hub` leaves it: a blob, and a link to it from another commit.
#[test]
fn a_content_that_another_tool_fetched_is_linked_and_not_fetched() {
    let cache = tempfile::tempdir().unwrap();
    let (server, blob, _) = large(cache.path());
    fs::write(&blob, WEIGHTS).unwrap();
    notes(&server, cache.path());
    assert!(!server.requests().contains(&"/cdn/model.safetensors".to_string()));
    let snapshot = cache.path().join("models--org--tiny/snapshots").join(COMMIT);
    assert_eq!(
        fs::read_link(snapshot.join("model.safetensors")).unwrap(),
        Path::new("../../blobs").join(blob.file_name().unwrap())
    );
    let pooling = fs::read_link(snapshot.join("1_Pooling/config.json")).unwrap();
    assert!(pooling.starts_with("../../../blobs"), "{pooling:?}");
    let reference = cache.path().join("models--org--tiny/refs/main");
    assert_eq!(fs::read_to_string(reference).unwrap(), COMMIT);
}

#[test]
fn two_that_fetch_the_same_file_wait_for_each_other() {
    let cache = tempfile::tempdir().unwrap();
    let (server, blob, part) = large(cache.path());
    let locks = cache.path().join(".locks/models--org--tiny");
    fs::create_dir_all(&locks).unwrap();
    let name = blob.file_name().unwrap().to_string_lossy().into_owned();
    let held = File::create(locks.join(format!("{name}.lock"))).unwrap();
    held.lock().unwrap();
    // The other is in the middle of it.
    fs::write(&part, &WEIGHTS[..5]).unwrap();
    let other = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(500));
        fs::write(&blob, WEIGHTS).unwrap();
        fs::remove_file(&part).unwrap();
        drop(held);
    });
    let said = notes(&server, cache.path()).join("\n");
    other.join().unwrap();
    assert!(said.contains("waiting for another process"), "{said}");
    assert!(!server.requests().contains(&"/cdn/model.safetensors".to_string()));
}

#[test]
fn eight_at_once_end_with_the_same_whole_files() {
    let cache = tempfile::tempdir().unwrap();
    let (server, ..) = large(cache.path());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let folder = server.hub(cache.path()).fetch(&tiny(), &mut |_| ()).unwrap();
                assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), WEIGHTS);
                assert_eq!(fs::read(folder.join("config.json")).unwrap(), TINY[0].1);
            });
        }
    });
}
