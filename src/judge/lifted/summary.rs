//! The figures of an aggregate over the whole history: what each commit adds and takes away, added up.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Builder, Int64Builder, RecordBatch, UInt32Array,
};
use datafusion::arrow::compute::{concat_batches, take};
use datafusion::arrow::datatypes::{DataType as ArrowType, Decimal128Type, Int64Type};

use super::keys::Dictionary;
use crate::change::Commit;
use crate::judge::JudgeError;
use crate::plan::lifting::COMMIT;
use crate::plan::summaries::Summary;
use crate::state::Lifetimes;

/// The most digits of a decimal.
const DECIMAL_MAX: i128 = 10i128.pow(38) - 1;

/// The marks under which a version is fed to the delta query: what dies at a commit is taken away, what is born is added.
pub(super) fn marks(lifetimes: &Lifetimes) -> (Vec<u32>, Vec<i64>) {
    let (mut versions, mut marks) = (Vec::new(), Vec::new());
    let lived = lifetimes.born.iter().zip(&lifetimes.died);
    for (version, (&born, &died)) in (0u32..).zip(lived) {
        versions.push(version);
        marks.push(i64::from(born) * 2 + 1);
        if died != Commit::MAX {
            versions.push(version);
            marks.push(i64::from(died) * 2);
        }
    }
    (versions, marks)
}

/// Adds up what the delta query returned: one version of a group's row for each commit that changed it.
pub(super) fn add_up(
    summary: &Summary,
    batches: &[RecordBatch],
    columns: &[usize],
) -> Result<Lifetimes, JudgeError> {
    let mut rows = Deltas::new(summary, batches)?;
    let figures = summary.sums.len();
    let mut out = Versions::new(figures);
    let mut current = Group::new(figures);
    let mut group = None;
    if summary.groups == 0 {
        // A table without rows still has a count.
        current.begin(0, &mut out, None);
        group = Some(0);
    }
    for (number, commit, deltas) in rows.by_commit() {
        if group != Some(number) {
            current = Group::new(figures);
            group = Some(number);
        }
        for &row in &deltas {
            current.add(&rows, row)?;
        }
        let lives = summary.groups == 0 || current.rows > 0;
        let first = deltas.first().copied();
        current.turn(commit, lives, &mut out, first, &summary.schema)?;
    }
    out.lifetimes(summary, &rows, columns)
}

/// Rows of the delta query, with numbers for their groups.
struct Deltas {
    groups: Vec<ArrayRef>,
    numbers: Vec<u32>,
    marks: Vec<i64>,
    /// Figures, the counts of their values, the count of rows.
    figures: Vec<ArrayRef>,
}

impl Deltas {
    fn new(summary: &Summary, batches: &[RecordBatch]) -> Result<Self, JudgeError> {
        let Some(first) = batches.first() else {
            return Ok(Deltas {
                groups: Vec::new(),
                numbers: Vec::new(),
                marks: Vec::new(),
                figures: Vec::new(),
            });
        };
        let batch = concat_batches(&first.schema(), batches).map_err(JudgeError::engine)?;
        let commit_at = batch
            .schema()
            .index_of(COMMIT)
            .expect("a lifted plan returns the commit");
        let marks = batch
            .column(commit_at)
            .as_primitive::<Int64Type>()
            .values()
            .to_vec();
        let mut columns = batch.columns().to_vec();
        columns.remove(commit_at);
        let figures = columns.split_off(summary.groups);
        let numbers = Dictionary::default().number(&columns, batch.num_rows())?;
        Ok(Deltas {
            groups: columns,
            numbers,
            marks,
            figures,
        })
    }

    /// Rows by group and commit.
    fn by_commit(&mut self) -> Vec<(u32, Commit, Vec<usize>)> {
        let mut order: Vec<usize> = (0..self.marks.len()).collect();
        order.sort_unstable_by_key(|&row| (self.numbers[row], self.marks[row]));
        order
            .chunk_by(|&a, &b| {
                self.numbers[a] == self.numbers[b] && self.marks[a] / 2 == self.marks[b] / 2
            })
            .map(|rows| {
                let commit = Commit::try_from(self.marks[rows[0]] / 2).expect("it was a commit");
                (self.numbers[rows[0]], commit, rows.to_vec())
            })
            .collect()
    }

    fn figure(&self, at: usize, row: usize) -> i128 {
        let array = &self.figures[at];
        if array.is_null(row) {
            return 0;
        }
        match array.data_type() {
            ArrowType::Decimal128(_, _) => array.as_primitive::<Decimal128Type>().value(row),
            _ => i128::from(array.as_primitive::<Int64Type>().value(row)),
        }
    }
}

/// A group as it stands.
struct Group {
    figures: Vec<i128>,
    values: Vec<i128>,
    rows: i128,
    /// The version that is open, by its number.
    open: Option<usize>,
}

impl Group {
    fn new(figures: usize) -> Self {
        Group {
            figures: vec![0; figures],
            values: vec![0; figures],
            rows: 0,
            open: None,
        }
    }

    fn add(&mut self, deltas: &Deltas, row: usize) -> Result<(), JudgeError> {
        let sign = if deltas.marks[row] % 2 == 0 { -1 } else { 1 };
        let count = self.figures.len();
        for at in 0..count {
            let figure = deltas.figure(at, row).checked_mul(sign);
            let sum = figure.and_then(|figure| self.figures[at].checked_add(figure));
            self.figures[at] = sum.ok_or_else(too_large)?;
            self.values[at] += sign * deltas.figure(count + at, row);
        }
        self.rows += sign * deltas.figure(2 * count, row);
        Ok(())
    }

    fn begin(&mut self, commit: Commit, out: &mut Versions, row: Option<usize>) {
        self.open = Some(out.born.len());
        out.born.push(commit);
        out.died.push(Commit::MAX);
        out.rows.push(row);
        for at in 0..self.figures.len() {
            out.figures[at].push((self.figures[at], self.values[at]));
        }
    }

    /// Ends the open version at a commit and begins the next.
    fn turn(
        &mut self,
        commit: Commit,
        lives: bool,
        out: &mut Versions,
        row: Option<usize>,
        schema: &datafusion::arrow::datatypes::Schema,
    ) -> Result<(), JudgeError> {
        let groups = schema.fields().len() - self.figures.len();
        for (at, &figure) in self.figures.iter().enumerate() {
            let fits = match schema.field(groups + at).data_type() {
                ArrowType::Int64 => i64::try_from(figure).is_ok(),
                _ => figure.abs() <= DECIMAL_MAX,
            };
            if !fits {
                return Err(too_large());
            }
        }
        if let Some(open) = self.open.take() {
            out.died[open] = commit;
        }
        if lives {
            self.begin(commit, out, row);
        }
        Ok(())
    }
}

fn too_large() -> JudgeError {
    JudgeError::Engine("a sum is too large".into())
}

/// Versions under construction.
struct Versions {
    born: Vec<Commit>,
    died: Vec<Commit>,
    /// A row of the deltas that has the version's group.
    rows: Vec<Option<usize>>,
    /// For each figure: its value and how many values are in it.
    figures: Vec<Vec<(i128, i128)>>,
}

impl Versions {
    fn new(figures: usize) -> Self {
        Versions {
            born: Vec::new(),
            died: Vec::new(),
            rows: Vec::new(),
            figures: vec![Vec::new(); figures],
        }
    }

    fn lifetimes(
        self,
        summary: &Summary,
        deltas: &Deltas,
        columns: &[usize],
    ) -> Result<Lifetimes, JudgeError> {
        let rows = self.rows.iter();
        let rows: UInt32Array = rows
            .map(|row| row.map(|row| u32::try_from(row).expect("fewer than 2^32 rows")))
            .collect();
        let mut arrays: Vec<ArrayRef> = Vec::new();
        for at in 0..summary.groups {
            let array = match deltas.groups.get(at) {
                Some(group) => take(group, &rows, None).map_err(JudgeError::engine)?,
                None => {
                    datafusion::arrow::array::new_empty_array(summary.schema.field(at).data_type())
                }
            };
            arrays.push(array);
        }
        for (at, figures) in self.figures.iter().enumerate() {
            let data_type = summary.schema.field(summary.groups + at).data_type();
            let values = figures.iter().map(|&(figure, values)| {
                // The sum of no values is NULL, their count is 0.
                (!summary.sums[at] || values > 0).then_some(figure)
            });
            arrays.push(figure_array(data_type, values));
        }
        let batch = RecordBatch::try_new(Arc::clone(&summary.schema), arrays)
            .map_err(JudgeError::engine)?;
        // A group that was changed twice by one commit, or opened and closed by it, leaves empty versions: they are never seen.
        Ok(Lifetimes {
            batch: batch.project(columns).map_err(JudgeError::engine)?,
            born: self.born,
            died: self.died,
            unknown: vec![0; columns.len()],
        })
    }
}

fn figure_array(data_type: &ArrowType, values: impl Iterator<Item = Option<i128>>) -> ArrayRef {
    match data_type {
        ArrowType::Decimal128(_, _) => {
            let mut builder = Decimal128Builder::new().with_data_type(data_type.clone());
            values.for_each(|value| builder.append_option(value));
            Arc::new(builder.finish())
        }
        _ => {
            let mut builder = Int64Builder::new();
            values.for_each(|value| {
                builder.append_option(value.map(|value| i64::try_from(value).unwrap_or(i64::MAX)));
            });
            Arc::new(builder.finish())
        }
    }
}
