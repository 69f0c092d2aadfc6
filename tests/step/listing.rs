//! Programs as text, so that a change of what runs shows in review. `BITFIT_BLESS=1` rewrites the files.

use bitfit::model::Model;
use bitfit::program::{List, Saving, Value};
use std::fmt::Write;
use std::path::Path;

fn text(list: &List) -> String {
    let name = |value: Value| format!("{}.{}", list.info(value).what.name(), value.0);
    let names = |values: Vec<Value>| values.into_iter().map(name).collect::<Vec<_>>().join(", ");
    let mut text = String::new();
    for (i, op) in list.ops.iter().enumerate() {
        if i == list.parts.backward && list.trains() {
            text.push_str("backward\n");
        }
        let sums =
            op.sums().iter().map(|r| format!(" +{}..{}", r.offset, r.end())).collect::<String>();
        let (reads, writes) = (names(op.reads()), names(op.writes()));
        writeln!(text, "{}: {reads} -> {writes}{sums}", list.name_of(i)).unwrap();
    }
    text
}

/// Compares a model's list with the file of this name.
pub fn check(name: &str, model: &Model, train: Option<Saving>) {
    let text = text(&model.list(train, false));
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/step/listings/{name}.txt"));
    if std::env::var_os("BITFIT_BLESS").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let want = std::fs::read_to_string(&file).unwrap_or_default();
    let differ = text.lines().zip(want.lines()).position(|(a, b)| a != b);
    let line = differ.unwrap_or(text.lines().count().min(want.lines().count()));
    assert!(
        text == want,
        "{}, line {}: {:?} instead of {:?}; BITFIT_BLESS=1 takes what is new",
        file.display(),
        line + 1,
        text.lines().nth(line),
        want.lines().nth(line)
    );
}
