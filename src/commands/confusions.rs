//! Confusions of classes, as tables for people and as JSON.

use crate::table::TextTable;
use crate::tasks::confusion::{Confusion, Hits, Tally};
use crate::tasks::evaluation::Evaluation;
use crate::tasks::labels::ClassNames;
use crate::words::MANY;
use serde_json::{Map, Value, json};

/// With more classes than this, a result has no matrix: its cells are listed.
const MATRIX: usize = 100;

/// The measures of an evaluation with averages and confusion.
pub fn json(evaluation: &Evaluation, classes: Option<&ClassNames>) -> Map<String, Value> {
    let mut record = evaluation.scores_json();
    if let (Some(confusion), Some(classes)) = (&evaluation.confusion, classes) {
        record.insert("averages".into(), averages(confusion));
        record.insert("confusion".into(), matrix(confusion, classes));
    }
    record
}

fn averages(confusion: &Confusion) -> Value {
    json!({ "macro": confusion.macro_average().json(), "micro": confusion.micro_average().json() })
}

fn matrix(confusion: &Confusion, classes: &ClassNames) -> Value {
    let (names, count) = (classes.names(), confusion.classes());
    if count > MATRIX {
        let cell = |(gold, predicted, rows): (u32, u32, u64)| json!({ "gold": names[gold as usize], "predicted": names.get(predicted as usize), "rows": rows });
        return json!({ "cells": confusion.cells().map(cell).collect::<Vec<_>>() });
    }
    let row = |gold| (0..count).map(|predicted| confusion.cell(gold, predicted)).collect();
    let rows: Vec<Vec<u64>> = (0..count).map(row).collect();
    json!({ "labels": names, "gold_by_predicted": rows })
}

/// The measures of each class or label, for a file.
pub fn each_json(each: &[Tally], classes: &ClassNames) -> Value {
    let class = |(name, tally): (&String, &Tally)| {
        let Hits { precision, recall, f1 } = tally.hits();
        json!({
            "label": name, "precision": precision, "recall": recall, "f1": f1,
            "rows": tally.gold, "predicted": tally.predicted,
        })
    };
    classes.names().iter().zip(each).map(class).collect()
}

/// The measures of each class or label, for people.
pub fn each(each: &[Tally], classes: &ClassNames) -> TextTable {
    let mut table = TextTable::new(["class", "precision", "recall", "F1", "rows", "predicted"]);
    for (name, tally) in classes.names().iter().zip(each) {
        let Hits { precision, recall, f1 } = tally.hits();
        let shares = [precision, recall, f1].map(|share| format!("{share:.4}"));
        let rows = [tally.gold, tally.predicted].map(|rows| rows.to_string());
        table.row(std::iter::once(name.clone()).chain(shares).chain(rows));
    }
    table
}

/// The averages, and the confusion: all of it for few classes, otherwise the most common mistakes.
pub fn tables(confusion: &Confusion, classes: &ClassNames) -> Vec<TextTable> {
    let mut averages = TextTable::new(["average", "precision", "recall", "F1"]);
    for (name, hits) in [("macro", confusion.macro_average()), ("micro", confusion.micro_average())]
    {
        let Hits { precision, recall, f1 } = hits;
        let shares = [precision, recall, f1].map(|share| format!("{share:.4}"));
        averages.row(std::iter::once(name.to_owned()).chain(shares));
    }
    let names = classes.names();
    let second = if names.len() > MANY {
        let mut mistakes: Vec<_> =
            confusion.cells().filter(|(gold, predicted, _)| gold != predicted).collect();
        mistakes.sort_by_key(|&(gold, predicted, rows)| (std::cmp::Reverse(rows), gold, predicted));
        let mut table = TextTable::new(["label", "taken for", "rows"]);
        for (gold, predicted, rows) in mistakes.into_iter().take(MANY) {
            let name = |id: u32| names.get(id as usize).map_or("(none)", String::as_str);
            let [gold, predicted] = [gold, predicted].map(|id| name(id).to_owned());
            table.row([gold, predicted, rows.to_string()]);
        }
        table
    } else {
        let heading = names.iter().map(|name| format!("as {name}"));
        let mut table = TextTable::new(std::iter::once("label".to_owned()).chain(heading));
        for (gold, name) in names.iter().enumerate() {
            let cells =
                (0..names.len()).map(|predicted| confusion.cell(gold, predicted).to_string());
            table.row(std::iter::once(name.clone()).chain(cells));
        }
        table
    };
    vec![averages, second]
}
