//! The file: its tables, how it is opened, and what can go wrong with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use crate::change::Commit;

/// The file's name in the store's directory.
pub const DATABASE: &str = "firstbad.db";
/// How long one process waits for another that writes.
const BUSY: Duration = Duration::from_secs(10);
/// The version of the tables that is written.
const VERSION: i64 = 1;
/// What makes the tables.
const TABLES: &str = "
create table meta (name text primary key, value text not null) strict, without rowid;
create table rules (
    id text primary key,
    facts text not null,
    verdict text not null,
    reason text,
    judged integer,
    -- findings that are bad now, and those of them that have no row of their own
    bad integer not null default 0,
    beyond integer not null default 0,
    -- the same for what was bad before
    standing integer not null default 0,
    standing_beyond integer not null default 0,
    -- rows of keys that are bad now
    held integer not null default 0,
    incomplete integer not null default 0,
    -- the incident whose stretch runs, the last whose stretch is over, and the one of what was bad before
    incident integer,
    last integer,
    before integer
) strict;
create table incidents (
    number integer primary key autoincrement,
    rule text not null references rules (id),
    -- the incident that this stretch belongs to, where it is not the first of it
    part_of integer references incidents (number),
    state text not null check (state in ('open', 'acknowledged', 'quarantined', 'repaired', 'closed')),
    pre_existing integer not null,
    opened integer,
    first_bad text,
    keys integer not null default 0,
    onsets integer not null default 0,
    last_onset integer,
    impact text,
    impact_lost integer not null default 0,
    overdue integer,
    ended integer,
    closed text,
    acknowledged text,
    -- who set its rows apart, put them right or released them last
    marked text,
    -- no alerts before this time
    muted integer
) strict;
create index incidents_of_rule on incidents (rule);
create index incidents_parts on incidents (part_of);
create table violations (
    seq integer primary key,
    rule text not null references rules (id),
    key_order blob not null,
    key text not null,
    onset integer not null,
    wrote text,
    onset_time integer,
    evidence text not null,
    impact text,
    deadline integer,
    state text not null check (state in ('pending', 'finding', 'healed', 'event')),
    pre_existing integer not null,
    healed integer,
    healed_by text,
    incident integer references incidents (number),
    times integer not null default 1
) strict;
create index violations_open on violations (rule, key_order) where state in ('pending', 'finding');
create index violations_due on violations (rule, deadline) where state = 'pending';
create index violations_found on violations (rule, onset, key_order) where state = 'finding';
create index violations_of_incident on violations (incident, key_order);
create table gaps (first integer not null, last integer not null, reason text not null) strict;
create table notices (
    seq integer primary key autoincrement,
    time integer,
    what text not null,
    keys integer,
    reason text,
    rule text not null,
    severity text not null,
    incident integer,
    document text
) strict;
create index notices_of_incident on notices (incident);
";

/// Why incidents cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IncidentError {
    /// SQLite or the system failed.
    #[error("cannot {doing} {path}")]
    Database {
        /// What was done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: rusqlite::Error,
    },
    /// A later version of firstbad wrote it.
    #[error("{path} was written by a later version of firstbad")]
    Newer {
        /// The file.
        path: PathBuf,
    },
    /// It holds the incidents of another source.
    #[error("{path} holds the incidents of another source")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It does not hold what this program writes.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Commits between what was judged and a batch are missing: a gap has to be said.
    #[error("commits #{} to #{to} were not judged, and nobody said why", judged + 1)]
    Skipped {
        /// The position up to which everything was judged.
        judged: Commit,
        /// The last commit that is missing.
        to: Commit,
    },
    /// A batch came before anybody said where judging begins.
    #[error("nothing was said of where judging begins")]
    NotBegun,
}

impl IncidentError {
    /// Whether a later attempt can succeed: another process had the file.
    pub fn is_busy(&self) -> bool {
        let code = match self {
            IncidentError::Database { source, .. } => source.sqlite_error_code(),
            _ => None,
        };
        matches!(
            code,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
        )
    }
}

/// What can go wrong inside of a transaction.
#[derive(Debug)]
pub(super) enum Wrong {
    Sqlite(rusqlite::Error),
    Damaged(String),
    Said(IncidentError),
}

impl From<rusqlite::Error> for Wrong {
    fn from(error: rusqlite::Error) -> Wrong {
        match error {
            // A column of another type than the tables have.
            rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..) => {
                Wrong::Damaged("a value has another type than it was written with".into())
            }
            error => Wrong::Sqlite(error),
        }
    }
}

impl Wrong {
    pub(super) fn at(self, path: &Path, doing: &'static str) -> IncidentError {
        let path = path.to_owned();
        match self {
            Wrong::Sqlite(source) => IncidentError::Database {
                doing,
                path,
                source,
            },
            Wrong::Damaged(what) => IncidentError::Damaged { path, what },
            Wrong::Said(error) => error,
        }
    }
}

pub(super) fn damaged(what: impl Into<String>) -> Wrong {
    Wrong::Damaged(what.into())
}

/// A count as SQLite keeps it.
pub(super) fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count as it was stored.
pub(super) fn count(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

/// A commit as it was stored.
pub(super) fn commit(stored: i64) -> Result<Commit, Wrong> {
    Commit::try_from(stored).map_err(|_| damaged("a commit is out of range"))
}

/// Opens the file for writing; makes it and its tables where they are missing.
pub(super) fn open(path: &Path, source: &str) -> Result<Connection, IncidentError> {
    let wrong = |error: Wrong| error.at(path, "open");
    let mut connection = Connection::open(path).map_err(|error| wrong(error.into()))?;
    set_up(&mut connection, path, source).map_err(wrong)?;
    Ok(connection)
}

fn set_up(connection: &mut Connection, path: &Path, source: &str) -> Result<(), Wrong> {
    connection.busy_timeout(BUSY)?;
    let () = connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    match version(&transaction, path)? {
        0 => {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            set(&transaction, "source", source)?;
        }
        _ if get(&transaction, "source")?.as_deref() != Some(source) => {
            let path = path.to_owned();
            return Err(Wrong::Said(IncidentError::Foreign { path }));
        }
        _ => {}
    }
    transaction.commit()?;
    Ok(())
}

fn version(connection: &Connection, path: &Path) -> Result<i64, Wrong> {
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match version > VERSION {
        true => Err(Wrong::Said(IncidentError::Newer {
            path: path.to_owned(),
        })),
        false => Ok(version),
    }
}

/// Opens a file that is there: for reading, or for what a person does to incidents. None where there is none.
pub(super) fn open_existing(
    path: &Path,
    writing: bool,
) -> Result<Option<Connection>, IncidentError> {
    let wrong = |error: Wrong| error.at(path, "open");
    if !path.is_file() {
        return Ok(None);
    }
    let with = |flags: OpenFlags, name: &str| -> Result<(Connection, i64), Wrong> {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(name, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        let version = version(&connection, path)?;
        Ok((connection, version))
    };
    let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let flags = match writing {
        true => OpenFlags::SQLITE_OPEN_READ_WRITE,
        false => read_only,
    };
    let opened = match with(flags, &uri(path, "")) {
        // In a directory that cannot be written, nobody else writes the file either.
        Err(Wrong::Sqlite(error))
            if !writing
                && matches!(
                    error.sqlite_error_code(),
                    Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly)
                ) =>
        {
            with(read_only, &uri(path, "?immutable=1"))
        }
        opened => opened,
    };
    let (connection, version) = opened.map_err(wrong)?;
    if writing {
        let full = connection.pragma_update(None, "synchronous", "full");
        full.map_err(|error| wrong(error.into()))?;
    }
    // Whoever makes the file has not made its tables yet.
    Ok((version > 0).then_some(connection))
}

/// A path as SQLite's URI has it.
fn uri(path: &Path, query: &str) -> String {
    let mut out = String::from("file:");
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for byte in absolute.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => {
                out.push(char::from(*byte))
            }
            _ => out.push_str(&format!("%{byte:02x}")),
        }
    }
    out + query
}

/// One of the few single values.
pub(super) fn get(connection: &Connection, name: &str) -> Result<Option<String>, Wrong> {
    let query = "select value from meta where name = ?";
    let value = connection.query_row(query, [name], |row| row.get(0));
    Ok(value.optional()?)
}

/// The same as a number.
pub(super) fn number(connection: &Connection, name: &str) -> Result<Option<i64>, Wrong> {
    let number = |text: String| {
        let number = text.parse::<i64>();
        number.map_err(|_| damaged(format!("`{name}` is no number")))
    };
    get(connection, name)?.map(number).transpose()
}

pub(super) fn set(connection: &Connection, name: &str, value: &str) -> Result<(), Wrong> {
    let statement = "insert into meta values (?1, ?2) on conflict do update set value = ?2";
    connection.execute(statement, params![name, value])?;
    Ok(())
}
