//! Two encoders that the product does not have, written with the public builder: the passes and the backends know
//! nothing about BERT. With every way of saving, their gradients equal those of keeping everything, on both backends,
//! and agree with finite differences.

mod alone;
#[path = "../ops/emulated.rs"]
mod emulated;
mod parts;
mod pre_norm;
mod shared;

use bitfit::backend::cpu::CpuBackend;
use bitfit::backend::cuda::{CudaBackend, CudaOptions, HalfType};
use bitfit::backend::{Backend, DropoutKey, Memory, Slot, WeightType};
use bitfit::program::{List, Numbers, ParamRange, Program, Saving, Span};
use bitfit::settings::saving::WAYS;
use emulated::emulated;
use parts::{Parts, batch};
use std::sync::Arc;

/// Registers the encoder's matrices and parameters and says how to write its list.
type Encoder = fn(&mut Parts<'_>) -> Box<dyn Fn(Saving) -> List>;

const ENCODERS: [(&str, Encoder); 2] =
    [("pre-norm", pre_norm::encoder), ("shared", shared::encoder)];

/// An encoder on a backend, ready to run in one way of saving.
struct Training<B> {
    backend: B,
    program: Program,
    trained: ParamRange,
}

impl<B: Backend> Training<B> {
    fn new(mut backend: B, encoder: Encoder, saving: Saving, dropout: f32) -> Self {
        let mut parts = Parts::new(&mut backend, dropout);
        let write = encoder(&mut parts);
        let (values, trained) = parts.parameters();
        let list = passes(write(saving), saving, trained.len);
        let program = list.place(batch().limits(), backend.kind().element_bytes());
        program.verify().unwrap();
        let memory = Memory::of(&[&program], (values.len(), trained.len));
        backend.allocate(memory).unwrap();
        let whole = ParamRange { offset: 0, len: values.len() };
        backend.write_params(Slot::Value, whole, &values).unwrap();
        Self { backend, program, trained }
    }

    /// The loss and the gradient of everything that trains.
    fn run(&mut self) -> (f64, Vec<f32>) {
        let key = DropoutKey::new(3, 4);
        self.backend.set_batch(&batch(), key).unwrap();
        let span = Span::micro_batch(true, false);
        let numbers = Numbers { weight: 1.0 / batch().sequences() as f32, update: None };
        self.backend.run(&self.program, span, numbers).unwrap();
        let loss = f64::from(self.backend.step_report().unwrap().loss);
        let gradient = self.backend.read_params(Slot::Gradient, self.trained);
        (loss, gradient.unwrap())
    }
}

fn passes(mut list: List, saving: Saving, trainable: usize) -> Arc<List> {
    list.freeze(trainable);
    list.again(saving);
    list.prune();
    Arc::new(list)
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|x| x * x).sum::<f64>().sqrt()
}

/// ‖a − b‖ / ‖b‖
fn off(a: &[f32], b: &[f32]) -> f64 {
    let difference = a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b));
    norm(difference) / norm(b.iter().map(|&b| f64::from(b)))
}

#[test]
fn their_gradients_agree_with_finite_differences() {
    for (name, encoder) in ENCODERS {
        for dropout in [0.0, 0.2] {
            let cpu = CpuBackend::new(WeightType::F32);
            let mut training = Training::new(cpu, encoder, Saving::KEEP, dropout);
            let (_, gradient) = training.run();
            let whole = training.trained;
            let values = training.backend.read_params(Slot::Value, whole).unwrap();
            let mut nothing = 0;
            // Along the gradient of a stretch of parameters, so that each kind of them counts.
            for (i, stretch) in gradient.chunks(32).enumerate() {
                let length = norm(stretch.iter().map(|&x| f64::from(x)));
                // Only the key's bias has no gradient; a stretch with fewer than 32 values is not all key.
                assert!(length > 1e-4 || stretch.iter().all(|&g| g == 0.0), "{name}: {length:e}");
                if length < 1e-3 {
                    nothing += stretch.len();
                    continue;
                }
                let mut at = |sign: f64| {
                    let mut moved = values.clone();
                    for (x, g) in moved[i * 32..].iter_mut().zip(stretch) {
                        *x = (f64::from(*x) + sign * 4e-3 * f64::from(*g) / length) as f32;
                    }
                    training.backend.write_params(Slot::Value, whole, &moved).unwrap();
                    training.run().0
                };
                let slope = (at(1.0) - at(-1.0)) / 8e-3;
                let error = (slope - length).abs();
                assert!(
                    error < 1e-2 * length + 2e-4,
                    "{name}, dropout {dropout}, parameters from {}: slope {slope:.5}, gradient {length:.5}",
                    32 * i
                );
            }
            // A key bias per block, as whole stretches.
            let keys = parts::BLOCKS * parts::HIDDEN;
            assert!(nothing <= keys, "{name}: {nothing} parameters without a gradient");
        }
    }
}

#[test]
fn an_operation_writes_what_it_says_and_reads_nothing_that_is_dead() {
    for (name, encoder) in ENCODERS {
        for (_, saving) in WAYS {
            let cpu = CpuBackend::new(WeightType::F32);
            let mut training = Training::new(cpu, encoder, saving, 0.2);
            let want = training.run().1;
            assert_eq!(alone::gradient(&mut training), want, "{name} {saving}");
        }
    }
}

#[test]
fn a_cuda_operation_writes_what_it_says_and_reads_nothing_that_is_dead() {
    let name = "a_cuda_operation_writes_what_it_says_and_reads_nothing_that_is_dead";
    emulated(name, &[], || {
        for (name, encoder) in ENCODERS {
            for saving in [Saving::KEEP, Saving::RECOMPUTE, Saving::CHECKPOINT] {
                let options = CudaOptions::new(0, HalfType::F16);
                let cuda = CudaBackend::new(options).unwrap_or_else(|e| panic!("{e:#}"));
                let mut training = Training::new(cuda, encoder, saving, 0.2);
                let want = training.run().1;
                assert_eq!(alone::gradient(&mut training), want, "{name} {saving}");
            }
        }
    });
}

#[test]
fn every_way_of_saving_has_the_gradients_of_keep_and_takes_no_more_memory() {
    for (name, encoder) in ENCODERS {
        for dropout in [0.0, 0.2] {
            let of = |saving| {
                let cpu = CpuBackend::new(WeightType::F32);
                let mut training = Training::new(cpu, encoder, saving, dropout);
                let saved: usize = training.program.saved().map(|(_, region)| region.len).sum();
                (training.run().1, saved)
            };
            let (keep, most) = of(Saving::KEEP);
            for (_, saving) in WAYS {
                let (gradient, saved) = of(saving);
                if saving.is_exact() {
                    assert_eq!(gradient, keep, "{name} {saving}, dropout {dropout}");
                } else {
                    let off = off(&gradient, &keep);
                    assert!(off > 0.0 && off < 0.1, "{name} {saving}: off by {off:.1e}");
                }
                assert!(
                    saved < most || saving == Saving::KEEP,
                    "{name} {saving}: {saved} bytes, {most} with everything kept"
                );
            }
        }
    }
}

#[test]
fn cuda_has_the_gradients_of_the_cpu_in_every_way_of_saving() {
    let name = "cuda_has_the_gradients_of_the_cpu_in_every_way_of_saving";
    emulated(name, &[], || {
        for (name, encoder) in ENCODERS {
            let cpu = CpuBackend::new(WeightType::F32);
            let (_, want) = Training::new(cpu, encoder, Saving::KEEP, 0.2).run();
            for (_, saving) in WAYS {
                let options = CudaOptions::new(0, HalfType::F16);
                let cuda = CudaBackend::new(options).unwrap_or_else(|e| panic!("{e:#}"));
                let (_, gradient) = Training::new(cuda, encoder, saving, 0.2).run();
                let off = off(&gradient, &want);
                let bound = if saving.is_exact() { 1e-2 } else { 0.1 };
                assert!(off < bound, "{name} {saving}: off by {off:.1e}");
            }
        }
    });
}
