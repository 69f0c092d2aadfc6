//! What the tokenizer files of a written model must state beyond its base's, so that `transformers` and Sentence
//! Transformers make the same ids for a text: where it is cut, and that it is lower-cased.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokenizers::NormalizerWrapper;

use super::lower_case::Lowered;
use crate::files::write_bytes_atomic;
use crate::formats::model_files::{
    SENTENCE_CONFIGS, TOKENIZER, TOKENIZER_CONFIG, read_file, read_json,
};

/// Changes the files in `folder`; returns what no file there can express.
///
/// # Errors
/// A file that cannot be read or written.
pub(super) fn settle(
    folder: &Path,
    max_len: usize,
    lowered: Lowered,
    normalizer: Option<&NormalizerWrapper>,
) -> Result<Option<String>> {
    let mut settings = vec![("model_max_length", json!(max_len))];
    if let Lowered::ByClass { strip_accents } = lowered {
        settings.extend([("do_lower_case", json!(true)), ("strip_accents", json!(strip_accents))]);
    }
    change(&folder.join(TOKENIZER_CONFIG), &settings, true)?;
    for name in SENTENCE_CONFIGS {
        change(&folder.join(name), &[("max_seq_length", json!(max_len))], false)?;
    }
    let normalizer = match lowered {
        Lowered::ByClass { .. } | Lowered::ByNormalizer => normalizer,
        Lowered::AsWritten | Lowered::Besides => None,
    };
    written(&folder.join(TOKENIZER), max_len, normalizer)?;
    Ok((lowered == Lowered::Besides).then(|| {
        format!(
            "transformers will not lower-case texts for the model in {}, unlike training and Sentence Transformers: give it \
             texts in lower case",
            folder.display()
        )
    }))
}

/// Sets keys in a settings file; a missing one is created if it `may_be_made`.
fn change(path: &Path, settings: &[(&str, Value)], may_be_made: bool) -> Result<()> {
    let before = match read_json(path)? {
        Some(Value::Object(map)) => map,
        None if may_be_made => Map::new(),
        // Anything that is not an object was refused when it was read.
        _ => return Ok(()),
    };
    let mut after = before.clone();
    after.extend(settings.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    match after == before {
        true => Ok(()),
        false => write_bytes_atomic(path, format!("{:#}\n", Value::from(after)).as_bytes()),
    }
}

/// The same for `tokenizer.json`; everything else in it stays as written, including numbers.
fn written(path: &Path, max_len: usize, normalizer: Option<&NormalizerWrapper>) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let bytes = read_file(path)?;
    let place = || format!("{} is not JSON", path.display());
    let mut parts: BTreeMap<String, Box<RawValue>> =
        serde_json::from_slice(&bytes).with_context(place)?;
    let mut changed = false;
    let mut put = |key: &str, value: Value| -> Result<()> {
        parts.insert(key.to_owned(), RawValue::from_string(value.to_string())?);
        changed = true;
        Ok(())
    };
    let truncation = Truncation::of(&bytes).with_context(place)?;
    if let Some(mut truncation) = truncation
        && truncation.insert("max_length".to_owned(), max_len.into()) != Some(max_len.into())
    {
        put("truncation", truncation.into())?;
    }
    if let Some(normalizer) = normalizer {
        put("normalizer", serde_json::to_value(normalizer)?)?;
    }
    match changed {
        true => write_bytes_atomic(path, &serde_json::to_vec(&parts)?),
        false => Ok(()),
    }
}

/// The part of a `tokenizer.json` that says where texts are cut.
#[derive(serde::Deserialize)]
struct Truncation {
    truncation: Option<Map<String, Value>>,
}

impl Truncation {
    fn of(bytes: &[u8]) -> Result<Option<Map<String, Value>>> {
        Ok(serde_json::from_slice::<Self>(bytes)?.truncation)
    }
}
