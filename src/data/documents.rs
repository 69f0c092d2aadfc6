//! Texts that are answered token by token, as read: each with its words or with the question asked about it.

use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::files::hex;
use crate::words::count;

/// One text. Ranges are bytes of [`Document::text`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    /// Line where it starts, from 1.
    pub line: u64,
    pub id: Option<String>,
    /// Precedes the text.
    pub question: Option<String>,
    pub text: String,
    /// Where each word lies; empty for a word without characters.
    pub words: Vec<Range<usize>>,
    /// The line of each word; empty if all are on the document's line.
    pub lines: Vec<u64>,
    pub gold: Gold,
}

impl Document {
    /// Words as a text, joined by single spaces.
    pub fn of_words(words: &[String]) -> Self {
        let mut document = Self::default();
        for word in words {
            // A word of spaces says nothing, and would change the tokens of its neighbours.
            let word = word.trim();
            let text = &mut document.text;
            if !word.is_empty() && !text.is_empty() {
                text.push(' ');
            }
            let start = text.len();
            text.push_str(word);
            document.words.push(start..text.len());
        }
        document
    }

    pub fn line_of(&self, word: usize) -> u64 {
        self.lines.get(word).copied().unwrap_or(self.line)
    }
}

/// The known answer for a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Gold {
    #[default]
    None,
    /// A tag per word.
    Tags(Vec<String>),
    /// Answers to the question, all of them right; empty if the text does not answer it.
    Answers(Vec<Mark>),
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub span: Range<usize>,
    /// The part as written in the file.
    pub label: String,
}

/// The documents of one file, at least one, in file order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Documents {
    /// The path as given: starts the messages about its documents.
    pub name: String,
    pub list: Vec<Document>,
}

impl Documents {
    /// The sha256 of the documents' contents, in hexadecimal.
    pub fn sha256(&self) -> String {
        let mut hasher = Sha256::new();
        let mut number = |number: usize| hasher.update((number as u64).to_le_bytes());
        let mut texts = Vec::new();
        for document in &self.list {
            // Lengths keep two fields from being confused; no text is as long as the mark for a missing one.
            let question = document.question.as_deref();
            number(question.map_or(usize::MAX, str::len));
            texts.extend(question);
            number(document.text.len());
            texts.push(&document.text);
            number(document.words.len());
            document.words.iter().for_each(|word| {
                number(word.start);
                number(word.end);
            });
            match &document.gold {
                Gold::None => number(0),
                Gold::Tags(tags) => {
                    number(1);
                    number(tags.len());
                    for tag in tags {
                        number(tag.len());
                        texts.push(tag);
                    }
                }
                Gold::Answers(marks) => {
                    number(2);
                    number(marks.len());
                    for mark in marks {
                        number(mark.span.start);
                        number(mark.span.end);
                        number(mark.label.len());
                        texts.push(&mark.label);
                    }
                }
            }
        }
        texts.into_iter().for_each(|text| hasher.update(text));
        hex(&hasher.finalize())
    }

    /// How many there are, how many words they have, and which has the most.
    pub fn sizes(&self) -> String {
        let words = self.list.iter().map(|document| document.words.len()).sum();
        let longest = self.list.iter().rev().max_by_key(|document| document.words.len());
        let longest = longest.map_or(String::new(), |longest| {
            format!(", at most {} (line {})", longest.words.len(), longest.line)
        });
        format!("{}, {}{longest}", count(self.list.len(), "text"), count(words, "word"))
    }

    /// The given documents, in the order given.
    ///
    /// # Panics
    /// If one is out of range.
    pub fn select(&self, rows: &[usize]) -> Self {
        let list = rows.iter().map(|&row| self.list[row].clone()).collect();
        Self { name: self.name.clone(), list }
    }
}

/// Documents one at a time, from a file or a pipe; they end after an error.
pub trait ReadDocuments: Iterator<Item = anyhow::Result<Document>> {
    /// Whether the next document is there, without waiting for the writer of a pipe.
    fn ready(&mut self) -> bool;

    /// What to tell the user about how documents are read, as far as it is known.
    fn told(&self) -> Option<String> {
        None
    }

    /// What has not been read so far, if that is not obvious.
    fn left_out(&self) -> Option<String> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_tells_documents_apart_by_all_that_a_task_learns_from() {
        let document = |text: &str, gold: Gold| Document {
            line: 1,
            text: text.to_owned(),
            words: std::iter::once(0..1).collect(),
            gold,
            ..Document::default()
        };
        let mark = |span, label: &str| vec![Mark { span, label: label.to_owned() }];
        let with_question = Document { question: Some("a".into()), ..document("b", Gold::None) };
        let each = [
            document("ab", Gold::None),
            with_question,
            document("ab", Gold::Tags(vec!["x".into()])),
            document("ab", Gold::Tags(vec!["y".into()])),
            document("ab", Gold::Answers(mark(0..1, "x"))),
            document("ab", Gold::Answers(mark(0..2, "x"))),
            document("ab", Gold::Answers(Vec::new())),
            Document { words: std::iter::once(1..2).collect(), ..document("ab", Gold::None) },
        ];
        let hash = |document: &Document| {
            Documents { name: "d".into(), list: vec![document.clone()] }.sha256()
        };
        let hashes: std::collections::BTreeSet<String> = each.iter().map(hash).collect();
        assert_eq!(hashes.len(), each.len());
        assert_eq!(
            hash(&Document { line: 7, id: Some("i".into()), ..each[0].clone() }),
            hash(&each[0])
        );
    }
}
