//! Training: the settings of a run, its schedule, its measures, and what it leaves on disk.

pub mod config;
pub mod evaluate;
pub mod metrics;
pub mod output;
pub mod schedule;
pub mod steps;
