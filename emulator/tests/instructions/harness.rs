//! Wraps rows of a table, or bodies of PTX, into kernels and runs them through the public interface.
//!
//! With `EMULATOR_TEST_PTX_DIR` set, every kernel is also written there, so that NVIDIA's assembler can check whether
//! it is valid PTX: `for f in $DIR/*.ptx; do ptxas -arch=sm_90 $f -o /dev/null || echo $f; done`.

use emulator::{AllocationKind, DeviceConfig, DeviceMemory, Launch, Module, launch};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Section, instruction text, signature, cases.
///
/// The signature is `outputs=inputs`, one letter per register: `h` 16 bits, `r` 32, `d` 64, `p` predicate. In the text
/// the outputs are `d q s`, the inputs `a b c e f`. A case lists the inputs, then the expected outputs.
pub struct Row(pub &'static str, pub &'static str, pub &'static str, pub &'static [&'static [u64]]);

pub const fn f(x: f32) -> u64 {
    x.to_bits() as u64
}
pub const fn g(x: f64) -> u64 {
    x.to_bits()
}
/// A negative number as a 32-bit pattern.
pub const fn s(x: i32) -> u64 {
    x as u32 as u64
}
/// A negative number as a 64-bit pattern.
pub const fn l(x: i64) -> u64 {
    x as u64
}
/// A negative number as a 16-bit pattern.
pub const fn w(x: i16) -> u64 {
    x as u16 as u64
}
pub const NAN: u64 = 0x7fff_ffff;
pub const QNAN: u64 = 0x7fc0_0000;
pub const INF: u64 = 0x7f80_0000;
pub const NINF: u64 = 0xff80_0000;
pub const NAN64: u64 = 0x7fff_ffff_ffff_ffff;
pub const INF64: u64 = 0x7ff0_0000_0000_0000;
pub const NINF64: u64 = 0xfff0_0000_0000_0000;
pub const NZERO: u64 = 0x8000_0000;
pub const NZERO64: u64 = 1 << 63;

const OUTPUTS: [&str; 3] = ["d", "q", "s"];
const INPUTS: [&str; 6] = ["a", "b", "c", "e", "f", "g"];

/// A PTX module with one kernel `k(in, out)`; `tid` is in `%tid0`, the addresses in `%in` and `%out`.
pub fn module_text(outside: &str, declarations: &str, body: &str) -> String {
    format!(
        ".version 9.0\n.target sm_90\n.address_size 64\n{outside}\n\
         .visible .entry k(.param .u64 p_in, .param .u64 p_out)\n{{\n\
         .reg .b64 %in, %out;\n.reg .b32 %tid0;\n{declarations}\n\
         ld.param.u64 %in, [p_in];\nld.param.u64 %out, [p_out];\n\
         cvta.to.global.u64 %in, %in;\ncvta.to.global.u64 %out, %out;\nmov.u32 %tid0, %tid.x;\n\
         {body}\nret;\n}}\n"
    )
}

pub fn config() -> DeviceConfig {
    DeviceConfig { capability: (9, 0), workers: 1, ..DeviceConfig::default() }
}

/// Runs `k` with a block of `threads`, the input bytes, and an output buffer of `out_bytes` filled with 0xcd.
pub fn run(text: &str, threads: u32, input: &[u8], out_bytes: usize) -> Result<Vec<u8>, String> {
    run_grid(text, 1, threads, 0, input, out_bytes)
}

pub fn run_grid(
    text: &str,
    blocks: u32,
    threads: u32,
    dynamic_shared: u32,
    input: &[u8],
    out_bytes: usize,
) -> Result<Vec<u8>, String> {
    if let Some(dir) = std::env::var_os("EMULATOR_TEST_PTX_DIR") {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("{:04}.ptx", COUNT.fetch_add(1, Relaxed));
        std::fs::write(std::path::Path::new(&dir).join(name), text).expect("cannot write PTX");
    }
    let config = config();
    let memory = Arc::new(DeviceMemory::new(config.total_memory));
    let module = Module::load(text, &memory, &config).map_err(|e| format!("load: {e}"))?;
    let kernel = module.kernel("k").ok_or("no kernel")?;
    let alloc = |bytes: usize| {
        memory.alloc(bytes.max(16) as u64, AllocationKind::Device).map_err(|e| e.to_string())
    };
    let (src, dst) = (alloc(input.len())?, alloc(out_bytes)?);
    memory.copy_from_host(src, input).map_err(|e| e.to_string())?;
    let mut out = vec![0xcd; out_bytes];
    memory.copy_from_host(dst, &out).map_err(|e| e.to_string())?;
    let params = [src.to_le_bytes(), dst.to_le_bytes()].concat();
    let (grid, block) = ([blocks, 1, 1], [threads, 1, 1]);
    let what = Launch { grid, block, dynamic_shared, params, dependent: false, workspace: 0 };
    launch(&kernel, &what, &memory, &config).map_err(|e| format!("launch: {e}"))?;
    memory.copy_to_host(&mut out, dst).map_err(|e| e.to_string())?;
    Ok(out)
}

/// Runs `body` over 32-bit words: thread t finds its `inputs` words in `%a0…`, and stores `%d0…`.
pub fn lanes(declarations: &str, body: &str, outputs: usize, inputs: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let threads = inputs.len();
    let each = inputs[0].len();
    let mut text =
        format!(".reg .b64 %ai, %ao;\n.reg .b32 %a<{}>, %d<{}>;\n", each + 1, outputs + 1);
    text += declarations;
    let mut code = format!(
        "mad.wide.u32 %ai, %tid0, {}, %in;\nmad.wide.u32 %ao, %tid0, {}, %out;\n",
        4 * each,
        4 * outputs
    );
    for i in 0..each {
        code += &format!("ld.global.b32 %a{i}, [%ai+{}];\n", 4 * i);
    }
    for i in 0..outputs {
        code += &format!("mov.b32 %d{i}, 0xdddddddd;\n");
    }
    code += body;
    code += "\n";
    for i in 0..outputs {
        code += &format!("st.global.b32 [%ao+{}], %d{i};\n", 4 * i);
    }
    let bytes: Vec<u8> = inputs.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
    let out =
        match run(&module_text("", &text, &code), threads as u32, &bytes, 4 * outputs * threads) {
            Ok(out) => out,
            Err(e) => panic!("{body}\n{e}"),
        };
    words(&out).chunks(outputs).map(<[u32]>::to_vec).collect()
}

pub fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn register_type(kind: u8) -> &'static str {
    match kind {
        b'h' => ".b16",
        b'r' => ".b32",
        b'd' => ".b64",
        _ => ".pred",
    }
}

/// The kernel for one row, one thread per case.
fn row_text(row: &Row) -> String {
    let (outs, ins) = row.2.split_once('=').expect("outputs=inputs");
    let (outs, ins) = (outs.as_bytes(), ins.as_bytes());
    let slots = outs.len() + ins.len();
    let mut declarations = String::from(".reg .b64 %ai, %ao, %t;\n.reg .b32 %n;\n");
    let mut body = format!(
        "mad.wide.u32 %ai, %tid0, {0}, %in;\nmad.wide.u32 %ao, %tid0, {1}, %out;\n",
        8 * slots,
        8 * outs.len()
    );
    for (i, &kind) in ins.iter().enumerate() {
        let name = INPUTS[i];
        declarations += &format!(".reg {} {name};\n", register_type(kind));
        let at = 8 * i;
        body += &match kind {
            b'p' => format!("ld.global.b64 %t, [%ai+{at}];\nsetp.ne.b64 {name}, %t, 0;\n"),
            _ => format!("ld.global{} {name}, [%ai+{at}];\n", register_type(kind)),
        };
    }
    for (i, &kind) in outs.iter().enumerate() {
        declarations += &format!(".reg {} {};\n", register_type(kind), OUTPUTS[i]);
    }
    body += row.1;
    body += ";\n";
    for (i, &kind) in outs.iter().enumerate() {
        let (name, at) = (OUTPUTS[i], 8 * i);
        body += &match kind {
            b'h' => format!("cvt.u64.u16 %t, {name};\n"),
            b'r' => format!("cvt.u64.u32 %t, {name};\n"),
            b'd' => format!("mov.b64 %t, {name};\n"),
            _ => format!("selp.b32 %n, 1, 0, {name};\ncvt.u64.u32 %t, %n;\n"),
        };
        body += &format!("st.global.b64 [%ao+{at}], %t;\n");
    }
    module_text("", &declarations, &body)
}

/// Runs every row and reports all that fail.
pub fn check(rows: &[Row]) {
    let mut failures = vec![];
    let mut cases = 0;
    for row in rows {
        let Row(section, text, signature, expected) = row;
        let (outs, ins) = signature.split_once('=').expect("outputs=inputs");
        let slots = outs.len() + ins.len();
        for case in *expected {
            assert_eq!(case.len(), slots, "{text}: a case has the wrong length");
        }
        cases += expected.len();
        let input: Vec<u8> =
            expected.iter().flat_map(|c| c.iter()).flat_map(|x| x.to_le_bytes()).collect();
        let out = match run(
            &row_text(row),
            expected.len() as u32,
            &input,
            8 * outs.len() * expected.len(),
        ) {
            Ok(out) => out,
            Err(e) => {
                failures.push(format!("{section}: {text}: {e}"));
                continue;
            }
        };
        for (i, case) in expected.iter().enumerate() {
            for o in 0..outs.len() {
                let at = 8 * (i * outs.len() + o);
                let got = u64::from_le_bytes(out[at..at + 8].try_into().unwrap());
                let want = case[ins.len() + o];
                if got != want {
                    let given: Vec<String> =
                        case[..ins.len()].iter().map(|x| format!("{x:#x}")).collect();
                    failures.push(format!(
                        "{section}: {text} of ({}): {} is {got:#x}, expected {want:#x}",
                        given.join(", "),
                        OUTPUTS[o]
                    ));
                }
            }
        }
    }
    assert!(
        failures.is_empty(),
        "{} failures in {} rows, {cases} cases:\n{}",
        failures.len(),
        rows.len(),
        failures.join("\n")
    );
}
