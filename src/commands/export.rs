//! `bitfit export`: a delta as an adapter that PEFT loads.

use super::base::Base;
use super::card::{self, CardForm, CardOf};
use super::say;
use super::trained::{belongs_to, fits, read_delta, task_spec};
use crate::cli::ExportArgs;
use crate::files::{only_files, write_bytes_atomic};
use crate::formats::adapter::write::{BeftAdapter, beft_of};
use crate::formats::container::write_file;
use crate::formats::delta::Delta;
use crate::formats::model_files::{ADAPTER, ADAPTER_WEIGHTS, CARD, HEAD};
use crate::formats::model_folder::Unfinished;
use crate::formats::model_head;
use crate::formats::model_tensors::ModelTensors;
use crate::model::load::outline_of;
use crate::settings::choice::WeightStorage;
use crate::train::output::{OutputFolder, delta_path};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::Path;

pub fn run(args: &ExportArgs) -> Result<()> {
    let path = delta_path(&args.delta)?;
    let delta = read_delta(&path)?;
    let base = Base::of_delta(&path, &delta.info, args.model.as_deref(), args.quiet)?;
    belongs_to(&delta, &path, &base)?;
    // The adapter has no tokenizer: its reader uses the base's, which must be the one from training.
    base.tokenizer_of(&delta.info, None, args.quiet)?;
    let named = card::name_of_base(&delta.info, args.model.as_deref());
    let adapter =
        adapter_of(&delta, &base, &named).with_context(|| format!("delta {}", path.display()))?;

    let folder = args.peft.as_path();
    let output = OutputFolder::for_adapter(folder)?;
    let result = only_files(folder, &[ADAPTER, ADAPTER_WEIGHTS])
        .and_then(|()| card::can_be_written(folder, args.replace_card))
        .context("--peft")
        .and_then(|()| {
            let names = [ADAPTER_WEIGHTS, HEAD, CARD, ADAPTER];
            let unfinished = Unfinished::among(folder, &names);
            write(args, &path, &delta, &adapter).inspect_err(|_| unfinished.remove())
        });
    if result.is_err() {
        output.remove_if_unused();
    }
    result
}

/// Checks the delta against its base and builds the adapter. `named` is what the adapter calls the base.
fn adapter_of(delta: &Delta, base: &Base, named: &str) -> Result<BeftAdapter> {
    let prefix = base.config.family.prefix();
    let file = ModelTensors::open(&base.folder, prefix)?;
    let own = |name: &str, shape: &[usize]| own_values(&file, name, shape);
    let named = match named.split_once('@') {
        Some((name, revision)) => (name, Some(revision)),
        None => (named, None),
    };
    let adapter = beft_of(delta, prefix, named, &own)?;
    fits(delta, base.sha256()?, &outline_of(&file, &base.config, &task_spec(&delta.info))?)?;
    base.unchanged()?;
    Ok(adapter)
}

/// A tensor of the base; `None` for the bias of a linear layer without one.
pub(super) fn own_values(
    file: &ModelTensors,
    name: &str,
    shape: &[usize],
) -> Result<Option<Vec<f32>>> {
    let may_lack = name.ends_with(".bias") && !name.contains("LayerNorm");
    match may_lack && !file.has(name) {
        true => Ok(None),
        false => file.get(name, shape).map(Some),
    }
}

/// Writes the folder; the configuration last, so that an incomplete adapter is not taken for one.
fn write(args: &ExportArgs, path: &Path, delta: &Delta, adapter: &BeftAdapter) -> Result<()> {
    let folder = args.peft.as_path();
    let (head, mut metadata) = (folder.join(HEAD), adapter.metadata.clone());
    if !adapter.head.is_empty() {
        write_file(&head, &BTreeMap::new(), &adapter.head)?;
        model_head::seal(folder, &mut metadata)?;
    } else if head.exists() {
        // Left by a killed writer; it would be read with this adapter.
        std::fs::remove_file(&head).with_context(|| format!("cannot remove {}", head.display()))?;
    }
    write_file(&folder.join(ADAPTER_WEIGHTS), &metadata, &adapter.tensors)?;
    let card = CardOf {
        written: CardForm::Adapter,
        delta: path,
        info: &delta.info,
        model: args.model.as_deref(),
    };
    card.write(folder, args.replace_card, args.quiet)?;
    let config = format!("{:#}\n", adapter.config);
    write_bytes_atomic(&folder.join(ADAPTER), config.as_bytes())?;
    if !adapter.head.is_empty() {
        say(
            args.quiet,
            format_args!(
                "PEFT has no class for a head on mean pooling: it is written next to the adapter as {HEAD} (logits = \
                 classifier.weight · mean of the last hidden states over the tokens + classifier.bias)"
            ),
        );
    }
    let stored = delta.info.settings.weights;
    if stored != WeightStorage::F32 {
        say(
            args.quiet,
            format_args!(
                "the run's matrices were {stored}, and PEFT uses those of the base's files: logits may differ by the \
                 rounding; `bitfit predict --weights f32` uses the files' matrices too"
            ),
        );
    }
    say(args.quiet, format_args!("adapter: {}", folder.display()));
    Ok(())
}
