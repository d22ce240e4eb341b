//! Groups of rows that come in the order of what they are grouped by: each group is a run of neighbours.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::kernels::cmp::distinct;
use datafusion::arrow::compute::{partition, take};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::GroupsAccumulator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;
use futures::stream::try_unfold;

use super::first;

/// Aggregates over runs.
#[derive(Debug)]
pub(super) struct Runs {
    input: Arc<dyn ExecutionPlan>,
    groups: Vec<Arc<dyn PhysicalExpr>>,
    aggregates: Vec<Arc<AggregateFunctionExpr>>,
    filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
    properties: Arc<PlanProperties>,
}

impl Runs {
    /// The same as the engine's groups over an input that is in their order.
    pub(super) fn new(groups: &AggregateExec) -> Runs {
        Runs {
            input: Arc::clone(groups.input()),
            groups: groups.group_expr().input_exprs(),
            aggregates: groups.aggr_expr().to_vec(),
            filters: groups.filter_expr().to_vec(),
            properties: Arc::clone(groups.properties()),
        }
    }

    fn open(&self) -> Result<Open> {
        let sums = self.aggregates.iter().zip(&self.filters);
        let sum = |(aggregate, filter): (&Arc<AggregateFunctionExpr>, &Option<_>)| {
            Ok(Figure {
                figure: aggregate.create_groups_accumulator()?,
                arguments: aggregate.expressions(),
                filter: filter.clone(),
            })
        };
        Ok(Open {
            groups: self.groups.clone(),
            figures: sums.map(sum).collect::<Result<_>>()?,
            keys: Vec::new(),
            count: 0,
            places: Vec::new(),
            schema: self.schema(),
        })
    }
}

/// An aggregate on its way.
struct Figure {
    figure: Box<dyn GroupsAccumulator>,
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    filter: Option<Arc<dyn PhysicalExpr>>,
}

/// Runs that are not handed on yet: those of the last batch, of which the last may go on.
struct Open {
    groups: Vec<Arc<dyn PhysicalExpr>>,
    figures: Vec<Figure>,
    /// What they are grouped by, a row a run.
    keys: Vec<ArrayRef>,
    count: usize,
    /// The run of each row of a batch: kept for its room.
    places: Vec<usize>,
    schema: SchemaRef,
}

fn arrays(exprs: &[Arc<dyn PhysicalExpr>], batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
    let array = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(batch)?.into_array(batch.num_rows());
    exprs.iter().map(array).collect()
}

impl Open {
    /// Takes the next rows; gives the runs that they end.
    fn push(&mut self, batch: &RecordBatch) -> Result<Option<RecordBatch>> {
        let rows = batch.num_rows();
        if rows == 0 {
            return Ok(None);
        }
        let columns = arrays(&self.groups, batch)?;
        let ranges = partition(&columns)?.ranges();
        let goes_on = self.count > 0 && self.goes_on(&columns)?;
        let base = self.count - usize::from(goes_on);
        self.places.clear();
        for (run, range) in ranges.iter().enumerate() {
            self.places
                .extend(std::iter::repeat_n(base + run, range.len()));
        }
        let total = base + ranges.len();
        for figure in &mut self.figures {
            let values = arrays(&figure.arguments, batch)?;
            let filter = match &figure.filter {
                Some(filter) => Some(filter.evaluate(batch)?.into_array(rows)?),
                None => None,
            };
            let filter: Option<&BooleanArray> = filter.as_ref().map(|filter| filter.as_boolean());
            figure
                .figure
                .update_batch(&values, &self.places, filter, total)?;
        }
        let new = ranges.len() - usize::from(goes_on);
        if new == 0 {
            return Ok(None);
        }
        let starts = match ranges.len() == rows {
            true => None,
            false => Some(ranges.iter().map(|range| range.start as u32).collect()),
        };
        let begun = |column: ArrayRef| -> Result<ArrayRef> {
            let starts: Option<&UInt32Array> = starts.as_ref();
            let all = starts.map_or(Ok(Arc::clone(&column)), |starts| {
                take(&column, starts, None)
            });
            let all = all?;
            Ok(all.slice(all.len() - new, new))
        };
        let begun: Vec<ArrayRef> = columns.into_iter().map(begun).collect::<Result<_>>()?;
        let done = self.count;
        let keys = std::mem::replace(&mut self.keys, begun);
        self.count = new;
        if done == 0 {
            return Ok(None);
        }
        self.emit(keys, done).map(Some)
    }

    /// Whether the first row belongs to the last run. NULL is a value like any other.
    fn goes_on(&self, columns: &[ArrayRef]) -> Result<bool> {
        for (keys, column) in self.keys.iter().zip(columns) {
            let (last, next) = (keys.slice(self.count - 1, 1), column.slice(0, 1));
            if distinct(&last, &next)?.value(0) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn emit(&mut self, keys: Vec<ArrayRef>, count: usize) -> Result<RecordBatch> {
        let mut columns = keys;
        for figure in &mut self.figures {
            columns.push(figure.figure.evaluate(first(count))?);
        }
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// The runs that are left at the end.
    fn finish(&mut self) -> Result<Option<RecordBatch>> {
        let count = std::mem::take(&mut self.count);
        let keys = std::mem::take(&mut self.keys);
        (count > 0).then(|| self.emit(keys, count)).transpose()
    }
}

impl DisplayAs for Runs {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<String> = self.groups.iter().map(ToString::to_string).collect();
        let figures: Vec<&str> = self.aggregates.iter().map(|one| one.name()).collect();
        write!(
            f,
            "Runs: by=[{}], of=[{}]",
            groups.join(", "),
            figures.join(", ")
        )
    }
}

impl ExecutionPlan for Runs {
    fn name(&self) -> &str {
        "Runs"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        let arguments = self.aggregates.iter().flat_map(|one| one.expressions());
        let filters = self.filters.iter().flatten().cloned();
        for expr in self.groups.iter().cloned().chain(arguments).chain(filters) {
            if f(&expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let input = children.pop();
        let input = input.ok_or_else(|| DataFusionError::Internal("runs of nothing".into()))?;
        Ok(Arc::new(Runs {
            input,
            groups: self.groups.clone(),
            aggregates: self.aggregates.clone(),
            filters: self.filters.clone(),
            properties: Arc::clone(&self.properties),
        }))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let state = Some((input, self.open()?));
        let batches = try_unfold(state, |state| async move {
            let Some((mut input, mut open)) = state else {
                return Ok(None);
            };
            while let Some(batch) = input.next().await {
                if let Some(done) = open.push(&batch?)? {
                    return Ok(Some((done, Some((input, open)))));
                }
            }
            Ok(open.finish()?.map(|last| (last, None)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.schema(),
            batches,
        )))
    }
}
