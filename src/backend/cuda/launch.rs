//! All launches, one typed function a kernel: grid, block and shared memory are decided here and nowhere else.
//!
//! Every kernel is looked up when the device is opened, so a missing one is an error at start and not in the
//! middle of a run.

use super::HalfType;
use super::args::*;
use super::device::Device;
use super::images::{self, Image};
use anyhow::{Context, Result, anyhow, bail};
use cudarc::driver::sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
use cudarc::driver::{CudaFunction, CudaModule, DeviceRepr, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;
use std::collections::HashMap;
use std::sync::Arc;

/// Rows of a LayerNorm or column-sum block's partial sums (`kTileRows`).
pub const ROW_TILE: usize = 32;
/// Rows of an attention block (`kAttentionRows`).
pub const ATTENTION_TILE: usize = 64;
/// Elements of one partial sum of the gradient norm (`kChunk`).
pub const NORM_CHUNK: usize = 4096;
/// Columns that one warp of a row-wise kernel covers.
const PART: usize = 256;
/// Widest row that stays in a warp's registers.
pub const WIDEST_NORM: usize = 4 * PART;
/// Head dimensions with kernels of their own; others use the next larger.
const HEAD_DIMS: [usize; 3] = [32, 64, 128];

/// Which source file holds which kernels.
const UNITS: &[(&str, &[&str])] = &[
    (
        "gemm",
        &[
            "gemm_bias_large",
            "gemm_bias_small",
            "gemm_activation_large",
            "gemm_activation_small",
            "gemm_back_large",
            "gemm_back_small",
            "gemm_back_add_large",
            "gemm_back_add_small",
            "gemm_back_slope_large",
            "gemm_back_slope_small",
        ],
    ),
    (
        "norm",
        &[
            "norm_forward_1",
            "norm_forward_2",
            "norm_forward_3",
            "norm_forward_4",
            "norm_backward_1",
            "norm_backward_2",
            "norm_backward_3",
            "norm_backward_4",
            "norm_restore",
        ],
    ),
    (
        "embed",
        &[
            "embed_forward_1",
            "embed_forward_2",
            "embed_forward_3",
            "embed_forward_4",
        ],
    ),
    ("bias_grad", &["column_partial", "column_finish"]),
    (
        "attention_fwd",
        &[
            "attention_forward_32",
            "attention_forward_64",
            "attention_forward_128",
        ],
    ),
    (
        "attention_bwd",
        &[
            "attention_backward_q_32",
            "attention_backward_q_64",
            "attention_backward_q_128",
            "attention_backward_kv_32",
            "attention_backward_kv_64",
            "attention_backward_kv_128",
        ],
    ),
    (
        "head",
        &[
            "pool_forward",
            "pool_backward",
            "dense_forward",
            "dense_backward_bias",
            "dense_backward_weight",
            "dense_backward_input",
            "loss",
        ],
    ),
    ("adamw", &["grad_norm_partial", "step_decision", "adamw"]),
];

/// Which product a linear layer's kernel makes, and what it does to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GemmKind {
    /// `x·Wᵀ + bias`
    Bias,
    /// `act(x·Wᵀ + bias)`
    Activation,
    /// `x·W`
    Back,
    /// `out + x·W`
    BackAdd,
    /// `(x·W) ⊙ act′`
    BackSlope,
}

/// Tile of `out` that one block computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GemmTile {
    /// 128 × 128: fastest where it fills the device.
    Large,
    /// 64 × 64: four times the blocks.
    Small,
}

impl GemmTile {
    /// Rows and columns.
    pub fn side(self) -> usize {
        match self {
            Self::Large => 128,
            Self::Small => 64,
        }
    }

    /// The tile that should finish first on a device with `multiprocessors`, by counting waves: a large tile is
    /// four small ones of work, and a small one runs at about two thirds of its speed.
    pub fn choose(rows: usize, columns: usize, multiprocessors: usize) -> Self {
        let waves = |tile: Self| {
            let blocks = rows.div_ceil(tile.side()) * columns.div_ceil(tile.side());
            blocks.div_ceil(multiprocessors.max(1))
        };
        if waves(Self::Large) * 4 * 2 <= waves(Self::Small) * 3 {
            Self::Large
        } else {
            Self::Small
        }
    }
}

/// Every kernel of one half type, ready to launch on one device.
#[derive(Debug)]
pub struct Kernels {
    device: Device,
    functions: HashMap<&'static str, CudaFunction>,
}

impl Kernels {
    /// Loads the images and finds every kernel in them.
    ///
    /// # Errors
    /// When an image is missing or the driver refuses it, with the name of the file or kernel.
    pub fn load(device: &Device, half: HalfType) -> Result<Self> {
        let mut functions = HashMap::new();
        for &(unit, names) in UNITS {
            let module = load_unit(device, unit, half)?;
            for &name in names {
                let function = module
                    .load_function(name)
                    .with_context(|| format!("kernel {name} is missing from {unit}.cu ({half})"))?;
                functions.insert(name, function);
            }
        }
        let kernels = Self {
            device: device.clone(),
            functions,
        };
        kernels.allow_shared_memory()?;
        Ok(kernels)
    }

    /// More than 48 KiB of dynamic shared memory must be asked for once.
    fn allow_shared_memory(&self) -> Result<()> {
        for dim in HEAD_DIMS {
            for (kernel, bytes) in [
                (
                    attention_name("attention_forward", dim),
                    forward_shared(dim),
                ),
                (
                    attention_name("attention_backward_q", dim),
                    query_shared(dim),
                ),
                (
                    attention_name("attention_backward_kv", dim),
                    key_value_shared(dim),
                ),
            ] {
                if bytes <= 48 * 1024 {
                    continue;
                }
                self.function(kernel)?
                    .set_attribute(
                        CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
                        i32::try_from(bytes)?,
                    )
                    .with_context(|| {
                        format!(
                            "kernel {kernel} needs {bytes} bytes of shared memory a block, the device has {}",
                            self.device.info.shared_memory
                        )
                    })?;
            }
        }
        Ok(())
    }

    fn function(&self, name: &'static str) -> Result<&CudaFunction> {
        self.functions
            .get(name)
            .ok_or_else(|| anyhow!("kernel {name} is not in the table of kernels"))
    }

    /// Launches `name` with its one argument structure.
    ///
    /// # Safety
    /// `args` must be the structure that the kernel declares, its addresses must hold what the kernel reads and
    /// writes for the current batch, and block and shared memory must be what the kernel was written for.
    unsafe fn launch<A: DeviceRepr>(
        &self,
        name: &'static str,
        grid: [usize; 3],
        threads: u32,
        shared: usize,
        args: &A,
    ) -> Result<()> {
        let failed = || format!("kernel {name}, grid {grid:?}, {threads} threads");
        let side = |i: usize| u32::try_from(grid[i]).with_context(failed);
        let config = LaunchConfig {
            grid_dim: (side(0)?, side(1)?, side(2)?),
            block_dim: (threads, 1, 1),
            shared_mem_bytes: u32::try_from(shared)?,
        };
        if grid.contains(&0) {
            return Ok(());
        }
        let function = self.function(name)?;
        // SAFETY: the caller's promise; the argument outlives the call, which copies it.
        unsafe {
            self.device
                .stream
                .launch_builder(function)
                .arg(args)
                .launch(config)
        }
        .with_context(failed)?;
        Ok(())
    }

    pub fn gemm(&self, kind: GemmKind, tile: GemmTile, rows: usize, args: GemmArgs) -> Result<()> {
        let name = match (kind, tile) {
            (GemmKind::Bias, GemmTile::Large) => "gemm_bias_large",
            (GemmKind::Bias, GemmTile::Small) => "gemm_bias_small",
            (GemmKind::Activation, GemmTile::Large) => "gemm_activation_large",
            (GemmKind::Activation, GemmTile::Small) => "gemm_activation_small",
            (GemmKind::Back, GemmTile::Large) => "gemm_back_large",
            (GemmKind::Back, GemmTile::Small) => "gemm_back_small",
            (GemmKind::BackAdd, GemmTile::Large) => "gemm_back_add_large",
            (GemmKind::BackAdd, GemmTile::Small) => "gemm_back_add_small",
            (GemmKind::BackSlope, GemmTile::Large) => "gemm_back_slope_large",
            (GemmKind::BackSlope, GemmTile::Small) => "gemm_back_slope_small",
        };
        let side = tile.side();
        let grid = [(args.n as usize).div_ceil(side), rows.div_ceil(side), 1];
        // Three stages of a 32-wide tile of both operands.
        let shared = 3 * 2 * side * 32 * 2;
        // SAFETY: the argument is a gemm kernel's, built by `mod.rs` from regions of the sizes it names.
        unsafe { self.launch(name, grid, 128, shared, &args) }
    }

    pub fn norm_forward(&self, tokens: usize, args: NormForwardArgs) -> Result<()> {
        let name = by_parts(
            args.width,
            [
                "norm_forward_1",
                "norm_forward_2",
                "norm_forward_3",
                "norm_forward_4",
            ],
        )?;
        // SAFETY: as for `gemm`; one warp a token, four a block.
        unsafe { self.launch(name, [tokens.div_ceil(4), 1, 1], 128, 0, &args) }
    }

    pub fn norm_backward(&self, tokens: usize, args: NormBackwardArgs) -> Result<()> {
        let name = by_parts(
            args.width,
            [
                "norm_backward_1",
                "norm_backward_2",
                "norm_backward_3",
                "norm_backward_4",
            ],
        )?;
        // SAFETY: as for `gemm`; a block has ROW_TILE rows.
        unsafe { self.launch(name, [tokens.div_ceil(ROW_TILE), 1, 1], 128, 0, &args) }
    }

    pub fn norm_restore(&self, tokens: usize, args: NormRestoreArgs) -> Result<()> {
        let grid = [(tokens * args.width as usize).div_ceil(8 * 256), 1, 1];
        // SAFETY: as for `gemm`; eight elements a thread, 256 threads a block.
        unsafe { self.launch("norm_restore", grid, 256, 0, &args) }
    }

    pub fn embed_forward(&self, tokens: usize, args: EmbedArgs) -> Result<()> {
        let name = by_parts(
            args.width,
            [
                "embed_forward_1",
                "embed_forward_2",
                "embed_forward_3",
                "embed_forward_4",
            ],
        )?;
        // SAFETY: as for `gemm`; one warp a token, four a block.
        unsafe { self.launch(name, [tokens.div_ceil(4), 1, 1], 128, 0, &args) }
    }

    pub fn column_partial(&self, tokens: usize, args: ColumnPartialArgs) -> Result<()> {
        let grid = [
            (args.width as usize).div_ceil(PART),
            tokens.div_ceil(ROW_TILE),
            1,
        ];
        // SAFETY: as for `gemm`.
        unsafe { self.launch("column_partial", grid, 128, 0, &args) }
    }

    /// Finishes the first `sums` column sums of `args`.
    pub fn column_finish(&self, sums: usize, args: ColumnFinishArgs) -> Result<()> {
        let grid = [(args.width as usize).div_ceil(32), sums, 1];
        // SAFETY: as for `gemm`; 32 columns × 8 groups of rows a block.
        unsafe { self.launch("column_finish", grid, 256, 0, &args) }
    }

    pub fn attention_forward(
        &self,
        max_len: usize,
        sequences: usize,
        args: AttentionArgs,
    ) -> Result<()> {
        let dim = padded_head(args.head_dim)?;
        let name = attention_name("attention_forward", dim);
        let grid = [
            max_len.div_ceil(ATTENTION_TILE),
            args.heads as usize,
            sequences,
        ];
        // SAFETY: as for `gemm`; the shared memory is that of the kernel's tiles.
        unsafe { self.launch(name, grid, 128, forward_shared(dim), &args) }
    }

    /// dq and delta; before [`Kernels::attention_backward_kv`].
    pub fn attention_backward_q(
        &self,
        max_len: usize,
        sequences: usize,
        args: AttentionArgs,
    ) -> Result<()> {
        let dim = padded_head(args.head_dim)?;
        let name = attention_name("attention_backward_q", dim);
        let grid = [
            max_len.div_ceil(ATTENTION_TILE),
            args.heads as usize,
            sequences,
        ];
        // SAFETY: as for `attention_forward`.
        unsafe { self.launch(name, grid, 128, query_shared(dim), &args) }
    }

    pub fn attention_backward_kv(
        &self,
        max_len: usize,
        sequences: usize,
        args: AttentionArgs,
    ) -> Result<()> {
        let dim = padded_head(args.head_dim)?;
        let name = attention_name("attention_backward_kv", dim);
        let grid = [
            max_len.div_ceil(ATTENTION_TILE),
            args.heads as usize,
            sequences,
        ];
        // SAFETY: as for `attention_forward`.
        unsafe { self.launch(name, grid, 128, key_value_shared(dim), &args) }
    }

    pub fn pool_forward(&self, sequences: usize, args: PoolArgs) -> Result<()> {
        let grid = [(args.width as usize).div_ceil(PART), sequences, 1];
        // SAFETY: as for `gemm`.
        unsafe { self.launch("pool_forward", grid, 256, 0, &args) }
    }

    pub fn pool_backward(&self, tokens: usize, args: PoolArgs) -> Result<()> {
        let grid = [(args.width as usize).div_ceil(PART), tokens.div_ceil(8), 1];
        // SAFETY: as for `gemm`.
        unsafe { self.launch("pool_backward", grid, 256, 0, &args) }
    }

    pub fn dense_forward(&self, sequences: usize, args: DenseArgs) -> Result<()> {
        let grid = [
            (args.outputs as usize).div_ceil(4),
            sequences.div_ceil(8),
            1,
        ];
        // SAFETY: as for `gemm`.
        unsafe { self.launch("dense_forward", grid, 128, 0, &args) }
    }

    pub fn dense_backward_bias(&self, args: DenseArgs) -> Result<()> {
        let grid = [(args.outputs as usize).div_ceil(128), 1, 1];
        // SAFETY: as for `gemm`.
        unsafe { self.launch("dense_backward_bias", grid, 128, 0, &args) }
    }

    pub fn dense_backward_weight(&self, args: DenseArgs) -> Result<()> {
        let grid = [
            (args.inputs as usize).div_ceil(512),
            args.outputs as usize,
            1,
        ];
        // SAFETY: as for `gemm`.
        unsafe { self.launch("dense_backward_weight", grid, 128, 0, &args) }
    }

    pub fn dense_backward_input(&self, sequences: usize, args: DenseArgs) -> Result<()> {
        let grid = [(args.inputs as usize).div_ceil(128), sequences, 1];
        // SAFETY: as for `gemm`.
        unsafe { self.launch("dense_backward_input", grid, 128, 0, &args) }
    }

    pub fn loss(&self, args: LossArgs) -> Result<()> {
        // SAFETY: as for `gemm`; one block.
        unsafe { self.launch("loss", [1, 1, 1], 256, 0, &args) }
    }

    pub fn grad_norm_partial(&self, args: NormPartialArgs) -> Result<()> {
        let chunks = usize::try_from(args.count)?.div_ceil(NORM_CHUNK);
        // SAFETY: as for `gemm`.
        unsafe { self.launch("grad_norm_partial", [chunks, 1, 1], 256, 0, &args) }
    }

    pub fn step_decision(&self, args: StepDecisionArgs) -> Result<()> {
        // SAFETY: as for `gemm`; one block.
        unsafe { self.launch("step_decision", [1, 1, 1], 256, 0, &args) }
    }

    pub fn adamw(&self, args: AdamWArgs) -> Result<()> {
        let blocks = usize::try_from(args.count)?.div_ceil(256);
        // SAFETY: as for `gemm`; a thread an element.
        unsafe { self.launch("adamw", [blocks, 1, 1], 256, 0, &args) }
    }
}

/// Loads the best image of a unit that the driver takes.
fn load_unit(device: &Device, unit: &str, half: HalfType) -> Result<Arc<CudaModule>> {
    let candidates = images::candidates(images::IMAGES, unit, half, device.info.capability);
    let mut refused = None;
    for image in candidates {
        let kind = image
            .arch
            .map_or_else(|| "PTX".into(), |arch| format!("sm_{arch}"));
        match load_image(device, image) {
            Ok(module) => return Ok(module),
            Err(error) => {
                refused = Some(error.context(format!("cannot load {unit}.cu ({half}, {kind})")));
            }
        }
    }
    match refused {
        Some(error) => Err(error),
        None => bail!(
            "no image of {unit}.cu ({half}) for compute capability {}.{} is built in (there are: {})",
            device.info.capability.0,
            device.info.capability.1,
            images::summary()
        ),
    }
}

fn load_image(device: &Device, image: &Image) -> Result<Arc<CudaModule>> {
    let code = match image.arch {
        Some(_) => Ptx::from_binary(image.bytes.to_vec()),
        None => Ptx::from_src(std::str::from_utf8(image.bytes)?),
    };
    Ok(device.stream.context().load_module(code)?)
}

/// The kernel whose rows have enough 256-column parts.
fn by_parts(width: u32, names: [&'static str; 4]) -> Result<&'static str> {
    let parts = (width as usize).div_ceil(PART);
    match names.get(parts.wrapping_sub(1)) {
        Some(name) => Ok(name),
        None => bail!("a hidden size of {width}: the CUDA kernels take 8 to {WIDEST_NORM}"),
    }
}

fn padded_head(head_dim: u32) -> Result<usize> {
    HEAD_DIMS
        .into_iter()
        .find(|&dim| head_dim as usize <= dim)
        .ok_or_else(|| anyhow!("a head dimension of {head_dim}: the CUDA kernels take up to 128"))
}

fn attention_name(kind: &str, dim: usize) -> &'static str {
    match (kind, dim) {
        ("attention_forward", 32) => "attention_forward_32",
        ("attention_forward", 64) => "attention_forward_64",
        ("attention_forward", _) => "attention_forward_128",
        ("attention_backward_q", 32) => "attention_backward_q_32",
        ("attention_backward_q", 64) => "attention_backward_q_64",
        ("attention_backward_q", _) => "attention_backward_q_128",
        (_, 32) => "attention_backward_kv_32",
        (_, 64) => "attention_backward_kv_64",
        (_, _) => "attention_backward_kv_128",
    }
}

/// Rows of the tiles that an attention block walks over (`Head::kStep`).
fn step_rows(dim: usize) -> usize {
    if dim == 128 { 32 } else { 64 }
}

/// Two stages of two tiles, and one tile of queries.
fn forward_shared(dim: usize) -> usize {
    (ATTENTION_TILE + 4 * step_rows(dim)) * dim * 2
}

/// The same, and the gradient of the output.
fn query_shared(dim: usize) -> usize {
    (2 * ATTENTION_TILE + 4 * step_rows(dim)) * dim * 2
}

/// The same, and lse and delta of two stages.
fn key_value_shared(dim: usize) -> usize {
    query_shared(dim) + 4 * step_rows(dim) * size_of::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_products_get_large_tiles_and_small_ones_small() {
        // BERT-base, 32 × 128 tokens, on an A100.
        assert_eq!(GemmTile::choose(4096, 3072, 108), GemmTile::Large);
        // One short sequence.
        assert_eq!(GemmTile::choose(16, 384, 108), GemmTile::Small);
    }

    #[test]
    fn shared_memory_stays_below_what_every_supported_device_has() {
        for dim in HEAD_DIMS {
            for bytes in [
                forward_shared(dim),
                query_shared(dim),
                key_value_shared(dim),
            ] {
                assert!(bytes <= 99 * 1024, "{dim}: {bytes}");
            }
        }
    }

    #[test]
    fn sizes_without_a_kernel_are_refused_with_the_limits() {
        assert_eq!(padded_head(8).unwrap(), 32);
        assert_eq!(padded_head(48).unwrap(), 64);
        assert!(padded_head(136).unwrap_err().to_string().contains("136"));
        let names = ["a", "b", "c", "d"];
        assert_eq!(by_parts(8, names).unwrap(), "a");
        assert_eq!(by_parts(768, names).unwrap(), "c");
        assert_eq!(by_parts(1024, names).unwrap(), "d");
        assert!(by_parts(1032, names).is_err());
        assert!(by_parts(0, names).is_err());
    }
}
