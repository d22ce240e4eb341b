//! Delivery: at least once, in order, under the same id; patience, folding, quiet times, several processes, restarts.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::fixture::{Answer, MINUTE, Shop, Web, paid, rule, sinks, until};
use super::{Courier, Options, SendError};
use crate::config::Sink;
use crate::incident::outbox::Outbox;
use crate::rule::Severity;

fn webhook(web: &Web, more: &str) -> Vec<Sink> {
    let url = web.url("/hooks/orders");
    sinks(&format!(
        "- {{name: ops, webhook: \"{url}\", allow: private{more}}}"
    ))
}

fn ids(web: &Web) -> Vec<String> {
    let received = web.received();
    received
        .iter()
        .map(|one| one.header("firstbad-id").to_owned())
        .collect()
}

fn changes(web: &Web) -> Vec<(String, String)> {
    let received = web.received();
    let word = |body: &Value, name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let one = |body: Value| (word(&body["incident"], "id"), word(&body, "change"));
    received
        .iter()
        .map(|received| one(received.json()))
        .collect()
}

fn pair(id: &str, change: &str) -> (String, String) {
    (id.to_owned(), change.to_owned())
}

/// A shop that the sinks take part in from the beginning.
fn shop(sinks: &[Sink]) -> Shop {
    let shop = Shop::new();
    shop.send(sinks);
    shop
}

#[test]
fn what_becomes_of_an_incident_arrives_once_and_in_order() {
    let web = Web::start();
    let sinks = webhook(&web, "");
    let mut shop = shop(&sinks);
    shop.commit(&paid(), &[json!(4410)], &[]);
    shop.arrives(&sinks, 1);
    shop.acknowledge("I-1");
    shop.arrives(&sinks, 1);
    shop.commit(&paid(), &[], &[json!(4410)]);
    shop.arrives(&sinks, 1);
    shop.arrives(&sinks, 0);
    let told = changes(&web);
    let want = ["opened", "acknowledged", "closed"].map(|change| pair("I-1", change));
    assert_eq!(told, want);
    assert_eq!(shop.told(), Vec::<String>::new());
}

#[test]
fn a_message_that_did_not_arrive_is_sent_again_under_the_same_id() {
    let web = Web::start();
    let sinks = webhook(&web, "");
    let mut shop = shop(&sinks);
    shop.commit(&paid(), &[json!(4410)], &[]);
    web.answers([
        Answer::status(500),
        Answer::status(503),
        Answer::status(429),
        Answer::Silence,
    ]);
    let mut options = shop.options();
    options.limits.total = Duration::from_millis(200);
    for _ in 0..4 {
        let round = shop.send_with(&sinks, &options).remove(0);
        assert!(round.error.is_some_and(|error| !error.is_lasting()));
    }
    shop.arrives(&sinks, 1);
    let ids = ids(&web);
    assert_eq!(ids.len(), 5);
    assert!(
        ids.iter().all(|id| *id == ids[0] && id.ends_with("-1")),
        "{ids:?}"
    );
    let told = shop.told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].contains("ops: is not told for now: the server answered 500"),
        "{told:?}"
    );
    assert_eq!(told[1], "ops: is told again");
}

#[test]
fn a_server_that_is_down_is_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let sinks = sinks(&format!(
        "- {{name: ops, webhook: \"http://{address}/\", allow: private}}"
    ));
    let mut shop = shop(&sinks);
    shop.commit(&paid(), &[json!(4410)], &[]);
    let round = shop.send(&sinks).remove(0);
    assert_eq!(
        round.error,
        Some(SendError::Network("the connection was refused"))
    );
    let web = Web::on(TcpListener::bind(address).expect("the same port"), None);
    shop.arrives(&sinks, 1);
    assert_eq!(web.count(), 1);
}

#[test]
fn ten_thousand_notices_are_a_message_an_incident() {
    let web = Web::start();
    let sinks = webhook(&web, ", on: [opened, grew, healed, closed]");
    let mut shop = shop(&sinks);
    let other = rule("order-total-mismatch", Severity::Error);
    shop.commit(&other, &[json!(1)], &[]);
    shop.commit(&paid(), &[json!(1)], &[]);
    let db = rusqlite::Connection::open(shop.path().join("firstbad.db")).expect("it opens");
    let grew = "with recursive n(x) as (select 1 union all select x + 1 from n where x < 9999) \
                insert into notices (time, what, keys, rule, severity, incident, document) \
                select time, 'grew', 1, rule, severity, incident, document from notices, n where seq = 2";
    assert_eq!(db.execute(grew, []).expect("they are written"), 9_999);
    shop.arrives(&sinks, 2);
    let received = web.received();
    let bodies: Vec<Value> = received.iter().map(|one| one.json()).collect();
    assert_eq!(bodies[0]["rule"], "order-total-mismatch");
    let body = &bodies[1];
    assert_eq!(
        (&body["change"], &body["changes"]["grew"]),
        (&json!("opened"), &json!(9_999))
    );
    assert_eq!(body["more"], 9_999);
    assert!(received[1].header("firstbad-id").ends_with("-10001"));
}

#[test]
fn growing_is_told_from_time_to_time() {
    let web = Web::start();
    let sinks = webhook(&web, ", every: 30m");
    let mut shop = shop(&sinks);
    shop.commit(&paid(), &[json!(1)], &[]);
    shop.arrives(&sinks, 1);
    for id in 2..10 {
        shop.commit(&paid(), &[json!(id)], &[]);
        shop.arrives(&sinks, 0);
    }
    shop.pass(30 * MINUTE - 1);
    shop.arrives(&sinks, 0);
    shop.pass(1);
    shop.arrives(&sinks, 1);
    let received = web.received();
    assert_eq!(
        (received.len(), received[1].json()["more"].clone()),
        (2, json!(8))
    );
    // What is more than growing does not wait for its turn.
    shop.commit(&paid(), &[json!(10)], &[]);
    let all: Vec<Value> = (1..=10).map(|id| json!(id)).collect();
    shop.commit(&paid(), &[], &all);
    shop.arrives(&sinks, 1);
    let body = web.received()[0].json();
    assert_eq!(
        (&body["change"], &body["changes"]["grew"]),
        (&json!("closed"), &json!(1))
    );
}

#[test]
fn quiet_times_hold_back_what_is_not_critical() {
    let web = Web::start();
    // The clock stands at 16:00 UTC.
    let sinks = webhook(&web, ", quiet: [\"15:00-18:00 UTC\"]");
    let mut shop = shop(&sinks);
    shop.commit(
        &rule("order-total-mismatch", Severity::Error),
        &[json!(1)],
        &[],
    );
    shop.commit(&paid(), &[json!(1)], &[]);
    shop.arrives(&sinks, 1);
    assert_eq!(changes(&web), [pair("I-2", "opened")]);
    shop.pass(120 * MINUTE - 1);
    shop.arrives(&sinks, 0);
    shop.pass(1);
    shop.arrives(&sinks, 1);
    assert_eq!(changes(&web), [pair("I-1", "opened")]);
}

#[test]
fn sinks_are_told_of_what_they_asked_for() {
    let web = Web::start();
    let url = web.url("/");
    let sink = |name: &str, more: &str| {
        format!("- {{name: {name}, webhook: \"{url}{name}\", allow: private, {more}}}\n")
    };
    let sinks = sinks(
        &[
            sink("closed", "on: closed"),
            sink("critical", "severity: critical"),
            sink("totals", "rules: [order-total-mismatch], severity: info"),
            sink("usual", "every: 1h"),
        ]
        .concat(),
    );
    let mut shop = shop(&sinks);
    shop.commit(&paid(), &[json!(1)], &[]);
    shop.commit(
        &rule("order-total-mismatch", Severity::Info),
        &[json!(1)],
        &[],
    );
    shop.commit(&paid(), &[], &[json!(1)]);
    let sent: Vec<u64> = shop.send(&sinks).iter().map(|round| round.sent).collect();
    // What opened and closed before anybody was told is one message.
    assert_eq!(sent, [1, 1, 1, 1]);
    let mut paths: Vec<(String, String)> = Vec::new();
    for one in web.received() {
        let change = one.json()["change"].as_str().unwrap_or_default().to_owned();
        paths.push((one.path, change));
    }
    let want = [
        ("/closed", "closed"),
        ("/critical", "closed"),
        ("/totals", "opened"),
        ("/usual", "closed"),
    ];
    assert_eq!(paths, want.map(|(path, change)| pair(path, change)));
}

#[test]
fn a_rule_that_cannot_be_judged_is_told_and_that_it_can_again() {
    let web = Web::start();
    let sinks = webhook(&web, "");
    let mut shop = shop(&sinks);
    shop.turn(&paid(), &[], &[], Some("it took longer than 60 s"));
    shop.arrives(&sinks, 1);
    shop.turn(&paid(), &[], &[], None);
    shop.arrives(&sinks, 1);
    let bodies: Vec<Value> = web.received().iter().map(|one| one.json()).collect();
    assert_eq!(
        bodies[0]["title"],
        "critical: paid-order-without-shipment cannot be judged"
    );
    assert_eq!(bodies[0]["reason"], "it took longer than 60 s");
    assert_eq!(bodies[1]["change"], "known");
    assert_eq!(bodies[0]["about"], bodies[1]["about"]);
    assert_eq!(bodies[0]["incident"], Value::Null);
}

#[test]
fn what_is_refused_for_good_is_given_up_and_said() {
    let web = Web::start();
    let sinks = webhook(&web, "");
    let mut shop = shop(&sinks);
    shop.commit(&paid(), &[json!(1)], &[]);
    shop.commit(
        &rule("order-total-mismatch", Severity::Error),
        &[json!(1)],
        &[],
    );
    web.answers(vec![
        Answer::Status(404, String::new(), "no_service".into());
        5
    ]);
    for _ in 0..4 {
        let round = shop.send(&sinks).remove(0);
        assert_eq!(
            round.error.map(|error| error.to_string()).as_deref(),
            Some("the server answered 404 no_service")
        );
    }
    // The fifth is the last, and the next message follows.
    assert_eq!(shop.send(&sinks)[0].sent, 1);
    let told = shop.told().join("\n");
    assert!(
        told.contains("I-1 opened was given up after 5 tries"),
        "{told}"
    );
    let outbox = Outbox::look(&shop.path())
        .expect("it opens")
        .expect("there");
    let standing = outbox
        .standing("ops")
        .expect("it is read")
        .expect("it takes part");
    let failed = (
        "I-1".to_owned(),
        5,
        "the server answered 404 no_service".to_owned(),
    );
    assert_eq!((standing.failed, standing.waiting), (vec![failed], 0));
    // It is told when there is more to say of it, or when somebody asks for it.
    web.received();
    shop.arrives(&sinks, 0);
    let again = super::send_waiting(&shop.path(), &sinks, true, &shop.options(), shop.tell());
    assert_eq!(again.expect("it is read").expect("there")[0].sent, 1);
    assert_eq!(changes(&web), [pair("I-1", "opened")]);
}

#[test]
fn redirects_and_addresses_inside_are_refused() {
    let (web, other) = (Web::start(), Web::start());
    let location = format!("location: {}\r\n", other.url("/"));
    let sinks_inside = webhook(&web, "");
    let mut shop = shop(&sinks_inside);
    shop.commit(&paid(), &[json!(1)], &[]);
    web.answers(
        [301, 302, 307, 308].map(|code| Answer::Status(code, location.clone(), String::new())),
    );
    for code in [301, 302, 307, 308] {
        let error = shop.send(&sinks_inside).remove(0).error;
        assert_eq!(error, Some(SendError::Redirect(code)));
    }
    assert_eq!(other.count(), 0);
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0x7f.1",
        "169.254.169.254",
        "10.1.2.3",
    ] {
        let port = web.address.port();
        let sinks = sinks(&format!(
            "- {{name: out, webhook: \"https://{host}:{port}/\"}}"
        ));
        let error = super::test(&sinks[0], &Options::default()).expect_err(host);
        assert!(matches!(error, SendError::Address(_)), "{host}: {error}");
        assert!(error.is_lasting());
    }
    let sinks =
        sinks("- {name: cloud, webhook: \"http://169.254.169.254/latest\", allow: private}");
    let error = super::test(&sinks[0], &Options::default()).expect_err("metadata");
    assert!(matches!(error, SendError::Address(_)), "{error}");
}

#[test]
fn a_sink_that_comes_later_is_told_of_what_is_open() {
    let web = Web::start();
    let mut shop = Shop::new();
    shop.commit(&paid(), &[json!(1)], &[]);
    shop.commit(
        &rule("order-total-mismatch", Severity::Error),
        &[json!(1)],
        &[],
    );
    shop.commit(
        &rule("order-without-customer", Severity::Error),
        &[json!(1)],
        &[],
    );
    shop.commit(&paid(), &[], &[json!(1)]);
    shop.acknowledge("I-3");
    let sinks = webhook(&web, "");
    shop.arrives(&sinks, 1);
    assert_eq!(changes(&web), [pair("I-2", "opened")]);
}

#[test]
fn one_process_tells_and_others_leave_it_to_it() {
    let web = Web::start();
    let sinks = webhook(&web, "");
    let mut shop = shop(&sinks);
    let courier = Courier::start(&shop.path(), &sinks, shop.options(), shop.tell());
    let courier = courier.expect("it starts");
    shop.commit(&paid(), &[json!(1)], &[]);
    until("it is told", || web.count() == 1);
    assert!(shop.send(&sinks)[0].is_others);
    courier.stop();
    shop.commit(&paid(), &[], &[json!(1)]);
    shop.arrives(&sinks, 1);
    assert_eq!(
        changes(&web),
        ["opened", "closed"].map(|change| pair("I-1", change))
    );
}

#[test]
fn a_courier_that_begins_before_the_store_misses_nothing() {
    let web = Web::start();
    let sinks = webhook(&web, "");
    let place = tempfile::tempdir().expect("a directory");
    let options = Options {
        look: Duration::from_millis(5),
        ..Options::default()
    };
    let tell: super::Tell = std::sync::Arc::new(|text: &str| panic!("{text}"));
    let courier = Courier::start(place.path(), &sinks, options, tell).expect("it starts");
    let mut shop = Shop::at(place.path());
    shop.commit(&paid(), &[json!(1)], &[]);
    // What was said last is told before it ends.
    courier.stop();
    assert_eq!(changes(&web), [pair("I-1", "opened")]);
}

#[test]
fn a_sink_that_hangs_holds_up_nobody() {
    let (web, silent) = (Web::start(), Web::start());
    silent.answers(vec![Answer::Silence; 100]);
    let sinks = sinks(&format!(
        "- {{name: silent, webhook: \"{}\", allow: private}}\n- {{name: ops, webhook: \"{}\", allow: private}}",
        silent.url("/"),
        web.url("/")
    ));
    let mut shop = shop(&sinks);
    let options = Options {
        last: Duration::from_millis(300),
        ..shop.options()
    };
    let courier = Courier::start(&shop.path(), &sinks, options, shop.tell()).expect("it starts");
    for id in 0..20 {
        let began = Instant::now();
        shop.commit(
            &rule(&format!("rule-{id}"), Severity::Error),
            &[json!(1)],
            &[],
        );
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    until("the other is told", || web.count() == 20);
    let began = Instant::now();
    courier.stop();
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_sink_that_fails_is_left_alone_for_a_while_and_then_tried_again() {
    let web = Web::start();
    let sinks = webhook(&web, "");
    let mut shop = shop(&sinks);
    shop.commit(&paid(), &[json!(1)], &[]);
    let after = "retry-after: 120\r\n".to_owned();
    web.answers([Answer::Status(503, after, String::new())]);
    let options = Options {
        last: Duration::from_millis(1),
        ..shop.options()
    };
    shop.send(&sinks);
    let retry = |shop: &Shop| {
        let outbox = Outbox::look(&shop.path())
            .expect("it opens")
            .expect("there");
        let (failures, retry) = outbox.patience("ops").expect("it is read");
        (
            failures,
            retry.map(|at| (at - super::fixture::START) / 1_000_000),
        )
    };
    assert_eq!(retry(&shop), (1, Some(120)));
    // A courier that begins anew is as patient.
    let courier = Courier::start(&shop.path(), &sinks, options, shop.tell()).expect("it starts");
    shop.pass(120 * 1_000_000);
    until("it is tried again", || web.count() == 2);
    until("it is marked", || retry(&shop) == (0, None));
    courier.stop();
}

#[test]
fn a_database_that_is_no_database_is_said_and_harms_nobody() {
    let web = Web::start();
    let sinks = webhook(&web, "");
    let place = tempfile::tempdir().expect("a directory");
    std::fs::write(
        place.path().join("firstbad.db"),
        "no database at all, not in the least",
    )
    .expect("written");
    let tell: super::Tell = std::sync::Arc::new(|_: &str| {});
    assert!(Courier::start(place.path(), &sinks, Options::default(), tell).is_err());
}

#[test]
fn several_rules_of_one_cause_are_one_thread_until_all_of_them_hold() {
    let web = Web::start();
    let sinks = webhook(&web, ", severity: critical");
    let mut shop = shop(&sinks);
    let invoice = rule("paid-order-without-invoice", Severity::Warn);
    shop.commit(&paid(), &[json!(1)], &[]);
    shop.commit(&invoice, &[json!(1)], &[]);
    shop.arrives(&sinks, 1);
    shop.commit(&paid(), &[], &[json!(1)]);
    shop.arrives(&sinks, 0);
    // The last word is that of the rule that is not critical.
    shop.commit(&invoice, &[], &[json!(1)]);
    shop.arrives(&sinks, 1);
    let bodies: Vec<Value> = web.received().iter().map(|one| one.json()).collect();
    assert_eq!(bodies[0]["changes"], json!({"joined": 1, "opened": 1}));
    assert_eq!(
        bodies[0]["title"],
        "critical: paid-order-without-shipment and 1 other rule opened (I-1)"
    );
    assert_eq!(bodies[1]["change"], "closed");
    assert_eq!(bodies[1]["rule"], "paid-order-without-shipment");
    assert_eq!(bodies[0]["about"], bodies[1]["about"]);
}

#[test]
fn what_is_muted_waits() {
    let web = Web::start();
    let sinks = webhook(&web, "");
    let mut shop = shop(&sinks);
    shop.commit(&paid(), &[json!(1)], &[]);
    shop.mute("I-1", super::fixture::START + MINUTE);
    shop.arrives(&sinks, 0);
    shop.commit(
        &rule("order-total-mismatch", Severity::Error),
        &[json!(1)],
        &[],
    );
    shop.arrives(&sinks, 1);
    shop.pass(MINUTE);
    shop.arrives(&sinks, 1);
    let told = ["I-2", "I-1"].map(|id| pair(id, "opened"));
    assert_eq!(changes(&web), told);
}

#[test]
fn a_template_that_fails_later_does_not_keep_people_from_being_told() {
    let web = Web::start();
    let fails = ", template: '{% if incident %}{{ title | nothing }}{% endif %}'";
    let sinks = webhook(&web, fails);
    assert_eq!(super::mistakes(&sinks), []);
    let mut shop = shop(&sinks);
    shop.commit(&paid(), &[json!(1)], &[]);
    shop.arrives(&sinks, 1);
    let body = web.received().remove(0).json();
    let text = body["text"].as_str().unwrap_or_default();
    assert!(
        text.contains("paid-order-without-shipment opened"),
        "{text}"
    );
    assert!(
        text.ends_with("(the template of this sink cannot be rendered)"),
        "{text}"
    );
}
