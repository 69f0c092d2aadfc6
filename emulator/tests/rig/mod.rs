//! What the tests that run kernels share: a device, buffers, launches, and the numbers the fixtures are made of.
#![allow(dead_code)] // each test binary uses a part of it

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use emulator::{
    AllocationKind, DeviceConfig, DeviceMemory, Fault, KernelCounters, Launch, Module, launch,
};

/// The seeds of the adversarial warp orders; `None` is the plain order.
pub fn seeds() -> impl Iterator<Item = Option<u64>> {
    std::iter::once(None).chain((1..=20).map(Some))
}

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The bytes of a fixture, unpacked if it is packed.
pub fn read(name: &str) -> Vec<u8> {
    let bytes = std::fs::read(fixture(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    if !name.ends_with(".gz") {
        return bytes;
    }
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut unpacked).expect("a sound gzip file");
    unpacked
}

pub fn text(name: &str) -> String {
    String::from_utf8(read(name)).expect("text")
}

/// Numbers k/64 with k in -64..=64, from a hash of seed and index: the twin of `value` in triton/kernels.py.
pub fn value(seed: u32, count: usize) -> Vec<f32> {
    let hash = |index: u32| {
        let mut h = index.wrapping_add(seed.wrapping_mul(0x9E37_79B9));
        h = (h ^ (h >> 16)).wrapping_mul(0x85EB_CA6B);
        h = (h ^ (h >> 13)).wrapping_mul(0xC2B2_AE35);
        h ^ (h >> 16)
    };
    (0..count as u32).map(|index| (hash(index) % 129) as f32 / 64.0 - 1.0).collect()
}

/// A device with one module.
pub struct Rig {
    pub memory: Arc<DeviceMemory>,
    pub config: DeviceConfig,
    pub module: Module,
}

/// One kernel argument.
pub enum Arg {
    Pointer(u64),
    I32(i32),
    F32(f32),
    Bytes(Vec<u8>),
}

impl From<u64> for Arg {
    fn from(value: u64) -> Self {
        Arg::Pointer(value)
    }
}

impl From<i32> for Arg {
    fn from(value: i32) -> Self {
        Arg::I32(value)
    }
}

impl From<f32> for Arg {
    fn from(value: f32) -> Self {
        Arg::F32(value)
    }
}

impl Arg {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Arg::Pointer(value) => value.to_le_bytes().to_vec(),
            Arg::I32(value) => value.to_le_bytes().to_vec(),
            Arg::F32(value) => value.to_le_bytes().to_vec(),
            Arg::Bytes(bytes) => bytes.clone(),
        }
    }
}

/// Grid, block and dynamic shared memory.
pub type LaunchExtent = ([u32; 3], [u32; 3], u32);

pub fn line(grid: u32, block: u32) -> LaunchExtent {
    ([grid, 1, 1], [block, 1, 1], 0)
}

impl Rig {
    pub fn new(ptx: &str, seed: Option<u64>) -> Rig {
        // Small livelock limit: these kernels are short.
        let config =
            DeviceConfig { warp_order_seed: seed, spin_limit: 1 << 20, ..DeviceConfig::default() };
        Self::on(config, ptx)
    }

    /// The same on a device of capability 9.0.
    pub fn hopper(ptx: &str, seed: Option<u64>) -> Rig {
        let config = DeviceConfig {
            warp_order_seed: seed,
            capability: (9, 0),
            shared_per_block_optin: 227 << 10,
            ..DeviceConfig::default()
        };
        Self::on(config, ptx)
    }

    fn on(config: DeviceConfig, ptx: &str) -> Rig {
        let memory = Arc::new(DeviceMemory::new(config.total_memory));
        let module = Module::load(ptx, &memory, &config).unwrap_or_else(|error| panic!("{error}"));
        Rig { memory, config, module }
    }

    pub fn alloc(&self, bytes: usize) -> u64 {
        self.memory.alloc(bytes as u64, AllocationKind::Device).expect("enough memory")
    }

    pub fn upload<T: Plain>(&self, values: &[T]) -> u64 {
        let address = self.alloc(size_of_val(values));
        self.memory
            .copy_from_host(address, &T::bytes(values))
            .expect("a copy inside its allocation");
        address
    }

    pub fn download<T: Plain>(&self, address: u64, count: usize) -> Vec<T> {
        let mut bytes = vec![0; count * size_of::<T>()];
        self.memory.copy_to_host(&mut bytes, address).expect("a copy inside its allocation");
        T::values(&bytes)
    }

    pub fn run(
        &self,
        kernel: &str,
        (grid, block, dynamic_shared): LaunchExtent,
        args: &[Arg],
    ) -> Result<KernelCounters, Box<Fault>> {
        let kernel = self.module.kernel(kernel).unwrap_or_else(|| panic!("no kernel {kernel}"));
        assert_eq!(kernel.params.len(), args.len(), "{}: parameters", kernel.name);
        let mut params = vec![0; kernel.param_bytes as usize];
        for (param, arg) in kernel.params.iter().zip(args) {
            let bytes = arg.bytes();
            assert_eq!(bytes.len(), param.size as usize, "{}: {}", kernel.name, param.name);
            params[param.offset as usize..][..bytes.len()].copy_from_slice(&bytes);
        }
        launch(
            &kernel,
            &Launch { grid, block, dynamic_shared, params, dependent: false, workspace: 0 },
            &self.memory,
            &self.config,
        )
    }

    /// Runs a kernel that must pass every check.
    pub fn pass(&self, kernel: &str, shape: LaunchExtent, args: &[Arg]) -> KernelCounters {
        let seed = self.config.warp_order_seed;
        self.run(kernel, shape, args)
            .unwrap_or_else(|fault| panic!("{kernel} with seed {seed:?}: {fault}"))
    }
}

/// Numbers that travel to the device and back.
pub trait Plain: Sized + Copy {
    fn bytes(values: &[Self]) -> Vec<u8>;
    fn values(bytes: &[u8]) -> Vec<Self>;
}

macro_rules! plain {
    ($($type:ty)*) => {$(
        impl Plain for $type {
            fn bytes(values: &[Self]) -> Vec<u8> {
                values.iter().flat_map(|value| value.to_le_bytes()).collect()
            }

            fn values(bytes: &[u8]) -> Vec<Self> {
                let size = size_of::<$type>();
                bytes.chunks_exact(size).map(|chunk| <$type>::from_le_bytes(chunk.try_into().expect("a whole chunk"))).collect()
            }
        }
    )*};
}

plain!(u8 u16 i32 u32 i64 u64 f32 f64 half::f16 half::bf16);

/// Compares with a tolerance relative to the largest expected magnitude; NaN never passes.
pub fn close(what: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    let scale = expected.iter().fold(1e-30f64, |most, value| most.max(value.abs()));
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (got - expected).abs();
        assert!(
            error <= tolerance * scale,
            "{what}[{index}]: got {got}, expected {expected}, tolerance {tolerance}"
        );
    }
}

pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}
