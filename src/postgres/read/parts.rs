//! What is copied at once: a table, or a range of the pages of a large one.

use std::collections::{BTreeMap, BTreeSet};

use crate::postgres::catalog::{Catalog, TableInfo, is_binary, quoted, quoted_table};

/// Tables are cut into ranges of so many bytes.
const RANGE_BYTES: u64 = 64 << 20;

/// A copy that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// Index of the table.
    pub(super) table: usize,
    /// For each field of the rows its column.
    pub(super) fields: Vec<usize>,
    /// The statement.
    pub(super) sql: String,
    /// About how much work it is, in bytes.
    bytes: u64,
}

/// The copies that give all that is wanted, the largest first. `block_bytes` is the size of a page where tables are read in ranges.
pub(super) fn jobs(
    catalog: &Catalog,
    wanted: &BTreeMap<usize, BTreeSet<usize>>,
    block_bytes: Option<u64>,
) -> Vec<Job> {
    let mut jobs = Vec::new();
    for (&table, columns) in wanted {
        let info = &catalog.tables[table];
        let fields: Vec<usize> = columns.iter().copied().collect();
        let list = fields.iter().map(|&at| {
            let column = &catalog.schema().tables[table].columns[at];
            let name = quoted(&column.name);
            match is_binary(&column.data_type) {
                true => name,
                // As its output function prints it: some types have a cast to text that prints something else (an address its mask).
                false => {
                    format!("case when {name} is distinct from null then format('%s', {name}) end")
                }
            }
        });
        let list = list.collect::<Vec<_>>().join(", ");
        for (condition, bytes) in ranges(info, block_bytes) {
            jobs.push(Job {
                table,
                fields: fields.clone(),
                sql: format!(
                    "copy (select {list} from {}{}{condition}) to stdout (format binary)",
                    // Rows of a table that inherits are its own.
                    if info.partitioned { "" } else { "only " },
                    quoted_table(&info.name),
                ),
                bytes,
            });
        }
    }
    jobs.sort_by_key(|job| std::cmp::Reverse(job.bytes));
    jobs
}

/// The conditions that cut a table, and the bytes of each part.
fn ranges(info: &TableInfo, block_bytes: Option<u64>) -> Vec<(String, u64)> {
    let whole = || vec![(String::new(), info.bytes)];
    let Some(block) = block_bytes.filter(|&block| block > 0 && !info.partitioned) else {
        return whole();
    };
    let pages = info.bytes / block;
    let step = (RANGE_BYTES / block).max(1);
    if pages <= step {
        return whole();
    }
    let starts: Vec<u64> = (0..pages)
        .step_by(usize::try_from(step).unwrap_or(1))
        .collect();
    let range = |(at, start): (usize, &u64)| {
        let from = format!(" where ctid >= '({start},0)'::tid");
        match starts.get(at + 1) {
            // The last one has no end: the table may have grown, though nothing of that is seen.
            None => (from, info.bytes - start * block),
            Some(end) => (format!("{from} and ctid < '({end},0)'::tid"), step * block),
        }
    };
    starts.iter().enumerate().map(range).collect()
}
