//! The lives of violations: for every key of a rule, from which commit to which it was bad.
//!
//! [`Judge::lives_in_full`] judges the state after every commit that touched what the rule reads, one after the other, and takes the
//! differences: slow, and right by its plainness. What is faster has to give the same.
//!
//! *Now* after a commit is the timeline's now there, or `--now` throughout. At position 0, before which nothing has a time, it is the first
//! commit's: there the violations of that state are said to begin.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::collect::{self, Encoder, Keep, KeyBytes};
use super::lifted::{self, Tuning};
use super::named::{at, commit_column};
use super::{Judge, JudgeError, Options, Prepared, Work, guard, metric, query};
use crate::change::Commit;
use crate::plan::{Compiled, Judged, Plan};
use crate::rule::{Rule, Threshold};
use crate::state::History;

/// The most lives of one rule; more is a limit.
const LIVES_MAX: usize = 1_000_000;

/// One unbroken interval in which one key violates a rule: in every state from `onset` to before `healed`.
#[derive(Clone, Debug, PartialEq)]
pub struct Life {
    /// Key columns and values in key order.
    pub key: Map<String, Value>,
    /// The key in a form that sorts as its values do, NULL last; equal for equal keys of one rule.
    pub order: Box<[u8]>,
    /// The commit at which it begins; the first position that was judged (0) where it was bad in that state already.
    pub onset: Commit,
    /// The commit that healed it; None while it is bad at the end.
    pub healed: Option<Commit>,
}

/// How much of the history was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Looked {
    /// Every state: no onset and no heal is missing.
    Everywhere,
    /// Some states only: what began and healed between two of them was not seen.
    Sampled {
        /// Commits whose states were not judged, though they may have changed the answer.
        passed_over: u64,
        /// Onsets of which only is known that they lie after another position, which is given with them.
        vague: BTreeMap<Commit, Commit>,
    },
}

/// All lives of one rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Lives {
    /// The intervals, by onset and key. With checks of writes, one for every illegal write of a key; they never heal.
    pub intervals: Vec<Life>,
    /// How many states were judged; for checks of writes, how many commits.
    pub judged_states: u64,
    /// Subjects judged from that commit on, in commit order; only where a threshold in percent needs it.
    pub judged: Option<Vec<(Commit, u64)>>,
    /// Whether every state was looked at.
    pub looked: Looked,
}

impl From<lifted::Span> for Life {
    fn from(span: lifted::Span) -> Self {
        Life {
            key: span.key,
            order: span.order,
            onset: span.onset,
            healed: span.healed,
        }
    }
}

impl Lives {
    /// The same as if position `from` were the first: what is bad there begins there.
    fn from(mut self, from: Commit) -> Self {
        let lasts = |life: &Life| life.healed.is_none_or(|healed| healed > from);
        self.intervals.retain(lasts);
        for life in &mut self.intervals {
            life.onset = life.onset.max(from);
        }
        let order = |life: &Life| (life.onset, life.order.clone());
        self.intervals.sort_by_cached_key(order);
        if let Some(judged) = &mut self.judged {
            let earlier = judged.partition_point(|(commit, _)| *commit <= from);
            judged.drain(..earlier.saturating_sub(1));
            if let Some((commit, _)) = judged.first_mut() {
                *commit = from.max(*commit);
            }
        }
        self
    }
}

impl Judge {
    /// The lives of a rule's violations from position 0 to `until`.
    ///
    /// # Errors
    /// When some state cannot be judged; the text says which.
    pub fn lives(
        &self,
        prepared: &Prepared,
        until: Commit,
        options: &Options,
    ) -> Result<Lives, JudgeError> {
        self.lives_from(prepared, 0, until, options)
    }

    /// The lives of a rule whose plan is local, from one query over all versions of the rows; None for rules that can only be
    /// judged in full.
    ///
    /// # Errors
    /// As for [`Judge::lives`].
    pub fn lives_lifted(
        &self,
        prepared: &Prepared,
        until: Commit,
        options: &Options,
    ) -> Result<Option<Lives>, JudgeError> {
        self.lives_in_batches(prepared, &[until], options, &Tuning::default())
    }

    /// The same, batch by batch: as when the history is watched while it grows. `batches` are the last commits of the batches, in
    /// ascending order; with the last of them the lives end.
    ///
    /// # Errors
    /// As for [`Judge::lives`].
    pub fn lives_in_batches(
        &self,
        prepared: &Prepared,
        batches: &[Commit],
        options: &Options,
        tuning: &Tuning,
    ) -> Result<Option<Lives>, JudgeError> {
        let Some(&until) = batches.last() else {
            return Ok(None);
        };
        if !prepared.can_be_lifted(&self.history) {
            return Ok(None);
        }
        let options = Options {
            position: until,
            sample: None,
            ..options.clone()
        };
        let work = Work {
            engine: Arc::new(
                self.workshop
                    .lifting_engine(&self.history, until, options.now_us),
            ),
            workshop: self.workshop.clone(),
            history: Arc::clone(&self.history),
            rule: Arc::new(prepared.clone()),
            options,
        };
        self.runtime().block_on(guard::guarded(&self.limits, {
            let (batches, tuning) = (batches.to_vec(), tuning.clone());
            async move { work.lives_lifted(&batches, &tuning).await }
        }))
    }

    /// The same from a later position on: what is bad there begins there.
    ///
    /// # Errors
    /// As for [`Judge::lives`].
    pub fn lives_from(
        &self,
        prepared: &Prepared,
        from: Commit,
        until: Commit,
        options: &Options,
    ) -> Result<Lives, JudgeError> {
        match self.lives_lifted(prepared, until, options)? {
            Some(lives) => Ok(lives.from(from)),
            None => self.lives_sampled(prepared, from, until, options, None),
        }
    }

    /// The lives of a rule's violations between two positions, from full judgements of the state after every commit that touched what
    /// the rule reads.
    ///
    /// # Errors
    /// As for [`Judge::lives`].
    pub fn lives_in_full(
        &self,
        prepared: &Prepared,
        from: Commit,
        until: Commit,
        options: &Options,
    ) -> Result<Lives, JudgeError> {
        self.lives_of_some(prepared, from, until, options, usize::MAX)
    }

    /// The same from so many full judgements at the most: some states of the range, and then those between which the answer differs, by
    /// halves. Without a number as many as are bearable: where that is every state, nothing is left out.
    ///
    /// # Errors
    /// As for [`Judge::lives`].
    pub fn lives_sampled(
        &self,
        prepared: &Prepared,
        from: Commit,
        until: Commit,
        options: &Options,
        most: Option<usize>,
    ) -> Result<Lives, JudgeError> {
        let most = most.unwrap_or_else(|| self.bearable(prepared));
        self.lives_of_some(prepared, from, until, options, most)
    }

    fn lives_of_some(
        &self,
        prepared: &Prepared,
        from: Commit,
        until: Commit,
        options: &Options,
        most: usize,
    ) -> Result<Lives, JudgeError> {
        let options = Options {
            position: until,
            sample: None,
            ..options.clone()
        };
        let work = Work {
            engine: self.engine(&options),
            workshop: self.workshop.clone(),
            history: Arc::clone(&self.history),
            rule: Arc::new(prepared.clone()),
            options,
        };
        self.runtime()
            .block_on(guard::guarded(&self.limits, async move {
                work.lives(from, most).await
            }))
    }
}

/// What is bad in one state.
pub(super) struct State {
    pub(super) bad: BTreeMap<KeyBytes, Map<String, Value>>,
    /// Number of subjects, where it is asked for.
    judged: Option<u64>,
}

/// What became of keys from state to state.
#[derive(Default)]
pub(super) struct Course {
    open: BTreeMap<KeyBytes, Life>,
    intervals: Vec<Life>,
    judged: Vec<(Commit, u64)>,
    states: u64,
}

impl Course {
    /// Takes in a state; positions ascend.
    pub(super) fn add(&mut self, position: Commit, state: State) -> Result<(), JudgeError> {
        self.states += 1;
        self.judged
            .extend(state.judged.map(|count| (position, count)));
        let healed = |key: &&KeyBytes| !state.bad.contains_key(*key);
        let healed: Vec<KeyBytes> = self.open.keys().filter(healed).cloned().collect();
        for key in healed {
            self.intervals
                .extend(self.open.remove(&key).map(|mut life| {
                    life.healed = Some(position);
                    life
                }));
        }
        for (order, key) in state.bad {
            let begun = || Life {
                key,
                order: order.clone(),
                onset: position,
                healed: None,
            };
            self.open.entry(order.clone()).or_insert_with(begun);
        }
        if self.intervals.len() + self.open.len() > LIVES_MAX {
            return Err(JudgeError::Limit(format!(
                "more than {LIVES_MAX} violations began and healed"
            )));
        }
        Ok(())
    }
}

/// Whether the threshold needs the number of subjects after every commit.
fn in_percent(rule: &Rule) -> bool {
    matches!(
        rule.threshold.as_ref().map(|threshold| &threshold.value),
        Some(Threshold::MaxPercent(_))
    )
}

impl Prepared {
    /// Whether it is worth trying: a query over several states. A source without changes has one state, and only full judgement knows
    /// which relations it lacks.
    pub(super) fn can_be_lifted(&self, history: &History) -> bool {
        history.has_changes()
            && matches!(self.plan, Plan::Query(_))
            && !self.rule.check.judges_writes()
            && self.planned.is_some()
            && history.in_place.iter().all(Option::is_none)
    }
}

impl Work {
    async fn lives_lifted(
        self,
        batches: &[Commit],
        tuning: &Tuning,
    ) -> Result<Option<Lives>, JudgeError> {
        self.seen()?;
        let Plan::Query(compiled) = &self.rule.plan else {
            return Ok(None);
        };
        let Some((spans, states)) = lifted::judge(&self.engine, compiled, batches, tuning).await?
        else {
            return Ok(None);
        };
        let mut judged = Vec::new();
        if in_percent(&self.rule.rule) {
            let Judged::Query(sql) = &compiled.judged else {
                return Ok(None);
            };
            let Some(counts) = self.lifted_counts(sql, batches, tuning).await? else {
                return Ok(None);
            };
            judged = counts;
        }
        let intervals: Vec<Life> = spans.into_iter().map(Life::from).collect();
        if intervals.len() > LIVES_MAX {
            return Err(JudgeError::Limit(format!(
                "more than {LIVES_MAX} violations began and healed"
            )));
        }
        Ok(Some(self.finished(intervals, states, judged)))
    }

    /// A query that returns one number, after every commit that changed it.
    async fn lifted_counts(
        &self,
        sql: &str,
        batches: &[Commit],
        tuning: &Tuning,
    ) -> Result<Option<Vec<(Commit, u64)>>, JudgeError> {
        let Ok(planned) = self.engine.plan(sql).await else {
            return Ok(None);
        };
        let counted = Compiled {
            key: planned.output,
            evidence: Vec::new(),
            sql: sql.to_owned(),
            judged: Judged::Returned,
            impact: false,
            expand: crate::plan::Expand::None,
            members: None,
        };
        let Some((spans, _)) = lifted::judge(&self.engine, &counted, batches, tuning).await? else {
            return Ok(None);
        };
        let count = |span: &lifted::Span| span.key.values().next()?.as_u64();
        let counts = spans.iter();
        Ok(counts
            .map(|span| Some((span.onset, count(span)?)))
            .collect())
    }

    async fn lives(self, from: Commit, most: usize) -> Result<Lives, JudgeError> {
        self.seen()?;
        let from = self.history.seen_at_or_before(from);
        match &self.rule.plan {
            Plan::Refused(reason) => Err(JudgeError::Limit(reason.clone())),
            // A schema has no history: what is wrong with it was wrong at the start. Only the number of subjects changes.
            Plan::Shape { .. } => {
                let last = match in_percent(&self.rule.rule) {
                    true => self.options.position,
                    false => from,
                };
                let commits = self.history.commits().map(|(commit, _)| commit);
                let later = commits.filter(|commit| (from + 1..=last).contains(commit));
                let positions: Vec<Commit> = [from].into_iter().chain(later).collect();
                self.lives_at(&positions, most).await
            }
            Plan::Query(compiled) if self.rule.rule.check.judges_writes() => {
                self.lives_of_writes(compiled).await
            }
            Plan::Query(_) | Plan::Metric { .. } => {
                let mut positions = vec![from];
                positions.extend(self.turns().into_iter().filter(|commit| *commit > from));
                self.lives_at(&positions, most).await
            }
        }
    }

    /// The commits after which the verdict may differ from the one before: all of them where the clock has a say.
    fn turns(&self) -> Vec<Commit> {
        if self.rule.asks_for_the_time() && self.options.now_us.is_none() {
            let commits = self.history.commits().map(|(commit, _)| commit);
            commits
                .take_while(|commit| *commit <= self.options.position)
                .collect()
        } else {
            self.touching_commits()
        }
    }

    async fn lives_at(&self, positions: &[Commit], most: usize) -> Result<Lives, JudgeError> {
        if positions.len() > most {
            return self.lives_between(positions, most).await;
        }
        let mut course = Course::default();
        for &position in positions {
            course.add(position, self.state_at(position).await?)?;
        }
        Ok(self.finished_course(course))
    }

    /// The lives that follow from states in their order.
    pub(super) fn finished_course(&self, mut course: Course) -> Lives {
        course.intervals.extend(course.open.into_values());
        self.finished(course.intervals, course.states, course.judged)
    }

    fn finished(
        &self,
        mut intervals: Vec<Life>,
        judged_states: u64,
        judged: Vec<(Commit, u64)>,
    ) -> Lives {
        intervals.sort_by(|a, b| (a.onset, &a.order).cmp(&(b.onset, &b.order)));
        Lives {
            intervals,
            judged_states,
            judged: in_percent(&self.rule.rule).then_some(judged),
            looked: Looked::Everywhere,
        }
    }

    /// Judges the rule in full at another position.
    pub(super) async fn state_at(&self, position: Commit) -> Result<State, JudgeError> {
        let state = self.state_of(position).await;
        state.map_err(|error| at(position, error))
    }

    async fn state_of(&self, position: Commit) -> Result<State, JudgeError> {
        let is_first = position <= self.history.first;
        let first = || is_first.then(|| self.history.began(0)).flatten();
        let now = self
            .options
            .now_us
            .or_else(|| self.history.now_at(position))
            .or_else(first);
        let work = Work {
            engine: Arc::new(self.workshop.engine(&self.history, position, now)),
            workshop: self.workshop.clone(),
            history: Arc::clone(&self.history),
            rule: Arc::clone(&self.rule),
            options: Options {
                position,
                now_us: now,
                sample: None,
            },
        };
        match &self.rule.plan {
            Plan::Query(compiled) => work.state_of_query(compiled).await,
            Plan::Metric {
                sql,
                every_us,
                detect,
                judged,
            } => {
                let found = match work.metric(sql, *every_us, detect).await {
                    // A figure that was never seen before has not moved.
                    Err(JudgeError::Unknown(reason)) if reason == metric::TOO_SHORT => Vec::new(),
                    found => found?,
                };
                let whole = || (KeyBytes::default(), Map::new());
                Ok(State {
                    bad: found.first().map(|_| whole()).into_iter().collect(),
                    judged: work.count(judged, 0).await?,
                })
            }
            Plan::Shape { violations, judged } => {
                let key = |violation: &(String, Option<String>, Option<String>)| {
                    let violation = super::shape_violation(violation);
                    let order = Value::Object(violation.key.clone()).to_string();
                    (order.into_bytes().into_boxed_slice(), violation.key)
                };
                Ok(State {
                    bad: violations.iter().map(key).collect(),
                    judged: work.count(judged, 0).await?,
                })
            }
            Plan::Refused(reason) => Err(JudgeError::Limit(reason.clone())),
        }
    }

    async fn state_of_query(&self, compiled: &Compiled) -> Result<State, JudgeError> {
        let planned = self
            .engine
            .plan(&compiled.sql)
            .await
            .map_err(JudgeError::engine)?;
        if let Some(reason) = self.engine.cannot_judge(&planned) {
            return Err(JudgeError::Unknown(reason));
        }
        let found = query::collect(&self.engine, &planned, compiled, Keep::All).await?;
        let judged = self.count(&compiled.judged, found.rows).await?;
        let keys = found.kept.into_iter();
        Ok(State {
            bad: keys.map(|(order, found)| (order, found.key)).collect(),
            judged,
        })
    }

    /// The number of subjects, where the threshold needs it.
    async fn count(&self, judged: &Judged, returned: u64) -> Result<Option<u64>, JudgeError> {
        if !in_percent(&self.rule.rule) {
            return Ok(None);
        }
        self.judged(judged, returned).await.map(Some)
    }

    /// Every illegal write up to the position, from one query over all of them.
    async fn lives_of_writes(&self, compiled: &Compiled) -> Result<Lives, JudgeError> {
        if !self.history.has_changes() {
            return Err(JudgeError::Unknown(format!(
                "the source has no changes, so `{}` cannot be judged",
                self.rule.rule.check.kind()
            )));
        }
        let planned = self
            .engine
            .plan(&compiled.sql)
            .await
            .map_err(JudgeError::engine)?;
        if let Some(reason) = self.engine.cannot_judge(&planned) {
            return Err(JudgeError::Unknown(reason));
        }
        let commit_column = vec![commit_column(&self.rule.rule, compiled)?.to_owned()];
        let mut encoder = Encoder::default();
        let mut seen: BTreeSet<(Commit, KeyBytes)> = BTreeSet::new();
        let mut intervals = Vec::new();
        for batch in query::batches(&self.engine, &planned).await? {
            let keys = collect::arrays(&batch, &compiled.key)?;
            let commits = collect::arrays(&batch, &commit_column)?;
            let commits = collect::integers(&commits[0])?;
            let encoded = encoder.encode_keys(&keys, batch.num_rows())?;
            let keys = collect::shown(&batch, &compiled.key)?;
            for (row, order) in encoded.into_iter().enumerate() {
                let onset = Commit::try_from(commits.value(row)).unwrap_or(Commit::MAX);
                if !seen.insert((onset, order.clone())) {
                    continue;
                }
                let key = collect::object(&compiled.key, &keys, row)?;
                intervals.push(Life {
                    key,
                    order,
                    onset,
                    healed: None,
                });
            }
            if intervals.len() > LIVES_MAX {
                return Err(JudgeError::Limit(format!(
                    "more than {LIVES_MAX} illegal writes"
                )));
            }
        }
        let touching = self.touching_commits();
        let mut judged = Vec::new();
        if in_percent(&self.rule.rule) {
            for position in [0].into_iter().chain(touching.iter().copied()) {
                let engine = Arc::new(self.workshop.engine(&self.history, position, None));
                if let Judged::Query(sql) = &compiled.judged {
                    judged.push((position, query::count(&engine, sql).await?));
                }
            }
        }
        Ok(self.finished(intervals, touching.len() as u64, judged))
    }
}
