//! Labelled rows as `train` and `eval` read them, and what to tell the user about them before anything is computed.

use super::base::say_counts;
use super::counter::Counter;
use super::{say, warn};
use crate::batch::Labels;
use crate::data::{
    Document, Documents, FileFormat, ReadOptions, Row, Table, TextTokenizer, Window,
    is_quoted_behind_space, place, word_places,
};
use crate::settings::choice::Unlabelled;
use crate::settings::no_answer::NoAnswer;
use crate::settings::task::Reads;
use crate::tasks::answers::{repeated_ids, some_unanswered};
use crate::tasks::examples::{Examples, InWindows, Prepared};
use crate::tasks::masked_words;
use crate::tasks::reading::{ReadWhole, read_documents};
use crate::tasks::remarks::{
    all_equal, contradictions, doubts, mark_doubt, respelled, spaced, told, without_rows,
};
use crate::tasks::tag_remarks::{tags, tags_for_words};
use crate::tasks::targets::Targets;
use crate::tasks::unlabelled::{Cells, settle};
use crate::words;
use anyhow::{Result, bail, ensure};
use std::collections::HashSet;
use std::path::Path;

/// How to handle rows without a label, and what the label cells are.
pub struct LabelRules<'a> {
    pub unlabelled: Unlabelled,
    pub cells: Cells<'a>,
}

/// Reads a file in the form its task needs.
///
/// # Errors
/// As [`Table::read`]; rows without a label, unless asked for.
pub fn read(
    path: &Path,
    options: &ReadOptions,
    rules: &LabelRules<'_>,
    quiet: bool,
) -> Result<Examples> {
    match rules.cells.task.facts().reads {
        Reads::Texts => texts(path, options, rules, quiet).map(Examples::Texts),
        reads @ (Reads::Words | Reads::Questions | Reads::Running) => {
            let ReadWhole { documents, told } = read_documents(rules.cells.task, path, options)?;
            let of_words = reads == Reads::Words;
            let sizes = match reads {
                Reads::Words => Some(documents.sizes()),
                Reads::Running => Some(words::count(documents.list.len(), "text")),
                // Questions are counted with their answers.
                _ => None,
            };
            let told = told.into_iter().chain(sizes);
            told.for_each(|told| say(quiet, format_args!("{}: {told}", documents.name)));
            if of_words && let Some(error) = tags_for_words(&documents.name, &documents.list) {
                bail!(error);
            }
            warn_of_long(&documents.name, &documents.list);
            warn_of_repeated_ids(&documents);
            Ok(Examples::Documents(documents))
        }
    }
}

/// Tokenizes examples with their labels, and describes them. `part` distinguishes rows of one file that are used
/// differently; `stride` is the overlap of windows, if the user set it.
///
/// # Errors
/// As [`Prepared::new`].
pub fn prepare(
    examples: Examples,
    part: &str,
    targets: &Targets,
    tokenizer: &TextTokenizer,
    stride: Option<usize>,
    quiet: bool,
) -> Result<Prepared> {
    let name = examples.name().to_owned();
    let (respelled, spaced) = match &examples {
        Examples::Texts(table) => {
            let labels = table.rows.iter().filter_map(|row| row.label.as_deref());
            let labels = labels.filter(|_| targets.classes().is_some());
            (respelled(targets, table), spaced(labels, "row"))
        }
        Examples::Documents(documents) => {
            let tags = documents.list.iter().flat_map(tags).map(String::as_str);
            (None, spaced(tags, "word"))
        }
    };
    let counter = Counter::new("tokenizing", Some(examples.len() as u64), quiet);
    let max_len = tokenizer.options().max_len;
    let stride = stride.unwrap_or(targets.stride(max_len));
    let (prepared, counts) =
        Prepared::new(examples, targets, tokenizer, stride, &|rows| counter.add(rows))?;
    drop(counter);
    ensure!(
        !matches!(targets, Targets::Words { .. }) || masked_words::hidden(&prepared.dataset) > 0,
        "{name}{part}: no text has a token that could be hidden (special tokens never are), so there is nothing to predict"
    );
    say(quiet, format_args!("{name}{part}: {}", told(targets, &prepared)));
    if let Some(text) = respelled {
        say(quiet, format_args!("{name}{part}: the label {text}"));
    }
    if let Some(text) = spaced {
        say(quiet, format_args!("{name}{part}: {text}"));
    }
    say_counts(quiet, &name, counts, max_len);
    if let Some(documents) = &prepared.documents {
        say_windows(quiet, &name, documents, max_len, stride);
    }
    Ok(prepared)
}

/// Warns of texts in columns that have more words than a sentence; true if there are any.
pub fn warn_of_long(name: &str, documents: &[Document]) -> bool {
    const LONG: usize = 500;
    let in_columns = |document: &&Document| !document.lines.is_empty();
    let long = documents.iter().filter(in_columns).filter(|text| text.words.len() > LONG);
    let (Some(first), count) = (long.clone().next(), long.count()) else {
        return false;
    };
    let more = match count - 1 {
        0 => String::new(),
        more => format!(" (and {more} more texts have over {LONG})"),
    };
    warn(format_args!(
        "{}: the text that begins here has {} words{more}; in a file with one word per line blank lines separate sentences: \
         put one after each",
        place(name, first.line),
        first.words.len()
    ));
    true
}

/// Warns of questions whose ids, if they have any, do not distinguish them.
fn warn_of_repeated_ids(documents: &Documents) {
    if let Some((count, first)) = repeated_ids(documents) {
        let have = if count == 1 { "question has" } else { "questions have" };
        warn(format_args!(
            "{}: {count} {have} the id of another question, the first {first}",
            documents.name
        ));
    }
}

/// Says which documents are read in parts, and which words cannot be read at all.
fn say_windows(
    quiet: bool,
    name: &str,
    InWindows { documents, windows }: &InWindows,
    max_len: usize,
    stride: usize,
) {
    let inside =
        |pair: &&[Window]| pair[0].document == pair[1].document && pair[0].tokens.start == 0;
    let long = windows.list.windows(2).filter(inside).count();
    if long > 0 {
        say(
            quiet,
            format_args!(
                "{name}: {long} of {} {} longer than {max_len} tokens and read in overlapping windows, {} in all; \
                 neighbouring windows share {stride} tokens",
                words::count(documents.list.len(), "text"),
                words::are(long),
                windows.list.len()
            ),
        );
    }
    let places = word_places(&documents.list, windows);
    let lost = places.iter().flatten().filter(|place| place.is_none()).count();
    if lost > 0 {
        say(
            quiet,
            format_args!(
                "{name}: {} {} no token, because the tokenizer drops their characters: nothing is learned from \
                 them, and they are answered with O, or with _ if there is no tag O",
                words::count(lost, "word"),
                words::have(lost)
            ),
        );
    }
}

/// Reads a table and says by which columns.
fn texts(path: &Path, options: &ReadOptions, rules: &LabelRules<'_>, quiet: bool) -> Result<Table> {
    let mut table = Table::read(path, options)?;
    say(quiet, format_args!("{}: {}", table.name, table.told()));
    // Before rows are left out, which would look like lines in between.
    if let Some((count, first)) = table.over_lines {
        let go = if count == 1 { "goes" } else { "go" };
        say(
            quiet,
            format_args!(
                "{}: {} {go} over several lines, the first starting on line {first}; if no text should, look for a \
                 stray quote there",
                table.name,
                words::count(count, "row")
            ),
        );
    }
    let dropped = settle(&mut table, rules.unlabelled, rules.cells)?;
    let rows = table.rows.len();
    if dropped > 0 {
        say(
            quiet,
            format_args!(
                "{}: {} without a label {} left out, {rows} {}",
                table.name,
                words::count(dropped, "row"),
                words::are(dropped),
                if rows == 1 { "stays" } else { "stay" }
            ),
        );
    }
    say_without_pair(quiet, &table.name, table.without_pair(), rows);
    let format = options.format.map_or_else(|| FileFormat::from_path(path), Ok)?;
    match format {
        FileFormat::Tsv => refuse_quotes(&table, quiet)?,
        FileFormat::Csv => refuse_spaced_quotes(&table)?,
        _ => {}
    }
    Ok(table)
}

/// Says how many of the rows that should have two texts have one.
pub fn say_without_pair(quiet: bool, name: &str, without: usize, rows: usize) {
    match without {
        0 => {}
        all if all == rows => {
            warn(format_args!("{name}: the column for the second text is empty in every row"))
        }
        some => say(quiet, format_args!("{name}: no second text for {some} of {rows} rows")),
    }
}

/// A tsv is read without quoting, but some programs write it with quotes.
fn refuse_quotes(table: &Table, quiet: bool) -> Result<()> {
    let quoted = |text: &str| text.len() > 1 && text.starts_with('"') && text.ends_with('"');
    let label = |row: &&Row| quoted(row.label.as_deref().unwrap_or_default().trim());
    let labels: Vec<_> = table.rows.iter().filter(label).collect();
    if let Some(first) = labels.first() {
        bail!(
            "{}: the label {} is in quotes, which are ordinary characters in a tsv, as in {} of {} rows; save the file \
             without quotes, or as csv",
            place(&table.name, first.line),
            first.label.as_deref().unwrap_or_default(),
            labels.len(),
            table.rows.len()
        );
    }
    let texts = || {
        let pair = |row: &Row| row.text_pair.clone().unwrap_or_default();
        table.rows.iter().filter(move |row| quoted(&row.text) || quoted(&pair(row)))
    };
    // Programs quote a field that contains quotes, and double these.
    let doubled =
        |text: &str| quoted(text) && text.len() > 2 && text[1..text.len() - 1].contains("\"\"");
    let has_doubled =
        |row: &&Row| doubled(&row.text) || row.text_pair.as_deref().is_some_and(doubled);
    if let Some(first) = texts().find(has_doubled) {
        warn(format_args!(
            "{}: {} in quotes with doubled quotes inside, the first on line {}, as in a csv, and all these quotes \
             are part of \
             the text: a tsv has no quoting; save the file without them, or as csv",
            table.name,
            match texts().filter(has_doubled).count() {
                1 => "1 text is".to_owned(),
                many => format!("{many} texts are"),
            },
            first.line
        ));
    } else if table.rows.len() > 1 && table.rows.iter().all(|row| quoted(&row.text)) {
        warn(format_args!(
            "{}: every text begins and ends with a quote, which is part of the text: a tsv has no quoting; save the \
             file without them, or as csv",
            table.name
        ));
    } else if let Some(first) = texts().next() {
        let number = texts().count();
        say(
            quiet,
            format_args!(
                "{}: {} and {} with a quote, the first on line {}: quotes are part of the text in a tsv",
                table.name,
                match number {
                    1 => "1 text begins".to_owned(),
                    many => format!("{many} texts begin"),
                },
                if number == 1 { "ends" } else { "end" },
                first.line
            ),
        );
    }
    Ok(())
}

/// A csv quote after a space is an ordinary character.
fn refuse_spaced_quotes(table: &Table) -> Result<()> {
    let label = |row: &&Row| is_quoted_behind_space(row.label.as_deref().unwrap_or_default());
    if let Some(first) = table.rows.iter().find(label) {
        bail!(
            "{}: the label{} begins with a space and a quote, and a quote after a space is an ordinary character in a \
             csv; remove the space",
            place(&table.name, first.line),
            first.label.as_deref().unwrap_or_default()
        );
    }
    let spaced = table.rows.iter().filter(|row| is_quoted_behind_space(&row.text));
    if let Some(Row { line: first, .. }) = spaced.clone().next() {
        let number = spaced.count();
        warn(format_args!(
            "{}: {} {} a space and a quote at the beginning, the first on line {first}: a quote after a space is an \
             ordinary character in a csv",
            table.name,
            words::count(number, "text"),
            words::have(number)
        ));
    }
    Ok(())
}

/// Says for which texts a limit on the tokens per batch is too small.
pub fn say_beyond_limit(quiet: bool, lengths: &[u32], most: Option<usize>) {
    let Some(most) = most else { return };
    let beyond = lengths.iter().filter(|&&length| length as usize > most);
    let Some(longest) = beyond.clone().max() else { return };
    let number = beyond.count();
    say(
        quiet,
        format_args!(
            "--batch-tokens {most}: {number} of {} {} longer, up to {longest} tokens: each such text is a batch of its own",
            words::count(lengths.len(), "text"),
            words::are(number),
        ),
    );
}

/// Says which texts would be learned with conflicting labels.
pub fn say_contradictions(quiet: bool, examples: &Examples, targets: &Targets) {
    // A label that cannot be read is refused in its place.
    if let Some(table) = examples.table()
        && let Ok(labels) = targets.read(table)
        && let Some(text) = contradictions(table, &labels)
    {
        say(quiet, format_args!("{}: {text}", table.name));
    }
}

/// Warns of what no measure can show on the rows to evaluate on.
pub fn warn_of_evaluated(targets: &Targets, prepared: &Prepared) {
    let labels = prepared.labels();
    if let Some(classes) = targets.named()
        && let Some(names) = without_rows(classes, labels)
    {
        warn(format_args!(
            "no row to evaluate on has the label {names}: the measures say nothing about it"
        ));
    }
    if let (Targets::Values { outputs: 1, .. }, Labels::Values(values)) = (targets, labels)
        && all_equal(values)
    {
        warn(
            "every row to evaluate on has the same number for its label: pearson and spearman are undefined and \
             shown as 0",
        );
    }
    if let (&Targets::Values { outputs, .. }, Labels::Values(values)) = (targets, labels)
        && outputs > 1
    {
        match constant_numbers(outputs, values).as_slice() {
            [] => {}
            same => warn(format_args!(
                "every row to evaluate on has the same value for number {}: its correlations are undefined and count as 0 \
                 in the mean over all numbers",
                same.join(", ")
            )),
        }
    }
    if targets.no_answer() == Some(NoAnswer::Never) && some_without_answer(prepared) {
        warn(
            "some questions to evaluate on have no answer, but the model always gives one, as every question it was trained \
             on had one: these count as wrong",
        );
    }
}

/// Warns of numbers to evaluate on that may mark missing values.
pub fn warn_of_marks(targets: &Targets, prepared: &Prepared) {
    if let (Targets::Values { .. }, Labels::Values(values)) = (targets, prepared.labels())
        && let Some(doubt) = mark_doubt(values, "measured")
    {
        warn(doubt);
    }
}

/// The numbers, counted from 1, that are constant over several rows.
fn constant_numbers(outputs: usize, values: &[f32]) -> Vec<String> {
    let same = |&output: &usize| {
        let column: Vec<f32> = values.iter().skip(output).step_by(outputs).copied().collect();
        column.len() > 1 && all_equal(&column)
    };
    (0..outputs).filter(same).map(|output| (output + 1).to_string()).collect()
}

/// Says how many of the rows to evaluate on have texts from training: memorised texts measure nothing.
pub fn say_shared(quiet: bool, train: &Examples, dev: &Examples) {
    let trained: HashSet<_> = train.texts().into_iter().collect();
    let rows = dev.len();
    match dev.texts().iter().filter(|texts| trained.contains(texts)).count() {
        0 => {}
        all if all == rows => warn(format_args!(
            "{}: the text of every row to evaluate on is also trained on: the measures do not say how good the model is on \
             new texts",
            dev.name()
        )),
        some => say(
            quiet,
            format_args!(
                "{}: {some} of {rows} rows to evaluate on have a text that is also trained on",
                dev.name()
            ),
        ),
    }
}

/// Whether the evaluation includes questions without an answer.
fn some_without_answer(dev: &Prepared) -> bool {
    dev.documents.as_ref().is_some_and(|dev| some_unanswered(&dev.documents))
}

/// Warns if questions may have no answer and no dev rows determine the threshold.
fn warn_of_threshold(targets: &Targets, dev: Option<&Prepared>) {
    if let Some(NoAnswer::Above(threshold)) = targets.no_answer()
        && !dev.is_some_and(some_without_answer)
    {
        warn(format_args!(
            "some questions to train on have no answer, but all to evaluate on have one: the threshold for giving no \
             answer stays at {threshold}; eval and predict take another with --no-answer-threshold"
        ));
    }
}

/// Warns of possible mistakes in the labels of a run: `train` are the rows that it learns from.
pub fn warn_of_labels(targets: &Targets, train: &Labels, dev: Option<&Prepared>) {
    for doubt in doubts(targets, train) {
        warn(doubt);
    }
    if let Some(classes) = targets.named()
        && let Some(names) = without_rows(classes, train)
    {
        warn(format_args!("no row to train on has the label {names}: it cannot be learned"));
    }
    match train {
        Labels::Spans(spans) if spans.iter().all(|span| *span == [0, 0]) => warn(
            "no text to train on has the answer to its question in it: the model can only learn to give no answer",
        ),
        _ => warn_of_threshold(targets, dev),
    }
    if let Some(dev) = dev {
        warn_of_evaluated(targets, dev);
    }
}
