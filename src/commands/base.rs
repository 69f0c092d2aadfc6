//! The base model that a command works on: its folder, configuration and identity.

use super::{fetching, max_len, say};
use crate::data::{Positions, TextCounts, TextTokenizer, TokenizerOptions};
use crate::files::weights_sha256;
use crate::formats::model_tensors::ModelTensors;
use crate::formats::stamps::Stamps;
use crate::model::config::ModelConfig;
use crate::model::load::checkpoint_pooling;
use crate::program::PoolKind;
use crate::settings::choice::Pooling;
use anyhow::Result;
use std::path::PathBuf;

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

    /// The model of a folder.
    ///
    /// # Errors
    /// A broken or unsupported configuration, no weights.
    pub fn of_folder(folder: PathBuf) -> Result<Self> {
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

    /// The model's tokenizer, cutting at `asked` tokens or where the model's positions end.
    ///
    /// # Errors
    /// A broken tokenizer, one that does not fit the model, or an `asked` beyond the model.
    pub fn tokenizer(&self, asked: Option<usize>) -> Result<TextTokenizer> {
        TextTokenizer::load(
            &self.folder,
            TokenizerOptions {
                vocab_size: self.config.vocab,
                type_rows: self.config.type_vocab,
                max_len: max_len(asked, self.config.max_len())?,
                positions: Positions { offset: self.config.position_offset() as u32 },
            },
        )
    }

    /// What `--pooling` means for this checkpoint.
    ///
    /// # Errors
    /// As [`checkpoint_pooling`].
    pub fn pooling(&self, asked: Pooling) -> Result<PoolKind> {
        match asked.kind() {
            Some(kind) => Ok(kind),
            None => checkpoint_pooling(&self.folder),
        }
    }
}

/// Says what became of texts that are not taken as they are.
pub fn say_counts(quiet: bool, file: &str, counts: TextCounts, max_len: usize) {
    if counts.truncated > 0 {
        say(quiet, format_args!("{file}: {} texts cut to {max_len} tokens", counts.truncated));
    }
    if counts.empty > 0 {
        say(quiet, format_args!("{file}: {} texts are empty", counts.empty));
    }
}
