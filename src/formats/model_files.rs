//! The files that make up a model folder, with the names that `transformers` uses: the single definition for fetching,
//! reading and writing such folders.

use crate::files::{open_whole, read_bounded};
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;

pub const CONFIG: &str = "config.json";

/// Keys of [`CONFIG`] that make `transformers` quantise the weights it loads.
pub const QUANTIZATION: [&str; 2] = ["quantization_config", "compression_config"];

/// Weights in one file.
pub const WEIGHTS: &str = "model.safetensors";

/// The list of the files, if there are several with weights.
pub const WEIGHTS_INDEX: &str = "model.safetensors.index.json";

/// The task's head, if `transformers` has no class for it and it is stored next to a bare encoder.
pub const HEAD: &str = "head.safetensors";

/// The tokenizer as one file, ready to use.
pub const TOKENIZER: &str = "tokenizer.json";

/// The settings of the tokenizer's class.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// WordPiece's vocabulary.
pub const VOCAB_TXT: &str = "vocab.txt";

/// The vocabulary of byte-level BPE; [`MERGES`] belongs to it.
pub const VOCAB_JSON: &str = "vocab.json";

pub const MERGES: &str = "merges.txt";

/// Tokens beyond the vocabulary, if there is no [`TOKENIZER`] to list them.
pub const ADDED_TOKENS: &str = "added_tokens.json";

/// The components of a sentence encoder.
pub const MODULES: &str = "modules.json";

/// The folder of a sentence encoder's pooling module, unless [`MODULES`] says otherwise.
pub const POOLING_FOLDER: &str = "1_Pooling";

/// Special tokens by role, in older checkpoints.
pub const SPECIAL_TOKENS: &str = "special_tokens_map.json";

/// How a sentence encoder pools.
pub const POOLING: &str = "1_Pooling/config.json";

/// The settings of the transformer within a sentence encoder, by the file names of various versions. The first that
/// exists counts.
pub const SENTENCE_CONFIGS: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// The prompts that a sentence encoder puts before its texts.
pub const SENTENCE_PROMPTS: &str = "config_sentence_transformers.json";

/// All files that a tokenizer may consist of. Not all are used here, but what `transformers` reads is always copied
/// with the model.
pub const TOKENIZER_FILES: [&str; 8] = [
    TOKENIZER,
    TOKENIZER_CONFIG,
    SPECIAL_TOKENS,
    ADDED_TOKENS,
    VOCAB_TXT,
    VOCAB_JSON,
    MERGES,
    "sentencepiece.bpe.model",
];

/// Files that mark a model as a sentence encoder, and say which kind.
pub const SENTENCE_ENCODER_FILES: [&str; 10] = {
    let [bert, roberta, distilbert, camembert, albert, xlm_roberta, xlnet] = SENTENCE_CONFIGS;
    [
        MODULES,
        POOLING,
        SENTENCE_PROMPTS,
        bert,
        roberta,
        distilbert,
        camembert,
        albert,
        xlm_roberta,
        xlnet,
    ]
};

/// Files that are never written here, but that `transformers` and Sentence Transformers read from any folder: an
/// adapter to apply to the model, and other ways to prepare inputs.
pub const READ_BESIDES: [&str; 3] = [ADAPTER, "preprocessor_config.json", "processor_config.json"];

/// Marks a folder with an adapter.
pub const ADAPTER: &str = "adapter_config.json";

/// The values of an adapter.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// What a hub displays about a model.
pub const CARD: &str = "README.md";

/// What a tokenizer is built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenizerSource {
    /// [`TOKENIZER`].
    Ready,
    /// [`VOCAB_TXT`].
    WordPiece,
    /// [`VOCAB_JSON`] with [`MERGES`].
    ByteLevelBpe,
}

impl TokenizerSource {
    /// The best source available, given `has`; `None` if no tokenizer can be built.
    pub fn find(has: impl Fn(&str) -> bool) -> Option<Self> {
        if has(TOKENIZER) {
            Some(Self::Ready)
        } else if has(VOCAB_TXT) {
            Some(Self::WordPiece)
        } else if has(VOCAB_JSON) && has(MERGES) {
            Some(Self::ByteLevelBpe)
        } else {
            None
        }
    }
}

/// Whether a folder holds a model: the configuration is written last.
pub fn holds_model(folder: &Path) -> bool {
    folder.join(CONFIG).exists()
}

/// Most bytes of a file other than the weights: vocabularies of a few hundred thousand words take a tenth.
const MOST_BYTES: u64 = 256 << 20;

/// A file of a model folder other than the weights.
///
/// # Errors
/// It cannot be read, or is endless.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    // Reading a pipe in such a folder would block.
    open_whole(path).with_context(|| format!("cannot read {}", path.display()))?;
    read_bounded(path, MOST_BYTES)
}

/// A JSON file of a model folder; `None` if it does not exist.
///
/// # Errors
/// A file that cannot be read or is not JSON.
pub fn read_json(path: &Path) -> Result<Option<Value>> {
    if path.try_exists().is_ok_and(|there| !there) {
        return Ok(None);
    }
    let json = serde_json::from_slice(&read_file(path)?)
        .with_context(|| format!("{} is not JSON", path.display()))?;
    Ok(Some(json))
}
