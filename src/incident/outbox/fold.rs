//! Notices about the same subject become one message.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row, params};
use serde_json::Value;

use super::super::database::{Wrong, count, damaged, stored};
use super::super::facts;
use super::incident_of;
use crate::config::Sink;

/// The notice that a row of the database is about, without its document.
pub(super) struct Head {
    pub(super) seq: i64,
    time: Option<i64>,
    what: String,
    keys: Option<i64>,
    reason: Option<String>,
    rule: String,
    severity: String,
    incident: Option<i64>,
}

impl Head {
    pub(super) fn read(row: &Row<'_>) -> Result<Head, rusqlite::Error> {
        Ok(Head {
            seq: row.get(0)?,
            time: row.get(1)?,
            what: row.get(2)?,
            keys: row.get(3)?,
            reason: row.get(4)?,
            rule: row.get(5)?,
            severity: row.get(6)?,
            incident: row.get(7)?,
        })
    }

    fn subject(&self) -> String {
        match self.incident {
            Some(number) => format!("I-{number}"),
            None => format!("rule:{}", self.rule),
        }
    }
}

/// How much something is news: more of the same, another rule of a known cause, or a turn of the incident's life.
fn news(what: &str) -> u8 {
    match what {
        "grew" | "healed" => 0,
        "joined" => 1,
        _ => 2,
    }
}

/// Whether a sink wants to hear a notice.
fn wants(db: &Connection, sink: &Sink, head: &Head) -> Result<bool, Wrong> {
    let severity = facts::severity(&head.severity);
    let severity = severity.ok_or_else(|| damaged("a notice cannot be read"))?;
    if severity < sink.severity || !sink.on.contains(&head.what.as_str()) {
        return Ok(false);
    }
    if sink.rules.is_empty() || sink.rules.contains(&head.rule) {
        return Ok(true);
    }
    // An incident may be about several rules.
    let incident = incident_of(db, head.seq, None)?.unwrap_or_default();
    let rules = incident.get("rules").and_then(Value::as_array);
    let mut rules = rules.into_iter().flatten().filter_map(Value::as_str);
    Ok(rules.any(|rule| sink.rules.iter().any(|wanted| wanted == rule)))
}

/// A row of the outbox while notices are folded into it.
struct Entry {
    state: String,
    what: String,
    reason: Option<String>,
    changes: BTreeMap<String, u64>,
    more: u64,
    due: i64,
    told: Option<i64>,
    last: usize,
}

impl Entry {
    fn load(db: &Connection, sink: &str, subject: &str) -> Result<Option<Entry>, Wrong> {
        let query = "select state, what, reason, changes, more, due, told from outbox where sink = ?1 and subject = ?2";
        let mut statement = db.prepare(query)?;
        let mut rows = statement.query(params![sink, subject])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let changes: String = row.get(3)?;
        Ok(Some(Entry {
            state: row.get(0)?,
            what: row.get(1)?,
            reason: row.get(2)?,
            changes: serde_json::from_str(&changes).unwrap_or_default(),
            more: count(row.get(4)?),
            due: row.get(5)?,
            told: row.get(6)?,
            last: 0,
        }))
    }

    /// Takes a notice in.
    fn take(&mut self, head: &Head, at: usize, every: i64, now: i64) {
        if self.state == "sent" {
            // What was told is over; this begins another message.
            self.changes.clear();
            (self.more, self.due) = (0, i64::MAX);
            self.what = "healed".into();
        }
        if self.state == "failed" {
            self.due = i64::MAX;
        }
        self.state = "waiting".into();
        let news = news(&head.what);
        if news >= self::news(&self.what) {
            self.what.clone_from(&head.what);
            self.reason.clone_from(&head.reason);
        }
        let times = self.changes.entry(head.what.clone()).or_default();
        *times = times.saturating_add(1);
        if head.what == "grew" {
            let keys = head.keys.map_or(0, count);
            self.more = self.more.saturating_add(keys);
        }
        let due = match (news, self.told) {
            (0, Some(told)) => now.max(told.saturating_add(every)),
            _ => now,
        };
        self.due = self.due.min(due);
        self.last = at;
    }
}

/// Folds notices into what waits for a sink.
pub(super) fn fold(db: &Connection, sink: &Sink, heads: &[Head], now: i64) -> Result<(), Wrong> {
    let every = i64::try_from(sink.every.as_micros()).unwrap_or(i64::MAX);
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    for (at, head) in heads.iter().enumerate() {
        if !wants(db, sink, head)? {
            continue;
        }
        let subject = head.subject();
        if !entries.contains_key(&subject) {
            let entry = Entry::load(db, &sink.name, &subject)?;
            let new = || Entry {
                state: "sent".into(),
                what: String::new(),
                reason: None,
                changes: BTreeMap::new(),
                more: 0,
                due: now,
                told: None,
                last: at,
            };
            entries.insert(subject.clone(), entry.unwrap_or_else(new));
        }
        if let Some(entry) = entries.get_mut(&subject) {
            entry.take(head, at, every, now);
        }
    }
    let insert = "insert into outbox (sink, subject, state, seq, what, reason, changes, more, rule, severity, incident, time, due) \
                  values (?1, ?2, 'waiting', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) on conflict do update set \
                  state = 'waiting', seq = ?3, what = ?4, reason = ?5, changes = ?6, more = ?7, rule = ?8, severity = ?9, time = ?11, \
                  due = ?12, attempts = case when state = 'waiting' then attempts else 0 end, error = null";
    let mut insert = db.prepare(insert)?;
    for (subject, entry) in entries {
        let head = &heads[entry.last];
        let changes = serde_json::to_string(&entry.changes).unwrap_or_default();
        insert.execute(params![
            sink.name,
            subject,
            head.seq,
            entry.what,
            entry.reason,
            changes,
            stored(entry.more),
            head.rule,
            head.severity,
            head.incident,
            head.time,
            entry.due,
        ])?;
    }
    Ok(())
}
