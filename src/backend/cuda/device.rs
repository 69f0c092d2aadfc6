//! Finding and opening a GPU, with a separate error for each way that can fail.

use super::images;
use anyhow::{Context, Result, anyhow, bail, ensure};
use cudarc::driver::result;
use cudarc::driver::sys::{self, CUdevice_attribute as Attribute, CUresult};
use cudarc::driver::{CudaContext, CudaStream, DriverError};
use std::sync::{Arc, OnceLock};

/// The kernels need `cp.async`, `mma.m16n8k16` and bf16.
pub const LOWEST_CAPABILITY: (u32, u32) = (8, 0);

/// An open GPU: one context, and one stream that orders everything except what overlaps it (`pinned`, `branch`).
#[derive(Clone, Debug)]
pub struct Device {
    pub stream: Arc<CudaStream>,
    pub info: DeviceInfo,
}

/// What is known about a GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    pub index: usize,
    pub name: String,
    pub capability: (u32, u32),
    pub multiprocessors: u32,
    /// Bytes.
    pub total_memory: usize,
    /// Bytes, when queried.
    pub free_memory: usize,
    /// Largest dynamic shared memory of a block, in bytes.
    pub shared_memory: u32,
}

/// What `bitfit doctor` says about CUDA.
#[derive(Clone, Debug)]
pub struct DeviceReport {
    /// Kernels in this binary: `PTX, sm_80, …` or `none`.
    pub images: String,
    /// CUDA release of the compiler that built them.
    pub toolkit: Option<&'static str>,
    /// CUDA version that the driver supports, e.g. `13.0`, or why there is none.
    pub driver: std::result::Result<String, String>,
    /// Each device, or why it cannot be used.
    pub devices: Vec<std::result::Result<DeviceInfo, String>>,
}

/// Examines everything without failing.
pub fn report() -> DeviceReport {
    let (driver, devices) = match connect() {
        Err(error) => (Err(crate::error::one_line(&error)), Vec::new()),
        Ok(Driver { version, devices }) => (
            Ok(version_name(version)),
            (0..devices)
                .map(|i| {
                    let usable = |device: Device| check_usable(&device.info).map(|()| device.info);
                    open_context(i).and_then(usable).map_err(|e| crate::error::one_line(&e))
                })
                .collect(),
        ),
    };
    DeviceReport { images: images::summary(), toolkit: images::TOOLKIT, driver, devices }
}

impl Device {
    /// Waits until the device has done everything asked of it, on every stream. For destructors, which cannot report a
    /// failure: what it would concern is lost with the context.
    pub fn settle(&self) {
        let _ = self.stream.context().synchronize();
    }

    /// Returns freed memory to the device, so that its reported free memory is accurate.
    pub fn trim(&self) -> Result<()> {
        let failed = "cannot return freed memory to the device";
        let context = self.stream.context();
        // Memory is freed in stream order.
        context.synchronize().context(failed)?;
        if context.has_async_alloc() {
            // SAFETY: the context's device is valid, and so is its pool, which the driver owns.
            unsafe {
                result::mem_pool::trim_to(
                    result::device::get_default_mem_pool(context.cu_device())?,
                    0,
                )
            }
            .context(failed)?;
        }
        Ok(())
    }

    /// Opens GPU `index`.
    ///
    /// # Errors
    /// No kernels in this binary, no driver, a driver older than the kernels, no GPU, no such index, or a GPU below
    /// compute capability 8.0: each error says what to do.
    pub fn open(index: usize) -> Result<Self> {
        ensure!(
            images::built_in(),
            "this bitfit was built without CUDA kernels, as no CUDA compiler was found: run scripts/fetch-cuda \
             (or set CUDA_HOME to CUDA 12.8 or later) and build again, or use the CPU"
        );
        let driver = connect()?;
        ensure!(
            index < driver.devices,
            "there is no CUDA device {index}: the driver sees {} (numbered from 0; CUDA_VISIBLE_DEVICES can \
             hide devices)",
            driver.devices
        );
        let device = open_context(index)?;
        check_usable(&device.info)?;
        Ok(device)
    }
}

/// Why this GPU cannot be used although there is a driver for it; `None` without a driver, or if it sees no GPU.
pub fn unusable(index: usize) -> Option<String> {
    let error = connect().and_then(|_| Device::open(index)).err()?;
    (driver_present() && !error.is::<NoDevice>()).then(|| crate::error::one_line(&error))
}

/// How many GPUs the driver sees; 0 without one.
pub fn count() -> usize {
    connect().map_or(0, |driver| driver.devices)
}

struct Driver {
    /// In the format of `cuDriverGetVersion`: 1000 · major + 10 · minor.
    version: u32,
    devices: usize,
}

/// A driver without a GPU.
#[derive(Debug, thiserror::Error)]
#[error(
    "the NVIDIA driver sees no CUDA device (is one installed, and is CUDA_VISIBLE_DEVICES right?)"
)]
struct NoDevice;

fn driver_present() -> bool {
    // The dynamic loader would search all its folders again for each run of a sweep.
    static PRESENT: OnceLock<bool> = OnceLock::new();
    // SAFETY: only asks the dynamic loader whether the driver library can be opened.
    *PRESENT.get_or_init(|| unsafe { sys::is_culib_present() })
}

fn connect() -> Result<Driver> {
    ensure!(
        driver_present(),
        "no NVIDIA driver: libcuda.so.1 cannot be loaded; install the NVIDIA driver, or use the CPU"
    );
    match result::init() {
        Ok(()) => {}
        Err(DriverError(CUresult::CUDA_ERROR_NO_DEVICE)) => bail!(NoDevice),
        Err(error) => {
            return Err(anyhow!(error)).context("the NVIDIA driver fails to start");
        }
    }
    let version = driver_version()?;
    if let Some(needed) = images::TOOLKIT.and_then(parse_version) {
        ensure!(
            worth_trying(version, needed),
            "the NVIDIA driver supports CUDA {}, but the kernels were built with {}: update the driver{}, or \
             build with CUDA_HOME set to a toolkit that the driver supports (12.8 or later)",
            version_name(version),
            version_name(needed),
            if needed / 1000 == 13 { " to 580 or later" } else { "" }
        );
    }
    let devices = CudaContext::device_count().context("cannot list the NVIDIA driver's devices")?;
    ensure!(devices > 0, NoDevice);
    Ok(Driver { version, devices: usize::try_from(devices).unwrap_or(0) })
}

/// Whether a driver may accept kernels of that version: an older one of the same major version accepts machine code. It
/// may refuse PTX, and loading the kernels then reports that.
fn worth_trying(version: u32, needed: u32) -> bool {
    version / 1000 >= needed / 1000
}

/// What to do if the driver refuses a kernel and is older than the compiler that built it.
pub fn older_than_kernels() -> Option<String> {
    older(driver_version().ok()?, images::TOOLKIT.and_then(parse_version)?)
}

fn older(version: u32, needed: u32) -> Option<String> {
    (version < needed).then(|| {
        format!(
            "the NVIDIA driver supports CUDA {}, but the kernels were built with {}: update the driver, or build with \
             BITFIT_CUDA_ARCHS set to this device's architecture",
            version_name(version),
            version_name(needed)
        )
    })
}

/// In the format of `cuDriverGetVersion`: 1000 · major + 10 · minor.
pub fn driver_version() -> Result<u32> {
    let mut version = 0;
    // SAFETY: the driver is there, and writes one int to a live variable.
    unsafe { sys::cuDriverGetVersion(&mut version) }
        .result()
        .context("cannot read the NVIDIA driver's version")?;
    Ok(u32::try_from(version).unwrap_or(0))
}

fn open_context(index: usize) -> Result<Device> {
    let failed = || format!("cannot open CUDA device {index}");
    let context = CudaContext::new(index).with_context(failed)?;
    // SAFETY: all work of a backend goes to one stream, so no slice needs events to order its uses; other streams have
    // their own events (`pinned`, `branch`).
    unsafe { context.disable_event_tracking() };
    let attribute = |which| -> Result<u32> {
        let value = context.attribute(which).with_context(failed)?;
        Ok(u32::try_from(value).unwrap_or(0))
    };
    let (major, minor) = context.compute_capability().with_context(failed)?;
    let (free_memory, total_memory) = context.mem_get_info().with_context(failed)?;
    let info = DeviceInfo {
        index,
        name: context.name().with_context(failed)?,
        capability: (u32::try_from(major).unwrap_or(0), u32::try_from(minor).unwrap_or(0)),
        multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        shared_memory: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
        total_memory,
        free_memory,
    };
    Ok(Device { stream: context.new_stream().with_context(failed)?, info })
}

fn check_usable(info: &DeviceInfo) -> Result<()> {
    let (major, minor) = info.capability;
    ensure!(
        info.capability >= LOWEST_CAPABILITY,
        "CUDA device {} ({}) has compute capability {major}.{minor}, but the kernels need 8.0 (Ampere, 2020) or \
         later: use the CPU",
        info.index,
        info.name
    );
    Ok(())
}

/// `13.0` to 13000, the drivers' format.
fn parse_version(text: &str) -> Option<u32> {
    let (major, minor) = text.split_once('.')?;
    Some(major.parse::<u32>().ok()? * 1000 + minor.parse::<u32>().ok()? * 10)
}

fn version_name(version: u32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_read_as_the_driver_counts_them() {
        assert_eq!(parse_version("13.0"), Some(13_000));
        assert_eq!(parse_version("12.8"), Some(12_080));
        assert_eq!(parse_version("x"), None);
        assert_eq!(version_name(12_080), "12.8");
    }

    #[test]
    fn a_driver_a_little_older_than_the_kernels_is_tried_and_named_where_it_refuses() {
        assert!(worth_trying(13_000, 13_010) && worth_trying(13_020, 13_000));
        assert!(worth_trying(14_000, 13_010) && !worth_trying(12_090, 13_000));
        let said = older(13_000, 13_010).unwrap();
        assert!(said.contains("supports CUDA 13.0") && said.contains("with 13.1"), "{said}");
        assert_eq!(older(13_010, 13_010), None);
    }

    #[test]
    fn an_old_device_is_refused_by_name_and_capability() {
        let info = DeviceInfo {
            index: 1,
            name: "Tesla T4".into(),
            capability: (7, 5),
            multiprocessors: 40,
            total_memory: 1 << 34,
            free_memory: 1 << 34,
            shared_memory: 65_536,
        };
        let message = check_usable(&info).unwrap_err().to_string();
        assert!(message.contains("Tesla T4") && message.contains("7.5"), "{message}");
    }
}
