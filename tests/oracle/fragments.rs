//! The SQL fragments that random rules may hold, each with its meaning in plain Rust; known formats and patterns likewise.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use crate::value::{UNIT, V};
use crate::world::get;

/// A row with its table, read by column names.
#[derive(Clone, Copy)]
pub(crate) struct R<'a> {
    pub(crate) table: usize,
    pub(crate) row: &'a [V],
}

impl<'a> R<'a> {
    pub(crate) fn get(&self, name: &str) -> &'a V {
        get(self.table, self.row, name)
    }
}

/// What a condition says of a row: true, false or NULL.
type Truth = Option<bool>;

/// Comparison as SQL has it: nothing can be said of NULL.
pub(crate) fn compare(a: &V, b: &V) -> Option<Ordering> {
    match (a, b) {
        (V::Null, _) | (_, V::Null) => None,
        (V::Int(_) | V::Dec(_), _) => Some(a.number()?.cmp(&b.number()?)),
        (V::Date(_), V::Stamp(_)) | (V::Stamp(_), V::Date(_)) => {
            Some(a.micros()?.cmp(&b.micros()?))
        }
        _ => Some(a.cmp(b)),
    }
}

fn is(a: &V, order: Ordering, b: &V) -> Truth {
    compare(a, b).map(|found| found == order)
}

fn less(a: &V, b: &V) -> Truth {
    is(a, Ordering::Less, b)
}

fn equal(a: &V, b: &V) -> Truth {
    is(a, Ordering::Equal, b)
}

fn not(a: Truth) -> Truth {
    a.map(|a| !a)
}

fn or(a: Truth, b: Truth) -> Truth {
    match (a, b) {
        (Some(true), _) | (_, Some(true)) => Some(true),
        (Some(false), Some(false)) => Some(false),
        _ => None,
    }
}

fn and(a: Truth, b: Truth) -> Truth {
    not(or(not(a), not(b)))
}

fn truth(value: &V) -> Truth {
    match value {
        V::Bool(value) => Some(*value),
        _ => None,
    }
}

fn text(text: &str) -> V {
    V::Text(text.to_owned())
}

type Condition = (&'static str, fn(R<'_>) -> Truth);

/// Conditions over the columns that every table has.
pub(crate) const CONDITIONS: [Condition; 18] = [
    ("n > 0", |r| less(&V::Int(0), r.get("n"))),
    ("s = 'a'", |r| equal(r.get("s"), &text("a"))),
    ("s <> ''", |r| not(equal(r.get("s"), &text("")))),
    ("q >= 1.00", |r| not(less(r.get("q"), &V::Dec(100)))),
    ("b", |r| truth(r.get("b"))),
    ("not b", |r| not(truth(r.get("b")))),
    ("n is null", |r| Some(r.get("n").is_null())),
    ("s is not null", |r| Some(!r.get("s").is_null())),
    ("t < '1970-01-01T00:00:00Z'", |r| {
        less(r.get("t"), &V::Stamp(0))
    }),
    ("n = 1 or b", |r| {
        or(equal(r.get("n"), &V::Int(1)), truth(r.get("b")))
    }),
    ("n < v", |r| less(r.get("n"), r.get("v"))),
    ("q <> 0 and s <> ''", |r| {
        and(
            not(equal(r.get("q"), &V::Dec(0))),
            not(equal(r.get("s"), &text(""))),
        )
    }),
    ("d >= '1970-01-01'", |r| not(less(r.get("d"), &V::Date(0)))),
    ("n is not distinct from v", |r| {
        Some(r.get("n") == r.get("v"))
    }),
    ("u >= t", |r| not(less(r.get("u"), r.get("t")))),
    ("n in (0, 1, 2)", |r| {
        let one = |n| equal(r.get("n"), &V::Int(n));
        or(or(one(0), one(1)), one(2))
    }),
    ("coalesce(q, 0) < 2.5 -- or so", |r| {
        Some(r.get("q").number().unwrap_or(0) < 5 * UNIT / 2)
    }),
    ("1 = 0", |_| Some(false)),
];

/// What a condition of a random rule means.
pub(crate) fn condition(text: &str) -> fn(R<'_>) -> Truth {
    CONDITIONS
        .iter()
        .find(|(have, _)| *have == text)
        .unwrap_or_else(|| panic!("no condition {text}"))
        .1
}

type Scalar = (&'static str, fn(R<'_>) -> Option<i128>);

/// Numbers of a row, in millionths.
pub(crate) const SCALARS: [Scalar; 7] = [
    ("n", |r| r.get("n").number()),
    ("q", |r| r.get("q").number()),
    ("v", |r| r.get("v").number()),
    ("n + 1", |r| Some(r.get("n").number()? + UNIT)),
    ("q * 2", |r| Some(r.get("q").number()? * 2)),
    ("-n", |r| Some(-r.get("n").number()?)),
    ("n + q", |r| {
        Some(r.get("n").number()? + r.get("q").number()?)
    }),
];

pub(crate) fn scalar(text: &str) -> Option<fn(R<'_>) -> Option<i128>> {
    SCALARS
        .iter()
        .find(|(have, _)| *have == text)
        .map(|(_, meaning)| *meaning)
}

/// A number as a fraction: numerator in millionths, and denominator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ratio(pub i128, pub i128);

impl Ratio {
    pub(crate) const ZERO: Ratio = Ratio(0, 1);

    pub(crate) fn compare(self, other: Ratio) -> Ordering {
        (self.0 * other.1).cmp(&(other.0 * self.1))
    }

    /// Whether two numbers are further apart than so many millionths.
    pub(crate) fn differs(self, other: Ratio, tolerance: i128) -> bool {
        (self.0 * other.1 - other.0 * self.1).abs() > tolerance * self.1 * other.1
    }
}

/// An aggregate call: `sum(q)`, `count(*)`, `count(distinct s)`, `min(child.n)`, `count(child.*)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Aggregate {
    pub(crate) function: String,
    pub(crate) table: Option<String>,
    /// `*` for rows.
    pub(crate) column: String,
    pub(crate) distinct: bool,
}

impl Aggregate {
    pub(crate) fn parse(text: &str) -> Option<Aggregate> {
        let (function, rest) = text.strip_suffix(')')?.split_once('(')?;
        let (distinct, rest) = match rest.strip_prefix("distinct ") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let (table, column) = match rest.split_once('.') {
            Some((table, column)) => (Some(table.to_owned()), column),
            None => (None, rest),
        };
        Some(Aggregate {
            function: function.to_owned(),
            table,
            column: column.to_owned(),
            distinct,
        })
    }

    /// The value over some rows; None is NULL.
    pub(crate) fn over(&self, rows: &[R<'_>]) -> Option<Ratio> {
        let whole = |count: usize| Some(Ratio(i128::try_from(count).expect("few rows") * UNIT, 1));
        if self.column == "*" {
            return whole(rows.len());
        }
        let values: Vec<&V> = rows
            .iter()
            .map(|row| row.get(&self.column))
            .filter(|value| !value.is_null())
            .collect();
        if self.function == "count" {
            let different: BTreeSet<&V> = values.iter().copied().collect();
            return whole(if self.distinct {
                different.len()
            } else {
                values.len()
            });
        }
        let numbers: Vec<i128> = values.iter().filter_map(|value| value.number()).collect();
        let sum = numbers.iter().sum();
        match self.function.as_str() {
            _ if numbers.is_empty() => None,
            "sum" => Some(Ratio(sum, 1)),
            "avg" => Some(Ratio(sum, i128::try_from(numbers.len()).expect("few rows"))),
            "min" => numbers.iter().min().map(|least| Ratio(*least, 1)),
            "max" => numbers.iter().max().map(|most| Ratio(*most, 1)),
            other => panic!("no aggregate {other}"),
        }
    }

    /// Sums and counts of nothing are 0 where parts are compared with a whole.
    pub(crate) fn is_additive(&self) -> bool {
        matches!(self.function.as_str(), "sum" | "count")
    }
}

/// Patterns with what they find.
type Pattern = (&'static str, fn(&str) -> bool);
pub(crate) const PATTERNS: [Pattern; 6] = [
    ("^[a-z]", |text| {
        text.starts_with(|c: char| c.is_ascii_lowercase())
    }),
    ("a", |text| text.contains('a')),
    ("^[0-9]+$", |text| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_digit())
    }),
    ("(?i)^a$", |text| text.eq_ignore_ascii_case("a")),
    ("^.{1,2}$", |text| {
        (1..=2).contains(&text.chars().count()) && !text.contains('\n')
    }),
    ("'", |text| text.contains('\'')),
];

pub(crate) fn pattern(text: &str) -> fn(&str) -> bool {
    PATTERNS
        .iter()
        .find(|(have, _)| *have == text)
        .unwrap_or_else(|| panic!("no pattern {text}"))
        .1
}

/// Which of the texts in random tables have a format; all others have not.
pub(crate) const FORMATS: [(&str, &[&str]); 12] = [
    ("email", &["ann@example.org"]),
    ("uuid", &[]),
    ("url", &[]),
    ("ipv4", &["10.0.0.1"]),
    ("ipv6", &[]),
    ("iso_date", &["2026-03-12"]),
    ("iso_datetime", &[]),
    ("json", &["42", "-7", "4.20"]),
    ("integer", &["42", "-7"]),
    ("decimal", &["42", "-7", "4.20"]),
    ("currency_code", &["EUR"]),
    ("country_code", &["DE"]),
];

pub(crate) fn has_format(format: &str, text: &str) -> bool {
    let of = FORMATS
        .iter()
        .find(|(have, _)| *have == format)
        .unwrap_or_else(|| panic!("no format {format}"));
    of.1.contains(&text)
}
