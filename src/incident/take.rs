//! What the watcher does with incidents: one transaction a batch.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row, TransactionBehavior, params};

use super::course::Course;
use super::database::{self, DATABASE, IncidentError, Wrong, commit, count};
use super::notice::{self, Draft, Notice, What};
use super::{Batch, OpenKey, Standing, State, cause, document, facts};
use crate::change::Commit;

/// The incidents of a store, open for the one who judges.
#[derive(Debug)]
pub struct Incidents {
    db: Connection,
    path: PathBuf,
}

/// What is known of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleVerdict {
    /// Its id.
    pub id: String,
    /// Its subject as `schema.name`.
    pub table: Option<String>,
    /// Its severity.
    pub severity: crate::rule::Severity,
    /// Its verdict: held, violated or unknown.
    pub verdict: String,
    /// Why it is unknown.
    pub reason: Option<String>,
    /// Findings that are bad now.
    pub bad: u64,
    /// Keys that are bad and still have time to heal.
    pub pending: u64,
}

impl Incidents {
    /// Opens the incidents of a store, or begins them. `source` says whose they are.
    ///
    /// # Errors
    /// When the file cannot be opened, is of a later version, or holds the incidents of another source.
    pub fn open(directory: &Path, source: &str) -> Result<Incidents, IncidentError> {
        let path = directory.join(DATABASE);
        let db = database::open(&path, source)?;
        Ok(Incidents { db, path })
    }

    /// Does something in one transaction.
    fn within<T>(
        &mut self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Wrong>,
    ) -> Result<T, IncidentError> {
        let (db, path) = (&mut self.db, &self.path);
        let run = || -> Result<T, Wrong> {
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        run().map_err(|error| error.at(path, doing))
    }

    fn reading<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Wrong>,
    ) -> Result<T, IncidentError> {
        work(&self.db).map_err(|error| error.at(&self.path, "read"))
    }

    /// The position up to which everything was judged; None before [`Incidents::begin`].
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn judged(&self) -> Result<Option<Commit>, IncidentError> {
        self.reading(judged)
    }

    /// The stream's clock as it was last, in microseconds since the epoch.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn clock(&self) -> Result<Option<i64>, IncidentError> {
        self.reading(|db| database::number(db, "clock"))
    }

    /// Says where judging rules begins, and what was bad there already. Rules that are known are passed over, so it may be said again
    /// after a crash, and for rules that came later.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn begin(
        &mut self,
        at: Commit,
        now_us: Option<i64>,
        rules: &[Standing],
    ) -> Result<Vec<Notice>, IncidentError> {
        self.within("write", |db| {
            if judged(db)?.is_none() {
                database::set(db, "judged", &at.to_string())?;
            }
            let now = pass_clock(db, now_us)?;
            let mut said = Vec::new();
            for standing in rules {
                let known = "select 1 from rules where id = ?";
                if db.prepare(known)?.exists([&standing.rule.id])? {
                    continue;
                }
                let mut course = Course::of(db, &standing.rule)?;
                course.stand(standing, at, now)?;
                conclude(db, course, standing.unknown.as_deref(), now, &mut said)?;
            }
            Ok(said)
        })
    }

    /// Takes a batch over, and says what it changed. What was judged already has no effect.
    ///
    /// # Errors
    /// [`IncidentError::Skipped`] when commits before the batch are missing; when the file cannot be written: then nothing of it counts.
    pub fn take(&mut self, batch: &Batch) -> Result<Vec<Notice>, IncidentError> {
        self.within("write", |db| {
            let judged = judged(db)?.ok_or(Wrong::Said(IncidentError::NotBegun))?;
            // A batch without a commit is about the clock only: what it says is known already where it comes again.
            let is_old = match batch.from == batch.until {
                true => batch.until < judged,
                false => batch.until <= judged,
            };
            if is_old {
                return Ok(Vec::new());
            }
            if batch.from > judged {
                let to = batch.from;
                return Err(Wrong::Said(IncidentError::Skipped { judged, to }));
            }
            let now = pass_clock(db, batch.now_us)?;
            let mut said = Vec::new();
            for turns in &batch.rules {
                let mut course = Course::of(db, &turns.rule)?;
                course.take(turns, (judged, batch.until), now)?;
                conclude(db, course, turns.unknown.as_deref(), now, &mut said)?;
            }
            overdue(db, batch.until, now, &mut said)?;
            database::set(db, "judged", &batch.until.to_string())?;
            Ok(said)
        })
    }

    /// Lets the clock go on while nothing is written: what was pending may have become overdue.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn tick(&mut self, now_us: i64) -> Result<Vec<Notice>, IncidentError> {
        self.within("write", |db| {
            let Some(judged) = judged(db)? else {
                return Ok(Vec::new());
            };
            let now = pass_clock(db, Some(now_us))?;
            let mut said = Vec::new();
            overdue(db, judged, now, &mut said)?;
            Ok(said)
        })
    }

    /// When the next pending key becomes overdue, in microseconds since the epoch.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn next_deadline(&self) -> Result<Option<i64>, IncidentError> {
        let query = "select min(deadline) from violations where state = 'pending'";
        self.reading(|db| Ok(db.query_row(query, [], |row| row.get(0))?))
    }

    /// Says that commits up to one were not judged, and why. What began and healed there is told as of the first batch after it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn gap(&mut self, from: Commit, to: Commit, reason: &str) -> Result<(), IncidentError> {
        self.within("write", |db| {
            let judged = judged(db)?.unwrap_or(0);
            if to <= judged {
                return Ok(());
            }
            let first = from.max(judged + 1);
            let insert = "insert into gaps values (?1, ?2, ?3)";
            db.execute(insert, params![first, to, reason])?;
            database::set(db, "judged", &to.to_string())
        })
    }

    /// The keys of a rule that are bad, in their order; for checks of writes there are none.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn open_keys(&self, rule: &str) -> Result<Vec<OpenKey>, IncidentError> {
        let query = "select key_order, key, onset from violations \
                     where rule = ? and state in ('pending', 'finding') order by key_order";
        let read = |row: &Row<'_>| -> Result<OpenKey, Wrong> {
            let (order, key): (Vec<u8>, String) = (row.get(0)?, row.get(1)?);
            Ok(OpenKey {
                order: order.into_boxed_slice(),
                key: facts::object(&key),
                onset: commit(row.get(2)?)?,
            })
        };
        self.reading(|db| {
            let mut statement = db.prepare(query)?;
            let rows = statement.query_map([rule], |row| Ok(read(row)))?;
            rows.map(|row| row?).collect()
        })
    }

    /// Whether not all of a rule's keys that are bad were kept ([`super::OPEN_MAX`]).
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn is_incomplete(&self, rule: &str) -> Result<bool, IncidentError> {
        let query = "select 1 from rules where id = ? and incomplete";
        self.reading(|db| Ok(db.prepare(query)?.exists([rule])?))
    }

    /// What is known of every rule, by id.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn verdicts(&self) -> Result<Vec<RuleVerdict>, IncidentError> {
        self.reading(verdicts)
    }

    /// What the watcher keeps for itself under a name.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn setting(&self, name: &str) -> Result<Option<String>, IncidentError> {
        self.reading(|db| database::get(db, name))
    }

    /// Keeps something for the watcher under a name.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn set_setting(&mut self, name: &str, value: &str) -> Result<(), IncidentError> {
        self.within("write", |db| database::set(db, name, value))
    }

    /// How many incidents there are of each state and severity, as both are written in JSON.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn counts(&self) -> Result<Vec<(String, String, u64)>, IncidentError> {
        let query = "select coalesce(part_of, number), state, facts ->> 'severity' from incidents, rules where rule = id";
        self.reading(|db| {
            let mut statement = db.prepare(query)?;
            let rows = statement.query_map([], |row| {
                let (number, state, severity): (i64, String, String) =
                    (row.get(0)?, row.get(1)?, row.get(2)?);
                Ok((number, State::read(&state), facts::severity(&severity)))
            })?;
            let mut incidents = BTreeMap::new();
            for row in rows {
                let (number, state, severity) = row?;
                let (Some(state), Some(severity)) = (state, severity) else {
                    return Err(database::damaged("an incident cannot be read"));
                };
                let parts = incidents.entry(number).or_insert((state, severity));
                *parts = (parts.0.min(state), parts.1.max(severity));
            }
            let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
            for (state, severity) in incidents.into_values() {
                *counts
                    .entry((state.as_str(), severity.as_str()))
                    .or_default() += 1;
            }
            let counts = counts.into_iter();
            let text = |((state, severity), count): ((&str, &str), u64)| {
                (state.to_owned(), severity.to_owned(), count)
            };
            Ok(counts.map(text).collect())
        })
    }

    /// Notices that were not said yet, as far as is known; at most so many, in order.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn unprinted(&self, most: u64) -> Result<Vec<Notice>, IncidentError> {
        self.reading(|db| {
            let printed = database::number(db, "printed")?.unwrap_or(0);
            notice::after(db, printed, most)
        })
    }

    /// Keeps word that all notices up to one were said.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn printed(&mut self, seq: u64) -> Result<(), IncidentError> {
        let seq = database::stored(seq);
        self.within("write", |db| {
            let before = database::number(db, "printed")?.unwrap_or(0);
            database::set(db, "printed", &before.max(seq).to_string())
        })
    }
}

pub(super) fn judged(db: &Connection) -> Result<Option<Commit>, Wrong> {
    database::number(db, "judged")?.map(commit).transpose()
}

/// Moves the clock on; it never goes back.
fn pass_clock(db: &Connection, now: Option<i64>) -> Result<Option<i64>, Wrong> {
    let before = database::number(db, "clock")?;
    let after = before.max(now);
    if let Some(time) = after.filter(|_| after != before) {
        database::set(db, "clock", &time.to_string())?;
    }
    Ok(after)
}

/// Rules of which something became overdue.
fn overdue(
    db: &Connection,
    at: Commit,
    now: Option<i64>,
    said: &mut Vec<Notice>,
) -> Result<(), Wrong> {
    let due = "select id from rules where exists \
               (select 1 from violations where rule = id and state = 'pending' and deadline < ?) order by id";
    let mut due = db.prepare(due)?;
    let rules = due.query_map([now], |row| row.get(0))?;
    let rules: Vec<String> = rules.collect::<Result<_, _>>()?;
    for id in rules {
        let Some(mut course) = Course::load(db, &id)? else {
            continue;
        };
        course.pass(&super::course::Moment {
            commit: at,
            write: None,
            time: now,
        })?;
        let unknown = course.reason.clone();
        conclude(db, course, unknown.as_deref(), now, said)?;
    }
    Ok(())
}

/// Writes down how a rule stands, and what is to be said of it.
fn conclude(
    db: &Connection,
    mut course: Course<'_>,
    unknown: Option<&str>,
    now: Option<i64>,
    said: &mut Vec<Notice>,
) -> Result<(), Wrong> {
    let turned = course.conclude(unknown)?;
    let (rule, severity) = (course.facts.id.clone(), course.facts.severity);
    let told = course.save()?;
    let mut keep = |what: &What, number: Option<i64>| -> Result<(), Wrong> {
        let mut what = what;
        let incident = match number {
            Some(number) => {
                let root = cause::root(db, number)?;
                let incident = document::of(db, root)?;
                let others = incident.rules.len() > 1 || root != number;
                match (what, incident.state) {
                    // Its other rules are violated still.
                    (What::Closed(_), state) if state != State::Closed => return Ok(()),
                    (What::Opened, _) if root != number => what = &What::Joined,
                    (What::Reopened, _) if others && !incident.is_alone(number) => {
                        what = &What::Joined;
                    }
                    _ => {}
                }
                Some((root, incident.document()))
            }
            None => None,
        };
        said.push(notice::keep(
            db,
            Draft {
                time: now,
                what,
                rule: &rule,
                severity,
                incident,
            },
        )?);
        Ok(())
    };
    for (number, what) in &told {
        keep(what, Some(*number))?;
    }
    match turned {
        Some(what) => keep(&what, None),
        None => Ok(()),
    }
}

pub(super) fn verdicts(db: &Connection) -> Result<Vec<RuleVerdict>, Wrong> {
    let query = "select id, facts, verdict, reason, bad + standing, \
                 (select count(*) from violations where rule = id and state = 'pending') from rules order by id";
    let read = |row: &Row<'_>| -> Result<RuleVerdict, Wrong> {
        let facts: String = row.get(1)?;
        let facts = super::RuleFacts::from_json(&facts);
        let facts =
            facts.ok_or_else(|| database::damaged("what it says of a rule cannot be read"))?;
        Ok(RuleVerdict {
            id: row.get(0)?,
            table: facts.table,
            severity: facts.severity,
            verdict: row.get(2)?,
            reason: row.get(3)?,
            bad: count(row.get(4)?),
            pending: count(row.get(5)?),
        })
    };
    let mut statement = db.prepare(query)?;
    let rows = statement.query_map([], |row| Ok(read(row)))?;
    rows.map(|row| row?).collect()
}
