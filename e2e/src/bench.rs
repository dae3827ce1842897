//! Benches: what Weft costs, beside the floor of the same run.
//!
//! Owns the figures and their JSON; must never judge them. Every comparison is paired: both sides take turns in one run
//! on one machine, and medians are printed.

pub mod fleet;
pub mod path;
pub mod peers;
pub mod pods;

/// The median, of the lower two where their number is even.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN)
}

/// Two decimals: more would pretend to a precision that is not there.
pub(crate) fn round(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_a_figure_that_was_measured() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 3.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!(median(Vec::new()).is_nan());
    }
}
