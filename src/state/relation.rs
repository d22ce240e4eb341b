//! What rules read: a table's state, its changes, its writes and steps, and the transactions, as Arrow batches.

use std::ops::RangeInclusive;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{
    DataType as ArrowType, Field, Schema as ArrowSchema, SchemaRef, TimeUnit,
};

use super::column::NO_ROW;
use super::effects::NetEffect;
use super::versions::TableVersions;
use super::{History, Origin};
use crate::change::{Commit, Op};

/// One way of looking at a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Relation {
    /// The rows at the position.
    State,
    /// One row a recorded change: `op, commit, ordinal, xid, time, before_…, after_…`.
    Changes,
    /// The net effect of each commit on each row, rows paired by the given columns:
    /// `op, commit, time, rows_before, key_…, before_…, after_…`.
    Writes(Vec<usize>),
    /// Each recorded step within a commit, with a changed key split into delete and insert: columns as in `Writes`.
    Steps(Vec<usize>),
}

/// Where recorded relations (all but [`Relation::State`]) have the column `commit`.
pub const COMMIT_OF_RECORDED: usize = 1;
/// Where `firstbad.transactions` has it.
pub const COMMIT_OF_TRANSACTIONS: usize = 0;

/// The rows of a relation at a position, and which columns hold cells that are not known.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The rows.
    pub batch: RecordBatch,
    /// For each column: how many cells are not known (they appear as NULL in the batch).
    pub unknown: Vec<usize>,
}

/// One row of `writes` or `steps`.
struct Write {
    commit: Commit,
    op: Op,
    before: u32,
    after: u32,
    rows_before: u64,
}

/// Columns under construction.
#[derive(Default)]
pub(super) struct Builder<'a> {
    /// The only columns that are wanted, by their places in the relation; None for all.
    wanted: Option<&'a [usize]>,
    /// The place of the next column.
    next: usize,
    /// The places of those that were built.
    places: Vec<usize>,
    fields: Vec<Field>,
    arrays: Vec<ArrayRef>,
    unknown: Vec<usize>,
}

impl<'a> Builder<'a> {
    fn wanting(wanted: Option<&'a [usize]>) -> Self {
        Builder {
            wanted,
            ..Builder::default()
        }
    }

    /// Whether the next column is to be built.
    fn wants_next(&mut self) -> bool {
        let at = self.next;
        self.next += 1;
        let wanted = self.wanted.is_none_or(|wanted| wanted.contains(&at));
        if wanted {
            self.places.push(at);
        }
        wanted
    }

    fn push(&mut self, name: impl Into<String>, array: ArrayRef, unknown: usize) {
        let field = Field::new(name.into(), array.data_type().clone(), true);
        self.push_field(field, array, unknown);
    }

    fn push_field(&mut self, field: Field, array: ArrayRef, unknown: usize) {
        self.fields.push(field);
        self.arrays.push(array);
        self.unknown.push(unknown);
    }

    fn text<'b>(&mut self, name: &str, values: impl Iterator<Item = Option<&'b str>>) {
        if !self.wants_next() {
            return;
        }
        self.push(name, Arc::new(values.collect::<StringArray>()), 0);
    }

    fn int(&mut self, name: &str, values: impl Iterator<Item = Option<i64>>) {
        if !self.wants_next() {
            return;
        }
        self.push(name, Arc::new(values.collect::<Int64Array>()), 0);
    }

    fn time(&mut self, name: &str, values: impl Iterator<Item = Option<i64>>) {
        if !self.wants_next() {
            return;
        }
        let array = values
            .collect::<TimestampMicrosecondArray>()
            .with_timezone("UTC");
        self.push(name, Arc::new(array), 0);
    }

    /// A table's columns for the given versions, under a prefix.
    pub(super) fn images(
        &mut self,
        table: &TableVersions,
        prefix: &str,
        columns: &[usize],
        rows: &[u32],
    ) {
        for &at in columns {
            if !self.wants_next() {
                continue;
            }
            let column = &table.columns[at];
            let unknown = if column.has_unknown() {
                rows.iter()
                    .filter(|&&row| row != NO_ROW && column.is_unknown(row))
                    .count()
            } else {
                0
            };
            let field = column.field(format!("{prefix}{}", table.table.columns[at].name));
            self.push_field(field, column.to_arrow(rows), unknown);
        }
    }

    /// The rows; their columns in the order in which they were wanted.
    pub(super) fn finish(mut self, row_count: usize) -> Rows {
        if let Some(wanted) = self.wanted {
            let place = |column: &usize| self.places.iter().position(|have| have == column);
            let order = wanted
                .iter()
                .map(|column| place(column).expect("only columns of the relation are wanted"));
            let order: Vec<usize> = order.collect();
            self.fields = order.iter().map(|&at| self.fields[at].clone()).collect();
            self.arrays = order
                .iter()
                .map(|&at| Arc::clone(&self.arrays[at]))
                .collect();
            self.unknown = order.iter().map(|&at| self.unknown[at]).collect();
        }
        let schema = Arc::new(ArrowSchema::new(self.fields));
        let options =
            datafusion::arrow::array::RecordBatchOptions::new().with_row_count(Some(row_count));
        let batch = RecordBatch::try_new_with_options(schema, self.arrays, &options)
            .expect("all columns of a relation have as many values as it has rows");
        Rows {
            batch,
            unknown: self.unknown,
        }
    }
}

impl TableVersions {
    /// Columns of row versions, in the order of the versions.
    pub fn images(&self, columns: &[usize], rows: &[u32]) -> Rows {
        let mut builder = Builder::default();
        builder.images(self, "", columns, rows);
        builder.finish(rows.len())
    }
}

impl History {
    /// The rows of a relation over a table at a position.
    pub fn rows(&self, table: usize, relation: &Relation, position: Commit) -> Rows {
        let versions = &self.tables[table];
        match relation {
            Relation::State => {
                let all: Vec<usize> = (0..versions.columns.len()).collect();
                versions.images(&all, &versions.visible(position))
            }
            _ => self.recorded_rows(table, relation, None, &(0..=position)),
        }
    }

    /// What a range of commits adds to a relation whose rows stay once they are there: all columns, or some of them by their places in
    /// the relation, in this order.
    ///
    /// # Panics
    /// For [`Relation::State`], whose rows come and go; for columns that are not there.
    pub fn recorded_rows(
        &self,
        table: usize,
        relation: &Relation,
        columns: Option<&[usize]>,
        range: &RangeInclusive<Commit>,
    ) -> Rows {
        let versions = &self.tables[table];
        let builder = Builder::wanting(columns);
        match relation {
            Relation::State => panic!("rows of a state come and go"),
            Relation::Changes => self.changes(builder, versions, range),
            Relation::Writes(pairing) => {
                let effects = versions.delta(range).effects(versions, pairing, range);
                let write = |e: &NetEffect| Write {
                    commit: e.commit,
                    op: e.op,
                    before: e.before,
                    after: e.after,
                    rows_before: e.rows_before,
                };
                let writes = effects.iter().map(write).collect();
                self.writes(builder, versions, pairing, writes)
            }
            Relation::Steps(pairing) => {
                self.writes(builder, versions, pairing, steps(versions, pairing, range))
            }
        }
    }

    /// The Arrow schema of a relation, without building its rows.
    pub fn relation_schema(&self, table: usize, relation: &Relation) -> SchemaRef {
        let versions = &self.tables[table];
        let mut fields = Vec::new();
        let time = ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let fixed = |names: &[(&str, ArrowType)]| {
            names
                .iter()
                .map(|(name, kind)| Field::new(*name, kind.clone(), true))
                .collect::<Vec<_>>()
        };
        let columns = |prefix: &str, which: &mut dyn Iterator<Item = usize>| {
            which
                .map(|at| {
                    let name = format!("{prefix}{}", versions.table.columns[at].name);
                    versions.columns[at].field(name)
                })
                .collect::<Vec<_>>()
        };
        let count = versions.columns.len();
        match relation {
            Relation::State => fields.extend(columns("", &mut (0..count))),
            Relation::Changes => {
                fields.extend(fixed(&[
                    ("op", ArrowType::Utf8),
                    ("commit", ArrowType::Int64),
                    ("ordinal", ArrowType::Int64),
                    ("xid", ArrowType::Int64),
                    ("time", time),
                ]));
                fields.extend(columns("before_", &mut (0..count)));
                fields.extend(columns("after_", &mut (0..count)));
            }
            Relation::Writes(pairing) | Relation::Steps(pairing) => {
                fields.extend(fixed(&[
                    ("op", ArrowType::Utf8),
                    ("commit", ArrowType::Int64),
                    ("time", time),
                    ("rows_before", ArrowType::Int64),
                ]));
                fields.extend(columns("key_", &mut pairing.iter().copied()));
                fields.extend(columns("before_", &mut (0..count)));
                fields.extend(columns("after_", &mut (0..count)));
            }
        }
        Arc::new(ArrowSchema::new(fields))
    }

    fn changes(
        &self,
        mut builder: Builder<'_>,
        versions: &TableVersions,
        range: &RangeInclusive<Commit>,
    ) -> Rows {
        let all: Vec<usize> = (0..versions.columns.len()).collect();
        let events = versions.recorded(range);
        let before: Vec<u32> = events.iter().map(|event| event.before).collect();
        let after: Vec<u32> = events.iter().map(|event| event.after).collect();
        let meta = |commit: Commit| self.meta(commit);
        builder.text("op", events.iter().map(|event| Some(event.op().as_str())));
        builder.int(
            "commit",
            events.iter().map(|event| Some(i64::from(event.commit))),
        );
        builder.int(
            "ordinal",
            events.iter().map(|event| Some(i64::from(event.ordinal))),
        );
        builder.int(
            "xid",
            events.iter().map(|event| {
                meta(event.commit)?
                    .xid
                    .and_then(|xid| i64::try_from(xid).ok())
            }),
        );
        builder.time("time", events.iter().map(|event| meta(event.commit)?.time));
        builder.images(versions, "before_", &all, &before);
        builder.images(versions, "after_", &all, &after);
        builder.finish(events.len())
    }

    fn writes(
        &self,
        mut builder: Builder<'_>,
        versions: &TableVersions,
        pairing: &[usize],
        writes: Vec<Write>,
    ) -> Rows {
        let all: Vec<usize> = (0..versions.columns.len()).collect();
        let before: Vec<u32> = writes.iter().map(|write| write.before).collect();
        let after: Vec<u32> = writes.iter().map(|write| write.after).collect();
        let key: Vec<u32> = writes
            .iter()
            .map(|write| {
                if write.before == NO_ROW {
                    write.after
                } else {
                    write.before
                }
            })
            .collect();
        builder.text("op", writes.iter().map(|write| Some(write.op.as_str())));
        builder.int(
            "commit",
            writes.iter().map(|write| Some(i64::from(write.commit))),
        );
        builder.time(
            "time",
            writes.iter().map(|write| self.meta(write.commit)?.time),
        );
        builder.int(
            "rows_before",
            writes
                .iter()
                .map(|write| i64::try_from(write.rows_before).ok()),
        );
        builder.images(versions, "key_", pairing, &key);
        builder.images(versions, "before_", &all, &before);
        builder.images(versions, "after_", &all, &after);
        builder.finish(writes.len())
    }

    /// `firstbad.transactions`: `commit, lsn, xid, time, service, version, context` of a range of commits.
    pub fn transactions_rows(&self, range: &RangeInclusive<Commit>) -> RecordBatch {
        let end = self.commits_until(*range.end());
        let start = range.start().checked_sub(1);
        let start = start
            .map_or(0, |before| self.commits_until(before))
            .min(end);
        let metas = &self.transactions[start..end];
        let word = |key: &'static str| {
            metas.iter().map(move |meta| {
                meta.context
                    .as_ref()
                    .and_then(|context| context.get(key)?.as_str())
            })
        };
        let contexts: Vec<Option<String>> = metas
            .iter()
            .map(|meta| {
                meta.context
                    .as_ref()
                    .map(|context| serde_json::Value::Object(context.clone()).to_string())
            })
            .collect();
        let mut builder = Builder::default();
        let commits = (start..end).map(|at| self.commit_at(at));
        builder.int("commit", commits.map(|commit| Some(i64::from(commit))));
        builder.text("lsn", metas.iter().map(|meta| meta.lsn.as_deref()));
        builder.int(
            "xid",
            metas
                .iter()
                .map(|meta| meta.xid.and_then(|xid| i64::try_from(xid).ok())),
        );
        builder.time("time", metas.iter().map(|meta| meta.time));
        builder.text("service", word("service"));
        builder.text("version", word("version"));
        builder.text("context", contexts.iter().map(Option::as_deref));
        builder.finish(metas.len()).batch
    }

    /// True when the source has changes, so that checks of writes can be judged.
    pub fn has_changes(&self) -> bool {
        !matches!(self.origin, Origin::SingleState | Origin::SnapshotOnly)
    }
}

/// The recorded steps, row by row: a truncate is a delete of every row it removed, a changed key a delete and an insert.
fn steps(
    versions: &TableVersions,
    pairing: &[usize],
    range: &RangeInclusive<Commit>,
) -> Vec<Write> {
    let mut out = Vec::new();
    for event in versions.recorded(range) {
        let mut step = |op, before, after| {
            out.push(Write {
                commit: event.commit,
                op,
                before,
                after,
                rows_before: 0,
            });
        };
        let key_changed = event.op() == Op::Update
            && pairing
                .iter()
                .any(|&column| !versions.columns[column].same_rows(event.before, event.after));
        match event.op() {
            Op::Truncate => {}
            Op::Update if key_changed => {
                step(Op::Delete, event.before, NO_ROW);
                step(Op::Insert, NO_ROW, event.after);
            }
            op => step(op, event.before, event.after),
        }
    }
    out
}
