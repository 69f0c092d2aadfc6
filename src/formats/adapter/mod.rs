//! A PEFT adapter: a folder with `adapter_config.json` and `adapter_model.safetensors`. A delta is written as a BEFT
//! adapter, which adds a vector to a linear layer's output and stores LayerNorms and head whole; [`read`] converts an
//! adapter to values under the names of a task model.

pub mod read;
pub mod write;

/// The prefix of PEFT's tensor names.
const ROOT: &str = "base_model.model.";

/// The suffix of the name of a vector that BEFT adds.
const ADDED: &str = ".beft_bias";

/// Metadata key of an adapter's values: which biases are not bit-identical to the sum of the base's bias and the added
/// vector. JSON, by the bias's name: index and the bits of its f32.
const EXACT: &str = "beft_exact";

/// Values of [`EXACT`].
type Exact = std::collections::BTreeMap<String, Vec<(usize, u32)>>;

/// The base's own values of a tensor, by its name inside the encoder; `None` for the bias of a layer that has none.
pub type BaseValues<'a> = dyn Fn(&str, &[usize]) -> anyhow::Result<Option<Vec<f32>>> + 'a;

/// The layer or LayerNorm that a tensor belongs to, and which part of it the tensor is.
fn split(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('.')
}

fn is_layer_norm(module: &str) -> bool {
    module.ends_with("LayerNorm")
}
