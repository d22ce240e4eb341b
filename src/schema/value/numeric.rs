//! `numeric`: exact, rounded to its declared scale as Postgres rounds on input.

use super::{NOT_A_NUMBER, Reason, trim};
use crate::change::{Decimal, Digits, NUMERIC_AFTER_MAX, NUMERIC_BEFORE_MAX, Number, Wide};

const TOO_MANY_DIGITS: Reason = "more digits than a numeric has";
const OVERFLOW: Reason = "more digits before the point than declared";
/// Exponents beyond it are of no numeric, and would only cost memory.
const EXPONENT_MAX: i64 = 150_000;

/// Reads a numeric and fits it to `numeric(precision, scale)`.
pub(super) fn parse(text: &str, declared: Option<(u16, i16)>) -> Result<Number, Reason> {
    let text = trim(text);
    if let Some(quick) = Decimal::parse(text) {
        match declared {
            None => return Ok(Number::Decimal(quick)),
            Some((precision, scale)) => {
                let in_place = i16::from(quick.scale) == scale;
                let limit = 10u128
                    .checked_pow(u32::from(precision))
                    .unwrap_or(u128::MAX);
                if in_place && quick.unscaled.unsigned_abs() < limit {
                    return Ok(Number::Decimal(quick));
                }
            }
        }
    }
    if let Some(number) = named(text) {
        return match (&number, declared) {
            (Wide::NaN, _) | (_, None) => Ok(Number::Wide(number)),
            _ => Err("an infinite value, which a declared precision excludes"),
        };
    }
    let mut read = Read::of(text)?;
    if let Some((precision, scale)) = declared {
        read.round(i64::from(scale));
        read.check_precision(i64::from(precision), i64::from(scale))?;
    }
    read.number(declared.map_or(0, |(_, scale)| i64::from(scale)))
}

/// What is no number has a name, in any case of letters; infinity also a sign.
fn named(text: &str) -> Option<Wide> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_infinite =
        unsigned.eq_ignore_ascii_case("infinity") || unsigned.eq_ignore_ascii_case("inf");
    match () {
        () if text.eq_ignore_ascii_case("nan") => Some(Wide::NaN),
        () if !is_infinite => None,
        () if text.starts_with('-') => Some(Wide::NegativeInfinity),
        () => Some(Wide::Infinity),
    }
}

/// A number as its digits: `0.digits` times ten to the power `digits.len() - scale`, without leading zeros.
struct Read {
    negative: bool,
    digits: Vec<u8>,
    scale: i64,
}

impl Read {
    fn of(text: &str) -> Result<Read, Reason> {
        let lower = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (mantissa, exponent) = match lower.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, read_exponent(exponent)?),
            None => (lower, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = whole
            .bytes()
            .chain(fraction.bytes())
            .all(|b| b.is_ascii_digit());
        if !all_digits || (whole.is_empty() && fraction.is_empty()) {
            return Err(NOT_A_NUMBER);
        }
        let digits: Vec<u8> = whole
            .bytes()
            .chain(fraction.bytes())
            .map(|b| b - b'0')
            .skip_while(|&d| d == 0)
            .collect();
        let fraction_len = i64::try_from(fraction.len()).map_err(|_| TOO_MANY_DIGITS)?;
        Ok(Read {
            negative: text.starts_with('-'),
            digits,
            scale: fraction_len - exponent,
        })
    }

    /// Cuts to a scale, half away from zero.
    fn round(&mut self, scale: i64) {
        let cut = self.scale - scale;
        if cut <= 0 {
            return;
        }
        self.scale = scale;
        let Some(keep) = usize::try_from(cut)
            .ok()
            .and_then(|cut| self.digits.len().checked_sub(cut))
        else {
            self.digits.clear();
            return;
        };
        let up = self.digits.get(keep).is_some_and(|&d| d >= 5);
        self.digits.truncate(keep);
        if !up {
            return;
        }
        for digit in self.digits.iter_mut().rev() {
            if *digit < 9 {
                *digit += 1;
                return;
            }
            *digit = 0;
        }
        self.digits.insert(0, 1);
    }

    fn check_precision(&self, precision: i64, scale: i64) -> Result<(), Reason> {
        let digits = i64::try_from(self.digits.len()).map_err(|_| OVERFLOW)?;
        let fits = self.digits.is_empty() || digits + (scale - self.scale) <= precision;
        if fits { Ok(()) } else { Err(OVERFLOW) }
    }

    /// With at least `pad_to` digits after the point, as far as there is room.
    fn number(self, pad_to: i64) -> Result<Number, Reason> {
        let count = i64::try_from(self.digits.len()).map_err(|_| TOO_MANY_DIGITS)?;
        let exponent = count - self.scale;
        let zeros = self.digits.iter().rev().take_while(|&&d| d == 0).count() as i64;
        let is_zero = self.digits.is_empty();
        let (before, after) = (i64::from(NUMERIC_BEFORE_MAX), i64::from(NUMERIC_AFTER_MAX));
        if !is_zero && (exponent > before || self.scale - zeros > after) {
            return Err(TOO_MANY_DIGITS);
        }
        let exponent = if is_zero { 0 } else { exponent };
        let exponent = i32::try_from(exponent).map_err(|_| TOO_MANY_DIGITS)?;
        let shown = self.scale.max(pad_to).clamp(0, after);
        let shown = u32::try_from(shown).map_err(|_| TOO_MANY_DIGITS)?;
        Ok(Digits::new(self.negative, &self.digits, exponent, shown).number())
    }
}

fn read_exponent(text: &str) -> Result<i64, Reason> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NOT_A_NUMBER);
    }
    let value = text.parse::<i64>().map_err(|_| TOO_MANY_DIGITS)?;
    if value.abs() > EXPONENT_MAX {
        Err(TOO_MANY_DIGITS)
    } else {
        Ok(value)
    }
}
