//! Which tokens of a text are hidden, and by what: a pure function of the seed, the epoch and the row, so that a
//! resumed run, any rank and any micro-batch get the same.

use std::ops::Range;

use anyhow::{Result, bail};

use super::documents::Document;
use super::tokenize::TextTokenizer;
use super::windows::{Window, Windows};
use crate::batch::Labels;
use crate::rng::{Purpose, Stream};

/// Of the tokens to be predicted, this share becomes the mask and the next share another token; the others stay.
const BECOME_MASK: f32 = 0.8;
const BECOME_OTHER: f32 = 0.1;

/// The user's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaskRules {
    /// The share of a text's tokens to be predicted, at least one.
    pub probability: f64,
    /// Whether words are hidden only as a whole.
    pub whole_words: bool,
    pub seed: u64,
}

/// What the tokenizer says.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskTokens {
    mask: u32,
    /// Never hidden, and never used as a replacement.
    special: Vec<u32>,
    /// The others, as far as the model knows them.
    words: Vec<u32>,
}

/// The masks of a data set.
pub struct Masking {
    rules: MaskRules,
    tokens: MaskTokens,
    hidden: Hidden,
    /// Where a row's text lies among its tokens, `[rows]`.
    texts: Vec<Range<usize>>,
    /// Whether each token of a text continues the word before it, `[rows]`; empty if tokens are hidden individually.
    goes_on: Vec<Vec<bool>>,
}

/// Which tokens are hidden.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Hidden {
    /// Different ones in each epoch.
    InTraining,
    /// For rows to evaluate on: always the same.
    InEvaluation,
    /// Those already written as masks: what they replaced is unknown.
    AsWritten,
}

impl MaskTokens {
    /// # Errors
    /// A tokenizer without a mask token.
    pub fn of(tokenizer: &TextTokenizer) -> Result<Self> {
        let inner = tokenizer.inner();
        let Some(mask) = ["[MASK]", "<mask>"].iter().find_map(|mask| inner.token_to_id(mask))
        else {
            bail!("the tokenizer has no [MASK] or <mask> to hide words with");
        };
        let added = inner.get_added_tokens_decoder();
        let mut special: Vec<u32> =
            added.iter().filter(|(_, token)| token.special).map(|(&id, _)| id).collect();
        special.push(mask);
        special.sort_unstable();
        special.dedup();
        let known = |id: &u32| (*id as usize) < tokenizer.options().vocab_size;
        let all = inner.get_vocab(true).into_values().filter(known);
        let mut words: Vec<u32> = all.filter(|id| special.binary_search(id).is_err()).collect();
        words.sort_unstable();
        words.dedup();
        if words.is_empty() {
            bail!("the tokenizer has only special tokens");
        }
        Ok(Self { mask, special, words })
    }

    /// The mask's id.
    pub fn mask(&self) -> u32 {
        self.mask
    }

    fn is_special(&self, id: u32) -> bool {
        self.special.binary_search(&id).is_ok()
    }
}

impl Masking {
    pub fn new(
        rules: MaskRules,
        tokens: MaskTokens,
        windows: &Windows,
        documents: &[Document],
    ) -> Self {
        let texts =
            windows.list.iter().map(|window| window.first..window.first + window.tokens.len());
        let words = windows.list.iter().filter(|_| rules.whole_words);
        let goes_on = words.map(|window| goes_on(window, &documents[window.document].text));
        let (texts, goes_on) = (texts.collect(), goes_on.collect());
        Self { rules, tokens, hidden: Hidden::InEvaluation, texts, goes_on }
    }

    /// For texts written with masks.
    pub fn as_written(rules: MaskRules, tokens: MaskTokens) -> Self {
        Self { rules, tokens, hidden: Hidden::AsWritten, texts: Vec::new(), goes_on: Vec::new() }
    }

    /// Whether the hidden tokens are unknown.
    pub fn is_as_written(&self) -> bool {
        self.hidden == Hidden::AsWritten
    }

    /// The same with different masks each epoch.
    pub fn for_training(&mut self) {
        self.hidden = Hidden::InTraining;
    }

    /// Hides tokens of a row; returns what they were, and [`Labels::IGNORED`] for all others.
    pub fn hide(&self, row: usize, epoch: u64, ids: &mut [u32]) -> Vec<u32> {
        let mut labels = vec![Labels::IGNORED; ids.len()];
        let (purpose, epoch) = match self.hidden {
            Hidden::InTraining => (Purpose::TrainMask, epoch),
            Hidden::InEvaluation => (Purpose::DevMask, 0),
            Hidden::AsWritten => {
                let masks = labels.iter_mut().zip(ids).filter(|(_, id)| **id == self.tokens.mask);
                masks.for_each(|(label, id)| *label = *id);
                return labels;
            }
        };
        let mut stream = Stream::new(self.rules.seed, purpose, epoch.rotate_left(32) ^ row as u64);
        let mut words = self.words(row, ids);
        let tokens: usize = words.iter().map(Vec::len).sum();
        let asked = (self.rules.probability * tokens as f64).round() as usize;
        let most = asked.clamp(tokens.min(1), tokens);
        stream.shuffle(&mut words);
        let mut left = most;
        for word in &words {
            if word.len() <= left {
                left -= word.len();
                word.iter().for_each(|&token| self.hide_one(token, ids, &mut labels, &mut stream));
            }
        }
        if left == most
            && let Some(first) = words.first()
        {
            // Every word has more tokens than are to be hidden.
            let part = first.iter().take(most);
            part.for_each(|&token| self.hide_one(token, ids, &mut labels, &mut stream));
        }
        labels
    }

    fn hide_one(&self, token: usize, ids: &mut [u32], labels: &mut [u32], stream: &mut Stream) {
        labels[token] = ids[token];
        let drawn = stream.uniform();
        if drawn < BECOME_MASK {
            ids[token] = self.tokens.mask;
        } else if drawn < BECOME_MASK + BECOME_OTHER {
            let words = &self.tokens.words;
            ids[token] = words[stream.below(words.len() as u64) as usize];
        }
    }

    /// The tokens of a row that may be hidden, in the groups in which they are hidden.
    fn words(&self, row: usize, ids: &[u32]) -> Vec<Vec<usize>> {
        let text = self.texts[row].clone();
        let mut words: Vec<Vec<usize>> = Vec::new();
        let mut before = None;
        for token in text.clone() {
            if self.tokens.is_special(ids[token]) {
                continue;
            }
            let goes_on = self.goes_on.get(row).is_some_and(|goes_on| goes_on[token - text.start]);
            match words.last_mut() {
                Some(word) if goes_on && before == Some(token - 1) => word.push(token),
                _ => words.push(vec![token]),
            }
            before = Some(token);
        }
        words
    }
}

/// Whether each token of a window continues the word of the token before it: nothing lies between them, and both are
/// letters or digits where they meet.
fn goes_on(window: &Window, text: &str) -> Vec<bool> {
    let part = |bytes: &Range<usize>| text.get(bytes.clone()).unwrap_or_default();
    let joins = |pair: &[Range<usize>]| {
        let ends = part(&pair[0]).chars().next_back().is_some_and(char::is_alphanumeric);
        let begins = part(&pair[1]).chars().next().is_some_and(char::is_alphanumeric);
        pair[0].end == pair[1].start && ends && begins
    };
    let first = window.bytes.first().map(|_| false);
    first.into_iter().chain(window.bytes.windows(2).map(joins)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masking(probability: f64, lens: &[usize], goes_on: Vec<Vec<bool>>) -> Masking {
        Masking {
            rules: MaskRules { probability, whole_words: !goes_on.is_empty(), seed: 5 },
            tokens: MaskTokens {
                mask: 4,
                special: vec![0, 1, 2, 3, 4],
                words: (5..1000).collect(),
            },
            hidden: Hidden::InTraining,
            texts: lens.iter().map(|len| 1..1 + len).collect(),
            goes_on,
        }
    }

    fn ids(len: usize) -> Vec<u32> {
        let text = (0..len).map(|i| 10 + i as u32);
        [2].into_iter().chain(text).chain([3]).collect()
    }

    #[test]
    fn masks_are_those_of_seed_epoch_and_row_and_eight_in_ten_are_the_mask() {
        let masking = masking(0.15, &vec![200; 50], Vec::new());
        let (mut mask, mut same, mut hidden) = (0, 0, 0);
        for row in 0..50 {
            let hide = |epoch| {
                let mut changed = ids(200);
                let labels = masking.hide(row, epoch, &mut changed);
                (changed, labels)
            };
            let (changed, labels) = hide(0);
            assert_eq!(hide(0), (changed.clone(), labels.clone()));
            assert_ne!(hide(1).1, labels);
            for ((now, before), label) in changed.iter().zip(ids(200)).zip(&labels) {
                if *label == Labels::IGNORED {
                    assert_eq!(*now, before);
                    continue;
                }
                assert_eq!(*label, before);
                assert!(*now >= 4);
                hidden += 1;
                mask += usize::from(*now == 4);
                same += usize::from(*now == before);
            }
        }
        assert_eq!(hidden, 50 * 30);
        let near = |count: usize, share: f64| (count as f64 / 1500.0 - share).abs() < 0.04;
        assert!(near(mask, 0.8) && near(same, 0.1), "{mask} and {same} of 1500");
    }

    #[test]
    fn the_rows_to_evaluate_on_keep_their_masks() {
        let mut masking = masking(0.15, &[40], Vec::new());
        masking.hidden = Hidden::InEvaluation;
        let hide = |epoch| masking.hide(0, epoch, &mut ids(40));
        assert_eq!(hide(0), hide(7));
    }

    #[test]
    fn a_text_has_at_least_one_hidden_token_and_an_empty_one_none() {
        let masking = masking(0.01, &[1, 0, 3], Vec::new());
        let hidden = |row, len| {
            let labels = masking.hide(row, 0, &mut ids(len));
            labels.iter().filter(|&&label| label != Labels::IGNORED).count()
        };
        assert_eq!([hidden(0, 1), hidden(1, 0), hidden(2, 3)], [1, 0, 1]);
    }

    #[test]
    fn special_tokens_within_a_text_stay() {
        let masking = masking(1.0, &[3], Vec::new());
        let labels = masking.hide(0, 0, &mut [2, 10, 4, 11, 3]);
        let ignored = Labels::IGNORED;
        assert_eq!(labels, [ignored, 10, ignored, 11, ignored]);
    }

    #[test]
    fn whole_words_are_hidden_whole_and_never_more_tokens_than_asked_for() {
        // Words of two tokens, and one of seven.
        let goes_on: Vec<bool> = (0..40).map(|i| i % 2 == 1).collect();
        let long = vec![vec![false, true, true, true, true, true, true]];
        let masking_of = |goes_on: Vec<bool>| masking(0.3, &[40], vec![goes_on]);
        for epoch in 0..20 {
            let labels = masking_of(goes_on.clone()).hide(0, epoch, &mut ids(40));
            let hidden: Vec<bool> = labels[1..41].iter().map(|&l| l != Labels::IGNORED).collect();
            assert!(hidden.chunks(2).all(|word| word[0] == word[1]));
            assert_eq!(hidden.iter().filter(|&&hidden| hidden).count(), 12);
            let labels = masking(0.3, &[7], long.clone()).hide(0, epoch, &mut ids(7));
            assert_eq!(labels.iter().filter(|&&l| l != Labels::IGNORED).count(), 2);
        }
    }

    #[test]
    fn words_are_runs_of_letters_and_digits() {
        let text = "un able, to3 ümlaut";
        let bytes = vec![0..2, 3..5, 5..7, 7..8, 9..11, 11..12, 13..15, 15..20];
        let window = Window { document: 0, tokens: 0..8, first: 1, bytes };
        let expected = [false, false, true, false, false, true, false, true];
        assert_eq!(goes_on(&window, text), expected);
    }
}
