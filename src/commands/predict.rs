//! `bitfit predict`: labels for a stream of texts, in constant memory.

use super::base::say_counts;
use super::counter::Counter;
use super::incoming::{Chunk, Incoming};
use super::labelled::{say_without_pair, warn_of_long};
use super::ranks::SharedInput;
use super::shown::Shown;
use super::trained::Trained;
use super::{no_use, outputs, read_options, say, set_threads, submission, warn};
use crate::batch::Labels;
use crate::cli::{OutputFormat, PredictArgs};
use crate::data::{
    BatchLimits, Dataset, Document, LabelUse, MaskTokens, Masking, Row, TextCounts,
    evaluation_batches, place,
};
use crate::error::{UsageError, tame};
use crate::files::{write_named, write_stdout};
use crate::program::{Limits, PoolKind, Portion};
use crate::ranks::Ranks;
use crate::settings::task::{Reads, Task};
use crate::tasks::examples::TokenLogits;
use crate::tasks::masked_words;
use crate::tasks::tag_remarks::tags_for_words;
use crate::tasks::targets::{Prediction, Targets};
use crate::train::evaluate::logits;
use crate::words::{count, have};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Read, Write, stdin, stdout};
use std::path::Path;
use std::rc::Rc;

/// Texts that are read and sorted by length at a time.
const CHUNK: usize = 1024;
/// Tokens per batch if the user sets no limit: more would not be faster, and memory is planned for it.
const TOKENS: usize = 8192;
/// The same if each may have the logits of a whole vocabulary.
const MASKED_TOKENS: usize = 512;

pub fn run(args: &PredictArgs, ranks: &Rc<dyn Ranks>) -> Result<()> {
    set_threads(args.compute.threads, &**ranks)?;
    if let Some(folder) = &args.predict_test {
        // One process is enough.
        return if ranks.first() { submission::run(args, folder) } else { Ok(()) };
    }
    let path = match args.reads_stdin() {
        true => Path::new(outputs::STDIN),
        false => &args.input,
    };
    let written = match args.writes_stdout() {
        true => Path::new(outputs::STDOUT),
        false => &args.output,
    };
    outputs::no_input("--output", written, &[path, &args.delta])?;
    let mut trained = Trained::open(&args.delta, args.model.as_deref(), &args.compute, ranks)?;
    trained.answer_by(&args.answers)?;
    let task = trained.info.task;
    let squad = args.output_format == OutputFormat::Squad;
    no_use(squad && trained.targets.no_answer().is_none(), "--output-format squad", task)?;
    outputs::no_input("--output", written, &[&trained.base])?;
    let shown = Shown::of(args, task, &trained.targets)?;
    let max_len = trained.tokenizer.options().max_len;
    let limits = BatchLimits {
        sequences: args.compute.batch_size,
        tokens: Some(args.compute.batch_tokens.unwrap_or(match task {
            Task::MaskedLm => MASKED_TOKENS,
            _ => TOKENS,
        })),
    };
    // A batch has at most its texts.
    let most = limits.sequences.saturating_mul(max_len);
    let tokens = limits.tokens.unwrap_or(TOKENS).min(most).max(max_len);
    if task == Task::MaskedLm {
        // Any token may be a mask.
        trained.session.model_mut().head.pool = PoolKind::Labelled(Portion::ALL);
    }
    // No text is without tokens.
    trained.prepare(Limits { tokens, sequences: limits.sequences.min(tokens), max_len })?;
    let mut predictor = Predictor {
        stride: args.stride.or(trained.info.settings.stride),
        trained,
        limits,
        format: args.output_format,
        shown,
        pairs: false,
        rows: 0,
        without_pair: 0,
        terminal: args.writes_stdout() && stdout().is_terminal(),
        quiet: args.compute.quiet,
        ids: HashSet::new(),
        respelled: 0,
        without_mask: 0,
    };

    let texts = task.facts().reads == Reads::Texts;
    if args.columns.label_column.is_some() {
        return Err(UsageError::new("--label-column: predict reads no labels; leave it out").into());
    }
    no_use(args.stride.is_some() && texts, "--stride", task)?;
    let options = read_options(&args.columns, LabelUse::Ignored, &predictor.trained.info)?;
    predictor.pairs = options.trained.as_ref().is_some_and(|columns| columns.text_pair.is_some());
    let path = (!args.reads_stdin()).then_some(path);
    let open = || -> Result<Box<dyn Read>> {
        Ok(match path {
            None => Box::new(stdin().lock()),
            Some(path) => Box::new(
                File::open(path).with_context(|| format!("cannot open {}", path.display()))?,
            ),
        })
    };
    let input = if ranks.several() {
        let input = if ranks.first() { Some(open()?) } else { None };
        Box::new(SharedInput { ranks: Rc::clone(ranks), input })
    } else {
        open()?
    };
    let mut incoming = Incoming::open(task, input, path, &options)?;

    // There is only room for a bar if the predictions go elsewhere.
    let quiet = args.compute.quiet || args.writes_stdout();
    let counter = Counter::new("predicting", None, quiet);
    let counts = if !ranks.first() {
        predictor.stream(&mut incoming, &mut std::io::sink(), &counter)?
    } else {
        let mut counts = TextCounts::default();
        let write = |out: &mut dyn Write| {
            counts = predictor.stream(&mut incoming, &mut BufWriter::new(out), &counter)?;
            Ok(())
        };
        match args.writes_stdout() {
            true => write_stdout(write)?,
            false => write_named(&args.output, write)?,
        }
        counts
    };
    drop(counter);
    if predictor.respelled > 0 {
        let (have, fields) = (have(predictor.respelled), count(predictor.respelled, "field"));
        warn(format_args!(
            "{fields} of the predictions {have} a tab or a line break, written as a space in tsv; --output-format jsonl \
             keeps them"
        ));
    }
    if predictor.without_mask > 0 {
        let texts = count(predictor.without_mask, "text");
        warn(format_args!(
            "{texts} {} no mask, so there is nothing to predict",
            have(predictor.without_mask)
        ));
    }
    say_counts(args.compute.quiet, incoming.name(), counts, max_len);
    Ok(())
}

struct Predictor {
    trained: Trained,
    limits: BatchLimits,
    /// For windows on documents, if different from the task's own.
    stride: Option<usize>,
    format: OutputFormat,
    shown: Shown,
    /// Whether the predictions go to a terminal.
    terminal: bool,
    quiet: bool,
    /// Whether the task is one of pairs.
    pairs: bool,
    /// How many rows have been answered, and how many of them had no second text.
    rows: usize,
    without_pair: usize,
    /// Ids of the answered questions, if each may occur only once.
    ids: HashSet<String>,
    /// Table fields that differ from the answer.
    respelled: usize,
    /// `masked-lm` texts without a mask.
    without_mask: usize,
}

impl Predictor {
    /// Predicts chunk by chunk; the results of one chunk are written before the next is read.
    fn stream(
        &mut self,
        incoming: &mut Incoming<'_>,
        out: &mut impl Write,
        counter: &Counter,
    ) -> Result<TextCounts> {
        let mut total = TextCounts::default();
        let mut columns = None;
        let (mut warned, mut begun) = (false, false);
        loop {
            let (chunk, failed) = incoming.chunk(CHUNK)?;
            // A late key that is not read is no reason to repeat everything.
            let now = incoming.columns();
            if now != columns {
                let told = incoming.told();
                told.iter().for_each(|told| {
                    say(self.quiet, format_args!("{}: {told}", incoming.name()));
                });
                columns = now;
            }
            if let (Chunk::Documents(documents), false) = (&chunk, warned) {
                warned = warn_of_long(incoming.name(), documents);
                if self.trained.info.task.facts().reads == Reads::Words
                    && let Some(text) = tags_for_words(incoming.name(), documents)
                {
                    warn(text);
                    warned = true;
                }
            }
            let examples = chunk.len();
            // Not before something has been read: an input that is refused gets no answer, not even an empty table.
            if !begun && (examples > 0 || failed.is_none()) {
                self.header(out)?;
                begun = true;
            }
            if examples > 0 {
                let counts = self.chunk(incoming.name(), chunk, out)?;
                total += counts;
                counter.add(examples);
            }
            out.flush()?;
            if let Some(error) = failed {
                return Err(error);
            }
            if examples == 0 {
                if let Some(left_out) = incoming.left_out() {
                    say(self.quiet, format_args!("{}: {left_out}", incoming.name()));
                }
                say_without_pair(self.quiet, incoming.name(), self.without_pair, self.rows);
                if self.format == OutputFormat::Squad {
                    writeln!(out, "\n}}")?;
                    out.flush()?;
                }
                return Ok(total);
            }
        }
    }

    fn chunk(&mut self, name: &str, chunk: Chunk, out: &mut impl Write) -> Result<TextCounts> {
        match chunk {
            Chunk::Texts(rows) => self.texts(name, &rows, out),
            Chunk::Documents(documents) => self.documents(name, &documents, out),
        }
    }

    fn texts(&mut self, name: &str, rows: &[Row], out: &mut impl Write) -> Result<TextCounts> {
        let (dataset, counts) =
            Dataset::build(rows, Labels::None, &self.trained.tokenizer, &|_| {})
                .with_context(|| name.to_owned())?;
        if self.pairs {
            let none = |row: &&Row| row.text_pair.as_deref().is_none_or(str::is_empty);
            self.without_pair += rows.iter().filter(none).count();
        }
        self.rows += rows.len();
        let outputs = self.trained.targets.outputs();
        let logits = self.logits(&dataset).with_context(|| name.to_owned())?;
        for row in logits.chunks_exact(outputs) {
            self.row(row, out)?;
        }
        Ok(counts)
    }

    fn documents(
        &mut self,
        name: &str,
        documents: &[Document],
        out: &mut impl Write,
    ) -> Result<TextCounts> {
        let Trained { tokenizer, targets, .. } = &self.trained;
        let stride = self.stride.unwrap_or(targets.stride(tokenizer.options().max_len));
        let mut windows =
            tokenizer.windows(documents, stride, &|_| {}).with_context(|| name.to_owned())?;
        let counts = windows.counts();
        let mut dataset = Dataset::of_windows(&mut windows, Labels::None, tokenizer)?;
        let mask = match targets {
            &Targets::Words { rules, .. } => {
                let tokens = MaskTokens::of(tokenizer)?;
                let mask = tokens.mask();
                dataset = dataset.masked(Masking::as_written(rules, tokens));
                Some(mask)
            }
            _ => None,
        };
        // Without a mask there is nothing to predict.
        let asked = mask.is_none() || (0..dataset.len()).any(|row| dataset.labelled(row) > 0);
        let logits = match asked {
            true => self.logits(&dataset).with_context(|| name.to_owned())?,
            false => Vec::new(),
        };
        let Trained { tokenizer, targets, .. } = &self.trained;
        let answers = match mask {
            Some(mask) => {
                masked_words::answers(documents, &windows, &dataset, mask, &logits, |id| {
                    tokenizer.word(id)
                })
            }
            None => {
                let logits = TokenLogits::new(&logits, &dataset, targets.outputs());
                targets.answers(documents, &windows, &logits)
            }
        };
        if mask.is_some() {
            let empty = |answer: &&Prediction| answer.record["masks"] == json!([]);
            self.without_mask += answers.iter().filter(empty).count();
        }
        for (answer, document) in answers.iter().zip(documents) {
            match self.format {
                OutputFormat::Squad => {
                    let here = place(name, document.line);
                    let id = document.id.as_ref();
                    let id = id.with_context(|| {
                        format!("{here}: the question has no id, which --output-format squad needs")
                    })?;
                    let first = self.ids.is_empty();
                    if !self.ids.insert(id.clone()) {
                        bail!(
                            "{here}: the id {id:?} is used twice, and --output-format squad has one answer per id"
                        );
                    }
                    let text = &answer.record["answer"];
                    write!(out, "{}\n {}: {text}", if first { "" } else { "," }, json!(id))?;
                }
                OutputFormat::Jsonl => writeln!(out, "{}", answer.record)?,
                OutputFormat::Tsv => {
                    for line in &answer.lines {
                        self.line(line, out)?;
                    }
                }
            }
        }
        Ok(counts)
    }

    fn logits(&mut self, dataset: &Dataset) -> Result<Vec<f32>> {
        let batches = evaluation_batches(&dataset.lengths(), self.limits)?;
        logits(&mut self.trained.session, dataset, &batches, |_| {})
    }

    fn header(&mut self, out: &mut impl Write) -> Result<()> {
        let columns = self.trained.targets.columns();
        match self.format {
            OutputFormat::Tsv if !columns.is_empty() => self.line(&self.shown.fields(columns), out),
            OutputFormat::Squad => Ok(write!(out, "{{")?),
            _ => Ok(()),
        }
    }

    fn row(&mut self, logits: &[f32], out: &mut impl Write) -> Result<()> {
        match self.format {
            OutputFormat::Tsv => {
                let fields = self.shown.fields(self.trained.targets.fields(logits));
                self.line(&fields, out)
            }
            // The squad format is for documents.
            OutputFormat::Jsonl | OutputFormat::Squad => {
                let targets = &self.trained.targets;
                let record = self.shown.record(targets.record(logits), targets.names());
                Ok(writeln!(out, "{record}")?)
            }
        }
    }

    /// Outside input may contain a tab, which must not break our table.
    fn line(&mut self, fields: &[String], out: &mut impl Write) -> Result<()> {
        self.respelled += fields.iter().filter(|field| field.contains(BREAKS)).count();
        let fields: Vec<_> = fields.iter().map(|field| clean(field, self.terminal)).collect();
        Ok(writeln!(out, "{}", fields.join("\t"))?)
    }
}

/// What a tsv field cannot contain.
const BREAKS: [char; 3] = ['\t', '\n', '\r'];

/// A tsv field: no tabs, no line breaks, and nothing that controls the terminal on which it is read.
fn clean(text: &str, terminal: bool) -> String {
    let text = text.replace(BREAKS, " ");
    if terminal { tame(&text) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_one_and_is_escaped_for_a_terminal_alone() {
        assert_eq!(clean("a\tb\r\n\u{1b}[2J", false), "a b  \u{1b}[2J");
        assert_eq!(clean("a\tb\u{1b}[2J", true), "a b\\u{1b}[2J");
    }
}
