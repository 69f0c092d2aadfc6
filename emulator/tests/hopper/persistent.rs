//! Persistent, warp-specialised products as nvcc compiles them (fixtures/hopper), on small matrices with all kinds of
//! edges.

use crate::device::{Hopper, Param, kernel, map_of_halves};
use emulator::{Fault, Launch, Module, launch};
use half::f16;
use std::collections::HashMap;
use std::io::Read;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

pub fn fixture(name: &str) -> String {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hopper").join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).expect("a sound gzip file");
    text
}

/// Multiples of 1/8 between −1 and 1.
fn value(seed: usize, n: usize) -> f32 {
    ((n.wrapping_mul(2654435761) >> 7).wrapping_add(seed * 7919) % 17) as f32 / 8.0 - 1.0
}

pub fn halves(seed: usize, count: usize) -> (Vec<f32>, Vec<u8>) {
    let values: Vec<f32> = (0..count).map(|n| value(seed, n)).collect();
    let bytes = values.iter().flat_map(|&x| f16::from_f32(x).to_bits().to_le_bytes()).collect();
    (values, bytes)
}

/// A kernel and its sizes.
#[derive(Clone, Copy)]
pub struct Product {
    pub file: &'static str,
    pub kernel: &'static str,
    pub tile: [usize; 2],
    /// W is stored by k.
    pub by_k: bool,
    pub shared: u32,
    /// The epilogue's factor per element, if it has a slope.
    pub slope: bool,
}

/// Its epilogue stores directly from registers.
pub const DIRECT: Product = Product {
    file: "products.ptx.gz",
    kernel: "nt_128x192_plain",
    tile: [128, 192],
    by_k: false,
    shared: shared([128, 192], 5, 0),
    slope: false,
};

/// Its epilogue goes through shared memory and a bulk store.
pub const STAGED: Product = Product {
    file: "staged.ptx.gz",
    kernel: "nt_128x192",
    shared: shared([128, 192], 4, 128 * 192 * 2),
    ..DIRECT
};

/// The sums of products for the tokens, row by row. The matrices, and hence the sums, depend only on the sizes.
fn sums(x: &[f32], w: &[f32], [n, k]: [usize; 2], by_k: bool) -> Arc<Vec<f64>> {
    type Known = HashMap<(usize, usize, bool), Arc<Vec<f64>>>;
    static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let found = known.entry((n, k, by_k)).or_insert_with(|| {
        let element =
            |column: usize, i: usize| if by_k { w[i * n + column] } else { w[column * k + i] };
        let sum = |row: usize, column: usize| -> f64 {
            (0..k).map(|i| f64::from(x[row * k + i]) * f64::from(element(column, i))).sum()
        };
        let places = (0..TOKENS * n).map(|at| sum(at / n, at % n));
        Arc::new(places.collect())
    });
    found.clone()
}

const TOKENS: usize = 200;
const BUCKET: usize = 256;

impl Product {
    pub fn text(&self) -> String {
        alone(&fixture(self.file), self.kernel)
    }

    /// Runs the kernel as given in `text`. Returns which number is wrong, if any.
    pub fn run(
        &self,
        text: &str,
        [n, k]: [usize; 2],
        hopper: &Hopper,
    ) -> Result<Option<String>, Box<Fault>> {
        let p = self;
        let (x, x_bytes) = halves(1, BUCKET * k);
        let (w, w_bytes) = halves(2, n * k);
        let at_x = hopper.upload(&x_bytes);
        let at_w = hopper.upload(&w_bytes);
        let y = hopper.upload(&vec![0xee; BUCKET * n * 2]);
        let tokens = hopper.upload(&(TOKENS as u32).to_le_bytes());
        let bias = hopper.upload(&vec![0; 4 * n]);
        let slope: Vec<u8> = (0..BUCKET * n).map(|i| (i % 251) as u8).collect();
        let at_slope = hopper.upload(&slope);
        if hopper.dependent {
            // The previous launch writes x, unchanged.
            let body = "mov.u32 %i, %ctaid.x;\nshl.b32 %i, %i, 8;\nadd.u32 %i, %i, %tid0;\nmul.wide.u32 %w, %i, 4;\n\
                    add.u64 %w, %w, %in;\nld.global.u32 %i, [%w];\nst.global.u32 [%w], %i;\n";
            let params = [Param::Pointer(at_x), Param::Pointer(at_x)];
            hopper.run(
                &kernel(256, "", "", body),
                ((BUCKET * k / 512) as u32, 256, 16),
                &params,
            )?;
        }
        let mut args = vec![0u8; 512];
        let x_map = map_of_halves(at_x, k, BUCKET, [64, p.tile[0] as u32]);
        let w_map = match p.by_k {
            true => map_of_halves(at_w, n, k, [64, 64]),
            false => map_of_halves(at_w, k, n, [64, p.tile[1] as u32]),
        };
        let out_map = map_of_halves(y, n, TOKENS, [64, 64]);
        for (slot, m) in [x_map, w_map, out_map].iter().enumerate() {
            args[128 * slot..128 * (slot + 1)].copy_from_slice(&m.encode());
        }
        args[384..392].copy_from_slice(&tokens.to_le_bytes());
        args[392..400].copy_from_slice(&bias.to_le_bytes());
        args[400..404].copy_from_slice(&(n as u32).to_le_bytes());
        args[404..408].copy_from_slice(&(k as u32).to_le_bytes());
        args[408..416].copy_from_slice(&y.to_le_bytes());
        args[416..424].copy_from_slice(&at_slope.to_le_bytes());
        let module =
            Module::load(text, &hopper.memory, &hopper.config).unwrap_or_else(|e| panic!("{e}"));
        let kernel = module.kernel(p.kernel).expect("a kernel");
        args.resize(kernel.param_bytes as usize, 0);
        let what = Launch {
            grid: [2, 1, 1],
            block: [384, 1, 1],
            dynamic_shared: p.shared,
            params: args,
            dependent: hopper.dependent,
            workspace: 0,
        };
        launch(&kernel, &what, &hopper.memory, &hopper.config)?;
        let got = hopper.bytes(y, BUCKET * n * 2);
        let sums = sums(&x, &w, [n, k], p.by_k);
        for row in 0..BUCKET {
            for column in 0..n {
                let at = row * n + column;
                let bits = u16::from_le_bytes([got[2 * at], got[2 * at + 1]]);
                if row >= TOKENS {
                    if bits != 0xeeee {
                        return Ok(Some(format!("row {row} is beyond the tokens")));
                    }
                    continue;
                }
                let mut want = sums[at];
                if p.slope {
                    // The prototype takes the first four codes of each eight.
                    let byte = slope[at / 8 * 8 + column % 4];
                    want *= (f64::from(byte) - 26.0) * f64::from(0.005f32);
                }
                let got = f16::from_bits(bits).to_f64();
                let error = (got - want).abs();
                if error.is_nan() || error > 2e-3 * want.abs().max(1.0) {
                    return Ok(Some(format!("[{row}, {column}]: {got}, not {want}")));
                }
            }
        }
        Ok(None)
    }
}

/// One kernel of a module, with what comes before the first.
fn alone(text: &str, kernel: &str) -> String {
    let entry = ".visible .entry ";
    let (head, _) = text.split_once(entry).expect("a kernel");
    let from = text.find(&format!("{entry}{kernel}(")).expect("this kernel");
    let rest = &text[from + entry.len()..];
    let to = rest.find(entry).or_else(|| rest.find(".section")).unwrap_or(rest.len());
    let body = &rest[..to];
    let end = body.rfind('}').expect("an end");
    format!("{head}{entry}{}\n", &body[..=end])
}

/// The bytes of a block's dynamic shared memory, as the kernels count them.
pub const fn shared(tile: [usize; 2], stages: usize, staged: usize) -> u32 {
    (stages * (tile[0] + tile[1]) * 128 + staged + 16 * stages + 1024) as u32
}
