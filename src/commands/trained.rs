//! A trained task on a device, for `eval` and `predict`: the base model with a delta applied, or a whole model.

use super::base::{Base, settings_beside};
use super::ranks as agreement;
use super::{no_use, say, say_passed_over, warn};
use crate::cli::{AnswerArgs, ComputeArgs};
use crate::data::TextTokenizer;
use crate::error::{UsageError, one_line};
use crate::files::sha256_file;
use crate::formats::delta::{Delta, DeltaInfo};
use crate::formats::fingerprint::Fingerprint;
use crate::formats::model_files::{HEAD, WEIGHTS};
use crate::formats::model_head;
use crate::formats::run_state::how_far;
use crate::methods::Trains;
use crate::methods::entries::index_name;
use crate::model::Model;
use crate::model::load::{TaskSpec, init_head, load};
use crate::program::{Limits, PoolKind};
use crate::ranks::Ranks;
use crate::session::{OpenOptions, Session, gpu, open};
use crate::settings::choice::{PoolerInit, Pooling, Precision};
use crate::settings::method::Leaves;
use crate::settings::task::Task;
use crate::tasks::splitting::Splitting;
use crate::tasks::targets::Targets;
use crate::train::output::{CHECKPOINT_FILE, is_unfinished, left_at};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Model and tokenizer, before the device has any memory for batches.
pub struct Trained {
    pub info: DeltaInfo,
    /// The folder of the base, or of the whole model.
    pub base: PathBuf,
    /// Where the files of its named task were during training, as far as known.
    pub data: Option<PathBuf>,
    pub targets: Targets,
    pub tokenizer: TextTokenizer,
    pub session: Session,
}

impl Trained {
    /// Reads the delta, finds its base, and checks that they belong together before anything runs; or reads the whole
    /// model that full fine-tuning left.
    ///
    /// # Errors
    /// A broken delta, another base, a missing model.
    pub fn open(
        path: &Path,
        model: Option<&str>,
        compute: &ComputeArgs,
        ranks: &Rc<dyn Ranks>,
    ) -> Result<Self> {
        let (delta, info, path) = match left_at(path) {
            (Leaves::Delta, path) => {
                let delta = read_delta(&path)?;
                let info = delta.info.clone();
                (Some(delta), info, path)
            }
            (Leaves::Model, folder) => {
                if let Some(model) = model {
                    return Err(UsageError::new(format!(
                        "--model {model}: {} is a whole model and needs no base; leave the option out",
                        folder.display()
                    ))
                    .into());
                }
                let weights = folder.join(WEIGHTS);
                let info = DeltaInfo::of_model(&weights)?;
                warn_of_run(&weights);
                (None, info, folder)
            }
        };
        let base = match &delta {
            Some(_) => Base::of_delta(&path, &info, model, compute.quiet)?,
            None => Base::of_folder(path.clone())?,
        };
        // Another base explains everything that does not fit, but its hash takes as long as loading.
        let belongs = || delta.as_ref().map_or(Ok(()), |delta| belongs_to(delta, &path, &base));
        // Before the tensors are compared: differences between the files explain why these do not fit.
        let tokenizer = base
            .tokenizer_of(&info, compute.max_length, compute.quiet)
            .or_else(|error| belongs().and(Err(error)))?;
        let weights = compute.weights.unwrap_or(info.settings.weights).into();
        // On a CPU, what was trained in f32 is read in f32.
        let matrices = info.method.trains_matrices();
        let in_f32 = matrices || info.settings.precision == Precision::F32;
        let precision = match compute.precision {
            Precision::Auto if in_f32 && gpu(compute.device, ranks.here()).is_none() => {
                Precision::F32
            }
            asked => asked,
        };
        let mut backend = open(OpenOptions {
            device: compute.device,
            here: ranks.here(),
            precision,
            weights,
            matrices_train: delta.is_some() && matrices,
        })?;
        say(compute.quiet, format_args!("device: {}", backend.describe()));
        say_passed_over(compute.quiet, compute.device, backend.kind(), ranks.here());
        let model = load(&base.folder, &base.config, &task_spec(&info), &mut *backend);
        belongs()?;
        let mut model = model?;
        base.unchanged()?;
        match &delta {
            Some(delta) => {
                apply(delta, base.sha256()?, &mut model)
                    .with_context(|| format!("delta {}", path.display()))?;
                say(
                    compute.quiet,
                    format_args!("base {}, delta {}", base.folder.display(), path.display()),
                );
            }
            None => {
                let file = match info.pooling {
                    Pooling::Mean => HEAD,
                    _ => WEIGHTS,
                };
                if file == HEAD && !model_head::check(&path)? {
                    say(
                        compute.quiet,
                        format_args!(
                            "an earlier version made {WEIGHTS} and did not record its {HEAD}, so it is not known whether \
                             this one belongs to it"
                        ),
                    );
                }
                init_head(&mut model, &path.join(file), None)?;
                say(compute.quiet, format_args!("model {}", path.display()));
            }
        }
        let separator = info.settings.label_separator.as_deref();
        let splitting = Splitting::of(info.task, separator);
        let targets = match info.task {
            Task::MaskedLm => Targets::words(info.outputs, &info.settings),
            task => Targets::trained(task, splitting, info.labels.clone(), info.outputs)?
                .reading_answers(info.settings.max_answer_length, info.no_answer),
        };
        let left = if delta.is_some() { path } else { path.join(WEIGHTS) };
        if ranks.several() {
            let files = Fingerprint::default().with("base weights", base.sha256()?);
            agreement::agree(&**ranks, &files.with("delta or model", &sha256_file(&left)?))?;
        }
        let data = settings_beside(&left).ok().flatten().and_then(|settings| settings.data);
        Ok(Self {
            info,
            base: base.folder,
            data,
            targets,
            tokenizer,
            session: Session::new(model, backend).among(Rc::clone(ranks)),
        })
    }

    /// Overrides how questions are answered.
    ///
    /// # Errors
    /// Requested although no questions are answered.
    pub fn answer_by(&mut self, args: &AnswerArgs) -> Result<(), UsageError> {
        let AnswerArgs { max_answer_length, no_answer_threshold } = *args;
        let other = self.targets.no_answer().is_none();
        no_use(other && max_answer_length.is_some(), "--max-answer-length", self.info.task)?;
        no_use(other && no_answer_threshold.is_some(), "--no-answer-threshold", self.info.task)?;
        let targets = self.targets.clone();
        self.targets = targets.reading_answers(max_answer_length, no_answer_threshold);
        Ok(())
    }

    /// Overrides how labels are split.
    ///
    /// # Errors
    /// Requested although a text has one label, or an empty separator.
    pub fn split_at(&mut self, separator: Option<&str>) -> Result<(), UsageError> {
        let Some(separator) = separator else { return Ok(()) };
        no_use(!self.info.task.takes_lists(), "--label-separator", self.info.task)?;
        if separator.is_empty() {
            return Err(UsageError::new("--label-separator must not be empty"));
        }
        self.info.settings.label_separator = Some(separator.to_owned());
        self.targets = self.targets.clone().split_at(separator);
        Ok(())
    }

    /// Plans and allocates for batches of up to `limits`.
    ///
    /// # Errors
    /// More than fits on the device, or than any machine can address.
    pub fn prepare(&mut self, limits: Limits) -> Result<()> {
        self.session.model().addressable(limits, self.session.device())?;
        let program = self.session.program(limits, None);
        self.session.allocate(None, Some(program))
    }
}

/// Reads a delta, and reports what is notable about the run next to it.
///
/// # Errors
/// As [`Delta::read`]; a run that has not yet reached the point where it leaves one.
pub fn read_delta(path: &Path) -> Result<Delta> {
    if !path.exists()
        && let Some(far) = unfinished(path)
    {
        let folder = path.parent().unwrap_or(path);
        bail!("{} has no delta or model yet: {far}", folder.display());
    }
    let delta = Delta::read(path)?;
    warn_of_run(path);
    Ok(delta)
}

/// # Errors
/// The delta was trained on another base.
pub fn belongs_to(delta: &Delta, path: &Path, base: &Base) -> Result<()> {
    delta.info.check_base(base.sha256()?).with_context(|| format!("delta {}", path.display()))
}

/// Warns of oddities of the run that left a file: it has not ended, or its settings cannot be read.
fn warn_of_run(left: &Path) {
    if let Some(far) = unfinished(left) {
        warn(format_args!("{}: {far}; using its best state so far", left.display()));
    }
    if let Err(error) = settings_beside(left) {
        warn(format_args!("{}; these settings are not used", one_line(&error)));
    }
}

/// How far the run that left or will leave a file has got, if it has not ended.
fn unfinished(left: &Path) -> Option<String> {
    let folder = left.parent().filter(|folder| is_unfinished(folder))?;
    let far = match how_far(&folder.join(CHECKPOINT_FILE)) {
        Ok(far) => format!("{far} is saved"),
        Err(_) => "no step of it is saved".to_owned(),
    };
    Some(format!(
        "its run is not finished ({far}); continue it with `bitfit train --resume --output {}`",
        folder.display()
    ))
}

/// The model that a delta was trained as.
pub fn task_spec(info: &DeltaInfo) -> TaskSpec {
    let settings = &info.settings;
    TaskSpec {
        outputs: info.outputs,
        pooling: match info.pooling {
            Pooling::Mean => PoolKind::Mean,
            Pooling::Cls => PoolKind::Cls,
            Pooling::Auto => settings.pooling_of_tokens(),
        },
        // A whole model has its pooler, wherever it came from.
        reinit_pooler: settings.pooler == PoolerInit::Reinit
            && info.method.facts().leaves != Leaves::Model,
        loss: info.task.facts().loss,
        class_weights: Vec::new(),
        trains: Trains::of_result(info.method, &info.biases, settings.lora.as_ref()),
        dropout: None,
        seed: settings.seed,
    }
}

/// Checks a delta against the model that it will be applied to, whose values are not needed.
///
/// # Errors
/// If the delta belongs to another base, or holds other tensors than the model trains.
pub fn fits(delta: &Delta, base_sha256: &str, model: &Model) -> Result<()> {
    let trained = model.params.trained();
    let expected: Vec<_> = trained.map(|p| (p.name.clone(), p.shape.clone())).collect();
    delta.check(base_sha256, &expected)?;
    let places = model.chosen.iter();
    delta.check_places(&places.map(|(name, p)| (index_name(name), p.clone())).collect())?;
    Ok(())
}

/// Puts a delta's values into the model.
///
/// # Errors
/// As [`fits`].
pub fn apply(delta: &Delta, base_sha256: &str, model: &mut Model) -> Result<()> {
    fits(delta, base_sha256, model)?;
    let trained: Vec<_> = model.params.trained().map(|p| (p.name.clone(), p.range)).collect();
    for (name, range) in trained {
        // `fits` has just checked each name and its shape.
        if let Some(tensor) = delta.tensors.get(&name) {
            model.params.set_initial(range, &tensor.data);
        }
    }
    Ok(())
}
