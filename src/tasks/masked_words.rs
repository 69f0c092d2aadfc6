//! Hidden words: the head predicts the words that masks replaced in a text. Of the logits of a whole vocabulary, only
//! the loss of each hidden word and whether it was found are kept.

use super::metrics::Scores;
use super::targets::Prediction;
use crate::batch::Labels;
use crate::data::{Dataset, Document, MaskRules, Windows};
use crate::settings::metric::Metric;
use crate::words::count;
use rayon::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::Range;

/// Numbers kept per hidden word.
pub const KEPT: usize = 2;

/// Loss and 1 or 0 for each labelled token, `[labelled, KEPT]`, from its logits, `[at least labelled, vocabulary]`.
pub fn found(logits: &[f32], labels: &Labels, vocabulary: usize) -> Vec<f32> {
    let Labels::Tokens(labels) = labels else {
        return Vec::new();
    };
    let labels: Vec<u32> =
        labels.iter().copied().filter(|&label| label != Labels::IGNORED).collect();
    let rows = logits.par_chunks_exact(vocabulary).zip(labels);
    rows.flat_map_iter(|(row, label)| {
        let label = label as usize;
        // Like argmax: the first on a tie.
        let first =
            row.iter().enumerate().fold(0, |best, (i, &x)| if x > row[best] { i } else { best });
        let most = f64::from(row[first]);
        let sum: f64 = row.iter().map(|&x| (f64::from(x) - most).exp()).sum();
        let loss = sum.ln() - (f64::from(row[label]) - most);
        [loss as f32, if first == label { 1.0 } else { 0.0 }]
    })
    .collect()
}

/// How many words are suggested for a mask.
pub const BEST: usize = 5;

/// The most probable words for each labelled token, best first: `[labelled, BEST, 2]`, the word's id and its
/// probability. A smaller vocabulary is padded with words of probability 0.
pub fn best(logits: &[f32], labels: &Labels, vocabulary: usize) -> Vec<f32> {
    let Labels::Tokens(labels) = labels else {
        return Vec::new();
    };
    let count = labels.iter().filter(|&&label| label != Labels::IGNORED).count();
    let rows = logits.par_chunks_exact(vocabulary).take(count);
    rows.flat_map_iter(|row| {
        let mut ids: Vec<usize> = (0..vocabulary).collect();
        // The first on a tie, like argmax.
        let order = |&a: &usize, &b: &usize| row[b].total_cmp(&row[a]).then(a.cmp(&b));
        if vocabulary > BEST {
            ids.select_nth_unstable_by(BEST, order);
            ids.truncate(BEST);
        }
        ids.sort_unstable_by(order);
        let most = f64::from(row[ids[0]]);
        let sum: f64 = row.iter().map(|&x| (f64::from(x) - most).exp()).sum();
        let probability = |id: usize| ((f64::from(row[id]) - most).exp() / sum) as f32;
        let mut kept: Vec<f32> = ids.iter().flat_map(|&id| [id as f32, probability(id)]).collect();
        kept.resize(2 * BEST, 0.0);
        kept
    })
    .collect()
}

/// A window's suggestions for a mask.
#[derive(Clone)]
struct Offered<'a> {
    /// Tokens on its nearer side.
    context: usize,
    bytes: Range<usize>,
    best: &'a [f32],
}

/// The suggestions for each mask in documents, from what [`best`] keeps; `mask` is the id of masks.
pub fn answers(
    documents: &[Document],
    windows: &Windows,
    dataset: &Dataset,
    mask: u32,
    best: &[f32],
    word: impl Fn(u32) -> String,
) -> Vec<Prediction> {
    let mut offered = best.chunks_exact(2 * BEST);
    // Among overlapping windows, the one with the most context around a mask answers for it.
    let mut masks: Vec<BTreeMap<usize, Offered<'_>>> = vec![BTreeMap::new(); documents.len()];
    for (row, window) in windows.list.iter().enumerate() {
        let ids = &dataset.ids(row)[window.first..window.first + window.tokens.len()];
        for (i, _) in ids.iter().enumerate().filter(|&(_, &id)| id == mask) {
            let Some(best) = offered.next() else { break };
            let token = window.tokens.start + i;
            let context = window.context(token);
            let known = &mut masks[window.document];
            if known.get(&token).is_none_or(|other| context > other.context) {
                known.insert(token, Offered { context, bytes: window.bytes[i].clone(), best });
            }
        }
    }
    let of = |(document, masks): (&Document, &BTreeMap<usize, Offered<'_>>)| {
        let each = masks.values().map(|Offered { bytes, best, .. }| {
            let words: Vec<(u32, String, f32)> = best
                .as_chunks::<2>()
                .0
                .iter()
                .map(|&[id, p]| (id as u32, word(id as u32), p))
                .collect();
            (characters(&document.text, bytes), words)
        });
        let each: Vec<_> = each.collect();
        let record = json!({
            "text": document.text,
            "masks": each.iter().map(|(at, words)| {
                let words: Vec<Value> = words
                    .iter()
                    // For words that differ only in a preceding space, or have no letters, the id distinguishes them.
                    .map(|(id, word, p)| json!({"id": id, "word": word, "probability": p}))
                    .collect();
                json!({"start": at.start, "end": at.end, "words": words})
            }).collect::<Vec<_>>(),
        });
        let line = |(_, words): &(_, Vec<(u32, String, f32)>)| -> Vec<String> {
            words.iter().flat_map(|(_, word, p)| [word.clone(), format!("{p:.4}")]).collect()
        };
        // A blank line separates texts.
        let lines = each.iter().map(line).chain([Vec::new()]).collect();
        Prediction { record, lines }
    };
    documents.iter().zip(&masks).map(of).collect()
}

/// A part of a text, in characters.
fn characters(text: &str, bytes: &Range<usize>) -> Range<usize> {
    let count = |end: usize| text.get(..end).unwrap_or(text).chars().count();
    count(bytes.start)..count(bytes.end)
}

/// The measures over all hidden words.
pub fn score(found: &[f32]) -> Scores {
    let (words, _) = found.as_chunks::<KEPT>();
    let mean = |column: usize| {
        let sum: f64 = words.iter().map(|word| f64::from(word[column])).sum();
        sum / words.len().max(1) as f64
    };
    let (loss, right) = (mean(0), mean(1));
    vec![(Metric::Loss, loss), (Metric::Perplexity, loss.exp()), (Metric::Accuracy, right)]
}

/// How many tokens are hidden at a time.
pub fn hidden(dataset: &Dataset) -> usize {
    (0..dataset.len()).map(|row| dataset.labelled(row)).sum()
}

/// A line that describes the examples.
pub fn summary(rules: MaskRules, dataset: &Dataset) -> String {
    format!(
        "{} tokens in {}, {} of which are hidden at a time ({}{})",
        dataset.tokens(),
        count(dataset.len(), "sequence"),
        hidden(dataset),
        rules.probability,
        if rules.whole_words { ", whole words" } else { "" }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_words_come_first_and_with_their_probabilities() {
        let labels = Labels::Tokens(vec![Labels::IGNORED, 4]);
        let logits: Vec<f32> = [0.0, 3.0, 1.0, 3.0, -1.0, 2.0, 0.5].to_vec();
        let best = best(&logits, &labels, 7);
        let (words, _) = best.as_chunks::<2>();
        assert_eq!(words.iter().map(|word| word[0]).collect::<Vec<_>>(), [1.0, 3.0, 5.0, 2.0, 6.0]);
        let sum: f32 = logits.iter().map(|x| x.exp()).sum();
        assert!(words.iter().all(|&[id, p]| (p - logits[id as usize].exp() / sum).abs() < 1e-6));
    }

    #[test]
    fn loss_and_hits_are_those_of_the_labelled_tokens_in_their_order() {
        let ignored = Labels::IGNORED;
        let labels = Labels::Tokens(vec![ignored, 1, ignored, 0]);
        // A third row is left over.
        let logits = [0.0, 0.0, f32::NEG_INFINITY, 3.0, 1.0, 1.0, 0.0, 0.0, 0.0];
        let found = found(&logits, &labels, 3);
        assert_eq!(found.len(), 4);
        assert!((found[0] - 2f32.ln()).abs() < 1e-6 && found[1] == 0.0, "{found:?}");
        let loss = (1.0 + 2.0 * (-2f32).exp()).ln();
        assert!((found[2] - loss).abs() < 1e-6 && found[3] == 1.0, "{found:?}");
        let scores = score(&found);
        let mean = f64::from(found[0] + found[2]) / 2.0;
        assert!((scores[0].1 - mean).abs() < 1e-6);
        assert!((scores[1].1 - mean.exp()).abs() < 1e-6);
        assert_eq!(scores[2], (Metric::Accuracy, 0.5));
    }
}
