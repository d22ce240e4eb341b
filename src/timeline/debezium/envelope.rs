//! The schema that a Kafka Connect JSON converter puts around each event: how each column's value is encoded.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::diagnostic::Diagnostic;
use crate::timeline::line::Place;

/// Envelopes that are kept; a stream has one a table, and one more each time a table changes shape.
const ENVELOPES_MAX: usize = 256;

/// How a value is encoded.
#[derive(Debug, Deserialize)]
pub(super) struct Described {
    /// `int32`, `string`, `bytes`, `struct`, `array` …
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    /// What the value means, such as `io.debezium.time.MicroTimestamp`.
    pub(super) name: Option<String>,
    /// The name of the field.
    #[serde(default)]
    field: Option<String>,
    #[serde(default)]
    fields: Option<Vec<Described>>,
    /// The elements of an array.
    #[serde(default)]
    pub(super) items: Option<Box<Described>>,
    #[serde(default)]
    parameters: Option<BTreeMap<String, Option<String>>>,
}

impl Described {
    /// A whole number among the parameters.
    pub(super) fn parameter(&self, name: &str) -> Option<i32> {
        let text = self.parameters.as_ref()?.get(name)?.as_deref()?;
        text.parse().ok()
    }
}

/// The columns of an event.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    before: HashMap<String, Described>,
    after: HashMap<String, Described>,
}

impl Envelope {
    /// How a column of `before` or `after` is encoded.
    pub(super) fn column(&self, part: &str, name: &str) -> Option<&Described> {
        match part {
            "before" => self.before.get(name),
            _ => self.after.get(name),
        }
    }
}

/// Envelopes by their text: each line repeats its own, and reading it again would cost more than reading the event.
#[derive(Default)]
pub(super) struct Envelopes(HashMap<Box<str>, Rc<Envelope>>);

impl Envelopes {
    /// The envelope that a text says.
    pub(super) fn read(
        &mut self,
        place: &Place<'_>,
        raw: &RawValue,
    ) -> Result<Rc<Envelope>, Diagnostic> {
        if let Some(known) = self.0.get(raw.get()) {
            return Ok(known.clone());
        }
        let whole: Described = serde_json::from_str(raw.get()).map_err(|_| {
            place.at(
                raw,
                "`schema` is no schema of Kafka Connect's JSON converter",
            )
        })?;
        let mut envelope = Envelope::default();
        for part in whole.fields.into_iter().flatten() {
            let columns = part.fields.into_iter().flatten();
            let columns = columns.filter_map(|column| Some((column.field.clone()?, column)));
            match part.field.as_deref() {
                Some("before") => envelope.before = columns.collect(),
                Some("after") => envelope.after = columns.collect(),
                _ => {}
            }
        }
        let envelope = Rc::new(envelope);
        if self.0.len() >= ENVELOPES_MAX {
            self.0.clear();
        }
        self.0.insert(raw.get().into(), envelope.clone());
        Ok(envelope)
    }
}
