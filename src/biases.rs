//! The `--biases` language: which kinds of bias train, and in which layers.
//!
//! Each name selects exactly one kind of bias. (The published code of the method matched substrings of parameter
//! names, so its `output` also took the attention's output and its `output_layernorm` also the attention's
//! LayerNorm; here they are four names.)

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::error::{UsageError, suggestion};

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
    Row {
        component,
        name,
        symbol,
        module,
        per_layer,
    }
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

    fn row(self) -> &'static Row {
        // The declaration order of the enum is the order of the table; a test holds them together.
        &TABLE[self as usize]
    }

    /// The name in `--biases`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The paper's symbol, without its layer index; empty for the two that the paper leaves without one.
    pub fn symbol(self) -> &'static str {
        self.row().symbol
    }

    /// The module in a Hugging Face checkpoint that owns the bias, below `encoder.layer.N.` for the kinds that
    /// every layer has and below the model's prefix for the others; the parameter is this plus `.bias`.
    pub fn module(self) -> &'static str {
        self.row().module
    }

    /// True if every layer has one, false if the model has just one.
    pub fn per_layer(self) -> bool {
        self.row().per_layer
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

/// Layers `first..=last`, counted from 0; no `last` means to the last layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct LayerRange {
    first: usize,
    last: Option<usize>,
}

impl LayerRange {
    const WHOLE: LayerRange = LayerRange {
        first: 0,
        last: None,
    };

    fn contains(self, layer: usize) -> bool {
        layer >= self.first && self.last.is_none_or(|last| layer <= last)
    }

    /// Parses what follows the `@` of `item`.
    fn parse(text: &str, item: &str) -> Result<Self, UsageError> {
        let wrong = |why: &str| {
            UsageError::new(format!(
                "wrong layer range in `{item}`: {why}; write `@4..6` (layers 4, 5 and 6), `@4`, `@4..` or `@..6`, \
                 layers counted from 0"
            ))
        };
        let number = |text: &str| match text.parse::<usize>() {
            Ok(layer) => Ok(layer),
            Err(_) => Err(wrong(&format!("`{text}` is not a layer number"))),
        };
        let Some((first, last)) = text.split_once("..") else {
            let layer = number(text)?;
            return Ok(Self {
                first: layer,
                last: Some(layer),
            });
        };
        if first.is_empty() && last.is_empty() {
            return Err(wrong("neither end is given"));
        }
        let first = if first.is_empty() { 0 } else { number(first)? };
        let last = if last.is_empty() {
            None
        } else {
            Some(number(last)?)
        };
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
            Self {
                first,
                last: Some(last),
            } if first == last => write!(f, "@{first}"),
            Self {
                first,
                last: Some(last),
            } => write!(f, "@{first}..{last}"),
        }
    }
}

/// Which biases train: for each component that has any, the layers, as sorted ranges that do not touch.
///
/// The form is canonical: two ways of writing the same choice are equal and print the same.
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

    /// No bias: the head alone trains. Written `none`.
    pub fn none() -> Self {
        Self {
            chosen: BTreeMap::new(),
        }
    }

    /// True if no bias is selected.
    pub fn is_none(&self) -> bool {
        self.chosen.is_empty()
    }

    /// Reads `all`, `none`, or names with optional layer ranges: `query,intermediate@4..6,pooler`.
    ///
    /// # Errors
    /// An unknown name (with the nearest known one), a wrong range, a range on a component that no layer has.
    pub fn parse(text: &str) -> Result<Self, UsageError> {
        match text.trim() {
            "all" => return Ok(Self::all()),
            "none" => return Ok(Self::none()),
            "" => {
                return Err(UsageError::new(
                    "no bias is named; write `all` or names such as `query,intermediate`",
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
                    "`{name}` stands alone, without other names or a layer range, in `{text}`"
                )));
            }
            if name.is_empty() {
                return Err(UsageError::new(format!(
                    "a name is missing in `{text}`: write names joined by single commas"
                )));
            }
            let component: Component = name.parse()?;
            let range = match range {
                None => LayerRange::WHOLE,
                Some(_) if !component.per_layer() => {
                    return Err(UsageError::new(format!(
                        "`{name}` exists once in a model, not in every layer: leave out the range in `{item}`"
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
    /// A range that names a layer the model does not have.
    pub fn validate(&self, layers: usize) -> Result<(), UsageError> {
        for (component, ranges) in &self.chosen {
            for range in ranges {
                let highest = range.last.unwrap_or(range.first);
                if component.per_layer() && highest >= layers {
                    return Err(UsageError::new(format!(
                        "--biases {component}{range}: the model has {layers} layers, numbered 0 to {}",
                        layers.saturating_sub(1),
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
            Component::ALL
                .into_iter()
                .any(|component| self.selects(component, Some(layer)))
        })
    }
}

/// Sorts ranges and joins those that overlap or touch.
fn merge(ranges: &mut Vec<LayerRange>) {
    ranges.sort_by_key(|range| range.first);
    let mut merged: Vec<LayerRange> = Vec::with_capacity(ranges.len());
    for range in ranges.drain(..) {
        match merged.last_mut() {
            // `last` of None reaches every later layer; `+ 1` joins 0..2 and 3..5.
            Some(before)
                if before
                    .last
                    .is_none_or(|last| range.first <= last.saturating_add(1)) =>
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> BiasSelection {
        BiasSelection::parse(text).unwrap()
    }

    fn error(text: &str) -> String {
        BiasSelection::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (place, component) in Component::ALL.into_iter().enumerate() {
            assert_eq!(TABLE[place].component, component);
            assert_eq!(component.name().parse::<Component>().unwrap(), component);
        }
    }

    #[test]
    fn a_name_selects_exactly_one_kind_of_bias() {
        for chosen in Component::ALL {
            let selection = parse(chosen.name());
            for other in Component::ALL {
                let layer = other.per_layer().then_some(3);
                assert_eq!(
                    selection.selects(other, layer),
                    other == chosen,
                    "{chosen} {other}"
                );
            }
        }
    }

    #[test]
    fn ranges_are_inclusive_and_counted_from_zero() {
        let layers = |text: &str| -> Vec<usize> {
            let selection = parse(text);
            (0..8)
                .filter(|&layer| selection.selects(Component::Intermediate, Some(layer)))
                .collect()
        };
        assert_eq!(layers("intermediate@4..6"), [4, 5, 6]);
        assert_eq!(layers("intermediate@4"), [4]);
        assert_eq!(layers("intermediate@5.."), [5, 6, 7]);
        assert_eq!(layers("intermediate@..2"), [0, 1, 2]);
        assert_eq!(layers("intermediate@0,intermediate@7"), [0, 7]);
        assert_eq!(layers("query"), [0usize; 0]);
    }

    #[test]
    fn equal_choices_are_equal_and_print_in_one_form() {
        assert_eq!(
            parse("value, query@0..2,query@3..5"),
            parse("query@..5,value")
        );
        assert_eq!(
            parse("value,query@0..2,query@3").to_string(),
            "query@0..3,value"
        );
        assert_eq!(parse("key@3..,key@4").to_string(), "key@3..");
        let every = Component::ALL.map(Component::name).join(",");
        assert_eq!(parse(&every).to_string(), "all");
        assert_eq!(BiasSelection::none().to_string(), "none");
        assert!(parse("none").is_none());
    }

    #[test]
    fn mistakes_are_named_with_a_way_out() {
        assert!(
            error("qurey").contains("did you mean `query`?"),
            "{}",
            error("qurey")
        );
        assert!(error("output-layernrom").contains("did you mean `output-layernorm`?"));
        assert!(error("intermediate@6..4").contains("ends before it begins"));
        assert!(error("intermediate@x").contains("`x` is not a layer number"));
        assert!(error("intermediate@..").contains("neither end"));
        assert!(error("pooler@1").contains("exists once in a model"));
        assert!(error("all,query").contains("`all` stands alone"));
        assert!(error("all@2..").contains("`all` stands alone"));
        assert!(error("query,,key").contains("a name is missing"));
        assert!(error("  ").contains("no bias is named"));
    }

    #[test]
    fn a_range_outside_the_model_is_refused() {
        assert!(parse("key@4..5").validate(6).is_ok());
        assert!(parse("key@5..").validate(6).is_ok());
        let message = parse("key@4..6").validate(6).unwrap_err().to_string();
        assert!(message.contains("6 layers, numbered 0 to 5"), "{message}");
        assert!(parse("key@6..").validate(6).is_err());
        assert!(parse("pooler,embeddings-layernorm").validate(1).is_ok());
    }

    #[test]
    fn the_lowest_trained_layer_is_where_backward_may_stop() {
        assert_eq!(BiasSelection::all().lowest_layer(6), Some(0));
        assert_eq!(parse("output@4..,query@2").lowest_layer(6), Some(2));
        assert_eq!(parse("pooler").lowest_layer(6), None);
    }

    #[test]
    fn bert_base_has_the_papers_number_of_biases() {
        // 12 layers, hidden 768, intermediate 3072.
        let count: usize = Component::ALL
            .into_iter()
            .map(|component| component.count(768, 3072, 12))
            .sum();
        assert_eq!(count, 12 * (7 * 768 + 3072) + 2 * 768);
        assert_eq!(Component::Intermediate.count(768, 3072, 12), 36_864);
        assert_eq!(Component::Pooler.count(768, 3072, 12), 768);
    }

    proptest! {
        #[test]
        fn printing_and_parsing_round_trips(items in proptest::collection::vec(
            (0usize..10, 0usize..6, 0usize..6, 0u8..5), 1..6)) {
            let text = items
                .iter()
                .map(|&(component, first, length, form)| {
                    let component = Component::ALL[component];
                    match form {
                        _ if !component.per_layer() => component.to_string(),
                        0 => component.to_string(),
                        1 => format!("{component}@{first}"),
                        2 => format!("{component}@{first}.."),
                        3 => format!("{component}@..{length}"),
                        _ => format!("{component}@{first}..{}", first + length),
                    }
                })
                .collect::<Vec<_>>()
                .join(",");
            let selection = BiasSelection::parse(&text).unwrap();
            prop_assert_eq!(&BiasSelection::parse(&selection.to_string()).unwrap(), &selection);
            let json = serde_json::to_string(&selection).unwrap();
            prop_assert_eq!(&serde_json::from_str::<BiasSelection>(&json).unwrap(), &selection);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = BiasSelection::parse(&text);
        }
    }
}
