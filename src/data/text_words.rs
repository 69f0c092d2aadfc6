//! The words of a text given as a whole: separated by spaces, with each punctuation mark and each Chinese character a
//! separate word, as in BERT's tokenizer.

use std::ops::Range;

use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

/// Where each word lies, in bytes.
pub fn text_words(text: &str) -> Vec<Range<usize>> {
    let mut split = PreTokenizedString::from(text);
    // It has no way to fail; a text that it did not split would be one word.
    if BertPreTokenizer.pre_tokenize(&mut split).is_err() {
        return std::iter::once(0..text.len()).collect();
    }
    let parts = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
    let mut words = Vec::with_capacity(parts.len());
    for (_, (start, end), _) in parts {
        let mut from = start;
        for (at, c) in text[start..end].char_indices() {
            let at = start + at;
            if is_chinese(c) {
                words.extend((from < at).then_some(from..at));
                from = at + c.len_utf8();
                words.push(at..from);
            }
        }
        words.extend((from < end).then_some(from..end));
    }
    words
}

/// The blocks of CJK ideographs.
fn is_chinese(c: char) -> bool {
    matches!(u32::from(c),
        0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x2FA1F | 0x30000..=0x323AF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_punctuation_and_chinese_characters_part_words() {
        let words = |text: &str| {
            text_words(text).into_iter().map(|word| text[word].to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            words("John's, in  Zu\u{308}rich."),
            ["John", "'", "s", ",", "in", "Zu\u{308}rich", "."]
        );
        assert_eq!(words("a北京b 😀"), ["a", "北", "京", "b", "😀"]);
        assert!(words(" \t").is_empty());
        assert!(words("").is_empty());
    }
}
