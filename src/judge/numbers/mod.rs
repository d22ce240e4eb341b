//! Numbers of any size in the engine: what Postgres' `numeric` has and no decimal of 38 digits.
//!
//! A column of numbers of which some are no decimals of one scale is bytes to the engine ([`WIDE`]), in the order of the numbers: the
//! engine compares, sorts, groups and joins them as it does any bytes. Everything else that a query does with them becomes a call of
//! [`functions`] here, before the engine looks at the types of both sides. What has no such call is refused: bytes would be taken for
//! something else.

mod functions;
mod rewrite;
mod totals;
mod value;

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Expr, ExprSchemable, Join, LogicalPlan, LogicalPlanBuilder, ScalarUDF, Union,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self as sql, BinaryOperator, visit_expressions_mut};

use crate::change::{Cell, Number};
use crate::state::{History, WIDE, scale_of};
pub(super) use functions::scale_shown;
use functions::{Function, call};
use rewrite::{expression, is_named};
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

/// The most digits that the engine takes in a literal.
const LITERAL_DIGITS_MAX: usize = 76;

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

/// Writes what the planner does not take in another way: literals of more digits than it knows as texts, and, where there are numbers of any
/// size, `-x` as `0 - x`.
pub(super) fn rewritten(statement: &mut Statement, are_wide: bool) {
    let Statement::Statement(statement) = statement else {
        return;
    };
    let _: ControlFlow<()> = visit_expressions_mut(statement, |expr| {
        if let sql::Expr::Value(value) = expr
            && let sql::Value::Number(text, _) = &value.value
            && text.len() > LITERAL_DIGITS_MAX
        {
            value.value = sql::Value::SingleQuotedString(text.clone());
        }
        if !are_wide {
            return ControlFlow::Continue(());
        }
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
