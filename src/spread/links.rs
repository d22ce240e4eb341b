//! Which rows refer to which: foreign keys, and what rules match.

use crate::rule::{Check, Match, Rule};
use crate::schema::{Schema, Table, TableName};

/// Rows of one table refer to rows of another: columns there hold the same as columns here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link {
    /// The table that refers, as an index into the schema.
    pub child: usize,
    /// Its columns.
    pub columns: Vec<usize>,
    /// The table referred to.
    pub parent: usize,
    /// The columns that hold the same there.
    pub to: Vec<usize>,
}

impl Link {
    /// The link for people: `invoices.order_id → orders.id`.
    pub fn name(&self, schema: &Schema) -> String {
        let side = |table: usize, columns: &[usize]| {
            let table = &schema.tables[table];
            let names: Vec<&str> = columns
                .iter()
                .map(|&at| table.columns[at].name.as_str())
                .collect();
            let names = match names.as_slice() {
                [one] => (*one).to_owned(),
                several => format!("({})", several.join(", ")),
            };
            format!("{}.{names}", table.name.short())
        };
        let child = side(self.child, &self.columns);
        format!("{child} → {}", side(self.parent, &self.to))
    }
}

/// The foreign keys of a schema, in its order; those that lead to what is not in it are left out.
pub fn links_of_schema(schema: &Schema) -> Vec<Link> {
    let mut out = Vec::new();
    for (child, table) in schema.tables.iter().enumerate() {
        for key in &table.foreign_keys {
            let Some(parent) = schema.table_index(&key.to_table) else {
                continue;
            };
            let to_table = &schema.tables[parent];
            let to = match key.to_columns.is_empty() {
                true => Some(to_table.primary_key.clone()),
                false => columns(to_table, &key.to_columns),
            };
            let link = columns(table, &key.columns)
                .zip(to)
                .map(|(columns, to)| Link {
                    child,
                    columns,
                    parent,
                    to,
                });
            add(&mut out, link);
        }
    }
    out
}

/// What a rule matches: `references`, `has`, `has_no` and `same_rows` say which rows belong together where no foreign key does.
pub fn links_of_rule(schema: &Schema, rule: &Rule) -> Vec<Link> {
    let subject = rule.table.as_ref().map(|table| &table.value);
    let Some(subject) = subject.and_then(|name| schema.table_index(name)) else {
        return Vec::new();
    };
    let of = |name: &TableName| schema.table_index(name);
    let mut out = Vec::new();
    match &rule.check {
        Check::References {
            columns: from,
            to,
            to_columns,
        } => {
            let names = |list: &[crate::rule::ColumnRef]| -> Vec<String> {
                list.iter().map(|one| one.value.clone()).collect()
            };
            let Some(parent) = of(&to.value) else {
                return out;
            };
            let link = columns(&schema.tables[subject], &names(from))
                .zip(columns(&schema.tables[parent], &names(to_columns)))
                .map(|(columns, to)| Link {
                    child: subject,
                    columns,
                    parent,
                    to,
                });
            add(&mut out, link);
        }
        Check::Has {
            table, matching, ..
        }
        | Check::HasNo {
            table, matching, ..
        }
        | Check::SameRows {
            other: table,
            matching,
            ..
        } => add(
            &mut out,
            of(&table.value).and_then(|child| matched(schema, child, subject, matching)),
        ),
        _ => {}
    }
    out
}

fn matched(schema: &Schema, child: usize, parent: usize, matching: &Match) -> Option<Link> {
    let column = |table: usize, name: &str| schema.tables[table].column_index(name);
    let pair = |(there, here): &(crate::rule::ColumnRef, crate::rule::ColumnRef)| {
        column(child, &there.value).zip(column(parent, &here.value))
    };
    let pairs: Option<Vec<(usize, usize)>> = matching.iter().map(pair).collect();
    let (columns, to) = pairs?.into_iter().unzip();
    Some(Link {
        child,
        columns,
        parent,
        to,
    })
}

fn columns(table: &Table, names: &[String]) -> Option<Vec<usize>> {
    names.iter().map(|name| table.column_index(name)).collect()
}

/// Adds links to others, but for those that are among them.
pub fn add_links(to: &mut Vec<Link>, links: Vec<Link>) {
    links.into_iter().for_each(|link| add(to, Some(link)));
}

/// Adds a link that says something and is not there yet.
fn add(out: &mut Vec<Link>, link: Option<Link>) {
    let sound = |link: &Link| !link.columns.is_empty() && link.columns.len() == link.to.len();
    if let Some(link) = link.filter(sound)
        && !out.iter().any(|have| same(have, &link))
    {
        out.push(link);
    }
}

/// Whether two links say the same, in whatever order their columns stand.
fn same(a: &Link, b: &Link) -> bool {
    let pairs = |link: &Link| {
        let pairs = link.columns.iter().copied().zip(link.to.iter().copied());
        let mut pairs: Vec<(usize, usize)> = pairs.collect();
        pairs.sort_unstable();
        pairs
    };
    (a.child, a.parent) == (b.child, b.parent) && pairs(a) == pairs(b)
}
