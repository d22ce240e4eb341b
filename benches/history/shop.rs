//! A shop and a bank of any size, in memory and as files; every number comes from a seeded generator.

use std::fmt::Write as _;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use firstbad::change::{Cell, Change, Decimal, Image, Op, Transaction, TransactionMeta};
use firstbad::schema::Schema;
use firstbad::state::{History, Origin};

/// Lines of an order.
const LINES: usize = 3;
/// One customer for so many orders.
const ORDERS_OF_A_CUSTOMER: usize = 5;
const STATUS: [&str; 4] = ["placed", "paid", "shipped", "cancelled"];
/// 2026-03-10, and a transaction every 100 ms.
const START: i64 = 1_773_100_800_000_000;
const STEP: i64 = 100_000;

const SCHEMA: &str = "
CREATE TABLE customers (id bigint PRIMARY KEY, email text NOT NULL, country text NOT NULL);
CREATE TABLE orders (id bigint PRIMARY KEY, customer_id bigint NOT NULL, status text NOT NULL,
    total numeric(12,2) NOT NULL, placed_at timestamptz NOT NULL, updated_at timestamptz NOT NULL);
CREATE TABLE order_lines (order_id bigint, line_no integer, sku text NOT NULL, quantity integer NOT NULL,
    amount numeric(12,2) NOT NULL, PRIMARY KEY (order_id, line_no));
CREATE TABLE payments (id bigint PRIMARY KEY, order_id bigint NOT NULL, amount numeric(12,2) NOT NULL,
    reference text NOT NULL);
";

/// 20 rules, one of a kind or two.
pub(crate) const RULES: &str = "
rules:
  - {id: customer-email, table: customers, not_empty: email}
  - {id: customer-email-once, table: customers, unique: [email]}
  - {id: customer-country, table: customers, matches: {column: country, pattern: '^[A-Z]{2}$'}}
  - {id: order-status, table: orders, accepted_values: {column: status, values: [placed, paid, shipped, cancelled]}}
  - {id: order-total, table: orders, range: {column: total, min: 0}}
  - {id: order-times, table: orders, expression: placed_at <= updated_at}
  - {id: order-customer, table: orders, references: {column: customer_id, to: customers.id}}
  - {id: order-has-lines, table: orders, has: {table: order_lines, match: {order_id: id}}}
  - {id: order-three-lines, table: orders, has: {table: order_lines, match: {order_id: id}, min: 3, max: 3}}
  - {id: order-sum, table: orders, balance: {left: total, right: 'sum(order_lines.amount)', match: {order_id: id}}}
  - {id: paid-has-payment, table: orders, where: status = 'paid', has: {table: payments, match: {order_id: id}}}
  - {id: line-quantity, table: order_lines, range: {column: quantity, min: 1, max: 1000}}
  - {id: line-amount, table: order_lines, expression: amount = quantity * 1.25}
  - {id: line-order, table: order_lines, references: {column: order_id, to: orders.id}}
  - {id: line-sku, table: order_lines, matches: {column: sku, pattern: '^SKU-[0-9]+$'}}
  - {id: line-once, table: order_lines, unique: [order_id, sku]}
  - {id: payment-order, table: payments, references: {column: order_id, to: orders.id}}
  - {id: payment-amount, table: payments, range: {column: amount, min: 0}}
  - {id: payment-reference-once, table: payments, unique: [reference]}
  - {id: cancelled-unpaid, table: orders, where: total < 0, has_no: {table: payments, match: {order_id: id}}}
";

/// 10 rules, of which the balance is broken by the planted write.
pub(crate) const TEN: &str = "
rules:
  - {id: order-status, table: orders, accepted_values: {column: status, values: [placed, paid, shipped, cancelled]}}
  - {id: order-total, table: orders, range: {column: total, min: 0}}
  - {id: order-times, table: orders, expression: placed_at <= updated_at}
  - {id: order-customer, table: orders, references: {column: customer_id, to: customers.id}}
  - {id: order-has-lines, table: orders, has: {table: order_lines, match: {order_id: id}}}
  - {id: order-sum, table: orders, balance: {left: total, right: 'sum(order_lines.amount)', match: {order_id: id}}}
  - {id: line-quantity, table: order_lines, range: {column: quantity, min: 1, max: 1000}}
  - {id: line-order, table: order_lines, references: {column: order_id, to: orders.id}}
  - {id: payment-reference-once, table: payments, unique: [reference]}
  - {id: payment-order, table: payments, references: {column: order_id, to: orders.id}}
";

/// A branch's balance is the sum of its accounts.
pub(crate) const BALANCE: &str = "
rules:
  - {id: branch-sum, table: branches, balance: {left: balance, right: 'sum(accounts.balance)', match: {branch_id: id}}}
";

/// A small generator of numbers: xorshift.
struct Rng(u64);

impl Rng {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound as u64).expect("below a usize")
    }
}

fn int(value: usize) -> Cell {
    Cell::Int(i64::try_from(value).expect("a small number"))
}

/// An amount of `quantity` pieces at 1.25.
fn amount(quantity: usize) -> Decimal {
    Decimal {
        unscaled: i128::try_from(quantity * 125).expect("a small number"),
        scale: 2,
    }
}

fn text(value: String) -> Cell {
    Cell::Text(value)
}

fn whole(cells: &[Cell]) -> Image {
    cells.iter().cloned().enumerate().collect()
}

fn schema(ddl: &str) -> Schema {
    let (schema, found) = firstbad::schema::ddl::parse(ddl, Path::new("schema.sql"));
    assert!(found.is_empty(), "the schema is right");
    schema
}

/// A shop's history, grown transaction by transaction.
pub(crate) struct Shop {
    pub(crate) history: History,
    rng: Rng,
    /// Quantities of each order's lines.
    lines: Vec<[usize; LINES]>,
    payments: usize,
    made: usize,
}

const CUSTOMERS: usize = 0;
const ORDERS: usize = 1;
const ORDER_LINES: usize = 2;
const PAYMENTS: usize = 3;

impl Shop {
    pub(crate) fn new(orders: usize) -> Self {
        let mut shop = Shop {
            history: History::new(schema(SCHEMA), Origin::Changes, false),
            rng: Rng(20_260_312),
            lines: Vec::new(),
            payments: 0,
            made: 0,
        };
        for id in 0..orders.div_ceil(ORDERS_OF_A_CUSTOMER) {
            shop.load(CUSTOMERS, &customer(id));
        }
        for id in 0..orders {
            let lines = [(); LINES].map(|()| 1 + shop.rng.below(9));
            let status = STATUS[shop.rng.below(STATUS.len())];
            shop.load(ORDERS, &order(id, status, &lines));
            for (at, quantity) in lines.iter().enumerate() {
                shop.load(ORDER_LINES, &line(id, at, *quantity));
            }
            shop.load(PAYMENTS, &payment(id, id, &lines));
            shop.lines.push(lines);
            shop.payments += 1;
        }
        shop
    }

    pub(crate) fn rows(&self) -> usize {
        self.history
            .tables
            .iter()
            .map(|table| table.row_count())
            .sum()
    }

    fn load(&mut self, table: usize, cells: &[Cell]) {
        self.history.load(table, cells);
    }

    /// A transaction with so many changes of random rows.
    pub(crate) fn transaction(&mut self, changes: usize) {
        let commit = self.history.head() + 1;
        let now = START + i64::from(commit) * STEP;
        let mut made = Vec::new();
        while made.len() < changes {
            self.change(now, &mut made);
        }
        self.apply(commit, now, made);
    }

    /// How many changes there are.
    pub(crate) fn changes(&self) -> usize {
        self.made
    }

    /// A transaction that updates the newest orders, so many rows of them.
    pub(crate) fn neighbours(&mut self, rows: usize) {
        let commit = self.history.head() + 1;
        let now = START + i64::from(commit) * STEP;
        let first = self.lines.len().saturating_sub(rows);
        let changes = (first..self.lines.len()).map(|order| {
            let after = vec![(2, text("shipped".into())), (5, Cell::Timestamp(now))];
            update(ORDERS, vec![(0, int(order))], after)
        });
        let changes = changes.collect();
        self.apply(commit, now, changes);
    }

    /// A transaction that gives an order a total that is wrong.
    pub(crate) fn plant(&mut self) {
        let commit = self.history.head() + 1;
        let now = START + i64::from(commit) * STEP;
        let order = vec![
            int(self.lines.len() + 1_000_000),
            int(0),
            text("paid".into()),
            Cell::Decimal(Decimal {
                unscaled: -1,
                scale: 2,
            }),
            Cell::Timestamp(now),
            Cell::Timestamp(now),
        ];
        self.apply(commit, now, vec![insert(ORDERS, &order)]);
    }

    fn apply(&mut self, commit: u32, now: i64, changes: Vec<Change>) {
        self.made += changes.len();
        let meta = TransactionMeta {
            time: Some(now),
            ..TransactionMeta::default()
        };
        let transaction = Transaction {
            commit,
            meta,
            changes,
        };
        self.history
            .apply(&transaction)
            .expect("the changes fit the state");
    }

    /// One or two changes that belong together.
    fn change(&mut self, now: i64, out: &mut Vec<Change>) {
        let order = self.rng.below(self.lines.len());
        match self.rng.below(4) {
            0 => {
                self.payments += 1;
                let cells = payment(self.payments, order, &self.lines[order]);
                out.push(insert(PAYMENTS, &cells));
            }
            1 => {
                let at = self.rng.below(LINES);
                let quantity = 1 + self.rng.below(9);
                self.lines[order][at] = quantity;
                let key = vec![(0, int(order)), (1, int(at))];
                let after = vec![(3, int(quantity)), (4, Cell::Decimal(amount(quantity)))];
                out.push(update(ORDER_LINES, key, after));
                let total = Cell::Decimal(amount(self.lines[order].iter().sum()));
                let after = vec![(3, total), (5, Cell::Timestamp(now))];
                out.push(update(ORDERS, vec![(0, int(order))], after));
            }
            _ => {
                let status = STATUS[self.rng.below(STATUS.len())].to_owned();
                let after = vec![(2, text(status)), (5, Cell::Timestamp(now))];
                out.push(update(ORDERS, vec![(0, int(order))], after));
            }
        }
    }
}

fn insert(table: usize, cells: &[Cell]) -> Change {
    Change {
        table,
        op: Op::Insert,
        key: None,
        before: None,
        after: Some(whole(cells)),
    }
}

fn update(table: usize, key: Image, after: Image) -> Change {
    Change {
        table,
        op: Op::Update,
        key: Some(key),
        before: None,
        after: Some(after),
    }
}

fn customer(id: usize) -> Vec<Cell> {
    vec![
        int(id),
        text(format!("customer-{id}@example.org")),
        text("DE".into()),
    ]
}

fn order(id: usize, status: &str, lines: &[usize]) -> Vec<Cell> {
    vec![
        int(id),
        int(id / ORDERS_OF_A_CUSTOMER),
        text(status.to_owned()),
        Cell::Decimal(amount(lines.iter().sum())),
        Cell::Timestamp(START),
        Cell::Timestamp(START),
    ]
}

fn line(order: usize, at: usize, quantity: usize) -> Vec<Cell> {
    vec![
        int(order),
        int(at),
        text(format!("SKU-{}", order % 97 * LINES + at)),
        int(quantity),
        Cell::Decimal(amount(quantity)),
    ]
}

fn payment(id: usize, order: usize, lines: &[usize]) -> Vec<Cell> {
    vec![
        int(id),
        int(order),
        Cell::Decimal(amount(lines.iter().sum())),
        text(format!("PSP-{id}")),
    ]
}

/// A branch with many accounts.
pub(crate) struct Bank {
    pub(crate) history: History,
    rng: Rng,
    balances: Vec<usize>,
}

impl Bank {
    pub(crate) fn new(accounts: usize) -> Self {
        let schema = schema(
            "CREATE TABLE branches (id bigint PRIMARY KEY, balance numeric(14,2) NOT NULL);
             CREATE TABLE accounts (id bigint PRIMARY KEY, branch_id bigint NOT NULL, balance numeric(12,2) NOT NULL);",
        );
        let mut bank = Bank {
            history: History::new(schema, Origin::Changes, false),
            rng: Rng(4_410),
            balances: vec![4; accounts],
        };
        let sum = Cell::Decimal(amount(4 * accounts));
        bank.history.load(0, &[int(1), sum]);
        for id in 0..accounts {
            let cells = [int(id), int(1), Cell::Decimal(amount(4))];
            bank.history.load(1, &cells);
        }
        bank
    }

    /// One account and its branch change by the same amount.
    pub(crate) fn transfer(&mut self) {
        let commit = self.history.head() + 1;
        let account = self.rng.below(self.balances.len());
        self.balances[account] = self.rng.below(1_000);
        let balance = |quantity| Cell::Decimal(amount(quantity));
        let account_after = vec![(2, balance(self.balances[account]))];
        let sum = balance(self.balances.iter().sum());
        let changes = vec![
            update(1, vec![(0, int(account))], account_after),
            update(0, vec![(0, int(1))], vec![(1, sum)]),
        ];
        let meta = TransactionMeta::default();
        self.history
            .apply(&Transaction {
                commit,
                meta,
                changes,
            })
            .expect("the changes fit the state");
    }
}

/// Writes a history directory: orders that are placed and paid, one transaction each, and in the middle one whose total is not the sum of
/// its lines. The number of changes; nothing is written when it is there.
pub(crate) fn write(directory: &Path, transactions: usize) -> std::io::Result<usize> {
    // An order, its lines and, in the next transaction, its payment and its new status.
    let changes = transactions / 2 * (1 + LINES + 2);
    if directory.join("done").is_file() {
        return Ok(changes);
    }
    std::fs::create_dir_all(directory.join("changes"))?;
    std::fs::create_dir_all(directory.join("snapshot"))?;
    std::fs::write(directory.join("schema.sql"), SCHEMA)?;
    let mut customers = "id,email,country\n".to_owned();
    for id in 0..(transactions / 2).div_ceil(ORDERS_OF_A_CUSTOMER) {
        let _ = writeln!(customers, "{id},customer-{id}@example.org,DE");
    }
    std::fs::write(directory.join("snapshot/customers.csv"), customers)?;
    let file = std::fs::File::create(directory.join("changes/0.ndjson"))?;
    let mut out = BufWriter::new(file);
    let mut rng = Rng(20_260_312);
    for commit in 1..=transactions {
        let time = START + i64::try_from(commit).expect("small") * STEP;
        let time = firstbad::schema::value::format_timestamp(time);
        let order = (commit - 1) / 2;
        let quantities = [2 + order % 7; LINES];
        let total = amount(quantities.iter().sum());
        write!(
            out,
            "{{\"commit\":{commit},\"xid\":{},\"time\":\"{time}\",",
            700 + commit
        )?;
        write!(
            out,
            "\"context\":{{\"service\":\"checkout\",\"version\":\"v{}\"}},",
            rng.below(3)
        )?;
        if commit % 2 == 1 {
            write!(
                out,
                "\"changes\":[{{\"table\":\"orders\",\"op\":\"insert\",\"after\":{{\"id\":{order},\"customer_id\":{},\
                 \"status\":\"placed\",\"total\":\"{total}\",\"placed_at\":\"{time}\",\"updated_at\":\"{time}\"}}}}",
                order / ORDERS_OF_A_CUSTOMER
            )?;
            for (at, quantity) in quantities.iter().enumerate() {
                write!(
                    out,
                    ",{{\"table\":\"order_lines\",\"op\":\"insert\",\"after\":{{\"order_id\":{order},\"line_no\":{at},\
                     \"sku\":\"SKU-{at}\",\"quantity\":{quantity},\"amount\":\"{}\"}}}}",
                    amount(*quantity)
                )?;
            }
        } else {
            let total = if commit == transactions / 2 {
                format!(
                    ",\"total\":\"{}\"",
                    amount(1 + quantities.iter().sum::<usize>())
                )
            } else {
                String::new()
            };
            write!(
                out,
                "\"changes\":[{{\"table\":\"payments\",\"op\":\"insert\",\"after\":{{\"id\":{commit},\"order_id\":{order},\
                 \"amount\":\"{}\",\"reference\":\"PSP-{commit}\"}}}},{{\"table\":\"orders\",\"op\":\"update\",\
                 \"key\":{{\"id\":{order}}},\"after\":{{\"status\":\"paid\",\"updated_at\":\"{time}\"{total}}}}}",
                amount(quantities.iter().sum())
            )?;
        }
        writeln!(out, "]}}")?;
    }
    out.flush()?;
    std::fs::write(directory.join("done"), "")?;
    Ok(changes)
}
