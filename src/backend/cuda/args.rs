//! The kernels' argument structures, and the numbers shared by the host and the kernels.
//!
//! Pointers are [`Address`]es, so each was checked against its allocation.

use super::memory::Address;
use super::tensor_map::TensorMap;
use crate::backend::{MatrixKind, MatrixShape, WeightType, nf4};
use crate::program::{AdamW, Dropout};
use bytemuck::{Pod, Zeroable};

macro_rules! structures {
    ($($(#[$meta:meta])* $name:ident { $($field:ident: $kind:ty,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Zeroable)]
        #[repr(C)]
        pub struct $name {
            $(pub $field: $kind,)*
        }

        // SAFETY: plain `repr(C)` data with the layout that the kernel declares: build.rs has the CUDA compiler compare
        // them.
        unsafe impl cudarc::driver::DeviceRepr for $name {}

        // Padding is declared: no field of the kernel's can hide in a gap.
        const _: () = assert!(size_of::<$name>() == 0 $(+ size_of::<$kind>())*);
    )*};
}

macro_rules! numbers {
    ($($(#[$meta:meta])* $group:ident: $kind:ty { $($name:ident = $value:literal,)* })*) => {
        $($(#[doc = concat!("Of `", stringify!($group), "` in kernels/.")] pub const $name: $kind = $value;)*)*
    };
}

include!("structs.rs");
include!("numbers.rs");

const _: () = assert!(NF4_BLOCK == nf4::BLOCK && NF4_GROUP == nf4::GROUP);

/// How a matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Zeroable)]
#[repr(u32)]
pub enum Format {
    Half = 0,
    Int8 = 1,
    Nf4 = 2,
}

// The derive needs literals.
const _: () = assert!(
    Format::Half as u32 == FORMAT_HALF
        && Format::Int8 as u32 == FORMAT_INT8
        && Format::Nf4 as u32 == FORMAT_NF4
);

impl Format {
    pub fn of(weights: WeightType, shape: MatrixShape) -> Self {
        match (Self::of_products(weights), shape.kind) {
            _ if shape.trains => Self::Half,
            (Self::Nf4, MatrixKind::Table) => Self::Int8,
            (format, _) => format,
        }
    }

    /// The format of matrices used in products.
    pub fn of_products(weights: WeightType) -> Self {
        match weights {
            WeightType::F16 | WeightType::F32 => Self::Half,
            WeightType::Int8 => Self::Int8,
            WeightType::Nf4 => Self::Nf4,
        }
    }

    /// The source file of its products, and the prefix of its kernels' names.
    pub fn products(self) -> &'static str {
        match self {
            Self::Half => "gemm",
            Self::Int8 => "gemm_int8",
            Self::Nf4 => "gemm_nf4",
        }
    }
}

impl StepNumbers {
    /// The same step with another weight for a sequence's loss.
    pub fn with_weight(self, weight: f32) -> Self {
        Self { weight, ..self }
    }

    /// The same step with another update, whose coefficients are computed once, here, in f64.
    pub fn with_update(self, op: AdamW) -> Self {
        // 0.999 is not an f32, and 1 - β would magnify its rounding a thousandfold. Seven decimals recover the number
        // that was asked for.
        let asked = |beta: f32| (f64::from(beta) * 1e7).round() / 1e7;
        let (beta1, beta2) = (asked(op.beta1), asked(op.beta2));
        let correction = |beta: f64| 1.0 - beta.powf(op.step as f64);
        Self {
            weight: self.weight,
            clip_norm: op.clip_norm,
            decay: (1.0 - f64::from(op.lr) * f64::from(op.weight_decay)) as f32,
            beta1: op.beta1,
            beta2: op.beta2,
            one_minus_beta1: (1.0 - beta1) as f32,
            one_minus_beta2: (1.0 - beta2) as f32,
            step_size: (f64::from(op.lr) / correction(beta1)) as f32,
            root_correction: (1.0 / correction(beta2).sqrt()) as f32,
            eps: op.eps,
            turn: self.turn,
            padding: 0,
        }
    }

    /// The same step with another place for its outcome.
    pub fn with_turn(self, turn: usize) -> Self {
        Self { turn: turn as u32, ..self }
    }

    /// Whether both have identical bits.
    pub fn same(&self, other: &Self) -> bool {
        bytemuck::bytes_of(self) == bytemuck::bytes_of(other)
    }
}

impl From<Dropout> for DropoutArgs {
    fn from(dropout: Dropout) -> Self {
        Self { dropped: dropout.dropped(), keep: dropout.keep(), site: dropout.site, padding: 0 }
    }
}

#[cfg(test)]
#[allow(dead_code, reason = "the build script uses the rest")]
#[path = "../../../kernels/layouts.rs"]
mod layouts;

#[cfg(test)]
mod tests {
    use super::layouts;
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    #[test]
    fn a_kernel_whose_numbers_or_fields_are_not_the_hosts_does_not_compile() {
        let Some(nvcc) = option_env!("BITFIT_NVCC") else {
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let kernels = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        fs::write(at("held.h"), layouts::header(&layouts::mirrored())).unwrap();
        let source = fs::read_to_string(kernels.join("varlen.cuh")).unwrap();
        let compile = |source: &str| {
            fs::write(at("it.cu"), source).unwrap();
            let mut command = Command::new(nvcc);
            command.args(["-std=c++17", "-ptx", "-arch=compute_80", "-include"]);
            command.arg(at("held.h")).arg("-I").arg(&kernels);
            command.arg(at("it.cu")).arg("-o").arg(at("it.ptx"));
            let done = command.output().unwrap();
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            (done.status.success(), said)
        };
        let (compiled, said) = compile(&source);
        assert!(compiled, "{said}");
        for (right, wrong, named) in [
            ("kRowsSequences = 1", "kRowsSequences = 2", "kRowsSequences is 1 in"),
            ("uint32_t max_len;", "float max_len;", "BatchHeader::max_len"),
        ] {
            let (compiled, said) = compile(&source.replace(right, wrong));
            assert!(!compiled && said.contains(named), "{said}");
        }
    }
}
