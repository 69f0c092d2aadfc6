//! The native CPU backend: the reference for every other one, and a product in its own right.
//!
//! f32 arithmetic and f32 activations; frozen matrices in 16 or 32 bits. Work is cut into tasks whose number and
//! bounds depend on shapes alone and every sum has a fixed order, so results are the same bit for bit from run
//! to run and for any number of threads. The rayon pool that is current at a call does its work: install a pool
//! around the calls to choose their number.

mod aligned;
mod arena;
mod attention;
mod block;
mod colsum;
mod dense;
mod derivative;
mod dropout;
mod embed;
mod first_attention;
mod gemm;
mod head;
mod int8;
mod linear;
mod math;
mod nf4;
mod norm;
mod optim;
mod params;
mod pointwise;
mod scratch;
mod share;
mod simd;
mod sizes;
mod weight_gradients;
mod weights;
mod widen;
mod x_hat;

use super::{
    AdamW, AttentionBackward, AttentionForward, Backend, BiasGrad, Dense, DenseBackward, Dropout,
    DropoutKey, EmbedForward, FirstAttentionBackward, FirstAttentionForward, FirstTokens,
    Footprint, LinearBackward, LinearForward, Loss, LossKind, MatrixShape, Memory, Norm,
    NormRestore, ParamRange, Pool, Region, ResidualNormBackward, ResidualNormForward, Rows,
    SavedNorm, Slot, StepReport, WeightId, WeightType, check,
};
use crate::batch::{Batch, Labels};
use aligned::Aligned;
use anyhow::{Result, ensure};
use arena::Arena;
use colsum::{Partials, column_sums};
use dropout::Mask;
use norm::Affine;
use params::{Params, gradients, read, wide, write};
use scratch::Scratch;
use sizes::Sizes;
pub use sizes::footprint;
use std::ops::Range;
use weights::Weights;
pub use weights::rounded;
use x_hat::XHats;

/// Activations are f32.
pub const ACTIVATION_BYTES: usize = 4;

/// See the module's head.
pub struct CpuBackend {
    weight_type: WeightType,
    weights: Weights,
    memory: Memory,
    arena: Arena,
    params: Params,
    batch: Batch,
    key: DropoutKey,
    scratch: Scratch,
    partials: Partials,
    /// The bias of a linear layer in one piece: `[widest]`.
    bias: Vec<f32>,
    /// Tokens in the order of their ids, for the gradients of embedding tables.
    token_order: Vec<u32>,
    /// The head's input under dropout: `[sequences, widest]`.
    head_input: Aligned,
    norm_partials: Vec<f64>,
    loss: f64,
    grad_norm: f32,
}

impl CpuBackend {
    /// A backend that stores the frozen matrices as `weight_type`.
    pub fn new(weight_type: WeightType) -> Self {
        let limits = super::Limits {
            tokens: 0,
            sequences: 0,
            max_len: 0,
        };
        Self {
            weight_type,
            weights: Weights::default(),
            memory: Memory {
                arena: 0,
                params: 0,
                trainable: 0,
                limits,
                widest: 0,
                head_dim: 0,
            },
            arena: Arena::default(),
            params: Params::default(),
            batch: Batch {
                ids: Vec::new(),
                type_ids: Vec::new(),
                positions: Vec::new(),
                cu_seqlens: vec![0],
                labels: Labels::None,
            },
            key: DropoutKey::default(),
            scratch: Scratch::default(),
            partials: Partials::default(),
            bias: Vec::new(),
            token_order: Vec::new(),
            head_input: Aligned::default(),
            norm_partials: Vec::new(),
            loss: 0.0,
            grad_norm: 0.0,
        }
    }

    pub fn weight_type(&self) -> WeightType {
        self.weight_type
    }

    /// Keeps the memory of the labels before, of whichever kind; no labels are none of that kind.
    fn set_labels(&mut self, labels: &Labels) {
        let sequences = self.memory.limits.sequences;
        match (&mut self.batch.labels, labels) {
            (Labels::Classes(mine), Labels::Classes(ids)) => mine.clone_from(ids),
            (Labels::Values(mine), Labels::Values(values)) => mine.clone_from(values),
            (Labels::Classes(mine), Labels::None) => mine.clear(),
            (Labels::Values(mine), Labels::None) => mine.clear(),
            (mine, Labels::Classes(ids)) => {
                let mut room = Vec::with_capacity(sequences);
                room.extend_from_slice(ids);
                *mine = Labels::Classes(room);
            }
            (mine, Labels::Values(values)) => {
                let mut room = Vec::with_capacity(sequences);
                room.extend_from_slice(values);
                *mine = Labels::Values(room);
            }
            (Labels::None, Labels::None) => {}
        }
    }

    fn mask(&self, dropout: Dropout) -> Option<Mask> {
        Mask::new(dropout, self.key)
    }
}

/// Gain and shift of a LayerNorm.
fn affine(values: &[f32], norm: Norm) -> Result<Affine<'_>> {
    wide(norm.beta, norm.gamma.len, "LayerNorm's bias")?;
    ensure!(norm.gamma.len > 0, "LayerNorm over no columns");
    Ok(Affine {
        gamma: read(values, norm.gamma)?,
        beta: read(values, norm.beta)?,
        eps: norm.eps,
    })
}

/// Two bias gradients of `width` elements, where they are asked for.
fn bias_gradients(
    gradient: &mut [f32],
    ranges: [Option<ParamRange>; 2],
    width: usize,
) -> Result<[Option<&mut [f32]>; 2]> {
    let [first, second] = ranges.map(|range| {
        range
            .map(|range| wide(range, width, "a bias gradient"))
            .transpose()
    });
    gradients(gradient, [first?, second?])
}

/// Rows of all tokens, or of the first alone, and pooled vectors.
fn pool_regions<'a>(arena: &'a mut Arena, batch: &Batch, op: Pool) -> Result<[&'a mut [f32]; 2]> {
    check::pool(op)?;
    arena.regions([
        (Some(op.x), op.rows.of(batch) * op.hidden),
        (Some(op.pooled), batch.sequences() * op.hidden),
    ])
}

/// Rows of all tokens and of the first ones.
fn first_regions<'a>(
    arena: &'a mut Arena,
    batch: &Batch,
    op: FirstTokens,
) -> Result<[&'a mut [f32]; 2]> {
    ensure!(op.hidden > 0, "first tokens of no columns");
    arena.regions([
        (Some(op.tokens), batch.tokens() * op.hidden),
        (Some(op.first), batch.sequences() * op.hidden),
    ])
}

impl Backend for CpuBackend {
    fn activation_bytes(&self) -> usize {
        ACTIVATION_BYTES
    }

    fn upload(&mut self, name: &str, shape: MatrixShape, data: &[f32]) -> Result<WeightId> {
        self.weights.add(self.weight_type, name, shape, data)
    }

    fn view_rows(&mut self, of: WeightId, rows: Range<usize>) -> Result<WeightId> {
        self.weights.view_rows(of, rows)
    }

    fn allocated(&self) -> Footprint {
        let params = &self.params;
        let words = |v: &Vec<u32>| 4 * v.capacity();
        let floats = |v: &Vec<f32>| 4 * v.capacity();
        let Batch {
            ids,
            type_ids,
            positions,
            cu_seqlens,
            labels,
        } = &self.batch;
        let labels = match labels {
            Labels::None => 0,
            Labels::Classes(ids) => words(ids),
            Labels::Values(values) => floats(values),
        };
        let vectors = [
            &params.value,
            &params.gradient,
            &params.moment1,
            &params.moment2,
        ];
        Footprint {
            weights: self.weights.bytes(),
            params: vectors.into_iter().map(floats).sum(),
            arena: self.arena.bytes(),
            batch: [ids, type_ids, positions, cu_seqlens]
                .into_iter()
                .map(words)
                .sum::<usize>()
                + labels,
            workspace: self.scratch.bytes()
                + self.partials.bytes()
                + floats(&self.bias)
                + self.head_input.bytes()
                + 8 * self.norm_partials.capacity()
                + words(&self.token_order),
        }
    }

    fn allocate(&mut self, memory: Memory) -> Result<()> {
        let threads = rayon::current_num_threads();
        let sizes = Sizes::new(&memory, threads, self.weights.train());
        self.arena = Arena::allocate(sizes.arena)?;
        self.params = Params::new(sizes.params, sizes.trainable)?;
        self.scratch = Scratch::new(sizes.threads, sizes.scratch)?;
        self.partials = Partials::new(sizes.partials)?;
        self.bias = vec![0.0; sizes.bias];
        self.token_order = Vec::with_capacity(sizes.token_order);
        self.head_input = Aligned::new(sizes.head_input, 0.0, "the head's input")?;
        self.norm_partials = vec![0.0; sizes.norm_partials];
        let tokens = || Vec::with_capacity(sizes.tokens);
        self.batch = Batch {
            ids: tokens(),
            type_ids: tokens(),
            positions: tokens(),
            cu_seqlens: Vec::with_capacity(sizes.sequences + 1),
            labels: Labels::Classes(Vec::with_capacity(sizes.sequences)),
        };
        self.batch.cu_seqlens.push(0);
        self.memory = memory;
        Ok(())
    }

    fn set_batch(&mut self, batch: &Batch, key: DropoutKey) -> Result<()> {
        check::batch(batch, self.memory.limits)?;
        self.batch.ids.clone_from(&batch.ids);
        self.batch.type_ids.clone_from(&batch.type_ids);
        self.batch.positions.clone_from(&batch.positions);
        self.batch.cu_seqlens.clone_from(&batch.cu_seqlens);
        self.set_labels(&batch.labels);
        self.key = key;
        Ok(())
    }

    fn read_params(&self, slot: Slot, range: ParamRange) -> Result<Vec<f32>> {
        Ok(read(self.params.slot(slot), range)?.to_vec())
    }

    fn write_params(&mut self, slot: Slot, range: ParamRange, values: &[f32]) -> Result<()> {
        wide(range, values.len(), "a parameter range")?;
        write(self.params.slot_mut(slot), range)?.copy_from_slice(values);
        Ok(())
    }

    fn read_activations(&self, region: Region, len: usize) -> Result<Vec<f32>> {
        self.read_f32(region, len)
    }

    fn write_activations(&mut self, region: Region, values: &[f32]) -> Result<()> {
        self.write_f32(region, values)
    }

    fn read_f32(&self, region: Region, len: usize) -> Result<Vec<f32>> {
        Ok(self.arena.read(region, len)?.to_vec())
    }

    fn write_f32(&mut self, region: Region, values: &[f32]) -> Result<()> {
        let [out] = self.arena.regions([(Some(region), values.len())])?;
        out.copy_from_slice(values);
        Ok(())
    }

    fn embed_forward(&mut self, op: EmbedForward) -> Result<()> {
        let norm = affine(&self.params.value, op.norm)?;
        let tables = embed::Tables {
            word: self.weights.get(op.word, &self.params.value)?,
            position: self.weights.get(op.position, &self.params.value)?,
            token_type: self.weights.get(op.token_type, &self.params.value)?,
        };
        tables.check(&self.batch, norm.gamma.len())?;
        let mask = Mask::new(op.dropout, self.key);
        let count = self.batch.tokens() * norm.gamma.len();
        let [out] = self.arena.regions([(Some(op.out), count)])?;
        embed::forward(tables, &self.batch, norm, mask, out);
        Ok(())
    }

    fn linear_forward(&mut self, op: LinearForward<'_>) -> Result<()> {
        linear::forward(self, op)
    }

    fn linear_backward(&mut self, op: LinearBackward) -> Result<()> {
        linear::backward(self, op)
    }

    fn attention_forward(&mut self, op: AttentionForward) -> Result<()> {
        let (tokens, hidden) = (self.batch.tokens(), op.heads * op.head_dim);
        let [qkv, out, lse] = self.arena.regions([
            (Some(op.qkv), tokens * 3 * hidden),
            (Some(op.out), tokens * hidden),
            (op.lse, tokens * op.heads),
        ])?;
        let shape = attention::Shape {
            cu_seqlens: &self.batch.cu_seqlens,
            heads: op.heads,
            head_dim: op.head_dim,
            mask: Mask::new(op.dropout, self.key),
        };
        attention::forward(shape, qkv, out, lse, &self.scratch);
        Ok(())
    }

    fn attention_backward(&mut self, op: AttentionBackward) -> Result<()> {
        let (tokens, hidden) = (self.batch.tokens(), op.heads * op.head_dim);
        let [query, value] = bias_gradients(
            &mut self.params.gradient,
            [op.dbias_query, op.dbias_value],
            hidden,
        )?;
        let [qkv, out, lse, dout, dqkv] = self.arena.regions([
            (Some(op.qkv), tokens * 3 * hidden),
            (Some(op.out), tokens * hidden),
            (Some(op.lse), tokens * op.heads),
            (Some(op.dout), tokens * hidden),
            (Some(op.dqkv), tokens * 3 * hidden),
        ])?;
        let shape = attention::Shape {
            cu_seqlens: &self.batch.cu_seqlens,
            heads: op.heads,
            head_dim: op.head_dim,
            mask: Mask::new(op.dropout, self.key),
        };
        attention::backward(
            shape,
            attention::Saved { qkv, out, lse },
            dout,
            dqkv,
            &self.scratch,
        );
        for (part, grad) in [(0, query), (2, value)] {
            if let Some(grad) = grad {
                column_sums(
                    dqkv,
                    3 * hidden,
                    part * hidden,
                    None,
                    grad,
                    &mut self.partials,
                );
            }
        }
        Ok(())
    }

    fn residual_norm_forward(&mut self, op: ResidualNormForward) -> Result<()> {
        let norm = affine(&self.params.value, op.norm)?;
        let (rows, hidden) = (op.rows.of(&self.batch), norm.gamma.len());
        let count = rows * hidden;
        let words = |saved: SavedNorm| saved.stored.bytes(rows, hidden, 4) / 4;
        let [x, residual, x_hat, rstd] = self.arena.regions([
            (Some(op.x), count),
            (Some(op.residual), count),
            (op.saved.map(|s| s.x_hat), op.saved.map_or(0, words)),
            (op.saved.map(|s| s.rstd), rows),
        ])?;
        let saved = op.saved.map(|s| (XHats::new(s.stored, x_hat), rstd));
        norm::residual_forward(x, residual, Mask::new(op.dropout, self.key), norm, saved);
        Ok(())
    }

    fn residual_norm_backward(&mut self, op: ResidualNormBackward) -> Result<()> {
        let mask = self.mask(op.dropout);
        ensure!(
            mask.is_none() || op.d_branch.is_some(),
            "with dropout the branch's gradient needs a tensor of its own"
        );
        let hidden = op.gamma.len;
        ensure!(hidden > 0, "LayerNorm over no columns");
        let [dbeta, dbias] =
            bias_gradients(&mut self.params.gradient, [op.dbeta, op.dbias], hidden)?;
        let rows = op.rows.of(&self.batch);
        let gamma = read(&self.params.value, op.gamma)?;
        let [dx, x_hat, rstd, d_branch] = self.arena.regions([
            (Some(op.dx), rows * hidden),
            (
                Some(op.saved.x_hat),
                op.saved.stored.bytes(rows, hidden, 4) / 4,
            ),
            (Some(op.saved.rstd), rows),
            (op.d_branch, rows * hidden),
        ])?;
        let sums = norm::Sums { dbeta, dbias };
        norm::residual_backward(
            dx,
            XHats::new(op.saved.stored, x_hat),
            rstd,
            gamma,
            mask,
            d_branch,
            sums,
            &mut self.partials,
        );
        Ok(())
    }

    fn norm_restore(&mut self, op: NormRestore) -> Result<()> {
        let norm = affine(&self.params.value, op.norm)?;
        let count = op.rows.of(&self.batch) * norm.gamma.len();
        let [x_hat, out] = self
            .arena
            .regions([(Some(op.x_hat), count), (Some(op.out), count)])?;
        norm::restore(x_hat, norm, out);
        Ok(())
    }

    fn bias_grad(&mut self, op: BiasGrad) -> Result<()> {
        let mask = self.mask(op.dropout);
        let width = op.grad.len;
        let count = op.rows.of(&self.batch) * width;
        let [grad] = gradients(&mut self.params.gradient, [Some(op.grad)])?;
        let [dy] = self.arena.regions([(Some(op.dy), count)])?;
        if let Some(grad) = grad.filter(|grad| !grad.is_empty()) {
            column_sums(dy, width, 0, mask, grad, &mut self.partials);
        }
        Ok(())
    }

    fn gather_first(&mut self, op: FirstTokens) -> Result<()> {
        let [tokens, first] = first_regions(&mut self.arena, &self.batch, op)?;
        head::gather_first(&self.batch.cu_seqlens, op.hidden, tokens, first);
        Ok(())
    }

    fn add_first(&mut self, op: FirstTokens) -> Result<()> {
        let [tokens, first] = first_regions(&mut self.arena, &self.batch, op)?;
        head::add_first(&self.batch.cu_seqlens, op.hidden, tokens, first);
        Ok(())
    }

    fn first_attention_forward(&mut self, op: FirstAttentionForward) -> Result<()> {
        let (tokens, hidden) = (self.batch.tokens(), op.heads * op.head_dim);
        let sequences = self.batch.sequences();
        let [query, key_value, out, lse] = self.arena.regions([
            (Some(op.query), sequences * hidden),
            (Some(op.key_value), tokens * 2 * hidden),
            (Some(op.out), sequences * hidden),
            (op.lse, sequences * op.heads),
        ])?;
        let shape = attention::Shape {
            cu_seqlens: &self.batch.cu_seqlens,
            heads: op.heads,
            head_dim: op.head_dim,
            mask: Mask::new(op.dropout, self.key),
        };
        first_attention::forward(shape, query, key_value, out, lse, &self.scratch);
        Ok(())
    }

    fn first_attention_backward(&mut self, op: FirstAttentionBackward) -> Result<()> {
        let (tokens, hidden) = (self.batch.tokens(), op.heads * op.head_dim);
        let sequences = self.batch.sequences();
        let [query_grad, value_grad] = bias_gradients(
            &mut self.params.gradient,
            [op.dbias_query, op.dbias_value],
            hidden,
        )?;
        let [query, key_value, lse, dout, d_query, d_key_value] = self.arena.regions([
            (Some(op.query), sequences * hidden),
            (Some(op.key_value), tokens * 2 * hidden),
            (Some(op.lse), sequences * op.heads),
            (Some(op.dout), sequences * hidden),
            (Some(op.d_query), sequences * hidden),
            (Some(op.d_key_value), tokens * 2 * hidden),
        ])?;
        let shape = attention::Shape {
            cu_seqlens: &self.batch.cu_seqlens,
            heads: op.heads,
            head_dim: op.head_dim,
            mask: Mask::new(op.dropout, self.key),
        };
        let saved = first_attention::Saved {
            query,
            key_value,
            lse,
        };
        first_attention::backward(shape, saved, dout, d_query, d_key_value, &self.scratch);
        if let Some(grad) = query_grad {
            column_sums(d_query, hidden, 0, None, grad, &mut self.partials);
        }
        if let Some(grad) = value_grad {
            let (width, first) = (2 * hidden, hidden);
            column_sums(d_key_value, width, first, None, grad, &mut self.partials);
        }
        Ok(())
    }

    fn pool_forward(&mut self, op: Pool) -> Result<()> {
        let [x, pooled] = pool_regions(&mut self.arena, &self.batch, op)?;
        match op.rows {
            Rows::Tokens => {
                head::pool_forward(op.kind, &self.batch.cu_seqlens, op.hidden, x, pooled);
            }
            Rows::Sequences => pooled.copy_from_slice(x),
        }
        Ok(())
    }

    fn pool_backward(&mut self, op: Pool) -> Result<()> {
        let [x, pooled] = pool_regions(&mut self.arena, &self.batch, op)?;
        match op.rows {
            Rows::Tokens => {
                head::pool_backward(op.kind, &self.batch.cu_seqlens, op.hidden, x, pooled);
            }
            Rows::Sequences => x.copy_from_slice(pooled),
        }
        Ok(())
    }

    fn dense_forward(&mut self, op: Dense) -> Result<()> {
        dense::forward(self, op)
    }

    fn dense_backward(&mut self, op: DenseBackward) -> Result<()> {
        dense::backward(self, op)
    }

    fn loss(&mut self, op: Loss) -> Result<()> {
        ensure!(
            op.outputs > 0 && (op.kind == LossKind::CrossEntropy || op.outputs == 1),
            "a loss over {} outputs",
            op.outputs
        );
        let count = self.batch.sequences() * op.outputs;
        let [logits, dlogits] = self
            .arena
            .regions([(Some(op.logits), count), (op.dlogits, count)])?;
        let labels = &self.batch.labels;
        let sum = match op.kind {
            LossKind::CrossEntropy => {
                head::cross_entropy(logits, op.outputs, labels, op.weight, dlogits)?
            }
            LossKind::MeanSquared => head::mean_squared(logits, labels, op.weight, dlogits)?,
        };
        self.loss += f64::from(op.weight) * sum;
        Ok(())
    }

    fn zero_gradients(&mut self) -> Result<()> {
        self.params.gradient.fill(0.0);
        self.loss = 0.0;
        self.grad_norm = 0.0;
        Ok(())
    }

    fn adamw(&mut self, op: AdamW) -> Result<()> {
        ensure!(op.step > 0, "the optimizer's steps count from 1");
        let params = &mut self.params;
        self.grad_norm = optim::norm(&params.gradient, &mut self.norm_partials);
        if self.grad_norm.is_finite() {
            let trainable = params.gradient.len();
            let vectors = optim::Vectors {
                value: &mut params.value[..trainable],
                gradient: &params.gradient,
                moment1: &mut params.moment1,
                moment2: &mut params.moment2,
            };
            optim::adamw(vectors, op, self.grad_norm);
        }
        Ok(())
    }

    fn step_report(&mut self) -> Result<StepReport> {
        Ok(StepReport {
            loss: self.loss as f32,
            grad_norm: self.grad_norm,
            overflow: false,
        })
    }
}
