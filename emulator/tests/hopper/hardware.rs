//! The same one-instruction kernels on the machine's own driver, with `EMULATOR_TEST_CUDA=1`: the emulator's results
//! count only if hardware gives the same. For `scripts/gpu-check`, which names the tests that expect no fault.

use crate::child;
use crate::device::Param;
use cudarc::driver::result;
use cudarc::driver::sys;
use cudarc::driver::{CudaContext, CudaStream};
use emulator::tensor_map::TensorMap;
use std::ffi::{CString, c_void};
use std::mem::transmute;
use std::sync::{Arc, OnceLock};

/// The driver's structure, at the alignment of every release.
#[repr(C, align(128))]
struct DriverMap([u64; 16]);

/// Whether tests run on the machine's driver.
pub fn wanted() -> bool {
    std::env::var_os("EMULATOR_TEST_CUDA").is_some()
}

fn stream() -> &'static Arc<CudaStream> {
    static STREAM: OnceLock<Arc<CudaStream>> = OnceLock::new();
    let stream = STREAM.get_or_init(|| {
        let context = CudaContext::new(0).expect("a device");
        let capability = context.compute_capability().expect("a capability");
        assert_eq!(capability, (9, 0), "these kernels are for compute capability 9.0");
        context.new_stream().expect("a stream")
    });
    stream.context().bind_to_thread().expect("a context");
    stream
}

/// Memory that stays until the process ends.
pub fn alloc(bytes: usize) -> u64 {
    stream();
    // SAFETY: a context is current; nothing frees the memory.
    unsafe { result::malloc_sync(bytes.max(16)) }.expect("enough memory")
}

pub fn upload(at: u64, bytes: &[u8]) {
    stream();
    // SAFETY: the test has allocated as many bytes at `at`.
    unsafe { result::memcpy_htod_sync(at, bytes) }.expect("a copy");
}

pub fn bytes(at: u64, count: usize) -> Vec<u8> {
    stream();
    let mut out = vec![0u8; count];
    // SAFETY: as for `upload`.
    unsafe { result::memcpy_dtoh_sync(&mut out, at) }.expect("a copy");
    out
}

/// Runs kernel `k`, and waits for it.
pub fn run(text: &str, (blocks, threads, shared): (u32, u32, u32), params: &[Param]) {
    let stream = stream();
    let text = CString::new(text).expect("no zero in it");
    // SAFETY: the text ends with a zero; the module stays loaded.
    let module = unsafe { result::module::load_data(text.as_ptr().cast()) }
        .unwrap_or_else(|error| panic!("{error:?}\n{}", text.to_string_lossy()));
    // SAFETY: the module is loaded.
    let kernel =
        unsafe { result::module::get_function(module, CString::new("k").expect("a name")) }
            .expect("a kernel");
    let most = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    // SAFETY: the function is one of a loaded module.
    unsafe { result::function::set_function_attribute(kernel, most, shared as i32) }
        .expect("as much shared memory");
    enum Argument {
        Pointer(u64),
        Map(Box<DriverMap>),
    }
    let mut arguments: Vec<Argument> = params
        .iter()
        .map(|param| match param {
            Param::Pointer(at) => Argument::Pointer(*at),
            Param::Map(map) => Argument::Map(Box::new(encode(map))),
        })
        .collect();
    let mut places: Vec<*mut c_void> = arguments
        .iter_mut()
        .map(|argument| match argument {
            Argument::Pointer(at) => std::ptr::from_mut(at).cast(),
            Argument::Map(map) => std::ptr::from_mut(&mut **map).cast(),
        })
        .collect();
    // SAFETY: the test has written the kernel and its parameters to fit each other; they outlive the call.
    unsafe {
        result::launch_kernel(
            kernel,
            (blocks, 1, 1),
            (threads, 1, 1),
            shared,
            stream.cu_stream(),
            &mut places,
        )
    }
    .expect("a launch");
    stream.synchronize().expect("no fault");
}

fn encode(map: &TensorMap) -> DriverMap {
    let mut out = DriverMap([0; 16]);
    // SAFETY: the arrays have at least as many elements as the rank. The numbers are the driver's, and name variants.
    unsafe {
        sys::cuTensorMapEncodeTiled(
            std::ptr::from_mut(&mut out).cast(),
            transmute::<u32, sys::CUtensorMapDataType>(map.element.into()),
            map.rank as u32,
            map.address as *mut c_void,
            map.dims.as_ptr(),
            map.strides.as_ptr(),
            map.box_dims.as_ptr(),
            map.steps.as_ptr(),
            transmute::<u32, sys::CUtensorMapInterleave>(map.interleave.into()),
            transmute::<u32, sys::CUtensorMapSwizzle>(map.swizzle.into()),
            sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_NONE,
            transmute::<u32, sys::CUtensorMapFloatOOBfill>(map.fill_nan.into()),
        )
    }
    .result()
    .expect("a map that the driver takes");
    out
}

/// The emulator's own driver stands in for hardware: this checks that the tests reach it.
#[test]
fn single_instructions_run_on_a_driver() {
    if wanted() {
        return;
    }
    let folder = child::library_folder("single_instructions");
    let environment = [
        ("EMULATOR_TEST_CUDA", "1".as_ref()),
        ("CUDA_EMULATOR_CAPABILITY", "9.0".as_ref()),
        ("LD_LIBRARY_PATH", folder.as_os_str()),
    ];
    for test in ["products::every_width", "copies::a_ragged_tensor", "mbarriers::parities"] {
        let mut command = std::process::Command::new(std::env::current_exe().expect("a path"));
        command.args([test, "--test-threads=1"]).envs(environment);
        let (output, said) = child::run(&mut command);
        assert!(output.status.success() && said.contains("1 passed"), "{test}: {said}");
    }
}
