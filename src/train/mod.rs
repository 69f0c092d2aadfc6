//! Training: the loop of a run, its schedule, its measures, and what it leaves on disk.

mod applied;
pub mod evaluate;
pub mod give;
mod kept;
pub mod lock;
pub mod log;
pub mod micro;
pub mod output;
pub mod run;
pub mod schedule;
pub mod steps;
pub mod trial;
