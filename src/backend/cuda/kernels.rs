//! The table of kernels: which source file has which. All are loaded and looked up when the device is opened, so that a
//! missing one is an error at startup and not in the middle of a run.

use super::HalfType;
use super::args::{
    ATTENTION_STEP, ATTENTION_STEP_WIDE, ATTENTION_WARPS, FORWARD_ROWS, FORWARD_ROWS_WIDE, Format,
    SHORT_ELEMENTS, SHORT_KEYS,
};
use super::device::{Device, driver_version, older_than_kernels};
use super::images::{self, Image};
use super::launch::early::SINCE_DRIVER;
use super::stopwatch::Stopwatch;
use super::tiles::GemmTile;
use crate::backend::WeightType;
use crate::variables;
use anyhow::{Context, Result, anyhow, bail};
use cudarc::driver::sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
use cudarc::driver::{CudaFunction, CudaModule};
use cudarc::nvrtc::Ptx;
use std::collections::HashMap;
use std::sync::Arc;

const ONE: &[&str] = &[""];
/// Tile sizes for the gradient of a matrix.
const SQUARE_TILES: &[&str] = &["_large", "_small"];
/// 256-column parts of a row.
const PARTS: &[&str] = &["_1", "_2", "_3", "_4"];
/// Padded head dimensions.
const DIMS: &[&str] = &["_32", "_64", "_128"];

/// The source files except those of products with frozen matrices, their kernels, and the suffixes that each kernel
/// comes with.
const UNITS: &[(&str, &[&str], &[&str])] = &[
    ("norm", &["norm_forward", "norm_backward", "norm_restore"], PARTS),
    ("embed", &["embed_forward", "embed_forward_int8"], PARTS),
    ("bias_grad", &["column_partial", "column_finish"], ONE),
    ("attention_fwd", &["attention_forward"], DIMS),
    ("attention_bwd", &["attention_backward_q", "attention_backward_kv"], DIMS),
    ("attention_bwd_short", &["attention_backward_short"], DIMS),
    ("first_token", &["gather_first", "add_first"], ONE),
    ("first_token", &["first_attention_forward", "first_attention_backward"], DIMS),
    (
        "head",
        &[
            "pool_forward",
            "pool_backward",
            "dense_forward",
            "dense_forward_quantised",
            "dense_backward_bias",
            "dense_backward",
            "dense_backward_quantised",
            "loss",
            "loss_tokens",
            "loss_spans",
            "loss_labelled",
            "loss_labelled_sum",
        ],
        ONE,
    ),
    (
        "wide_dense",
        &["wide_forward", "wide_forward_quantised", "wide_backward", "wide_backward_quantised"],
        ONE,
    ),
    ("classify", &["classify"], PARTS),
    ("act_norm", &["act_norm", "act_norm_backward"], PARTS),
    ("adamw", &["grad_norm", "adamw"], ONE),
    ("columns", &["take_columns", "add_columns"], ONE),
    ("sparse", &["sparse_add", "sparse_grad", "sparse_set", "sparse_take"], ONE),
    ("activate", &["activate_forward", "activate_backward"], ONE),
    ("scale", &["scale_forward", "scale_backward"], ONE),
    ("weight_grad", &["weight_grad"], SQUARE_TILES),
    ("weight_grad", &["refresh"], ONE),
    ("embed_grad", &["embed_backward", "embed_backward_int8"], PARTS),
    ("embed_grad", &["table_grad"], ONE),
];

/// Head dimensions that have their own kernels; others use the next larger.
pub const HEAD_DIMS: [usize; 3] = [32, 64, 128];

/// The kernels of attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionKind {
    Forward,
    /// dq and delta.
    BackwardQ,
    /// dk and dv.
    BackwardKv,
    /// All three at once, for batches without sequences longer than [`SHORT_KEYS`].
    BackwardShort,
}

impl AttentionKind {
    pub const ALL: [Self; 4] =
        [Self::Forward, Self::BackwardQ, Self::BackwardKv, Self::BackwardShort];

    /// Name of the kernel for a padded head dimension.
    pub fn kernel(self, dim: usize) -> String {
        let name = match self {
            Self::Forward => "attention_forward",
            Self::BackwardQ => "attention_backward_q",
            Self::BackwardKv => "attention_backward_kv",
            Self::BackwardShort => "attention_backward_short",
        };
        format!("{name}_{dim}")
    }

    /// Rows per warp for a padded head dimension.
    fn warp_rows(self, dim: usize) -> usize {
        match self {
            Self::Forward if dim == 128 => FORWARD_ROWS_WIDE,
            Self::Forward => FORWARD_ROWS,
            Self::BackwardQ | Self::BackwardKv | Self::BackwardShort => 16,
        }
    }

    /// Warps per block for sequences up to `max_len`.
    pub fn warps(self, dim: usize, max_len: usize) -> usize {
        let of_longest = max_len.div_ceil(self.warp_rows(dim));
        match self {
            Self::Forward => of_longest.min(ATTENTION_WARPS),
            Self::BackwardQ | Self::BackwardKv => ATTENTION_WARPS,
            Self::BackwardShort => of_longest,
        }
    }

    /// Rows of a block with this many warps.
    pub fn rows(self, dim: usize, warps: usize) -> usize {
        warps * self.warp_rows(dim)
    }

    /// Bytes of shared memory of a block with `warps` warps: its own tiles (queries; in backward also the gradient of
    /// the output, or keys and values) and two stages of two tiles. For k and v add lse and delta of two stages; for
    /// the short kernel dS, the partial sums of delta, and column sums of dq.
    pub fn shared(self, dim: usize, warps: usize) -> usize {
        let (half, float) = (size_of::<u16>(), size_of::<f32>());
        let (rows, step) = (self.rows(dim, warps), self.step_rows(dim));
        let (own, rest) = match self {
            Self::Forward => (rows, 0),
            Self::BackwardQ => (2 * rows, 0),
            Self::BackwardKv => (2 * rows, 4 * step * float),
            Self::BackwardShort => {
                let columns = step / 16 * dim;
                (2 * rows, rows * step * half + (warps * step + columns) * float)
            }
        };
        (own + 4 * step) * dim * half + rest
    }

    /// The maximum of [`AttentionKind::shared`].
    pub fn most_shared(self, dim: usize) -> usize {
        self.shared(dim, self.warps(dim, SHORT_KEYS))
    }

    /// Rows of the tiles that a block iterates over (`kStep`).
    fn step_rows(self, dim: usize) -> usize {
        match self {
            Self::BackwardShort => SHORT_ELEMENTS / dim,
            _ if dim == 128 => ATTENTION_STEP_WIDE,
            _ => ATTENTION_STEP,
        }
    }
}

/// Which kernels multiply by frozen matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Products {
    /// `gemm…`, on any device.
    Portable,
    /// `hopper_gemm…`, only on compute capability 9.0.
    Hopper,
}

impl Products {
    /// The fastest that a device has, or as set by `BITFIT_KERNELS`: `portable` ignores kernels for a single
    /// architecture, so that the two can be compared on one device.
    ///
    /// # Errors
    /// A [`UsageError`](crate::error::UsageError) if the variable has another value.
    fn of(capability: (u32, u32)) -> Result<Self> {
        let told = variables::chosen("BITFIT_KERNELS", &[("portable", Self::Portable)])?;
        Ok(told.unwrap_or(if capability == (9, 0) { Self::Hopper } else { Self::Portable }))
    }

    /// The source file for matrices of a format, and the prefix of its kernels' names.
    fn unit(self, format: Format) -> String {
        match self {
            Self::Portable => format.products().to_owned(),
            Self::Hopper => format!("hopper_{}", format.products()),
        }
    }

    /// The tiles available for matrices of a format.
    pub fn tiles(self, format: Format) -> &'static [GemmTile] {
        match (self, format) {
            (Self::Portable, _) => &GemmTile::PORTABLE,
            (Self::Hopper, Format::Half) => &GemmTile::RING,
            (Self::Hopper, Format::Int8 | Format::Nf4) => &GemmTile::RING_OF_CODES,
        }
    }

    /// The kernels for frozen matrices of a type, and for matrices that train, which are in 16 bits.
    fn kernels(self, weights: WeightType) -> Vec<ProductKernel> {
        let mut formats = vec![Format::of_products(weights), Format::Half];
        formats.dedup();
        let mut kernels = Vec::new();
        for format in formats {
            for kind in GemmKind::ALL {
                kernels.extend(self.tiles(format).iter().map(|&tile| ProductKernel {
                    unit: self.unit(format),
                    name: format!("{}_{}", kind.kernel(self, format), tile.name()),
                    tile,
                }));
            }
        }
        kernels
    }
}

/// A kernel that multiplies with a matrix in one format.
struct ProductKernel {
    /// Its source file.
    unit: String,
    name: String,
    tile: GemmTile,
}

/// Which product a linear layer's kernel computes, and what it does to the result.
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

impl GemmKind {
    const ALL: [Self; 5] =
        [Self::Bias, Self::Activation, Self::Back, Self::BackAdd, Self::BackSlope];

    /// The name of its kernels for matrices of a format, without the tile's name.
    pub fn kernel(self, products: Products, format: Format) -> String {
        let kind = match self {
            Self::Bias => "bias",
            Self::Activation => "activation",
            Self::Back => "back",
            Self::BackAdd => "back_add",
            Self::BackSlope => "back_slope",
        };
        format!("{}_{kind}", products.unit(format))
    }

    /// Whether the matrix is read along its rows.
    pub fn transposed(self) -> bool {
        !matches!(self, Self::Bias | Self::Activation)
    }
}

/// Every kernel of one half type, ready to launch on one device.
#[derive(Debug)]
pub struct Kernels {
    pub device: Device,
    pub half: HalfType,
    pub products: Products,
    /// Whether a launch may begin before the previous one has ended.
    pub begin_early: bool,
    functions: HashMap<String, CudaFunction>,
    pub stopwatch: Stopwatch,
}

impl Drop for Kernels {
    fn drop(&mut self) {
        // Their code must not be unloaded while a kernel still runs.
        self.device.settle();
    }
}

impl Kernels {
    /// Loads the images that matrices of this type need and looks up every kernel in them.
    ///
    /// # Errors
    /// If an image is missing or the driver refuses it, with the name of the file or kernel.
    pub fn load(device: &Device, half: HalfType, weights: WeightType) -> Result<Self> {
        let products = Products::of(device.info.capability)?;
        let of_products = products.kernels(weights);
        let names = of_products.iter().map(|kernel| (kernel.unit.clone(), kernel.name.clone()));
        let mut table: Vec<(String, String)> = names.collect();
        for (unit, kernels, endings) in UNITS {
            for kernel in *kernels {
                table.extend(
                    endings.iter().map(|end| ((*unit).to_owned(), format!("{kernel}{end}"))),
                );
            }
        }
        let mut modules: HashMap<String, Arc<CudaModule>> = HashMap::new();
        let mut functions = HashMap::new();
        for (unit, name) in table {
            let module = match modules.get(&unit) {
                Some(module) => Arc::clone(module),
                None => load_unit(device, &unit, half)?,
            };
            let function = module
                .load_function(&name)
                .with_context(|| format!("kernel {name} is missing from {unit}.cu ({half})"))?;
            // A driver loads code on first use. Querying it counts as use, and comes before any recording, during which
            // loading may be refused.
            function
                .num_regs()
                .with_context(|| format!("cannot load kernel {name} of {unit}.cu ({half})"))?;
            functions.insert(name, function);
            modules.insert(unit, module);
        }
        let (device, stopwatch) = (device.clone(), Stopwatch::default());
        let begin_early = driver_version()? >= SINCE_DRIVER;
        let kernels = Self { device, half, products, begin_early, functions, stopwatch };
        kernels.allow_shared_memory(&of_products)?;
        Ok(kernels)
    }

    /// More than 48 KiB of dynamic shared memory must be requested once.
    fn allow_shared_memory(&self, of_products: &[ProductKernel]) -> Result<()> {
        let attention = HEAD_DIMS.into_iter().flat_map(|dim| {
            AttentionKind::ALL.map(|kind| (kind.kernel(dim), kind.most_shared(dim)))
        });
        let products = of_products.iter().map(|kernel| (kernel.name.clone(), kernel.tile.shared()));
        for (kernel, bytes) in attention.chain(products) {
            if bytes <= 48 * 1024 {
                continue;
            }
            let most = CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            self.function(&kernel)?.set_attribute(most, i32::try_from(bytes)?).with_context(|| {
                format!(
                    "kernel {kernel} needs {bytes} bytes of shared memory per block, the device has {}",
                    self.device.info.shared_memory
                )
            })?;
        }
        Ok(())
    }

    pub fn function(&self, name: &str) -> Result<&CudaFunction> {
        self.functions
            .get(name)
            .ok_or_else(|| anyhow!("kernel {name} is not in the table of kernels"))
    }
}

/// Loads the best image of a unit that the driver accepts.
fn load_unit(device: &Device, unit: &str, half: HalfType) -> Result<Arc<CudaModule>> {
    let mut candidates = images::candidates(images::IMAGES, unit, half, device.info.capability);
    if images::ptx_alone()? {
        candidates.retain(|image| image.arch.is_none());
    }
    let mut refused = None;
    for image in candidates {
        let kind = image.arch.map_or_else(|| "PTX".into(), |arch| format!("sm_{arch}"));
        match load_image(device, image) {
            Ok(module) => return Ok(module),
            Err(error) => {
                refused = Some(error.context(format!("cannot load {unit}.cu ({half}, {kind})")));
            }
        }
    }
    match refused {
        Some(error) => Err(match older_than_kernels() {
            Some(advice) => error.context(advice),
            None => error,
        }),
        None => bail!(
            "{unit}.cu ({half}) was not built for compute capability {}.{} (built: {})",
            device.info.capability.0,
            device.info.capability.1,
            images::summary()
        ),
    }
}

fn load_image(device: &Device, image: &Image) -> Result<Arc<CudaModule>> {
    let code = image.code().context("the image is damaged")?;
    let code = match image.arch {
        Some(_) => Ptx::from_binary(code),
        None => Ptx::from_src(String::from_utf8(code)?),
    };
    Ok(device.stream.context().load_module(code)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_memory_stays_below_what_every_supported_device_has() {
        for dim in HEAD_DIMS {
            for kind in AttentionKind::ALL {
                let bytes = kind.most_shared(dim);
                assert!(bytes <= 99 * 1024, "{kind:?} {dim}: {bytes}");
            }
        }
    }
}
