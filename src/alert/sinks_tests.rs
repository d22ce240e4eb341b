//! What each kind of receiver is sent, and what hostile rows, rules and servers can do to it.

use std::time::Duration;

use serde_json::{Value, json};

use super::fixture::{Answer, MailServer, Shop, Web, paid, rule, sinks};
use super::{Options, SendError, mistakes};
use crate::config::Sink;
use crate::incident::RuleFacts;
use crate::rule::Severity;

/// Text that would be markup, a mention, a header, a command or a cursor's move somewhere.
const HOSTILE: &str = "<!channel> <https://evil.example|ok> ```\r\nBcc: all@example.com\r\n\r\n$(reboot) \u{1b}[2J\u{202e} {{ secret }} &amp;";

/// A shop in which one order with this id is bad, and what the sinks are told of it.
fn told(rule: &RuleFacts, id: &Value, sinks: &[Sink]) -> Shop {
    let mut shop = Shop::new();
    shop.send(sinks);
    shop.commit(rule, std::slice::from_ref(id), &[]);
    shop.arrives(sinks, 1);
    shop
}

fn hostile() -> RuleFacts {
    RuleFacts {
        description: Some(HOSTILE.into()),
        owner: Some(HOSTILE.into()),
        runbook: Some("javascript:alert(1)".into()),
        ..rule(HOSTILE, Severity::Critical)
    }
}

fn signed(body: &[u8], header: &str, secret: &str) -> bool {
    let seconds = header
        .strip_prefix("t=")
        .and_then(|rest| rest.split(',').next());
    let seconds = seconds.and_then(|text| text.parse().ok()).expect("a time");
    super::signature::sign(secret, seconds, body) == header
}

#[test]
fn a_webhook_gets_a_signed_document() {
    let web = Web::start();
    let url = web.url("/hooks/orders?team=a%20b");
    let sinks = sinks(&format!(
        "- {{name: ops, webhook: \"{url}\", allow: private, secret: whsec-orders}}"
    ));
    told(&paid(), &json!(4410), &sinks);
    let one = web.received().remove(0);
    assert_eq!(one.path, "/hooks/orders?team=a%20b");
    assert_eq!(one.header("content-type"), "application/json");
    assert_eq!(one.header("host"), web.address.to_string());
    let signature = one.header("firstbad-signature");
    assert!(signature.starts_with("t=1773331200,v1="), "{signature}");
    assert!(signed(&one.body, signature, "whsec-orders"));
    assert!(!signed(&one.body, signature, "whsec-others"));
    let mut other = one.body.clone();
    other[5] ^= 1;
    assert!(!signed(&other, signature, "whsec-orders"));
    let body = one.json();
    assert_eq!(body["schema"], "firstbad/alert@1");
    assert_eq!(body["id"], one.header("firstbad-id"));
    assert_eq!(body["incident"]["first_bad"]["xid"], 8_121);
    assert_eq!(body["incident"]["last_good"]["commit"], 0);
    let text = body["text"].as_str().expect("a text");
    for want in [
        "critical: paid-order-without-shipment opened (I-1)",
        "A paid order is handed to the warehouse.",
        "since: #1 xid 8121 0/1A2B310 2026-03-12 16:01:00Z checkout v2.14.0",
        "keys: 1 key, 1 bad now",
        "impact: 49.95",
        "pace: one so far",
        "safe: the state at #0, the last before the first bad write",
        "first: id = 4410",
        "owner: fulfilment",
        "runbook: https://wiki.example.com/orders",
        "next: firstbad incident show I-1",
    ] {
        assert!(text.contains(want), "no `{want}`:\n{text}");
    }
}

#[test]
fn rows_stay_where_they_are_and_hidden_keys_as_well() {
    let web = Web::start();
    let sinks = sinks(&format!(
        "- {{name: ops, webhook: \"{}\", allow: private}}",
        web.url("/")
    ));
    let rule = RuleFacts {
        key: vec!["id".into(), "email".into()],
        ..paid()
    };
    told(&rule, &json!(4410), &sinks);
    let one = web.received().remove(0);
    let text = String::from_utf8(one.body.clone()).expect("UTF-8");
    for secret in ["ann@example.com", "DE89-3704", "redacted:"] {
        assert!(!text.contains(secret), "{text}");
    }
    assert_eq!(one.json()["incident"]["onsets"], json!([]));
    assert_eq!(one.json()["incident"]["keys"], 1);
}

#[test]
fn slack_gets_text_that_mentions_nobody_and_links_to_nothing() {
    let web = Web::start();
    let sinks = sinks(&format!(
        "- {{name: ops, slack: \"{}\", allow: private}}",
        web.url("/services/T0")
    ));
    told(&hostile(), &json!(HOSTILE), &sinks);
    let body = web.received().remove(0).json();
    let text = body["text"].as_str().expect("a text");
    for wrong in [
        "<!channel>",
        "<https",
        "```",
        "\r",
        "\u{1b}",
        "\u{202e}",
        "javascript",
    ] {
        assert!(!text.contains(wrong), "`{wrong}` in\n{text}");
    }
    assert!(text.contains("&lt;!channel&gt;"), "{text}");
    assert!(text.contains("{{ secret }}"), "{text}");
    assert_eq!(body["blocks"][0]["text"]["verbatim"], true);
    assert_eq!(body["unfurl_links"], false);
    told(&paid(), &json!(4410), &sinks);
    let body = web.received().remove(0).json();
    let text = body["text"].as_str().expect("a text");
    assert!(
        text.contains("<https://wiki.example.com/orders|runbook>"),
        "{text}"
    );
}

#[test]
fn pagerduty_gets_one_incident_from_trigger_to_resolve() {
    let web = Web::start();
    let sinks = sinks(&format!(
        "- name: page\n  pagerduty: {{routing_key: R0UT1NG, url: \"{}\"}}\n  allow: private",
        web.url("/v2/enqueue")
    ));
    let mut shop = told(&paid(), &json!(4410), &sinks);
    shop.acknowledge("I-1");
    shop.arrives(&sinks, 1);
    shop.commit(&paid(), &[], &[json!(4410)]);
    shop.arrives(&sinks, 1);
    let events: Vec<Value> = web.received().iter().map(|one| one.json()).collect();
    let actions: Vec<&Value> = events.iter().map(|event| &event["event_action"]).collect();
    assert_eq!(actions, ["trigger", "acknowledge", "resolve"]);
    assert!(
        events
            .iter()
            .all(|event| event["dedup_key"] == events[0]["dedup_key"])
    );
    assert!(events.iter().all(|event| event["routing_key"] == "R0UT1NG"));
    let payload = &events[0]["payload"];
    assert_eq!(
        (&payload["severity"], &payload["source"]),
        (&json!("critical"), &json!("public.orders"))
    );
    assert_eq!(
        payload["summary"],
        "critical: paid-order-without-shipment opened (I-1)"
    );
    assert_eq!(payload["timestamp"], "2026-03-12T16:01:00Z");
    // Somebody took care of it before the page arrived: it is paged for, and then acknowledged.
    shop.commit(
        &rule("order-total-mismatch", Severity::Warn),
        &[json!(1)],
        &[],
    );
    shop.acknowledge("I-2");
    shop.arrives(&sinks, 1);
    let events: Vec<Value> = web.received().iter().map(|one| one.json()).collect();
    let actions: Vec<&Value> = events.iter().map(|event| &event["event_action"]).collect();
    assert_eq!(actions, ["trigger", "acknowledge"]);
    assert_eq!(events[0]["payload"]["severity"], "warning");
}

#[test]
fn alertmanager_gets_alerts_that_begin_and_end() {
    let web = Web::start();
    let sinks = sinks(&format!(
        "- {{name: am, alertmanager: \"{}\", allow: private}}",
        web.url("/base/")
    ));
    let mut shop = told(&paid(), &json!(4410), &sinks);
    // Other labels are another alert: the first one ends.
    let louder = RuleFacts {
        owner: Some("warehouse".into()),
        ..paid()
    };
    shop.commit(&louder, &[json!(4411)], &[]);
    shop.pass(3_600_000_000);
    shop.arrives(&sinks, 1);
    shop.commit(&louder, &[], &[json!(4410), json!(4411)]);
    shop.arrives(&sinks, 1);
    let received = web.received();
    assert!(received.iter().all(|one| one.path == "/base/api/v2/alerts"));
    let sent: Vec<Value> = received.iter().map(|one| one.json()).collect();
    let first = &sent[0][0];
    assert_eq!(first["labels"]["alertname"], "paid-order-without-shipment");
    assert_eq!(first["labels"]["owner"], "fulfilment");
    assert_eq!(first["startsAt"], "2026-03-12T16:01:00Z");
    assert!(first["endsAt"].as_str() > Some("2027"), "{first}");
    let texts = |at: usize, name: &str| -> Vec<String> {
        let alerts = sent[at].as_array().expect("alerts");
        let text = |alert: &Value| {
            alert
                .pointer(name)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        alerts.iter().map(text).collect()
    };
    assert_eq!(texts(1, "/labels/owner"), ["fulfilment", "warehouse"]);
    assert_eq!(texts(1, "/endsAt")[0], "2026-03-12T16:02:00Z");
    assert_eq!(texts(2, "/labels/owner"), ["warehouse"]);
    assert_eq!(texts(2, "/endsAt"), ["2026-03-12T16:03:00Z"]);
}

#[test]
fn mail_is_plain_text_in_one_thread_and_takes_no_header_from_rows() {
    let server = MailServer::start(None);
    let sinks = sinks(&format!(
        "- name: mail\n  email: {{smtp: \"smtp+plain://{}\", from: Firstbad <firstbad@example.com>, to: [ops@example.com, ann@example.org]}}",
        server.address
    ));
    let mut shop = told(&hostile(), &json!(HOSTILE), &sinks);
    shop.acknowledge("I-1");
    shop.arrives(&sinks, 1);
    let mails = server.mails();
    let header = |mail: &str, name: &str| -> Vec<String> {
        let head = mail
            .split("\r\n\r\n")
            .next()
            .unwrap_or_default()
            .replace("\r\n ", " ");
        let found = head.lines().filter_map(|line| line.split_once(": "));
        found
            .filter(|(have, _)| have.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
            .collect()
    };
    for mail in &mails {
        assert_eq!(mail.matches("RCPT TO").count(), 2, "{mail}");
        assert!(header(mail, "bcc").is_empty(), "{mail}");
        assert_eq!(header(mail, "content-type"), ["text/plain; charset=utf-8"]);
        assert_eq!(header(mail, "auto-submitted"), ["auto-generated"]);
        assert_eq!(header(mail, "subject").len(), 1);
        assert!(!mail.contains('\u{1b}'), "{mail}");
    }
    assert_eq!(
        header(&mails[0], "references"),
        header(&mails[1], "references")
    );
    assert_ne!(
        header(&mails[0], "message-id"),
        header(&mails[1], "message-id")
    );
    // A mail that is refused for now is sent again under its id; one that is refused for good is given up in the end.
    shop.commit(&paid(), &[json!(1)], &[]);
    server.refuses("451 later");
    assert_eq!(shop.send(&sinks)[0].error, Some(SendError::Mail(451)));
    server.refuses("550 nobody");
    let error = shop.send(&sinks).remove(0).error.expect("it is refused");
    assert!(error.is_lasting() && error == SendError::Mail(550));
    shop.arrives(&sinks, 1);
}

#[test]
fn mail_is_encrypted_and_the_server_proves_who_it_is() {
    let server = MailServer::start(Some("server"));
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/tls");
    let sink = |host: &str, more: &str| {
        let port = server.address.port();
        sinks(&format!(
            "- name: mail\n  email: {{smtp: \"smtps://{host}:{port}\", from: firstbad@example.com, to: ops@example.com, \
             user: watcher, password: s3cr3t-hunter2}}\n{more}"
        ))
    };
    let trusted = sink(
        "localhost",
        &format!("  ca: {directory}/authority.crt\n  allow: private"),
    );
    told(&paid(), &json!(4410), &trusted);
    assert_eq!(server.mails().len(), 1);
    assert_eq!(server.logins().len(), 1);
    let test = |sinks: &[Sink]| super::test(&sinks[0], &Options::default()).expect_err("refused");
    let stranger = sink(
        "localhost",
        &format!("  ca: {directory}/stranger.crt\n  allow: private"),
    );
    assert_eq!(test(&stranger), SendError::Certificate);
    assert!(matches!(
        test(&sink("localhost", "")),
        SendError::Address(_)
    ));
    // Without encryption, nothing is said at all.
    let plain = MailServer::start(None);
    let starttls = sinks(&format!(
        "- name: mail\n  allow: private\n  email: {{smtp: \"smtp://{}\", from: firstbad@example.com, to: ops@example.com, \
         user: watcher, password: s3cr3t-hunter2}}",
        plain.address
    ));
    test(&starttls);
    assert_eq!((plain.logins().len(), server.logins().len()), (0, 0));
}

#[test]
fn https_is_taken_from_who_proves_its_name_only() {
    let web = Web::encrypted("server");
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/tls");
    let sink = |web: &Web, ca: &str| {
        let port = web.address.port();
        sinks(&format!(
            "- {{name: ops, webhook: \"https://localhost:{port}/\", allow: private, ca: {directory}/{ca}.crt}}"
        ))
    };
    told(&paid(), &json!(4410), &sink(&web, "authority"));
    assert_eq!(web.received().len(), 1);
    let other = Web::encrypted("other");
    let error = |sinks: &[Sink]| super::test(&sinks[0], &Options::default()).expect_err("refused");
    assert_eq!(error(&sink(&web, "stranger")), SendError::Certificate);
    assert_eq!(error(&sink(&other, "authority")), SendError::Certificate);
    assert_eq!(other.count(), 0);
    assert_eq!(web.count(), 0);
}

#[test]
fn a_command_reads_the_document_and_has_its_time() {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("document.json");
    let command = |script: &str| {
        let file = file.display();
        sinks(&format!(
            "- {{name: page, command: [sh, -c, '{script}', '{file}', '$(reboot)']}}"
        ))
    };
    told(
        &hostile(),
        &json!(HOSTILE),
        &command("cat > \"$0\"; test \"$1\" = \"\\$(reboot)\""),
    );
    let document = std::fs::read(&file).expect("it is written");
    let document: Value = serde_json::from_slice(&document).expect("it is JSON");
    assert_eq!(document["rule"], HOSTILE);
    let test =
        |sinks: &[Sink], options: &Options| super::test(&sinks[0], options).expect_err("it fails");
    assert_eq!(
        test(&command("exit 7"), &Options::default()),
        SendError::Exit(Some(7))
    );
    let hasty = Options {
        command: Duration::from_millis(200),
        ..Options::default()
    };
    assert_eq!(test(&command("exec sleep 600"), &hasty), SendError::Timeout);
    let missing = sinks("- {name: page, command: /nowhere/page}");
    assert!(matches!(test(&missing, &hasty), SendError::Setup(_)));
}

#[test]
fn templates_say_it_in_other_words_within_limits() {
    let web = Web::start();
    let sink = |template: &str| {
        sinks(&format!(
            "- name: ops\n  webhook: \"{}\"\n  allow: private\n  template: \"{template}\"",
            web.url("/")
        ))
    };
    let of = |template: &str| {
        let sinks = sink(template);
        assert_eq!(mistakes(&sinks), [], "{template}");
        told(&hostile(), &json!(HOSTILE), &sinks);
        web.received().remove(0).json()["text"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(
        of("{{ severity }}: {{ incident.id }} {{ nothing }}{{ changes.opened }}"),
        "critical: I-1 1"
    );
    let text = of("{{ description }}|{{ incident }}");
    assert!(!text.contains(['\r', '\n', '\u{1b}']), "{text}");
    let long = of("{% for i in range(9000) %}orders {% endfor %}");
    assert!(
        long.len() <= 8 << 10 && long.ends_with('…'),
        "{}",
        long.len()
    );
    for wrong in [
        "{{ title | nothing }}",
        "{% for i in range(99999999) %}{% endfor %}",
        "{{ title() }}",
    ] {
        let found = mistakes(&sink(wrong));
        assert_eq!(found.len(), 1, "{wrong}");
        assert_eq!(found[0].line, 5, "{found:?}");
    }
}

#[test]
fn long_answers_are_not_shown_and_secrets_in_short_ones_neither() {
    let web = Web::start();
    let url = web.url("/services/hunterhunter?key=greenlantern");
    let sinks = sinks(&format!(
        "- {{name: ops, webhook: \"{url}\", allow: private, secret: Whsecorders}}"
    ));
    let answers = [
        ("no_service", " no_service"),
        ("hunterhunter", ""),
        ("bad_greenlantern", ""),
        ("whsecorders", ""),
        ("hunter", ""),
        ("Not found: /services/hunterhunter", ""),
        ("\u{1b}[2J", ""),
    ];
    for (body, shown) in answers {
        web.answers([Answer::Status(403, String::new(), body.into())]);
        let error = super::test(&sinks[0], &Options::default()).expect_err("refused");
        assert_eq!(error.to_string(), format!("the server answered 403{shown}"));
    }
    // An answer without end is no answer to wait for.
    web.answers([Answer::Status(200, String::new(), "x".repeat(5 << 20))]);
    super::test(&sinks[0], &Options::default()).expect("it arrived");
    let debug = format!(
        "{sinks:?} {:?}",
        super::sender::Sender::new(&sinks[0], super::Limits::default(), Duration::ZERO)
    );
    for secret in ["hunterhunter", "greenlantern", "Whsecorders"] {
        assert!(!debug.contains(secret), "{debug}");
    }
}
