//! A tokenized table, stored flat, from which any rows are packed into a batch.

use std::ops::Range;

use anyhow::{Result, bail};

use super::input::Row;
use super::masking::Masking;
use super::text_counts::TextCounts;
use super::tokenize::{Encoded, OnRows, Positions, TextTokenizer};
use super::windows::Windows;
use crate::batch::{Batch, Labels};

/// N tokenized rows with their targets.
pub struct Dataset {
    /// Ids of all rows end to end, `[tokens]`.
    ids: Vec<u32>,
    /// Start of each row in `ids`, and the total, `[N + 1]`.
    offsets: Vec<usize>,
    /// Leading tokens of each row that have type 0, `[N]`.
    type_zero: Vec<u32>,
    /// The line of each row, `[N]`.
    lines: Vec<u64>,
    labels: Labels,
    positions: Positions,
    /// Of hidden words, which are then the labels.
    masking: Option<Masking>,
}

impl Dataset {
    /// Tokenizes rows in parallel; `labels` are in the same order, or `Labels::None`.
    ///
    /// # Errors
    /// No rows, a different number of labels than rows, or pairs for a tokenizer without a form for them.
    pub fn build(
        rows: &[Row],
        labels: Labels,
        tokenizer: &TextTokenizer,
        progress: OnRows<'_>,
    ) -> Result<(Self, TextCounts)> {
        let encoded = tokenizer.encode(rows, progress)?;
        let counts = encoded.counts;
        Ok((Self::of(encoded, labels, tokenizer.options().positions)?, counts))
    }

    /// Rows from windows, whose tokens are moved out.
    ///
    /// # Errors
    /// No windows, or a number of labels that fits neither the windows nor their tokens.
    pub fn of_windows(
        windows: &mut Windows,
        labels: Labels,
        tokenizer: &TextTokenizer,
    ) -> Result<Self> {
        let encoded = std::mem::take(&mut windows.encoded);
        Self::of(encoded, labels, tokenizer.options().positions)
    }

    fn of(encoded: Encoded, labels: Labels, positions: Positions) -> Result<Self> {
        let Encoded { ids, ends, type_zero, lines, counts: _ } = encoded;
        if ends.is_empty() {
            bail!("there are no examples to tokenize");
        }
        if !labels.fit(ends.len(), ids.len()) {
            bail!("{} for {} examples", labels.count(), ends.len());
        }
        let offsets = std::iter::once(0).chain(ends).collect();
        Ok(Self { ids, offsets, type_zero, lines, labels, positions, masking: None })
    }

    /// The same with hidden words, which are the labels.
    #[must_use]
    pub fn masked(self, masking: Masking) -> Self {
        Self { masking: Some(masking), ..self }
    }

    /// Some of the rows in the given order, without any words hidden.
    ///
    /// # Panics
    /// If a row is out of range.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        let mut offsets = vec![0];
        let mut ids = Vec::new();
        for &row in rows {
            ids.extend_from_slice(self.ids(row));
            offsets.push(ids.len());
        }
        Self {
            ids,
            offsets,
            type_zero: rows.iter().map(|&row| self.type_zero[row]).collect(),
            lines: rows.iter().map(|&row| self.lines[row]).collect(),
            labels: self.labels.select(rows, self.len(), |row| self.span(row)),
            positions: self.positions,
            masking: None,
        }
    }

    /// For rows to train on: hides different words each epoch.
    pub fn for_training(&mut self) {
        self.masking.iter_mut().for_each(Masking::for_training);
    }

    /// Whether words are hidden whose true values are unknown.
    pub fn asks_for_words(&self) -> bool {
        self.masking.as_ref().is_some_and(Masking::is_as_written)
    }

    /// Hidden tokens in a row for evaluation.
    pub fn labelled(&self, row: usize) -> usize {
        self.hidden(row, 0).iter().filter(|&&label| label != Labels::IGNORED).count()
    }

    /// What a row's tokens hide in an epoch; empty if nothing is hidden.
    fn hidden(&self, row: usize, epoch: u64) -> Vec<u32> {
        let hide = |masking: &Masking| masking.hide(row, epoch, &mut self.ids(row).to_vec());
        self.masking.as_ref().map(hide).unwrap_or_default()
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
        self.offsets.windows(2).map(|w| (w[1] - w[0]) as u32).collect()
    }

    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Ids of one row.
    pub fn ids(&self, row: usize) -> &[u32] {
        &self.ids[self.span(row)]
    }

    /// The line in its file that a row came from.
    pub fn line(&self, row: usize) -> u64 {
        self.lines[row]
    }

    fn span(&self, row: usize) -> Range<usize> {
        self.offsets[row]..self.offsets[row + 1]
    }

    fn labels_of(&self, rows: &[usize], epoch: u64) -> Labels {
        if self.masking.is_some() {
            let all = rows.iter().flat_map(|&row| self.hidden(row, epoch));
            return Labels::Tokens(all.collect());
        }
        self.labels.select(rows, self.len(), |row| self.span(row))
    }

    /// The divisor of the mean loss over the given rows of an epoch: see [`Labels::weight`].
    pub fn weight(&self, rows: &[usize], epoch: u64, class_weights: &[f32]) -> f64 {
        self.labels_of(rows, epoch).weight(class_weights)
    }

    /// Packs the given rows in the order given.
    ///
    /// # Panics
    /// If a row is out of range.
    pub fn batch(&self, rows: &[usize]) -> Batch {
        self.batch_of_epoch(rows, 0)
    }

    /// The same as they are in an epoch.
    ///
    /// # Panics
    /// If a row is out of range.
    pub fn batch_of_epoch(&self, rows: &[usize], epoch: u64) -> Batch {
        let tokens = rows.iter().map(|&row| self.ids(row).len()).sum();
        let mut batch = Batch {
            ids: Vec::with_capacity(tokens),
            type_ids: Vec::with_capacity(tokens),
            positions: Vec::with_capacity(tokens),
            cu_seqlens: Vec::with_capacity(rows.len() + 1),
            labels: Labels::None,
        };
        batch.cu_seqlens.push(0);
        let mut hidden = Vec::new();
        for &row in rows {
            let from = batch.ids.len();
            batch.ids.extend_from_slice(self.ids(row));
            let ids = &mut batch.ids[from..];
            if let Some(masking) = &self.masking {
                hidden.extend(masking.hide(row, epoch, ids));
            }
            let (length, zeros) = (ids.len() as u32, self.type_zero[row]);
            batch.type_ids.extend((0..length).map(|token| u32::from(token >= zeros)));
            batch.positions.extend(self.positions.of(ids));
            batch.cu_seqlens.push(batch.ids.len() as u32);
        }
        batch.labels = match self.masking {
            Some(_) => Labels::Tokens(hidden),
            None => self.labels_of(rows, epoch),
        };
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::TokenizerOptions;
    use proptest::prelude::*;

    const VOCAB: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\nc\n";

    fn tokenizer(offset: u32) -> TextTokenizer {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("vocab.txt"), VOCAB).unwrap();
        let positions = Positions { offset };
        let options = TokenizerOptions { vocab_size: 8, type_rows: 2, max_len: 9, positions };
        TextTokenizer::load(folder.path(), options).unwrap()
    }

    fn row(text: &str, pair: Option<&str>) -> Row {
        Row { line: 1, text: text.to_owned(), text_pair: pair.map(str::to_owned), label: None }
    }

    #[test]
    fn a_batch_is_packed_in_the_order_asked_for() {
        let rows = [row("a b", None), row("c", Some("a b")), row("", None)];
        let labels = Labels::Classes(vec![0, 1, 2]);
        let (data, _) = Dataset::build(&rows, labels, &tokenizer(2), &|_| ()).unwrap();
        assert_eq!((data.len(), data.tokens(), data.lengths()), (3, 12, vec![4, 6, 2]));
        let expected = Batch {
            ids: vec![2, 7, 3, 5, 6, 3, 2, 3, 2, 5, 6, 3],
            type_ids: vec![0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0],
            positions: vec![2, 3, 4, 5, 6, 7, 2, 3, 2, 3, 4, 5],
            cu_seqlens: vec![0, 6, 8, 12],
            labels: Labels::Classes(vec![1, 2, 0]),
        };
        assert_eq!(data.batch(&[1, 2, 0]), expected);
    }

    #[test]
    fn a_padding_token_within_a_roberta_text_takes_no_position_of_its_own() {
        // Offset 8: the padding id is 7, which is `c` here.
        let (data, _) =
            Dataset::build(&[row("a c b", None)], Labels::None, &tokenizer(8), &|_| ()).unwrap();
        let batch = data.batch(&[0]);
        assert_eq!(batch.ids, [2, 5, 7, 6, 3]);
        assert_eq!(batch.positions, [8, 9, 7, 10, 11]);
    }

    #[test]
    fn wrong_counts_are_refused() {
        let build = |rows: &[Row], labels| {
            Dataset::build(rows, labels, &tokenizer(0), &|_| ()).err().unwrap()
        };
        assert!(build(&[], Labels::None).to_string().contains("no examples"));
        let message = build(&[row("a", None)], Labels::Classes(vec![0, 1])).to_string();
        assert_eq!(message, "2 class labels for 1 examples");
    }

    proptest! {
        #[test]
        fn unpacking_a_batch_gives_back_each_row(
            texts in prop::collection::vec(("[a-c ]{0,12}", prop::option::of("[a-c ]{0,12}")), 1..12),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        ) {
            let rows: Vec<Row> = texts.iter().map(|(text, pair)| row(text, pair.as_deref())).collect();
            let values = (0..rows.len()).map(|i| i as f32).collect();
            let (data, _) = Dataset::build(&rows, Labels::Values(values), &tokenizer(0), &|_| ()).unwrap();
            let picks: Vec<usize> = picks.iter().map(|pick| pick.index(rows.len())).collect();
            let batch = data.batch(&picks);
            prop_assert_eq!(batch.sequences(), picks.len());
            prop_assert_eq!(batch.type_ids.len(), batch.tokens());
            for (at, &pick) in picks.iter().enumerate() {
                let span = batch.cu_seqlens[at] as usize..batch.cu_seqlens[at + 1] as usize;
                prop_assert_eq!(&batch.ids[span.clone()], data.ids(pick));
                let ascending: Vec<u32> = (0..span.len() as u32).collect();
                prop_assert_eq!(&batch.positions[span.clone()], &ascending[..]);
                // Type 1 begins right after the first [SEP] of a pair.
                let first_sep = data.ids(pick).iter().position(|&id| id == 3).unwrap();
                let second = rows[pick].text_pair.as_ref().is_some_and(|t| !t.is_empty());
                let types: Vec<u32> = (0..span.len()).map(|t| u32::from(second && t > first_sep)).collect();
                prop_assert_eq!(&batch.type_ids[span], &types[..]);
            }
            let expected: Vec<f32> = picks.iter().map(|&pick| pick as f32).collect();
            prop_assert_eq!(batch.labels, Labels::Values(expected));
        }
    }
}
