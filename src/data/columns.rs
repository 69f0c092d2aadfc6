//! Which columns hold the text, its partner and the label: named by the user, or recognised.

use anyhow::{Result, bail};

use crate::formats::columns::Columns;
use crate::words::list;

/// Requested column names; `None` means find it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnNames {
    pub text: Option<String>,
    pub text_pair: Option<String>,
    pub label: Option<String>,
}

/// Whether rows must carry a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelUse {
    /// Training and evaluation: a missing label column is an error.
    Required,
    /// Prediction: a label column may exist but is not read.
    Ignored,
}

/// Numbers of the chosen columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChosenColumns {
    pub text: usize,
    pub text_pair: Option<usize>,
    pub label: Option<usize>,
}

impl ChosenColumns {
    pub fn names<S: AsRef<str>>(&self, header: &[S]) -> Columns {
        let name = |column: usize| header[column].as_ref().to_owned();
        Columns {
            text: name(self.text),
            text_pair: self.text_pair.map(name),
            label: self.label.map(name),
        }
    }

    /// The names of the others.
    pub fn others<S: AsRef<str>>(&self, header: &[S]) -> Vec<String> {
        let chosen = [Some(self.text), self.text_pair, self.label];
        let others = header.iter().enumerate().filter(|(i, _)| !chosen.contains(&Some(*i)));
        others.map(|(_, name)| name.as_ref().to_owned()).collect()
    }
}

/// The default names, then those of GLUE, SuperGLUE's BoolQ, SNLI and SICK.
const PAIRS: [(&str, &str); 12] = [
    ("text", "text_pair"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("premise", "hypothesis"),
    ("question", "sentence"),
    ("question", "passage"),
    ("sentence_a", "sentence_b"),
    ("#1 string", "#2 string"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("sentence_1", "sentence_2"),
    ("query", "passage"),
];
const SINGLES: [&str; 2] = ["text", "sentence"];
/// If none of those exists.
const OTHER_SINGLES: [&str; 5] = ["content", "review", "tweet", "comment", "utterance"];
const LABELS: [&str; 8] = [
    "label",
    "labels",
    "gold_label",
    "is_duplicate",
    "quality",
    "score",
    "similarity",
    "relatedness_score",
];
const OTHER_LABELS: [&str; 6] = ["target", "class", "category", "sentiment", "rating", "stars"];

/// Finds the columns of `header`.
///
/// Requested names must exist exactly as written. Then come the columns that the task was trained on, `held`, then
/// `text`, `text_pair` and `label`, otherwise the usual names of public data sets, in any case; two that fit equally
/// well are an error. Whether a task that needs pairs gets some is checked by [`hold_pairs`]. `place` starts each
/// message ("file:line").
///
/// # Errors
/// Also pairs for a task that was trained on single texts.
pub(super) fn choose<S: AsRef<str>>(
    header: &[S],
    names: &ColumnNames,
    label_use: LabelUse,
    held: Option<&Columns>,
    place: &str,
) -> Result<ChosenColumns> {
    let header = Header { columns: header.iter().map(AsRef::as_ref).collect(), place };
    let pair_named =
        names.text_pair.as_deref().map(|n| header.named(n, "text pair")).transpose()?;
    let single = held.is_some_and(|held| held.text_pair.is_none());
    let (text, text_pair) = match &names.text {
        Some(name) => {
            let text = header.named(name, "text")?;
            // A text column chosen by the user, or in training, is only paired with the default name.
            let usual = ["text_pair"].into_iter().filter(|_| !single);
            let held = held.and_then(|held| held.text_pair.as_deref());
            let mut partner = None;
            for name in held.into_iter().chain(usual) {
                partner = partner.or(header.find(name)?.filter(|&pair| pair != text));
            }
            (text, pair_named.or(partner))
        }
        None => match held.and_then(|held| header.as_trained(held, pair_named)) {
            Some(found) => found,
            None => header.recognise_text(pair_named)?,
        },
    };
    if single && let Some(pair) = text_pair {
        bail!(
            "{place}: the task was trained on single texts, but these are pairs, from the columns {:?} and {:?}; to \
             read only one column name it with --text-column",
            header.columns[text],
            header.columns[pair]
        );
    }
    let label = match label_use {
        LabelUse::Ignored => None,
        LabelUse::Required => Some(match &names.label {
            Some(name) => header.named(name, "label")?,
            None => header.recognise_label(held)?,
        }),
    };
    if text_pair == Some(text) || label == Some(text) || (label.is_some() && label == text_pair) {
        bail!(
            "{place}: a column is used twice; text, text pair and label each need their own ({})",
            header.list()
        );
    }
    Ok(ChosenColumns { text, text_pair, label })
}

/// Whether [`choose`] looks for a column of this name: no other column affects its choice.
pub(super) fn could_be_chosen(name: &str, names: &ColumnNames, held: Option<&Columns>) -> bool {
    let asked = [&names.text, &names.text_pair, &names.label].into_iter().flatten();
    let trained = held.map(|held| [Some(&held.text), held.text_pair.as_ref(), held.label.as_ref()]);
    let trained = trained.into_iter().flatten().flatten();
    let lists = [&SINGLES[..], &OTHER_SINGLES, &LABELS, &OTHER_LABELS];
    let pairs = PAIRS.into_iter().flat_map(|(first, second)| [first, second]);
    asked.chain(trained).any(|wanted| wanted == name)
        || lists.concat().into_iter().chain(pairs).any(|usual| usual.eq_ignore_ascii_case(name))
}

/// Whether words are the usual names of several columns: including a label's, or both of a pair.
pub(super) fn name_several(words: &[&str]) -> bool {
    let has = |name: &str| words.iter().any(|word| word.eq_ignore_ascii_case(name));
    let label = LABELS.iter().chain(&OTHER_LABELS).any(|name| has(name));
    let text = SINGLES.iter().chain(&OTHER_SINGLES).any(|name| has(name));
    (label && text) || PAIRS.iter().any(|(first, second)| has(first) && has(second))
}

/// Checks that a task trained on pairs gets pairs.
///
/// # Errors
/// There are no second texts.
pub(super) fn hold_pairs(held: Option<&Columns>, found: bool, place: &str) -> Result<()> {
    match held {
        Some(Columns { text, text_pair: Some(pair), .. }) if !found => bail!(
            "{place}: the task was trained on pairs of texts, from the columns {text:?} and {pair:?}, but there is no \
             second text here; name its column with --text-pair-column"
        ),
        _ => Ok(()),
    }
}

struct Header<'a> {
    columns: Vec<&'a str>,
    place: &'a str,
}

impl Header<'_> {
    /// A column requested by name.
    fn named(&self, name: &str, role: &str) -> Result<usize> {
        let mut hits = (0..self.columns.len()).filter(|&i| self.columns[i] == name);
        match (hits.next(), hits.next()) {
            (Some(i), None) => Ok(i),
            (Some(_), Some(_)) => bail!("{}: two columns are called {name:?}", self.place),
            _ => bail!(
                "{}: no {role} column {name:?}; {}{}",
                self.place,
                self.list(),
                self.nearest(&[name])
            ),
        }
    }

    /// A usual name, in any case.
    fn find(&self, usual: &str) -> Result<Option<usize>> {
        let mut hits =
            (0..self.columns.len()).filter(|&i| self.columns[i].eq_ignore_ascii_case(usual));
        match (hits.next(), hits.next()) {
            (Some(one), Some(other)) if self.columns[one] == self.columns[other] => {
                bail!("{}: two columns are called {:?}", self.place, self.columns[one])
            }
            (Some(one), Some(other)) => bail!(
                "{}: {:?} and {:?} differ only in case, and either could be meant; {}; choose with --text-column, \
                 --text-pair-column and --label-column",
                self.place,
                self.columns[one],
                self.columns[other],
                self.list()
            ),
            (hit, _) => Ok(hit),
        }
    }

    /// The columns used in training, if the text's exists here. For single texts, also finds the partner they would
    /// otherwise have, so that it is not ignored silently.
    fn as_trained(
        &self,
        held: &Columns,
        pair_named: Option<usize>,
    ) -> Option<(usize, Option<usize>)> {
        let at = |name: &str| self.columns.iter().position(|column| *column == name);
        let text = at(&held.text).filter(|&text| Some(text) != pair_named)?;
        let partner = match &held.text_pair {
            Some(pair) => at(pair),
            None => PAIRS.iter().find_map(|&(first, second)| {
                let pair = [first, second].map(|name| self.find(name).ok().flatten());
                match pair {
                    [Some(one), Some(other)] if one == text => Some(other),
                    [Some(one), Some(other)] if other == text => Some(one),
                    _ => None,
                }
            }),
        };
        Some((text, pair_named.or(partner)))
    }

    fn recognise_text(&self, pair_named: Option<usize>) -> Result<(usize, Option<usize>)> {
        let mut pairs = Vec::new();
        for (first, second) in PAIRS {
            let (first, second) = (self.find(first)?, self.find(second)?);
            if let (Some(text), Some(pair)) = (first, second) {
                pairs.push((text, Some(pair)));
            }
        }
        let mut singles = Vec::new();
        for name in SINGLES {
            singles.extend(self.find(name)?.map(|text| (text, None)));
        }
        if pairs.is_empty() && singles.is_empty() {
            for name in OTHER_SINGLES {
                singles.extend(self.find(name)?.map(|text| (text, None)));
            }
        }
        if let Some(pair) = pair_named {
            // The second half is known: find its usual first half, or else any usual text column.
            pairs.retain(|&(_, second)| second == Some(pair));
            singles.retain(|&(text, _)| text != pair);
            singles.iter_mut().for_each(|single| single.1 = Some(pair));
        }
        let default =
            singles.first().filter(|&&(text, _)| self.columns[text].eq_ignore_ascii_case("text"));
        let found = match (default, pairs.as_slice()) {
            // `text` is the documented default: it wins over any other name, together with its own partner if that
            // exists.
            (Some(&(text, pair)), _) => {
                let own = pairs.iter().find(|&&(first, _)| first == text);
                return Ok((text, own.map_or(pair, |own| own.1)));
            }
            (None, []) => singles,
            (None, _) => pairs,
        };
        match found.as_slice() {
            [one] => Ok(*one),
            [] => bail!(
                "{}: no text column recognised; {}; name it with --text-column (and --text-pair-column){}",
                self.place,
                self.list(),
                match self.half_of_a_pair() {
                    Some(hint) => hint,
                    None =>
                        self.nearest(&["text", "sentence", "sentence1", "premise", "question1"]),
                }
            ),
            _ => bail!(
                "{}: several columns could be the text; {}; choose with --text-column and --text-pair-column",
                self.place,
                self.list()
            ),
        }
    }

    /// Names the half of a pair whose other half is missing.
    fn half_of_a_pair(&self) -> Option<String> {
        for (first, second) in PAIRS {
            for (half, other) in [(first, second), (second, first)] {
                if let Ok(Some(at)) = self.find(half) {
                    let column = self.columns[at];
                    return Some(format!(
                        "; {column:?} is half of the pair {first:?} and {second:?}, but {other:?} is missing: if it is \
                         the whole text, use --text-column {column:?}"
                    ));
                }
            }
        }
        None
    }

    fn recognise_label(&self, held: Option<&Columns>) -> Result<usize> {
        let trained = held.and_then(|held| held.label.as_deref());
        if let Some(at) = self.columns.iter().position(|c| Some(*c) == trained) {
            return Ok(at);
        }
        let mut hits = Vec::new();
        for name in LABELS {
            hits.extend(self.find(name)?);
        }
        if hits.is_empty() {
            for name in OTHER_LABELS {
                hits.extend(self.find(name)?);
            }
        }
        match hits.as_slice() {
            [one] => Ok(*one),
            // `label` is the documented default.
            [first, ..] if self.columns[*first].eq_ignore_ascii_case("label") => Ok(*first),
            [] => bail!(
                "{}: no label column recognised; {}; name it with --label-column{}",
                self.place,
                self.list(),
                self.nearest(&LABELS)
            ),
            _ => bail!(
                "{}: several columns could be the label; {}; choose with --label-column",
                self.place,
                self.list()
            ),
        }
    }

    fn list(&self) -> String {
        format!("the columns are {}", list(&self.columns))
    }

    /// " (did you mean ...?)" for the column nearest to any of the wanted names, if it is near enough to be a typo. A
    /// column with a wanted name is not a typo.
    fn nearest(&self, wanted: &[&str]) -> String {
        let closeness = |column: &str| {
            let lower = column.to_lowercase();
            wanted
                .iter()
                .filter(|w| **w != column)
                .map(|w| strsim::jaro_winkler(&lower, &w.to_lowercase()))
                .fold(0.0, f64::max)
        };
        let best = self
            .columns
            .iter()
            .filter(|column| !wanted.contains(column))
            .map(|c| (closeness(c), c))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        match best {
            Some((score, column)) if score > 0.8 => format!(" (did you mean {column:?}?)"),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
#[path = "columns_tests.rs"]
mod tests;
