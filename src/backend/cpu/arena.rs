//! The memory of all activations: one allocation, lent out region by region.
//!
//! An operation asks for all of its regions at once and gets them as slices; overlapping regions are an immediate
//! error, so an operation never sees two views of the same memory.

use super::aligned::Aligned;
use crate::program::Region;
use anyhow::{Result, bail, ensure};
use std::ops::Range;

#[derive(Default)]
pub struct Arena {
    memory: Aligned,
}

impl Arena {
    /// Allocates `bytes`. Debug builds fill it with NaN to reveal reads before the first write.
    ///
    /// # Errors
    /// If the system has no room.
    pub fn allocate(bytes: usize) -> Result<Self> {
        let fill = if cfg!(debug_assertions) { f32::NAN } else { 0.0 };
        let memory = Aligned::new(bytes.div_ceil(4), fill, "activations")?;
        Ok(Self { memory })
    }

    /// Bytes allocated.
    pub fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    /// The first `count` elements of each region; `None` gives an empty slice.
    ///
    /// # Errors
    /// If a region is misaligned, too small, outside the arena, or overlaps another of the same call.
    pub fn regions<const N: usize>(
        &mut self,
        wanted: [(Option<Region>, usize); N],
    ) -> Result<[&mut [f32]; N]> {
        let floats = self.memory.as_mut_slice();
        let mut ranges: [Range<usize>; N] = std::array::from_fn(|_| 0..0);
        for (range, (region, count)) in ranges.iter_mut().zip(wanted) {
            if let Some(region) = region {
                *range = range_of(region, count, floats.len())?;
            }
        }
        match floats.get_disjoint_mut(ranges) {
            Ok(slices) => Ok(slices),
            Err(_) => bail!("the regions of one operation overlap: {wanted:?}"),
        }
    }

    /// The first `count` elements of a region, read-only.
    pub fn read(&self, region: Region, count: usize) -> Result<&[f32]> {
        let floats = self.memory.as_slice();
        let range = range_of(region, count, floats.len())?;
        Ok(&floats[range])
    }
}

fn range_of(region: Region, count: usize, arena: usize) -> Result<Range<usize>> {
    ensure!(region.offset.is_multiple_of(4), "region {region:?} is not aligned to its elements");
    ensure!(
        count.saturating_mul(4) <= region.len,
        "region {region:?} is too small for {count} f32 elements"
    );
    let start = region.offset / 4;
    ensure!(
        start <= arena && count <= arena - start,
        "region {region:?} is outside the arena of {} bytes",
        arena * 4
    );
    Ok(start..start + count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(offset: usize, len: usize) -> Option<Region> {
        Some(Region { offset, len })
    }

    #[test]
    fn overlapping_regions_of_one_call_are_refused() {
        let mut arena = Arena::allocate(1024).unwrap();
        assert!(arena.regions([(region(0, 64), 16), (region(60, 64), 4)]).is_err());
        assert!(arena.regions([(region(0, 64), 16), (region(64, 64), 16)]).is_ok());
        assert!(arena.regions([(region(0, 64), 16), (None, 5)]).is_ok());
    }

    #[test]
    fn regions_outside_the_arena_or_too_small_are_refused() {
        let mut arena = Arena::allocate(128).unwrap();
        assert!(arena.regions([(region(64, 128), 32)]).is_err());
        assert!(arena.regions([(region(0, 8), 3)]).is_err());
        assert!(arena.regions([(region(2, 8), 1)]).is_err());
        assert!(arena.read(Region { offset: usize::MAX - 3, len: 4 }, 1).is_err());
    }

    #[test]
    fn memory_is_aligned_to_cache_lines() {
        let mut arena = Arena::allocate(100).unwrap();
        let [slice] = arena.regions([(region(0, 128), 32)]).unwrap();
        assert_eq!(slice.as_ptr() as usize % 64, 0);
    }

    #[test]
    #[cfg(debug_assertions)]
    fn fresh_memory_is_poisoned_in_debug_builds() {
        let arena = Arena::allocate(64).unwrap();
        let all = arena.read(Region { offset: 0, len: 64 }, 16).unwrap();
        assert!(all.iter().all(|x| x.is_nan()));
    }
}
