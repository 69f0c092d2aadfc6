//! Warp-level matrix instructions. Fragments are built and read by the manual's element formulas, products are plain
//! triple loops in f64.

use crate::harness::*;

/// A small deterministic number generator.
struct Random(u64);
impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as u32
    }
    /// A small integer, exact in every format; products and sums of them are exact in f32 and f16 too.
    fn small(&mut self) -> f64 {
        f64::from(self.next() % 9) - 4.0
    }
}

/// Encodes an integer of small magnitude in the element type.
fn encode(ty: &str, x: f64) -> u32 {
    match ty {
        "f16" => {
            // Sign, exponent and mantissa of an integer below 2048.
            if x == 0.0 {
                return 0;
            }
            let bits = x.to_bits();
            let exponent = (bits >> 52 & 0x7ff) as i32 - 1023 + 15;
            ((bits >> 63) as u32) << 15 | (exponent as u32) << 10 | (bits >> 42 & 0x3ff) as u32
        }
        "bf16" => (x as f32).to_bits() >> 16,
        "tf32" | "f32" => (x as f32).to_bits(),
        "s8" | "u8" => x as i32 as u32 & 0xff,
        "s4" | "u4" => x as i32 as u32 & 0xf,
        _ => x as i32 as u32,
    }
}
fn decode_f16(h: u32) -> f64 {
    let sign = if h & 0x8000 != 0 { -1.0 } else { 1.0 };
    let (e, m) = ((h >> 10 & 31) as i32, f64::from(h & 0x3ff));
    sign * if e == 0 { m * 2f64.powi(-24) } else { (1024.0 + m) * 2f64.powi(e - 25) }
}
fn element_bits(ty: &str) -> usize {
    match ty {
        "f16" | "bf16" => 16,
        "s8" | "u8" => 8,
        "s4" | "u4" => 4,
        _ => 32,
    }
}

/// Row and column of element `i` of a lane's A fragment (the same pattern for all m16n8k*).
fn a_place(bits: usize, k: usize, lane: usize, i: usize) -> (usize, usize) {
    let per = 32 / bits;
    let (group, within) = (lane >> 2, lane % 4);
    let register = i / per;
    let row = if register.is_multiple_of(2) { group } else { group + 8 };
    let col = within * per + i % per + (register / 2) * 4 * per;
    assert!(col < k);
    (row, col)
}
/// Row (k) and column (n) of element `i` of a lane's B fragment.
fn b_place(bits: usize, lane: usize, i: usize) -> (usize, usize) {
    let per = 32 / bits;
    (lane % 4 * per + i % per + i / per * 4 * per, lane >> 2)
}
/// Row and column of element `i` of C and D.
fn c_place(lane: usize, i: usize) -> (usize, usize) {
    ((lane >> 2) + if i < 2 { 0 } else { 8 }, lane % 4 * 2 + (i & 1))
}

struct ProductCase {
    text: &'static str,
    k: usize,
    a: &'static str,
    b: &'static str,
    c: &'static str,
    d: &'static str,
}

const fn case(
    text: &'static str,
    k: usize,
    a: &'static str,
    b: &'static str,
    c: &'static str,
    d: &'static str,
) -> ProductCase {
    ProductCase { text, k, a, b, c, d }
}

#[test]
fn mma_sync() {
    let cases = [
        case("m16n8k8.row.col.f32.f16.f16.f32", 8, "f16", "f16", "f32", "f32"),
        case("m16n8k16.row.col.f32.f16.f16.f32", 16, "f16", "f16", "f32", "f32"),
        case("m16n8k8.row.col.f16.f16.f16.f16", 8, "f16", "f16", "f16", "f16"),
        case("m16n8k16.row.col.f16.f16.f16.f16", 16, "f16", "f16", "f16", "f16"),
        case("m16n8k8.row.col.f32.bf16.bf16.f32", 8, "bf16", "bf16", "f32", "f32"),
        case("m16n8k16.row.col.f32.bf16.bf16.f32", 16, "bf16", "bf16", "f32", "f32"),
        case("m16n8k4.row.col.f32.tf32.tf32.f32", 4, "tf32", "tf32", "f32", "f32"),
        case("m16n8k8.row.col.f32.tf32.tf32.f32", 8, "tf32", "tf32", "f32", "f32"),
        case("m16n8k16.row.col.s32.s8.s8.s32", 16, "s8", "s8", "s32", "s32"),
        case("m16n8k32.row.col.s32.s8.s8.s32", 32, "s8", "s8", "s32", "s32"),
        case("m16n8k32.row.col.s32.u8.s8.s32", 32, "u8", "s8", "s32", "s32"),
        case("m16n8k32.row.col.satfinite.s32.u8.u8.s32", 32, "u8", "u8", "s32", "s32"),
        case("m16n8k32.row.col.s32.s4.s4.s32", 32, "s4", "s4", "s32", "s32"),
        case("m16n8k64.row.col.s32.u4.s4.s32", 64, "u4", "s4", "s32", "s32"),
    ];
    let mut random = Random(11);
    for case in cases {
        let mut value = |ty: &str| match ty {
            "u8" => f64::from(random.next() % 256),
            "s8" => f64::from(random.next() % 256) - 128.0,
            "u4" => f64::from(random.next() % 16),
            "s4" => f64::from(random.next() % 16) - 8.0,
            _ => random.small(),
        };
        let a: Vec<Vec<f64>> =
            (0..16).map(|_| (0..case.k).map(|_| value(case.a)).collect()).collect();
        let b: Vec<Vec<f64>> =
            (0..case.k).map(|_| (0..8).map(|_| value(case.b)).collect()).collect();
        let c: Vec<Vec<f64>> = (0..16).map(|_| (0..8).map(|_| value("f32")).collect()).collect();
        let pack = |ty: &str, elements: usize, at: &dyn Fn(usize) -> f64| -> Vec<u32> {
            let bits = element_bits(ty);
            let per = 32 / bits;
            let one = |i: usize| encode(ty, at(i)) << (bits * (i % per));
            (0..elements / per).map(|r| (0..per).map(|j| one(r * per + j)).sum()).collect()
        };
        let inputs: Vec<Vec<u32>> = (0..32)
            .map(|lane| {
                let from_a = |i| {
                    let (row, col) = a_place(element_bits(case.a), case.k, lane, i);
                    a[row][col]
                };
                let from_b = |i| {
                    let (row, col) = b_place(element_bits(case.b), lane, i);
                    b[row][col]
                };
                let from_c = |i| {
                    let (row, col) = c_place(lane, i);
                    c[row][col]
                };
                let mut v = pack(case.a, case.k / 2, &from_a);
                v.extend(pack(case.b, case.k / 4, &from_b));
                v.extend(pack(case.c, 4, &from_c));
                v
            })
            .collect();
        let regs = |from: usize, n: usize, name: &str| {
            (from..from + n).map(|i| format!("%{name}{i}")).collect::<Vec<_>>().join(", ")
        };
        let (na, nb) =
            (case.k / 2 * element_bits(case.a) / 32, case.k / 4 * element_bits(case.b) / 32);
        let (nc, nd) = (4 * element_bits(case.c) / 32, 4 * element_bits(case.d) / 32);
        let body = format!(
            "mma.sync.aligned.{} {{{}}}, {{{}}}, {{{}}}, {{{}}};",
            case.text,
            regs(0, nd, "d"),
            regs(0, na, "a"),
            regs(na, nb, "a"),
            regs(na + nb, nc, "a")
        );
        let out = lanes("", &body, nd, &inputs);
        for (lane, d) in out.iter().enumerate() {
            for i in 0..4 {
                let (row, col) = c_place(lane, i);
                let want = (0..case.k).map(|k| a[row][k] * b[k][col]).sum::<f64>() + c[row][col];
                let got = match case.d {
                    "f16" => decode_f16(d[i / 2] >> (16 * (i % 2)) & 0xffff),
                    "f32" => f64::from(f32::from_bits(d[i])),
                    _ => f64::from(d[i] as i32),
                };
                assert_eq!(
                    got, want,
                    "warp-level matrix: mma.{} row {row} column {col}",
                    case.text
                );
            }
        }
    }
}

#[test]
fn mma_f64() {
    let mut random = Random(3);
    let a: Vec<f64> = (0..32).map(|_| random.small() + 0.125).collect();
    let b: Vec<f64> = (0..32).map(|_| random.small()).collect();
    let body = "mov.b64 %x, {%a0, %a1};\nmov.b64 %y, {%a2, %a3};\nmov.f64 %z, 0d4000000000000000;\n\
                mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%u, %v}, {%x}, {%y}, {%z, %z};\n\
                mov.b64 {%d0, %d1}, %u;\nmov.b64 {%d2, %d3}, %v;";
    let halves = |x: f64| [x.to_bits() as u32, (x.to_bits() >> 32) as u32];
    // A is 8×4 by rows, B is 4×8 with lane = column·4 + row.
    let inputs: Vec<Vec<u32>> = (0..32).map(|i| [halves(a[i]), halves(b[i])].concat()).collect();
    let out = lanes(".reg .f64 %x, %y, %z, %u, %v;\n", body, 4, &inputs);
    for (lane, d) in out.iter().enumerate() {
        for i in 0..2 {
            let (row, col) = (lane >> 2, lane % 4 * 2 + i);
            let want = (0..4).map(|k| a[row * 4 + k] * b[col * 4 + k]).sum::<f64>() + 2.0;
            let got = f64::from_bits(u64::from(d[2 * i]) | u64::from(d[2 * i + 1]) << 32);
            assert_eq!(got, want, "warp-level matrix: mma.m8n8k4.f64");
        }
    }
}

/// NaN and infinity go where they should and nowhere else.
#[test]
fn mma_special_values() {
    let mut inputs = vec![
        vec![
            0x3c00_3c00,
            0x3c00_3c00,
            0x3c00_3c00,
            0x3c00_3c00,
            0x3c00_3c00,
            0x3c00_3c00,
            0,
            0,
            0,
            0
        ];
        32
    ];
    inputs[0][0] = 0x3c00_7c00; // A[0][0] = ∞
    inputs[4][1] = 0x7e00_3c00; // A[9][1] = NaN
    let body = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%d0, %d1, %d2, %d3}, {%a0, %a1, %a2, %a3}, {%a4, %a5}, {%a6, %a7, %a8, %a9};";
    for (lane, d) in lanes("", body, 4, &inputs).iter().enumerate() {
        for (i, &bits) in d.iter().enumerate() {
            let x = f32::from_bits(bits);
            match c_place(lane, i).0 {
                0 => assert_eq!(x, f32::INFINITY),
                9 => assert!(x.is_nan()),
                _ => assert_eq!(x, 16.0),
            }
        }
    }
}

/// Eight rows of 16 bytes per matrix; element value = 1000·matrix + 8·row + column.
fn matrices(count: usize) -> Vec<u16> {
    (0..count * 64).map(|i| (1000 * (i / 64) + i % 64) as u16).collect()
}

#[test]
fn ldmatrix() {
    let shared: Vec<u8> = matrices(4).iter().flat_map(|x| x.to_le_bytes()).collect();
    for count in [1usize, 2, 4] {
        for trans in [false, true] {
            let regs = (0..count).map(|i| format!("%v{i}")).collect::<Vec<_>>().join(", ");
            let modifier = if trans { ".trans" } else { "" };
            let mut body = String::from(
                "mov.u32 %s, box;\nmad.lo.u32 %s, %tid0, 16, %s;\nmad.wide.u32 %p, %tid0, 16, %in;\nld.global.v4.b32 {%v0, %v1, %v2, %v3}, [%p];\n\
                 st.shared.v4.b32 [%s], {%v0, %v1, %v2, %v3};\nbar.sync 0;\n",
            );
            body += &format!(
                "ldmatrix.sync.aligned.m8n8.x{count}{modifier}.shared.b16 {{{regs}}}, [%s];\n"
            );
            body += &format!("mad.wide.u32 %p, %tid0, {}, %out;\n", 4 * count);
            for i in 0..count {
                body += &format!("st.global.b32 [%p+{}], %v{i};\n", 4 * i);
            }
            let text = module_text(
                "",
                ".shared .align 16 .b8 box[512];\n.reg .b32 %s, %v<4>;\n.reg .b64 %p;",
                &body,
            );
            let out = words(&run(&text, 32, &shared, 128 * count).unwrap());
            for lane in 0..32usize {
                for m in 0..count {
                    let (row, col) = (lane / 4, 2 * (lane % 4));
                    let at = |r: usize, c: usize| (1000 * m + 8 * r + c) as u32;
                    let want = if trans {
                        at(col, row) | at(col + 1, row) << 16
                    } else {
                        at(row, col) | at(row, col + 1) << 16
                    };
                    assert_eq!(
                        out[lane * count + m],
                        want,
                        "warp-level matrix: ldmatrix.x{count}{modifier} lane {lane}"
                    );
                }
            }
        }
    }
}

#[test]
fn stmatrix() {
    for count in [1usize, 2, 4] {
        for trans in [false, true] {
            let modifier = if trans { ".trans" } else { "" };
            let regs = (0..count).map(|i| format!("%v{i}")).collect::<Vec<_>>().join(", ");
            // Register m of a lane holds two distinct numbers: 256·m + 2·lane and the next.
            let mut body = String::from(
                "mov.u32 %s, box;\nmad.lo.u32 %s, %tid0, 16, %s;\nmov.b32 %v0, 0;\nst.shared.v4.b32 [%s], {%v0, %v0, %v0, %v0};\nbar.sync 0;\n",
            );
            for m in 0..count {
                body += &format!(
                    "mad.lo.u32 %v{m}, %tid0, 2, {};\nadd.u32 %t, %v{m}, 1;\nshl.b32 %t, %t, 16;\nor.b32 %v{m}, %v{m}, %t;\n",
                    256 * m
                );
            }
            body += &format!(
                "stmatrix.sync.aligned.m8n8.x{count}{modifier}.shared.b16 [%s], {{{regs}}};\nbar.sync 0;\n"
            );
            body += "mad.wide.u32 %p, %tid0, 16, %out;\nld.shared.v4.b32 {%v0, %v1, %v2, %v3}, [%s];\nst.global.v4.b32 [%p], {%v0, %v1, %v2, %v3};\n";
            let text = module_text(
                "",
                ".shared .align 16 .b8 box[512];\n.reg .b32 %s, %t, %v<4>;\n.reg .b64 %p;",
                &body,
            );
            let out = run(&text, 32, &[], 512).unwrap();
            let element = |m: usize, r: usize, c: usize| {
                let at = 128 * m + 16 * r + 2 * c;
                usize::from(u16::from_le_bytes([out[at], out[at + 1]]))
            };
            for m in 0..count {
                for lane in 0..32 {
                    for half in 0..2 {
                        let (row, col) = (lane / 4, 2 * (lane % 4) + half);
                        let (row, col) = if trans { (col, row) } else { (row, col) };
                        assert_eq!(
                            element(m, row, col),
                            256 * m + 2 * lane + half,
                            "warp-level matrix: stmatrix.x{count}{modifier}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn movmatrix() {
    let inputs: Vec<Vec<u32>> =
        (0..32).map(|lane| vec![(2 * lane) | (2 * lane + 1) << 16]).collect();
    let out = lanes("", "movmatrix.sync.aligned.m8n8.trans.b16 %d0, %a0;", 1, &inputs);
    for (lane, d) in out.iter().enumerate() {
        let (row, col) = (lane / 4, 2 * (lane % 4));
        let want = (8 * col + row) as u32 | ((8 * (col + 1) + row) as u32) << 16;
        assert_eq!(d[0], want, "warp-level matrix: movmatrix");
    }
}
