//! All versions of a relation's rows at once, each with the positions at which it is visible.

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::Int64Type;

use super::History;
use super::relation::{Builder, Relation};
use crate::change::Commit;

/// Row versions of a relation: version `i` is visible at positions from `born[i]` to before `died[i]`.
#[derive(Clone, Debug)]
pub struct Lifetimes {
    /// The columns that were asked for.
    pub batch: RecordBatch,
    /// First position.
    pub born: Vec<Commit>,
    /// First position at which it is gone; [`Commit::MAX`] for versions that are alive.
    pub died: Vec<Commit>,
    /// For each column: how many cells are not known (they appear as NULL in the batch).
    pub unknown: Vec<usize>,
}

impl History {
    /// The versions of a relation over a table that are visible at some position up to `until`, with the given columns of the
    /// relation. Rows of changes, writes and steps stay once they are there.
    pub fn lifetimes(
        &self,
        table: usize,
        relation: &Relation,
        columns: &[usize],
        until: Commit,
    ) -> Lifetimes {
        if *relation != Relation::State {
            let rows = self.rows(table, relation, until);
            let mut lifetimes = appended(&rows.batch, columns);
            lifetimes.unknown = columns.iter().map(|&at| rows.unknown[at]).collect();
            return lifetimes;
        }
        let versions = &self.tables[table];
        let lived = |row: &u32| {
            let (born, died) = (versions.born[*row as usize], versions.died[*row as usize]);
            born <= until && born < died
        };
        let count = u32::try_from(versions.born.len()).expect("fewer than 2^32 row versions");
        let rows: Vec<u32> = (0..count).filter(lived).collect();
        let mut builder = Builder::default();
        builder.images(versions, "", columns, &rows);
        let built = builder.finish(rows.len());
        let died = |row: &u32| match versions.died[*row as usize] {
            died if died <= until => died,
            _ => Commit::MAX,
        };
        Lifetimes {
            batch: built.batch,
            unknown: built.unknown,
            born: rows
                .iter()
                .map(|row| versions.born[*row as usize])
                .collect(),
            died: rows.iter().map(died).collect(),
        }
    }

    /// The same for `firstbad.transactions`.
    pub fn transaction_lifetimes(&self, columns: &[usize], until: Commit) -> Lifetimes {
        appended(&self.transactions_rows(until), columns)
    }
}

/// Rows that appear with the commit in their column `commit` and stay.
fn appended(batch: &RecordBatch, columns: &[usize]) -> Lifetimes {
    let commits = batch
        .column_by_name("commit")
        .expect("relations that grow have a column `commit`")
        .as_primitive::<Int64Type>();
    let born = commits
        .iter()
        .map(|commit| Commit::try_from(commit.unwrap_or(0)).unwrap_or(0))
        .collect();
    Lifetimes {
        batch: batch
            .project(columns)
            .expect("the columns are those of the relation"),
        born,
        died: vec![Commit::MAX; commits.len()],
        unknown: vec![0; columns.len()],
    }
}
