//! `firstbad incident` (docs/incidents.md): what a watcher left in a store's firstbad.db is listed, shown, acknowledged and closed.

use std::path::Path;

use firstbad::change::Commit;
use firstbad::incident::{
    Batch, Began, Detail, Healed, Incidents, RuleFacts, Standing, Turns, Write,
};
use firstbad::rule::Severity;
use serde_json::{Map, Value, json};

use crate::place::{Place, Ran};

const SCHEMA: &str =
    "create table orders (id bigint primary key, status text, email text, total numeric(10,2));";
/// Commit 2 breaks two orders, commit 3 another one; commit 4 heals the first; commit 5 writes what must not change.
const CHANGES: [&str; 5] = [
    r#"{"table":"orders","op":"insert","after":{"id":4409,"status":"placed","email":"a@example.com","total":"5.00"}}"#,
    r#"{"table":"orders","op":"insert","after":{"id":4410,"status":"paid","email":"b@example.com","total":"99.95"}},{"table":"orders","op":"update","key":{"id":4409},"before":{"status":"placed"},"after":{"status":"paid"}}"#,
    r#"{"table":"orders","op":"insert","after":{"id":4411,"status":"paid","email":"c@example.com","total":"12.50"}}"#,
    r#"{"table":"orders","op":"delete","before":{"id":4409}}"#,
    r#"{"table":"orders","op":"update","key":{"id":4410},"after":{"total":"0.00"}}"#,
];
const MINUTE: i64 = 60_000_000;
/// 2026-03-12 16:00:00Z
const START: i64 = 1_773_331_200_000_000;

fn time(commit: Commit) -> i64 {
    START + i64::from(commit) * MINUTE
}

fn lsn(commit: Commit) -> String {
    format!("0/{:X}", 0x1A2_B300 + 16 * commit)
}

fn context(commit: Commit) -> Value {
    json!({"service": "checkout", "version": format!("v2.{}.0", 12 + commit)})
}

fn write(commit: Commit) -> Write {
    Write {
        lsn: Some(lsn(commit)),
        xid: Some(8_120 + u64::from(commit)),
        time: Some(time(commit)),
        context: context(commit).as_object().cloned(),
        last_good: None,
    }
}

fn key(id: u32) -> (Box<[u8]>, Map<String, Value>) {
    (
        Box::from(id.to_be_bytes()),
        Map::from_iter([("id".into(), id.into())]),
    )
}

fn began(id: u32, onset: Commit, evidence: Value) -> (Began, Detail) {
    let (order, key) = key(id);
    let detail = Detail {
        order: order.clone(),
        evidence: evidence.as_object().cloned().expect("an object"),
        impact: None,
    };
    let began = Began {
        order,
        key,
        onset,
        write: write(onset),
    };
    (began, detail)
}

fn rule(id: &str, severity: Severity) -> RuleFacts {
    RuleFacts {
        id: id.into(),
        description: None,
        table: Some("public.orders".into()),
        severity,
        owner: None,
        runbook: None,
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

fn missing() -> RuleFacts {
    RuleFacts {
        description: Some("A paid order is handed to the warehouse within five minutes.".into()),
        owner: Some("fulfilment".into()),
        within_us: Some(5 * MINUTE),
        ..rule("paid-order-without-shipment", Severity::Critical)
    }
}

/// What a watcher would have left behind.
fn watched(store: &Path) {
    let mut incidents = Incidents::open(store, "postgres").expect("it opens");
    let standing = Standing {
        rule: rule("orders.email.format", Severity::Warn),
        keys: vec![key(17)],
        unnamed: 2,
        details: Vec::new(),
        unknown: None,
        judged: None,
    };
    incidents
        .begin(0, Some(time(0)), &[standing])
        .expect("it begins");
    let turns = |rule: RuleFacts, found: Vec<(Began, Detail)>, healed| {
        let (began, details) = found.into_iter().unzip();
        Turns {
            late: false,
            rule,
            began,
            healed,
            details,
            unknown: None,
            judged: None,
        }
    };
    let paid = |email: &str| json!({"status": "paid", "email": email});
    let (order, _) = key(4409);
    let gone = Healed {
        order,
        at: 4,
        write: write(4),
    };
    let missing = turns(
        missing(),
        vec![
            began(4409, 2, paid("a@example.com")),
            began(4410, 2, paid("b@example.com")),
            began(4411, 3, paid("c@example.com")),
        ],
        vec![gone],
    );
    let event = RuleFacts {
        event: true,
        ..rule("order-total-changed", Severity::Error)
    };
    let changed = turns(
        event,
        vec![began(
            4410,
            5,
            json!({"before_total": "99.95", "total": "0.00"}),
        )],
        vec![],
    );
    let batch = Batch {
        from: 0,
        until: 5,
        now_us: Some(time(5)),
        rules: vec![missing, changed],
    };
    incidents.take(&batch).expect("it is taken");
    // The deadlines of commits 2 and 3 pass.
    incidents.tick(time(9)).expect("it passes");
    let all = incidents.unprinted(100).expect("they are read");
    incidents
        .printed(all.last().map_or(0, |last| last.seq))
        .expect("it is written");
}

/// A store `orders` with what was recorded, and with incidents.
fn place() -> Place {
    let place = Place::new().with("h/schema.sql", SCHEMA);
    place.write(
        "h/snapshot/orders.csv",
        "id,status,email,total\n17,placed,x,1.00\n",
    );
    for (at, changes) in (1..).zip(CHANGES) {
        let time = format!("2026-03-12T16:{at:02}:00Z");
        let line = format!(
            r#"{{"commit":{at},"lsn":"{}","xid":{},"time":"{time}","context":{},"changes":[{changes}]}}"#,
            lsn(at),
            8_120 + at,
            context(at)
        );
        place.write(&format!("h/changes/{at}.ndjson"), line + "\n");
    }
    place.run(&["record", "h", "--store", "orders"]).exits(0);
    watched(&place.path("orders"));
    place
}

fn incident(place: &Place, arguments: &[&str]) -> Ran {
    place.run(&[&["incident"], arguments, &["--store", "orders"]].concat())
}

#[test]
fn incidents_are_listed_as_the_contract_says() {
    let place = place();
    let ran = incident(&place, &["list", "--format", "json"]).exits(0);
    let document = ran.json();
    assert_eq!(document["schema"], "firstbad/incidents@1");
    let ids = |document: &Value| -> Vec<String> {
        let list = document["incidents"].as_array().expect("a list");
        let id = |one: &Value| {
            format!(
                "{} {}",
                one["id"].as_str().unwrap_or(""),
                one["rules"][0].as_str().unwrap_or("")
            )
        };
        list.iter().map(id).collect()
    };
    let all = [
        "I-3 paid-order-without-shipment",
        "I-2 order-total-changed",
        "I-1 orders.email.format",
    ];
    assert_eq!(ids(&document), all);
    let one = &document["incidents"][0];
    for (name, want) in [
        ("state", json!("open")),
        ("severity", json!("critical")),
        ("opened", json!("2026-03-12T16:07:00Z")),
        // The first order was deleted in time.
        ("keys", json!(2)),
        ("bad", json!(2)),
        ("impact", json!(null)),
        ("pace", json!("steady")),
        ("certainty", json!("exact")),
        ("overdue", json!("2026-03-12T16:07:00Z")),
    ] {
        assert_eq!(one[name], want, "{name}");
    }
    let first = &one["first_bad"];
    assert_eq!(
        (
            &first["commit"],
            &first["lsn"],
            &first["xid"],
            &first["time"],
            &first["context"]
        ),
        (
            &json!(2),
            &json!(lsn(2)),
            &json!(8122),
            &json!("2026-03-12T16:02:00Z"),
            &context(2)
        )
    );
    let changes = first["changes"].as_array().expect("a list");
    assert_eq!(
        (changes.len(), &changes[1]["op"], &changes[1]["key"]),
        (2, &json!("update"), &json!({"id": 4409}))
    );
    assert_eq!(changes[0]["after"]["id"], 4410);
    // Redacted in changes and evidence.
    assert!(!ran.out.contains("example.com"), "{}", ran.out);
    assert_eq!(document["incidents"][2]["first_bad"], Value::Null);
    assert_eq!(document["incidents"][2]["pre_existing"], 3);
    assert_eq!(document["incidents"][1]["events"], 1);
    let of_rule = incident(
        &place,
        &["list", "--rule", "order-total-changed", "--format", "json"],
    );
    assert_eq!(ids(&of_rule.exits(0).json()), all[1..2]);
    incident(&place, &["list", "--rule", "nobody"])
        .exits(0)
        .says(&["no open incidents\n"]);
}

#[test]
fn people_acknowledge_and_close() {
    let place = place();
    let state = |place: &Place| -> Vec<Value> {
        let listed = incident(place, &["list", "--all", "--format", "json"])
            .exits(0)
            .json();
        let list = listed["incidents"].as_array().cloned().unwrap_or_default();
        list.iter().map(|one| one["state"].clone()).collect()
    };
    let note = [
        "ack",
        "I-3",
        "--note",
        "rollback\u{1b}[2J of v2.14.0",
        "--by",
        "ann",
    ];
    incident(&place, &note)
        .exits(0)
        .says(&["I-3 is acknowledged\n"]);
    incident(&place, &["close", "I-2"])
        .exits(0)
        .says(&["I-2 is closed\n"]);
    incident(&place, &["close", "i-2"])
        .exits(0)
        .says(&["I-2 is closed already\n"]);
    assert_eq!(state(&place), ["acknowledged", "open", "closed"]);
    incident(&place, &["ack", "I-2"]).refused(&["I-2 is closed, so it cannot be acknowledged"]);
    for verb in ["ack", "close", "show"] {
        incident(&place, &[verb, "I-9"])
            .refused(&["there is no incident `I-9`", "the last one is I-3"]);
        incident(&place, &[verb, "x\u{1b}[2J"]).refused(&["there is no incident `x\\u{1b}[2J`"]);
    }
    let open = incident(&place, &["list"]).exits(0);
    assert!(
        open.out.contains("I-1 ") && !open.out.contains("I-2 "),
        "{}",
        open.out
    );
    let shown = incident(&place, &["show", "I-3"])
        .exits(0)
        .says(&["ann rollback\\u{1b}[2J of v2.14.0"]);
    assert!(!shown.out.contains('\u{1b}'), "{}", shown.out);
    let shown = incident(&place, &["show", "I-3", "--format", "json"])
        .exits(0)
        .json();
    let one = &shown["incidents"][0];
    assert_eq!(
        (
            &one["acknowledged"]["by"],
            one["onsets"].as_array().map(Vec::len)
        ),
        (&json!("ann"), Some(2))
    );
    let said: Vec<&Value> = one["notices"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| &one["change"])
        .collect();
    assert_eq!(said, ["opened", "acknowledged"]);
}

#[test]
fn without_incidents_there_is_nothing_to_list() {
    let place = Place::new().with("h/schema.sql", SCHEMA);
    place.write(
        "h/changes/1.ndjson",
        format!("{{\"commit\":1,\"changes\":[{}]}}\n", CHANGES[0]),
    );
    place.run(&["record", "h", "--store", "orders"]).exits(0);
    incident(&place, &["list"])
        .exits(0)
        .says(&["no open incidents\n"]);
    let listed = incident(&place, &["list", "--all", "--format", "json"])
        .exits(0)
        .json();
    assert_eq!(listed["incidents"], json!([]));
    incident(&place, &["show", "I-1"])
        .refused(&["there is no incident `I-1`", "there are no incidents yet"]);
    assert!(!place.path("orders/firstbad.db").exists());
    place
        .run(&["incident", "list", "--store", "h"])
        .refused(&["there is no store in `h`"]);
    place.write(
        "orders/firstbad.db",
        "this is no database, and it is longer than a page's head is".repeat(9),
    );
    incident(&place, &["list"]).exits(3);
}

#[test]
fn incidents_are_no_stray_files_of_a_store() {
    let place = place();
    let open = Incidents::open(&place.path("orders"), "postgres").expect("it opens");
    assert!(place.path("orders/firstbad.db-wal").exists());
    let verified = place
        .run(&["verify", "orders", "--format", "json"])
        .exits(0)
        .json();
    assert_eq!(verified["damage"], json!([]));
    drop(open);
    place.write("orders/firstbad.dbx", "x");
    place
        .run(&["verify", "orders"])
        .exits(1)
        .says(&["firstbad.dbx"]);
}

#[test]
fn the_page_shows_what_is_printed() {
    crate::place::page_shows(&place(), "docs/incidents.md");
}
