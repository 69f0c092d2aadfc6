//! The delta: what a task has learned, as a file. Biases and head by their Hugging Face names, f32, with all that is
//! needed to put them back on their base model and on no other.
//!
//! Metadata keys (all text; the file is a safetensors file, `bias.safetensors`):
//!
//! | key | value |
//! |---|---|
//! | `format` | `bitfit-delta` |
//! | `format_version` | `1` |
//! | `base_sha256` | of the base model's weights, see [`crate::files::weights_sha256`] |
//! | `model_type` | as in the base model's config.json: `bert`, `roberta`, … |
//! | `task` | `classification` or `regression` |
//! | `labels` | JSON list of the classes' names, in the order of the head's outputs; empty for regression |
//! | `pooling` | `cls` or `mean` |
//! | `method` | `bitfit` or `head` |
//! | `biases` | the selection that trained, `none` for the head alone |
//! | `settings` | the run's settings, TOML |
//! | `tool_version` | of the program that wrote the file |
//!
//! The model of a full fine-tuning (`model.safetensors`) carries the same keys, `method` being `full`, but for
//! `format`, which is `pt` there: `transformers` asks for it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::error::one_line;
use crate::files::write_bytes_atomic;
use crate::formats::container::{Container, ContainerError, Tensor, read_metadata};
use crate::settings::biases::BiasSelection;
use crate::settings::choice::{Choice, Method, Pooling, Task};
use crate::settings::train::TrainConfig;

const FORMAT: &str = "bitfit-delta";
/// What `transformers` wants in the files that it loads.
const MODEL_FORMAT: &str = "pt";
const FORMAT_VERSION: u32 = 1;

/// What is said about a delta beside its tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct DeltaInfo {
    /// In lower-case hexadecimal.
    pub base_sha256: String,
    pub model_type: String,
    pub task: Task,
    /// Names of the classes in the order of the head's outputs; none for regression.
    pub labels: Vec<String>,
    /// `Cls` or `Mean`, never `Auto`.
    pub pooling: Pooling,
    pub method: Method,
    /// The biases in the file.
    pub biases: BiasSelection,
    pub settings: TrainConfig,
    pub tool_version: String,
}

impl DeltaInfo {
    /// Number of values that the head gives a text.
    pub fn outputs(&self) -> usize {
        match self.task {
            Task::Classification => self.labels.len(),
            Task::Regression => 1,
        }
    }
}

/// Biases and head of a task, and what they belong to.
#[derive(Debug, Clone, PartialEq)]
pub struct Delta {
    pub info: DeltaInfo,
    /// By Hugging Face name.
    pub tensors: BTreeMap<String, Tensor>,
}

/// What can be wrong with a delta. The messages do not name the file; [`Delta::read`] adds it.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    #[error(transparent)]
    File(#[from] ContainerError),
    #[error("it is no delta: its metadata lack `format = {FORMAT}`; are these a model's weights?")]
    NotADelta,
    #[error(
        "its format has version {found} and this program knows versions up to {FORMAT_VERSION}: update the program"
    )]
    FutureVersion { found: u32 },
    #[error("it is no model that this program has trained, so nothing says what its outputs mean")]
    OtherModel,
    #[error("its metadata lack `{0}`")]
    MissingMetadata(&'static str),
    #[error("its metadata have a wrong `{key}`: {problem}")]
    WrongMetadata { key: &'static str, problem: String },
    #[error(
        "it was trained on another base model: its base's weights have sha256 {delta}, this model's have {model}; \
         give the model it was trained on ({trained_on})"
    )]
    OtherBase { delta: String, model: String, trained_on: String },
    #[error("tensor `{0}` is missing")]
    MissingTensor(String),
    #[error("tensor `{0}` has no place in this model")]
    UnexpectedTensor(String),
    #[error("tensor `{tensor}` has shape {found:?}, and the model needs {expected:?}")]
    WrongShape { tensor: String, found: Vec<usize>, expected: Vec<usize> },
}

impl Delta {
    /// Writes the file atomically. Equal deltas give equal bytes.
    ///
    /// # Errors
    /// The file cannot be written; the error names it, and a file that was there before is untouched.
    pub fn write(&self, path: &Path) -> Result<()> {
        let bytes = self
            .to_container()?
            .to_bytes()
            .with_context(|| format!("cannot make {}", path.display()))?;
        write_bytes_atomic(path, &bytes)
    }

    /// Reads a file, without a model to compare it with: see [`check`](Self::check).
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
    /// Another base first, then the first tensor that is missing, has another shape, or has no place.
    pub fn check(
        &self,
        base_sha256: &str,
        expected: &[(String, Vec<usize>)],
    ) -> Result<(), DeltaError> {
        if self.info.base_sha256 != base_sha256 {
            return Err(DeltaError::OtherBase {
                delta: self.info.base_sha256.clone(),
                model: base_sha256.to_string(),
                trained_on: self.info.settings.model.clone(),
            });
        }
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

    fn to_container(&self) -> Result<Container> {
        Ok(Container { metadata: self.info.to_metadata(FORMAT)?, tensors: self.tensors.clone() })
    }

    fn from_container(container: Container) -> Result<Self, DeltaError> {
        let metadata = &container.metadata;
        if metadata.get("format").is_none_or(|format| format != FORMAT) {
            return Err(DeltaError::NotADelta);
        }
        let info = DeltaInfo::from_metadata(metadata)?;
        if info.method == Method::Full {
            return Err(wrong("method", "a delta is `bitfit` or `head`"));
        }
        // Before anything is made for so many classes.
        let head = ["classifier.bias", "classifier.out_proj.bias"];
        let found = head.into_iter().find_map(|name| Some((name, container.tensors.get(name)?)));
        if let Some((name, tensor)) = found
            && tensor.shape != [info.outputs()]
        {
            return Err(DeltaError::WrongShape {
                tensor: name.to_string(),
                found: tensor.shape.clone(),
                expected: vec![info.outputs()],
            });
        }
        if found.is_none() {
            return Err(DeltaError::MissingTensor("classifier.bias".to_string()));
        }
        Ok(Self { info, tensors: container.tensors })
    }
}

impl DeltaInfo {
    /// The metadata of a whole model that full fine-tuning made.
    ///
    /// # Errors
    /// Settings that have no text: a path that is not UTF-8.
    pub fn model_metadata(&self) -> Result<BTreeMap<String, String>> {
        self.to_metadata(MODEL_FORMAT)
    }

    /// Reads back [`model_metadata`](Self::model_metadata) from the file of such a model.
    ///
    /// # Errors
    /// See [`DeltaError`]; a model that this program did not train says nothing about a task.
    pub fn of_model(path: &Path) -> Result<Self> {
        read_metadata(path)
            .map_err(DeltaError::from)
            .and_then(|metadata| match Self::from_metadata(&metadata) {
                Ok(info) if info.method != Method::Full => {
                    Err(wrong("method", "a whole model is `full`"))
                }
                Err(DeltaError::MissingMetadata("format_version")) => Err(DeltaError::OtherModel),
                info => info,
            })
            .with_context(|| format!("model {}", path.display()))
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
        Ok(metadata.map(|(key, value)| (key.to_string(), value)).into())
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
        let info = Self {
            base_sha256: metadata.get("base_sha256")?.to_string(),
            model_type: metadata.get("model_type")?.to_string(),
            task: metadata.choice("task")?,
            labels: metadata.parsed("labels", |text| serde_json::from_str(text))?,
            pooling: metadata.choice("pooling")?,
            method: metadata.choice("method")?,
            biases: metadata.parsed("biases", BiasSelection::parse)?,
            settings: metadata.parsed("settings", |text| {
                TrainConfig::from_toml(text).map_err(|error| one_line(&error))
            })?,
            tool_version: metadata.get("tool_version")?.to_string(),
        };
        info.check()?;
        Ok(info)
    }

    /// What the values must be by themselves and say about each other.
    fn check(&self) -> Result<(), DeltaError> {
        let hash = &self.base_sha256;
        if hash.len() != 64 || !hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(wrong("base_sha256", "64 hexadecimal digits are expected"));
        }
        if self.pooling == Pooling::Auto {
            return Err(wrong("pooling", "cls or mean is expected"));
        }
        if (self.method == Method::Head) != self.biases.is_none() {
            return Err(wrong("biases", "`none` goes with the method `head`, and only with it"));
        }
        match self.task {
            Task::Classification if self.labels.len() < 2 => {
                Err(wrong("labels", "two or more classes are expected"))
            }
            Task::Regression if !self.labels.is_empty() => {
                Err(wrong("labels", "regression has no classes"))
            }
            _ => Ok(()),
        }
    }
}

fn wrong(key: &'static str, problem: impl fmt::Display) -> DeltaError {
    DeltaError::WrongMetadata { key, problem: problem.to_string() }
}

/// The metadata of a file, asked for key by key.
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

    fn choice<T: Choice>(&self, key: &'static str) -> Result<T, DeltaError> {
        self.parsed(key, T::from_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    fn example() -> Delta {
        let mut settings =
            TrainConfig::with_defaults("some/model".into(), "a.tsv".into(), "out".into());
        settings.text_column = Some("a \"b\"".into());
        Delta {
            info: DeltaInfo {
                base_sha256: hash('a'),
                model_type: "bert".into(),
                task: Task::Classification,
                labels: vec!["neg, or not".into(), "pos\u{1f600}".into()],
                pooling: Pooling::Cls,
                method: Method::Bitfit,
                biases: BiasSelection::parse("query@1,pooler").unwrap(),
                settings,
                tool_version: "0.1.0".into(),
            },
            tensors: BTreeMap::from([
                ("classifier.weight".into(), Tensor { shape: vec![2, 3], data: vec![0.5; 6] }),
                ("classifier.bias".into(), Tensor::vector(vec![1.0, -0.0])),
            ]),
        }
    }

    fn shapes() -> Vec<(String, Vec<usize>)> {
        vec![("classifier.bias".into(), vec![2]), ("classifier.weight".into(), vec![2, 3])]
    }

    /// Reads the example after a change to its metadata.
    fn with_metadata(
        change: impl FnOnce(&mut BTreeMap<String, String>),
    ) -> Result<Delta, DeltaError> {
        let mut container = example().to_container().unwrap();
        change(&mut container.metadata);
        Delta::from_container(container)
    }

    fn with(key: &'static str, value: &str) -> String {
        with_metadata(|metadata| {
            metadata.insert(key.into(), value.into());
        })
        .unwrap_err()
        .to_string()
    }

    #[test]
    fn a_delta_round_trips_through_its_file_and_is_written_the_same_twice() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("1"), folder.path().join("2"));
        example().write(&one).unwrap();
        example().write(&two).unwrap();
        assert_eq!(Delta::read(&one).unwrap(), example());
        assert_eq!(std::fs::read(one).unwrap(), std::fs::read(two).unwrap());
    }

    #[test]
    fn the_base_is_checked_before_any_shape() {
        let error = example().check(&hash('b'), &[]).unwrap_err();
        assert!(matches!(&error, DeltaError::OtherBase { .. }));
        assert!(error.to_string().contains("some/model"), "{error}");
        assert!(example().check(&hash('a'), &shapes()).is_ok());
    }

    #[test]
    fn every_tensor_must_be_expected_present_and_of_its_shape() {
        let check =
            |expected: &[(String, Vec<usize>)]| example().check(&hash('a'), expected).unwrap_err();
        let mut more = shapes();
        more.push(("bert.pooler.dense.bias".into(), vec![3]));
        assert!(
            matches!(check(&more), DeltaError::MissingTensor(name) if name == "bert.pooler.dense.bias")
        );
        assert!(
            matches!(check(&shapes()[..1]), DeltaError::UnexpectedTensor(name) if name == "classifier.weight")
        );
        let mut other = shapes();
        other[1].1 = vec![3, 2];
        let error = check(&other).to_string();
        assert!(error.contains("[2, 3]") && error.contains("[3, 2]"), "{error}");
    }

    #[test]
    fn every_key_of_the_metadata_is_needed() {
        let keys: Vec<String> = example().to_container().unwrap().metadata.into_keys().collect();
        for key in keys {
            let error = with_metadata(|metadata| {
                metadata.remove(&key);
            })
            .unwrap_err();
            match error {
                DeltaError::NotADelta => assert_eq!(key, "format"),
                DeltaError::MissingMetadata(missing) => assert_eq!(key, missing),
                other => panic!("{key}: {other}"),
            }
        }
    }

    #[test]
    fn wrong_metadata_is_named() {
        assert!(with("format", "pt").contains("no delta"));
        assert!(with("format_version", "2").contains("update the program"));
        assert!(with("format_version", "0").contains("begin at 1"));
        assert!(with("format_version", "x").contains("wrong `format_version`"));
        assert!(with("base_sha256", "abc").contains("64 hexadecimal digits"));
        assert!(with("task", "ranking").contains("wrong `task`"));
        assert!(with("pooling", "auto").contains("cls or mean"));
        assert!(with("labels", "[\"one\"]").contains("two or more classes"));
        assert!(with("labels", "neg").contains("wrong `labels`"));
        assert!(with("task", "regression").contains("regression has no classes"));
        assert!(with("biases", "qurey").contains("did you mean `query`?"));
        assert!(with("biases", "none").contains("`head`"));
        assert!(with("method", "head").contains("`none`"));
        assert!(with("method", "full").contains("`bitfit` or `head`"));
        let settings = with("settings", "model = 3");
        assert!(settings.contains("wrong `settings`") && !settings.contains('\n'), "{settings}");
    }

    #[test]
    fn a_models_weights_are_not_taken_for_a_delta() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let tensors = BTreeMap::from([("w".to_string(), Tensor::vector(vec![1.0]))]);
        let weights = Container { metadata: BTreeMap::new(), tensors };
        std::fs::write(&path, weights.to_bytes().unwrap()).unwrap();
        let line = one_line(&Delta::read(&path).unwrap_err());
        assert!(line.contains("model.safetensors") && line.contains("a model's weights"), "{line}");
    }

    #[test]
    fn a_whole_model_says_what_it_was_trained_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let write = |metadata| {
            let container = Container { metadata, tensors: BTreeMap::new() };
            std::fs::write(&path, container.to_bytes().unwrap()).unwrap();
            DeltaInfo::of_model(&path).map_err(|error| one_line(&error))
        };
        let mut info = example().info;
        let delta = write(info.model_metadata().unwrap()).unwrap_err();
        assert!(delta.contains("`full`"), "{delta}");
        info.method = Method::Full;
        info.biases = BiasSelection::all();
        assert_eq!(write(info.model_metadata().unwrap()).unwrap(), info);
        let other = write(BTreeMap::new()).unwrap_err();
        assert!(other.contains("model.safetensors") && other.contains("no model that"), "{other}");
    }

    #[test]
    fn a_cut_file_is_one_clear_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bias.safetensors");
        let bytes = example().to_container().unwrap().to_bytes().unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        let line = one_line(&Delta::read(&path).unwrap_err());
        assert!(line.contains("bias.safetensors") && line.contains("cut off"), "{line}");
        let missing = one_line(&Delta::read(&folder.path().join("none")).unwrap_err());
        assert!(missing.contains("none") && missing.contains("No such file"), "{missing}");
    }

    #[test]
    fn regression_has_one_output_and_no_classes() {
        let mut delta = example();
        delta.info.task = Task::Regression;
        delta.info.labels.clear();
        assert_eq!(delta.info.outputs(), 1);
        let wrong = Delta::from_container(delta.to_container().unwrap());
        assert!(matches!(wrong, Err(DeltaError::WrongShape { .. })), "a head of two outputs");
        delta.tensors.insert("classifier.bias".into(), Tensor::vector(vec![1.0]));
        assert!(Delta::from_container(delta.to_container().unwrap()).is_ok());
        assert_eq!(example().info.outputs(), 2);
    }
}
