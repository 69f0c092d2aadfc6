//! What is asked of an encoder, from a file's labels to a person's answer: labels and targets, the head on the hidden
//! states and its loss, measures, and what is made of logits.

pub mod collapse;
pub mod confusion;
pub mod evaluation;
pub mod head;
pub mod labels;
pub mod metrics;
pub mod named;
pub mod remarks;
pub mod score;
pub mod spelling;
pub mod submission;
pub mod unlabelled;
pub mod words;
