//! Amounts of limits as people write them: GPUs, GPU-hours, money.

use spillway_types::Money;

use super::{MAX_AMOUNT, Metric};

/// Milliseconds of an hour.
const HOUR_MS: i64 = 3_600_000;

/// Why a text is not an amount of a metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not an amount of {metric}: write {what}")]
pub struct AmountError {
    /// What was given, cut to 80 characters.
    pub value: String,
    /// The metric.
    pub metric: Metric,
    /// How it is written.
    pub what: &'static str,
}

impl Metric {
    /// Reads an amount, in the metric's unit: `8` or `0.5` GPUs, `1500` or `1500h` GPU-hours, `5000 USD`.
    ///
    /// # Errors
    /// [`AmountError`] where it is not one, is below 0, or is above [`MAX_AMOUNT`].
    pub fn parse_amount(&self, text: &str) -> Result<i64, AmountError> {
        let (amount, what) = match self {
            Self::ConcurrentGpus => (fixed(text, 2), "GPUs, with two decimals at most: `8`, `0.25`"),
            Self::GpuTime(_) | Self::NormalisedGpuTime => {
                let hours = text.strip_suffix('h').unwrap_or(text).trim_end();
                let ms = fixed(hours, 3).and_then(|thousandths| thousandths.checked_mul(HOUR_MS / 1000));
                (ms, "GPU-hours, with three decimals at most: `1500`, `0.5h`")
            }
            Self::Money => {
                let money = text
                    .parse::<Money>()
                    .ok()
                    .filter(|money| money.currency == Money::usd_micros(0).currency);
                (money.map(|money| money.micros), "money in USD: `5000`, `99.50`")
            }
        };
        let refused = || AmountError { value: text.chars().take(80).collect(), metric: self.clone(), what };
        amount.filter(|amount| (0..=MAX_AMOUNT).contains(amount)).ok_or_else(refused)
    }

    /// An amount in the metric's unit as it is written.
    #[must_use]
    pub fn show_amount(&self, amount: i64) -> String {
        match self {
            Self::ConcurrentGpus => written(amount, 100, 2),
            Self::GpuTime(_) | Self::NormalisedGpuTime => {
                format!("{}h", written(amount / (HOUR_MS / 1000), 1000, 3))
            }
            Self::Money => Money::usd_micros(amount).to_string(),
        }
    }
}

/// A decimal number in units of 10^-digits; none where it has more digits after the point, or is none.
fn fixed(text: &str, digits: usize) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let all = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > digits || !all(whole) || !all(part) {
        return None;
    }
    format!("{whole}{part:0<digits$}").parse().ok()
}

fn written(amount: i64, unit: u64, digits: usize) -> String {
    let sign = if amount < 0 { "-" } else { "" };
    let (whole, part) = (amount.unsigned_abs() / unit, amount.unsigned_abs() % unit);
    if part == 0 {
        return format!("{sign}{whole}");
    }
    let part = format!("{part:0digits$}");
    format!("{sign}{whole}.{}", part.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_written_in_their_units() {
        let metric = |text: &str| text.parse::<Metric>().unwrap();
        for (name, text, amount, shown) in [
            ("concurrent-gpus", "8", 800, "8"),
            ("concurrent-gpus", "0.25", 25, "0.25"),
            ("concurrent-gpus", "1.5", 150, "1.5"),
            ("gpu-time:H100", "1500h", 1500 * HOUR_MS, "1500h"),
            ("normalised-gpu-time", "0.5", HOUR_MS / 2, "0.5h"),
            ("money", "99.50", 99_500_000, "99.50 USD"),
            ("money", "0", 0, "0.00 USD"),
        ] {
            assert_eq!(metric(name).parse_amount(text), Ok(amount), "{name} {text}");
            assert_eq!(metric(name).show_amount(amount), shown);
        }
        assert_eq!(metric("concurrent-gpus").show_amount(-25), "-0.25");
        for (name, text) in [
            ("concurrent-gpus", "0.125"),
            ("concurrent-gpus", "-1"),
            ("concurrent-gpus", ".5"),
            ("concurrent-gpus", "8 GPUs"),
            ("gpu-time:H100", "1e3"),
            ("gpu-time:H100", "99999999999999"),
            ("money", "5 EUR"),
            ("money", "-5"),
            ("money", "5000000000001"),
        ] {
            let error = metric(name).parse_amount(text).unwrap_err().to_string();
            assert!(error.contains(text) && error.contains(": write "), "{error}");
        }
    }
}
