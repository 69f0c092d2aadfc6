//! CUDA C++ compiled by nvcc, compared with values computed here.

use crate::rig::{Arg, Rig, close, line, seeds, text, value, wide};
use half::{bf16, f16};

/// Whole numbers from the same hash.
fn integers(seed: u32, count: usize) -> Vec<i32> {
    value(seed, count).iter().map(|v| (v * 64.0) as i32).collect()
}

#[test]
fn cooperative_groups() {
    let ptx = text("cuda/reductions.ptx.gz");
    let (floats, ints) = (value(1, 512), integers(2, 512));
    let sums = |chunk: usize| {
        floats.chunks(chunk).map(|c| c.iter().map(|v| f64::from(*v)).sum()).collect::<Vec<f64>>()
    };
    for seed in seeds() {
        let rig = Rig::new(&ptx, seed);
        let (f, i) = (rig.upload(&floats), rig.upload(&ints));

        let out = rig.alloc(16 * 4);
        rig.pass("warp_sum_f32", line(4, 128), &[f.into(), out.into(), 512.into()]);
        close("warp sums", &wide(&rig.download::<f32>(out, 16)), &sums(32), 1e-6);

        let out = rig.alloc(3 * 64 * 4);
        rig.pass("tile_int", line(4, 128), &[i.into(), out.into(), 512.into()]);
        let tiles = || ints.chunks(8);
        let expected: Vec<i32> = tiles()
            .map(|t| *t.iter().min().expect("eight"))
            .chain(tiles().map(|t| *t.iter().max().expect("eight")))
            .chain(tiles().map(|t| t.iter().fold(0, |all, v| all ^ v)))
            .collect();
        assert_eq!(rig.download::<i32>(out, 192), expected, "tiles of eight");

        let unsigned: Vec<u32> = ints[..64].iter().map(|v| v.unsigned_abs()).collect();
        let (input, out) = (rig.upload(&unsigned), rig.upload(&[0u32; 66]));
        rig.pass("coalesced_odd", line(1, 64), &[input.into(), out.into(), 64.into()]);
        let odd = unsigned.iter().filter(|v| *v % 2 == 1);
        let mut expected = vec![odd.clone().sum::<u32>(), odd.count() as u32];
        for warp in unsigned.chunks(32) {
            let mut rank = 0;
            for v in warp {
                expected.push(if v % 2 == 1 { rank } else { 0 });
                rank += v % 2;
            }
        }
        assert_eq!(rig.download::<u32>(out, 66), expected, "coalesced groups");

        let out = rig.alloc(512 * 4);
        rig.pass("warp_scan", line(4, 128), &[i.into(), out.into(), 512.into()]);
        let expected: Vec<i32> = ints
            .chunks(32)
            .flat_map(|warp| {
                warp.iter().scan(0, |sum, v| {
                    *sum += v;
                    Some(*sum)
                })
            })
            .collect();
        assert_eq!(rig.download::<i32>(out, 512), expected, "scans");

        let out = rig.alloc(4 * 4);
        rig.pass("block_sum", ([4, 1, 1], [128, 1, 1], 512), &[f.into(), out.into(), 512.into()]);
        close("block sums", &wide(&rig.download::<f32>(out, 4)), &sums(128), 1e-5);

        let (partial, out) = (rig.alloc(3 * 4), rig.alloc(4));
        rig.pass("grid_sum", line(3, 64), &[f.into(), partial.into(), out.into(), 512.into()]);
        close("grid sum", &wide(&rig.download::<f32>(out, 1)), &sums(512), 1e-5);
    }
}

#[test]
fn cub_block_primitives() {
    let ptx = text("cuda/cub_block.ptx.gz");
    let floats = value(3, 256);
    let ints = integers(4, 1024);
    let keys: Vec<u32> = ints.iter().map(|v| (*v as u32).wrapping_mul(2_654_435_761)).collect();
    for seed in seeds() {
        let rig = Rig::new(&ptx, seed);

        let (input, out) = (rig.upload(&floats), rig.alloc(8));
        rig.pass("cub_reduce", line(2, 128), &[input.into(), out.into()]);
        let expected: Vec<f64> =
            floats.chunks(128).map(|c| c.iter().map(|v| f64::from(*v)).sum()).collect();
        close("cub_reduce", &wide(&rig.download::<f32>(out, 2)), &expected, 1e-5);

        let (input, out, total) = (rig.upload(&ints), rig.alloc(4096), rig.alloc(8));
        rig.pass("cub_scan", line(2, 128), &[input.into(), out.into(), total.into()]);
        let mut expected = vec![];
        let mut totals = vec![];
        for block in ints.chunks(512) {
            let mut sum = 0;
            for v in block {
                expected.push(sum);
                sum += v;
            }
            totals.push(sum);
        }
        assert_eq!(rig.download::<i32>(out, 1024), expected, "cub_scan");
        assert_eq!(rig.download::<i32>(total, 2), totals, "cub_scan totals");

        let (k, v) = (rig.upload(&keys), rig.upload(&(0..1024).collect::<Vec<i32>>()));
        rig.pass("cub_sort", line(2, 128), &[k.into(), v.into()]);
        let (sorted, order) = (rig.download::<u32>(k, 1024), rig.download::<i32>(v, 1024));
        for block in 0..2 {
            let part = block * 512..(block + 1) * 512;
            let mut expected: Vec<(u32, i32)> = part.clone().map(|i| (keys[i], i as i32)).collect();
            expected.sort_by_key(|pair| pair.0);
            let got: Vec<(u32, i32)> = part.map(|i| (sorted[i], order[i])).collect();
            assert_eq!(got, expected, "cub_sort, block {block}");
        }
    }
}

#[test]
fn ordinary_cuda() {
    let ptx = text("cuda/ordinary.ptx.gz");
    for seed in seeds() {
        let rig = Rig::new(&ptx, seed);
        let input = value(5, 96);

        let (a, out) = (rig.upload(&input), rig.alloc(96 * 4));
        let mut affine = 1.5f32.to_le_bytes().to_vec();
        affine.extend((-3i16).to_le_bytes());
        affine.extend([0; 2]);
        affine.extend(0.125f64.to_le_bytes());
        rig.pass("affine", line(3, 32), &[a.into(), out.into(), Arg::Bytes(affine), 96.into()]);
        let expected: Vec<f64> = input.iter().map(|v| f64::from(v * 1.5 - 3.0) + 0.125).collect();
        close("affine", &wide(&rig.download::<f32>(out, 96)), &expected, 1e-7);

        let starts: Vec<i32> = (0..32).map(|i| i * 7 + 1).collect();
        let (a, steps, fib, through) =
            (rig.upload(&starts), rig.alloc(256), rig.alloc(128), rig.alloc(128));
        rig.pass("calls", line(1, 32), &[a.into(), steps.into(), fib.into(), through.into()]);
        let collatz = |mut n: i64| {
            let mut steps = 0i64;
            while n != 1 {
                n = if n % 2 == 0 { n / 2 } else { 3 * n + 1 };
                steps += 1;
            }
            steps
        };
        let fibonacci = |n: i32| (0..n).fold((0, 1), |(a, b), _| (b, a + b)).0;
        assert_eq!(
            rig.download::<i64>(steps, 32),
            starts.iter().map(|n| collatz(i64::from(*n))).collect::<Vec<_>>()
        );
        assert_eq!(
            rig.download::<i32>(fib, 32),
            starts.iter().map(|n| fibonacci(n % 10)).collect::<Vec<_>>()
        );
        let expected: Vec<f32> = starts
            .iter()
            .enumerate()
            .map(|(i, n)| *n as f32 * if i % 2 == 1 { *n as f32 } else { 2.0 })
            .collect();
        assert_eq!(rig.download::<f32>(through, 32), expected);

        let values: Vec<i32> = (0..32).map(|i| i % 10).collect();
        let (a, out) = (rig.upload(&values), rig.alloc(128));
        rig.pass("choose", line(1, 32), &[a.into(), out.into()]);
        let choose = |v: i32| match v {
            0 => 17,
            1 => (v * 33) ^ 5,
            2 => v - 91,
            3 => (v + 1000).count_ones() as i32,
            4 => v.leading_zeros() as i32,
            5 => v.reverse_bits(),
            6 => (v << 9).trailing_zeros() as i32 + 1,
            7 => !v,
            _ => -1,
        };
        assert_eq!(
            rig.download::<i32>(out, 32),
            values.iter().map(|v| choose(*v)).collect::<Vec<_>>()
        );

        let positive: Vec<f64> = (0..32).map(|i| 0.07 + 0.31 * f64::from(i)).collect();
        let (a, out) = (rig.upload(&positive), rig.alloc(512));
        rig.pass("doubles", line(1, 32), &[a.into(), out.into(), 32.into()]);
        let first = positive.iter().map(|x| x.sqrt() + (-x).exp() + x.ln_1p() / (1.0 + x));
        let second = positive.iter().map(|x| x.sin() * x.cos() + x.powf(1.5));
        close(
            "doubles",
            &rig.download::<f64>(out, 64),
            &first.chain(second).collect::<Vec<_>>(),
            1e-14,
        );

        let single: Vec<f32> = positive.iter().map(|x| *x as f32).collect();
        let (a, out) = (rig.upload(&single), rig.alloc(256));
        rig.pass("floats", line(1, 32), &[a.into(), out.into(), 32.into()]);
        let wide_single = wide(&single);
        let first = wide_single.iter().map(|x| x.sqrt() + (-x).exp() + erf(*x) / (1.0 + x));
        let second =
            wide_single.iter().map(|x| x.sin() * x.cos() + x.tanh() + 1.0 / (x + 1.0).sqrt());
        close(
            "floats",
            &wide(&rig.download::<f32>(out, 64)),
            &first.chain(second).collect::<Vec<_>>(),
            1e-6,
        );

        let (x, y): (Vec<f16>, Vec<f16>) = value(6, 64)
            .iter()
            .zip(value(7, 64))
            .map(|(x, y)| (f16::from_f32(*x), f16::from_f32(y)))
            .unzip();
        let (a, b, out, rounded) = (rig.upload(&x), rig.upload(&y), rig.alloc(128), rig.alloc(64));
        rig.pass("halves", line(1, 32), &[a.into(), b.into(), out.into(), rounded.into()]);
        let expected: Vec<f16> = x
            .iter()
            .zip(&y)
            .map(|(x, y)| {
                let (x, y) = (x.to_f64(), y.to_f64());
                f16::from_f64((x * y + 0.5).max(f16::from_f64(x - y).to_f64()))
            })
            .collect();
        assert_eq!(rig.download::<f16>(out, 64), expected);
        let expected: Vec<bf16> =
            x.iter().step_by(2).map(|x| bf16::from_f32(x.to_f32() * 1.01)).collect();
        assert_eq!(rig.download::<bf16>(rounded, 32), expected);

        let bytes: Vec<u8> = integers(8, 1000).iter().map(|v| *v as u8).collect();
        let (a, bins) = (rig.upload(&bytes), rig.upload(&[0u32; 16]));
        rig.pass("histogram", line(3, 96), &[a.into(), bins.into(), 1000.into()]);
        let mut expected = [0u32; 16];
        bytes.iter().for_each(|byte| expected[usize::from(byte & 15)] += 1);
        assert_eq!(rig.download::<u32>(bins, 16), expected);

        let matrix = value(9, 40 * 70);
        let (a, out) = (rig.upload(&matrix), rig.alloc(40 * 70 * 4));
        rig.pass(
            "transpose",
            ([3, 2, 1], [32, 8, 1], 0),
            &[a.into(), out.into(), 40.into(), 70.into()],
        );
        let expected: Vec<f32> = (0..70)
            .flat_map(|c| (0..40).map(move |r| (r, c)))
            .map(|(r, c)| matrix[r * 70 + c])
            .collect();
        assert_eq!(rig.download::<f32>(out, 40 * 70), expected);
    }
}

/// Constants and variables of the module, which a launch changes.
#[test]
fn module_variables() {
    let rig = Rig::new(&text("cuda/ordinary.ptx.gz"), None);
    let out = rig.alloc(96 * 4);
    rig.pass("globals", line(1, 1), &[out.into()]);
    let table = [0.5f32, -1.25, 3.0, 8.0];
    assert_eq!(rig.download::<f32>(out, 1), [table[0] * 10.0]);
    let (address, bytes) = rig.module.global("counters").expect("a global");
    assert_eq!(bytes, 12);
    assert_eq!(rig.download::<i32>(address, 3), [11, 20, 30]);
}

#[test]
fn votes_and_shuffles() {
    let input = integers(10, 32);
    let ptx = text("cuda/ordinary.ptx.gz");
    for seed in seeds() {
        let rig = Rig::new(&ptx, seed);
        let (a, out) = (rig.upload(&input), rig.alloc(128));
        rig.pass("votes", line(1, 32), &[a.into(), out.into()]);
        let mask = |test: &dyn Fn(i32) -> bool| {
            (0..32).filter(|i| test(input[*i])).fold(0u32, |m, i| m | 1 << i)
        };
        let expected: Vec<u32> = (0..32usize)
            .map(|lane| {
                let up = if lane < 2 { input[lane] } else { input[lane - 2] };
                let down = if lane > 28 { input[lane] } else { input[lane + 3] };
                let neighbour = input[lane ^ 5] + up - down;
                let (any, all) =
                    (u32::from(input.contains(&7)), u32::from(input.iter().all(|v| *v > -100)));
                mask(&|v| v > 0)
                    ^ mask(&|v| v % 3 == input[lane] % 3)
                    ^ (any << 1)
                    ^ all
                    ^ neighbour as u32
            })
            .collect();
        assert_eq!(rig.download::<u32>(out, 32), expected);
    }
}

/// The error function by its series; past 4 it is 1 to single precision, and the series loses its digits.
fn erf(x: f64) -> f64 {
    if x > 4.0 {
        return 1.0;
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}
