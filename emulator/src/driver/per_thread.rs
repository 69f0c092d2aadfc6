//! Whether the current call comes from a program built with a per-thread default stream.

use std::cell::Cell;
use std::ffi::c_int;

thread_local! {
    static PER_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// Whether stream 0 means the calling thread's own default stream in the current call.
pub fn default_is_per_thread() -> bool {
    PER_THREAD.get()
}

/// Runs a call of a program built with a per-thread default stream.
pub fn per_thread(body: impl FnOnce() -> c_int) -> c_int {
    PER_THREAD.set(true);
    let code = body();
    PER_THREAD.set(false);
    code
}
