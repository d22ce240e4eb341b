//! Plans that are run again and again, each time over other rows in their slots.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::physical_plan::execution_plan::reset_plan_states;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;

use super::direct::{Direct, Left};
use super::slot::Slot;
use super::{Mistake, Tuning};
use crate::judge::JudgeError;
use crate::judge::engine::Engine;
use crate::judge::query::execution_error;

/// A plan that is run again and again, each time over other rows in its slots.
pub(super) struct Cached {
    plan: Arc<dyn ExecutionPlan>,
    /// The same, evaluated directly.
    direct: Option<Direct>,
    /// Over how many rows at most, where that is done at once.
    few_rows: usize,
}

/// Takes in a batch of a plan's output.
pub(super) type Each<'a> = dyn FnMut(RecordBatch) -> Result<(), JudgeError> + Send + 'a;

impl Cached {
    /// A plan over some slots.
    pub(super) fn new(plan: Arc<dyn ExecutionPlan>, slots: &[Arc<Slot>], tuning: &Tuning) -> Self {
        Cached {
            direct: Direct::of(&plan, slots),
            plan,
            // The mistake is one of the engine's plans.
            few_rows: match tuning.mistake {
                Some(Mistake::NoReset) => 0,
                _ => tuning.few_rows,
            },
        }
    }

    /// Runs it over what its slots hold.
    pub(super) async fn run(
        &self,
        engine: &Engine,
        reset: bool,
        each: &mut Each<'_>,
    ) -> Result<(), JudgeError> {
        if let Some(direct) = &self.direct {
            if let Some(slot) = direct.slot() {
                return piece_by_piece(direct, slot, each).await;
            }
            if direct.rows() <= self.few_rows {
                match direct.whole() {
                    Ok(found) => return each(found),
                    Err(Left::TooMany) => {}
                    Err(Left::Engine(error)) => return Err(execution_error(error)),
                }
            }
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

/// Filters and projections over one slot, whatever it holds.
async fn piece_by_piece(
    direct: &Direct,
    slot: &Slot,
    each: &mut Each<'_>,
) -> Result<(), JudgeError> {
    for (number, rows) in slot.slices().into_iter().enumerate() {
        if number > 0 {
            // Whoever watches over limits is let in.
            tokio::task::yield_now().await;
        }
        let found = direct.through(rows).map_err(execution_error)?;
        if found.num_rows() > 0 {
            each(found)?;
        }
    }
    Ok(())
}
