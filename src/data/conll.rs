//! Tagged words in columns: one word per line and a blank line after each sentence, as in the CoNLL shared tasks and
//! the Universal Dependencies treebanks.

use std::io::Read;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::columns::LabelUse;
use super::conll_lines::{
    COLUMNS, LineForm, Numbering, fields, is_comment, is_universal, sentence_id,
};
use super::documents::{Document, Gold, ReadDocuments};
use super::ending::Ending;
use super::input::{FileFormat, ReadOptions};
use super::lines::{Lines, place};
use crate::words;

/// What a table's first line calls a column of words, and one of tags.
const HEADER: [[&str; 8]; 2] = [
    ["token", "tokens", "word", "words", "text", "form", "sentence", "sentence #"],
    ["tag", "tags", "label", "labels", "ner", "ner_tags", "pos", "upos"],
];

/// The advice for a file without one word per line.
const RUNNING_TEXT: &str = "; for running text use JSON lines with \"text\"";

/// Iterates over sentences; ends after an error.
pub struct ConllReader<R> {
    lines: Lines<R>,
    universal: bool,
    /// Counted from 0; the first if not given.
    word: Option<usize>,
    /// Counted from 0; the last if not given.
    tag: Option<usize>,
    /// The error that a column was named but the file has no names, unless it turns out to be CoNLL-U.
    unnamed: Option<String>,
    tagged: bool,
    /// Whether the lines were never said to be columns, and may be running text.
    may_be_text: bool,
    /// As in the first line.
    shape: Option<LineForm>,
    comments: u64,
    numbering: Numbering,
    /// Where the first sentence starts.
    begins: u64,
    ending: Ending,
}

impl<R: Read> ConllReader<R> {
    /// # Errors
    /// A column number that is not possible.
    pub fn new(input: R, name: &str, format: FileFormat, options: &ReadOptions) -> Result<Self> {
        let universal = format == FileFormat::Conllu;
        let tagged = options.label_use == LabelUse::Required;
        let mut unnamed = None;
        let mut number = |option: &str, asked: &Option<String>| -> Result<Option<usize>> {
            let Some(asked) = asked else {
                return Ok(None);
            };
            let problem = || {
                let names = if universal { ", or a name: upos, xpos, …" } else { "" };
                format!("{option} {asked:?}: columns of this file are numbered from 1{names}")
            };
            let named = COLUMNS.iter().position(|column| asked.eq_ignore_ascii_case(column));
            match (asked.parse::<usize>(), named) {
                (Ok(number), _) if number > 0 => Ok(Some(number - 1)),
                (_, Some(named)) => {
                    unnamed = (!universal).then(problem);
                    Ok(Some(named))
                }
                _ => Err(anyhow!("{name}: {}", problem())),
            }
        };
        let word = number("--text-column", &options.columns.text)?;
        let tag = if tagged { number("--label-column", &options.columns.label)? } else { None };
        let mut reader = Self {
            lines: Lines::new(input, name),
            universal: false,
            word,
            tag,
            unnamed,
            tagged,
            may_be_text: false,
            shape: None,
            comments: 0,
            numbering: Numbering::default(),
            begins: 0,
            ending: Ending::default(),
        };
        if universal {
            reader.universal();
        }
        Ok(reader)
    }

    /// Refuses lines of several words without tabs, which may be either running text or columns.
    #[must_use]
    pub fn or_text(mut self) -> Self {
        self.may_be_text = !self.tagged && self.word.is_none();
        self
    }

    /// Reads the columns of CoNLL-U.
    fn universal(&mut self) {
        self.universal = true;
        self.word.get_or_insert(1);
        self.tag.get_or_insert(3);
    }

    fn read(&mut self) -> Result<Option<Document>> {
        let mut sentence = Sentence::default();
        while let Some(line) = self.lines.next()? {
            let line = line.to_owned();
            if line.trim().is_empty() || line.starts_with("-DOCSTART-") {
                if sentence.words.is_empty() {
                    continue;
                }
                return self.sentence(sentence).map(Some);
            }
            let comment = match self.universal {
                true => line.starts_with('#'),
                false => is_comment(&line, self.shape),
            };
            if comment {
                sentence.id = sentence_id(&line).map(str::to_owned).or(sentence.id);
                self.comments += 1;
                continue;
            }
            self.word(&line, &mut sentence)
                .with_context(|| place(self.lines.name(), self.lines.number()))?;
        }
        if sentence.words.is_empty() {
            ensure!(!(self.by_position() && self.numbering.all()), self.numbered());
            return Ok(None);
        }
        self.sentence(sentence).map(Some)
    }

    fn sentence(&mut self, sentence: Sentence) -> Result<Document> {
        if self.begins == 0 {
            self.begins = sentence.lines[0];
        }
        if self.by_position() {
            ensure!(!self.numbering.sentence(&sentence.words), self.numbered());
        }
        Ok(sentence.finish(self.tagged))
    }

    /// Whether the words come from the first of several columns only because nobody said where they are.
    fn by_position(&self) -> bool {
        self.shape.is_some_and(|(width, _)| width > 1) && self.word.is_none()
    }

    fn numbered(&self) -> String {
        format!(
            "{}: column 1 numbers the words; name the column with the words, e.g. --text-column 2",
            place(self.lines.name(), self.begins)
        )
    }

    fn word(&mut self, line: &str, sentence: &mut Sentence) -> Result<()> {
        let tabs = self.shape.map_or(self.universal || line.contains('\t'), |(_, tabs)| tabs);
        let fields = fields(line, tabs);
        let count = fields.len();
        let first = self.shape.is_none();
        if first && !self.universal && self.word.is_none_or(|_| self.unnamed.is_some()) {
            // Named .conll, say; its first column does not hold words.
            if is_universal(&fields, tabs) {
                self.unnamed = None;
                self.universal();
            }
        }
        if let Some(problem) = self.unnamed.take() {
            bail!(problem);
        }
        ensure!(
            !(first && line.starts_with("{\"")),
            "the line looks like JSON lines: use --format jsonl"
        );
        ensure!(
            !(first && self.may_be_text && !tabs && count > 1),
            "{count} words on one line: is it a text, or a word followed by its tags? For texts use JSON lines with \
             \"text\" (--format jsonl), for one word per line --format conll"
        );
        let (width, _) = *self.shape.get_or_insert((count, tabs));
        let wanted = if self.universal { COLUMNS.len() } else { width };
        ensure!(
            count == wanted,
            "{}{}, where {} {wanted}{}",
            words::count(count, "column"),
            if tabs { ", separated by tabs" } else { "" },
            if self.universal { "CoNLL-U has" } else { "the first line has" },
            if self.universal || tabs { "" } else { RUNNING_TEXT }
        );
        if self.universal {
            let id = fields[0];
            // A contraction whose words follow one by one, or a word that is not in the text.
            if id.contains(['-', '.']) {
                return Ok(());
            }
            ensure!(
                id.parse::<u64>().is_ok(),
                "{id:?} in the first column is not the number of a word"
            );
        }
        let column = |option: &str, asked: Option<usize>, usual: usize| {
            let at = asked.unwrap_or(usual);
            fields.get(at).copied().with_context(|| {
                format!(
                    "{}, but {option} asks for column {}",
                    words::count(count, "column"),
                    at + 1
                )
            })
        };
        let word = column("--text-column", self.word, 0)?;
        if !self.universal && word.contains(char::is_whitespace) {
            bail!(
                "the word {word:?} has spaces in it; expected one word per line, separated from its tag by a tab or spaces \
                 {RUNNING_TEXT}"
            );
        }
        ensure!(
            !(first && count > 1 && is_header(word, fields[count - 1])),
            "the line looks like column names: remove it, as each line is a word and its tag"
        );
        let tag = if self.tagged {
            ensure!(count > 1, "a word without a tag: the line has only one column");
            let tag = column("--label-column", self.tag, count - 1)?;
            ensure!(
                self.tag.unwrap_or(count - 1) != self.word.unwrap_or(0),
                "--text-column and --label-column are the same column"
            );
            let none = tag.is_empty() || (self.universal && tag == "_");
            ensure!(!none, "the word {word:?} has no tag");
            Some(tag.to_owned())
        } else {
            None
        };
        sentence.words.push(word.to_owned());
        sentence.tags.extend(tag);
        sentence.lines.push(self.lines.number());
        Ok(())
    }
}

fn is_header(word: &str, tag: &str) -> bool {
    let [words, tags] = HEADER;
    let has = |names: [&str; 8], name: &str| names.iter().any(|n| name.eq_ignore_ascii_case(n));
    has(words, word) && has(tags, tag)
}

#[derive(Default)]
struct Sentence {
    id: Option<String>,
    words: Vec<String>,
    tags: Vec<String>,
    lines: Vec<u64>,
}

impl Sentence {
    fn finish(self, tagged: bool) -> Document {
        Document {
            line: self.lines.first().copied().unwrap_or_default(),
            id: self.id,
            gold: if tagged { Gold::Tags(self.tags) } else { Gold::None },
            lines: self.lines,
            ..Document::of_words(&self.words)
        }
    }
}

impl<R: Read> Iterator for ConllReader<R> {
    type Item = Result<Document>;

    fn next(&mut self) -> Option<Result<Document>> {
        if self.ending.done() {
            return None;
        }
        let read = self.read();
        self.ending.after(read, || anyhow!("{}: the file has no words", self.lines.name()))
    }
}

impl<R: Read> ReadDocuments for ConllReader<R> {
    fn ready(&mut self) -> bool {
        self.lines.block_ready()
    }

    fn left_out(&self) -> Option<String> {
        let lines = words::count(self.comments as usize, "line");
        (self.comments > 0 && !self.universal)
            .then(|| format!("{lines} starting with # taken for comments"))
    }

    fn told(&self) -> Option<String> {
        let (width, _) = self.shape?;
        let name = |column: usize| match self.universal {
            true => COLUMNS.get(column).copied().unwrap_or_default().to_owned(),
            false => format!("column {}", column + 1),
        };
        let tags = match self.tagged {
            true => format!(", tags from {}", name(self.tag.unwrap_or(width - 1))),
            false => String::new(),
        };
        let of = if self.universal {
            "the 10 columns of CoNLL-U".to_owned()
        } else {
            words::count(width, "column")
        };
        Some(format!("words from {}{tags}, of {of}", name(self.word.unwrap_or(0))))
    }
}

#[cfg(test)]
#[path = "conll_tests.rs"]
mod tests;
