//! Watching a database: every commit is recorded and judged, and what is found becomes incidents.
//!
//! ```text
//! server -> feed -> transactions -> judging -> what was found --+-> incidents, notices
//!             ^          |                                      |
//!             |          +-> recorder -> store: sealed up to ---+
//!             +--------- confirmed: never beyond what is sealed +
//! ```
//!
//! What was found at a commit counts when the commit is on the disk, so that a crash at any moment neither loses nor repeats an
//! incident: what was not sealed comes again from the server, what was sealed and not judged is judged when watching goes on.

mod feed;
mod guest;
pub mod http;
#[cfg(test)]
mod http_tests;
mod judging;
pub mod metrics;
mod needs;
mod recorder;
mod setup;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use crate::change::{Commit, TransactionMeta};
use crate::diagnostic::Diagnostic;
use crate::incident::{IncidentError, Notice};
use crate::judge::{Limits, Live};
use crate::postgres::assemble::{AssembleError, Assembled, Body, Item};
use crate::postgres::{Lsn, PostgresError, Progress, Target};
use crate::rule::Rule;
use crate::store::{Retention, Sealing, StoreError};
use feed::{Durable, Feed, Input};
use guest::{Guest, Seen};
use judging::Judging;
use metrics::{Health, Metrics};
use recorder::{Committed, Policy, Recorder, Said};

pub use feed::FeedError;
pub(crate) use needs::{Needs, RuleReads, needs};
pub use recorder::RecordError;

/// So many inputs may wait for the watcher.
const WAITING: usize = 64;
/// How often the clock is looked at while nothing comes.
const TICK: Duration = Duration::from_millis(500);
/// So many changes are judged together at most, while more are waiting.
const TOGETHER: u64 = 20_000;
/// The same while the watcher is far behind: judged seldom, and exactly all the same.
const TOGETHER_BEHIND: u64 = 200_000;

/// What is watched and how.
#[derive(Clone)]
pub struct Settings {
    /// The server.
    pub target: Target,
    /// The store's directory.
    pub store: PathBuf,
    /// The rules.
    pub rules: Vec<Rule>,
    /// What judging may cost.
    pub limits: Limits,
    /// The replication slot.
    pub slot: String,
    /// The publication.
    pub publication: String,
    /// When what was recorded is sealed.
    pub sealing: Sealing,
    /// So long after a change it is sealed at the latest.
    pub seal_age: Duration,
    /// What the store keeps.
    pub retention: Retention,
    /// Whether a backlog is read in bulk.
    pub bulk: bool,
    /// Above so many bytes of log behind, the watcher says so, and judges larger batches.
    pub lag_warn_bytes: u64,
    /// Above so many, it drops its slot to spare the server, and ends; None for never.
    pub lag_drop_bytes: Option<u64>,
    /// Whether to end when everything is judged that was committed before the start.
    pub until_now: bool,
}

/// Why watching ends.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The server.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The stream.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// A large transaction.
    #[error(transparent)]
    Assemble(#[from] AssembleError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The recorder.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The incidents' database.
    #[error(transparent)]
    Incidents(#[from] IncidentError),
    /// The engine, or a thread.
    #[error("cannot set up the engine: {0}")]
    Engine(#[source] std::io::Error),
    /// Rules that do not fit the database.
    #[error("the rules do not fit the database")]
    Rules(Vec<Diagnostic>),
    /// No rule reads a table.
    #[error("no rule reads a table of the database: there is nothing to watch")]
    NothingToWatch,
    /// Tables that cannot be followed; one text each.
    #[error("{}", .0.join("; "))]
    Tables(Vec<String>),
    /// The tables are not those of the store.
    #[error("{0}: a store holds one schema, so name a new store")]
    OtherTables(String),
    /// A publication that does not do.
    #[error("{0}")]
    Publication(String),
    /// We may not make one.
    #[error("the role may not make publication {0}: let the tables' owner run sql/02-publication.sql")]
    NoPublication(String),
    /// Somebody else's slot.
    #[error(
        "slot {0} is there already, and not this store's, or somebody streams it: name another with --slot, or drop it with select pg_drop_replication_slot('{0}')"
    )]
    SlotIsThere(String),
    /// The store is of another server.
    #[error(
        "the store was recorded from another server (its system identifier differs): name another store"
    )]
    OtherServer,
    /// The stream does not fit what is known.
    #[error("commit #{0}, table {1}: {2}")]
    Contradiction(Commit, String, String),
    /// The slot held back too much.
    #[error(
        "the watcher was {0} bytes behind: the slot was dropped, as --drop-slot-above asks; the next start reads the tables anew"
    )]
    Dropped(u64),
}

/// What happens while watching, for people and programs.
pub enum Told<'a> {
    /// An incident changed.
    Notice(&'a Notice),
    /// Something about the watch itself, in words.
    Note(&'a str),
    /// Everything is set up; streaming begins: how many rules, and at which position.
    Watching {
        /// Rules that are judged at every commit.
        at_every_commit: usize,
        /// Rules that are judged as a whole from time to time.
        on_a_cadence: usize,
        /// The last position that is judged.
        commit: Commit,
        /// Rows of the state.
        rows: u64,
    },
}

/// What is seen of a watch from outside.
#[derive(Clone, Debug)]
pub struct Outside {
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Whether it does its work.
    pub health: Arc<Health>,
}

/// Stops a watch from another thread.
#[derive(Clone)]
pub struct Stopper(SyncSender<Input>);

impl Stopper {
    /// Asks the watch to end: what was received is recorded and judged before.
    pub fn stop(&self) {
        let _ = self.0.send(Input::Stop);
    }
}

/// Watches until it is stopped, or cannot go on. `tell` is told what happens; `ready` gets what stops it.
///
/// # Errors
/// Why it cannot begin, or go on.
pub fn watch(
    settings: &Settings,
    seen: &Outside,
    runtime: &tokio::runtime::Runtime,
    progress: &(dyn Fn(Progress) + Sync),
    ready: &mut dyn FnMut(Stopper),
    tell: &mut dyn FnMut(Told<'_>) -> bool,
) -> Result<(), WatchError> {
    let mut anew = None;
    loop {
        let ended = once(settings, anew.take(), seen, runtime, progress, ready, tell)?;
        match ended {
            Ended::Stopped => return Ok(()),
            Ended::Anew(reason) => anew = Some(reason),
        }
    }
}

/// How a watch ended that did not fail.
enum Ended {
    Stopped,
    /// The tables must be read again.
    Anew(String),
}

fn once(
    settings: &Settings,
    anew: Option<String>,
    seen: &Outside,
    runtime: &tokio::runtime::Runtime,
    progress: &(dyn Fn(Progress) + Sync),
    ready: &mut dyn FnMut(Stopper),
    tell: &mut dyn FnMut(Told<'_>) -> bool,
) -> Result<Ended, WatchError> {
    let durable = Arc::new(Durable::default());
    let mut say = |text: &str| {
        tell(Told::Note(text));
    };
    let begun = runtime.block_on(setup::begin(settings, anew, &durable, progress, &mut say))?;
    let clock = begun.history.now_at(begun.history.head());
    let live = Live::begin(begun.history, &settings.rules, settings.limits.clone());
    let live = live
        .map_err(WatchError::Rules)?
        .map_err(WatchError::Engine)?;
    let oids = begun.relations.oids();
    let (judging, notices) =
        Judging::begin(live, begun.incidents, clock, Arc::clone(&seen.metrics))?;
    let (to, inputs) = sync_channel(WAITING);
    ready(Stopper(to.clone()));
    let policy = Policy {
        sealing: settings.sealing,
        age: settings.seal_age,
        retention: settings.retention,
    };
    let said = to.clone();
    let head = begun.writer.store().ledger().head();
    let recorder = Recorder::start(begun.writer, policy, move |what| {
        let _ = said.send(Input::Recorder(what));
    })
    .map_err(WatchError::Engine)?;
    let mut watch = Watch {
        settings,
        judging,
        recorder: Some(recorder),
        durable: Arc::clone(&durable),
        inputs,
        head,
        sealed: head,
        last: begun.last,
        ends: VecDeque::new(),
        passed: Lsn(0),
        until: begun.until,
        behind: false,
        warned: false,
        heard: Instant::now(),
        outside: seen.clone(),
        clock: clock.unwrap_or(0),
    };
    for notice in &notices {
        watch.print(notice, tell)?;
    }
    watch.catch_up_with_the_store(begun.later, tell)?;
    watch.announce(tell);
    let feed = Feed {
        target: settings.target.clone(),
        slot: settings.slot.clone(),
        publication: settings.publication.clone(),
        relations: begun.relations,
        spill: settings.store.clone(),
        bulk: settings.bulk,
        durable: Arc::clone(&durable),
        to: to.clone(),
    };
    let guest = Guest {
        target: settings.target.clone(),
        slot: settings.slot.clone(),
        publication: settings.publication.clone(),
        tables: oids,
        durable: Arc::clone(&durable),
        to,
    };
    let feed = runtime.spawn(feed.run());
    let guest = runtime.spawn(guest.run());
    let ended = watch.run(tell);
    let finished = watch.finish(tell);
    durable.stop();
    // Whoever waits to hand something over finds nobody there.
    drop(watch);
    let ending = async {
        let _ = tokio::time::timeout(Duration::from_secs(6), feed).await;
        guest.abort();
    };
    runtime.block_on(ending);
    if let Err(WatchError::Dropped(_)) = &ended {
        runtime.block_on(setup::drop_slot(settings))?;
    }
    let ended = ended?;
    finished?;
    Ok(ended)
}

/// A watch that runs.
struct Watch<'a> {
    settings: &'a Settings,
    judging: Judging,
    recorder: Option<Recorder>,
    durable: Arc<Durable>,
    inputs: Receiver<Input>,
    /// The last commit.
    head: Commit,
    /// The last commit that is on the disk.
    sealed: Commit,
    /// The LSN of the last commit: what comes at or before it was there already.
    last: Lsn,
    /// Commits that are not on the disk, with the end of each in the log.
    ends: VecDeque<(Commit, Lsn)>,
    /// A position behind everything that came, where nothing of ours lies between.
    passed: Lsn,
    /// Where to end.
    until: Option<Lsn>,
    behind: bool,
    warned: bool,
    /// The server's clock as it was told last, in microseconds since the epoch, and when that was.
    heard: Instant,
    clock: i64,
    outside: Outside,
}

impl Watch<'_> {
    /// Judges what was recorded before and not judged.
    fn catch_up_with_the_store(
        &mut self,
        later: Vec<crate::change::Transaction>,
        tell: &mut dyn FnMut(Told<'_>) -> bool,
    ) -> Result<(), WatchError> {
        let any = !later.is_empty();
        for transaction in later {
            let items = transaction.changes.into_iter().map(Item::Change);
            self.judging.apply(&Committed {
                commit: transaction.commit,
                meta: transaction.meta,
                body: Body::Held(items.collect()),
            })?;
        }
        if any {
            self.judging.judge();
        }
        let notices = self.judging.sealed(self.sealed)?;
        self.print_all(&notices, tell)?;
        // What was decided before a crash and perhaps not said.
        loop {
            let left = self.judging.incidents().unprinted(100)?;
            if left.is_empty() {
                return Ok(());
            }
            for notice in &left {
                self.print(notice, tell)?;
            }
        }
    }

    fn announce(&self, tell: &mut dyn FnMut(Told<'_>) -> bool) {
        let live = self.judging.live();
        let all = live.rules().count();
        let on_a_cadence = (0..all).filter(|&at| live.on_a_cadence(at)).count();
        let rows: usize = live
            .history()
            .tables
            .iter()
            .map(|table| table.row_count())
            .sum();
        tell(Told::Watching {
            at_every_commit: all - on_a_cadence,
            on_a_cadence,
            commit: self.judging.judged(),
            rows: rows as u64,
        });
    }

    fn print(
        &mut self,
        notice: &Notice,
        tell: &mut dyn FnMut(Told<'_>) -> bool,
    ) -> Result<(), WatchError> {
        if tell(Told::Notice(notice)) {
            self.judging.incidents().printed(notice.seq)?;
        }
        Ok(())
    }

    fn print_all(
        &mut self,
        notices: &[Notice],
        tell: &mut dyn FnMut(Told<'_>) -> bool,
    ) -> Result<(), WatchError> {
        notices
            .iter()
            .try_for_each(|notice| self.print(notice, tell))
    }

    fn run(&mut self, tell: &mut dyn FnMut(Told<'_>) -> bool) -> Result<Ended, WatchError> {
        let mut ticked = Instant::now();
        loop {
            let first = match self.inputs.recv_timeout(TICK) {
                Ok(input) => Some(input),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(Ended::Stopped),
            };
            let mut applied = 0;
            let mut next = first;
            while let Some(input) = next.take() {
                if let Some(ended) = self.take(input, &mut applied, tell)? {
                    return Ok(ended);
                }
                let most = if self.behind {
                    TOGETHER_BEHIND
                } else {
                    TOGETHER
                };
                if applied >= most {
                    break;
                }
                next = match self.inputs.try_recv() {
                    Ok(input) => Some(input),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
                };
            }
            if applied > 0 || ticked.elapsed() >= TICK {
                ticked = Instant::now();
                self.judge(tell)?;
            }
            if self.until.is_some_and(|until| self.durable.lsn() >= until) {
                return Ok(Ended::Stopped);
            }
        }
    }

    fn judge(&mut self, tell: &mut dyn FnMut(Told<'_>) -> bool) -> Result<(), WatchError> {
        if self.judging.judge() {
            self.recorder
                .as_ref()
                .expect("it records until the end")
                .seal();
        }
        self.outside.metrics.judged(self.judging.judged());
        self.outside.health.judged(self.judging.judged());
        if self.ends.is_empty() {
            self.reach(self.passed)?;
        }
        if self.sealed == self.head && self.judging.is_waiting() {
            let notices = self.judging.sealed(self.sealed)?;
            self.print_all(&notices, tell)?;
        }
        Ok(())
    }

    /// Takes an input. Some when the watch ends.
    fn take(
        &mut self,
        input: Input,
        applied: &mut u64,
        tell: &mut dyn FnMut(Told<'_>) -> bool,
    ) -> Result<Option<Ended>, WatchError> {
        match input {
            Input::Transactions(list, _room) => {
                self.heard = Instant::now();
                for assembled in list {
                    *applied += assembled.changes;
                    self.commit(assembled, tell)?;
                }
            }
            Input::Idle(end, time) => {
                self.heard = Instant::now();
                self.pass(end);
                self.clock = time;
                if self.ends.is_empty() {
                    self.reach(self.passed)?;
                }
                if self.ends.is_empty() && *applied == 0 {
                    let notices = self.judging.tick(time)?;
                    self.print_all(&notices, tell)?;
                }
            }
            Input::Mark(_) => {}
            Input::Connected { in_bulk } => {
                self.outside.health.streaming();
                if in_bulk {
                    tell(Told::Note("catching up in bulk"));
                }
            }
            Input::Lost(error) => {
                self.outside.health.away(Instant::now());
                self.outside.metrics.reconnected();
                tell(Told::Note(&format!(
                    "the connection was lost: {error}; trying again"
                )));
            }
            Input::Failed(error) => return self.failed(error),
            Input::Recorder(Said::Sealed(until)) => {
                self.sealed = until;
                let mut end = Lsn(0);
                while self
                    .ends
                    .front()
                    .is_some_and(|(commit, _)| *commit <= until)
                {
                    end = self.ends.pop_front().expect("looked at above").1;
                }
                let notices = self.judging.sealed(until)?;
                self.print_all(&notices, tell)?;
                self.reach(end)?;
                if self.ends.is_empty() {
                    self.reach(self.passed)?;
                }
                self.outside.metrics.recorded(until);
            }
            Input::Recorder(Said::Failed(error)) => return Err(error.into()),
            Input::Slot(seen) => return self.look(&seen, tell),
            Input::Stop => return Ok(Some(Ended::Stopped)),
        }
        Ok(None)
    }

    /// A slot that is gone or invalid while we stream is a gap; everything else ends the watch.
    fn failed(&mut self, error: FeedError) -> Result<Option<Ended>, WatchError> {
        let gone = match &error {
            FeedError::Postgres(error) => matches!(error.sqlstate(), Some("42704" | "55000")),
            _ => false,
        };
        match gone {
            true => Ok(Some(Ended::Anew(format!(
                "the slot cannot be streamed any more ({error})"
            )))),
            false => Err(error.into()),
        }
    }

    fn commit(
        &mut self,
        assembled: Assembled,
        tell: &mut dyn FnMut(Told<'_>) -> bool,
    ) -> Result<(), WatchError> {
        let Assembled {
            meta,
            end_lsn,
            body,
            changes,
            ..
        } = assembled;
        let lsn = lsn_of(&meta);
        if lsn <= self.last {
            // It came again: it is recorded already.
            self.pass(end_lsn);
            return Ok(());
        }
        if changes == 0 {
            // Perhaps a table is different from here on; there is no commit of rows.
            let altered = self.judging.alter(&body)?;
            altered
                .iter()
                .for_each(|change| _ = tell(Told::Note(change)));
            self.pass(end_lsn);
            return Ok(());
        }
        self.last = lsn;
        self.head += 1;
        let committed = Committed {
            commit: self.head,
            meta,
            body,
        };
        let altered = self.judging.apply(&committed)?;
        altered
            .iter()
            .for_each(|change| _ = tell(Told::Note(change)));
        self.ends.push_back((self.head, end_lsn));
        self.passed = self.passed.max(end_lsn);
        self.clock = self.clock.max(committed.meta.time.unwrap_or(0));
        self.outside.metrics.received(1, changes);
        let recorder = self.recorder.as_ref().expect("it records until the end");
        recorder.record(Arc::new(committed));
        Ok(())
    }

    /// Nothing of ours lies before this position that has not come.
    fn pass(&mut self, end: Lsn) {
        self.passed = self.passed.max(end);
    }

    /// The server need keep nothing before this position.
    fn reach(&mut self, lsn: Lsn) -> Result<(), WatchError> {
        if lsn > self.durable.lsn() {
            setup::confirm(self.judging.incidents(), lsn)?;
            self.durable.reach(lsn);
            self.outside.metrics.confirmed(lsn.0);
        }
        Ok(())
    }

    fn look(
        &mut self,
        seen: &Seen,
        tell: &mut dyn FnMut(Told<'_>) -> bool,
    ) -> Result<Option<Ended>, WatchError> {
        let lag_s = match self.ends.is_empty() && seen.lag_bytes == 0 {
            true => 0.0,
            false => seconds_since(self.clock),
        };
        self.outside.metrics.lag(seen.lag_bytes, lag_s);
        self.outside.health.lag(seen.lag_bytes, lag_s);
        self.outside.metrics.retained(seen.retained_bytes);
        self.outside
            .metrics
            .incidents(&self.judging.incidents().counts()?);
        if let Some(altered) = &seen.altered {
            return Ok(Some(Ended::Anew(altered.clone())));
        }
        let lost = seen
            .slot
            .as_ref()
            .is_none_or(|slot| slot.wal_status.as_deref() == Some("lost"));
        if lost {
            return Ok(Some(Ended::Anew("the slot is gone".into())));
        }
        self.behind = seen.lag_bytes > self.settings.lag_warn_bytes;
        if self.behind && !self.warned {
            tell(Told::Note(&format!(
                "{} bytes of log behind: larger batches are judged until that is made good",
                seen.lag_bytes
            )));
        }
        self.warned = self.behind;
        self.outside.health.paused(self.behind);
        match self.settings.lag_drop_bytes {
            Some(most) if seen.retained_bytes > most => {
                Err(WatchError::Dropped(seen.retained_bytes))
            }
            _ => Ok(None),
        }
    }

    /// Everything that was received is sealed, judged and confirmed.
    fn finish(&mut self, tell: &mut dyn FnMut(Told<'_>) -> bool) -> Result<(), WatchError> {
        let recorder = self.recorder.take();
        let closing = std::thread::spawn(move || drop(recorder));
        let mut result: Result<(), WatchError> = Ok(());
        // The recorder may have to say something before it ends, and others still hand over.
        while !closing.is_finished() || self.sealed < self.head {
            match self.inputs.recv_timeout(Duration::from_millis(20)) {
                Ok(Input::Recorder(Said::Sealed(until))) => self.sealed = until,
                Ok(Input::Recorder(Said::Failed(error))) => {
                    result = Err(error.into());
                    break;
                }
                Ok(_) => {}
                Err(_) if closing.is_finished() => break,
                Err(_) => {}
            }
        }
        let _ = closing.join();
        result?;
        self.judging.judge();
        let notices = self.judging.sealed(self.sealed)?;
        self.print_all(&notices, tell)?;
        let end = self
            .ends
            .iter()
            .rev()
            .find(|(commit, _)| *commit <= self.sealed);
        let end = end.map_or(Lsn(0), |(_, end)| *end);
        self.reach(end)
    }
}

/// How long ago an instant was, in seconds; it is given in microseconds since the epoch.
fn seconds_since(time_us: i64) -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |now| i64::try_from(now.as_micros()).unwrap_or(i64::MAX));
    Duration::from_micros(u64::try_from(now - time_us).unwrap_or(0)).as_secs_f64()
}

fn lsn_of(meta: &TransactionMeta) -> Lsn {
    let lsn = meta.lsn.as_deref().and_then(|text| text.parse().ok());
    lsn.unwrap_or(Lsn(0))
}
