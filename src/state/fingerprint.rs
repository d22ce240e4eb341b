//! Fingerprints of states: equal tables have the same one, whatever way led to them.
//!
//! The method (version 2), with BLAKE3 in its key-derivation mode, so that the kinds of input never meet:
//!
//! * A **row** is its canonical bytes: see `row.rs`.
//! * A **table** is a tree over its rows in canonical order, cut by content: see `tree.rs`, and `key.rs` for the order. Names and types of its
//!   columns are part of it; its own name, its keys and its constraints are not, but that rows are in the order of their keys.
//! * A **state** is the number of its tables, then their names and fingerprints in the order of their names.

use std::fmt;

use super::key::{Keys, identity, sorted_by};
use super::row::{RowBytes, length, text};
use super::stored::view::Column;
use super::tree::{LEVELS, Tree, heights_of};
use super::versions::TableVersions;
use super::{History, InPlace};
use crate::change::Commit;
use crate::schema::{Table, TableName};

/// The fewest rows for which another core is worth its while.
const SHARE_ROWS: usize = 64 << 10;

const STATE: &str = "firstbad 2026-03 fingerprint of a state, version 2";

/// What a table or a state holds, in 32 bytes; shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// A fingerprint that was written down.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Fingerprint(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl History {
    /// The fingerprint of a table at a position. None for a table that is read from its files in place: its rows are not held. Takes
    /// the memory of the table's keys.
    pub fn fingerprint(&self, table: usize, position: Commit) -> Option<Fingerprint> {
        match self.in_place.get(table).and_then(Option::as_ref) {
            None => Some(self.tables[table].fingerprint(position)),
            Some(InPlace::Files(_)) => None,
            Some(InPlace::Chunks(chunks)) => Some(chunks.fingerprint()),
        }
    }

    /// The fingerprint of all tables at a position; None when one of them has none.
    pub fn state_fingerprint(&self, position: Commit) -> Option<Fingerprint> {
        let tables = self.schema.tables.iter().enumerate();
        let found = tables.map(|(at, table)| Some((&table.name, self.fingerprint(at, position)?)));
        Some(of_state(found.collect::<Option<Vec<_>>>()?))
    }
}

/// The fingerprint of some tables together.
pub fn of_state<'a>(tables: impl IntoIterator<Item = (&'a TableName, Fingerprint)>) -> Fingerprint {
    let mut tables: Vec<(&TableName, Fingerprint)> = tables.into_iter().collect();
    tables.sort_unstable();
    let mut bytes = Vec::new();
    length(&mut bytes, tables.len());
    for (name, fingerprint) in tables {
        text(&mut bytes, &name.schema);
        text(&mut bytes, &name.name);
        bytes.extend_from_slice(&fingerprint.0);
    }
    Fingerprint(blake3::derive_key(STATE, &bytes))
}

impl TableVersions {
    /// The fingerprint of the rows at a position. Takes the memory of the table's keys.
    pub fn fingerprint(&self, position: Commit) -> Fingerprint {
        self.fingerprint_as(&self.table, position)
    }

    /// The fingerprint that the rows at a position had, were these columns the primary key; None where the table has no such columns.
    pub fn fingerprint_by(&self, key: &[String], position: Commit) -> Option<Fingerprint> {
        let mut table = self.table.clone();
        let columns = key.iter().map(|name| table.column_index(name));
        table.primary_key = columns.collect::<Option<_>>()?;
        Some(self.fingerprint_as(&table, position))
    }

    /// The versions visible at a position in canonical order, and their keys in that order.
    pub fn ordered(&self, position: Commit) -> (Vec<u32>, Keys) {
        let (rows, keys, order) = self.order(&self.table, position);
        let in_order = order
            .iter()
            .enumerate()
            .all(|(at, &row)| at == row as usize);
        let rows = order.iter().map(|&at| rows[at as usize]).collect();
        let keys = if in_order { keys } else { keys.take(&order) };
        (rows, keys)
    }

    /// The versions visible at a position, their keys, and the canonical order of both.
    fn order(&self, table: &Table, position: Commit) -> (Vec<u32>, Keys, Vec<u32>) {
        let rows = self.visible(position);
        let keys = self.keys(table, &rows);
        let order = sorted_by(table, &keys, |run| {
            let run: Vec<u32> = run.iter().map(|&at| rows[at as usize]).collect();
            self.bytes_of(table, &run)
        });
        (rows, keys, order)
    }

    /// `table` is the own one, but for its key.
    fn fingerprint_as(&self, table: &Table, position: Commit) -> Fingerprint {
        let (mut rows, keys, order) = self.order(table, position);
        let heights = heights_of(order.iter().map(|&at| keys.get(at as usize)));
        drop(keys);
        rows = order.into_iter().map(|at| rows[at as usize]).collect();
        let mut tree = Tree::new(LEVELS - 1);
        let mut left = heights.as_slice();
        for piece in self.pieces(&rows) {
            let stored = self.stored(piece);
            tree.rows(&RowBytes::new(table, &stored), left, piece.len());
            left = &left[piece.len()..];
        }
        tree.of_table(table)
    }

    /// The keys of rows, on all cores where they are many.
    fn keys(&self, table: &Table, rows: &[u32]) -> Keys {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let share = rows.len().div_ceil(cores).max(SHARE_ROWS);
        if rows.len() <= share {
            return self.keys_of(table, rows);
        }
        std::thread::scope(|scope| {
            let shares = rows.chunks(share);
            let workers: Vec<_> = shares
                .map(|share| scope.spawn(|| self.keys_of(table, share)))
                .collect();
            let mut keys = Keys::default();
            for worker in workers {
                let part = worker.join();
                keys.append(&part.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            }
            keys
        })
    }

    fn keys_of(&self, table: &Table, rows: &[u32]) -> Keys {
        let mut keys = Keys::default();
        let identity = identity(table);
        for piece in self.pieces(rows) {
            let stored: Vec<_> = identity
                .iter()
                .map(|&at| self.columns[at].stored(piece))
                .collect();
            let columns: Vec<Column<'_>> = identity
                .iter()
                .zip(&stored)
                .map(|(&at, (array, unknown))| {
                    Column::new(&table.columns[at].data_type, array, unknown.as_ref())
                        .expect("columns are kept by their types")
                })
                .collect();
            keys.push_all(&columns, piece.len());
        }
        keys
    }

    fn bytes_of(&self, table: &Table, rows: &[u32]) -> Vec<Vec<u8>> {
        let mut out = Vec::with_capacity(rows.len());
        for piece in self.pieces(rows) {
            let stored = self.stored(piece);
            let bytes = RowBytes::new(table, &stored);
            out.extend((0..piece.len()).map(|row| {
                let mut out = Vec::new();
                bytes.put(row, &mut out);
                out
            }));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Cell, Change, Image, Op, Transaction, TransactionMeta};
    use crate::schema::{ddl, value};
    use crate::state::Origin;

    const TYPES: [(&str, [&str; 2]); 16] = [
        ("boolean", ["t", "f"]),
        ("smallint", ["1", "2"]),
        ("bigint", ["1", "-1"]),
        ("real", ["0.5", "NaN"]),
        ("double precision", ["1e300", "-Infinity"]),
        ("numeric", ["1.5", "0.15"]),
        ("numeric(12,2)", ["1.50", "1.51"]),
        ("text", ["", "NULL"]),
        ("char(5)", ["a", "b"]),
        ("bytea", ["\\x", "\\x00"]),
        ("date", ["2026-03-12", "infinity"]),
        ("time", ["00:00", "24:00"]),
        (
            "timestamp",
            ["2026-03-12 00:00", "2026-03-12 00:00:00.000001"],
        ),
        ("jsonb", ["{\"a\":1}", "{\"a\":\"1\"}"]),
        ("text[]", ["{a,b}", "{\"a,b\"}"]),
        ("integer[]", ["{}", "{NULL}"]),
    ];

    fn history(ddl: &str, rows: &[Vec<Cell>]) -> History {
        let (schema, wrong) = ddl::parse(ddl, std::path::Path::new("schema.sql"));
        assert!(wrong.is_empty(), "{wrong:?}");
        let mut history = History::new(schema, Origin::Changes, false);
        for row in rows {
            history.load(0, row);
        }
        history
    }

    fn of(ddl: &str, rows: &[Vec<Cell>]) -> Fingerprint {
        let history = history(ddl, rows);
        history.fingerprint(0, 0).expect("rows are held")
    }

    fn cell(data_type: &str, text: &str) -> Cell {
        let (schema, _) = ddl::parse(
            &format!("create table t (a {data_type});"),
            std::path::Path::new("schema.sql"),
        );
        let data_type = &schema.tables[0].columns[0].data_type;
        value::parse_text(data_type, text).expect("a value of the type")
    }

    #[test]
    fn every_other_value_is_another_fingerprint() {
        for (data_type, texts) in TYPES {
            let ddl = format!("create table t (id integer primary key, a {data_type});");
            let mut seen = std::collections::HashSet::new();
            let cells = texts.iter().map(|text| cell(data_type, text));
            for cell in cells.chain([Cell::Null, Cell::Unknown]) {
                let row = vec![Cell::Int(1), cell];
                assert!(seen.insert(of(&ddl, &[row])), "{data_type}");
            }
        }
    }

    #[test]
    fn equal_values_are_one_fingerprint() {
        let same = |data_type: &str, texts: [&str; 2]| {
            let ddl = format!("create table t (a {data_type});");
            let [a, b] = texts.map(|text| of(&ddl, &[vec![cell(data_type, text)]]));
            a == b
        };
        assert!(same("numeric", ["1.50", "1.5"]));
        assert!(same("numeric", ["100", "1e2"]));
        assert!(same("double precision", ["0", "-0"]));
        assert!(same(
            "timestamptz",
            ["2026-03-12 12:00+02", "2026-03-12T10:00:00Z"]
        ));
        assert!(same(
            "jsonb",
            ["{\"a\": 1.0, \"b\": [10]}", "{\"b\":[1e1],\"a\":0,\"a\":1}"]
        ));
        assert!(!same("json", ["{\"a\": 1}", "{\"a\":1}"]));
        assert!(!same("jsonb", ["0.1", "0.10000000000000000001"]));
        assert!(!same("jsonb", ["1e400", "2e400"]));
    }

    #[test]
    fn rows_are_a_multiset_and_columns_have_names_and_types() {
        let row = |a: i64, b: i64| vec![Cell::Int(a), Cell::Int(b)];
        let ddl = "create table t (a integer, b integer);";
        let rows = [row(1, 2), row(3, 4), row(1, 2)];
        let one = of(ddl, &rows);
        assert_eq!(one, of(ddl, &[row(3, 4), row(1, 2), row(1, 2)]));
        assert_ne!(one, of(ddl, &rows[..2]));
        assert_ne!(one, of(ddl, &[row(3, 4), row(3, 4), row(1, 2)]));
        // The order of columns says nothing, their names and types do; the table's name does not, its key does.
        let swapped = [row(2, 1), row(4, 3), row(2, 1)];
        assert_eq!(one, of("create table u (b integer, a integer);", &swapped));
        assert_ne!(one, of(ddl, &swapped));
        assert_ne!(one, of("create table t (a integer, c integer);", &rows));
        assert_ne!(one, of("create table t (a integer, b bigint);", &rows));
        assert_ne!(of(ddl, &[]), of("create table t (a integer);", &[]));
        let keyed =
            |key: &str| format!("create table t (a integer, b integer, primary key ({key}));");
        let keys = ["a", "b", "a, b", "b, a"].map(|key| of(&keyed(key), &rows));
        assert!(keys.iter().all(|other| *other != one) && keys[2] != keys[3]);
        let by = |ddl: &str, key: &[&str]| {
            let key: Vec<String> = key.iter().map(|name| (*name).to_owned()).collect();
            history(ddl, &rows).tables[0].fingerprint_by(&key, 0)
        };
        assert_eq!(by(ddl, &["b", "a"]), Some(keys[3]));
        assert_eq!(by(&keyed("a"), &[]), Some(one));
        assert_eq!(by(ddl, &["c"]), None);
        let texts = |a: &str, b: &str| vec![Cell::Text(a.into()), Cell::Text(b.into())];
        let ddl = "create table t (a text, b text);";
        assert_ne!(of(ddl, &[texts("ab", "c")]), of(ddl, &[texts("a", "bc")]));
    }

    #[test]
    fn the_route_says_nothing() {
        let ddl = "create table t (id integer primary key, n numeric, s text); create table u (id integer);";
        let row = |id: i64, n: &str, s: &str| {
            vec![Cell::Int(id), cell("numeric", n), Cell::Text(s.into())]
        };
        let image =
            |cells: Vec<Cell>| -> Option<Image> { Some(cells.into_iter().enumerate().collect()) };
        let mut changed = history(ddl, &[row(1, "1", "a"), row(2, "2", "b")]);
        let begin = changed.state_fingerprint(0).expect("rows are held");
        let change = |op, before, after| Change {
            table: 0,
            op,
            key: None,
            before,
            after,
        };
        let steps = [
            change(Op::Insert, None, image(row(3, "0.001", "c"))),
            change(
                Op::Update,
                image(row(1, "1", "a")),
                image(row(7, "1.0", "a")),
            ),
            change(Op::Delete, image(row(2, "2", "b")), None),
            change(Op::Update, image(row(7, "1", "a")), image(row(1, "1", "a"))),
            change(Op::Insert, None, image(row(2, "2.00", "b"))),
            change(Op::Delete, image(row(3, "0.001", "c")), None),
        ];
        let mut seen = vec![begin];
        for (commit, change) in (1..).zip(steps) {
            let transaction = Transaction {
                commit,
                meta: TransactionMeta::default(),
                changes: vec![change],
            };
            changed.apply(&transaction).expect("the change fits");
            seen.push(changed.state_fingerprint(commit).expect("rows are held"));
        }
        assert_eq!(seen[6], begin, "back where it was");
        let different: std::collections::HashSet<_> = seen.iter().collect();
        assert_eq!(seen[5], seen[1]);
        assert_eq!(different.len(), 5, "all others differ");
        for (position, fingerprint) in (0..).zip(&seen) {
            let at = changed.state_fingerprint(position);
            assert_eq!(at.as_ref(), Some(fingerprint), "the past stays what it was");
        }
        let direct = history(
            ddl,
            &[row(3, "0.0010", "c"), row(2, "2", "b"), row(1, "1", "a")],
        );
        assert_eq!(direct.state_fingerprint(0), Some(seen[1]));
    }
}
