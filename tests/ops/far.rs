//! Batches of more blocks than a grid takes in its second and third direction (65,535), on the CUDA backend.

use crate::cases::{Case, Kind};
use crate::cuda::agree;
use crate::emulated::emulated;
use bitfit::backend::WeightType;
use bitfit::backend::cuda::HalfType;
use bitfit::program::PoolKind;

#[test]
fn more_sequences_and_rows_than_a_grid_takes_agree_with_the_oracle() {
    emulated("far::more_sequences_and_rows_than_a_grid_takes_agree_with_the_oracle", &[], || {
        // One sequence too many; eight tokens each are one block too many of eight rows.
        let case = |len: usize, kind| Case {
            lens: vec![len; 65_536],
            weights: WeightType::F16,
            p: 0.0,
            kind,
        };
        let (hidden, kind) = (8, PoolKind::Mean);
        let (heads, dim, lse) = (1, 8, true);
        let (inputs, outputs, tanh, trained, bias, dx) = (8, 2, false, true, true, true);
        agree(
            HalfType::F16,
            WeightType::F16,
            None,
            &[
                case(8, Kind::PoolBackward { hidden, kind }),
                case(1, Kind::Pool { hidden, kind }),
                case(1, Kind::Attention { heads, dim, lse }),
                case(1, Kind::DenseBackward { inputs, outputs, tanh, trained, bias, dx }),
            ],
        );
    });
}
