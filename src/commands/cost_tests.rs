use super::*;
use crate::methods::Trains;
use crate::model::config::ModelConfig;
use crate::model::load::{TaskSpec, outline};
use crate::program::{ElementBytes, Limits, Portion, Saving};
use crate::settings::lora::Lora;

const HIDDEN: u64 = 64;
const LIMITS: Limits = Limits { tokens: 64, sequences: 4, max_len: 16 };

/// The costs of the operations of that name in a step with elements of two bytes; a vocabulary of 40 tokens.
fn costs(name: &str, pooling: PoolKind, trains: Trains) -> Vec<Cost> {
    let config = r#"{"model_type": "bert", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 1,
                     "intermediate_size": 128, "vocab_size": 40}"#;
    // A head on masked words has an output per token of the vocabulary.
    let outputs = if matches!(pooling, PoolKind::Labelled(_)) { 40 } else { 2 };
    let spec = TaskSpec { pooling, outputs, ..TaskSpec::of_any_task(trains, 0) };
    let model = outline(&ModelConfig::parse(config).unwrap(), &spec).unwrap();
    let program = model.program(LIMITS, ElementBytes::all(2), Some(Saving::KEEP));
    let lines = lines(&program, &model.matrices);
    let found: Vec<Cost> =
        lines.iter().filter(|line| line.op == name).map(|line| line.cost).collect();
    assert!(!found.is_empty(), "no {name}");
    found
}

fn bytes(name: &str, pooling: PoolKind, trains: Trains) -> u64 {
    costs(name, pooling, trains)[0].tensor_bytes
}

#[test]
fn what_takes_first_tokens_moves_a_row_per_sequence() {
    let row = HIDDEN * 2;
    // Read and written.
    assert_eq!(bytes("First", PoolKind::Cls, Trains::all_biases()), 2 * 4 * row);
    // The sum is read and written again.
    assert_eq!(bytes("AddFirst", PoolKind::Cls, Trains::all_biases()), 3 * 4 * row);
    // Pooled rows are f32.
    assert_eq!(bytes("Pool", PoolKind::Cls, Trains::Everything), 4 * row + 4 * 2 * row);
    // All of the gradient is written, most of it with zeros.
    assert_eq!(bytes("PoolBack", PoolKind::Cls, Trains::Everything), 4 * 2 * row + 64 * row);
    assert_eq!(bytes("Pool", PoolKind::Mean, Trains::all_biases()), 64 * row + 4 * 2 * row);
}

#[test]
fn what_takes_labelled_tokens_moves_their_rows() {
    let portion = Portion::of(0.25);
    let rows = LIMITS.rows(Rows::Labelled(portion)) as u64;
    assert_eq!(rows, 20);
    let moved = bytes("Pool", PoolKind::Labelled(portion), Trains::all_biases());
    assert_eq!(moved, rows * HIDDEN * 2 + rows * HIDDEN * 4);
}

#[test]
fn what_takes_columns_moves_only_those() {
    let lora = Lora { rank: 8, ..Lora::default() };
    // Eight columns more for each of query and value, next to q, k and v.
    let taken = bytes("AddColumns", PoolKind::Mean, Trains::LowRank(lora));
    assert_eq!(taken, 64 * (HIDDEN + 2 * HIDDEN) * 2);
    // IA3 scales the feed-forward block's inner values, whose slope is read too, attention's output, and keys and values:
    // these are two thirds of the columns of q, k and v. All in place, next to what was scaled.
    let scaled = costs("ScaleBack", PoolKind::Mean, Trains::Factors);
    let columns = [4 * (2 * HIDDEN), 3 * HIDDEN, 3 * (2 * HIDDEN)];
    let moved: Vec<u64> = scaled[..3].iter().map(|cost| cost.tensor_bytes).collect();
    assert_eq!(moved, columns.map(|columns| 64 * columns * 2));
}

#[test]
fn a_lookup_reads_each_row_of_a_table_once() {
    let cost = costs("Embed", PoolKind::Mean, Trains::all_biases())[0];
    // 40 tokens exist, 16 positions are used, and 2 types.
    assert_eq!(cost.matrix_elements, (40 + 16 + 2) * HIDDEN);
    assert_eq!(cost.tensor_bytes, 64 * HIDDEN * 2);
}

#[test]
fn a_matrix_of_the_parameter_vector_is_moved_in_f32() {
    let cost = costs("WeightGrad", PoolKind::Mean, Trains::Everything)[0];
    assert_eq!(cost.matrix_elements, 0);
    let flops = |rows: u64, matrix: u64| 2 * u128::from(rows * matrix);
    // The gradients of the last block's output, `[64, 128]`, are read and written again.
    assert_eq!(cost.flops, flops(64, 2 * HIDDEN * HIDDEN));
    assert_eq!(cost.tensor_bytes, 64 * 3 * HIDDEN * 2 + 2 * HIDDEN * HIDDEN * ADDED);
    let head = costs("Dense", PoolKind::Mean, Trains::all_biases())[0];
    assert_eq!(head.matrix_elements, 0);
    assert_eq!(head.tensor_bytes, 4 * HIDDEN * 4 + 4 * 2 * 4 + 2 * HIDDEN * 4);
}
