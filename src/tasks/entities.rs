//! Entities in the tags of words, by the rules of seqeval's default mode, which are those of CoNLL's script: IOB1, IOB2
//! and IOBES alike, and an I without a preceding B begins an entity. L and U of BILOU are read as E and S.

use std::collections::HashSet;
use std::ops::Range;

/// Words that form one thing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entity<'a> {
    /// What follows the hyphen in its tags; `_` if nothing does.
    pub kind: &'a str,
    pub words: Range<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Outside,
    Begin,
    Inside,
    End,
    Single,
}

/// Parses a tag, if it belongs to such a scheme.
fn split(tag: &str) -> Option<(Part, &str)> {
    let rest = tag.get(1..)?;
    let kind = match rest.strip_prefix('-') {
        None if rest.is_empty() => "_",
        None => return None,
        Some("") => "_",
        Some(kind) => kind,
    };
    let part = match &tag[..1] {
        "O" if rest.is_empty() => Part::Outside,
        "B" => Part::Begin,
        "I" => Part::Inside,
        "E" | "L" => Part::End,
        "S" | "U" => Part::Single,
        _ => return None,
    };
    Some((part, kind))
}

/// Whether these tags all belong to such a scheme, rather than being names of something else.
pub fn are_tagged<S: AsRef<str>>(names: &[S]) -> bool {
    let parts: Option<Vec<Part>> = names.iter().map(|name| Some(split(name.as_ref())?.0)).collect();
    parts.is_some_and(|parts| parts.iter().any(|&part| part != Part::Outside))
}

/// The type of the entity that a word with this tag is part of; `_` if the tag names none.
pub fn kind(tag: &str) -> Option<&str> {
    split(tag).filter(|(part, _)| *part != Part::Outside).map(|(_, kind)| kind)
}

/// Whether a tag shows by a hyphen that it is inside an entity.
pub fn begins(tag: &str) -> bool {
    tag.contains('-') && kind(tag).is_some()
}

/// The tag that continues an entity begun by this tag.
pub fn continued(tag: &str) -> String {
    match split(tag) {
        Some((Part::Begin, _)) => format!("I{}", &tag[1..]),
        _ => tag.to_owned(),
    }
}

/// The entities of one sequence, in order. A tag of no scheme is outside.
pub fn entities<'a>(tags: &[&'a str]) -> Vec<Entity<'a>> {
    let mut all: Vec<Entity<'a>> = Vec::new();
    let mut before = (Part::Outside, "_");
    for (i, tag) in tags.iter().enumerate() {
        let now = split(tag).unwrap_or((Part::Outside, "_"));
        let joins = matches!(before.0, Part::Begin | Part::Inside)
            && matches!(now.0, Part::Inside | Part::End)
            && before.1 == now.1;
        match all.last_mut() {
            Some(last) if joins => last.words.end = i + 1,
            _ if now.0 != Part::Outside => all.push(Entity { kind: now.1, words: i..i + 1 }),
            _ => {}
        }
        before = now;
    }
    all
}

/// How many entities were predicted, gold, and both, of one type or all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntityTally {
    pub predicted: usize,
    pub gold: usize,
    pub right: usize,
}

impl EntityTally {
    /// Counts one sequence.
    pub fn add(&mut self, predicted: &[Entity<'_>], gold: &[Entity<'_>]) {
        self.predicted += predicted.len();
        self.gold += gold.len();
        let gold: HashSet<&Entity<'_>> = gold.iter().collect();
        self.right += predicted.iter().filter(|entity| gold.contains(entity)).count();
    }

    pub fn precision(&self) -> f64 {
        share(self.right, self.predicted)
    }

    pub fn recall(&self) -> f64 {
        share(self.right, self.gold)
    }

    pub fn f1(&self) -> f64 {
        share(2 * self.right, self.predicted + self.gold)
    }
}

/// 0 if there is nothing to take a share of, as in scikit-learn.
fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
#[path = "entities_tests.rs"]
mod tests;
