//! The device's global memory: allocations at made-up addresses, each with its own host buffer and with a bit per byte
//! that says whether anything has written it.
//!
//! Addresses are never reused, so that a dangling pointer is always recognised, and allocations keep a red zone between
//! them, so that running off the end of one never lands in another.

use super::allocation::{Allocation, AllocationInfo, AllocationKind};
use super::error::MemoryError;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, RwLock};

const ALIGNMENT: u64 = 256;
/// The minimum distance between two allocations.
const RED_ZONE: u64 = 4096;
/// Far from where user-space code, heap and stacks live on Linux, so that a host pointer never looks like a device
/// pointer, nor vice versa.
const FIRST_ADDRESS: u64 = 0x1000_0000_0000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryUsage {
    pub used: u64,
    pub total: u64,
    pub allocations: usize,
}

struct Allocations {
    live: BTreeMap<u64, Arc<Allocation>>,
    /// Size and kind of freed allocations, for reports.
    freed: BTreeMap<u64, (u64, AllocationKind)>,
    next: u64,
    used: u64,
}

/// The device's global memory.
pub struct DeviceMemory {
    inner: RwLock<Allocations>,
    total: u64,
    launches: AtomicU64,
    /// For each launch, those before it that it has not waited for.
    loose: Mutex<HashMap<u64, Vec<u64>>>,
}

impl fmt::Debug for DeviceMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceMemory").field("usage", &self.usage()).finish()
    }
}

impl DeviceMemory {
    pub fn new(total: u64) -> Self {
        let inner = Allocations {
            live: BTreeMap::new(),
            freed: BTreeMap::new(),
            next: FIRST_ADDRESS,
            used: 0,
        };
        Self {
            inner: RwLock::new(inner),
            total,
            launches: AtomicU64::new(0),
            loose: Mutex::default(),
        }
    }

    /// A number from 1 to 255 for the next launch; at 1 the race shadow must be cleared.
    pub fn next_epoch(&self) -> u64 {
        self.launches.fetch_add(1, Relaxed) % 255 + 1
    }

    /// The number of the launch that ran last; 0 if there was none.
    pub fn epoch(&self) -> u64 {
        match self.launches.load(Relaxed) {
            0 => 0,
            n => (n - 1) % 255 + 1,
        }
    }

    /// The launches that may still run when the launch `epoch` has ended.
    pub fn loose(&self, epoch: u64) -> Vec<u64> {
        let loose = self.loose.lock().unwrap_or_else(|e| e.into_inner());
        loose.get(&epoch).cloned().unwrap_or_default()
    }

    pub fn set_loose(&self, epoch: u64, launches: Vec<u64>) {
        let mut loose = self.loose.lock().unwrap_or_else(|e| e.into_inner());
        if epoch == 1 {
            // The numbers begin again.
            loose.clear();
        }
        loose.insert(epoch, launches);
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Allocations> {
        self.inner.read().unwrap_or_else(|e| e.into_inner())
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Allocations> {
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

    /// All live allocations, in address order.
    pub fn live(&self) -> Vec<AllocationInfo> {
        self.read().live.values().map(|a| a.info()).collect()
    }

    /// What a launch works on: the live allocations, sorted by address.
    pub fn snapshot(&self) -> Vec<Arc<Allocation>> {
        self.read().live.values().cloned().collect()
    }

    fn lookup(&self, inner: &Allocations, address: u64, bytes: u64) -> Option<Arc<Allocation>> {
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
        unsafe { std::ptr::copy(bytes.as_ptr(), a.pointer().add(offset as usize), bytes.len()) };
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
            std::ptr::copy(
                a.pointer().add((address - a.base) as usize),
                bytes.as_mut_ptr(),
                bytes.len(),
            )
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
            std::ptr::copy(
                s.pointer().add(from as usize),
                d.pointer().add(to as usize),
                bytes as usize,
            )
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
        let to = unsafe {
            std::slice::from_raw_parts_mut(a.pointer().add(offset as usize), bytes as usize)
        };
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

fn nearest(inner: &Allocations, address: u64) -> Option<AllocationInfo> {
    let distance = |base: u64, size: u64| {
        if address < base {
            base - address
        } else {
            (address - base).saturating_add(1).saturating_sub(size)
        }
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
