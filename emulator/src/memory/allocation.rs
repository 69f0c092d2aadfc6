//! One allocation: its bytes, a bit per byte that says whether anything has written it, and who touched them.

use serde::Serialize;
use std::alloc::Layout;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AllocationKind {
    Device,
    /// A module-scope variable.
    Module,
    /// Host memory that the device may touch at its host address.
    Host,
    Shared,
    Local,
    Param,
}

impl fmt::Display for AllocationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "device",
            Self::Module => "module",
            Self::Host => "host",
            Self::Shared => "shared",
            Self::Local => "local",
            Self::Param => "parameter",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocationInfo {
    pub base: u64,
    pub size: u64,
    pub kind: AllocationKind,
    pub freed: bool,
}

/// One allocation: its bytes and their shadow.
pub struct Allocation {
    pub base: u64,
    pub size: u64,
    pub kind: AllocationKind,
    data: *mut u8,
    /// `None` if the bytes belong to the host program.
    layout: Option<Layout>,
    /// A bit per byte: has it been written?
    init: Box<[AtomicU64]>,
    /// Every byte has been written; lets reads skip the bits.
    all_init: AtomicBool,
    /// Who read and wrote each word in the current launch; created at the first launch that checks for races.
    race: OnceLock<Box<[AtomicU64]>>,
}

// SAFETY: `data` points to memory that lives as long as the allocation; concurrent access to the bytes is the
// emulated program's own concurrency, as on a device. The shadow is atomic.
unsafe impl Send for Allocation {}
// SAFETY: as above.
unsafe impl Sync for Allocation {}

fn zeroed_atomics(n: usize) -> Box<[AtomicU64]> {
    let plain = vec![0u64; n].into_boxed_slice();
    // SAFETY: AtomicU64 has the size, alignment and bit validity of u64.
    unsafe { Box::from_raw(Box::into_raw(plain) as *mut [AtomicU64]) }
}

impl Allocation {
    pub(super) fn new(base: u64, size: u64, kind: AllocationKind) -> Option<Self> {
        // Calloc's alignment: larger ones would make the allocator touch every page.
        let layout =
            Layout::from_size_align(size.max(16).next_multiple_of(16) as usize, 16).ok()?;
        // SAFETY: the layout's size is not zero.
        let data = unsafe { std::alloc::alloc_zeroed(layout) };
        if data.is_null() {
            return None;
        }
        Some(Self {
            base,
            size,
            kind,
            data,
            layout: Some(layout),
            init: zeroed_atomics(size.div_ceil(64) as usize),
            all_init: AtomicBool::new(false),
            race: OnceLock::new(),
        })
    }

    pub(super) fn host(address: u64, size: u64) -> Self {
        Self {
            base: address,
            size,
            kind: AllocationKind::Host,
            data: address as *mut u8,
            layout: None,
            init: Box::new([]),
            all_init: AtomicBool::new(true),
            race: OnceLock::new(),
        }
    }

    #[inline(always)]
    pub fn pointer(&self) -> *mut u8 {
        self.data
    }

    #[inline(always)]
    pub fn contains(&self, address: u64, bytes: u64) -> bool {
        let offset = address.wrapping_sub(self.base);
        offset <= self.size && bytes <= self.size - offset
    }

    /// Whether every byte is known to have been written.
    #[inline]
    pub fn is_all_init(&self) -> bool {
        self.all_init.load(Relaxed)
    }

    /// Whether all of `bytes` bytes at `offset` have been written.
    #[inline]
    pub fn is_init(&self, offset: u64, bytes: u64) -> bool {
        if self.all_init.load(Relaxed) {
            return true;
        }
        self.first_uninit(offset, bytes).is_none()
    }

    /// The offset of the first byte that nothing has written.
    pub fn first_uninit(&self, offset: u64, bytes: u64) -> Option<u64> {
        if self.all_init.load(Relaxed) {
            return None;
        }
        let end = offset + bytes;
        let mut at = offset;
        while at < end {
            let (word, bit) = (at / 64, at % 64);
            let n = (64 - bit).min(end - at);
            let mask = ones(n) << bit;
            let missing = !self.init[word as usize].load(Relaxed) & mask;
            if missing != 0 {
                return Some(word * 64 + u64::from(missing.trailing_zeros()));
            }
            at += n;
        }
        None
    }

    #[inline]
    pub fn mark_init(&self, offset: u64, bytes: u64) {
        if self.all_init.load(Relaxed) {
            return;
        }
        if bytes == self.size {
            self.all_init.store(true, Relaxed);
            return;
        }
        let end = offset + bytes;
        let mut at = offset;
        while at < end {
            let (word, bit) = (at / 64, at % 64);
            let n = (64 - bit).min(end - at);
            let mask = ones(n) << bit;
            let cell = &self.init[word as usize];
            if cell.load(Relaxed) & mask != mask {
                cell.fetch_or(mask, Relaxed);
            }
            at += n;
        }
    }

    pub(super) fn mark_uninit(&self, offset: u64, bytes: u64) {
        if self.layout.is_none() {
            return;
        }
        if self.all_init.swap(false, Relaxed) {
            for cell in &self.init {
                cell.store(u64::MAX, Relaxed);
            }
        }
        for at in offset..offset + bytes {
            self.init[(at / 64) as usize].fetch_and(!(1 << (at % 64)), Relaxed);
        }
    }

    /// The race shadow, one word per four bytes.
    #[inline(always)]
    pub fn race_shadow(&self) -> &[AtomicU64] {
        self.race.get_or_init(|| zeroed_atomics(self.size.div_ceil(4) as usize))
    }

    /// Forgets who touched what, for when launch numbers wrap.
    pub fn clear_race_shadow(&self) {
        if let Some(shadow) = self.race.get() {
            for cell in shadow {
                cell.store(0, Relaxed);
            }
        }
    }

    pub fn info(&self) -> AllocationInfo {
        AllocationInfo { base: self.base, size: self.size, kind: self.kind, freed: false }
    }
}

fn ones(n: u64) -> u64 {
    if n >= 64 { u64::MAX } else { (1 << n) - 1 }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if let Some(layout) = self.layout {
            // SAFETY: `data` came from the global allocator with this layout.
            unsafe { std::alloc::dealloc(self.data, layout) };
        }
    }
}
