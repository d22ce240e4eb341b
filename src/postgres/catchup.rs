//! A backlog, fetched in bulk: `COPY` of what the functions for a slot's changes give, in large pieces.
//!
//! The stream has a message a change, and the server sends each by itself; a `COPY` of the same messages is bounded by decoding alone.
//! Nothing is consumed before it is durable. The next piece is to be decoded while the one before is judged, and a peek begins where the
//! slot stands: so the pieces are taken from a temporary copy of the slot ([`Catchup::ahead`]), and the slot itself is moved by
//! [`Catchup::advance`] when much is durable. A server without room for another slot gives pieces of the slot itself, one after the other.
//! Who has caught up goes on with the stream from the last durable end of a transaction; transactions that end at or before it may come
//! again and are dropped by their [`end_lsn`](super::assemble::Assembled::end_lsn).
//!
//! The server keeps all of a piece before it sends the first row of it (in memory up to `work_mem`, then in temporary files), and each
//! piece is decoded from the slot's `restart_lsn` on. So pieces should be small for those who wait, and large beside what is read once
//! more. The text of values follows the session's settings: they are to be those of the stream.

use std::ops::RangeInclusive;
use std::pin::Pin;

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt as _;
use tokio_postgres::CopyOutStream;
use tokio_postgres::types::PgLsn;

use super::pgoutput::Malformed;
use super::replication::NAMES;
use super::slot::valid_slot;
use super::{Lsn, PostgresError, Session};

#[cfg(test)]
mod tests;

/// Good sizes of pieces, in messages.
pub const PIECES: RangeInclusive<u32> = 100_000..=1_000_000;
/// The oldest server whose plugin sends logical messages.
const MESSAGES_SINCE: u32 = 140_000;
/// With less than this to read, the stream is as fast.
pub const NEAR_BYTES: u64 = 16 << 20;

/// What a slot has not confirmed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Up to where all is confirmed.
    pub confirmed: Lsn,
    /// The server's last flushed position.
    pub end: Lsn,
    /// Bytes of log between both.
    pub bytes: u64,
    /// Bytes of log before, which the server reads once more.
    pub again_bytes: u64,
    /// The server's clock, in microseconds since the epoch.
    pub time: i64,
}

impl Backlog {
    /// Whether the rest is better read from the stream.
    pub fn is_near(&self) -> bool {
        self.bytes < NEAR_BYTES
    }
}

/// A slot whose backlog is fetched. Reading and moving it takes the privilege that replication takes; a read-only session may do both.
#[derive(Debug)]
pub struct Catchup<'c> {
    session: &'c Session,
    slot: String,
    publication: String,
}

impl<'c> Catchup<'c> {
    /// A slot and the publication that it is read by.
    ///
    /// # Errors
    /// A name that no slot can have.
    pub fn new(session: &'c Session, slot: &str, publication: &str) -> Result<Self, PostgresError> {
        Ok(Catchup {
            session,
            slot: valid_slot(slot)?.to_owned(),
            publication: publication.to_owned(),
        })
    }

    /// How much there is to fetch.
    ///
    /// # Errors
    /// Where the slot is not there; what the server says.
    pub async fn backlog(&self) -> Result<Backlog, PostgresError> {
        self.backlog_of(&self.slot).await
    }

    async fn backlog_of(&self, slot: &str) -> Result<Backlog, PostgresError> {
        let sql = "select confirmed_flush_lsn, coalesce(restart_lsn, confirmed_flush_lsn), \
                     case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn() end, \
                     (extract(epoch from clock_timestamp()) * 1000000)::int8 \
                   from pg_replication_slots where slot_name = $1 and database = current_database()";
        let row = self.session.client().query_opt(sql, &[&slot]).await?;
        let found = row.and_then(|row| {
            let lsn = |at| Some(Lsn(row.try_get::<_, Option<PgLsn>>(at).ok()??.into()));
            let (confirmed, end) = (lsn(0)?, lsn(2)?);
            Some(Backlog {
                confirmed,
                end,
                bytes: end.0.saturating_sub(confirmed.0),
                again_bytes: confirmed.0.saturating_sub(lsn(1)?.0),
                time: row.try_get(3).ok()?,
            })
        });
        found.ok_or_else(|| {
            let what = format!("there is no logical replication slot `{slot}` for this database");
            PostgresError::refused(what, "it was dropped, or belongs to another database")
        })
    }

    /// Begins to fetch pieces of some size, in messages; each before the one before it is durable where the server has room for a copy of
    /// the slot.
    pub async fn ahead(&self, sizes: RangeInclusive<u32>) -> Ahead<'_, 'c> {
        let sql = "select slot_name::text from pg_copy_logical_replication_slot($1, 'firstbad_ahead_' || pg_backend_pid(), true)";
        // Whatever is in the way of a copy, the slot itself can be read.
        let made = self.session.client().query_one(sql, &[&self.slot]).await;
        let copy = made.ok().and_then(|row| row.try_get::<_, String>(0).ok());
        Ahead {
            catchup: self,
            copy,
            messages: *sizes.start(),
            sizes,
            begun: None,
        }
    }

    /// Begins to fetch a piece: whole transactions, until there are this many messages or no more transactions.
    ///
    /// # Errors
    /// What the server says; that the slot is not there (SQLSTATE 42704) or somebody else reads it (55006), it says at the first
    /// message only.
    pub async fn next_batch(&self, upto_messages: u32) -> Result<Batch, PostgresError> {
        self.batch("peek", &self.slot, upto_messages).await
    }

    async fn batch(
        &self,
        how: &str,
        slot: &str,
        upto_messages: u32,
    ) -> Result<Batch, PostgresError> {
        let messages = match self.session.server_version_num() {
            MESSAGES_SINCE.. => ", 'messages', 'true'",
            _ => "",
        };
        let sql = format!(
            "copy (select data from pg_logical_slot_{how}_binary_changes({}, null, {}, 'proto_version', '1', \
             'publication_names', {}{messages})) to stdout (format binary)",
            literal(slot),
            // The function takes a signed number.
            upto_messages.clamp(1, i32::MAX.unsigned_abs()),
            literal(&format!("\"{}\"", self.publication.replace('"', "\"\""))),
        );
        self.session.client().batch_execute(NAMES).await?;
        let stream = self.session.client().copy_out(&sql).await?;
        Ok(Batch {
            stream: Box::pin(stream),
            rows: BinaryRows::default(),
            messages: 0,
        })
    }

    /// Moves the slot to the end of a durable transaction: what lies before is not given again, and the server may forget it.
    ///
    /// # Errors
    /// What the server says: SQLSTATE 55006 while somebody else reads the slot.
    pub async fn advance(&self, durable: Lsn) -> Result<Lsn, PostgresError> {
        let confirmed = self.backlog().await?.confirmed;
        // The server refuses to go back.
        if durable <= confirmed {
            return Ok(confirmed);
        }
        let sql = "select end_lsn from pg_replication_slot_advance($1, $2)";
        let target = PgLsn::from(durable.0);
        let row = self
            .session
            .client()
            .query_one(sql, &[&self.slot, &target])
            .await?;
        let reached: PgLsn = row.try_get(0)?;
        Ok(Lsn(reached.into()))
    }
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A backlog that is fetched piece by piece.
#[derive(Debug)]
pub struct Ahead<'a, 'c> {
    catchup: &'a Catchup<'c>,
    /// The copy of the slot that is read; None where the slot itself is.
    copy: Option<String>,
    /// How many messages a piece may have, and the last one was to have.
    sizes: RangeInclusive<u32>,
    messages: u32,
    /// What there was to fetch before the last piece.
    begun: Option<Backlog>,
}

impl Ahead<'_, '_> {
    /// Whether pieces can be fetched before those before them are durable, and the slot was moved behind them.
    pub fn is_ahead(&self) -> bool {
        self.copy.is_some()
    }

    /// Begins to fetch the next piece.
    ///
    /// # Errors
    /// As [`Catchup::next_batch`].
    pub async fn next_batch(&mut self) -> Result<Batch, PostgresError> {
        let (how, slot) = match &self.copy {
            Some(copy) => ("get", copy),
            None => ("peek", &self.catchup.slot),
        };
        let backlog = self.catchup.backlog_of(slot).await?;
        if let Some(begun) = &self.begun {
            let read = backlog.confirmed.0.saturating_sub(begun.confirmed.0).max(1);
            // As large as what the server reads once more for it.
            let messages = u64::from(self.messages).saturating_mul(backlog.again_bytes) / read;
            let messages = u32::try_from(messages).unwrap_or(u32::MAX);
            self.messages = messages.clamp(*self.sizes.start(), *self.sizes.end());
        }
        if self.copy.is_none() {
            // Each piece is waited for: few large ones.
            self.messages = *self.sizes.end();
        }
        self.begun = Some(backlog);
        self.catchup.batch(how, slot, self.messages).await
    }

    /// Whether a piece that was fetched to its end, with so many messages, was the last: then what there was before it.
    pub fn was_last(&self, messages: u64) -> Option<&Backlog> {
        self.begun
            .as_ref()
            .filter(|_| messages < u64::from(self.messages))
    }

    /// How much is left.
    ///
    /// # Errors
    /// What the server says.
    pub async fn backlog(&self) -> Result<Backlog, PostgresError> {
        let slot = self.copy.as_deref().unwrap_or(&self.catchup.slot);
        self.catchup.backlog_of(slot).await
    }

    /// Ends; the copy of the slot is gone, which the end of the session would see to as well.
    ///
    /// # Errors
    /// What the server says.
    pub async fn end(self) -> Result<(), PostgresError> {
        if let Some(copy) = &self.copy {
            let client = self.catchup.session.client();
            client
                .query_one("select pg_drop_replication_slot($1)", &[copy])
                .await?;
        }
        Ok(())
    }
}

/// A piece that is being fetched. Who drops it before its end leaves the rest unread; nothing of the slot itself was consumed.
pub struct Batch {
    stream: Pin<Box<CopyOutStream>>,
    rows: BinaryRows,
    messages: u64,
}

impl Batch {
    /// The next message, for an [`Assembler`](super::assemble::Assembler); None at the end of the piece.
    ///
    /// # Errors
    /// What the server says; bytes that are no binary `COPY`.
    pub async fn next(&mut self) -> Result<Option<Bytes>, PostgresError> {
        loop {
            if let Some(message) = self.rows.next().map_err(strange)? {
                self.messages += 1;
                return Ok(Some(message));
            }
            match self.stream.next().await {
                Some(bytes) => self.rows.push(bytes?),
                None => return self.rows.end().map(|()| None).map_err(strange),
            }
        }
    }

    /// How many messages were given so far; at the end, fewer than were asked for mean that nothing more was there.
    pub fn messages(&self) -> u64 {
        self.messages
    }
}

/// Bytes of a `COPY` that are none.
fn strange(error: Malformed) -> PostgresError {
    PostgresError::protocol(error.to_string())
}

/// The values of a binary `COPY` of one column that is never NULL. Format: PostgreSQL's documentation of `COPY`, "Binary Format".
#[derive(Debug, Default)]
struct BinaryRows {
    rest: Bytes,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Header,
    Rows,
    Ended,
}

const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// Signature, flags, length of the extension.
const HEADER_BYTES: usize = SIGNATURE.len() + 8;

impl BinaryRows {
    /// Takes bytes as they come. The server sends whole rows; what is cut is put together.
    fn push(&mut self, bytes: Bytes) {
        if self.rest.is_empty() {
            self.rest = bytes;
        } else {
            let mut joined = BytesMut::with_capacity(self.rest.len() + bytes.len());
            joined.extend_from_slice(&self.rest);
            joined.extend_from_slice(&bytes);
            self.rest = joined.freeze();
        }
    }

    /// The next whole value.
    fn next(&mut self) -> Result<Option<Bytes>, Malformed> {
        if self.state == State::Header && !self.header()? {
            return Ok(None);
        }
        if self.state == State::Ended {
            return match self.rest.is_empty() {
                true => Ok(None),
                false => Err(Malformed::new("rows after the end of a COPY")),
            };
        }
        let Some((columns, after)) = self.rest.split_first_chunk::<2>() else {
            return Ok(None);
        };
        match i16::from_be_bytes(*columns) {
            1 => {}
            -1 => {
                self.rest.advance(2);
                self.state = State::Ended;
                return self.next();
            }
            _ => return Err(Malformed::new("a row of a COPY has not one column")),
        }
        let Some((length, after)) = after.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = usize::try_from(i32::from_be_bytes(*length))
            .map_err(|_| Malformed::new("a NULL or a negative length in a COPY"))?;
        if after.len() < length {
            return Ok(None);
        }
        self.rest.advance(6);
        Ok(Some(self.rest.split_to(length)))
    }

    /// Passes over the header; false where it is not whole yet.
    fn header(&mut self) -> Result<bool, Malformed> {
        let Some(header) = self.rest.get(..HEADER_BYTES) else {
            return Ok(false);
        };
        let (flags, extension) = header[SIGNATURE.len()..].split_at(4);
        if &header[..SIGNATURE.len()] != SIGNATURE || flags != [0; 4] || extension != [0; 4] {
            return Err(Malformed::new("a COPY in another format"));
        }
        self.rest.advance(HEADER_BYTES);
        self.state = State::Rows;
        Ok(true)
    }

    /// No more bytes will come.
    fn end(&self) -> Result<(), Malformed> {
        match self.state {
            State::Ended => Ok(()),
            _ => Err(Malformed::new("a COPY ends too early")),
        }
    }
}
