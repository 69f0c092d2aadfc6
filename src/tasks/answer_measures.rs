//! How good answers are, as SQuAD 2.0 measures: words without case, punctuation and articles, the best of several right
//! answers, and the threshold from which on none is given.

use std::collections::HashMap;

/// Exact match and F1 of one question.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    pub exact: f64,
    pub f1: f64,
}

/// What is left of an answer to compare: lower case, without ASCII punctuation and English articles, words parted by one
/// space.
pub fn normalised(answer: &str) -> String {
    let mut text = answer.to_lowercase();
    text.retain(|c| !c.is_ascii_punctuation());
    let mut kept = String::with_capacity(text.len());
    // An article is a whole run of letters and digits.
    for run in text.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let word = run.trim_end_matches(|c: char| !c.is_alphanumeric());
        if matches!(word, "a" | "an" | "the") {
            kept.push(' ');
            kept += &run[word.len()..];
        } else {
            kept += run;
        }
    }
    kept.split(is_space).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// What Python's `str.split` parts words at.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// An answer against the right ones, of which the nearest counts; where there are none, no answer is right.
pub fn measured<'a>(answer: &str, right: impl IntoIterator<Item = &'a str>) -> Measured {
    let answer = normalised(answer);
    let right = right.into_iter().map(normalised).filter(|right| !right.is_empty());
    let mut best: Option<Measured> = None;
    for right in right {
        let of = against(&answer, &right);
        let so_far = best.unwrap_or_default();
        best = Some(Measured { exact: of.exact.max(so_far.exact), f1: of.f1.max(so_far.f1) });
    }
    best.unwrap_or_else(|| against(&answer, ""))
}

/// Both are normalised.
fn against(answer: &str, right: &str) -> Measured {
    let same = f64::from(u8::from(answer == right));
    let words = |text: &str| text.split(' ').filter(|word| !word.is_empty()).count();
    let (said, wanted) = (words(answer), words(right));
    if said == 0 || wanted == 0 {
        return Measured { exact: same, f1: same };
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    right.split(' ').for_each(|word| *counts.entry(word).or_default() += 1);
    let mut common = 0;
    for word in answer.split(' ') {
        if let Some(count) = counts.get_mut(word).filter(|count| **count > 0) {
            *count -= 1;
            common += 1;
        }
    }
    if common == 0 {
        return Measured { exact: same, f1: 0.0 };
    }
    let precision = f64::from(common) / said as f64;
    let recall = f64::from(common) / wanted as f64;
    Measured { exact: same, f1: 2.0 * precision * recall / (precision + recall) }
}

/// What a threshold is chosen by.
#[derive(Clone, Copy, Debug)]
pub struct Doubt {
    /// By how much the score of no answer exceeds that of the best answer.
    pub score: f64,
    /// What the best answer is worth: nothing where the text answers nothing.
    pub worth: f64,
    /// Whether the text answers the question.
    pub answered: bool,
}

/// The score up to which answers are to be given for the highest sum of worth, in which a question without an answer
/// counts 1 if it gets none. SQuAD 2.0's script gives the last score that is answered; this is half way to the next, since
/// the same logits out of another batch may differ in their last bits. Of several the lowest.
pub fn best_threshold(doubts: &[Doubt]) -> f64 {
    let mut order: Vec<&Doubt> = doubts.iter().filter(|doubt| doubt.score.is_finite()).collect();
    order.sort_by(|a, b| a.score.total_cmp(&b.score));
    // Equal scores are answered together or not at all.
    let groups: Vec<&[&Doubt]> = order.chunk_by(|a, b| a.score == b.score).collect();
    let gain = |doubt: &&Doubt| if doubt.answered { doubt.worth } else { -1.0 };
    let (mut sum, mut most, mut answered) = (0.0, 0.0, 0);
    for (i, equal) in groups.iter().enumerate() {
        sum += equal.iter().map(gain).sum::<f64>();
        if sum > most {
            (most, answered) = (sum, i + 1);
        }
    }
    let (before, behind) = groups.split_at(answered);
    match (before.last(), behind.first()) {
        (Some(last), Some(next)) => f64::midpoint(last[0].score, next[0].score),
        (Some(last), None) => last[0].score + 1.0,
        (None, Some(first)) => first[0].score - 1.0,
        (None, None) => 0.0,
    }
}

#[cfg(test)]
#[path = "answer_measures_tests.rs"]
mod tests;
