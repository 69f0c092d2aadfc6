pub mod batch;
pub mod data;
pub mod rng;
