//! Questions with the texts that answer them: SQuAD's JSON (1.1 and 2.0) and JSON lines with the same keys. Offsets of
//! answers count characters there and bytes here. They must match exactly: an answer that is not at its offset would be
//! learned wrong.

use std::io::Read;
use std::ops::Range;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::documents::{Document, Gold, Mark, ReadDocuments};
use super::ending::Ending;
use super::lines::{Lines, place};

/// Longest accepted line, in bytes: each of SQuAD's files is one line.
const MAX_LINE: u64 = 1 << 30;
/// Most characters of a text shown in a message.
const SHOWN: usize = 60;

/// The advice for a list of questions.
const ARRAY: &str = "a JSON array; write each question on its own line, or all of them in SQuAD's form: {\"data\": […]}";

/// Iterates over questions; ends after an error.
pub struct SquadReader<R> {
    lines: Lines<R>,
    /// Whether answers are read.
    answered: bool,
    /// For a file read as a whole: what has not been returned yet, and what stopped the reading.
    whole: Option<(std::vec::IntoIter<Document>, Option<anyhow::Error>)>,
    ending: Ending,
}

impl<R: Read> SquadReader<R> {
    /// `name` starts every message.
    pub fn new(input: R, name: &str, answered: bool) -> Self {
        let lines = Lines::with_longest(input, name, MAX_LINE);
        Self { lines, answered, whole: None, ending: Ending::default() }
    }

    fn read(&mut self) -> Result<Option<Document>> {
        if let Some((documents, failed)) = &mut self.whole {
            return match (documents.next(), failed.take()) {
                (Some(document), error) => {
                    *failed = error;
                    Ok(Some(document))
                }
                (None, Some(error)) => Err(error),
                (None, None) => Ok(None),
            };
        }
        loop {
            let Some(line) = self.lines.next()? else {
                return Ok(None);
            };
            if line.trim().is_empty() {
                continue;
            }
            let line = line.to_owned();
            if line.trim_start().starts_with('[') {
                bail!("{}: {ARRAY}", self.lines.place());
            }
            if !self.ending.any() && is_whole(&line) {
                self.read_whole(line)?;
                return self.read();
            }
            return self.read_line(&line).map(Some);
        }
    }

    fn read_line(&self, line: &str) -> Result<Document> {
        let (name, number) = (self.lines.name(), self.lines.number());
        let asked: Asked = serde_json::from_str(line).map_err(|e| {
            anyhow!(
                "{name}:{number}:{}: not a question as a JSON object on one line: {}",
                e.column(),
                bare(&e)
            )
        })?;
        let read = || {
            let context =
                asked.context.as_deref().context("the key \"context\" is missing or null")?;
            asked.document(context, number, self.answered)
        };
        read().with_context(|| place(name, number))
    }

    /// Reads the rest of a file that is a single JSON object, and splits it.
    fn read_whole(&mut self, first: String) -> Result<()> {
        let before = self.lines.number() - 1;
        let mut text = first;
        while let Some(line) = self.lines.next()? {
            text.push('\n');
            text.push_str(line);
        }
        let mut file = Whole {
            name: self.lines.name(),
            text: &text,
            seen: 0,
            line: before + 1,
            answered: self.answered,
            documents: Vec::new(),
        };
        let failed = file.read(before).err();
        self.whole = Some((file.documents.into_iter(), failed));
        Ok(())
    }
}

/// Whether a first line starts (or is) a SQuAD file rather than a line with a question.
fn is_whole(line: &str) -> bool {
    #[derive(Deserialize)]
    struct Keys {
        data: Option<IgnoredAny>,
        question: Option<IgnoredAny>,
    }
    match serde_json::from_str::<Keys>(line) {
        Ok(keys) => keys.data.is_some() && keys.question.is_none(),
        Err(e) => e.is_eof(),
    }
}

/// A file read as a whole.
struct Whole<'a> {
    name: &'a str,
    text: &'a str,
    /// Up to where `line` has counted lines.
    seen: usize,
    line: u64,
    answered: bool,
    documents: Vec<Document>,
}

impl<'a> Whole<'a> {
    fn read(&mut self, lines_before: u64) -> Result<()> {
        #[derive(Deserialize)]
        struct File<'a> {
            #[serde(borrow)]
            data: Vec<&'a RawValue>,
        }
        let name = self.name;
        let file: File<'a> = serde_json::from_str(self.text).map_err(|e| {
            let line = lines_before + e.line() as u64;
            anyhow!("{name}:{line}:{}: no SQuAD file: {}", e.column(), bare(&e))
        })?;
        for (i, article) in file.data.into_iter().enumerate() {
            self.article(article, &format!("data[{i}]"))?;
        }
        Ok(())
    }

    fn article(&mut self, raw: &'a RawValue, path: &str) -> Result<()> {
        #[derive(Deserialize)]
        struct Article<'a> {
            #[serde(borrow)]
            paragraphs: Vec<&'a RawValue>,
        }
        let article: Article<'a> = self.parse(raw, path)?;
        for (i, paragraph) in article.paragraphs.into_iter().enumerate() {
            self.paragraph(paragraph, &format!("{path}.paragraphs[{i}]"))?;
        }
        Ok(())
    }

    fn paragraph(&mut self, raw: &'a RawValue, path: &str) -> Result<()> {
        #[derive(Deserialize)]
        struct Paragraph<'a> {
            context: String,
            #[serde(borrow)]
            qas: Vec<&'a RawValue>,
        }
        let paragraph: Paragraph<'a> = self.parse(raw, path)?;
        for (i, raw) in paragraph.qas.into_iter().enumerate() {
            let path = format!("{path}.qas[{i}]");
            let asked: Asked = self.parse(raw, &path)?;
            let line = self.line_of(raw);
            let document = asked.document(&paragraph.context, line, self.answered);
            let of_id =
                asked.id.as_ref().map_or(String::new(), |id| format!(" (id {:?})", id.text()));
            let document =
                document.with_context(|| format!("{}: {path}{of_id}", self.place(line)))?;
            self.documents.push(document);
        }
        Ok(())
    }

    fn parse<T: Deserialize<'a>>(&mut self, raw: &'a RawValue, path: &str) -> Result<T> {
        // An array would be taken for the values of the keys, in order.
        if raw.get().starts_with('[') {
            let line = self.line_of(raw);
            bail!("{}: {path}: an array, not an object", self.place(line));
        }
        serde_json::from_str(raw.get()).map_err(|e| {
            let line = self.line_of(raw);
            anyhow!("{}: {path}: {}", self.place(line), bare(&e))
        })
    }

    fn place(&self, line: u64) -> String {
        place(self.name, line)
    }

    /// The line where a part of the text starts; parts must be requested in order.
    fn line_of(&mut self, raw: &'a RawValue) -> u64 {
        let at = raw.get().as_ptr() as usize - self.text.as_ptr() as usize;
        let between = self.text.as_bytes().get(self.seen..at).unwrap_or_default();
        self.line += between.iter().filter(|&&b| b == b'\n').count() as u64;
        self.seen = at.max(self.seen);
        self.line
    }
}

/// The error without serde_json's own line and column.
fn bare(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    text[..end].to_owned()
}

/// A question as written.
#[derive(Deserialize)]
struct Asked {
    id: Option<Id>,
    question: Option<String>,
    /// Only in JSON lines; SQuAD's files have it one level higher.
    context: Option<String>,
    answers: Option<Box<RawValue>>,
    is_impossible: Option<bool>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "the id is neither a string nor a number")]
enum Id {
    Text(String),
    Number(serde_json::Number),
}

impl Id {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// An answer in SQuAD's form.
#[derive(Deserialize)]
#[serde(expecting = "an object with \"text\" and \"answer_start\"")]
struct Written {
    text: String,
    answer_start: i64,
}

impl Asked {
    fn document(&self, context: &str, line: u64, answered: bool) -> Result<Document> {
        let question =
            self.question.as_deref().context("the key \"question\" is missing or null")?;
        if question.trim().is_empty() {
            bail!("the question is empty");
        }
        if answered && context.trim().is_empty() {
            bail!("the context is empty");
        }
        Ok(Document {
            line,
            id: self.id.as_ref().map(Id::text),
            question: Some(question.to_owned()),
            text: context.to_owned(),
            gold: if answered { Gold::Answers(self.marks(context)?) } else { Gold::None },
            ..Document::default()
        })
    }

    fn marks(&self, context: &str) -> Result<Vec<Mark>> {
        let raw = self.answers.as_deref().context(
            "the key \"answers\" is missing or null; a question that the context does not answer has an empty list",
        )?;
        let answers = written(raw)?;
        match (answers.is_empty(), self.is_impossible) {
            (true, Some(false)) => {
                bail!("it has no answer, but \"is_impossible\" is false: correct one of them")
            }
            (false, Some(true)) => {
                bail!("it has answers, but \"is_impossible\" is true: correct one of them")
            }
            _ => {}
        }
        let mark = |answer: Written| {
            let span = span(context, &answer.text, answer.answer_start)?;
            Ok(Mark { span, label: answer.text })
        };
        answers.into_iter().map(mark).collect()
    }
}

/// A list of answers, or a list of texts and one of offsets, as in the hub's rows.
fn written(raw: &RawValue) -> Result<Vec<Written>> {
    #[derive(Deserialize)]
    struct Columns {
        text: Vec<String>,
        answer_start: Vec<i64>,
    }
    let wrong = |e: serde_json::Error| anyhow!("\"answers\": {}", bare(&e));
    match raw.get().bytes().next() {
        Some(b'[') => serde_json::from_str(raw.get()).map_err(wrong),
        Some(b'{') => {
            let Columns { text, answer_start } = serde_json::from_str(raw.get()).map_err(wrong)?;
            if text.len() != answer_start.len() {
                bail!("\"answers\" has {} texts and {} offsets", text.len(), answer_start.len());
            }
            let both = text.into_iter().zip(answer_start);
            Ok(both.map(|(text, answer_start)| Written { text, answer_start }).collect())
        }
        _ => bail!(
            "\"answers\" is neither a list of answers nor lists of \"text\" and \"answer_start\""
        ),
    }
}

/// The byte range of an answer that starts at a given character of its context.
fn span(context: &str, answer: &str, start: i64) -> Result<Range<usize>> {
    if answer.trim().is_empty() {
        bail!(
            "an answer has no text; a question that the context does not answer has an empty list"
        );
    }
    let said = format!("the answer {:?} should begin at character {start}", cut(answer));
    // The end of the text is a valid position too.
    let ends = context.char_indices().map(|(at, _)| at).chain([context.len()]);
    let at = usize::try_from(start).ok().and_then(|start| ends.clone().nth(start));
    if let Some(at) = at
        && context[at..].starts_with(answer)
    {
        return Ok(at..at + answer.len());
    }
    let there = match at {
        Some(at) => {
            let there: String = context[at..].chars().take(answer.chars().count()).collect();
            format!("where the text is {:?}", cut(&there))
        }
        None => format!("but the context has {}", context.chars().count()),
    };
    let places = context.match_indices(answer).map(|(at, _)| context[..at].chars().count() as i64);
    let nearest = places.min_by_key(|place| place.abs_diff(start));
    let instead = match nearest {
        Some(place) => format!("it is at {place}, counted in characters from 0"),
        None => "it is not in the context".to_owned(),
    };
    bail!("{said}, {there}; {instead}")
}

/// As much of a text as fits in a message.
fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl<R: Read> Iterator for SquadReader<R> {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Result<Document>> {
        if self.ending.done() {
            return None;
        }
        let read = self.read();
        self.ending.after(read, || anyhow!("{}: the file has no questions", self.lines.name()))
    }
}

impl<R: Read> ReadDocuments for SquadReader<R> {
    fn ready(&mut self) -> bool {
        self.whole.is_some() || self.lines.ready()
    }
}

#[cfg(test)]
#[path = "squad_tests.rs"]
mod tests;
