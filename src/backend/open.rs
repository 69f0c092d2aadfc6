//! Chooses and opens a device.

use super::cpu::CpuBackend;
use super::cuda::device::Device;
use super::cuda::{CudaBackend, CudaOptions, HalfType};
use super::{Backend, WeightType};
use crate::settings::device::DeviceChoice;
use anyhow::Result;

/// How a device is opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    pub device: DeviceChoice,
    /// What has 16 bits on a GPU.
    pub half: HalfType,
    /// How it keeps frozen matrices.
    pub weights: WeightType,
}

/// Opens the chosen device.
///
/// # Errors
/// When a GPU was asked for by name and cannot be used.
pub fn open(options: OpenOptions) -> Result<Box<dyn Backend>> {
    let cuda = |index| -> Result<Box<dyn Backend>> {
        Ok(Box::new(CudaBackend::new(CudaOptions {
            weights: options.weights,
            ..CudaOptions::new(index, options.half)
        })?))
    };
    match options.device {
        DeviceChoice::Cuda(index) => cuda(index),
        DeviceChoice::Auto if gpu_is_there() => cuda(0),
        DeviceChoice::Auto | DeviceChoice::Cpu => Ok(Box::new(CpuBackend::new(options.weights))),
    }
}

/// Whether `auto` would choose a GPU.
pub fn gpu_is_there() -> bool {
    Device::open(0).is_ok()
}
