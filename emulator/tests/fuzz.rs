//! Hostile PTX: truncated at every byte, with tokens deleted, doubled and swapped, with bytes and numbers replaced.
//! Loading may fail, and mostly does; it must never panic, hang or take unreasonable memory.

use emulator::{DeviceConfig, DeviceMemory, Module};
use std::path::Path;
use std::sync::Arc;

const SMALL: &str = r#".version 9.0
.target sm_80
.address_size 64
.const .align 4 .u32 table[2][2] = {{1, 2}, {3}};
.global .align 8 .u64 pointers[2] = {table, generic(table)+4};
.extern .shared .align 16 .b8 dynamic[];
.func (.param .b32 r) twice(.param .b32 x) { .reg .b32 %r<3>; ld.param.u32 %r1, [x]; shl.b32 %r2, %r1, 1; st.param.b32 [r], %r2; ret; }
.visible .entry k(.param .u64 .ptr .global .align 4 out, .param .align 8 .b8 more[24]) .maxntid 128, 1, 1 .minnctapersm 2
{
.reg .pred %p<4>; .reg .b16 %h<4>; .reg .b32 %r<20>; .reg .f32 %f<8>; .reg .b64 %rd<8>; .reg .v2 .b32 pair;
.local .align 4 .b8 depot[16];
.loc 1 10 3, function_name $L_info, inlined_at 1 2 3
ld.param.u64 %rd1, [out]; mov.u32 %r1, %tid.x; mov.b32 %r2, {%h1, %h2}; mov.f32 %f1, 0f3F800000;
@!%p1 fma.rn.ftz.f32 %f2, %f1, %f1, 0f40000000; setp.lt.and.s32 %p1|%p2, %r1, 5, !%p3;
{ .reg .b32 %r1; mov.u32 %r1, 7; { .param .b32 a; .param .b32 b; st.param.b32 [a], %r1; call.uni (b), twice, (a); ld.param.b32 %r1, [b]; } }
mad.wide.u32 %rd2, %r1, 4, %rd1; st.global.v4.f32 [%rd2+16], {%f1, %f2, %f1, %f2};
mov.u32 %r5, dynamic; ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r6, %r7, %r8, %r9}, [%r5];
mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1,%f2,%f3,%f4}, {%r6,%r7,%r8,%r9}, {%r6,%r7}, {%f1,%f2,%f3,%f4};
cp.async.cg.shared.global [%r5], [%rd1], 16, 8; cp.async.commit_group; cp.async.wait_group 0;
$loop: bar.sync 0; shfl.sync.bfly.b32 %r10|%p2, %r1, 1, 31, -1; atom.global.cas.b32 %r11, [%rd1], %r10, 0;
@%p2 bra $loop;
brx.idx %r1, targets;
targets: .branchtargets $loop, $end;
$end: ret;
}
.section .debug_str { $L_info: .b8 65, 0 }
.file 1 "x.cu", 1, 2
"#;

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n.max(1)
    }
}

fn load(text: &str, memory: &Arc<DeviceMemory>) -> bool {
    Module::load(text, memory, &DeviceConfig::default()).is_ok()
}

/// Words, numbers and punctuation, roughly.
fn tokens(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut start = 0;
    let class = |c: char| {
        if c.is_alphanumeric() || "_$%.".contains(c) {
            0
        } else if c.is_whitespace() {
            1
        } else {
            2
        }
    };
    let mut last = None;
    for (at, c) in text.char_indices() {
        if last.is_some_and(|l| l != class(c) || l == 2) {
            out.push(&text[start..at]);
            start = at;
        }
        last = Some(class(c));
    }
    out.push(&text[start..]);
    out
}

fn samples() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/defects");
    let mut out = vec![SMALL.to_string()];
    let mut files: Vec<_> = std::fs::read_dir(root)
        .map(|d| d.flatten().map(|e| e.path()).collect())
        .unwrap_or_default();
    files.sort();
    for path in files.iter().filter(|p| p.extension().is_some_and(|e| e == "ptx")) {
        out.extend(std::fs::read_to_string(path));
    }
    out
}

#[test]
fn the_sample_itself_loads() {
    let memory = Arc::new(DeviceMemory::new(1 << 20));
    if let Err(e) = Module::load(SMALL, &memory, &DeviceConfig::default()) {
        panic!("{e}");
    }
    assert_eq!(memory.usage().used, 0, "the module's globals are freed with it");
}

#[test]
fn truncation_at_every_byte() {
    let memory = Arc::new(DeviceMemory::new(1 << 20));
    for end in 0..SMALL.len() {
        load(&SMALL[..end], &memory);
    }
    assert_eq!(memory.usage().used, 0);
}

#[test]
fn mutations() {
    let memory = Arc::new(DeviceMemory::new(1 << 20));
    let mut random = Random(0x5eed);
    let nasty = [
        "4294967295",
        "18446744073709551615",
        "-1",
        "0",
        "{",
        "}",
        "[",
        "]",
        "(",
        ";",
        ":",
        "::",
        ",",
        "@",
        "!",
        "|",
        "\"",
        "/*",
        "%r1",
        "%p1",
        "$loop",
        ".reg",
        ".b64",
        "0f",
        "0d",
        "9.9.9",
        "ret",
        "call",
        "_",
        ".",
        "é",
        "\u{0}",
        "<4294967295>",
    ];
    for (which, sample) in samples().iter().enumerate() {
        let parts = tokens(sample);
        // The small sample covers almost every rule of the grammar.
        for _ in 0..if which == 0 { 4000 } else { 60 } {
            let mut parts = parts.clone();
            for _ in 0..1 + random.below(3) {
                let at = random.below(parts.len());
                match random.below(5) {
                    0 => drop(parts.remove(at)),
                    1 => parts.insert(at, parts[random.below(parts.len())]),
                    2 => parts[at] = nasty[random.below(nasty.len())],
                    3 => {
                        let other = random.below(parts.len());
                        parts.swap(at, other);
                    }
                    _ => parts.truncate(at.max(1)),
                }
            }
            load(&parts.concat(), &memory);
        }
        for _ in 0..if which == 0 { 2000 } else { 30 } {
            let mut bytes = sample.clone().into_bytes();
            for _ in 0..1 + random.below(4) {
                let at = random.below(bytes.len());
                bytes[at] = random.below(256) as u8;
            }
            load(&String::from_utf8_lossy(&bytes), &memory);
        }
    }
}

#[test]
fn bombs_are_refused() {
    let memory = Arc::new(DeviceMemory::new(1 << 20));
    let head = ".version 8.0\n.target sm_80\n.address_size 64\n";
    let deep = format!("{head}.visible .entry k() {} {}", "{".repeat(100_000), "}".repeat(100_000));
    assert!(!load(&deep, &memory));
    let wide = format!(
        "{head}.visible .entry k() {{ .reg .b32 %r<4294967295>; mov.u32 %r4294967294, 1; ret; }}"
    );
    assert!(load(&wide, &memory));
    let big = format!("{head}.global .b8 x[1000000000000];");
    assert!(!load(&big, &memory));
    let parens = format!("{head}.global .b32 x = {}1{};", "(".repeat(100_000), ")".repeat(100_000));
    assert!(!load(&parens, &memory));
}

/// Each function calls the next twice, which would be 2^22 copies: they become subroutines in time.
#[test]
fn calls_that_would_multiply_stay_small() {
    let memory = Arc::new(DeviceMemory::new(1 << 20));
    let head = ".version 8.0\n.target sm_80\n.address_size 64\n";
    let mut chain = head.to_string();
    for n in (0..22).rev() {
        let body = if n == 21 { String::new() } else { format!("call f{0}; call f{0};", n + 1) };
        chain += &format!(".func f{n} {{ {body} ret; }}\n");
    }
    chain += ".visible .entry k() { call f0; ret; }";
    assert!(load(&chain, &memory));
}
