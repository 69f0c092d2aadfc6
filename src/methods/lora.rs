//! LoRA (Hu et al., 2022, arXiv 2106.09685): a low-rank product next to a frozen layer `x·Wᵀ`,
//! `alpha/rank · dropout(x)·Aᵀ·Bᵀ`. B starts at zero, A is drawn as in PEFT; the names are PEFT's.

use crate::formats::container::Tensor;
use crate::rng::{Purpose, Stream};
use std::collections::BTreeMap;

const A: &str = ".lora_A.weight";
const B: &str = ".lora_B.weight";

/// The names of both matrices of a layer: `[rank, inputs]` and `[outputs, rank]`.
pub fn names(module: &str) -> [String; 2] {
    [A, B].map(|end| format!("{module}{end}"))
}

/// Initial values of A: uniform within ±1/√inputs. `index` counts through the model.
pub fn draw(seed: u64, index: u64, rank: usize, inputs: usize) -> Vec<f32> {
    let mut stream = Stream::new(seed, Purpose::LowRank, index);
    let most = 1.0 / (inputs as f32).sqrt();
    (0..rank * inputs).map(|_| most * (2.0 * stream.uniform() - 1.0)).collect()
}

/// `scale · B·A`, row-major: what is added to a layer's matrix.
pub fn product(a: &Tensor, b: &Tensor, scale: f32) -> Vec<f32> {
    let (rank, inputs) = (a.shape[0], a.shape[1]);
    let row = |of_b: &[f32]| -> Vec<f32> {
        let mut row = vec![0.0; inputs];
        for (factor, of_a) in of_b.iter().zip(a.data.chunks_exact(inputs)) {
            row.iter_mut().zip(of_a).for_each(|(sum, a)| *sum += scale * factor * a);
        }
        row
    };
    b.data.chunks_exact(rank).flat_map(row).collect()
}

/// Adds the products to the matrices of a merged model and removes their factors.
pub fn fold(tensors: &mut BTreeMap<String, Tensor>, scale: f32) {
    let modules: Vec<String> =
        tensors.keys().filter_map(|name| Some(name.strip_suffix(A)?.to_owned())).collect();
    for module in modules {
        let [a, b] = names(&module).map(|name| tensors.remove(&name));
        let weight = tensors.get_mut(&format!("{module}.weight"));
        if let (Some(a), Some(b), Some(weight)) = (a, b, weight) {
            let product = product(&a, &b, scale);
            weight.data.iter_mut().zip(product).for_each(|(w, p)| *w += p);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_is_added_to_its_matrix() {
        let tensor =
            |shape: &[usize], data: &[f32]| Tensor { shape: shape.into(), data: data.into() };
        let [a, b] = names("l.query");
        let mut tensors = BTreeMap::from([
            ("l.query.weight".to_owned(), tensor(&[2, 3], &[1.0; 6])),
            (a, tensor(&[1, 3], &[1.0, 2.0, 3.0])),
            (b, tensor(&[2, 1], &[1.0, -1.0])),
        ]);
        fold(&mut tensors, 2.0);
        assert_eq!(tensors["l.query.weight"].data, [3.0, 5.0, 7.0, -1.0, -3.0, -5.0]);
        assert_eq!(tensors.len(), 1);
    }

    #[test]
    fn first_values_are_drawn_from_the_seed_within_their_bound() {
        let drawn = draw(7, 3, 4, 16);
        assert!(drawn.iter().all(|x| x.abs() <= 0.25) && drawn.iter().any(|x| x.abs() > 0.1));
        assert_eq!(drawn, draw(7, 3, 4, 16));
        assert_ne!(drawn, draw(7, 4, 4, 16));
    }
}
