//! Files with trained values and files of models: their contents, and checks for completeness.

pub mod adapter;
pub mod card;
pub mod columns;
pub mod container;
pub mod delta;
pub mod fingerprint;
pub mod model_files;
pub mod model_folder;
pub mod model_head;
pub mod model_tensors;
pub mod run_state;
pub mod sentence;
pub mod stamps;
pub mod tensorboard;
