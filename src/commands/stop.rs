//! Signals that ask a run to end: Ctrl-C, and what Slurm, Kubernetes, systemd and a closing terminal send. A run
//! finishes its step and saves; a comparison lets the run that is on do so.

use anyhow::Result;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Set once somebody has asked this process to stop. A second Ctrl-C ends it at once; other signals can be repeated, as
/// those who send them do.
pub fn when_asked() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    listen(move |signal| {
        let again = flag.swap(true, Ordering::Relaxed);
        match signal {
            Signal::Interrupt if again => std::process::exit(130),
            Signal::Interrupt => {
                super::say(false, "\nstopping after this step; press Ctrl-C again to stop at once")
            }
            Signal::End if !again => super::say(false, "asked to end: stopping after this step"),
            Signal::End => {}
        }
    })?;
    Ok(stop)
}

/// For a process that waits for another, whose id is in the second value (0: none). Ctrl-C goes to both by itself; the
/// other signals may not, and are passed on.
pub fn of_a_parent() -> Result<(Arc<AtomicBool>, Arc<AtomicU32>)> {
    let (stop, child) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let (flag, id) = (Arc::clone(&stop), Arc::clone(&child));
    listen(move |signal| {
        flag.store(true, Ordering::Relaxed);
        if matches!(signal, Signal::End) {
            end(id.load(Ordering::Relaxed));
        }
    })?;
    Ok((stop, child))
}

enum Signal {
    Interrupt,
    End,
}

#[cfg(unix)]
fn listen(mut answer: impl FnMut(Signal) + Send + 'static) -> Result<()> {
    use anyhow::Context;
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    let mut wanted = vec![SIGINT, SIGTERM];
    if !is_ignored(SIGHUP) {
        wanted.push(SIGHUP);
    }
    let mut signals = Signals::new(wanted).context("cannot listen for signals")?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            answer(match signal {
                SIGINT => Signal::Interrupt,
                _ => Signal::End,
            });
        }
    });
    Ok(())
}

/// Under `nohup` a closing terminal is to be outlived.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let mut now = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null action changes nothing, and `now` has room for the one that is set; all zeros is a valid
    // `sigaction`, should the call fail.
    let now = unsafe {
        libc::sigaction(signal, std::ptr::null(), now.as_mut_ptr());
        now.assume_init()
    };
    now.sa_sigaction == libc::SIG_IGN
}

#[cfg(unix)]
fn end(process: u32) {
    if let Ok(process @ 1..) = libc::pid_t::try_from(process) {
        // SAFETY: no memory is involved. The id is that of a child which is still waited for, so that it is no other's.
        let _ = unsafe { libc::kill(process, libc::SIGTERM) };
    }
}

#[cfg(not(unix))]
fn listen(mut answer: impl FnMut(Signal) + Send + 'static) -> Result<()> {
    use anyhow::Context;
    ctrlc::set_handler(move || answer(Signal::Interrupt)).context("cannot listen for Ctrl-C")
}

#[cfg(not(unix))]
fn end(_: u32) {}
