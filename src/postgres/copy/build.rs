//! Rows that come one by one become columns.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BinaryBuilder, BooleanArray, BooleanBufferBuilder, Date32Array, Float32Array,
    Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringBuilder,
    Time64MicrosecondArray, TimestampMicrosecondArray, new_null_array,
};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::datatypes::{Field, Schema as ArrowSchema};

use crate::change::Cell;
use crate::postgres::PostgresError;
use crate::postgres::types::{self, Misfit};
use crate::schema::{DataType, Table};
use crate::state::StoredRows;

/// Rows are handed on when there are so many, or when they take so many bytes.
const ROWS_MAX: usize = 65_536;
const BYTES_MAX: usize = 16 << 20;

/// Rows of a table, as they come.
pub(in crate::postgres) struct Rows {
    table: Arc<Table>,
    /// For each column of the table its values; None for one that is not fetched.
    columns: Vec<Option<Values>>,
    /// The columns in the order of the fields.
    fields: Vec<usize>,
    rows: usize,
    bytes: usize,
}

/// Rows that were put together.
pub(in crate::postgres) struct Built {
    /// The rows; cells of columns that were not fetched, and those that cannot be held, are not known.
    pub(in crate::postgres) rows: StoredRows,
    /// Column, count and reason of values that cannot be held.
    pub(in crate::postgres) not_held: Vec<(usize, u64, &'static str)>,
}

/// Values of a column.
struct Values {
    kind: Kind,
    /// Which are there.
    valid: BooleanBufferBuilder,
    /// The rows whose values cannot be held, and why the first cannot.
    not_held: Vec<usize>,
    reason: &'static str,
}

/// Those of slots without a value are anything.
enum Kind {
    Bool(Vec<bool>),
    Int(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Number(Vec<Cell>),
    Date(Vec<i32>),
    Time(Vec<i64>),
    Timestamp(Vec<i64>),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    List(StringBuilder),
}

impl Rows {
    /// No rows yet; `fields` says which column each field is for.
    pub(in crate::postgres) fn new(table: Arc<Table>, fields: &[usize]) -> Self {
        let mut rows = Rows {
            columns: table.columns.iter().map(|_| None).collect(),
            fields: fields.to_vec(),
            rows: 0,
            bytes: 0,
            table,
        };
        rows.clear();
        rows
    }

    fn clear(&mut self) {
        for &at in &self.fields {
            self.columns[at] = Some(Values::new(&self.table.columns[at].data_type));
        }
        (self.rows, self.bytes) = (0, 0);
    }

    /// How many rows have come.
    pub(in crate::postgres) fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are so many that they should be handed on.
    pub(in crate::postgres) fn is_full(&self) -> bool {
        self.rows >= ROWS_MAX || self.bytes >= BYTES_MAX
    }

    /// Takes a row, field by field.
    ///
    /// # Errors
    /// When a value is not what Postgres sends for its type; the text holds no value.
    pub(in crate::postgres) fn push(
        &mut self,
        fields: &mut dyn Iterator<Item = Option<&[u8]>>,
    ) -> Result<(), PostgresError> {
        for (&at, field) in self.fields.iter().zip(fields) {
            let column = &self.table.columns[at];
            let values = self.columns[at].as_mut().expect("fields have values");
            self.bytes += field.map_or(1, <[u8]>::len);
            let taken = values.push(&column.data_type, field, self.rows);
            taken.map_err(|_| {
                let table = self.table.name.short();
                let message = format!("a value of column {} of table {table}", column.name);
                PostgresError::protocol(format!(
                    "{} is no {}",
                    crate::escape::terminal(&message),
                    crate::escape::terminal(&column.data_type.to_string())
                ))
            })?;
        }
        self.rows += 1;
        Ok(())
    }

    /// The rows that have come since the last time.
    pub(in crate::postgres) fn build(&mut self) -> Built {
        let count = self.rows;
        let mut not_held = Vec::new();
        let mut hidden: Vec<(usize, BooleanBuffer)> = Vec::new();
        let mut fields = Vec::with_capacity(self.columns.len());
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (at, column) in self.table.columns.iter().enumerate() {
            let array = match self.columns[at].take() {
                Some(mut values) => {
                    let array = values.build(&column.data_type);
                    if !values.not_held.is_empty() {
                        let marks = &values.not_held;
                        not_held.push((at, marks.len() as u64, values.reason));
                        hidden.push((at, marked(count, marks)));
                    }
                    array
                }
                None => {
                    hidden.push((at, BooleanBuffer::new_set(count)));
                    let empty = Values::new(&column.data_type).build(&column.data_type);
                    new_null_array(empty.data_type(), count)
                }
            };
            fields.push(Field::new(&column.name, array.data_type().clone(), true));
            arrays.push(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let schema = Arc::new(ArrowSchema::new(fields));
        let batch = RecordBatch::try_new_with_options(schema, arrays, &options)
            .expect("each column has a value for each row");
        let mut rows = StoredRows::from_batch(&self.table, &batch)
            .expect("values are made as they are stored");
        for (at, marks) in &hidden {
            rows.hide(*at, marks);
        }
        self.clear();
        Built { rows, not_held }
    }
}

fn marked(count: usize, rows: &[usize]) -> BooleanBuffer {
    let mut marks = BooleanBufferBuilder::new(count);
    marks.append_n(count, false);
    rows.iter().for_each(|&row| marks.set_bit(row, true));
    marks.finish()
}

impl Values {
    fn new(data_type: &DataType) -> Self {
        let kind = match data_type {
            DataType::Bool => Kind::Bool(Vec::new()),
            DataType::Int16 | DataType::Int32 | DataType::Int64 => Kind::Int(Vec::new()),
            DataType::Float32 => Kind::Float32(Vec::new()),
            DataType::Float64 => Kind::Float64(Vec::new()),
            DataType::Numeric { .. } => Kind::Number(Vec::new()),
            DataType::Date => Kind::Date(Vec::new()),
            DataType::Time => Kind::Time(Vec::new()),
            DataType::Timestamp | DataType::TimestampTz => Kind::Timestamp(Vec::new()),
            DataType::Bytea => Kind::Bytes(BinaryBuilder::new()),
            DataType::Array(_) => Kind::List(StringBuilder::new()),
            _ => Kind::Text(StringBuilder::new()),
        };
        Values {
            kind,
            valid: BooleanBufferBuilder::new(0),
            not_held: Vec::new(),
            reason: "",
        }
    }

    /// Takes a value; one that cannot be held is remembered.
    fn push(
        &mut self,
        data_type: &DataType,
        field: Option<&[u8]>,
        row: usize,
    ) -> Result<(), Misfit> {
        let Some(bytes) = field else {
            self.push_null();
            return Ok(());
        };
        match self.value(data_type, bytes) {
            Ok(()) => self.valid.append(true),
            Err(Misfit::NotHeld(reason)) => {
                if self.not_held.is_empty() {
                    self.reason = reason;
                }
                self.not_held.push(row);
                self.push_null();
            }
            Err(misfit) => return Err(misfit),
        }
        Ok(())
    }

    fn value(&mut self, data_type: &DataType, bytes: &[u8]) -> Result<(), Misfit> {
        // What needs no cell of its own.
        match (&mut self.kind, data_type) {
            (Kind::Text(texts), DataType::Text | DataType::Varchar(_) | DataType::Other(_)) => {
                texts.append_value(types::text(bytes)?);
                return Ok(());
            }
            (Kind::Bytes(values), _) => {
                values.append_value(bytes);
                return Ok(());
            }
            _ => {}
        }
        match (&mut self.kind, types::cell(data_type, bytes)?) {
            (Kind::Bool(values), Cell::Bool(value)) => values.push(value),
            (Kind::Int(values), Cell::Int(value)) => values.push(value),
            // A real's value is one of the doubles.
            (Kind::Float32(values), Cell::Float(value)) => values.push(value as f32),
            (Kind::Float64(values), Cell::Float(value)) => values.push(value),
            (Kind::Number(values), value @ (Cell::Decimal(_) | Cell::Wide(_))) => {
                values.push(value)
            }
            (Kind::Date(values), Cell::Date(value)) => values.push(value),
            (Kind::Time(values), Cell::Time(value))
            | (Kind::Timestamp(values), Cell::Timestamp(value)) => values.push(value),
            (Kind::Text(texts), Cell::Text(text)) => texts.append_value(text),
            (Kind::List(texts), Cell::List(cells)) => {
                texts.append_value(StoredRows::list_text(data_type, &cells));
            }
            _ => unreachable!("a type has one kind of cells"),
        }
        Ok(())
    }

    fn push_null(&mut self) {
        self.valid.append(false);
        match &mut self.kind {
            Kind::Bool(values) => values.push(false),
            Kind::Int(values) | Kind::Time(values) | Kind::Timestamp(values) => values.push(0),
            Kind::Float32(values) => values.push(0.0),
            Kind::Float64(values) => values.push(0.0),
            Kind::Number(values) => values.push(Cell::Null),
            Kind::Date(values) => values.push(0),
            Kind::Text(texts) | Kind::List(texts) => texts.append_null(),
            Kind::Bytes(values) => values.append_null(),
        }
    }

    /// The values as they are stored.
    fn build(&mut self, data_type: &DataType) -> ArrayRef {
        let valid = NullBuffer::new(self.valid.finish());
        let valid = Some(valid).filter(|valid| valid.null_count() > 0);
        match &mut self.kind {
            Kind::Bool(values) => Arc::new(BooleanArray::new(
                BooleanBuffer::from_iter(values.drain(..)),
                valid,
            )),
            Kind::Int(values) => Arc::new(Int64Array::new(std::mem::take(values).into(), valid)),
            Kind::Float32(values) => {
                Arc::new(Float32Array::new(std::mem::take(values).into(), valid))
            }
            Kind::Float64(values) => {
                Arc::new(Float64Array::new(std::mem::take(values).into(), valid))
            }
            Kind::Date(values) => Arc::new(Date32Array::new(std::mem::take(values).into(), valid)),
            Kind::Time(values) => Arc::new(Time64MicrosecondArray::new(
                std::mem::take(values).into(),
                valid,
            )),
            Kind::Timestamp(values) => {
                let array = TimestampMicrosecondArray::new(std::mem::take(values).into(), valid);
                match data_type {
                    DataType::TimestampTz => Arc::new(array.with_timezone("UTC")),
                    _ => Arc::new(array),
                }
            }
            Kind::Number(values) => StoredRows::numbers(values.drain(..)),
            Kind::Text(texts) | Kind::List(texts) => Arc::new(texts.finish()),
            Kind::Bytes(values) => Arc::new(values.finish()),
        }
    }
}
