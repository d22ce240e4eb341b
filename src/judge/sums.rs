//! Sums that are exact or fail: the engine's own `sum` wraps around in silence when a sum leaves its type, which would make a wrong
//! verdict. `avg` of integers is a decimal, as in Postgres, and passes through no double.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array};
use datafusion::arrow::array::{Int64Array, UInt64Array};
use datafusion::arrow::datatypes::{
    DataType, Decimal128Type, Field, FieldRef, Int64Type, UInt64Type,
};
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::error::{DataFusionError, Result};
use datafusion::functions_aggregate::average::Avg;
use datafusion::functions_aggregate::sum::Sum;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, ExprSchemable, GroupsAccumulator,
    ReversedUDAF, ScalarUDF, Signature, TypeSignature, Volatility, lit,
};
use datafusion::scalar::ScalarValue;

use super::checked::{Checked, Operator};
use super::numbers::{Total, scale_shown};
use crate::state::{WIDE, with_scale};

/// The digits of the numbers that are added up.
const DIGITS_MAX: u8 = 38;

/// Integers are averaged as decimals of this precision and scale: 19 digits before the point hold any `bigint`, the answer has ten
/// digits after it, and the engine has room for 10^9 rows.
const AVERAGED: DataType = DataType::Decimal128(25, 6);

/// The aggregates that stand in for the engine's.
pub(super) fn all() -> Vec<Arc<AggregateUDF>> {
    vec![
        Arc::new(AggregateUDF::from(ExactSum::default())),
        Arc::new(AggregateUDF::from(ExactAvg::default())),
    ]
}

/// Plans `-x` over integers as the checked `0 - x`: the engine's wraps around for the smallest integer.
#[derive(Debug)]
pub(super) struct Negation;

impl FunctionRewrite for Negation {
    fn name(&self) -> &str {
        "checked_negation"
    }

    fn rewrite(
        &self,
        expr: Expr,
        schema: &DFSchema,
        _: &ConfigOptions,
    ) -> Result<Transformed<Expr>> {
        match expr {
            Expr::Negative(inner) if inner.get_type(schema).is_ok_and(|t| t.is_integer()) => {
                let minus = ScalarUDF::from(Checked::new(Operator::Minus));
                Ok(Transformed::yes(minus.call(vec![lit(0i64), *inner])))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

/// The scale of the sum when sums of a type are kept here; None for the types that the engine adds up.
fn scale_of(data_type: &DataType) -> Option<i8> {
    match data_type {
        DataType::Int64 | DataType::UInt64 => Some(0),
        DataType::Decimal128(_, scale) => Some(*scale),
        _ => None,
    }
}

/// `sum` over integers and decimals in 128 bits, an error when the answer does not fit its type; over numbers of any size exactly; anything
/// else is the engine's.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ExactSum {
    inner: Sum,
    signature: Signature,
}

impl Default for ExactSum {
    fn default() -> Self {
        let inner = Sum::default();
        let wide = TypeSignature::Exact(vec![WIDE]);
        let types = vec![wide, inner.signature().type_signature.clone()];
        ExactSum {
            signature: Signature::one_of(types, Volatility::Immutable),
            inner,
        }
    }
}

impl AggregateUDFImpl for ExactSum {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [wide] if *wide == WIDE => Ok(WIDE),
            _ => self.inner.return_type(arguments),
        }
    }

    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        let [wide] = arguments else {
            return self.inner.return_field(arguments);
        };
        if *wide.data_type() != WIDE {
            return self.inner.return_field(arguments);
        }
        let field = Field::new(self.name(), WIDE, true);
        Ok(Arc::new(match scale_shown(wide) {
            Some(scale) => with_scale(field, scale),
            None => field,
        }))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let out = args.return_field.data_type().clone();
        if out == WIDE {
            return total(&args, false);
        }
        match (scale_of(&out), args.is_distinct) {
            (None, _) => self.inner.accumulator(args),
            (Some(_), false) => Ok(Box::new(Running::new(out))),
            (Some(_), true) => Ok(Box::new(Distinct::new(out))),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match args.return_field.data_type() {
            out if *out == WIDE || scale_of(out).is_some() => self.accumulator(args),
            _ => self.inner.create_sliding_accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if *args.return_field.data_type() == WIDE {
            return Ok(Total::fields(&args));
        }
        let Some(scale) = scale_of(args.return_field.data_type()) else {
            return self.inner.state_fields(args);
        };
        let wide = DataType::Decimal128(DIGITS_MAX, scale);
        let field = if args.is_distinct {
            let name = format_state_name(args.name, "sum distinct");
            Field::new_list(name, Field::new_list_field(wide, true), false)
        } else {
            Field::new(format_state_name(args.name, "sum"), wide, true)
        };
        Ok(vec![Arc::new(field)])
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        *args.return_field.data_type() != WIDE && self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        let out = args.return_field.data_type().clone();
        match scale_of(&out) {
            None => self.inner.create_groups_accumulator(args),
            Some(_) => Ok(Box::new(Groups {
                sums: Vec::new(),
                out,
            })),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.inner.reverse_expr()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }
}

/// `avg`, over integers as decimals; anything else is the engine's.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ExactAvg {
    inner: Avg,
    signature: Signature,
}

impl Default for ExactAvg {
    fn default() -> Self {
        ExactAvg {
            inner: Avg::default(),
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }
}

impl AggregateUDFImpl for ExactAvg {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [argument] = arguments else {
            return Err(DataFusionError::Plan("avg takes one argument".into()));
        };
        match argument {
            whole if whole.is_integer() => Ok(vec![AVERAGED]),
            DataType::Null => Ok(vec![DataType::Float64]),
            float if float.is_floating() => Ok(vec![DataType::Float64]),
            exact if exact.is_decimal() || *exact == WIDE => Ok(vec![exact.clone()]),
            DataType::Duration(unit) => Ok(vec![DataType::Duration(*unit)]),
            other => Err(DataFusionError::Plan(format!("avg does not take {other}"))),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        match arguments {
            [wide] if *wide == WIDE => Ok(WIDE),
            _ => self.inner.return_type(arguments),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match *args.return_field.data_type() == WIDE {
            true => total(&args, true),
            false => self.inner.accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match *args.return_field.data_type() == WIDE {
            true => total(&args, true),
            false => self.inner.create_sliding_accumulator(args),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        match *args.return_field.data_type() == WIDE {
            true => Ok(Total::fields(&args)),
            false => self.inner.state_fields(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        *args.return_field.data_type() != WIDE && self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner.create_groups_accumulator(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.inner.reverse_expr()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.inner.order_sensitivity()
    }
}

/// A total of numbers of any size.
fn total(args: &AccumulatorArgs, is_average: bool) -> Result<Box<dyn Accumulator>> {
    match args.is_distinct {
        true => Err(DataFusionError::Plan(
            "a sum or average of DISTINCT numerics of more than 38 digits is not known".into(),
        )),
        false => Ok(Box::new(Total::new(is_average))),
    }
}

fn does_not_fit(out: &DataType) -> DataFusionError {
    let what = match out {
        DataType::Decimal128(..) => "a sum of decimals has too many digits",
        _ => "a sum of integers does not fit a bigint",
    };
    DataFusionError::Execution(what.into())
}

fn plus(a: i128, b: i128, out: &DataType) -> Result<i128> {
    a.checked_add(b).ok_or_else(|| does_not_fit(out))
}

fn minus(a: i128, b: i128, out: &DataType) -> Result<i128> {
    a.checked_sub(b).ok_or_else(|| does_not_fit(out))
}

/// A column's numbers, without the point; None for NULL.
fn numbers(array: &ArrayRef) -> Result<Box<dyn Iterator<Item = Option<i128>> + '_>> {
    Ok(match array.data_type() {
        DataType::Int64 => Box::new(
            array
                .as_primitive::<Int64Type>()
                .iter()
                .map(|n| n.map(i128::from)),
        ),
        DataType::UInt64 => Box::new(
            array
                .as_primitive::<UInt64Type>()
                .iter()
                .map(|n| n.map(i128::from)),
        ),
        DataType::Decimal128(..) => Box::new(array.as_primitive::<Decimal128Type>().iter()),
        other => {
            let message = format!("sum over {other} is not kept in 128 bits");
            return Err(DataFusionError::Internal(message));
        }
    })
}

/// A column of decimals without NULL.
fn plain(array: &ArrayRef) -> Option<&[i128]> {
    let decimals = array.as_primitive_opt::<Decimal128Type>()?;
    (decimals.null_count() == 0).then(|| decimals.values().as_ref())
}

/// Sums as an array of their type.
fn answer(sums: impl Iterator<Item = Option<i128>>, out: &DataType) -> Result<ArrayRef> {
    let wrong = |_| does_not_fit(out);
    Ok(match out {
        DataType::Int64 => {
            let fitting = sums.map(|sum| sum.map(i64::try_from).transpose());
            Arc::new(fitting.collect::<Result<Int64Array, _>>().map_err(wrong)?)
        }
        DataType::UInt64 => {
            let fitting = sums.map(|sum| sum.map(u64::try_from).transpose());
            Arc::new(fitting.collect::<Result<UInt64Array, _>>().map_err(wrong)?)
        }
        _ => states(sums, out)?,
    })
}

/// Sums as decimals with all digits there are.
fn states(sums: impl Iterator<Item = Option<i128>>, out: &DataType) -> Result<ArrayRef> {
    const LIMIT: u128 = 10u128.pow(DIGITS_MAX as u32);
    let sums: Vec<Option<i128>> = sums.collect();
    if sums.iter().flatten().any(|n| n.unsigned_abs() >= LIMIT) {
        return Err(does_not_fit(out));
    }
    let scale = scale_of(out).unwrap_or(0);
    let array = Decimal128Array::from(sums).with_precision_and_scale(DIGITS_MAX, scale)?;
    Ok(Arc::new(array))
}

/// One sum, also over a window that slides.
#[derive(Debug)]
struct Running {
    sum: i128,
    /// How many numbers are in it.
    count: u64,
    out: DataType,
}

impl Running {
    fn new(out: DataType) -> Self {
        Running {
            sum: 0,
            count: 0,
            out,
        }
    }

    fn value(&self) -> Option<i128> {
        (self.count > 0).then_some(self.sum)
    }
}

fn first(values: &[ArrayRef]) -> Result<&ArrayRef> {
    let missing = || DataFusionError::Internal("sum takes one argument".into());
    values.first().ok_or_else(missing)
}

impl Accumulator for Running {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for number in numbers(first(values)?)?.flatten() {
            self.sum = plus(self.sum, number, &self.out)?;
            self.count += 1;
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for number in numbers(first(values)?)?.flatten() {
            self.sum = minus(self.sum, number, &self.out)?;
            self.count -= 1;
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let array = states([self.value()].into_iter(), &self.out)?;
        Ok(vec![ScalarValue::try_from_array(&array, 0)?])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let array = answer([self.value()].into_iter(), &self.out)?;
        with_type(&ScalarValue::try_from_array(&array, 0)?, &self.out)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// A decimal with the precision that the plan says; the digits stay.
fn with_type(value: &ScalarValue, out: &DataType) -> Result<ScalarValue> {
    match (value, out) {
        (ScalarValue::Decimal128(number, _, _), DataType::Decimal128(precision, scale)) => {
            Ok(ScalarValue::Decimal128(*number, *precision, *scale))
        }
        _ => Ok(value.clone()),
    }
}

/// One sum of different numbers, also over a window that slides.
#[derive(Debug)]
struct Distinct {
    sum: i128,
    /// How often each number is in the window.
    counts: HashMap<i128, u64>,
    out: DataType,
}

impl Distinct {
    fn new(out: DataType) -> Self {
        Distinct {
            sum: 0,
            counts: HashMap::new(),
            out,
        }
    }
}

impl Accumulator for Distinct {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for number in numbers(first(values)?)?.flatten() {
            let count = self.counts.entry(number).or_insert(0);
            *count += 1;
            if *count == 1 {
                self.sum = plus(self.sum, number, &self.out)?;
            }
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        for number in numbers(first(values)?)?.flatten() {
            if let Some(count) = self.counts.get_mut(&number) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&number);
                    self.sum = minus(self.sum, number, &self.out)?;
                }
            }
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for list in first(states)?.as_list::<i32>().iter().flatten() {
            self.update_batch(&[list])?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let scale = scale_of(&self.out).unwrap_or(0);
        let wide = DataType::Decimal128(DIGITS_MAX, scale);
        let values: Vec<ScalarValue> = self
            .counts
            .keys()
            .map(|number| ScalarValue::Decimal128(Some(*number), DIGITS_MAX, scale))
            .collect();
        let list = ScalarValue::new_list_nullable(&values, &wide);
        Ok(vec![ScalarValue::List(list)])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = (!self.counts.is_empty()).then_some(self.sum);
        let array = answer([sum].into_iter(), &self.out)?;
        with_type(&ScalarValue::try_from_array(&array, 0)?, &self.out)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.counts.capacity() * size_of::<(i128, u64)>()
    }
}

/// Many sums at once.
#[derive(Debug)]
struct Groups {
    /// None for a group that has seen no number.
    sums: Vec<Option<i128>>,
    out: DataType,
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.sums.resize(total, None);
        let values = first(values)?;
        if let (Some(plain), None) = (plain(values), filter) {
            for (number, group) in plain.iter().zip(groups) {
                let sum = &mut self.sums[*group];
                *sum = Some(plus(sum.unwrap_or(0), *number, &self.out)?);
            }
            return Ok(());
        }
        for (row, (number, group)) in numbers(values)?.zip(groups).enumerate() {
            let kept = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if let (Some(number), true) = (number, kept) {
                let sum = self.sums[*group].unwrap_or(0);
                self.sums[*group] = Some(plus(sum, number, &self.out)?);
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.update_batch(values, groups, None, total)
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let sums = emit.take_needed(&mut self.sums);
        let array = answer(sums.into_iter(), &self.out)?;
        match &self.out {
            DataType::Decimal128(precision, scale) => {
                let array = array.as_primitive::<Decimal128Type>().clone();
                // The type says at most how many digits the engine expects; the check was for 38.
                let array = array.with_data_type(DataType::Decimal128(*precision, *scale));
                Ok(Arc::new(array))
            }
            _ => Ok(array),
        }
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        let sums = emit.take_needed(&mut self.sums);
        Ok(vec![states(sums.into_iter(), &self.out)?])
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let kept = |row| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        let numbers = numbers(first(values)?)?
            .enumerate()
            .map(|(row, number)| number.filter(|_| kept(row)));
        Ok(vec![states(numbers, &self.out)?])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<Option<i128>>()
    }
}
