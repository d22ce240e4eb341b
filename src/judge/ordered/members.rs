//! The rows of one side of a join that have, or have not, an equal on the other side, by integer keys. Where both sides come in the order
//! of their keys they are merged; else the other side's keys are held in a set, packed into 64 bits each where they fit.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, AsArray, BooleanArray, BooleanBufferBuilder, Int64Array, RecordBatch,
};
use datafusion::arrow::buffer::BooleanBuffer;
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType, Int64Type};
use datafusion::common::JoinType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning,
    PlanProperties,
};
use futures::StreamExt;
use futures::stream::try_unfold;

use super::On;
use super::set::Set;

/// The rows of a side that have an equal on the other, or those that have none.
#[derive(Debug)]
pub(super) struct Members {
    /// The side whose rows are kept, and its keys.
    own: Arc<dyn ExecutionPlan>,
    own_keys: Vec<Arc<dyn PhysicalExpr>>,
    other: Arc<dyn ExecutionPlan>,
    other_keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Whether rows with an equal are kept, or those without.
    present: bool,
    how: How,
    properties: Arc<PlanProperties>,
}

/// How equals are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Both sides come in order.
    Merge,
    /// The other side is held.
    Set,
}

impl Members {
    /// None for joins of other kinds, and over other keys than 64-bit integers.
    pub(super) fn new(
        left: &Arc<dyn ExecutionPlan>,
        right: &Arc<dyn ExecutionPlan>,
        on: &On,
        join: JoinType,
        how: How,
    ) -> Option<Members> {
        let is_int = |plan: &Arc<dyn ExecutionPlan>, expr: &Arc<dyn PhysicalExpr>| {
            let data_type = expr.data_type(&plan.schema());
            data_type.is_ok_and(|data_type| data_type == DataType::Int64)
        };
        let ints = |(a, b): &(_, _)| is_int(left, a) && is_int(right, b);
        if !on.iter().all(ints) {
            return None;
        }
        let (of_left, of_right) = on.iter().cloned().unzip();
        let (is_left, present) = match join {
            JoinType::LeftSemi => (true, true),
            JoinType::LeftAnti => (true, false),
            JoinType::RightSemi => (false, true),
            JoinType::RightAnti => (false, false),
            _ => return None,
        };
        let (own, other, own_keys, other_keys) = match is_left {
            true => (left, right, of_left, of_right),
            false => (right, left, of_right, of_left),
        };
        let properties = PlanProperties::new(
            own.equivalence_properties().clone(),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Some(Members {
            own: Arc::clone(own),
            own_keys,
            other: Arc::clone(other),
            other_keys,
            present,
            how,
            properties: Arc::new(properties),
        })
    }
}

/// Keys of a batch: a column each.
pub(super) struct Key {
    pub(super) columns: Vec<Int64Array>,
    pub(super) rows: usize,
    /// Whether some of them holds a NULL.
    pub(super) nulls: bool,
}

impl Key {
    pub(super) fn of(exprs: &[Arc<dyn PhysicalExpr>], batch: &RecordBatch) -> Result<Key> {
        let column = |expr: &Arc<dyn PhysicalExpr>| {
            let array = expr.evaluate(batch)?.into_array(batch.num_rows())?;
            let ints = array.as_primitive_opt::<Int64Type>().cloned();
            ints.ok_or_else(|| DataFusionError::Internal("a key that is no integer".into()))
        };
        let columns: Vec<Int64Array> = exprs.iter().map(column).collect::<Result<_>>()?;
        Ok(Key {
            nulls: columns.iter().any(|column| column.null_count() > 0),
            columns,
            rows: batch.num_rows(),
        })
    }

    /// In the order in which the rows come: NULL is last.
    fn compare(&self, row: usize, other: &Key, at: usize) -> Ordering {
        for (a, b) in self.columns.iter().zip(&other.columns) {
            let order = match (a.is_null(row), b.is_null(at)) {
                (false, false) => a.value(row).cmp(&b.value(at)),
                (a, b) => a.cmp(&b),
            };
            if order != Ordering::Equal {
                return order;
            }
        }
        Ordering::Equal
    }

    /// NULL equals nothing.
    pub(super) fn has_null(&self, row: usize) -> bool {
        self.columns.iter().any(|column| column.is_null(row))
    }

    /// The values of a key of one column without NULL.
    fn plain(&self) -> Option<&[i64]> {
        match self.columns.as_slice() {
            [one] if !self.nulls => Some(one.values()),
            _ => None,
        }
    }
}

/// How far the other side was read.
struct Other {
    stream: SendableRecordBatchStream,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    /// None before the first batch and after the last.
    keys: Option<Key>,
    at: usize,
    ended: bool,
}

impl Other {
    /// Whether there is a row; reads the next batch where this one is used up.
    async fn has_row(&mut self) -> Result<bool> {
        while self.keys.as_ref().is_none_or(|keys| self.at >= keys.rows) {
            if self.ended {
                return Ok(false);
            }
            self.at = 0;
            self.keys = match self.stream.next().await {
                Some(batch) => Some(Key::of(&self.exprs, &batch?)?),
                None => None,
            };
            self.ended = self.keys.is_none();
        }
        Ok(true)
    }

    /// Says of rows, beginning with one, whether they have an equal, as far as this batch of the other side reaches. Gives the first row
    /// that needs the next batch.
    fn mark(&mut self, own: &Key, from: usize, found: &mut BooleanBufferBuilder) -> usize {
        let Some(keys) = &self.keys else { return from };
        if let (Some(own), Some(other)) = (own.plain(), keys.plain()) {
            return mark_plain(own, from, other, &mut self.at, found);
        }
        let mut row = from;
        while row < own.rows && self.at < keys.rows {
            match own.compare(row, keys, self.at) {
                Ordering::Greater => self.at += 1,
                order => {
                    found.append(order == Ordering::Equal && !own.has_null(row));
                    row += 1;
                }
            }
        }
        row
    }
}

/// The same for single keys without NULL.
fn mark_plain(
    own: &[i64],
    from: usize,
    other: &[i64],
    at: &mut usize,
    found: &mut BooleanBufferBuilder,
) -> usize {
    let mut row = from;
    while row < own.len() && *at < other.len() {
        let (a, b) = (own[row], other[*at]);
        if a > b {
            *at += 1;
        } else {
            found.append(a == b);
            row += 1;
        }
    }
    row
}

impl DisplayAs for Members {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.own_keys.iter().zip(&self.other_keys);
        let pairs: Vec<String> = pairs.map(|(a, b)| format!("{a} = {b}")).collect();
        let kept = if self.present { "present" } else { "missing" };
        write!(
            f,
            "Members: {kept}, by {:?}, on=[{}]",
            self.how,
            pairs.join(", ")
        )
    }
}

impl ExecutionPlan for Members {
    fn name(&self) -> &str {
        "Members"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.own, &self.other]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true, false]
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for expr in self.own_keys.iter().chain(&self.other_keys) {
            if f(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let [own, other] = <[_; 2]>::try_from(children)
            .map_err(|_| DataFusionError::Internal("two sides are compared".into()))?;
        Ok(Arc::new(Members {
            own,
            own_keys: self.own_keys.clone(),
            other,
            other_keys: self.other_keys.clone(),
            present: self.present,
            how: self.how,
            properties: Arc::clone(&self.properties),
        }))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let other = self.other.execute(partition, Arc::clone(&context))?;
        let finder = match self.how {
            How::Merge => Finder::Merge(Other {
                stream: other,
                exprs: self.other_keys.clone(),
                keys: None,
                at: 0,
                ended: false,
            }),
            How::Set => {
                let memory = MemoryConsumer::new("Members").register(context.memory_pool());
                Finder::Unread(other, self.other_keys.clone(), memory)
            }
        };
        let own = self.own.execute(partition, context)?;
        let keys = self.own_keys.clone();
        let present = self.present;
        let state = (own, finder, keys);
        let batches = try_unfold(state, move |(mut own, mut finder, keys)| async move {
            finder = finder.ready().await?;
            while let Some(batch) = own.next().await {
                let batch = batch?;
                let key = Key::of(&keys, &batch)?;
                let found = finder.find(&key).await?;
                let kept = if present { found } else { !&found };
                if kept.count_set_bits() > 0 {
                    let kept = filter_record_batch(&batch, &BooleanArray::new(kept, None))?;
                    return Ok(Some((kept, (own, finder, keys))));
                }
            }
            Ok(None)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.schema(),
            batches,
        )))
    }
}

/// Finds equals on the other side.
enum Finder {
    Merge(Other),
    /// What will be a set.
    Unread(
        SendableRecordBatchStream,
        Vec<Arc<dyn PhysicalExpr>>,
        MemoryReservation,
    ),
    Set {
        set: Set,
        /// What it has been allowed, given back with it.
        _memory: MemoryReservation,
    },
}

impl Finder {
    /// With everything read that has to be before the first row.
    async fn ready(self) -> Result<Finder> {
        let (mut stream, exprs, memory) = match self {
            Finder::Unread(stream, exprs, memory) => (stream, exprs, memory),
            ready => return Ok(ready),
        };
        let mut keys = Vec::new();
        while let Some(batch) = stream.next().await {
            let key = Key::of(&exprs, &batch?)?;
            memory.try_grow(key.rows * key.columns.len() * size_of::<i64>())?;
            keys.push(key);
        }
        let rows: usize = keys.iter().map(|key| key.rows).sum();
        memory.try_grow(Set::bytes(rows))?;
        let set = Set::of(exprs.len(), &keys);
        memory.shrink(memory.size().saturating_sub(Set::bytes(rows)));
        let _memory = memory;
        Ok(Finder::Set { set, _memory })
    }

    /// Which rows have an equal.
    async fn find(&mut self, key: &Key) -> Result<BooleanBuffer> {
        let other = match self {
            Finder::Set { set, .. } => return Ok(set.find(key)),
            Finder::Unread(..) => {
                return Err(DataFusionError::Internal("the keys were not read".into()));
            }
            Finder::Merge(other) => other,
        };
        let mut found = BooleanBufferBuilder::new(key.rows);
        let mut row = 0;
        while row < key.rows && other.has_row().await? {
            row = other.mark(key, row, &mut found);
        }
        found.append_n(key.rows - row, false);
        Ok(found.finish())
    }
}
