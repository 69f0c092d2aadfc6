//! The tensors of a checkpoint folder: one `model.safetensors`, or shards with an index.
//!
//! Tensors are addressed by their name inside the encoder (`encoder.layer.0.output.dense.weight`), whether or not the
//! file prefixes it (`bert.`, `roberta.`), and are returned as f32, checked for shape and finite values.

use super::container::{ContainerError, Tensor, read_header};
use super::model_files::{WEIGHTS, WEIGHTS_INDEX, read_file};
use crate::content::mistaken_file;
use crate::files::open_whole;
use crate::finite::first_not_finite;
use crate::room::room;
use anyhow::{Context, Result, bail, ensure};
use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The open safetensors files of one checkpoint. They are not mapped into memory: truncating a file meanwhile is then
/// an error rather than a crash.
pub struct ModelTensors {
    shards: Vec<Shard>,
    /// Full name → shard.
    owner: HashMap<String, usize>,
    /// The file's prefix for the encoder's names; empty for a bare encoder.
    prefix: String,
}

/// Bytes read at a time.
const PIECE: usize = 1 << 20;

struct Shard {
    path: PathBuf,
    /// Its position is where the last reader left it.
    file: Mutex<File>,
    tensors: BTreeMap<String, TensorInfo>,
    /// Where tensor data starts in the file.
    data: u64,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The prefixes of the encoder's names in task models of other types.
const OTHER_FAMILIES: [&str; 7] =
    ["bert.", "roberta.", "distilbert.", "electra.", "albert.", "mpnet.", "deberta."];

impl ModelTensors {
    /// The files that hold a folder's weights, sorted by name.
    ///
    /// # Errors
    /// If there are none, or the index is broken or points outside the folder.
    pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
        let single = folder.join(WEIGHTS);
        if single.exists() {
            return Ok(vec![single]);
        }
        let index = folder.join(WEIGHTS_INDEX);
        if !index.exists() {
            bail!(
                "{} has neither {WEIGHTS} nor {WEIGHTS_INDEX}; convert other formats with transformers' \
                 `save_pretrained(…, safe_serialization=True)`",
                folder.display()
            );
        }
        let index_json: Index = serde_json::from_slice(&read_file(&index)?)
            .with_context(|| format!("{} is broken", index.display()))?;
        let mut names: Vec<_> = index_json.weight_map.into_values().collect();
        names.sort();
        names.dedup();
        ensure!(!names.is_empty(), "{} names no shard", index.display());
        names
            .into_iter()
            .map(|name| {
                ensure!(
                    Path::new(&name).file_name().is_some_and(|file| file == name.as_str()),
                    "{}: the shard name `{name}` is not a plain file name",
                    index.display()
                );
                let path = folder.join(&name);
                ensure!(
                    path.exists(),
                    "{} names the shard {name}, which is missing",
                    index.display()
                );
                Ok(path)
            })
            .collect()
    }

    /// Opens a checkpoint folder. `family_prefix` is the prefix of the encoder's names in task models of this family.
    ///
    /// # Errors
    /// Names the file that is missing, truncated or not safetensors.
    pub fn open(folder: &Path, family_prefix: &str) -> Result<Self> {
        let mut shards = Vec::new();
        let mut owner = HashMap::new();
        for path in Self::files(folder)? {
            let shard = Shard::open(path)?;
            for name in shard.tensors.keys() {
                if let Some(other) = owner.insert(name.clone(), shards.len()) {
                    let other: &Shard = shards.get(other).unwrap_or(&shard);
                    bail!(
                        "tensor `{name}` is in both {} and {}",
                        other.path.display(),
                        shard.path.display()
                    );
                }
            }
            shards.push(shard);
        }
        let probe = "embeddings.word_embeddings.weight";
        let prefix = ["", family_prefix]
            .into_iter()
            .find(|prefix| owner.contains_key(&format!("{prefix}{probe}")))
            .with_context(|| {
                let found = owner.keys().filter(|name| name.ends_with(probe)).min();
                let outer = found.and_then(|name| name.strip_suffix(probe));
                let what = match found {
                    Some(name) if outer.is_some_and(|outer| OTHER_FAMILIES.contains(&outer)) => format!(
                        "but `{name}`, as in models of another type: config.json and weights are not from the same \
                         model, or its `model_type` is wrong"
                    ),
                    Some(name) => format!(
                        "but `{name}`: save the model without its wrapper (PyTorch's DataParallel: \
                         `model.module`; peft: what `merge_and_unload()` returns)"
                    ),
                    None => "is this the encoder that config.json describes?".to_owned(),
                };
                format!(
                    "{}: no tensor `{probe}` (nor `{family_prefix}{probe}`); {what}",
                    folder.display()
                )
            })?
            .to_owned();
        Ok(Self { shards, owner, prefix })
    }

    /// Whether the encoder has a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.owner.contains_key(&format!("{}{name}", self.prefix))
    }

    /// How many layers the files hold, whatever the configuration says.
    pub fn layers(&self) -> usize {
        let layer = |name: &String| {
            let rest = name.strip_prefix(&self.prefix)?.strip_prefix("encoder.layer.")?;
            rest.split('.').next()?.parse::<usize>().ok()
        };
        self.owner.keys().filter_map(layer).max().map_or(0, |last| last + 1)
    }

    /// All parameters in the files: full name, shape, whether it belongs to the encoder. Integer tensors are buffers
    /// (positions, say), which a model creates itself.
    pub fn list(&self) -> Vec<(String, Vec<usize>, bool)> {
        let mut all: Vec<_> = self
            .shards
            .iter()
            .flat_map(|shard| &shard.tensors)
            .filter(|(_, info)| !is_buffer(info.dtype))
            .map(|(name, info)| {
                let inside = name.strip_prefix(&self.prefix).is_some_and(|rest| {
                    ["embeddings.", "encoder.", "pooler."].iter().any(|part| rest.starts_with(part))
                });
                (name.clone(), info.shape.clone(), inside)
            })
            .collect();
        all.sort();
        all
    }

    /// An encoder tensor as f32, row-major.
    ///
    /// # Errors
    /// If it is missing, has another shape or a non-float type, or holds NaN or infinity; the error names file and
    /// tensor.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let full = format!("{}{name}", self.prefix);
        self.found(&full, shape).with_context(|| {
            format!("{}: the tensor `{full}` is missing", self.shards[0].path.display())
        })?
    }

    /// A tensor of the masked-words head, under the first of these full names that exists.
    ///
    /// # Errors
    /// As [`get`](Self::get); several that differ.
    pub fn of_words_head(&self, names: &[&str], shape: &[usize]) -> Result<Vec<f32>> {
        let path = self.shards[0].path.display();
        let found = names.iter().filter_map(|name| Some((name, self.found(name, shape)?)));
        let mut first: Option<(&str, Vec<f32>)> = None;
        for (name, values) in found {
            let values = values?;
            match &first {
                None => first = Some((name, values)),
                Some((other, kept)) => ensure!(
                    *kept == values,
                    "{path}: `{other}` and `{name}` should be the same tensor but differ, so it is not known which one the \
                     head on masked words should use; save the model again with the right one in both"
                ),
            }
        }
        let (_, values) = first.with_context(|| {
            format!(
                "{path}: the tensor `{}` is missing: --task masked-lm needs the head that the checkpoint was pre-trained \
                 with, as in transformers' …ForMaskedLM or …ForPreTraining",
                names.join("` or `")
            )
        })?;
        Ok(values)
    }

    /// Checks a tensor, by its full name, against the encoder's table that it copies, if the files have it.
    ///
    /// # Errors
    /// As [`get`](Self::get); they differ.
    pub fn is_tied(&self, copy: &str, table: &str, shape: &[usize]) -> Result<()> {
        let Some(values) = self.found(copy, shape) else {
            return Ok(());
        };
        ensure!(
            values? == self.get(table, shape)?,
            "{}: `{copy}` is not the embedding table `{}{table}`: a head on masked words with its own matrix is not \
             supported",
            self.shards[0].path.display(),
            self.prefix
        );
        Ok(())
    }

    /// A tensor by its full name, if it exists.
    fn found(&self, full: &str, shape: &[usize]) -> Option<Result<Vec<f32>>> {
        // Checkpoints converted from TensorFlow keep its names for LayerNorm's parameters.
        let old = full
            .replace("LayerNorm.weight", "LayerNorm.gamma")
            .replace("LayerNorm.bias", "LayerNorm.beta");
        let name = [full, &old].into_iter().find(|name| self.owner.contains_key(*name))?;
        Some(self.shards[*self.owner.get(name)?].get(name, shape, "config.json asks for"))
    }
}

/// Reads named f32 tensors of any safetensors file: task heads given by the user.
///
/// # Errors
/// As [`ModelTensors::get`].
pub fn read_tensor(path: &Path, name: &str, shape: &[usize]) -> Result<Option<Vec<f32>>> {
    let shard = Shard::open(path.to_owned())?;
    match shard.tensors.get(name) {
        None => Ok(None),
        Some(_) => shard.get(name, shape, "the task needs").map(Some),
    }
}

/// Reads all tensors of a safetensors file: an adapter, which may have any.
///
/// # Errors
/// As [`ModelTensors::get`].
pub fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let shard = Shard::open(path.to_owned())?;
    let read = |(name, info): (&String, &TensorInfo)| {
        let data = shard.get(name, &info.shape, "its header says")?;
        Ok((name.clone(), Tensor { shape: info.shape.clone(), data }))
    };
    shard.tensors.iter().map(read).collect()
}

impl Shard {
    fn open(path: PathBuf) -> Result<Self> {
        let mut file =
            open_whole(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let open = |file: &mut File| -> Result<_, ContainerError> {
            let (header, parsed) = read_header(file)?;
            let data = header.len() as u64;
            Ok((data, parsed.laid_out(file.metadata()?.len().saturating_sub(data))?))
        };
        let (data, tensors) = open(&mut file).with_context(|| {
            let shown = path.display();
            match mistaken_file(&path) {
                Some(what) => format!("{shown}: {what}"),
                None => format!("{shown} is truncated or is not a safetensors file"),
            }
        })?;
        Ok(Self { path, file: Mutex::new(file), tensors, data })
    }

    /// `wants` is the source of the expected shape, for the error message.
    fn get(&self, name: &str, shape: &[usize], wants: &str) -> Result<Vec<f32>> {
        let place = || format!("{}: tensor `{name}`", self.path.display());
        let info = self.tensors.get(name).with_context(|| format!("{} is missing", place()))?;
        ensure!(
            info.shape == shape,
            "{} has shape {:?}, but {wants} {shape:?}",
            place(),
            info.shape
        );
        // The size has been checked against the file.
        let mut values = room(shape.iter().product(), name).with_context(place)?;
        match info.dtype {
            Dtype::F32 => self.read(info, &mut values, f32::from_le_bytes),
            Dtype::F16 => self.read(info, &mut values, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::BF16 => self.read(info, &mut values, |b| bf16::from_le_bytes(b).to_f32()),
            other => bail!("{} has type {other:?}; f32, f16 and bf16 are supported", place()),
        }
        .with_context(|| {
            format!("cannot read {}; was the file changed in the meantime?", place())
        })?;
        if let Some(at) = first_not_finite(&values) {
            bail!(
                "{} holds {} at element {at}; the checkpoint is damaged, fetch or export it again",
                place(),
                values[at]
            );
        }
        Ok(values)
    }

    /// Reads a tensor's values in pieces, so that no second copy of a large one is in memory.
    fn read<const N: usize>(
        &self,
        info: &TensorInfo,
        values: &mut Vec<f32>,
        convert: impl Fn([u8; N]) -> f32,
    ) -> Result<()> {
        let (start, end) = info.data_offsets;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.data + start as u64))?;
        let mut left = end - start;
        let mut piece = vec![0; left.min(PIECE)];
        while left > 0 {
            let bytes = &mut piece[..left.min(PIECE)];
            file.read_exact(bytes)?;
            values.extend(bytes.as_chunks::<N>().0.iter().map(|&chunk| convert(chunk)));
            left -= bytes.len();
        }
        Ok(())
    }
}

fn is_buffer(dtype: Dtype) -> bool {
    use Dtype::{BOOL, I8, I16, I32, I64, U8, U16, U32, U64};
    matches!(dtype, BOOL | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If it were mapped, the file would raise SIGBUS.
    #[test]
    fn a_file_cut_while_it_is_open_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parity/bert");
        std::fs::copy(fixture.join(WEIGHTS), &path).unwrap();
        let tensors = ModelTensors::open(folder.path(), "bert.").unwrap();
        let (name, shape, _) = tensors.list().into_iter().find(|(.., inside)| *inside).unwrap();
        let name = name.strip_prefix("bert.").unwrap_or(&name);
        assert!(tensors.get(name, &shape).is_ok());
        File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
        let error = crate::error::one_line(&tensors.get(name, &shape).unwrap_err());
        assert!(error.contains(name) && error.contains("changed in the meantime"), "{error}");
    }
}
