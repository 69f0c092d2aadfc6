//! Builds a tokenizer from a checkpoint folder: the ready `tokenizer.json`, or the vocabulary of older
//! checkpoints, by the rules of its class.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value, json};
use tokenizers::models::bpe::BPE;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::{PostProcessorWrapper, Tokenizer};

use super::contained::contained;
use super::lower_case::{Lowered, lower_case};
use super::special_tokens::Class;
use super::tokenizer_claims;
use super::tokenizer_class::{ChosenClass, choose, model_type};
use super::tokenizer_config::Config;
use crate::formats::model_files::{
    self, MERGES, TOKENIZER, TOKENIZER_CONFIG, VOCAB_JSON, VOCAB_TXT, read_file, read_json,
};
use crate::formats::sentence::TextSettings;

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

/// A folder's tokenizer as `transformers` would build it.
pub(super) struct Loaded {
    pub tokenizer: Tokenizer,
    pub cut: CutSide,
    /// Whether the model gets token types from it.
    pub gives_types: bool,
    pub lowered: Lowered,
    /// What the user should know: readings that others may not share.
    pub notes: Vec<String>,
}

/// The tokenizer of `folder`.
pub(super) fn load(folder: &Path) -> Result<Loaded> {
    let mut chosen = class_of(folder)?;
    let (source, mut written) = read_source(folder, chosen.as_ref())?;
    let place = || match source.ends_with(VOCAB_JSON) {
        true => format!("{} with {MERGES}", source.display()),
        false => source.display().to_string(),
    };
    if chosen.is_none() {
        // Only the vocabulary tells.
        let of = [(VOCAB_TXT, "bert"), (VOCAB_JSON, "roberta")]
            .into_iter()
            .find(|(name, _)| source.ends_with(name));
        chosen = choose(of.map(|(_, model_type)| model_type), None)?;
    }
    let config = Config::read(folder, written.get("added_tokens"))?;
    let cut_left = tokenizer_claims::take_lengths(&mut written);
    contained(|| tokenizer_claims::check(&written, config.bytes_of_tokens()))
        .flatten()
        .map_err(|e| anyhow!("{}: the tokenizer exceeds a limit: {e}", place()))?;
    let mut notes = Vec::new();
    if let Some(ChosenClass { class, name, .. }) = &mut chosen
        && !class.fits(&written["model"])
    {
        notes.push(format!(
            "{} has a {} model, which transformers' {name} does not: the file is used as it is",
            place(),
            model_type(&written["model"])
        ));
        *class = Class::Written;
    }
    if let Some(ChosenClass { name, .. }) = chosen.as_ref().filter(|chosen| !chosen.known) {
        notes.push(format!("tokenizer_class {name} is unknown: {} is used as it is", place()));
    }
    let class = chosen.as_ref().map_or(Class::Written, |chosen| chosen.class);

    let space =
        written.get("pre_tokenizer").and_then(|part| part.get("add_prefix_space")?.as_bool());
    if let (Class::Written, Some(space), Some(_)) = (class, space, &chosen)
        && space != config.flag("add_prefix_space", false)?
    {
        notes.push(format!(
            "add_prefix_space is {space}, as in {} and transformers 5; version 4 used that of {TOKENIZER_CONFIG}, or \
             false",
            place()
        ));
    }

    let dropout = written["model"].get_mut("dropout").map(Value::take);
    if class == Class::Written && dropout.as_ref().and_then(Value::as_f64).is_some_and(|p| p > 0.0)
    {
        notes.push(format!(
            "{} sets BPE dropout, which splits a text differently each time: it is switched off",
            place()
        ));
    }

    let form = written.get("post_processor").cloned().unwrap_or_default();
    let from_json = source.ends_with(TOKENIZER);
    let unusable = |e: String| anyhow!("{}: not a usable tokenizer: {e}", place());
    let mut other = Vec::new();
    if class != Class::Written {
        let dressed = contained(|| class.dress(&mut written, &config));
        other = dressed.map_err(unusable)??;
        written.insert("added_tokens".into(), json!([]));
        written.insert("post_processor".into(), Value::Null);
    }
    let mut tokenizer: Tokenizer = contained(|| serde_json::from_value(written.into()))
        .map_err(unusable)?
        .map_err(|e| unusable(e.to_string()))?;
    config.add_tokens(&mut tokenizer, class).with_context(|| folder.display().to_string())?;
    if class != Class::Written && from_json {
        let same = contained(|| encloses_as(&mut tokenizer, form, class, &config));
        if !same.map_err(unusable)?.with_context(place)? {
            other.push("form of texts and pairs");
        }
    }
    class.enclose(&mut tokenizer, &config).with_context(place)?;
    if let (true, false, Some(ChosenClass { name, .. })) = (from_json, other.is_empty(), &chosen) {
        notes.push(format!(
            "tokenizer.json has another {} than transformers' {name} with the settings of {TOKENIZER_CONFIG}: the \
             class is followed, as in transformers",
            other.join(", ")
        ));
    }

    let settings = TextSettings::of(folder)?;
    let lowered = match settings.lower_case {
        true => lower_case(&mut tokenizer, class)?,
        false => Lowered::AsWritten,
    };
    if lowered != Lowered::AsWritten {
        notes.push(format!(
            "texts are lower-cased first, as set by do_lower_case in {}; the tokenizer itself does not",
            settings.file
        ));
    }
    tokenizer.set_encode_special_tokens(config.flag("split_special_tokens", false)?);
    let cut = match (config.text("truncation_side"), cut_left) {
        (Some("left"), _) | (None, true) => CutSide::Left,
        _ => CutSide::Right,
    };
    let gives_types = match config.value("model_input_names").and_then(Value::as_array) {
        Some(names) => names.iter().any(|name| name == "token_type_ids"),
        None => chosen.is_none_or(|chosen| chosen.gives_types),
    };
    Ok(Loaded { tokenizer, cut, gives_types, lowered, notes })
}

/// The class that a folder's tokenizer is meant for.
fn class_of(folder: &Path) -> Result<Option<ChosenClass>> {
    let settings = read_json(&folder.join(TOKENIZER_CONFIG))?.unwrap_or_default();
    let model = read_json(&folder.join(model_files::CONFIG))?.unwrap_or_default();
    let named =
        [&settings, &model].into_iter().find_map(|file| file.get("tokenizer_class")?.as_str());
    let model_type = model.get("model_type").and_then(Value::as_str);
    choose(model_type, named).with_context(|| folder.display().to_string())
}

/// What the class starts from, in the form of a `tokenizer.json`, and the file it comes from.
fn read_source(
    folder: &Path,
    chosen: Option<&ChosenClass>,
) -> Result<(PathBuf, Map<String, Value>)> {
    let has = |name: &str| folder.join(name).is_file();
    let path = folder.join(TOKENIZER);
    if has(TOKENIZER) {
        let unusable = || format!("{}: not a usable tokenizer", path.display());
        return match read_json(&path).with_context(unusable)? {
            Some(Value::Object(json)) if json.contains_key("model") => Ok((path, json)),
            _ => bail!("{}: it has no model", unusable()),
        };
    }
    let class = chosen.map(|chosen| chosen.class);
    let whole = |model: Value| {
        let mut json = Map::new();
        json.insert("version".into(), "1.0".into());
        json.insert("model".into(), model);
        json
    };
    if has(VOCAB_TXT) && class.is_none_or(|class| class == Class::Bert) {
        let path = folder.join(VOCAB_TXT);
        let bytes = read_file(&path)?;
        let vocab =
            WordPiece::read_bytes(&bytes).map_err(|e| anyhow!("{}: {e}", path.display()))?;
        let vocab: Map<String, Value> = vocab.into_iter().map(|(t, id)| (t, id.into())).collect();
        return Ok((path, whole(json!({"type": "WordPiece", "vocab": vocab}))));
    }
    if has(VOCAB_JSON) && has(MERGES) && class.is_none_or(|class| class == Class::Roberta) {
        let path = folder.join(VOCAB_JSON);
        // Limits the size; the crate would read any amount.
        [&path, &folder.join(MERGES)].into_iter().try_for_each(|path| read_file(path).map(drop))?;
        let text = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let (vocab, merges) = BPE::read_file(&text(VOCAB_JSON), &text(MERGES))
            .map_err(|e| anyhow!("{} with {MERGES}: {e}", path.display()))?;
        let vocab: Map<String, Value> = vocab.into_iter().map(|(t, id)| (t, id.into())).collect();
        let model = json!({"type": "BPE", "vocab": vocab, "merges": merges});
        return Ok((path, whole(model)));
    }
    match chosen {
        Some(ChosenClass { name, .. }) if has(VOCAB_TXT) || has(VOCAB_JSON) => bail!(
            "{}: no tokenizer files for {name}; save it as tokenizer.json with transformers",
            folder.display()
        ),
        _ => bail!(
            "{}: no tokenizer; tokenizer.json, vocab.txt, or vocab.json with merges.txt is needed",
            folder.display()
        ),
    }
}

/// Whether a serialised form puts the same special tokens around texts and pairs as the class.
///
/// # Errors
/// It has an id without a token: damage, even though the class does not need the form.
fn encloses_as(
    tokenizer: &mut Tokenizer,
    form: Value,
    class: Class,
    config: &Config,
) -> Result<bool> {
    let specials = |tokenizer: &Tokenizer| {
        let single = tokenizer.encode_fast("", true).ok()?;
        let pair = tokenizer.encode_fast(("", ""), true).ok()?;
        Some([single, pair].map(|encoding| encoding.get_ids().to_vec()))
    };
    let Ok(form) = serde_json::from_value::<Option<PostProcessorWrapper>>(form) else {
        return Ok(false);
    };
    tokenizer.with_post_processor(form);
    let written = specials(tokenizer);
    let ids = written.iter().flatten().flatten();
    if let Some(id) = ids.copied().find(|&id| tokenizer.id_to_token(id).is_none()) {
        bail!("post_processor puts the id {id} around texts, which is not in the vocabulary");
    }
    Ok(class.enclose(tokenizer, config).is_err() || written == specials(tokenizer))
}
