//! Rows as a Parquet file, and back as texts for the checker: the only place that knows the `parquet` crate.
//!
//! Numbers are `DECIMAL(38, 18)`, instants `TIMESTAMP` in milliseconds of UTC, whole numbers 64 bits, all else
//! strings. Every column may be null. Nothing is compressed, so that no compressor is compiled.

use std::io::{self, Write};
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{ChunkReader, FileReader as _};
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::record::Field;
use parquet::record::reader::RowIter;
use parquet::schema::parser::parse_message_type;
use spillway_types::UnixMs;

use crate::column::{Column, Kind, Version};
use crate::decimal::{Decimal, PRECISION, SCALE};
use crate::period::print_instant;
use crate::row::{Row, Value};

/// Rows that are held until a group of them is written: some tens of megabytes at most.
const GROUP_ROWS: usize = 10_000;

/// A Parquet file being written.
pub(crate) struct ParquetWriter<W: Write + Send> {
    version: Version,
    rows: Vec<Row>,
    writer: SerializedFileWriter<W>,
}

impl<W: Write + Send> ParquetWriter<W> {
    pub(crate) fn new(version: Version, file: W) -> io::Result<Self> {
        let fields: String = version.written().map(|column| format!("{};", field(column))).collect();
        let schema = parse_message_type(&format!("message focus {{ {fields} }}")).map_err(as_io)?;
        let properties = WriterProperties::builder().set_created_by("spillway".to_owned()).build();
        let writer =
            SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).map_err(as_io)?;
        Ok(Self { version, rows: Vec::new(), writer })
    }

    pub(crate) fn push(&mut self, row: Row) -> io::Result<()> {
        self.rows.push(row);
        if self.rows.len() < GROUP_ROWS { Ok(()) } else { self.write_group().map_err(as_io) }
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let rows = std::mem::take(&mut self.rows);
        let mut group = self.writer.next_row_group()?;
        for (index, column) in self.version.written().enumerate() {
            let cells: Vec<Option<&Value>> =
                rows.iter().map(|row| row.cells.get(index).and_then(Option::as_ref)).collect();
            if let Some(mut writer) = group.next_column()? {
                write_column(column, &cells, &mut writer)?;
                writer.close()?;
            }
        }
        group.close()?;
        Ok(())
    }

    pub(crate) fn finish(mut self) -> io::Result<W> {
        if !self.rows.is_empty() {
            self.write_group().map_err(as_io)?;
        }
        let mut file = self.writer.into_inner().map_err(as_io)?;
        file.flush()?;
        Ok(file)
    }
}

/// How the values of a column are stored.
enum Stored {
    Text,
    Decimal,
    Integer,
    Instant,
}

const fn stored(kind: Kind) -> Stored {
    match kind {
        Kind::Money | Kind::Quantity => Stored::Decimal,
        Kind::Integer => Stored::Integer,
        Kind::Instant => Stored::Instant,
        Kind::Text | Kind::KeyValues | Kind::Object | Kind::Unit | Kind::Currency | Kind::OneOf(_) => {
            Stored::Text
        }
    }
}

fn field(column: &Column) -> String {
    let name = column.name;
    match stored(column.kind) {
        Stored::Text => format!("OPTIONAL BYTE_ARRAY {name} (STRING)"),
        Stored::Decimal => {
            format!("OPTIONAL FIXED_LEN_BYTE_ARRAY(16) {name} (DECIMAL({PRECISION},{SCALE}))")
        }
        Stored::Integer => format!("OPTIONAL INT64 {name}"),
        Stored::Instant => format!("OPTIONAL INT64 {name} (TIMESTAMP(MILLIS,true))"),
    }
}

fn write_column(
    column: &Column,
    cells: &[Option<&Value>],
    writer: &mut SerializedColumnWriter<'_>,
) -> Result<(), ParquetError> {
    let levels: Vec<i16> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
    let present = cells.iter().copied().flatten();
    match stored(column.kind) {
        Stored::Text => {
            let values: Vec<ByteArray> = present.map(|value| value.print().as_str().into()).collect();
            writer.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None)?;
        }
        Stored::Decimal => {
            let values: Vec<FixedLenByteArray> = present.map(decimal_bytes).collect();
            writer.typed::<FixedLenByteArrayType>().write_batch(&values, Some(&levels), None)?;
        }
        Stored::Integer | Stored::Instant => {
            let values: Vec<i64> = present.map(whole).collect();
            writer.typed::<Int64Type>().write_batch(&values, Some(&levels), None)?;
        }
    }
    Ok(())
}

fn decimal_bytes(value: &Value) -> FixedLenByteArray {
    let decimal = match value {
        Value::Decimal(decimal) => *decimal,
        Value::Text(_) | Value::Integer(_) | Value::Instant(_) => Decimal::ZERO,
    };
    FixedLenByteArray::from(decimal.atto().to_be_bytes().to_vec())
}

const fn whole(value: &Value) -> i64 {
    match value {
        Value::Integer(number) => *number,
        Value::Instant(UnixMs(ms)) => *ms,
        Value::Text(_) | Value::Decimal(_) => 0,
    }
}

/// The crate wraps what a writer says.
fn as_io(error: ParquetError) -> io::Error {
    let ParquetError::External(inner) = error else { return io::Error::other(error) };
    match inner.downcast::<io::Error>() {
        Ok(error) => *error,
        Err(other) => io::Error::other(other),
    }
}

/// One row as texts.
type TextRow = Result<Vec<String>, ParquetError>;

/// The names of the columns of a Parquet file, and its rows as texts.
pub(crate) fn open_rows<R: ChunkReader + 'static>(
    file: R,
) -> Result<(Vec<String>, impl Iterator<Item = TextRow>), ParquetError> {
    let reader = SerializedFileReader::new(file)?;
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let names = schema.root_schema().get_fields().iter().map(|field| field.name().to_owned()).collect();
    let rows = RowIter::from_file_into(Box::new(reader));
    let print_row =
        |row: parquet::record::Row| row.get_column_iter().map(|(_, field)| print(field)).collect();
    Ok((names, rows.map(move |row| row.map(print_row))))
}

/// A value as it would stand in a CSV file; nothing for null.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the crate has twenty types; what FOCUS has no use for is printed as it is"
)]
fn print(field: &Field) -> String {
    match field {
        Field::Null => String::new(),
        Field::Str(text) => text.clone(),
        Field::TimestampMillis(ms) => print_instant(UnixMs(*ms)),
        Field::TimestampMicros(us) => print_instant(UnixMs(us.div_euclid(1000))),
        Field::Decimal(decimal) => print_decimal(decimal.data(), decimal.scale()),
        Field::Long(number) => number.to_string(),
        Field::Int(number) => number.to_string(),
        other => other.to_string(),
    }
}

/// The two's complement of an unscaled number as a decimal; as it is where no decimal holds it.
fn print_decimal(bytes: &[u8], scale: i32) -> String {
    let unscaled = || {
        let negative = bytes.first().is_some_and(|byte| *byte >= 0x80);
        let mut wide = if negative { [0xff; 16] } else { [0; 16] };
        let start = wide.len().checked_sub(bytes.len())?;
        wide.get_mut(start..)?.copy_from_slice(bytes);
        let missing = SCALE.checked_sub(u32::try_from(scale).ok()?)?;
        Decimal::from_atto(i128::from_be_bytes(wide).checked_mul(10_i128.checked_pow(missing)?)?)
    };
    unscaled().map_or_else(|| format!("{bytes:?} of scale {scale}"), |decimal| decimal.to_string())
}
