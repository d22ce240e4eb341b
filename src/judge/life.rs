//! The life of violations: since when each key that is bad now has been bad, for `within` and `since`.
//!
//! Where the rule can be lifted, the life of its keys says so. Otherwise the states before the position are judged in full, latest first,
//! at the commits that touched a table the rule reads, until every key's onset is known or known to be early enough.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::collect::{Found, Keep, KeyBytes};
use super::lifted::{self, Tuning};
use super::{Judge, JudgeError, Options, Work, query};
use crate::change::Commit;
use crate::diagnostic::Diagnostic;
use crate::plan::Plan;
use crate::rule::{Rule, Spanned};
use crate::schema::value;
use crate::state::History;
use crate::verdict::Violation;
use serde_json::{Map, Value};

/// Which keys are findings.
pub(super) struct Findings {
    pub(super) keys: BTreeSet<KeyBytes>,
    /// Keys that still have time to heal.
    pub(super) pending: u64,
}

/// The first commit whose violations count for a rule; 0 without `since`.
pub(super) fn since(history: &History, rule: &Rule) -> Result<Commit, Diagnostic> {
    let Some(since) = &rule.since else {
        return Ok(0);
    };
    match history.since(&since.value, None) {
        Ok(first) => Ok(first),
        // A source with one state or without times has nothing that could have begun earlier.
        Err(_) if value::parse_timestamp(&since.value).is_some() => Ok(0),
        Err(reason) => Err(since
            .span
            .error(format!("`since` of rule `{}`: {reason}", rule.id))),
    }
}

impl Judge {
    /// Keys that violate a rule at the position although they were accepted at an earlier one and healed in between: for checks of
    /// writes, keys with an illegal write since. `accepted` tells at which commit a key was accepted, if it was.
    ///
    /// # Errors
    /// As for judging the rule.
    pub fn returned(
        &self,
        rule: &Rule,
        options: &Options,
        accepted: &dyn Fn(&Map<String, Value>) -> Option<Commit>,
    ) -> Result<Vec<Map<String, Value>>, JudgeError> {
        let options = Options {
            sample: None,
            ..options.clone()
        };
        if rule.check.judges_writes() {
            return self.written_again(rule, &options, accepted);
        }
        let Some(work) = self.work(rule, &options) else {
            return Ok(Vec::new());
        };
        let Plan::Query(compiled) = &work.rule.plan else {
            return Ok(Vec::new());
        };
        let planned = Arc::clone(work.rule.planned.as_ref().expect("query rules are planned"));
        self.runtime().block_on(async {
            let mut found = query::collect(&work.engine, &planned, compiled, Keep::All).await?;
            found.kept.retain(|_, violation| {
                accepted(&violation.key).is_some_and(|at| at < options.position)
            });
            let Some(first) = found
                .kept
                .values()
                .filter_map(|violation| accepted(&violation.key))
                .min()
            else {
                return Ok(Vec::new());
            };
            let onsets = work.onsets(&found.kept, |commit| commit <= first).await?;
            let again = onsets.into_iter().filter_map(|(key, onset)| {
                let key = found.kept.get(&key)?.key.clone();
                (onset? > accepted(&key)?).then_some(key)
            });
            Ok(again.collect())
        })
    }

    fn written_again(
        &self,
        rule: &Rule,
        options: &Options,
        accepted: &dyn Fn(&Map<String, Value>) -> Option<Commit>,
    ) -> Result<Vec<Map<String, Value>>, JudgeError> {
        let keys = |since: Commit| -> Result<Vec<Map<String, Value>>, JudgeError> {
            let mut later = rule.clone();
            later.since = Some(Spanned {
                value: format!("#{since}"),
                span: rule.span.clone(),
            });
            let Some(work) = self.work(&later, options) else {
                return Ok(Vec::new());
            };
            let answer = self.runtime().block_on(work.query())?;
            Ok(answer
                .sample
                .into_iter()
                .map(|violation| violation.key)
                .collect())
        };
        let floors: BTreeSet<Commit> = keys(1)?
            .iter()
            .filter_map(accepted)
            .filter(|at| *at < options.position)
            .collect();
        let mut again = Vec::new();
        for floor in floors {
            again.extend(
                keys(floor + 1)?
                    .into_iter()
                    .filter(|key| accepted(key) == Some(floor)),
            );
        }
        Ok(again)
    }

    /// A rule made ready by itself; None when it does not fit the source.
    fn work(&self, rule: &Rule, options: &Options) -> Option<Work> {
        let prepared = self
            .prepare(std::slice::from_ref(rule), options)
            .ok()?
            .pop()?;
        Some(Work {
            engine: self.engine(options),
            workshop: self.workshop.clone(),
            history: Arc::clone(&self.history),
            rule: Arc::new(prepared),
            options: options.clone(),
        })
    }
}

impl Work {
    /// Whether findings depend on when a violation began.
    pub(super) fn needs_life(&self) -> bool {
        let rule = &self.rule.rule;
        !rule.check.judges_writes() && (rule.within_us.is_some() || self.rule.since > 0)
    }

    /// Which of the keys that are bad at the position are findings.
    pub(super) async fn findings(&self, found: &Found) -> Result<Findings, JudgeError> {
        let within = self.rule.rule.within_us;
        let now = self
            .options
            .now_us
            .or_else(|| self.history.now_at(self.options.position));
        if within.is_some() && now.is_none() {
            return Err(JudgeError::Unknown("the source has no times up to this position, so `within` has no now: give --now TIME".into()));
        }
        let due = now
            .zip(within)
            .map(|(now, within)| now.saturating_sub(within));
        let mut findings = Findings {
            keys: BTreeSet::new(),
            pending: 0,
        };
        if found.kept.is_empty() {
            return Ok(findings);
        }
        let stop = |commit: Commit| match due {
            // Every violation that began with this commit or before it is overdue.
            Some(due) if self.rule.since == 0 => self
                .latest_time_until(commit)
                .is_some_and(|time| time < due),
            _ => commit < self.rule.since,
        };
        let onsets = self.onsets(&found.kept, stop).await?;
        for (key, onset) in onsets {
            match self.is_finding(onset, due)? {
                None => {}
                Some(true) => _ = findings.keys.insert(key),
                Some(false) => findings.pending += 1,
            }
        }
        Ok(findings)
    }

    /// Since which commit each key has been bad without interruption; None when that was before the search stopped.
    async fn onsets(
        &self,
        kept: &BTreeMap<KeyBytes, Violation>,
        stop: impl Fn(Commit) -> bool,
    ) -> Result<BTreeMap<KeyBytes, Option<Commit>>, JudgeError> {
        if let Some(onsets) = self.onsets_lifted().await? {
            let known = |onset: Commit| (!stop(onset)).then_some(onset);
            let onset = |key: &KeyBytes| known(onsets.get(key).copied().unwrap_or(0));
            return Ok(kept.keys().map(|key| (key.clone(), onset(key))).collect());
        }
        let mut open: BTreeSet<KeyBytes> = kept.keys().cloned().collect();
        let mut onsets: BTreeMap<KeyBytes, Option<Commit>> = BTreeMap::new();
        let mut stopped = false;
        for commit in self.touching_commits().into_iter().rev() {
            stopped = stop(commit);
            if open.is_empty() || stopped {
                break;
            }
            let before = self.history.seen_at_or_before(commit - 1);
            let bad_before = self.bad_keys(before).await?;
            let begun: Vec<KeyBytes> = open
                .iter()
                .filter(|key| !bad_before.contains(*key))
                .cloned()
                .collect();
            for key in begun {
                open.remove(&key);
                onsets.insert(key, Some(commit));
            }
        }
        onsets.extend(open.into_iter().map(|key| (key, (!stopped).then_some(0))));
        Ok(onsets)
    }

    /// The onsets of all keys that are bad at the position; None where only full judgement can tell.
    async fn onsets_lifted(&self) -> Result<Option<BTreeMap<KeyBytes, Commit>>, JudgeError> {
        let Plan::Query(compiled) = &self.rule.plan else {
            return Ok(None);
        };
        if !self.rule.can_be_lifted(&self.history) {
            return Ok(None);
        }
        let until = self.options.position;
        let engine = Arc::new(self.workshop.lifting_engine(
            &self.history,
            until,
            self.options.now_us,
        ));
        let found = lifted::judge(&engine, compiled, &[until], &Tuning::default()).await?;
        let bad = |span: lifted::Span| span.healed.is_none().then_some((span.order, span.onset));
        Ok(found.map(|(spans, _)| spans.into_iter().filter_map(bad).collect()))
    }

    /// The keys that violate the rule at another position.
    async fn bad_keys(&self, position: Commit) -> Result<BTreeSet<KeyBytes>, JudgeError> {
        let Plan::Query(compiled) = &self.rule.plan else {
            unreachable!("only queries have keys")
        };
        let now = self
            .options
            .now_us
            .or_else(|| self.history.now_at(position));
        let engine = Arc::new(self.workshop.engine(&self.history, position, now));
        let planned = engine
            .plan(&compiled.sql)
            .await
            .map_err(JudgeError::engine)?;
        if let Some(reason) = engine.cannot_judge(&planned) {
            return Err(JudgeError::Unknown(format!("at #{position}: {reason}")));
        }
        let found = query::collect(&engine, &planned, compiled, Keep::All).await?;
        Ok(found.kept.into_keys().collect())
    }

    /// Commits up to the position that changed something which the rule reads, in order.
    pub(super) fn touching_commits(&self) -> Vec<Commit> {
        let mut commits = BTreeSet::new();
        for read in self.rule.planned.iter().flat_map(|planned| &planned.reads) {
            use super::catalog::Named;
            use crate::state::Relation;
            match self.engine.view().resolve(&read.schema, &read.name) {
                Some(Named::Table(table, Relation::State)) => {
                    let columns: Vec<usize> = read.columns.iter().map(|(at, _)| *at).collect();
                    commits.extend(self.history.tables[table].commits_touching(&columns));
                }
                Some(Named::Table(table, _)) => {
                    commits.extend(self.history.tables[table].commits())
                }
                Some(Named::Transactions) => {
                    commits.extend(self.history.commits().map(|(commit, _)| commit));
                }
                None => {}
            }
        }
        commits
            .into_iter()
            .take_while(|commit| *commit <= self.options.position)
            .collect()
    }

    /// The latest time of all commits up to one: the latest at which a violation that old can have begun.
    fn latest_time_until(&self, commit: Commit) -> Option<i64> {
        let until = &self.history.transactions[..self.history.commits_until(commit)];
        let times = until.iter().map(|meta| meta.time);
        times
            .chain([self.history.base.time])
            .max()
            .flatten()
            .or_else(|| self.history.began(0))
    }
}
