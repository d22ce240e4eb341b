//! Values in Postgres' binary form, as `COPY (FORMAT binary)` sends them, become cells: the same cells that [`value::parse_text`] makes of
//! their texts.
//!
//! The forms are those of the types' `send` functions in Postgres' source (`src/backend/utils/adt`): integers and IEEE numbers in network
//! order, dates in days and times in microseconds since 2000-01-01, `numeric` in digits to the base of 10,000 (`numeric_send`), arrays
//! with their dimensions (`array_send`), `jsonb` behind a version byte, texts as they are. Types that firstbad keeps as text are asked
//! for as text.

use crate::change::{Cell, DECIMAL_DIGITS_MAX, Decimal, Wide};
use crate::schema::DataType;
use crate::schema::value::{self, uuid_text};

/// Days and microseconds from 1970-01-01 to 2000-01-01, where Postgres' time begins.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// The latest time of a day, in microseconds.
const TIME_MAX: i64 = 86_400_000_000;
/// Postgres allows no more dimensions.
const DIMENSIONS_MAX: usize = 6;

/// Why bytes become no cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    /// They are not what Postgres sends for the type.
    Malformed,
    /// They are a value that firstbad has no place for; its text is refused for the same reason.
    NotHeld(&'static str),
}

use Misfit::{Malformed, NotHeld};

const DATE_RANGE: Misfit = NotHeld("out of range");

/// The cell of a value that is not NULL.
///
/// # Errors
/// When the bytes are wrong, or the value is one that firstbad cannot hold.
pub(crate) fn cell(data_type: &DataType, bytes: &[u8]) -> Result<Cell, Misfit> {
    Ok(match data_type {
        DataType::Bool => match bytes {
            [0] => Cell::Bool(false),
            [1] => Cell::Bool(true),
            _ => return Err(Malformed),
        },
        DataType::Int16 => Cell::Int(i16::from_be_bytes(fixed(bytes)?).into()),
        DataType::Int32 => Cell::Int(i32::from_be_bytes(fixed(bytes)?).into()),
        DataType::Int64 => match bytes.len() {
            // An oid.
            4 => Cell::Int(u32::from_be_bytes(fixed(bytes)?).into()),
            _ => Cell::Int(i64::from_be_bytes(fixed(bytes)?)),
        },
        DataType::Float32 => Cell::Float(one_nan(f32::from_be_bytes(fixed(bytes)?).into())),
        DataType::Float64 => Cell::Float(one_nan(f64::from_be_bytes(fixed(bytes)?))),
        DataType::Numeric { precision_scale } => numeric(data_type, *precision_scale, bytes)?,
        DataType::Bytea => Cell::Bytes(bytes.to_vec()),
        DataType::Date => Cell::Date(match i32::from_be_bytes(fixed(bytes)?) {
            infinite @ (i32::MAX | i32::MIN) => infinite,
            days => days.checked_add(EPOCH_DAYS).ok_or(DATE_RANGE)?,
        }),
        DataType::Time => match i64::from_be_bytes(fixed(bytes)?) {
            micros @ 0..=TIME_MAX => Cell::Time(micros),
            _ => return Err(Malformed),
        },
        DataType::Timestamp | DataType::TimestampTz => {
            Cell::Timestamp(match i64::from_be_bytes(fixed(bytes)?) {
                infinite @ (i64::MAX | i64::MIN) => infinite,
                micros => micros.checked_add(EPOCH_MICROS).ok_or(DATE_RANGE)?,
            })
        }
        DataType::Uuid => Cell::Text(uuid_text(&fixed(bytes)?)),
        DataType::Jsonb => match bytes {
            [1, text @ ..] => text_cell(data_type, text)?,
            _ => return Err(Malformed),
        },
        DataType::Array(_) if !super::catalog::is_binary(data_type) => text_cell(data_type, bytes)?,
        DataType::Array(element) => list(element, bytes)?,
        DataType::Text
        | DataType::Varchar(_)
        | DataType::Char(_)
        | DataType::Json
        | DataType::Enum { .. }
        | DataType::Other(_) => text_cell(data_type, bytes)?,
    })
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Misfit> {
    bytes.try_into().map_err(|_| Malformed)
}

/// As text, all that are not a number are one.
fn one_nan(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}

/// The text of a value that comes as text.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, Misfit> {
    // A database in SQL_ASCII holds whatever it was given.
    let text = std::str::from_utf8(bytes).map_err(|_| NotHeld("not UTF-8"))?;
    match bytes.contains(&0) {
        true => Err(Malformed),
        false => Ok(text),
    }
}

fn text_cell(data_type: &DataType, bytes: &[u8]) -> Result<Cell, Misfit> {
    let text = text(bytes)?;
    value::parse_text(data_type, text).map_err(|error| NotHeld(error.reason))
}

/// Takes numbers from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Misfit> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(head)
    }

    fn int16(&mut self) -> Result<i16, Misfit> {
        Ok(i16::from_be_bytes(fixed(self.take(2)?)?))
    }

    fn int32(&mut self) -> Result<i32, Misfit> {
        Ok(i32::from_be_bytes(fixed(self.take(4)?)?))
    }
}

/// A `numeric` as it is sent.
enum Sent<'a> {
    Number(Digits<'a>),
    /// It is no number.
    Named(Wide),
}

/// A number as it is sent.
struct Digits<'a> {
    /// Groups of four decimal digits, two bytes each.
    groups: &'a [u8],
    /// The power of 10,000 of the first group.
    weight: i32,
    negative: bool,
    /// Decimal digits after the point.
    scale: usize,
}

impl<'a> Digits<'a> {
    fn read(bytes: &'a [u8]) -> Result<Sent<'a>, Misfit> {
        let mut reader = Reader(bytes);
        let count = usize::try_from(reader.int16()?).map_err(|_| Malformed)?;
        let weight = i32::from(reader.int16()?);
        let sign = u16::from_be_bytes(fixed(reader.take(2)?)?);
        let scale = usize::try_from(reader.int16()?).map_err(|_| Malformed)?;
        let negative = match sign {
            0 => false,
            0x4000 => true,
            0xc000 => return Ok(Sent::Named(Wide::NaN)),
            0xd000 => return Ok(Sent::Named(Wide::Infinity)),
            0xf000 => return Ok(Sent::Named(Wide::NegativeInfinity)),
            _ => return Err(Malformed),
        };
        let digits = Digits {
            groups: reader.take(count * 2)?,
            weight,
            negative,
            scale,
        };
        let fits = reader.0.is_empty() && digits.groups().all(|group| group < 10_000);
        if fits {
            Ok(Sent::Number(digits))
        } else {
            Err(Malformed)
        }
    }

    fn groups(&self) -> impl Iterator<Item = u16> {
        let pairs = self.groups.chunks_exact(2);
        pairs.map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
    }

    /// The number where it is small enough; None where its text has to be looked at.
    fn quick(&self) -> Option<Decimal> {
        let scale = u8::try_from(self.scale).ok()?;
        let mut unscaled = self.groups().try_fold(0i128, |sum, group| {
            sum.checked_mul(10_000)?.checked_add(i128::from(group))
        })?;
        let groups = i32::try_from(self.groups.len() / 2).ok()?;
        let power = 4 * (self.weight + 1 - groups) + i32::from(scale);
        let factor = 10i128.checked_pow(power.unsigned_abs())?;
        if power >= 0 {
            unscaled = unscaled.checked_mul(factor)?;
        } else if unscaled % factor == 0 {
            unscaled /= factor;
        } else {
            return None;
        }
        let fits = scale <= DECIMAL_DIGITS_MAX && unscaled < 10i128.pow(38);
        fits.then_some(Decimal {
            unscaled: if self.negative { -unscaled } else { unscaled },
            scale,
        })
    }

    /// As Postgres prints it.
    fn text(&self) -> String {
        let groups: Vec<u16> = self.groups().collect();
        let group = |power: i32| {
            let at = usize::try_from(self.weight - power).ok();
            at.and_then(|at| groups.get(at)).copied().unwrap_or(0)
        };
        let mut out = String::from(if self.negative { "-" } else { "" });
        if self.weight < 0 {
            out.push('0');
        }
        for power in (0..=self.weight).rev() {
            match power == self.weight {
                true => out.push_str(&group(power).to_string()),
                false => out.push_str(&format!("{:04}", group(power))),
            }
        }
        if self.scale > 0 {
            let mut fraction = String::new();
            let mut power = -1;
            while fraction.len() < self.scale {
                fraction.push_str(&format!("{:04}", group(power)));
                power -= 1;
            }
            fraction.truncate(self.scale);
            out.push('.');
            out.push_str(&fraction);
        }
        out
    }
}

fn numeric(
    data_type: &DataType,
    declared: Option<(u16, i16)>,
    bytes: &[u8],
) -> Result<Cell, Misfit> {
    let digits = match Digits::read(bytes)? {
        Sent::Named(wide) => return Ok(Cell::Wide(wide)),
        Sent::Number(digits) => digits,
    };
    let in_place = declared.is_none_or(|(_, scale)| usize::try_from(scale) == Ok(digits.scale));
    if in_place && let Some(quick) = digits.quick() {
        return Ok(Cell::Decimal(quick));
    }
    let text = digits.text();
    value::parse_text(data_type, &text).map_err(|error| NotHeld(error.reason))
}

/// Dimensions, whether there are NULLs, the elements' type, length and lower bound of each dimension, the elements.
fn list(element: &DataType, bytes: &[u8]) -> Result<Cell, Misfit> {
    let mut reader = Reader(bytes);
    let dimensions = usize::try_from(reader.int32()?).map_err(|_| Malformed)?;
    let (_flags, _type) = (reader.int32()?, reader.int32()?);
    if dimensions > DIMENSIONS_MAX {
        return Err(Malformed);
    }
    let mut lengths = Vec::with_capacity(dimensions);
    for _ in 0..dimensions {
        lengths.push(usize::try_from(reader.int32()?).map_err(|_| Malformed)?);
        reader.int32()?;
    }
    let total = lengths
        .iter()
        .try_fold(1usize, |product, length| product.checked_mul(*length))
        .ok_or(Malformed)?;
    let total = if dimensions == 0 { 0 } else { total };
    // Every element says how long it is.
    if total > reader.0.len() / 4 {
        return Err(Malformed);
    }
    let mut cells = Vec::with_capacity(total);
    let mut not_held = None;
    for _ in 0..total {
        match reader.int32()? {
            -1 => cells.push(Cell::Null),
            length => {
                let length = usize::try_from(length).map_err(|_| Malformed)?;
                match cell(element, reader.take(length)?) {
                    Ok(cell) => cells.push(cell),
                    Err(Malformed) => return Err(Malformed),
                    Err(misfit) => not_held = Some(misfit),
                }
            }
        }
    }
    if !reader.0.is_empty() {
        return Err(Malformed);
    }
    if let Some(misfit) = not_held {
        return Err(misfit);
    }
    for length in lengths.iter().skip(1).rev() {
        let mut flat = cells.into_iter();
        let mut nested = Vec::new();
        loop {
            let part: Vec<Cell> = flat.by_ref().take(*length).collect();
            if part.is_empty() {
                break;
            }
            nested.push(Cell::List(part));
        }
        cells = nested;
    }
    Ok(Cell::List(cells))
}

#[cfg(test)]
mod tests;
