//! Batches of columnar files as rows that are stored, without a cell a value: where every value is of the column's type already.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType as ArrowType, Field, Schema as ArrowSchema, TimeUnit};

use crate::schema::{DataType, Table};
use crate::state::StoredRows;

/// The rows of a batch; None where a value would have to be converted or checked one by one. `targets` are the table's columns in the
/// order of the batch's.
pub(super) fn stored(table: &Table, targets: &[usize], batch: &RecordBatch) -> Option<StoredRows> {
    if targets.len() != table.columns.len() {
        return None;
    }
    let columns = table.columns.iter().enumerate().map(|(at, column)| {
        let from = targets.iter().position(|target| *target == at)?;
        let array = exact(&column.data_type, batch.column(from))?;
        let field = Field::new(&column.name, array.data_type().clone(), true);
        Some((field, array))
    });
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) =
        columns.collect::<Option<Vec<_>>>()?.into_iter().unzip();
    let batch = RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), arrays).ok()?;
    StoredRows::from_batch(table, &batch).ok()
}

/// The array as it is stored, where that loses and changes nothing.
fn exact(data_type: &DataType, array: &ArrayRef) -> Option<ArrayRef> {
    use ArrowType as A;
    let to = |kind: A| cast(array, &kind).ok();
    match (data_type, array.data_type()) {
        (DataType::Bool, A::Boolean)
        | (DataType::Int64, A::Int64)
        | (DataType::Float32, A::Float32)
        | (DataType::Float64, A::Float64)
        | (DataType::Bytea, A::Binary)
        | (DataType::Date, A::Date32) => Some(Arc::clone(array)),
        (DataType::Int16, A::Int8 | A::Int16 | A::UInt8)
        | (DataType::Int32, A::Int8 | A::Int16 | A::Int32 | A::UInt8 | A::UInt16)
        | (DataType::Int64, A::Int8 | A::Int16 | A::Int32 | A::UInt8 | A::UInt16 | A::UInt32) => {
            to(A::Int64)
        }
        (DataType::Bytea, A::LargeBinary | A::BinaryView) => to(A::Binary),
        (DataType::Text | DataType::Varchar(None), A::Utf8 | A::LargeUtf8 | A::Utf8View) => {
            to(A::Utf8).filter(has_no_nul)
        }
        (DataType::Numeric { precision_scale }, A::Decimal128(_, scale)) => {
            let same = match precision_scale {
                None => *scale >= 0,
                Some((_, declared)) => {
                    declared == &i16::from(*scale) && fits(array, precision_scale)
                }
            };
            same.then(|| Arc::clone(array))
        }
        (DataType::Timestamp, A::Timestamp(TimeUnit::Microsecond, None)) => Some(Arc::clone(array)),
        (DataType::TimestampTz, A::Timestamp(TimeUnit::Microsecond, Some(_))) => {
            to(A::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))
        }
        _ => None,
    }
}

/// Postgres' texts hold no NUL.
fn has_no_nul(array: &ArrayRef) -> bool {
    let texts = array.as_string_opt::<i32>();
    texts.is_some_and(|texts| !texts.value_data().contains(&0))
}

/// Whether every number has at most the declared digits.
fn fits(array: &ArrayRef, precision_scale: &Option<(u16, i16)>) -> bool {
    use datafusion::arrow::datatypes::Decimal128Type;
    let Some((precision, _)) = precision_scale else {
        return true;
    };
    let limit = 10u128
        .checked_pow(u32::from(*precision))
        .unwrap_or(u128::MAX);
    let digits = array.as_primitive_opt::<Decimal128Type>();
    digits.is_some_and(|digits| {
        digits
            .iter()
            .flatten()
            .all(|one| one.unsigned_abs() < limit)
    })
}
