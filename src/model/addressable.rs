//! Sizes that no machine can address, refused part by part before anything is computed from them.
//!
//! Shapes come from files and options, and sizes are their products, computed in many places: a plan, an arena, a
//! device's buffers. Here they are summed once, in numbers that cannot overflow, with a margin for what the others add
//! (alignment, tensors that backward recomputes, room for partial sums). Below this limit every size fits a `usize`,
//! wherever it is computed.

use super::Model;
use crate::backend::DeviceKind;
use crate::program::{Limits, Saving};
use anyhow::{Result, ensure};

/// Bytes of all parts together: a fraction of what a `usize` can count, and a million times what machines have.
const MOST: u128 = 1 << 58;

/// The minimum size of a part, in bytes.
type Part = (String, u128);

impl Model {
    /// Whether sizes can be computed for batches of up to `limits`.
    ///
    /// # Errors
    /// When they cannot; the error names a part.
    pub fn addressable(&self, limits: Limits, device: DeviceKind) -> Result<()> {
        let parts = self.parts(limits, device);
        let all: u128 = parts.iter().map(|(_, bytes)| bytes).sum();
        // In the order of a step: the first that is too large by itself, otherwise the largest.
        let named = parts.iter().find(|(_, bytes)| *bytes > MOST);
        let named = named.or_else(|| parts.iter().max_by_key(|(_, bytes)| bytes));
        let (part, bytes) = named.map_or(("nothing", 0), |(part, bytes)| (part.as_str(), *bytes));
        ensure!(
            all <= MOST,
            "{part} alone would need {bytes} bytes, and the whole plan more than any machine can address: use smaller \
             batches, or check config.json"
        );
        Ok(())
    }

    fn parts(&self, limits: Limits, device: DeviceKind) -> Vec<Part> {
        let wide = |n: usize| n as u128;
        let list = self.list(Some(Saving::KEEP), false);
        let mut parts: Vec<Part> = Vec::new();
        for info in &list.values {
            let (rows, width) = (limits.rows(info.rows), info.width);
            let of = match info.block {
                Some(layer) => format!("of layer {layer} "),
                None => String::new(),
            };
            let part = format!("the tensor `{}` {of}([{rows}, {width}])", info.what.name());
            parts.push((part, wide(rows) * wide(width) * 4));
        }
        let matrices = self.matrices.iter().map(|shape| wide(shape.rows) * wide(shape.cols) * 4);
        parts.push(("the frozen weights".to_owned(), matrices.sum()));
        let values = wide(self.params.count());
        parts.push(("parameters, gradients and moments".to_owned(), values * 16));

        let threads = match device {
            DeviceKind::Cpu { threads, .. } => threads,
            DeviceKind::Cuda { .. } => 1,
        };
        let (widest, head_dim) = list.widest();
        let rows = wide(limits.tokens.max(limits.sequences));
        let sums = (rows / 8 + wide(limits.sequences)) * wide(widest) * 4;
        let attention = wide(limits.max_len) * wide(head_dim + 64) * 32;
        let scratch = wide(threads) * (attention + wide(widest) * 64);
        parts.push((format!("room for {threads} threads and for sums"), sums + scratch));
        parts.push(("the batch".to_owned(), rows * 64));
        parts
    }
}

#[cfg(test)]
mod tests {
    use crate::backend::cpu::Arithmetic;
    use crate::backend::{DeviceKind, WeightType};
    use crate::methods::Trains;
    use crate::model::config::ModelConfig;
    use crate::model::load::{TaskSpec, outline};
    use crate::program::{Limits, LossKind, PoolKind};

    const DEVICES: [DeviceKind; 2] = [
        DeviceKind::Cpu { weights: WeightType::F16, threads: 1024, arithmetic: Arithmetic::F32 },
        DeviceKind::Cuda { weights: WeightType::Nf4 },
    ];

    fn refusal(keys: &str, outputs: usize, limits: Limits, trains: Trains) -> Option<String> {
        let config = format!(r#"{{"model_type": "bert", "num_hidden_layers": 2{keys}}}"#);
        let spec = TaskSpec {
            outputs,
            class_weights: Vec::new(),
            loss: LossKind::CrossEntropy,
            pooling: PoolKind::Mean,
            reinit_pooler: false,
            trains,
            dropout: None,
            seed: 0,
        };
        let model = outline(&ModelConfig::parse(&config).unwrap(), &spec).unwrap();
        let said = DEVICES.map(|device| model.addressable(limits, device).err());
        assert_eq!(said[0].is_some(), said[1].is_some(), "{said:?}");
        said.into_iter().flatten().next().map(|error| error.to_string())
    }

    #[test]
    fn what_no_machine_addresses_is_refused_by_its_part() {
        let usual = Limits { tokens: 4096, sequences: 32, max_len: 512 };
        let all = Trains::all_biases;
        for limits in [
            Limits { tokens: usize::MAX, ..usual },
            Limits { sequences: usize::MAX, ..usual },
            Limits { sequences: 1 << 60, ..usual },
            Limits { tokens: 1 << 52, ..usual },
        ] {
            let said = refusal("", 2, limits, all()).unwrap();
            assert!(
                said.contains("the tensor `") && said.contains("any machine can address"),
                "{said}"
            );
        }
        let huge = r#", "hidden_size": 10000000, "num_attention_heads": 1, "intermediate_size": 10000000,
                      "vocab_size": 10000000"#;
        // Two layers of that size can still be counted.
        assert_eq!(refusal(huge, 2, usual, Trains::Everything), None);
        let said = refusal(huge, 1 << 31, usual, all()).unwrap();
        assert!(said.contains("parameters"), "{said}");
        assert_eq!(refusal("", 1_000_000_000, usual, all()), None);
        // More than any machine has, but it can still be planned.
        let large = Limits { tokens: 1 << 38, sequences: 1 << 29, max_len: 512 };
        assert_eq!(refusal("", 2, large, all()), None);
    }
}
