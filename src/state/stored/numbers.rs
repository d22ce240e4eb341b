//! Columns of numbers: decimals of one scale, or the text of each.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, StringBuilder};
use datafusion::arrow::datatypes::{DataType as ArrowType, Decimal128Type};

use crate::change::{Cell, DECIMAL_DIGITS_MAX, Decimal};

/// Decimals of at most so many digits take half of the room in Parquet.
const NARROW_DIGITS: u8 = 18;

/// The text in which a number is kept; None for what is no number.
pub(super) fn text(cell: &Cell) -> Option<String> {
    match cell {
        Cell::Decimal(value) => Some(value.to_string()),
        Cell::Wide(value) => Some(value.short_text()),
        _ => None,
    }
}

/// Numbers as texts; nulls for what is none.
pub(super) fn texts(cells: impl Iterator<Item = Cell>) -> ArrayRef {
    let mut builder = StringBuilder::new();
    cells.for_each(|cell| builder.append_option(text(&cell)));
    Arc::new(builder.finish())
}

/// Numbers in the form that has room for all of them.
pub(super) fn array(cells: impl ExactSizeIterator<Item = Cell>) -> ArrayRef {
    let cells: Vec<Cell> = cells.collect();
    let mut scales = cells.iter().map(|cell| match cell {
        Cell::Decimal(value) => Some(value.scale),
        Cell::Wide(_) => None,
        _ => Some(0),
    });
    let scale: Option<u8> = scales.try_fold(0, |most, scale| Some(most.max(scale?)));
    let unscaled = |cell: &Cell| match cell {
        Cell::Decimal(value) => Some(Some(value.rescale(scale?)?.unscaled)),
        _ => Some(None),
    };
    let digits: Option<Vec<Option<i128>>> = cells.iter().map(unscaled).collect();
    match (digits, scale.and_then(|scale| i8::try_from(scale).ok())) {
        (Some(digits), Some(scale)) => {
            with_precision(&Decimal128Array::from(digits), DECIMAL_DIGITS_MAX, scale)
        }
        _ => texts(cells.into_iter()),
    }
}

/// Arrays of one column in one form: decimals of different scales on the largest one where all have a place on it, else texts. Arrays
/// of other types are left as they are.
pub(super) fn in_one_form(arrays: Vec<ArrayRef>) -> Vec<ArrayRef> {
    let scale_of = |array: &ArrayRef| match array.data_type() {
        ArrowType::Decimal128(_, scale) => Some(*scale),
        _ => None,
    };
    let Some(scale) = arrays.iter().filter_map(scale_of).max() else {
        return arrays;
    };
    let on_it = |array: &ArrayRef| match scale_of(array) {
        Some(own) if own == scale => Some(array.clone()),
        _ => rescaled(array.as_primitive_opt()?, scale),
    };
    let one: Option<Vec<ArrayRef>> = arrays.iter().map(on_it).collect();
    one.unwrap_or_else(|| arrays.iter().map(as_texts).collect())
}

/// The same decimals on a larger scale; None where one has no place on it.
fn rescaled(array: &Decimal128Array, scale: i8) -> Option<ArrayRef> {
    let (own, to) = (u8::try_from(array.scale()).ok()?, u8::try_from(scale).ok()?);
    let rescale = |unscaled| {
        let decimal = Decimal {
            unscaled,
            scale: own,
        };
        Ok(decimal.rescale(to).ok_or(())?.unscaled)
    };
    let array: Result<Decimal128Array, ()> = array.try_unary(rescale);
    Some(with_precision(&array.ok()?, DECIMAL_DIGITS_MAX, scale))
}

fn as_texts(array: &ArrayRef) -> ArrayRef {
    let ArrowType::Decimal128(_, scale) = array.data_type() else {
        return array.clone();
    };
    let scale = u8::try_from(*scale).unwrap_or(0);
    let digits = array.as_primitive::<Decimal128Type>().iter();
    texts(digits.map(|digits| match digits {
        Some(unscaled) => Cell::Decimal(Decimal { unscaled, scale }),
        None => Cell::Null,
    }))
}

fn with_precision(array: &Decimal128Array, precision: u8, scale: i8) -> ArrayRef {
    let array = array.clone().with_precision_and_scale(precision, scale);
    Arc::new(array.expect("a scale from 0 to the precision"))
}

/// Decimals whose digits are few are written with half of the room.
pub(super) fn narrowed(array: &ArrayRef) -> ArrayRef {
    let ArrowType::Decimal128(_, scale) = array.data_type() else {
        return array.clone();
    };
    let digits = array.as_primitive::<Decimal128Type>();
    let limit = 10u128.pow(u32::from(NARROW_DIGITS));
    let fits = digits
        .iter()
        .flatten()
        .all(|value| value.unsigned_abs() < limit);
    match fits && *scale <= NARROW_DIGITS as i8 {
        true => with_precision(digits, NARROW_DIGITS, *scale),
        false => array.clone(),
    }
}

/// The other way round.
pub(super) fn widened(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        ArrowType::Decimal128(_, scale) => {
            let digits = array.as_primitive::<Decimal128Type>();
            with_precision(digits, DECIMAL_DIGITS_MAX, *scale)
        }
        _ => array.clone(),
    }
}
