//! Progress of a run: a bar on a terminal, an occasional line in a log, or nothing.

use std::time::{Duration, Instant};

use super::notes::{listener, on_terminal};
use super::{say, warn};
use crate::train::run::Watch;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Time between lines in a log.
const LINE_EVERY: Duration = Duration::from_secs(15);
/// Weight of the newest step in the displayed loss and speed. Display only: `metrics.jsonl` has each step's own values.
const NEWEST: f64 = 0.1;

enum Form {
    Bar(ProgressBar),
    Lines { next: Instant },
    Quiet,
}

/// Displays the progress of a run on standard error.
pub struct Progress {
    form: Form,
    state: State,
}

/// What is displayed, independent of how.
struct State {
    total: u64,
    step: u64,
    /// Step at which this process began: a resumed run has already done some.
    first: u64,
    loss: Option<f64>,
    tokens_per_s: Option<f64>,
    started: Instant,
}

impl Progress {
    /// Progress of a run of `total` steps that is at step `first`. `quiet` shows nothing; without a terminal, a plain
    /// line now and then.
    pub fn new(total: u64, first: u64, quiet: bool) -> Self {
        let form = if quiet || super::silent() {
            Form::Quiet
        } else if on_terminal() {
            Form::Bar(bar(total, first))
        } else if let Some(bar) = listener().and_then(|listener| listener.bar(total, first)) {
            Form::Bar(bar)
        } else {
            Form::Lines { next: Instant::now() + LINE_EVERY }
        };
        Self { form, state: State::new(total, first) }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Form::Bar(bar) = &self.form {
            bar.finish_and_clear();
        }
    }
}

impl Watch for Progress {
    fn step(&mut self, step: u64, loss: f64, tokens_per_s: f64) {
        self.state.update(step, loss, tokens_per_s);
        match &mut self.form {
            Form::Bar(bar) => {
                bar.set_position(step);
                bar.set_message(self.state.figures());
            }
            Form::Lines { next } => {
                let now = Instant::now();
                if now >= *next {
                    *next = now + LINE_EVERY;
                    say(false, self.state.line(now));
                }
            }
            Form::Quiet => {}
        }
    }

    /// Shows a line above the bar: an evaluation, a warning, a saved checkpoint. Nothing when quiet.
    fn note(&mut self, text: &str) {
        match &self.form {
            Form::Bar(bar) => above(bar, || say(false, text)),
            Form::Lines { .. } => say(false, text),
            Form::Quiet => {}
        }
    }

    /// The same, even if quiet.
    fn warn(&mut self, text: &str) {
        match &self.form {
            Form::Bar(bar) => above(bar, || warn(text)),
            Form::Lines { .. } | Form::Quiet => warn(text),
        }
    }
}

/// A listener's bar stays where it is: the listener knows where its lines go.
fn above(bar: &ProgressBar, print: impl FnOnce()) {
    match listener() {
        None => bar.suspend(print),
        Some(_) => print(),
    }
}

fn bar(total: u64, first: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len}  {msg}  ETA {eta}");
    // The template is a constant that a test parses; a bar without a style is still a bar.
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_position(first);
    // Otherwise the steps of an earlier process would count as done in no time.
    bar.reset_eta();
    bar
}

impl State {
    fn new(total: u64, first: u64) -> Self {
        Self { total, step: first, first, loss: None, tokens_per_s: None, started: Instant::now() }
    }

    fn update(&mut self, step: u64, loss: f64, tokens_per_s: f64) {
        let smooth = |shown: Option<f64>, new: f64| match shown {
            Some(shown) if shown.is_finite() => Some(shown + NEWEST * (new - shown)),
            _ => Some(new),
        };
        self.step = step;
        self.loss = smooth(self.loss, loss);
        self.tokens_per_s = smooth(self.tokens_per_s, tokens_per_s);
    }

    fn figures(&self) -> String {
        let loss = self.loss.unwrap_or(f64::NAN);
        let speed = self.tokens_per_s.unwrap_or(0.0);
        format!("loss {loss:.4}  {speed:.0} tokens/s")
    }

    fn line(&self, now: Instant) -> String {
        let eta = match self.remaining(now) {
            Some(remaining) => format!("  ETA {}", minutes(remaining)),
            None => String::new(),
        };
        format!("step {}/{}  {}{eta}", self.step, self.total, self.figures())
    }

    /// Time left at this process's average speed.
    fn remaining(&self, now: Instant) -> Option<Duration> {
        let done = self.step.checked_sub(self.first).filter(|&done| done > 0)?;
        let left = self.total.saturating_sub(self.step);
        let elapsed = now.saturating_duration_since(self.started).as_secs_f64();
        Duration::try_from_secs_f64(elapsed / done as f64 * left as f64).ok()
    }
}

/// A duration as `m:ss` or `h:mm:ss`.
pub fn minutes(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_has_step_loss_speed_and_time_left() {
        let mut state = State::new(100, 20);
        state.update(30, 0.5, 1000.0);
        // 10 steps in 20 s, 70 to go.
        let line = state.line(state.started + Duration::from_secs(20));
        assert_eq!(line, "step 30/100  loss 0.5000  1000 tokens/s  ETA 2:20");
    }

    #[test]
    fn the_time_left_is_unknown_before_the_first_step_and_zero_at_the_end() {
        let mut state = State::new(10, 4);
        assert_eq!(state.remaining(state.started), None);
        state.update(10, 0.1, 1.0);
        assert_eq!(state.remaining(state.started + Duration::from_secs(5)), Some(Duration::ZERO));
    }

    #[test]
    fn the_loss_shown_moves_by_a_tenth_and_recovers_from_nan() {
        let mut state = State::new(10, 0);
        state.update(1, 1.0, 100.0);
        state.update(2, 2.0, 100.0);
        assert!((state.loss.unwrap() - 1.1).abs() < 1e-12);
        state.update(3, f64::NAN, 100.0);
        state.update(4, 3.0, 100.0);
        assert_eq!(state.loss, Some(3.0));
    }

    #[test]
    fn the_bar_has_its_style_and_starts_where_the_run_stands() {
        assert!(ProgressStyle::with_template("{wide_bar} {pos}/{len}  {msg}  ETA {eta}").is_ok());
        assert_eq!(bar(10, 4).position(), 4);
    }

    #[test]
    fn durations_read_as_a_clock() {
        let shown = [(5, "0:05"), (65, "1:05"), (3600 + 62, "1:01:02")];
        for (seconds, text) in shown {
            assert_eq!(minutes(Duration::from_secs(seconds)), text);
        }
    }
}
