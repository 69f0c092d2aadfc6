//! Signals that ask a run to end: Ctrl-C, and what Slurm, Kubernetes, systemd and a closing terminal send. A run
//! finishes its step and saves; before its first it ends at once and leaves nothing. A comparison lets the run that is on do
//! so.

use crate::error::EXIT_FAILURE;
use anyhow::Result;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Whether somebody has asked this process to stop.
pub struct Stop {
    asked: Arc<AtomicBool>,
    /// What has to be taken back where the process ends at once; `None` once there are steps to finish.
    undo: Arc<Mutex<Option<Undo>>>,
}

type Undo = Box<dyn FnOnce() + Send>;

impl Stop {
    /// Until there are steps to finish, a signal ends the process at once, after `undo`.
    pub fn undo_before_steps(&self, undo: impl FnOnce() + Send + 'static) {
        let mut before = self.undo.lock().unwrap_or_else(PoisonError::into_inner);
        if before.is_some() {
            *before = Some(Box::new(undo));
        }
    }

    /// From here on a step is finished and saved. Does not return where the process is being ended.
    pub fn after_the_step(&self) -> &AtomicBool {
        let _: Option<Undo> = self.undo.lock().unwrap_or_else(PoisonError::into_inner).take();
        &self.asked
    }
}

/// Listens for signals. They end the process at once until [`Stop::after_the_step`]; then a second Ctrl-C does, while other
/// signals can be repeated, as those who send them do.
pub fn when_asked() -> Result<Stop> {
    let asked = Arc::new(AtomicBool::new(false));
    let undo: Arc<Mutex<Option<Undo>>> = Arc::new(Mutex::new(Some(Box::new(|| ()))));
    let (flag, before) = (Arc::clone(&asked), Arc::clone(&undo));
    listen(move |signal| {
        let mut before = before.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(undo) = before.take() {
            undo();
            // Locked to the end: the last line is the error, whatever else the run would say.
            let mut last = std::io::stderr().lock();
            let _ = writeln!(
                last,
                "error: stopped before a step was done, as asked; nothing was trained"
            );
            std::process::exit(EXIT_FAILURE.into());
        }
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
    Ok(Stop { asked, undo })
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
