//! What a user can request, checked once, whether it comes from the command line or from a file.

pub mod benchmark;
pub mod benchmarks;
pub mod biases;
pub mod bytes;
pub mod choice;
pub mod device;
pub mod lora;
pub mod method;
pub mod metric;
pub mod no_answer;
pub mod rate;
pub mod saving;
pub mod schedule;
pub mod sweep_run;
pub mod task;
pub mod task_choice;
pub mod train;
pub mod validate;
pub mod weighting;
