//! A sentence encoder's own files, as Sentence Transformers reads them: how it pools, how long its texts may be, and
//! whether they are lower-cased first. Unsupported settings are reported, so that nobody assumes they are applied.

use super::model_files::{
    CONFIG, MODULES, POOLING, POOLING_FOLDER, SENTENCE_CONFIGS, SENTENCE_PROMPTS, TOKENIZER_CONFIG,
    read_file, read_json,
};
use crate::files::{no_links, write_bytes_atomic};
use crate::program::PoolKind;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};
use std::path::{Component, Path};

/// How a checkpoint's makers pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Makers {
    /// No file says: not a sentence encoder.
    Unsaid,
    Pool {
        kind: PoolKind,
        /// What they do in addition, which is not done here.
        besides: Vec<String>,
    },
    /// In an unsupported way; says which.
    Otherwise(String),
}

impl Makers {
    /// Reads a model folder: the pooling module that `modules.json` names, otherwise `1_Pooling` if it exists.
    ///
    /// # Errors
    /// A file that is broken or has impossible values.
    pub fn of(folder: &Path) -> Result<Self> {
        let mut besides = Vec::new();
        let path = match read_json(&folder.join(MODULES))? {
            Some(modules) => {
                let place = || folder.join(MODULES).display().to_string();
                match chain(&modules).with_context(place)? {
                    Chain::Plain => return Ok(Self::Unsaid),
                    Chain::Unsupported(what) => {
                        return Ok(Self::Otherwise(format!("{} {what}", place())));
                    }
                    Chain::Pools { path, normalizes, .. } => {
                        if normalizes {
                            besides.push(
                                "modules.json also normalizes the pooled vector to length 1: this is left out, and the \
                                 head reads it as it is"
                                    .to_owned(),
                            );
                        }
                        path
                    }
                }
            }
            None => POOLING_FOLDER.to_owned(),
        };
        let file = folder.join(&path).join(CONFIG);
        let Some(config) = read_json(&file)? else {
            if path == POOLING_FOLDER && !folder.join(MODULES).exists() {
                return Ok(Self::Unsaid);
            }
            return Ok(Self::Otherwise(format!(
                "{} names a pooling module whose {path}/config.json is missing",
                folder.join(MODULES).display()
            )));
        };
        let modes = modes(&config).with_context(|| file.display().to_string())?;
        let said =
            ["pooling_mode", "pooling_mode_mean_tokens"].map(|key| config.get(key).is_some());
        if said == [false, false] && modes != ["mean"] {
            besides.push(format!(
                "{path}/config.json has no pooling_mode_mean_tokens: taken as false, as in Sentence Transformers since \
                 5.4"
            ));
        }
        let kind = match modes.as_slice() {
            [mode] if mode == "mean" => PoolKind::Mean,
            [mode] if mode == "cls" => PoolKind::Cls,
            [] => {
                return Ok(Self::Otherwise(format!(
                    "{} switches off every kind of pooling",
                    file.display()
                )));
            }
            _ => {
                return Ok(Self::Otherwise(format!(
                    "{} pools by {}, which is not supported",
                    file.display(),
                    modes.join(" + ")
                )));
            }
        };
        besides.extend(prompt(folder)?);
        Ok(Self::Pool { kind, besides })
    }

    /// The meaning of `--pooling auto`.
    ///
    /// # Errors
    /// If the makers pool in an unsupported way.
    pub fn kind(&self) -> Result<PoolKind> {
        match self {
            // A checkpoint without this information uses its first token, as in pre-training.
            Self::Unsaid => Ok(PoolKind::Cls),
            Self::Pool { kind, .. } => Ok(*kind),
            Self::Otherwise(why) => bail!("{why}; choose with --pooling mean or --pooling cls"),
        }
    }
}

/// The sequence of modules in `modules.json`.
enum Chain {
    /// Only a transformer.
    Plain,
    Pools {
        /// The pooling module's folder.
        path: String,
        normalizes: bool,
        /// The folders of all modules except the transformer.
        folders: Vec<String>,
    },
    Unsupported(String),
}

fn chain(modules: &Value) -> Result<Chain> {
    let modules = modules.as_array().context("not a list of modules")?;
    let mut pooling = None;
    let mut normalizes = false;
    let mut folders = Vec::new();
    for (i, module) in modules.iter().enumerate() {
        let text = |key: &str| module.get(key).and_then(Value::as_str);
        let class = text("type").with_context(|| format!("module {i} has no `type`"))?;
        let path = text("path").with_context(|| format!("module {i} has no `path`"))?;
        ensure!(
            Path::new(path)
                .components()
                .all(|part| matches!(part, Component::Normal(_) | Component::CurDir)),
            "module {i}: the path `{path}` points outside the folder"
        );
        let name = class.rsplit('.').next().unwrap_or(class);
        let known = class.starts_with("sentence_transformers.");
        if i > 0 {
            folders.push(path.to_owned());
        }
        match name {
            "Transformer" if known && i == 0 => {
                if !["", "."].contains(&path) {
                    return Ok(Chain::Unsupported(format!(
                        "keeps the transformer in {path}: give that folder as --model"
                    )));
                }
            }
            "Pooling" if known && i > 0 && pooling.is_none() => pooling = Some(path.to_owned()),
            "Normalize" if known && pooling.is_some() => normalizes = true,
            // Only active in training.
            "Dropout" if known => {}
            _ => {
                let place = match path {
                    "" => String::new(),
                    path => format!(" ({path})"),
                };
                return Ok(Chain::Unsupported(format!(
                    "has the module `{name}`{place}, which is not supported"
                )));
            }
        }
    }
    Ok(match pooling {
        Some(path) => Chain::Pools { path, normalizes, folders },
        None => Chain::Plain,
    })
}

/// The booleans that say how to pool, in the order in which their results are concatenated.
const FLAGS: [(&str, &str); 6] = [
    ("pooling_mode_cls_token", "cls"),
    ("pooling_mode_max_tokens", "max"),
    ("pooling_mode_mean_tokens", "mean"),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
    ("pooling_mode_weightedmean_tokens", "weightedmean"),
    ("pooling_mode_lasttoken", "lasttoken"),
];

/// The modes of a pooling module: `pooling_mode` takes precedence over the booleans, and the default is the mean.
fn modes(config: &Value) -> Result<Vec<String>> {
    let config = config.as_object().context("not a JSON object")?;
    let name = |value: &Value| -> Result<String> {
        let mode = value
            .as_str()
            .with_context(|| format!("`pooling_mode` is {value}, not the name of a mode"))?
            .to_lowercase();
        ensure!(
            FLAGS.iter().any(|(_, known)| *known == mode),
            "`pooling_mode` is {value}, which Sentence Transformers does not know"
        );
        Ok(mode)
    };
    match config.get("pooling_mode") {
        None | Some(Value::Null) => {}
        Some(Value::Array(list)) => {
            ensure!(!list.is_empty(), "`pooling_mode` is an empty list");
            return list.iter().map(name).collect();
        }
        Some(value) => return Ok(vec![name(value)?]),
    }
    let mut modes = Vec::new();
    for (key, mode) in FLAGS {
        if flag(config, key)? == Some(true) {
            modes.push(mode.to_owned());
        }
    }
    if modes.is_empty() && flag(config, "pooling_mode_mean_tokens")? != Some(false) {
        modes.push("mean".to_owned());
    }
    Ok(modes)
}

fn flag(config: &Map<String, Value>, key: &str) -> Result<Option<bool>> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(on)) => Ok(Some(*on)),
        Some(value) => bail!("`{key}` is {value}, not true or false"),
    }
}

/// Reports that texts usually get a prompt, if so.
fn prompt(folder: &Path) -> Result<Option<String>> {
    let Some(config) = read_json(&folder.join(SENTENCE_PROMPTS))? else {
        return Ok(None);
    };
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let name = text(config.get("default_prompt_name"));
    let prompt = name.and_then(|name| text(config.get("prompts")?.get(name)));
    Ok(prompt.filter(|prompt| !prompt.is_empty()).map(|prompt| {
        format!(
            "{SENTENCE_PROMPTS} puts {prompt:?} before each text: this is left out; write it into the texts if the \
             model should see it"
        )
    }))
}

/// The settings of the transformer within a sentence encoder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextSettings {
    /// The file, by name.
    pub file: String,
    /// Including special tokens.
    max_seq_length: Option<usize>,
    pub lower_case: bool,
}

impl TextSettings {
    /// # Errors
    /// A file that is broken or has impossible values.
    pub fn of(folder: &Path) -> Result<Self> {
        for name in SENTENCE_CONFIGS {
            let path = folder.join(name);
            let Some(json) = read_json(&path)? else {
                continue;
            };
            let read = || -> Result<Self> {
                let config = json.as_object().context("not a JSON object")?;
                Ok(Self {
                    file: name.to_owned(),
                    max_seq_length: length(config, "max_seq_length")?,
                    lower_case: flag(config, "do_lower_case")?.unwrap_or(false),
                })
            };
            return read().with_context(|| path.display().to_string());
        }
        Ok(Self::default())
    }
}

/// The maximum text length set by a checkpoint's makers, and where it is stated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongestText {
    /// Including special tokens.
    pub tokens: usize,
    pub said_by: String,
}

impl LongestText {
    /// A sentence encoder's `max_seq_length` takes precedence over its tokenizer's `model_max_length`.
    ///
    /// # Errors
    /// A file that is broken or has impossible values.
    pub fn of(folder: &Path) -> Result<Option<Self>> {
        let settings = TextSettings::of(folder)?;
        if let Some(tokens) = settings.max_seq_length {
            let said_by = format!("max_seq_length in {}", settings.file);
            return Ok(Some(Self { tokens, said_by }));
        }
        let path = folder.join(TOKENIZER_CONFIG);
        let Some(Value::Object(config)) = read_json(&path)? else {
            return Ok(None);
        };
        let tokens =
            length(&config, "model_max_length").with_context(|| path.display().to_string())?;
        let said_by = format!("model_max_length in {TOKENIZER_CONFIG}");
        Ok(tokens.map(|tokens| Self { tokens, said_by }))
    }
}

/// A length in tokens. A tokenizer without a limit states a huge number.
fn length(config: &Map<String, Value>, key: &str) -> Result<Option<usize>> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match (value.as_u64(), value.as_f64()) {
            (_, Some(huge)) if huge >= 1e9 => Ok(None),
            (Some(tokens), _) if tokens > 0 => Ok(Some(tokens as usize)),
            _ => bail!("`{key}` is {value}, not a number of tokens"),
        },
    }
}

/// Makes `to` the same sentence encoder as `from`, if that pools like the model in `to`, and otherwise one that states
/// how it pools, if necessary: a folder that says nothing pools by the first token. Returns the files that it wrote.
///
/// # Errors
/// A file that cannot be read or written.
pub fn carry(from: &Path, to: &Path, pooling: PoolKind, hidden: usize) -> Result<Vec<String>> {
    let mut written = Vec::new();
    let mut write = |name: &str, bytes: &[u8]| -> Result<()> {
        let path = to.join(name);
        if let Some(parent) = path.parent() {
            // A module's folder may be nested.
            let folders = Path::new(name).ancestors().skip(1).filter_map(Path::to_str);
            no_links(to, &folders.filter(|name| !name.is_empty()).collect::<Vec<_>>())?;
            std::fs::create_dir_all(parent)
                .with_context(|| format!("cannot make {}", parent.display()))?;
        }
        write_bytes_atomic(&path, bytes)?;
        written.push(name.to_owned());
        Ok(())
    };
    // A folder that cannot be read as a sentence encoder was not trained as one.
    let same = matches!(Makers::of(from), Ok(Makers::Pool { kind, .. }) if kind == pooling);
    for name in carried(from, same)? {
        let path = from.join(&name);
        if path.is_file() {
            write(&name, &read_file(&path)?)?;
        }
    }
    if pooling == PoolKind::Mean && !to.join(MODULES).exists() {
        let module = |i: usize, name: &str, path: &str| {
            json!({"idx": i, "name": i.to_string(), "path": path,
                   "type": format!("sentence_transformers.models.{name}")})
        };
        let modules = json!([module(0, "Transformer", ""), module(1, "Pooling", POOLING_FOLDER)]);
        write(MODULES, format!("{modules:#}\n").as_bytes())?;
    }
    if pooling == PoolKind::Mean && !same {
        // Every version reads the booleans.
        let config = json!({
            "word_embedding_dimension": hidden,
            "pooling_mode_cls_token": false,
            "pooling_mode_mean_tokens": true,
            "pooling_mode_max_tokens": false,
            "pooling_mode_mean_sqrt_len_tokens": false,
        });
        write(POOLING, format!("{config:#}\n").as_bytes())?;
    }
    Ok(written)
}

/// The files that [`carry`] copies from `from`, if they exist: all of them for the `same` sentence encoder.
///
/// # Errors
/// A file that cannot be read.
pub fn carried(from: &Path, same: bool) -> Result<Vec<String>> {
    let mut names = SENTENCE_CONFIGS.map(str::to_owned).to_vec();
    if same {
        names.extend([MODULES, SENTENCE_PROMPTS].map(str::to_owned));
        let folders = match read_json(&from.join(MODULES))?.as_ref().map(chain) {
            Some(Ok(Chain::Pools { folders, .. })) => folders,
            _ => vec![POOLING_FOLDER.to_owned()],
        };
        names.extend(folders.iter().map(|folder| format!("{folder}/{CONFIG}")));
    }
    Ok(names)
}

#[cfg(test)]
#[path = "sentence_tests.rs"]
mod tests;
