//! Columns as Arrow: their types, and arrays of arrays.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
    Float64Builder, Int64Builder, ListBuilder, StringBuilder, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder, make_builder,
};
use datafusion::arrow::datatypes::{DataType as ArrowType, Field, TimeUnit};

use crate::change::{Cell, DECIMAL_DIGITS_MAX};
use crate::schema::DataType;

/// The Arrow type in which a column of this type is held (integers are widened to 64 bits, so keys of different width join).
pub(in crate::state) fn arrow_type(data_type: &DataType) -> ArrowType {
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
        DataType::Array(element) => {
            ArrowType::List(Arc::new(Field::new("item", element_type(element), true)))
        }
        _ => ArrowType::Utf8,
    }
}

/// The Arrow type of an array's elements. Plain `numeric` has no scale of its own, so there it stays exact as text.
fn element_type(element: &DataType) -> ArrowType {
    match element {
        DataType::Numeric {
            precision_scale: None,
        } => ArrowType::Utf8,
        _ => arrow_type(element),
    }
}

/// Whether Arrow has room for an array: the type of its elements says how deep it may be, and how many digits a number has.
pub(super) fn has_room(element: &DataType, cells: &[Cell]) -> bool {
    cells.iter().all(|cell| match (element, cell) {
        (DataType::Array(inner), Cell::List(cells)) => has_room(inner, cells),
        (_, Cell::List(_)) => false,
        (DataType::Array(_), cell) => *cell == Cell::Null,
        (
            DataType::Numeric {
                precision_scale: Some(_),
            },
            Cell::Wide(_),
        ) => false,
        (
            DataType::Numeric {
                precision_scale: Some((_, scale)),
            },
            Cell::Decimal(value),
        ) => value.rescale(u8::try_from(*scale).unwrap_or(0)).is_some(),
        _ => true,
    })
}

/// Arrays: few and small, so through dynamic builders.
pub(super) fn list_to_arrow<'a>(
    data_type: &DataType,
    rows: impl Iterator<Item = Option<&'a Vec<Cell>>>,
) -> ArrayRef {
    let DataType::Array(element) = data_type else {
        unreachable!("lists are only kept for array types")
    };
    let mut builder = ListBuilder::new(make_builder(&element_type(element), 0));
    for row in rows {
        match row {
            None => builder.append_null(),
            Some(cells) => {
                for cell in cells {
                    append_element(builder.values(), element, cell);
                }
                builder.append(true);
            }
        }
    }
    Arc::new(builder.finish())
}

fn append_element(
    builder: &mut Box<dyn datafusion::arrow::array::ArrayBuilder>,
    element: &DataType,
    cell: &Cell,
) {
    macro_rules! append {
        ($builder:ty, $value:expr) => {
            if let Some(builder) = builder.as_any_mut().downcast_mut::<$builder>() {
                builder.append_option($value);
            }
        };
    }
    type Nested = ListBuilder<Box<dyn datafusion::arrow::array::ArrayBuilder>>;
    match element {
        DataType::Bool => append!(
            BooleanBuilder,
            if let Cell::Bool(v) = cell {
                Some(*v)
            } else {
                None
            }
        ),
        DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            append!(
                Int64Builder,
                if let Cell::Int(v) = cell {
                    Some(*v)
                } else {
                    None
                }
            );
        }
        DataType::Float32 => append!(
            Float32Builder,
            if let Cell::Float(v) = cell {
                Some(*v as f32)
            } else {
                None
            }
        ),
        DataType::Float64 => append!(
            Float64Builder,
            if let Cell::Float(v) = cell {
                Some(*v)
            } else {
                None
            }
        ),
        DataType::Numeric {
            precision_scale: None,
        } => {
            append!(
                StringBuilder,
                match cell {
                    Cell::Decimal(value) => Some(value.to_string()),
                    Cell::Wide(value) => Some(value.to_string()),
                    _ => None,
                }
            );
        }
        DataType::Numeric { .. } => {
            let ArrowType::Decimal128(_, scale) = arrow_type(element) else {
                unreachable!("numeric is a decimal")
            };
            let scale = u8::try_from(scale).unwrap_or(0);
            let value = if let Cell::Decimal(v) = cell {
                v.rescale(scale).map(|v| v.unscaled)
            } else {
                None
            };
            append!(Decimal128Builder, value);
        }
        DataType::Bytea => append!(
            BinaryBuilder,
            if let Cell::Bytes(v) = cell {
                Some(v)
            } else {
                None
            }
        ),
        DataType::Date => append!(
            Date32Builder,
            if let Cell::Date(v) = cell {
                Some(*v)
            } else {
                None
            }
        ),
        DataType::Time => append!(
            Time64MicrosecondBuilder,
            if let Cell::Time(v) = cell {
                Some(*v)
            } else {
                None
            }
        ),
        DataType::Timestamp | DataType::TimestampTz => {
            append!(
                TimestampMicrosecondBuilder,
                if let Cell::Timestamp(v) = cell {
                    Some(*v)
                } else {
                    None
                }
            );
        }
        DataType::Array(inner) => {
            if let Some(builder) = builder.as_any_mut().downcast_mut::<Nested>() {
                match cell {
                    Cell::List(cells) => {
                        for cell in cells {
                            append_element(builder.values(), inner, cell);
                        }
                        builder.append(true);
                    }
                    _ => builder.append_null(),
                }
            }
        }
        _ => append!(
            StringBuilder,
            if let Cell::Text(v) = cell {
                Some(v)
            } else {
                None
            }
        ),
    }
}
