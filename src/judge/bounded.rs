//! Functions of the engine that make long values out of short ones when they are called inside each other: they are given so much
//! at once, and no more.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::Transformed;
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::texts::{BATCH_BYTES_MAX, too_long};

/// The functions, by the engine's names for them.
const FUNCTIONS: [&str; 5] = [
    "concat",
    "concat_ws",
    "overlay",
    "array_concat",
    "array_to_string",
];

/// Puts [`Bounded`] in the place of calls, however they were written (`overlay(a placing b from 2)`, `a || b` between arrays).
#[derive(Debug)]
pub(super) struct Bounds;

impl FunctionRewrite for Bounds {
    fn name(&self) -> &str {
        "bounds"
    }

    fn rewrite(&self, expr: Expr, _: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        match expr {
            Expr::ScalarFunction(call) if FUNCTIONS.contains(&call.func.name()) => {
                let bounded = Arc::new(ScalarUDF::from(Bounded { inner: call.func }));
                let call = ScalarFunction::new_udf(bounded, call.args);
                Ok(Transformed::yes(Expr::ScalarFunction(call)))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

/// A function of the engine whose answer is about as long as its arguments, which must not be too long.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let lengths: Vec<usize> = args.args.iter().map(|arg| length(arg, rows)).collect();
        let arguments = lengths.iter().copied().fold(0, usize::saturating_add);
        let between = match self.name() {
            "array_to_string" => separators(&args.args, rows)?,
            "concat_ws" => lengths
                .first()
                .map_or(0, |separator| separator.saturating_mul(lengths.len())),
            _ => 0,
        };
        let total = arguments.saturating_add(between);
        if total > BATCH_BYTES_MAX {
            return Err(too_long());
        }
        self.inner.invoke_with_args(args)
    }
}

/// The bytes of an argument's values for so many rows, not of the buffers that they share with others.
fn length(argument: &ColumnarValue, rows: usize) -> usize {
    let bytes = |array: &ArrayRef| array.to_data().get_slice_memory_size();
    match argument {
        ColumnarValue::Array(array) => bytes(array).unwrap_or(usize::MAX),
        // A constant is repeated for every row.
        ColumnarValue::Scalar(value) => value
            .to_array()
            .and_then(|array| Ok(bytes(&array)?))
            .map_or(usize::MAX, |length| length.saturating_mul(rows)),
    }
}

/// The bytes of the separators, and of what stands for NULL, between the elements of lists: each as long as the longest.
fn separators(arguments: &[ColumnarValue], rows: usize) -> Result<usize> {
    let arrays = arguments.iter().map(|argument| argument.to_array(rows));
    let arrays: Vec<ArrayRef> = arrays.collect::<Result<_>>()?;
    let elements = arrays
        .first()
        .and_then(|lists| lists.as_list_opt::<i32>())
        .and_then(|lists| {
            let offsets = lists.value_offsets();
            usize::try_from(offsets.last()? - offsets.first()?).ok()
        })
        .unwrap_or(0);
    let longest = |texts: &ArrayRef| {
        let texts = texts.as_string_opt::<i32>()?;
        (0..texts.len())
            .map(|row| texts.value_length(row) as usize)
            .max()
    };
    let each = arrays.iter().skip(1).filter_map(longest);
    Ok(elements.saturating_mul(each.fold(0, usize::saturating_add)))
}
