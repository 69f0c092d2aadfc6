//! Every fuzz target: gives libFuzzer's bytes to the function of its own name.
#![no_main]

mod feed;

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use tempfile::TempDir;

/// For what a target has to write down. `scripts/fuzz` says where, and removes it.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());

fuzz_target!(|data: &[u8]| {
    feed::run(env!("CARGO_BIN_NAME"), data, FOLDER.path());
});
