//! Loss curves and gradients compared with the CPU's.

use super::*;

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
    emulated("follows::f16_training_follows_the_cpu", &[], || {
        follows_the_cpu(&MODELS, HalfType::F16, WeightType::F32, 0.02);
    });
}

#[test]
fn bf16_training_follows_the_cpu() {
    emulated("follows::bf16_training_follows_the_cpu", &[], || {
        follows_the_cpu(&MODELS, HalfType::Bf16, WeightType::F32, 0.08);
    });
}

#[test]
fn training_of_spans_follows_the_cpu() {
    emulated("follows::training_of_spans_follows_the_cpu", &[], || {
        follows_the_cpu(&SPANS, HalfType::F16, WeightType::F32, 0.02);
        follows_the_cpu(&SPANS, HalfType::Bf16, WeightType::F32, 0.08);
    });
}

#[test]
fn training_of_masked_words_follows_the_cpu() {
    emulated("follows::training_of_masked_words_follows_the_cpu", &[], || {
        follows_the_cpu(&[WORDS], HalfType::F16, WeightType::F32, 0.02);
        follows_the_cpu(&[WORDS], HalfType::Bf16, WeightType::F32, 0.08);
        follows_the_cpu(&[WORDS], HalfType::F16, WeightType::Int8, 0.01);
        follows_the_cpu(&[WORDS], HalfType::Bf16, WeightType::Nf4, 0.02);
    });
}

#[test]
fn training_with_matrices_in_8_and_4_bits_follows_the_cpu() {
    let name = "follows::training_with_matrices_in_8_and_4_bits_follows_the_cpu";
    emulated(name, &[], || {
        follows_the_cpu(&MODELS[..2], HalfType::F16, WeightType::Int8, 0.01);
        follows_the_cpu(&MODELS[2..], HalfType::Bf16, WeightType::Nf4, 0.02);
    });
}

/// With the products specific to compute capability 9.0, in each type of storage.
#[test]
fn training_on_hopper_follows_the_cpu() {
    emulated("follows::training_on_hopper_follows_the_cpu", &[HOPPER], || {
        follows_the_cpu(&MODELS[..1], HalfType::F16, WeightType::F32, 0.02);
        follows_the_cpu(&MODELS[3..], HalfType::Bf16, WeightType::F32, 0.08);
        follows_the_cpu(&MODELS[1..2], HalfType::F16, WeightType::Int8, 0.01);
        follows_the_cpu(&MODELS[2..3], HalfType::Bf16, WeightType::Nf4, 0.02);
    });
}

/// Five steps on both backends; every gradient of the first is within rounding of the CPU's. With ReLU no more is
/// possible: rounding flips a slope if a sum is near 0.
fn every_gradient_follows_the_cpu(
    training: Training,
    half: HalfType,
    weights: WeightType,
    tolerance: f64,
) {
    for (name, kind, pooling, outputs) in MODELS {
        let cpu = CpuBackend::new(weights);
        let mut on_cpu = Run::with(name, kind, pooling, outputs, cpu, training);
        let on_cuda = cuda_with(half, weights);
        let mut on_cuda = Run::with(name, kind, pooling, outputs, on_cuda, training);
        for step in 0..5 {
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
    emulated("follows::full_training_follows_the_cpu_in_f16", &[], || {
        every_gradient_follows_the_cpu(Training::Everything, HalfType::F16, WeightType::F32, 0.06);
    });
}

#[test]
fn full_training_follows_the_cpu_in_bf16() {
    emulated("follows::full_training_follows_the_cpu_in_bf16", &[], || {
        every_gradient_follows_the_cpu(Training::Everything, HalfType::Bf16, WeightType::F32, 0.1);
    });
}

#[test]
fn training_of_layer_norms_follows_the_cpu() {
    emulated("follows::training_of_layer_norms_follows_the_cpu", &[], || {
        let keep = Training::LayerNorms(Saving::KEEP);
        every_gradient_follows_the_cpu(keep, HalfType::F16, WeightType::F32, 0.06);
        every_gradient_follows_the_cpu(keep, HalfType::Bf16, WeightType::Int8, 0.1);
        let xhat8 = Training::LayerNorms("xhat8".parse().unwrap());
        every_gradient_follows_the_cpu(xhat8, HalfType::F16, WeightType::Nf4, 0.06);
    });
}

#[test]
fn training_of_factors_follows_the_cpu() {
    emulated("follows::training_of_factors_follows_the_cpu", &[], || {
        let keep = Training::Factors(Saving::KEEP);
        every_gradient_follows_the_cpu(keep, HalfType::F16, WeightType::F32, 0.06);
        every_gradient_follows_the_cpu(keep, HalfType::Bf16, WeightType::Int8, 0.1);
        let lossy = Training::Factors("gelu8,xhat8".parse().unwrap());
        every_gradient_follows_the_cpu(lossy, HalfType::F16, WeightType::Nf4, 0.06);
    });
}

#[test]
fn training_of_low_rank_follows_the_cpu() {
    emulated("follows::training_of_low_rank_follows_the_cpu", &[], || {
        let keep = Training::LowRank(Saving::KEEP);
        every_gradient_follows_the_cpu(keep, HalfType::F16, WeightType::F32, 0.06);
        every_gradient_follows_the_cpu(keep, HalfType::Bf16, WeightType::Int8, 0.1);
        let again = Training::LowRank(Saving::RECOMPUTE);
        every_gradient_follows_the_cpu(again, HalfType::F16, WeightType::Nf4, 0.06);
    });
}

#[test]
fn training_of_single_values_follows_the_cpu() {
    emulated("follows::training_of_single_values_follows_the_cpu", &[], || {
        let keep = Training::Random(Saving::KEEP);
        every_gradient_follows_the_cpu(keep, HalfType::F16, WeightType::F32, 0.06);
        every_gradient_follows_the_cpu(keep, HalfType::Bf16, WeightType::Int8, 0.1);
        let again = Training::Random(Saving::RECOMPUTE);
        every_gradient_follows_the_cpu(again, HalfType::F16, WeightType::Nf4, 0.06);
        let lossy = Training::Rows("gelu8,xhat8".parse().unwrap());
        every_gradient_follows_the_cpu(lossy, HalfType::F16, WeightType::F32, 0.06);
    });
}
