//! One sink, ready to be sent to.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Runtime;
use url::Url;

use super::http::{Client, Limits, Post};
use super::message::Message;
use super::signature::sign;
use super::{SendError, command, email, payload, text};
use crate::config::{Address, Secret, Sink, Text, To};

/// A receiver with all that it takes to reach it.
#[derive(Debug)]
pub(super) struct Sender {
    sink: Sink,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Webhook(Wire, Option<Secret>),
    Slack(Wire),
    PagerDuty(Wire, Secret),
    Alertmanager(Wire),
    Mail(email::Mailer),
    Command(Vec<Secret>, Duration),
}

/// Where requests go, and what sends them.
#[derive(Debug)]
struct Wire {
    client: Client,
    runtime: Runtime,
    url: Address,
}

impl Wire {
    fn new(sink: &Sink, url: &Address, limits: Limits) -> Result<Wire, SendError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|_| SendError::Network("no thread can be started"))?;
        Ok(Wire {
            client: Client::new(ca(sink), sink.allow_private, limits)?,
            runtime,
            url: url.clone(),
        })
    }

    fn post(&self, message: &Message, body: &Value) -> Result<(), SendError> {
        self.post_to(self.url.url(), message, body)
    }

    fn post_to(&self, url: &Url, message: &Message, body: &Value) -> Result<(), SendError> {
        self.exchange(url, message, None, body.to_string().into_bytes())
    }

    fn exchange(
        &self,
        url: &Url,
        message: &Message,
        signature: Option<String>,
        body: Vec<u8>,
    ) -> Result<(), SendError> {
        self.runtime.block_on(self.client.post(Post {
            url,
            id: &message.id,
            signature,
            body,
        }))
    }
}

fn ca(sink: &Sink) -> Option<&Path> {
    sink.ca.as_ref().map(|ca| Path::new(Text::value(ca)))
}

impl Sender {
    /// Reads what is to be read for a sink.
    ///
    /// # Errors
    /// [`SendError::Setup`] where a file cannot be used.
    pub(super) fn new(
        sink: &Sink,
        limits: Limits,
        command_limit: Duration,
    ) -> Result<Sender, SendError> {
        let wire = |url: &Address| Wire::new(sink, url, limits);
        let way = match &sink.to {
            To::Webhook(url) => Way::Webhook(wire(url)?, sink.secret.clone()),
            To::Slack(url) => Way::Slack(wire(url)?),
            To::PagerDuty { routing_key, url } => Way::PagerDuty(wire(url)?, routing_key.clone()),
            To::Alertmanager(url) => Way::Alertmanager(wire(url)?),
            To::Email(email) => {
                let mailer = email::Mailer::new(email, ca(sink), sink.allow_private)?;
                Way::Mail(mailer)
            }
            To::Command(words) => Way::Command(words.clone(), command_limit),
        };
        Ok(Sender {
            sink: sink.clone(),
            way,
        })
    }

    /// Sends a message; what the sink wants to remember of it.
    ///
    /// # Errors
    /// Where it was not taken.
    pub(super) fn send(&self, message: &Message) -> Result<Option<String>, SendError> {
        let sent = self.deliver(message);
        sent.map_err(|error| self.without_secrets(error))
    }

    fn deliver(&self, message: &Message) -> Result<Option<String>, SendError> {
        let text = text::of(&self.sink, message);
        let document = || Value::Object(message.document(&text)).to_string();
        match &self.way {
            Way::Command(words, limit) => {
                command::run(words, (document() + "\n").into_bytes(), *limit)?;
            }
            Way::Mail(mailer) => mailer.send(message, &text)?,
            Way::Webhook(wire, secret) => {
                let body = document().into_bytes();
                let seconds = message.now.div_euclid(1_000_000);
                let secret = secret.as_ref().map(Secret::value);
                let signature = secret.map(|secret| sign(secret, seconds, &body));
                wire.exchange(wire.url.url(), message, signature, body)?;
            }
            Way::Slack(wire) => wire.post(message, &payload::slack(&text))?,
            Way::PagerDuty(wire, routing_key) => {
                for event in payload::pagerduty(message, &text, routing_key) {
                    wire.post(message, &event)?;
                }
            }
            Way::Alertmanager(wire) => {
                let (alerts, memory) = payload::alertmanager(message, &text);
                let url = below(wire.url.url(), "api/v2/alerts");
                wire.post_to(&url, message, &alerts)?;
                return Ok(Some(memory));
            }
        }
        Ok(None)
    }

    /// The same error without a word of the answer that may be a part of what nobody is to see.
    fn without_secrets(&self, mut error: SendError) -> SendError {
        if let SendError::Status { word, .. } = &mut error
            && let Some(shown) = word.as_deref()
        {
            let is_secret = self.secrets().iter().any(|secret| {
                let secret = secret.to_lowercase();
                secret.contains(shown) || shown.contains(&secret)
            });
            if is_secret {
                *word = None;
            }
        }
        error
    }

    /// What nobody is to see of the sink.
    fn secrets(&self) -> Vec<String> {
        let (url, own) = match &self.way {
            Way::Webhook(wire, secret) => (&wire.url, secret.as_ref()),
            Way::PagerDuty(wire, routing_key) => (&wire.url, Some(routing_key)),
            Way::Slack(wire) | Way::Alertmanager(wire) => (&wire.url, None),
            Way::Mail(_) | Way::Command(..) => return Vec::new(),
        };
        let url = url.url();
        let path = url.path_segments().into_iter().flatten();
        let query = url.query_pairs().map(|(_, value)| value.into_owned());
        let own = own.map(|own| own.value().to_owned());
        let all = path.map(str::to_owned).chain(query).chain(own);
        all.filter(|part| !part.is_empty()).collect()
    }
}

/// A path below a URL.
fn below(url: &Url, path: &str) -> Url {
    let mut out = url.clone();
    let base = out.path().trim_end_matches('/').to_owned();
    out.set_path(&format!("{base}/{path}"));
    out
}
