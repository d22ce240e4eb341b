//! What is wrong with some keys of a rule, and what each of them costs.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::collect::KeyBytes;
use super::{Judge, JudgeError, Options, Prepared, guard, query};
use crate::plan::Plan;

/// What is known of a key that is bad.
#[derive(Clone, Debug, PartialEq)]
pub struct Detail {
    /// The key in the form that sorts as its values do.
    pub order: Box<[u8]>,
    /// What is wrong with it.
    pub evidence: Map<String, Value>,
    /// What the rule's `impact` is for it, as decimal text.
    pub impact: Option<String>,
}

impl Judge {
    /// The details of those of some keys that violate a rule at a position.
    ///
    /// # Errors
    /// Why the rule cannot be judged there.
    pub(super) fn details(
        &self,
        prepared: &Prepared,
        keys: BTreeSet<KeyBytes>,
        options: &Options,
    ) -> Result<Vec<Detail>, JudgeError> {
        let (Plan::Query(compiled), Some(planned)) = (&prepared.plan, &prepared.planned) else {
            return Ok(Vec::new());
        };
        let engine = self.engine(options);
        if let Some(reason) = engine.cannot_judge(planned) {
            return Err(JudgeError::Unknown(reason));
        }
        let (planned, compiled) = (Arc::clone(planned), compiled.clone());
        let task = async move { query::details_of(&engine, &planned, &compiled, &keys).await };
        self.runtime().block_on(guard::guarded(&self.limits, task))
    }
}
