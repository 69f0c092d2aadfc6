//! Planted defects: each is found at its exact line, under the plain and adversarial warp orders, and its correct twin
//! runs without a report under twenty orders.
//!
//! The kernels are in fixtures/defects; the line is the one that its source marks with BUG.

mod rig;

use emulator::{Fault, FaultKind};
use rig::{LaunchExtent, Rig, line, seeds, text, value};

/// The lines marked BUG between a kernel's name and the next kernel.
fn planted(file: &str, kernel: &str) -> Vec<u32> {
    let source = text(&format!("defects/{file}.cu"));
    let start =
        source.find(&format!(" {kernel}(")).unwrap_or_else(|| panic!("no {kernel} in {file}"));
    let first = source[..start].lines().count() as u32;
    source[start..]
        .lines()
        .enumerate()
        .skip(1)
        .take_while(|(_, line)| !line.starts_with("extern"))
        .filter(|(_, line)| line.contains("// BUG"))
        .map(|(index, _)| first + index as u32)
        .collect()
}

/// Elements of both buffers.
const N: usize = 256;
/// 64 threads per block.
const BLOCK: u32 = 64;

/// Runs `kernel(in, out, n)`; `freed` frees `in` first.
fn run(
    file: &str,
    kernel: &str,
    grid: u32,
    n: i32,
    freed: bool,
    seed: Option<u64>,
) -> Result<(), Box<Fault>> {
    let rig = Rig::new(&text(&format!("defects/{file}.ptx")), seed);
    let input = rig.upload(&value(1, N));
    // A racing read that comes first must find data, or the report would be about that.
    let out = if kernel.contains("race") { rig.upload(&value(3, N)) } else { rig.alloc(N * 4) };
    if freed {
        rig.memory.free(input).expect("a live allocation");
    }
    let shape: LaunchExtent = line(grid, BLOCK);
    rig.run(kernel, shape, &[input.into(), out.into(), n.into()]).map(drop)
}

/// The defect is found at its line under every order, its twin is never reported.
fn defect(file: &str, kernel: &str, kind: FaultKind, grid: u32, n: i32) {
    let lines = planted(file, kernel);
    assert!(!lines.is_empty(), "{kernel} marks no line");
    let freed = kind == FaultKind::UseAfterFree;
    for seed in seeds() {
        let fault = run(file, kernel, grid, n, freed, seed).expect_err(kernel);
        assert_eq!(fault.kind, kind, "{kernel}, seed {seed:?}: {fault}");
        let (source, at) =
            fault.source.clone().unwrap_or_else(|| panic!("{kernel} has no source line: {fault}"));
        assert!(source.ends_with(&format!("defects/{file}.cu")), "{kernel}: {source}");
        assert!(
            lines.contains(&at),
            "{kernel}, seed {seed:?}: line {at}, expected {lines:?}: {fault}"
        );
        assert_eq!(fault.kernel, kernel);
        assert!(fault.ptx_line > 0, "{kernel}: no PTX line");

        let twin = format!("{kernel}_correct");
        if let Err(fault) = run(file, &twin, grid, n, false, seed) {
            panic!("{twin}, seed {seed:?}: {fault}");
        }
    }
}

macro_rules! defects {
    ($($kernel:ident in $file:ident: $kind:ident, grid $grid:literal, n $n:literal;)*) => {$(
        #[test]
        fn $kernel() {
            defect(stringify!($file), stringify!($kernel), FaultKind::$kind, $grid, $n);
        }
    )*};
}

defects! {
    global_read_past_end in memory: OutOfBounds, grid 5, n 256;
    global_write_before_start in memory: OutOfBounds, grid 1, n 64;
    shared_past_end in memory: OutOfBounds, grid 1, n 64;
    misaligned in memory: Misaligned, grid 1, n 64;
    use_after_free in memory: UseAfterFree, grid 1, n 64;
    uninitialised_global in memory: UninitialisedRead, grid 1, n 64;
    uninitialised_shared in memory: UninitialisedRead, grid 1, n 64;
    uninitialised_local in memory: UninitialisedRead, grid 1, n 9;
    shared_race in threads: SharedRace, grid 1, n 64;
    shared_write_race in threads: SharedRace, grid 1, n 64;
    global_race in threads: GlobalRace, grid 4, n 64;
    global_read_race in threads: GlobalRace, grid 4, n 64;
    barrier_divergence in threads: BarrierDivergence, grid 1, n 64;
    missing_async_wait in threads: PendingAsyncCopy, grid 1, n 64;
    async_wait_too_short in threads: PendingAsyncCopy, grid 1, n 64;
    trapped in threads: Trap, grid 1, n 64;
    asserted in threads: Trap, grid 1, n 64;
    endless in threads: Deadlock, grid 1, n 64;
}

/// A report says where, who and next to what.
#[test]
fn a_report_names_the_allocation() {
    let fault = run("memory", "global_read_past_end", 5, 256, false, None).expect_err("a fault");
    assert_eq!(fault.block, [4, 0, 0]);
    assert_eq!(fault.thread, [0, 0, 0]);
    let near = fault.allocation.clone().expect("an allocation");
    assert_eq!(near.size, 1024);
    assert_eq!(fault.address, Some(near.base + 1024));
    let text = fault.to_string();
    for part in [
        "global_read_past_end",
        "memory.cu",
        "block (4,0,0) thread (0,0,0)",
        "1024 bytes",
        "0 bytes past its end",
    ] {
        assert!(text.contains(part), "no `{part}` in: {text}");
    }
}
