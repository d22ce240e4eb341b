//! Watching without the stream of changes: from time to time the watched tables are read at one moment, and that state is judged as the
//! next commit.
//!
//! The store is one of snapshots: a commit of it is what is different from one reading to the next. Who wrote that, in which transactions and
//! what was undone in between, nobody knows: a first bad write is bounded by two readings, and checks of writes judge what came of all
//! writes together. A state with the fingerprint of the one before it is no commit; rules that ask for the time are judged all the same.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::feed::Input;
use super::judging::Judging;
use super::needs::{fits, needs};
use super::recorder::Committed;
use super::{Outside, Settings, Stopper, Told, WatchError, setup};
use crate::change::{Commit, TransactionMeta};
use crate::gate::{self, UpTo};
use crate::incident::Incidents;
use crate::judge::Live;
use crate::postgres::assemble::{Body, Item};
use crate::postgres::{Access, Backoff, Lsn, Moment, Progress, Session, Target, Wanted, slot};
use crate::schema::value::format_timestamp;
use crate::schema::{Schema, TableName};
use crate::state::{Fingerprint, History, Origin};
use crate::store::{Format, Kind, Retention, Writer};

/// What our sessions are called on the server.
const APPLICATION: &str = "firstbad watch";
/// So many commits are looked at for small neighbours to merge.
const MERGE_EVERY: u32 = 64;
/// What is said at the start.
const BLIND: &str = "no logical replication: what happens between two snapshots is not seen; a first bad write is bounded by two snapshots";

/// Watches until it is stopped, or cannot go on: reads the tables every so often. Arguments are those of [`super::watch`]; slot,
/// publication and lag of the settings mean nothing here.
///
/// # Errors
/// Why it cannot begin, or go on. A connection that is lost later is made again.
pub fn watch(
    settings: &Settings,
    every: Duration,
    seen: &Outside,
    runtime: &tokio::runtime::Runtime,
    progress: &(dyn Fn(Progress) + Sync),
    ready: &mut dyn FnMut(Stopper),
    tell: &mut dyn FnMut(Told<'_>) -> bool,
) -> Result<(), WatchError> {
    tell(Told::Note(BLIND));
    let mut begun = Instant::now();
    let (mut rounds, is_new) = Rounds::begin(settings, seen, runtime, progress, tell)?;
    let (to, inputs) = channel();
    ready(Stopper(to.clone()));
    if is_new && settings.until_now {
        return Ok(());
    }
    // A store that was there is behind by now.
    let mut due = if is_new { begun + every } else { begun };
    let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
    loop {
        if is_stopped(&inputs, due) {
            return Ok(());
        }
        begun = Instant::now();
        let look = look(&settings.target, &rounds.schema, &rounds.reads, progress);
        let Some(found) = until_stopped(runtime, look, &inputs, &to) else {
            return Ok(());
        };
        match found {
            Ok(state) => {
                rounds.take(state, tell)?;
                if settings.until_now {
                    return Ok(());
                }
                backoff.reset();
                due = begun + every;
            }
            Err(WatchError::Postgres(error)) if error.is_transient() => {
                seen.health.away(Instant::now());
                seen.metrics.reconnected();
                tell(Told::Note(&format!(
                    "the tables cannot be read: {error}; trying again"
                )));
                due = Instant::now() + backoff.wait().min(every);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Waits until an instant; whether somebody wants the watch to end.
fn is_stopped(inputs: &Receiver<Input>, due: Instant) -> bool {
    loop {
        let left = due.saturating_duration_since(Instant::now());
        match inputs.recv_timeout(left) {
            Ok(Input::Stop) | Err(RecvTimeoutError::Disconnected) => return true,
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => return false,
        }
    }
}

/// Does something that takes its time; None where somebody wants the watch to end meanwhile, and it is left undone.
fn until_stopped<T: Send>(
    runtime: &tokio::runtime::Runtime,
    work: impl Future<Output = T> + Send,
    inputs: &Receiver<Input>,
    to: &Sender<Input>,
) -> Option<T> {
    let stop = tokio::sync::Notify::new();
    std::thread::scope(|scope| {
        let working = scope.spawn(|| {
            let done = runtime.block_on(async {
                tokio::select! {
                    done = work => Some(done),
                    () = stop.notified() => None,
                }
            });
            // Wakes who waits below.
            let _ = to.send(Input::Idle(Lsn(0), 0));
            done
        });
        let mut is_stopped = false;
        while !working.is_finished() {
            if let Ok(Input::Stop) = inputs.recv_timeout(Duration::from_millis(100)) {
                is_stopped = true;
                stop.notify_one();
            }
        }
        let done = working.join().expect("reading tables does not panic");
        // It may have been done by then; who asked is not asked again.
        done.filter(|_| !is_stopped)
    })
}

/// The watched tables at one moment, in the shape of the store.
struct State {
    history: History,
    print: Option<Fingerprint>,
}

/// A watch that runs.
struct Rounds<'a> {
    settings: &'a Settings,
    outside: &'a Outside,
    writer: Writer,
    judging: Judging,
    schema: Schema,
    /// For each table the columns that rules read: without them nothing is judged. The others are read where the role may.
    reads: Vec<BTreeSet<String>>,
    /// The state that was read last; None where that is not known.
    print: Option<Fingerprint>,
    /// The time of the last reading, and where the server's log was; None where this run has not read yet.
    time: i64,
    lsn: Option<Lsn>,
    commits: u32,
}

impl<'a> Rounds<'a> {
    /// Begins, or goes on where the store ends. True where the store is new: then its first state was read and judged.
    fn begin(
        settings: &'a Settings,
        outside: &'a Outside,
        runtime: &tokio::runtime::Runtime,
        progress: &(dyn Fn(Progress) + Sync),
        tell: &mut dyn FnMut(Told<'_>) -> bool,
    ) -> Result<(Self, bool), WatchError> {
        let begun = begin(settings, runtime, progress)?;
        let Begun {
            writer,
            incidents,
            history,
            later,
            schema,
            reads,
            is_new,
            lsn,
        } = begun;
        let clock = history.now_at(history.head());
        let live = Live::begin(history, &settings.rules, settings.limits.clone());
        let mut live = live
            .map_err(WatchError::Rules)?
            .map_err(WatchError::Engine)?;
        // Every state is judged by all rules.
        live.rest(Duration::ZERO, 0);
        let metrics = Arc::clone(&outside.metrics);
        let last_good = writer.store().ledger().first;
        let (mut judging, notices) = Judging::begin(live, incidents, clock, last_good, metrics)?;
        judging.bound();
        let print = writer.store().ledger().snapshots.last_key_value();
        let head = writer.store().ledger().head();
        let print = print.filter(|(at, _)| **at == head);
        let mut rounds = Rounds {
            settings,
            outside,
            print: print.map(|(_, kept)| kept.fingerprint.into()),
            writer,
            judging,
            schema,
            reads,
            time: clock.unwrap_or(i64::MIN),
            lsn,
            commits: 0,
        };
        rounds.judging.say(&notices, tell)?;
        for transaction in later {
            rounds.apply(transaction)?;
        }
        rounds.judging.tell_gates()?;
        rounds.judge(tell)?;
        rounds.judging.say_what_is_left(tell)?;
        tell(rounds.judging.watching());
        Ok((rounds, is_new))
    }

    /// Records and judges a state.
    fn take(
        &mut self,
        state: State,
        tell: &mut dyn FnMut(Told<'_>) -> bool,
    ) -> Result<(), WatchError> {
        // The server's clock may have been set back.
        self.time = state.history.base.time.unwrap_or(self.time).max(self.time);
        let lsn = state.history.base.lsn.as_deref();
        self.lsn = lsn.and_then(|text| text.parse().ok());
        let is_same = self.print.is_some() && self.print == state.print;
        if !is_same {
            let meta = TransactionMeta {
                time: Some(self.time),
                snapshot: Some(format_timestamp(self.time)),
                ..state.history.base.clone()
            };
            let to = self.writer.leap_over(&state.history, meta)?;
            self.print = state.print;
            drop(state.history);
            self.follow(to)?;
        }
        let notices = self.judging.tick(self.time)?;
        self.judging.say(&notices, tell)?;
        self.judge(tell)
    }

    /// Applies the commit that the store has now.
    fn follow(&mut self, to: Commit) -> Result<(), WatchError> {
        let store = self.writer.store();
        let stretch = store.ledger().segments.values().next_back().cloned();
        let mut transactions = match &stretch {
            Some(stretch) => store.transactions(stretch)?,
            None => Vec::new(),
        };
        transactions.retain(|transaction| transaction.commit == to);
        for transaction in transactions {
            let changes = transaction.changes.len() as u64;
            self.outside.metrics.received(1, changes);
            self.apply(transaction)?;
        }
        self.commits += 1;
        if self.commits.is_multiple_of(MERGE_EVERY) {
            self.writer.merge(self.settings.sealing)?;
        }
        if self.settings.retention != Retention::default() {
            let now = chrono::Utc::now().timestamp_micros();
            self.writer.retain(self.settings.retention, now)?;
        }
        Ok(())
    }

    fn apply(&mut self, transaction: crate::change::Transaction) -> Result<(), WatchError> {
        let items = transaction.changes.into_iter().map(Item::Change);
        self.judging.apply(&Committed {
            commit: transaction.commit,
            meta: transaction.meta,
            body: Body::Held(items.collect()),
            room: None,
        })?;
        Ok(())
    }

    /// Judges what was applied: it is on the disk.
    fn judge(&mut self, tell: &mut dyn FnMut(Told<'_>) -> bool) -> Result<(), WatchError> {
        self.judging.judge();
        let head = self.writer.store().ledger().head();
        let notices = self.judging.sealed(head)?;
        self.well()?;
        self.judging.say(&notices, tell)
    }

    /// What is seen from outside after a reading.
    fn well(&mut self) -> Result<(), WatchError> {
        let Outside { metrics, health } = self.outside;
        let judged = self.judging.judged();
        metrics.recorded(self.writer.store().ledger().head());
        metrics.judged(judged);
        metrics.lag(0, 0.0);
        metrics.incidents(&self.judging.incidents().counts()?);
        health.streaming();
        health.judged(judged);
        let at = UpTo {
            commit: Some(self.judging.taken()),
            lsn: self.lsn,
            time: Some(self.time).filter(|time| *time > 0),
        };
        Ok(gate::keep_position(self.judging.incidents(), &at)?)
    }
}

/// Where watching begins.
struct Begun {
    writer: Writer,
    incidents: Incidents,
    /// The state at the last position that was judged, without what no rule reads, and what was recorded after it.
    history: History,
    later: Vec<crate::change::Transaction>,
    schema: Schema,
    reads: Vec<BTreeSet<String>>,
    is_new: bool,
    /// Where the server's log was when the first state was read just now.
    lsn: Option<Lsn>,
}

/// Opens the store, and reads the first state where it is new.
fn begin(
    settings: &Settings,
    runtime: &tokio::runtime::Runtime,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Begun, WatchError> {
    let moment = runtime.block_on(Moment::open(&settings.target, APPLICATION))?;
    let (now, reads) = watched(settings, &moment)?;
    let source = runtime.block_on(source(settings))?;
    let shown = settings.target.shown();
    let mut writer = Writer::open(&settings.store, || {
        Format::new(&shown, Kind::Snapshots, now.clone(), false)
    })?;
    setup::of_kind(&writer, Kind::Snapshots)?;
    let schema = writer.store().format().schema.clone();
    fits(&schema, &now)?;
    let mut incidents = Incidents::open(&settings.store, &source)?;
    setup::keep_generated(&mut incidents, moment.catalog(), &schema)?;
    let is_new = writer.store().ledger().snapshots.is_empty();
    let lsn = moment.meta().lsn.as_deref().filter(|_| is_new);
    let lsn = lsn.and_then(|text| text.parse().ok());
    if is_new {
        let read = read(&moment, &schema, &reads, progress);
        let first = runtime.block_on(read)?;
        let meta = first.history.base.clone();
        writer.add(&first.history, 0, meta)?;
    }
    drop(moment);
    let (mut history, later) = setup::resumed(writer.store(), &incidents)?;
    history.origin = Origin::DatedSnapshots;
    for (at, (table, reads)) in schema.tables.iter().zip(&reads).enumerate() {
        let columns = table.columns.iter().enumerate();
        let unread = columns.filter(|(_, column)| !reads.contains(&column.name));
        let unread: Vec<usize> = unread.map(|(at, _)| at).collect();
        history.leave_out(at, &unread);
    }
    Ok(Begun {
        writer,
        incidents,
        history,
        later,
        schema,
        reads,
        is_new,
        lsn,
    })
}

/// The tables that rules read, whole, and for each the columns that they read.
fn watched(
    settings: &Settings,
    moment: &Moment,
) -> Result<(Schema, Vec<BTreeSet<String>>), WatchError> {
    let catalog = moment.catalog();
    let needs = needs(catalog, &settings.rules, &settings.limits)?;
    if needs.tables.is_empty() {
        return Err(WatchError::NothingToWatch);
    }
    let all = &catalog.schema().tables;
    let tables = needs.tables.iter().map(|&at| all[at].clone()).collect();
    let reads = needs.tables.iter().zip(&needs.unread).map(|(&at, unread)| {
        let columns = all[at].columns.iter().enumerate();
        let read = columns.filter(|(at, _)| !unread.contains(at));
        read.map(|(_, column)| column.name.clone()).collect()
    });
    Ok((Schema { tables }, reads.collect()))
}

/// The tables of a store as the database has them now; those that it lacks are missing.
fn of_now(schema: &Schema, moment: &Moment) -> Schema {
    let now = moment.catalog().schema();
    let tables = schema.tables.iter();
    Schema {
        tables: tables
            .filter_map(|table| now.table(&table.name).cloned())
            .collect(),
    }
}

/// Whose incidents these are: as in the other mode, the server's own number where the role may ask for it.
async fn source(settings: &Settings) -> Result<String, WatchError> {
    let session = Session::open(&settings.target, APPLICATION, Access::ReadOnly).await?;
    Ok(match slot::system_id(&session).await? {
        Some(system) => format!("{system}/{}", settings.target.database()),
        None => settings.target.shown(),
    })
}

/// Reads the tables of a store as they are now.
async fn look(
    target: &Target,
    schema: &Schema,
    reads: &[BTreeSet<String>],
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<State, WatchError> {
    let moment = Moment::open(target, APPLICATION).await?;
    fits(schema, &of_now(schema, &moment))?;
    read(&moment, schema, reads, progress).await
}

/// The same at a moment.
async fn read(
    moment: &Moment,
    schema: &Schema,
    reads: &[BTreeSet<String>],
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<State, WatchError> {
    let catalog = moment.catalog();
    let gone =
        |table: &TableName| WatchError::OtherTables(format!("table {} is gone", table.short()));
    let mut places = Vec::new();
    let mut wanted = std::collections::BTreeMap::new();
    for (table, reads) in schema.tables.iter().zip(reads) {
        let at = catalog.schema().table_index(&table.name);
        let at = at.ok_or_else(|| gone(&table.name))?;
        let columns = catalog.tables[at].columns.iter().enumerate();
        let asked = columns.filter(|(_, column)| {
            table.column(&column.name).is_some()
                && (column.readable || reads.contains(&column.name))
        });
        wanted.insert(at, asked.map(|(at, _)| at).collect());
        places.push(at);
    }
    let (history, _) = moment.read(&Wanted::Columns(wanted), progress).await?;
    let same = |(table, &at): (&crate::schema::Table, &usize)| history.schema.tables[at] == *table;
    let mut history = if schema.tables.iter().zip(&places).all(same) {
        history.only(&places)
    } else {
        history.shaped(0, schema, &places)
    };
    history.origin = Origin::DatedSnapshots;
    let time = moment.meta().time;
    history.base.snapshot = time.map(format_timestamp);
    Ok(State {
        print: history.state_fingerprint(0),
        history,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn who_asks_for_the_end_while_the_work_ends_is_heard() {
        let runtime = tokio::runtime::Builder::new_multi_thread().build();
        let runtime = runtime.expect("a runtime");
        // Without room, a message is sent when it is received.
        let (stopper, inputs) = sync_channel(0);
        let (to, _woken) = channel();
        let work = async move { stopper.send(Input::Stop).expect("somebody listens") };
        assert_eq!(until_stopped(&runtime, work, &inputs, &to), None);
        let (to, inputs) = channel();
        let done = until_stopped(&runtime, async { 7 }, &inputs, &to);
        assert_eq!(done, Some(7));
    }
}
