//! A schema as the DDL that would make it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::schema::{DataType, ForeignKey, Schema, Table, TableName};

/// `CREATE TYPE`, `CREATE TABLE` and `ALTER TABLE … ADD FOREIGN KEY` statements for all tables, in the dialect of Postgres. It holds what
/// decides how rows are read, no defaults, checks or indexes.
pub fn print(schema: &Schema) -> String {
    let mut out = String::new();
    let mut types = BTreeSet::new();
    for column in schema.tables.iter().flat_map(|table| &table.columns) {
        let mut data_type = &column.data_type;
        while let DataType::Array(element) = data_type {
            data_type = element;
        }
        if let DataType::Enum { name, labels } = data_type
            && types.insert(name)
        {
            let labels: Vec<String> = labels.iter().map(|label| literal(label)).collect();
            let _ = writeln!(
                out,
                "create type {} as enum ({});",
                type_name(name),
                labels.join(", ")
            );
        }
    }
    if !out.is_empty() {
        out.push('\n');
    }
    for table in &schema.tables {
        out += &create(table);
    }
    for table in &schema.tables {
        for key in &table.foreign_keys {
            out += &reference(table, key);
        }
    }
    out
}

fn create(table: &Table) -> String {
    let mut lines: Vec<String> = table
        .columns
        .iter()
        .map(|column| {
            let null = if column.nullable { "" } else { " not null" };
            let data_type = shown_type(&column.data_type);
            format!("    {} {data_type}{null}", quoted(&column.name))
        })
        .collect();
    if !table.primary_key.is_empty() {
        let key = list(&table.primary_key_names());
        lines.push(format!("    primary key ({key})"));
    }
    let name = table_name(&table.name);
    format!("create table {name} (\n{}\n);\n\n", lines.join(",\n"))
}

fn reference(table: &Table, key: &ForeignKey) -> String {
    let to = match key.to_columns.is_empty() {
        true => String::new(),
        false => format!(" ({})", list(&key.to_columns)),
    };
    format!(
        "alter table {} add foreign key ({}) references {}{to};\n",
        table_name(&table.name),
        list(&key.columns),
        table_name(&key.to_table),
    )
}

fn table_name(name: &TableName) -> String {
    format!("{}.{}", quoted(&name.schema), quoted(&name.name))
}

fn list(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
    names.join(", ")
}

fn shown_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Array(element) => format!("{}[]", shown_type(element)),
        DataType::Enum { name, .. } | DataType::Other(name) => type_name(name),
        plain => plain.to_string(),
    }
}

/// The name of a type as it was declared; one that could be something else is quoted.
fn type_name(name: &str) -> String {
    let harmless =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ' ' | '.' | '(' | ')' | ',');
    match !name.is_empty() && name.chars().all(harmless) {
        true => name.to_owned(),
        false => quoted(name),
    }
}

/// An identifier in quotes; without where it is a plain word.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    match starts && name.chars().all(plain) && !RESERVED.contains(&name) {
        true => name.to_owned(),
        false => format!("\"{}\"", name.replace('"', "\"\"")),
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Words that Postgres does not take as names without quotes.
const RESERVED: &[&str] = &[
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "asymmetric",
    "authorization",
    "binary",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "collation",
    "column",
    "concurrently",
    "constraint",
    "create",
    "cross",
    "current_catalog",
    "current_date",
    "current_role",
    "current_schema",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "fetch",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "ilike",
    "in",
    "initially",
    "inner",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "lateral",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "localtimestamp",
    "natural",
    "not",
    "notnull",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "outer",
    "overlaps",
    "placing",
    "primary",
    "references",
    "returning",
    "right",
    "select",
    "session_user",
    "similar",
    "some",
    "symmetric",
    "system_user",
    "table",
    "tablesample",
    "then",
    "to",
    "trailing",
    "true",
    "union",
    "unique",
    "user",
    "using",
    "variadic",
    "verbose",
    "when",
    "where",
    "window",
    "with",
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::print;
    use crate::schema::ddl::parse;

    #[test]
    fn what_is_printed_is_read_as_the_same_schema() {
        let text = r#"
            create type status as enum ('placed', 'it''s paid');
            create table sales."Order" (id bigint, "from" text not null, "a ""b""" numeric(12,2)[], s status, t timestamptz, primary key (id, "from"));
            create table lines (order_id bigint, "order" text, size int4range, code char(3), at interval,
                foreign key (order_id, "order") references sales."Order");
            create table notes (line bigint, body jsonb);"#;
        let (schema, found) = parse(text, Path::new("schema.sql"));
        assert!(
            found
                .iter()
                .all(|one| one.level != crate::diagnostic::Level::Error),
            "{found:?}"
        );
        let printed = print(&schema);
        let (again, found) = parse(&printed, Path::new("schema.sql"));
        assert!(
            found
                .iter()
                .all(|one| one.level != crate::diagnostic::Level::Error),
            "{found:?}"
        );
        assert_eq!(again, schema, "{printed}");
    }
}
