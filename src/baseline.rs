//! The baseline: violations that somebody has looked at and accepted, in a file that is kept beside the rules.
//!
//! It exists so that a rule can guard a table that is already wrong: what is accepted does not fail the run, what is new
//! does. One entry is one rule and one key, on a line of its own, sorted, so that a review of the file reads as a review of
//! data. An entry expires on its date, and goes when its violation is fixed: the same key violating again is new.
//!
//! The file holds key values, which are row data; where a key column is redacted it holds a hash instead.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use chrono::NaiveDate;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::change::Commit;
use crate::diagnostic::Diagnostic;
use crate::verdict::{At, CheckReport, Outcome, Verdict, canonical, fingerprint, redact};

/// The name of the file's form.
pub const SCHEMA: &str = "firstbad/baseline@1";
/// Larger files are refused: about a million entries.
pub const BASELINE_BYTES_MAX: u64 = 256 << 20;

/// One accepted violation.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `rule` and `key`")]
pub struct Entry {
    /// The rule's id.
    pub rule: String,
    /// The key; None where only its fingerprint is kept.
    #[serde(default)]
    pub key: Option<Map<String, Value>>,
    /// [`fingerprint`] of rule and key; kept in the file where the key is not, or may not survive as text.
    #[serde(default)]
    pub fingerprint: Option<String>,
    /// The day it was accepted, UTC.
    #[serde(deserialize_with = "day")]
    pub accepted_on: NaiveDate,
    /// The last day it is accepted; None for always.
    #[serde(default, deserialize_with = "optional_day")]
    pub expires: Option<NaiveDate>,
    /// The position that was judged when it was accepted.
    #[serde(default)]
    pub commit: Option<Commit>,
    /// The time of that position, RFC 3339.
    #[serde(default)]
    pub time: Option<String>,
    /// Why it is accepted, for people; never changed by firstbad.
    #[serde(default)]
    pub note: Option<String>,
}

impl Entry {
    /// True until the end of its last day.
    pub fn in_force(&self, today: NaiveDate) -> bool {
        self.expires.is_none_or(|last| today <= last)
    }

    fn identity(&self) -> Option<(String, String)> {
        let print = match (&self.fingerprint, &self.key) {
            (Some(print), _) => print.to_ascii_lowercase(),
            (None, Some(key)) => fingerprint(&self.rule, key),
            (None, None) => return None,
        };
        Some((self.rule.clone(), print))
    }
}

fn day<'de, D: Deserializer<'de>>(from: D) -> Result<NaiveDate, D::Error> {
    let text = String::deserialize(from)?;
    let strict = text.len() == "2026-03-14".len();
    let date = NaiveDate::parse_from_str(&text, "%Y-%m-%d")
        .ok()
        .filter(|_| strict);
    date.ok_or_else(|| serde::de::Error::custom("a date must look like 2026-03-14"))
}

fn optional_day<'de, D: Deserializer<'de>>(from: D) -> Result<Option<NaiveDate>, D::Error> {
    /// A date, so that `Option` can be asked for one.
    #[derive(Deserialize)]
    struct Day(#[serde(deserialize_with = "day")] NaiveDate);
    Ok(Option::<Day>::deserialize(from)?.map(|Day(date)| date))
}

/// The whole file, as it is read.
#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "an object with `schema` and `entries`"
)]
struct Document {
    schema: String,
    entries: Vec<Entry>,
}

/// The violations one run found of one rule, as [`Baseline::update`] and [`Baseline::fixed`] want them.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    /// The rule's id.
    pub rule_id: &'a str,
    /// False when the rule could not be judged: its entries stay as they are.
    pub judged: bool,
    /// True when `keys` are findings; a rule that holds within its threshold adds no entry.
    pub violated: bool,
    /// True when `keys` are all that there are; otherwise no entry counts as fixed.
    pub complete: bool,
    /// The violating keys.
    pub keys: Vec<&'a Map<String, Value>>,
    /// True when a key column is redacted, so that only fingerprints may be written.
    pub redacted: bool,
}

impl<'a> Found<'a> {
    /// What a report found, before redaction. `redact` are the columns of `--redact`. A report that was made with a limited
    /// sample is not complete: ask for all violations when a baseline is used.
    pub fn of(report: &'a CheckReport, redact: &[String]) -> Vec<Found<'a>> {
        report
            .outcomes
            .iter()
            .map(|outcome| Found::of_outcome(outcome, redact))
            .collect()
    }

    fn of_outcome(outcome: &'a Outcome, columns: &[String]) -> Found<'a> {
        let rule_id = outcome.rule.id.as_str();
        let keys: Vec<_> = outcome
            .sample
            .iter()
            .map(|violation| &violation.key)
            .collect();
        let different: BTreeSet<String> =
            keys.iter().map(|key| fingerprint(rule_id, key)).collect();
        Found {
            rule_id,
            judged: outcome.verdict != Verdict::Unknown,
            violated: outcome.verdict == Verdict::Violated,
            complete: outcome
                .violations
                .is_some_and(|all| u64::try_from(different.len()).is_ok_and(|seen| seen >= all)),
            redacted: keys
                .iter()
                .any(|key| redact::hides_key(&outcome.rule, columns, key)),
            keys,
        }
    }
}

/// Accepted violations by rule and key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Baseline {
    entries: BTreeMap<(String, String), Entry>,
}

/// A baseline that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write baseline `{}`", path.display())]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl Baseline {
    /// Reads a baseline. What is wrong with the file is one error at its line and column; it never quotes a key.
    pub fn read(path: &Path) -> Result<Baseline, Diagnostic> {
        let file = fs::File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Diagnostic::file(path, "no such baseline")
                .with_hint("`--update-baseline` makes it from what is violated"),
            _ => Diagnostic::file(path, format!("cannot read the baseline: {error}")),
        })?;
        let mut text = String::new();
        match file.take(BASELINE_BYTES_MAX + 1).read_to_string(&mut text) {
            Ok(_) if text.len() as u64 > BASELINE_BYTES_MAX => Err(Diagnostic::file(
                path,
                format!(
                    "the baseline is larger than {} MiB",
                    BASELINE_BYTES_MAX >> 20
                ),
            )),
            Ok(_) => Baseline::parse(&text, path),
            Err(error) => Err(Diagnostic::file(
                path,
                format!("cannot read the baseline: {error}"),
            )),
        }
    }

    /// Reads the text of a baseline; `path` names it in errors.
    pub fn parse(text: &str, path: &Path) -> Result<Baseline, Diagnostic> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let document: Document =
            serde_json::from_str(text).map_err(|error| located(path, text, &error))?;
        if document.schema != SCHEMA {
            let message = format!("this is no baseline of the form `{SCHEMA}`");
            return Err(
                Diagnostic::file(path, message).with_hint("a newer firstbad may have written it")
            );
        }
        let mut entries = BTreeMap::new();
        for (at, mut entry) in document.entries.into_iter().enumerate() {
            let wrong = |message: &str| {
                Diagnostic::file(path, format!("entry {} of the baseline {message}", at + 1))
            };
            let print_ok = |print: &String| {
                print.len() == 32 && print.bytes().all(|byte| byte.is_ascii_hexdigit())
            };
            if entry
                .fingerprint
                .as_ref()
                .is_some_and(|print| !print_ok(print))
            {
                return Err(wrong(
                    "has a `fingerprint` that is not 32 hexadecimal digits",
                ));
            }
            let identity = entry
                .identity()
                .ok_or_else(|| wrong("has neither `key` nor `fingerprint`"))?;
            entry.fingerprint = entry.fingerprint.map(|_| identity.1.clone());
            // Merging two branches can leave an entry twice; the first one stands.
            entries.entry(identity).or_insert(entry);
        }
        Ok(Baseline { entries })
    }

    /// How many violations are accepted, expired ones included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when nothing is accepted.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// True when the violation is accepted today; an entry that has expired accepts nothing.
    pub fn accepts(&self, rule_id: &str, key: &Map<String, Value>, today: NaiveDate) -> bool {
        self.entry(rule_id, key)
            .is_some_and(|entry| entry.in_force(today))
    }

    /// The entry for a violation, in force or not: among other things the position at which it was accepted.
    pub fn entry(&self, rule_id: &str, key: &Map<String, Value>) -> Option<&Entry> {
        self.entries
            .get(&(rule_id.to_owned(), fingerprint(rule_id, key)))
    }

    /// Takes a violation out of the baseline: it is accepted no more.
    pub fn forget(&mut self, rule_id: &str, key: &Map<String, Value>) {
        self.entries
            .remove(&(rule_id.to_owned(), fingerprint(rule_id, key)));
    }

    /// Marks accepted violations in a report, counts the new ones, and what has been fixed. A report with a limited sample
    /// counts what it does not list as new.
    pub fn apply(&self, report: &mut CheckReport, today: NaiveDate) {
        for outcome in &mut report.outcomes {
            let mut accepted = BTreeSet::new();
            for violation in &mut outcome.sample {
                violation.accepted = self.accepts(&outcome.rule.id, &violation.key, today);
                if violation.accepted {
                    accepted.insert(fingerprint(&outcome.rule.id, &violation.key));
                }
            }
            let accepted = u64::try_from(accepted.len()).unwrap_or(u64::MAX);
            outcome.new = outcome
                .violations
                .map(|violations| violations.saturating_sub(accepted));
        }
        report.fixed = self.fixed(&Found::of(report, &[]));
    }

    /// How many entries of each rule are violated no more, by rule id; rules without any are left out, and so are rules
    /// that were not judged.
    pub fn fixed(&self, found: &[Found<'_>]) -> Vec<(String, u64)> {
        let still = Still::of(found);
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for identity in self
            .entries
            .keys()
            .filter(|identity| still.is_fixed(identity))
        {
            *counts.entry(identity.0.as_str()).or_default() += 1;
        }
        counts
            .into_iter()
            .map(|(rule, count)| (rule.to_owned(), count))
            .collect()
    }

    /// The baseline that accepts everything found. Entries still violated stay as they are, notes and dates included; those
    /// that have expired are accepted anew, keeping their note; fixed ones go; new ones are accepted at `at`, on `today`,
    /// until `expires`. Rules that were not run or came out unknown keep their entries.
    pub fn update(
        &self,
        found: &[Found<'_>],
        at: &At,
        today: NaiveDate,
        expires: Option<NaiveDate>,
    ) -> Baseline {
        let still = Still::of(found);
        let mut entries: BTreeMap<_, _> = self
            .entries
            .iter()
            .filter(|(id, _)| !still.is_fixed(id))
            .map(|(id, entry)| (id.clone(), entry.clone()))
            .collect();
        for one in found.iter().filter(|one| one.violated) {
            for key in &one.keys {
                let print = fingerprint(one.rule_id, key);
                let identity = (one.rule_id.to_owned(), print.clone());
                let before = entries.get(&identity);
                let mut entry = match before {
                    Some(before) if before.in_force(today) => before.clone(),
                    _ => Entry {
                        rule: one.rule_id.to_owned(),
                        key: None,
                        fingerprint: None,
                        accepted_on: today,
                        expires,
                        commit: at.commit,
                        time: at.time_text(),
                        note: before.and_then(|before| before.note.clone()),
                    },
                };
                let exact = survives_as_text(key);
                entry.key = (!one.redacted).then(|| (*key).clone());
                entry.fingerprint = (one.redacted || !exact).then_some(print);
                entries.insert(identity, entry);
            }
        }
        Baseline { entries }
    }

    /// The text of the file: one entry a line, by rule, then by key.
    pub fn to_text(&self) -> String {
        let mut entries: Vec<&Entry> = self.entries.values().collect();
        entries.sort_by(|a, b| a.rule.cmp(&b.rule).then_with(|| compare_keys(a, b)));
        let lines: Vec<String> = entries.into_iter().map(line).collect();
        let body = if lines.is_empty() {
            "\n".to_owned()
        } else {
            format!("\n{}\n", lines.join(",\n"))
        };
        format!("{{\"schema\": \"{SCHEMA}\", \"entries\": [{body}]}}\n")
    }

    /// Writes the file whole or not at all: beside it first, then in its place.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        // A link stays a link: what it points to is replaced.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let mut name = std::ffi::OsString::from(".");
        name.push(
            target
                .file_name()
                .unwrap_or(std::ffi::OsStr::new("baseline")),
        );
        name.push(format!(".{}.tmp", std::process::id()));
        let beside = target.with_file_name(name);
        let written = write_new(&beside, self.to_text().as_bytes())
            .and_then(|()| fs::rename(&beside, &target));
        written.map_err(|source| {
            let _ = fs::remove_file(&beside);
            WriteError {
                path: path.to_path_buf(),
                source,
            }
        })
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Which rules were judged wholly, and what of them is still violated.
struct Still<'a> {
    judged: BTreeSet<&'a str>,
    violated: BTreeSet<(&'a str, String)>,
}

impl<'a> Still<'a> {
    fn of(found: &[Found<'a>]) -> Self {
        let judged = found
            .iter()
            .filter(|one| one.judged && one.complete)
            .map(|one| one.rule_id)
            .collect();
        let prints = |one: &Found<'a>| {
            let rule_id = one.rule_id;
            one.keys
                .iter()
                .map(move |key| (rule_id, fingerprint(rule_id, key)))
                .collect::<Vec<_>>()
        };
        Still {
            judged,
            violated: found.iter().flat_map(prints).collect(),
        }
    }

    fn is_fixed(&self, (rule, print): &(String, String)) -> bool {
        self.judged.contains(rule.as_str())
            && !self.violated.contains(&(rule.as_str(), print.clone()))
    }
}

/// True when reading the key's text gives the key back; a double may lose its last bit.
fn survives_as_text(key: &Map<String, Value>) -> bool {
    fn exact(value: &Value) -> bool {
        match value {
            Value::Number(number) => !number.is_f64(),
            Value::Array(items) => items.iter().all(exact),
            Value::Object(map) => map.values().all(exact),
            _ => true,
        }
    }
    key.values().all(exact)
}

/// One line of the file.
fn line(entry: &Entry) -> String {
    let mut map = Map::new();
    map.insert("rule".into(), entry.rule.clone().into());
    map.extend(entry.key.clone().map(|key| ("key".to_owned(), key.into())));
    map.extend(
        entry
            .fingerprint
            .clone()
            .map(|print| ("fingerprint".to_owned(), print.into())),
    );
    map.insert("accepted_on".into(), entry.accepted_on.to_string().into());
    map.extend(
        entry
            .expires
            .map(|day| ("expires".to_owned(), day.to_string().into())),
    );
    map.extend(
        entry
            .commit
            .map(|commit| ("commit".to_owned(), commit.into())),
    );
    map.extend(
        entry
            .time
            .clone()
            .map(|time| ("time".to_owned(), time.into())),
    );
    map.extend(
        entry
            .note
            .clone()
            .map(|note| ("note".to_owned(), note.into())),
    );
    Value::Object(map).to_string()
}

/// Numbers by size, text by its characters; entries without a key come last.
fn compare_keys(a: &Entry, b: &Entry) -> Ordering {
    let cells = |entry: &Entry| {
        entry
            .key
            .as_ref()
            .map(|key| key.values().cloned().collect::<Vec<_>>())
    };
    let by_key = match (cells(a), cells(b)) {
        (Some(a), Some(b)) => {
            let unequal = a
                .iter()
                .zip(&b)
                .map(|(a, b)| compare_values(a, b))
                .find(|order| order.is_ne());
            unequal.unwrap_or(a.len().cmp(&b.len()))
        }
        (a, b) => a.is_none().cmp(&b.is_none()),
    };
    by_key.then_with(|| a.identity().cmp(&b.identity()))
}

fn compare_values(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i128(), b.as_i128()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a
                .as_f64()
                .unwrap_or(0.0)
                .total_cmp(&b.as_f64().unwrap_or(0.0)),
        },
        (Value::String(a), Value::String(b)) => a.cmp(b),
        _ => canonical(a).cmp(&canonical(b)),
    }
}

/// What is wrong where, without the values that stand there: keys are row data.
fn located(path: &Path, text: &str, error: &serde_json::Error) -> Diagnostic {
    let said = error.to_string();
    let said = said
        .rsplit_once(" at line ")
        .map_or(said.as_str(), |(message, _)| message);
    let message = match said.split_once(", expected ") {
        Some((wrong, expected)) if wrong.starts_with("invalid") => format!("expected {expected}"),
        _ => said.to_owned(),
    };
    // The column counts bytes; people count characters.
    let line = crate::diagnostic::line_of(text, error.line());
    let column = line
        .char_indices()
        .take_while(|(at, _)| *at < error.column())
        .count();
    let wrong = Diagnostic::at(
        path,
        error.line(),
        column,
        format!("malformed baseline: {message}"),
    );
    let conflict = ["<<<<<<<", "=======", ">>>>>>>"]
        .iter()
        .any(|mark| line.starts_with(mark));
    if conflict {
        wrong.with_hint("resolve the merge conflict: keep the lines of both sides")
    } else {
        wrong
    }
}

#[cfg(test)]
mod tests;
