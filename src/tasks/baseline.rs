//! What can be reached without reading a text: by always giving the same answer, or each word's most common tag. A
//! measure that is not better shows that nothing was learned.

use super::answers;
use super::entities::are_tagged;
use super::examples::{InWindows, Prepared};
use super::tag_remarks::tags;
use super::targets::Targets;
use crate::batch::Labels;
use crate::data::{Document, Documents};
use crate::settings::metric::Metric;
use crate::tasks::metrics::Scores;
use std::collections::HashMap;

/// A measure's value without reading a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    metric: Metric,
    value: f64,
    /// How it is reached.
    who: &'static str,
}

impl Baseline {
    /// For prepared rows. None if the rows are all alike, so that nothing can be concluded. For classes, the most
    /// common one is checked from their [confusion](super::collapse).
    pub fn of(targets: &Targets, prepared: &Prepared) -> Option<Self> {
        match (targets, prepared.labels(), &prepared.documents) {
            (Targets::Values { outputs, .. }, Labels::Values(gold), _) => mean(gold, *outputs),
            (Targets::Tags(names), _, Some(InWindows { documents, .. })) => {
                are_tagged(names.names()).then(|| no_entity(&documents.list)).flatten()
            }
            (Targets::Spans(_), _, Some(InWindows { documents, .. })) => no_answer(documents),
            _ => None,
        }
    }

    /// For tags that do not name entities: each word's most common tag in the training documents, and for a new word
    /// the most common of all.
    pub fn of_words(targets: &Targets, train: &Documents, dev: &Documents) -> Option<Self> {
        let Targets::Tags(names) = targets else { return None };
        if are_tagged(names.names()) {
            return None;
        }
        let mut counts: HashMap<&str, HashMap<&str, usize>> = HashMap::new();
        let mut whole: HashMap<&str, usize> = HashMap::new();
        for (word, tag) in train.list.iter().flat_map(tagged_words) {
            *counts.entry(word).or_default().entry(tag).or_default() += 1;
            *whole.entry(tag).or_default() += 1;
        }
        let of_all = commonest(&whole)?;
        let usual: HashMap<&str, &str> =
            counts.iter().filter_map(|(word, tags)| Some((*word, commonest(tags)?))).collect();
        let (mut right, mut words) = (0, 0);
        for (word, tag) in dev.list.iter().flat_map(tagged_words) {
            words += 1;
            right += usize::from(*usual.get(word).unwrap_or(&of_all) == tag);
        }
        let who = "each word its most common tag in the training data";
        (words > 0 && right < words).then(|| Self {
            metric: Metric::Accuracy,
            value: right as f64 / words as f64,
            who,
        })
    }

    /// A sentence if these measures are not better.
    pub fn not_beaten(&self, scores: &Scores) -> Option<String> {
        let Self { metric, value, who } = self;
        let &(_, found) = scores.iter().find(|(measured, _)| measured == metric)?;
        (!metric.improves(found, Some(*value))).then(|| {
            format!(
                "the {metric} of {found:.4} is no better than the {value:.4} of always giving {who}"
            )
        })
    }
}

/// The mean squared error of predicting the mean, for each number separately.
fn mean(gold: &[f32], outputs: usize) -> Option<Baseline> {
    let column = |output: usize| gold.iter().skip(output).step_by(outputs).map(|&x| f64::from(x));
    let rows = (gold.len() / outputs.max(1)) as f64;
    let squares = |output: usize| -> f64 {
        let mean = column(output).sum::<f64>() / rows;
        column(output).map(|value| (value - mean).powi(2)).sum()
    };
    let value = (0..outputs).map(squares).sum::<f64>() / gold.len() as f64;
    (value > 0.0).then_some(Baseline { metric: Metric::Loss, value, who: "the mean to every row" })
}

fn no_entity(documents: &[Document]) -> Option<Baseline> {
    let any = documents.iter().flat_map(tags).any(|tag| are_tagged(&[tag.as_str()]));
    any.then_some(Baseline { metric: Metric::EntityF1, value: 0.0, who: "O to every word" })
}

fn no_answer(documents: &Documents) -> Option<Baseline> {
    let none = documents.list.iter().filter(|document| answers::is_unanswered(document)).count();
    let value = none as f64 / documents.list.len() as f64;
    let who = "no answer to any question";
    (none < documents.list.len()).then_some(Baseline { metric: Metric::F1, value, who })
}

/// The words of a document and their tags.
fn tagged_words(document: &Document) -> impl Iterator<Item = (&str, &str)> {
    let words = document.words.iter().map(|word| &document.text[word.clone()]);
    words.zip(tags(document)).map(|(word, tag)| (word, tag.as_str()))
}

/// On a tie the first in alphabetical order.
fn commonest<'t>(counts: &HashMap<&'t str, usize>) -> Option<&'t str> {
    let best = counts.iter().max_by(|(a, n), (b, m)| n.cmp(m).then(b.cmp(a)));
    best.map(|(tag, _)| *tag)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Gold, Mark};
    use crate::tasks::labels::ClassNames;

    fn tagged(words: &[(&str, &str)]) -> Documents {
        let (words, tags): (Vec<_>, Vec<_>) =
            words.iter().map(|(word, tag)| (word.to_string(), tag.to_string())).unzip();
        let document = Document { gold: Gold::Tags(tags), ..Document::of_words(&words) };
        Documents { name: "d".to_owned(), list: vec![document] }
    }

    fn names(tags: &[&str]) -> Targets {
        let tags = tags.iter().map(|tag| tag.to_string()).collect();
        Targets::Tags(ClassNames::from_names(tags, 2).unwrap())
    }

    #[test]
    fn the_mean_of_each_number_by_itself_is_what_numbers_are_held_to() {
        // Around 2 and 20: squares of 1 and 100.
        let found = mean(&[1.0, 10.0, 3.0, 30.0], 2).unwrap();
        assert_eq!((found.metric, found.value), (Metric::Loss, 50.5));
        assert!(found.not_beaten(&vec![(Metric::Loss, 50.5)]).unwrap().contains("the mean"));
        assert_eq!(found.not_beaten(&vec![(Metric::Loss, 50.0)]), None);
        assert!(found.not_beaten(&vec![(Metric::Loss, f64::NAN)]).is_some());
        assert_eq!(mean(&[2.0, 2.0], 1), None, "nothing to tell apart");
    }

    #[test]
    fn a_word_gets_its_commonest_tag_in_training_and_a_new_one_the_commonest_of_all() {
        let train = tagged(&[("the", "DET"), ("run", "NOUN"), ("run", "VERB"), ("run", "VERB")]);
        let dev = tagged(&[("the", "DET"), ("run", "NOUN"), ("new", "VERB"), ("run", "VERB")]);
        let found = Baseline::of_words(&names(&["DET", "NOUN", "VERB"]), &train, &dev).unwrap();
        assert_eq!((found.metric, found.value), (Metric::Accuracy, 0.75));
        assert_eq!(found.not_beaten(&vec![(Metric::Accuracy, 0.8)]), None);
        let said = found.not_beaten(&vec![(Metric::Accuracy, 0.75)]).unwrap();
        assert!(
            said.contains(
                "the 0.7500 of always giving each word its most common tag in the training data"
            ),
            "{said}"
        );
        assert_eq!(Baseline::of_words(&names(&["B-X", "O"]), &train, &dev), None);
        assert_eq!(Baseline::of_words(&names(&["DET", "VERB"]), &train, &train.select(&[])), None);
    }

    #[test]
    fn entities_are_held_to_finding_none_and_answers_to_giving_none() {
        assert!(no_entity(&tagged(&[("Rome", "B-LOC"), ("is", "O")]).list).is_some());
        assert_eq!(no_entity(&tagged(&[("is", "O")]).list), None);
        let asked = |answers: &[bool]| {
            let gold = |&there: &bool| {
                let mark = Mark { span: 0..1, label: String::new() };
                Gold::Answers(if there { vec![mark] } else { Vec::new() })
            };
            let list = answers.iter().map(|a| Document { gold: gold(a), ..Document::default() });
            Documents { name: "d".to_owned(), list: list.collect() }
        };
        assert_eq!(no_answer(&asked(&[true, false, false, true])).unwrap().value, 0.5);
        assert_eq!(no_answer(&asked(&[true, true])).unwrap().value, 0.0);
        assert_eq!(no_answer(&asked(&[false, false])), None);
    }
}
