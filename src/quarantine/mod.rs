//! Quarantine: the rows that an incident is about are set apart in Postgres, reversibly.
//!
//! No row is changed. What is set apart is a list of keys in the database, made by `sql/04-quarantine.sql`; views, policies and triggers heed it,
//! and only for tables that their owner has switched on. A [`Plan`] says which rows an incident's keys stand for, as the store knows them at
//! its head, and which keys are passed over and why. [`Plan::compare`] asks the server about each row, [`Plan::apply`] sets them apart in one
//! transaction: each row is locked and compared with what the store knows in every known column, so that nothing acts on a row that has
//! changed since (invariant 8). [`release`] lets all rows of an incident go.
//!
//! Applying again changes nothing; whoever is killed on the way has set apart everything or nothing, and goes on by applying again.

pub mod automatic;
pub mod report;
mod rows;
mod server;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde_json::{Map, Value};

use crate::change::Commit;
use crate::incident::{Incident, IncidentError, Person, Reading, State};
use crate::postgres::{Access, PostgresError, Session, Target, slot};
use crate::schema::TableName;
use crate::store::{Store, StoreError};
use crate::watch;

pub use server::Released;

/// What our sessions are called on the server.
const APPLICATION: &str = "firstbad quarantine";
/// The largest plan that is carried out where nothing else is said, in rows.
pub const ROWS_MAX: u64 = 1_000;

/// Why there is no plan, or it cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    /// The server.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The incidents' database.
    #[error(transparent)]
    Incidents(#[from] IncidentError),
    /// What is asked for cannot be done.
    #[error("{message}")]
    Request {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: String,
    },
}

impl QuarantineError {
    fn request(message: impl Into<String>, hint: impl Into<String>) -> Self {
        QuarantineError::Request {
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// Whether the same may succeed a little later.
    pub fn is_transient(&self) -> bool {
        match self {
            QuarantineError::Postgres(error) => error.is_transient(),
            QuarantineError::Store(error) => matches!(error, StoreError::Changing),
            QuarantineError::Incidents(error) => error.is_busy(),
            QuarantineError::Request { .. } => false,
        }
    }
}

/// What an incident's rows are to become.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The incident's name.
    pub incident: String,
    /// Where in its life it is.
    pub state: State,
    /// What tells its store from others: incidents are numbered by store.
    pub store: String,
    /// The position up to which the store knows the rows.
    pub head: Commit,
    /// The rows to set apart, by their onsets.
    pub rows: Vec<Planned>,
    /// What is passed over, in the order of the incident's keys.
    pub passed: Vec<Passed>,
    /// Whether the server was asked about the rows.
    pub compared: bool,
    /// Whether the incident has more keys than are kept, so that not all rows are known.
    pub incomplete: bool,
}

/// A row to set apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Its table.
    pub table: TableName,
    /// The rules that it violates.
    pub rules: Vec<String>,
    /// The commit after which it was bad.
    pub onset: Commit,
    /// Its primary key, for people: columns of `redact:` are hidden.
    pub shown_key: Map<String, Value>,
    /// The row, for people.
    pub shown: Map<String, Value>,
    /// Columns whose values are hidden.
    pub hidden: Vec<String>,
    /// Whether the server has it set apart already.
    pub already: bool,
    /// The primary key: texts as Postgres prints the values.
    key: Map<String, Value>,
    /// What is known of the row: texts, or null for NULL.
    image: Map<String, Value>,
}

/// A key, or a row that it stands for, that is not set apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Passed {
    /// The rule.
    pub rule: String,
    /// The table that the rule is about, where there is one.
    pub table: Option<TableName>,
    /// The rule's key, or the row's; columns of `redact:` are hidden.
    pub key: Map<String, Value>,
    /// Why.
    pub reason: Reason,
}

/// Why something is not set apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It is good again.
    Healed,
    /// The rule is about no table of the store.
    NoTable,
    /// The table has no primary key, so nothing names a row.
    NoPrimaryKey,
    /// The key is the whole table.
    WholeTable,
    /// The key is not made of the table's columns: it stands for no row.
    NoRow,
    /// No row has this key.
    Gone,
    /// A part of the row's primary key is not known.
    KeyNotKnown,
    /// The table is not switched on.
    Off,
    /// The row is not what the store knows.
    Changed,
    /// The table has another primary key now.
    OtherKey,
    /// A value cannot be read as the column's type any more.
    Unreadable,
    /// The ceiling of the automatic mode is reached.
    Ceiling,
}

impl Reason {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Healed => "healed",
            Reason::NoTable => "no_table",
            Reason::NoPrimaryKey => "no_primary_key",
            Reason::WholeTable => "whole_table",
            Reason::NoRow => "no_row",
            Reason::Gone => "gone",
            Reason::KeyNotKnown => "key_not_known",
            Reason::Off => "off",
            Reason::Changed => "changed",
            Reason::OtherKey => "other_key",
            Reason::Unreadable => "unreadable",
            Reason::Ceiling => "ceiling",
        }
    }

    /// The same in words.
    pub fn text(self) -> &'static str {
        match self {
            Reason::Healed => "it is good again",
            Reason::NoTable => "the rule is about no table of the store",
            Reason::NoPrimaryKey => "the table has no primary key: nothing names a row",
            Reason::WholeTable => "it is about the whole table, not about rows",
            Reason::NoRow => "its key is no row's",
            Reason::Gone => "there is no such row now",
            Reason::KeyNotKnown => "a part of its primary key is not known",
            Reason::Off => "quarantine is not switched on for the table",
            Reason::Changed => "it has changed since",
            Reason::OtherKey => "the table has another primary key now",
            Reason::Unreadable => "a column has another type now",
            Reason::Ceiling => "as many rows are set apart as may be",
        }
    }

    /// Whether it may be otherwise when the store has recorded more.
    fn may_pass(self) -> bool {
        matches!(self, Reason::Changed | Reason::Gone | Reason::KeyNotKnown)
    }
}

impl Plan {
    /// What setting an incident's rows apart comes to, as far as the store knows: nothing is asked of a server. Only keys of `rules`, where
    /// some are named. None where there is no such incident.
    ///
    /// # Errors
    /// When the incidents or the store cannot be read.
    pub fn read(
        store: &Path,
        reading: &Reading,
        incident: &str,
        rules: &[String],
    ) -> Result<Option<Plan>, QuarantineError> {
        let Some((incident, mut keys)) = reading.raw_keys(incident)? else {
            return Ok(None);
        };
        keys.retain(|key| rules.is_empty() || rules.contains(&key.rule));
        let found = Store::reading(store, |store| {
            let head = store.ledger().head();
            Ok((mark(store), head, rows::find(store, &incident, &keys)?))
        });
        let (store, head, (rows, passed)) = found?;
        Ok(Some(Plan {
            incident: incident.id(),
            state: incident.state,
            store,
            head,
            rows,
            passed,
            compared: false,
            incomplete: incident.incomplete,
        }))
    }

    /// Asks the server about each row, and passes over what it would. Changes nothing.
    ///
    /// # Errors
    /// When the server cannot be asked; [`QuarantineError::Request`] where quarantine is not set up, or for none of the tables.
    pub async fn compare(&mut self, session: &mut Session) -> Result<(), QuarantineError> {
        self.carry_out(session, false).await
    }

    /// Sets the rows apart in one transaction, and passes over what has changed since. Rows that are set apart already stay so.
    ///
    /// # Errors
    /// As [`Plan::compare`]; then nothing was set apart, except where the connection is lost while the server confirms: applying again tells.
    pub async fn apply(&mut self, session: &mut Session) -> Result<(), QuarantineError> {
        self.carry_out(session, true).await
    }

    async fn carry_out(
        &mut self,
        session: &mut Session,
        set_apart: bool,
    ) -> Result<(), QuarantineError> {
        let rows = std::mem::take(&mut self.rows);
        let outcomes = server::rows(session, self, &rows, set_apart).await?;
        for (mut row, outcome) in rows.into_iter().zip(outcomes) {
            match outcome {
                Ok(already) => {
                    row.already = already;
                    self.rows.push(row);
                }
                Err(reason) => self.passed.push(row.passed(reason)),
            }
        }
        self.compared = true;
        Ok(())
    }

    /// How many rows are not set apart yet.
    pub fn new_rows(&self) -> u64 {
        self.rows.iter().filter(|row| !row.already).count() as u64
    }

    /// Keys that are bad and yet passed over.
    pub fn passed_over(&self) -> impl Iterator<Item = &Passed> {
        let is_bad = |passed: &&Passed| passed.reason != Reason::Healed;
        self.passed.iter().filter(is_bad)
    }
}

impl Planned {
    fn passed(self, reason: Reason) -> Passed {
        Passed {
            rule: self.rules.into_iter().next().unwrap_or_default(),
            table: Some(self.table),
            key: self.shown_key,
            reason,
        }
    }
}

/// What tells a store from every other: what it was made from, and when.
fn mark(store: &Store) -> String {
    let format = store.format();
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"firstbad/quarantine@1\0");
    hasher.update(&format.created.to_le_bytes());
    hasher.update(format.source.as_bytes());
    hasher.finalize().to_hex()[..16].to_owned()
}

/// Connects to the server from which a store was recorded.
///
/// # Errors
/// When it cannot be connected to; [`QuarantineError::Request`] where it is another one.
pub async fn connect(target: &Target, reading: &Reading) -> Result<Session, QuarantineError> {
    let session = Session::open(target, APPLICATION, Access::ReadWrite).await?;
    let known = watch::recorded_from(reading)?;
    let found = slot::system_id(&session).await?;
    if known
        .zip(found)
        .is_some_and(|(known, found)| known != found)
    {
        return Err(QuarantineError::request(
            "the store was recorded from another server (its system identifier differs)",
            "name the store of this server",
        ));
    }
    Ok(session)
}

/// Keeps word that rows of an incident are set apart.
///
/// # Errors
/// When the incidents' database cannot be written.
pub fn mark_applied(
    reading: &mut Reading,
    plan: &Plan,
    person: &Person,
) -> Result<(), QuarantineError> {
    if !plan.rows.is_empty() {
        reading.mark(&plan.incident, State::Quarantined, person)?;
    }
    Ok(())
}

/// Lets the rows of incidents go: of one, or of all of a store. Nothing of it is left in the database, and the incidents go back to where they
/// were in their lives.
///
/// # Errors
/// When the server cannot be asked: then nothing is released, except where the connection is lost while it confirms; when the incidents
/// cannot be written. Releasing again completes it.
pub async fn release(
    session: &Session,
    store: &Path,
    reading: &mut Reading,
    incident: Option<&Incident>,
    person: &Person,
) -> Result<Vec<Released>, QuarantineError> {
    let mark = Store::reading(store, |store| Ok(mark(store)))?;
    let id = incident.map(Incident::id);
    let released = server::release(session, &mark, id.as_deref()).await?;
    let quarantined = match incident {
        Some(one) => vec![(one.id(), one.state)],
        None => {
            let all = reading.list(true, None)?;
            all.iter().map(|one| (one.id(), one.state)).collect()
        }
    };
    for (id, state) in quarantined {
        // Of another state was said more since: that its rows are put right, or that it is over.
        if state == State::Quarantined {
            reading.mark(&id, State::Open, person)?;
        }
    }
    Ok(released)
}
