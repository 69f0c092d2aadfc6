//! The program as its user meets it: real runs of the binary on small real checkpoints, judged by exit code, output
//! and files. What each operation computes is held elsewhere; here it is that the parts are put together rightly.

mod bad_data;
mod bad_model;
mod base_files;
mod checkpoint;
mod claims;
mod common;
mod compare;
mod cuda_errors;
mod doubts;
mod faults;
mod full;
mod full_disk;
mod launched;
mod links;
mod masked;
mod memory;
mod merge;
mod methods;
mod named;
mod on_cuda;
mod precision;
mod predict;
mod printed;
mod processes;
mod questions;
mod rates;
mod read_as;
mod reports;
mod resume;
mod several;
mod tags;
mod taken;
mod told;
mod train;
mod trained_as_pytorch;
