//! What is planted into the data: for every check some violations, on rows of their own, and what follows from them.

use std::collections::{BTreeMap, BTreeSet};

/// How many rows each check's wrong is planted on. One order without its row makes one to seven lines without their order.
const PLANTED: [(&str, Table, u64); 24] = [
    ("line-without-shipdate", Table::Orders, 7),
    ("order-without-customer-key", Table::Orders, 5),
    ("unknown-return-flag", Table::Orders, 3),
    ("unknown-line-status", Table::Orders, 4),
    ("unknown-order-status", Table::Orders, 2),
    ("unknown-priority", Table::Orders, 6),
    ("quantity-out-of-range", Table::Orders, 8),
    ("discount-out-of-range", Table::Orders, 11),
    ("balance-out-of-range", Table::Customers, 9),
    ("stock-out-of-range", Table::Partsupp, 10),
    ("malformed-phone", Table::Customers, 12),
    ("malformed-clerk", Table::Orders, 13),
    ("received-before-shipped", Table::Orders, 7),
    ("orders-not-fresh", Table::Nothing, 1),
    ("nation-count", Table::Nothing, 1),
    ("missing-customer-number", Table::Customers, 6),
    ("line-twice", Table::Orders, 4),
    ("order-twice", Table::Orders, 3),
    ("partsupp-twice", Table::Partsupp, 5),
    ("line-without-order", Table::Orders, 2),
    ("line-without-partsupp", Table::Orders, 9),
    ("order-without-customer", Table::Orders, 8),
    ("customer-without-nation", Table::Customers, 3),
    ("order-without-lines", Table::Orders, 5),
];

/// The last check is also what others lead to: another total, another discount, no lines.
pub(crate) const BALANCE: &str = "total-differs-from-lines";
const BALANCE_PLANTED: u64 = 6;

/// The table whose keys say where something is planted; lines are found by their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    Orders,
    Customers,
    Partsupp,
    Nothing,
}

/// Where everything is planted, and how much of it was met while the tables were written.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    at: BTreeMap<(Table, i64), &'static str>,
    found: BTreeMap<&'static str, u64>,
    unbalanced: BTreeSet<i64>,
}

impl Plan {
    /// A plan for tables of this scale; the same at every call.
    pub(crate) fn new(scale: f64) -> Self {
        let mut plan = Plan::default();
        let mut random = SplitMix(0x7463_7068);
        let scaled = |rows: f64| (rows * scale) as u64;
        let rows = BTreeMap::from([
            (Table::Orders, scaled(1_500_000.0)),
            (Table::Customers, scaled(150_000.0)),
            (Table::Partsupp, scaled(800_000.0)),
        ]);
        for (check, table, count) in
            PLANTED
                .into_iter()
                .chain([(BALANCE, Table::Orders, BALANCE_PLANTED)])
        {
            plan.found.insert(check, 0);
            let Some(rows) = rows.get(&table) else {
                plan.found.insert(check, count);
                continue;
            };
            let mut left = count;
            while left > 0 {
                let index = random.next() % (rows - 2) + 1;
                let key = match (table, check) {
                    (Table::Orders, _) => order_key(index),
                    // Customers with a number that three divides have no orders: they can be missed without another wrong.
                    (Table::Customers, "missing-customer-number") => (index / 3 * 3).max(3) as i64,
                    _ => index as i64,
                };
                if plan.at.contains_key(&(table, key)) {
                    continue;
                }
                plan.at.insert((table, key), check);
                left -= 1;
            }
        }
        plan
    }

    /// What is planted on a key.
    pub(crate) fn at(&self, table: Table, key: i64) -> Option<&'static str> {
        self.at.get(&(table, key)).copied()
    }

    /// A violation was made.
    pub(crate) fn made(&mut self, check: &'static str) {
        *self.found.entry(check).or_default() += 1;
    }

    /// An order's total is no longer what its lines add up to.
    pub(crate) fn unbalance(&mut self, order: i64) {
        self.unbalanced.insert(order);
    }

    /// The number of violations of every check.
    pub(crate) fn counts(mut self) -> BTreeMap<&'static str, u64> {
        self.found.insert(BALANCE, self.unbalanced.len() as u64);
        self.found
    }
}

/// The key of the n-th order: eight of every thirty-two are used.
fn order_key(index: u64) -> i64 {
    ((index >> 3 << 5) | (index & 7)) as i64
}

struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
