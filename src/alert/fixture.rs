//! What tests of alerts have in common: servers that keep what they were sent, and a store with incidents.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::{Options, Round, send_waiting};
use crate::change::Commit;
use crate::config::{self, Sink};
use crate::diagnostic::render;
use crate::incident::{
    Batch, Began, Detail, Healed, Incidents, Person, Reading, RuleFacts, Turns, Write,
};
use crate::rule::Severity;

/// The longest that a test waits for anything.
const DEADLINE: Duration = Duration::from_secs(20);
/// 2026-03-12 16:00:00Z, in microseconds.
pub(super) const START: i64 = 1_773_331_200_000_000;
pub(super) const MINUTE: i64 = 60_000_000;

/// Waits until something is so.
#[track_caller]
pub(super) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

/// A request that arrived.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Received {
    pub(super) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(have, _)| have == name);
        found.map_or("", |(_, value)| value)
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }
}

/// What a server does with a request.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// A status, a header line (or nothing) and a body.
    Status(u16, String, String),
    /// Nothing, for as long as the other side waits.
    Silence,
}

impl Answer {
    pub(super) fn status(code: u16) -> Answer {
        Answer::Status(code, String::new(), String::new())
    }
}

/// A web server; it answers 200 unless it is told otherwise.
pub(super) struct Web {
    pub(super) address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

trait Stream: Read + std::io::Write {}
impl<T: Read + std::io::Write> Stream for T {}

fn tls(stream: TcpStream, name: &str) -> Box<dyn Stream> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tls");
    let chain = CertificateDer::pem_file_iter(directory.join(format!("{name}.crt")))
        .expect("a certificate")
        .collect::<Result<Vec<_>, _>>()
        .expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(directory.join(format!("{name}.key"))).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they belong together");
    let connection = rustls::ServerConnection::new(Arc::new(config)).expect("a connection");
    Box::new(rustls::StreamOwned::new(connection, stream))
}

/// Encrypted with the certificate of this name, or not at all.
fn wrapped(stream: TcpStream, certificate: Option<&str>) -> Box<dyn Stream> {
    match certificate {
        Some(name) => tls(stream, name),
        None => Box::new(stream),
    }
}

impl Web {
    pub(super) fn start() -> Web {
        Web::on(TcpListener::bind("127.0.0.1:0").expect("a port"), None)
    }

    pub(super) fn encrypted(certificate: &'static str) -> Web {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        Web::on(listener, Some(certificate))
    }

    pub(super) fn on(listener: TcpListener, certificate: Option<&'static str>) -> Web {
        let web = Web {
            address: listener.local_addr().expect("an address"),
            received: Arc::default(),
            answers: Arc::default(),
        };
        let (received, answers) = (Arc::clone(&web.received), Arc::clone(&web.answers));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (received, answers) = (Arc::clone(&received), Arc::clone(&answers));
                std::thread::spawn(move || {
                    let stream = wrapped(stream.expect("a connection"), certificate);
                    let _ = exchange(stream, &received, &answers);
                });
            }
        });
        web
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What the next requests are answered.
    pub(super) fn answers(&self, answers: impl IntoIterator<Item = Answer>) {
        self.answers.lock().expect("no panic").extend(answers);
    }

    /// What arrived since the last call.
    pub(super) fn received(&self) -> Vec<Received> {
        std::mem::take(&mut self.received.lock().expect("no panic"))
    }

    pub(super) fn count(&self) -> usize {
        self.received.lock().expect("no panic").len()
    }
}

fn exchange(
    stream: Box<dyn Stream>,
    received: &Mutex<Vec<Received>>,
    answers: &Mutex<VecDeque<Answer>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_lowercase(), value.to_owned())),
            None => break,
        }
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let answer = answers.lock().expect("no panic").pop_front();
    received.lock().expect("no panic").push(Received {
        path,
        headers,
        body,
    });
    match answer.unwrap_or(Answer::status(200)) {
        Answer::Status(code, header, body) => {
            let length = body.len();
            let mut stream = reader.into_inner();
            write!(
                stream,
                "HTTP/1.1 {code} X\r\n{header}content-length: {length}\r\n\r\n{body}"
            )?;
            stream.flush()
        }
        // Until the other side goes away.
        Answer::Silence => reader.read_line(&mut line).map(|_| ()),
    }
}

/// A mail server: what it was sent, one text a mail, and what it answers to the receivers.
pub(super) struct MailServer {
    pub(super) address: SocketAddr,
    mails: Arc<Mutex<Vec<String>>>,
    logins: Arc<Mutex<Vec<String>>>,
    refusals: Arc<Mutex<VecDeque<&'static str>>>,
}

impl MailServer {
    pub(super) fn start(certificate: Option<&'static str>) -> MailServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = MailServer {
            address: listener.local_addr().expect("an address"),
            mails: Arc::default(),
            logins: Arc::default(),
            refusals: Arc::default(),
        };
        let (mails, logins) = (Arc::clone(&server.mails), Arc::clone(&server.logins));
        let refusals = Arc::clone(&server.refusals);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = wrapped(stream.expect("a connection"), certificate);
                let _ = talk(stream, &mails, &logins, &refusals);
            }
        });
        server
    }

    pub(super) fn refuses(&self, answer: &'static str) {
        self.refusals.lock().expect("no panic").push_back(answer);
    }

    pub(super) fn mails(&self) -> Vec<String> {
        std::mem::take(&mut self.mails.lock().expect("no panic"))
    }

    pub(super) fn logins(&self) -> Vec<String> {
        std::mem::take(&mut self.logins.lock().expect("no panic"))
    }
}

fn talk(
    stream: Box<dyn Stream>,
    mails: &Mutex<Vec<String>>,
    logins: &Mutex<Vec<String>>,
    refusals: &Mutex<VecDeque<&'static str>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let say = |reader: &mut BufReader<Box<dyn Stream>>, text: &str| {
        let stream = reader.get_mut();
        stream.write_all(format!("{text}\r\n").as_bytes())?;
        stream.flush()
    };
    say(&mut reader, "220 mail.example.com")?;
    let mut mail = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let word = line
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_uppercase();
        match word.as_str() {
            "EHLO" => say(&mut reader, "250-mail.example.com\r\n250 AUTH PLAIN")?,
            "AUTH" => {
                logins
                    .lock()
                    .expect("no panic")
                    .push(line.trim().to_owned());
                say(&mut reader, "235 welcome")?;
            }
            "RCPT" => {
                mail += &line;
                let refusal = refusals.lock().expect("no panic").pop_front();
                say(&mut reader, refusal.unwrap_or("250 fine"))?;
            }
            "DATA" => {
                say(&mut reader, "354 go on")?;
                loop {
                    line.clear();
                    reader.read_line(&mut line)?;
                    if line == ".\r\n" {
                        break;
                    }
                    mail += &line;
                }
                mails
                    .lock()
                    .expect("no panic")
                    .push(std::mem::take(&mut mail));
                say(&mut reader, "250 taken")?;
            }
            "QUIT" => {
                say(&mut reader, "221 bye")?;
                return Ok(());
            }
            _ => say(&mut reader, "250 fine")?,
        }
    }
}

/// The sinks that a file's `alerts:` names.
#[track_caller]
pub(super) fn sinks(alerts: &str) -> Vec<Sink> {
    let text = format!("alerts:\n{alerts}");
    let parsed = config::parse(&text, Path::new("firstbad.yaml"), &|_| None);
    parsed
        .unwrap_or_else(|wrong| panic!("{}", render(&wrong, false)))
        .alerts
}

/// A store with incidents, a clock, and what people were told.
pub(super) struct Shop {
    /// Kept where it is ours.
    _directory: Option<tempfile::TempDir>,
    path: PathBuf,
    incidents: Incidents,
    commit: Commit,
    pub(super) clock: Arc<AtomicI64>,
    told: Arc<Mutex<Vec<String>>>,
}

/// A rule about orders.
pub(super) fn rule(id: &str, severity: Severity) -> RuleFacts {
    RuleFacts {
        id: id.into(),
        description: Some("A paid order is handed to the warehouse.".into()),
        table: Some("public.orders".into()),
        severity,
        owner: Some("fulfilment".into()),
        runbook: Some("https://wiki.example.com/orders".into()),
        within_us: None,
        threshold: None,
        event: false,
        key: vec!["id".into()],
        redact: vec!["email".into()],
        reads: vec!["public.orders".into()],
        yaml: None,
        sql: None,
    }
}

pub(super) fn paid() -> RuleFacts {
    rule("paid-order-without-shipment", Severity::Critical)
}

/// A commit's attributes. What rules of one release find is one incident: only rules about paid orders have one.
fn write(commit: Commit, rule: &RuleFacts) -> Write {
    let context = match rule.id.starts_with("paid") {
        true => json!({"service": "checkout", "version": "v2.14.0"}),
        false => json!({"service": "checkout"}),
    };
    Write {
        lsn: Some(format!("0/{:X}", 0x1A2_B300 + 16 * commit)),
        xid: Some(8_120 + u64::from(commit)),
        time: Some(START + i64::from(commit) * MINUTE),
        context: context.as_object().cloned(),
        last_good: None,
    }
}

/// The key of an order: its order among keys, and how JSON shows it.
fn key(id: &Value) -> (Box<[u8]>, Map<String, Value>) {
    let order = id.to_string().into_bytes().into_boxed_slice();
    (order, Map::from_iter([("id".into(), id.clone())]))
}

impl Shop {
    pub(super) fn new() -> Shop {
        let directory = tempfile::tempdir().expect("a directory");
        let shop = Shop::at(directory.path());
        Shop {
            _directory: Some(directory),
            ..shop
        }
    }

    /// A shop whose store is somewhere.
    pub(super) fn at(path: &Path) -> Shop {
        let mut incidents = Incidents::open(path, "postgres shop").expect("it opens");
        incidents.begin(0, Some(START), &[]).expect("it begins");
        Shop {
            _directory: None,
            path: path.to_owned(),
            incidents,
            commit: 0,
            clock: Arc::new(AtomicI64::new(START)),
            told: Arc::default(),
        }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// The next commit: what it breaks, and what it heals.
    pub(super) fn commit(&mut self, rule: &RuleFacts, breaks: &[Value], heals: &[Value]) {
        self.turn(rule, breaks, heals, None);
    }

    /// The next commit, after which the rule cannot be judged.
    pub(super) fn turn(
        &mut self,
        rule: &RuleFacts,
        breaks: &[Value],
        heals: &[Value],
        unknown: Option<&str>,
    ) {
        let at = self.commit + 1;
        let began = breaks.iter().map(|id| {
            let (order, mut key) = key(id);
            if rule.key.len() > 1 {
                key.insert("email".into(), "ann@example.com".into());
            }
            Began {
                order,
                key,
                onset: at,
                write: write(at, rule),
            }
        });
        let details = breaks.iter().map(|id| {
            let evidence =
                json!({"status": "paid", "email": "ann@example.com", "iban": "DE89-3704"});
            Detail {
                order: key(id).0,
                evidence: evidence.as_object().cloned().expect("an object"),
                impact: Some("49.95".into()),
            }
        });
        let healed = heals.iter().map(|id| Healed {
            order: key(id).0,
            at,
            write: write(at, rule),
        });
        let batch = Batch {
            from: self.commit,
            until: at,
            now_us: write(at, rule).time,
            rules: vec![Turns {
                rule: rule.clone(),
                late: false,
                began: began.collect(),
                healed: healed.collect(),
                details: details.collect(),
                unknown: unknown.map(str::to_owned),
                judged: None,
            }],
        };
        self.incidents.take(&batch).expect("it is taken");
        self.commit = at;
    }

    pub(super) fn acknowledge(&self, id: &str) {
        let person = Person {
            by: Some("ann".into()),
            note: None,
            time: Some(START),
        };
        let mut reading = Reading::open(&self.path(), true)
            .expect("it opens")
            .expect("there");
        reading.acknowledge(id, &person).expect("it is written");
    }

    pub(super) fn mute(&self, id: &str, until: i64) {
        let mut reading = Reading::open(&self.path(), true)
            .expect("it opens")
            .expect("there");
        reading.mute(id, until).expect("it is written");
    }

    pub(super) fn pass(&self, micros: i64) {
        self.clock.fetch_add(micros, Ordering::SeqCst);
    }

    pub(super) fn options(&self) -> Options {
        let clock = Arc::clone(&self.clock);
        Options {
            clock: Arc::new(move || clock.load(Ordering::SeqCst)),
            look: Duration::from_millis(5),
            ..Options::default()
        }
    }

    pub(super) fn tell(&self) -> super::Tell {
        let told = Arc::clone(&self.told);
        Arc::new(move |text: &str| told.lock().expect("no panic").push(text.to_owned()))
    }

    /// What people were told since the last call.
    pub(super) fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().expect("no panic"))
    }

    /// Tells the sinks what waits.
    pub(super) fn send(&self, sinks: &[Sink]) -> Vec<Round> {
        self.send_with(sinks, &self.options())
    }

    pub(super) fn send_with(&self, sinks: &[Sink], options: &Options) -> Vec<Round> {
        let sent = send_waiting(&self.path(), sinks, false, options, self.tell());
        sent.expect("it is read").expect("something was watched")
    }

    /// Tells one sink what waits, and all of it arrives.
    #[track_caller]
    pub(super) fn arrives(&self, sinks: &[Sink], count: u64) {
        let rounds = self.send(sinks);
        assert_eq!((rounds[0].sent, &rounds[0].error), (count, &None));
    }
}
