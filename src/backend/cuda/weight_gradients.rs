//! Full fine-tuning: the gradients of matrices, gains and tables, and the 16-bit copies of the matrices that train.

use super::args::*;
use super::launch::ROW_TILE;
use super::memory::Address;
use super::norm::partial_columns;
use super::{CudaBackend, check_width, to_u32};
use crate::backend::weight_gradients::{
    EmbedBackward, GainGrad, TrainedTable, WeightGrad, WeightGradients,
};
use crate::backend::{Dropout, ParamRange, Rows, WeightId};
use anyhow::{Context, Result, ensure};

/// Rounds every trained matrix to its working copy, after its values have changed.
pub fn refresh(cuda: &CudaBackend) -> Result<()> {
    let memory = cuda.memory()?;
    for (weight, range) in cuda.weights.trained() {
        let args = RefreshArgs {
            value: memory.params.value(range, range.len)?,
            copy: weight.halves()?,
            count: range.len as u64,
        };
        cuda.kernels
            .refresh(args)
            .context("copies of trained matrices")?;
    }
    Ok(())
}

impl WeightGradients for CudaBackend {
    fn trained_matrix(
        &mut self,
        name: &str,
        rows: usize,
        cols: usize,
        range: ParamRange,
    ) -> Result<WeightId> {
        self.weights
            .add_trained(&self.device, name, rows, cols, range)
    }

    fn weight_grad(&mut self, op: WeightGrad) -> Result<()> {
        let memory = self.memory()?;
        let tokens = memory.rows(Rows::Tokens);
        check_width(op.outputs, "a linear layer's output width")?;
        check_width(op.inputs, "a linear layer's input width")?;
        ensure!(
            op.grad.len == op.outputs * op.inputs,
            "a gradient of {} elements for a {}×{} matrix",
            op.grad.len,
            op.outputs,
            op.inputs
        );
        let args = WeightGradArgs {
            batch: memory.batch.header()?,
            state: memory.state()?,
            dy: memory.activation(op.dy, tokens, op.outputs)?,
            x: memory.activation(op.x, tokens, op.inputs)?,
            grad: memory.params.gradient(op.grad)?,
            m: to_u32(op.outputs)?,
            n: to_u32(op.inputs)?,
        };
        self.kernels
            .weight_grad(self.tile(op.outputs, op.inputs), args)
            .context("gradient of a matrix")
    }

    fn gain_grad(&mut self, op: GainGrad) -> Result<()> {
        let memory = self.memory()?;
        let (tokens, width) = (memory.rows(Rows::Tokens), op.grad.len);
        check_width(width, "a LayerNorm width")?;
        let dy = memory.activation(op.dy, tokens, width)?;
        let x_hat = memory.activation(op.x_hat, tokens, width)?;
        let failed = "gradient of a gain";
        let partial = partial_columns(self, dy, Some(x_hat), width, Dropout::NONE, Rows::Tokens)
            .context(failed)?;
        self.finish(width, [Some((partial, op.grad)), None])
            .context(failed)
    }

    fn embed_backward(&mut self, op: EmbedBackward) -> Result<()> {
        let memory = self.memory()?;
        let batch = &memory.batch;
        let [word, position, types] =
            [op.word, op.position, op.token_type].map(|table| self.weights.get(table.weight));
        let (word, position, types) = (word?, position?, types?);
        let (tokens, width) = (memory.rows(Rows::Tokens), op.norm.gamma.len);
        check_width(width, "an embedding width")?;
        for (table, trained) in [
            (word, op.word),
            (position, op.position),
            (types, op.token_type),
        ] {
            ensure!(
                table.cols == width && trained.grad.len == table.rows * width,
                "a gradient of {} elements for an embedding table of {} rows of {}",
                trained.grad.len,
                table.rows,
                table.cols
            );
        }
        let length = tokens.div_ceil(ROW_TILE) * width;
        let (gamma, beta) = (memory.partial(0, length)?, memory.partial(1, length)?);
        let dx = memory.activation(op.dx, tokens, width)?;
        let args = EmbedBackwardArgs {
            batch: batch.header()?,
            ids: batch.ids()?,
            positions: batch.positions()?,
            type_ids: batch.types()?,
            word: word.halves()?,
            position: position.halves()?,
            token_type: types.halves()?,
            gamma: memory.params.value(op.norm.gamma, width)?,
            dx,
            partial_gamma: gamma,
            partial_beta: beta,
            dropout: op.dropout.into(),
            width: to_u32(width)?,
            eps: op.norm.eps,
            types: to_u32(types.rows)?,
            padding: 0,
        };
        let failed = "gradients of the embeddings";
        self.kernels.embed_backward(tokens, args).context(failed)?;
        self.finish(
            width,
            [Some((gamma, op.norm.gamma)), Some((beta, op.norm.beta))],
        )
        .context(failed)?;
        // A table of one row (RoBERTa) serves every token.
        let type_ids = match types.rows {
            1 => Address::NULL,
            _ => batch.types()?,
        };
        let table = |ids: Address, table: TrainedTable| {
            let args = TableGradArgs {
                batch: batch.header()?,
                state: memory.state()?,
                ids,
                dx,
                grad: memory.params.gradient(table.grad)?,
                width: to_u32(width)?,
                padding: 0,
            };
            self.kernels.table_grad(tokens, args).context(failed)
        };
        table(batch.ids()?, op.word)?;
        table(batch.positions()?, op.position)?;
        table(type_ids, op.token_type)
    }
}

impl CudaBackend {
    /// The second stage of column sums over the tokens.
    fn finish(&self, width: usize, sums: [Option<(Address, ParamRange)>; 2]) -> Result<()> {
        let memory = self.memory()?;
        memory.finish_columns(&self.kernels, sums, width, ROW_TILE, Rows::Tokens, false)
    }
}
