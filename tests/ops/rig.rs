//! A backend with a hand-laid arena: guard bands around every tensor and a snapshot to compare with.

use bitfit::backend::cpu::rounded;
use bitfit::backend::weight_gradients::WeightGradients;
use bitfit::backend::{
    Backend, DropoutKey, Limits, MatrixKind, MatrixShape, Memory, ParamRange, Region, Slot,
    WeightId, WeightType,
};
use bitfit::batch::{Batch, Labels};
use bitfit::rng::{Purpose, Stream};

/// Fills all memory that a case does not write: finite, so that it is comparable, and far from any result.
const SENTINEL: f32 = 1.542_312_3e16;
const GUARD: usize = 256;

/// What the backend stores in a tensor.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Activation,
    F32,
}

#[derive(Clone, Copy)]
pub struct Tensor {
    pub region: Region,
    kind: Kind,
    /// Elements in use by the current batch.
    used: usize,
}

/// Numbers of a case: seeded by its name, so that every run sees the same.
pub struct Numbers(Stream);

impl Numbers {
    pub fn new(name: &str) -> Self {
        let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3)
        });
        Self(Stream::new(seed, Purpose::HeadInit, 0))
    }

    pub fn normal(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| self.0.normal() * scale).collect()
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound as u64) as usize
    }
}

pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// A backend under test, and what is known about its memory.
pub struct Rig<B> {
    pub backend: B,
    pub batch: Batch,
    pub key: DropoutKey,
    pub numbers: Numbers,
    /// What a matrix element becomes in the backend's memory.
    stored: fn(f32) -> f32,
    /// How the backend stores matrices, where that is in blocks.
    pub weights: WeightType,
    arena: usize,
    params: usize,
    gradient: Vec<f32>,
    tensors: Vec<(Tensor, Vec<f32>)>,
}

impl<B: WeightGradients> Rig<B> {
    /// Makes a trained matrix out of the next parameters.
    pub fn trained(&mut self, rows: usize, cols: usize) -> (WeightId, ParamRange) {
        let range = self.param(rows * cols);
        let id = self.backend.trained_matrix("w", rows, cols, range);
        (id.unwrap(), range)
    }
}

impl<B: Backend> Rig<B> {
    pub fn new(backend: B, stored: fn(f32) -> f32, name: &str, lens: &[usize]) -> Self {
        let mut numbers = Numbers::new(name);
        let tokens: usize = lens.iter().sum();
        let mut cu_seqlens = vec![0];
        for len in lens {
            cu_seqlens.push(cu_seqlens[cu_seqlens.len() - 1] + *len as u32);
        }
        let batch = Batch {
            ids: vec![0; tokens],
            type_ids: vec![0; tokens],
            positions: lens.iter().flat_map(|&len| 0..len as u32).collect(),
            cu_seqlens,
            labels: Labels::None,
        };
        let key = DropoutKey {
            seed: 0x5EED_0000_0000 + numbers.below(1000) as u64,
            step: numbers.below(1000) as u64,
        };
        Self {
            backend,
            batch,
            key,
            numbers,
            stored,
            weights: WeightType::F32,
            arena: GUARD,
            params: 0,
            gradient: Vec::new(),
            tensors: Vec::new(),
        }
    }

    /// Uploads a random matrix; returns it as the backend sees it.
    pub fn weight(&mut self, rows: usize, cols: usize, scale: f32) -> (WeightId, Vec<f64>) {
        // In 8 and 4 bits some are rows of a larger matrix, which shares scales with what lies around them.
        let few_bits = matches!(self.weights, WeightType::Int8 | WeightType::Nf4);
        let around = if few_bits && rows % 16 == 8 { 24 } else { 0 };
        let (mut id, mut values) = self.matrix(MatrixKind::Linear, rows + 2 * around, cols, scale);
        if around > 0 {
            id = self.backend.view_rows(id, around..around + rows).unwrap();
            values = values[around * cols..(around + rows) * cols].to_vec();
        }
        // What 8 and 4 bits stand for is rounded once more where activations have 16.
        (id, self.stored(&values))
    }

    /// As [`weight`](Self::weight), of the head, whose arithmetic is f32 on every backend.
    pub fn head_weight(&mut self, rows: usize, cols: usize, scale: f32) -> (WeightId, Vec<f64>) {
        self.matrix(MatrixKind::Linear, rows, cols, scale)
    }

    /// As [`weight`](Self::weight), an embedding table.
    pub fn table(&mut self, rows: usize, cols: usize, scale: f32) -> (WeightId, Vec<f64>) {
        self.matrix(MatrixKind::Table, rows, cols, scale)
    }

    fn matrix(
        &mut self,
        kind: MatrixKind,
        rows: usize,
        cols: usize,
        scale: f32,
    ) -> (WeightId, Vec<f64>) {
        let shape = MatrixShape {
            kind,
            rows,
            cols,
            trains: false,
        };
        let mut values = self.numbers.normal(rows * cols, scale);
        let id = self.backend.upload("w", shape, &values).unwrap();
        match self.weights {
            WeightType::Int8 | WeightType::Nf4 => {
                values = rounded(self.weights, "w", shape, &values).unwrap();
            }
            WeightType::F16 | WeightType::F32 => {
                values.iter_mut().for_each(|v| *v = (self.stored)(*v));
            }
        }
        (id, wide(&values))
    }

    /// What the backend's copy of a matrix holds of these values.
    pub fn stored(&self, values: &[f64]) -> Vec<f64> {
        values
            .iter()
            .map(|&v| f64::from((self.stored)(v as f32)))
            .collect()
    }

    /// A tensor for `rows` rows in use; the region has room for more rows, which must stay as they are.
    fn tensor(&mut self, rows: usize, cols: usize, kind: Kind) -> usize {
        let bytes = if kind == Kind::F32 {
            4
        } else {
            self.backend.activation_bytes()
        };
        let region = Region {
            offset: self.arena,
            len: (rows + 3) * cols * bytes,
        };
        self.arena = (region.offset + region.len + GUARD).next_multiple_of(GUARD);
        self.tensors.push((
            Tensor {
                region,
                kind,
                used: rows * cols,
            },
            Vec::new(),
        ));
        self.tensors.len() - 1
    }

    /// A random `[rows, cols]` input of the backend's activation type.
    pub fn input(&mut self, rows: usize, cols: usize, scale: f32) -> usize {
        let id = self.tensor(rows, cols, Kind::Activation);
        self.tensors[id].1 = self.numbers.normal(rows * cols, scale);
        id
    }

    pub fn input_f32(&mut self, rows: usize, cols: usize, scale: f32) -> usize {
        let id = self.tensor(rows, cols, Kind::F32);
        self.tensors[id].1 = self.numbers.normal(rows * cols, scale);
        id
    }

    /// A tensor of given 32-bit words.
    pub fn given_f32(&mut self, words: Vec<f32>) -> usize {
        let id = self.tensor(1, words.len(), Kind::F32);
        self.tensors[id].1 = words;
        id
    }

    pub fn output(&mut self, rows: usize, cols: usize) -> usize {
        self.tensor(rows, cols, Kind::Activation)
    }

    pub fn output_f32(&mut self, rows: usize, cols: usize) -> usize {
        self.tensor(rows, cols, Kind::F32)
    }

    pub fn region(&self, id: usize) -> Region {
        self.tensors[id].0.region
    }

    /// Makes the next `len` parameters; those asked for before [`start`](Self::start)'s `trainable` train.
    pub fn param(&mut self, len: usize) -> ParamRange {
        // One untouched element before each range guards it.
        let range = ParamRange {
            offset: self.params + 1,
            len,
        };
        self.params = range.offset + len + 1;
        range
    }

    /// Allocates, fills memory with the sentinel, writes inputs and random parameters and gradients.
    pub fn start(&mut self, trainable: usize, widest: usize) {
        let lens: Vec<usize> = self
            .batch
            .cu_seqlens
            .windows(2)
            .map(|w| (w[1] - w[0]) as usize)
            .collect();
        let memory = Memory {
            arena: self.arena,
            params: self.params,
            trainable,
            limits: Limits {
                tokens: self.batch.tokens() + 3,
                sequences: lens.len() + 3,
                max_len: lens.iter().max().unwrap() + 3,
            },
            widest,
            head_dim: 128,
        };
        self.backend.allocate(memory).unwrap();
        self.backend.set_batch(&self.batch, self.key).unwrap();
        let whole = Region {
            offset: 0,
            len: self.arena,
        };
        self.backend
            .write_f32(whole, &vec![SENTINEL; self.arena / 4])
            .unwrap();
        for (tensor, values) in &self.tensors {
            match tensor.kind {
                Kind::F32 => self.backend.write_f32(tensor.region, values).unwrap(),
                Kind::Activation => self
                    .backend
                    .write_activations(tensor.region, values)
                    .unwrap(),
            }
        }
        let all = ParamRange {
            offset: 0,
            len: self.params,
        };
        let values = self.numbers.normal(self.params, 0.5);
        self.backend
            .write_params(Slot::Value, all, &values)
            .unwrap();
        self.gradient = self.numbers.normal(trainable, 0.1);
        let trained = ParamRange {
            offset: 0,
            len: trainable,
        };
        self.backend
            .write_params(Slot::Gradient, trained, &self.gradient)
            .unwrap();
    }

    /// Values as a 16-bit backend stores them.
    pub fn rounded(&self, values: &[f64]) -> Vec<f64> {
        values.iter().map(|&v| self.round(v)).collect()
    }

    pub fn round(&self, value: f64) -> f64 {
        f64::from((self.stored)(value as f32))
    }

    /// A tensor's elements in use.
    pub fn read(&self, id: usize) -> Vec<f32> {
        let tensor = self.tensors[id].0;
        match tensor.kind {
            Kind::F32 => self.backend.read_f32(tensor.region, tensor.used).unwrap(),
            Kind::Activation => self
                .backend
                .read_activations(tensor.region, tensor.used)
                .unwrap(),
        }
    }

    pub fn values(&self, range: ParamRange) -> Vec<f64> {
        wide(&self.backend.read_params(Slot::Value, range).unwrap())
    }

    pub fn gradient(&self, range: ParamRange) -> Vec<f32> {
        self.backend.read_params(Slot::Gradient, range).unwrap()
    }

    /// The gradient that was there before the operation, to which it adds.
    pub fn gradient_before(&self, range: ParamRange) -> Vec<f64> {
        wide(&self.gradient[range.offset..range.offset + range.len])
    }

    /// Runs one operation and asserts that nothing but `outputs` and `gradients` changed, to the bit.
    pub fn run(
        &mut self,
        name: &str,
        outputs: &[usize],
        gradients: &[ParamRange],
        op: impl FnOnce(&mut B) -> anyhow::Result<()>,
    ) {
        let whole = Region {
            offset: 0,
            len: self.arena,
        };
        let before = self.backend.read_f32(whole, self.arena / 4).unwrap();
        let all = ParamRange {
            offset: 0,
            len: self.params,
        };
        let values = self.backend.read_params(Slot::Value, all).unwrap();
        op(&mut self.backend).unwrap_or_else(|e| panic!("{name}: {e:#}"));

        let mut writable = vec![false; self.arena / 4];
        for &id in outputs {
            let Tensor { region, kind, used } = self.tensors[id].0;
            let bytes = if kind == Kind::F32 {
                4
            } else {
                self.backend.activation_bytes()
            };
            // An odd number of halves ends inside a word.
            let words = (used * bytes).div_ceil(4);
            writable[region.offset / 4..region.offset / 4 + words].fill(true);
        }
        let after = self.backend.read_f32(whole, self.arena / 4).unwrap();
        for (word, ((a, b), &writable)) in after.iter().zip(&before).zip(&writable).enumerate() {
            assert!(
                writable || a.to_bits() == b.to_bits(),
                "{name}: byte {} of the arena was overwritten",
                word * 4
            );
        }
        let trainable = ParamRange {
            offset: 0,
            len: self.gradient.len(),
        };
        for (i, (a, b)) in self
            .gradient(trainable)
            .iter()
            .zip(&self.gradient)
            .enumerate()
        {
            let ours = gradients
                .iter()
                .any(|g| (g.offset..g.offset + g.len).contains(&i));
            assert!(
                ours || a.to_bits() == b.to_bits(),
                "{name}: gradient {i} was overwritten"
            );
        }
        let after = self.backend.read_params(Slot::Value, all).unwrap();
        assert!(
            after
                .iter()
                .zip(&values)
                .all(|(a, b)| a.to_bits() == b.to_bits()),
            "{name}: parameters changed"
        );
    }
}
