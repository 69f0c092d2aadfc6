//! One run of a sweep: its name, its place in the table, and its settings.

use super::train::TrainConfig;
use std::collections::BTreeMap;

/// A run that is to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepRun {
    /// Its folder's name, too.
    pub name: String,
    /// The row of the table that it belongs to.
    pub variant: String,
    /// By option: its value, as it was written, of each option that takes several values within some variant.
    pub axes: BTreeMap<String, String>,
    pub config: TrainConfig,
}
