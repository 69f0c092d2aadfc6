//! Tagged words from JSON lines: a list of words with a list of tags, or a text with labelled character spans.

use std::io::Read;
use std::ops::Range;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde_json::value::{RawValue, Value};

use super::columns::LabelUse;
use super::documents::{Document, Gold, ReadDocuments};
use super::input::ReadOptions;
use super::jsonl::{Object, kind_of, text};
use super::lines::Lines;
use super::text_words::text_words;
use crate::formats::columns::not_read;
use crate::words::count;

/// Usual keys; the first wins if several exist.
const WORDS: [&str; 2] = ["tokens", "words"];
const TEXTS: [&str; 1] = ["text"];
const TAGS: [&str; 1] = ["tags"];
const SPANS: [&str; 2] = ["spans", "entities"];
/// Returned with the answer.
const ID: &str = "id";
/// If none of those exists: one of these, if it is the only one.
const OTHER_TAGS: [&str; 6] = ["ner_tags", "pos_tags", "chunk_tags", "labels", "ner", "upos"];
const OTHER_SPANS: [&str; 2] = ["labels", "label"];

/// Iterates over the objects of an input; ends after an error.
pub struct TaggedJsonReader<R> {
    lines: Lines<R>,
    words: Option<String>,
    tags: Option<String>,
    tagged: bool,
    /// From the first object; all are read the same way.
    keys: Option<Keys>,
    done: bool,
}

#[derive(Clone)]
struct Keys {
    words: String,
    /// Whether the words are a list, not a text.
    list: bool,
    /// None if tags are not requested.
    tags: Option<String>,
    /// Other keys of the first object.
    unread: Vec<String>,
}

/// A part of a text, in characters.
#[derive(Deserialize)]
struct Span {
    start: usize,
    end: usize,
    label: String,
    /// The text there, if the file states it too.
    #[serde(default)]
    text: Option<Value>,
}

impl<R: Read> TaggedJsonReader<R> {
    pub fn new(input: R, name: &str, options: &ReadOptions) -> Self {
        Self {
            lines: Lines::new(input, name),
            words: options.columns.text.clone(),
            tags: options.columns.label.clone(),
            tagged: options.label_use == LabelUse::Required,
            keys: None,
            done: false,
        }
    }

    fn read(&mut self) -> Result<Option<Document>> {
        let line = loop {
            match self.lines.next()? {
                None if self.keys.is_none() => {
                    bail!("{}: the file has no examples", self.lines.name())
                }
                None => return Ok(None),
                Some(line) if line.trim().is_empty() => {}
                Some(line) => break line.to_owned(),
            }
        };
        let (number, here) = (self.lines.number(), self.lines.place());
        let object = Object::parse(&line, &here)?;
        let keys = match &self.keys {
            Some(keys) => keys.clone(),
            None => self.keys.insert(self.choose(&object, &here)?).clone(),
        };
        let document = document(&object, &keys, &here)?;
        Ok(Some(Document { line: number, id: id(&object, &here)?, ..document }))
    }

    /// The keys to read: those named by the user, or the usual ones.
    fn choose(&self, object: &Object<'_>, here: &str) -> Result<Keys> {
        let there = |key: &&&str| object.get(key).is_some();
        let words = match &self.words {
            Some(name) => name.clone(),
            None => match WORDS.iter().chain(&TEXTS).find(there) {
                Some(name) => (*name).to_owned(),
                None => bail!(
                    "{here}: there is no \"tokens\" or \"text\"; name the key with the words or the text with \
                     --text-column"
                ),
            },
        };
        let value = object
            .get(&words)
            .with_context(|| format!("{here}: the key {words:?} of --text-column is not there"))?;
        let list = value.get().starts_with('[');
        let (usual, others, what) = match list {
            true => (&TAGS[..], &OTHER_TAGS[..], "tags"),
            false => (&SPANS[..], &OTHER_SPANS[..], "spans"),
        };
        let tags = match (&self.tags, self.tagged) {
            (_, false) => None,
            (Some(name), true) => Some(name.clone()),
            (None, true) => {
                let others: Vec<&str> = others.iter().filter(there).copied().collect();
                match (usual.iter().find(there).copied(), others.as_slice()) {
                    (Some(name), _) | (None, &[name]) => Some(name.to_owned()),
                    (None, []) => bail!(
                        "{here}: there are no {what:?} for {words:?}; name the key with --label-column"
                    ),
                    (None, several) => bail!(
                        "{here}: {} could be the {what}; choose with --label-column",
                        several
                            .iter()
                            .map(|name| format!("{name:?}"))
                            .collect::<Vec<_>>()
                            .join(", ")
                    ),
                }
            }
        };
        let read = |key: &&str| *key == words || Some(*key) == tags.as_deref() || *key == ID;
        let unread = object.keys().filter(|key| !read(key)).map(str::to_owned).collect();
        Ok(Keys { words, list, tags, unread })
    }
}

/// Without line or id.
fn document(object: &Object<'_>, keys: &Keys, here: &str) -> Result<Document> {
    let needed =
        |key: &str| object.get(key).with_context(|| format!("{here}: the key {key:?} is missing"));
    let value = needed(&keys.words)?;
    ensure!(
        value.get().starts_with(if keys.list { '[' } else { '"' }),
        "{here}: the value of {:?} is {}, but on the first line it is {}",
        keys.words,
        kind_of(value),
        if keys.list { "an array" } else { "a string" }
    );
    let tags = keys.tags.as_deref().map(|key| Ok::<_, anyhow::Error>((key, needed(key)?)));
    let tags = tags.transpose()?;
    if keys.list {
        let words = strings(&keys.words, value, here)?;
        let gold = match tags {
            None => Gold::None,
            Some((key, value)) => {
                let tags = strings(key, value, here)?;
                ensure!(
                    tags.len() == words.len(),
                    "{here}: {} in {:?} and {} in {key:?}",
                    count(words.len(), "word"),
                    keys.words,
                    count(tags.len(), "tag")
                );
                if let Some(empty) = tags.iter().position(|tag| tag.trim().is_empty()) {
                    bail!("{here}: the tag of word {} ({:?}) is empty", empty + 1, words[empty]);
                }
                Gold::Tags(tags)
            }
        };
        return Ok(Document { gold, ..Document::of_words(&words) });
    }
    let text = text(&keys.words, value, here)?;
    let words = text_words(&text);
    let gold = match tags {
        None => Gold::None,
        Some((key, value)) => {
            let spans: Vec<Span> = serde_json::from_str(value.get()).map_err(|e| {
                anyhow!(
                    "{here}: the value of {key:?} is not a list of spans as {{\"start\": 0, \"end\": 4, \"label\": \"PER\"}} \
                     ({})",
                    without_place(&e)
                )
            })?;
            Gold::Tags(tags_of_spans(&text, &words, &spans, here)?)
        }
    };
    Ok(Document { text, words, gold, ..Document::default() })
}

/// An error's message without its line number, which is within this one line.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    text[..end].to_owned()
}

fn strings(key: &str, value: &RawValue, here: &str) -> Result<Vec<String>> {
    ensure!(
        value.get().starts_with('['),
        "{here}: the value of {key:?} is {}, not an array of strings",
        kind_of(value)
    );
    let parts: Vec<&RawValue> = serde_json::from_str(value.get())
        .map_err(|e| anyhow!("{here}: the value of {key:?}: {}", without_place(&e)))?;
    let string = |(i, part): (usize, &RawValue)| {
        if part.get().starts_with('"') {
            return text(key, part, here);
        }
        let hint = match kind_of(part) {
            "a number" => "; this file does not name its numbered tags: write the tags themselves",
            _ => "",
        };
        bail!("{here}: element {} of {key:?} is {}, not a string{hint}", i + 1, kind_of(part))
    };
    parts.into_iter().enumerate().map(string).collect()
}

fn id(object: &Object<'_>, here: &str) -> Result<Option<String>> {
    let Some(value) = object.get(ID) else {
        return Ok(None);
    };
    match kind_of(value) {
        "a string" => text(ID, value, here).map(Some),
        "a number" => Ok(Some(value.get().to_owned())),
        _ => Ok(None),
    }
}

/// B- at the first word of a span, I- at the others, O elsewhere.
fn tags_of_spans(
    text: &str,
    words: &[Range<usize>],
    spans: &[Span],
    here: &str,
) -> Result<Vec<String>> {
    let mut places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    places.push(text.len());
    let mut tags: Vec<Option<String>> = vec![None; words.len()];
    for (i, span) in spans.iter().enumerate() {
        let Span { start, end, label, text: said } = span;
        let what = format!("{here}: span {} ({start} to {end}, {label:?})", i + 1);
        ensure!(start < end, "{what}: it is empty");
        ensure!(*end < places.len(), "{what}: the text has {} characters", places.len() - 1);
        ensure!(!label.trim().is_empty(), "{what}: its label is empty");
        refuse_tag(label.trim(), &what)?;
        let bytes = places[*start]..places[*end];
        if let Some(Value::String(said)) = said {
            let there = &text[bytes.clone()];
            let place = text.find(said.as_str()).map(|at| text[..at].chars().count());
            let instead = match place {
                Some(at) => format!("; {said:?} is at {at}, counted in characters from 0"),
                None => String::new(),
            };
            ensure!(
                said == there,
                "{what}: its \"text\" is {said:?}, but the text there is {there:?}{instead}"
            );
        }
        let first = words.partition_point(|word| word.end <= bytes.start);
        let behind = words.partition_point(|word| word.start < bytes.end);
        ensure!(first < behind, "{what}: it contains no word");
        let cut = [first, behind - 1].map(|word| words[word].clone());
        if let Some(word) =
            cut.into_iter().find(|word| word.start < bytes.start || word.end > bytes.end)
        {
            bail!(
                "{what}: it cuts the word {:?}, and a tag is for a whole word; move the span, or use \"tokens\" and \"tags\"",
                &text[word]
            );
        }
        for (word, tag) in (first..).zip(&mut tags[first..behind]) {
            let part = if word == first { "B" } else { "I" };
            ensure!(
                tag.replace(format!("{part}-{}", label.trim())).is_none(),
                "{what}: it overlaps another span; a word has one tag"
            );
        }
    }
    Ok(tags.into_iter().map(|tag| tag.unwrap_or_else(|| "O".to_owned())).collect())
}

/// Refuses a word's tag as the type of a span, where it would become part of other tags.
fn refuse_tag(label: &str, what: &str) -> Result<()> {
    if label.eq_ignore_ascii_case("o") {
        bail!("{what}: O is the tag of words outside of any span: leave the span out");
    }
    let kind = ["B-", "I-", "b-", "i-"].into_iter().find_map(|mark| label.strip_prefix(mark));
    match kind.filter(|kind| !kind.is_empty()) {
        Some(kind) => bail!(
            "{what}: its label is a word's tag; a span's label is its type, {kind:?}, and bitfit adds B- and I-: give \
             each span whole, with its type"
        ),
        None => Ok(()),
    }
}

impl<R: Read> Iterator for TaggedJsonReader<R> {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Result<Document>> {
        if self.done {
            return None;
        }
        let document = self.read().transpose();
        self.done = !matches!(document, Some(Ok(_)));
        document
    }
}

impl<R: Read> ReadDocuments for TaggedJsonReader<R> {
    fn ready(&mut self) -> bool {
        self.lines.ready()
    }

    fn told(&self) -> Option<String> {
        let keys = self.keys.as_ref()?;
        let words = match keys.list {
            true => format!("words from {:?}", keys.words),
            false => {
                format!("text from {:?}, cut into words at spaces and punctuation", keys.words)
            }
        };
        let tags = match (&keys.tags, keys.list) {
            (None, _) => String::new(),
            (Some(key), true) => format!(", tags from {key:?}"),
            (Some(key), false) => format!(", spans from {key:?} read as B-, I- and O"),
        };
        Some(words + &tags + &not_read(&keys.unread))
    }
}

#[cfg(test)]
#[path = "tagged_json_tests.rs"]
mod tests;
