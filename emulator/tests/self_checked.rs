//! CUDA C++ of every kind whose kernels check themselves: each thread writes 1 if its result equals that of plain C.
//! With every check on, under several warp orders.

mod rig;

use rig::{Rig, line, seeds, text};

const THREADS: usize = 256;

fn all_right(fixture: &str) {
    let text = text(&format!("cuda/{fixture}.ptx.gz"));
    for seed in seeds().take(4) {
        let rig = Rig::new(&text, seed);
        let mut names: Vec<String> = rig.module.kernels().map(|k| k.name.clone()).collect();
        names.sort();
        assert!(!names.is_empty());
        for name in names {
            // The results, followed by numbers to read.
            let start: Vec<u32> =
                (0..4 * THREADS as u32).map(|n| n.saturating_sub(THREADS as u32)).collect();
            let out = rig.upload(&start);
            let mut shape = line(2, 128);
            shape.2 = 1024;
            if let Err(fault) = rig.run(&name, shape, &[out.into()]) {
                panic!("{fixture}: {name}: {fault}");
            }
            let results: Vec<u32> = rig.download(out, THREADS);
            let wrong = results.iter().position(|&x| x != 1);
            assert_eq!(wrong, None, "{fixture}: {name}: seed {seed:?}");
        }
    }
}

#[test]
fn the_language() {
    all_right("language");
}

#[test]
fn the_language_as_a_debugger_wants_it() {
    all_right("language_debug");
}

#[test]
fn integer_intrinsics() {
    all_right("intrinsics");
}

#[test]
fn tiles_of_wmma_and_mma() {
    all_right("tiles");
}

#[test]
fn pipelines_and_barriers() {
    all_right("asynchronous");
}

#[test]
fn warps_and_groups() {
    all_right("groups");
}
