//! Files say nothing of their order, and mostly are in that of their keys: what groups the rows of a file is first tried as if they came
//! in the order of the groups. Each row is compared with the one before; at the first that is out of order the attempt ends, and the rows
//! are grouped as the engine does. Nothing is handed on before it is known that the attempt succeeds.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, DynComparator, RecordBatch, make_comparator,
};
use datafusion::arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::execution_plan::ChildrenPropertiesMode;
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, ReplaceChildrenOptions, reset_plan_states,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, InputOrderMode,
    Partitioning, PlanProperties,
};
use futures::{StreamExt, TryStreamExt};

use super::{ascending, is_one_stream, runs};

/// How many rows of an answer wait for the end of an attempt; with more it is given up.
const ROWS_KEPT_MAX: usize = 100_000;

/// A plan that tries whether files are in the order of its groups; the same plan where it has none.
pub(super) fn guessed(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let fast = Arc::clone(&plan).transform_up(|plan| {
        let better = match plan.downcast_ref::<AggregateExec>() {
            Some(groups) => as_if_ordered(groups)?,
            None => None,
        };
        Ok(match better {
            Some(better) => Transformed::yes(better),
            None => Transformed::no(plan),
        })
    })?;
    if !fast.transformed || !is_one_stream(&plan) {
        return Ok(plan);
    }
    Ok(Arc::new(Guess::new(fast.data, plan)))
}

/// Groups of a file's rows, as runs; None for other groups.
fn as_if_ordered(groups: &AggregateExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let input = groups.input();
    let schema = input.schema();
    let plain = |expr: &Arc<dyn PhysicalExpr>| {
        let comparable = |data_type: &DataType| {
            data_type.is_integer()
                || matches!(
                    data_type,
                    DataType::Date32
                        | DataType::Utf8
                        | DataType::Utf8View
                        | DataType::Timestamp(..)
                )
        };
        expr.downcast_ref::<Column>().is_some()
            && expr
                .data_type(&schema)
                .is_ok_and(|data_type| comparable(&data_type))
    };
    let by = groups.group_expr().input_exprs();
    let unknown = *groups.input_order_mode() == InputOrderMode::Linear;
    if !unknown || !is_file(input) || !by.iter().all(plain) {
        return Ok(None);
    }
    let assumed: Arc<dyn ExecutionPlan> = Arc::new(Assumed::new(input, by)?);
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    let groups: Arc<dyn ExecutionPlan> = Arc::new(groups.clone());
    let groups = groups.replace_children(vec![assumed], options)?;
    Ok(groups.downcast_ref::<AggregateExec>().and_then(runs))
}

/// Whether a plan gives the rows of a file in their order, some of them or all.
fn is_file(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if let Some(source) = plan.downcast_ref::<DataSourceExec>() {
        let is_file = source
            .data_source()
            .downcast_ref::<FileScanConfig>()
            .is_some();
        return is_file && is_one_stream(plan);
    }
    let children = plan.children();
    let keeps_order = plan.maintains_input_order().iter().all(|&keeps| keeps);
    match children.as_slice() {
        [one] => keeps_order && plan.downcast_ref::<AggregateExec>().is_none() && is_file(one),
        _ => false,
    }
}

/// Rows are not in the order that was assumed.
#[derive(Debug, thiserror::Error)]
#[error("the rows are in another order")]
struct OutOfOrder;

fn is_out_of_order(error: &DataFusionError) -> bool {
    match error.find_root() {
        DataFusionError::External(error) => error.is::<OutOfOrder>(),
        _ => false,
    }
}

/// Hands rows on as long as they come in an order.
#[derive(Debug)]
struct Assumed {
    input: Arc<dyn ExecutionPlan>,
    by: Vec<Arc<dyn PhysicalExpr>>,
    properties: Arc<PlanProperties>,
}

impl Assumed {
    fn new(input: &Arc<dyn ExecutionPlan>, by: Vec<Arc<dyn PhysicalExpr>>) -> Result<Assumed> {
        let mut equivalences = input.equivalence_properties().clone();
        let order = by.iter();
        equivalences
            .add_ordering(order.map(|by| PhysicalSortExpr::new(Arc::clone(by), ascending())));
        let properties = PlanProperties::new(
            equivalences,
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(Assumed {
            input: Arc::clone(input),
            by,
            properties: Arc::new(properties),
        })
    }
}

/// How two rows of a batch compare in one column.
enum Rows<'a> {
    Long(&'a [i64]),
    Int(&'a [i32]),
    Other(DynComparator),
}

impl Rows<'_> {
    fn of(column: &ArrayRef) -> Result<Rows<'_>> {
        if column.null_count() == 0 {
            if let Some(values) = column.as_primitive_opt::<Int64Type>() {
                return Ok(Rows::Long(values.values()));
            }
            if let Some(values) = column.as_primitive_opt::<Int32Type>() {
                return Ok(Rows::Int(values.values()));
            }
        }
        Ok(Rows::Other(make_comparator(column, column, ascending())?))
    }

    fn compare(&self, row: usize, next: usize) -> Ordering {
        match self {
            Rows::Long(values) => values[row].cmp(&values[next]),
            Rows::Int(values) => values[row].cmp(&values[next]),
            Rows::Other(compare) => compare(row, next),
        }
    }
}

/// Whether the rows of a batch come in the order of some of its columns, after the last row of the batch before.
fn in_order(last: &[ArrayRef], columns: &[ArrayRef]) -> Result<bool> {
    for (last, column) in last.iter().zip(columns) {
        match make_comparator(last, column, ascending())?(last.len() - 1, 0) {
            Ordering::Less => break,
            Ordering::Equal => {}
            Ordering::Greater => return Ok(false),
        }
    }
    let rows: Vec<Rows<'_>> = columns.iter().map(Rows::of).collect::<Result<_>>()?;
    let count = columns.first().map_or(0, |column| column.len());
    Ok((1..count).all(|next| {
        let orders = rows.iter().map(|rows| rows.compare(next - 1, next));
        let first = orders.into_iter().find(|order| order.is_ne());
        first != Some(Ordering::Greater)
    }))
}

impl DisplayAs for Assumed {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by: Vec<String> = self.by.iter().map(ToString::to_string).collect();
        write!(f, "Assumed: order=[{}]", by.join(", "))
    }
}

impl ExecutionPlan for Assumed {
    fn name(&self) -> &str {
        "Assumed"
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
        for by in &self.by {
            if f(by)? == TreeNodeRecursion::Stop {
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
        let input = input.ok_or_else(|| DataFusionError::Internal("rows of nothing".into()))?;
        Ok(Arc::new(Assumed::new(&input, self.by.clone())?))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let input = self.input.execute(partition, context)?;
        let by = self.by.clone();
        let mut last: Vec<ArrayRef> = Vec::new();
        let batches = input.map(move |batch| {
            let batch = batch?;
            let rows = batch.num_rows();
            if rows == 0 {
                return Ok(batch);
            }
            let column = |by: &Arc<dyn PhysicalExpr>| by.evaluate(&batch)?.into_array(rows);
            let columns: Vec<ArrayRef> = by.iter().map(column).collect::<Result<_>>()?;
            if !in_order(&last, &columns)? {
                return Err(DataFusionError::External(Box::new(OutOfOrder)));
            }
            last = columns
                .iter()
                .map(|column| column.slice(rows - 1, 1))
                .collect();
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.schema(),
            batches,
        )))
    }
}

/// A plan that may turn out not to be possible, and another one for that case.
#[derive(Debug)]
struct Guess {
    fast: Arc<dyn ExecutionPlan>,
    slow: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl Guess {
    fn new(fast: Arc<dyn ExecutionPlan>, slow: Arc<dyn ExecutionPlan>) -> Guess {
        let properties = PlanProperties::new(
            slow.equivalence_properties().clone(),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Guess {
            fast,
            slow,
            properties: Arc::new(properties),
        }
    }
}

/// The whole answer of a plan; None where rows are out of order, or it is too much to be kept.
async fn answer(mut stream: SendableRecordBatchStream) -> Result<Option<Vec<RecordBatch>>> {
    let (mut kept, mut rows) = (Vec::new(), 0);
    while let Some(batch) = stream.next().await {
        let batch = match batch {
            Err(error) if is_out_of_order(&error) => return Ok(None),
            batch => batch?,
        };
        rows += batch.num_rows();
        if rows > ROWS_KEPT_MAX {
            return Ok(None);
        }
        kept.push(batch);
    }
    Ok(Some(kept))
}

impl DisplayAs for Guess {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guess: the first, or else the second")
    }
}

impl ExecutionPlan for Guess {
    fn name(&self) -> &str {
        "Guess"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.fast, &self.slow]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let [fast, slow] = <[_; 2]>::try_from(children)
            .map_err(|_| DataFusionError::Internal("a guess has two plans".into()))?;
        Ok(Arc::new(Guess::new(fast, slow)))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let fast = self.fast.execute(partition, Arc::clone(&context))?;
        let slow = Arc::clone(&self.slow);
        let schema = self.schema();
        let batches = futures::stream::once(async move {
            if let Some(kept) = answer(fast).await? {
                let kept = futures::stream::iter(kept.into_iter().map(Ok));
                let kept = RecordBatchStreamAdapter::new(schema, kept);
                return Ok(Box::pin(kept) as SendableRecordBatchStream);
            }
            // What the two share may have begun to run.
            reset_plan_states(slow)?.execute(partition, context)
        });
        let batches = batches.try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.schema(),
            batches,
        )))
    }
}
