//! `--task`: what the labels are, or a named benchmark task, which determines that and much more.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::benchmark::NamedTask;
use super::benchmarks::{REFUSED, TASKS};
use super::choice::Choice;
use super::metric::Metric;
use super::task::Task;

/// A kind of task, or a named one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum TaskChoice {
    Kind(Task),
    Named(&'static NamedTask),
}

impl TaskChoice {
    /// Names and help of all of them, as `--help` shows them.
    pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
        let kinds = Task::ALL.iter().map(|kind| (kind.name(), kind.help()));
        kinds.chain(TASKS.iter().map(|task| (task.name, task.help)))
    }

    /// Known names that are refused.
    pub fn refused() -> impl Iterator<Item = &'static str> {
        REFUSED.iter().map(|&(name, _)| name)
    }

    pub fn kind(self) -> Task {
        match self {
            Self::Kind(kind) => kind,
            Self::Named(task) => task.kind(),
        }
    }

    pub fn named(self) -> Option<&'static NamedTask> {
        match self {
            Self::Kind(_) => None,
            Self::Named(task) => Some(task),
        }
    }

    /// Whether a label may be a list: a named task has one label per text.
    pub fn takes_lists(self) -> bool {
        self.named().is_none() && self.kind().takes_lists()
    }

    /// What an evaluation reports in addition to the loss; the first is the default choice.
    pub fn measures(self) -> Vec<Metric> {
        match self {
            Self::Kind(kind) => kind.facts().measures.to_vec(),
            Self::Named(task) => task.reported(),
        }
    }
}

impl Default for TaskChoice {
    fn default() -> Self {
        Self::Kind(Task::default())
    }
}

impl fmt::Display for TaskChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => kind.fmt(f),
            Self::Named(task) => f.pad(task.name),
        }
    }
}

impl FromStr for TaskChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if let Some(task) = NamedTask::named(name) {
            return Ok(Self::Named(task));
        }
        if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            return Err(format!("{name} is not supported: {why}"));
        }
        Task::from_name(name).map(Self::Kind)
    }
}

impl From<TaskChoice> for String {
    fn from(choice: TaskChoice) -> Self {
        choice.to_string()
    }
}

impl TryFrom<String> for TaskChoice {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_and_those_refused_say_why() {
        for (name, _) in TaskChoice::all() {
            assert_eq!(name.parse::<TaskChoice>().unwrap().to_string(), name);
        }
        assert_eq!("stsb".parse::<TaskChoice>().unwrap().kind(), Task::Regression);
        for name in TaskChoice::refused() {
            let why = name.parse::<TaskChoice>().unwrap_err();
            assert!(why.starts_with(name) && why.len() > 40, "{why}");
        }
        assert!("ranking".parse::<TaskChoice>().is_err());
    }
}
