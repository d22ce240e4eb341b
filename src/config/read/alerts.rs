//! `alerts:` of the file.

use std::collections::HashSet;

use url::{Host, Url};

use super::super::alerts::{Address, CHANGES, EVERY, Email, Secret, Security, Sink, Template, To};
use super::super::quiet::Quiet;
use super::Keys;
use crate::rule::Severity;
use crate::rule::read::{near, one_of};
use crate::rule::yaml::{Kind, Node, shortened};

/// The most sinks: each has a thread of its own.
const SINKS_MAX: usize = 32;
/// The longest name of a sink, and the longest template, in bytes.
const NAME_MAX: usize = 64;
const TEMPLATE_MAX: usize = 8 << 10;
/// Where PagerDuty takes events, where nothing else is said.
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";

/// Who is told: exactly one of them stands in every sink.
const TO: [&str; 6] = [
    "webhook",
    "slack",
    "pagerduty",
    "alertmanager",
    "email",
    "command",
];
const KNOWN: [&str; 16] = [
    "name",
    "webhook",
    "slack",
    "pagerduty",
    "alertmanager",
    "email",
    "command",
    "on",
    "every",
    "severity",
    "rules",
    "quiet",
    "secret",
    "template",
    "allow",
    "ca",
];
/// Keys whose lines hold no secret, so that they may be shown.
const OPEN: [&str; 9] = [
    "name", "on", "every", "severity", "rules", "quiet", "allow", "ca", "template",
];
const EXAMPLE: &str = "alerts: [{name: ops, slack: \"${SLACK_URL}\"}]";

/// Whether a line of `alerts:` may be shown: one plain key, which holds no secret.
fn is_open(line: &str) -> bool {
    let line = line.trim_start().trim_start_matches("- ").trim_start();
    let key = line.split_once(':').map(|(key, _)| key.trim());
    key.is_some_and(|key| OPEN.contains(&key)) && !line.contains("://")
}

impl Keys<'_> {
    /// The sinks of `alerts:`. No message shows a line that may hold a secret.
    pub(super) fn alerts(&mut self, node: &Node) -> Vec<Sink> {
        let before = self.reader.out.len();
        let sinks = self.sinks(node);
        for problem in self.reader.out.iter_mut().skip(before) {
            problem.source_line = problem.source_line.take().filter(|line| is_open(line));
        }
        sinks
    }

    fn sinks(&mut self, node: &Node) -> Vec<Sink> {
        let Kind::Sequence(items) = &node.kind else {
            let _: Option<()> = self.unfit(node, "a list", &format!("write `{EXAMPLE}`"));
            // What stands there instead may be a URL that holds a secret.
            if let Some(problem) = self.reader.out.last_mut() {
                problem.message = "a list is expected here".to_owned();
            }
            return Vec::new();
        };
        if items.len() > SINKS_MAX {
            let message = format!("{} sinks", items.len());
            let hint = format!("name at most {SINKS_MAX}");
            let _: Option<()> = self.reader.wrong(node, message, hint);
            return Vec::new();
        }
        let mut names = HashSet::new();
        let mut sinks = Vec::new();
        for item in items {
            if let Some((sink, name)) = self.sink(item) {
                if !names.insert(sink.name.clone()) {
                    let message = format!("two sinks are called `{}`", sink.name);
                    let hint = "what waits for a sink is kept under its name: give it another";
                    let _: Option<()> = self.reader.wrong(name, message, hint);
                }
                sinks.push(sink);
            }
        }
        sinks
    }

    /// A sink and where its name stands. None where it is wrong.
    fn sink<'n>(&mut self, node: &'n Node) -> Option<(Sink, &'n Node)> {
        let before = self.reader.out.len();
        let entries = self.mapping(node, "a sink", "{name: ops, slack: \"${SLACK_URL}\"}")?;
        let mut taken: Vec<(&str, &Node, &Node)> = Vec::new();
        for (key, value) in entries {
            if let Some(name) = self.key(key, value, Some("alerts"), &KNOWN) {
                taken.push((name, key, value));
            }
        }
        let get = |name: &str| taken.iter().find(|one| one.0 == name);
        let allow_private = match get("allow") {
            Some((_, _, value)) => self.word(value, "allow", &["private"]).is_some(),
            None => false,
        };
        let name = match get("name") {
            Some((_, _, value)) => self.sink_name(value).map(|name| (name, *value)),
            None => {
                let hint = "write e.g. `name: ops`: what waits for it is kept under its name";
                self.reader.wrong(node, "this sink has no name", hint)
            }
        };
        let to = self.receiver(node, &taken, allow_private);
        let mut sink = Sink {
            name: String::new(),
            to: to.unwrap_or(To::Command(Vec::new())),
            on: CHANGES
                .into_iter()
                .filter(|word| *word != "healed")
                .collect(),
            every: EVERY,
            severity: Severity::Warn,
            rules: Vec::new(),
            quiet: Vec::new(),
            secret: None,
            template: None,
            allow_private,
            ca: None,
        };
        for (key, at, value) in &taken {
            self.option(&mut sink, key, at, value);
        }
        let (name, at) = name?;
        sink.name = name;
        (self.reader.out.len() == before).then_some((sink, at))
    }

    fn option(&mut self, sink: &mut Sink, key: &str, at: &Node, value: &Node) {
        match key {
            "on" => sink.on = self.words(value, "on", &CHANGES),
            "every" => sink.every = self.duration(value).unwrap_or(EVERY),
            "severity" => {
                let known = [
                    Severity::Info,
                    Severity::Warn,
                    Severity::Error,
                    Severity::Critical,
                ];
                if let Some(word) = self.word(value, "severity", &known.map(Severity::as_str)) {
                    let found = known.into_iter().find(|one| one.as_str() == word);
                    sink.severity = found.unwrap_or(sink.severity);
                }
            }
            "rules" => {
                let ids = self.each_text(value, "a rule's id", "write e.g. `rules: [order-total]`");
                sink.rules = ids.into_iter().map(|(id, _)| id).collect();
            }
            "quiet" => {
                let hint = "write e.g. `quiet: [\"22:00-06:00 UTC\"]`";
                for (text, node) in self.each_text(value, "a time of the day", hint) {
                    match Quiet::parse(&text) {
                        Ok(quiet) => sink.quiet.push(quiet),
                        Err(hint) => _ = self.unfit::<()>(node, "a time of the day", hint),
                    }
                }
            }
            "secret" => {
                sink.secret = self.secret(value);
                if !matches!(sink.to, To::Webhook(_)) {
                    let message =
                        format!("`secret` signs webhooks, and this is {}", sink.to.as_str());
                    let _: Option<()> = self.reader.wrong(at, message, "remove it");
                }
            }
            "template" => sink.template = self.template(value),
            "ca" => sink.ca = self.text(value),
            _ => {}
        }
    }

    /// Exactly one of [`TO`].
    fn receiver(
        &mut self,
        node: &Node,
        taken: &[(&str, &Node, &Node)],
        allow_private: bool,
    ) -> Option<To> {
        let found: Vec<_> = taken.iter().filter(|one| TO.contains(&one.0)).collect();
        let words: Vec<String> = TO.iter().map(|word| format!("`{word}`")).collect();
        let (word, value) = match found.as_slice() {
            [(word, _, value)] => (*word, *value),
            [] => {
                let hint = format!("write {}", one_of(&words));
                return self.reader.wrong(node, "this sink has no receiver", hint);
            }
            [_, (word, at, _), ..] => {
                let message = format!("this sink has another receiver before `{word}`");
                let hint = "keep one of them; each receiver is a sink of its own";
                return self.reader.wrong(at, message, hint);
            }
        };
        match word {
            "webhook" => Some(To::Webhook(self.address(value, allow_private)?)),
            "slack" => Some(To::Slack(self.address(value, allow_private)?)),
            "alertmanager" => Some(To::Alertmanager(self.address(value, allow_private)?)),
            "pagerduty" => self.pagerduty(value, allow_private),
            "email" => self.email(value).map(To::Email),
            _ => self.command(value).map(To::Command),
        }
    }

    fn pagerduty(&mut self, node: &Node, allow_private: bool) -> Option<To> {
        let example = "pagerduty: {routing_key: \"${PD_KEY}\"}";
        let entries = self.mapping(node, "`pagerduty`", example)?;
        let (mut routing_key, mut url) = (None, None);
        let before = self.reader.out.len();
        for (key, value) in entries {
            match self.key(key, value, Some("pagerduty"), &["routing_key", "url"]) {
                Some("routing_key") => routing_key = self.secret(value),
                Some(_) => url = self.address(value, allow_private),
                None => {}
            }
        }
        if self.reader.out.len() > before {
            return None;
        }
        let standard = || Address::new(Url::parse(PAGERDUTY).expect("it is a URL"));
        match routing_key {
            Some(routing_key) => Some(To::PagerDuty {
                routing_key,
                url: url.unwrap_or_else(standard),
            }),
            None => {
                let hint = format!("write `{example}`");
                self.reader
                    .wrong(node, "`pagerduty` has no `routing_key`", hint)
            }
        }
    }

    fn email(&mut self, node: &Node) -> Option<Email> {
        const EXAMPLE: &str = "email: {smtp: \"smtps://mail.example.com\", from: firstbad@example.com, to: [ops@example.com]}";
        let known = ["smtp", "from", "to", "user", "password"];
        let entries = self.mapping(node, "`email`", EXAMPLE)?;
        let before = self.reader.out.len();
        let (mut server, mut from, mut to) = (None, None, Vec::new());
        let (mut user, mut password) = (None, None);
        for (key, value) in entries {
            match self.key(key, value, Some("email"), &known) {
                Some("smtp") => server = self.mail_server(value),
                Some("from") => from = self.mailbox(value),
                Some("to") => {
                    let hint = "write e.g. `to: [ops@example.com]`";
                    for (_, node) in self.each_text(value, "a mail address", hint) {
                        to.extend(self.mailbox(node));
                    }
                }
                Some("user") => user = self.secret(value),
                Some(_) => password = self.secret(value),
                None => {}
            }
        }
        if self.reader.out.len() > before {
            return None;
        }
        let login = match (user, password) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            _ => {
                let message = "`user` and `password` belong together";
                return self.reader.wrong(node, message, "write both or none");
            }
        };
        let (Some((host, port, security)), Some(from), false) = (server, from, to.is_empty())
        else {
            let message = "`email` needs `smtp`, `from` and `to`";
            return self
                .reader
                .wrong(node, message, format!("write `{EXAMPLE}`"));
        };
        Some(Email {
            host,
            port,
            security,
            from,
            to,
            login,
        })
    }

    fn mail_server(&mut self, node: &Node) -> Option<(String, u16, Security)> {
        const HINT: &str = "write `smtps://HOST` (port 465), `smtp://HOST` (port 587, STARTTLS) or `smtp+plain://127.0.0.1:25` \
                            (loopback only)";
        let text = self.scalar(node, "a mail server's URL", HINT)?;
        let url = Url::parse(&text.value).ok();
        let known = |url: &Url| match url.scheme() {
            "smtps" => Some((Security::Tls, 465)),
            "smtp" => Some((Security::StartTls, 587)),
            "smtp+plain" => Some((Security::Plain, 25)),
            _ => None,
        };
        let server = url.as_ref().and_then(|url| Some((url, known(url)?)));
        let Some((url, (security, port))) = server else {
            let message = "a mail server's URL is expected here";
            return self.reader.wrong(node, message, HINT);
        };
        let host = url.host_str().filter(|host| !host.is_empty());
        let is_bare = url.username().is_empty()
            && url.password().is_none()
            && matches!(url.path(), "" | "/")
            && url.query().is_none();
        match host {
            Some(host) if is_bare => {
                // An IPv6 address has brackets in a URL only.
                let host = host.trim_start_matches('[').trim_end_matches(']');
                Some((host.to_owned(), url.port().unwrap_or(port), security))
            }
            _ => {
                let message = "this mail server's URL has more, or less, than a host and a port";
                let hint = "write `user` and `password` as keys of their own; ".to_owned() + HINT;
                self.reader.wrong(node, message, hint)
            }
        }
    }

    fn mailbox(&mut self, node: &Node) -> Option<String> {
        const HINT: &str = "write e.g. `ops@example.com`";
        let text = self.scalar(node, "a mail address", HINT)?;
        let address = text.value.trim().to_owned();
        match address.parse::<lettre::message::Mailbox>() {
            Ok(_) => Some(address),
            Err(_) => {
                let message = "a mail address is expected here";
                self.reader.wrong(node, message, HINT)
            }
        }
    }

    fn command(&mut self, node: &Node) -> Option<Vec<Secret>> {
        const HINT: &str = "no shell reads it: write a list of words, e.g. `command: [/usr/local/bin/page, --team, ops]`";
        match &node.kind {
            Kind::Sequence(items) if !items.is_empty() => {
                let words = items.iter().map(|item| self.secret(item));
                words.collect::<Vec<_>>().into_iter().collect()
            }
            Kind::Scalar { text, .. } if !text.trim().contains(char::is_whitespace) => {
                Some(vec![self.secret(node)?])
            }
            // What is written is not repeated: it may hold a secret.
            _ => self
                .reader
                .wrong(node, "a list of words is expected here", HINT),
        }
    }

    /// A URL of https, or of http where the receiver may be on a private network.
    fn address(&mut self, node: &Node, allow_private: bool) -> Option<Address> {
        const HINT: &str = "write e.g. `\"${HOOK_URL}\"` or `https://hooks.example.com/orders`";
        let text = self.scalar(node, "a URL", HINT)?;
        let url = Url::parse(text.value.trim()).ok();
        let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
        let Some(mut url) = url else {
            let message = "a URL of https is expected here";
            return self.reader.wrong(node, message, HINT);
        };
        if !url.username().is_empty() || url.password().is_some() {
            let message = "this URL holds a user or a password, which are not sent";
            let hint = "put a token into its path, or sign with `secret`";
            return self.reader.wrong(node, message, hint);
        }
        if url.scheme() == "http" && !allow_private {
            let message = "http sends everything in the clear";
            let hint =
                "write https, or `allow: private` where it is on loopback or your own network";
            return self.reader.wrong(node, message, hint);
        }
        if matches!(url.host(), None | Some(Host::Domain(""))) {
            return self.reader.wrong(node, "this URL names no host", HINT);
        }
        url.set_fragment(None);
        Some(Address::new(url))
    }

    /// A text that is not shown, also not where it is wrong.
    fn secret(&mut self, node: &Node) -> Option<Secret> {
        match &node.kind {
            Kind::Scalar { .. } => {
                let text = self.scalar(node, "a text", "write a text, e.g. `\"${SECRET}\"`")?;
                Some(Secret::new(text.value))
            }
            _ => {
                let message = "a text is expected here";
                self.reader
                    .wrong(node, message, "write a text, e.g. `\"${SECRET}\"`")
            }
        }
    }

    fn sink_name(&mut self, node: &Node) -> Option<String> {
        const HINT: &str = "write letters, digits, `-`, `_` and `.`, e.g. `name: ops`";
        let name = node.text().unwrap_or_default();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        match !name.is_empty() && name.len() <= NAME_MAX && name.chars().all(is_plain) {
            true => Some(name.to_owned()),
            false => self.unfit(node, "a name", HINT),
        }
    }

    /// A template that can be parsed. Variables of the environment are not replaced in it: it would show them.
    fn template(&mut self, node: &Node) -> Option<Template> {
        let text = node.text().filter(|text| !text.trim().is_empty());
        let Some(text) = text else {
            let hint = "write e.g. `template: \"{{ title }}\"`";
            return self.unfit(node, "a text", hint);
        };
        if text.len() > TEMPLATE_MAX {
            let message = format!("this template has {} bytes", text.len());
            let hint = format!("write at most {TEMPLATE_MAX} bytes");
            return self.reader.wrong(node, message, hint);
        }
        let template = Template {
            text: text.to_owned(),
            span: self.reader.source.text_span(node),
        };
        let parsed = minijinja::Environment::empty()
            .template_from_str(text)
            .err();
        match parsed {
            None => Some(template),
            Some(error) => {
                let what = error.detail().unwrap_or("it is no template");
                let place = template.line(error.line().unwrap_or(1));
                let message = format!("this template cannot be read: {}", shortened(what));
                let hint = "docs/alerts.md has the variables; blocks are those of minijinja";
                self.reader.push(place.error(message).with_hint(hint));
                None
            }
        }
    }

    /// One of some words.
    fn word(&mut self, node: &Node, of: &str, known: &[&'static str]) -> Option<&'static str> {
        let written = node.text().unwrap_or_default();
        if let Some(word) = known.iter().find(|word| **word == written) {
            return Some(word);
        }
        let hint = match near(written, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => {
                let known: Vec<String> = known.iter().map(|word| format!("`{word}`")).collect();
                format!("write {}", one_of(&known))
            }
        };
        let message = format!("`{of}` knows no {}", node.describe());
        self.reader.wrong(node, message, hint)
    }

    /// One of some words, or a list of them that is not empty.
    fn words(&mut self, node: &Node, of: &str, known: &[&'static str]) -> Vec<&'static str> {
        match &node.kind {
            Kind::Sequence(items) if !items.is_empty() => {
                let words = items.iter().filter_map(|item| self.word(item, of, known));
                words.collect()
            }
            _ => self.word(node, of, known).into_iter().collect(),
        }
    }

    /// A text or a list of texts that is not empty, each with its place.
    fn each_text<'n>(&mut self, node: &'n Node, what: &str, hint: &str) -> Vec<(String, &'n Node)> {
        let items: Vec<&Node> = match &node.kind {
            Kind::Sequence(items) if items.is_empty() => {
                let _: Option<()> = self.unfit(node, what, hint);
                return Vec::new();
            }
            Kind::Sequence(items) => items.iter().collect(),
            _ => vec![node],
        };
        let text = |item: &'n Node| Some((self.scalar(item, what, hint)?.value, item));
        items.into_iter().filter_map(text).collect()
    }
}
