//! How a reader of a file ends: after its last item, at its first error, or with an error if there was no item.

use anyhow::{Error, Result};

#[derive(Default)]
pub(super) struct Ending {
    any: bool,
    done: bool,
}

impl Ending {
    /// Whether there was an item.
    pub fn any(&self) -> bool {
        self.any
    }

    /// Whether nothing more comes.
    pub fn done(&self) -> bool {
        self.done
    }

    /// What an iterator returns for what was read; `none` is the error for a file without items.
    pub fn after<T>(
        &mut self,
        read: Result<Option<T>>,
        none: impl FnOnce() -> Error,
    ) -> Option<Result<T>> {
        let item = read.transpose();
        match &item {
            Some(Ok(_)) => self.any = true,
            _ => self.done = true,
        }
        if item.is_none() && !self.any {
            return Some(Err(none()));
        }
        item
    }
}
