//! Progress of a sweep: on a terminal one bar per active run and one for all, elsewhere a line for each finished run.
//! Notes of a run go to the log next to its folder.

use crate::commands::notes::{Hearer, Said, SaidAs};
use crate::commands::progress::minutes;
use crate::commands::say;
use crate::files::open_own;
use crate::stderr::line;
use anyhow::{Context, Result};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::File;
use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Shared by all threads of a sweep.
pub struct Board {
    bars: Option<Bars>,
    quiet: bool,
    state: Mutex<State>,
}

struct Bars {
    all: MultiProgress,
    overall: ProgressBar,
}

struct State {
    runs: usize,
    ended: usize,
    /// Those done by this process.
    made: usize,
    since: Instant,
    /// Warnings already given: once is enough.
    warned: HashSet<String>,
}

impl Board {
    /// For a sweep of `runs` runs, of which `ended` ended earlier.
    pub fn new(runs: usize, ended: usize, quiet: bool) -> Arc<Self> {
        let bars = (!quiet && stderr().is_terminal()).then(|| {
            let all = MultiProgress::new();
            let overall = all.add(ProgressBar::new(runs as u64));
            styled(&overall, "{wide_bar} {pos}/{len} runs  {msg}");
            overall.set_position(ended as u64);
            Bars { all, overall }
        });
        let state = State { runs, ended, made: 0, since: Instant::now(), warned: HashSet::new() };
        Arc::new(Self { bars, quiet, state: Mutex::new(state) })
    }

    /// A run has ended, as `how` says.
    pub fn ended(&self, name: &str, how: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ended += 1;
        state.made += 1;
        let each = state.since.elapsed().div_f64(state.made as f64);
        let left = each.mul_f64((state.runs - state.ended.min(state.runs)) as f64);
        let left = format!("{} left", minutes(left));
        if let Some(bars) = &self.bars {
            bars.overall.set_position(state.ended as u64);
            bars.overall.set_message(left.clone());
        }
        let State { runs, ended, .. } = *state;
        drop(state);
        self.say(&format!("{name}: {how} ({ended} of {runs} runs, {left})"));
    }

    /// A line above the bars.
    pub fn say(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.all.suspend(|| say(self.quiet, text)),
            None => say(self.quiet, text),
        }
    }

    /// A possible problem with a run. One shared by several is reported for the first.
    fn warn(&self, name: &str, text: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.warned.insert(text.to_owned()) {
            return;
        }
        drop(state);
        let text = match text.strip_prefix("warning: ") {
            Some(text) => format!("warning: {name}: {text}"),
            None => format!("{name}: {text}"),
        };
        let print = || line(&text);
        match &self.bars {
            Some(bars) => bars.all.suspend(print),
            None => print(),
        }
    }

    /// Removes the bars.
    pub fn finish(&self) {
        if let Some(bars) = &self.bars {
            bars.overall.finish_and_clear();
            let _ = bars.all.clear();
        }
    }
}

fn styled(bar: &ProgressBar, template: &str) {
    // The templates are constants that a test parses; a bar without a style is still a bar.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
}

const OF_A_RUN: &str = "{prefix} {wide_bar} {pos}/{len}  {msg}";

/// The log of a run of this name.
pub fn log_file(output: &Path, name: &str) -> PathBuf {
    output.join(format!("{name}.log"))
}

/// Records the messages of a run.
pub struct Log {
    board: Arc<Board>,
    name: String,
    file: RefCell<File>,
    bar: RefCell<Option<ProgressBar>>,
}

impl Log {
    /// Appends to the existing log.
    ///
    /// # Errors
    /// A file that cannot be created.
    pub fn open(board: &Arc<Board>, output: &Path, name: &str) -> Result<Rc<Self>> {
        let path = log_file(output, name);
        let file = open_own(&path, File::options().append(true).create(true));
        let file = file.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Rc::new(Self {
            board: Arc::clone(board),
            name: name.to_owned(),
            file: RefCell::new(file),
            bar: RefCell::default(),
        }))
    }

    /// A line from the sweep itself.
    pub fn line(&self, text: &str) {
        // A log that cannot be written is no reason to stop.
        let _ = writeln!(self.file.borrow_mut(), "{text}");
    }
}

impl Hearer for Log {
    fn hear(&self, Said { kind, text }: &Said) {
        self.line(text.trim_end_matches('\n'));
        if *kind == SaidAs::Warning {
            self.board.warn(&self.name, text);
        }
    }

    fn bar(&self, total: u64, first: u64) -> Option<ProgressBar> {
        let bars = self.board.bars.as_ref()?;
        let bar = bars.all.insert_before(&bars.overall, ProgressBar::new(total));
        styled(&bar, OF_A_RUN);
        bar.set_prefix(self.name.clone());
        bar.set_position(first);
        bar.reset_eta();
        // A run that fails leaves its bar to this.
        self.bar.replace(Some(bar.clone()));
        Some(bar)
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bars_have_their_style() {
        for template in [OF_A_RUN, "{wide_bar} {pos}/{len} runs  {msg}"] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }

    #[test]
    fn a_run_writes_its_own_log_and_goes_on_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let board = Board::new(2, 0, true);
        for text in ["a", "b\nc\n"] {
            let log = Log::open(&board, folder.path(), "x").unwrap();
            assert!(log.bar(10, 0).is_none(), "standard error is no terminal here");
            log.hear(&Said { kind: SaidAs::Note, text: text.to_owned() });
        }
        let written = std::fs::read_to_string(log_file(folder.path(), "x")).unwrap();
        assert_eq!(written, "a\nb\nc\n");
    }
}
