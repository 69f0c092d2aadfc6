//! Sections: what is recorded once and replayed for every batch of the same bucket (`graph`).

use super::CudaBackend;
use super::graph::bucket;
use crate::backend::Section;
use anyhow::{Result, ensure};

/// Announces a section; returns whether its operations must be issued, false where a recording did it all.
pub fn begin(cuda: &mut CudaBackend, section: Section) -> Result<bool> {
    let (record, device) = (cuda.options.graphs, cuda.device.clone());
    let memory = cuda.memory_mut()?;
    ensure!(
        !memory.batch.in_section(),
        "a section inside of a section: {}",
        section.name
    );
    let mut numbers = memory.numbers.current().with_weight(section.weight);
    if let Some(update) = section.update {
        numbers = numbers.with_update(update);
    }
    memory.numbers.at(numbers)?;
    let grid = memory
        .batch
        .enter(section.limits, |shape| bucket(shape, section.limits))?;
    memory.numbers.fix(true);
    if !record {
        return Ok(true);
    }
    let key = (section.name, grid);
    let labels = memory.batch.labels;
    match memory.graphs.replay(key, |need| need.check(labels)) {
        Ok(false) => {
            memory.graphs.begin(&device, key)?;
            Ok(true)
        }
        done => {
            leave(cuda)?;
            done.map(|_| false)
        }
    }
}

/// Ends the section that [`begin`] announced; `whole` where all its operations were issued without an error.
pub fn end(cuda: &mut CudaBackend, whole: bool) -> Result<()> {
    let device = cuda.device.clone();
    let ended = cuda.memory_mut()?.graphs.end(&device, whole);
    leave(cuda)?;
    ended
}

fn leave(cuda: &mut CudaBackend) -> Result<()> {
    let memory = cuda.memory_mut()?;
    memory.numbers.fix(false);
    memory.batch.leave();
    Ok(())
}
