//! What is to be said: kept in the database in the transaction that decides it, so that it is said at least once.

use rusqlite::{Connection, Row, params};
use serde_json::{Map, Value};

use super::database::{Wrong, count, damaged, stored};
use super::facts;
use crate::rule::Severity;

/// The most notices about growing and healing that are kept of an incident after they were said.
const NOTICES_MAX: i64 = 1_000;

/// What became of an incident, or of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// An incident opened.
    Opened,
    /// So many more keys, or events.
    Grew(u64),
    /// So many keys healed.
    Healed(u64),
    /// It was closed: `healed` when its last key healed, `by a person`.
    Closed(String),
    /// Its stretch had not ended after all.
    Reopened,
    /// Another rule is violated for the same cause: it is part of the incident from now on.
    Joined,
    /// Somebody takes care of it.
    Acknowledged,
    /// Its rows are set apart.
    Quarantined,
    /// Its rows have their good values again.
    Repaired,
    /// Its rows are no longer set apart.
    Released,
    /// The rule cannot be judged; this is why.
    Unknown(String),
    /// The rule can be judged again.
    Known,
}

impl What {
    /// The word used in JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            What::Opened => "opened",
            What::Grew(_) => "grew",
            What::Healed(_) => "healed",
            What::Closed(_) => "closed",
            What::Reopened => "reopened",
            What::Joined => "joined",
            What::Acknowledged => "acknowledged",
            What::Quarantined => "quarantined",
            What::Repaired => "repaired",
            What::Released => "released",
            What::Unknown(_) => "unknown",
            What::Known => "known",
        }
    }

    /// How many keys it is about, where it is about some.
    pub fn keys(&self) -> Option<u64> {
        match self {
            What::Grew(keys) | What::Healed(keys) => Some(*keys),
            _ => None,
        }
    }

    /// Why.
    pub fn reason(&self) -> Option<&str> {
        match self {
            What::Closed(reason) | What::Unknown(reason) => Some(reason),
            _ => None,
        }
    }

    fn read(word: &str, keys: Option<u64>, reason: Option<String>) -> Option<What> {
        let reason = reason.unwrap_or_default();
        Some(match word {
            "opened" => What::Opened,
            "grew" => What::Grew(keys?),
            "healed" => What::Healed(keys?),
            "closed" => What::Closed(reason),
            "reopened" => What::Reopened,
            "joined" => What::Joined,
            "acknowledged" => What::Acknowledged,
            "quarantined" => What::Quarantined,
            "repaired" => What::Repaired,
            "released" => What::Released,
            "unknown" => What::Unknown(reason),
            "known" => What::Known,
            _ => return None,
        })
    }
}

/// Something to say about an incident or a rule. The same notice has the same number however often it is said.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// Its number, from 1.
    pub seq: u64,
    /// The stream's clock, in microseconds since the epoch.
    pub time: Option<i64>,
    /// What happened.
    pub what: What,
    /// The rule's id.
    pub rule: String,
    /// The rule's severity.
    pub severity: Severity,
    /// The incident as it was then, as `firstbad/incidents@1` has it; None where it is about the rule.
    pub incident: Option<Map<String, Value>>,
}

impl Notice {
    /// The notice as one JSON object, `firstbad/incident@1`.
    pub fn document(&self) -> Map<String, Value> {
        let mut out = Map::new();
        out.insert("schema".into(), "firstbad/incident@1".into());
        out.insert("notice".into(), self.seq.into());
        let time = self.time.map(crate::schema::value::format_timestamp);
        out.insert("time".into(), time.into());
        out.insert("change".into(), self.what.as_str().into());
        out.insert("rule".into(), self.rule.clone().into());
        out.insert("severity".into(), self.severity.as_str().into());
        out.insert("keys".into(), self.what.keys().into());
        out.insert("reason".into(), self.what.reason().into());
        out.insert("incident".into(), self.incident.clone().into());
        out
    }
}

/// Something to say that is not written down yet.
pub(super) struct Draft<'a> {
    pub(super) time: Option<i64>,
    pub(super) what: &'a What,
    pub(super) rule: &'a str,
    pub(super) severity: Severity,
    pub(super) incident: Option<(i64, Map<String, Value>)>,
}

/// Writes a notice down.
pub(super) fn keep(db: &Connection, draft: Draft<'_>) -> Result<Notice, Wrong> {
    let (number, document) = draft.incident.unzip();
    let text = document
        .clone()
        .map(|document| Value::Object(document).to_string());
    let insert = "insert into notices (time, what, keys, reason, rule, severity, incident, document) values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    db.execute(
        insert,
        params![
            draft.time,
            draft.what.as_str(),
            draft.what.keys().map(stored),
            draft.what.reason(),
            draft.rule,
            draft.severity.as_str(),
            number,
            text,
        ],
    )?;
    let seq = db.last_insert_rowid();
    let old = "delete from notices where incident = ?1 and what in ('grew', 'healed') and seq <= ?2 \
               and seq < (select seq from notices where incident = ?1 order by seq desc limit 1 offset ?3)";
    let printed = super::database::number(db, "printed")?.unwrap_or(0);
    if number.is_some() {
        db.execute(old, params![number, printed, NOTICES_MAX])?;
    }
    Ok(Notice {
        seq: count(seq),
        time: draft.time,
        what: draft.what.clone(),
        rule: draft.rule.to_owned(),
        severity: draft.severity,
        incident: document,
    })
}

const COLUMNS: &str = "seq, time, what, keys, reason, rule, severity, document";

/// The notices after one, at most so many.
pub(super) fn after(db: &Connection, seq: i64, most: u64) -> Result<Vec<Notice>, Wrong> {
    let query = format!("select {COLUMNS} from notices where seq > ?1 order by seq limit ?2");
    collect(db, &query, params![seq, stored(most)])
}

/// The notices of an incident.
pub(super) fn of(db: &Connection, incident: i64) -> Result<Vec<Notice>, Wrong> {
    let query = format!("select {COLUMNS} from notices where incident = ?1 order by seq");
    collect(db, &query, params![incident])
}

fn collect(
    db: &Connection,
    query: &str,
    parameters: impl rusqlite::Params,
) -> Result<Vec<Notice>, Wrong> {
    let mut statement = db.prepare(query)?;
    let rows = statement.query_map(parameters, |row| Ok(read(row)))?;
    rows.map(|row| row?).collect()
}

fn read(row: &Row<'_>) -> Result<Notice, Wrong> {
    let (word, severity): (String, String) = (row.get(2)?, row.get(6)?);
    let keys: Option<i64> = row.get(3)?;
    let document: Option<String> = row.get(7)?;
    let odd = || damaged("a notice cannot be read");
    Ok(Notice {
        seq: count(row.get(0)?),
        time: row.get(1)?,
        what: What::read(&word, keys.map(count), row.get(4)?).ok_or_else(odd)?,
        rule: row.get(5)?,
        severity: facts::severity(&severity).ok_or_else(odd)?,
        incident: document.map(|text| facts::object(&text)),
    })
}
