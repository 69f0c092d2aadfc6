//! The settings of a checkpoint's tokenizer: `tokenizer_config.json`, merged as in `transformers` with the additional
//! files of older checkpoints.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Map, Value};
use tokenizers::{AddedToken, Tokenizer};

use super::special_tokens::Class;
use crate::formats::model_files::{ADDED_TOKENS, SPECIAL_TOKENS, TOKENIZER_CONFIG, read_json};

/// The settings; empty if there are none.
pub(super) struct Config {
    /// `tokenizer_config.json`, for errors.
    path: PathBuf,
    settings: Map<String, Value>,
    /// Tokens that are not split, by id, with the file that lists each.
    added: BTreeMap<u32, (AddedToken, &'static str)>,
}

impl Config {
    /// Reads the files of a folder; `listed` are the tokens that its `tokenizer.json` lists.
    ///
    /// # Errors
    /// A file that is broken.
    pub fn read(folder: &Path, listed: Option<&Value>) -> Result<Self> {
        let object = |name: &str| -> Result<Map<String, Value>> {
            let path = folder.join(name);
            match read_json(&path)? {
                None => Ok(Map::new()),
                Some(Value::Object(map)) => Ok(map),
                Some(_) => bail!("{}: not a JSON object", path.display()),
            }
        };
        let place = |name: &str| folder.join(name).display().to_string();
        let mut settings = object(TOKENIZER_CONFIG)?;
        let path = folder.join(TOKENIZER_CONFIG);
        let mut added = BTreeMap::new();
        if let Some(list) = settings.get("added_tokens_decoder") {
            let list = list
                .as_object()
                .context("`added_tokens_decoder` is not an object")
                .with_context(|| place(TOKENIZER_CONFIG))?;
            for (id, token) in list {
                let id = id
                    .parse()
                    .with_context(|| format!("`added_tokens_decoder` has the id {id:?}"))
                    .with_context(|| place(TOKENIZER_CONFIG))?;
                let token = described(token, false).with_context(|| place(TOKENIZER_CONFIG))?;
                added.insert(id, (token, TOKENIZER_CONFIG));
            }
            return Ok(Self { path, settings, added });
        }
        // The files that this list replaced only count if it is missing.
        for (key, mut token) in object(SPECIAL_TOKENS)? {
            if let Some(token) = token.as_object_mut() {
                token.insert("special".into(), true.into());
            }
            settings.insert(key, token);
        }
        let mut config = Self { path, settings, added };
        let specials = config.specials();
        for (content, id) in object(ADDED_TOKENS)? {
            let id = id
                .as_u64()
                .and_then(|id| u32::try_from(id).ok())
                .with_context(|| format!("{}: {content:?} has no id", place(ADDED_TOKENS)))?;
            let special = specials.contains(&content);
            let token = AddedToken::from(content, special);
            config.added.insert(id, (token, ADDED_TOKENS));
        }
        for token in listed.and_then(Value::as_array).into_iter().flatten() {
            let id = token["id"].as_u64().and_then(|id| u32::try_from(id).ok());
            let id = id.context("tokenizer.json: an added token has no id")?;
            let token = described(token, false).context("tokenizer.json")?;
            config.added.insert(id, (token, "tokenizer.json"));
        }
        Ok(config)
    }

    /// At least the number of bytes of the tokens that these settings add.
    pub fn bytes_of_tokens(&self) -> usize {
        let added: usize = self.added.values().map(|(token, _)| token.content.len()).sum();
        added + Value::Object(self.settings.clone()).to_string().len()
    }

    /// Everything that the settings call special.
    fn specials(&self) -> HashSet<String> {
        let named = Class::Written.specials().iter().map(|(key, _)| self.token(key, ""));
        named.chain(self.more_specials().into_iter().map(|token| token.content)).collect()
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.settings.get(key)?.as_str()
    }

    pub fn value(&self, key: &str) -> Option<&Value> {
        self.settings.get(key)
    }

    /// A switch.
    ///
    /// # Errors
    /// Anything but true and false, as in transformers.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.settings.get(key) {
            None => Ok(default),
            Some(Value::Bool(on)) => Ok(*on),
            Some(value) => bail!("{}: `{key}` is {value}, not true or false", self.path.display()),
        }
    }

    /// A switch that may be null, to be decided elsewhere.
    ///
    /// # Errors
    /// Anything but true, false and null.
    pub fn optional_flag(&self, key: &str) -> Result<Option<bool>> {
        match self.settings.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.flag(key, false).map(Some),
        }
    }

    /// A special token: a string, or an object with `content`.
    pub fn token(&self, key: &str, default: &str) -> String {
        let value = self.settings.get(key);
        let content = value.and_then(|v| v.as_str().or_else(|| v.get("content")?.as_str()));
        content.unwrap_or(default).to_owned()
    }

    /// Tokens that files call special in addition to the named ones.
    fn more_specials(&self) -> Vec<AddedToken> {
        let special = |value: &Value| match value {
            Value::String(content) => Some(AddedToken::from(content.clone(), true)),
            value => described(value, true).ok(),
        };
        let list = ["extra_special_tokens", "additional_special_tokens"]
            .iter()
            .filter_map(|key| self.settings.get(*key))
            .find(|list| match list {
                Value::Array(list) => !list.is_empty(),
                Value::Object(map) => !map.is_empty(),
                _ => false,
            });
        match list {
            Some(Value::Array(list)) => list.iter().filter_map(special).collect(),
            Some(Value::Object(map)) => map.values().filter_map(special).collect(),
            _ => Vec::new(),
        }
    }

    /// Adds the tokens that are not split to a tokenizer. A special one that the vocabulary lacks (often the mask) is
    /// left out: it would get an id for which the model has no row.
    ///
    /// # Errors
    /// A token whose id does not follow the vocabulary.
    pub fn add_tokens(&self, tokenizer: &mut Tokenizer, class: Class) -> Result<()> {
        let mut tokens: Vec<AddedToken> = Vec::new();
        tokens.extend(self.added.values().map(|(token, _)| token.clone()));
        let named = class.specials().iter().filter_map(|(key, default)| {
            let content = self.token(key, default);
            let described = self.settings.get(*key).filter(|value| value.is_object());
            match described.map(described_special) {
                Some(Ok(token)) => Some(token),
                _ if content.is_empty() => None,
                _ => Some(class.special(key, &content)),
            }
        });
        let mut specials: Vec<AddedToken> = named.collect();
        specials.extend(self.more_specials());
        let has_list = ["extra_special_tokens", "additional_special_tokens"];
        if class == Class::Camembert && !has_list.iter().any(|key| self.value(key).is_some()) {
            let unused = ["<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"];
            specials.extend(unused.map(|token| AddedToken::from(token, true)));
        }
        let named: HashSet<&str> = specials.iter().map(|token| token.content.as_str()).collect();
        for token in &mut tokens {
            // What is named as special is special, whatever the list says.
            token.special |= named.contains(token.content.as_str());
        }
        let mut listed: HashSet<String> =
            tokens.iter().map(|token| token.content.clone()).collect();
        for token in specials {
            if tokenizer.token_to_id(&token.content).is_some()
                && listed.insert(token.content.clone())
            {
                tokens.push(token);
            }
        }
        tokenizer.add_tokens(tokens).map_err(|e| anyhow!(e))?;
        for (id, (token, file)) in &self.added {
            if tokenizer.token_to_id(&token.content) != Some(*id) {
                bail!(
                    "{file}: the token {:?} has the id {id}, which does not follow the vocabulary; convert the \
                     tokenizer to tokenizer.json",
                    token.content
                );
            }
        }
        Ok(())
    }
}

/// A token described by an object.
fn described(value: &Value, special: bool) -> Result<AddedToken> {
    let content = value
        .get("content")
        .and_then(Value::as_str)
        .with_context(|| format!("{value} is not a token: it has no `content`"))?;
    let flag = |key: &str, default: bool| value[key].as_bool().unwrap_or(default);
    let special = special || flag("special", false);
    Ok(AddedToken::from(content, special)
        .single_word(flag("single_word", false))
        .lstrip(flag("lstrip", false))
        .rstrip(flag("rstrip", false))
        .normalized(flag("normalized", !special)))
}

fn described_special(value: &Value) -> Result<AddedToken> {
    let mut token = described(value, false)?;
    token.special = true;
    Ok(token)
}
