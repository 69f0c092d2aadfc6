//! The programs of a grid of models, without a device: what each computes, keeps and takes.

mod grid;
mod symbolic;

use bitfit::methods::Trains;
use bitfit::model::config::ModelConfig;
use bitfit::model::load::{TaskSpec, outline};
use bitfit::model::{Model, Show};
use bitfit::program::{Limits, LossKind, Op, PoolKind, Saving};
use bitfit::settings::biases::BiasSelection;
use grid::{LIMITS, SAVINGS, Shape, shapes};

fn model(shape: &Shape) -> Model {
    let config = ModelConfig::parse(&shape.config).unwrap();
    let task = TaskSpec {
        outputs: 2,
        loss: LossKind::CrossEntropy,
        pooling: if shape.mean { PoolKind::Mean } else { PoolKind::Cls },
        reinit_pooler: false,
        trains: match &shape.biases {
            Some(biases) => Trains::Biases(BiasSelection::parse(biases).unwrap()),
            None => Trains::Everything,
        },
        dropout: Some(shape.dropout),
        seed: 0,
    };
    outline(&config, &task).unwrap()
}

/// The ways of saving that a model can train in, and prediction.
fn savings(shape: &Shape) -> Vec<Option<Saving>> {
    let all = SAVINGS.iter().map(|text| Some(text.parse().unwrap()));
    let trained = all.filter(|&saving| shape.biases.is_some() || saving == Some(Saving::KEEP));
    trained.chain([None]).collect()
}

fn limits() -> impl Iterator<Item = Limits> {
    LIMITS.iter().map(|&(tokens, sequences, max_len)| Limits { tokens, sequences, max_len })
}

#[test]
fn every_program_computes_what_its_list_says_before_any_pass_and_fits_its_arena() {
    let mut count = 0;
    for shape in shapes() {
        let model = model(&shape);
        let trainable = model.params.trainable();
        for saving in savings(&shape) {
            let label = || format!("{shape:?} {saving:?}");
            let written = model.write_down(saving, Show::Logits);
            let want = symbolic::values(&written, trainable);
            let list = model.list(saving, Show::Logits);
            let of_weights =
                |op: &&Op| matches!(op, Op::WeightGrad(_) | Op::GainGrad(_) | Op::EmbedBack(_));
            let weights = list.ops.iter().filter(of_weights).count();
            let full = shape.biases.is_none() && saving.is_some();
            assert_eq!(weights > 0, full, "gradients of weights: {}", label());
            if saving.is_some() {
                list.verify_gradients(&model.gradients(), trainable)
                    .unwrap_or_else(|fault| panic!("{fault}: {}", label()));
            }
            for element in [4, 2] {
                for limits in limits() {
                    let program = list.place(limits, element);
                    program.verify().unwrap_or_else(|fault| panic!("{fault}: {}", label()));
                    assert!(program.bytes() >= program.least());
                    let got = symbolic::in_arena(&program, trainable);
                    assert_eq!(got, want, "{}", label());
                    count += 1;
                }
            }
        }
    }
    println!("{count} programs");
    assert!(count > 100_000);
}
