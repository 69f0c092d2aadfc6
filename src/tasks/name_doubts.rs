//! Suspicious but possibly correct names of classes, labels or tags.

use std::collections::BTreeMap;

use super::entities::{are_tagged, kind};
use super::spelling::Key;
use super::unlabelled::{doubtful, is_missing};
use crate::words::{MANY, count, list, named, quoted};

/// Names with the number of their occurrences in the examples.
pub struct Counted<'a> {
    /// What they name: "class".
    pub what: &'static str,
    /// What is counted: "row".
    pub unit: &'static str,
    pub names: &'a [String],
    pub counts: Vec<usize>,
}

impl Counted<'_> {
    fn pairs(&self) -> impl Iterator<Item = (&str, usize)> {
        self.names.iter().map(String::as_str).zip(self.counts.iter().copied())
    }

    /// A line for people. Only the largest, in order, if there are too many.
    pub fn summary(&self) -> String {
        let mut pairs: Vec<(&str, usize)> = self.pairs().collect();
        if pairs.len() > MANY {
            pairs.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        }
        let shown = pairs.iter().take(MANY);
        let shown: Vec<_> =
            shown.map(|(name, count)| format!("{} ({count})", quoted(name))).collect();
        let more = match pairs.len().saturating_sub(MANY) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let (what, unit) = (count(pairs.len(), self.what), self.unit);
        let their = if pairs.len() == 1 { "its" } else { "their" };
        format!("{what} and {their} {unit}s: {}{more}", shown.join(", "))
    }

    /// A sentence for each suspicious point.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = self.same_but_for_case();
        let is_number = |name: &&str| matches!(Key::of(name), Key::Number(_));
        let names = self.names.iter().map(String::as_str);
        let (numbers, words): (Vec<_>, Vec<_>) = names.partition(is_number);
        if !numbers.is_empty() && !words.is_empty() {
            doubts.push(format!(
                "some {} are numbers ({}) and some are not ({})",
                named(2, self.what),
                list(&numbers),
                list(&words)
            ));
        }
        let fraction = |name: &&str| name.parse::<f64>().is_ok_and(|number| number.fract() != 0.0);
        let amounts = numbers.iter().any(fraction) || numbers.len() > MANY;
        if self.what == "class" && words.is_empty() && amounts {
            doubts.push(format!(
                "the {} are numbers, which are taken for unordered names here; --task regression takes them for \
                 amounts",
                count(numbers.len(), "class")
            ));
        }
        // Rows with an obviously missing label are refused before this; a word always has a tag.
        let of_words = self.unit == "word";
        let odd = |name: &&str| doubtful(name) || (of_words && is_missing(name) && *name != "-");
        let odd: Vec<_> = words.into_iter().filter(odd).collect();
        if !odd.is_empty() {
            let (names, takes) = (list(&odd), if odd.len() == 1 { "is" } else { "are" });
            doubts.push(match of_words {
                true => format!(
                    "{names} {takes} learned as a tag like any other; if it means that a word has none, write the \
                     tag of such \
                     words (O)"
                ),
                false => format!(
                    "{names} is taken for a class; if it means that a row has no label, remove such rows"
                ),
            });
        }
        doubts
    }

    fn same_but_for_case(&self) -> Vec<String> {
        let of_entities = self.unit == "word" && are_tagged(self.names);
        let what = if of_entities { "type" } else { self.what };
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (name, number) in self.pairs() {
            // Only a tag's type has letters whose case should not matter.
            let name = if of_entities { kind(name) } else { Some(name) };
            *counts.entry(name.unwrap_or_default()).or_default() += number;
        }
        let mut by_case: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, number) in counts {
            let shown = format!("{} ({})", quoted(name), count(number, self.unit));
            by_case.entry(name.to_lowercase()).or_default().push(shown);
        }
        let several = by_case.into_values().filter(|names| names.len() > 1);
        several
            .map(|names| {
                let what = named(2, what);
                format!("the {what} {} differ only in case", names.join(", "))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_tags(tags: &[&str]) -> Vec<String> {
        let names: Vec<String> = tags.iter().map(|&tag| tag.to_owned()).collect();
        let counts = (1..).take(names.len()).collect();
        Counted { what: "tag", unit: "word", names: &names, counts }.doubts()
    }

    #[test]
    fn types_of_entities_that_differ_in_case_alone_are_said_whichever_part_their_tags_name() {
        let same = |shown| [format!("the types {shown} differ only in case")];
        assert_eq!(of_tags(&["B-LOC", "I-loc", "O"]), same("\"LOC\" (1 word), \"loc\" (2 words)"));
        assert_eq!(
            of_tags(&["B-PER", "B-per", "I-PER", "O"]),
            same("\"PER\" (4 words), \"per\" (2 words)")
        );
        assert!(of_tags(&["B-LOC", "I-LOC", "B-PER", "O"]).is_empty());
        assert!(of_tags(&["B", "I", "O"]).is_empty());
        // For other tags the whole name.
        let other = "the tags \"Noun\" (1 word), \"noun\" (2 words) differ only in case";
        assert_eq!(of_tags(&["Noun", "noun"]), [other]);
    }
}
