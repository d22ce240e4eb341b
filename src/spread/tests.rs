//! A small shop by hand, and a naive model on random histories.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::*;
use crate::change::{Change, Op, Transaction, TransactionMeta};
use crate::schema::{Schema, ddl};
use crate::state::{History, Origin};

const SCHEMA: &str = "
    create table customers (id bigint primary key, name bigint);
    create table orders (id bigint primary key, customer_id bigint references customers, code bigint, version bigint);
    create table accounts (id bigint primary key, balance bigint);
    create table payments (id bigint primary key, order_id bigint references orders, account_id bigint references accounts, version bigint);
    create table notes (order_id bigint references orders, text bigint);
    create table stats (id bigint primary key, order_code bigint, version bigint);";
const CUSTOMERS: usize = 0;
const ORDERS: usize = 1;
const ACCOUNTS: usize = 2;
const PAYMENTS: usize = 3;
const NOTES: usize = 4;
const STATS: usize = 5;

fn schema() -> Schema {
    let (schema, found) = ddl::parse(SCHEMA, Path::new("schema.sql"));
    assert!(found.is_empty(), "{found:?}");
    schema
}

/// What no foreign key says: a figure refers to an order by its code.
fn links(schema: &Schema) -> Vec<Link> {
    let mut links = links_of_schema(schema);
    links.push(Link {
        child: STATS,
        columns: vec![1],
        parent: ORDERS,
        to: vec![2],
    });
    links
}

type Row = Vec<Option<i64>>;

fn cell(value: Option<i64>) -> Cell {
    value.map_or(Cell::Null, Cell::Int)
}

fn image(row: &[Option<i64>]) -> Option<Vec<(usize, Cell)>> {
    Some(row.iter().map(|value| cell(*value)).enumerate().collect())
}

/// A write of a commit; rows before and after it.
#[derive(Clone, Debug)]
struct Wrote {
    commit: Commit,
    table: usize,
    before: Option<Row>,
    after: Option<Row>,
}

fn name_of(table: usize, row: &[Option<i64>]) -> Vec<Option<i64>> {
    match table {
        NOTES => row.to_vec(),
        _ => row[..1].to_vec(),
    }
}

/// A table, its row before and after.
type Put<'a> = (usize, Option<&'a [i64]>, Option<&'a [i64]>);

/// A history of writes.
#[derive(Default)]
struct Past {
    writes: Vec<Wrote>,
    head: Commit,
}

impl Past {
    fn commit(&mut self, writes: &[Put<'_>]) -> Commit {
        self.head += 1;
        let row = |row: &[i64]| row.iter().copied().map(Some).collect::<Row>();
        for (table, before, after) in writes {
            self.writes.push(Wrote {
                commit: self.head,
                table: *table,
                before: before.map(row),
                after: after.map(row),
            });
        }
        self.head
    }

    fn history(&self) -> History {
        let mut history = History::new(schema(), Origin::Changes, false);
        for commit in 1..=self.head {
            let changes = self.writes.iter().filter(|write| write.commit == commit);
            let changes = changes.map(|write| Change {
                table: write.table,
                op: match (&write.before, &write.after) {
                    (None, _) => Op::Insert,
                    (_, None) => Op::Delete,
                    _ => Op::Update,
                },
                key: None,
                before: write.before.as_deref().and_then(image),
                after: write.after.as_deref().and_then(image),
            });
            let transaction = Transaction {
                commit,
                meta: TransactionMeta {
                    time: Some(i64::from(commit) * 60_000_000),
                    ..TransactionMeta::default()
                },
                changes: changes.collect(),
            };
            history.apply(&transaction).expect("it fits");
        }
        history
    }
}

fn bad(table: usize, id: i64, from: Commit, until: Option<Commit>) -> Start {
    Start {
        table,
        name: vec![Cell::Int(id)],
        from,
        until,
    }
}

fn found(spread: &Spread) -> Vec<(usize, Vec<Cell>, Commit, bool)> {
    let row = |row: &Derived| (row.table, row.name.clone(), row.commit, row.up);
    spread.rows.iter().map(row).collect()
}

/// A customer, an account and order 17 are there; then order 17 goes bad, and is paid.
fn shop() -> Past {
    let mut past = Past::default();
    past.commit(&[
        (CUSTOMERS, None, Some(&[1, 0])),
        (ACCOUNTS, None, Some(&[5, 0])),
    ]);
    past.commit(&[
        (ORDERS, None, Some(&[17, 1, 900, 0])),
        (NOTES, None, Some(&[17, 1])),
    ]);
    past
}

#[test]
fn rows_written_since_are_derived_and_those_before_are_not() {
    let mut past = shop();
    let onset = past.commit(&[(ORDERS, Some(&[17, 1, 900, 0]), Some(&[17, 1, 900, 1]))]);
    past.commit(&[
        (PAYMENTS, None, Some(&[70, 17, 5, 0])),
        (ACCOUNTS, Some(&[5, 0]), Some(&[5, 40])),
    ]);
    past.commit(&[
        (STATS, None, Some(&[1, 900, 0])),
        (CUSTOMERS, Some(&[1, 0]), Some(&[1, 2])),
    ]);
    let history = past.history();
    let spread = follow(
        &history,
        vec![bad(ORDERS, 17, onset, None)],
        links(&history.schema),
        Limits::default(),
    );
    // The note was written before; the customer is only referred to, and was not updated together with the order.
    let rows = found(&spread);
    assert_eq!(
        rows,
        [
            (PAYMENTS, vec![Cell::Int(70)], 4, false),
            (ACCOUNTS, vec![Cell::Int(5)], 4, true),
            (STATS, vec![Cell::Int(1)], 5, false),
        ]
    );
    assert_eq!(spread.path(1), (0, vec![0, 1]));
    let told = summary(&history, &spread, &[]);
    let account = told
        .tables
        .iter()
        .find(|table| table.table == "public.accounts");
    let account = &account.expect("it is derived").examples[0];
    let path: Vec<&str> = account
        .path
        .iter()
        .map(|step| step.table.as_str())
        .collect();
    assert_eq!(
        path,
        ["public.orders", "public.payments", "public.accounts"]
    );
    assert_eq!(
        account.path[2].link.as_deref(),
        Some("payments.account_id → accounts.id")
    );
    assert!(told.cut.is_empty());
}

#[test]
fn what_was_written_after_the_heal_is_not_derived() {
    let mut past = shop();
    let onset = past.commit(&[(ORDERS, Some(&[17, 1, 900, 0]), Some(&[17, 1, 900, 1]))]);
    past.commit(&[(NOTES, None, Some(&[17, 2]))]);
    let heal = past.commit(&[
        (ORDERS, Some(&[17, 1, 900, 1]), Some(&[17, 1, 900, 2])),
        (NOTES, None, Some(&[17, 3])),
    ]);
    past.commit(&[(NOTES, None, Some(&[17, 4]))]);
    let history = past.history();
    let starts = vec![bad(ORDERS, 17, onset, Some(heal))];
    let spread = follow(&history, starts, links(&history.schema), Limits::default());
    let note = vec![Cell::Int(17), Cell::Int(2)];
    assert_eq!(found(&spread), [(NOTES, note, 4, false)]);
}

#[test]
fn a_row_that_never_was_or_is_gone_has_children_too() {
    let mut past = shop();
    let onset = past.commit(&[(ORDERS, Some(&[17, 1, 900, 0]), None)]);
    past.commit(&[(PAYMENTS, None, Some(&[70, 17, 5, 0]))]);
    let history = past.history();
    let starts = vec![bad(ORDERS, 17, onset, None)];
    let spread = follow(&history, starts, links(&history.schema), Limits::default());
    assert_eq!(found(&spread), [(PAYMENTS, vec![Cell::Int(70)], 4, false)]);
}

#[test]
fn nothing_flows_down_from_a_hub_and_limits_are_said() {
    let mut past = shop();
    let onset = past.commit(&[
        (PAYMENTS, None, Some(&[70, 17, 5, 0])),
        (ACCOUNTS, Some(&[5, 0]), Some(&[5, 40])),
    ]);
    for id in 71..=74 {
        past.commit(&[(PAYMENTS, None, Some(&[id, 17, 5, 0]))]);
    }
    let history = past.history();
    let ask = |hub: usize, rows: usize, depth: u32| {
        let starts = vec![bad(PAYMENTS, 70, onset, None)];
        let limits = Limits { rows, depth, hub };
        follow(&history, starts, links(&history.schema), limits)
    };
    let spread = ask(3, 100, 8);
    assert_eq!(found(&spread), [(ACCOUNTS, vec![Cell::Int(5)], 3, true)]);
    assert_eq!((spread.hubs.len(), spread.hubs[0].rows), (1, 5));
    assert_eq!(ask(5, 100, 8).rows.len(), 5);
    let cut = ask(5, 2, 8);
    assert!(cut.cut_rows && cut.rows.len() == 2);
    let shallow = ask(5, 100, 1);
    assert_eq!((shallow.rows.len(), shallow.cut_depth), (1, 1));
    let told = summary(&history, &shallow, &["id".into()]);
    assert_eq!(told.cut.len(), 1, "{told:?}");
    let shown = format!("{:?}", told.tables[0].examples[0].key);
    assert!(shown.contains("redacted:"), "{shown}");
}

/// Small numbers from a seed (splitmix64).
struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % limit as u64).expect("small")
    }

    fn number(&mut self, limit: usize) -> i64 {
        i64::try_from(self.below(limit)).expect("small")
    }

    /// A reference to one of few rows, sometimes to none.
    fn reference(&mut self) -> Option<i64> {
        let to = self.number(5);
        (to > 0).then_some(to)
    }
}

/// A random history: each commit writes a few rows, each of them once.
fn random(rng: &mut Rng) -> Past {
    let mut past = Past::default();
    let mut state: BTreeMap<(usize, Vec<Option<i64>>), Row> = BTreeMap::new();
    let mut fresh = 1_000;
    for _ in 0..10 + rng.below(30) {
        past.head += 1;
        let mut touched = BTreeSet::new();
        for _ in 0..1 + rng.below(5) {
            fresh += 1;
            let table = rng.below(6);
            let id = Some(rng.number(4) + 1);
            let row: Row = match table {
                CUSTOMERS | ACCOUNTS => vec![id, Some(fresh)],
                ORDERS => vec![id, rng.reference(), rng.reference(), Some(fresh)],
                PAYMENTS => vec![id, rng.reference(), rng.reference(), Some(fresh)],
                NOTES => vec![rng.reference(), Some(rng.number(3))],
                _ => vec![id, rng.reference(), Some(fresh)],
            };
            let key = (table, name_of(table, &row));
            if !touched.insert(key.clone()) {
                continue;
            }
            let before = state.get(&key).cloned();
            let after = (before.is_none() || (table != NOTES && rng.below(5) > 0)).then_some(row);
            match &after {
                Some(row) => _ = state.insert(key, row.clone()),
                None => _ = state.remove(&key),
            }
            past.writes.push(Wrote {
                commit: past.head,
                table,
                before,
                after,
            });
        }
    }
    past
}

type Name = (usize, Vec<Option<i64>>);

/// When a row was reached from below and from above.
#[derive(Clone, Copy, Default)]
struct When {
    up: Option<Commit>,
    down: Option<Commit>,
}

/// The definition, read aloud: commit by commit, every write against every bad or derived row, until nothing is added.
struct Naive<'a> {
    past: &'a Past,
    starts: &'a [Start],
    links: &'a [Link],
    hub: usize,
    derived: BTreeMap<Name, When>,
}

impl Naive<'_> {
    fn start_name(start: &Start) -> Name {
        let value = |cell: &Cell| match cell {
            Cell::Int(value) => Some(*value),
            _ => None,
        };
        (start.table, start.name.iter().map(value).collect())
    }

    fn is_start(&self, name: &Name) -> bool {
        self.starts
            .iter()
            .any(|start| Self::start_name(start) == *name)
    }

    fn bad_at(&self, name: &Name, commit: Commit) -> bool {
        self.starts.iter().any(|start| {
            Self::start_name(start) == *name
                && start.from <= commit
                && start.until.is_none_or(|until| commit < until)
        })
    }

    /// What rows that refer to a row by a link hold after a commit.
    fn referred(&self, name: &Name, link: &Link, commit: Commit) -> Option<Row> {
        if link.to == [0] {
            return Some(name.1.clone());
        }
        let mut writes = self
            .past
            .writes
            .iter()
            .filter(|write| write.commit <= commit);
        let last = writes.rfind(|write| {
            let row = write.after.as_ref().or(write.before.as_ref());
            write.table == name.0 && row.is_some_and(|row| name_of(name.0, row) == name.1)
        })?;
        let row = last.after.as_ref()?;
        Some(link.to.iter().map(|&at| row[at]).collect())
    }

    fn refers(&self, write: &Wrote, name: &Name, link: &Link) -> bool {
        let Some(row) = write.after.as_ref().filter(|_| write.table == link.child) else {
            return false;
        };
        let values: Row = link.columns.iter().map(|&at| row[at]).collect();
        let own = (write.table, name_of(write.table, row));
        name.0 == link.parent
            && own != *name
            && !values.contains(&None)
            && self.referred(name, link, write.commit).as_ref() == Some(&values)
    }

    fn is_hub(&self, name: &Name, link: &Link, since: Commit) -> bool {
        let writes = self
            .past
            .writes
            .iter()
            .filter(|write| write.commit >= since);
        let children: BTreeSet<Row> = writes
            .filter(|write| self.refers(write, name, link))
            .filter_map(|write| Some(name_of(write.table, write.after.as_ref()?)))
            .collect();
        children.len() > self.hub
    }

    fn flows_down(&self, name: &Name, link: &Link, commit: Commit) -> bool {
        let when = self.derived.get(name).copied().unwrap_or_default();
        self.bad_at(name, commit)
            || when.down.is_some_and(|down| down <= commit)
            || when
                .up
                .is_some_and(|up| up <= commit && !self.is_hub(name, link, up))
    }

    fn is_tainted(&self, name: &Name, commit: Commit) -> bool {
        let when = self.derived.get(name).copied().unwrap_or_default();
        let since = [when.up, when.down].into_iter().flatten().min();
        self.bad_at(name, commit) || since.is_some_and(|since| since <= commit)
    }

    fn step(&mut self, commit: Commit) -> bool {
        let mut sources: BTreeSet<Name> = self.starts.iter().map(Self::start_name).collect();
        sources.extend(self.derived.keys().cloned());
        let now: Vec<&Wrote> = self
            .past
            .writes
            .iter()
            .filter(|w| w.commit == commit)
            .collect();
        let mut reached: Vec<(Name, bool)> = Vec::new();
        for source in sources
            .iter()
            .filter(|source| self.is_tainted(source, commit))
        {
            for link in self.links {
                for write in &now {
                    let Some(after) = &write.after else { continue };
                    let name = (write.table, name_of(write.table, after));
                    if self.refers(write, source, link) && self.flows_down(source, link, commit) {
                        reached.push((name, false));
                    } else if name == *source && write.table == link.child {
                        reached.extend(self.above(write, link, &now).map(|name| (name, true)));
                    }
                }
            }
        }
        let mut changed = false;
        for (name, up) in reached {
            if self.is_start(&name) {
                continue;
            }
            let when = self.derived.entry(name).or_default();
            let side = if up { &mut when.up } else { &mut when.down };
            changed |= side.is_none();
            side.get_or_insert(commit);
        }
        changed
    }

    /// Rows that a written row refers to, and that were updated with it.
    fn above<'b>(
        &'b self,
        write: &'b Wrote,
        link: &'b Link,
        now: &'b [&'b Wrote],
    ) -> impl Iterator<Item = Name> + 'b {
        let own = write
            .after
            .as_ref()
            .map(|row| (write.table, name_of(write.table, row)));
        let images = [&write.after, &write.before];
        let values: Vec<Row> = images
            .into_iter()
            .flatten()
            .map(|row| link.columns.iter().map(|&at| row[at]).collect())
            .collect();
        let parents = now.iter().filter(|other| other.table == link.parent);
        parents.filter_map(move |other| {
            let row = other.after.as_ref().filter(|_| other.before.is_some())?;
            let holds: Row = link.to.iter().map(|&at| row[at]).collect();
            let name = (other.table, name_of(other.table, row));
            (Some(&name) != own.as_ref() && !holds.contains(&None) && values.contains(&holds))
                .then_some(name)
        })
    }
}

#[test]
fn spread_is_what_the_definition_says_on_random_histories() {
    let fixed = std::env::var("FIRSTBAD_SEED")
        .ok()
        .and_then(|seed| seed.parse::<u64>().ok());
    let seeds = fixed.map_or(1..400, |seed| seed..seed + 1);
    let (mut derived, mut hubs, mut upward) = (0, 0, 0);
    for seed in seeds {
        let mut rng = Rng(seed);
        let past = random(&mut rng);
        let history = past.history();
        let links = links(&history.schema);
        let mut starts = Vec::new();
        for _ in 0..1 + rng.below(3) {
            let from = 1 + u32::try_from(rng.below(past.head as usize)).expect("small");
            let length = u32::try_from(rng.below(12)).expect("small");
            let until = (length < 8).then_some(from + 1 + length);
            let table = [CUSTOMERS, ORDERS, PAYMENTS][rng.below(3)];
            starts.push(bad(table, rng.number(4) + 1, from, until));
        }
        let limits = Limits {
            rows: usize::MAX,
            depth: u32::MAX,
            hub: rng.below(4),
        };
        let spread = follow(&history, starts.clone(), links.clone(), limits);
        let mut naive = Naive {
            past: &past,
            starts: &starts,
            links: &links,
            hub: limits.hub,
            derived: BTreeMap::new(),
        };
        for commit in 1..=past.head {
            while naive.step(commit) {}
        }
        let expected: BTreeMap<(usize, Vec<String>), Commit> = naive
            .derived
            .iter()
            .map(|((table, name), when)| {
                let since = [when.up, when.down].into_iter().flatten().min();
                let name = name.iter().map(|value| format!("{:?}", cell(*value)));
                ((*table, name.collect()), since.expect("it was reached"))
            })
            .collect();
        let rows = spread.rows.iter();
        let have: BTreeMap<(usize, Vec<String>), Commit> = rows
            .map(|row| {
                let name = row.name.iter().map(|cell| format!("{cell:?}"));
                ((row.table, name.collect()), row.commit)
            })
            .collect();
        assert_eq!(
            have.len(),
            spread.rows.len(),
            "FIRSTBAD_SEED={seed}: a row is listed once"
        );
        assert_eq!(
            have, expected,
            "FIRSTBAD_SEED={seed} starts {starts:?} hub {}",
            limits.hub
        );
        assert!(
            spread.rows.is_sorted_by_key(|row| row.commit),
            "FIRSTBAD_SEED={seed}"
        );
        for at in 0..spread.rows.len() {
            let (_, steps) = spread.path(at);
            assert_eq!(
                steps.len(),
                spread.rows[at].depth as usize,
                "FIRSTBAD_SEED={seed}"
            );
        }
        derived += have.len();
        hubs += spread.hubs.len();
        upward += spread.rows.iter().filter(|row| row.up).count();
    }
    if fixed.is_none() {
        let told = format!("{derived} derived, {hubs} hubs, {upward} upward");
        assert!(derived > 500 && hubs > 5 && upward > 20, "{told}");
    }
}
