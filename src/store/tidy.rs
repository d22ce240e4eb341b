//! What keeps a store small: neighbouring segments become one, and what is too old or too much goes.

use std::collections::{BTreeMap, HashSet};

use super::Store;
use super::chain::{Act, Stretch};
use super::error::StoreError;
use super::format::{changes_file, manifest_path, segment_directory};
use super::record::Sealing;
use super::segment::{TRANSACTIONS, Unreadable, encode_changes, encode_transactions};
use super::writer::Writer;
use crate::change::{Commit, Transaction};
use crate::state::Written;

/// So many small neighbours are made one.
const NEIGHBOURS: usize = 8;

/// What a store keeps. Without a bound, everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// How far back in time every position can be asked for, in microseconds.
    pub age_us: Option<i64>,
    /// How many bytes the store may have. Its last snapshot, and what came after it, are kept in any case.
    pub bytes: Option<u64>,
}

/// What a store takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of segments.
    pub segments_bytes: u64,
    /// Bytes of snapshots: their manifests and chunks.
    pub snapshots_bytes: u64,
    /// Changes in all segments.
    pub changes: u64,
    /// Chunks that are different.
    pub chunks: u64,
}

/// What went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// The first position that is left.
    pub first: Commit,
    /// Segments.
    pub segments: usize,
    /// Snapshots.
    pub snapshots: usize,
    /// Bytes.
    pub bytes: u64,
}

impl Store {
    /// What the store takes.
    ///
    /// # Errors
    /// When a manifest is damaged.
    pub fn usage(&self) -> Result<Usage, StoreError> {
        self.usage_from(self.ledger().first)
    }

    /// What the store takes when it begins with this snapshot.
    fn usage_from(&self, first: Commit) -> Result<Usage, StoreError> {
        let ledger = self.ledger();
        let mut usage = Usage::default();
        for stretch in ledger
            .segments
            .values()
            .filter(|stretch| stretch.to > first)
        {
            let files = ledger.segment_files(stretch);
            usage.segments_bytes += files.map(|(_, sealed)| sealed.bytes).sum::<u64>();
            usage.changes += stretch.changes;
        }
        let mut objects: BTreeMap<String, u64> = BTreeMap::new();
        for &at in ledger.snapshots.keys().filter(|at| **at >= first) {
            usage.snapshots_bytes += ledger.manifest(at).map_or(0, |sealed| sealed.bytes);
            for (_, chunk) in self.manifest(at)?.chunks() {
                objects.insert(chunk.sealed().path, chunk.bytes);
            }
        }
        usage.snapshots_bytes += objects.values().sum::<u64>();
        usage.chunks = objects.len() as u64;
        Ok(usage)
    }
}

impl Usage {
    fn bytes(&self) -> u64 {
        self.segments_bytes + self.snapshots_bytes
    }
}

impl Writer {
    /// Makes one of small neighbouring segments; says how many are gone.
    ///
    /// # Errors
    /// When the disk fails, or what is there is damaged.
    pub fn merge(&mut self, sealing: Sealing) -> Result<usize, StoreError> {
        let mut merged = 0;
        while let Some(run) = self.small_run(sealing) {
            merged += run.len() - 1;
            self.merge_run(&run)?;
        }
        Ok(merged)
    }

    /// Neighbours that are small, enough of them, and together not more than one segment may be.
    fn small_run(&self, sealing: Sealing) -> Option<Vec<Stretch>> {
        let most = sealing.changes_max;
        let mut run: Vec<Stretch> = Vec::new();
        for stretch in self.store().ledger().segments.values() {
            let is_small =
                !stretch.unseen && stretch.changes.saturating_mul(NEIGHBOURS as u64) <= most;
            let together: u64 = run.iter().map(|one| one.changes).sum();
            let fits = run.last().is_none_or(|last| last.to + 1 == stretch.from)
                && together + stretch.changes <= most;
            if is_small && fits {
                run.push(stretch.clone());
                continue;
            }
            if run.len() >= NEIGHBOURS {
                break;
            }
            run.clear();
            run.extend(is_small.then(|| stretch.clone()));
        }
        (run.len() >= NEIGHBOURS).then_some(run)
    }

    fn merge_run(&mut self, run: &[Stretch]) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return Ok(());
        };
        let stretch = Stretch {
            from: first.from,
            to: last.to,
            unseen: false,
            changes: run.iter().map(|one| one.changes).sum(),
            lsn_from: run.iter().find_map(|one| one.lsn_from.clone()),
            lsn_to: run.iter().rev().find_map(|one| one.lsn_to.clone()),
            time_from: run.iter().find_map(|one| one.time_from),
            time_to: run.iter().rev().find_map(|one| one.time_to),
        };
        let mut transactions: Vec<Transaction> = Vec::new();
        let mut tables: BTreeMap<usize, Vec<Written>> = BTreeMap::new();
        let mut removed = Vec::new();
        for one in run {
            let parts = self.store().segment(one)?;
            transactions.extend(parts.transactions);
            for (number, _, written) in parts.tables {
                tables.entry(number).or_default().extend(written);
            }
            let files = self.store().ledger().segment_files(one);
            removed.extend(files.map(|(_, sealed)| sealed.path.clone()));
        }
        let directory = segment_directory(stretch.from, stretch.to);
        let odd = |error: Unreadable| {
            StoreError::io("encode", &directory)(std::io::Error::other(error.to_string()))
        };
        let metas: Vec<_> = transactions
            .iter()
            .map(|one| (one.commit, &one.meta))
            .collect();
        let path = format!("{directory}/{TRANSACTIONS}");
        let mut staged = vec![self.stage(&path, &encode_transactions(&metas).map_err(odd)?)?];
        for (number, parts) in tables {
            let table = &self.store().format().schema.tables[number];
            let written = Written::concat(&parts);
            let path = format!("{directory}/{}", changes_file(number, table));
            let bytes = encode_changes(table, &written).map_err(odd)?;
            staged.push(self.stage(&path, &bytes)?);
        }
        self.seal(Act::Merge(stretch), staged, removed)
    }

    /// Drops what is older than the retention wants, or more: the store begins with a later snapshot then. None where nothing goes.
    /// `now_us` is the time from which the age counts back, in microseconds since the epoch.
    ///
    /// # Errors
    /// When the disk fails, or what is there is damaged.
    pub fn retain(
        &mut self,
        retention: Retention,
        now_us: i64,
    ) -> Result<Option<Dropped>, StoreError> {
        let ledger = self.store().ledger();
        let mut first = ledger.first;
        if let Some(age) = retention.age_us {
            let since = now_us.saturating_sub(age);
            let is_old = |kept: &&super::Kept| kept.time.unwrap_or(kept.sealed) <= since;
            let last = ledger
                .snapshots
                .values()
                .filter(is_old)
                .map(|kept| kept.at)
                .max();
            first = first.max(last.unwrap_or(first));
        }
        if let Some(most) = retention.bytes {
            let later: Vec<Commit> = ledger.snapshots.range(first..).map(|(&at, _)| at).collect();
            for at in later {
                first = at;
                if self.store().usage_from(at)?.bytes() <= most {
                    break;
                }
            }
        }
        if first <= self.store().ledger().first {
            return Ok(None);
        }
        self.begin_with(first).map(Some)
    }

    /// Drops everything before a snapshot.
    fn begin_with(&mut self, first: Commit) -> Result<Dropped, StoreError> {
        let before = self.store().usage()?.bytes();
        let after = self.store().usage_from(first)?.bytes();
        let ledger = self.store().ledger();
        let mut removed = Vec::new();
        let mut dropped = Dropped {
            first,
            bytes: before - after,
            ..Dropped::default()
        };
        for stretch in ledger
            .segments
            .values()
            .filter(|stretch| stretch.to <= first)
        {
            dropped.segments += 1;
            let files = ledger.segment_files(stretch);
            removed.extend(files.map(|(_, sealed)| sealed.path.clone()));
        }
        let mut objects = [HashSet::new(), HashSet::new()];
        let mut snapshots = Vec::new();
        for &at in ledger.snapshots.keys() {
            let kept = at >= first;
            let chunks = self.store().manifest(at)?;
            let chunks = chunks.chunks().map(|(_, chunk)| chunk.sealed().path);
            objects[usize::from(kept)].extend(chunks);
            if !kept {
                snapshots.push(at);
                removed.push(manifest_path(at));
            }
        }
        dropped.snapshots = snapshots.len();
        let mut gone: Vec<String> = objects[0].difference(&objects[1]).cloned().collect();
        gone.sort();
        removed.extend(gone);
        self.seal(Act::Retain { first, snapshots }, Vec::new(), removed)?;
        Ok(dropped)
    }
}
