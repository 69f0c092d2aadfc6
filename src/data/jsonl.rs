//! Rows from JSON lines. Keys are chosen like columns; a key may first occur in a later row, and a row without a second
//! text is a single one.

use std::collections::HashSet;
use std::fmt;

use anyhow::{Context, Result, bail};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::columns::{ChosenColumns, choose, could_be_chosen, hold_pairs};
use super::input::{LIST, ReadOptions, Row};
use super::lines::place;
use crate::formats::columns::Columns;

/// Most keys per object.
const MOST_KEYS: usize = 1 << 20;

/// The keys of the rows so far.
#[derive(Default)]
pub(super) struct Keys {
    /// All of them, in order of first occurrence.
    seen: Vec<String>,
    /// The same, for lookup.
    known: HashSet<String>,
    chosen: Option<ChosenColumns>,
}

impl Keys {
    /// The keys that are read; `None` before the first row.
    pub fn columns(&self) -> Option<Columns> {
        self.chosen.map(|chosen| chosen.names(&self.seen))
    }

    /// The keys that are not read.
    pub fn unread(&self) -> Vec<String> {
        self.chosen.map(|chosen| chosen.others(&self.seen)).unwrap_or_default()
    }

    /// Checks that everything the user named or the task was trained on is there. Call it once enough rows have been
    /// read to tell.
    ///
    /// # Errors
    /// No row has the text pair's key.
    pub fn complete(&self, options: &ReadOptions, here: &str) -> Result<()> {
        let found = self.chosen.is_none_or(|chosen| chosen.text_pair.is_some());
        match &options.columns.text_pair {
            Some(name) if !found => {
                bail!("{here}: no row has the key {name:?} of --text-pair-column")
            }
            _ => hold_pairs(options.trained.as_ref(), found, here),
        }
    }

    /// One row from its line.
    ///
    /// # Errors
    /// With the place: not a JSON object, a missing key, or a value of another kind.
    pub fn row(
        &mut self,
        line: &str,
        name: &str,
        number: u64,
        options: &ReadOptions,
    ) -> Result<Row> {
        let here = place(name, number);
        let object = Object::parse(line, &here)?;
        let keys = object.0.iter().map(|(key, _)| key);
        let fresh: Vec<String> = keys.filter(|key| !self.known.contains(*key)).cloned().collect();
        // Most keys cannot change what is read, and each row may have new ones.
        let decides = fresh
            .iter()
            .any(|key| could_be_chosen(key, &options.columns, options.trained.as_ref()));
        if self.chosen.is_none() || decides {
            self.choose(fresh, options, &here)?;
        } else {
            self.add(fresh);
        }
        let columns = self.columns();
        let columns = columns.with_context(|| format!("{here}: an object without keys"))?;
        object.row(&columns, options.label_lists, number, &here)
    }

    fn add(&mut self, fresh: Vec<String>) {
        self.known.extend(fresh.iter().cloned());
        self.seen.extend(fresh);
    }

    fn choose(&mut self, fresh: Vec<String>, options: &ReadOptions, here: &str) -> Result<()> {
        let before = self.columns();
        let what = match fresh.first() {
            Some(key) => format!("the key {key:?}"),
            None => "nothing".to_owned(),
        };
        self.add(fresh);
        let mut names = options.columns.clone();
        // It may come in a later row.
        let waits = names.text_pair.take_if(|name| !self.known.contains(name)).is_some();
        let (label_use, trained) = (options.label_use, options.trained.as_ref());
        let mut chosen = choose(&self.seen, &names, label_use, trained, here)?;
        if waits {
            chosen.text_pair = None;
        }
        let now = chosen.names(&self.seen);
        if let Some(before) = before {
            // Rows without the key have no second text; any other change would make the earlier rows wrong.
            let only_pair = before.text_pair.is_none() || before.text_pair == now.text_pair;
            if !(only_pair && before.text == now.text && before.label == now.label) {
                bail!(
                    "{here}: {what} is in none of the rows above and changes what is read ({before}; now {now}); name \
                     the keys with --text-column, --text-pair-column and --label-column"
                );
            }
        }
        self.chosen = Some(chosen);
        Ok(())
    }
}

/// Keys and values in line order. Values stay as written: 1.0 is not 1, and no digit is lost.
pub(super) struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Object<'a> {
    pub fn parse(line: &'a str, here: &str) -> Result<Self> {
        let problem = |e: serde_json::Error| {
            let text = e.to_string();
            // Without serde_json's own line and column, which is always "line 1" here.
            let end = text.rfind(" at line ").unwrap_or(text.len());
            anyhow::anyhow!(
                "{here}:{}: not a JSON object on one line: {}",
                e.column(),
                &text[..end]
            )
        };
        let value: &RawValue = serde_json::from_str(line).map_err(problem)?;
        match value.get().bytes().next() {
            Some(b'{') => serde_json::from_str(line).map_err(problem),
            Some(b'[') => {
                bail!("{here}: an array, not a JSON object; write each element on its own line")
            }
            _ => bail!("{here}: not a JSON object"),
        }
    }

    /// The keys, in line order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }

    pub fn get(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(k, _)| k == key).map(|&(_, v)| v)
    }

    fn row(&self, columns: &Columns, lists: bool, line: u64, here: &str) -> Result<Row> {
        let needed = |key: &str| {
            self.get(key).with_context(|| format!("{here}: the key {key:?} is missing"))
        };
        let label = |key: &String| label(key, needed(key)?, lists, here);
        let pair = columns.text_pair.as_deref().and_then(|key| {
            let value = self.get(key).filter(|value| value.get() != "null")?;
            Some(text(key, value, here))
        });
        Ok(Row {
            line,
            text: text(&columns.text, needed(&columns.text)?, here)?,
            text_pair: pair.transpose()?,
            label: columns.label.as_ref().map(label).transpose()?,
        })
    }
}

pub(super) fn text(key: &str, value: &RawValue, here: &str) -> Result<String> {
    if !value.get().starts_with('"') {
        bail!("{here}: the value of {key:?} is {}, not a string", kind_of(value));
    }
    serde_json::from_str(value.get())
        .with_context(|| format!("{here}: the value of {key:?} is not text"))
}

/// Null is an empty label, like an empty field in a table.
fn label(key: &str, value: &RawValue, lists: bool, here: &str) -> Result<String> {
    match value.get().as_bytes().first() {
        Some(b'"') => text(key, value, here),
        // Not a list without labels: nobody has said that there are none.
        Some(b'n') if lists => Ok("null".to_owned()),
        Some(b'n') => Ok(String::new()),
        Some(b'[') if lists => {
            let parts: Vec<&RawValue> = serde_json::from_str(value.get())
                .with_context(|| format!("{here}: the value of {key:?} is not a list"))?;
            // A list without elements leaves only the mark.
            let mut list = String::from(if parts.is_empty() { "\u{1f}" } else { "" });
            for part in parts {
                if part.get() == "null" {
                    bail!("{here}: the list {key:?} has a null, which is not a label");
                }
                let label = label(key, part, false, here)?;
                if label.trim().is_empty() {
                    bail!("{here}: the list {key:?} has an empty text, which is not a label");
                }
                list.push(LIST);
                list += &label;
            }
            Ok(list)
        }
        Some(b'[' | b'{') => bail!(
            "{here}: the value of {key:?} is {}, not a string, number, true or false",
            kind_of(value)
        ),
        _ => Ok(value.get().to_owned()),
    }
}

pub(super) fn kind_of(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'[') => "an array",
        Some(b'{') => "an object",
        Some(b'n') => "null",
        Some(b't' | b'f') => "a truth value",
        _ => "a number",
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut entries: Vec<(String, &RawValue)> = Vec::new();
                let mut known = HashSet::new();
                while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                    if entries.len() == MOST_KEYS {
                        return Err(A::Error::custom(format_args!(
                            "an object of more than {MOST_KEYS} keys"
                        )));
                    }
                    if !known.insert(key.clone()) {
                        return Err(A::Error::custom(format_args!("the key {key:?} occurs twice")));
                    }
                    entries.push((key, value));
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
