//! What happened, and where in history: cells, rows' keys, changes, transactions, positions.
//!
//! These are facts as they were recorded. A [`Cell`] is one of three things: a value, SQL's NULL, or *not known*
//! (invariant 4: not known is never NULL).

mod numeric;

pub use numeric::{
    DECIMAL_DIGITS_MAX, Decimal, Digits, NUMERIC_AFTER_MAX, NUMERIC_BEFORE_MAX, Number, Wide,
};

/// The ordinal of a transaction in the timeline; 0 is the state before the first one.
pub type Commit = u32;

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
    /// A `numeric` that is no decimal of 38 digits.
    Wide(Wide),
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
            (Cell::Wide(a), Cell::Wide(b)) => a == b,
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

impl Cell {
    /// Bytes in the order of numbers, for a `numeric`; None for any other cell. See [`Number::put_key`].
    pub fn number_key(&self) -> Option<Vec<u8>> {
        let mut key = Vec::new();
        match self {
            Cell::Decimal(value) => value.put_key(&mut key),
            Cell::Wide(value) => value.put_key(&mut key),
            _ => return None,
        }
        Some(key)
    }
}

impl From<Number> for Cell {
    fn from(number: Number) -> Cell {
        match number {
            Number::Decimal(value) => Cell::Decimal(value),
            Number::Wide(value) => Cell::Wide(value),
        }
    }
}

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
            Cell::Wide(value) => value.hash(state),
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
