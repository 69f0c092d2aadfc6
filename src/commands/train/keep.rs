//! What a run keeps of its session as its result: a delta, or a whole model.

use super::data::Data;
use crate::backend::Slot;
use crate::commands::base::Base;
use crate::commands::{say_gone, warn};
use crate::data::TextTokenizer;
use crate::files::write_atomic;
use crate::formats::container::{self, Tensor};
use crate::formats::delta::{Delta, DeltaInfo};
use crate::formats::model_files::{HEAD, WEIGHTS, holds_model};
use crate::formats::model_folder::{copy_from_base, place, write_config};
use crate::formats::model_head;
use crate::formats::model_tensors::ModelTensors;
use crate::model::Model;
use crate::model::params::ParamKind;
use crate::program::{ParamRange, PoolKind};
use crate::session::Session;
use crate::settings::method::Leaves;
use crate::settings::train::TrainConfig;
use crate::train::output::OutputFolder;
use anyhow::Result;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// What a run knows of its result besides the session.
pub struct Kept<'a> {
    pub base: &'a Base,
    pub tokenizer: &'a TextTokenizer,
    pub info: DeltaInfo,
    pub quiet: bool,
}

/// Writes what has been learned so far.
///
/// # Errors
/// A file that cannot be written; a file of the base that can no longer be read.
pub fn keep(output: &OutputFolder, kept: &Kept<'_>, session: &Session) -> Result<()> {
    let leaves = kept.info.method.facts().leaves;
    match leaves {
        Leaves::Model => write_model(output.path(), kept, session),
        Leaves::Delta => {
            let values = session.trained_values()?;
            delta(&kept.info, session.model(), &values).write(&output.result_file(leaves))
        }
    }
}

/// What a result says beside its tensors.
pub fn delta_info(
    config: &TrainConfig,
    base: &Base,
    tokenizer: &TextTokenizer,
    pooling: PoolKind,
    data: &Data,
) -> Result<DeltaInfo> {
    Ok(DeltaInfo {
        base_sha256: base.sha256.clone(),
        model_type: base.config.model_type.clone(),
        task: config.task.kind(),
        labels: data.targets.names().to_vec(),
        outputs: data.targets.outputs(),
        pooling: pooling.into(),
        method: config.method,
        biases: config.method.trained_biases(&config.biases),
        settings: config.without_places(),
        columns: data.columns.clone(),
        base_files: Some(base.files(tokenizer)?),
        max_length: Some(tokenizer.options().max_len),
        data: Some(data.hashes.clone()),
        no_answer: data.targets.no_answer(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// The trained values by their Hugging Face names.
fn delta(info: &DeltaInfo, model: &Model, values: &[f32]) -> Delta {
    let tensors = model
        .params
        .trained()
        .map(|p| {
            let data = values[p.range.offset..p.range.offset + p.range.len].to_vec();
            (p.name.clone(), Tensor { shape: p.shape.clone(), data })
        })
        .collect();
    Delta { info: info.clone(), tensors }
}

/// A tensor of a model under its final name, and where its values are.
struct Source {
    name: String,
    shape: Vec<usize>,
    values: Values,
}

enum Values {
    Param(ParamRange),
    /// Of the base, where the logits do not depend on it (BERT's pooler under mean pooling).
    Base(String),
}

/// Writes the whole model: weights and head, then, the first time, the rest of the folder. The tensors go from the backend
/// to the file piece by piece.
fn write_model(folder: &Path, kept: &Kept<'_>, session: &Session) -> Result<()> {
    let Kept { base, tokenizer, info, quiet } = kept;
    let mut metadata = info.model_metadata()?;
    let model = session.model();
    let prefix = base.config.family.prefix();
    let pooling = model.head.pool;
    let file = ModelTensors::open(&base.folder, prefix)?;
    let (mut encoder, mut head) = (Vec::new(), Vec::new());
    for param in model.params.list().iter().filter(|param| param.kind != ParamKind::Loss) {
        let (file, name) = place(info.pooling, prefix, &param.name);
        let sources = match file {
            HEAD => &mut head,
            _ => &mut encoder,
        };
        sources.push(Source {
            name: name.to_owned(),
            shape: param.shape.clone(),
            values: Values::Param(param.range),
        });
    }
    if pooling == PoolKind::Mean {
        // `AutoModel` may want a pooler.
        for (full, shape, inside) in file.list() {
            let name = full.strip_prefix(prefix).unwrap_or(&full).to_owned();
            if inside && name.starts_with("pooler.") {
                let values = Values::Base(name.clone());
                encoder.push(Source { name, shape, values });
            }
        }
        // First, so that a model in the folder has its head beside it.
        write_sources(&folder.join(HEAD), &metadata, head, &file, session)?;
        model_head::seal(folder, &mut metadata)?;
    }
    write_sources(&folder.join(WEIGHTS), &metadata, encoder, &file, session)?;
    if !holds_model(folder) {
        let gone = copy_from_base(&base.folder, pooling, base.config.hidden, folder)?;
        say_gone(*quiet, &gone, folder);
        tokenizer.settle(folder)?.iter().for_each(warn);
        write_config(&base.folder, info, folder)?;
    }
    Ok(())
}

fn write_sources(
    path: &Path,
    metadata: &BTreeMap<String, String>,
    mut sources: Vec<Source>,
    base: &ModelTensors,
    session: &Session,
) -> Result<()> {
    sources.sort_by(|a, b| a.name.cmp(&b.name));
    let shapes: Vec<_> =
        sources.iter().map(|source| (source.name.clone(), source.shape.clone())).collect();
    let read = |i: usize, part: Range<usize>| match &sources[i].values {
        Values::Param(range) => {
            let offset = range.offset + part.start;
            let len = part.len();
            session.read(Slot::Value, ParamRange { offset, len })
        }
        Values::Base(name) => Ok(base.get(name, &sources[i].shape)?[part].to_vec()),
    };
    write_atomic(path, |out| container::write(out, metadata, &shapes, read))
}
