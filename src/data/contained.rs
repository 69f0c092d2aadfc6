//! Turns panics of a library on damaged input into errors. The `tokenizers` crate panics, for example, if the value of
//! `"decoder"` is cut off.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// On a thread inside [`contained`]: the message of its panic, once there is one.
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
    static WITHIN: RefCell<bool> = const { RefCell::new(false) };
}

/// The result of `work`, or its panic message. Nothing that `work` borrowed is used after a panic: callers report the
/// error to the user.
pub fn contained<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static SILENCED: Once = Once::new();
    SILENCED.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info| {
            if WITHIN.with_borrow(|&within| within) {
                let said = info.payload();
                let text = said.downcast_ref::<&str>().map(|text| (*text).to_string());
                CAUGHT.set(text.or_else(|| said.downcast_ref::<String>().cloned()));
            } else {
                usual(info);
            }
        }));
    });
    let before = WITHIN.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    WITHIN.set(before);
    done.map_err(|_| CAUGHT.take().unwrap_or_else(|| "it gives no reason".to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_words_and_the_next_call_works() {
        assert_eq!(contained(|| panic!("gave {}", "up")), Err::<(), _>("gave up".to_string()));
        assert_eq!(contained(|| 3), Ok(3));
        assert_eq!(contained(|| contained(|| panic!("inner"))), Ok(Err::<(), _>("inner".into())));
    }
}
