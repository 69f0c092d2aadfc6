//! A folder with a whole task model that `transformers` loads: what `merge` and full fine-tuning write.

use super::base::Base;
use crate::backend::Slot;
use crate::files::{write_atomic, write_bytes_atomic};
use crate::formats::container;
use crate::formats::delta::DeltaInfo;
use crate::formats::model_files::{CONFIG, POOLING, TOKENIZER_FILES, holds_model};
use crate::formats::model_tensors::ModelTensors;
use crate::model::load::checkpoint_pooling;
use crate::model::params::ParamKind;
use crate::program::{ParamRange, PoolKind};
use crate::session::Session;
use crate::settings::choice::Task;
use crate::train::output::{HEAD_FILE, MODEL_FILE, OutputFolder};
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// Copies the files that the model shares with its base: the tokenizer, and a sentence encoder's pooling file if the task
/// model pools the same way.
pub fn copy_from_base(base: &Base, pooling: PoolKind, folder: &Path) -> Result<()> {
    for name in TOKENIZER_FILES {
        copy(base, name, folder)?;
    }
    if base.folder.join(POOLING).exists() && checkpoint_pooling(&base.folder)? == pooling {
        if let Some(parent) = folder.join(POOLING).parent() {
            std::fs::create_dir_all(parent)
                .with_context(|| format!("cannot make {}", parent.display()))?;
        }
        copy(base, POOLING, folder)?;
    }
    Ok(())
}

fn copy(base: &Base, name: &str, folder: &Path) -> Result<()> {
    let from = base.folder.join(name);
    if !from.exists() {
        return Ok(());
    }
    let bytes = std::fs::read(&from).with_context(|| format!("cannot read {}", from.display()))?;
    write_bytes_atomic(&folder.join(name), &bytes)
}

/// Writes `config.json`. To be done last: a folder without one is not taken for a model.
pub fn write_config(base: &Base, info: &DeltaInfo, pooling: PoolKind, folder: &Path) -> Result<()> {
    let config = config_json(base, info, pooling)?;
    write_bytes_atomic(&folder.join(CONFIG), format!("{config:#}\n").as_bytes())
}

/// The base's configuration with the task's class and labels.
fn config_json(base: &Base, info: &DeltaInfo, pooling: PoolKind) -> Result<Value> {
    let path = base.folder.join(CONFIG);
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
        let labels: Vec<String> = match info.task {
            Task::Classification => info.labels.clone(),
            Task::Regression => vec!["LABEL_0".into()],
        };
        let id2label: Map<String, Value> =
            labels.iter().enumerate().map(|(i, l)| (i.to_string(), l.as_str().into())).collect();
        let label2id: Map<String, Value> =
            labels.iter().enumerate().map(|(i, l)| (l.clone(), i.into())).collect();
        let problem = match info.task {
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

/// Writes the model that full fine-tuning has made so far: weights and head, then, the first time, the rest of the
/// folder. The tensors go from the backend to the file piece by piece.
///
/// # Errors
/// A file that cannot be written; a file of the base that can no longer be read.
pub fn write_full(
    output: &OutputFolder,
    base: &Base,
    info: &DeltaInfo,
    session: &Session,
) -> Result<()> {
    let model = session.model();
    let prefix = base.config.family.prefix();
    let pooling = model.head.pool;
    let file = ModelTensors::open(&base.folder, prefix)?;
    let (mut encoder, mut head) = (Vec::new(), Vec::new());
    for param in model.params.list() {
        let source = Source {
            name: param.name.clone(),
            shape: param.shape.clone(),
            values: Values::Param(param.range),
        };
        if pooling == PoolKind::Mean && param.kind == ParamKind::Head {
            head.push(source);
        } else {
            encoder.push(source);
        }
    }
    if pooling == PoolKind::Mean {
        // A bare encoder has no prefix, so that `AutoModel` finds it, and may want a pooler.
        for source in &mut encoder {
            source.name = source.name.trim_start_matches(prefix).to_owned();
        }
        for (full, shape, inside) in file.list() {
            let name = full.strip_prefix(prefix).unwrap_or(&full).to_owned();
            if inside && name.starts_with("pooler.") {
                let values = Values::Base(name.clone());
                encoder.push(Source { name, shape, values });
            }
        }
        // First, so that a model in the folder has its head beside it.
        write_sources(&output.path().join(HEAD_FILE), info, head, &file, session)?;
    }
    write_sources(&output.path().join(MODEL_FILE), info, encoder, &file, session)?;
    if !holds_model(output.path()) {
        copy_from_base(base, pooling, output.path())?;
        write_config(base, info, pooling, output.path())?;
    }
    Ok(())
}

fn write_sources(
    path: &Path,
    info: &DeltaInfo,
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
    let metadata: BTreeMap<_, _> = info.model_metadata()?;
    write_atomic(path, |out| container::write(out, &metadata, &shapes, read))
}
