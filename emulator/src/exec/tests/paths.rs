//! The paths of lanes: branches, loops, calls and recursion.

use super::device::{Device, kernel};
use crate::FaultKind;

/// Every lane loops as many times as its number, then adds up across the warp.
#[test]
fn loops_diverge_and_join() {
    let d = Device::new();
    let out = d.empty(32 * 4);
    let body = "
mov.u32 %r1, %tid.x; mov.u32 %r2, 0; mov.u32 %r3, 0;
$loop: setp.ge.u32 %p1, %r2, %r1; @%p1 bra $after;
and.b32 %r4, %r2, 1; setp.eq.u32 %p2, %r4, 0; @%p2 bra $even;
add.u32 %r3, %r3, 100; bra.uni $next;
$even: add.u32 %r3, %r3, 1;
$next: add.u32 %r2, %r2, 1; bra.uni $loop;
$after:
activemask.b32 %r5;
shfl.sync.bfly.b32 %r6, %r3, 1, 31, -1;
add.u32 %r7, %r3, %r6;
setp.ne.u32 %p3, %r5, -1; @%p3 trap;
mul.wide.u32 %d1, %r1, 4; add.u64 %d2, %a0, %d1; st.global.u32 [%d2], %r7;
ret;";
    d.run(&kernel(1, "", body), 1, 32, &[out]).unwrap();
    let one = |n: u32| (0..n).map(|i| if i % 2 == 0 { 1 } else { 100 }).sum::<u32>();
    let got = d.words(out, 32);
    for l in 0..32u32 {
        assert_eq!(got[l as usize], one(l) + one(l ^ 1), "lane {l}");
    }
}

/// One lane holds a lock while the others of its warp spin for it.
#[test]
fn lanes_of_a_warp_may_wait_for_each_other() {
    let mut d = Device::new();
    d.config.spin_limit = 1 << 24;
    let (lock, sum) = (d.upload(&[0u32]), d.upload(&[0u32]));
    let body = "
$spin: atom.global.acquire.gpu.cas.b32 %r1, [%a0], 0, 1;
setp.ne.u32 %p1, %r1, 0; @%p1 bra $spin;
ld.global.u32 %r2, [%a1]; add.u32 %r2, %r2, 1; st.global.u32 [%a1], %r2;
membar.gl;
atom.global.release.gpu.exch.b32 %r3, [%a0], 0;
ret;";
    let counters = d.run(&kernel(2, "", body), 4, 64, &[lock, sum]).unwrap();
    assert_eq!(d.words(sum, 1)[0], 256);
    assert!(counters.average_active_lanes() > 0.0);
}

#[test]
fn calls_and_local_memory() {
    let d = Device::new();
    let out = d.empty(128);
    let text = format!(
        ".func (.param .b32 result) square(.param .b32 x) {{
.reg .b32 %r<4>; ld.param.u32 %r1, [x]; mul.lo.u32 %r2, %r1, %r1; st.param.b32 [result], %r2; ret; }}
{}",
        kernel(
            1,
            "",
            "
.local .align 4 .b8 stack[16]; mov.u64 %d5, stack; cvta.local.u64 %d6, %d5;
mov.u32 %r1, %tid.x; st.u32 [%d6+8], %r1; ld.local.u32 %r2, [%d5+8];
{ .param .b32 a; .param .b32 b; st.param.b32 [a+0], %r2; call.uni (b), square, (a); ld.param.b32 %r3, [b+0]; }
mul.wide.u32 %d1, %r1, 4; add.u64 %d1, %a0, %d1; st.global.u32 [%d1], %r3; ret;"
        )
    );
    d.run(&text, 1, 32, &[out]).unwrap();
    assert_eq!(d.words(out, 32), (0..32).map(|x| x * x).collect::<Vec<u32>>());
    let bad = kernel(1, "", ".local .align 4 .b8 s[16]; ld.local.u32 %r1, [s+4]; ret;");
    assert_eq!(d.run(&bad, 1, 32, &[out]).unwrap_err().kind, FaultKind::UninitialisedRead);
}

/// Each lane computes the Fibonacci number of its own index, so that the lanes' stacks always differ.
#[test]
fn recursion() {
    let d = Device::new();
    let out = d.empty(128);
    let text = format!(
        ".func (.param .b32 r) fib(.param .b32 n) {{
.reg .pred %p<2>; .reg .b32 %r<9>; .local .align 4 .b8 keep[4];
ld.param.u32 %r1, [n]; st.local.u32 [keep], %r1; mov.u32 %r7, %r1;
setp.lt.u32 %p1, %r1, 2; @%p1 bra $L_done;
add.u32 %r2, %r1, -1;
{{ .param .b32 a; .param .b32 b; st.param.b32 [a+0], %r2; call.uni (b), fib, (a); ld.param.b32 %r3, [b+0]; }}
ld.local.u32 %r4, [keep]; add.u32 %r4, %r4, -2;
{{ .param .b32 a; .param .b32 b; st.param.b32 [a+0], %r4; call.uni (b), fib, (a); ld.param.b32 %r5, [b+0]; }}
add.u32 %r7, %r3, %r5;
$L_done: st.param.b32 [r], %r7; ret; }}
{}",
        kernel(
            1,
            "",
            "mov.u32 %r1, %tid.x; and.b32 %r9, %r1, 7;
{ .param .b32 a; .param .b32 b; st.param.b32 [a+0], %r9; call.uni (b), fib, (a); ld.param.b32 %r3, [b+0]; }
bar.warp.sync -1; mul.wide.u32 %d1, %r1, 4; add.u64 %d1, %a0, %d1; st.global.u32 [%d1], %r3; ret;"
        )
    );
    d.run(&text, 1, 32, &[out]).unwrap_or_else(|f| panic!("{f}"));
    let fib = [0, 1, 1, 2, 3, 5, 8, 13];
    assert_eq!(d.words(out, 32), (0..32).map(|l| fib[l % 8]).collect::<Vec<u32>>());
    let endless = format!(".func f() {{ call f; ret; }}\n{}", kernel(0, "", "call f; ret;"));
    assert_eq!(d.run(&endless, 1, 32, &[]).unwrap_err().kind, FaultKind::OutOfBounds);
}

#[test]
fn a_loop_that_never_ends() {
    let d = Device::new();
    let fault = d.run(&kernel(0, "", "$a: bra.uni $a;"), 1, 32, &[]).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Deadlock);
}
