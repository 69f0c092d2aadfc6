//! What an adapter's head is for, according to the adapter and the user.

use super::ByName;
use crate::cli::ImportArgs;
use crate::error::UsageError;
use crate::formats::adapter::read::ReadAdapter;
use crate::settings::task::Task;
use crate::tasks::labels::ClassNames;
use anyhow::{Context, Result, bail};

/// A head's task.
pub struct HeadOf {
    pub task: Task,
    pub outputs: usize,
    pub labels: Vec<String>,
}

impl HeadOf {
    pub fn of(args: &ImportArgs, adapter: &ReadAdapter, values: &ByName) -> Result<Self> {
        let last = ["classifier.bias", "classifier.out_proj.bias", "qa_outputs.bias"];
        let head = last.into_iter().find_map(|name| Some((name, values.get(name)?)));
        let (name, bias) = head.with_context(|| {
            format!(
                "it has no head, and a delta needs {}; save it with the adapter (`modules_to_save`)",
                last.map(|name| format!("`{name}`")).join(" or ")
            )
        })?;
        let outputs = bias.data.len();
        let task = match (args.task, adapter.task_type.as_deref()) {
            (Some(task), _) => task,
            (None, _) if name == "qa_outputs.bias" => Task::QuestionAnswering,
            (None, Some("TOKEN_CLS")) => Task::TokenClassification,
            // Like transformers.
            (None, Some("SEQ_CLS") | None) if outputs == 1 => Task::Regression,
            (None, Some("SEQ_CLS") | None) => Task::Classification,
            (None, Some(other)) => {
                bail!("its task_type is {other}: name the head's task with --task")
            }
        };
        let facts = task.facts();
        let labels = match (&args.labels, facts.named) {
            (Some(_), false) => {
                return Err(UsageError::new(format!(
                    "--labels does not apply to --task {task}: leave it out"
                ))
                .into());
            }
            (Some(text), true) => parsed_labels(text)?,
            (None, true) => (0..outputs).map(|i| format!("LABEL_{i}")).collect(),
            (None, false) => Vec::new(),
        };
        if facts.named && labels.len() != outputs {
            return Err(UsageError::new(format!(
                "--labels: {} names for a head with {outputs} outputs",
                labels.len()
            ))
            .into());
        }
        if facts.named {
            ClassNames::from_names(labels.clone(), facts.least_outputs)
                .map_err(|error| UsageError::new(format!("--labels: {error}")))?;
        }
        Ok(Self { task, outputs, labels })
    }
}

/// `--labels`: a JSON list, or comma-separated names.
fn parsed_labels(text: &str) -> Result<Vec<String>, UsageError> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|error| {
            UsageError::new(format!("--labels {text}: not a JSON list of names: {error}"))
        });
    }
    Ok(text.split(',').map(|name| name.trim().to_owned()).collect())
}
