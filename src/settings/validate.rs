//! Valid settings: the range of each value, and constraints between values.

use super::biases::BiasSelection;
use super::choice::{PoolerInit, Pooling, WeightStorage};
use super::lora::{Lora, MOST_RANK};
use super::method::{Adds, Facts, Method, TrainedBiases};
use super::schedule::Warmup;
use super::task::{Reads, Task};
use super::train::{DevSource, Length, TrainConfig};
use super::weighting::Weighting;
use crate::error::UsageError;
use crate::program::LossKind;
use std::fmt;

/// More threads than this would take longer to start than any run would gain from them.
pub const MOST_THREADS: usize = 1024;

/// An invalid setting: the option's name without dashes, and the problem with its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--{option} {problem}")]
pub struct InvalidSetting {
    pub option: &'static str,
    pub problem: String,
}

impl From<InvalidSetting> for UsageError {
    fn from(invalid: InvalidSetting) -> Self {
        UsageError::new(invalid.to_string())
    }
}

/// `Ok` if `holds`, else "--option must …, got …".
fn require(
    holds: bool,
    option: &'static str,
    must: &str,
    value: &dyn fmt::Display,
) -> Result<(), InvalidSetting> {
    if holds {
        return Ok(());
    }
    let mut value = value.to_string();
    // In full, 1e30 has 31 digits.
    if value.len() > 20
        && let Ok(number) = value.parse::<f64>()
    {
        value = format!("{number:e}");
    }
    Err(InvalidSetting { option, problem: format!("must {must}, got {value}") })
}

/// The optimizer computes in f32, in which a value must also be valid: not rounded to 0 or infinity.
fn single(option: &'static str, value: f64) -> Result<(), InvalidSetting> {
    let near = value as f32;
    let kept = near.is_finite() && (value == 0.0 || near.abs() >= f32::MIN_POSITIVE);
    require(kept, option, "be a number that single precision has", &value)
}

fn below_one(option: &'static str, value: f64) -> Result<(), InvalidSetting> {
    require((value as f32) < 1.0, option, "be below 1 in single precision", &value)
}

/// # Errors
/// A number that is not a valid dropout probability.
pub fn dropout(value: f64) -> Result<(), InvalidSetting> {
    require((0.0..1.0).contains(&value), "dropout", "be from 0 to below 1", &value)?;
    single("dropout", value)?;
    below_one("dropout", value)
}

/// # Errors
/// A new pooler for a model that uses none.
pub fn pooler(pooling: Pooling, from: PoolerInit) -> Result<(), InvalidSetting> {
    if pooling == Pooling::Mean && from == PoolerInit::Reinit {
        let problem = "reinit does not apply to --pooling mean, which has no pooler".to_owned();
        return Err(InvalidSetting { option: "pooler", problem });
    }
    Ok(())
}

/// # Errors
/// An invalid setting for low-rank products.
pub fn lora(lora: &Lora) -> Result<(), InvalidSetting> {
    let (rank, alpha) = (lora.rank, lora.alpha);
    let fits = (1..=MOST_RANK).contains(&rank);
    require(fits, "lora-rank", &format!("be from 1 to {MOST_RANK}"), &rank)?;
    let kept = alpha.is_finite() && alpha > 0.0 && lora.scale().is_normal();
    require(kept, "lora-alpha", "be a number above 0 that single precision has", &alpha)?;
    let below = (0.0..1.0).contains(&lora.dropout) && (lora.dropout as f32) < 1.0;
    require(below, "lora-dropout", "be from 0 to below 1", &lora.dropout)
}

/// # Errors
/// A method that trains what the task's head shares with the embeddings.
pub fn method_for(task: Task, method: Method) -> Result<(), InvalidSetting> {
    let facts = method.facts();
    let trains = match facts.adds {
        Adds::Entries => Some("draws among the encoder's values"),
        _ if !facts.freezes_weights => Some("trains the whole encoder"),
        _ => None,
    };
    if task.facts().reads == Reads::Running
        && let Some(trains) = trains
    {
        let problem = format!(
            "{method} is not for --task {task}: it {trains}, and the table of the words is also the matrix of the head"
        );
        return Err(InvalidSetting { option: "method", problem });
    }
    Ok(())
}

impl TrainConfig {
    /// Checks the range of every value and the constraints between values.
    ///
    /// # Errors
    /// The first invalid setting, with what is allowed.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        self.validate_paths()?;
        self.validate_numbers()?;
        self.validate_method()?;
        let problem =
            |option, problem: &str| Err(InvalidSetting { option, problem: problem.to_string() });
        if self.model.trim().is_empty() {
            return problem("model", "must name a folder or a model on the hub, but is empty");
        }
        pooler(self.pooling, self.pooler)?;
        self.validate_rows()?;
        if let Some(metric) = self.metric.filter(|metric| !metric.fits(self.task)) {
            let measures = self.task.measures();
            let fitting = measures.iter().map(|metric| metric.name());
            let fitting = fitting.chain(["loss"]).collect::<Vec<_>>().join(", ");
            return problem(
                "metric",
                &format!("{metric} does not fit --task {}; use {fitting}", self.task),
            );
        }
        let facts = self.task.kind().facts();
        let running = facts.reads == Reads::Running;
        if self.class_weights.is_some() && (facts.loss != LossKind::CrossEntropy || running) {
            return problem(
                "class-weights",
                &format!("needs classes, and --task {} has none", self.task),
            );
        }
        if let Some(separator) = &self.label_separator {
            if !self.task.takes_lists() {
                let one = format!(
                    "splits a cell into labels, but --task {} has one per text; for several use --task multi-label",
                    self.task
                );
                return problem("label-separator", &one);
            }
            if separator.is_empty() {
                return problem("label-separator", "must not be empty");
            }
        }
        self.validate_reading()?;
        if !self.has_dev() {
            let without = "needs rows to evaluate on: give --dev FILE or --dev-fraction too";
            if self.eval_steps.is_some() {
                return problem("eval-steps", without);
            }
            if self.metric.is_some() {
                return problem("metric", without);
            }
            if self.patience.is_some() {
                return problem("patience", without);
            }
        }
        Ok(())
    }

    /// Checks that a run's paths can be stored in its `settings.toml`.
    fn validate_paths(&self) -> Result<(), InvalidSetting> {
        let dev = match &self.dev {
            Some(DevSource::File(path)) => Some(path),
            _ => None,
        };
        let weights = match &self.class_weights {
            Some(Weighting::File(path)) => Some(path),
            _ => None,
        };
        let paths = [
            ("init-head", self.init_head.as_ref()),
            ("train", self.train.as_ref()),
            ("data", self.data.as_ref()),
            ("dev", dev),
            ("class-weights", weights),
            ("output", Some(&self.output)),
        ];
        let named = paths.into_iter().filter_map(|(option, path)| Some((option, path?)));
        match named.into_iter().find(|(_, path)| path.to_str().is_none()) {
            None => Ok(()),
            Some((option, path)) => Err(InvalidSetting {
                option,
                problem: format!(
                    "is {path:?}, which is not UTF-8 and cannot be recorded in the run's settings: rename it"
                ),
            }),
        }
    }

    /// Checks settings that depend on the task's examples.
    fn validate_reading(&self) -> Result<(), InvalidSetting> {
        let facts = self.task.kind().facts();
        let asks = facts.reads == Reads::Questions;
        let running = facts.reads == Reads::Running;
        method_for(self.task.kind(), self.method)?;
        let given = [
            ("pooling", facts.each_token && self.pooling != Pooling::Auto),
            ("pooler", facts.each_token && self.pooler != PoolerInit::Keep),
            ("text-column", asks && self.text_column.is_some()),
            ("label-column", (asks || running) && self.label_column.is_some()),
            ("init-head", running && self.init_head.is_some()),
            ("mask-probability", !running && self.mask_probability.is_some()),
            ("whole-word-masking", !running && self.whole_word_masking),
            ("max-answer-length", !asks && self.max_answer_length.is_some()),
            ("text-pair-column", facts.reads != Reads::Texts && self.text_pair_column.is_some()),
            ("unlabelled", facts.reads != Reads::Texts && !self.unlabelled.is_default()),
            ("stride", facts.reads == Reads::Texts && self.stride.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            None => Ok(()),
            Some((option, _)) => Err(InvalidSetting {
                option,
                problem: format!("does not apply to --task {}: leave it out", self.task),
            }),
        }
    }

    /// Checks the sources of the rows.
    fn validate_rows(&self) -> Result<(), InvalidSetting> {
        let invalid = |option, problem| Err(InvalidSetting { option, problem });
        let Some(task) = self.task.named() else {
            return match (&self.train, &self.data) {
                (_, Some(_)) => invalid(
                    "data",
                    format!("is the folder of a named task's files, but --task is {}", self.task),
                ),
                (None, None) => {
                    invalid("train", "is missing: name the file with labelled texts".to_owned())
                }
                (Some(_), None) => Ok(()),
            };
        };
        if let Some(other) = task.trained_as {
            return invalid(
                "task",
                format!(
                    "{} has no rows to train on: train {other}, and pass its delta to `bitfit predict --task {} \
                     --predict-test FOLDER`",
                    task.name, task.name
                ),
            );
        }
        if self.train.is_some() && self.data.is_some() {
            return invalid(
                "data",
                format!(
                    "names the folder with all of {}'s files, but --train names one file: leave one out",
                    task.title
                ),
            );
        }
        if self.train.is_some() && task.columns.text.len() > 1 {
            return invalid(
                "train",
                format!(
                    "does not apply to --task {}: its text is made from the columns {}; name the folder with --data",
                    task.name,
                    task.columns.text.join(" and ")
                ),
            );
        }
        Ok(())
    }

    /// Checks the method's settings.
    fn validate_method(&self) -> Result<(), InvalidSetting> {
        let invalid = |option, problem| Err(InvalidSetting { option, problem });
        let (method, facts) = (self.method, self.method.facts());
        let instead = match facts.biases {
            TrainedBiases::Selected | TrainedBiases::Counted if self.biases.is_none() => {
                return invalid(
                    "biases",
                    "selects nothing to train; to train only the head use --method head".into(),
                );
            }
            TrainedBiases::Selected | TrainedBiases::Counted => None,
            TrainedBiases::None => Some("trains no bias"),
            TrainedBiases::LayerNorms => Some("trains those of the LayerNorms"),
            TrainedBiases::All => Some("trains everything"),
        };
        let nothing = facts.biases == TrainedBiases::None && facts.adds == Adds::Nothing;
        let drawn = facts.biases == TrainedBiases::Counted;
        if (nothing || drawn) && self.init_delta.is_some() {
            let instead = if nothing { "none of these" } else { "those that it draws" };
            let problem = format!(
                "has encoder values, but --method {method} trains {instead}, so its result would lack them: leave it \
                 out"
            );
            return invalid("init-delta", problem);
        }
        if let Some(instead) = instead
            && self.biases != BiasSelection::all()
        {
            let takes = Method::which(Facts::takes_biases);
            let takes: Vec<_> = takes.map(|method| method.to_string()).collect();
            let takes = takes.join(" or ");
            let problem = format!(
                "is for --method {takes}, but --method {method} {instead}: leave one of them out"
            );
            return invalid("biases", problem);
        }
        if facts.adds == Adds::LowRank && self.lora.is_none() {
            return invalid(
                "lora-rank",
                "or another setting of --method lora (--lora-alpha, --lora-dropout, \
                --lora-on) is missing"
                    .into(),
            );
        }
        if let Some(lora) = &self.lora {
            if facts.adds != Adds::LowRank {
                let problem =
                    format!("is only for --method lora, and this is {method}: leave it out");
                return invalid("lora-rank", problem);
            }
            self::lora(lora)?;
        }
        if !facts.freezes_weights && self.weights != WeightStorage::F32 {
            let problem = format!(
                "{} sets how frozen weights are stored, but --method {method} freezes none: leave it out",
                self.weights
            );
            return invalid("weights", problem);
        }
        Ok(())
    }

    fn validate_numbers(&self) -> Result<(), InvalidSetting> {
        let finite =
            |option, value: f64| require(value.is_finite(), option, "be a finite number", &value);
        let above_zero = |option, value: f64| {
            finite(option, value)?;
            require(value > 0.0, option, "be above 0", &value)
        };
        let zero_or_more = |option, value: f64| {
            finite(option, value)?;
            require(value >= 0.0, option, "be 0 or more", &value)
        };
        // Counts are stored as in TOML, in 63 bits.
        let countable =
            |option, value: u64| require(value < 1 << 63, option, "be below 2^63", &value);
        let at_least_one = |option, value: Option<u64>| match value {
            Some(value) => {
                countable(option, value)?;
                require(value >= 1, option, "be 1 or more", &value)
            }
            None => Ok(()),
        };
        if let Some(lr) = self.lr.number() {
            above_zero("lr", lr)?;
            single("lr", lr)?;
        }
        for beta in self.betas {
            require(
                (0.0..1.0).contains(&beta),
                "betas",
                "be two numbers from 0 to below 1",
                &beta,
            )?;
            single("betas", beta)?;
            below_one("betas", beta)?;
        }
        above_zero("eps", self.eps)?;
        single("eps", self.eps)?;
        zero_or_more("weight-decay", self.weight_decay)?;
        single("weight-decay", self.weight_decay)?;
        zero_or_more("clip-norm", self.clip_norm)?;
        single("clip-norm", self.clip_norm)?;
        if let Warmup::Steps(steps) = self.warmup {
            countable("warmup", steps)?;
        }
        if let Warmup::Fraction(fraction) = self.warmup {
            let fits = (0.0..=1.0).contains(&fraction);
            require(fits, "warmup", "be steps or a fraction between 0 and 1", &fraction)?;
        }
        if let Some(dropout) = self.dropout {
            self::dropout(dropout)?;
        }
        if let Some(probability) = self.mask_probability {
            let fits = probability > 0.0 && probability <= 1.0;
            require(fits, "mask-probability", "be above 0 and at most 1", &probability)?;
        }
        if let Some(DevSource::Fraction(fraction)) = self.dev {
            let fits = fraction > 0.0 && fraction < 1.0;
            require(fits, "dev-fraction", "lie between 0 and 1", &fraction)?;
        }
        match self.length {
            Length::Epochs(epochs) => at_least_one("epochs", Some(epochs))?,
            Length::Steps(steps) => at_least_one("steps", Some(steps))?,
        }
        at_least_one("train-rows", self.train_rows.map(|rows| rows as u64))?;
        at_least_one("batch-size", Some(self.batch_size as u64))?;
        at_least_one("batch-tokens", self.batch_tokens.map(|tokens| tokens as u64))?;
        at_least_one("grad-accumulation", Some(self.grad_accumulation as u64))?;
        at_least_one("eval-steps", self.eval_steps)?;
        at_least_one("patience", self.patience)?;
        at_least_one("save-steps", self.save_steps)?;
        at_least_one("max-answer-length", self.max_answer_length.map(|tokens| tokens as u64))?;
        if let Some(minutes) = self.save_minutes {
            require(
                minutes.is_finite() && minutes >= 0.0,
                "save-minutes",
                "be 0 or more",
                &minutes,
            )?;
        }
        if let Some(threads) = self.threads {
            let fits = (1..=MOST_THREADS).contains(&threads);
            require(fits, "threads", &format!("be from 1 to {MOST_THREADS}"), &threads)?;
        }
        if let Some(length) = self.max_length {
            // One token of text between the two special ones.
            require(length >= 3, "max-length", "be 3 or more", &length)?;
            countable("max-length", length as u64)?;
        }
        let seed_fits = i64::try_from(self.seed).is_ok();
        require(seed_fits, "seed", "be below 2^63", &self.seed)
    }
}
