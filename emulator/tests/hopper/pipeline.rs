//! Persistent, warp-specialised matrix products as compiled by nvcc (fixtures/hopper): rings of stages filled by tensor
//! maps, two consumer warpgroups, edges on every side, epilogues from registers and through shared memory.

use crate::device::{Hopper, map_of_halves, seeds};
use crate::persistent::{DIRECT, Product, STAGED, fixture, halves, shared};
use emulator::tensor_map::TensorMap;
use emulator::{Fault, Launch, Module, launch};

fn run(p: &Product, n: usize, k: usize, seed: Option<u64>) {
    let wrong = p.run(&p.text(), [n, k], &Hopper::seeded(seed));
    let wrong = wrong.unwrap_or_else(|f| panic!("{}, seed {seed:?}: {f}", p.kernel));
    assert_eq!(wrong, None, "{}, seed {seed:?}", p.kernel);
}

#[test]
fn epilogues_from_registers() {
    for seed in [None, Some(1), Some(2)] {
        run(&DIRECT, 328, 136, seed);
        let wide = Product {
            kernel: "nt_128x256_plain",
            tile: [128, 256],
            shared: shared([128, 256], 4, 0),
            ..DIRECT
        };
        run(&wide, 264, 200, seed);
        let back = Product { kernel: "nn_128x192_slope", by_k: true, slope: true, ..DIRECT };
        run(&back, 200, 328, seed);
    }
}

#[test]
fn epilogues_through_shared_memory() {
    for seed in [None, Some(3)] {
        run(&STAGED, 328, 136, seed);
        let tall = Product {
            kernel: "nt_256x128",
            tile: [256, 128],
            shared: shared([256, 128], 3, 256 * 128 * 2),
            ..STAGED
        };
        run(&tall, 136, 264, seed);
        let back = Product { kernel: "nn_128x192", by_k: true, ..STAGED };
        run(&back, 200, 200, seed);
    }
}

/// Launches kernel `name` of a text with a block of parameters.
fn launch_text(
    hopper: &Hopper,
    text: &str,
    name: &str,
    (blocks, threads, dynamic_shared): (u32, u32, u32),
    params: Vec<u8>,
) -> Result<(), Box<Fault>> {
    let module =
        Module::load(text, &hopper.memory, &hopper.config).unwrap_or_else(|e| panic!("{e}"));
    let kernel = module.kernel(name).expect("a kernel");
    assert_eq!(kernel.param_bytes as usize, params.len(), "{name}");
    let (grid, block) = ([blocks, 1, 1], [threads, 1, 1]);
    let what = Launch { grid, block, dynamic_shared, params, dependent: false, workspace: 0 };
    launch(&kernel, &what, &hopper.memory, &hopper.config).map(drop)
}

/// The same for a fixture, which must pass.
fn run_fixture(
    hopper: &Hopper,
    (file, name): (&str, &str),
    shape: (u32, u32, u32),
    params: Vec<u8>,
) {
    let seed = hopper.config.warp_order_seed;
    launch_text(hopper, &fixture(file), name, shape, params)
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

/// Attention of 64 queries as given in `text`; the numbers must be right if nothing is reported.
pub fn attend(text: &str, seed: Option<u64>) -> Result<(), Box<Fault>> {
    let keys = 192;
    let (q, q_bytes) = halves(3, 64 * 64);
    let (k, k_bytes) = halves(4, keys * 64);
    let (v, v_bytes) = halves(5, keys * 64);
    let hopper = Hopper::seeded(seed);
    let out = hopper.alloc(4 * 64 * 64);
    let mut params = Vec::new();
    for at in [hopper.upload(&q_bytes), hopper.upload(&k_bytes), hopper.upload(&v_bytes), out] {
        params.extend(at.to_le_bytes());
    }
    params.extend((keys as u32).to_le_bytes());
    launch_text(&hopper, text, "attend", (1, 128, 24576), params)?;
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
    Ok(())
}

#[test]
fn attention_with_weights_in_registers() {
    let text = fixture("attention.ptx.gz");
    for seed in seeds() {
        attend(&text, seed).unwrap_or_else(|f| panic!("seed {seed:?}: {f}"));
    }
}

#[test]
fn what_a_block_does_alone() {
    let text = fixture("blocks.ptx.gz");
    let words: Vec<u32> = (0..2048u32).map(|n| n.wrapping_mul(2654435761) >> 12).collect();
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    for seed in seeds() {
        let hopper = Hopper::seeded(seed);
        let input = hopper.upload(&bytes);
        let run = |name: &str, blocks: u32, threads: u32, params: &[u64], last: Option<u32>| {
            let mut block: Vec<u8> = params.iter().flat_map(|p| p.to_le_bytes()).collect();
            block.extend(last.into_iter().flat_map(u32::to_le_bytes));
            launch_text(&hopper, &text, name, (blocks, threads, 0), block)
                .unwrap_or_else(|f| panic!("{name}, seed {seed:?}: {f}"));
        };
        let out = hopper.alloc(8192);
        run("roles", 1, 128, &[input, out], Some(8));
        assert!(hopper.words(out, 2048).iter().zip(&words).all(|(got, word)| *got == word + 1));

        let out = hopper.alloc(1024);
        run("cluster", 1, 128, &[out], None);
        let got = hopper.words(out, 256);
        assert!(got.iter().zip(0..).all(|(&got, n)| got == 3 * (127 - n % 128)), "{got:?}");

        let out = hopper.alloc(4608);
        run("groups", 1, 128, &[input, out], None);
        let got = hopper.words(out, 1152);
        assert!(got[..1024].iter().zip(&words).all(|(got, word)| *got == 2 * word));
        assert!(got[1024..].iter().zip(&words).all(|(got, word)| *got == 2 * word + 1));

        let out = hopper.upload(&vec![0; 2048]);
        run("sums", 3, 256, &[input, out], None);
        let got = hopper.words(out, 512);
        for n in 0..256 {
            let of = [words[n], words[n + 256], words[n + 512]];
            assert_eq!(got[n], of.iter().sum::<u32>(), "word {n}");
            assert_eq!(Some(&got[n + 256]), of.iter().max(), "word {n}");
        }
    }
}
