//! A parser for an option that takes one of a few names, with the names and their help in `--help` and in mistakes.

use crate::settings::choice::Choice;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

pub(super) fn choice<T: Choice>() -> impl TypedValueParser<Value = T> {
    let names = T::ALL.iter().map(|choice| PossibleValue::new(choice.name()).help(choice.help()));
    PossibleValuesParser::new(names).try_map(|name| T::from_name(&name))
}
