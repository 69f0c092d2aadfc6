//! Runs a program: each operation is one or a few launches, recorded once per bucket of batches and then replayed.
//!
//! The weight of the losses and the optimizer's numbers go to the device before anything is launched, and the kind of
//! labels follows from the list. So a recording can depend on a batch only through device memory.

use super::apart::Apart;
use super::batch::BatchShape;
use super::classify::Classifier;
use super::column_sums::ColumnSums;
use super::graph::bucket;
use super::launch::Lane;
use super::operands::LaunchOperands;
use super::tiles::GemmTile;
use super::{
    CudaBackend, act_norm, activate, attention, columns, first_token, head, linear, norm, optim,
    scale, sparse, weight_gradients,
};
use crate::backend::check;
use crate::backend::labels::LabelNeed;
use crate::backend::timing::Piece;
use crate::program::{Numbers, Op, Program, Span};
use anyhow::{Context, Result, ensure};
use cudarc::driver::CudaStream;
use std::cell::RefCell;
use std::sync::Arc;

pub fn run(cuda: &mut CudaBackend, program: &Program, span: Span, numbers: Numbers) -> Result<()> {
    let ops = program.ops(span);
    let needs = LabelNeed::of(program.list(), ops);
    check_ids(cuda, ops)?;
    let updates = ops.iter().any(|op| matches!(op, Op::Update(_)));
    let (record, device) = (cuda.options.graphs, cuda.device.clone());
    let memory = cuda.memory_mut()?;
    needs.map_or(Ok(()), |need| need.check(memory.batch.labels))?;
    let mut words = memory.batch.current_numbers();
    if needs.is_some() {
        words = words.with_weight(numbers.weight);
    }
    if updates {
        let update = numbers.update.context("Update: no numbers were given for it")?;
        ensure!(update.step > 0, "the optimizer's steps count from 1");
        words = words.with_update(update).with_turn(memory.reports.next());
        memory.reports.let_next_be_read()?;
    }
    if updates || ops.iter().any(|op| matches!(op, Op::Zero(_) | Op::Loss(_))) {
        memory.ended = updates;
    }
    memory.batch.arrive(words)?;
    let limits = program.limits();
    // What begins or ends a step does not use the batch, which is left over from what ran before.
    let grid = if span.has_batch() {
        let needless = program.list().values.is_empty();
        ensure!(memory.batch.grid.tokens > 0 || needless, "there is no batch");
        let grid = memory.batch.enter(limits, |shape| bucket(shape, limits))?;
        check::labelled(program.list(), grid.limits(), memory.batch.labelled)?;
        grid
    } else {
        BatchShape::default()
    };
    if !record {
        let done = issue(cuda, program, span, false);
        cuda.memory_mut()?.batch.leave();
        return done;
    }
    let key = (program.id(), span, grid, memory.batch.turn());
    let done = match memory.graphs.replay(key) {
        Ok(false) => memory.graphs.begin(&device, key).and_then(|()| {
            let issued = issue(cuda, program, span, true);
            let ended = cuda.memory_mut()?.graphs.end(&device, issued.is_ok());
            issued.and(ended)
        }),
        replayed => replayed.map(|_| ()),
    };
    cuda.memory_mut()?.batch.leave();
    done
}

/// See [`Backend::run_timed`](crate::backend::Backend::run_timed).
pub fn run_timed(
    cuda: &mut CudaBackend,
    program: &Program,
    span: Span,
    numbers: Numbers,
    tile: Option<&str>,
) -> Result<Vec<Piece>> {
    let tile = tile.map(GemmTile::named).transpose()?;
    let usual = cuda.options;
    cuda.options.graphs = false;
    cuda.options.tile = tile.or(usual.tile);
    cuda.kernels.stopwatch.start();
    let done = run(cuda, program, span, numbers);
    cuda.options = usual;
    let pieces = cuda.kernels.stopwatch.stop();
    done.and(pieces)
}

/// Checks the current batch's ids against the tables that `ops` read or write: a recording does not check.
fn check_ids(cuda: &mut CudaBackend, ops: &[Op]) -> Result<()> {
    let ids = cuda.memory_mut()?.batch.ids;
    for op in ops {
        let [tokens, positions, types] = match op {
            Op::Embed(op) => op.tables.ids(),
            Op::EmbedBack(op) => op.tables.ids(),
            _ => continue,
        }
        .map(|table| cuda.weights.get(table).map(|table| table.rows));
        ids.check([tokens?, positions?, types?])?;
    }
    Ok(())
}

fn issue(cuda: &mut CudaBackend, program: &Program, span: Span, recorded: bool) -> Result<()> {
    let sums = RefCell::default();
    let (device, branch) = (cuda.device.clone(), Arc::clone(&cuda.memory()?.branch));
    let mut apart = Apart::new(&device, &branch, recorded);
    let list = program.list();
    let mut rest = list.range(span);
    while let Some(i) = rest.next() {
        let classifier = Classifier::first_of(list, &list.ops[i..rest.end]);
        let count = classifier.as_ref().map_or(1, |_| Classifier::OPS);
        rest.start = i + count;
        cuda.kernels.stopwatch.enter(Some(i));
        let entered = apart.enter(program, &list.ops[i..rest.start])?;
        match classifier {
            Some(classifier) => classifier.launch(&operands(cuda, program, &sums, entered)?),
            None => launch(cuda, program, &sums, entered, &list.ops[i]),
        }
        .with_context(|| list.name_of(i))?;
    }
    cuda.kernels.stopwatch.enter(None);
    apart.leave()?;
    sums.into_inner().finish(cuda.memory()?, cuda.lane())
}

/// For what is launched on this stream, which may begin early.
fn operands<'a>(
    cuda: &'a CudaBackend,
    program: &'a Program,
    sums: &'a RefCell<ColumnSums>,
    (stream, early): (&'a Arc<CudaStream>, bool),
) -> Result<LaunchOperands<'a>> {
    let lane = Lane { stream, early, ..cuda.lane() };
    Ok(LaunchOperands { cuda, memory: cuda.memory()?, program, lane, sums })
}

fn launch(
    cuda: &mut CudaBackend,
    program: &Program,
    sums: &RefCell<ColumnSums>,
    entered: (&Arc<CudaStream>, bool),
    op: &Op,
) -> Result<()> {
    if let Op::Zero(_) = op {
        return cuda.memory_mut()?.params.begin_step(entered.0);
    }
    let at = operands(cuda, program, sums, entered)?;
    match op {
        Op::Zero(_) => Ok(()),
        Op::Embed(op) => norm::embed(&at, op),
        Op::EmbedBack(op) => weight_gradients::embed_back(&at, op),
        Op::Linear(op) => linear::forward(&at, op),
        Op::LinearBack(op) => linear::backward(&at, op),
        Op::SparseAdd(op) => sparse::add(&at, op),
        Op::SparseGrad(op) => sparse::gradient(&at, op),
        Op::SparseSet(op) => sparse::set(&at, op),
        Op::SparseTake(op) => sparse::take(&at, op),
        Op::Activate(op) => activate::forward(&at, op),
        Op::ActivateBack(op) => activate::backward(&at, op),
        Op::TakeColumns(op) => columns::take(&at, op),
        Op::AddColumns(op) => columns::add(&at, op),
        Op::Scale(op) => scale::forward(&at, op),
        Op::ScaleBack(op) => scale::backward(&at, op),
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
        Op::ActNorm(op) => act_norm::forward(&at, op),
        Op::ActNormBack(op) => act_norm::backward(&at, op),
        Op::Loss(op) => head::loss(&at, op),
        Op::Update(_) => optim::update(&at),
    }
}
