//! The base model that a command works on: its folder, configuration and identity.

use super::{max_len, say};
use crate::data::{Positions, TextCounts, TextTokenizer, TokenizerOptions};
use crate::files::weights_sha256;
use crate::formats::model_tensors::ModelTensors;
use crate::formats::sentence::{LongestText, Makers};
use crate::hub;
use crate::model::config::ModelConfig;
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
}

impl Base {
    /// Finds a model by folder or hub name.
    ///
    /// # Errors
    /// No such model, no network, a broken or unsupported configuration, no weights.
    pub fn open(model: &str, quiet: bool) -> Result<Self> {
        Self::of_folder(hub::resolve(model, quiet)?)
    }

    /// The model of a folder.
    ///
    /// # Errors
    /// A broken or unsupported configuration, no weights.
    pub fn of_folder(folder: PathBuf) -> Result<Self> {
        let config = ModelConfig::read(&folder)?;
        let sha256 = weights_sha256(&ModelTensors::files(&folder)?)?;
        Ok(Self { folder, config, sha256 })
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

/// Says what became of texts that are not taken as they are.
pub fn say_counts(quiet: bool, file: &str, counts: TextCounts, max_len: usize) {
    if counts.truncated > 0 {
        say(quiet, format_args!("{file}: {} texts cut to {max_len} tokens", counts.truncated));
    }
    if counts.empty > 0 {
        say(quiet, format_args!("{file}: {} texts are empty", counts.empty));
    }
}
