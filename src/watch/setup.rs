//! How watching begins: on a database that nobody watched yet, or where the store ends.
//!
//! The order is what makes both meet at one position: the publication first, since a slot knows only what was published when it was
//! made; then the slot, which exports the snapshot at which it begins; then the rows of that snapshot.

use std::time::{Duration, Instant};

use super::feed::Durable;
use super::needs::{Needs, fits, followable, needs, not_sent, relations};
use super::publication::publish;
use super::shape::Shape;
use super::{Settings, WatchError};
use crate::change::{Commit, Transaction, TransactionMeta};
use crate::incident::{IncidentError, Incidents, Reading};
use crate::postgres::relations::Relations;
use crate::postgres::slot::{self, SlotState};
use crate::postgres::{
    Access, Backoff, Catalog, Lsn, Moment, PostgresError, Progress, Replication, Session, Wanted,
};
use crate::schema::{Schema, Table};
use crate::state::{History, Origin};
use crate::store::{Format, Kind, Store, StoreError, Writer};

/// What the incidents' database keeps about the stream.
const STATE: &str = "watch.state";
const SYSTEM: &str = "watch.system_id";
const TIMELINE: &str = "watch.timeline";
const SLOT: &str = "watch.slot";
const CONFIRMED: &str = "watch.confirmed";
const SHAPE: &str = "watch.shape";
const GENERATED: &str = "watch.generated";
/// A beginning that was not finished: its slot may be there and is ours.
const BEGINNING: &str = "beginning";
const RUNNING: &str = "running";

/// The oldest server whose standbys decode.
const STANDBY_SINCE: u32 = 160_000;
/// So long a slot may be in use after its stream is over.
const FREE_WITHIN: Duration = Duration::from_secs(10);

/// Where watching begins.
pub(super) struct Begun {
    /// The state at the last position that was judged, and everything recorded after it, applied one by one by the caller.
    pub(super) history: History,
    /// What was recorded and not judged.
    pub(super) later: Vec<Transaction>,
    /// The store, open for writing.
    pub(super) writer: Writer,
    /// What was found so far.
    pub(super) incidents: Incidents,
    /// The LSN of the last commit that is in the store; what comes at or before it was there already.
    pub(super) last: Lsn,
    /// How the stream becomes changes.
    pub(super) relations: Relations,
    /// Who the server is.
    pub(super) server: slot::Identity,
    /// What the stream does not tell of the tables.
    pub(super) shape: Shape,
    /// The tables must be read anew behind this position, and why: something happened to them that the stream does not tell.
    pub(super) anew: Option<(Lsn, String)>,
    /// A gap that is recorded just now: from which commit to which one, and why.
    pub(super) gap: Option<(Commit, Commit, String)>,
    /// Where the server's log ended when watching began, where that is the end of the watch.
    pub(super) until: Option<Lsn>,
}

/// Begins, or goes on. `anew` says why the tables must be read again although the slot is there.
pub(super) async fn begin(
    settings: &Settings,
    anew: Option<String>,
    durable: &Durable,
    progress: &(dyn Fn(Progress) + Sync),
    say: &mut dyn FnMut(&str),
) -> Result<Begun, WatchError> {
    let session = Session::open(&settings.target, "firstbad watch", Access::ReadWrite).await?;
    is_primary(&session).await?;
    let mut replication = Replication::open(&settings.target, "firstbad watch").await?;
    let server = slot::identify(&mut replication).await?;
    let until = settings.until_now.then_some(server.position);
    let catalog = Catalog::read(session.client()).await?;
    let (needs, schema) = wanted(settings, &catalog)?;
    let shown = settings.target.shown();
    let writer = Writer::open(&settings.store, || {
        Format::new(&shown, Kind::Changes, schema.clone(), false)
    })?;
    of_kind(&writer, Kind::Changes)?;
    fits(&writer.store().format().schema, &schema)?;
    let source = format!("{}/{}", server.system_id, server.database);
    let incidents = Incidents::open(&settings.store, &source)?;
    let mut start = Start {
        settings,
        session: &session,
        replication,
        server,
        catalog: &catalog,
        needs: &needs,
        writer,
        incidents,
        progress,
    };
    let added = publish(settings, &session, &catalog, &needs, say).await?;
    let is_new = start.writer.store().ledger().snapshots.is_empty();
    let tables = needs.tables.iter().map(|&at| catalog.tables[at].oid);
    let oids: Vec<u32> = tables.collect();
    let shape = Shape::read(&session, &settings.publication, &oids).await?;
    let (altered, (mut history, later, gap)) = match is_new {
        true => (None, start.anew(durable).await?),
        false => {
            let altered = match added {
                Some(added) => Some(added),
                None => start.altered(&shape).await?,
            };
            let begun = start.again(anew, durable, say).await?;
            // Over a gap, everything was read anew.
            (altered.filter(|_| begun.2.is_none()), begun)
        }
    };
    if altered.is_none() {
        keep_shape(&mut start.incidents, &shape.text())?;
    }
    let anew = altered.map(|reason| (start.server.position, reason));
    keep_generated(&mut start.incidents, &catalog, &schema)?;
    for (table, (unread, lost)) in schema
        .tables
        .iter()
        .zip(needs.unread.iter().zip(not_sent(&catalog, &schema)))
    {
        // The store may lack a column that came later, and have others in another order.
        let Some(at) = history.schema.table_index(&table.name) else {
            continue;
        };
        let names = unread.iter().chain(&lost);
        let names = names.map(|&column| &table.columns[column].name);
        let own = &history.schema.tables[at];
        let places: Vec<usize> = names.filter_map(|name| own.column_index(name)).collect();
        history.leave_out(at, &places);
    }
    let last = last_lsn(&start.writer);
    let schema = start.writer.store().format().schema.clone();
    Ok(Begun {
        history,
        later,
        relations: relations(&catalog, &schema),
        server: start.server,
        shape,
        anew,
        writer: start.writer,
        incidents: start.incidents,
        last,
        gap,
        until,
    })
}

/// What the rules read, and the tables of it; refuses what cannot be watched.
fn wanted(settings: &Settings, catalog: &Catalog) -> Result<(Needs, Schema), WatchError> {
    // Planning waits for a runtime of its own, which this thread may not do here.
    let needs = std::thread::scope(|scope| {
        let asked = scope.spawn(|| needs(catalog, &settings.rules, &settings.limits));
        asked
            .join()
            .expect("finding out what rules read does not panic")
    })?;
    if needs.tables.is_empty() {
        return Err(WatchError::NothingToWatch);
    }
    followable(catalog, &needs)?;
    let whole = catalog.schema();
    let tables = needs.tables.iter().map(|&at| whole.tables[at].clone());
    let tables = tables.collect();
    Ok((needs, Schema { tables }))
}

type Began = (History, Vec<Transaction>, Option<(Commit, Commit, String)>);

struct Start<'a> {
    settings: &'a Settings,
    session: &'a Session,
    replication: Replication,
    server: slot::Identity,
    catalog: &'a Catalog,
    needs: &'a Needs,
    writer: Writer,
    incidents: Incidents,
    progress: &'a (dyn Fn(Progress) + Sync),
}

/// Refuses a server that cannot decode its log.
async fn is_primary(session: &Session) -> Result<(), WatchError> {
    let asked = session
        .client()
        .query_one("select pg_is_in_recovery()", &[]);
    let row = asked.await.map_err(PostgresError::from)?;
    let standby: bool = row.try_get(0).map_err(PostgresError::from)?;
    match standby && session.server_version_num() < STANDBY_SINCE {
        true => Err(WatchError::Standby),
        false => Ok(()),
    }
}

impl Start<'_> {
    /// What the stream did not tell of the tables since the last time, in words.
    async fn altered(&self, now: &Shape) -> Result<Option<String>, WatchError> {
        let before = self.incidents.setting(SHAPE)?;
        match before.and_then(|text| Shape::parse(&text)) {
            Some(before) => Ok(now.differs_from(&before, self.session).await?),
            None => Ok(None),
        }
    }

    /// The first time: a slot, and the state at which it begins.
    async fn anew(&mut self, durable: &Durable) -> Result<Began, WatchError> {
        let there = slot::slot_state(self.session, &self.settings.slot).await?;
        if let Some(found) = there {
            let ours = self.incidents.setting(STATE)?.as_deref() == Some(BEGINNING)
                && self.incidents.setting(SLOT)?.as_deref() == Some(&self.settings.slot);
            if !ours || found.active_pid.is_some() {
                return Err(WatchError::SlotIsThere(self.settings.slot.clone()));
            }
            slot::drop_slot(self.session, &self.settings.slot).await?;
        }
        self.incidents.set_setting(SLOT, &self.settings.slot)?;
        self.incidents.set_setting(STATE, BEGINNING)?;
        let (history, consistent) = self.state_at_a_new_slot().await?;
        self.writer
            .record(&history, self.settings.sealing, &|_| ())?;
        self.remember(consistent)?;
        durable.reach(consistent);
        Ok((history, Vec::new(), None))
    }

    /// Makes the slot and reads the state at which it begins.
    async fn state_at_a_new_slot(&mut self) -> Result<(History, Lsn), WatchError> {
        let created = slot::create_slot(&mut self.replication, &self.settings.slot, false).await?;
        match self.state_at(&created.snapshot, created.consistent).await {
            Ok(history) => Ok((history, created.consistent)),
            Err(error) => {
                // The server would keep its log for nobody. Where that fails as well, the next start finds the slot.
                let _ = slot::drop_slot(self.session, &self.settings.slot).await;
                Err(error)
            }
        }
    }

    /// Reads the watched tables at an exported snapshot, which begins after everything before a position of the log.
    async fn state_at(&self, snapshot: &str, lsn: Lsn) -> Result<History, WatchError> {
        let moment = Moment::at(&self.settings.target, "firstbad watch", snapshot).await?;
        let columns = |&at: &usize| {
            let all = 0..moment.catalog().schema().tables[at].columns.len();
            (at, all.collect())
        };
        let same = moment.catalog().schema() == self.catalog.schema();
        if !same {
            return Err(WatchError::OtherTables(
                "tables were altered just now: start again".into(),
            ));
        }
        let wanted = Wanted::Columns(self.needs.tables.iter().map(columns).collect());
        let (history, notes) = moment.read(&wanted, self.progress).await?;
        let own = &self.writer.store().format().schema;
        let mut history = fitted(history.only(&self.needs.tables), own)?;
        history.origin = Origin::Changes;
        history.base = TransactionMeta {
            lsn: Some(lsn.to_string()),
            time: moment.meta().time,
            ..TransactionMeta::default()
        };
        drop(notes);
        Ok(history)
    }

    fn remember(&mut self, confirmed: Lsn) -> Result<(), WatchError> {
        self.incidents.set_setting(SYSTEM, &self.server.system_id)?;
        self.incidents
            .set_setting(TIMELINE, &self.server.timeline.to_string())?;
        self.incidents.set_setting(SLOT, &self.settings.slot)?;
        self.incidents
            .set_setting(CONFIRMED, &confirmed.to_string())?;
        self.incidents.set_setting(STATE, RUNNING)?;
        Ok(())
    }

    /// Another time: from where the store ends, or over a gap.
    async fn again(
        &mut self,
        anew: Option<String>,
        durable: &Durable,
        say: &mut dyn FnMut(&str),
    ) -> Result<Began, WatchError> {
        let known = self.incidents.setting(SYSTEM)?;
        if known
            .as_ref()
            .is_some_and(|known| *known != self.server.system_id)
        {
            return Err(WatchError::OtherServer);
        }
        let last = last_lsn(&self.writer);
        let confirmed = self.incidents.setting(CONFIRMED)?;
        let confirmed = confirmed
            .and_then(|text| text.parse::<Lsn>().ok())
            .unwrap_or(last);
        let timeline = self.incidents.setting(TIMELINE)?;
        let found = slot::slot_state(self.session, &self.settings.slot).await?;
        let moved = timeline.is_some_and(|known| known != self.server.timeline.to_string());
        let reason = anew.or_else(|| lost(found.as_ref(), confirmed.max(last), moved));
        match reason {
            None => {
                durable.reach(confirmed.max(last));
                self.resume()
            }
            Some(reason) => {
                say(&format!("a gap: {reason}; the tables are read anew"));
                self.over_a_gap(found, durable, reason).await
            }
        }
    }

    /// The state at the last position that was judged, and what was recorded after it.
    fn resume(&mut self) -> Result<Began, WatchError> {
        let (mut history, later) = resumed(self.writer.store(), &self.incidents)?;
        history.origin = Origin::Changes;
        Ok((history, later, None))
    }

    /// What lies between the store's end and the server's state now was not seen.
    async fn over_a_gap(
        &mut self,
        found: Option<SlotState>,
        durable: &Durable,
        reason: String,
    ) -> Result<Began, WatchError> {
        if found.is_some() {
            drop_when_free(self.session, &self.settings.slot).await?;
        }
        let (state, consistent) = self.state_at_a_new_slot().await?;
        let meta = state.base.clone();
        let from = self.writer.store().ledger().head() + 1;
        let to = self.writer.leap_over(&state, meta)?;
        self.incidents.gap(from, to, &reason)?;
        self.remember(consistent)?;
        durable.reach(consistent);
        let mut history = self.writer.store().history_of(to..=to)?.from_the_head();
        history.origin = Origin::Changes;
        Ok((history, Vec::new(), Some((from, to, reason))))
    }
}

/// A state with the tables and columns of another schema, which are found by name.
fn fitted(state: History, own: &Schema) -> Result<History, WatchError> {
    if state.schema == *own {
        return Ok(state);
    }
    let mut fitted = History::beginning_at(own.clone(), state.origin, false, state.first);
    fitted.base = state.base.clone();
    let lacks = |what: &str| WatchError::OtherTables(format!("the database lacks {what}"));
    for (number, table) in own.tables.iter().enumerate() {
        let name = table.name.short();
        let from = state.schema.table_index(&table.name);
        let from = from.ok_or_else(|| lacks(&name))?;
        let columns = table.columns.iter().map(|column| {
            let at = state.schema.tables[from].column_index(&column.name);
            at.ok_or_else(|| lacks(&format!("column {} of {name}", column.name)))
        });
        let columns = columns.collect::<Result<Vec<usize>, _>>()?;
        let versions = &state.tables[from];
        for row in versions.visible(state.first) {
            let cells = columns.iter().map(|&column| versions.cell(column, row));
            fitted.load(number, &cells.collect::<Vec<_>>());
        }
    }
    Ok(fitted)
}

/// The state at the last position that was judged, and what was recorded after it.
pub(super) fn resumed(
    store: &Store,
    incidents: &Incidents,
) -> Result<(History, Vec<Transaction>), WatchError> {
    let first = store.ledger().first;
    let judged = incidents.judged()?.unwrap_or(first);
    let judged = judged.min(store.ledger().head()).max(first);
    let history = store.history_of(judged..=judged)?.from_the_head();
    let mut later = Vec::new();
    for stretch in store.ledger().segments.values() {
        if stretch.to > judged {
            let transactions = store.transactions(stretch)?.into_iter();
            later.extend(transactions.filter(|transaction| transaction.commit > judged));
        }
    }
    Ok((history, later))
}

/// Refuses a store that was filled in the other way.
pub(super) fn of_kind(writer: &Writer, kind: Kind) -> Result<(), StoreError> {
    let own = writer.store().format().kind;
    if own == kind {
        return Ok(());
    }
    let (message, hint) = match own {
        Kind::Changes => (
            "the store holds recorded transactions, and snapshots do not continue them",
            "watch with --mode stream, or name another store",
        ),
        Kind::Snapshots => (
            "the store holds snapshots, and recorded transactions do not continue them",
            "watch with --mode snapshots, or name another store",
        ),
    };
    Err(StoreError::Refused {
        message: message.into(),
        hint: hint.into(),
    })
}

/// Drops the slot: the server has to keep nothing for us any more.
pub(super) async fn drop_slot(settings: &Settings) -> Result<(), WatchError> {
    let session = Session::open(&settings.target, "firstbad watch", Access::ReadWrite).await?;
    drop_when_free(&session, &settings.slot).await
}

/// Drops a slot as soon as nobody streams it: the server may not have noticed yet that its last stream is over.
async fn drop_when_free(session: &Session, name: &str) -> Result<(), WatchError> {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    let begun = Instant::now();
    loop {
        match slot::drop_slot(session, name).await {
            Ok(()) => return Ok(()),
            Err(error) if error.sqlstate() == Some("42704") => return Ok(()),
            Err(error) if error.sqlstate() == Some("55006") => {
                if begun.elapsed() > FREE_WITHIN {
                    return Err(WatchError::SlotIsThere(name.to_owned()));
                }
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(backoff.wait()).await;
    }
}

/// Keeps what the stream does not tell of the tables.
pub(super) fn keep_shape(incidents: &mut Incidents, shape: &str) -> Result<(), WatchError> {
    Ok(incidents.set_setting(SHAPE, shape)?)
}

/// Keeps which columns the server computes: nobody can write them.
pub(super) fn keep_generated(
    incidents: &mut Incidents,
    catalog: &Catalog,
    schema: &Schema,
) -> Result<(), IncidentError> {
    let of_table = |(table, columns): (&Table, Vec<usize>)| {
        let name = table.name.to_string();
        let columns = columns.into_iter().map(|at| table.columns[at].name.clone());
        columns
            .map(|column| [name.clone(), column])
            .collect::<Vec<_>>()
    };
    let tables = schema.tables.iter().zip(not_sent(catalog, schema));
    let all: Vec<[String; 2]> = tables.flat_map(of_table).collect();
    incidents.set_setting(GENERATED, &serde_json::json!(all).to_string())
}

/// The columns that the server computes, as far as somebody watches or watched them into a store: table, as `schema.name`, and column.
///
/// # Errors
/// When the incidents' database cannot be read.
pub fn generated(reading: &Reading) -> Result<Vec<(String, String)>, IncidentError> {
    let text = reading.setting(GENERATED)?;
    let all = text.and_then(|text| serde_json::from_str(&text).ok());
    Ok(all.unwrap_or_default())
}

/// Keeps word of how far the slot may be confirmed, before it is.
pub(super) fn confirm(incidents: &mut Incidents, lsn: Lsn) -> Result<(), WatchError> {
    Ok(incidents.set_setting(CONFIRMED, &lsn.to_string())?)
}

/// The system identifier of the server that somebody watches or watched into a store.
///
/// # Errors
/// When the incidents' database cannot be read.
pub fn recorded_from(reading: &Reading) -> Result<Option<String>, IncidentError> {
    reading.setting(SYSTEM)
}

/// How far the log is in a store, which somebody watches or watched: all that was committed before is recorded.
///
/// # Errors
/// When the incidents' database cannot be read.
pub fn confirmed(reading: &Reading) -> Result<Option<Lsn>, IncidentError> {
    let text = reading.setting(CONFIRMED)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

/// Why the slot does not go on where the store ends; None where it does.
fn lost(found: Option<&SlotState>, ours: Lsn, moved: bool) -> Option<String> {
    let Some(found) = found else {
        return Some("the slot is gone".into());
    };
    if moved {
        return Some("the server is on another timeline".into());
    }
    if found.wal_status.as_deref() == Some("lost") {
        return Some("the server has removed log that the slot still needed".into());
    }
    match found.confirmed_flush {
        Some(confirmed) if confirmed > ours => {
            Some("the slot was moved on by somebody else, or made anew".into())
        }
        _ => None,
    }
}

/// The LSN of the last commit in a store.
fn last_lsn(writer: &Writer) -> Lsn {
    let ledger = writer.store().ledger();
    let segments = ledger.segments.values().rev();
    let last = segments
        .filter_map(|stretch| stretch.lsn_to.as_deref())
        .next();
    last.and_then(|text| text.parse().ok()).unwrap_or(Lsn(0))
}
