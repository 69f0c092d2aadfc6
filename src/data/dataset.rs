//! A tokenized table, stored flat, from which any rows are packed into a batch.

use anyhow::{Result, bail};

use super::formats::Row;
use super::tokenize::{Encoded, Positions, Progress, TextCounts, TextTokenizer};
use crate::batch::{Batch, Labels};

/// N tokenized rows with their targets.
pub struct Dataset {
    /// Ids of all rows end to end, `[tokens]`.
    ids: Vec<u32>,
    /// Start of each row in `ids`, and the total, `[N + 1]`.
    offsets: Vec<usize>,
    /// Leading tokens of each row that have type 0, `[N]`.
    type_zero: Vec<u32>,
    labels: Labels,
    positions: Positions,
}

impl Dataset {
    /// Tokenizes rows in parallel; `labels` are theirs in the same order, or `Labels::None`.
    ///
    /// # Errors
    /// No rows, another number of labels than rows, or pairs for a tokenizer that has no form for them.
    pub fn build(
        rows: &[Row],
        labels: Labels,
        tokenizer: &TextTokenizer,
        progress: Progress<'_>,
    ) -> Result<(Self, TextCounts)> {
        if rows.is_empty() {
            bail!("there are no examples to tokenize");
        }
        if let Some(count) = labels.len().filter(|&count| count != rows.len()) {
            bail!("{count} labels for {} examples", rows.len());
        }
        let Encoded {
            ids,
            ends,
            type_zero,
            counts,
        } = tokenizer.encode(rows, progress)?;
        let offsets = std::iter::once(0).chain(ends).collect();
        let positions = tokenizer.options().positions;
        Ok((
            Self {
                ids,
                offsets,
                type_zero,
                labels,
                positions,
            },
            counts,
        ))
    }

    /// N, the number of rows.
    pub fn len(&self) -> usize {
        self.type_zero.len()
    }

    /// Never true of a built dataset.
    pub fn is_empty(&self) -> bool {
        self.type_zero.is_empty()
    }

    /// Tokens of all rows together.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Length of each row in tokens, `[N]`.
    pub fn lengths(&self) -> Vec<u32> {
        self.offsets
            .windows(2)
            .map(|w| (w[1] - w[0]) as u32)
            .collect()
    }

    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Ids of one row.
    pub fn ids(&self, row: usize) -> &[u32] {
        &self.ids[self.offsets[row]..self.offsets[row + 1]]
    }

    /// Packs the given rows in the order given.
    ///
    /// # Panics
    /// When a row is out of range.
    pub fn batch(&self, rows: &[usize]) -> Batch {
        let tokens = rows.iter().map(|&row| self.ids(row).len()).sum();
        let mut batch = Batch {
            ids: Vec::with_capacity(tokens),
            type_ids: Vec::with_capacity(tokens),
            positions: Vec::with_capacity(tokens),
            cu_seqlens: Vec::with_capacity(rows.len() + 1),
            labels: self.labels.select(rows),
        };
        batch.cu_seqlens.push(0);
        for &row in rows {
            let ids = self.ids(row);
            let (length, zeros) = (ids.len() as u32, self.type_zero[row]);
            batch.ids.extend_from_slice(ids);
            batch
                .type_ids
                .extend((0..length).map(|token| u32::from(token >= zeros)));
            batch
                .positions
                .extend((0..length).map(|token| self.positions.offset + token));
            batch.cu_seqlens.push(batch.ids.len() as u32);
        }
        batch
    }
}
