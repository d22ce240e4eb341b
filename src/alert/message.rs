//! What is told: one message about one incident, or about a rule that cannot be judged, as JSON and in words.

use serde_json::{Map, Value, json};
use url::Url;

use super::text::cut;
use crate::incident::outbox::Waiting;
use crate::report::incident::write_text;
use crate::report::{counted, grouped, pair};
use crate::rule::Severity;
use crate::schema::value::format_timestamp;
use crate::verdict::redact;

/// The most keys in a message.
const KEYS_MAX: usize = 10;
/// The longest list of rules, in bytes.
const RULES_MAX: usize = 300;
/// What stands for hidden values begins so.
const HIDDEN: &str = redact::PREFIX;

/// A message to one sink.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// Its id: the same however often it is sent.
    pub(super) id: String,
    /// What all messages about the same incident, or rule, have in common.
    pub(super) thread: String,
    /// What is told.
    pub(super) waiting: Waiting,
    /// When it is told, in microseconds since the epoch.
    pub(super) now: i64,
}

/// What is to be done with what was told before, in the terms of those who keep alerts by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// It goes on.
    On,
    /// Somebody takes care of it; whether they know of it already.
    Cared {
        /// Whether it was told before that it began.
        known: bool,
    },
    /// It is over.
    Over,
}

impl Message {
    /// A message of an outbox of this name.
    pub(super) fn new(outbox: &str, waiting: Waiting, now: i64) -> Message {
        Message {
            id: format!("{outbox}-{}", waiting.seq),
            thread: format!("{outbox}-{}", waiting.subject),
            waiting,
            now,
        }
    }

    /// A message that says that messages arrive.
    pub(super) fn test(now: i64) -> Message {
        let waiting = Waiting {
            subject: "test".into(),
            seq: 0,
            what: "test".into(),
            reason: None,
            changes: [("test".to_owned(), 1)].into(),
            more: 0,
            rule: "test".into(),
            severity: Severity::Info,
            time: Some(now),
            incident: None,
            attempts: 0,
            memory: None,
        };
        Message {
            id: format!("test-{now}"),
            thread: format!("test-{now}"),
            waiting,
            now,
        }
    }

    /// What it means for what was told before.
    pub(super) fn course(&self) -> Course {
        let began = ["opened", "reopened"];
        match self.waiting.what.as_str() {
            "closed" | "known" => Course::Over,
            "acknowledged" => {
                let changes = &self.waiting.changes;
                let known = !began.iter().any(|word| changes.contains_key(*word));
                Course::Cared { known }
            }
            _ => Course::On,
        }
    }

    fn incident(&self) -> Option<&Map<String, Value>> {
        self.waiting.incident.as_ref()
    }

    fn field(&self, name: &str) -> Option<&Value> {
        self.incident()?.get(name).filter(|value| !value.is_null())
    }

    /// A text of the incident.
    pub(super) fn text_of(&self, name: &str) -> Option<&str> {
        self.field(name)?.as_str()
    }

    fn number(&self, name: &str) -> u64 {
        self.field(name).and_then(Value::as_u64).unwrap_or(0)
    }

    /// The rule: of an incident of several, the one that opened it, so that it is the same in all messages.
    pub(super) fn rule(&self) -> &str {
        let first = self.field("rules").and_then(|rules| rules.get(0)?.as_str());
        first.unwrap_or(&self.waiting.rule)
    }

    /// What happened, in a few words.
    pub(super) fn title(&self) -> String {
        let (waiting, severity) = (&self.waiting, self.waiting.severity.as_str());
        let rules = self.field("rules").and_then(Value::as_array);
        let rule = match rules.map_or(0, |rules| rules.len().saturating_sub(1)) {
            0 => self.rule().to_owned(),
            others => format!(
                "{} and {}",
                self.rule(),
                counted(others as u64, "other rule")
            ),
        };
        match (self.incident(), waiting.what.as_str()) {
            (_, "test") => "firstbad: a test, nothing is wrong".to_owned(),
            (Some(_), what) => format!("{severity}: {rule} {what} ({})", waiting.subject),
            (None, "unknown") => format!("{severity}: {rule} cannot be judged"),
            (None, "known") => format!("{severity}: {rule} can be judged again"),
            (None, what) => format!("{severity}: {rule} {what}"),
        }
    }

    /// Where to read what to do, where that is a URL of http or https.
    pub(super) fn runbook(&self) -> Option<String> {
        let url = Url::parse(self.text_of("runbook")?).ok()?;
        let is_web = matches!(url.scheme(), "http" | "https");
        is_web.then(|| url.as_str().replace('|', "%7C"))
    }

    /// Since which write.
    fn since(&self) -> Option<String> {
        self.incident()?;
        let Some(first) = self.field("first_bad").and_then(Value::as_object) else {
            return Some("before it was watched: no write is to blame".to_owned());
        };
        let write = write_text(first);
        match self
            .last_good()
            .filter(|_| self.text_of("certainty") == Some("bounded"))
        {
            Some(good) => Some(format!("after #{good}, by {write}")),
            None => Some(write),
        }
    }

    fn last_good(&self) -> Option<u64> {
        self.field("last_good")?.get("commit")?.as_u64()
    }

    fn keys(&self) -> Option<String> {
        self.incident()?;
        let (keys, bad) = (self.number("keys"), self.number("bad"));
        let mut out = counted(keys, "key");
        match self.field("events").and_then(Value::as_u64) {
            Some(events) => out += &format!(", {}", counted(events, "illegal write")),
            None => out += &format!(", {} bad now", grouped(bad)),
        }
        if self.waiting.more > 0 {
            out += &format!(
                ", {} more since the last message",
                grouped(self.waiting.more)
            );
        }
        Some(out)
    }

    /// Spreading or stopped.
    fn pace(&self) -> Option<&'static str> {
        if self.text_of("state") == Some("closed") {
            return Some("over");
        }
        Some(match self.text_of("pace")? {
            "growing" => "spreading, faster than before",
            "steady" => "spreading steadily",
            "burst" => "came all at once",
            "single" => "one so far",
            "stopped" => "stopped: none came for a while",
            _ => return None,
        })
    }

    /// What is known to be good.
    fn safe(&self) -> Option<String> {
        self.field("first_bad")?;
        let good = self.last_good()?;
        Some(format!(
            "the state at #{good}, the last before the first bad write"
        ))
    }

    /// The first keys, without those of which a part is hidden.
    fn some_keys(&self) -> Vec<&Map<String, Value>> {
        let onsets = self.field("onsets").and_then(Value::as_array);
        let keys = onsets
            .into_iter()
            .flatten()
            .filter_map(|one| one.get("key")?.as_object());
        keys.filter(|key| !is_hidden(key)).take(KEYS_MAX).collect()
    }

    /// What there is to say, by name, in the order in which people ask for it.
    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let mut out = Vec::new();
        let mut put = |name, text: Option<String>| out.extend(text.map(|text| (name, text)));
        put("since", self.since());
        put("keys", self.keys());
        put("impact", self.text_of("impact").map(str::to_owned));
        put("pace", self.pace().map(str::to_owned));
        put("safe", self.safe());
        let keys = self.some_keys().into_iter().map(|key| {
            let pairs = key.iter().map(|(name, cell)| pair(name, cell));
            pairs.collect::<Vec<_>>().join(", ")
        });
        let keys: Vec<String> = keys.collect();
        put("first", (!keys.is_empty()).then(|| keys.join("; ")));
        let rules = self.field("rules").and_then(Value::as_array);
        let rules: Vec<&str> = rules
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        put(
            "rules",
            (rules.len() > 1).then(|| cut(&rules.join(", "), RULES_MAX)),
        );
        put("table", self.text_of("table").map(str::to_owned));
        put("owner", self.text_of("owner").map(str::to_owned));
        put("why", self.waiting.reason.clone());
        put("runbook", self.runbook());
        let show = || format!("firstbad incident show {}", self.waiting.subject);
        put("next", self.incident().map(|_| show()));
        out
    }

    /// The message as a JSON object, `firstbad/alert@1`, with its text.
    pub(super) fn document(&self, text: &str) -> Map<String, Value> {
        let waiting = &self.waiting;
        let time = waiting.time.map(format_timestamp);
        let document = json!({
            "schema": "firstbad/alert@1",
            "id": self.id,
            "about": self.thread,
            "time": time,
            "change": waiting.what,
            "changes": waiting.changes,
            "more": waiting.more,
            "reason": waiting.reason,
            "rule": self.rule(),
            "severity": waiting.severity.as_str(),
            "title": self.title(),
            "text": text,
            "incident": self.shared_incident(),
        });
        match document {
            Value::Object(document) => document,
            _ => Map::new(),
        }
    }

    /// The incident without what is no business of others: evidence holds whole rows.
    pub(super) fn shared_incident(&self) -> Option<Map<String, Value>> {
        let mut out = self.incident()?.clone();
        if let Some(onsets) = out.get_mut("onsets").and_then(Value::as_array_mut) {
            onsets.retain(|one| {
                let key = one.get("key").and_then(Value::as_object);
                key.is_some_and(|key| !is_hidden(key))
            });
            onsets.truncate(KEYS_MAX);
            for one in onsets.iter_mut().filter_map(Value::as_object_mut) {
                one.shift_remove("evidence");
            }
        }
        if let Some(first) = out.get_mut("first_bad").and_then(Value::as_object_mut) {
            first.shift_remove("changes");
        }
        Some(out)
    }
}

/// Whether a part of a key is hidden.
fn is_hidden(key: &Map<String, Value>) -> bool {
    fn hides(value: &Value) -> bool {
        match value {
            Value::String(text) => text.starts_with(HIDDEN),
            Value::Array(items) => items.iter().any(hides),
            Value::Object(map) => is_hidden(map),
            _ => false,
        }
    }
    key.values().any(hides)
}
