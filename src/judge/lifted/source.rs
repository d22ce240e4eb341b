//! Where a scan's row versions come from: a table of the history, a relation that only grows, the figures of an aggregate.

use std::ops::RangeInclusive;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{concat_batches, interleave, take};
use datafusion::arrow::datatypes::Int64Type;

use super::summary::Kept;
use crate::change::Commit;
use crate::judge::JudgeError;
use crate::judge::catalog::Named;
use crate::judge::engine::Engine;
use crate::state::{COMMIT_OF_RECORDED, COMMIT_OF_TRANSACTIONS, Delta, History, Noticed, Relation};

/// What a batch of commits does to the rows of one scan.
pub(super) struct Turn {
    /// Versions that begin.
    pub(super) born: Arc<[u32]>,
    /// Versions that end, each with the first position at which it is gone.
    pub(super) died: Arc<[(Commit, u32)]>,
    /// What a table's rows did, where they are those of a table.
    delta: Option<Arc<Delta>>,
}

impl Turn {
    pub(super) fn new(born: Vec<u32>, died: Vec<(Commit, u32)>) -> Self {
        Turn {
            born: born.into(),
            died: died.into(),
            delta: None,
        }
    }
}

/// The row versions of one scan, known by numbers.
pub(super) struct Source {
    origin: Origin,
    /// The columns that the scan reads, as columns of the relation.
    columns: Vec<usize>,
}

enum Origin {
    Table(usize),
    Grown(Named, Grown),
    Summary(Box<Kept>),
}

impl Source {
    pub(super) fn of_relation(named: Named, columns: Vec<usize>) -> Self {
        let origin = match named {
            Named::Table(table, Relation::State) => Origin::Table(table),
            other => Origin::Grown(other, Grown::default()),
        };
        Source { origin, columns }
    }

    pub(super) fn of_summary(kept: Kept, columns: Vec<usize>) -> Self {
        Source {
            origin: Origin::Summary(Box::new(kept)),
            columns,
        }
    }

    /// Goes on to the end of a range of commits.
    pub(super) async fn advance(
        &mut self,
        engine: &Engine,
        range: &RangeInclusive<Commit>,
    ) -> Result<Turn, JudgeError> {
        let history = &engine.view().history;
        match &mut self.origin {
            Origin::Table(table) => {
                let table = &history.tables[*table];
                let delta = table.delta(range);
                let turn = Turn {
                    born: Arc::clone(&delta.born),
                    died: Arc::clone(&delta.died),
                    delta: Some(delta),
                };
                match table.not_known_in(&self.columns, &turn.born) {
                    None => Ok(turn),
                    Some(column) => Err(not_known(&table.table.columns[column].name)),
                }
            }
            Origin::Grown(named, grown) => {
                let (batch, born) = grown_rows(history, named, &self.columns, range)?;
                Ok(Turn::new(grown.add(batch, &born)?, Vec::new()))
            }
            Origin::Summary(kept) => Box::pin(kept.advance(engine, range)).await,
        }
    }

    /// The versions of a turn that begin, and those that end, but for those that were replaced by one that says the same to the scan: no
    /// verdict can change with them.
    pub(super) fn noticed<'a>(&self, history: &History, turn: &'a Turn) -> Noticed<'a> {
        match (&self.origin, &turn.delta) {
            (Origin::Table(table), Some(delta)) => {
                delta.noticed(&history.tables[*table], &self.columns)
            }
            _ => ((&*turn.born).into(), (&*turn.died).into()),
        }
    }

    /// From which position to before which one a version is visible.
    pub(super) fn lifetime(&self, history: &History, version: u32) -> (Commit, Commit) {
        match &self.origin {
            Origin::Table(table) => history.tables[*table].lifetime(version),
            Origin::Grown(_, grown) => grown.lifetime(version),
            Origin::Summary(kept) => kept.figures.lifetime(version),
        }
    }

    /// Every version was judged for the last time. Those of a table stay where they are.
    pub(super) fn forget(&mut self) {
        if let Origin::Grown(_, grown) = &mut self.origin {
            grown.forget();
        }
    }

    /// All columns that the scan reads, of some versions.
    pub(super) fn rows(
        &self,
        history: &History,
        versions: &[u32],
    ) -> Result<Vec<ArrayRef>, JudgeError> {
        self.gather(history, &self.columns, versions)
    }

    /// Columns of the relation, of some versions; the scan reads each of them.
    pub(super) fn gather(
        &self,
        history: &History,
        columns: &[usize],
        versions: &[u32],
    ) -> Result<Vec<ArrayRef>, JudgeError> {
        let own = |column: &usize| {
            let at = self.columns.iter().position(|have| have == column);
            at.expect("a key column is one that the scan reads")
        };
        match &self.origin {
            Origin::Table(table) => {
                let rows = history.tables[*table].images(columns, versions);
                Ok(rows.batch.columns().to_vec())
            }
            Origin::Grown(_, grown) => {
                let columns: Vec<usize> = columns.iter().map(own).collect();
                grown.gather(&columns, versions)
            }
            Origin::Summary(kept) => kept.figures.gather(columns, versions),
        }
    }
}

fn not_known(column: &str) -> JudgeError {
    JudgeError::Unknown(format!("`{column}` is not known in some rows"))
}

/// What a range of commits adds to some columns of a relation that only grows, and the commit of each row.
fn grown_rows(
    history: &History,
    named: &Named,
    columns: &[usize],
    range: &RangeInclusive<Commit>,
) -> Result<(RecordBatch, Vec<Commit>), JudgeError> {
    let with = |commit_at: usize| {
        columns
            .iter()
            .copied()
            .chain([commit_at])
            .collect::<Vec<_>>()
    };
    let batch = match named {
        Named::Table(table, relation) => {
            let wanted = with(COMMIT_OF_RECORDED);
            let rows = history.recorded_rows(*table, relation, Some(&wanted), range);
            if let Some(at) = rows.unknown.iter().position(|&unknown| unknown > 0) {
                return Err(not_known(rows.batch.schema().field(at).name()));
            }
            rows.batch
        }
        Named::Transactions => {
            let rows = history.transactions_rows(range);
            rows.project(&with(COMMIT_OF_TRANSACTIONS))
                .map_err(JudgeError::engine)?
        }
    };
    let commits = batch.column(columns.len()).as_primitive::<Int64Type>();
    let commit = |commit: Option<i64>| Commit::try_from(commit.unwrap_or(0)).unwrap_or(0);
    let born = commits.iter().map(commit).collect();
    let own: Vec<usize> = (0..columns.len()).collect();
    Ok((batch.project(&own).map_err(JudgeError::engine)?, born))
}

/// Row versions that are not part of the history itself, in batches of falling size.
#[derive(Default)]
pub(super) struct Grown {
    /// The number of the first version that is still here.
    first: u32,
    batches: Vec<RecordBatch>,
    /// The number of each batch's first version.
    starts: Vec<u32>,
    born: Vec<Commit>,
    died: Vec<Commit>,
}

impl Grown {
    /// Adds versions that are alive; their numbers.
    pub(super) fn add(
        &mut self,
        batch: RecordBatch,
        born: &[Commit],
    ) -> Result<Vec<u32>, JudgeError> {
        let added = u32::try_from(born.len()).ok();
        let start = self.next();
        let end = added.and_then(|added| start.checked_add(added));
        let end = end.expect("fewer than 2^32 row versions");
        if born.is_empty() && !self.batches.is_empty() {
            return Ok(Vec::new());
        }
        self.born.extend_from_slice(born);
        self.died.resize(self.born.len(), Commit::MAX);
        self.batches.push(batch);
        self.starts.push(start);
        // Neighbours of about one size become one, so that there are few of them and each row is copied seldom.
        while let [.., before, last] = self.batches.as_slice()
            && before.num_rows() < 2 * last.num_rows()
        {
            let whole = concat_batches(&before.schema(), [before, last]);
            self.batches.truncate(self.batches.len() - 2);
            self.starts.pop();
            self.batches.push(whole.map_err(JudgeError::engine)?);
        }
        Ok((start..end).collect())
    }

    /// The number of the next version.
    pub(super) fn next(&self) -> u32 {
        self.first + u32::try_from(self.born.len()).expect("checked when they were added")
    }

    fn at(&self, version: u32) -> usize {
        (version - self.first) as usize
    }

    /// From which position to before which one a version is visible.
    pub(super) fn lifetime(&self, version: u32) -> (Commit, Commit) {
        let at = self.at(version);
        (self.born[at], self.died[at])
    }

    /// Ends a version at a commit.
    pub(super) fn end(&mut self, version: u32, commit: Commit) {
        let at = self.at(version);
        self.died[at] = commit;
    }

    /// Drops all versions: nobody asks for them again.
    fn forget(&mut self) {
        *self = Grown {
            first: self.next(),
            ..Grown::default()
        };
    }

    fn gather(&self, columns: &[usize], versions: &[u32]) -> Result<Vec<ArrayRef>, JudgeError> {
        if let [batch] = self.batches.as_slice() {
            let at = UInt32Array::from_iter_values(versions.iter().map(|v| v - self.first));
            let columns = columns.iter().map(|&c| take(batch.column(c), &at, None));
            return columns
                .collect::<Result<_, _>>()
                .map_err(JudgeError::engine);
        }
        let place = |&version: &u32| {
            let batch = self.starts.partition_point(|&start| start <= version) - 1;
            (batch, (version - self.starts[batch]) as usize)
        };
        let places: Vec<(usize, usize)> = versions.iter().map(place).collect();
        let gathered = columns.iter().map(|&column| {
            let parts: Vec<_> = self
                .batches
                .iter()
                .map(|b| b.column(column).as_ref())
                .collect();
            interleave(&parts, &places)
        });
        gathered
            .collect::<Result<_, _>>()
            .map_err(JudgeError::engine)
    }
}
