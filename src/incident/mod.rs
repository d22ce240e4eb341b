//! Incidents: a rule's violations over time, from the first bad write to the heal, kept in `firstbad.db` beside a store.
//!
//! Whoever judges says what began and healed in a batch of commits ([`Batch`]); here it is decided what that comes to: which violations
//! are findings (their `within` is over), which stretch they belong to, and what is to be said. One SQLite transaction takes a batch
//! over and moves the position up to which everything was judged, so a batch that comes again after a crash changes nothing, and
//! what was decided and perhaps not said yet is kept ([`Incidents::unprinted`]).
//!
//! An incident is one rule and one stretch: it opens with the first finding, is updated while the stretch runs, and is closed when the last
//! key heals. Keys that were bad before anything was watched make an incident of their own, without a first bad write.

mod cause;
mod changes;
mod course;
mod database;
mod document;
mod facts;
mod judged;
mod list;
mod notice;
pub mod outbox;
mod pace;
mod stretch;
mod take;

#[cfg(test)]
mod cause_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use crate::change::Commit;
use crate::rule::{Severity, Threshold};

pub use changes::{Changes, changes};
pub use database::{DATABASE, IncidentError};
pub use judged::Judged;
pub use list::{Closing, Incident, Key, Person, RawKey, Reading, Shown, State, Touched};
pub use notice::{Notice, What};
pub use pace::{Onset, Pace, pace};
pub use take::{Incidents, RuleVerdict};

/// The most keys of a rule that are kept while they are bad; those beyond are counted only.
pub const OPEN_MAX: u64 = if cfg!(test) { 200 } else { 100_000 };
/// The most onsets of an incident that are kept after they healed, and of events.
pub const KEPT_MAX: u64 = if cfg!(test) { 100 } else { 10_000 };

/// What judging a batch of commits found; batches follow each other without gaps.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// The position that was judged before; not part of the batch.
    pub from: Commit,
    /// The last commit of the batch.
    pub until: Commit,
    /// The stream's clock after the batch, in microseconds since the epoch.
    pub now_us: Option<i64>,
    /// What became of the rules; a rule may be left out when nothing did.
    pub rules: Vec<Turns>,
}

/// What became of one rule's keys in a batch.
#[derive(Clone, Debug)]
pub struct Turns {
    /// The rule.
    pub rule: RuleFacts,
    /// Whether the rule is judged seldom: what it tells may lie before the batch, at commits that were judged for other rules.
    pub late: bool,
    /// Keys that became bad.
    pub began: Vec<Began>,
    /// Keys that became good.
    pub healed: Vec<Healed>,
    /// What was found out about keys that are bad.
    pub details: Vec<Detail>,
    /// Why the rule could not be judged; None when it could.
    pub unknown: Option<String>,
    /// How many subjects the rule judges after the batch, for `max_percent`; None leaves the last figure.
    pub judged: Option<u64>,
}

/// What an incident has to know of its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFacts {
    /// Its id.
    pub id: String,
    /// What must hold, for people.
    pub description: Option<String>,
    /// Its subject as `schema.name`.
    pub table: Option<String>,
    /// How bad a violation is.
    pub severity: Severity,
    /// Who is responsible.
    pub owner: Option<String>,
    /// URL of what to do.
    pub runbook: Option<String>,
    /// How long a violation may last before it is a finding, in microseconds.
    pub within_us: Option<i64>,
    /// How many violations are tolerated.
    pub threshold: Option<Threshold>,
    /// A check of writes: every violation is an event, and never heals.
    pub event: bool,
    /// Names of the key's columns.
    pub key: Vec<String>,
    /// Columns whose values never leave.
    pub redact: Vec<String>,
    /// All tables that it reads, its subject among them, as `schema.name`.
    pub reads: Vec<String>,
    /// The rule as its file has it.
    pub yaml: Option<String>,
    /// The query that judges it.
    pub sql: Option<String>,
}

/// A key that became bad.
#[derive(Clone, Debug)]
pub struct Began {
    /// What tells the rule's keys apart, and orders them.
    pub order: Box<[u8]>,
    /// The key, as JSON shows it.
    pub key: Map<String, Value>,
    /// The commit after which it was bad.
    pub onset: Commit,
    /// That commit's attributes.
    pub write: Write,
}

/// What is wrong with a key that is bad, and what it costs.
#[derive(Clone, Debug)]
pub struct Detail {
    /// As in [`Began`].
    pub order: Box<[u8]>,
    /// What is wrong with it.
    pub evidence: Map<String, Value>,
    /// What the rule's `impact` is for this key, as decimal text.
    pub impact: Option<String>,
}

/// A key that became good.
#[derive(Clone, Debug)]
pub struct Healed {
    /// As in [`Began`].
    pub order: Box<[u8]>,
    /// The commit after which it was good.
    pub at: Commit,
    /// That commit's attributes.
    pub write: Write,
}

/// A commit's attributes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Write {
    /// Start of the commit record, as Postgres prints it.
    pub lsn: Option<String>,
    /// The transaction id.
    pub xid: Option<u64>,
    /// Commit time in microseconds since the epoch.
    pub time: Option<i64>,
    /// Who wrote: what the application sent along.
    pub context: Option<Map<String, Value>>,
    /// The last position that is known to be good, where it is not sure that this very commit did it; None where it is.
    pub last_good: Option<Commit>,
}

/// A key in the form that tells keys apart and orders them, and as JSON shows it.
pub type NamedKey = (Box<[u8]>, Map<String, Value>);

/// What was bad already where watching a rule begins.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The rule.
    pub rule: RuleFacts,
    /// The keys, as many as are named; up to [`OPEN_MAX`] are kept.
    pub keys: Vec<NamedKey>,
    /// How many more there are, that are not named.
    pub unnamed: u64,
    /// Why the rule could not be judged; None when it could.
    pub unknown: Option<String>,
    /// How many subjects the rule judges.
    pub judged: Option<u64>,
    /// What was found out about the keys.
    pub details: Vec<Detail>,
}

/// A key that is bad, as whoever judges needs it to go on after a restart.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenKey {
    /// As in [`Began`].
    pub order: Box<[u8]>,
    /// The key.
    pub key: Map<String, Value>,
    /// The commit after which it was bad.
    pub onset: Commit,
}
