//! Keys as small numbers: equal keys of all scans of a rule have one number, so that pairs and indexes are arrays of integers.

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType as ArrowType, Int64Type};
use hashbrown::HashMap;

use crate::judge::JudgeError;
use crate::judge::collect::{Encoder, KeyBytes};

/// Gives numbers to keys. NULL is a key like any other.
#[derive(Default)]
pub(super) struct Dictionary {
    /// Keys of one integer column, by far the most.
    integers: HashMap<Option<i64>, u32>,
    others: HashMap<KeyBytes, u32>,
    encoder: Encoder,
    types: Option<Vec<ArrowType>>,
}

impl Dictionary {
    /// The numbers of keys, new ones for keys not met before.
    pub(super) fn number(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<Vec<u32>, JudgeError> {
        self.check_types(columns)?;
        let next = |len: usize| u32::try_from(len).expect("fewer than 2^32 row versions");
        if let [column] = columns
            && *column.data_type() == ArrowType::Int64
        {
            let values = column.as_primitive::<Int64Type>();
            return Ok(values
                .iter()
                .map(|value| {
                    let new = next(self.integers.len());
                    *self.integers.entry(value).or_insert(new)
                })
                .collect());
        }
        let keys = self.encoder.encode(columns, rows)?;
        Ok(keys
            .into_iter()
            .map(|key| {
                let new = next(self.others.len());
                *self.others.entry(key).or_insert(new)
            })
            .collect())
    }

    /// The numbers of keys that were met before.
    pub(super) fn find(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
    ) -> Result<Vec<Option<u32>>, JudgeError> {
        self.check_types(columns)?;
        if let [column] = columns
            && *column.data_type() == ArrowType::Int64
        {
            let values = column.as_primitive::<Int64Type>();
            return Ok(values
                .iter()
                .map(|value| self.integers.get(&value).copied())
                .collect());
        }
        let keys = self.encoder.encode(columns, rows)?;
        Ok(keys
            .iter()
            .map(|key| self.others.get(key).copied())
            .collect())
    }

    /// Keys are compared by their bytes, so all columns of a component must have one type.
    fn check_types(&mut self, columns: &[ArrayRef]) -> Result<(), JudgeError> {
        let types: Vec<ArrowType> = columns.iter().map(|c| c.data_type().clone()).collect();
        let known = self.types.get_or_insert_with(|| types.clone());
        if *known == types {
            Ok(())
        } else {
            Err(JudgeError::Engine(
                "the key has different types in different tables".into(),
            ))
        }
    }
}

/// True for types whose equality in SQL is that of their bytes.
pub(super) fn can_be_key(data_type: &ArrowType) -> bool {
    !matches!(
        data_type,
        ArrowType::Float16 | ArrowType::Float32 | ArrowType::Float64
    ) && !data_type.is_nested()
}

/// Stands for no row version.
const NONE: u32 = u32::MAX;

/// Row versions by the number of their key: one chain a number, in the order in which they were added.
#[derive(Default)]
pub(super) struct Chains {
    /// For each version: the number of its key.
    numbers: Vec<u32>,
    /// For each version: the next of its chain.
    next: Vec<u32>,
    /// For each number: its chain.
    chains: Vec<Chain>,
}

#[derive(Clone, Copy)]
struct Chain {
    first: u32,
    last: u32,
}

impl Chains {
    /// Adds a version to the chain of its key.
    pub(super) fn add(&mut self, version: u32, number: u32) {
        let at = version as usize;
        if self.numbers.len() <= at {
            self.numbers.resize(at + 1, NONE);
            self.next.resize(at + 1, NONE);
        }
        self.numbers[at] = number;
        let empty = Chain {
            first: NONE,
            last: NONE,
        };
        if self.chains.len() <= number as usize {
            self.chains.resize(number as usize + 1, empty);
        }
        let chain = &mut self.chains[number as usize];
        match chain.first {
            NONE => chain.first = version,
            _ => self.next[chain.last as usize] = version,
        }
        chain.last = version;
    }

    /// The number of a version's key.
    pub(super) fn number_of(&self, version: u32) -> u32 {
        self.numbers[version as usize]
    }

    /// The versions of a key.
    pub(super) fn of(&self, number: u32) -> impl Iterator<Item = u32> {
        let first = self
            .chains
            .get(number as usize)
            .map_or(NONE, |chain| chain.first);
        let known = |version: u32| (version != NONE).then_some(version);
        std::iter::successors(known(first), move |&version| {
            known(self.next[version as usize])
        })
    }

    /// Takes versions that no later batch can see out of a chain.
    pub(super) fn forget(&mut self, number: u32, is_gone: impl Fn(u32) -> bool) {
        let Some(chain) = self.chains.get_mut(number as usize) else {
            return;
        };
        let mut at = chain.first;
        let (mut first, mut last) = (NONE, NONE);
        while at != NONE {
            let next = self.next[at as usize];
            if !is_gone(at) {
                match last {
                    NONE => first = at,
                    _ => self.next[last as usize] = at,
                }
                last = at;
            }
            at = next;
        }
        if last != NONE {
            self.next[last as usize] = NONE;
        }
        *chain = Chain { first, last };
    }
}
