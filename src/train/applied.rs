//! Whether a run has changed anything: in f16 it may end before any step could be applied.

use super::run::Diverged;
use crate::backend::Slot;
use crate::session::Session;
use anyhow::{Result, bail};

/// Refuses to end a run of `steps` in which the loss scale never fell far enough for a step to be applied: 16 steps with
/// the initial scale, after which a gradient that is not finite is an error by itself. `applied`: whether a step of this
/// process was.
///
/// # Errors
/// Nothing was trained: neither by this process, nor by the one whose run it continues, as the moments show.
pub fn hold_applied(session: &Session, applied: bool, steps: u64) -> Result<()> {
    let Some(scaling) = session.loss_scaling()?.filter(|_| !applied && steps > 0) else {
        return Ok(());
    };
    let moments = session.read(Slot::Moment1, session.model().params.trained_range())?;
    if scaling.good_steps > 0 || moments.iter().any(|&moment| moment != 0.0) {
        return Ok(());
    }
    let which = match steps {
        1 => "its only step".to_owned(),
        _ => format!("each of the {steps} steps"),
    };
    bail!(Diverged::new(format!(
        "nothing was trained: the gradient left the range of f16 in {which}, and the loss scale fell to {}; use \
         --precision bf16, or more steps",
        scaling.scale
    )))
}
