//! wgmma.mma_async, one instruction per kernel: every width, layout, type and option.

use crate::device::{Hopper, Param, fill, kernel};
use crate::layouts::{Operand, SPANS};
use half::{bf16, f16};

/// One product.
#[derive(Clone, Copy, Debug)]
struct Case {
    n: usize,
    bf16: bool,
    /// Sums in f16.
    half: bool,
    a_registers: bool,
    spans: [usize; 2],
    mn_major: [bool; 2],
    /// What is passed as scale-d.
    scale_d: &'static str,
    signs: [i32; 2],
    /// k16 steps to skip within swizzled rows.
    skip: usize,
}

const CASE: Case = Case {
    n: 64,
    bf16: false,
    half: false,
    a_registers: false,
    spans: [128; 2],
    mn_major: [false; 2],
    scale_d: "1",
    signs: [1; 2],
    skip: 0,
};

fn a(m: usize, k: usize) -> i32 {
    (m * 5 + k * 3) as i32 % 7 - 3
}
fn b(n: usize, k: usize) -> i32 {
    (n * 3 + k * 11) as i32 % 5 - 2
}
/// The initial value of the sums.
const BEFORE: i32 = 5;

fn bits(case: Case, x: i32) -> u16 {
    if case.bf16 { bf16::from_f32(x as f32).to_bits() } else { f16::from_f32(x as f32).to_bits() }
}

/// The sums, row by row, as integers.
fn run(case: Case) -> Vec<Vec<i32>> {
    let [a_span, b_span] = case.spans;
    let at_a = Operand { span: a_span, mn_major: case.mn_major[0], count: 64, start: 0 };
    let at_b = Operand {
        span: b_span,
        mn_major: case.mn_major[1],
        count: case.n,
        start: at_a.bytes().next_multiple_of(1024),
    };
    let total = at_b.start + at_b.bytes();
    let mut image = vec![0x55u8; total.next_multiple_of(16)];
    for k in 0..16 {
        (0..64).for_each(|m| at_a.put(&mut image, m, k + 16 * case.skip, bits(case, a(m, k))));
        (0..case.n).for_each(|n| at_b.put(&mut image, n, k + 16 * case.skip, bits(case, b(n, k))));
    }
    let registers = case.n / if case.half { 4 } else { 2 };
    let names: Vec<String> = (0..registers).map(|j| format!("%d{j}")).collect();
    let mut body = fill(image.len(), 128);
    let before = if case.half {
        let h = u32::from(f16::from_f32(BEFORE as f32).to_bits());
        h | h << 16
    } else {
        (BEFORE as f32).to_bits()
    };
    for name in &names {
        body += &format!("mov.b32 {name}, {before:#x};\n");
    }
    // Descriptors are relative to where shared memory begins.
    body += "cvt.u64.u32 %token, %smem;\nshr.u64 %token, %token, 4;\n";
    // A in registers: row 16w + g + 8·(j%2), columns 8·(j/2) + 2t and the next.
    body += "and.b32 %i, %tid0, 127;\n";
    if case.a_registers {
        body += "mul.wide.u32 %w, %tid0, 16;\nadd.u64 %w, %in, %w;\n";
        body += &format!("add.u64 %w, %w, {};\n", image.len());
        body += "ld.global.v4.b32 {%a0, %a1, %a2, %a3}, [%w];\n";
        for tid in 0..128 {
            let (w, g, t) = (tid / 32, tid % 32 / 4, tid % 4);
            for j in 0..4 {
                let (row, k) = (16 * w + g + 8 * (j % 2), 8 * (j / 2) + 2 * t);
                image.extend(bits(case, a(row, k)).to_le_bytes());
                image.extend(bits(case, a(row, k + 1)).to_le_bytes());
            }
        }
    }
    let ty = if case.bf16 { "bf16" } else { "f16" };
    let d = if case.half { "f16" } else { "f32" };
    let b_desc = at_b.descriptor(32 * case.skip);
    let (a_text, tail) = if case.a_registers {
        ("{%a0, %a1, %a2, %a3}".to_string(), format!("{}", u8::from(case.mn_major[1])))
    } else {
        let descriptor = at_a.descriptor(32 * case.skip);
        body += &format!("mov.b64 %v, {descriptor:#x};\nadd.u64 %v, %v, %token;\n");
        let [ma, mb] = case.mn_major.map(u8::from);
        ("%v".to_string(), format!("{ma}, {mb}"))
    };
    body += &format!(
        "mov.b64 %desc, {b_desc:#x};\nadd.u64 %desc, %desc, %token;\nsetp.ne.u32 %p, %tid0, -1;\nsetp.eq.u32 %q, %tid0, -1;\n"
    );
    body += &format!(
        "wgmma.fence.sync.aligned;\n\
         wgmma.mma_async.sync.aligned.m64n{}k16.{d}.{ty}.{ty} {{{}}}, {a_text}, %desc, {}, {}, {}, {tail};\n\
         wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n",
        case.n,
        names.join(", "),
        case.scale_d,
        case.signs[0],
        case.signs[1]
    );
    body += &format!("mul.wide.u32 %w, %tid0, {};\nadd.u64 %w, %out, %w;\n", 4 * registers);
    for (j, name) in names.iter().enumerate() {
        body += &format!("st.global.b32 [%w+{}], {name};\n", 4 * j);
    }
    let declarations = format!(".reg .b32 %d<{registers}>, %a<4>;\n");
    let text = kernel(128, "", &declarations, &body);
    let hopper = Hopper::new();
    let (input, out) = (hopper.upload(&image), hopper.alloc(512 * registers));
    let params = [Param::Pointer(input), Param::Pointer(out)];
    let shared = total.next_multiple_of(16) as u32;
    hopper.run(&text, (1, 128, shared), &params).unwrap_or_else(|f| panic!("{case:?}: {f}"));
    let words = hopper.words(out, 128 * registers);
    let mut sums = vec![vec![i32::MIN; case.n]; 64];
    for tid in 0..128 {
        let (w, g, t) = (tid / 32, tid % 32 / 4, tid % 4);
        for j in 0..registers {
            let word = words[tid * registers + j];
            if case.half {
                let (row, column) = (16 * w + g + 8 * (j % 2), 8 * (j / 2) + 2 * t);
                sums[row][column] = f16::from_bits(word as u16).to_f32() as i32;
                sums[row][column + 1] = f16::from_bits((word >> 16) as u16).to_f32() as i32;
            } else {
                let (row, column) = (16 * w + g + 8 * (j / 2 % 2), 8 * (j / 4) + 2 * t + j % 2);
                sums[row][column] = f32::from_bits(word) as i32;
            }
        }
    }
    sums
}

fn check(case: Case) {
    let sign = case.signs[0] * case.signs[1];
    let before = if matches!(case.scale_d, "0" | "%q") { 0 } else { BEFORE };
    let sums = run(case);
    for (m, row) in sums.iter().enumerate() {
        for (n, &got) in row.iter().enumerate() {
            let product: i32 = (0..16).map(|k| a(m, k) * b(n, k)).sum();
            assert_eq!(got, before + sign * product, "{case:?}: row {m}, column {n}");
        }
    }
}

#[test]
fn both_majors_and_every_swizzle() {
    for a_span in SPANS {
        for b_span in SPANS {
            for a_major in [false, true] {
                for b_major in [false, true] {
                    let (spans, mn_major) = ([a_span, b_span], [a_major, b_major]);
                    check(Case { n: 64, spans, mn_major, ..CASE });
                }
            }
        }
    }
}

#[test]
fn every_width() {
    for n in (8..=256).step_by(8) {
        check(Case { n, ..CASE });
        // The last panel of columns may be partly used.
        check(Case { n, mn_major: [false, true], ..CASE });
    }
}

#[test]
fn a_from_registers() {
    for b_major in [false, true] {
        check(Case { a_registers: true, mn_major: [false, b_major], n: 96, ..CASE });
    }
}

#[test]
fn sums_are_read_or_not() {
    for scale_d in ["0", "1", "%p", "%q"] {
        check(Case { scale_d, ..CASE });
    }
}

#[test]
fn negation_of_either_side() {
    for signs in [[1, -1], [-1, 1], [-1, -1]] {
        check(Case { signs, ..CASE });
        check(Case { signs, a_registers: true, ..CASE });
    }
}

#[test]
fn sums_in_half_precision() {
    for n in [8, 64, 256] {
        check(Case { half: true, n, ..CASE });
    }
}

#[test]
fn operands_in_bf16() {
    check(Case { bf16: true, ..CASE });
    check(Case { bf16: true, a_registers: true, mn_major: [false, true], ..CASE });
}

#[test]
fn a_later_step_within_swizzled_rows() {
    for skip in 1..4 {
        check(Case { skip, ..CASE });
    }
    check(Case { skip: 1, spans: [64; 2], ..CASE });
}
