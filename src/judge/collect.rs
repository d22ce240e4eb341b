//! From rows of a violation query to different keys: counted exactly, sampled in key order.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array,
    new_null_array,
};
use datafusion::arrow::compute::{CastOptions, SortOptions, cast, cast_with_options, take};
use datafusion::arrow::datatypes::{DataType as ArrowType, Field, TimeUnit};
use datafusion::arrow::row::{RowConverter, SortField};
use serde_json::{Map, Value};

use super::{JudgeError, numbers};
use crate::change::{Cell, Decimal, Number};
use crate::plan::{Compiled, Expand, IMPACT};
use crate::schema::DataType;
use crate::schema::columnar::{cell_from_array, data_type_of_arrow};
use crate::schema::value;
use crate::state::{WIDE, scale_of};
use crate::verdict::Violation;

/// The most keys of one rule that are told apart; more is a limit.
const KEYS_MAX: usize = 50_000_000;
/// The most keys that are kept whole (for a baseline, `within` or `--sample all`).
const KEYS_KEPT_MAX: usize = 1_000_000;

/// A key in a form that sorts as its values do, NULL last.
pub(super) type KeyBytes = Box<[u8]>;

/// Turns key columns into [`KeyBytes`].
#[derive(Default)]
pub(super) struct Encoder(Option<RowConverter>);

impl Encoder {
    /// The keys of so many rows; the columns must have the same types at every call.
    pub(super) fn encode(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<Vec<KeyBytes>, JudgeError> {
        if columns.is_empty() {
            return Ok(vec![KeyBytes::default(); rows]);
        }
        if self.0.is_none() {
            let last = SortOptions {
                descending: false,
                nulls_first: false,
            };
            let field =
                |column: &ArrayRef| SortField::new_with_options(column.data_type().clone(), last);
            self.0 = Some(
                RowConverter::new(columns.iter().map(field).collect())
                    .map_err(JudgeError::engine)?,
            );
        }
        let converter = self.0.as_ref().expect("made above");
        let encoded = converter
            .convert_columns(columns)
            .map_err(JudgeError::engine)?;
        Ok((0..rows)
            .map(|row| encoded.row(row).as_ref().into())
            .collect())
    }
}

impl Encoder {
    /// The keys of so many violations: those of equal numbers are equal, whatever scale their column has come to.
    pub(super) fn encode_keys(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<Vec<KeyBytes>, JudgeError> {
        let is_decimal = |column: &ArrayRef| column.data_type().is_decimal();
        if !columns.iter().any(is_decimal) {
            return self.encode(columns, rows);
        }
        let canonical = |column: &ArrayRef| match is_decimal(column) {
            true => numbers::widened(column).map_err(JudgeError::engine),
            false => Ok(Arc::clone(column)),
        };
        let columns: Vec<ArrayRef> = columns.iter().map(canonical).collect::<Result<_, _>>()?;
        self.encode(&columns, rows)
    }

    /// The values of one column from their sortable form; NULL where there is none.
    pub(super) fn decode<'a>(
        &self,
        data_type: &ArrowType,
        keys: impl Iterator<Item = Option<&'a [u8]>>,
    ) -> Result<ArrayRef, JudgeError> {
        let mut places: Vec<Option<u32>> = Vec::new();
        let mut values: Vec<&[u8]> = Vec::new();
        for key in keys {
            places.push(key.map(|_| u32::try_from(values.len()).expect("fewer than 2^32 rows")));
            values.extend(key);
        }
        let Some(converter) = self.0.as_ref().filter(|_| !values.is_empty()) else {
            return Ok(new_null_array(data_type, places.len()));
        };
        let parser = converter.parser();
        let rows = values.into_iter().map(|value| parser.parse(value));
        let columns = converter.convert_rows(rows).map_err(JudgeError::engine)?;
        take(&columns[0], &UInt32Array::from(places), None).map_err(JudgeError::engine)
    }
}

/// How many violations are kept whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// The first so many in key order.
    First(usize),
    /// All of them.
    All,
}

/// What was found so far.
pub(super) struct Collector<'a> {
    compiled: &'a Compiled,
    keep: Keep,
    encoder: Encoder,
    seen: HashSet<[u8; 16]>,
    /// Keys counted without being looked at: they are different by construction.
    counted: u64,
    kept: BTreeMap<KeyBytes, Violation>,
    rows: u64,
    impact: Option<Impact>,
    /// The same key by key, where that is asked for.
    impacts: Option<BTreeMap<KeyBytes, Impact>>,
    /// The only keys that are looked at, if not all are.
    only: Option<&'a BTreeSet<KeyBytes>>,
}

/// A sum of impacts: exact for integers and decimals.
#[derive(Clone, Debug)]
enum Impact {
    Exact(Number),
    Float(f64),
}

impl Impact {
    /// The sum of this and what there was before.
    fn onto(&self, before: Option<&Impact>) -> Result<Impact, JudgeError> {
        match (before, self) {
            (None, added) => Ok(added.clone()),
            (Some(Impact::Exact(a)), Impact::Exact(b)) => {
                let sum = numbers::sum(a, b).map_err(JudgeError::engine)?;
                Ok(Impact::Exact(sum))
            }
            (Some(Impact::Float(a)), Impact::Float(b)) => Ok(Impact::Float(a + b)),
            (Some(_), _) => Err(JudgeError::Engine("`impact` changes its type".into())),
        }
    }

    fn text(self) -> String {
        match self {
            Impact::Exact(number) => number.to_string(),
            Impact::Float(value) => value.to_string(),
        }
    }
}

/// The end of a collection.
pub(super) struct Found {
    /// Number of different keys.
    pub(super) count: u64,
    /// Rows of the query.
    pub(super) rows: u64,
    /// Kept violations in key order, with their sortable keys.
    pub(super) kept: BTreeMap<KeyBytes, Violation>,
    /// Sum of impacts, as text.
    pub(super) impact: Option<String>,
    /// The same of each key, where that was asked for.
    pub(super) impacts: BTreeMap<KeyBytes, String>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(compiled: &'a Compiled, keep: Keep) -> Self {
        Collector {
            compiled,
            keep: match keep {
                Keep::First(most) if most > KEYS_KEPT_MAX => Keep::All,
                keep => keep,
            },
            encoder: Encoder::default(),
            seen: HashSet::new(),
            counted: 0,
            kept: BTreeMap::new(),
            rows: 0,
            impact: None,
            impacts: None,
            only: None,
        }
    }

    /// A collector that looks at some keys only.
    pub(super) fn only(mut self, keys: &'a BTreeSet<KeyBytes>) -> Self {
        self.only = Some(keys);
        self
    }

    /// A collector that adds up impacts key by key too.
    pub(super) fn by_key(mut self) -> Self {
        self.impacts = Some(BTreeMap::new());
        self
    }

    /// Takes in one batch of the query's output.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<(), JudgeError> {
        self.rows += batch.num_rows() as u64;
        match &self.compiled.expand {
            Expand::None => {
                let keys = columns(batch, &self.compiled.key)?;
                let shown_keys = shown(batch, &self.compiled.key)?;
                let evidence = shown(batch, &self.compiled.evidence)?;
                let impact = match self.compiled.impact {
                    true => Some(plain(Arc::clone(column(batch, IMPACT)?.0))?),
                    false => None,
                };
                let compiled = self.compiled;
                for (row, bytes) in self
                    .encoder
                    .encode_keys(&keys, batch.num_rows())?
                    .into_iter()
                    .enumerate()
                {
                    if self.only.is_some_and(|only| !only.contains(&bytes)) {
                        continue;
                    }
                    if let Some(impact) = &impact {
                        self.add_impact(&bytes, impact, row)?;
                    }
                    self.enter(bytes, || {
                        violation(
                            &compiled.key,
                            &shown_keys,
                            &compiled.evidence,
                            &evidence,
                            row,
                        )
                    })?;
                }
                Ok(())
            }
            Expand::Sequence { column, step } => self.add_numbers(batch, column, *step),
            Expand::Windows {
                every_us,
                min_rows,
                zoned,
            } => self.add_windows(batch, *every_us, *min_rows, *zoned),
        }
    }

    pub(super) fn finish(self) -> Found {
        Found {
            count: self.seen.len() as u64 + self.counted,
            rows: self.rows,
            kept: self.kept,
            impact: self.impact.map(Impact::text),
            impacts: self
                .impacts
                .into_iter()
                .flatten()
                .map(|(key, impact)| (key, impact.text()))
                .collect(),
        }
    }

    /// One violation: counted if its key is new, kept if it is among the first.
    fn enter(
        &mut self,
        key: KeyBytes,
        violation: impl FnOnce() -> Result<Violation, JudgeError>,
    ) -> Result<(), JudgeError> {
        let hash = blake3::hash(&key);
        let mut short = [0u8; 16];
        short.copy_from_slice(&hash.as_bytes()[..16]);
        let fresh = self.seen.insert(short);
        if self.seen.len() > KEYS_MAX {
            return Err(JudgeError::Limit(format!(
                "more than {KEYS_MAX} different keys"
            )));
        }
        self.keep(key, fresh, violation)
    }

    fn keep(
        &mut self,
        key: KeyBytes,
        fresh: bool,
        violation: impl FnOnce() -> Result<Violation, JudgeError>,
    ) -> Result<(), JudgeError> {
        if !fresh {
            // One key, several rows: the smallest evidence stands for all, so that the output has one order.
            if let Some(have) = self.kept.get_mut(&key) {
                let other = violation()?;
                if evidence_order(&other) < evidence_order(have) {
                    *have = other;
                }
            }
            return Ok(());
        }
        match self.keep {
            Keep::All => {
                if self.kept.len() >= KEYS_KEPT_MAX {
                    return Err(JudgeError::Limit(format!(
                        "more than {KEYS_KEPT_MAX} violations to keep"
                    )));
                }
                self.kept.insert(key, violation()?);
            }
            Keep::First(0) => {}
            Keep::First(most) => {
                let room = self.kept.len() < most;
                if room
                    || self
                        .kept
                        .last_key_value()
                        .is_some_and(|(last, _)| key < *last)
                {
                    self.kept.insert(key, violation()?);
                }
                if self.kept.len() > most {
                    self.kept.pop_last();
                }
            }
        }
        Ok(())
    }

    fn add_impact(
        &mut self,
        key: &KeyBytes,
        values: &ArrayRef,
        row: usize,
    ) -> Result<(), JudgeError> {
        let added = match cell(values, row)?.1 {
            Cell::Int(value) => Impact::Exact(Number::Decimal(Decimal {
                unscaled: i128::from(value),
                scale: 0,
            })),
            Cell::Decimal(value) => Impact::Exact(Number::Decimal(value)),
            Cell::Wide(value) => Impact::Exact(Number::Wide(value)),
            Cell::Float(value) => Impact::Float(value),
            Cell::Null => return Ok(()),
            _ => return Err(JudgeError::Engine("`impact` is no number".into())),
        };
        self.impact = Some(added.onto(self.impact.as_ref())?);
        if let Some(impacts) = &mut self.impacts {
            let sum = added.onto(impacts.get(key))?;
            impacts.insert(key.clone(), sum);
        }
        Ok(())
    }

    /// Gaps between neighbouring numbers become the numbers that are missing in them.
    fn add_numbers(
        &mut self,
        batch: &RecordBatch,
        column: &str,
        step: i64,
    ) -> Result<(), JudgeError> {
        let groups = columns(batch, &self.compiled.key)?;
        let ends = columns(batch, &self.compiled.evidence)?;
        let ends: Vec<Int64Array> = ends.iter().map(integers).collect::<Result<_, _>>()?;
        let [previous, next, start] = ends.as_slice() else {
            return Err(JudgeError::Engine(
                "a sequence query returns three numbers".into(),
            ));
        };
        let step = i128::from(step);
        for row in 0..batch.num_rows() {
            let (high, start) = (i128::from(next.value(row)), i128::from(start.value(row)));
            let low = match previous.is_null(row) {
                true => start - 1,
                false => i128::from(previous.value(row)),
            };
            // Numbers of the grid `start + k * step` that lie strictly between the neighbours.
            let first = start + ((low - start).div_euclid(step) + 1) * step;
            let last = start + ((high - start + step - 1).div_euclid(step) - 1) * step;
            if first > last {
                continue;
            }
            let missing = u64::try_from((last - first) / step + 1).map_err(|_| too_many())?;
            let wanted = self.wanted(missing)?;
            let numbers = Int64Array::from_iter_values((0..wanted).map(|k| {
                i64::try_from(first + i128::from(k) * step).expect("between two 64-bit numbers")
            }));
            self.add_expanded(&groups, row, column, std::sync::Arc::new(numbers), missing)?;
        }
        Ok(())
    }

    /// Windows with too few rows, and the windows without any between them.
    fn add_windows(
        &mut self,
        batch: &RecordBatch,
        every_us: i64,
        min_rows: u64,
        zoned: bool,
    ) -> Result<(), JudgeError> {
        let groups = columns(batch, &self.compiled.key)?;
        let figures = columns(batch, &self.compiled.evidence)?;
        let figures: Vec<Int64Array> = figures.iter().map(integers).collect::<Result<_, _>>()?;
        let [window, rows, until] = figures.as_slice() else {
            return Err(JudgeError::Engine(
                "a window query returns three numbers".into(),
            ));
        };
        for row in 0..batch.num_rows() {
            let start = window.value(row);
            let few = u64::try_from(rows.value(row)).unwrap_or(0) < min_rows;
            let next = start.saturating_add(every_us);
            let first = if few { start } else { next };
            let end = until.value(row).max(if few { next } else { start });
            if first >= end {
                continue;
            }
            let missing = end.abs_diff(first) / every_us.unsigned_abs();
            let wanted = self.wanted(missing)?;
            let starts = TimestampMicrosecondArray::from_iter_values(
                (0..wanted).map(|k| first + i64::try_from(k).unwrap_or(i64::MAX) * every_us),
            );
            let starts: ArrayRef = std::sync::Arc::new(if zoned {
                starts.with_timezone("UTC")
            } else {
                starts
            });
            self.add_expanded(&groups, row, "window", starts, missing)?;
        }
        Ok(())
    }

    /// How many of a run of violations have to be looked at: a run is in key order, so the first ones do.
    fn wanted(&self, missing: u64) -> Result<u64, JudgeError> {
        match self.keep {
            Keep::First(most) => Ok(missing.min(most as u64)),
            Keep::All if missing > KEYS_KEPT_MAX as u64 => Err(JudgeError::Limit(format!(
                "more than {KEYS_KEPT_MAX} violations to keep"
            ))),
            Keep::All => Ok(missing),
        }
    }

    fn add_expanded(
        &mut self,
        groups: &[ArrayRef],
        row: usize,
        column: &str,
        values: ArrayRef,
        missing: u64,
    ) -> Result<(), JudgeError> {
        let at = UInt32Array::from(vec![u32::try_from(row).unwrap_or(u32::MAX); values.len()]);
        let mut keys: Vec<ArrayRef> = groups
            .iter()
            .map(|group| take(group, &at, None))
            .collect::<Result<_, _>>()
            .map_err(JudgeError::engine)?;
        let looked_at = values.len();
        keys.push(values);
        let mut names = self.compiled.key.clone();
        names.push(column.to_owned());
        for (row, bytes) in self
            .encoder
            .encode_keys(&keys, looked_at)?
            .into_iter()
            .enumerate()
        {
            self.enter(bytes, || violation(&names, &keys, &[], &[], row))?;
        }
        let left = missing - looked_at as u64;
        self.counted = self.counted.checked_add(left).ok_or_else(too_many)?;
        // Their sum is what is told in the end.
        match self.counted.checked_add(self.seen.len() as u64) {
            Some(_) => Ok(()),
            None => Err(too_many()),
        }
    }
}

fn too_many() -> JudgeError {
    JudgeError::Limit("more violations than a number of 64 bits counts".into())
}

fn evidence_order(violation: &Violation) -> String {
    Value::Object(violation.evidence.clone()).to_string()
}

/// Numbers as 64-bit integers.
pub(super) fn integers(array: &ArrayRef) -> Result<Int64Array, JudgeError> {
    let array = cast(array, &ArrowType::Int64).map_err(JudgeError::engine)?;
    Ok(
        datafusion::arrow::array::AsArray::as_primitive::<datafusion::arrow::datatypes::Int64Type>(
            &array,
        )
        .clone(),
    )
}

fn columns(batch: &RecordBatch, names: &[String]) -> Result<Vec<ArrayRef>, JudgeError> {
    let named = |name: &String| plain(Arc::clone(column(batch, name)?.0));
    names.iter().map(named).collect()
}

/// The arrays of a batch by name, unpacked, to be shown: with as many digits after the point as the columns of the table have.
pub(super) fn shown(batch: &RecordBatch, names: &[String]) -> Result<Vec<ArrayRef>, JudgeError> {
    let shown = |name: &String| {
        let (array, field) = column(batch, name)?;
        match scale_of(field) {
            Some(_) => numbers::texts(array, field).map_err(JudgeError::engine),
            None => plain(Arc::clone(array)),
        }
    };
    names.iter().map(shown).collect()
}

/// A column of an answer by its name.
fn column<'b>(batch: &'b RecordBatch, name: &str) -> Result<(&'b ArrayRef, &'b Field), JudgeError> {
    let found = batch.schema_ref().column_with_name(name);
    let (at, field) =
        found.ok_or_else(|| JudgeError::Engine(format!("the query does not return `{name}`")))?;
    Ok((batch.column(at), field))
}

/// Dictionaries and views are unpacked: keys of equal values must have equal bytes, whatever the file's encoding.
pub(super) fn plain(array: ArrayRef) -> Result<ArrayRef, JudgeError> {
    let target = match array.data_type() {
        ArrowType::Dictionary(_, values) => (**values).clone(),
        ArrowType::Utf8View | ArrowType::LargeUtf8 => ArrowType::Utf8,
        ArrowType::BinaryView => ArrowType::Binary,
        ArrowType::Timestamp(unit, zone) if *unit != TimeUnit::Microsecond => {
            ArrowType::Timestamp(TimeUnit::Microsecond, zone.clone())
        }
        _ => return Ok(array),
    };
    // A time that does not fit must not become NULL.
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(&array, &target, &strict).map_err(JudgeError::engine)
}

fn violation(
    key_names: &[String],
    keys: &[ArrayRef],
    evidence_names: &[String],
    evidence: &[ArrayRef],
    row: usize,
) -> Result<Violation, JudgeError> {
    Ok(Violation {
        key: object(key_names, keys, row)?,
        evidence: object(evidence_names, evidence, row)?,
        accepted: false,
    })
}

/// A value of an answer, and its type.
fn cell(array: &ArrayRef, row: usize) -> Result<(DataType, Cell), JudgeError> {
    let data_type = type_of(array.data_type());
    let cell = match *array.data_type() == WIDE {
        true => numbers::cell(array, row).map_err(JudgeError::engine)?,
        false => cell_from_array(&data_type, array, row).map_err(JudgeError::engine)?,
    };
    Ok((data_type, cell))
}

/// The type of an answer's column.
pub(super) fn type_of(data_type: &ArrowType) -> DataType {
    match *data_type == WIDE {
        true => DataType::Numeric {
            precision_scale: None,
        },
        false => data_type_of_arrow(data_type),
    }
}

/// One row of some arrays as a JSON object.
pub(super) fn object(
    names: &[String],
    arrays: &[ArrayRef],
    row: usize,
) -> Result<Map<String, Value>, JudgeError> {
    let mut out = Map::new();
    for (name, array) in names.iter().zip(arrays) {
        let (data_type, cell) = cell(array, row)?;
        out.insert(name.clone(), value::to_json(&data_type, &cell));
    }
    Ok(out)
}

/// The arrays of a batch by name, unpacked.
pub(super) fn arrays(batch: &RecordBatch, names: &[String]) -> Result<Vec<ArrayRef>, JudgeError> {
    columns(batch, names)
}
