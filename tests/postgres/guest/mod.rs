//! The watcher as a guest of real servers: what it makes, what it refuses, and what it does when tables, slots and servers change under
//! it. After each the store is whole and its last state is the table.

mod huge;
mod refused;
mod servers;
mod slots;
mod tables;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::place::Place;
use crate::postgres::{Cluster, Setup};

/// What takes longer hangs.
const LONGEST: Duration = Duration::from_secs(120);

pub(crate) const ORDERS: &str = "
    create table orders (id bigint primary key, status text not null, note text);
    insert into orders select i, 'paid', 'n' from generate_series(1, 10) i;
    create table other (id bigint primary key, v text);
    create table elsewhere (id bigint primary key, v text);";

pub(crate) const RULES: &str = "
rules:
  - {id: status, table: orders, accepted_values: {column: status, values: [paid, open]}}
  - {id: other, table: other, expression: \"v <> 'bad'\"}
";

/// A server with a database, and a directory with rules and a store.
pub(crate) struct Guest {
    pub(crate) cluster: Cluster,
    pub(crate) place: Place,
}

impl Guest {
    pub(crate) fn new(sql: &str, rules: &str) -> Guest {
        Guest::with(&[], sql, rules)
    }

    pub(crate) fn with(settings: &[&str], sql: &str, rules: &str) -> Guest {
        let cluster = Cluster::start_with(&Setup {
            settings,
            ..Setup::default()
        });
        cluster.sql("postgres", "create database shop");
        cluster.sql("shop", sql);
        Guest {
            cluster,
            place: Place::new().with("rules.yaml", rules),
        }
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        self.cluster.sql("shop", sql).trim().to_owned()
    }

    pub(crate) fn url(&self) -> String {
        self.cluster.url("shop")
    }

    /// A watcher that runs until it is stopped.
    pub(crate) fn start(&self, more: &[&str]) -> Running {
        self.start_at(&self.url(), more)
    }

    pub(crate) fn start_at(&self, url: &str, more: &[&str]) -> Running {
        let log = self.place.path("log");
        let file = std::fs::File::create(&log).expect("a log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_firstbad"));
        let usual = ["watch", url, "--rules", "rules.yaml"];
        command.args(usual).args(more);
        if !more.contains(&"--store") {
            command.args(["--store", "store"]);
        }
        let child = command
            .current_dir(self.place.path(""))
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file can be shared"))
            .stderr(file)
            .spawn()
            .expect("the program can be started");
        Running { child, log }
    }

    /// Runs a watcher until it has judged what there is; gives what it said.
    pub(crate) fn seen(&self) -> String {
        let (code, said) = self.watch(&[]);
        assert_eq!(code, 0, "{said}");
        said
    }

    /// The same without a gap.
    pub(crate) fn seen_all(&self) {
        let said = self.seen();
        assert!(!said.contains("a gap"), "{said}");
    }

    pub(crate) fn watch(&self, more: &[&str]) -> (i32, String) {
        self.start(&[more, &["--until-now"]].concat()).ended()
    }

    /// The verdict of a rule, and why it is not known.
    pub(crate) fn verdict(&self, rule: &str) -> (String, String) {
        let path = self.place.path("store/firstbad.db");
        let db = rusqlite::Connection::open(path).expect("the incidents are there");
        db.busy_timeout(LONGEST).expect("it can wait");
        let query = "select verdict, coalesce(reason, '') from rules where id = ?1";
        db.query_row(query, [rule], |row| Ok((row.get(0)?, row.get(1)?)))
            .expect("the rule is there")
    }

    pub(crate) fn incidents(&self) -> Vec<Value> {
        let list = ["incident", "list", "--all", "--store", "store"];
        let ran = self.place.run(&[&list[..], &["--format", "json"]].concat());
        let listed = ran.exits(0).json();
        listed["incidents"].as_array().expect("a list").clone()
    }

    /// The store is whole, and its last state is the tables.
    #[track_caller]
    pub(crate) fn is_true(&self) {
        self.place.run(&["verify", "store"]).exits(0);
        let tables = self.sql("select distinct tablename from pg_publication_tables");
        for table in tables.lines() {
            let diff = [
                "diff",
                "store",
                &self.url(),
                "--exit-code",
                "--table",
                table,
            ];
            self.place.run(&diff).exits(0);
        }
    }

    pub(crate) fn slots(&self) -> String {
        self.sql("select count(*) from pg_replication_slots")
    }

    pub(crate) fn publications(&self) -> String {
        self.sql("select count(*) from pg_publication")
    }

    /// Asks until the answer is `t`.
    #[track_caller]
    pub(crate) fn until(&self, sql: &str) {
        until(sql, || self.sql(sql) == "t");
    }
}

/// Waits for something.
#[track_caller]
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < LONGEST, "it never was: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// A watcher that runs.
pub(crate) struct Running {
    child: Child,
    log: std::path::PathBuf,
}

impl Running {
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has said a text.
    #[track_caller]
    pub(crate) fn says(&mut self, text: &str) -> &mut Self {
        let begun = Instant::now();
        while !self.said().contains(text) {
            let status = self.child.try_wait().expect("it is ours");
            assert!(
                status.is_none() || self.said().contains(text),
                "it ended ({status:?}) without `{text}`: {}",
                self.said()
            );
            assert!(begun.elapsed() < LONGEST, "no `{text}`: {}", self.said());
            std::thread::park_timeout(Duration::from_millis(20));
        }
        self
    }

    /// Waits until it ends by itself: the exit code and what it said.
    #[track_caller]
    pub(crate) fn ended(mut self) -> (i32, String) {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return (status.code().unwrap_or(-1), self.said());
            }
            assert!(begun.elapsed() < LONGEST, "it hangs: {}", self.said());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Interrupts it as a terminal does.
    pub(crate) fn interrupt(&self) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-INT", &pid]).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "it can be interrupted"
        );
    }

    /// Stops it; it ends well.
    #[track_caller]
    pub(crate) fn stop(self) -> String {
        self.interrupt();
        let (code, said) = self.ended();
        assert_eq!(code, 0, "{said}");
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
