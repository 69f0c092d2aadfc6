//! The current batch in memory allocated before the run: packed, with its labels in words and the list of labelled
//! tokens.

use crate::backend::labels::{self, LabelKind};
use crate::backend::{Memory, check};
use crate::batch::{Batch, Labels};
use crate::program::Rows;
use crate::room::room;
use anyhow::Result;
use std::ops::Deref;

pub struct HostBatch {
    /// Without its labels.
    packed: Batch,
    /// In words.
    pub labels: Vec<u32>,
    pub label_kind: LabelKind,
    /// The labelled tokens, if a program continues with only those.
    pub labelled: Vec<u32>,
}

impl HostBatch {
    /// Room for what was planned, holding an empty batch.
    ///
    /// # Errors
    /// Not enough memory for it.
    pub fn new(memory: &Memory) -> Result<Self> {
        let tokens = || room(memory.limits.tokens, "a batch");
        let mut batch = Self::default();
        let packed = &mut batch.packed;
        (packed.ids, packed.type_ids, packed.positions) = (tokens()?, tokens()?, tokens()?);
        packed.cu_seqlens = room(memory.limits.sequences + 1, "a batch")?;
        packed.cu_seqlens.push(0);
        batch.labels = room(memory.labels, "a batch's labels")?;
        batch.labelled = room(memory.labelled[0], "a batch's labels")?;
        Ok(batch)
    }

    /// Its size in bytes.
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
    /// A batch that is not well formed, or larger than planned.
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

/// An empty batch, without room for another.
impl Default for HostBatch {
    fn default() -> Self {
        Self {
            packed: Batch {
                ids: Vec::new(),
                type_ids: Vec::new(),
                positions: Vec::new(),
                cu_seqlens: vec![0],
                labels: Labels::None,
            },
            labels: Vec::new(),
            label_kind: LabelKind::None,
            labelled: Vec::new(),
        }
    }
}
