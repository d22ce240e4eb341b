//! What is asked of the server: the functions of `sql/04-quarantine.sql`, and nothing else.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio_postgres::{IsolationLevel, Transaction};

use super::{Plan, Planned, QuarantineError, Reason};
use crate::postgres::{PostgresError, Session};
use crate::schema::TableName;

/// So many rows, or so many bytes of them, go into one statement.
const BATCH_ROWS: usize = 500;
const BATCH_BYTES: usize = 8 << 20;

/// What quarantine is not set up, and what its role may not do.
const MISSING: [&str; 3] = ["3F000", "42883", "42P01"];
const FORBIDDEN: &str = "42501";

/// Whether a row is set apart already, or why it is not.
pub(super) type Outcome = Result<bool, Reason>;

/// Rows of a table that were let go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Released {
    /// The table.
    pub table: TableName,
    /// How many.
    pub rows: u64,
}

/// Rows as the server takes them.
pub(super) fn rows_json<'a>(rows: impl IntoIterator<Item = &'a Planned>) -> Vec<Value> {
    let row = |row: &Planned| json!({"key": row.key, "image": row.image});
    rows.into_iter().map(row).collect()
}

fn explained(error: tokio_postgres::Error) -> QuarantineError {
    let error = PostgresError::from(error);
    match error.sqlstate() {
        Some(state) if MISSING.contains(&state) => QuarantineError::request(
            "quarantine is not set up in this database",
            "its owner runs sql/04-quarantine.sql, and switches tables on: select firstbad.quarantine_on('orders')",
        ),
        Some(FORBIDDEN) => QuarantineError::Postgres(PostgresError::Refused {
            message: "the role may not set rows apart".into(),
            hint: Some("log in as the role of sql/04-quarantine.sql: firstbad_quarantine".into()),
        }),
        _ => error.into(),
    }
}

/// The tables that are switched on, and how many of their rows each incident of a store has set apart.
pub(super) async fn status(
    session: &Session,
    store: &str,
) -> Result<BTreeMap<TableName, BTreeMap<String, u64>>, QuarantineError> {
    let ask = "select schema_name, table_name, incident, held from firstbad.quarantine_status($1)";
    let rows = session.client().query(ask, &[&store]).await;
    let mut out: BTreeMap<TableName, BTreeMap<String, u64>> = BTreeMap::new();
    for row in rows.map_err(explained)? {
        let get = |at: usize| row.try_get::<_, Option<String>>(at);
        let (schema, name) = (get(0).map_err(explained)?, get(1).map_err(explained)?);
        let table = TableName::new(schema.unwrap_or_default(), name.unwrap_or_default());
        let of_table = out.entry(table).or_default();
        let held: i64 = row.try_get(3).map_err(explained)?;
        if let Some(incident) = get(2).map_err(explained)? {
            of_table.insert(incident, u64::try_from(held).unwrap_or(0));
        }
    }
    Ok(out)
}

/// Asks about rows, or sets them apart in one transaction; what became of each, in their order.
pub(super) async fn rows(
    session: &mut Session,
    plan: &Plan,
    rows: &[Planned],
    set_apart: bool,
) -> Result<Vec<Outcome>, QuarantineError> {
    let mut tables: BTreeMap<&TableName, Vec<usize>> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        tables.entry(&row.table).or_default().push(at);
    }
    let status = status(session, &plan.store).await?;
    let is_on = |table: &&&TableName| status.contains_key(**table);
    if let Some((first, _)) = tables.first_key_value()
        && !tables.keys().any(|table| is_on(&table))
    {
        return Err(off(first));
    }
    let mut out = vec![Err(Reason::Off); rows.len()];
    let transaction = session.client_mut().build_transaction();
    let transaction = transaction
        .isolation_level(IsolationLevel::ReadCommitted)
        .read_only(!set_apart);
    let transaction = transaction.start().await.map_err(explained)?;
    for (table, mut places) in tables.into_iter().filter(|(table, _)| is_on(&table)) {
        // Always in one order, so that two who do this at once do not wait for each other.
        places.sort_by_cached_key(|&at| Value::from(rows[at].key.clone()).to_string());
        let mut rest = places.as_slice();
        while !rest.is_empty() {
            let (batch, text) = batch(rows, rest);
            let words = [&plan.store, &plan.incident, &table.schema, &table.name];
            let outcomes = ask(&transaction, words, &text, set_apart).await?;
            for (&at, outcome) in batch.iter().zip(outcomes) {
                out[at] = outcome;
            }
            rest = &rest[batch.len()..];
        }
    }
    transaction.commit().await.map_err(explained)?;
    Ok(out)
}

fn off(table: &TableName) -> QuarantineError {
    let name = crate::postgres::catalog::quoted_table(table);
    QuarantineError::request(
        format!(
            "quarantine is not switched on for {}: nothing was changed",
            table.short()
        ),
        format!(
            "its owner can: select firstbad.quarantine_on('{}')",
            name.replace('\'', "''")
        ),
    )
}

/// The rows that go into the next statement, and their text.
fn batch<'a>(rows: &[Planned], places: &'a [usize]) -> (&'a [usize], String) {
    let mut text = String::from("[");
    let mut count = 0;
    for &at in places.iter().take(BATCH_ROWS) {
        let row = rows_json([&rows[at]]).remove(0).to_string();
        if count > 0 && text.len() + row.len() > BATCH_BYTES {
            break;
        }
        if count > 0 {
            text.push(',');
        }
        text.push_str(&row);
        count += 1;
    }
    text.push(']');
    (&places[..count], text)
}

async fn ask(
    transaction: &Transaction<'_>,
    [store, incident, schema, table]: [&String; 4],
    rows: &str,
    set_apart: bool,
) -> Result<Vec<Outcome>, QuarantineError> {
    let ask = "select outcome from firstbad.quarantine_rows($1, $2, $3, $4, $5::text::jsonb, $6) order by place";
    let answers = transaction
        .query(ask, &[store, incident, schema, table, &rows, &set_apart])
        .await
        .map_err(explained)?;
    let outcome = |row: tokio_postgres::Row| -> Result<Outcome, QuarantineError> {
        let word: String = row.try_get(0).map_err(explained)?;
        Ok(match word.as_str() {
            "set_apart" => Ok(false),
            "already" => Ok(true),
            "changed" => Err(Reason::Changed),
            "gone" => Err(Reason::Gone),
            "other_key" => Err(Reason::OtherKey),
            "unreadable" => Err(Reason::Unreadable),
            _ => {
                return Err(QuarantineError::request(
                    "the database has a later version of sql/04-quarantine.sql",
                    "use the program that it came with",
                ));
            }
        })
    };
    answers.into_iter().map(outcome).collect()
}

/// Lets rows of an incident go, or of all incidents of a store.
pub(super) async fn release(
    session: &Session,
    store: &str,
    incident: Option<&str>,
) -> Result<Vec<Released>, QuarantineError> {
    let ask = "select schema_name, table_name, released from firstbad.quarantine_release($1, $2)";
    let rows = session.client().query(ask, &[&store, &incident]).await;
    let released = |row: tokio_postgres::Row| -> Result<Released, QuarantineError> {
        let schema: String = row.try_get(0).map_err(explained)?;
        let name: String = row.try_get(1).map_err(explained)?;
        let rows: i64 = row.try_get(2).map_err(explained)?;
        Ok(Released {
            table: TableName::new(schema, name),
            rows: u64::try_from(rows).unwrap_or(0),
        })
    };
    let rows = rows.map_err(explained)?.into_iter();
    rows.map(released).collect()
}
