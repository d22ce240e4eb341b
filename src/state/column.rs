//! One column of a multi-version table: typed vectors, appended to and never rewritten in order.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
    Float64Builder, Int64Builder, StringBuilder, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder,
};
use datafusion::arrow::datatypes::{DataType as ArrowType, Field, TimeUnit};

use super::lists;
use crate::change::{Cell, DECIMAL_DIGITS_MAX, Decimal};
use crate::schema::DataType;

/// "No row": the index that stands for an image which does not exist.
pub(super) const NO_ROW: u32 = u32::MAX;

/// Typed storage. Scales of a plain `numeric` grow to the largest one seen.
#[derive(Debug)]
enum Data {
    Bool(Vec<bool>),
    Int(Vec<i64>),
    Float(Vec<f64>),
    Decimal { values: Vec<i128>, scale: u8 },
    Text { ends: Vec<usize>, bytes: String },
    Bytes { ends: Vec<usize>, bytes: Vec<u8> },
    Date(Vec<i32>),
    Micros(Vec<i64>),
    List(Vec<Vec<Cell>>),
}

/// What a slot holds besides its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Value,
    Null,
    Unknown,
}

/// A column's values for every row version of its table.
#[derive(Debug)]
pub(super) struct ColumnVersions {
    data_type: DataType,
    data: Data,
    slots: Vec<Slot>,
    unknown_count: usize,
    /// Arrays that a list does not hold.
    unlisted_count: usize,
}

/// A value that a column cannot hold.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "numeric values of very different size: they need more than {DECIMAL_DIGITS_MAX} digits on one scale"
)]
pub struct TooWide;

impl ColumnVersions {
    pub(super) fn new(data_type: DataType) -> Self {
        let data = match &data_type {
            DataType::Bool => Data::Bool(Vec::new()),
            DataType::Int16 | DataType::Int32 | DataType::Int64 => Data::Int(Vec::new()),
            DataType::Float32 | DataType::Float64 => Data::Float(Vec::new()),
            DataType::Numeric { precision_scale } => {
                let scale = precision_scale.map_or(0, |(_, s)| {
                    u8::try_from(s).unwrap_or(0).min(DECIMAL_DIGITS_MAX)
                });
                Data::Decimal {
                    values: Vec::new(),
                    scale,
                }
            }
            DataType::Bytea => Data::Bytes {
                ends: Vec::new(),
                bytes: Vec::new(),
            },
            DataType::Date => Data::Date(Vec::new()),
            DataType::Time | DataType::Timestamp | DataType::TimestampTz => {
                Data::Micros(Vec::new())
            }
            DataType::Array(_) => Data::List(Vec::new()),
            _ => Data::Text {
                ends: Vec::new(),
                bytes: String::new(),
            },
        };
        ColumnVersions {
            data_type,
            data,
            slots: Vec::new(),
            unknown_count: 0,
            unlisted_count: 0,
        }
    }

    /// Whether rules cannot know some value: it is not known, or an array that a list does not hold.
    pub(super) fn has_unknown(&self) -> bool {
        self.unknown_count > 0 || self.unlisted_count > 0
    }

    /// Whether rules cannot know the value of a row version.
    pub(super) fn is_unknown(&self, row: u32) -> bool {
        self.is_missing(row) || (self.unlisted_count > 0 && self.is_unlisted(row))
    }

    /// Whether nothing is known of the value.
    pub(super) fn is_missing(&self, row: u32) -> bool {
        self.slots[row as usize] == Slot::Unknown
    }

    fn is_unlisted(&self, row: u32) -> bool {
        match &self.data {
            Data::List(values) => !lists::is_list(&self.data_type, &values[row as usize]),
            _ => false,
        }
    }

    /// Appends a cell. The cell must be of the column's type (readers see to it).
    pub(super) fn push(&mut self, cell: &Cell) -> Result<(), TooWide> {
        if let (Data::Decimal { values, scale }, Cell::Decimal(decimal)) = (&mut self.data, cell) {
            let (value, wider) = fit(values, *scale, *decimal)?;
            *scale = wider;
            values.push(value);
            self.slots.push(Slot::Value);
            return Ok(());
        }
        match (&mut self.data, cell) {
            (Data::Bool(values), Cell::Bool(value)) => values.push(*value),
            (Data::Int(values), Cell::Int(value)) => values.push(*value),
            (Data::Float(values), Cell::Float(value)) => values.push(*value),
            (Data::Text { ends, bytes }, Cell::Text(value)) => {
                bytes.push_str(value);
                ends.push(bytes.len());
            }
            (Data::Bytes { ends, bytes }, Cell::Bytes(value)) => {
                bytes.extend_from_slice(value);
                ends.push(bytes.len());
            }
            (Data::Date(values), Cell::Date(value)) => values.push(*value),
            (Data::Micros(values), Cell::Time(value) | Cell::Timestamp(value)) => {
                values.push(*value)
            }
            (Data::List(values), Cell::List(value)) => {
                self.unlisted_count += usize::from(!lists::is_list(&self.data_type, value));
                values.push(value.clone());
            }
            (data, Cell::Null | Cell::Unknown) => data.push_default(),
            _ => panic!(
                "a cell of another type than its column {}: readers convert by the schema",
                self.data_type
            ),
        }
        self.slots.push(match cell {
            Cell::Null => Slot::Null,
            Cell::Unknown => {
                self.unknown_count += 1;
                Slot::Unknown
            }
            _ => Slot::Value,
        });
        Ok(())
    }

    /// Takes back the last push.
    pub(super) fn pop(&mut self) {
        match &mut self.data {
            Data::Bool(values) => _ = values.pop(),
            Data::Int(values) | Data::Micros(values) => _ = values.pop(),
            Data::Float(values) => _ = values.pop(),
            Data::Decimal { values, .. } => _ = values.pop(),
            Data::Text { ends, bytes } => {
                ends.pop();
                bytes.truncate(ends.last().copied().unwrap_or(0));
            }
            Data::Bytes { ends, bytes } => {
                ends.pop();
                bytes.truncate(ends.last().copied().unwrap_or(0));
            }
            Data::Date(values) => _ = values.pop(),
            Data::List(values) => {
                let value = values.pop().unwrap_or_default();
                self.unlisted_count -= usize::from(!lists::is_list(&self.data_type, &value));
            }
        }
        if self.slots.pop() == Some(Slot::Unknown) {
            self.unknown_count -= 1;
        }
    }

    /// Makes a value known that was not: a later image told what this version held.
    pub(super) fn learn(&mut self, row: u32, cell: &Cell) -> Result<(), TooWide> {
        let at = row as usize;
        if self.slots[at] != Slot::Unknown || *cell == Cell::Unknown {
            return Ok(());
        }
        match (&mut self.data, cell) {
            (_, Cell::Null) => {}
            (Data::Bool(values), Cell::Bool(value)) => values[at] = *value,
            (Data::Int(values), Cell::Int(value)) => values[at] = *value,
            (Data::Float(values), Cell::Float(value)) => values[at] = *value,
            (Data::Decimal { values, scale }, Cell::Decimal(decimal)) => {
                let (value, wider) = fit(values, *scale, *decimal)?;
                *scale = wider;
                values[at] = value;
            }
            (Data::Date(values), Cell::Date(value)) => values[at] = *value,
            (Data::Micros(values), Cell::Time(value) | Cell::Timestamp(value)) => {
                values[at] = *value
            }
            (Data::List(values), Cell::List(value)) => {
                self.unlisted_count += usize::from(!lists::is_list(&self.data_type, value));
                values[at] = value.clone();
            }
            (Data::Text { ends, bytes }, Cell::Text(value)) => {
                let start = if at == 0 { 0 } else { ends[at - 1] };
                bytes.insert_str(start, value);
                ends[at..].iter_mut().for_each(|end| *end += value.len());
            }
            (Data::Bytes { ends, bytes }, Cell::Bytes(value)) => {
                let start = if at == 0 { 0 } else { ends[at - 1] };
                bytes.splice(start..start, value.iter().copied());
                ends[at..].iter_mut().for_each(|end| *end += value.len());
            }
            _ => panic!(
                "a cell of another type than its column {}: readers convert by the schema",
                self.data_type
            ),
        }
        self.slots[at] = if *cell == Cell::Null {
            Slot::Null
        } else {
            Slot::Value
        };
        self.unknown_count -= 1;
        Ok(())
    }

    fn text(&self, row: u32) -> &str {
        let Data::Text { ends, bytes } = &self.data else {
            return "";
        };
        let at = row as usize;
        &bytes[if at == 0 { 0 } else { ends[at - 1] }..ends[at]]
    }

    fn bytes(&self, row: u32) -> &[u8] {
        let Data::Bytes { ends, bytes } = &self.data else {
            return &[];
        };
        let at = row as usize;
        &bytes[if at == 0 { 0 } else { ends[at - 1] }..ends[at]]
    }

    /// The cell of a row version.
    pub(super) fn cell(&self, row: u32) -> Cell {
        let at = row as usize;
        match self.slots[at] {
            Slot::Null => return Cell::Null,
            Slot::Unknown => return Cell::Unknown,
            Slot::Value => {}
        }
        match &self.data {
            Data::Bool(values) => Cell::Bool(values[at]),
            Data::Int(values) => Cell::Int(values[at]),
            Data::Float(values) => Cell::Float(values[at]),
            Data::Decimal { values, scale } => Cell::Decimal(Decimal {
                unscaled: values[at],
                scale: *scale,
            }),
            Data::Text { .. } => Cell::Text(self.text(row).to_owned()),
            Data::Bytes { .. } => Cell::Bytes(self.bytes(row).to_vec()),
            Data::Date(values) => Cell::Date(values[at]),
            Data::Micros(values) if self.data_type == DataType::Time => Cell::Time(values[at]),
            Data::Micros(values) => Cell::Timestamp(values[at]),
            Data::List(values) => Cell::List(values[at].clone()),
        }
    }

    /// Whether two values of this type are the same: JSON by its meaning where Postgres has it so.
    pub(super) fn same(&self, row: u32, cell: &Cell) -> bool {
        match (&self.data, cell, self.slots[row as usize]) {
            (Data::Text { .. }, Cell::Text(text), Slot::Value) => {
                let own = self.text(row);
                own == text
                    || (self.data_type == DataType::Jsonb
                        && serde_json::from_str::<serde_json::Value>(own).ok()
                            == serde_json::from_str::<serde_json::Value>(text).ok())
            }
            (Data::Int(values), Cell::Int(value), Slot::Value) => values[row as usize] == *value,
            _ => self.cell(row) == *cell,
        }
    }

    /// Whether two versions hold the same value.
    pub(super) fn same_rows(&self, a: u32, b: u32) -> bool {
        match (self.slots[a as usize], self.slots[b as usize]) {
            (Slot::Value, Slot::Value) => match &self.data {
                Data::Int(values) | Data::Micros(values) => {
                    values[a as usize] == values[b as usize]
                }
                Data::Text { .. } if self.text(a) == self.text(b) => true,
                _ => self.same(a, &self.cell(b)),
            },
            (left, right) => left == right,
        }
    }

    /// Feeds the value into a hash, as [`Cell`]'s own hash does.
    pub(super) fn hash(&self, row: u32, state: &mut impl Hasher) {
        self.cell(row).hash(state);
    }

    /// The Arrow type of the column as it stands.
    pub(super) fn arrow_type(&self) -> ArrowType {
        match &self.data {
            Data::Decimal { scale, .. } => {
                ArrowType::Decimal128(DECIMAL_DIGITS_MAX, i8::try_from(*scale).unwrap_or(0))
            }
            _ => arrow_type(&self.data_type),
        }
    }

    /// The values of the given row versions; [`NO_ROW`] and cells that are not known become nulls.
    pub(super) fn to_arrow(&self, rows: &[u32]) -> ArrayRef {
        let at = |row: u32| {
            (row != NO_ROW && self.slots[row as usize] == Slot::Value).then_some(row as usize)
        };
        macro_rules! build {
            ($builder:expr, $values:expr) => {{
                let mut builder = $builder;
                for &row in rows {
                    builder.append_option(at(row).map(|i| $values[i]));
                }
                Arc::new(builder.finish())
            }};
        }
        match &self.data {
            Data::Bool(values) => build!(BooleanBuilder::with_capacity(rows.len()), values),
            Data::Int(values) => build!(Int64Builder::with_capacity(rows.len()), values),
            Data::Float(values) if self.data_type == DataType::Float32 => {
                let mut builder = Float32Builder::with_capacity(rows.len());
                rows.iter()
                    .for_each(|&row| builder.append_option(at(row).map(|i| values[i] as f32)));
                Arc::new(builder.finish())
            }
            Data::Float(values) => build!(Float64Builder::with_capacity(rows.len()), values),
            Data::Decimal { values, .. } => {
                build!(
                    Decimal128Builder::with_capacity(rows.len()).with_data_type(self.arrow_type()),
                    values
                )
            }
            Data::Text { .. } => {
                let mut builder = StringBuilder::new();
                rows.iter()
                    .for_each(|&row| builder.append_option(at(row).map(|_| self.text(row))));
                Arc::new(builder.finish())
            }
            Data::Bytes { .. } => {
                let mut builder = BinaryBuilder::new();
                rows.iter()
                    .for_each(|&row| builder.append_option(at(row).map(|_| self.bytes(row))));
                Arc::new(builder.finish())
            }
            Data::Date(values) => build!(Date32Builder::with_capacity(rows.len()), values),
            Data::Micros(values) if self.data_type == DataType::Time => {
                build!(Time64MicrosecondBuilder::with_capacity(rows.len()), values)
            }
            Data::Micros(values) => {
                build!(
                    TimestampMicrosecondBuilder::with_capacity(rows.len())
                        .with_data_type(self.arrow_type()),
                    values
                )
            }
            Data::List(values) => lists::to_arrow(
                &self.data_type,
                rows.iter().map(|&row| at(row).map(|i| &values[i])),
            ),
        }
    }
}

impl Data {
    fn push_default(&mut self) {
        match self {
            Data::Bool(values) => values.push(false),
            Data::Int(values) | Data::Micros(values) => values.push(0),
            Data::Float(values) => values.push(0.0),
            Data::Decimal { values, .. } => values.push(0),
            Data::Text { ends, bytes } => ends.push(bytes.len()),
            Data::Bytes { ends, bytes } => ends.push(bytes.len()),
            Data::Date(values) => values.push(0),
            Data::List(values) => values.push(Vec::new()),
        }
    }
}

/// Brings a decimal to the column's scale; a larger scale rescales what is there.
fn fit(values: &mut [i128], scale: u8, decimal: Decimal) -> Result<(i128, u8), TooWide> {
    if decimal.scale > scale {
        for value in values.iter_mut() {
            *value = Decimal {
                unscaled: *value,
                scale,
            }
            .rescale(decimal.scale)
            .ok_or(TooWide)?
            .unscaled;
        }
        return Ok((decimal.unscaled, decimal.scale));
    }
    Ok((decimal.rescale(scale).ok_or(TooWide)?.unscaled, scale))
}

/// The Arrow type in which a column of this type is held (integers are widened to 64 bits, so keys of different width join).
pub(super) fn arrow_type(data_type: &DataType) -> ArrowType {
    match data_type {
        DataType::Bool => ArrowType::Boolean,
        DataType::Int16 | DataType::Int32 | DataType::Int64 => ArrowType::Int64,
        DataType::Float32 => ArrowType::Float32,
        DataType::Float64 => ArrowType::Float64,
        DataType::Numeric { precision_scale } => {
            let scale = precision_scale.map_or(10, |(_, s)| i8::try_from(s).unwrap_or(0).max(0));
            ArrowType::Decimal128(DECIMAL_DIGITS_MAX, scale)
        }
        DataType::Bytea => ArrowType::Binary,
        DataType::Date => ArrowType::Date32,
        DataType::Time => ArrowType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp => ArrowType::Timestamp(TimeUnit::Microsecond, None),
        DataType::TimestampTz => ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DataType::Array(element) => ArrowType::List(Arc::new(Field::new(
            "item",
            lists::element_type(element),
            true,
        ))),
        _ => ArrowType::Utf8,
    }
}
