//! Frozen matrices shared by several backends: models of one checkpoint, each with its own backend, keep their frozen
//! weights in memory once.
//!
//! A backend with a [`Resident`] asks it first, and what it uploads itself is available to the next. Models may ask for
//! different matrices (another head, a pooler); a matrix is identified by its name, its shape and how it is stored. All
//! users must be models of one checkpoint, as names do not identify the file.

use super::cpu::FrozenMatrix;
use super::cuda::DeviceMatrix;
use super::{MatrixKind, MatrixShape};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The matrices of one checkpoint; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Resident(Arc<Shelves>);

#[derive(Debug, Default)]
struct Shelves {
    host: Shelf<Arc<FrozenMatrix>>,
    device: Shelf<DeviceMatrix>,
    loading: Mutex<()>,
}

impl Resident {
    pub fn host(&self) -> &Shelf<Arc<FrozenMatrix>> {
        &self.0.host
    }

    pub fn device(&self) -> &Shelf<DeviceMatrix> {
        &self.0.device
    }

    /// Models are loaded one at a time: two that find a matrix missing would both upload it.
    pub fn loading(&self) -> MutexGuard<'_, ()> {
        self.0.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of all its matrices, counted once each.
    pub fn bytes(&self) -> usize {
        self.0.host.sum(|matrix| matrix.bytes()) + self.0.device.sum(DeviceMatrix::bytes)
    }
}

/// What distinguishes a matrix from all others of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Label {
    name: String,
    table: bool,
    rows: usize,
    cols: usize,
    /// On which device and in which types.
    stored: String,
}

impl Label {
    pub fn new(name: &str, shape: MatrixShape, stored: String) -> Self {
        let MatrixShape { kind, rows, cols, .. } = shape;
        Self { name: name.to_owned(), table: kind == MatrixKind::Table, rows, cols, stored }
    }
}

/// Matrices of one kind of device.
#[derive(Debug)]
pub struct Shelf<M>(Mutex<HashMap<Label, M>>);

impl<M> Default for Shelf<M> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<M: Clone> Shelf<M> {
    pub fn get(&self, label: &Label) -> Option<M> {
        self.all().get(label).cloned()
    }

    pub fn put(&self, label: Label, matrix: M) {
        self.all().insert(label, matrix);
    }

    fn sum(&self, of: impl Fn(&M) -> usize) -> usize {
        self.all().values().map(of).sum()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Label, M>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
