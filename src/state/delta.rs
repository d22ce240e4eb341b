//! What a range of commits did to the rows of a table: put together once for all who ask.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, OnceLock};

use hashbrown::HashMap;

use super::effects::NetEffect;
use super::versions::TableVersions;
use crate::change::{Commit, Op};

/// Stands for no pair.
const NONE: u32 = u32::MAX;

/// What a range of commits did to the rows of a table.
#[derive(Debug)]
pub struct Delta {
    /// The versions that some position of the range sees begin, in ascending order.
    pub born: Arc<[u32]>,
    /// The versions that some position of the range sees end, in the order of their commits, each with the first position at which it is
    /// gone.
    pub died: Arc<[(Commit, u32)]>,
    /// Versions of which one took the place of the other by a commit: the one that ended and the one that began.
    pairs: Vec<(u32, u32)>,
    /// For each of `born` and of `died`, its pair.
    pair_of_born: Vec<u32>,
    pair_of_died: Vec<u32>,
    /// For each column, whether the versions of a pair hold the same in it, to the last digit and letter.
    alike: Vec<OnceLock<Vec<bool>>>,
    /// Net effects, by the columns that pair rows.
    effects: Mutex<Vec<Effects>>,
}

/// The columns that pair rows, and the net effects of the range then.
type Effects = (Vec<usize>, Arc<[NetEffect]>);

/// Versions that begin, and versions that end with the first position at which they are gone.
pub type Noticed<'a> = (Cow<'a, [u32]>, Cow<'a, [(Commit, u32)]>);

/// The last range that somebody asked for. It is gone with the next change, or when nobody will ask any more.
pub(super) type LastDelta = Mutex<Option<(RangeInclusive<Commit>, Arc<Delta>)>>;

impl TableVersions {
    /// What a range of commits did to the rows.
    pub fn delta(&self, range: &RangeInclusive<Commit>) -> Arc<Delta> {
        let mut last = self.last_delta.lock().expect("no holder panics");
        if let Some((have, delta)) = &*last
            && have == range
        {
            return Arc::clone(delta);
        }
        let delta = Arc::new(Delta::of(self, range));
        *last = Some((range.clone(), Arc::clone(&delta)));
        delta
    }

    pub(super) fn let_the_last_delta_go(&self) {
        *self.last_delta.lock().expect("no holder panics") = None;
    }

    /// Versions that were replaced in a range of commits by one that is visible at some position: the version that a commit found and the
    /// one that it left, whatever came between them within the commit.
    fn replaced_in(&self, range: &RangeInclusive<Commit>) -> Vec<(u32, u32)> {
        let mut pairs = Vec::new();
        let mut firsts: HashMap<u32, u32> = HashMap::new();
        for group in self.recorded(range).chunk_by(|a, b| a.commit == b.commit) {
            firsts.clear();
            for event in group.iter().filter(|event| event.op() == Op::Update) {
                let was_there = self.born[event.before as usize] < event.commit;
                let first = match was_there {
                    true => Some(event.before),
                    false => firsts.remove(&event.before),
                };
                let Some(first) = first else { continue };
                let stays = self.born[event.after as usize] < self.died[event.after as usize];
                match stays {
                    true => pairs.push((first, event.after)),
                    false => _ = firsts.insert(event.after, first),
                }
            }
        }
        pairs
    }
}

impl Delta {
    fn of(table: &TableVersions, range: &RangeInclusive<Commit>) -> Self {
        let born = table.born_in(range);
        let died: Vec<(Commit, u32)> = table.died_in(range).collect();
        let pairs = table.replaced_in(range);
        let number = |at: usize| u32::try_from(at).expect("fewer than 2^32 row versions");
        let numbered = || pairs.iter().enumerate();
        let by_last: HashMap<u32, u32> =
            numbered().map(|(at, pair)| (pair.1, number(at))).collect();
        let by_first: HashMap<u32, u32> =
            numbered().map(|(at, pair)| (pair.0, number(at))).collect();
        let of = |by: &HashMap<u32, u32>, version: u32| by.get(&version).copied().unwrap_or(NONE);
        // Without pairs nobody asks.
        let (some_born, some_died) = match pairs.is_empty() {
            true => (&[][..], &[][..]),
            false => (&born[..], &died[..]),
        };
        Delta {
            pair_of_born: some_born.iter().map(|&row| of(&by_last, row)).collect(),
            pair_of_died: some_died
                .iter()
                .map(|&(_, row)| of(&by_first, row))
                .collect(),
            born: born.into(),
            died: died.into(),
            pairs,
            alike: table.columns.iter().map(|_| OnceLock::new()).collect(),
            effects: Mutex::default(),
        }
    }

    /// What somebody notices who reads only some columns. A version that takes the place of another and says the same is not noticed, and
    /// the end of the other one neither.
    pub fn noticed(&self, table: &TableVersions, columns: &[usize]) -> Noticed<'_> {
        if self.pairs.is_empty() {
            return ((&*self.born).into(), (&*self.died).into());
        }
        let mut alike = vec![true; self.pairs.len()];
        for &column in columns {
            let same = self.alike[column].get_or_init(|| {
                let same = |&(a, b): &(u32, u32)| table.columns[column].identical(a, b);
                self.pairs.iter().map(same).collect()
            });
            for (all, same) in alike.iter_mut().zip(same) {
                *all &= same;
            }
        }
        let is_noticed = |pair: u32| pair == NONE || !alike[pair as usize];
        let born = self.born.iter().zip(&self.pair_of_born);
        let born = born.filter(|(_, pair)| is_noticed(**pair));
        let died = self.died.iter().zip(&self.pair_of_died);
        let died = died.filter(|(_, pair)| is_noticed(**pair));
        (
            born.map(|(row, _)| *row).collect(),
            died.map(|(end, _)| *end).collect(),
        )
    }

    /// The net effects of the commits, rows paired by some columns.
    pub(super) fn effects(
        &self,
        table: &TableVersions,
        pairing: &[usize],
        range: &RangeInclusive<Commit>,
    ) -> Arc<[NetEffect]> {
        let mut known = self.effects.lock().expect("no holder panics");
        if let Some((_, effects)) = known.iter().find(|(have, _)| have == pairing) {
            return Arc::clone(effects);
        }
        let effects = table.effects_of(pairing, range, &self.born, &self.died);
        let effects: Arc<[NetEffect]> = effects.into();
        known.push((pairing.to_vec(), Arc::clone(&effects)));
        effects
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
            table.load(&row);
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
        let noticed = |columns: &[usize], range| {
            let delta = table.delta(&range);
            let (born, died) = delta.noticed(&table, columns);
            (born.into_owned(), died.into_owned())
        };
        let all = [(1, 0), (2, 2), (3, 3), (4, 5)];
        let ends = |numbers: &[usize]| numbers.iter().map(|&at| all[at]).collect::<Vec<_>>();
        assert_eq!(noticed(&[0], 0..=4), (vec![0, 1], vec![]));
        assert_eq!(noticed(&[0, 1], 0..=4), (vec![0, 1, 2], ends(&[0])));
        assert_eq!(
            noticed(&[1, 2], 0..=4),
            (vec![0, 1, 2, 3, 5], ends(&[0, 1, 2]))
        );
        assert_eq!(noticed(&[0, 1], 3..=4), (vec![], vec![]));
        assert_eq!(noticed(&[2], 3..=3), (vec![5], ends(&[2])));
        // What comes later is part of a later delta.
        update(&mut table, 5, vec![(1, Cell::Int(7))]);
        assert_eq!(table.delta(&(0..=5)).born.len(), 7);
        let delta = table.delta(&(5..=5));
        assert_eq!(*delta.noticed(&table, &[1]).0, [8]);
    }
}
