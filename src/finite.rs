//! Finds values that are not finite at the speed of memory: every weight is checked when it is loaded.

use half::f16;

/// A floating-point type.
pub trait MaybeFinite: Copy {
    /// Neither NaN nor infinite.
    fn finite(self) -> bool;
}

impl MaybeFinite for f32 {
    fn finite(self) -> bool {
        self.is_finite()
    }
}

impl MaybeFinite for f16 {
    fn finite(self) -> bool {
        self.is_finite()
    }
}

/// Values looked at together, without stopping at the first: a search that may stop at each is not vectorised.
const TOGETHER: usize = 1024;

/// The place of the first value that is NaN or infinite.
pub fn first_not_finite<T: MaybeFinite>(values: &[T]) -> Option<usize> {
    let wrong = |chunk: &[T]| chunk.iter().fold(false, |wrong, value| wrong | !value.finite());
    let start = TOGETHER * values.chunks(TOGETHER).position(wrong)?;
    values[start..].iter().position(|value| !value.finite()).map(|at| start + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_several_is_found_wherever_it_is() {
        for len in [1, TOGETHER - 1, TOGETHER, TOGETHER + 1, 5 * TOGETHER] {
            let (mut values, mut halves) = (vec![f32::MAX; len], vec![f16::MAX; len]);
            assert_eq!([first_not_finite(&values), first_not_finite(&halves)], [None; 2]);
            for at in [len - 1, len / 2, 0] {
                (values[at], halves[at]) = (f32::NAN, f16::NEG_INFINITY);
                assert_eq!([first_not_finite(&values), first_not_finite(&halves)], [Some(at); 2]);
            }
        }
        assert_eq!(first_not_finite::<f32>(&[]), None);
    }
}
