//! The `--biases` language: which kinds of bias train, and in which layers.
//!
//! Each name selects exactly one kind of bias. (The method's published code matched substrings of parameter names, so
//! its `output` also included the attention's output and its `output_layernorm` also the attention's LayerNorm; here
//! these are four names.)

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::error::{UsageError, suggestion};
use crate::words::count;

/// One kind of bias in a BERT-family encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    Query,
    Key,
    Value,
    AttentionOutput,
    AttentionLayerNorm,
    Intermediate,
    Output,
    OutputLayerNorm,
    EmbeddingsLayerNorm,
    Pooler,
}

/// A row of the table of components.
struct Row {
    component: Component,
    name: &'static str,
    symbol: &'static str,
    module: &'static str,
    per_layer: bool,
}

const fn row(
    component: Component,
    name: &'static str,
    symbol: &'static str,
    module: &'static str,
    per_layer: bool,
) -> Row {
    Row { component, name, symbol, module, per_layer }
}

/// Our name, the symbol of Ben Zaken et al. (2022, section 3), the Hugging Face module, one in every layer?
#[rustfmt::skip]
const TABLE: [Row; 10] = [
    row(Component::Query,               "query",                "b_q",   "attention.self.query",       true),
    row(Component::Key,                 "key",                  "b_k",   "attention.self.key",         true),
    row(Component::Value,               "value",                "b_v",   "attention.self.value",       true),
    row(Component::AttentionOutput,     "attention-output",     "b_m1",  "attention.output.dense",     true),
    row(Component::AttentionLayerNorm,  "attention-layernorm",  "b_LN1", "attention.output.LayerNorm", true),
    row(Component::Intermediate,        "intermediate",         "b_m2",  "intermediate.dense",         true),
    row(Component::Output,              "output",               "b_m3",  "output.dense",               true),
    row(Component::OutputLayerNorm,     "output-layernorm",     "b_LN2", "output.LayerNorm",           true),
    row(Component::EmbeddingsLayerNorm, "embeddings-layernorm", "",      "embeddings.LayerNorm",       false),
    row(Component::Pooler,              "pooler",               "",      "pooler.dense",               false),
];

impl Component {
    /// Every component, in the order of the forward pass.
    pub const ALL: [Component; 10] = [
        Component::Query,
        Component::Key,
        Component::Value,
        Component::AttentionOutput,
        Component::AttentionLayerNorm,
        Component::Intermediate,
        Component::Output,
        Component::OutputLayerNorm,
        Component::EmbeddingsLayerNorm,
        Component::Pooler,
    ];

    /// Those of the LayerNorms.
    pub const LAYER_NORMS: [Component; 3] =
        [Component::AttentionLayerNorm, Component::OutputLayerNorm, Component::EmbeddingsLayerNorm];

    fn row(self) -> &'static Row {
        // The enum is declared in table order; a test checks this.
        &TABLE[self as usize]
    }

    /// The name in `--biases`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The paper's symbol, without its layer index; empty for the two without one in the paper.
    pub fn symbol(self) -> &'static str {
        self.row().symbol
    }

    /// The module in a Hugging Face checkpoint that owns the bias, below `encoder.layer.N.` for the kinds that every
    /// layer has and below the model's prefix for the others; the parameter is this plus `.bias`.
    pub fn module(self) -> &'static str {
        self.row().module
    }

    /// True if every layer has one, false if the model has just one.
    pub fn per_layer(self) -> bool {
        self.row().per_layer
    }

    /// Whether it belongs to a linear layer.
    pub fn is_linear(self) -> bool {
        !Self::LAYER_NORMS.contains(&self)
    }

    /// Length of one such bias vector in a model with these widths.
    pub fn width(self, hidden: usize, intermediate: usize) -> usize {
        match self {
            Component::Intermediate => intermediate,
            _ => hidden,
        }
    }

    /// Number of values of this kind in a whole model.
    pub fn count(self, hidden: usize, intermediate: usize, layers: usize) -> usize {
        self.width(hidden, intermediate) * if self.per_layer() { layers } else { 1 }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Component {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<Self, UsageError> {
        let found = TABLE.iter().find(|row| row.name == text);
        found.map(|row| row.component).ok_or_else(|| {
            let names = || TABLE.iter().map(|row| row.name);
            UsageError::new(format!(
                "unknown bias `{text}`{}; known: all, {}",
                suggestion(text, names().chain(["all"])),
                names().collect::<Vec<_>>().join(", "),
            ))
        })
    }
}

/// Layers `first..=last`, counted from 0; without `last`, up to the last layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct LayerRange {
    first: usize,
    last: Option<usize>,
}

impl LayerRange {
    const WHOLE: LayerRange = LayerRange { first: 0, last: None };

    fn contains(self, layer: usize) -> bool {
        layer >= self.first && self.last.is_none_or(|last| layer <= last)
    }

    /// Parses what follows the `@` of `item`.
    fn parse(text: &str, item: &str) -> Result<Self, UsageError> {
        let wrong = |why: &str| {
            UsageError::new(format!(
                "wrong layer range in `{item}`: {why}; write `@4..6` (layers 4, 5 and 6), `@4`, `@4..` or `@..6`, \
                 counting layers from 0"
            ))
        };
        let number = |text: &str| match text.parse::<usize>() {
            Ok(layer) => Ok(layer),
            Err(_) => Err(wrong(&format!("`{text}` is not a layer number"))),
        };
        let Some((first, last)) = text.split_once("..") else {
            let layer = number(text)?;
            return Ok(Self { first: layer, last: Some(layer) });
        };
        if first.is_empty() && last.is_empty() {
            return Err(wrong("neither end is given"));
        }
        let first = if first.is_empty() { 0 } else { number(first)? };
        let last = if last.is_empty() { None } else { Some(number(last)?) };
        if last.is_some_and(|last| last < first) {
            return Err(wrong("it ends before it begins"));
        }
        Ok(Self { first, last })
    }
}

impl fmt::Display for LayerRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::WHOLE => Ok(()),
            Self { first, last: None } => write!(f, "@{first}.."),
            Self { first, last: Some(last) } if first == last => write!(f, "@{first}"),
            Self { first, last: Some(last) } => write!(f, "@{first}..{last}"),
        }
    }
}

/// Which biases train: for each component with any, the layers, as sorted ranges that do not touch.
///
/// The form is canonical: equal selections compare equal and print the same, however they were written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BiasSelection {
    chosen: BTreeMap<Component, Vec<LayerRange>>,
}

impl BiasSelection {
    /// Every bias of the model.
    pub fn all() -> Self {
        Self {
            chosen: Component::ALL
                .into_iter()
                .map(|component| (component, vec![LayerRange::WHOLE]))
                .collect(),
        }
    }

    /// Those of the LayerNorms.
    pub fn layer_norms() -> Self {
        let whole = |component| (component, vec![LayerRange::WHOLE]);
        Self { chosen: Component::LAYER_NORMS.map(whole).into() }
    }

    /// No bias. Written `none`.
    pub fn none() -> Self {
        Self { chosen: BTreeMap::new() }
    }

    /// True if no bias is selected.
    pub fn is_none(&self) -> bool {
        self.chosen.is_empty()
    }

    /// Reads `all`, `none`, or names with optional layer ranges: `query,intermediate@4..6,pooler`.
    ///
    /// # Errors
    /// An unknown name (with the nearest known one), a wrong range, a range on a component that is not per layer.
    pub fn parse(text: &str) -> Result<Self, UsageError> {
        match text.trim() {
            "all" => return Ok(Self::all()),
            "none" => return Ok(Self::none()),
            "" => {
                return Err(UsageError::new(
                    "no biases named; write `all` or names such as `query,intermediate`",
                ));
            }
            _ => {}
        }
        let mut chosen: BTreeMap<Component, Vec<LayerRange>> = BTreeMap::new();
        for item in text.split(',').map(str::trim) {
            let (name, range) = match item.split_once('@') {
                Some((name, range)) => (name.trim(), Some(range.trim())),
                None => (item, None),
            };
            if name == "all" || name == "none" {
                return Err(UsageError::new(format!(
                    "`{name}` cannot be combined with other names or a layer range, as in `{text}`"
                )));
            }
            if name.is_empty() {
                return Err(UsageError::new(format!(
                    "a name is missing in `{text}`: separate names with single commas"
                )));
            }
            let component: Component = name.parse()?;
            let range = match range {
                None => LayerRange::WHOLE,
                Some(_) if !component.per_layer() => {
                    return Err(UsageError::new(format!(
                        "`{name}` exists once per model, not in every layer: leave out the range in `{item}`"
                    )));
                }
                Some(range) => LayerRange::parse(range, item)?,
            };
            chosen.entry(component).or_default().push(range);
        }
        for ranges in chosen.values_mut() {
            merge(ranges);
        }
        Ok(Self { chosen })
    }

    /// Checks the ranges against a model with `layers` layers.
    ///
    /// # Errors
    /// A range with a layer that the model does not have.
    pub fn validate(&self, layers: usize) -> Result<(), UsageError> {
        for (component, ranges) in &self.chosen {
            for range in ranges {
                let highest = range.last.unwrap_or(range.first);
                if component.per_layer() && highest >= layers {
                    return Err(UsageError::new(format!(
                        "--biases {component}{range}: the model has {}, numbered {}",
                        count(layers, "layer"),
                        if layers == 1 {
                            "0".to_owned()
                        } else {
                            format!("0 to {}", layers.saturating_sub(1))
                        },
                    )));
                }
            }
        }
        Ok(())
    }

    /// True if the bias of `component` trains: in layer `layer` for a kind that every layer has, for the other
    /// kinds with `layer` `None`. Any other pairing selects nothing.
    pub fn selects(&self, component: Component, layer: Option<usize>) -> bool {
        let Some(ranges) = self.chosen.get(&component) else {
            return false;
        };
        match layer {
            Some(layer) => {
                component.per_layer() && ranges.iter().any(|range| range.contains(layer))
            }
            None => !component.per_layer(),
        }
    }

    /// The lowest layer in which a per-layer bias trains, or `None` if there is no such layer below `layers`.
    pub fn lowest_layer(&self, layers: usize) -> Option<usize> {
        (0..layers).find(|&layer| {
            Component::ALL.into_iter().any(|component| self.selects(component, Some(layer)))
        })
    }
}

/// Sorts ranges and joins those that overlap or touch.
fn merge(ranges: &mut Vec<LayerRange>) {
    ranges.sort_by_key(|range| range.first);
    let mut merged: Vec<LayerRange> = Vec::with_capacity(ranges.len());
    for range in ranges.drain(..) {
        match merged.last_mut() {
            // `last` of None covers every later layer; `+ 1` joins 0..2 and 3..5.
            Some(before)
                if before.last.is_none_or(|last| range.first <= last.saturating_add(1)) =>
            {
                before.last = match (before.last, range.last) {
                    (Some(a), Some(b)) => Some(a.max(b)),
                    _ => None,
                };
            }
            _ => merged.push(range),
        }
    }
    *ranges = merged;
}

impl Default for BiasSelection {
    fn default() -> Self {
        Self::all()
    }
}

impl fmt::Display for BiasSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return f.write_str("none");
        }
        if *self == Self::all() {
            return f.write_str("all");
        }
        let mut separator = "";
        for (component, ranges) in &self.chosen {
            for range in ranges {
                write!(f, "{separator}{component}{range}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

impl FromStr for BiasSelection {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<Self, UsageError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for BiasSelection {
    type Error = UsageError;

    fn try_from(text: String) -> Result<Self, UsageError> {
        Self::parse(&text)
    }
}

impl From<BiasSelection> for String {
    fn from(selection: BiasSelection) -> String {
        selection.to_string()
    }
}

#[cfg(test)]
#[path = "biases_tests.rs"]
mod tests;
