//! What a user is told of the labels that were read, so that a wrong reading is seen before it is trained on.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::answers;
use super::entities;
use super::examples::{InWindows, Prepared};
use super::labels::ClassNames;
use super::spelling::Key;
use super::targets::Targets;
use super::unlabelled::doubtful;
use crate::batch::Labels;
use crate::data::Table;
use crate::settings::metric::Metric;
use crate::settings::task::Task;
use crate::words::{MANY, count, list};

/// A line that says what examples are.
pub fn told(targets: &Targets, prepared: &Prepared) -> String {
    match (targets, &prepared.documents) {
        (Targets::Spans(_), Some(InWindows { documents, windows })) => {
            answers::summary(documents, windows)
        }
        _ => summary(targets, prepared.labels()),
    }
}

/// A line that says what `labels`, those of one table, are.
pub fn summary(targets: &Targets, labels: &Labels) -> String {
    match (targets, labels) {
        (Targets::Classes(classes), Labels::Classes(ids)) => {
            let mut counts = vec![0; classes.names().len()];
            ids.iter().for_each(|&id| counts[id as usize] += 1);
            counted("classes", "rows", classes, &counts)
        }
        (Targets::Tags(classes), Labels::Tokens(ids)) => {
            let mut counts = vec![0; classes.names().len()];
            let counted_words = ids.iter().filter(|&&id| id != Labels::IGNORED);
            counted_words.for_each(|&id| counts[id as usize] += 1);
            let measured = match entities::are_tagged(classes.names()) {
                true => "entities are measured as seqeval does by default, in IOB or IOBES",
                false => "tags without B- and I- are measured word by word",
            };
            format!("{}; {measured}", counted("tags", "words", classes, &counts))
        }
        (Targets::Several(names, _), Labels::Values(values)) => several(names, values),
        (_, Labels::Values(values)) => {
            let least = values.iter().copied().fold(f32::INFINITY, f32::min);
            let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            match values.len() {
                1 => format!("the label is {least}"),
                many => format!("labels are {many} numbers from {least} to {most}"),
            }
        }
        _ => "no labels".to_owned(),
    }
}

/// What looks wrong about the labels that a task is to be trained on and may be right, a sentence each.
pub fn doubts(targets: &Targets, labels: &Labels) -> Vec<String> {
    match (targets, labels) {
        (Targets::Classes(classes), Labels::Classes(ids)) => class_doubts(classes, ids),
        (Targets::Several(..), Labels::Values(values))
            if values.iter().all(|&value| value == 1.0) =>
        {
            vec![
                "every row has every label, so that nothing can be learned; a list has the names of a text's labels, and not \
                 a 0 or 1 for each label in turn"
                    .to_owned(),
            ]
        }
        (Targets::Values { .. }, Labels::Values(values)) => value_doubts(values),
        _ => Vec::new(),
    }
}

/// Whether there is nothing to correlate with.
pub fn all_equal(values: &[f32]) -> bool {
    values.windows(2).all(|pair| pair[0] == pair[1])
}

/// What no measure can say where all texts got the same answer.
pub fn same_answer(task: Task) -> String {
    let correlations = [Metric::Matthews, Metric::Pearson, Metric::Spearman];
    let undefined = task.facts().measures.iter().filter(|measure| correlations.contains(measure));
    let undefined: Vec<_> = undefined.map(|measure| measure.name()).collect();
    let what = "every row gets the same answer";
    match undefined.as_slice() {
        [] => what.to_owned(),
        [one] => format!("{what}: {one} is not defined and given as 0"),
        several => format!("{what}: {} are not defined and given as 0", several.join(" and ")),
    }
}

fn value_doubts(values: &[f32]) -> Vec<String> {
    let mut doubts = Vec::new();
    if all_equal(values) {
        doubts.push("every row has the same number for its label".to_owned());
    }
    let size = values.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
    if size > 1e3 {
        doubts.push(format!(
            "labels as large as {size} are learned slowly or not at all, since a model starts from answers near 0: divide them"
        ));
    }
    doubts
}

/// Says which labels of a table were taken for a class that is spelled otherwise.
pub fn respelled(targets: &Targets, table: &Table) -> Option<String> {
    let classes = targets.classes()?;
    let mut others: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    for label in table.rows.iter().filter_map(|row| row.label.as_deref()) {
        let label = label.trim();
        if let Some(id) = classes.id(label) {
            let name = classes.names()[id as usize].as_str();
            if name != label {
                others.entry(label).or_insert((name, 0)).1 += 1;
            }
        }
    }
    let shown: Vec<_> = others
        .iter()
        .take(MANY)
        .map(|(label, (name, of))| {
            format!(
                "\"{}\" ({}) is the class \"{}\"",
                label.escape_default(),
                count(*of, "row"),
                name.escape_default()
            )
        })
        .collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}

/// The classes without a row among `labels`, if there are any.
pub fn without_rows(classes: &ClassNames, labels: &Labels) -> Option<String> {
    let mut seen = vec![false; classes.names().len()];
    match labels {
        Labels::Classes(ids) | Labels::Tokens(ids) => {
            let labels = ids.iter().filter(|&&id| id != Labels::IGNORED);
            labels.for_each(|&id| seen[id as usize] = true);
        }
        Labels::Values(values) => {
            for row in values.chunks_exact(seen.len()) {
                seen.iter_mut().zip(row).for_each(|(seen, &value)| *seen |= value > 0.0);
            }
        }
        _ => return None,
    }
    let names = classes.names().iter().zip(seen);
    let absent: Vec<_> = names.filter(|(_, seen)| !seen).map(|(name, _)| name).collect();
    (!absent.is_empty()).then(|| list(&absent))
}

/// How many rows each of several labels has, and how many have none.
fn several(names: &ClassNames, values: &[f32]) -> String {
    let mut counts = vec![0; names.names().len()];
    let mut none = 0;
    for row in values.chunks_exact(counts.len()) {
        none += usize::from(row.iter().all(|&value| value == 0.0));
        counts.iter_mut().zip(row).for_each(|(count, &value)| *count += value as usize);
    }
    let none = match none {
        0 => String::new(),
        none => format!("; {} without any", count(none, "row")),
    };
    format!("{}{none}", counted("labels", "rows", names, &counts))
}

/// Names and the number of rows or words of each, as a line for people. The largest come first where not all are shown.
fn counted(what: &str, of: &str, classes: &ClassNames, counts: &[usize]) -> String {
    let names = classes.names().iter().map(String::as_str);
    let mut counts: Vec<(&str, usize)> = names.zip(counts.iter().copied()).collect();
    if counts.len() > MANY {
        counts.sort_by_key(|&(_, count)| Reverse(count));
    }
    let shown = counts.iter().take(MANY);
    let shown: Vec<_> = shown.map(|(name, count)| format!("{name:?} ({count})")).collect();
    let more = match counts.len().saturating_sub(MANY) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{} {what} and their {of}: {}{more}", counts.len(), shown.join(", "))
}

/// What looks wrong about the classes of a task and may be right.
fn class_doubts(classes: &ClassNames, ids: &[u32]) -> Vec<String> {
    let mut doubts = Vec::new();
    let mut by_case: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for name in classes.names() {
        by_case.entry(name.to_lowercase()).or_default().push(name);
    }
    for names in by_case.values().filter(|names| names.len() > 1) {
        doubts.push(format!("the classes {} differ in nothing but case", list(names)));
    }
    let is_number = |name: &&str| matches!(Key::of(name), Key::Number(_));
    let names = classes.names().iter().map(String::as_str);
    let (numbers, words): (Vec<_>, Vec<_>) = names.partition(is_number);
    if !numbers.is_empty() && !words.is_empty() {
        doubts.push(format!(
            "some classes are numbers ({}) and some are not ({})",
            list(&numbers),
            list(&words)
        ));
    }
    let doubtful: Vec<_> = words.into_iter().filter(|name| doubtful(name)).collect();
    if !doubtful.is_empty() {
        doubts.push(format!(
            "{} is taken for a class; if it says that a row has no label, remove such rows",
            list(&doubtful)
        ));
    }
    let mut counts = vec![0; classes.names().len()];
    ids.iter().for_each(|&id| counts[id as usize] += 1);
    let single = counts.iter().filter(|&&count| count <= 1).count();
    if counts.len() > MANY && 2 * single > counts.len() {
        doubts.push(format!(
            "{single} of {} classes have a single row; is this the column of the labels, and are these no numbers \
             for --task regression?",
            counts.len()
        ));
    }
    doubts
}
