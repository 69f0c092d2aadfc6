//! A terminal bar for work that is counted in rows or tokens.

use super::notes::on_terminal;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shown while it lives; nothing if standard error is not a terminal.
pub struct Counter(ProgressBar);

impl Counter {
    /// `total` is `None` for a stream of unknown length.
    pub fn new(what: &'static str, total: Option<u64>, quiet: bool) -> Self {
        let shown = !quiet && !super::silent() && on_terminal();
        let target =
            if shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(total, target).with_prefix(what);
        let template = match total {
            Some(_) => "{prefix} {wide_bar} {human_pos}/{human_len}  {per_sec}  ETA {eta}",
            None => "{prefix} {spinner} {human_pos}  {per_sec}",
        };
        // The templates are constants; a bar without a style is still a bar.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Callable from any thread.
    pub fn add(&self, n: usize) {
        self.0.inc(n as u64);
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
