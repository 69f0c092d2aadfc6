//! IA³ (Liu et al., 2022, arXiv 2205.05638), as PEFT has it for BERT: a factor per column of keys and values, and per
//! column of the inputs of both output layers of a block. The names are PEFT's.

use crate::formats::container::Tensor;
use crate::settings::biases::Component;
use std::collections::BTreeMap;

/// The suffix of the name of a linear layer's factors.
const END: &str = ".ia3_l";
/// The layers whose outputs have factors, and those whose inputs have.
pub const OF_OUTPUTS: [Component; 2] = [Component::Key, Component::Value];
pub const OF_INPUTS: [Component; 2] = [Component::AttentionOutput, Component::Output];

/// The name of the factors of a linear layer.
pub fn name(module: &str) -> String {
    format!("{module}{END}")
}

/// Multiplies the layers of a merged model by their factors and removes those: rows and bias if the layer's outputs
/// have factors, columns if its inputs have.
pub fn fold(tensors: &mut BTreeMap<String, Tensor>) {
    let names: Vec<String> = tensors.keys().filter(|name| name.ends_with(END)).cloned().collect();
    for name in names {
        let Some(factors) = tensors.remove(&name) else { continue };
        let module = name.trim_end_matches(END);
        let of_outputs = OF_OUTPUTS.iter().any(|layer| module.ends_with(layer.module()));
        if let Some(weight) = tensors.get_mut(&format!("{module}.weight")) {
            let columns = weight.shape[1];
            for (row, of_row) in weight.data.chunks_exact_mut(columns).zip(0..) {
                for (w, of_column) in row.iter_mut().zip(0..) {
                    *w *= factors.data[if of_outputs { of_row } else { of_column }];
                }
            }
        }
        if let Some(bias) = tensors.get_mut(&format!("{module}.bias")).filter(|_| of_outputs) {
            bias.data.iter_mut().zip(&factors.data).for_each(|(b, factor)| *b *= factor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_go_into_rows_and_bias_of_a_key_and_into_columns_of_an_output() {
        let tensor =
            |shape: &[usize], data: &[f32]| Tensor { shape: shape.into(), data: data.into() };
        let matrix = || tensor(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let (key, output) = ("l.attention.self.key", "l.attention.output.dense");
        let mut tensors = BTreeMap::from([
            (format!("{key}.weight"), matrix()),
            (format!("{key}.bias"), tensor(&[2], &[1.0, 1.0])),
            (name(key), tensor(&[2], &[2.0, 3.0])),
            (format!("{output}.weight"), matrix()),
            (format!("{output}.bias"), tensor(&[2], &[1.0, 1.0])),
            (name(output), tensor(&[3], &[2.0, 3.0, 0.5])),
        ]);
        fold(&mut tensors);
        let data = |name: &str| tensors[name].data.clone();
        assert_eq!(data(&format!("{key}.weight")), [2.0, 4.0, 6.0, 12.0, 15.0, 18.0]);
        assert_eq!(data(&format!("{key}.bias")), [2.0, 3.0]);
        assert_eq!(data(&format!("{output}.weight")), [2.0, 6.0, 1.5, 8.0, 15.0, 3.0]);
        assert_eq!(data(&format!("{output}.bias")), [1.0, 1.0]);
        assert_eq!(tensors.len(), 4);
    }
}
