//! The questions to the catalog.

use std::collections::HashMap;

use tokio_postgres::{Client, Row};

use super::types::{TypeRow, Types};
use crate::postgres::PostgresError;
use crate::schema::TableName;

/// Everything that was answered.
pub(super) struct Asked {
    pub(super) relations: Vec<RelationRow>,
    pub(super) columns: Vec<ColumnRow>,
    pub(super) constraints: Vec<ConstraintRow>,
    /// The columns of the index that is a table's replica identity.
    pub(super) identities: HashMap<u32, Vec<i16>>,
    pub(super) types: Types,
}

pub(super) struct RelationRow {
    pub(super) oid: u32,
    pub(super) name: TableName,
    /// `r`, `p`, `v`, `m` or `f`, as `pg_class` has it.
    pub(super) kind: String,
    /// `p` or `u`.
    pub(super) persistence: String,
    /// `d`, `n`, `f` or `i`.
    pub(super) identity: String,
    /// The table that it is a partition of.
    pub(super) parent: Option<u32>,
    pub(super) row_security: bool,
    pub(super) has_children: bool,
    pub(super) readable: bool,
    pub(super) extension: bool,
    /// -1 where nobody has counted.
    pub(super) rows: f64,
    pub(super) bytes: u64,
}

pub(super) struct ColumnRow {
    pub(super) table: u32,
    pub(super) attnum: i16,
    pub(super) name: String,
    pub(super) type_oid: u32,
    pub(super) typmod: i32,
    /// The type as `format_type` prints it.
    pub(super) type_text: String,
    pub(super) not_null: bool,
    pub(super) generated: bool,
    pub(super) readable: bool,
}

pub(super) struct ConstraintRow {
    pub(super) table: u32,
    /// `p` or `f`.
    pub(super) kind: String,
    pub(super) columns: Vec<i16>,
    pub(super) to_table: u32,
    pub(super) to_columns: Vec<i16>,
}

/// Relations that hold or show rows, outside of the system's own schemas; what `sql/04-quarantine.sql` makes is no data of anybody's.
const RELATIONS: &str = "
    select c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, c.relreplident::text,
           case when c.relispartition then (select i.inhparent from pg_inherits i where i.inhrelid = c.oid limit 1) end,
           coalesce(row_security_active(c.oid), false), c.relhassubclass,
           coalesce(has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select'), false),
           exists (select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'),
           c.reltuples::float8, case when c.relkind = 'r' then coalesce(pg_relation_size(c.oid), 0) else 0 end::bigint
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'f') and c.relpersistence <> 't'
      and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
      and (n.nspname <> 'firstbad' or c.relname !~ '^quarantine')";

const COLUMNS: &str = "
    select a.attrelid, a.attnum, a.attname::text, a.atttypid, a.atttypmod, format_type(a.atttypid, a.atttypmod), a.attnotnull,
           a.attgenerated <> '', coalesce(has_schema_privilege(n.oid, 'usage')
               and has_column_privilege(a.attrelid, a.attnum, 'select'), false)
    from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p') and c.relpersistence <> 't' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
      and (n.nspname <> 'firstbad' or c.relname !~ '^quarantine') and a.attnum > 0 and not a.attisdropped
    order by a.attrelid, a.attnum";

/// Keys and references, in the order in which a dump declares them.
const CONSTRAINTS: &str = "
    select conrelid, contype::text, conkey, confrelid, coalesce(confkey, '{}')
    from pg_constraint
    where contype in ('p', 'f') and conparentid = 0 and conrelid <> 0
    order by conrelid, contype, conname collate \"C\"";

const IDENTITIES: &str = "
    select indrelid, (indkey::int2[])[0:indnkeyatts - 1] from pg_index where indisreplident";

/// Types that are not Postgres' own.
const TYPES: &str = "
    select t.oid, n.nspname::text, t.typname::text, t.typtype::text, t.typelem, t.typbasetype,
           case when t.typbasetype <> 0 then format_type(t.typbasetype, t.typtypmod) else format_type(t.oid, null) end,
           case when t.typelem <> 0 then format_type(t.typelem, null) else '' end,
           t.typnotnull, exists (select from pg_type e where e.typarray = t.oid),
           n.nspname = 'information_schema'
               or exists (select from pg_depend d where d.classid = 'pg_type'::regclass and d.objid = t.oid and d.deptype = 'e')
               or exists (select from pg_class c where c.oid = t.typrelid and c.relkind <> 'c')
    from pg_type t join pg_namespace n on n.oid = t.typnamespace
    where n.nspname !~ '^pg_'";

const LABELS: &str =
    "select enumtypid, enumlabel::text from pg_enum order by enumtypid, enumsortorder";

/// Asks everything.
pub(super) async fn all(client: &Client) -> Result<Asked, PostgresError> {
    // Names of types are printed with their schemas unless they are Postgres' own.
    client
        .batch_execute("set local search_path = pg_catalog")
        .await?;
    let relations = client.query(RELATIONS, &[]).await?;
    let columns = client.query(COLUMNS, &[]).await?;
    let constraints = client.query(CONSTRAINTS, &[]).await?;
    let identities = client.query(IDENTITIES, &[]).await?;
    let types = client.query(TYPES, &[]).await?;
    let labels = client.query(LABELS, &[]).await?;
    let mut by_type: HashMap<u32, Vec<String>> = HashMap::new();
    for row in &labels {
        let label = row.try_get(1)?;
        by_type.entry(row.try_get(0)?).or_default().push(label);
    }
    let identity =
        |row: &Row| -> Result<_, PostgresError> { Ok((row.try_get(0)?, row.try_get(1)?)) };
    Ok(Asked {
        relations: read(&relations, relation)?,
        columns: read(&columns, column)?,
        constraints: read(&constraints, constraint)?,
        identities: identities.iter().map(identity).collect::<Result<_, _>>()?,
        types: Types::new(read(&types, one_type)?, by_type),
    })
}

fn read<T>(
    rows: &[Row],
    one: impl Fn(&Row) -> Result<T, tokio_postgres::Error>,
) -> Result<Vec<T>, PostgresError> {
    Ok(rows.iter().map(one).collect::<Result<Vec<T>, _>>()?)
}

fn relation(row: &Row) -> Result<RelationRow, tokio_postgres::Error> {
    Ok(RelationRow {
        oid: row.try_get(0)?,
        name: TableName::new(row.try_get::<_, String>(1)?, row.try_get::<_, String>(2)?),
        kind: row.try_get(3)?,
        persistence: row.try_get(4)?,
        identity: row.try_get(5)?,
        parent: row.try_get(6)?,
        row_security: row.try_get(7)?,
        has_children: row.try_get(8)?,
        readable: row.try_get(9)?,
        extension: row.try_get(10)?,
        rows: row.try_get(11)?,
        bytes: u64::try_from(row.try_get::<_, i64>(12)?).unwrap_or(0),
    })
}

fn column(row: &Row) -> Result<ColumnRow, tokio_postgres::Error> {
    Ok(ColumnRow {
        table: row.try_get(0)?,
        attnum: row.try_get(1)?,
        name: row.try_get(2)?,
        type_oid: row.try_get(3)?,
        typmod: row.try_get(4)?,
        type_text: row.try_get(5)?,
        not_null: row.try_get(6)?,
        generated: row.try_get(7)?,
        readable: row.try_get(8)?,
    })
}

fn constraint(row: &Row) -> Result<ConstraintRow, tokio_postgres::Error> {
    Ok(ConstraintRow {
        table: row.try_get(0)?,
        kind: row.try_get(1)?,
        columns: row.try_get(2)?,
        to_table: row.try_get(3)?,
        to_columns: row.try_get(4)?,
    })
}

fn one_type(row: &Row) -> Result<TypeRow, tokio_postgres::Error> {
    Ok(TypeRow {
        oid: row.try_get(0)?,
        name: TableName::new(row.try_get::<_, String>(1)?, row.try_get::<_, String>(2)?),
        kind: row.try_get(3)?,
        element: row.try_get(4)?,
        base: row.try_get(5)?,
        text: row.try_get(6)?,
        element_text: row.try_get(7)?,
        not_null: row.try_get(8)?,
        is_array: row.try_get(9)?,
        undeclared: row.try_get(10)?,
    })
}
