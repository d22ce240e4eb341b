//! The writes of a history by what they hold in some columns.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use crate::change::{Cell, Commit};
use crate::state::{History, TableVersions, Write};

/// Places in a table's writes by a hash of what some columns hold after them; in the order of the writes.
type Index = HashMap<u64, Vec<u32>>;

/// The writes since a commit that left a row there, and indexes over them that are made when they are asked for.
pub(super) struct Writes<'a> {
    history: &'a History,
    since: Commit,
    tables: Vec<Option<Vec<Write>>>,
    indexes: HashMap<(usize, Vec<usize>), Index>,
    versions: HashMap<usize, Index>,
    /// How many writes have a reference that is not known.
    pub(super) not_known: u64,
}

impl<'a> Writes<'a> {
    pub(super) fn new(history: &'a History, since: Commit) -> Self {
        Writes {
            history,
            since,
            tables: history.tables.iter().map(|_| None).collect(),
            indexes: HashMap::new(),
            versions: HashMap::new(),
            not_known: 0,
        }
    }

    /// The writes of a table that left a row there, in commit order.
    fn of(&mut self, table: usize) -> &[Write] {
        let (history, since) = (self.history, self.since);
        self.tables[table].get_or_insert_with(|| {
            let mut writes = history.tables[table].writes(history.head());
            writes.retain(|write| write.commit >= since && write.after.is_some());
            writes
        })
    }

    /// Makes an index over some columns of a table where there is none yet.
    fn make(&mut self, table: usize, columns: &[usize]) {
        let name = (table, columns.to_vec());
        if self.indexes.contains_key(&name) {
            return;
        }
        let versions = &self.history.tables[table];
        let is_link = columns != super::walk::naming(&versions.table);
        let mut index = Index::new();
        let mut not_known = 0;
        for (at, write) in (0u32..).zip(self.of(table)) {
            let Some(row) = write.after else { continue };
            let cells = cells(versions, columns, row);
            not_known += u64::from(is_link && cells.contains(&Cell::Unknown));
            index.entry(hash(&cells)).or_default().push(at);
        }
        self.not_known += not_known;
        self.indexes.insert(name, index);
    }

    /// The writes of a table in a range of commits after which columns hold these values; in commit order.
    pub(super) fn holding(
        &mut self,
        table: usize,
        (columns, values): (&[usize], &[Cell]),
        range: &Range<Commit>,
    ) -> Vec<Write> {
        self.make(table, columns);
        let name = (table, columns.to_vec());
        let places = self.indexes[&name].get(&hash(values));
        let (Some(places), Some(writes)) = (places, &self.tables[table]) else {
            return Vec::new();
        };
        let commit = |place: &u32| writes[*place as usize].commit;
        let start = places.partition_point(|place| commit(place) < range.start);
        let end = places.partition_point(|place| commit(place) < range.end);
        let versions = &self.history.tables[table];
        let holds = |write: &Write| {
            let mut pairs = columns.iter().zip(values);
            let same = |row: u32| pairs.all(|(&at, value)| versions.cell(at, row) == *value);
            write.after.is_some_and(same)
        };
        let found = places.get(start..end).unwrap_or_default();
        let found = found.iter().map(|&place| writes[place as usize]);
        found.filter(holds).collect()
    }

    /// All versions of a row, whenever they were.
    pub(super) fn versions(&mut self, table: usize, name: &[Cell]) -> Vec<u32> {
        let versions = &self.history.tables[table];
        let columns = super::walk::naming(&versions.table);
        let all = self.versions.entry(table).or_insert_with(|| {
            let mut all = Index::new();
            let count = u32::try_from(versions.version_count()).unwrap_or(u32::MAX);
            for row in 0..count {
                let name = cells(versions, &columns, row);
                all.entry(hash(&name)).or_default().push(row);
            }
            all
        });
        let found = all.get(&hash(name)).into_iter().flatten().copied();
        found
            .filter(|&row| cells(versions, &columns, row) == name)
            .collect()
    }
}

/// What a row version holds in some columns.
pub(super) fn cells(versions: &TableVersions, columns: &[usize], row: u32) -> Vec<Cell> {
    let cell = |&column: &usize| versions.cell(column, row);
    columns.iter().map(cell).collect()
}

/// Whether values refer to anything: NULL does not, and what is not known might.
pub(super) fn is_reference(values: &[Cell]) -> bool {
    !values.is_empty()
        && !values
            .iter()
            .any(|cell| matches!(cell, Cell::Null | Cell::Unknown))
}

fn hash(values: &[Cell]) -> u64 {
    let mut hasher = DefaultHasher::new();
    values.hash(&mut hasher);
    hasher.finish()
}
