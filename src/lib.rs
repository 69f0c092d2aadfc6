//! Bias-only fine-tuning (BitFit) of BERT-family encoders.

pub mod backend;
pub mod batch;
pub mod rng;
