//! How much memory a state takes.

use std::collections::HashSet;

use super::History;
use super::column::{ColumnVersions, capacity};
use super::versions::TableVersions;

/// What the row versions of a history take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// How many row versions are held.
    pub versions: usize,
    /// The bytes that are held on to for them and the recorded changes, as the capacities of what they are kept in.
    pub bytes: usize,
}

impl Memory {
    /// Bytes a row version, rounded up; 0 where there are none.
    pub fn bytes_per_version(&self) -> usize {
        match self.versions {
            0 => 0,
            versions => self.bytes.div_ceil(versions),
        }
    }
}

impl History {
    /// The memory of all tables that are held as versions.
    pub fn memory(&self) -> Memory {
        let tables = self.tables.iter().map(TableVersions::memory);
        tables.fold(Memory::default(), |all, one| Memory {
            versions: all.versions + one.versions,
            bytes: all.bytes + one.bytes,
        })
    }

    /// Gives back the room that was kept for more rows and changes: for histories that are read to their end.
    pub fn shrink(&mut self) {
        self.tables.iter_mut().for_each(TableVersions::shrink);
    }
}

impl TableVersions {
    /// The memory of the table's row versions, recorded changes and indexes.
    pub fn memory(&self) -> Memory {
        let columns: usize = self.columns.iter().map(ColumnVersions::bytes).sum();
        let lives = capacity(&self.born) + capacity(&self.died) + capacity(&self.deaths);
        let seen = self.seen.capacity() * (size_of::<u64>() + 1);
        Memory {
            versions: self.version_count(),
            bytes: columns + lives + capacity(&self.events) + self.live.bytes() + seen,
        }
    }

    fn shrink(&mut self) {
        self.columns.iter_mut().for_each(ColumnVersions::shrink);
        self.born.shrink_to_fit();
        self.died.shrink_to_fit();
        self.deaths.shrink_to_fit();
        self.events.shrink_to_fit();
        self.live.shrink();
        if !self.partial_start {
            self.seen = HashSet::new();
        }
    }
}
