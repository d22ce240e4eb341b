//! What is not local wherever it stands in a plan.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, Volatility};

/// Refuses expressions whose value does not depend on the row alone.
///
/// # Errors
/// What it is, in words for the author of the rule.
pub fn refuse_expressions(plan: &LogicalPlan) -> Result<(), String> {
    let mut reason = None;
    let visited = plan.apply(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                let found = match expr {
                    Expr::ScalarSubquery(_)
                    | Expr::InSubquery(_)
                    | Expr::Exists(_)
                    | Expr::SetComparison(_) => Some(
                        "a subquery that does not depend on the row looks at a whole table"
                            .to_owned(),
                    ),
                    Expr::ScalarFunction(call)
                        if call.func.signature().volatility == Volatility::Volatile =>
                    {
                        Some(format!(
                            "`{}` answers differently each time",
                            call.func.name()
                        ))
                    }
                    _ => None,
                };
                if reason.is_none() {
                    reason = found;
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    match (visited, reason) {
        (_, Some(reason)) => Err(reason),
        (Err(error), None) => Err(error.strip_backtrace()),
        (Ok(_), None) => Ok(()),
    }
}

/// True when no operator of a plan looks at the order of all rows: rows of different commits can then be kept apart.
pub fn without_limits(plan: &LogicalPlan) -> bool {
    let here = match plan {
        LogicalPlan::TableScan(scan) => scan.fetch.is_none(),
        LogicalPlan::Sort(sort) => sort.fetch.is_none(),
        LogicalPlan::Aggregate(aggregate) => !aggregate.group_expr.is_empty(),
        LogicalPlan::Join(join) => !join.null_aware,
        LogicalPlan::Projection(_)
        | LogicalPlan::Filter(_)
        | LogicalPlan::SubqueryAlias(_)
        | LogicalPlan::Distinct(Distinct::All(_))
        | LogicalPlan::Union(_)
        | LogicalPlan::Window(_) => true,
        _ => false,
    };
    here && refuse_expressions(plan).is_ok() && plan.inputs().into_iter().all(without_limits)
}

pub(super) fn name_of(plan: &LogicalPlan) -> &'static str {
    match plan {
        LogicalPlan::Values(_) => "VALUES",
        LogicalPlan::EmptyRelation(_) => "a SELECT without FROM",
        LogicalPlan::RecursiveQuery(_) => "a recursive query",
        LogicalPlan::Unnest(_) => "UNNEST",
        LogicalPlan::Subquery(_) => "a subquery",
        _ => "its plan",
    }
}
