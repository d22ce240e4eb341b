//! A small HTTP client: one request a connection, to the very address that was checked, within limits. No redirect is followed.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::SendError;
use super::address::{self, Allowed};

/// How long it may take, and how much may come back.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Finding the address, connecting and the handshake.
    pub connect: Duration,
    /// All of it.
    pub total: Duration,
    /// The longest answer that is read.
    pub answer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connect: Duration::from_secs(5),
            total: Duration::from_secs(15),
            answer_bytes: 16 << 10,
        }
    }
}

impl Limits {
    /// The longest wait that a server may ask for.
    pub const RETRY_MAX: Duration = Duration::from_secs(3_600);
}

/// The longest word of an answer that is shown.
const WORD_MAX: usize = 60;

/// What posts.
pub(super) struct Client {
    tls: Arc<ClientConfig>,
    limits: Limits,
    private: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// A request.
pub(super) struct Post<'a> {
    pub(super) url: &'a Url,
    pub(super) id: &'a str,
    pub(super) signature: Option<String>,
    pub(super) body: Vec<u8>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The certificates of a file.
///
/// # Errors
/// What is wrong with it.
pub(super) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = std::fs::read(file).map_err(|error| format!("it cannot be read: {error}"))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err("it holds no certificate in PEM".to_owned()),
        Ok(found) => Ok(found),
        Err(_) => Err("it cannot be read as PEM".to_owned()),
    }
}

impl Client {
    /// A client that trusts the known authorities and those of a file, and speaks to private networks or does not.
    ///
    /// # Errors
    /// [`SendError::Setup`] where the file cannot be used.
    pub(super) fn new(
        ca: Option<&Path>,
        private: bool,
        limits: Limits,
    ) -> Result<Client, SendError> {
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        if let Some(file) = ca {
            let own =
                certificates(file).map_err(|error| SendError::Setup(format!("ca: {error}")))?;
            roots.add_parsable_certificates(own);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| SendError::Setup(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Client {
            tls: Arc::new(config),
            limits,
            private,
        })
    }

    /// Posts JSON.
    ///
    /// # Errors
    /// Where it was not taken.
    pub(super) async fn post(&self, post: Post<'_>) -> Result<(), SendError> {
        let all = self.exchange(post);
        let answered = tokio::time::timeout(self.limits.total, all).await;
        answered.unwrap_or(Err(SendError::Timeout))
    }

    async fn exchange(&self, post: Post<'_>) -> Result<(), SendError> {
        let url = post.url;
        let stream = tokio::time::timeout(self.limits.connect, self.connect(url)).await;
        let stream = stream.unwrap_or(Err(SendError::Timeout))?;
        let broken = |error: hyper::Error| match error.is_timeout() {
            true => SendError::Timeout,
            false => SendError::Network("the connection broke off"),
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let request = request(post)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            let (head, body) = response.into_parts();
            // What is too long, or breaks off, is not needed.
            let body = Limited::new(body, self.limits.answer_bytes).collect().await;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            verdict(head.status, head.headers.get(RETRY_AFTER), &body)
        };
        // The connection works as long as it is polled; the exchange needs no more of it than its own answer.
        tokio::pin!(exchange);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            biased;
            done = &mut exchange => done,
            _ = &mut connection => exchange.await,
        }
    }

    async fn connect(&self, url: &Url) -> Result<Box<dyn Stream>, SendError> {
        let encrypted = url.scheme() == "https";
        let allowed = match (encrypted, self.private) {
            (true, false) => Allowed::Public,
            (true, true) => Allowed::PrivateToo,
            (false, _) => Allowed::PrivateOnly,
        };
        let port = url.port_or_known_default().unwrap_or(443);
        let found: Vec<SocketAddr> = match url.host() {
            Some(Host::Ipv4(address)) => vec![(address, port).into()],
            Some(Host::Ipv6(address)) => vec![(address, port).into()],
            Some(Host::Domain(name)) => tokio::net::lookup_host((name, port))
                .await
                .map_err(|_| SendError::Network("its name has no address"))?
                .collect(),
            None => return Err(SendError::Setup("the URL names no host".to_owned())),
        };
        let stream = connected(address::allowed(found, allowed)?).await?;
        if !encrypted {
            return Ok(Box::new(stream));
        }
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| SendError::Setup("no certificate can have this host's name".to_owned()))?;
        let stream = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, stream)
            .await;
        Ok(Box::new(stream.map_err(|error| tls_error(&error))?))
    }
}

/// A connection to the first address that answers.
async fn connected(addresses: Vec<SocketAddr>) -> Result<TcpStream, SendError> {
    let mut last = SendError::Network("its name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Small requests are not to wait for each other.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => {
                last = SendError::Network(match error.kind() {
                    std::io::ErrorKind::ConnectionRefused => "the connection was refused",
                    std::io::ErrorKind::TimedOut => "the connection was not answered",
                    _ => "it cannot be reached",
                });
            }
        }
    }
    Err(last)
}

fn tls_error(error: &std::io::Error) -> SendError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(_)) => SendError::Certificate,
        _ => SendError::Network("the TLS handshake failed"),
    }
}

fn request(post: Post<'_>) -> Result<Request<Full<Bytes>>, SendError> {
    let url = post.url;
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let host = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, host)
        .header(CONNECTION, "close")
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("firstbad/", env!("CARGO_PKG_VERSION")))
        .header("Firstbad-Id", post.id);
    if let Some(signature) = post.signature {
        request = request.header("Firstbad-Signature", signature);
    }
    let request = request.body(Full::new(Bytes::from(post.body)));
    request.map_err(|_| SendError::Setup("the URL cannot be asked for".to_owned()))
}

/// What an answer means.
fn verdict(
    status: StatusCode,
    retry_after: Option<&hyper::header::HeaderValue>,
    body: &[u8],
) -> Result<(), SendError> {
    if status.is_success() {
        return Ok(());
    }
    let code = status.as_u16();
    if status.is_redirection() {
        return Err(SendError::Redirect(code));
    }
    let seconds = retry_after.and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    Err(SendError::Status {
        code,
        word: word(body),
        retry_after: seconds.map(|seconds| Duration::from_secs(seconds).min(Limits::RETRY_MAX)),
    })
}

/// What Slack and its like say in one word, such as `no_service`. Longer answers are not shown: they may repeat what was sent.
fn word(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let is_word = !text.is_empty()
        && text.len() <= WORD_MAX
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_word.then(|| text.to_owned())
}
