//! One plan, every commit at once: an optimised plan is rewritten so that its scans carry a commit and all operators keep it.
//!
//! Each lifted node has its original columns under their names and exactly one column [`COMMIT`] more. It joins every equi join,
//! group-by and partition-by, so rows of different commits never meet, and the lifted plan at commit *c* is the plan at *c*. The plan
//! is lifted after it was optimised (subqueries have become joins by then) and must not be optimised again.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType as ArrowType, Field};
use datafusion::common::{Column, DFSchema, JoinType};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Aggregate, Distinct, EmptyRelation, Expr, Filter, Join, LogicalPlan, Projection, Repartition,
    Sort, SubqueryAlias, TableScan, TableScanBuilder, TableSource, Union, Window, when,
};

use super::locality::window_call;

/// The column that every lifted node has.
pub const COMMIT: &str = "_commit";
/// The commit of a join's other side, on its way out.
pub const OTHER_COMMIT: &str = "_commit_of_the_other_side";

/// Lifts an optimised plan. `source` gives what stands in for the n-th scan: the scanned table's columns, then [`COMMIT`].
///
/// # Errors
/// When the plan holds an operator that cannot be lifted, or a table that has a column of this name itself.
pub fn lift(
    plan: &LogicalPlan,
    source: &mut dyn FnMut(&TableScan) -> Arc<dyn TableSource>,
) -> Result<LogicalPlan> {
    let lifted = match plan {
        LogicalPlan::TableScan(scan) => lift_scan(scan, source)?,
        LogicalPlan::Projection(projection) => {
            let input = lift(&projection.input, source)?;
            let mut exprs = projection.expr.clone();
            exprs.push(commit_of(&input)?);
            LogicalPlan::Projection(Projection::try_new(exprs, Arc::new(input))?)
        }
        LogicalPlan::Filter(filter) => {
            let input = lift(&filter.input, source)?;
            LogicalPlan::Filter(Filter::try_new(filter.predicate.clone(), Arc::new(input))?)
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let input = lift(&alias.input, source)?;
            LogicalPlan::SubqueryAlias(SubqueryAlias::try_new(
                Arc::new(input),
                alias.alias.clone(),
            )?)
        }
        LogicalPlan::Sort(sort) => LogicalPlan::Sort(Sort {
            expr: sort.expr.clone(),
            input: Arc::new(lift(&sort.input, source)?),
            fetch: None,
        }),
        LogicalPlan::Repartition(repartition) => LogicalPlan::Repartition(Repartition {
            input: Arc::new(lift(&repartition.input, source)?),
            partitioning_scheme: repartition.partitioning_scheme.clone(),
        }),
        LogicalPlan::Distinct(Distinct::All(input)) => {
            LogicalPlan::Distinct(Distinct::All(Arc::new(lift(input, source)?)))
        }
        LogicalPlan::Aggregate(aggregate) => {
            let input = lift(&aggregate.input, source)?;
            let mut groups = aggregate.group_expr.clone();
            groups.push(commit_of(&input)?);
            LogicalPlan::Aggregate(Aggregate::try_new(
                Arc::new(input),
                groups,
                aggregate.aggr_expr.clone(),
            )?)
        }
        LogicalPlan::Window(window) => lift_window(window, source)?,
        LogicalPlan::Union(union) => lift_union(union, source)?,
        LogicalPlan::Join(join) => lift_join(join, source)?,
        LogicalPlan::EmptyRelation(empty) if !empty.produce_one_row => {
            LogicalPlan::EmptyRelation(EmptyRelation {
                produce_one_row: false,
                schema: Arc::new(with_commit(&empty.schema)?),
            })
        }
        other => return plan_error(format!("{} cannot be lifted", other.display())),
    };
    Ok(lifted)
}

fn plan_error<T>(message: String) -> Result<T> {
    Err(DataFusionError::Plan(message))
}

/// The column that a node's rows carry their commit in.
fn commit_of(plan: &LogicalPlan) -> Result<Expr> {
    commit_column(plan).map(Expr::Column)
}

fn commit_column(plan: &LogicalPlan) -> Result<Column> {
    let mut found = plan
        .schema()
        .iter()
        .filter(|(_, field)| field.name() == COMMIT);
    match (found.next(), found.next()) {
        (Some((qualifier, field)), None) => Ok(Column::new(qualifier.cloned(), field.name())),
        _ => plan_error(format!("a table has a column `{COMMIT}` of its own")),
    }
}

fn with_commit(schema: &DFSchema) -> Result<DFSchema> {
    let mut fields: Vec<_> = schema
        .iter()
        .map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field)))
        .collect();
    fields.push((None, Arc::new(Field::new(COMMIT, ArrowType::Int64, false))));
    DFSchema::new_with_metadata(fields, schema.metadata().clone())
}

fn lift_scan(
    scan: &TableScan,
    source: &mut dyn FnMut(&TableScan) -> Arc<dyn TableSource>,
) -> Result<LogicalPlan> {
    let own = scan.source.schema();
    if own.fields().iter().any(|field| field.name() == COMMIT) {
        return plan_error(format!("a table has a column `{COMMIT}` of its own"));
    }
    let width = own.fields().len();
    let mut projection = match &scan.projection {
        Some(projection) => projection.clone(),
        None => (0..width).collect(),
    };
    projection.push(width);
    let lifted = TableScanBuilder::new(scan.table_name.clone(), source(scan))
        .with_projection(Some(projection))
        .build()?;
    // Providers here take no filters; what a scan holds all the same stands above it.
    let plan = LogicalPlan::TableScan(lifted);
    match datafusion::logical_expr::utils::conjunction(scan.filters.iter().cloned()) {
        Some(predicate) => Ok(LogicalPlan::Filter(Filter::try_new(
            predicate,
            Arc::new(plan),
        )?)),
        None => Ok(plan),
    }
}

fn lift_window(
    window: &Window,
    source: &mut dyn FnMut(&TableScan) -> Arc<dyn TableSource>,
) -> Result<LogicalPlan> {
    let input = lift(&window.input, source)?;
    let commit = commit_of(&input)?;
    let lifted = |expr: &Expr| {
        let Some(call) = window_call(expr) else {
            return plan_error("a window node holds another expression".into());
        };
        let mut call: WindowFunction = call.clone();
        call.params.partition_by.push(commit.clone());
        // The name of a window's column spells out its PARTITION BY; parents know it by the old one.
        Ok(Expr::WindowFunction(Box::new(call)).alias(expr.schema_name().to_string()))
    };
    let exprs = window
        .window_expr
        .iter()
        .map(lifted)
        .collect::<Result<_>>()?;
    Ok(LogicalPlan::Window(Window::try_new(
        exprs,
        Arc::new(input),
    )?))
}

/// Branches meet by position, so the commit goes to the end of each.
fn lift_union(
    union: &Union,
    source: &mut dyn FnMut(&TableScan) -> Arc<dyn TableSource>,
) -> Result<LogicalPlan> {
    let mut inputs = Vec::new();
    for input in &union.inputs {
        let mut exprs = columns_of(input.schema());
        let lifted = lift(input, source)?;
        exprs.push(commit_of(&lifted)?.alias(COMMIT));
        inputs.push(Arc::new(LogicalPlan::Projection(Projection::try_new(
            exprs,
            Arc::new(lifted),
        )?)));
    }
    Ok(LogicalPlan::Union(Union {
        inputs,
        schema: Arc::new(with_commit(&union.schema)?),
    }))
}

fn columns_of(schema: &DFSchema) -> Vec<Expr> {
    schema.columns().into_iter().map(Expr::Column).collect()
}

fn lift_join(
    join: &Join,
    source: &mut dyn FnMut(&TableScan) -> Arc<dyn TableSource>,
) -> Result<LogicalPlan> {
    let left = lift(&join.left, source)?;
    let right = lift(&join.right, source)?;
    let keeps_left = !matches!(
        join.join_type,
        JoinType::Right | JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark
    );
    let (left, right) = if keeps_left {
        (left, rename_commit(right)?)
    } else {
        (rename_commit(left)?, right)
    };
    let other = Expr::Column(Column::new_unqualified(OTHER_COMMIT));
    let mut on = join.on.clone();
    on.push(if keeps_left {
        (commit_of(&left)?, other.clone())
    } else {
        (other.clone(), commit_of(&right)?)
    });
    let kept = commit_of(if keeps_left { &left } else { &right })?;
    let lifted = Join::try_new(
        Arc::new(left),
        Arc::new(right),
        on,
        join.filter.clone(),
        join.join_type,
        join.join_constraint,
        join.null_equality,
        false,
    )?;
    let lifted = LogicalPlan::Join(lifted);
    let both_in_output = matches!(
        join.join_type,
        JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full
    );
    if !both_in_output {
        return Ok(lifted);
    }
    let mut exprs = columns_of(&join.schema);
    exprs.push(if join.join_type == JoinType::Full {
        when(kept.clone().is_not_null(), kept)
            .otherwise(other)?
            .alias(COMMIT)
    } else {
        kept
    });
    Ok(LogicalPlan::Projection(Projection::try_new(
        exprs,
        Arc::new(lifted),
    )?))
}

/// The same rows, with the commit under another name: two columns of one name cannot meet in a join.
fn rename_commit(plan: LogicalPlan) -> Result<LogicalPlan> {
    let commit = commit_column(&plan)?;
    let exprs: Vec<Expr> = plan
        .schema()
        .columns()
        .into_iter()
        .map(|column| {
            if column == commit {
                Expr::Column(column).alias(OTHER_COMMIT)
            } else {
                Expr::Column(column)
            }
        })
        .collect();
    Ok(LogicalPlan::Projection(Projection::try_new(
        exprs,
        Arc::new(plan),
    )?))
}
