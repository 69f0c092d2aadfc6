//! Allocations: device memory, page-locked and managed host memory, and what is known of an address.

use std::alloc::Layout;
use std::ffi::{c_int, c_uint};

use crate::memory::AllocationKind;

use super::capture;
use super::entry::api;
use super::error::{CudaResult, Error};
use super::objects::{DriverAllocation, Kind};
use super::queue::synchronize_context;
use super::report;
use super::state::{Driver, driver};
use super::types::{DevicePtr, Handle, In, MemLocation, Out};

/// Page-locked memory starts on a page, as the driver's does.
const PAGE: usize = 4096;
/// What `cuMemAllocPitch` rounds rows up to.
const PITCH: usize = 512;

/// Allocates device memory; when it is full, queued frees run first.
pub fn allocate(
    driver: &Driver,
    bytes: usize,
    context: Handle,
    kind: Kind,
) -> CudaResult<DevicePtr> {
    if bytes == 0 {
        return Err(Error::INVALID_VALUE);
    }
    let mut base = driver.memory.alloc(bytes as u64, AllocationKind::Device);
    if base.is_err() {
        synchronize_context(driver, context)?;
        base = driver.memory.alloc(bytes as u64, AllocationKind::Device);
    }
    let base = base.map_err(|error| report::refuse(Error::OUT_OF_MEMORY, &error.to_string()))?;
    record(driver, base, bytes, context, kind, 0);
    Ok(base)
}

fn record(
    driver: &Driver,
    base: DevicePtr,
    size: usize,
    context: Handle,
    kind: Kind,
    flags: c_uint,
) {
    let mut state = driver.state();
    let id = state.next_sequence();
    state.allocations.insert(base, DriverAllocation { size, kind, context, flags, id });
}

/// Page-locked host memory, which the device sees at the same address.
fn allocate_host(bytes: usize, kind: Kind, flags: c_uint) -> CudaResult<usize> {
    let driver = driver()?;
    let context = {
        let mut state = driver.state();
        let context = state.current()?;
        capture::refuse_unsafe(&mut state)?;
        context
    };
    if bytes == 0 {
        return Err(Error::INVALID_VALUE);
    }
    let layout = host_layout(bytes)?;
    // SAFETY: the layout is not empty.
    let address = unsafe { std::alloc::alloc_zeroed(layout) } as usize;
    if address == 0 {
        return Err(Error::OUT_OF_MEMORY);
    }
    // SAFETY: the memory stays until `release`, which unmaps it first.
    let mapped = unsafe { driver.memory.map_host(address as u64, bytes as u64) };
    if mapped.is_err() {
        // SAFETY: allocated above with this layout.
        unsafe { std::alloc::dealloc(address as *mut u8, layout) };
        return Err(Error::OUT_OF_MEMORY);
    }
    record(driver, address as u64, bytes, context, kind, flags);
    Ok(address)
}

fn host_layout(bytes: usize) -> CudaResult<Layout> {
    Layout::from_size_align(bytes, PAGE).map_err(|_| Error::OUT_OF_MEMORY)
}

/// Removes an allocation from the tables and releases its memory.
pub fn release(driver: &Driver, base: DevicePtr, allocation: DriverAllocation) -> CudaResult {
    driver.memory.free(base).map_err(|error| report::memory_fault("freeing", &error))?;
    if matches!(allocation.kind, Kind::Pinned | Kind::Managed) {
        // SAFETY: `allocate_host` made it with this layout, and it has just left the tables.
        unsafe { std::alloc::dealloc(base as *mut u8, host_layout(allocation.size)?) };
    }
    Ok(())
}

/// Frees memory removed from the tables, after the work that may use it.
pub fn release_all(freed: Vec<(DevicePtr, DriverAllocation)>) -> CudaResult {
    let driver = driver()?;
    if let Some((_, first)) = freed.first() {
        let _ = synchronize_context(driver, first.context);
    }
    freed.into_iter().try_for_each(|(base, allocation)| release(driver, base, allocation))
}

/// Frees the allocation that starts at `base` after the context's work has run, as these calls do.
fn free(name: &str, base: DevicePtr, accept: impl Fn(Kind) -> bool) -> CudaResult {
    let driver = driver()?;
    let (context, found) = {
        let mut state = driver.state();
        let context = state.current()?;
        capture::refuse_unsafe(&mut state)?;
        (context, state.allocations.get(&base).copied())
    };
    let Some(allocation) = found.filter(|a| accept(a.kind)) else {
        let near = match driver.memory.nearest(base) {
            Some(a) => format!(
                "; nearest {}allocation: base {:#x}, {} bytes",
                if a.freed { "freed " } else { "" },
                a.base,
                a.size
            ),
            None => String::new(),
        };
        let text =
            format!("{name}: {base:#x} is not the start of a live allocation of this kind{near}");
        return Err(report::refuse(Error::INVALID_VALUE, &text));
    };
    // Freeing waits for the device. Stream-ordered memory is the exception: its user must have waited.
    if !matches!(allocation.kind, Kind::Pooled(_)) {
        synchronize_context(driver, context)?;
    }
    driver.state().allocations.remove(&base);
    release(driver, base, allocation)
}

api! {
    fn cuMemGetInfo_v2(free: Out<usize>, total: Out<usize>) {
        let driver = driver()?;
        driver.state().current()?;
        let usage = driver.memory.usage();
        free.set_optional((usage.total - usage.used) as usize);
        total.set_optional(usage.total as usize);
        Ok(())
    }

    fn cuMemAlloc_v2(out: Out<DevicePtr>, bytes: usize) {
        if out.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        let driver = driver()?;
        let context = {
            let mut state = driver.state();
            let context = state.current()?;
            capture::refuse_unsafe(&mut state)?;
            context
        };
        out.set(allocate(driver, bytes, context, Kind::Device)?)
    }

    fn cuMemAllocPitch_v2(
        out: Out<DevicePtr>, pitch: Out<usize>, width: usize, height: usize, element: c_uint,
    ) {
        if out.is_null() || pitch.is_null() || width == 0 || height == 0 || !matches!(element, 4 | 8 | 16) {
            return Err(Error::INVALID_VALUE);
        }
        let driver = driver()?;
        let context = driver.state().current()?;
        let row = width.checked_next_multiple_of(PITCH).ok_or(Error::INVALID_VALUE)?;
        let bytes = row.checked_mul(height).ok_or(Error::INVALID_VALUE)?;
        out.set(allocate(driver, bytes, context, Kind::Device)?)?;
        pitch.set(row)
    }

    fn cuMemFree_v2(base: DevicePtr) {
        if base == 0 {
            return Ok(());
        }
        free("cuMemFree", base, |kind| matches!(kind, Kind::Device | Kind::Pooled(_) | Kind::Managed))
    }

    fn cuMemAllocHost_v2(out: Out<usize>, bytes: usize) {
        out.set(allocate_host(bytes, Kind::Pinned, 0)?)
    }

    fn cuMemHostAlloc(out: Out<usize>, bytes: usize, flags: c_uint) {
        if out.is_null() || flags & !7 != 0 {
            return Err(Error::INVALID_VALUE);
        }
        out.set(allocate_host(bytes, Kind::Pinned, flags)?)
    }

    fn cuMemFreeHost(address: usize) {
        if address == 0 {
            return Ok(());
        }
        free("cuMemFreeHost", address as u64, |kind| kind == Kind::Pinned)
    }

    fn cuMemAllocManaged(out: Out<DevicePtr>, bytes: usize, flags: c_uint) {
        if out.is_null() || !matches!(flags, 1 | 2 | 4) {
            return Err(Error::INVALID_VALUE);
        }
        out.set(allocate_host(bytes, Kind::Managed, flags)? as u64)
    }

    fn cuMemHostRegister_v2(address: usize, bytes: usize, flags: c_uint) {
        let driver = driver()?;
        let context = driver.state().current()?;
        if address == 0 || bytes == 0 || flags & !15 != 0 {
            return Err(Error::INVALID_VALUE);
        }
        // SAFETY: the caller promises that the memory stays until it is unregistered.
        unsafe { driver.memory.map_host(address as u64, bytes as u64) }
            .map_err(|_| Error::HOST_MEMORY_ALREADY_REGISTERED)?;
        record(driver, address as u64, bytes, context, Kind::Registered, flags);
        Ok(())
    }

    fn cuMemHostUnregister(address: usize) {
        let driver = driver()?;
        let known = driver.state().allocations.get(&(address as u64)).is_some_and(|a| a.kind == Kind::Registered);
        if !known {
            return Err(Error::HOST_MEMORY_NOT_REGISTERED);
        }
        free("cuMemHostUnregister", address as u64, |kind| kind == Kind::Registered)
    }

    fn cuMemHostGetDevicePointer_v2(out: Out<DevicePtr>, address: usize, flags: c_uint) {
        let state = driver()?.state();
        state.current()?;
        let known = state.allocation(address as u64).is_some_and(|(_, a)| a.is_host());
        if flags != 0 || !known {
            return Err(Error::INVALID_VALUE);
        }
        out.set(address as u64)
    }

    fn cuMemHostGetFlags(out: Out<c_uint>, address: usize) {
        let state = driver()?.state();
        state.current()?;
        match state.allocation(address as u64) {
            // Every page-locked allocation is mapped and portable here.
            Some((_, a)) if a.kind == Kind::Pinned => out.set(a.flags | 2),
            _ => Err(Error::INVALID_VALUE),
        }
    }

    fn cuMemGetAddressRange_v2(base: Out<DevicePtr>, size: Out<usize>, address: DevicePtr) {
        let driver = driver()?;
        driver.state().current()?;
        let found = driver.memory.find(address).ok_or(Error::NOT_FOUND)?;
        base.set_optional(found.base);
        size.set_optional(found.size as usize);
        Ok(())
    }

    fn cuMemAdvise(_address: DevicePtr, _bytes: usize, _advice: c_int, _device: c_int) {
        driver()?.state().current().map(drop)
    }

    fn cuMemAdvise_v2(_address: DevicePtr, _bytes: usize, _advice: c_int, _location: MemLocation) {
        driver()?.state().current().map(drop)
    }

    fn cuMemPrefetchAsync(_address: DevicePtr, _bytes: usize, _device: c_int, stream: Handle) {
        driver()?.state().stream(stream).map(drop)
    }

    fn cuMemPrefetchAsync_v2 | cuMemPrefetchAsync_v2_ptsz(
        _address: DevicePtr, _bytes: usize, _location: MemLocation, _flags: c_uint, stream: Handle,
    ) {
        driver()?.state().stream(stream).map(drop)
    }

    fn cuPointerGetAttribute(out: Out<u8>, attribute: c_int, address: DevicePtr) {
        pointer_attribute(&out, attribute, address)
    }

    fn cuPointerGetAttributes(count: c_uint, attributes: In<c_int>, out: In<usize>, address: DevicePtr) {
        for index in 0..count as usize {
            let attribute = attributes.at(index)?;
            let place = Out::<u8>::at_address(out.at(index)?);
            // For an unknown address this form returns null and succeeds.
            if pointer_attribute(&place, attribute, address).is_err() {
                let bytes = match attribute {
                    1 | 3 | 4 | 7 | 11 | 12 | 17 | 18 | 19 => 8,
                    _ => 4,
                };
                for byte in 0..bytes {
                    place.set_at(byte, 0)?;
                }
            }
        }
        Ok(())
    }

    fn cuPointerSetAttribute(_value: In<u8>, _attribute: c_int, address: DevicePtr) {
        let state = driver()?.state();
        state.current()?;
        state.allocation(address).map(drop).ok_or(Error::INVALID_VALUE)
    }
}

/// One `CU_POINTER_ATTRIBUTE_*` of an address.
fn pointer_attribute(out: &Out<u8>, attribute: c_int, address: DevicePtr) -> CudaResult {
    let driver = driver()?;
    let state = driver.state();
    // Module variables are not in the driver's own table.
    let (base, size, found) = match (state.allocation(address), driver.memory.find(address)) {
        (Some((base, a)), _) => (base, a.size, Some(a)),
        (None, Some(info)) => (info.base, info.size as usize, None),
        (None, None) => return Err(Error::INVALID_VALUE),
    };
    let on_host = found.is_some_and(|a| matches!(a.kind, Kind::Pinned | Kind::Registered));
    let managed = found.is_some_and(|a| a.kind == Kind::Managed);
    let context = found.map(|a| a.context).or(state.primary.context).unwrap_or_default();
    let wide = |value: u64| out.set_bytes(&value.to_ne_bytes());
    let int = |value: i32| out.set_bytes(&value.to_ne_bytes());
    match attribute {
        1 => wide(context.0 as u64),
        2 => int(if on_host { 1 } else { 2 }),
        3 => wide(address),
        4 if on_host || managed => wide(address),
        6 => out.set_bytes(&[0]),
        7 => wide(found.map_or(base, |a| a.id)),
        8 => out.set_bytes(&[managed.into()]),
        9 => int(0),
        10 => out.set_bytes(&[0]),
        11 | 19 => wide(base),
        12 | 18 => wide(size as u64),
        13 => out.set_bytes(&[1]),
        14 => wide(0),
        15 => out.set_bytes(&[0]),
        16 => int(3),
        17 => wide(match found.map(|a| a.kind) {
            Some(Kind::Pooled(pool)) => pool.0 as u64,
            _ => 0,
        }),
        _ => Err(Error::INVALID_VALUE),
    }
}
