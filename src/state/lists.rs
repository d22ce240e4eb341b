//! Arrays of Postgres as lists of Arrow.
//!
//! A column of lists has one type, and an array of Postgres any number of dimensions: `int[]` holds `{1,2}` beside `{{1,2},{3,4}}`.
//! Lists are those of one dimension. The others are kept exactly, and rules that read them are unknown: a list of NULLs would be
//! something else (invariant 4).

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder,
    Float32Builder, Float64Builder, Int64Builder, ListBuilder, StringBuilder,
    Time64MicrosecondBuilder, TimestampMicrosecondBuilder, make_builder,
};
use datafusion::arrow::datatypes::DataType as ArrowType;

use super::column::arrow_type;
use crate::change::{Cell, Decimal};
use crate::schema::DataType;

/// The Arrow type of an array's elements. Plain `numeric` has no scale of its own, so there it stays exact as text.
pub(super) fn element_type(element: &DataType) -> ArrowType {
    match element {
        DataType::Numeric {
            precision_scale: None,
        } => ArrowType::Utf8,
        _ => arrow_type(element),
    }
}

/// Whether a list of Arrow can hold these elements of an array of this type.
pub(super) fn is_list(array: &DataType, cells: &[Cell]) -> bool {
    let DataType::Array(element) = array else {
        return false;
    };
    let holds = |cell: &Cell| match cell {
        Cell::Null => true,
        Cell::List(_) | Cell::Unknown => false,
        Cell::Decimal(decimal) => scaled(element, decimal).is_some(),
        _ => true,
    };
    cells.iter().all(holds)
}

/// A decimal's digits at the scale of the elements; 0 where they are text.
fn scaled(element: &DataType, decimal: &Decimal) -> Option<i128> {
    match element_type(element) {
        ArrowType::Decimal128(_, scale) => {
            let scaled = decimal.rescale(u8::try_from(scale).unwrap_or(0))?;
            Some(scaled.unscaled)
        }
        _ => Some(0),
    }
}

/// Arrays: few and small, so through dynamic builders. Those that are no lists are null.
pub(super) fn to_arrow<'a>(
    array: &DataType,
    rows: impl Iterator<Item = Option<&'a Vec<Cell>>>,
) -> ArrayRef {
    let DataType::Array(element) = array else {
        unreachable!("lists are only kept for array types")
    };
    let mut builder = ListBuilder::new(make_builder(&element_type(element), 0));
    for row in rows {
        match row.filter(|cells| is_list(array, cells)) {
            None => builder.append_null(),
            Some(cells) => {
                for cell in cells {
                    append(builder.values(), element, cell);
                }
                builder.append(true);
            }
        }
    }
    Arc::new(builder.finish())
}

fn append(builder: &mut Box<dyn ArrayBuilder>, element: &DataType, cell: &Cell) {
    macro_rules! append {
        ($builder:ty, $pattern:pat => $value:expr) => {
            if let Some(builder) = builder.as_any_mut().downcast_mut::<$builder>() {
                builder.append_option(match cell {
                    $pattern => $value,
                    _ => None,
                });
            }
        };
    }
    match element_type(element) {
        ArrowType::Boolean => append!(BooleanBuilder, Cell::Bool(v) => Some(*v)),
        ArrowType::Int64 => append!(Int64Builder, Cell::Int(v) => Some(*v)),
        ArrowType::Float32 => append!(Float32Builder, Cell::Float(v) => Some(*v as f32)),
        ArrowType::Float64 => append!(Float64Builder, Cell::Float(v) => Some(*v)),
        ArrowType::Decimal128(..) => {
            append!(Decimal128Builder, Cell::Decimal(v) => scaled(element, v));
        }
        ArrowType::Binary => append!(BinaryBuilder, Cell::Bytes(v) => Some(v)),
        ArrowType::Date32 => append!(Date32Builder, Cell::Date(v) => Some(*v)),
        ArrowType::Time64(_) => append!(Time64MicrosecondBuilder, Cell::Time(v) => Some(*v)),
        ArrowType::Timestamp(..) => {
            append!(TimestampMicrosecondBuilder, Cell::Timestamp(v) => Some(*v));
        }
        _ => {
            let text = match cell {
                Cell::Text(text) => Some(text.clone()),
                Cell::Decimal(decimal) => Some(decimal.to_string()),
                _ => None,
            };
            if let Some(builder) = builder.as_any_mut().downcast_mut::<StringBuilder>() {
                builder.append_option(text);
            }
        }
    }
}
