//! The way in: what every exported function does before and after its own work.

use std::cell::Cell;
use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::{CudaResult, Error};
use super::report;

thread_local! {
    /// Set while a host function runs on this thread, because it must not call the driver.
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Runs the body of one exported function: a host callback is refused, and a panic (a bug of ours) becomes an error
/// value instead of unwinding into C.
pub fn call(name: &'static str, body: impl FnOnce() -> CudaResult) -> c_int {
    if IN_CALLBACK.get() && !name.starts_with("cuGetError") {
        report::warn(&format!(
            "{name} called from a host function, which must not call the driver"
        ));
        return Error::NOT_PERMITTED.0;
    }
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        report::warn(&format!("{name} panicked: this is a bug of the emulator"));
        Err(Error::UNKNOWN)
    });
    let code = match result {
        Ok(()) => 0,
        Err(error) => error.0,
    };
    report::trace(name, code);
    code
}

/// Runs a host function of the program (a stream callback), which may not call the driver.
pub fn callback(body: impl FnOnce()) {
    IN_CALLBACK.set(true);
    body();
    IN_CALLBACK.set(false);
}

/// Declares exported functions of the C ABI. Bodies are ordinary Rust that returns [`CudaResult`]. A second name after
/// `|` is the form for a per-thread default stream.
///
/// # Safety
/// Every function declared this way has the contract of the C function of its name: pointers that are not null must be
/// valid for what NVIDIA's driver API reference says of them.
macro_rules! api {
    ($($(#[$meta:meta])* fn $name:ident $(| $per_thread:ident)? ($($arg:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        $(#[$meta])*
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, clippy::missing_safety_doc, clippy::too_many_arguments)]
        pub unsafe extern "C" fn $name($($arg: $type),*) -> std::ffi::c_int {
            $crate::driver::entry::call(stringify!($name), || -> $crate::driver::error::CudaResult { $body })
        }
        $crate::driver::entry::per_thread_alias!($name $(| $per_thread)? ($($arg: $type),*));
    )*};
}

/// The form of a function for programs built with a per-thread default stream: the same, except that stream 0 is the
/// calling thread's.
macro_rules! per_thread_alias {
    ($name:ident ($($arg:ident: $type:ty),*)) => {};
    ($name:ident | $per_thread:ident ($($arg:ident: $type:ty),*)) => {
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, clippy::missing_safety_doc, clippy::too_many_arguments)]
        pub unsafe extern "C" fn $per_thread($($arg: $type),*) -> std::ffi::c_int {
            // SAFETY: the caller's promises are those of the function that this one wraps.
            $crate::driver::per_thread::per_thread(|| unsafe { $name($($arg),*) })
        }
    };
}

pub(crate) use {api, per_thread_alias};
