//! Random rules, as text of a rule file: what is read, compiled and judged is what people write.

use crate::fragments::{CONDITIONS, FORMATS, PATTERNS, SCALARS};
use crate::judge::QUERIES;
use crate::rng::Rng;
use crate::value::{V, date_text, stamp_text};
use crate::world::{
    CHILD, COMMON, COPY, LOOSE, PARENT, Past, TABLES, TEXTS, columns, own_columns, stamp, value,
};
use crate::writes::names_rows;

pub(crate) const STATES: [&str; 24] = [
    "not_null",
    "not_empty",
    "completeness",
    "unique",
    "accepted_values",
    "rejected_values",
    "range",
    "length",
    "matches",
    "expression",
    "references",
    "has",
    "has_no",
    "sequence",
    "window_gap",
    "balance",
    "same_rows",
    "no_overlap",
    "row_count",
    "aggregate",
    "fresh",
    "schema",
    "metric",
    "sql",
];
pub(crate) const WRITES: [&str; 11] = [
    "append_only",
    "no_delete",
    "no_resurrection",
    "immutable",
    "set_once",
    "transitions",
    "monotonic",
    "increments",
    "touched",
    "balanced_transaction",
    "mass_change",
];
/// Kinds whose answer changes with the clock or that have no keys of their own: no `within` and no `since` for them.
const TIMELESS: [&str; 4] = ["window_gap", "fresh", "schema", "metric"];
const AGGREGATES: [&str; 9] = [
    "sum(n)",
    "sum(q)",
    "count(*)",
    "count(n)",
    "count(distinct s)",
    "min(n)",
    "max(q)",
    "avg(n)",
    "avg(q)",
];
const EVERY: [&str; 5] = ["1h", "90m", "12h", "1d", "7d"];

/// Text in double quotes, for JSON and YAML alike.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A YAML list.
pub(crate) fn list<T: AsRef<str>>(items: &[T]) -> String {
    format!(
        "[{}]",
        items
            .iter()
            .map(AsRef::as_ref)
            .collect::<Vec<_>>()
            .join(", ")
    )
}

/// A rule about to be written.
pub(crate) struct Draft<'a> {
    pub(crate) rng: &'a mut Rng,
    past: &'a Past,
    table: usize,
}

/// One rule as an entry of a rule file; `position` bounds what `since` may name.
pub(crate) fn rule(rng: &mut Rng, past: &Past, kind: &str, id: usize) -> String {
    let mut table = rng.below(TABLES.len());
    if kind == "same_rows" && rng.chance(45) {
        table = PARENT;
    }
    let mut sql = None;
    if kind == "sql" {
        let query = *rng.pick(&QUERIES);
        table = query.1;
        sql = Some(query.0);
    }
    let mut draft = Draft { rng, past, table };
    let check = match sql {
        Some(sql) => quoted(sql),
        None => draft.check(kind),
    };
    let mut fields = vec![format!("id: r-{id}"), format!("table: {}", TABLES[table])];
    fields.extend(draft.header(kind, sql));
    fields.push(format!("{kind}: {check}"));
    format!("  - {{{}}}\n", fields.join(", "))
}

impl Draft<'_> {
    fn header(&mut self, kind: &str, sql: Option<&str>) -> Vec<String> {
        let mut fields = Vec::new();
        if let Some(sql) = sql {
            if (sql.contains(" n ") || sql.contains(", n")) && self.rng.chance(30) {
                fields.push(format!(
                    "where: {}",
                    quoted(self.of(&["n > 0", "n is null", "n in (0, 1, 2)"]))
                ));
            }
            let key = if sql.contains("commit") {
                "commit"
            } else if self.table == PARENT {
                "n"
            } else {
                "s"
            };
            if self.rng.chance(50) {
                fields.push(format!("key: [{key}]"));
            }
        } else {
            if self.rng.chance(40) {
                fields.push(format!("where: {}", self.condition()));
            }
            fields.extend(self.key(kind).map(|key| format!("key: {}", list(&key))));
        }
        if self.rng.chance(30) {
            fields.push(if self.rng.chance(50) {
                format!("threshold: {{max: {}}}", self.rng.below(4))
            } else {
                format!(
                    "threshold: {{max_percent: {}}}",
                    self.rng.pick(&["0", "10", "33.3", "50", "12.5", "100"])
                )
            });
        }
        if !TIMELESS.contains(&kind) {
            if self.rng.chance(12) {
                fields.push(format!(
                    "within: {}",
                    self.rng.pick(&["30m", "1h", "3h", "1d"])
                ));
            }
            if self.past.head() > 0 && self.rng.chance(10) {
                fields.push(format!(
                    "since: '#{}'",
                    1 + self.rng.below(self.past.head())
                ));
            }
        }
        fields
    }

    /// A `key:`, often for the table without a primary key.
    fn key(&mut self, kind: &str) -> Option<Vec<&'static str>> {
        if !self.rng.chance(if self.table == LOOSE { 70 } else { 12 }) {
            return None;
        }
        let all = columns(self.table);
        let key = if self.table == LOOSE && self.rng.chance(70) {
            own_columns(LOOSE).to_vec()
        } else {
            self.rng.some(&all, 1, 3)
        };
        // Which of two rows with one key was written cannot be told: that is no question for an oracle.
        let owned: Vec<String> = key.iter().map(|name| (*name).to_owned()).collect();
        let told_apart =
            self.table != LOOSE || !WRITES.contains(&kind) || names_rows(self.past, LOOSE, &owned);
        told_apart.then_some(key)
    }

    pub(crate) fn condition(&mut self) -> String {
        quoted(self.rng.pick(&CONDITIONS).0)
    }

    fn column(&mut self) -> &'static str {
        let all = columns(self.table);
        let picked: &&'static str = self.rng.pick(&all);
        picked
    }

    pub(crate) fn of(&mut self, names: &[&'static str]) -> &'static str {
        names[self.rng.below(names.len())]
    }

    pub(crate) fn columns(&mut self, most: usize) -> String {
        let all = columns(self.table);
        list(&self.rng.some(&all, 1, most))
    }

    /// `, per: [...]` for half of the rules.
    pub(crate) fn per(&mut self) -> String {
        if self.rng.chance(50) {
            return String::new();
        }
        format!(
            ", per: {}",
            list(&self.rng.some(&["s", "b", "r", "d"], 1, 2))
        )
    }

    fn number(&mut self) -> &'static str {
        self.of(&[
            "-3", "-1", "0", "0.5", "1", "1.00", "1.005", "2", "2.50", "3", "6", "9",
        ])
    }

    /// A literal for a column; numbers in any spelling that YAML has.
    fn literal(&mut self, column: &str) -> String {
        match value(self.rng, column, 0) {
            V::Int(value) => value.to_string(),
            V::Dec(_) => self.number().to_owned(),
            V::Bool(value) => value.to_string(),
            V::Date(days) => quoted(&date_text(days)),
            V::Stamp(micros) | V::Local(micros) => quoted(&(stamp_text(micros) + "Z")),
            V::Text(text) => quoted(&text),
            V::Null => "null".to_owned(),
        }
    }

    fn literals(&mut self, column: &str, most: usize) -> String {
        let count = 1 + self.rng.below(most);
        let mut all: Vec<String> = (0..count).map(|_| self.literal(column)).collect();
        if self.rng.chance(20) {
            all.push("null".to_owned());
        }
        all.sort();
        all.dedup();
        list(&all)
    }

    fn count_bounds(&mut self, most: usize) -> String {
        let (low, high) = (self.rng.below(most), self.rng.below(most));
        let (low, high) = (low.min(high), low.max(high));
        match self.rng.below(3) {
            0 => format!("min: {}", low + 1),
            1 => format!("max: {high}"),
            _ => format!("min: {low}, max: {high}"),
        }
    }

    fn check(&mut self, kind: &str) -> String {
        match kind {
            "not_null" | "not_empty" => self.columns(2),
            "unique" => {
                let all = columns(self.table);
                list(&self.rng.some(&all, 1, 2))
            }
            "completeness" => {
                let share = self.of(&["0", "50", "60", "75", "90", "99.9", "100"]);
                format!("{{column: {}, min_percent: {share}}}", self.column())
            }
            "accepted_values" | "rejected_values" => {
                let column = self.column();
                format!("{{column: {column}, values: {}}}", self.literals(column, 6))
            }
            "range" => self.range(),
            "length" => format!(
                "{{column: {}, {}}}",
                self.of(&["s", "s", "n", "q"]),
                self.count_bounds(5)
            ),
            "matches" if self.rng.chance(50) => {
                format!(
                    "{{column: s, pattern: {}}}",
                    quoted(self.rng.pick(&PATTERNS).0)
                )
            }
            "matches" => format!("{{column: s, format: {}}}", self.rng.pick(&FORMATS).0),
            "expression" if self.rng.chance(50) => self.condition(),
            "expression" => format!(
                "{{sql: {}, \"null\": {}}}",
                self.condition(),
                self.of(&["violated", "passes"])
            ),
            "references" => self.references(),
            "has" | "has_no" => self.has(kind),
            "sequence" => {
                let from = if self.rng.chance(50) {
                    format!(", from: {}", self.rng.between(-4, 3))
                } else {
                    String::new()
                };
                let step = if self.rng.chance(40) {
                    format!(", step: {}", self.rng.between(1, 3))
                } else {
                    String::new()
                };
                format!(
                    "{{column: {}{}{step}{from}}}",
                    self.of(&["n", "v", "w"]),
                    self.per()
                )
            }
            "window_gap" => {
                let rows = if self.rng.chance(40) {
                    format!(", min_rows: {}", self.rng.between(1, 3))
                } else {
                    String::new()
                };
                format!(
                    "{{column: {}, every: {}{}{rows}}}",
                    self.of(&["t", "u", "d"]),
                    self.of(&EVERY),
                    self.per()
                )
            }
            "balance" => self.balance(),
            "same_rows" => self.same_rows(),
            "no_overlap" => {
                let (from, to) =
                    *self
                        .rng
                        .pick(&[("t", "u"), ("t", "u"), ("n", "v"), ("w", "n"), ("u", "t")]);
                format!("{{from: {from}, to: {to}{}}}", self.per())
            }
            "row_count" => format!("{{{}{}}}", self.count_bounds(8), self.per()),
            "aggregate" => {
                let sql = self.of(&AGGREGATES);
                let bounds = match self.rng.below(3) {
                    0 if !sql.starts_with("avg") => format!("equals: {}", self.number()),
                    1 => format!("min: {}", self.number()),
                    _ => format!(
                        "min: {}, max: {}",
                        self.of(&["-2", "0", "0.5"]),
                        self.of(&["1", "2.5", "9"])
                    ),
                };
                format!("{{sql: {}, {bounds}{}}}", quoted(sql), self.per())
            }
            "fresh" => {
                let age = self.of(&["30m", "1h", "3h", "12h", "1d", "2d"]);
                format!(
                    "{{column: {}, max_age: {age}{}}}",
                    self.of(&["t", "u", "d"]),
                    self.per()
                )
            }
            "schema" => self.schema(),
            "metric" => {
                let sql = self.of(&[
                    "count(*)",
                    "sum(n)",
                    "sum(q)",
                    "count(n)",
                    "(select count(*) from child)",
                ]);
                let detect = match self.rng.below(3) {
                    0 => format!("jump_percent: {}", self.of(&["20", "50", "100"])),
                    1 => format!("drift_percent: {}, window: 3", self.of(&["10", "25", "50"])),
                    _ => "jump_percent: 100, drift_percent: 20".to_owned(),
                };
                format!(
                    "{{sql: {}, every: {}, detect: {{{detect}}}}}",
                    quoted(sql),
                    self.of(&["30m", "1h", "1d"])
                )
            }
            _ => self.write_check(kind),
        }
    }

    fn range(&mut self) -> String {
        let column = self.of(&["n", "q", "v", "d", "t", "s", "q", "n"]);
        let (low, high) = (self.bound(column), self.bound(column));
        let bounds = match self.rng.below(3) {
            0 => format!("min: {}", low.1),
            1 => format!("max: {}", high.1),
            _ if low.0 < high.0 => format!("min: {}, max: {}", low.1, high.1),
            _ if low.0 > high.0 => format!("min: {}, max: {}", high.1, low.1),
            _ => format!("min: {}", low.1),
        };
        let exclusive = if self.rng.chance(50) {
            ""
        } else {
            self.of(&[
                ", exclusive: min",
                ", exclusive: max",
                ", exclusive: both",
                ", exclusive: none",
            ])
        };
        format!("{{column: {column}, {bounds}{exclusive}}}")
    }

    /// A bound with its place among others.
    fn bound(&mut self, column: &str) -> (V, String) {
        match column {
            "d" => {
                let days = i32::try_from(self.rng.between(-3, 3)).expect("small");
                (V::Date(days), quoted(&date_text(days)))
            }
            "t" => {
                let micros = stamp(self.rng);
                (V::Stamp(micros), quoted(&(stamp_text(micros) + "Z")))
            }
            "s" => {
                let text = *self.rng.pick(&TEXTS);
                (V::Text(text.to_owned()), quoted(text))
            }
            _ => {
                let text = self.number();
                let hundredths = crate::value::millionths(text);
                (
                    V::Int(i64::try_from(hundredths).expect("small")),
                    text.to_owned(),
                )
            }
        }
    }

    fn references(&mut self) -> String {
        match self.rng.below(6) {
            0 => "{column: r, to: parent.id}".to_owned(),
            1 => "{column: n, to: copy}".to_owned(),
            2 if self.table == CHILD => {
                "{columns: [r, k], to: {table: child, columns: [a, k]}}".to_owned()
            }
            2 => format!("{{column: {}, to: loose.id}}", self.of(&["r", "v", "n"])),
            3 => "{columns: [n, s], to: {table: copy, columns: [n, s]}}".to_owned(),
            4 => "{columns: [r, b], to: {table: loose, columns: [id, b]}}".to_owned(),
            _ => format!("{{column: q, to: {}.n}}", self.of(&TABLES)),
        }
    }

    fn has(&mut self, kind: &str) -> String {
        let child = self.rng.below(TABLES.len());
        let pairs = match self.rng.below(4) {
            0 => format!("{{{}: r}}", own_columns(child)[0]),
            1 => format!("{{r: {}}}", own_columns(self.table)[0]),
            2 => "{n: n, b: b}".to_owned(),
            _ => "{s: s}".to_owned(),
        };
        let filter = if self.rng.chance(40) {
            format!(", where: {}", self.condition())
        } else {
            String::new()
        };
        let bounds = match self.rng.below(6) {
            _ if kind == "has_no" => "",
            0 => ", min: 2",
            1 => ", max: 1",
            2 => ", min: 0, max: 2",
            3 => ", min: 2, max: 2",
            4 => ", min: 0, max: 0",
            _ => "",
        };
        format!(
            "{{table: {}, match: {pairs}{filter}{bounds}}}",
            TABLES[child]
        )
    }

    /// What may stand beside an aggregate.
    fn beside(&mut self) -> &'static str {
        self.of(&["", "", "", " + 1", " - 1", " + 3"])
    }

    fn balance(&mut self) -> String {
        let other = self.rng.below(TABLES.len());
        let own = own_columns(other)[0];
        let right = *self.rng.pick(&[
            "sum(T.q)",
            "sum(T.n)",
            "count(T.*)",
            "count(T.n)",
            "max(T.n)",
            "min(T.q)",
            "avg(T.n)",
        ]);
        let right = if other == self.table && self.rng.chance(50) {
            right.replace("T.", "")
        } else {
            right.replace('T', TABLES[other])
        } + self.beside();
        let pairs = match self.rng.below(4) {
            0 => format!("{{r: {}}}", own_columns(self.table)[0]),
            1 => format!("{{{own}: r}}"),
            2 => "{b: b, s: s}".to_owned(),
            _ => "{d: d}".to_owned(),
        };
        let aggregate = self.of(&["sum(q)", "sum(n)", "count(*)", "max(n)", "min(q)"]);
        let aggregate = &(aggregate.to_owned() + self.beside());
        let (left, by) = if self.rng.chance(40) {
            (
                aggregate.as_str(),
                format!("per: {}", list(&self.rng.some(&["b", "r", "s", "d"], 1, 2))),
            )
        } else if self.rng.chance(25) {
            (aggregate.as_str(), format!("match: {pairs}"))
        } else {
            (self.rng.pick(&SCALARS).0, format!("match: {pairs}"))
        };
        let filter = if self.rng.chance(30) {
            format!(", where: {}", self.condition())
        } else {
            String::new()
        };
        let tolerance = self.of(&[
            "",
            "",
            ", tolerance: 0.005",
            ", tolerance: 1",
            ", tolerance: 2.5",
        ]);
        format!(
            "{{left: {}, right: {}, {by}{filter}{tolerance}}}",
            quoted(left),
            quoted(&right)
        )
    }

    fn same_rows(&mut self) -> String {
        let other = if self.rng.chance(70) {
            COPY
        } else {
            self.rng.below(TABLES.len())
        };
        let theirs = own_columns(other)[0];
        let own = own_columns(self.table)[0];
        let pairs = match self.rng.below(5) {
            0 => "{n: n, s: s}".to_owned(),
            1 => format!("{{{theirs}: r}}"),
            _ => format!("{{{theirs}: {own}}}"),
        };
        let columns = if self.rng.chance(60) {
            format!(", columns: {}", list(&self.rng.some(&COMMON, 1, 3)))
        } else {
            String::new()
        };
        let tolerance = self.of(&["", "", ", tolerance: 0.01", ", tolerance: 1"]);
        format!(
            "{{as: {}, match: {pairs}{columns}{tolerance}}}",
            TABLES[other]
        )
    }

    fn schema(&mut self) -> String {
        let all = columns(self.table);
        let wrong = self.rng.chance(50);
        let many = if self.rng.chance(50) { all.len() } else { 3 };
        let mut entries = Vec::new();
        for name in self.rng.some(&all, many.min(2), many) {
            let names = [
                "int",
                "int4",
                "integer",
                "bigint",
                "int8",
                "text",
                "'numeric(8,2)'",
                "'decimal(8, 2)'",
                "bool",
                "date",
                "timestamptz",
                "timestamp with time zone",
            ];
            let right = |named: &&&str| crate::states::is_type(name, named.trim_matches('\''));
            let fitting: Vec<&str> = names.iter().filter(right).copied().collect();
            let named = if wrong && self.rng.chance(25) {
                *self.rng.pick(&names)
            } else {
                *self.rng.pick(&fitting)
            };
            entries.push(format!("{name}: {named}"));
        }
        if wrong && self.rng.chance(40) {
            entries.push("gone: text".to_owned());
        }
        format!(
            "{{columns: {{{}}}, strict: {}}}",
            entries.join(", "),
            self.rng.chance(40)
        )
    }
}
