//! Looking after the slot and the tables, from time to time: what the server keeps for us, and what the stream does not tell.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use super::feed::{Durable, Input};
use crate::postgres::slot::{self, SlotState};
use crate::postgres::{Access, Lsn, PostgresError, Session, Target};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(5);

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// The slot; None where there is none any more.
    pub(super) slot: Option<SlotState>,
    /// Bytes of log that the server keeps for the slot.
    pub(super) retained_bytes: u64,
    /// Bytes of log between its end and what is confirmed.
    pub(super) lag_bytes: u64,
    /// How long the oldest transaction of the server has been open, in seconds: it holds the slot's log back, not we.
    pub(super) oldest_transaction_s: Option<f64>,
    /// Partitions that came or went without a change in the stream, and publications that changed: in words.
    pub(super) altered: Option<String>,
}

/// Who looks.
pub(super) struct Guest {
    /// The server.
    pub(super) target: Target,
    /// The slot.
    pub(super) slot: String,
    /// The publication.
    pub(super) publication: String,
    /// Oids of the watched tables.
    pub(super) tables: Vec<u32>,
    /// Told when to end.
    pub(super) durable: Arc<Durable>,
    /// Who is told.
    pub(super) to: SyncSender<Input>,
}

/// What may change behind the stream's back.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    partitions: Vec<(u32, u32)>,
    published: Vec<String>,
}

impl Guest {
    /// Looks until the watcher ends. A connection that is lost is made again.
    pub(super) async fn run(self) {
        let mut session: Option<Session> = None;
        let mut shape: Option<Shape> = None;
        while !self.durable.is_stopping() {
            match self.look(&mut session, &mut shape).await {
                Ok(seen) => {
                    let to = self.to.clone();
                    let told = tokio::task::spawn_blocking(move || to.send(Input::Slot(seen)));
                    if !matches!(told.await, Ok(Ok(()))) {
                        return;
                    }
                }
                // The feed meets the same, and says so.
                Err(_) => session = None,
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.durable.stopped() => return,
            }
        }
    }

    async fn look(
        &self,
        session: &mut Option<Session>,
        shape: &mut Option<Shape>,
    ) -> Result<Seen, PostgresError> {
        if session.is_none() {
            let opened = Session::open(&self.target, "firstbad watch", Access::ReadOnly).await?;
            *session = Some(opened);
        }
        let session = session.as_ref().expect("opened above");
        let state = slot::slot_state(session, &self.slot).await?;
        let row = session
            .client()
            .query_one(
                "select (case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end)::text, \
                 (select max(extract(epoch from clock_timestamp() - xact_start))::float8 from pg_stat_activity \
                  where backend_xid is not null and pid <> pg_backend_pid())",
                &[],
            )
            .await?;
        let end: Option<String> = row.try_get(0)?;
        let end = end.and_then(|text| text.parse().ok()).unwrap_or(Lsn(0));
        let behind = |lsn: Option<Lsn>| lsn.map_or(0, |lsn| end.0.saturating_sub(lsn.0));
        let now = self.shape(session).await?;
        let altered = match shape.as_ref() {
            Some(before) => differs(session, before, &now).await?,
            None => None,
        };
        *shape = Some(now);
        Ok(Seen {
            retained_bytes: behind(state.as_ref().and_then(|state| state.restart_lsn)),
            lag_bytes: behind(state.as_ref().and_then(|state| state.confirmed_flush)),
            oldest_transaction_s: row.try_get(1)?,
            altered,
            slot: state,
        })
    }

    async fn shape(&self, session: &Session) -> Result<Shape, PostgresError> {
        let rows = session
            .client()
            .query(
                "with recursive tree as (select unnest($1::oid[]) as oid, 0::oid as parent \
                 union all select i.inhrelid, i.inhparent from pg_inherits i join tree t on i.inhparent = t.oid) \
                 select oid, parent from tree where parent <> 0 order by 1, 2",
                &[&self.tables],
            )
            .await?;
        let mut partitions = Vec::new();
        for row in rows {
            partitions.push((row.try_get(0)?, row.try_get(1)?));
        }
        let rows = session
            .client()
            .query(
                "select schemaname::text || '.' || tablename::text from pg_publication_tables where pubname = $1 order by 1",
                &[&self.publication],
            )
            .await?;
        let mut published = Vec::new();
        for row in rows {
            published.push(row.try_get(0)?);
        }
        Ok(Shape {
            partitions,
            published,
        })
    }
}

/// What is different in words, where the rows that are watched may be others now.
async fn differs(
    session: &Session,
    before: &Shape,
    now: &Shape,
) -> Result<Option<String>, PostgresError> {
    let gone = |table: &&String| !now.published.contains(table);
    if let Some(gone) = before.published.iter().find(gone) {
        let gone = crate::escape::terminal(gone);
        return Ok(Some(format!("table {gone} is not published any more")));
    }
    let went = |pair: &&(u32, u32)| !now.partitions.contains(pair);
    if before.partitions.iter().any(|pair| went(&pair)) {
        return Ok(Some("a partition was detached or dropped".into()));
    }
    for (leaf, _) in now
        .partitions
        .iter()
        .filter(|pair| !before.partitions.contains(pair))
    {
        // A partition that is made empty hides nothing: what comes into it is told.
        let name = "select format('select exists (select from only %s)', $1::oid::regclass)";
        let query: String = session
            .client()
            .query_one(name, &[leaf])
            .await?
            .try_get(0)?;
        if session.client().query_one(&query, &[]).await?.try_get(0)? {
            return Ok(Some("a partition with rows was attached".into()));
        }
    }
    Ok(None)
}
