//! Sizes in bytes as people write them: `4GiB`, `512MiB`, `4GB`, `1000000`.

use crate::error::UsageError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ByteSize(pub usize);

/// Larger units first, and binary before decimal, so that a size is written in the largest unit that divides it.
const UNITS: [(&str, usize); 6] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1_000),
];

impl FromStr for ByteSize {
    type Err = UsageError;

    fn from_str(text: &str) -> Result<Self, UsageError> {
        let wrong = || {
            UsageError::new(format!(
                "`{text}` is not a size: write bytes, or a number with KiB, MiB, GiB, KB, MB or GB: 4GiB, 1.5GB"
            ))
        };
        let trimmed = text.trim();
        let digits =
            trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(digits);
        let unit = unit.trim();
        if unit.is_empty() || unit == "B" {
            return number.parse().map(Self).map_err(|_| wrong());
        }
        let (_, scale) = UNITS
            .into_iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit))
            .ok_or_else(wrong)?;
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let bytes = number * scale as f64;
        // Beyond 2^53 a float cannot count single bytes, and no machine has that many.
        if bytes > (1u64 << 53) as f64 {
            return Err(wrong());
        }
        Ok(Self(bytes as usize))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |&(_, scale): &(&str, usize)| self.0 >= scale && self.0.is_multiple_of(scale);
        match UNITS.into_iter().find(whole) {
            Some((unit, scale)) => write!(f, "{}{unit}", self.0 / scale),
            None => write!(f, "{}", self.0),
        }
    }
}

impl TryFrom<String> for ByteSize {
    type Error = UsageError;

    fn try_from(text: String) -> Result<Self, UsageError> {
        text.parse()
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_binary_with_an_i_and_decimal_without() {
        for (text, bytes) in [
            ("4GiB", 4 << 30),
            ("512MiB", 512 << 20),
            ("4GB", 4_000_000_000),
            ("1.5 gb", 1_500_000_000),
            ("0.5KiB", 512),
            ("12345", 12_345),
            ("7B", 7),
        ] {
            assert_eq!(text.parse::<ByteSize>().unwrap(), ByteSize(bytes), "{text}");
        }
        for wrong in ["", "GiB", "4 TB", "-1GiB", "1e9", "1.5", "9999999999GiB", "four"] {
            let message = wrong.parse::<ByteSize>().unwrap_err().to_string();
            assert!(message.contains("4GiB"), "{wrong}: {message}");
        }
    }

    #[test]
    fn a_size_is_written_so_that_it_is_read_as_the_same() {
        for bytes in [0, 1, 1 << 30, 3 << 20, 4_000_000_000, 1_500_000, 1025] {
            let text = ByteSize(bytes).to_string();
            assert_eq!(text.parse::<ByteSize>().unwrap().0, bytes, "{text}");
        }
        assert_eq!(ByteSize(4 << 30).to_string(), "4GiB");
        assert_eq!(ByteSize(4_000_000_000).to_string(), "4GB");
    }
}
