//! The current batch in device memory: one buffer at fixed places, filled by one copy.

use super::args::BatchHeader;
use super::device::Device;
use super::memory::{Address, Buffer};
use crate::backend::check;
use crate::backend::{DropoutKey, Limits};
use crate::batch::{Batch, Labels};
use anyhow::Result;

/// Sizes of the current batch, for launch grids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    pub tokens: usize,
    pub sequences: usize,
    pub max_len: usize,
}

/// What the labels of the current batch are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelKind {
    None,
    /// Class ids, all up to this one.
    Classes {
        largest: u32,
    },
    Values,
}

/// Header, ids, positions, token types, sequence bounds and labels, in 32-bit words.
#[derive(Debug)]
pub struct DeviceBatch {
    buffer: Buffer,
    staging: Vec<u32>,
    limits: Limits,
    pub shape: Shape,
    pub labels: LabelKind,
}

const HEADER_WORDS: usize = size_of::<BatchHeader>() / 4;

impl DeviceBatch {
    pub fn new(device: &Device, limits: Limits) -> Result<Self> {
        let words = Self::words(limits);
        Ok(Self {
            buffer: Buffer::new(device, "batch", words * 4)?,
            staging: vec![0; words],
            limits,
            shape: Shape::default(),
            labels: LabelKind::None,
        })
    }

    /// 32-bit words of the largest batch.
    pub fn words(limits: Limits) -> usize {
        HEADER_WORDS + 3 * limits.tokens + 2 * limits.sequences + 1
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.buffer.bytes()
    }

    /// Makes `batch` the current one; its copy is ordered before everything launched later.
    pub fn set(&mut self, batch: &Batch, key: DropoutKey) -> Result<()> {
        check::batch(batch, self.limits)?;
        let header = BatchHeader {
            tokens: u32::try_from(batch.tokens())?,
            sequences: u32::try_from(batch.sequences())?,
            max_len: u32::try_from(batch.max_len())?,
            step: key.step as u32,
            seed_low: key.seed as u32,
            seed_high: (key.seed >> 32) as u32,
            padding: [0; 2],
        };
        let (labels, kind): (&[u32], _) = match &batch.labels {
            Labels::None => (&[], LabelKind::None),
            Labels::Classes(ids) => {
                let largest = ids.iter().copied().max().unwrap_or(0);
                (ids, LabelKind::Classes { largest })
            }
            Labels::Values(values) => (bytemuck::cast_slice(values), LabelKind::Values),
        };
        for (at, words) in [
            (0, bytemuck::cast_slice::<BatchHeader, u32>(&[header])),
            (self.ids_at(), &batch.ids),
            (self.positions_at(), &batch.positions),
            (self.types_at(), &batch.type_ids),
            (self.bounds_at(), &batch.cu_seqlens),
            (self.labels_at(), labels),
        ] {
            self.staging[at..at + words.len()].copy_from_slice(words);
        }
        self.buffer.write(0, &self.staging)?;
        self.labels = kind;
        self.shape = Shape {
            tokens: batch.tokens(),
            sequences: batch.sequences(),
            max_len: batch.max_len(),
        };
        Ok(())
    }

    fn ids_at(&self) -> usize {
        HEADER_WORDS
    }

    fn positions_at(&self) -> usize {
        self.ids_at() + self.limits.tokens
    }

    fn types_at(&self) -> usize {
        self.positions_at() + self.limits.tokens
    }

    fn bounds_at(&self) -> usize {
        self.types_at() + self.limits.tokens
    }

    fn labels_at(&self) -> usize {
        self.bounds_at() + self.limits.sequences + 1
    }

    pub fn header(&self) -> Result<Address> {
        self.buffer.at(0, size_of::<BatchHeader>())
    }

    pub fn ids(&self) -> Result<Address> {
        self.buffer.at(self.ids_at() * 4, self.limits.tokens * 4)
    }

    pub fn positions(&self) -> Result<Address> {
        self.buffer
            .at(self.positions_at() * 4, self.limits.tokens * 4)
    }

    pub fn types(&self) -> Result<Address> {
        self.buffer.at(self.types_at() * 4, self.limits.tokens * 4)
    }

    pub fn bounds(&self) -> Result<Address> {
        self.buffer
            .at(self.bounds_at() * 4, (self.limits.sequences + 1) * 4)
    }

    pub fn labels(&self) -> Result<Address> {
        self.buffer
            .at(self.labels_at() * 4, self.limits.sequences * 4)
    }
}
