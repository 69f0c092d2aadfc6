//! `bitfit import`: converts an adapter written by PEFT or `bitfit export` to a delta. Anything a delta cannot hold is
//! refused by name; nothing is dropped silently.

mod head;
mod moved;

use crate::cli::ImportArgs;
use crate::commands::base::Base;
use crate::commands::export::own_values;
use crate::commands::fetching;
use crate::commands::outputs::no_input_folder;
use crate::commands::say;
use crate::commands::trained::{fits, task_spec};
use crate::error::UsageError;
use crate::files::write_bytes_atomic;
use crate::formats::adapter::read::{ReadAdapter, same_bits};
use crate::formats::container::Tensor;
use crate::formats::delta::{Delta, DeltaInfo};
use crate::formats::model_files::ADAPTER_WEIGHTS;
use crate::formats::model_folder::Unfinished;
use crate::formats::model_tensors::ModelTensors;
use crate::model::load::outline_of;
use crate::model::params::ParamKind;
use crate::settings::biases::BiasSelection;
use crate::settings::choice::{Pooling, Precision, WeightStorage};
use crate::settings::method::Method;
use crate::settings::task_choice::TaskChoice;
use crate::settings::train::TrainConfig;
use crate::train::output::{DELTA_FILE, OutputFolder, SETTINGS_FILE};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::PathBuf;

use head::HeadOf;
use moved::BaseParams;

/// Tensors by their names in a task model.
type ByName = BTreeMap<String, Tensor>;

pub fn run(args: &ImportArgs) -> Result<()> {
    no_input_folder(&args.output, &[&args.peft])?;
    let adapter = ReadAdapter::of(&args.peft)?;
    if adapter.info.is_some() {
        for (given, option) in
            [(args.task.is_some(), "--task"), (args.labels.is_some(), "--labels")]
        {
            if given {
                return Err(UsageError::new(format!(
                    "{option}: {} records what it was trained for; leave the option out",
                    args.peft.display()
                ))
                .into());
            }
        }
    }
    let recorded = adapter.info.as_ref().map(|info| info.settings.model.clone());
    let model = args.model.clone().or(recorded).or_else(|| adapter.base.clone());
    let Some(model) = model else {
        return Err(UsageError::new(format!(
            "--model is missing: {} does not name its base",
            args.peft.display()
        ))
        .into());
    };
    let owner = format!("the adapter in {}", args.peft.display());
    let base = match args.model {
        Some(_) => Base::open(&model, args.quiet)
            .with_context(|| format!("the base model of {}", args.peft.display())),
        None => fetching::base_folder(&model, &owner, args.quiet).and_then(Base::of_folder),
    }?;
    let delta = delta_of(args, &adapter, &base, &model)
        .with_context(|| format!("adapter {}", args.peft.display()))?;

    let output = OutputFolder::for_new_run(&args.output, delta.info.method.facts().leaves)?;
    let unfinished = Unfinished::among(&args.output, &[SETTINGS_FILE, DELTA_FILE]);
    let result = write(&output, &delta, &model).inspect_err(|_| unfinished.remove());
    if result.is_err() {
        output.remove_if_unused();
        return result;
    }
    let info = &delta.info;
    say(
        args.quiet,
        format_args!(
            "{}: {} on {}, for {}",
            args.output.join(DELTA_FILE).display(),
            info.method.with_biases(&info.biases),
            base.folder.display(),
            info.task
        ),
    );
    Ok(())
}

/// The delta, and next to it the place of its base.
fn write(output: &OutputFolder, delta: &Delta, model: &str) -> Result<()> {
    let settings = TrainConfig {
        model: model.to_owned(),
        output: output.path().to_path_buf(),
        // Nobody knows where its rows are on this machine.
        data: None,
        ..delta.info.settings.clone()
    };
    write_bytes_atomic(&output.settings(), settings.to_toml()?.as_bytes())?;
    delta.write(&output.result_file(delta.info.method.facts().leaves))
}

/// The adapter's tensors converted to a delta, checked against the base.
fn delta_of(args: &ImportArgs, adapter: &ReadAdapter, base: &Base, model: &str) -> Result<Delta> {
    let prefix = base.config.family.prefix();
    let file = ModelTensors::open(&base.folder, prefix)?;
    let own = |name: &str, shape: &[usize]| own_values(&file, name, shape);
    if let Some(info) = &adapter.info {
        // Before tensors are compared: a different base explains why they do not fit.
        info.check_base(base.sha256()?)?;
        base.tokenizer_of(info, None, args.quiet)?;
    }
    let encoder = BaseParams::of(base, &file)?;
    let values = adapter.values(prefix, &encoder.biases(), &own)?;
    let info = match &adapter.info {
        Some(info) => info.clone(),
        None => {
            let (method, biases) = encoder.moved(&values, prefix, &own)?;
            let head = HeadOf::of(args, adapter, &values)?;
            info_of(args, base, model, method, biases, head)?
        }
    };
    let outline = outline_of(&file, &base.config, &task_spec(&info))?;
    let mut tensors = ByName::new();
    for param in outline.params.trained() {
        let inside = param.name.strip_prefix(prefix).filter(|_| param.kind != ParamKind::Head);
        match (values.get(&param.name), inside) {
            (Some(value), _) => {
                tensors.insert(param.name.clone(), value.clone());
            }
            // Trained by the method, but left unchanged by the adapter; an exported one has all.
            (None, Some(inside)) if adapter.info.is_none() => {
                if let Some(data) = own(inside, &param.shape)? {
                    tensors.insert(param.name.clone(), Tensor { shape: param.shape.clone(), data });
                }
            }
            (None, _) => {}
        }
    }
    let delta = Delta { info, tensors, places: BTreeMap::new() };
    fits(&delta, base.sha256()?, &outline)?;
    for (name, value) in values.iter().filter(|(name, _)| !delta.tensors.contains_key(*name)) {
        let own = name.strip_prefix(prefix).and_then(|inside| file.get(inside, &value.shape).ok());
        let own = own.map(|data| Tensor { shape: value.shape.clone(), data });
        ensure!(
            own.is_some_and(|own| same_bits(&own, value)),
            "it has its own `{name}`, but a delta has only biases, LayerNorms and the head; merge the adapter into its base \
             first (peft's `merge_and_unload()`)"
        );
    }
    base.unchanged()?;
    Ok(delta)
}

/// The delta's metadata. How the adapter was trained is unknown: its settings are the defaults.
fn info_of(
    args: &ImportArgs,
    base: &Base,
    model: &str,
    method: Method,
    biases: BiasSelection,
    head: HeadOf,
) -> Result<DeltaInfo> {
    let tokenizer = base.tokenizer(None, args.quiet)?;
    let pooling = match head.task.facts().each_token {
        true => Pooling::Auto,
        false => Pooling::Cls,
    };
    // A run has a training file; this is the file that the values came from.
    let from = Some(PathBuf::from(ADAPTER_WEIGHTS));
    let settings = TrainConfig {
        method,
        biases: if method.facts().takes_biases() { biases.clone() } else { BiasSelection::all() },
        task: TaskChoice::Kind(head.task),
        pooling,
        // As PEFT trained it.
        weights: WeightStorage::F32,
        precision: Precision::F32,
        ..TrainConfig::with_defaults(model.to_owned(), from, PathBuf::new())
    };
    Ok(DeltaInfo {
        base_sha256: base.sha256()?.to_owned(),
        model_type: base.config.model_type.clone(),
        task: head.task,
        labels: head.labels,
        outputs: head.outputs,
        pooling,
        method,
        biases,
        settings: settings.without_places(),
        columns: None,
        base_files: Some(base.files(&tokenizer)?),
        max_length: Some(tokenizer.options().max_len),
        data: None,
        no_answer: None,
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}
