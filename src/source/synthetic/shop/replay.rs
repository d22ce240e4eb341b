//! A history read back by naive code that shares nothing with the generator: CSV, JSON, and one map a table.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

pub(super) type Row = Map<String, Value>;
/// Rows of a table by the text of their primary key.
pub(super) type Table = BTreeMap<Vec<String>, Row>;

const KEYS: [(&str, &[&str]); 13] = [
    ("customers", &["id"]),
    ("products", &["sku"]),
    ("stock", &["sku", "warehouse"]),
    ("ledger_accounts", &["code"]),
    ("orders", &["id"]),
    ("order_lines", &["order_id", "line_no"]),
    ("payments", &["id"]),
    ("shipments", &["id"]),
    ("refunds", &["id"]),
    ("stock_movements", &["id"]),
    ("ledger_entries", &["id"]),
    ("carts", &["session"]),
    ("import_buffer", &["line"]),
];

/// RFC 4180 with every value as text; NULL is an unquoted empty field.
fn read_csv(text: &str) -> Vec<Vec<Option<String>>> {
    let (mut rows, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    let mut inside = false;
    while let Some(c) = chars.next() {
        match c {
            '"' if inside && chars.peek() == Some(&'"') => {
                field.push(chars.next().expect("peeked"))
            }
            '"' => (inside, quoted) = (!inside, true),
            ',' | '\n' if !inside => {
                let whole = std::mem::take(&mut field);
                row.push((quoted || !whole.is_empty()).then_some(whole));
                quoted = false;
                if c == '\n' {
                    rows.push(std::mem::take(&mut row));
                }
            }
            c => field.push(c),
        }
    }
    assert!(
        row.is_empty() && field.is_empty(),
        "a file ends with its last line"
    );
    rows
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) fn key_of(table: &str, row: &Row) -> Option<Vec<String>> {
    let (_, columns) = KEYS
        .iter()
        .find(|(name, _)| *name == table)
        .expect("a table of the shop");
    columns
        .iter()
        .map(|column| row.get(*column).map(text))
        .collect()
}

pub(super) fn cents(row: &Row, column: &str) -> i64 {
    let text = row[column].as_str().expect("decimals are text");
    let (whole, fraction) = text.split_once('.').expect("two places after the point");
    assert_eq!(fraction.len(), 2, "{text}");
    format!("{whole}{fraction}").parse().expect("a number")
}

pub(super) fn int(row: &Row, column: &str) -> i64 {
    text(&row[column]).parse().expect("an integer")
}

/// Milliseconds since 1970 of `YYYY-MM-DDThh:mm:ss.mmmZ`, by counting days one by one.
fn millis(text: &str) -> i64 {
    let part = |from: usize, to: usize| text[from..to].parse::<i64>().expect("digits");
    let (year, month, day) = (part(0, 4), part(5, 7), part(8, 10));
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut days: i64 = (1970..year)
        .map(|year| if leap(year) { 366 } else { 365 })
        .sum();
    let february = if leap(year) { 29 } else { 28 };
    days += [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][..(month - 1) as usize]
        .iter()
        .sum::<i64>();
    days += day - 1;
    ((days * 24 + part(11, 13)) * 60 + part(14, 16)) * 60_000 + part(17, 19) * 1000 + part(20, 23)
}

/// A history, replayed commit by commit; panics where it contradicts itself.
pub(super) struct Replay {
    pub(super) tables: BTreeMap<&'static str, Table>,
    pub(super) rows: u64,
    pub(super) changes: u64,
    pub(super) commit: u64,
    pub(super) time: i64,
    pub(super) lsn: (u64, u64),
    pub(super) xid: u64,
}

impl Replay {
    pub(super) fn open(dir: &Path) -> Replay {
        let mut tables = BTreeMap::new();
        let mut rows = 0;
        for (name, _) in KEYS {
            let text = fs::read_to_string(dir.join(format!("snapshot/{name}.csv")))
                .expect("a file a table");
            let mut lines = read_csv(&text).into_iter();
            let header = lines.next().expect("a header");
            let mut table = Table::new();
            for line in lines {
                assert_eq!(line.len(), header.len(), "{name}");
                let cells = header.iter().zip(line);
                let row: Row = cells
                    .map(|(column, cell)| {
                        (
                            column.clone().expect("a name"),
                            cell.map_or(Value::Null, Value::String),
                        )
                    })
                    .collect();
                assert!(
                    table
                        .insert(key_of(name, &row).expect("a key"), row)
                        .is_none(),
                    "{name}: a key twice"
                );
                rows += 1;
            }
            tables.insert(name, table);
        }
        Replay {
            tables,
            rows,
            changes: 0,
            commit: 0,
            time: 0,
            lsn: (0, 0),
            xid: 0,
        }
    }

    pub(super) fn table(&self, name: &str) -> &Table {
        &self.tables[name]
    }

    /// Applies one transaction and hands it back.
    pub(super) fn apply(&mut self, line: &str) -> Value {
        let transaction: Value = serde_json::from_str(line).expect("JSON");
        self.commit += 1;
        assert_eq!(transaction["commit"], self.commit, "commits are gapless");
        let time = millis(transaction["time"].as_str().expect("a time"));
        assert!(time > self.time, "#{}: time moves forward", self.commit);
        let (high, low) = transaction["lsn"]
            .as_str()
            .and_then(|lsn| lsn.split_once('/'))
            .expect("an lsn");
        let hex = |text: &str| u64::from_str_radix(text, 16).expect("hexadecimal");
        let lsn = (hex(high), hex(low));
        let xid = transaction["xid"].as_u64().expect("an xid");
        assert!(
            lsn > self.lsn && xid > self.xid,
            "#{}: lsn and xid move forward",
            self.commit
        );
        (self.time, self.lsn, self.xid) = (time, lsn, xid);
        for change in transaction["changes"].as_array().expect("changes") {
            self.changes += 1;
            self.apply_change(change);
        }
        transaction
    }

    fn apply_change(&mut self, change: &Value) {
        let name = change["table"].as_str().expect("a table");
        let context = format!("#{} {name}", self.commit);
        let table = self.tables.get_mut(name).expect("a table of the shop");
        let image = |part: &str| change.get(part).and_then(Value::as_object);
        if change["op"] == "truncate" {
            return table.clear();
        }
        let after_key = image("after").and_then(|row| key_of(name, row));
        if change["op"] == "insert" {
            let row = image("after").expect("an insert has a row").clone();
            let fresh = table.insert(after_key.expect("a whole row"), row).is_none();
            return assert!(fresh, "{context}: the key exists");
        }
        let old_key = ["key", "before"]
            .iter()
            .find_map(|part| image(part).and_then(|row| key_of(name, row)));
        let old = table
            .remove(&old_key.expect("the old key"))
            .unwrap_or_else(|| panic!("{context}: no such row"));
        for (column, value) in image("before").into_iter().flatten() {
            assert_eq!(
                text(&old[column]),
                text(value),
                "{context}: before.{column} contradicts the state"
            );
        }
        if change["op"] == "update" {
            let mut row = old;
            row.extend(image("after").expect("an update has columns").clone());
            let taken = table
                .insert(key_of(name, &row).expect("a whole row"), row)
                .is_some();
            assert!(!taken, "{context}: the new key exists");
        }
    }
}

pub(super) fn lines(dir: &Path) -> Vec<String> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir.join("changes"))
        .expect("changes")
        .map(|entry| entry.expect("a file").path())
        .collect();
    paths.sort();
    let read = |path: &PathBuf| fs::read_to_string(path).expect("text");
    paths
        .iter()
        .map(read)
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}
