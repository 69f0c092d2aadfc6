//! The options of `train`, from the command line and a configuration file, combined into one [`TrainConfig`].

use super::config_file::FileOptions;
use super::train_args::TrainArgs;
use crate::error::UsageError;
use crate::settings::rate::Rate;
use crate::settings::train::{DevSource, Length, TrainConfig};
use crate::settings::validate::InvalidSetting;
use crate::train::output::SETTINGS_FILE;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

/// Checked settings, and two switches that affect how to run but not what.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainCommand {
    pub config: TrainConfig,
    /// Continue the run in the output folder.
    pub resume: bool,
    /// Where to write the answers to a named task's test rows.
    pub predict_test: Option<PathBuf>,
    /// No progress.
    pub quiet: bool,
}

impl TrainArgs {
    /// Reads the configuration file if one is named, fills in defaults, and checks everything.
    ///
    /// With `--resume` and no `--config`, the settings that the run left in its output folder serve as the file.
    ///
    /// # Errors
    /// A missing or contradictory option, a value out of range; with the line if the value comes from a file.
    pub fn resolve(self) -> Result<TrainCommand, UsageError> {
        let path = self.config.clone().or_else(|| self.settings_of_resumed_run());
        if let (Some(true), None, None) = (self.resume, &path, &self.model) {
            return Err(UsageError::new(match &self.output {
                None => "--resume: name the run's folder with --output".to_owned(),
                Some(output) if !output.is_dir() => {
                    format!("--resume: there is no folder {}", output.display())
                }
                Some(output) => format!(
                    "--resume: {} has no {SETTINGS_FILE}; give its run's settings again, or name a file with them with \
                     --config",
                    output.display()
                ),
            }));
        }
        let file = match &path {
            Some(path) if self.config.is_none() => FileOptions::read_for("--resume", path)?,
            Some(path) => FileOptions::read(path)?,
            None => FileOptions::default(),
        };
        let merged = self.clone().over(file.args.clone());
        let resume = merged.resume.unwrap_or(false);
        let quiet = merged.quiet.unwrap_or(false);
        let predict_test = merged.predict_test.clone();
        match (merged.complete(), path) {
            (Ok(config), _) if predict_test.is_some() && config.task.named().is_none() => {
                Err(UsageError::new(format!(
                    "--predict-test answers the test rows of a named task, and --task is {}",
                    config.task
                )))
            }
            (Ok(config), _) => Ok(TrainCommand { config, resume, predict_test, quiet }),
            (Err(invalid), Some(path)) => Err(match file.line_used(invalid.option, &self) {
                Some(line) => UsageError::new(format!("{}:{line}: {invalid}", path.display())),
                None => invalid.into(),
            }),
            (Err(invalid), None) => Err(invalid.into()),
        }
    }

    fn settings_of_resumed_run(&self) -> Option<PathBuf> {
        let settings = self.output.as_ref()?.join(SETTINGS_FILE);
        // What cannot be looked at may be there: reading it then says why it cannot be.
        let there = fs::metadata(&settings).map_or_else(
            |error| error.kind() == ErrorKind::PermissionDenied,
            |there| there.is_file(),
        );
        (self.resume == Some(true) && there).then_some(settings)
    }

    /// Fills in defaults and checks the whole.
    pub(super) fn complete(self) -> Result<TrainConfig, InvalidSetting> {
        let method = self.method.unwrap_or_default();
        let lora = self.lora.settings(&[method])?;
        let model = needed(self.model, "model", "a folder, or a name on the hub")?;
        let task = self.task.unwrap_or_default();
        if task.named().is_none() && self.train.is_none() && self.data.is_none() {
            needed(None::<()>, "train", "the file with labelled texts")?;
        }
        let output = needed(self.output, "output", "the folder for the run's files")?;
        let default = TrainConfig::with_defaults(model, self.train, output);
        let recipe = task.named().map(|task| task.recipe);
        let config = TrainConfig {
            weights: self.weights.unwrap_or(method.default_weights()),
            pooling: self.pooling.unwrap_or(default.pooling),
            pooler: self.pooler.unwrap_or(default.pooler),
            init_head: self.init_head,
            init_delta: self.init_delta,
            method,
            biases: self.biases.unwrap_or(default.biases),
            lora,
            dev: self.dev.map(DevSource::File).or(self.dev_fraction.map(DevSource::Fraction)),
            // "All" as a number: a list of sizes may end with it.
            train_rows: self.train_rows.filter(|&rows| rows > 0),
            format: self.format.unwrap_or(default.format),
            task,
            text_column: self.text_column,
            text_pair_column: self.text_pair_column,
            label_column: self.label_column,
            unlabelled: self.unlabelled.unwrap_or(default.unlabelled),
            label_separator: self.label_separator,
            class_weights: self.class_weights,
            max_length: self.max_length,
            stride: self.stride,
            max_answer_length: self.max_answer_length,
            mask_probability: self.mask_probability,
            whole_word_masking: self.whole_word_masking.unwrap_or(default.whole_word_masking),
            no_shuffle: self.no_shuffle.unwrap_or(default.no_shuffle),
            length: match (self.epochs, self.steps) {
                (Some(epochs), _) => Length::Epochs(epochs),
                (None, Some(steps)) => Length::Steps(steps),
                (None, None) => {
                    recipe.map_or(default.length, |recipe| Length::Epochs(recipe.epochs))
                }
            },
            batch_size: self
                .batch_size
                .unwrap_or(recipe.map_or(default.batch_size, |recipe| recipe.batch_size)),
            batch_tokens: self.batch_tokens,
            grad_accumulation: self.grad_accumulation.unwrap_or(default.grad_accumulation),
            lr: self.lr.unwrap_or(Rate::Is(TrainConfig::usual_lr(method, task))),
            betas: self.betas.unwrap_or(default.betas),
            eps: self.eps.unwrap_or(default.eps),
            weight_decay: self.weight_decay.unwrap_or(default.weight_decay),
            schedule: self
                .schedule
                .unwrap_or(recipe.map_or(default.schedule, |recipe| recipe.schedule)),
            warmup: self.warmup.unwrap_or(default.warmup),
            clip_norm: self.clip_norm.unwrap_or(default.clip_norm),
            dropout: self.dropout,
            seed: self.seed.unwrap_or(default.seed),
            eval_steps: self.eval_steps,
            metric: self.metric,
            patience: self.patience,
            saving: self.saving.unwrap_or(default.saving),
            memory: self.memory,
            save_steps: self.save_steps,
            save_minutes: self.save_minutes,
            tensorboard: self.tensorboard.unwrap_or(default.tensorboard),
            device: self.device.unwrap_or(default.device),
            precision: self.precision.unwrap_or(default.precision),
            threads: self.threads,
            model: default.model,
            train: default.train,
            data: self.data,
            output: default.output,
        };
        config.validate()?;
        Ok(config)
    }
}

fn needed<T>(value: Option<T>, option: &'static str, what: &str) -> Result<T, InvalidSetting> {
    value.ok_or_else(|| InvalidSetting {
        option,
        problem: format!("is missing: {what}; give it here or in the --config file"),
    })
}

#[cfg(test)]
#[path = "train_tests.rs"]
mod tests;
