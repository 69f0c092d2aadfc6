//! The device's memory use equals the plan.

use super::*;

#[test]
fn matrices_in_8_and_4_bits_take_what_was_planned_and_less_than_16() {
    let name = "memory::matrices_in_8_and_4_bits_take_what_was_planned_and_less_than_16";
    emulated(name, &[], || {
        for (model, kind, pooling, outputs) in MODELS.into_iter().chain([WORDS]) {
            let of = |weights| {
                let backend = cuda_with(HalfType::Bf16, weights);
                let run = Run::new(model, kind, pooling, outputs, backend);
                let memory = run.model.memory(&[&run.program], 1);
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

/// Values recomputed from a 16-bit x̂ differ by its rounding, values kept in codes by theirs; and the device holds, to
/// the byte, what was planned without one.
#[test]
fn every_way_of_saving_has_the_gradients_of_keep_and_takes_what_was_planned() {
    let name = "memory::every_way_of_saving_has_the_gradients_of_keep_and_takes_what_was_planned";
    emulated(name, &[], || {
        for (model, kind, pooling, outputs) in [MODELS[0], MODELS[3], WORDS] {
            let gradients = |saving: Saving| -> Vec<f32> {
                let backend = cuda(HalfType::F16);
                let mut run =
                    Run::with(model, kind, pooling, outputs, backend, Training::Biases(saving));
                run.step();
                let memory = run.model.memory(&[&run.program], 1);
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
                ("xhat8", 5e-3),
                ("gelu8,xhat8", 5e-3),
            ] {
                let other = gradients(saving.parse().unwrap());
                let error = norm(&mut other.iter().zip(&keep).map(|(a, b)| a - b)) / length;
                println!("{model} {saving}: {error:.1e}");
                assert!(error <= bound, "{model} {saving}: relative error {error:.2e}");
            }
        }
    });
}

/// Freed memory is released when the device gets there, and may stay with the driver: neither counts as in use when the
/// next program looks for room.
#[test]
fn what_a_program_had_is_there_for_the_next() {
    let name = "memory::what_a_program_had_is_there_for_the_next";
    emulated_alone(name, &[("CUDA_EMULATOR_MEMORY", "64M")], || {
        let (model, kind, pooling, outputs) = MODELS[0];
        let mut run = Run::new(model, kind, pooling, outputs, cuda(HalfType::Bf16));
        let planned = run.model.memory(&[&run.program], 1);
        let most_of_it = bitfit::backend::Memory { arena: 40 << 20, ..planned };
        for _ in 0..3 {
            run.backend.allocate(most_of_it).unwrap();
        }
        let beyond = bitfit::backend::Memory { arena: 80 << 20, ..planned };
        let said = format!("{:#}", run.backend.allocate(beyond).unwrap_err());
        assert!(said.contains("out of memory") && said.contains("of 64 MiB are free"), "{said}");
    });
}
