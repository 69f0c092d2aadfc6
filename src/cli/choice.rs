//! A parser for an option that takes one of a few names, with the names and their help in `--help` and in mistakes.

use crate::settings::choice::Choice;
use crate::settings::task_choice::TaskChoice;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

pub(super) fn choice<T: Choice>() -> impl TypedValueParser<Value = T> {
    let names = T::ALL.iter().map(|choice| PossibleValue::new(choice.name()).help(choice.help()));
    PossibleValuesParser::new(names).try_map(|name| T::from_name(&name))
}

/// `--task`: kinds of tasks and named ones. What is refused by name gets its reason.
pub(super) fn task() -> impl TypedValueParser<Value = TaskChoice> {
    let known = TaskChoice::all().map(|(name, help)| PossibleValue::new(name).help(help));
    let refused = TaskChoice::refused().map(|name| PossibleValue::new(name).hide(true));
    PossibleValuesParser::new(known.chain(refused)).try_map(|name| name.parse::<TaskChoice>())
}
