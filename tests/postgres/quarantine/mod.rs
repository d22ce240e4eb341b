//! Quarantine on real servers: rows are set apart and released without a trace, whoever writes meanwhile and whatever breaks.

mod automatic;
mod database;
mod killed;
mod story;
mod values;

use serde_json::Value;

use crate::place::{Place, Ran};
use crate::postgres::Cluster;
use crate::psql::{file, url};

/// A shop whose tables belong to `owner`; `app` writes, `reporting` reads, `firstbad_watch` watches.
const SHOP: &str = "
create role owner login createrole;
create role app login;
create role reporting login;
grant create on database shop to owner;
alter schema public owner to owner;
set role owner;
create table orders (id bigint primary key, status text not null, email text, total numeric(12,2), note text);
create table shipments (id bigint primary key, order_id bigint not null);
create table scans (sku text, scanned_at bigint);
alter table scans replica identity full;
insert into orders select i, 'placed', 'customer' || i || '@example.com', i * 1.10, 'n' from generate_series(1, 50) i;
grant select, insert, update, delete on orders, shipments to app;
grant select on orders, shipments to reporting;
";

const RULES: &str = "
rules:
  - id: paid-order-without-shipment
    table: orders
    severity: critical
    where: status = 'paid'
    has: {table: shipments, match: {order_id: id}}
    redact: [email]
  - {id: odd-scan, table: scans, accepted_values: {column: sku, values: [A, B]}}
";

/// A shop with a store that a watcher fills.
pub(crate) struct Shop {
    pub(crate) cluster: Cluster,
    pub(crate) place: Place,
    pub(crate) source: String,
    /// As the role that may set rows apart, and nothing else.
    pub(crate) database: String,
}

impl Shop {
    /// Watched from its beginning; quarantine is set up and no table is switched on.
    pub(crate) fn open() -> Shop {
        let shop = Shop::of(SHOP, RULES);
        shop.install();
        shop
    }

    /// The same with other tables and rules, and without quarantine.
    pub(crate) fn of(tables: &str, rules: &str) -> Shop {
        let cluster = Cluster::start();
        cluster.sql("postgres", "create database shop");
        cluster.sql("shop", tables);
        let shop = Shop {
            place: Place::new().with("rules.yaml", rules),
            source: cluster.url("shop"),
            database: url(&cluster, "firstbad_quarantine", "shop"),
            cluster,
        };
        shop.watch();
        shop
    }

    pub(crate) fn install(&self) {
        file(&self.cluster, "owner", "shop", "04-quarantine.sql", &[]).works();
    }

    /// Runs SQL as the tables' owner.
    pub(crate) fn owner(&self, sql: &str) -> String {
        self.cluster.sql("shop", &format!("set role owner; {sql}"))
    }

    /// Runs SQL as an application.
    pub(crate) fn app(&self, sql: &str) -> String {
        self.cluster.sql("shop", &format!("set role app; {sql}"))
    }

    pub(crate) fn switch_on(&self, arguments: &str) {
        self.owner(&format!(
            "do $on$ begin perform firstbad.quarantine_on({arguments}); end $on$"
        ));
    }

    /// Everything that was committed is judged.
    pub(crate) fn watch(&self) {
        let watch = [
            "watch",
            &self.source,
            "--store",
            "store",
            "--rules",
            "rules.yaml",
            "--until-now",
        ];
        self.place.run(&watch).exits(0);
    }

    /// Orders that are paid and not shipped, as incident I-1.
    pub(crate) fn lose_shipments(&self, orders: &str) {
        self.app(&format!(
            "update orders set status = 'paid' where id in ({orders})"
        ));
        self.watch();
    }

    /// `firstbad quarantine …` on the store and the database.
    pub(crate) fn quarantine(&self, verb: &str, arguments: &[&str]) -> Ran {
        let whole = [
            &["quarantine", verb],
            arguments,
            &[&self.database, "--store", "store"],
        ];
        self.place.run(&whole.concat())
    }

    /// The same as JSON.
    pub(crate) fn json(&self, verb: &str, arguments: &[&str], code: i32) -> Value {
        let whole = [arguments, &["--format", "json"]].concat();
        self.quarantine(verb, &whole).exits(code).json()
    }

    pub(crate) fn state(&self, incident: &str) -> String {
        let shown = [
            "incident", "show", incident, "--store", "store", "--format", "json",
        ];
        let shown = self.place.run(&shown).exits(0).json();
        let state = shown["incidents"][0]["state"].as_str();
        state.expect("an incident has a state").to_owned()
    }

    /// All that is in the database: tables, rows, views, policies, triggers, privileges.
    pub(crate) fn dump(&self) -> String {
        let dump = String::from_utf8(self.cluster.dump("shop", &[])).expect("UTF-8");
        // Newer programs mark their dumps with a word that is another one each time.
        let lines = dump.lines().filter(|line| !line.contains("restrict "));
        let mut lines: Vec<&str> = lines.collect();
        // Rows are where the server put them last.
        lines.sort_unstable();
        lines.join("\n")
    }

    /// The numbers of the orders that a query of the owner gives.
    pub(crate) fn orders(&self, sql: &str) -> Vec<i64> {
        let said = self.owner(sql);
        let number = |line: &str| line.parse().expect("a number");
        said.lines().map(number).collect()
    }

    pub(crate) fn held(&self) -> i64 {
        let count = self.owner("select count(*) from firstbad.quarantine");
        count.trim().parse().expect("a number")
    }
}

/// The keys of rows in a document, by the name of their only column.
pub(crate) fn keys(document: &Value, list: &str, column: &str) -> Vec<i64> {
    let rows = document[list].as_array().expect("a list");
    let key = |row: &Value| row["key"][column].as_i64().expect("a number");
    rows.iter().map(key).collect()
}
