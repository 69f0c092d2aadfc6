//! The settings of `--method lora`: rank, scale, dropout, and the layers that get a low-rank product.

use super::biases::Component;
use crate::error::{UsageError, suggestion};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The largest rank: a higher one would save nothing compared with any of these models' matrices.
pub const MOST_RANK: usize = 1024;

/// What a run with `--method lora` adds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lora {
    #[serde(rename = "lora-rank")]
    pub rank: usize,
    /// A product is multiplied by this divided by the rank.
    #[serde(rename = "lora-alpha")]
    pub alpha: f64,
    /// On a product's input.
    #[serde(rename = "lora-dropout")]
    pub dropout: f64,
    #[serde(rename = "lora-on")]
    pub on: Projections,
}

impl Default for Lora {
    fn default() -> Self {
        Self { rank: 8, alpha: 8.0, dropout: 0.0, on: Projections::default() }
    }
}

impl Lora {
    /// The factor on a product.
    pub fn scale(&self) -> f32 {
        (self.alpha / self.rank as f64) as f32
    }
}

/// Linear layers of every block, in the order of the forward pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Projections(Vec<Component>);

/// The supported ones. The intermediate layer's product goes through its activation as it is computed, so nothing can
/// be added to it before that.
const KNOWN: [Component; 5] = [
    Component::Query,
    Component::Key,
    Component::Value,
    Component::AttentionOutput,
    Component::Output,
];

impl Projections {
    pub fn contains(&self, layer: Component) -> bool {
        self.0.contains(&layer)
    }

    pub fn iter(&self) -> impl Iterator<Item = Component> {
        self.0.iter().copied()
    }
}

impl Default for Projections {
    fn default() -> Self {
        Self(vec![Component::Query, Component::Value])
    }
}

impl FromStr for Projections {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<Self, UsageError> {
        let asked: Vec<&str> = text.split(',').map(str::trim).collect();
        let names = || KNOWN.iter().map(|layer| layer.name());
        if let Some(other) = asked.iter().find(|name| !names().any(|known| known == **name)) {
            return Err(UsageError::new(format!(
                "`{other}` is not a layer that LoRA can go on{}; known: {}",
                suggestion(other, names()),
                names().collect::<Vec<_>>().join(", ")
            )));
        }
        Ok(Self(KNOWN.into_iter().filter(|layer| asked.contains(&layer.name())).collect()))
    }
}

impl fmt::Display for Projections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(Component::name).collect();
        f.write_str(&names.join(","))
    }
}

impl TryFrom<String> for Projections {
    type Error = UsageError;

    fn try_from(text: String) -> Result<Self, UsageError> {
        text.parse()
    }
}

impl From<Projections> for String {
    fn from(projections: Projections) -> Self {
        projections.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_read_in_any_order_and_written_in_theirs() {
        let read = |text: &str| text.parse::<Projections>();
        assert_eq!(read("value, query").unwrap(), Projections::default());
        assert_eq!(read("output,key").unwrap().to_string(), "key,output");
        for (text, said) in [("", "known: query"), ("quary", "query"), ("intermediate", "known:")] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
