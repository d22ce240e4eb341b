//! The tables of the stream and the watched ones: which is which, which column is which, and whether they still fit.
//!
//! A relation message says what a table is like from there on. Columns are matched by name and must have the type (oid and modifier)
//! that the catalog gave when the watch began; what differs is a [`SchemaChange`], and columns that are no longer what they were are
//! not decoded any more. Changes of tables that nobody watches are passed over.

use std::sync::Arc;

use hashbrown::HashMap;

use super::pgoutput::{Identity, Malformed, Message, Old, Relation, Tuple, Value};
use crate::change::{Cell, Change, Image, Op};
use crate::schema::value::{ValueError, parse_text};
use crate::schema::{Column, DataType, Schema, TableName};

#[cfg(test)]
mod tests;

/// A watched table as the catalog described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Its index in the schema.
    pub table: usize,
    /// Its oid; the root's, for a partitioned table (the publication publishes by way of it).
    pub oid: u32,
    /// Its columns, in the order of the schema's table.
    pub columns: Vec<WatchedColumn>,
}

/// A column of a watched table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchedColumn {
    /// The oid of its type, of a domain itself.
    pub type_oid: u32,
    /// Its type's modifier; -1 for none.
    pub typmod: i32,
    /// Whether the server sends it: not a generated column, nor one outside of the publication's column list.
    ///
    /// An update says nothing about a column that is not sent, though it may change it: the state must leave such a column out.
    pub is_sent: bool,
    /// Whether anybody reads it: a column that nobody reads is neither decoded nor named in changes, if it is not part of the key.
    pub is_read: bool,
}

/// A watched table is no longer what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaChange {
    /// Index of the table in the schema.
    pub table: usize,
    /// What is different, in words; names of columns and types only.
    pub what: String,
    /// Columns of the schema's table that the changes from here on do not name, although they may change: their values are not known
    /// from here on.
    pub lost: Vec<usize>,
    /// False where the rows of the table can no longer be told apart: its changes from here on are passed over.
    pub is_followed: bool,
}

/// A change that cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Bytes that are no such message.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A value that its column's type does not hold, or that cannot be represented.
    #[error("table {table}, column {column}: {error}")]
    Value {
        /// The table's name.
        table: String,
        /// Its index in the schema.
        table_index: usize,
        /// The column's name.
        column: String,
        /// Its index in the table.
        column_index: usize,
        /// Why, without the value.
        error: ValueError,
    },
}

/// Which tables of the stream are which watched ones. A clone is cheap and keeps what it was.
#[derive(Clone, Debug)]
pub struct Relations {
    watched: Arc<WatchedTables>,
    seen: Arc<Seen>,
}

#[derive(Debug)]
struct WatchedTables {
    schema: Schema,
    tables: Vec<Watched>,
    by_oid: HashMap<u32, usize>,
    by_name: HashMap<TableName, usize>,
}

/// What relation messages have said.
#[derive(Clone, Debug, Default)]
struct Seen {
    /// None for a table that nobody watches.
    relations: HashMap<u32, Option<Arc<Mapping>>>,
    /// What was last reported to be different, by the table's index in the schema.
    reported: HashMap<usize, SchemaChange>,
    /// Columns with a value that cannot be represented, by the table's index: they are not read any more, and why.
    given_up: HashMap<usize, Vec<(usize, String)>>,
}

/// How rows of the stream become images of a table.
#[derive(Clone, Debug)]
struct Mapping {
    table: usize,
    columns: Vec<Slot>,
    has_primary_key: bool,
    is_followed: bool,
}

/// A column of the stream.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The column of the schema's table, where it is read.
    to: Option<usize>,
    /// Whether it is part of the replica identity.
    in_identity: bool,
    /// Whether it is part of the primary key.
    in_primary_key: bool,
}

/// What to do with a change of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    Watched,
    NotWatched,
    NotAnnounced,
}

impl Relations {
    /// Oids of the watched tables.
    pub fn oids(&self) -> Vec<u32> {
        self.watched.tables.iter().map(|table| table.oid).collect()
    }

    /// The watched tables, before any relation message.
    ///
    /// # Panics
    /// Where a watched table is not in the schema, or has other columns there.
    pub fn new(schema: Schema, watched: Vec<Watched>) -> Self {
        for table in &watched {
            let declared = &schema.tables[table.table];
            assert_eq!(
                declared.columns.len(),
                table.columns.len(),
                "the catalog describes every column of the schema"
            );
        }
        let numbered = || watched.iter().enumerate();
        let name = |table: &Watched| schema.tables[table.table].name.clone();
        let by_oid = numbered().map(|(at, table)| (table.oid, at)).collect();
        let by_name = numbered().map(|(at, table)| (name(table), at)).collect();
        Relations {
            watched: Arc::new(WatchedTables {
                by_oid,
                by_name,
                schema,
                tables: watched,
            }),
            seen: Arc::default(),
        }
    }

    /// The schema whose tables changes are about.
    pub fn schema(&self) -> &Schema {
        &self.watched.schema
    }

    /// Whether a change of a row of this table is to be read.
    pub(super) fn interest(&self, oid: u32) -> Interest {
        match self.seen.relations.get(&oid) {
            Some(Some(mapping)) if mapping.is_followed => Interest::Watched,
            Some(_) => Interest::NotWatched,
            None => Interest::NotAnnounced,
        }
    }

    /// The index of a watched table in the schema, by the oid that a relation message gave.
    pub fn table_of(&self, oid: u32) -> Option<usize> {
        let mapping = self.seen.relations.get(&oid)?.as_ref()?;
        Some(mapping.table)
    }

    /// Takes a relation message; says what is different from before, where something is.
    pub fn announce(&mut self, relation: &Relation<'_>) -> Option<SchemaChange> {
        let Some(watched) = self.watched.find(relation) else {
            Arc::make_mut(&mut self.seen)
                .relations
                .insert(relation.oid, None);
            return None;
        };
        let given_up = self.seen.given_up.get(&watched.table);
        let given_up = given_up.map_or(&[][..], Vec::as_slice);
        let (mapping, found) = self.watched.compare(watched, relation, given_up);
        let seen = Arc::make_mut(&mut self.seen);
        let table = mapping.table;
        let mapping = Some(Arc::new(mapping));
        seen.relations.insert(relation.oid, mapping);
        match (seen.reported.get(&table), found.what.is_empty()) {
            (None, true) => None,
            (Some(before), false) if *before == found => None,
            (Some(_), true) => {
                seen.reported.remove(&table);
                let what = "it is again as it was when the watch began".to_owned();
                Some(SchemaChange { what, ..found })
            }
            (_, false) => {
                seen.reported.insert(table, found.clone());
                Some(found)
            }
        }
    }

    /// Reads a column no more from here on, because of a value in it that cannot be represented: an update to such a value would look
    /// like one that leaves the column alone. What is not known is never wrong.
    pub(super) fn give_up(
        &mut self,
        table: usize,
        column: usize,
        error: &ValueError,
    ) -> SchemaChange {
        let declared = &self.watched.schema.tables[table];
        let why = format!(
            "column {} has a value that cannot be represented: {error}",
            declared.columns[column].name
        );
        let is_primary = declared.primary_key.contains(&column);
        let seen = Arc::make_mut(&mut self.seen);
        let given_up = seen.given_up.entry(table).or_default();
        given_up.push((column, why.clone()));
        for mapping in seen.relations.values_mut().flatten() {
            if mapping.table == table {
                let mapping = Arc::make_mut(mapping);
                mapping.is_followed &= !is_primary;
                let slots = mapping.columns.iter_mut();
                let same = slots.filter(|slot| slot.to == Some(column));
                same.for_each(|slot| slot.to = None);
            }
        }
        let before = seen.reported.remove(&table);
        let mut change = before.unwrap_or(SchemaChange {
            table,
            what: String::new(),
            lost: Vec::new(),
            is_followed: true,
        });
        if !change.what.is_empty() {
            change.what.push_str("; ");
        }
        change.what.push_str(&why);
        change.lost.push(column);
        change.lost.sort_unstable();
        change.is_followed &= !is_primary;
        seen.reported.insert(table, change.clone());
        change
    }

    /// Adds what an insert, update, delete or truncate says about watched tables; any other message says nothing about rows.
    ///
    /// # Errors
    /// Where a row does not fit its table's description, or a value its column.
    pub fn changes(&self, message: &Message<'_>, out: &mut Vec<Change>) -> Result<(), Unreadable> {
        match message {
            Message::Insert { relation, new } => {
                if let Some(reading) = self.reading(*relation)? {
                    let after = Some(reading.image(new, |_| true)?);
                    out.push(reading.change(Op::Insert, None, None, after));
                }
            }
            Message::Update { relation, old, new } => {
                if let Some(reading) = self.reading(*relation)? {
                    let (key, before) = reading.old(old.as_ref(), Some(new))?;
                    let after = Some(reading.image(new, |_| true)?);
                    out.push(reading.change(Op::Update, key, before, after));
                }
            }
            Message::Delete { relation, old } => {
                if let Some(reading) = self.reading(*relation)? {
                    let (key, before) = reading.old(Some(old), None)?;
                    out.push(reading.change(Op::Delete, key, before, None));
                }
            }
            Message::Truncate { relations, .. } => {
                for relation in relations.iter() {
                    if let Some(reading) = self.reading(relation)? {
                        out.push(reading.change(Op::Truncate, None, None, None));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// How to read rows of a table; None where nobody watches it.
    fn reading(&self, oid: u32) -> Result<Option<Reading<'_>>, Malformed> {
        let mapping = self.seen.relations.get(&oid).ok_or_else(not_announced)?;
        let mapping = mapping.as_ref().filter(|mapping| mapping.is_followed);
        Ok(mapping.map(|mapping| Reading {
            mapping,
            declared: &self.watched.schema.tables[mapping.table],
        }))
    }
}

/// A change of a table that no relation message has described.
pub(super) fn not_announced() -> Malformed {
    Malformed::new("a change of a table that was not described before")
}

impl WatchedTables {
    fn find(&self, relation: &Relation<'_>) -> Option<&Watched> {
        let by_name = || {
            let name = TableName::new(relation.schema, relation.name);
            self.by_name.get(&name)
        };
        let at = self.by_oid.get(&relation.oid).or_else(by_name)?;
        self.tables.get(*at)
    }

    /// How to read the relation as the watched table, and what is different.
    fn compare(
        &self,
        watched: &Watched,
        relation: &Relation<'_>,
        given_up: &[(usize, String)],
    ) -> (Mapping, SchemaChange) {
        let declared = &self.schema.tables[watched.table];
        let mut different = Vec::new();
        let name = TableName::new(relation.schema, relation.name);
        if name != declared.name {
            different.push(format!("it is named {} now", name.short()));
        } else if relation.oid != watched.oid {
            different.push("it was dropped and made anew".to_owned());
        }
        let mut columns = self.slots(watched, relation, &mut different);
        let mut sent = vec![false; declared.columns.len()];
        for slot in &mut columns {
            if let Some(at) = slot.to {
                sent[at] = !given_up.iter().any(|(column, _)| *column == at);
                let is_wanted = watched.columns[at].is_read || slot.in_primary_key;
                slot.to = slot.to.filter(|_| sent[at] && is_wanted);
            }
        }
        let mut lost = Vec::new();
        for (at, column) in declared.columns.iter().enumerate() {
            if watched.columns[at].is_sent && !sent[at] {
                lost.push(at);
                if let Some((_, why)) = given_up.iter().find(|(column, _)| *column == at) {
                    different.push(why.clone());
                } else if !relation.columns.iter().any(|c| c.name == column.name) {
                    different.push(format!("column {} is gone", column.name));
                }
            }
        }
        let has_primary_key = !declared.primary_key.is_empty();
        let is_followed = match unfollowed(&declared.primary_key, &lost, relation, &columns) {
            Some(why) => {
                different.push(why);
                false
            }
            None => true,
        };
        let mapping = Mapping {
            table: watched.table,
            columns,
            has_primary_key,
            is_followed,
        };
        let change = SchemaChange {
            table: watched.table,
            what: different.join("; "),
            lost,
            is_followed,
        };
        (mapping, change)
    }
}

impl WatchedTables {
    /// The columns of the stream, each with the one that it is in the schema, if that is sent as it was.
    fn slots(
        &self,
        watched: &Watched,
        relation: &Relation<'_>,
        different: &mut Vec<String>,
    ) -> Vec<Slot> {
        let declared = &self.schema.tables[watched.table];
        let slots = relation.columns.iter().map(|column| {
            let mut slot = Slot {
                to: None,
                in_identity: column.is_key,
                in_primary_key: false,
            };
            let Some(at) = declared.column_index(column.name) else {
                different.push(format!("column {} is new", column.name));
                return slot;
            };
            let expected = &watched.columns[at];
            if (expected.type_oid, expected.typmod) != (column.type_oid, column.typmod) {
                different.push(format!("column {} has another type", column.name));
            } else if expected.is_sent {
                slot.in_primary_key = declared.primary_key.contains(&at);
                slot.to = Some(at);
            }
            slot
        });
        slots.collect()
    }
}

/// Why rows of a table cannot be told apart from what the stream says about them.
fn unfollowed(
    primary_key: &[usize],
    lost: &[usize],
    relation: &Relation<'_>,
    columns: &[Slot],
) -> Option<String> {
    if primary_key.iter().any(|at| lost.contains(at)) {
        return Some("its primary key is not what it was: its rows cannot be followed".into());
    }
    // With an identity of its own, an update that changes the primary key would not say which row it was.
    let named = columns.iter().filter(|slot| slot.in_primary_key);
    let is_named = named.filter(|slot| slot.in_identity).count() == primary_key.len();
    (relation.identity == Identity::Index && !is_named).then(|| {
        "its replica identity is an index without the primary key: its rows cannot be followed"
            .into()
    })
}

/// Rows of one table, being read.
struct Reading<'a> {
    mapping: &'a Mapping,
    declared: &'a crate::schema::Table,
}

impl Reading<'_> {
    fn change(
        &self,
        op: Op,
        key: Option<Image>,
        before: Option<Image>,
        after: Option<Image>,
    ) -> Change {
        Change {
            table: self.mapping.table,
            op,
            key,
            before,
            after,
        }
    }

    /// The values of some columns; what the change left alone in its place is not named.
    fn image(
        &self,
        tuple: &Tuple<'_>,
        wanted: impl Fn(&Slot) -> bool,
    ) -> Result<Image, Unreadable> {
        if tuple.len() != self.mapping.columns.len() {
            let table = self.declared.name.short();
            let what = format!("a row of table {table} has another number of columns than it");
            return Err(Malformed::new(what).into());
        }
        let mut image = Image::with_capacity(tuple.len());
        for (slot, value) in self.mapping.columns.iter().zip(tuple.values()) {
            let Some(at) = slot.to.filter(|_| wanted(slot)) else {
                continue;
            };
            let column = &self.declared.columns[at];
            match value {
                Value::Null => image.push((at, Cell::Null)),
                Value::Unchanged => {}
                Value::Text(bytes) => image.push((at, self.cell(at, bytes)?)),
                Value::Binary(_) => {
                    return Err(self.malformed(column, "a binary value, where text was asked for"));
                }
            }
        }
        Ok(image)
    }

    /// What the change says about the old row: `key` and `before`.
    fn old(
        &self,
        old: Option<&Old<'_>>,
        new: Option<&Tuple<'_>>,
    ) -> Result<(Option<Image>, Option<Image>), Unreadable> {
        let has_key = self.mapping.has_primary_key;
        match (old, new) {
            (Some(Old::Full(tuple)), _) => Ok((None, Some(self.image(tuple, |_| true)?))),
            (Some(Old::Key(tuple)), _) => {
                // NULL in the other columns means that they are not in the identity.
                let primary = |slot: &Slot| slot.in_identity && slot.in_primary_key;
                let other = |slot: &Slot| slot.in_identity && !slot.in_primary_key;
                let key = match has_key {
                    true => Some(self.image(tuple, primary)?),
                    false => None,
                };
                let before = self.image(tuple, other)?;
                Ok((key, (!before.is_empty()).then_some(before)))
            }
            // The identity did not change. Without a primary key, it alone says which row is meant.
            (None, Some(new)) if !has_key => {
                let before = self.image(new, |slot| slot.in_identity)?;
                Ok((None, (!before.is_empty()).then_some(before)))
            }
            (None, _) => Ok((None, None)),
        }
    }

    fn cell(&self, at: usize, bytes: &[u8]) -> Result<Cell, Unreadable> {
        let column = &self.declared.columns[at];
        if let Some(cell) = quick(&column.data_type, bytes) {
            return Ok(cell);
        }
        // A database without an encoding holds any bytes.
        let read = match std::str::from_utf8(bytes) {
            Ok(text) => parse_text(&column.data_type, text),
            Err(_) => Err(ValueError::new(&column.data_type, "not UTF-8")),
        };
        read.map_err(|error| Unreadable::Value {
            table: self.declared.name.short(),
            table_index: self.mapping.table,
            column: column.name.clone(),
            column_index: at,
            error,
        })
    }

    fn malformed(&self, column: &Column, what: &str) -> Unreadable {
        let table = self.declared.name.short();
        Malformed::new(format!("table {table}, column {}: {what}", column.name)).into()
    }
}

/// What the server writes for the most common types; anything else is left to [`parse_text`].
fn quick(data_type: &DataType, bytes: &[u8]) -> Option<Cell> {
    let number = match data_type {
        DataType::Bool if bytes == b"t" => return Some(Cell::Bool(true)),
        DataType::Bool if bytes == b"f" => return Some(Cell::Bool(false)),
        DataType::Int16 => integer(bytes).filter(|n| i16::try_from(*n).is_ok()),
        DataType::Int32 => integer(bytes).filter(|n| i32::try_from(*n).is_ok()),
        DataType::Int64 => integer(bytes),
        _ => None,
    };
    number.map(Cell::Int)
}

/// Digits, with a minus before them perhaps.
fn integer(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    // Eighteen digits cannot overflow.
    if !(1..=18).contains(&digits.len()) {
        return None;
    }
    let mut number = 0i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + i64::from(digit - b'0');
    }
    Some(if negative { -number } else { number })
}
