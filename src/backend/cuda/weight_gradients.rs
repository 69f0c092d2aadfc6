//! Full fine-tuning on a GPU.

use super::CudaBackend;
use crate::backend::weight_gradients::{EmbedBackward, GainGrad, WeightGrad, WeightGradients};
use crate::backend::{ParamRange, WeightId};
use anyhow::{Result, bail};

const CPU_ONLY: &str = "--method full runs on the CPU: use --device cpu";

impl WeightGradients for CudaBackend {
    fn trained_matrix(&mut self, _: &str, _: usize, _: usize, _: ParamRange) -> Result<WeightId> {
        bail!(CPU_ONLY)
    }

    fn weight_grad(&mut self, _: WeightGrad) -> Result<()> {
        bail!(CPU_ONLY)
    }

    fn gain_grad(&mut self, _: GainGrad) -> Result<()> {
        bail!(CPU_ONLY)
    }

    fn embed_backward(&mut self, _: EmbedBackward) -> Result<()> {
        bail!(CPU_ONLY)
    }
}
