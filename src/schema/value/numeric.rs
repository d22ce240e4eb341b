//! `numeric`: exact, rounded to its declared scale as Postgres rounds on input.

use super::{NOT_A_NUMBER, Reason, trim};
use crate::change::{DECIMAL_DIGITS_MAX, Decimal};

const TOO_MANY_DIGITS: Reason = "more than 38 digits";
const OVERFLOW: Reason = "more digits before the point than declared";
/// Postgres refuses more than this many digits on either side of the point; exponents beyond it would only cost memory.
const EXPONENT_MAX: i64 = 150_000;

/// Reads a numeric and fits it to `numeric(precision, scale)`.
pub(super) fn parse(text: &str, declared: Option<(u16, i16)>) -> Result<Decimal, Reason> {
    let text = trim(text);
    if let Some(quick) = Decimal::parse(text) {
        match declared {
            None => return Ok(quick),
            Some((precision, scale)) => {
                let in_place = i16::from(quick.scale) == scale;
                let limit = 10u128
                    .checked_pow(u32::from(precision))
                    .unwrap_or(u128::MAX);
                if in_place && quick.unscaled.unsigned_abs() < limit {
                    return Ok(quick);
                }
            }
        }
    }
    let mut digits = Digits::read(text)?;
    if let Some((precision, scale)) = declared {
        digits.round(i64::from(scale));
        digits.check_precision(i64::from(precision), i64::from(scale))?;
    }
    digits.into_decimal(declared.map_or(0, |(_, scale)| i64::from(scale)))
}

/// A number as its digits: `0.digits` times ten to the power `digits.len() - scale`, without leading zeros.
struct Digits {
    negative: bool,
    digits: Vec<u8>,
    scale: i64,
}

impl Digits {
    fn read(text: &str) -> Result<Digits, Reason> {
        let lower = text.strip_prefix(['-', '+']).unwrap_or(text);
        if lower.eq_ignore_ascii_case("nan") {
            return Err("numeric NaN cannot be represented");
        }
        if lower.eq_ignore_ascii_case("infinity") || lower.eq_ignore_ascii_case("inf") {
            return Err("numeric Infinity cannot be represented");
        }
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
        Ok(Digits {
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

    /// With at least `pad_to` digits after the point, as far as they fit.
    fn into_decimal(mut self, pad_to: i64) -> Result<Decimal, Reason> {
        let max = i64::from(DECIMAL_DIGITS_MAX);
        if self.digits.is_empty() {
            self.scale = self.scale.max(pad_to).clamp(0, max);
        }
        while self.scale > 0 && (self.scale > max || self.digits.len() > max as usize) {
            if self.digits.pop_if(|last| *last == 0).is_none() {
                return Err(TOO_MANY_DIGITS);
            }
            self.scale -= 1;
        }
        while self.scale < pad_to.min(max) && self.digits.len() < max as usize {
            self.digits.push(0);
            self.scale += 1;
        }
        while self.scale < 0 {
            if self.digits.len() >= max as usize {
                return Err(TOO_MANY_DIGITS);
            }
            self.digits.push(0);
            self.scale += 1;
        }
        if self.digits.len() > max as usize {
            return Err(TOO_MANY_DIGITS);
        }
        let value = self
            .digits
            .iter()
            .fold(0i128, |sum, &d| sum * 10 + i128::from(d));
        Ok(Decimal {
            unscaled: if self.negative { -value } else { value },
            scale: u8::try_from(self.scale).map_err(|_| TOO_MANY_DIGITS)?,
        })
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
