//! A connection for queries.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::{Config, SslMode as TokioSslMode};
use tokio_postgres::{Client, NoTls};

use super::channel::Channel;
use super::wire::{Kind, Wire};
use super::{PostgresError, Target};

/// What a session may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read: the server refuses every write.
    ReadOnly,
    /// Also create publications, drop slots and the like.
    ReadWrite,
}

/// What decides how values are written as text, the same for queries and for the stream of changes; and that nothing of ours is
/// ended by a timeout of the server's, nor waits long for a lock while others queue up behind it.
const SETTINGS: &str = "SET DateStyle = 'ISO, MDY'; SET IntervalStyle = 'postgres'; SET TimeZone = 'UTC'; \
    SET extra_float_digits = 1; SET bytea_output = 'hex'; SET xmlbinary = 'base64'; SET lc_monetary = 'C'; \
    SET client_encoding = 'UTF8'; SET client_min_messages = 'warning'; SET standard_conforming_strings = on; \
    SET lock_timeout = '10s'; SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0";
/// The oldest server with `idle_session_timeout`.
const IDLE_SESSION_SINCE: u32 = 140_000;

/// Gives a connection the settings that firstbad relies on.
pub(super) async fn settle(wire: &mut Wire, access: Access) -> Result<(), PostgresError> {
    let mut sql = SETTINGS.to_owned();
    if wire.version >= IDLE_SESSION_SINCE {
        sql.push_str("; SET idle_session_timeout = 0");
    }
    if access == Access::ReadOnly {
        sql.push_str("; SET default_transaction_read_only = on");
    }
    wire.query(&sql).await.map(drop)
}

/// A connection for queries. It ends when this is dropped.
pub struct Session {
    client: Client,
    version: u32,
    connection: tokio::task::JoinHandle<()>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Connects and logs in, under a name by which the server's people know us (the target's, where it has one). Runs on the
    /// caller's tokio runtime.
    ///
    /// # Errors
    /// What connecting and logging in can meet; see [`PostgresError::is_transient`].
    pub async fn open(
        target: &Target,
        application: &str,
        access: Access,
    ) -> Result<Session, PostgresError> {
        let limit = target.connect_timeout();
        let mut wire = Wire::open(target, application, Kind::Queries).await?;
        let settled = tokio::time::timeout(limit, settle(&mut wire, access)).await;
        settled.unwrap_or_else(|_| {
            Err(PostgresError::Timeout {
                doing: "settling the session".into(),
                limit,
            })
        })?;
        let version = wire.version;
        let mut config = Config::new();
        config
            .user(target.user())
            .dbname(target.database())
            .ssl_mode(TokioSslMode::Disable);
        let (client, connection) = config.connect_raw(LoggedIn::new(wire), NoTls).await?;
        let connection = tokio::spawn(async move {
            // A failure reaches whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(Session {
            client,
            version,
            connection,
        })
    }

    /// The connection, for queries.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The connection, for transactions.
    pub fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    /// The server's version as a number, as `server_version_num` has it: 150018 is 15.18.
    pub fn server_version_num(&self) -> u32 {
        self.version
    }

    /// Says goodbye and waits until the connection is closed.
    pub async fn close(self) {
        drop(self.client);
        let _ = self.connection.await;
    }
}

/// A connection on which somebody is logged in, for a library that wants to log in itself: its first message goes nowhere, and it
/// hears that all is well. So there is one way of logging in, and one place where passwords are sent.
struct LoggedIn {
    channel: Channel,
    /// What it hears before the server speaks.
    first: Bytes,
    /// What of its first message has come: the length, then how much is missing.
    header: BytesMut,
    swallow: usize,
}

impl LoggedIn {
    fn new(wire: Wire) -> Self {
        let mut first = BytesMut::new();
        for (tag, body) in [
            (b'R', [0; 4].as_slice()),
            (b'K', wire.backend.as_ref()),
            (b'Z', b"I".as_slice()),
        ] {
            let length = u32::try_from(body.len() + 4).expect("a key has a few bytes");
            first.put_u8(tag);
            first.put_u32(length);
            first.put_slice(body);
        }
        first.put_slice(&wire.input);
        LoggedIn {
            channel: wire.channel,
            first: first.freeze(),
            header: BytesMut::with_capacity(4),
            swallow: 4,
        }
    }

    /// How much of a write belongs to the first message.
    fn swallowed(&mut self, buf: &[u8]) -> usize {
        let count = self.swallow.min(buf.len());
        self.swallow -= count;
        if self.header.len() < 4 {
            self.header.extend_from_slice(&buf[..count]);
            if let Some(length) = self.header.first_chunk::<4>() {
                self.swallow = (u32::from_be_bytes(*length) as usize).saturating_sub(4);
            }
        }
        count
    }
}

impl AsyncRead for LoggedIn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.has_remaining() {
            let count = self.first.remaining().min(buf.remaining());
            let now = self.first.split_to(count);
            buf.put_slice(&now);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.channel).poll_read(cx, buf)
    }
}

impl AsyncWrite for LoggedIn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.swallow > 0 {
            return Poll::Ready(Ok(self.swallowed(buf)));
        }
        Pin::new(&mut self.channel).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.channel).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.channel).poll_shutdown(cx)
    }
}
