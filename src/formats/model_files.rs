//! Which files make a model folder, by the names that `transformers` gives them: said once for what fetches a folder,
//! reads it, and writes one like it.

use crate::files::{open_whole, read_bounded};
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;

pub const CONFIG: &str = "config.json";

/// Keys of [`CONFIG`] by which `transformers` quantises the weights that it loads.
pub const QUANTIZATION: [&str; 2] = ["quantization_config", "compression_config"];

/// Weights in one file.
pub const WEIGHTS: &str = "model.safetensors";

/// Weights in several files: the list of them.
pub const WEIGHTS_INDEX: &str = "model.safetensors.index.json";

/// The task's head, where `transformers` has no class for it and it lies beside a bare encoder.
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

/// Tokens beyond the vocabulary, where there is no [`TOKENIZER`] to list them.
pub const ADDED_TOKENS: &str = "added_tokens.json";

/// What a sentence encoder consists of.
pub const MODULES: &str = "modules.json";

/// Where a sentence encoder's pooling module is, unless [`MODULES`] says otherwise.
pub const POOLING_FOLDER: &str = "1_Pooling";

/// Special tokens by their part, as older checkpoints have them.
pub const SPECIAL_TOKENS: &str = "special_tokens_map.json";

/// How a sentence encoder pools.
pub const POOLING: &str = "1_Pooling/config.json";

/// The settings of the transformer within a sentence encoder, by the names that its versions gave the file. The first
/// counts.
pub const SENTENCE_CONFIGS: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// What a sentence encoder puts before its texts.
pub const SENTENCE_PROMPTS: &str = "config_sentence_transformers.json";

/// All that a tokenizer may consist of. Not all is read here: what `transformers` reads goes wherever the model goes.
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

/// What says that a model is a sentence encoder, and of which kind.
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

/// Files that are never written here, and that `transformers` and Sentence Transformers read wherever they are: an adapter
/// to put on the model, and other ways to prepare inputs.
pub const READ_BESIDES: [&str; 3] = [ADAPTER, "preprocessor_config.json", "processor_config.json"];

/// Says that the folder holds an adapter.
pub const ADAPTER: &str = "adapter_config.json";

/// The values of an adapter.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// What a hub shows of a model.
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
    /// The best that a place has, which `has` answers for; `None` where no tokenizer can be built.
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

/// Most bytes of a file beside the weights: vocabularies of some hundred thousand words have a tenth.
const MOST_BYTES: u64 = 256 << 20;

/// A file of a model folder beside the weights.
///
/// # Errors
/// It cannot be read, or never ends.
pub fn read_file(path: &Path) -> Result<Vec<u8>> {
    // A pipe in such a folder would be waited for.
    open_whole(path).with_context(|| format!("cannot read {}", path.display()))?;
    read_bounded(path, MOST_BYTES)
}

/// A JSON file of a model folder; `None` where it is not there.
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
