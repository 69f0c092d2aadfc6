//! Builds a tokenizer from what a checkpoint folder holds: the ready `tokenizer.json`, or the older files with the
//! settings of `tokenizer_config.json` (as `BertTokenizer` and `RobertaTokenizer` of transformers read them).

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use tokenizers::models::bpe::BPE;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Model, Tokenizer};

use super::contained::contained;
use crate::formats::model_files::{
    ADDED_TOKENS, MERGES, TOKENIZER, TOKENIZER_CONFIG, TokenizerSource, VOCAB_JSON, VOCAB_TXT,
};

/// Which end of a long text is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CutSide {
    Left,
    Right,
}

impl CutSide {
    pub(super) fn keep(self, ids: &[u32], count: usize) -> &[u32] {
        match self {
            CutSide::Right => &ids[..count],
            CutSide::Left => &ids[ids.len() - count..],
        }
    }
}

/// The tokenizer of `folder`, and which end of a long text it cuts.
pub(super) fn load(folder: &Path) -> Result<(Tokenizer, CutSide)> {
    let config = Config::read(folder)?;
    let has = |name: &str| folder.join(name).is_file();
    let tokenizer = match TokenizerSource::find(has) {
        Some(TokenizerSource::Ready) => {
            let path = folder.join(TOKENIZER);
            let bytes =
                std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            ready(&bytes).map_err(|e| anyhow!("{}: not a usable tokenizer: {e}", path.display()))?
        }
        Some(TokenizerSource::WordPiece) => {
            let mut tokenizer = word_piece(&folder.join(VOCAB_TXT), &config)?;
            add_tokens(folder, &mut tokenizer)?;
            tokenizer
        }
        Some(TokenizerSource::ByteLevelBpe) => {
            let mut tokenizer = byte_level_bpe(folder, &config)?;
            add_tokens(folder, &mut tokenizer)?;
            tokenizer
        }
        None => bail!(
            "{}: no tokenizer; tokenizer.json, vocab.txt, or vocab.json with merges.txt is needed",
            folder.display()
        ),
    };
    let cut = match config.text("truncation_side") {
        Some("left") => CutSide::Left,
        _ => CutSide::Right,
    };
    Ok((tokenizer, cut))
}

/// A `tokenizer.json`. Its syntax is looked at first: the library panics on some of what is wrong with it, without a
/// place.
fn ready(bytes: &[u8]) -> Result<Tokenizer, String> {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).map_err(|e| e.to_string())?;
    contained(|| Tokenizer::from_bytes(bytes))?.map_err(|e| e.to_string())
}

/// `tokenizer_config.json`; empty where there is none.
struct Config(Value);

impl Config {
    fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(TOKENIZER_CONFIG);
        match std::fs::read(&path) {
            Ok(bytes) => {
                let value =
                    serde_json::from_slice(&bytes).with_context(|| path.display().to_string())?;
                Ok(Self(value))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self(Value::Null)),
            Err(e) => Err(e).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str()
    }

    fn flag(&self, key: &str) -> Option<bool> {
        self.0.get(key)?.as_bool()
    }

    /// A special token: a string, or an object with `content`.
    fn token(&self, key: &str, default: &str) -> String {
        let value = self.0.get(key);
        let content = value.and_then(|v| v.as_str().or_else(|| v.get("content")?.as_str()));
        content.unwrap_or(default).to_owned()
    }
}

/// `BertTokenizer`: lower-casing is on unless the config says otherwise, accents go with it.
fn word_piece(path: &Path, config: &Config) -> Result<Tokenizer> {
    let name = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {name}"))?;
    let vocab = WordPiece::read_bytes(&bytes).map_err(|e| anyhow!("{name}: {e}"))?;
    let [unk, sep, pad, cls, mask] = [
        config.token("unk_token", "[UNK]"),
        config.token("sep_token", "[SEP]"),
        config.token("pad_token", "[PAD]"),
        config.token("cls_token", "[CLS]"),
        config.token("mask_token", "[MASK]"),
    ];
    let id = |token: &String| {
        vocab
            .get(token)
            .copied()
            .with_context(|| format!("{name}: the special token {token:?} is not in it"))
    };
    let (cls_id, sep_id) = (id(&cls)?, id(&sep)?);
    id(&unk)?;
    let model = WordPiece::builder().vocab(vocab).unk_token(unk.clone()).build();
    let mut tokenizer = Tokenizer::new(model.map_err(|e| anyhow!("{name}: {e}"))?);
    let normalizer = BertNormalizer::new(
        true,
        config.flag("tokenize_chinese_chars").unwrap_or(true),
        config.flag("strip_accents"),
        config.flag("do_lower_case").unwrap_or(true),
    );
    tokenizer.with_normalizer(Some(normalizer)).map_err(|e| anyhow!(e))?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    let template = TemplateProcessing::builder()
        .try_single(format!("{cls}:0 $A:0 {sep}:0"))
        .and_then(|builder| builder.try_pair(format!("{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1")))
        .map_err(|e| anyhow!("{name}: {e}"))?
        .special_tokens(vec![(cls.clone(), cls_id), (sep.clone(), sep_id)])
        .build()
        .map_err(|e| anyhow!("{name}: {e}"))?;
    tokenizer.with_post_processor(Some(template));
    add_specials(&mut tokenizer, [unk, sep, pad, cls, mask].map(|t| AddedToken::from(t, true)))?;
    Ok(tokenizer)
}

/// `RobertaTokenizer`: byte-level BPE, `<s> A </s>` and `<s> A </s></s> B </s>`, all of type 0.
fn byte_level_bpe(folder: &Path, config: &Config) -> Result<Tokenizer> {
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let name = folder.join(VOCAB_JSON);
    let name = name.display();
    let (vocab, merges) = BPE::read_file(&path(VOCAB_JSON), &path(MERGES))
        .map_err(|e| anyhow!("{name} with merges.txt: {e}"))?;
    let [unk, sep, pad, cls, mask] = [
        config.token("unk_token", "<unk>"),
        config.token("sep_token", "</s>"),
        config.token("pad_token", "<pad>"),
        config.token("cls_token", "<s>"),
        config.token("mask_token", "<mask>"),
    ];
    let id = |token: &String| {
        vocab
            .get(token)
            .copied()
            .with_context(|| format!("{name}: the special token {token:?} is not in it"))
    };
    let (cls_id, sep_id) = (id(&cls)?, id(&sep)?);
    let space = config.flag("add_prefix_space").unwrap_or(false);
    let model = BPE::builder().vocab_and_merges(vocab, merges).build();
    let mut tokenizer = Tokenizer::new(model.map_err(|e| anyhow!("{name} with merges.txt: {e}"))?);
    tokenizer.with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(space)));
    let template = RobertaProcessing::new((sep.clone(), sep_id), (cls.clone(), cls_id))
        .add_prefix_space(space);
    tokenizer.with_post_processor(Some(template));
    // The mask swallows the space before it, so that "a <mask>" is two tokens.
    let mask = AddedToken::from(mask, true).lstrip(true);
    let [unk, sep, pad, cls] = [unk, sep, pad, cls].map(|t| AddedToken::from(t, true));
    add_specials(&mut tokenizer, [unk, sep, pad, cls, mask])?;
    Ok(tokenizer)
}

/// Marks special tokens, so that they are not taken apart when a text contains them. One that the vocabulary lacks
/// (often the mask) is left out: added, it would get an id that the model has no row for.
fn add_specials(tokenizer: &mut Tokenizer, tokens: [AddedToken; 5]) -> Result<()> {
    let known: Vec<_> = tokens
        .into_iter()
        .filter(|token| tokenizer.get_model().token_to_id(&token.content).is_some())
        .collect();
    tokenizer.add_special_tokens(known).map_err(|e| anyhow!(e))?;
    Ok(())
}

/// `added_tokens.json` (token to id) of older checkpoints.
fn add_tokens(folder: &Path, tokenizer: &mut Tokenizer) -> Result<()> {
    let path = folder.join(ADDED_TOKENS);
    if !path.is_file() {
        return Ok(());
    }
    let name = path.display();
    let bytes = std::fs::read(&path).with_context(|| format!("cannot read {name}"))?;
    let ids: std::collections::HashMap<String, u32> =
        serde_json::from_slice(&bytes).with_context(|| name.to_string())?;
    let mut tokens: Vec<(String, u32)> = ids.into_iter().collect();
    tokens.sort_by_key(|(_, id)| *id);
    for (token, id) in tokens {
        tokenizer.add_tokens([AddedToken::from(token.clone(), false)]).map_err(|e| anyhow!(e))?;
        if tokenizer.token_to_id(&token) != Some(id) {
            bail!(
                "{name}: the token {token:?} has the id {id}, which does not follow the vocabulary; convert the \
                tokenizer to tokenizer.json"
            );
        }
    }
    Ok(())
}
