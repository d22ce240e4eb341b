//! Tables in chunks as the engine's: rows come in key order, which the engine is told, and a filter is asked before the columns that it
//! does not need are read.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt64Array};
use datafusion::arrow::compute::{SortOptions, filter_record_batch, prep_null_mask_filter};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Statistics};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};
use datafusion::physical_expr::{
    EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_optimizer::pruning::{PruningPredicate, PruningPredicateBuilder};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use datafusion::scalar::ScalarValue;

use crate::state::{Bounds, Chunks, engine_order};

/// How many rows a batch has at most.
const BATCH_ROWS: usize = 8192;

/// A table in chunks.
#[derive(Debug)]
pub(super) struct ChunkTable {
    chunks: Arc<dyn Chunks>,
}

impl ChunkTable {
    pub(super) fn new(chunks: &Arc<dyn Chunks>) -> Self {
        ChunkTable {
            chunks: Arc::clone(chunks),
        }
    }
}

/// Whether a filter says the same about a row wherever it is asked: it looks at nothing but the row.
fn only_of_the_row(filter: &Expr) -> bool {
    let foreign = filter.exists(|expr| {
        Ok(matches!(
            expr,
            Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::Placeholder(_)
                | Expr::ScalarVariable(..)
        ))
    });
    !foreign.unwrap_or(true) && !filter.is_volatile()
}

#[async_trait]
impl TableProvider for ChunkTable {
    fn schema(&self) -> SchemaRef {
        self.chunks.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.chunks.schema();
        let all = || (0..schema.fields().len()).collect();
        let columns = projection.cloned().unwrap_or_else(all);
        let filter = match conjunction(filters.to_vec()) {
            Some(filter) => {
                let named = DFSchema::try_from(Arc::clone(&schema))?;
                Some(Filter::new(
                    &state.create_physical_expr(filter, &named)?,
                    &schema,
                )?)
            }
            None => None,
        };
        Ok(Arc::new(ChunkScan::new(&self.chunks, columns, filter)?))
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let answer = |filter: &&Expr| match only_of_the_row(filter) {
            true => TableProviderFilterPushDown::Exact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(answer).collect())
    }
}

/// What the rows of a scan must fulfil.
#[derive(Clone, Debug)]
struct Filter {
    /// Over a batch of its own columns.
    test: Arc<dyn PhysicalExpr>,
    /// The table's columns that it looks at.
    columns: Vec<usize>,
    /// Over what is known of a part.
    bounds: Option<Arc<PruningPredicate>>,
}

/// What is known of the parts of a table.
struct Parts<'a>(&'a dyn Chunks);

impl Parts<'_> {
    fn bounds(&self, column: &datafusion::common::Column) -> Option<Bounds> {
        let at = self.0.schema().index_of(&column.name).ok()?;
        self.0.bounds(at)
    }
}

impl PruningStatistics for Parts<'_> {
    fn min_values(&self, column: &datafusion::common::Column) -> Option<ArrayRef> {
        Some(self.bounds(column)?.min)
    }

    fn max_values(&self, column: &datafusion::common::Column) -> Option<ArrayRef> {
        Some(self.bounds(column)?.max)
    }

    fn num_containers(&self) -> usize {
        self.0.parts().len()
    }

    fn null_counts(&self, column: &datafusion::common::Column) -> Option<ArrayRef> {
        Some(Arc::new(self.bounds(column)?.nulls))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = self.0.parts().iter().map(|(_, rows)| Some(*rows));
        Some(Arc::new(rows.collect::<UInt64Array>()))
    }

    fn contained(
        &self,
        _: &datafusion::common::Column,
        _: &HashSet<ScalarValue>,
    ) -> Option<BooleanArray> {
        None
    }
}

impl Filter {
    fn new(test: &Arc<dyn PhysicalExpr>, schema: &SchemaRef) -> Result<Filter> {
        let mut columns: Vec<usize> = collect_columns(test).iter().map(Column::index).collect();
        columns.sort_unstable();
        let own = schema.project(&columns)?;
        let bounds = PruningPredicateBuilder::new()
            .with_file_schema(Arc::clone(schema))
            .try_build(Arc::clone(test))
            .ok();
        let bounds = bounds.filter(|bounds| !bounds.always_true()).map(Arc::new);
        Ok(Filter {
            bounds,
            test: reassign_expr_columns(Arc::clone(test), &own)?,
            columns,
        })
    }

    /// The chunks of which some row may fulfil it.
    fn chunks(&self, chunks: &dyn Chunks) -> Result<Vec<usize>> {
        let Some(bounds) = &self.bounds else {
            return Ok((0..chunks.count()).collect());
        };
        let kept = bounds.prune(&Parts(chunks))?;
        let kept = chunks.parts().iter().zip(kept).filter(|(_, kept)| *kept);
        let mut kept: Vec<usize> = kept.map(|((chunk, _), _)| *chunk).collect();
        kept.dedup();
        Ok(kept)
    }

    /// The rows of a batch of its columns that fulfil it; None where all do.
    fn passed(&self, batch: &RecordBatch) -> Result<Option<BooleanArray>> {
        let answer = self.test.evaluate(batch)?.into_array(batch.num_rows())?;
        let answer = answer
            .as_boolean_opt()
            .ok_or_else(|| DataFusionError::Internal("a filter says yes or no".into()))?;
        let answer = match answer.null_count() {
            0 => answer.clone(),
            _ => prep_null_mask_filter(answer),
        };
        Ok((answer.true_count() < answer.len()).then_some(answer))
    }
}

/// Reads a table in chunks, in key order.
#[derive(Debug)]
pub(super) struct ChunkScan {
    chunks: Arc<dyn Chunks>,
    columns: Vec<usize>,
    filter: Option<Filter>,
    properties: Arc<PlanProperties>,
}

impl ChunkScan {
    fn new(
        chunks: &Arc<dyn Chunks>,
        columns: Vec<usize>,
        filter: Option<Filter>,
    ) -> Result<ChunkScan> {
        let schema = Arc::new(chunks.schema().project(&columns)?);
        let order = engine_order(chunks.table()).into_iter().map_while(|key| {
            let place = columns.iter().position(|&column| column == key)?;
            let column = Column::new(schema.field(place).name(), place);
            Some(PhysicalSortExpr::new(Arc::new(column), ascending()))
        });
        let orders: Vec<LexOrdering> = LexOrdering::new(order).into_iter().collect();
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(schema, orders),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Ok(ChunkScan {
            chunks: Arc::clone(chunks),
            columns,
            filter,
            properties: Arc::new(properties.with_scheduling_type(SchedulingType::Cooperative)),
        })
    }

    fn read(&self, chunk: usize, columns: &[usize]) -> Result<RecordBatch> {
        let batch = self.chunks.read(chunk, columns);
        batch.map_err(DataFusionError::External)
    }

    /// The rows of a chunk that fulfil the filter; None where there are none.
    fn batch(&self, chunk: usize) -> Result<Option<RecordBatch>> {
        let Some(filter) = &self.filter else {
            return self.read(chunk, &self.columns).map(Some);
        };
        let asked = self.read(chunk, &filter.columns)?;
        let passed = filter.passed(&asked)?;
        if passed
            .as_ref()
            .is_some_and(|passed| passed.true_count() == 0)
        {
            return Ok(None);
        }
        let batch = if self.columns == filter.columns {
            asked
        } else {
            self.read(chunk, &self.columns)?
        };
        Ok(Some(match passed {
            Some(passed) => filter_record_batch(&batch, &passed)?,
            None => batch,
        }))
    }
}

/// The direction of keys.
pub(super) fn ascending() -> SortOptions {
    SortOptions {
        descending: false,
        nulls_first: false,
    }
}

/// The rows of a chunk, a few at a time.
fn pieces(batch: RecordBatch) -> impl Iterator<Item = RecordBatch> {
    let rows = batch.num_rows();
    (0..rows)
        .step_by(BATCH_ROWS)
        .map(move |start| batch.slice(start, BATCH_ROWS.min(rows - start)))
}

impl DisplayAs for ChunkScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = &self.chunks.table().name;
        write!(
            f,
            "ChunkScan: {}, columns={:?}",
            table.short(),
            self.columns
        )?;
        match &self.filter {
            Some(filter) => write!(f, ", filter={}", filter.test),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for ChunkScan {
    fn name(&self) -> &str {
        "ChunkScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        match &self.filter {
            Some(filter) => f(&filter.test),
            None => Ok(TreeNodeRecursion::Continue),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let scan = ChunkScan {
            chunks: Arc::clone(&self.chunks),
            columns: self.columns.clone(),
            filter: self.filter.clone(),
            properties: Arc::clone(&self.properties),
        };
        let chunks = match &self.filter {
            Some(filter) => filter.chunks(self.chunks.as_ref())?,
            None => (0..self.chunks.count()).collect(),
        };
        let batches = chunks.into_iter().flat_map(move |chunk| {
            let (batch, error) = match scan.batch(chunk) {
                Ok(batch) => (batch, None),
                Err(error) => (None, Some(Err(error))),
            };
            batch.into_iter().flat_map(pieces).map(Ok).chain(error)
        });
        let stream = RecordBatchStreamAdapter::new(self.schema(), futures::stream::iter(batches));
        Ok(make_cooperative(Box::pin(stream)))
    }

    fn partition_statistics(&self, _: Option<usize>) -> Result<Arc<Statistics>> {
        let mut statistics = Statistics::new_unknown(&self.schema());
        let rows = (0..self.chunks.count())
            .map(|chunk| self.chunks.rows(chunk))
            .sum::<u64>();
        if let Ok(rows) = usize::try_from(rows) {
            statistics.num_rows = match self.filter {
                None => Precision::Exact(rows),
                Some(_) => Precision::Inexact(rows),
            };
        }
        Ok(Arc::new(statistics))
    }
}
