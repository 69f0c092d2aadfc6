//! `bitfit import`: a delta of an adapter that PEFT, or `bitfit export`, wrote. What of it a delta cannot hold is refused by
//! name: nothing of an adapter is left out in silence.

use super::base::Base;
use super::export::own_values;
use super::outputs::no_input_folder;
use super::say;
use super::trained::{fits, task_spec};
use crate::cli::ImportArgs;
use crate::error::UsageError;
use crate::files::write_bytes_atomic;
use crate::formats::adapter::BaseValues;
use crate::formats::adapter::read::{ReadAdapter, same_bits};
use crate::formats::container::Tensor;
use crate::formats::delta::{Delta, DeltaInfo};
use crate::formats::model_files::ADAPTER_WEIGHTS;
use crate::formats::model_folder::Unfinished;
use crate::formats::model_tensors::ModelTensors;
use crate::methods::Trains;
use crate::model::load::{TaskSpec, outline_of};
use crate::model::params::{Param, ParamKind};
use crate::program::{LossKind, PoolKind};
use crate::settings::biases::{BiasSelection, Component};
use crate::settings::choice::{Pooling, Precision, WeightStorage};
use crate::settings::method::Method;
use crate::settings::task::Task;
use crate::settings::task_choice::TaskChoice;
use crate::settings::train::TrainConfig;
use crate::tasks::labels::ClassNames;
use crate::train::output::{DELTA_FILE, OutputFolder, SETTINGS_FILE};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Tensors by their names in a task model.
type Values = BTreeMap<String, Tensor>;

pub fn run(args: &ImportArgs) -> Result<()> {
    no_input_folder(&args.output, &[&args.peft])?;
    let adapter = ReadAdapter::of(&args.peft)?;
    if adapter.info.is_some() {
        for (given, option) in
            [(args.task.is_some(), "--task"), (args.labels.is_some(), "--labels")]
        {
            if given {
                return Err(UsageError::new(format!(
                    "{option}: {} says itself what it was trained for; leave it out",
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
    let base = Base::open(&model, args.quiet).with_context(|| match args.model {
        Some(_) => format!("the base model of {}", args.peft.display()),
        None => format!(
            "the base model of {} is {model} there, which is not found from here: give --model",
            args.peft.display()
        ),
    })?;
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

/// The delta, and beside it where its base is.
fn write(output: &OutputFolder, delta: &Delta, model: &str) -> Result<()> {
    let settings = TrainConfig {
        model: model.to_owned(),
        output: output.path().to_path_buf(),
        // Where its rows are on this machine, nobody knows.
        data: None,
        ..delta.info.settings.clone()
    };
    write_bytes_atomic(&output.settings(), settings.to_toml()?.as_bytes())?;
    delta.write(&output.result_file(delta.info.method.facts().leaves))
}

/// What the adapter's tensors become, checked against the base.
fn delta_of(args: &ImportArgs, adapter: &ReadAdapter, base: &Base, model: &str) -> Result<Delta> {
    let prefix = base.config.family.prefix();
    let file = ModelTensors::open(&base.folder, prefix)?;
    let own = |name: &str, shape: &[usize]| own_values(&file, name, shape);
    if let Some(info) = &adapter.info {
        // Before tensors are compared: another base says why they do not fit.
        info.check_base(&base.sha256)?;
        base.tokenizer_of(info, None, args.quiet)?;
    }
    let encoder = Encoder::of(base, &file)?;
    let values = adapter.values(prefix, &encoder.biases(), &own)?;
    let info = match &adapter.info {
        Some(info) => info.clone(),
        None => {
            let (method, biases) = encoder.moved(&values, prefix, &own)?;
            let head = HeadSaid::of(args, adapter, &values)?;
            info_of(args, base, model, method, biases, head)?
        }
    };
    let outline = outline_of(&file, &base.config, &task_spec(&info))?;
    let mut tensors = Values::new();
    for param in outline.params.trained() {
        let inside = param.name.strip_prefix(prefix).filter(|_| param.kind != ParamKind::Head);
        match (values.get(&param.name), inside) {
            (Some(value), _) => {
                tensors.insert(param.name.clone(), value.clone());
            }
            // Trained by the method, and left as it was by the adapter; what was exported has all.
            (None, Some(inside)) if adapter.info.is_none() => {
                if let Some(data) = own(inside, &param.shape)? {
                    tensors.insert(param.name.clone(), Tensor { shape: param.shape.clone(), data });
                }
            }
            (None, _) => {}
        }
    }
    let delta = Delta { info, tensors, places: BTreeMap::new() };
    fits(&delta, &base.sha256, &outline)?;
    for (name, value) in values.iter().filter(|(name, _)| !delta.tensors.contains_key(*name)) {
        let own = name.strip_prefix(prefix).and_then(|inside| file.get(inside, &value.shape).ok());
        let own = own.map(|data| Tensor { shape: value.shape.clone(), data });
        ensure!(
            own.is_some_and(|own| same_bits(&own, value)),
            "it has its own `{name}`, and a delta has biases, LayerNorms and the head alone; merge the adapter into its base \
             first (`merge_and_unload()` of peft)"
        );
    }
    base.unchanged()?;
    Ok(delta)
}

/// The biases and gains of the base's encoder, without values.
struct Encoder {
    params: Vec<Param>,
    layers: usize,
}

impl Encoder {
    fn of(base: &Base, file: &ModelTensors) -> Result<Self> {
        let spec = TaskSpec {
            outputs: 2,
            loss: LossKind::CrossEntropy,
            class_weights: Vec::new(),
            // With the pooler, where there is one.
            pooling: PoolKind::Cls,
            reinit_pooler: false,
            trains: Trains::all_biases(),
            dropout: None,
            seed: 0,
        };
        let model = outline_of(file, &base.config, &spec)?;
        let list = model.params.list().iter();
        let of_encoder = |p: &&Param| matches!(p.kind, ParamKind::Bias(_) | ParamKind::Gain);
        Ok(Self { params: list.filter(of_encoder).cloned().collect(), layers: base.config.layers })
    }

    /// The shapes of the biases by name.
    fn biases(&self) -> BTreeMap<String, Vec<usize>> {
        let biases = self.params.iter().filter(|p| matches!(p.kind, ParamKind::Bias(_)));
        biases.map(|p| (p.name.clone(), p.shape.clone())).collect()
    }

    /// What trained, by what is no longer as the base has it.
    ///
    /// # Errors
    /// No method trains that, by the name of a tensor.
    fn moved(
        &self,
        values: &Values,
        prefix: &str,
        own: &BaseValues<'_>,
    ) -> Result<(Method, BiasSelection)> {
        let mut chosen: BTreeMap<Component, Vec<Option<usize>>> = BTreeMap::new();
        let (mut gain, mut linear, mut new) = (None, None, None);
        for param in &self.params {
            let Some(value) = values.get(&param.name) else { continue };
            let inside = param.name.strip_prefix(prefix).unwrap_or(&param.name);
            ensure!(
                value.shape == param.shape,
                "`{}` has shape {:?}, and the base's {:?}: it is an adapter for another model",
                param.name,
                value.shape,
                param.shape
            );
            let own = own(inside, &param.shape)?;
            let is_new = own.is_none();
            let own = own.map(|data| Tensor { shape: param.shape.clone(), data });
            if own.is_some_and(|own| same_bits(&own, value)) {
                continue;
            }
            match param.kind {
                ParamKind::Bias(component) => {
                    chosen.entry(component).or_default().push(param.layer);
                    let kind = match (is_new, component.is_linear()) {
                        (true, _) => &mut new,
                        (false, true) => &mut linear,
                        (false, false) => continue,
                    };
                    kind.get_or_insert(&param.name);
                }
                _ => drop(gain.get_or_insert(&param.name)),
            }
        }
        let refused = |one: &str, other: &str| {
            format!("it changes both `{one}` and `{other}`, which no method trains together")
        };
        match (gain, linear, new) {
            (Some(gain), Some(linear), _) => bail!(refused(gain, linear)),
            (Some(gain), None, Some(new)) => bail!(refused(gain, new)),
            (None, Some(linear), Some(new)) => bail!(refused(linear, new)),
            (Some(_), None, None) => Ok((Method::LayerNorm, BiasSelection::layer_norms())),
            _ if chosen.is_empty() => Ok((Method::Head, BiasSelection::none())),
            (None, None, Some(_)) => Ok((Method::AddedBiases, self.selection(&chosen)?)),
            (None, _, None) => Ok((Method::Bitfit, self.selection(&chosen)?)),
        }
    }

    /// These biases as `--biases` names them.
    fn selection(&self, chosen: &BTreeMap<Component, Vec<Option<usize>>>) -> Result<BiasSelection> {
        let mut names = Vec::new();
        for (component, layers) in chosen {
            if layers.len() == self.layers || !component.per_layer() {
                names.push(component.name().to_owned());
            } else {
                let layers = layers.iter().flatten();
                names.extend(layers.map(|layer| format!("{}@{layer}", component.name())));
            }
        }
        Ok(BiasSelection::parse(&names.join(","))?)
    }
}

/// What the adapter and the user say of the head.
struct HeadSaid {
    task: Task,
    outputs: usize,
    labels: Vec<String>,
}

impl HeadSaid {
    fn of(args: &ImportArgs, adapter: &ReadAdapter, values: &Values) -> Result<Self> {
        let last = ["classifier.bias", "classifier.out_proj.bias", "qa_outputs.bias"];
        let head = last.into_iter().find_map(|name| Some((name, values.get(name)?)));
        let (name, bias) = head.with_context(|| {
            format!(
                "it has no head: a delta needs {}; save it with the adapter (`modules_to_save`)",
                last.map(|name| format!("`{name}`")).join(" or ")
            )
        })?;
        let outputs = bias.data.len();
        let task = match (args.task, adapter.task_type.as_deref()) {
            (Some(task), _) => task,
            (None, _) if name == "qa_outputs.bias" => Task::QuestionAnswering,
            (None, Some("TOKEN_CLS")) => Task::TokenClassification,
            // As transformers takes it.
            (None, Some("SEQ_CLS") | None) if outputs == 1 => Task::Regression,
            (None, Some("SEQ_CLS") | None) => Task::Classification,
            (None, Some(other)) => {
                bail!("its task_type is {other}: say with --task what the head is for")
            }
        };
        let facts = task.facts();
        let labels = match (&args.labels, facts.named) {
            (Some(_), false) => {
                return Err(UsageError::new(format!(
                    "--labels has no use with --task {task}: leave it out"
                ))
                .into());
            }
            (Some(text), true) => parsed_labels(text)?,
            (None, true) => (0..outputs).map(|i| format!("LABEL_{i}")).collect(),
            (None, false) => Vec::new(),
        };
        if facts.named && labels.len() != outputs {
            return Err(UsageError::new(format!(
                "--labels: the head has {outputs} outputs, and {} are named",
                labels.len()
            ))
            .into());
        }
        if facts.named {
            ClassNames::from_names(labels.clone(), facts.least_outputs).context("--labels")?;
        }
        Ok(Self { task, outputs, labels })
    }
}

/// `--labels`: a JSON list, or names with commas between them.
fn parsed_labels(text: &str) -> Result<Vec<String>, UsageError> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).map_err(|error| {
            UsageError::new(format!("--labels {text}: no JSON list of names: {error}"))
        });
    }
    Ok(text.split(',').map(|name| name.trim().to_owned()).collect())
}

/// What the delta says of itself. Of how the adapter was trained nothing is known: its settings are the usual ones.
fn info_of(
    args: &ImportArgs,
    base: &Base,
    model: &str,
    method: Method,
    biases: BiasSelection,
    head: HeadSaid,
) -> Result<DeltaInfo> {
    let tokenizer = base.tokenizer(None, args.quiet)?;
    let pooling = match head.task.facts().each_token {
        true => Pooling::Auto,
        false => Pooling::Cls,
    };
    // A run has a file to train on; this is the one that the values came from.
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
        base_sha256: base.sha256.clone(),
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
