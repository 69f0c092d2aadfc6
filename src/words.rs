//! How counts and lists of names are written in messages.

/// More names than this are not all named, and look like something else than classes.
pub const MANY: usize = 20;

/// "1 row", "2 rows".
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {}", named(number, noun))
}

/// The noun for as many: "row", "rows".
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

/// Names for a message, shortened where there are many.
pub fn list<S: AsRef<str>>(names: &[S]) -> String {
    let shown = names.iter().take(MANY);
    let shown: Vec<_> = shown.map(|name| format!("{:?}", name.as_ref())).collect();
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
    }
}
