//! Products as tensor cores may sum them, to try a program's tolerances on them.
//!
//! Eight products at a time, together with the sum so far, are each truncated below the last of the largest's 24 bits,
//! and so is the sum. Measured chips keep as many bits or a few more, so this is the most that they lose.

use super::product::mma;
use super::shape::{Mma, Reg};
use crate::numeric::NAN_F32;

/// Products summed at once.
const AT_ONCE: usize = 8;

/// mma.sync of floating-point numbers with sums in f32; all others are exact or rounded as in [`mma`].
pub fn truncated(m: Mma, a: &[&Reg], b: &[&Reg], c: &[&Reg], d: &mut [Reg; 4]) {
    if m.a.is_int() || m.c_half || m.d_half {
        return mma(m, a, b, c, d);
    }
    let per = m.a.per_word();
    let element = |regs: &[&Reg], down: usize, row: usize, k: usize, kind: super::MmaType| {
        let word = k / per;
        let word = regs[word / 4 * down + row / 8][row % 8 * 4 + word % 4];
        f64::from(kind.float(word, k % per))
    };
    for row in 0..16 {
        for col in 0..8 {
            let (reg, lane) = (row / 8 * 2 + col % 2, row % 8 * 4 + col / 2);
            let mut sum = f64::from(f32::from_bits(c[reg][lane]));
            for first in (0..m.k as usize).step_by(AT_ONCE) {
                let mut terms = [sum; AT_ONCE + 1];
                for (i, term) in terms[1..].iter_mut().enumerate() {
                    let k = first + i;
                    // Past the end (k = 4) there is nothing.
                    *term = if k < m.k as usize {
                        element(a, 2, row, k, m.a) * element(b, 1, col, k, m.b)
                    } else {
                        0.0
                    };
                }
                sum = aligned_sum(&terms);
            }
            let sum = sum as f32;
            d[reg][lane] = if sum.is_nan() { NAN_F32 } else { sum.to_bits() };
        }
    }
}

/// The sum of numbers truncated below the largest's 24 bits, itself truncated to 24 bits.
fn aligned_sum(terms: &[f64]) -> f64 {
    let largest = terms.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    if largest == 0.0 || !terms.iter().all(|x| x.is_finite()) {
        return terms.iter().sum();
    }
    let unit = last_bit(largest);
    // Multiples of one unit, at most 28 bits: exact in f64.
    let sum: f64 = terms.iter().map(|x| (x / unit).trunc() * unit).sum();
    if sum == 0.0 { 0.0 } else { (sum / last_bit(sum.abs())).trunc() * last_bit(sum.abs()) }
}

/// The value of the last of a number's 24 bits.
fn last_bit(x: f64) -> f64 {
    // Only the exponent of f64, minus 23. Numbers are products of 16-bit ones, far from the smallest f64.
    f64::from_bits((x.to_bits() >> 52) << 52) * 2f64.powi(-23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_24_bits_of_the_largest_is_lost() {
        assert_eq!(aligned_sum(&[1.0, 2f64.powi(-23)]), 1.0 + 2f64.powi(-23));
        assert_eq!(aligned_sum(&[1.0, 2f64.powi(-24), 2f64.powi(-24)]), 1.0);
        assert_eq!(aligned_sum(&[-1.0, -1.9 * 2f64.powi(-23)]), -1.0 - 2f64.powi(-23));
        // The sum also has 24 bits: rounding would go up.
        assert_eq!(aligned_sum(&[1.0, 1.0 + 2f64.powi(-23)]), 2.0);
        assert_eq!(aligned_sum(&[0.0, -0.0]), 0.0);
        assert!(aligned_sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
    }
}
