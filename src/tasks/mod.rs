//! The tasks for an encoder, from a file's labels to a person's answer: labels and targets, the head on the hidden
//! states and its loss, measures, and the decoding of logits. Each task has a file; [`targets`] dispatches between
//! them, and [`crate::settings::task`] has the facts that other modules need.

pub mod answer_measures;
pub mod answers;
pub mod baseline;
pub mod class_weights;
pub mod classification;
pub mod collapse;
pub mod confusion;
pub mod entities;
pub mod evaluation;
pub mod examples;
pub mod head;
pub mod labels;
pub mod look_alike;
pub mod masked_words;
pub mod metrics;
pub mod multi_label;
pub mod name_doubts;
pub mod named;
pub mod named_labels;
pub mod reading;
pub mod regression;
pub mod remarks;
pub mod row_answers;
pub mod spelling;
pub mod splitting;
pub mod submission;
pub mod tag_remarks;
pub mod tags;
pub mod targets;
pub mod test_numbers;
pub mod unlabelled;
