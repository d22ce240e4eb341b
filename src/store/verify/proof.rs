//! The proof that goes beyond bytes: chunks hold the rows that the snapshots say, and a snapshot with the changes after it is the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Verification;
use crate::change::Commit;
use crate::schema::Table;
use crate::state::{Keys, heights, nodes, sorted};
use crate::store::manifest::{Chunk, Manifest, TableManifest};
use crate::store::snapshot::parallel;
use crate::store::{Hash, Store, StoreError};

impl Verification<'_> {
    pub(super) fn prove(
        &mut self,
        manifests: &BTreeMap<Commit, Manifest>,
    ) -> Result<(), StoreError> {
        let store = match Store::on(Arc::clone(self.disk)) {
            Ok(store) => store,
            Err(error) => return self.found(error),
        };
        self.rows(&store, manifests)?;
        if !self.report.damage.is_empty() || store.format().partial_start {
            return Ok(());
        }
        self.chain_of_states(&store, manifests)
    }

    /// Damage that was met on the way.
    fn found(&mut self, error: StoreError) -> Result<(), StoreError> {
        match error {
            StoreError::Damaged(damage) => {
                self.report.damage.push(*damage);
                Ok(())
            }
            error => Err(error),
        }
    }

    /// Compares the rows of every chunk with what its snapshot says of them.
    fn rows(
        &mut self,
        store: &Store,
        manifests: &BTreeMap<Commit, Manifest>,
    ) -> Result<(), StoreError> {
        let mut seen: BTreeSet<Hash> = BTreeSet::new();
        let mut chunks: Vec<(usize, &Chunk, Option<&Chunk>)> = Vec::new();
        for manifest in manifests.values() {
            for (number, table) in manifest.tables.iter().enumerate() {
                for (at, chunk) in table.chunks.iter().enumerate() {
                    if seen.insert(chunk.object) {
                        chunks.push((number, chunk, table.chunks.get(at + 1)));
                    }
                }
            }
        }
        let level = store.format().chunk_level;
        let done = AtomicU64::new(0);
        let total = chunks.len() as u64;
        let wrong = parallel(chunks.len(), |at| {
            let (number, chunk, next) = chunks[at];
            let table = &store.format().schema.tables[number];
            let right = is_right(store, table, chunk, next, level)?;
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            (self.progress)("rows", done, total);
            Ok((!right).then(|| (chunk.sealed(), table.name.short())))
        });
        self.report.chunks += total;
        let wrong = match wrong {
            Ok(wrong) => wrong,
            Err(error) => return self.found(error),
        };
        for (sealed, table) in wrong.into_iter().flatten() {
            let problem = "the rows are not those that the snapshot says";
            let affects = format!("rows of {table}");
            self.wrong(&sealed.path, (0, sealed.bytes), problem, &affects);
        }
        Ok(())
    }

    /// Compares each snapshot with the one before it and the changes between.
    fn chain_of_states(
        &mut self,
        store: &Store,
        manifests: &BTreeMap<Commit, Manifest>,
    ) -> Result<(), StoreError> {
        let Some((&first, base)) = manifests.first_key_value() else {
            return Ok(());
        };
        let history = match store.history_of(first..=store.ledger().head()) {
            Ok(history) => history,
            Err(error) => return self.found(error),
        };
        let head = store.ledger().head();
        if history.head() < head {
            let problem = format!(
                "the changes end at #{}, the store at #{head}",
                history.head()
            );
            self.wrong(crate::store::CHAIN, (0, 0), &problem, "what lies between");
            return Ok(());
        }
        let total = manifests.len() as u64;
        let mut before = base;
        let of = |number: usize| history.fingerprint(number, first).map(Hash::from);
        let mut tables = base.tables.iter().enumerate();
        if tables.any(|(at, table)| !table.has_unknown() && of(at) != Some(table.fingerprint)) {
            self.not_the_state(base);
        }
        let unknown: Vec<&str> = (0..base.tables.len())
            .filter(|&at| manifests.values().any(|one| one.tables[at].has_unknown()))
            .map(|at| base.tables[at].table.as_str())
            .collect();
        if !unknown.is_empty() {
            let note = format!(
                "not proved from the changes, because some cells are not known: {}",
                unknown.join(", ")
            );
            self.report.notes.push(note);
        }
        self.report.proved += 1;
        for (&at, manifest) in manifests.range(first + 1..) {
            let made = match store.next(before, &history, at, None) {
                Ok(made) => made,
                Err(error) => return self.found(error),
            };
            if !same_states(&made, manifest) {
                self.not_the_state(manifest);
            }
            self.report.proved += 1;
            (self.progress)("snapshots", self.report.proved, total);
            before = manifest;
        }
        Ok(())
    }

    fn not_the_state(&mut self, manifest: &Manifest) {
        let path = crate::store::format::manifest_path(manifest.at);
        let bytes = self
            .ledger
            .manifest(manifest.at)
            .map_or(0, |sealed| sealed.bytes);
        let problem = "the snapshot is not what the one before it and the changes make";
        let affects = self.ledger.affects(&path);
        self.wrong(&path, (0, bytes), problem, &affects);
    }
}

/// Whether a chunk's rows are in order, within its keys, and those of its print.
fn is_right(
    store: &Store,
    table: &Table,
    chunk: &Chunk,
    next: Option<&Chunk>,
    level: u8,
) -> Result<bool, StoreError> {
    let rows = store.rows(table, chunk)?;
    let keys = Keys::of(table, &rows);
    let in_order = sorted(table, &rows, &keys)
        .into_iter()
        .eq(0..rows.len() as u32);
    let (Some(first), Some(last)) = (keys.iter().next(), keys.iter().last()) else {
        return Ok(false);
    };
    let within =
        chunk.from.0.as_slice() <= first && next.is_none_or(|next| last < next.from.0.as_slice());
    let found = nodes(table, &rows, &heights(&keys), level);
    let [node] = found.as_slice() else {
        return Ok(false);
    };
    let same = Hash::from(*node.print.as_bytes()) == chunk.print
        && node.height == chunk.height
        && node.rows == chunk.rows
        && rows.has_unknown() == chunk.unknown;
    Ok(in_order && within && same)
}

/// Whether two snapshots say the same, however their chunks are written down, but for tables with cells that are not known.
fn same_states(a: &Manifest, b: &Manifest) -> bool {
    let part = |table: &TableManifest| {
        let chunks = table.chunks.iter().map(|c| (c.rows, c.height, c.print));
        (table.rows, table.fingerprint, chunks.collect::<Vec<_>>())
    };
    let same = |(a, b): (&TableManifest, &TableManifest)| {
        a.has_unknown() || b.has_unknown() || part(a) == part(b)
    };
    a.tables.len() == b.tables.len() && a.tables.iter().zip(&b.tables).all(same)
}
