//! Fine-tuning of BERT-family encoders by their bias terms alone (BitFit, arXiv 2106.10199).

pub mod backend;
pub mod batch;
pub mod cli;
pub mod commands;
pub mod data;
pub mod error;
pub mod files;
pub mod formats;
pub mod hub;
pub mod methods;
pub mod model;
pub mod program;
pub mod rng;
pub mod rss;
pub mod session;
pub mod settings;
pub mod table;
pub mod tasks;
pub mod train;
