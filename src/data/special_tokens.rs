//! The kinds of tokenizer classes, and their special tokens unless a file says otherwise.

use tokenizers::AddedToken;

/// The rules by which a tokenizer is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Bert,
    Roberta,
    XlmRoberta,
    Camembert,
    /// As `tokenizer.json` says.
    Written,
}

impl Class {
    /// The special tokens that a file may name, with their defaults.
    pub fn specials(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Bert => &[
                ("unk_token", "[UNK]"),
                ("sep_token", "[SEP]"),
                ("pad_token", "[PAD]"),
                ("cls_token", "[CLS]"),
                ("mask_token", "[MASK]"),
                ("bos_token", ""),
                ("eos_token", ""),
            ],
            Self::Roberta | Self::XlmRoberta | Self::Camembert => &[
                ("bos_token", "<s>"),
                ("eos_token", "</s>"),
                ("sep_token", "</s>"),
                ("cls_token", "<s>"),
                ("unk_token", "<unk>"),
                ("pad_token", "<pad>"),
                ("mask_token", "<mask>"),
            ],
            Self::Written => &[
                ("bos_token", ""),
                ("eos_token", ""),
                ("unk_token", ""),
                ("sep_token", ""),
                ("pad_token", ""),
                ("cls_token", ""),
                ("mask_token", ""),
            ],
        }
    }

    /// A special token of the class that no file describes further.
    pub fn special(self, key: &str, content: &str) -> AddedToken {
        let swallows = self == Self::Camembert && key == "mask_token";
        AddedToken::from(content, true).lstrip(swallows)
    }
}
