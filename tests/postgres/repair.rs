//! Repairs of a watched database (docs/repair.md): what they put back is what was there, and where a row was written since they do nothing.

use std::process::Command;

use serde_json::Value;

use crate::place::{Place, Ran};
use crate::postgres::Cluster;

/// Order 3 holds what is hard to write down.
const TABLES: &str = r#"
create type mood as enum ('good', 'it''s \ bad');
create domain short as varchar(20);
create table orders (
    id bigint primary key, status text not null, note text, total numeric(12, 2), doubled numeric generated always as (total * 2) stored,
    payload jsonb, doc json, tags text[], raw bytea, at timestamptz, span interval, weight float8, small real, mood mood,
    area point, code char(5), name short, uid uuid, "we""ird $firstbad$" text, firstbad_rows int, day date, clock time, many int[], ok bool
);
create table shipments (id bigint generated always as identity primary key, order_id bigint references orders (id), carrier text);
create table order_events (id bigint primary key, order_id bigint);
insert into orders (id, status, total, note) values (1, 'paid', 9.50, 'a'), (2, 'placed', 1, 'b');
insert into orders values (3, 'placed', E'x''; $firstbad$ drop table orders; --\n\\ \u202e ü 🦀', 99.90, default,
    '{"a": [1, "x''\\"], "b": null}', '{"b" :  1,"a":2}', array['x,y', null, '"', '\', E'\n'], '\x00ff27', '2026-03-12 16:03:51.221+01',
    '1 mon 2 days 03:04:05.6', 'NaN', 1.1, 'it''s \ bad', '(1.5,2)', 'ab', 'short''s', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '$firstbad1$''', -7,
    'infinity', '23:59:59.999999', '{1,NULL,3}', true);
insert into shipments (order_id, carrier) values (1, 'DHL');
insert into order_events values (1, 3);
"#;

const RULES: &str = "
rules:
  - {id: order-status-unusual, table: orders, accepted_values: {column: status, values: [placed, paid]}}
  - {id: paid-order-without-shipment, table: orders, where: status = 'paid', has: {table: shipments, match: {order_id: id}}}
  - {id: event-of-no-order, table: order_events, references: {column: order_id, to: orders.id}, redact: [note]}
";

const BROKEN: &str = "begin;
update orders set status = 'lsot' where id = 2;
delete from shipments where order_id = 1;
delete from orders where id = 3;
commit;";

struct Shop {
    cluster: Cluster,
    place: Place,
}

impl Shop {
    /// A shop that is watched.
    fn new() -> Shop {
        let cluster = Cluster::start();
        cluster.sql("postgres", "create database shop");
        cluster.sql("shop", TABLES);
        let shop = Shop {
            cluster,
            place: Place::new().with("rules.yaml", RULES),
        };
        shop.watch();
        shop
    }

    /// Judges what was written.
    fn watch(&self) {
        let url = self.cluster.url("shop");
        let arguments = [
            "watch",
            &url,
            "--rules",
            "rules.yaml",
            "--store",
            "store",
            "--until-now",
        ];
        self.place.run(&arguments).exits(0);
    }

    /// The one incident that is not closed.
    fn incident(&self) -> String {
        let list = ["incident", "list", "--store", "store", "--format", "json"];
        let document = self.place.run(&list).exits(0).json();
        let incidents = document["incidents"].as_array().expect("incidents");
        assert_eq!(incidents.len(), 1, "{document}");
        incidents[0]["id"].as_str().expect("an id").to_owned()
    }

    fn repair(&self, more: &[&str]) -> Ran {
        let id = self.incident();
        let usual = ["repair", &id, "--store", "store", "--rules", "rules.yaml"];
        self.place.run(&[&usual[..], more].concat())
    }

    /// All that the database holds.
    fn rows(&self, database: &str) -> String {
        let tables = ["orders", "shipments", "order_events"];
        let table = |name: &str| format!("select t::text from {name} t order by id;");
        self.cluster.sql(database, &tables.map(table).concat())
    }

    /// Runs a file as its reader would; what went wrong.
    fn psql(&self, file: &str) -> Option<String> {
        let output = Command::new("psql")
            .args([
                "-X",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                "postgres",
                "-d",
                "shop",
                "-f",
            ])
            .arg(self.place.path(file))
            .env("PGHOST", self.cluster.directory())
            .env("PGPORT", self.cluster.port().to_string())
            .output()
            .unwrap_or_else(|error| panic!("psql: {error}; install PostgreSQL's client"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (!output.status.success()).then_some(said)
    }
}

#[test]
fn a_repair_puts_back_exactly_what_was_there() {
    let shop = Shop::new();
    let before = shop.rows("shop");
    shop.cluster.sql("shop", BROKEN);
    shop.watch();
    shop.cluster
        .sql("postgres", "create database copy template shop");

    // A hidden value is needed to write the lost order again.
    let ran = shop.repair(&[]).exits(1);
    assert!(ran.out.contains("orders.note is redacted"), "{}", ran.out);
    assert!(!ran.out.contains("drop table orders"), "{}", ran.out);

    let copy = shop.cluster.url("copy");
    let ran = shop.repair(&["--show-redacted", "--try", &copy]).exits(0);
    assert!(ran.out.contains("3 rules held afterwards"), "{}", ran.out);
    assert_eq!(shop.rows("copy"), before);
    assert_ne!(shop.rows("shop"), before, "nothing is run unasked");
    // What was done once cannot be done again.
    let ran = shop.repair(&["--show-redacted", "--try", &copy]).exits(1);
    assert!(
        ran.out.contains("refused, nothing was changed"),
        "{}",
        ran.out
    );
    assert_eq!(shop.rows("copy"), before);

    let ran = shop
        .repair(&["--show-redacted", "--output", "repair.sql"])
        .exits(0);
    assert_eq!(ran.out, "");
    assert_eq!(shop.psql("repair.sql"), None);
    assert_eq!(shop.rows("shop"), before);
    let id = shop.incident();
    let mark = ["repair", &id, "--store", "store", "--mark"];
    let ran = shop.place.run(&mark).exits(0);
    assert_eq!(ran.out, format!("{id} is repaired\n"));
    shop.watch();
    let show = [
        "incident", "show", &id, "--store", "store", "--format", "json",
    ];
    let document = shop.place.run(&show).exits(0).json();
    assert_eq!(document["incidents"][0]["state"], "closed", "{document}");
}

#[test]
fn a_row_that_was_written_since_ends_the_whole_repair() {
    let shop = Shop::new();
    shop.cluster.sql("shop", BROKEN);
    shop.watch();
    shop.repair(&["--show-redacted", "--output", "repair.sql"])
        .exits(0);
    for written in [
        "update orders set status = 'paid' where id = 2",
        "delete from orders where id = 2",
        "insert into orders (id, status) values (3, 'placed')",
        "insert into shipments overriding system value values (1, 1, 'UPS')",
    ] {
        shop.cluster.sql("shop", &format!("create table kept_orders as table orders; create table kept_shipments as table shipments; {written}"));
        let before = shop.rows("shop");
        let said = shop.psql("repair.sql").expect("it is refused");
        assert!(
            said.contains("firstbad: statement") || said.contains("duplicate key"),
            "{said}"
        );
        assert_eq!(shop.rows("shop"), before, "{written}");
        // As it was, for the next one.
        shop.cluster.sql(
            "shop",
            "begin; delete from shipments; delete from orders; alter table kept_orders drop column doubled;
             do $$ declare names text; begin
               select string_agg(quote_ident(attname), ', ') into names from pg_attribute where attrelid = 'kept_orders'::regclass and attnum > 0 and not attisdropped;
               execute format('insert into orders (%s) select %s from kept_orders', names, names);
             end $$;
             insert into shipments overriding system value table kept_shipments;
             drop table kept_orders, kept_shipments; commit;",
        );
    }
    assert_eq!(shop.psql("repair.sql"), None);
}

#[test]
fn the_watched_database_is_never_tried_on() {
    let shop = Shop::new();
    shop.cluster.sql("shop", BROKEN);
    shop.watch();
    let before = shop.rows("shop");
    let url = shop.cluster.url("shop");
    let ran = shop.repair(&["--show-redacted", "--try", &url]).exits(2);
    assert!(ran.err.contains("watched database"), "{}", ran.err);
    assert_eq!((ran.out.as_str(), shop.rows("shop")), ("", before));
    shop.repair(&["--try", "shop_copy"]).exits(2);

    let ran = shop.repair(&["--pitr"]).exits(0);
    let list = ["incident", "list", "--store", "store", "--format", "json"];
    let document = shop.place.run(&list).exits(0).json();
    let lsn = document["incidents"][0]["first_bad"]["lsn"]
        .as_str()
        .expect("an LSN");
    assert!(
        ran.out.contains(&format!("recovery_target_lsn = '{lsn}'")),
        "{}",
        ran.out
    );

    let document = shop
        .repair(&["--show-redacted", "--format", "json"])
        .exits(0)
        .json();
    assert_eq!(document["schema"], "firstbad/repair@1");
    assert_eq!(document["keys"].as_array().map(Vec::len), Some(3));
    assert_eq!(document["statements"].as_array().map(Vec::len), Some(3));
    let ops: Vec<&Value> = document["statements"]
        .as_array()
        .expect("statements")
        .iter()
        .map(|one| &one["op"])
        .collect();
    assert_eq!(ops, ["insert", "insert", "update"]);
    // Rules of today that do not have it cannot prove it.
    shop.place.write(
        "other.yaml",
        "rules: [{id: x, table: orders, not_null: status}]",
    );
    let id = shop.incident();
    let ran = shop
        .place
        .run(&["repair", &id, "--store", "store", "--rules", "other.yaml"])
        .exits(2);
    assert!(
        ran.err.contains("is in none of the rule files"),
        "{}",
        ran.err
    );
    shop.place
        .run(&[
            "repair",
            "I-99",
            "--store",
            "store",
            "--rules",
            "rules.yaml",
        ])
        .exits(2);
}
