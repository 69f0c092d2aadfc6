//! How fast the emulator runs: a tensor-core GEMM, attention, softmax and a vector addition, each with all checks on
//! and with the optional ones off (then with and without the counters), on one worker thread and on all.
//!
//! `cargo bench -p emulator --bench kernels` — the GEMM's and attention's elements are floating-point operations, so
//! "Gelem/s" reads as GFLOP/s. Every result is checked against a plain computation before it is timed.

use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use emulator::numeric::half::{f16_to_f32, f32_to_f16_rn};
use emulator::tensor_map::TensorMap;
use emulator::{
    AllocationKind, Checks, DeviceConfig, DeviceMemory, Kernel, Launch, Module, launch,
};
use flate2::read::GzDecoder;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

/// A loaded kernel with its buffers and arguments.
struct Workload {
    memory: Arc<DeviceMemory>,
    kernel: Arc<Kernel>,
    launch: Launch,
    // Keeps the module's globals alive.
    _module: Module,
}

#[derive(Clone, Copy)]
enum BenchArg {
    Pointer(u64),
    Int(i32),
    Float(f32),
}

fn config(checks: Checks, counters: bool, workers: usize) -> DeviceConfig {
    let shared_per_block_optin = 227 << 10;
    DeviceConfig { checks, counters, workers, shared_per_block_optin, ..DeviceConfig::default() }
}

/// Device memory and a way to fill it.
struct BenchDevice(Arc<DeviceMemory>);

impl BenchDevice {
    fn new() -> Self {
        BenchDevice(Arc::new(DeviceMemory::new(1 << 30)))
    }
    fn upload(&self, bytes: &[u8]) -> u64 {
        let at = self.empty(bytes.len());
        self.0.copy_from_host(at, bytes).expect("upload");
        at
    }
    fn empty(&self, bytes: usize) -> u64 {
        self.0.alloc(bytes as u64, AllocationKind::Device).expect("allocation")
    }
    fn workload(
        &self,
        ptx: &str,
        name: &str,
        grid: [u32; 3],
        threads: u32,
        args: &[BenchArg],
    ) -> Workload {
        let module =
            Module::load(ptx, &self.0, &DeviceConfig::default()).unwrap_or_else(|e| panic!("{e}"));
        let kernel = module.kernel(name).expect("kernel");
        let mut params = vec![0; kernel.param_bytes as usize];
        for (arg, decl) in args.iter().zip(&kernel.params) {
            let bytes = match arg {
                BenchArg::Pointer(x) => x.to_le_bytes().to_vec(),
                BenchArg::Int(x) => x.to_le_bytes().to_vec(),
                BenchArg::Float(x) => x.to_le_bytes().to_vec(),
            };
            params[decl.offset as usize..][..bytes.len()].copy_from_slice(&bytes);
        }
        let launch = Launch {
            grid,
            block: [threads, 1, 1],
            dynamic_shared: 0,
            params,
            dependent: false,
            workspace: 0,
        };
        Workload { memory: self.0.clone(), kernel, launch, _module: module }
    }
}

impl Workload {
    fn run(&self, config: &DeviceConfig) {
        launch(&self.kernel, &self.launch, &self.memory, config).unwrap_or_else(|e| panic!("{e}"));
    }
    fn bytes(&self, at: u64, count: usize) -> Vec<u8> {
        let mut out = vec![0; count];
        self.memory.copy_to_host(&mut out, at).expect("download");
        out
    }
}

/// Deterministic values in [−1, 1).
fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}
fn to_halves(x: &[f32]) -> Vec<u16> {
    x.iter().map(|&x| f32_to_f16_rn(x)).collect()
}
fn half_bytes(x: &[u16]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}
fn float_bytes(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}
fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four bytes"))).collect()
}
fn close(got: f32, want: f64, tolerance: f64, what: &str) {
    let error = (f64::from(got) - want).abs();
    assert!(error <= tolerance, "{what}: {got}, expected {want}");
}

/// Times a program with checks and counters on and off, on one thread and on all.
fn variants(group: &mut BenchmarkGroup<'_, WallTime>, program: &Workload) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for (checks, counters, name) in [
        (Checks::ALL, true, "checked"),
        (Checks::NONE, true, "unchecked"),
        (Checks::NONE, false, "uncounted"),
    ] {
        for workers in if cores > 1 { vec![1, cores] } else { vec![1] } {
            let config = config(checks, counters, workers);
            let threads =
                if workers == 1 { "1 thread".into() } else { format!("{workers} threads") };
            group.bench_function(format!("{name}, {threads}"), |b| b.iter(|| program.run(&config)));
        }
    }
}

fn gemm(c: &mut Criterion) {
    let (m, n, k) = (256usize, 512usize, 512usize);
    let device = BenchDevice::new();
    let (a, b) = (to_halves(&values(m * k, 1)), to_halves(&values(k * n, 2)));
    let out = device.empty(4 * m * n);
    let args = [
        BenchArg::Pointer(device.upload(&half_bytes(&a))),
        BenchArg::Pointer(device.upload(&half_bytes(&b))),
        BenchArg::Pointer(out),
        BenchArg::Int(m as i32),
        BenchArg::Int(n as i32),
        BenchArg::Int(k as i32),
    ];
    let program = device.workload(
        include_str!("kernels/gemm.ptx"),
        "gemm",
        [n as u32 / 128, m as u32 / 128, 1],
        256,
        &args,
    );
    program.run(&config(Checks::ALL, true, 0));
    let result = floats(&program.bytes(out, 4 * m * n));
    for row in (0..m).step_by(37) {
        for col in (0..n).step_by(11) {
            let dot = |i: usize| {
                f64::from(f16_to_f32(a[row * k + i])) * f64::from(f16_to_f32(b[i * n + col]))
            };
            close(result[row * n + col], (0..k).map(dot).sum(), 1e-4, "gemm");
        }
    }
    let mut group = c.benchmark_group("gemm f16 256x512x512");
    group.throughput(Throughput::Elements((2 * m * n * k) as u64));
    variants(&mut group, &program);
}

/// The same product the capability 9.0 way: a ring filled by tensor maps, two warpgroups, one block per core.
fn hopper(c: &mut Criterion) {
    let (m, n, k) = (256usize, 512usize, 512usize);
    let device = BenchDevice::new();
    let (x, w) = (to_halves(&values(m * k, 1)), to_halves(&values(n * k, 2)));
    let out = device.empty(2 * m * n);
    let map = |address: u64, width: usize, rows: usize, box_rows: u32| TensorMap {
        address,
        element: 6,
        rank: 2,
        dims: [width as u64, rows as u64, 1, 1, 1],
        strides: [2 * width as u64, 0, 0, 0],
        box_dims: [64, box_rows, 1, 1, 1],
        steps: [1; 5],
        interleave: 0,
        swizzle: 3,
        fill_nan: false,
    };
    let mut args = vec![0; 512];
    for (slot, m) in [
        map(device.upload(&half_bytes(&x)), k, m, 128),
        map(device.upload(&half_bytes(&w)), k, n, 256),
        map(out, n, m, 64),
    ]
    .iter()
    .enumerate()
    {
        args[128 * slot..][..128].copy_from_slice(&m.encode());
    }
    let tokens = device.upload(&(m as u32).to_le_bytes());
    args[384..392].copy_from_slice(&tokens.to_le_bytes());
    args[400..404].copy_from_slice(&(n as u32).to_le_bytes());
    args[404..408].copy_from_slice(&(k as u32).to_le_bytes());
    args[408..416].copy_from_slice(&out.to_le_bytes());
    let mut ptx = String::new();
    let packed = include_bytes!("../tests/fixtures/hopper/products.ptx.gz");
    GzDecoder::new(&packed[..]).read_to_string(&mut ptx).expect("a sound gzip file");
    let mut of_hopper = config(Checks::ALL, true, 0);
    of_hopper.capability = (9, 0);
    let module = Module::load(&ptx, &device.0, &of_hopper).unwrap_or_else(|e| panic!("{e}"));
    let kernel = module.kernel("nt_128x256_plain").expect("kernel");
    args.resize(kernel.param_bytes as usize, 0);
    let launch = Launch {
        grid: [4, 1, 1],
        block: [384, 1, 1],
        dynamic_shared: 4 * 49152 + 64 + 1024,
        params: args,
        dependent: false,
        workspace: 0,
    };
    let program = Workload { memory: device.0.clone(), kernel, launch, _module: module };
    program.run(&of_hopper);
    let result = program.bytes(out, 2 * m * n);
    for row in (0..m).step_by(37) {
        for col in (0..n).step_by(11) {
            let dot = |i: usize| {
                f64::from(f16_to_f32(x[row * k + i])) * f64::from(f16_to_f32(w[col * k + i]))
            };
            let at = 2 * (row * n + col);
            let got = f16_to_f32(u16::from_le_bytes([result[at], result[at + 1]]));
            close(got, (0..k).map(dot).sum(), 2e-2, "hopper");
        }
    }
    let mut group = c.benchmark_group("gemm f16 256x512x512 by wgmma");
    group.throughput(Throughput::Elements((2 * m * n * k) as u64));
    variants(&mut group, &program);
}

fn attention(c: &mut Criterion) {
    let (heads, length, d) = (2usize, 256usize, 64usize);
    let device = BenchDevice::new();
    let [q, k, v] = [3, 4, 5].map(|seed| to_halves(&values(heads * length * d, seed)));
    let out = device.empty(2 * heads * length * d);
    let scale = 1.0 / (d as f32).sqrt();
    let mut args: Vec<BenchArg> =
        [&q, &k, &v].map(|x| BenchArg::Pointer(device.upload(&half_bytes(x)))).to_vec();
    args.extend([
        BenchArg::Pointer(out),
        BenchArg::Int(length as i32),
        BenchArg::Float(scale * std::f32::consts::LOG2_E),
    ]);
    let grid = [length as u32 / 64, heads as u32, 1];
    let program =
        device.workload(include_str!("kernels/attention.ptx"), "attention", grid, 128, &args);
    program.run(&config(Checks::ALL, true, 0));
    let result = program.bytes(out, 2 * heads * length * d);
    let wide = |x: &[u16], row: usize, col: usize| f64::from(f16_to_f32(x[row * d + col]));
    for query in (0..heads * length).step_by(61) {
        let first = query / length * length;
        let score = |key: usize| {
            f64::from(scale) * (0..d).map(|i| wide(&q, query, i) * wide(&k, key, i)).sum::<f64>()
        };
        let weights: Vec<f64> = (first..first + length).map(|key| score(key).exp()).collect();
        let total: f64 = weights.iter().sum();
        for col in (0..d).step_by(7) {
            let want =
                (0..length).map(|i| weights[i] * wide(&v, first + i, col)).sum::<f64>() / total;
            let at = 2 * (query * d + col);
            close(
                f16_to_f32(u16::from_le_bytes([result[at], result[at + 1]])),
                want,
                1e-3,
                "attention",
            );
        }
    }
    let mut group = c.benchmark_group("attention 2 heads, length 256, head size 64");
    group.throughput(Throughput::Elements((4 * heads * length * length * d) as u64));
    variants(&mut group, &program);
}

fn softmax(c: &mut Criterion) {
    let (rows, cols) = (64usize, 1024usize);
    let device = BenchDevice::new();
    let x = values(rows * cols, 6);
    let out = device.empty(4 * rows * cols);
    let args = [
        BenchArg::Pointer(device.upload(&float_bytes(&x))),
        BenchArg::Pointer(out),
        BenchArg::Int(cols as i32),
    ];
    let program = device.workload(
        include_str!("kernels/elementwise.ptx"),
        "softmax",
        [rows as u32, 1, 1],
        256,
        &args,
    );
    program.run(&config(Checks::ALL, true, 0));
    let result = floats(&program.bytes(out, 4 * rows * cols));
    for (got, row) in result.chunks(cols).zip(x.chunks(cols)) {
        let total: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        for (&got, &x) in got.iter().zip(row) {
            close(got, f64::from(x).exp() / total, 1e-7, "softmax");
        }
    }
    let mut group = c.benchmark_group("softmax 64x1024");
    group.throughput(Throughput::Elements((rows * cols) as u64));
    variants(&mut group, &program);
}

fn vector_add(c: &mut Criterion) {
    let count = 1usize << 18;
    let device = BenchDevice::new();
    let (a, b) = (values(count, 7), values(count, 8));
    let out = device.empty(4 * count);
    let args = [
        BenchArg::Pointer(device.upload(&float_bytes(&a))),
        BenchArg::Pointer(device.upload(&float_bytes(&b))),
        BenchArg::Pointer(out),
        BenchArg::Int(count as i32),
    ];
    let program = device.workload(
        include_str!("kernels/elementwise.ptx"),
        "vector_add",
        [count as u32 / 256, 1, 1],
        256,
        &args,
    );
    program.run(&config(Checks::ALL, true, 0));
    let result = floats(&program.bytes(out, 4 * count));
    assert!(result.iter().zip(a.iter().zip(&b)).all(|(&got, (&a, &b))| got == a + b));
    let mut group = c.benchmark_group("vector add 262144");
    group.throughput(Throughput::Elements(count as u64));
    variants(&mut group, &program);
}

/// Only the tensor-core product: a lower bound for the GEMM.
fn mma(c: &mut Criterion) {
    use emulator::numeric::mma::{Mma, MmaType, Reg, mma};
    let reg = |seed: u64| -> Reg {
        std::array::from_fn(|i| (values(64, seed)[i] * 1e3) as i32 as u32 & 0x3bff_3bff)
    };
    let (a, b, c_in) = ([reg(1), reg(2), reg(3), reg(4)], [reg(5), reg(6)], [[0; 32]; 4]);
    let mut d = [[0; 32]; 4];
    let mut group = c.benchmark_group("mma m16n8k16");
    group.throughput(Throughput::Elements(4096));
    for (name, kind) in [("f16", MmaType::F16), ("bf16", MmaType::Bf16)] {
        let m = Mma {
            k: 16,
            a: kind,
            b: kind,
            c_half: false,
            d_half: false,
            satfinite: false,
            m8: false,
        };
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let (a, b, c) = std::hint::black_box((&a, &b, &c_in));
                mma(
                    m,
                    &[&a[0], &a[1], &a[2], &a[3]],
                    &[&b[0], &b[1]],
                    &[&c[0], &c[1], &c[2], &c[3]],
                    &mut d,
                );
                std::hint::black_box(&d);
            })
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2));
    targets = mma, gemm, hopper, attention, softmax, vector_add
}
criterion_main!(benches);
