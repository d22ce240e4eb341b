//! Keys as small numbers: equal keys of all scans of a rule have one number, so that pairs and indexes are arrays of integers.

use std::collections::HashMap;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType as ArrowType, Int64Type};

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
    /// How many different keys there are.
    pub(super) fn len(&self) -> usize {
        self.integers.len() + self.others.len()
    }

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

/// The members of each number: row versions by key.
pub(super) struct Groups {
    starts: Vec<u32>,
    members: Vec<u32>,
}

impl Groups {
    /// Groups `numbers[i] -> i`; `count` is the number of different numbers.
    pub(super) fn new(numbers: &[u32], count: usize) -> Self {
        let mut starts = vec![0u32; count + 1];
        for &number in numbers {
            starts[number as usize + 1] += 1;
        }
        for at in 0..count {
            starts[at + 1] += starts[at];
        }
        let mut next = starts.clone();
        let mut members = vec![0u32; numbers.len()];
        for (member, &number) in (0u32..).zip(numbers) {
            let place = &mut next[number as usize];
            members[*place as usize] = member;
            *place += 1;
        }
        Groups { starts, members }
    }

    /// The members of a number, in ascending order; none for numbers that came later.
    pub(super) fn of(&self, number: u32) -> &[u32] {
        let at = number as usize;
        if at + 1 >= self.starts.len() {
            return &[];
        }
        &self.members[self.starts[at] as usize..self.starts[at + 1] as usize]
    }
}
