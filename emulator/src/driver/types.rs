//! The C types of the driver API, as wrappers that keep raw pointers in one place.
//!
//! Every exported function takes its pointers as [`Out`], [`In`], [`Text`] or [`TextOut`]. They have the layout of the
//! C pointer; dereferencing happens only here, after a null check, relying on the C caller's promise: a pointer that is
//! not null is valid for what the API's documentation says.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use super::error::{CudaResult, Error};

/// An opaque handle (`CUcontext`, `CUstream`, `CUevent`, `CUmodule` …): a number that is looked up, never followed, so
/// a stale or made-up handle is an error value and not a crash.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Handle(pub usize);

impl Handle {
    pub const NULL: Handle = Handle(0);
    /// `CU_STREAM_LEGACY`.
    pub const LEGACY: Handle = Handle(1);
    /// `CU_STREAM_PER_THREAD`.
    pub const PER_THREAD: Handle = Handle(2);

    pub fn is_null(self) -> bool {
        self.0 == 0
    }
}

/// `CUdeviceptr`.
pub type DevicePtr = u64;

/// A pointer that the function writes one value to.
#[repr(transparent)]
pub struct Out<T>(*mut T);

impl<T> Out<T> {
    pub const NULL: Out<T> = Out(std::ptr::null_mut());

    pub fn is_null(&self) -> bool {
        self.0.is_null()
    }

    /// Writes the value; a null pointer is `CUDA_ERROR_INVALID_VALUE`.
    pub fn set(&self, value: T) -> CudaResult {
        if self.0.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        // SAFETY: not null, and the caller of the C function promises that it is valid for a write. Unaligned
        // because C callers in other languages sometimes pass packed buffers.
        unsafe { self.0.write_unaligned(value) };
        Ok(())
    }

    /// Writes the value unless the pointer is null, for outputs that the API makes optional.
    pub fn set_optional(&self, value: T) {
        let _ = self.set(value);
    }

    /// Writes element `index` of an output array.
    pub fn set_at(&self, index: usize, value: T) -> CudaResult {
        Out(self.0.wrapping_add(index)).set(value)
    }
}

impl<T: Copy> Out<T> {
    /// Reads the value of an in-out argument.
    pub fn get(&self) -> CudaResult<T> {
        In(self.0.cast_const()).get()
    }
}

impl<T> From<&mut T> for Out<T> {
    fn from(place: &mut T) -> Self {
        Out(place)
    }
}

/// A pointer to one value that the function reads.
#[repr(transparent)]
pub struct In<T>(*const T);

impl<T: Copy> In<T> {
    pub fn get(&self) -> CudaResult<T> {
        self.at(0)
    }

    /// Element `index` of the array that the pointer starts.
    pub fn at(&self, index: usize) -> CudaResult<T> {
        if self.0.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        // SAFETY: not null, and the caller promises as many elements as the accompanying count says.
        Ok(unsafe { self.0.add(index).read_unaligned() })
    }

    pub fn list(&self, count: usize) -> CudaResult<Vec<T>> {
        (0..count).map(|index| self.at(index)).collect()
    }
}

impl<T> In<T> {
    pub const NULL: In<T> = In(std::ptr::null());

    pub fn is_null(&self) -> bool {
        self.0.is_null()
    }

    pub fn address(&self) -> usize {
        self.0 as usize
    }
}

impl<T> From<&T> for In<T> {
    fn from(place: &T) -> Self {
        In(place)
    }
}

impl<T> From<&[T]> for In<T> {
    fn from(list: &[T]) -> Self {
        In(list.as_ptr())
    }
}

/// A NUL-terminated string.
#[repr(transparent)]
pub struct Text(*const c_char);

impl Text {
    /// The bytes before the NUL.
    pub fn bytes(&self) -> CudaResult<&[u8]> {
        if self.0.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        // SAFETY: not null, and the caller promises a NUL-terminated string that outlives the call.
        Ok(unsafe { CStr::from_ptr(self.0) }.to_bytes())
    }

    pub fn text(&self) -> CudaResult<&str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Error::INVALID_VALUE)
    }
}

impl From<&CStr> for Text {
    fn from(text: &CStr) -> Self {
        Text(text.as_ptr())
    }
}

/// A character buffer that the function fills, truncated to its length and NUL-terminated.
#[repr(transparent)]
pub struct TextOut(*mut c_char);

impl TextOut {
    pub fn fill(&self, text: &str, length: c_int) -> CudaResult {
        let Ok(room @ 1..) = usize::try_from(length) else {
            return Err(Error::INVALID_VALUE);
        };
        if self.0.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        let kept = &text.as_bytes()[..text.len().min(room - 1)];
        // SAFETY: not null, and the caller promises `length` writable bytes; `kept` and its NUL fit.
        unsafe {
            std::ptr::copy_nonoverlapping(kept.as_ptr(), self.0.cast(), kept.len());
            self.0.add(kept.len()).write(0);
        }
        Ok(())
    }
}

impl From<&mut [c_char]> for TextOut {
    fn from(buffer: &mut [c_char]) -> Self {
        TextOut(buffer.as_mut_ptr())
    }
}

/// Host memory named by address: kept as a number because a copy may run long after the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostAddress(pub usize);

impl HostAddress {
    /// The bytes at the address.
    ///
    /// # Safety
    /// `length` bytes must be readable, and not written while the slice lives.
    pub unsafe fn bytes<'a>(self, length: usize) -> &'a [u8] {
        if length == 0 {
            return &[];
        }
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(self.0 as *const u8, length) }
    }

    /// The bytes at the address, to be written.
    ///
    /// # Safety
    /// `length` bytes must be writable, and not otherwise used while the slice lives.
    pub unsafe fn bytes_mut<'a>(self, length: usize) -> &'a mut [u8] {
        if length == 0 {
            return &mut [];
        }
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0 as *mut u8, length) }
    }
}

/// `CUhostFn`.
pub type HostFn = Option<unsafe extern "C" fn(*mut c_void)>;
/// `CUstreamCallback`.
pub type StreamCallback = Option<unsafe extern "C" fn(Handle, c_int, *mut c_void)>;
/// `CUoccupancyB2DSize`.
pub type BlockToShared = Option<unsafe extern "C" fn(c_int) -> usize>;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Uuid(pub [u8; 16]);

/// `CUdevprop`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DeviceProperties {
    pub max_threads_per_block: c_int,
    pub max_threads_dim: [c_int; 3],
    pub max_grid_size: [c_int; 3],
    pub shared_mem_per_block: c_int,
    pub total_constant_memory: c_int,
    pub simd_width: c_int,
    pub mem_pitch: c_int,
    pub regs_per_block: c_int,
    pub clock_rate: c_int,
    pub texture_align: c_int,
}

/// `CUDA_MEMCPY2D_v2`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Memcpy2D {
    pub src_x: usize,
    pub src_y: usize,
    pub src_type: c_uint,
    pub src_host: usize,
    pub src_device: DevicePtr,
    pub src_array: Handle,
    pub src_pitch: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_type: c_uint,
    pub dst_host: usize,
    pub dst_device: DevicePtr,
    pub dst_array: Handle,
    pub dst_pitch: usize,
    pub width: usize,
    pub height: usize,
}

/// `CUDA_MEMCPY3D_v2`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Memcpy3D {
    pub src_x: usize,
    pub src_y: usize,
    pub src_z: usize,
    pub src_lod: usize,
    pub src_type: c_uint,
    pub src_host: usize,
    pub src_device: DevicePtr,
    pub src_array: Handle,
    pub src_reserved: usize,
    pub src_pitch: usize,
    pub src_height: usize,
    pub dst_x: usize,
    pub dst_y: usize,
    pub dst_z: usize,
    pub dst_lod: usize,
    pub dst_type: c_uint,
    pub dst_host: usize,
    pub dst_device: DevicePtr,
    pub dst_array: Handle,
    pub dst_reserved: usize,
    pub dst_pitch: usize,
    pub dst_height: usize,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
}

/// `CUlaunchConfig`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct LaunchConfig {
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
    pub shared: c_uint,
    pub stream: Handle,
    pub attributes: usize,
    pub attribute_count: c_uint,
}

/// `CUlaunchAttribute`: the identifier and 64 bytes of value.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct LaunchAttribute {
    pub id: c_uint,
    pub pad: [u8; 4],
    pub value: [u32; 16],
}

/// `CUDA_KERNEL_NODE_PARAMS_v2` (its first ten fields are version 1).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct KernelNodeParams {
    pub function: Handle,
    pub grid: [c_uint; 3],
    pub block: [c_uint; 3],
    pub shared: c_uint,
    pub params: usize,
    pub extra: usize,
    pub kernel: Handle,
    pub context: Handle,
}

/// `CUDA_MEMSET_NODE_PARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MemsetNodeParams {
    pub dst: DevicePtr,
    pub pitch: usize,
    pub value: c_uint,
    pub element_size: c_uint,
    pub width: usize,
    pub height: usize,
}

/// `CUDA_HOST_NODE_PARAMS`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct HostNodeParams {
    pub function: HostFn,
    pub data: usize,
}

/// `CUgraphExecUpdateResultInfo`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ExecUpdateInfo {
    pub result: c_int,
    pub error_node: Handle,
    pub error_from: Handle,
}

/// `CUmemLocation`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MemLocation {
    pub kind: c_int,
    pub id: c_int,
}

impl Out<u8> {
    /// A place to write bytes to, for outputs whose type depends on another argument.
    pub fn at_address(address: usize) -> Out<u8> {
        Out(address as *mut u8)
    }

    pub fn set_bytes(&self, bytes: &[u8]) -> CudaResult {
        bytes.iter().enumerate().try_for_each(|(index, byte)| self.set_at(index, *byte))
    }
}

impl<T> Out<T> {
    /// The same pointer with another pointee, for outputs whose type depends on another argument.
    pub fn cast<U>(other: &Out<U>) -> Out<T> {
        Out(other.0.cast())
    }
}

impl<T> In<T> {
    /// The place at an address that came in another structure.
    pub fn at_address(address: usize) -> In<T> {
        In(address as *const T)
    }
}

impl<T> Out<T> {
    pub fn address(&self) -> usize {
        self.0 as usize
    }
}
