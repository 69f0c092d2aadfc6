//! Frozen matrices that several backends share: models of one checkpoint, each with a backend of its own, whose frozen weights
//! lie in memory once.
//!
//! A backend that was given a [`Resident`] asks it first, and what it uploads itself is there for the next. Which matrices a
//! model asks for may differ (a head of its own, a pooler); what each is follows from its name, its shape and how it is
//! stored. All users must be models of one checkpoint, as names say nothing of the file.

use super::cpu::FrozenMatrix;
use super::cuda::DeviceMatrix;
use super::{MatrixKind, MatrixShape};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The matrices of one checkpoint; a clone is the same.
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

    /// One model is loaded at a time: two that find a matrix missing would both bring it.
    pub fn loading(&self) -> MutexGuard<'_, ()> {
        self.0.loading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that all its matrices take, once each.
    pub fn bytes(&self) -> usize {
        self.0.host.sum(|matrix| matrix.bytes()) + self.0.device.sum(DeviceMatrix::bytes)
    }
}

/// What tells a matrix from all others of a checkpoint.
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
