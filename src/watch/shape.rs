//! What may change behind the stream's back: partitions that come and go with their rows, tables that are not published for a while,
//! columns that are dropped and made anew. It is kept with the incidents, so that a change while nobody watches is met as well.

use serde::{Deserialize, Serialize};

use crate::escape::terminal;
use crate::postgres::{PostgresError, Session};

/// The catalog, as far as the stream does not tell of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Shape {
    /// Partitions with their parents and the files that hold them (0 for one that is partitioned itself).
    partitions: Vec<(u32, u32, u32)>,
    /// Published tables, each with the oid of its entry in the publication (0 for one that is there with all others).
    published: Vec<(String, u32)>,
    /// Columns of the watched tables: the table's oid, the name, the number in the catalog.
    columns: Vec<(u32, String, i16)>,
}

const PARTITIONS: &str = "with recursive tree as (select unnest($1::oid[]) as oid, 0::oid as parent \
     union all select i.inhrelid, i.inhparent from pg_inherits i join tree t on i.inhparent = t.oid) \
     select t.oid, t.parent, c.relfilenode from tree t join pg_class c on c.oid = t.oid where t.parent <> 0 order by 1, 2";

const PUBLISHED: &str = "select t.schemaname::text || '.' || t.tablename::text, coalesce(r.oid, 0::oid) \
     from pg_publication_tables t join pg_publication p on p.pubname = t.pubname \
     join pg_namespace n on n.nspname = t.schemaname join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename \
     left join pg_publication_rel r on r.prpubid = p.oid and r.prrelid = c.oid where t.pubname = $1 order by 1";

const COLUMNS: &str = "select attrelid, attname::text, attnum from pg_attribute \
     where attrelid = any($1::oid[]) and attnum > 0 and not attisdropped order by 1, 3";

/// Whether rows came with a partition: it was made before it was attached, or filled in the same transaction.
const CAME_WITH_ROWS: &str = "select format('select exists (select from only %s%s)', c.oid::regclass, \
     case when t.xmin = i.xmin then format(' where xmin = %L::xid', i.xmin) else '' end) \
     from pg_class c join pg_type t on t.oid = c.reltype join pg_inherits i on i.inhrelid = c.oid where c.oid = $1::oid";

/// Whether a file was rewritten with its rows: some are older than it.
const HAS_OLD_ROWS: &str = "select format('select exists (select from only %s where age(xmin) > %s)', c.oid::regclass, age(c.xmin)) \
     from pg_class c where c.oid = $1::oid";

impl Shape {
    /// What it is now, for watched tables by their oids.
    pub(super) async fn read(
        session: &Session,
        publication: &str,
        tables: &[u32],
    ) -> Result<Shape, PostgresError> {
        let client = session.client();
        let mut shape = Shape {
            partitions: Vec::new(),
            published: Vec::new(),
            columns: Vec::new(),
        };
        for row in client.query(PARTITIONS, &[&tables]).await? {
            let found = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            shape.partitions.push(found);
        }
        for row in client.query(PUBLISHED, &[&publication]).await? {
            shape.published.push((row.try_get(0)?, row.try_get(1)?));
        }
        for row in client.query(COLUMNS, &[&tables]).await? {
            let found = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            shape.columns.push(found);
        }
        Ok(shape)
    }

    /// As it is kept.
    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("names and numbers can be written")
    }

    /// As it was kept; None where it is not understood.
    pub(super) fn parse(text: &str) -> Option<Shape> {
        serde_json::from_str(text).ok()
    }

    /// What is different from before, in words, where the rows that are watched may be others now.
    pub(super) async fn differs_from(
        &self,
        before: &Shape,
        session: &Session,
    ) -> Result<Option<String>, PostgresError> {
        for (name, entry) in &before.published {
            match self.published.iter().find(|(now, _)| now == name) {
                None => {
                    let name = terminal(name);
                    return Ok(Some(format!("table {name} is not published any more")));
                }
                Some((_, now)) if now != entry => {
                    let name = terminal(name);
                    return Ok(Some(format!("table {name} was not published for a while")));
                }
                Some(_) => {}
            }
        }
        for (table, name, number) in &before.columns {
            let same = |column: &&(u32, String, i16)| column.0 == *table && column.1 == *name;
            if self
                .columns
                .iter()
                .find(same)
                .is_some_and(|now| now.2 != *number)
            {
                let name = terminal(name);
                return Ok(Some(format!("a column {name} was dropped and made anew")));
            }
        }
        let of = |shape: &Shape, leaf: u32, parent: u32| {
            let found = shape
                .partitions
                .iter()
                .find(|one| (one.0, one.1) == (leaf, parent));
            found.map(|one| one.2)
        };
        let went = |one: &&(u32, u32, u32)| of(self, one.0, one.1).is_none();
        if before.partitions.iter().any(|one| went(&one)) {
            return Ok(Some("a partition was detached or dropped".into()));
        }
        for &(leaf, parent, file) in &self.partitions {
            match of(before, leaf, parent) {
                // A partition that is made empty hides nothing: what comes into it is told.
                None if ask(session, CAME_WITH_ROWS, leaf).await?.unwrap_or(true) => {
                    return Ok(Some("a partition with rows was attached".into()));
                }
                // That a partition is emptied is not told where the publication speaks of the root.
                Some(earlier)
                    if earlier != file
                        && !ask(session, HAS_OLD_ROWS, leaf).await?.unwrap_or(false) =>
                {
                    return Ok(Some("a partition was truncated by itself".into()));
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

/// Asks a query that another one makes about a partition; None where it is gone, or may not be read.
async fn ask(session: &Session, make: &str, leaf: u32) -> Result<Option<bool>, PostgresError> {
    let Some(row) = session.client().query_opt(make, &[&leaf]).await? else {
        return Ok(None);
    };
    let query: String = row.try_get(0)?;
    match session.client().query_one(&query, &[]).await {
        Ok(row) => Ok(Some(row.try_get(0)?)),
        Err(error) => {
            let error = PostgresError::from(error);
            match error.sqlstate() {
                Some("42501" | "42P01") => Ok(None),
                _ => Err(error),
            }
        }
    }
}
