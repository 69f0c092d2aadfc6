//! All fuzz targets in one program: passes libFuzzer's bytes to the function whose name the program was called by
//! (`scripts/fuzz` makes the links).
#![no_main]

mod feed;

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::LazyLock;
use tempfile::TempDir;

/// For files that a target must write. `scripts/fuzz` chooses the place, and removes it.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

/// The name that the program was called by.
static TARGET: LazyLock<String> = LazyLock::new(|| {
    let path = std::env::args_os().next().expect("the path of a program");
    let name = Path::new(&path).file_name().expect("its name");
    name.to_str().expect("the name of a target").to_owned()
});

fuzz_target!(|data: &[u8]| {
    feed::run(&TARGET, data, FOLDER.path());
});
