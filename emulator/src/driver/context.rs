//! Contexts: the primary one, others, each thread's stack of them, and what ends with one.

use std::ffi::{c_int, c_uint};

use super::capture;
use super::entry::api;
use super::error::{CudaResult, Error};
use super::memory::release;
use super::op::StreamOp;
use super::queue::synchronize_context;
use super::report;
use super::state::{Driver, check_device, driver, with_stack};
use super::types::{Handle, In, Out};

/// Ends a context: its queued work runs, leaks are reported, everything in it is released.
fn destroy(driver: &Driver, context: Handle) -> CudaResult {
    // Work that nothing waited for still runs, so that its checks are made. A failure has already been reported.
    let _ = synchronize_context(driver, context);
    let mut state = driver.state();
    let allocations: Vec<_> = state
        .allocations
        .iter()
        .filter(|(_, a)| a.context == context)
        .map(|(base, a)| (*base, *a))
        .collect();
    for (base, _) in &allocations {
        state.allocations.remove(base);
    }
    // A context that has failed runs nothing more; its queued frees still happen.
    let queues = state.streams.values().filter(|s| s.context == context).map(|s| &s.queue);
    let to_free: Vec<_> = queues
        .flatten()
        .filter_map(|(_, op)| match op {
            StreamOp::Free(base) => Some(*base),
            _ => None,
        })
        .collect();
    let modules: Vec<_> =
        state.modules.iter().filter(|(_, m)| m.context == context).map(|(h, _)| *h).collect();
    for module in modules {
        state.modules.remove(&module);
        state.functions.retain(|_, function| function.module != module);
        state.libraries.retain(|_, of| *of != module);
    }
    state.events.retain(|_, event| event.context != context);
    state.streams.retain(|_, stream| stream.context != context);
    state.contexts.remove(&context);
    if state.primary.context == Some(context) {
        state.primary.context = None;
        state.primary.retained = 0;
    }
    drop(state);
    for base in to_free {
        let _ = driver.memory.free(base);
    }
    report::context_ended(context, &allocations);
    for (base, allocation) in allocations {
        let _ = release(driver, base, allocation);
    }
    Ok(())
}

fn create(out: &Out<Handle>, flags: c_uint, device: c_int) -> CudaResult {
    check_device(device)?;
    if out.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let context = driver()?.state().new_context(flags);
    with_stack(|stack| stack.push(context));
    out.set(context)
}

fn synchronize(context: Handle) -> CudaResult {
    let driver = driver()?;
    capture::refuse_synchronize(&mut driver.state(), context)?;
    synchronize_context(driver, context)
}

api! {
    fn cuDevicePrimaryCtxRetain(out: Out<Handle>, device: c_int) {
        check_device(device)?;
        if out.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        let mut state = driver()?.state();
        let context = match state.primary.context {
            Some(context) => context,
            None => {
                let flags = state.primary.flags;
                let context = state.new_context(flags);
                state.primary.context = Some(context);
                context
            }
        };
        state.primary.retained += 1;
        out.set(context)
    }

    fn cuDevicePrimaryCtxRelease_v2(device: c_int) {
        check_device(device)?;
        let driver = driver()?;
        let last = {
            let mut state = driver.state();
            match (state.primary.context, state.primary.retained) {
                (None, _) | (_, 0) => return Err(Error::INVALID_CONTEXT),
                (Some(context), 1) => Some(context),
                _ => {
                    state.primary.retained -= 1;
                    None
                }
            }
        };
        last.map_or(Ok(()), |context| destroy(driver, context))
    }

    fn cuDevicePrimaryCtxReset_v2(device: c_int) {
        check_device(device)?;
        let driver = driver()?;
        let context = driver.state().primary.context;
        context.map_or(Ok(()), |context| destroy(driver, context))
    }

    fn cuDevicePrimaryCtxSetFlags_v2(device: c_int, flags: c_uint) {
        check_device(device)?;
        driver()?.state().primary.flags = flags;
        Ok(())
    }

    fn cuDevicePrimaryCtxGetState(device: c_int, flags: Out<c_uint>, active: Out<c_int>) {
        check_device(device)?;
        let state = driver()?.state();
        flags.set(state.primary.flags)?;
        active.set(state.primary.context.is_some().into())
    }

    fn cuCtxCreate(out: Out<Handle>, flags: c_uint, device: c_int) {
        create(&out, flags, device)
    }

    fn cuCtxCreate_v2(out: Out<Handle>, flags: c_uint, device: c_int) {
        create(&out, flags, device)
    }

    fn cuCtxCreate_v3(out: Out<Handle>, _affinity: In<u8>, _count: c_int, flags: c_uint, device: c_int) {
        create(&out, flags, device)
    }

    fn cuCtxCreate_v4(out: Out<Handle>, _params: In<u8>, flags: c_uint, device: c_int) {
        create(&out, flags, device)
    }

    fn cuCtxDestroy(context: Handle) {
        destroy_checked(context)
    }

    fn cuCtxDestroy_v2(context: Handle) {
        destroy_checked(context)
    }

    fn cuCtxPushCurrent(context: Handle) {
        push(context)
    }

    fn cuCtxPushCurrent_v2(context: Handle) {
        push(context)
    }

    fn cuCtxPopCurrent(out: Out<Handle>) {
        pop(&out)
    }

    fn cuCtxPopCurrent_v2(out: Out<Handle>) {
        pop(&out)
    }

    fn cuCtxSetCurrent(context: Handle) {
        let state = driver()?.state();
        if !context.is_null() && !state.contexts.contains_key(&context) {
            return Err(Error::INVALID_CONTEXT);
        }
        with_stack(|stack| {
            stack.pop();
            if !context.is_null() {
                stack.push(context);
            }
        });
        Ok(())
    }

    fn cuCtxGetCurrent(out: Out<Handle>) {
        driver()?;
        out.set(with_stack(|stack| stack.last().copied()).unwrap_or_default())
    }

    fn cuCtxGetDevice(device: Out<c_int>) {
        driver()?.state().current_handle()?;
        device.set(0)
    }

    fn cuCtxGetDevice_v2(device: Out<c_int>, _context: Handle) {
        driver()?;
        device.set(0)
    }

    fn cuCtxGetFlags(flags: Out<c_uint>) {
        let state = driver()?.state();
        let context = state.current_handle()?;
        flags.set(state.contexts[&context].flags)
    }

    fn cuCtxSetFlags(flags: c_uint) {
        let mut state = driver()?.state();
        let context = state.current_handle()?;
        if let Some(context) = state.contexts.get_mut(&context) {
            context.flags = flags;
        }
        Ok(())
    }

    fn cuCtxGetId(context: Handle, id: Out<u64>) {
        let state = driver()?.state();
        let context = if context.is_null() { state.current_handle()? } else { context };
        id.set(state.contexts.get(&context).ok_or(Error::INVALID_CONTEXT)?.id)
    }

    fn cuCtxGetApiVersion(context: Handle, version: Out<c_uint>) {
        let state = driver()?.state();
        let context = if context.is_null() { state.current_handle()? } else { context };
        state.contexts.get(&context).ok_or(Error::INVALID_CONTEXT)?;
        version.set(3020)
    }

    fn cuCtxSynchronize() {
        let context = driver()?.state().current()?;
        synchronize(context)
    }

    fn cuCtxSynchronize_v2(context: Handle) {
        let context = if context.is_null() { driver()?.state().current()? } else { context };
        synchronize(context)
    }

    fn cuCtxGetLimit(value: Out<usize>, limit: c_int) {
        let state = driver()?.state();
        let context = state.current()?;
        value.set(*state.contexts[&context].limits.get(&limit).ok_or(Error::UNSUPPORTED_LIMIT)?)
    }

    fn cuCtxSetLimit(limit: c_int, value: usize) {
        let mut state = driver()?.state();
        let context = state.current()?;
        let limits = state.contexts.get_mut(&context).map(|context| &mut context.limits);
        *limits.and_then(|limits| limits.get_mut(&limit)).ok_or(Error::UNSUPPORTED_LIMIT)? = value;
        Ok(())
    }

    fn cuCtxGetCacheConfig(config: Out<c_int>) {
        let state = driver()?.state();
        let context = state.current()?;
        config.set(state.contexts[&context].cache_config)
    }

    fn cuCtxSetCacheConfig(config: c_int) {
        let mut state = driver()?.state();
        let context = state.current()?;
        if let Some(context) = state.contexts.get_mut(&context) {
            context.cache_config = config;
        }
        Ok(())
    }

    fn cuCtxGetSharedMemConfig(config: Out<c_int>) {
        let state = driver()?.state();
        let context = state.current()?;
        config.set(state.contexts[&context].shared_config)
    }

    fn cuCtxSetSharedMemConfig(_config: c_int) {
        // Bank size is fixed since capability 5.0; the call is accepted and does nothing.
        driver()?.state().current().map(drop)
    }

    fn cuCtxGetStreamPriorityRange(least: Out<c_int>, greatest: Out<c_int>) {
        driver()?.state().current()?;
        least.set_optional(0);
        greatest.set_optional(-5);
        Ok(())
    }

    fn cuCtxResetPersistingL2Cache() {
        driver()?.state().current().map(drop)
    }

    fn cuCtxAttach(out: Out<Handle>, _flags: c_uint) {
        let context = driver()?.state().current()?;
        out.set(context)
    }

    fn cuCtxDetach(context: Handle) {
        destroy_checked(context)
    }
}

fn destroy_checked(context: Handle) -> CudaResult {
    let driver = driver()?;
    {
        let state = driver.state();
        if !state.contexts.contains_key(&context) || state.primary.context == Some(context) {
            return Err(Error::INVALID_CONTEXT);
        }
    }
    with_stack(|stack| {
        if stack.last() == Some(&context) {
            stack.pop();
        }
    });
    destroy(driver, context)
}

fn push(context: Handle) -> CudaResult {
    if !driver()?.state().contexts.contains_key(&context) {
        return Err(Error::INVALID_CONTEXT);
    }
    with_stack(|stack| stack.push(context));
    Ok(())
}

fn pop(out: &Out<Handle>) -> CudaResult {
    driver()?;
    let context = with_stack(Vec::pop).ok_or(Error::INVALID_CONTEXT)?;
    out.set_optional(context);
    Ok(())
}
