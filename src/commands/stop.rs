//! Signals that ask a run to end: Ctrl-C, and those sent by Slurm, Kubernetes, systemd and a closing terminal. A run
//! finishes its step and saves; before its first step it ends at once and leaves nothing.

use crate::error::EXIT_FAILURE;
use crate::stderr::line;
use crate::temporary::remove_own;
use anyhow::Result;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Whether somebody has asked this process to stop.
pub struct Stop {
    asked: Arc<AtomicBool>,
    /// What to undo if the process ends at once; `None` once there are steps to finish.
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

    /// From now on a step is finished and saved. Does not return if the process is already being ended.
    pub fn after_the_step(&self) -> &AtomicBool {
        let _: Option<Undo> = self.undo.lock().unwrap_or_else(PoisonError::into_inner).take();
        &self.asked
    }
}

/// Listens for signals. They end the process at once until [`Stop::after_the_step`]; after that a second Ctrl-C does,
/// while other signals may be repeated, as their senders do.
pub fn when_asked() -> Result<Stop> {
    let asked = Arc::new(AtomicBool::new(false));
    let undo: Arc<Mutex<Option<Undo>>> = Arc::new(Mutex::new(Some(Box::new(|| ()))));
    let (flag, before) = (Arc::clone(&asked), Arc::clone(&undo));
    let mut interrupted = false;
    listen(move |signal| {
        let mut before = before.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(undo) = before.take() {
            remove_own();
            undo();
            // Locked to the end: the error must be the last line, whatever else the run would print.
            let _last = std::io::stderr().lock();
            if !super::silent() {
                line(
                    "error: stopped on request before the first step; nothing was trained beyond what had been saved",
                );
            }
            std::process::exit(EXIT_FAILURE.into());
        }
        let again = flag.swap(true, Ordering::Relaxed);
        match signal {
            Signal::Interrupt if interrupted => {
                remove_own();
                std::process::exit(130)
            }
            Signal::Interrupt => {
                interrupted = true;
                super::say(false, "\nstopping after this step; press Ctrl-C again to stop at once")
            }
            Signal::End | Signal::HangUp if !again => {
                super::say(false, "termination requested: stopping after this step")
            }
            Signal::End | Signal::HangUp => {}
        }
    })?;
    Ok(Stop { asked, undo })
}

#[derive(Clone, Copy)]
enum Signal {
    Interrupt,
    End,
    HangUp,
}

/// Makes a signal end this process as it otherwise would, but also remove incomplete files.
pub fn leaving_no_piece() -> Result<()> {
    listen(|signal| {
        remove_own();
        die_of(signal);
    })
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
                SIGHUP => Signal::HangUp,
                _ => Signal::End,
            });
        }
    });
    Ok(())
}

/// Under `nohup` the process must outlive a closing terminal.
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

/// Lets the parent process see which signal it was.
#[cfg(unix)]
fn die_of(signal: Signal) {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let signal = match signal {
        Signal::Interrupt => SIGINT,
        Signal::End => SIGTERM,
        Signal::HangUp => SIGHUP,
    };
    let _ = signal_hook::low_level::emulate_default_handler(signal);
}

#[cfg(not(unix))]
fn die_of(_: Signal) {
    std::process::exit(130);
}

#[cfg(not(unix))]
fn listen(mut answer: impl FnMut(Signal) + Send + 'static) -> Result<()> {
    use anyhow::Context;
    ctrlc::set_handler(move || answer(Signal::Interrupt)).context("cannot listen for Ctrl-C")
}
