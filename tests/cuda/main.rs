//! Whole models on the CUDA backend, executed by the emulator, compared with the CPU backend: loss curves, final
//! logits, repetition and resumption to the bit.

#[path = "../ops/emulated.rs"]
mod emulated;
#[path = "../fixture/mod.rs"]
mod fixture;
mod follows;
mod masked;
mod memory;
mod recorded;
mod refused;
mod repeats;

use bitfit::backend::cpu::CpuBackend;
use bitfit::backend::cuda::{CudaBackend, CudaOptions, HalfType, LossScale};
use bitfit::backend::{
    Backend, DeviceKind, DropoutKey, PendingReport, Slot, StepReport, WeightType,
};
use bitfit::batch::{Batch, Labels};
use bitfit::methods::Trains;
use bitfit::model::Model;
use bitfit::model::config::ModelConfig;
use bitfit::model::load::{TaskSpec, load};
use bitfit::program::{AdamW, Limits, LossKind, Numbers, PoolKind, Portion, Program, Saving, Span};
use bitfit::rng::{Purpose, Stream};
use bitfit::settings::biases::BiasSelection;
use bitfit::settings::lora::Lora;
use emulated::{emulated, emulated_alone};
use std::path::PathBuf;

type Family = (&'static str, LossKind, PoolKind, usize);

/// The families and poolings of the parity fixtures.
const MODELS: [Family; 4] = [
    ("bert", LossKind::CrossEntropy, PoolKind::Cls, 3),
    ("bert-mean", LossKind::MeanSquared, PoolKind::Mean, 1),
    ("bert-mlm", LossKind::CrossEntropy, PoolKind::Cls, 2),
    ("roberta", LossKind::CrossEntropy, PoolKind::Cls, 2),
];

/// A head on spans of each family.
const SPANS: [Family; 2] =
    [("bert", LossKind::Span, PoolKind::Each, 2), ("roberta", LossKind::Span, PoolKind::Each, 2)];

/// The checkpoint's own masked-word head.
const LABELLED: PoolKind = PoolKind::Labelled(Portion { thousandths: 200 });
const WORDS: Family = ("roberta", LossKind::CrossEntropy, LABELLED, 344);

/// Makes the emulator a device of that compute capability.
const HOPPER: (&str, &str) = ("CUDA_EMULATOR_CAPABILITY", "9.0");

fn folder(name: &str) -> PathBuf {
    fixture::fixtures().join(name)
}

const LIMITS: Limits = Limits { tokens: 96, sequences: 8, max_len: 24 };

/// Learnable batches: the label is the class of the sequence's third token.
fn batch(config: &ModelConfig, kind: LossKind, outputs: usize, index: u64) -> Batch {
    let mut numbers = Stream::new(17, Purpose::Shuffle, index);
    let mut batch = Batch {
        ids: vec![],
        type_ids: vec![],
        positions: vec![],
        cu_seqlens: vec![0],
        labels: Labels::None,
    };
    let mut classes = Vec::new();
    for _ in 0..6 {
        let len = 3 + numbers.below(12) as u32;
        for position in 0..len {
            let id = 5 + numbers.below(config.vocab as u64 - 5) as u32;
            if position == 2 {
                classes.push(id % outputs.max(2) as u32);
            }
            batch.ids.push(id);
            batch.type_ids.push(u32::from(position > len / 2) % config.type_vocab.max(1) as u32);
            batch.positions.push(position + config.position_offset() as u32);
        }
        batch.cu_seqlens.push(batch.ids.len() as u32);
    }
    batch.labels = match kind {
        LossKind::CrossEntropy => Labels::Classes(classes),
        LossKind::MeanSquared | LossKind::Binary => {
            Labels::Values(classes.iter().map(|&c| c as f32).collect())
        }
        // From the token with the largest id to the last.
        LossKind::Span => {
            let bounds = batch.cu_seqlens.windows(2).map(|w| w[0] as usize..w[1] as usize);
            let span = |tokens: std::ops::Range<usize>| {
                let last = tokens.len() as u32 - 1;
                let ids = (0..).zip(&batch.ids[tokens]);
                [ids.max_by_key(|(_, id)| **id).map_or(0, |(i, _)| i), last]
            };
            Labels::Spans(bounds.map(span).collect())
        }
    };
    batch
}

/// For every sixth token, one of two words: something a masked-word head learns in a few steps.
fn words(batch: &Batch) -> Labels {
    let lens = batch.cu_seqlens.windows(2).map(|w| w[1] - w[0]);
    let places = lens.flat_map(|len| 0..len);
    let label = |(&id, place)| if place % 6 == 2 { 7 + id % 2 } else { Labels::IGNORED };
    Labels::Tokens(batch.ids.iter().zip(places).map(label).collect())
}

/// A model in training.
struct Run<B> {
    backend: B,
    model: Model,
    program: Program,
    kind: LossKind,
    outputs: usize,
    step: u64,
    lr: f32,
}

/// What trains, and what is kept for it.
#[derive(Clone, Copy)]
enum Training {
    Head,
    Biases(Saving),
    LayerNorms(Saving),
    Factors(Saving),
    LowRank(Saving),
    Random(Saving),
    Rows(Saving),
    Everything,
}

impl<B: Backend> Run<B> {
    /// All biases train.
    fn new(name: &str, kind: LossKind, pooling: PoolKind, outputs: usize, backend: B) -> Self {
        let training = Training::Biases(Saving::KEEP);
        Self::with(name, kind, pooling, outputs, backend, training)
    }

    /// Everything trains.
    fn full(name: &str, kind: LossKind, pooling: PoolKind, outputs: usize, backend: B) -> Self {
        Self::with(name, kind, pooling, outputs, backend, Training::Everything)
    }

    fn with(
        name: &str,
        kind: LossKind,
        pooling: PoolKind,
        outputs: usize,
        mut backend: B,
        training: Training,
    ) -> Self {
        let with_head;
        let folder = match pooling {
            PoolKind::Labelled(_) => {
                with_head = fixture::with_masked_head(name);
                with_head.path().to_owned()
            }
            _ => folder(name),
        };
        let config = ModelConfig::read(&folder).unwrap();
        let (trains, saving, lr) = match training {
            Training::Head => (Trains::Biases(BiasSelection::none()), Saving::KEEP, 3e-3),
            Training::Biases(saving) => (Trains::all_biases(), saving, 3e-3),
            Training::LayerNorms(saving) => (Trains::LayerNorms, saving, 3e-3),
            Training::Factors(saving) => (Trains::Factors, saving, 3e-2),
            Training::LowRank(saving) => {
                let on = "query,value,attention-output,output".parse().unwrap();
                let lora = Lora { dropout: 0.1, on, ..Lora::default() };
                (Trains::LowRank(lora), saving, 3e-3)
            }
            Training::Random(saving) => (Trains::Random(BiasSelection::all()), saving, 3e-3),
            Training::Rows(saving) => (Trains::Rows(BiasSelection::all()), saving, 3e-3),
            Training::Everything => (Trains::Everything, Saving::KEEP, 5e-4),
        };
        let task = TaskSpec {
            outputs,
            loss: kind,
            class_weights: Vec::new(),
            pooling,
            reinit_pooler: false,
            trains,
            dropout: Some(0.1),
            seed: 3,
        };
        let model = load(&folder, &config, &task, &mut backend).unwrap();
        let program = model.program(LIMITS, backend.kind().element_bytes(), Some(saving));
        model.allocate(&mut backend, &[&program], 1).unwrap();
        Self { backend, model, program, kind, outputs, step: 0, lr }
    }

    fn step(&mut self) -> StepReport {
        let pending = self.issue();
        self.backend.wait_report(pending).unwrap()
    }

    fn batch(&self, index: u64) -> Batch {
        let batch = batch(&self.model.config, self.kind, self.outputs, index);
        match self.model.head.pool {
            PoolKind::Labelled(_) => Batch { labels: words(&batch), ..batch },
            _ => batch,
        }
    }

    fn update(&self) -> AdamW {
        AdamW {
            lr: self.lr / (1.0 + self.step as f32),
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-6,
            weight_decay: 0.01,
            clip_norm: 1.0,
            step: self.step + 1,
        }
    }

    /// One step of two batches, or of one, as in the training loop.
    fn issue(&mut self) -> PendingReport {
        let (parts, update) = (1 + self.step % 2, self.update());
        for part in 0..parts {
            let index = 2 * self.step + part;
            let batch = self.batch(index % 8);
            let key = DropoutKey::new(5, index);
            self.backend.set_batch(&batch, key).unwrap();
            let span = Span::micro_batch(part == 0, part + 1 == parts);
            let numbers = Numbers {
                weight: 1.0 / (parts as f32 * batch.labels.weight(&[]) as f32),
                update: Some(update),
            };
            self.backend.run(&self.program, span, numbers).unwrap();
        }
        self.step += 1;
        self.backend.report_later().unwrap()
    }

    /// The optimizer's whole state.
    fn state(&self) -> [Vec<f32>; 3] {
        let range = self.model.params.trained_range();
        [Slot::Value, Slot::Moment1, Slot::Moment2]
            .map(|slot| self.backend.read_params(slot, range).unwrap())
    }
}

fn cuda(half: HalfType) -> CudaBackend {
    cuda_with(half, WeightType::F16)
}

fn cuda_with(half: HalfType, weights: WeightType) -> CudaBackend {
    let options = CudaOptions { weights, ..CudaOptions::new(0, half) };
    CudaBackend::new(options).unwrap_or_else(|e| panic!("{e:#}"))
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}
