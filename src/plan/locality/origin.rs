//! Where the values of a column come from.

use datafusion::common::JoinType;
use datafusion::logical_expr::{Distinct, LogicalPlan};

use super::below::column_at;
use super::scans;

/// The scan and the column from which all values of a position come.
pub(super) fn origin(
    plan: &LogicalPlan,
    position: usize,
    first: usize,
    null_safe: bool,
) -> Option<(usize, usize)> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let column = match &scan.projection {
                Some(projection) => *projection.get(position)?,
                None => position,
            };
            Some((first, column))
        }
        LogicalPlan::Projection(projection) => {
            let at = column_at(projection.expr.get(position)?, &projection.input)?;
            origin(&projection.input, at, first, null_safe)
        }
        LogicalPlan::Filter(filter) => origin(&filter.input, position, first, null_safe),
        LogicalPlan::SubqueryAlias(alias) => origin(&alias.input, position, first, null_safe),
        LogicalPlan::Sort(sort) => origin(&sort.input, position, first, null_safe),
        LogicalPlan::Distinct(Distinct::All(input)) => origin(input, position, first, null_safe),
        LogicalPlan::Aggregate(aggregate) => {
            let at = column_at(aggregate.group_expr.get(position)?, &aggregate.input)?;
            origin(&aggregate.input, at, first, null_safe)
        }
        LogicalPlan::Window(window) => (position < window.input.schema().fields().len())
            .then(|| origin(&window.input, position, first, null_safe))?,
        LogicalPlan::Join(join) => {
            let width = join.left.schema().fields().len();
            let (left, right) = match join.join_type {
                JoinType::Inner => (true, true),
                // A null that the join supplies has no origin; it matters only where null equals null.
                JoinType::Left => (true, !null_safe),
                JoinType::Right => (!null_safe, true),
                JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => (true, false),
                JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => {
                    return origin(
                        &join.right,
                        position,
                        first + scans(&join.left).len(),
                        null_safe,
                    );
                }
                JoinType::Full => return None,
            };
            if position < width {
                left.then(|| origin(&join.left, position, first, null_safe))?
            } else {
                let first = first + scans(&join.left).len();
                right.then(|| origin(&join.right, position - width, first, null_safe))?
            }
        }
        _ => None,
    }
}
