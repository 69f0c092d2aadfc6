//! Examples of any kind that a task reads, tokenized, with the targets for a model's answers.

use super::confusion::Confusion;
use super::entities::EntityTally;
use super::metrics::Scores;
use super::targets::Targets;
use crate::batch::Labels;
use crate::data::{
    Dataset, Documents, MaskTokens, Masking, OnRows, Row, Table, TextCounts, TextTokenizer, Window,
    Windows,
};
use crate::formats::columns::Columns;
use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// The examples of one file.
pub enum Examples {
    Texts(Table),
    Documents(Documents),
}

impl Examples {
    /// Starts messages about its rows.
    pub fn name(&self) -> &str {
        match self {
            Self::Texts(table) => &table.name,
            Self::Documents(documents) => &documents.name,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Texts(table) => table.rows.len(),
            Self::Documents(documents) => documents.list.len(),
        }
    }

    /// Never true of a file that was read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The table, if they are rows of one.
    pub fn table(&self) -> Option<&Table> {
        match self {
            Self::Texts(table) => Some(table),
            Self::Documents(_) => None,
        }
    }

    /// The content of each: a text, or two. For a question, the text it is asked about.
    pub fn texts(&self) -> Vec<(&str, Option<&str>)> {
        match self {
            Self::Texts(table) => {
                fn texts(row: &Row) -> (&str, Option<&str>) {
                    (&row.text, row.text_pair.as_deref())
                }
                table.rows.iter().map(texts).collect()
            }
            Self::Documents(documents) => {
                documents.list.iter().map(|document| (document.text.as_str(), None)).collect()
            }
        }
    }

    /// The columns they were read from, if any.
    pub fn columns(&self) -> Option<&Columns> {
        self.table().map(|table| &table.columns)
    }

    /// The sha256 of their contents.
    pub fn sha256(&self) -> String {
        match self {
            Self::Texts(table) => table.sha256(),
            Self::Documents(documents) => documents.sha256(),
        }
    }

    /// The given examples, in the order given.
    #[must_use]
    pub fn select(&self, rows: &[usize]) -> Self {
        match self {
            Self::Texts(table) => Self::Texts(table.select(rows)),
            Self::Documents(documents) => Self::Documents(documents.select(rows)),
        }
    }
}

impl From<Table> for Examples {
    fn from(table: Table) -> Self {
        Self::Texts(table)
    }
}

/// Examples as sequences with labels.
pub struct Prepared {
    pub dataset: Dataset,
    /// Those whose answers are combined from windows.
    pub documents: Option<InWindows>,
}

/// Documents and the windows on them, each a row of the dataset.
pub struct InWindows {
    pub documents: Documents,
    pub windows: Windows,
}

impl Prepared {
    /// Tokenizes examples with their labels; `stride` is the overlap of windows.
    ///
    /// # Errors
    /// A label that the task does not have, by file and line; a text that cannot be tokenized.
    pub fn new(
        examples: Examples,
        targets: &Targets,
        tokenizer: &TextTokenizer,
        stride: usize,
        progress: OnRows<'_>,
    ) -> Result<(Self, TextCounts)> {
        match examples {
            Examples::Texts(table) => {
                let labels = targets.read(&table)?;
                let (dataset, counts) = Dataset::build(&table.rows, labels, tokenizer, progress)
                    .with_context(|| table.name.clone())?;
                Ok((Self { dataset, documents: None }, counts))
            }
            Examples::Documents(documents) => {
                let mut windows = tokenizer
                    .windows(&documents.list, stride, progress)
                    .with_context(|| documents.name.clone())?;
                let counts = windows.counts();
                let labels = targets.of_windows(&documents, &windows)?;
                let dataset = Dataset::of_windows(&mut windows, labels, tokenizer)?;
                if let &Targets::Words { rules, .. } = targets {
                    let tokens = MaskTokens::of(tokenizer)?;
                    let masking = Masking::new(rules, tokens, &windows, &documents.list);
                    // Hidden words are predicted token by token, never for a text as a whole.
                    let dataset = dataset.masked(masking);
                    return Ok((Self { dataset, documents: None }, counts));
                }
                let documents = Some(InWindows { documents, windows });
                Ok((Self { dataset, documents }, counts))
            }
        }
    }

    /// How many texts or documents there are.
    pub fn examples(&self) -> usize {
        match &self.documents {
            None => self.dataset.len(),
            Some(in_windows) => in_windows.documents.list.len(),
        }
    }

    pub fn labels(&self) -> &Labels {
        self.dataset.labels()
    }

    /// The targets tuned on these examples.
    #[must_use]
    pub fn tuned(&self, targets: &Targets, logits: &[f32]) -> Targets {
        let Some(InWindows { documents, windows }) = &self.documents else {
            return targets.clone();
        };
        let logits = TokenLogits::new(logits, &self.dataset, targets.outputs());
        targets.tuned(documents, windows, &logits)
    }

    /// How well each type of entity is found, if there are types.
    pub fn types(&self, targets: &Targets, logits: &[f32]) -> BTreeMap<String, EntityTally> {
        let Some(InWindows { documents, windows }) = &self.documents else {
            return BTreeMap::new();
        };
        let logits = TokenLogits::new(logits, &self.dataset, targets.outputs());
        targets.types(&documents.list, windows, &logits)
    }

    /// The confusion, if each text or word has one class.
    pub fn confusion(&self, targets: &Targets, logits: &[f32]) -> Option<Confusion> {
        let Some(InWindows { documents, windows }) = &self.documents else {
            return Confusion::of_logits(logits, targets.outputs(), self.labels());
        };
        let logits = TokenLogits::new(logits, &self.dataset, targets.outputs());
        targets.confusion_of_words(&documents.list, windows, &logits)
    }

    /// Whether all of two or more texts got the same answer.
    pub fn one_answer(&self, targets: &Targets, logits: &[f32]) -> bool {
        self.documents.is_none() && targets.one_answer(logits)
    }

    /// Mean loss and measures of the logits of every row.
    pub fn score(&self, targets: &Targets, logits: &[f32]) -> Scores {
        match &self.documents {
            None => targets.score(logits, self.labels()),
            Some(InWindows { documents, windows }) => {
                let logits = TokenLogits::new(logits, &self.dataset, targets.outputs());
                targets.score_windows(documents, windows, &logits)
            }
        }
    }
}

/// The logits of every token of every window, `[tokens, outputs]`.
pub struct TokenLogits<'a> {
    logits: &'a [f32],
    /// The first token of each window.
    starts: Vec<usize>,
    outputs: usize,
}

impl<'a> TokenLogits<'a> {
    pub fn new(logits: &'a [f32], dataset: &Dataset, outputs: usize) -> Self {
        let mut next = 0;
        let start = |length: u32| {
            next += length as usize;
            next - length as usize
        };
        let starts = dataset.lengths().into_iter().map(start).collect();
        Self { logits, starts, outputs }
    }

    /// Those of token `i` of a window's part of the text; `index` is the window's index among all.
    pub fn of(&self, index: usize, window: &Window, i: usize) -> &'a [f32] {
        self.at(index, window.first + i)
    }

    /// Those of a whole sequence.
    pub fn sequence(&self, index: usize) -> &'a [f32] {
        let end = self.starts.get(index + 1).map_or(self.logits.len(), |end| end * self.outputs);
        &self.logits[self.starts[index] * self.outputs..end]
    }

    /// Those of a token of the sequence, special ones included.
    pub fn at(&self, index: usize, token: usize) -> &'a [f32] {
        &self.logits[(self.starts[index] + token) * self.outputs..][..self.outputs]
    }
}
