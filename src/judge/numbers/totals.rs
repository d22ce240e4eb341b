//! `sum` and `avg` over numbers of any size.

use std::sync::Arc;

use bigdecimal::BigDecimal;
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::Accumulator;
use datafusion::logical_expr::function::StateFieldsArgs;
use datafusion::logical_expr::utils::format_state_name;

use super::functions;
use super::value::{self, Kind};
use crate::change::Number;
use crate::state::WIDE;

/// What numbers add up to, also over a window that slides.
#[derive(Debug)]
pub(in crate::judge) struct Total {
    finite: BigDecimal,
    /// How many of them are finite, infinite, below zero and infinite, and no numbers.
    counts: [i64; 4],
    is_average: bool,
}

/// What the counts are of.
const FINITE: usize = 0;
const INFINITE: usize = 1;
const MINUS_INFINITE: usize = 2;
const NAN: usize = 3;

impl Total {
    pub(in crate::judge) fn new(is_average: bool) -> Self {
        Total {
            finite: BigDecimal::default(),
            counts: [0; 4],
            is_average,
        }
    }

    /// The fields of what [`state`](Accumulator::state) tells.
    pub(in crate::judge) fn fields(args: &StateFieldsArgs) -> Vec<FieldRef> {
        let field = |name: &str, data_type: DataType| {
            Arc::new(Field::new(
                format_state_name(args.name, name),
                data_type,
                true,
            ))
        };
        let counts = ["finite", "infinite", "minus_infinite", "nan"];
        let counts = counts.map(|name| field(name, DataType::Int64));
        [field("sum", WIDE)].into_iter().chain(counts).collect()
    }

    fn add(&mut self, array: &ArrayRef, sign: i64) -> Result<()> {
        for row in 0..array.len() {
            let Some(number) = functions::number(array, row)? else {
                continue;
            };
            let which = match value::kind(&number) {
                Kind::Finite(finite) if sign > 0 => {
                    self.finite += finite;
                    FINITE
                }
                Kind::Finite(finite) => {
                    self.finite -= finite;
                    FINITE
                }
                Kind::Infinite(false) => INFINITE,
                Kind::Infinite(true) => MINUS_INFINITE,
                Kind::NaN => NAN,
            };
            self.counts[which] += sign;
        }
        Ok(())
    }

    fn number(&self) -> Result<Option<Number>> {
        let count: i64 = self.counts.iter().sum();
        if count == 0 {
            return Ok(None);
        }
        let total = match self.counts {
            [_, infinite, minus, nan] if nan > 0 || (infinite > 0 && minus > 0) => Kind::NaN,
            [_, infinite, minus, _] if infinite > 0 || minus > 0 => Kind::Infinite(minus > 0),
            _ if self.is_average => {
                Kind::Finite(value::quotient(&self.finite, &BigDecimal::from(count)))
            }
            _ => Kind::Finite(self.finite.clone()),
        };
        value::number(&total).map(Some)
    }
}

fn scalar(number: Result<Option<Number>>) -> Result<ScalarValue> {
    let array = functions::array(std::iter::once(number))?;
    ScalarValue::try_from_array(&array, 0)
}

fn first(values: &[ArrayRef]) -> Result<&ArrayRef> {
    let missing = || DataFusionError::Internal("a total is of one column".into());
    values.first().ok_or_else(missing)
}

impl Accumulator for Total {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(first(values)?, 1)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(first(values)?, -1)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        scalar(self.number())
    }

    fn size(&self) -> usize {
        // A decimal digit takes less than four bits.
        let digits = usize::try_from(self.finite.digits()).unwrap_or(0);
        size_of::<Self>() + digits / 2
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let sum = scalar(value::number(&Kind::Finite(self.finite.clone())).map(Some))?;
        let counts = self
            .counts
            .iter()
            .map(|&count| ScalarValue::Int64(Some(count)));
        Ok([sum].into_iter().chain(counts).collect())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let sums = first(states)?;
        for row in 0..sums.len() {
            if let Some(number) = functions::number(sums, row)?
                && let Kind::Finite(finite) = value::kind(&number)
            {
                self.finite += finite;
            }
            for (count, more) in self.counts.iter_mut().zip(&states[1..]) {
                *count += more.as_primitive::<Int64Type>().value(row);
            }
        }
        Ok(())
    }
}
