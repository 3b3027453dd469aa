//! The middle of a few measurements, which one slow run does not move.

use std::time::Duration;

/// The median; the mean of the two middle ones where their number is even. Zero of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        n if n.is_multiple_of(2) => f64::midpoint(sorted[middle - 1], sorted[middle]),
        _ => sorted[middle],
    }
}

/// The median of durations, in milliseconds.
pub(crate) fn median_ms(durations: &[Duration]) -> f64 {
    let milliseconds: Vec<f64> = durations.iter().map(|d| d.as_secs_f64() * 1000.0).collect();
    median(&milliseconds)
}
