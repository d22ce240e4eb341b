//! The figures of an aggregate over the whole history: what each commit adds and takes away, added up.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Builder, Int64Builder, RecordBatch, RecordBatchOptions,
    UInt32Array, new_empty_array,
};
use datafusion::arrow::compute::{concat_batches, take};
use datafusion::arrow::datatypes::{DataType as ArrowType, Decimal128Type, Int64Type};

use super::cached::Cached;
use super::keys::Dictionary;
use super::slot::Slot;
use super::source::{Grown, Source, Turn};
use crate::change::Commit;
use crate::judge::JudgeError;
use crate::judge::collect::{Encoder, KeyBytes};
use crate::judge::engine::Engine;
use crate::plan::lifting::COMMIT;
use crate::plan::summaries::{Figure, Ordered, Summary};

/// The most digits of a decimal.
const DECIMAL_MAX: i128 = 10i128.pow(38) - 1;
/// The most different values that are kept for the extremes of one aggregate.
const VALUES_MAX: usize = 8_000_000;

/// An aggregate that is kept as a table.
pub(super) struct Kept {
    summary: Summary,
    /// What says how the additive figures change, then how often values occur, one query for each figure of ordered values.
    deltas: Vec<Cached>,
    slot: Arc<Slot>,
    rows: Source,
    numbers: Dictionary,
    groups: Vec<Option<Group>>,
    ordered: Vec<Values>,
    /// The versions of the table's rows.
    pub(super) figures: Grown,
}

/// The different values of one figure.
#[derive(Default)]
struct Values {
    encoder: Encoder,
    count: usize,
}

/// A group as it stands.
struct Group {
    sums: Vec<i128>,
    values: Vec<i128>,
    ordered: Vec<BTreeMap<KeyBytes, i64>>,
    rows: i128,
    /// The version that is open, and its figures.
    open: Option<(u32, Vec<Shown>)>,
}

/// A figure as a row of the summary shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shown {
    Number(Option<i128>),
    Value(Option<KeyBytes>),
}

/// What the delta queries returned about one commit: whose group, when, which query, which of its rows.
type Delta = (u32, Commit, usize, usize);

/// The rows of one delta query.
struct Rows {
    columns: Vec<ArrayRef>,
    marks: Vec<i64>,
    /// The values in sortable form, for figures of ordered values.
    values: Vec<KeyBytes>,
}

impl Kept {
    /// `deltas` are the lifted queries of the summary in the order of [`Summary::queries`]; they all read `slot`.
    pub(super) fn new(
        summary: Summary,
        deltas: Vec<Cached>,
        slot: Arc<Slot>,
        rows: Source,
    ) -> Self {
        let mut ordered = Vec::new();
        ordered.resize_with(deltas.len() - 1, Values::default);
        Kept {
            summary,
            deltas,
            slot,
            rows,
            numbers: Dictionary::default(),
            groups: Vec::new(),
            ordered,
            figures: Grown::default(),
        }
    }

    /// Goes on to the end of a range of commits: one version of a group's row for each commit that changed its figures.
    pub(super) async fn advance(
        &mut self,
        engine: &Engine,
        range: &RangeInclusive<Commit>,
    ) -> Result<Turn, JudgeError> {
        let turn = self.rows.advance(engine, range).await?;
        let history = &engine.view().history;
        // What dies at a commit is taken away and what is born is added: each under a mark of its own.
        let mut marks = Vec::new();
        let mut versions = Vec::new();
        for &version in &*turn.born {
            versions.push(version);
            marks.push(i64::from(self.rows.lifetime(history, version).0) * 2 + 1);
        }
        for &(commit, version) in &*turn.died {
            versions.push(version);
            marks.push(i64::from(commit) * 2);
        }
        self.slot.fill(self.rows.rows(history, &versions)?, marks)?;
        let mut found = Vec::new();
        for (at, delta) in self.deltas.iter().enumerate() {
            let mut batches = Vec::new();
            delta
                .run(engine, true, &mut |batch| {
                    batches.push(batch);
                    Ok(())
                })
                .await?;
            let encoder = at.checked_sub(1).map(|at| &mut self.ordered[at].encoder);
            found.push(Rows::new(&batches, self.summary.groups, encoder)?);
        }
        self.add_up(&found, *range.start() == 0)
    }

    fn add_up(&mut self, found: &[Rows], begins: bool) -> Result<Turn, JudgeError> {
        let mut deltas: Vec<Delta> = Vec::new();
        for (query, rows) in found.iter().enumerate() {
            let count = rows.marks.len();
            if count == 0 {
                continue;
            }
            let groups = &rows.columns[..self.summary.groups.min(rows.columns.len())];
            let numbers = self.numbers.number(groups, count)?;
            for (row, (number, mark)) in numbers.into_iter().zip(&rows.marks).enumerate() {
                let commit = Commit::try_from(mark / 2).expect("it was a commit");
                deltas.push((number, commit, query, row));
            }
        }
        deltas.sort_unstable();
        let mut out = Versions::new(self.figures.next());
        if self.summary.groups == 0 && begins {
            // A table without rows still has a count.
            let number = self.numbers.number(&[], 1)?[0];
            if deltas.first().is_none_or(|&(_, commit, ..)| commit > 0) {
                self.turn(number, 0, None, &mut out)?;
            }
        }
        for group in deltas.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (number, commit, query, row) = group[0];
            for &(_, _, query, row) in group {
                self.add(number, query, &found[query], row)?;
            }
            self.turn(number, commit, Some((query, row)), &mut out)?;
        }
        self.enter(out, found)
    }

    fn group(&mut self, number: u32) -> &mut Group {
        let (sums, ordered) = (self.additive(), self.ordered.len());
        let at = number as usize;
        if self.groups.len() <= at {
            self.groups.resize_with(at + 1, || None);
        }
        self.groups[at].get_or_insert_with(|| Group {
            sums: vec![0; sums],
            values: vec![0; sums],
            ordered: vec![BTreeMap::new(); ordered],
            rows: 0,
            open: None,
        })
    }

    fn additive(&self) -> usize {
        let figures = self.summary.figures.iter();
        figures.filter(|figure| figure.is_additive()).count()
    }

    fn add(
        &mut self,
        number: u32,
        query: usize,
        rows: &Rows,
        row: usize,
    ) -> Result<(), JudgeError> {
        let sign = if rows.marks[row] % 2 == 0 { -1 } else { 1 };
        let groups = self.summary.groups;
        let count = self.additive();
        let group = self.group(number);
        let Some(at) = query.checked_sub(1) else {
            for at in 0..count {
                let figure = rows.figure(groups + at, row).checked_mul(sign);
                let sum = figure.and_then(|figure| group.sums[at].checked_add(figure));
                group.sums[at] = sum.ok_or_else(too_large)?;
                group.values[at] += sign * rows.figure(groups + count + at, row);
            }
            group.rows += sign * rows.figure(groups + 2 * count, row);
            return Ok(());
        };
        let occurs = i64::try_from(sign * rows.figure(groups + 1, row)).unwrap_or(0);
        if rows.columns[groups].is_null(row) || occurs == 0 {
            return Ok(());
        }
        let values = &mut group.ordered[at];
        let before = values.len();
        let have = values.entry(rows.values[row].clone()).or_default();
        *have += occurs;
        if *have == 0 {
            values.remove(&rows.values[row]);
        }
        let (before, after) = (before, values.len());
        let kept = &mut self.ordered[at].count;
        *kept = *kept + after - before;
        if *kept > VALUES_MAX {
            // Judged in full instead, as when something is not known.
            let most = format!("more than {VALUES_MAX} different values");
            return Err(JudgeError::Unknown(most));
        }
        Ok(())
    }

    /// Ends a group's open version at a commit and begins the next, where a figure changed.
    fn turn(
        &mut self,
        number: u32,
        commit: Commit,
        row: Option<(usize, usize)>,
        out: &mut Versions,
    ) -> Result<(), JudgeError> {
        let shown = self.shown(number)?;
        let whole = self.summary.groups == 0;
        let group = self.group(number);
        let lives = whole || group.rows > 0;
        if let Some((open, figures)) = &group.open {
            if lives && *figures == shown {
                return Ok(());
            }
            out.died.push((commit, *open));
        }
        group.open = None;
        if lives {
            group.open = Some((out.next, shown.clone()));
            out.next += 1;
            out.born.push(commit);
            out.rows.push(row);
            out.figures.push(shown);
        }
        Ok(())
    }

    /// A group's figures as its row shows them.
    fn shown(&mut self, number: u32) -> Result<Vec<Shown>, JudgeError> {
        self.group(number);
        let group = self.groups[number as usize].as_ref();
        let group = group.expect("made where it was not there");
        let fields = self.summary.schema.fields().iter();
        let types = fields.skip(self.summary.groups);
        let (mut sums, mut ordered) = (0, group.ordered.iter());
        let mut shown = Vec::with_capacity(self.summary.figures.len());
        for (figure, field) in self.summary.figures.iter().zip(types) {
            let Figure::Of { which, .. } = figure else {
                let (sum, values) = (group.sums[sums], group.values[sums]);
                sums += 1;
                let fits = match field.data_type() {
                    ArrowType::Int64 => i64::try_from(sum).is_ok(),
                    _ => sum.abs() <= DECIMAL_MAX,
                };
                if !fits {
                    return Err(too_large());
                }
                // The sum of no values is NULL, their count is 0.
                let is_null = matches!(figure, Figure::Sum) && values == 0;
                shown.push(Shown::Number((!is_null).then_some(sum)));
                continue;
            };
            let values = ordered.next().expect("one map a figure of ordered values");
            shown.push(match which {
                Ordered::Min => Shown::Value(values.keys().next().cloned()),
                Ordered::Max => Shown::Value(values.keys().next_back().cloned()),
                Ordered::Distinct => Shown::Number(i128::try_from(values.len()).ok()),
            });
        }
        Ok(shown)
    }

    /// Takes new versions over into the table.
    fn enter(&mut self, out: Versions, found: &[Rows]) -> Result<Turn, JudgeError> {
        let mut arrays: Vec<ArrayRef> = Vec::new();
        for at in 0..self.summary.groups {
            let data_type = self.summary.schema.field(at).data_type();
            arrays.push(group_column(&out, found, at, data_type)?);
        }
        let mut ordered = self.ordered.iter_mut();
        for (at, figure) in self.summary.figures.iter().enumerate() {
            let data_type = self
                .summary
                .schema
                .field(self.summary.groups + at)
                .data_type();
            let values = match figure {
                Figure::Of { .. } => ordered.next(),
                _ => None,
            };
            let shown = out.figures.iter().map(|figures| &figures[at]);
            arrays.push(match (figure, values) {
                (
                    Figure::Of {
                        which: Ordered::Min | Ordered::Max,
                        ..
                    },
                    Some(values),
                ) => value_array(data_type, shown, &values.encoder)?,
                _ => number_array(data_type, shown),
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(out.born.len()));
        let schema = Arc::clone(&self.summary.schema);
        let batch = RecordBatch::try_new_with_options(schema, arrays, &options)
            .map_err(JudgeError::engine)?;
        let born = self.figures.add(batch, &out.born)?;
        for &(commit, version) in &out.died {
            self.figures.end(version, commit);
        }
        Ok(Turn::new(born, out.died))
    }
}

impl Rows {
    fn new(
        batches: &[RecordBatch],
        groups: usize,
        encoder: Option<&mut Encoder>,
    ) -> Result<Self, JudgeError> {
        let mut rows = Rows {
            columns: Vec::new(),
            marks: Vec::new(),
            values: Vec::new(),
        };
        let Some(first) = batches.first() else {
            return Ok(rows);
        };
        let batch = concat_batches(&first.schema(), batches).map_err(JudgeError::engine)?;
        let commit_at = batch
            .schema()
            .index_of(COMMIT)
            .expect("a lifted plan returns the commit");
        rows.columns = batch.columns().to_vec();
        let marks = rows.columns.remove(commit_at);
        rows.marks = marks.as_primitive::<Int64Type>().values().to_vec();
        if let Some(encoder) = encoder {
            rows.values = encoder.encode(&rows.columns[groups..=groups], batch.num_rows())?;
        }
        Ok(rows)
    }

    fn figure(&self, at: usize, row: usize) -> i128 {
        let array = &self.columns[at];
        if array.is_null(row) {
            return 0;
        }
        match array.data_type() {
            ArrowType::Decimal128(_, _) => array.as_primitive::<Decimal128Type>().value(row),
            _ => i128::from(array.as_primitive::<Int64Type>().value(row)),
        }
    }
}

fn too_large() -> JudgeError {
    JudgeError::Engine("a sum is too large".into())
}

/// New versions of a summary's rows.
struct Versions {
    /// The number of the next one.
    next: u32,
    born: Vec<Commit>,
    died: Vec<(Commit, u32)>,
    /// A row of the deltas that has the version's group: the query and the row.
    rows: Vec<Option<(usize, usize)>>,
    figures: Vec<Vec<Shown>>,
}

impl Versions {
    fn new(next: u32) -> Self {
        Versions {
            next,
            born: Vec::new(),
            died: Vec::new(),
            rows: Vec::new(),
            figures: Vec::new(),
        }
    }
}

/// A group's column of new versions.
fn group_column(
    out: &Versions,
    found: &[Rows],
    at: usize,
    data_type: &ArrowType,
) -> Result<ArrayRef, JudgeError> {
    // Every group that changed is in the first query's answer: rows come and go there, whatever their values.
    let Some(column) = found.first().and_then(|rows| rows.columns.get(at)) else {
        return Ok(new_empty_array(data_type));
    };
    let rows = out.rows.iter().map(|row| {
        let (query, row) = (*row)?;
        debug_assert_eq!(query, 0, "the first query sorts first");
        u32::try_from(row).ok()
    });
    take(column, &rows.collect::<UInt32Array>(), None).map_err(JudgeError::engine)
}

fn number_array<'a>(data_type: &ArrowType, shown: impl Iterator<Item = &'a Shown>) -> ArrayRef {
    let numbers = shown.map(|shown| match shown {
        Shown::Number(number) => *number,
        Shown::Value(_) => None,
    });
    match data_type {
        ArrowType::Decimal128(_, _) => {
            let mut builder = Decimal128Builder::new().with_data_type(data_type.clone());
            numbers.for_each(|number| builder.append_option(number));
            Arc::new(builder.finish())
        }
        _ => {
            let mut builder = Int64Builder::new();
            numbers.for_each(|number| {
                builder.append_option(number.and_then(|number| i64::try_from(number).ok()));
            });
            Arc::new(builder.finish())
        }
    }
}

fn value_array<'a>(
    data_type: &ArrowType,
    shown: impl Iterator<Item = &'a Shown>,
    encoder: &Encoder,
) -> Result<ArrayRef, JudgeError> {
    let values = shown.map(|shown| match shown {
        Shown::Value(value) => value.as_deref(),
        Shown::Number(_) => None,
    });
    encoder.decode(data_type, values)
}
