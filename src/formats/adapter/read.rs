//! Reads an adapter written by PEFT or this program as values under the names of a task model. Anything other than a
//! bias, LayerNorm or head is passed on under its name: the caller decides what is allowed.

use super::{ADDED, BaseValues, EXACT, Exact, ROOT, is_layer_norm, split};
use crate::formats::container::{Tensor, read_metadata};
use crate::formats::delta::DeltaInfo;
use crate::formats::model_files::{ADAPTER, ADAPTER_WEIGHTS, HEAD, read_json};
use crate::formats::model_head;
use crate::formats::model_tensors::read_tensors;
use crate::settings::choice::Pooling;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// The kinds of adapter whose tensors are supported.
const KINDS: [&str; 3] = ["BEFT", "LORA", "LN_TUNING"];

/// The contents of an adapter's folder.
pub struct ReadAdapter {
    /// One of [`KINDS`].
    kind: String,
    /// As PEFT names it: `SEQ_CLS` and others.
    pub task_type: Option<String>,
    /// The model that it was trained on, with its revision after an `@`.
    pub base: Option<String>,
    /// A delta's metadata, if this program wrote the adapter.
    pub info: Option<DeltaInfo>,
    exact: Exact,
    /// For BEFT: the modules with added vectors, if the adapter lists them.
    targets: Vec<String>,
    /// By PEFT's names.
    tensors: BTreeMap<String, Tensor>,
    /// The head next to it, by the names of a task model.
    head: BTreeMap<String, Tensor>,
}

/// A value of the adapter, by its name in a task model.
enum AdapterValue {
    Is(Tensor),
    /// Added to the base's bias.
    Added(Tensor),
}

impl ReadAdapter {
    /// # Errors
    /// Not an adapter, one of another kind, a damaged file.
    pub fn of(folder: &Path) -> Result<Self> {
        let path = folder.join(ADAPTER);
        let config = read_json(&path)?.with_context(|| {
            format!("{} has no {ADAPTER}: it is not the folder of a PEFT adapter", folder.display())
        })?;
        let place = || path.display().to_string();
        let text = |key: &str| -> Result<Option<String>> {
            match config.get(key) {
                None | Some(Value::Null) => Ok(None),
                Some(Value::String(text)) => Ok(Some(text.clone())),
                Some(other) => bail!("{}: `{key}` is {other}, not text", path.display()),
            }
        };
        let kind = text("peft_type")?
            .with_context(|| format!("{}: `peft_type` is missing", path.display()))?;
        ensure!(
            KINDS.contains(&kind.as_str()),
            "{}: an adapter of the type {kind} is not supported; these are, if they change only biases: {}",
            path.display(),
            KINDS.join(", ")
        );
        let base = text("base_model_name_or_path")?.filter(|name| !name.is_empty());
        let base = match (base, text("revision")?) {
            (Some(base), Some(revision)) => Some(format!("{base}@{revision}")),
            (base, _) => base,
        };
        let task_type = text("task_type").with_context(place)?;
        let weights = folder.join(ADAPTER_WEIGHTS);
        ensure!(
            weights.exists(),
            "{} has no {ADAPTER_WEIGHTS}; save the adapter with peft's `save_pretrained(…, safe_serialization=True)`",
            folder.display()
        );
        let tensors = read_tensors(&weights)?;
        let metadata = read_metadata(&weights).with_context(|| weights.display().to_string())?;
        let ours = metadata.contains_key("format_version");
        let damaged = || format!("{}: its metadata", weights.display());
        let info = ours.then(|| DeltaInfo::of_adapter(&metadata)).transpose();
        let info = info.with_context(damaged)?;
        let exact = metadata.get(EXACT).map(|text| serde_json::from_str(text));
        let beside = info.as_ref().is_some_and(|info| info.pooling == Pooling::Mean);
        if beside {
            model_head::is_of(folder, (&metadata, ADAPTER_WEIGHTS), "export the delta again")?;
        }
        // A list of names or their suffixes; a string is a pattern.
        let targets = config.get("target_modules").and_then(Value::as_array);
        let targets = targets.into_iter().flatten().filter_map(Value::as_str);
        Ok(Self {
            targets: targets.filter(|_| kind == "BEFT").map(str::to_owned).collect(),
            kind,
            task_type,
            base,
            info,
            exact: exact.transpose().with_context(damaged)?.unwrap_or_default(),
            tensors,
            head: if beside { read_tensors(&folder.join(HEAD))? } else { BTreeMap::new() },
        })
    }

    /// The adapter's values by the names of a task model, whose encoder names begin with `prefix`; `shapes` are those
    /// of its biases.
    ///
    /// # Errors
    /// The first tensor that cannot be interpreted, by PEFT's name for it.
    pub fn values(
        &self,
        prefix: &str,
        shapes: &BTreeMap<String, Vec<usize>>,
        base: &BaseValues<'_>,
    ) -> Result<BTreeMap<String, Tensor>> {
        self.no_products()?;
        let mut values: BTreeMap<String, Tensor> = self.head.clone();
        for (key, tensor) in &self.tensors {
            let Some((name, said)) = self.said(key, tensor, prefix)? else {
                continue;
            };
            let value = match said {
                AdapterValue::Is(value) => value,
                AdapterValue::Added(vector) => {
                    let inside = name.strip_prefix(prefix).filter(|_| shapes.contains_key(&name));
                    let inside = inside.with_context(|| {
                        format!("`{key}`: the base has no bias `{name}` to add this to")
                    })?;
                    let shape = shapes.get(&name).cloned().unwrap_or_default();
                    ensure!(
                        shape == vector.shape,
                        "`{key}` has {} values, but the base's `{name}` has shape {shape:?}: the adapter is for \
                         another model",
                        vector.data.len()
                    );
                    self.sum(key, &name, vector, base(inside, &shape)?)?
                }
            };
            ensure!(
                value.data.iter().all(|value| value.is_finite()),
                "`{key}`: with the base's values `{name}` is not finite"
            );
            match values.get(&name) {
                Some(other) if !same_bits(other, &value) => {
                    bail!("`{key}`: the adapter has two different values for `{name}`")
                }
                _ => values.insert(name, value),
            };
        }
        self.is_whole(&values, shapes)?;
        Ok(values)
    }

    /// Refuses an adapter without something PEFT would have written: PEFT takes a missing vector as zeros.
    fn is_whole(
        &self,
        values: &BTreeMap<String, Tensor>,
        biases: &BTreeMap<String, Vec<usize>>,
    ) -> Result<()> {
        let targeted = |module: &str| {
            // A model for words or questions has no pooler.
            let there =
                !module.ends_with("pooler.dense") || self.task_type.as_deref() == Some("SEQ_CLS");
            let named =
                |target: &String| module == target || module.ends_with(&format!(".{target}"));
            there && self.targets.iter().any(named)
        };
        let lacks = |name: &&String| {
            let module = name.trim_end_matches(".bias");
            targeted(module) && !values.contains_key(*name)
        };
        if let Some(name) = biases.keys().find(lacks) {
            let module = name.trim_end_matches(".bias");
            bail!(
                "`{ROOT}{module}{ADDED}` is missing: `target_modules` of {ADAPTER} names its layer"
            );
        }
        for (module, part) in values.keys().filter_map(|name| split(name)) {
            let other = if part == "bias" { "weight" } else { "bias" };
            // LORA has only biases.
            ensure!(
                self.kind == "LORA"
                    || !is_layer_norm(module)
                    || values.contains_key(&format!("{module}.{other}")),
                "`{ROOT}{module}.{other}` is missing, but `{part}` of the same LayerNorm is present"
            );
        }
        Ok(())
    }

    /// A tensor's value; none if PEFT only keeps the base's for when the adapter is off.
    fn said(
        &self,
        key: &str,
        tensor: &Tensor,
        prefix: &str,
    ) -> Result<Option<(String, AdapterValue)>> {
        let name = key
            .strip_prefix(ROOT)
            .with_context(|| format!("`{key}`: names in a PEFT adapter begin with `{ROOT}`"))?;
        if name.contains(".original_module.") || is_product(name) {
            return Ok(None);
        }
        let full = |name: &str| {
            let bare = ["embeddings.", "encoder.", "pooler."].iter().any(|s| name.starts_with(s));
            format!("{}{name}", if bare { prefix } else { "" })
        };
        if let Some(module) = name.strip_suffix(ADDED) {
            ensure!(
                self.kind == "BEFT",
                "`{key}` does not belong in an adapter of the type {}",
                self.kind
            );
            let flat = matches!(tensor.shape.as_slice(), [1, _] | [_]);
            ensure!(flat, "`{key}` has shape {:?}, but should be one row", tensor.shape);
            let vector = Tensor::vector(tensor.data.clone());
            return Ok(Some((full(&format!("{module}.bias")), AdapterValue::Added(vector))));
        }
        // What PEFT puts around a module, and inside that around the adapter's own copy.
        let around = [
            ".base_layer.",
            ".modules_to_save.default.",
            ".modules_to_save.",
            ".ln_tuning_layers.",
        ];
        let name = around.iter().fold(name.to_owned(), |name, part| name.replace(part, "."));
        Ok(Some((full(&name), AdapterValue::Is(tensor.clone()))))
    }

    /// The base's bias plus what is added to it.
    fn sum(&self, key: &str, name: &str, vector: Tensor, base: Option<Vec<f32>>) -> Result<Tensor> {
        let base = |i: usize| base.as_ref().map_or(0.0, |base| base[i]);
        let sums = vector.data.iter().enumerate().map(|(i, added)| base(i) + added);
        let mut sums: Vec<f32> = sums.collect();
        for &(place, bits) in self.exact.get(name).into_iter().flatten() {
            let (value, added) = (f32::from_bits(bits), vector.data.get(place));
            // The vector was computed from it, or somebody has changed one of the two.
            ensure!(
                added.is_some_and(|&added| value - base(place) == added),
                "`{key}`: its value at {place} does not match {EXACT} in the metadata: the file was changed; export it \
                 again, or save it with peft"
            );
            sums[place] = value;
        }
        Ok(Tensor { shape: vector.shape, data: sums })
    }

    /// Refuses low-rank products that are not zero: they change matrices.
    fn no_products(&self) -> Result<()> {
        for (key, tensor) in &self.tensors {
            let Some((module, part)) = key.split_once(".lora_").filter(|_| is_product(key)) else {
                continue;
            };
            let other = match part {
                "A.weight" => "B.weight",
                "B.weight" => "A.weight",
                _ => "",
            };
            let zero = |tensor: &Tensor| tensor.data.iter().all(|value| *value == 0.0);
            let other = self.tensors.get(&format!("{module}.lora_{other}"));
            ensure!(
                zero(tensor) || other.is_some_and(zero),
                "`{key}` changes the matrix of `{module}`: a delta has only biases, LayerNorms and the head; merge \
                 the adapter \
                 into its base first (peft's `merge_and_unload()`)"
            );
        }
        Ok(())
    }
}

/// Whether a tensor is a factor of a low-rank product added to a matrix.
fn is_product(name: &str) -> bool {
    split(name).is_some_and(|(module, part)| {
        part == "weight" && [".lora_A", ".lora_B"].iter().any(|end| module.ends_with(end))
    })
}

/// Bitwise, so that NaN and -0.0 compare like any other values.
pub fn same_bits(one: &Tensor, other: &Tensor) -> bool {
    let bits = |tensor: &Tensor| tensor.data.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    one.shape == other.shape && bits(one) == bits(other)
}
