//! Keys against a comparison of cells, and against the engine's order.

use std::cmp::Ordering;

use bigdecimal::BigDecimal;
use datafusion::arrow::compute::{SortOptions, sort};

use super::*;
use crate::schema::value::canonical_json;
use crate::state::stored::tests::{any_rows, any_table, loaded, seeds, table};

/// A number and whether it is one: before infinity, and that before NaN.
fn number(cell: &Cell) -> (u8, BigDecimal) {
    let numeric = DataType::Numeric {
        precision_scale: None,
    };
    let text = value::to_text(&numeric, cell).expect("it is a number");
    match text.as_str() {
        "-Infinity" => (0, BigDecimal::default()),
        "Infinity" => (2, BigDecimal::default()),
        "NaN" => (3, BigDecimal::default()),
        text => (1, text.parse().expect("a number")),
    }
}

/// The order of two cells as the module says it, from the cells themselves.
fn compare(data_type: &DataType, a: &Cell, b: &Cell) -> Ordering {
    let rank = |cell: &Cell| match cell {
        Cell::List(_) => 1,
        Cell::Null => 2,
        Cell::Unknown => 3,
        _ => 0,
    };
    let element = match data_type {
        DataType::Array(element) => element,
        other => other,
    };
    match (a, b) {
        (Cell::Bool(a), Cell::Bool(b)) => a.cmp(b),
        (Cell::Int(a), Cell::Int(b)) => a.cmp(b),
        (Cell::Float(a), Cell::Float(b)) => match (a.is_nan(), b.is_nan()) {
            (false, false) => a.partial_cmp(b).expect("both are numbers"),
            (a, b) => a.cmp(&b),
        },
        (Cell::Decimal(_) | Cell::Wide(_), Cell::Decimal(_) | Cell::Wide(_)) => {
            number(a).cmp(&number(b))
        }
        (Cell::Text(a), Cell::Text(b)) if *element == DataType::Jsonb => {
            canonical_json(a).cmp(&canonical_json(b))
        }
        (Cell::Text(a), Cell::Text(b)) => a.as_bytes().cmp(b.as_bytes()),
        (Cell::Bytes(a), Cell::Bytes(b)) => a.cmp(b),
        (Cell::Date(a), Cell::Date(b)) => a.cmp(b),
        (Cell::Time(a), Cell::Time(b)) | (Cell::Timestamp(a), Cell::Timestamp(b)) => a.cmp(b),
        (Cell::List(a), Cell::List(b)) => {
            let both = a.iter().zip(b).map(|(a, b)| compare(element, a, b));
            let first = both.into_iter().find(|found| found.is_ne());
            first.unwrap_or(a.len().cmp(&b.len()))
        }
        (a, b) => rank(a).cmp(&rank(b)),
    }
}

fn compare_rows(table: &Table, a: &[Cell], b: &[Cell]) -> Ordering {
    let columns = identity(table).into_iter();
    let found = columns.map(|at| compare(&table.columns[at].data_type, &a[at], &b[at]));
    found.fold(Ordering::Equal, Ordering::then)
}

#[test]
fn the_order_of_keys_is_that_of_cells_and_so_is_their_equality() {
    for mut rng in seeds(300) {
        let table = any_table(&mut rng);
        let rows = any_rows(&mut rng, &table, 30);
        let keys = Keys::of(&table, &loaded(&table, &rows).stored_at(0));
        assert_eq!((keys.len(), keys.is_empty()), (30, false));
        for (i, a) in rows.iter().enumerate() {
            for (j, b) in rows.iter().enumerate() {
                let found = keys.get(i).cmp(keys.get(j));
                assert_eq!(found, compare_rows(&table, a, b), "{table:?} {a:?} {b:?}");
                let documents =
                    |&at: &usize| table.columns[at].data_type.to_string().starts_with("jsonb");
                let identity = identity(&table);
                if !identity.iter().any(documents) {
                    let same = identity.iter().all(|&at| a[at] == b[at]);
                    assert_eq!(found.is_eq(), same, "{a:?} {b:?}");
                }
            }
        }
    }
}

#[test]
fn rows_have_one_order_whatever_order_they_came_in() {
    for mut rng in seeds(100) {
        let table = any_table(&mut rng);
        let mut rows = any_rows(&mut rng, &table, 40);
        let mut in_order = || {
            rng.shuffle(&mut rows);
            let stored = loaded(&table, &rows).stored_at(0);
            let keys = Keys::of(&table, &stored);
            let order = sorted(&table, &stored, &keys);
            let taken = keys.take(&order);
            assert!(taken.iter().is_sorted());
            let stored = stored.take(&order);
            assert_eq!(Keys::of(&table, &stored), taken);
            let straight: Vec<u32> = (0..40).collect();
            assert_eq!(
                sorted(&table, &stored, &taken),
                straight,
                "it stays in order"
            );
            let bytes = RowBytes::new(&table, &stored);
            let mut all = Vec::new();
            (0..40).for_each(|row| bytes.put(row, &mut all));
            all
        };
        let first = in_order();
        assert_eq!(in_order(), first);
    }
}

#[test]
fn single_columns_are_in_the_engines_order() {
    let types = [
        "boolean",
        "integer",
        "bigint",
        "numeric",
        "numeric(12,2)",
        "text",
        "date",
        "time",
        "timestamp",
        "timestamptz",
        "uuid",
    ];
    for mut rng in seeds(20) {
        for data_type in types {
            let table = table(&[data_type], &[0]);
            let mut rows = any_rows(&mut rng, &table, 50);
            rows.retain(|row| row[0] != Cell::Unknown);
            let stored = loaded(&table, &rows).stored_at(0);
            let order = sorted(&table, &stored, &Keys::of(&table, &stored));
            let options = SortOptions {
                descending: false,
                nulls_first: false,
            };
            let array = |numbers: &[u32]| {
                loaded(&table, &rows)
                    .images(&[0], numbers)
                    .batch
                    .column(0)
                    .clone()
            };
            let rows: Vec<u32> = (0..rows.len() as u32).collect();
            let engine = sort(&array(&rows), Some(options)).expect("it can be sorted");
            assert_eq!(&array(&order), &engine, "{data_type}");
        }
    }
}

#[test]
fn keys_are_these_bytes_for_ever() {
    let table = table(
        &["integer", "text", "numeric", "date", "integer[]"],
        &[1, 0, 2, 3, 4],
    );
    let decimal =
        |text: &str| Cell::Decimal(crate::change::Decimal::parse(text).expect("a number"));
    let rows = [
        vec![
            Cell::Int(-2),
            Cell::Text("a\0".into()),
            decimal("-0.5"),
            Cell::Date(1),
            Cell::List(vec![Cell::Int(1), Cell::Null]),
        ],
        vec![
            Cell::Int(7),
            Cell::Null,
            decimal("0.00"),
            Cell::Unknown,
            Cell::List(vec![]),
        ],
    ];
    let keys = Keys::of(&table, &loaded(&table, &rows).stored_at(0));
    let hex = |at: usize| {
        keys.get(at)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let digits = format!("{:032x}", !(5 * 10u128.pow(37)));
    let first = format!(
        "016100ff0000 017ffffffffffffffe 015a{digits} 0180000001 0201800000000000000103 00"
    );
    assert_eq!(hex(0), first.replace(' ', ""));
    assert_eq!(
        hex(1),
        "03 018000000000000007 0180 04 0200".replace(' ', "")
    );
}
