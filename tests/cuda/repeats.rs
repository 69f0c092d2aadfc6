//! Runs that repeat, resume and recover, to the bit.

use super::*;
use bitfit::backend::cuda::ring::RingSettings;

#[test]
fn full_training_repeats_to_the_bit() {
    emulated("repeats::full_training_repeats_to_the_bit", &[], || {
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
    let name = "repeats::training_repeats_and_resumes_to_the_bit_in_any_order_of_warps";
    repeats_and_resumes(name, MODELS[0], &[]);
}

#[test]
fn training_on_hopper_repeats_and_resumes_to_the_bit_in_any_order_of_warps() {
    let name = "repeats::training_on_hopper_repeats_and_resumes_to_the_bit_in_any_order_of_warps";
    repeats_and_resumes(name, MODELS[0], &[HOPPER]);
}

/// In recordings, where products may begin early. Batches do not fill the rows that plain maps read.
#[test]
fn training_on_hopper_gives_the_same_bits_however_products_are_fed_and_launched() {
    let name =
        "repeats::training_on_hopper_gives_the_same_bits_however_products_are_fed_and_launched";
    emulated(name, &[HOPPER], || {
        let state = |ring: &str| {
            let ring = RingSettings::of(ring).unwrap();
            let (model, kind, pooling, outputs) = MODELS[0];
            let backend = cuda(HalfType::Bf16).with_ring(ring);
            let mut run = Run::new(model, kind, pooling, outputs, backend);
            for _ in 0..4 {
                run.step();
            }
            run.state().map(|values| bits(&values))
        };
        let usual = state("launches=overlapping");
        for ring in ["stages=3", "maps=plain", "stages=2,maps=plain,launches=ordered"] {
            assert!(state(ring) == usual, "{ring}");
        }
    });
}

#[test]
fn training_of_masked_words_repeats_and_resumes_to_the_bit_in_any_order_of_warps() {
    let name =
        "repeats::training_of_masked_words_repeats_and_resumes_to_the_bit_in_any_order_of_warps";
    repeats_and_resumes(name, WORDS, &[]);
}

fn repeats_and_resumes(
    name: &str,
    (model, kind, pooling, outputs): Family,
    device: &[(&str, &str)],
) {
    let run = || {
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
    // Every schedule must give the same number.
    let mut digests = Vec::new();
    for seed in ["1", "2", "3"] {
        // In the child, which has one schedule, once is enough.
        let environment = [device, &[("CUDA_EMULATOR_SEED", seed)]].concat();
        let Some(said) = emulated(name, &environment, run) else {
            return;
        };
        let digest = said.split_once("state ").map(|(_, rest)| rest.lines().next());
        digests.push(digest.flatten().map(str::to_owned));
    }
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]), "{digests:?}");
}

/// f16 with an overflowing scale: steps are skipped until the scale fits, and nothing changes meanwhile.
#[test]
fn an_overflowing_loss_scale_comes_down_by_itself() {
    emulated("repeats::an_overflowing_loss_scale_comes_down_by_itself", &[], || {
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

#[test]
fn training_with_matrices_in_4_bits_resumes_to_the_bit() {
    let name = "repeats::training_with_matrices_in_4_bits_resumes_to_the_bit";
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
