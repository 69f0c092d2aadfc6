//! What orders the threads of a block: barriers, mbarriers, warp barriers.

use super::device::{Device, kernel};
use crate::FaultKind;

const REDUCE: &str = "
mov.u32 %r1, %tid.x; shl.b32 %r2, %r1, 2;
mov.u32 %r3, buffer; add.u32 %r4, %r3, %r2;
add.u32 %r5, %r1, 1; st.shared.u32 [%r4], %r5;
BARRIER
mov.u32 %r6, 128;
$loop: shr.u32 %r6, %r6, 1; setp.ge.u32 %p1, %r1, %r6; @%p1 bra $skip;
shl.b32 %r7, %r6, 2; add.u32 %r8, %r4, %r7;
ld.shared.u32 %r9, [%r4]; ld.shared.u32 %r10, [%r8]; add.u32 %r9, %r9, %r10; st.shared.u32 [%r4], %r9;
$skip: bar.sync 0; setp.gt.u32 %p2, %r6, 1; @%p2 bra $loop;
setp.ne.u32 %p3, %r1, 0; @%p3 bra $done;
ld.shared.u32 %r11, [buffer]; mov.u32 %r12, %ctaid.x; mul.wide.u32 %d1, %r12, 4; add.u64 %d2, %a0, %d1;
st.global.u32 [%d2], %r11;
$done: ret;";

#[test]
fn shared_reduction() {
    let mut d = Device::new();
    let out = d.empty(64);
    let good =
        kernel(1, ".shared .align 4 .b8 buffer[512];", &REDUCE.replace("BARRIER", "bar.sync 0;"));
    for seed in 0..8 {
        d.config.warp_order_seed = (seed > 0).then_some(seed);
        d.run(&good, 16, 128, &[out]).unwrap_or_else(|f| panic!("seed {seed}: {f}"));
        assert_eq!(d.words(out, 16), vec![128 * 129 / 2; 16]);
    }
    let bad = kernel(1, ".shared .align 4 .b8 buffer[512];", &REDUCE.replace("BARRIER", ""));
    for seed in 0..4 {
        d.config.warp_order_seed = (seed > 0).then_some(seed);
        let fault = d.run(&bad, 16, 128, &[out]).unwrap_err();
        assert!(
            matches!(fault.kind, FaultKind::SharedRace | FaultKind::UninitialisedRead),
            "{fault}"
        );
    }
}

#[test]
fn barrier_that_some_never_reach() {
    let d = Device::new();
    let body =
        "mov.u32 %r1, %tid.x; setp.ge.u32 %p1, %r1, LIMIT; @%p1 bra $out; bar.sync 0; $out: ret;";
    // A warp that has left altogether is not waited for.
    assert!(d.run(&kernel(0, "", &body.replace("LIMIT", "32")), 1, 64, &[]).is_ok());
    for limit in ["16", "48"] {
        let fault = d.run(&kernel(0, "", &body.replace("LIMIT", limit)), 1, 64, &[]).unwrap_err();
        assert_eq!(fault.kind, FaultKind::BarrierDivergence, "{fault}");
        assert!(fault.instruction.contains("bar.sync"), "{fault}");
    }
    // Two different barriers.
    let body = "mov.u32 %r1, %tid.x; setp.ge.u32 %p1, %r1, 32; @%p1 bra $o; bar.sync 1; bra $x; $o: bar.sync 2; $x: ret;";
    assert_eq!(
        d.run(&kernel(0, "", body), 1, 64, &[]).unwrap_err().kind,
        FaultKind::BarrierDivergence
    );
}

#[test]
fn named_barriers_between_producer_and_consumer() {
    let mut d = Device::new();
    let out = d.empty(128);
    // Warp 1 waits for warp 0's data with a counted barrier that warp 0 only arrives at.
    let body = "
mov.u32 %r1, %tid.x; and.b32 %r2, %r1, 31; shl.b32 %r3, %r2, 2; mov.u32 %r4, buffer; add.u32 %r4, %r4, %r3;
setp.ge.u32 %p1, %r1, 32; @%p1 bra $consumer;
st.shared.u32 [%r4], %r1; bar.arrive 1, 64; bra $done;
$consumer: bar.sync 1, 64; ld.shared.u32 %r5, [%r4]; cvt.u64.u32 %d1, %r3; add.u64 %d2, %a0, %d1; st.global.u32 [%d2], %r5;
$done: bar.sync 0; ret;";
    for seed in 0..6 {
        d.config.warp_order_seed = (seed > 0).then_some(seed);
        d.run(&kernel(1, ".shared .align 4 .b8 buffer[128];", body), 1, 64, &[out]).unwrap();
        assert_eq!(d.words(out, 32), (0..32).collect::<Vec<u32>>());
    }
}

#[test]
fn reductions_at_barriers() {
    let d = Device::new();
    let out = d.empty(64 * 4);
    let body = "
mov.u32 %r1, %tid.x; setp.lt.u32 %p1, %r1, 40;
bar.red.popc.u32 %r2, 0, %p1; bar.red.and.pred %p2, 0, %p1; bar.red.or.pred %p3, 0, %p1;
selp.u32 %r3, 1000, 0, %p2; selp.u32 %r4, 2000, 0, %p3; add.u32 %r2, %r2, %r3; add.u32 %r2, %r2, %r4;
mul.wide.u32 %d1, %r1, 4; add.u64 %d1, %a0, %d1; st.global.u32 [%d1], %r2; ret;";
    d.run(&kernel(1, "", body), 1, 64, &[out]).unwrap();
    assert_eq!(d.words(out, 64), vec![2040; 64]);
}

#[test]
fn mbarriers_hand_data_over() {
    let mut d = Device::new();
    let out = d.empty(128);
    let body = "
mov.u32 %r1, %tid.x; setp.ne.u32 %p1, %r1, 0; @%p1 bra $ready; mbarrier.init.shared.b64 [bar], 32;
$ready: bar.sync 0; and.b32 %r2, %r1, 31; shl.b32 %r3, %r2, 2; mov.u32 %r4, buffer; add.u32 %r4, %r4, %r3;
setp.ge.u32 %p2, %r1, 32; @%p2 bra $consumer;
st.shared.u32 [%r4], %r1; mbarrier.arrive.shared.b64 %d5, [bar]; bra $done;
$consumer: mbarrier.try_wait.parity.shared.b64 %p3, [bar], 0; @!%p3 bra $consumer;
xor.b32 %r4, %r4, 4; ld.shared.u32 %r5, [%r4]; cvt.u64.u32 %d1, %r3; add.u64 %d2, %a0, %d1; st.global.u32 [%d2], %r5;
$done: ret;";
    let shared = ".shared .align 8 .b8 bar[8]; .shared .align 4 .b8 buffer[128];";
    for seed in 0..6 {
        d.config.warp_order_seed = (seed > 0).then_some(seed);
        d.run(&kernel(1, shared, body), 1, 64, &[out]).unwrap_or_else(|f| panic!("{f}"));
        assert_eq!(d.words(out, 32), (0..32).map(|l| l ^ 1).collect::<Vec<u32>>());
    }
    let fault = d
        .run(&kernel(1, shared, &body.replace("[bar], 32", "[bar], 33")), 1, 64, &[out])
        .unwrap_err();
    assert_eq!(fault.kind, FaultKind::Deadlock, "{fault}");
}

#[test]
fn lanes_without_a_warp_barrier() {
    let d = Device::new();
    let body = "mov.u32 %r1, %tid.x; shl.b32 %r2, %r1, 2; mov.u32 %r3, buffer; add.u32 %r4, %r3, %r2; st.shared.u32 [%r4], %r1;
SYNC xor.b32 %r4, %r4, 4; ld.shared.u32 %r5, [%r4]; ret;";
    let shared = ".shared .align 4 .b8 buffer[128];";
    d.run(&kernel(0, shared, &body.replace("SYNC", "bar.warp.sync -1;")), 1, 32, &[]).unwrap();
    let fault = d.run(&kernel(0, shared, &body.replace("SYNC", "")), 1, 32, &[]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::SharedRace);
}
