//! Means, spreads and percentiles of a few numbers.

/// `None` if empty.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The sample standard deviation (over n − 1); `None` for fewer than two.
pub fn deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values).filter(|_| values.len() > 1)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    Some((squares / (values.len() - 1) as f64).sqrt())
}

/// `None` if empty; for an even number the mean of the middle two.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    percentile(&sorted, 0.5)
}

/// For sorted values, interpolated linearly between the two nearest, as NumPy does by default; `None` if empty.
pub fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    Some(sorted[low] + (place - place.floor()) * (sorted[high] - sorted[low]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_numbers_have_the_figures_that_numpy_gives_them() {
        // numpy: mean, std(ddof=1), median, percentile([2.5, 97.5]).
        let values = [0.81, 0.84, 0.79, 0.9];
        assert!((mean(&values).unwrap() - 0.835).abs() < 1e-15);
        assert!((deviation(&values).unwrap() - 0.047_958_315_233_127_2).abs() < 1e-15);
        assert!((median(&values).unwrap() - 0.825).abs() < 1e-15);
        let sorted = [0.79, 0.81, 0.84, 0.9];
        assert!((percentile(&sorted, 0.025).unwrap() - 0.7915).abs() < 1e-15);
        assert!((percentile(&sorted, 0.975).unwrap() - 0.8955).abs() < 1e-15);
    }

    #[test]
    fn too_few_numbers_have_none() {
        assert_eq!(
            (mean(&[]), deviation(&[]), median(&[]), percentile(&[], 0.5)),
            (None, None, None, None)
        );
        assert_eq!((mean(&[2.0]), deviation(&[2.0]), median(&[2.0])), (Some(2.0), None, Some(2.0)));
    }
}
