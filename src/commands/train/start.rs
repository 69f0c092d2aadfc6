//! `--init-delta`: a run whose biases begin where another one's ended.

use crate::commands::base::Base;
use crate::commands::say;
use crate::commands::trained::{belongs_to, read_delta};
use crate::model::Model;
use crate::model::params::ParamKind;
use crate::train::output::delta_path;
use crate::words::count;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// The file of a delta that is named by itself or by the folder of its run.
pub fn file_of(path: &Path) -> Result<PathBuf> {
    delta_path(path).context("--init-delta")
}

/// Takes the biases of a delta for the model's first.
///
/// # Errors
/// A delta on another base, or one with biases that this run does not train: its result would lack them.
pub fn with_delta(path: &Path, base: &Base, model: &mut Model, quiet: bool) -> Result<()> {
    let path = &file_of(path)?;
    let delta = read_delta(path).context("--init-delta")?;
    belongs_to(&delta, path, base).context("--init-delta")?;
    let shown = path.display();
    let (mut taken, mut values, mut others) = (Vec::new(), 0, 0);
    for (name, tensor) in &delta.tensors {
        let of_encoder = |kind| matches!(kind, ParamKind::Bias(_));
        let mut params = model.params.list().iter();
        let Some(param) = params.find(|param| param.name == *name && of_encoder(param.kind)) else {
            others += 1;
            continue;
        };
        if !param.trains {
            bail!(
                "--init-delta: {shown} has learned `{name}`, which this run does not train, so that its result would lack \
                 it; train it too (--biases all)"
            );
        }
        ensure!(
            param.shape == tensor.shape,
            "--init-delta: {shown}: the tensor `{name}` has shape {:?}, and the model needs {:?}",
            tensor.shape,
            param.shape
        );
        values += tensor.data.len();
        taken.push((param.range, &tensor.data));
    }
    ensure!(
        !taken.is_empty(),
        "--init-delta: {shown} has no bias of this model: it was trained with --method {}",
        delta.info.method
    );
    let biases = count(taken.len(), "bias vector");
    for (range, data) in taken {
        model.params.set_initial(range, data);
    }
    let rest = match others {
        0 => String::new(),
        others => format!(
            "; {} of its head {} not used",
            count(others, "tensor"),
            crate::words::are(others)
        ),
    };
    say(
        quiet,
        format_args!(
            "--init-delta: {biases} ({values} values) begin where {shown} left them, trained for {}{rest}",
            delta.info.task
        ),
    );
    Ok(())
}
