//! A gate before a database that is watched (docs/gate.md): it follows the watcher, and closes where the watcher does not follow.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::place::{Place, Ran};
use crate::postgres::Cluster;
use crate::watcher::{Watcher, get};

const TABLES: &str = "
create table orders (id integer primary key, status text);
create table shipments (id integer primary key, order_id integer);
create table noise (id integer);
insert into orders values (1, 'placed');
";

const RULES: &str = "
rules:
  - id: paid-order-without-shipment
    table: orders
    where: status = 'paid'
    has: {table: shipments, match: {order_id: id}}
";

struct Shop {
    cluster: Cluster,
    place: Place,
}

impl Shop {
    fn new() -> Shop {
        let cluster = Cluster::start();
        cluster.sql("postgres", "create database shop");
        cluster.sql("shop", TABLES);
        Shop {
            cluster,
            place: Place::new().with("rules.yaml", RULES),
        }
    }

    fn watch(&self, more: &[&str]) -> Watcher {
        let url = self.cluster.url("shop");
        let usual = ["--rules", "rules.yaml", "--store", "store"];
        let arguments = [&[url.as_str()][..], &usual, more].concat();
        Watcher::start(&self.place.path("."), &arguments)
    }

    /// Runs SQL, and says where the log ends then, as a task of a pipeline does.
    fn written(&self, sql: &str) -> String {
        let sql = format!("{sql}; select pg_current_wal_lsn();");
        self.cluster.sql("shop", &sql).trim().to_owned()
    }

    fn gate(&self, more: &[&str]) -> Ran {
        self.place.run(&[&["gate", "store"], more].concat())
    }

    /// What the gate says of the orders when everything up to a position is judged.
    fn judged(&self, lsn: &str) -> Ran {
        self.gate(&["--table", "orders", "--lsn", lsn, "--wait", "60s"])
    }
}

fn status(answer: &str) -> (&str, Value) {
    let body = answer.split("\r\n\r\n").nth(1).expect("a body");
    let body = serde_json::from_str(body).unwrap_or(Value::Null);
    (answer.get(9..12).expect("a status"), body)
}

#[test]
fn a_gate_follows_the_watcher_and_closes_when_it_stops() {
    let shop = Shop::new();
    let mut watcher = shop.watch(&["--listen", "127.0.0.1:0"]);
    let listening = watcher.says(&["listening on http://"]);
    let address = listening.rsplit('/').next().expect("an address").to_owned();
    watcher.says(&["watching from"]);

    // What others write in tables that nobody watches is judged as well, though nothing of it comes.
    let quiet = shop.written("insert into noise select generate_series(1, 1000)");
    let ran = shop.judged(&quiet).exits(0);
    assert!(ran.out.starts_with("clean up to 0/"), "{}", ran.out);
    shop.gate(&["--table", "noise"]).exits(4);

    let broken = shop.written("update orders set status = 'paid'");
    let ran = shop.judged(&broken).exits(1);
    assert!(
        ran.out
            .contains("paid-order-without-shipment (error): 1 bad, I-1"),
        "{}",
        ran.out
    );
    shop.gate(&["--table", "shipments"]).exits(1);
    shop.gate(&["--table", "shipments", "--fail-on", "critical"])
        .exits(0);
    let ask = |path: &str| get(&address, path);
    let answer = ask(&format!("/gate?table=orders&lsn={broken}"));
    let (code, body) = status(&answer);
    assert_eq!(
        (code, &body["tables"][0]["incidents"][0]),
        ("409", &"I-1".into())
    );

    let healed = shop.written("insert into shipments values (1, 1)");
    shop.judged(&healed).exits(0);
    let answer = ask(&format!("/gate?table=orders&lsn={healed}"));
    assert_eq!(status(&answer).0, "200", "{answer}");
    let answer = ask("/gate?table=orders&lsn=FFFFFFFF/0");
    assert_eq!(status(&answer).0, "503", "{answer}");
    shop.gate(&["--table", "orders", "--lsn", "FFFFFFFF/0"])
        .exits(4);

    let (code, said) = watcher.stop();
    assert_eq!(code, Some(0), "{said}");
    // Nobody judges what is written now.
    let unseen = shop.written("update orders set status = 'placed'");
    let ran = shop
        .gate(&["--table", "orders", "--lsn", &unseen, "--wait", "1s"])
        .exits(4);
    assert!(ran.out.contains("not to"), "{}", ran.out);
    shop.judged(&healed).exits(0);
    let deadline = Instant::now() + Duration::from_secs(60);
    while shop.gate(&["--max-age", "1s"]).code != 4 {
        assert!(Instant::now() < deadline, "what is old is not known");
    }
    // Where it goes on, so does the gate.
    let watcher = shop.watch(&["--listen", ":0"]);
    shop.judged(&unseen).exits(0);
    drop(watcher);
}

#[test]
fn a_rule_that_became_blind_is_not_clean_also_after_a_restart() {
    let shop = Shop::new();
    let mut watcher = shop.watch(&[]);
    watcher.says(&["watching from"]);
    shop.judged(&shop.written("insert into orders values (2, 'placed')"))
        .exits(0);
    let blind = shop.written(
        "alter table orders rename column status to state; insert into orders values (3, 'paid')",
    );
    let ran = shop.judged(&blind).exits(4);
    assert!(
        ran.out.contains("paid-order-without-shipment: "),
        "{}",
        ran.out
    );
    watcher.stop();
    // The column is there again, and what it held meanwhile is written anew.
    let back = shop.written(
        "alter table orders rename column state to status; update orders set status = status; insert into shipments values (3, 3)",
    );
    let mut watcher = shop.watch(&[]);
    watcher.says(&["watching from"]);
    // What it begins with has a row that is not known.
    shop.judged(&back).exits(4);
    watcher.stop();
    let mut watcher = shop.watch(&[]);
    watcher.says(&["watching from"]);
    shop.judged(&back).exits(0);
    watcher.stop();
}

#[test]
fn snapshots_make_a_gate_too() {
    let shop = Shop::new();
    let round = || {
        let url = shop.cluster.url("shop");
        let arguments = [
            "watch",
            &url,
            "--mode",
            "snapshots",
            "--rules",
            "rules.yaml",
            "--store",
            "store",
            "--until-now",
        ];
        shop.place.run(&arguments).exits(0);
    };
    let first = shop.written("select 1");
    round();
    shop.gate(&[
        "--table",
        "orders",
        "--lsn",
        first.lines().last().expect("an LSN"),
    ])
    .exits(0);
    shop.gate(&["--table", "orders"]).exits(0);
    let broken = shop.written("update orders set status = 'paid'");
    shop.gate(&["--table", "orders", "--lsn", &broken]).exits(4);
    round();
    shop.gate(&["--table", "orders", "--lsn", &broken]).exits(1);
}

#[test]
fn nobody_listens_to_strangers_without_a_token() {
    let shop = Shop::new();
    let url = shop.cluster.url("shop");
    let arguments = [
        "watch",
        &url,
        "--rules",
        "rules.yaml",
        "--store",
        "store",
        "--listen",
    ];
    let ran = shop
        .place
        .run(&[&arguments[..], &["0.0.0.0:0"]].concat())
        .exits(2);
    assert!(ran.err.contains("FIRSTBAD_TOKEN"), "{}", ran.err);
    assert!(!shop.place.path("store").exists());
    let token = "sixteen bytes or more";
    let watcher = |more: &[&str]| shop.watch(&[&["--listen", "127.0.0.1:0"], more].concat());
    let mut watcher = watcher(&["--listen-token", token]);
    let listening = watcher.says(&["listening on http://"]);
    let address = listening.rsplit('/').next().expect("an address").to_owned();
    let answer = get(&address, "/gate");
    assert_eq!(answer.get(9..12), Some("401"), "{answer}");
    assert!(!answer.contains("orders"), "{answer}");
    let (_, said) = watcher.stop();
    assert!(!said.contains(token), "{said}");
}
