//! AdamW, clipping and their refusal of non-finite values.

use bitfit::backend::cpu::CpuBackend;
use bitfit::backend::{Backend, Memory, Slot, StepReport, WeightType};
use bitfit::program::{AdamW, Limits, Numbers, Op, ParamRange, Span, Update, Zero};

const TRAINABLE: usize = 40_003;
const PARAMS: usize = TRAINABLE + 11;

fn cpu() -> CpuBackend {
    CpuBackend::new(WeightType::F32)
}

const LIMITS: Limits = Limits { tokens: 1, sequences: 1, max_len: 1 };

/// Runs one operation.
fn run<B: Backend>(backend: &mut B, op: impl Into<Op>, update: Option<AdamW>) {
    let numbers = Numbers { update, ..Numbers::NONE };
    let program = crate::rig::program(vec![op.into()], &[], LIMITS);
    backend.run(&program, Span::WHOLE, numbers).unwrap();
}

fn allocated<B: Backend>(mut backend: B) -> B {
    let limits = LIMITS;
    let (arena, params, trainable, widest) = (256, PARAMS, TRAINABLE, 1);
    let memory = Memory {
        arena,
        params,
        trainable,
        with_gradient: trainable,
        limits,
        widest,
        head_dim: 1,
        ..Memory::default()
    };
    backend.allocate(memory).unwrap();
    backend
}

fn all(len: usize) -> ParamRange {
    ParamRange { offset: 0, len }
}

const OP: AdamW = AdamW {
    lr: 1e-2,
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-6,
    weight_decay: 0.1,
    clip_norm: 1.0,
    step: 1,
};

#[test]
fn ten_steps_follow_the_definition_with_clipping_decay_and_bias_correction() {
    ten_steps(cpu);
}

/// Ten steps of torch.optim.AdamW's definition in f64, after torch.nn.utils.clip_grad_norm_.
pub fn ten_steps<B: Backend>(new: impl Fn() -> B) {
    for clip_norm in [0.0, 0.5] {
        let mut backend = allocated(new());
        let mut numbers = crate::rig::Numbers::new("adamw");
        let start = numbers.normal(PARAMS, 1.0);
        backend.write_params(Slot::Value, all(PARAMS), &start).unwrap();
        let mut value: Vec<f64> = start.iter().map(|&x| f64::from(x)).collect();
        let (mut m, mut v) = (vec![0.0; TRAINABLE], vec![0.0; TRAINABLE]);
        for step in 1..=10 {
            let gradient = numbers.normal(TRAINABLE, if step % 2 == 0 { 1e-4 } else { 1.0 });
            backend.write_params(Slot::Gradient, all(TRAINABLE), &gradient).unwrap();
            let op = AdamW { step, clip_norm, ..OP };
            run(&mut backend, Update {}, Some(op));
            let norm = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
            let report = backend.step_report().unwrap();
            assert!((f64::from(report.grad_norm) / norm - 1.0).abs() < 1e-6);
            let clip =
                if clip_norm > 0.0 { (f64::from(clip_norm) / (norm + 1e-6)).min(1.0) } else { 1.0 };
            for i in 0..TRAINABLE {
                let g = f64::from(gradient[i]) * clip;
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                let m_hat = m[i] / (1.0 - 0.9f64.powi(step as i32));
                let v_hat = v[i] / (1.0 - 0.999f64.powi(step as i32));
                value[i] -= f64::from(OP.lr) * f64::from(OP.weight_decay) * value[i];
                value[i] -= f64::from(OP.lr) * m_hat / (v_hat.sqrt() + 1e-6);
            }
        }
        for (slot, want) in [(Slot::Value, &value), (Slot::Moment1, &m), (Slot::Moment2, &v)] {
            let got = backend.read_params(slot, all(want.len())).unwrap();
            assert!(crate::error(&got, want) < 2e-6, "{slot:?} {}", crate::error(&got, want));
        }
        let frozen = ParamRange { offset: TRAINABLE, len: PARAMS - TRAINABLE };
        assert_eq!(backend.read_params(Slot::Value, frozen).unwrap(), start[TRAINABLE..]);
    }
}

#[test]
fn a_step_whose_gradient_is_not_finite_changes_nothing_and_says_so() {
    refuses_what_is_not_finite(cpu);
}

pub fn refuses_what_is_not_finite<B: Backend>(new: impl Fn() -> B) {
    for poison in [f32::NAN, f32::INFINITY, 3e38] {
        let mut backend = allocated(new());
        backend.write_params(Slot::Value, all(PARAMS), &vec![1.5; PARAMS]).unwrap();
        backend.write_params(Slot::Moment1, all(TRAINABLE), &vec![0.25; TRAINABLE]).unwrap();
        let mut gradient = vec![0.1; TRAINABLE];
        // Two large ones: their norm overflows f32 though each is finite.
        gradient[TRAINABLE - 1] = poison;
        gradient[0] = poison;
        backend.write_params(Slot::Gradient, all(TRAINABLE), &gradient).unwrap();
        run(&mut backend, Update {}, Some(OP));
        assert!(!backend.step_report().unwrap().is_finite());
        assert!(backend.read_params(Slot::Value, all(PARAMS)).unwrap().iter().all(|&x| x == 1.5));
        let moments = backend.read_params(Slot::Moment1, all(TRAINABLE)).unwrap();
        assert!(moments.iter().all(|&x| x == 0.25));
    }
}

#[test]
fn zeroing_gradients_also_forgets_the_loss() {
    zeroing(cpu);
}

pub fn zeroing<B: Backend>(new: impl Fn() -> B) {
    let mut backend = allocated(new());
    backend.write_params(Slot::Gradient, all(TRAINABLE), &vec![1.0; TRAINABLE]).unwrap();
    run(&mut backend, Update {}, Some(OP));
    run(&mut backend, Zero {}, None);
    let report = backend.step_report().unwrap();
    assert_eq!(report, StepReport { loss: 0.0, grad_norm: 0.0, overflow: false });
    assert!(backend.read_params(Slot::Gradient, all(TRAINABLE)).unwrap().iter().all(|&g| g == 0.0));
}
