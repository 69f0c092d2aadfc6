//! Whole models on the CUDA backend, executed by the emulator, beside the CPU backend: loss curves, final logits,
//! repetition and resumption to the bit.

#[path = "ops/emulated.rs"]
mod emulated;

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
use bitfit::program::{AdamW, Limits, LossKind, Numbers, PoolKind, Program, Saving, Span};
use bitfit::rng::{Purpose, Stream};
use emulated::emulated;
use std::path::{Path, PathBuf};

type Family = (&'static str, LossKind, PoolKind, usize);

/// The families and poolings of the parity fixtures.
const MODELS: [Family; 4] = [
    ("bert", LossKind::CrossEntropy, PoolKind::Cls, 3),
    ("bert-mean", LossKind::MeanSquared, PoolKind::Mean, 1),
    ("bert-mlm", LossKind::CrossEntropy, PoolKind::Cls, 2),
    ("roberta", LossKind::CrossEntropy, PoolKind::Cls, 2),
];

fn folder(name: &str) -> PathBuf {
    // The binary may be carried to a machine that has the fixtures elsewhere (scripts/gpu-check).
    let fixtures = std::env::var_os("BITFIT_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity"),
        PathBuf::from,
    );
    fixtures.join(name)
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
        LossKind::MeanSquared => Labels::Values(classes.iter().map(|&c| c as f32).collect()),
    };
    batch
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
    Biases(Saving),
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
        let folder = folder(name);
        let config = ModelConfig::read(&folder).unwrap();
        let (trains, saving, lr) = match training {
            Training::Biases(saving) => (Trains::all_biases(), saving, 3e-3),
            Training::Everything => (Trains::Everything, Saving::KEEP, 5e-4),
        };
        let task = TaskSpec {
            outputs,
            loss: kind,
            pooling,
            reinit_pooler: false,
            trains,
            dropout: Some(0.1),
            seed: 3,
        };
        let model = load(&folder, &config, &task, &mut backend).unwrap();
        let program = model.program(LIMITS, backend.activation_bytes(), Some(saving));
        model.allocate(&mut backend, &[&program]).unwrap();
        Self { backend, model, program, kind, outputs, step: 0, lr }
    }

    fn step(&mut self) -> StepReport {
        let pending = self.issue();
        self.backend.wait_report(pending).unwrap()
    }

    /// One step of two batches, or of one, as the training loop makes it.
    fn issue(&mut self) -> PendingReport {
        let parts = 1 + self.step % 2;
        let update = AdamW {
            lr: self.lr / (1.0 + self.step as f32),
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-6,
            weight_decay: 0.01,
            clip_norm: 1.0,
            step: self.step + 1,
        };
        for part in 0..parts {
            let index = 2 * self.step + part;
            let batch = batch(&self.model.config, self.kind, self.outputs, index % 8);
            let key = DropoutKey { seed: 5, step: index };
            self.backend.set_batch(&batch, key).unwrap();
            let span = Span { first: part == 0, last: part + 1 == parts };
            let numbers = Numbers {
                weight: 1.0 / (parts as usize * batch.sequences()) as f32,
                update: span.last.then_some(update),
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

/// Steps on both backends from the same weights, batches and dropout masks.
fn follows_the_cpu(models: &[Family], half: HalfType, weights: WeightType, tolerance: f32) {
    for &(name, kind, pooling, outputs) in models {
        let mut on_cpu = Run::new(name, kind, pooling, outputs, CpuBackend::new(weights));
        let mut on_cuda = Run::new(name, kind, pooling, outputs, cuda_with(half, weights));
        let mut cpu_mean = [0.0f32; 5];
        let mut cuda_mean = [0.0f32; 5];
        for step in 0..50 {
            let (a, b) = (on_cpu.step(), on_cuda.step());
            assert!(b.is_finite(), "{name} step {step}: {b:?}");
            cpu_mean[step / 10] += a.loss / 10.0;
            cuda_mean[step / 10] += b.loss / 10.0;
            if step == 0 {
                let off = (a.grad_norm / b.grad_norm - 1.0).abs();
                assert!(off < tolerance, "{name}: gradient norms {a:?} and {b:?}");
            }
        }
        println!("{name} ({half}, {weights:?}): cpu {cpu_mean:?} cuda {cuda_mean:?}");
        for (a, b) in cpu_mean.iter().zip(&cuda_mean) {
            assert!(
                (a - b).abs() < tolerance * a.max(0.1),
                "{name}: mean losses of ten steps {cpu_mean:?} and {cuda_mean:?}"
            );
        }
        assert!(cuda_mean[4] < cuda_mean[0], "{name} learns: {cuda_mean:?}");
    }
}

#[test]
fn f16_training_follows_the_cpu() {
    emulated("f16_training_follows_the_cpu", &[], || {
        follows_the_cpu(&MODELS, HalfType::F16, WeightType::F32, 0.02);
    });
}

#[test]
fn bf16_training_follows_the_cpu() {
    emulated("bf16_training_follows_the_cpu", &[], || {
        follows_the_cpu(&MODELS, HalfType::Bf16, WeightType::F32, 0.08);
    });
}

#[test]
fn training_with_matrices_in_8_and_4_bits_follows_the_cpu() {
    let name = "training_with_matrices_in_8_and_4_bits_follows_the_cpu";
    emulated(name, &[], || {
        follows_the_cpu(&MODELS[..2], HalfType::F16, WeightType::Int8, 0.01);
        follows_the_cpu(&MODELS[2..], HalfType::Bf16, WeightType::Nf4, 0.02);
    });
}

/// Twelve steps of full fine-tuning on both backends; every gradient of the first within rounding of the CPU's. With
/// ReLU that is the most: rounding flips a slope where a sum is near 0.
fn full_follows_the_cpu(half: HalfType, tolerance: f64) {
    for (name, kind, pooling, outputs) in MODELS {
        let cpu = CpuBackend::new(WeightType::F32);
        let mut on_cpu = Run::full(name, kind, pooling, outputs, cpu);
        let mut on_cuda = Run::full(name, kind, pooling, outputs, cuda(half));
        for step in 0..12 {
            let (a, b) = (on_cpu.step(), on_cuda.step());
            assert!(b.is_finite(), "{name} step {step}: {b:?}");
            let off = f64::from((a.loss - b.loss).abs());
            assert!(off < tolerance, "{name} step {step}: {a:?} and {b:?}");
            if step > 0 {
                continue;
            }
            let read = |range| {
                let ours = on_cuda.backend.read_params(Slot::Gradient, range).unwrap();
                (ours, on_cpu.backend.read_params(Slot::Gradient, range).unwrap())
            };
            let norm = |v: &[f32]| v.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            let whole = norm(&read(on_cpu.model.params.trained_range()).1);
            for param in on_cpu.model.params.trained() {
                let (ours, theirs) = read(param.range);
                let difference: Vec<f32> = ours.iter().zip(&theirs).map(|(a, b)| a - b).collect();
                let off = norm(&difference);
                assert!(
                    off < tolerance * (norm(&theirs) + 0.02 * whole),
                    "{name} {} ({half}): off by {off:.2e} of {:.2e}",
                    param.name,
                    norm(&theirs)
                );
            }
        }
    }
}

#[test]
fn full_training_follows_the_cpu_in_f16() {
    emulated("full_training_follows_the_cpu_in_f16", &[], || {
        full_follows_the_cpu(HalfType::F16, 0.06);
    });
}

#[test]
fn full_training_follows_the_cpu_in_bf16() {
    emulated("full_training_follows_the_cpu_in_bf16", &[], || {
        full_follows_the_cpu(HalfType::Bf16, 0.1);
    });
}

#[test]
fn full_training_repeats_to_the_bit() {
    emulated("full_training_repeats_to_the_bit", &[], || {
        let state = || {
            let (name, kind, pooling, outputs) = MODELS[0];
            let mut run = Run::full(name, kind, pooling, outputs, cuda(HalfType::Bf16));
            for _ in 0..4 {
                run.step();
            }
            run.state()
        };
        for (a, b) in state().iter().zip(&state()) {
            assert!(bits(a) == bits(b));
        }
    });
}

#[test]
fn training_repeats_and_resumes_to_the_bit_in_any_order_of_warps() {
    let name = "training_repeats_and_resumes_to_the_bit_in_any_order_of_warps";
    let run = || {
        let (model, kind, pooling, outputs) = MODELS[0];
        // A scale that changes within the test: it belongs to the state.
        let options = CudaOptions {
            loss_scale: LossScale::Dynamic { initial: 1024.0, growth_interval: 2 },
            ..CudaOptions::new(0, HalfType::F16)
        };
        let new = || {
            let backend = CudaBackend::new(options).unwrap_or_else(|e| panic!("{e:#}"));
            Run::new(model, kind, pooling, outputs, backend)
        };
        let mut whole = new();
        let mut resumed = new();
        for step in 0..6 {
            whole.step();
            if step == 2 {
                let range = whole.model.params.trained_range();
                for (slot, values) in
                    [Slot::Value, Slot::Moment1, Slot::Moment2].into_iter().zip(whole.state())
                {
                    resumed.backend.write_params(slot, range, &values).unwrap();
                }
                resumed.step = whole.step;
                let scaling = whole.backend.loss_scaling().unwrap().unwrap();
                assert_eq!((scaling.scale, scaling.good_steps), (2048.0, 1));
                resumed.backend.set_loss_scaling(scaling).unwrap();
            }
        }
        for _ in 3..6 {
            resumed.step();
        }
        let state = whole.state();
        for (a, b) in state.iter().zip(&resumed.state()) {
            assert_eq!(bits(a), bits(b), "resumed and uninterrupted differ");
        }
        assert_eq!(whole.backend.loss_scaling().unwrap(), resumed.backend.loss_scaling().unwrap());
        let digest = state
            .iter()
            .flatten()
            .fold(0u64, |h, v| (h ^ u64::from(v.to_bits())).wrapping_mul(0x100_0000_01B3));
        println!("state {digest:016x}");
    };
    // The same number must come out of every schedule.
    let mut digests = Vec::new();
    for seed in ["1", "2", "3"] {
        // In the child, which has one schedule, once is enough.
        let Some(said) = emulated(name, &[("CUDA_EMULATOR_SEED", seed)], run) else {
            return;
        };
        let digest = said.split_once("state ").map(|(_, rest)| rest.lines().next());
        digests.push(digest.flatten().map(str::to_owned));
    }
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
}

/// f16 with a scale that overflows: steps are skipped until the scale fits, and nothing changes meanwhile.
#[test]
fn an_overflowing_loss_scale_comes_down_by_itself() {
    emulated("an_overflowing_loss_scale_comes_down_by_itself", &[], || {
        let (model, kind, pooling, outputs) = MODELS[0];
        let options = CudaOptions {
            loss_scale: LossScale::Dynamic { initial: 16_777_216.0, growth_interval: 2_000 },
            ..CudaOptions::new(0, HalfType::F16)
        };
        let backend = CudaBackend::new(options).unwrap_or_else(|e| panic!("{e:#}"));
        let mut run = Run::new(model, kind, pooling, outputs, backend);
        let before = run.state();
        let first = run.step();
        assert!(first.overflow && !first.is_finite(), "{first:?}");
        let scaling = run.backend.loss_scaling().unwrap().unwrap();
        assert_eq!(scaling.scale, 8_388_608.0);
        for (a, b) in before.iter().zip(&run.state()) {
            assert_eq!(bits(a), bits(b), "a skipped step changes nothing");
        }
        let steps = (1..25).find(|_| run.step().is_finite());
        assert!(steps.is_some(), "the scale never came down to where it fits");
    });
}

/// Batches of several sizes and kinds of step, recorded and not; the reports read at once and one step late.
#[test]
fn recorded_steps_give_the_bits_of_issued_ones() {
    emulated("recorded_steps_give_the_bits_of_issued_ones", &[], || {
        let (model, kind, pooling, outputs) = MODELS[0];
        let new = |graphs| {
            let options = CudaOptions { graphs, ..CudaOptions::new(0, HalfType::Bf16) };
            let backend = CudaBackend::new(options).unwrap_or_else(|e| panic!("{e:#}"));
            Run::new(model, kind, pooling, outputs, backend)
        };
        let (mut issued, mut recorded) = (new(false), new(true));
        let expected: Vec<StepReport> = (0..STEPS).map(|_| issued.step()).collect();
        let mut reports = Vec::new();
        let mut before = None;
        for _ in 0..STEPS {
            let pending = recorded.issue();
            reports.extend(before.map(|b| recorded.backend.wait_report(b).unwrap()));
            before = Some(pending);
        }
        reports.extend(before.map(|b| recorded.backend.wait_report(b).unwrap()));
        assert_eq!(reports, expected);
        for (a, b) in issued.state().iter().zip(&recorded.state()) {
            assert_eq!(bits(a), bits(b));
        }
        assert_eq!(issued.backend.recordings(), 0);
        let recordings = recorded.backend.recordings();
        assert!((3..STEPS).contains(&recordings), "{recordings} recordings for {STEPS} steps");
    });
}

/// Steps of the test above: one batch and two in turn.
const STEPS: usize = 16;

/// The gradient of six batches, each announced while the steps before it are queued, or after they are done.
#[test]
fn a_batch_goes_up_beside_the_step_before_it_and_changes_no_bit_of_it() {
    let name = "a_batch_goes_up_beside_the_step_before_it_and_changes_no_bit_of_it";
    let said = emulated(name, &[("CUDA_EMULATOR_TRACE", "1")], || {
        let (model, kind, pooling, outputs) = MODELS[0];
        let gradient = |wait: bool| {
            let mut run = Run::new(model, kind, pooling, outputs, cuda(HalfType::Bf16));
            let whole = run.model.params.trained_range();
            for index in 0..6 {
                let batch = batch(&run.model.config, kind, outputs, index);
                let key = DropoutKey { seed: 5, step: index };
                run.backend.set_batch(&batch, key).unwrap();
                let span = Span { first: index == 0, last: false };
                run.backend.run(&run.program, span, ONE).unwrap();
                if wait {
                    run.backend.read_params(Slot::Gradient, whole).unwrap();
                }
            }
            if !wait {
                eprintln!("all is queued");
            }
            run.backend.read_params(Slot::Gradient, whole).unwrap()
        };
        let ahead = gradient(false);
        assert!(ahead.iter().any(|&x| x != 0.0));
        assert_eq!(bits(&ahead), bits(&gradient(true)));
    });
    let Some(said) = said else { return };
    // While the host queued six steps it had to wait for page-locked memory, so uploads had to run: on a stream of
    // their own, the later ones before the steps ahead of them.
    let (queued, _) = said.split_once("all is queued").unwrap();
    let runs: Vec<(&str, &str)> = queued
        .lines()
        .filter_map(|line| line.split_once("stream ")?.1.split_once(" runs: "))
        .collect();
    let first_step = runs.iter().position(|(_, what)| what.starts_with("graph"));
    let before = &runs[..first_step.unwrap_or(runs.len())];
    let taken = before
        .iter()
        .rposition(|(_, what)| what.ends_with("device to device"))
        .expect("the first batch was taken");
    let upload = before[taken..]
        .iter()
        .find(|(_, what)| what.ends_with("host to device"))
        .expect("the second batch went up before the first step");
    assert_ne!(upload.0, before[taken].0, "uploads have a stream of their own");
}

/// A loss that is not averaged, and no optimizer step.
const ONE: Numbers = Numbers { weight: 1.0, update: None };

#[test]
fn a_replay_refuses_what_an_issued_step_refuses() {
    emulated("a_replay_refuses_what_an_issued_step_refuses", &[], || {
        let (model, kind, pooling, outputs) = MODELS[0];
        let mut run = Run::new(model, kind, pooling, outputs, cuda(HalfType::Bf16));
        let mut batch = batch(&run.model.config, kind, outputs, 0);
        run.backend.set_batch(&batch, DropoutKey::default()).unwrap();
        let part = Span { first: true, last: false };
        let said = |failed: anyhow::Result<()>| format!("{:#}", failed.unwrap_err());
        let small = Limits { tokens: batch.tokens() - 1, ..LIMITS };
        let element = run.backend.activation_bytes();
        let small = run.model.program(small, element, Some(Saving::KEEP));
        let beyond = said(run.backend.run(&small, part, ONE));
        assert!(beyond.contains("for a program of"), "{beyond}");
        // The errors leave the backend as it was.
        run.backend.run(&run.program, part, ONE).unwrap();
        run.backend.run(&run.program, part, ONE).unwrap();
        assert_eq!(run.backend.recordings(), 1);
        let unsaid = said(run.backend.run(&run.program, Span::WHOLE, ONE));
        assert!(unsaid.contains("Update"), "{unsaid}");
        if let Labels::Classes(classes) = &mut batch.labels {
            classes[0] = 99;
        }
        run.backend.set_batch(&batch, DropoutKey::default()).unwrap();
        let wrong = said(run.backend.run(&run.program, part, ONE));
        assert!(wrong.contains("label 99"), "{wrong}");
    });
}

#[test]
fn matrices_in_8_and_4_bits_take_what_was_planned_and_less_than_16() {
    let name = "matrices_in_8_and_4_bits_take_what_was_planned_and_less_than_16";
    emulated(name, &[], || {
        for (model, kind, pooling, outputs) in MODELS {
            let of = |weights| {
                let backend = cuda_with(HalfType::Bf16, weights);
                let run = Run::new(model, kind, pooling, outputs, backend);
                let memory = run.model.memory(&[&run.program]);
                let planned = DeviceKind::Cuda { weights }.footprint(&run.model.matrices, &memory);
                assert_eq!(planned, run.backend.allocated(), "{model} {weights:?}");
                planned.weights
            };
            let bytes =
                [WeightType::F32, WeightType::F16, WeightType::Int8, WeightType::Nf4].map(of);
            assert_eq!(bytes[0], bytes[1], "{model}: 32 bits are kept in 16");
            assert!(bytes[1..].is_sorted_by(|a, b| a > b), "{model}: {bytes:?}");
        }
    });
}

#[test]
fn training_with_matrices_in_4_bits_resumes_to_the_bit() {
    let name = "training_with_matrices_in_4_bits_resumes_to_the_bit";
    emulated(name, &[], || {
        let (model, kind, pooling, outputs) = MODELS[0];
        let new = || {
            let backend = cuda_with(HalfType::Bf16, WeightType::Nf4);
            Run::new(model, kind, pooling, outputs, backend)
        };
        let (mut whole, mut resumed) = (new(), new());
        for _ in 0..3 {
            whole.step();
        }
        let range = whole.model.params.trained_range();
        let slots = [Slot::Value, Slot::Moment1, Slot::Moment2];
        for (slot, values) in slots.into_iter().zip(whole.state()) {
            resumed.backend.write_params(slot, range, &values).unwrap();
        }
        resumed.step = whole.step;
        for _ in 3..6 {
            assert_eq!(whole.step(), resumed.step());
        }
        for (a, b) in whole.state().iter().zip(&resumed.state()) {
            assert_eq!(bits(a), bits(b), "resumed and uninterrupted differ");
        }
    });
}

/// What is made again from an x̂ of 16 bits differs by its rounding, what is kept in codes by theirs; and the device
/// holds to the byte what was planned without one.
#[test]
fn every_way_of_saving_has_the_gradients_of_keep_and_takes_what_was_planned() {
    let name = "every_way_of_saving_has_the_gradients_of_keep_and_takes_what_was_planned";
    emulated(name, &[], || {
        for (model, kind, pooling, outputs) in [MODELS[0], MODELS[3]] {
            let gradients = |saving: Saving| -> Vec<f32> {
                let backend = cuda(HalfType::F16);
                let mut run =
                    Run::with(model, kind, pooling, outputs, backend, Training::Biases(saving));
                run.step();
                let memory = run.model.memory(&[&run.program]);
                let weights = WeightType::F16;
                let planned = DeviceKind::Cuda { weights }.footprint(&run.model.matrices, &memory);
                assert_eq!(planned, run.backend.allocated(), "{model} {saving}");
                let range = run.model.params.trained_range();
                run.backend.read_params(Slot::Gradient, range).unwrap()
            };
            let keep = gradients(Saving::KEEP);
            let norm = |g: &mut dyn Iterator<Item = f32>| g.map(|x| x * x).sum::<f32>().sqrt();
            let length = norm(&mut keep.iter().copied());
            for (saving, bound) in [
                ("recompute-qkv", 5e-3),
                ("recompute-ffn", 5e-3),
                ("recompute", 5e-3),
                ("checkpoint", 0.0),
                ("gelu8", 1e-2),
                ("gelu4", 8e-2),
                ("recompute-qkv,gelu8", 1e-2),
                ("xhat8", 2e-3),
                ("gelu8,xhat8", 2e-3),
            ] {
                let other = gradients(saving.parse().unwrap());
                let error = norm(&mut other.iter().zip(&keep).map(|(a, b)| a - b)) / length;
                println!("{model} {saving}: {error:.1e}");
                assert!(error <= bound, "{model} {saving}: relative error {error:.2e}");
            }
        }
    });
}
