//! `numeric` values of any size: decimals of up to 38 digits, and the few that are wider.

mod key;

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};

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

/// The most digits that a `numeric` has before the point.
pub const NUMERIC_BEFORE_MAX: i32 = 131_072;

/// The most digits that a `numeric` has after the point.
pub const NUMERIC_AFTER_MAX: i32 = 16_383;

/// A `numeric` that no [`Decimal`] holds: not a number, infinite, or a number of more than 38 digits.
///
/// It takes no more memory than its digits: `1e131071` has one.
#[derive(Clone, Debug)]
pub enum Wide {
    /// Not a number. Postgres has it equal to itself, and above all others.
    NaN,
    /// Above all numbers.
    Infinity,
    /// Below all numbers.
    NegativeInfinity,
    /// A number.
    Finite(Digits),
}

/// A number of any size: `±0.digits * 10^exponent`.
#[derive(Clone, Debug)]
pub struct Digits {
    negative: bool,
    /// 0 to 9 each, without zeros before and behind; none where the number is zero.
    digits: Box<[u8]>,
    exponent: i32,
    /// How many digits are shown after the point: those that are there, or more.
    scale: u32,
}

/// What a `numeric` may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Number {
    /// A number of at most 38 digits.
    Decimal(Decimal),
    /// Any other.
    Wide(Wide),
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    /// As Postgres has it: infinities at the ends, NaN above them.
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |number: &Number| {
            let mut key = Vec::new();
            number.put_key(&mut key);
            key
        };
        key(self).cmp(&key(other))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Decimal(value) => value.fmt(f),
            Number::Wide(value) => value.fmt(f),
        }
    }
}

impl Digits {
    /// `±0.digits * 10^exponent`, shown with at least `scale` digits after the point.
    ///
    /// # Panics
    /// Where an exponent and a count of digits are beyond any `numeric`, a thousand times.
    pub fn new(negative: bool, digits: &[u8], exponent: i32, scale: u32) -> Digits {
        let zeros = digits.iter().take_while(|&&digit| digit == 0).count();
        let end = digits.iter().rposition(|&digit| digit != 0);
        let digits = &digits[zeros..end.map_or(zeros, |end| end + 1)];
        let count = |len: usize| i32::try_from(len).expect("fewer than 2^31 digits");
        let exponent = exponent - count(zeros);
        let after = count(digits.len()) - exponent;
        let needed = u32::try_from(after).ok().filter(|_| !digits.is_empty());
        Digits {
            negative,
            digits: digits.into(),
            exponent,
            scale: scale.max(needed.unwrap_or(0)),
        }
    }

    /// The number: a decimal where it is one, shown with as many zeros after the point as were asked for and have room.
    pub fn number(self) -> Number {
        match self.decimal() {
            Some(decimal) => Number::Decimal(decimal),
            None => Number::Wide(Wide::Finite(self)),
        }
    }

    fn decimal(&self) -> Option<Decimal> {
        let max = i32::from(DECIMAL_DIGITS_MAX);
        let shown = i32::try_from(self.scale).unwrap_or(max).min(max);
        let count = i32::try_from(self.digits.len()).ok()?;
        // Digits after the point, and before it.
        let (after, before) = ((count - self.exponent).max(0), self.exponent.max(0));
        if count == 0 {
            let scale = u8::try_from(shown).ok()?;
            return Some(Decimal { unscaled: 0, scale });
        }
        if count > max || after > max || before > max {
            return None;
        }
        let scale = shown.min(max - before).max(after);
        let zeros = u32::try_from(self.exponent + scale - count).ok()?;
        let digits = self.digits.iter();
        let digits = digits.fold(0i128, |sum, &digit| sum * 10 + i128::from(digit));
        let unscaled = digits.checked_mul(10i128.checked_pow(zeros)?)?;
        Some(Decimal {
            unscaled: if self.negative { -unscaled } else { unscaled },
            scale: u8::try_from(scale).ok()?,
        })
    }

    /// Whether it is below zero, its digits (0 to 9 each), and where the point stands: `0.digits * 10^exponent`.
    pub fn parts(&self) -> (bool, &[u8], i32) {
        (self.negative, &self.digits, self.exponent)
    }

    /// Without an exponent.
    fn plain(&self) -> String {
        let mut out = String::from(if self.negative { "-" } else { "" });
        let digit = |place: i64| {
            let at = usize::try_from(place).ok();
            let digit = at.and_then(|at| self.digits.get(at));
            char::from(b'0' + digit.copied().unwrap_or(0))
        };
        let exponent = i64::from(self.exponent);
        if exponent <= 0 {
            out.push('0');
        }
        out.extend((0..exponent).map(digit));
        if self.scale > 0 {
            out.push('.');
            out.extend((exponent..exponent + i64::from(self.scale)).map(digit));
        }
        out
    }
}

/// Postgres' text for what is no number.
const NAMES: [(&str, Wide); 3] = [
    ("NaN", Wide::NaN),
    ("Infinity", Wide::Infinity),
    ("-Infinity", Wide::NegativeInfinity),
];

impl fmt::Display for Wide {
    /// As Postgres prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wide::Finite(digits) => f.write_str(&digits.plain()),
            other => {
                let name = NAMES.iter().find(|(_, named)| named == other);
                f.write_str(name.map_or("", |(name, _)| name))
            }
        }
    }
}

impl Wide {
    /// A text that is read as the same value, and is short where the value is: `1e131071`.
    pub fn short_text(&self) -> String {
        let Wide::Finite(digits) = self else {
            return self.to_string();
        };
        let count = digits.digits.len() as i64;
        let exponent = i64::from(digits.exponent);
        // With so many zeros the exponent is shorter, and says how many digits are to be shown.
        let padded = exponent.unsigned_abs().saturating_sub(count.unsigned_abs()) > 20;
        if !padded || i64::from(digits.scale) != (count - exponent).max(0) {
            return self.to_string();
        }
        let sign = if digits.negative { "-" } else { "" };
        let shown = digits.digits.iter();
        let shown: String = shown.map(|digit| char::from(b'0' + digit)).collect();
        format!("{sign}{shown}e{}", exponent - count)
    }

    /// What is compared: how many digits are shown says nothing.
    fn value(&self) -> (u8, bool, &[u8], i32) {
        match self {
            Wide::NegativeInfinity => (0, false, &[], 0),
            Wide::Finite(digits) => (1, digits.negative, &digits.digits, digits.exponent),
            Wide::Infinity => (2, false, &[], 0),
            Wide::NaN => (3, false, &[], 0),
        }
    }

    /// The bytes of memory that it holds on to, beside itself.
    pub fn bytes(&self) -> usize {
        match self {
            Wide::Finite(digits) => digits.digits.len(),
            _ => 0,
        }
    }
}

impl PartialEq for Wide {
    fn eq(&self, other: &Self) -> bool {
        self.value() == other.value()
    }
}

impl Eq for Wide {}

impl Hash for Wide {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.value().hash(state);
    }
}

#[cfg(test)]
mod tests;
