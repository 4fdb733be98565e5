//! Decimal numbers as bills write them, exactly: an integer count of 10^-12.

use std::fmt;
use std::str::FromStr;

use crate::rates::div_round;

/// A number in 10^-12. FOCUS asks for no more decimals, and 128 bits hold 10^26 of whole units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Decimal(i128);

/// Decimals that are kept.
const PLACES: u32 = 12;

/// Most digits that a number may have, its exponent applied: what fits 128 bits with room to add a billion of them.
const MAX_DIGITS: usize = 29;

/// Why a text is not a number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a number that can be kept exactly: at most 17 digits before the point and 12 after it")]
pub struct DecimalError(String);

impl Decimal {
    /// A number of micros.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        Self(i128::from(micros) * 1_000_000)
    }

    /// To the nearest micro, halves away from zero; `None` where it does not fit.
    #[must_use]
    pub fn to_micros(self) -> Option<i64> {
        i64::try_from(div_round(self.0, 1_000_000)).ok()
    }

    /// As hours: to the nearest millisecond; `None` below 0 or where it does not fit.
    #[must_use]
    pub fn hours_to_ms(self) -> Option<u64> {
        let ms = self.0.checked_mul(3_600_000)?;
        u64::try_from(div_round(ms, 10_i128.pow(PLACES))).ok()
    }

    /// The sum; `None` where it does not fit.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }
}

fn parse(text: &str) -> Option<i128> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let exponent: i32 = exponent.strip_prefix('+').unwrap_or(exponent).parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some(0);
    }
    let shift = i64::from(PLACES) + i64::from(exponent) - i64::try_from(fraction.len()).ok()?;
    let length = i64::try_from(digits.len()).ok()?.checked_add(shift)?;
    if length > i64::try_from(MAX_DIGITS).ok()? || digits.len() > MAX_DIGITS {
        return None;
    }
    let number: i128 = digits.parse().ok()?;
    let power = 10_i128.checked_pow(u32::try_from(shift.unsigned_abs()).ok()?);
    let number = match (shift < 0, power) {
        (false, power) => number.checked_mul(power?)?,
        (true, Some(power)) if number % power == 0 => number / power,
        (true, _) => return None,
    };
    Some(if negative { -number } else { number })
}

impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        parse(text).map(Self).ok_or_else(|| DecimalError(text.chars().take(80).collect()))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, number) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        let unit = 10_u128.pow(PLACES);
        let fraction = format!("{:012}", number % unit);
        let fraction = fraction.trim_end_matches('0');
        write!(f, "{sign}{}.{}", number / unit, if fraction.is_empty() { "0" } else { fraction })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_kept_exactly_with_or_without_an_exponent() {
        for (text, printed) in [
            ("0", "0.0"),
            ("-0.0", "0.0"),
            ("12.5", "12.5"),
            ("0.000000000001", "0.000000000001"),
            ("1E-10", "0.0000000001"),
            ("2.80e-8", "0.000000028"),
            ("1.5E+3", "1500.0"),
            ("-59.76", "-59.76"),
            ("00012", "12.0"),
            ("99999999999999999.999999999999", "99999999999999999.999999999999"),
            ("0.10000000000000000000", "0.1"),
        ] {
            assert_eq!(text.parse::<Decimal>().unwrap().to_string(), printed, "{text}");
        }
        for wrong in [
            "",
            "-",
            ".5",
            "5.",
            "1e",
            "0.0000000000001",
            "1e-13",
            "1e99",
            "100000000000000000",
            "1,5",
            "NaN",
        ] {
            assert!(wrong.parse::<Decimal>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn conversions_round_to_the_nearest() {
        let number = |text: &str| text.parse::<Decimal>().unwrap();
        assert_eq!(number("0.0000005").to_micros(), Some(1));
        assert_eq!(number("-0.0000005").to_micros(), Some(-1));
        assert_eq!(number("99999999999999999").to_micros(), None);
        assert_eq!(number("0.5").hours_to_ms(), Some(1_800_000));
        assert_eq!(number("0.016666666667").hours_to_ms(), Some(60_000));
        assert_eq!(number("-1").hours_to_ms(), None);
        assert_eq!(Decimal::from_micros(-5).to_string(), "-0.000005");
    }
}
