//! Rows that differ between two states: two positions of one history, or two sources.
//!
//! Rows are matched by primary key, without one as a multiset of whole rows. Two positions of one history share their row
//! versions, so only what was written between them is looked at. What is kept beside the states is a hash and a number for each
//! row that has to be looked at, and a few bytes for each difference.

mod cells;
mod json;
mod matching;
mod text;

pub use json::{json, jsonl};
pub use text::{Looks, text};

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::change::{Cell, Commit};
use crate::diagnostic::nearest;
use crate::schema::value::to_json;
use crate::schema::{DataType, Table, TableName};
use crate::state::{Fingerprint, History, TableVersions, of_state};
use crate::verdict::At;
use cells::{Found, Manner};

/// One of the two states.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// The source as it was named.
    pub name: &'a str,
    /// Its history.
    pub history: &'a History,
    /// The position.
    pub position: Commit,
    /// The position's attributes.
    pub at: &'a At,
}

/// What to compare, and how rows are matched.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Only these tables; all where it is empty.
    pub tables: Vec<TableName>,
    /// Columns that take the place of the primary key.
    pub key: Option<Vec<String>>,
    /// Both sources are single files: their tables are compared whatever their names are.
    pub files: bool,
}

/// A request that does not fit the two states.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Misfit {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// What happened to a row on the way from the first state to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is in the second state only.
    Added,
    /// It is in the first state only.
    Removed,
    /// It is in both, with other values.
    Changed,
}

impl Change {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Change::Added => "added",
            Change::Removed => "removed",
            Change::Changed => "changed",
        }
    }
}

/// A column that both states have.
#[derive(Clone, Debug)]
struct Pair {
    name: String,
    a: usize,
    b: usize,
    type_a: DataType,
    type_b: DataType,
    manner: Manner,
}

/// A difference by its row versions; one of them is not used where the row is added or removed.
#[derive(Clone, Copy, Debug)]
struct Entry {
    change: Change,
    a: u32,
    b: u32,
}

/// The differences of one table.
#[derive(Debug)]
pub struct TableDiff<'a> {
    /// The table.
    pub table: TableName,
    /// `a` or `b` where only that state has the table: all of its rows are removed, or added.
    pub only: Option<&'static str>,
    /// Rows in the second state only.
    pub added: u64,
    /// Rows in the first state only.
    pub removed: u64,
    /// Rows with other values.
    pub changed: u64,
    /// Rows in both states of which it is not known whether they differ.
    pub unknown: u64,
    /// Columns that only the first or only the second state has; they are not compared.
    pub columns_only: (Vec<String>, Vec<String>),
    /// Columns whose types have only their text in common: name and both types.
    pub compared_as_text: Vec<(String, String, String)>,
    a: Option<&'a TableVersions>,
    b: Option<&'a TableVersions>,
    pairs: Vec<Pair>,
    /// Which of the pairs are the key.
    key: Vec<usize>,
    /// Whether the key was declared or asked for; without one, rows are compared as wholes.
    keyed: bool,
    /// For two positions of one history: the first state's version from which the second's was made by updates, or the other way
    /// round.
    ancestors: HashMap<u32, u32>,
    entries: Vec<Entry>,
}

/// A difference with its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What happened.
    pub change: Change,
    /// The row's key, without columns that are not known.
    pub key: Map<String, Value>,
    /// The first state's row, or for a changed row its values of the columns that differ.
    pub a: Option<Map<String, Value>>,
    /// The second state's.
    pub b: Option<Map<String, Value>>,
    /// Columns of which a value is not known: they stand neither in `a` nor in `b`.
    pub not_known: Vec<String>,
}

/// Compares two states, table by table: those of the first in order of declaration, then those that only the second has.
///
/// # Errors
/// When the request names a table or a key that is not there.
pub fn compare<'a>(
    a: &Side<'a>,
    b: &Side<'a>,
    request: &Request,
) -> Result<Vec<TableDiff<'a>>, Misfit> {
    let (first, second) = (&a.history.schema, &b.history.schema);
    let mut tables: Vec<Place<'a>> = match (first.tables.as_slice(), second.tables.as_slice()) {
        ([one], [_]) if request.files => vec![(&one.name, Some(0), Some(0))],
        (left, right) => {
            let of_first = |(at, table): (usize, &'a Table)| {
                (&table.name, Some(at), second.table_index(&table.name))
            };
            let of_second =
                |(at, table): (usize, &'a Table)| (&table.name, None::<usize>, Some(at));
            let left = left.iter().enumerate().map(of_first);
            let right = right.iter().enumerate().map(of_second);
            left.chain(right.filter(|(name, ..)| first.table(name).is_none()))
                .collect()
        }
    };
    let names: Vec<&TableName> = tables.iter().map(|(name, ..)| *name).collect();
    for wanted in &request.tables {
        if !names.contains(&wanted) {
            return Err(unknown_table(wanted, &names));
        }
    }
    tables.retain(|(name, ..)| request.tables.is_empty() || request.tables.contains(name));
    let compared = tables.into_iter().map(|(name, at_a, at_b)| {
        let tables = (
            at_a.map(|at| &a.history.tables[at]),
            at_b.map(|at| &b.history.tables[at]),
        );
        let mut diff = prepare(name, tables.0, tables.1, request)?;
        match tables {
            (Some(versions), Some(other)) => {
                let same = std::ptr::eq(versions, other);
                if same && versions.has_unknown() {
                    let (from, to) = (a.position.min(b.position), a.position.max(b.position));
                    diff.ancestors = versions.ancestors(from, to);
                }
                let rows = matching::rows(versions, other, same, (a.position, b.position));
                diff.match_rows(rows);
            }
            (Some(versions), None) => diff.one_side(versions.visible(a.position)),
            (None, Some(versions)) => diff.one_side(versions.visible(b.position)),
            (None, None) => {}
        }
        diff.sort();
        Ok(diff)
    });
    compared.collect()
}

/// The fingerprint of the compared tables, which is that of both states; None where anything differs, be it a column's type.
pub fn fingerprint(
    (a, b): (&Side<'_>, &Side<'_>),
    tables: &[TableDiff<'_>],
) -> Option<Fingerprint> {
    let differs = |diff: &TableDiff<'_>| diff.differs() || diff.unknown > 0 || diff.only.is_some();
    if tables.iter().any(differs) {
        return None;
    }
    let of = |first: bool| {
        let found = tables.iter().map(|diff| {
            let (of_a, of_b) = (diff.a?, diff.b?);
            let (versions, position) = match first {
                true => (of_a, a.position),
                false => (of_b, b.position),
            };
            // The key is part of a fingerprint; one that was not declared (a file has none) is that of the other side.
            let mut key = of_a.table.primary_key_names();
            if key.is_empty() {
                key = of_b.table.primary_key_names();
            }
            Some((&diff.table, versions.fingerprint_by(&key, position)?))
        });
        Some(of_state(found.collect::<Option<Vec<_>>>()?))
    };
    of(true).filter(|found| of(false).as_ref() == Some(found))
}

/// A table's name, and where it stands in the first and the second schema.
type Place<'a> = (&'a TableName, Option<usize>, Option<usize>);

fn unknown_table(wanted: &TableName, names: &[&TableName]) -> Misfit {
    let known: Vec<String> = names.iter().map(|name| name.short()).collect();
    let hint = match nearest(&wanted.short(), known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the tables are {}", known.join(", ")),
    };
    Misfit {
        message: format!("there is no table `{}`", wanted.short()),
        hint,
    }
}

/// Which columns are compared, and which of them are the key.
fn prepare<'a>(
    name: &TableName,
    a: Option<&'a TableVersions>,
    b: Option<&'a TableVersions>,
    request: &Request,
) -> Result<TableDiff<'a>, Misfit> {
    let (only, left, right) = match (a, b) {
        (Some(a), Some(b)) => (None, &a.table, &b.table),
        (Some(a), None) => (Some("a"), &a.table, &a.table),
        (None, Some(b)) => (Some("b"), &b.table, &b.table),
        (None, None) => unreachable!("the name is that of a table"),
    };
    let pairs: Vec<Pair> = left
        .columns
        .iter()
        .enumerate()
        .filter_map(|(at, column)| {
            let other = right.column_index(&column.name)?;
            let type_b = right.columns[other].data_type.clone();
            Some(Pair {
                name: column.name.clone(),
                a: at,
                b: other,
                manner: Manner::of(&column.data_type, &type_b),
                type_a: column.data_type.clone(),
                type_b,
            })
        })
        .collect();
    let only_in = |have: &Table, other: &Table| -> Vec<String> {
        let names = have.columns.iter().map(|column| column.name.clone());
        names.filter(|name| other.column(name).is_none()).collect()
    };
    let (key, keyed) = key(left, right, &pairs, request)?;
    let compared_as_text = pairs
        .iter()
        .filter(|pair| pair.manner == Manner::Text)
        .map(|pair| {
            let types = (pair.type_a.to_string(), pair.type_b.to_string());
            (pair.name.clone(), types.0, types.1)
        })
        .collect();
    Ok(TableDiff {
        table: name.clone(),
        only,
        added: 0,
        removed: 0,
        changed: 0,
        unknown: 0,
        columns_only: (only_in(left, right), only_in(right, left)),
        compared_as_text,
        a,
        b,
        pairs,
        key,
        keyed,
        ancestors: HashMap::new(),
        entries: Vec::new(),
    })
}

/// The pairs that are the key: as asked for, else the primary key of either side; all of them, and false, where there is none.
fn key(
    left: &Table,
    right: &Table,
    pairs: &[Pair],
    request: &Request,
) -> Result<(Vec<usize>, bool), Misfit> {
    let find = |names: &[String]| -> Option<(Vec<usize>, bool)> {
        let mut found = Vec::new();
        for name in names {
            let at = pairs.iter().position(|pair| pair.name == *name)?;
            if !found.contains(&at) {
                found.push(at);
            }
        }
        (!found.is_empty()).then_some((found, true))
    };
    if let Some(names) = &request.key {
        return find(names).ok_or_else(|| Misfit {
            message: format!(
                "table `{}` has not all columns of --key in both states",
                left.name.short()
            ),
            hint: "name the tables that have them with --table".into(),
        });
    }
    let declared = [left.primary_key_names(), right.primary_key_names()];
    let found = declared.iter().find_map(|names| find(names));
    Ok(found.unwrap_or_else(|| ((0..pairs.len()).collect(), false)))
}

impl TableDiff<'_> {
    /// Whether any row is known to differ.
    pub fn differs(&self) -> bool {
        self.added + self.removed + self.changed > 0
    }

    /// The names of the key's columns; all columns where the table has no key.
    pub fn key_names(&self) -> Vec<&str> {
        let names = self.key.iter().map(|&at| self.pairs[at].name.as_str());
        names.collect()
    }

    /// The differences with their values, in key order.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        self.entries.iter().map(|entry| self.row(entry))
    }

    fn one_side(&mut self, rows: Vec<u32>) {
        let removed = self.b.is_none();
        for row in rows {
            let change = if removed {
                Change::Removed
            } else {
                Change::Added
            };
            self.enter(change, row, row);
        }
    }

    fn enter(&mut self, change: Change, a: u32, b: u32) {
        match change {
            Change::Added => self.added += 1,
            Change::Removed => self.removed += 1,
            Change::Changed => self.changed += 1,
        }
        self.entries.push(Entry { change, a, b });
    }

    /// Compares two rows column by column.
    fn compare(&self, a: u32, b: u32) -> Found {
        let mut found = Found::Same;
        for pair in &self.pairs {
            match self.compare_column(pair, a, b) {
                Found::Different => return Found::Different,
                Found::NotKnown => found = Found::NotKnown,
                Found::Same => {}
            }
        }
        found
    }

    fn compare_column(&self, pair: &Pair, a: u32, b: u32) -> Found {
        let (left, right) = (self.cell(pair, true, a), self.cell(pair, false, b));
        let found = pair
            .manner
            .compare((&pair.type_a, &left), (&pair.type_b, &right));
        let unnamed = left == Cell::Unknown && right == Cell::Unknown && self.is_kin(a, b);
        if unnamed { Found::Same } else { found }
    }

    /// Whether updates alone made one row version from the other.
    fn is_kin(&self, a: u32, b: u32) -> bool {
        self.ancestors.get(&b) == Some(&a) || self.ancestors.get(&a) == Some(&b)
    }

    fn cell(&self, pair: &Pair, first: bool, row: u32) -> Cell {
        match (first, self.a, self.b) {
            (true, Some(versions), _) => versions.cell(pair.a, row),
            (false, _, Some(versions)) => versions.cell(pair.b, row),
            _ => Cell::Unknown,
        }
    }

    fn sort(&mut self) {
        let mut entries = std::mem::take(&mut self.entries);
        let side = |entry: &Entry| match entry.change {
            Change::Added => (false, entry.b),
            _ => (true, entry.a),
        };
        entries.sort_by(|x, y| {
            let compared = self.key.iter().map(|&at| {
                let pair = &self.pairs[at];
                let plain = |entry: &Entry| {
                    let (first, row) = side(entry);
                    let data_type = if first { &pair.type_a } else { &pair.type_b };
                    pair.manner.plain(data_type, &self.cell(pair, first, row))
                };
                cells::order(&plain(x), &plain(y))
            });
            let by_key = compared.into_iter().find(|found| found.is_ne());
            by_key.unwrap_or_else(|| {
                let (x, y) = (side(x), side(y));
                y.0.cmp(&x.0).then(x.1.cmp(&y.1))
            })
        });
        self.entries = entries;
    }

    fn row(&self, entry: &Entry) -> Row {
        let mut row = Row {
            change: entry.change,
            key: Map::new(),
            a: (entry.change != Change::Added).then(Map::new),
            b: (entry.change != Change::Removed).then(Map::new),
            not_known: Vec::new(),
        };
        let changed = entry.change == Change::Changed;
        for (at, pair) in self.pairs.iter().enumerate() {
            let left = row.a.is_some().then(|| self.cell(pair, true, entry.a));
            let right = row.b.is_some().then(|| self.cell(pair, false, entry.b));
            let value_a = left.as_ref().map(|cell| to_json(&pair.type_a, cell));
            let value_b = right.as_ref().map(|cell| to_json(&pair.type_b, cell));
            let same = changed && self.compare_column(pair, entry.a, entry.b) == Found::Same;
            let unknown = |cell: &Option<Cell>| matches!(cell, Some(Cell::Unknown));
            if unknown(&left) || unknown(&right) {
                if !same {
                    row.not_known.push(pair.name.clone());
                }
                continue;
            }
            if self.key.contains(&at) {
                let value = value_a.clone().or_else(|| value_b.clone());
                row.key.insert(pair.name.clone(), value.unwrap_or_default());
            }
            if same {
                continue;
            }
            for (map, value) in [(&mut row.a, value_a), (&mut row.b, value_b)] {
                if let (Some(map), Some(value)) = (map, value) {
                    map.insert(pair.name.clone(), value);
                }
            }
        }
        row
    }
}
