//! Persistent, warp-specialised products of matrices as nvcc compiles them (fixtures/hopper): rings of stages filled by
//! tensor maps, two consumer warpgroups, edges on every side, epilogues from registers and through shared memory.

use crate::device::{Hopper, map_of_halves};
use emulator::tensor_map::TensorMap;
use emulator::{Launch, Module, launch};
use half::f16;
use std::io::Read;

fn fixture(name: &str) -> String {
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

fn halves(seed: usize, count: usize) -> (Vec<f32>, Vec<u8>) {
    let values: Vec<f32> = (0..count).map(|n| value(seed, n)).collect();
    let bytes = values.iter().flat_map(|&x| f16::from_f32(x).to_bits().to_le_bytes()).collect();
    (values, bytes)
}

struct Product {
    file: &'static str,
    kernel: &'static str,
    tile: [usize; 2],
    /// W is stored by k.
    by_k: bool,
    shared: u32,
    /// The epilogue's factor by element, if it has a slope.
    slope: bool,
}

const TOKENS: usize = 200;
const BUCKET: usize = 256;

fn run(p: &Product, n: usize, k: usize, seed: Option<u64>) {
    let hopper = Hopper::seeded(seed);
    let (x, x_bytes) = halves(1, BUCKET * k);
    let (w, w_bytes) = halves(2, n * k);
    let at_x = hopper.upload(&x_bytes);
    let at_w = hopper.upload(&w_bytes);
    let y = hopper.upload(&vec![0xee; BUCKET * n * 2]);
    let tokens = hopper.upload(&(TOKENS as u32).to_le_bytes());
    let bias = hopper.upload(&vec![0; 4 * n]);
    let slope: Vec<u8> = (0..BUCKET * n).map(|i| (i % 251) as u8).collect();
    let at_slope = hopper.upload(&slope);
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
    let text = fixture(p.file);
    let module =
        Module::load(&text, &hopper.memory, &hopper.config).unwrap_or_else(|e| panic!("{e}"));
    let kernel = module.kernel(p.kernel).expect("a kernel");
    args.resize(kernel.param_bytes as usize, 0);
    let what = Launch {
        grid: [2, 1, 1],
        block: [384, 1, 1],
        dynamic_shared: p.shared,
        params: args,
        dependent: false,
    };
    launch(&kernel, &what, &hopper.memory, &hopper.config)
        .unwrap_or_else(|f| panic!("{}, seed {seed:?}: {f}", p.kernel));
    let got = hopper.bytes(y, BUCKET * n * 2);
    for row in 0..BUCKET {
        for column in 0..n {
            let at = row * n + column;
            let bits = u16::from_le_bytes([got[2 * at], got[2 * at + 1]]);
            if row >= TOKENS {
                assert_eq!(bits, 0xeeee, "{}: row {row} is beyond the tokens", p.kernel);
                continue;
            }
            let element = |i: usize| if p.by_k { w[i * n + column] } else { w[column * k + i] };
            let mut want: f64 =
                (0..k).map(|i| f64::from(x[row * k + i]) * f64::from(element(i))).sum();
            if p.slope {
                // The prototype takes the first four codes of each eight.
                let byte = slope[at / 8 * 8 + column % 4];
                want *= (f64::from(byte) - 26.0) * f64::from(0.005f32);
            }
            let got = f16::from_bits(bits).to_f64();
            let error = (got - want).abs();
            assert!(
                error <= 2e-3 * want.abs().max(1.0),
                "{} [{row}, {column}]: {got}, not {want}",
                p.kernel
            );
        }
    }
}

/// The bytes of a block's dynamic shared memory, as the kernels count them.
const fn shared(tile: [usize; 2], stages: usize, staged: usize) -> u32 {
    (stages * (tile[0] + tile[1]) * 128 + staged + 16 * stages + 1024) as u32
}

#[test]
fn epilogues_from_registers() {
    for seed in [None, Some(1), Some(2)] {
        let plain = Product {
            file: "products.ptx.gz",
            kernel: "nt_128x192_plain",
            tile: [128, 192],
            by_k: false,
            shared: shared([128, 192], 5, 0),
            slope: false,
        };
        run(&plain, 328, 136, seed);
        let wide = Product {
            kernel: "nt_128x256_plain",
            tile: [128, 256],
            shared: shared([128, 256], 4, 0),
            ..plain
        };
        run(&wide, 264, 200, seed);
        let back = Product { kernel: "nn_128x192_slope", by_k: true, slope: true, ..plain };
        run(&back, 200, 328, seed);
    }
}

#[test]
fn epilogues_through_shared_memory() {
    for seed in [None, Some(3)] {
        let staged = Product {
            file: "staged.ptx.gz",
            kernel: "nt_128x192",
            tile: [128, 192],
            by_k: false,
            shared: shared([128, 192], 4, 128 * 192 * 2),
            slope: false,
        };
        run(&staged, 328, 136, seed);
        let tall = Product {
            kernel: "nt_256x128",
            tile: [256, 128],
            shared: shared([256, 128], 3, 256 * 128 * 2),
            ..staged
        };
        run(&tall, 136, 264, seed);
        let back = Product { kernel: "nn_128x192", by_k: true, ..staged };
        run(&back, 200, 200, seed);
    }
}

/// Launches kernel `name` of a fixture with a block of parameters.
fn run_fixture(
    hopper: &Hopper,
    (file, name): (&str, &str),
    (blocks, threads, dynamic_shared): (u32, u32, u32),
    params: Vec<u8>,
) {
    let text = fixture(file);
    let module =
        Module::load(&text, &hopper.memory, &hopper.config).unwrap_or_else(|e| panic!("{e}"));
    let kernel = module.kernel(name).expect("a kernel");
    assert_eq!(kernel.param_bytes as usize, params.len(), "{name}");
    let (grid, block) = ([blocks, 1, 1], [threads, 1, 1]);
    let what = Launch { grid, block, dynamic_shared, params, dependent: false };
    let seed = hopper.config.warp_order_seed;
    launch(&kernel, &what, &hopper.memory, &hopper.config)
        .unwrap_or_else(|f| panic!("{name}, seed {seed:?}: {f}"));
}

#[test]
fn what_the_headers_of_cuda_make() {
    for seed in [None, Some(1), Some(2), Some(3)] {
        let hopper = Hopper::seeded(seed);
        let words: Vec<u8> = (0..3072u32).flat_map(|n| (5 * n).to_le_bytes()).collect();
        let at = hopper.upload(&words);
        run_fixture(&hopper, ("library.ptx.gz", "ranges"), (3, 128, 0), at.to_le_bytes().to_vec());
        assert!(hopper.words(at, 3072).iter().zip(0..).all(|(&got, n)| got == 5 * n + 1));

        // A tensor of 80 by 20 words; the box at (16, 4) of 32 by 8.
        let at = hopper.upload(&words[..6400]);
        let m = TensorMap {
            element: 2,
            strides: [320, 0, 0, 0],
            swizzle: 0,
            ..map_of_halves(at, 80, 20, [32, 8])
        };
        let mut params = m.encode().to_vec();
        params.extend([16i32.to_le_bytes(), 4i32.to_le_bytes()].concat());
        run_fixture(&hopper, ("library.ptx.gz", "boxes"), (1, 256, 0), params);
        for (n, got) in hopper.words(at, 1600).into_iter().enumerate() {
            let (row, column) = (n / 80, n % 80);
            let inside = (4..12).contains(&row) && (16..48).contains(&column);
            let added = if inside { (row - 4) * 32 + column - 16 } else { 0 };
            assert_eq!(got as usize, 5 * n + added, "row {row}, column {column}");
        }
    }
}

#[test]
fn attention_with_weights_in_registers() {
    let keys = 192;
    let (q, q_bytes) = halves(3, 64 * 64);
    let (k, k_bytes) = halves(4, keys * 64);
    let (v, v_bytes) = halves(5, keys * 64);
    for seed in [None, Some(1), Some(2), Some(3)] {
        let hopper = Hopper::seeded(seed);
        let out = hopper.alloc(4 * 64 * 64);
        let mut params = Vec::new();
        for at in [hopper.upload(&q_bytes), hopper.upload(&k_bytes), hopper.upload(&v_bytes), out] {
            params.extend(at.to_le_bytes());
        }
        params.extend((keys as u32).to_le_bytes());
        run_fixture(&hopper, ("attention.ptx.gz", "attend"), (1, 128, 24576), params);
        let got = hopper.words(out, 64 * 64);
        for query in 0..64 {
            let dot = |key: usize| -> f64 {
                let of = |i: usize| f64::from(q[query * 64 + i]) * f64::from(k[key * 64 + i]);
                (0..64).map(of).sum::<f64>() / 8.0
            };
            let weights: Vec<f64> = (0..keys).map(|key| dot(key).exp()).collect();
            let total: f64 = weights.iter().sum();
            for column in 0..64 {
                let part = |key: usize| weights[key] * f64::from(v[key * 64 + column]);
                let want = (0..keys).map(part).sum::<f64>() / total;
                let got = f64::from(f32::from_bits(got[query * 64 + column]));
                assert!((got - want).abs() < 1e-3, "[{query}, {column}]: {got}, not {want}");
            }
        }
    }
}
