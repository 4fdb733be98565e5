//! Rules for one value, by the kind of its column.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use spillway_types::UnixMs;

use super::{Findings, Rule};
use crate::column::{Column, Kind};
use crate::decimal::{Decimal, DecimalError};
use crate::period::{InstantError, parse_instant};
use crate::values::{is_currency, is_unit};

/// Decimals of a quantity.
const QUANTITY_DECIMALS: u32 = 12;

/// A value as far as it could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cell<'a> {
    Null,
    /// There is a finding about it; other rules leave it alone.
    Bad,
    Text(&'a str),
    Number(Decimal),
    Instant(UnixMs),
}

/// Reads a value and says what is wrong with it.
pub(super) fn read_cell<'a>(column: Option<&Column>, text: &'a str, findings: &mut Findings) -> Cell<'a> {
    let Some(column) = column else { return Cell::Null };
    if text.is_empty() {
        if column.nullable {
            return Cell::Null;
        }
        findings.add(Rule::MissingValue, column.name, "", "there is no value; every row needs one");
        return Cell::Bad;
    }
    let read = match column.kind {
        Kind::Money => number(text, crate::decimal::SCALE),
        Kind::Quantity => number(text, QUANTITY_DECIMALS),
        Kind::Integer => number(text, 0),
        Kind::Instant => instant(text),
        Kind::Text => plain(column.name, text),
        Kind::KeyValues => object(text, Nesting::Flat),
        Kind::Object => object(text, Nesting::Free),
        Kind::Unit => match is_unit(text) {
            true => Ok(Cell::Text(text)),
            false => Err((Rule::Unit, "it is no unit; write `Hours`, `GPU-Hours`, or `GB/Month`".to_owned())),
        },
        Kind::Currency => match is_currency(text) {
            true => Ok(Cell::Text(text)),
            false => Err((Rule::Currency, "it is no code of ISO 4217; write `EUR` or `USD`".to_owned())),
        },
        Kind::OneOf(words) => one_of(text, words),
    };
    read.unwrap_or_else(|(rule, message)| {
        findings.add(rule, column.name, text, message);
        Cell::Bad
    })
}

type Read<'a> = Result<Cell<'a>, (Rule, String)>;

fn number(text: &str, most_decimals: u32) -> Read<'_> {
    let value: Decimal = text.parse().map_err(|error: DecimalError| {
        let rule = match error {
            DecimalError::Exponent => Rule::Exponent,
            DecimalError::TooPrecise | DecimalError::TooLarge => Rule::Precision,
            DecimalError::NotANumber => Rule::Malformed,
        };
        (rule, error.to_string())
    })?;
    if value.decimals() > most_decimals {
        return Err((Rule::Precision, format!("it has more than {most_decimals} decimals")));
    }
    Ok(Cell::Number(value))
}

fn instant(text: &str) -> Read<'_> {
    let value = parse_instant(text).map_err(|error| {
        let rule = match error {
            InstantError::NotUtc => Rule::NotUtc,
            InstantError::NotAnInstant => Rule::Malformed,
        };
        (rule, error.to_string())
    })?;
    Ok(Cell::Instant(value))
}

fn plain<'a>(name: &str, text: &'a str) -> Read<'a> {
    if text.trim().is_empty() {
        return Err((Rule::MissingValue, "it has only blanks".to_owned()));
    }
    let is_account = matches!(name, "BillingAccountId" | "SubAccountId");
    if is_account && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let message = format!("it has only digits, so readers take it for a number; write `a{text}`");
        return Err((Rule::AllDigits, message));
    }
    Ok(Cell::Text(text))
}

fn one_of<'a>(text: &'a str, words: &[&str]) -> Read<'a> {
    if words.contains(&text) {
        return Ok(Cell::Text(text));
    }
    let message = match text {
        "Spot" => "spot prices are `Dynamic`".to_owned(),
        _ => format!("it is none of: {}", words.join(", ")),
    };
    Err((Rule::NotAllowed, message))
}

#[derive(Clone, Copy)]
enum Nesting {
    Flat,
    Free,
}

fn object(text: &str, nesting: Nesting) -> Read<'_> {
    let wrong = |message: String| (Rule::Malformed, message);
    let Pairs { nested } =
        serde_json::from_str(text).map_err(|error| wrong(format!("it is no JSON object: {error}")))?;
    match nesting {
        Nesting::Flat if nested => {
            Err(wrong("a value of it is an object or a list; only plain values are allowed".to_owned()))
        }
        Nesting::Flat | Nesting::Free => Ok(Cell::Text(text)),
    }
}

/// A JSON object of which each key is there once.
struct Pairs {
    nested: bool,
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object such as {\"key\": \"value\"}")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
        let mut keys = BTreeSet::new();
        let mut nested = false;
        while let Some((key, value)) = map.next_entry::<String, serde_json::Value>()? {
            nested |= value.is_object() || value.is_array();
            if let Some(key) = keys.replace(key) {
                return Err(A::Error::custom(format!("the key `{key}` is there twice")));
            }
        }
        Ok(Pairs { nested })
    }
}
