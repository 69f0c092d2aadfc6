//! The base model that a command works on: its folder, configuration and identity.

use super::weights_hash::WeightsHash;
use super::{fetching, max_len, say, warn};
use crate::content::mistaken_file;
use crate::data::{Positions, TextCounts, TextTally, TextTokenizer, TokenizerOptions};
use crate::files::read_bounded;
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

/// Far above any real settings file.
pub const MOST_SETTINGS: u64 = 1 << 20;

/// A checkpoint folder, its configuration read and its weights being hashed.
pub struct Base {
    pub folder: PathBuf,
    pub config: ModelConfig,
    sha256: WeightsHash,
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
    /// As [`open`](Self::open), with advice if the model's name from training does not resolve here.
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
            None => fetching::base_folder(trained_on, &delta.display().to_string(), quiet)
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
        let sha256 = WeightsHash::start(files)?;
        Ok(Self { folder, config, sha256, stamps })
    }

    /// How a delta identifies its base: the first caller waits for it.
    ///
    /// # Errors
    /// Weights that cannot be read.
    pub fn sha256(&self) -> Result<&str> {
        self.sha256.get()
    }

    /// Call it once the weights have been read.
    ///
    /// # Errors
    /// If they are no longer those that were hashed.
    pub fn unchanged(&self) -> Result<()> {
        self.sha256()?;
        self.stamps.check()
    }

    /// The model's tokenizer, cutting at `asked` tokens, or at the model makers' limit, or where its positions end.
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
                    "texts are cut to {tokens} tokens, as set by {said_by}; --max-length takes up to {positions}"
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

    /// The effect of the files other than the weights on a text's answer. The tokenizer must be that of
    /// [`tokenizer`](Self::tokenizer).
    ///
    /// # Errors
    /// As [`TextTokenizer::fingerprint`].
    pub fn files(&self, tokenizer: &TextTokenizer) -> Result<Fingerprint> {
        Ok(tokenizer.fingerprint()?.with_all(&self.config.arithmetic()))
    }

    /// The tokenizer of a trained task: it cuts texts where training did, unless `asked` for otherwise.
    ///
    /// # Errors
    /// As [`tokenizer`](Self::tokenizer); if the files other than the weights differ from those in training, so that
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
                "an earlier version made this delta and did not record the tokenizer it was trained with, so this one \
                 cannot be compared with it",
            );
            return Ok(tokenizer);
        };
        if let Some(differences) = self.files(&tokenizer)?.differences(recorded) {
            let there = |name: &&str| self.folder.join(name).exists();
            let files = std::iter::once(&CONFIG).chain(&TOKENIZER_FILES).chain(&SENTENCE_CONFIGS);
            let files: Vec<&str> = files.copied().filter(|name| there(name)).collect();
            bail!(
                "{}: the files next to the weights ({}) have changed since training: {differences}; restore them, or \
                 train again with these",
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

/// The model that a delta was trained on: as its run's settings name it if they are next to it, otherwise as it says
/// itself; by name, since the file may be anywhere. Its sha256 decides whether it is the right one.
pub fn trained_on(delta: &Path, info: &DeltaInfo) -> String {
    let beside = settings_beside(delta).ok().flatten();
    beside.map_or_else(|| info.settings.model.clone(), |settings| settings.model)
}

/// The settings of the run that left a file, with the paths on its machine, if they are next to the file.
///
/// # Errors
/// They exist but cannot be read, or are not those of a run.
pub fn settings_beside(left: &Path) -> Result<Option<TrainConfig>> {
    let path = left.with_file_name(SETTINGS_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let text = String::from_utf8(read_bounded(&path, MOST_SETTINGS)?).map_err(Into::into);
    let settings = text.and_then(|text| TrainConfig::from_toml(&text));
    settings.map(Some).with_context(|| path.display().to_string())
}

/// Detects mistaken models: pointers or archives instead of files, or a parent folder.
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
            "{} is a run's folder, not a model: make a model with `bitfit merge --delta {}`, or name the model that the run \
             started from",
            folder.display(),
            folder.display()
        );
    }
    // Sentence Transformers may put the encoder into a subfolder: in its first years always.
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut inside: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.join(CONFIG).exists() && ModelTensors::files(path).is_ok())
        .collect();
    inside.sort();
    match inside.first() {
        Some(inner) => bail!(
            "{} has no {CONFIG}: the encoder is in a folder of its own; use --model {}, and --pooling mean for a \
             sentence encoder with mean pooling",
            folder.display(),
            inner.display()
        ),
        None => Ok(()),
    }
}

/// Reports texts that are not used as they are.
pub fn say_counts(quiet: bool, file: &str, counts: TextCounts, max_len: usize) {
    let TextCounts { truncated, empty, unknown, tokens, unknown_tokens } = counts;
    let texts = |kind: TextTally| words::count(kind.texts, "text");
    let first = |kind: TextTally| match kind.texts {
        1 => format!("on line {}", kind.first),
        _ => format!("the first on line {}", kind.first),
    };
    if truncated.texts > 0 {
        say(quiet, format_args!("{file}: {} cut to {max_len} tokens", texts(truncated)));
    }
    if empty.texts > 0 {
        let are = words::are(empty.texts);
        say(
            quiet,
            format_args!(
                "{file}: {} {are} empty after tokenization ({})",
                texts(empty),
                first(empty)
            ),
        );
    }
    if unknown.texts > 0 {
        let have = if unknown.texts == 1 { "has" } else { "have" };
        say(
            quiet,
            format_args!(
                "{file}: {} {have} only unknown and special tokens ({})",
                texts(unknown),
                first(unknown)
            ),
        );
    }
    // Emoji and rare characters among words stay well below this.
    const FITS: f64 = 0.2;
    let share = unknown_tokens as f64 / tokens.max(1) as f64;
    if share > FITS {
        warn(format_args!(
            "{file}: {:.0} % of all tokens are unknown: the tokenizer does not fit these texts; was the model made for their \
             language and script?",
            100.0 * share
        ));
    }
}
