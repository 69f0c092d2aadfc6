//! `bitfit inspect`: a model's parameters by component, or how far a delta moved its trained values.

use super::base::{Base, trained_on};
use super::show;
use super::trained::{apply, read_delta, task_spec};
use crate::backend::cpu::CpuBackend;
use crate::cli::InspectArgs;
use crate::error::tame;
use crate::formats::delta::Delta;
use crate::formats::model_tensors::ModelTensors;
use crate::methods::entries::values_name;
use crate::methods::{Trains, ia3, lora};
use crate::model::config::ModelConfig;
use crate::model::load::{TaskSpec, load, outline_of};
use crate::model::params::{Param, ParamKind};
use crate::program::PoolKind;
use crate::results::moved::Moved;
use crate::settings::biases::{BiasSelection, Component};
use crate::settings::choice::Pooling;
use crate::settings::method::Method;
use crate::settings::task::Task;
use crate::settings::train::TrainConfig;
use crate::table::{TextTable, grouped};
use crate::train::output::delta_path;
use crate::words::count;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

pub fn run(args: &InspectArgs) -> Result<()> {
    match &args.delta {
        Some(path) => delta(&delta_path(path)?, args.model.as_deref()),
        None => model(args.model.as_deref().unwrap_or_default(), args.method, &args.biases),
    }
}

/// Every parameter of a checkpoint by component, and the share that trains.
fn model(name: &str, method: Method, biases: &BiasSelection) -> Result<()> {
    let base = Base::open(name, true)?;
    let config = &base.config;
    biases.validate(config.layers)?;
    let weights = ModelTensors::open(&base.folder, config.family.prefix())?;
    let list = weights.list();
    let size = |shape: &[usize]| shape.iter().product::<usize>();
    // Position ids are integers, not parameters.
    let list: Vec<_> =
        list.into_iter().filter(|(name, ..)| !name.ends_with("position_ids")).collect();
    let total: usize =
        list.iter().filter(|(_, _, inside)| *inside).map(|(_, shape, _)| size(shape)).sum();

    let mut table = TextTable::new(["component", "symbol", "parameters", "share", "trains"]);
    let percent = |n: usize| format!("{:.4} %", 100.0 * n as f64 / total as f64);
    let mut row = |name: &str, symbol: &str, n: usize, trains: usize| {
        table.row([
            name.to_owned(),
            symbol.to_owned(),
            grouped(n),
            percent(n),
            if trains == 0 { "-".to_owned() } else { grouped(trains) },
        ]);
    };
    let trained = trained(&base, &weights, method, biases)?;
    let sum = |wanted: &dyn Fn(&Param) -> bool| {
        let wanted = trained.iter().filter(|param| wanted(param));
        wanted.map(|param| param.range.len).sum::<usize>()
    };
    let mut in_rows = 0;
    for component in Component::ALL {
        let n = counts(component, config, &weights);
        if n > 0 {
            let trains = sum(&|param| param.kind == ParamKind::Bias(component));
            row(component.name(), component.symbol(), n, trains);
            in_rows += trains;
        }
    }
    for (group, matches) in GROUPS {
        let n: usize = list
            .iter()
            .filter(|(name, _, inside)| *inside && matches(name))
            .map(|(_, shape, _)| size(shape))
            .sum();
        if n > 0 {
            let of_encoder = |kind| matches!(kind, ParamKind::Gain | ParamKind::Weight);
            let trains = sum(&|param| of_encoder(param.kind) && matches(&param.name));
            row(group, "", n, trains);
            in_rows += trains;
        }
    }
    row("all of the encoder", "", total, in_rows);
    show(format_args!(
        "{}: {}, {} of {} ({}), sha256 {}\n",
        base.folder.display(),
        config.model_type,
        count(config.layers, "layer"),
        config.hidden,
        count(config.heads, "head"),
        base.sha256()?
    ))?;
    show(&table)?;
    let all = sum(&|_| true);
    let chosen = match method == Method::default() {
        true => format!("--biases {biases}"),
        false => format!("--method {}", method.with_biases(biases)),
    };
    show(match all == in_rows {
        true => format!(
            "{chosen} trains {} of {} encoder parameters, {}\n",
            grouped(all),
            grouped(total),
            percent(all)
        ),
        // Values that it adds, or single ones of a matrix.
        false => format!("{chosen} trains {} values of the encoder\n", grouped(all)),
    })?;
    let other: usize =
        list.iter().filter(|(_, _, inside)| !inside).map(|(_, shape, _)| size(shape)).sum();
    if other > 0 {
        show(format_args!(
            "the file also holds {} of other heads, not used here\n",
            count(other, "parameter")
        ))?;
    }
    Ok(())
}

/// What a method trains of the encoder, with the checkpoint's own pooling, or its pooler if none is known.
fn trained(
    base: &Base,
    weights: &ModelTensors,
    method: Method,
    biases: &BiasSelection,
) -> Result<Vec<Param>> {
    let seed = TrainConfig::with_defaults(String::new(), None, PathBuf::new()).seed;
    let spec = TaskSpec {
        pooling: base.pooling(Pooling::Auto).unwrap_or(PoolKind::Cls),
        ..TaskSpec::of_any_task(Trains::of(method, biases, None), seed)
    };
    let model = outline_of(weights, &base.config, &spec)?;
    let of_encoder = model.params.trained().filter(|param| param.kind != ParamKind::Head);
    Ok(of_encoder.cloned().collect())
}

type Group = (&'static str, fn(&str) -> bool);

/// The parameters that are not biases.
const GROUPS: [Group; 4] = [
    ("embedding tables", |n| n.contains("embeddings.") && n.ends_with("embeddings.weight")),
    ("LayerNorm gains", |n| n.ends_with("LayerNorm.weight") || n.ends_with("LayerNorm.gamma")),
    ("weight matrices of the layers", |n| {
        n.contains("encoder.layer.") && n.ends_with(".weight") && !n.contains("LayerNorm")
    }),
    ("pooler matrix", |n| n.ends_with("pooler.dense.weight")),
];

/// Parameters of one kind of bias in this model.
fn counts(component: Component, config: &ModelConfig, weights: &ModelTensors) -> usize {
    let width = component.width(config.hidden, config.intermediate);
    let has = |module: &str| {
        ["bias", "beta"].map(|end| format!("{module}.{end}")).iter().any(|name| weights.has(name))
    };
    if !component.per_layer() {
        return if has(component.module()) { width } else { 0 };
    }
    let of_layer = |&i: &usize| has(&format!("encoder.layer.{i}.{}", component.module()));
    (0..config.layers).filter(of_layer).count() * width
}

/// A delta's metadata, and how far it moved each parameter.
fn delta(path: &Path, base: Option<&str>) -> Result<()> {
    let delta = read_delta(path)?;
    let base = Base::of_delta(path, &delta.info, base, true)?;
    let prefix = base.config.family.prefix();
    let mut backend = CpuBackend::new(delta.info.settings.weights.into());
    let spec = task_spec(&delta.info);
    let mut model = load(&base.folder, &base.config, &spec, &mut backend)?;
    let before = model.params.initial().to_vec();
    apply(&delta, base.sha256()?, &mut model)
        .with_context(|| format!("delta {}", path.display()))?;
    let after = model.params.initial();

    let moved = |name: &str| -> Option<f64> {
        let param = model.params.trained().find(|p| p.name == name)?;
        let range = param.range.offset..param.range.offset + param.range.len;
        let sum: f64 = range.clone().map(|i| f64::from(after[i] - before[i]).abs()).sum();
        Some(sum / param.range.len as f64)
    };

    let info = &delta.info;
    show(format_args!(
        "{}: {} by {}, trained on {}\n",
        path.display(),
        info.task,
        info.method.with_biases(&info.biases),
        trained_on(path, info)
    ))?;
    if !info.labels.is_empty() {
        show(format_args!("labels: {}\n", tame(&info.labels.join(", "))))?;
    }
    if info.labels.is_empty() && info.outputs > 1 && info.task == Task::Regression {
        show(format_args!("answers: {} numbers for each text\n", info.outputs))?;
    }
    if let Some(columns) = &info.columns {
        show(format_args!("trained on {columns}\n"))?;
    }
    let layers = base.config.layers;
    let trains = |kind: ParamKind| model.params.trained().any(|param| param.kind == kind);
    if trains(ParamKind::Factor) {
        let scaled = [ia3::OF_OUTPUTS, ia3::OF_INPUTS].concat();
        let factors = |module: String| moved(&format!("{prefix}{}", ia3::name(&module)));
        return show_moved("l", &scaled, layers, factors);
    }
    if let Some(settings) = &info.settings.lora {
        let beside: Vec<Component> = settings.on.iter().collect();
        return show_moved("W", &beside, layers, |module: String| {
            let [a, b] =
                lora::names(&format!("{prefix}{module}")).map(|name| delta.tensors.get(&name));
            let product = lora::product(a?, b?, settings.scale());
            let sum: f64 = product.iter().map(|&w| f64::from(w).abs()).sum();
            Some(sum / product.len() as f64)
        });
    }
    if trains(ParamKind::Entries) {
        return show_entries(&delta, prefix, layers);
    }
    show_moved("b", &Component::ALL, layers, |module| moved(&format!("{prefix}{module}.bias")))?;
    if trains(ParamKind::Gain) {
        let of_norm = |module: String| moved(&format!("{prefix}{module}.weight"));
        show_moved("γ", &Component::LAYER_NORMS, layers, of_norm)?;
    }
    Ok(())
}

/// The single values of a delta by layer and component, vectors and matrices together: count, and mean |Δ|.
fn show_entries(delta: &Delta, prefix: &str, layers: usize) -> Result<()> {
    let of = |module: &str| -> Vec<f32> {
        let ends = ["weight", "bias"].map(|end| values_name(&format!("{prefix}{module}.{end}")));
        let tensors = ends.iter().filter_map(|name| delta.tensors.get(name));
        tensors.flat_map(|tensor| tensor.data.clone()).collect()
    };
    let mean = |values: &[f32]| {
        let sum: f64 = values.iter().map(|&value| f64::from(value).abs()).sum();
        (!values.is_empty()).then(|| sum / values.len() as f64)
    };
    let all: usize = delta.places.values().map(Vec::len).sum();
    show(format_args!("single values: {}, by layer and module\n", grouped(all)))?;
    let kinds = Component::ALL.into_iter().filter(|component| component.per_layer());
    let mut table =
        TextTable::new(std::iter::once("layer").chain(kinds.clone().map(Component::name)));
    for layer in 0..layers {
        let count = |c: Component| of(&format!("encoder.layer.{layer}.{}", c.module())).len();
        let cells = kinds.clone().map(|component| grouped(count(component)));
        table.row(std::iter::once(layer.to_string()).chain(cells).collect::<Vec<_>>());
    }
    show(&table)?;
    let components: Vec<Component> = Component::ALL.to_vec();
    show_moved("", &components, layers, |module| mean(&of(&module)))?;
    for table in ["word", "position", "token_type"] {
        let values = of(&format!("embeddings.{table}_embeddings"));
        if let Some(mean) = mean(&values) {
            show(format_args!("{table} table: {mean:.6} ({} values)\n", grouped(values.len())))?;
        }
    }
    Ok(())
}

/// Mean |Δ| by layer and component; `moved` is keyed by module.
fn show_moved(
    symbol: &str,
    components: &[Component],
    layers: usize,
    moved: impl Fn(String) -> Option<f64>,
) -> Result<()> {
    show(format_args!("mean |Δ{symbol}|:\n"))?;
    let cell = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.6}"));
    let Moved { by_layer, single } = Moved::of(components, layers, moved);
    let names = by_layer.iter().map(|(component, _)| component.name());
    let mut table = TextTable::new(std::iter::once("layer").chain(names));
    for layer in 0..layers {
        let cells = by_layer.iter().map(|(_, values)| cell(values[layer]));
        table.row(std::iter::once(layer.to_string()).chain(cells));
    }
    show(&table)?;
    for (component, value) in single {
        if let Some(value) = value {
            show(format_args!("{component}: {value:.6}\n"))?;
        }
    }
    Ok(())
}
