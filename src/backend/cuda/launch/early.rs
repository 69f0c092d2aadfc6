//! Launches that may begin before the previous kernel has ended (programmatic dependent launch): a block's setup then
//! costs no time between the two. cudarc's launches cannot express this.

use cudarc::driver::sys::{
    self, CUlaunchAttribute, CUlaunchAttributeID, CUlaunchAttributeValue, CUlaunchConfig,
};
use cudarc::driver::{CudaFunction, CudaStream, DeviceRepr, DriverError, LaunchConfig};

/// From this driver version on (12.3), a recorded graph keeps the permission.
pub const SINCE_DRIVER: u32 = 12_030;

/// Launches a kernel with its one argument structure.
///
/// # Safety
/// The argument must be what the kernel declares, and the kernel must wait for the one before it
/// (`griddepcontrol.wait`) before it touches what others write.
///
/// # Errors
/// As the driver.
pub unsafe fn launch<A: DeviceRepr>(
    stream: &CudaStream,
    function: &CudaFunction,
    LaunchConfig { grid_dim, block_dim, shared_mem_bytes }: LaunchConfig,
    args: &A,
) -> Result<(), DriverError> {
    let mut attribute = CUlaunchAttribute {
        id: CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
        pad: [0; 4],
        value: CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
    };
    let config = CUlaunchConfig {
        gridDimX: grid_dim.0,
        gridDimY: grid_dim.1,
        gridDimZ: grid_dim.2,
        blockDimX: block_dim.0,
        blockDimY: block_dim.1,
        blockDimZ: block_dim.2,
        sharedMemBytes: shared_mem_bytes,
        hStream: stream.cu_stream(),
        attrs: &mut attribute,
        numAttrs: 1,
    };
    let mut params = [std::ptr::from_ref(args).cast_mut().cast()];
    stream.context().bind_to_thread()?;
    // SAFETY: the caller's promise; configuration, attribute and argument outlive the call, which copies them.
    unsafe {
        sys::cuLaunchKernelEx(
            &config,
            function.cu_function(),
            params.as_mut_ptr(),
            std::ptr::null_mut(),
        )
    }
    .result()
}
