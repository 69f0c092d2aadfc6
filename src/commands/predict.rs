//! `bitfit predict`: labels for a stream of texts, in constant memory.

use super::base::say_counts;
use super::counter::Counter;
use super::trained::Trained;
use super::{outputs, read_options, say, set_threads, submission};
use crate::batch::Labels;
use crate::cli::{OutputFormat, PredictArgs};
use crate::data::{
    BatchLimits, Dataset, FileFormat, LabelUse, Row, RowReader, TextCounts, evaluation_batches,
    rows,
};
use crate::error::tame;
use crate::files::write_atomic;
use crate::program::Limits;
use crate::train::evaluate::logits;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Read, Write, stdin, stdout};
use std::path::Path;

/// Texts read and sorted by length at a time.
const CHUNK: usize = 1024;
/// Tokens a batch where the user sets no limit: more brings no speed, and memory is planned for it.
const TOKENS: usize = 8192;

pub fn run(args: &PredictArgs) -> Result<()> {
    set_threads(args.compute.threads)?;
    if let Some(folder) = &args.predict_test {
        return submission::run(args, folder);
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
    let mut trained = Trained::open(&args.delta, args.model.as_deref(), &args.compute)?;
    outputs::no_input("--output", written, &[&trained.base])?;
    let max_len = trained.tokenizer.options().max_len;
    let limits = BatchLimits {
        sequences: args.compute.batch_size,
        tokens: Some(args.compute.batch_tokens.unwrap_or(TOKENS)),
    };
    let tokens = limits.tokens.unwrap_or(TOKENS).max(max_len);
    // No text is without a token.
    trained.prepare(Limits { tokens, sequences: limits.sequences.min(tokens), max_len })?;
    let mut predictor = Predictor {
        trained,
        limits,
        format: args.output_format,
        terminal: args.writes_stdout() && stdout().is_terminal(),
        quiet: args.compute.quiet,
    };

    let options = read_options(&args.columns, LabelUse::Ignored, &predictor.trained.info);
    let (input, name, default): (Box<dyn Read>, _, _) = if args.reads_stdin() {
        let name = "standard input".to_owned();
        (Box::new(stdin().lock()), name, Some(FileFormat::Tsv))
    } else {
        let name = args.input.display().to_string();
        let file = File::open(&args.input).with_context(|| format!("cannot open {name}"))?;
        (Box::new(file), name, None)
    };
    let format = match options.format.or(default) {
        Some(format) => format,
        None => FileFormat::from_path(&args.input)?,
    };
    // Of a file all is there; a pipe may have someone behind it who waits for an answer.
    let whole = path.is_file();
    let rows = rows(input, &name, format, &options)?;

    // Only where the predictions go elsewhere is there room for a bar.
    let quiet = args.compute.quiet || args.writes_stdout();
    let counter = Counter::new("predicting", None, quiet);
    let counts = if args.writes_stdout() {
        let mut out = BufWriter::new(stdout().lock());
        predictor.stream(rows, whole, &mut out, &counter)?
    } else {
        let mut counts = TextCounts::default();
        write_atomic(&args.output, |out| {
            counts = predictor.stream(rows, whole, &mut BufWriter::new(out), &counter)?;
            Ok(())
        })?;
        counts
    };
    drop(counter);
    say_counts(args.compute.quiet, &name, counts, max_len);
    Ok(())
}

struct Predictor {
    trained: Trained,
    limits: BatchLimits,
    format: OutputFormat,
    /// That the predictions go to.
    terminal: bool,
    quiet: bool,
}

impl Predictor {
    /// Predicts chunk after chunk; what a chunk gave is written before the next is read. A chunk is some rows of a whole
    /// file, and of a pipe what is there: a row is answered before the next is waited for.
    fn stream<R: Read>(
        &mut self,
        mut rows: RowReader<R>,
        whole: bool,
        out: &mut impl Write,
        counter: &Counter,
    ) -> Result<TextCounts> {
        let mut total = TextCounts::default();
        let mut columns = None;
        self.header(out)?;
        if !whole {
            out.flush()?;
        }
        loop {
            // A bad row ends the run, but not before the rows ahead of it are done.
            let mut chunk = Vec::with_capacity(CHUNK);
            let mut failed = None;
            while let Some(row) = rows.next() {
                match row {
                    Ok(row) => chunk.push(row),
                    Err(error) => failed = Some(error),
                }
                if chunk.len() == CHUNK || !(whole || rows.ready()) {
                    break;
                }
            }
            if failed.is_none() {
                rows.complete()?;
            }
            let now = rows.columns();
            if now != columns {
                if let Some(now) = &now {
                    say(self.quiet, format_args!("{}: {now}", rows.name()));
                }
                columns = now;
            }
            if !chunk.is_empty() {
                let counts = self.chunk(rows.name(), &chunk, out)?;
                total.truncated += counts.truncated;
                total.empty += counts.empty;
                counter.add(chunk.len());
            }
            out.flush()?;
            if let Some(error) = failed {
                return Err(error);
            }
            if chunk.is_empty() {
                return Ok(total);
            }
        }
    }

    fn chunk(&mut self, name: &str, rows: &[Row], out: &mut impl Write) -> Result<TextCounts> {
        let Trained { tokenizer, session, .. } = &mut self.trained;
        let (dataset, counts) = Dataset::build(rows, Labels::None, tokenizer, &|_| {})
            .with_context(|| name.to_owned())?;
        let batches = evaluation_batches(&dataset.lengths(), self.limits)?;
        let outputs = session.model().head.outputs();
        let logits = logits(session, &dataset, &batches, |_| {})?;
        for row in logits.chunks_exact(outputs) {
            self.row(row, out)?;
        }
        Ok(counts)
    }

    fn header(&self, out: &mut impl Write) -> Result<()> {
        if self.format == OutputFormat::Tsv {
            self.line(&self.trained.targets.columns(), out)?;
        }
        Ok(())
    }

    fn row(&self, logits: &[f32], out: &mut impl Write) -> Result<()> {
        match self.format {
            OutputFormat::Tsv => self.line(&self.trained.targets.fields(logits), out),
            OutputFormat::Jsonl => Ok(writeln!(out, "{}", self.trained.targets.record(logits))?),
        }
    }

    /// A label with a tab in it cannot come from a tsv; from elsewhere it must not break ours.
    fn line(&self, fields: &[String], out: &mut impl Write) -> Result<()> {
        let fields: Vec<_> = fields.iter().map(|field| clean(field, self.terminal)).collect();
        Ok(writeln!(out, "{}", fields.join("\t"))?)
    }
}

/// A tsv field: no tabs, no line breaks, and nothing that steers a terminal where one reads it.
fn clean(text: &str, terminal: bool) -> String {
    let text = text.replace(['\t', '\n', '\r'], " ");
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
