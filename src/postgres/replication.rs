//! A connection for replication: commands first, then the stream of changes.

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use super::frame::{READ_BYTES, server_error};
use super::session::{Access, settle};
use super::stream::Stream;
use super::wire::{Kind, TextRows, Wire, encode, unexpected};
use super::{Lsn, PostgresError, Target};

/// The oldest server whose pgoutput passes on logical messages.
const MESSAGES_SINCE: u32 = 140_000;
/// The longest name that Postgres keeps.
const NAME_BYTES_MAX: usize = 63;

/// A connection for replication. It ends when this is dropped; a temporary slot ends with it.
pub struct Replication {
    wire: Wire,
}

impl std::fmt::Debug for Replication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replication").finish_non_exhaustive()
    }
}

/// Names of tables as values (`regclass`) are written with their schema, as snapshots have them.
pub(super) const NAMES: &str = "SET search_path = pg_catalog";

impl Replication {
    /// Connects and logs in for replication of the target's database, with the settings of [`super::Session`]: they decide the text of
    /// values in the stream.
    ///
    /// # Errors
    /// As [`super::Session::open`].
    pub async fn open(target: &Target, application: &str) -> Result<Replication, PostgresError> {
        let limit = target.connect_timeout();
        let mut wire = Wire::open(target, application, Kind::Replication).await?;
        let settled = tokio::time::timeout(limit, settle(&mut wire, Access::ReadWrite)).await;
        settled.unwrap_or_else(|_| {
            Err(PostgresError::Timeout {
                doing: "settling the connection".into(),
                limit,
            })
        })?;
        let mut replication = Replication { wire };
        replication.query(NAMES).await?;
        Ok(replication)
    }

    /// The server's version as a number, as `server_version_num` has it: 150018 is 15.18.
    pub fn server_version_num(&self) -> u32 {
        self.wire.version
    }

    /// Runs a replication command or SQL; its rows as text. Not cancellation-safe: after a call that was not waited for, the connection is
    /// of no more use. It waits as long as the server does, and creating a slot waits for all running transactions.
    ///
    /// # Errors
    /// What the server refuses; a lost connection.
    pub async fn query(&mut self, sql: &str) -> Result<TextRows, PostgresError> {
        self.wire.query(sql).await
    }

    /// Begins the stream of a slot's changes behind a position, at least behind what the slot has confirmed: pgoutput, version 1, text,
    /// with logical messages where the server has them (from 14 on).
    ///
    /// # Errors
    /// A name that cannot be; what the server refuses (55006: the slot is in use; 42704: there is none, or no such publication, or the
    /// publication is younger than the slot's position).
    pub async fn start(
        mut self,
        slot: &str,
        publications: &[&str],
        from: Lsn,
    ) -> Result<Stream, PostgresError> {
        let slot = super::slot::valid_slot(slot)?;
        let mut options = vec![
            "proto_version '1'".to_owned(),
            format!("publication_names {}", literal(&names(publications)?)),
        ];
        if self.wire.version >= MESSAGES_SINCE {
            options.push("messages 'true'".into());
        }
        let options = options.join(", ");
        let sql = format!("START_REPLICATION SLOT \"{slot}\" LOGICAL {from} ({options})");
        let mut out = BytesMut::new();
        frontend::query(&sql, &mut out).map_err(encode)?;
        self.wire.send(&out).await?;
        self.wire.input.reserve(READ_BYTES);
        loop {
            let frame = self.wire.receive(READ_BYTES).await?;
            match frame.tag {
                b'W' => return Ok(Stream::new(self.wire.channel, self.wire.input, from)),
                b'E' => return Err(server_error(frame.body)),
                b'N' | b'S' => {}
                tag => return Err(unexpected(tag)),
            }
        }
    }
}

/// Names in a list as the server splits it: each in double quotes.
fn names(publications: &[&str]) -> Result<String, PostgresError> {
    let mut out = Vec::with_capacity(publications.len());
    for name in publications {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
            return Err(PostgresError::argument(
                "this is no name of a publication",
                format!("a name has 1 to {NAME_BYTES_MAX} bytes"),
            ));
        }
        out.push(format!("\"{}\"", name.replace('"', "\"\"")));
    }
    if out.is_empty() {
        return Err(PostgresError::argument("no publication is named", ""));
    }
    Ok(out.join(","))
}

/// A text in single quotes. Backslashes mean nothing in the grammar of replication commands.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
