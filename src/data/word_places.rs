//! Which token answers for each word of a document: the first that stands for any of it, in the window where it has the
//! most context.

use std::ops::Range;

use super::documents::Document;
use super::windows::Windows;

/// Where the answer for a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WordPlace {
    /// The window's index among those of all documents.
    pub window: usize,
    /// The token's index within the window's part of the text.
    pub token: usize,
    /// Whether the token also answers for the previous word, since it spans both.
    pub shared: bool,
}

/// The place of each word of each document; none for a word without tokens, for example if a tokenizer drops all its
/// characters.
pub fn word_places(documents: &[Document], windows: &Windows) -> Vec<Vec<Option<WordPlace>>> {
    let mut next = 0;
    let of = |(index, document): (usize, &Document)| {
        let first = next;
        next += windows.list[first..].iter().take_while(|w| w.document == index).count();
        places(document, &tokens(windows, first..next))
    };
    documents.iter().enumerate().map(of).collect()
}

/// A token of a document: the bytes it stands for, the window where it has the most context, and its index there.
struct Token {
    bytes: Range<usize>,
    window: usize,
    token: usize,
}

/// All tokens of one document, given its windows.
fn tokens(windows: &Windows, range: Range<usize>) -> Vec<Token> {
    let mut all: Vec<Token> = Vec::new();
    for index in range {
        let window = &windows.list[index];
        for (i, at) in window.tokens.clone().enumerate() {
            let token = Token { bytes: window.bytes[i].clone(), window: index, token: i };
            match all.get_mut(at) {
                None => all.push(token),
                Some(before) => {
                    if window.context(at) > windows.list[before.window].context(at) {
                        *before = token;
                    }
                }
            }
        }
    }
    all
}

fn places(document: &Document, tokens: &[Token]) -> Vec<Option<WordPlace>> {
    let mut at = 0;
    let mut last = None;
    let of = |word: &Range<usize>| {
        // The space before a word may be a separate token, which is then the word's first.
        let space = |bytes: &Range<usize>| bytes.is_empty() && bytes.start == word.start;
        let before = |token: &Token| token.bytes.end <= word.start && !space(&token.bytes);
        while tokens.get(at).is_some_and(before) {
            at += 1;
        }
        let token = tokens.get(at).filter(|token| token.bytes.start < word.end)?;
        let shared = last == Some(at);
        last = Some(at);
        Some(WordPlace { window: token.window, token: token.token, shared })
    };
    document.words.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Window;

    fn window(tokens: Range<usize>, bytes: &[Range<usize>]) -> Window {
        Window { document: 0, tokens, first: 1, bytes: bytes.to_vec() }
    }

    fn document(words: &[Range<usize>]) -> Document {
        Document { words: words.to_vec(), ..Document::default() }
    }

    fn place(window: usize, token: usize, shared: bool) -> Option<WordPlace> {
        Some(WordPlace { window, token, shared })
    }

    #[test]
    fn the_first_token_of_a_word_answers_and_a_word_without_one_is_not_lost() {
        let windows = Windows {
            list: vec![window(0..4, &[0..2, 2..3, 3..3, 7..9])],
            tokens: vec![4],
            ..Windows::default()
        };
        let words = document(&[0..3, 4..6, 6..6, 7..8, 8..9]);
        let expected = vec![place(0, 0, false), None, None, place(0, 3, false), place(0, 3, true)];
        assert_eq!(word_places(&[words], &windows), [expected]);
    }

    #[test]
    fn the_space_before_a_word_may_be_its_first_token() {
        let windows = Windows {
            list: vec![window(0..4, &[0..0, 0..3, 4..4, 4..6])],
            tokens: vec![4],
            ..Windows::default()
        };
        let expected = vec![place(0, 0, false), place(0, 2, false)];
        assert_eq!(word_places(&[document(&[0..3, 4..6])], &windows), [expected]);
    }

    #[test]
    fn the_window_with_most_on_both_sides_decides() {
        let bytes: Vec<_> = (0..7).map(|i| 2 * i..2 * i + 1).collect();
        let windows = Windows {
            list: vec![
                window(0..4, &bytes[..4]),
                window(2..6, &bytes[2..6]),
                window(4..7, &bytes[4..]),
            ],
            tokens: vec![7],
            ..Windows::default()
        };
        let found = word_places(&[document(&bytes)], &windows);
        let found: Vec<_> = found[0].iter().flatten().map(|p| (p.window, p.token)).collect();
        // Token 2 has one token on its nearer side in the first window and none in the second; token 3 the other way
        // round.
        assert_eq!(found, [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2)]);
    }
}
