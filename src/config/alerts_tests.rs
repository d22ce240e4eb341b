//! `alerts:`: what it understands, every mistake with its place, and that what is secret stays unseen.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::{CHANGES, Config, Security, Sink, To, parse};
use crate::diagnostic::{Diagnostic, render};
use crate::rule::Severity;

const SECRET: &str = "s3cr3t-hunter2";

fn environment(name: &str) -> Option<OsString> {
    match name {
        "SECRET" => Some(SECRET.into()),
        "URL" => Some(format!("https://hooks.example.com/{SECRET}").into()),
        _ => None,
    }
}

fn read(text: &str) -> Result<Config, Vec<Diagnostic>> {
    parse(text, Path::new("conf/firstbad.yaml"), &environment)
}

#[track_caller]
fn sinks(text: &str) -> Vec<Sink> {
    let config = read(text).unwrap_or_else(|wrong| panic!("{}", render(&wrong, false)));
    let debug = format!("{config:?}");
    assert!(!debug.contains(SECRET), "{debug}");
    config.alerts
}

/// `line:column message (hint)` of every mistake, none of which shows a secret.
#[track_caller]
fn mistakes(text: &str) -> Vec<String> {
    let wrong = read(text).expect_err(text);
    let shown = render(&wrong, false) + &format!("{wrong:?}");
    assert!(!shown.contains(SECRET), "{shown}");
    let one = |one: &Diagnostic| {
        let hint = one.hint.as_deref().unwrap_or("-");
        format!("{}:{} {} ({hint})", one.line, one.column, one.message)
    };
    wrong.iter().map(one).collect()
}

#[test]
fn everything_is_read() {
    let sinks = sinks(
        "alerts:\n\
         - {name: hook, webhook: \"${URL}\", secret: \"${SECRET}\", on: [opened, closed], every: 10m, severity: error}\n\
         - {name: chat, slack: \"${URL}\", rules: [negative-stock], quiet: [\"22:00-06:00 UTC\"], template: \"{{ title }}\"}\n\
         - {name: page, pagerduty: {routing_key: \"${SECRET}\"}, ca: tls/own.pem}\n\
         - {name: am, alertmanager: \"http://10.0.0.7:9093/am\", allow: private}\n\
         - name: mail\n  email: {smtp: \"smtp://mail.example.com\", from: A <a@example.com>, to: b@example.com, user: a, password: \"${SECRET}\"}\n\
         - {name: run, command: [page, --key, \"${SECRET}\"]}\n",
    );
    let hook = &sinks[0];
    assert_eq!(
        (hook.on.as_slice(), hook.severity),
        (["opened", "closed"].as_slice(), Severity::Error)
    );
    assert_eq!(hook.every, Duration::from_secs(600));
    assert_eq!(
        hook.secret.as_ref().map(|secret| secret.value()),
        Some(SECRET)
    );
    assert_eq!(hook.to.shown(), "https://hooks.example.com");
    let chat = &sinks[1];
    assert_eq!(
        (chat.rules.as_slice(), chat.severity),
        (["negative-stock".to_owned()].as_slice(), Severity::Warn)
    );
    assert_eq!((chat.on.len(), chat.quiet.len()), (CHANGES.len() - 1, 1));
    let To::PagerDuty { routing_key, url } = &sinks[2].to else {
        panic!("{:?}", sinks[2])
    };
    assert_eq!(
        (routing_key.value(), url.shown().as_str()),
        (SECRET, "https://events.pagerduty.com")
    );
    assert_eq!(
        sinks[2].ca.as_ref().map(|ca| ca.value()),
        Some("conf/tls/own.pem")
    );
    assert_eq!(sinks[3].to.shown(), "http://10.0.0.7:9093");
    let To::Email(email) = &sinks[4].to else {
        panic!("{:?}", sinks[4])
    };
    assert_eq!(
        (email.port, email.security, email.to.len()),
        (587, Security::StartTls, 1)
    );
    assert_eq!(sinks[5].to.shown(), "page");
}

#[test]
fn mistakes_have_their_places_and_are_told_at_once() {
    let text = "alerts:\n\
                - name: a b\n  on: [opend]\n  slack: \"${URL}\"\n\
                - {name: two, slack: \"${URL}\", webhook: \"${URL}\"}\n\
                - {name: none, severity: loud}\n\
                - {slack: \"${URL}\"}\n\
                - {name: clear, webhook: \"http://example.com/\"}\n\
                - {name: user, webhook: \"https://a:b@example.com/\"}\n\
                - {name: signed, slack: \"${URL}\", secret: x}\n\
                - {name: words, command: page --team ops}\n\
                - {name: quiet, slack: \"${URL}\", quiet: 22-6, every: 0s, allow: all}\n\
                - {name: same, slack: \"${URL}\"}\n\
                - {name: same, slack: \"${URL}\"}\n";
    let found = mistakes(text);
    for want in [
        "2:9 a name is expected here",
        "3:8 `on` knows no `opend` (did you mean `opened`?)",
        "5:32 this sink has another receiver before `webhook` (keep one",
        "6:3 this sink has no receiver",
        "6:26 `severity` knows no `loud`",
        "7:3 this sink has no name",
        "8:26 http sends everything in the clear",
        "9:25 this URL holds a user or a password",
        "10:35 `secret` signs webhooks, and this is slack (remove it)",
        "11:26 a list of words is expected here",
        "12:41 a time of the day is expected here",
        "12:54 a duration of nothing",
        "12:65 `allow` knows no `all` (write `private`)",
        "14:10 two sinks are called `same`",
    ] {
        assert!(
            found.iter().any(|one| one.starts_with(want)),
            "no {want}\n{found:#?}"
        );
    }
    assert_eq!(found.len(), 14, "{found:#?}");
}

#[test]
fn no_mistake_shows_what_is_secret() {
    for text in [
        "alerts: s3cr3t-hunter2://x",
        "alerts: [{name: a, slack: ftp://s3cr3t-hunter2}]",
        "alerts: [{name: a, slack: [s3cr3t-hunter2]}]",
        "alerts: [{name: a, webhook: \"https://hooks.example.com/s3cr3t-hunter2\", sevrity: error}]",
        "alerts:\n- name: a\n  pagerduty: {routing_key: [s3cr3t-hunter2]}\n",
        "alerts:\n- name: a\n  pagerduty: {rooting_key: s3cr3t-hunter2}\n",
        "alerts:\n- name: a\n  pagerduty: s3cr3t-hunter2 x\n",
        "alerts:\n- name: a\n  command: page s3cr3t-hunter2\n",
        "alerts:\n- name: a\n  command: {page: s3cr3t-hunter2}\n",
        "alerts:\n- name: a\n  email: {smtp: \"smtps://u:s3cr3t-hunter2@mail.example.com\", from: a@example.com, to: b@example.com}\n",
        "alerts:\n- name: a\n  email:\n    smtp: smtps://mail.example.com\n    pasword: s3cr3t-hunter2\n",
        "alerts:\n- name: a\n  slack: https://hooks.example.com/s3cr3t-hunter2\n  slack: https://hooks.example.com/s3cr3t-hunter2\n",
        "alerts:\n- {name: a, secret: s3cr3t-hunter2\n",
        "alerts: [{name: a, slack: \"https://${SECRET}:x y\"}]",
    ] {
        let text = text.replace("s3cr3t-hunter2 x", "[s3cr3t-hunter2]");
        // What is a mistake of YAML itself is told by who reads YAML, with the line.
        let _ = mistakes(&text);
    }
}

#[test]
fn a_template_that_is_none_names_its_line() {
    let text = "alerts:\n- name: a\n  slack: \"${URL}\"\n  template: |\n    {{ title }}\n    {% for x in %}\n    {% endfor %}\n";
    let found = mistakes(text);
    assert!(found[0].starts_with("6:"), "{found:?}");
    assert!(
        found[0].contains("this template cannot be read"),
        "{found:?}"
    );
    let included = mistakes(
        "alerts: [{name: a, slack: \"${URL}\", template: \"{% include '/etc/passwd' %}\"}]",
    );
    assert_eq!(included.len(), 1, "{included:?}");
}

#[test]
fn lists_are_bounded() {
    let one = "- {name: a, slack: \"${URL}\"}\n";
    let found = mistakes(&format!("alerts:\n{}", one.repeat(40)));
    assert!(found[0].contains("40 sinks (name at most 32)"), "{found:?}");
    assert!(
        mistakes(&format!(
            "alerts: [{{name: a, slack: \"${{URL}}\", template: {}}}]",
            "x".repeat(9_000)
        ))[0]
            .contains("9000 bytes")
    );
    for text in [
        "alerts: {name: a}",
        "alerts: x",
        "alerts: [x]",
        "alerts: [[a]]",
        "alerts: [{}]",
        "alerts: [{name: [a]}]",
    ] {
        assert!(!mistakes(text).is_empty(), "{text}");
    }
}
