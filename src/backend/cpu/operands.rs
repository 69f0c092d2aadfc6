//! The tensors of an operation as borrowed from the arena, with the shapes that the operation expects for the current
//! batch.

use super::batch::HostBatch;
use super::elements::{Arithmetic, Stored};
use crate::program::{Over, Program, Region, Rows, Value};
use anyhow::{Result, ensure};

/// A region and the number of its 32-bit words: what [`Arena::regions`](super::arena::Arena::regions) takes.
pub type Words = (Option<Region>, usize);

/// `[rows, width]`
pub type TensorShape = (Rows, usize);

/// Values as seen by the operations on the current batch.
#[derive(Clone, Copy)]
pub struct Operands<'a> {
    program: &'a Program,
    batch: &'a HostBatch,
    arithmetic: Arithmetic,
}

impl<'a> Operands<'a> {
    pub fn new(program: &'a Program, batch: &'a HostBatch, arithmetic: Arithmetic) -> Self {
        Self { program, batch, arithmetic }
    }

    /// Its rows and its width, which is nonzero.
    pub fn shape(self, value: Value) -> Result<TensorShape> {
        let tensor = self.program.list().info(value);
        ensure!(tensor.width > 0, "{value:?} has no columns");
        Ok((tensor.rows, tensor.width))
    }

    /// A tensor of f32 elements.
    ///
    /// # Errors
    /// If it is stored otherwise or has another shape.
    pub fn whole(self, value: Value, shape: TensorShape) -> Result<Words> {
        let (words, stored) = self.stored(value, shape)?;
        ensure!(stored == Stored::F32, "{value:?} is stored as {stored:?}");
        Ok(words)
    }

    /// The same for a tensor that may be left out.
    pub fn aside(self, value: Option<Value>, shape: TensorShape) -> Result<Words> {
        value.map_or(Ok((None, 0)), |value| self.whole(value, shape))
    }

    /// The common place of both values.
    ///
    /// # Errors
    /// As [`whole`](Self::whole), and if their places differ.
    pub fn over(self, over: Over, shape: TensorShape) -> Result<Words> {
        self.together(over)?;
        self.whole(over.now, shape)
    }

    /// # Errors
    /// If the two values do not share one place.
    pub fn together(self, over: Over) -> Result<()> {
        ensure!(
            self.program.region(over.was) == self.program.region(over.now),
            "{:?} does not lie over {:?}",
            over.now,
            over.was
        );
        Ok(())
    }

    /// A tensor, and how it is stored.
    pub fn stored(self, value: Value, (rows, width): TensorShape) -> Result<(Words, Stored)> {
        let tensor = self.program.list().info(value);
        ensure!(
            (tensor.rows, tensor.width) == (rows, width),
            "{value:?} is [{:?}, {}] where [{rows:?}, {width}] belongs",
            tensor.rows,
            tensor.width
        );
        let (rows, element) = (self.batch.rows(rows), self.arithmetic.element_bytes());
        let bytes = tensor.storage.bytes(rows, width, element);
        let words = (Some(self.program.region(value)), bytes / 4);
        Ok((words, self.arithmetic.stored(tensor.storage)))
    }
}
