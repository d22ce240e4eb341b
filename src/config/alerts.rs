//! `alerts:` - who is told of incidents, and how. What is secret in it is shown nowhere, also not by `Debug`.

use std::fmt;
use std::time::Duration;

use url::Url;

use super::{Quiet, Text};
use crate::rule::{Severity, Span};

/// What can become of an incident or a rule, in the words of `on:`.
pub const CHANGES: [&str; 12] = [
    "opened",
    "joined",
    "reopened",
    "grew",
    "healed",
    "acknowledged",
    "quarantined",
    "released",
    "repaired",
    "closed",
    "unknown",
    "known",
];
/// How often growing and healing of one incident is told, where nothing else is said.
pub(super) const EVERY: Duration = Duration::from_secs(3_600);

/// A text that nobody is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself.
    pub fn value(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A URL of http or https, of which people see only the scheme, the host and the port: the rest may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Url);

impl Address {
    /// Keeps a URL.
    pub fn new(url: Url) -> Address {
        Address(url)
    }

    /// The URL itself.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// What people see of it.
    pub fn shown(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        match self.0.port() {
            Some(port) => format!("{}://{host}:{port}", self.0.scheme()),
            None => format!("{}://{host}", self.0.scheme()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// How a mail server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// `smtps://`: encrypted from the first byte.
    Tls,
    /// `smtp://`: encrypted before anything is said, or not at all spoken to.
    StartTls,
    /// `smtp+plain://`: not encrypted; loopback only.
    Plain,
}

/// A mail server and who writes to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Email {
    /// The server's name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is spoken to.
    pub security: Security,
    /// The sender's address.
    pub from: String,
    /// The receivers' addresses, at least one.
    pub to: Vec<String>,
    /// Who logs in, and the password; None where nobody does.
    pub login: Option<(Secret, Secret)>,
}

/// Who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// `webhook`: a JSON document is posted there.
    Webhook(Address),
    /// `slack`: an incoming webhook of Slack, or of what understands the same.
    Slack(Address),
    /// `pagerduty`: the Events API, version 2.
    PagerDuty {
        /// The key of the integration.
        routing_key: Secret,
        /// Where events are posted.
        url: Address,
    },
    /// `alertmanager`: its address, without `/api/v2/alerts`.
    Alertmanager(Address),
    /// `email`.
    Email(Email),
    /// `command`: a program and its arguments; it reads a JSON document.
    Command(Vec<Secret>),
}

impl To {
    /// The word of the file.
    pub fn as_str(&self) -> &'static str {
        match self {
            To::Webhook(_) => "webhook",
            To::Slack(_) => "slack",
            To::PagerDuty { .. } => "pagerduty",
            To::Alertmanager(_) => "alertmanager",
            To::Email(_) => "email",
            To::Command(_) => "command",
        }
    }

    /// Where it is, as far as people may see it.
    pub fn shown(&self) -> String {
        match self {
            To::Webhook(url)
            | To::Slack(url)
            | To::PagerDuty { url, .. }
            | To::Alertmanager(url) => url.shown(),
            To::Email(email) => format!("{}:{}", email.host, email.port),
            // The first word is the program; what follows may be secret.
            To::Command(words) => {
                let program = words.first().map_or("", Secret::value);
                let name = std::path::Path::new(program).file_name();
                name.map_or(String::new(), |name| name.to_string_lossy().into_owned())
            }
        }
    }
}

/// A text with variables in `{{ }}`, as minijinja has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The text.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

impl Template {
    /// The place of one of its lines, from 1.
    pub fn line(&self, line: usize) -> Span {
        let before = self.text.split('\n').take(line.saturating_sub(1));
        let offset = before.map(|line| line.chars().count() + 1).sum();
        self.span.within(offset, 1)
    }
}

/// One of those who are told: a receiver, and what it is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sink {
    /// `name`: its name, different from all others.
    pub name: String,
    /// Who it is.
    pub to: To,
    /// `on`: the words of [`CHANGES`] that it is told of.
    pub on: Vec<&'static str>,
    /// `every`: how often it is told at most that one incident grew or healed.
    pub every: Duration,
    /// `severity`: the least severity.
    pub severity: Severity,
    /// `rules`: the rules' ids; empty for all.
    pub rules: Vec<String>,
    /// `quiet`: when it is told of what is critical only; the rest waits.
    pub quiet: Vec<Quiet>,
    /// `secret`: what signs the requests of a webhook.
    pub secret: Option<Secret>,
    /// `template`: the text, where it is another than usual.
    pub template: Option<Template>,
    /// `allow: private`: whether it may be on loopback or a private network.
    pub allow_private: bool,
    /// `ca`: a file of authorities' certificates that are trusted besides the known ones.
    pub ca: Option<Text>,
}

impl Sink {
    /// When a quiet time ends that it has at a moment (microseconds since the epoch); None where it has none.
    pub fn quiet_until(&self, now: i64) -> Option<i64> {
        Quiet::until(&self.quiet, now)
    }
}
