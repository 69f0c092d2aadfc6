//! Single values of the encoder that train: which ones they are in this model, and how the parameter vector stores
//! them.

use super::TaskSpec;
use super::read::Loader;
use crate::methods::entries::{Places, values_name};
use crate::methods::{Trains, random, rows};
use crate::model::bert::VectorEntries;
use crate::model::config::{Family, ModelConfig};
use crate::model::params::{ParamKind, Params};
use crate::program::{AddedRows, Entries, ParamRange, PoolKind, Sparse};
use crate::settings::biases::{BiasSelection, Component};
use anyhow::{Result, ensure};

/// Entries of a matrix, by rows or by columns, before their place is known.
#[derive(Clone)]
pub struct NewEntries {
    name: String,
    lines: usize,
    count: usize,
}

/// The entries added to a matrix, or to a table, which is only read by rows.
#[derive(Clone)]
pub struct NewSparse {
    /// One name per source tensor that has any, added one after the other.
    values: Vec<String>,
    by_rows: NewEntries,
    by_columns: Option<NewEntries>,
}

/// The entries of vectors.
#[derive(Default)]
pub struct NewVectorEntries {
    /// The vectors' full names, and which of their values are chosen.
    vectors: Vec<(String, Vec<u32>)>,
    /// The checkpoint's values there.
    base: Vec<f32>,
}

/// The most values drawn: far more than the biases of the largest encoders.
const MOST_VALUES: usize = 1 << 26;

const VECTOR_PLACES: &str = "sparse.places";
const VECTOR_BASE: &str = "sparse.base";

/// Draws the entries, keyed by the names of tensors inside the encoder. `pooler` says whether the checkpoint's pooler
/// is among what biases would train; it has no entries itself, since it is part of the head here.
pub fn draw(config: &ModelConfig, task: &TaskSpec, pooler: bool) -> Result<Places> {
    let Some(biases) = task.trains.counted() else {
        return Ok(Places::new());
    };
    let count = bias_count(config, biases, pooler);
    ensure!(
        count <= MOST_VALUES,
        "--biases {biases} has {count} values here; up to {MOST_VALUES} single ones are drawn"
    );
    let mut tensors = tensors(config);
    if let Trains::Rows(_) = task.trains {
        tensors.retain(|(name, shape)| shape[1] > 1 && name.starts_with("encoder."));
    }
    for (name, [rows, columns]) in &tensors {
        let counted = rows.checked_mul(*columns).is_some_and(|size| i32::try_from(size).is_ok());
        ensure!(
            counted,
            "`{name}` is [{rows}, {columns}]: entries of a tensor are counted in 31 bits"
        );
    }
    let shapes: Vec<[usize; 2]> = tensors.iter().map(|(_, shape)| *shape).collect();
    let chosen = match task.trains {
        Trains::Rows(_) => rows::choose(task.seed, count, &shapes),
        _ => {
            let sizes: Vec<usize> = shapes.iter().map(|[rows, columns]| rows * columns).collect();
            random::choose(task.seed, count, &sizes)
        }
    };
    let named = tensors.into_iter().map(|(name, _)| name).zip(chosen);
    Ok(named.filter(|(_, places)| !places.is_empty()).collect())
}

/// The number of values of this model's selected biases.
fn bias_count(config: &ModelConfig, biases: &BiasSelection, pooler: bool) -> usize {
    let of = |component: Component| {
        let layers: Vec<Option<usize>> = match (component, component.per_layer()) {
            (Component::Pooler, _) if !pooler => Vec::new(),
            (_, true) => (0..config.layers).map(Some).collect(),
            (_, false) => vec![None],
        };
        let selected = layers.into_iter().filter(|&layer| biases.selects(component, layer)).count();
        selected * component.width(config.hidden, config.intermediate)
    };
    Component::ALL.into_iter().map(of).sum()
}

/// Whether biases would train the checkpoint's pooler, if it has one.
pub fn trains_pooler(config: &ModelConfig, task: &TaskSpec) -> bool {
    task.pooling == PoolKind::Cls && config.family == Family::Bert && !task.reinit_pooler
}

/// The encoder's tensors in the order used for drawing, which must not change; a vector has one column.
fn tensors(config: &ModelConfig) -> Vec<(String, [usize; 2])> {
    use Component::*;
    let (hidden, inner) = (config.hidden, config.intermediate);
    let mut all = vec![
        ("embeddings.word_embeddings.weight".to_owned(), [config.vocab, hidden]),
        ("embeddings.position_embeddings.weight".to_owned(), [config.position_rows, hidden]),
        ("embeddings.token_type_embeddings.weight".to_owned(), [config.type_vocab, hidden]),
    ];
    let mut module = |module: &str, matrix: [usize; 2]| {
        all.push((format!("{module}.weight"), matrix));
        all.push((format!("{module}.bias"), [matrix[0], 1]));
    };
    module(EmbeddingsLayerNorm.module(), [hidden, 1]);
    for layer in 0..config.layers {
        for component in Component::ALL.into_iter().filter(|component| component.per_layer()) {
            let matrix = match component {
                Intermediate => [inner, hidden],
                Output => [hidden, inner],
                AttentionLayerNorm | OutputLayerNorm => [hidden, 1],
                _ => [hidden, hidden],
            };
            module(&format!("encoder.layer.{layer}.{}", component.module()), matrix);
        }
    }
    all
}

impl Loader<'_> {
    /// The entries added to a matrix that is made of these tensors, each `[rows, cols]`.
    pub fn sparse(
        &mut self,
        names: &[String],
        [rows, cols]: [usize; 2],
        table: bool,
    ) -> Option<NewSparse> {
        let mut entries: Vec<(usize, usize)> = Vec::new();
        let mut values = Vec::new();
        for (i, name) in names.iter().enumerate() {
            let Some(places) = self.chosen.get(name) else { continue };
            let row = |place: usize| i * rows + place / cols;
            entries.extend(places.iter().map(|&p| (row(p as usize), p as usize % cols)));
            let count = places.len();
            values.push(self.values_of(name, count));
        }
        if entries.is_empty() && !table {
            return None;
        }
        let by_columns = (!table).then(|| {
            let mut order: Vec<usize> = (0..entries.len()).collect();
            order.sort_by_key(|&i| (entries[i].1, i));
            let turned = order.iter().map(|&i| [entries[i].1, entries[i].0, i]);
            self.places(&format!("{} by columns", names[0]), cols, &turned.collect::<Vec<_>>())
        });
        let turned = entries.iter().enumerate().map(|(i, &(row, column))| [row, column, i]);
        let by_rows = self.places(&names[0], rows * names.len(), &turned.collect::<Vec<_>>());
        Some(NewSparse { values, by_rows, by_columns })
    }

    /// Zeros that train, for the chosen values of a tensor inside the encoder.
    fn values_of(&mut self, tensor: &str, count: usize) -> String {
        let name = self.full_name(&values_name(tensor));
        // No values means zeros.
        self.add(ParamKind::Entries, None, name, (count, Vec::new()), true)
    }

    /// The integers for entries `[line, column read, number of the value]` in line order: see [`Entries`].
    fn places(&mut self, of: &str, lines: usize, entries: &[[usize; 3]]) -> NewEntries {
        let count = entries.len();
        let mut words = Vec::new();
        if self.source.has_values() {
            let start = |line: usize| entries.partition_point(|entry| entry[0] < line);
            words.extend((0..=lines).map(start));
            for part in [1, 0, 2] {
                words.extend(entries.iter().map(|entry| entry[part]));
            }
        }
        let words = words.into_iter().map(whole).collect();
        let name = format!("{of} places");
        let len = Entries::words(lines, count);
        let name = self.add(ParamKind::Places, None, name, (len, words), false);
        NewEntries { name, lines, count }
    }

    /// Notes which values of a vector are chosen, before it is added under its full name.
    pub fn note_vector(&mut self, name: &str, values: &[f32]) {
        let inside = name.strip_prefix(self.config.family.prefix()).unwrap_or(name);
        if let Some(places) = self.chosen.get(inside) {
            let base =
                places.iter().map(|&place| values.get(place as usize).copied().unwrap_or(0.0));
            self.vectors.base.extend(base);
            self.vectors.vectors.push((name.to_owned(), places.clone()));
        }
    }

    /// Adds the values of vectors, once all vectors are there.
    pub fn vector_entries(&mut self) -> Option<NewVectorEntries> {
        let new = std::mem::take(&mut self.vectors);
        let count = new.base.len();
        if count == 0 {
            return None;
        }
        for (name, places) in &new.vectors {
            let name = values_name(name);
            self.add(ParamKind::Entries, None, name, (places.len(), Vec::new()), true);
        }
        // Places are known once the vector is laid out.
        for name in [VECTOR_PLACES, VECTOR_BASE] {
            self.add(ParamKind::Places, None, name.to_owned(), (count, Vec::new()), false);
        }
        Some(new)
    }
}

/// An integer as stored in the parameter vector.
fn whole(number: usize) -> f32 {
    f32::from_bits(number as u32)
}

impl NewEntries {
    fn place(&self, params: &Params) -> Entries {
        Entries { places: params.range(&self.name), lines: self.lines, count: self.count }
    }
}

/// The joint range of parameters that were added one after the other.
fn together(params: &Params, names: &[String]) -> ParamRange {
    let ranges: Vec<_> = names.iter().map(|name| params.range(name)).collect();
    debug_assert!(ranges.windows(2).all(|pair| pair[0].end() == pair[1].offset));
    let offset = ranges.first().map_or(0, |range| range.offset);
    ParamRange { offset, len: ranges.iter().map(|range| range.len).sum() }
}

impl NewSparse {
    /// For a matrix.
    pub fn place(&self, params: &Params) -> Option<Sparse> {
        let by_columns = self.by_columns.as_ref()?.place(params);
        let values = together(params, &self.values);
        Some(Sparse { by_rows: self.by_rows.place(params), by_columns, values })
    }

    /// For the three tables, if they have any.
    pub fn place_tables(tables: [&Option<Self>; 3], params: &Params) -> Option<AddedRows> {
        let [Some(word), Some(position), Some(token_type)] = tables else {
            return None;
        };
        let tables = [word, position, token_type];
        let names: Vec<String> = tables.iter().flat_map(|table| table.values.clone()).collect();
        let values = together(params, &names);
        let tables = tables.map(|table| table.by_rows.place(params));
        (values.len > 0).then_some(AddedRows { tables, values })
    }
}

impl NewVectorEntries {
    /// Writes where in the vector the places are, and the values there.
    pub fn place(&self, params: &mut Params, values: bool) -> VectorEntries {
        let names: Vec<_> = self.vectors.iter().map(|(name, _)| values_name(name)).collect();
        let [places, base] = [VECTOR_PLACES, VECTOR_BASE].map(|name| params.range(name));
        if values {
            let of_vector = |(name, places): &(String, Vec<u32>)| {
                let offset = params.range(name).offset;
                places.iter().map(|&place| whole(offset + place as usize)).collect::<Vec<f32>>()
            };
            let numbers: Vec<f32> = self.vectors.iter().flat_map(of_vector).collect();
            params.set_initial(places, &numbers);
            params.set_initial(base, &self.base);
        }
        VectorEntries { values: together(params, &names), base, places }
    }
}
