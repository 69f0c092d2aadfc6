//! The programs that are compared: sizes, heads, dropouts, bias selections, ways of saving, limits.

use bitfit::methods::Trains;
use bitfit::program::{PoolKind, Portion};
use bitfit::rng::{Purpose, Stream};
use bitfit::settings::biases::BiasSelection;
use bitfit::settings::lora::Lora;

/// A masked-word head.
pub const LABELLED: PoolKind = PoolKind::Labelled(Portion { thousandths: 150 });

/// One model, without a device or values.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Text of a `config.json`.
    pub config: String,
    pub pooling: PoolKind,
    pub dropout: f32,
    pub trains: Trains,
}

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

/// How large a model is.
pub struct Size {
    hidden: usize,
    layers: usize,
    heads: usize,
    intermediate: usize,
}

pub const SMALL: Size = Size { hidden: 64, layers: 2, heads: 4, intermediate: 256 };
const SIZES: [Size; 3] = [
    Size { hidden: 384, layers: 4, heads: 12, intermediate: 1536 },
    Size { hidden: 768, layers: 3, heads: 12, intermediate: 3072 },
    SMALL,
];

impl Size {
    /// Text of a `config.json`.
    pub fn config(&self, family: &str) -> String {
        let Self { hidden, layers, heads, intermediate } = self;
        format!(
            r#"{{"model_type": "{family}", "hidden_size": {hidden}, "num_hidden_layers": {layers},
            "num_attention_heads": {heads}, "intermediate_size": {intermediate}, "hidden_act": "gelu",
            "vocab_size": 100, "max_position_embeddings": 514, "type_vocab_size": 2, "pad_token_id": 0,
            "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}}"#
        )
    }
}

/// Every kind on its own, from every layer on; the lowest two of a block together; and random subsets: a wrong rule for
/// one bias shows only next to certain others.
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

/// Training of the biases with this name.
pub fn biases(selection: &str) -> Trains {
    Trains::Biases(BiasSelection::parse(selection).unwrap())
}

/// Low-rank products on these layers.
pub fn low_rank(dropout: f64, on: &str) -> Trains {
    Trains::LowRank(Lora { dropout, on: on.parse().unwrap(), ..Lora::default() })
}

/// As many single values as all biases have.
pub fn random() -> Trains {
    Trains::Random(BiasSelection::all())
}

/// Every model of the grid.
pub fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for size in SIZES {
        for (family, pooling) in [
            ("bert", PoolKind::Cls),
            ("roberta", PoolKind::Cls),
            ("bert", PoolKind::Mean),
            ("bert", LABELLED),
        ] {
            for dropout in [0.0, 0.1] {
                let of = |trains: Trains| Shape {
                    config: size.config(family),
                    pooling,
                    dropout,
                    trains,
                };
                shapes.extend(selections(size.layers).iter().map(|s| of(biases(s))));
                shapes.extend([Trains::LayerNorms, Trains::Factors].map(of));
                shapes.push(of(low_rank(0.1, "query,value")));
                shapes.push(of(low_rank(0.0, "query,key,value,attention-output,output")));
                shapes.push(of(Trains::Rows(BiasSelection::all())));
                // The masked-word head uses the embedding table, which is frozen.
                if pooling != LABELLED {
                    shapes.push(of(Trains::Everything));
                    shapes.push(of(random()));
                }
            }
        }
    }
    shapes
}
