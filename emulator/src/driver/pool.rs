//! Stream-ordered allocation and memory pools. A pool is only a name for its settings here: memory is taken from the
//! device at the call and returned when the free's turn in its stream comes.

use std::ffi::c_int;

use super::capture;
use super::entry::api;
use super::error::{CudaResult, Error};
use super::memory::allocate;
use super::objects::{Kind, Pool};
use super::op::StreamOp;
use super::queue::enqueue;
use super::report;
use super::state::{State, check_device, driver};
use super::types::{DevicePtr, Handle, In, Out};

fn new_pool(state: &mut State) -> Handle {
    let pool = state.handle();
    state.pools.insert(pool, Pool { release_threshold: 0, flags: [1; 3], destroyed: false });
    pool
}

fn default_pool(state: &mut State) -> Handle {
    match state.default_pool {
        Some(pool) => pool,
        None => {
            let pool = new_pool(state);
            state.default_pool = Some(pool);
            pool
        }
    }
}

fn allocate_in_order(
    out: &Out<DevicePtr>,
    bytes: usize,
    pool: Option<Handle>,
    stream: Handle,
) -> CudaResult {
    if out.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let driver = driver()?;
    let (context, kind, captured) = {
        let mut state = driver.state();
        let stream = state.stream(stream)?;
        let default = default_pool(&mut state);
        let pool = pool.unwrap_or(state.current_pool.unwrap_or(default));
        if state.pools.get(&pool).is_none_or(|pool| pool.destroyed) {
            return Err(Error::INVALID_HANDLE);
        }
        match capture::capture_of(&state, stream)? {
            Some(capture) => {
                (state.streams[&stream].context, Kind::Graph(state.captures[&capture].graph), true)
            }
            None => (state.streams[&stream].context, Kind::Pooled(pool), false),
        }
    };
    let base = allocate(driver, bytes, context, kind)?;
    let mut state = driver.state();
    if captured {
        let stream = state.stream(stream)?;
        enqueue(&mut state, stream, StreamOp::Refresh(base))?;
    } else {
        state.pool_used += bytes as u64;
        state.pool_high = state.pool_high.max(state.pool_used);
    }
    out.set(base)
}

api! {
    fn cuMemAllocAsync | cuMemAllocAsync_ptsz(out: Out<DevicePtr>, bytes: usize, stream: Handle) {
        allocate_in_order(&out, bytes, None, stream)
    }

    fn cuMemAllocFromPoolAsync | cuMemAllocFromPoolAsync_ptsz(out: Out<DevicePtr>, bytes: usize, pool: Handle, stream: Handle) {
        allocate_in_order(&out, bytes, Some(pool), stream)
    }

    fn cuMemFreeAsync | cuMemFreeAsync_ptsz(base: DevicePtr, stream: Handle) {
        let driver = driver()?;
        let mut state = driver.state();
        let stream = state.stream(stream)?;
        if base == 0 {
            return Ok(());
        }
        let Some(allocation) = state.allocations.get(&base).copied() else {
            let text = format!("cuMemFreeAsync: {base:#x} is not the start of a live allocation");
            return Err(report::refuse(Error::INVALID_VALUE, &text));
        };
        match allocation.kind {
            // The graph keeps its memory, at the same address, until it is destroyed.
            Kind::Graph(_) => enqueue(&mut state, stream, StreamOp::Nothing).map(drop),
            Kind::Pooled(_) | Kind::Device => {
                if capture::capture_of(&state, stream)?.is_some() {
                    return Err(report::refuse(
                        Error::INVALID_VALUE,
                        "cuMemFreeAsync while capturing, of memory that was not allocated in the capture",
                    ));
                }
                enqueue(&mut state, stream, StreamOp::Free(base))?;
                state.allocations.remove(&base);
                if let Kind::Pooled(_) = allocation.kind {
                    state.pool_used -= allocation.size as u64;
                }
                Ok(())
            }
            _ => Err(Error::INVALID_VALUE),
        }
    }

    fn cuDeviceGetDefaultMemPool(out: Out<Handle>, device: c_int) {
        check_device(device)?;
        let pool = default_pool(&mut driver()?.state());
        out.set(pool)
    }

    fn cuDeviceGetMemPool(out: Out<Handle>, device: c_int) {
        check_device(device)?;
        let mut state = driver()?.state();
        let default = default_pool(&mut state);
        out.set(state.current_pool.unwrap_or(default))
    }

    fn cuDeviceSetMemPool(device: c_int, pool: Handle) {
        check_device(device)?;
        let mut state = driver()?.state();
        if !state.pools.contains_key(&pool) {
            return Err(Error::INVALID_HANDLE);
        }
        state.current_pool = Some(pool);
        Ok(())
    }

    fn cuMemPoolCreate(out: Out<Handle>, properties: In<u8>) {
        if out.is_null() || properties.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        let pool = new_pool(&mut driver()?.state());
        out.set(pool)
    }

    fn cuMemPoolDestroy(pool: Handle) {
        let mut state = driver()?.state();
        if state.default_pool == Some(pool) {
            return Err(Error::INVALID_VALUE);
        }
        if state.current_pool == Some(pool) {
            state.current_pool = None;
        }
        state.pools.get_mut(&pool).ok_or(Error::INVALID_HANDLE)?.destroyed = true;
        Ok(())
    }

    fn cuMemPoolTrimTo(pool: Handle, _keep: usize) {
        driver()?.state().pools.get(&pool).map(drop).ok_or(Error::INVALID_HANDLE)
    }

    fn cuMemPoolSetAttribute(pool: Handle, attribute: c_int, value: Out<u64>) {
        let mut state = driver()?.state();
        let (used, settings) = (state.pool_used, state.pools.get_mut(&pool).ok_or(Error::INVALID_HANDLE)?);
        match attribute {
            1..=3 => settings.flags[attribute as usize - 1] = Out::<c_int>::cast(&value).get()?,
            4 => settings.release_threshold = value.get()?,
            // The high-water marks can only be reset.
            6 | 8 if value.get()? == 0 => state.pool_high = used,
            _ => return Err(Error::INVALID_VALUE),
        }
        Ok(())
    }

    fn cuMemPoolGetAttribute(pool: Handle, attribute: c_int, value: Out<u64>) {
        let state = driver()?.state();
        let settings = state.pools.get(&pool).ok_or(Error::INVALID_HANDLE)?;
        match attribute {
            1..=3 => Out::<c_int>::cast(&value).set(settings.flags[attribute as usize - 1]),
            4 => value.set(settings.release_threshold),
            5 | 7 => value.set(state.pool_used),
            6 | 8 => value.set(state.pool_high),
            _ => Err(Error::INVALID_VALUE),
        }
    }

    fn cuMemPoolSetAccess(pool: Handle, _map: In<u8>, _count: usize) {
        driver()?.state().pools.get(&pool).map(drop).ok_or(Error::INVALID_HANDLE)
    }

    fn cuMemPoolGetAccess(flags: Out<c_int>, pool: Handle, _location: In<u8>) {
        driver()?.state().pools.get(&pool).map(drop).ok_or(Error::INVALID_HANDLE)?;
        flags.set(3)
    }
}
