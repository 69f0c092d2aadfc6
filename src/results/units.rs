//! How sizes, times and values are formatted for people.

use crate::words::short;

/// The value of a measure: most are around 1.
pub fn measure(value: f64) -> String {
    if value.abs() < 1e3 { format!("{value:.4}") } else { short(value) }
}

/// A difference of such values, with its sign.
pub fn difference(value: f64) -> String {
    let value = measure(value);
    // A difference that rounds to zero has no sign.
    let zero = |text: &str| text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    match value.strip_prefix('-') {
        Some(size) if zero(size) => format!("+{size}"),
        Some(_) => value,
        None => format!("+{value}"),
    }
}

/// A size in decimal units, with three digits.
pub fn bytes(bytes: u64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let value = bytes as f64;
    match units.iter().find(|(size, _)| value >= *size) {
        Some((size, unit)) => format!("{} {unit}", three_digits(value / size)),
        None => format!("{bytes} B"),
    }
}

/// A time, with three digits.
pub fn seconds(value: f64) -> String {
    match value {
        v if v < 1.0 => format!("{} ms", three_digits(1e3 * v)),
        v => format!("{} s", three_digits(v)),
    }
}

fn three_digits(value: f64) -> String {
    let decimals = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_have_four_decimals_and_differences_their_sign() {
        assert_eq!([0.84, -0.1, 123_456.0].map(measure), ["0.8400", "-0.1000", "123000"]);
        assert_eq!([0.02, -0.1, 0.0].map(difference), ["+0.0200", "-0.1000", "+0.0000"]);
    }

    #[test]
    fn sizes_and_times_have_three_digits_and_a_unit() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_000), "1.00 kB");
        assert_eq!(bytes(45_678_901), "45.7 MB");
        assert_eq!(bytes(345_678_901_234), "346 GB");
        assert_eq!(seconds(0.0214), "21.4 ms");
        assert_eq!(seconds(12.34), "12.3 s");
    }
}
