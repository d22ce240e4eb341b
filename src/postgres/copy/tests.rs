use std::sync::Arc;

use super::*;
use crate::change::Cell;
use crate::schema::{Column, DataType, Table, TableName};

fn table() -> Arc<Table> {
    let column = |(name, data_type): (&str, DataType)| Column {
        name: name.into(),
        data_type,
        nullable: true,
    };
    let numeric = DataType::Numeric {
        precision_scale: None,
    };
    let columns = [
        ("id", DataType::Int32),
        ("name", DataType::Text),
        ("n", numeric),
        ("not_read", DataType::Array(Box::new(DataType::Date))),
    ];
    Arc::new(Table {
        name: TableName::new("public", "t"),
        columns: columns.into_iter().map(column).collect(),
        primary_key: vec![0],
        foreign_keys: Vec::new(),
    })
}

fn row(fields: &[Option<&[u8]>]) -> Vec<u8> {
    let mut out = (fields.len() as i16).to_be_bytes().to_vec();
    for field in fields {
        match field {
            None => out.extend((-1i32).to_be_bytes()),
            Some(bytes) => {
                out.extend((bytes.len() as i32).to_be_bytes());
                out.extend(*bytes);
            }
        }
    }
    out
}

/// 1.50, as `numeric_send` has it.
const NUMBER: &[u8] = &[0, 2, 0, 0, 0, 0, 0, 2, 0, 1, 0x13, 0x88];
const NAN: &[u8] = &[0, 0, 0, 0, 0xc0, 0, 0, 0];

fn whole() -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    out.extend([0; 8]);
    out.extend(row(&[
        Some(&1i32.to_be_bytes()),
        Some(b"one"),
        Some(NUMBER),
    ]));
    out.extend(row(&[Some(&2i32.to_be_bytes()), None, Some(NAN)]));
    out.extend(row(&[
        Some(&3i32.to_be_bytes()),
        Some("größer".as_bytes()),
        None,
    ]));
    out.extend(row(&[Some(&4i32.to_be_bytes()), Some(b"\xff"), None]));
    out.extend((-1i16).to_be_bytes());
    out
}

/// What is made of a copy that comes in pieces.
fn built(pieces: &[&[u8]]) -> Result<Built, PostgresError> {
    let mut rows = Rows::new(table(), &[0, 1, 2]);
    let mut copied = Copied::new(3);
    for piece in pieces {
        copied.take(piece, &mut |fields| rows.push(fields))?;
    }
    copied.end()?;
    Ok(rows.build())
}

#[test]
fn a_copy_is_the_same_wherever_it_is_cut() {
    let (whole, of) = (whole(), table());
    let mut cuts: Vec<Vec<&[u8]>> = vec![vec![&whole], whole.chunks(1).collect()];
    cuts.extend((0..=whole.len()).map(|at| vec![&whole[..at], &whole[at..]]));
    for pieces in cuts {
        let built = built(&pieces).expect("a copy");
        let cells =
            |row: usize| -> Vec<Cell> { (0..4).map(|at| built.rows.cell(&of, at, row)).collect() };
        let decimal = Cell::Decimal(crate::change::Decimal {
            unscaled: 150,
            scale: 2,
        });
        assert_eq!(
            cells(0),
            [
                Cell::Int(1),
                Cell::Text("one".into()),
                decimal,
                Cell::Unknown
            ]
        );
        assert_eq!(
            cells(1),
            [
                Cell::Int(2),
                Cell::Null,
                Cell::Wide(crate::change::Wide::NaN),
                Cell::Unknown
            ]
        );
        assert_eq!(cells(2)[1..3], [Cell::Text("größer".into()), Cell::Null]);
        assert_eq!(cells(3)[1..3], [Cell::Unknown, Cell::Null]);
        assert_eq!(built.not_held, [(1, 1, "not UTF-8")]);
    }
}

#[test]
fn what_is_no_copy_is_an_error_and_nothing_worse() {
    let whole = whole();
    for end in 0..whole.len() {
        assert!(built(&[&whole[..end]]).is_err(), "cut after {end} bytes");
    }
    let longer = [whole.as_slice(), b"x"].concat();
    assert!(built(&[&longer]).is_err());
    let seed =
        std::env::var("FIRSTBAD_SEED").map_or(20_260_312, |seed| seed.parse().expect("a number"));
    println!("FIRSTBAD_SEED={seed}");
    let mut state: u64 = seed;
    let mut next = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for _ in 0..20_000 {
        let mut damaged = whole.clone();
        for _ in 0..1 + next() % 4 {
            let at = next() % damaged.len();
            damaged[at] = next() as u8;
        }
        let at = next() % damaged.len();
        let _ = built(&[&damaged[..at], &damaged[at..]]);
    }
}
