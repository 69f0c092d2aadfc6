//! One worker's plain counters, summed at the end of a launch.

use crate::counters::KernelCounters;
use crate::decode::ir::Class;

#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub classes: [u64; Class::ALL.len()],
    pub active_lanes: u64,
    pub mma: u64,
    pub mma_flops: u64,
    pub global_loads: u64,
    pub global_stores: u64,
    pub global_atomics: u64,
    pub global_bytes: u64,
    pub sectors: u64,
    pub sectors_ideal: u64,
    pub shared_requests: u64,
    pub shared_bytes: u64,
    pub conflicts: u64,
    pub local_bytes: u64,
    pub barriers: u64,
    pub async_copies: u64,
    pub bulk_read_bytes: u64,
}

impl Tally {
    pub fn add_to(&self, k: &mut KernelCounters) {
        for (n, (_, name)) in self.classes.iter().zip(Class::ALL) {
            if *n > 0 {
                *k.by_class.entry(name).or_default() += n;
            }
            k.warp_instructions += n;
        }
        k.active_lanes += self.active_lanes;
        k.mma += self.mma;
        k.mma_flops += self.mma_flops;
        k.global_load_requests += self.global_loads;
        k.global_store_requests += self.global_stores;
        k.global_atomic_requests += self.global_atomics;
        k.global_bytes_asked += self.global_bytes;
        k.global_sectors += self.sectors;
        k.global_sectors_ideal += self.sectors_ideal;
        k.shared_requests += self.shared_requests;
        k.shared_bytes += self.shared_bytes;
        k.shared_bank_conflicts += self.conflicts;
        k.local_bytes += self.local_bytes;
        k.barriers += self.barriers;
        k.async_copies += self.async_copies;
        k.bulk_read_bytes += self.bulk_read_bytes;
    }
}

/// Extra passes a shared-memory request needs: 32 banks of four bytes, one word from each per pass. Accesses of 8 and
/// 16 bytes go by half and quarter warps, and a lane's 8 or 16 bytes stay together.
pub fn conflicts(offsets: &[u64; 32], mask: u32, bytes: u64) -> u64 {
    let (shift, lanes) = match bytes {
        0..=4 => (2, 32),
        5..=8 => (3, 16),
        _ => (4, 8),
    };
    // Neighbouring lanes at neighbouring places, the most common request, never conflict.
    let step = 1u64 << shift;
    if mask == u32::MAX && bytes == step {
        let mut off = 0;
        for (lane, &offset) in offsets.iter().enumerate() {
            off |= offset.wrapping_sub(offsets[0]) ^ (lane as u64 * step);
        }
        if off == 0 {
            return 0;
        }
    }
    let mut extra = 0;
    for phase in 0..32 / lanes {
        // The first unit seen in each bank; a second one means a conflict, counted below.
        let mut taken = 0u32;
        let mut first = [0u64; 32];
        let mut clash = false;
        let phase = phase * lanes..(phase + 1) * lanes;
        for (lane, &offset) in phase.clone().zip(&offsets[phase.clone()]) {
            if mask >> lane & 1 == 0 {
                continue;
            }
            let unit = offset >> shift;
            let bank = unit as usize % lanes;
            if taken >> bank & 1 == 0 {
                taken |= 1 << bank;
                first[bank] = unit;
            }
            clash |= first[bank] != unit;
        }
        if clash {
            extra += deepest(&offsets[phase.clone()], mask >> phase.start, shift) - 1;
        }
    }
    extra
}

/// The largest number of distinct units that fall into one bank.
#[cold]
fn deepest(offsets: &[u64], mask: u32, shift: u32) -> u64 {
    let banks = offsets.len() as u64;
    let mut units: Vec<u64> =
        (0..offsets.len()).filter(|l| mask >> l & 1 != 0).map(|l| offsets[l] >> shift).collect();
    units.sort_unstable();
    units.dedup();
    let mut depth = [0u64; 32];
    units.iter().for_each(|u| depth[(u % banks) as usize] += 1);
    depth.into_iter().max().unwrap_or(1)
}

/// The distinct 32-byte sectors a request touches, sorted.
pub fn sectors(addresses: &[u64; 32], mask: u32, bytes: u64, out: &mut [u64; 64]) -> usize {
    let mut n = 0;
    let mut sorted = true;
    for (lane, &address) in addresses.iter().enumerate() {
        if mask >> lane & 1 == 0 {
            continue;
        }
        for sector in address / 32..=(address + bytes - 1) / 32 {
            if n > 0 && out[n - 1] == sector {
                continue;
            }
            sorted &= n == 0 || out[n - 1] < sector;
            if n < 64 {
                out[n] = sector;
                n += 1;
            }
        }
    }
    if sorted {
        return n;
    }
    out[..n].sort_unstable();
    let mut kept = 1;
    for at in 1..n {
        if out[at] != out[kept - 1] {
            out[kept] = out[at];
            kept += 1;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(bytes: u64, at: impl Fn(u64) -> u64) -> u64 {
        conflicts(&std::array::from_fn(|l| at(l as u64)), u32::MAX, bytes)
    }

    #[test]
    fn bank_conflicts() {
        assert_eq!(count(4, |l| 4 * l), 0);
        assert_eq!(count(4, |_| 64), 0);
        assert_eq!(count(4, |l| 8 * l), 1);
        assert_eq!(count(4, |l| 128 * l), 31);
        assert_eq!(count(2, |l| 2 * l), 0);
        assert_eq!(count(4, |l| 128 * (l % 2)), 1);
        assert_eq!(count(8, |l| 8 * l), 0);
        assert_eq!(count(8, |l| 16 * l), 2);
        // Four phases of eight lanes: rows of 128 bytes collide eightfold, XOR-swizzled ones do not.
        assert_eq!(count(16, |l| 16 * l), 0);
        assert_eq!(count(16, |l| 128 * l), 28);
        assert_eq!(count(16, |l| 128 * (l % 8) + ((l % 8) ^ (l / 8)) * 16), 0);
        // Only the active lanes count.
        let offsets = std::array::from_fn(|l| 128 * l as u64);
        assert_eq!(conflicts(&offsets, 0b11, 4), 1);
    }

    #[test]
    fn distinct_sectors() {
        let mut out = [0; 64];
        let mut count = |bytes, at: &dyn Fn(u64) -> u64| {
            sectors(&std::array::from_fn(|l| at(l as u64)), u32::MAX, bytes, &mut out)
        };
        assert_eq!(count(4, &|l| 4 * l), 4);
        assert_eq!(count(16, &|l| 16 * l), 16);
        assert_eq!(count(4, &|l| 32 * (31 - l)), 32);
        assert_eq!(count(4, &|l| 32 * (l % 2)), 2);
        assert_eq!(count(4, &|_| 100), 1);
    }
}
