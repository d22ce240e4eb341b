//! Rules that follow a history: judged batch by batch at every commit, at a cost that follows the batch.

use std::sync::Arc;

use super::engine::Engine;
use super::lifted::{Standing, Stood, Summaries, Tuning};
use super::lives::Life;
use super::{Judge, JudgeError, Prepared};
use crate::change::Commit;
use crate::plan::{Compiled, Plan};

/// Rules that were judged at every commit up to a position.
pub struct Following<'a> {
    judge: &'a Judge,
    engine: Arc<Engine>,
    rules: Vec<Followed>,
}

/// One rule.
struct Followed {
    compiled: Arc<Compiled>,
    standing: Standing,
    tuning: Tuning,
}

impl Judge {
    /// Makes rules ready to follow the history from its start; nothing is judged yet.
    ///
    /// # Errors
    /// The id of the first rule that can only be judged in full, and why.
    pub fn follow(
        &self,
        rules: &[Prepared],
        tuning: &Tuning,
    ) -> Result<Following<'_>, (String, String)> {
        let engine = Arc::new(self.workshop.lifting_engine(
            &self.history,
            self.history.head(),
            None,
        ));
        let mut followed = Vec::new();
        for rule in rules {
            let refused = |reason: String| (rule.rule.id.clone(), reason);
            let Plan::Query(compiled) = &rule.plan else {
                return Err(refused("it is not judged by a query".into()));
            };
            let keep = Summaries::OfWholeTables;
            let standing = self
                .runtime()
                .block_on(Standing::plan(&engine, compiled, keep, tuning));
            followed.push(Followed {
                compiled: Arc::new(compiled.clone()),
                standing: standing.map_err(refused)?,
                tuning: tuning.clone(),
            });
        }
        Ok(Following {
            judge: self,
            engine,
            rules: followed,
        })
    }
}

impl Following<'_> {
    /// Judges all rules at the commits up to a position that were not judged yet.
    ///
    /// # Errors
    /// The first error of a rule. After it nothing is followed any more.
    pub fn advance(&mut self, until: Commit) -> Result<(), JudgeError> {
        let (judge, engine) = (self.judge, &self.engine);
        let rules = std::mem::take(&mut self.rules);
        self.rules = judge.runtime().block_on(async {
            let running: Vec<_> = rules
                .into_iter()
                .map(|rule| tokio::spawn(rule.advance(Arc::clone(engine), until)))
                .collect();
            let mut rules = Vec::new();
            for rule in running {
                let ended = |_| JudgeError::Engine("a judgement was cut off".into());
                rules.push(rule.await.map_err(ended)??);
            }
            Ok(rules)
        })?;
        Ok(())
    }

    /// The lives of a rule's violations so far, by onset and key; `at` is the rule's place among those that are followed.
    ///
    /// # Panics
    /// For a rule that is not followed.
    pub fn lives(&self, at: usize) -> Vec<Life> {
        let spans = self.rules[at].standing.spans().into_iter();
        spans.map(Life::from).collect()
    }
}

impl Followed {
    async fn advance(mut self, engine: Arc<Engine>, until: Commit) -> Result<Self, JudgeError> {
        let compiled = &self.compiled;
        if self.standing.advance(&engine, compiled, until).await? == Stood::TooHot {
            // From the start, with the aggregates of its groups as tables.
            let keep = Summaries::OfGroups;
            let again = Standing::plan(&engine, compiled, keep, &self.tuning).await;
            self.standing = again.map_err(JudgeError::Engine)?;
            self.standing.advance(&engine, compiled, until).await?;
        }
        Ok(self)
    }
}
