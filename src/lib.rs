pub mod batch;
pub mod rng;
