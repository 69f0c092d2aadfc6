//! Several ranks train the same model as one process: the same losses, whatever their number, and the same bits from
//! run to run. Here they are threads; in `tests/mpi.rs`, processes.

#[path = "../ops/emulated.rs"]
mod emulated;
#[path = "../fixture/mod.rs"]
mod fixture;
mod on_cuda;

use bitfit::backend::cpu::{Arithmetic, CpuBackend};
use bitfit::backend::{Backend, DropoutKey, WeightType};
use bitfit::batch::{Batch, Labels};
use bitfit::data::{BatchLimits, Order, Sampler};
use bitfit::methods::Trains;
use bitfit::model::config::ModelConfig;
use bitfit::model::load::load;
use bitfit::program::{AdamW, Limits, PoolKind, Saving};
use bitfit::ranks::{Alone, Ranks, threads};
use bitfit::session::Session;
use bitfit::settings::biases::BiasSelection;
use bitfit::settings::train::Length;
use bitfit::train::steps::{MicroBatch, Position, Steps};
use fixture::{CASES, Case, MASKED, fixtures, task};
use std::rc::Rc;
use std::thread;

/// Steps of a run on the CPU.
const STEPS: u64 = 50;

/// Sequences of different lengths, so that shares differ, too; the last batch of an epoch has a single row.
fn lengths() -> Vec<u32> {
    (0..31u32).map(|row| 3 + row * 7 % 10).collect()
}

fn pack(config: &ModelConfig, case: &Case, rows: &[usize]) -> Batch {
    let (lengths, mut batch) = (
        lengths(),
        Batch {
            ids: Vec::new(),
            type_ids: Vec::new(),
            positions: Vec::new(),
            cu_seqlens: vec![0],
            labels: Labels::None,
        },
    );
    for &row in rows {
        for position in 0..lengths[row] {
            let id = (row as u32 * 31 + position * 17) % (config.vocab as u32 - 5) + 5;
            batch.ids.push(id);
            batch.type_ids.push(0);
            batch.positions.push(position + config.position_offset() as u32);
        }
        batch.cu_seqlens.push(batch.ids.len() as u32);
    }
    batch.labels = match case.pooling {
        PoolKind::Labelled(_) => {
            let labels = batch.ids.iter().zip(&batch.positions).map(|(&id, &position)| {
                let hidden = (position - config.position_offset() as u32) % 6 == 2;
                if hidden { id } else { Labels::IGNORED }
            });
            Labels::Tokens(labels.collect())
        }
        _ => {
            let class = |&row: &usize| row as u32 % case.outputs as u32;
            Labels::Classes(rows.iter().map(class).collect())
        }
    };
    batch
}

/// The result of training.
#[derive(Clone, Debug, PartialEq)]
struct Trained {
    losses: Vec<f32>,
    values: Vec<f32>,
}

/// A run on the CPU; `cut` is the maximum number of tokens per micro-batch.
fn train(
    case: &Case,
    trains: Trains,
    backend: Box<dyn Backend>,
    ranks: Rc<dyn Ranks>,
    cut: Option<usize>,
) -> Trained {
    take_steps(STEPS, case, trains, backend, ranks, cut)
}

/// The steps of a run, as in the training loop.
fn take_steps(
    count: u64,
    case: &Case,
    trains: Trains,
    backend: Box<dyn Backend>,
    ranks: Rc<dyn Ranks>,
    cut: Option<usize>,
) -> Trained {
    let folder = fixtures().join(case.folder);
    let config = ModelConfig::read(&folder).unwrap();
    let mut backend = backend;
    let model = load(&folder, &config, &task(case, trains, 0.1), &mut *backend).unwrap();
    let share = ranks.share();
    let mut session = Session::new(model, backend).among(ranks);
    let limits = BatchLimits { sequences: 6, tokens: None };
    let sampler = Sampler::new(lengths(), limits, Order::Shuffled { seed: 2 }).unwrap();
    let mut steps = Steps::new(&sampler, Length::Steps(count), 2).unwrap();
    steps.take(share);
    if let Some(tokens) = cut {
        steps.split(tokens);
    }
    let largest = steps.largest(Length::Steps(count));
    let limits =
        Limits { tokens: largest.tokens, sequences: largest.sequences, max_len: largest.len };
    let program = session.program(limits, Some(Saving::KEEP));
    session.allocate(Some(program), None).unwrap();
    let (mut position, mut losses) = (Position::default(), Vec::new());
    while let Some(step) = steps.at(position) {
        position = step.after;
        let weight = |rows: &Vec<usize>| pack(&config, case, rows).labels.weight(&[]);
        let targets = step.batches.iter().map(weight).sum();
        let update = AdamW {
            lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-6,
            weight_decay: 0.01,
            clip_norm: 1.0,
            step: position.step,
        };
        let batches = step.parts.iter().map(|MicroBatch { rows, batch, first }| {
            let key = DropoutKey { first: *first, ..DropoutKey::new(9, *batch) };
            (pack(&config, case, rows), key)
        });
        let given = session.step(batches, targets, update, false).unwrap();
        losses.push(session.wait(given.report).unwrap().loss);
    }
    Trained { losses, values: session.trained_values().unwrap() }
}

/// For all ranks, each on a device from `open`.
fn together(
    of: usize,
    train: impl Fn(Rc<dyn Ranks>) -> Trained + Clone + Send + 'static,
) -> Trained {
    let threads: Vec<_> = threads::ranks(of)
        .into_iter()
        .map(|rank| {
            let train = train.clone();
            thread::spawn(move || train(Rc::new(rank)))
        })
        .collect();
    let all: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    for other in &all {
        assert_eq!(other, &all[0], "the ranks came to differ");
    }
    all[0].clone()
}

/// The largest relative difference between two runs' losses, and of their values, relative to the largest of these.
fn differences(one: &Trained, other: &Trained) -> (f64, f64) {
    assert!(!one.losses.is_empty());
    let pairs = |a: &[f32], b: &[f32]| -> Vec<(f64, f64)> {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b).map(|(&a, &b)| (f64::from(a), f64::from(b))).collect()
    };
    let loss = pairs(&one.losses, &other.losses).into_iter();
    let loss = loss.map(|(a, b)| (a - b).abs() / a.abs()).fold(0.0, f64::max);
    let values = pairs(&one.values, &other.values);
    let largest = values.iter().map(|(a, _)| a.abs()).fold(0.0, f64::max);
    let value = values.iter().map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    (loss, value / largest)
}

fn cpu(arithmetic: Arithmetic) -> Box<dyn Backend> {
    Box::new(CpuBackend::computing(arithmetic, WeightType::F32))
}

#[test]
fn any_number_of_ranks_has_the_losses_of_one_process_and_its_own_bits_again() {
    for (case, trains) in [
        (&CASES[0], Trains::all_biases()),
        (&CASES[3], Trains::all_biases()),
        (&CASES[0], Trains::Everything),
        (&MASKED[0], Trains::all_biases()),
        (&CASES[0], Trains::Random(BiasSelection::all())),
    ] {
        let run = {
            let trains = trains.clone();
            move |ranks| train(case, trains.clone(), cpu(Arithmetic::F32), ranks, None)
        };
        let one = run(Rc::new(Alone));
        for of in [2, 3, 4, 7] {
            let several = together(of, run.clone());
            let (loss, value) = differences(&one, &several);
            println!("{} of {of}: losses {loss:.1e}, values {value:.1e}", case.folder);
            assert!(loss < 1e-6, "{}, {of} ranks: losses differ by {loss:.1e}", case.folder);
            assert!(value < 1e-4, "{}, {of} ranks: values differ by {value:.1e}", case.folder);
            assert_eq!(together(of, run.clone()), several, "{of} ranks: other bits in another run");
        }
    }
}

#[test]
fn micro_batches_and_ranks_together_have_the_masks_of_whole_batches() {
    let case = &CASES[0];
    let whole = train(case, Trains::all_biases(), cpu(Arithmetic::F32), Rc::new(Alone), None);
    let cut = train(case, Trains::all_biases(), cpu(Arithmetic::F32), Rc::new(Alone), Some(13));
    let both = together(2, |ranks| {
        train(&CASES[0], Trains::all_biases(), cpu(Arithmetic::F32), ranks, Some(13))
    });
    for other in [cut, both] {
        let (loss, _) = differences(&whole, &other);
        assert!(loss < 1e-6, "losses differ by {loss:.1e}");
    }
}

#[test]
fn in_bf16_the_first_losses_are_the_same_and_later_ones_differ_by_rounding() {
    let run = |ranks| train(&CASES[0], Trains::all_biases(), cpu(Arithmetic::Bf16), ranks, None);
    let (one, several) = (run(Rc::new(Alone)), together(3, run));
    let first = (one.losses[0] - several.losses[0]).abs() / one.losses[0];
    assert!(first < 1e-6, "the first losses differ by {first:.1e}");
    // A sum in another order is occasionally rounded to the neighbouring 8-bit number.
    let (loss, _) = differences(&one, &several);
    assert!(loss < 4e-3, "losses differ by {loss:.1e}");
}
