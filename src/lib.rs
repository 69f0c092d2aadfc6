//! Fine-tuning of BERT-family encoders by training only their biases (BitFit, arXiv 2106.10199).
//!
//! A [`session::Session`] is a model on a device. It trains step by step and predicts; reading data, the loop with its
//! evaluations and files, and all output are built on top, in [`train`] and [`commands`].
//!
//! ```
//! use bitfit::backend::{DropoutKey, WeightType};
//! use bitfit::batch::{Batch, Labels};
//! use bitfit::methods::Trains;
//! use bitfit::model::config::ModelConfig;
//! use bitfit::model::load::{TaskSpec, load};
//! use bitfit::program::{AdamW, LossKind, PoolKind, Saving};
//! use bitfit::ranks::Share;
//! use bitfit::session::{OpenOptions, Session, open};
//! use bitfit::settings::choice::Precision;
//! use bitfit::settings::device::DeviceChoice;
//!
//! # fn main() -> anyhow::Result<()> {
//! // A folder with config.json and model.safetensors: here a very small random BERT.
//! let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity/bert");
//! let config = ModelConfig::read(&folder)?;
//! let task = TaskSpec {
//!     outputs: 2,
//!     loss: LossKind::CrossEntropy,
//!     pooling: PoolKind::Mean,
//!     reinit_pooler: false,
//!     class_weights: vec![],
//!     trains: Trains::all_biases(),
//!     dropout: Some(0.0),
//!     seed: 1,
//! };
//! let mut backend = open(OpenOptions {
//!     device: DeviceChoice::Cpu,
//!     here: Share::WHOLE,
//!     precision: Precision::Auto,
//!     weights: WeightType::F16,
//!     matrices_train: false,
//! })?;
//! let model = load(&folder, &config, &task, &mut *backend)?;
//!
//! // Two sequences, of three and of two tokens, packed without padding.
//! let batch = Batch {
//!     ids: vec![2, 7, 3, 2, 3],
//!     type_ids: vec![0; 5],
//!     positions: vec![0, 1, 2, 0, 1],
//!     cu_seqlens: vec![0, 3, 5],
//!     labels: Labels::Classes(vec![1, 0]),
//! };
//! let mut session = Session::new(model, backend);
//! let train = session.program(batch.limits(), Some(Saving::KEEP));
//! let predict = session.program(batch.limits(), None);
//! session.allocate(Some(train), Some(predict))?;
//!
//! let mut losses = Vec::new();
//! for step in 0..10 {
//!     let update = AdamW {
//!         lr: 1e-2,
//!         beta1: 0.9,
//!         beta2: 0.999,
//!         eps: 1e-6,
//!         weight_decay: 0.0,
//!         clip_norm: 1.0,
//!         step: step + 1,
//!     };
//!     let key = DropoutKey::new(1, step);
//!     let given = session.step([(batch.clone(), key)].into_iter(), 2.0, update, false)?;
//!     losses.push(session.wait(given.report)?.loss);
//! }
//! assert!(losses[9] < losses[0] / 2.0, "{losses:?}");
//! let logits = session.logits(&batch)?;
//! assert!(logits[1] > logits[0] && logits[2] > logits[3]);
//! # Ok(())
//! # }
//! ```

pub mod backend;
pub mod batch;
pub mod cli;
pub mod commands;
pub mod content;
pub mod data;
pub mod error;
pub mod files;
mod finite;
pub mod formats;
pub mod hub;
pub mod methods;
pub mod model;
#[cfg(test)]
mod processor_time;
pub mod program;
pub mod ranks;
pub mod results;
pub mod rng;
mod room;
pub mod rss;
pub mod session;
pub mod settings;
pub mod stderr;
pub mod table;
pub mod tasks;
mod temporary;
pub mod train;
mod variables;
mod words;
