//! The bytes to and from a server: a Unix socket, TCP, or TLS over TCP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio_rustls::client::TlsStream;

/// A connection to a server, before anything was said on it.
pub struct Channel(pub(super) Transport);

pub(super) enum Transport {
    #[cfg(unix)]
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            #[cfg(unix)]
            Transport::Unix(_) => "Channel(unix)",
            Transport::Tcp(_) => "Channel(tcp)",
            Transport::Tls(_) => "Channel(tls)",
        })
    }
}

impl Channel {
    /// Nobody between us and the server can read along: encrypted, or on this machine by a socket.
    pub fn is_private(&self) -> bool {
        !matches!(self.0, Transport::Tcp(_))
    }

    /// What stands for the server's certificate in the proof of the password (`tls-server-end-point`, RFC 5929): None without TLS, and for
    /// certificates whose hash is not known here.
    pub(super) fn certificate_hash(&self) -> Option<Vec<u8>> {
        let Transport::Tls(stream) = &self.0 else {
            return None;
        };
        let (_, connection) = stream.get_ref();
        super::tls::end_point(connection.peer_certificates()?.first()?)
    }

    /// Encrypted by TLS.
    pub fn is_tls(&self) -> bool {
        matches!(self.0, Transport::Tls(_))
    }
}

/// Calls a method of the transport, whichever it is.
macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.get_mut().0 {
            #[cfg(unix)]
            Transport::Unix($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Transport::Tcp($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Transport::Tls($stream) => {
                let $stream = Pin::new($stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Channel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Channel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_shutdown(cx))
    }
}
