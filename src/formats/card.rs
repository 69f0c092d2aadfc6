//! A model card: a `README.md` whose header a hub parses and whose rest it displays.

use serde_json::Value;
use std::fmt;

/// A card before conversion to text.
pub struct ModelCard {
    /// For the hub, in this order. Each value is JSON, which is valid YAML.
    pub metadata: Vec<(&'static str, Value)>,
    pub title: String,
    /// The text below the title, then the text below each heading.
    pub parts: Vec<(&'static str, String)>,
}

impl fmt::Display for ModelCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("---\n")?;
        for (key, value) in &self.metadata {
            writeln!(f, "{key}: {value}")?;
        }
        write!(f, "---\n\n# {}\n", self.title)?;
        for (heading, text) in &self.parts {
            if !heading.is_empty() {
                write!(f, "\n## {heading}\n")?;
            }
            write!(f, "\n{}\n", text.trim_end())?;
        }
        Ok(())
    }
}

/// A block of code, with any content.
pub fn fenced(language: &str, text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}{language}\n{}\n{fence}", text.trim_end())
}

/// A name within a line, with any content.
pub fn quoted_name(name: &str) -> String {
    let name: String =
        name.chars().map(|c| if c.is_control() || c == '`' { ' ' } else { c }).collect();
    format!("`{}`", name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_names_hold_ends_neither_a_block_nor_the_metadata() {
        assert_eq!(fenced("json", "[\"```\"]"), "````json\n[\"```\"]\n````");
        assert_eq!(quoted_name("a`b\n---"), "`a b ---`");
        let card = ModelCard {
            metadata: vec![("base_model", json!("a\n---\nb: c")), ("tags", json!(["x"]))],
            title: "t".into(),
            parts: vec![("", "p".into()), ("H", "q\n".into())],
        };
        let text =
            "---\nbase_model: \"a\\n---\\nb: c\"\ntags: [\"x\"]\n---\n\n# t\n\np\n\n## H\n\nq\n";
        assert_eq!(card.to_string(), text);
    }
}
