//! A model on a device with memory for its batches: trains step by step and predicts.
//!
//! The training loop, commands, tests and benches all go through here; nothing else issues a step.

use crate::backend::cpu::CpuBackend;
use crate::backend::cuda::device::{Device, count, unusable};
use crate::backend::cuda::{CudaBackend, CudaOptions};
use crate::backend::{
    Backend, CoreShare, DeviceKind, DropoutKey, Footprint, LossScaling, PendingReport, Resident,
    Slot, StepReport, WeightType,
};
use crate::batch::Batch;
use crate::model::Model;
use crate::program::{AdamW, Limits, Numbers, ParamRange, Placed, Program, Saving, Span, What};
use crate::ranks::{Alone, Ranks, Share};
use crate::settings::choice::Precision;
use crate::settings::device::DeviceChoice;
use anyhow::{Context, Result, ensure};
use std::rc::Rc;

/// How a device is opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    pub device: DeviceChoice,
    /// Which of the processes on this machine opens it: with [`DeviceChoice::Auto`] each takes its own GPU while there
    /// are enough.
    pub here: Share,
    pub precision: Precision,
    /// How frozen matrices are stored.
    pub weights: WeightType,
    /// Whether matrices train.
    pub matrices_train: bool,
}

/// Opens the chosen device.
///
/// # Errors
/// If a GPU was asked for by name and cannot be used, or the device lacks the precision.
pub fn open(options: OpenOptions) -> Result<Box<dyn Backend>> {
    open_sharing(options, Sharing::default())
}

/// What a backend shares with others that run at the same time.
#[derive(Clone, Default)]
pub struct Sharing {
    /// Frozen matrices of the same checkpoint.
    pub frozen: Resident,
    /// Cores of a CPU.
    pub cores: CoreShare,
}

/// The same, sharing with other backends.
///
/// # Errors
/// As [`open`].
pub fn open_sharing(options: OpenOptions, sharing: Sharing) -> Result<Box<dyn Backend>> {
    let OpenOptions { device, here, precision, weights, matrices_train } = options;
    let cuda = |index| -> Result<Box<dyn Backend>> {
        let options = CudaOptions::new(index, precision.on_gpu()?);
        let backend = CudaBackend::new(CudaOptions { weights, ..options })?;
        Ok(Box::new(backend.sharing(sharing.frozen.clone())))
    };
    match gpu(device, here) {
        Some(index) => cuda(index),
        None => {
            let backend = CpuBackend::computing(precision.on_cpu(matrices_train)?, weights);
            Ok(Box::new(backend.sharing(sharing.frozen).on(sharing.cores)))
        }
    }
}

/// The GPU that this process of those on the machine should use, if any.
pub fn gpu(device: DeviceChoice, here: Share) -> Option<usize> {
    match device {
        DeviceChoice::Cuda(index) => Some(index),
        DeviceChoice::Auto => {
            let mine = mine(here);
            Device::open(mine).is_ok().then_some(mine)
        }
        DeviceChoice::Cpu => None,
    }
}

/// Why `used`, if it is the CPU, is used instead of this process's GPU, if there seems to be one and it was not declined.
pub fn passed_over(device: DeviceChoice, used: DeviceKind, here: Share) -> Option<String> {
    match (device, used) {
        (DeviceChoice::Auto, DeviceKind::Cpu { .. }) => unusable(mine(here)),
        _ => None,
    }
}

fn mine(here: Share) -> usize {
    here.rank % count().max(1)
}

/// See the module documentation.
pub struct Session {
    model: Model,
    backend: Box<dyn Backend>,
    train: Option<Program>,
    predict: Option<Program>,
    ranks: Rc<dyn Ranks>,
}

/// A step that a session gave to its device.
#[derive(Clone, Copy, Debug)]
pub struct Given {
    pub report: PendingReport,
    /// Whether a rank wants to stop after it.
    pub stop: bool,
}

impl Session {
    /// A model whose matrices are on `backend`. It has no memory for batches until [`Session::allocate`].
    pub fn new(model: Model, backend: Box<dyn Backend>) -> Self {
        Self { model, backend, train: None, predict: None, ranks: Rc::new(Alone) }
    }

    /// One of several sessions that train the same model together. All allocate, step and predict in the same order.
    pub fn among(self, ranks: Rc<dyn Ranks>) -> Self {
        Self { ranks, ..self }
    }

    pub fn ranks(&self) -> &dyn Ranks {
        &*self.ranks
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    /// For setting initial values before memory is allocated.
    pub fn model_mut(&mut self) -> &mut Model {
        &mut self.model
    }

    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    pub fn backend_mut(&mut self) -> &mut dyn Backend {
        &mut *self.backend
    }

    pub fn device(&self) -> DeviceKind {
        self.backend.kind()
    }

    /// What the device has allocated.
    pub fn allocated(&self) -> Footprint {
        self.backend.allocated()
    }

    /// A program of this model for this device: for training with a [`Saving`], or for prediction without one.
    pub fn program(&self, limits: Limits, train: Option<Saving>) -> Program {
        let element = self.backend.kind().element_bytes();
        self.model.program(limits, element, train)
    }

    /// Allocates memory for programs of this model, which share one arena, and writes the initial parameters. The model
    /// then drops its own copy of them, which can be as large as the model.
    ///
    /// # Errors
    /// If a program is invalid, which is a bug of its builder, or the device has no room.
    pub fn allocate(&mut self, train: Option<Program>, predict: Option<Program>) -> Result<()> {
        let programs: Vec<&Program> = train.iter().chain(&predict).collect();
        for program in &programs {
            program.verify()?;
        }
        if let Some(train) = &train {
            let params = &self.model.params;
            train.list().verify_gradients(&self.model.gradients(), params.with_gradient())?;
        }
        self.model.allocate(&mut *self.backend, &programs, self.ranks.share().of)?;
        self.model.params.forget_initial();
        (self.train, self.predict) = (train, predict);
        Ok(())
    }

    /// Issues one optimizer step over `batches` to the device and asks for its report. `targets` is the total weight of
    /// the targets of all batches on all ranks ([`Labels::weight`](crate::batch::Labels::weight)): the loss is their
    /// mean. Without targets, loss and gradient are 0. A rank may have no batch. `stop` says whether this rank wants to
    /// stop.
    ///
    /// # Errors
    /// When no memory for training was allocated, a batch exceeds it, the device fails, or another rank is gone.
    pub fn step(
        &mut self,
        batches: impl ExactSizeIterator<Item = (Batch, DropoutKey)>,
        targets: f64,
        update: AdamW,
        stop: bool,
    ) -> Result<Given> {
        let program = self.train.as_ref();
        let program = program.context("no memory was allocated for training")?;
        let (count, several) = (batches.len(), self.ranks.several());
        let weight = if targets > 0.0 { 1.0 / targets as f32 } else { 0.0 };
        let numbers = Numbers { weight, update: Some(update) };
        ensure!(count > 0 || several, "a step needs at least one batch");
        if count == 0 {
            self.backend.run(program, Span::BEGIN, numbers)?;
        }
        for (i, (batch, key)) in batches.enumerate() {
            self.backend.set_batch(&batch, key)?;
            let span = Span::micro_batch(i == 0, i + 1 == count && !several);
            self.backend.run(program, span, numbers)?;
        }
        let mut stop = stop;
        if several {
            let beside = if stop { 1.0 } else { 0.0 };
            let ranks = &*self.ranks;
            stop = self.backend.exchange(beside, &mut |values| ranks.sum(values))? > 0.0;
            self.backend.run(program, Span::END, numbers)?;
        }
        Ok(Given { report: self.backend.report_later()?, stop })
    }

    /// Waits for the report of a step.
    ///
    /// # Errors
    /// When the device failed.
    pub fn wait(&mut self, report: PendingReport) -> Result<StepReport> {
        self.backend.wait_report(report)
    }

    /// The logits of a batch: `[sequences, outputs]`; for a head on tokens `[tokens, outputs]`, on labelled tokens
    /// `[labelled, outputs]`.
    ///
    /// # Errors
    /// When no memory for prediction was allocated, the batch exceeds it, or the device fails.
    pub fn logits(&mut self, batch: &Batch) -> Result<Vec<f32>> {
        let program = self.predict.as_ref();
        let program = program.context("no memory was allocated for prediction")?;
        self.backend.set_batch(batch, DropoutKey::default())?;
        self.backend.run(program, Span::WHOLE, Numbers::NONE)?;
        let logits = program.output(What::Logits);
        let Placed { region, info } = logits.context("the program has no logits")?;
        self.backend.read(region, info.storage, batch.rows(info.rows) * info.width)
    }

    /// The values that train, in their order in the parameter vector.
    ///
    /// # Errors
    /// When the device failed.
    pub fn trained_values(&self) -> Result<Vec<f32>> {
        self.read(Slot::Value, self.model.params.trained_range())
    }

    /// Part of a parameter vector.
    ///
    /// # Errors
    /// When the device failed.
    pub fn read(&self, slot: Slot, range: ParamRange) -> Result<Vec<f32>> {
        self.backend.read_params(slot, range)
    }

    /// Overwrites part of a parameter vector.
    ///
    /// # Errors
    /// When there are more or fewer values than the range has, or the device failed.
    pub fn write(&mut self, slot: Slot, range: ParamRange, values: &[f32]) -> Result<()> {
        self.backend.write_params(slot, range, values)
    }

    /// The state of dynamic loss scaling, if the device has it.
    ///
    /// # Errors
    /// When the device failed.
    pub fn loss_scaling(&self) -> Result<Option<LossScaling>> {
        self.backend.loss_scaling()
    }

    /// Continues from a state that [`Session::loss_scaling`] returned.
    ///
    /// # Errors
    /// If it is not a valid state, or the device failed.
    pub fn set_loss_scaling(&mut self, scaling: LossScaling) -> Result<()> {
        self.backend.set_loss_scaling(scaling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::Trains;
    use crate::model::config::ModelConfig;
    use crate::model::load::{TaskSpec, load};
    use crate::program::{LossKind, PoolKind};
    use crate::settings::biases::BiasSelection;
    use crate::settings::lora::Lora;
    use crate::settings::method::Method;

    #[test]
    fn models_of_one_checkpoint_have_their_frozen_matrices_once() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/parity/bert");
        let folder = std::path::Path::new(folder);
        let config = ModelConfig::read(folder).unwrap();
        let resident = Resident::default();
        let mut sizes = Vec::new();
        for method in [Method::Head, Method::Bitfit, Method::LayerNorm, Method::Lora, Method::Full]
        {
            let lora = Lora::default();
            let spec = TaskSpec {
                outputs: 2,
                loss: LossKind::CrossEntropy,
                pooling: PoolKind::Cls,
                reinit_pooler: false,
                class_weights: vec![],
                trains: Trains::of(method, &BiasSelection::all(), Some(&lora)),
                dropout: Some(0.0),
                seed: 1,
            };
            let logits = |resident: &Resident| {
                let options = OpenOptions {
                    device: DeviceChoice::Cpu,
                    here: Share::WHOLE,
                    precision: Precision::F32,
                    weights: WeightType::F16,
                    matrices_train: method.trains_matrices(),
                };
                let frozen = resident.clone();
                let sharing = Sharing { frozen, ..Sharing::default() };
                let mut backend = open_sharing(options, sharing).unwrap();
                let model = load(folder, &config, &spec, &mut *backend).unwrap();
                let mut session = Session::new(model, backend);
                let batch = Batch {
                    ids: vec![2, 7, 3, 2, 3],
                    type_ids: vec![0; 5],
                    positions: vec![0, 1, 2, 0, 1],
                    cu_seqlens: vec![0, 3, 5],
                    labels: crate::batch::Labels::None,
                };
                let program = session.program(batch.limits(), None);
                session.allocate(None, Some(program)).unwrap();
                (session.logits(&batch).unwrap(), session.allocated().weights)
            };
            let (shared, alone) = (logits(&resident), logits(&Resident::default()));
            assert_eq!(shared, alone, "{method}");
            sizes.push((method, shared.1, resident.bytes()));
        }
        let (_, frozen, _) = sizes[0];
        assert!(frozen > 0);
        for (method, own, all) in sizes {
            let frozen_here = if method == Method::Full { 0 } else { frozen };
            assert_eq!((own, all), (frozen_here, frozen), "{method}");
        }
    }
}
