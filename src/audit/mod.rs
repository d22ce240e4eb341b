//! An independent audit: tables are read again and compared with what the log says they hold, while others write.
//!
//! A table is read in one snapshot at the isolation level *repeatable read*. The snapshot itself says which transactions it shows
//! ([`Visibility`]), and every recorded commit has its transaction's id: so the recorded state is made of exactly the commits that the
//! reading saw, whatever was written before, meanwhile and since. After the reading, a mark is written into the log (a logical message, for
//! which a role needs no right to write): everything that the reading can have seen lies before it, so once the store has recorded
//! beyond the mark, nothing is missing. No writer waits, no row is excused because it was written just now, and the watcher is only waited for.
//!
//! What differs is read a second time in another snapshot. What differs again was changed by no recorded write: behind the log's back, by a
//! broken disk, or by a fault of ours.

pub mod report;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::change::{Commit, TransactionMeta};
use crate::diagnostic::nearest;
use crate::diff::{self, Change, Misfit, Request, Row, Side};
use crate::incident::{IncidentError, Reading};
use crate::postgres::catalog::TableInfo;
use crate::postgres::{
    Access, Lsn, Moment, PostgresError, Progress, Session, Target, Visibility, Wanted, slot,
};
use crate::schema::{Schema, Table, TableName};
use crate::state::History;
use crate::store::{Kind, Store, StoreError};
use crate::verdict::{At, redact};
use crate::watch::{self, WatchError};

/// What our sessions are called on the server, and the prefix of our marks.
const APPLICATION: &str = "firstbad audit";
const PREFIX: &str = "firstbad-audit";
/// The most rows of a table that are read a second time and shown.
const ROWS_MAX: usize = 10_000;
/// Commits that are older than the reading by so much are visible to it: none waits longer between the log and its effect.
const SETTLED_US: i64 = 3_600_000_000;
/// How often it is looked how far the store is.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A store whose files go while it is read is read again so many times.
const TRIES: usize = 5;

/// What is audited and how.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The server.
    pub target: Target,
    /// The store's directory.
    pub store: PathBuf,
    /// The tables; all of the store where it is empty.
    pub tables: Vec<TableName>,
    /// At most so many rows a second are read; None for no limit.
    pub rate: Option<u64>,
    /// How long to wait until the store has recorded what was read.
    pub wait: Duration,
    /// Columns whose values are not shown, beside those of the rules that are watched.
    pub redact: Vec<String>,
}

/// Why there is no audit.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The server.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The watcher's own file.
    #[error(transparent)]
    Incidents(#[from] IncidentError),
    /// Recording failed.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// What is asked for cannot be audited.
    #[error("{message}")]
    Request {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The watcher is too far behind, or there is none.
    #[error(
        "the store has recorded the log up to {recorded}, and what was read needs it up to {needed}"
    )]
    Behind {
        /// How far the store is.
        recorded: Lsn,
        /// How far it must be.
        needed: Lsn,
    },
    /// The watcher read the tables anew while we read them.
    #[error(
        "the watcher has read the tables anew meanwhile: what it did not see cannot be told from what no write explains"
    )]
    Gap,
    /// What is recorded does not fit together.
    #[error("the recorded changes of table {0} contradict each other: {1}")]
    Contradiction(String, String),
}

impl From<Misfit> for AuditError {
    fn from(misfit: Misfit) -> Self {
        AuditError::Request {
            message: misfit.message,
            hint: misfit.hint,
        }
    }
}

/// What came of a table.
#[derive(Clone, Debug)]
pub struct Audited {
    /// The table.
    pub table: TableName,
    /// How many rows were read.
    pub rows: u64,
    /// When it was read, and the log's position just after that; the last recorded commit that the reading saw.
    pub at: At,
    /// Recorded commits that the reading did not see: they came later.
    pub later: u64,
    /// Columns that were not compared, and why.
    pub passed_over: Vec<(String, &'static str)>,
    /// Rows of which some values are not known in the store; what is known was compared.
    pub not_known: u64,
    /// How many rows differ.
    pub differ: u64,
    /// The rows that differ, as many as are kept.
    pub differences: Vec<Difference>,
}

/// A row that no recorded write explains.
#[derive(Clone, Debug)]
pub struct Difference {
    /// What is wrong with it.
    pub what: &'static str,
    /// Its key.
    pub key: Map<String, Value>,
    /// What the log says, of the columns that differ; None where the log has no such row.
    pub log: Option<Map<String, Value>>,
    /// What the table says.
    pub table: Option<Map<String, Value>>,
}

/// A table that was read once.
struct Read {
    place: usize,
    rows: History,
    visible: Visibility,
    meta: TransactionMeta,
    passed_over: Vec<(String, &'static str)>,
    mark: Lsn,
}

/// A table that was compared once.
struct Compared {
    audited: Audited,
    rows: Vec<Row>,
}

/// Audits tables one after the other. `record` is called when something was read that the store may not have yet; `progress` is told how far
/// reading a table has come.
///
/// # Errors
/// Why there is no audit.
pub fn audit(
    settings: &Settings,
    runtime: &tokio::runtime::Runtime,
    record: &mut dyn FnMut() -> Result<(), WatchError>,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<Audited>, AuditError> {
    let store = Store::open(&settings.store)?;
    let Some(reading) = Reading::open(&settings.store, false)? else {
        return Err(not_watched());
    };
    if store.format().kind != Kind::Changes || watch::confirmed(&reading)?.is_none() {
        return Err(not_watched());
    }
    let mut hidden: Vec<String> = reading.redacted()?.into_iter().collect();
    hidden.extend(settings.redact.iter().cloned());
    let known = watch::recorded_from(&reading)?;
    let found = runtime.block_on(system_id(&settings.target))?;
    if known
        .zip(found)
        .is_some_and(|(known, found)| known != found)
    {
        return Err(AuditError::Request {
            message: "the store was recorded from another server (its system identifier differs)"
                .into(),
            hint: "name the store of this server".into(),
        });
    }
    let mut audit = Audit {
        settings,
        runtime,
        schema: store.format().schema.clone(),
        reading,
        record,
        progress,
    };
    drop(store);
    let tables = audit.tables()?;
    let mut out = Vec::new();
    for table in tables {
        let mut audited = audit.table(table)?;
        for difference in &mut audited.differences {
            let images = [&mut difference.log, &mut difference.table];
            let images = images.into_iter().filter_map(Option::as_mut);
            redact::hide_columns(&hidden, images.chain([&mut difference.key]));
        }
        out.push(audited);
    }
    Ok(out)
}

async fn system_id(target: &Target) -> Result<Option<String>, PostgresError> {
    let session = Session::open(target, APPLICATION, Access::ReadOnly).await?;
    slot::system_id(&session).await
}

fn not_watched() -> AuditError {
    AuditError::Request {
        message: "the store was not recorded by `firstbad watch` in the mode stream".into(),
        hint: "only a recorded log can be compared with the tables".into(),
    }
}

struct Audit<'a> {
    settings: &'a Settings,
    runtime: &'a tokio::runtime::Runtime,
    schema: Schema,
    reading: Reading,
    record: &'a mut dyn FnMut() -> Result<(), WatchError>,
    progress: &'a (dyn Fn(Progress) + Sync),
}

impl Audit<'_> {
    /// The places of the tables that are asked for.
    fn tables(&self) -> Result<Vec<usize>, AuditError> {
        let asked = &self.settings.tables;
        if asked.is_empty() {
            return Ok((0..self.schema.tables.len()).collect());
        }
        let place = |name: &TableName| {
            self.schema.table_index(name).ok_or_else(|| {
                let known: Vec<String> =
                    self.schema.tables.iter().map(|t| t.name.short()).collect();
                let near = nearest(&name.short(), known.iter().map(String::as_str));
                AuditError::Request {
                    message: format!("the store has no table `{}`", name.short()),
                    hint: match near {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("its tables are {}", known.join(", ")),
                    },
                }
            })
        };
        let places: BTreeSet<usize> = asked.iter().map(place).collect::<Result<_, _>>()?;
        Ok(places.into_iter().collect())
    }

    /// Audits a table: what differs must differ twice.
    fn table(&mut self, table: usize) -> Result<Audited, AuditError> {
        let mut first = self.compare(table)?;
        if first.rows.is_empty() {
            return Ok(first.audited);
        }
        let again = self.compare(table)?;
        if again.audited.differ > ROWS_MAX as u64 || first.audited.differ > ROWS_MAX as u64 {
            first.rows.truncate(ROWS_MAX);
            first.audited.differ = first.audited.differ.min(again.audited.differ);
        } else {
            let name = |row: &Row| {
                (
                    row.change.as_str(),
                    Value::Object(row.key.clone()).to_string(),
                )
            };
            let still: HashSet<_> = again.rows.iter().map(name).collect();
            first.rows.retain(|row| still.contains(&name(row)));
            first.audited.differ = first.rows.len() as u64;
        }
        let difference = |row: Row| Difference {
            what: match row.change {
                Change::Changed => "differs",
                Change::Removed => "missing",
                Change::Added => "unexplained",
            },
            key: row.key,
            log: row.a,
            table: row.b,
        };
        first.audited.differences = first.rows.into_iter().map(difference).collect();
        Ok(first.audited)
    }

    /// Reads a table and compares it with the log.
    fn compare(&mut self, table: usize) -> Result<Compared, AuditError> {
        let read = self.runtime.block_on(self.read(table))?;
        self.until_recorded(read.mark)?;
        let mut tried = 0;
        let (history, last, later) = loop {
            match logged(self.settings, &self.schema, table, &read) {
                Err(AuditError::Store(StoreError::Changing)) if tried < TRIES => tried += 1,
                other => break other?,
            }
        };
        let own = &self.schema.tables[table];
        let history = match read.passed_over.is_empty() {
            true => history.only(&[table]),
            false => {
                let head = history.head();
                let shape = Schema {
                    tables: vec![without(own, &read.passed_over)],
                };
                history.shaped(head, &shape, &[table])
            }
        };
        let at = At {
            commit: Some(last),
            meta: read.meta.clone(),
        };
        let rows = read.rows.only(&[read.place]);
        let side = |history, position| Side {
            name: "",
            history,
            position,
            at: &at,
        };
        let (log, now) = (side(&history, history.head()), side(&rows, 0));
        let found = diff::compare(&log, &now, &Request::default())?;
        let found = found.into_iter().next().expect("one table is compared");
        let differ = found.added + found.removed + found.changed;
        Ok(Compared {
            rows: found.rows().take(ROWS_MAX + 1).collect(),
            audited: Audited {
                table: own.name.clone(),
                rows: rows.tables[0].row_count() as u64,
                at: at.clone(),
                later,
                passed_over: read.passed_over,
                not_known: found.unknown,
                differ,
                differences: Vec::new(),
            },
        })
    }

    /// Reads a table at one moment, and marks the log after it.
    async fn read(&self, table: usize) -> Result<Read, AuditError> {
        let moment = Moment::open(&self.settings.target, APPLICATION).await?;
        let visible = moment.visibility().await?;
        let own = &self.schema.tables[table];
        let catalog = moment.catalog();
        let place = catalog.schema().table_index(&own.name);
        let place = place.ok_or_else(|| AuditError::Request {
            message: format!("the database has no table `{}`", own.name.short()),
            hint: "it was dropped, or is not visible to the role".into(),
        })?;
        let (columns, passed_over) =
            comparable(own, &catalog.schema().tables[place], &catalog.tables[place])?;
        let begun = Instant::now();
        let rate = self.settings.rate;
        let outer = self.progress;
        let throttled = move |progress: Progress| {
            outer(progress);
            let due = rate.map(|rate| Duration::from_secs_f64(progress.rows as f64 / rate as f64));
            if let Some(early) = due.and_then(|due| due.checked_sub(begun.elapsed())) {
                // Nobody takes rows meanwhile, so the server's sessions wait as well.
                std::thread::sleep(early);
            }
        };
        let wanted = Wanted::Columns(BTreeMap::from([(place, columns)]));
        let (rows, _) = moment.read(&wanted, &throttled).await?;
        let meta = moment.meta().clone();
        drop(moment);
        Ok(Read {
            place,
            rows,
            visible,
            meta,
            passed_over,
            mark: mark(&self.settings.target).await?,
        })
    }

    /// Waits until the store holds everything up to a position of the log.
    fn until_recorded(&mut self, needed: Lsn) -> Result<(), AuditError> {
        match (self.record)() {
            // Somebody else records: that one is waited for.
            Ok(()) | Err(WatchError::Store(StoreError::Locked(_))) => {}
            Err(error) => return Err(error.into()),
        }
        let begun = Instant::now();
        loop {
            let recorded = watch::confirmed(&self.reading)?.unwrap_or(Lsn(0));
            if recorded >= needed {
                return Ok(());
            }
            if begun.elapsed() > self.settings.wait {
                return Err(AuditError::Behind { recorded, needed });
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Writes a mark into the log, and says where: all that committed before lies before it.
async fn mark(target: &Target) -> Result<Lsn, PostgresError> {
    let session = Session::open(target, APPLICATION, Access::ReadWrite).await?;
    let client = session.client();
    // Written to the disk, or it would not be sent; not waited for on standbys.
    client
        .batch_execute("set synchronous_commit = local")
        .await?;
    let emit = "select pg_logical_emit_message(true, $1, '')::text";
    let text: String = match client.query_one(emit, &[&PREFIX]).await {
        Ok(row) => row.try_get(0)?,
        // A role that may not: others have to write something, then the store gets this far.
        Err(error)
            if error
                .code()
                .is_some_and(|code| ["42501", "25006"].contains(&code.code())) =>
        {
            let end = "select pg_current_wal_insert_lsn()::text";
            client.query_one(end, &[]).await?.try_get(0)?
        }
        Err(error) => return Err(error.into()),
    };
    text.parse()
        .map_err(|_| PostgresError::protocol("the server gives no position of the log"))
}

/// The columns that are compared, as places in the database's table, and those that are not.
type Columns = (BTreeSet<usize>, Vec<(String, &'static str)>);

fn comparable(own: &Table, now: &Table, info: &TableInfo) -> Result<Columns, AuditError> {
    let mut columns = BTreeSet::new();
    let mut passed_over = Vec::new();
    for column in &own.columns {
        let found = now.column_index(&column.name);
        let reason = match found {
            None => Some("the table has it no more"),
            Some(at) if info.columns[at].generated => Some("it is computed, and not in the log"),
            Some(at) if now.columns[at].data_type != column.data_type => {
                Some("it has another type now")
            }
            Some(at) if !info.columns[at].readable => Some("the role may not read it"),
            Some(_) => None,
        };
        match (reason, found) {
            (None, Some(at)) => _ = columns.insert(at),
            (reason, _) => passed_over.push((column.name.clone(), reason.unwrap_or_default())),
        }
    }
    for column in &now.columns {
        if own.column(&column.name).is_none() {
            passed_over.push((column.name.clone(), "the store does not have it"));
        }
    }
    let key = own.primary_key_names();
    let is_key = |name: &&String| passed_over.iter().any(|(column, _)| column == *name);
    match key.iter().find(is_key) {
        None => Ok((columns, passed_over)),
        Some(column) => Err(AuditError::Request {
            message: format!(
                "column `{column}` of the key of table {} cannot be compared",
                own.name.short()
            ),
            hint: "without their key, rows cannot be matched; grant the role SELECT on it".into(),
        }),
    }
}

/// A table without some columns.
fn without(table: &Table, passed_over: &[(String, &'static str)]) -> Table {
    let is_kept = |name: &String| !passed_over.iter().any(|(column, _)| column == name);
    let columns: Vec<_> = table
        .columns
        .iter()
        .filter(|column| is_kept(&column.name))
        .cloned()
        .collect();
    let place = |name: &String| columns.iter().position(|column| column.name == *name);
    let key = table.primary_key_names();
    Table {
        name: table.name.clone(),
        primary_key: key.iter().filter_map(place).collect(),
        foreign_keys: Vec::new(),
        columns,
    }
}

/// What the log says that a reading must have found, the last commit that it saw, and how many came later than it.
fn logged(
    settings: &Settings,
    schema: &Schema,
    table: usize,
    read: &Read,
) -> Result<(History, Commit, u64), AuditError> {
    let store = Store::open(&settings.store)?;
    let ledger = store.ledger();
    let settled = read.meta.time.map(|time| time - SETTLED_US);
    let is_settled = |time: Option<i64>| time.is_some() && time < settled;
    let old = ledger.segments.values().rev();
    let old = old.into_iter().find(|stretch| is_settled(stretch.time_to));
    let settled: Commit = old
        .map_or(ledger.first, |stretch| stretch.to)
        .max(ledger.first);
    let mut history = store.table_at(table, settled)?;
    let seen = position(&read.meta);
    let (mut last, mut later) = (settled, 0);
    for stretch in ledger.segments.values().filter(|one| one.to > settled) {
        for transaction in store.transactions(stretch)? {
            if transaction.commit <= settled {
                continue;
            }
            match transaction.meta.xid {
                Some(xid) if !read.visible.shows(xid) => {
                    later += 1;
                    continue;
                }
                // A state that the watcher read after a gap.
                None if position(&transaction.meta) > seen => return Err(AuditError::Gap),
                _ => {}
            }
            let own = transaction
                .changes
                .iter()
                .filter(|change| change.table == table);
            for (at, change) in own.enumerate() {
                let done = history.change(at, change);
                done.map_err(|error| contradiction(&schema.tables[table], &error))?;
            }
            last = transaction.commit;
            history.commit(transaction.meta);
        }
    }
    Ok((history, last, later))
}

fn contradiction(table: &Table, error: &dyn std::error::Error) -> AuditError {
    AuditError::Contradiction(table.name.short(), error.to_string())
}

fn position(meta: &TransactionMeta) -> Option<Lsn> {
    meta.lsn.as_deref().and_then(|text| text.parse().ok())
}
