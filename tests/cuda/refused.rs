//! What the device refuses to take.

use super::*;
use bitfit::backend::{MatrixKind, MatrixShape};
use bitfit::program::ParamRange;

#[test]
fn a_weight_beyond_the_range_of_the_type_is_refused_by_its_name() {
    emulated("refused::a_weight_beyond_the_range_of_the_type_is_refused_by_its_name", &[], || {
        let upload = |half, weights, value: f32| {
            let mut backend = cuda_with(half, weights);
            let (rows, cols) = (8, 64);
            let shape = MatrixShape { kind: MatrixKind::Linear, rows, cols, trains: false };
            let mut data = vec![0.5; rows * cols];
            data[70] = value;
            backend.upload("encoder.layer.3.output.dense.weight", shape, &data)
        };
        for weights in [WeightType::F16, WeightType::Int8, WeightType::Nf4] {
            // 65,510 would silently be rounded to 65,504, the largest f16.
            for value in [65_510.0, -70_000.0, f32::INFINITY, f32::NAN] {
                let said = format!("{:#}", upload(HalfType::F16, weights, value).unwrap_err());
                let names = "encoder.layer.3.output.dense.weight: element 70";
                assert!(said.contains(names) && said.contains("65504"), "{said}");
            }
            upload(HalfType::F16, weights, 65_504.0).unwrap();
            upload(HalfType::Bf16, weights, 70_000.0).unwrap();
        }
    });
}

#[test]
fn a_trained_matrix_does_not_take_what_its_copy_in_16_bits_cannot_hold() {
    let name = "refused::a_trained_matrix_does_not_take_what_its_copy_in_16_bits_cannot_hold";
    emulated(name, &[], || {
        let (model, kind, pooling, outputs) = MODELS[0];
        let mut run = Run::full(model, kind, pooling, outputs, cuda(HalfType::F16));
        let all = run.model.params.trained_range();
        let values = run.backend.read_params(Slot::Value, all).unwrap();
        // Some of the elements belong to matrices: each is refused, whatever part of the vector is written.
        let refusals: Vec<String> = (0..all.len)
            .step_by(997)
            .filter_map(|at| {
                let one = ParamRange { offset: all.offset + at, len: 1 };
                let refused = run.backend.write_params(Slot::Value, one, &[1e5]).err()?;
                Some(format!("{refused:#}"))
            })
            .collect();
        assert!(!refusals.is_empty());
        for said in refusals {
            assert!(said.contains("weight: element 0 is 100000, too large for f16"), "{said}");
        }
        run.backend.write_params(Slot::Value, all, &values).unwrap();
    });
}
