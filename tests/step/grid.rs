//! The programs that are compared: sizes, heads, dropouts, bias selections, ways of saving, limits.

use bitfit::rng::{Purpose, Stream};

/// One model, without a device or values.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Text of a `config.json`.
    pub config: String,
    pub mean: bool,
    pub dropout: f32,
    /// What trains; `None` is everything.
    pub biases: Option<String>,
}

pub const SAVINGS: [&str; 12] = [
    "keep",
    "recompute-qkv",
    "recompute-ffn",
    "recompute",
    "checkpoint",
    "gelu8",
    "gelu4",
    "xhat8",
    "gelu8,xhat8",
    "recompute-qkv,gelu8",
    "recompute-qkv,gelu4",
    "gelu4,xhat8",
];

/// Tokens, sequences, longest sequence.
pub const LIMITS: [(usize, usize, usize); 3] = [(4096, 32, 128), (301, 9, 77), (16384, 32, 512)];

const COMPONENTS: [&str; 8] = [
    "query",
    "key",
    "value",
    "attention-output",
    "attention-layernorm",
    "intermediate",
    "output",
    "output-layernorm",
];

/// Hidden size, layers, heads, intermediate size.
const SIZES: [(usize, usize, usize, usize); 3] =
    [(384, 4, 12, 1536), (768, 3, 12, 3072), (64, 2, 4, 256)];

/// Every kind alone, from every layer on; the lowest two of a block together; and drawn subsets: a wrong rule for one
/// bias shows only beside certain others.
fn selections(layers: usize) -> Vec<String> {
    let mut selections =
        vec!["all".to_owned(), "none".to_owned(), "embeddings-layernorm".to_owned()];
    for component in COMPONENTS {
        selections.push(component.to_owned());
        for layer in 1..layers {
            selections.push(format!("{component}@{layer}.."));
        }
    }
    let last = layers - 1;
    for (i, a) in COMPONENTS.iter().enumerate() {
        for b in &COMPONENTS[i + 1..] {
            selections.push(format!("{a}@{last},{b}@{last}"));
        }
    }
    for draw in 0..20 {
        let mut numbers = Stream::new(7, Purpose::HeadInit, draw);
        let each = (0..layers).flat_map(|layer| COMPONENTS.map(|c| format!("{c}@{layer}")));
        let drawn: Vec<String> = each.filter(|_| numbers.below(7) == 0).collect();
        if !drawn.is_empty() {
            selections.push(drawn.join(","));
        }
    }
    selections
}

/// Every model of the grid.
pub fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for (hidden, layers, heads, intermediate) in SIZES {
        for (family, mean) in [("bert", false), ("roberta", false), ("bert", true)] {
            let config = format!(
                r#"{{"model_type": "{family}", "hidden_size": {hidden}, "num_hidden_layers": {layers},
                "num_attention_heads": {heads}, "intermediate_size": {intermediate}, "hidden_act": "gelu",
                "vocab_size": 100, "max_position_embeddings": 514, "type_vocab_size": 2, "pad_token_id": 0,
                "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}}"#
            );
            for dropout in [0.0, 0.1] {
                let of = |biases: Option<String>| Shape {
                    config: config.clone(),
                    mean,
                    dropout,
                    biases,
                };
                shapes.extend(selections(layers).into_iter().map(|s| of(Some(s))));
                shapes.push(of(None));
            }
        }
    }
    shapes
}
