//! Where a column's values are kept: as narrow as they are, and a value that is there already is kept once.

use std::collections::BTreeMap;

use crate::change::{Cell, Decimal};

/// How many recent texts are looked at before one is kept again.
const RECENT: usize = 256;
/// Longer texts are hardly ever the same by chance.
const RECENT_BYTES_MAX: usize = 64;

/// Integers: 32 bits each until one does not fit.
#[derive(Debug)]
pub(super) enum Ints {
    Narrow(Vec<i32>),
    Wide(Vec<i64>),
}

impl Ints {
    pub(super) fn new() -> Self {
        Ints::Narrow(Vec::new())
    }

    pub(super) fn get(&self, at: usize) -> i64 {
        match self {
            Ints::Narrow(values) => i64::from(values[at]),
            Ints::Wide(values) => values[at],
        }
    }

    pub(super) fn push(&mut self, value: i64) {
        self.make_room_for(value);
        match self {
            // The value fits: room was made.
            Ints::Narrow(values) => values.push(value as i32),
            Ints::Wide(values) => values.push(value),
        }
    }

    pub(super) fn set(&mut self, at: usize, value: i64) {
        self.make_room_for(value);
        match self {
            Ints::Narrow(values) => values[at] = value as i32,
            Ints::Wide(values) => values[at] = value,
        }
    }

    pub(super) fn reserve(&mut self, count: usize) {
        match self {
            Ints::Narrow(values) => values.reserve(count),
            Ints::Wide(values) => values.reserve(count),
        }
    }

    fn make_room_for(&mut self, value: i64) {
        if let Ints::Narrow(values) = self
            && i32::try_from(value).is_err()
        {
            *self = Ints::Wide(values.iter().map(|&value| i64::from(value)).collect());
        }
    }

    pub(super) fn shrink(&mut self) {
        match self {
            Ints::Narrow(values) => values.shrink_to_fit(),
            Ints::Wide(values) => values.shrink_to_fit(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Ints::Narrow(values) => capacity(values),
            Ints::Wide(values) => capacity(values),
        }
    }
}

/// Numbers: decimals of one scale, which grows to the largest one seen, their digits in 64 bits each until those of one do not fit; and
/// beside them the few that have no place on that scale.
#[derive(Debug)]
pub(super) struct Numbers {
    digits: Digits,
    scale: u8,
    /// The least scale of which it is known that what is there has no place on it.
    scale_limit: u8,
    /// By their slots, in which the digits say nothing.
    others: BTreeMap<usize, Cell>,
    /// Whether there was ever one of these.
    is_wide: bool,
}

#[derive(Debug)]
enum Digits {
    Narrow(Vec<i64>),
    Wide(Vec<i128>),
}

impl Numbers {
    pub(super) fn new(scale: u8) -> Self {
        Numbers {
            digits: Digits::Narrow(Vec::new()),
            scale,
            scale_limit: u8::MAX,
            others: BTreeMap::new(),
            is_wide: false,
        }
    }

    /// Whether the engine is shown all of them as numbers of any size.
    pub(super) fn is_wide(&self) -> bool {
        self.is_wide
    }

    /// Shows them to the engine as numbers of any size from now on.
    pub(super) fn widen(&mut self) {
        self.is_wide = true;
    }

    /// The scale of the decimals.
    pub(super) fn scale(&self) -> u8 {
        self.scale
    }

    /// Whether some have no place among the decimals.
    pub(super) fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// Whether one has no place among the decimals.
    pub(super) fn is_other(&self, at: usize) -> bool {
        self.has_others() && self.others.contains_key(&at)
    }

    /// The digits of a decimal, without the point.
    pub(super) fn unscaled(&self, at: usize) -> i128 {
        match &self.digits {
            Digits::Narrow(values) => i128::from(values[at]),
            Digits::Wide(values) => values[at],
        }
    }

    pub(super) fn get(&self, at: usize) -> Cell {
        self.others.get(&at).cloned().unwrap_or_else(|| {
            Cell::Decimal(Decimal {
                unscaled: self.unscaled(at),
                scale: self.scale,
            })
        })
    }

    fn len(&self) -> usize {
        match &self.digits {
            Digits::Narrow(values) => values.len(),
            Digits::Wide(values) => values.len(),
        }
    }

    pub(super) fn push(&mut self, decimal: Decimal) {
        match self.fit(decimal) {
            Some(value) => self.push_digits(value),
            None => self.push_other(Cell::Decimal(decimal)),
        }
    }

    /// Appends a number that has no place among the decimals.
    pub(super) fn push_other(&mut self, cell: Cell) {
        self.others.insert(self.len(), cell);
        self.is_wide = true;
        self.push_default();
    }

    fn push_digits(&mut self, value: i128) {
        match &mut self.digits {
            // The digits fit: room was made.
            Digits::Narrow(values) => values.push(value as i64),
            Digits::Wide(values) => values.push(value),
        }
    }

    pub(super) fn reserve(&mut self, count: usize) {
        match &mut self.digits {
            Digits::Narrow(values) => values.reserve(count),
            Digits::Wide(values) => values.reserve(count),
        }
    }

    pub(super) fn push_default(&mut self) {
        self.push_digits(0);
    }

    pub(super) fn push_copy(&mut self, at: usize) {
        match self.is_other(at) {
            true => self.push_other(self.get(at)),
            false => self.push_digits(self.unscaled(at)),
        }
    }

    /// Puts a number in a slot that held none.
    pub(super) fn set(&mut self, at: usize, cell: &Cell) {
        let fitting = match cell {
            Cell::Decimal(decimal) => self.fit(*decimal),
            _ => None,
        };
        match (&mut self.digits, fitting) {
            (_, None) => {
                self.others.insert(at, cell.clone());
                self.is_wide = true;
            }
            (Digits::Narrow(values), Some(value)) => values[at] = value as i64,
            (Digits::Wide(values), Some(value)) => values[at] = value,
        }
    }

    /// The digits at the column's scale, which grows to the decimal's where there is room; None where they have no place.
    fn fit(&mut self, decimal: Decimal) -> Option<i128> {
        if decimal.scale > self.scale && decimal.scale < self.scale_limit {
            match self.rescaled(decimal.scale) {
                Some(digits) => (self.digits, self.scale) = (digits, decimal.scale),
                None => self.scale_limit = decimal.scale,
            }
        }
        let value = decimal.rescale(self.scale)?.unscaled;
        if let Digits::Narrow(values) = &self.digits
            && i64::try_from(value).is_err()
        {
            let wide = values.iter().map(|&value| i128::from(value));
            self.digits = Digits::Wide(wide.collect());
        }
        Some(value)
    }

    /// All digits on a larger scale; None where those of one have no place on it.
    fn rescaled(&self, scale: u8) -> Option<Digits> {
        let to = |unscaled: i128| {
            let decimal = Decimal {
                unscaled,
                scale: self.scale,
            };
            Some(decimal.rescale(scale)?.unscaled)
        };
        let wide: Option<Vec<i128>> = match &self.digits {
            Digits::Narrow(values) => values.iter().map(|&value| to(i128::from(value))).collect(),
            Digits::Wide(values) => values.iter().map(|&value| to(value)).collect(),
        };
        let wide = wide?;
        let narrow: Option<Vec<i64>> = wide.iter().map(|&v| i64::try_from(v).ok()).collect();
        Some(match narrow {
            Some(narrow) => Digits::Narrow(narrow),
            None => Digits::Wide(wide),
        })
    }

    pub(super) fn shrink(&mut self) {
        match &mut self.digits {
            Digits::Narrow(values) => values.shrink_to_fit(),
            Digits::Wide(values) => values.shrink_to_fit(),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let digits = match &self.digits {
            Digits::Narrow(values) => capacity(values),
            Digits::Wide(values) => capacity(values),
        };
        let other = |cell: &Cell| match cell {
            Cell::Wide(wide) => wide.bytes(),
            _ => 0,
        };
        let others = self.others.values().map(other).sum::<usize>();
        digits + others + self.others.len() * size_of::<(usize, Cell)>()
    }
}

/// Texts, or bytes: each is a number, and what the number stands for is kept once. A text that was there shortly before gets its number.
#[derive(Debug)]
pub(super) struct Texts<B> {
    numbers: Vec<u32>,
    /// Where the text of each number ends; number 0 is the empty text.
    ends: Vec<usize>,
    bytes: B,
    /// Recent numbers, by a hash of their texts.
    recent: Vec<u32>,
}

/// What texts are kept in.
pub(super) trait Buffer: Default {
    /// One of them.
    type Text: ?Sized + AsRef<[u8]> + PartialEq;

    fn add(&mut self, text: &Self::Text);
    fn part(&self, start: usize, end: usize) -> &Self::Text;
    fn len(&self) -> usize;
    fn capacity(&self) -> usize;
    fn shrink(&mut self);
}

impl Buffer for String {
    type Text = str;

    fn add(&mut self, text: &str) {
        self.push_str(text);
    }

    fn part(&self, start: usize, end: usize) -> &str {
        &self[start..end]
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn capacity(&self) -> usize {
        self.capacity()
    }

    fn shrink(&mut self) {
        self.shrink_to_fit();
    }
}

impl Buffer for Vec<u8> {
    type Text = [u8];

    fn add(&mut self, text: &[u8]) {
        self.extend_from_slice(text);
    }

    fn part(&self, start: usize, end: usize) -> &[u8] {
        &self[start..end]
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn capacity(&self) -> usize {
        self.capacity()
    }

    fn shrink(&mut self) {
        self.shrink_to_fit();
    }
}

impl<B: Buffer> Texts<B> {
    pub(super) fn new() -> Self {
        Texts {
            numbers: Vec::new(),
            ends: vec![0],
            bytes: B::default(),
            recent: Vec::new(),
        }
    }

    pub(super) fn get(&self, at: usize) -> &B::Text {
        self.of(self.numbers[at])
    }

    fn of(&self, number: u32) -> &B::Text {
        let at = number as usize;
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        self.bytes.part(start, self.ends[at])
    }

    /// Whether two values are known to be the same without a look at them.
    pub(super) fn same_number(&self, a: usize, b: usize) -> bool {
        self.numbers[a] == self.numbers[b]
    }

    pub(super) fn push(&mut self, text: &B::Text) {
        let number = self.number(text);
        self.numbers.push(number);
    }

    pub(super) fn push_default(&mut self) {
        self.numbers.push(0);
    }

    pub(super) fn reserve(&mut self, count: usize) {
        self.numbers.reserve(count);
    }

    pub(super) fn push_copy(&mut self, at: usize) {
        self.numbers.push(self.numbers[at]);
    }

    pub(super) fn set(&mut self, at: usize, text: &B::Text) {
        self.numbers[at] = self.number(text);
    }

    /// The number of a text. What it stands for stays for good: others may have it by then.
    fn number(&mut self, text: &B::Text) -> u32 {
        let bytes = text.as_ref();
        if bytes.is_empty() {
            return 0;
        }
        let next = u32::try_from(self.ends.len()).expect("fewer than 2^32 row versions");
        if bytes.len() <= RECENT_BYTES_MAX {
            self.recent.resize(RECENT, 0);
            let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, &byte| {
                (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
            });
            let slot = (hash ^ hash >> 16) as usize % RECENT;
            let number = self.recent[slot];
            if self.of(number) == text {
                return number;
            }
            self.recent[slot] = next;
        }
        self.bytes.add(text);
        self.ends.push(self.bytes.len());
        next
    }

    pub(super) fn shrink(&mut self) {
        self.numbers.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.bytes.shrink();
    }

    pub(super) fn bytes(&self) -> usize {
        let texts = capacity(&self.numbers) + capacity(&self.ends) + capacity(&self.recent);
        texts + self.bytes.capacity()
    }
}

/// What a slot holds besides its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::state) enum Slot {
    Value,
    Null,
    Unknown,
}

/// Two bits a slot, and none while all of them hold values.
#[derive(Debug, Default)]
pub(super) struct Slots {
    count: usize,
    marks: Vec<u8>,
}

const SLOTS_A_BYTE: usize = 4;

impl Slots {
    pub(super) fn get(&self, at: usize) -> Slot {
        assert!(at < self.count, "a slot of the column");
        let Some(marks) = self.marks.get(at / SLOTS_A_BYTE) else {
            return Slot::Value;
        };
        match marks >> (at % SLOTS_A_BYTE * 2) & 3 {
            0 => Slot::Value,
            1 => Slot::Null,
            _ => Slot::Unknown,
        }
    }

    /// Whether nothing but values was ever there.
    pub(super) fn all_hold_values(&self) -> bool {
        self.marks.is_empty()
    }

    pub(super) fn push(&mut self, slot: Slot) {
        self.count += 1;
        if slot != Slot::Value || !self.marks.is_empty() {
            self.set(self.count - 1, slot);
        }
    }

    /// Many slots that all hold values.
    pub(super) fn push_values(&mut self, count: usize) {
        self.count += count;
        if !self.marks.is_empty() {
            self.marks.resize(self.count.div_ceil(SLOTS_A_BYTE), 0);
        }
    }

    pub(super) fn set(&mut self, at: usize, slot: Slot) {
        let needed = self.count.div_ceil(SLOTS_A_BYTE);
        if self.marks.len() < needed {
            self.marks.resize(needed, 0);
        }
        let bits = match slot {
            Slot::Value => 0,
            Slot::Null => 1,
            Slot::Unknown => 2,
        };
        let shift = at % SLOTS_A_BYTE * 2;
        let marks = &mut self.marks[at / SLOTS_A_BYTE];
        *marks = *marks & !(3 << shift) | bits << shift;
    }

    pub(super) fn shrink(&mut self) {
        self.marks.shrink_to_fit();
    }

    pub(super) fn bytes(&self) -> usize {
        capacity(&self.marks)
    }
}

/// The bytes that a vector holds on to.
pub(in crate::state) fn capacity<T>(values: &Vec<T>) -> usize {
    values.capacity() * size_of::<T>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Wide;

    #[test]
    fn integers_and_decimals_widen_when_they_must() {
        let mut ints = Ints::new();
        let values = [0, -5, i64::from(i32::MAX), i64::MIN, 7];
        values.iter().for_each(|&value| ints.push(value));
        assert_eq!((0..5).map(|at| ints.get(at)).collect::<Vec<_>>(), values);
        let mut numbers = Numbers::new(0);
        let texts = [
            "1",
            "-2.50",
            "9223372036854775807",
            "0.00001",
            "12345678901234567890",
            "1e-38",
            "1.5",
        ];
        let cell = |text: &str| Cell::Decimal(Decimal::parse(text).expect("a number"));
        for text in texts {
            numbers.push(Decimal::parse(text).expect("a number"));
        }
        numbers.push_other(Cell::Wide(Wide::NaN));
        for (at, text) in texts.iter().enumerate() {
            assert_eq!(numbers.get(at), cell(text));
            assert_eq!(numbers.is_other(at), *text == "1e-38", "{text}");
        }
        assert_eq!(numbers.scale(), 5);
        assert_eq!(numbers.get(texts.len()), Cell::Wide(Wide::NaN));
        numbers.push_copy(texts.len());
        numbers.push_copy(0);
        assert_eq!(numbers.get(texts.len() + 1), Cell::Wide(Wide::NaN));
        numbers.set(texts.len() + 2, &cell("2e-38"));
        assert_eq!(numbers.get(texts.len() + 2), cell("2e-38"));
    }

    #[test]
    fn a_text_is_kept_once_while_it_is_recent() {
        let mut texts = Texts::<String>::new();
        for round in 0..100 {
            for text in ["paid", "placed", "", "größer"] {
                texts.push(text);
            }
            texts.push(&format!("note {round}"));
        }
        assert_eq!(texts.get(5 * 99), "paid");
        assert_eq!(texts.get(5 * 42 + 4), "note 42");
        assert_eq!(texts.get(2), "");
        assert!(texts.ends.len() < 250, "{}", texts.ends.len());
        texts.set(0, "shipped");
        texts.push_copy(1);
        assert_eq!(
            (texts.get(0), texts.get(5), texts.get(500)),
            ("shipped", "paid", "placed")
        );
    }

    #[test]
    fn slots_cost_nothing_while_all_hold_values() {
        let mut slots = Slots::default();
        (0..9).for_each(|_| slots.push(Slot::Value));
        assert_eq!(slots.bytes(), 0);
        slots.push(Slot::Unknown);
        slots.push(Slot::Null);
        slots.set(3, Slot::Null);
        slots.set(9, Slot::Value);
        let found: Vec<Slot> = (0..11).map(|at| slots.get(at)).collect();
        let nulls: Vec<usize> = (0..11).filter(|&at| found[at] == Slot::Null).collect();
        assert_eq!(nulls, [3, 10]);
    }
}
