//! `bitfit merge`: base and delta as one model folder that `transformers` loads.

use super::base::Base;
use super::card::{self, CardForm, CardOf};
use super::heads::warn_of_quantization;
use super::trained::{belongs_to, read_delta, task_spec};
use super::{say, say_gone, warn};
use crate::backend::cpu::{CpuBackend, rounded};
use crate::backend::{MatrixKind, MatrixShape, WeightType};
use crate::cli::MergeArgs;
use crate::files::only_files;
use crate::formats::container::{Tensor, write_file};
use crate::formats::delta::Delta;
use crate::formats::model_files::{CONFIG, HEAD};
use crate::formats::model_folder::{Unfinished, copy_from_base, place, write_config};
use crate::formats::model_tensors::ModelTensors;
use crate::methods::{entries, ia3, lora};
use crate::model::load::{TaskSpec, load, tensors_of};
use crate::model::params::ParamKind;
use crate::program::PoolKind;
use crate::train::output::{OutputFolder, delta_path};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::Path;

/// Tensors under their final names, row-major f32.
type Tensors = BTreeMap<String, Tensor>;

pub fn run(args: &MergeArgs) -> Result<()> {
    let path = delta_path(&args.delta)?;
    let delta = read_delta(&path)?;
    let base = Base::of_delta(&path, &delta.info, args.model.as_deref(), args.quiet)?;
    let output = OutputFolder::for_merge(&args.output)?;
    let result = only_files(&args.output, &[CONFIG])
        .and_then(|()| card::can_be_written(&args.output, args.replace_card))
        .context("--output")
        .and_then(|()| Unfinished::of(&base.folder, &args.output))
        .and_then(|unfinished| {
            merge(args, &path, delta, &base).inspect_err(|_| unfinished.remove())
        });
    if result.is_err() {
        output.remove_if_unused();
    }
    result
}

/// Writes the folder.
fn merge(args: &MergeArgs, path: &Path, delta: Delta, base: &Base) -> Result<()> {
    // Loading checks every tensor of the base, and the delta against it, before anything is written.
    belongs_to(&delta, path, base)?;
    // The folder gets these files, and must answer as the task does.
    let tokenizer = base.tokenizer_of(&delta.info, None, args.quiet)?;
    warn_of_quantization(base);
    let weights = delta.info.settings.weights.into();
    let spec = task_spec(&delta.info);
    let mut model = load(&base.folder, &base.config, &spec, &mut CpuBackend::new(weights))?;
    super::trained::apply(&delta, base.sha256()?, &mut model)
        .with_context(|| format!("delta {}", path.display()))?;

    let prefix = base.config.family.prefix();
    let mut tensors = encoder(base, weights, &spec)?;
    // If the base lacks biases, `transformers` uses zeros; other programs may not.
    for param in model.params.list().iter().filter(|p| matches!(p.kind, ParamKind::Bias(_))) {
        let data = &model.params.initial()[param.range.offset..param.range.end()];
        let tensor = || Tensor { shape: param.shape.clone(), data: data.to_vec() };
        tensors.entry(param.name.clone()).or_insert_with(tensor);
    }
    tensors.extend(delta.tensors);
    ia3::fold(&mut tensors);
    entries::fold(&mut tensors, &delta.places);
    if let Some(settings) = &delta.info.settings.lora {
        lora::fold(&mut tensors, settings.scale());
    }
    let mut files: BTreeMap<&str, Tensors> = BTreeMap::new();
    for (name, tensor) in tensors {
        ensure!(
            tensor.data.iter().all(|value| value.is_finite()),
            "{}: with the delta's values the tensor `{name}` is not finite: the values are too large to compute with",
            path.display()
        );
        let (file, name) = place(delta.info.pooling, prefix, &name);
        let tensors = files.entry(file).or_default();
        tensors.insert(name.to_owned(), tensor);
    }

    let gone = copy_from_base(&base.folder, spec.pooling, base.config.hidden, &args.output)?;
    say_gone(args.quiet, &gone, &args.output);
    tokenizer.settle(&args.output)?.iter().for_each(warn);
    // `transformers` refuses a file that does not name the framework that wrote it.
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    for (file, tensors) in &files {
        write_file(&args.output.join(file), &metadata, tensors)?;
    }
    let card = CardOf {
        written: CardForm::Model,
        delta: path,
        info: &delta.info,
        model: args.model.as_deref(),
    };
    card.write(&args.output, args.replace_card, args.quiet)?;
    write_config(&base.folder, &delta.info, &args.output)?;
    if files.contains_key(HEAD) {
        say(
            args.quiet,
            format_args!(
                "transformers has no class for a classifier on mean pooling: the encoder is written as a bare model \
                 and the head next to it, as {HEAD} (logits = classifier.weight · mean of the last hidden states over \
                 the tokens + classifier.bias)"
            ),
        );
    }
    if weights != WeightType::F32 {
        let stored = delta.info.settings.weights;
        say(
            args.quiet,
            format_args!("matrices are written as in the run, rounded to {stored} (stored as f32)"),
        );
    }
    say(args.quiet, format_args!("merged model: {}", args.output.display()));
    Ok(())
}

/// The base encoder's tensors under the names of a task model, without other heads.
fn encoder(base: &Base, weights: WeightType, spec: &TaskSpec) -> Result<Tensors> {
    let prefix = base.config.family.prefix();
    let file = ModelTensors::open(&base.folder, prefix)?;
    let of_model = tensors_of(&base.config, spec)?;
    let mut tensors = Tensors::new();
    for (full, shape, inside) in file.list() {
        let stored = full.strip_prefix(prefix).unwrap_or(&full);
        let name = stored.replace("LayerNorm.gamma", "LayerNorm.weight");
        let name = name.replace("LayerNorm.beta", "LayerNorm.bias");
        // Mean pooling ignores the pooler, but `AutoModel` needs one.
        let pooler = name.starts_with("pooler.dense.") && spec.pooling == PoolKind::Mean;
        if !inside && of_model.contains(&name) && !name.ends_with(".bias") {
            // From a masked-words head, whose biases come with the delta.
            let data = file.of_words_head(&[&full], &shape)?;
            tensors.insert(name, Tensor { shape, data });
        } else if inside && (pooler || of_model.contains(&name)) {
            let data = file.get(stored, &shape)?;
            tensors.insert(format!("{prefix}{name}"), Tensor { shape, data });
        }
    }
    base.unchanged()?;
    round(&mut tensors, weights)?;
    Ok(tensors)
}

/// Gives each matrix the values it has on a device that stores it as `weights`.
fn round(tensors: &mut Tensors, weights: WeightType) -> Result<()> {
    let names: Vec<String> = tensors
        .iter()
        .filter(|(name, array)| {
            // Query represents the three that are one matrix on the device.
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
