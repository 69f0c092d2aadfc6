//! Writes a delta as a BEFT adapter. Anything in the delta that an adapter cannot hold is refused by name, before
//! anything is written.

use super::{ADDED, BaseValues, EXACT, Exact, ROOT, is_layer_norm, split};
use crate::formats::container::Tensor;
use crate::formats::delta::{Delta, DeltaInfo};
use crate::formats::model_files::HEAD;
use crate::formats::model_folder::{class_name, place};
use crate::settings::choice::Pooling;
use crate::settings::task::Task;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};

/// The contents of an adapter's folder.
pub struct BeftAdapter {
    /// `adapter_config.json`
    pub config: Value,
    /// Of the tensors. It includes a delta's metadata, so that the adapter can be converted back to the same delta.
    pub metadata: BTreeMap<String, String>,
    pub tensors: BTreeMap<String, Tensor>,
    /// The head on mean pooling, for which PEFT and `transformers` have no class; otherwise empty.
    pub head: BTreeMap<String, Tensor>,
}

/// The heads that a task model of `transformers` has and PEFT saves.
const HEADS: [&str; 4] = ["classifier", "classifier.dense", "classifier.out_proj", "qa_outputs"];

/// BERT's pooler, which a run may train as part of its head.
const POOLER: &str = "pooler.dense";

/// How a module's tensors are stored.
enum Carried {
    /// A bias as an added vector.
    Added,
    /// The whole module.
    Saved,
}

/// `prefix` is that of the encoder's names; `base` is given by the model's name and revision.
///
/// # Errors
/// A tensor that an adapter cannot hold, by name; a base that cannot be read.
pub fn beft_of(
    delta: &Delta,
    prefix: &str,
    base: (&str, Option<&str>),
    values: &BaseValues<'_>,
) -> Result<BeftAdapter> {
    let info = &delta.info;
    let (mut tensors, mut head) = (BTreeMap::new(), BTreeMap::new());
    let (mut added, mut saved) = (BTreeSet::new(), BTreeSet::new());
    let (mut exact, mut whole) = (Exact::new(), Vec::new());
    if let Some(name) = delta.places.keys().next() {
        bail!(no_place(name));
    }
    for (full, tensor) in &delta.tensors {
        let inside = full.strip_prefix(prefix);
        let carried = carried(delta, full, inside).with_context(|| no_place(full))?;
        let (file, name) = place(info.pooling, prefix, full);
        let (module, part) = split(name).with_context(|| no_place(full))?;
        let inner = module.strip_prefix(prefix).unwrap_or(module).to_owned();
        match (carried, inside) {
            _ if file == HEAD => drop(head.insert(name.to_owned(), tensor.clone())),
            (Carried::Added, Some(inside)) => {
                let own = values(inside, &tensor.shape)?;
                let (data, rounded) = difference(&tensor.data, own.as_deref());
                ensure!(
                    data.iter().all(|value| value.is_finite()),
                    "`{full}`: the difference from the base's is too large for f32"
                );
                if !rounded.is_empty() {
                    exact.insert(full.clone(), rounded);
                }
                let vector = Tensor { shape: vec![1, data.len()], data };
                tensors.insert(format!("{ROOT}{module}{ADDED}"), vector);
                added.insert(inner);
            }
            _ => {
                tensors.insert(format!("{ROOT}{name}"), tensor.clone());
                if is_layer_norm(&inner) {
                    // PEFT replaces the base's LayerNorm as a whole.
                    let other = if part == "bias" { "weight" } else { "bias" };
                    whole.push((module.to_owned(), inner.clone(), other, tensor.shape.clone()));
                }
                saved.insert(inner);
            }
        }
    }
    for (module, inner, part, shape) in whole {
        if let Entry::Vacant(entry) = tensors.entry(format!("{ROOT}{module}.{part}")) {
            let inside = format!("{inner}.{part}");
            let own = values(&inside, &shape)?;
            let data = own.with_context(|| format!("the base has no tensor `{inside}`"))?;
            entry.insert(Tensor { shape, data });
        }
    }
    let mut metadata = info.model_metadata()?;
    if !exact.is_empty() {
        metadata.insert(EXACT.to_owned(), serde_json::to_string(&exact)?);
    }
    let config = config(info, base, &added, &saved)?;
    Ok(BeftAdapter { config, metadata, tensors, head })
}

fn no_place(name: &str) -> String {
    format!(
        "`{name}`: PEFT's BEFT cannot hold this, only a vector for each linear layer, whole LayerNorms and the head \
         of a task \
         on texts, words or questions; `bitfit merge` makes a whole model from the delta"
    )
}

/// How a tensor gets into the adapter, if at all.
fn carried(delta: &Delta, full: &str, inside: Option<&str>) -> Option<Carried> {
    let (module, part) = split(full).filter(|(_, part)| ["weight", "bias"].contains(part))?;
    let Some(inner) = inside.and_then(split).map(|(inner, _)| inner) else {
        return HEADS.contains(&module).then_some(Carried::Saved);
    };
    match part {
        _ if is_layer_norm(inner) => Some(Carried::Saved),
        // A newly drawn one trains as a whole.
        _ if inner == POOLER && delta.tensors.contains_key(&format!("{module}.weight")) => {
            Some(Carried::Saved)
        }
        "bias" => Some(Carried::Added),
        _ => None,
    }
}

/// What to add to `base` (zeros if there is none) to get `tuned`, and where the sum still differs.
fn difference(tuned: &[f32], base: Option<&[f32]>) -> (Vec<f32>, Vec<(usize, u32)>) {
    let base = |i: usize| base.map_or(0.0, |base| base[i]);
    let vector: Vec<f32> = tuned.iter().enumerate().map(|(i, tuned)| tuned - base(i)).collect();
    let other = |&(i, tuned): &(usize, &f32)| (base(i) + vector[i]).to_bits() != tuned.to_bits();
    let rounded = tuned.iter().enumerate().filter(other).map(|(i, tuned)| (i, tuned.to_bits()));
    let rounded = rounded.collect();
    (vector, rounded)
}

/// `adapter_config.json`. Modules are named individually and without the encoder's prefix, so that exactly they are
/// found both in a task model and in a bare encoder.
fn config(
    info: &DeltaInfo,
    (base, revision): (&str, Option<&str>),
    added: &BTreeSet<String>,
    saved: &BTreeSet<String>,
) -> Result<Value> {
    // Given a task type, PEFT takes the whole head of RoBERTa for one module, which it cannot merge.
    let parts_of_head = saved.iter().any(|module| module.starts_with("classifier."));
    let task_type = match info.task {
        _ if info.pooling == Pooling::Mean => Some("FEATURE_EXTRACTION"),
        _ if parts_of_head => None,
        Task::Classification | Task::MultiLabel | Task::Regression => Some("SEQ_CLS"),
        Task::TokenClassification => Some("TOKEN_CLS"),
        Task::QuestionAnswering => Some("QUESTION_ANS"),
        Task::MaskedLm => None,
    };
    let mut config = json!({
        "base_model_name_or_path": base,
        "inference_mode": true,
        "init_weights": true,
        "modules_to_save": saved,
        "peft_type": "BEFT",
        "revision": revision,
        // If nothing is added, a name that matches no module.
        "target_modules": match added.is_empty() { true => json!("dummy-target-modules"), false => json!(added) },
        "task_type": task_type,
    });
    if task_type.is_none() {
        // PEFT uses this to find the class if the task does not determine it.
        let module = info.model_type.replace('-', "_");
        config["auto_mapping"] = json!({
            "base_model_class": class_name(info)?,
            "parent_library": format!("transformers.models.{module}.modeling_{module}"),
        });
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sum_does_not_give_back_is_kept_beside_it() {
        let base = [1.0f32, 0.25, 1.0, 0.0];
        let tuned = [1.0 + f32::EPSILON, 0.3, 1e-9, -0.0];
        let (vector, exact) = difference(&tuned, Some(&base));
        assert_eq!(vector[0], f32::EPSILON);
        assert_eq!(exact, [(2, 1e-9f32.to_bits()), (3, (-0.0f32).to_bits())]);
        for (i, value) in tuned.iter().enumerate().filter(|(i, _)| *i < 2) {
            assert_eq!(base[i] + vector[i], *value);
        }
        assert_eq!(difference(&tuned[..3], None), (tuned[..3].to_vec(), vec![]));
    }
}
