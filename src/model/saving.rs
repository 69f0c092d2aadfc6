//! What is kept of the forward pass for the backward pass, and how what is not kept is made again.
//!
//! With frozen weights a block needs, per token, two x̂ (2h elements), attention's q, k, v and output (4h) and the
//! activation's derivative (4h). All of it but the two x̂ can be made again from an x̂: a LayerNorm's output is γ·x̂ + β.

use super::Embeddings;
use crate::backend::plan::{Plan, Planner, TensorId};
use crate::backend::{Backend, DerivativeType, Norm, NormRestore, Rows, XHatType};
use crate::error::UsageError;
use anyhow::Result;
use std::fmt;
use std::str::FromStr;

/// What each block keeps. All but a derivative or an x̂ in fewer bits are exact: the same operations on the same numbers,
/// so that on the CPU the gradients have the same bits; where activations have 16 bits, what is made again from
/// a stored x̂ differs by its rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saving {
    /// Keep each block's input alone and run its forward pass again; the last block, whose backward comes first,
    /// keeps what it needs. The other fields then say nothing.
    pub checkpoint: bool,
    /// Make q, k and v again from the x̂ of the block below, and attention's output from those.
    pub recompute_qkv: bool,
    /// Make the activation's derivative again from the x̂ of the attention's LayerNorm.
    pub recompute_ffn: bool,
    /// How the activation's derivative is kept.
    pub derivative: DerivativeType,
    /// How the x̂ of both LayerNorms are kept.
    pub x_hat: XHatType,
}

impl Saving {
    /// Everything that backward needs, in the backend's activation type.
    pub const KEEP: Self = Self {
        checkpoint: false,
        recompute_qkv: false,
        recompute_ffn: false,
        derivative: DerivativeType::Full,
        x_hat: XHatType::Full,
    };

    /// The least that is exact without running whole blocks again.
    pub const RECOMPUTE: Self = Self {
        recompute_qkv: true,
        recompute_ffn: true,
        ..Self::KEEP
    };

    pub const CHECKPOINT: Self = Self {
        checkpoint: true,
        ..Self::KEEP
    };

    /// The exact modes, fastest first: the work that each adds to a step's products (a forward pass is 24h² operations
    /// a token and block, a backward pass the same) is 0, 1/8, 1/6, 7/24 and nearly 1/2, and in the second and fourth
    /// attention's, which grows with the sequences: another 1/24 where they have h/2 tokens.
    pub const EXACT: [Self; 5] = [
        Self::KEEP,
        Self {
            recompute_qkv: true,
            ..Self::KEEP
        },
        Self {
            recompute_ffn: true,
            ..Self::KEEP
        },
        Self::RECOMPUTE,
        Self::CHECKPOINT,
    ];

    /// Whether the gradients are those of [`Saving::KEEP`].
    pub fn is_exact(self) -> bool {
        let full = self.derivative == DerivativeType::Full && self.x_hat == XHatType::Full;
        self.checkpoint || full
    }
}

impl Default for Saving {
    fn default() -> Self {
        Self::KEEP
    }
}

const NAMES: &str =
    "keep, recompute-qkv, recompute-ffn, recompute, checkpoint, gelu8, gelu4 and xhat8";

impl FromStr for Saving {
    type Err = UsageError;

    /// Names joined by commas: `recompute-qkv,gelu8`.
    fn from_str(text: &str) -> std::result::Result<Self, UsageError> {
        let mut saving = Self::KEEP;
        let names: Vec<&str> = text.split(',').map(str::trim).collect();
        for &name in &names {
            match name {
                "keep" => {}
                "recompute-qkv" => saving.recompute_qkv = true,
                "recompute-ffn" => saving.recompute_ffn = true,
                "recompute" => (saving.recompute_qkv, saving.recompute_ffn) = (true, true),
                "checkpoint" => saving.checkpoint = true,
                "gelu8" => saving.derivative = DerivativeType::Bits8,
                "gelu4" => saving.derivative = DerivativeType::Bits4,
                "xhat8" => saving.x_hat = XHatType::Bits8,
                _ => {
                    return Err(UsageError::new(format!(
                        "`{name}` is no way of saving: there are {NAMES}"
                    )));
                }
            }
        }
        let alone = saving.checkpoint || names.contains(&"keep");
        if alone && names.len() > 1 {
            return Err(UsageError::new(format!(
                "`{text}`: keep and checkpoint stand alone"
            )));
        }
        let gelu = names.iter().filter(|name| name.starts_with("gelu")).count();
        if gelu > 1 || (gelu == 1 && saving.recompute_ffn) {
            return Err(UsageError::new(format!(
                "`{text}`: the activation's derivative is either made again (recompute, recompute-ffn) or kept as \
                 gelu8 or as gelu4"
            )));
        }
        if saving.x_hat != XHatType::Full && (saving.recompute_qkv || saving.recompute_ffn) {
            return Err(UsageError::new(format!(
                "`{text}`: what recompute-qkv, recompute-ffn and recompute make again would come from an x̂ of 8 bits and \
                 not be what forward had; xhat8 joins gelu8 or gelu4 alone"
            )));
        }
        Ok(saving)
    }
}

impl fmt::Display for Saving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.checkpoint, "checkpoint"),
            (self.recompute_qkv && self.recompute_ffn, "recompute"),
            (self.recompute_qkv && !self.recompute_ffn, "recompute-qkv"),
            (self.recompute_ffn && !self.recompute_qkv, "recompute-ffn"),
            (self.derivative == DerivativeType::Bits8, "gelu8"),
            (self.derivative == DerivativeType::Bits4, "gelu4"),
            (self.x_hat == XHatType::Bits8, "xhat8"),
        ];
        let names: Vec<&str> = parts.iter().filter(|p| p.0).map(|p| p.1).collect();
        f.pad(&match names.is_empty() {
            true => "keep".to_owned(),
            false => names.join(","),
        })
    }
}

/// Where backward finds a tensor that forward read.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// Still in memory.
    Kept(TensorId),
    /// A LayerNorm's output, of which x̂ is in memory.
    Norm {
        x_hat: TensorId,
        norm: Norm,
        rows: Rows,
    },
    /// The embeddings: looked up once more.
    Embeddings(Embeddings),
}

/// An [`Origin`] and the tensor that holds it during backward.
#[derive(Clone, Copy, Debug)]
pub struct Restored {
    origin: Origin,
    pub tensor: TensorId,
}

impl Restored {
    /// Rehearses [`Restored::run`]; the tensor is the caller's to release.
    pub fn plan(origin: Origin, plan: &mut Planner, name: String, bytes: usize) -> Self {
        let tensor = match origin {
            Origin::Kept(tensor) => tensor,
            Origin::Norm { .. } | Origin::Embeddings(_) => plan.acquire(name, bytes),
        };
        Self { origin, tensor }
    }

    /// Makes the tensor again where it was not kept.
    pub fn run<B: Backend>(&self, backend: &mut B, plan: &Plan) -> Result<()> {
        let out = plan.region(self.tensor);
        match self.origin {
            Origin::Kept(_) => Ok(()),
            Origin::Norm { x_hat, norm, rows } => backend.norm_restore(NormRestore {
                x_hat: plan.region(x_hat),
                norm,
                out,
                rows,
            }),
            Origin::Embeddings(embeddings) => embeddings.forward(backend, out, true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_they_are_written() {
        for text in [
            "keep",
            "recompute-qkv",
            "recompute-ffn",
            "recompute",
            "checkpoint",
            "gelu8",
            "gelu4",
            "recompute-qkv,gelu8",
            "xhat8",
            "gelu8,xhat8",
            "gelu4,xhat8",
        ] {
            assert_eq!(text.parse::<Saving>().unwrap().to_string(), text);
        }
        assert_eq!(
            "recompute-ffn, recompute-qkv".parse::<Saving>().unwrap(),
            Saving::RECOMPUTE
        );
        assert_eq!(Saving::default().to_string(), "keep");
    }

    #[test]
    fn modes_that_exclude_each_other_and_unknown_ones_are_refused() {
        for (text, said) in [
            ("", "there are keep"),
            ("gelu2", "`gelu2`"),
            ("keep,gelu8", "stand alone"),
            ("checkpoint,recompute", "stand alone"),
            ("recompute,gelu4", "made again"),
            ("gelu4,gelu8", "made again"),
            ("keep,xhat8", "stand alone"),
            ("checkpoint,xhat8", "stand alone"),
            ("recompute-qkv,xhat8", "x̂ of 8 bits"),
            ("xhat8,recompute-ffn", "x̂ of 8 bits"),
            ("recompute,xhat8", "x̂ of 8 bits"),
        ] {
            let message = text.parse::<Saving>().unwrap_err().to_string();
            assert!(message.contains(said), "{text}: {message}");
        }
    }
}
