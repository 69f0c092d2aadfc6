//! What a person sees while a model comes from the hub: a bar per file on a terminal, a line per file in a log, or
//! nothing.

use super::say;
use crate::hub::{self, Event};
use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::path::PathBuf;

/// The folder of the model that `--model` names, fetched if need be.
///
/// # Errors
/// As [`hub::resolve`].
pub fn model_folder(model: &str, quiet: bool) -> Result<PathBuf> {
    let mut bar: Option<ProgressBar> = None;
    hub::resolve(model, &mut |event| match event {
        _ if quiet => {}
        Event::Note(text) => say(false, text),
        Event::Begin { file, done, size } if stderr().is_terminal() => {
            bar = Some(begin(file, done, size));
        }
        Event::Begin { file, .. } => say(false, format_args!("fetching {file} of {model}")),
        Event::Received(bytes) => {
            if let Some(bar) = &bar {
                bar.inc(bytes);
            }
        }
        Event::End => {
            if let Some(bar) = bar.take() {
                bar.finish_and_clear();
            }
        }
    })
}

fn begin(file: &str, done: u64, size: Option<u64>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(size, ProgressDrawTarget::stderr());
    let style =
        ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}");
    // The template is a constant that a test parses; a bar without a style is still a bar.
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar.set_message(file.to_string());
    bar.set_position(done);
    bar.reset_eta();
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_has_its_style_and_starts_where_the_file_stands() {
        let template = "{msg} {wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}";
        assert!(ProgressStyle::with_template(template).is_ok());
        assert_eq!(begin("x", 4, Some(10)).position(), 4);
    }
}
