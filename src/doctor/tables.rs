//! The tables: who may read them, which row a change is about, and what of them is not told.

use super::{Finding, Severity, Subject};
use crate::postgres::catalog::{Identity, TableInfo, quoted, quoted_table};
use crate::schema::{DataType, Table, TableName};

/// So many names are listed.
const NAMES: usize = 5;

pub(super) fn examine(subject: &Subject<'_>, has_rules: bool, found: &mut Vec<Finding>) {
    privileges(subject, has_rules, found);
    for &at in &subject.tables {
        let (info, table) = (
            &subject.catalog.tables[at],
            &subject.catalog.schema().tables[at],
        );
        if info.unlogged {
            found.push(
                Finding::new(
                    "unlogged",
                    Severity::Blocks,
                    format!("{} is unlogged", info.name.short()),
                    "its changes are in no log",
                )
                .of(&info.name)
                .fix(format!(
                    "alter table {} set logged;",
                    quoted_table(&info.name)
                ))
                .hint("the statement writes the whole table to the log, and locks it meanwhile"),
            );
        }
        identity(info, table, found);
        if info.inherited {
            found.push(
                Finding::new(
                    "inherited",
                    Severity::Note,
                    format!("other tables inherit from {}", info.name.short()),
                    "their rows are not its rows: rules judge those of the table alone",
                )
                .of(&info.name),
            );
        }
        columns(subject, at, has_rules, found);
    }
}

/// SELECT and row security. A watcher keeps whole rows, so that all columns are needed.
fn privileges(subject: &Subject<'_>, has_rules: bool, found: &mut Vec<Finding>) {
    let facts = subject.facts;
    let role = quoted(&facts.role);
    let tables = subject.tables.iter().map(|at| &subject.catalog.tables[*at]);
    let is_open = |info: &&TableInfo| {
        info.readable || !info.columns.is_empty() && info.columns.iter().all(|c| c.readable)
    };
    let closed: Vec<&TableInfo> = tables.clone().filter(|info| !is_open(info)).collect();
    if !closed.is_empty() {
        let is_read = |at: &usize| {
            let columns = &subject.catalog.tables[*at].columns;
            let mut read = subject.read(*at, has_rules).into_iter();
            columns.iter().any(|c| c.readable) && read.all(|c| columns[c].readable)
        };
        let can_check = subject.tables.iter().all(is_read);
        let names: Vec<TableName> = closed.iter().map(|info| info.name.clone()).collect();
        let mut finding = Finding::new(
            "no-select",
            Severity::Blocks,
            format!("role {} may not read {}", facts.role, list(&names)),
            "the state at which the stream begins cannot be read",
        );
        if !can_check {
            finding = finding.stops_reading();
        }
        let mut schemas: Vec<&str> = names.iter().map(|name| name.schema.as_str()).collect();
        schemas.dedup();
        for schema in schemas
            .into_iter()
            .filter(|schema| facts.closed_schemas.contains(*schema))
        {
            finding = finding.fix(format!(
                "grant usage on schema {} to {role};",
                quoted(schema)
            ));
        }
        for name in &names {
            finding = finding.fix(format!("grant select on {} to {role};", quoted_table(name)));
        }
        found.push(finding);
    }
    let secured: Vec<TableName> = tables
        .filter(|info| info.row_security)
        .map(|info| info.name.clone())
        .collect();
    if !secured.is_empty() {
        found.push(
            Finding::new(
                "row-security",
                Severity::Blocks,
                format!(
                    "row security hides rows of {} from role {}",
                    list(&secured),
                    facts.role
                ),
                "a state with fewer rows than there are would be judged",
            )
            .stops_reading()
            .fix(format!("alter role {role} bypassrls;"))
            .hint("connect as the tables' owner, or let the role see all rows"),
        );
    }
}

fn list(names: &[TableName]) -> String {
    let shown: Vec<String> = names.iter().take(NAMES).map(TableName::short).collect();
    match names.len().saturating_sub(NAMES) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// What holds rows, by name, with its own identity: a partitioned table's counts for nothing.
fn places(info: &TableInfo) -> Vec<(&TableName, &Identity)> {
    match info.partitioned {
        true => info
            .leaves
            .iter()
            .map(|leaf| (&leaf.name, &leaf.identity))
            .collect(),
        false => vec![(&info.name, &info.identity)],
    }
}

fn identity(info: &TableInfo, table: &Table, found: &mut Vec<Finding>) {
    let places = places(info);
    let name = info.name.short();
    let of = |wanted: fn(&Identity) -> bool| -> Vec<&TableName> {
        let matching = places.iter().filter(|(_, identity)| wanted(identity));
        matching.map(|(name, _)| *name).collect()
    };
    let set = |mut finding: Finding, tables: &[&TableName], to: &str| {
        for table in tables {
            finding = finding.fix(format!(
                "alter table {} replica identity {to};",
                quoted_table(table)
            ));
        }
        finding
    };
    if table.primary_key.is_empty() {
        let not_full = of(|identity| !matches!(identity, Identity::Full));
        if !not_full.is_empty() {
            let finding = Finding::new(
                "no-key",
                Severity::Blocks,
                format!("{name} has no primary key"),
                "published without an identity, its owner's UPDATEs and DELETEs would fail: it is not published",
            ).of(&info.name).hint("a primary key is better, where there can be one: with FULL, each UPDATE and DELETE writes the whole old row to the log");
            found.push(set(finding, &not_full, "full"));
        } else {
            found.push(Finding::new(
                "full-needed",
                Severity::Note,
                format!("{name} has no primary key, and REPLICA IDENTITY FULL in its place"),
                "equal rows cannot be told apart, and each UPDATE and DELETE writes the whole old row to the log",
            ).of(&info.name));
        }
        return;
    }
    let nothing = of(|identity| matches!(identity, Identity::Nothing));
    if !nothing.is_empty() {
        let finding = Finding::new(
            "identity-nothing",
            Severity::Blocks,
            format!(
                "{} REPLICA IDENTITY NOTHING",
                holders(&name, info, &nothing)
            ),
            "published, its owner's UPDATEs and DELETEs would fail",
        )
        .of(&info.name);
        found.push(set(finding, &nothing, "default"));
    }
    let index = of(|identity| matches!(identity, Identity::Index(_)));
    if !index.is_empty() {
        let finding = Finding::new(
            "identity-index",
            Severity::Blocks,
            format!(
                "{} another index than the primary key as REPLICA IDENTITY",
                holders(&name, info, &index)
            ),
            "changes do not name the row by its key",
        )
        .of(&info.name);
        found.push(set(finding, &index, "default"));
    }
    let full = of(|identity| matches!(identity, Identity::Full));
    if !full.is_empty() {
        let finding = Finding::new(
            "identity-full",
            Severity::Note,
            format!("{} REPLICA IDENTITY FULL", holders(&name, info, &full)),
            "each UPDATE and DELETE writes the whole old row to the log, about twice as much; the watcher needs the primary key only",
        ).of(&info.name).hint("unless another reader of the log needs the old rows");
        found.push(set(finding, &full, "default"));
    }
}

fn holders(name: &str, info: &TableInfo, places: &[&TableName]) -> String {
    match (info.partitioned, places) {
        (false, _) => format!("{name} has"),
        (true, [one]) => format!("partition {} of {name} has", one.short()),
        (true, [first, rest @ ..]) => format!(
            "partition {} of {name}, and {} more, have",
            first.short(),
            rest.len()
        ),
        (true, []) => format!("{name} has"),
    }
}

/// Columns of which not every value is told or held.
fn columns(subject: &Subject<'_>, at: usize, has_rules: bool, found: &mut Vec<Finding>) {
    let (info, table) = (
        &subject.catalog.tables[at],
        &subject.catalog.schema().tables[at],
    );
    let read = subject.read(at, has_rules);
    let mut texts = Vec::new();
    for column in read {
        let (Some(declared), Some(known)) = (table.columns.get(column), info.columns.get(column))
        else {
            continue;
        };
        if known.generated {
            let readers = subject.readers(at, column);
            let who = match readers.is_empty() {
                true => "rules that read it are".to_owned(),
                false => format!(
                    "{} {} is",
                    if readers.len() == 1 {
                        "rule"
                    } else {
                        "each of"
                    },
                    readers.join(", ")
                ),
            };
            found.push(
                Finding::new(
                    "generated",
                    Severity::Weakens,
                    format!(
                        "{}.{} is generated: the stream does not tell its values",
                        info.name.short(),
                        declared.name
                    ),
                    format!("{who} unknown while watching; `check` reads it"),
                )
                .of(&info.name)
                .hint("write the rule with the expression that the column is computed by"),
            );
        }
        if let DataType::Other(name) = &declared.data_type {
            texts.push(format!("{} ({name})", declared.name));
        }
    }
    if !texts.is_empty() {
        found.push(
            Finding::new(
                "kept-as-text",
                Severity::Note,
                format!(
                    "{} of {}: types without a kind of their own",
                    texts.join(", "),
                    info.name.short()
                ),
                "their values are compared as the texts that Postgres prints",
            )
            .of(&info.name),
        );
    }
}
