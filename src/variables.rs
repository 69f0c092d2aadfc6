//! Environment variables of the program, for tests and for measuring. They are refused like options.

use crate::error::UsageError;
use std::env;

/// What the variable `name` is set to; nothing if it is not set, or empty.
pub fn told(name: &str) -> Option<String> {
    let text = env::var_os(name)?.to_string_lossy().into_owned();
    (!text.is_empty()).then_some(text)
}

/// A variable that has a wrong value, and why it is wrong.
pub fn refused(name: &str, value: &str, why: &str) -> UsageError {
    UsageError::new(format!("{name} is {value:?}: {why}"))
}

/// Which of `values` the variable `name` selects, if it is set.
///
/// # Errors
/// If it has another value.
pub fn chosen<T: Copy>(name: &str, values: &[(&str, T)]) -> Result<Option<T>, UsageError> {
    let Some(told) = told(name) else { return Ok(None) };
    if let Some((_, value)) = values.iter().find(|(value, _)| *value == told) {
        return Ok(Some(*value));
    }
    let names: Vec<String> = values.iter().map(|(value, _)| format!("`{value}`")).collect();
    let why = match &names[..] {
        [only] => format!("the only value is {only}"),
        _ => format!("the values are {}", names.join(", ")),
    };
    Err(refused(name, &told, &why))
}
