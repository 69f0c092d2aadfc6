//! Ids of a batch without a row in their table are refused before a device reads there: on the CPU, and on the CUDA
//! backend before a step is issued, recorded or replayed.

#[path = "ops/emulated.rs"]
mod emulated;

use bitfit::backend::cpu::CpuBackend;
use bitfit::backend::cuda::{CudaBackend, CudaOptions, HalfType};
use bitfit::backend::{Backend, DropoutKey, WeightType};
use bitfit::batch::{Batch, Labels};
use bitfit::methods::Trains;
use bitfit::model::config::ModelConfig;
use bitfit::model::load::{TaskSpec, load};
use bitfit::program::{Limits, LossKind, Numbers, PoolKind, Saving, Span};
use emulated::emulated;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    // The binary may run on a machine that has the fixtures elsewhere (scripts/gpu-check).
    let fixtures = std::env::var_os("BITFIT_FIXTURES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity"),
        PathBuf::from,
    );
    fixtures.join(name)
}

/// Runs batches on both sides of each table's end, through forward and backward, repeatedly.
fn holds_ids(name: &str, trains: Trains, backend: &mut dyn Backend) {
    let folder = folder(name);
    let config = ModelConfig::read(&folder).unwrap();
    let task = TaskSpec {
        outputs: 2,
        loss: LossKind::CrossEntropy,
        class_weights: Vec::new(),
        pooling: PoolKind::Mean,
        reinit_pooler: false,
        trains,
        dropout: Some(0.0),
        seed: 3,
    };
    let model = load(&folder, &config, &task, backend).unwrap();
    let limits = Limits { tokens: 16, sequences: 2, max_len: 8 };
    let program = model.program(limits, backend.kind().element_bytes(), Some(Saving::KEEP));
    model.allocate(backend, &[&program], 1).unwrap();

    let offset = config.position_offset() as u32;
    let good = Batch {
        ids: vec![5; 6],
        type_ids: vec![0; 6],
        positions: (0..6).map(|token| offset + token % 3).collect(),
        cu_seqlens: vec![0, 3, 6],
        labels: Labels::Classes(vec![0, 1]),
    };
    let first = Span::micro_batch(true, false);
    let mut run = |batch: &Batch| -> Result<(), String> {
        let numbers = Numbers { weight: 1.0, update: None };
        backend
            .set_batch(batch, DropoutKey::default())
            .and_then(|()| backend.run(&program, first, numbers))
            .map_err(|error| format!("{error:#}"))
    };
    let rows = [config.vocab, config.position_rows, config.type_vocab];
    let set = |kind: usize, id: u32| {
        let mut batch = good.clone();
        [&mut batch.ids, &mut batch.positions, &mut batch.type_ids][kind][4] = id;
        batch
    };
    for (kind, what) in ["token id", "position id", "token type"].into_iter().enumerate() {
        let end = rows[kind] as u32;
        // Twice each: issued or recorded, and replayed.
        for _ in 0..2 {
            assert_eq!(run(&set(kind, end - 1)), Ok(()), "{what} {}", end - 1);
            for beyond in [end, end + 1, 99_999, u32::MAX] {
                // One row of types serves all of them.
                let free = kind == 2 && end == 1;
                match run(&set(kind, beyond)) {
                    Ok(()) => assert!(free, "{what} {beyond} was taken"),
                    Err(error) => {
                        let said = error.contains(&format!("{what} {beyond} is outside"));
                        assert!(said && !free, "{error}");
                    }
                }
            }
        }
    }
    assert_eq!(run(&good), Ok(()));
}

#[test]
fn the_cpu_refuses_ids_beyond_the_tables() {
    for name in ["bert", "roberta"] {
        for trains in [Trains::all_biases(), Trains::Everything] {
            holds_ids(name, trains, &mut CpuBackend::new(WeightType::F16));
        }
    }
}

#[test]
fn cuda_refuses_ids_beyond_the_tables() {
    emulated("cuda_refuses_ids_beyond_the_tables", &[], || {
        for name in ["bert", "roberta"] {
            for trains in [Trains::all_biases(), Trains::Everything] {
                let cuda = CudaBackend::new(CudaOptions::new(0, HalfType::Bf16));
                holds_ids(name, trains, &mut cuda.unwrap());
            }
        }
    });
}
