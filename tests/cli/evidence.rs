//! `firstbad incident show`, `spread` and `export` (docs/evidence.md): what the recorded history tells of an incident, on a shop whose
//! release v2.14.0 drops every third shipment.

use std::io::Read;
use std::path::Path;

use firstbad::change::Commit;
use firstbad::incident::{Batch, Began, Detail, Healed, Incidents, RuleFacts, Turns, Write};
use firstbad::rule::Severity;
use serde_json::{Map, Value, json};

use crate::place::{Place, Ran};

const SCHEMA: &str = "
create table customers (id bigint primary key, name text);
create table accounts (id bigint primary key, balance numeric(12,2));
create table orders (id bigint primary key, customer_id bigint references customers, status text, email text, total numeric(10,2));
create table shipments (id bigint primary key, order_id bigint references orders);
create table invoices (id bigint primary key, order_id bigint references orders, amount numeric(10,2), note text);
create table payouts (id bigint primary key, invoice_id bigint references invoices, account_id bigint references accounts);";
const MINUTE: i64 = 60_000_000;
/// 2026-03-12 16:00:00Z
const START: i64 = 1_773_331_200_000_000;
/// The first commit of the release, and the last commit that places an order.
const RELEASE: Commit = 31;
const ORDERED: Commit = 60;
/// The release places orders 33, 36 … 60 without shipments; 36 gets one later.
const BAD: [Commit; 10] = [33, 36, 39, 42, 45, 48, 51, 54, 57, 60];
const HEAL: Commit = 64;
const HEAD: Commit = 66;

/// What a test may put into the shop.
#[derive(Clone, Copy)]
struct Texts<'a> {
    service: &'a str,
    version: &'a str,
    note: &'a str,
    description: &'a str,
    runbook: &'a str,
}

const PLAIN: Texts<'_> = Texts {
    service: "checkout",
    version: "v2.14.0",
    note: "paid",
    description: "A paid order is handed to the warehouse.",
    runbook: "https://wiki.example.com/missing-shipments",
};

fn time(commit: Commit) -> i64 {
    START + i64::from(commit) * MINUTE
}

fn context(commit: Commit, texts: &Texts<'_>) -> Value {
    if commit > ORDERED {
        return json!({"service": "billing", "version": "v1"});
    }
    let version = if commit < RELEASE {
        "v2.13.0"
    } else {
        texts.version
    };
    json!({"service": texts.service, "version": version})
}

fn insert(table: &str, after: &Value) -> Value {
    json!({"table": table, "op": "insert", "after": after})
}

fn changes(commit: Commit, texts: &Texts<'_>) -> Vec<Value> {
    let shipment = |order: Commit| {
        insert(
            "shipments",
            &json!({"id": 9_000 + order, "order_id": order}),
        )
    };
    match commit {
        ..=ORDERED => {
            let status = if commit == BAD[0] { texts.note } else { "paid" };
            let order = json!({"id": commit, "customer_id": 1, "status": status, "email": format!("{commit}@example.com"), "total": "20.00"});
            let mut changes = vec![insert("orders", &order)];
            changes.extend((!BAD.contains(&commit)).then(|| shipment(commit)));
            changes
        }
        61 => vec![
            insert(
                "invoices",
                &json!({"id": 700, "order_id": 33, "amount": "20.00", "note": texts.note}),
            ),
            insert(
                "invoices",
                &json!({"id": 701, "order_id": 2, "amount": "20.00", "note": "net 30"}),
            ),
        ],
        62 => vec![
            insert(
                "payouts",
                &json!({"id": 800, "invoice_id": 700, "account_id": 5}),
            ),
            json!({"table": "accounts", "op": "update", "key": {"id": 5}, "before": {"balance": "0.00"}, "after": {"balance": "20.00"}}),
        ],
        63 => vec![
            json!({"table": "orders", "op": "update", "key": {"id": 39}, "after": {"status": "cancelled", "email": "gone@example.com"}}),
        ],
        HEAL => vec![shipment(36)],
        65 => vec![insert(
            "invoices",
            &json!({"id": 702, "order_id": 36, "amount": "20.00", "note": null}),
        )],
        _ => vec![
            json!({"table": "customers", "op": "update", "key": {"id": 1}, "after": {"name": "Bo"}}),
        ],
    }
}

fn write(commit: Commit, texts: &Texts<'_>) -> Write {
    Write {
        lsn: Some(format!("0/{:X}", 0x1A2_B300 + 16 * commit)),
        xid: Some(8_000 + u64::from(commit)),
        time: Some(time(commit)),
        context: context(commit, texts).as_object().cloned(),
        last_good: None,
    }
}

const YAML: &str = "- id: paid-order-without-shipment
  where: status = 'paid'
  has: {table: shipments, match: {order_id: id}}
  redact: [email]
";

fn facts(texts: &Texts<'_>) -> RuleFacts {
    RuleFacts {
        id: "paid-order-without-shipment".into(),
        description: Some(texts.description.into()),
        table: Some("public.orders".into()),
        severity: Severity::Critical,
        owner: Some("fulfilment".into()),
        runbook: Some(texts.runbook.into()),
        within_us: None,
        threshold: None,
        event: false,
        key: vec!["id".into()],
        redact: vec!["email".into()],
        reads: vec!["public.orders".into(), "public.shipments".into()],
        yaml: Some(YAML.into()),
        sql: Some("select id from orders where status = 'paid'".into()),
    }
}

/// What a watcher would have left behind.
fn watched(store: &Path, texts: &Texts<'_>) {
    let mut incidents = Incidents::open(store, "postgres").expect("it opens");
    incidents.begin(0, Some(time(0)), &[]).expect("it begins");
    let order = |id: Commit| Box::from(id.to_be_bytes());
    let began = BAD.map(|id| Began {
        order: order(id),
        key: Map::from_iter([("id".into(), id.into())]),
        onset: id,
        write: write(id, texts),
    });
    let details = BAD.map(|id| Detail {
        order: order(id),
        evidence: Map::from_iter([("status".into(), "paid".into())]),
        impact: Some("20.00".into()),
    });
    let turns = Turns {
        late: false,
        rule: facts(texts),
        began: began.to_vec(),
        healed: vec![Healed {
            order: order(36),
            at: HEAL,
            write: write(HEAL, texts),
        }],
        details: details.to_vec(),
        unknown: None,
        judged: None,
    };
    let batch = Batch {
        from: 0,
        until: HEAD,
        now_us: Some(time(HEAD)),
        rules: vec![turns],
    };
    incidents.take(&batch).expect("it is taken");
    let all = incidents.unprinted(100).expect("they are read");
    let last = all.last().map_or(0, |last| last.seq);
    incidents.printed(last).expect("it is written");
}

/// A store `shop` with what was recorded, and with incident I-1.
fn place_with(texts: &Texts<'_>) -> Place {
    let place = Place::new().with("h/schema.sql", SCHEMA);
    place.write("h/snapshot/customers.csv", "id,name\n1,Ann\n");
    place.write("h/snapshot/accounts.csv", "id,balance\n5,0.00\n");
    let lines = (1..=HEAD).map(|commit| {
        let write = write(commit, texts);
        let line = json!({
            "commit": commit, "lsn": write.lsn, "xid": write.xid,
            "time": firstbad::schema::value::format_timestamp(time(commit)),
            "context": context(commit, texts), "changes": changes(commit, texts),
        });
        format!("{line}\n")
    });
    place.write("h/changes/1.ndjson", lines.collect::<String>());
    place.run(&["record", "h", "--store", "shop"]).exits(0);
    watched(&place.path("shop"), texts);
    place
}

fn place() -> Place {
    place_with(&PLAIN)
}

fn incident(place: &Place, arguments: &[&str]) -> Ran {
    place.run(&[&["incident"], arguments, &["--store", "shop"]].concat())
}

fn evidence(place: &Place) -> Value {
    let shown = incident(place, &["show", "I-1", "--format", "json"]).exits(0);
    assert!(!shown.out.contains("@example.com"), "{}", shown.out);
    let evidence = shown.json()["incidents"][0]["evidence"].take();
    assert!(evidence.is_object(), "{evidence}");
    evidence
}

#[test]
fn evidence_tells_what_became_of_the_rows() {
    let place = place();
    let evidence = evidence(&place);
    let rows = evidence["rows"].as_array().expect("a list");
    assert_eq!(rows.len(), BAD.len());
    assert_eq!(
        (
            &rows[0]["key"],
            &rows[0]["onset"]["commit"],
            &rows[0]["last_good"]
        ),
        (&json!({"id": 33}), &json!(33), &Value::Null)
    );
    assert_eq!(rows[1]["healed"], HEAL);
    assert_eq!(
        (&rows[2]["bad"]["status"], &rows[2]["now"]["status"]),
        (&json!("paid"), &json!("cancelled"))
    );
    let later = evidence["later_writes"].as_array().expect("a list");
    assert_eq!(later.len(), 1, "{later:?}");
    assert_eq!(
        (
            &later[0]["commit"],
            &later[0]["key"],
            &later[0]["after"]["status"]
        ),
        (&json!(63), &json!({"id": 39}), &json!("cancelled"))
    );
    let factors = evidence["common"][0]["factors"].as_array().expect("a list");
    let named: Vec<&str> = factors
        .iter()
        .filter_map(|one| one["factor"].as_str())
        .collect();
    assert!(
        named.iter().any(|factor| factor.contains("shipments")),
        "{named:?}"
    );
    let near: Vec<u64> = evidence["neighbours"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["commit"].as_u64())
        .collect();
    assert_eq!(near, (23..=43).collect::<Vec<u64>>());
    let same = evidence["same_release"].as_array().expect("a list");
    assert_eq!(
        (&same[0]["commit"], same.len()),
        (&json!(RELEASE), 2 + 1 + 10)
    );
    let releases = evidence["releases"].as_array().expect("a list");
    assert!(
        releases
            .iter()
            .any(|one| one["commit"] == RELEASE && one["before"] == "v2.13.0"),
        "{releases:?}"
    );
    let last = evidence["course"]
        .as_array()
        .and_then(|all| all.last())
        .expect("a moment");
    assert_eq!((&last["commit"], &last["bad"]), (&json!(HEAL), &json!(9)));
    assert_eq!(evidence["rules"][0]["yaml"], YAML);
    let brief = incident(&place, &["show", "I-1", "--brief", "--format", "json"]).exits(0);
    assert_eq!(brief.json()["incidents"][0]["evidence"], Value::Null);
}

#[test]
fn evidence_names_the_sealed_files_of_the_first_bad_write() {
    let place = place();
    let store = evidence(&place)["store"].take();
    let files = store["segment"]["files"].as_array().expect("a list");
    assert!(files.len() > 2, "{files:?}");
    for file in files {
        let path = format!("shop/{}", file["path"].as_str().expect("a path"));
        let bytes = std::fs::read(place.path(&path)).expect("the file is there");
        assert_eq!(file["blake3"], blake3::hash(&bytes).to_string(), "{path}");
    }
    let head = store["head"].as_str().expect("a hash").to_owned();
    place.run(&["verify", "shop", "--head", &head]).exits(0);
}

#[test]
fn spread_is_what_was_written_from_bad_rows_since() {
    let place = place();
    let ran = incident(&place, &["spread", "I-1", "--rows", "--format", "json"]).exits(0);
    let document = ran.json();
    assert_eq!(document["schema"], "firstbad/spread@1");
    assert_eq!(
        (&document["incident"], &document["bad_rows"]),
        (&json!("I-1"), &json!(10))
    );
    // Invoice 701 is of a good order, invoice 702 of one that had healed, and the customer was not updated together with an order. The
    // shipment that healed order 36 was written when it was good again.
    let row = |one: &Value| {
        format!(
            "{} {} {}",
            one["table"].as_str().unwrap_or(""),
            one["key"],
            one["commit"]
        )
    };
    let rows: Vec<String> = document["list"]
        .as_array()
        .expect("a list")
        .iter()
        .map(row)
        .collect();
    assert_eq!(
        rows,
        [
            r#"public.invoices {"id":700} 61"#,
            r#"public.payouts {"id":800} 62"#,
            r#"public.accounts {"id":5} 62"#,
        ]
    );
    let accounts = document["tables"].as_array().expect("a list");
    let accounts = accounts
        .iter()
        .find(|one| one["table"] == "public.accounts");
    let path = accounts.expect("it is derived")["examples"][0]["path"]
        .as_array()
        .cloned();
    let links: Vec<Value> = path
        .unwrap_or_default()
        .iter()
        .map(|step| step["link"].clone())
        .collect();
    assert_eq!(
        links,
        [
            Value::Null,
            json!("invoices.order_id → orders.id"),
            json!("payouts.invoice_id → invoices.id"),
            json!("payouts.account_id → accounts.id"),
        ]
    );
    incident(&place, &["spread", "I-1", "--max-rows", "1"])
        .exits(0)
        .says(&["spread: 1 row in 1 table", "there are more than 1 rows"]);
    incident(&place, &["spread", "I-1", "--max-depth", "0"]).refused(&["--max-depth"]);
    incident(&place, &["spread", "I-9"]).refused(&["there is no incident `I-9`"]);
}

const FILES: [&str; 11] = [
    "MANIFEST",
    "first-bad-write.json",
    "incident.json",
    "later-writes.jsonl",
    "report.html",
    "rows.jsonl",
    "rule.sql",
    "rule.yaml",
    "schema.sql",
    "spread.json",
    "store.json",
];

#[test]
fn an_export_has_all_files_and_replaces_nothing() {
    let place = place();
    incident(&place, &["export", "I-1"])
        .exits(0)
        .says(&["I-1 is exported to I-1: 11 files\n"]);
    let list = |directory: &str| -> Vec<String> {
        let entries = std::fs::read_dir(place.path(directory)).expect("it is there");
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            let name = entry.expect("it can be read").file_name();
            name.to_string_lossy().into_owned()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    };
    assert_eq!(list("I-1"), FILES);
    for line in place.read("I-1/MANIFEST").lines() {
        let (hash, name) = line.split_once("  ").expect("two columns");
        let bytes = std::fs::read(place.path(&format!("I-1/{name}"))).expect("it is there");
        assert_eq!(hash, blake3::hash(&bytes).to_string(), "{name}");
    }
    for name in FILES {
        assert!(
            !place.read(&format!("I-1/{name}")).contains("@example.com"),
            "{name}"
        );
    }
    // What was exported is read again: the rule names its table, the schema is one.
    place.write("again/rules/rule.yaml", place.read("I-1/rule.yaml"));
    place.write("again/schema.sql", place.read("I-1/schema.sql"));
    place.write(
        "again/snapshot/orders.csv",
        "id,customer_id,status,email,total\n1,,paid,,1.00\n",
    );
    place
        .run(&["check", "again"])
        .exits(1)
        .says(&["paid-order-without-shipment"]);
    let first: Value = serde_json::from_str(&place.read("I-1/first-bad-write.json")).expect("JSON");
    assert_eq!(
        (&first["commit"], first["changes"].as_array().map(Vec::len)),
        (&json!(33), Some(1))
    );
    assert_eq!(place.read("I-1/rows.jsonl").lines().count(), BAD.len());
    incident(&place, &["export", "I-1"]).refused(&["the directory is not empty"]);
    place.write("there.tar.zst", "x");
    incident(&place, &["export", "I-1", "there.tar.zst"]).refused(&["it is there already"]);
    incident(&place, &["export", "I-1", "I-1.zip"])
        .refused(&["archives of this kind are not written"]);
    incident(&place, &["export", "I-7", "new"]).refused(&["there is no incident `I-7`"]);
    std::fs::create_dir(place.path("empty")).expect("it is made");
    incident(&place, &["export", "I-1", "empty"]).exits(0);
    assert_eq!(list("empty"), FILES);
    let left = list(".").into_iter().filter(|name| name.ends_with(".part"));
    assert_eq!(left.count(), 0);
}

#[test]
fn an_archive_is_the_same_each_time() {
    let place = place();
    for name in ["a.tar.zst", "b.tar.zst"] {
        incident(&place, &["export", "I-1", name]).exits(0);
    }
    let read = |name: &str| std::fs::read(place.path(name)).expect("it is there");
    assert_eq!(read("a.tar.zst"), read("b.tar.zst"));
    let plain = zstd::stream::decode_all(read("a.tar.zst").as_slice()).expect("it is Zstandard");
    let mut archive = tar::Archive::new(plain.as_slice());
    let shown = incident(&place, &["show", "I-1", "--format", "json"]).json();
    let opened = shown["incidents"][0]["opened"].clone();
    let mut names = Vec::new();
    for entry in archive.entries().expect("it is an archive") {
        let mut entry = entry.expect("an entry");
        let mtime = entry.header().mtime().expect("a time");
        let mtime = i64::try_from(mtime).expect("not that late") * 1_000_000;
        assert_eq!(opened, firstbad::schema::value::format_timestamp(mtime));
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("it is whole");
        assert!(!bytes.is_empty());
        names.push(entry.path().expect("a path").display().to_string());
    }
    assert_eq!(names, FILES.map(|name| format!("I-1/{name}")));
}

/// What is fetched when a page is opened, or run.
const ACTIVE: [&str; 12] = [
    "<script",
    "<iframe",
    "<img",
    "<link",
    "<object",
    "<embed",
    "<base",
    "<form",
    "@import",
    "src=",
    "javascript:",
    "url(http",
];

/// The report as XML, after it was looked through for what a browser would fetch or run.
fn report(place: &Place) -> String {
    incident(place, &["export", "I-1", "out"]).exits(0);
    let html = place.read("out/report.html");
    let lower = html.to_lowercase();
    for active in ACTIVE {
        assert!(!lower.contains(active), "the report has {active}");
    }
    let fetched = lower.matches("http://").count() + lower.matches("https://").count();
    assert_eq!(fetched, 0, "slashes of addresses are escaped");
    assert!(
        !lower.contains(" on")
            || !regex::Regex::new(r"<[^>]* on[a-z]+=")
                .expect("it is one")
                .is_match(&lower)
    );
    uppsala::parse(&html).unwrap_or_else(|error| panic!("{error}\n{html}"));
    html
}

#[test]
fn the_report_needs_nothing_and_shows_the_pictures() {
    let html = report(&place());
    for text in [
        "I-1: A paid order is handed to the warehouse.",
        "10 keys broken since #33 at 2026-03-12 16:33:00Z, written by checkout v2.14.0, 9 bad now.",
        "3 rows in 3 tables were written from them since.",
        "first bad write #33",
        "<title id=\"timeline-title\">",
        "checkout v2.14.0</text>",
        "<title id=\"spread-title\">",
        "bad rows</text>",
        "orders id = 33 ← invoices id = 700 ← payouts id = 800 → accounts id = 5",
        "has: {table: shipments, match: {order_id: id}}",
    ] {
        assert!(html.contains(text), "the report lacks: {text}\n{html}");
    }
    assert!(html.len() < 200_000, "{}", html.len());
}

#[test]
fn hostile_rows_stay_text() {
    let long = "x".repeat(1 << 20);
    let note = format!(
        "</td><script src=\"http://evil.example/x.js\">alert('1')</script>\u{202e}\u{1b}[2J]]>&lt; {long}"
    );
    let texts = Texts {
        service: "checkout\"><svg onload=alert(1)>",
        version: "</text><script>v2.14.0",
        note: &note,
        description: "<img src=x onerror=alert(1)> {{ 7 * 7 }} {% raw %}",
        runbook: "javascript:alert(1)",
    };
    let place = place_with(&texts);
    let html = {
        incident(&place, &["export", "I-1", "out"]).exits(0);
        let html = place.read("out/report.html");
        std::fs::remove_dir_all(place.path("out")).expect("it is there");
        html
    };
    // As text it may stand, as an address of a link it may not.
    assert!(!html.contains("href="), "{html}");
    let html = html.replace("javascript:alert", "").replace("src=", "");
    let lower = html.to_lowercase();
    for active in ACTIVE {
        assert!(!lower.contains(active), "the report has {active}");
    }
    assert!(!html.contains(['\u{202e}', '\u{1b}']));
    assert!(
        html.contains("{{ 7 * 7 }} {% raw %}"),
        "templates in data are data"
    );
    assert!(html.len() < 300_000, "{}", html.len());
    uppsala::parse(&html).unwrap_or_else(|error| panic!("{error}"));
    for format in ["text", "json"] {
        let shown = incident(&place, &["show", "I-1", "--format", format]).exits(0);
        assert!(!shown.out.contains(['\u{202e}', '\u{1b}']), "{format}");
    }
}

#[test]
fn the_page_shows_what_is_printed() {
    crate::place::page_shows(&place(), "docs/evidence.md");
}
