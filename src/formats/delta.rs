//! The delta: what a task has learned, as a file. It holds what trained, by Hugging Face names, in f32, and everything
//! needed to apply it to its base model only. For single values (`random`, `rows`) it has, per tensor of the model,
//! what is added (`….sparse_values`, f32) and where (`….sparse_index`, i32, ascending, counted row by row).
//!
//! Metadata keys (all text; the file is a safetensors file, `bias.safetensors`):
//!
//! | key | value |
//! |---|---|
//! | `format` | `bitfit-delta` |
//! | `format_version` | `1` |
//! | `base_sha256` | of the base model's weights, see [`crate::files::weights_sha256`] |
//! | `model_type` | as in the base model's config.json: `bert`, `roberta`, … |
//! | `task` | as for `--task` |
//! | `labels` | JSON list of the class or label names, in the order of the head's outputs; empty for regression |
//! | `outputs` | the head's number of outputs, if there are no names and it is not one |
//! | `pooling` | `cls` or `mean`; `auto` if the head is on each token |
//! | `method` | as for `--method` |
//! | `biases` | the selection that trained, `none` for only the head |
//! | `settings` | the run's settings, TOML; files by name only, see [`TrainConfig::without_places`] |
//! | `columns` | JSON: the names of the columns from which the training data were read, `text`, `text_pair` (null for single texts) and `label`; missing in files of earlier versions |
//! | `base_files` | JSON: the effect of the base model's files other than the weights, see [`Fingerprint`]: how texts become ids, and the arithmetic in config.json; missing in files of earlier versions |
//! | `max_length` | the maximum length of texts, in tokens; missing in files of earlier versions |
//! | `data_sha256` | JSON: of the rows of `train`, and of `dev` if that is a file; missing in files of earlier versions |
//! | `no_answer` | for question answering: how much the score of no answer may exceed the best answer's, or `never` |
//! | `tool_version` | of the program that wrote the file |
//!
//! The model of a full fine-tuning (`model.safetensors`) has the same keys with `method` `full`, except that `format`
//! is `pt`, as `transformers` requires. A head in a separate file is named too: see [`super::model_head`].

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::error::one_line;
use crate::files::write_atomic;
use crate::formats::columns::Columns;
use crate::formats::container::{self, Container, ContainerError, Tensor, read_metadata};
use crate::formats::fingerprint::Fingerprint;
use crate::settings::biases::BiasSelection;
use crate::settings::choice::{Choice, Pooling};
use crate::settings::method::{Leaves, Method};
use crate::settings::no_answer::NoAnswer;
use crate::settings::task::Task;
use crate::settings::train::TrainConfig;

const FORMAT: &str = "bitfit-delta";
/// What `transformers` requires in files that it loads.
const MODEL_FORMAT: &str = "pt";
const FORMAT_VERSION: u32 = 1;
/// Keys that a file may lack.
const COLUMNS: &str = "columns";
const OUTPUTS: &str = "outputs";
const BASE_FILES: &str = "base_files";
const MAX_LENGTH: &str = "max_length";
const DATA: &str = "data_sha256";
const NO_ANSWER: &str = "no_answer";

/// The data of a run, by the sha256 of its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataHashes {
    pub train: String,
    /// If the dev rows are in a separate file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
}

/// A delta's metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct DeltaInfo {
    /// In lower-case hexadecimal.
    pub base_sha256: String,
    pub model_type: String,
    pub task: Task,
    /// Names of the classes or labels in the order of the head's outputs; empty for regression.
    pub labels: Vec<String>,
    /// Logits per text or token.
    pub outputs: usize,
    /// `Cls` or `Mean`; `Auto` if the task's head is on each token, without pooling.
    pub pooling: Pooling,
    pub method: Method,
    /// The biases in the file.
    pub biases: BiasSelection,
    pub settings: TrainConfig,
    /// Those of the training data, if the file states them.
    pub columns: Option<Columns>,
    /// The effect of the base's files other than the weights, if the file states it.
    pub base_files: Option<Fingerprint>,
    /// The maximum length of texts in training, in tokens, if the file states it.
    pub max_length: Option<usize>,
    /// If the file states it.
    pub data: Option<DataHashes>,
    /// When to leave a question unanswered; only for question answering.
    pub no_answer: Option<NoAnswer>,
    pub tool_version: String,
}

/// Biases and head of a task, and what they belong to.
#[derive(Debug, Clone, PartialEq)]
pub struct Delta {
    pub info: DeltaInfo,
    /// By Hugging Face name.
    pub tensors: BTreeMap<String, Tensor>,
    /// The places of single values in their tensors, see [`crate::methods::entries`].
    pub places: BTreeMap<String, Vec<u32>>,
}

/// Possible problems of a delta. The messages do not name the file; [`Delta::read`] adds it.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    #[error(transparent)]
    File(#[from] ContainerError),
    #[error(
        "it is not a delta: its metadata lack `format = {FORMAT}`; are these a model's weights?"
    )]
    NotADelta,
    #[error(
        "its format has version {found}, but this bitfit knows versions up to {FORMAT_VERSION}: update bitfit"
    )]
    FutureVersion { found: u32 },
    #[error(
        "it does not say what its outputs mean: it is a merged model, or bitfit did not train it; give the output folder \
         of the run (for a merged model, of the run that was merged), or use it with `transformers`"
    )]
    OtherModel,
    #[error("its metadata lack `{0}`")]
    MissingMetadata(&'static str),
    #[error("its metadata have a wrong `{key}`: {problem}")]
    WrongMetadata { key: &'static str, problem: String },
    #[error(
        "it was trained on another base model: its base's weights have sha256 {delta}, this model's {model}; give \
         the model it was trained on ({trained_on})"
    )]
    OtherBase { delta: String, model: String, trained_on: String },
    #[error("tensor `{0}` is missing")]
    MissingTensor(String),
    #[error(
        "tensor `{0}` does not belong to this model: its config.json, or the settings in the delta, have changed \
         since training"
    )]
    UnexpectedTensor(String),
    #[error(
        "`{0}` has other places than bitfit draws from the seed in its settings: the file was changed, or another \
         program wrote it"
    )]
    OtherPlaces(String),
    #[error("tensor `{tensor}` has shape {found:?}, and the model needs {expected:?}")]
    WrongShape { tensor: String, found: Vec<usize>, expected: Vec<usize> },
}

impl Delta {
    /// Writes the file atomically. Equal deltas give equal bytes.
    ///
    /// # Errors
    /// The file cannot be written; the error names it, and an existing file is unchanged.
    pub fn write(&self, path: &Path) -> Result<()> {
        let tensors = self.tensors.iter();
        let shapes: Vec<_> = tensors.map(|(name, t)| (name.clone(), t.shape.clone())).collect();
        let values: Vec<_> = self.tensors.values().map(|tensor| &tensor.data).collect();
        self.info.write_with(path, &shapes, &self.places, |i, range| Ok(values[i][range].to_vec()))
    }

    /// Reads a file, without comparing it with a model: see [`check`](Self::check).
    ///
    /// # Errors
    /// See [`DeltaError`] and [`ContainerError`].
    pub fn read(path: &Path) -> Result<Self> {
        Container::read(path)
            .map_err(DeltaError::from)
            .and_then(Self::from_container)
            .with_context(|| format!("delta {}", path.display()))
    }

    /// Checks that the delta was trained on the base model with this sha256 and holds exactly the `expected` tensors.
    ///
    /// # Errors
    /// A different base, otherwise the first tensor that is missing, has another shape, or does not belong.
    pub fn check(
        &self,
        base_sha256: &str,
        expected: &[(String, Vec<usize>)],
    ) -> Result<(), DeltaError> {
        self.info.check_base(base_sha256)?;
        for (name, shape) in expected {
            let found =
                self.tensors.get(name).ok_or_else(|| DeltaError::MissingTensor(name.clone()))?;
            if found.shape != *shape {
                return Err(DeltaError::WrongShape {
                    tensor: name.clone(),
                    found: found.shape.clone(),
                    expected: shape.clone(),
                });
            }
        }
        match self.tensors.keys().find(|name| !expected.iter().any(|(known, _)| known == *name)) {
            Some(name) => Err(DeltaError::UnexpectedTensor(name.clone())),
            None => Ok(()),
        }
    }

    /// Checks that single values belong where the model has them. `expected` is keyed by the names in the file.
    ///
    /// # Errors
    /// Names the first list of places that is missing, differs, or does not belong.
    pub fn check_places(&self, expected: &BTreeMap<String, Vec<u32>>) -> Result<(), DeltaError> {
        for (name, places) in expected {
            match self.places.get(name) {
                None => return Err(DeltaError::MissingTensor(name.clone())),
                Some(found) if found != places => {
                    return Err(DeltaError::OtherPlaces(name.clone()));
                }
                Some(_) => {}
            }
        }
        match self.places.keys().find(|name| !expected.contains_key(*name)) {
            Some(name) => Err(DeltaError::UnexpectedTensor(name.clone())),
            None => Ok(()),
        }
    }

    #[cfg(test)]
    fn to_container(&self) -> Result<Container> {
        Ok(Container {
            metadata: self.info.to_metadata(FORMAT)?,
            tensors: self.tensors.clone(),
            places: self.places.clone(),
        })
    }

    fn from_container(container: Container) -> Result<Self, DeltaError> {
        let metadata = &container.metadata;
        if metadata.get("format").is_none_or(|format| format != FORMAT) {
            return Err(DeltaError::NotADelta);
        }
        let info = DeltaInfo::from_metadata(metadata)?;
        info.check_leaves(Leaves::Delta)?;
        // Before anything is allocated for so many classes.
        let head = [
            "classifier.bias",
            "classifier.out_proj.bias",
            "qa_outputs.bias",
            "cls.predictions.bias",
            "lm_head.bias",
        ];
        let found = head.into_iter().find_map(|name| Some((name, container.tensors.get(name)?)));
        if let Some((name, tensor)) = found
            && tensor.shape != [info.outputs]
        {
            return Err(DeltaError::WrongShape {
                tensor: name.to_string(),
                found: tensor.shape.clone(),
                expected: vec![info.outputs],
            });
        }
        if found.is_none() {
            return Err(DeltaError::MissingTensor("classifier.bias".to_string()));
        }
        Ok(Self { info, tensors: container.tensors, places: container.places })
    }
}

impl DeltaInfo {
    /// Writes the file of a delta atomically; its tensors, ordered by name, come from `read` piece by piece, so that a
    /// large head is not in memory twice.
    ///
    /// # Errors
    /// Those of `read`, and as [`Delta::write`].
    pub fn write_with(
        &self,
        path: &Path,
        tensors: &[(String, Vec<usize>)],
        places: &BTreeMap<String, Vec<u32>>,
        read: impl Fn(usize, Range<usize>) -> Result<Vec<f32>>,
    ) -> Result<()> {
        let metadata = self.to_metadata(FORMAT)?;
        write_atomic(path, |out| container::write(out, &metadata, tensors, places, read))
    }

    /// Checks that the delta was trained on the base model with this sha256.
    ///
    /// # Errors
    /// A different base.
    pub fn check_base(&self, base_sha256: &str) -> Result<(), DeltaError> {
        if self.base_sha256 == base_sha256 {
            return Ok(());
        }
        Err(DeltaError::OtherBase {
            delta: self.base_sha256.clone(),
            model: base_sha256.to_string(),
            trained_on: self.settings.model.clone(),
        })
    }

    /// The metadata of a whole model from full fine-tuning.
    ///
    /// # Errors
    /// Settings that cannot be text: a path that is not UTF-8.
    pub fn model_metadata(&self) -> Result<BTreeMap<String, String>> {
        self.to_metadata(MODEL_FORMAT)
    }

    /// Parses [`model_metadata`](Self::model_metadata) from the file of such a model.
    ///
    /// # Errors
    /// See [`DeltaError`]; a model that this program did not train has no information about a task.
    pub fn of_model(path: &Path) -> Result<Self> {
        let metadata = read_metadata(path).map_err(DeltaError::from);
        match metadata.and_then(|metadata| Self::from_metadata(&metadata)) {
            // Files that `bitfit` writes are not like that.
            Err(DeltaError::MissingMetadata("format_version")) => Err(DeltaError::OtherModel),
            Err(DeltaError::File(ContainerError::WrongDtype { .. })) => Err(DeltaError::OtherModel),
            info => info.and_then(|info| info.check_leaves(Leaves::Model).map(|()| info)),
        }
        .with_context(|| format!("model {}", path.display()))
    }

    /// Parses [`model_metadata`](Self::model_metadata) from an adapter.
    ///
    /// # Errors
    /// See [`DeltaError`].
    pub fn of_adapter(metadata: &BTreeMap<String, String>) -> Result<Self, DeltaError> {
        let info = Self::from_metadata(metadata)?;
        info.check_leaves(Leaves::Delta).map(|()| info)
    }

    fn to_metadata(&self, format: &str) -> Result<BTreeMap<String, String>> {
        let metadata = [
            ("format", format.to_string()),
            ("format_version", FORMAT_VERSION.to_string()),
            ("base_sha256", self.base_sha256.clone()),
            ("model_type", self.model_type.clone()),
            ("task", self.task.to_string()),
            ("labels", serde_json::to_string(&self.labels)?),
            ("pooling", self.pooling.to_string()),
            ("method", self.method.to_string()),
            ("biases", self.biases.to_string()),
            ("settings", self.settings.to_toml()?),
            ("tool_version", self.tool_version.clone()),
        ];
        let mut metadata: BTreeMap<_, _> =
            metadata.map(|(key, value)| (key.to_string(), value)).into();
        if !self.task.facts().named && self.outputs != 1 {
            metadata.insert(OUTPUTS.to_string(), self.outputs.to_string());
        }
        if let Some(columns) = &self.columns {
            metadata.insert(COLUMNS.to_string(), serde_json::to_string(columns)?);
        }
        if let Some(files) = &self.base_files {
            metadata.insert(BASE_FILES.to_string(), serde_json::to_string(files)?);
        }
        if let Some(tokens) = self.max_length {
            metadata.insert(MAX_LENGTH.to_string(), tokens.to_string());
        }
        if let Some(data) = &self.data {
            metadata.insert(DATA.to_string(), serde_json::to_string(data)?);
        }
        if let Some(no_answer) = self.no_answer {
            metadata.insert(NO_ANSWER.to_string(), no_answer.to_string());
        }
        Ok(metadata)
    }

    fn from_metadata(metadata: &BTreeMap<String, String>) -> Result<Self, DeltaError> {
        let metadata = Metadata(metadata);
        let found = metadata.parsed("format_version", |text| text.parse::<u32>())?;
        if found > FORMAT_VERSION {
            return Err(DeltaError::FutureVersion { found });
        }
        if found == 0 {
            return Err(wrong("format_version", "versions begin at 1"));
        }
        let labels: Vec<String> = metadata.parsed("labels", |text| serde_json::from_str(text))?;
        let outputs = match metadata.0.get(OUTPUTS) {
            Some(_) => metadata.parsed(OUTPUTS, str::parse)?,
            None => labels.len().max(1),
        };
        let info = Self {
            base_sha256: metadata.get("base_sha256")?.to_string(),
            model_type: metadata.get("model_type")?.to_string(),
            task: metadata.choice("task")?,
            labels,
            outputs,
            pooling: metadata.choice("pooling")?,
            method: metadata.choice("method")?,
            biases: metadata.parsed("biases", BiasSelection::parse)?,
            settings: metadata.parsed("settings", |text| {
                TrainConfig::from_toml(text).map_err(|error| one_line(&error))
            })?,
            columns: metadata.maybe(COLUMNS, |text| serde_json::from_str(text))?,
            base_files: metadata.maybe(BASE_FILES, |text| serde_json::from_str(text))?,
            max_length: metadata
                .maybe(MAX_LENGTH, |text| text.parse::<NonZeroUsize>())?
                .map(NonZeroUsize::get),
            data: metadata.maybe(DATA, |text| serde_json::from_str(text))?,
            no_answer: metadata.maybe(NO_ANSWER, str::parse)?,
            tool_version: metadata.get("tool_version")?.to_string(),
        };
        info.check()?;
        Ok(info)
    }

    /// Checks that the method leaves what the file holds.
    fn check_leaves(&self, held: Leaves) -> Result<(), DeltaError> {
        if self.method.facts().leaves == held {
            return Ok(());
        }
        let methods = quoted(Method::which(|facts| facts.leaves == held));
        let what = match held {
            Leaves::Delta => "a delta",
            Leaves::Model => "a whole model",
        };
        Err(wrong("method", format!("{what} is {methods}")))
    }

    /// Checks the values, individually and against each other.
    fn check(&self) -> Result<(), DeltaError> {
        let hash = &self.base_sha256;
        if hash.len() != 64 || !hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong("base_sha256", "64 hexadecimal digits are expected"));
        }
        let (task, facts) = (self.task.facts(), self.method.facts());
        if (self.pooling == Pooling::Auto) != task.each_token {
            let expected = if task.each_token { "auto" } else { "cls or mean" };
            return Err(wrong("pooling", format!("{expected} is expected for {}", self.task)));
        }
        if facts.takes_biases() && self.biases.is_none() {
            return Err(wrong(
                "biases",
                format!("`none` is for the method `head`, not {}", self.method),
            ));
        }
        let of_method = self.method.trained_biases(&self.biases);
        if self.method.facts().leaves == Leaves::Delta && self.biases != of_method {
            let trains = format!("`{of_method}` is expected for the method {}", self.method);
            return Err(wrong("biases", trains));
        }
        let (names, least) = (self.labels.len(), task.least_outputs);
        if task.named && names < least {
            return Err(wrong("labels", format!("{least} or more names are expected")));
        }
        if !task.named && names > 0 {
            return Err(wrong("labels", format!("{} has no names for its outputs", self.task)));
        }
        if self.outputs < least || (task.named && self.outputs != names) {
            return Err(wrong(OUTPUTS, format!("{} outputs do not fit the labels", self.outputs)));
        }
        Ok(())
    }
}

/// `` `bitfit` or `head` ``
fn quoted(methods: impl Iterator<Item = Method>) -> String {
    let names: Vec<_> = methods.map(|method| format!("`{method}`")).collect();
    names.join(" or ")
}

fn wrong(key: &'static str, problem: impl fmt::Display) -> DeltaError {
    DeltaError::WrongMetadata { key, problem: problem.to_string() }
}

/// The metadata of a file, read key by key.
struct Metadata<'a>(&'a BTreeMap<String, String>);

impl Metadata<'_> {
    fn get(&self, key: &'static str) -> Result<&str, DeltaError> {
        self.0.get(key).map(String::as_str).ok_or(DeltaError::MissingMetadata(key))
    }

    fn parsed<T, E: fmt::Display>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, DeltaError> {
        parse(self.get(key)?).map_err(|error| wrong(key, error))
    }

    /// For a key that the file may lack.
    fn maybe<T, E: fmt::Display>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, DeltaError> {
        match self.0.contains_key(key) {
            true => self.parsed(key, parse).map(Some),
            false => Ok(None),
        }
    }

    fn choice<T: Choice>(&self, key: &'static str) -> Result<T, DeltaError> {
        self.parsed(key, T::from_name)
    }
}

#[cfg(test)]
#[path = "delta_tests.rs"]
mod tests;
