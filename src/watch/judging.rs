//! From committed transactions to incidents: every commit is judged when it comes; what was found counts when the commit is on the disk.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::metrics::Metrics;
use super::recorder::Committed;
use super::{Told, WatchError};
use crate::change::Commit;
use crate::gate::{self, Reads};
use crate::incident::{
    Batch, Began, Detail, Healed, Incidents, Notice, RuleFacts, Standing, Turns, Write,
};
use crate::judge::{Live, Onset, Turn};
use crate::postgres::assemble::{Body, Item};
use crate::postgres::relations::SchemaChange;
use crate::rule::Rule;
use crate::verdict::Verdict;

/// What others write beside us may change the next deadline: it is read again after so long.
const DEADLINE_AGE: Duration = Duration::from_secs(1);

/// Rules, the state they are judged on, and what became of them.
pub(super) struct Judging {
    live: Live,
    facts: Vec<RuleFacts>,
    incidents: Incidents,
    /// What was found and is not on the disk yet, in order.
    waiting: VecDeque<Batch>,
    judged: Commit,
    /// Up to where what was found is kept.
    taken: Commit,
    /// The stream's clock.
    clock: Option<i64>,
    /// Why rules could not be judged, as it was told last.
    unknown: Vec<Option<String>>,
    /// Ids of the rules that are violated, as far as that is on the disk.
    violated: HashSet<String>,
    metrics: Arc<Metrics>,
    /// Whether a commit is all that happened since the one before it, seen as a whole.
    bounded: bool,
    /// Rules that are judged from time to time since lately.
    slowed: Vec<String>,
    /// The next deadline as it was read last, and when.
    deadline: Option<(Option<i64>, Instant)>,
}

/// What an incident has to know of its rule.
fn facts(live: &Live, at: usize, rule: &Rule) -> RuleFacts {
    let table = rule.table.as_ref().map(|table| &table.value);
    let declared = table.and_then(|table| live.history().schema.table(table));
    RuleFacts {
        id: rule.id.clone(),
        description: rule.description.clone(),
        table: table.map(ToString::to_string),
        severity: rule.severity,
        owner: rule.owner.clone(),
        runbook: rule.runbook.clone(),
        within_us: rule.within_us,
        threshold: rule
            .threshold
            .as_ref()
            .map(|threshold| threshold.value.clone()),
        event: rule.check.judges_writes(),
        key: declared.map_or_else(Vec::new, |table| table.primary_key_names()),
        redact: rule
            .redact
            .iter()
            .map(|column| column.value.clone())
            .collect(),
        reads: live.reads(at),
        yaml: rule.source(),
        sql: live.sql(at),
    }
}

fn detail(found: crate::judge::Detail) -> Detail {
    Detail {
        order: found.order,
        evidence: found.evidence,
        impact: found.impact,
    }
}

impl Judging {
    /// Judges the state that is there, and says where watching begins. Keys that were bad in an earlier run are remembered; what else is
    /// bad here was bad before anybody watched; where the rule was watched before, it broke somewhere after `last_good`.
    pub(super) fn begin(
        mut live: Live,
        mut incidents: Incidents,
        clock: Option<i64>,
        last_good: Commit,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Vec<Notice>), WatchError> {
        let facts: Vec<RuleFacts> = live
            .rules()
            .enumerate()
            .map(|(at, rule)| facts(&live, at, rule))
            .collect();
        let at = live.history().head();
        let known: HashMap<String, Option<String>> = incidents
            .verdicts()?
            .into_iter()
            .map(|rule| (rule.id, rule.reason))
            .collect();
        for (number, facts) in facts.iter().enumerate() {
            let keys = incidents.open_keys(&facts.id)?;
            live.remember(number, keys.into_iter().map(|key| (key.order, key.onset)));
        }
        let turns = live.judge(clock);
        let standing = facts.iter().zip(&turns).map(|(facts, turn)| Standing {
            rule: facts.clone(),
            keys: turn
                .began
                .iter()
                .map(|onset| (onset.order.clone(), onset.key.clone()))
                .collect(),
            unnamed: 0,
            details: turn.details.iter().cloned().map(detail).collect(),
            unknown: turn.unknown.clone(),
            judged: turn.judged,
        });
        let standing: Vec<Standing> = standing.collect();
        let unknown = turns.iter().map(|turn| turn.unknown.clone()).collect();
        let judged = incidents.judged()?.unwrap_or(at);
        let notices = incidents.begin(at, clock, &standing)?;
        let mut judging = Judging {
            live,
            facts,
            incidents,
            waiting: VecDeque::new(),
            judged,
            taken: judged,
            clock,
            unknown,
            violated: HashSet::new(),
            metrics,
            bounded: false,
            slowed: Vec::new(),
            deadline: None,
        };
        judging.know()?;
        judging.measure(&turns);
        judging.reconcile(turns, &known, last_good)?;
        Ok((judging, notices))
    }

    /// What is different from what an earlier run has told, though nobody saw by which commit.
    fn reconcile(
        &mut self,
        turns: Vec<Turn>,
        known: &HashMap<String, Option<String>>,
        last_good: Commit,
    ) -> Result<(), WatchError> {
        let mut rules = Vec::new();
        for (at, mut turn) in turns.into_iter().enumerate() {
            let id = &self.facts[at].id;
            let Some(reason) = known.get(id) else {
                continue;
            };
            // Whether a rule can be judged may be another matter than before.
            let is_news = *reason != turn.unknown;
            // Of a rule with too many bad keys not all were remembered.
            if self.incidents.is_incomplete(id)? || self.facts[at].event {
                turn.began.clear();
                turn.healed.clear();
            }
            turn.began
                .iter_mut()
                .for_each(|onset| onset.after = Some(last_good));
            if !turn.began.is_empty() || !turn.healed.is_empty() || is_news {
                turn.late = true;
                rules.push(self.told(at, turn));
            }
        }
        if !rules.is_empty() {
            self.waiting.push_back(Batch {
                from: self.judged,
                until: self.judged,
                now_us: self.clock,
                rules,
            });
        }
        Ok(())
    }

    /// From now on, what a commit did was done by anybody since the one before it.
    pub(super) fn bound(&mut self) {
        self.bounded = true;
    }

    /// What is judged, and from where on.
    pub(super) fn watching(&self) -> Told<'static> {
        let all = self.live.rules().count();
        let on_a_cadence = (0..all).filter(|&at| self.live.on_a_cadence(at)).count();
        let tables = self.live.history().tables.iter();
        let rows: usize = tables.map(|table| table.row_count()).sum();
        Told::Watching {
            at_every_commit: all - on_a_cadence,
            on_a_cadence,
            commit: self.judged(),
            rows: rows as u64,
        }
    }

    /// Says what changed, and keeps word that it was said.
    pub(super) fn say(
        &mut self,
        notices: &[Notice],
        tell: &mut dyn FnMut(Told<'_>) -> bool,
    ) -> Result<(), WatchError> {
        for notice in notices {
            if tell(Told::Notice(notice)) {
                self.incidents.printed(notice.seq)?;
            }
        }
        Ok(())
    }

    /// Says what was decided before a crash and perhaps not said.
    pub(super) fn say_what_is_left(
        &mut self,
        tell: &mut dyn FnMut(Told<'_>) -> bool,
    ) -> Result<(), WatchError> {
        let mut before = None;
        loop {
            let left = self.incidents.unprinted(100)?;
            let first = left.first().map(|notice| notice.seq);
            // Where nobody could be told, they are left for another time.
            if first.is_none() || first == before {
                return Ok(());
            }
            self.say(&left, tell)?;
            before = first;
        }
    }

    /// Up to where everything was judged.
    pub(super) fn judged(&self) -> Commit {
        self.judged
    }

    /// Says for gates which rules are judged from now on.
    pub(super) fn tell_gates(&mut self) -> Result<(), WatchError> {
        let rules: Vec<Reads> = self.facts.iter().map(Reads::of).collect();
        Ok(gate::keep_rules(&mut self.incidents, &rules)?)
    }

    /// Up to where what was found is kept: whoever reads the incidents knows all of it.
    pub(super) fn taken(&self) -> Commit {
        self.taken
    }

    /// What was found so far and said or not.
    pub(super) fn incidents(&mut self) -> &mut Incidents {
        &mut self.incidents
    }

    /// Applies a transaction; it is judged with the next call of [`Self::judge`]. Says which tables are different from here on.
    pub(super) fn apply(&mut self, committed: &Committed) -> Result<Vec<String>, WatchError> {
        let history = self.live.history_mut();
        let mut lost = Vec::new();
        let mut at = 0;
        committed.body.for_each(|item| {
            match item {
                Item::Change(change) => {
                    history.change(at, change).map_err(|error| {
                        let table = history.schema.tables[change.table].name.short();
                        WatchError::Contradiction(committed.commit, table, error.to_string())
                    })?;
                    at += 1;
                }
                Item::SchemaChanged(change) => lost.push(change.clone()),
                Item::Mark(_) => {}
            }
            Ok::<(), WatchError>(())
        })?;
        history.commit(committed.meta.clone());
        self.clock = self.clock.max(committed.meta.time);
        Ok(lost.iter().map(|change| self.lose(change)).collect())
    }

    /// Takes note of tables that are different from here on; says which.
    pub(super) fn alter(&mut self, body: &Body) -> Result<Vec<String>, WatchError> {
        let mut altered = Vec::new();
        body.for_each(|item| {
            if let Item::SchemaChanged(change) = item {
                altered.push(change.clone());
            }
            Ok::<(), WatchError>(())
        })?;
        Ok(altered.iter().map(|change| self.lose(change)).collect())
    }

    fn lose(&mut self, change: &SchemaChange) -> String {
        let table = self.live.history().schema.tables[change.table].name.short();
        let reason = format!("table {table}: {}", change.what);
        match change.is_followed {
            true if change.lost.is_empty() => {}
            true => self.live.lose(change.table, Some(&change.lost), &reason),
            false => self.live.lose(change.table, None, &reason),
        }
        reason
    }

    /// Judges what was applied. True when something was found that somebody should know at once.
    pub(super) fn judge(&mut self) -> bool {
        let head = self.live.history().head();
        let turns = self.live.judge(self.clock);
        self.measure(&turns);
        let mut rules = Vec::new();
        for (at, turn) in turns.into_iter().enumerate() {
            if turn.slowed {
                self.slowed.push(self.facts[at].id.clone());
            }
            let is_news = turn.unknown != self.unknown[at];
            let is_silent =
                turn.began.is_empty() && turn.healed.is_empty() && turn.details.is_empty();
            if is_silent && turn.judged.is_none() && !is_news {
                continue;
            }
            self.unknown[at].clone_from(&turn.unknown);
            rules.push(self.told(at, turn));
        }
        let urgent = !rules.is_empty();
        let batch = Batch {
            from: self.judged,
            until: head,
            now_us: self.clock,
            rules,
        };
        self.judged = head;
        match self.waiting.back_mut() {
            Some(last) if last.rules.is_empty() && batch.rules.is_empty() => {
                last.until = batch.until;
                last.now_us = batch.now_us;
            }
            _ if batch.from == batch.until && batch.rules.is_empty() => {}
            _ => self.waiting.push_back(batch),
        }
        self.live.cut();
        urgent
    }

    fn told(&self, at: usize, turn: Turn) -> Turns {
        let history = self.live.history();
        let write = |commit: Commit, last_good: Option<Commit>| {
            let meta = history.meta(commit).cloned().unwrap_or_default();
            Write {
                lsn: meta.lsn,
                xid: meta.xid,
                time: meta.time,
                context: meta.context,
                last_good,
            }
        };
        let before = |commit: Commit| commit.checked_sub(1).filter(|_| self.bounded);
        let began = |onset: Onset| Began {
            write: write(onset.commit, onset.after.or_else(|| before(onset.commit))),
            order: onset.order,
            key: onset.key,
            onset: onset.commit,
        };
        Turns {
            late: turn.late,
            rule: self.facts[at].clone(),
            began: turn.began.into_iter().map(began).collect(),
            healed: turn
                .healed
                .into_iter()
                .map(|heal| Healed {
                    write: write(heal.commit, None),
                    order: heal.order,
                    at: heal.commit,
                })
                .collect(),
            details: turn.details.into_iter().map(detail).collect(),
            unknown: turn.unknown,
            judged: turn.judged,
        }
    }

    /// Judges everything that was applied, for the last time: nothing waits for another.
    pub(super) fn judge_the_rest(&mut self) {
        self.live.hurry();
        self.judge();
    }

    /// Rules that are judged from time to time since this was asked last.
    pub(super) fn slowed(&mut self) -> Vec<String> {
        std::mem::take(&mut self.slowed)
    }

    /// Everything up to a commit is on the disk: what was found there counts now. What is to be said about it.
    pub(super) fn sealed(&mut self, until: Commit) -> Result<Vec<Notice>, WatchError> {
        let mut said = Vec::new();
        while self
            .waiting
            .front()
            .is_some_and(|batch| batch.until <= until)
        {
            let batch = self.waiting.pop_front().expect("looked at above");
            said.extend(self.incidents.take(&batch)?);
            self.deadline = None;
            self.taken = self.taken.max(batch.until);
        }
        if !said.is_empty() {
            self.know()?;
        }
        Ok(said)
    }

    /// Whether something was found that waits for its commit to be on the disk.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The stream's clock goes on: no commit before this instant is still to come.
    pub(super) fn tick(&mut self, now_us: i64) -> Result<Vec<Notice>, WatchError> {
        self.clock = self.clock.max(Some(now_us));
        if self.is_waiting() || self.next_deadline()?.is_none_or(|at| at >= now_us) {
            return Ok(Vec::new());
        }
        self.deadline = None;
        Ok(self.incidents.tick(now_us)?)
    }

    /// Whether some deadline lies before this instant.
    pub(super) fn is_overdue(&mut self, now_us: i64) -> Result<bool, WatchError> {
        Ok(self.next_deadline()?.is_some_and(|at| at < now_us))
    }

    fn next_deadline(&mut self) -> Result<Option<i64>, WatchError> {
        if let Some((deadline, read)) = self.deadline
            && read.elapsed() < DEADLINE_AGE
        {
            return Ok(deadline);
        }
        let deadline = self.incidents.next_deadline()?;
        self.deadline = Some((deadline, Instant::now()));
        Ok(deadline)
    }

    fn know(&mut self) -> Result<(), WatchError> {
        let verdicts = self.incidents.verdicts()?.into_iter();
        let violated = verdicts.filter(|rule| rule.verdict == "violated");
        self.violated = violated.map(|rule| rule.id).collect();
        for (facts, unknown) in self.facts.iter().zip(&self.unknown) {
            let verdict = self.verdict(&facts.id, unknown.is_some());
            self.metrics.verdict(&facts.id, verdict);
        }
        Ok(())
    }

    fn verdict(&self, rule: &str, is_unknown: bool) -> Verdict {
        match (is_unknown, self.violated.contains(rule)) {
            (true, _) => Verdict::Unknown,
            (false, true) => Verdict::Violated,
            (false, false) => Verdict::Held,
        }
    }

    fn measure(&mut self, turns: &[Turn]) {
        for (facts, turn) in self.facts.iter().zip(turns) {
            let verdict = self.verdict(&facts.id, turn.unknown.is_some());
            self.metrics.rule(&facts.id, turn.took, verdict);
        }
    }
}
