//! A whole training step: forward, loss, backward and AdamW over all biases.
//!
//! `BITFIT_BENCH_DEVICE` chooses the device as for `ops`, `BITFIT_BENCH_MODEL` a model's folder (default: MiniLM if
//! `scripts/test.sh` has fetched it, else a small random one; on a machine without the sources there is no default).
//! Elements are tokens.

mod device;

use bitfit::backend::{DropoutKey, WeightType};
use bitfit::batch::{Batch, Labels};
use bitfit::methods::Trains;
use bitfit::model::config::ModelConfig;
use bitfit::model::load::{TaskSpec, load};
use bitfit::program::{AdamW, Limits, LossKind, Numbers, PoolKind, Saving, Span};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use device::Timed;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let real = root.join(".cache/models/minilm");
    match std::env::var_os("BITFIT_BENCH_MODEL") {
        Some(folder) => folder.into(),
        None if real.join("config.json").exists() => real,
        None => root.join("tests/fixtures/parity/bert"),
    }
}

/// Sequences of equal length over the whole vocabulary.
fn batch(config: &ModelConfig, sequences: usize, len: usize) -> Batch {
    let tokens = (sequences * len) as u32;
    Batch {
        ids: (0..tokens).map(|i| i * 7919 % config.vocab as u32).collect(),
        type_ids: vec![0; tokens as usize],
        positions: (0..tokens).map(|i| i % len as u32 + config.position_offset() as u32).collect(),
        cu_seqlens: (0..=sequences).map(|s| (s * len) as u32).collect(),
        labels: Labels::Classes((0..sequences as u32).map(|s| s % 2).collect()),
    }
}

fn step(c: &mut Criterion) {
    let folder = folder();
    let config = ModelConfig::read(&folder)
        .unwrap_or_else(|e| panic!("{e:#}; BITFIT_BENCH_MODEL names another model"));
    let mut group =
        c.benchmark_group(format!("step/{}", folder.file_name().unwrap().to_string_lossy()));
    for (sequences, len) in [(16, 25), (32, 128)] {
        if len > config.max_len() {
            continue;
        }
        let mut backend = device::open(WeightType::F16);
        let task = TaskSpec {
            outputs: 2,
            loss: LossKind::CrossEntropy,
            class_weights: Vec::new(),
            pooling: PoolKind::Mean,
            reinit_pooler: false,
            trains: Trains::all_biases(),
            dropout: Some(0.1),
            seed: 1,
        };
        let model = load(&folder, &config, &task, &mut *backend).unwrap();
        let limits = Limits { tokens: sequences * len, sequences, max_len: len };
        let program = model.program(limits, backend.kind().element_bytes(), Some(Saving::KEEP));
        model.allocate(&mut *backend, &[&program], 1).unwrap();
        let batch = batch(&config, sequences, len);
        let mut done = 0;
        group.throughput(Throughput::Elements(limits.tokens as u64));
        group.timed(format!("{sequences}x{len}"), &mut *backend, |backend| {
            let update = AdamW {
                lr: 1e-4,
                beta1: 0.9,
                beta2: 0.999,
                eps: 1e-6,
                weight_decay: 0.01,
                clip_norm: 1.0,
                step: done + 1,
            };
            backend.set_batch(&batch, DropoutKey::new(1, done))?;
            done += 1;
            let numbers = Numbers { weight: 1.0 / sequences as f32, update: Some(update) };
            backend.run(&program, Span::WHOLE, numbers)
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = step
}
criterion_main!(benches);
