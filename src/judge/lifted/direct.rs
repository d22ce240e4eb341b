//! Plans that are evaluated directly: filters, projections, joins and groups over what slots hold. A batch of commits has few rows, and to
//! make the engine's streams for them costs more than to evaluate their expressions, which are the same ones here, as are the aggregates.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::arrow::datatypes::{DataType as ArrowType, SchemaRef};
use datafusion::arrow::row::{RowConverter, SortField};
use datafusion::error::DataFusionError;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::streaming::StreamingTableExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use super::keys::can_be_key;
use super::slot::Slot;
use groups::Groups;
use join::Join;

mod groups;
mod join;
#[cfg(test)]
mod tests;

/// Where rows come from, and what they go through.
pub(super) struct Direct {
    origin: Origin,
    /// In the order in which rows go through them.
    steps: Vec<Step>,
    /// What comes out.
    schema: SchemaRef,
}

enum Origin {
    Slot(Arc<Slot>),
    Join(Box<Join>),
    Groups(Box<Groups>),
}

enum Step {
    Filter {
        predicate: Arc<dyn PhysicalExpr>,
        columns: Option<Vec<usize>>,
    },
    Project {
        exprs: Vec<ProjectionExpr>,
        schema: SchemaRef,
    },
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Left {
    /// The engine says so, and would say so itself.
    Engine(DataFusionError),
    /// Too many pairs meet in a join: the engine takes them piece by piece.
    TooMany,
}

impl<E: Into<DataFusionError>> From<E> for Left {
    fn from(error: E) -> Self {
        Left::Engine(error.into())
    }
}

impl Direct {
    /// What a plan over some slots does; None for plans with anything else in them.
    pub(super) fn of(plan: &Arc<dyn ExecutionPlan>, slots: &[Arc<Slot>]) -> Option<Self> {
        let schema = plan.schema();
        let mut steps = Vec::new();
        let mut plan = plan;
        let origin = loop {
            if plan.fetch().is_some() {
                return None;
            }
            if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
                steps.push(Step::Project {
                    exprs: projection.expr().to_vec(),
                    schema: plan.schema(),
                });
                plan = projection.input();
            } else if let Some(filter) = plan.downcast_ref::<FilterExec>() {
                steps.push(Step::Filter {
                    predicate: Arc::clone(filter.predicate()),
                    columns: filter.projection().as_ref().map(|columns| columns.to_vec()),
                });
                plan = filter.input();
            } else if let Some(cooperative) = plan.downcast_ref::<CooperativeExec>() {
                plan = cooperative.input();
            } else if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
                break Origin::Join(Box::new(Join::of(join, slots)?));
            } else if let Some(groups) = plan.downcast_ref::<AggregateExec>() {
                break Origin::Groups(Box::new(Groups::of(groups, slots)?));
            } else {
                let scan = plan.downcast_ref::<StreamingTableExec>()?;
                // The scan gives the columns of its slot as they are.
                if scan.limit().is_some() || scan.schema() != *scan.partition_schema() {
                    return None;
                }
                let own = |slot: &&Arc<Slot>| Arc::ptr_eq(slot.schema(), scan.partition_schema());
                break Origin::Slot(Arc::clone(slots.iter().find(own)?));
            }
        };
        steps.reverse();
        Some(Direct {
            origin,
            steps,
            schema,
        })
    }

    /// The slot, where rows of one slot go through steps and no more: each row by itself.
    pub(super) fn slot(&self) -> Option<&Slot> {
        match &self.origin {
            Origin::Slot(slot) => Some(slot),
            _ => None,
        }
    }

    /// How many rows all slots hold.
    pub(super) fn rows(&self) -> usize {
        match &self.origin {
            Origin::Slot(slot) => slot.rows(),
            Origin::Join(join) => join.rows(),
            Origin::Groups(groups) => groups.rows(),
        }
    }

    /// All that comes out.
    pub(super) fn whole(&self) -> Result<RecordBatch, Left> {
        let rows = match &self.origin {
            Origin::Slot(slot) => slot.whole(),
            Origin::Join(join) => join.whole()?,
            Origin::Groups(groups) => groups.whole()?,
        };
        Ok(self.through(rows)?)
    }

    /// What is left of some rows.
    pub(super) fn through(&self, mut rows: RecordBatch) -> Result<RecordBatch, DataFusionError> {
        for step in &self.steps {
            if rows.num_rows() == 0 {
                return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
            }
            rows = step.apply(&rows)?;
        }
        Ok(rows)
    }
}

impl Step {
    fn apply(&self, rows: &RecordBatch) -> Result<RecordBatch, DataFusionError> {
        let count = rows.num_rows();
        match self {
            Step::Filter { predicate, columns } => {
                let kept = predicate.evaluate(rows)?.into_array(count)?;
                let kept = kept.as_boolean_opt().ok_or_else(|| {
                    DataFusionError::Internal("a condition that is not true or false".into())
                })?;
                if kept.true_count() == 0 {
                    return Ok(rows.slice(0, 0));
                }
                match columns {
                    Some(columns) => Ok(filter_record_batch(&rows.project(columns)?, kept)?),
                    None => Ok(filter_record_batch(rows, kept)?),
                }
            }
            Step::Project { exprs, schema } => {
                let exprs: Vec<_> = exprs.iter().map(|one| Arc::clone(&one.expr)).collect();
                let arrays = evaluate(&exprs, rows)?;
                Ok(RecordBatch::try_new(Arc::clone(schema), arrays)?)
            }
        }
    }
}

/// The values of expressions over rows.
fn evaluate(
    exprs: &[Arc<dyn PhysicalExpr>],
    rows: &RecordBatch,
) -> Result<Vec<ArrayRef>, DataFusionError> {
    let evaluate = |one: &Arc<dyn PhysicalExpr>| one.evaluate(rows)?.into_array(rows.num_rows());
    exprs.iter().map(evaluate).collect()
}

/// What compares values of these types by their bytes; None where these do not tell whether SQL takes two values for equal.
fn comparing(types: &[ArrowType]) -> Option<RowConverter> {
    if !types.iter().all(can_be_key) {
        return None;
    }
    let fields = types.iter().cloned().map(SortField::new).collect();
    RowConverter::new(fields).ok()
}
