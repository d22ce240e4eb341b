//! The story of docs/story.md on a real server: a release loses one shipment in thirty; it is found, told, contained and put right.

mod sinks;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use self::sinks::Sinks;
use crate::place::{Place, Ran};
use crate::postgres::{Cluster, Setup};
use crate::psql::{file, url};
use crate::watcher::{Watcher, get};

/// What takes longer hangs.
const LONGEST: Duration = Duration::from_secs(60);
/// Orders before the release, and with those after it.
const BEFORE: i64 = 30;
const ALL: i64 = 240;

const SHOP: &str = "
create table customers (id bigint primary key, name text not null);
create table orders (id bigint primary key, customer_id bigint not null references customers, status text not null, total numeric(12, 2) not null);
create table shipments (id bigint primary key, order_id bigint not null references orders, carrier text not null, weight numeric(8, 3));
create table invoices (id bigint primary key, order_id bigint not null references orders, amount numeric(12, 2) not null);
create table payouts (id bigint primary key, invoice_id bigint not null references invoices, amount numeric(12, 2) not null);
insert into customers select i, 'customer ' || i from generate_series(0, 6) i;
";

const RULES: &str = "
rules:
  - id: paid-order-without-shipment
    description: A paid order is with the warehouse within a second.
    table: orders
    severity: critical
    owner: fulfilment
    runbook: https://wiki.example.com/orders
    where: status = 'paid'
    has: {table: shipments, match: {order_id: id}}
    within: 1s
    impact: total
  - id: invoice-of-another-amount
    table: orders
    balance: {left: orders.total, right: sum(invoices.amount), match: {order_id: id}}
    where: exists (select 1 from invoices i where i.order_id = orders.id)
  - {table: payouts, references: {column: invoice_id, to: invoices.id}}
";

/// What the load generator did.
#[derive(Default)]
struct Ledger {
    /// Orders whose shipment was lost, in order.
    lost: Vec<i64>,
    /// The transaction that lost the first.
    first: u64,
    /// What was written from lost orders afterwards: table and id.
    derived: BTreeSet<(String, i64)>,
}

struct Story {
    cluster: Cluster,
    place: Place,
    ledger: Ledger,
}

impl Story {
    fn sql(&self, sql: &str) -> String {
        self.cluster.sql("shop", sql)
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.place.run(arguments)
    }

    fn gate(&self) -> Ran {
        let lsn = self.sql("select pg_current_wal_lsn()");
        let table = ["--table", "orders", "--table", "shipments"];
        let until = ["--lsn", lsn.trim(), "--wait", "60s"];
        self.run(&[&["gate", "store"], &table[..], &until].concat())
    }

    fn order(&self, id: i64, release: &str) {
        self.sql(&format!(
            "begin; select from firstbad.context('{{\"service\": \"checkout\", \"version\": \"{release}\"}}');
             insert into orders values ({id}, {id} % 7, 'paid', {id} * 1.25);
             insert into shipments values ({id} + 5000, {id}, 'post', {id} * 0.125);
             commit;"
        ));
    }

    fn bill(&mut self, id: i64, invoice: i64, amount: &str) {
        self.sql(&format!(
            "begin; select from firstbad.context('{{\"service\": \"billing\", \"version\": \"v9\"}}');
             insert into invoices values ({invoice}, {id}, {amount});
             insert into payouts values ({invoice}, {invoice}, {amount});
             commit;"
        ));
        if self.ledger.lost.contains(&id) {
            for table in ["public.invoices", "public.payouts"] {
                self.ledger.derived.insert((table.to_owned(), invoice));
            }
        }
    }

    /// The new release takes shipments for duplicates that are none.
    fn lose(&mut self, id: i64) {
        let said = self.sql(&format!(
            "begin; select from firstbad.context('{{\"service\": \"fulfilment\", \"version\": \"v2.14.0\"}}');
             select pg_current_xact_id();
             delete from shipments where order_id = {id};
             commit;"
        ));
        if self.ledger.lost.is_empty() {
            let xid = said.lines().find_map(|line| line.trim().parse().ok());
            self.ledger.first = xid.expect("a transaction id");
        }
        self.ledger.lost.push(id);
    }

    /// The shop's day: one shipment in thirty is lost; half of those orders were billed before.
    fn sell(&mut self) {
        for id in BEFORE + 1..=ALL {
            self.order(id, "v2.14.0");
            if id % 60 == 0 {
                self.bill(id, id, &format!("{id} * 1.25"));
            }
            if id % 30 == 0 {
                self.lose(id);
            }
            match id % 60 {
                0 => self.bill(id, id + 1000, "0"),
                _ => self.bill(id, id, &format!("{id} * 1.25")),
            }
        }
    }

    /// Runs a file of SQL in a database, as a person would.
    fn plays(&self, database: &str, file: &str) {
        let path = self.place.path(file).display().to_string();
        let safely = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-f"];
        let arguments: Vec<&str> = safely.into_iter().chain([path.as_str()]).collect();
        self.cluster.client("psql", &arguments);
    }

    /// The one incident, once it has all the lost orders and what they cost.
    fn incident(&self) -> Value {
        let begun = Instant::now();
        loop {
            let listed = self.run(&[
                "incident", "list", "--all", "--store", "store", "--format", "json",
            ]);
            let listed = listed.exits(0).json();
            let incidents = listed["incidents"].as_array().expect("a list");
            assert!(incidents.len() <= 1, "one cause, one incident: {listed:#}");
            let keys = incidents.first().and_then(|one| one["keys"].as_u64());
            let impact: f64 = self.ledger.lost.iter().map(|id| *id as f64 * 1.25).sum();
            let told = incidents.first().and_then(|one| one["impact"].as_str());
            let told = told.and_then(|text| text.parse().ok());
            if keys == Some(self.ledger.lost.len() as u64) && told == Some(impact) {
                return incidents[0].clone();
            }
            assert!(begun.elapsed() < LONGEST, "all lost orders: {listed:#}");
        }
    }
}

#[test]
fn what_a_release_loses_is_found_told_contained_and_put_right() {
    let sinks = Sinks::start();
    let cluster = Cluster::start_with(&Setup::default());
    cluster.sql("postgres", "create database shop");
    cluster.sql("postgres", "create database scratch");
    cluster.sql("shop", SHOP);
    file(&cluster, "postgres", "shop", "03-context.sql", &[]).works();
    file(&cluster, "postgres", "shop", "04-quarantine.sql", &[]).works();
    let place = Place::new().with("rules.yaml", RULES);
    let config = sinks.config(&place.path("."));
    let place = place.with(
        "firstbad.yaml",
        format!("store: store\nrules: rules.yaml\n{config}"),
    );
    let mut story = Story {
        cluster,
        place,
        ledger: Ledger::default(),
    };
    for id in 1..=BEFORE {
        story.order(id, "v2.13.0");
        story.bill(id, id, &format!("{id} * 1.25"));
    }
    let shop = story.cluster.url("shop");
    let watch = [shop.as_str(), "--listen", "127.0.0.1:0"];
    let mut watcher = Watcher::start(&story.place.path("."), &watch);
    let listening = watcher.says(&["listening on http://"]);
    let address = listening.rsplit('/').next().expect("an address").to_owned();
    watcher.says(&["watching from #0"]);
    story.gate().exits(0).says(&["clean"]);

    story.sell();
    watcher.says(&["I-1 critical paid-order-without-shipment opened"]);
    found(&story);
    story.gate().exits(1).says(&["I-1"]);
    let answer = get(&address, "/gate?table=orders");
    assert!(answer.starts_with("HTTP/1.1 409"), "{answer}");
    sinks.wait(1);

    set_apart(&story, &sinks);
    spread(&story);
    put_right_on_a_copy(&story);
    let apart = url(&story.cluster, "firstbad_quarantine", "shop");
    story
        .run(&["quarantine", "release", "I-1", &apart, "--store", "store"])
        .exits(0);
    let free = story.sql("select count(*) = (select count(*) from orders) from clean.orders");
    assert_eq!(free.trim(), "t");
    sinks.wait(3);

    let repair = [
        "repair",
        "I-1",
        "--store",
        "store",
        "--output",
        "repair.sql",
    ];
    story.run(&repair).exits(0);
    story.plays("shop", "repair.sql");
    watcher.says(&["I-1", "closed: healed"]);
    story.gate().exits(0).says(&["clean"]);
    sinks.wait(4);
    let (code, said) = watcher.stop();
    assert_eq!(code, Some(0), "{said}");
    told(&story, &sinks);
}

/// The first bad write and the release, exactly, when the time to heal was over.
fn found(story: &Story) {
    let incident = story.incident();
    let first = &incident["first_bad"];
    assert_eq!(first["xid"], story.ledger.first, "{incident:#}");
    assert_eq!(first["context"]["service"], "fulfilment");
    assert_eq!(first["context"]["version"], "v2.14.0");
    assert_eq!(incident["certainty"], "exact");
    assert_eq!(
        incident["opened"], incident["overdue"],
        "as soon as it was overdue"
    );
}

fn set_apart(story: &Story, sinks: &Sinks) {
    story.sql("select firstbad.quarantine_on('orders')");
    let apart = url(&story.cluster, "firstbad_quarantine", "shop");
    let planned = story.run(&["quarantine", "plan", "I-1", &apart, "--store", "store"]);
    planned
        .exits(0)
        .says(&["rows would be set apart", "Nothing was changed"]);
    story
        .run(&["quarantine", "apply", "I-1", &apart, "--store", "store"])
        .exits(0);
    let hidden = "select string_agg(id::text, ',' order by id) from orders where id not in (select id from clean.orders)";
    let lost: Vec<String> = story.ledger.lost.iter().map(i64::to_string).collect();
    assert_eq!(story.sql(hidden).trim(), lost.join(","));
    sinks.wait(2);
}

/// What was derived from the lost orders is what the load generator wrote down.
fn spread(story: &Story) {
    let arguments = [
        "incident", "spread", "I-1", "--store", "store", "--rows", "--format", "json",
    ];
    let spread = story.run(&arguments).exits(0).json();
    let rows = spread["list"].as_array().expect("rows");
    let row = |row: &Value| {
        let table = row["table"].as_str().expect("a table").to_owned();
        (table, row["key"]["id"].as_i64().expect("an id"))
    };
    let rows: BTreeSet<(String, i64)> = rows.iter().map(row).collect();
    assert_eq!(rows, story.ledger.derived, "{spread:#}");
}

/// The repair on a copy makes every rule hold.
fn put_right_on_a_copy(story: &Story) {
    let dump = story.cluster.client("pg_dump", &["shop"]);
    story
        .place
        .write("copy.sql", String::from_utf8(dump.stdout).expect("text"));
    story.plays("scratch", "copy.sql");
    let scratch = story.cluster.url("scratch");
    let tried = story.run(&["repair", "I-1", "--store", "store", "--try", &scratch]);
    tried.exits(0).says(&["paid-order-without-shipment"]);
    let rules = ["check", &scratch, "--rules", "rules.yaml"];
    story.run(&rules).exits(0);
    // Nothing was done to the shop itself.
    let missing = "select count(*) from orders o where not exists (select from shipments s where s.order_id = o.id)";
    assert_eq!(
        story.sql(missing).trim(),
        story.ledger.lost.len().to_string()
    );
}

/// Everybody was told of each change, once.
fn told(story: &Story, sinks: &Sinks) {
    let arrived = sinks.arrived();
    let names: Vec<&str> = arrived.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["/api/v2/alerts", "/pagerduty", "/slack", "/webhook", "mail"]
    );
    let changes: Vec<Value> = arrived["/webhook"]
        .iter()
        .map(|(_, message)| {
            let (_, body) = message.split_once("\n\n").expect("a body");
            serde_json::from_str::<Value>(body).expect("JSON")["change"].clone()
        })
        .collect();
    assert_eq!(changes, ["opened", "quarantined", "released", "closed"]);
    let ids = |of: &str| -> Vec<String> {
        let ids = arrived[of].iter().map(|(id, _)| id.clone());
        ids.collect()
    };
    let all = ids("/webhook");
    let different: BTreeSet<&String> = all.iter().collect();
    assert_eq!(
        (different.len(), all.contains(&String::new())),
        (4, false),
        "{all:?}"
    );
    for name in names {
        assert_eq!(ids(name), all, "{name}");
    }
    let command = story.place.read("told");
    let command: Vec<String> = command
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .map(|told| told["id"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(command, all);
    assert!(
        arrived["mail"][0].1.contains("paid-order-without-shipment"),
        "{}",
        arrived["mail"][0].1
    );
}
