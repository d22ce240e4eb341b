//! What happened, and where in history: cells, rows' keys, changes, transactions, positions.
//!
//! These are facts as they were recorded. A [`Cell`] is one of three things: a value, SQL's NULL, or *not known*
//! (invariant 4: not known is never NULL).

use std::cmp::Ordering;
use std::fmt;

/// The ordinal of a transaction in the timeline; 0 is the state before the first one.
pub type Commit = u32;

/// An exact decimal: `unscaled * 10^-scale`.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    /// The digits as an integer.
    pub unscaled: i128,
    /// How many of them stand after the point, 0 to 38.
    pub scale: u8,
}

/// The most decimal digits a [`Decimal`] holds.
pub const DECIMAL_DIGITS_MAX: u8 = 38;

impl Decimal {
    /// Parses `-12.340`, `1e-3`, `.5`. None when it is no number or has more than 38 digits.
    pub fn parse(text: &str) -> Option<Decimal> {
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (negative, digits) = match mantissa.as_bytes().first()? {
            b'-' => (true, &mantissa[1..]),
            b'+' => (false, &mantissa[1..]),
            _ => (false, mantissa),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let mut unscaled: i128 = 0;
        for byte in whole.bytes().chain(fraction.bytes()) {
            if !byte.is_ascii_digit() {
                return None;
            }
            unscaled = unscaled
                .checked_mul(10)?
                .checked_add(i128::from(byte - b'0'))?;
        }
        let mut scale = i64::try_from(fraction.len()).ok()? - i64::from(exponent);
        if scale < 0 {
            if unscaled != 0 {
                unscaled =
                    unscaled.checked_mul(10i128.checked_pow(u32::try_from(-scale).ok()?)?)?;
            }
            scale = 0;
        }
        if negative {
            unscaled = -unscaled;
        }
        let decimal = Decimal {
            unscaled,
            scale: u8::try_from(scale).ok()?,
        };
        (decimal.scale <= DECIMAL_DIGITS_MAX && unscaled.unsigned_abs() < 10u128.pow(38))
            .then_some(decimal)
    }

    /// The same number with another scale; None when digits other than zero would be lost or do not fit.
    pub fn rescale(self, scale: u8) -> Option<Decimal> {
        let unscaled = match scale.cmp(&self.scale) {
            Ordering::Equal => self.unscaled,
            Ordering::Greater => self
                .unscaled
                .checked_mul(10i128.checked_pow(u32::from(scale - self.scale))?)?,
            Ordering::Less => {
                let factor = 10i128.checked_pow(u32::from(self.scale - scale))?;
                if self.unscaled % factor != 0 {
                    return None;
                }
                self.unscaled / factor
            }
        };
        (unscaled.unsigned_abs() < 10u128.pow(38)).then_some(Decimal { unscaled, scale })
    }

    /// Without trailing zeros after the point: equal numbers become identical.
    pub fn normalized(self) -> Decimal {
        let Decimal {
            mut unscaled,
            mut scale,
        } = self;
        while scale > 0 && unscaled % 10 == 0 {
            unscaled /= 10;
            scale -= 1;
        }
        Decimal { unscaled, scale }
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        if self.scale == other.scale {
            return self.unscaled == other.unscaled;
        }
        let (a, b) = (self.normalized(), other.normalized());
        (a.unscaled, a.scale) == (b.unscaled, b.scale)
    }
}

impl Eq for Decimal {}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scale = usize::from(self.scale);
        let digits = format!(
            "{:0>width$}",
            self.unscaled.unsigned_abs(),
            width = scale + 1
        );
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let sign = if self.unscaled < 0 { "-" } else { "" };
        if scale == 0 {
            write!(f, "{sign}{whole}")
        } else {
            write!(f, "{sign}{whole}.{fraction}")
        }
    }
}

/// One value of one column, as it was recorded.
#[derive(Clone, Debug)]
pub enum Cell {
    /// The source did not say (an unchanged TOAST value, a column outside the replica identity, a partial image).
    Unknown,
    /// SQL NULL.
    Null,
    /// A boolean.
    Bool(bool),
    /// Any of Postgres' integers.
    Int(i64),
    /// A `real` or `double precision`, and nothing else.
    Float(f64),
    /// A `numeric`.
    Decimal(Decimal),
    /// Text, and every type that is kept in its text form (uuid, json, enums, intervals, …).
    Text(String),
    /// `bytea`.
    Bytes(Vec<u8>),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since 1970-01-01 00:00 (UTC where the type has a zone).
    Timestamp(i64),
    /// A Postgres array.
    List(Vec<Cell>),
}

impl PartialEq for Cell {
    /// Identity of values as `IS NOT DISTINCT FROM` has it: NULL equals NULL, NaN equals NaN, 1.50 equals 1.5.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Cell::Unknown, Cell::Unknown) | (Cell::Null, Cell::Null) => true,
            (Cell::Bool(a), Cell::Bool(b)) => a == b,
            (Cell::Int(a), Cell::Int(b)) => a == b,
            (Cell::Float(a), Cell::Float(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Cell::Decimal(a), Cell::Decimal(b)) => a == b,
            (Cell::Text(a), Cell::Text(b)) => a == b,
            (Cell::Bytes(a), Cell::Bytes(b)) => a == b,
            (Cell::Date(a), Cell::Date(b)) => a == b,
            (Cell::Time(a), Cell::Time(b)) | (Cell::Timestamp(a), Cell::Timestamp(b)) => a == b,
            (Cell::List(a), Cell::List(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Cell {}

impl std::hash::Hash for Cell {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match self {
            Cell::Unknown | Cell::Null => {}
            Cell::Bool(value) => value.hash(state),
            Cell::Int(value) | Cell::Time(value) | Cell::Timestamp(value) => value.hash(state),
            Cell::Float(value) => {
                let canonical = if value.is_nan() {
                    f64::NAN
                } else {
                    value + 0.0
                };
                canonical.to_bits().hash(state);
            }
            Cell::Decimal(value) => {
                let value = value.normalized();
                (value.unscaled, value.scale).hash(state);
            }
            Cell::Text(value) => value.hash(state),
            Cell::Bytes(value) => value.hash(state),
            Cell::Date(value) => value.hash(state),
            Cell::List(values) => values.hash(state),
        }
    }
}

/// What was done to a row, or to a whole table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// A row came.
    Insert,
    /// A row changed.
    Update,
    /// A row went.
    Delete,
    /// All rows of a table went.
    Truncate,
}

impl Op {
    /// The word used in files and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Op::Insert => "insert",
            Op::Update => "update",
            Op::Delete => "delete",
            Op::Truncate => "truncate",
        }
    }
}

/// A row's image as far as it was recorded: column index (in the table's order) and cell.
pub type Image = Vec<(usize, Cell)>;

/// One row inserted, updated or deleted, or one table truncated.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Index of the table in the schema.
    pub table: usize,
    /// What was done.
    pub op: Op,
    /// The old primary key where the record names it.
    pub key: Option<Image>,
    /// The row before; columns that are not named are not known.
    pub before: Option<Image>,
    /// The row after; columns that are not named are unchanged.
    pub after: Option<Image>,
}

/// A commit's attributes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TransactionMeta {
    /// Start of the commit record, as Postgres prints it (`0/16B3748`).
    pub lsn: Option<String>,
    /// The transaction id.
    pub xid: Option<u64>,
    /// Commit time in microseconds since the epoch, UTC.
    pub time: Option<i64>,
    /// Who wrote: the JSON object that the application sent along.
    pub context: Option<serde_json::Map<String, serde_json::Value>>,
    /// The name of the dated snapshot, where this "transaction" is one.
    pub snapshot: Option<String>,
}

/// The machine's clock, in microseconds since the epoch.
pub fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    })
}

/// The changes of one commit, whole and in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction {
    /// Its ordinal, from 1.
    pub commit: Commit,
    /// Its attributes.
    pub meta: TransactionMeta,
    /// What it did.
    pub changes: Vec<Change>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_and_keep_their_scale() {
        let shown = |text: &str| Decimal::parse(text).map(|d| d.to_string());
        assert_eq!(shown("99.950"), Some("99.950".into()));
        assert_eq!(shown("-0.05"), Some("-0.05".into()));
        assert_eq!(shown("1e3"), Some("1000".into()));
        assert_eq!(shown("1.5E-2"), Some("0.015".into()));
        assert_eq!(shown(".5"), Some("0.5".into()));
        assert_eq!(
            shown("12345678901234567890123456789012345678"),
            Some("12345678901234567890123456789012345678".into())
        );
        assert_eq!(shown("123456789012345678901234567890123456789"), None);
        assert_eq!(shown("1e999999999"), None);
        for bad in ["", "-", ".", "1.2.3", "0x10", "1_000", " 1", "NaN"] {
            assert_eq!(shown(bad), None, "{bad}");
        }
        assert_eq!(Decimal::parse("1.50"), Decimal::parse("1.5"));
        assert_eq!(
            Decimal::parse("1.25")
                .and_then(|d| d.rescale(1))
                .map(|d| d.to_string()),
            None
        );
    }
}
