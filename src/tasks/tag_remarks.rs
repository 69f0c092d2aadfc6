//! What a user is told of the tags of words, before a task is made of them: numbers for names, and tags that fit no scheme.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::entities::{are_tagged, begins};
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

/// Where a word stands, for a message.
pub fn place_of(documents: &Documents, document: &Document, word: usize) -> String {
    let here = place(&documents.name, document.line_of(word));
    match document.lines.is_empty() {
        true => format!("{here}: word {}", word + 1),
        false => here,
    }
}

/// Each tag, where it stands first and how often.
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
/// Every tag is a number: its name is not in the file.
pub fn refuse_numbers(documents: &Documents) -> Result<()> {
    let all = all(documents);
    let is_number = |tag: &&&str| matches!(Key::of(tag), Key::Number(_));
    match all.first_key_value() {
        Some((tag, (first, _))) if all.keys().all(|tag| is_number(&tag)) => bail!(
            "{first}: the tag {tag:?} is a number, as are all {} tags of the file, and what they are called is not in it: \
             write the tags themselves",
            all.len()
        ),
        _ => Ok(()),
    }
}

/// Says where documents have tags for words: their columns are the other way round.
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
        "{here}: {word:?} is taken for a word, and all words are such tags: are the columns the other way round? Say where \
         the words are with --text-column, and the tags with --label-column"
    ))
}

/// Names the tags that keep the others from being read as entities.
pub fn odd(documents: &Documents) -> Option<String> {
    let all = all(documents);
    let fits = |tag: &&str| are_tagged(&[*tag, "B-"]);
    let begun = all.iter().filter(|(tag, _)| begins(tag)).map(|(_, (_, count))| count);
    let odd: Vec<_> = all.iter().filter(|(tag, _)| !fits(tag)).collect();
    let words = odd.iter().map(|(_, (_, count))| count);
    let few = begun.clone().count() > odd.len() || begun.sum::<usize>() > words.sum();
    // Else these are the names of something else, of which one looks like such a tag.
    if odd.is_empty() || !few {
        return None;
    }
    let shown = odd.iter().take(MANY).map(|(tag, (first, number))| {
        format!("{tag:?} ({}, first at {first})", count(*number, "word"))
    });
    let shown: Vec<_> = shown.collect();
    Some(format!(
        "of the tags, {} {} none of IOB or IOBES, so that no entities are measured, but words: correct {}, or leave it so",
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
