//! A second stream for work whose results the operations need later; in a recording it becomes a branch of the graph.

use super::device::Device;
use anyhow::{Context, Result};
use cudarc::driver::{CudaEvent, CudaStream};
use std::sync::Arc;

const FAILED: &str = "cannot order what runs beside the operations";

#[derive(Debug)]
pub struct Branch {
    pub stream: Arc<CudaStream>,
    marked: CudaEvent,
    done: CudaEvent,
}

impl Branch {
    pub fn new(device: &Device) -> Result<Self> {
        let context = device.stream.context();
        Ok(Self {
            stream: context.new_stream()?,
            marked: context.new_event(None)?,
            done: context.new_event(None)?,
        })
    }

    /// Marks the point on the operations' stream from which a branch can begin.
    pub fn mark(&self, device: &Device) -> Result<()> {
        self.marked.record(&device.stream).context(FAILED)
    }

    /// What is issued to the branch's stream from now on runs after the mark and concurrently with all else until
    /// [`Branch::join`].
    pub fn fork(&self) -> Result<()> {
        self.stream.wait(&self.marked).context(FAILED)
    }

    /// What is launched from now on waits for the branch. A recording must not end before this.
    pub fn join(&self, device: &Device) -> Result<()> {
        self.done.record(&self.stream).context(FAILED)?;
        device.stream.wait(&self.done).context(FAILED)
    }
}
