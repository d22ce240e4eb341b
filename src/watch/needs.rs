//! What rules need of a database, and whether its tables can be followed.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::WatchError;
use crate::judge::{Columns, Judge, Limits, Options};
use crate::postgres::Catalog;
use crate::postgres::catalog::{Identity, TableInfo};
use crate::postgres::relations::{Relations, Watched, WatchedColumn};
use crate::rule::Rule;
use crate::schema::{DataType, Schema};
use crate::state::{History, Origin};

/// What a rule set needs of a database.
#[derive(Debug)]
pub(crate) struct Needs {
    /// Tables of the catalog, in its order.
    pub(crate) tables: Vec<usize>,
    /// For each of them: columns that no rule reads, so that the state need not hold them; none for tables whose changes are read.
    pub(crate) unread: Vec<Vec<usize>>,
    /// What each rule reads, in the order of the rules.
    pub(crate) rules: Vec<RuleReads>,
}

/// What one rule reads: of each table of the catalog the columns, of the state or of its changes.
#[derive(Debug)]
pub(crate) struct RuleReads {
    /// The rule's id.
    pub(crate) rule: String,
    /// Columns by table.
    pub(crate) tables: Columns,
}

/// What rules read, by the catalog.
///
/// # Errors
/// Every mistake in every rule.
pub(crate) fn needs(
    catalog: &Catalog,
    rules: &[Rule],
    limits: &Limits,
) -> Result<Needs, WatchError> {
    let schema = catalog.schema();
    let empty = History::new(schema.clone(), Origin::Changes, false);
    let judge = Judge::new(Arc::new(empty), limits.clone()).map_err(WatchError::Engine)?;
    let options = Options {
        position: 0,
        now_us: None,
        sample: None,
    };
    let prepared = judge.prepare(rules, &options).map_err(WatchError::Rules)?;
    let mut all = Columns::new();
    let mut written = BTreeSet::new();
    let mut by_rule = Vec::with_capacity(prepared.len());
    for rule in &prepared {
        let reads = judge.reads(std::slice::from_ref(rule), &options);
        let mut tables = reads.state;
        // A rule about the schema reads nothing, and its table is watched all the same.
        let subject = rule.rule.table.as_ref().map(|table| &table.value);
        if let Some(at) = subject.and_then(|table| schema.table_index(table)) {
            tables.entry(at).or_default();
        }
        written.extend(reads.written.keys().copied());
        for (at, columns) in reads.written {
            tables.entry(at).or_default().extend(columns);
        }
        for (at, columns) in &tables {
            all.entry(*at).or_default().extend(columns);
        }
        by_rule.push(RuleReads {
            rule: rule.rule.id.clone(),
            tables,
        });
    }
    let unread = |(at, read): (&usize, &BTreeSet<usize>)| -> Vec<usize> {
        let columns = 0..schema.tables[*at].columns.len();
        match written.contains(at) {
            true => Vec::new(),
            false => columns.filter(|column| !read.contains(column)).collect(),
        }
    };
    Ok(Needs {
        unread: all.iter().map(unread).collect(),
        tables: all.keys().copied().collect(),
        rules: by_rule,
    })
}

/// Refuses tables that cannot be followed, all of them at once.
pub(super) fn followable(catalog: &Catalog, needs: &Needs) -> Result<(), WatchError> {
    let mut wrong = Vec::new();
    for &at in &needs.tables {
        let (info, table) = (&catalog.tables[at], &catalog.schema().tables[at]);
        let name = table.name.short();
        let no_key = table.primary_key.is_empty();
        let identities = info.leaves.iter().map(|leaf| &leaf.identity);
        let identities: Vec<&Identity> = match info.partitioned {
            true => identities.collect(),
            false => vec![&info.identity],
        };
        let is = |wanted: fn(&Identity) -> bool| identities.iter().any(|one| wanted(one));
        if info.row_security {
            wrong.push(format!(
                "row security hides rows of {name} from our role: let it bypass row security"
            ));
        } else if !info.readable {
            wrong.push(format!(
                "our role may not read all of {name}: GRANT SELECT ON {name} TO it"
            ));
        } else if info.unlogged {
            wrong.push(format!(
                "{name} is unlogged: its changes are not in the log"
            ));
        } else if no_key && !identities.iter().all(|one| matches!(one, Identity::Full)) {
            wrong.push(format!(
                "{name} has no primary key: published, its owner's UPDATEs and DELETEs would fail; give it one, or ALTER TABLE {name} REPLICA IDENTITY FULL"
            ));
        } else if is(|one| matches!(one, Identity::Nothing)) {
            wrong.push(format!(
                "{name} has REPLICA IDENTITY NOTHING: published, its owner's UPDATEs and DELETEs would fail; ALTER TABLE {name} REPLICA IDENTITY DEFAULT"
            ));
        } else if is(|one| matches!(one, Identity::Index { .. })) {
            wrong.push(format!(
                "{name} has another index than its primary key as REPLICA IDENTITY: changes do not name the row; ALTER TABLE {name} REPLICA IDENTITY DEFAULT"
            ));
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(WatchError::Tables(wrong)),
    }
}

/// The tables of the catalog as the stream tells of them, for a schema of the same tables in the store.
pub(super) fn relations(catalog: &Catalog, schema: &Schema) -> Relations {
    let watched = schema.tables.iter().enumerate().filter_map(|(at, table)| {
        let info: &TableInfo = catalog.table(&table.name)?;
        let columns = table.columns.iter().map(|column| {
            let own = info.columns.iter().find(|own| own.name == column.name);
            WatchedColumn {
                type_oid: own.map_or(0, |own| own.type_oid),
                typmod: own.map_or(-1, |own| own.typmod),
                is_sent: own.is_some_and(|own| !own.generated),
                is_read: true,
            }
        });
        Some(Watched {
            table: at,
            oid: info.oid,
            columns: columns.collect(),
        })
    });
    let watched: Vec<Watched> = watched.collect();
    Relations::new(schema.clone(), watched)
}

/// Columns that the server does not send, by table of the schema: what they hold is known at the beginning only.
pub(super) fn not_sent(catalog: &Catalog, schema: &Schema) -> Vec<Vec<usize>> {
    let of = |table: &crate::schema::Table| -> Vec<usize> {
        let Some(info) = catalog.table(&table.name) else {
            return Vec::new();
        };
        let generated = |name: &String| info.columns.iter().any(|c| c.name == *name && c.generated);
        let columns = table.columns.iter().enumerate();
        columns
            .filter(|(_, column)| generated(&column.name))
            .map(|(at, _)| at)
            .collect()
    };
    schema.tables.iter().map(of).collect()
}

/// Refuses tables that are no longer what the store holds. A column that came later is passed over.
pub(super) fn fits(own: &Schema, now: &Schema) -> Result<(), WatchError> {
    for table in &own.tables {
        let name = table.name.short();
        let Some(found) = now.table(&table.name) else {
            return Err(WatchError::OtherTables(format!(
                "the store has table {name}, which no rule reads any more or the database lacks"
            )));
        };
        for column in &table.columns {
            let same = |type_of: &DataType| *type_of == column.data_type;
            if !found
                .column(&column.name)
                .is_some_and(|found| same(&found.data_type))
            {
                return Err(WatchError::OtherTables(format!(
                    "column {} of {name} is no longer what the store holds",
                    column.name
                )));
            }
        }
        let key = |table: &crate::schema::Table| table.primary_key_names();
        if key(table) != key(found) {
            return Err(WatchError::OtherTables(format!(
                "the primary key of {name} is no longer what the store holds"
            )));
        }
    }
    match now
        .tables
        .iter()
        .find(|table| own.table(&table.name).is_none())
    {
        None => Ok(()),
        Some(table) => Err(WatchError::OtherTables(format!(
            "a rule reads table {}, which the store does not hold",
            table.name.short()
        ))),
    }
}
