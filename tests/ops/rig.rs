//! A backend with a hand-made arena: guard bands around every tensor and a snapshot to compare with.

use crate::codes::words_of;
use bitfit::backend::cpu::rounded;
use bitfit::backend::{
    Backend, DropoutKey, FirstRow, MatrixKind, MatrixShape, Memory, Slot, WeightType,
};
use bitfit::batch::{Batch, Labels};
use bitfit::program::{
    self, ElementBytes, Info, Limits, List, Op, Over, ParamRange, Parts, Program, Region, Rows,
    Span, Storage, Sum, Value, WeightId, What,
};
use bitfit::rng::{Purpose, Stream};

/// Fills all memory that a case does not write: finite, so that it is comparable, and far from any result.
const SENTINEL: f32 = 1.542_312_3e16;
const GUARD: usize = 256;

/// A tensor with room for more rows than a batch has, which must stay unchanged.
struct Tensor {
    info: Info,
    region: Region,
    /// Its content at the start; empty if it is written, or shares another's place.
    start: Vec<f32>,
}

/// Numbers of a case: seeded by its name, so that every run sees the same ones.
pub struct Numbers(Stream);

impl Numbers {
    pub fn new(name: &str) -> Self {
        let seed = name.bytes().fold(0xCBF2_9CE4_8422_2325u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3)
        });
        Self(Stream::new(seed, Purpose::HeadInit, 0))
    }

    /// Nearly normal, within 3.5 standard deviations: four uniform numbers together. The exact distribution would take
    /// a third of the suite's time.
    pub fn normal(&mut self, count: usize, scale: f32) -> Vec<f32> {
        let mut one = || {
            let [a, b] = [self.0.next_u32(), self.0.next_u32()];
            let sum = (a >> 16) + (a & 0xFFFF) + (b >> 16) + (b & 0xFFFF);
            (sum as f32 / 65_536.0 - 2.0) * f32::sqrt(3.0) * scale
        };
        (0..count).map(|_| one()).collect()
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound as u64) as usize
    }
}

pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// How a backend rounds.
#[derive(Clone, Copy)]
pub struct Rounding {
    /// How the backend stores a matrix element, unless it is stored in blocks.
    pub matrix: fn(f32) -> f32,
    /// How it rounds an operand of a product, or an activation.
    pub activation: fn(f32) -> f32,
}

/// A backend under test, and what is known about its memory.
pub struct Rig<B> {
    pub backend: B,
    pub batch: Batch,
    pub key: DropoutKey,
    pub numbers: Numbers,
    rounding: Rounding,
    /// How the backend stores matrices, if in blocks.
    pub weights: WeightType,
    arena: usize,
    params: usize,
    gradient: Vec<f32>,
    /// Parameters, and places of gradients, that the operation changes besides its sums.
    pub changes: Vec<usize>,
    /// By [`Value`].
    tensors: Vec<Tensor>,
}

/// The gradient of a range, if requested.
pub fn sum(asked: bool, range: ParamRange) -> Sum {
    Sum(asked.then_some(range))
}

/// Operations that run whole, on tensors in the caller's regions.
pub fn program(ops: Vec<Op>, tensors: &[(Info, Region)], limits: Limits) -> Program {
    let parts = Parts { forward: 0, backward: ops.len(), end: ops.len() };
    let (values, regions): (Vec<Info>, Vec<Region>) = tensors.iter().copied().unzip();
    let list = List {
        blocks: values.first().map_or(vec![None; ops.len()], |value| vec![value.block; ops.len()]),
        ops,
        values,
        parts,
        outputs: Vec::new(),
    };
    Program::laid_by_hand(list, &regions, limits)
}

impl<B: Backend> Rig<B> {
    pub fn new(backend: B, rounding: Rounding, name: &str, lens: &[usize]) -> Self {
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
            // Not random, so that everything else is as it would be without.
            first: FirstRow { tokens: 5, sequences: 5 },
        };
        Self {
            backend,
            batch,
            key,
            numbers,
            rounding,
            weights: WeightType::F32,
            arena: GUARD,
            params: 0,
            gradient: Vec::new(),
            changes: Vec::new(),
            tensors: Vec::new(),
        }
    }

    /// Uploads a random matrix; returns it as the backend sees it.
    pub fn weight(&mut self, rows: usize, cols: usize, scale: f32) -> (WeightId, Vec<f64>) {
        // In 8 and 4 bits some are rows of a larger matrix, which share scales with the surrounding ones.
        let few_bits = matches!(self.weights, WeightType::Int8 | WeightType::Nf4);
        let around = if few_bits && rows % 16 == 8 { 24 } else { 0 };
        let (mut id, mut values) = self.matrix(MatrixKind::Linear, rows + 2 * around, cols, scale);
        if around > 0 {
            id = self.backend.view_rows(id, around..around + rows).unwrap();
            values = values[around * cols..(around + rows) * cols].to_vec();
        }
        // Values of 8 and 4 bits are rounded again if activations have 16.
        (id, self.stored(&values))
    }

    /// Like [`weight`](Self::weight), for the head, whose arithmetic is f32 on every backend.
    pub fn head_weight(&mut self, rows: usize, cols: usize, scale: f32) -> (WeightId, Vec<f64>) {
        self.matrix(MatrixKind::Linear, rows, cols, scale)
    }

    /// Like [`weight`](Self::weight), for an embedding table.
    pub fn table(&mut self, rows: usize, cols: usize, scale: f32) -> (WeightId, Vec<f64>) {
        self.matrix(MatrixKind::Table, rows, cols, scale)
    }

    /// Makes a trained matrix from the next parameters.
    pub fn trained(&mut self, rows: usize, cols: usize) -> (WeightId, ParamRange) {
        let range = self.param(rows * cols);
        let shape = MatrixShape { kind: MatrixKind::Linear, rows, cols, trains: true };
        let id = self.backend.trained_matrix("w", shape, range);
        (id.unwrap(), range)
    }

    fn matrix(
        &mut self,
        kind: MatrixKind,
        rows: usize,
        cols: usize,
        scale: f32,
    ) -> (WeightId, Vec<f64>) {
        let shape = MatrixShape { kind, rows, cols, trains: false };
        let mut values = self.numbers.normal(rows * cols, scale);
        let id = self.backend.upload("w", shape, &values).unwrap();
        match self.weights {
            WeightType::Int8 | WeightType::Nf4 => {
                values = rounded(self.weights, "w", shape, &values).unwrap();
            }
            WeightType::F16 | WeightType::F32 => {
                values.iter_mut().for_each(|v| *v = (self.rounding.matrix)(*v));
            }
        }
        (id, wide(&values))
    }

    /// What the backend multiplies by for a matrix of these values.
    pub fn stored(&self, values: &[f64]) -> Vec<f64> {
        self.rounded(values)
    }

    fn tensor(&mut self, rows: Rows, width: usize, storage: Storage) -> Value {
        let bytes = self.backend.kind().element_bytes();
        let region = Region {
            offset: self.arena,
            len: storage.bytes(self.limits().rows(rows), width, bytes),
        };
        self.arena = (region.offset + region.len + GUARD).next_multiple_of(GUARD);
        let info = Info { what: What::Hidden, block: None, rows, width, storage };
        self.add(info, region)
    }

    fn add(&mut self, info: Info, region: Region) -> Value {
        self.tensors.push(Tensor { info, region, start: Vec::new() });
        Value(self.tensors.len() as u32 - 1)
    }

    /// A random input of the backend's activation type.
    pub fn input(&mut self, rows: Rows, width: usize, scale: f32) -> Value {
        self.random(rows, width, Storage::Activation, scale)
    }

    /// A random part of the residual stream or its gradient.
    pub fn stream(&mut self, rows: Rows, width: usize, scale: f32) -> Value {
        self.random(rows, width, Storage::Stream, scale)
    }

    pub fn input_f32(&mut self, rows: Rows, width: usize, scale: f32) -> Value {
        self.random(rows, width, Storage::F32, scale)
    }

    fn random(&mut self, rows: Rows, width: usize, storage: Storage, scale: f32) -> Value {
        let value = self.tensor(rows, width, storage);
        let count = self.batch.rows(rows) * width;
        self.tensors[value.index()].start = self.numbers.normal(count, scale);
        value
    }

    /// An input in codes of a byte or less, from these bytes.
    pub fn coded(
        &mut self,
        rows: Rows,
        width: usize,
        storage: Storage,
        mut byte: impl FnMut(&mut Numbers) -> u8,
    ) -> Value {
        let value = self.tensor(rows, width, storage);
        let mut bytes =
            vec![0u8; storage.bytes(self.batch.rows(rows), width, ElementBytes::all(4))];
        bytes.fill_with(|| byte(&mut self.numbers));
        self.tensors[value.index()].start = words_of(&bytes);
        value
    }

    pub fn output(&mut self, rows: Rows, width: usize) -> Value {
        self.tensor(rows, width, Storage::Activation)
    }

    pub fn output_stream(&mut self, rows: Rows, width: usize) -> Value {
        self.tensor(rows, width, Storage::Stream)
    }

    pub fn output_f32(&mut self, rows: Rows, width: usize) -> Value {
        self.tensor(rows, width, Storage::F32)
    }

    pub fn output_as(&mut self, rows: Rows, width: usize, storage: Storage) -> Value {
        self.tensor(rows, width, storage)
    }

    /// A value that is written in the place of `was`.
    pub fn over(&mut self, was: Value) -> Over {
        let Tensor { info, region, .. } = self.tensors[was.index()];
        let now = self.add(info, region);
        Over { was, now }
    }

    pub fn region(&self, value: Value) -> Region {
        self.tensors[value.index()].region
    }

    /// Elements used by the current batch; for a tensor in codes, words.
    fn used(&self, value: Value) -> usize {
        let info = self.tensors[value.index()].info;
        let rows = self.batch.rows(info.rows);
        match info.storage {
            Storage::Activation | Storage::Stream | Storage::F32 => rows * info.width,
            coded => coded.bytes(rows, info.width, ElementBytes::all(4)) / 4,
        }
    }

    fn limits(&self) -> Limits {
        Limits {
            tokens: self.batch.tokens() + 3,
            sequences: self.batch.sequences() + 3,
            max_len: self.batch.max_len() + 3,
        }
    }

    /// Makes the next `len` parameters; those requested before [`start`](Self::start)'s `trainable` train.
    pub fn param(&mut self, len: usize) -> ParamRange {
        // One untouched element before each range guards it.
        let range = ParamRange { offset: self.params + 1, len };
        self.params = range.offset + len + 1;
        range
    }

    /// Allocates, fills memory with the sentinel, writes inputs and random parameters and gradients.
    pub fn start(&mut self, trainable: usize, widest: usize) {
        let memory = Memory {
            arena: self.arena,
            params: self.params,
            trainable,
            with_gradient: trainable,
            limits: self.limits(),
            labels: 64 * self.limits().tokens,
            head_rows: self.limits().tokens,
            widest,
            labelled: [self.limits().tokens, widest],
            head_dim: 128,
            exchanged: trainable + 2,
        };
        self.backend.allocate(memory).unwrap();
        self.backend.set_batch(&self.batch, self.key).unwrap();
        let whole = Region { offset: 0, len: self.arena };
        let sentinels = vec![SENTINEL; self.arena / 4];
        self.backend.write(whole, Storage::F32, &sentinels).unwrap();
        for tensor in &self.tensors {
            let Tensor { info, region, start, .. } = tensor;
            self.backend.write(*region, info.storage, start).unwrap();
        }
        let all = ParamRange { offset: 0, len: self.params };
        let values = self.numbers.normal(self.params, 0.5);
        self.backend.write_params(Slot::Value, all, &values).unwrap();
        self.gradient = self.numbers.normal(trainable, 0.1);
        let trained = ParamRange { offset: 0, len: trainable };
        self.backend.write_params(Slot::Gradient, trained, &self.gradient).unwrap();
    }

    /// Whether a tensor has more bits than the backend's activations.
    pub fn is_wide(&self, value: Value) -> bool {
        let element = self.backend.kind().element_bytes();
        let stream = self.tensors[value.index()].info.storage == Storage::Stream;
        stream && element.stream > element.activation
    }

    /// Values as a 16-bit backend stores them.
    pub fn rounded(&self, values: &[f64]) -> Vec<f64> {
        values.iter().map(|&v| self.round(v)).collect()
    }

    pub fn round(&self, value: f64) -> f64 {
        f64::from((self.rounding.activation)(value as f32))
    }

    /// A tensor's elements in use, or the words of its codes.
    pub fn read(&self, value: Value) -> Vec<f32> {
        let Tensor { info, region, .. } = &self.tensors[value.index()];
        self.backend.read(*region, info.storage, self.used(value)).unwrap()
    }

    pub fn values(&self, range: ParamRange) -> Vec<f64> {
        wide(&self.backend.read_params(Slot::Value, range).unwrap())
    }

    pub fn gradient(&self, range: ParamRange) -> Vec<f32> {
        self.backend.read_params(Slot::Gradient, range).unwrap()
    }

    /// The gradient from before the operation, which adds to it.
    pub fn gradient_before(&self, range: ParamRange) -> Vec<f64> {
        wide(&self.gradient[range.offset..range.offset + range.len])
    }

    /// Runs one operation and asserts that nothing changed, to the bit, except what it writes and the gradients it adds
    /// to.
    pub fn run(&mut self, name: &str, op: impl Into<Op>) {
        self.run_all(name, vec![op.into()], program::Numbers::NONE);
    }

    /// The same for several operations.
    pub fn run_all(&mut self, name: &str, ops: Vec<Op>, numbers: program::Numbers) {
        let whole = Region { offset: 0, len: self.arena };
        let before = self.backend.read(whole, Storage::F32, self.arena / 4).unwrap();
        let all = ParamRange { offset: 0, len: self.params };
        let values = self.backend.read_params(Slot::Value, all).unwrap();
        let trainable = ParamRange { offset: 0, len: self.gradient.len() };
        let gradient = self.gradient(trainable);
        let writes: Vec<Value> = ops.iter().flat_map(Op::writes).collect();
        let sums: Vec<ParamRange> = ops.iter().flat_map(Op::sums).collect();
        let tensors: Vec<_> = self.tensors.iter().map(|t| (t.info, t.region)).collect();
        let program = program(ops, &tensors, self.limits());
        self.backend
            .run(&program, Span::WHOLE, numbers)
            .unwrap_or_else(|e| panic!("{name}: {e:#}"));

        let mut writable = vec![false; self.arena / 4];
        for value in writes {
            let Tensor { info, region, .. } = &self.tensors[value.index()];
            let element = match info.storage {
                Storage::Activation => self.backend.kind().element_bytes().activation,
                Storage::Stream => self.backend.kind().element_bytes().stream,
                _ => 4,
            };
            // An odd number of halves ends inside a word.
            let words = (self.used(value) * element).div_ceil(4);
            writable[region.offset / 4..region.offset / 4 + words].fill(true);
        }
        let after = self.backend.read(whole, Storage::F32, self.arena / 4).unwrap();
        for (word, ((a, b), &writable)) in after.iter().zip(&before).zip(&writable).enumerate() {
            assert!(
                writable || a.to_bits() == b.to_bits(),
                "{name}: byte {} of the arena was overwritten",
                word * 4
            );
        }
        for (i, (a, b)) in self.gradient(trainable).iter().zip(&gradient).enumerate() {
            let ours = sums.iter().any(|g| (g.offset..g.offset + g.len).contains(&i))
                || self.changes.contains(&i);
            assert!(ours || a.to_bits() == b.to_bits(), "{name}: gradient {i} was overwritten");
        }
        let after = self.backend.read_params(Slot::Value, all).unwrap();
        for (i, (a, b)) in after.iter().zip(&values).enumerate() {
            let ours = self.changes.contains(&i);
            assert!(ours || a.to_bits() == b.to_bits(), "{name}: parameter {i} changed");
        }
    }
}
