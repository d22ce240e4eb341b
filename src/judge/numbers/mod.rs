//! Numbers of any size in the engine: what Postgres' `numeric` has and no decimal of 38 digits.
//!
//! A column of numbers of which some are no decimals of one scale is bytes to the engine ([`WIDE`]), in the order of the numbers: the
//! engine compares, sorts, groups and joins them as it does any bytes. Everything else that a query does with them becomes a call of
//! [`functions`] here, before the engine looks at the types of both sides. What has no such call is refused: bytes would be taken for
//! something else.

mod functions;
mod totals;
mod value;

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::expr::{Between, Case, Cast, InList, InSubquery};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, Expr, ExprSchemable, Join, LogicalPlan, LogicalPlanBuilder, Operator, ScalarUDF,
    Subquery, Union, WindowFrame, WindowFrameBound, WindowFrameUnits, binary_expr, cast,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self as sql, BinaryOperator, visit_expressions_mut};

use crate::change::{Cell, Number};
use crate::schema::value::parse_number;
use crate::state::{History, WIDE, scale_of};
pub(super) use functions::scale_shown;
use functions::{Function, call};
pub(super) use totals::Total;
use value::Operation;

/// Whether some column of a history is bytes to the engine.
pub(super) fn are_wide(history: &History) -> bool {
    let mut tables = history.tables.iter();
    tables.any(|table| table.number_types().any(|data_type| data_type == WIDE))
}

/// The cell in a row of an answer's column of numbers of any size.
///
/// # Errors
/// Where it holds no number.
pub(super) fn cell(array: &ArrayRef, row: usize) -> Result<Cell> {
    let number = functions::number(array, row)?;
    Ok(number.map_or(Cell::Null, Cell::from))
}

/// Numbers of another type as those of any size.
///
/// # Errors
/// Where one is no number.
pub(super) fn widened(array: &ArrayRef) -> Result<ArrayRef> {
    functions::array((0..array.len()).map(|row| functions::number(array, row)))
}

/// What two numbers add up to.
///
/// # Errors
/// Where it has more digits than a `numeric` has.
pub(super) fn sum(a: &Number, b: &Number) -> Result<Number> {
    Operation::Plus.apply(a, b)
}

/// A column of numbers of any size as their texts, with as many digits after the point as a column of a table has.
///
/// # Errors
/// Where one holds no number.
pub(super) fn texts(array: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    functions::texts(array, scale_of(field))
}

/// The engine's functions that are to take numbers of any size too.
pub(super) fn shared(engine: &dyn Fn(&str) -> Option<Arc<ScalarUDF>>) -> Vec<Arc<ScalarUDF>> {
    functions::shared(engine)
}

/// Plans what is done with numbers of any size.
#[derive(Debug)]
pub(super) struct Numbers;

impl ExprPlanner for Numbers {
    /// While planning, only so much that the type of an operator is known.
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let Some(operation) = operation(&expr.op) else {
            return Ok(PlannerResult::Original(expr));
        };
        let types = [expr.left.get_type(schema), expr.right.get_type(schema)];
        let is_wide = types.iter().flatten().any(|data_type| *data_type == WIDE);
        let is_float = types.iter().flatten().any(DataType::is_floating);
        Ok(match is_wide && !is_float {
            true => {
                let sides = vec![expr.left, expr.right];
                PlannerResult::Planned(call(Function::Operation(operation), sides))
            }
            false => PlannerResult::Original(expr),
        })
    }
}

fn operation(op: &BinaryOperator) -> Option<Operation> {
    Some(match op {
        BinaryOperator::Plus => Operation::Plus,
        BinaryOperator::Minus => Operation::Minus,
        BinaryOperator::Multiply => Operation::Times,
        BinaryOperator::Divide => Operation::Divide,
        BinaryOperator::Modulo => Operation::Modulo,
        _ => return None,
    })
}

/// Writes `-x` as `0 - x`: the planner knows of no other negative numbers than its own.
pub(super) fn without_negation(statement: &mut Statement) {
    let Statement::Statement(statement) = statement else {
        return;
    };
    let _: ControlFlow<()> = visit_expressions_mut(statement, |expr| {
        if let sql::Expr::UnaryOp {
            op: sql::UnaryOperator::Minus,
            expr: inner,
        } = expr
            && !matches!(**inner, sql::Expr::Value(_) | sql::Expr::Interval(_))
        {
            let zero = sql::Value::Number("0".into(), false).with_empty_span();
            let minus = sql::Expr::BinaryOp {
                left: Box::new(sql::Expr::Value(zero)),
                op: BinaryOperator::Minus,
                right: inner.clone(),
            };
            *expr = sql::Expr::Nested(Box::new(minus));
        }
        ControlFlow::Continue(())
    });
}

impl AnalyzerRule for Numbers {
    fn name(&self) -> &str {
        "numbers_of_any_size"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let mut is_wide = false;
        plan.apply_with_subqueries(|node| {
            if let LogicalPlan::TableScan(scan) = node {
                let schema = scan.source.schema();
                is_wide |= schema
                    .fields()
                    .iter()
                    .any(|field| *field.data_type() == WIDE);
            }
            node.apply_expressions(|expr| {
                expr.apply(|part| {
                    is_wide |= is_named(part);
                    Ok(TreeNodeRecursion::Continue)
                })
            })?;
            Ok(match is_wide {
                true => TreeNodeRecursion::Stop,
                false => TreeNodeRecursion::Continue,
            })
        })?;
        match is_wide {
            true => Ok(plan.transform_up_with_subqueries(node)?.data),
            false => Ok(plan),
        }
    }
}

/// A node of a plan whose inputs have been looked at.
fn node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = &plan {
        let own =
            DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?;
        schema.merge(&own);
    }
    let names = datafusion::logical_expr::expr_rewriter::NamePreserver::new(&plan);
    let plan = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let expr = expr.transform_up(|expr| Ok(Transformed::yes(expression(expr, &schema)?)))?;
        Ok(expr.update_data(|expr| name.restore(expr)))
    })?;
    let plan = match plan.data {
        LogicalPlan::Join(join) => LogicalPlan::Join(keys(join)?),
        LogicalPlan::Union(union) => LogicalPlan::Union(branches(union)?),
        other => other,
    };
    Ok(Transformed::yes(plan.recompute_schema()?))
}

/// Both keys of a join as numbers of one kind.
fn keys(mut join: Join) -> Result<Join> {
    for (left, right) in &mut join.on {
        let types = [
            left.get_type(join.left.schema())?,
            right.get_type(join.right.schema())?,
        ];
        if types.contains(&WIDE) && types[0] != types[1] {
            for side in [left, right] {
                *side = call(Function::Widen, vec![side.clone()]);
            }
        }
    }
    Ok(join)
}

/// The branches of a union with numbers of one kind in each column.
fn branches(union: Union) -> Result<Union> {
    let width = union.schema.fields().len();
    let is_wide = |at: usize| {
        let mut inputs = union.inputs.iter();
        inputs.any(|input| *input.schema().field(at).data_type() == WIDE)
    };
    let wide: Vec<bool> = (0..width).map(is_wide).collect();
    let branch = |input: &Arc<LogicalPlan>| -> Result<Arc<LogicalPlan>> {
        let schema = input.schema();
        // The columns of the first branch are those of the union, so that NULL needs the type too.
        let kept = |at: usize| !wide[at] || *schema.field(at).data_type() == WIDE;
        if (0..width).all(kept) {
            return Ok(Arc::clone(input));
        }
        let column = |(at, column): (usize, datafusion::common::Column)| match kept(at) {
            true => Expr::Column(column),
            false => {
                let alias = column.name.clone();
                let qualifier = column.relation.clone();
                let widened = call(Function::Widen, vec![Expr::Column(column)]);
                match qualifier {
                    Some(qualifier) => widened.alias_qualified(Some(qualifier), alias),
                    None => widened.alias(alias),
                }
            }
        };
        let columns = schema.columns().into_iter().enumerate().map(column);
        let builder = LogicalPlanBuilder::from(Arc::clone(input)).project(columns)?;
        Ok(Arc::new(builder.build()?))
    };
    let inputs: Result<Vec<Arc<LogicalPlan>>> = union.inputs.iter().map(branch).collect();
    // Loosely: what else the branches differ in is seen to later.
    Union::try_new_with_loose_types(inputs?)
}

/// Whether an expression is the name of what is no number, or infinite, as a text.
fn is_named(expr: &Expr) -> bool {
    let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = expr else {
        return false;
    };
    let is_wide = |text| matches!(parse_number(text), Ok(Number::Wide(_)));
    !text.bytes().any(|byte| byte.is_ascii_digit()) && is_wide(text)
}

/// An expression whose parts have been looked at.
fn expression(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let wide = |expr: &Expr| {
        expr.get_type(schema)
            .is_ok_and(|data_type| data_type == WIDE)
    };
    let float = |expr: &Expr| {
        expr.get_type(schema)
            .is_ok_and(|data_type| data_type.is_floating())
    };
    let exact = |expr: &Expr| {
        let data_type = expr.get_type(schema);
        data_type.is_ok_and(|data_type| data_type.is_integer() || data_type.is_decimal())
    };
    let are_wide = |values: &[&Expr]| {
        let any = |what: &dyn Fn(&Expr) -> bool| values.iter().any(|value| what(value));
        any(&wide) || (any(&is_named) && any(&exact))
    };
    // Values that are compared, or of which one is taken: all doubles where one is, else numbers.
    let one_kind = |values: Vec<&mut Expr>| {
        if !are_wide(&values.iter().map(|value| &**value).collect::<Vec<_>>()) {
            return;
        }
        let as_doubles = values.iter().any(|value| float(value));
        for value in values {
            match as_doubles {
                true if wide(value) => *value = call(Function::Double, vec![value.clone()]),
                false if !wide(value) => *value = call(Function::Widen, vec![value.clone()]),
                _ => {}
            }
        }
    };
    Ok(match expr {
        Expr::BinaryExpr(BinaryExpr {
            mut left,
            op,
            mut right,
        }) if are_wide(&[&left, &right]) => {
            one_kind(vec![&mut left, &mut right]);
            match arithmetic(op) {
                _ if !wide(&left) => binary_expr(*left, op, *right),
                Some(operation) => call(Function::Operation(operation), vec![*left, *right]),
                None if is_comparison(op) => binary_expr(*left, op, *right),
                None => return refused(&op.to_string()),
            }
        }
        Expr::ScalarFunction(mut found) if found.args.iter().any(wide) => {
            let name = found.func.name();
            if let Some(operation) = of_integers(name) {
                return Ok(call(Function::Operation(operation), found.args));
            }
            let is_own = name.starts_with("numeric_");
            if !is_own && !functions::is_shared(name) {
                return refused(&name);
            }
            if !is_own && name != "round" && name != "trunc" {
                one_kind(found.args.iter_mut().collect());
            }
            Expr::ScalarFunction(found)
        }
        Expr::Between(Between {
            mut expr,
            negated,
            mut low,
            mut high,
        }) => {
            one_kind(vec![&mut expr, &mut low, &mut high]);
            Expr::Between(Between::new(expr, negated, low, high))
        }
        Expr::InList(InList {
            mut expr,
            mut list,
            negated,
        }) => {
            one_kind(list.iter_mut().chain([&mut *expr]).collect());
            Expr::InList(InList::new(expr, list, negated))
        }
        Expr::Case(case) => {
            let case = Expr::Case(branches_of(case, &one_kind));
            match (wide(&case), scale_of_case(&case, schema)) {
                (true, Some(scale)) => call(Function::Shown(scale), vec![case]),
                _ => case,
            }
        }
        Expr::Negative(inner) if wide(&inner) => {
            let zero = datafusion::logical_expr::lit(0i64);
            call(Function::Operation(Operation::Minus), vec![zero, *inner])
        }
        Expr::Cast(Cast { expr, field }) if wide(&expr) => {
            let scale = functions::scale_shown(&expr.to_field(schema)?.1);
            return as_type(*expr, field.data_type(), scale);
        }
        Expr::Cast(Cast { expr, field }) if is_named(&expr) && field.data_type().is_decimal() => {
            call(Function::Widen, vec![*expr])
        }
        Expr::InSubquery(found) => in_subquery(found, schema)?,
        Expr::Like(like) | Expr::SimilarTo(like) if wide(&like.expr) || wide(&like.pattern) => {
            return refused("LIKE");
        }
        Expr::TryCast(found) if wide(&found.expr) => {
            return refused("TRY_CAST");
        }
        Expr::SetComparison(found) if wide(&found.expr) => {
            return refused("ANY or ALL");
        }
        Expr::AggregateFunction(found) if found.params.args.iter().any(wide) => {
            let name = found.func.name();
            if !AGGREGATES.contains(&name) {
                return refused(&name);
            }
            Expr::AggregateFunction(found)
        }
        Expr::WindowFunction(mut found) => {
            let name = found.fun.name().to_owned();
            let params = &mut found.params;
            if params.args.iter().any(wide) && !AGGREGATES.contains(&name.as_str()) {
                return refused(&name);
            }
            // The default of `lag` and `lead`.
            if let [value, _, default] = params.args.as_mut_slice() {
                one_kind(vec![value, default]);
            }
            if params.order_by.iter().any(|sort| wide(&sort.expr)) {
                params.window_frame = without_range(&params.window_frame)?;
            }
            Expr::WindowFunction(found)
        }
        other => other,
    })
}

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

/// How many digits after the point the results of a `CASE` are shown with.
fn scale_of_case(case: &Expr, schema: &DFSchema) -> Option<u8> {
    let Expr::Case(case) = case else {
        return None;
    };
    let thens = case.when_then_expr.iter().map(|(_, then)| then);
    let fields = thens
        .chain(&case.else_expr)
        .map(|result| result.to_field(schema));
    let fields: Vec<_> = fields.collect::<Result<_>>().ok()?;
    let known = fields
        .iter()
        .filter(|(_, field)| !field.data_type().is_null());
    let scales: Option<Vec<u8>> = known
        .map(|(_, field)| functions::scale_shown(field))
        .collect();
    scales?.into_iter().max()
}

/// A `CASE` with branches of one kind, and what it compares of one kind.
fn branches_of(mut case: Case, one_kind: &dyn Fn(Vec<&mut Expr>)) -> Case {
    if let Some(compared) = &mut case.expr {
        let values = case.when_then_expr.iter_mut().map(|(when, _)| &mut **when);
        one_kind(values.chain([&mut **compared]).collect());
    }
    let results = case.when_then_expr.iter_mut().map(|(_, then)| &mut **then);
    one_kind(results.chain(case.else_expr.as_deref_mut()).collect());
    case
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

/// `x IN (SELECT y …)` with both of one kind.
fn in_subquery(mut found: InSubquery, schema: &DFSchema) -> Result<Expr> {
    let plan = &found.subquery.subquery;
    let theirs = match plan.schema().fields().first() {
        Some(field) => field.data_type().clone(),
        None => return Ok(Expr::InSubquery(found)),
    };
    let own = found.expr.get_type(schema)?;
    if own == WIDE && theirs != WIDE {
        let column = Expr::Column(plan.schema().columns().remove(0));
        let widened = call(Function::Widen, vec![column]);
        let plan = LogicalPlanBuilder::from(Arc::clone(plan))
            .project([widened])?
            .build()?;
        found.subquery = Subquery {
            subquery: Arc::new(plan),
            ..found.subquery
        };
    } else if theirs == WIDE && own != WIDE {
        found.expr = Box::new(call(Function::Widen, vec![*found.expr]));
    }
    Ok(Expr::InSubquery(found))
}
