//! The backend that the command line asked for: one type, so that the commands are written once.

use super::cpu::CpuBackend;
use super::cuda::device::Device;
use super::cuda::{CudaBackend, CudaOptions, HalfType};
use super::weight_gradients::*;
use super::*;
use crate::settings::device::DeviceChoice;

/// One of the backends.
pub enum AnyBackend {
    Cpu(Box<CpuBackend>),
    Cuda(Box<CudaBackend>),
}

impl AnyBackend {
    /// Opens the chosen device, which keeps its matrices as `weights`; what has 16 bits on a GPU is `half`.
    ///
    /// # Errors
    /// When a GPU was asked for by name and cannot be used.
    pub fn open(choice: DeviceChoice, half: HalfType, weights: WeightType) -> Result<Self> {
        let cuda = |index| -> Result<Self> {
            let backend = CudaBackend::new(CudaOptions {
                weights,
                ..CudaOptions::new(index, half)
            })?;
            Ok(Self::Cuda(Box::new(backend)))
        };
        match choice {
            DeviceChoice::Cuda(index) => cuda(index),
            DeviceChoice::Auto if Self::gpu_is_there() => cuda(0),
            DeviceChoice::Auto | DeviceChoice::Cpu => {
                Ok(Self::Cpu(Box::new(CpuBackend::new(weights))))
            }
        }
    }

    /// Whether `auto` would choose a GPU.
    pub fn gpu_is_there() -> bool {
        Device::open(0).is_ok()
    }

    /// What its memory depends on.
    pub fn kind(&self) -> DeviceKind {
        match self {
            Self::Cpu(backend) => DeviceKind::Cpu {
                weights: backend.weight_type(),
                threads: rayon::current_num_threads(),
            },
            Self::Cuda(backend) => DeviceKind::Cuda {
                weights: backend.weight_type(),
            },
        }
    }

    /// For people: `CPU`, or the GPU's name, capability and precision.
    pub fn describe(&self) -> String {
        match self {
            Self::Cpu(_) => "CPU".into(),
            Self::Cuda(backend) => {
                let info = backend.info();
                format!(
                    "cuda:{} ({}, compute capability {}.{}, {})",
                    info.index,
                    info.name,
                    info.capability.0,
                    info.capability.1,
                    backend.half()
                )
            }
        }
    }
}

/// Hands a call to the backend that is there.
macro_rules! forward {
    ($(fn $name:ident(&mut self $(, $argument:ident: $kind:ty)*) -> $output:ty;)*) => {$(
        fn $name(&mut self $(, $argument: $kind)*) -> $output {
            match self {
                Self::Cpu(backend) => backend.$name($($argument),*),
                Self::Cuda(backend) => backend.$name($($argument),*),
            }
        }
    )*};
    ($(fn $name:ident(&self $(, $argument:ident: $kind:ty)*) -> $output:ty;)*) => {$(
        fn $name(&self $(, $argument: $kind)*) -> $output {
            match self {
                Self::Cpu(backend) => backend.$name($($argument),*),
                Self::Cuda(backend) => backend.$name($($argument),*),
            }
        }
    )*};
}

impl Backend for AnyBackend {
    forward! {
        fn activation_bytes(&self) -> usize;
        fn allocated(&self) -> Footprint;
        fn read_params(&self, slot: Slot, range: ParamRange) -> Result<Vec<f32>>;
        fn read_activations(&self, region: Region, len: usize) -> Result<Vec<f32>>;
        fn read_f32(&self, region: Region, len: usize) -> Result<Vec<f32>>;
        fn loss_scaling(&self) -> Result<Option<LossScaling>>;
    }
    forward! {
        fn upload(&mut self, name: &str, shape: MatrixShape, data: &[f32]) -> Result<WeightId>;
        fn view_rows(&mut self, of: WeightId, rows: Range<usize>) -> Result<WeightId>;
        fn allocate(&mut self, memory: Memory) -> Result<()>;
        fn set_batch(&mut self, batch: &Batch, key: DropoutKey) -> Result<()>;
        fn write_params(&mut self, slot: Slot, range: ParamRange, values: &[f32]) -> Result<()>;
        fn write_activations(&mut self, region: Region, values: &[f32]) -> Result<()>;
        fn write_f32(&mut self, region: Region, values: &[f32]) -> Result<()>;
        fn embed_forward(&mut self, op: EmbedForward) -> Result<()>;
        fn linear_forward(&mut self, op: LinearForward<'_>) -> Result<()>;
        fn linear_backward(&mut self, op: LinearBackward) -> Result<()>;
        fn attention_forward(&mut self, op: AttentionForward) -> Result<()>;
        fn attention_backward(&mut self, op: AttentionBackward) -> Result<()>;
        fn residual_norm_forward(&mut self, op: ResidualNormForward) -> Result<()>;
        fn residual_norm_backward(&mut self, op: ResidualNormBackward) -> Result<()>;
        fn norm_restore(&mut self, op: NormRestore) -> Result<()>;
        fn bias_grad(&mut self, op: BiasGrad) -> Result<()>;
        fn gather_first(&mut self, op: FirstTokens) -> Result<()>;
        fn add_first(&mut self, op: FirstTokens) -> Result<()>;
        fn first_attention_forward(&mut self, op: FirstAttentionForward) -> Result<()>;
        fn first_attention_backward(&mut self, op: FirstAttentionBackward) -> Result<()>;
        fn pool_forward(&mut self, op: Pool) -> Result<()>;
        fn pool_backward(&mut self, op: Pool) -> Result<()>;
        fn dense_forward(&mut self, op: Dense) -> Result<()>;
        fn dense_backward(&mut self, op: DenseBackward) -> Result<()>;
        fn loss(&mut self, op: Loss) -> Result<()>;
        fn zero_gradients(&mut self) -> Result<()>;
        fn adamw(&mut self, op: AdamW) -> Result<()>;
        fn step_report(&mut self) -> Result<StepReport>;
        fn report_later(&mut self) -> Result<PendingReport>;
        fn wait_report(&mut self, pending: PendingReport) -> Result<StepReport>;
        fn set_loss_scaling(&mut self, scaling: LossScaling) -> Result<()>;
        fn begin_section(&mut self, section: Section) -> Result<bool>;
        fn end_section(&mut self, whole: bool) -> Result<()>;
    }
}

impl WeightGradients for AnyBackend {
    forward! {
        fn trained_matrix(&mut self, name: &str, rows: usize, cols: usize, range: ParamRange) -> Result<WeightId>;
        fn weight_grad(&mut self, op: WeightGrad) -> Result<()>;
        fn gain_grad(&mut self, op: GainGrad) -> Result<()>;
        fn embed_backward(&mut self, op: EmbedBackward) -> Result<()>;
    }
}
