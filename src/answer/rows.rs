//! The forms for programs.

use std::fmt::Write as _;
use std::io::{self, Write};

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType as ArrowType, SchemaRef};
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::WriterProperties;
use serde_json::{Value, json};

use super::{Options, Writer};
use crate::change::Cell;
use crate::judge::{OutputColumn, Sink};
use crate::report::{position_json, safe_json};
use crate::schema::DataType;
use crate::schema::columnar::cell_from_array;
use crate::schema::value::{to_json, to_text};

/// The name of the document's form.
const SCHEMA: &str = "firstbad/sql@1";

/// The value in a row; one that has no other form here is its text.
fn cell(column: &OutputColumn, array: &dyn Array, row: usize) -> io::Result<Cell> {
    match cell_from_array(&column.data_type, array, row) {
        // Whole numbers are decimals only because half of them do not fit a bigint.
        Ok(Cell::Decimal(value)) if *array.data_type() == ArrowType::UInt64 => {
            Ok(i64::try_from(value.unscaled).map_or(Cell::Decimal(value), Cell::Int))
        }
        Ok(cell) => Ok(cell),
        Err(error) => match array_value_to_string(array, row) {
            Ok(text) => Ok(Cell::Text(text)),
            Err(_) => Err(io::Error::other(error)),
        },
    }
}

/// The values of a row as JSON.
pub(super) fn json_row(
    columns: &[OutputColumn],
    batch: &RecordBatch,
    row: usize,
) -> io::Result<Vec<Value>> {
    let columns = columns.iter().zip(batch.columns());
    columns
        .map(|(column, array)| Ok(to_json(&column.data_type, &cell(column, array, row)?)))
        .collect()
}

/// The columns' names as JSON, each with its colon.
fn json_names(columns: &[OutputColumn]) -> Vec<String> {
    let name = |column: &OutputColumn| format!("{}:", Value::from(column.name.as_str()));
    columns.iter().map(name).collect()
}

/// A row as an object; `names` are [`json_names`].
fn object(
    names: &[String],
    columns: &[OutputColumn],
    batch: &RecordBatch,
    row: usize,
) -> io::Result<String> {
    let mut out = String::from("{");
    for (at, (name, value)) in names.iter().zip(json_row(columns, batch, row)?).enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let _ = write!(out, "{comma}{name}{value}");
    }
    out.push('}');
    Ok(safe_json(&out))
}

/// The name of a type as people write it in Postgres, without the digits that the engine gives every decimal.
pub(super) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Numeric { .. } => "numeric".to_owned(),
        DataType::Time => "time".to_owned(),
        DataType::Timestamp => "timestamp".to_owned(),
        DataType::TimestampTz => "timestamptz".to_owned(),
        DataType::Array(element) => format!("{}[]", type_name(element)),
        other => other.to_string(),
    }
}

/// `firstbad/sql@1`.
pub(super) struct Json<W: Write> {
    out: W,
    options: Options,
    columns: Vec<OutputColumn>,
    names: Vec<String>,
    any: bool,
}

impl<W: Write> Json<W> {
    pub(super) fn new(out: W, options: Options) -> Self {
        Json {
            out,
            options,
            columns: Vec::new(),
            names: Vec::new(),
            any: false,
        }
    }
}

impl<W: Write> Sink for Json<W> {
    fn begin(&mut self, _: &SchemaRef, columns: &[OutputColumn]) -> io::Result<()> {
        self.columns = columns.to_vec();
        self.names = json_names(columns);
        let column = |column: &OutputColumn| json!({"name": column.name, "type": type_name(&column.data_type)});
        let columns: Vec<Value> = columns.iter().map(column).collect();
        let line = |value: &Value| safe_json(&value.to_string());
        write!(
            self.out,
            "{{\"schema\": \"{SCHEMA}\",\n \"source\": {},\n \"at\": {},\n \"columns\": {},\n \"rows\": [",
            line(&self.options.source.clone().into()),
            line(&position_json(&self.options.at)),
            line(&columns.into()),
        )
    }

    fn batch(&mut self, batch: &RecordBatch) -> io::Result<()> {
        for row in 0..batch.num_rows() {
            let between = if self.any { ",\n  " } else { "\n  " };
            self.any = true;
            self.out.write_all(between.as_bytes())?;
            let object = object(&self.names, &self.columns, batch, row)?;
            self.out.write_all(object.as_bytes())?;
        }
        Ok(())
    }
}

impl<W: Write> Writer for Json<W> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.out.write_all(b"]}\n")?;
        self.out.flush()
    }
}

/// One object a line.
pub(super) struct Jsonl<W: Write> {
    out: W,
    columns: Vec<OutputColumn>,
    names: Vec<String>,
}

impl<W: Write> Jsonl<W> {
    pub(super) fn new(out: W) -> Self {
        Jsonl {
            out,
            columns: Vec::new(),
            names: Vec::new(),
        }
    }
}

impl<W: Write> Sink for Jsonl<W> {
    fn begin(&mut self, _: &SchemaRef, columns: &[OutputColumn]) -> io::Result<()> {
        self.columns = columns.to_vec();
        self.names = json_names(columns);
        Ok(())
    }

    fn batch(&mut self, batch: &RecordBatch) -> io::Result<()> {
        for row in 0..batch.num_rows() {
            let object = object(&self.names, &self.columns, batch, row)?;
            writeln!(self.out, "{object}")?;
        }
        Ok(())
    }
}

impl<W: Write> Writer for Jsonl<W> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.out.flush()
    }
}

/// RFC 4180, but for the line ends, which are those of Unix. Values are as Postgres prints them.
pub(super) struct Csv<W: Write> {
    out: W,
    columns: Vec<OutputColumn>,
}

impl<W: Write> Csv<W> {
    pub(super) fn new(out: W) -> Self {
        Csv {
            out,
            columns: Vec::new(),
        }
    }

    fn line(&mut self, fields: impl Iterator<Item = Option<String>>) -> io::Result<()> {
        let fields: Vec<String> = fields
            .map(|field| field.map_or(String::new(), |text| quoted(&text)))
            .collect();
        writeln!(self.out, "{}", fields.join(","))
    }
}

/// A field; in quotes where it needs them, and where it is empty, for an empty field is NULL.
fn quoted(text: &str) -> String {
    let plain = !text.is_empty()
        && text.trim() == text
        && !text.contains(['"', ',', '\n', '\r', '\u{feff}']);
    if plain {
        text.to_owned()
    } else {
        format!("\"{}\"", text.replace('"', "\"\""))
    }
}

impl<W: Write> Sink for Csv<W> {
    fn begin(&mut self, _: &SchemaRef, columns: &[OutputColumn]) -> io::Result<()> {
        self.columns = columns.to_vec();
        self.line(columns.iter().map(|column| Some(column.name.clone())))
    }

    fn batch(&mut self, batch: &RecordBatch) -> io::Result<()> {
        let columns = std::mem::take(&mut self.columns);
        for row in 0..batch.num_rows() {
            let mut fields = Vec::with_capacity(columns.len());
            for (column, array) in columns.iter().zip(batch.columns()) {
                fields.push(to_text(&column.data_type, &cell(column, array, row)?));
            }
            self.line(fields.into_iter())?;
        }
        self.columns = columns;
        Ok(())
    }
}

impl<W: Write> Writer for Csv<W> {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.out.flush()
    }
}

/// A row group of Parquet goes out when it has so many bytes: that is what an answer of any size keeps in memory.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// What the file system said, where it was the file system.
fn io_error(error: ParquetError) -> io::Error {
    match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(cause) => *cause,
            Err(cause) => io::Error::other(cause),
        },
        other => io::Error::other(other),
    }
}

/// Apache Parquet, with the engine's own types.
pub(super) struct Parquet<W: Write + Send> {
    out: Option<W>,
    writer: Option<ArrowWriter<W>>,
}

impl<W: Write + Send> Parquet<W> {
    pub(super) fn new(out: W) -> Self {
        Parquet {
            out: Some(out),
            writer: None,
        }
    }
}

impl<W: Write + Send> Sink for Parquet<W> {
    fn begin(&mut self, schema: &SchemaRef, _: &[OutputColumn]) -> io::Result<()> {
        let Some(out) = self.out.take() else {
            return Ok(());
        };
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .build();
        let writer = ArrowWriter::try_new(out, std::sync::Arc::clone(schema), Some(properties));
        self.writer = Some(writer.map_err(io_error)?);
        Ok(())
    }

    fn batch(&mut self, batch: &RecordBatch) -> io::Result<()> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        writer.write(batch).map_err(io_error)?;
        if writer.in_progress_size() >= ROW_GROUP_BYTES {
            writer.flush().map_err(io_error)?;
        }
        Ok(())
    }
}

impl<W: Write + Send> Writer for Parquet<W> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        let Some(writer) = self.writer else {
            return Ok(());
        };
        let mut out = writer.into_inner().map_err(io_error)?;
        out.flush()
    }
}
