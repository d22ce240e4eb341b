//! Aggregates become tables: sums and counts over the rows of one table are kept as a table of their own, with one row a group.
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
    Aggregate, Expr, LogicalPlan, LogicalTableSource, Projection, TableScanBuilder, lit,
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
    /// The aggregate with the counts that keeping it needs, over the rows of one table: groups, figures, for each figure the number
    /// of values in it, and the number of rows.
    pub delta: LogicalPlan,
    /// How many columns are groups.
    pub groups: usize,
    /// Which figures are sums: NULL while there are no values in them.
    pub sums: Vec<bool>,
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
    let mut sums = Vec::new();
    let mut exprs = aggregate.aggr_expr.clone();
    for (at, expr) in aggregate.aggr_expr.iter().enumerate() {
        let result = aggregate.schema.field(groups + at).data_type();
        let Some((call, is_sum)) = additive(expr, result) else {
            return Ok(None);
        };
        sums.push(is_sum);
        let filter = call.params.filter.clone();
        exprs.push(count_of(call.params.args.clone(), filter).alias(format!("__values_{at}")));
    }
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
        sums,
    }))
}

fn count_of(args: Vec<Expr>, filter: Option<Box<Expr>>) -> Expr {
    let call = AggregateFunction::new_udf(count_udaf(), args, false, filter, Vec::new(), None);
    Expr::AggregateFunction(call)
}

/// The call of an aggregate whose change is the sum of the changes of its rows, and whether it is a sum. Sums of floating-point numbers
/// depend on the order of addition, so they are not.
fn additive<'a>(expr: &'a Expr, result: &ArrowType) -> Option<(&'a AggregateFunction, bool)> {
    match expr {
        Expr::Alias(alias) => additive(&alias.expr, result),
        Expr::AggregateFunction(call) => {
            let plain = !call.params.distinct && call.params.order_by.is_empty();
            let exact = matches!(result, ArrowType::Int64 | ArrowType::Decimal128(_, _));
            match call.func.name() {
                "count" if plain && call.params.args.len() == 1 => Some((call, false)),
                "sum" if plain && exact => Some((call, true)),
                _ => None,
            }
        }
        _ => None,
    }
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
