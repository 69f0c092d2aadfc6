//! Querying and setting a kernel's attributes.

use std::ffi::{c_char, c_int};

use crate::exec::max_threads;

use super::entry::api;
use super::error::{CudaResult, Error};
use super::report;
use super::state::{driver, state};
use super::types::{Handle, Out};

/// Version 9.0 of PTX, as `CU_FUNC_ATTRIBUTE_PTX_VERSION` writes it.
const PTX_VERSION: c_int = 90;

fn get(out: &Out<c_int>, attribute: c_int, function: Handle) -> CudaResult {
    let driver = driver()?;
    let mut state = driver.state();
    state.current()?;
    let function = state.function(function)?;
    let (kernel, config) = (&function.kernel, &driver.config);
    out.set(match attribute {
        0 => max_threads(kernel, config) as c_int,
        1 => kernel.static_shared as c_int,
        2 => 0,
        3 => kernel.local_bytes as c_int,
        4 => kernel.registers.clamp(16, 255) as c_int,
        5 => PTX_VERSION,
        6 => (config.capability.0 * 10 + config.capability.1) as c_int,
        7 => 0,
        8 => function.max_dynamic_shared as c_int,
        9 => function.carveout,
        10..=15 => 0,
        _ => return Err(Error::INVALID_VALUE),
    })
}

fn set(function: Handle, attribute: c_int, value: c_int) -> CudaResult {
    let driver = driver()?;
    let mut state = driver.state();
    state.current()?;
    let function = state.function(function)?;
    match attribute {
        8 => {
            let most =
                driver.config.shared_per_block_optin.saturating_sub(function.kernel.static_shared);
            let Some(bytes) = u32::try_from(value).ok().filter(|bytes| *bytes <= most) else {
                let text = format!(
                    "cuFuncSetAttribute: {value} bytes of dynamic shared memory for {}, at most {most} are possible",
                    function.kernel.name
                );
                return Err(report::refuse(Error::INVALID_VALUE, &text));
            };
            function.max_dynamic_shared = bytes;
            Ok(())
        }
        9 if (-1..=100).contains(&value) => {
            function.carveout = value;
            Ok(())
        }
        14 | 15 => Ok(()),
        _ => Err(Error::INVALID_VALUE),
    }
}

fn name(out: &Out<*const c_char>, function: Handle) -> CudaResult {
    let mut state = state()?;
    out.set(state.function(function)?.name.as_ptr())
}

fn param(function: Handle, index: usize, offset: &Out<usize>, size: &Out<usize>) -> CudaResult {
    let mut state = state()?;
    let param =
        state.function(function)?.kernel.params.get(index).ok_or(Error::INVALID_VALUE)?.clone();
    offset.set(param.offset as usize)?;
    size.set_optional(param.size as usize);
    Ok(())
}

api! {
    fn cuFuncGetAttribute(out: Out<c_int>, attribute: c_int, function: Handle) {
        get(&out, attribute, function)
    }

    fn cuFuncSetAttribute(function: Handle, attribute: c_int, value: c_int) {
        set(function, attribute, value)
    }

    fn cuFuncSetCacheConfig(function: Handle, _config: c_int) {
        state()?.function(function).map(drop)
    }

    fn cuFuncSetSharedMemConfig(function: Handle, _config: c_int) {
        state()?.function(function).map(drop)
    }

    fn cuFuncGetModule(out: Out<Handle>, function: Handle) {
        let mut state = state()?;
        out.set(state.function(function)?.module)
    }

    fn cuFuncGetName(out: Out<*const c_char>, function: Handle) {
        name(&out, function)
    }

    fn cuFuncGetParamInfo(function: Handle, index: usize, offset: Out<usize>, size: Out<usize>) {
        param(function, index, &offset, &size)
    }

    fn cuFuncIsLoaded(out: Out<c_int>, function: Handle) {
        state()?.function(function)?;
        out.set(1)
    }

    fn cuFuncLoad(function: Handle) {
        state()?.function(function).map(drop)
    }

    fn cuKernelGetAttribute(out: Out<c_int>, attribute: c_int, kernel: Handle, _device: c_int) {
        get(&out, attribute, kernel)
    }

    fn cuKernelSetAttribute(attribute: c_int, value: c_int, kernel: Handle, _device: c_int) {
        set(kernel, attribute, value)
    }

    fn cuKernelSetCacheConfig(kernel: Handle, _config: c_int, _device: c_int) {
        state()?.function(kernel).map(drop)
    }

    fn cuKernelGetName(out: Out<*const c_char>, kernel: Handle) {
        name(&out, kernel)
    }

    fn cuKernelGetParamInfo(kernel: Handle, index: usize, offset: Out<usize>, size: Out<usize>) {
        param(kernel, index, &offset, &size)
    }
}
