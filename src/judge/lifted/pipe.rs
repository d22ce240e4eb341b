//! Plans that are filters and projections over one slot: most rules over single rows. A batch has few rows, and to make the engine's
//! streams for them would cost more than to evaluate their expressions, which are the same ones here.

use std::sync::Arc;

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::streaming::StreamingTableExec;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr, execute_stream};
use futures::StreamExt;

use super::slot::Slot;
use crate::judge::JudgeError;
use crate::judge::engine::Engine;
use crate::judge::query::execution_error;

/// A plan that is run again and again, each time over other rows in its slots.
pub(super) struct Cached {
    plan: Arc<dyn ExecutionPlan>,
    /// What the plan does, where it is so simple.
    pipe: Option<Pipe>,
}

/// Takes in a batch of a plan's output.
pub(super) type Each<'a> = dyn FnMut(RecordBatch) -> Result<(), JudgeError> + Send + 'a;

impl Cached {
    /// A plan over some slots.
    pub(super) fn new(plan: Arc<dyn ExecutionPlan>, slots: &[Arc<Slot>]) -> Self {
        let pipe = match slots {
            [slot] => Pipe::of(&plan, slot),
            _ => None,
        };
        Cached { plan, pipe }
    }

    /// Runs it over what its slots hold.
    pub(super) async fn run(
        &self,
        engine: &Engine,
        reset: bool,
        each: &mut Each<'_>,
    ) -> Result<(), JudgeError> {
        if let Some(pipe) = &self.pipe {
            return pipe.run(each).await;
        }
        let mut plan = Arc::clone(&self.plan);
        if reset {
            // Joins keep their build side in a plan: without the reset a second run would see the rows of the first.
            plan = reset_plan_states(plan).map_err(JudgeError::engine)?;
        }
        let mut stream = execute_stream(plan, engine.task()).map_err(execution_error)?;
        while let Some(batch) = stream.next().await {
            each(batch.map_err(execution_error)?)?;
        }
        Ok(())
    }
}

/// Filters and projections over a slot.
struct Pipe {
    slot: Arc<Slot>,
    /// In the order in which rows go through them.
    steps: Vec<Step>,
}

enum Step {
    Filter {
        predicate: Arc<dyn PhysicalExpr>,
        columns: Option<Vec<usize>>,
    },
    Project {
        exprs: Vec<ProjectionExpr>,
        plan: Arc<dyn ExecutionPlan>,
    },
}

impl Pipe {
    /// The pipe that a plan is; None for other plans.
    fn of(plan: &Arc<dyn ExecutionPlan>, slot: &Arc<Slot>) -> Option<Self> {
        let mut steps = Vec::new();
        let mut plan = plan;
        loop {
            if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
                steps.push(Step::Project {
                    exprs: projection.expr().to_vec(),
                    plan: Arc::clone(plan),
                });
                plan = projection.input();
            } else if let Some(filter) = plan.downcast_ref::<FilterExec>() {
                if plan.fetch().is_some() {
                    return None;
                }
                steps.push(Step::Filter {
                    predicate: Arc::clone(filter.predicate()),
                    columns: filter.projection().as_ref().map(|columns| columns.to_vec()),
                });
                plan = filter.input();
            } else if let Some(cooperative) = plan.downcast_ref::<CooperativeExec>() {
                plan = cooperative.input();
            } else {
                let scan = plan.downcast_ref::<StreamingTableExec>()?;
                steps.reverse();
                // The scan gives the columns of its slot as they are.
                let is_whole = scan.limit().is_none() && scan.schema() == *slot.schema();
                return is_whole.then(|| Pipe {
                    slot: Arc::clone(slot),
                    steps,
                });
            }
        }
    }

    async fn run(&self, each: &mut Each<'_>) -> Result<(), JudgeError> {
        for (number, rows) in self.slot.slices().into_iter().enumerate() {
            if number > 0 {
                // Whoever watches over limits is let in.
                tokio::task::yield_now().await;
            }
            if let Some(found) = self.through(rows).map_err(execution_error)? {
                each(found)?;
            }
        }
        Ok(())
    }

    /// What is left of some rows; None where nothing is.
    fn through(&self, mut rows: RecordBatch) -> Result<Option<RecordBatch>, DataFusionError> {
        for step in &self.steps {
            if rows.num_rows() == 0 {
                return Ok(None);
            }
            rows = step.apply(&rows)?;
        }
        Ok((rows.num_rows() > 0).then_some(rows))
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
            Step::Project { exprs, plan } => {
                let evaluate = |one: &ProjectionExpr| one.expr.evaluate(rows)?.into_array(count);
                let arrays = exprs.iter().map(evaluate).collect::<Result<Vec<_>, _>>()?;
                Ok(RecordBatch::try_new(plan.schema(), arrays)?)
            }
        }
    }
}
