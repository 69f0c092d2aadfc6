//! The kernels' argument structures, field for field as in `kernels/`.
//!
//! Pointers are [`Address`]es, so each was checked against its allocation. The sizes asserted at the end are the
//! ones that the kernels assert.

use super::memory::Address;
use super::weights::Format;
use crate::program::{AdamW, Dropout};
use bytemuck::Zeroable;

macro_rules! arguments {
    ($($(#[$doc:meta])* $name:ident [$bytes:literal] { $($field:ident: $kind:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Zeroable)]
        #[repr(C)]
        pub struct $name {
            $(pub $field: $kind,)*
        }

        // SAFETY: plain `repr(C)` data with the layout that the kernel declares (the size is asserted on both sides).
        unsafe impl cudarc::driver::DeviceRepr for $name {}

        const _: () = assert!(size_of::<$name>() == $bytes);
    )*};
}

arguments! {
    /// Dropout of one call.
    DropoutArgs [16] {
        p: f32,
        keep: f32,
        site: u32,
        padding: u32,
    }

    /// A frozen matrix; `weights` says what lies where.
    MatrixArgs [40] {
        codes: Address,
        scales: Address,
        block_scales: Address,
        mean_scale: f32,
        format: Format,
        stored_rows: u32,
        first: u32,
    }

    GemmArgs [128] {
        batch: Address,
        x: Address,
        w: MatrixArgs,
        out: Address,
        bias: [Address; 3],
        derivative: Address,
        partial: Address,
        n: u32,
        k: u32,
        bias_part: u32,
        rows: u32,
        activation: u32,
        derivative_kind: u32,
    }

    NormForwardArgs [96] {
        batch: Address,
        x: Address,
        residual: Address,
        gamma: Address,
        beta: Address,
        sum: Address,
        x_hat: Address,
        rstd: Address,
        dropout: DropoutArgs,
        width: u32,
        eps: f32,
        rows: u32,
        x_hat_kind: u32,
    }

    NormBackwardArgs [104] {
        batch: Address,
        dx: Address,
        beside: Address,
        x_hat: Address,
        rstd: Address,
        gamma: Address,
        d_branch: Address,
        partial_beta: Address,
        partial_bias: Address,
        dropout: DropoutArgs,
        width: u32,
        rows: u32,
        x_hat_kind: u32,
        padding: u32,
    }

    NormRestoreArgs [48] {
        batch: Address,
        x_hat: Address,
        gamma: Address,
        beta: Address,
        out: Address,
        width: u32,
        rows: u32,
    }

    EmbedArgs [208] {
        batch: Address,
        ids: Address,
        positions: Address,
        type_ids: Address,
        word: MatrixArgs,
        position: MatrixArgs,
        token_type: MatrixArgs,
        gamma: Address,
        beta: Address,
        out: Address,
        dropout: DropoutArgs,
        width: u32,
        eps: f32,
        types: u32,
        padding: u32,
    }

    WeightGradArgs [48] {
        batch: Address,
        state: Address,
        dy: Address,
        x: Address,
        grad: Address,
        m: u32,
        n: u32,
    }

    RefreshArgs [24] {
        value: Address,
        copy: Address,
        count: u64,
    }

    EmbedBackwardArgs [120] {
        batch: Address,
        ids: Address,
        positions: Address,
        type_ids: Address,
        word: Address,
        position: Address,
        token_type: Address,
        gamma: Address,
        dx: Address,
        partial_gamma: Address,
        partial_beta: Address,
        dropout: DropoutArgs,
        width: u32,
        eps: f32,
        types: u32,
        padding: u32,
    }

    TableGradArgs [48] {
        batch: Address,
        state: Address,
        ids: Address,
        dx: Address,
        grad: Address,
        width: u32,
        padding: u32,
    }

    ColumnPartialArgs [56] {
        batch: Address,
        dy: Address,
        factor: Address,
        partial: Address,
        dropout: DropoutArgs,
        width: u32,
        rows: u32,
    }

    ColumnFinishArgs [72] {
        batch: Address,
        cu_seqlens: Address,
        state: Address,
        partial: [Address; 2],
        grad: [Address; 2],
        width: u32,
        tile_rows: u32,
        rows: u32,
        by_sequence: u32,
    }

    AttentionArgs [112] {
        batch: Address,
        cu_seqlens: Address,
        qkv: Address,
        out: Address,
        lse: Address,
        dout: Address,
        dqkv: Address,
        delta: Address,
        partial_query: Address,
        partial_value: Address,
        dropout: DropoutArgs,
        heads: u32,
        head_dim: u32,
        scale: f32,
        padding: u32,
    }

    PoolArgs [56] {
        batch: Address,
        cu_seqlens: Address,
        state: Address,
        x: Address,
        pooled: Address,
        width: u32,
        mean: u32,
        rows: u32,
        padding: u32,
    }

    FirstTokenArgs [40] {
        batch: Address,
        cu_seqlens: Address,
        tokens: Address,
        first: Address,
        width: u32,
        padding: u32,
    }

    FirstAttentionArgs [120] {
        batch: Address,
        cu_seqlens: Address,
        query: Address,
        key_value: Address,
        out: Address,
        lse: Address,
        dout: Address,
        d_query: Address,
        d_key_value: Address,
        partial_query: Address,
        partial_value: Address,
        dropout: DropoutArgs,
        heads: u32,
        head_dim: u32,
        scale: f32,
        padding: u32,
    }

    DenseArgs [144] {
        batch: Address,
        x: Address,
        weight: Address,
        frozen: MatrixArgs,
        bias: Address,
        y: Address,
        dy: Address,
        dx: Address,
        dweight: Address,
        dbias: Address,
        dropout: DropoutArgs,
        inputs: u32,
        outputs: u32,
        tanh: u32,
        padding: u32,
    }

    LossArgs [56] {
        batch: Address,
        logits: Address,
        labels: Address,
        dlogits: Address,
        state: Address,
        numbers: Address,
        outputs: u32,
        squared: u32,
    }

    NormPartialArgs [24] {
        gradient: Address,
        partial: Address,
        count: u64,
    }

    StepDecisionArgs [32] {
        partial: Address,
        state: Address,
        numbers: Address,
        count: u32,
        padding: u32,
    }

    AdamWArgs [56] {
        value: Address,
        gradient: Address,
        moment1: Address,
        moment2: Address,
        state: Address,
        numbers: Address,
        count: u64,
    }
}

/// The head of the batch in device memory: `BatchHeader` in `kernels/varlen.cuh`.
#[derive(Clone, Copy, Debug, Default, Zeroable, bytemuck::Pod)]
#[repr(C)]
pub struct BatchHeader {
    pub tokens: u32,
    pub sequences: u32,
    pub max_len: u32,
    pub step: u32,
    pub seed_low: u32,
    pub seed_high: u32,
    pub padding: [u32; 2],
}

/// `StepState::skip` where the loss scale was lowered.
pub const SKIP_OVERFLOW: u32 = 2;

/// The device's part of an optimizer step: `StepState` in `kernels/columns.cuh`.
#[derive(Clone, Copy, Debug, Zeroable, bytemuck::Pod)]
#[repr(C)]
pub struct StepState {
    pub loss: f32,
    pub grad_norm: f32,
    pub scale: f32,
    pub inverse_scale: f32,
    pub good_steps: u32,
    pub skip: u32,
    pub clip: f32,
    pub growth_interval: u32,
}

/// What a step needs to know from the host: `StepNumbers` in `kernels/columns.cuh`.
#[derive(Clone, Copy, Debug, Zeroable, bytemuck::Pod)]
#[repr(C)]
pub struct StepNumbers {
    pub weight: f32,
    pub clip_norm: f32,
    pub decay: f32,
    pub beta1: f32,
    pub beta2: f32,
    pub one_minus_beta1: f32,
    pub one_minus_beta2: f32,
    pub step_size: f32,
    pub root_correction: f32,
    pub eps: f32,
    pub padding: [u32; 2],
}

const _: () = assert!(
    size_of::<BatchHeader>() == 32
        && size_of::<StepState>() == 32
        && size_of::<StepNumbers>() == 48
);

impl StepNumbers {
    /// The same step with another weight of a sequence's loss.
    pub fn with_weight(self, weight: f32) -> Self {
        Self { weight, ..self }
    }

    /// The same step with another update, whose coefficients are computed here, once, in f64.
    pub fn with_update(self, op: AdamW) -> Self {
        // 0.999 is not an f32, and 1 - β would carry its rounding at a thousand times the size. Seven decimals
        // give back the number that was asked for.
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
            padding: [0; 2],
        }
    }

    /// Whether both are the same numbers, to the bit.
    pub fn same(&self, other: &Self) -> bool {
        bytemuck::bytes_of(self) == bytemuck::bytes_of(other)
    }
}

impl From<Dropout> for DropoutArgs {
    fn from(dropout: Dropout) -> Self {
        Self {
            p: dropout.p,
            keep: if dropout.p < 1.0 {
                1.0 / (1.0 - dropout.p)
            } else {
                0.0
            },
            site: dropout.site,
            padding: 0,
        }
    }
}
