//! Where notes and results for people go: to standard error and output or, on a thread that works for one of several
//! runs, to that run's listener.

use crate::error::tame_lines;
use crate::files::write_stdout;
use crate::stderr::line;
use anyhow::Result;
use indicatif::ProgressBar;
use std::cell::RefCell;
use std::io::{IsTerminal, stderr};
use std::rc::Rc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaidAs {
    Note,
    Warning,
    Result,
}

/// A line or a table for people.
#[derive(Clone, Debug)]
pub struct Said {
    pub kind: SaidAs,
    /// Cannot control the terminal.
    pub text: String,
}

/// Receives the messages of a thread.
pub trait Hearer {
    fn hear(&self, said: &Said);

    /// The bar of a run of `total` steps that is at step `first`, if the listener shows bars.
    fn bar(&self, total: u64, first: u64) -> Option<ProgressBar>;

    /// Whether messages end up on a terminal where bars may be drawn in between.
    fn on_terminal(&self) -> bool {
        false
    }
}

thread_local! {
    static LISTENER: RefCell<Option<Rc<dyn Hearer>>> = const { RefCell::new(None) };
}

/// Does some work with `listener` instead of the terminal. Messages from other threads on its behalf do not reach it.
pub fn heard_by<T>(listener: Rc<dyn Hearer>, work: impl FnOnce() -> T) -> T {
    /// Restores the previous one, however the work ends.
    struct Before(Option<Rc<dyn Hearer>>);
    impl Drop for Before {
        fn drop(&mut self) {
            LISTENER.set(self.0.take());
        }
    }
    let _before = Before(LISTENER.replace(Some(listener)));
    work()
}

/// The listener of this thread, unless it is the terminal.
pub fn listener() -> Option<Rc<dyn Hearer>> {
    LISTENER.with_borrow(Clone::clone)
}

/// Whether the caller may draw its own bars.
pub fn on_terminal() -> bool {
    listener().map_or_else(|| stderr().is_terminal(), |listener| listener.on_terminal())
}

/// # Errors
/// A result that cannot be written. A note that cannot be is not an error.
pub fn tell(kind: SaidAs, text: &str) -> Result<()> {
    retell(&Said { kind, text: tame_lines(text) })
}

/// The same for an earlier message.
///
/// # Errors
/// As [`tell`].
pub fn retell(said: &Said) -> Result<()> {
    let Said { kind, text } = said;
    if let Some(listener) = listener() {
        listener.hear(said);
        return Ok(());
    }
    if *kind == SaidAs::Result {
        return write_stdout(|out| Ok(out.write_all(text.as_bytes())?));
    }
    line(text);
    Ok(())
}

/// Does some work with its messages discarded.
pub fn unheard<T>(work: impl FnOnce() -> T) -> T {
    heard_by(Rc::new(Nobody), work)
}

struct Nobody;

impl Hearer for Nobody {
    fn hear(&self, _: &Said) {}

    fn bar(&self, _: u64, _: u64) -> Option<ProgressBar> {
        None
    }
}

/// Does some work and also records its messages, which are still delivered as usual.
pub fn recorded<T>(work: impl FnOnce() -> T) -> (T, Vec<Said>) {
    let tape = Rc::new(Tape { onwards: listener(), said: RefCell::default() });
    let made = heard_by(Rc::clone(&tape) as Rc<dyn Hearer>, work);
    (made, tape.said.take())
}

struct Tape {
    onwards: Option<Rc<dyn Hearer>>,
    said: RefCell<Vec<Said>>,
}

impl Hearer for Tape {
    fn hear(&self, said: &Said) {
        self.said.borrow_mut().push(said.clone());
        match &self.onwards {
            Some(onwards) => onwards.hear(said),
            None => line(&said.text),
        }
    }

    fn bar(&self, total: u64, first: u64) -> Option<ProgressBar> {
        self.onwards.as_ref()?.bar(total, first)
    }

    fn on_terminal(&self) -> bool {
        self.onwards
            .as_ref()
            .map_or_else(|| stderr().is_terminal(), |onwards| onwards.on_terminal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Heard(RefCell<Vec<String>>);

    impl Hearer for Heard {
        fn hear(&self, said: &Said) {
            self.0.borrow_mut().push(said.text.clone());
        }

        fn bar(&self, _: u64, _: u64) -> Option<ProgressBar> {
            None
        }
    }

    #[test]
    fn a_thread_is_heard_by_its_listener_and_the_one_before_comes_back() {
        let (outer, inner) = (Rc::new(Heard::default()), Rc::new(Heard::default()));
        let note = |text: &str| tell(SaidAs::Note, text).unwrap();
        heard_by(Rc::clone(&outer) as Rc<dyn Hearer>, || {
            note("a");
            heard_by(Rc::clone(&inner) as Rc<dyn Hearer>, || note("b\u{1b}"));
            let broken = std::panic::catch_unwind(|| {
                heard_by(Rc::new(Heard::default()), || panic!("as a run may"));
            });
            assert!(broken.is_err());
            let (made, said) = recorded(|| {
                note("c");
                7
            });
            assert_eq!((made, said.len(), said[0].text.as_str()), (7, 1, "c"));
            said.iter().for_each(|said| retell(said).unwrap());
        });
        assert_eq!(*inner.0.borrow(), ["b\\u{1b}"]);
        assert_eq!(*outer.0.borrow(), ["a", "c", "c"]);
        assert!(listener().is_none());
    }
}
