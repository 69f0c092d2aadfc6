//! A folder with a whole task model that `transformers` loads: what merging and full fine-tuning write in addition to
//! the weights, and where each tensor goes.

use super::delta::DeltaInfo;
use super::model_files::{
    CARD, CONFIG, HEAD, POOLING, QUANTIZATION, READ_BESIDES, SENTENCE_ENCODER_FILES,
    TOKENIZER_FILES, WEIGHTS, read_file,
};
use super::sentence;
use crate::files::write_bytes_atomic;
use crate::program::PoolKind;
use crate::settings::choice::Pooling;
use crate::settings::task::Reads;
use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The file of a task model for a tensor, and its name there. `name` is the tensor's name in a task model, whose
/// encoder names begin with `prefix`.
pub fn place<'n>(pooling: Pooling, prefix: &str, name: &'n str) -> (&'static str, &'n str) {
    match (pooling, name.strip_prefix(prefix)) {
        // `transformers` has no class for a classifier on the mean: so a bare encoder, without a prefix so that
        // `AutoModel` finds it, and a separate head.
        (Pooling::Mean, Some(bare)) => (WEIGHTS, bare),
        (Pooling::Mean, None) => (HEAD, name),
        (Pooling::Cls | Pooling::Auto, _) => (WEIGHTS, name),
    }
}

/// Copies the files that the model shares with its base: the tokenizer, and a sentence encoder's additional files.
/// Removes files that a killed writer left there for another model, which would be read with this one; returns their
/// names.
///
/// # Errors
/// A file that cannot be read, written or removed, by name.
pub fn copy_from_base(
    base: &Path,
    pooling: PoolKind,
    hidden: usize,
    folder: &Path,
) -> Result<Vec<String>> {
    let mut gone = clear(folder, pooling)?;
    for name in TOKENIZER_FILES {
        if copy(base, name, folder)? {
            gone.retain(|other| other != name);
        }
    }
    let written = sentence::carry(base, folder, pooling, hidden)?;
    gone.retain(|name| !written.contains(name));
    Ok(gone)
}

/// What the writing of a model or adapter has created in its folder so far.
pub struct Unfinished {
    /// Files that did not exist before, whether or not they do now.
    files: Vec<PathBuf>,
    folder: PathBuf,
}

impl Unfinished {
    /// Call it before anything is written.
    ///
    /// # Errors
    /// A file of the base that cannot be read.
    pub fn of(base: &Path, folder: &Path) -> Result<Self> {
        let mut names = sentence::carried(base, true)?;
        names.extend(TOKENIZER_FILES.map(str::to_owned));
        names.extend([POOLING, HEAD, WEIGHTS, CARD, CONFIG].map(str::to_owned));
        Ok(Self::among(folder, &names))
    }

    /// The same for files about to be written.
    pub fn among<S: AsRef<str>>(folder: &Path, names: &[S]) -> Self {
        let files = names.iter().map(|name| folder.join(name.as_ref()));
        let files = files.filter(|path| !path.exists()).collect();
        Self { files, folder: folder.to_path_buf() }
    }

    /// Undoes it: an incomplete model or adapter is useless.
    pub fn remove(&self) {
        for file in &self.files {
            // If it cannot be removed, the original error is more informative.
            let _ = std::fs::remove_file(file);
            let inside = |folder: &&Path| *folder != self.folder;
            for folder in file.ancestors().skip(1).take_while(inside) {
                // The system refuses if the folder is not empty.
                let _ = std::fs::remove_dir(folder);
            }
        }
    }
}

/// Removes what a killed writer left in a folder: other people's files prevent writing a model there.
fn clear(folder: &Path, pooling: PoolKind) -> Result<Vec<String>> {
    let mut gone = Vec::new();
    let names = TOKENIZER_FILES.into_iter().chain(SENTENCE_ENCODER_FILES).chain(READ_BESIDES);
    for name in names.chain((pooling == PoolKind::Cls).then_some(HEAD)) {
        let path = folder.join(name);
        match std::fs::remove_file(&path) {
            Ok(()) => gone.push(name.to_owned()),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(|| format!("cannot remove {}", path.display())),
        }
    }
    Ok(gone)
}

/// Copies a file if the base has it, and says whether it does.
fn copy(base: &Path, name: &str, folder: &Path) -> Result<bool> {
    let from = base.join(name);
    if !from.exists() {
        return Ok(false);
    }
    write_bytes_atomic(&folder.join(name), &read_file(&from)?)?;
    Ok(true)
}

/// Writes `config.json`. Must be done last: a folder without one is not taken for a model.
///
/// # Errors
/// The base's cannot be read, or belongs to a model without a known class.
pub fn write_config(base: &Path, info: &DeltaInfo, folder: &Path) -> Result<()> {
    let config = config_json(base, info)?;
    write_bytes_atomic(&folder.join(CONFIG), format!("{config:#}\n").as_bytes())
}

/// The class of `transformers` that loads a task model.
///
/// # Errors
/// A model without a known class.
pub fn class_name(info: &DeltaInfo) -> Result<String> {
    let family = match info.model_type.as_str() {
        "bert" => "Bert",
        "roberta" => "Roberta",
        "xlm-roberta" => "XLMRoberta",
        "camembert" => "Camembert",
        other => bail!("no transformers class is known for model_type `{other}`"),
    };
    let class = match info.pooling {
        Pooling::Mean => "Model",
        Pooling::Cls | Pooling::Auto => info.task.facts().class,
    };
    Ok(format!("{family}{class}"))
}

/// The base's configuration with the task's class and labels.
fn config_json(base: &Path, info: &DeltaInfo) -> Result<Value> {
    let path = base.join(CONFIG);
    let mut config: Map<String, Value> = serde_json::from_slice(&read_file(&path)?)
        .with_context(|| format!("{} is broken", path.display()))?;
    // True for the files of this folder, whatever the base's type.
    config.insert("torch_dtype".into(), "float32".into());
    config.remove("dtype");
    QUANTIZATION.iter().for_each(|key| drop(config.remove(*key)));
    let facts = info.task.facts();
    config.insert("architectures".into(), json!([class_name(info)?]));
    if info.pooling != Pooling::Mean && facts.reads != Reads::Running {
        let labels: Vec<String> = match facts.named {
            true => info.labels.clone(),
            false => (0..info.outputs).map(|i| format!("LABEL_{i}")).collect(),
        };
        let id2label: Map<String, Value> =
            labels.iter().enumerate().map(|(i, l)| (i.to_string(), l.as_str().into())).collect();
        let label2id: Map<String, Value> =
            labels.iter().enumerate().map(|(i, l)| (l.clone(), i.into())).collect();
        config.insert("id2label".into(), id2label.into());
        config.insert("label2id".into(), label2id.into());
        match facts.problem_type {
            Some(problem) => config.insert("problem_type".into(), problem.into()),
            None => config.remove("problem_type"),
        };
        config.remove("num_labels");
    }
    Ok(config.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn under_mean_pooling_the_head_lies_beside_a_bare_encoder() {
        let place = |pooling, name| place(pooling, "bert.", name);
        let query = "encoder.layer.0.attention.self.query.weight";
        let full = format!("bert.{query}");
        assert_eq!(place(Pooling::Mean, &full), (WEIGHTS, query));
        assert_eq!(place(Pooling::Cls, &full), (WEIGHTS, full.as_str()));
        let head = "classifier.weight";
        assert_eq!(place(Pooling::Mean, head), (HEAD, head));
        assert_eq!(place(Pooling::Cls, head), (WEIGHTS, head));
    }
}
