//! The rows of a table that are alive, found by their identity.
//!
//! Rows of one identity (equal rows of a table without a key, duplicates in a snapshot) form a chain, newest first, so that a table
//! with many of them costs no more than another: in a hash table of all rows each would be looked for behind all others.

use std::collections::HashMap;

use hashbrown::HashTable;

/// A row and half of the hash of its identity: when the table grows, no row is looked at.
#[derive(Clone, Copy, Debug)]
struct Newest {
    hash: u32,
    row: u32,
}

impl Newest {
    fn new(row: u32, hash: u64) -> Self {
        // The upper half as the lower one: hashes are as good in all their bits.
        let hash = u32::try_from(hash >> 32).expect("the upper half");
        Newest { hash, row }
    }

    /// What the table goes by.
    fn hash(&self) -> u64 {
        u64::from(self.hash) << 32 | u64::from(self.hash)
    }

    fn same(&self, other: &Newest, same: impl Fn(u32) -> bool) -> bool {
        self.hash == other.hash && same(other.row)
    }
}

/// Rows by identity.
#[derive(Debug, Default)]
pub(super) struct Live {
    /// The newest row of each identity.
    newest: HashTable<Newest>,
    /// For a row that came after another of its identity: that one.
    before: HashMap<u32, u32>,
    len: usize,
}

impl Live {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// All rows, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.newest.iter().flat_map(|newest| self.chain(newest.row))
    }

    /// The rows of the identity that `same` recognizes, newest first.
    pub(super) fn of(
        &self,
        hash: u64,
        same: impl Fn(u32) -> bool,
    ) -> impl Iterator<Item = u32> + '_ {
        let wanted = Newest::new(0, hash);
        let newest = self
            .newest
            .find(wanted.hash(), |one| wanted.same(one, &same));
        newest.into_iter().flat_map(|newest| self.chain(newest.row))
    }

    /// The row of the same identity that came before this one.
    pub(super) fn before(&self, row: u32) -> Option<u32> {
        self.before.get(&row).copied()
    }

    fn chain(&self, newest: u32) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(Some(newest), |&row| self.before(row))
    }

    /// Makes room for more rows.
    pub(super) fn reserve(&mut self, count: usize) {
        self.newest.reserve(count, Newest::hash);
    }

    /// Adds a row.
    pub(super) fn insert(&mut self, row: u32, hash: u64, same: impl Fn(u32) -> bool) {
        let new = Newest::new(row, hash);
        match self.newest.find_mut(new.hash(), |one| new.same(one, &same)) {
            Some(newest) => {
                self.before.insert(row, newest.row);
                newest.row = row;
            }
            None => _ = self.newest.insert_unique(new.hash(), new, Newest::hash),
        }
        self.len += 1;
    }

    /// Removes a row; nothing where it is not there. The newest of an identity goes at once, others are looked for.
    pub(super) fn remove(&mut self, row: u32, hash: u64, same: impl Fn(u32) -> bool) {
        let gone = Newest::new(row, hash);
        let found = self
            .newest
            .find_entry(gone.hash(), |one| gone.same(one, &same));
        let Ok(mut entry) = found else {
            return;
        };
        let mut above = entry.get().row;
        if above == row {
            match self.before.remove(&row) {
                Some(before) => entry.get_mut().row = before,
                None => _ = entry.remove(),
            }
            self.len -= 1;
            return;
        }
        while let Some(&next) = self.before.get(&above) {
            if next == row {
                match self.before.remove(&row) {
                    Some(before) => _ = self.before.insert(above, before),
                    None => _ = self.before.remove(&above),
                }
                self.len -= 1;
                return;
            }
            above = next;
        }
    }

    /// Puts a row in the place of one of the same identity, as its newest; nothing where the old one is not there.
    pub(super) fn replace(&mut self, old: u32, new: u32, hash: u64, same: impl Fn(u32) -> bool) {
        let wanted = Newest::new(new, hash);
        if let Some(newest) = self.newest.find_mut(wanted.hash(), |one| one.row == old) {
            newest.row = new;
            if let Some(before) = self.before.remove(&old) {
                self.before.insert(new, before);
            }
            return;
        }
        let len = self.len;
        self.remove(old, hash, &same);
        if self.len < len
            && let Some(newest) = self
                .newest
                .find_mut(wanted.hash(), |one| wanted.same(one, &same))
        {
            self.before.insert(new, newest.row);
            newest.row = new;
            self.len += 1;
        }
    }

    /// The bytes that are held on to.
    pub(super) fn bytes(&self) -> usize {
        self.newest.allocation_size() + self.before.capacity() * (2 * size_of::<u32>() + 1)
    }

    /// Gives back the room that was kept for more rows.
    pub(super) fn shrink(&mut self) {
        self.before.shrink_to_fit();
    }

    /// Removes all rows but those that are to be kept.
    pub(super) fn retain(&mut self, keep: impl Fn(u32) -> bool) {
        let Live {
            newest,
            before,
            len,
        } = self;
        newest.retain(|newest| {
            let mut kept: Option<u32> = None;
            let mut next = Some(newest.row);
            while let Some(row) = next {
                next = before.remove(&row);
                if !keep(row) {
                    *len -= 1;
                } else if let Some(above) = kept.replace(row) {
                    before.insert(above, row);
                } else {
                    newest.row = row;
                }
            }
            kept.is_some()
        });
    }

    /// Removes all rows, and returns them in their order.
    pub(super) fn drain(&mut self) -> Vec<u32> {
        let mut rows: Vec<u32> = self.iter().collect();
        rows.sort_unstable();
        *self = Live::default();
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows whose identity is their last digit.
    fn insert(live: &mut Live, row: u32) {
        let digit = row % 10;
        live.insert(row, hash(digit), |other| other % 10 == digit);
    }

    /// All digits but one have one upper half.
    fn hash(digit: u32) -> u64 {
        u64::from(digit) | u64::from(digit == 3) << 32
    }

    fn of(live: &Live, digit: u32) -> Vec<u32> {
        live.of(hash(digit), |other| other % 10 == digit).collect()
    }

    #[test]
    fn rows_of_one_identity_are_a_chain_from_which_any_can_go() {
        let mut live = Live::default();
        for row in [1, 11, 21, 31, 2, 3, 13] {
            insert(&mut live, row);
        }
        assert_eq!((live.len(), of(&live, 1)), (7, vec![31, 21, 11, 1]));
        for (gone, left) in [
            (21, vec![31, 11, 1]),
            (31, vec![11, 1]),
            (1, vec![11]),
            (41, vec![11]),
            (11, vec![]),
        ] {
            live.remove(gone, hash(1), |other| other % 10 == 1);
            assert_eq!(of(&live, 1), left);
        }
        assert_eq!(
            (live.len(), of(&live, 3), of(&live, 2)),
            (3, vec![13, 3], vec![2])
        );
        for row in [23, 33] {
            insert(&mut live, row);
        }
        live.retain(|row| row != 33 && row != 13 && row != 2);
        assert_eq!(
            (live.len(), of(&live, 3), of(&live, 2)),
            (2, vec![23, 3], vec![])
        );
        insert(&mut live, 2);
        assert_eq!(live.drain(), [2, 3, 23]);
        assert_eq!((live.len(), live.iter().count()), (0, 0));
    }
}
