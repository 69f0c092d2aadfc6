//! The compiled kernels that `build.rs` embedded, and which of them a device uses.

use super::HalfType;
use crate::variables;
use anyhow::Result;
use flate2::read::ZlibDecoder;
use std::collections::BTreeMap;
use std::io::{self, Read};

/// One compiled file of `kernels/`.
pub struct Image {
    /// Name of the source file without its extension.
    pub unit: &'static str,
    pub half: HalfType,
    /// Architecture of a cubin, e.g. 80; `None` for PTX, which the driver compiles.
    pub arch: Option<u32>,
    /// In zlib's format.
    packed: &'static [u8],
}

impl Image {
    /// The compiler's output.
    ///
    /// # Errors
    /// If the embedded data is damaged.
    pub fn code(&self) -> io::Result<Vec<u8>> {
        let mut code = Vec::new();
        ZlibDecoder::new(self.packed).read_to_end(&mut code)?;
        Ok(code)
    }
}

include!(concat!(env!("OUT_DIR"), "/cuda_images.rs"));

/// Whether this binary has any kernels.
pub fn built_in() -> bool {
    !IMAGES.is_empty()
}

/// What is embedded, for people: `PTX, sm_80, sm_90`.
pub fn summary() -> String {
    let archs: BTreeMap<Option<u32>, ()> = IMAGES.iter().map(|i| (i.arch, ())).collect();
    let names: Vec<String> = archs
        .keys()
        .map(|arch| arch.map_or_else(|| "PTX".into(), |arch| format!("sm_{arch}")))
        .collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// Reads `BITFIT_CUDA_CODE`: `ptx` ignores the machine code, so that tests exercise what the driver compiles.
///
/// # Errors
/// A [`UsageError`](crate::error::UsageError) if it has another value.
pub fn ptx_alone() -> Result<bool> {
    Ok(variables::chosen("BITFIT_CUDA_CODE", &[("ptx", ())])?.is_some())
}

/// The images of a unit that a device of the given capability can run, best first.
///
/// A cubin runs on its own major version, from its own minor version on; PTX on anything newer.
pub fn candidates(
    images: &'static [Image],
    unit: &str,
    half: HalfType,
    (major, minor): (u32, u32),
) -> Vec<&'static Image> {
    let mut fitting: Vec<&Image> = images
        .iter()
        .filter(|i| i.unit == unit && i.half == half)
        .filter(|i| match i.arch {
            Some(arch) => arch / 10 == major && arch % 10 <= minor,
            None => true,
        })
        .collect();
    // PTX (`None`) sorts lowest.
    fitting.sort_by_key(|i| std::cmp::Reverse(i.arch));
    fitting
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn image(arch: Option<u32>, half: HalfType) -> Image {
        Image { unit: "gemm", half, arch, packed: &[] }
    }

    static TABLE: [Image; 6] = [
        image(None, HalfType::F16),
        image(Some(80), HalfType::F16),
        image(Some(86), HalfType::F16),
        image(Some(90), HalfType::F16),
        image(Some(120), HalfType::F16),
        image(None, HalfType::Bf16),
    ];

    fn archs(capability: (u32, u32), half: HalfType) -> Vec<Option<u32>> {
        candidates(&TABLE, "gemm", half, capability).iter().map(|i| i.arch).collect()
    }

    #[test]
    fn a_device_gets_the_newest_cubin_of_its_major_version_then_ptx() {
        assert_eq!(archs((8, 9), HalfType::F16), [Some(86), Some(80), None]);
        assert_eq!(archs((8, 0), HalfType::F16), [Some(80), None]);
        assert_eq!(archs((9, 0), HalfType::F16), [Some(90), None]);
        assert_eq!(archs((12, 1), HalfType::F16), [Some(120), None]);
        assert_eq!(archs((10, 0), HalfType::F16), [None]);
    }

    #[test]
    fn what_is_built_in_unpacks_to_what_the_driver_takes() {
        for image in IMAGES {
            let code = image.code().unwrap();
            let begins: &[u8] = match image.arch {
                Some(_) => b"\x7fELF",
                None => b"//",
            };
            assert!(
                code.starts_with(begins),
                "{}.cu ({}, {:?})",
                image.unit,
                image.half,
                image.arch
            );
        }
        assert!(image(None, HalfType::F16).code().is_err());
    }

    #[test]
    fn another_half_type_or_file_has_its_own_images() {
        assert_eq!(archs((9, 0), HalfType::Bf16), [None]);
        assert!(candidates(&TABLE, "norm", HalfType::F16, (9, 0)).is_empty());
    }
}
