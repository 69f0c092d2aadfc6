//! A device of capability 9.0, and kernels that begin by filling shared memory from an image.

use crate::hardware;
use emulator::tensor_map::TensorMap;
use emulator::{AllocationKind, DeviceConfig, DeviceMemory, Fault, Launch, Module, launch};
use std::sync::Arc;

pub struct Hopper {
    pub memory: Arc<DeviceMemory>,
    pub config: DeviceConfig,
    /// Launches may begin before the previous one has ended.
    pub dependent: bool,
}

/// The seeds of the adversarial warp orders; `None` is the plain order.
pub fn seeds() -> impl Iterator<Item = Option<u64>> {
    std::iter::once(None).chain((1..=20).map(Some))
}

pub const HEAD: &str = ".version 8.6\n.target sm_90a\n.address_size 64\n";

impl Hopper {
    pub fn new() -> Self {
        let config = DeviceConfig {
            capability: (9, 0),
            workers: 1,
            shared_per_block_optin: 227 << 10,
            ..DeviceConfig::default()
        };
        Self { memory: Arc::new(DeviceMemory::new(1 << 30)), config, dependent: false }
    }

    pub fn seeded(seed: Option<u64>) -> Self {
        let mut hopper = Self::new();
        hopper.config.warp_order_seed = seed;
        hopper
    }

    pub fn alloc(&self, bytes: usize) -> u64 {
        if hardware::wanted() {
            return hardware::alloc(bytes);
        }
        self.memory.alloc(bytes.max(16) as u64, AllocationKind::Device).expect("enough memory")
    }

    pub fn upload(&self, bytes: &[u8]) -> u64 {
        let at = self.alloc(bytes.len());
        if hardware::wanted() {
            hardware::upload(at, bytes);
            return at;
        }
        self.memory.copy_from_host(at, bytes).expect("a copy inside its allocation");
        at
    }

    pub fn bytes(&self, at: u64, count: usize) -> Vec<u8> {
        if hardware::wanted() {
            return hardware::bytes(at, count);
        }
        let mut out = vec![0; count];
        self.memory.copy_to_host(&mut out, at).expect("a copy inside its allocation");
        out
    }

    pub fn words(&self, at: u64, count: usize) -> Vec<u32> {
        let bytes = self.bytes(at, 4 * count);
        bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    pub fn load(&self, text: &str) -> Result<Module, emulator::LoadError> {
        if let Some(dir) = std::env::var_os("EMULATOR_TEST_PTX_DIR") {
            use std::hash::{DefaultHasher, Hash, Hasher};
            let mut hasher = DefaultHasher::new();
            text.hash(&mut hasher);
            let name = format!("hopper_{:016x}.ptx", hasher.finish());
            std::fs::write(std::path::Path::new(&dir).join(name), text).expect("cannot write PTX");
        }
        Module::load(text, &self.memory, &self.config)
    }

    /// Runs kernel `k` of `text`.
    pub fn run(
        &self,
        text: &str,
        (blocks, threads, dynamic_shared): (u32, u32, u32),
        params: &[Param],
    ) -> Result<(), Box<Fault>> {
        if hardware::wanted() {
            hardware::run(text, (blocks, threads, dynamic_shared), params);
            return Ok(());
        }
        let module = self.load(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let kernel = module.kernel("k").expect("a kernel");
        assert_eq!(kernel.params.len(), params.len());
        let mut block = vec![0; kernel.param_bytes as usize];
        for (place, param) in kernel.params.iter().zip(params) {
            let bytes = match param {
                Param::Pointer(at) => at.to_le_bytes().to_vec(),
                Param::Map(map) => map.encode().to_vec(),
            };
            assert_eq!(bytes.len(), place.size as usize, "{}", place.name);
            block[place.offset as usize..][..bytes.len()].copy_from_slice(&bytes);
        }
        let what = Launch {
            grid: [blocks, 1, 1],
            block: [threads, 1, 1],
            dynamic_shared,
            params: block,
            dependent: self.dependent,
            workspace: 0,
        };
        launch(&kernel, &what, &self.memory, &self.config).map(drop)
    }
}

pub enum Param {
    Pointer(u64),
    Map(TensorMap),
}

/// Copies `bytes` bytes from global `%in` to the start of dynamic shared memory `smem`, sixteen per thread, and makes
/// them visible to asynchronous reads.
pub fn fill(bytes: usize, threads: u32) -> String {
    format!(
        "mov.u32 %i, %tid.x;\nshl.b32 %i, %i, 4;\nFILL:\nsetp.ge.u32 %p, %i, {bytes};\n@%p bra FILLED;\n\
         cvt.u64.u32 %w, %i;\nadd.u64 %w, %in, %w;\nmov.u32 %s, smem;\nadd.u32 %s, %s, %i;\n\
         ld.global.v4.b32 {{%x0, %x1, %x2, %x3}}, [%w];\nst.shared.v4.b32 [%s], {{%x0, %x1, %x2, %x3}};\n\
         add.u32 %i, %i, {};\nbra FILL;\nFILLED:\nfence.proxy.async;\nbar.sync 0;\n",
        16 * threads
    )
}

pub const REGISTERS: &str = ".reg .b32 %i, %j, %n, %s, %t, %x0, %x1, %x2, %x3, %tid0, %smem;\n.reg .b64 %w, %v, %in, %out, %map, %desc, %token;\n.reg .pred %p, %q, %leader;\n";

/// A kernel `k(in, out)` with dynamic shared memory `smem` and mbarriers `bar`.
pub fn kernel(threads: u32, outside: &str, registers: &str, body: &str) -> String {
    format!(
        "{HEAD}{outside}\n.extern .shared .align 1024 .b8 smem[];\n\
         .visible .entry k(.param .u64 p_in, .param .u64 p_out)\n.maxntid {threads}\n.minnctapersm 1\n{{\n{REGISTERS}{registers}\n\
         .shared .align 8 .b64 bar[8];\n\
         ld.param.u64 %in, [p_in];\nld.param.u64 %out, [p_out];\nmov.u32 %tid0, %tid.x;\nmov.u32 %smem, smem;\n{body}\nret;\n}}\n"
    )
}

/// A map of `rows` × `width` elements in f16, swizzled over 128 bytes.
pub fn map_of_halves(address: u64, width: usize, rows: usize, box_dims: [u32; 2]) -> TensorMap {
    TensorMap {
        address,
        element: 6,
        rank: 2,
        dims: [width as u64, rows as u64, 1, 1, 1],
        strides: [2 * width as u64, 0, 0, 0],
        box_dims: [box_dims[0], box_dims[1], 1, 1, 1],
        steps: [1; 5],
        interleave: 0,
        swizzle: 3,
        fill_nan: false,
    }
}
