//! The kernels' argument structures, field for field as in `kernels/`.
//!
//! Pointers are [`Address`]es, so each was checked against its allocation. The sizes asserted at the end are the
//! ones that the kernels assert.

use super::memory::Address;
use crate::backend as trait_types;
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

    GemmArgs [96] {
        batch: Address,
        x: Address,
        w: Address,
        out: Address,
        bias: [Address; 3],
        derivative: Address,
        partial: Address,
        n: u32,
        k: u32,
        bias_part: u32,
        rows: u32,
        activation: u32,
        padding: u32,
    }

    NormForwardArgs [80] {
        batch: Address,
        x: Address,
        residual: Address,
        gamma: Address,
        beta: Address,
        x_hat: Address,
        rstd: Address,
        dropout: DropoutArgs,
        width: u32,
        eps: f32,
    }

    NormBackwardArgs [88] {
        batch: Address,
        dx: Address,
        x_hat: Address,
        rstd: Address,
        gamma: Address,
        d_branch: Address,
        partial_beta: Address,
        partial_bias: Address,
        dropout: DropoutArgs,
        width: u32,
        padding: u32,
    }

    NormRestoreArgs [48] {
        batch: Address,
        x_hat: Address,
        gamma: Address,
        beta: Address,
        out: Address,
        width: u32,
        padding: u32,
    }

    EmbedArgs [112] {
        batch: Address,
        ids: Address,
        positions: Address,
        type_ids: Address,
        word: Address,
        position: Address,
        token_type: Address,
        gamma: Address,
        beta: Address,
        out: Address,
        dropout: DropoutArgs,
        width: u32,
        eps: f32,
        types: u32,
        padding: u32,
    }

    ColumnPartialArgs [48] {
        batch: Address,
        dy: Address,
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

    PoolArgs [48] {
        batch: Address,
        cu_seqlens: Address,
        state: Address,
        x: Address,
        pooled: Address,
        width: u32,
        mean: u32,
    }

    DenseArgs [112] {
        batch: Address,
        x: Address,
        weight: Address,
        frozen: Address,
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
        outputs: u32,
        squared: u32,
        weight: f32,
        padding: u32,
    }

    NormPartialArgs [24] {
        gradient: Address,
        partial: Address,
        count: u64,
    }

    StepDecisionArgs [24] {
        partial: Address,
        state: Address,
        count: u32,
        clip_norm: f32,
    }

    AdamWArgs [80] {
        value: Address,
        gradient: Address,
        moment1: Address,
        moment2: Address,
        state: Address,
        count: u64,
        decay: f32,
        beta1: f32,
        beta2: f32,
        one_minus_beta1: f32,
        one_minus_beta2: f32,
        step_size: f32,
        root_correction: f32,
        eps: f32,
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

const _: () = assert!(size_of::<BatchHeader>() == 32 && size_of::<StepState>() == 32);

impl From<trait_types::Dropout> for DropoutArgs {
    fn from(dropout: trait_types::Dropout) -> Self {
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
