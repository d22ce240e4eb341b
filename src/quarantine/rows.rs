//! The rows that an incident's keys stand for, as the store knows them at its head.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

use super::{Passed, Planned, Reason};
use crate::change::{Cell, Commit};
use crate::incident::{Incident, RawKey, RuleFacts};
use crate::schema::Schema;
use crate::schema::value::{parse_json, to_json, to_text};
use crate::state::TableVersions;
use crate::store::{Store, StoreError};
use crate::verdict::redact;

/// Rows to set apart, and keys that are passed over.
pub(super) type Found = (Vec<Planned>, Vec<Passed>);

/// A key of a table, as cells.
struct Wanted<'a> {
    key: &'a RawKey,
    columns: Vec<usize>,
    cells: Vec<Cell>,
}

/// Finds the rows. A key that is not the table's primary key stands for all rows that have it: all duplicates, all rows of a group.
pub(super) fn find(
    store: &Store,
    incident: &Incident,
    keys: &[RawKey],
) -> Result<Found, StoreError> {
    let hidden = incident.redacted();
    let schema = &store.format().schema;
    let mut tables: BTreeMap<usize, Vec<Wanted<'_>>> = BTreeMap::new();
    let mut passed = Vec::new();
    for key in keys {
        let facts = incident.rules.iter().find(|rule| rule.id == key.rule);
        let table = facts.and_then(|facts| place(schema, facts));
        match wanted(schema, table, key) {
            Ok((table, wanted)) => tables.entry(table).or_default().push(wanted),
            Err(reason) => passed.push(over(schema, table, key, &hidden, reason)),
        }
    }
    let head = store.ledger().head();
    let mut rows = Vec::new();
    for (table, wanted) in tables {
        let history = store.table_at(table, head)?;
        let mut of_table = OfTable::new(&history.tables[table], &hidden);
        of_table.look(&wanted, history.head());
        for (at, one) in wanted.iter().enumerate() {
            if let Some(reason) = of_table.missed(at) {
                passed.push(over(schema, Some(table), one.key, &hidden, reason));
            }
        }
        rows.append(&mut of_table.rows);
    }
    rows.sort_by_cached_key(|row| (row.onset, row.table.clone(), text_of(&row.key)));
    Ok((rows, passed))
}

/// The place of the table that a rule is about.
fn place(schema: &Schema, facts: &RuleFacts) -> Option<usize> {
    let named = facts.table.as_deref()?;
    let mut tables = schema.tables.iter();
    tables.position(|table| table.name.to_string() == named)
}

fn wanted<'a>(
    schema: &Schema,
    table: Option<usize>,
    key: &'a RawKey,
) -> Result<(usize, Wanted<'a>), Reason> {
    if key.healed.is_some() {
        return Err(Reason::Healed);
    }
    let place = table.ok_or(Reason::NoTable)?;
    let table = &schema.tables[place];
    if table.primary_key.is_empty() {
        return Err(Reason::NoPrimaryKey);
    }
    if key.key.is_empty() {
        return Err(Reason::WholeTable);
    }
    let (mut columns, mut cells) = (Vec::new(), Vec::new());
    for (name, value) in &key.key {
        let column = table.column_index(name).ok_or(Reason::NoRow)?;
        let cell = parse_json(&table.columns[column].data_type, &value.to_string());
        cells.push(cell.map_err(|_| Reason::NoRow)?);
        columns.push(column);
    }
    let wanted = Wanted {
        key,
        columns,
        cells,
    };
    Ok((place, wanted))
}

fn over(
    schema: &Schema,
    table: Option<usize>,
    key: &RawKey,
    hidden: &[String],
    reason: Reason,
) -> Passed {
    let mut shown = key.key.clone();
    redact::hide_columns(hidden, [&mut shown]);
    Passed {
        rule: key.rule.clone(),
        table: table.map(|table| schema.tables[table].name.clone()),
        key: shown,
        reason,
    }
}

/// One text for equal keys.
fn text_of(key: &Map<String, Value>) -> String {
    serde_json::to_string(key).expect("JSON is written without fail")
}

/// Looks keys up in the rows of a table.
struct OfTable<'a> {
    versions: &'a TableVersions,
    hidden: &'a [String],
    rows: Vec<Planned>,
    /// Where a row is in `rows`, by its primary key.
    places: HashMap<String, usize>,
    /// Keys that stand for a row, and for one whose primary key is not known.
    met: HashMap<usize, bool>,
}

impl<'a> OfTable<'a> {
    fn new(versions: &'a TableVersions, hidden: &'a [String]) -> Self {
        OfTable {
            versions,
            hidden,
            rows: Vec::new(),
            places: HashMap::new(),
            met: HashMap::new(),
        }
    }

    /// Goes through the rows at a position once.
    fn look(&mut self, wanted: &[Wanted<'_>], position: Commit) {
        let mut shapes: BTreeMap<&[usize], HashMap<&[Cell], Vec<usize>>> = BTreeMap::new();
        for (at, one) in wanted.iter().enumerate() {
            let shape = shapes.entry(&one.columns).or_default();
            shape.entry(&one.cells).or_default().push(at);
        }
        let mut cells = Vec::new();
        for row in self.versions.visible(position) {
            for (columns, keys) in &shapes {
                cells.clear();
                cells.extend(columns.iter().map(|&at| self.versions.cell(at, row)));
                for &at in keys.get(cells.as_slice()).into_iter().flatten() {
                    self.take(row, at, wanted[at].key);
                }
            }
        }
    }

    /// A row that a key stands for.
    fn take(&mut self, row: u32, at: usize, key: &RawKey) {
        let versions = self.versions;
        let table = &versions.table;
        let own = texts(versions, &table.primary_key, row);
        if own.len() < table.primary_key.len() {
            self.met.entry(at).or_insert(false);
            return;
        }
        self.met.insert(at, true);
        if let Some(&place) = self.places.get(&text_of(&own)) {
            let row = &mut self.rows[place];
            row.onset = row.onset.min(key.onset);
            if !row.rules.contains(&key.rule) {
                row.rules.push(key.rule.clone());
            }
            return;
        }
        self.places.insert(text_of(&own), self.rows.len());
        let (shown_key, shown) = shown(versions, row, self.hidden);
        let all: Vec<usize> = (0..table.columns.len()).collect();
        self.rows.push(Planned {
            table: table.name.clone(),
            rules: vec![key.rule.clone()],
            onset: key.onset,
            shown_key,
            shown,
            hidden: self.hidden.to_vec(),
            already: false,
            key: own,
            image: texts(versions, &all, row),
        });
    }

    /// Why a key stands for no row.
    fn missed(&self, at: usize) -> Option<Reason> {
        match self.met.get(&at) {
            None => Some(Reason::Gone),
            Some(false) => Some(Reason::KeyNotKnown),
            Some(true) => None,
        }
    }
}

/// The known cells of a row's columns as Postgres prints them.
fn texts(versions: &TableVersions, columns: &[usize], row: u32) -> Map<String, Value> {
    let mut out = Map::new();
    for &at in columns {
        let column = &versions.table.columns[at];
        let cell = versions.cell(at, row);
        if !matches!(cell, Cell::Unknown) {
            let text = to_text(&column.data_type, &cell);
            out.insert(column.name.clone(), text.into());
        }
    }
    out
}

/// A row's primary key and its other columns as people see them.
fn shown(
    versions: &TableVersions,
    row: u32,
    hidden: &[String],
) -> (Map<String, Value>, Map<String, Value>) {
    let table = &versions.table;
    let (mut key, mut rest) = (Map::new(), Map::new());
    for (at, column) in table.columns.iter().enumerate() {
        let cell = versions.cell(at, row);
        if matches!(cell, Cell::Unknown) {
            continue;
        }
        let value = to_json(&column.data_type, &cell);
        let map = match table.primary_key.contains(&at) {
            true => &mut key,
            false => &mut rest,
        };
        map.insert(column.name.clone(), value);
    }
    redact::hide_columns(hidden, [&mut key, &mut rest]);
    (key, rest)
}
