//! Logging in, and questions in the simple protocol: what both kinds of connections begin with.

use bytes::{Bytes, BytesMut};
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::channel::Channel;
use super::dial::{dial_host, modes, within};
use super::frame::{self, Frame, MESSAGE_MAX, Reader, server_error};
use super::target::{Binding, Host, SslMode};
use super::{PostgresError, Target};
use crate::escape;

/// Before a server has proven itself it is not listened to at length.
const GREETING_MAX: usize = 64 << 10;
/// The longest answer to a question in the simple protocol, in bytes.
const ANSWER_MAX: usize = 64 << 20;
/// How many messages may come before the server is ready: parameters and notices.
const GREETINGS_MAX: usize = 1000;

/// Rows of text, NULL as None.
pub type TextRows = Vec<Vec<Option<String>>>;

/// A connection on which somebody is logged in.
pub(super) struct Wire {
    pub(super) channel: Channel,
    pub(super) input: BytesMut,
    /// The server's version as a number: 150018 is 15.18.
    pub(super) version: u32,
    /// Process id and cancel key, as the server sent them.
    pub(super) backend: Bytes,
    pub(super) host: Host,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Queries,
    Replication,
}

impl Wire {
    /// Logs in at the first host that can be reached; with encryption that is only preferred, also without it.
    pub(super) async fn open(
        target: &Target,
        application: &str,
        kind: Kind,
    ) -> Result<Wire, PostgresError> {
        let mut last = None;
        'hosts: for host in target.hosts() {
            for mode in modes(target.ssl_mode(host)) {
                let limit = target.connect_timeout();
                let work = Wire::log_in(target, host, *mode, application, kind);
                match within(limit, host, work).await {
                    Ok(wire) => return Ok(wire),
                    Err(error) => {
                        let goes_on = may_try_another(&error, *mode);
                        // Where neither way is allowed, the first says what is wrong, the second only that it is no way either.
                        if !(is_barred(&error) && last.as_ref().is_some_and(is_barred)) {
                            last = Some(error);
                        }
                        if !goes_on {
                            break 'hosts;
                        }
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| PostgresError::argument("no host is named", "")))
    }

    async fn log_in(
        target: &Target,
        host: &Host,
        mode: SslMode,
        application: &str,
        kind: Kind,
    ) -> Result<Wire, PostgresError> {
        let mut wire = Wire {
            channel: dial_host(target, host, mode).await?,
            input: BytesMut::new(),
            version: 0,
            backend: Bytes::new(),
            host: host.clone(),
        };
        let application = target.application().unwrap_or(application);
        let mut parameters = vec![
            ("user", target.user()),
            ("database", target.database()),
            ("application_name", application),
            ("client_encoding", "UTF8"),
        ];
        if kind == Kind::Replication {
            parameters.push(("replication", "database"));
        }
        let mut out = BytesMut::new();
        frontend::startup_message(parameters, &mut out).map_err(encode)?;
        wire.send(&out).await?;
        wire.authenticate(target).await?;
        wire.greeting().await?;
        Ok(wire)
    }

    /// Sends bytes.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), PostgresError> {
        let sent = async {
            self.channel.write_all(bytes).await?;
            self.channel.flush().await
        };
        sent.await.map_err(PostgresError::io("send to the server"))
    }

    /// The next message.
    pub(super) async fn receive(&mut self, max: usize) -> Result<Frame, PostgresError> {
        loop {
            if let Some(frame) = frame::take(&mut self.input, max)? {
                return Ok(frame);
            }
            let read = self.channel.read_buf(&mut self.input).await;
            if read.map_err(PostgresError::io("hear from the server"))? == 0 {
                return Err(PostgresError::closed());
            }
        }
    }

    async fn authenticate(&mut self, target: &Target) -> Result<(), PostgresError> {
        let frame = self.receive(GREETING_MAX).await?;
        let (code, mut reader) = authentication(frame)?;
        if code != 10 && target.binding == Binding::Require {
            return Err(self.unbound());
        }
        let mut out = BytesMut::new();
        match code {
            0 => return Ok(()),
            3 if self.channel.is_private() => {
                frontend::password_message(self.password()?.as_bytes(), &mut out)
            }
            3 => {
                return Err(PostgresError::refused(
                    format!(
                        "{} asks for the password in clear text on a connection that is not encrypted",
                        self.host.shown()
                    ),
                    "write sslmode=verify-full, or let the server ask by scram-sha-256 (pg_hba.conf)",
                ));
            }
            5 => {
                let salt = reader.bytes(4)?;
                let salt = salt.as_ref().try_into().expect("four bytes were taken");
                let hash = md5_hash(target.user().as_bytes(), self.password()?.as_bytes(), salt);
                frontend::password_message(hash.as_bytes(), &mut out)
            }
            10 => return self.scram(reader, target.binding).await,
            _ => {
                return Err(PostgresError::refused(
                    format!("{} asks for a way of logging in that is not known here", self.host.shown()),
                    "known are scram-sha-256, md5, password over TLS, client certificates and trust (pg_hba.conf)",
                ));
            }
        }
        .map_err(encode)?;
        self.send(&out).await?;
        let frame = self.receive(GREETING_MAX).await?;
        match authentication(frame)? {
            (0, _) => Ok(()),
            _ => Err(PostgresError::protocol("the login goes on without an end")),
        }
    }

    /// SCRAM-SHA-256 (RFC 5802, RFC 7677): neither side shows the password, both prove that they know it.
    async fn scram(&mut self, offered: Reader, binding: Binding) -> Result<(), PostgresError> {
        let (binding, mechanism) = self.mechanism(offered, binding)?;
        // What is wrong in the exchange is not repeated: the library's texts quote parts of it.
        let broken =
            |_| PostgresError::protocol("the exchange of proofs of the password (SCRAM) fails");
        let password = self.password()?.to_owned();
        let mut scram = sasl::ScramSha256::new(password.as_bytes(), binding);
        let mut out = BytesMut::new();
        frontend::sasl_initial_response(mechanism, scram.message(), &mut out).map_err(encode)?;
        self.send(&out).await?;
        let reader = self.step(11).await?;
        scram.update(&reader.0).map_err(broken)?;
        out.clear();
        frontend::sasl_response(scram.message(), &mut out).map_err(encode)?;
        self.send(&out).await?;
        let reader = self.step(12).await?;
        scram.finish(&reader.0).map_err(broken)?;
        self.step(0).await?;
        Ok(())
    }

    /// The way of SCRAM, of those that the server offers: bound to the TLS connection where both sides can.
    fn mechanism(
        &self,
        mut offered: Reader,
        binding: Binding,
    ) -> Result<(sasl::ChannelBinding, &'static str), PostgresError> {
        let (mut is_offered, mut is_binding_offered) = (false, false);
        loop {
            match offered.text()?.as_str() {
                "" => break,
                name => {
                    is_offered |= name == sasl::SCRAM_SHA_256;
                    is_binding_offered |= name == sasl::SCRAM_SHA_256_PLUS;
                }
            }
        }
        let hash = self.channel.certificate_hash();
        let hash = hash.filter(|_| binding != Binding::Disable);
        Ok(match hash {
            Some(hash) if is_binding_offered => (
                sasl::ChannelBinding::tls_server_end_point(hash),
                sasl::SCRAM_SHA_256_PLUS,
            ),
            _ if !is_offered => {
                return Err(PostgresError::refused(
                    format!(
                        "{} offers no way of logging in that is known here",
                        self.host.shown()
                    ),
                    "known is scram-sha-256, with channel binding over TLS",
                ));
            }
            _ if binding == Binding::Require => return Err(self.unbound()),
            // We could and the server cannot: said inside the proof, so that nobody between can pretend it.
            Some(_) => (sasl::ChannelBinding::unrequested(), sasl::SCRAM_SHA_256),
            None => (sasl::ChannelBinding::unsupported(), sasl::SCRAM_SHA_256),
        })
    }

    /// The user wants a login that is bound to TLS, and this one is not.
    fn unbound(&self) -> PostgresError {
        PostgresError::refused(
            format!(
                "{} does not bind the login to the TLS connection",
                self.host.shown()
            ),
            "that needs TLS and scram-sha-256 there; channel_binding=prefer does without",
        )
    }

    /// The next step of a login, which must be the one that is due: a server that leaves out its own proof is refused.
    async fn step(&mut self, due: i32) -> Result<Reader, PostgresError> {
        let frame = self.receive(GREETING_MAX).await?;
        match authentication(frame)? {
            (code, reader) if code == due => Ok(reader),
            _ => Err(PostgresError::protocol("a step of the login is left out")),
        }
    }

    fn password(&self) -> Result<&str, PostgresError> {
        let password = self.host.password.as_ref();
        password.map(|secret| secret.0.as_str()).ok_or_else(|| {
            PostgresError::argument(
                format!(
                    "{} asks for a password and none is given",
                    self.host.shown()
                ),
                "set PGPASSWORD, or add a line to ~/.pgpass",
            )
        })
    }

    /// What the server says of itself until it is ready.
    async fn greeting(&mut self) -> Result<(), PostgresError> {
        for _ in 0..GREETINGS_MAX {
            let frame = self.receive(GREETING_MAX).await?;
            match frame.tag {
                b'S' => {
                    let mut reader = Reader(frame.body);
                    let (name, value) = (reader.text()?, reader.text()?);
                    if name == "server_version" {
                        self.version = version(&value);
                    }
                }
                b'K' => self.backend = frame.body,
                b'Z' => return Ok(()),
                b'E' => return Err(server_error(frame.body)),
                b'N' => {}
                tag => return Err(unexpected(tag)),
            }
        }
        Err(PostgresError::protocol("it greets without an end"))
    }

    /// Asks in the simple protocol: rows of all statements, as text.
    pub(super) async fn query(&mut self, sql: &str) -> Result<TextRows, PostgresError> {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out).map_err(encode)?;
        self.send(&out).await?;
        let (mut rows, mut bytes, mut failure) = (Vec::new(), 0usize, None);
        loop {
            let frame = self.receive(MESSAGE_MAX).await?;
            match frame.tag {
                b'D' => {
                    bytes = bytes.saturating_add(frame.body.len());
                    if bytes > ANSWER_MAX {
                        return Err(PostgresError::protocol("an answer is too long"));
                    }
                    rows.push(row(frame.body)?);
                }
                b'E' => failure = Some(server_error(frame.body)),
                b'Z' => return failure.map_or(Ok(rows), Err),
                b'T' | b'C' | b'I' | b'N' | b'S' | b'A' => {}
                tag => return Err(unexpected(tag)),
            }
        }
    }
}

/// The code of a step of the login and what follows it.
fn authentication(frame: Frame) -> Result<(i32, Reader), PostgresError> {
    match frame.tag {
        b'R' => {
            let mut reader = Reader(frame.body);
            Ok((reader.i32()?, reader))
        }
        b'E' => Err(server_error(frame.body)),
        tag => Err(unexpected(tag)),
    }
}

/// A row of text.
fn row(body: Bytes) -> Result<Vec<Option<String>>, PostgresError> {
    let mut reader = Reader(body);
    let count = reader.i16()?;
    let mut out = Vec::new();
    for _ in 0..count {
        let length = reader.i32()?;
        out.push(match usize::try_from(length) {
            Ok(length) => {
                let bytes = reader.bytes(length)?;
                Some(String::from_utf8_lossy(&bytes).into_owned())
            }
            Err(_) => None,
        });
    }
    Ok(out)
}

/// `15.18 (Debian …)` as 150018; `16beta1` as 160000.
fn version(text: &str) -> u32 {
    let number = |text: Option<&str>| {
        let text = text.unwrap_or_default();
        let end = text.find(|c: char| !c.is_ascii_digit());
        text[..end.unwrap_or(text.len())].parse().unwrap_or(0u32)
    };
    let mut parts = text.split('.');
    let (major, minor) = (number(parts.next()), number(parts.next()));
    major.saturating_mul(10_000).saturating_add(minor)
}

pub(super) fn unexpected(tag: u8) -> PostgresError {
    let tag = escape::terminal(&char::from(tag).to_string());
    PostgresError::protocol(format!("a message `{tag}` where none may come"))
}

/// A text with a NUL in it, which no message can hold.
pub(super) fn encode(_: std::io::Error) -> PostgresError {
    PostgresError::argument("a name or password holds a NUL", "")
}

/// After a failure, is the next way or host tried? A wrong password is wrong everywhere, and must not be sent around.
fn may_try_another(error: &PostgresError, mode: SslMode) -> bool {
    let is_preferred = mode == SslMode::Prefer;
    match error {
        PostgresError::Tls { .. } => is_preferred,
        // `pg_hba.conf` may allow one of both ways only.
        error if is_barred(error) => is_preferred,
        error => error.is_transient(),
    }
}

/// Does `pg_hba.conf` let nobody in this way?
fn is_barred(error: &PostgresError) -> bool {
    error.sqlstate() == Some("28000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        for (text, number) in [
            ("15.18 (Debian 15.18-0+deb12u1)", 150_018),
            ("16beta1", 160_000),
            ("17.0", 170_000),
            ("9.6.24", 90_006),
            ("", 0),
            ("99999999999.1", 1),
        ] {
            assert_eq!(version(text), number, "{text}");
        }
    }

    #[test]
    fn rows_that_lie_about_themselves_are_refused() {
        let row = |bytes: &'static [u8]| row(Bytes::from_static(bytes)).ok();
        assert_eq!(row(b"\0\x01\0\0\0\x01a"), Some(vec![Some("a".into())]));
        assert_eq!(row(b"\0\x01\xff\xff\xff\xff"), Some(vec![None]));
        assert_eq!(row(b"\0\x02\0\0\0\x01a"), None);
        assert_eq!(row(b"\0\x01\x7f\xff\xff\xffa"), None);
        assert_eq!(row(b""), None);
    }
}
