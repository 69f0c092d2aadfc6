//! How counts and lists of names are written in messages.

/// Longer lists of names are not shown in full, and look like something other than classes.
pub const MANY: usize = 20;

/// "1 row", "2 rows".
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {}", named(number, noun))
}

/// The noun for this number: "row", "rows".
pub fn named(number: usize, noun: &str) -> String {
    match number {
        1 => noun.to_owned(),
        _ if noun.ends_with('s') => format!("{noun}es"),
        _ => format!("{noun}s"),
    }
}

/// "is" or "are".
pub fn are(number: usize) -> &'static str {
    if number == 1 { "is" } else { "are" }
}

/// "has" or "have".
pub fn have(number: usize) -> &'static str {
    if number == 1 { "has" } else { "have" }
}

/// A number with at most three significant digits: 0.000667, 3e-9.
pub fn short(number: f64) -> String {
    let rounded = format!("{number:.2e}").parse().unwrap_or(number);
    match f64::abs(rounded) {
        0.0 => "0".to_owned(),
        1e-4..1e6 => rounded.to_string(),
        _ => format!("{rounded:e}"),
    }
}

/// A text in quotes, truncated if long: names in files may have any length.
pub fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST {
        format!("{text:?}")
    } else {
        let start: String = text.chars().take(LONGEST).collect();
        format!("{start:?}… ({} bytes)", text.len())
    }
}

/// Names for a message, shortened if there are many.
pub fn list<S: AsRef<str>>(names: &[S]) -> String {
    let shown = names.iter().take(MANY);
    let shown: Vec<_> = shown.map(|name| quoted(name.as_ref())).collect();
    match names.len().saturating_sub(MANY) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_many() {
        assert_eq!((count(1, "row"), count(0, "row")), ("1 row".into(), "0 rows".into()));
        assert_eq!((count(1, "class"), count(2, "class")), ("1 class".into(), "2 classes".into()));
        assert_eq!((are(1), are(2)), ("is", "are"));
        assert_eq!((have(1), have(0)), ("has", "have"));
    }

    #[test]
    fn a_long_name_is_cut() {
        assert_eq!(list(&["a", "b\n"]), r#""a", "b\n""#);
        let said = list(&["x".repeat(3_000_000)]);
        assert!(said.len() < 100 && said.ends_with("x\"… (3000000 bytes)"), "{said}");
    }

    #[test]
    fn a_number_for_people_has_few_digits() {
        for (number, said) in [
            (0.0, "0"),
            (2e-3 / 3.0, "0.000667"),
            (0.03, "0.03"),
            (99.96, "100"),
            (-1234.5, "-1230"),
            (1e-30 / 3.0, "3.33e-31"),
            (3e-9, "3e-9"),
            (2e9, "2e9"),
        ] {
            assert_eq!(short(number), said);
        }
    }
}
