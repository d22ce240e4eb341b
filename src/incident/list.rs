//! Incidents as people see them: listed, shown, acknowledged and closed, also while a watcher runs.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde_json::{Map, Value};

use super::database::{self, DATABASE, IncidentError, Wrong};
use super::notice::{self, Draft, Notice, What};
use super::pace::Pace;
use super::{RuleFacts, Write, document};
use crate::bisect::{Certainty, RowChange};
use crate::change::{Change, Commit, Image, Transaction};
use crate::schema::Schema;
use crate::store::{Store, StoreError, Stretch};
use crate::verdict::redact;

/// The life of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody has said anything of it.
    Open,
    /// Somebody takes care of it.
    Acknowledged,
    /// Its rows are set apart.
    Quarantined,
    /// Its rows have their good values again.
    Repaired,
    /// It is over.
    Closed,
}

impl State {
    const ALL: [State; 5] = [
        State::Open,
        State::Acknowledged,
        State::Quarantined,
        State::Repaired,
        State::Closed,
    ];

    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Open => "open",
            State::Acknowledged => "acknowledged",
            State::Quarantined => "quarantined",
            State::Repaired => "repaired",
            State::Closed => "closed",
        }
    }

    pub(super) fn read(word: &str) -> Option<State> {
        State::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// What a person said of an incident.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub by: Option<String>,
    /// What else there is to say.
    pub note: Option<String>,
    /// When, in microseconds since the epoch.
    pub time: Option<i64>,
}

/// How an incident came to its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Closing {
    /// Its last key healed.
    Healed {
        /// The commit that healed it.
        commit: Commit,
        /// That commit's attributes.
        write: Write,
        /// The stream's clock then.
        time: Option<i64>,
    },
    /// Somebody closed it.
    Person(Person),
}

impl Closing {
    /// The word used in JSON.
    pub fn reason(&self) -> &'static str {
        match self {
            Closing::Healed { .. } => "healed",
            Closing::Person(_) => "person",
        }
    }
}

/// A key of an incident.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// The key; columns of the rule's `redact:` are hidden.
    pub key: Map<String, Value>,
    /// What is wrong with it, hidden in the same way.
    pub evidence: Map<String, Value>,
    /// The commit after which it was bad.
    pub onset: Commit,
    /// That commit's attributes; None for what was bad before.
    pub write: Option<Write>,
    /// The commit that healed it.
    pub healed: Option<Commit>,
    /// That commit's attributes.
    pub healed_by: Option<Write>,
    /// When it became overdue, in microseconds; only for rules with `within`.
    pub deadline: Option<i64>,
    /// How many illegal writes it had; only for checks of writes.
    pub times: Option<u64>,
}

/// A rule's violations over one stretch.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    pub(super) number: i64,
    /// Where in its life it is.
    pub state: State,
    /// The rule.
    pub rule: RuleFacts,
    /// Whether it is about what was bad before the rule was watched.
    pub pre_existing: bool,
    /// When it opened, in microseconds since the epoch.
    pub opened: Option<i64>,
    /// The write of its first onset; None for what was bad before.
    pub first_bad: Option<(Commit, Write)>,
    /// Different keys that have been findings in it.
    pub keys: u64,
    /// Those of them that are bad now.
    pub bad: u64,
    /// Violations that began in it; for checks of writes, events.
    pub onsets: u64,
    /// The time of the last of them, in microseconds.
    pub last_onset: Option<i64>,
    /// The sum of the rule's `impact` over its keys; None without one, or where it cannot be exact.
    pub impact: Option<String>,
    /// When its first key became overdue, in microseconds; only for rules with `within`.
    pub overdue: Option<i64>,
    /// The commit that ended its stretch.
    pub ended: Option<Commit>,
    /// How it came to its end.
    pub closed: Option<Closing>,
    /// Who takes care of it.
    pub acknowledged: Option<Person>,
    /// Whether some of its keys are only counted.
    pub incomplete: bool,
    /// How its violations come.
    pub pace: Option<Pace>,
    /// Its first keys.
    pub first_keys: Vec<Key>,
}

impl Incident {
    /// Its name: `I-7`.
    pub fn id(&self) -> String {
        format!("I-{}", self.number)
    }

    /// How sure its first bad write is.
    pub fn certainty(&self) -> Certainty {
        match &self.first_bad {
            None => Certainty::PreExisting,
            Some((_, write)) if write.last_good.is_some() => Certainty::Bounded,
            Some(_) => Certainty::Exact,
        }
    }
}

/// What came of acknowledging or closing an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touched {
    /// It was done.
    Done,
    /// It was so already.
    Already,
    /// It is closed, so it cannot be acknowledged.
    IsClosed,
    /// There is no such incident.
    Unknown,
}

/// Incidents of a store, open for people.
#[derive(Debug)]
pub struct Reading {
    db: Connection,
    path: PathBuf,
}

/// The number of an incident's name; capitals do not matter.
fn number(id: &str) -> Option<i64> {
    let digits = id.strip_prefix("I-").or_else(|| id.strip_prefix("i-"))?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0');
    digits.parse().ok().filter(|_| plain)
}

/// An incident, its keys and what was said of it.
pub type Shown = (Incident, Vec<Key>, Vec<Notice>);

impl Reading {
    /// Opens the incidents of a store; None where nothing was watched yet. `writing` for what changes them.
    ///
    /// # Errors
    /// When the file cannot be opened, or is of a later version.
    pub fn open(directory: &Path, writing: bool) -> Result<Option<Reading>, IncidentError> {
        let path = directory.join(DATABASE);
        let db = database::open_existing(&path, writing)?;
        Ok(db.map(|db| Reading { db, path }))
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Wrong>,
    ) -> Result<T, IncidentError> {
        // Everything that is read belongs to the same moment.
        let read = || -> Result<T, Wrong> {
            let transaction = self.db.unchecked_transaction()?;
            work(&transaction)
        };
        read().map_err(|error| error.at(&self.path, "read"))
    }

    /// All incidents that fit, by number: all or only those that are not closed, of one rule or of all.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list(&self, all: bool, rule: Option<&str>) -> Result<Vec<Incident>, IncidentError> {
        let query = "select number from incidents where (?1 or state <> 'closed') and (?2 is null or rule = ?2) order by number";
        self.read(|db| {
            let mut statement = db.prepare(query)?;
            let numbers = statement.query_map(params![all, rule], |row| row.get(0))?;
            let numbers: Vec<i64> = numbers.collect::<Result<_, _>>()?;
            numbers.into_iter().map(|at| document::of(db, at)).collect()
        })
    }

    /// One incident by its name, with all its keys that are kept and what was said of it; None where there is no such incident.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn show(&self, id: &str) -> Result<Option<Shown>, IncidentError> {
        self.read(|db| {
            let Some(number) = existing(db, id)? else {
                return Ok(None);
            };
            let incident = document::of(db, number)?;
            let keys = document::keys(db, &incident, u64::MAX)?;
            let notices = notice::of(db, number)?;
            Ok(Some((incident, keys, notices)))
        })
    }

    /// What the watcher keeps for itself under a name.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn setting(&self, name: &str) -> Result<Option<String>, IncidentError> {
        self.read(|db| database::get(db, name))
    }

    /// Columns whose values never leave, by the rules that are watched.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn redacted(&self) -> Result<BTreeSet<String>, IncidentError> {
        self.read(|db| {
            let mut statement = db.prepare("select facts from rules")?;
            let facts = statement.query_map([], |row| row.get::<_, String>(0))?;
            let mut columns = BTreeSet::new();
            for facts in facts {
                let facts = RuleFacts::from_json(&facts?);
                columns.extend(facts.into_iter().flat_map(|facts| facts.redact));
            }
            Ok(columns)
        })
    }

    /// The last incident's name, for messages.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn last(&self) -> Result<Option<String>, IncidentError> {
        self.read(|db| {
            let query = "select max(number) from incidents";
            let number: Option<i64> = db.query_row(query, [], |row| row.get(0))?;
            Ok(number.map(|number| format!("I-{number}")))
        })
    }

    /// Keeps word that somebody takes care of an incident.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn acknowledge(&mut self, id: &str, person: &Person) -> Result<Touched, IncidentError> {
        let update =
            "update incidents set state = 'acknowledged', acknowledged = ?2 where number = ?1";
        self.touch(id, State::Acknowledged, (update, &said(person)), person)
    }

    /// Closes an incident. Where its rule is still violated it stays closed: only a new stretch opens another.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn close(&mut self, id: &str, person: &Person) -> Result<Touched, IncidentError> {
        let update = "update incidents set state = 'closed', closed = ?2 where number = ?1";
        let mut closing = said(person);
        closing.insert("reason".into(), "person".into());
        self.touch(id, State::Closed, (update, &closing), person)
    }

    fn touch(
        &mut self,
        id: &str,
        to: State,
        (update, said): (&str, &Map<String, Value>),
        person: &Person,
    ) -> Result<Touched, IncidentError> {
        let mut run = || -> Result<Touched, Wrong> {
            let db = self
                .db
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            let Some(number) = existing(&db, id)? else {
                return Ok(Touched::Unknown);
            };
            let before = document::of(&db, number)?.state;
            match (before, to) {
                (State::Closed, State::Acknowledged) => return Ok(Touched::IsClosed),
                (before, to) if before == to => return Ok(Touched::Already),
                _ => {}
            }
            let said = Value::Object(said.clone()).to_string();
            db.execute(update, params![number, said])?;
            let incident = document::of(&db, number)?;
            let what = match to {
                State::Closed => What::Closed("by a person".into()),
                _ => What::Acknowledged,
            };
            notice::keep(
                &db,
                Draft {
                    time: person.time,
                    what: &what,
                    rule: &incident.rule.id,
                    severity: incident.rule.severity,
                    incident: Some((number, incident.document())),
                },
            )?;
            db.commit()?;
            Ok(Touched::Done)
        };
        run().map_err(|error| error.at(&self.path, "write"))
    }
}

fn said(person: &Person) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("by".into(), person.by.clone().into());
    out.insert("note".into(), person.note.clone().into());
    out.insert("at".into(), person.time.into());
    out
}

fn existing(db: &Connection, id: &str) -> Result<Option<i64>, Wrong> {
    let Some(number) = number(id) else {
        return Ok(None);
    };
    let query = "select number from incidents where number = ?";
    Ok(db.query_row(query, [number], |row| row.get(0)).optional()?)
}

/// The changes of a transaction: some of them, and how many more there are.
pub type Changes = (Vec<RowChange>, u64);

/// The changes of commits as their store has them, with the named columns hidden; at most `most` of each. What is missing the store has not
/// recorded yet, or does not keep any more. Every segment is read once.
///
/// # Errors
/// When the store is damaged.
pub fn changes(
    store: &Store,
    wanted: &[(Commit, &[String])],
    most: usize,
) -> Result<Vec<Option<Changes>>, StoreError> {
    let segments = &store.ledger().segments;
    let mut places: BTreeMap<Commit, Vec<usize>> = BTreeMap::new();
    for (at, (commit, _)) in wanted.iter().enumerate() {
        let stretch = segments.range(..=*commit).next_back();
        let holds = |stretch: &Stretch| stretch.to >= *commit && !stretch.unseen;
        if let Some((from, _)) = stretch.filter(|(_, stretch)| holds(stretch)) {
            places.entry(*from).or_default().push(at);
        }
    }
    let mut out = vec![None; wanted.len()];
    for (from, ats) in places {
        let Some(stretch) = segments.get(&from) else {
            continue;
        };
        let transactions = store.transactions(stretch)?;
        for at in ats {
            let (commit, columns) = wanted[at];
            let found = transactions.iter().find(|one| one.commit == commit);
            out[at] = found.map(|transaction| shown(store, transaction, columns, most));
        }
    }
    Ok(out)
}

fn shown(store: &Store, transaction: &Transaction, columns: &[String], most: usize) -> Changes {
    let schema = &store.format().schema;
    let some = transaction.changes.iter().take(most);
    let mut some: Vec<RowChange> = some
        .map(|change| {
            let named = named(schema, change);
            RowChange::new(schema, &named)
        })
        .collect();
    for change in &mut some {
        let maps = [&mut change.key, &mut change.before, &mut change.after];
        redact::hide_columns(columns, maps.into_iter().flatten());
    }
    let left = transaction.changes.len().saturating_sub(most);
    (some, left as u64)
}

/// A change with the key of its row before it, or after it where the row is new or keeps its key.
fn named<'a>(schema: &Schema, change: &'a Change) -> Cow<'a, Change> {
    let columns = &schema.tables[change.table].primary_key;
    if change.key.is_some() || columns.is_empty() {
        return Cow::Borrowed(change);
    }
    let of = |image: &Image| -> Option<Image> {
        let cell = |at: &usize| image.iter().find(|(column, _)| column == at).cloned();
        columns.iter().map(cell).collect()
    };
    let images = [&change.before, &change.after];
    let key = images.into_iter().flatten().find_map(of);
    Cow::Owned(Change {
        key,
        ..change.clone()
    })
}
