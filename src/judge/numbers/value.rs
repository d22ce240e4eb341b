//! Arithmetic over numbers of any size, as Postgres' `numeric` has it.

use bigdecimal::num_bigint::{BigInt, Sign};
use bigdecimal::{BigDecimal, RoundingMode, Zero};
use datafusion::error::{DataFusionError, Result};

use crate::change::{
    DECIMAL_DIGITS_MAX, Decimal, Digits, NUMERIC_AFTER_MAX, NUMERIC_BEFORE_MAX, Number, Wide,
};

/// The significant digits that a quotient has at least, and the digits after the point that it has at most.
const QUOTIENT_DIGITS_MIN: i64 = 16;
const QUOTIENT_SCALE_MAX: i64 = 1_000;

/// An operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    Plus,
    Minus,
    Times,
    Divide,
    Modulo,
}

/// What a number is, for arithmetic.
pub(super) enum Kind {
    Finite(BigDecimal),
    /// Infinite, and whether below zero.
    Infinite(bool),
    NaN,
}

fn failed(what: &str) -> DataFusionError {
    DataFusionError::Execution(what.to_owned())
}

/// What a number is.
pub(super) fn kind(number: &Number) -> Kind {
    let digits = match number {
        Number::Decimal(Decimal { unscaled, scale }) => {
            let unscaled = BigInt::from(*unscaled);
            return Kind::Finite(BigDecimal::new(unscaled, i64::from(*scale)));
        }
        Number::Wide(Wide::NaN) => return Kind::NaN,
        Number::Wide(Wide::Infinity) => return Kind::Infinite(false),
        Number::Wide(Wide::NegativeInfinity) => return Kind::Infinite(true),
        Number::Wide(Wide::Finite(digits)) => digits,
    };
    let (negative, digits, exponent) = digits.parts();
    let sign = if negative { Sign::Minus } else { Sign::Plus };
    let unscaled = BigInt::from_radix_be(sign, digits, 10).unwrap_or_default();
    let scale = digits.len() as i64 - i64::from(exponent);
    Kind::Finite(BigDecimal::new(unscaled, scale))
}

/// The number of a value.
///
/// # Errors
/// Where it has more digits than a `numeric` has.
pub(super) fn number(kind: &Kind) -> Result<Number> {
    let after = i64::from(NUMERIC_AFTER_MAX);
    let value = match kind {
        Kind::NaN => return Ok(Number::Wide(Wide::NaN)),
        Kind::Infinite(false) => return Ok(Number::Wide(Wide::Infinity)),
        Kind::Infinite(true) => return Ok(Number::Wide(Wide::NegativeInfinity)),
        Kind::Finite(value) if value.fractional_digit_count() > after => {
            value.with_scale_round(after, RoundingMode::HalfUp)
        }
        Kind::Finite(value) => value.clone(),
    };
    let (unscaled, scale) = value.as_bigint_and_exponent();
    let (sign, digits) = unscaled.to_radix_be(10);
    let exponent = i32::try_from(digits.len() as i64 - scale).ok();
    let exponent = exponent.filter(|exponent| *exponent <= NUMERIC_BEFORE_MAX || value.is_zero());
    let exponent = exponent.ok_or_else(|| failed("a number has more digits than a numeric has"))?;
    Ok(Digits::new(sign == Sign::Minus, &digits, exponent, 0).number())
}

impl Operation {
    /// The sign between the sides.
    pub(super) fn sign(self) -> &'static str {
        match self {
            Operation::Plus => "+",
            Operation::Minus => "-",
            Operation::Times => "*",
            Operation::Divide => "/",
            Operation::Modulo => "%",
        }
    }

    /// # Errors
    /// Where a divisor is zero, or the result has more digits than a `numeric` has.
    pub(super) fn apply(self, a: &Number, b: &Number) -> Result<Number> {
        if let (Number::Decimal(a), Number::Decimal(b)) = (a, b)
            && let Some(quick) = self.quick(*a, *b)
        {
            return Ok(Number::Decimal(quick));
        }
        number(&self.slow(kind(a), kind(b))?)
    }

    /// Few digits need no more than 128 bits.
    fn quick(self, a: Decimal, b: Decimal) -> Option<Decimal> {
        let scale = a.scale.max(b.scale);
        let on_one = |value: Decimal| Some(value.rescale(scale)?.unscaled);
        let (unscaled, scale) = match self {
            Operation::Plus => (on_one(a)?.checked_add(on_one(b)?)?, scale),
            Operation::Minus => (on_one(a)?.checked_sub(on_one(b)?)?, scale),
            Operation::Times => (a.unscaled.checked_mul(b.unscaled)?, a.scale + b.scale),
            Operation::Divide | Operation::Modulo => return None,
        };
        // What does not fit is looked at with all of its digits.
        Decimal { unscaled, scale }
            .rescale(scale)
            .filter(|_| scale <= DECIMAL_DIGITS_MAX)
    }

    fn slow(self, a: Kind, b: Kind) -> Result<Kind> {
        use Kind::{Finite, Infinite, NaN};
        let is_divided = matches!(self, Operation::Divide | Operation::Modulo);
        Ok(match (self, a, b) {
            (_, NaN, _) | (_, _, NaN) => NaN,
            (_, _, Finite(b)) if is_divided && b.is_zero() => {
                return Err(failed("division by zero"));
            }
            (Operation::Plus, Finite(a), Finite(b)) => Finite(a + b),
            (Operation::Minus, Finite(a), Finite(b)) => Finite(a - b),
            (Operation::Times, Finite(a), Finite(b)) => Finite(a * b),
            (Operation::Divide, Finite(a), Finite(b)) => Finite(quotient(&a, &b)),
            (Operation::Modulo, Finite(a), Finite(b)) => Finite(a % b),
            (Operation::Plus, Infinite(a), Infinite(b)) if a != b => NaN,
            (Operation::Minus, Infinite(a), Infinite(b)) if a == b => NaN,
            (Operation::Plus | Operation::Minus, Infinite(a), _) => Infinite(a),
            (Operation::Plus, Finite(_), Infinite(b)) => Infinite(b),
            (Operation::Minus, Finite(_), Infinite(b)) => Infinite(!b),
            (Operation::Times, Finite(a), Infinite(_)) if a.is_zero() => NaN,
            (Operation::Times, Infinite(_), Finite(b)) if b.is_zero() => NaN,
            (Operation::Times | Operation::Divide, Infinite(a), Finite(b)) => {
                Infinite(a != (b.sign() == Sign::Minus))
            }
            (Operation::Times, Finite(a), Infinite(b)) => Infinite(b != (a.sign() == Sign::Minus)),
            (Operation::Times, Infinite(a), Infinite(b)) => Infinite(a != b),
            (Operation::Divide, Finite(_), Infinite(_)) => Finite(BigDecimal::zero()),
            (Operation::Modulo, Finite(a), Infinite(_)) => Finite(a),
            (Operation::Divide | Operation::Modulo, Infinite(_), _) => NaN,
        })
    }
}

/// A quotient with as many digits as Postgres gives it (`select_div_scale` in `src/backend/utils/adt/numeric.c`), the last one rounded
/// half away from zero.
pub(super) fn quotient(a: &BigDecimal, b: &BigDecimal) -> BigDecimal {
    let (a, b) = (a.normalized(), b.normalized());
    let ((weight_a, first_a), (weight_b, first_b)) = (leading(&a), leading(&b));
    let weight = weight_a - weight_b - i64::from(first_a <= first_b);
    let scale = (QUOTIENT_DIGITS_MIN - 4 * weight)
        .max(a.fractional_digit_count())
        .max(b.fractional_digit_count())
        .clamp(0, QUOTIENT_SCALE_MAX);
    // Whole numbers: a / b * 10^scale, and what is left tells how to round.
    let (a, a_scale) = a.as_bigint_and_exponent();
    let (b, b_scale) = b.as_bigint_and_exponent();
    let power = scale + b_scale - a_scale;
    let ten = |power: i64| BigInt::from(10).pow(u32::try_from(power.unsigned_abs()).unwrap_or(0));
    let (a, b) = match power >= 0 {
        true => (a * ten(power), b),
        false => (a, b * ten(power)),
    };
    let (whole, rest) = (&a / &b, &a % &b);
    let up = rest.magnitude() * 2u8 >= *b.magnitude();
    let away = match (up, (a.sign() == Sign::Minus) != (b.sign() == Sign::Minus)) {
        (false, _) => BigInt::zero(),
        (true, false) => BigInt::from(1),
        (true, true) => BigInt::from(-1),
    };
    BigDecimal::new(whole + away, scale)
}

/// The power of 10,000 of a number's first group of four digits, and that group; 0 and 0 for zero.
fn leading(value: &BigDecimal) -> (i64, u32) {
    let (unscaled, scale) = value.as_bigint_and_exponent();
    let (sign, digits) = unscaled.to_radix_be(10);
    if sign == Sign::NoSign {
        return (0, 0);
    }
    let exponent = digits.len() as i64 - scale;
    let count = (exponent - 1).rem_euclid(4) + 1;
    let digit = |at: i64| usize::try_from(at).ok().and_then(|at| digits.get(at));
    let group = (0..count).fold(0, |group, at| {
        group * 10 + u32::from(digit(at).copied().unwrap_or(0))
    });
    ((exponent - 1).div_euclid(4), group)
}

/// How a number is cut to some digits after the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Cut {
    /// Half away from zero.
    Round,
    /// Towards zero.
    Truncate,
    Floor,
    Ceiling,
}

/// The number with at most so many digits after the point; negative ones cut before it.
pub(super) fn cut(value: &Number, how: Cut, digits: i64) -> Result<Number> {
    let mode = match how {
        Cut::Round => RoundingMode::HalfUp,
        Cut::Truncate => RoundingMode::Down,
        Cut::Floor => RoundingMode::Floor,
        Cut::Ceiling => RoundingMode::Ceiling,
    };
    match kind(value) {
        Kind::Finite(finite) if finite.fractional_digit_count() > digits => {
            let digits = digits.max(-i64::from(NUMERIC_BEFORE_MAX));
            number(&Kind::Finite(finite.with_scale_round(digits, mode)))
        }
        _ => Ok(value.clone()),
    }
}

/// The number without its sign.
pub(super) fn without_sign(value: &Number) -> Result<Number> {
    number(&match kind(value) {
        Kind::Finite(finite) => Kind::Finite(finite.abs()),
        Kind::Infinite(_) => Kind::Infinite(false),
        Kind::NaN => Kind::NaN,
    })
}

/// -1, 0 or 1.
pub(super) fn sign(value: &Number) -> Number {
    let unscaled = match kind(value) {
        Kind::NaN => return value.clone(),
        Kind::Infinite(true) => -1,
        Kind::Infinite(false) => 1,
        Kind::Finite(finite) => match finite.sign() {
            Sign::Minus => -1,
            Sign::NoSign => 0,
            Sign::Plus => 1,
        },
    };
    Number::Decimal(Decimal { unscaled, scale: 0 })
}
