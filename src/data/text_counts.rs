//! Counts what a tokenizer made of texts: those that were cut, those that gave no tokens, and those with only unknown
//! ones. A model answers all of these alike, so the user is told.

use std::collections::HashSet;
use std::ops::AddAssign;

use tokenizers::{ModelWrapper, Tokenizer};

/// Texts of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextTally {
    pub texts: usize,
    /// The line of the first; 0 if there is none.
    pub first: u64,
}

impl TextTally {
    pub(super) fn add(&mut self, line: u64) {
        *self += Self { texts: 1, first: line };
    }
}

impl AddAssign for TextTally {
    fn add_assign(&mut self, later: Self) {
        if self.texts == 0 {
            self.first = later.first;
        }
        self.texts += later.texts;
    }
}

/// What happened to the texts, in rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextCounts {
    /// Cut to the maximum length.
    pub truncated: TextTally,
    /// A text, or one of a pair, without any tokens.
    pub empty: TextTally,
    /// A text, or one of a pair, without any informative tokens.
    pub unknown: TextTally,
    /// In all texts, before they were cut.
    pub tokens: u64,
    /// How many of those stand for something missing from the vocabulary.
    pub unknown_tokens: u64,
}

impl AddAssign for TextCounts {
    fn add_assign(&mut self, later: Self) {
        let Self { truncated, empty, unknown, tokens, unknown_tokens } = later;
        self.truncated += truncated;
        self.empty += empty;
        self.unknown += unknown;
        self.tokens += tokens;
        self.unknown_tokens += unknown_tokens;
    }
}

/// The tokens that say nothing about a text.
pub(super) struct Unknown {
    /// Stands for anything missing from the vocabulary.
    token: Option<u32>,
    /// That token, special tokens, and the space before a word.
    saying_nothing: HashSet<u32>,
}

impl Unknown {
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let name = match tokenizer.get_model() {
            ModelWrapper::WordPiece(model) => Some(model.unk_token.clone()),
            ModelWrapper::WordLevel(model) => Some(model.unk_token.clone()),
            ModelWrapper::BPE(model) => model.unk_token.clone(),
            // The model knows the token by its index, and does not expose it.
            ModelWrapper::Unigram(_) => Some("<unk>".to_owned()),
        };
        let token = name.and_then(|name| tokenizer.token_to_id(&name));
        let added = tokenizer.get_added_tokens_decoder();
        let special = added.into_iter().filter(|(_, token)| token.special).map(|(id, _)| id);
        let space = tokenizer.token_to_id("\u{2581}");
        Self { token, saying_nothing: special.chain(token).chain(space).collect() }
    }

    /// Counts the texts of one row, given as tokens.
    pub fn count(&self, texts: &[&[u32]], line: u64, counts: &mut TextCounts) {
        let unknown = texts.iter().copied().flatten().filter(|&&id| Some(id) == self.token);
        counts.unknown_tokens += unknown.count() as u64;
        counts.tokens += texts.iter().map(|ids| ids.len() as u64).sum::<u64>();
        let says_nothing = |ids: &&[u32]| ids.iter().all(|id| self.saying_nothing.contains(id));
        if texts.iter().any(|ids| ids.is_empty()) {
            counts.empty.add(line);
        } else if texts.iter().any(says_nothing) {
            counts.unknown.add(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::AddedToken;
    use tokenizers::models::unigram::Unigram;

    #[test]
    fn texts_of_unknown_and_special_tokens_and_spaces_alone_are_counted_with_their_first_line() {
        let pieces = [("<unk>", 0.0), ("\u{2581}", -1.0), ("a", -1.0), ("<s>", 0.0)];
        let pieces = pieces.map(|(piece, score)| (piece.to_owned(), score)).to_vec();
        let mut tokenizer = Tokenizer::new(Unigram::from(pieces, Some(0), false).unwrap());
        tokenizer.add_special_tokens([AddedToken::from("<s>", true)]).unwrap();
        let unknown = Unknown::of(&tokenizer);
        let mut counts = TextCounts::default();
        let rows: [(u64, Vec<&[u32]>); 5] = [
            (2, vec![&[1, 2]]),
            (3, vec![&[1, 0]]),
            (4, vec![&[2, 0], &[2]]),
            (5, vec![&[2], &[3]]),
            (6, vec![&[2], &[]]),
        ];
        for (line, texts) in rows {
            unknown.count(&texts, line, &mut counts);
        }
        assert_eq!(counts.unknown, TextTally { texts: 2, first: 3 });
        assert_eq!(counts.empty, TextTally { texts: 1, first: 6 });
        assert_eq!((counts.tokens, counts.unknown_tokens), (10, 2));
        let mut all = TextCounts::default();
        all += counts;
        all += counts;
        assert_eq!(all.unknown, TextTally { texts: 4, first: 3 });
    }
}
