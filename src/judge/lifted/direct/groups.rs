//! Rows by groups, and what is made of each group.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::row::{Row, RowConverter};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::EmitTo;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};
use hashbrown::HashMap;

use super::{Direct, Left, comparing, evaluate};
use crate::judge::lifted::slot::Slot;

/// Groups with their aggregates.
pub(super) struct Groups {
    input: Direct,
    by: Vec<Arc<dyn PhysicalExpr>>,
    comparing: RowConverter,
    aggregates: Vec<Aggregate>,
    schema: SchemaRef,
}

struct Aggregate {
    function: Arc<AggregateFunctionExpr>,
    of: Vec<Arc<dyn PhysicalExpr>>,
    /// Only rows of which this holds.
    filter: Option<Arc<dyn PhysicalExpr>>,
}

impl Groups {
    /// What the engine's aggregation does; None where there are no groups, or an order of rows matters.
    pub(super) fn of(exec: &AggregateExec, slots: &[Arc<Slot>]) -> Option<Self> {
        let single = [AggregateMode::Single, AggregateMode::SinglePartitioned];
        let groups = exec.group_expr();
        let is_plain = single.contains(exec.mode())
            && groups.is_single()
            && !groups.is_empty()
            && exec.limit_options().is_none();
        if !is_plain {
            return None;
        }
        let by: Vec<_> = groups.expr().iter().map(|(by, _)| Arc::clone(by)).collect();
        let rows = exec.input().schema();
        let types = by.iter().map(|by| by.data_type(&rows));
        let types = types.collect::<Result<Vec<_>, _>>().ok()?;
        let each = exec.aggr_expr().iter().zip(exec.filter_expr());
        let aggregates = each.map(|(function, filter)| {
            let fits = function.order_bys().is_empty() && function.groups_accumulator_supported();
            fits.then(|| Aggregate {
                function: Arc::clone(function),
                of: function.expressions(),
                filter: filter.clone(),
            })
        });
        Some(Groups {
            input: Direct::of(exec.input(), slots)?,
            by,
            comparing: comparing(&types)?,
            aggregates: aggregates.collect::<Option<_>>()?,
            schema: exec.schema(),
        })
    }

    pub(super) fn rows(&self) -> usize {
        self.input.rows()
    }

    pub(super) fn whole(&self) -> Result<RecordBatch, Left> {
        let rows = self.input.whole()?;
        if rows.num_rows() == 0 {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        let by = evaluate(&self.by, &rows)?;
        let keys = self.comparing.convert_columns(&by)?;
        let mut numbers: HashMap<Row<'_>, usize> = HashMap::new();
        // The group of each row, and the first row of each group.
        let (mut groups, mut firsts) = (Vec::with_capacity(rows.num_rows()), Vec::new());
        for (at, key) in (0u32..).zip(keys.iter()) {
            let group = *numbers.entry(key).or_insert_with(|| {
                firsts.push(at);
                firsts.len() - 1
            });
            groups.push(group);
        }
        let firsts = UInt32Array::from(firsts);
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for by in &by {
            columns.push(take(by, &firsts, None)?);
        }
        for aggregate in &self.aggregates {
            columns.push(aggregate.of_groups(&rows, &groups, firsts.len())?);
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }
}

impl Aggregate {
    fn of_groups(
        &self,
        rows: &RecordBatch,
        groups: &[usize],
        count: usize,
    ) -> Result<ArrayRef, DataFusionError> {
        let values = evaluate(&self.of, rows)?;
        let mut counted: Option<BooleanArray> = None;
        if let Some(filter) = &self.filter {
            let holds = filter.evaluate(rows)?.into_array(rows.num_rows())?;
            let holds = holds.as_boolean_opt().ok_or_else(|| {
                DataFusionError::Internal("a condition that is not true or false".into())
            })?;
            counted = Some(holds.clone());
        }
        let mut accumulator = self.function.create_groups_accumulator()?;
        accumulator.update_batch(&values, groups, counted.as_ref(), count)?;
        accumulator.evaluate(EmitTo::All)
    }
}
