//! Every fuzz target in one program: gives libFuzzer's bytes to the function of the name that it was called by
//! (`scripts/fuzz` links them).
#![no_main]

mod feed;

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::LazyLock;
use tempfile::TempDir;

/// For what a target has to write down. `scripts/fuzz` says where, and removes it.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

/// What the program was called.
static TARGET: LazyLock<String> = LazyLock::new(|| {
    let path = std::env::args_os().next().expect("the path of a program");
    let name = Path::new(&path).file_name().expect("its name");
    name.to_str().expect("the name of a target").to_owned()
});

fuzz_target!(|data: &[u8]| {
    feed::run(&TARGET, data, FOLDER.path());
});
