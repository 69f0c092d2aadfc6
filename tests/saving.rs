//! How each way of saving affects the gradients and the memory.

mod fixture;

use bitfit::backend::cpu::Arithmetic;
use bitfit::backend::{Backend, DeviceKind, Slot, WeightType};
use bitfit::batch::Batch;
use bitfit::methods::Trains;
use bitfit::model::config::ModelConfig;
use bitfit::model::load::outline;
use bitfit::program::{AdamW, PoolKind, Saving, Storage};
use bitfit::settings::biases::BiasSelection;
use bitfit::settings::lora::Lora;
use fixture::{Case, Setup, each_batch};
use std::path::Path;

fn set_up(
    (folder, case, batch): (&Path, &Case, &Batch),
    biases: &str,
    dropout: f32,
    saving: Saving,
) -> Setup {
    let biases = Trains::Biases(BiasSelection::parse(biases).unwrap());
    training((folder, case, batch), &biases, dropout, saving)
}

fn training(
    (folder, case, batch): (&Path, &Case, &Batch),
    trains: &Trains,
    dropout: f32,
    saving: Saving,
) -> Setup {
    let mut s = Setup::training(folder, case, batch, trains.clone(), dropout, saving);
    s.gradients(batch);
    s
}

/// What the methods that freeze matrices train.
fn methods() -> Vec<Trains> {
    let on = "query,key,value,attention-output,output".parse().unwrap();
    let low_rank = Trains::LowRank(Lora { rank: 3, dropout: 0.1, on, ..Lora::default() });
    let controls = [Trains::Random(BiasSelection::all()), Trains::Rows(BiasSelection::all())];
    let others = [Trains::all_biases(), Trains::LayerNorms, Trains::Factors, low_rank];
    others.into_iter().chain(controls).collect()
}

#[test]
fn every_method_has_the_gradients_of_keep_in_every_exact_mode() {
    each_batch(|name, case, folder, _, _, batch| {
        for trains in methods() {
            for dropout in [0.0, 0.2] {
                let of =
                    |saving| gradients(&training((folder, case, batch), &trains, dropout, saving));
                let keep = of(Saving::KEEP);
                for saving in Saving::EXACT {
                    assert!(of(saving) == keep, "{name} --saving {saving} {trains:?}, {dropout}");
                }
            }
        }
    });
}

const OPTIMIZER: AdamW = AdamW {
    lr: 1e-3,
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-6,
    weight_decay: 0.0,
    clip_norm: 1.0,
    step: 1,
};

fn gradients(s: &Setup) -> Vec<f32> {
    let range = s.model.params.trained_range();
    s.backend.read_params(Slot::Gradient, range).unwrap()
}

#[test]
fn every_exact_mode_has_the_gradients_of_keep_to_the_bit() {
    each_batch(|name, case, folder, _, _, batch| {
        for dropout in [0.0, 0.2] {
            // From everything to only the last block's upper half: each has a different lowest tensor.
            for biases in [
                "all",
                "value",
                "attention-output@1..",
                "attention-layernorm@1..",
                "intermediate",
                "intermediate@1..",
                "output@1..",
                "output-layernorm@1..",
            ] {
                let of = |saving| set_up((folder, case, batch), biases, dropout, saving);
                let keep = gradients(&of(Saving::KEEP));
                for saving in Saving::EXACT {
                    assert!(saving.is_exact());
                    assert_eq!(
                        gradients(&of(saving)),
                        keep,
                        "{name} --saving {saving} --biases {biases}, dropout {dropout}"
                    );
                }
            }
        }
    });
}

/// Bytes that are kept from the forward pass to the backward pass.
fn saved(s: &Setup) -> usize {
    s.program.saved().map(|(_, region)| region.len).sum()
}

/// The figures of the design: 2·(2h + 1), 3h + h + heads and the intermediate width, in elements per token and block;
/// of the last block under a head on the first tokens 2h per token, and of the rest a row per sequence. If q, k and v
/// are recomputed, so is attention's output.
#[test]
fn each_mode_keeps_what_it_says_and_no_more() {
    each_batch(|name, case, folder, _, _, batch| {
        let (tokens, sequences) = (batch.tokens(), batch.sequences());
        let of = |saving| set_up((folder, case, batch), "all", 0.1, saving);
        let keep = of(Saving::KEEP);
        let c = &keep.model.config;
        let (h, inner, heads, layers) = (c.hidden, c.intermediate, c.heads, c.layers);
        // Besides the blocks: the head's inputs and outputs, and temporarily their gradients.
        let head: usize = keep
            .program
            .saved()
            .filter(|(info, _)| info.what.of_head())
            .map(|(_, region)| region.len)
            .sum();
        // Bytes of the last block and of each other one, from those of an x̂ and of a derivative with that many rows.
        let block = |last: bool, qkv: bool, x_hat: &Bytes, derivative: &Bytes| {
            let first = last && case.pooling == PoolKind::Cls;
            let rows = if first { sequences } else { tokens };
            // q, k, v and attention's output, or k, v of all tokens and q of the first ones; the softmax's statistic.
            let attention = match (qkv, first) {
                (true, false) => tokens * (4 * h + heads),
                (false, false) => 0,
                (true, true) => 2 * h * tokens + rows * (h + heads),
                (false, true) => rows * (h + heads),
            };
            // And the statistics of both LayerNorms.
            2 * x_hat(rows) + 4 * (attention + 2 * rows) + derivative(rows)
        };
        let full = |width: usize| move |rows: usize| 4 * rows * width;
        let code = |width: usize| move |rows: usize| (rows * width).next_multiple_of(4);
        let (x_hat, slope, none) = (full(h), full(inner), full(0));
        let (x_hat8, slope8, slope4) = (code(h), code(inner), code(inner.div_ceil(2)));
        let cases: [(&str, bool, &Bytes, &Bytes); 8] = [
            ("keep", true, &x_hat, &slope),
            ("recompute-qkv", false, &x_hat, &slope),
            ("recompute-ffn", true, &x_hat, &none),
            ("recompute", false, &x_hat, &none),
            ("gelu8", true, &x_hat, &slope8),
            ("gelu4", true, &x_hat, &slope4),
            ("xhat8", true, &x_hat8, &slope),
            ("gelu8,xhat8", true, &x_hat8, &slope8),
        ];
        for (saving, qkv, x_hat, derivative) in cases {
            let bytes = saved(&of(saving.parse().unwrap())) - head;
            let of_block = |last| block(last, qkv, x_hat, derivative);
            let want = (layers - 1) * of_block(false) + of_block(true);
            assert_eq!(bytes, want, "{name} {saving}");
        }
        let bytes = saved(&of(Saving::CHECKPOINT)) - head;
        let want = (layers - 1) * 4 * tokens * h + block(true, true, &x_hat, &slope);
        assert_eq!(bytes, want, "{name}");
    });
}

/// Bytes of a tensor with that many rows.
type Bytes = dyn Fn(usize) -> usize;

#[test]
fn what_is_kept_in_fewer_bits_changes_the_gradients_by_a_bounded_share() {
    each_batch(|name, case, folder, _, _, batch| {
        for dropout in [0.0, 0.2] {
            let of = |saving| gradients(&set_up((folder, case, batch), "all", dropout, saving));
            let keep = of(Saving::KEEP);
            let norm = |g: &mut dyn Iterator<Item = f64>| g.map(|x| x * x).sum::<f64>().sqrt();
            let length = norm(&mut keep.iter().map(|&x| f64::from(x)));
            for (saving, bound) in
                [("gelu8", 4e-3), ("gelu4", 8e-2), ("xhat8", 1.2e-2), ("gelu8,xhat8", 1.2e-2)]
            {
                let saving: Saving = saving.parse().unwrap();
                assert!(!saving.is_exact());
                let pairs = of(saving).into_iter().zip(&keep);
                let error = norm(&mut pairs.map(|(a, &b)| f64::from(a) - f64::from(b))) / length;
                println!("{name} {saving} dropout {dropout}: relative error {error:.1e}");
                assert!(error < bound, "{name} {saving}: relative error {error:.2e}");
                // ReLU's derivatives, 0 and 1, are exact in both.
                let exact = case.folder == "bert-mlm" && saving.x_hat == Storage::Activation;
                assert_eq!(error == 0.0, exact, "{name} {saving}: {error:.2e}");
            }
        }
    });
}

/// A plan from only the configuration equals what a run has allocated at its end, part by part.
#[test]
fn the_planned_peak_is_the_allocated_peak_to_the_byte() {
    each_batch(|name, case, folder, _, _, batch| {
        let savings = ["keep", "recompute", "checkpoint", "gelu8", "gelu4", "xhat8", "gelu4,xhat8"];
        for (trains, saving) in
            methods().iter().flat_map(|trains| savings.map(|saving| (trains, saving)))
        {
            let saving: Saving = saving.parse().unwrap();
            let mut s = training((folder, case, batch), trains, 0.1, saving);
            s.step(batch, OPTIMIZER);
            s.gradients(batch);

            let config = ModelConfig::read(folder).unwrap();
            let task = fixture::task(case, trains.clone(), 0.1);
            let outline = outline(&config, &task).unwrap();
            let kind = DeviceKind::Cpu {
                weights: WeightType::F32,
                threads: rayon::current_num_threads(),
                arithmetic: Arithmetic::F32,
            };
            let limits = s.program.limits();
            let program = outline.program(limits, kind.element_bytes(), Some(saving));
            let planned = kind.footprint(&outline.matrices, &outline.memory(&[&program], 1));
            assert_eq!(planned, s.backend.allocated(), "{name} {saving} {trains:?}");
        }
    });
}
