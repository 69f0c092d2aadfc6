//! Tensors as Hopper's copy engine sees them: a map says where the rows of a tensor are, and how large and in what order
//! the boxes are that a kernel copies of it. Kernels get maps by value, so a recorded launch keeps its own.

use super::HalfType;
use super::args::{RING_DEPTH, RING_ROWS};
use super::memory::Address;
use anyhow::{Context, Result};
use bytemuck::Zeroable;
use cudarc::driver::sys::{self, CUtensorMapDataType as Element, CUtensorMapSwizzle as Swizzle};

/// What the driver made of a description. Our own structure, as cudarc's has the alignment of one release of CUDA alone.
#[derive(Clone, Copy, Debug, Zeroable)]
#[repr(C, align(64))]
pub struct TensorMap([u64; 16]);

/// Rows that a tensor may have whose rows only the device knows.
const MOST_ROWS: u64 = 1 << 30;

impl TensorMap {
    /// That of no tensor, for a kernel that does not look at it.
    pub fn none() -> Self {
        Self::zeroed()
    }

    /// The left operand of a product: `[rows, k]`, where the kernel knows how many rows there are. It has three dimensions of
    /// rows, the last with a negative pitch: kernels/hopper.cuh says how a row is named by them.
    ///
    /// # Errors
    /// What the driver refuses: an address or a row that is no multiple of 16 bytes.
    pub fn left(half: HalfType, x: Address, k: usize) -> Result<Self> {
        let pitch = (k * size_of::<u16>()) as u64;
        // 2³⁰ times this and 2³⁰ pitches are 2⁶⁴, which is nothing.
        let back = (1 << 34) - pitch;
        let most = 0x7fff_0000;
        let boxed = [RING_DEPTH as u32, RING_ROWS as u32, 1, 1];
        encode(half, x, &[k as u64, MOST_ROWS, most, most], &[pitch, pitch, back], &boxed, 128)
            .context("the left operand of a product")
    }

    /// A matrix `[rows, columns]`, of which boxes `[box_rows, box_columns]` are copied.
    ///
    /// # Errors
    /// As [`TensorMap::left`].
    pub fn matrix(
        half: HalfType,
        matrix: Address,
        [rows, columns]: [usize; 2],
        [box_rows, box_columns]: [usize; 2],
    ) -> Result<Self> {
        let sizes = [columns as u64, rows as u64];
        let pitch = (columns * size_of::<u16>()) as u64;
        let boxed = [u32::try_from(box_columns)?, u32::try_from(box_rows)?];
        encode(half, matrix, &sizes, &[pitch], &boxed, box_columns * size_of::<u16>())
            .context("the matrix of a product")
    }
}

/// `sizes` from the innermost dimension on, `pitches` in bytes of all but it; the rows of a box are `span` bytes.
fn encode<const N: usize, const M: usize>(
    half: HalfType,
    at: Address,
    sizes: &[u64; N],
    pitches: &[u64; M],
    boxed: &[u32; N],
    span: usize,
) -> Result<TensorMap> {
    const { assert!(N == M + 1 && N <= 5, "a pitch for each dimension but the first") }
    let element = match half {
        HalfType::F16 => Element::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        HalfType::Bf16 => Element::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
    };
    let swizzle = match span {
        128 => Swizzle::CU_TENSOR_MAP_SWIZZLE_128B,
        64 => Swizzle::CU_TENSOR_MAP_SWIZZLE_64B,
        _ => anyhow::bail!("boxes {span} bytes wide: kernels read 64 or 128"),
    };
    let mut map = TensorMap::none();
    let each = [1u32; N];
    // SAFETY: the map is 128 bytes at a multiple of 64, as the driver wants it whatever its release; the arrays have as many
    // elements as the call says; the address is not followed here.
    unsafe {
        sys::cuTensorMapEncodeTiled(
            std::ptr::from_mut(&mut map).cast(),
            element,
            N as u32,
            at.bits() as *mut std::ffi::c_void,
            sizes.as_ptr(),
            pitches.as_ptr(),
            boxed.as_ptr(),
            each.as_ptr(),
            sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            swizzle,
            sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
            sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    }
    .result()
    .with_context(|| {
        format!("the driver makes no tensor map of {sizes:?} with pitches {pitches:?}")
    })?;
    Ok(map)
}
