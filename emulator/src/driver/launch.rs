//! Kernel launches: limits checked, parameters copied, the launch queued.
//!
//! `kernelParams` is an array of pointers without a length; the kernel's own declarations say how many there must be
//! and how large each is. The array and its targets are read through the operating system's kernel if possible
//! (`process_vm_readv`), so that a launch with too few parameters gives a report instead of crashing the host.

use std::ffi::{c_int, c_uint};
use std::sync::Arc;

use crate::exec::{Launch, blocks_at_a_time};
use crate::module::Kernel;

use super::capture;
use super::entry::api;
use super::error::{CudaResult, Error};
use super::host;
use super::op::{KernelOp, StreamOp};
use super::queue::submit;
use super::report;
use super::state::{Driver, driver};
use super::types::{Handle, In, LaunchAttribute, LaunchConfig};

/// Grid, block and dynamic shared memory of a launch.
#[derive(Clone, Copy)]
pub struct LaunchShape {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared: u32,
}

/// Everything that a launch needs, checked.
pub fn prepare(
    function: Handle,
    shape: LaunchShape,
    params: usize,
    extra: usize,
) -> CudaResult<KernelOp> {
    let driver = driver()?;
    let (kernel, max_dynamic) = {
        let mut state = driver.state();
        state.current()?;
        let function = state.function(function)?;
        (function.kernel.clone(), function.max_dynamic_shared)
    };
    check_shape(driver, &kernel, shape, max_dynamic)?;
    let params = match (params, extra) {
        (0, 0) if kernel.params.is_empty() => vec![],
        (0, 0) => {
            return Err(refuse(
                &kernel,
                &format!("no parameters given, {} declared", kernel.params.len()),
            ));
        }
        (list, 0) => from_list(&kernel, list)?,
        (0, extra) => from_extra(&kernel, extra)?,
        _ => return Err(refuse(&kernel, "kernelParams and extra are both given")),
    };
    let launch = Launch {
        grid: shape.grid,
        block: shape.block,
        dynamic_shared: shape.shared,
        params,
        dependent: false,
        workspace: 0,
    };
    Ok(KernelOp { function, kernel, launch })
}

fn refuse(kernel: &Kernel, text: &str) -> Error {
    report::refuse(Error::INVALID_VALUE, &format!("launch of {}: {text}", kernel.name))
}

fn check_shape(
    driver: &Driver,
    kernel: &Kernel,
    shape: LaunchShape,
    max_dynamic: u32,
) -> CudaResult {
    let config = &driver.config;
    let (grid, block) = (shape.grid, shape.block);
    if grid.contains(&0) || block.contains(&0) {
        return Err(refuse(kernel, &format!("grid {grid:?} or block {block:?} has a zero")));
    }
    if grid.iter().zip(config.max_grid).any(|(given, most)| *given > most) {
        return Err(refuse(kernel, &format!("grid {grid:?} is larger than {:?}", config.max_grid)));
    }
    let threads: u64 = block.iter().map(|n| u64::from(*n)).product();
    if block.iter().zip(config.max_block).any(|(given, most)| *given > most)
        || threads > u64::from(config.max_threads_per_block)
    {
        let most = (config.max_block, config.max_threads_per_block);
        return Err(refuse(
            kernel,
            &format!("block {block:?} is larger than {:?} or {} threads", most.0, most.1),
        ));
    }
    if let Some(required) = kernel.required_block.filter(|required| *required != block) {
        return Err(refuse(
            kernel,
            &format!("block {block:?}, but the kernel declares .reqntid {required:?}"),
        ));
    }
    if let Some(most) = kernel.max_threads.filter(|most| threads > u64::from(*most)) {
        return Err(refuse(
            kernel,
            &format!("{threads} threads a block, but the kernel declares .maxntid {most}"),
        ));
    }
    if shape.shared > max_dynamic {
        let text = format!(
            "{} bytes of dynamic shared memory, but only {max_dynamic} are allowed \
             ({} static bytes; raise it with CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, at most {})",
            shape.shared,
            kernel.static_shared,
            config.shared_per_block_optin.saturating_sub(kernel.static_shared),
        );
        return Err(refuse(kernel, &text));
    }
    if kernel.static_shared > config.shared_per_block {
        let text = format!(
            "{} bytes of static shared memory, at most {}",
            kernel.static_shared, config.shared_per_block
        );
        return Err(refuse(kernel, &text));
    }
    Ok(())
}

/// The parameter block from `kernelParams`.
fn from_list(kernel: &Kernel, list: usize) -> CudaResult<Vec<u8>> {
    let count = kernel.params.len();
    let mut pointers = vec![0u8; count * 8];
    if !host::read(list, &mut pointers) {
        return Err(refuse(
            kernel,
            &format!("wrong parameter count: kernelParams does not hold {count} pointers"),
        ));
    }
    let mut block = vec![0; kernel.param_bytes as usize];
    for (index, (param, pointer)) in kernel.params.iter().zip(pointers.chunks_exact(8)).enumerate()
    {
        let address = pointer.iter().rev().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
        let range = param.offset as usize..(param.offset + param.size) as usize;
        let place = block.get_mut(range).ok_or(Error::INVALID_VALUE)?;
        if address == 0 || !host::read(address, place) {
            let text = format!(
                "wrong parameter count: parameter {index} of {count} ({}, {} bytes) points to {address:#x}, which \
                 cannot be read",
                param.name, param.size
            );
            return Err(refuse(kernel, &text));
        }
    }
    Ok(block)
}

/// The parameter block from `extra`: `CU_LAUNCH_PARAM_BUFFER_POINTER` (1), `…_SIZE` (2), `…_END` (0).
fn from_extra(kernel: &Kernel, extra: usize) -> CudaResult<Vec<u8>> {
    let word = |index: usize| -> CudaResult<usize> {
        let mut bytes = [0; 8];
        let readable = host::read(extra.wrapping_add(index * 8), &mut bytes);
        if readable {
            Ok(usize::from_ne_bytes(bytes))
        } else {
            Err(refuse(kernel, "extra cannot be read"))
        }
    };
    let (mut buffer, mut size, mut at) = (0, None, 0);
    loop {
        match word(at)? {
            0 => break,
            1 => buffer = word(at + 1)?,
            2 => {
                let mut bytes = [0; 8];
                if !host::read(word(at + 1)?, &mut bytes) {
                    return Err(refuse(kernel, "extra: the size cannot be read"));
                }
                size = Some(usize::from_ne_bytes(bytes));
            }
            other => {
                return Err(refuse(
                    kernel,
                    &format!("extra holds {other:#x}, which means nothing"),
                ));
            }
        }
        at += 2;
    }
    let declared = kernel.param_bytes as usize;
    let given = size.unwrap_or(0);
    // A C struct may end in padding.
    if given < declared || given > declared.next_multiple_of(16) {
        let text = format!("wrong parameter size: {given} bytes given, {declared} declared");
        return Err(refuse(kernel, &text));
    }
    let mut block = vec![0; declared];
    if !host::read(buffer, &mut block) {
        return Err(refuse(kernel, "extra: the parameter buffer cannot be read"));
    }
    Ok(block)
}

/// What a launch may do beside its shape.
#[derive(Clone, Copy, Default)]
struct Way {
    /// It may begin before the previous launch has ended.
    overlaps: bool,
    /// Its blocks may wait for each other.
    cooperative: bool,
}

fn launch(
    function: Handle,
    shape: LaunchShape,
    stream: Handle,
    params: usize,
    extra: usize,
    way: Way,
) -> CudaResult {
    // A launch overlaps only with one that is still queued right before it, or precedes it in a capture.
    let behind = {
        let mut state = driver()?.state();
        let stream = state.stream(stream)?;
        let last = match capture::capture_of(&state, stream)? {
            Some(capture) => capture::last_op(&state, capture, stream),
            None => state.streams.get(&stream).and_then(|s| s.queue.back()).map(|(_, op)| op),
        };
        matches!(last, Some(StreamOp::Kernel(_)))
    };
    let mut op = prepare(function, shape, params, extra)?;
    op.launch.dependent = way.overlaps && behind;
    if way.cooperative {
        let threads = shape.block.iter().product();
        let most = blocks_at_a_time(&driver()?.config, &op.kernel, threads, shape.shared);
        let blocks: u64 = shape.grid.iter().map(|&n| u64::from(n)).product();
        if blocks > most {
            let text = format!(
                "launch of {}: {blocks} cooperative blocks, but the device holds {most} at a time",
                op.kernel.name
            );
            return Err(report::refuse(Error::COOPERATIVE_LAUNCH_TOO_LARGE, &text));
        }
        op.launch.workspace = op.kernel.workspace.unwrap_or(0);
    }
    submit(stream, StreamOp::Kernel(Arc::new(op)))
}

/// `CU_LAUNCH_ATTRIBUTE_COOPERATIVE`: all blocks must be on the device at the same time.
const COOPERATIVE: u32 = 2;

/// `CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION`: the launch may begin before the previous one has ended.
const OVERLAP: u32 = 6;

/// What a launch attribute asks for, if that changes what a kernel may do.
fn check_attribute(attribute: &LaunchAttribute) -> CudaResult {
    let refuse = |text: &str| {
        Err(report::refuse(Error::NOT_SUPPORTED, &format!("cuLaunchKernelEx: {text}")))
    };
    match attribute.id {
        // Cooperation, which the launch itself checks. Cache windows, synchronisation policy, cluster preference, priority,
        // memory domains, carve-out, and programmatic serialisation (a permission to overlap).
        0 | 1 | 2 | 3 | 5 | 6 | 8 | 9 | 10 | 14 | 15 | 16 => Ok(()),
        4 | 11 if attribute.value[..3] == [1, 1, 1] => Ok(()),
        4 | 11 => refuse("thread block clusters"),
        7 | 12 => refuse("events that a kernel triggers"),
        13 => refuse("graph nodes that are updated from the device"),
        _ => refuse(&format!("launch attribute {}", attribute.id)),
    }
}

api! {
    fn cuLaunchKernel | cuLaunchKernel_ptsz(
        function: Handle,
        grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
        block_x: c_uint, block_y: c_uint, block_z: c_uint,
        shared: c_uint, stream: Handle, params: usize, extra: usize,
    ) {
        let shape = LaunchShape { grid: [grid_x, grid_y, grid_z], block: [block_x, block_y, block_z], shared };
        launch(function, shape, stream, params, extra, Way::default())
    }

    fn cuLaunchKernelEx | cuLaunchKernelEx_ptsz(config: In<LaunchConfig>, function: Handle, params: usize, extra: usize) {
        let config = config.get()?;
        let mut way = Way::default();
        for index in 0..config.attribute_count as usize {
            let address = config.attributes + index * size_of::<LaunchAttribute>();
            let attribute = In::<LaunchAttribute>::at_address(address).get()?;
            check_attribute(&attribute)?;
            way.overlaps |= attribute.id == OVERLAP && attribute.value[0] != 0;
            way.cooperative |= attribute.id == COOPERATIVE && attribute.value[0] != 0;
        }
        let shape = LaunchShape { grid: config.grid, block: config.block, shared: config.shared };
        launch(function, shape, config.stream, params, extra, way)
    }

    fn cuLaunchCooperativeKernel | cuLaunchCooperativeKernel_ptsz(
        function: Handle,
        grid_x: c_uint, grid_y: c_uint, grid_z: c_uint,
        block_x: c_uint, block_y: c_uint, block_z: c_uint,
        shared: c_uint, stream: Handle, params: usize,
    ) {
        let shape = LaunchShape { grid: [grid_x, grid_y, grid_z], block: [block_x, block_y, block_z], shared };
        launch(function, shape, stream, params, 0, Way { cooperative: true, ..Way::default() })
    }

    fn cuLaunch(function: Handle) {
        let shape = LaunchShape { grid: [1; 3], block: [1; 3], shared: 0 };
        launch(function, shape, Handle::NULL, 0, 0, Way::default())
    }

    fn cuFuncSetBlockShape(_function: Handle, _x: c_int, _y: c_int, _z: c_int) {
        driver()?;
        Err(report::refuse(Error::NOT_SUPPORTED, "launches in parts (cuFuncSetBlockShape, cuParamSet, cuLaunchGrid)"))
    }
}
