//! How good answers are, by SQuAD 2.0's measures: words without case, punctuation and articles, the best of several
//! right answers, and the threshold from which on no answer is given.

use std::collections::HashMap;

/// Exact match and F1 of one question.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    pub exact: f64,
    pub f1: f64,
}

/// What an answer is compared by: lower case, without ASCII punctuation and English articles, words separated by single
/// spaces.
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

/// Where Python's `str.split` splits words.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// An answer compared with the right ones, of which the nearest counts; if there are none, no answer is right.
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

/// What a threshold is chosen from.
#[derive(Clone, Copy, Debug)]
pub struct Doubt {
    /// By how much the score of no answer exceeds that of the best answer.
    pub score: f64,
    /// The value of the best answer: 0 if the text does not answer the question.
    pub worth: f64,
    /// Whether the text answers the question.
    pub answered: bool,
}

/// The score up to which to give answers, for the highest total value; a question without an answer counts 1 if it gets
/// none. SQuAD 2.0's script returns the last score that is answered; this is half way to the next, since the same
/// logits from another batch may differ in their last bits. On a tie the lowest.
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
