//! Expressions over numbers of any size, as the engine can compute them.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Case, Cast, InSubquery, ScalarFunction, WindowFunction};
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, LogicalPlanBuilder, Operator, Subquery, WindowFrame,
    WindowFrameBound, WindowFrameUnits, binary_expr, cast, lit,
};

use super::functions::{self, Function, call};
use super::value::Operation;
use crate::change::Number;
use crate::schema::value::parse_number;
use crate::state::WIDE;

/// Aggregates and functions over windows that hand bytes on as they are, and the totals.
const AGGREGATES: [&str; 10] = [
    "count",
    "min",
    "max",
    "sum",
    "avg",
    "first_value",
    "last_value",
    "nth_value",
    "lag",
    "lead",
];

/// An expression whose parts have been looked at.
///
/// # Errors
/// Where bytes would be taken for something else.
pub(super) fn expression(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let types = Types(schema);
    Ok(match expr {
        Expr::BinaryExpr(found) if types.are_wide(&[&found.left, &found.right]) => {
            return types.operator(found);
        }
        Expr::ScalarFunction(found) if found.args.iter().any(|arg| types.is_wide(arg)) => {
            return types.function(found);
        }
        Expr::Between(mut found) => {
            types.one_kind(vec![&mut found.expr, &mut found.low, &mut found.high]);
            Expr::Between(found)
        }
        Expr::InList(mut found) => {
            types.one_kind(found.list.iter_mut().chain([&mut *found.expr]).collect());
            Expr::InList(found)
        }
        Expr::Case(found) => types.case(found),
        Expr::Negative(inner) if types.is_wide(&inner) => call(
            Function::Operation(Operation::Minus),
            vec![lit(0i64), *inner],
        ),
        Expr::Cast(Cast { expr, field }) if types.is_wide(&expr) => {
            let scale = functions::scale_shown(&expr.to_field(schema)?.1);
            return as_type(*expr, field.data_type(), scale);
        }
        Expr::Cast(Cast { expr, field }) if is_named(&expr) && field.data_type().is_decimal() => {
            call(Function::Widen, vec![*expr])
        }
        Expr::InSubquery(found) => return types.in_subquery(found),
        Expr::AggregateFunction(found) => {
            types.hands_on(found.func.name(), &found.params.args)?;
            Expr::AggregateFunction(found)
        }
        Expr::WindowFunction(found) => return types.window(*found),
        other => {
            types.refuse(&other)?;
            other
        }
    })
}

/// Whether an expression is a text that tells a number of which there is no decimal.
pub(super) fn is_named(expr: &Expr) -> bool {
    let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = expr else {
        return false;
    };
    matches!(parse_number(text), Ok(Number::Wide(_)))
}

/// The types of expressions over some columns.
struct Types<'a>(&'a DFSchema);

impl Types<'_> {
    fn of(&self, expr: &Expr) -> Option<DataType> {
        expr.get_type(self.0).ok()
    }

    fn is_wide(&self, expr: &Expr) -> bool {
        self.of(expr).is_some_and(|data_type| data_type == WIDE)
    }

    /// Whether values that are compared, or of which one is taken, are numbers of any size.
    fn are_wide(&self, values: &[&Expr]) -> bool {
        let is_exact = |value: &&Expr| {
            let data_type = self.of(value);
            data_type.is_some_and(|data_type| data_type.is_integer() || data_type.is_decimal())
        };
        values.iter().any(|value| self.is_wide(value))
            || (values.iter().any(|value| is_named(value)) && values.iter().any(is_exact))
    }

    /// Makes them all doubles where one is, else numbers.
    fn one_kind(&self, values: Vec<&mut Expr>) {
        if !self.are_wide(&values.iter().map(|value| &**value).collect::<Vec<_>>()) {
            return;
        }
        let is_float = |value: &&mut Expr| {
            self.of(value)
                .is_some_and(|data_type| data_type.is_floating())
        };
        let as_doubles = values.iter().any(is_float);
        for value in values {
            match (as_doubles, self.is_wide(value)) {
                (true, true) => *value = call(Function::Double, vec![value.clone()]),
                (false, false) => *value = call(Function::Widen, vec![value.clone()]),
                _ => {}
            }
        }
    }

    fn operator(&self, found: BinaryExpr) -> Result<Expr> {
        let BinaryExpr {
            mut left,
            op,
            mut right,
        } = found;
        self.one_kind(vec![&mut left, &mut right]);
        Ok(match arithmetic(op) {
            _ if !self.is_wide(&left) => binary_expr(*left, op, *right),
            Some(operation) => call(Function::Operation(operation), vec![*left, *right]),
            None if is_comparison(op) => binary_expr(*left, op, *right),
            None => return refused(&op.to_string()),
        })
    }

    fn function(&self, mut found: ScalarFunction) -> Result<Expr> {
        let name = found.func.name();
        if let Some(operation) = of_integers(name) {
            return Ok(call(Function::Operation(operation), found.args));
        }
        if functions::is_own(name) {
            return Ok(Expr::ScalarFunction(found));
        }
        if !functions::is_shared(name) {
            return refused(name);
        }
        // The second argument of these is no number beside the first.
        if name != "round" && name != "trunc" {
            self.one_kind(found.args.iter_mut().collect());
        }
        Ok(Expr::ScalarFunction(found))
    }

    /// A `CASE` with branches of one kind, and what it compares of one kind.
    fn case(&self, mut case: Case) -> Expr {
        if let Some(compared) = &mut case.expr {
            let values = case.when_then_expr.iter_mut().map(|(when, _)| &mut **when);
            self.one_kind(values.chain([&mut **compared]).collect());
        }
        let results = case.when_then_expr.iter_mut().map(|(_, then)| &mut **then);
        self.one_kind(results.chain(case.else_expr.as_deref_mut()).collect());
        let scale = self.scale_of(&case);
        let case = Expr::Case(case);
        match scale.filter(|_| self.is_wide(&case)) {
            Some(scale) => call(Function::Shown(scale), vec![case]),
            None => case,
        }
    }

    /// How many digits after the point the results of a `CASE` are shown with.
    fn scale_of(&self, case: &Case) -> Option<u8> {
        let thens = case.when_then_expr.iter().map(|(_, then)| then);
        let results = thens.chain(&case.else_expr);
        let mut most = 0;
        for result in results {
            let (_, field) = result.to_field(self.0).ok()?;
            if !field.data_type().is_null() {
                most = most.max(functions::scale_shown(&field)?);
            }
        }
        Some(most)
    }

    /// `x IN (SELECT y …)` with both of one kind.
    fn in_subquery(&self, mut found: InSubquery) -> Result<Expr> {
        let plan = &found.subquery.subquery;
        let theirs = match plan.schema().fields().first() {
            Some(field) => *field.data_type() == WIDE,
            None => return Ok(Expr::InSubquery(found)),
        };
        match (self.is_wide(&found.expr), theirs) {
            (true, false) => {
                let column = Expr::Column(plan.schema().columns().remove(0));
                let widened = call(Function::Widen, vec![column]);
                let plan = LogicalPlanBuilder::from(Arc::clone(plan)).project([widened])?;
                found.subquery = Subquery {
                    subquery: Arc::new(plan.build()?),
                    ..found.subquery
                };
            }
            (false, true) => found.expr = Box::new(call(Function::Widen, vec![*found.expr])),
            _ => {}
        }
        Ok(Expr::InSubquery(found))
    }

    fn window(&self, mut found: WindowFunction) -> Result<Expr> {
        let name = found.fun.name().to_owned();
        let params = &mut found.params;
        self.hands_on(&name, &params.args)?;
        // The default of `lag` and `lead`.
        if let [value, _, default] = params.args.as_mut_slice() {
            self.one_kind(vec![value, default]);
        }
        if params.order_by.iter().any(|sort| self.is_wide(&sort.expr)) {
            params.window_frame = without_range(&params.window_frame)?;
        }
        Ok(Expr::WindowFunction(Box::new(found)))
    }

    /// Fails where an aggregate does more with bytes than to hand them on.
    fn hands_on(&self, name: &str, args: &[Expr]) -> Result<()> {
        match args.iter().any(|arg| self.is_wide(arg)) && !AGGREGATES.contains(&name) {
            true => refused(name),
            false => Ok(()),
        }
    }

    /// Fails where the engine would take bytes for something else.
    fn refuse(&self, expr: &Expr) -> Result<()> {
        match expr {
            Expr::Like(like) | Expr::SimilarTo(like)
                if self.is_wide(&like.expr) || self.is_wide(&like.pattern) =>
            {
                refused("LIKE")
            }
            Expr::TryCast(found) if self.is_wide(&found.expr) => refused("TRY_CAST"),
            Expr::SetComparison(found) if self.is_wide(&found.expr) => refused("ANY or ALL"),
            _ => Ok(()),
        }
    }
}

fn refused<T>(what: &str) -> Result<T> {
    plan_err!(
        "{what} takes no numbers of more than 38 digits, no NaN and no infinity, and a column that it is used for holds such"
    )
}

fn is_comparison(op: Operator) -> bool {
    matches!(
        op,
        Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom
    )
}

fn arithmetic(op: Operator) -> Option<Operation> {
    Some(match op {
        Operator::Plus => Operation::Plus,
        Operator::Minus => Operation::Minus,
        Operator::Multiply => Operation::Times,
        Operator::Divide => Operation::Divide,
        Operator::Modulo => Operation::Modulo,
        _ => return None,
    })
}

/// What was planned as an operator over integers.
fn of_integers(name: &str) -> Option<Operation> {
    let all = [Operation::Plus, Operation::Minus, Operation::Times];
    let integers = ["integer_plus", "integer_minus", "integer_times"];
    let at = integers.iter().position(|integer| *integer == name)?;
    Some(all[at])
}

/// A frame from one row and its peers to another: to the engine, bytes have no range.
fn without_range(frame: &WindowFrame) -> Result<WindowFrame> {
    if frame.units != WindowFrameUnits::Range {
        return Ok(frame.clone());
    }
    let bound = |bound: &WindowFrameBound| {
        let unbounded = ScalarValue::UInt64(None);
        Ok(match bound {
            WindowFrameBound::CurrentRow => WindowFrameBound::CurrentRow,
            WindowFrameBound::Preceding(by) if by.is_null() => {
                WindowFrameBound::Preceding(unbounded)
            }
            WindowFrameBound::Following(by) if by.is_null() => {
                WindowFrameBound::Following(unbounded)
            }
            _ => return refused("a RANGE"),
        })
    };
    let (start, end) = (bound(&frame.start_bound)?, bound(&frame.end_bound)?);
    Ok(WindowFrame::new_bounds(
        WindowFrameUnits::Groups,
        start,
        end,
    ))
}

/// A number of any size, which is shown with so many digits after the point, as a value of another type.
fn as_type(expr: Expr, to: &DataType, scale: Option<u8>) -> Result<Expr> {
    Ok(match to {
        to if *to == WIDE => expr,
        // The type of a `numeric` without a precision.
        DataType::Decimal128(38, 10) => expr,
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            call(Function::Fit(*precision, *scale), vec![expr])
        }
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => {
            call(Function::Text(scale), vec![expr])
        }
        DataType::Float64 => call(Function::Double, vec![expr]),
        DataType::Int64 => call(Function::Integer, vec![expr]),
        to if to.is_floating() => cast(call(Function::Double, vec![expr]), to.clone()),
        to if to.is_integer() => cast(call(Function::Integer, vec![expr]), to.clone()),
        to => return refused(&format!("a cast to {to}")),
    })
}
