//! Integer arithmetic that fails where Postgres fails: `+`, `-` and `*` over integers that leave 64 bits are errors. The
//! engine's own wrap around in silence, which would make a wrong verdict.

use datafusion::arrow::array::{ArrayRef, Scalar};
use datafusion::arrow::compute::kernels::numeric;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::binary::BinaryTypeCoercer;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::BinaryOperator;

use crate::state::WIDE;

/// Plans integer operators as calls of [`Checked`].
#[derive(Debug)]
pub(super) struct Integers;

impl ExprPlanner for Integers {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let operator = match expr.op {
            BinaryOperator::Plus => Operator::Plus,
            BinaryOperator::Minus => Operator::Minus,
            BinaryOperator::Multiply => Operator::Times,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let whole = |expr: &Expr| {
            expr.get_type(schema)
                .is_ok_and(|data_type| data_type.is_integer())
        };
        if !whole(&expr.left) || !whole(&expr.right) {
            return Ok(PlannerResult::Original(expr));
        }
        let function = ScalarUDF::from(Checked::new(operator));
        Ok(PlannerResult::Planned(
            function.call(vec![expr.left, expr.right]),
        ))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operator {
    Plus,
    Minus,
    Times,
}

impl Operator {
    /// The engine's own operator.
    fn plain(self) -> datafusion::logical_expr::Operator {
        match self {
            Operator::Plus => datafusion::logical_expr::Operator::Plus,
            Operator::Minus => datafusion::logical_expr::Operator::Minus,
            Operator::Times => datafusion::logical_expr::Operator::Multiply,
        }
    }
}

fn two_sides() -> DataFusionError {
    DataFusionError::Internal("an operator has two sides".into())
}

/// One operator over 64-bit integers.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Checked {
    operator: Operator,
    signature: Signature,
}

impl Checked {
    pub(super) fn new(operator: Operator) -> Self {
        let signature = Signature::user_defined(Volatility::Immutable);
        Checked {
            operator,
            signature,
        }
    }
}

impl ScalarUDFImpl for Checked {
    fn name(&self) -> &str {
        match self.operator {
            Operator::Plus => "integer_plus",
            Operator::Minus => "integer_minus",
            Operator::Times => "integer_times",
        }
    }

    /// Columns without an alias keep the name that the operator gives them.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let sign = match self.operator {
            Operator::Plus => "+",
            Operator::Minus => "-",
            Operator::Times => "*",
        };
        let sides: Vec<String> = args
            .iter()
            .map(|side| side.schema_name().to_string())
            .collect();
        Ok(sides.join(&format!(" {sign} ")))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// While planning, the type of a `CASE` is that of its first branch; what it really is shows only here. Sides that turn out
    /// to be no integers are added up as the engine does, or are numbers of any size: see [`numbers`](super::numbers).
    fn coerce_types(&self, sides: &[DataType]) -> Result<Vec<DataType>> {
        let [left, right] = sides else {
            return Err(two_sides());
        };
        if left.is_integer() && right.is_integer() {
            return Ok(vec![DataType::Int64, DataType::Int64]);
        }
        if sides.contains(&WIDE) {
            return Ok(sides.to_vec());
        }
        let (left, right) =
            BinaryTypeCoercer::new(left, &self.operator.plain(), right).get_input_types()?;
        Ok(vec![left, right])
    }

    fn return_type(&self, sides: &[DataType]) -> Result<DataType> {
        let [left, right] = sides else {
            return Err(two_sides());
        };
        if sides.contains(&WIDE) {
            return Ok(WIDE);
        }
        BinaryTypeCoercer::new(left, &self.operator.plain(), right).get_result_type()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let kernel = match self.operator {
            Operator::Plus => numeric::add,
            Operator::Minus => numeric::sub,
            Operator::Times => numeric::mul,
        };
        let both_scalar = args
            .args
            .iter()
            .all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let [left, right] = args.args.as_slice() else {
            return Err(two_sides());
        };
        let array: ArrayRef = match (left, right) {
            (ColumnarValue::Array(left), ColumnarValue::Array(right)) => kernel(left, right)?,
            (ColumnarValue::Array(left), ColumnarValue::Scalar(right)) => {
                kernel(left, &scalar(right)?)?
            }
            (ColumnarValue::Scalar(left), ColumnarValue::Array(right)) => {
                kernel(&scalar(left)?, right)?
            }
            (ColumnarValue::Scalar(left), ColumnarValue::Scalar(right)) => {
                kernel(&scalar(left)?, &scalar(right)?)?
            }
        };
        Ok(if both_scalar {
            ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?)
        } else {
            ColumnarValue::Array(array)
        })
    }
}

fn scalar(value: &ScalarValue) -> Result<Scalar<ArrayRef>> {
    Ok(Scalar::new(value.to_array()?))
}
