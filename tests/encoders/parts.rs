//! Layers for test encoders: random matrices on a backend, and parameters in a separate vector.

use bitfit::backend::{Backend, MatrixKind, MatrixShape};
use bitfit::batch::{Batch, Labels};
use bitfit::model::bert::{Block, BlockLowRank, Embeddings};
use bitfit::program::{
    Activation, Dropout, HeadWeight, LinearLayer, LossKind, Norm, NormLayer, ParamRange, PoolKind,
    TableIds, WeightId,
};
use bitfit::rng::{Purpose, Stream};
use bitfit::tasks::head::{DenseLayer, TaskHead};

pub const HIDDEN: usize = 32;
pub const BLOCKS: usize = 3;
const INNER: usize = 64;
const HEADS: usize = 2;
const VOCABULARY: usize = 40;
const CLASSES: usize = 3;
/// In the vector, what trains comes before it, what is frozen after.
const FROZEN: usize = 4096;

/// Creates layers; see the module's documentation.
pub struct Parts<'a> {
    backend: &'a mut dyn Backend,
    numbers: Stream,
    dropout: f32,
    sites: u32,
    trained: Vec<f32>,
    frozen: Vec<f32>,
}

impl<'a> Parts<'a> {
    pub fn new(backend: &'a mut dyn Backend, dropout: f32) -> Self {
        Self {
            backend,
            numbers: Stream::new(11, Purpose::HeadInit, 0),
            dropout,
            sites: 0,
            trained: Vec::new(),
            frozen: Vec::new(),
        }
    }

    /// The whole vector, and the range of what trains.
    pub fn parameters(mut self) -> (Vec<f32>, ParamRange) {
        assert!(self.trained.len() <= FROZEN);
        let len = self.trained.len();
        self.trained.resize(FROZEN, 0.0);
        self.trained.append(&mut self.frozen);
        (self.trained, ParamRange { offset: 0, len })
    }

    fn draw(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| scale * self.numbers.normal()).collect()
    }

    fn matrix(&mut self, kind: MatrixKind, rows: usize, cols: usize) -> WeightId {
        let data = self.draw(rows * cols, 1.0 / (cols as f32).sqrt());
        let shape = MatrixShape { kind, rows, cols, trains: false };
        self.backend.upload("w", shape, &data).unwrap()
    }

    fn trained(&mut self, len: usize) -> ParamRange {
        let offset = self.trained.len();
        let values = self.draw(len, 0.1);
        self.trained.extend(values);
        ParamRange { offset, len }
    }

    pub fn dropout(&mut self) -> Dropout {
        self.sites += 1;
        Dropout { p: self.dropout, site: self.sites }
    }

    fn layer_norm(&mut self) -> Norm {
        let offset = FROZEN + self.frozen.len();
        let gains = self.draw(HIDDEN, 0.2);
        self.frozen.extend(gains.iter().map(|x| 1.0 + x));
        Norm { gamma: ParamRange { offset, len: HIDDEN }, beta: self.trained(HIDDEN), eps: 1e-5 }
    }

    fn norm(&mut self) -> NormLayer {
        NormLayer { norm: self.layer_norm(), dropout: self.dropout(), gain_trains: false }
    }

    fn linear(&mut self, inputs: usize, outputs: usize, parts: usize) -> LinearLayer {
        LinearLayer {
            weight: self.matrix(MatrixKind::Linear, outputs, inputs),
            trains: None,
            bias: (0..parts).map(|_| self.trained(outputs / parts)).collect(),
            inputs,
            outputs,
            sparse: None,
        }
    }

    pub fn block(&mut self) -> Block {
        Block {
            qkv: self.linear(HIDDEN, 3 * HIDDEN, 3),
            attention_output: self.linear(HIDDEN, HIDDEN, 1),
            attention_norm: self.norm(),
            intermediate: self.linear(HIDDEN, INNER, 1),
            activation: Activation::GeluErf,
            output: self.linear(INNER, HIDDEN, 1),
            output_norm: self.norm(),
            factors: None,
            low_rank: BlockLowRank::default(),
            heads: HEADS,
            dropout: self.dropout(),
            first: None,
        }
    }

    pub fn embeddings(&mut self) -> Embeddings {
        Embeddings {
            added: None,
            tables: TableIds {
                word: self.matrix(MatrixKind::Table, VOCABULARY, HIDDEN),
                position: self.matrix(MatrixKind::Table, 16, HIDDEN),
                token_type: self.matrix(MatrixKind::Table, 1, HIDDEN),
            },
            norm: self.layer_norm(),
            dropout: self.dropout(),
            trains: None,
            gain_trains: false,
        }
    }

    pub fn head(&mut self) -> TaskHead {
        TaskHead {
            pool: PoolKind::Mean,
            hidden: HIDDEN,
            layers: vec![DenseLayer {
                weight: HeadWeight::Param(self.trained(CLASSES * HIDDEN)),
                bias: self.trained(CLASSES),
                outputs: CLASSES,
                dropout: self.dropout(),
                tanh: false,
                norm: None,
            }],
            loss: LossKind::CrossEntropy,
            class_weights: None,
        }
    }
}

/// Four sequences.
pub fn batch() -> Batch {
    let lengths = [3u32, 9, 1, 12];
    let mut cu_seqlens = vec![0];
    for length in lengths {
        cu_seqlens.push(cu_seqlens[cu_seqlens.len() - 1] + length);
    }
    let positions = lengths.iter().flat_map(|&length| 0..length);
    let tokens = lengths.iter().sum::<u32>();
    Batch {
        ids: (0..tokens).map(|i| i * 7 % VOCABULARY as u32).collect(),
        type_ids: vec![0; tokens as usize],
        positions: positions.collect(),
        cu_seqlens,
        labels: Labels::Classes(vec![0, 2, 1, 2]),
    }
}
