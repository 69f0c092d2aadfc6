//! Runs a program: each operation a launch or a few, recorded once for each bucket of batches and then replayed.
//!
//! The weight of the losses and the optimizer's numbers go to the device before anything is launched, and what the
//! labels must be is known from the list. So nothing in a recording can depend on a batch but through device memory.

use super::allocated::Allocated;
use super::batch::LabelNeed;
use super::graph::bucket;
use super::memory::Address;
use super::{
    CudaBackend, attention, first_token, head, linear, norm, optim, to_u32, weight_gradients,
};
use crate::backend::name_of;
use crate::program::{Numbers, Op, ParamRange, Program, Rows, Span, Sum, Tensor, Value};
use anyhow::{Context, Result, ensure};

pub fn run(cuda: &mut CudaBackend, program: &Program, span: Span, numbers: Numbers) -> Result<()> {
    let ops = program.ops(span);
    let needs = ops.iter().find_map(|op| match op {
        Op::Loss(op) => Some(LabelNeed {
            kind: op.kind,
            outputs: program.tensor(op.logits.0).width,
        }),
        _ => None,
    });
    let updates = ops.iter().any(|op| matches!(op, Op::Update(_)));
    let (record, device) = (cuda.options.graphs, cuda.device.clone());
    let memory = cuda.memory_mut()?;
    needs.map_or(Ok(()), |need| need.check(memory.batch.labels))?;
    let mut words = memory.numbers.current();
    if needs.is_some() {
        words = words.with_weight(numbers.weight);
    }
    if updates {
        let update = numbers
            .update
            .context("Update: no numbers were given for it")?;
        ensure!(update.step > 0, "the optimizer's steps count from 1");
        words = words.with_update(update);
    }
    memory.numbers.send(words)?;
    let limits = program.limits();
    ensure!(
        memory.batch.grid.tokens > 0 || program.list().values.is_empty(),
        "there is no batch"
    );
    let grid = memory.batch.enter(limits, |shape| bucket(shape, limits))?;
    if !record {
        let done = issue(cuda, program, ops);
        cuda.memory_mut()?.batch.leave();
        return done;
    }
    let key = (program.id(), span, grid);
    let done = match memory.graphs.replay(key) {
        Ok(false) => memory.graphs.begin(&device, key).and_then(|()| {
            let issued = issue(cuda, program, ops);
            let ended = cuda.memory_mut()?.graphs.end(&device, issued.is_ok());
            issued.and(ended)
        }),
        replayed => replayed.map(|_| ()),
    };
    cuda.memory_mut()?.batch.leave();
    done
}

fn issue(cuda: &mut CudaBackend, program: &Program, ops: &[Op]) -> Result<()> {
    ops.iter()
        .try_for_each(|op| launch(cuda, program, op).with_context(|| name_of(op, program)))
}

fn launch(cuda: &mut CudaBackend, program: &Program, op: &Op) -> Result<()> {
    if let Op::Zero(_) = op {
        return optim::zero_gradients(cuda);
    }
    let at = Operands {
        cuda,
        memory: cuda.memory()?,
        program,
    };
    match op {
        Op::Zero(_) => Ok(()),
        Op::Embed(op) => norm::embed(&at, op),
        Op::EmbedBack(op) => weight_gradients::embed_back(&at, op),
        Op::Linear(op) => linear::forward(&at, op),
        Op::LinearBack(op) => linear::backward(&at, op),
        Op::WeightGrad(op) => weight_gradients::matrix(&at, op),
        Op::Attention(op) => attention::forward(&at, op),
        Op::AttentionBack(op) => attention::backward(&at, op),
        Op::FirstAttention(op) => first_token::attend(&at, op),
        Op::FirstAttentionBack(op) => first_token::attend_back(&at, op),
        Op::First(op) => first_token::gather(&at, op),
        Op::AddFirst(op) => first_token::add(&at, op),
        Op::ResidualNorm(op) => norm::forward(&at, op),
        Op::Restore(op) => norm::restore(&at, op),
        Op::NormBack(op) => norm::backward(&at, op),
        Op::GainGrad(op) => weight_gradients::gain(&at, op),
        Op::ColumnSum(op) => norm::column_sum(&at, op),
        Op::Pool(op) => head::pool(&at, op),
        Op::PoolBack(op) => head::pool_back(&at, op),
        Op::Dense(op) => head::dense(&at, op),
        Op::DenseBack(op) => head::dense_back(&at, op),
        Op::Loss(op) => head::loss(&at, op),
        Op::Update(_) => optim::update(&at),
    }
}

/// What an operation's launch works with: the device, its memory, and where the program's values lie in it.
#[derive(Clone, Copy)]
pub struct Operands<'a> {
    pub cuda: &'a CudaBackend,
    pub memory: &'a Allocated,
    program: &'a Program,
}

/// Partial column sums, and the gradient that they are added to.
pub type Partial = (Address, ParamRange);

impl Operands<'_> {
    pub fn tensor(&self, value: Value) -> Tensor {
        self.program.tensor(value)
    }

    pub fn width(&self, value: Value) -> usize {
        self.tensor(value).width
    }

    pub fn rows(&self, value: Value) -> Rows {
        self.tensor(value).rows
    }

    /// Rows that launches and addresses of a value are sized for.
    pub fn count(&self, value: Value) -> usize {
        self.memory.rows(self.rows(value))
    }

    /// The first rows of a value, as it is stored.
    pub fn at(&self, value: Value) -> Result<Address> {
        let tensor = self.tensor(value);
        let row = tensor
            .storage
            .row_bytes(tensor.width, super::ACTIVATION_BYTES);
        self.memory
            .bytes(tensor.region, self.memory.rows(tensor.rows) * row)
    }

    /// The same of a value that may be left out.
    pub fn aside(&self, value: Option<Value>) -> Result<Address> {
        value.map_or(Ok(Address::NULL), |value| self.at(value))
    }

    /// Room for partial sums of a gradient, where it is asked for: the first or the second of two.
    pub fn partial(&self, which: usize, sum: Sum, len: usize) -> Result<Option<Partial>> {
        sum.0
            .map(|grad| Ok((self.memory.partial(which, len)?, grad)))
            .transpose()
    }

    /// The second stage of one or two column sums of tiles of `tile_rows` rows.
    pub fn finish(
        &self,
        sums: [Option<Partial>; 2],
        width: usize,
        tile_rows: usize,
        rows: Rows,
        by_sequence: bool,
    ) -> Result<()> {
        if sums.iter().all(Option::is_none) {
            return Ok(());
        }
        let kernels = &self.cuda.kernels;
        self.memory
            .finish_columns(kernels, sums, width, tile_rows, rows, by_sequence)
    }
}

/// Where partial sums are, if anywhere.
pub fn address(partial: Option<Partial>) -> Address {
    partial.map_or(Address::NULL, |(address, _)| address)
}

/// Columns of one of `heads` in `width`.
pub fn head_dim(width: usize, heads: usize) -> Result<usize> {
    ensure!(
        heads > 0 && width.is_multiple_of(heads),
        "{heads} heads of {width} columns together"
    );
    super::check_width(width / heads, "a head dimension")?;
    to_u32(width)?;
    Ok(width / heads)
}
