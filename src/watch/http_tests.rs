//! What callers get, well-behaved ones and others.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Outside;
use super::http::{Limits, Listen, Token, serve};
use super::metrics::{AWAY_MAX, Health, Metrics};
use crate::gate::{self, Reads, UpTo};
use crate::incident::{Batch, Began, Healed, Incidents, RuleFacts, Turns};
use crate::postgres::Lsn;
use crate::rule::Severity;
use crate::verdict::Verdict;

const TOKEN: &str = "sixteen bytes or more";

struct Served {
    address: SocketAddr,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    store: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

fn served(token: Option<&str>, limits: Limits) -> Served {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let listen = Listen::parse(":0", token).expect("an address");
    let listener = runtime.block_on(tokio::net::TcpListener::bind(listen.address));
    let listener = listener.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (health, metrics) = (Arc::new(Health::default()), Arc::new(Metrics::new()));
    let token: Option<Token> = listen.token;
    let store = tempfile::tempdir().expect("a directory");
    runtime.spawn(serve(
        listener,
        token,
        limits,
        Outside {
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&health),
        },
        store.path().to_owned(),
    ));
    Served {
        store,
        address,
        health,
        metrics,
        _runtime: runtime,
    }
}

impl Served {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("somebody listens");
        let patience = Some(Duration::from_secs(60));
        stream.set_read_timeout(patience).expect("a timeout");
        stream
    }

    /// What comes back for some bytes, until the other side closes.
    fn says(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // It may be closed before all is written.
        let _ = stream.write_all(bytes);
        rest(stream)
    }

    fn get(&self, path: &str) -> String {
        self.says(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
    }
}

fn rest(mut stream: TcpStream) -> String {
    let mut out = Vec::new();
    match stream.read_to_end(&mut out) {
        Ok(_) => {}
        // What was not read when it closed.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn status(response: &str) -> &str {
    response.get(9..12).unwrap_or("")
}

#[test]
fn metrics_are_in_the_text_form() {
    let served = served(None, Limits::default());
    let metrics = &served.metrics;
    metrics.lag(4096, 1.5);
    metrics.received(2, 7);
    metrics.judged(12);
    metrics.confirmed(u64::MAX);
    metrics.rule("a\"b\n", Duration::from_millis(3), Verdict::Unknown);
    let count = |state: &str| (state.to_owned(), "critical".to_owned(), 3);
    metrics.incidents(&[count("open")]);
    metrics.incidents(&[count("closed")]);
    let response = served.get("/metrics");
    assert_eq!(status(&response), "200", "{response}");
    for line in [
        "firstbad_lag_bytes 4096",
        "firstbad_lag_seconds 1.5",
        "firstbad_changes_total 7",
        "firstbad_transactions_total 2",
        "firstbad_judged_commit 12",
        "firstbad_confirmed_lsn 9223372036854775807",
        "firstbad_verdict{rule=\"a\\\"b\\n\"} 2",
        "firstbad_judge_seconds_count{rule=\"a\\\"b\\n\"} 1",
        "firstbad_incidents{state=\"closed\",severity=\"critical\"} 3",
        "# EOF",
    ] {
        assert!(
            response.lines().any(|have| have == line),
            "{line}\n{response}"
        );
    }
    assert!(!response.contains("state=\"open\""));
    let head = served.says(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(
        status(&head) == "200" && head.ends_with("\r\n\r\n"),
        "{head}"
    );
}

#[test]
fn health_says_why_not() {
    let now = Instant::now();
    let health = Health::new(now);
    let reasons = |health: &Health, now| {
        let (healthy, document) = health.report(now);
        assert_eq!(document["healthy"], healthy);
        (
            healthy,
            document["state"].clone(),
            document["reasons"].clone(),
        )
    };
    assert_eq!(
        reasons(&health, now + AWAY_MAX),
        (true, json!("connecting"), json!([]))
    );
    let late = now + AWAY_MAX + Duration::from_secs(1);
    let away = json!(["not streaming for 61 seconds"]);
    assert_eq!(reasons(&health, late), (false, json!("connecting"), away));
    health.streaming();
    assert_eq!(
        reasons(&health, late),
        (true, json!("streaming"), json!([]))
    );
    health.paused(true);
    health.store_failed(true);
    let (healthy, state, said) = reasons(&health, late);
    assert_eq!(
        (healthy, state, said.as_array().map(Vec::len)),
        (false, json!("failed"), Some(2))
    );

    let served = served(None, Limits::default());
    served.health.streaming();
    served.health.judged(7);
    let response = served.get("/healthz?verbose");
    let body = response.split("\r\n\r\n").nth(1).expect("a body");
    let body: Value = serde_json::from_str(body).expect("JSON");
    assert_eq!(
        (status(&response), &body["judged"], &body["lag"]["bytes"]),
        ("200", &json!(7), &json!(0))
    );
    served.health.paused(true);
    assert_eq!(status(&served.get("/healthz")), "503");
}

#[test]
fn other_paths_and_methods_are_refused() {
    let served = served(None, Limits::default());
    for path in [
        "/",
        "/metrics/",
        "/../etc/passwd",
        "//healthz",
        "/%6detrics",
    ] {
        assert_eq!(status(&served.get(path)), "404", "{path}");
    }
    let post = "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\nbody";
    let response = served.says(post.as_bytes());
    assert_eq!(status(&response), "405");
    assert!(
        response.to_lowercase().contains("\r\nallow: get, head\r\n"),
        "{response}"
    );
    assert_eq!(status(&served.get("/healthz")), "200");
}

#[test]
fn a_token_is_asked_for() {
    let served = served(Some(TOKEN), Limits::default());
    let with = |header: &str| {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n");
        status(&served.says(request.as_bytes())).to_owned()
    };
    assert_eq!(with(&format!("Authorization: Bearer {TOKEN}")), "200");
    assert_eq!(with(&format!("authorization: bearer {TOKEN}")), "200");
    for wrong in [
        "X: y",
        "Authorization: Bearer",
        "Authorization: Bearer x",
        "Authorization: Basic eDp5",
    ] {
        assert_eq!(with(wrong), "401", "{wrong}");
    }
    assert_eq!(with(&format!("Authorization: Bearer {TOKEN}x")), "401");
    assert_eq!(status(&served.get("/nowhere")), "401");
}

#[test]
fn garbage_and_huge_heads_end_the_connection() {
    let served = served(None, Limits::default());
    for bytes in [
        &b"\x00\xff\x16\x03\x01 garbage\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"\r\n\r\n\r\nX",
    ] {
        let response = served.says(&[bytes, &[0; 64]].concat());
        assert!(
            response.is_empty() || status(&response) == "400",
            "{response}"
        );
    }
    let long = format!(
        "GET /metrics HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
        "y".repeat(1 << 20)
    );
    let response = served.says(long.as_bytes());
    assert!(
        response.is_empty() || ["431", "400"].contains(&status(&response)),
        "{response}"
    );
    let many = "A: b\r\n".repeat(1000);
    let response = served.says(format!("GET /metrics HTTP/1.1\r\n{many}\r\n").as_bytes());
    assert!(
        response.is_empty() || ["431", "400"].contains(&status(&response)),
        "{response}"
    );
    assert_eq!(status(&served.get("/metrics")), "200");
}

#[test]
fn slow_callers_are_left_and_many_wait_for_nobody() {
    let limits = Limits {
        connections: 4,
        time: Duration::from_millis(300),
        ..Limits::default()
    };
    let served = served(None, limits);
    // All places are taken by callers that never finish their request.
    let mut slow: Vec<TcpStream> = (0..4).map(|_| served.connect()).collect();
    for stream in &mut slow {
        stream
            .write_all(b"GET /metrics HT")
            .expect("it is accepted");
    }
    // Further ones are closed without an answer, or come in when the first have gone.
    let extra = served.get("/metrics");
    assert!(extra.is_empty() || status(&extra) == "200", "{extra}");
    for stream in slow {
        assert_eq!(rest(stream), "");
    }
    assert_eq!(status(&served.get("/metrics")), "200");
}

#[test]
fn only_loopback_is_open_to_anybody() {
    for text in [
        "127.0.0.1:9187",
        "[::1]:9187",
        "localhost:1",
        ":65535",
        "127.9.9.9:1",
        "[::ffff:127.0.0.1]:1",
    ] {
        let listen = Listen::parse(text, None).expect(text);
        assert!(listen.address.ip().to_canonical().is_loopback(), "{text}");
    }
    for text in [
        "0.0.0.0:9187",
        "[::]:9187",
        "10.0.0.1:1",
        "[::ffff:10.0.0.1]:1",
    ] {
        let error = Listen::parse(text, None).expect_err(text);
        assert!(error.contains("--listen-token"), "{error}");
        let listen = Listen::parse(text, Some(TOKEN)).expect(text);
        assert!(!format!("{listen:?}").contains(TOKEN));
    }
    assert!(Listen::parse(":1", Some("short")).is_err());
    for text in ["", "9187", "example.com:80", ":99999", "127.0.0.1"] {
        assert!(Listen::parse(text, Some(TOKEN)).is_err(), "{text}");
    }
}

#[test]
fn a_gate_is_asked_of_the_store() {
    let served = served(None, Limits::default());
    let ask = |query: &str| {
        let response = served.get(&format!("/gate{query}"));
        let body = response.split("\r\n\r\n").nth(1).unwrap_or_default();
        let body: Value = serde_json::from_str(body).unwrap_or(Value::Null);
        (status(&response).to_owned(), body)
    };
    // Nothing was judged yet: that is not clean.
    let (code, body) = ask("?table=orders");
    assert_eq!(
        (code.as_str(), &body["verdict"]),
        ("503", &json!("unknown"))
    );

    let mut incidents = Incidents::open(served.store.path(), "postgres").expect("it opens");
    let facts = RuleFacts {
        id: "orders.status.null".into(),
        description: None,
        table: Some("public.orders".into()),
        severity: Severity::Error,
        owner: None,
        runbook: None,
        within_us: None,
        threshold: None,
        event: false,
        key: vec!["id".into()],
        redact: Vec::new(),
        reads: Vec::new(),
        yaml: None,
        sql: None,
    };
    let reads = Reads {
        rule: facts.id.clone(),
        severity: facts.severity,
        tables: ["public.orders".to_owned()].into(),
        event: false,
    };
    let turns = |began: Vec<Began>, healed: Vec<Healed>| Turns {
        rule: facts.clone(),
        late: false,
        began,
        healed,
        details: Vec::new(),
        unknown: None,
        judged: None,
    };
    let now = chrono::Utc::now().timestamp_micros();
    let at = |commit: u32| UpTo {
        commit: Some(commit),
        lsn: Some(Lsn(0x1000 + u64::from(commit))),
        time: Some(now),
    };
    incidents.begin(0, Some(now), &[]).expect("it begins");
    gate::keep_rules(&mut incidents, &[reads]).expect("kept");
    gate::keep_position(&mut incidents, &at(0)).expect("kept");
    let (code, body) = ask("?table=orders");
    assert_eq!(code, "503", "a rule that was not judged yet: {body}");

    let batch = |from: u32, turns: Turns| Batch {
        from,
        until: from + 1,
        now_us: Some(now),
        rules: vec![turns],
    };
    let order: Box<[u8]> = Box::from([7]);
    let key = json!({"id": 4410}).as_object().cloned().expect("an object");
    let began = Began {
        order: order.clone(),
        key,
        onset: 1,
        write: Default::default(),
    };
    let bad = batch(0, turns(vec![began], Vec::new()));
    incidents.take(&bad).expect("taken");
    gate::keep_position(&mut incidents, &at(1)).expect("kept");
    let (code, body) = ask("?table=orders&lsn=0/1001");
    assert_eq!(code, "409", "{body}");
    assert_eq!(body["tables"][0]["incidents"], json!(["I-1"]));

    let healed = Healed {
        order,
        at: 2,
        write: Default::default(),
    };
    let good = batch(1, turns(Vec::new(), vec![healed]));
    incidents.take(&good).expect("taken");
    gate::keep_position(&mut incidents, &at(2)).expect("kept");
    let (code, body) = ask("?table=public.orders&lsn=0/1002");
    assert_eq!(
        (code.as_str(), &body["up_to"]["commit"]),
        ("200", &json!(2))
    );
    assert_eq!(ask("?table=orders&lsn=0/1003").0, "503");
    assert_eq!(ask("?table=shipments").0, "503");
    assert_eq!(ask("").0, "200");
    assert_eq!(ask("?table=").0, "400");
    assert_eq!(ask("?since=yesterday").0, "400");
    drop(incidents);
    // A file that cannot be read is not clean, and nobody is told where it is.
    let file = served.store.path().join(crate::incident::DATABASE);
    for rest in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{rest}", file.display()));
    }
    std::fs::write(&file, "no database").expect("written");
    let (code, body) = ask("?table=orders");
    assert_eq!(code, "503");
    assert!(!body.to_string().contains("firstbad.db"), "{body}");
}
