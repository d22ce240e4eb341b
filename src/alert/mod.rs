//! Tells those who asked for it (`alerts:` of `firstbad.yaml`) what becomes of incidents, until they have got it.
//!
//! What is to be told stands in the database of incidents before anybody is told ([`crate::incident::outbox`]). A [`Courier`] takes it from there, a
//! thread a sink, so that neither a sink nor the one who judges waits for another. A message is marked as told after the sink took it: it
//! is told at least once, in order, and under the same id each time. Tried again is what may succeed later; what a sink refuses for good
//! is given up after some tries, and kept as given up.
//!
//! Row data is hostile: it is escaped for the place where it is shown. Secrets of sinks are in no message, no log and no error.

mod address;
mod command;
mod courier;
mod email;
#[cfg(test)]
mod fixture;
mod http;
mod message;
mod payload;
mod sender;
mod signature;
#[cfg(test)]
mod sinks_tests;
#[cfg(test)]
mod tests;
mod text;

use std::time::Duration;

pub use courier::{Clock, Courier, Options, Round, Tell, send_waiting};
pub use http::Limits;

use crate::config::{Sink, Text};
use crate::diagnostic::Diagnostic;
use message::Message;
use sender::Sender;

/// Why a message did not arrive. No text of it holds a secret or a value of a row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Something about the sink itself.
    #[error("{0}")]
    Setup(String),
    /// Its address may not be spoken to.
    #[error("refused: {0}")]
    Address(&'static str),
    /// The network, or the server's machine.
    #[error("{0}")]
    Network(&'static str),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The server could not prove who it is.
    #[error("its certificate is not trusted: name the authority's file with `ca`")]
    Certificate,
    /// The server sends elsewhere, which is not followed.
    #[error("the server answered {0}, a redirect: name the address itself")]
    Redirect(u16),
    /// The server did not take it.
    #[error("the server answered {code}{}", .word.as_ref().map_or(String::new(), |word| format!(" {word}")))]
    Status {
        /// The HTTP status.
        code: u16,
        /// What it said, where that is one word.
        word: Option<String>,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The mail server did not take it.
    #[error("the mail server answered {0}")]
    Mail(u16),
    /// The program did not end well.
    #[error("the program {}", .0.map_or("was killed".to_owned(), |code| format!("ended with {code}")))]
    Exit(Option<i32>),
}

impl SendError {
    /// Whether trying again is of little use.
    pub fn is_lasting(&self) -> bool {
        match self {
            SendError::Setup(_) | SendError::Address(_) | SendError::Redirect(_) => true,
            SendError::Status { code, .. } => {
                (400..500).contains(code) && !matches!(code, 408 | 425 | 429)
            }
            SendError::Mail(code) => (500..600).contains(code),
            _ => false,
        }
    }

    /// How long the server wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            SendError::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// What is wrong with sinks that their file alone does not show: files that cannot be used, templates that cannot be rendered.
pub fn mistakes(sinks: &[Sink]) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    let test = Message::test(0);
    for sink in sinks {
        if let Some(ca) = &sink.ca
            && let Err(error) = http::certificates(std::path::Path::new(Text::value(ca)))
        {
            let hint = "name a file of PEM certificates";
            out.push(
                ca.error(format!("`{}`: {error}", ca.shown()))
                    .with_hint(hint),
            );
        }
        if let Some(template) = &sink.template
            && let Some((line, what)) = text::mistake(&template.text, &test)
        {
            let message = format!("this template cannot be used: {what}");
            let hint = "docs/alerts.md has what it may name";
            out.push(template.line(line).error(message).with_hint(hint));
        }
    }
    out
}

/// Sends a sink a message that says that messages arrive.
///
/// # Errors
/// Where it did not arrive.
pub fn test(sink: &Sink, options: &Options) -> Result<(), SendError> {
    let sender = Sender::new(sink, options.limits, options.command)?;
    sender.send(&Message::test((options.clock)())).map(|_| ())
}
