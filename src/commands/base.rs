//! The base model that a command works on: its folder, configuration and identity.

use super::{fetching, max_len, say};
use crate::content::mistaken_file;
use crate::data::{Positions, TextCounts, TextTokenizer, TokenizerOptions};
use crate::files::{read_bounded, weights_sha256};
use crate::formats::delta::DeltaInfo;
use crate::formats::fingerprint::Fingerprint;
use crate::formats::model_files::{CONFIG, SENTENCE_CONFIGS, TOKENIZER_FILES, WEIGHTS_INDEX};
use crate::formats::model_tensors::ModelTensors;
use crate::formats::sentence::{LongestText, Makers};
use crate::formats::stamps::Stamps;
use crate::model::config::ModelConfig;
use crate::program::PoolKind;
use crate::settings::choice::Pooling;
use crate::settings::train::TrainConfig;
use crate::train::output::{DELTA_FILE, SETTINGS_FILE};
use crate::words;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// No file of settings comes near.
const MOST_SETTINGS: u64 = 1 << 20;

/// A checkpoint folder, its configuration read and its weights hashed.
pub struct Base {
    pub folder: PathBuf,
    pub config: ModelConfig,
    /// What a delta names its base by.
    pub sha256: String,
    /// From before the weights were hashed.
    stamps: Stamps,
}

impl Base {
    /// Finds a model by folder or hub name.
    ///
    /// # Errors
    /// No such model, no network, a broken or unsupported configuration, no weights.
    pub fn open(model: &str, quiet: bool) -> Result<Self> {
        Self::of_folder(fetching::model_folder(model, quiet)?)
    }

    /// The model that a delta was trained on, or the one that the user names for it.
    ///
    /// # Errors
    /// As [`open`](Self::open), with what to do where the model's name in training leads nowhere from here.
    pub fn of_delta(
        delta: &Path,
        info: &DeltaInfo,
        asked: Option<&str>,
        quiet: bool,
    ) -> Result<Self> {
        let trained_on = &trained_on(delta, info);
        match asked {
            Some(model) => Self::open(model, quiet)
                .with_context(|| format!("the base model of {}", delta.display())),
            None => fetching::model_folder(trained_on, quiet)
                .with_context(|| {
                    format!(
                        "the base model of {} was {trained_on} in training, which is not found from here: give --model",
                        delta.display()
                    )
                })
                .and_then(Self::of_folder),
        }
    }

    /// The model of a folder.
    ///
    /// # Errors
    /// A broken or unsupported configuration, no weights.
    pub fn of_folder(folder: PathBuf) -> Result<Self> {
        not_mistaken(&folder)?;
        let config = ModelConfig::read(&folder)?;
        let files = ModelTensors::files(&folder)?;
        let stamps = Stamps::of(&files)?;
        let sha256 = weights_sha256(&files)?;
        Ok(Self { folder, config, sha256, stamps })
    }

    /// To be asked once the weights are read.
    ///
    /// # Errors
    /// When they are no longer those that were hashed.
    pub fn unchanged(&self) -> Result<()> {
        self.stamps.check()
    }

    /// The model's tokenizer, cutting at `asked` tokens, or where the model's makers cut, or where its positions end.
    ///
    /// # Errors
    /// A broken tokenizer, one that does not fit the model, or an `asked` beyond the model.
    pub fn tokenizer(&self, asked: Option<usize>, quiet: bool) -> Result<TextTokenizer> {
        let positions = self.config.max_len();
        let makers = LongestText::of(&self.folder)?.filter(|said| said.tokens < positions);
        if let (None, Some(LongestText { tokens, said_by })) = (asked, &makers) {
            say(
                quiet,
                format_args!(
                    "texts are cut to {tokens} tokens, as {said_by} says; --max-length takes up to {positions}"
                ),
            );
        }
        let asked = asked.or(makers.map(|said| said.tokens));
        let tokenizer = TextTokenizer::load(
            &self.folder,
            TokenizerOptions {
                vocab_size: self.config.vocab,
                type_rows: self.config.type_vocab,
                max_len: max_len(asked, positions)?,
                positions: Positions { offset: self.config.position_offset() as u32 },
            },
        )?;
        tokenizer.notes().iter().for_each(|note| say(quiet, note));
        Ok(tokenizer)
    }

    /// What the files beside the weights decide of a text's answer. The tokenizer is that of [`tokenizer`](Self::tokenizer).
    ///
    /// # Errors
    /// As [`TextTokenizer::fingerprint`].
    pub fn files(&self, tokenizer: &TextTokenizer) -> Result<Fingerprint> {
        Ok(tokenizer.fingerprint()?.with_all(&self.config.arithmetic()))
    }

    /// The tokenizer of a trained task: it cuts where the task's texts were cut in training, unless `asked` for otherwise.
    ///
    /// # Errors
    /// As [`tokenizer`](Self::tokenizer); when the files beside the weights are other ones than in training, with which
    /// the same values would give other answers.
    pub fn tokenizer_of(
        &self,
        info: &DeltaInfo,
        asked: Option<usize>,
        quiet: bool,
    ) -> Result<TextTokenizer> {
        let asked = asked.or(info.settings.max_length).or(info.max_length);
        let tokenizer = self.tokenizer(asked, quiet)?;
        let Some(recorded) = &info.base_files else {
            say(
                quiet,
                "the task does not say with which tokenizer it was trained, as an earlier version made it: whether this \
                 one is the same cannot be told",
            );
            return Ok(tokenizer);
        };
        if let Some(differences) = self.files(&tokenizer)?.differences(recorded) {
            let there = |name: &&str| self.folder.join(name).exists();
            let files = std::iter::once(&CONFIG).chain(&TOKENIZER_FILES).chain(&SENTENCE_CONFIGS);
            let files: Vec<&str> = files.copied().filter(|name| there(name)).collect();
            bail!(
                "{}: the files beside the weights ({}) are not what they were in training: {differences}; put them back \
                 as they were, or train again with these",
                self.folder.display(),
                files.join(", ")
            );
        }
        Ok(tokenizer)
    }

    /// What `--pooling` means for this checkpoint.
    ///
    /// # Errors
    /// As [`Makers::kind`].
    pub fn pooling(&self, asked: Pooling) -> Result<PoolKind> {
        match asked.kind() {
            Some(kind) => Ok(kind),
            None => Makers::of(&self.folder)?.kind(),
        }
    }
}

/// The model that a delta was trained on, as its run's settings name it where they lie beside it, else as it says itself:
/// by its name, for the file may be anywhere. Whether it is the right one, its sha256 decides.
pub fn trained_on(delta: &Path, info: &DeltaInfo) -> String {
    settings_beside(delta).map_or_else(|| info.settings.model.clone(), |settings| settings.model)
}

/// The settings of the run that left a file, with the places on its machine, where they lie beside it.
pub fn settings_beside(left: &Path) -> Option<TrainConfig> {
    let bytes = read_bounded(&left.with_file_name(SETTINGS_FILE), MOST_SETTINGS).ok()?;
    TrainConfig::from_toml(&String::from_utf8(bytes).ok()?).ok()
}

/// Names what stands in the place of a model: its files as pointers or archives, or a folder around it.
pub fn not_mistaken(folder: &Path) -> Result<()> {
    for name in [CONFIG, WEIGHTS_INDEX].iter().chain(&TOKENIZER_FILES) {
        let path = folder.join(name);
        if let Some(what) = mistaken_file(&path) {
            bail!("{}: {what}", path.display());
        }
    }
    if folder.join(CONFIG).exists() {
        return Ok(());
    }
    if folder.join(DELTA_FILE).exists() {
        bail!(
            "{} holds what a run has learned and no model: make one with `bitfit merge --delta {}`, or name the model that \
             the run began with",
            folder.display(),
            folder.display()
        );
    }
    // Sentence Transformers puts the encoder into a folder of its own: in its first years always.
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut inside: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.join(CONFIG).exists() && ModelTensors::files(path).is_ok())
        .collect();
    inside.sort();
    match inside.first() {
        Some(inner) => bail!(
            "{} has no {CONFIG}: the encoder lies in a folder of its own; say --model {}, and --pooling mean if the \
             whole is a sentence encoder that takes the mean",
            folder.display(),
            inner.display()
        ),
        None => Ok(()),
    }
}

/// Says what became of texts that are not taken as they are.
pub fn say_counts(quiet: bool, file: &str, counts: TextCounts, max_len: usize) {
    if counts.truncated > 0 {
        say(
            quiet,
            format_args!(
                "{file}: {} cut to {max_len} tokens",
                words::count(counts.truncated, "text")
            ),
        );
    }
    if counts.empty > 0 {
        let (texts, are) = (words::count(counts.empty, "text"), words::are(counts.empty));
        say(quiet, format_args!("{file}: {texts} {are} empty"));
    }
}
