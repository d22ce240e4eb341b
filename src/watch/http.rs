//! `/metrics`, `/healthz` and `/gate` over HTTP/1.1: one request a connection, nothing is read but its head.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use hyper::header::{HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::Outside;
use crate::gate::{self, Answer, Ask, Gate};
use crate::incident::{IncidentError, Reading};

/// The fewest bytes of a token.
const TOKEN_MIN: usize = 16;
/// How long nothing is accepted after that failed, as it does without file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// What a caller has to know.
#[derive(Clone)]
pub struct Token(blake3::Hash);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Token {
    fn new(text: &str) -> Token {
        Token(blake3::hash(text.as_bytes()))
    }

    /// Whether a text is the token; takes as long for all texts of a length.
    fn is(&self, text: &[u8]) -> bool {
        // Hashes are compared in constant time.
        blake3::hash(text) == self.0
    }
}

/// Where to listen, and to whom.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The address.
    pub address: SocketAddr,
    /// What callers have to know; None for anybody, which only a loopback address may.
    pub token: Option<Token>,
}

impl Listen {
    /// Reads `127.0.0.1:9187`, `[::1]:9187`, `localhost:9187` or `:9187` (which is loopback).
    ///
    /// # Errors
    /// What is wrong, and what to write instead: also for an address that others reach when there is no token.
    pub fn parse(text: &str, token: Option<&str>) -> Result<Listen, String> {
        let loopback = text
            .strip_prefix("localhost:")
            .or_else(|| text.strip_prefix(':'));
        let address = match loopback {
            Some(port) => port
                .parse()
                .ok()
                .map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            None => text.parse().ok(),
        };
        let address: SocketAddr =
            address.ok_or("not an address with a port; write e.g. 127.0.0.1:9187")?;
        if token.is_some_and(|token| token.len() < TOKEN_MIN) {
            return Err(format!("the token is shorter than {TOKEN_MIN} bytes"));
        }
        if token.is_none() && !is_loopback(address.ip()) {
            return Err(
                "others reach this address: give a token with --listen-token or FIRSTBAD_TOKEN, or listen on 127.0.0.1"
                    .to_owned(),
            );
        }
        Ok(Listen {
            address,
            token: token.map(Token::new),
        })
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

/// What callers may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; further ones are closed.
    pub connections: usize,
    /// How long a connection may last.
    pub time: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 64,
            time: Duration::from_secs(10),
            head_bytes: 16 << 10,
        }
    }
}

/// Answers requests until the future is dropped. Gates are asked of the incidents in a store's directory.
pub async fn serve(
    listener: TcpListener,
    token: Option<Token>,
    limits: Limits,
    outside: Outside,
    store: PathBuf,
) {
    let face = Arc::new(Face {
        token,
        outside,
        store,
    });
    let free = Arc::new(Semaphore::new(limits.connections));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&free).try_acquire_owned() else {
            continue;
        };
        let face = Arc::clone(&face);
        tokio::spawn(async move {
            // A caller that is too slow, or speaks something else, is left alone.
            let _ = tokio::time::timeout(limits.time, answer(stream, limits, face)).await;
            drop(permit);
        });
    }
}

async fn answer(stream: TcpStream, limits: Limits, face: Arc<Face>) -> Result<(), hyper::Error> {
    let service = service_fn(move |request: Request<Incoming>| {
        let face = Arc::clone(&face);
        async move { Ok::<_, Infallible>(face.respond(&request, Instant::now()).await) }
    });
    http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(limits.head_bytes.max(8 << 10))
        .timer(TokioTimer::new())
        .header_read_timeout(limits.time)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

struct Face {
    token: Option<Token>,
    outside: Outside,
    store: PathBuf,
}

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

impl Face {
    async fn respond(&self, request: &Request<Incoming>, now: Instant) -> Response<Full<Bytes>> {
        if !self.lets_in(request) {
            let text = "a token is needed: Authorization: Bearer TOKEN\n";
            return with(
                plain(StatusCode::UNAUTHORIZED, PLAIN, text.into()),
                WWW_AUTHENTICATE,
                "Bearer",
            );
        }
        let path = request.uri().path();
        if !["/metrics", "/healthz", "/gate"].contains(&path) {
            let text = "there are /metrics, /healthz and /gate\n";
            return plain(StatusCode::NOT_FOUND, PLAIN, text.into());
        }
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let text = "only GET and HEAD\n";
            return with(
                plain(StatusCode::METHOD_NOT_ALLOWED, PLAIN, text.into()),
                ALLOW,
                "GET, HEAD",
            );
        }
        if path == "/metrics" {
            let form = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            return plain(StatusCode::OK, form, self.outside.metrics.text());
        }
        if path == "/gate" {
            return self.gate(request.uri().query().unwrap_or("")).await;
        }
        let (healthy, document) = self.outside.health.report(now);
        let status = match healthy {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        plain(status, JSON, format!("{document}\n"))
    }

    /// 200 where tables are clean, 409 where they are not, 503 where that is not known.
    async fn gate(&self, query: &str) -> Response<Full<Bytes>> {
        let ask = match Ask::of_query(query) {
            Ok(ask) => ask,
            Err(wrong) => return plain(StatusCode::BAD_REQUEST, PLAIN, format!("{wrong}\n")),
        };
        let store = self.store.clone();
        let asked = tokio::task::spawn_blocking(move || asked(&store, &ask)).await;
        let gate = match asked {
            Ok(Ok(gate)) => gate,
            // What failed is said on the watcher's side; here a path would be told to strangers.
            _ => Gate::not_known("what is known of incidents cannot be read"),
        };
        let status = match gate.answer {
            Answer::Clean => StatusCode::OK,
            Answer::NotClean => StatusCode::CONFLICT,
            Answer::Unknown => StatusCode::SERVICE_UNAVAILABLE,
        };
        plain(status, JSON, gate.json())
    }

    fn lets_in(&self, request: &Request<Incoming>) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        let given = request.headers().get(AUTHORIZATION);
        let given = given.and_then(|value| {
            let (scheme, rest) = value.as_bytes().split_at_checked(7)?;
            scheme.eq_ignore_ascii_case(b"Bearer ").then_some(rest)
        });
        given.is_some_and(|given| token.is(given))
    }
}

fn asked(store: &Path, ask: &Ask) -> Result<Gate, IncidentError> {
    let known = match Reading::open(store, false)? {
        Some(reading) => gate::watched(&reading)?,
        None => None,
    };
    let now = crate::change::now_us();
    Ok(match known {
        Some(known) => known.gate(ask, now),
        None => Gate::not_known("nothing was judged yet"),
    })
}

/// A response; of a HEAD request, hyper leaves the body out.
fn plain(status: StatusCode, form: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let response = with(response, CONTENT_TYPE, form);
    let response = with(response, CACHE_CONTROL, "no-store");
    with(response, X_CONTENT_TYPE_OPTIONS, "nosniff")
}

fn with(
    mut response: Response<Full<Bytes>>,
    name: HeaderName,
    value: &'static str,
) -> Response<Full<Bytes>> {
    let value = HeaderValue::from_static(value);
    response.headers_mut().insert(name, value);
    response
}
