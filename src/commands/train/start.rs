//! `--init-delta`: a run that starts from the result of another, except for the head.

use crate::commands::base::Base;
use crate::commands::say;
use crate::commands::trained::{belongs_to, read_delta};
use crate::model::Model;
use crate::model::params::ParamKind;
use crate::train::output::delta_path;
use crate::words::count;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// The file of a delta, given by itself or by the folder of its run.
pub fn file_of(path: &Path) -> Result<PathBuf> {
    delta_path(path).context("--init-delta")
}

/// Uses a delta's values of the encoder as the model's initial values.
///
/// # Errors
/// A delta on another base, or with values that this run does not train: its result would lack them.
pub fn with_delta(path: &Path, base: &Base, model: &mut Model, quiet: bool) -> Result<()> {
    let path = &file_of(path)?;
    let delta = read_delta(path).context("--init-delta")?;
    belongs_to(&delta, path, base).context("--init-delta")?;
    let shown = path.display();
    let prefix = base.config.family.prefix();
    // The pooler belongs to a head: another pooling has none.
    let of_encoder = |name: &str| name.starts_with(prefix) && !name.contains(".pooler.");
    let (mut taken, mut values, mut others) = (Vec::new(), 0, 0);
    for (name, tensor) in &delta.tensors {
        let mut params = model.params.list().iter().filter(|param| param.kind != ParamKind::Head);
        let param = match params.find(|param| param.name == *name) {
            Some(param) if param.trains => param,
            None if !of_encoder(name) => {
                others += 1;
                continue;
            }
            _ => bail!(
                "--init-delta: {shown} has trained `{name}`, which this run does not train, so its result would lack it; \
                 train it too (it was trained with --method {})",
                delta.info.method.with_biases(&delta.info.biases)
            ),
        };
        ensure!(
            param.shape == tensor.shape,
            "--init-delta: {shown}: the tensor `{name}` has shape {:?}, but this run's has {:?}",
            tensor.shape,
            param.shape
        );
        values += tensor.data.len();
        taken.push((param.range, &tensor.data));
    }
    ensure!(
        !taken.is_empty(),
        "--init-delta: {shown} has no encoder values: it was trained with --method {}",
        delta.info.method
    );
    let begin = count(taken.len(), "tensor");
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
            "--init-delta: {begin} of the encoder ({values} values) start from {shown}, trained for {}{rest}",
            delta.info.task
        ),
    );
    Ok(())
}
