//! Reaching a server: its socket or address, and encryption before the first word.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::channel::{Channel, Transport};
use super::target::{Address, Host, SslMode};
use super::{PostgresError, Target, tls};

/// Connects to the first of a target's hosts that answers, within a time for each.
///
/// # Errors
/// The last host's, where none answers.
pub async fn dial(target: &Target, timeout: Duration) -> Result<Channel, PostgresError> {
    let mut last = None;
    for host in target.hosts() {
        for mode in modes(target.ssl_mode(host)) {
            match within(timeout, host, dial_host(target, host, *mode)).await {
                Ok(channel) => return Ok(channel),
                Err(error) => last = Some(error),
            }
        }
    }
    Err(last.unwrap_or_else(|| PostgresError::argument("no host is named", "")))
}

/// What is tried, one after the other: a server whose TLS is broken may do without it where we only prefer it.
pub(super) fn modes(mode: SslMode) -> &'static [SslMode] {
    match mode {
        SslMode::Disable => &[SslMode::Disable],
        SslMode::Prefer => &[SslMode::Prefer, SslMode::Disable],
        SslMode::Require => &[SslMode::Require],
        SslMode::VerifyCa => &[SslMode::VerifyCa],
        SslMode::VerifyFull => &[SslMode::VerifyFull],
    }
}

/// An answer within a time, or an error that names the host.
pub(super) async fn within<T>(
    limit: Duration,
    host: &Host,
    work: impl Future<Output = Result<T, PostgresError>>,
) -> Result<T, PostgresError> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(PostgresError::Timeout {
            doing: format!("connecting to {}", host.shown()),
            limit,
        }),
    }
}

/// Connects to one host in one way.
pub(super) async fn dial_host(
    target: &Target,
    host: &Host,
    mode: SslMode,
) -> Result<Channel, PostgresError> {
    match &host.address {
        Address::Socket(directory) => socket(directory, host).await,
        Address::Tcp(name) => {
            let stream = tcp(name, host).await?;
            match mode {
                SslMode::Disable => Ok(Channel(Transport::Tcp(stream))),
                mode => encrypted(target, name, stream, mode, host).await,
            }
        }
    }
}

#[cfg(unix)]
async fn socket(directory: &std::path::Path, host: &Host) -> Result<Channel, PostgresError> {
    let path = directory.join(format!(".s.PGSQL.{}", host.port));
    let stream = tokio::net::UnixStream::connect(path).await;
    let stream = stream.map_err(PostgresError::io(format!("connect to {}", host.shown())))?;
    Ok(Channel(Transport::Unix(stream)))
}

#[cfg(not(unix))]
async fn socket(_: &std::path::Path, _: &Host) -> Result<Channel, PostgresError> {
    Err(PostgresError::argument(
        "this system has no Unix sockets",
        "name a host",
    ))
}

/// A TCP connection to the first address of a name that answers.
async fn tcp(name: &str, host: &Host) -> Result<TcpStream, PostgresError> {
    let doing = format!("connect to {}", host.shown());
    let addresses = tokio::net::lookup_host((name, host.port)).await;
    let addresses = addresses.map_err(PostgresError::io(format!("find {}", host.shown())))?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(PostgresError::io(doing)(last))
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_keepalive(true)?;
    socket.set_nodelay(true)?;
    socket.connect(address).await
}

/// Asks for TLS and begins it.
async fn encrypted(
    target: &Target,
    name: &str,
    mut stream: TcpStream,
    mode: SslMode,
    host: &Host,
) -> Result<Channel, PostgresError> {
    // Read before asking, so that a file that is missing is not the server's fault.
    let config = tls::config(target, mode)?;
    let doing = || PostgresError::io(format!("ask {} for TLS", host.shown()));
    let mut request = bytes::BytesMut::new();
    postgres_protocol::message::frontend::ssl_request(&mut request);
    stream.write_all(&request).await.map_err(doing())?;
    // One byte and no more: what somebody slipped in behind it must go through TLS, which refuses it (CVE-2021-23222).
    let answer = stream.read_u8().await.map_err(doing())?;
    match answer {
        b'S' => {
            let stream = tls::begin(config, name, stream, host).await?;
            Ok(Channel(Transport::Tls(Box::new(stream))))
        }
        b'N' if mode == SslMode::Prefer => Ok(Channel(Transport::Tcp(stream))),
        b'N' => Err(PostgresError::Tls {
            message: format!("{} does not offer TLS", host.shown()),
            hint: Some(
                "switch it on there (ssl = on), or write sslmode=disable where the network is trusted".into(),
            ),
        }),
        // An error message, from before anybody is proven to be anybody: not shown.
        b'E' => Err(PostgresError::Tls {
            message: format!("{} answers the request for TLS with an error", host.shown()),
            hint: None,
        }),
        _ => Err(PostgresError::protocol(format!(
            "{} is no Postgres server: its answer to the request for TLS is unknown",
            host.shown()
        ))),
    }
}
