//! A transaction that is too large for memory becomes a segment of its own, part by part: each part is a file like any other file of a
//! segment, named after the table and the part.

use super::chain::{Act, Stretch};
use super::error::StoreError;
use super::format::{changes_part, segment_directory};
use super::record::Recorded;
use super::segment::{TRANSACTIONS, Unreadable, encode_changes, encode_transactions};
use super::writer::{Staged, Writer};
use crate::change::{Change, Commit, TransactionMeta};
use crate::state::Writing;

/// A part is written when its changes take about so many bytes …
const PART_BYTES: u64 = 8 << 20;
/// … or are so many.
const PART_CHANGES: usize = 64 << 10;

/// A transaction that is being written. Nothing of it is in the store before [`Large::seal`].
#[derive(Debug)]
pub struct Large<'a> {
    writer: &'a mut Writer,
    meta: TransactionMeta,
    commit: Commit,
    /// The changes that are not in a file yet.
    part: Vec<Writing>,
    held: usize,
    held_bytes: u64,
    /// How many changes came.
    changes: usize,
    /// How many parts were written.
    parts: u32,
    staged: Vec<Staged>,
}

fn beginning(writer: &Writer) -> Vec<Writing> {
    let tables = &writer.store().format().schema.tables;
    tables.iter().map(Writing::new).collect()
}

impl Writer {
    /// Begins to write the transaction that follows the store's head, in memory that does not grow with it.
    pub fn large(&mut self, meta: TransactionMeta) -> Large<'_> {
        Large {
            commit: self.store().ledger().head() + 1,
            part: beginning(self),
            writer: self,
            meta,
            held: 0,
            held_bytes: 0,
            changes: 0,
            parts: 0,
            staged: Vec::new(),
        }
    }
}

impl Large<'_> {
    /// Takes the next change, which takes about so many bytes.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn change(&mut self, change: &Change, bytes: u64) -> Result<(), StoreError> {
        let ordinal = u32::try_from(self.changes + 1).unwrap_or(u32::MAX);
        self.part[change.table].push(self.commit, ordinal, change);
        self.changes += 1;
        self.held += 1;
        self.held_bytes += bytes;
        if self.held >= PART_CHANGES || self.held_bytes >= PART_BYTES {
            self.write()?;
        }
        Ok(())
    }

    /// Puts what came into files.
    fn write(&mut self) -> Result<(), StoreError> {
        let directory = segment_directory(self.commit, self.commit);
        let odd = |error: Unreadable| {
            StoreError::io("encode", &directory)(std::io::Error::other(error.to_string()))
        };
        let next = beginning(self.writer);
        for (number, part) in std::mem::replace(&mut self.part, next)
            .into_iter()
            .enumerate()
        {
            if part.is_empty() {
                continue;
            }
            let table = &self.writer.store().format().schema.tables[number];
            let bytes = encode_changes(table, &part.finish()).map_err(odd)?;
            let name = changes_part(number, table, self.parts);
            let staged = self.writer.stage(&format!("{directory}/{name}"), &bytes)?;
            self.staged.push(staged);
        }
        self.parts += 1;
        (self.held, self.held_bytes) = (0, 0);
        Ok(())
    }

    /// Ends the transaction: it is the store's head from now on.
    ///
    /// # Errors
    /// When the disk fails; nothing of it is in the store then.
    pub fn seal(mut self) -> Result<Recorded, StoreError> {
        self.write()?;
        let directory = segment_directory(self.commit, self.commit);
        let metas = encode_transactions(&[(self.commit, &self.meta)]).map_err(|error| {
            StoreError::io("encode", &directory)(std::io::Error::other(error.to_string()))
        })?;
        let staged = self
            .writer
            .stage(&format!("{directory}/{TRANSACTIONS}"), &metas)?;
        self.staged.push(staged);
        let changes = u64::try_from(self.changes).unwrap_or(u64::MAX);
        let bytes = self.staged.iter().map(|staged| staged.sealed.bytes).sum();
        let stretch = Stretch {
            from: self.commit,
            to: self.commit,
            unseen: false,
            changes,
            lsn_from: self.meta.lsn.clone(),
            lsn_to: self.meta.lsn.clone(),
            time_from: self.meta.time,
            time_to: self.meta.time,
        };
        self.writer
            .seal(Act::Changes(stretch), self.staged, Vec::new())?;
        Ok(Recorded {
            commits: 1,
            changes,
            segments: 1,
            snapshots: 0,
            bytes,
        })
    }
}
