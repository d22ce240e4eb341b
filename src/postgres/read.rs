//! A database at one moment: its schema, and the rows of the tables and columns that are asked for.
//!
//! All sessions see what one of them sees: the first begins a read-only transaction at the isolation level *repeatable read* and exports
//! its snapshot, the others import it and copy tables in parallel, large ones in ranges of pages. Nothing is locked but the tables'
//! definitions, and a table is never read with fewer rows than it has: where row security would hide some, the server refuses.

mod load;
mod parts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio_postgres::Client;

use super::catalog::{Catalog, quoted, quoted_table};
use super::{Access, PostgresError, Session, Target, Visibility};
use crate::change::TransactionMeta;
use crate::diagnostic::Diagnostic;
use crate::schema::TableName;
use crate::state::{History, Origin};

/// At most so many sessions copy at once.
const SESSIONS_MAX: usize = 4;

/// Before this version, partitions and generated columns are described otherwise.
const VERSION_MIN: u32 = 120_000;

/// Before this version, a range of pages is found by reading the whole table.
const VERSION_OF_RANGES: u32 = 140_000;

/// What is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All rows of all tables.
    All,
    /// Some columns of some tables, as indexes in the schema; all rows of these tables. Tables that are not named are not read and stay
    /// empty: nobody may judge them.
    Columns(BTreeMap<usize, BTreeSet<usize>>),
}

/// How far reading has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rows that were read.
    pub rows: u64,
    /// About how many there are; 0 where the server does not know.
    pub rows_expected: u64,
    /// Tables, or ranges of large ones, that were read.
    pub parts: usize,
    /// How many there are.
    pub parts_all: usize,
}

/// A database at one moment, kept open.
pub struct Moment {
    target: Target,
    leader: Arc<Session>,
    /// The name under which other sessions import the snapshot; None where the server does not export it.
    snapshot: Option<String>,
    catalog: Catalog,
    application: String,
    meta: TransactionMeta,
    role: String,
}

impl std::fmt::Debug for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Moment")
            .field("target", &self.target.shown())
            .field("meta", &self.meta)
            .finish_non_exhaustive()
    }
}

/// Begins a transaction in which nothing is written, nothing is hidden by row security, and names mean what the catalog says.
async fn begin(client: &Client, import: Option<&str>) -> Result<(), PostgresError> {
    client
        .batch_execute("begin transaction isolation level repeatable read, read only")
        .await?;
    if let Some(snapshot) = import {
        let name = snapshot.replace('\'', "''");
        let import = format!("set transaction snapshot '{name}'");
        client.batch_execute(&import).await?;
    }
    client
        .batch_execute("set local row_security = off; set local search_path = pg_catalog")
        .await?;
    Ok(())
}

impl Moment {
    /// Connects, takes the snapshot and reads the catalog.
    ///
    /// # Errors
    /// When there is no such server, it does not let us in, or is too old.
    pub async fn open(target: &Target, application: &str) -> Result<Moment, PostgresError> {
        Self::at_snapshot(target, application, None).await
    }

    /// The database as it is in a snapshot that another connection exports, for as long as that lasts.
    ///
    /// # Errors
    /// As [`Moment::open`]; 22023 and 42704 where there is no such snapshot.
    pub async fn at(
        target: &Target,
        application: &str,
        snapshot: &str,
    ) -> Result<Moment, PostgresError> {
        Self::at_snapshot(target, application, Some(snapshot)).await
    }

    async fn at_snapshot(
        target: &Target,
        application: &str,
        import: Option<&str>,
    ) -> Result<Moment, PostgresError> {
        let leader = Session::open(target, application, Access::ReadOnly).await?;
        let version = leader.server_version_num();
        if version < VERSION_MIN {
            return Err(PostgresError::refused(
                format!("the server is PostgreSQL {}", version / 10_000),
                format!("PostgreSQL {} or later is read", VERSION_MIN / 10_000),
            ));
        }
        let client = leader.client();
        begin(client, import).await?;
        let row = client
            .query_one(
                "select (extract(epoch from now()) * 1000000)::int8, current_user::text, pg_is_in_recovery()",
                &[],
            )
            .await?;
        let (time, role, standby): (i64, String, bool) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let lsn = lsn(client, standby).await?;
        let snapshot = match import {
            Some(import) => Some(import.to_owned()),
            None => export(client).await?,
        };
        let catalog = Catalog::read(client).await?;
        Ok(Moment {
            target: target.clone(),
            leader: Arc::new(leader),
            snapshot,
            catalog,
            application: application.to_owned(),
            meta: TransactionMeta {
                lsn,
                time: Some(time),
                ..TransactionMeta::default()
            },
            role,
        })
    }

    /// What the database holds.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Where in the log and when: the log's position as it was just after the snapshot was taken, so that a transaction that was being
    /// committed then may lie on either side of it; the time at which the snapshot's transaction began.
    pub fn meta(&self) -> &TransactionMeta {
        &self.meta
    }

    /// Which transactions are visible at this moment.
    ///
    /// # Errors
    /// When the server does not answer; on a hot standby, which does not know.
    pub async fn visibility(&self) -> Result<Visibility, PostgresError> {
        let asked = "select pg_is_in_recovery(), txid_current_snapshot()::text";
        let row = self.leader.client().query_one(asked, &[]).await?;
        if row.try_get(0)? {
            return Err(PostgresError::refused(
                "the server is a hot standby: it does not say which transactions it shows",
                "name the primary",
            ));
        }
        Visibility::parse(row.try_get(1)?)
    }

    /// The history of which this is the only state, without its rows.
    pub fn empty(&self) -> History {
        let schema = self.catalog.schema().clone();
        let mut history = History::new(schema, Origin::SingleState, false);
        history.base = self.meta.clone();
        history
    }

    /// Reads rows. Columns that are not asked for are not fetched, but for the primary key's: their cells are not known.
    ///
    /// What firstbad has no place for (a timestamp after the year 294246, text that is not UTF-8) is not known either, and a warning a column says how much that is.
    ///
    /// # Errors
    /// Before anything is read, where the role may not read all that is asked for; when the connection is lost; when a table was altered
    /// or dropped since.
    pub async fn read(
        &self,
        wanted: &Wanted,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<(History, Vec<Diagnostic>), PostgresError> {
        let wanted = self.fetched(wanted);
        self.may_read(&wanted)?;
        let in_ranges = self.leader.server_version_num() >= VERSION_OF_RANGES;
        let block = self.block_bytes(in_ranges).await?;
        let jobs = parts::jobs(&self.catalog, &wanted, block);
        load::load(self, jobs, progress).await
    }

    /// The columns that are fetched: those that are wanted, and the primary key as far as we may read it.
    fn fetched(&self, wanted: &Wanted) -> BTreeMap<usize, BTreeSet<usize>> {
        let tables = &self.catalog.schema().tables;
        match wanted {
            Wanted::All => {
                let all = tables.iter().enumerate();
                all.map(|(at, table)| (at, (0..table.columns.len()).collect()))
                    .collect()
            }
            Wanted::Columns(wanted) => {
                let mut wanted = wanted.clone();
                wanted.retain(|at, _| *at < tables.len());
                for (at, columns) in &mut wanted {
                    let info = &self.catalog.tables[*at];
                    let readable = |column: &&usize| info.columns[**column].readable;
                    columns.extend(tables[*at].primary_key.iter().filter(readable));
                }
                wanted
            }
        }
    }

    /// Fails where the role may not read what is asked for, naming all of it and the statements that would allow it.
    fn may_read(&self, wanted: &BTreeMap<usize, BTreeSet<usize>>) -> Result<(), PostgresError> {
        let mut denied = Vec::new();
        let mut grants = Vec::new();
        for (at, columns) in wanted {
            let info = &self.catalog.tables[*at];
            if info.row_security {
                return Err(PostgresError::refused(
                    format!(
                        "row security hides rows of table {} from role {}: a check would see fewer than there are",
                        info.name.short(),
                        self.role
                    ),
                    format!(
                        "connect as a role that sees all of them: alter role {} bypassrls, or the table's owner",
                        quoted(&self.role)
                    ),
                ));
            }
            let closed = columns.iter().filter(|&&at| !info.columns[at].readable);
            let closed: Vec<String> = closed.map(|&at| quoted(&info.columns[at].name)).collect();
            // Nothing of it is wanted, and not even that can be had.
            let nothing = columns.is_empty() && info.columns.iter().all(|c| !c.readable);
            let hidden = nothing && !info.readable;
            if closed.is_empty() && !hidden {
                continue;
            }
            let whole = closed.len() == columns.len();
            let list = match whole {
                true => String::new(),
                false => format!(" ({})", closed.join(", ")),
            };
            denied.push(format!("{}{list}", info.name.short()));
            grants.push(format!(
                "grant select{list} on {} to {}",
                quoted_table(&info.name),
                quoted(&self.role)
            ));
        }
        if denied.is_empty() {
            return Ok(());
        }
        let mut schemas: Vec<String> = Vec::new();
        for at in wanted.keys() {
            let name: &TableName = &self.catalog.tables[*at].name;
            if denied
                .iter()
                .any(|denied| denied.starts_with(&name.short()))
            {
                schemas.push(name.schema.clone());
            }
        }
        schemas.sort();
        schemas.dedup();
        let usage = schemas
            .iter()
            .filter(|schema| *schema != "public")
            .map(|schema| {
                let (schema, role) = (quoted(schema), quoted(&self.role));
                format!("grant usage on schema {schema} to {role}")
            });
        let statements: Vec<String> = usage.chain(grants).collect();
        Err(PostgresError::refused(
            format!("role {} may not read {}", self.role, denied.join(", ")),
            statements.join("; "),
        ))
    }

    /// The size of a page; None where tables are not read in ranges.
    async fn block_bytes(&self, in_ranges: bool) -> Result<Option<u64>, PostgresError> {
        if !in_ranges {
            return Ok(None);
        }
        let asked = "select current_setting('block_size')::int8";
        let row = self.leader.client().query_one(asked, &[]).await?;
        Ok(u64::try_from(row.try_get::<_, i64>(0)?).ok())
    }
}

/// The log's position; None where the role may not ask.
async fn lsn(client: &Client, standby: bool) -> Result<Option<String>, PostgresError> {
    let function = match standby {
        true => "pg_last_wal_replay_lsn()",
        false => "pg_current_wal_lsn()",
    };
    let asked = format!("select has_function_privilege('pg_catalog.{function}', 'execute')");
    if !client.query_one(&asked, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let asked = format!("select {function}::text");
    Ok(client.query_one(&asked, &[]).await?.try_get(0)?)
}

/// The name of the exported snapshot; None where the server cannot export it.
async fn export(client: &Client) -> Result<Option<String>, PostgresError> {
    client.batch_execute("savepoint export").await?;
    match client.query_one("select pg_export_snapshot()", &[]).await {
        Ok(row) => Ok(row.try_get(0)?),
        Err(error) if error.as_db_error().is_some() => {
            client.batch_execute("rollback to savepoint export").await?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
