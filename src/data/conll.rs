//! Tagged words in columns: a word per line, a blank line behind each sentence, as the shared tasks of CoNLL and the
//! treebanks of Universal Dependencies have them.

use std::io::Read;

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::columns::LabelUse;
use super::documents::{Document, Gold, ReadDocuments};
use super::input::{FileFormat, ReadOptions};
use super::lines::{Lines, place};

/// The columns of CoNLL-U.
const COLUMNS: [&str; 10] =
    ["id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc"];
/// What the first line of a table says of a column of words, and of one of tags.
const HEADER: [[&str; 8]; 2] = [
    ["token", "tokens", "word", "words", "text", "form", "sentence", "sentence #"],
    ["tag", "tags", "label", "labels", "ner", "ner_tags", "pos", "upos"],
];

/// Iterator over sentences; after an error it ends.
pub struct ConllReader<R> {
    lines: Lines<R>,
    universal: bool,
    /// Counted from 0; without one the first.
    word: Option<usize>,
    /// Counted from 0; without one the last.
    tag: Option<usize>,
    tagged: bool,
    /// How many columns each line has, and whether tabs part them: as in the first.
    shape: Option<(usize, bool)>,
    any: bool,
    done: bool,
}

impl<R: Read> ConllReader<R> {
    /// # Errors
    /// A column that cannot be one.
    pub fn new(input: R, name: &str, format: FileFormat, options: &ReadOptions) -> Result<Self> {
        let universal = format == FileFormat::Conllu;
        let tagged = options.label_use == LabelUse::Required;
        let number = |option: &str, asked: &Option<String>| -> Result<Option<usize>> {
            let Some(asked) = asked else {
                return Ok(None);
            };
            let named = COLUMNS.iter().position(|column| asked.eq_ignore_ascii_case(column));
            match (asked.parse::<usize>(), named) {
                (Ok(number), _) if number > 0 => Ok(Some(number - 1)),
                (_, Some(named)) if universal => Ok(Some(named)),
                _ => Err(anyhow!(
                    "{name}: {option} {asked:?}: a column of this file is a number from 1 on{}",
                    if universal { ", or a name: upos, xpos, …" } else { "" }
                )),
            }
        };
        let word = number("--text-column", &options.columns.text)?;
        let tag = if tagged { number("--label-column", &options.columns.label)? } else { None };
        let or =
            |column: Option<usize>, usual| if universal { column.or(Some(usual)) } else { column };
        Ok(Self {
            lines: Lines::new(input, name),
            universal,
            word: or(word, 1),
            tag: or(tag, 3),
            tagged,
            shape: None,
            any: false,
            done: false,
        })
    }

    fn read(&mut self) -> Result<Option<Document>> {
        let mut sentence = Sentence::default();
        while let Some(line) = self.lines.next()? {
            let line = line.to_owned();
            if line.trim().is_empty() || line.starts_with("-DOCSTART-") {
                if sentence.words.is_empty() {
                    continue;
                }
                return Ok(Some(sentence.finish(self.tagged)));
            }
            let comment = if self.universal { line.strip_prefix('#') } else { None };
            if let Some(comment) = comment {
                if let Some((key, id)) = comment.split_once('=')
                    && key.trim() == "sent_id"
                {
                    sentence.id = Some(id.trim().to_owned());
                }
                continue;
            }
            self.word(&line, &mut sentence)
                .with_context(|| place(self.lines.name(), self.lines.number()))?;
        }
        Ok((!sentence.words.is_empty()).then(|| sentence.finish(self.tagged)))
    }

    fn word(&mut self, line: &str, sentence: &mut Sentence) -> Result<()> {
        let tabs = self.shape.map_or(self.universal || line.contains('\t'), |(_, tabs)| tabs);
        let fields: Vec<&str> = match tabs {
            true => line.split('\t').map(str::trim).collect(),
            false => line.split_whitespace().collect(),
        };
        let count = fields.len();
        let first = self.shape.is_none();
        let (width, _) = *self.shape.get_or_insert((count, tabs));
        let wanted = if self.universal { COLUMNS.len() } else { width };
        ensure!(
            count == wanted,
            "{count} columns{}, where {} {wanted}",
            if tabs { ", parted by tabs" } else { "" },
            if self.universal { "CoNLL-U has" } else { "the first line has" }
        );
        if self.universal {
            let id = fields[0];
            // A contraction whose words come one by one, and a word that is not in the text.
            if id.contains(['-', '.']) {
                return Ok(());
            }
            ensure!(
                id.parse::<u64>().is_ok(),
                "{id:?} is no number of a word, in the first column"
            );
        }
        let column = |option: &str, asked: Option<usize>, usual: usize| {
            let at = asked.unwrap_or(usual);
            fields.get(at).copied().with_context(|| {
                format!("{count} columns, and {option} asks for column {}", at + 1)
            })
        };
        let word = column("--text-column", self.word, 0)?;
        if !self.universal && word.contains(char::is_whitespace) {
            bail!(
                "the word {word:?} has spaces in it; a word per line is expected, parted from its tag by a tab or spaces"
            );
        }
        let tag = if self.tagged {
            ensure!(count > 1, "a word without a tag: the line has one column");
            let tag = column("--label-column", self.tag, count - 1)?;
            ensure!(
                self.tag.unwrap_or(count - 1) != self.word.unwrap_or(0),
                "--text-column and --label-column are the same column"
            );
            let none = tag.is_empty() || (self.universal && tag == "_");
            ensure!(!none, "the word {word:?} has no tag");
            if first && is_header(word, tag) {
                bail!(
                    "the line looks like the names of the columns: remove it, as each line is a word and its tag"
                );
            }
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
        if self.done {
            return None;
        }
        let document = self.read().transpose();
        match &document {
            Some(Ok(_)) => self.any = true,
            _ => self.done = true,
        }
        if document.is_none() && !self.any {
            return Some(Err(anyhow!("{}: the file has no words", self.lines.name())));
        }
        document
    }
}

impl<R: Read> ReadDocuments for ConllReader<R> {
    fn ready(&mut self) -> bool {
        self.lines.block_ready()
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
        Some(format!("words from {}{tags}, of {width} columns", name(self.word.unwrap_or(0))))
    }
}

#[cfg(test)]
#[path = "conll_tests.rs"]
mod tests;
