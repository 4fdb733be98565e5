//! Time as integers: durations and instants in milliseconds.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A length of time in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DurationMs(pub u64);

/// Longest duration that is accepted: ten years, far below any overflow in money or time arithmetic.
pub const MAX_DURATION: DurationMs = DurationMs(10 * 366 * 24 * 3_600_000);

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a duration: {problem}; write it like `90s`, `15m`, `2h` or `1d 6h`")]
pub struct DurationError {
    /// What was given, cut to 80 characters.
    pub value: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl DurationMs {
    /// This many seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1000)
    }

    /// The standard library's form.
    #[must_use]
    pub const fn to_std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }

    /// Hours as a fraction, for display and scores only: never for money.
    #[must_use]
    pub fn hours(self) -> f64 {
        std::time::Duration::from_millis(self.0).as_secs_f64() / 3600.0
    }
}

impl FromStr for DurationMs {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let refused = |problem| DurationError { value: text.chars().take(80).collect(), problem };
        if text.trim_start().starts_with('-') {
            return Err(refused("it is negative"));
        }
        let (days, rest) = text.trim().split_once('d').unwrap_or(("0", text.trim()));
        let days: u64 = days.trim().parse().map_err(|_| refused("it does not parse"))?;
        let rest = if rest.is_empty() && days > 0 { "0s" } else { rest.trim_start() };
        let rest: jiff::SignedDuration = rest.parse().map_err(|_| refused("it does not parse"))?;
        let rest = u64::try_from(rest.as_millis()).map_err(|_| refused("it is negative"))?;
        let span = Self(days.saturating_mul(86_400_000).saturating_add(rest));
        if span > MAX_DURATION {
            return Err(refused("it is over ten years"));
        }
        Ok(span)
    }
}

impl fmt::Display for DurationMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, rest) = (self.0 / 86_400_000, self.0 % 86_400_000);
        let (hours, rest) = (rest / 3_600_000, rest % 3_600_000);
        let (minutes, rest) = (rest / 60_000, rest % 60_000);
        let (seconds, millis) = (rest / 1000, rest % 1000);
        let mut text = String::new();
        for (count, unit) in [(days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s")] {
            if count > 0 {
                text.push_str(&format!("{count}{unit} "));
            }
        }
        if millis > 0 && self.0 < 60_000 {
            text.push_str(&format!("{millis}ms "));
        }
        f.pad(if text.is_empty() { "0s" } else { text.trim_end() })
    }
}

/// An instant: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// The time from `earlier` to this instant; zero where `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> DurationMs {
        DurationMs(self.0.saturating_sub(earlier.0).max(0).unsigned_abs())
    }

    /// This instant moved on by `by`.
    #[must_use]
    pub const fn plus(self, by: DurationMs) -> Self {
        Self(self.0.saturating_add_unsigned(by.0))
    }
}

impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(instant) => f.pad(&format!("{instant:.3}")),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

impl fmt::Debug for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_parse_and_print() {
        for (text, ms) in
            [("90s", 90_000), ("15m", 900_000), ("2h", 7_200_000), ("1d 6h", 108_000_000), ("250ms", 250)]
        {
            assert_eq!(text.parse(), Ok(DurationMs(ms)), "{text}");
        }
        assert_eq!(DurationMs(90_000).to_string(), "1m 30s");
        assert_eq!(DurationMs(0).to_string(), "0s");
        for (text, problem) in
            [("-5m", "negative"), ("soon", "does not parse"), ("", "does not parse"), ("90000d", "over")]
        {
            let error = text.parse::<DurationMs>().unwrap_err().to_string();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn instants_are_utc() {
        assert_eq!(UnixMs(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(UnixMs(5).since(UnixMs(9)), DurationMs(0));
        assert_eq!(UnixMs(5).plus(DurationMs(4)), UnixMs(9));
    }
}
