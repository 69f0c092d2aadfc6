//! `config.json` of a Hugging Face checkpoint, reduced to what this encoder needs.
//!
//! Anything that would change the mathematics and is not implemented is refused here by name.

use crate::files::read_bounded;
use crate::formats::fingerprint::Fingerprint;
use crate::formats::model_files::{CONFIG, QUANTIZATION};
use crate::program::Activation;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};
use std::path::Path;

/// A model with this many layers is still planned in a moment; the deepest in use have a few dozen.
const MOST_LAYERS: usize = 1000;
/// Far above any real configuration.
const MOST_BYTES: u64 = 16 << 20;

/// Which family's conventions (names, positions, head) a checkpoint follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Bert,
    /// RoBERTa and XLM-RoBERTa: positions start after the padding id, the head replaces the pooler.
    Roberta,
}

impl Family {
    /// Prefix of the encoder's tensors in a task model (`BertForSequenceClassification`, …).
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Bert => "bert.",
            Self::Roberta => "roberta.",
        }
    }
}

/// The shape and arithmetic of an encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    pub family: Family,
    /// `model_type` as written: `bert`, `roberta`, `xlm-roberta`, …
    pub model_type: String,
    pub hidden: usize,
    pub layers: usize,
    pub heads: usize,
    pub intermediate: usize,
    pub vocab: usize,
    /// Rows of the position table.
    pub position_rows: usize,
    pub type_vocab: usize,
    pub norm_eps: f32,
    pub activation: Activation,
    pub hidden_dropout: f32,
    pub attention_dropout: f32,
    /// Dropout before the classifier.
    pub classifier_dropout: f32,
    pub pad_token_id: usize,
    /// Whether a masked-words head uses the embedding table as its matrix.
    pub tied: bool,
    /// The key by which `transformers` would quantise the weights; not done here.
    pub quantized_by: Option<&'static str>,
}

impl ModelConfig {
    /// Reads `config.json` in a model folder.
    ///
    /// # Errors
    /// Names the file and the key that is missing, of the wrong type, out of range or not supported.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(CONFIG);
        let bytes = read_bounded(&path, MOST_BYTES)?;
        let text = String::from_utf8(bytes);
        let parsed = text.context("not text in UTF-8").and_then(|text| Self::parse(&text));
        parsed.with_context(|| path.display().to_string())
    }

    /// Parses the text of a `config.json`.
    pub fn parse(text: &str) -> Result<Self> {
        let written: Map<String, Value> =
            serde_json::from_str(text).context("not a JSON object")?;
        let model_type = Keys(&written).string("model_type")?.to_owned();
        let mut json = defaults(&model_type);
        json.extend(written);
        let keys = Keys(&json);

        let family = match model_type.as_str() {
            "bert" => Family::Bert,
            "roberta" | "xlm-roberta" | "camembert" => Family::Roberta,
            other => bail!(
                "model_type `{other}` is not supported; supported are bert, roberta, camembert and xlm-roberta"
            ),
        };
        let kind = keys.string("position_embedding_type")?;
        ensure!(
            kind == "absolute",
            "position_embedding_type `{kind}` is not supported; only `absolute` is"
        );
        for key in ["is_decoder", "add_cross_attention"] {
            ensure!(
                json.get(key).and_then(Value::as_bool) != Some(true),
                "`{key}` is true: decoders are not supported, only encoders are"
            );
        }

        let hidden = keys.count("hidden_size")?;
        let heads = keys.count("num_attention_heads")?;
        ensure!(
            hidden.is_multiple_of(heads),
            "hidden_size {hidden} is not a multiple of num_attention_heads {heads}"
        );
        let hidden_dropout = keys.fraction("hidden_dropout_prob")?;
        let config = Self {
            family,
            model_type,
            hidden,
            layers: keys.up_to("num_hidden_layers", MOST_LAYERS)?,
            heads,
            intermediate: keys.count("intermediate_size")?,
            vocab: keys.count("vocab_size")?,
            position_rows: keys.count("max_position_embeddings")?,
            type_vocab: keys.count("type_vocab_size")?,
            norm_eps: keys.single("layer_norm_eps")?,
            activation: activation(keys.string("hidden_act")?)?,
            hidden_dropout,
            attention_dropout: keys.fraction("attention_probs_dropout_prob")?,
            classifier_dropout: match json.get("classifier_dropout") {
                Some(Value::Null) => hidden_dropout,
                _ => keys.fraction("classifier_dropout")?,
            },
            pad_token_id: match (family, json.get("pad_token_id")) {
                // Its positions do not start there.
                (Family::Bert, Some(Value::Null)) => 0,
                _ => keys.index("pad_token_id")?,
            },
            tied: json.get("tie_word_embeddings").and_then(Value::as_bool) != Some(false),
            quantized_by: (QUANTIZATION.into_iter())
                .find(|key| json.get(*key).is_some_and(|value| !value.is_null())),
        };
        ensure!(
            config.max_len() >= 2,
            "max_position_embeddings {} leaves no room for tokens after the padding offset {}",
            config.position_rows,
            config.position_offset()
        );
        Ok(config)
    }

    /// Position id of a sequence's first token. RoBERTa counts from `pad_token_id + 1`
    /// (`create_position_ids_from_input_ids`).
    pub fn position_offset(&self) -> usize {
        match self.family {
            Family::Bert => 0,
            Family::Roberta => self.pad_token_id + 1,
        }
    }

    /// The longest sequence the position table covers.
    pub fn max_len(&self) -> usize {
        self.position_rows.saturating_sub(self.position_offset())
    }

    /// What the file decides and no tensor shows: with other values the same weights give other answers.
    pub fn arithmetic(&self) -> Fingerprint {
        named([
            ("num_hidden_layers", self.layers.to_string()),
            ("num_attention_heads", self.heads.to_string()),
            ("layer_norm_eps", format!("{:e}", self.norm_eps)),
            ("hidden_act", format!("{:?}", self.activation)),
            ("position_offset", self.position_offset().to_string()),
        ])
    }

    /// What the file decides only for training.
    pub fn dropout(&self) -> Fingerprint {
        named([
            ("hidden_dropout_prob", self.hidden_dropout.to_string()),
            ("attention_probs_dropout_prob", self.attention_dropout.to_string()),
            ("classifier_dropout", self.classifier_dropout.to_string()),
        ])
    }

    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }
}

fn named<const N: usize>(values: [(&str, String); N]) -> Fingerprint {
    values.iter().fold(Fingerprint::default(), |all, (key, value)| {
        all.with(&format!("{CONFIG}.{key}"), value)
    })
}

/// The defaults of the `transformers` configuration classes for the keys read here.
fn defaults(model_type: &str) -> Map<String, Value> {
    let bert = model_type == "bert";
    let defaults = json!({
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "vocab_size": if model_type == "roberta" { 50265 } else { 30522 },
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        // Falls back to hidden_dropout_prob.
        "classifier_dropout": null,
        "pad_token_id": if bert { 0 } else { 1 },
        "position_embedding_type": "absolute",
        "is_decoder": false,
        "add_cross_attention": false,
    });
    match defaults {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn activation(name: &str) -> Result<Activation> {
    Ok(match name {
        "gelu" => Activation::GeluErf,
        "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
        "relu" => Activation::Relu,
        other => bail!(
            "hidden_act `{other}` is not supported; supported are gelu, gelu_new, gelu_pytorch_tanh and relu"
        ),
    })
}

/// Typed access to the keys of the JSON object, with errors that name the key.
struct Keys<'a>(&'a Map<String, Value>);

impl Keys<'_> {
    fn get(&self, key: &str) -> Result<&Value> {
        self.0.get(key).with_context(|| {
            format!("the key `{key}` is missing; is this an encoder's config.json?")
        })
    }

    fn string(&self, key: &str) -> Result<&str> {
        self.get(key)?.as_str().with_context(|| format!("`{key}` is not a string"))
    }

    fn index(&self, key: &str) -> Result<usize> {
        let value = self.get(key)?;
        value.as_u64().filter(|&n| n <= u64::from(u32::MAX)).map(|n| n as usize).with_context(
            || format!("`{key}` is {value}, not a whole number from 0 to {}", u32::MAX),
        )
    }

    /// A size: from 1 to ten million, so that products of a few sizes cannot overflow.
    fn count(&self, key: &str) -> Result<usize> {
        self.up_to(key, 10_000_000)
    }

    fn up_to(&self, key: &str, most: usize) -> Result<usize> {
        let n = self.index(key)?;
        ensure!((1..=most).contains(&n), "`{key}` is {n}; it must be between 1 and {most}");
        Ok(n)
    }

    fn number(&self, key: &str) -> Result<f64> {
        let value = self.get(key)?;
        value
            .as_f64()
            .filter(|x| x.is_finite() && *x >= 0.0)
            .with_context(|| format!("`{key}` is {value}, not a number from 0 up"))
    }

    /// A number used in single precision, which must represent it: neither overflow nor round it to 0.
    fn single(&self, key: &str) -> Result<f32> {
        let written = self.number(key)?;
        let used = written as f32;
        ensure!(
            used.is_finite() && (used > 0.0 || written == 0.0),
            "`{key}` is {}, which single precision does not have",
            self.get(key)?
        );
        Ok(used)
    }

    fn fraction(&self, key: &str) -> Result<f32> {
        let written = self.get(key)?;
        let p = self.number(key)?;
        ensure!(p < 1.0, "`{key}` is {written}; a dropout probability lies in [0, 1)");
        let used = p as f32;
        ensure!(
            used < 1.0 && (used > 0.0 || p == 0.0),
            "`{key}` is {written}, which single precision rounds to {used}"
        );
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal() -> Map<String, Value> {
        serde_json::from_str(
            r#"{"model_type": "bert", "hidden_size": 384, "num_hidden_layers": 6,
                "num_attention_heads": 12, "intermediate_size": 1536, "vocab_size": 30522,
                "max_position_embeddings": 512, "type_vocab_size": 2, "hidden_act": "gelu"}"#,
        )
        .unwrap()
    }

    fn with(key: &str, value: Value) -> Result<ModelConfig> {
        let mut json = minimal();
        json.insert(key.into(), value);
        ModelConfig::parse(&serde_json::to_string(&json).unwrap())
    }

    #[test]
    fn the_classifiers_dropout_is_that_of_the_hidden_states_where_it_is_not_said() {
        let c = with("hidden_dropout_prob", 0.2.into()).unwrap();
        assert_eq!((c.hidden_dropout, c.attention_dropout), (0.2, 0.1));
        assert_eq!(c.classifier_dropout, 0.2, "falls back to hidden_dropout_prob");
        assert_eq!((c.max_len(), c.head_dim()), (512, 32));
    }

    #[test]
    fn roberta_positions_start_after_the_padding_id() {
        let mut json = minimal();
        json.insert("model_type".into(), "roberta".into());
        json.insert("max_position_embeddings".into(), 514.into());
        json.insert("pad_token_id".into(), 1.into());
        let c = ModelConfig::parse(&serde_json::to_string(&json).unwrap()).unwrap();
        assert_eq!((c.position_offset(), c.max_len()), (2, 512));
    }

    /// `config_defaults.json` holds the defaults of the `transformers` configuration classes
    /// (`scripts/checkpoints.py`).
    #[test]
    fn keys_that_a_file_leaves_out_are_those_of_transformers() {
        let path =
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/checkpoints/config_defaults.json");
        let classes: Map<String, Value> =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(classes.len(), 4);
        for (model_type, theirs) in &classes {
            assert_eq!(&Value::from(defaults(model_type)), theirs, "{model_type}");
            let bare = json!({ "model_type": model_type }).to_string();
            let mut whole = theirs.as_object().unwrap().clone();
            whole.insert("model_type".into(), model_type.as_str().into());
            let whole = Value::from(whole).to_string();
            assert_eq!(ModelConfig::parse(&bare).unwrap(), ModelConfig::parse(&whole).unwrap());
        }
    }

    #[test]
    fn a_key_that_is_null_is_refused_by_name_where_transformers_needs_a_value() {
        for key in defaults("roberta").keys() {
            let json = json!({"model_type": "roberta", key: null}).to_string();
            match ModelConfig::parse(&json) {
                Ok(_) => assert!(
                    ["classifier_dropout", "is_decoder", "add_cross_attention"]
                        .contains(&key.as_str()),
                    "{key}"
                ),
                Err(error) => assert!(error.to_string().contains(&format!("`{key}`")), "{error:#}"),
            }
        }
        let error = ModelConfig::parse("{}").unwrap_err();
        assert!(error.to_string().contains("`model_type`"), "{error:#}");
        assert_eq!(with("pad_token_id", Value::Null).unwrap().pad_token_id, 0);
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (key, value, named) in [
            ("model_type", Value::from("deberta-v2"), "deberta-v2"),
            ("hidden_act", "silu".into(), "silu"),
            ("position_embedding_type", "relative_key".into(), "relative_key"),
            ("is_decoder", true.into(), "is_decoder"),
            ("num_attention_heads", 7.into(), "multiple"),
            ("hidden_size", 0.into(), "hidden_size"),
            ("hidden_size", Value::from(-3), "hidden_size"),
            ("hidden_size", Value::from(10_000_001), "hidden_size"),
            ("num_hidden_layers", Value::from(1001), "between 1 and 1000"),
            ("vocab_size", "many".into(), "vocab_size"),
            ("hidden_dropout_prob", 1.5.into(), "hidden_dropout_prob` is 1.5;"),
            ("hidden_dropout_prob", 0.999_999_999_9.into(), "is 0.9999999999, which single"),
            ("hidden_dropout_prob", 1e-50.into(), "which single precision rounds to 0"),
            ("layer_norm_eps", 1e300.into(), "single precision"),
            ("layer_norm_eps", 1e-300.into(), "single precision"),
            ("max_position_embeddings", 1.into(), "max_position_embeddings"),
        ] {
            let error = format!("{:#}", with(key, value).unwrap_err());
            assert!(error.contains(named), "{error}");
        }
    }
}
