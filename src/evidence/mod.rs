//! What is known of the rows that an incident is about: as they were before, when they became bad, and as they are.
//!
//! Everything is read from a history, so it is the same however often it is asked, and does not depend on a server.

mod bundle;
mod course;
mod proof;

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::change::{Cell, Commit};
use crate::schema::value::to_json;
use crate::state::{History, TableVersions};

pub use bundle::{
    Bundle, Case, LaterWrite, Neighbour, Release, RowStory, RuleText, bundle, spread_of,
};
pub use course::Moment;
pub use proof::{Proof, Segment, Snapshot};

/// A row's cells in the order of its table's columns; [`Cell::Unknown`] for what the source did not say.
pub type Row = Vec<Cell>;

/// One row that an incident is about, as a history knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct BadRow {
    /// Its table, as an index into the schema.
    pub table: usize,
    /// The rule's key that it stands for, as JSON has it.
    pub key: Map<String, Value>,
    /// The commit after which the key was bad; the history's first position where it was bad there already.
    pub onset: Commit,
    /// The row before the onset; None where it was not there, or nobody watched then.
    pub last_good: Option<Row>,
    /// The row after the onset; None where it was not there.
    pub bad: Option<Row>,
    /// The row at the history's head; None where it is gone.
    pub now: Option<Row>,
}

/// The rows of a table that keys of a rule about it stand for, each with its onset; in the order of the keys, then as they are stored.
///
/// A key names columns of the table. One that is not the primary key may stand for several rows: those that had it before the onset, after
/// it, or have it now. One with a name that is no column stands for none.
pub fn bad_rows(
    history: &History,
    table: usize,
    keys: &[(Map<String, Value>, Commit)],
) -> Vec<BadRow> {
    let mut lookup = Lookup::new(&history.tables[table]);
    let mut rows = Vec::new();
    for (key, onset) in keys {
        let onset = (*onset).max(history.first);
        let before = onset.checked_sub(1).filter(|at| *at >= history.first);
        let moments = [before, Some(onset), Some(history.head())];
        for group in lookup.rows(key, moments) {
            let versions = lookup.versions;
            let at = |position: Commit| {
                let there = |row: &&u32| versions.is_visible(**row, position);
                group.iter().find(there).map(|&at| row(versions, at))
            };
            rows.push(BadRow {
                table,
                key: key.clone(),
                onset,
                last_good: before.and_then(at),
                bad: at(onset),
                now: at(history.head()),
            });
        }
    }
    rows
}

/// The cells of a row version.
pub fn row(versions: &TableVersions, at: u32) -> Row {
    let columns = 0..versions.table.columns.len();
    columns.map(|column| versions.cell(column, at)).collect()
}

/// Versions by the values of some columns.
type ByKey = HashMap<String, Vec<u32>>;

/// Finds versions of a table by key; what was looked through once is kept.
struct Lookup<'a> {
    versions: &'a TableVersions,
    shapes: HashMap<Vec<usize>, ByKey>,
}

impl<'a> Lookup<'a> {
    fn new(versions: &'a TableVersions) -> Self {
        Lookup {
            versions,
            shapes: HashMap::new(),
        }
    }

    fn by(&mut self, columns: &[usize]) -> &ByKey {
        let versions = self.versions;
        let shape = self.shapes.entry(columns.to_vec());
        shape.or_insert_with(|| {
            let mut by_key = ByKey::new();
            for at in 0..versions.version_count() {
                let at = u32::try_from(at).expect("fewer than 2^32 row versions");
                let values = values(versions, columns, at);
                by_key.entry(text(&values)).or_default().push(at);
            }
            by_key
        })
    }

    /// The rows that have a key at one of some positions, each with all its versions. Without a primary key, a version is a row.
    fn rows(&mut self, key: &Map<String, Value>, moments: [Option<Commit>; 3]) -> Vec<Vec<u32>> {
        let versions = self.versions;
        let named = |name: &String| versions.table.column_index(name);
        let columns: Option<Vec<usize>> = key.keys().map(named).collect();
        let Some(columns) = columns.filter(|columns| !columns.is_empty()) else {
            return Vec::new();
        };
        let wanted: Vec<Value> = key.values().cloned().collect();
        let found = self.by(&columns).get(&text(&wanted));
        let seen = |row: &u32| {
            let mut moments = moments.iter().flatten();
            moments.any(|&position| versions.is_visible(*row, position))
        };
        let found: Vec<u32> = found.into_iter().flatten().copied().filter(seen).collect();
        let identity = versions.table.primary_key.clone();
        if identity.is_empty() {
            return found.into_iter().map(|at| vec![at]).collect();
        }
        let by_identity = self.by(&identity);
        let mut met = HashSet::new();
        let names = found
            .iter()
            .map(|&at| text(&values(versions, &identity, at)));
        let rows = names.filter(|name| met.insert(name.clone()));
        rows.filter_map(|name| by_identity.get(&name).cloned())
            .collect()
    }
}

fn values(versions: &TableVersions, columns: &[usize], at: u32) -> Vec<Value> {
    let value = |&column: &usize| {
        let data_type = &versions.table.columns[column].data_type;
        to_json(data_type, &versions.cell(column, at))
    };
    columns.iter().map(value).collect()
}

fn text(values: &[Value]) -> String {
    serde_json::to_string(values).expect("JSON values are written without fail")
}

#[cfg(test)]
mod tests;
