//! Latency histograms with bounds fixed by the report format, so that any two can be added.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer as _, V2DeflateSerializer};

/// The shortest time told apart, in nanoseconds.
pub const LOWEST_NS: u64 = 100;
/// The longest time, in nanoseconds; longer ones count as this.
pub const HIGHEST_NS: u64 = 60_000_000_000;
/// Significant decimal digits.
pub const DIGITS: u8 = 3;

/// Times in nanoseconds.
pub type Hist = Histogram<u64>;

/// An empty histogram.
pub fn empty() -> Hist {
    Hist::new_with_bounds(LOWEST_NS, HIGHEST_NS, DIGITS).expect("the bounds are valid")
}

/// Records `time`.
pub fn record(hist: &mut Hist, time: Duration) {
    hist.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(HIGHEST_NS));
}

/// Adds `other`.
pub fn add(hist: &mut Hist, other: &Hist) {
    hist.add(other).expect("all histograms have the same bounds");
}

/// Whether `count` samples say anything about quantile `q`: at least one lies beyond it.
pub fn is_supported(q: f64, count: u64) -> bool {
    count > 0 && (1.0 - q) * count as f64 >= 1.0 - 1e-9
}

/// The quantile, or `None` when there are too few samples: 2 for the median, 100 for p99, 1,000 for p99.9.
pub fn quantile(hist: &Hist, q: f64) -> Option<u64> {
    is_supported(q, hist.len()).then(|| hist.value_at_quantile(q))
}

/// The standard error of a quantile: half the distance of the quantiles one binomial standard deviation
/// below and above it.
pub fn quantile_error(hist: &Hist, q: f64) -> Option<u64> {
    quantile(hist, q)?;
    let spread = (q * (1.0 - q) / hist.len() as f64).sqrt();
    let low = hist.value_at_quantile((q - spread).max(0.0));
    let high = hist.value_at_quantile((q + spread).min(1.0));
    Some((high - low) / 2)
}

/// The interchange form: HdrHistogram V2, deflated, base64.
pub fn encode(hist: &Hist) -> String {
    let mut bytes = Vec::new();
    match V2DeflateSerializer::new().serialize(hist, &mut bytes) {
        Ok(_) => STANDARD.encode(bytes),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(values: impl IntoIterator<Item = u64>) -> Hist {
        let mut hist = empty();
        for value in values {
            record(&mut hist, Duration::from_nanos(value));
        }
        hist
    }

    #[test]
    fn merged_quantiles_come_from_all_samples() {
        let mut all = filled((1..=900).map(|i| i * 1000));
        add(&mut all, &filled((901..=1000).map(|i| i * 1000)));
        let whole = filled((1..=1000).map(|i| i * 1000));
        for q in [0.5, 0.9, 0.99] {
            assert_eq!(quantile(&all, q), quantile(&whole, q));
        }
        let p99 = quantile(&all, 0.99).expect("1,000 samples");
        assert!((989_000..992_000).contains(&p99), "{p99}");
    }

    #[test]
    fn quantiles_are_hidden_when_samples_are_few() {
        assert_eq!(quantile(&empty(), 0.5), None);
        for (q, least) in [(0.5, 2), (0.99, 100), (0.999, 1000), (0.9999, 10_000)] {
            assert!(quantile(&filled((0..least).map(|_| 5000)), q).is_some(), "{q}");
            assert!(quantile(&filled((1..least).map(|_| 5000)), q).is_none(), "{q}");
        }
    }

    #[test]
    fn overlong_times_count_as_the_longest() {
        let hist = filled([u64::MAX / 4]);
        assert_eq!(hist.len(), 1);
        assert!(hist.max() >= HIGHEST_NS);
    }

    #[test]
    fn encoding_can_be_read_back() {
        let hist = filled((1..=1000).map(|i| i * 777));
        let bytes = STANDARD.decode(encode(&hist)).expect("base64");
        let read: Hist =
            hdrhistogram::serialization::Deserializer::new().deserialize(&mut bytes.as_slice()).expect("V2");
        assert_eq!(read, hist);
    }
}
