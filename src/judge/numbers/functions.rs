//! Functions over numbers of any size. Arguments may be of any types of numbers, and texts of them.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, LargeBinaryBuilder, StringBuilder,
};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::type_coercion::functions::fields_with_udf;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use super::value::{self, Cut, Operation};
use crate::change::{Cell, DECIMAL_DIGITS_MAX, Number, Wide};
use crate::judge::texts::{BATCH_BYTES_MAX, too_long};
use crate::schema::DataType as Declared;
use crate::schema::columnar::cell_from_array;
use crate::state::{WIDE, scale_of, with_scale};

const ANY: Declared = Declared::Numeric {
    precision_scale: None,
};

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Function {
    /// Any number as one of any size.
    Widen,
    /// The same number, shown with so many digits after the point.
    Shown(u8),
    Operation(Operation),
    /// As a text, with at least so many digits after the point.
    Text(Option<u8>),
    Double,
    /// As a whole number of 64 bits, half away from zero.
    Integer,
    /// As a `numeric` of a precision and scale.
    Fit(u8, i8),
    Absolute,
    Sign,
    /// To a number of digits, which a second argument tells.
    Cut(Cut),
    /// The first that is not NULL.
    Coalesce,
    /// NULL where both are equal.
    NullIf,
    Greatest,
    Least,
}

use Function::{
    Absolute, Coalesce, Double, Fit, Greatest, Integer, Least, NullIf, Shown, Sign, Text, Widen,
};

/// The functions of the engine that take such numbers too.
const SHARED: [(&str, Function); 10] = [
    ("abs", Absolute),
    ("signum", Sign),
    ("ceil", Function::Cut(Cut::Ceiling)),
    ("floor", Function::Cut(Cut::Floor)),
    ("round", Function::Cut(Cut::Round)),
    ("trunc", Function::Cut(Cut::Truncate)),
    ("coalesce", Coalesce),
    ("nullif", NullIf),
    ("greatest", Greatest),
    ("least", Least),
];

/// Whether a function is one of those that are called by [`call`].
pub(super) fn is_own(name: &str) -> bool {
    name.starts_with("numeric_")
}

/// Whether a function of the engine takes such numbers too.
pub(super) fn is_shared(name: &str) -> bool {
    SHARED.iter().any(|(shared, _)| *shared == name)
}

/// The engine's functions that are to take such numbers too.
pub(super) fn shared(engine: &dyn Fn(&str) -> Option<Arc<ScalarUDF>>) -> Vec<Arc<ScalarUDF>> {
    let both = |&(name, function): &(&'static str, Function)| {
        let inner = engine(name)?;
        Some(Arc::new(ScalarUDF::from(Call::new(function, Some(inner)))))
    };
    SHARED.iter().filter_map(both).collect()
}

/// A call over expressions.
pub(super) fn call(function: Function, args: Vec<Expr>) -> Expr {
    ScalarUDF::from(Call::new(function, None)).call(args)
}

/// One of the functions; where it has the name of one of the engine's, that one is for other numbers.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Call {
    function: Function,
    inner: Option<Arc<ScalarUDF>>,
    signature: Signature,
}

fn is_wide(types: &[DataType]) -> bool {
    types.contains(&WIDE)
}

impl Call {
    fn new(function: Function, inner: Option<Arc<ScalarUDF>>) -> Self {
        Call {
            function,
            inner,
            signature: Signature::user_defined(Volatility::Immutable),
        }
    }

    /// The engine's function, where no argument is such a number.
    fn inner(&self, types: &[DataType]) -> Option<&ScalarUDF> {
        self.inner.as_deref().filter(|_| !is_wide(types))
    }

    /// What is returned, with as many digits after the point as the engine gives decimals there.
    fn field(&self, args: &[FieldRef]) -> Field {
        let field = Field::new(self.name(), self.answer(), true);
        if *field.data_type() != WIDE {
            return field;
        }
        let scales = || {
            let scales = args.iter().filter(|arg| !arg.data_type().is_null());
            scales
                .map(|arg| scale_shown(arg))
                .collect::<Option<Vec<u8>>>()
        };
        let scale = match self.function {
            Shown(scale) => Some(scale),
            Fit(_, scale) => u8::try_from(scale).ok(),
            Function::Operation(Operation::Divide | Operation::Modulo)
            | Function::Cut(_)
            | Sign => None,
            Function::Operation(Operation::Times) => scales().map(|scales| {
                let sum = scales.into_iter().fold(0, u8::saturating_add);
                sum.min(DECIMAL_DIGITS_MAX)
            }),
            _ => scales().and_then(|scales| scales.into_iter().max()),
        };
        match scale {
            Some(scale) => with_scale(field, scale),
            None => field,
        }
    }

    fn answer(&self) -> DataType {
        match self.function {
            Text(_) => DataType::Utf8,
            Double => DataType::Float64,
            Integer => DataType::Int64,
            _ => WIDE,
        }
    }
}

impl ScalarUDFImpl for Call {
    fn name(&self) -> &str {
        if let Some(inner) = &self.inner {
            return inner.name();
        }
        match self.function {
            Widen => "numeric_wide",
            Shown(_) => "numeric_shown",
            Function::Operation(Operation::Plus) => "numeric_plus",
            Function::Operation(Operation::Minus) => "numeric_minus",
            Function::Operation(Operation::Times) => "numeric_times",
            Function::Operation(Operation::Divide) => "numeric_divide",
            Function::Operation(Operation::Modulo) => "numeric_modulo",
            Text(_) => "numeric_text",
            Double => "numeric_double",
            Integer => "numeric_integer",
            Fit(..) => "numeric_fit",
            _ => "numeric_function",
        }
    }

    fn aliases(&self) -> &[String] {
        self.inner.as_ref().map_or(&[], |inner| inner.aliases())
    }

    /// Columns without an alias keep the name that the operator gives them.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let args: Vec<String> = args
            .iter()
            .map(|arg| arg.schema_name().to_string())
            .collect();
        Ok(match self.function {
            Function::Operation(operation) => args.join(&format!(" {} ", operation.sign())),
            _ => format!("{}({})", self.name(), args.join(",")),
        })
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let Some(inner) = self.inner(types) else {
            return Ok(types.to_vec());
        };
        let field = |data_type: &DataType| Arc::new(Field::new("", data_type.clone(), true));
        let fields: Vec<FieldRef> = types.iter().map(field).collect();
        let fields = fields_with_udf(&fields, inner)?;
        Ok(fields
            .iter()
            .map(|field| field.data_type().clone())
            .collect())
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match self.inner(types) {
            Some(inner) => inner.return_type(types),
            None => Ok(self.answer()),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args
            .arg_fields
            .iter()
            .map(|f| f.data_type().clone())
            .collect();
        match self.inner(&types) {
            Some(inner) => inner.return_field_from_args(args),
            None => Ok(Arc::new(self.field(args.arg_fields))),
        }
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let Some(inner) = &self.inner else {
            return Ok(ExprSimplifyResult::Original(args));
        };
        let types: Result<Vec<DataType>> = args.iter().map(|arg| info.get_data_type(arg)).collect();
        match is_wide(&types?) {
            true => Ok(ExprSimplifyResult::Original(args)),
            false => inner.simplify(args, info),
        }
    }

    fn short_circuits(&self) -> bool {
        self.inner
            .as_ref()
            .is_some_and(|inner| inner.short_circuits())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let types: Vec<DataType> = args
            .arg_fields
            .iter()
            .map(|f| f.data_type().clone())
            .collect();
        if let Some(inner) = self.inner(&types) {
            return inner.invoke_with_args(args);
        }
        let is_scalar = |arg: &ColumnarValue| matches!(arg, ColumnarValue::Scalar(_));
        let all_scalar = args.args.iter().all(is_scalar);
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let array = self.function.run(&arrays)?;
        Ok(match all_scalar {
            true => ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?),
            false => ColumnarValue::Array(array),
        })
    }
}

/// The number in a row; None for NULL.
///
/// # Errors
/// Where there is something else in it.
pub(in crate::judge) fn number(array: &ArrayRef, row: usize) -> Result<Option<Number>> {
    if *array.data_type() == WIDE {
        if array.is_null(row) {
            return Ok(None);
        }
        let found = Number::from_key(array.as_binary::<i64>().value(row));
        return found
            .map(Some)
            .ok_or_else(|| wrong("bytes that are no number"));
    }
    match cell_from_array(&ANY, array, row) {
        Ok(Cell::Null) => Ok(None),
        Ok(Cell::Decimal(value)) => Ok(Some(Number::Decimal(value))),
        Ok(Cell::Wide(value)) => Ok(Some(Number::Wide(value))),
        Ok(_) => Err(wrong("no number")),
        Err(error) => Err(DataFusionError::Execution(error.to_string())),
    }
}

fn wrong(what: &str) -> DataFusionError {
    DataFusionError::Execution(what.to_owned())
}

/// How many digits after the point a column of numbers is shown with; None where that is up to each number.
pub(in crate::judge) fn scale_shown(field: &Field) -> Option<u8> {
    match field.data_type() {
        wide if *wide == WIDE => scale_of(field),
        DataType::Decimal128(_, scale) | DataType::Decimal256(_, scale) => {
            u8::try_from(*scale).ok()
        }
        whole if whole.is_integer() => Some(0),
        _ => None,
    }
}

/// Numbers as an array.
pub(super) fn array(numbers: impl Iterator<Item = Result<Option<Number>>>) -> Result<ArrayRef> {
    let mut builder = LargeBinaryBuilder::new();
    let mut key = Vec::new();
    for number in numbers {
        match number? {
            None => builder.append_null(),
            Some(number) => {
                key.clear();
                number.put_key(&mut key);
                builder.append_value(&key);
            }
        }
    }
    Ok(Arc::new(builder.finish()))
}

/// Numbers as their texts, with at least so many digits after the point. Texts may be many times as long as the numbers.
///
/// # Errors
/// Where there is no number, or they are longer than a batch of texts may be.
pub(super) fn texts(numbers: &ArrayRef, scale: Option<u8>) -> Result<ArrayRef> {
    let mut builder = StringBuilder::new();
    let mut total = 0;
    for row in 0..numbers.len() {
        let shown = match (number(numbers, row)?, scale) {
            (Some(Number::Decimal(value)), Some(scale)) if value.scale < scale => {
                Some(Number::Decimal(value.rescale(scale).unwrap_or(value)))
            }
            (number, _) => number,
        };
        let text = shown.map(|number| number.to_string());
        total += text.as_ref().map_or(0, String::len);
        if total > BATCH_BYTES_MAX {
            return Err(too_long());
        }
        builder.append_option(text);
    }
    Ok(Arc::new(builder.finish()))
}

impl Function {
    fn run(self, args: &[ArrayRef]) -> Result<ArrayRef> {
        let rows = args.first().map_or(0, |first| first.len());
        let [first, rest @ ..] = args else {
            return Err(wrong("a function of numbers takes one"));
        };
        let one = |row: usize| number(first, row);
        match self {
            Text(scale) => return texts(first, scale),
            Double => {
                let double = |row| one(row)?.map(double).transpose();
                let doubles: Result<Float64Array> = (0..rows).map(double).collect();
                return Ok(Arc::new(doubles?));
            }
            Integer => {
                let whole = |row| one(row)?.map(integer).transpose();
                let whole: Result<Int64Array> = (0..rows).map(whole).collect();
                return Ok(Arc::new(whole?));
            }
            _ => {}
        }
        let each = |row: usize| -> Result<Option<Number>> {
            match self {
                Coalesce | Greatest | Least => {
                    let mut found = None;
                    for arg in args {
                        found = self.either(found, number(arg, row)?);
                        if self == Coalesce && found.is_some() {
                            break;
                        }
                    }
                    Ok(found)
                }
                Function::Cut(how) => {
                    let digits = match rest.first() {
                        Some(digits) => number(digits, row)?.map(integer).transpose()?,
                        None => Some(0),
                    };
                    let both = one(row)?.zip(digits);
                    both.map(|(value, digits)| value::cut(&value, how, digits))
                        .transpose()
                }
                Function::Operation(_) | NullIf => {
                    let [second] = rest else {
                        return Err(wrong("an operator has two sides"));
                    };
                    match (self, one(row)?, number(second, row)?) {
                        (Function::Operation(op), Some(a), Some(b)) => op.apply(&a, &b).map(Some),
                        (NullIf, Some(a), b) => Ok(Some(a.clone()).filter(|_| b != Some(a))),
                        _ => Ok(None),
                    }
                }
                _ => one(row)?.map(|value| self.single(value)).transpose(),
            }
        };
        array((0..rows).map(each))
    }

    /// Of one number.
    fn single(self, number: Number) -> Result<Number> {
        match self {
            Absolute => value::without_sign(&number),
            Sign => Ok(value::sign(&number)),
            Fit(precision, scale) => fit(number, precision, scale),
            _ => Ok(number),
        }
    }

    /// Of two, which may be NULL.
    fn either(self, a: Option<Number>, b: Option<Number>) -> Option<Number> {
        let (Some(a), Some(b)) = (&a, &b) else {
            return a.or(b);
        };
        let found = match self {
            Greatest => a.max(b),
            Least => a.min(b),
            _ => a,
        };
        Some(found.clone())
    }
}

/// The double that is nearest to a number.
fn double(number: Number) -> Result<f64> {
    let double: f64 = number.to_string().parse().map_err(|_| wrong("no double"))?;
    match number {
        Number::Wide(Wide::Finite(_)) if double.is_infinite() => {
            Err(wrong("a number is out of the range of double precision"))
        }
        _ => Ok(double),
    }
}

/// A number as a whole one of 64 bits.
fn integer(number: Number) -> Result<i64> {
    let text = value::cut(&number, Cut::Round, 0)?.to_string();
    text.parse()
        .map_err(|_| wrong("a number does not fit a bigint"))
}

/// A number rounded to a scale.
fn fit(number: Number, precision: u8, scale: i8) -> Result<Number> {
    let data_type = Declared::Numeric {
        precision_scale: Some((u16::from(precision), i16::from(scale))),
    };
    match crate::schema::value::parse_text(&data_type, &number.to_string()) {
        Ok(Cell::Decimal(value)) => Ok(Number::Decimal(value)),
        Ok(Cell::Wide(value)) => Ok(Number::Wide(value)),
        Ok(_) => Err(wrong("no number")),
        Err(error) => Err(DataFusionError::Execution(error.to_string())),
    }
}
