//! How `transformers` tokenizer classes decide what a tokenizer is: a class takes the vocabulary from the files and
//! builds the rest itself from the settings in `tokenizer_config.json`, whatever else `tokenizer.json` says. This is
//! what version 5 does; version 4 kept the rest of `tokenizer.json`, so differences between the two are reported.

use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, Tokenizer};

use super::special_tokens::Class;
use super::tokenizer_config::Config;

/// Classes by the names that a checkpoint may give them, without the suffix `Fast`.
const NAMES: [(&str, Class); 15] = [
    ("BertTokenizer", Class::Bert),
    ("ConvBertTokenizer", Class::Bert),
    ("DistilBertTokenizer", Class::Bert),
    ("ElectraTokenizer", Class::Bert),
    ("LayoutLMTokenizer", Class::Bert),
    ("LxmertTokenizer", Class::Bert),
    ("MobileBertTokenizer", Class::Bert),
    ("SqueezeBertTokenizer", Class::Bert),
    ("BartTokenizer", Class::Roberta),
    ("LongformerTokenizer", Class::Roberta),
    ("RobertaTokenizer", Class::Roberta),
    ("XLMRobertaTokenizer", Class::XlmRoberta),
    ("CamembertTokenizer", Class::Camembert),
    ("PreTrainedTokenizer", Class::Written),
    ("TokenizersBackend", Class::Written),
];

/// Classes that split words with their own code.
const OTHER_CODE: [&str; 3] = ["BertJapaneseTokenizer", "BertweetTokenizer", "PhobertTokenizer"];

/// A class and its name.
#[derive(Clone, Debug)]
pub(super) struct ChosenClass {
    pub class: Class,
    /// The class of `transformers`.
    pub name: String,
    /// Whether a BERT model gets token types from it if no file says.
    pub gives_types: bool,
    /// Whether the rules of this class are implemented here.
    pub known: bool,
}

/// The class that `AutoTokenizer` picks for a model of this type: the one named by a file, otherwise the type's own.
/// `None` if nothing tells.
///
/// # Errors
/// A class that is not a tokenizer of the `tokenizers` library.
pub(super) fn choose(model_type: Option<&str>, named: Option<&str>) -> Result<Option<ChosenClass>> {
    let Some(named) = named else {
        let class = match model_type {
            Some("bert") => "BertTokenizer",
            Some("roberta") => "RobertaTokenizer",
            Some("xlm-roberta") => "XLMRobertaTokenizer",
            Some("camembert") => "CamembertTokenizer",
            _ => return Ok(None),
        };
        return choose(None, Some(class));
    };
    let name = named.strip_suffix("Fast").unwrap_or(named);
    if OTHER_CODE.contains(&name) {
        bail!(
            "tokenizer_class {named} splits texts with its own code, which is not supported; use a tokenizer of \
             the `tokenizers` library"
        );
    }
    let found = NAMES.iter().find(|(known, _)| *known == name);
    let class = found.map_or(Class::Written, |(_, class)| *class);
    Ok(Some(ChosenClass {
        class,
        name: name.to_owned(),
        gives_types: class == Class::Bert && name != "DistilBertTokenizer",
        known: found.is_some(),
    }))
}

impl Class {
    /// The model of its tokenizers.
    fn model(self) -> &'static str {
        match self {
            Self::Bert => "WordPiece",
            Self::Roberta => "BPE",
            Self::XlmRoberta | Self::Camembert => "Unigram",
            Self::Written => "",
        }
    }

    /// Whether a tokenizer with this model can belong to the class.
    pub fn fits(self, model: &Value) -> bool {
        self == Self::Written || model_type(model) == self.model()
    }

    /// Applies the class's rules in place of `tokenizer.json`'s; returns the names of the parts that differed.
    ///
    /// # Errors
    /// A setting of the wrong type.
    pub fn dress(
        self,
        tokenizer: &mut Map<String, Value>,
        config: &Config,
    ) -> Result<Vec<&'static str>> {
        let written = tokenizer.remove("normalizer").unwrap_or_default();
        let options = match self {
            Self::Written => return Ok(Vec::new()),
            Self::Bert => json!({
                "unk_token": config.token("unk_token", "[UNK]"),
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
            }),
            Self::Roberta => json!({
                "dropout": null,
                "unk_token": null,
                "continuing_subword_prefix": "",
                "end_of_word_suffix": "",
                "fuse_unk": false,
                "byte_fallback": false,
                "ignore_merges": false,
            }),
            Self::XlmRoberta => json!({"unk_id": 3, "byte_fallback": false}),
            Self::Camembert => json!({
                "unk_id": position(&tokenizer["model"], &config.token("unk_token", "<unk>")),
                "byte_fallback": false,
            }),
        };
        let normalizer = match self {
            Self::Bert => json!({
                "type": "BertNormalizer",
                "clean_text": true,
                "handle_chinese_chars": config.flag("tokenize_chinese_chars", true)?,
                "strip_accents": config.optional_flag("strip_accents")?,
                "lowercase": config.flag("do_lower_case", true)?,
            }),
            Self::XlmRoberta | Self::Camembert => precompiled(&written),
            Self::Roberta | Self::Written => Value::Null,
        };
        let prefix_space = config.flag("add_prefix_space", self != Self::Roberta)?;
        let metaspace = json!({
            "type": "Metaspace",
            "replacement": "▁",
            "prepend_scheme": if prefix_space { "always" } else { "never" },
            "split": true,
        });
        let pre_tokenizer = match self {
            Self::Bert => json!({"type": "BertPreTokenizer"}),
            Self::Roberta => json!({
                "type": "ByteLevel",
                "add_prefix_space": prefix_space,
                "trim_offsets": true,
                "use_regex": true,
            }),
            _ => json!({
                "type": "Sequence",
                "pretokenizers": [{"type": "WhitespaceSplit"}, &metaspace],
            }),
        };

        let mut other = Vec::new();
        let model = tokenizer["model"].as_object_mut().context("no model")?;
        if set(model, options) {
            other.push("options of the model");
        }
        let by_spm = matches!(self, Self::XlmRoberta | Self::Camembert);
        let as_class = same::<NormalizerWrapper>(&written, &normalizer)
            || (by_spm && converted(&written, &normalizer));
        if !as_class {
            other.push("normalizer");
        }
        let written = tokenizer.remove("pre_tokenizer").unwrap_or_default();
        let as_class = same::<PreTokenizerWrapper>(&written, &pre_tokenizer)
            || (by_spm && same::<PreTokenizerWrapper>(&written, &metaspace));
        if !as_class {
            other.push("pre-tokenizer");
        }
        tokenizer.insert("normalizer".into(), normalizer);
        tokenizer.insert("pre_tokenizer".into(), pre_tokenizer);
        Ok(other)
    }

    /// Gives a tokenizer the special tokens around its texts.
    ///
    /// # Errors
    /// One of them is not in the vocabulary.
    pub fn enclose(self, tokenizer: &mut Tokenizer, config: &Config) -> Result<()> {
        let token = |key: &str, default: &str| -> Result<(String, u32)> {
            let content = config.token(key, default);
            let id = tokenizer
                .token_to_id(&content)
                .with_context(|| format!("the special token {content:?} is not in it"))?;
            Ok((content, id))
        };
        match self {
            Self::Written => {}
            Self::Roberta => {
                let form =
                    RobertaProcessing::new(token("sep_token", "</s>")?, token("cls_token", "<s>")?)
                        .trim_offsets(config.flag("trim_offsets", true)?)
                        .add_prefix_space(config.flag("add_prefix_space", false)?);
                tokenizer.with_post_processor(Some(form));
            }
            Self::Bert => {
                let (cls, sep) = (token("cls_token", "[CLS]")?, token("sep_token", "[SEP]")?);
                let single = format!("{}:0 $A:0 {}:0", cls.0, sep.0);
                let pair = format!("{single} $B:1 {}:1", sep.0);
                let form = template(&single, &pair, vec![cls, sep])?;
                tokenizer.with_post_processor(Some(form));
            }
            Self::XlmRoberta | Self::Camembert => {
                let (bos, eos) = (token("bos_token", "<s>")?, token("eos_token", "</s>")?);
                let single = format!("{} $A {}", bos.0, eos.0);
                let pair = format!("{single} {} $B {}", eos.0, eos.0);
                let form = template(&single, &pair, vec![bos, eos])?;
                tokenizer.with_post_processor(Some(form));
            }
        }
        Ok(())
    }
}

fn template(single: &str, pair: &str, tokens: Vec<(String, u32)>) -> Result<TemplateProcessing> {
    TemplateProcessing::builder()
        .try_single(single)
        .and_then(|builder| builder.try_pair(pair))
        .map_err(|e| anyhow!(e))?
        .special_tokens(tokens)
        .build()
        .map_err(|e| anyhow!(e))
}

/// The type of a `tokenizer.json`'s model. Old files do not state it.
pub(super) fn model_type(model: &Value) -> &str {
    let said = model.get("type").and_then(Value::as_str);
    said.unwrap_or_else(|| {
        if model.get("merges").is_some() {
            "BPE"
        } else if model.get("vocab").is_some_and(Value::is_array) {
            "Unigram"
        } else if model.get("continuing_subword_prefix").is_some() {
            "WordPiece"
        } else {
            "WordLevel"
        }
    })
}

/// A token's index in the list of a Unigram model; 0 if absent.
fn position(model: &Value, token: &str) -> usize {
    let list = model.get("vocab").and_then(Value::as_array);
    let at = list.and_then(|list| list.iter().position(|entry| entry[0] == token));
    at.unwrap_or(0)
}

/// Sets options, and says whether any of them changed. A missing, null or empty option is off.
fn set(model: &mut Map<String, Value>, options: Value) -> bool {
    let off = |value: &Value| value.is_null() || value == "" || value == &Value::Bool(false);
    let mut changed = false;
    if let Value::Object(options) = options {
        for (key, value) in options {
            let before = model.insert(key, value.clone()).unwrap_or_default();
            changed |= before != value && !(off(&before) && off(&value));
        }
    }
    changed
}

/// The SentencePiece table inside a normalizer, as a separate normalizer.
fn precompiled(normalizer: &Value) -> Value {
    let has_table = |one: &&Value| one["type"] == "Precompiled";
    match normalizer["normalizers"].as_array() {
        Some(sequence) => sequence.iter().find(has_table),
        None => Some(normalizer).filter(has_table),
    }
    .cloned()
    .unwrap_or_default()
}

/// Whether a normalizer is the table plus what version 4 added when it converted a SentencePiece model: trailing and
/// double spaces are removed, as the class's pre-tokenizer does. (Only kinds of space that the table does not know make
/// a difference.)
fn converted(normalizer: &Value, table: &Value) -> bool {
    let behind = |one: &&Value| one["type"] != "Precompiled";
    let Some(sequence) = normalizer["normalizers"].as_array() else {
        return false;
    };
    precompiled(normalizer) == *table
        && sequence.iter().filter(behind).all(|one| {
            (one["type"] == "Strip" && one["strip_left"] == false)
                || (one["type"] == "Replace" && one["pattern"]["Regex"] == " {2,}")
        })
}

/// Whether two parts are equal, however written.
fn same<T: DeserializeOwned + Serialize>(a: &Value, b: &Value) -> bool {
    let read = |value: &Value| {
        let part: Option<T> = serde_json::from_value(value.clone()).ok()?;
        let mut part = serde_json::to_value(part).ok()?;
        // Only affects offsets.
        if let Some(part) = part.as_object_mut() {
            part.remove("trim_offsets");
        }
        Some(part)
    };
    read(a).is_some_and(|a| Some(a) == read(b))
}
