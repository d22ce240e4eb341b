//! The publication: whether it is there, and whether it tells everything.

use super::facts::Publication;
use super::{Finding, Severity, Subject};
use crate::diagnostic::counted;
use crate::postgres::catalog::{quoted, quoted_table};
use crate::schema::TableName;

/// The oldest server whose publications tell of partitions by the name of their root.
const ROOT_SINCE: u32 = 130_000;
/// So many names are listed.
const NAMES: usize = 5;

pub(super) fn examine(subject: &Subject<'_>, found: &mut Vec<Finding>) {
    let partitioned = |at: &usize| subject.catalog.tables[*at].partitioned;
    let any_partitioned = subject.tables.iter().any(partitioned);
    if any_partitioned && subject.facts.version < ROOT_SINCE {
        found.push(Finding::new(
            "no-root",
            Severity::Blocks,
            format!(
                "PostgreSQL {} cannot tell of partitions as of their table",
                subject.facts.version_text
            ),
            "partitioned tables cannot be watched; PostgreSQL 13 and later can",
        ));
    }
    if subject.tables.is_empty() {
        found.push(Finding::new(
            "nothing-to-watch",
            Severity::Blocks,
            "no rule reads a table of the database",
            "there is nothing to watch",
        ));
        return;
    }
    match &subject.facts.publication {
        None => missing(subject, found),
        Some(publication) => there(subject, publication, any_partitioned, found),
    }
}

fn list(subject: &Subject<'_>, tables: &[usize]) -> String {
    let names = tables
        .iter()
        .map(|at| quoted_table(&subject.catalog.tables[*at].name));
    names.collect::<Vec<String>>().join(", ")
}

fn short(names: &[TableName]) -> String {
    let shown: Vec<String> = names.iter().take(NAMES).map(TableName::short).collect();
    match names.len().saturating_sub(NAMES) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Whether our role owns all of these tables.
fn owns(subject: &Subject<'_>, tables: &[usize]) -> bool {
    let oid = |at: &usize| subject.catalog.tables[*at].oid;
    tables
        .iter()
        .all(|at| subject.facts.owned.contains(&oid(at)))
}

fn missing(subject: &Subject<'_>, found: &mut Vec<Finding>) {
    let name = subject.publication;
    let root = match subject.facts.version >= ROOT_SINCE {
        true => " with (publish_via_partition_root = true)",
        false => "",
    };
    let sql = format!(
        "create publication {} for table {}{root};",
        quoted(name),
        list(subject, &subject.tables)
    );
    let may =
        subject.facts.may_create && owns(subject, &subject.tables) && !subject.facts.in_recovery;
    let message = format!("there is no publication {name}");
    let finding = match may {
        true => Finding::new("no-publication", Severity::Note, message, "nothing: the watcher makes it when it begins, for the tables that its rules read"),
        false => Finding::new(
            "no-publication",
            Severity::Blocks,
            format!("{message}, and role {} may not make it", subject.facts.role),
            "nothing can be streamed",
        )
        .hint("the tables' owner, with CREATE on the database, runs it: as it stands here, or by sql/02-publication.sql"),
    };
    found.push(finding.fix(sql));
}

fn there(
    subject: &Subject<'_>,
    publication: &Publication,
    any_partitioned: bool,
    found: &mut Vec<Finding>,
) {
    let name = subject.publication;
    let sql = quoted(name);
    if !publication.all_operations {
        found.push(
            Finding::new(
                "not-all-operations",
                Severity::Blocks,
                format!(
                    "publication {name} does not publish all of insert, update, delete and truncate"
                ),
                "writes that are not told would make the state another one than the database's",
            )
            .fix(format!(
                "alter publication {sql} set (publish = 'insert, update, delete, truncate');"
            )),
        );
    }
    if any_partitioned && !publication.via_root && subject.facts.version >= ROOT_SINCE {
        found.push(
            Finding::new(
                "not-via-root",
                Severity::Blocks,
                format!("publication {name} tells of partitions, not of their tables"),
                "changes of partitions are not those of the tables that rules read",
            )
            .fix(format!(
                "alter publication {sql} set (publish_via_partition_root = true);"
            )),
        );
    }
    if !publication.hidden.is_empty() {
        let whole = publication
            .hidden
            .iter()
            .map(quoted_table)
            .collect::<Vec<_>>()
            .join(", ");
        found.push(
            Finding::new(
                "hidden-rows",
                Severity::Blocks,
                format!(
                    "publication {name} has a row filter or a list of columns for {}",
                    short(&publication.hidden)
                ),
                "what is hidden cannot be watched",
            )
            .fix(format!("alter publication {sql} drop table {whole};"))
            .fix(format!("alter publication {sql} add table {whole};")),
        );
    }
    not_published(subject, publication, found);
    if publication.all_tables {
        found.push(Finding::new(
            "all-tables",
            Severity::Weakens,
            format!("publication {name} is for all tables"),
            "every change of the database is decoded and sent; and UPDATEs and DELETEs fail in every table, also in those to come, that has neither a primary key nor another identity",
        ).hint("name the tables: drop it, and let the owner run sql/02-publication.sql"));
    }
    let watched = |table: &TableName| {
        subject
            .tables
            .iter()
            .any(|at| subject.catalog.tables[*at].name == *table)
    };
    let others = publication
        .tables
        .iter()
        .map(|(schema, table)| TableName::new(schema.as_str(), table.as_str()));
    let others: Vec<TableName> = others.filter(|table| !watched(table)).collect();
    if !others.is_empty() && !publication.all_tables && any_watched_published(subject, publication)
    {
        found.push(Finding::new(
            "more-published",
            Severity::Note,
            format!(
                "publication {name} has {} that no rule reads: {}",
                counted(others.len() as u64, "table"),
                short(&others)
            ),
            "their changes are sent and passed over",
        ));
    }
    if !publication.without_identity.is_empty() {
        let mut finding = Finding::new(
            "published-without-identity",
            Severity::Blocks,
            format!(
                "publication {name} has {} without a primary key or another identity",
                short(&publication.without_identity)
            ),
            "their owners' UPDATEs and DELETEs fail now, whether anybody watches or not",
        )
        .hint("a primary key is better, where there can be one");
        for table in &publication.without_identity {
            finding = finding.fix(format!(
                "alter table {} replica identity full;",
                quoted_table(table)
            ));
        }
        found.push(finding);
    }
}

fn any_watched_published(subject: &Subject<'_>, publication: &Publication) -> bool {
    subject
        .tables
        .iter()
        .any(|at| is_published(subject, publication, *at))
}

fn is_published(subject: &Subject<'_>, publication: &Publication, at: usize) -> bool {
    let name = &subject.catalog.tables[at].name;
    publication
        .tables
        .contains(&(name.schema.clone(), name.name.clone()))
}

fn not_published(subject: &Subject<'_>, publication: &Publication, found: &mut Vec<Finding>) {
    let name = subject.publication;
    let absent = |at: &usize| -> bool {
        // A publication that tells of partitions names those.
        let partitioned = subject.catalog.tables[*at].partitioned && !publication.via_root;
        !publication.all_tables && !partitioned && !is_published(subject, publication, *at)
    };
    let absent: Vec<usize> = subject.tables.iter().copied().filter(absent).collect();
    if absent.is_empty() {
        return;
    }
    let names: Vec<TableName> = absent
        .iter()
        .map(|at| subject.catalog.tables[*at].name.clone())
        .collect();
    let message = format!("publication {name} lacks {}", short(&names));
    let may = publication.is_ours && owns(subject, &absent) && !subject.facts.in_recovery;
    let finding = match may {
        true => Finding::new(
            "not-published",
            Severity::Note,
            message,
            "the watcher adds what its rules read when it starts; for one that has a history of these tables, that is a gap",
        ),
        false => Finding::new(
            "not-published",
            Severity::Blocks,
            format!(
                "{message}, and role {} may not add that",
                subject.facts.role
            ),
            "their changes are not told",
        )
        .hint(format!(
            "{} owns the publication, and must own the tables as well",
            publication.owner
        )),
    };
    found.push(finding.fix(format!(
        "alter publication {} add table {};",
        quoted(name),
        list(subject, &absent)
    )));
}
