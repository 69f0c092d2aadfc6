//! Memory whose size depends on input. If the system has too little, the error says how much was needed and for what;
//! an ordinary growing vector would abort the process.

use anyhow::{Result, anyhow};

/// An empty vector with room for exactly `count`.
///
/// # Errors
/// Not enough memory; the message includes `what` they are.
pub fn room<T>(count: usize, what: &str) -> Result<Vec<T>> {
    let mut values = Vec::new();
    match values.try_reserve_exact(count) {
        Ok(()) => Ok(values),
        Err(_) => {
            let bytes = count as f64 * size_of::<T>() as f64;
            Err(anyhow!("no memory for {:.1} MiB of {what}", bytes / 1_048_576.0))
        }
    }
}

/// `count` times `value`.
///
/// # Errors
/// As [`room`].
pub fn filled<T: Clone>(value: T, count: usize, what: &str) -> Result<Vec<T>> {
    let mut values = room(count, what)?;
    values.resize(count, value);
    Ok(values)
}

/// A copy of `values`.
///
/// # Errors
/// As [`room`].
pub fn copied<T: Copy>(values: &[T], what: &str) -> Result<Vec<T>> {
    let mut copy = room(values.len(), what)?;
    copy.extend_from_slice(values);
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_not_there_is_an_error_that_says_how_much_and_for_what() {
        assert_eq!(room::<u8>(100, "rows").unwrap().capacity(), 100);
        assert_eq!(filled(1.5f32, 3, "rows").unwrap(), [1.5; 3]);
        let error = filled(0f32, 1 << 58, "logits").unwrap_err().to_string();
        assert_eq!(error, "no memory for 1099511627776.0 MiB of logits");
        assert!(room::<u64>(usize::MAX, "x").is_err());
    }
}
