//! A device and kernels for these tests.

use crate::{
    AllocationKind, DeviceConfig, DeviceMemory, Fault, KernelCounters, Launch, Module, launch,
};
use std::sync::Arc;

pub const HEAD: &str = ".version 8.0\n.target sm_80\n.address_size 64\n";

pub struct Device {
    pub memory: Arc<DeviceMemory>,
    pub config: DeviceConfig,
}

impl Device {
    pub fn new() -> Self {
        let config = DeviceConfig { workers: 2, spin_limit: 1 << 18, ..DeviceConfig::default() };
        Self { memory: Arc::new(DeviceMemory::new(1 << 30)), config }
    }

    pub fn upload<T: Copy>(&self, data: &[T]) -> u64 {
        let bytes = std::mem::size_of_val(data);
        let address = self.memory.alloc(bytes as u64, AllocationKind::Device).unwrap();
        // SAFETY: plain numbers seen as bytes.
        let raw = unsafe { std::slice::from_raw_parts(data.as_ptr().cast::<u8>(), bytes) };
        self.memory.copy_from_host(address, raw).unwrap();
        address
    }

    pub fn empty(&self, bytes: u64) -> u64 {
        self.memory.alloc(bytes, AllocationKind::Device).unwrap()
    }

    pub fn words(&self, address: u64, n: usize) -> Vec<u32> {
        let mut raw = vec![0; n * 4];
        self.memory.copy_to_host(&mut raw, address).unwrap();
        raw.chunks(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
    }

    pub fn floats(&self, address: u64, n: usize) -> Vec<f32> {
        self.words(address, n).into_iter().map(f32::from_bits).collect()
    }

    /// Runs the module's only kernel with 64-bit parameters.
    pub fn run(
        &self,
        body: &str,
        grid: u32,
        block: u32,
        params: &[u64],
    ) -> Result<KernelCounters, Box<Fault>> {
        self.run_shared(body, grid, block, 0, params)
    }

    pub fn run_shared(
        &self,
        body: &str,
        grid: u32,
        block: u32,
        dynamic_shared: u32,
        params: &[u64],
    ) -> Result<KernelCounters, Box<Fault>> {
        let text = format!("{HEAD}{body}");
        let module =
            Module::load(&text, &self.memory, &self.config).unwrap_or_else(|e| panic!("{e}"));
        let kernel = module.kernels().next().unwrap().clone();
        let params = params.iter().flat_map(|p| p.to_le_bytes()).collect();
        let launch_ = Launch {
            grid: [grid, 1, 1],
            block: [block, 1, 1],
            dynamic_shared,
            params,
            dependent: false,
            workspace: 0,
        };
        launch(&kernel, &launch_, &self.memory, &self.config)
    }
}

/// A kernel of `n` 64-bit parameters, loaded into %a0, %a1, …, with some registers declared.
pub fn kernel(n: usize, shared: &str, body: &str) -> String {
    let params: Vec<String> = (0..n).map(|i| format!(".param .u64 p{i}")).collect();
    let loads: String = (0..n).map(|i| format!("ld.param.u64 %a{i}, [p{i}];\n")).collect();
    format!(
        "{shared}\n.visible .entry k({})\n{{\n.reg .pred %p<20>; .reg .b16 %h<20>; .reg .b32 %r<60>; .reg .f32 %f<60>;\n\
         .reg .b64 %a<10>; .reg .b64 %d<60>;\n{loads}{body}\n}}\n",
        params.join(", ")
    )
}

pub const VECTOR_ADD: &str = "
mov.u32 %r1, %ctaid.x; mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x;
mad.lo.s32 %r4, %r1, %r2, %r3;
cvt.u32.u64 %r5, %a3;
setp.ge.s32 %p1, %r4, %r5;
@%p1 bra $done;
mul.wide.s32 %d1, %r4, 4;
add.s64 %d2, %a0, %d1; add.s64 %d3, %a1, %d1; add.s64 %d4, %a2, %d1;
ld.global.f32 %f1, [%d2]; ld.global.f32 %f2, [%d3];
add.f32 %f3, %f1, %f2;
st.global.f32 [%d4], %f3;
$done:
ret;";
