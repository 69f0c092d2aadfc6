//! Fine-tuning of BERT-family encoders by their bias terms alone (BitFit, arXiv 2106.10199).

pub mod biases;
pub mod cli;
pub mod error;
pub mod train;
