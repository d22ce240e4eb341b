//! From declarations to a [`Schema`]: names become types and column indexes.

use std::collections::HashSet;

use super::Types;
use super::lex::Token;
use super::messages::Messages;
use super::table::{Draft, DraftColumn};
use crate::diagnostic::{Level, nearest};
use crate::schema::value::{TypeName, builtin};
use crate::schema::{Column, DataType, ForeignKey, Schema, Table, TableName};

/// Domains over domains deeper than this are taken for a circle.
const DOMAIN_DEPTH_MAX: usize = 16;

/// Types of well-known extensions, which a dump uses without declaring them.
pub(crate) const EXTENSION_TYPES: &[&str] = &[
    "citext",
    "hstore",
    "ltree",
    "lquery",
    "ltxtquery",
    "geometry",
    "geography",
    "box2d",
    "box3d",
    "raster",
    "vector",
    "halfvec",
    "sparsevec",
    "cube",
    "seg",
    "isbn",
    "ean13",
];

/// Names to think of when a type is not known.
const COMMON_TYPES: &[&str] = &[
    "bigint",
    "boolean",
    "bytea",
    "character",
    "date",
    "decimal",
    "double precision",
    "float",
    "inet",
    "integer",
    "interval",
    "json",
    "jsonb",
    "numeric",
    "real",
    "serial",
    "bigserial",
    "smallint",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "uuid",
    "varchar",
];

/// Builds the schema; attached partitions are left out, since their rows belong to their parents.
pub(super) fn resolve(drafts: &[Draft], types: &Types, messages: &mut Messages<'_>) -> Schema {
    let mut resolver = Resolver {
        types,
        messages,
        complained: HashSet::new(),
    };
    let kept = || drafts.iter().filter(|draft| !draft.attached);
    let tables = kept().map(|draft| resolver.table(draft)).collect();
    let schema = Schema { tables };
    for draft in kept() {
        resolver.check_references(draft, &schema);
    }
    schema
}

struct Resolver<'m, 'a> {
    types: &'m Types,
    messages: &'m mut Messages<'a>,
    /// Type names that were complained about already.
    complained: HashSet<String>,
}

impl Resolver<'_, '_> {
    fn table(&mut self, draft: &Draft) -> Table {
        let mut columns: Vec<Column> = draft
            .columns
            .iter()
            .map(|column| self.column(column))
            .collect();
        let mut primary_key = Vec::new();
        for (name, span) in draft.primary_key.iter().flat_map(|key| &key.columns) {
            match columns.iter().position(|column| column.name == *name) {
                Some(at) if primary_key.contains(&at) => {
                    self.messages.error(
                        *span,
                        format!("column `{name}` stands twice in the primary key"),
                        None,
                    );
                }
                Some(at) => primary_key.push(at),
                None => self.unknown_column(draft, name, *span, "the primary key"),
            }
        }
        for &at in &primary_key {
            columns[at].nullable = false;
        }
        let foreign_keys = draft.foreign_keys.iter().map(|key| ForeignKey {
            columns: key.columns.iter().map(|(name, _)| name.clone()).collect(),
            to_table: key.to_table.clone(),
            to_columns: key.to_columns.clone(),
        });
        Table {
            name: draft.name.clone(),
            primary_key,
            foreign_keys: foreign_keys.collect(),
            columns,
        }
    }

    fn unknown_column(&mut self, draft: &Draft, name: &str, span: Token, what: &str) {
        let near = nearest(
            name,
            draft.columns.iter().map(|column| column.name.as_str()),
        );
        let hint = near.map(|near| format!("did you mean `{near}`?"));
        let message = format!(
            "{what} names column `{name}`, which table `{}` does not have",
            draft.name
        );
        self.messages.error(span, message, hint);
    }

    fn check_references(&mut self, draft: &Draft, schema: &Schema) {
        for key in &draft.foreign_keys {
            for (name, span) in &key.columns {
                if !draft.columns.iter().any(|column| column.name == *name) {
                    self.unknown_column(draft, name, *span, "a foreign key");
                }
            }
            let Some(target) = schema.table(&key.to_table) else {
                let message = format!(
                    "a foreign key refers to table `{}`, which is not declared",
                    key.to_table
                );
                self.messages.report(Level::Note, key.span, message, None);
                continue;
            };
            for name in key
                .to_columns
                .iter()
                .filter(|name| target.column(name).is_none())
            {
                let near = nearest(
                    name,
                    target.columns.iter().map(|column| column.name.as_str()),
                );
                let hint = near.map(|near| format!("did you mean `{near}`?"));
                let message = format!(
                    "a foreign key refers to column `{name}`, which table `{}` does not have",
                    key.to_table
                );
                self.messages.error(key.span, message, hint);
            }
            let expected = if key.to_columns.is_empty() {
                target.primary_key.len()
            } else {
                key.to_columns.len()
            };
            if expected != key.columns.len() {
                let message = format!(
                    "a foreign key of {} refers to {expected}",
                    crate::diagnostic::counted(key.columns.len() as u64, "column")
                );
                self.messages.error(key.span, message, None);
            }
        }
    }

    fn column(&mut self, column: &DraftColumn) -> Column {
        let (data_type, domain_not_null) = self
            .data_type(&column.data_type, &column.scope, 0)
            .unwrap_or_else(|| {
                let written = column.data_type.span.text(self.messages.text());
                self.complain(&column.data_type, written);
                let element = DataType::Other(written.trim_end_matches(['[', ']', ' ']).to_owned());
                (
                    if column.data_type.array {
                        DataType::Array(Box::new(element))
                    } else {
                        element
                    },
                    false,
                )
            });
        Column {
            name: column.name.clone(),
            data_type,
            nullable: !(column.not_null || domain_not_null),
        }
    }

    /// The type, and whether a domain forbids NULL. None where the name is declared nowhere.
    fn data_type(&self, name: &TypeName, scope: &str, depth: usize) -> Option<(DataType, bool)> {
        if let Some(found) = builtin(name) {
            return Some((found, false));
        }
        let mut name = name.clone();
        let mut found = self.declared(&name, scope, depth);
        if found.is_none() && name.name.starts_with('_') {
            name.name.remove(0);
            name.array = true;
            found = self.declared(&name, scope, depth);
        }
        let (scalar, not_null) = found?;
        Some(if name.array {
            (DataType::Array(Box::new(scalar)), false)
        } else {
            (scalar, not_null)
        })
    }

    fn declared(&self, name: &TypeName, scope: &str, depth: usize) -> Option<(DataType, bool)> {
        let schemas = match &name.schema {
            Some(schema) => vec![schema.as_str()],
            None => vec![scope, "public"],
        };
        let candidates = schemas
            .into_iter()
            .map(|schema| TableName::new(schema, &name.name));
        for candidate in candidates {
            if let Some(labels) = self.types.enums.get(&candidate) {
                return Some((
                    DataType::Enum {
                        name: candidate.short(),
                        labels: labels.clone(),
                    },
                    false,
                ));
            }
            if let Some(domain) = self.types.domains.get(&candidate) {
                if depth >= DOMAIN_DEPTH_MAX {
                    return None;
                }
                let base = self.data_type(&domain.base, &domain.scope, depth + 1);
                return base.map(|(base, not_null)| (base, not_null || domain.not_null));
            }
            if self.types.others.contains(&candidate) {
                return Some((DataType::Other(candidate.short()), false));
            }
        }
        if EXTENSION_TYPES.contains(&name.name.as_str()) {
            let args = if name.args.is_empty() {
                String::new()
            } else {
                format!("({})", name.args.join(","))
            };
            return Some((DataType::Other(format!("{}{args}", name.name)), false));
        }
        None
    }

    fn complain(&mut self, name: &TypeName, written: &str) {
        if !self.complained.insert(written.to_owned()) {
            return;
        }
        let enums = self.types.enums.keys().map(|name| name.name.as_str());
        let domains = self.types.domains.keys().map(|name| name.name.as_str());
        let near = nearest(
            &name.name,
            enums.chain(domains).chain(COMMON_TYPES.iter().copied()),
        );
        let level = if near.is_some() {
            Level::Warning
        } else {
            Level::Note
        };
        let hint = near
            .filter(|near| *near != name.name)
            .map(|near| format!("did you mean `{near}`?"));
        let message = format!("type `{written}` is not known: its values are kept as text");
        self.messages.report(level, name.span, message, hint);
    }
}
