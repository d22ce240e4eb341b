//! `concat` and `concat_ws` with a limit, as `||` has one: eight arguments and a few calls inside each other make a text of any
//! length out of a short one.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use datafusion::arrow::datatypes::DataType;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::texts::{BATCH_BYTES_MAX, answer, too_long};

/// `concat(a, …)` and `concat_ws(separator, a, …)` of the engine: NULLs are left out; without a separator, NULL.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Concat {
    separated: bool,
    signature: Signature,
}

impl Concat {
    pub(super) fn new(separated: bool) -> Self {
        Concat {
            separated,
            signature: Signature::variadic(vec![DataType::Utf8], Volatility::Immutable),
        }
    }
}

impl ScalarUDFImpl for Concat {
    fn name(&self) -> &str {
        if self.separated {
            "concat_ws"
        } else {
            "concat"
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        answer(&args.args, joined(&arrays, self.separated)?)
    }
}

fn value(column: &StringArray, row: usize) -> Option<&str> {
    column.is_valid(row).then(|| column.value(row))
}

fn joined(arrays: &[ArrayRef], separated: bool) -> Result<StringArray> {
    let columns: Vec<&StringArray> = arrays
        .iter()
        .map(|array| array.as_string::<i32>())
        .collect();
    let rows = columns.first().map_or(0, |column| column.len());
    let (separators, columns) = columns.split_at(usize::from(separated).min(columns.len()));
    let mut out = StringBuilder::new();
    let mut room = BATCH_BYTES_MAX;
    for row in 0..rows {
        let separator = match separators.first() {
            None => "",
            Some(column) => match value(column, row) {
                Some(separator) => separator,
                None => {
                    out.append_null();
                    continue;
                }
            },
        };
        let parts: Vec<&str> = columns
            .iter()
            .filter_map(|column| value(column, row))
            .collect();
        let between = separator
            .len()
            .saturating_mul(parts.len().saturating_sub(1));
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        let left = room.checked_sub(length.saturating_add(between));
        room = left.ok_or_else(too_long)?;
        out.append_value(parts.join(separator));
    }
    Ok(out.finish())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn nulls_are_left_out_and_long_texts_refused() {
        let column =
            |values: &[Option<&str>]| -> ArrayRef { Arc::new(StringArray::from(values.to_vec())) };
        let arrays = [
            column(&[Some("-"), None, Some("")]),
            column(&[Some("a"), Some("b"), None]),
            column(&[None, Some("c"), None]),
            column(&[Some("d"), None, None]),
        ];
        let found = joined(&arrays, true).expect("short texts");
        assert_eq!((found.value(0), found.value(2)), ("a-d", ""));
        assert!(found.is_null(1));
        let found = joined(&arrays, false).expect("short texts");
        assert_eq!(
            (found.value(0), found.value(1), found.value(2)),
            ("-ad", "bc", "")
        );
        let long = "x".repeat(BATCH_BYTES_MAX / 2 + 1);
        let half = column(&[Some(&long)]);
        assert!(joined(std::slice::from_ref(&half), false).is_ok());
        assert!(joined(&[half.clone(), half], false).is_err());
    }
}
