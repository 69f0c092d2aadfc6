//! An option with a few named values. Each name and its help line are written once, in the enum itself; the command
//! line builds a parser from them (`cli::choice`), so that settings need not know about the command line.

use crate::backend::cpu::Arithmetic;
use crate::backend::cuda::HalfType;
use crate::backend::{DeviceKind, WeightType};
use crate::error::UsageError;
use crate::program::PoolKind;

/// One of a few names.
pub trait Choice: Copy + Send + Sync + 'static {
    const ALL: &'static [Self];

    /// As written on the command line and in files.
    fn name(self) -> &'static str;

    /// For `--help`.
    fn help(self) -> &'static str;

    /// # Errors
    /// An unknown name.
    fn from_name(name: &str) -> Result<Self, String> {
        let named = Self::ALL.iter().find(|choice| choice.name() == name);
        named.copied().ok_or_else(|| format!("invalid variant: {name}"))
    }
}

/// Makes an enum whose variants are written, read and explained by the name and help given with each.
macro_rules! choices {
    ($(#[$meta:meta])* pub enum $type:ident {
        $($(#[$attribute:meta])* $variant:ident = $name:tt, $help:tt;)+
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
        pub enum $type {
            $(#[doc = $help] $(#[$attribute])* #[serde(rename = $name)] $variant,)+
        }

        impl $crate::settings::choice::Choice for $type {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            fn help(self) -> &'static str {
                match self {
                    $(Self::$variant => $help,)+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad($crate::settings::choice::Choice::name(*self))
            }
        }
    };
}

pub(super) use choices;

choices! {
    /// What happens to rows whose label marks a missing one: empty, "-", "nan", "null", -1 or -100 next to 0 and 1.
    pub enum Unlabelled {
        #[default]
        Refuse = "refuse",
            "Stop, and say how many there are";
        Drop = "drop",
            "Leave them out";
        Keep = "keep",
            "Take the value for a class like any other, or for a number";
    }
}

impl Unlabelled {
    /// Whether this is the default, so that settings need not state it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

choices! {
    /// How the token vectors become one vector per text.
    pub enum Pooling {
        #[default]
        Auto = "auto",
            "Whichever the checkpoint was made for";
        Cls = "cls",
            "The first token, through the model's pooler";
        Mean = "mean",
            "The mean of all tokens";
    }
}

impl Pooling {
    /// `None` if the checkpoint decides.
    pub fn kind(self) -> Option<PoolKind> {
        match self {
            Self::Auto => None,
            Self::Cls => Some(PoolKind::Cls),
            Self::Mean => Some(PoolKind::Mean),
        }
    }
}

impl From<PoolKind> for Pooling {
    fn from(kind: PoolKind) -> Self {
        match kind {
            PoolKind::Cls => Self::Cls,
            PoolKind::Mean => Self::Mean,
            // A head on tokens has no choice of pooling.
            PoolKind::Each | PoolKind::Labelled(_) => Self::Auto,
        }
    }
}

choices! {
    /// Where the pooler's weights come from.
    pub enum PoolerInit {
        #[default]
        Keep = "keep",
            "The checkpoint's own pooler";
        Reinit = "reinit",
            "New random weights, from --seed";
    }
}

choices! {
    /// How the frozen weights are stored. Arithmetic is f32 either way.
    pub enum WeightStorage {
        #[default]
        F16 = "f16",
            "16 bits: half the memory, weights rounded to 11 significant bits";
        F32 = "f32",
            "32 bits: the checkpoint's exact values; a GPU stores them in 16";
        Int8 = "int8",
            "8 bits, with a scale per row";
        Nf4 = "nf4",
            "4 bits: NF4 as in QLoRA; embeddings in 8";
    }
}

impl From<WeightStorage> for WeightType {
    fn from(storage: WeightStorage) -> Self {
        match storage {
            WeightStorage::F16 => Self::F16,
            WeightStorage::F32 => Self::F32,
            WeightStorage::Int8 => Self::Int8,
            WeightStorage::Nf4 => Self::Nf4,
        }
    }
}

choices! {
    /// The type of what products read and of what is kept for backward; sums are f32 with each.
    pub enum Precision {
        #[default]
        Auto = "auto",
            "bf16 on a GPU, and on a CPU with AVX512-BF16 unless matrices train; else f32";
        F32 = "f32",
            "32 bits; on a CPU only";
        Bf16 = "bf16",
            "The range of f32, 8 significant bits; on a CPU the residual stream stays f32";
        F16 = "f16",
            "11 significant bits; gradients are scaled to fit its range; on a GPU only";
    }
}

impl Precision {
    /// The arithmetic on a CPU, where matrices only train in f32.
    ///
    /// # Errors
    /// A precision for GPUs, or bf16 for matrices that train.
    pub fn on_cpu(self, matrices_train: bool) -> Result<Arithmetic, UsageError> {
        match self {
            Self::Auto if matrices_train => Ok(Arithmetic::F32),
            Self::Auto => Ok(Arithmetic::fastest()),
            Self::F32 => Ok(Arithmetic::F32),
            Self::Bf16 if matrices_train => Err(UsageError::new(
                "--precision bf16: on a CPU, --method full and lora compute their matrices in f32; leave it out".to_owned(),
            )),
            Self::Bf16 => Ok(Arithmetic::Bf16),
            Self::F16 => Err(UsageError::new(
                "--precision f16 is only for a GPU, and this is a CPU: use f32 or bf16".to_owned(),
            )),
        }
    }

    /// The actual type on a device: never `Auto`.
    ///
    /// # Errors
    /// The device lacks it.
    pub fn on(self, device: DeviceKind) -> Result<Self, UsageError> {
        Ok(match device {
            DeviceKind::Cpu { arithmetic, .. } => match arithmetic {
                Arithmetic::F32 => Self::F32,
                Arithmetic::Bf16 => Self::Bf16,
            },
            DeviceKind::Cuda { .. } => match self.on_gpu()? {
                HalfType::Bf16 => Self::Bf16,
                HalfType::F16 => Self::F16,
            },
        })
    }

    /// The type on a GPU.
    ///
    /// # Errors
    /// A precision for CPUs.
    pub fn on_gpu(self) -> Result<HalfType, UsageError> {
        match self {
            Self::Auto | Self::Bf16 => Ok(HalfType::Bf16),
            Self::F16 => Ok(HalfType::F16),
            Self::F32 => Err(UsageError::new(
                "--precision f32 is only for a CPU, and this is a GPU: use bf16 or f16".to_owned(),
            )),
        }
    }
}

choices! {
    /// The format of a data file.
    pub enum FormatChoice {
        #[default]
        Auto = "auto",
            "By the file's extension: .tsv or .txt, .csv, .jsonl, .ndjson or .json; for tagged words also .conll, \
             .conllu, .bio, .iob";
        Tsv = "tsv",
            "Tab-separated, with a header line";
        Csv = "csv",
            "Comma-separated, with a header line";
        Jsonl = "jsonl",
            "One JSON object per line";
        Conll = "conll",
            "One word per line with its tag in the last column, and a blank line between sentences";
        Conllu = "conllu",
            "The same, in the columns of Universal Dependencies";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_precision_that_a_device_lacks_is_refused_and_auto_is_what_is_fastest() {
        assert_eq!(Precision::default().on_cpu(true).unwrap(), Arithmetic::F32);
        assert_eq!(Precision::default().on_cpu(false).unwrap(), Arithmetic::fastest());
        assert_eq!(Precision::default().on_gpu().unwrap(), HalfType::Bf16);
        assert_eq!(Precision::Bf16.on_cpu(false).unwrap(), Arithmetic::Bf16);
        let refused = Precision::Bf16.on_cpu(true).unwrap_err().to_string();
        assert!(refused.contains("--method full") && refused.contains("f32"), "{refused}");
        let refused = Precision::F16.on_cpu(false).unwrap_err().to_string();
        assert!(refused.contains("f16") && refused.contains("f32 or bf16"), "{refused}");
        let refused = Precision::F32.on_gpu().unwrap_err().to_string();
        assert!(refused.contains("f32") && refused.contains("bf16 or f16"), "{refused}");
    }
}
