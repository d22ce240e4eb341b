//! Bytes of numbers whose order is that of the numbers; equal numbers have the same ones, however many zeros they are shown with.
//!
//! With `v = ±0.d₁d₂… * 10^e` and `d₁` not 0:
//!
//! | value | bytes |
//! |---|---|
//! | zero | `80` |
//! | positive, `e` from -37 to 38 | `81 + (e + 37)`; the first 38 digits as a whole number, zeros added on the right, in sixteen bytes; then the rest |
//! | positive, a larger `e` | `CD`; `e` in four bytes; the digits |
//! | positive, a smaller `e` | `80 FF`; `e + 2^31` in four bytes; the digits |
//! | negative, `e` from -37 to 38 | `7F - (e + 37)`; the same sixteen bytes with all bits flipped; then the rest |
//! | negative, a larger `e` | `33`; `e` in four bytes, all bits flipped; the digits, flipped |
//! | negative, a smaller `e` | `7F`, sixteen times `FF`, `FF`; `e + 2^31` in four bytes, all bits flipped; the digits, flipped |
//! | minus infinity, infinity, not a number | `01`, `FE`, `FF` |
//!
//! Digits are a byte each, `d + 1`, and then 0; flipped, `10 - d`, and then `FE`. The rest is nothing where there are no more than 38 digits;
//! else `FF` and the digits behind them. A negative number with more is rounded down to 38 (away from zero), and its rest is flipped: so
//! what has no rest comes first in either case. Where rounding would give `-10^38`, the number is written as one with a larger `e`.
//!
//! Numbers are big-endian. Behind the bytes of a number may stand any byte up to `FE`.

use super::{
    DECIMAL_DIGITS_MAX, Decimal, Digits, NUMERIC_AFTER_MAX, NUMERIC_BEFORE_MAX, Number, Wide,
};

const ZERO: u8 = 0x80;
const MORE: u8 = 0xFF;
const LARGE: u8 = 0xCD;
const LARGE_NEGATIVE: u8 = 0x33;
const MINUS_INFINITY: u8 = 0x01;
const INFINITY: u8 = 0xFE;
const NAN: u8 = 0xFF;
const EXPONENTS: std::ops::RangeInclusive<i32> = -37..=38;
/// Where digits end, and where flipped ones do.
const END: u8 = 0;
const FLIPPED_END: u8 = 0xFE;
const FIRST: usize = DECIMAL_DIGITS_MAX as usize;

/// The byte of a size from -37 to 38.
fn size(exponent: i32) -> u8 {
    (exponent - EXPONENTS.start()) as u8
}

fn put_digits(out: &mut Vec<u8>, digits: &[u8], flipped: bool) {
    match flipped {
        false => out.extend(digits.iter().map(|digit| digit + 1)),
        true => out.extend(digits.iter().map(|digit| 10 - digit)),
    }
    out.push(if flipped { FLIPPED_END } else { END });
}

/// The first 38 digits as a number, zeros added on the right.
fn first(digits: &[u8]) -> u128 {
    let digit = |at: usize| u128::from(digits.get(at).copied().unwrap_or(0));
    (0..FIRST).fold(0, |sum, at| sum * 10 + digit(at))
}

impl Decimal {
    /// Adds the number's bytes.
    pub fn put_key(self, out: &mut Vec<u8>) {
        let digits = self.unscaled.unsigned_abs();
        let Some(count) = digits.checked_ilog10().map(|log| log + 1) else {
            return out.push(ZERO);
        };
        let size = size(count as i32 - i32::from(self.scale));
        let aligned = digits * 10u128.pow(u32::from(DECIMAL_DIGITS_MAX).saturating_sub(count));
        if self.unscaled > 0 {
            out.push(0x81 + size);
            out.extend_from_slice(&aligned.to_be_bytes());
        } else {
            out.push(0x7F - size);
            out.extend_from_slice(&(!aligned).to_be_bytes());
        }
    }
}

impl Wide {
    /// Adds the value's bytes.
    pub fn put_key(&self, out: &mut Vec<u8>) {
        match self {
            Wide::NaN => out.push(NAN),
            Wide::Infinity => out.push(INFINITY),
            Wide::NegativeInfinity => out.push(MINUS_INFINITY),
            Wide::Finite(digits) if digits.negative => digits.put_negative(out),
            Wide::Finite(digits) => digits.put_positive(out),
        }
    }
}

impl Digits {
    fn put_positive(&self, out: &mut Vec<u8>) {
        if EXPONENTS.contains(&self.exponent) {
            out.push(0x81 + size(self.exponent));
            out.extend_from_slice(&first(&self.digits).to_be_bytes());
            if let Some(rest @ [_, ..]) = self.digits.get(FIRST..) {
                out.push(MORE);
                put_digits(out, rest, false);
            }
            return;
        }
        if self.exponent > 0 {
            out.push(LARGE);
            out.extend_from_slice(&self.exponent.to_be_bytes());
        } else {
            out.extend_from_slice(&[ZERO, MORE]);
            out.extend_from_slice(&(self.exponent ^ i32::MIN).to_be_bytes());
        }
        put_digits(out, &self.digits, false);
    }

    fn put_negative(&self, out: &mut Vec<u8>) {
        let rest = self.digits.get(FIRST..).unwrap_or_default();
        let limit = 10u128.pow(u32::from(DECIMAL_DIGITS_MAX));
        let mut aligned = first(&self.digits) + u128::from(!rest.is_empty());
        let mut exponent = self.exponent;
        if aligned == limit {
            (aligned, exponent) = (limit / 10, exponent + 1);
        }
        if EXPONENTS.contains(&self.exponent) && EXPONENTS.contains(&exponent) {
            out.push(0x7F - size(exponent));
            out.extend_from_slice(&(!aligned).to_be_bytes());
            if !rest.is_empty() {
                out.push(MORE);
                put_digits(out, rest, true);
            }
            return;
        }
        if self.exponent > 0 {
            out.push(LARGE_NEGATIVE);
            out.extend_from_slice(&(!self.exponent).to_be_bytes());
        } else {
            out.push(0x7F);
            out.extend_from_slice(&[0xFF; 16]);
            out.push(MORE);
            out.extend_from_slice(&(!(self.exponent ^ i32::MIN)).to_be_bytes());
        }
        put_digits(out, &self.digits, true);
    }
}

impl Number {
    /// Adds the value's bytes.
    pub fn put_key(&self, out: &mut Vec<u8>) {
        match self {
            Number::Decimal(value) => value.put_key(out),
            Number::Wide(value) => value.put_key(out),
        }
    }

    /// The value whose bytes these are, all of them; None where they are of none. It is shown with the digits that it has.
    pub fn from_key(bytes: &[u8]) -> Option<Number> {
        let mut reader = Reader(bytes);
        let number = reader.number()?;
        reader.0.is_empty().then_some(number)
    }
}

/// Takes bytes from the front.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    /// Whether the next byte is this one; then it is taken.
    fn takes(&mut self, byte: u8) -> bool {
        let found = self.0.first() == Some(&byte);
        self.0 = if found { &self.0[1..] } else { self.0 };
        found
    }

    fn digits(&mut self, flipped: bool) -> Option<Vec<u8>> {
        let end = if flipped { FLIPPED_END } else { END };
        let at = self.0.iter().position(|&byte| byte == end)?;
        let (head, rest) = self.0.split_at(at);
        self.0 = &rest[1..];
        let digit = |&byte: &u8| match flipped {
            false => byte.checked_sub(1).filter(|&digit| digit < 10),
            true => 10u8.checked_sub(byte).filter(|&digit| digit < 10),
        };
        head.iter().map(digit).collect()
    }

    fn number(&mut self) -> Option<Number> {
        let [tag] = self.take()?;
        let sizes = size(*EXPONENTS.end());
        let (negative, exponent, digits) = match tag {
            NAN => return Some(Number::Wide(Wide::NaN)),
            INFINITY => return Some(Number::Wide(Wide::Infinity)),
            MINUS_INFINITY => return Some(Number::Wide(Wide::NegativeInfinity)),
            ZERO if !self.takes(MORE) => (false, 0, Vec::new()),
            ZERO => {
                let exponent = self.exponent(i32::MIN)?;
                (false, exponent, self.digits(false)?)
            }
            LARGE => (false, self.exponent(0)?, self.digits(false)?),
            LARGE_NEGATIVE => (true, self.exponent(-1)?, self.digits(true)?),
            0x81.. if tag - 0x81 <= sizes => {
                let aligned = u128::from_be_bytes(self.take()?);
                let more = if self.takes(MORE) {
                    self.digits(false)?
                } else {
                    Vec::new()
                };
                (
                    false,
                    i32::from(tag - 0x81) + EXPONENTS.start(),
                    joined(aligned, &more)?,
                )
            }
            _ if tag <= 0x7F && 0x7F - tag <= sizes => {
                let aligned = !u128::from_be_bytes(self.take()?);
                if aligned == 0 {
                    let is_small = tag == 0x7F && self.takes(MORE);
                    let exponent = self.exponent(!i32::MIN)?;
                    let digits = self.digits(true)?;
                    return is_small.then(|| number(true, exponent, digits));
                }
                let mut exponent = i32::from(0x7F - tag) + EXPONENTS.start();
                if !self.takes(MORE) {
                    return Some(number(true, exponent, joined(aligned, &[])?));
                }
                let more = self.digits(true)?;
                let mut aligned = aligned.checked_sub(1)?;
                let least = 10u128.pow(u32::from(DECIMAL_DIGITS_MAX) - 1);
                if aligned < least {
                    (aligned, exponent) = (aligned.checked_mul(10)?.checked_add(9)?, exponent - 1);
                }
                (true, exponent, joined(aligned, &more)?)
            }
            _ => return None,
        };
        Some(number(negative, exponent, digits))
    }

    /// An exponent that some `numeric` may have.
    fn exponent(&mut self, flip: i32) -> Option<i32> {
        let exponent = i32::from_be_bytes(self.take()?) ^ flip;
        (-NUMERIC_AFTER_MAX..=NUMERIC_BEFORE_MAX)
            .contains(&exponent)
            .then_some(exponent)
    }
}

/// The digits of the first 38, and those behind.
fn joined(aligned: u128, more: &[u8]) -> Option<Vec<u8>> {
    let limit = 10u128.pow(u32::from(DECIMAL_DIGITS_MAX));
    (limit / 10..limit).contains(&aligned).then(|| {
        let mut digits: Vec<u8> = aligned
            .to_string()
            .bytes()
            .map(|byte| byte - b'0')
            .collect();
        digits.extend_from_slice(more);
        digits
    })
}

fn number(negative: bool, exponent: i32, digits: Vec<u8>) -> Number {
    Digits::new(negative, &digits, exponent, 0).number()
}
