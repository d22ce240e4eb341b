//! The watcher is killed at any byte that it receives or sends, and the server stops at once, while others write. In the end the recorded
//! history is the writers' own ledger, in their order, and every incident is there once.
//!
//! `FIRSTBAD_SEED` replays a run, `FIRSTBAD_KILLS` says how many times the watcher is killed.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use firstbad::postgres::{Access, Session};
use serde_json::Value;

use crate::postgres::{Cluster, Setup};
use crate::rng::Rng;
use crate::{run, target};

const KILLS: usize = 200;
/// The server stops at once instead of the watcher, at every so many.
const CRASH_EVERY: usize = 10;
/// Transactions of each writer while the watcher runs once.
const TURN: u64 = 40;
const WRITERS: u64 = 2;
/// A run that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(120);

const TABLES: &str = "
create table customers (id bigint primary key, name text not null);
create table orders (id bigint primary key, customer_id bigint not null, status text not null, note text);
create table payments (id bigint primary key, order_id bigint not null, amount numeric(12,2) not null);
create table ledger (writer int, n bigint, primary key (writer, n));
insert into customers select i, 'customer ' || i from generate_series(1, 50) i;
";

const RULES: &str = "
rules:
  - {id: order-of-nobody, table: orders, references: {column: customer_id, to: customers.id}}
  - {id: payment-of-nothing, table: payments, severity: critical, references: {column: order_id, to: orders.id}}
  - {id: odd-status, table: orders, accepted_values: {column: status, values: [placed, paid, shipped]}}
  - {id: status-jumps, table: orders, transitions: {column: status, allowed: {placed: [paid], paid: [shipped], shipped: [], lost: [paid]}}}
  - {id: ledger-changed, table: ledger, append_only: true}
";

/// Passes bytes between the watcher and the server, and says when so many have gone by.
struct Proxy {
    port: u16,
    bytes: Arc<Bytes>,
}

/// How many bytes have gone by.
#[derive(Default)]
struct Bytes {
    count: Mutex<u64>,
    more: Condvar,
}

impl Bytes {
    fn count(&self) -> u64 {
        *self.count.lock().expect("no holder panics")
    }

    fn begin(&self) {
        *self.count.lock().expect("no holder panics") = 0;
    }

    fn add(&self, bytes: usize) {
        *self.count.lock().expect("no holder panics") += bytes as u64;
        self.more.notify_all();
    }

    /// Waits a moment for more than these.
    fn wait(&self, bytes: u64) -> u64 {
        let count = self.count.lock().expect("no holder panics");
        let few = |count: &mut u64| *count < bytes;
        let moment = Duration::from_millis(5);
        let (count, _) = self
            .more
            .wait_timeout_while(count, moment, few)
            .expect("no holder panics");
        *count
    }
}

impl Proxy {
    fn start(socket: PathBuf) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let bytes = Arc::new(Bytes::default());
        let counted = Arc::clone(&bytes);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A server that is down lets nobody in.
                let Ok(server) = UnixStream::connect(&socket) else {
                    continue;
                };
                pass(client, server, &counted);
            }
        });
        Proxy { port, bytes }
    }
}

fn pass(client: TcpStream, server: UnixStream, bytes: &Arc<Bytes>) {
    let pair = (client.try_clone(), server.try_clone());
    let (Ok(mut from_client), Ok(mut to_server)) = pair else {
        return;
    };
    let (mut from_server, mut to_client) = (server, client);
    let (up, down) = (Arc::clone(bytes), Arc::clone(bytes));
    std::thread::spawn(move || {
        copy(&mut from_client, &mut to_server, &up);
        let _ = to_server.shutdown(Shutdown::Both);
    });
    std::thread::spawn(move || {
        copy(&mut from_server, &mut to_client, &down);
        let _ = to_client.shutdown(Shutdown::Both);
    });
}

fn copy(from: &mut impl Read, to: &mut impl Write, bytes: &Bytes) {
    let mut room = [0; 1024];
    while let Ok(count) = from.read(&mut room) {
        if count == 0 || to.write_all(&room[..count]).is_err() {
            return;
        }
        bytes.add(count);
    }
}

/// How many transactions the writers may make together, and have made.
#[derive(Default)]
struct Turns {
    state: Mutex<(u64, bool)>,
    changed: Condvar,
}

impl Turns {
    fn give(&self, count: u64) {
        self.state.lock().expect("no holder panics").0 += count;
        self.changed.notify_all();
    }

    fn end(&self) {
        self.state.lock().expect("no holder panics").1 = true;
        self.changed.notify_all();
    }

    /// Waits until transaction `n` may be made; false at the end.
    fn wait(&self, n: u64) -> bool {
        let mut state = self.state.lock().expect("no holder panics");
        while state.0 < n && !state.1 {
            state = self.changed.wait(state).expect("no holder panics");
        }
        state.0 >= n
    }
}

/// The SQL of a writer's n-th transaction: what one does to orders and payments, and the line of the ledger. Some are bad, and later
/// ones mend that.
fn transaction(writer: u64, n: u64, rng: &mut Rng) -> String {
    let id = n * 10 + writer;
    let before = id.saturating_sub(10);
    let customer = if rng.chance(2) { 99 } else { 1 + rng.below(50) };
    let status = if rng.chance(3) { "lost" } else { "placed" };
    let note = "x".repeat(rng.below(200));
    let mut sql = format!(
        "begin; select pg_logical_emit_message(true, 'firstbad', '{{\"writer\": {writer}, \"n\": {n}}}'); \
         insert into orders values ({id}, {customer}, '{status}', '{note}'); \
         insert into ledger values ({writer}, {n});"
    );
    if rng.chance(50) {
        sql += &format!(
            "update orders set status = 'paid' where id = {before} and status in ('placed', 'lost');"
        );
    }
    if rng.chance(5) {
        sql +=
            &format!("update orders set status = 'shipped', customer_id = 1 where id = {before};");
    }
    if rng.chance(4) {
        sql += &format!("insert into payments values ({id}, {id} + 5, 1.50);");
    } else {
        sql += &format!("insert into payments values ({id}, {id}, {n}.25);");
    }
    if rng.chance(30) {
        sql +=
            &format!("delete from payments where order_id % 10 = {writer} + 5 or id = {before};");
    }
    if rng.chance(10) {
        sql += "savepoint a; delete from orders; rollback to a;";
    }
    sql + if rng.chance(5) { "rollback" } else { "commit" }
}

/// Writes until the turns end; says which transactions were committed.
async fn write(url: String, writer: u64, seed: u64, turns: Arc<Turns>) -> Vec<u64> {
    let mut rng = Rng::new(seed ^ writer);
    let mut done = Vec::new();
    let mut session = connect(&url).await;
    let mut n = 0;
    loop {
        n += 1;
        let turn = Arc::clone(&turns);
        let may = tokio::task::spawn_blocking(move || turn.wait(n)).await;
        if !may.expect("waiting does not panic") {
            return done;
        }
        let sql = transaction(writer, n, &mut rng);
        let rolled_back = sql.ends_with("rollback");
        match session.client().batch_execute(&sql).await {
            Ok(()) if rolled_back => {}
            Ok(()) => done.push(n),
            // The server went away, or ended this one of two writers that waited for each other.
            Err(_) => {
                session = connect(&url).await;
                while let Err(error) = ask(&session, writer, n, &mut done).await {
                    assert!(error.as_db_error().is_none(), "{error}");
                    session = connect(&url).await;
                }
            }
        }
    }
}

/// Asks the ledger whether a transaction was committed. The server may go away before it answers.
async fn ask(
    session: &Session,
    writer: u64,
    n: u64,
    done: &mut Vec<u64>,
) -> Result<(), tokio_postgres::Error> {
    let asked = "select count(*) from ledger where writer = $1::int8 and n = $2::int8";
    let row = session
        .client()
        .query_one(asked, &[&(writer as i64), &(n as i64)])
        .await?;
    if row.get::<_, i64>(0) == 1 {
        done.push(n);
    }
    Ok(())
}

/// A client, as soon as the server lets it in.
async fn connect(url: &str) -> Session {
    let begun = Instant::now();
    loop {
        match Session::open(&target(url), "writer", Access::ReadWrite).await {
            Ok(session) => return session,
            Err(error) => assert!(begun.elapsed() < LONGEST, "{error}"),
        }
        tokio::task::yield_now().await;
    }
}

struct Place {
    directory: tempfile::TempDir,
    proxy: Proxy,
}

impl Place {
    fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    fn firstbad(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firstbad"));
        command.args(arguments).current_dir(self.directory.path());
        command
    }

    /// A watcher that ends when it has seen what was committed before it began.
    fn watcher(&self) -> Child {
        let url = format!("postgres://postgres@127.0.0.1:{}/shop", self.proxy.port);
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.directory.path().join("log"))
            .expect("a log");
        self.firstbad(&[
            "watch",
            &url,
            "--store",
            "store",
            "--rules",
            "rules.yaml",
            "--until-now",
        ])
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file can be shared"))
        .stderr(log)
        .spawn()
        .expect("the program can be started")
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        let tail = log.len().saturating_sub(4000);
        log[tail..].to_owned()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.firstbad(arguments).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!(
                "{arguments:?}: {error}: {text}{}",
                String::from_utf8_lossy(&output.stderr)
            )
        })
    }
}

/// How a run of the watcher ended.
enum End {
    Killed,
    ByItself(ExitStatus),
}

/// Waits until so many bytes have gone by, or the watcher has ended.
fn until(
    child: &mut Child,
    proxy: &Proxy,
    bytes: u64,
    log: &dyn Fn() -> String,
) -> Option<ExitStatus> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("it is ours") {
            return Some(status);
        }
        if proxy.bytes.wait(bytes) >= bytes {
            return None;
        }
        assert!(begun.elapsed() < LONGEST, "the watcher hangs: {}", log());
    }
}

#[test]
fn a_watcher_that_is_killed_anywhere_loses_nothing_and_repeats_nothing() {
    let seed =
        std::env::var("FIRSTBAD_SEED").map_or(20_261_121, |seed| seed.parse().expect("a number"));
    let kills: usize =
        std::env::var("FIRSTBAD_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number"));
    println!("FIRSTBAD_SEED={seed} FIRSTBAD_KILLS={kills}");
    let cluster = Cluster::start_with(&Setup::default());
    cluster.sql("postgres", "create database shop");
    cluster.sql("shop", TABLES);
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("rules.yaml"), RULES).expect("rules can be written");
    let socket = cluster
        .directory()
        .join(format!(".s.PGSQL.{}", cluster.port()));
    let place = Place {
        directory,
        proxy: Proxy::start(socket),
    };
    let turns = Arc::new(Turns::default());
    let url = cluster.url("shop");
    let writers = {
        let turns = Arc::clone(&turns);
        std::thread::spawn(move || {
            run(async move {
                let writers = (0..WRITERS).map(|writer| {
                    tokio::spawn(write(url.clone(), writer, seed, Arc::clone(&turns)))
                });
                let mut done = Vec::new();
                for writer in writers.collect::<Vec<_>>() {
                    done.push(writer.await.expect("a writer does not panic"));
                }
                done
            })
        })
    };
    let mut rng = Rng::new(seed);
    let (mut killed, mut crashes, mut by_itself) = (0, 0, 0);
    let status = place.watcher().wait().expect("it ends");
    assert!(status.success(), "{}", place.log());
    // What a whole run takes is found out on the way.
    let mut most = place.proxy.bytes.count() * 2;
    while killed < kills {
        turns.give(TURN);
        place.proxy.bytes.begin();
        let bytes = 1 + rng.next() % most;
        let mut child = place.watcher();
        let log = || place.log();
        let end = match until(&mut child, &place.proxy, bytes, &log) {
            Some(status) => End::ByItself(status),
            None if killed % CRASH_EVERY == CRASH_EVERY - 1 => {
                // The server goes and comes back; the watcher holds out.
                assert!(cluster.stop("immediate", 60), "the server stops at once");
                cluster.run();
                crashes += 1;
                killed += 1;
                let status = until(&mut child, &place.proxy, u64::MAX, &log);
                End::ByItself(status.expect("it ends by itself"))
            }
            None => {
                child.kill().expect("it can be killed");
                child.wait().expect("it ends");
                killed += 1;
                End::Killed
            }
        };
        if let End::ByItself(status) = end {
            // A server that goes away before the stream has begun ends the watcher: that is no loss.
            let fine = status.success() || (crashes > 0 && status.code() == Some(3));
            assert!(fine, "{status}: {}", place.log());
            by_itself += 1;
            most = place.proxy.bytes.count().max(20_000);
        } else {
            most += most / 50;
        }
    }
    turns.end();
    let ledgers = writers.join().expect("the writers end");
    let status = place.watcher().wait().expect("it ends");
    assert!(status.success(), "{}", place.log());
    println!(
        "{killed} killed, of them {crashes} crashes of the server; {by_itself} ended by themselves"
    );
    compare(&place, &cluster, &ledgers);
}

/// What was recorded, against what the writers know.
fn compare(place: &Place, cluster: &Cluster, ledgers: &[Vec<u64>]) {
    let store = place.store();
    let store = store.to_str().expect("a plain path");
    let verified = place
        .firstbad(&["verify", store])
        .output()
        .expect("it runs");
    assert!(
        verified.status.success(),
        "{}",
        String::from_utf8_lossy(&verified.stdout)
    );
    let recorded = place.json(&[
        "sql",
        store,
        "select after_writer as writer, after_n as n, \"commit\", op from changes.ledger order by \"commit\", ordinal",
        "--format",
        "json",
    ]);
    let mut of: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut commits = Vec::new();
    for row in recorded["rows"].as_array().expect("rows") {
        let number = |name: &str| row[name].as_u64().expect("a number");
        assert_eq!(row["op"], "insert");
        of.entry(number("writer")).or_default().push(number("n"));
        commits.push(number("commit"));
    }
    assert!(
        commits.is_sorted_by(|a, b| a < b),
        "one line of the ledger a commit"
    );
    for (writer, ledger) in (0u64..).zip(ledgers) {
        let recorded = of.remove(&writer).unwrap_or_default();
        // What was committed before the watcher began is in the first state.
        let first = recorded.first().copied().unwrap_or(0);
        let expected: Vec<u64> = ledger.iter().copied().filter(|n| *n >= first).collect();
        assert_eq!(recorded, expected, "writer {writer}");
        assert!(
            recorded.len() > 10,
            "writer {writer}: there is something to compare"
        );
    }
    let url = cluster.url("shop");
    let same = place
        .firstbad(&["diff", store, &url, "--exit-code"])
        .output()
        .expect("it runs");
    assert_eq!(
        same.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&same.stdout)
    );
    incidents(place, store);
}

/// The incidents are the stretches that bisecting the recorded history finds.
fn incidents(place: &Place, store: &str) {
    let listed = place.json(&[
        "incident", "list", "--all", "--store", store, "--format", "json",
    ]);
    let mut found: BTreeMap<String, Vec<(u64, bool)>> = BTreeMap::new();
    for incident in listed["incidents"].as_array().expect("incidents") {
        let rule = incident["rules"][0].as_str().expect("a rule").to_owned();
        let first = incident["first_bad"]["commit"]
            .as_u64()
            .expect("a first bad write");
        let closed = incident["state"] == "closed";
        found.entry(rule).or_default().push((first, closed));
    }
    found
        .values_mut()
        .for_each(|stretches| stretches.sort_unstable());
    let bisected = place.json(&["bisect", store, "--rules", "rules.yaml", "--format", "json"]);
    let mut expected: BTreeMap<String, Vec<(u64, bool)>> = BTreeMap::new();
    for rule in bisected["rules"].as_array().expect("rules") {
        let id = rule["id"].as_str().expect("an id").to_owned();
        let mut stretches: Vec<(u64, bool)> = Vec::new();
        for earlier in rule["earlier"].as_array().expect("earlier stretches") {
            stretches.push((earlier["from"].as_u64().expect("a commit"), true));
        }
        if let Some(first) = rule["first_bad"]["commit"].as_u64() {
            stretches.push((first, false));
        }
        if !stretches.is_empty() {
            expected.insert(id, stretches);
        }
    }
    assert_eq!(found, expected);
    assert!(
        found.len() >= 3,
        "the writers were bad in several ways: {found:?}"
    );
    assert!(Path::new(store).join("firstbad.db").is_file());
}
