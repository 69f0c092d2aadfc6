//! The flat parameter vector, with gradient and moments for its trainable part.

use crate::backend::Slot;
use crate::program::ParamRange;
use crate::program::Sum;
use crate::room::filled;
use anyhow::{Result, ensure};
use std::ops::Range;

#[derive(Default)]
pub struct HostParams {
    /// All parameters; the trainable ones first.
    pub value: Vec<f32>,
    pub gradient: Vec<f32>,
    pub moment1: Vec<f32>,
    pub moment2: Vec<f32>,
}

impl HostParams {
    /// `count` parameters of which the first `trainable` train and the first `with_gradient` have a gradient; all zero.
    pub fn new(count: usize, trainable: usize, with_gradient: usize) -> Result<Self> {
        ensure!(
            trainable <= with_gradient && with_gradient <= count,
            "{trainable} trainable parameters and {with_gradient} gradients of {count} parameters"
        );
        Ok(Self {
            value: filled(0.0, count, "parameters")?,
            gradient: filled(0.0, with_gradient, "gradients")?,
            moment1: filled(0.0, trainable, "the optimizer's moments")?,
            moment2: filled(0.0, trainable, "the optimizer's moments")?,
        })
    }

    pub fn slot(&self, slot: Slot) -> &[f32] {
        match slot {
            Slot::Value => &self.value,
            Slot::Gradient => &self.gradient,
            Slot::Moment1 => &self.moment1,
            Slot::Moment2 => &self.moment2,
        }
    }

    pub fn slot_mut(&mut self, slot: Slot) -> &mut [f32] {
        match slot {
            Slot::Value => &mut self.value,
            Slot::Gradient => &mut self.gradient,
            Slot::Moment1 => &mut self.moment1,
            Slot::Moment2 => &mut self.moment2,
        }
    }
}

fn checked(range: ParamRange, len: usize) -> Result<Range<usize>> {
    ensure!(
        range.offset <= len && range.len <= len - range.offset,
        "parameters {}..{} are outside a vector of {len}",
        range.offset,
        range.offset.saturating_add(range.len)
    );
    Ok(range.offset..range.offset + range.len)
}

/// Elements of `range`, which must have length `len`.
pub fn read(vector: &[f32], range: ParamRange) -> Result<&[f32]> {
    Ok(&vector[checked(range, vector.len())?])
}

/// As [`read`], for writing.
pub fn write(vector: &mut [f32], range: ParamRange) -> Result<&mut [f32]> {
    let range = checked(range, vector.len())?;
    Ok(&mut vector[range])
}

/// `range` after checking that it has `width` elements.
pub fn wide(range: ParamRange, width: usize, what: &str) -> Result<ParamRange> {
    ensure!(range.len == width, "{what} has {} elements where {width} are needed", range.len);
    Ok(range)
}

/// Gradients of several ranges at once.
///
/// # Errors
/// If a range does not train, or two overlap.
pub fn gradients<const N: usize>(
    vector: &mut [f32],
    wanted: [Option<ParamRange>; N],
) -> Result<[Option<&mut [f32]>; N]> {
    let mut ranges: [Range<usize>; N] = std::array::from_fn(|_| 0..0);
    for (range, wanted) in ranges.iter_mut().zip(wanted) {
        if let Some(wanted) = wanted {
            *range = checked(wanted, vector.len())
                .map_err(|e| e.context("a gradient was asked for what does not train"))?;
        }
    }
    let slices = vector
        .get_disjoint_mut(ranges)
        .map_err(|_| anyhow::anyhow!("the gradients of one operation overlap: {wanted:?}"))?;
    let mut wanted = wanted.iter();
    Ok(slices.map(|slice| wanted.next().and_then(Option::as_ref).map(|_| slice)))
}

/// Gradients of biases of `width` elements, if requested.
pub fn bias_gradients<const N: usize>(
    vector: &mut [f32],
    sums: [Sum; N],
    width: usize,
) -> Result<[Option<&mut [f32]>; N]> {
    for range in sums.into_iter().filter_map(|sum| sum.0) {
        wide(range, width, "a bias gradient")?;
    }
    gradients(vector, sums.map(|sum| sum.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frozen_parameters_have_no_gradient() {
        let mut params = HostParams::new(10, 4, 4).unwrap();
        let frozen = ParamRange { offset: 3, len: 2 };
        assert!(gradients(&mut params.gradient, [Some(frozen)]).is_err());
        let trained = ParamRange { offset: 2, len: 2 };
        assert!(gradients(&mut params.gradient, [Some(trained), None]).is_ok());
        assert!(gradients(&mut params.gradient, [Some(trained), Some(trained)]).is_err());
        assert!(HostParams::new(3, 4, 4).is_err() && HostParams::new(3, 2, 1).is_err());
    }
}
