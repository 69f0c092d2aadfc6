//! Tensors as Hopper's copy engine sees them: a map says where a tensor's rows are, and the size and layout of the
//! boxes that a kernel copies from it. Kernels get maps by value, so a recorded launch keeps its own.

use super::HalfType;
use super::args::{RING_DEPTH, RING_ROWS};
use super::memory::Address;
use anyhow::{Context, Result};
use bytemuck::Zeroable;
use cudarc::driver::sys::{self, CUtensorMapDataType as Element, CUtensorMapSwizzle as Swizzle};

/// The driver's encoding of a description. We declare it ourselves, as cudarc's has the alignment of one CUDA release.
#[derive(Clone, Copy, Debug, Zeroable)]
#[repr(C, align(64))]
pub struct TensorMap([u64; 16]);

/// Rows that a tensor may have if only the device knows their number.
const MOST_ROWS: u64 = 1 << 30;

impl TensorMap {
    /// The map of no tensor, for a kernel that does not read it.
    pub fn none() -> Self {
        Self::zeroed()
    }

    /// The left operand of a product: `[rows, k]`, where only the kernel knows the number of rows. It has three
    /// dimensions of rows, the last with a negative pitch: kernels/hopper.cuh explains how they address a row.
    ///
    /// # Errors
    /// What the driver refuses: an address or a row that is not a multiple of 16 bytes.
    pub fn left(half: HalfType, x: Address, k: usize) -> Result<Self> {
        let pitch = (k * size_of::<u16>()) as u64;
        // 2³⁰ times this plus 2³⁰ pitches is 2⁶⁴, which wraps to 0.
        let back = (1 << 34) - pitch;
        let most = 0x7fff_0000;
        let boxed = [RING_DEPTH as u32, RING_ROWS as u32, 1, 1];
        encode(half, x, &[k as u64, MOST_ROWS, most, most], &[pitch, pitch, back], &boxed, 128)
            .context("the left operand of a product")
    }

    /// A matrix `[rows, columns]`, copied in boxes of `[box_rows, box_columns]`.
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

/// `sizes` start with the innermost dimension; `pitches` are in bytes and omit it; the rows of a box are `span` bytes.
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
    // SAFETY: the map is 128 bytes at a multiple of 64, as every driver release requires; the arrays have as many
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
