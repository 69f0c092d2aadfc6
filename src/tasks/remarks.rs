//! What to tell a user about the labels that were read, so that a wrong reading is noticed before training.

use std::collections::{BTreeMap, HashMap};

use super::answers;
use super::entities;
use super::examples::{InWindows, Prepared};
use super::labels::ClassNames;
use super::masked_words;
use super::name_doubts::Counted;
use super::splitting::Splitting;
use super::targets::Targets;
use super::unlabelled::is_mark;
use crate::batch::Labels;
use crate::data::Table;
use crate::settings::metric::Metric;
use crate::settings::task::Task;
use crate::words::{MANY, are, count, list};

/// A line that describes the examples.
pub fn told(targets: &Targets, prepared: &Prepared) -> String {
    match (targets, &prepared.documents) {
        (Targets::Spans(rule), Some(InWindows { documents, windows })) => {
            answers::summary(*rule, documents, windows)
        }
        (&Targets::Words { rules, .. }, _) => masked_words::summary(rules, &prepared.dataset),
        _ => summary(targets, prepared.labels()),
    }
}

/// A line that describes `labels`, those of one table.
pub fn summary(targets: &Targets, labels: &Labels) -> String {
    if let Some(counted) = counted(targets, labels) {
        return counted.summary() + &more_of(targets, labels);
    }
    match labels {
        Labels::Values(values) => {
            let least = values.iter().copied().fold(f32::INFINITY, f32::min);
            let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            match values.len() {
                1 => format!("the label is {least}"),
                many => match targets.outputs() {
                    1 => format!("labels are {many} numbers from {least} to {most}"),
                    each => {
                        format!("labels are {each} numbers for each text, from {least} to {most}")
                    }
                },
            }
        }
        _ => "no labels".to_owned(),
    }
}

/// Suspicious but possibly correct labels for training, a sentence each.
pub fn doubts(targets: &Targets, labels: &Labels) -> Vec<String> {
    let counted = counted(targets, labels);
    let mut doubts = counted.as_ref().map(Counted::doubts).unwrap_or_default();
    match (targets, labels) {
        (Targets::Classes(_), _) => doubts.extend(counted.as_ref().and_then(many_classes)),
        (Targets::Several(names, splitting), Labels::Values(values)) => {
            doubts.extend(several_doubts(names.names(), splitting, values));
        }
        (Targets::Values { .. }, Labels::Values(values)) => doubts.extend(value_doubts(values)),
        _ => {}
    }
    doubts
}

/// What follows the names and their counts.
fn more_of(targets: &Targets, labels: &Labels) -> String {
    match (targets, labels) {
        (Targets::Tags(classes), _) if entities::are_tagged(classes.names()) => {
            "; entities are scored as seqeval does by default, in IOB or IOBES".to_owned()
        }
        (Targets::Tags(_), _) => "; tags without B- and I- are scored word by word".to_owned(),
        (Targets::Several(names, _), Labels::Values(values)) => {
            let rows = values.chunks_exact(names.names().len());
            match rows.filter(|row| row.iter().all(|&value| value == 0.0)).count() {
                0 => String::new(),
                none => format!("; {} without any", count(none, "row")),
            }
        }
        _ => String::new(),
    }
}

/// The outputs' names, with the number of their occurrences in `labels`.
fn counted<'a>(targets: &'a Targets, labels: &Labels) -> Option<Counted<'a>> {
    let names = targets.named()?.names();
    let mut counts = vec![0; names.len()];
    match labels {
        Labels::Classes(ids) | Labels::Tokens(ids) => {
            let counted = ids.iter().filter(|&&id| id != Labels::IGNORED);
            counted.for_each(|&id| counts[id as usize] += 1);
        }
        Labels::Values(values) => {
            for row in values.chunks_exact(counts.len()) {
                counts.iter_mut().zip(row).for_each(|(count, &value)| *count += value as usize);
            }
        }
        _ => return None,
    }
    let (what, unit) = match targets {
        Targets::Tags(_) => ("tag", "word"),
        Targets::Several(..) => ("label", "row"),
        _ => ("class", "row"),
    };
    Some(Counted { what, unit, names, counts })
}

/// Whether there is nothing to correlate with.
pub fn all_equal(values: &[f32]) -> bool {
    values.windows(2).all(|pair| pair[0] == pair[1])
}

/// What no measure can show if all texts got the same answer.
pub fn same_answer(task: Task) -> String {
    let correlations = [Metric::Matthews, Metric::Pearson, Metric::Spearman];
    let undefined = task.facts().measures.iter().filter(|measure| correlations.contains(measure));
    let undefined: Vec<_> = undefined.map(|measure| measure.name()).collect();
    let what = "every row gets the same answer";
    match undefined.as_slice() {
        [] => what.to_owned(),
        [one] => format!("{what}: {one} is undefined and shown as 0"),
        several => format!("{what}: {} are undefined and shown as 0", several.join(" and ")),
    }
}

/// Whether rows look as if several labels were read as one.
fn several_doubts(names: &[String], splitting: &Splitting, values: &[f32]) -> Option<String> {
    const OTHERS: [char; 6] = [';', '|', ',', '/', '+', ' '];
    if values.iter().all(|&value| value == 1.0) {
        return Some(
            "every row has every label, so there is nothing to learn; a list has the names of a text's labels, not a 0 or 1 \
             for each label in turn"
                .to_owned(),
        );
    }
    if values.chunks_exact(names.len()).any(|row| row.iter().sum::<f32>() > 1.0) {
        return None;
    }
    let of_digits =
        |name: &String| name.chars().all(|c| matches!(c, '0' | '1') || !c.is_alphanumeric());
    if names.iter().all(of_digits) {
        return Some(format!(
            "no row has more than one label, and the labels are {}: name each label that a text has instead of writing 0 or \
             1; if 0 and 1 answer a single question, use --task classification",
            list(names)
        ));
    }
    let own = splitting.separator();
    let joined = |&separator: &char| {
        let inside = |name: &&String| name.trim_matches(separator).contains(separator);
        Some((separator.to_string(), names.iter().find(inside)?))
    };
    let hint = match OTHERS.iter().filter(|other| other.to_string() != own).find_map(joined) {
        Some((separator, name)) => {
            format!("; if {name:?} is several labels, --label-separator {separator:?} splits them")
        }
        None => String::new(),
    };
    Some(format!("no row has more than one label (cells are split at {own:?}){hint}"))
}

/// Numbers that often mark a missing label, among labels that are not negative; `used` says what happens to them.
pub fn mark_doubt(values: &[f32], used: &str) -> Option<String> {
    let marks: Vec<f32> = values.iter().copied().filter(|&value| is_mark(value)).collect();
    let others_negative = values.iter().any(|&value| value < 0.0 && !is_mark(value));
    let mark = marks.first().filter(|_| !others_negative && marks.len() < values.len())?;
    Some(format!(
        "the label {mark} often means that there is none, and no other label is negative ({} of {} rows): it is {used} as a \
         number; if it means none, remove such rows",
        marks.len(),
        values.len()
    ))
}

/// Whether rows are sorted by label; labels have `outputs` numbers if they are numbers.
pub fn in_order(labels: &Labels, outputs: usize) -> bool {
    fn in_runs<T: PartialEq>(rows: &[T]) -> bool {
        let starts: Vec<&T> = rows.chunk_by(|one, other| one == other).map(|run| &run[0]).collect();
        let once = |(i, start): (usize, &&T)| !starts[..i].contains(start);
        // Many runs are not an order worth checking.
        (2..=MANY).contains(&starts.len())
            && starts.len() < rows.len()
            && starts.iter().enumerate().all(once)
    }
    match labels {
        Labels::Classes(ids) => in_runs(ids),
        Labels::Values(values) if outputs == 1 => {
            values.len() > 2
                && !all_equal(values)
                && (values.is_sorted() || values.iter().rev().is_sorted())
        }
        Labels::Values(values) => in_runs(&values.chunks_exact(outputs).collect::<Vec<_>>()),
        _ => false,
    }
}

fn value_doubts(values: &[f32]) -> Vec<String> {
    let mut doubts = Vec::new();
    if all_equal(values) {
        doubts.push("every row has the same number for its label".to_owned());
    }
    doubts.extend(mark_doubt(values, "learned"));
    let size = values.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
    if size > 1e3 {
        doubts.push(format!(
            "labels as large as {size} are learned slowly or not at all, as a model starts with answers near 0: divide them"
        ));
    }
    doubts
}

/// Texts of a table that are repeated with another label, as a line for people.
pub fn contradictions(table: &Table, labels: &Labels) -> Option<String> {
    let rows = &table.rows;
    let same = |one: usize, other: usize| match labels {
        Labels::Classes(ids) => ids[one] == ids[other],
        Labels::Values(values) => {
            let of = |row: usize| {
                &values[row * (values.len() / rows.len())..][..values.len() / rows.len()]
            };
            of(one) == of(other)
        }
        _ => true,
    };
    let mut first = HashMap::new();
    let mut differ = BTreeMap::new();
    for (i, row) in rows.iter().enumerate() {
        let before = *first.entry((&row.text, &row.text_pair)).or_insert(i);
        if !same(before, i) {
            differ.entry(before).or_insert(i);
        }
    }
    let (&one, &other) = differ.first_key_value()?;
    let texts = format!("{} {}", count(differ.len(), "text"), are(differ.len()));
    let (one, other) = (rows[one].line, rows[other].line);
    Some(format!(
        "{texts} there more than once with different labels, the first on lines {one} and {other}"
    ))
}

/// Says which labels were read without their surrounding spaces, in rows or words as `unit` says.
pub fn spaced<'a>(labels: impl Iterator<Item = &'a str>, unit: &str) -> Option<String> {
    let mut spaced: BTreeMap<&str, usize> = BTreeMap::new();
    for label in labels.filter(|label| label.trim() != *label) {
        *spaced.entry(label).or_default() += 1;
    }
    let shown = spaced.iter().take(MANY);
    let shown: Vec<_> = shown
        .map(|(label, of)| format!("\"{}\" ({})", label.escape_default(), count(*of, unit)))
        .collect();
    (!shown.is_empty()).then(|| format!("spaces around labels ignored: {}", shown.join(", ")))
}

/// Says which labels of a table were taken for a class with another spelling.
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

/// The classes without any rows among `labels`.
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

/// Numbers that may not be classes.
fn many_classes(Counted { counts, .. }: &Counted<'_>) -> Option<String> {
    let single = counts.iter().filter(|&&count| count <= 1).count();
    (counts.len() > MANY && 2 * single > counts.len()).then(|| {
        format!(
            "{single} of {} classes have a single row; is this the label column, or are these numbers for --task \
             regression?",
            counts.len()
        )
    })
}
