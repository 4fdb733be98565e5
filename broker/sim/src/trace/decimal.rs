//! Decimals of hours as whole milliseconds, rounded up: integers only, so that no digit is lost.

use spillway_types::DurationMs;
use spillway_types::duration::MAX_DURATION;

/// Most digits that are read: more than a 64-bit float ever prints, and few enough for 128 bits when they are multiplied by the largest unit.
const MAX_DIGITS: usize = 25;
const MS_PER_HOUR: u128 = 3_600_000;

/// Why a text is not a number of hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Not a number at all, or NaN, or infinite.
    #[error("is not a number")]
    NotANumber,
    /// Below 0.
    #[error("is negative")]
    Negative,
    /// Over ten years.
    #[error("is over ten years")]
    TooLong,
    /// More than 25 digits.
    #[error("has more than 25 digits")]
    TooManyDigits,
}

/// Reads hours like `0.016389`, `12` or `9.4e-05` as milliseconds, rounded up.
///
/// # Errors
/// [`DecimalError`] says why it is no number of hours.
pub fn hours(text: &str) -> Result<DurationMs, DecimalError> {
    let span = times(text, MS_PER_HOUR)?;
    if span > MAX_DURATION.0 { Err(DecimalError::TooLong) } else { Ok(DurationMs(span)) }
}

/// Reads a number like `0.076` as billionths, rounded up.
///
/// # Errors
/// [`DecimalError`] says why it is no number, or none that fits.
pub fn billionths(text: &str) -> Result<u64, DecimalError> {
    times(text, 1_000_000_000)
}

/// A number of at least 0 times `unit`, rounded up.
fn times(text: &str, unit: u128) -> Result<u64, DecimalError> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let text = text.strip_prefix('+').unwrap_or(text);
    let (number, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return Err(DecimalError::NotANumber);
    }
    let exponent: i32 = exponent.parse().map_err(|_| DecimalError::NotANumber)?;
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.len() > MAX_DIGITS {
        return Err(DecimalError::TooManyDigits);
    }
    let digits: u128 =
        if digits.is_empty() { 0 } else { digits.parse().map_err(|_| DecimalError::NotANumber)? };
    if negative && digits > 0 {
        return Err(DecimalError::Negative);
    }
    let places = i64::from(exponent) - i64::try_from(fraction.len()).unwrap_or(i64::MAX);
    let scaled = scaled(digits * unit, places).ok_or(DecimalError::TooLong)?;
    u64::try_from(scaled).map_err(|_| DecimalError::TooLong)
}

/// `value` times ten to the power of `places`, rounded up; none where 128 bits do not hold it.
fn scaled(value: u128, places: i64) -> Option<u128> {
    let power = u32::try_from(places.unsigned_abs()).ok().and_then(|power| 10_u128.checked_pow(power));
    match (value, places >= 0, power) {
        (0, ..) => Some(0),
        (_, true, Some(power)) => value.checked_mul(power),
        (_, true, None) => None,
        (_, false, Some(power)) => Some(value.div_ceil(power)),
        // Smaller than any power that is held, and not zero.
        (_, false, None) => Some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_exact_and_rounded_up() {
        for (text, ms) in [
            ("0", 0),
            ("-0.0", 0),
            ("1", 3_600_000),
            ("0.0075", 27_000),
            ("0.016389", 59_001),
            ("1.0782212780301361", 3_881_597),
            ("0.000000277777777777777777", 1),
            ("0.00000027777777777777778", 2),
            ("9.4e-05", 339),
            ("1E1", 36_000_000),
            ("1e-300", 1),
            (".5", 1_800_000),
            ("87840", 316_224_000_000),
        ] {
            assert_eq!(hours(text), Ok(DurationMs(ms)), "{text}");
        }
    }

    #[test]
    fn billionths_are_exact() {
        for (text, expected) in
            [("0.076", 76_000_000), ("0.07805625", 78_056_250), ("1", 1_000_000_000), ("1e-12", 1)]
        {
            assert_eq!(billionths(text), Ok(expected), "{text}");
        }
        assert_eq!(billionths("-0.1"), Err(DecimalError::Negative));
        assert_eq!(billionths("1e18"), Err(DecimalError::TooLong));
    }

    #[test]
    fn what_is_no_number_of_hours_is_refused() {
        use DecimalError::{Negative, NotANumber, TooLong, TooManyDigits};
        for (text, why) in [
            ("", NotANumber),
            (".", NotANumber),
            ("nan", NotANumber),
            ("inf", NotANumber),
            ("1,5", NotANumber),
            ("1e", NotANumber),
            ("--1", NotANumber),
            ("-1", Negative),
            ("-0.0001", Negative),
            ("87840.0000001", TooLong),
            ("1e300", TooLong),
            ("1.1111111111111111111111111", TooManyDigits),
        ] {
            assert_eq!(hours(text), Err(why), "{text}");
        }
    }
}
