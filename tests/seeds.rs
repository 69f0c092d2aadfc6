//! Every seed of the fuzz targets, including what fuzzing has found, through the functions that the targets call: run
//! on any toolchain, without a fuzzer.
#![cfg(target_os = "linux")]

#[path = "../fuzz/feed/mod.rs"]
mod feed;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

// The only test of its program: it sets environment variables.
#[test]
fn seeds_and_what_fuzzing_found_end_as_they_should() {
    for (name, value) in
        [("REPORT", "/dev/null"), ("QUIET", "1"), ("MEMORY", "64M"), ("WORKERS", "1")]
    {
        // SAFETY: nothing else runs in this process that could read the environment meanwhile.
        unsafe { std::env::set_var(format!("CUDA_EMULATOR_{name}"), value) };
    }
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let mut failed = Vec::new();
    for (target, _) in feed::TARGETS {
        let mut taken = 0;
        for seed in fs::read_dir(seeds.join(target)).unwrap() {
            let path = seed.unwrap().path();
            let data = fs::read(&path).unwrap();
            let folder = tempfile::tempdir().unwrap();
            match catch_unwind(AssertUnwindSafe(|| feed::run(target, &data, folder.path()))) {
                Ok(took) => taken += usize::from(took),
                Err(_) => failed.push(path),
            }
        }
        // Otherwise they would say little about anything after the first refusal.
        assert!(taken > 0, "no seed of {target} is taken");
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
