//! Batches beyond a grid's block limits, on the CUDA backend: more than its second and third dimensions allow (65,535),
//! and more row tiles than a device of few multiprocessors has blocks that sum columns.

use crate::cases::{Case, Kind};
use crate::cuda::agree;
use crate::emulated::emulated;
use bitfit::backend::WeightType;
use bitfit::backend::cuda::HalfType;
use bitfit::program::{PoolKind, Rows, Storage};

#[test]
fn more_sequences_and_rows_than_a_grid_takes_agree_with_the_oracle() {
    emulated("far::more_sequences_and_rows_than_a_grid_takes_agree_with_the_oracle", &[], || {
        // One sequence too many; with eight tokens each, one block of eight rows too many.
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
                case(
                    1,
                    Kind::DenseBackward {
                        rows: Rows::Sequences,
                        stored: Storage::F32,
                        inputs,
                        outputs,
                        tanh,
                        trained,
                        bias,
                        dx,
                    },
                ),
            ],
        );
    });
}

#[test]
fn more_tiles_than_summing_blocks_agree_with_the_oracle() {
    let name = "far::more_tiles_than_summing_blocks_agree_with_the_oracle";
    emulated(name, &[("CUDA_EMULATOR_SM_COUNT", "1")], || {
        let mut cases = Vec::new();
        // Two blocks of 32 rows, and one row beyond them; then several rounds.
        for lens in [&[64][..], &[60, 5], &[100, 3, 206]] {
            let mut add = |kind| {
                cases.push(Case { lens: lens.to_vec(), weights: WeightType::F16, p: 0.1, kind });
            };
            let (hidden, sums, branch) = (264, true, true);
            for stored in [Storage::Activation, Storage::XHat8] {
                add(Kind::ResidualNormBackward { hidden, stored, sums, branch });
            }
            add(Kind::StreamNormBackward { hidden });
            for types in [1, 2] {
                add(Kind::EmbedBackward { hidden, vocab: 17, types, tables: true });
            }
        }
        for half in [HalfType::F16, HalfType::Bf16] {
            agree(half, WeightType::F16, None, &cases);
        }
    });
}
