//! Columns of stored rows, each by its type: what keys, fingerprints and row versions are made from without a cell a value.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, StringArray};
use datafusion::arrow::buffer::{BooleanBuffer, NullBuffer};
use datafusion::arrow::datatypes::{
    DataType as ArrowType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
};

use super::lists;
use crate::change::{Cell, Decimal};
use crate::schema::{DataType, value};
use crate::state::column::Slot;

/// The values of a column; those of slots that hold none are anything.
#[derive(Debug)]
pub(in crate::state) enum Values<'a> {
    Bool(&'a BooleanArray),
    Int(&'a [i64]),
    Float32(&'a [f32]),
    Float64(&'a [f64]),
    /// Digits, and how many of them stand after the point.
    Decimal(&'a [i128], u8),
    /// Texts of numbers: some are no decimals of one scale.
    Number(&'a StringArray),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Date(&'a [i32]),
    Time(&'a [i64]),
    Timestamp(&'a [i64]),
    /// Literals of arrays.
    List(&'a StringArray),
}

/// A column of stored rows.
#[derive(Debug)]
pub(in crate::state) struct Column<'a> {
    pub(in crate::state) data_type: &'a DataType,
    pub(in crate::state) values: Values<'a>,
    nulls: Option<&'a NullBuffer>,
    unknown: Option<&'a BooleanBuffer>,
}

impl<'a> Column<'a> {
    /// The array as values of a type; None where it is of another one.
    pub(in crate::state) fn new(
        data_type: &'a DataType,
        array: &'a ArrayRef,
        unknown: Option<&'a BooleanBuffer>,
    ) -> Option<Self> {
        Some(Column {
            data_type,
            values: values(data_type, array)?,
            nulls: array.nulls().filter(|nulls| nulls.null_count() > 0),
            unknown,
        })
    }

    /// What a row's slot holds besides its value.
    pub(in crate::state) fn slot(&self, row: usize) -> Slot {
        match self.nulls {
            Some(nulls) if nulls.is_null(row) => match self.unknown {
                Some(unknown) if unknown.value(row) => Slot::Unknown,
                _ => Slot::Null,
            },
            _ => Slot::Value,
        }
    }

    /// Whether every slot holds a value.
    pub(in crate::state) fn is_full(&self) -> bool {
        self.nulls.is_none()
    }

    /// The cells of a list.
    ///
    /// # Panics
    /// Where the column is no array; its texts were checked when they were read.
    pub(in crate::state) fn list(&self, row: usize) -> Vec<Cell> {
        let Values::List(texts) = &self.values else {
            panic!("only columns of arrays hold lists")
        };
        lists::parse(self.data_type, texts.value(row)).expect("literals are checked when read")
    }

    /// The cell of a row.
    pub(in crate::state) fn cell(&self, row: usize) -> Cell {
        match self.slot(row) {
            Slot::Null => return Cell::Null,
            Slot::Unknown => return Cell::Unknown,
            Slot::Value => {}
        }
        match &self.values {
            Values::Bool(values) => Cell::Bool(values.value(row)),
            Values::Int(values) => Cell::Int(values[row]),
            Values::Float32(values) => Cell::Float(f64::from(values[row])),
            Values::Float64(values) => Cell::Float(values[row]),
            Values::Decimal(values, scale) => Cell::Decimal(Decimal {
                unscaled: values[row],
                scale: *scale,
            }),
            Values::Number(values) => {
                number(values.value(row)).expect("texts are checked when read")
            }
            Values::Text(values) => Cell::Text(values.value(row).to_owned()),
            Values::Bytes(values) => Cell::Bytes(values.value(row).to_vec()),
            Values::Date(values) => Cell::Date(values[row]),
            Values::Time(values) => Cell::Time(values[row]),
            Values::Timestamp(values) => Cell::Timestamp(values[row]),
            Values::List(_) => Cell::List(self.list(row)),
        }
    }
}

fn values<'a>(data_type: &DataType, array: &'a ArrayRef) -> Option<Values<'a>> {
    Some(match (data_type, array.data_type()) {
        (DataType::Bool, ArrowType::Boolean) => Values::Bool(array.as_boolean_opt()?),
        (DataType::Int16 | DataType::Int32 | DataType::Int64, ArrowType::Int64) => {
            Values::Int(array.as_primitive_opt::<Int64Type>()?.values())
        }
        (DataType::Float32, ArrowType::Float32) => {
            Values::Float32(array.as_primitive_opt::<Float32Type>()?.values())
        }
        (DataType::Float64, ArrowType::Float64) => {
            Values::Float64(array.as_primitive_opt::<Float64Type>()?.values())
        }
        (DataType::Numeric { .. }, ArrowType::Decimal128(_, scale)) => {
            let digits = array.as_primitive_opt::<Decimal128Type>()?.values();
            Values::Decimal(digits, u8::try_from(*scale).ok()?)
        }
        (DataType::Numeric { .. }, ArrowType::Utf8) => {
            Values::Number(array.as_string_opt::<i32>()?)
        }
        (DataType::Bytea, ArrowType::Binary) => Values::Bytes(array.as_binary_opt::<i32>()?),
        (DataType::Date, ArrowType::Date32) => {
            Values::Date(array.as_primitive_opt::<Date32Type>()?.values())
        }
        (DataType::Time, ArrowType::Time64(TimeUnit::Microsecond)) => {
            Values::Time(array.as_primitive_opt::<Time64MicrosecondType>()?.values())
        }
        (DataType::Timestamp, ArrowType::Timestamp(TimeUnit::Microsecond, None)) => {
            Values::Timestamp(
                array
                    .as_primitive_opt::<TimestampMicrosecondType>()?
                    .values(),
            )
        }
        (DataType::TimestampTz, ArrowType::Timestamp(TimeUnit::Microsecond, Some(zone)))
            if **zone == *"UTC" =>
        {
            Values::Timestamp(
                array
                    .as_primitive_opt::<TimestampMicrosecondType>()?
                    .values(),
            )
        }
        (DataType::Array(_), ArrowType::Utf8) => Values::List(array.as_string_opt::<i32>()?),
        (other, ArrowType::Utf8) if is_text(other) => Values::Text(array.as_string_opt::<i32>()?),
        _ => return None,
    })
}

/// A number from its text; None where it is none.
pub(in crate::state) fn number(text: &str) -> Option<Cell> {
    value::parse_number(text).ok().map(Cell::from)
}

/// Whether values of a type are kept as text.
fn is_text(data_type: &DataType) -> bool {
    use DataType::{Char, Enum, Json, Jsonb, Other, Text, Uuid, Varchar};
    matches!(
        data_type,
        Text | Varchar(_) | Char(_) | Uuid | Json | Jsonb | Enum { .. } | Other(_)
    )
}
