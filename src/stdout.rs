//! Whether this process was started with a standard output. If not (`>&-`), Rust's runtime opens /dev/null instead, and
//! an answer would be lost silently; from `main` on, this looks like a deliberate choice.

use std::sync::atomic::{AtomicBool, Ordering};

static CLOSED: AtomicBool = AtomicBool::new(false);

/// Closed by the parent process, rather than redirected to nowhere.
pub fn was_closed() -> bool {
    CLOSED.load(Ordering::Relaxed)
}

// SAFETY: the system's loader calls what this section has, once and before `main`, as functions of C. This one needs
// nothing of Rust's runtime, which is not there yet, and cannot unwind.
#[cfg(target_os = "linux")]
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = look;

#[cfg(target_os = "linux")]
extern "C" fn look() {
    // SAFETY: asks for the flags of a descriptor, which need not be open; no memory is involved.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
    CLOSED.store(flags == -1, Ordering::Relaxed);
}
