//! Which writes a reader of some columns can notice: an update of other columns is none to it.

use std::ops::RangeInclusive;

use hashbrown::HashMap;

use super::versions::TableVersions;
use crate::change::{Commit, Op};

impl TableVersions {
    /// The commits that changed what somebody sees who reads only these columns, in order: those by which rows came or went, or one of
    /// the columns got another value. A commit that changed a value and changed it back may be among them.
    pub fn commits_touching(&self, columns: &[usize]) -> impl Iterator<Item = Commit> {
        let groups = self.events.chunk_by(|a, b| a.commit == b.commit);
        groups.filter_map(move |group| {
            let touches = group.iter().any(|event| {
                event.op() != Op::Update || !self.alike(columns, event.before, event.after)
            });
            touches.then_some(group[0].commit)
        })
    }

    /// Versions that were replaced in a range of commits by one that holds the same in these columns: the version that ended and the one
    /// that began in its place, both visible at some position.
    pub fn replaced_alike(
        &self,
        columns: &[usize],
        range: &RangeInclusive<Commit>,
    ) -> Vec<(u32, u32)> {
        let start = self
            .events
            .partition_point(|event| event.commit < *range.start());
        let end = self
            .events
            .partition_point(|event| event.commit <= *range.end());
        // Steps within a commit: from the version that a commit leaves to the one that it began with.
        let mut firsts: HashMap<u32, u32> = HashMap::new();
        for event in &self.events[start..end] {
            if event.op() != Op::Update || !self.alike(columns, event.before, event.after) {
                continue;
            }
            let is_first = self.born[event.before as usize] < event.commit;
            let first = match is_first {
                true => Some(event.before),
                false => firsts.remove(&event.before),
            };
            if let Some(first) = first {
                firsts.insert(event.after, first);
            }
        }
        let stayed = |(last, first): (u32, u32)| {
            let (born, died) = self.lifetime(last);
            (born < died).then_some((first, last))
        };
        firsts.into_iter().filter_map(stayed).collect()
    }

    /// Whether two versions hold the same in some columns, to the last digit and letter.
    fn alike(&self, columns: &[usize], a: u32, b: u32) -> bool {
        let same = |&column: &usize| self.columns[column].identical(a, b);
        columns.iter().all(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Cell, Change, Image};
    use crate::schema::{Column, DataType, Table, TableName};

    fn table() -> TableVersions {
        let column = |name: &str| Column {
            name: name.into(),
            data_type: DataType::Int64,
            nullable: true,
        };
        TableVersions::new(
            Table {
                name: TableName::parse("t"),
                columns: vec![column("id"), column("a"), column("b")],
                primary_key: vec![0],
                foreign_keys: Vec::new(),
            },
            false,
        )
    }

    fn update(table: &mut TableVersions, commit: Commit, after: Image) {
        let change = Change {
            table: 0,
            op: Op::Update,
            key: Some(vec![(0, Cell::Int(1))]),
            before: None,
            after: Some(after),
        };
        table.apply(commit, 1, &change).expect("the row is there");
    }

    #[test]
    fn updates_of_other_columns_are_not_noticed() {
        let mut table = table();
        for id in [1, 2] {
            let row = [Cell::Int(id), Cell::Int(0), Cell::Null];
            table.load(&row).expect("integers fit");
        }
        update(&mut table, 1, vec![(1, Cell::Int(5))]);
        update(&mut table, 2, vec![(2, Cell::Int(5))]);
        // Two steps in one commit, of which none changes `a`; then two that change it and change it back.
        update(&mut table, 3, vec![(2, Cell::Int(6))]);
        update(&mut table, 3, vec![(2, Cell::Null)]);
        update(&mut table, 4, vec![(1, Cell::Int(6))]);
        update(&mut table, 4, vec![(1, Cell::Int(5))]);
        let touching = |columns: &[usize]| table.commits_touching(columns).collect::<Vec<_>>();
        assert_eq!(touching(&[0]), Vec::<Commit>::new());
        assert_eq!(touching(&[0, 1]), [1, 4]);
        assert_eq!(touching(&[2]), [2, 3]);
        let alike = |columns: &[usize], range| {
            let mut found = table.replaced_alike(columns, &range);
            found.sort_unstable();
            found
        };
        assert_eq!(alike(&[0], 0..=4), [(0, 2), (2, 3), (3, 5), (5, 7)]);
        assert_eq!(alike(&[0, 1], 0..=4), [(2, 3), (3, 5)]);
        assert_eq!(alike(&[0, 1], 3..=3), [(3, 5)]);
        assert_eq!(alike(&[2], 0..=4), [(0, 2), (5, 7)]);
    }
}
