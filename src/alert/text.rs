//! Messages in words: templates, and what foreign text becomes in them.

use std::fmt::Write as _;

use minijinja::{Environment, Error, ErrorKind, Output, UndefinedBehavior, Value};
use serde_json::json;

use super::message::Message;
use crate::config::{Sink, To};
use crate::escape;

/// The longest text, in bytes: what comes after is cut off.
const TEXT_MAX: usize = 8 << 10;
/// How much a template may do.
const FUEL: u64 = 200_000;
/// The text where nothing else is said.
const PLAIN: &str = "{{ title }}\n\
                     {% if description %}{{ description }}\n{% endif %}\
                     {% for fact in facts %}{{ fact.name }}: {{ fact.text }}\n{% endfor %}";
/// The same for Slack.
const SLACK: &str = "*{{ title }}*\n\
                     {% if description %}{{ description }}\n{% endif %}\
                     {% for fact in facts %}{% if fact.name == \"runbook\" %}<{{ fact.text }}|runbook>{% else %}\
                     *{{ fact.name }}*: {{ fact.text }}{% endif %}\n{% endfor %}";

/// What foreign text is made harmless for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Text without markup.
    Plain,
    /// Slack's markup.
    Slack,
}

/// Foreign text in Slack's markup: it can make no link, mention nobody, and begin no block of code. What else is markup changes at most how
/// it looks.
pub(super) fn slack(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in escape::terminal(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '`' => out.push('\''),
            c => out.push(c),
        }
    }
    out
}

/// The text of a message for a sink. Where its template cannot be rendered, it is the usual one, which says so: people are to know.
pub(super) fn of(sink: &Sink, message: &Message) -> String {
    let place = match sink.to {
        To::Slack(_) => Place::Slack,
        _ => Place::Plain,
    };
    let own = sink
        .template
        .as_ref()
        .map(|template| render(&template.text, place, message));
    let (rendered, is_wrong) = match own {
        Some(Ok(text)) => (text, false),
        own => (usual(place, message), own.is_some()),
    };
    let mut text = cut(rendered.trim_end(), TEXT_MAX);
    if is_wrong {
        text += "\n(the template of this sink cannot be rendered)";
    }
    text
}

fn usual(place: Place, message: &Message) -> String {
    let text = match place {
        Place::Slack => SLACK,
        Place::Plain => PLAIN,
    };
    render(text, place, message).expect("it names what there is, and all of it is bounded")
}

/// At most so many bytes of a text.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.len() > most {
        true => {
            let end = text.floor_char_boundary(most.saturating_sub('…'.len_utf8()));
            format!("{}…", &text[..end])
        }
        false => text.to_owned(),
    }
}

fn render(text: &str, place: Place, message: &Message) -> Result<String, Error> {
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    // What a message lacks is nothing, however deep: not every one is about an incident.
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    environment.set_formatter(move |out: &mut Output, _, value: &Value| {
        if value.is_undefined() || value.is_none() {
            return Ok(());
        }
        let text = value.to_string();
        let text = match place {
            Place::Plain => escape::terminal(&text),
            Place::Slack => slack(&text),
        };
        out.write_str(&text).map_err(Error::from)
    });
    let template = environment.template_from_str(text)?;
    let mut out = Limited(Vec::new());
    let rendered = template.render_captured_to(variables(message), &mut out);
    if let Err(error) = rendered
        && out.0.len() < TEXT_MAX
    {
        return Err(error);
    }
    Ok(String::from_utf8_lossy(&out.0).into_owned())
}

/// Takes what fits, and refuses the rest.
struct Limited(Vec<u8>);

impl std::io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let room = (TEXT_MAX + 4).saturating_sub(self.0.len());
        self.0.extend(bytes.iter().take(room));
        match bytes.len() > room {
            true => Err(std::io::ErrorKind::WriteZero.into()),
            false => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What templates may name; docs/alerts.md lists it.
fn variables(message: &Message) -> Value {
    let facts = message.facts();
    let list: Vec<_> = facts
        .iter()
        .map(|(name, text)| json!({"name": name, "text": text}))
        .collect();
    let mut out = message.document("");
    out.shift_remove("text");
    out.insert("facts".into(), list.into());
    for name in ["since", "keys", "pace", "safe", "first", "next"] {
        let text = facts.iter().find(|(have, _)| *have == name);
        out.insert(name.into(), text.map(|(_, text)| text.clone()).into());
    }
    for name in ["description", "impact", "owner", "table"] {
        out.insert(name.into(), message.text_of(name).into());
    }
    out.insert("runbook".into(), message.runbook().into());
    Value::from(minijinja::value::Serde(out))
}

/// What is wrong with a template that shows only when it is used: the line, from 1, and the reason.
pub(super) fn mistake(template: &str, message: &Message) -> Option<(usize, String)> {
    let error = render(template, Place::Plain, message).err()?;
    let what = match error.kind() {
        ErrorKind::OutOfFuel => "it does too much".to_owned(),
        kind => error
            .detail()
            .map_or_else(|| kind.to_string(), str::to_owned),
    };
    Some((error.line().unwrap_or(1), what))
}

/// A text as a line of a mail's header.
pub(super) fn header(text: &str, most: usize) -> String {
    let mut out = String::new();
    for c in escape::terminal(text).chars() {
        if out.len() + c.len_utf8() > most {
            break;
        }
        let _ = out.write_char(c);
    }
    out
}
