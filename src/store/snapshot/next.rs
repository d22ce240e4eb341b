//! A table's chunks in the next snapshot: those of the one before, and of the changed ones what the changes made of them.

use std::collections::HashMap;

use super::{Put, Run, between, cuts, parallel, table_manifest};
use crate::schema::Table;
use crate::state::{Keys, StoredRows, TableVersions, heights, sorted};
use crate::store::manifest::{Chunk, KeyBytes, TableManifest};
use crate::store::{Store, StoreError};

/// Rows that went or came, by the chunk of the snapshot before to which their keys belong.
pub(super) struct Placed {
    rows: StoredRows,
    keys: Keys,
    /// Row numbers by chunk.
    places: HashMap<usize, Vec<u32>>,
}

impl Placed {
    pub(super) fn new(versions: &TableVersions, rows: &[u32], old: &TableManifest) -> Placed {
        let rows = versions.stored(rows);
        let keys = Keys::of(&versions.table, &rows);
        let mut places: HashMap<usize, Vec<u32>> = HashMap::new();
        for (row, key) in (0u32..).zip(keys.iter()) {
            let above = old
                .chunks
                .partition_point(|chunk| chunk.from.0.as_slice() <= key);
            places.entry(above.saturating_sub(1)).or_default().push(row);
        }
        Placed { rows, keys, places }
    }

    fn of(&self, chunk: usize) -> &[u32] {
        self.places.get(&chunk).map_or(&[], Vec::as_slice)
    }
}

/// A table on its way from one snapshot to the next.
pub(super) struct Next<'a> {
    pub(super) store: &'a Store,
    pub(super) table: &'a Table,
    pub(super) level: u8,
    pub(super) old: &'a TableManifest,
    pub(super) gone: Placed,
    pub(super) come: Placed,
    pub(super) put: Option<Put<'a>>,
}

/// How many chunks are made anew at once.
const CHUNKS_AT_ONCE: usize = 16;

/// Rows in order with their keys.
type Ordered = (StoredRows, Keys);

/// A chunk of the next snapshot.
enum Made {
    /// As it was.
    Same(Chunk),
    /// Rows with their heights, and where they begin.
    Rows(StoredRows, Vec<u8>, KeyBytes),
}

impl Next<'_> {
    pub(super) fn table(&self) -> Result<TableManifest, StoreError> {
        let mut chunks: Vec<Chunk> = Vec::new();
        // Rows behind the last cut, and where they begin.
        let mut open: Option<(Ordered, KeyBytes)> = None;
        let numbers: Vec<usize> = (0..self.old.chunks.len().max(1)).collect();
        for window in numbers.chunks(CHUNKS_AT_ONCE) {
            let merged = parallel(window.len(), |at| {
                let number = window[at];
                let changed = !self.gone.of(number).is_empty() || !self.come.of(number).is_empty();
                changed.then(|| self.merged(number)).transpose()
            })?;
            let mut made = Vec::new();
            for (&number, merged) in window.iter().zip(merged) {
                let old = self.old.chunks.get(number);
                let (rows, old) = match (merged, old) {
                    (None, Some(old)) if open.is_none() => {
                        made.push(Made::Same(old.clone()));
                        continue;
                    }
                    // What is open before it goes on in it.
                    (None, _) => (self.merged(number)?, old),
                    (Some(rows), old) => (rows, old),
                };
                let from = old.map(|old| old.from.clone()).unwrap_or_default();
                let (rows, from) = match open.take() {
                    Some((begun, from)) => (self.joined(begun, rows)?, from),
                    None => (rows, from),
                };
                open = self.cut(rows, from, number + 1 == numbers.len(), &mut made);
            }
            chunks.extend(parallel(made.len(), |at| self.chunk(&made[at]))?);
        }
        if let Some(first) = chunks.first_mut() {
            // Where all rows before it went: nothing is below the first chunk.
            first.from = KeyBytes::default();
        }
        Ok(table_manifest(self.table, self.level, chunks))
    }

    fn chunk(&self, made: &Made) -> Result<Chunk, StoreError> {
        match made {
            Made::Same(chunk) => Ok(chunk.clone()),
            Made::Rows(rows, heights, from) => {
                let run = Run {
                    table: self.table,
                    rows,
                    heights,
                    level: self.level,
                    from: from.clone(),
                };
                run.chunk(self.put)
            }
        }
    }

    /// The rows of a chunk after the changes, in order.
    fn merged(&self, number: usize) -> Result<Ordered, StoreError> {
        let come = self.come.rows.take(self.come.of(number));
        let rows = match self.old.chunks.get(number) {
            None => come,
            Some(old) => {
                let rows = self.store.rows(self.table, old)?;
                let left = self.left(&rows, self.gone.of(number), old)?;
                StoredRows::concat(&[&rows.take(&left), &come])
            }
        };
        let keys = Keys::of(self.table, &rows);
        let order = sorted(self.table, &rows, &keys);
        Ok((rows.take(&order), keys.take(&order)))
    }

    /// Rows that all stand before others, and those.
    fn joined(
        &self,
        (rows, keys): Ordered,
        (more, more_keys): Ordered,
    ) -> Result<Ordered, StoreError> {
        let rows = StoredRows::concat(&[&rows, &more]);
        let mut all = keys;
        all.append(&more_keys);
        Ok((rows, all))
    }

    /// The rows of a chunk without those that went.
    fn left(&self, rows: &StoredRows, gone: &[u32], old: &Chunk) -> Result<Vec<u32>, StoreError> {
        let keys = Keys::of(self.table, rows);
        let mut by_key: HashMap<&[u8], Vec<u32>> = HashMap::new();
        for &row in gone {
            by_key
                .entry(self.gone.keys.get(row as usize))
                .or_default()
                .push(row);
        }
        let mut left = Vec::with_capacity(rows.len());
        for (row, key) in (0u32..).zip(keys.iter()) {
            let same =
                |gone: &u32| rows.same(row as usize, &self.gone.rows, *gone as usize, self.table);
            let found = by_key.get_mut(key).and_then(|gone| {
                let at = gone.iter().position(same)?;
                Some(gone.swap_remove(at))
            });
            if found.is_none() {
                left.push(row);
            }
        }
        if by_key.values().all(Vec::is_empty) {
            return Ok(left);
        }
        let sealed = old.sealed();
        Err(StoreError::damaged(
            sealed.path.as_str(),
            (0, sealed.bytes),
            "a row that the changes remove is not in it",
            format!("rows of {}", self.table.name.short()),
        ))
    }

    /// Cuts rows into chunks; what is behind the last cut goes on, unless nothing follows.
    fn cut(
        &self,
        (rows, keys): Ordered,
        mut from: KeyBytes,
        is_last: bool,
        made: &mut Vec<Made>,
    ) -> Option<(Ordered, KeyBytes)> {
        let heights = heights(&keys);
        for (start, end) in cuts(&heights, self.level) {
            if start > 0 {
                from = between(keys.get(start - 1), keys.get(start));
            }
            let rows = rows.slice(start, end - start);
            if heights[end - 1] <= self.level && !is_last {
                let numbers: Vec<u32> = (start as u32..end as u32).collect();
                return Some(((rows, keys.take(&numbers)), from));
            }
            made.push(Made::Rows(rows, heights[start..end].to_vec(), from.clone()));
        }
        None
    }
}
