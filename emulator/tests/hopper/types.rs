//! wgmma.mma_async of narrower and wider elements than 16 bits: 32 bytes of k, both operands by k.

use crate::device::{Hopper, Param, fill, kernel};
use crate::layouts::{Operand, SPANS};

const COLUMNS: usize = 32;

/// Small numbers, as an element type writes them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Tf32,
    E4m3,
    E5m2,
    S8,
    U8,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Tf32 => "tf32",
            Self::E4m3 => "e4m3",
            Self::E5m2 => "e5m2",
            Self::S8 => "s8",
            Self::U8 => "u8",
        }
    }
    fn bytes(self, x: i32) -> Vec<u8> {
        let float = |of: [u8; 4]| vec![of[x.unsigned_abs() as usize] | u8::from(x < 0) << 7];
        match self {
            Self::Tf32 => (x as f32).to_le_bytes().to_vec(),
            Self::E4m3 => float([0, 0x38, 0x40, 0x44]),
            Self::E5m2 => float([0, 0x3c, 0x40, 0x42]),
            Self::S8 | Self::U8 => vec![x as u8],
        }
    }
    fn value(self, x: usize) -> i32 {
        let x = x as i32 % 7 - 3;
        if self == Self::U8 { x + 3 } else { x }
    }
}

fn run([a, b]: [Kind; 2], d: &str, span: usize, a_registers: bool, negate: bool) {
    let depth = if a == Kind::Tf32 { 8 } else { 32 };
    let left = |m: usize, k: usize| a.value(m * 5 + k * 3);
    let right = |n: usize, k: usize| b.value(n * 3 + k * 11);
    let at_a = Operand { span, mn_major: false, count: 64, start: 0 };
    let start = at_a.bytes().next_multiple_of(1024);
    let at_b = Operand { span, mn_major: false, count: COLUMNS, start };
    let total = (start + at_b.bytes()).next_multiple_of(16);
    let mut image = vec![0x55; total];
    let row = |kind: Kind, value: &dyn Fn(usize) -> i32| -> Vec<u8> {
        (0..depth).flat_map(|k| kind.bytes(value(k))).collect()
    };
    let rows: Vec<Vec<u8>> = (0..64).map(|m| row(a, &|k| left(m, k))).collect();
    let columns: Vec<Vec<u8>> = (0..COLUMNS).map(|n| row(b, &|k| right(n, k))).collect();
    for (operand, lines) in [(at_a, &rows), (at_b, &columns)] {
        for (mn, line) in lines.iter().enumerate() {
            for (k, pair) in line.chunks(2).enumerate() {
                operand.put(&mut image, mn, k, u16::from_le_bytes([pair[0], pair[1]]));
            }
        }
    }
    let mut body = fill(total, 128);
    // A in registers: row 16w + g + 8·(j%2), the four bytes of k at 16·(j/2) + 4t.
    for thread in 0..128 {
        let (w, g, t) = (thread / 32, thread % 32 / 4, thread % 4);
        for j in 0..4 {
            let from = 16 * (j / 2) + 4 * t;
            image.extend(&rows[16 * w + g + 8 * (j % 2)][from..from + 4]);
        }
    }
    let half = d == "f16";
    let registers = COLUMNS / if half { 4 } else { 2 };
    let names: Vec<String> = (0..registers).map(|j| format!("%d{j}")).collect();
    let before = match d {
        "s32" => 5,
        "f32" => 5f32.to_bits(),
        _ => 0x4500_4500,
    };
    names.iter().for_each(|name| body += &format!("mov.b32 {name}, {before:#x};\n"));
    body += &format!(
        "mul.wide.u32 %w, %tid0, 16;\nadd.u64 %w, %in, %w;\nld.global.v4.b32 {{%a0, %a1, %a2, %a3}}, [%w+{total}];\n\
         cvt.u64.u32 %token, %smem;\nshr.u64 %token, %token, 4;\nmov.b64 %v, {:#x};\nadd.u64 %v, %v, %token;\n\
         mov.b64 %desc, {:#x};\nadd.u64 %desc, %desc, %token;\nwgmma.fence.sync.aligned;\n",
        at_a.descriptor(0),
        at_b.descriptor(0)
    );
    let signs = match (d, negate) {
        ("s32", _) => "",
        (_, true) => ", 1, -1",
        _ => ", 1, 1",
    };
    body += &format!(
        "wgmma.mma_async.sync.aligned.m64n{COLUMNS}k{depth}.{d}.{}.{} {{{}}}, {}, %desc, 1{signs};\n\
         wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;\n",
        a.name(),
        b.name(),
        names.join(", "),
        if a_registers { "{%a0, %a1, %a2, %a3}" } else { "%v" },
    );
    body += &format!("mul.wide.u32 %w, %tid0, {};\nadd.u64 %w, %out, %w;\n", 4 * registers);
    for (j, name) in names.iter().enumerate() {
        body += &format!("st.global.b32 [%w+{}], {name};\n", 4 * j);
    }
    let declarations = format!(".reg .b32 %d<{registers}>, %a<4>;\n");
    let hopper = Hopper::new();
    let (input, out) = (hopper.upload(&image), hopper.alloc(512 * registers));
    let params = [Param::Pointer(input), Param::Pointer(out)];
    let what = format!("{a:?} {b:?} {d}, {span}, registers: {a_registers}");
    hopper
        .run(&kernel(128, "", &declarations, &body), (1, 128, total as u32), &params)
        .unwrap_or_else(|f| panic!("{what}: {f}"));
    let words = hopper.words(out, 128 * registers);
    let sign = if negate { -1 } else { 1 };
    for thread in 0..128 {
        let (w, g, t) = (thread / 32, thread % 32 / 4, thread % 4);
        for j in 0..registers {
            let word = words[thread * registers + j];
            let sums = match d {
                "s32" => vec![word as i32],
                "f32" => vec![f32::from_bits(word) as i32],
                _ => [word as u16, (word >> 16) as u16]
                    .map(|h| half::f16::from_bits(h).to_f32() as i32)
                    .to_vec(),
            };
            let (row, column) = match half {
                true => (16 * w + g + 8 * (j % 2), 8 * (j / 2) + 2 * t),
                false => (16 * w + g + 8 * (j / 2 % 2), 8 * (j / 4) + 2 * t + j % 2),
            };
            for (i, got) in sums.into_iter().enumerate() {
                let product: i32 = (0..depth).map(|k| left(row, k) * right(column + i, k)).sum();
                assert_eq!(got, 5 + sign * product, "{what}: row {row}, column {}", column + i);
            }
        }
    }
}

#[test]
fn eight_bits_and_tf32_from_shared_memory() {
    use Kind::*;
    for span in SPANS {
        run([Tf32; 2], "f32", span, false, false);
        run([E4m3; 2], "f32", span, false, false);
        run([S8; 2], "s32", span, false, false);
    }
    run([E5m2, E4m3], "f32", 128, false, false);
    run([E4m3, E5m2], "f16", 128, false, false);
    run([S8, U8], "s32", 128, false, false);
    run([U8; 2], "s32", 64, false, false);
}

#[test]
fn eight_bits_and_tf32_from_registers() {
    use Kind::*;
    for negate in [false, true] {
        run([Tf32; 2], "f32", 128, true, negate);
        run([E5m2; 2], "f32", 128, true, negate);
    }
    run([U8, S8], "s32", 128, true, false);
}
