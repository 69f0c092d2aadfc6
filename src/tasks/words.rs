//! How counts and lists of classes are written in messages.

/// More classes than this are not all named, and look like something else than classes.
pub const MANY: usize = 20;

/// "1 row", "2 rows".
pub fn rows(count: usize) -> String {
    match count {
        1 => "1 row".to_owned(),
        _ => format!("{count} rows"),
    }
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
