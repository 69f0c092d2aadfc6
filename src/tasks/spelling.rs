//! When two labels are the same, however written: 1 and 1.0, true and True, and text that looks the same (NFC and NFD,
//! zero-width characters, other spaces). Case distinguishes labels.

use std::cmp::Ordering;

use unicode_normalization::UnicodeNormalization;

/// The meaning of a label. Labels with equal keys are the same label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    Number(Decimal),
    Truth(bool),
    Text(String),
}

impl Key {
    pub fn of(label: &str) -> Self {
        let text: String = label.nfkc().filter(|&c| !invisible(c)).collect();
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(number) = Decimal::parse(&text) {
            return Self::Number(number);
        }
        match text.to_ascii_lowercase().as_str() {
            "true" => Self::Truth(true),
            "false" => Self::Truth(false),
            _ => Self::Text(text),
        }
    }
}

/// Zero-width characters that change no meaning. Joiners are not included: scripts and emoji need them.
fn invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'
        | '\u{2066}'..='\u{2069}' | '\u{fe0e}' | '\u{fe0f}' | '\u{feff}')
}

/// A decimal number to its last digit: ids can be longer than f64's precision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    negative: bool,
    /// Without zeros at either end; the number is 0.DIGITS × 10^exponent, and no digits means 0.
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// A number in digits, with or without sign, point and exponent; nothing else, in particular not "nan" and "inf".
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix(['-', '\u{2212}']) {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let significant = digits.trim_start_matches('0');
        let leading = (digits.len() - significant.len()) as i64;
        let significant = significant.trim_end_matches('0');
        if significant.is_empty() {
            return Some(Self { negative: false, digits: String::new(), exponent: 0 });
        }
        Some(Self {
            negative,
            digits: significant.to_owned(),
            exponent: i64::from(exponent) + whole.len() as i64 - leading,
        })
    }

    pub fn is_negative(&self) -> bool {
        self.negative
    }

    pub fn is_integer(&self) -> bool {
        self.digits.len() as i64 <= self.exponent
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        // Digits after 0. compare like text.
        fn size(number: &Decimal) -> (bool, i64, &str) {
            let Decimal { digits, exponent, .. } = number;
            (!digits.is_empty(), *exponent, digits)
        }
        match (self.negative, other.negative) {
            (false, false) => size(self).cmp(&size(other)),
            (true, true) => size(other).cmp(&size(self)),
            (one, two) => two.cmp(&one),
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn same(labels: &[&str]) {
        for pair in labels.windows(2) {
            assert_eq!(Key::of(pair[0]), Key::of(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn a_number_is_one_however_it_is_written() {
        same(&["1", "1.0", "01", "+1", "1.", "1e0", "10e-1", "0.1E1", "１"]);
        same(&["0", "0.0", "-0", "00", ".0", "0e9"]);
        same(&["-1", "-1.0", "\u{2212}1"]);
        assert_ne!(Key::of("1"), Key::of("-1"));
        assert_ne!(Key::of("1"), Key::of("10"));
        assert_ne!(
            Key::of("9007199254740992"),
            Key::of("9007199254740993"),
            "f64 holds them for one"
        );
        for text in
            ["nan", "inf", "1 0", "1,5", "0x1", "1e", "e1", ".", "-", "", "1.2.3", "--1", "+-1"]
        {
            assert!(matches!(Key::of(text), Key::Text(_)), "{text}");
        }
    }

    #[test]
    fn text_that_looks_the_same_is_the_same_and_case_tells_apart() {
        same(&["café", "cafe\u{301}", "café\u{200b}", "\u{feff}café"]);
        same(&["not ok", "not\u{a0}ok", "not  ok"]);
        same(&["true", "True", "TRUE"]);
        for (one, two) in [("Café", "café"), ("a", "b"), ("true", "1"), ("no", "false")] {
            assert_ne!(Key::of(one), Key::of(two));
        }
    }

    proptest! {
        #[test]
        fn numbers_are_in_the_order_of_their_values(a in -1e6..1e6f64, b in -1e6..1e6f64) {
            let parse = |x: f64| Decimal::parse(&x.to_string()).unwrap();
            prop_assert_eq!(parse(a).cmp(&parse(b)), a.partial_cmp(&b).unwrap());
            prop_assert_eq!(parse(a).is_integer(), a.fract() == 0.0);
        }
    }

    #[test]
    fn integers_and_zero_are_in_order_too() {
        let sorted = ["-10", "-9", "-0.5", "0", "0.05", "0.5", "1", "9", "10", "1e3"];
        let parsed: Vec<_> = sorted.map(|n| Decimal::parse(n).unwrap()).into();
        assert!(parsed.is_sorted());
        assert!(parsed[7].is_integer() && parsed[9].is_integer() && !parsed[5].is_integer());
        assert!(parsed[3].is_integer() && !parsed[3].is_negative());
    }
}
