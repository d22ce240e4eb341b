//! Judging rules in full: the plan of each rule runs on the state at one position.
//!
//! [`Judge::prepare`] compiles and plans every rule and collects everything that is wrong with them; nothing is judged until all of them
//! fit. [`Judge::check`] then judges each within its limits: a rule that takes too long, needs too much memory, panics in the
//! engine or needs what is not known is `unknown` with the reason, and the others are judged (invariants 4, 5 and 10). DataFusion
//! is named in this module and in `plan` only.

mod ask;
mod bounded;
mod catalog;
mod checked;
mod chunks;
mod collect;
mod details;
mod engine;
mod follow;
mod functions;
mod gaps;
mod guard;
mod life;
mod lifted;
mod live;
mod lives;
mod metric;
mod mistakes;
mod named;
mod needs;
mod numbers;
mod ordered;
mod positions;
mod query;
mod regexes;
mod road;
mod sampled;
mod sums;
mod texts;

pub use ask::{OutputColumn, QueryError, Sink};
pub use details::Detail;
pub use engine::Limits;
pub use follow::Following;
pub use gaps::Begun;
pub use lifted::{Mistake, Tuning};
pub use live::{Heal, Live, Onset, Turn};
pub use lives::{Life, Lives, Looked};
pub use needs::{Columns, Reads};
pub use road::Road;

use std::sync::Arc;
use std::time::Instant;

use crate::change::Commit;
use crate::diagnostic::Diagnostic;
use crate::plan::{self, Judged, Plan};
use crate::rule::{Rule, Threshold};
use crate::state::History;
use crate::verdict::{Outcome, Verdict, Violation};
use collect::Keep;
use engine::{Engine, Planned, Workshop};

/// Why a rule could not be judged. None of these texts holds a row value (invariant 11).
#[derive(Clone, Debug, thiserror::Error)]
pub enum JudgeError {
    /// The rule needs what the source does not have or know.
    #[error("{0}")]
    Unknown(String),
    /// The rule exceeds a limit.
    #[error("{0}")]
    Limit(String),
    /// The process as a whole needs too much memory while the rule runs.
    #[error("the memory limit of {0} MiB was reached (--memory-limit)")]
    Memory(u64),
    /// The engine failed.
    #[error("the query failed: {0}")]
    Engine(String),
}

impl JudgeError {
    /// An error of the engine, without the values that such messages quote.
    fn engine(error: impl std::fmt::Display) -> Self {
        JudgeError::Engine(guard::without_values(&error.to_string()))
    }
}

/// What to judge, and how much of it to keep.
#[derive(Clone, Debug)]
pub struct Options {
    /// The position.
    pub position: Commit,
    /// The time that stands for *now*, in microseconds, instead of the timeline's.
    pub now_us: Option<i64>,
    /// How many violations of a rule to keep; None for all.
    pub sample: Option<usize>,
}

/// A rule that fits the source.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The rule.
    pub rule: Rule,
    /// Its plan.
    pub plan: Plan,
    /// The first commit whose violations count (`since`); 0 for all.
    since: Commit,
    planned: Option<Arc<Planned>>,
}

impl Prepared {
    /// The first commit whose violations count (`since`); 0 for all.
    pub fn since(&self) -> Commit {
        self.since
    }

    /// Whether judging it at a position takes more than the state there: changes, or since when a violation is one.
    pub fn reads_the_past(&self) -> bool {
        takes_the_past(&self.rule) || self.reads_what_was_recorded()
    }

    /// Whether the time has a say in its verdict, beside what was written.
    pub(crate) fn asks_for_the_time(&self) -> bool {
        let planned = self.planned.as_ref();
        matches!(self.plan, Plan::Metric { .. }) || planned.is_some_and(|planned| planned.asks_now)
    }

    /// Whether its query reads changes, or other positions.
    pub fn reads_what_was_recorded(&self) -> bool {
        let recorded = |read: &engine::Read| {
            read.catalog.is_some() || catalog::RECORDED.contains(&read.schema.as_str())
        };
        let mut planned = self.planned.iter();
        planned.any(|planned| planned.reads.iter().any(recorded))
    }

    /// The key columns; empty for rules about a whole table.
    pub fn key(&self) -> Vec<String> {
        match &self.plan {
            Plan::Query(compiled) => {
                let mut key = compiled.key.clone();
                match &compiled.expand {
                    plan::Expand::None => {}
                    plan::Expand::Sequence { column, .. } => key.push(column.clone()),
                    plan::Expand::Windows { .. } => key.push("window".into()),
                }
                key
            }
            Plan::Shape { .. } => vec!["column".into()],
            Plan::Metric { .. } | Plan::Refused(_) => Vec::new(),
        }
    }

    /// The tables and columns that the rule reads, `schema.table` each.
    pub fn reads(&self) -> Vec<(String, Vec<String>)> {
        let reads = self.planned.iter().flat_map(|planned| &planned.reads);
        reads
            .map(|read| {
                let columns = read.columns.iter().map(|(_, name)| name.clone()).collect();
                (format!("{}.{}", read.schema, read.name), columns)
            })
            .collect()
    }

    /// The optimised logical plan, indented; None for rules that are not judged by one query.
    pub fn logical_plan(&self) -> Option<String> {
        self.planned
            .as_ref()
            .map(|planned| planned.logical.display_indent().to_string())
    }
}

/// Whether a rule is about what was written, or about since when something is bad, by what its header and its check say.
pub fn takes_the_past(rule: &Rule) -> bool {
    rule.check.judges_writes() || rule.within_us.is_some() || rule.since.is_some()
}

/// Judges rules over one history.
#[derive(Debug)]
pub struct Judge {
    history: Arc<History>,
    workshop: Workshop,
    limits: Limits,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Judge {
    fn drop(&mut self) {
        // A query that does not yield must not hold up the end of the program.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Stack of the engine's threads: planning recurses over expressions.
const STACK_BYTES: usize = 64 << 20;

impl Judge {
    /// A judge over a history.
    ///
    /// # Errors
    /// When the engine cannot be set up (no temporary directory, no threads).
    pub fn new(history: Arc<History>, limits: Limits) -> std::io::Result<Self> {
        let workshop = Workshop::new(&limits).map_err(std::io::Error::other)?;
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            // Two more than there are cores: a query that does not yield must not stop the clock.
            .worker_threads(cores + 2)
            .thread_stack_size(STACK_BYTES)
            .enable_time()
            .build()?;
        Ok(Judge {
            history,
            workshop,
            limits,
            runtime: Some(runtime),
        })
    }

    /// The history that is judged.
    pub fn history(&self) -> &Arc<History> {
        &self.history
    }

    fn runtime(&self) -> &tokio::runtime::Runtime {
        self.runtime
            .as_ref()
            .expect("the runtime lives as long as the judge")
    }

    fn engine(&self, options: &Options) -> Arc<Engine> {
        let now = options
            .now_us
            .or_else(|| self.history.now_at(options.position));
        Arc::new(self.workshop.engine(&self.history, options.position, now))
    }

    /// Compiles and plans rules against the source.
    ///
    /// # Errors
    /// Every mistake in every rule.
    pub fn prepare(
        &self,
        rules: &[Rule],
        options: &Options,
    ) -> Result<Vec<Prepared>, Vec<Diagnostic>> {
        let engine = self.engine(options);
        let mut prepared = Vec::new();
        let mut diagnostics = Vec::new();
        for rule in rules {
            let since = match life::since(&self.history, rule) {
                Ok(since) => since,
                Err(diagnostic) => {
                    diagnostics.push(diagnostic);
                    continue;
                }
            };
            match plan::compile(rule, &self.history.schema, since) {
                Ok(plan) => match self.plan_query(&engine, rule, plan) {
                    Ok((plan, planned)) => prepared.push(Prepared {
                        rule: rule.clone(),
                        plan,
                        since,
                        planned,
                    }),
                    Err(found) => diagnostics.extend(found),
                },
                Err(found) => diagnostics.extend(found),
            }
        }
        if diagnostics.is_empty() {
            Ok(prepared)
        } else {
            Err(diagnostics)
        }
    }

    fn plan_query(
        &self,
        engine: &Arc<Engine>,
        rule: &Rule,
        mut plan: Plan,
    ) -> Result<(Plan, Option<Arc<Planned>>), Vec<Diagnostic>> {
        let sql = match &plan {
            Plan::Query(compiled) => compiled.sql.clone(),
            Plan::Metric { sql, .. } => sql.clone(),
            Plan::Shape { .. } | Plan::Refused(_) => return Ok((plan, None)),
        };
        let task = {
            let (engine, sql) = (Arc::clone(engine), sql.clone());
            async move { Ok(engine.plan(&sql).await) }
        };
        match self.runtime().block_on(guard::guarded(&self.limits, task)) {
            Err(error) => Ok((Plan::Refused(error.to_string()), None)),
            Ok(Err(error)) => match query::planning_error(rule, &error) {
                query::PlanningError::Mistake(diagnostic) => Err(vec![*diagnostic]),
                query::PlanningError::Refused(reason) => Ok((Plan::Refused(reason), None)),
            },
            Ok(Ok(planned)) => {
                if let Plan::Query(compiled) = &mut plan
                    && compiled.judged == Judged::Returned
                {
                    plan::sql_key(rule, compiled, &planned.output)?;
                }
                Ok((plan, Some(Arc::new(planned))))
            }
        }
    }

    /// Judges prepared rules; outcomes in the same order. `progress` is told the id of each rule that is done.
    pub fn check(
        &self,
        prepared: Vec<Prepared>,
        options: &Options,
        progress: &dyn Fn(&str),
    ) -> Vec<Outcome> {
        let engine = self.engine(options);
        let rules: Vec<Arc<Prepared>> = prepared.into_iter().map(Arc::new).collect();
        let mut outcomes: Vec<Option<Outcome>> = rules.iter().map(|_| None).collect();
        let mut again = Vec::new();
        self.runtime().block_on(async {
            let mut running = tokio::task::JoinSet::new();
            let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
            let mut waiting = rules.iter().cloned().enumerate();
            loop {
                while running.len() < cores {
                    let Some((at, rule)) = waiting.next() else {
                        break;
                    };
                    let job = self.job(&engine, rule, options);
                    running.spawn(async move { (at, job.await) });
                }
                let Some(done) = running.join_next().await else {
                    break;
                };
                let (at, result) = done.expect("a job catches the panics of its query");
                progress(&rules[at].rule.id);
                match result.0 {
                    // Perhaps the neighbour's fault: judged again, alone.
                    Err(JudgeError::Memory(_)) => again.push(at),
                    answer => outcomes[at] = Some(finish(&rules[at], answer, result.1)),
                }
            }
        });
        for at in again {
            let (answer, elapsed) =
                self.runtime()
                    .block_on(self.job(&engine, Arc::clone(&rules[at]), options));
            outcomes[at] = Some(finish(&rules[at], answer, elapsed));
        }
        outcomes
            .into_iter()
            .map(|outcome| outcome.expect("every rule was judged"))
            .collect()
    }

    /// One rule's judgement within its limits, with the milliseconds it took.
    fn job(
        &self,
        engine: &Arc<Engine>,
        rule: Arc<Prepared>,
        options: &Options,
    ) -> impl Future<Output = (Result<Answer, JudgeError>, u64)> + use<> {
        let work = Work {
            engine: Arc::clone(engine),
            workshop: self.workshop.clone(),
            history: Arc::clone(&self.history),
            rule,
            options: options.clone(),
        };
        let limits = self.limits.clone();
        async move {
            let start = Instant::now();
            let answer = guard::guarded(&limits, work.run()).await;
            (
                answer,
                u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
            )
        }
    }
}

/// Everything that judging one rule needs; owned, so that it can run on any thread.
struct Work {
    engine: Arc<Engine>,
    workshop: Workshop,
    history: Arc<History>,
    rule: Arc<Prepared>,
    options: Options,
}

/// What judging found, before the threshold decides.
#[derive(Debug, Default)]
struct Answer {
    violations: u64,
    judged: u64,
    sample: Vec<Violation>,
    impact: Option<String>,
    pending: u64,
}

impl Work {
    async fn run(self) -> Result<Answer, JudgeError> {
        self.seen()?;
        match &self.rule.plan {
            Plan::Refused(reason) => Err(JudgeError::Limit(reason.clone())),
            Plan::Shape { violations, judged } => {
                let judged = self.judged(judged, 0).await?;
                let most = self.options.sample.unwrap_or(usize::MAX);
                let all: Vec<Violation> = violations.iter().map(shape_violation).collect();
                let count = all.len() as u64;
                Ok(Answer {
                    violations: count,
                    judged,
                    sample: all.into_iter().take(most).collect(),
                    ..Answer::default()
                })
            }
            Plan::Metric {
                sql,
                every_us,
                detect,
                judged,
            } => {
                let mut violations = self.metric(sql, *every_us, detect).await?;
                let count = violations.len() as u64;
                violations.truncate(self.options.sample.unwrap_or(usize::MAX));
                let judged = self.judged(judged, 0).await?;
                Ok(Answer {
                    violations: count,
                    judged,
                    sample: violations,
                    ..Answer::default()
                })
            }
            Plan::Query(_) => self.query().await,
        }
    }

    async fn query(&self) -> Result<Answer, JudgeError> {
        let Plan::Query(compiled) = &self.rule.plan else {
            unreachable!("called for queries only")
        };
        let planned = self
            .rule
            .planned
            .as_ref()
            .expect("query rules are planned when they are prepared");
        if self.rule.rule.check.judges_writes() && !self.history.has_changes() {
            return Err(JudgeError::Unknown(format!(
                "the source has no changes, so `{}` cannot be judged",
                self.rule.rule.check.kind()
            )));
        }
        if let Some(reason) = self.engine.cannot_judge(planned) {
            return Err(JudgeError::Unknown(reason));
        }
        let needs_life = self.needs_life();
        let keep = match self.options.sample {
            Some(most) if !needs_life => Keep::First(most),
            _ => Keep::All,
        };
        let mut found = query::collect(&self.engine, planned, compiled, keep).await?;
        let judged = self.judged(&compiled.judged, found.rows).await?;
        let mut pending = 0;
        if needs_life {
            let findings = self.findings(&found).await?;
            pending = findings.pending;
            found.kept.retain(|key, _| findings.keys.contains(key));
            found.count = found.kept.len() as u64;
            if compiled.impact {
                found.impact =
                    query::impact_of(&self.engine, planned, compiled, &findings.keys).await?;
            }
        }
        if let Some(most) = self.options.sample {
            while found.kept.len() > most {
                found.kept.pop_last();
            }
        }
        if let Some(members) = &compiled.members {
            query::add_members(&self.engine, members, compiled, &mut found).await?;
        }
        Ok(Answer {
            violations: found.count,
            judged,
            sample: found.kept.into_values().collect(),
            impact: found.impact,
            pending,
        })
    }

    async fn judged(&self, judged: &Judged, returned: u64) -> Result<u64, JudgeError> {
        match judged {
            Judged::Returned => Ok(returned),
            Judged::Query(sql) => query::count(&self.engine, sql).await,
        }
    }
}

fn shape_violation(
    (column, expected, found): &(String, Option<String>, Option<String>),
) -> Violation {
    let text = |value: &Option<String>| {
        value
            .clone()
            .map_or(serde_json::Value::Null, serde_json::Value::String)
    };
    let mut violation = Violation {
        key: Default::default(),
        evidence: Default::default(),
        accepted: false,
    };
    violation.key.insert("column".into(), column.clone().into());
    violation.evidence.insert("expected".into(), text(expected));
    violation.evidence.insert("found".into(), text(found));
    violation
}

/// An answer becomes an outcome: the threshold decides.
fn finish(prepared: &Prepared, answer: Result<Answer, JudgeError>, elapsed_ms: u64) -> Outcome {
    let rule = prepared.rule.clone();
    let table = rule.table.as_ref().map(|table| table.value.to_string());
    let mut outcome = Outcome {
        table,
        verdict: Verdict::Unknown,
        violations: None,
        judged: None,
        new: None,
        reason: None,
        sample: Vec::new(),
        impact: None,
        pending: 0,
        elapsed_ms,
        rule,
    };
    match answer {
        Err(error) => outcome.reason = Some(error.to_string()),
        Ok(answer) => {
            let too_many = exceeds(
                outcome.rule.threshold.as_ref().map(|t| &t.value),
                answer.violations,
                answer.judged,
            );
            outcome.verdict = if too_many {
                Verdict::Violated
            } else {
                Verdict::Held
            };
            outcome.violations = Some(answer.violations);
            outcome.judged = Some(answer.judged);
            outcome.new = Some(answer.violations);
            outcome.sample = answer.sample;
            outcome.impact = answer.impact;
            outcome.pending = answer.pending;
        }
    }
    outcome
}

/// Whether so many violations of so many judged are more than the rule tolerates.
pub fn exceeds(threshold: Option<&Threshold>, violations: u64, judged: u64) -> bool {
    match threshold {
        None => violations > 0,
        Some(Threshold::Max(max)) => violations > *max,
        Some(Threshold::MaxPercent(percent)) => {
            let Some(percent) = crate::change::Decimal::parse(percent) else {
                return violations > 0;
            };
            // violations * 100 > percent * judged, exactly.
            let scale = 10i128.pow(u32::from(percent.scale.min(18)));
            i128::from(violations) * 100 * scale
                > percent.unscaled.saturating_mul(i128::from(judged))
        }
    }
}
