//! Whole kernels: a vector sum, a matrix product, and PTX that is refused.

use super::device::{Device, HEAD, VECTOR_ADD, kernel};
use crate::Module;

#[test]
fn vector_add() {
    let d = Device::new();
    let n = 1000;
    let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let b: Vec<f32> = (0..n).map(|i| 0.5 * i as f32).collect();
    let (pa, pb, pc) = (d.upload(&a), d.upload(&b), d.empty(n as u64 * 4));
    let counters = d.run(&kernel(4, "", VECTOR_ADD), 8, 128, &[pa, pb, pc, n as u64]).unwrap();
    let c = d.floats(pc, n);
    assert!((0..n).all(|i| c[i] == a[i] + b[i]));
    assert_eq!(counters.blocks, 8);
    assert_eq!(counters.global_bytes_asked, n as u64 * 12);
    assert_eq!(counters.global_sectors, counters.global_sectors_ideal);
    assert_eq!(counters.global_sectors, (n as u64 * 4).div_ceil(32) * 3);
}

#[test]
fn matrix_product() {
    let d = Device::new();
    // A is 16 × 16 (row + 2·column mod 5), B 16 × 8 by columns, both f16 in shared memory through ldmatrix.
    let half = |x: f32| crate::numeric::half::f32_to_f16_rn(x);
    let a = |r: usize, c: usize| ((r + 2 * c) % 5) as f32;
    let b = |r: usize, c: usize| ((3 * r + c) % 7) as f32 - 3.0;
    let am: Vec<u16> = (0..256).map(|i| half(a(i / 16, i % 16))).collect();
    let bm: Vec<u16> = (0..128).map(|i| half(b(i % 16, i / 16))).collect();
    let (pa, pb, pc) = (d.upload(&am), d.upload(&bm), d.empty(512));
    let body = "
mov.u32 %r1, %tid.x; shl.b32 %r2, %r1, 4; cvt.u64.u32 %d1, %r2; add.u64 %d2, %a0, %d1;
mov.u32 %r3, sa; add.u32 %r4, %r3, %r2; ld.global.v4.u32 {%r10,%r11,%r12,%r13}, [%d2]; st.shared.v4.u32 [%r4], {%r10,%r11,%r12,%r13};
shl.b32 %r2, %r1, 3; cvt.u64.u32 %d1, %r2; add.u64 %d2, %a1, %d1; mov.u32 %r5, sb; add.u32 %r6, %r5, %r2;
ld.global.v2.u32 {%r10,%r11}, [%d2]; st.shared.v2.u32 [%r6], {%r10,%r11};
bar.warp.sync -1;
and.b32 %r7, %r1, 15; shl.b32 %r7, %r7, 5; shr.u32 %r8, %r1, 4; shl.b32 %r8, %r8, 4; add.u32 %r7, %r7, %r8; add.u32 %r7, %r7, %r3;
ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r20,%r21,%r22,%r23}, [%r7];
and.b32 %r7, %r1, 7; shl.b32 %r7, %r7, 5; shr.u32 %r8, %r1, 3; and.b32 %r8, %r8, 1; shl.b32 %r8, %r8, 4; add.u32 %r7, %r7, %r8; add.u32 %r7, %r7, %r5;
ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r24,%r25}, [%r7];
mov.f32 %f1, 0f00000000;
mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f2,%f3,%f4,%f5}, {%r20,%r21,%r22,%r23}, {%r24,%r25}, {%f1,%f1,%f1,%f1};
shr.u32 %r30, %r1, 2; and.b32 %r31, %r1, 3; shl.b32 %r30, %r30, 5; shl.b32 %r31, %r31, 3; add.u32 %r30, %r30, %r31;
cvt.u64.u32 %d3, %r30; add.u64 %d3, %a2, %d3; st.global.v2.f32 [%d3], {%f2,%f3}; st.global.v2.f32 [%d3+256], {%f4,%f5}; ret;";
    let counters = d
        .run(
            &kernel(3, ".shared .align 16 .b8 sa[512]; .shared .align 16 .b8 sb[256];", body),
            1,
            32,
            &[pa, pb, pc],
        )
        .unwrap();
    let c = d.floats(pc, 128);
    for row in 0..16 {
        for col in 0..8 {
            let want: f32 = (0..16).map(|k| a(row, k) * b(k, col)).sum();
            assert_eq!(c[row * 8 + col], want, "({row},{col})");
        }
    }
    assert_eq!((counters.mma, counters.mma_flops), (1, 4096));
    assert!(counters.shared_bank_conflicts > 0);
}

#[test]
fn refusals_name_the_line() {
    let d = Device::new();
    let load =
        |body: &str| Module::load(&format!("{HEAD}{body}"), &d.memory, &d.config).unwrap_err();
    let e = load(&kernel(0, "", "frobnicate.u32 %r1, %r2;"));
    assert!(
        e.line > 3 && e.text.contains("frobnicate") && e.message.contains("not supported"),
        "{e}"
    );
    assert!(load(&kernel(0, "", "add.u32.banana %r1, %r2, %r3;")).message.contains("banana"));
    assert!(load(&kernel(0, "", "add.u32 %r1, %r2, %nope;")).message.contains("%nope"));
    assert!(load(&kernel(0, "", "add.u64 %r1, %d2, %d3;")).message.contains("wide"));
    assert!(load(&kernel(0, "", "bra $nowhere;")).message.contains("$nowhere"));
    assert!(load(".visible .entry k() { ").line > 0);
}
