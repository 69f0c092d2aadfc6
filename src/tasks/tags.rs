//! A tag per word (`…ForTokenClassification` of transformers): the first token of a word answers for it, the others are
//! ignored, and where windows overlap, the one with the most context for the token decides. A word counts once in loss
//! and measures.

use super::classification::{argmax, log_softmax};
use super::confusion::Confusion;
use super::entities::{Entity, EntityTally, are_tagged, continued, entities, kind};
use super::examples::TokenLogits;
use super::labels::{ClassNames, one_spelling_each, unknown_at};
use super::metrics::{self, NO_CLASS, Scores};
use super::tag_remarks::{place_of, refuse_numbers, tags};
use super::targets::Prediction;
use crate::batch::Labels;
use crate::data::{Document, Documents, Windows, WordPlace, word_places};
use crate::settings::metric::Metric;
use anyhow::{Result, bail};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The tag for a word without tokens, if the task has this tag.
const OUTSIDE: &str = "O";
/// Otherwise.
const NO_TAG: &str = "_";

/// The distinct tags of documents.
///
/// # Errors
/// There are fewer than two, all are numbers, or one tag or entity type is spelled in several ways.
pub fn names(documents: &Documents) -> Result<ClassNames> {
    refuse_numbers(documents)?;
    let all = || documents.list.iter().flat_map(tags).map(|tag| tag.trim());
    let names = ClassNames::distinct(&documents.name, all(), 2)?;
    if are_tagged(names.names()) {
        let mut types: BTreeMap<&str, usize> = BTreeMap::new();
        all().filter_map(kind).for_each(|kind| *types.entry(kind).or_default() += 1);
        one_spelling_each(&documents.name, ["type", "word"], &types)?;
    }
    Ok(names)
}

/// The measures for these tags: of entities if tags say where one begins and continues.
pub fn measures(names: &ClassNames) -> &'static [Metric] {
    match are_tagged(names.names()) {
        true => &[Metric::EntityF1, Metric::Precision, Metric::Recall, Metric::Accuracy],
        false => &[Metric::Accuracy, Metric::MacroF1],
    }
}

/// The tag of each word at the token that answers for it, `[tokens]`.
///
/// # Errors
/// With file and line: a tag that the task does not have.
pub fn read(names: &ClassNames, documents: &Documents, windows: &Windows) -> Result<Labels> {
    let lengths: Vec<usize> = windows.lengths().collect();
    let mut starts = Vec::with_capacity(lengths.len());
    let mut total = 0;
    for length in lengths {
        starts.push(total);
        total += length;
    }
    let mut ids = vec![Labels::IGNORED; total];
    let places = word_places(&documents.list, windows);
    for (document, places) in documents.list.iter().zip(places) {
        for (word, (tag, place)) in tags(document).iter().zip(places).enumerate() {
            let id = names.id(tag).ok_or_else(|| unknown(names, documents, document, word))?;
            if let Some(place) = place.filter(|place| !place.shared) {
                let first = windows.list[place.window].first;
                ids[starts[place.window] + first + place.token] = id;
            }
        }
    }
    if ids.iter().all(|&id| id == Labels::IGNORED) {
        bail!("{}: no word has a token", documents.name);
    }
    Ok(Labels::Tokens(ids))
}

fn unknown(
    names: &ClassNames,
    documents: &Documents,
    document: &Document,
    word: usize,
) -> anyhow::Error {
    let all = || documents.list.iter().flat_map(tags);
    let many = match all().filter(|tag| names.id(tag).is_none()).count() {
        0 | 1 => String::new(),
        count => format!(" ({count} of {} words have unknown labels)", all().count()),
    };
    let here = place_of(documents, document, word);
    unknown_at(names, &here, &tags(document)[word], &many)
}

/// The class of each word of each document; [`NO_CLASS`] for words without tokens if there is no outside tag.
fn predicted(
    names: &ClassNames,
    documents: &[Document],
    windows: &Windows,
    logits: &TokenLogits<'_>,
) -> Vec<Vec<u32>> {
    let nothing = names.id(OUTSIDE).unwrap_or(NO_CLASS);
    let goes_on: Vec<u32> = (0..)
        .zip(names.names())
        .map(|(id, name)| names.id(&continued(name)).unwrap_or(id))
        .collect();
    let of = |places: Vec<Option<WordPlace>>| {
        let class = |place: Option<WordPlace>| {
            let Some(place) = place else {
                return nothing;
            };
            let window = &windows.list[place.window];
            let class = argmax(logits.of(place.window, window, place.token));
            if place.shared { goes_on[class as usize] } else { class }
        };
        places.into_iter().map(class).collect()
    };
    word_places(documents, windows).into_iter().map(of).collect()
}

/// The names of classes; for no class a mark that is not a tag.
fn named<'a>(names: &'a ClassNames, ids: &[u32]) -> Vec<&'a str> {
    let name = |&id: &u32| names.names().get(id as usize).map_or(NO_TAG, String::as_str);
    ids.iter().map(name).collect()
}

/// Mean loss and measures of documents with the task's tags.
pub fn score(
    names: &ClassNames,
    documents: &[Document],
    windows: &Windows,
    logits: &TokenLogits<'_>,
) -> Scores {
    let id = |tag: &String| names.id(tag).unwrap_or(NO_CLASS);
    let gold: Vec<Vec<u32>> =
        documents.iter().map(|document| tags(document).iter().map(id).collect()).collect();
    let (mut loss, mut words) = (0.0, 0usize);
    for (gold, places) in gold.iter().zip(word_places(documents, windows)) {
        for (&class, place) in gold.iter().zip(places) {
            if let Some(place) = place.filter(|place| !place.shared) {
                let row = logits.of(place.window, &windows.list[place.window], place.token);
                loss -= log_softmax(row)[class as usize];
                words += 1;
            }
        }
    }
    let predicted = predicted(names, documents, windows, logits);
    let mut found = EntityTally::default();
    for (predicted, gold) in predicted.iter().zip(&gold) {
        let (predicted, gold) = (named(names, predicted), named(names, gold));
        found.add(&entities(&predicted), &entities(&gold));
    }
    let (predicted, gold) = (predicted.concat(), gold.concat());
    let value = |metric| match metric {
        Metric::EntityF1 => found.f1(),
        Metric::Precision => found.precision(),
        Metric::Recall => found.recall(),
        Metric::MacroF1 => metrics::macro_f1(&predicted, &gold),
        _ => metrics::accuracy(&predicted, &gold),
    };
    let loss = (Metric::Loss, loss / words.max(1) as f64);
    let rest = measures(names).iter().map(|&metric| (metric, value(metric)));
    std::iter::once(loss).chain(rest).collect()
}

/// The confusion of tags; none if tags name entities, since a word is then only part of one.
pub fn confusion(
    names: &ClassNames,
    documents: &[Document],
    windows: &Windows,
    logits: &TokenLogits<'_>,
) -> Option<Confusion> {
    if are_tagged(names.names()) {
        return None;
    }
    let id = |tag: &String| names.id(tag);
    let gold: Option<Vec<u32>> = documents.iter().flat_map(tags).map(id).collect();
    let predicted = predicted(names, documents, windows, logits).concat();
    Some(Confusion::count(names.names().len(), &predicted, &gold?))
}

/// The entities of each type, ordered by name; none if tags do not name entities.
pub fn types(
    names: &ClassNames,
    documents: &[Document],
    windows: &Windows,
    logits: &TokenLogits<'_>,
) -> BTreeMap<String, EntityTally> {
    let mut types: BTreeMap<String, EntityTally> = BTreeMap::new();
    if !are_tagged(names.names()) {
        return types;
    }
    let predicted = predicted(names, documents, windows, logits);
    for (document, predicted) in documents.iter().zip(predicted) {
        let predicted = named(names, &predicted);
        let gold: Vec<&str> = tags(document).iter().map(|tag| tag.trim()).collect();
        let [predicted, gold] = [entities(&predicted), entities(&gold)];
        let kinds: BTreeSet<&str> = predicted.iter().chain(&gold).map(|e| e.kind).collect();
        for kind in kinds {
            let [predicted, gold] = [&predicted, &gold].map(|all| {
                all.iter().filter(|e| e.kind == kind).cloned().collect::<Vec<Entity<'_>>>()
            });
            types.entry(kind.to_owned()).or_default().add(&predicted, &gold);
        }
    }
    types
}

/// The answer for each document: tags, positions of the words, and the entities.
pub fn answers(
    names: &ClassNames,
    documents: &[Document],
    windows: &Windows,
    logits: &TokenLogits<'_>,
) -> Vec<Prediction> {
    let with_entities = are_tagged(names.names());
    let predicted = predicted(names, documents, windows, logits);
    let of = |(document, ids): (&Document, Vec<u32>)| {
        let tags = named(names, &ids);
        let words: Vec<&str> =
            document.words.iter().map(|word| &document.text[word.clone()]).collect();
        let offsets = in_characters(document);
        let mut record = Map::new();
        if let Some(id) = &document.id {
            record.insert("id".into(), id.as_str().into());
        }
        record.insert("text".into(), document.text.as_str().into());
        record.insert("tokens".into(), json!(words));
        record.insert("offsets".into(), json!(offsets));
        record.insert("tags".into(), json!(tags));
        if with_entities {
            let entity = |entity: Entity<'_>| {
                let (first, last) = (entity.words.start, entity.words.end - 1);
                let bytes = document.words[first].start..document.words[last].end;
                json!({
                    "start": offsets[first][0],
                    "end": offsets[last][1],
                    "label": entity.kind,
                    "text": &document.text[bytes],
                })
            };
            let found: Vec<Value> = entities(&tags).into_iter().map(entity).collect();
            record.insert("entities".into(), found.into());
        }
        let line = |(word, tag): (&&str, &&str)| {
            let word = if word.is_empty() { NO_TAG } else { word };
            vec![word.to_owned(), (*tag).to_owned()]
        };
        let lines = words.iter().zip(&tags).map(line).chain([Vec::new()]).collect();
        Prediction { record: record.into(), lines }
    };
    documents.iter().zip(predicted).map(of).collect()
}

/// Where each word begins and ends, counted in characters.
fn in_characters(document: &Document) -> Vec<[usize; 2]> {
    let (mut bytes, mut characters) = (0, 0);
    let mut at = |byte: usize| {
        characters += document.text[bytes..byte].chars().count();
        bytes = byte;
        characters
    };
    document.words.iter().map(|word| [at(word.start), at(word.end)]).collect()
}
