//! What to tell a user about the tags of words before a task is built from them: numbers instead of names, and tags
//! that fit no scheme.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::entities::{are_tagged, begins, kind};
use super::spelling::Key;
use crate::data::{Document, Documents, Gold, place};
use crate::words::{MANY, count};

/// The tags of a document's words.
pub fn tags(document: &Document) -> &[String] {
    match &document.gold {
        Gold::Tags(tags) => tags,
        _ => &[],
    }
}

/// The place of a word, for a message.
pub fn place_of(documents: &Documents, document: &Document, word: usize) -> String {
    let here = place(&documents.name, document.line_of(word));
    match document.lines.is_empty() {
        true => format!("{here}: word {}", word + 1),
        false => here,
    }
}

/// Each tag, where it first occurs and how often.
fn all(documents: &Documents) -> BTreeMap<&str, (String, usize)> {
    let mut all: BTreeMap<&str, (String, usize)> = BTreeMap::new();
    for document in &documents.list {
        for (word, tag) in tags(document).iter().enumerate() {
            let here = || (place_of(documents, document, word), 0);
            all.entry(tag.trim()).or_insert_with(here).1 += 1;
        }
    }
    all
}

/// # Errors
/// Every tag is a number, whose name is not in the file.
pub fn refuse_numbers(documents: &Documents) -> Result<()> {
    let all = all(documents);
    let is_number = |tag: &&&str| matches!(Key::of(tag), Key::Number(_));
    match all.first_key_value() {
        Some((tag, (first, _))) if all.keys().all(|tag| is_number(&tag)) => bail!(
            "{first}: the tag {tag:?} is a number, like all {} tags of the file, which does not name them: write the tags \
             themselves",
            all.len()
        ),
        _ => Ok(()),
    }
}

/// Detects documents with tags as words: their columns are swapped.
pub fn tags_for_words(name: &str, documents: &[Document]) -> Option<String> {
    let mut marked = None;
    for document in documents {
        for (i, word) in document.words.iter().enumerate() {
            let word = &document.text[word.clone()];
            if !are_tagged(&[word, "B-"]) {
                return None;
            }
            if begins(word) && word.len() > 2 {
                marked = marked.or(Some((place(name, document.line_of(i)), word)));
            }
        }
    }
    let words: usize = documents.iter().map(|document| document.words.len()).sum();
    let (here, word) = marked.filter(|_| words > 1)?;
    Some(format!(
        "{here}: {word:?} is taken for a word, but all words look like tags: are the columns swapped? Name the words' \
         column with --text-column, and the tags' with --label-column"
    ))
}

/// Names the tags that keep the others from being read as entities.
pub fn odd(documents: &Documents) -> Option<String> {
    let all = all(documents);
    let fits = |tag: &&str| are_tagged(&[*tag, "B-"]);
    // Bare letters are entity tags if one begins and one continues.
    let letters = ["B", "I"].iter().all(|tag| all.contains_key(tag));
    let of_entities = |tag: &str| begins(tag) || (letters && kind(tag).is_some());
    let entities: Vec<_> = all.iter().filter(|(tag, _)| of_entities(tag)).collect();
    let odd: Vec<_> = all.iter().filter(|(tag, _)| !fits(tag)).collect();
    let words = |tags: &[(&&str, &(String, usize))]| -> usize {
        tags.iter().map(|(_, (_, count))| count).sum()
    };
    // One tag may cover most of the words, as O does. If the odd ones are more numerous and cover more words, these are
    // the names of something else, and some merely look like entity tags.
    let spoilt = entities.len() >= odd.len() || words(&entities) > words(&odd);
    if odd.is_empty() || entities.is_empty() || !spoilt {
        return None;
    }
    let shown = odd.iter().take(MANY).map(|(tag, (first, number))| {
        format!("{tag:?} ({}, first at {first})", count(*number, "word"))
    });
    let shown: Vec<_> = shown.collect();
    Some(format!(
        "of the tags, {} {} not IOB or IOBES, so words are scored instead of entities: correct {} (a word outside \
         all entities has O), or leave it so",
        shown.join(", "),
        if odd.len() == 1 { "is" } else { "are" },
        if odd.len() == 1 { "it" } else { "them" }
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(words: &[&str]) -> Option<String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let document = Document { line: 4, ..Document::of_words(&words) };
        tags_for_words("d.conll", &[document])
    }

    /// Remarks on tags, each given with the number of words that have it.
    fn said_of_tags(counts: &[(&str, usize)]) -> Option<String> {
        let tags: Vec<String> =
            counts.iter().flat_map(|&(tag, count)| vec![tag.to_owned(); count]).collect();
        let words = vec!["w".to_owned(); tags.len()];
        let lines = (4..).take(tags.len()).collect();
        let document = Document { lines, gold: Gold::Tags(tags), ..Document::of_words(&words) };
        odd(&Documents { name: "d.conll".to_owned(), list: vec![document] })
    }

    #[test]
    fn a_tag_that_keeps_the_others_from_being_entities_is_named_however_common_it_is() {
        for outside in ["0", "o", "OUT", "_", "X"] {
            let text = said_of_tags(&[("B-PER", 2), ("I-PER", 1), (outside, 40)]).unwrap();
            assert!(
                text.contains(&format!("{outside:?} (40 words, first at d.conll:7)")),
                "{text}"
            );
        }
        // A single type, and tags without one.
        assert!(said_of_tags(&[("B-PER", 1), ("o", 40)]).is_some());
        assert!(said_of_tags(&[("B", 2), ("I", 1), ("0", 40)]).is_some());
        // A typo among many words.
        assert!(said_of_tags(&[("B-PER", 9), ("I-PER", 9), ("O", 9), ("PER", 1)]).is_some());
    }

    #[test]
    fn one_type_in_several_spellings_is_refused_like_one_label() {
        let tags = ["B-Caf\u{e9}", "I-Cafe\u{301}", "O"].map(str::to_owned).to_vec();
        let words = vec!["w".to_owned(); tags.len()];
        let document = Document { gold: Gold::Tags(tags), ..Document::of_words(&words) };
        let documents = Documents { name: "d.conll".to_owned(), list: vec![document] };
        let message = crate::tasks::tags::names(&documents).unwrap_err().to_string();
        assert!(message.starts_with("d.conll: one type is spelled in several ways"), "{message}");
        assert!(message.contains("\"Cafe\\u{301}\" (1 word)"), "{message}");
    }

    #[test]
    fn names_of_something_else_are_no_entities_that_were_spoilt() {
        assert_eq!(said_of_tags(&[("NOUN", 3), ("VERB", 2), ("_", 1)]), None);
        assert_eq!(said_of_tags(&[("N", 3), ("V", 2), ("I", 2), ("_", 1)]), None);
        assert_eq!(said_of_tags(&[("S-BAR", 3), ("NP", 2), ("VP", 2)]), None, "one looks like it");
        assert_eq!(said_of_tags(&[("B-PER", 3), ("I-PER", 2), ("O", 2)]), None);
    }

    #[test]
    fn words_that_are_all_tags_are_said_with_the_first_that_is_plainly_one() {
        let text = said(&["O", "B-PER", "I-PER"]).unwrap();
        assert!(
            text.starts_with("d.conll:4: \"B-PER\"") && text.contains("--text-column"),
            "{text}"
        );
        for words in [&["O", "B-52", "flew"][..], &["I", "O"], &["B-52"], &[]] {
            assert_eq!(said(words), None, "{words:?}");
        }
    }
}
