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
mod publication;
mod recorder;
mod run;
mod setup;
mod shape;
pub mod snapshots;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use crate::change::Commit;
use crate::diagnostic::Diagnostic;
use crate::incident::{IncidentError, Notice};
use crate::judge::{Limits, Live};
use crate::postgres::assemble::AssembleError;
use crate::postgres::{Lsn, PostgresError, Progress, Target};
use crate::rule::Rule;
use crate::store::{Retention, Sealing, StoreError};
use feed::{Durable, Feed, Feeding, Input};
use guest::Guest;
use judging::Judging;
use metrics::{Health, Metrics};
use recorder::{Policy, Recorder};
use run::Watch;

pub use feed::FeedError;
pub(crate) use needs::{Needs, RuleReads, needs};
pub use recorder::RecordError;
pub use setup::{confirmed, generated, recorded_from};

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
    /// A server that cannot decode.
    #[error(
        "the server is a standby, which can be watched from PostgreSQL 16 on only: name the primary"
    )]
    Standby,
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
    #[error(
        "the role may not make publication {0}: let the tables' owner run sql/02-publication.sql"
    )]
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
pub struct Stopper(Sender<Input>);

impl Stopper {
    /// Asks the watch to end: what was received is recorded and judged before.
    ///
    /// False where it has ended already.
    pub fn stop(&self) -> bool {
        self.0.send(Input::Stop).is_ok()
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
    let first = begun.writer.store().ledger().first;
    let last_good = begun.gap.as_ref().map_or(first, |(from, ..)| from - 1);
    let server = begun.server;
    let (judging, notices) = Judging::begin(
        live,
        begun.incidents,
        clock,
        last_good,
        Arc::clone(&seen.metrics),
    )?;
    // Without a bound: who waits for room here could be waited for. What takes memory has its room from the feed.
    let (to, inputs) = channel();
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
        anew: begun.anew,
        behind: false,
        warned: false,
        held: false,
        heard: Instant::now(),
        outside: seen.clone(),
        made: Vec::new(),
        clock: clock.unwrap_or(0),
        judged_ends: VecDeque::new(),
        kept: None,
    };
    watch.print_all(&notices, tell)?;
    if let Some((from, to, reason)) = &begun.gap {
        seen.metrics.gap();
        let commits = if from == to {
            format!("#{from}")
        } else {
            format!("#{from} to #{to}")
        };
        tell(Told::Note(&format!(
            "{commits} stands for what was not seen: {reason}"
        )));
    }
    watch.catch_up_with_the_store(begun.later, tell)?;
    watch.judging.tell_gates()?;
    tell(watch.judging.watching());
    let feed = Feed {
        target: settings.target.clone(),
        slot: settings.slot.clone(),
        publication: settings.publication.clone(),
        relations: begun.relations,
        server,
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
        shape: begun.shape,
        durable: Arc::clone(&durable),
        to,
    };
    let feed = Feeding::start(feed).map_err(WatchError::Engine)?;
    let guest = runtime.spawn(guest.run());
    let ended = watch.run(tell);
    let finished = watch.finish(tell);
    durable.stop();
    // Whoever waits to hand something over finds nobody there.
    drop(watch);
    let ending = async {
        feed.end(Duration::from_secs(6)).await;
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
