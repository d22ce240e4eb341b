//! What spread comes to: numbers table by table, over time, with examples; how much flowed along which link.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Derived, Parent, Spread, row_name};
use crate::change::Commit;
use crate::schema::value::format_timestamp;
use crate::state::History;
use crate::verdict::redact;

/// How many parts of the time from the first derived row to the last are told apart.
const PARTS: i64 = 60;
/// How many rows of a table are shown with their path.
const EXAMPLES: usize = 3;

/// Numbers and examples; values of columns that are to be hidden are hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many bad rows it started from.
    pub starts: u64,
    /// How many rows were derived.
    pub rows: u64,
    /// The head of the history up to which it was followed.
    pub until: Commit,
    /// Whether [`Part`]s are times; else commits.
    pub by_time: bool,
    /// Tables with derived rows, the most rows first.
    pub tables: Vec<TablePart>,
    /// What flowed along which link, the most rows first.
    pub flows: Vec<Flow>,
    /// Rows from which nothing flowed down: table, key, link, how many rows refer to it.
    pub hubs: Vec<(String, Map<String, Value>, String, u64)>,
    /// What was left out, in words.
    pub cut: Vec<String>,
}

/// The derived rows of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePart {
    /// The table as `schema.name`.
    pub table: String,
    /// How many.
    pub rows: u64,
    /// The first commit that wrote one, and its time in microseconds.
    pub first: (Commit, Option<i64>),
    /// The last commit that wrote one for the first time, and its time.
    pub last: (Commit, Option<i64>),
    /// The fewest steps that lead to one.
    pub depth: u32,
    /// How many were written when; parts without any are left out.
    pub over_time: Vec<Part>,
    /// The first of them.
    pub examples: Vec<Example>,
}

/// A part of the time, or of the commits, and the rows in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its begin, in microseconds or as a commit.
    pub from: i64,
    /// Its end, which is not part of it.
    pub to: i64,
    /// How many rows.
    pub rows: u64,
}

/// A derived row and how it came to be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// What names it.
    pub key: Map<String, Value>,
    /// The commit that wrote it.
    pub commit: Commit,
    /// From the bad row to it.
    pub path: Vec<Step>,
}

/// A row on a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its table as `schema.name`.
    pub table: String,
    /// What names it.
    pub key: Map<String, Value>,
    /// The commit since which it was bad or derived.
    pub commit: Commit,
    /// The link that leads to it; None for the bad row.
    pub link: Option<String>,
    /// Whether the link was followed from a row to one that it refers to.
    pub up: bool,
}

/// Rows that were derived along one link in one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The link: `invoices.order_id → orders.id`.
    pub link: String,
    /// The table from which it flowed.
    pub from: String,
    /// The table to which it flowed.
    pub to: String,
    /// Whether it went from rows to those that they refer to.
    pub up: bool,
    /// How many rows were derived.
    pub rows: u64,
}

/// What spread comes to. Values of columns with these names are hidden.
pub fn summary(history: &History, spread: &Spread, hidden: &[String]) -> Summary {
    let view = View {
        history,
        spread,
        hidden,
    };
    let (by_time, bounds) = view.bounds();
    let mut of_table: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, row) in spread.rows.iter().enumerate() {
        of_table.entry(row.table).or_default().push(at);
    }
    let mut tables: Vec<TablePart> = of_table
        .into_iter()
        .map(|(table, rows)| view.table(table, &rows, by_time, bounds))
        .collect();
    tables.sort_by_key(|part| std::cmp::Reverse(part.rows));
    let hubs = spread.hubs.iter().map(|hub| {
        let row = &spread.rows[hub.row];
        let link = spread.links[hub.link].name(&history.schema);
        (
            view.name(row.table),
            view.key(row.table, &row.name),
            link,
            hub.rows,
        )
    });
    Summary {
        starts: spread.starts.len() as u64,
        rows: spread.rows.len() as u64,
        until: history.head(),
        by_time,
        tables,
        flows: view.flows(),
        hubs: hubs.collect(),
        cut: view.cut(),
    }
}

/// What the parts of a summary are made from.
struct View<'a> {
    history: &'a History,
    spread: &'a Spread,
    hidden: &'a [String],
}

impl View<'_> {
    fn name(&self, table: usize) -> String {
        self.history.schema.tables[table].name.to_string()
    }

    fn key(&self, table: usize, name: &[crate::change::Cell]) -> Map<String, Value> {
        let mut key = row_name(&self.history.schema, table, name);
        redact::hide_columns(self.hidden, [&mut key]);
        key
    }

    fn time(&self, commit: Commit) -> Option<i64> {
        self.history.meta(commit)?.time
    }

    /// Whether all commits that derived rows have times that ascend, and the bounds of these, or of the commits.
    fn bounds(&self) -> (bool, (i64, i64)) {
        let rows = &self.spread.rows;
        let times: Option<Vec<i64>> = rows.iter().map(|row| self.time(row.commit)).collect();
        match times.filter(|times| times.is_sorted()) {
            Some(times) => {
                let bounds = times.first().zip(times.last());
                (true, bounds.map_or((0, 0), |(first, last)| (*first, *last)))
            }
            None => {
                let commit = |row: &Derived| i64::from(row.commit);
                let first = rows.first().map_or(0, commit);
                (false, (first, rows.last().map_or(0, commit)))
            }
        }
    }

    fn table(
        &self,
        table: usize,
        rows: &[usize],
        by_time: bool,
        (first, last): (i64, i64),
    ) -> TablePart {
        // At least one, so that every part has a length.
        let width = last.saturating_sub(first) / PARTS + 1;
        let mut parts: BTreeMap<i64, u64> = BTreeMap::new();
        for &at in rows {
            let commit = self.spread.rows[at].commit;
            let place = match by_time {
                true => self.time(commit).unwrap_or(first),
                false => i64::from(commit),
            };
            *parts
                .entry(place.saturating_sub(first) / width)
                .or_default() += 1;
        }
        let part = |(number, rows): (i64, u64)| {
            let from = first.saturating_add(number.saturating_mul(width));
            let to = from.saturating_add(width);
            Part { from, to, rows }
        };
        let dated = |at: Option<&usize>| {
            let commit = at.map_or(0, |&at| self.spread.rows[at].commit);
            (commit, self.time(commit))
        };
        let depths = rows.iter().map(|&at| self.spread.rows[at].depth);
        TablePart {
            table: self.name(table),
            rows: rows.len() as u64,
            first: dated(rows.first()),
            last: dated(rows.last()),
            depth: depths.min().unwrap_or(1),
            over_time: parts.into_iter().map(part).collect(),
            examples: rows
                .iter()
                .take(EXAMPLES)
                .map(|&at| self.example(at))
                .collect(),
        }
    }

    fn example(&self, at: usize) -> Example {
        let row = &self.spread.rows[at];
        let (start, steps) = self.spread.path(at);
        let bad = &self.spread.starts[start];
        let mut path = vec![Step {
            table: self.name(bad.table),
            key: self.key(bad.table, &bad.name),
            commit: bad.from,
            link: None,
            up: false,
        }];
        path.extend(steps.into_iter().map(|step| {
            let row = &self.spread.rows[step];
            Step {
                table: self.name(row.table),
                key: self.key(row.table, &row.name),
                commit: row.commit,
                link: Some(self.spread.links[row.link].name(&self.history.schema)),
                up: row.up,
            }
        }));
        Example {
            key: self.key(row.table, &row.name),
            commit: row.commit,
            path,
        }
    }

    fn flows(&self) -> Vec<Flow> {
        let mut counts: BTreeMap<(usize, usize, bool), u64> = BTreeMap::new();
        for row in &self.spread.rows {
            let from = match row.parent {
                Parent::Bad(start) => self.spread.starts[start].table,
                Parent::Derived(at) => self.spread.rows[at].table,
            };
            *counts.entry((row.link, from, row.up)).or_default() += 1;
        }
        let mut flows: Vec<Flow> = counts
            .into_iter()
            .map(|((link, from, up), rows)| {
                let link = &self.spread.links[link];
                let to = if up { link.parent } else { link.child };
                Flow {
                    link: link.name(&self.history.schema),
                    from: self.name(from),
                    to: self.name(to),
                    up,
                    rows,
                }
            })
            .collect();
        flows.sort_by_key(|flow| std::cmp::Reverse(flow.rows));
        flows
    }

    fn cut(&self) -> Vec<String> {
        let spread = self.spread;
        let mut out = Vec::new();
        if spread.cut_rows {
            let rows = spread.rows.len();
            out.push(format!(
                "there are more than {rows} rows: those that were derived later are left out"
            ));
        }
        if spread.cut_depth > 0 {
            let rows = spread.cut_depth;
            out.push(format!("{rows} of the rows were not followed further: the path to them is as long as it may be"));
        }
        if spread.not_known > 0 {
            let writes = spread.not_known;
            out.push(format!(
                "what {writes} writes refer to is not known: they may be derived as well"
            ));
        }
        out
    }
}

impl Summary {
    /// The summary as JSON, for `firstbad/spread@1`.
    pub fn document(&self) -> Map<String, Value> {
        let hub = |(table, key, link, rows): &(String, Map<String, Value>, String, u64)| json!({"table": table, "key": key, "link": link, "rows": rows});
        let flow = |flow: &Flow| {
            let direction = if flow.up { "up" } else { "down" };
            json!({"link": flow.link, "from": flow.from, "to": flow.to, "direction": direction, "rows": flow.rows})
        };
        let mut out = Map::new();
        out.insert("bad_rows".into(), self.starts.into());
        out.insert("rows".into(), self.rows.into());
        out.insert("until".into(), json!({"commit": self.until}));
        let tables = self.tables.iter().map(|table| table.document(self.by_time));
        out.insert("tables".into(), tables.collect());
        out.insert("links".into(), self.flows.iter().map(flow).collect());
        out.insert("hubs".into(), self.hubs.iter().map(hub).collect());
        out.insert("left_out".into(), self.cut.clone().into());
        out
    }
}

impl TablePart {
    fn document(&self, by_time: bool) -> Value {
        let dated = |(commit, time): &(Commit, Option<i64>)| json!({"commit": commit, "time": time.map(format_timestamp)});
        let place = |place: i64| match by_time {
            true => Value::from(format_timestamp(place)),
            false => Value::from(place),
        };
        let part = |part: &Part| json!({"from": place(part.from), "to": place(part.to), "rows": part.rows});
        let examples = self.examples.iter().map(|example| {
            let path = example.path.iter().map(Step::document);
            json!({"key": example.key, "commit": example.commit, "path": path.collect::<Vec<_>>()})
        });
        json!({
            "table": self.table,
            "rows": self.rows,
            "first": dated(&self.first),
            "last": dated(&self.last),
            "over_time": self.over_time.iter().map(part).collect::<Vec<_>>(),
            "examples": examples.collect::<Vec<_>>(),
        })
    }
}

impl Step {
    fn document(&self) -> Value {
        let direction = self
            .link
            .as_ref()
            .map(|_| if self.up { "up" } else { "down" });
        json!({
            "table": self.table,
            "key": self.key,
            "commit": self.commit,
            "link": self.link,
            "direction": direction,
        })
    }
}

/// A derived row by its place, with its path. Values of columns with these names are hidden.
pub fn example(history: &History, spread: &Spread, at: usize, hidden: &[String]) -> Example {
    let view = View {
        history,
        spread,
        hidden,
    };
    view.example(at)
}

/// The derived rows as JSON, in their order: table, key, commit, and the row before it on its path, as its place in the same list (null
/// for a bad row). Values of columns with these names are hidden.
pub fn rows_documents<'a>(
    history: &'a History,
    spread: &'a Spread,
    hidden: &'a [String],
) -> impl Iterator<Item = Value> + 'a {
    let view = View {
        history,
        spread,
        hidden,
    };
    spread.rows.iter().map(move |row| {
        let (bad, from) = match row.parent {
            Parent::Bad(start) => {
                let start = &spread.starts[start];
                (Some(view.key(start.table, &start.name)), None)
            }
            Parent::Derived(at) => (None, Some(at)),
        };
        json!({
            "table": view.name(row.table),
            "key": view.key(row.table, &row.name),
            "commit": row.commit,
            "depth": row.depth,
            "link": spread.links[row.link].name(&history.schema),
            "direction": if row.up { "up" } else { "down" },
            "bad": bad,
            "derived": from,
        })
    })
}
