//! Which files make a model folder, by the names that `transformers` gives them: said once for what fetches a folder,
//! reads it, and writes one like it.

use std::path::Path;

pub const CONFIG: &str = "config.json";

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

/// How a sentence encoder pools.
pub const POOLING: &str = "1_Pooling/config.json";

/// All that a tokenizer may consist of. Not all is read here: what `transformers` reads goes wherever the model goes.
pub const TOKENIZER_FILES: [&str; 8] = [
    TOKENIZER,
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    ADDED_TOKENS,
    VOCAB_TXT,
    VOCAB_JSON,
    MERGES,
    "sentencepiece.bpe.model",
];

/// What says that a model is a sentence encoder, and of which kind.
pub const SENTENCE_ENCODER_FILES: [&str; 2] = ["modules.json", POOLING];

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
