//! From a checkpoint folder to a [`Model`] on a device.
//!
//! [`read`] collects what the checkpoint has and what is new, in the order of the forward pass; [`place`] gives
//! everything its place and assembles the model.

mod added;
mod chosen;
mod place;
mod read;
mod words_head;

use super::Model;
use super::config::ModelConfig;
use super::params::ParamKind;
use crate::backend::{Backend, MatrixShape};
use crate::formats::model_tensors::{ModelTensors, read_tensor};
use crate::methods::Trains;
use crate::program::{HeadWeight, LossKind, ParamRange, PoolKind, WeightId};
use crate::rng::{Purpose, Stream};
use crate::room::filled;
use crate::tasks::head::DenseLayer;
use anyhow::{Context, Result};
pub use chosen::trains_pooler;
use place::assemble;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

/// The matrix of a BERT pooler when it is a parameter: newly drawn ([`ParamKind::Head`]), or the checkpoint's in full
/// fine-tuning.
pub const NEW_POOLER: &str = "bert.pooler.dense.weight";

/// What the model will be used for.
#[derive(Clone, Debug)]
pub struct TaskSpec {
    /// Classes, or numbers per text in regression.
    pub outputs: usize,
    pub loss: LossKind,
    /// For cross-entropy, `[outputs]`; empty if all classes count the same.
    pub class_weights: Vec<f32>,
    pub pooling: PoolKind,
    /// Replace the checkpoint's pooler with a new one, which trains.
    pub reinit_pooler: bool,
    pub trains: Trains,
    /// Replaces all dropout probabilities in the configuration.
    pub dropout: Option<f32>,
    /// Draws the new head.
    pub seed: u64,
}

impl TaskSpec {
    /// For questions about the encoder with its own pooler, when the head does not matter: any of two classes.
    pub fn of_any_task(trains: Trains, seed: u64) -> Self {
        Self {
            outputs: 2,
            loss: LossKind::CrossEntropy,
            class_weights: Vec::new(),
            pooling: PoolKind::Cls,
            reinit_pooler: false,
            trains,
            dropout: None,
            seed,
        }
    }
}

/// Where the checkpoint's values come from.
trait Source {
    /// Whether the encoder has a tensor of this name.
    fn has(&self, name: &str) -> bool;

    /// Whether the encoder has a bias of this name. Without a checkpoint, biases that a method can add are absent.
    fn has_bias(&self, _: &str) -> bool {
        false
    }

    /// Whether there are values; otherwise only shapes are known.
    fn has_values(&self) -> bool {
        true
    }

    /// An encoder tensor as f32, row-major; empty if only shapes are known.
    fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>>;

    /// The same for a tensor of the masked-words head, under the first of these full names that exists.
    fn of_words_head(&self, names: &[&str], shape: &[usize]) -> Result<Vec<f32>>;

    /// Checks a tensor of that head, by its full name, against the encoder's table that it copies, if the files have
    /// it.
    fn is_tied(&self, _copy: &str, _table: &str, _shape: &[usize]) -> Result<()> {
        Ok(())
    }
}

impl Source for ModelTensors {
    fn has(&self, name: &str) -> bool {
        ModelTensors::has(self, name)
    }

    fn has_bias(&self, name: &str) -> bool {
        ModelTensors::has(self, name)
    }

    fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        ModelTensors::get(self, name, shape)
    }

    fn of_words_head(&self, names: &[&str], shape: &[usize]) -> Result<Vec<f32>> {
        ModelTensors::of_words_head(self, names, shape)
    }

    fn is_tied(&self, copy: &str, table: &str, shape: &[usize]) -> Result<()> {
        ModelTensors::is_tied(self, copy, table, shape)
    }
}

/// Every tensor that the configuration calls for, without values.
struct Shapes;

impl Source for Shapes {
    fn has_values(&self) -> bool {
        false
    }

    fn has(&self, _: &str) -> bool {
        true
    }

    fn get(&self, _: &str, _: &[usize]) -> Result<Vec<f32>> {
        Ok(Vec::new())
    }

    fn of_words_head(&self, _: &[&str], _: &[usize]) -> Result<Vec<f32>> {
        Ok(Vec::new())
    }
}

/// The tensors of these files, without values.
struct Headers<'a>(&'a ModelTensors);

impl Source for Headers<'_> {
    fn has(&self, name: &str) -> bool {
        self.0.has(name)
    }

    fn has_bias(&self, name: &str) -> bool {
        self.0.has(name)
    }

    fn has_values(&self) -> bool {
        false
    }

    fn get(&self, _: &str, _: &[usize]) -> Result<Vec<f32>> {
        Ok(Vec::new())
    }

    fn of_words_head(&self, _: &[&str], _: &[usize]) -> Result<Vec<f32>> {
        Ok(Vec::new())
    }
}

/// The same with zeros as values.
struct Zeros;

impl Source for Zeros {
    fn has(&self, _: &str) -> bool {
        true
    }

    fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        filled(0.0, shape.iter().product(), name)
    }

    fn of_words_head(&self, _: &[&str], shape: &[usize]) -> Result<Vec<f32>> {
        self.get("", shape)
    }
}

/// The same with values as large as a trained model's: how long a device takes may depend on them.
struct Drawn(RefCell<Stream>);

impl Source for Drawn {
    fn has(&self, _: &str) -> bool {
        true
    }

    fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let gain = name.ends_with("LayerNorm.weight");
        let mut values = filled(if gain { 1.0 } else { 0.0 }, shape.iter().product(), name)?;
        if !gain {
            let mut stream = self.0.borrow_mut();
            values.iter_mut().for_each(|value| *value = 0.07 * (stream.uniform() - 0.5));
        }
        Ok(values)
    }

    fn of_words_head(&self, names: &[&str], shape: &[usize]) -> Result<Vec<f32>> {
        self.get(names.first().copied().unwrap_or_default(), shape)
    }
}

/// Like [`Shapes`], but records what was asked for.
#[derive(Default)]
struct Noted(RefCell<BTreeSet<String>>);

impl Source for Noted {
    fn has(&self, _: &str) -> bool {
        true
    }

    fn has_bias(&self, name: &str) -> bool {
        self.0.borrow_mut().insert(name.to_owned());
        false
    }

    fn get(&self, name: &str, _: &[usize]) -> Result<Vec<f32>> {
        self.0.borrow_mut().insert(name.to_owned());
        Ok(Vec::new())
    }

    fn of_words_head(&self, names: &[&str], shape: &[usize]) -> Result<Vec<f32>> {
        names.iter().try_for_each(|name| self.get(name, shape).map(drop))?;
        Ok(Vec::new())
    }
}

/// Where matrices go.
trait Store {
    /// Stores a matrix that stays frozen.
    fn frozen(&mut self, name: &str, shape: MatrixShape, data: &[f32]) -> Result<WeightId>;

    /// A frozen matrix that another model of this checkpoint has already stored: its values need not be read.
    fn resident(&mut self, _name: &str, _shape: MatrixShape) -> Option<WeightId> {
        None
    }

    /// Consecutive rows of a matrix it stored.
    fn view_rows(&mut self, of: WeightId, rows: Range<usize>) -> Result<WeightId>;

    /// Stores a matrix that trains; its values are in the parameter vector.
    fn trained(&mut self, name: &str, shape: MatrixShape, range: ParamRange) -> Result<WeightId>;
}

/// A device, and the folder of the checkpoint to name in errors.
struct OnDevice<'a>(&'a mut dyn Backend, &'a Path);

impl Store for OnDevice<'_> {
    fn frozen(&mut self, name: &str, shape: MatrixShape, data: &[f32]) -> Result<WeightId> {
        self.0.upload(name, shape, data).with_context(|| self.1.display().to_string())
    }

    fn resident(&mut self, name: &str, shape: MatrixShape) -> Option<WeightId> {
        self.0.resident(name, shape)
    }

    fn view_rows(&mut self, of: WeightId, rows: Range<usize>) -> Result<WeightId> {
        self.0.view_rows(of, rows)
    }

    fn trained(&mut self, name: &str, shape: MatrixShape, range: ParamRange) -> Result<WeightId> {
        self.0.trained_matrix(name, shape, range)
    }
}

/// No device: only counts matrices.
struct Counted(usize);

impl Counted {
    fn next(&mut self) -> WeightId {
        self.0 += 1;
        WeightId(self.0 - 1)
    }
}

impl Store for Counted {
    fn frozen(&mut self, _: &str, _: MatrixShape, _: &[f32]) -> Result<WeightId> {
        Ok(self.next())
    }

    fn view_rows(&mut self, _: WeightId, _: Range<usize>) -> Result<WeightId> {
        Ok(self.next())
    }

    fn trained(&mut self, _: &str, _: MatrixShape, _: ParamRange) -> Result<WeightId> {
        Ok(self.next())
    }
}

/// Loads the encoder, puts its matrices on the device, and makes the head that `task` asks for.
///
/// # Errors
/// Anything missing, misshapen or not finite in the checkpoint, by file and tensor name; a bias selection that matches
/// nothing in the model.
pub fn load(
    folder: &Path,
    config: &ModelConfig,
    task: &TaskSpec,
    backend: &mut dyn Backend,
) -> Result<Model> {
    let weights = ModelTensors::open(folder, config.family.prefix())?;
    assemble(config, task, &weights, &mut OnDevice(backend, folder))
}

/// A model of this configuration without values or a device, for planning its memory.
///
/// # Errors
/// A bias selection that matches nothing in the model.
pub fn outline(config: &ModelConfig, task: &TaskSpec) -> Result<Model> {
    assemble(config, task, &Shapes, &mut Counted(0))
}

/// The same for a checkpoint, with the biases and the pooler it has. Reads only the headers of its files.
///
/// # Errors
/// As [`outline`].
pub fn outline_of(weights: &ModelTensors, config: &ModelConfig, task: &TaskSpec) -> Result<Model> {
    assemble(config, task, &Headers(weights), &mut Counted(0))
}

/// The checkpoint's tensors used by a model of this configuration: by their names inside the encoder, for a
/// masked-words head by full name. A checkpoint may hold others: buffers, layers beyond the last.
///
/// # Errors
/// A bias selection that matches nothing in the model.
pub fn tensors_of(config: &ModelConfig, task: &TaskSpec) -> Result<BTreeSet<String>> {
    let noted = Noted::default();
    assemble(config, task, &noted, &mut Counted(0))?;
    Ok(noted.0.into_inner())
}

/// A model of this configuration with zeros as values, on a device: to measure memory. `folder` is named in errors.
///
/// # Errors
/// When the device has no room.
pub fn blank(
    folder: &Path,
    config: &ModelConfig,
    task: &TaskSpec,
    backend: &mut dyn Backend,
) -> Result<Model> {
    assemble(config, task, &Zeros, &mut OnDevice(backend, folder))
}

/// The same with values of the usual size, always drawn alike: to measure time.
///
/// # Errors
/// When the device has no room.
pub fn drawn(
    folder: &Path,
    config: &ModelConfig,
    task: &TaskSpec,
    backend: &mut dyn Backend,
) -> Result<Model> {
    let stream = Stream::new(task.seed, Purpose::HeadInit, u64::MAX);
    let source = Drawn(RefCell::new(stream));
    assemble(config, task, &source, &mut OnDevice(backend, folder))
}

/// Replaces the head's initial values with those from a safetensors file with Hugging Face names. `rows` has the file's
/// row for each output, if the file's order differs.
///
/// # Errors
/// When a tensor is missing, misshapen or not finite.
pub fn init_head(model: &mut Model, path: &Path, rows: Option<&[usize]>) -> Result<()> {
    let head: Vec<_> = model
        .params
        .list()
        .iter()
        .filter(|p| p.kind == ParamKind::Head)
        .map(|p| (p.name.clone(), p.shape.clone(), p.range))
        .collect();
    for (name, shape, range) in head {
        let mut values = read_tensor(path, &name, &shape)?.with_context(|| {
            format!("{}: the head's tensor `{name}` is missing", path.display())
        })?;
        let last = model.head.layers.last();
        let of_last =
            |layer: &DenseLayer| layer.bias == range || layer.weight == HeadWeight::Param(range);
        if let (Some(rows), true) = (rows, last.is_some_and(of_last)) {
            let width = values.len() / rows.len();
            let row = |&row: &usize| values[row * width..][..width].to_vec();
            values = rows.iter().flat_map(row).collect();
        }
        model.params.set_initial(range, &values);
    }
    Ok(())
}
