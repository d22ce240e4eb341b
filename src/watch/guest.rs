//! Looking after the slot and the tables, from time to time: what the server keeps for us, and what the stream does not tell.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::feed::{Durable, Input};
use super::shape::Shape;
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
    /// What the stream does not tell and is other than before, in words.
    pub(super) altered: Option<String>,
    /// Where the server's log ended before it was looked.
    pub(super) end: Lsn,
    /// What is to be kept of it, where it is new and alters nothing.
    pub(super) shape: Option<String>,
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
    /// What they were like when watching began.
    pub(super) shape: Shape,
    /// Told when to end.
    pub(super) durable: Arc<Durable>,
    /// Who is told.
    pub(super) to: Sender<Input>,
}

impl Guest {
    /// Looks until the watcher ends. A connection that is lost is made again.
    pub(super) async fn run(self) {
        let mut session: Option<Session> = None;
        let mut shape = self.shape.clone();
        while !self.durable.is_stopping() {
            match self.look(&mut session, &mut shape).await {
                Ok(seen) => {
                    if self.to.send(Input::Slot(seen)).is_err() {
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
        shape: &mut Shape,
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
        let now = Shape::read(session, &self.publication, &self.tables).await?;
        let is_new = now != *shape;
        let altered = match is_new {
            true => now.differs_from(shape, session).await?,
            false => None,
        };
        let kept = (is_new && altered.is_none()).then(|| now.text());
        *shape = now;
        Ok(Seen {
            retained_bytes: behind(state.as_ref().and_then(|state| state.restart_lsn)),
            lag_bytes: behind(state.as_ref().and_then(|state| state.confirmed_flush)),
            oldest_transaction_s: row.try_get(1)?,
            altered,
            end,
            shape: kept,
            slot: state,
        })
    }
}
