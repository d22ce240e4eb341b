//! The audit: silent while others write, and it names exactly the rows that were changed behind the log's back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::Value;

use crate::place::{Place, Ran};
use crate::postgres::Cluster;
use crate::rng::Rng;
use crate::watcher::Watcher;
use crate::{run, session};

const AUDITS: usize = 6;
const WRITERS: u64 = 3;

/// Writers write to accounts 1 to 200 only.
const TABLES: &str = "
create table accounts (id integer primary key, owner text, balance numeric(12,2) not null, twice numeric generated always as (balance * 2) stored, note text);
create table moves (id bigserial primary key, account integer not null, amount numeric(12,2) not null, at timestamptz default now());
create table plain (a integer, b text);
alter table plain replica identity full;
insert into accounts (id, owner, balance, note) select i, 'owner ' || i, 100, repeat('x', 3000 + i) from generate_series(1, 300) i;
insert into plain values (1, 'x'), (1, 'x'), (2, null);
create role auditor login; grant select on accounts, moves, plain to auditor;
";

const RULES: &str = "
rules:
  - {id: rich, table: accounts, range: {column: balance, max: 1000000}, redact: [owner]}
  - {id: moved, table: moves, range: {column: amount, min: -1000}}
  - {id: plain, table: plain, range: {column: a, min: 0}}
";

fn transaction(rng: &mut Rng) -> String {
    let account = 1 + rng.below(200);
    let other = 1 + rng.below(200);
    let amount = rng.below(100);
    // It is open for a moment, so that readers meet it half-done, and the server has time for others; in one order, so that nobody waits for each other.
    let (low, high) = (account.min(other), account.max(other));
    let mut sql = format!(
        "begin; update accounts set balance = balance - {amount} where id = {low}; \
         insert into moves (account, amount) values ({account}, {amount}); select pg_sleep(0.02); \
         update accounts set balance = balance + {amount} where id = {high};"
    );
    if rng.chance(20) {
        sql += "savepoint a; delete from moves where amount < 20; rollback to a;";
    }
    if rng.chance(30) {
        sql += &format!("delete from moves where account = {account} and amount > 50;");
    }
    if rng.chance(20) {
        sql += "insert into plain values (3, 'y'); delete from plain where a = 3;";
    }
    sql + if rng.chance(10) { "rollback" } else { "commit" }
}

/// Somebody who writes until told to stop.
async fn write(url: String, seed: u64, going: Arc<AtomicBool>, written: Arc<AtomicU64>) {
    let mut rng = Rng::new(seed);
    let session = session(&url).await;
    while going.load(Ordering::Acquire) {
        // A deadlock, or a serialisation failure, writes nothing.
        if session
            .client()
            .batch_execute(&transaction(&mut rng))
            .await
            .is_err()
        {
            let _ = session.client().batch_execute("rollback").await;
        }
        written.fetch_add(1, Ordering::AcqRel);
    }
}

fn audit(place: &Place, url: &str, arguments: &[&str]) -> Ran {
    place.run(
        &[
            &["audit", url, "--store", "s", "--format", "json"],
            arguments,
        ]
        .concat(),
    )
}

fn tables(document: &Value) -> &Vec<Value> {
    document["tables"].as_array().expect("tables")
}

#[test]
fn an_audit_is_silent_while_others_write_and_finds_what_no_write_explains() {
    let seed =
        std::env::var("FIRSTBAD_SEED").map_or(20_261_122, |seed| seed.parse().expect("a number"));
    println!("FIRSTBAD_SEED={seed}");
    let cluster = Cluster::start();
    cluster.sql("postgres", "create database shop");
    cluster.sql("shop", TABLES);
    let url = cluster.url("shop");
    let auditor = url.replacen("postgres@", "auditor@", 1);
    let place = Place::new().with("r.yaml", RULES);
    let mut watcher = Watcher::start(
        &place.path("."),
        &[&url, "--store", "s", "--rules", "r.yaml"],
    );
    watcher.says(&["watching from #0"]);
    let (going, written) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let writers = {
        let (url, going, written) = (url.clone(), Arc::clone(&going), Arc::clone(&written));
        std::thread::spawn(move || {
            run(async {
                let writer = |at| {
                    tokio::spawn(write(
                        url.clone(),
                        seed + at,
                        Arc::clone(&going),
                        Arc::clone(&written),
                    ))
                };
                let all: Vec<_> = (0..WRITERS).map(writer).collect();
                for one in all {
                    one.await.expect("a writer does not panic");
                }
            });
        })
    };
    silent(&place, &auditor, &written);
    // Nothing is published for the length of a transaction, so that no consumer of the log is told.
    cluster.sql(
        "shop",
        "begin; alter publication firstbad set (publish = '');
         update accounts set balance = 66.66, owner = 'canary' where id = 250;
         delete from accounts where id = 260;
         insert into accounts (id, owner, balance, note) values (999, 'canary', 1, 'new');
         alter publication firstbad set (publish = 'insert, update, delete, truncate'); commit;",
    );
    found(&place, &auditor);
    going.store(false, Ordering::Release);
    writers.join().expect("writers do not panic");
    let (code, said) = watcher.stop();
    assert_eq!(code, Some(0), "{said}");
    without_a_watcher(&place, &cluster, &url);
}

/// Audits under load: no alarm.
fn silent(place: &Place, url: &str, written: &AtomicU64) {
    let mut later = 0;
    for number in 0..AUDITS {
        let before = written.load(Ordering::Acquire);
        let document = audit(place, url, &[]).exits(0).json();
        assert_eq!(document["schema"], "firstbad/audit@1");
        assert_eq!(document["differ"], 0, "audit {number}: {document}");
        let tables = tables(&document);
        let names: Vec<&str> = tables
            .iter()
            .filter_map(|table| table["table"].as_str())
            .collect();
        assert_eq!(names, ["public.accounts", "public.moves", "public.plain"]);
        assert_eq!(tables[0]["rows"], 300, "{document}");
        assert_eq!(tables[0]["passed_over"][0]["column"], "twice", "{document}");
        assert!(
            written.load(Ordering::Acquire) > before,
            "others write meanwhile"
        );
        let of = |table: &Value| table["later_commits"].as_u64().expect("a count");
        later += tables.iter().map(of).sum::<u64>();
    }
    println!("{later} commits came after the snapshots and were told apart");
}

/// Exactly the rows that were changed, with what both say; values that a rule hides are hidden.
fn found(place: &Place, url: &str) {
    let ran = audit(place, url, &[]).exits(1);
    let document = ran.json();
    let accounts = &tables(&document)[0];
    let differences = accounts["differences"].as_array().expect("rows");
    let seen: Vec<(i64, &str)> = differences
        .iter()
        .map(|row| {
            (
                row["key"]["id"].as_i64().expect("a key"),
                row["what"].as_str().expect("a word"),
            )
        })
        .collect();
    let mut sorted = seen.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        [(250, "differs"), (260, "missing"), (999, "unexplained")],
        "{document}"
    );
    assert_eq!(document["differ"], 3);
    let changed = differences
        .iter()
        .find(|row| row["what"] == "differs")
        .expect("a row");
    assert_eq!(changed["columns"], serde_json::json!(["owner", "balance"]));
    assert_eq!(
        (&changed["log"]["balance"], &changed["table"]["balance"]),
        (&"100.00".into(), &"66.66".into())
    );
    assert!(
        !ran.out.contains("canary") && ran.out.contains("redacted:"),
        "{}",
        ran.out
    );
    let hidden = audit(place, url, &["--redact", "balance", "--table", "accounts"]).exits(1);
    assert!(!hidden.out.contains("66.66"), "{}", hidden.out);
    audit(place, url, &["--table", "moves", "--rate", "1000000"]).exits(0);
    let text = place
        .run(&["audit", url, "--store", "s", "--table", "accounts"])
        .exits(1);
    assert!(
        text.out.contains("balance 100.00 → 66.66 (log → table)"),
        "{}",
        text.out
    );
    assert!(
        text.out.contains("3 rows changed outside the log"),
        "{}",
        text.out
    );
}

fn without_a_watcher(place: &Place, cluster: &Cluster, url: &str) {
    cluster.sql("shop", "update accounts set balance = 5 where id = 7");
    audit(place, url, &["--wait", "1s", "--table", "accounts"])
        .exits(3)
        .warns(&["the store has recorded the log up to", "--catch-up"]);
    let caught = audit(place, url, &["--catch-up", "--rules", "r.yaml"])
        .exits(1)
        .json();
    assert_eq!(caught["differ"], 3, "{caught}");
    // A logged write of the row ends what the log did not explain.
    cluster.sql(
        "shop",
        "update accounts set balance = 1, owner = 'x' where id = 250",
    );
    let caught = audit(place, url, &["--catch-up", "--rules", "r.yaml"])
        .exits(1)
        .json();
    assert_eq!(caught["differ"], 2, "{caught}");
    place
        .run(&["audit", url, "--store", "s", "--table", "acounts"])
        .refused(&["no table `acounts`", "did you mean `accounts`?"]);
    place
        .run(&["audit", url, "--store", "nowhere"])
        .refused(&["there is no store"]);
    // A byte that the disk lost.
    let file = cluster.sql("shop", "select pg_relation_filepath('accounts')");
    let file = cluster.directory().join("data").join(file.trim());
    assert!(cluster.stop("fast", 60), "it stops");
    let mut bytes = std::fs::read(&file).expect("the table's file");
    let owner = b"owner 240";
    let found: Vec<usize> = bytes
        .windows(owner.len())
        .enumerate()
        .filter_map(|(at, window)| (window == owner).then_some(at))
        .collect();
    let &[at] = found.as_slice() else {
        panic!("the row is there once: {found:?}")
    };
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).expect("the table's file");
    cluster.run();
    let caught = audit(place, url, &["--catch-up", "--rules", "r.yaml"])
        .exits(1)
        .json();
    assert_eq!(caught["differ"], 3, "{caught}");
    let rows = tables(&caught)[0]["differences"].as_array().expect("rows");
    let broken = rows.iter().find(|row| row["key"]["id"] == 240);
    let broken = broken.expect("the row with the byte");
    assert_eq!(broken["columns"], serde_json::json!(["owner"]), "{broken}");
    place.run(&["verify", "s"]).exits(0);
    let other = Cluster::start();
    place
        .run(&["audit", &other.url("postgres"), "--store", "s"])
        .refused(&["recorded from another server"]);
}
