//! What an order is worth: where the rows come in the order of the columns that a query groups or joins by, groups are runs of neighbours
//! and joins are merges. Nothing is hashed, and memory holds a few batches.
//!
//! The engine groups by hash also where it knows of the order, and never merges on one partition; so this rule replaces both, last.

mod guess;
mod members;
mod runs;
mod set;

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{JoinType, NullEquality};
use datafusion::error::Result;
use datafusion::logical_expr::EmitTo;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExprRef, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::sanity_checker::SanityCheckPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::joins::{HashJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, InputOrderMode};

use super::chunks::ascending;
use guess::guessed;
use members::{How, Members};
use runs::Runs;

/// The columns of a join, those of its left and of its right side.
type On = Vec<(PhysicalExprRef, PhysicalExprRef)>;

/// Replaces groups and joins over rows that are in order.
#[derive(Debug)]
pub(super) struct Ordered;

impl PhysicalOptimizerRule for Ordered {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = sound(improved(Arc::clone(&plan))?, config).unwrap_or(plan);
        let guess = guessed(Arc::clone(&plan))?;
        Ok(sound(guess, config).unwrap_or(plan))
    }

    fn name(&self) -> &str {
        "ordered"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A plan, unless some part of it would get rows in another order than it needs: a merge gives them in another order than what it replaces.
fn sound(plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Option<Arc<dyn ExecutionPlan>> {
    SanityCheckPlan::new().optimize(plan, config).ok()
}

/// A plan with all that is better where rows are in order.
fn improved(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|plan| {
        let better = match plan.downcast_ref::<AggregateExec>() {
            Some(groups) => runs(groups),
            None => match plan.downcast_ref::<HashJoinExec>() {
                Some(join) => merge(join)?,
                None => None,
            },
        };
        Ok(match better {
            Some(better) => Transformed::yes(better),
            None => Transformed::no(plan),
        })
    })
    .data()
}

fn is_one_stream(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.output_partitioning().partition_count() == 1
}

/// Groups that are runs; None where they are not.
fn runs(groups: &AggregateExec) -> Option<Arc<dyn ExecutionPlan>> {
    let whole = matches!(
        groups.mode(),
        AggregateMode::Single | AggregateMode::SinglePartitioned
    );
    let aggregates = groups.aggr_expr();
    let simple = aggregates.iter().all(|aggregate| {
        aggregate.groups_accumulator_supported() && aggregate.order_bys().is_empty()
    });
    let grouped = groups.group_expr();
    let ordered = *groups.input_order_mode() == InputOrderMode::Sorted;
    let fits = whole
        && simple
        && ordered
        && grouped.is_single()
        && !grouped.is_empty()
        && groups.limit_options().is_none()
        && is_one_stream(groups.input());
    fits.then(|| Arc::new(Runs::new(groups)) as Arc<dyn ExecutionPlan>)
}

/// A join that is a merge; None where it is not.
fn merge(join: &HashJoinExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if join.null_aware || !is_one_stream(join.left()) || !is_one_stream(join.right()) {
        return Ok(None);
    }
    let plain = join.filter().is_none() && join.null_equality() == NullEquality::NullEqualsNothing;
    let Some(on) = in_order(join)? else {
        return match plain && join.on().len() > 1 {
            true => held(join),
            false => Ok(None),
        };
    };
    let members = match plain {
        true => Members::new(
            join.left(),
            join.right(),
            &on,
            *join.join_type(),
            How::Merge,
        ),
        false => None,
    };
    let merged: Arc<dyn ExecutionPlan> = match members {
        Some(members) => Arc::new(members),
        // What a merge can join is not all that a hash can.
        None if matches!(join.join_type(), JoinType::LeftMark | JoinType::RightMark) => {
            return Ok(None);
        }
        None => Arc::new(SortMergeJoinExec::try_new(
            Arc::clone(join.left()),
            Arc::clone(join.right()),
            on.clone(),
            join.filter().cloned(),
            *join.join_type(),
            vec![ascending(); on.len()],
            join.null_equality(),
        )?),
    };
    projected(join, merged).map(Some)
}

/// A join by several columns whose smaller side is only asked whether it has a key; None where it is another. (For one column the engine
/// has something as quick.)
fn held(join: &HashJoinExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if !matches!(join.join_type(), JoinType::RightSemi | JoinType::RightAnti) {
        return Ok(None);
    }
    let on = join.on().to_vec();
    let members = Members::new(join.left(), join.right(), &on, *join.join_type(), How::Set);
    let Some(members) = members else {
        return Ok(None);
    };
    projected(join, Arc::new(members)).map(Some)
}

/// The columns that a join gives, of what takes its place.
fn projected(
    join: &HashJoinExec,
    merged: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let Some(projection) = &join.projection else {
        return Ok(merged);
    };
    let schema = merged.schema();
    let column = |&at: &usize| ProjectionExpr {
        expr: Arc::new(Column::new(schema.field(at).name(), at)),
        alias: schema.field(at).name().clone(),
    };
    let columns: Vec<ProjectionExpr> = projection.iter().map(column).collect();
    Ok(Arc::new(ProjectionExec::try_new(columns, merged)?))
}

/// The columns of a join in an order in which both sides come; None where there is none.
fn in_order(join: &HashJoinExec) -> Result<Option<On>> {
    let Some(order) = join.left().output_ordering() else {
        return Ok(None);
    };
    let mut on = On::new();
    for sorted in order.iter() {
        let pair = join.on().iter().find(|(left, _)| left.eq(&sorted.expr));
        match pair.filter(|_| sorted.options == ascending()) {
            Some(pair) => on.push(pair.clone()),
            None => break,
        }
    }
    if on.len() != join.on().len() {
        return Ok(None);
    }
    let right = on
        .iter()
        .map(|(_, right)| PhysicalSortExpr::new(Arc::clone(right), ascending()));
    let right = join
        .right()
        .equivalence_properties()
        .ordering_satisfy(right)?;
    Ok(right.then_some(on))
}

/// The first so many groups, or none.
fn first(count: usize) -> EmitTo {
    EmitTo::First(count)
}
