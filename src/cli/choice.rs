//! Options with a few named values: a parser that puts the names and their help into `--help` and error messages.

use crate::settings::benchmarks::TASKS;
use crate::settings::choice::Choice;
use crate::settings::metric::Metric;
use crate::settings::task::Task;
use crate::settings::task_choice::TaskChoice;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

pub(super) fn choice<T: Choice>() -> impl TypedValueParser<Value = T> {
    let names = T::ALL.iter().map(|choice| PossibleValue::new(choice.name()).help(choice.help()));
    PossibleValuesParser::new(names).try_map(|name| T::from_name(&name))
}

/// `--task`: kinds of tasks and named ones. Names that are refused get a reason.
pub(super) fn task() -> impl TypedValueParser<Value = TaskChoice> {
    let known = TaskChoice::all().map(|(name, help)| PossibleValue::new(name).help(help));
    let refused = TaskChoice::refused().map(|name| PossibleValue::new(name).hide(true));
    PossibleValuesParser::new(known.chain(refused)).try_map(|name| name.parse::<TaskChoice>())
}

/// The help of `--metric`: which measures each task has.
pub(super) fn metric_help() -> String {
    let either = |names: Vec<&str>| match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    };
    let of_task = |task: &Task| {
        let names = task.facts().measures.iter().map(|metric| metric.name()).collect();
        format!("{} for {task}; ", either(names))
    };
    let positive = TASKS.iter().filter(|task| task.measures.contains(&Metric::F1));
    let positive: Vec<_> = positive.map(|task| task.name).collect();
    format!(
        "Measure that chooses the best evaluation on the dev rows: {}also f1 (of the positive class) for {}; loss for any. \
         Entity tags have no macro-f1; other tags have only accuracy and macro-f1 [default: the first of these that the \
         labels have, or the named task's own]",
        Task::ALL.iter().map(of_task).collect::<String>(),
        positive.join(" and ")
    )
}
