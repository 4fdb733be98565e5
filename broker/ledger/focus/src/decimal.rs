//! Exact decimals: what the columns print, and the products and sums that are held against it.
//!
//! A decimal is a whole number of 10^-18. A price has six decimals and a quantity at most twelve, so their product
//! is a decimal without rounding. Nothing here is a float, and nothing prints an exponent.

use std::fmt;
use std::str::FromStr;

/// Decimals of a printed number.
pub const SCALE: u32 = 18;
/// Digits of a printed number: what `DECIMAL(38, 18)` holds.
pub const PRECISION: u32 = 38;

const ONE: i128 = 10_i128.pow(SCALE);
const LARGEST: i128 = 10_i128.pow(PRECISION) - 1;

/// A number with at most 18 decimals and at most 20 digits before them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Decimal(i128);

/// Why a text is not a [`Decimal`], or a result is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecimalError {
    /// Scientific notation.
    #[error("it is written with an exponent; write the digits out")]
    Exponent,
    /// More decimals than are kept.
    #[error("it has more than 18 decimals")]
    TooPrecise,
    /// More digits than are kept.
    #[error("it has more than 20 digits before the decimal point")]
    TooLarge,
    /// Anything else: a sign for positive numbers, separators, a currency, blanks.
    #[error("it is not a number of the form -12.5")]
    NotANumber,
}

impl Decimal {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From 10^-6: an amount or a unit price of the ledger.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros as i128 * 10_i128.pow(SCALE - 6))
    }

    /// From 10^-12: a quantity. `None` where there are more than 20 digits before the decimal point.
    #[must_use]
    pub fn from_pico(pico: i128) -> Option<Self> {
        pico.checked_mul(10_i128.pow(SCALE - 12)).and_then(Self::bounded)
    }

    /// From 10^-18. `None` where there are more than 20 digits before the decimal point.
    #[must_use]
    pub const fn from_atto(atto: i128) -> Option<Self> {
        Self::bounded(atto)
    }

    /// In 10^-18.
    #[must_use]
    pub const fn atto(self) -> i128 {
        self.0
    }

    const fn bounded(atto: i128) -> Option<Self> {
        if atto >= -LARGEST && atto <= LARGEST { Some(Self(atto)) } else { None }
    }

    /// Whether it is below 0.
    #[must_use]
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// How many decimals are needed to print it.
    #[must_use]
    pub fn decimals(self) -> u32 {
        self.parts().1
    }

    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).and_then(Self::bounded)
    }

    /// The exact product; `None` where it needs more than 18 decimals or 20 digits before them.
    #[must_use]
    pub fn times(self, other: Self) -> Option<Self> {
        let ((mine, my_scale), (theirs, their_scale)) = (self.parts(), other.parts());
        let (mut product, mut scale) = (mine.checked_mul(theirs)?, my_scale + their_scale);
        while scale > SCALE {
            if product % 10 != 0 {
                return None;
            }
            product /= 10;
            scale -= 1;
        }
        product.checked_mul(10_i128.pow(SCALE - scale)).and_then(Self::bounded)
    }

    /// The shortest mantissa with its number of decimals.
    fn parts(self) -> (i128, u32) {
        let (mut mantissa, mut scale) = (self.0, SCALE);
        while scale > 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            scale -= 1;
        }
        (mantissa, scale)
    }
}

impl fmt::Display for Decimal {
    /// Digits only, as few as are exact: `0`, `-12.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let (whole, rest) =
            (self.0.unsigned_abs() / ONE.unsigned_abs(), self.0.unsigned_abs() % ONE.unsigned_abs());
        if rest == 0 {
            return write!(f, "{sign}{whole}");
        }
        let decimals = format!("{rest:018}");
        write!(f, "{sign}{whole}.{}", decimals.trim_end_matches('0'))
    }
}

impl FromStr for Decimal {
    type Err = DecimalError;

    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, decimals) = match digits.split_once('.') {
            Some((_, "")) => return Err(DecimalError::NotANumber),
            Some((whole, decimals)) => (whole, decimals),
            None => (digits, ""),
        };
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(decimals) {
            return Err(if is_scientific(digits) {
                DecimalError::Exponent
            } else {
                DecimalError::NotANumber
            });
        }
        let (whole, decimals) = (whole.trim_start_matches('0'), decimals.trim_end_matches('0'));
        if decimals.len() > SCALE as usize {
            return Err(DecimalError::TooPrecise);
        }
        if whole.len() > (PRECISION - SCALE) as usize {
            return Err(DecimalError::TooLarge);
        }
        let atto: i128 = format!("0{whole}{decimals:0<18}").parse().map_err(|_| DecimalError::TooLarge)?;
        Ok(Self(if text.starts_with('-') { -atto } else { atto }))
    }
}

/// `1e3`, `1.5E-7`: digits, an `e`, and a whole number.
fn is_scientific(text: &str) -> bool {
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else { return false };
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    digits(exponent) && digits(&mantissa.replacen('.', "", 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_are_read_strictly() {
        let cases = [
            ("0", "0"),
            ("-12.5", "-12.5"),
            ("2.490000", "2.49"),
            ("0.000000000000000001", "0.000000000000000001"),
            ("99999999999999999999", "99999999999999999999"),
            ("1e3", "it is written with an exponent; write the digits out"),
            ("-1.5E-7", "it is written with an exponent; write the digits out"),
            ("1e", "it is not a number of the form -12.5"),
            ("+1", "it is not a number of the form -12.5"),
            ("1,000.0", "it is not a number of the form -12.5"),
            ("$1", "it is not a number of the form -12.5"),
            ("1.", "it is not a number of the form -12.5"),
            (".5", "it is not a number of the form -12.5"),
            ("", "it is not a number of the form -12.5"),
            ("-", "it is not a number of the form -12.5"),
            ("0.0000000000000000001", "it has more than 18 decimals"),
            ("100000000000000000000", "it has more than 20 digits before the decimal point"),
        ];
        for (text, expected) in cases {
            let read = match text.parse::<Decimal>() {
                Ok(value) => value.to_string(),
                Err(error) => error.to_string(),
            };
            assert_eq!(read, expected, "{text}");
        }
    }

    #[test]
    fn a_product_is_exact_or_none() {
        let times = |a: &str, b: &str| {
            let (a, b): (Decimal, Decimal) = (a.parse().unwrap(), b.parse().unwrap());
            a.times(b).map(|product| product.to_string())
        };
        assert_eq!(times("2.49", "24.000000000001").as_deref(), Some("59.76000000000249"));
        assert_eq!(times("0.000001", "0.000000000001").as_deref(), Some("0.000000000000000001"));
        assert_eq!(times("0.0000001", "0.000000000001"), None);
        assert_eq!(times("99999999999999999999", "10"), None);
        assert_eq!(times("0.0000005", "0.000000000002").as_deref(), Some("0.000000000000000001"));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(atto in -LARGEST..=LARGEST) {
            let value = Decimal::from_atto(atto).unwrap();
            prop_assert_eq!(value.to_string().parse::<Decimal>(), Ok(value));
        }

        #[test]
        fn a_price_times_a_quantity_is_always_exact(micros in 0_i64..10_i64.pow(12), pico in 0_i128..10_i128.pow(19)) {
            let quantity = Decimal::from_pico(pico).unwrap();
            let cost = Decimal::from_micros(micros).times(quantity);
            prop_assert_eq!(cost.map(Decimal::atto), Some(i128::from(micros) * pico));
        }
    }
}
