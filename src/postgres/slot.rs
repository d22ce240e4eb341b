//! Publications, which say what a stream tells, and slots, which keep the log for it.
//!
//! A slot sees a publication only as it was at the slot's position: first the publication, then the slot.

use super::session::Session;
use super::{Lsn, PostgresError, Replication};

/// The longest name of a slot.
const NAME_BYTES_MAX: usize = 63;
/// The oldest server that says how much log a slot may still keep back.
const WAL_STATUS_SINCE: u32 = 130_000;
/// The oldest server whose slots know of prepared transactions.
const TWO_PHASE_SINCE: u32 = 140_000;

/// Who a server is, and where its log ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The number that the cluster was given when it was made.
    pub system_id: String,
    /// Its timeline: another one after each failover and restore.
    pub timeline: u32,
    /// How far its log is flushed.
    pub position: Lsn,
    /// The database of the connection.
    pub database: String,
}

/// A slot that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The stream begins here: everything that committed before is in the snapshot.
    pub consistent: Lsn,
    /// The snapshot's name for `SET TRANSACTION SNAPSHOT`; it lives until the next command on this connection.
    pub snapshot: String,
}

/// A table's schema and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableName<'a> {
    /// The schema.
    pub schema: &'a str,
    /// The table.
    pub name: &'a str,
}

/// What a server knows of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotState {
    /// The output plugin; None for a physical slot.
    pub plugin: Option<String>,
    /// The database; None for a physical slot.
    pub database: Option<String>,
    /// The process that streams it now.
    pub active_pid: Option<i32>,
    /// The log is kept from here on; None where the slot has lost it.
    pub restart_lsn: Option<Lsn>,
    /// What was confirmed.
    pub confirmed_flush: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`; None before 13.
    pub wal_status: Option<String>,
    /// How many bytes of log may still be written before the slot may be lost; None without a limit and before 13.
    pub safe_wal_size: Option<i64>,
    /// Prepared transactions are told when they are prepared.
    pub two_phase: bool,
}

/// The server's system identifier, without a connection for replication; None where the role may not ask.
///
/// # Errors
/// A lost connection.
pub async fn system_id(session: &Session) -> Result<Option<String>, PostgresError> {
    let function = "pg_catalog.pg_control_system()";
    let may = format!("select has_function_privilege('{function}', 'execute')");
    let row = session.client().query_one(&may, &[]).await?;
    if !row.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let ask = format!("select system_identifier::text from {function}");
    Ok(session.client().query_one(&ask, &[]).await?.try_get(0)?)
}

/// Who the server is.
///
/// # Errors
/// A lost connection.
pub async fn identify(replication: &mut Replication) -> Result<Identity, PostgresError> {
    let rows = replication.query("IDENTIFY_SYSTEM").await?;
    let wrong = || PostgresError::protocol("IDENTIFY_SYSTEM answers otherwise than it should");
    let row = rows.into_iter().next().ok_or_else(wrong)?;
    let [
        Some(system_id),
        Some(timeline),
        Some(position),
        Some(database),
        ..,
    ] = row.as_slice()
    else {
        return Err(wrong());
    };
    Ok(Identity {
        system_id: system_id.clone(),
        timeline: timeline.parse().map_err(|_| wrong())?,
        position: position.parse().map_err(|_| wrong())?,
        database: database.clone(),
    })
}

/// Makes a slot for pgoutput and exports the snapshot at which it begins. Waits for all transactions that are running. A temporary
/// slot ends with the connection.
///
/// # Errors
/// A name that cannot be; 42710: there is a slot of this name; 53400: all slots are in use (`max_replication_slots`); 55000: `wal_level` is not
/// `logical`; 42501: the role lacks `REPLICATION`.
pub async fn create_slot(
    replication: &mut Replication,
    name: &str,
    temporary: bool,
) -> Result<Created, PostgresError> {
    let name = valid_slot(name)?;
    let temporary = if temporary { "TEMPORARY " } else { "" };
    // The form that all servers from 10 on take.
    let sql =
        format!("CREATE_REPLICATION_SLOT \"{name}\" {temporary}LOGICAL pgoutput EXPORT_SNAPSHOT");
    let rows = replication.query(&sql).await?;
    let wrong =
        || PostgresError::protocol("CREATE_REPLICATION_SLOT answers otherwise than it should");
    let row = rows.into_iter().next().ok_or_else(wrong)?;
    let [_, Some(consistent), Some(snapshot), ..] = row.as_slice() else {
        return Err(wrong());
    };
    Ok(Created {
        consistent: consistent.parse().map_err(|_| wrong())?,
        snapshot: snapshot.clone(),
    })
}

/// Drops a slot that nobody streams. Everything it kept is let go.
///
/// # Errors
/// 42704: there is none; 55006: somebody streams it.
pub async fn drop_slot(session: &Session, name: &str) -> Result<(), PostgresError> {
    let name = valid_slot(name)?;
    let sql = "SELECT pg_drop_replication_slot($1::text::name)";
    session.client().execute(sql, &[&name]).await?;
    Ok(())
}

/// What the server knows of a slot; None where there is no such slot.
///
/// # Errors
/// A lost connection.
pub async fn slot_state(session: &Session, name: &str) -> Result<Option<SlotState>, PostgresError> {
    let version = session.server_version_num();
    let wal = match version >= WAL_STATUS_SINCE {
        true => "wal_status, safe_wal_size",
        false => "NULL::text, NULL::bigint",
    };
    let two_phase = match version >= TWO_PHASE_SINCE {
        true => "two_phase",
        false => "false",
    };
    let sql = format!(
        "SELECT plugin::text, database::text, active_pid, restart_lsn::text, confirmed_flush_lsn::text, {wal}, {two_phase} \
         FROM pg_catalog.pg_replication_slots WHERE slot_name = $1::text::name"
    );
    let Some(row) = session.client().query_opt(&sql, &[&name]).await? else {
        return Ok(None);
    };
    let lsn = |at: usize| -> Result<Option<Lsn>, PostgresError> {
        let text: Option<String> = row.try_get(at)?;
        let parsed = text.map(|text| text.parse()).transpose();
        parsed.map_err(|_| PostgresError::protocol("a slot's position is no LSN"))
    };
    Ok(Some(SlotState {
        plugin: row.try_get(0)?,
        database: row.try_get(1)?,
        active_pid: row.try_get(2)?,
        restart_lsn: lsn(3)?,
        confirmed_flush: lsn(4)?,
        wal_status: row.try_get(5)?,
        safe_wal_size: row.try_get(6)?,
        two_phase: row.try_get(7)?,
    }))
}

/// Makes a publication of these tables and no others. Changes of partitions are told as changes of the table that is named.
///
/// # Errors
/// 42710: there is one of this name; 42501: the role does not own the tables.
pub async fn publish(
    session: &Session,
    name: &str,
    tables: &[TableName<'_>],
) -> Result<(), PostgresError> {
    let root = match session.server_version_num() >= WAL_STATUS_SINCE {
        true => " WITH (publish_via_partition_root = true)",
        false => "",
    };
    let (name, tables) = (identifier(name)?, list(tables)?);
    execute(
        session,
        format!("CREATE PUBLICATION {name} FOR TABLE {tables}{root}"),
    )
    .await
}

/// Adds tables to a publication. A slot tells their changes from its position after this on.
///
/// # Errors
/// 42710: a table is in it already; 42501: the role owns neither.
pub async fn add_tables(
    session: &Session,
    name: &str,
    tables: &[TableName<'_>],
) -> Result<(), PostgresError> {
    let (name, tables) = (identifier(name)?, list(tables)?);
    execute(
        session,
        format!("ALTER PUBLICATION {name} ADD TABLE {tables}"),
    )
    .await
}

async fn execute(session: &Session, sql: String) -> Result<(), PostgresError> {
    Ok(session.client().batch_execute(&sql).await?)
}

/// A slot's name as the server wants it: `[a-z0-9_]{1,63}`.
pub(crate) fn valid_slot(name: &str) -> Result<&str, PostgresError> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(fits) {
        return Ok(name);
    }
    Err(PostgresError::argument(
        format!(
            "`{}` is no name of a replication slot",
            crate::escape::terminal(name)
        ),
        "lower-case letters, digits and underscores, 63 at most",
    ))
}

/// A name in double quotes. The server would cut one that is too long, and mean another thing.
fn identifier(name: &str) -> Result<String, PostgresError> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
        return Err(PostgresError::argument(
            format!("`{}` is no name", crate::escape::terminal(name)),
            "a name has 1 to 63 bytes",
        ));
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

fn list(tables: &[TableName<'_>]) -> Result<String, PostgresError> {
    if tables.is_empty() {
        return Err(PostgresError::argument("no table is named", ""));
    }
    let quoted = tables.iter().map(|table| {
        let (schema, name) = (identifier(table.schema)?, identifier(table.name)?);
        Ok(format!("{schema}.{name}"))
    });
    let quoted: Result<Vec<String>, PostgresError> = quoted.collect();
    Ok(quoted?.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_quoted() {
        let long = "a".repeat(63);
        for name in ["firstbad", "a", "_0", &long] {
            assert_eq!(valid_slot(name).ok(), Some(name));
        }
        for name in ["", "A", "a-b", "a b", "a\"", "é", "a;", &"a".repeat(64)] {
            assert!(valid_slot(name).is_err(), "{name}");
        }
        assert_eq!(identifier("a\"; b").ok().as_deref(), Some("\"a\"\"; b\""));
        assert!(identifier("").is_err() && identifier("a\0").is_err());
        let table = |schema, name| TableName { schema, name };
        let tables = [table("public", "orders"), table("S x", "t")];
        assert_eq!(
            list(&tables).ok().as_deref(),
            Some("\"public\".\"orders\", \"S x\".\"t\"")
        );
        assert!(list(&[]).is_err());
    }
}
