//! Segments: transactions and the changes of each table as Parquet, and back.
//!
//! `transactions.parquet` has a row a transaction: `commit`, `lsn`, `xid`, `time` (microseconds since the epoch), `context` (JSON),
//! `snapshot`. A table's file has a row a change: `commit`, `ordinal`, `op` (0 insert, 1 update, 2 delete, 3 truncate), then the table's
//! columns as `before_…`, and as `after_…`; a column `before` or `after` behind them marks the cells that the image does not name
//! (see [`StoredRows::to_batch`]). Key columns have bloom filters. A transaction that is too large for memory has several files a table.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int8Array, Int64Array, RecordBatch, StringArray, UInt64Array,
};
use datafusion::arrow::datatypes::{Field, Int8Type, Int64Type, Schema as ArrowSchema, UInt64Type};

use super::chain::Vouched;
use super::parquet;
use crate::change::{Commit, Op, Transaction, TransactionMeta};
use crate::schema::Table;
use crate::state::{StoredRows, Written};

/// The file of a segment's transactions.
pub(super) const TRANSACTIONS: &str = "transactions.parquet";

const OPS: [Op; 4] = [Op::Insert, Op::Update, Op::Delete, Op::Truncate];

/// Why a file of a segment is not what it should be, though its bytes are those that were sealed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unreadable(pub(super) String);

impl From<datafusion::parquet::errors::ParquetError> for Unreadable {
    fn from(error: datafusion::parquet::errors::ParquetError) -> Self {
        Unreadable(error.to_string())
    }
}

impl From<datafusion::arrow::error::ArrowError> for Unreadable {
    fn from(error: datafusion::arrow::error::ArrowError) -> Self {
        Unreadable(error.to_string())
    }
}

/// Transactions as a file.
pub(super) fn encode_transactions(
    metas: &[(Commit, &TransactionMeta)],
) -> Result<Vec<u8>, Unreadable> {
    let text = |of: &dyn Fn(&TransactionMeta) -> Option<String>| -> ArrayRef {
        Arc::new(
            metas
                .iter()
                .map(|(_, meta)| of(meta))
                .collect::<StringArray>(),
        )
    };
    let commits = metas.iter().map(|(commit, _)| i64::from(*commit));
    let arrays: [(&str, ArrayRef); 6] = [
        ("commit", Arc::new(commits.collect::<Int64Array>())),
        ("lsn", text(&|meta| meta.lsn.clone())),
        (
            "xid",
            Arc::new(
                metas
                    .iter()
                    .map(|(_, meta)| meta.xid)
                    .collect::<UInt64Array>(),
            ),
        ),
        (
            "time",
            Arc::new(
                metas
                    .iter()
                    .map(|(_, meta)| meta.time)
                    .collect::<Int64Array>(),
            ),
        ),
        (
            "context",
            text(&|meta| {
                let context = meta.context.clone()?;
                Some(serde_json::Value::Object(context).to_string())
            }),
        ),
        ("snapshot", text(&|meta| meta.snapshot.clone())),
    ];
    let fields = arrays
        .iter()
        .map(|(name, array)| Field::new(*name, array.data_type().clone(), true));
    let schema = ArrowSchema::new(fields.collect::<Vec<_>>());
    let arrays = arrays.iter().map(|(_, array)| Arc::clone(array)).collect();
    let batch = RecordBatch::try_new(Arc::new(schema), arrays)?;
    Ok(parquet::encode(&batch, &[])?)
}

/// The transactions of a file, without their changes.
pub(super) fn decode_transactions(bytes: Vouched) -> Result<Vec<Transaction>, Unreadable> {
    let mut out = Vec::new();
    for batch in parquet::decode(bytes)? {
        let batch = batch?;
        let column = |at: usize| batch.columns().get(at).ok_or_else(odd);
        let int = |at: usize| column(at)?.as_primitive_opt::<Int64Type>().ok_or_else(odd);
        let text = |at: usize| column(at)?.as_string_opt::<i32>().ok_or_else(odd);
        let (commits, times) = (int(0)?, int(3)?);
        let xids = column(2)?
            .as_primitive_opt::<UInt64Type>()
            .ok_or_else(odd)?;
        let (lsns, contexts, snapshots) = (text(1)?, text(4)?, text(5)?);
        for at in 0..batch.num_rows() {
            let word = |array: &StringArray| array.is_valid(at).then(|| array.value(at).to_owned());
            let context = word(contexts).map(|text| serde_json::from_str(&text));
            out.push(Transaction {
                commit: Commit::try_from(commits.value(at)).map_err(|_| odd())?,
                meta: TransactionMeta {
                    lsn: word(lsns),
                    xid: xids.is_valid(at).then(|| xids.value(at)),
                    time: times.is_valid(at).then(|| times.value(at)),
                    context: context.transpose().map_err(|_| odd())?,
                    snapshot: word(snapshots),
                },
                changes: Vec::new(),
            });
        }
    }
    Ok(out)
}

fn odd() -> Unreadable {
    Unreadable("the columns are not those of this file".into())
}

/// A table's changes as a file.
pub(super) fn encode_changes(table: &Table, written: &Written) -> Result<Vec<u8>, Unreadable> {
    let op = |op: &Op| OPS.iter().position(|known| known == op).map(|at| at as i8);
    let commits = written.commits.iter().map(|&commit| i64::from(commit));
    let ordinals = written.ordinals.iter().map(|&ordinal| i64::from(ordinal));
    let mut arrays: Vec<(String, ArrayRef)> = vec![
        ("commit".into(), Arc::new(commits.collect::<Int64Array>())),
        ("ordinal".into(), Arc::new(ordinals.collect::<Int64Array>())),
        (
            "op".into(),
            Arc::new(written.ops.iter().map(op).collect::<Int8Array>()),
        ),
    ];
    for (prefix, rows) in [("before", &written.before), ("after", &written.after)] {
        let batch = rows.to_batch(table);
        for (at, array) in batch.columns().iter().enumerate() {
            let name = match table.columns.get(at) {
                Some(column) => format!("{prefix}_{}", column.name),
                None => prefix.to_owned(),
            };
            arrays.push((name, Arc::clone(array)));
        }
    }
    let fields = arrays
        .iter()
        .map(|(name, array)| Field::new(name, array.data_type().clone(), true));
    let schema = Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()));
    let arrays = arrays.into_iter().map(|(_, array)| array).collect();
    let blooms: Vec<String> = table
        .primary_key_names()
        .iter()
        .flat_map(|name| [format!("before_{name}"), format!("after_{name}")])
        .collect();
    Ok(parquet::encode(
        &RecordBatch::try_new(schema, arrays)?,
        &blooms,
    )?)
}

/// The changes of a table's file, in parts.
pub(super) fn decode_changes(table: &Table, bytes: Vouched) -> Result<Vec<Written>, Unreadable> {
    parquet::decode(bytes)?
        .map(|batch| part(table, &batch?))
        .collect()
}

fn part(table: &Table, batch: &RecordBatch) -> Result<Written, Unreadable> {
    let column = |at: usize| batch.columns().get(at).ok_or_else(odd);
    let int = |at: usize| column(at)?.as_primitive_opt::<Int64Type>().ok_or_else(odd);
    let number = |value: &i64| u32::try_from(*value).map_err(|_| odd());
    let commits = int(0)?
        .values()
        .iter()
        .map(number)
        .collect::<Result<_, _>>()?;
    let ordinals = int(1)?
        .values()
        .iter()
        .map(number)
        .collect::<Result<_, _>>()?;
    let ops = column(2)?.as_primitive_opt::<Int8Type>().ok_or_else(odd)?;
    let op = |op: &i8| {
        let at = usize::try_from(*op).map_err(|_| odd())?;
        OPS.get(at).copied().ok_or_else(odd)
    };
    let ops = ops.values().iter().map(op).collect::<Result<_, _>>()?;
    let mut next = 3;
    let mut image = |marks: &str| -> Result<StoredRows, Unreadable> {
        let mut columns: Vec<usize> = (next..next + table.columns.len()).collect();
        next += table.columns.len();
        let schema = batch.schema();
        if schema
            .fields()
            .get(next)
            .is_some_and(|field| field.name() == marks)
        {
            columns.push(next);
            next += 1;
        }
        let part = batch.project(&columns)?;
        let renamed = part.columns().iter().enumerate().map(|(at, array)| {
            let name = match table.columns.get(at) {
                Some(column) => column.name.clone(),
                None => StoredRows::unknown_name(table),
            };
            Field::new(name, array.data_type().clone(), true)
        });
        let schema = ArrowSchema::new(renamed.collect::<Vec<_>>());
        let part = RecordBatch::try_new(Arc::new(schema), part.columns().to_vec())?;
        StoredRows::from_batch(table, &part).map_err(|error| Unreadable(error.to_string()))
    };
    let (before, after) = (image("before")?, image("after")?);
    Ok(Written {
        commits,
        ordinals,
        ops,
        before,
        after,
    })
}
