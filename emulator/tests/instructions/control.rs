//! Control flow, guards, and divergence.

use crate::harness::*;

fn threads(n: u32) -> Vec<Vec<u32>> {
    (0..n).map(|i| vec![i]).collect()
}
fn column(declarations: &str, body: &str, n: u32) -> Vec<u32> {
    lanes(declarations, body, 1, &threads(n)).into_iter().map(|d| d[0]).collect()
}
fn expect(what: &str, declarations: &str, body: &str, want: impl Fn(u32) -> u32) {
    for (i, got) in column(declarations, body, 64).into_iter().enumerate() {
        assert_eq!(got, want(i as u32), "{what}, thread {i}");
    }
}
const REGS: &str = ".reg .b32 %v, %n;\n.reg .pred %p, %q;\n";

#[test]
fn guards() {
    expect(
        "9.3 guard",
        REGS,
        "setp.lt.u32 %p, %a0, 5;\nmov.u32 %d0, 1;\n@%p mov.u32 %d0, 2;",
        |i| if i < 5 { 2 } else { 1 },
    );
    expect(
        "9.3 negated guard",
        REGS,
        "setp.lt.u32 %p, %a0, 5;\nmov.u32 %d0, 1;\n@!%p mov.u32 %d0, 2;",
        |i| if i < 5 { 1 } else { 2 },
    );
}

#[test]
fn branches_and_loops() {
    expect(
        "control flow: bra, if and else",
        REGS,
        "and.b32 %v, %a0, 1;\nsetp.eq.u32 %p, %v, 0;\n@%p bra EVEN;\nmov.u32 %d0, 7;\nbra JOIN;\nEVEN:\nmov.u32 %d0, 8;\nJOIN:\nadd.u32 %d0, %d0, %a0;",
        |i| i + if i % 2 == 0 { 8 } else { 7 },
    );
    expect(
        "control flow: bra, loops of different length",
        REGS,
        "mov.u32 %d0, 0;\nmov.u32 %n, %a0;\nLOOP:\nsetp.eq.u32 %p, %n, 0;\n@%p bra OUT;\nadd.u32 %d0, %d0, %n;\nsub.u32 %n, %n, 1;\nbra LOOP;\nOUT:",
        |i| i * (i + 1) / 2,
    );
    expect(
        "control flow: bra, nested",
        REGS,
        "mov.u32 %d0, 0;\nmov.u32 %n, 0;\nOUTER:\nmov.u32 %v, 0;\nINNER:\nadd.u32 %d0, %d0, 1;\nadd.u32 %v, %v, 1;\n\
         setp.le.u32 %p, %v, %n;\n@%p bra INNER;\nadd.u32 %n, %n, 1;\nand.b32 %v, %a0, 7;\nsetp.le.u32 %q, %n, %v;\n@%q bra.uni OUTER;",
        |i| (1..=(i & 7) + 1).sum(),
    );
    expect(
        "control flow: bra, break and continue",
        REGS,
        "mov.u32 %d0, 0;\nmov.u32 %n, 0;\nLOOP:\nadd.u32 %n, %n, 1;\nsetp.gt.u32 %p, %n, 20;\n@%p bra OUT;\nand.b32 %v, %n, 1;\nsetp.eq.u32 %q, %v, 0;\n\
         @%q bra LOOP;\nadd.u32 %d0, %d0, %n;\nsetp.ge.u32 %p, %d0, %a0;\n@%p bra OUT;\nbra LOOP;\nOUT:",
        |i| {
            let mut sum = 0;
            for n in (1..=20).step_by(2) {
                sum += n;
                if sum >= i {
                    break;
                }
            }
            sum
        },
    );
    expect(
        "control flow: brx.idx",
        REGS,
        "and.b32 %v, %a0, 3;\ntable: .branchtargets L0, L1, L2, L1;\nbrx.idx %v, table;\nL0:\nmov.u32 %d0, 10;\nbra JOIN;\nL1:\nmov.u32 %d0, 11;\nbra JOIN;\nL2:\nmov.u32 %d0, 12;\nJOIN:",
        |i| [10, 11, 12, 11][i as usize % 4],
    );
    expect(
        "control flow: braces",
        REGS,
        "{\n.reg .b32 %v;\nmov.u32 %v, 5;\n{\n.reg .b32 %v;\nmov.u32 %v, 6;\nmov.u32 %d0, %v;\n}\nadd.u32 %d0, %d0, %v;\n}",
        |_| 11,
    );
}

/// Some lanes leave early; the others continue and still converge.
#[test]
fn early_exit() {
    let body = "mov.u32 %d0, 1;\nst.global.b32 [%ao], %d0;\nsetp.lt.u32 %p, %a0, 20;\n@%p exit;\nactivemask.b32 %d0;";
    expect("control flow: exit", REGS, body, |i| {
        if i < 20 {
            1
        } else if i < 32 {
            0xfff0_0000
        } else {
            u32::MAX
        }
    });
    let body = "mov.u32 %d0, 1;\nst.global.b32 [%ao], %d0;\nsetp.lt.u32 %p, %a0, 20;\n@%p ret;\nmov.u32 %d0, 2;";
    expect("control flow: ret", REGS, body, |i| if i < 20 { 1 } else { 2 });
}

/// Paths of one warp meet again: after an if, all lanes are active together.
#[test]
fn reconvergence() {
    let body = "setp.lt.u32 %p, %a0, 11;\n@%p bra A;\nmov.u32 %v, 1;\nbra J;\nA:\nmov.u32 %v, 2;\nJ:\nbar.warp.sync -1;\nactivemask.b32 %d0;";
    expect("convergence after an if", REGS, body, |_| u32::MAX);
    let body = "mov.u32 %v, 0;\nLOOP:\nadd.u32 %v, %v, 1;\nsetp.lt.u32 %p, %v, %a0;\n@%p bra LOOP;\nshfl.sync.idx.b32 %d0, %v, 31, 31, -1;";
    expect("a shuffle after a divergent loop", REGS, body, |i| if i < 32 { 31 } else { 63 });
}

/// Lanes of one warp wait for each other, as independent thread scheduling promises.
#[test]
fn lanes_that_wait_for_each_other() {
    let declarations = ".shared .align 4 .b32 flag[1];\n.reg .b32 %v, %n;\n.reg .pred %p, %q;\n";
    let body = "setp.eq.u32 %p, %a0, 0;\nmov.u32 %v, 0;\n@%p st.shared.b32 [flag], %v;\nbar.warp.sync -1;\nsetp.eq.u32 %q, %a0, 5;\n\
                @%q bra SETTER;\nSPIN:\nld.volatile.shared.b32 %v, [flag];\nsetp.eq.u32 %p, %v, 0;\n@%p bra SPIN;\nbra J;\n\
                SETTER:\nmov.u32 %v, 42;\nst.volatile.shared.b32 [flag], %v;\nJ:\nbar.warp.sync -1;\nmov.u32 %d0, %v;";
    for got in lanes(declarations, body, 1, &threads(32)) {
        assert_eq!(got[0], 42);
    }
}

#[test]
fn calls() {
    let outside = ".func (.param .b32 result) twice(.param .b32 x)\n{\n.reg .b32 %r<3>;\nld.param.b32 %r0, [x];\n\
                   add.u32 %r1, %r0, %r0;\nst.param.b32 [result], %r1;\nret;\n}\n\
                   .func (.reg .b32 out) inc(.reg .b32 x)\n{\nadd.u32 out, x, 1;\nret;\n}\n\
                   .func early(.param .b64 where, .param .b32 value)\n{\n.reg .b64 %p;\n.reg .b32 %v;\n.reg .pred %q;\n\
                   ld.param.b64 %p, [where];\nld.param.b32 %v, [value];\nsetp.gt.u32 %q, %v, 10;\n@%q ret;\n\
                   st.global.b32 [%p+4], %v;\nret;\n}\n";
    let body = "mad.wide.u32 %p, %tid0, 8, %out;\nmov.u32 %v, 77;\nst.global.b32 [%p+4], %v;\nmov.u32 %v, %tid0;\n\
                {\n.param .b32 arg;\n.param .b32 back;\nst.param.b32 [arg], %v;\ncall.uni (back), twice, (arg);\nld.param.b32 %v, [back];\n}\n\
                call (%w), inc, (%v);\nst.global.b32 [%p], %w;\nsetp.ge.u32 %c, %tid0, 4;\n\
                {\n.param .b64 where;\n.param .b32 value;\nst.param.b64 [where], %p;\nst.param.b32 [value], %tid0;\n@%c call early, (where, value);\n}\n";
    let text = module_text(outside, ".reg .b64 %p;\n.reg .b32 %v, %w;\n.reg .pred %c;", body);
    let out = words(&run(&text, 32, &[], 256).unwrap());
    for (i, pair) in out.chunks(2).enumerate() {
        let i = i as u32;
        let side = if (4..=10).contains(&i) { i } else { 77 };
        assert_eq!(pair, [2 * i + 1, side], "control flow: call, thread {i}");
    }
}

/// Functions whose parameters and results are vectors of registers and predicates, and addresses of local variables as
/// operands of arithmetic.
#[test]
fn calls_with_vectors_and_predicates() {
    let outside = ".func (.reg .v2 .b32 back, .reg .pred odd) turn(.reg .v2 .b32 pair, .reg .pred add)\n{\n\
        .reg .b32 t;\n.reg .pred q;\nmov.b32 back.x, pair.y;\nmov.b32 back.y, pair.x;\n@add add.u32 back.x, back.x, 100;\n\
        and.b32 t, pair.x, 1;\nsetp.eq.u32 odd, t, 1;\nret;\n}\n";
    let declarations = ".reg .v2 .b32 %u;\n.reg .b32 %x, %y, %z;\n.reg .b64 %w, %v;\n.reg .pred %p, %q;\n.local .align 8 .b8 box[16];\n";
    let body = "add.u32 %x, %tid0, 1000;\nsetp.lt.u32 %p, %tid0, 7;\n\
        call (%u, %q), turn, ({%tid0, %x}, !%p);\nselp.u32 %y, 5, 6, %q;\n\
        add.u64 %w, box, 4;\nmov.u64 %v, box+8;\nst.local.b32 [%w], %u.x;\nst.local.b32 [%v], %u.y;\n\
        ld.local.b32 %x, [box+4];\nld.local.b32 %z, [box+8];\n\
        mul.wide.u32 %w, %tid0, 12;\nadd.u64 %w, %w, %out;\nst.global.b32 [%w], %x;\nst.global.b32 [%w+4], %z;\n\
        st.global.b32 [%w+8], %y;\n";
    let out =
        run(&module_text(outside, declarations, body), 32, &[0; 4], 12 * 32).expect("no report");
    for (i, got) in (0u32..).zip(words(&out).chunks(3)) {
        let added = if i < 7 { 0 } else { 100 };
        let parity = if i % 2 == 1 { 5 } else { 6 };
        assert_eq!(got, [i + 1000 + added, i, parity], "thread {i}");
    }
}
