//! The publication: explicit tables, nothing hidden.

use std::collections::BTreeSet;

use super::needs::Needs;
use super::{Settings, WatchError};
use crate::postgres::{Catalog, PostgresError, Session, slot};

/// Sees to the publication: explicit tables, nothing hidden. Says in words what was not published before.
pub(super) async fn publish(
    settings: &Settings,
    session: &Session,
    catalog: &Catalog,
    needs: &Needs,
    say: &mut dyn FnMut(&str),
) -> Result<Option<String>, WatchError> {
    let name = &settings.publication;
    let rows = session
        .client()
        .query(
            "select puballtables, pubinsert and pubupdate and pubdelete and pubtruncate, pubviaroot \
             from pg_publication where pubname = $1",
            &[name],
        )
        .await
        .map_err(PostgresError::from)?;
    let wanted: Vec<slot::TableName<'_>> = needs
        .tables
        .iter()
        .map(|&at| &catalog.tables[at].name)
        .map(|name| slot::TableName {
            schema: &name.schema,
            name: &name.name,
        })
        .collect();
    let Some(row) = rows.first() else {
        say(&format!(
            "publication {name} is made for {} tables",
            wanted.len()
        ));
        return match slot::publish(session, name, &wanted).await {
            Ok(()) => Ok(Some(format!("publication {name} was gone"))),
            Err(error) if error.sqlstate() == Some("42501") => {
                Err(WatchError::NoPublication(name.clone()))
            }
            Err(error) => Err(error.into()),
        };
    };
    let flag = |at: usize| row.try_get::<_, bool>(at).map_err(PostgresError::from);
    if !flag(1)? {
        return Err(WatchError::Publication(format!(
            "publication {name} does not publish all of insert, update, delete and truncate"
        )));
    }
    let partitioned = needs
        .tables
        .iter()
        .any(|&at| catalog.tables[at].partitioned);
    if partitioned && !flag(2)? {
        return Err(WatchError::Publication(format!(
            "publication {name} tells of partitions, not of the tables that the rules read: ALTER PUBLICATION {name} SET (publish_via_partition_root = true)"
        )));
    }
    hidden(session, name).await?;
    if flag(0)? {
        return Ok(None);
    }
    let rows = session
        .client()
        .query(
            "select schemaname::text, tablename::text from pg_publication_tables where pubname = $1",
            &[name],
        )
        .await
        .map_err(PostgresError::from)?;
    let mut there = BTreeSet::new();
    for row in rows {
        let read = |at: usize| row.try_get::<_, String>(at).map_err(PostgresError::from);
        there.insert((read(0)?, read(1)?));
    }
    let missing: Vec<slot::TableName<'_>> = wanted
        .into_iter()
        .filter(|table| !there.contains(&(table.schema.to_owned(), table.name.to_owned())))
        .collect();
    if missing.is_empty() {
        return Ok(None);
    }
    // A slot tells of what was published when the change was made, so a table that comes now is told from now on.
    let names: Vec<&str> = missing.iter().map(|table| table.name).collect();
    say(&format!("publication {name} gets {}", names.join(", ")));
    let names = names.join(", ");
    match slot::add_tables(session, name, &missing).await {
        Ok(()) => Ok(Some(format!("publication {name} lacked {names}"))),
        Err(error) if error.sqlstate() == Some("42501") => {
            Err(WatchError::NoPublication(name.clone()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Refuses a publication that hides rows or columns: a watchdog must know what it cannot see.
async fn hidden(session: &Session, name: &str) -> Result<(), WatchError> {
    if session.server_version_num() < 150_000 {
        return Ok(());
    }
    let rows = session
        .client()
        .query(
            "select c.relname::text from pg_publication_rel r join pg_publication p on p.oid = r.prpubid \
             join pg_class c on c.oid = r.prrelid \
             where p.pubname = $1 and (r.prqual is not null or r.prattrs is not null)",
            &[&name],
        )
        .await
        .map_err(PostgresError::from)?;
    match rows.first() {
        None => Ok(()),
        Some(row) => {
            let table: String = row.try_get(0).map_err(PostgresError::from)?;
            Err(WatchError::Publication(format!(
                "publication {name} hides rows or columns of {}: what is hidden cannot be watched",
                crate::escape::terminal(&table)
            )))
        }
    }
}
