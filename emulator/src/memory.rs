//! The device's global memory: allocations at made-up addresses, each with its own host buffer and with a bit
//! for each byte that says whether anything has written it.
//!
//! Addresses are never used twice, so that a dangling pointer is always recognised, and allocations keep a
//! red zone between them, so that running off the end of one never lands in another.

use serde::Serialize;
use std::alloc::Layout;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, RwLock};

const ALIGNMENT: u64 = 256;
/// The least distance between two allocations.
const RED_ZONE: u64 = 4096;
/// Far from where user-space code, heap and stacks live on Linux, so that a host pointer never looks like a
/// device pointer, nor the other way round.
const FIRST_ADDRESS: u64 = 0x1000_0000_0000;

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUsage {
    pub used: u64,
    pub total: u64,
    pub allocations: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemoryError {
    OutOfMemory {
        requested: u64,
        free: u64,
    },
    /// Not the base of a live allocation.
    NotAnAllocation {
        address: u64,
        nearest: Option<AllocationInfo>,
    },
    /// A host operation that leaves its allocation, or touches none.
    OutOfBounds {
        address: u64,
        bytes: u64,
        nearest: Option<AllocationInfo>,
    },
}

impl fmt::Display for MemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let near = |f: &mut fmt::Formatter<'_>, nearest: &Option<AllocationInfo>| match nearest {
            Some(a) => {
                let state = if a.freed { "freed " } else { "" };
                write!(
                    f,
                    "; nearest {state}{} allocation: base {:#x}, {} bytes",
                    a.kind, a.base, a.size
                )
            }
            None => Ok(()),
        };
        match self {
            Self::OutOfMemory { requested, free } => {
                write!(f, "out of device memory: {requested} bytes requested, {free} free")
            }
            Self::NotAnAllocation { address, nearest } => {
                write!(f, "{address:#x} is not the start of a live allocation")?;
                near(f, nearest)
            }
            Self::OutOfBounds { address, bytes, nearest } => {
                write!(f, "{bytes} bytes at {address:#x} are not inside a live allocation")?;
                near(f, nearest)
            }
        }
    }
}

impl std::error::Error for MemoryError {}

/// One allocation: its bytes and their shadow.
pub struct Allocation {
    pub base: u64,
    pub size: u64,
    pub kind: AllocationKind,
    data: *mut u8,
    /// `None` where the bytes belong to the host program.
    layout: Option<Layout>,
    /// A bit for each byte: has it been written?
    init: Box<[AtomicU64]>,
    /// Every byte has been written; lets reads skip the bits.
    all_init: AtomicBool,
    /// Who read and wrote each word in the current launch; made at the first launch that checks for races.
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
    fn new(base: u64, size: u64, kind: AllocationKind) -> Option<Self> {
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

    fn host(address: u64, size: u64) -> Self {
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

    fn mark_uninit(&self, offset: u64, bytes: u64) {
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

    /// The race shadow, one word for each four bytes.
    #[inline(always)]
    pub fn race_shadow(&self) -> &[AtomicU64] {
        self.race.get_or_init(|| zeroed_atomics(self.size.div_ceil(4) as usize))
    }

    /// Forgets who touched what; for when launch numbers wrap.
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

struct Inner {
    live: BTreeMap<u64, Arc<Allocation>>,
    /// Size and kind of what was freed, for reports.
    freed: BTreeMap<u64, (u64, AllocationKind)>,
    next: u64,
    used: u64,
}

/// The device's global memory.
pub struct DeviceMemory {
    inner: RwLock<Inner>,
    total: u64,
    launches: AtomicU64,
}

impl fmt::Debug for DeviceMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceMemory").field("usage", &self.usage()).finish()
    }
}

impl DeviceMemory {
    pub fn new(total: u64) -> Self {
        let inner =
            Inner { live: BTreeMap::new(), freed: BTreeMap::new(), next: FIRST_ADDRESS, used: 0 };
        Self { inner: RwLock::new(inner), total, launches: AtomicU64::new(0) }
    }

    /// A number from 1 to 255 for the next launch; at 1 the race shadow must be cleared.
    pub fn next_epoch(&self) -> u64 {
        self.launches.fetch_add(1, Relaxed) % 255 + 1
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(|e| e.into_inner())
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(|e| e.into_inner())
    }

    /// A new allocation; its bytes count as never written.
    pub fn alloc(&self, bytes: u64, kind: AllocationKind) -> Result<u64, MemoryError> {
        let mut inner = self.write();
        let free = self.total.saturating_sub(inner.used);
        let out_of_memory = MemoryError::OutOfMemory { requested: bytes, free };
        if bytes == 0 || bytes > free {
            return Err(out_of_memory);
        }
        let base = inner.next;
        let allocation = Allocation::new(base, bytes, kind).ok_or(out_of_memory)?;
        inner.next = (base + bytes + RED_ZONE).next_multiple_of(ALIGNMENT);
        inner.used += bytes;
        inner.live.insert(base, Arc::new(allocation));
        Ok(base)
    }

    /// Makes host memory accessible to the device at its own address.
    ///
    /// # Safety
    /// The memory must stay valid until `free` is called with its address.
    pub unsafe fn map_host(&self, address: u64, bytes: u64) -> Result<(), MemoryError> {
        let mut inner = self.write();
        let overlaps = inner
            .live
            .range(..address + bytes)
            .next_back()
            .is_some_and(|(b, a)| b + a.size > address);
        if bytes == 0 || overlaps {
            return Err(MemoryError::NotAnAllocation {
                address,
                nearest: nearest(&inner, address),
            });
        }
        inner.freed.remove(&address);
        inner.live.insert(address, Arc::new(Allocation::host(address, bytes)));
        Ok(())
    }

    /// Frees an allocation, or unmaps host memory.
    pub fn free(&self, address: u64) -> Result<(), MemoryError> {
        let mut inner = self.write();
        let Some(allocation) = inner.live.remove(&address) else {
            return Err(MemoryError::NotAnAllocation {
                address,
                nearest: nearest(&inner, address),
            });
        };
        if allocation.kind != AllocationKind::Host {
            inner.used -= allocation.size;
        }
        inner.freed.insert(address, (allocation.size, allocation.kind));
        Ok(())
    }

    /// The live allocation that holds `address`.
    pub fn find(&self, address: u64) -> Option<AllocationInfo> {
        self.lookup(&self.read(), address, 0).map(|a| a.info())
    }

    /// The allocation nearest to `address`, live or freed; for reports.
    pub fn nearest(&self, address: u64) -> Option<AllocationInfo> {
        nearest(&self.read(), address)
    }

    /// All live allocations, in the order of their addresses.
    pub fn live(&self) -> Vec<AllocationInfo> {
        self.read().live.values().map(|a| a.info()).collect()
    }

    /// What a launch works on: the live allocations, sorted by address.
    pub fn snapshot(&self) -> Vec<Arc<Allocation>> {
        self.read().live.values().cloned().collect()
    }

    fn lookup(&self, inner: &Inner, address: u64, bytes: u64) -> Option<Arc<Allocation>> {
        let (_, allocation) = inner.live.range(..=address).next_back()?;
        let inside =
            allocation.contains(address, bytes) && address < allocation.base + allocation.size;
        inside.then(|| allocation.clone())
    }

    fn range(&self, address: u64, bytes: u64) -> Result<Arc<Allocation>, MemoryError> {
        let inner = self.read();
        self.lookup(&inner, address, bytes).ok_or_else(|| MemoryError::OutOfBounds {
            address,
            bytes,
            nearest: nearest(&inner, address),
        })
    }

    pub fn copy_from_host(&self, address: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let a = self.range(address, bytes.len() as u64)?;
        let offset = address - a.base;
        // SAFETY: `range` checked that the destination lies inside the allocation.
        unsafe { std::ptr::copy(bytes.as_ptr(), a.data.add(offset as usize), bytes.len()) };
        a.mark_init(offset, bytes.len() as u64);
        Ok(())
    }

    pub fn copy_to_host(&self, bytes: &mut [u8], address: u64) -> Result<(), MemoryError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let a = self.range(address, bytes.len() as u64)?;
        // SAFETY: `range` checked that the source lies inside the allocation.
        unsafe {
            std::ptr::copy(a.data.add((address - a.base) as usize), bytes.as_mut_ptr(), bytes.len())
        };
        Ok(())
    }

    /// Copies within the device; bytes that were never written stay "never written" at their new place.
    pub fn copy(&self, to: u64, from: u64, bytes: u64) -> Result<(), MemoryError> {
        if bytes == 0 {
            return Ok(());
        }
        let (d, s) = (self.range(to, bytes)?, self.range(from, bytes)?);
        let (to, from) = (to - d.base, from - s.base);
        // SAFETY: `range` checked both sides; `copy` allows overlap.
        unsafe {
            std::ptr::copy(s.data.add(from as usize), d.data.add(to as usize), bytes as usize)
        };
        if s.is_init(from, bytes) {
            d.mark_init(to, bytes);
        } else {
            let written: Vec<bool> = (0..bytes).map(|i| s.is_init(from + i, 1)).collect();
            for (i, written) in (0..).zip(written) {
                if written { d.mark_init(to + i, 1) } else { d.mark_uninit(to + i, 1) }
            }
        }
        Ok(())
    }

    /// Declares bytes as written without touching them: fresh memory is zero.
    pub fn mark_initialised(&self, address: u64, bytes: u64) -> Result<(), MemoryError> {
        let a = self.range(address, bytes)?;
        a.mark_init(address - a.base, bytes);
        Ok(())
    }

    /// Repeats `pattern` (1, 2 or 4 bytes) `count` times.
    pub fn fill(&self, address: u64, pattern: &[u8], count: u64) -> Result<(), MemoryError> {
        let bytes = pattern.len() as u64 * count;
        if bytes == 0 {
            return Ok(());
        }
        let a = self.range(address, bytes)?;
        let offset = address - a.base;
        // SAFETY: `range` checked that the destination lies inside the allocation.
        let to =
            unsafe { std::slice::from_raw_parts_mut(a.data.add(offset as usize), bytes as usize) };
        for chunk in to.chunks_exact_mut(pattern.len()) {
            chunk.copy_from_slice(pattern);
        }
        a.mark_init(offset, bytes);
        Ok(())
    }

    /// The offset of the first byte in a range that nothing has written; for driver-side checks.
    pub fn first_uninitialised(
        &self,
        address: u64,
        bytes: u64,
    ) -> Result<Option<u64>, MemoryError> {
        let a = self.range(address, bytes)?;
        Ok(a.first_uninit(address - a.base, bytes).map(|at| at + a.base - address))
    }

    pub fn usage(&self) -> MemoryUsage {
        let inner = self.read();
        MemoryUsage { used: inner.used, total: self.total, allocations: inner.live.len() }
    }
}

fn nearest(inner: &Inner, address: u64) -> Option<AllocationInfo> {
    let distance = |base: u64, size: u64| {
        if address < base { base - address } else { (address + 1).saturating_sub(base + size) }
    };
    let live = |(&base, a): (&u64, &Arc<Allocation>)| (distance(base, a.size), a.info());
    let freed = |(&base, &(size, kind)): (&u64, &(u64, AllocationKind))| {
        (distance(base, size), AllocationInfo { base, size, kind, freed: true })
    };
    let candidates = [
        inner.live.range(..=address).next_back().map(live),
        inner.live.range(address..).next().map(live),
        inner.freed.range(..=address).next_back().map(freed),
        inner.freed.range(address..).next().map(freed),
    ];
    // On a tie the live one, which comes first, wins.
    candidates.into_iter().flatten().min_by_key(|(d, _)| *d).map(|(_, info)| info)
}
