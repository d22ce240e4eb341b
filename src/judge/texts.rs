//! Functions that join texts, with a limit: a few of them in a row can make a text of any length out of a short one, and the
//! engine does not count that memory.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, cast,
};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// The most bytes that one call makes for one batch of rows.
pub(super) const BATCH_BYTES_MAX: usize = 64 << 20;

/// Plans `||` between texts as a call of [`Joined`].
#[derive(Debug)]
pub(super) struct Texts;

impl ExprPlanner for Texts {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let plain = |expr: &Expr| {
            expr.get_type(schema)
                .is_ok_and(|data_type| !data_type.is_nested())
        };
        let joins = matches!(expr.op, BinaryOperator::StringConcat);
        if !joins || !plain(&expr.left) || !plain(&expr.right) {
            return Ok(PlannerResult::Original(expr));
        }
        let function = ScalarUDF::from(Joined::new("||"));
        Ok(PlannerResult::Planned(function.call(vec![
            cast(expr.left, DataType::Utf8),
            cast(expr.right, DataType::Utf8),
        ])))
    }
}

/// `a || b`: NULL where either is NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Joined {
    name: &'static str,
    signature: Signature,
}

impl Joined {
    fn new(name: &'static str) -> Self {
        let signature =
            Signature::exact(vec![DataType::Utf8, DataType::Utf8], Volatility::Immutable);
        Joined { name, signature }
    }
}

/// `replace(text, from, to)` of the engine, with the limit.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Replace {
    signature: Signature,
}

impl Default for Replace {
    fn default() -> Self {
        Replace {
            signature: Signature::exact(vec![DataType::Utf8; 3], Volatility::Immutable),
        }
    }
}

pub(super) fn too_long() -> DataFusionError {
    let message = format!("texts of more than {} MiB at once", BATCH_BYTES_MAX >> 20);
    DataFusionError::ResourcesExhausted(message)
}

/// Calls `make` for every row without a NULL; `length` tells beforehand how long its text will be.
fn build(
    arrays: &[ArrayRef],
    length: impl Fn(&[&str]) -> usize,
    make: impl Fn(&[&str]) -> String,
) -> Result<StringArray> {
    let columns: Vec<&StringArray> = arrays
        .iter()
        .map(|array| array.as_string::<i32>())
        .collect();
    let rows = columns.first().map_or(0, |column| column.len());
    let mut out = StringBuilder::new();
    let mut total = 0usize;
    for row in 0..rows {
        if columns.iter().any(|column| column.is_null(row)) {
            out.append_null();
            continue;
        }
        let values: Vec<&str> = columns.iter().map(|column| column.value(row)).collect();
        total = total.saturating_add(length(&values));
        if total > BATCH_BYTES_MAX {
            return Err(too_long());
        }
        out.append_value(make(&values));
    }
    Ok(out.finish())
}

/// Gives back a scalar when all arguments were scalars.
pub(super) fn answer(args: &[ColumnarValue], array: StringArray) -> Result<ColumnarValue> {
    let array: ArrayRef = Arc::new(array);
    let scalar = args
        .iter()
        .all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
    Ok(if scalar {
        ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)
    } else {
        ColumnarValue::Array(array)
    })
}

impl ScalarUDFImpl for Joined {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let array = build(
            &arrays,
            |values| values.iter().map(|value| value.len()).sum(),
            |values| values.concat(),
        )?;
        answer(&args.args, array)
    }
}

impl ScalarUDFImpl for Replace {
    fn name(&self) -> &str {
        "replace"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        // In Postgres an empty text is found nowhere.
        let count = |values: &[&str]| match values {
            [_, "", _] => 0,
            [text, from, _] => text.matches(from).count(),
            _ => 0,
        };
        let array = build(
            &arrays,
            |values| {
                values[0]
                    .len()
                    .saturating_add(count(values).saturating_mul(values[2].len()))
            },
            |values| match count(values) {
                0 => values[0].to_owned(),
                _ => values[0].replace(values[1], values[2]),
            },
        )?;
        answer(&args.args, array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_joined_up_to_a_limit() {
        let column =
            |values: &[Option<&str>]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
        let pair = [column(&[Some("a"), None]), column(&[Some("b"), Some("c")])];
        let length = |values: &[&str]| values.iter().map(|value| value.len()).sum();
        let joined = build(&pair, length, |values| values.concat()).expect("short texts");
        assert_eq!(joined.value(0), "ab");
        assert!(joined.is_null(1));
        let refused = build(
            &pair,
            |_| BATCH_BYTES_MAX + 1,
            |_| unreachable!("measured first"),
        );
        assert!(matches!(
            refused,
            Err(DataFusionError::ResourcesExhausted(_))
        ));
    }
}
