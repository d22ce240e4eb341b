//! Arrow values as cells of a declared type.

use datafusion::arrow::array::types as arrow_types;
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{
    ArrowPrimitiveType, DataType as ArrowType, IntervalUnit, TimeUnit,
};
use serde_json::{Map, Value};

use crate::change::{Cell, DECIMAL_DIGITS_MAX, Decimal, Number};
use crate::schema::DataType;
use crate::schema::value::{
    ValueError, interval_text, parse_number, parse_text, to_json, to_text, uuid_text,
};

/// Deeper nesting is refused.
const DEPTH_MAX: usize = 64;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The declared type that fits an Arrow type best. Nested types become `jsonb`, lists become arrays, 16 fixed bytes a uuid.
pub fn data_type_of_arrow(arrow: &ArrowType) -> DataType {
    use ArrowType as A;
    match arrow {
        A::Null | A::Utf8 | A::LargeUtf8 | A::Utf8View => DataType::Text,
        A::Boolean => DataType::Bool,
        A::Int8 | A::Int16 | A::UInt8 => DataType::Int16,
        A::Int32 | A::UInt16 => DataType::Int32,
        A::Int64 | A::UInt32 => DataType::Int64,
        A::UInt64 => DataType::Numeric {
            precision_scale: Some((20, 0)),
        },
        A::Float16 | A::Float32 => DataType::Float32,
        A::Float64 => DataType::Float64,
        A::Decimal32(precision, scale)
        | A::Decimal64(precision, scale)
        | A::Decimal128(precision, scale)
        | A::Decimal256(precision, scale) => DataType::Numeric {
            precision_scale: Some((u16::from(*precision), i16::from(*scale))),
        },
        A::Timestamp(_, None) => DataType::Timestamp,
        A::Timestamp(_, Some(_)) => DataType::TimestampTz,
        A::Date32 | A::Date64 => DataType::Date,
        A::Time32(_) | A::Time64(_) => DataType::Time,
        A::Duration(_) | A::Interval(_) => DataType::Other("interval".to_owned()),
        A::FixedSizeBinary(16) => DataType::Uuid,
        A::Binary | A::LargeBinary | A::BinaryView | A::FixedSizeBinary(_) => DataType::Bytea,
        A::List(field)
        | A::LargeList(field)
        | A::ListView(field)
        | A::LargeListView(field)
        | A::FixedSizeList(field, _) => {
            match data_type_of_arrow(field.data_type()) {
                // Postgres' arrays have one type for any number of dimensions.
                DataType::Array(element) => DataType::Array(element),
                element => DataType::Array(Box::new(element)),
            }
        }
        A::Dictionary(_, values) => data_type_of_arrow(values),
        A::RunEndEncoded(_, values) => data_type_of_arrow(values.data_type()),
        A::Struct(_) | A::Map(_, _) | A::Union(_, _) => DataType::Jsonb,
    }
}

/// The value at `row` as a cell of the declared type. Values are converted where nothing is lost: whole doubles to integers,
/// midnight to a date, any number to text; otherwise it is an error. A row beyond the array is an error too.
pub fn cell_from_array(
    data_type: &DataType,
    array: &dyn Array,
    row: usize,
) -> Result<Cell, ValueError> {
    let fail = |reason| ValueError::new(data_type, reason);
    if row >= array.len() {
        return Err(fail("no such row"));
    }
    match read(array, row, 0).map_err(fail)? {
        None => Ok(Cell::Null),
        Some(found) => fit(data_type, found),
    }
}

type Reason = &'static str;
const UNSUPPORTED: Reason = "an Arrow type that is not supported";
const OUT_OF_RANGE: Reason = "out of range";
const TOO_DEEP: Reason = "nested too deeply";

/// An Arrow value before it is fitted to its column.
enum Found<'a> {
    Bool(bool),
    Int(i128),
    Float(f64),
    Real(f32),
    Number(Number),
    Text(&'a str),
    Bytes(&'a [u8]),
    Days(i64),
    Clock(i64),
    Micros(i64, bool),
    List(ArrayRef),
    Json(Value),
    Printed(String),
}

/// Reads the value; None for NULL.
fn read(array: &dyn Array, row: usize, depth: usize) -> Result<Option<Found<'_>>, Reason> {
    use ArrowType as A;
    if depth > DEPTH_MAX {
        return Err(TOO_DEEP);
    }
    if array.is_null(row) {
        return Ok(None);
    }
    Ok(Some(match array.data_type() {
        A::Null => return Ok(None),
        A::Boolean => Found::Bool(array.as_boolean().value(row)),
        A::Utf8 => Found::Text(array.as_string::<i32>().value(row)),
        A::LargeUtf8 => Found::Text(array.as_string::<i64>().value(row)),
        A::Utf8View => Found::Text(array.as_string_view().value(row)),
        A::Binary => Found::Bytes(array.as_binary::<i32>().value(row)),
        A::LargeBinary => Found::Bytes(array.as_binary::<i64>().value(row)),
        A::BinaryView => Found::Bytes(array.as_binary_view().value(row)),
        A::FixedSizeBinary(_) => Found::Bytes(array.as_fixed_size_binary().value(row)),
        A::List(_) => Found::List(array.as_list::<i32>().value(row)),
        A::LargeList(_) => Found::List(array.as_list::<i64>().value(row)),
        A::ListView(_) => Found::List(array.as_list_view::<i32>().value(row)),
        A::LargeListView(_) => Found::List(array.as_list_view::<i64>().value(row)),
        A::FixedSizeList(_, _) => Found::List(array.as_fixed_size_list().value(row)),
        A::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            let key = integer(dictionary.keys(), row).and_then(|key| usize::try_from(key).ok());
            let values = dictionary.values();
            let key = key
                .filter(|&key| key < values.len())
                .ok_or("a dictionary key without a value")?;
            return read(values, key, depth + 1);
        }
        A::RunEndEncoded(_, _) => return read_run(array, row, depth),
        A::Struct(_) | A::Map(_, _) => Found::Json(json(array, row, depth)?),
        A::Duration(_) | A::Interval(_) => {
            Found::Printed(read_interval(array, row).ok_or(UNSUPPORTED)?)
        }
        _ => return read_number(array, row).map(Some),
    }))
}

/// An interval or a duration, as Postgres prints it.
fn read_interval(array: &dyn Array, row: usize) -> Option<String> {
    use arrow_types as t;
    let (months, days, nanos) = match array.data_type() {
        ArrowType::Interval(IntervalUnit::YearMonth) => {
            let months = primitive::<t::IntervalYearMonthType>(array, row)?;
            (months, 0, 0)
        }
        ArrowType::Interval(IntervalUnit::DayTime) => {
            let value = primitive::<t::IntervalDayTimeType>(array, row)?;
            let nanos = i128::from(value.milliseconds) * 1_000_000;
            (0, i64::from(value.days), nanos)
        }
        ArrowType::Interval(IntervalUnit::MonthDayNano) => {
            let value = primitive::<t::IntervalMonthDayNanoType>(array, row)?;
            let nanos = i128::from(value.nanoseconds);
            (value.months, i64::from(value.days), nanos)
        }
        ArrowType::Duration(unit) => {
            let (value, unit) = match unit {
                TimeUnit::Second => (
                    primitive::<t::DurationSecondType>(array, row)?,
                    1_000_000_000,
                ),
                TimeUnit::Millisecond => (
                    primitive::<t::DurationMillisecondType>(array, row)?,
                    1_000_000,
                ),
                TimeUnit::Microsecond => {
                    (primitive::<t::DurationMicrosecondType>(array, row)?, 1_000)
                }
                TimeUnit::Nanosecond => (primitive::<t::DurationNanosecondType>(array, row)?, 1),
            };
            // As Postgres subtracts timestamps: whole days, then the rest.
            let nanos = i128::from(value) * unit;
            let day = i128::from(MICROS_PER_DAY) * 1_000;
            (0, i64::try_from(nanos / day).ok()?, nanos % day)
        }
        _ => return None,
    };
    Some(interval_text(months, days, nanos))
}

fn primitive<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> Option<T::Native> {
    array
        .as_primitive_opt::<T>()
        .map(|values| values.value(row))
}

/// Any integer.
fn integer(array: &dyn Array, row: usize) -> Option<i128> {
    use ArrowType as A;
    match array.data_type() {
        A::Int8 => primitive::<arrow_types::Int8Type>(array, row).map(i128::from),
        A::Int16 => primitive::<arrow_types::Int16Type>(array, row).map(i128::from),
        A::Int32 => primitive::<arrow_types::Int32Type>(array, row).map(i128::from),
        A::Int64 => primitive::<arrow_types::Int64Type>(array, row).map(i128::from),
        A::UInt8 => primitive::<arrow_types::UInt8Type>(array, row).map(i128::from),
        A::UInt16 => primitive::<arrow_types::UInt16Type>(array, row).map(i128::from),
        A::UInt32 => primitive::<arrow_types::UInt32Type>(array, row).map(i128::from),
        A::UInt64 => primitive::<arrow_types::UInt64Type>(array, row).map(i128::from),
        _ => None,
    }
}

fn read_number(array: &dyn Array, row: usize) -> Result<Found<'static>, Reason> {
    use ArrowType as A;
    if let Some(value) = integer(array, row) {
        return Ok(Found::Int(value));
    }
    let found = match array.data_type() {
        A::Float16 => primitive::<arrow_types::Float16Type>(array, row)
            .map(|value| Found::Real(value.to_f32())),
        A::Float32 => primitive::<arrow_types::Float32Type>(array, row).map(Found::Real),
        A::Float64 => primitive::<arrow_types::Float64Type>(array, row).map(Found::Float),
        A::Decimal32(_, scale) => primitive::<arrow_types::Decimal32Type>(array, row)
            .map(|value| decimal(i128::from(value), *scale))
            .transpose()?,
        A::Decimal64(_, scale) => primitive::<arrow_types::Decimal64Type>(array, row)
            .map(|value| decimal(i128::from(value), *scale))
            .transpose()?,
        A::Decimal128(_, scale) => primitive::<arrow_types::Decimal128Type>(array, row)
            .map(|value| decimal(value, *scale))
            .transpose()?,
        A::Decimal256(_, scale) => primitive::<arrow_types::Decimal256Type>(array, row)
            .map(|value| match value.to_i128() {
                Some(value) => decimal(value, *scale),
                None => wide(&value.to_string(), *scale),
            })
            .transpose()?,
        _ => read_time(array, row)?,
    };
    found.ok_or(UNSUPPORTED)
}

fn decimal(unscaled: i128, scale: i8) -> Result<Found<'static>, Reason> {
    let fits =
        |scale: &u8| *scale <= DECIMAL_DIGITS_MAX && unscaled.unsigned_abs() < 10u128.pow(38);
    match u8::try_from(scale).ok().filter(fits) {
        Some(scale) => Ok(Found::Number(Number::Decimal(Decimal { unscaled, scale }))),
        None => wide(&unscaled.to_string(), scale),
    }
}

/// The number of digits and a sign, the last `scale` of which stand after the point.
fn wide(digits: &str, scale: i8) -> Result<Found<'static>, Reason> {
    let text = format!("{digits}e{}", -i32::from(scale));
    let number = parse_number(&text).map_err(|error| error.reason)?;
    Ok(Found::Number(number))
}

fn read_time(array: &dyn Array, row: usize) -> Result<Option<Found<'static>>, Reason> {
    use ArrowType as A;
    use arrow_types as t;
    Ok(match array.data_type() {
        A::Date32 => {
            primitive::<t::Date32Type>(array, row).map(|days| Found::Days(i64::from(days)))
        }
        A::Date64 => primitive::<t::Date64Type>(array, row)
            .map(|millis| Found::Days(millis.div_euclid(86_400_000))),
        A::Time32(TimeUnit::Second) => primitive::<t::Time32SecondType>(array, row)
            .map(|value| Found::Clock(i64::from(value) * 1_000_000)),
        A::Time32(_) => primitive::<t::Time32MillisecondType>(array, row)
            .map(|value| Found::Clock(i64::from(value) * 1_000)),
        A::Time64(TimeUnit::Microsecond) => {
            primitive::<t::Time64MicrosecondType>(array, row).map(Found::Clock)
        }
        A::Time64(_) => primitive::<t::Time64NanosecondType>(array, row)
            .map(|value| Found::Clock(to_micros(value))),
        A::Timestamp(unit, zone) => {
            let micros = match unit {
                TimeUnit::Second => primitive::<t::TimestampSecondType>(array, row)
                    .map(|value| value.checked_mul(1_000_000).ok_or(OUT_OF_RANGE))
                    .transpose()?,
                TimeUnit::Millisecond => primitive::<t::TimestampMillisecondType>(array, row)
                    .map(|value| value.checked_mul(1_000).ok_or(OUT_OF_RANGE))
                    .transpose()?,
                TimeUnit::Microsecond => primitive::<t::TimestampMicrosecondType>(array, row),
                TimeUnit::Nanosecond => {
                    primitive::<t::TimestampNanosecondType>(array, row).map(to_micros)
                }
            };
            micros.map(|micros| Found::Micros(micros, zone.is_some()))
        }
        _ => return Err(UNSUPPORTED),
    })
}

/// Nanoseconds rounded to the nearest microsecond.
fn to_micros(nanos: i64) -> i64 {
    nanos.div_euclid(1_000) + i64::from(nanos.rem_euclid(1_000) >= 500)
}

fn read_run(array: &dyn Array, row: usize, depth: usize) -> Result<Option<Found<'_>>, Reason> {
    let (values, at) = if let Some(runs) = array.as_run_opt::<arrow_types::Int16Type>() {
        (runs.values(), runs.get_physical_index(row))
    } else if let Some(runs) = array.as_run_opt::<arrow_types::Int32Type>() {
        (runs.values(), runs.get_physical_index(row))
    } else if let Some(runs) = array.as_run_opt::<arrow_types::Int64Type>() {
        (runs.values(), runs.get_physical_index(row))
    } else {
        return Err(UNSUPPORTED);
    };
    if at < values.len() {
        read(values, at, depth + 1)
    } else {
        Err("a run without a value")
    }
}

/// The value as JSON, for nested types.
fn json(array: &dyn Array, row: usize, depth: usize) -> Result<Value, Reason> {
    if depth > DEPTH_MAX {
        return Err(TOO_DEEP);
    }
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    match array.data_type() {
        ArrowType::Struct(fields) => {
            let columns = array.as_struct().columns().iter();
            let members = fields.iter().zip(columns);
            let members = members
                .map(|(field, column)| Ok((field.name().clone(), json(column, row, depth + 1)?)));
            members.collect::<Result<Map<_, _>, _>>().map(Value::Object)
        }
        ArrowType::Map(_, _) => {
            let entries = array.as_map().value(row);
            let [keys, values] = entries.columns() else {
                return Err(UNSUPPORTED);
            };
            let mut members = Map::new();
            for at in 0..entries.len() {
                let key = match json(keys, at, depth + 1)? {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                members.insert(key, json(values, at, depth + 1)?);
            }
            Ok(Value::Object(members))
        }
        _ => match read(array, row, depth + 1)? {
            Some(Found::List(items)) => json_list(&items, depth),
            None => Ok(Value::Null),
            Some(found) => {
                let natural = data_type_of_arrow(array.data_type());
                fit(&natural, found)
                    .map(|cell| to_json(&natural, &cell))
                    .map_err(|error| error.reason)
            }
        },
    }
}

fn json_list(items: &ArrayRef, depth: usize) -> Result<Value, Reason> {
    (0..items.len())
        .map(|at| json(items, at, depth + 1))
        .collect::<Result<Vec<_>, _>>()
        .map(Value::Array)
}

fn is_textual(data_type: &DataType) -> bool {
    use DataType as D;
    matches!(
        data_type,
        D::Text | D::Varchar(_) | D::Char(_) | D::Enum { .. } | D::Json | D::Jsonb | D::Other(_)
    )
}

/// Fits a value to its column's type.
fn fit(data_type: &DataType, found: Found<'_>) -> Result<Cell, ValueError> {
    use DataType as D;
    let fail = |reason| Err(ValueError::new(data_type, reason));
    let numeric = matches!(data_type, D::Numeric { .. });
    let whole = matches!(data_type, D::Int16 | D::Int32 | D::Int64);
    match (data_type, found) {
        (D::Bool, Found::Bool(value)) => Ok(Cell::Bool(value)),
        (D::Float64 | D::Float32, Found::Int(value)) => parse_text(data_type, &value.to_string()),
        (D::Float64, Found::Float(value)) => Ok(Cell::Float(value)),
        (D::Float64 | D::Float32, Found::Real(value)) => Ok(Cell::Float(f64::from(value))),
        (D::Float64 | D::Float32, Found::Number(value)) => {
            parse_text(data_type, &value.to_string())
        }
        (D::Float32, Found::Float(value)) => Ok(Cell::Float(f64::from(value as f32))),
        (
            D::Numeric {
                precision_scale: None,
            },
            Found::Number(value),
        ) => Ok(value.into()),
        (_, Found::Int(value)) if whole || numeric || is_textual(data_type) => {
            parse_text(data_type, &value.to_string())
        }
        (_, Found::Number(value)) if numeric || is_textual(data_type) => {
            parse_text(data_type, &value.to_string())
        }
        (_, Found::Number(Number::Decimal(value))) if whole => match value.rescale(0) {
            Some(value) => parse_text(data_type, &value.to_string()),
            None => fail("not a whole number"),
        },
        (_, Found::Float(value)) => {
            fit_float(data_type, value, to_text(&D::Float64, &Cell::Float(value)))
        }
        (_, Found::Real(value)) => {
            let value = f64::from(value);
            fit_float(data_type, value, to_text(&D::Float32, &Cell::Float(value)))
        }
        (_, Found::Text(text)) => parse_text(data_type, text),
        (_, Found::Bytes(bytes)) => fit_bytes(data_type, bytes),
        (_, Found::List(items)) => fit_list(data_type, &items),
        (D::Json | D::Jsonb | D::Text | D::Varchar(_) | D::Other(_), Found::Json(value)) => {
            parse_text(data_type, &value.to_string())
        }
        (_, Found::Printed(text)) if is_textual(data_type) => parse_text(data_type, &text),
        (D::Date, Found::Days(days)) => {
            i32::try_from(days).map_or_else(|_| fail(OUT_OF_RANGE), |days| Ok(Cell::Date(days)))
        }
        (D::Timestamp | D::TimestampTz, Found::Days(days)) => days
            .checked_mul(MICROS_PER_DAY)
            .map_or_else(|| fail(OUT_OF_RANGE), |micros| Ok(Cell::Timestamp(micros))),
        (D::Time, Found::Clock(micros)) if (0..=MICROS_PER_DAY).contains(&micros) => {
            Ok(Cell::Time(micros))
        }
        (D::Timestamp | D::TimestampTz, Found::Micros(micros, _)) => Ok(Cell::Timestamp(micros)),
        (D::Date, Found::Micros(micros, _)) if micros % MICROS_PER_DAY == 0 => {
            i32::try_from(micros / MICROS_PER_DAY)
                .map_or_else(|_| fail(OUT_OF_RANGE), |days| Ok(Cell::Date(days)))
        }
        (_, found) if is_textual(data_type) => fit_text(data_type, &found),
        (_, Found::Bool(_)) => fail("an Arrow boolean"),
        (_, Found::Int(_) | Found::Number(_)) => fail("an Arrow number"),
        (D::Time, Found::Clock(_)) => fail(OUT_OF_RANGE),
        (_, Found::Days(_) | Found::Clock(_) | Found::Micros(_, _)) => {
            fail("an Arrow date or time")
        }
        (_, Found::Json(_) | Found::Printed(_)) => fail("a nested Arrow value"),
    }
}

/// Simple values as text for textual columns.
fn fit_text(data_type: &DataType, found: &Found<'_>) -> Result<Cell, ValueError> {
    let (natural, cell) = match found {
        Found::Bool(value) => return parse_text(data_type, if *value { "true" } else { "false" }),
        Found::Days(days) => match i32::try_from(*days) {
            Ok(days) => (DataType::Date, Cell::Date(days)),
            Err(_) => return Err(ValueError::new(data_type, OUT_OF_RANGE)),
        },
        Found::Clock(micros) => (DataType::Time, Cell::Time(*micros)),
        Found::Micros(micros, true) => (DataType::TimestampTz, Cell::Timestamp(*micros)),
        Found::Micros(micros, false) => (DataType::Timestamp, Cell::Timestamp(*micros)),
        _ => return Err(ValueError::new(data_type, UNSUPPORTED)),
    };
    parse_text(data_type, &to_text(&natural, &cell).unwrap_or_default())
}

/// A double for a column of another type: exact where it is whole, by its shortest digits for a numeric.
fn fit_float(
    data_type: &DataType,
    value: f64,
    shortest: Option<String>,
) -> Result<Cell, ValueError> {
    use DataType as D;
    match data_type {
        D::Int16 | D::Int32 | D::Int64 if value.fract() == 0.0 => {
            parse_text(data_type, &format!("{value:.0}"))
        }
        D::Int16 | D::Int32 | D::Int64 => Err(ValueError::new(data_type, "not a whole number")),
        D::Numeric { .. } => parse_text(data_type, &shortest.unwrap_or_default()),
        _ if is_textual(data_type) => parse_text(data_type, &shortest.unwrap_or_default()),
        _ => Err(ValueError::new(data_type, "an Arrow number")),
    }
}

fn fit_bytes(data_type: &DataType, bytes: &[u8]) -> Result<Cell, ValueError> {
    match data_type {
        DataType::Bytea => Ok(Cell::Bytes(bytes.to_vec())),
        DataType::Uuid => match <&[u8; 16]>::try_from(bytes) {
            Ok(bytes) => Ok(Cell::Text(uuid_text(bytes))),
            Err(_) => Err(ValueError::new(data_type, "not 16 bytes")),
        },
        _ if is_textual(data_type) => match std::str::from_utf8(bytes) {
            Ok(text) => parse_text(data_type, text),
            Err(_) => Err(ValueError::new(data_type, "bytes that are not UTF-8")),
        },
        _ => Err(ValueError::new(data_type, "Arrow bytes")),
    }
}

fn fit_list(data_type: &DataType, items: &ArrayRef) -> Result<Cell, ValueError> {
    let DataType::Array(element) = data_type else {
        if !is_textual(data_type) {
            return Err(ValueError::new(data_type, "an Arrow list"));
        }
        let value = json_list(items, 0).map_err(|reason| ValueError::new(data_type, reason))?;
        return parse_text(data_type, &value.to_string());
    };
    let mut depth_type = items.data_type();
    let mut depth = 1;
    while let ArrowType::List(field)
    | ArrowType::LargeList(field)
    | ArrowType::FixedSizeList(field, _) = depth_type
    {
        depth_type = field.data_type();
        depth += 1;
    }
    if depth > DEPTH_MAX {
        return Err(ValueError::new(data_type, TOO_DEEP));
    }
    let nested = matches!(data_type_of_arrow(items.data_type()), DataType::Array(_));
    let item_type = if nested { data_type } else { element };
    (0..items.len())
        .map(|at| cell_from_array(item_type, items, at))
        .collect::<Result<Vec<_>, _>>()
        .map(Cell::List)
}
