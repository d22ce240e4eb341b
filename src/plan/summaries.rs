//! Aggregates become tables: sums, counts, extremes and distinct counts over the rows of one table are kept as a table of their own,
//! with one row a group.
//!
//! The rule then reads that table, and a change of one row costs the same whether its group has ten rows or a million. How the
//! figures change is asked of the aggregate itself (see [`Summary::delta`]), so that there is one meaning of it.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, TableReference};
use datafusion::error::Result;
use datafusion::functions_aggregate::count::count_udaf;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{
    Aggregate, Expr, ExprSchemable, LogicalPlan, LogicalTableSource, Projection, TableScanBuilder,
    lit,
};

use super::{clock, locality};

/// The name that summary tables begin with; longer than Postgres allows for a table.
pub const SUMMARY: &str = "__summary_of_an_aggregate_whose_name_is_longer_than_any_table_may_have_";

/// An aggregate that is kept as a table.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The table's name.
    pub name: String,
    /// Its columns: the groups, then the figures.
    pub schema: SchemaRef,
    /// What is added up, over the rows of one table: groups, the figures that are sums and counts, for each of them the number of
    /// values in it, and the number of rows.
    pub delta: LogicalPlan,
    /// How many columns are groups.
    pub groups: usize,
    /// The figures.
    pub figures: Vec<Figure>,
}

/// A figure of a summary.
#[derive(Clone, Debug)]
pub enum Figure {
    /// The sum of its values: NULL while there are none.
    Sum,
    /// The number of its values.
    Count,
    /// A figure of the different values: how often each of them occurs has to be kept.
    Of {
        /// Which one.
        which: Ordered,
        /// How often each value occurs, over the rows of the same table: groups, value, count.
        delta: LogicalPlan,
    },
}

/// A figure that follows from the ordered values of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ordered {
    /// The least; NULL where there is none.
    Min,
    /// The greatest; NULL where there is none.
    Max,
    /// How many different ones there are.
    Distinct,
}

impl Summary {
    /// The queries that say how the figures change: the additive ones first, then one for each figure of ordered values.
    pub fn queries(&self) -> impl Iterator<Item = &LogicalPlan> {
        let ordered = self.figures.iter().filter_map(|figure| match figure {
            Figure::Of { delta, .. } => Some(delta),
            Figure::Sum | Figure::Count => None,
        });
        std::iter::once(&self.delta).chain(ordered)
    }
}

impl Figure {
    /// Whether it is added up.
    pub fn is_additive(&self) -> bool {
        !matches!(self, Figure::Of { .. })
    }
}

/// Replaces the aggregates of an optimised plan that can be kept as tables. With `whole_tables_only`, only those without groups.
///
/// # Errors
/// When a node cannot be built again; the plan is then judged as it is.
pub fn summarize(
    plan: &LogicalPlan,
    whole_tables_only: bool,
) -> Result<(LogicalPlan, Vec<Summary>)> {
    let mut summaries = Vec::new();
    let replaced = plan.clone().transform_up(|node| {
        let LogicalPlan::Aggregate(aggregate) = &node else {
            return Ok(Transformed::no(node));
        };
        if whole_tables_only && !aggregate.group_expr.is_empty() {
            return Ok(Transformed::no(node));
        }
        let Some(summary) = summary(aggregate, summaries.len())? else {
            return Ok(Transformed::no(node));
        };
        let source = LogicalTableSource::new(Arc::clone(&summary.schema));
        let table = TableReference::bare(summary.name.clone());
        let scan = TableScanBuilder::new(table.clone(), Arc::new(source)).build()?;
        let old_names = aggregate.schema.iter().enumerate();
        let exprs = old_names.map(|(at, (qualifier, field))| {
            let column = Column::new(Some(table.clone()), format!("c{at}"));
            Expr::Column(column).alias_qualified(qualifier.cloned(), field.name())
        });
        let projection =
            Projection::try_new(exprs.collect(), Arc::new(LogicalPlan::TableScan(scan)))?;
        summaries.push(summary);
        Ok(Transformed::yes(LogicalPlan::Projection(projection)))
    })?;
    Ok((replaced.data, summaries))
}

/// The summary of an aggregate; None where it cannot be kept exactly.
fn summary(aggregate: &Aggregate, number: usize) -> Result<Option<Summary>> {
    let is_column = |expr: &Expr| matches!(expr, Expr::Column(_));
    if !aggregate.group_expr.iter().all(is_column)
        || aggregate.aggr_expr.is_empty()
        // What the time changes is no change of a row.
        || clock::asks(&LogicalPlan::Aggregate(aggregate.clone()))
        || !is_row_by_row(&aggregate.input)
    {
        return Ok(None);
    }
    let groups = aggregate.group_expr.len();
    let mut figures = Vec::new();
    let (mut exprs, mut counts) = (Vec::new(), Vec::new());
    for (at, expr) in aggregate.aggr_expr.iter().enumerate() {
        let result = aggregate.schema.field(groups + at).data_type();
        let Some(call) = plain_call(expr) else {
            return Ok(None);
        };
        let Some(figure) = figure(aggregate, call, result)? else {
            return Ok(None);
        };
        if figure.is_additive() {
            let (args, filter) = (call.params.args.clone(), call.params.filter.clone());
            exprs.push(expr.clone());
            counts.push(count_of(args, filter).alias(format!("__values_{at}")));
        }
        figures.push(figure);
    }
    exprs.append(&mut counts);
    exprs.push(count_of(vec![lit(1i64)], None).alias("__rows"));
    let fields = aggregate.schema.fields().iter().enumerate();
    let fields: Vec<Field> = fields
        .map(|(at, field)| Field::new(format!("c{at}"), field.data_type().clone(), true))
        .collect();
    Ok(Some(Summary {
        name: format!("{SUMMARY}{number}"),
        schema: Arc::new(Schema::new(fields)),
        delta: LogicalPlan::Aggregate(Aggregate::try_new(
            Arc::clone(&aggregate.input),
            aggregate.group_expr.clone(),
            exprs,
        )?),
        groups,
        figures,
    }))
}

fn count_of(args: Vec<Expr>, filter: Option<Box<Expr>>) -> Expr {
    let call = AggregateFunction::new_udf(count_udaf(), args, false, filter, Vec::new(), None);
    Expr::AggregateFunction(call)
}

/// The call behind an aggregate expression, without its name.
fn plain_call(expr: &Expr) -> Option<&AggregateFunction> {
    match expr {
        Expr::Alias(alias) => plain_call(&alias.expr),
        Expr::AggregateFunction(call) => Some(call),
        _ => None,
    }
}

/// What a call becomes; None where it cannot be kept exactly: sums of floating-point numbers depend on the order of addition, and their
/// order on what zero and NaN are.
fn figure(
    aggregate: &Aggregate,
    call: &AggregateFunction,
    result: &ArrowType,
) -> Result<Option<Figure>> {
    let (name, [value]) = (call.func.name(), call.params.args.as_slice()) else {
        return Ok(None);
    };
    let exact = matches!(result, ArrowType::Int64 | ArrowType::Decimal128(_, _));
    if !call.params.order_by.is_empty() {
        return Ok(None);
    }
    let which = match (name, call.params.distinct) {
        ("count", false) => return Ok(Some(Figure::Count)),
        ("sum", false) if exact => return Ok(Some(Figure::Sum)),
        ("count", true) => Ordered::Distinct,
        ("min", _) => Ordered::Min,
        ("max", _) => Ordered::Max,
        _ => return Ok(None),
    };
    let value_type = value.get_type(aggregate.input.schema())?;
    if value_type.is_floating() || value_type.is_nested() {
        return Ok(None);
    }
    let mut by = aggregate.group_expr.clone();
    by.push(value.clone().alias("__value"));
    let filter = call.params.filter.clone();
    let count = count_of(vec![lit(1i64)], filter).alias("__occurs");
    let input = Arc::clone(&aggregate.input);
    let delta = LogicalPlan::Aggregate(Aggregate::try_new(input, by, vec![count])?);
    Ok(Some(Figure::Of { which, delta }))
}

/// True for a plan that looks at one table's rows one by one.
pub fn is_row_by_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(scan) => scan.fetch.is_none(),
        LogicalPlan::Projection(_) | LogicalPlan::Filter(_) | LogicalPlan::SubqueryAlias(_) => {
            locality::refuse_expressions(plan).is_ok()
                && plan.inputs().into_iter().all(is_row_by_row)
        }
        _ => false,
    }
}
