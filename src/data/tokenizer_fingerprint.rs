//! What a tokenizer does with texts, as named values: two tokenizers with equal values give the same ids, whichever
//! files they come from and however these are written. The maximum length of texts is not part of it.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokenizers::Tokenizer;

use crate::formats::fingerprint::Fingerprint;

/// What the crate's tokenizer does between a text and its ids.
pub(super) fn of(tokenizer: &Tokenizer) -> Result<Fingerprint> {
    let mut json = serde_json::to_value(tokenizer).context("the tokenizer cannot be described")?;
    without_offsets(&mut json["normalizer"]);
    without_offsets(&mut json["pre_tokenizer"]);
    let tokens = json["added_tokens"].as_array().into_iter().flatten();
    let added: serde_json::Map<String, Value> = tokens
        .map(|token| {
            let content = token["content"].as_str().unwrap_or_default().to_owned();
            let flags = ["special", "single_word", "lstrip", "rstrip", "normalized"];
            let on = flags.into_iter().filter(|&flag| token[flag] == true);
            let said = std::iter::once(token["id"].to_string()).chain(on.map(str::to_owned));
            (content, said.collect::<Vec<_>>().join(" ").into())
        })
        .collect();
    Ok(Fingerprint::default().with_json(
        "tokenizer",
        &json!({
            "normalizer": json["normalizer"],
            "pre_tokenizer": json["pre_tokenizer"],
            "model": json["model"],
            "added_tokens": added,
            "split_special_tokens": tokenizer.get_encode_special_tokens(),
        }),
    ))
}

/// Removes what does not change any id: which characters a token is said to stand for.
fn without_offsets(part: &mut Value) {
    match part {
        Value::Object(map) => {
            map.remove("trim_offsets");
            map.values_mut().for_each(without_offsets);
        }
        Value::Array(list) => list.iter_mut().for_each(without_offsets),
        _ => {}
    }
}
