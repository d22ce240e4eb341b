//! Whether two cells of two columns hold the same value, exactly.

use std::cmp::Ordering;

use crate::change::{Cell, Decimal};
use crate::schema::DataType;
use crate::schema::value::{canonical_json, parse_number, to_text};

/// How the cells of two columns are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// The types are of one family: cell against cell; decimals by value.
    Exact,
    /// Documents, by their meaning.
    Json,
    /// Different types of numbers, by value.
    Number,
    /// Types that have only their text in common.
    Text,
}

/// What comparing found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The same value.
    Same,
    /// Two values.
    Different,
    /// At least one of them is not known.
    NotKnown,
}

/// Types of one family hold the same kind of cell.
#[derive(PartialEq, Eq)]
enum Family<'a> {
    Int,
    Float(bool),
    Numeric,
    Text,
    Json,
    Stamp,
    Array(Box<Family<'a>>),
    Other(&'a DataType),
}

fn family(data_type: &DataType) -> Family<'_> {
    match data_type {
        DataType::Int16 | DataType::Int32 | DataType::Int64 => Family::Int,
        DataType::Float32 => Family::Float(false),
        DataType::Float64 => Family::Float(true),
        DataType::Numeric { .. } => Family::Numeric,
        DataType::Text
        | DataType::Varchar(_)
        | DataType::Char(_)
        | DataType::Enum { .. }
        | DataType::Uuid
        | DataType::Other(_) => Family::Text,
        DataType::Json | DataType::Jsonb => Family::Json,
        DataType::Timestamp | DataType::TimestampTz => Family::Stamp,
        DataType::Array(element) => Family::Array(Box::new(family(element))),
        other => Family::Other(other),
    }
}

impl Manner {
    /// How columns of these types are compared.
    pub(super) fn of(a: &DataType, b: &DataType) -> Self {
        use Family as F;
        match (family(a), family(b)) {
            (F::Json, F::Json | F::Text) | (F::Text, F::Json) => Manner::Json,
            (a, b) if a == b => Manner::Exact,
            (F::Int | F::Float(_) | F::Numeric, F::Int | F::Float(_) | F::Numeric) => {
                Manner::Number
            }
            _ => Manner::Text,
        }
    }

    /// Compares a cell with one of another column.
    pub(super) fn compare(self, a: (&DataType, &Cell), b: (&DataType, &Cell)) -> Found {
        let same = match (a.1, b.1) {
            (Cell::Unknown, _) | (_, Cell::Unknown) => return Found::NotKnown,
            (Cell::Null, Cell::Null) => true,
            (Cell::Null, _) | (_, Cell::Null) => false,
            (left, right) if self == Manner::Exact || (self == Manner::Json && left == right) => {
                left == right
            }
            (left, right) => self.plain(a.0, left) == self.plain(b.0, right),
        };
        if same { Found::Same } else { Found::Different }
    }

    /// The cell in a form that is equal for equal values.
    pub(super) fn plain(self, data_type: &DataType, cell: &Cell) -> Cell {
        match (self, cell) {
            (_, Cell::Unknown | Cell::Null) | (Manner::Exact, _) => cell.clone(),
            (Manner::Json, Cell::Text(text)) => Cell::Text(canonical_json(text)),
            (Manner::Number, Cell::Int(value)) => Cell::Decimal(Decimal {
                unscaled: i128::from(*value),
                scale: 0,
            }),
            (Manner::Number, Cell::Float(_)) => to_text(data_type, cell)
                .and_then(|text| parse_number(&text).ok())
                .map_or(cell.clone(), Cell::from),
            (Manner::Number | Manner::Json, _) => cell.clone(),
            (Manner::Text, _) => to_text(data_type, cell).map_or(Cell::Null, Cell::Text),
        }
    }
}

/// The order in which rows are shown: NULL last, what is not known after it.
pub(super) fn order(a: &Cell, b: &Cell) -> Ordering {
    match (a, b) {
        (Cell::Bool(a), Cell::Bool(b)) => a.cmp(b),
        (Cell::Int(a), Cell::Int(b)) => a.cmp(b),
        (Cell::Float(a), Cell::Float(b)) => a.total_cmp(b),
        (Cell::Decimal(_) | Cell::Wide(_), Cell::Decimal(_) | Cell::Wide(_)) => {
            a.number_key().cmp(&b.number_key())
        }
        (Cell::Text(a), Cell::Text(b)) => a.cmp(b),
        (Cell::Bytes(a), Cell::Bytes(b)) => a.cmp(b),
        (Cell::Date(a), Cell::Date(b)) => a.cmp(b),
        (Cell::Time(a), Cell::Time(b)) | (Cell::Timestamp(a), Cell::Timestamp(b)) => a.cmp(b),
        (Cell::List(a), Cell::List(b)) => a
            .iter()
            .zip(b)
            .map(|(a, b)| order(a, b))
            .find(|found| found.is_ne())
            .unwrap_or_else(|| a.len().cmp(&b.len())),
        (a, b) => rank(a).cmp(&rank(b)),
    }
}

fn rank(cell: &Cell) -> u8 {
    match cell {
        Cell::Decimal(_) | Cell::Wide(_) => 0,
        Cell::Float(_) => 1,
        Cell::Null => 3,
        Cell::Unknown => 4,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Cell {
        Cell::Decimal(Decimal::parse(text).expect("a number"))
    }

    fn same(a: &str, b: &str) -> bool {
        canonical_json(a) == canonical_json(b)
    }

    #[test]
    fn documents_are_compared_by_meaning_and_exactly() {
        let equal = [
            (
                "{\"a\": 1, \"b\": [true, null]}",
                "{\"b\":[true,null],\"a\":1.0}",
            ),
            ("1e2", "100"),
            ("\"\\u0061\"", "\"a\""),
            ("[]", "[ ]"),
            ("{\"a\": 1, \"a\": 2}", "{\"a\": 2}"),
            ("-0", "0.00"),
        ];
        for (a, b) in equal {
            assert!(same(a, b), "{a} {b}");
        }
        let different = [
            ("{\"a\": 1}", "{\"a\": 1, \"b\": 1}"),
            ("[1, 2]", "[2, 1]"),
            ("12345678901234567890123", "12345678901234567890124"),
            ("null", "false"),
            ("1", "\"1\""),
            ("{\"a\": 1", "{\"a\":1"),
        ];
        for (a, b) in different {
            assert!(!same(a, b), "{a} {b}");
        }
        let deep = |inner: &str| format!("{}{inner}{}", "[".repeat(5_000), "]".repeat(5_000));
        assert!(!same(&deep("1"), &deep("2")));
    }

    #[test]
    fn numbers_of_different_types_are_compared_by_value() {
        let numeric = DataType::Numeric {
            precision_scale: None,
        };
        let found = |a: (&DataType, Cell), b: (&DataType, Cell)| {
            Manner::of(a.0, b.0).compare((a.0, &a.1), (b.0, &b.1))
        };
        let (int, double, real) = (DataType::Int64, DataType::Float64, DataType::Float32);
        let equal = [
            ((&numeric, decimal("1.0")), (&numeric, decimal("1.00"))),
            ((&int, Cell::Int(1)), (&numeric, decimal("1.00"))),
            ((&double, Cell::Float(0.1)), (&numeric, decimal("0.1"))),
            (
                (&real, Cell::Float(f64::from(0.1f32))),
                (&double, Cell::Float(0.1)),
            ),
            (
                (&double, Cell::Float(f64::NAN)),
                (&double, Cell::Float(f64::NAN)),
            ),
            ((&int, Cell::Null), (&numeric, Cell::Null)),
            (
                (&int, Cell::Int(7)),
                (&DataType::Text, Cell::Text("7".into())),
            ),
        ];
        for (a, b) in equal {
            assert_eq!(found(a.clone(), b.clone()), Found::Same, "{a:?} {b:?}");
        }
        assert_eq!(
            found(
                (&int, Cell::Int(i64::MAX)),
                (&double, Cell::Float(i64::MAX as f64))
            ),
            Found::Different
        );
        assert_eq!(
            found((&int, Cell::Null), (&int, Cell::Int(0))),
            Found::Different
        );
        assert_eq!(
            found((&int, Cell::Unknown), (&int, Cell::Unknown)),
            Found::NotKnown
        );
    }

    #[test]
    fn keys_are_in_the_order_of_their_values() {
        let mut cells = [
            Cell::Null,
            decimal("10"),
            decimal("-1.5"),
            decimal("-1.25"),
            decimal("9.99"),
            decimal("0.00000000000000000000000000000000000001"),
        ];
        cells.sort_by(order);
        let shown: Vec<String> = cells
            .iter()
            .map(|cell| match cell {
                Cell::Decimal(value) => value.to_string(),
                _ => "NULL".into(),
            })
            .collect();
        assert_eq!(
            shown,
            [
                "-1.5",
                "-1.25",
                "0.00000000000000000000000000000000000001",
                "9.99",
                "10",
                "NULL"
            ]
        );
    }
}
