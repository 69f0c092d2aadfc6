//! The JSON lines in SuperGLUE's archive.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::raw::{Fields, RawFile, RawRow, RawRows};
use super::tsv::list;
use crate::data::lines::Lines;

/// Reads the wanted keys of every row.
///
/// # Errors
/// With file and line: not a JSON object, a missing key, a value that is not text, a number or a boolean.
pub fn read(path: &Path, fields: &Fields<'_>) -> Result<RawRows> {
    let file = RawFile::new(path, true);
    let input = File::open(path).with_context(|| format!("cannot open {}", file.name))?;
    let mut lines = Lines::new(input, &file.name);
    let (mut rows, mut header) = (Vec::new(), Vec::new());
    let mut blank = None;
    while let Some(line) = lines.next()?.map(str::to_owned) {
        let at = lines.number();
        if line.trim().is_empty() {
            blank = blank.or(Some(at));
            continue;
        }
        if let Some(blank) = blank {
            bail!("{}: a blank line between the rows", file.place(blank));
        }
        let object: Map<String, Value> = serde_json::from_str(&line).map_err(|error| {
            anyhow::anyhow!("{}:{}: not a JSON object on one line", file.place(at), error.column())
        })?;
        if header.is_empty() {
            header = object.keys().cloned().collect();
        }
        let mut values = Vec::new();
        for (i, key) in fields.all().enumerate() {
            let value = match object.get(key) {
                None if i < fields.needed.len() => {
                    let keys: Vec<_> = object.keys().collect();
                    bail!(
                        "{}: the key {key:?} is missing; there are {}",
                        file.place(at),
                        list(&keys)
                    );
                }
                None | Some(Value::Null) => None,
                Some(Value::String(text)) => Some(text.clone()),
                Some(value @ (Value::Number(_) | Value::Bool(_))) => Some(value.to_string()),
                Some(_) => {
                    bail!("{}: the value is not text, a number, true or false", file.cell(at, key))
                }
            };
            values.push(value);
        }
        rows.push(RawRow { at, fields: values });
    }
    Ok(RawRows { file, header, rows, cut: None, broken: Vec::new(), classes: None })
}
