//! Single values of the encoder that train: their names in a delta, and how `merge` adds them. [`super::random`] or
//! [`super::rows`] draws which ones they are.

use crate::formats::container::Tensor;
use std::collections::BTreeMap;

/// A tensor of the model has two tensors in a delta, whose names end like this: the places of its entries, counted row
/// by row, and what is added there.
const INDEX: &str = ".sparse_index";
const VALUES: &str = ".sparse_values";

/// Entries of tensors by tensor name: ascending places, counted row by row.
pub type Places = BTreeMap<String, Vec<u32>>;

/// The name of the values of a tensor's entries.
pub fn values_name(tensor: &str) -> String {
    format!("{tensor}{VALUES}")
}

/// The name of the places of a tensor's entries.
pub fn index_name(tensor: &str) -> String {
    format!("{tensor}{INDEX}")
}

/// Adds the entries of a delta to the tensors of a merged model and removes the values. `places` is keyed by the names
/// of the tensors that hold them.
pub fn fold(tensors: &mut BTreeMap<String, Tensor>, places: &Places) {
    for (index, places) in places {
        let Some(name) = index.strip_suffix(INDEX) else { continue };
        let values = tensors.remove(&values_name(name));
        let tensor = tensors.get_mut(name);
        if let (Some(values), Some(tensor)) = (values, tensor) {
            for (&place, value) in places.iter().zip(&values.data) {
                if let Some(at) = tensor.data.get_mut(place as usize) {
                    *at += value;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_added_to_their_matrix() {
        let mut tensors = BTreeMap::from([
            ("l.weight".to_owned(), Tensor { shape: vec![2, 3], data: vec![1.0; 6] }),
            (values_name("l.weight"), Tensor::vector(vec![0.5, -2.0])),
        ]);
        fold(&mut tensors, &Places::from([(index_name("l.weight"), vec![1, 5])]));
        assert_eq!(tensors["l.weight"].data, [1.0, 1.5, 1.0, 1.0, 1.0, -1.0]);
        assert_eq!(tensors.len(), 1);
    }
}
