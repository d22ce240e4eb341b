//! `firstbad alert` (docs/alerts.md): who is told, whether it arrives, what waits; that a process may be killed between telling and marking;
//! and that what is secret is nowhere.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use firstbad::incident::{Batch, Began, Incidents, RuleFacts, Turns, Write};
use firstbad::rule::Severity;
use serde_json::{Map, Value, json};

use crate::place::Place;

const SECRET: &str = "s3cr3t-hunter2";

/// A web server that hands out what arrives: the request's head and body, and the connection to answer on.
fn server() -> (String, Receiver<(String, Value, TcpStream)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (arrived, received) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.expect("a connection"));
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).expect("a line");
                if let Some(text) = line.to_lowercase().strip_prefix("content-length: ") {
                    length = text.trim().parse().expect("a length");
                }
                if line.trim().is_empty() {
                    break;
                }
                head += &line;
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            let body = serde_json::from_slice(&body).expect("JSON");
            if arrived.send((head, body, reader.into_inner())).is_err() {
                return;
            }
        }
    });
    (address, received)
}

fn answer(stream: &mut TcpStream, status: u16) {
    let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(answer.as_bytes()).expect("it is written");
}

/// What is asked for; the time is far more than it takes.
fn next(received: &Receiver<(String, Value, TcpStream)>) -> (String, Value, TcpStream) {
    received
        .recv_timeout(Duration::from_secs(30))
        .expect("a request")
}

/// A watcher finds a bad order in a store.
fn found(store: &Path, number: u32) {
    let mut incidents = Incidents::open(store, "postgres").expect("it opens");
    incidents.begin(0, Some(0), &[]).expect("it begins");
    let rule = RuleFacts {
        id: "paid-order-without-shipment".into(),
        description: None,
        table: Some("public.orders".into()),
        severity: Severity::Critical,
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
    let began = Began {
        order: Box::from(number.to_be_bytes()),
        key: Map::from_iter([("id".into(), number.into())]),
        onset: number,
        write: Write {
            time: Some(i64::from(number) * 1_000_000),
            ..Write::default()
        },
    };
    let turns = Turns {
        rule,
        late: false,
        began: vec![began],
        healed: Vec::new(),
        details: Vec::new(),
        unknown: None,
        judged: None,
    };
    let batch = Batch {
        from: number - 1,
        until: number,
        now_us: Some(i64::from(number) * 1_000_000),
        rules: vec![turns],
    };
    incidents.take(&batch).expect("it is taken");
}

fn place(alerts: &str) -> Place {
    let place = Place::new().with("firstbad.yaml", format!("store: orders\nalerts:\n{alerts}"));
    place.write(
        "h/schema.sql",
        "create table orders (id bigint primary key);",
    );
    place.write("h/snapshot/orders.csv", "id\n1\n");
    place
        .run_with(&["snapshot", "h"], &[("SECRET", SECRET)])
        .exits(0);
    found(&place.path("orders"), 1);
    place
}

#[test]
fn what_waits_is_told_once_and_listed() {
    let (address, received) = server();
    let place = place(&format!(
        "- {{name: ops, webhook: \"http://{address}/x\", allow: private}}\n"
    ));
    place
        .run(&["alert", "list"])
        .exits(0)
        .says(&["ops", "webhook http://127.0.0.1:"]);
    let answers = std::thread::spawn(move || {
        let (head, body, mut stream) = next(&received);
        answer(&mut stream, 204);
        (head, body, received)
    });
    place
        .run(&["alert", "send"])
        .exits(0)
        .says(&["ops: 1 message arrived\n"]);
    let (head, body, received) = answers.join().expect("no panic");
    assert_eq!(body["change"], "opened");
    assert!(head.to_lowercase().contains(&format!(
        "firstbad-id: {}",
        body["id"].as_str().unwrap_or("?")
    )));
    place
        .run(&["alert", "send"])
        .exits(0)
        .says(&["ops: 0 messages arrived\n"]);
    assert!(received.try_recv().is_err());
    let listed = place
        .run(&["alert", "list", "--format", "json"])
        .exits(0)
        .json();
    assert_eq!(listed["schema"], "firstbad/alerts@1");
    let sink = &listed["sinks"][0];
    assert_eq!(
        (&sink["name"], &sink["delivered"], &sink["waiting"]),
        (&json!("ops"), &json!(1), &json!(0))
    );
    // The store is as sound as before.
    place.run(&["verify", "orders"]).exits(0);
}

#[test]
fn a_process_that_is_killed_before_it_marks_tells_again_under_the_same_id() {
    let (address, received) = server();
    let place = place(&format!(
        "- {{name: ops, webhook: \"http://{address}/\", allow: private}}\n"
    ));
    let mut ids = Vec::new();
    for _ in 0..3 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_firstbad"))
            .args(["alert", "send"])
            .current_dir(place.path(""))
            .stdout(Stdio::null())
            .spawn()
            .expect("it starts");
        // The sink has it, and nobody knows.
        let (_, body, _stream) = next(&received);
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        ids.push(body["id"].clone());
    }
    let answers = std::thread::spawn(move || {
        let (_, body, mut stream) = next(&received);
        answer(&mut stream, 200);
        (body["id"].clone(), received)
    });
    place
        .run(&["alert", "send"])
        .exits(0)
        .says(&["1 message arrived"]);
    let (last, received) = answers.join().expect("no panic");
    assert!(ids.iter().all(|id| *id == last), "{ids:?} {last}");
    place
        .run(&["alert", "send"])
        .exits(0)
        .says(&["0 messages arrived"]);
    assert!(received.try_recv().is_err());
}

#[test]
fn a_test_says_what_came_back() {
    let (address, received) = server();
    let place = place(&format!(
        "- {{name: good, slack: \"http://{address}/good\", allow: private}}\n- {{name: bad, slack: \"http://{address}/bad\", allow: private}}\n"
    ));
    let answers = std::thread::spawn(move || {
        for status in [200, 403, 200] {
            let (_, body, mut stream) = next(&received);
            assert_eq!(body["text"], "*firstbad: a test, nothing is wrong*");
            answer(&mut stream, status);
        }
    });
    let ran = place.run(&["alert", "test"]).exits(3);
    ran.says(&[
        "good (slack http://127.0.0.1:",
        "): arrived\n",
        "did not arrive: the server answered 403\n",
    ]);
    place.run(&["alert", "test", "--to", "good"]).exits(0);
    answers.join().expect("no panic");
    place
        .run(&["alert", "test", "--to", "goood"])
        .refused(&["no sink is called `goood`", "there is good, bad"]);
}

#[test]
fn mistakes_stop_before_anything_is_told() {
    let place = place(
        "- {name: ops, slack: \"https://hooks.example.com/\", ca: none.pem, template: \"{{ x | y }}\"}\n",
    );
    place.run(&["alert", "test"]).refused(&[
        "firstbad.yaml:3:",
        "`none.pem`",
        "this template cannot be used",
    ]);
    let none = Place::new();
    none.run(&["alert", "list"])
        .refused(&["nobody is to be told", "alerts:"]);
    none.write("firstbad.yaml", "alerts: [{name: ops, command: page}]");
    none.run(&["alert", "list"])
        .refused(&["there is no store in"]);
}

/// Every place of the file that may hold a secret.
fn secrets(address: &str) -> String {
    format!(
        "- {{name: hook, webhook: \"http://{address}/${{SECRET}}?k=${{SECRET}}\", secret: \"${{SECRET}}\", allow: private}}\n\
         - {{name: chat, slack: \"http://{address}/${{SECRET}}\", allow: private}}\n\
         - {{name: page, pagerduty: {{routing_key: \"${{SECRET}}\", url: \"http://{address}/${{SECRET}}\"}}, allow: private}}\n\
         - {{name: am, alertmanager: \"http://{address}/${{SECRET}}\", allow: private}}\n\
         - name: mail\n  email: {{smtp: \"smtp+plain://127.0.0.1:1\", from: \"${{SECRET}}@example.com\", to: b@example.com, user: \"${{SECRET}}\", password: \"${{SECRET}}\"}}\n\
         - {{name: run, command: [\"false\", \"${{SECRET}}\"]}}\n\
         - {{name: lost, command: [\"/nowhere/${{SECRET}}\", \"${{SECRET}}\"]}}\n\
         - {{name: away, webhook: \"https://${{SECRET}}.invalid/\"}}\n"
    )
}

#[test]
fn secrets_are_nowhere() {
    let (address, received) = server();
    std::thread::spawn(move || {
        // Whoever is told repeats what it was told.
        for (head, body, mut stream) in received {
            let echo = format!("{head}{body}");
            let text = format!(
                "HTTP/1.1 400 X\r\ncontent-length: {}\r\n\r\n{echo}",
                echo.len()
            );
            let _ = stream.write_all(text.as_bytes());
        }
    });
    let place = place(&secrets(&address));
    let mut seen = String::new();
    let runs: [&[&str]; 7] = [
        &["alert", "test", "-vvv"],
        &["alert", "send", "-vvv"],
        &["alert", "send", "--failed"],
        &["alert", "list"],
        &["alert", "list", "--format", "json"],
        &["alert", "send", "--to", "nobody"],
        &["incident", "show", "I-1", "--store", "orders"],
    ];
    for arguments in runs {
        let ran = place.run_with(arguments, &[("SECRET", SECRET)]);
        seen += &(ran.out + &ran.err);
    }
    assert!(seen.contains("the server answered 400"), "{seen}");
    for entry in std::fs::read_dir(place.path("orders")).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            let bytes = std::fs::read(path).expect("it can be read");
            seen += &String::from_utf8_lossy(&bytes);
        }
    }
    assert!(!seen.contains(SECRET), "{seen}");
    assert!(!seen.contains("hunter2"), "{seen}");
}
