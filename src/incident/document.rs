//! An incident as JSON shows it, without the changes of its first bad write: those stand in the store.

use rusqlite::{Connection, Row, params};
use serde_json::{Map, Value, json};

use super::database::{Wrong, commit, count, damaged};
use super::list::{Closing, Incident, Key, Person, RawKey, State};
use super::pace::{Onset, pace};
use super::stretch::sum;
use super::{KEPT_MAX, RuleFacts, Write, cause, facts};
use crate::change::Commit;
use crate::schema::value::format_timestamp;
use crate::verdict::redact;

/// How many keys stand in a list of incidents.
const KEYS_SHOWN: u64 = 10;

const STRETCH: &str = "select number, rules.id, state, pre_existing, opened, first_bad, keys, onsets, last_onset, impact, overdue, \
                       ended, closed, acknowledged, facts, incident, before, bad, standing, incidents.keys > 0 and incomplete, muted, marked \
                       from incidents, rules where incidents.rule = rules.id and number = ?";

/// One incident with its first keys, by its number or that of one of its parts.
pub(super) fn of(db: &Connection, number: i64) -> Result<Incident, Wrong> {
    let root = cause::root(db, number)?;
    let mut whole: Option<Incident> = None;
    let mut onsets = Vec::new();
    for part in cause::parts(db, root)? {
        let stretch = stretch(db, part)?;
        onsets.extend(onsets_of(db, &stretch)?);
        whole = Some(match whole {
            None => stretch,
            Some(whole) => whole.with(stretch),
        });
    }
    let mut incident = whole.ok_or_else(|| damaged(format!("incident I-{root} is missing")))?;
    incident.first_keys.sort_by_key(|key| key.onset);
    incident
        .first_keys
        .truncate(usize::try_from(KEYS_SHOWN).expect("it is small"));
    onsets.sort();
    let now = super::database::number(db, "clock")?;
    incident.pace = pace(&onsets, now).filter(|_| !incident.pre_existing);
    Ok(incident)
}

/// One stretch of an incident with its first keys, without its pace.
fn stretch(db: &Connection, number: i64) -> Result<Incident, Wrong> {
    let mut stretch = db.query_row(STRETCH, [number], |row| Ok(read(row)))??;
    stretch.first_keys = keys(db, &stretch, KEYS_SHOWN)?;
    Ok(stretch)
}

/// All stretches of all incidents, by number, as if each were an incident of its own.
#[cfg(test)]
pub(super) fn stretches(db: &Connection) -> Result<Vec<Incident>, Wrong> {
    let mut statement = db.prepare("select number from incidents order by number")?;
    let numbers = statement.query_map([], |row| row.get(0))?;
    let now = super::database::number(db, "clock")?;
    let one = |number: Result<i64, rusqlite::Error>| {
        let mut one = stretch(db, number?)?;
        one.pace = pace(&onsets_of(db, &one)?, now).filter(|_| !one.pre_existing);
        Ok(one)
    };
    numbers.map(one).collect()
}

/// When the violations of a stretch began, as far as that is kept.
fn onsets_of(db: &Connection, stretch: &Incident) -> Result<Vec<Onset>, Wrong> {
    let query = "select onset, onset_time from violations where incident = ?1 and onset_time is not null \
                 order by onset, seq limit ?2";
    let mut statement = db.prepare(query)?;
    let most = super::database::stored(KEPT_MAX);
    let rows = statement.query_map(params![stretch.number, most], |row| {
        Ok((row.get::<_, i64>(0)?, row.get(1)?))
    })?;
    let onset = |row: Result<(i64, i64), rusqlite::Error>| {
        let (at, time) = row?;
        Ok::<_, Wrong>(Onset {
            commit: commit(at)?,
            time,
        })
    };
    let mut onsets: Vec<Onset> = rows.map(onset).collect::<Result<_, _>>()?;
    // The latest may be one of those that are only counted.
    if let (Some(last), Some(time)) = (onsets.last().copied(), stretch.last_onset)
        && time > last.time
        && stretch.onsets > onsets.len() as u64
    {
        onsets.push(Onset { time, ..last });
    }
    Ok(onsets)
}

impl Incident {
    /// The incident with one more of its stretches.
    fn with(mut self, part: Incident) -> Incident {
        let both = [self.closed.take(), part.closed];
        let at = |closed: &Closing| match closed {
            Closing::Healed { write, time, .. } => write.time.or(*time),
            Closing::Person(person) => person.time,
        };
        self.closed = match both {
            [Some(a), Some(b)] => Some(if at(&b) > at(&a) { b } else { a }),
            // It is over when all its stretches are.
            _ => None,
        };
        self.ended = self.ended.zip(part.ended).map(|(a, b)| a.max(b));
        self.state = self.state.min(part.state);
        for rule in part.rules {
            if !self.rules.iter().any(|known| known.id == rule.id) {
                self.rules.push(rule);
            }
        }
        self.opened = earliest(self.opened, part.opened);
        let commit = |first: &Option<(Commit, Write)>| first.as_ref().map(|(commit, _)| *commit);
        if commit(&part.first_bad) < commit(&self.first_bad) {
            self.first_bad = part.first_bad;
        }
        self.keys += part.keys;
        self.bad += part.bad;
        self.onsets += part.onsets;
        self.last_onset = self.last_onset.max(part.last_onset);
        self.impact = match (self.impact, part.impact) {
            (Some(a), Some(b)) => sum(Some(&a), &b),
            (a, b) => a.or(b),
        };
        self.overdue = earliest(self.overdue, part.overdue);
        self.acknowledged = self.acknowledged.or(part.acknowledged);
        self.marked = self.marked.or(part.marked);
        self.muted = self.muted.max(part.muted);
        self.incomplete |= part.incomplete;
        self.first_keys.extend(part.first_keys);
        self.parts.extend(part.parts);
        self
    }
}

fn earliest(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    a.into_iter().chain(b).min()
}

fn read(row: &Row<'_>) -> Result<Incident, Wrong> {
    let number: i64 = row.get(0)?;
    let odd = || damaged(format!("incident I-{number} cannot be read"));
    let (state, facts_text): (String, String) = (row.get(2)?, row.get(14)?);
    let first_bad: Option<String> = row.get(5)?;
    let first_bad = match first_bad {
        Some(text) => Some(Write::from_json(&text).ok_or_else(odd)?),
        None => None,
    };
    let ended: Option<i64> = row.get(11)?;
    let closed: Option<String> = row.get(12)?;
    let acknowledged: Option<String> = row.get(13)?;
    let marked: Option<String> = row.get(21)?;
    let of = |running: Option<i64>, bad: i64| match running == Some(number) {
        true => count(bad),
        false => 0,
    };
    let state = State::read(&state).ok_or_else(odd)?;
    let rule = RuleFacts::from_json(&facts_text).ok_or_else(odd)?;
    Ok(Incident {
        number,
        state,
        rules: vec![rule],
        parts: vec![(number, state)],
        pre_existing: row.get(3)?,
        opened: row.get(4)?,
        first_bad,
        keys: count(row.get(6)?),
        bad: of(row.get(15)?, row.get(17)?) + of(row.get(16)?, row.get(18)?),
        onsets: count(row.get(7)?),
        last_onset: row.get(8)?,
        impact: row.get(9)?,
        overdue: row.get(10)?,
        ended: ended.map(commit).transpose()?,
        closed: closed.map(|text| closing(&text)),
        acknowledged: acknowledged.map(|text| person(&facts::object(&text))),
        marked: marked.map(|text| person(&facts::object(&text))),
        muted: row.get(20)?,
        incomplete: row.get(19)?,
        pace: None,
        first_keys: Vec::new(),
    })
}

fn person(object: &Map<String, Value>) -> Person {
    let text = |name: &str| Some(object.get(name)?.as_str()?.to_owned());
    Person {
        by: text("by"),
        note: text("note"),
        time: object.get("at").and_then(Value::as_i64),
    }
}

fn closing(text: &str) -> Closing {
    let object = facts::object(text);
    let time = object.get("at").and_then(Value::as_i64);
    match Write::from_json(text) {
        Some((commit, write)) => Closing::Healed {
            commit,
            write,
            time,
        },
        None => Closing::Person(person(&object)),
    }
}

const KEYS: &str = "select violations.key, onset, healed, healed_by, deadline, evidence, times, violations.state, wrote, facts, impact \
                    from violations, rules where violations.incident = ?1 and rules.id = rule order by onset, key_order limit ?2";

/// The first keys of every stretch of an incident, by onset; those of its rule's `redact:` columns are hidden.
pub(super) fn keys(db: &Connection, incident: &Incident, most: u64) -> Result<Vec<Key>, Wrong> {
    let read = |row: &Row<'_>| -> Result<Key, Wrong> {
        let (key, evidence): (String, String) = (row.get(0)?, row.get(5)?);
        let healed: Option<i64> = row.get(2)?;
        let (healed_by, wrote): (Option<String>, Option<String>) = (row.get(3)?, row.get(8)?);
        let write = |text: Option<String>| Some(Write::from_json(&text?)?.1);
        let state: String = row.get(7)?;
        let facts_text: String = row.get(9)?;
        let rule = RuleFacts::from_json(&facts_text);
        let rule = rule.ok_or_else(|| damaged("what it says of a rule cannot be read"))?;
        let mut key = Key {
            rule: rule.id,
            key: facts::object(&key),
            evidence: facts::object(&evidence),
            impact: row.get(10)?,
            onset: commit(row.get(1)?)?,
            write: write(wrote),
            healed: healed.map(commit).transpose()?,
            healed_by: write(healed_by),
            deadline: row.get(4)?,
            times: (state == "event")
                .then(|| row.get(6).map(count))
                .transpose()?,
        };
        redact::hide_columns(&rule.redact, [&mut key.key, &mut key.evidence]);
        Ok(key)
    };
    let mut statement = db.prepare(KEYS)?;
    let most = super::database::stored(most);
    let mut keys = Vec::new();
    for (part, _) in &incident.parts {
        let rows = statement.query_map(params![part, most], |row| Ok(read(row)))?;
        for row in rows {
            keys.push(row??);
        }
    }
    keys.sort_by_key(|key| key.onset);
    Ok(keys)
}

/// The keys of all stretches of an incident as they are, in the order of their onsets.
pub(super) fn raw_keys(db: &Connection, root: i64) -> Result<Vec<RawKey>, Wrong> {
    let query = "select rule, key, onset, healed from violations where incident in \
                 (select number from incidents where number = ?1 or part_of = ?1) order by onset, rule, key_order";
    let read = |row: &Row<'_>| -> Result<RawKey, Wrong> {
        let key: String = row.get(1)?;
        let healed: Option<i64> = row.get(3)?;
        Ok(RawKey {
            rule: row.get(0)?,
            key: facts::object(&key),
            onset: commit(row.get(2)?)?,
            healed: healed.map(commit).transpose()?,
        })
    };
    let mut statement = db.prepare(query)?;
    let rows = statement.query_map([root], |row| Ok(read(row)))?;
    rows.map(|row| row?).collect()
}

/// A write as reports show it; `changes` come from the store.
pub(super) fn write(commit: Commit, write: &Write) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("commit".into(), commit.into());
    out.insert("lsn".into(), write.lsn.clone().into());
    out.insert("xid".into(), write.xid.into());
    out.insert("time".into(), write.time.map(format_timestamp).into());
    out.insert("context".into(), write.context.clone().into());
    out
}

impl Person {
    fn json(&self) -> Map<String, Value> {
        let mut out = Map::new();
        out.insert("time".into(), self.time.map(format_timestamp).into());
        out.insert("by".into(), self.by.clone().into());
        out.insert("note".into(), self.note.clone().into());
        out
    }
}

impl Closing {
    fn json(&self) -> Map<String, Value> {
        let mut out = Map::new();
        out.insert("reason".into(), self.reason().into());
        match self {
            Closing::Healed {
                commit,
                write: by,
                time,
            } => {
                out.extend(write(*commit, by));
                let time = by.time.or(*time).map(format_timestamp);
                out.insert("time".into(), time.into());
            }
            Closing::Person(person) => out.extend(person.json()),
        }
        out
    }
}

impl Key {
    /// The key as JSON shows it.
    pub fn document(&self) -> Map<String, Value> {
        let mut out = Map::new();
        out.insert("rule".into(), self.rule.clone().into());
        out.insert("key".into(), self.key.clone().into());
        out.insert("commit".into(), self.onset.into());
        out.insert("healed".into(), self.healed.into());
        if let Some(deadline) = self.deadline {
            out.insert("deadline".into(), format_timestamp(deadline).into());
        }
        if let Some(times) = self.times {
            out.insert("times".into(), times.into());
        }
        out.insert("evidence".into(), self.evidence.clone().into());
        out.insert("impact".into(), self.impact.clone().into());
        out
    }
}

impl Incident {
    /// The incident as `firstbad/incidents@1` has it; `changes` of the first bad write are missing, the store has them.
    pub fn document(&self) -> Map<String, Value> {
        let rule = self.rule();
        let rules: Vec<&str> = self.rules.iter().map(|rule| rule.id.as_str()).collect();
        let mut out = Map::new();
        let mut put = |name: &str, value: Value| _ = out.insert(name.to_owned(), value);
        put("id", self.id().into());
        put("state", self.state.as_str().into());
        put("severity", self.severity().as_str().into());
        put("rules", json!(rules));
        put("opened", self.opened.map(format_timestamp).into());
        let first = self.first_bad.as_ref();
        put("first_bad", first.map(|(at, by)| write(*at, by)).into());
        put("keys", self.keys.into());
        put("impact", self.impact.clone().into());
        put("pace", self.pace.map(|pace| pace.as_str()).into());
        put("certainty", self.certainty().as_str().into());
        let last_good = first.and_then(|(at, by)| by.last_good.or_else(|| at.checked_sub(1)));
        put(
            "last_good",
            last_good.map(|at| json!({"commit": at})).into(),
        );
        put(
            "pre_existing",
            if self.pre_existing { self.keys } else { 0 }.into(),
        );
        put("bad", self.bad.into());
        put("events", self.is_event().then_some(self.onsets).into());
        put("overdue", self.overdue.map(format_timestamp).into());
        let acknowledged = self.acknowledged.as_ref().map(Person::json);
        put("acknowledged", acknowledged.into());
        put("closed", self.closed.as_ref().map(Closing::json).into());
        put("marked", self.marked.as_ref().map(Person::json).into());
        put("muted", self.muted.map(format_timestamp).into());
        put("table", rule.table.clone().into());
        put("description", rule.description.clone().into());
        put("owner", rule.owner.clone().into());
        put("runbook", rule.runbook.clone().into());
        let keys = self
            .first_keys
            .iter()
            .map(|key| Value::Object(key.document()));
        put("onsets", keys.collect());
        put("incomplete", self.incomplete.into());
        out
    }
}
