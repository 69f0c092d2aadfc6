//! Accesses: where they may go, what must be written before, and which may race.

use super::device::{Device, VECTOR_ADD, kernel};
use crate::{Checks, FaultKind};

#[test]
fn out_of_bounds_and_use_after_free() {
    let d = Device::new();
    let a = vec![1f32; 100];
    let (pa, pb, pc) = (d.upload(&a), d.upload(&a), d.empty(400));
    let text = kernel(4, "", VECTOR_ADD);
    let fault = d.run(&text, 1, 128, &[pa, pb, pc, 101]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::OutOfBounds);
    assert_eq!((fault.thread, fault.address), ([100, 0, 0], Some(pa + 400)));
    assert!(fault.instruction.contains("ld.global.f32 %f1"), "{fault}");
    assert_eq!(fault.allocation.as_ref().unwrap().size, 400);
    d.memory.free(pb).unwrap();
    let fault = d.run(&text, 1, 128, &[pa, pb, pc, 100]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::UseAfterFree);
    let fault = d.run(&text, 1, 128, &[pa, pc, pc, 100]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::UninitialisedRead);
    let fault = d.run(&text, 1, 128, &[pa + 2, pc, pc, 100]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Misaligned);
    assert_eq!(d.run(&text, 1, 128, &[pa, pc, pc]).unwrap_err().kind, FaultKind::InvalidLaunch);
}

/// What a block did while holding a lock is ordered before the next holder, however closely it follows.
#[test]
fn a_lock_that_passes_from_block_to_block_orders_what_they_do() {
    let mut d = Device::new();
    d.config.workers = 4;
    d.config.spin_limit = 1 << 24;
    let (lock, sum) = (d.upload(&[0u32]), d.upload(&[0u32]));
    let body = "
mov.u32 %r4, 0;
$again:
$spin: atom.global.acq_rel.gpu.cas.b32 %r1, [%a0], 0, 1;
setp.ne.u32 %p1, %r1, 0; @%p1 bra $spin;
ld.global.u32 %r2, [%a1]; add.u32 %r2, %r2, 1; st.global.u32 [%a1], %r2;
atom.global.acq_rel.gpu.exch.b32 %r3, [%a0], 0;
add.u32 %r4, %r4, 1; setp.lt.u32 %p1, %r4, 4; @%p1 bra $again;
ret;";
    let text = kernel(2, "", body);
    for launch in 1..=200 {
        d.run(&text, 16, 1, &[lock, sum])
            .unwrap_or_else(|fault| panic!("launch {launch}: {fault}"));
        assert_eq!(d.words(sum, 1)[0], 64 * launch);
    }
}

#[test]
fn asynchronous_copies() {
    let mut d = Device::new();
    let input: Vec<u32> = (0..256).map(|x| x * 3).collect();
    let (src, out) = (d.upload(&input), d.empty(1024));
    let body = "
mov.u32 %r1, %tid.x; shl.b32 %r2, %r1, 4; mov.u32 %r3, buffer; add.u32 %r3, %r3, %r2; cvt.u64.u32 %d1, %r2;
add.u64 %d2, %a0, %d1; add.u64 %d3, %a1, %d1;
cp.async.cg.shared.global [%r3], [%d2], 16; cp.async.commit_group;
WAIT
ld.shared.v4.u32 {%r4, %r5, %r6, %r7}, [%r3]; st.global.v4.u32 [%d3], {%r4, %r5, %r6, %r7}; ret;";
    let shared = ".extern .shared .align 16 .b8 buffer[];";
    let good = kernel(2, shared, &body.replace("WAIT", "cp.async.wait_group 0;"));
    d.run_shared(&good, 1, 64, 1024, &[src, out]).unwrap();
    assert_eq!(d.words(out, 256), input);
    let bad = kernel(2, shared, &body.replace("WAIT", "cp.async.wait_group 1;"));
    let fault = d.run_shared(&bad, 1, 64, 1024, &[src, out]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::PendingAsyncCopy);
    assert_eq!(
        d.run_shared(&good, 1, 64, 512, &[src, out]).unwrap_err().kind,
        FaultKind::OutOfBounds
    );
    // Without the check the bytes are simply not there yet.
    d.config.checks = Checks::NONE;
    d.run_shared(&bad, 1, 64, 1024, &[src, out]).unwrap();
    assert_ne!(d.words(out, 256), input);
}

#[test]
fn blocks_that_race() {
    let d = Device::new();
    let out = d.upload(&[0u32; 64]);
    let body = "mov.u32 %r1, %ctaid.x; st.global.u32 [%a0], %r1; ret;";
    assert_eq!(d.run(&kernel(1, "", body), 8, 32, &[out]).unwrap_err().kind, FaultKind::GlobalRace);
    // Neighbouring halves of one word do not conflict.
    let body = "mov.u32 %r1, %ctaid.x; cvt.u16.u32 %h1, %r1; mul.wide.u32 %d1, %r1, 2; add.u64 %d1, %a0, %d1; st.global.u16 [%d1], %h1; ret;";
    d.run(&kernel(1, "", body), 8, 32, &[out]).unwrap();
    // The last block to finish adds up the others' results: a fence and an atomic order it after them.
    let body = "
mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mul.wide.u32 %d1, %r2, 4; add.u64 %d2, %a0, %d1;
setp.ne.u32 %p1, %r1, 0; @%p1 bra $done;
st.global.u32 [%d2], %r2; membar.gl; atom.global.inc.u32 %r3, [%a1], 7; setp.ne.u32 %p2, %r3, 7; @%p2 bra $done;
membar.gl; mov.u32 %r4, 0; mov.u32 %r5, 0;
$loop: mul.wide.u32 %d3, %r4, 4; add.u64 %d3, %a0, %d3; ld.global.u32 %r6, [%d3]; add.u32 %r5, %r5, %r6;
add.u32 %r4, %r4, 1; setp.lt.u32 %p3, %r4, 8; @%p3 bra $loop; st.global.u32 [%a1+4], %r5;
$done: ret;";
    let counter = d.upload(&[0u32, 0]);
    for _ in 0..5 {
        d.run(&kernel(2, "", body), 8, 32, &[out, counter]).unwrap_or_else(|f| panic!("{f}"));
        assert_eq!(d.words(counter, 2), vec![0, 28]);
    }
    let fault = d
        .run(&kernel(2, "", &body.replace("membar.gl; atom", "atom")), 8, 32, &[out, counter])
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::GlobalRace);
}

#[test]
fn module_variables() {
    let d = Device::new();
    let out = d.empty(64);
    let text = kernel(
        1,
        ".const .align 4 .u32 table[4] = {10, 20, 30};\n.global .align 8 .u64 pointer = table;\n.global .align 4 .f32 factor = 0f40000000;",
        "
mov.u64 %d1, table; ld.const.u32 %r1, [table+8]; ld.const.u32 %r2, [table+12];
ld.global.u64 %d2, [pointer]; ld.global.u32 %r3, [%d2+4]; ld.global.f32 %f1, [factor]; cvt.rzi.u32.f32 %r4, %f1;
st.global.v4.u32 [%a0], {%r1, %r2, %r3, %r4}; ret;",
    );
    d.run(&text, 1, 1, &[out]).unwrap();
    assert_eq!(d.words(out, 4), vec![30, 0, 20, 2]);
}
