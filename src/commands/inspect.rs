//! `bitfit inspect`: a model's parameters by component, or how far a delta moved what it trains.

use super::base::{Base, trained_on};
use super::show;
use super::trained::{apply, read_delta, task_spec};
use crate::backend::cpu::CpuBackend;
use crate::cli::InspectArgs;
use crate::error::tame;
use crate::formats::model_tensors::ModelTensors;
use crate::methods::{ia3, lora};
use crate::model::config::{Family, ModelConfig};
use crate::model::load::load;
use crate::model::params::ParamKind;
use crate::results::moved::Moved;
use crate::settings::biases::{BiasSelection, Component};
use crate::settings::task::Task;
use crate::table::{TextTable, grouped};
use crate::train::output::delta_path;
use crate::words::count;
use anyhow::{Context, Result};
use std::path::Path;

pub fn run(args: &InspectArgs) -> Result<()> {
    match &args.delta {
        Some(path) => delta(&delta_path(path)?, args.model.as_deref()),
        None => model(args.model.as_deref().unwrap_or_default(), &args.biases),
    }
}

/// Every parameter of a checkpoint by component, and the share that trains.
fn model(name: &str, biases: &BiasSelection) -> Result<()> {
    let base = Base::open(name, true)?;
    let config = &base.config;
    biases.validate(config.layers)?;
    let weights = ModelTensors::open(&base.folder, config.family.prefix())?;
    let list = weights.list();
    let size = |shape: &[usize]| shape.iter().product::<usize>();
    // Position ids are numbers, not parameters.
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
    let mut trained = 0;
    for component in Component::ALL {
        let (n, trains) = counts(component, config, &weights, biases);
        if n > 0 {
            row(component.name(), component.symbol(), n, trains);
            trained += trains;
        }
    }
    for (group, matches) in GROUPS {
        let n: usize = list
            .iter()
            .filter(|(name, _, inside)| *inside && matches(name))
            .map(|(_, shape, _)| size(shape))
            .sum();
        if n > 0 {
            row(group, "", n, 0);
        }
    }
    row("all of the encoder", "", total, trained);
    show(format_args!(
        "{}: {}, {} of {} ({}), sha256 {}\n",
        base.folder.display(),
        config.model_type,
        count(config.layers, "layer"),
        config.hidden,
        count(config.heads, "head"),
        base.sha256
    ))?;
    show(&table)?;
    show(format_args!(
        "--biases {biases} trains {} of {} encoder parameters, {}\n",
        grouped(trained),
        grouped(total),
        percent(trained)
    ))?;
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

/// Parameters of one kind of bias in this model, and how many of them train.
fn counts(
    component: Component,
    config: &ModelConfig,
    weights: &ModelTensors,
    biases: &BiasSelection,
) -> (usize, usize) {
    let width = component.width(config.hidden, config.intermediate);
    let has = |module: &str| {
        ["bias", "beta"].map(|end| format!("{module}.{end}")).iter().any(|name| weights.has(name))
    };
    if component.per_layer() {
        let of_layer = |&i: &usize| has(&format!("encoder.layer.{i}.{}", component.module()));
        let there: Vec<usize> = (0..config.layers).filter(of_layer).collect();
        let train = there.iter().filter(|&&i| biases.selects(component, Some(i))).count();
        return (there.len() * width, train * width);
    }
    if !has(component.module()) {
        return (0, 0);
    }
    // RoBERTa's head takes the place of a pooler that the file may hold.
    let used = component != Component::Pooler || config.family == Family::Bert;
    (width, if used && biases.selects(component, None) { width } else { 0 })
}

/// What a delta says of itself, and how far it moved each parameter.
fn delta(path: &Path, base: Option<&str>) -> Result<()> {
    let delta = read_delta(path)?;
    let base = Base::of_delta(path, &delta.info, base, true)?;
    let prefix = base.config.family.prefix();
    let mut backend = CpuBackend::new(delta.info.settings.weights.into());
    let spec = task_spec(&delta.info);
    let mut model = load(&base.folder, &base.config, &spec, &mut backend)?;
    let before = model.params.initial().to_vec();
    apply(&delta, &base.sha256, &mut model).with_context(|| format!("delta {}", path.display()))?;
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
    show_moved("b", &Component::ALL, layers, |module| moved(&format!("{prefix}{module}.bias")))?;
    if trains(ParamKind::Gain) {
        let of_norm = |module: String| moved(&format!("{prefix}{module}.weight"));
        show_moved("γ", &Component::LAYER_NORMS, layers, of_norm)?;
    }
    Ok(())
}

/// Mean |Δ| by layer and component; `moved` knows it by module.
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
