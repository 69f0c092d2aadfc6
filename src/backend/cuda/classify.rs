//! The last layer of a head on sequences, its loss and its backward in one launch, if there are few classes: between
//! the products of forward and backward these are three kernels with hardly any work, each waiting for the one before.

use super::args::*;
use super::column_sums::{Target, Tiles, address};
use super::head;
use super::launch::WIDEST_NORM;
use super::operands::LaunchOperands;
use crate::program::{Dense, DenseBack, HeadWeight, List, Loss, Op, Rows};
use anyhow::{Result, ensure};

/// Three operations, one after another.
pub struct Classifier<'a> {
    dense: &'a Dense,
    loss: &'a Loss,
    back: &'a DenseBack,
}

impl<'a> Classifier<'a> {
    /// How many operations it is.
    pub const OPS: usize = 3;

    /// What `ops` begins with, if it is one and a launch can do it. That depends on the list alone, so all batches go
    /// the same way.
    pub fn first_of(list: &List, ops: &'a [Op]) -> Option<Self> {
        let [Op::Dense(dense), Op::Loss(loss), Op::DenseBack(back), ..] = ops else { return None };
        let connected = loss.logits.0 == dense.y.0
            && loss.dlogits.0 == Some(back.dy.0)
            && (back.x, back.weight, back.dropout) == (dense.x, dense.weight, dense.dropout);
        let (x, outputs) = (list.info(dense.x.0), list.info(dense.y.0).width);
        let last = matches!(dense.weight, HeadWeight::Param(_)) && !dense.tanh;
        // A warp has the inputs of a row in registers, and a row of partial sums no more columns than others have.
        let small = x.width.is_multiple_of(8)
            && x.width <= WIDEST_NORM
            && outputs <= WARP
            && x.width * outputs <= list.widest().0;
        (connected && last && small && x.rows == Rows::Sequences).then_some(Self {
            dense,
            loss,
            back,
        })
    }

    pub fn launch(&self, at: &LaunchOperands<'_>) -> Result<()> {
        let Self { dense, loss, back } = *self;
        let sequences = at.count(dense.x.0);
        let outputs = at.width(dense.y.0);
        for (sum, len) in [(back.dweight, outputs * at.width(dense.x.0)), (back.dbias, outputs)] {
            ensure!(sum.0.is_none_or(|grad| grad.len == len), "{:?} where {len} belong", sum.0);
        }
        let targets = [
            Target::of(at.memory, back.dweight)?,
            Target::of(at.memory, back.dbias)?,
            Some(Target { at: at.memory.params.loss()?, width: 1 }),
        ];
        let sums = at.room_for(targets, sequences.div_ceil(CLASSIFY_ROWS))?;
        let forward = head::forward_arguments(at, dense)?;
        at.lane.classify(
            sequences,
            ClassifyArgs {
                dense: DenseArgs {
                    bias: forward.bias,
                    y: forward.y,
                    ..head::backward_arguments(at, back)?
                },
                loss: head::loss_arguments(at, loss)?,
                partial_weight: address(sums[0]),
                partial_bias: address(sums[1]),
                partial_loss: address(sums[2]),
            },
        )?;
        at.finish(sums, Tiles::of(Rows::Sequences, CLASSIFY_ROWS))
    }
}
