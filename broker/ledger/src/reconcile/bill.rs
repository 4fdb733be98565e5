//! A provider's bill: FOCUS (any 1.x), or a Cost and Usage Report of Amazon in its first or second form.
//!
//! A file is read as a whole or not at all: a last line that is torn, a missing column or a number that cannot be
//! kept exactly is an error that names the line, and nothing is taken. Lines without a resource (taxes, support) are
//! kept apart: they are on the invoice, and no instance of ours caused them.

use csv::{ReaderBuilder, StringRecord};
use spillway_types::{Currency, UnixMs};

use super::decimal::{Decimal, DecimalError};
use crate::calendar::parse_instant;

/// Most bytes of one file: far over a month of 10,000 instances by the hour, and what memory surely has.
pub const MAX_BILL_BYTES: usize = 2 * 1024 * 1024 * 1024;

/// How a bill is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BillFormat {
    /// The FinOps Open Cost and Usage Specification.
    Focus,
    /// A Cost and Usage Report: columns as `lineItem/ResourceId`.
    Cur,
    /// The second form of it: columns as `line_item_resource_id`.
    Cur2,
}

/// The columns that a format has them in.
struct Columns {
    format: BillFormat,
    resource: &'static str,
    from: &'static str,
    to: &'static str,
    cost: &'static str,
    currency: &'static str,
    quantity: &'static str,
    unit: Option<&'static str>,
    invoice: &'static str,
}

const FORMATS: [Columns; 3] = [
    Columns {
        format: BillFormat::Focus,
        resource: "ResourceId",
        from: "ChargePeriodStart",
        to: "ChargePeriodEnd",
        cost: "BilledCost",
        currency: "BillingCurrency",
        quantity: "PricingQuantity",
        unit: Some("PricingUnit"),
        invoice: "InvoiceId",
    },
    Columns {
        format: BillFormat::Cur,
        resource: "lineItem/ResourceId",
        from: "lineItem/UsageStartDate",
        to: "lineItem/UsageEndDate",
        cost: "lineItem/UnblendedCost",
        currency: "lineItem/CurrencyCode",
        quantity: "lineItem/UsageAmount",
        unit: None,
        invoice: "bill/InvoiceId",
    },
    Columns {
        format: BillFormat::Cur2,
        resource: "line_item_resource_id",
        from: "line_item_usage_start_date",
        to: "line_item_usage_end_date",
        cost: "line_item_unblended_cost",
        currency: "line_item_currency_code",
        quantity: "line_item_usage_amount",
        unit: None,
        invoice: "bill_invoice_id",
    },
];

/// Units of time that are hours, in lower case; a line in another unit has no time that could be compared.
const HOURS: [&str; 4] = ["hours", "hour", "hrs", "h"];

/// One line of a bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BillLine {
    /// Its number in the file, counted from 1 with the header.
    pub line: u64,
    /// The provider's id of the resource; empty where it has none.
    pub resource: String,
    /// Begin of what it charges.
    pub from: UnixMs,
    /// End, exclusive.
    pub to: UnixMs,
    /// What it charges.
    pub cost: Decimal,
    /// In which currency.
    pub currency: Currency,
    /// The time that it bills, in milliseconds, where it bills time.
    pub billed_ms: Option<u64>,
    /// The invoice that it is on; empty where the bill is not final.
    pub invoice: String,
}

/// A bill.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bill {
    /// How it was written.
    pub format: BillFormat,
    /// Its lines, in their order.
    pub lines: Vec<BillLine>,
}

/// Why a bill cannot be read. Nothing of it was taken.
#[derive(Debug, thiserror::Error)]
pub enum BillError {
    /// It is empty.
    #[error("the bill is empty: export it again")]
    Empty,
    /// It is too large.
    #[error("the bill has {0} bytes, and {MAX_BILL_BYTES} is the most: split it by month or account")]
    TooLarge(usize),
    /// Its last line has no end.
    #[error(
        "line {line} of the bill is torn: the file ends in the middle of it. Fetch it again; if it is whole, end its \
         last line with a line feed"
    )]
    Torn {
        /// The line.
        line: u64,
    },
    /// A line has more or fewer fields than the header, or is no text.
    #[error("line {line} of the bill cannot be read: {problem}")]
    Line {
        /// The line.
        line: u64,
        /// What is wrong.
        problem: String,
    },
    /// More than one currency.
    #[error(
        "line {line} of the bill is in {other}, and those before it are not: split the bill by its currencies"
    )]
    Currencies {
        /// The first line that is in another one.
        line: u64,
        /// The other one.
        other: Currency,
    },
    /// No known format.
    #[error(
        "the bill is neither FOCUS nor a Cost and Usage Report: it has no column {}",
        FORMATS.map(|format| format!("`{}`", format.resource)).join(", nor ")
    )]
    Format,
    /// A column is missing.
    #[error("the bill has no column `{column}`, which every {format:?} bill has: export it with all columns")]
    Column {
        /// The column.
        column: &'static str,
        /// The format.
        format: BillFormat,
    },
    /// A value cannot be.
    #[error("line {line}, {column}: `{value}` {problem}")]
    Value {
        /// The line.
        line: u64,
        /// The column.
        column: &'static str,
        /// What is there.
        value: String,
        /// What is wrong.
        problem: String,
    },
}

/// Places of the columns in a file.
struct Places<'a> {
    columns: &'a Columns,
    resource: usize,
    from: usize,
    to: usize,
    cost: usize,
    currency: usize,
    quantity: usize,
    unit: Option<usize>,
    invoice: Option<usize>,
}

impl Bill {
    /// Reads a bill from the bytes of its file.
    ///
    /// # Errors
    /// [`BillError`] with the line and the column.
    pub fn read(bytes: &[u8]) -> Result<Self, BillError> {
        Self::read_at_most(bytes, MAX_BILL_BYTES)
    }

    /// The one currency of all lines; none of an empty bill.
    ///
    /// # Errors
    /// [`BillError::Currencies`] where there are several.
    pub fn currency(&self) -> Result<Option<Currency>, BillError> {
        let first = self.lines.first().map(|line| line.currency);
        match self.lines.iter().find(|line| Some(line.currency) != first) {
            None => Ok(first),
            Some(line) => Err(BillError::Currencies { line: line.line, other: line.currency }),
        }
    }

    fn read_at_most(bytes: &[u8], most: usize) -> Result<Self, BillError> {
        if bytes.is_empty() {
            return Err(BillError::Empty);
        }
        if bytes.len() > most {
            return Err(BillError::TooLarge(bytes.len()));
        }
        let newlines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        if !bytes.ends_with(b"\n") {
            return Err(BillError::Torn { line: newlines + 1 });
        }
        // A quote that is never closed swallows the rest of the file.
        if let Some(last) = open_quote(bytes) {
            return Err(BillError::Torn { line: last });
        }
        // Excel and some exporters mark UTF-8.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut reader = ReaderBuilder::new().from_reader(bytes);
        let header = reader.headers().map_err(|error| unreadable(&error))?.clone();
        let places = places(&header)?;
        let mut lines = vec![];
        for record in reader.records() {
            let record = record.map_err(|error| unreadable(&error))?;
            lines.push(places.line(&record)?);
        }
        Ok(Self { format: places.columns.format, lines })
    }
}

/// The last line, where a quoted field is still open at the end.
fn open_quote(bytes: &[u8]) -> Option<u64> {
    let quotes = bytes.iter().filter(|byte| **byte == b'"').count();
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    (quotes % 2 == 1).then_some(lines)
}

fn unreadable(error: &csv::Error) -> BillError {
    let line = error.position().map_or(1, csv::Position::line);
    let problem = if let csv::ErrorKind::UnequalLengths { expected_len, len, .. } = error.kind() {
        format!("it has {len} fields and the header {expected_len}; fetch the file again")
    } else if let csv::ErrorKind::Utf8 { .. } = error.kind() {
        "it is no UTF-8 text".to_owned()
    } else {
        error.to_string()
    };
    BillError::Line { line, problem }
}

fn places(header: &StringRecord) -> Result<Places<'static>, BillError> {
    let place = |name: &str| header.iter().position(|column| column.trim() == name);
    let columns = FORMATS.iter().find(|format| place(format.resource).is_some()).ok_or(BillError::Format)?;
    let needed =
        |column: &'static str| place(column).ok_or(BillError::Column { column, format: columns.format });
    Ok(Places {
        columns,
        resource: needed(columns.resource)?,
        from: needed(columns.from)?,
        to: needed(columns.to)?,
        cost: needed(columns.cost)?,
        currency: needed(columns.currency)?,
        quantity: needed(columns.quantity)?,
        unit: columns.unit.and_then(place),
        invoice: place(columns.invoice),
    })
}

impl Places<'_> {
    fn line(&self, record: &StringRecord) -> Result<BillLine, BillError> {
        let line = record.position().map_or(0, csv::Position::line);
        let at = |place: usize| record.get(place).unwrap_or_default().trim();
        let wrong = |column, place: usize, problem: String| BillError::Value {
            line,
            column,
            value: at(place).chars().take(80).collect(),
            problem,
        };
        let no_instant = || "is no instant in UTC, as `2026-03-01T00:00:00Z`".to_owned();
        let instant =
            |place, column| parse_instant(at(place)).ok_or_else(|| wrong(column, place, no_instant()));
        let no_number = || "is no number of at most 17 digits before the point and 12 after it".to_owned();
        let number = |place: usize, column| match at(place) {
            "" => Ok(Decimal::default()),
            text => text.parse().map_err(|_: DecimalError| wrong(column, place, no_number())),
        };
        let columns = self.columns;
        let (from, to) = (instant(self.from, columns.from)?, instant(self.to, columns.to)?);
        if to < from {
            return Err(wrong(columns.to, self.to, format!("is before `{}`, its begin", at(self.from))));
        }
        let no_currency = || "is no currency: three capitals, for example `USD`".to_owned();
        let currency = at(self.currency).parse();
        let currency = currency.map_err(|_| wrong(columns.currency, self.currency, no_currency()))?;
        let quantity: Decimal = number(self.quantity, columns.quantity)?;
        let hours = self.unit.is_none_or(|unit| HOURS.contains(&at(unit).to_ascii_lowercase().as_str()));
        Ok(BillLine {
            line,
            resource: at(self.resource).to_owned(),
            from,
            to,
            cost: number(self.cost, columns.cost)?,
            currency,
            billed_ms: quantity.hours_to_ms().filter(|_| hours && !at(self.quantity).is_empty()),
            invoice: self.invoice.map(at).unwrap_or_default().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOCUS: &str = "ResourceId,ChargePeriodStart,ChargePeriodEnd,BilledCost,BillingCurrency,PricingQuantity,PricingUnit,InvoiceId\n\
        i-1,2026-03-01T00:00:00Z,2026-03-01T01:00:00Z,2.49,USD,1,Hours,INV-7\n\
        ,2026-03-01T00:00:00Z,2026-04-01T00:00:00Z,10.00,USD,,,INV-7\n";

    #[test]
    fn the_three_formats_are_read() {
        let bill = Bill::read(FOCUS.as_bytes()).unwrap();
        let line = &bill.lines[0];
        assert_eq!((bill.format, bill.lines.len(), line.line), (BillFormat::Focus, 2, 2));
        assert_eq!(
            (line.resource.as_str(), line.billed_ms, line.cost.to_string().as_str()),
            ("i-1", Some(3_600_000), "2.49")
        );
        assert_eq!((bill.lines[1].resource.as_str(), bill.lines[1].billed_ms), ("", None));
        let cur = "lineItem/ResourceId,lineItem/UsageStartDate,lineItem/UsageEndDate,lineItem/UnblendedCost,\
            lineItem/CurrencyCode,lineItem/UsageAmount,bill/InvoiceId\n\
            i-2,2026-03-01T00:00:00Z,2026-03-01T01:00:00Z,2.8E-8,USD,0.5,\n";
        let bill = Bill::read(cur.as_bytes()).unwrap();
        assert_eq!((bill.format, bill.lines[0].billed_ms), (BillFormat::Cur, Some(1_800_000)));
        assert_eq!(bill.lines[0].cost.to_string(), "0.000000028");
        let cur2 = "\u{feff}line_item_usage_start_date,line_item_usage_end_date,line_item_resource_id,line_item_unblended_cost,\
            line_item_currency_code,line_item_usage_amount\r\n\
            2026-03-01 00:00:00,2026-03-01 01:00:00.000,\"i-3\",1,EUR,1\r\n";
        let bill = Bill::read(cur2.as_bytes()).unwrap();
        assert_eq!((bill.format, bill.lines[0].currency.as_str()), (BillFormat::Cur2, "EUR"));
        assert_eq!(bill.lines[0].from.to_string(), "2026-03-01T00:00:00.000Z");
        assert_eq!(bill.currency().unwrap().unwrap().as_str(), "EUR");
        let mixed = Bill::read(FOCUS.replacen("USD", "EUR", 1).as_bytes()).unwrap().currency();
        assert!(mixed.unwrap_err().to_string().contains("line 3 of the bill is in USD"));
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_refused() {
        let mut whole = FOCUS.to_owned();
        whole.push_str("\"i-4\",2026-03-01T00:00:00Z,2026-03-01T01:00:00Z,1.00,USD,1,Hours,\"INV, 7\"\n");
        assert_eq!(Bill::read(whole.as_bytes()).unwrap().lines.len(), 3);
        for cut in 1..whole.len() {
            let ends_a_line = whole.as_bytes()[cut - 1] == b'\n';
            let read = Bill::read(&whole.as_bytes()[..cut]);
            assert_eq!(read.is_ok(), ends_a_line, "cut at {cut}: {read:?}");
        }
        let last = whole.len() - 5;
        let error = Bill::read(&whole.as_bytes()[..last]).unwrap_err().to_string();
        assert!(error.contains("line 4 of the bill is torn"), "{error}");
        assert!(matches!(Bill::read(b""), Err(BillError::Empty)));
        assert!(Bill::read_at_most(FOCUS.as_bytes(), FOCUS.len()).is_ok());
        assert!(matches!(Bill::read_at_most(FOCUS.as_bytes(), FOCUS.len() - 1), Err(BillError::TooLarge(_))));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_column() {
        let refused = |from: &str, to: &str| {
            Bill::read(FOCUS.replacen(from, to, 1).as_bytes()).unwrap_err().to_string()
        };
        for (from, to, words) in [
            ("ResourceId", "Resource", "neither FOCUS nor a Cost and Usage Report"),
            ("BilledCost", "Cost", "has no column `BilledCost`"),
            ("2.49", "2,49", "line 2 of the bill cannot be read: it has 9 fields and the header 8"),
            ("2.49", "two", "line 2, BilledCost: `two` is no number"),
            ("2026-03-01T00:00:00Z", "yesterday", "line 2, ChargePeriodStart: `yesterday` is no instant"),
            ("2026-03-01T00:00:00Z", "2026-03-01T00:00:00+09:00", "is no instant in UTC"),
            ("2026-03-01T01:00:00Z", "2026-02-01T01:00:00Z", "is before `2026-03-01T00:00:00Z`"),
            ("USD", "dollars", "line 2, BillingCurrency: `dollars`"),
            ("i-1", "\"i-1", "torn"),
        ] {
            let error = refused(from, to);
            assert!(error.contains(words), "{from} -> {to}: {error}");
        }
    }
}
