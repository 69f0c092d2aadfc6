//! A second stream for work whose results the operations need later; in a recording it is a branch of the graph.

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

    /// Where on the operations' stream a branch can begin from here on.
    pub fn mark(&self, device: &Device) -> Result<()> {
        self.marked.record(&device.stream).context(FAILED)
    }

    /// What is put on the branch's stream from here on runs behind the mark, and beside all else until [`Branch::join`].
    pub fn fork(&self) -> Result<()> {
        self.stream.wait(&self.marked).context(FAILED)
    }

    /// What is launched from here on waits for the branch. A recording must not end before it.
    pub fn join(&self, device: &Device) -> Result<()> {
        self.done.record(&self.stream).context(FAILED)?;
        device.stream.wait(&self.done).context(FAILED)
    }
}
