//! Files written, replaced, refused and hashed.

use super::*;
use crate::temporary::remove_leftovers;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bin");
    write_bytes_atomic(&path, b"first").unwrap();
    write_bytes_atomic(&path, b"second").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"second");
    assert_eq!(names(folder.path()), ["a.bin"]);
}

#[test]
fn a_write_removes_what_killed_ones_left_and_nothing_of_the_living() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bin");
    for name in [".a.bin.x1y2z3.tmp", ".b.bin.x1y2z3.tmp", ".a.bin.mine.tmp", ".a.bin.x1y2z4.tmp"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    let live = File::open(folder.path().join(".a.bin.x1y2z4.tmp")).unwrap();
    live.try_lock().unwrap();
    // Two concurrent writers of one file: either way the result is complete.
    write_atomic(&path, |file| {
        write_bytes_atomic(&path, b"inner")?;
        Ok(file.write_all(b"outer")?)
    })
    .unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"outer");
    let left = [".a.bin.mine.tmp", ".a.bin.x1y2z4.tmp", ".b.bin.x1y2z3.tmp", "a.bin"];
    assert_eq!(names(folder.path()), left);
}

#[cfg(unix)]
#[test]
fn a_link_is_followed_where_the_user_named_it_and_nowhere_else() {
    use std::os::unix::fs::symlink;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("outside"), "kept").unwrap();
    symlink(path("outside"), path("link")).unwrap();
    symlink(path("gone"), path("dangling")).unwrap();
    for name in ["link", "dangling"] {
        let error = no_links(folder.path(), &["none", "outside", name]).unwrap_err();
        assert!(error.to_string().contains(&format!("{name} is a link to ")), "{error}");
        let mut options = File::options();
        assert!(open_own(&path(name), options.write(true).create(true)).is_err());
    }
    write_named(&path("link"), |file| Ok(file.write_all(b"new")?)).unwrap();
    assert_eq!(fs::read(path("outside")).unwrap(), b"new");
    assert!(path("link").is_symlink());
    write_bytes_atomic(&path("link"), b"own").unwrap();
    assert_eq!(fs::read(path("outside")).unwrap(), b"new");
    assert!(!path("link").is_symlink() && !path("gone").exists());

    fs::hard_link(path("outside"), path("second")).unwrap();
    let error = open_own(&path("second"), File::options().write(true)).unwrap_err();
    assert!(error.to_string().contains("second name"), "{error}");
    write_named(Path::new("/dev/null"), |file| Ok(file.write_all(b"x")?)).unwrap();
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

#[test]
fn writers_of_one_file_at_once_all_succeed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ref");
    std::thread::scope(|scope| {
        for writer in 0..8u8 {
            let path = &path;
            scope.spawn(move || {
                for _ in 0..100 {
                    write_bytes_atomic(path, &[writer; 40]).unwrap();
                }
            });
        }
    });
    let left = fs::read(&path).unwrap();
    assert!(left.len() == 40 && left.iter().all(|&byte| byte == left[0]));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_failed_write_leaves_the_old_file_and_no_temporary_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bin");
    write_bytes_atomic(&path, b"old").unwrap();
    let error = write_atomic(&path, |file| {
        // More than the buffer, so that some of it reaches the disk before the failure.
        file.write_all(&vec![1; 1 << 20])?;
        bail!("in.tsv:7: no text")
    })
    .unwrap_err();
    assert_eq!(crate::error::one_line(&error), "in.tsv:7: no text");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(folder.path()), ["a.bin"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_that_names_the_file() {
    let full = Path::new("/dev/full");
    let error = write_named(full, |file| Ok(file.write_all(b"x")?)).unwrap_err();
    let line = crate::error::one_line(&error);
    assert!(line.starts_with("cannot write /dev/full: No space left"), "{line}");
}

#[test]
fn a_missing_folder_is_an_error_that_names_the_file_and_no_temporary_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("no/such/a.bin");
    for error in [write_bytes_atomic(&path, b"x").unwrap_err(), can_be_written(&path).unwrap_err()]
    {
        let line = crate::error::one_line(&error);
        assert!(
            line.contains("no/such/a.bin: there is no folder") && !line.contains(".a.bin."),
            "{line}"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_written_file_has_the_permissions_of_any_other() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let ours = folder.path().join("ours");
    let plain = folder.path().join("plain");
    write_bytes_atomic(&ours, b"x").unwrap();
    fs::write(&plain, b"x").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&ours), mode(&plain));
}

#[test]
fn leftovers_of_a_kill_are_removed_and_other_files_stay() {
    let folder = tempfile::tempdir().unwrap();
    for name in [".a.bin.x1y2.tmp", ".b.bin.x1y2.tmp", ".hidden", "a.bin"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    assert_eq!(remove_leftovers(folder.path(), &["a.bin"]).unwrap(), 1);
    assert_eq!(names(folder.path()), [".b.bin.x1y2.tmp", ".hidden", "a.bin"]);
}

#[test]
fn a_file_longer_than_it_should_be_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    fs::write(&path, "12345").unwrap();
    assert_eq!(read_bounded(&path, 5).unwrap(), b"12345");
    assert!(read_bounded(&path, 4).is_err());
    #[cfg(unix)]
    assert!(read_bounded(Path::new("/dev/zero"), 1000).is_err());
}

#[test]
fn one_weight_file_is_named_by_its_own_hash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, "abc").unwrap();
    // The first example of FIPS 180.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(weights_sha256(std::slice::from_ref(&path)).unwrap(), abc);
    assert_eq!(sha256_file(&path).unwrap(), abc);
    assert!(weights_sha256(&[]).is_err());
    assert!(sha256_file(&folder.path().join("none")).unwrap_err().to_string().contains("none"));
}

#[test]
fn shards_are_named_by_their_listing_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] =
        ["model-00001.safetensors", "model-00002.safetensors"].map(|name| folder.path().join(name));
    fs::write(&a, "abc").unwrap();
    fs::write(&b, "").unwrap();
    let listing = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  model-00001.safetensors\n\
                   e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  model-00002.safetensors\n";
    let expected = sha256_bytes(listing.as_bytes());
    assert_eq!(weights_sha256(&[a.clone(), b.clone()]).unwrap(), expected);
    assert_eq!(weights_sha256(&[b, a]).unwrap(), expected);
}

#[test]
fn a_file_longer_than_the_buffer_hashes_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("big");
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    fs::write(&path, &bytes).unwrap();
    assert_eq!(sha256_file(&path).unwrap(), sha256_bytes(&bytes));
}
