//! Progress shown while a model or a dataset is fetched from the hub: a bar per file on a terminal, a line per file in
//! a log, or nothing.

use super::notes::on_terminal;
use super::say;
use crate::hub::{self, Event, Hub, HubName};
use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The folder of the model that `--model` names, fetched if necessary.
///
/// # Errors
/// As [`hub::resolve`].
pub fn model_folder(model: &str, quiet: bool) -> Result<PathBuf> {
    hub::resolve(model, &mut shown(model, quiet)).context("--model")
}

/// The folder of the base model that `owner`, a delta or an adapter, names.
///
/// # Errors
/// As [`hub::resolve`], with the advice to name the model.
pub fn base_folder(model: &str, owner: &str, quiet: bool) -> Result<PathBuf> {
    if hub::is_a_path(model) && !Path::new(model).exists() {
        bail!(
            "{owner} names {model} as its base model, and there is no such folder here: give --model"
        );
    }
    hub::resolve(model, &mut shown(model, quiet)).with_context(|| {
        format!("{owner} names {model} as its base model; give --model if that is elsewhere")
    })
}

/// The folder with the files of a dataset whose names `wanted` selects.
///
/// # Errors
/// As [`Hub::fetch_dataset`].
pub fn dataset_folder(
    name: &str,
    quiet: bool,
    wanted: &dyn Fn(&BTreeSet<String>) -> Result<Vec<String>>,
) -> Result<PathBuf> {
    Hub::from_env()?.fetch_dataset(&HubName::dataset(name)?, wanted, &mut shown(name, quiet))
}

/// Displays the events of a fetch.
fn shown(name: &str, quiet: bool) -> impl FnMut(Event<'_>) {
    let mut bar: Option<ProgressBar> = None;
    move |event| match event {
        _ if quiet => {}
        Event::Note(text) => say(false, text),
        Event::Begin { file, done, size } if on_terminal() => {
            bar = Some(begin(file, done, size));
        }
        Event::Begin { file, .. } => say(false, format_args!("fetching {file} of {name}")),
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
    }
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
