//! One run of a sweep: its name, its place in the table, and its settings.

use super::train::TrainConfig;
use std::collections::BTreeMap;

/// A run to execute.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepRun {
    /// Also the name of its folder.
    pub name: String,
    /// The table row that it belongs to.
    pub variant: String,
    /// By option: its value, as written, for each option that takes several values within some variant.
    pub axes: BTreeMap<String, String>,
    pub config: TrainConfig,
}
