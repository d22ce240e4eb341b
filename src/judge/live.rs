//! Rules over a history that grows: judged at every commit, batch by batch, at a cost that follows the batch.
//!
//! [`Live`] owns the history. Transactions are applied, then judged; what became of each rule's keys is given once. From time to time the
//! history is cut down to the rows that are alive, so memory follows the tables and not what was ever written to them; the rules are then
//! planned anew and find the same keys bad, whose onsets are remembered.
//!
//! A rule that cannot be lifted, or whose verdict the time changes between commits, is judged as a whole on a cadence: its onsets are
//! bounded by the judgement before.

mod facts;
mod followed;
mod whole;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::num::NonZero;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::datatypes::DataType as ArrowType;
use serde_json::{Map, Value};

use super::engine::Engine;
use super::guard::{self, Job};
use super::lifted::{Span, Standing, Stood, Summaries, Tuning};
use super::named::commit_column;
use super::{Detail, Judge, JudgeError, Limits};
use crate::change::{Commit, Transaction};
use crate::diagnostic::Diagnostic;
use crate::plan::{Compiled, Plan};
use crate::rule::{Check, Rule};
use crate::state::{Contradiction, History};
use followed::Followed;

/// Rules of the whole are judged again after so long at the earliest, and after so many times what a judgement took.
const WHOLE_EVERY: Duration = Duration::from_secs(5);
const WHOLE_SHARE: u32 = 20;
/// How many states of a rule of the whole are judged to find out when a key broke.
const WHOLE_STATES: usize = 12;
/// The history is cut down when so many row versions ended, and more than live.
const ENDED_MAX: usize = 1_000_000;
/// A rule that takes longer for one batch, twice, is judged from time to time from then on: it must not hold up the others.
const BATCH_MAX: Duration = Duration::from_secs(2);
/// Why a rule is not judged that cannot be judged at every commit.
const NOT_SELDOM: &str = "it judges writes and cannot be judged at every commit, and from time to time would miss some; `firstbad bisect STORE` judges it";
/// A rule that failed is tried again after so long, each time after twice as long, at most after [`AGAIN_MAX`].
const AGAIN_AFTER: Duration = Duration::from_secs(10);
const AGAIN_MAX: Duration = Duration::from_secs(600);

/// One rule's key that began to be bad.
#[derive(Clone, Debug, PartialEq)]
pub struct Onset {
    /// The key.
    pub key: Map<String, Value>,
    /// The key in a form that sorts as its values do.
    pub order: Box<[u8]>,
    /// The commit by which it began; the history's first position where it was bad there already.
    pub commit: Commit,
    /// Where only is known that it began after another position: that one.
    pub after: Option<Commit>,
}

/// One rule's key that is good again.
#[derive(Clone, Debug, PartialEq)]
pub struct Heal {
    /// The key in the form that its onset had.
    pub order: Box<[u8]>,
    /// The commit that healed it.
    pub commit: Commit,
}

/// What became of a rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Turn {
    /// Keys that began to be bad, by onset and key. With checks of writes, illegal writes: they never heal.
    pub began: Vec<Onset>,
    /// Keys that are good again, in the order of the commits. One that began and healed in between is in both.
    pub healed: Vec<Heal>,
    /// What is wrong with keys that are bad: those of this turn, or of earlier ones.
    pub details: Vec<Detail>,
    /// Why the rule could not be judged.
    pub unknown: Option<String>,
    /// Whether the rule is judged from time to time from now on, because judging it at every commit took too long.
    pub slowed: bool,
    /// Whether what it tells may lie before what was judged last: it was not judged then.
    pub late: bool,
    /// How many rows it is about, where its threshold asks.
    pub judged: Option<u64>,
    /// How long judging it took.
    pub took: Duration,
}

/// How a rule is judged.
enum Road {
    /// At every commit.
    Standing(Box<Standing>, Arc<Compiled>),
    /// As a whole, on a cadence.
    Whole { next: Instant },
    /// Not at all until later.
    Unknown { reason: String, again: Instant },
}

/// Rules that are judged while their history grows.
pub struct Live {
    judge: Judge,
    /// Runs plans; knows no table.
    engine: Option<Engine>,
    rules: Vec<Followed>,
    judged: Option<Commit>,
    /// How long rules of the whole rest at least, and so many times what a judgement took.
    rest: (Duration, u32),
    tuning: Tuning,
    /// What was found out between two judgements, and the rule.
    owed: Vec<(usize, Turn)>,
    /// How long a rule may take for a batch.
    batch_max: Duration,
    /// How many rules are judged at a time.
    lanes: usize,
    /// The types of columns of numbers that the plans were made for.
    number_types: Vec<ArrowType>,
}

impl Live {
    /// Plans rules over a history; nothing is judged yet.
    ///
    /// # Errors
    /// Every mistake in every rule.
    pub fn begin(
        history: History,
        rules: &[Rule],
        limits: Limits,
    ) -> Result<std::io::Result<Live>, Vec<Diagnostic>> {
        let judge = match Judge::new(Arc::new(history), limits) {
            Ok(judge) => judge,
            Err(error) => return Ok(Err(error)),
        };
        let history_first = judge.history().first;
        let follow = |rule: &Rule| Followed {
            rule: rule.clone(),
            road: Road::Unknown {
                reason: "not judged yet".into(),
                again: Instant::now(),
            },
            lost: None,
            fresh: true,
            failures: 0,
            struck: None,
            slowed: false,
            until: history_first,
            open: HashMap::new(),
            remembered: HashSet::new(),
            counted: None,
            vague: BTreeSet::new(),
            looked: Instant::now(),
        };
        let mut live = Live {
            judge,
            engine: None,
            rules: rules.iter().map(follow).collect(),
            judged: None,
            rest: (WHOLE_EVERY, WHOLE_SHARE),
            tuning: Tuning::default(),
            owed: Vec::new(),
            batch_max: BATCH_MAX,
            lanes: std::thread::available_parallelism().map_or(1, NonZero::get),
            number_types: Vec::new(),
        };
        live.number_types = live.number_types();
        live.judge.prepare(rules, &live.at_the_head())?;
        live.plan(false);
        if history_first > 0 {
            live.forget_the_deleted();
        }
        Ok(Ok(live))
    }

    /// The history as it is now.
    pub fn history(&self) -> &History {
        self.judge.history()
    }

    /// The rules, in the order of what [`Self::judge`] gives.
    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().map(|followed| &followed.rule)
    }

    /// How much is taken on at once, from now on.
    #[doc(hidden)]
    pub fn tune(&mut self, tuning: Tuning) {
        self.tuning = tuning;
        self.plan(true);
    }

    /// How long a rule may take for a batch, from now on: 2 s where nothing is said.
    #[doc(hidden)]
    pub fn batches_within(&mut self, most: Duration) {
        self.batch_max = most;
    }

    /// How long rules of the whole rest between two judgements: so long at least, and so many times what a judgement took.
    pub fn rest(&mut self, least: Duration, share: u32) {
        self.rest = (least, share);
    }

    /// Keys that are bad since an earlier commit: of a run before this one. They are not said to begin; those that are good at the first
    /// judgement are said to have healed there.
    pub fn remember(&mut self, rule: usize, keys: impl Iterator<Item = (Box<[u8]>, Commit)>) {
        let followed = &mut self.rules[rule];
        followed.open.extend(keys);
        followed.remembered = followed.open.keys().cloned().collect();
        // That run may have ended before it looked closely.
        followed.vague = followed.open.keys().cloned().collect();
    }

    /// Applies the next transaction.
    ///
    /// # Errors
    /// As [`History::apply`].
    pub fn apply(&mut self, transaction: &Transaction) -> Result<(), (usize, Contradiction)> {
        self.history_mut().apply(transaction)
    }

    /// The history, to apply changes to it. Attributes of commits before its head may be gone with the first call after judging.
    pub fn history_mut(&mut self) -> &mut History {
        if Arc::get_mut(&mut self.judge.history).is_none() {
            // A query that was given up holds on to it until it notices: the others go on with a copy of what is alive.
            self.cut_now();
        }
        let history = Arc::get_mut(&mut self.judge.history);
        history.expect("a history that was just made is ours alone")
    }

    /// Gives up the rules that read some columns of a table, for good: they are unknown from now on. Without columns, all that read the
    /// table. The columns are kept no more.
    pub fn lose(&mut self, table: usize, columns: Option<&[usize]>, reason: &str) {
        for at in 0..self.rules.len() {
            if self.rules[at].lost.is_some() {
                continue;
            }
            let Ok(prepared) = self.prepared(&self.rules[at].rule.clone()) else {
                continue;
            };
            let reads = self.judge.reads(&[prepared], &self.at_the_head());
            if reads.touches(table, columns) {
                self.rules[at].give_up(reason);
            }
        }
        if let Some(columns) = columns {
            self.history_mut().leave_out(table, columns);
        }
    }

    /// Judges everything that was applied. `now_us` is the clock of the stream. One turn a rule, in their order.
    pub fn judge(&mut self, now_us: Option<i64>) -> Vec<Turn> {
        let head = self.history().head();
        let behind = |followed: &Followed| self.judged.is_some_and(|at| followed.until < at);
        let late = |followed: &Followed| Turn {
            late: behind(followed),
            ..Turn::default()
        };
        let mut turns: Vec<Turn> = self.rules.iter().map(late).collect();
        self.standing(head, &mut turns);
        for (at, mut owed) in std::mem::take(&mut self.owed) {
            if owed.began.is_empty() && owed.healed.is_empty() {
                continue;
            }
            let turn = &mut turns[at];
            owed.began.append(&mut turn.began);
            owed.healed.append(&mut turn.healed);
            (turn.began, turn.healed, turn.late) = (owed.began, owed.healed, true);
        }
        for (at, turn) in turns.iter_mut().enumerate() {
            self.again(at);
            self.whole(at, head, now_us, turn);
            self.count(at, head, turn);
            self.look_closely(at, turn);
        }
        self.judged = Some(head);
        self.history().let_deltas_go();
        for (followed, turn) in self.rules.iter_mut().zip(&mut turns) {
            turn.late |= matches!(followed.road, Road::Whole { .. });
            turn.slowed = std::mem::take(&mut followed.slowed);
            if let Road::Unknown { reason, .. } = &followed.road {
                turn.unknown.get_or_insert_with(|| reason.clone());
            }
        }
        turns
    }

    /// Judges the rules that are judged at every commit.
    fn standing(&mut self, head: Commit, turns: &mut [Turn]) {
        let types = self.number_types();
        if types != self.number_types {
            // Plans know the types of columns, and those of numbers have others now.
            self.number_types = types;
            self.plan(true);
        }
        let first = self.history().first;
        let history = Arc::clone(&self.judge.history);
        let resting = self.engine.take().expect("an engine rests between batches");
        let engine = Arc::new(resting.moved(&history, head));
        let limits = self.judge.limits.clone();
        let mut in_time = limits.clone();
        in_time.rule_timeout = limits.rule_timeout.min(self.batch_max);
        let (mut places, mut jobs) = (Vec::new(), Vec::new());
        for (at, followed) in self.rules.iter_mut().enumerate() {
            let asleep = Road::Unknown {
                reason: "a judgement was cut off".into(),
                again: Instant::now() + AGAIN_MAX,
            };
            if !matches!(followed.road, Road::Standing(..)) {
                continue;
            }
            let Road::Standing(standing, compiled) = std::mem::replace(&mut followed.road, asleep)
            else {
                unreachable!("looked at above")
            };
            let task = advance(standing, compiled, Arc::clone(&engine), head);
            // Writes that are not judged now never are: they are not judged from time to time instead.
            let patient = followed.fresh || followed.rule.check.judges_writes();
            let limits = if patient { &limits } else { &in_time };
            places.push(at);
            jobs.push(Job {
                limits: limits.clone(),
                work: Box::pin(task),
            });
        }
        let done = guard::guarded_all(jobs, self.lanes);
        let done = self.judge.runtime().block_on(done);
        drop(engine);
        self.engine = Some(resting);
        drop(history);
        for (at, result) in places.into_iter().zip(done) {
            let followed = &mut self.rules[at];
            match result {
                Ok(Advanced::Judged(standing, compiled, spans, took)) => {
                    turns[at].took = took;
                    followed.take(spans, (first, head), &mut turns[at]);
                    followed.road = Road::Standing(standing, compiled);
                }
                Ok(Advanced::TooHot) => {
                    if let Err(reason) = self.stand_by_groups(at, head, &mut turns[at]) {
                        self.rules[at].wait(reason);
                    }
                }
                Err(JudgeError::Limit(_)) => followed.slow_down(),
                Err(error) => followed.wait(error.to_string()),
            }
        }
    }

    /// Judges a rule from the start with the aggregates of its groups as tables.
    fn stand_by_groups(&mut self, at: usize, head: Commit, turn: &mut Turn) -> Result<(), String> {
        let begun = Instant::now();
        let first = self.history().first;
        let rule = self.rules[at].rule.clone();
        let road = self.road(&rule, Summaries::OfGroups)?;
        let Road::Standing(standing, compiled) = road else {
            self.rules[at].road = road;
            return Ok(());
        };
        let history = Arc::clone(&self.judge.history);
        let resting = self.engine.as_ref().expect("an engine rests");
        let engine = Arc::new(resting.moved(&history, head));
        let task = advance(standing, compiled, engine, head);
        let done = self
            .judge
            .runtime()
            .block_on(guard::guarded(&self.judge.limits, task));
        match done.map_err(|error| error.to_string())? {
            Advanced::Judged(standing, compiled, spans, _) => {
                turn.took = begun.elapsed();
                self.rules[at].take(spans, (first, head), turn);
                self.rules[at].road = Road::Standing(standing, compiled);
                Ok(())
            }
            Advanced::TooHot => Err("it reads too many rows at every commit".into()),
        }
    }

    /// Tries a rule again that failed a while ago.
    fn again(&mut self, at: usize) {
        let Road::Unknown { again, .. } = self.rules[at].road else {
            return;
        };
        if Instant::now() < again || self.rules[at].lost.is_some() {
            return;
        }
        let (rule, until) = (self.rules[at].rule.clone(), self.rules[at].until);
        if rule.check.judges_writes() && self.history().first > until {
            let to = self.history().first;
            self.rules[at].give_up(&format!(
                "its writes from #{} to #{to} were not judged; `firstbad bisect STORE` judges them",
                until + 1
            ));
            return;
        }
        self.set_out(at, &rule);
    }

    /// How a rule is to be judged.
    fn road(&self, rule: &Rule, keep: Summaries) -> Result<Road, String> {
        let whole = Road::Whole {
            next: Instant::now(),
        };
        let writes = rule.check.judges_writes();
        let prepared = self.prepared(rule)?;
        let compiled = match &prepared.plan {
            Plan::Refused(reason) => return Err(reason.clone()),
            Plan::Shape { .. } | Plan::Metric { .. } => return Ok(whole),
            // What was deleted long ago must be known, so it is not cut into batches.
            Plan::Query(_) if rule.check == Check::NoResurrection => return Ok(whole),
            Plan::Query(_) if writes && prepared.asks_for_the_time() => {
                return Err(NOT_SELDOM.into());
            }
            Plan::Query(_) if prepared.asks_for_the_time() => return Ok(whole),
            Plan::Query(compiled) => Arc::new(compiled.clone()),
        };
        let history = &self.judge.history;
        let engine = self
            .judge
            .workshop
            .lifting_engine(history, history.head(), None);
        let standing =
            self.judge
                .runtime()
                .block_on(Standing::plan(&engine, &compiled, keep, &self.tuning));
        let mut standing = match standing {
            Ok(standing) => standing,
            Err(_) if writes => return Err(NOT_SELDOM.into()),
            Err(_) => return Ok(whole),
        };
        let column = writes.then(|| commit_column(rule, &compiled).map(str::to_owned));
        standing.watch(column.transpose().map_err(|error| error.to_string())?);
        Ok(Road::Standing(Box::new(standing), compiled))
    }

    /// Plans the rules over the history as it is; with `again`, only those that are judged at every commit.
    fn plan(&mut self, again: bool) {
        let rules: Vec<Rule> = self.rules().cloned().collect();
        for (at, rule) in rules.iter().enumerate() {
            if again && !matches!(self.rules[at].road, Road::Standing(..)) {
                continue;
            }
            self.set_out(at, rule);
        }
        let history = &self.judge.history;
        let engine = self
            .judge
            .workshop
            .lifting_engine(history, history.head(), None);
        self.engine = Some(engine.resting());
    }

    /// Puts a rule on its road.
    fn set_out(&mut self, at: usize, rule: &Rule) {
        let road = self.road(rule, Summaries::OfWholeTables);
        self.rules[at].fresh = true;
        match road {
            Ok(road) => self.rules[at].road = road,
            Err(reason) => self.rules[at].wait(reason),
        }
    }

    /// Cuts the history down to what is alive, when enough has ended. What was judged last must have been looked at: attributes of
    /// commits before the head are gone afterwards.
    pub fn cut(&mut self) {
        let versions: usize = self
            .history()
            .tables
            .iter()
            .map(|t| t.version_count())
            .sum();
        let alive: usize = self.history().tables.iter().map(|t| t.row_count()).sum();
        let ended = versions - alive;
        if ended > ENDED_MAX.max(alive) {
            self.cut_now();
        }
    }

    /// Whether a rule is still to be judged at commits that have been.
    fn is_behind(&self) -> bool {
        let head = self.history().head();
        let behind = |one: &Followed| matches!(one.road, Road::Standing(..)) && one.until < head;
        self.rules.iter().any(behind)
    }

    /// Cuts the history down to what is alive at its head.
    pub fn cut_now(&mut self) {
        if self.is_behind() {
            // What is cut off is judged before: the next judgement tells it.
            let mut turns: Vec<Turn> = self.rules.iter().map(|_| Turn::default()).collect();
            self.standing(self.history().head(), &mut turns);
            self.owed.extend(turns.into_iter().enumerate());
        }
        let next = self.history().from_the_head();
        self.engine = None;
        let head = next.first;
        self.judge.history = Arc::new(next);
        self.plan(true);
        self.forget_the_deleted();
        // What is bad at the head is told by the rules themselves: all of it is open already.
        let mut again: Vec<Turn> = self.rules.iter().map(|_| Turn::default()).collect();
        self.standing(head, &mut again);
    }
}

/// What came of judging a rule.
enum Advanced {
    Judged(Box<Standing>, Arc<Compiled>, Vec<Span>, Duration),
    TooHot,
}

async fn advance(
    mut standing: Box<Standing>,
    compiled: Arc<Compiled>,
    engine: Arc<Engine>,
    until: Commit,
) -> Result<Advanced, JudgeError> {
    let begun = Instant::now();
    let stood = standing.advance(&engine, &compiled, until).await?;
    if stood == Stood::TooHot {
        return Ok(Advanced::TooHot);
    }
    let spans = standing.take();
    Ok(Advanced::Judged(standing, compiled, spans, begun.elapsed()))
}
