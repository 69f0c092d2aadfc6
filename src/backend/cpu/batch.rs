//! The current batch in memory that was taken before the run: packed, its labels in words, and which tokens have one.

use crate::backend::labels::{self, LabelKind};
use crate::backend::{Memory, check};
use crate::batch::{Batch, Labels};
use crate::program::Rows;
use anyhow::Result;
use std::ops::Deref;

pub struct HostBatch {
    /// Without its labels.
    packed: Batch,
    /// In words.
    pub labels: Vec<u32>,
    pub label_kind: LabelKind,
    /// The tokens that have a label, where a program goes on with them alone.
    pub labelled: Vec<u32>,
}

impl HostBatch {
    /// Room for what was planned, and an empty batch in it.
    pub fn new(memory: &Memory) -> Self {
        let tokens = || Vec::with_capacity(memory.limits.tokens);
        let mut cu_seqlens = Vec::with_capacity(memory.limits.sequences + 1);
        cu_seqlens.push(0);
        Self {
            packed: Batch {
                ids: tokens(),
                type_ids: tokens(),
                positions: tokens(),
                cu_seqlens,
                labels: Labels::None,
            },
            labels: Vec::with_capacity(memory.labels),
            label_kind: LabelKind::None,
            labelled: Vec::with_capacity(memory.labelled[0]),
        }
    }

    /// Bytes of that.
    pub fn size(memory: &Memory) -> usize {
        let Memory { limits, labels, labelled, .. } = memory;
        4 * (3 * limits.tokens + limits.sequences + 1 + labels + labelled[0])
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        let Batch { ids, type_ids, positions, cu_seqlens, labels: _ } = &self.packed;
        let all = [ids, type_ids, positions, cu_seqlens, &self.labels, &self.labelled];
        all.into_iter().map(|words| 4 * words.capacity()).sum()
    }

    /// # Errors
    /// A batch that is not well formed, or larger than what was planned.
    pub fn set(&mut self, batch: &Batch, memory: &Memory) -> Result<()> {
        check::batch(batch, memory)?;
        self.packed.ids.clone_from(&batch.ids);
        self.packed.type_ids.clone_from(&batch.type_ids);
        self.packed.positions.clone_from(&batch.positions);
        self.packed.cu_seqlens.clone_from(&batch.cu_seqlens);
        self.labels.clear();
        self.labels.extend_from_slice(labels::words(&batch.labels));
        self.label_kind = LabelKind::of(batch);
        self.labelled.clear();
        self.labelled.extend(labels::labelled(batch, memory));
        Ok(())
    }

    /// Rows of a tensor.
    pub fn rows(&self, rows: Rows) -> usize {
        match rows {
            Rows::Labelled(_) => self.labelled.len(),
            rows => self.packed.rows(rows),
        }
    }
}

impl Deref for HostBatch {
    type Target = Batch;

    fn deref(&self) -> &Batch {
        &self.packed
    }
}

impl Default for HostBatch {
    fn default() -> Self {
        Self::new(&Memory::default())
    }
}
