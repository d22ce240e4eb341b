//! What a lifted scan reads: rows that are put into a slot before each run of the cached plan.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};

use crate::judge::JudgeError;
use crate::plan::lifting::COMMIT;

/// How many rows a batch has at most.
const BATCH_ROWS: usize = 8192;

/// The rows that stand for one scan of a lifted plan.
#[derive(Debug)]
pub(super) struct Slot {
    /// The scanned table's columns and the commit.
    whole: SchemaRef,
    /// The columns that the scan reads, and the commit.
    read: SchemaRef,
    rows: Mutex<Option<RecordBatch>>,
}

impl Slot {
    /// An empty slot for a scan of some of a table's columns.
    pub(super) fn new(table: &SchemaRef, projection: &[usize]) -> Arc<Self> {
        let commit = Arc::new(Field::new(COMMIT, ArrowType::Int64, false));
        let with_commit = |fields: Vec<Arc<Field>>| {
            let fields: Vec<_> = fields.into_iter().chain([Arc::clone(&commit)]).collect();
            Arc::new(Schema::new(fields))
        };
        let own = table.fields();
        Arc::new(Slot {
            whole: with_commit(own.iter().cloned().collect()),
            read: with_commit(projection.iter().map(|&at| Arc::clone(&own[at])).collect()),
            rows: Mutex::new(None),
        })
    }

    /// The columns that the scan reads, and the commit.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.read
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        let rows = self.rows.lock().expect("no holder panics");
        rows.as_ref().map_or(0, RecordBatch::num_rows)
    }

    /// The rows in one batch.
    pub(super) fn whole(&self) -> RecordBatch {
        let rows = self.rows.lock().expect("no holder panics").clone();
        rows.unwrap_or_else(|| RecordBatch::new_empty(Arc::clone(&self.read)))
    }

    /// The rows, in batches.
    pub(super) fn slices(&self) -> Vec<RecordBatch> {
        let rows = self.rows.lock().expect("no holder panics");
        let slices = rows.iter().flat_map(|rows| {
            let starts = (0..rows.num_rows()).step_by(BATCH_ROWS);
            starts.map(|start| rows.slice(start, BATCH_ROWS.min(rows.num_rows() - start)))
        });
        slices.collect()
    }

    /// Puts rows in the place of those that were there: the columns that the scan reads, and the commit of each row.
    pub(super) fn fill(
        &self,
        mut columns: Vec<ArrayRef>,
        commits: Vec<i64>,
    ) -> Result<(), JudgeError> {
        columns.push(Arc::new(Int64Array::from(commits)));
        // A column's type grows with the values seen, so a plan may be too old for its rows.
        let rows = RecordBatch::try_new(Arc::clone(&self.read), columns);
        *self.rows.lock().expect("no holder panics") = Some(rows.map_err(JudgeError::engine)?);
        Ok(())
    }
}

/// A slot as the planner sees it. It promises nothing about its rows: no statistics, no constraints, no order, no filters.
#[derive(Debug)]
pub(super) struct SlotTable(pub(super) Arc<Slot>);

#[async_trait]
impl TableProvider for SlotTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0.whole)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let wanted = projection.map_or(self.0.whole.fields().len(), Vec::len);
        assert_eq!(
            wanted,
            self.0.read.fields().len(),
            "a lifted plan is not optimised again"
        );
        Ok(Arc::new(StreamingTableExec::try_new(
            Arc::clone(&self.0.read),
            vec![Arc::new(SlotStream(Arc::clone(&self.0)))],
            None,
            [],
            false,
            limit,
        )?))
    }
}

#[derive(Debug)]
struct SlotStream(Arc<Slot>);

impl PartitionStream for SlotStream {
    fn schema(&self) -> &SchemaRef {
        &self.0.read
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let stream = futures::stream::iter(self.0.slices().into_iter().map(Ok));
        Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.0.read),
            stream,
        ))
    }
}
