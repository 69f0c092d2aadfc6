//! What a run keeps from its session as its result: a delta, or a whole model.

use super::data::Data;
use crate::backend::Slot;
use crate::commands::base::Base;
use crate::commands::{say_gone, warn};
use crate::data::{TextTokenizer, TokenizerOptions};
use crate::files::write_atomic;
use crate::formats::container;
use crate::formats::delta::{Delta, DeltaInfo};
use crate::formats::fingerprint::Fingerprint;
use crate::formats::model_files::{HEAD, WEIGHTS, holds_model};
use crate::formats::model_folder::{copy_from_base, place, write_config};
use crate::formats::model_head;
use crate::formats::model_tensors::ModelTensors;
use crate::methods::entries::index_name;
use crate::model::config::ModelConfig;
use crate::model::params::ParamKind;
use crate::program::{ParamRange, PoolKind};
use crate::session::Session;
use crate::settings::method::Leaves;
use crate::settings::train::TrainConfig;
use crate::train::output::OutputFolder;
use anyhow::{Result, ensure};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// What a run knows about its result besides the session.
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
            let mut trained: Vec<_> = session.model().params.trained().collect();
            trained.sort_by(|a, b| a.name.cmp(&b.name));
            let shapes: Vec<_> =
                trained.iter().map(|p| (p.name.clone(), p.shape.clone())).collect();
            let places = session.model().chosen.iter();
            let places = places.map(|(name, places)| (index_name(name), places.clone())).collect();
            kept.info.write_with(&output.result_file(leaves), &shapes, &places, |i, part| {
                read_part(session, trained[i].range, part)
            })
        }
    }
}

/// Checks that a folder has what [`keep`] writes for a run with this `info`, at whatever step. `changed` means that the
/// file with the values may not be the one that was recorded.
///
/// # Errors
/// A file that is damaged, from another run, or gone.
pub fn is_kept(
    output: &OutputFolder,
    info: &DeltaInfo,
    tokenizer: TokenizerOptions,
    changed: bool,
) -> Result<()> {
    let leaves = info.method.facts().leaves;
    if leaves == Leaves::Model {
        ModelConfig::read(output.path())?;
        TextTokenizer::load(output.path(), tokenizer)?;
    }
    if !changed {
        return Ok(());
    }
    let path = output.result_file(leaves);
    let found = match leaves {
        Leaves::Delta => Delta::read(&path)?.info,
        Leaves::Model => DeltaInfo::of_model(&path)?,
    };
    let differences =
        Fingerprint::of(&info.settings)?.differences(&Fingerprint::of(&found.settings)?);
    // Without influence on results, or chosen by an evaluation.
    let found = DeltaInfo {
        settings: info.settings.clone(),
        no_answer: info.no_answer,
        tool_version: info.tool_version.clone(),
        ..found
    };
    ensure!(differences.is_none() && found == *info, "it is of another run");
    Ok(())
}

/// A result's metadata.
pub fn delta_info(
    config: &TrainConfig,
    base: &Base,
    tokenizer: &TextTokenizer,
    pooling: PoolKind,
    data: &Data,
) -> Result<DeltaInfo> {
    Ok(DeltaInfo {
        base_sha256: base.sha256()?.to_owned(),
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

/// A tensor of a model under its final name, and the source of its values.
struct Source {
    name: String,
    shape: Vec<usize>,
    values: Values,
}

enum Values {
    Param(ParamRange),
    /// From the base, if the logits do not depend on it (BERT's pooler under mean pooling).
    Base(String),
}

/// Writes the whole model: weights and head, then, the first time, the rest of the folder. The tensors go from the
/// backend to the file piece by piece.
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
        // `AutoModel` may need a pooler.
        for (full, shape, inside) in file.list() {
            let name = full.strip_prefix(prefix).unwrap_or(&full).to_owned();
            if inside && name.starts_with("pooler.") {
                let values = Values::Base(name.clone());
                encoder.push(Source { name, shape, values });
            }
        }
        // First, so that a model in the folder always has its head.
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

/// Part of a parameter.
fn read_part(session: &Session, param: ParamRange, part: Range<usize>) -> Result<Vec<f32>> {
    session.read(Slot::Value, ParamRange { offset: param.offset + part.start, len: part.len() })
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
        Values::Param(range) => read_part(session, *range, part),
        Values::Base(name) => Ok(base.get(name, &sources[i].shape)?[part].to_vec()),
    };
    write_atomic(path, |out| container::write(out, metadata, &shapes, &BTreeMap::new(), read))
}
