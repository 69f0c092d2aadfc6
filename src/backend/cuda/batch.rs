//! The current batch in device memory: one buffer at fixed places, which recorded steps read. The next batch goes up to a
//! second one while a step runs, and from there to its place by one copy on the device.

use super::args::BatchHeader;
use super::device::Device;
use super::memory::{Address, Buffer};
use super::pinned::UploadsBeside;
use crate::backend::ids::LargestIds;
use crate::backend::{DropoutKey, check};
use crate::batch::{Batch, Labels};
use crate::program::{Limits, LossKind};
use anyhow::{Result, bail, ensure};

/// Sizes of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BatchShape {
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

/// What a loss needs of the labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LabelNeed {
    pub kind: LossKind,
    pub outputs: usize,
}

impl LabelNeed {
    /// # Errors
    /// When the labels are of another kind, or a class has no output.
    pub fn check(self, labels: LabelKind) -> Result<()> {
        let outputs = self.outputs;
        match (self.kind, labels) {
            (LossKind::CrossEntropy, LabelKind::Classes { largest }) => ensure!(
                (largest as usize) < outputs,
                "label {largest}: the head has {outputs} outputs"
            ),
            (LossKind::MeanSquared, LabelKind::Values) => {
                ensure!(outputs == 1, "a squared error over {outputs} outputs");
            }
            (LossKind::CrossEntropy, _) => bail!("cross-entropy needs class labels"),
            (LossKind::MeanSquared, _) => bail!("the squared error needs numbers for labels"),
        }
        Ok(())
    }
}

/// Header, ids, positions, token types, sequence bounds and labels, in 32-bit words.
#[derive(Debug)]
pub struct DeviceBatch {
    buffer: Buffer,
    uploads: UploadsBeside,
    limits: Limits,
    shape: BatchShape,
    /// What launches are sized for: the batch's own shape, or its bucket's while a program runs.
    pub grid: BatchShape,
    pub labels: LabelKind,
    pub ids: LargestIds,
}

const HEADER_WORDS: usize = size_of::<BatchHeader>() / 4;

impl DeviceBatch {
    fn words(limits: Limits) -> usize {
        HEADER_WORDS + 3 * limits.tokens + 2 * limits.sequences + 1
    }

    /// Bytes of each of the two buffers for batches up to `limits`.
    pub fn size(limits: Limits) -> usize {
        Self::words(limits) * 4
    }

    pub fn new(device: &Device, limits: Limits) -> Result<Self> {
        Ok(Self {
            buffer: Buffer::new(device, "batch", Self::size(limits))?,
            uploads: UploadsBeside::new(device, Self::words(limits))?,
            limits,
            shape: BatchShape::default(),
            grid: BatchShape::default(),
            labels: LabelKind::None,
            ids: LargestIds::default(),
        })
    }

    /// Sizes launches for the bucket of the current batch, which must be within a program's `limits`.
    pub fn enter(
        &mut self,
        limits: Limits,
        bucket: impl Fn(BatchShape) -> BatchShape,
    ) -> Result<BatchShape> {
        let shape = self.shape;
        ensure!(
            shape.tokens <= limits.tokens.min(self.limits.tokens)
                && shape.sequences <= limits.sequences.min(self.limits.sequences)
                && shape.max_len <= limits.max_len.min(self.limits.max_len),
            "a batch of {shape:?} for a program of {limits:?}"
        );
        self.grid = bucket(shape);
        Ok(self.grid)
    }

    /// Sizes launches for the current batch alone.
    pub fn leave(&mut self) {
        self.grid = self.shape;
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.buffer.bytes() + self.uploads.bytes()
    }

    /// Makes `batch` the current one for everything launched later; it goes up beside what was launched earlier.
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
        let parts = [
            (0, bytemuck::cast_slice::<BatchHeader, u32>(std::slice::from_ref(&header))),
            (self.ids_at(), &batch.ids),
            (self.positions_at(), &batch.positions),
            (self.types_at(), &batch.type_ids),
            (self.bounds_at(), &batch.cu_seqlens),
            (self.labels_at(), labels),
        ];
        self.uploads.send(&mut self.buffer, |staging| {
            for (at, words) in parts {
                staging[at..at + words.len()].copy_from_slice(words);
            }
        })?;
        self.labels = kind;
        self.ids = LargestIds::of(batch);
        self.shape = BatchShape {
            tokens: batch.tokens(),
            sequences: batch.sequences(),
            max_len: batch.max_len(),
        };
        self.grid = self.shape;
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
        self.buffer.at(self.positions_at() * 4, self.limits.tokens * 4)
    }

    pub fn types(&self) -> Result<Address> {
        self.buffer.at(self.types_at() * 4, self.limits.tokens * 4)
    }

    pub fn bounds(&self) -> Result<Address> {
        self.buffer.at(self.bounds_at() * 4, (self.limits.sequences + 1) * 4)
    }

    pub fn labels(&self) -> Result<Address> {
        self.buffer.at(self.labels_at() * 4, self.limits.sequences * 4)
    }
}
