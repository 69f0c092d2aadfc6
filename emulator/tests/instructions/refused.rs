//! Invalid or unsupported PTX is refused at load, naming the line and its text.

use crate::harness::{config, module_text};
use emulator::{DeviceMemory, Module};
use std::sync::Arc;

const REGISTERS: &str =
    ".reg .b16 h0, h1, h2;\n.reg .b32 r0, r1, r2;\n.reg .b64 d0, d1, d2;\n.reg .pred p0, p1;\n";

#[test]
fn unknown_instructions_and_modifiers() {
    let memory = Arc::new(DeviceMemory::new(1 << 20));
    for text in [
        // No such instruction, or one that the emulator does not support.
        "frobnicate.u32 r0, r1;",
        "vavrg.s32.s32.s32 r0, r1, r2;",
        "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc {r0, r0, r0, r0}, {r1, r1, r1, r1}, {r2, r2}, {r0, r0, r0, r0};",
        "tex.2d.v4.f32.s32 {r0, r0, r1, r1}, [d0, {r1, r2}];",
        "wgmma.fence.sync.aligned;",
        // Types and modifiers that the instruction does not accept.
        "add.b32 r0, r1, r2;",
        "add.sat.u32 r0, r1, r2;",
        "add.rn.s32 r0, r1, r2;",
        "add.u8 h0, h1, h2;",
        "mul.u32 r0, r1, r2;",
        "mad.lo.sat.u32 r0, r1, r2, r0;",
        "fma.f32 r0, r1, r2, r0;",
        "fma.rn.ftz.f64 d0, d1, d2, d0;",
        "div.f32 r0, r1, r2;",
        "sqrt.f64 d0, d1;",
        "ex2.approx.f64 d0, d1;",
        "and.u32 r0, r1, r2;",
        "shl.u32 r0, r1, r2;",
        "cvt.f32.f64 r0, d0;",
        "cvt.s32.f32 r0, r1;",
        "setp.foo.s32 p0, r0, r1;",
        "setp.equ.s32 p0, r0, r1;",
        "ld.global.u48 r0, [d0];",
        "ld.elsewhere.u32 r0, [d0];",
        "ld.global.v3.u32 {r0, r1, r2}, [d0];",
        "atom.global.nand.b32 r0, [d0], r1;",
        "shfl.sync.sideways.b32 r0, r1, 1, 31, -1;",
        "mma.sync.aligned.m16n8k5.row.col.f32.f16.f16.f32 {r0, r0, r0, r0}, {r1, r1, r1, r1}, {r2, r2}, {r0, r0, r0, r0};",
        "bar.dance 0;",
        // Operands.
        "add.u32 r0, r1;",
        "add.u32 r0, r1, r2, r0;",
        "add.u32 r0, r1, nowhere;",
        "add.u32 5, r1, r2;",
        "add.u32 d0, r1, r2;",
        "add.u64 d0, d1, r2;",
        "bra MISSING;",
        "@r0 add.u32 r0, r1, r2;",
        "mov.b64 {r0, r1, r2}, d0;",
        "call nobody;",
        // Grammar.
        "add.u32 r0, r1 r2;",
        "add.u32 r0, r1, r2",
        "add..u32 r0, r1, r2;",
        ".reg .b24 x;",
        "{ add.u32 r0, r1, r2;",
        "ld.global.u32 r0, [d0;",
        "mov.u32 r0, 0xZZ;",
        "mov.f32 r0, 0f12;",
    ] {
        let module = module_text("", REGISTERS, &format!("{text}\n"));
        match Module::load(&module, &memory, &config()) {
            Ok(_) => panic!("not refused: {text}"),
            Err(error) => {
                assert!(error.line > 0, "no line: {text}: {error}");
                // The end of the text has a line but no text of its own.
                assert!(!error.message.is_empty(), "{text}: {error}");
            }
        }
    }
}

/// Cutting a module anywhere, or flipping a byte of it, gives a value or an error, never a panic.
#[test]
fn damaged_text() {
    let memory = Arc::new(DeviceMemory::new(1 << 24));
    let body = "add.f32 r0, 0f3F800000, r1;\nmov.b64 {r0, r1}, d0;\n@!p0 bra L;\nsetp.lt.and.s32 p0|p1, r0, -5, p1;\nL:\n\
                ld.global.v2.u32 {r0, r1}, [d0+8];\ncvt.rn.f16x2.f32 r0, r1, r2;\n";
    let text = module_text(".global .align 4 .b32 table[3] = {1, 2, 0x3};\n", REGISTERS, body);
    for end in 0..text.len() {
        let _ = Module::load(&text[..end], &memory, &config());
    }
    for at in 0..text.len() {
        for byte in *b"{};.9%[\"\n-" {
            let mut damaged = text.clone().into_bytes();
            damaged[at] = byte;
            let _ = Module::load(std::str::from_utf8(&damaged).unwrap(), &memory, &config());
        }
    }
}
