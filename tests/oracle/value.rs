//! Values as the oracle has them: plain, ordered as keys are (NULL last), shown as CONTRACT section 4 says.

use chrono::{DateTime, NaiveDate, TimeDelta};
use firstbad::change::{Cell, Decimal};
use serde_json::Value;

/// Denominator of [`V::number`]: six digits after the point are enough for every constant of a random rule.
pub(crate) const UNIT: i128 = 1_000_000;

/// One value. The order of the variants puts NULL behind everything; a column holds one kind only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum V {
    Bool(bool),
    Int(i64),
    /// Hundredths.
    Dec(i64),
    Text(String),
    /// Days since 1970-01-01.
    Date(i32),
    /// Microseconds since the epoch, UTC.
    Stamp(i64),
    /// A timestamp without a zone.
    Local(i64),
    Null,
}

impl V {
    pub(crate) fn is_null(&self) -> bool {
        *self == V::Null
    }

    /// The number in millionths; None for NULL.
    pub(crate) fn number(&self) -> Option<i128> {
        match self {
            V::Int(value) => Some(i128::from(*value) * UNIT),
            V::Dec(value) => Some(i128::from(*value) * (UNIT / 100)),
            V::Null => None,
            other => panic!("{other:?} is no number"),
        }
    }

    /// Microseconds since the epoch; a date is its midnight; None for NULL.
    pub(crate) fn micros(&self) -> Option<i64> {
        match self {
            V::Date(days) => Some(i64::from(*days) * 86_400_000_000),
            V::Stamp(micros) => Some(*micros),
            V::Null => None,
            other => panic!("{other:?} is no time"),
        }
    }

    /// The text of texts and numbers; None for NULL.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            V::Int(value) => Some(value.to_string()),
            V::Dec(value) => {
                let sign = if *value < 0 { "-" } else { "" };
                Some(format!(
                    "{sign}{}.{:02}",
                    value.abs() / 100,
                    value.abs() % 100
                ))
            }
            V::Text(text) => Some(text.clone()),
            V::Null => None,
            other => panic!("the text form of {other:?} is nobody's business here"),
        }
    }

    pub(crate) fn json(&self) -> Value {
        match self {
            V::Null => Value::Null,
            V::Bool(value) => Value::Bool(*value),
            V::Int(value) => Value::from(*value),
            V::Dec(_) | V::Text(_) => Value::from(self.text()),
            V::Date(days) => Value::from(date_text(*days)),
            V::Stamp(micros) => Value::from(stamp_text(*micros) + "Z"),
            V::Local(micros) => Value::from(stamp_text(*micros)),
        }
    }

    pub(crate) fn cell(&self) -> Cell {
        match self {
            V::Null => Cell::Null,
            V::Bool(value) => Cell::Bool(*value),
            V::Int(value) => Cell::Int(*value),
            V::Dec(value) => Cell::Decimal(Decimal {
                unscaled: i128::from(*value),
                scale: 2,
            }),
            V::Text(text) => Cell::Text(text.clone()),
            V::Date(days) => Cell::Date(*days),
            V::Stamp(micros) | V::Local(micros) => Cell::Timestamp(*micros),
        }
    }
}

pub(crate) fn date_text(days: i32) -> String {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a date");
    (epoch + TimeDelta::days(i64::from(days)))
        .format("%Y-%m-%d")
        .to_string()
}

/// RFC 3339 without a zone, with as many groups of three digits as are needed.
pub(crate) fn stamp_text(micros: i64) -> String {
    let time = DateTime::from_timestamp_micros(micros).expect("a time near 1970");
    let format = match micros.rem_euclid(1_000_000) {
        0 => "%Y-%m-%dT%H:%M:%S",
        rest if rest % 1000 == 0 => "%Y-%m-%dT%H:%M:%S%.3f",
        _ => "%Y-%m-%dT%H:%M:%S%.6f",
    };
    time.format(format).to_string()
}

/// A decimal text of a rule in millionths.
pub(crate) fn millionths(text: &str) -> i128 {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let fraction = format!("{fraction:0<6}");
    assert_eq!(
        fraction.len(),
        6,
        "random rules have at most six digits after the point: {text}"
    );
    let parse = |part: &str| part.parse::<i128>().expect("digits");
    sign * (parse(whole) * UNIT + parse(&fraction))
}
