//! Warnings about parts of a checkpoint that a run ignores, or uses by assumption: a trained head and the classes of
//! its rows, layers that its configuration omits, and an adapter next to it.

use super::base::Base;
use super::{say, warn};
use crate::formats::container::read_metadata;
use crate::formats::model_files::{ADAPTER, CONFIG, HEAD, read_file};
use crate::formats::model_tensors::ModelTensors;
use crate::model::Model;
use crate::program::PoolKind;
use crate::settings::choice::Pooling;
use crate::settings::task::Task;
use crate::tasks::labels::ClassNames;
use crate::tasks::targets::Targets;
use crate::words::count;
use serde_json::Value;
use std::path::Path;

/// The row of `--init-head`'s file for each class of the task; `None` takes them in file order. Reports which it is,
/// since a head in the wrong order is a wrong head.
pub fn rows_of_head(
    path: &Path,
    base: &Base,
    targets: &Targets,
    quiet: bool,
) -> Option<Vec<usize>> {
    let classes = targets.named()?;
    let wanted = classes.names();
    let beside = path.with_file_name(CONFIG);
    let of_base = base.folder.join(CONFIG);
    let sources = [
        (labels_of_file(path).map(Ok), path.display().to_string()),
        (id2label(&beside), beside.display().to_string()),
        (id2label(&of_base), of_base.display().to_string()),
    ];
    // The nearest source that says anything decides: those farther away describe another head.
    let named = sources.into_iter().find_map(|(names, source)| Some((names?, source)));
    let order = format!("the classes {}, in this order", wanted.join(", "));
    let (names, source) = match named {
        Some((Ok(names), source)) => (names, source),
        other => {
            let why = match other {
                Some((Err(why), source)) => {
                    format!("{source} does not say which class each row is for: {why}")
                }
                _ => "nothing says which class each of its rows is for".to_owned(),
            };
            warn(format_args!("--init-head: {why}; they are taken for {order}"));
            return None;
        }
    };
    if names.len() != wanted.len() {
        warn(format_args!(
            "--init-head: according to {source} its rows are for {}, but the task has {}",
            names.join(", "),
            count(wanted.len(), "class")
        ));
        return None;
    }
    let exact = matched(&names, wanted);
    let but = if exact.is_some() { "" } else { ", whose names differ only in case" };
    match exact.or_else(|| matched(&lower(&names), &lower(wanted))) {
        Some(rows) => {
            say(
                quiet,
                format_args!("--init-head: its rows are matched to the classes by {source}{but}"),
            );
            Some(rows)
        }
        None => {
            warn(format_args!(
                "--init-head: according to {source} its rows are for {}; these are not the task's classes, so the rows \
                 are taken for {order}",
                names.join(", ")
            ));
            None
        }
    }
}

/// Warns if a head was made for another task or another vector than this run's: its tensors may fit all the same.
pub fn warn_of_other_head(path: &Path, task: Task, pooling: PoolKind) {
    let Some((other, said_by)) = made_otherwise(path, task, pooling) else {
        return;
    };
    let vector = match pooling {
        PoolKind::Mean => " on the mean of the tokens",
        PoolKind::Cls => " on the first token",
        PoolKind::Each | PoolKind::Labelled(_) => "",
    };
    warn(format_args!(
        "--init-head: the head in {} was made for {other}, according to {said_by}, and is used here for {task}{vector}: it \
         can be a rough start at best",
        path.display()
    ));
}

/// What a head was made for, if that differs, and the source.
fn made_otherwise(path: &Path, task: Task, pooling: PoolKind) -> Option<(String, String)> {
    let own = read_metadata(path).unwrap_or_default();
    if let (Some(was), Some(pooled)) = (own.get("task"), own.get("pooling")) {
        let said_by = "the file itself".to_owned();
        if *was != task.to_string() {
            return Some((was.clone(), said_by));
        }
        let same = *pooled == Pooling::from(pooling).to_string();
        return (!same).then(|| (format!("--pooling {pooled}"), said_by));
    }
    let beside = path.with_file_name(CONFIG);
    let config: Value = serde_json::from_slice(&read_file(&beside).ok()?).ok()?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let by = |key: &str| format!("{key} in {}", beside.display());
    let class = text(&config["architectures"][0])?;
    let facts = task.facts();
    let Some(end) = class.find("For").map(|at| &class[at..]) else {
        // A bare encoder, with a head on the mean next to it.
        let beside_encoder = path.file_name().is_some_and(|name| name == HEAD);
        return (beside_encoder && pooling != PoolKind::Mean)
            .then(|| ("the mean of the tokens".to_owned(), by("architectures")));
    };
    if end != facts.class || pooling == PoolKind::Mean {
        return Some((format!("a {class}"), by("architectures")));
    }
    let one = config["id2label"].as_object().is_some_and(|labels| labels.len() == 1);
    match text(&config["problem_type"]) {
        Some(was) if facts.problem_type.is_some_and(|is| is != was) => {
            Some((was, by("problem_type")))
        }
        // Like transformers, which takes one label as a number.
        None if one && facts.problem_type.is_some() && task != Task::Regression => {
            Some(("regression".to_owned(), by("id2label")))
        }
        _ => None,
    }
}

fn lower(names: &[String]) -> Vec<String> {
    names.iter().map(|name| name.to_lowercase()).collect()
}

/// The index of each wanted name in `names`, if both have the same names.
fn matched(names: &[String], wanted: &[String]) -> Option<Vec<usize>> {
    let classes = ClassNames::from_names(names.to_vec(), 1).ok()?;
    let rows: Option<Vec<usize>> =
        wanted.iter().map(|name| Some(classes.id(name)? as usize)).collect();
    rows.filter(|rows| {
        let mut each = rows.clone();
        each.sort_unstable();
        each.dedup();
        each.len() == names.len()
    })
}

/// The classes named in a file of this program.
fn labels_of_file(path: &Path) -> Option<Vec<String>> {
    let labels: Vec<String> =
        serde_json::from_str(read_metadata(path).ok()?.get("labels")?).ok()?;
    (!labels.is_empty()).then_some(labels)
}

/// A configuration's class names by id, unless they are the defaults of `transformers`; or why they name no rows.
fn id2label(path: &Path) -> Option<Result<Vec<String>, String>> {
    let config: Value = serde_json::from_slice(&read_file(path).ok()?).ok()?;
    let map = config.get("id2label")?.as_object()?;
    let mut classes: Vec<(u64, &str)> = map
        .iter()
        .map(|(id, name)| Some((id.parse().ok()?, name.as_str()?)))
        .collect::<Option<_>>()?;
    classes.sort_unstable();
    let made_up = |(id, name): &(u64, &str)| *name == format!("LABEL_{id}");
    if classes.iter().all(made_up) {
        return None;
    }
    if !classes.iter().map(|(id, _)| *id).eq(0..classes.len() as u64) {
        let ids: Vec<String> = classes.iter().map(|(id, _)| id.to_string()).collect();
        return Some(Err(format!(
            "the ids in its id2label are {}, but rows are counted from 0",
            ids.join(", ")
        )));
    }
    // Some write the ids as text.
    let number = |id: &Value| id.as_u64().or_else(|| id.as_str()?.parse().ok());
    if let Some(ids) =
        config.get("label2id").and_then(Value::as_object).filter(|ids| !ids.is_empty())
    {
        let other = classes.iter().find(|(id, name)| ids.get(*name).and_then(number) != Some(*id));
        if let Some((id, name)) = other {
            let says = ids.get(*name).map_or("nothing of it".to_owned(), Value::to_string);
            return Some(Err(format!(
                "its id2label says {id} for {name:?}, and its label2id {says}"
            )));
        }
    }
    Some(Ok(classes.into_iter().map(|(_, name)| name.to_owned()).collect()))
}

/// Warns if the configuration has fewer layers than the checkpoint: the model is then a different one.
pub fn warn_of_unused_layers(base: &Base) {
    let Ok(weights) = ModelTensors::open(&base.folder, base.config.family.prefix()) else {
        return;
    };
    let (there, asked) = (weights.layers(), base.config.layers);
    if there > asked {
        warn(format_args!(
            "the checkpoint has {}, but its config.json asks for {asked}: the layers from {asked} on (counted \
             from 0) are not used",
            count(there, "layer")
        ));
    }
}

/// Warns of an adapter in the checkpoint's folder, which `transformers` applies to the model if peft is installed.
pub fn warn_of_adapter(base: &Base) {
    if base.folder.join(ADAPTER).exists() {
        warn(format_args!(
            "{} has an {ADAPTER}: transformers with peft would load that adapter, but bitfit does not use it; if it is \
             part of the model, merge it into the weights first (`merge_and_unload()`)",
            base.folder.display()
        ));
    }
}

/// Warns of weights that `transformers` would quantise but that are used unchanged here.
pub fn warn_of_quantization(base: &Base) {
    if let Some(key) = &base.config.quantized_by {
        warn(format_args!(
            "{CONFIG} in {} has `{key}`, with which transformers quantises the weights; bitfit uses them as they are in the \
             files, and writes models without it",
            base.folder.display()
        ));
    }
}

/// Says that the checkpoint has a trained head that the run does not use.
pub fn say_unused_head(base: &Base, model: &Model, quiet: bool) {
    let prefix = base.config.family.prefix();
    let Ok(weights) = ModelTensors::open(&base.folder, prefix) else {
        return;
    };
    let tensors = weights.list();
    let last = ["classifier.weight", "classifier.out_proj.weight", "qa_outputs.weight"];
    let Some((name, shape, _)) = tensors.iter().find(|(name, ..)| last.contains(&name.as_str()))
    else {
        return;
    };
    let outputs = shape.first().copied().unwrap_or(0);
    let outputs_of = count(outputs, "output");
    let names = match id2label(&base.folder.join(CONFIG)) {
        Some(Ok(names)) if names.len() == outputs => format!(" for {}", names.join(", ")),
        Some(Err(why)) => format!(" with {outputs_of} ({why})"),
        _ => format!(" with {outputs_of}"),
    };
    let file = ModelTensors::files(&base.folder).unwrap_or_default();
    // A head for another task is of no use.
    let fits = model.params.list().iter().any(|param| param.name == *name);
    let how = match file.as_slice() {
        [one] if fits => format!("; use --init-head {} to start from it", one.display()),
        _ => String::new(),
    };
    say(
        quiet,
        format_args!(
            "the checkpoint has a trained head{names}, which is not used: training starts from a new one{how}"
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn rows_are_matched_by_name_or_not_at_all() {
        let head = words(&["neutral", "positive", "negative"]);
        let wanted = words(&["negative", "neutral", "positive"]);
        assert_eq!(matched(&head, &wanted), Some(vec![2, 0, 1]));
        assert_eq!(matched(&head, &words(&["0", "1", "2"])), None);
        assert_eq!(matched(&head, &wanted[..2]), None);
        assert_eq!(matched(&lower(&words(&["A", "a"])), &lower(&words(&["a", "b"]))), None);
        assert_eq!(matched(&lower(&words(&["a", "b"])), &lower(&words(&["A", "a"]))), None);
        assert_eq!(matched(&words(&["1.0", "0.0"]), &words(&["0", "1"])), Some(vec![1, 0]));
    }

    #[test]
    fn names_that_nobody_gave_name_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CONFIG);
        let names = |text: &str| {
            std::fs::write(&path, text).unwrap();
            id2label(&path)
        };
        assert_eq!(names(r#"{"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}"#), None);
        for ids in [["1", "2"], ["0", "2"]] {
            let [a, b] = ids;
            let why = names(&format!(r#"{{"id2label": {{"{a}": "b", "{b}": "c"}}}}"#));
            let says = format!("are {a}, {b}, but rows are counted from 0");
            assert!(why.unwrap().unwrap_err().contains(&says));
        }
        assert_eq!(names("{}"), None);
        for other in [r#"{"a": 1, "b": 0}"#, r#"{"a": 0}"#, r#"{"LABEL_0": 0, "LABEL_1": 1}"#] {
            let text = format!(r#"{{"id2label": {{"0": "a", "1": "b"}}, "label2id": {other}}}"#);
            assert!(names(&text).unwrap().unwrap_err().contains("and its label2id "), "{other}");
        }
        let same = r#"{"id2label": {"0": "a"}, "label2id": {"a": 0}}"#;
        assert_eq!(names(same), Some(Ok(words(&["a"]))));
        assert_eq!(names(&same.replace(": 0", r#": "0""#)), Some(Ok(words(&["a"]))));
        assert_eq!(names(r#"{"id2label": {"1": "b", "0": "a"}}"#), Some(Ok(words(&["a", "b"]))));
    }
}
