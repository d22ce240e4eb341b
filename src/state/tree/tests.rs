//! The tree against its definition, from whatever level it is built.

use super::*;
use crate::change::{Cell, Decimal};
use crate::schema::DataType;
use crate::schema::value::canonical_json;
use crate::state::key::sorted;
use crate::state::stored::tests::{Rng, any_cell, any_rows, any_table, loaded, seeds, table};

fn in_order(table: &Table, rows: &[Vec<Cell>]) -> (StoredRows, Keys) {
    let stored = loaded(table, rows).stored_at(0);
    let keys = Keys::of(table, &stored);
    let order = sorted(table, &stored, &keys);
    (stored.take(&order), keys.take(&order))
}

fn at_once(table: &Table, rows: &[Vec<Cell>]) -> Fingerprint {
    loaded(table, rows).fingerprint(0)
}

fn from_level(table: &Table, rows: &[Vec<Cell>], level: u8) -> Fingerprint {
    let (stored, keys) = in_order(table, rows);
    let nodes = nodes(table, &stored, &heights(&keys), level);
    table_print(
        table,
        level,
        nodes
            .iter()
            .map(|node| (node.print, node.height, node.rows)),
    )
}

/// The bytes of a cell, from the table in `row.rs`.
fn bytes_of(data_type: &DataType, cell: &Cell) -> Vec<u8> {
    let sized =
        |tag: u8, bytes: &[u8]| [&[tag], &(bytes.len() as u64).to_le_bytes()[..], bytes].concat();
    let int = |tag: u8, value: i64| [&[tag], &value.to_le_bytes()[..]].concat();
    match cell {
        Cell::Unknown => vec![0],
        Cell::Null => vec![1],
        Cell::Bool(value) => vec![2, u8::from(*value)],
        Cell::Int(value) => int(3, *value),
        Cell::Float(value) if value.is_nan() => int(4, 0x7ff8 << 48),
        Cell::Float(value) if *value == 0.0 => int(4, 0),
        Cell::Float(value) => int(4, value.to_bits() as i64),
        Cell::Decimal(value) => {
            let value = value.normalized();
            [&[5], &value.unscaled.to_le_bytes()[..], &[value.scale]].concat()
        }
        Cell::Wide(value) => {
            let mut key = Vec::new();
            value.put_key(&mut key);
            sized(12, &key)
        }
        Cell::Text(value) if *data_type == DataType::Jsonb => {
            sized(6, canonical_json(value).as_bytes())
        }
        Cell::Text(value) => sized(6, value.as_bytes()),
        Cell::Bytes(value) => sized(7, value),
        Cell::Date(value) => int(8, i64::from(*value)),
        Cell::Time(value) => int(9, *value),
        Cell::Timestamp(value) => int(10, *value),
        Cell::List(cells) => {
            let DataType::Array(element) = data_type else {
                panic!("only arrays hold lists")
            };
            let mut out = int(11, cells.len() as i64);
            for cell in cells {
                let inner = if matches!(cell, Cell::List(_)) {
                    data_type
                } else {
                    element
                };
                out.extend(bytes_of(inner, cell));
            }
            out
        }
    }
}

/// The fingerprint from the definition, level by level, with the rows in canonical order.
fn defined(table: &Table, rows: &[Vec<Cell>]) -> Fingerprint {
    let (stored, keys) = in_order(table, rows);
    let number = |n: usize| (n as u64).to_le_bytes();
    let mut columns: Vec<usize> = (0..table.columns.len()).collect();
    columns.sort_by_key(|&at| &table.columns[at].name);
    let height = |row: usize| {
        if row + 1 < keys.len() && keys.get(row) == keys.get(row + 1) {
            return 0;
        }
        // splitmix64 gives its next number for the state that it is told.
        let key = keys.get(row);
        let mut hash = Rng(key.len() as u64).next();
        for part in key.chunks(8) {
            let bytes = part.iter().enumerate();
            let part: u64 = bytes.map(|(at, byte)| u64::from(*byte) << (8 * at)).sum();
            hash = Rng(hash ^ part).next();
        }
        let zeros = (0..64).take_while(|bit| hash >> bit & 1 == 0).count();
        (zeros / 5).min(6)
    };
    let row = |row: usize| {
        let cells = columns
            .iter()
            .flat_map(|&at| bytes_of(&table.columns[at].data_type, &stored.cell(table, at, row)));
        let bytes: Vec<u8> = cells.collect();
        [&number(bytes.len())[..], &bytes].concat()
    };
    let mut runs: Vec<(Vec<u8>, usize)> =
        (0..stored.len()).map(|at| (row(at), height(at))).collect();
    for level in 0..6 {
        let mut next = Vec::new();
        for run in runs.chunk_by(|(_, height), _| *height <= level) {
            let mut input = number(run.len()).to_vec();
            if level > 0 {
                input = [number(level), number(run.len())].concat();
            }
            run.iter().for_each(|(bytes, _)| input.extend(bytes));
            let context = if level == 0 { LEAF } else { NODE };
            next.push((
                blake3::derive_key(context, &input).to_vec(),
                run[run.len() - 1].1,
            ));
        }
        runs = next;
    }
    let name = |text: &str| [&number(text.len())[..], text.as_bytes()].concat();
    let mut input = number(columns.len()).to_vec();
    for &at in &columns {
        input.extend(name(&table.columns[at].name));
        input.extend(name(&table.columns[at].data_type.to_string()));
    }
    input.extend(number(table.primary_key.len()));
    table
        .primary_key
        .iter()
        .for_each(|&at| input.extend(name(&table.columns[at].name)));
    input.extend(number(stored.len()));
    input.extend(number(runs.len()));
    runs.iter().for_each(|(bytes, _)| input.extend(bytes));
    Fingerprint::from_bytes(blake3::derive_key(TABLE, &input))
}

#[test]
fn the_tree_is_what_its_definition_says_whatever_level_it_is_built_from() {
    for mut rng in seeds(60) {
        let table = any_table(&mut rng);
        let count = rng.below(200);
        let mut rows = any_rows(&mut rng, &table, count);
        let expected = defined(&table, &rows);
        assert_eq!(at_once(&table, &rows), expected);
        rng.shuffle(&mut rows);
        for level in 0..LEVELS {
            assert_eq!(
                from_level(&table, &rows, level),
                expected,
                "from level {level}"
            );
        }
    }
}

/// Rows with one number as their key and a few more columns.
fn numbered(rng: &mut Rng, count: i64) -> (Table, Vec<Vec<Cell>>) {
    let table = table(&["bigint", "text", "numeric"], &[0]);
    let rows = (0..count).map(|id| {
        let mut cells = vec![Cell::Int(id * 3)];
        cells.extend(
            table.columns[1..]
                .iter()
                .map(|column| any_cell(rng, &column.data_type)),
        );
        cells
    });
    let rows = rows.collect();
    (table, rows)
}

#[test]
fn nodes_of_a_level_can_be_made_one_by_one() {
    let (table, rows) = numbered(&mut Rng(1), 20_000);
    let (stored, keys) = in_order(&table, &rows);
    let heights = heights(&keys);
    let expected = at_once(&table, &rows);
    assert_eq!(defined(&table, &rows), expected);
    for level in 0..LEVELS {
        let all = nodes(&table, &stored, &heights, level);
        let mut start = 0;
        for found in &all {
            let len = found.rows as usize;
            let part = stored.slice(start, len);
            let print = node(&table, &part, &heights[start..start + len], level);
            assert_eq!(
                (print, found.height),
                (found.print, heights[start + len - 1])
            );
            start += len;
        }
        assert_eq!(start, rows.len());
        let mixed = all.iter().map(|node| (node.print, node.height, node.rows));
        assert_eq!(table_print(&table, level, mixed), expected);
    }
}

#[test]
fn a_row_that_changes_comes_or_goes_is_another_fingerprint() {
    let (table, rows) = numbered(&mut Rng(2), 150);
    let whole = at_once(&table, &rows);
    let mut seen = std::collections::HashSet::from([whole]);
    for at in 0..rows.len() {
        let mut changed = rows.clone();
        changed[at][1] = Cell::Text("another".into());
        assert!(seen.insert(at_once(&table, &changed)), "row {at} changed");
        changed[at][0] = Cell::Int(1);
        assert!(seen.insert(at_once(&table, &changed)), "key {at} changed");
        changed.remove(at);
        assert!(seen.insert(at_once(&table, &changed)), "row {at} is gone");
        changed = rows.clone();
        changed.push(rows[at].clone());
        assert!(
            seen.insert(at_once(&table, &changed)),
            "row {at} came twice"
        );
    }
    // A change changes the nodes above it, and leaves the others as they are.
    let (stored, keys) = in_order(&table, &rows);
    let mut changed = rows.clone();
    changed[70][1] = Cell::Null;
    let (other, _) = in_order(&table, &changed);
    let heights = heights(&keys);
    let (a, b) = (
        nodes(&table, &stored, &heights, 0),
        nodes(&table, &other, &heights, 0),
    );
    assert!(a.len() > 2 && a.len() == b.len());
    assert_eq!(a.iter().zip(&b).filter(|(a, b)| a != b).count(), 1);
}

#[test]
fn equal_keys_are_never_parted() {
    for mut rng in seeds(30) {
        let table = table(
            &["integer", "text"],
            if rng.below(2) == 0 { &[0] } else { &[] },
        );
        let rows: Vec<Vec<Cell>> = (0..3000)
            .map(|_| {
                vec![
                    Cell::Int(rng.below(300) as i64),
                    any_cell(&mut rng, &DataType::Text),
                ]
            })
            .collect();
        let (stored, keys) = in_order(&table, &rows);
        let heights = heights(&keys);
        assert!(heights.iter().any(|&height| height > 0));
        for row in 1..rows.len() {
            assert!(heights[row - 1] == 0 || keys.get(row - 1) != keys.get(row));
        }
        let mut end = 0;
        for node in nodes(&table, &stored, &heights, 0) {
            end += node.rows as usize;
            assert!(end == rows.len() || keys.get(end - 1) != keys.get(end));
        }
        assert_eq!(end, rows.len());
    }
}

/// A kind of key: its type, and the key with a number.
type Kind = (&'static str, Box<dyn FnMut(usize) -> Cell>);

#[test]
fn heights_are_spread_evenly_over_all_kinds_of_keys() {
    let count = 50_000usize;
    let mut rng = Rng(3);
    let kinds: [Kind; 4] = [
        ("bigint", Box::new(|at| Cell::Int(at as i64))),
        (
            "text",
            Box::new(|at| Cell::Text(format!("customer-{at:06}"))),
        ),
        (
            "timestamp",
            Box::new(|at| Cell::Timestamp(at as i64 * 1_000_000)),
        ),
        (
            "uuid",
            Box::new(move |_| {
                Cell::Text(format!(
                    "{:08x}-0000-4000-8000-{:012x}",
                    rng.next() as u32,
                    rng.next() >> 16
                ))
            }),
        ),
    ];
    for (data_type, mut cell) in kinds {
        let table = table(&[data_type], &[0]);
        let rows: Vec<Vec<Cell>> = (0..count).map(|at| vec![cell(at)]).collect();
        let (_, keys) = in_order(&table, &rows);
        let heights = heights(&keys);
        for level in 1..=3 {
            let expected = count as f64 / 32f64.powi(level);
            let found = heights
                .iter()
                .filter(|&&height| i32::from(height) >= level)
                .count() as f64;
            // Five standard deviations of a Poisson distribution.
            let allowed = 5.0 * expected.sqrt();
            assert!(
                (found - expected).abs() <= allowed,
                "{data_type}: {found} of height {level}"
            );
        }
        let longest = heights.split(|&height| height > 0).map(<[u8]>::len).max();
        assert!(longest < Some(700), "{data_type}: a run of {longest:?}");
    }
}

#[test]
fn fingerprints_are_these_for_ever() {
    let table = table(&["bigint", "text", "numeric"], &[0]);
    let row = |id: i64| {
        let n = Cell::Decimal(Decimal {
            unscaled: i128::from(id * 50),
            scale: 2,
        });
        let text = match id % 3 {
            0 => Cell::Null,
            1 => Cell::Unknown,
            _ => Cell::Text(format!("row {id}")),
        };
        vec![Cell::Int(id), text, n]
    };
    let found = [0, 1, 5_000].map(|count| {
        let rows: Vec<Vec<Cell>> = (0..count).map(row).collect();
        at_once(&table, &rows).to_string()
    });
    assert_eq!(
        found,
        [
            "45669e9b3018212a55331e12cdd67ebe255ff652010f77b1ebbe14f62b47b369",
            "d537512415a23eba200be71bdbddceb4525590b535a8ec69bf3546fc45c0e9c8",
            "4d3ed8a2b8d1e5cee674dc241a3293839679982753bdd49edda699a787dff897"
        ]
    );
}
