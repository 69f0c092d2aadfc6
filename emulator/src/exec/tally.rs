//! Plain counters of one worker, summed at the end of a launch.

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
    }
}

/// Extra passes a shared-memory request needs: 32 banks of four bytes, one word from each in a pass. Accesses
/// of 8 and 16 bytes go by half and quarter warps.
pub fn conflicts(offsets: &[u64; 32], mask: u32, bytes: u64) -> u64 {
    let lanes = match bytes {
        0..=4 => 32,
        5..=8 => 16,
        _ => 8,
    };
    let words = bytes.div_ceil(4);
    let mut extra = 0;
    for phase in 0..32 / lanes {
        let mut seen = [[0u32; 32]; 32];
        let mut depth = [0usize; 32];
        for lane in phase * lanes..(phase + 1) * lanes {
            if mask >> lane & 1 == 0 {
                continue;
            }
            for k in 0..words.min(4) {
                let word = (offsets[lane] / 4 + k) as u32;
                let bank = (word % 32) as usize;
                if !seen[bank][..depth[bank]].contains(&word) && depth[bank] < 32 {
                    seen[bank][depth[bank]] = word;
                    depth[bank] += 1;
                }
            }
        }
        extra += depth.iter().max().map_or(0, |&d| d.saturating_sub(1)) as u64;
    }
    extra
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
