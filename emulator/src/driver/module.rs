//! Modules and libraries: PTX text in, kernels and globals out.

use std::collections::HashMap;
use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::sync::Arc;

use crate::module::Module;

use super::entry::api;
use super::error::{CudaResult, Error};
use super::objects::{LoadedFunction, LoadedModule};
use super::queue::synchronize_context;
use super::report;
use super::state::{Driver, State, driver};
use super::types::{DevicePtr, Handle, In, Out, Text};

/// How an image starts if it is not PTX.
const ELF: &[u8] = b"\x7fELF";
const FATBIN: &[u8] = &[0x50, 0xed, 0x55, 0xba];
const FATBIN_WRAPPER: &[u8] = &[0xb1, 0x43, 0x62, 0x46];

/// A refused image: the error and what to say about it.
type Refusal = (Error, String);

/// PTX text from an image's bytes.
fn text_of(bytes: &[u8]) -> Result<&str, Refusal> {
    let refuse = |what: &str| {
        let text = format!(
            "{what}; the emulator runs PTX only: compile with -ptx, or embed PTX beside the cubin"
        );
        Err((Error::NO_BINARY_FOR_GPU, text))
    };
    match bytes {
        _ if bytes.starts_with(ELF) => refuse("the image is an ELF file (a cubin)"),
        _ if bytes.starts_with(FATBIN) || bytes.starts_with(FATBIN_WRAPPER) => {
            refuse("the image is a fat binary")
        }
        _ => std::str::from_utf8(bytes)
            .map_err(|_| (Error::INVALID_PTX, "the image is not text".into())),
    }
}

/// The version in `.version`.
fn version(ptx: &str) -> Option<(u32, u32)> {
    let lines = ptx.lines().map(str::trim);
    let text = lines.filter_map(|line| line.strip_prefix(".version")).next()?;
    let (major, minor) = text.trim().split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The architecture that `.target` names: its number, and whether it is only that one (a letter suffix).
fn target(ptx: &str) -> Option<(u32, bool)> {
    let line = ptx.lines().map(str::trim_start).find(|line| line.starts_with(".target"))?;
    let name = line.split("sm_").nth(1)?;
    let digits: String = name.chars().take_while(char::is_ascii_digit).collect();
    Some((
        digits.parse().ok()?,
        name[digits.len()..].starts_with(|c: char| c.is_ascii_alphabetic()),
    ))
}

fn load(image: &[u8]) -> Result<Handle, Refusal> {
    let plain = |error: Error| (error, String::new());
    let driver = driver().map_err(plain)?;
    let context = driver.state().current().map_err(plain)?;
    let ptx = text_of(image)?;
    let (major, minor) = driver.config.capability;
    if let Some((sm, only)) = target(ptx) {
        let device = major * 10 + minor;
        if sm > device || (only && sm != device) {
            let text = format!(
                "the PTX is for sm_{sm}{}, the device is sm_{device}",
                if only { " only" } else { "" }
            );
            return Err((Error::NO_BINARY_FOR_GPU, text));
        }
    }
    if let (Some(newest), Some(version)) = (driver.options.ptx, version(ptx))
        && version > newest
    {
        let text = format!(
            "the PTX is of version {}.{}, the driver takes {}.{} at most",
            version.0, version.1, newest.0, newest.1
        );
        return Err((Error::UNSUPPORTED_PTX_VERSION, text));
    }
    let module = Module::load(ptx, &driver.memory, &driver.config)
        .map_err(|error| (Error::INVALID_PTX, error.to_string()))?;
    let mut state = driver.state();
    let handle = state.handle();
    state.modules.insert(
        handle,
        LoadedModule { context, module: Arc::new(module), functions: HashMap::new() },
    );
    Ok(handle)
}

fn load_and_report(out: &Out<Handle>, image: &[u8]) -> CudaResult {
    if out.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    match load(image) {
        Ok(module) => out.set(module),
        Err((error, text)) if text.is_empty() => Err(error),
        Err((error, text)) => Err(report::refuse(error, &format!("loading a module: {text}"))),
    }
}

/// The bytes of an image given by address: a magic number identifies binaries, text ends in NUL.
fn image_bytes<'a>(image: *const c_void) -> CudaResult<&'a [u8]> {
    if image.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let byte = |index: usize| {
        // SAFETY: the caller promises an image. Text shorter than a magic number ends the comparison at its NUL,
        // because `all` stops at the first difference.
        unsafe { *image.cast::<u8>().add(index) }
    };
    let starts = |magic: &[u8]| (0..magic.len()).all(|index| byte(index) == magic[index]);
    if let Some(magic) = [ELF, FATBIN, FATBIN_WRAPPER].into_iter().find(|magic| starts(magic)) {
        return Ok(magic);
    }
    // SAFETY: the caller promises NUL-terminated text that outlives the call.
    Ok(unsafe { std::ffi::CStr::from_ptr(image.cast()) }.to_bytes())
}

fn read_file(path: &Text) -> CudaResult<Vec<u8>> {
    let path = path.text()?;
    let mut bytes = std::fs::read(path).map_err(|error| {
        report::refuse(Error::FILE_NOT_FOUND, &format!("loading a module: {path}: {error}"))
    })?;
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(bytes)
}

fn unload(module: Handle) -> CudaResult {
    let driver = driver()?;
    let context = {
        let state = driver.state();
        state.current()?;
        state.modules.get(&module).ok_or(Error::INVALID_HANDLE)?.context
    };
    synchronize_context(driver, context)?;
    let mut state = driver.state();
    let removed = state.modules.remove(&module);
    state.functions.retain(|_, function| function.module != module);
    state.libraries.retain(|_, of| *of != module);
    drop(state);
    drop(removed);
    Ok(())
}

/// The handle of a kernel, the same at every call.
fn function_handle(
    driver: &Driver,
    state: &mut State,
    module: Handle,
    name: &str,
) -> CudaResult<Handle> {
    let found = state.modules.get(&module).ok_or(Error::INVALID_HANDLE)?;
    if let Some(handle) = found.functions.get(name) {
        return Ok(*handle);
    }
    let Some(kernel) = found.module.kernel(name) else {
        let names: Vec<_> =
            found.module.kernels().map(|kernel| kernel.name.clone()).take(8).collect();
        let text = format!("no kernel `{name}` in the module, which has {}", names.join(", "));
        return Err(report::refuse(Error::NOT_FOUND, &text));
    };
    let handle = state.handle();
    let max_dynamic_shared = driver.config.shared_per_block.saturating_sub(kernel.static_shared);
    let c_name = CString::new(name).map_err(|_| Error::INVALID_VALUE)?;
    state.functions.insert(
        handle,
        LoadedFunction { module, kernel, name: c_name, max_dynamic_shared, carveout: -1 },
    );
    if let Some(found) = state.modules.get_mut(&module) {
        found.functions.insert(name.to_owned(), handle);
    }
    Ok(handle)
}

fn get_function(out: &Out<Handle>, module: Handle, name: &Text) -> CudaResult {
    if out.is_null() {
        return Err(Error::INVALID_VALUE);
    }
    let driver = driver()?;
    let mut state = driver.state();
    state.current()?;
    let handle = function_handle(driver, &mut state, module, name.text()?)?;
    out.set(handle)
}

fn get_global(
    address: &Out<DevicePtr>,
    bytes: &Out<usize>,
    module: Handle,
    name: &Text,
) -> CudaResult {
    let state = driver()?.state();
    state.current()?;
    let name = name.text()?;
    let module = state.modules.get(&module).ok_or(Error::INVALID_HANDLE)?;
    let (at, size) = module.module.global(name).ok_or(Error::NOT_FOUND)?;
    address.set_optional(at);
    bytes.set_optional(size);
    Ok(())
}

fn enumerate(out: &Out<Handle>, count: c_uint, module: Handle) -> CudaResult {
    let driver = driver()?;
    let mut state = driver.state();
    let found = state.modules.get(&module).ok_or(Error::INVALID_HANDLE)?;
    let mut names: Vec<_> = found.module.kernels().map(|kernel| kernel.name.clone()).collect();
    names.sort();
    for (index, name) in names.iter().take(count as usize).enumerate() {
        out.set_at(index, function_handle(driver, &mut state, module, name)?)?;
    }
    Ok(())
}

fn count(out: &Out<c_uint>, module: Handle) -> CudaResult {
    let state = driver()?.state();
    out.set(
        state.modules.get(&module).ok_or(Error::INVALID_HANDLE)?.module.kernels().count() as c_uint
    )
}

/// The message buffers among the options of `cuModuleLoadDataEx`: log at `text`, its size at `size`.
fn write_log(
    ids: &[c_int],
    values: &Out<usize>,
    text: c_int,
    size: c_int,
    message: &str,
) -> CudaResult {
    let index_of = |id: c_int| ids.iter().position(|other| *other == id);
    let (Some(buffer), Some(length)) = (index_of(text), index_of(size)) else {
        return Ok(());
    };
    let value = |index: usize| In::<usize>::at_address(values.address() + index * 8).get();
    let (place, room) = (Out::<u8>::at_address(value(buffer)?), value(length)?);
    if room == 0 {
        return Ok(());
    }
    let kept = &message.as_bytes()[..message.len().min(room - 1)];
    place.set_bytes(kept)?;
    place.set_at(kept.len(), 0)?;
    values.set_at(length, kept.len())
}

fn library(module: Handle) -> CudaResult<Handle> {
    driver()?.state().libraries.get(&module).copied().ok_or(Error::INVALID_HANDLE)
}

fn new_library(out: &Out<Handle>, image: &[u8]) -> CudaResult {
    let mut module = Handle::NULL;
    load_and_report(&Out::from(&mut module), image)?;
    let mut state = driver()?.state();
    let handle = state.handle();
    state.libraries.insert(handle, module);
    out.set(handle)
}

api! {
    fn cuModuleLoad(out: Out<Handle>, path: Text) {
        load_and_report(&out, &read_file(&path)?)
    }

    fn cuModuleLoadData(out: Out<Handle>, image: *const c_void) {
        load_and_report(&out, image_bytes(image)?)
    }

    fn cuModuleLoadDataEx(
        out: Out<Handle>, image: *const c_void, options: c_uint, ids: In<c_int>, values: Out<usize>,
    ) {
        if out.is_null() {
            return Err(Error::INVALID_VALUE);
        }
        let ids = if options == 0 { vec![] } else { ids.list(options as usize)? };
        // Options 3 and 4: buffer and size of the information log; 5 and 6: of the error log.
        match load(image_bytes(image)?) {
            Ok(module) => {
                write_log(&ids, &values, 3, 4, "")?;
                write_log(&ids, &values, 5, 6, "")?;
                out.set(module)
            }
            Err((error, text)) => {
                write_log(&ids, &values, 5, 6, &text)?;
                Err(report::refuse(error, &format!("loading a module: {text}")))
            }
        }
    }

    fn cuModuleLoadFatBinary(_out: Out<Handle>, _image: *const c_void) {
        driver()?.state().current()?;
        let text = "the image is a fat binary; the emulator runs PTX only";
        Err(report::refuse(Error::NO_BINARY_FOR_GPU, text))
    }

    fn cuModuleUnload(module: Handle) {
        unload(module)
    }

    fn cuModuleGetLoadingMode(mode: Out<c_int>) {
        driver()?;
        mode.set(1)
    }

    fn cuModuleGetFunction(out: Out<Handle>, module: Handle, name: Text) {
        get_function(&out, module, &name)
    }

    fn cuModuleGetFunctionCount(out: Out<c_uint>, module: Handle) {
        count(&out, module)
    }

    fn cuModuleEnumerateFunctions(out: Out<Handle>, number: c_uint, module: Handle) {
        enumerate(&out, number, module)
    }

    fn cuModuleGetGlobal_v2(address: Out<DevicePtr>, bytes: Out<usize>, module: Handle, name: Text) {
        get_global(&address, &bytes, module, &name)
    }

    fn cuLibraryLoadData(
        out: Out<Handle>, image: *const c_void,
        _jit: In<c_int>, _jit_values: In<usize>, _jit_count: c_uint,
        _options: In<c_int>, _values: In<usize>, _count: c_uint,
    ) {
        new_library(&out, image_bytes(image)?)
    }

    fn cuLibraryLoadFromFile(
        out: Out<Handle>, path: Text,
        _jit: In<c_int>, _jit_values: In<usize>, _jit_count: c_uint,
        _options: In<c_int>, _values: In<usize>, _count: c_uint,
    ) {
        new_library(&out, &read_file(&path)?)
    }

    fn cuLibraryUnload(handle: Handle) {
        unload(library(handle)?)
    }

    fn cuLibraryGetKernel(out: Out<Handle>, handle: Handle, name: Text) {
        get_function(&out, library(handle)?, &name)
    }

    fn cuLibraryGetKernelCount(out: Out<c_uint>, handle: Handle) {
        count(&out, library(handle)?)
    }

    fn cuLibraryEnumerateKernels(out: Out<Handle>, number: c_uint, handle: Handle) {
        enumerate(&out, number, library(handle)?)
    }

    fn cuLibraryGetModule(out: Out<Handle>, handle: Handle) {
        out.set(library(handle)?)
    }

    fn cuLibraryGetGlobal(address: Out<DevicePtr>, bytes: Out<usize>, handle: Handle, name: Text) {
        get_global(&address, &bytes, library(handle)?, &name)
    }

    // A library's kernel and its module's function share one handle here.
    fn cuKernelGetFunction(out: Out<Handle>, kernel: Handle) {
        driver()?.state().function(kernel)?;
        out.set(kernel)
    }

    fn cuKernelGetLibrary(out: Out<Handle>, kernel: Handle) {
        let mut state = driver()?.state();
        let module = state.function(kernel)?.module;
        let found = state.libraries.iter().find(|(_, of)| **of == module).map(|(handle, _)| *handle);
        out.set(found.ok_or(Error::INVALID_HANDLE)?)
    }

    // The linker: one PTX input passes through, because there is nothing to link.
    fn cuLinkCreate_v2(_options: c_uint, _ids: In<c_int>, _values: In<usize>, out: Out<Handle>) {
        let mut state = driver()?.state();
        state.current()?;
        let handle = state.handle();
        state.links.insert(handle, vec![]);
        out.set(handle)
    }

    fn cuLinkAddData_v2(
        link: Handle, kind: c_int, data: usize, size: usize, _name: *const c_char,
        _options: c_uint, _ids: In<c_int>, _values: In<usize>,
    ) {
        let mut bytes = vec![0; size];
        if !super::host::read(data, &mut bytes) {
            return Err(Error::INVALID_VALUE);
        }
        add_link_input(link, kind, bytes)
    }

    fn cuLinkAddFile_v2(
        link: Handle, kind: c_int, path: Text, _options: c_uint, _ids: In<c_int>, _values: In<usize>,
    ) {
        add_link_input(link, kind, read_file(&path)?)
    }

    fn cuLinkComplete(link: Handle, image: Out<usize>, size: Out<usize>) {
        let mut state = driver()?.state();
        let text = state.links.get_mut(&link).ok_or(Error::INVALID_HANDLE)?;
        image.set(text.as_ptr() as usize)?;
        size.set_optional(text.len());
        Ok(())
    }

    fn cuLinkDestroy(link: Handle) {
        driver()?.state().links.remove(&link).map(drop).ok_or(Error::INVALID_HANDLE)
    }
}

/// `CU_JIT_INPUT_PTX`.
const PTX_INPUT: c_int = 1;

fn add_link_input(link: Handle, kind: c_int, mut bytes: Vec<u8>) -> CudaResult {
    if kind != PTX_INPUT {
        return Err(report::refuse(Error::INVALID_IMAGE, "the linker takes PTX only"));
    }
    let mut state = driver()?.state();
    let text = state.links.get_mut(&link).ok_or(Error::INVALID_HANDLE)?;
    if !text.is_empty() {
        return Err(report::refuse(Error::NOT_SUPPORTED, "linking more than one PTX input"));
    }
    if bytes.last() != Some(&0) {
        bytes.push(0);
    }
    *text = bytes;
    Ok(())
}
