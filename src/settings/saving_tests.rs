//! The names of the ways of saving.

use super::*;

#[test]
fn ways_are_read_as_they_are_written_and_the_exact_ones_come_first() {
    for (text, saving) in WAYS {
        assert_eq!(text.parse::<Saving>().unwrap(), saving);
        assert_eq!(saving.to_string(), text);
    }
    assert_eq!(WAYS.map(|(_, saving)| saving)[..5], Saving::EXACT);
    assert!(WAYS.iter().all(|(_, saving)| saving.is_exact() == Saving::EXACT.contains(saving)));
    assert_eq!(Saving::default().to_string(), "keep");
}

#[test]
fn names_come_in_any_order() {
    for (text, way) in [
        ("recompute-ffn, recompute-qkv", "recompute"),
        ("xhat8,gelu4", "gelu4,xhat8"),
        (" gelu8 , recompute-qkv", "recompute-qkv,gelu8"),
        ("gelu8,gelu8", "gelu8"),
    ] {
        assert_eq!(text.parse::<Saving>().unwrap().to_string(), way);
    }
}

#[test]
fn ways_that_exclude_each_other_and_unknown_ones_are_refused() {
    for (text, said) in [
        ("", "unknown saving ``; choose one of keep; recompute-qkv;"),
        ("gelu2", "`gelu2`"),
        ("gelu8,gelu2", "`gelu2`"),
        ("keep,gelu8", "cannot be combined"),
        ("checkpoint,recompute", "cannot be combined"),
        ("recompute,gelu4", "cannot be combined"),
        ("gelu4,gelu8", "cannot be combined"),
        ("keep,xhat8", "cannot be combined"),
        ("checkpoint,xhat8", "cannot be combined"),
        ("recompute-qkv,xhat8", "cannot be combined"),
        ("xhat8,recompute-ffn", "cannot be combined"),
        ("recompute,xhat8", "cannot be combined"),
    ] {
        let message = text.parse::<Saving>().unwrap_err().to_string();
        assert!(message.contains(said), "{text}: {message}");
    }
}
