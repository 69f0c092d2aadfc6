//! The current batch and the step's numbers in device memory: at fixed places in one of two buffers, read by recorded
//! steps. The next ones are uploaded to the other buffer while a step runs.

use super::args::{BatchHeader, StepNumbers};
use super::device::Device;
use super::memory::Address;
use super::pinned::{Alternating, Uploads};
use crate::backend::ids::LargestIds;
use crate::backend::labels::{self, LabelKind};
use crate::backend::{DropoutKey, Memory, check};
use crate::batch::Batch;
use crate::program::Limits;
use anyhow::{Result, ensure};
use bytemuck::Zeroable;

/// Sizes of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BatchShape {
    pub tokens: usize,
    pub sequences: usize,
    pub max_len: usize,
}

impl BatchShape {
    pub fn limits(self) -> Limits {
        let Self { tokens, sequences, max_len } = self;
        Limits { tokens, sequences, max_len }
    }
}

/// The step's numbers, header, ids, positions, token types, sequence bounds, labels and the tokens that have one, in
/// 32-bit words.
#[derive(Debug)]
pub struct DeviceBatch {
    buffers: Alternating,
    batches: Uploads,
    numbers: Uploads,
    /// The step's numbers as the next operations launched will see them.
    current: StepNumbers,
    memory: Memory,
    shape: BatchShape,
    /// What launches are sized for: the batch's own shape, or its bucket while a program runs.
    pub grid: BatchShape,
    pub labels: LabelKind,
    pub ids: LargestIds,
    /// Labelled tokens, if a program continues with only those.
    pub labelled: usize,
}

const NUMBERS_WORDS: usize = size_of::<StepNumbers>() / 4;
const HEADER_WORDS: usize = size_of::<BatchHeader>() / 4;

impl DeviceBatch {
    /// Of a batch.
    fn words(memory: &Memory) -> usize {
        let Memory { limits, labels, labelled, .. } = memory;
        HEADER_WORDS + 3 * limits.tokens + limits.sequences + 1 + labels + labelled[0]
    }

    /// Bytes of each of the two buffers.
    pub fn size(memory: &Memory) -> usize {
        (NUMBERS_WORDS + Self::words(memory)) * 4
    }

    pub fn new(device: &Device, memory: Memory) -> Result<Self> {
        let (words, current) = (Self::words(&memory), StepNumbers::zeroed());
        let first = bytemuck::cast_slice(std::slice::from_ref(&current));
        Ok(Self {
            buffers: Alternating::new(device, NUMBERS_WORDS + words, first)?,
            batches: Uploads::new(device, words)?,
            numbers: Uploads::new(device, NUMBERS_WORDS)?,
            current,
            memory,
            shape: BatchShape::default(),
            grid: BatchShape::default(),
            labels: LabelKind::None,
            ids: LargestIds::default(),
            labelled: 0,
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
            shape.tokens <= limits.tokens.min(self.memory.limits.tokens)
                && shape.sequences <= limits.sequences.min(self.memory.limits.sequences)
                && shape.max_len <= limits.max_len.min(self.memory.limits.max_len),
            "a batch of {shape:?} for a program of {limits:?}"
        );
        self.grid = bucket(shape);
        Ok(self.grid)
    }

    /// Sizes launches for the current batch only.
    pub fn leave(&mut self) {
        self.grid = self.shape;
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.buffers.bytes()
    }

    /// Makes `batch` the current one for everything launched later; its upload overlaps what was launched earlier.
    pub fn set(&mut self, batch: &Batch, key: DropoutKey) -> Result<()> {
        check::batch(batch, &self.memory)?;
        let labelled: Vec<u32> = labels::labelled(batch, &self.memory).collect();
        let header = BatchHeader {
            tokens: u32::try_from(batch.tokens())?,
            sequences: u32::try_from(batch.sequences())?,
            max_len: u32::try_from(batch.max_len())?,
            step: key.step as u32,
            seed_low: key.seed as u32,
            seed_high: (key.seed >> 32) as u32,
            first_token: key.first.tokens,
            first_sequence: key.first.sequences,
            labelled: u32::try_from(labelled.len())?,
        };
        let parts = [
            (
                NUMBERS_WORDS,
                bytemuck::cast_slice::<BatchHeader, u32>(std::slice::from_ref(&header)),
            ),
            (self.ids_at(), &batch.ids),
            (self.positions_at(), &batch.positions),
            (self.types_at(), &batch.type_ids),
            (self.bounds_at(), &batch.cu_seqlens),
            (self.labels_at(), labels::words(&batch.labels)),
            (self.labelled_at(), &labelled),
        ];
        self.buffers.send(&mut self.batches, NUMBERS_WORDS, |words| {
            for (at, part) in parts {
                words[at - NUMBERS_WORDS..][..part.len()].copy_from_slice(part);
            }
        })?;
        self.labels = LabelKind::of(batch);
        self.ids = LargestIds::of(batch);
        self.labelled = labelled.len();
        self.shape = BatchShape {
            tokens: batch.tokens(),
            sequences: batch.sequences(),
            max_len: batch.max_len(),
        };
        self.grid = self.shape;
        Ok(())
    }

    /// The current numbers of the step, to be modified.
    pub fn current_numbers(&self) -> StepNumbers {
        self.current
    }

    /// Puts `numbers`, if they changed, and the batch, if it is new, where everything launched later finds them.
    pub fn arrive(&mut self, numbers: StepNumbers) -> Result<()> {
        let fill = |words: &mut [u32]| words.copy_from_slice(bytemuck::cast_slice(&[numbers]));
        if self.buffers.waiting() {
            // The numbers next to a new batch are those of two batches ago.
            self.buffers.send(&mut self.numbers, 0, fill)?;
            self.buffers.advance()?;
        } else if !numbers.same(&self.current) {
            self.buffers.amend(&mut self.numbers, 0, fill)?;
        }
        self.current = numbers;
        Ok(())
    }

    /// Which of the two buffers everything launched now reads: a recording holds for one of them.
    pub fn turn(&self) -> usize {
        self.buffers.turn()
    }

    fn ids_at(&self) -> usize {
        NUMBERS_WORDS + HEADER_WORDS
    }

    fn positions_at(&self) -> usize {
        self.ids_at() + self.memory.limits.tokens
    }

    fn types_at(&self) -> usize {
        self.positions_at() + self.memory.limits.tokens
    }

    fn bounds_at(&self) -> usize {
        self.types_at() + self.memory.limits.tokens
    }

    fn labels_at(&self) -> usize {
        self.bounds_at() + self.memory.limits.sequences + 1
    }

    fn labelled_at(&self) -> usize {
        self.labels_at() + self.memory.labels
    }

    /// The step's numbers.
    pub fn step_numbers(&self) -> Result<Address> {
        self.buffers.current().at(0, size_of::<StepNumbers>())
    }

    pub fn header(&self) -> Result<Address> {
        self.buffers.current().at(NUMBERS_WORDS * 4, size_of::<BatchHeader>())
    }

    pub fn ids(&self) -> Result<Address> {
        self.buffers.current().at(self.ids_at() * 4, self.memory.limits.tokens * 4)
    }

    pub fn positions(&self) -> Result<Address> {
        self.buffers.current().at(self.positions_at() * 4, self.memory.limits.tokens * 4)
    }

    pub fn types(&self) -> Result<Address> {
        self.buffers.current().at(self.types_at() * 4, self.memory.limits.tokens * 4)
    }

    pub fn bounds(&self) -> Result<Address> {
        self.buffers.current().at(self.bounds_at() * 4, (self.memory.limits.sequences + 1) * 4)
    }

    pub fn labels(&self) -> Result<Address> {
        self.buffers.current().at(self.labels_at() * 4, self.memory.labels * 4)
    }

    pub fn labelled(&self) -> Result<Address> {
        self.buffers.current().at(self.labelled_at() * 4, self.memory.labelled[0] * 4)
    }
}
