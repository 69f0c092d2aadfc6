//! Data movement: ld, st, state spaces, vectors, addresses, cp.async.

use crate::harness::*;

/// Stores `stored` of each type in its own slot and loads it back: (type, register, value, value loaded).
const WIDTHS: [(&str, &str, u64, u64); 15] = [
    ("b8", ".b32", 0x1f2, 0xf2),
    ("u8", ".b32", 0x1f2, 0xf2),
    ("s8", ".b32", 0x1f2, 0xffff_fff2),
    ("u8", ".b16", 0x1f2, 0xf2),
    ("s8", ".b16", 0x1f2, 0xfff2),
    ("b16", ".b16", 0x8765, 0x8765),
    ("u16", ".b32", 0x1_8765, 0x8765),
    ("s16", ".b32", 0x1_8765, 0xffff_8765),
    ("b32", ".b32", 0x8765_4321, 0x8765_4321),
    ("s32", ".b64", 0x8765_4321, 0xffff_ffff_8765_4321),
    ("u32", ".b64", 0x8765_4321, 0x8765_4321),
    ("f32", ".f32", 0x7fc0_1234, 0x7fc0_1234),
    ("b64", ".b64", 0x0123_4567_89ab_cdef, 0x0123_4567_89ab_cdef),
    ("s64", ".b64", u64::MAX, u64::MAX),
    ("f64", ".f64", 0x7ff8_0000_0000_1234, 0x7ff8_0000_0000_1234),
];

#[test]
fn widths_in_every_space() {
    for space in ["global", "shared", "local"] {
        for (ty, reg, stored, loaded) in WIDTHS {
            let outside = if space == "global" { ".global .align 16 .b8 buf[512];" } else { "" };
            let inside = if space == "global" {
                String::new()
            } else {
                format!(".{space} .align 16 .b8 buf[512];\n")
            };
            let (to_reg, from_reg) = match reg {
                ".b16" => ("cvt.u16.u64 %v, %t;", "cvt.u64.u16 %t, %u;"),
                ".b32" => ("cvt.u32.u64 %v, %t;", "cvt.u64.u32 %t, %u;"),
                ".f32" => (
                    "{ .reg .b32 x; cvt.u32.u64 x, %t; mov.b32 %v, x; }",
                    "{ .reg .b32 x; mov.b32 x, %u; cvt.u64.u32 %t, x; }",
                ),
                _ => ("mov.b64 %v, %t;", "mov.b64 %t, %u;"),
            };
            let body = format!(
                "mad.wide.u32 %in, %tid0, 8, %in;\nmad.wide.u32 %out, %tid0, 8, %out;\n\
                 ld.global.b64 %t, [%in];\n{to_reg}\nmov.b64 %p, buf;\nmad.wide.u32 %p, %tid0, 8, %p;\n\
                 st.{space}.{ty} [%p+8], %v;\nld.{space}.{ty} %u, [%p+8];\n{from_reg}\nst.global.b64 [%out], %t;\n"
            );
            let declarations = format!("{inside}.reg .b64 %t, %p;\n.reg {reg} %v, %u;");
            let input: Vec<u8> = (0..32).flat_map(|_| stored.to_le_bytes()).collect();
            let out = run(&module_text(outside, &declarations, &body), 32, &input, 256)
                .unwrap_or_else(|e| panic!("{space} {ty} {reg}: {e}"));
            for slot in out.chunks(8) {
                let got = u64::from_le_bytes(slot.try_into().unwrap());
                assert_eq!(
                    got, loaded,
                    "data movement and conversion: ld.{space}.{ty}, st.{space}.{ty} in {reg}"
                );
            }
        }
    }
}

#[test]
fn vectors() {
    // (type, elements, bytes, register)
    for (ty, count, bytes, reg) in [
        ("u8", 2, 1, ".b32"),
        ("u8", 4, 1, ".b16"),
        ("b16", 2, 2, ".b16"),
        ("b16", 4, 2, ".b16"),
        ("b32", 2, 4, ".b32"),
        ("b32", 4, 4, ".b32"),
        ("f32", 4, 4, ".f32"),
        ("b64", 2, 8, ".b64"),
        ("f64", 2, 8, ".f64"),
    ] {
        for space in ["global", "shared"] {
            let names: Vec<String> = (0..count).map(|i| format!("%v{i}")).collect();
            let (forward, backward) =
                (names.join(", "), names.iter().rev().cloned().collect::<Vec<_>>().join(", "));
            let total = count * bytes;
            let through = if space == "shared" {
                format!(
                    "mov.b64 %p, buf;\nmad.wide.u32 %p, %tid0, {total}, %p;\n\
                     st.shared.v{count}.{ty} [%p], {{{forward}}};\nld.shared.v{count}.{ty} {{{forward}}}, [%p];\n"
                )
            } else {
                String::new()
            };
            let body = format!(
                "mad.wide.u32 %in, %tid0, {total}, %in;\nmad.wide.u32 %out, %tid0, {total}, %out;\n\
                 ld.global.v{count}.{ty} {{{forward}}}, [%in];\n{through}st.global.v{count}.{ty} [%out], {{{backward}}};\n"
            );
            let declarations =
                format!(".shared .align 16 .b8 buf[1024];\n.reg .b64 %p;\n.reg {reg} %v<{count}>;");
            let input: Vec<u8> = (0..32 * total).map(|i| (i * 7 + 3) as u8).collect();
            let out = run(&module_text("", &declarations, &body), 32, &input, 32 * total)
                .unwrap_or_else(|e| panic!("v{count}.{ty}: {e}"));
            for (i, (got, given)) in out.chunks(total).zip(input.chunks(total)).enumerate() {
                let want: Vec<u8> = given.chunks(bytes).rev().flatten().copied().collect();
                assert_eq!(
                    got, want,
                    "data movement and conversion: ld.{space}.v{count}.{ty}, lane {i}"
                );
            }
        }
    }
}

fn one_word(declarations: &str, body: &str, input: u32) -> u32 {
    lanes(declarations, body, 1, &[vec![input]])[0][0]
}

#[test]
fn load_and_store_modifiers() {
    for modifier in [
        "ld.volatile.global.b32",
        "ld.relaxed.gpu.global.b32",
        "ld.relaxed.sys.global.u32",
        "ld.relaxed.cta.b32",
        "ld.acquire.gpu.global.b32",
        "ld.acquire.sys.b32",
        "ld.weak.global.b32",
        "ld.global.nc.b32",
        "ld.global.ca.b32",
        "ld.global.cg.b32",
        "ld.global.cs.f32",
        "ld.global.lu.b32",
        "ld.global.cv.b32",
        "ld.global.L1::no_allocate.b32",
        "ld.global.nc.L1::no_allocate.L2::128B.b32",
        "ld.global.L2::128B.b32",
        "ld.global.L1::evict_last.b32",
        "ldu.global.b32",
        "ld.b32",
    ] {
        assert_eq!(one_word("", &format!("{modifier} %d0, [%ai];"), 77), 77, "{modifier}");
    }
    for modifier in [
        "st.volatile.global.b32",
        "st.relaxed.gpu.global.b32",
        "st.release.gpu.global.b32",
        "st.release.sys.b32",
        "st.weak.global.b32",
        "st.global.wb.b32",
        "st.global.cg.b32",
        "st.global.cs.b32",
        "st.global.wt.b32",
        "st.b32",
    ] {
        let body = format!("{modifier} [%ao], %a0;\nld.global.b32 %d0, [%ao];");
        assert_eq!(one_word("", &body, 77), 77, "{modifier}");
    }
    for hint in ["prefetch.global.L1 [%ai];", "prefetch.global.L2 [%ai];", "prefetchu.L1 [%ai];"] {
        assert_eq!(one_word("", &format!("{hint}\nmov.b32 %d0, %a0;"), 5), 5, "{hint}");
    }
}

#[test]
fn addresses() {
    let shared =
        ".shared .align 4 .b32 box[4];\n.reg .b64 %p<3>;\n.reg .b32 %q;\n.reg .pred %c<4>;";
    for (what, body) in [
        ("variable + offset", "st.shared.b32 [box+8], %a0;\nld.shared.b32 %d0, [box+8];"),
        (
            "negative offset",
            "mov.u32 %q, box;\nst.shared.b32 [%q+4], %a0;\nadd.u32 %q, %q, 12;\nld.shared.b32 %d0, [%q+-8];",
        ),
        (
            "generic from shared",
            "mov.u64 %p0, box;\ncvta.shared.u64 %p1, %p0;\nst.b32 [%p1+4], %a0;\nld.shared.b32 %d0, [box+4];",
        ),
        (
            "back from generic",
            "mov.u64 %p0, box;\ncvta.shared.u64 %p1, %p0;\ncvta.to.shared.u64 %p2, %p1;\nst.shared.b32 [%p2], %a0;\nld.b32 %d0, [%p1];",
        ),
        (
            "32-bit of the generic address",
            "mov.u64 %p0, box;\ncvta.shared.u64 %p1, %p0;\ncvta.to.shared.u64 %p2, %p1;\ncvt.u32.u64 %q, %p2;\nst.shared.b32 [%q], %a0;\nld.shared.b32 %d0, [box];",
        ),
    ] {
        assert_eq!(one_word(shared, body, 4711), 4711, "{what}");
    }
    let spaces = "mov.u64 %p0, box;\ncvta.shared.u64 %p1, %p0;\nisspacep.shared %c0, %p1;\nisspacep.global %c1, %p1;\n\
                  isspacep.global %c2, %in;\nisspacep.local %c3, %in;\nselp.b32 %d0, 1, 0, %c0;\n\
                  selp.b32 %q, 2, 0, %c1;\nor.b32 %d0, %d0, %q;\nselp.b32 %q, 4, 0, %c2;\nor.b32 %d0, %d0, %q;\n\
                  selp.b32 %q, 8, 0, %c3;\nor.b32 %d0, %d0, %q;";
    assert_eq!(one_word(shared, spaces, 0), 0b101, "data movement and conversion: isspacep");
    let local = ".local .align 4 .b32 own[4];\n.reg .b64 %p<3>;";
    let body = "mov.u64 %p0, own;\ncvta.local.u64 %p1, %p0;\nst.b32 [%p1+4], %a0;\nld.local.b32 %d0, [own+4];";
    assert_eq!(one_word(local, body, 99), 99, "generic from local");
}

#[test]
fn constants_and_globals() {
    let outside = ".const .align 4 .b32 table[4] = {11, 22, 0x21, -1};\n\
                   .const .f32 pi = 0f40490fdb;\n\
                   .global .align 2 .u16 numbers[3] = {7, 8, 9};\n\
                   .global .align 8 .u64 pointer = generic(numbers);\n\
                   .global .align 4 .b32 zero[2];";
    let body = "mul.wide.u32 %p, %tid0, 4;\nmov.u64 %q, table;\nadd.u64 %p, %p, %q;\nld.const.b32 %v, [%p];\n\
                st.global.b32 [%out], %v;\nld.const.f32 %v, [pi];\nst.global.b32 [%out+4], %v;\n\
                ld.global.u64 %p, [pointer];\nld.u16 %v, [%p+2];\nst.global.b32 [%out+8], %v;\n\
                ld.global.b32 %v, [zero+4];\nst.global.b32 [%out+12], %v;\nld.const.s32 %v, [table+12];\n\
                st.global.b32 [%out+16], %v;\n";
    let text = module_text(outside, ".reg .b64 %p, %q;\n.reg .b32 %v;", body);
    let out = words(&run(&text, 1, &[], 20).unwrap());
    assert_eq!(out, [11, 0x4049_0fdb, 8, 0, u32::MAX]);
}

/// copies of 4, 8 and 16 bytes, zero-filled tails, groups.
#[test]
fn cp_async() {
    let declarations =
        ".shared .align 16 .b8 buf[1024];\n.reg .b32 %s<4>, %v<4>, %n;\n.reg .b64 %p, %q;\n";
    let head = "mad.wide.u32 %p, %tid0, 16, %in;\nmad.wide.u32 %q, %tid0, 16, %out;\nmov.u32 %s0, buf;\n\
                mad.lo.u32 %s0, %tid0, 16, %s0;\n";
    let tail = "ld.shared.v4.b32 {%v0, %v1, %v2, %v3}, [%s0];\nst.global.v4.b32 [%q], {%v0, %v1, %v2, %v3};\n";
    let zero = "mov.b32 %v0, -1;\nst.shared.v4.b32 [%s0], {%v0, %v0, %v0, %v0};\n";
    let input: Vec<u8> = (0..512).map(|i| (i * 5 + 1) as u8).collect();
    // (copies, bytes that arrive, what the rest holds)
    for (copy, bytes, rest) in [
        ("cp.async.ca.shared.global [%s0], [%p], 16;\ncp.async.wait_all;", 16, 0xff),
        (
            "cp.async.cg.shared.global [%s0], [%p], 16;\ncp.async.commit_group;\ncp.async.wait_group 0;",
            16,
            0xff,
        ),
        ("cp.async.ca.shared.global [%s0], [%p], 8;\ncp.async.wait_all;", 8, 0xff),
        ("cp.async.ca.shared.global [%s0], [%p], 4;\ncp.async.wait_all;", 4, 0xff),
        (
            "mov.u32 %n, 8;\ncp.async.cg.shared.global [%s0], [%p], 16, %n;\ncp.async.wait_all;",
            8,
            0,
        ),
        ("cp.async.ca.shared.global [%s0], [%p], 16, 0;\ncp.async.wait_all;", 0, 0),
        ("cp.async.cg.shared.global.L2::128B [%s0], [%p], 16;\ncp.async.wait_all;", 16, 0xff),
        (
            "cp.async.ca.shared.global [%s0], [%p], 8;\ncp.async.commit_group;\n\
             cp.async.ca.shared.global [%s0+8], [%p+8], 8;\ncp.async.commit_group;\n\
             cp.async.wait_group 1;\nld.shared.b32 %v0, [%s0];\ncp.async.wait_group 0;",
            16,
            0xff,
        ),
    ] {
        let text = module_text("", declarations, &[head, zero, copy, "\n", tail].concat());
        let out = run(&text, 32, &input, 512).unwrap_or_else(|e| panic!("{copy}: {e}"));
        for (got, given) in out.chunks(16).zip(input.chunks(16)) {
            let mut want = vec![rest; 16];
            want[..bytes].copy_from_slice(&given[..bytes]);
            assert_eq!(got, want, "{copy}");
        }
    }
}

/// A group that is not waited for has not arrived: the copy shows the old bytes, or is reported.
#[test]
fn cp_async_without_its_wait() {
    let declarations = ".shared .align 16 .b8 buf[512];\n.reg .b32 %s0, %v0;\n.reg .b64 %p;\n";
    let body = "mov.u32 %s0, buf;\nmov.b32 %v0, 5;\nst.shared.b32 [%s0], %v0;\n\
                cp.async.ca.shared.global [%s0], [%in], 4;\ncp.async.commit_group;\n\
                ld.shared.b32 %v0, [%s0];\nst.global.b32 [%out], %v0;\ncp.async.wait_all;\n";
    match run(&module_text("", declarations, body), 1, &[1, 0, 0, 0], 4) {
        Ok(out) => assert_eq!(out, [5, 0, 0, 0]),
        Err(report) => assert!(report.contains("async"), "{report}"),
    }
}
