//! The forms for programs.

use std::io::{self, Write};

use datafusion::arrow::array::{Array, RecordBatch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::Compression;
use datafusion::parquet::file::properties::WriterProperties;
use serde_json::{Map, Value, json};

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
fn cell(column: &OutputColumn, array: &dyn Array, row: usize) -> Cell {
    cell_from_array(&column.data_type, array, row).unwrap_or_else(|_| {
        let text = array_value_to_string(array, row);
        text.map_or(Cell::Null, Cell::Text)
    })
}

/// The values of a row as JSON.
pub(super) fn json_row(columns: &[OutputColumn], batch: &RecordBatch, row: usize) -> Vec<Value> {
    columns
        .iter()
        .zip(batch.columns())
        .map(|(column, array)| to_json(&column.data_type, &cell(column, array, row)))
        .collect()
}

fn object(columns: &[OutputColumn], batch: &RecordBatch, row: usize) -> String {
    let names = columns.iter().map(|column| column.name.clone());
    let map: Map<String, Value> = names.zip(json_row(columns, batch, row)).collect();
    safe_json(&Value::Object(map).to_string())
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
    any: bool,
}

impl<W: Write> Json<W> {
    pub(super) fn new(out: W, options: Options) -> Self {
        Json {
            out,
            options,
            columns: Vec::new(),
            any: false,
        }
    }
}

impl<W: Write> Sink for Json<W> {
    fn begin(&mut self, _: &SchemaRef, columns: &[OutputColumn]) -> io::Result<()> {
        self.columns = columns.to_vec();
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
            self.out
                .write_all(object(&self.columns, batch, row).as_bytes())?;
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
}

impl<W: Write> Jsonl<W> {
    pub(super) fn new(out: W) -> Self {
        Jsonl {
            out,
            columns: Vec::new(),
        }
    }
}

impl<W: Write> Sink for Jsonl<W> {
    fn begin(&mut self, _: &SchemaRef, columns: &[OutputColumn]) -> io::Result<()> {
        self.columns = columns.to_vec();
        Ok(())
    }

    fn batch(&mut self, batch: &RecordBatch) -> io::Result<()> {
        for row in 0..batch.num_rows() {
            writeln!(self.out, "{}", object(&self.columns, batch, row))?;
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
            let fields = columns
                .iter()
                .zip(batch.columns())
                .map(|(column, array)| to_text(&column.data_type, &cell(column, array, row)));
            self.line(fields)?;
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
        self.writer = Some(writer.map_err(io::Error::other)?);
        Ok(())
    }

    fn batch(&mut self, batch: &RecordBatch) -> io::Result<()> {
        match &mut self.writer {
            Some(writer) => writer.write(batch).map_err(io::Error::other),
            None => Ok(()),
        }
    }
}

impl<W: Write + Send> Writer for Parquet<W> {
    fn finish(self: Box<Self>) -> io::Result<()> {
        let Some(writer) = self.writer else {
            return Ok(());
        };
        let mut out = writer.into_inner().map_err(io::Error::other)?;
        out.flush()
    }
}
