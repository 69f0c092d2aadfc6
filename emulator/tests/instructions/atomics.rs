//! atom and red.

use crate::harness::*;

/// (operation, starting value, operands, old value returned, value left). All in one thread, each width.
#[test]
#[rustfmt::skip]
fn each_operation_once() {
    const ONES: u64 = 0xffff_ffff;
    let table: &[(&str, u64, &[u64], u64)] = &[
        ("add.u32", ONES, &[2], 1),
        ("add.s32", s(-5), &[3], s(-2)),
        ("add.u64", u64::MAX, &[2], 1),
        ("add.f32", f(1.5), &[f(2.25)], f(3.75)),
        ("add.f64", g(1.5), &[g(2.25)], g(3.75)),
        ("and.b32", 0xff0f, &[0x0ff3], 0x0f03),
        ("and.b64", u64::MAX, &[1 << 40], 1 << 40),
        ("or.b32", 0xf0, &[0x0f], 0xff),
        ("or.b64", 1 << 40, &[1], 1 << 40 | 1),
        ("xor.b32", 0xff, &[0x0f], 0xf0),
        ("xor.b64", u64::MAX, &[1], u64::MAX - 1),
        ("exch.b32", 7, &[9], 9),
        ("exch.b64", 7, &[1 << 40], 1 << 40),
        ("cas.b32", 7, &[7, 9], 9),
        ("cas.b32", 8, &[7, 9], 8),
        ("cas.b64", 1 << 40, &[1 << 40, 9], 9),
        ("cas.b16", 7, &[7, 9], 9),
        ("inc.u32", 5, &[9], 6),
        ("inc.u32", 9, &[9], 0),
        ("inc.u32", 12, &[9], 0),
        ("dec.u32", 5, &[9], 4),
        ("dec.u32", 0, &[9], 9),
        ("dec.u32", 12, &[9], 9),
        ("min.u32", ONES, &[3], 3),
        ("min.s32", s(-1), &[3], s(-1)),
        ("max.u32", ONES, &[3], ONES),
        ("max.s32", s(-1), &[3], 3),
        ("min.u64", u64::MAX, &[3], 3),
        ("min.s64", l(-1), &[3], l(-1)),
        ("max.u64", u64::MAX, &[3], u64::MAX),
        ("max.s64", l(-1), &[3], 3),
        ("add.noftz.f16", 0x3c00, &[0x4000], 0x4200),
        ("add.noftz.f16x2", 0x3c00_4000, &[0x3c00_3c00], 0x4000_4200),
        ("add.noftz.bf16", 0x3f80, &[0x4000], 0x4040),
        ("add.noftz.bf16x2", 0x3f80_4000, &[0x3f80_3f80], 0x4000_4040),
    ];
    for &(op, start, operands, left) in table {
        let bits: u32 = match op.rsplit(['.']).next().unwrap() {
            "f16" | "bf16" | "b16" => 16,
            "f16x2" | "bf16x2" => 32,
            ty => ty[1..].parse().unwrap(),
        };
        for (space, sem) in [
            ("global", ""),
            ("shared", ""),
            ("global", ".relaxed.gpu"),
            ("global", ".acq_rel.cta"),
            ("", ""),
        ] {
            let operation = op;
            let place = if space == "shared" { "box" } else { "%out+8" };
            let dotted = if space.is_empty() {
                String::new()
            } else {
                format!(".{space}")
            };
            let regs: Vec<String> = (0..operands.len()).map(|i| format!("%b{i}")).collect();
            let mut body =
                format!("ld.global.b{bits} %s, [%in];\nst{dotted}.b{bits} [{place}], %s;\n");
            for (i, reg) in regs.iter().enumerate() {
                body += &format!("ld.global.b{bits} {reg}, [%in+{}];\n", 8 * (i + 1));
            }
            body += &format!(
                "atom{sem}{dotted}.{operation} %d, [{place}], {};\n",
                regs.join(", ")
            );
            body += &format!(
                "st.global.b{bits} [%out], %d;\nld{dotted}.b{bits} %d, [{place}];\nst.global.b{bits} [%out+8], %d;\n"
            );
            let declarations =
                format!(".shared .align 8 .b8 box[8];\n.reg .b{bits} %s, %d, %b<3>;");
            let input: Vec<u8> = std::iter::once(&start)
                .chain(operands)
                .flat_map(|x| x.to_le_bytes())
                .collect();
            let name = format!("parallel synchronization and communication: atom{sem}{dotted}.{op}");
            let out = run(&module_text("", &declarations, &body), 1, &input, 16)
                .unwrap_or_else(|e| panic!("{name}: {e}"));
            let mask = if bits == 64 {
                u64::MAX
            } else {
                (1 << bits) - 1
            };
            let read = |at: usize| u64::from_le_bytes(out[at..at + 8].try_into().unwrap()) & mask;
            assert_eq!((read(0), read(8)), (start, left), "{name} of {start:#x}");
            if operands.len() == 1 && !op.starts_with("exch") && sem.is_empty() {
                let body = body.replace(
                    &format!("atom{sem}{dotted}.{operation} %d, "),
                    &format!("mov.b{bits} %d, %s;\nred{dotted}.{operation} "),
                );
                let out = run(&module_text("", &declarations, &body), 1, &input, 16)
                    .unwrap_or_else(|e| panic!("parallel synchronization and communication: red{dotted}.{op}: {e}"));
                let got = u64::from_le_bytes(out[8..16].try_into().unwrap()) & mask;
                assert_eq!(got, left, "parallel synchronization and communication: red{dotted}.{op}");
            }
        }
    }
}

/// All lanes of several warps and blocks on one address: nothing is lost, and the old values are all different.
#[test]
fn contention() {
    let body = "atom.global.add.u32 %v, [%out], 1;\nmov.u32 %b, %ctaid.x;\nmad.lo.u32 %b, %b, 96, %tid0;\n\
                mad.wide.u32 %p, %b, 4, %out;\nst.global.b32 [%p+4], %v;\n";
    let text = module_text("", ".reg .b32 %v, %b;\n.reg .b64 %p;", body);
    let mut out = words(&run_grid(&text, 4, 96, 0, &[], 4 * 385).unwrap());
    let start = 0xcdcd_cdcdu32;
    assert_eq!(out[0], start + 384);
    out[1..].sort_unstable();
    assert!(out[1..].iter().zip(start..).all(|(&got, want)| got == want));
}

/// Only active lanes take part; each sees the sum so far in some order.
#[test]
fn guarded_lanes() {
    let body = "mov.b32 %v, 0;\nst.shared.b32 [box], %v;\nbar.warp.sync -1;\nsetp.lt.u32 %p, %tid0, 10;\n\
                @%p red.shared.add.u32 [box], %a0;\nbar.warp.sync -1;\nld.shared.b32 %d0, [box];";
    let declarations = ".shared .align 4 .b32 box[1];\n.reg .b32 %v;\n.reg .pred %p;\n";
    let inputs: Vec<Vec<u32>> = (0..32).map(|i| vec![i]).collect();
    assert!(lanes(declarations, body, 1, &inputs).iter().all(|d| d[0] == 45));
}

/// A loop on cas: how wider float atomics are built.
#[test]
fn compare_and_swap_loop() {
    let body = "st.shared.b32 [box], 0;\nbar.sync 0;\nld.volatile.shared.b32 %o, [box];\nLOOP:\n\
                add.rn.f32 %n, %o, 0f3F800000;\natom.shared.cas.b32 %r, [box], %o, %n;\nsetp.ne.b32 %p, %r, %o;\n\
                mov.b32 %o, %r;\n@%p bra LOOP;\nbar.sync 0;\nld.shared.b32 %d0, [box];";
    let declarations = ".shared .align 4 .b32 box[1];\n.reg .b32 %o, %n, %r;\n.reg .pred %p;\n";
    let body = body.replace(
        "st.shared.b32 [box], 0;",
        "setp.eq.u32 %p, %tid0, 0;\nmov.b32 %n, 0;\n@%p st.shared.b32 [box], %n;",
    );
    let inputs = vec![vec![0]; 64];
    assert!(lanes(declarations, &body, 1, &inputs).iter().all(|d| f32::from_bits(d[0]) == 64.0));
}
