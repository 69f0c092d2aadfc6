//! Barriers, fences and mbarriers.

use crate::harness::*;

fn threads(n: u32) -> Vec<Vec<u32>> {
    (0..n).map(|i| vec![i]).collect()
}
const BOX: &str = ".shared .align 16 .b32 box[256];\n.reg .b32 %s, %t, %v, %n;\n.reg .pred %p, %q;\n.reg .b64 %w;\n";
/// Stores tid + 1 in the thread's word.
const STORE: &str = "mov.u32 %s, box;\nmad.lo.u32 %s, %tid0, 4, %s;\nadd.u32 %v, %tid0, 1;\nst.shared.b32 [%s], %v;\n";

/// Each form, between a store and a load of the word of a thread of another warp.
#[test]
fn block_wide() {
    for barrier in [
        "bar.sync 0;",
        "bar.sync 3;",
        "bar.sync 0, 128;",
        "mov.u32 %n, 5;\nbar.sync %n;",
        "mov.u32 %n, 128;\nbar.sync 1, %n;",
        "barrier.sync 0;",
        "barrier.sync.aligned 2;",
        "bar.cta.sync 0;",
        "barrier.cta.sync.aligned 0;",
        "membar.cta;\nbar.sync 0;",
        "membar.gl;\nmembar.sys;\nbar.sync 0;",
        "fence.acq_rel.gpu;\nfence.sc.cta;\nbar.sync 0;",
    ] {
        let body = format!(
            "{STORE}{barrier}\nxor.b32 %t, %tid0, 127;\nmov.u32 %s, box;\nmad.lo.u32 %s, %t, 4, %s;\nld.shared.b32 %d0, [%s];"
        );
        let out = lanes(BOX, &body, 1, &threads(128));
        assert!(
            out.iter().enumerate().all(|(i, d)| d[0] == (i as u32 ^ 127) + 1),
            "parallel synchronization and communication: {barrier}"
        );
    }
}

#[test]
fn reductions() {
    // Threads whose number is a multiple of 3, of 96.
    let head = "rem.u32 %t, %tid0, 3;\nsetp.eq.u32 %p, %t, 0;\n";
    for (text, want) in [
        ("bar.red.popc.u32 %d0, 0, %p;", 32),
        ("bar.red.popc.u32 %d0, 1, 96, %p;", 32),
        ("barrier.red.popc.u32 %d0, 0, !%p;", 64),
        ("bar.red.and.pred %q, 0, %p;\nselp.b32 %d0, 1, 0, %q;", 0),
        ("bar.red.or.pred %q, 0, %p;\nselp.b32 %d0, 1, 0, %q;", 1),
    ] {
        let out = lanes(BOX, &format!("{head}{text}"), 1, &threads(96));
        assert!(
            out.iter().all(|d| d[0] == want),
            "parallel synchronization and communication: {text}"
        );
    }
}

/// Warp 0 produces and only arrives, warp 1 waits.
#[test]
fn arrive_and_wait() {
    let body = format!(
        "setp.ge.u32 %p, %tid0, 32;\n@%p bra CONSUMER;\n{STORE}bar.arrive 1, 64;\nbra DONE;\n\
         CONSUMER:\nbar.sync 1, 64;\nmov.u32 %s, box;\nsub.u32 %t, %tid0, 32;\nmad.lo.u32 %s, %t, 4, %s;\n\
         ld.shared.b32 %d0, [%s];\nDONE:"
    );
    let out = lanes(BOX, &body, 1, &threads(64));
    for (i, d) in out.iter().enumerate() {
        assert_eq!(d[0], if i < 32 { 0xdddd_dddd } else { i as u32 - 31 });
    }
}

#[test]
fn warp_wide() {
    let body = format!(
        "{STORE}bar.warp.sync 0xffffffff;\nxor.b32 %t, %tid0, 1;\nmov.u32 %s, box;\nmad.lo.u32 %s, %t, 4, %s;\nld.shared.b32 %d0, [%s];"
    );
    let out = lanes(BOX, &body, 1, &threads(32));
    assert!(
        out.iter().enumerate().all(|(i, d)| d[0] == (i as u32 ^ 1) + 1),
        "parallel synchronization and communication: bar.warp.sync"
    );
}

/// All threads arrive on an mbarrier and wait for its phase by state, then by parity.
#[test]
fn mbarrier() {
    let declarations = ".shared .align 8 .b64 bar;\n.shared .align 16 .b32 box[256];\n.reg .b32 %s, %t, %v, %n;\n.reg .pred %p, %q;\n.reg .b64 %w;\n";
    let init = "setp.eq.u32 %p, %tid0, 0;\n@%p mbarrier.init.shared.b64 [bar], 64;\nbar.sync 0;\n";
    let read = "xor.b32 %t, %tid0, 63;\nmov.u32 %s, box;\nmad.lo.u32 %s, %t, 4, %s;\nld.shared.b32 %d0, [%s];";
    for wait in [
        "mbarrier.arrive.shared.b64 %w, [bar];\nWAIT:\nmbarrier.test_wait.shared.b64 %q, [bar], %w;\n@!%q bra WAIT;\n",
        "mbarrier.arrive.shared.b64 %w, [bar];\nWAIT:\nmbarrier.test_wait.parity.shared.b64 %q, [bar], 0;\n@!%q bra WAIT;\n",
        "mbarrier.arrive.shared::cta.b64 %w, [bar];\nWAIT:\nmbarrier.try_wait.shared.b64 %q, [bar], %w;\n@!%q bra WAIT;\n",
        "mbarrier.arrive.shared.b64 _, [bar];\nWAIT:\nmbarrier.try_wait.parity.shared.b64 %q, [bar], 0;\n@!%q bra WAIT;\n",
    ] {
        let body = format!("{init}{STORE}{wait}{read}");
        let out = lanes(declarations, &body, 1, &threads(64));
        assert!(
            out.iter().enumerate().all(|(i, d)| d[0] == (i as u32 ^ 63) + 1),
            "parallel synchronization and communication: {wait}"
        );
    }
    // Two phases: the parity of the second is 1.
    let phases = "mbarrier.arrive.shared.b64 %w, [bar];\nW0:\nmbarrier.try_wait.parity.shared.b64 %q, [bar], 0;\n@!%q bra W0;\n\
                  mbarrier.arrive.shared.b64 %w, [bar];\nW1:\nmbarrier.try_wait.parity.shared.b64 %q, [bar], 1;\n@!%q bra W1;\n";
    let out = lanes(declarations, &format!("{init}{STORE}{phases}{read}"), 1, &threads(64));
    assert!(
        out.iter().enumerate().all(|(i, d)| d[0] == (i as u32 ^ 63) + 1),
        "parallel synchronization and communication: two phases"
    );
    // Pending count: 64 expected, before any arrival.
    let pending = "setp.eq.u32 %p, %tid0, 0;\n@!%p bra END;\nmbarrier.init.shared.b64 [bar], 5;\n\
                   mbarrier.arrive.shared.b64 %w, [bar], 2;\nmbarrier.pending_count.b64 %d0, %w;\nmbarrier.inval.shared.b64 [bar];\nEND:";
    let out = lanes(declarations, pending, 1, &threads(32));
    assert_eq!(
        out[0][0], 5,
        "parallel synchronization and communication: pending_count: of the phase before the arrival"
    );
}

/// cp.async makes an mbarrier's phase complete when its bytes have arrived.
#[test]
fn cp_async_on_an_mbarrier() {
    let declarations = ".shared .align 8 .b64 bar;\n.shared .align 16 .b32 box[256];\n.reg .b32 %s;\n.reg .pred %p, %q;\n.reg .b64 %w;\n";
    let body = "setp.eq.u32 %p, %tid0, 0;\n@%p mbarrier.init.shared.b64 [bar], 32;\nbar.sync 0;\n\
                mov.u32 %s, box;\nmad.lo.u32 %s, %tid0, 4, %s;\ncp.async.ca.shared.global [%s], [%ai], 4;\n\
                cp.async.mbarrier.arrive.noinc.shared.b64 [bar];\nWAIT:\nmbarrier.try_wait.parity.shared.b64 %q, [bar], 0;\n\
                @!%q bra WAIT;\nmov.u32 %s, box;\nxor.b32 %d0, %tid0, 31;\nmad.lo.u32 %s, %d0, 4, %s;\nld.shared.b32 %d0, [%s];";
    let out = lanes(declarations, body, 1, &threads(32));
    assert!(
        out.iter().enumerate().all(|(i, d)| d[0] == i as u32 ^ 31),
        "parallel synchronization and communication: cp.async.mbarrier.arrive"
    );
}
