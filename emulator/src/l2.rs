//! A model of the L2 cache: 16 ways of 128-byte lines with four 32-byte sectors each, LRU replacement, write-back on
//! eviction. It answers how many bytes DRAM would move.

const WAYS: usize = 16;

#[derive(Clone, Copy, Default)]
struct CacheLine {
    tag: u64,
    valid: u8,
    dirty: u8,
    used: u64,
}

pub struct L2 {
    sets: Vec<[CacheLine; WAYS]>,
    now: u64,
    pub read_bytes: u64,
    pub write_bytes: u64,
}

impl L2 {
    pub fn new(bytes: u64) -> Self {
        let sets = (bytes / (128 * WAYS as u64)).max(1) as usize;
        Self {
            sets: vec![[CacheLine::default(); WAYS]; sets],
            now: 0,
            read_bytes: 0,
            write_bytes: 0,
        }
    }

    /// One 32-byte sector (its address divided by 32).
    pub fn access(&mut self, sector: u64, write: bool) {
        self.now += 1;
        let (line, bit) = (sector / 4, 1u8 << (sector % 4));
        // A multiplicative hash, so that power-of-two strides do not fall into one set.
        let set = (line.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) as usize % self.sets.len();
        let set = &mut self.sets[set];
        let at = match set.iter().position(|l| l.valid != 0 && l.tag == line) {
            Some(at) => at,
            None => {
                let at = (0..WAYS)
                    .min_by_key(|&i| if set[i].valid == 0 { 0 } else { set[i].used })
                    .unwrap_or(0);
                self.write_bytes += 32 * u64::from(set[at].dirty.count_ones());
                set[at] = CacheLine { tag: line, ..CacheLine::default() };
                at
            }
        };
        let entry = &mut set[at];
        entry.used = self.now;
        if entry.valid & bit == 0 {
            entry.valid |= bit;
            // A store allocates the sector without reading it first.
            if !write {
                self.read_bytes += 32;
            }
        }
        if write {
            entry.dirty |= bit;
        }
    }

    /// Writes back dirty sectors.
    pub fn flush(&mut self) {
        for line in self.sets.iter_mut().flatten() {
            self.write_bytes += 32 * u64::from(line.dirty.count_ones());
            line.dirty = 0;
        }
    }
}
