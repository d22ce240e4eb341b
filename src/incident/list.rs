//! Incidents as people see them: listed, shown, acknowledged and closed, also while a watcher runs.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde_json::{Map, Value};

use super::database::{self, DATABASE, IncidentError, Wrong};
use super::notice::{self, Draft, Notice, What};
use super::pace::Pace;
use super::{RuleFacts, Write, document};
use crate::bisect::Certainty;
use crate::change::{Commit, Decimal};
use crate::rule::Severity;

/// The life of an incident; of several rules, the least is that of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// The rule's id.
    pub rule: String,
    /// The key; columns of the rule's `redact:` are hidden.
    pub key: Map<String, Value>,
    /// What is wrong with it, hidden in the same way.
    pub evidence: Map<String, Value>,
    /// What the rule's `impact` is for it, as decimal text.
    pub impact: Option<String>,
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

/// A key of an incident as it is: nothing is hidden.
#[derive(Clone, Debug, PartialEq)]
pub struct RawKey {
    /// The rule's id.
    pub rule: String,
    /// The key.
    pub key: Map<String, Value>,
    /// The commit after which it was bad.
    pub onset: Commit,
    /// The commit that healed it.
    pub healed: Option<Commit>,
}

/// The violations of one cause: a rule's over one stretch, or several rules'.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    pub(super) number: i64,
    /// Where in its life it is.
    pub state: State,
    /// Its rules, in the order in which they joined it; there is one at least.
    pub rules: Vec<RuleFacts>,
    /// Its stretches, and where in their lives they are.
    pub(super) parts: Vec<(i64, State)>,
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
    /// Who set its rows apart, put them right or released them last.
    pub marked: Option<Person>,
    /// Nobody is told of it before this time, in microseconds since the epoch.
    pub muted: Option<i64>,
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

    /// The rule that opened it.
    pub fn rule(&self) -> &RuleFacts {
        &self.rules[0]
    }

    /// How bad it is: as its worst rule.
    pub fn severity(&self) -> Severity {
        let severities = self.rules.iter().map(|rule| rule.severity);
        severities.max().unwrap_or_default()
    }

    /// Whether all its rules judge writes, so that it has events.
    pub fn is_event(&self) -> bool {
        self.rules.iter().all(|rule| rule.event)
    }

    /// Columns that any of its rules hides.
    pub fn redacted(&self) -> Vec<String> {
        let columns = self
            .rules
            .iter()
            .flat_map(|rule| rule.redact.iter().cloned());
        columns.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Whether all stretches but one are over.
    pub(super) fn is_alone(&self, number: i64) -> bool {
        let mut others = self.parts.iter().filter(|(other, _)| *other != number);
        others.all(|(_, state)| *state == State::Closed)
    }

    /// What lists go by: what is not over, what is worse, costs more and is more.
    fn rank(&self) -> impl Ord + use<> {
        let impact = self.impact.as_deref().and_then(Decimal::parse);
        let impact = impact
            .and_then(|impact| impact.rescale(6))
            .map(|impact| impact.unscaled);
        (
            self.state == State::Closed,
            Reverse((self.severity(), impact, self.bad, self.keys)),
            self.number,
        )
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

    pub(super) fn read<T>(
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

    /// All incidents that fit, the worst first: all or only those that are not closed, of one rule or of all.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn list(&self, all: bool, rule: Option<&str>) -> Result<Vec<Incident>, IncidentError> {
        let query = "select distinct coalesce(part_of, number) from incidents where (?1 or state <> 'closed') and (?2 is null or rule = ?2)";
        self.read(|db| {
            let mut statement = db.prepare(query)?;
            let numbers = statement.query_map(params![all, rule], |row| row.get(0))?;
            let numbers: Vec<i64> = numbers.collect::<Result<_, _>>()?;
            let incidents = numbers.into_iter().map(|at| document::of(db, at));
            let mut incidents: Vec<Incident> = incidents.collect::<Result<_, _>>()?;
            incidents.sort_by_cached_key(Incident::rank);
            Ok(incidents)
        })
    }

    /// All stretches, by number, as if each were an incident of its own.
    #[cfg(test)]
    pub(super) fn stretches(&self) -> Result<Vec<Incident>, IncidentError> {
        self.read(document::stretches)
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

    /// One incident with its keys as they are, nothing hidden; None where there is no such incident.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn raw_keys(&self, id: &str) -> Result<Option<(Incident, Vec<RawKey>)>, IncidentError> {
        self.read(|db| {
            let Some(number) = existing(db, id)? else {
                return Ok(None);
            };
            let keys = document::raw_keys(db, number)?;
            Ok(Some((document::of(db, number)?, keys)))
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
        let update = "update incidents set state = 'acknowledged', acknowledged = ?2 \
                      where (number = ?1 or part_of = ?1) and state <> 'closed'";
        let update = (update, said(person));
        self.touch(id, State::Acknowledged, update, What::Acknowledged, person)
    }

    /// Closes an incident. Where its rules are still violated it stays closed: only a new stretch opens another.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn close(&mut self, id: &str, person: &Person) -> Result<Touched, IncidentError> {
        let update = "update incidents set state = 'closed', closed = ?2 \
                      where (number = ?1 or part_of = ?1) and state <> 'closed'";
        let mut closing = said(person);
        closing.insert("reason".into(), "person".into());
        let what = What::Closed("by a person".into());
        self.touch(id, State::Closed, (update, closing), what, person)
    }

    /// Keeps word that the rows of an incident were set apart, put right, or are no longer set apart ([`State::Open`]).
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn mark(&mut self, id: &str, to: State, person: &Person) -> Result<Touched, IncidentError> {
        let (update, what) = match to {
            State::Quarantined => ("state = 'quarantined'", What::Quarantined),
            State::Repaired => ("state = 'repaired'", What::Repaired),
            State::Acknowledged => return self.acknowledge(id, person),
            State::Closed => return self.close(id, person),
            // Who took care of it does so still.
            State::Open => (
                "state = case when acknowledged is null then 'open' else 'acknowledged' end",
                What::Released,
            ),
        };
        let update = format!(
            "update incidents set {update}, marked = ?2 where (number = ?1 or part_of = ?1) and state <> 'closed'"
        );
        self.touch(id, to, (&update, said(person)), what, person)
    }

    /// Asks for nobody to be told of an incident before a time, in microseconds since the epoch.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn mute(&mut self, id: &str, until: i64) -> Result<Touched, IncidentError> {
        let run = || -> Result<Touched, Wrong> {
            let Some(number) = existing(&self.db, id)? else {
                return Ok(Touched::Unknown);
            };
            let update = "update incidents set muted = ?2 where number = ?1 or part_of = ?1";
            self.db.execute(update, params![number, until])?;
            Ok(Touched::Done)
        };
        run().map_err(|error| error.at(&self.path, "write"))
    }

    fn touch(
        &mut self,
        id: &str,
        to: State,
        (update, said): (&str, Map<String, Value>),
        what: What,
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
                (before, to) if before == to => return Ok(Touched::Already),
                (State::Closed, _) => return Ok(Touched::IsClosed),
                _ => {}
            }
            let said = Value::Object(said.clone()).to_string();
            db.execute(update, params![number, said])?;
            let incident = document::of(&db, number)?;
            notice::keep(
                &db,
                Draft {
                    time: person.time,
                    what: &what,
                    rule: &incident.rule().id,
                    severity: incident.severity(),
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

/// The number of the incident with a name, or of the one that it is a part of.
fn existing(db: &Connection, id: &str) -> Result<Option<i64>, Wrong> {
    let Some(number) = number(id) else {
        return Ok(None);
    };
    let query = "select coalesce(part_of, number) from incidents where number = ?";
    Ok(db.query_row(query, [number], |row| row.get(0)).optional()?)
}
