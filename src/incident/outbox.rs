//! What is still to be told to those who asked for it (`alerts:` of `firstbad.yaml`), in the same database as what is to be told.
//!
//! Of every sink it is kept up to which notice it was looked through for it, and one row a subject (an incident, or a rule that cannot be
//! judged): what waits, what was given up. Notices about the same subject that wait are one message, with the latest state: so the
//! queue is never longer than there are incidents. What is told and not yet marked as told, because the process was killed, is told again
//! under the same id.

mod fold;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};
use serde_json::{Map, Value};

use super::database::{self, DATABASE, IncidentError, Wrong, count, damaged, stored};
use super::{document, facts};
use crate::config::Sink;
use crate::rule::Severity;
use fold::{Head, fold};

/// The tables of the outbox; made when it is first opened.
const TABLES: &str = "
create table if not exists outbox_sinks (
    name text primary key,
    -- notices up to this one were looked at
    taken integer not null,
    -- the last that was delivered, and when
    delivered integer not null default 0,
    sent integer,
    -- failures in a row, the last of them, and when it is tried again
    failures integer not null default 0,
    error text,
    retry integer
) strict;
create table if not exists outbox (
    sink text not null,
    subject text not null,
    state text not null check (state in ('waiting', 'sent', 'failed')),
    seq integer not null,
    what text not null,
    reason text,
    changes text not null,
    more integer not null,
    rule text not null,
    severity text not null,
    incident integer,
    time integer,
    due integer not null,
    attempts integer not null default 0,
    error text,
    told integer,
    memory text,
    primary key (sink, subject)
) strict;
create index if not exists outbox_waiting on outbox (sink, state, seq);
";
/// Under this name the part of ids stands that tells stores apart.
const NAME: &str = "outbox";
/// So many notices are taken over in one transaction, so that the one who judges never waits long.
const TAKEN_MAX: u64 = 1_000;

/// The outbox of a store.
#[derive(Debug)]
pub struct Outbox {
    db: Connection,
    path: PathBuf,
    name: String,
}

/// A message that is to be told: one or more notices about the same incident, or the same rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// What it is about: `I-7`, or `rule:` and a rule's id.
    pub subject: String,
    /// The number of its last notice.
    pub seq: u64,
    /// What happened last, in the words of `on:`; growing, healing and joining only where nothing else did.
    pub what: String,
    /// Why.
    pub reason: Option<String>,
    /// All that happened since the last message about it: how often each.
    pub changes: BTreeMap<String, u64>,
    /// How many keys, or events, it grew by since then.
    pub more: u64,
    /// The rule's id.
    pub rule: String,
    /// The rule's severity.
    pub severity: Severity,
    /// The stream's clock at the last notice, in microseconds since the epoch.
    pub time: Option<i64>,
    /// The incident as it was then, as `firstbad/incidents@1` has it; None where it is about the rule.
    pub incident: Option<Map<String, Value>>,
    /// How often it was tried.
    pub attempts: u64,
    /// What the sink remembers of the last message about the same subject.
    pub memory: Option<String>,
}

/// How it stands with a sink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The last notice that was delivered; None where none was.
    pub delivered: Option<u64>,
    /// When, in microseconds since the epoch.
    pub sent: Option<i64>,
    /// Messages that wait, those that are held back included.
    pub waiting: u64,
    /// Messages that were given up: what they are about, how often they were tried, and why it failed.
    pub failed: Vec<(String, u64, String)>,
    /// Failures in a row.
    pub failures: u64,
    /// Why the last attempt failed; None after a success.
    pub error: Option<String>,
    /// When it is tried again, in microseconds since the epoch.
    pub retry: Option<i64>,
}

impl Outbox {
    /// Opens the outbox of a store; None where nothing was watched yet.
    ///
    /// # Errors
    /// When the file cannot be opened, or is of a later version.
    pub fn open(directory: &Path) -> Result<Option<Outbox>, IncidentError> {
        let path = directory.join(DATABASE);
        let Some(mut db) = database::open_existing(&path, true)? else {
            return Ok(None);
        };
        let name = set_up(&mut db).map_err(|error| error.at(&path, "open"))?;
        Ok(Some(Outbox { db, path, name }))
    }

    /// Opens the outbox of a store only to see how it stands; None where nothing was watched yet.
    ///
    /// # Errors
    /// When the file cannot be opened, or is of a later version.
    pub fn look(directory: &Path) -> Result<Option<Outbox>, IncidentError> {
        let path = directory.join(DATABASE);
        let Some(db) = database::open_existing(&path, false)? else {
            return Ok(None);
        };
        let name = database::get(&db, NAME).map_err(|error| error.at(&path, "read"))?;
        Ok(name.map(|name| Outbox { db, path, name }))
    }

    fn within<T>(
        &mut self,
        work: impl FnOnce(&Connection) -> Result<T, Wrong>,
    ) -> Result<T, IncidentError> {
        let (db, path) = (&mut self.db, &self.path);
        let run = || -> Result<T, Wrong> {
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        run().map_err(|error| error.at(path, "write"))
    }

    fn reading<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Wrong>,
    ) -> Result<T, IncidentError> {
        work(&self.db).map_err(|error| error.at(&self.path, "read"))
    }

    /// What stands before the number of a notice in ids: different for every store.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lets a sink take part. One that is new is told of the incidents that are open, and of what happens from now on; with `all` of everything
    /// that ever happened, folded.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn join(&mut self, sink: &Sink, all: bool, now: i64) -> Result<(), IncidentError> {
        let known = "select 1 from outbox_sinks where name = ?";
        if self.reading(|db| Ok(db.prepare(known)?.exists([&sink.name])?))? {
            return Ok(());
        }
        self.within(|db| {
            let last: Option<i64> =
                db.query_row("select max(seq) from notices", [], |row| row.get(0))?;
            let taken = if all { 0 } else { last.unwrap_or(0) };
            let insert = "insert into outbox_sinks (name, taken) values (?1, ?2) on conflict do nothing";
            if db.execute(insert, params![sink.name, taken])? == 0 || all {
                return Ok(());
            }
            let open = "select n.seq, n.time, 'opened', null, null, n.rule, coalesce(n.document ->> 'severity', n.severity), n.incident \
                        from notices n, incidents i where n.incident = i.number and i.part_of is null and exists \
                        (select 1 from incidents where (number = i.number or part_of = i.number) and state = 'open') and n.seq = (select max(seq) from notices where incident = i.number) order by n.seq";
            let mut statement = db.prepare(open)?;
            let heads = statement.query_map([], Head::read)?;
            let heads: Vec<Head> = heads.collect::<Result<_, _>>()?;
            fold(db, sink, &heads, now)
        })
    }

    /// Takes over what was said since the last time; whether there is more.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn collect(&mut self, sink: &Sink, now: i64) -> Result<bool, IncidentError> {
        let pending = "select exists (select 1 from notices where seq > taken) from outbox_sinks where name = ?";
        let is_there = |db: &Connection| -> Result<Option<bool>, Wrong> {
            let mut statement = db.prepare(pending)?;
            Ok(statement
                .query_row([&sink.name], |row| row.get(0))
                .optional()?)
        };
        // Looked at first without the lock for writing: mostly there is nothing.
        if self.reading(is_there)? != Some(true) {
            return Ok(false);
        }
        self.within(|db| {
            // An incident is as bad as the worst of its rules, whichever of them has news.
            let query = "select seq, time, what, keys, reason, rule, coalesce(document ->> 'severity', severity), incident from notices \
                         where seq > (select taken from outbox_sinks where name = ?1) order by seq limit ?2";
            let mut statement = db.prepare(query)?;
            let heads = statement.query_map(params![sink.name, stored(TAKEN_MAX)], Head::read)?;
            let heads: Vec<Head> = heads.collect::<Result<_, _>>()?;
            let Some(last) = heads.last().map(|head| head.seq) else {
                return Ok(false);
            };
            fold(db, sink, &heads, now)?;
            let update = "update outbox_sinks set taken = ?2 where name = ?1";
            db.execute(update, params![sink.name, last])?;
            Ok(heads.len() as u64 == TAKEN_MAX)
        })
    }

    /// The next message of a sink that is due, in the order of their last notices; with `quiet` only what is critical. What is muted is not
    /// due.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next(
        &self,
        sink: &str,
        now: i64,
        quiet: bool,
    ) -> Result<Option<Waiting>, IncidentError> {
        let query = "select subject, seq, what, reason, changes, more, rule, severity, incident, time, attempts, memory from outbox \
                     where sink = ?1 and state = 'waiting' and due <= ?2 and (not ?3 or severity = 'critical') \
                     and not exists (select 1 from incidents where number = outbox.incident and muted > ?2) order by seq limit 1";
        self.reading(|db| {
            let mut statement = db.prepare(query)?;
            let mut rows = statement.query(params![sink, now, quiet])?;
            match rows.next()? {
                Some(row) => waiting(db, row).map(Some),
                None => Ok(None),
            }
        })
    }

    /// How often in a row a sink did not take a message, and when it is tried again, in microseconds since the epoch.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn patience(&self, sink: &str) -> Result<(u64, Option<i64>), IncidentError> {
        let query = "select failures, retry from outbox_sinks where name = ?";
        self.reading(|db| {
            let read = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get(1)?));
            let found = db.query_row(query, [sink], read).optional()?;
            Ok(found.map_or((0, None), |(failures, retry)| (count(failures), retry)))
        })
    }

    /// Keeps word that a message was delivered, and what the sink wants to remember of it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn sent(
        &mut self,
        sink: &str,
        message: &Waiting,
        memory: Option<&str>,
        now: i64,
    ) -> Result<(), IncidentError> {
        self.within(|db| {
            let update = "update outbox_sinks set delivered = max(delivered, ?2), sent = ?3, failures = 0, error = null, retry = null \
                          where name = ?1";
            db.execute(update, params![sink, stored(message.seq), now])?;
            let (subject, seq) = (&message.subject, stored(message.seq));
            // Nothing is remembered of what is over.
            if matches!(message.what.as_str(), "closed" | "known") {
                let delete = "delete from outbox where sink = ?1 and subject = ?2 and seq = ?3";
                db.execute(delete, params![sink, subject, seq])?;
                return Ok(());
            }
            let update = "update outbox set state = 'sent', told = ?4, memory = ?5, attempts = 0, error = null \
                          where sink = ?1 and subject = ?2 and seq = ?3";
            db.execute(update, params![sink, subject, seq, now, memory])?;
            Ok(())
        })
    }

    /// Keeps word that a message could not be delivered: it is tried again at a time, or never.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn failed(
        &mut self,
        sink: &str,
        message: &Waiting,
        error: &str,
        retry: Option<i64>,
    ) -> Result<(), IncidentError> {
        self.within(|db| {
            let update = "update outbox_sinks set failures = case when ?3 is null then 0 else failures + 1 end, error = ?2, retry = ?3 \
                          where name = ?1";
            db.execute(update, params![sink, error, retry])?;
            let update = "update outbox set attempts = attempts + 1, error = ?4, state = case when ?5 then 'waiting' else 'failed' end \
                          where sink = ?1 and subject = ?2 and seq = ?3";
            let seq = stored(message.seq);
            db.execute(update, params![sink, message.subject, seq, error, retry.is_some()])?;
            Ok(())
        })
    }

    /// Lets what was given up wait again.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn revive(&mut self, sink: &str) -> Result<(), IncidentError> {
        self.within(|db| {
            let update = "update outbox set state = 'waiting', attempts = 0 where sink = ? and state = 'failed'";
            db.execute(update, [sink])?;
            Ok(())
        })
    }

    /// How it stands with a sink; None for one that never took part.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn standing(&self, sink: &str) -> Result<Option<Standing>, IncidentError> {
        self.reading(|db| standing(db, sink))
    }
}

/// Makes the tables where they are missing; what stands before the numbers of notices.
fn set_up(db: &mut Connection) -> Result<String, Wrong> {
    // What is lost of it when the power fails is told again.
    db.pragma_update(None, "synchronous", "normal")?;
    let have = "select 1 from sqlite_schema where name = 'outbox'";
    if db.prepare(have)?.exists([])?
        && let Some(name) = database::get(db, NAME)?
    {
        return Ok(name);
    }
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLES)?;
    let name = match database::get(&transaction, NAME)? {
        Some(name) => name,
        None => {
            // The source alone would not do: a store that is made again counts its notices from one again.
            let source = database::get(&transaction, "source")?.unwrap_or_default();
            let random = RandomState::new().build_hasher().finish();
            let hash = blake3::hash(format!("{source}\0{random}").as_bytes()).to_hex();
            let name = hash.get(..12).unwrap_or_default().to_owned();
            database::set(&transaction, NAME, &name)?;
            name
        }
    };
    transaction.commit()?;
    Ok(name)
}

/// An incident as it was when a notice was said; as it is now where the notice is not kept any more.
fn incident_of(
    db: &Connection,
    seq: i64,
    number: Option<i64>,
) -> Result<Option<Map<String, Value>>, Wrong> {
    let query = "select document from notices where seq = ?";
    let mut statement = db.prepare(query)?;
    let text: Option<Option<String>> = statement.query_row([seq], |row| row.get(0)).optional()?;
    match (text.flatten(), number) {
        (Some(text), _) => Ok(Some(facts::object(&text))),
        (None, Some(number)) => Ok(Some(document::of(db, number)?.document())),
        (None, None) => Ok(None),
    }
}

fn waiting(db: &Connection, row: &Row<'_>) -> Result<Waiting, Wrong> {
    let (changes, severity): (String, String) = (row.get(4)?, row.get(7)?);
    let (seq, number): (i64, Option<i64>) = (row.get(1)?, row.get(8)?);
    let odd = || damaged("what waits in the outbox cannot be read");
    Ok(Waiting {
        subject: row.get(0)?,
        seq: count(seq),
        what: row.get(2)?,
        reason: row.get(3)?,
        changes: serde_json::from_str(&changes).map_err(|_| odd())?,
        more: count(row.get(5)?),
        rule: row.get(6)?,
        severity: facts::severity(&severity).ok_or_else(odd)?,
        time: row.get(9)?,
        incident: incident_of(db, seq, number)?,
        attempts: count(row.get(10)?),
        memory: row.get(11)?,
    })
}

fn standing(db: &Connection, sink: &str) -> Result<Option<Standing>, Wrong> {
    let query = "select delivered, sent, failures, error, retry from outbox_sinks where name = ?";
    let read = |row: &Row<'_>| {
        let (delivered, failures): (i64, i64) = (row.get(0)?, row.get(2)?);
        Ok(Standing {
            delivered: Some(count(delivered)).filter(|seq| *seq > 0),
            sent: row.get(1)?,
            failures: count(failures),
            error: row.get(3)?,
            retry: row.get(4)?,
            ..Standing::default()
        })
    };
    let Some(mut out) = db.query_row(query, [sink], read).optional()? else {
        return Ok(None);
    };
    let query = "select count(*) from outbox where sink = ? and state = 'waiting'";
    out.waiting = count(db.query_row(query, [sink], |row| row.get(0))?);
    let query = "select subject, attempts, error from outbox where sink = ? and state = 'failed' order by seq limit 1000";
    let mut statement = db.prepare(query)?;
    let failed = statement.query_map([sink], |row| {
        let (attempts, error): (i64, Option<String>) = (row.get(1)?, row.get(2)?);
        Ok((row.get(0)?, count(attempts), error.unwrap_or_default()))
    })?;
    out.failed = failed.collect::<Result<_, _>>()?;
    Ok(Some(out))
}
