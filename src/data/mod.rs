//! From a text file to packed batches.
//!
//! ```text
//! file ──Table::read──▶ Table { rows } ──Targets::read──▶ Labels ─┐
//!   (stream: rows())        │                                     ├─▶ Dataset ──batch(&[rows])──▶ Batch
//!                           └────────TextTokenizer────────────────┘      │lengths
//!                                                                        ▼
//!                               Sampler::epoch(e).batch(i)  /  evaluation_batches()   (row numbers)
//! ```
//!
//! A training run, in order:
//!
//! 1. [`Table::read`] each file ([`ReadOptions`] names the format and columns; errors carry file, line, column).
//!    Without a dev file, [`split()`] gives the row numbers and [`Table::select`] the two tables.
//! 2. The task's labels ([`crate::tasks::labels`]) from the known classes: the training table, or the whole file
//!    *before* it is split, so that a rare class is not refused because all its rows went to one side. `eval` and
//!    `predict` use the names of the saved task.
//! 3. [`TextTokenizer::load`], then [`Dataset::build`] for each table; [`TextCounts`] reports what was truncated, empty
//!    or unknown.
//! 4. [`Sampler::new`] over [`Dataset::lengths`]; [`Sampler::largest`] simulates the whole run, so that the number of
//!    micro-batches and the largest batch are known before memory is planned; [`Sampler::epoch`] gives any epoch, and
//!    [`Batches::get`] any batch of it, so that a resumed run continues exactly where it stopped.
//! 5. [`evaluation_batches`] groups similar lengths; [`Batches::restore`] restores the file order of the results.
//!
//! Prediction streams instead: [`rows`] over a file or standard input in constant memory, [`Dataset::build`] with
//! [`Labels::None`](crate::batch::Labels::None) on some hundred rows at a time.
//!
//! Everything here is a pure function of the files, the options and the seed: the number of threads never changes
//! a result.

pub mod benchmark;
mod columns;
mod conll;
mod conll_lines;
mod contained;
mod dataset;
mod documents;
mod ending;
mod formats;
mod input;
mod jsonl;
mod lines;
mod lower_case;
mod masking;
mod quoting;
mod records;
mod running;
mod sampler;
mod special_tokens;
mod split;
mod squad;
mod table;
mod tagged_json;
mod text_counts;
mod text_words;
mod tokenize;
mod tokenizer_bounds;
mod tokenizer_claims;
mod tokenizer_class;
mod tokenizer_config;
mod tokenizer_files;
mod tokenizer_fingerprint;
mod tokenizer_settled;
mod windows;
mod word_places;

pub use columns::{ColumnNames, LabelUse};
pub use conll::ConllReader;
pub use dataset::Dataset;
pub use documents::{Document, Documents, Gold, Mark, ReadDocuments};
pub use formats::{RowReader, is_quoted_behind_space, rows};
pub use input::{FileFormat, LIST, ReadOptions, Row};
pub(crate) use lines::place;
pub use masking::{MaskRules, MaskTokens, Masking};
pub use running::RunningReader;
pub use sampler::{BatchLimits, Batches, Largest, Order, RunLength, Sampler, evaluation_batches};
pub use split::{Split, draw, split};
pub use squad::SquadReader;
pub use table::Table;
pub use tagged_json::TaggedJsonReader;
pub use text_counts::{TextCounts, TextTally};
pub use tokenize::{OnRows, Positions, TextTokenizer, TokenizerOptions};
pub use windows::{Window, Windows, longest_question};
pub use word_places::{WordPlace, word_places};
