//! `bitfit merge`: base and delta as one model folder that `transformers` loads.

use super::base::Base;
use super::say;
use super::trained::{task_spec, weight_type};
use crate::backend::cpu::{CpuBackend, rounded};
use crate::backend::{MatrixKind, MatrixShape, PoolKind, WeightType};
use crate::cli::MergeArgs;
use crate::delta::Delta;
use crate::files::{write_atomic, write_bytes_atomic};
use crate::model::config::Family;
use crate::model::load::load;
use crate::model::weights::Weights;
use crate::train::config::Task;
use crate::train::output::delta_path;
use anyhow::{Context, Result, bail, ensure};
use safetensors::tensor::{Dtype, View, serialize};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Files of a model folder that a merged one needs as they are.
const COPIED: [&str; 8] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
];

/// Tensors under their final names, row-major f32.
type Tensors = BTreeMap<String, Array>;

struct Array {
    shape: Vec<usize>,
    data: Vec<f32>,
}

pub fn run(args: &MergeArgs) -> Result<()> {
    let path = delta_path(&args.delta);
    let delta = Delta::read(&path)?;
    let base = Base::open(
        args.model.as_deref().unwrap_or(&delta.info.settings.model),
        args.quiet,
    )
    .with_context(|| format!("the base model of {}", path.display()))?;
    ensure!(
        !args.output.join("config.json").exists(),
        "--output {}: the folder holds a model already; name another",
        args.output.display()
    );

    // Loading checks the base's every tensor, and the delta against it, before anything is written.
    let weights = weight_type(delta.info.settings.weights);
    let spec = task_spec(&delta.info);
    let mut model = load(
        &base.folder,
        &base.config,
        &spec,
        &mut CpuBackend::new(weights),
    )?;
    super::trained::apply(&delta, &base.sha256, &mut model)
        .with_context(|| format!("delta {}", path.display()))?;

    let prefix = base.config.family.prefix();
    let mut tensors = encoder(&base, weights, spec.pooling)?;
    let mut head = Tensors::new();
    for (name, tensor) in &delta.tensors {
        let array = Array {
            shape: tensor.shape.clone(),
            data: tensor.data.clone(),
        };
        if name.starts_with(prefix) {
            tensors.insert(name.clone(), array);
        } else {
            head.insert(name.clone(), array);
        }
    }

    std::fs::create_dir_all(&args.output)
        .with_context(|| format!("--output {}: cannot make the folder", args.output.display()))?;
    for name in COPIED {
        let from = base.folder.join(name);
        if from.exists() {
            let bytes =
                std::fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
            write_bytes_atomic(&args.output.join(name), &bytes)?;
        }
    }
    match spec.pooling {
        PoolKind::Cls => tensors.append(&mut head),
        PoolKind::Mean => {
            // A bare encoder has no prefix, so that `AutoModel` finds it.
            tensors = tensors
                .into_iter()
                .map(|(name, array)| (name.trim_start_matches(prefix).to_owned(), array))
                .collect();
            write_tensors(&args.output.join("head.safetensors"), &head)?;
            say(
                args.quiet,
                "transformers has no class for a classifier on mean pooling: the encoder is written as a bare model \
                 and the head apart, as head.safetensors (logits = classifier.weight · mean of the last hidden \
                 states over the tokens + classifier.bias)",
            );
        }
    }
    write_tensors(&args.output.join("model.safetensors"), &tensors)?;
    // The configuration last: a folder without one is not taken for a model.
    let config = config_json(&base, &delta, spec.pooling)?;
    write_bytes_atomic(
        &args.output.join("config.json"),
        format!("{config:#}\n").as_bytes(),
    )?;
    if weights != WeightType::F32 {
        let stored = delta.info.settings.weights;
        say(
            args.quiet,
            format_args!(
                "matrices are written as the run had them, rounded to {stored} (stored as f32)"
            ),
        );
    }
    say(
        args.quiet,
        format_args!("merged model: {}", args.output.display()),
    );
    Ok(())
}

/// The base encoder's tensors under the names of a task model, without other heads.
fn encoder(base: &Base, weights: WeightType, pooling: PoolKind) -> Result<Tensors> {
    let prefix = base.config.family.prefix();
    let file = Weights::open(&base.folder, prefix)?;
    let mut tensors = Tensors::new();
    for (full, shape, inside) in file.list() {
        if !inside || full.ends_with("position_ids") {
            continue;
        }
        let name = full.strip_prefix(prefix).unwrap_or(&full);
        // RoBERTa's task model has no pooler; mean pooling ignores BERT's, but `AutoModel` wants one.
        let pooler = name.starts_with("pooler.");
        if pooler && base.config.family == Family::Roberta && pooling == PoolKind::Cls {
            continue;
        }
        let data = file.get(name, &shape)?;
        let name = name.replace("LayerNorm.gamma", "LayerNorm.weight");
        let name = name.replace("LayerNorm.beta", "LayerNorm.bias");
        tensors.insert(format!("{prefix}{name}"), Array { shape, data });
    }
    round(&mut tensors, weights)?;
    Ok(tensors)
}

/// Makes each matrix what it is on a device that stores it as `weights`.
fn round(tensors: &mut Tensors, weights: WeightType) -> Result<()> {
    let names: Vec<String> = tensors
        .iter()
        .filter(|(name, array)| {
            // Query stands for the three that are one matrix on the device.
            let of_three = [".self.key.weight", ".self.value.weight"];
            array.shape.len() == 2 && !of_three.iter().any(|part| name.ends_with(part))
        })
        .map(|(name, _)| name.clone())
        .collect();
    for name in names {
        let parts: Vec<String> = match name.strip_suffix(".self.query.weight") {
            Some(attention) => ["query", "key", "value"]
                .map(|part| format!("{attention}.self.{part}.weight"))
                .to_vec(),
            None => vec![name.clone()],
        };
        let arrays = || parts.iter().filter_map(|part| tensors.get(part));
        let values: Vec<f32> = arrays().flat_map(|array| array.data.clone()).collect();
        let shape = MatrixShape {
            kind: match name.contains("embeddings.") {
                true => MatrixKind::Table,
                false => MatrixKind::Linear,
            },
            rows: arrays().map(|array| array.shape[0]).sum(),
            cols: arrays().map(|array| array.shape[1]).next().unwrap_or(1),
            trains: false,
        };
        let mut values = rounded(weights, &name, shape, &values)?.into_iter();
        for part in &parts {
            if let Some(array) = tensors.get_mut(part) {
                let count = array.data.len();
                array.data = values.by_ref().take(count).collect();
            }
        }
    }
    Ok(())
}

/// The base's configuration with the task's class and labels.
fn config_json(base: &Base, delta: &Delta, pooling: PoolKind) -> Result<Value> {
    let path = base.folder.join("config.json");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    let mut config: Map<String, Value> =
        serde_json::from_str(&text).with_context(|| format!("{} is broken", path.display()))?;
    // What the files of this folder hold, whatever the base's held.
    config.insert("torch_dtype".into(), "float32".into());
    config.remove("dtype");
    let class = match (base.config.model_type.as_str(), pooling) {
        ("bert", PoolKind::Cls) => "BertForSequenceClassification",
        ("bert", PoolKind::Mean) => "BertModel",
        ("roberta", PoolKind::Cls) => "RobertaForSequenceClassification",
        ("roberta", PoolKind::Mean) => "RobertaModel",
        ("xlm-roberta", PoolKind::Cls) => "XLMRobertaForSequenceClassification",
        ("xlm-roberta", PoolKind::Mean) => "XLMRobertaModel",
        ("camembert", PoolKind::Cls) => "CamembertForSequenceClassification",
        ("camembert", PoolKind::Mean) => "CamembertModel",
        (other, _) => bail!("no transformers class is known for model_type `{other}`"),
    };
    config.insert("architectures".into(), json!([class]));
    if pooling == PoolKind::Cls {
        let labels: Vec<String> = match delta.info.task {
            Task::Classification => delta.info.labels.clone(),
            Task::Regression => vec!["LABEL_0".into()],
        };
        let id2label: Map<String, Value> = labels
            .iter()
            .enumerate()
            .map(|(i, l)| (i.to_string(), l.as_str().into()))
            .collect();
        let label2id: Map<String, Value> = labels
            .iter()
            .enumerate()
            .map(|(i, l)| (l.clone(), i.into()))
            .collect();
        let problem = match delta.info.task {
            Task::Classification => "single_label_classification",
            Task::Regression => "regression",
        };
        config.insert("id2label".into(), id2label.into());
        config.insert("label2id".into(), label2id.into());
        config.insert("problem_type".into(), problem.into());
        config.remove("num_labels");
    }
    Ok(config.into())
}

fn write_tensors(path: &Path, tensors: &Tensors) -> Result<()> {
    // `transformers` refuses a file that does not say which framework wrote it.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = serialize(tensors.iter(), Some(metadata))
        .with_context(|| format!("cannot make {}", path.display()))?;
    write_atomic(path, |out| Ok(out.write_all(&bytes)?))
}

impl View for &Array {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        bytemuck::cast_slice(&self.data).into()
    }

    fn data_len(&self) -> usize {
        self.data.len() * size_of::<f32>()
    }
}
