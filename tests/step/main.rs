//! The programs of a grid of models, without a device: what each computes, keeps and allocates.

mod grid;
mod listing;
mod symbolic;

use bitfit::methods::Trains;
use bitfit::model::Model;
use bitfit::model::config::ModelConfig;
use bitfit::model::load::{TaskSpec, outline};
use bitfit::program::{
    ElementBytes, Info, Limits, List, LossKind, Op, PoolKind, Program, Rows, Saving, Storage, Value,
};
use bitfit::settings::saving::WAYS;
use grid::{LABELLED, LIMITS, SMALL, Shape, biases, low_rank, random, shapes};

/// For the CPU in bf16.
const MIXED: ElementBytes = ElementBytes { activation: 2, stream: 4 };

fn model(shape: &Shape) -> Model {
    let config = ModelConfig::parse(&shape.config).unwrap();
    let task = TaskSpec {
        outputs: if shape.pooling == LABELLED { config.vocab } else { 2 },
        loss: LossKind::CrossEntropy,
        class_weights: Vec::new(),
        pooling: shape.pooling,
        reinit_pooler: false,
        trains: shape.trains.clone(),
        dropout: Some(shape.dropout),
        seed: 0,
    };
    outline(&config, &task).unwrap()
}

/// The ways of saving that a model can train in, and prediction.
fn savings(shape: &Shape) -> Vec<Option<Saving>> {
    let all = WAYS.into_iter().map(|(_, saving)| Some(saving));
    let trained = all.filter(|&saving| !shape.trains.weights() || saving == Some(Saving::KEEP));
    trained.chain([None]).collect()
}

fn limits() -> impl Iterator<Item = Limits> {
    LIMITS.iter().map(|&(tokens, sequences, max_len)| Limits { tokens, sequences, max_len })
}

#[test]
fn what_runs_is_what_was_reviewed() {
    let shape = |pooling, trains: Trains| Shape {
        config: SMALL.config(if pooling == PoolKind::Cls { "roberta" } else { "bert" }),
        pooling,
        dropout: 0.1,
        trains,
    };
    let all = model(&shape(PoolKind::Cls, Trains::all_biases()));
    for name in ["keep", "recompute", "checkpoint"] {
        listing::check(name, &all, Some(name.parse().unwrap()));
    }
    let (cls, mean) = (PoolKind::Cls, PoolKind::Mean);
    listing::check("predict", &all, None);
    listing::check("query", &model(&shape(cls, biases("query"))), Some(Saving::KEEP));
    listing::check("mean", &model(&shape(mean, Trains::all_biases())), Some(Saving::KEEP));
    listing::check("layernorm", &model(&shape(cls, Trains::LayerNorms)), Some(Saving::KEEP));
    listing::check("ia3", &model(&shape(cls, Trains::Factors)), Some(Saving::KEEP));
    let low_rank = low_rank(0.1, "query,value,output");
    listing::check("lora", &model(&shape(cls, low_rank)), Some(Saving::KEEP));
    listing::check("random", &model(&shape(cls, random())), Some(Saving::KEEP));
    listing::check("full", &model(&shape(mean, Trains::Everything)), Some(Saving::KEEP));
    listing::check("masked", &model(&shape(LABELLED, Trains::all_biases())), Some(Saving::KEEP));
}

/// Changes the rows, width and storage of every tensor of a step, one at a time: found each time.
#[test]
fn the_verifier_knows_the_shape_of_every_tensor() {
    let of = |pooling, dropout: f32, trains: Trains| Shape {
        config: SMALL.config("bert"),
        pooling,
        dropout,
        trains,
    };
    let limits = limits().next().unwrap();
    let all = Trains::all_biases;
    for shape in [
        of(PoolKind::Cls, 0.1, all()),
        of(PoolKind::Mean, 0.1, Trains::Everything),
        of(PoolKind::Mean, 0.1, random()),
        of(PoolKind::Mean, 0.0, all()),
        of(LABELLED, 0.0, all()),
    ] {
        let list = model(&shape).list(Some(Saving::KEEP), false);
        let program = list.place(limits, ElementBytes::all(4));
        let values = || (0..list.values.len() as u32).map(Value);
        let regions: Vec<_> = values().map(|value| program.region(value)).collect();
        let mut used = values().filter(|&value| {
            list.ops.iter().any(|op| op.reads().contains(&value) || op.writes().contains(&value))
        });
        let changes: [fn(&mut Info); 3] = [
            |info| info.width += 1,
            |info| {
                info.rows = match info.rows {
                    Rows::Tokens => Rows::Sequences,
                    Rows::Sequences | Rows::Labelled(_) => Rows::Tokens,
                }
            },
            |info| {
                info.storage = match info.storage {
                    Storage::F32 => Storage::Activation,
                    _ => Storage::F32,
                }
            },
        ];
        for (value, change) in used.by_ref().flat_map(|v| changes.map(|change| (v, change))) {
            let mut list = List::clone(&list);
            change(&mut list.values[value.index()]);
            let info = *list.info(value);
            let found = Program::laid_by_hand(list, &regions, limits).verify();
            assert!(found.is_err(), "{value:?} as {info:?}: {shape:?}");
        }
    }
}

#[test]
fn every_program_computes_what_its_list_says_before_any_pass_and_fits_its_arena() {
    let mut count = 0;
    for shape in shapes() {
        let model = model(&shape);
        let trainable = model.params.with_gradient();
        for saving in savings(&shape) {
            let label = || format!("{shape:?} {saving:?}");
            let written = model.write_down(saving, false);
            let want = symbolic::values(&written, trainable);
            let list = model.list(saving, false);
            let weights = list.ops.iter().any(|op| matches!(op, Op::WeightGrad(_)));
            let train = saving.is_some();
            assert_eq!(weights, shape.trains.matrices() && train, "of matrices: {}", label());
            let gains = list.ops.iter().any(|op| matches!(op, Op::GainGrad(_) | Op::EmbedBack(_)));
            let trains_gains = shape.trains.gains() || shape.trains.in_vectors();
            assert_eq!(gains, trains_gains && train, "of gains: {}", label());
            if saving.is_some() {
                list.verify_gradients(&model.gradients(), trainable)
                    .unwrap_or_else(|fault| panic!("{fault}: {}", label()));
            }
            for element in [ElementBytes::all(4), ElementBytes::all(2), MIXED] {
                for limits in limits() {
                    let program = list.place(limits, element);
                    program.verify().unwrap_or_else(|fault| panic!("{fault}: {}", label()));
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
