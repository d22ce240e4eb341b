//! Incidents and what became of them, as text and JSON. JSON is made of the documents that [`crate::incident`] gives.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::bisect::{json::change, text::change_lines};
use super::evidence::{bundle_json, bundle_text};
use super::table::{self, Column};
use super::{counted, grouped, pair, safe_json, shown_cut};
use crate::change::Commit;
use crate::evidence::Bundle;
use crate::incident::{Changes, Closing, Incident, Key, Notice, What, Write};
use crate::schema::value::format_timestamp;

/// The most keys that are shown to people.
const KEYS_SHOWN: usize = 50;
/// The most changes of a first bad write that are shown to people.
const CHANGES_SHOWN: usize = 10;
/// The most characters of a word of a context.
const WORD: usize = 40;

/// A notice on one line: time, incident, severity, rule, what changed, the first bad write.
pub fn notice_line(notice: &Notice) -> String {
    let empty = Map::new();
    let incident = notice.incident.as_ref().unwrap_or(&empty);
    let mut out = String::new();
    if let Some(time) = notice.time {
        out += &format!("{} ", moment(time));
    }
    if let Some(id) = incident.get("id").and_then(Value::as_str) {
        out += &format!("{} ", shown_cut(id, WORD));
    }
    let rule = shown_cut(&notice.rule, 100);
    let what = notice.what.as_str();
    let _ = write!(out, "{} {rule} {what}", notice.severity.as_str());
    let number = |name: &str| incident.get(name).and_then(Value::as_u64).unwrap_or(0);
    let is_event = incident
        .get("events")
        .is_some_and(|events| !events.is_null());
    let keys = counted(number("keys"), "key");
    match &notice.what {
        What::Opened
        | What::Reopened
        | What::Joined
        | What::Acknowledged
        | What::Quarantined
        | What::Repaired
        | What::Released => _ = write!(out, ": {keys}"),
        What::Grew(more) if is_event => {
            _ = write!(out, ": {} more, {keys} in all", counted(*more, "write"))
        }
        What::Grew(more) => _ = write!(out, ": {} more, {keys} in all", grouped(*more)),
        What::Healed(some) => {
            let bad = grouped(number("bad"));
            _ = write!(out, ": {}, {bad} still bad", counted(*some, "key"));
        }
        What::Closed(reason) | What::Unknown(reason) => {
            _ = write!(out, ": {}", shown_cut(reason, 200))
        }
        What::Known => {}
    }
    match incident.get("first_bad").and_then(Value::as_object) {
        Some(first) => {
            let is_bounded = incident.get("certainty").and_then(Value::as_str) == Some("bounded");
            let last_good = incident.get("last_good").filter(|_| is_bounded);
            let last_good = last_good.and_then(|at| at.get("commit")?.as_u64());
            let _ = write!(
                out,
                "; first bad write {}{}",
                after(last_good),
                write_text(first)
            );
        }
        None if notice.incident.is_some() => out += "; bad before it was watched",
        None => {}
    }
    if let Some(overdue) = incident.get("overdue").and_then(Value::as_str) {
        let _ = write!(out, "; overdue since {}", overdue.replace('T', " "));
    }
    out.push('\n');
    out
}

/// A notice as one line of JSON, `firstbad/incident@1`.
pub fn notice_json(notice: &Notice) -> String {
    safe_json(&Value::Object(notice.document()).to_string()) + "\n"
}

/// `#1207 xid 8123 0/1A2B3C8 2026-03-12 16:03:51Z checkout v2.14.0`
pub(crate) fn write_text(write: &Map<String, Value>) -> String {
    let mut parts = Vec::new();
    if let Some(commit) = write.get("commit").and_then(Value::as_u64) {
        parts.push(format!("#{commit}"));
    }
    if let Some(xid) = write.get("xid").and_then(Value::as_u64) {
        parts.push(format!("xid {xid}"));
    }
    for name in ["lsn", "time"] {
        if let Some(text) = write.get(name).and_then(Value::as_str) {
            parts.push(shown_cut(&text.replace('T', " "), WORD));
        }
    }
    if let Some(context) = write.get("context").and_then(Value::as_object) {
        for name in ["service", "version"] {
            match context.get(name) {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) => parts.push(shown_cut(text, WORD)),
                Some(other) => parts.push(shown_cut(&other.to_string(), WORD)),
            }
        }
    }
    parts.join(" ")
}

fn moment(time: i64) -> String {
    format_timestamp(time).replace('T', " ")
}

/// An incident with the changes of its first bad write, as far as the store has them.
pub type Listed = (Incident, Option<Changes>);

fn document((incident, changes): &Listed) -> Map<String, Value> {
    let mut out = incident.document();
    if let Some(first) = out.get_mut("first_bad").and_then(Value::as_object_mut) {
        let list = changes.as_ref().map(|(list, _)| list.iter().map(change));
        let list = list.map(|list| Value::Array(list.collect()));
        first.insert("changes".into(), list.unwrap_or(Value::Null));
        if let Some((_, left)) = changes.as_ref().filter(|(_, left)| *left > 0) {
            first.insert("changes_left_off".into(), (*left).into());
        }
    }
    out
}

fn whole(store: &str, incidents: Vec<Value>) -> String {
    let out = json!({"schema": "firstbad/incidents@1", "store": store, "incidents": incidents});
    let text = serde_json::to_string_pretty(&out).expect("a JSON value can always be written");
    safe_json(&text) + "\n"
}

/// Incidents as `firstbad/incidents@1`.
pub fn list_json(store: &str, listed: &[Listed]) -> String {
    let incidents = listed.iter().map(|one| Value::Object(document(one)));
    whole(store, incidents.collect())
}

/// The first bad write with its changes as far as the store has them, as JSON; null for what was bad before.
pub(super) fn first_bad_document(listed: &Listed) -> Value {
    document(listed)
        .shift_remove("first_bad")
        .unwrap_or_default()
}

/// One incident with all that is known of it, in the same form: `onsets` holds all keys that are kept, `notices` what was said, `evidence`
/// what the store knows.
pub fn show_json(
    store: &str,
    listed: &Listed,
    keys: &[Key],
    notices: &[Notice],
    evidence: Option<&Bundle>,
) -> String {
    let mut out = document(listed);
    let keys = keys.iter().map(|key| Value::Object(key.document()));
    out.insert("onsets".into(), keys.collect());
    let notices = notices.iter().map(|notice| {
        let mut one = notice.document();
        one.shift_remove("schema");
        one.shift_remove("incident");
        Value::Object(one)
    });
    out.insert("notices".into(), notices.collect());
    if let Some(bundle) = evidence {
        out.insert("evidence".into(), bundle_json(bundle));
    }
    whole(store, vec![out.into()])
}

/// What stands before a write that is only known to lie after a position.
fn after(last_good: Option<u64>) -> String {
    last_good.map_or_else(String::new, |good| format!("after #{good}, by "))
}

fn first_text(incident: &Incident) -> String {
    match &incident.first_bad {
        None => "bad before".to_owned(),
        Some((commit, write)) => after(write.last_good.map(u64::from)) + &write_of(*commit, write),
    }
}

fn write_of(commit: Commit, write: &Write) -> String {
    let mut map = Map::new();
    map.insert("commit".into(), commit.into());
    map.insert("lsn".into(), write.lsn.clone().into());
    map.insert("xid".into(), write.xid.into());
    map.insert("time".into(), write.time.map(format_timestamp).into());
    map.insert("context".into(), write.context.clone().into());
    write_text(&map)
}

/// A table of incidents, as wide as the terminal.
pub fn list_text(listed: &[Listed], all: bool, width: usize) -> String {
    if listed.is_empty() {
        return match all {
            true => "no incidents\n".into(),
            false => "no open incidents\n".into(),
        };
    }
    let column = |heading: &str, cell: &dyn Fn(&Incident) -> String| {
        let cells = listed.iter().map(|(incident, _)| cell(incident));
        Column::new(heading, cells.collect())
    };
    let keys = |incident: &Incident| match incident.bad == incident.keys || incident.is_event() {
        true => grouped(incident.keys),
        false => format!("{} ({} bad)", grouped(incident.keys), grouped(incident.bad)),
    };
    let rules = |incident: &Incident| {
        let ids = incident.rules.iter().map(|rule| shown_cut(&rule.id, 100));
        ids.collect::<Vec<_>>().join(", ")
    };
    let mut columns = vec![
        column("id", &|one| one.id()).kept(),
        column("state", &|one| one.state.as_str().into()).kept(),
        column("severity", &|one| one.severity().as_str().into()),
        column("rule", &rules).at_least(20),
        column("keys", &keys).kept().right(),
        column("pace", &|one| {
            one.pace.map_or("", |pace| pace.as_str()).into()
        }),
        column("first bad write", &first_text).at_least(24),
    ];
    if listed.iter().any(|(one, _)| one.impact.is_some()) {
        let impact = |one: &Incident| shown_cut(one.impact.as_deref().unwrap_or(""), WORD);
        columns.insert(5, column("impact", &impact).right());
    }
    table::shrink(&mut columns, width);
    table::lines(&columns).join("\n") + "\n"
}

const LABEL: usize = 15;

/// Everything about one incident, for people.
pub fn show_text(
    (incident, changes): &Listed,
    keys: &[Key],
    notices: &[Notice],
    evidence: Option<&Bundle>,
    width: usize,
) -> String {
    let rules = incident.rules.iter().map(|rule| shown_cut(&rule.id, 100));
    let mut out = format!(
        "{} {} {} {}\n",
        incident.id(),
        incident.state.as_str(),
        incident.severity().as_str(),
        rules.collect::<Vec<_>>().join(", ")
    );
    for (name, text) in facts(incident) {
        let lines = table::wrap(&text, width.saturating_sub(LABEL + 4));
        for (at, line) in lines.iter().enumerate() {
            let name = if at == 0 { name } else { "" };
            let _ = writeln!(out, "  {name:LABEL$}  {line}");
        }
    }
    if let Some((list, left)) = changes {
        out += "\nchanges of the first bad write\n";
        for change in list.iter().take(CHANGES_SHOWN) {
            for line in change_lines(change, width.saturating_sub(2)) {
                let _ = writeln!(out, "  {line}");
            }
        }
        let more = list.len().saturating_sub(CHANGES_SHOWN) as u64 + left;
        if more > 0 {
            let _ = writeln!(out, "  … and {} more", grouped(more));
        }
    }
    out += &keys_text(incident, keys, width);
    if let Some(bundle) = evidence {
        out += &bundle_text(bundle, width);
    }
    out += "\nwhat was said\n";
    for notice in notices {
        let time = notice.time.map(moment).unwrap_or_default();
        let keys = notice.what.keys();
        let keys = keys.map_or(String::new(), |keys| format!(" {}", grouped(keys)));
        let reason = notice.what.reason();
        let reason = reason.map_or(String::new(), |reason| {
            format!(": {}", shown_cut(reason, 200))
        });
        let _ = writeln!(out, "  {time}  {}{keys}{reason}", notice.what.as_str());
    }
    out
}

fn facts(incident: &Incident) -> Vec<(&'static str, String)> {
    let rule = incident.rule();
    let mut out = Vec::new();
    let mut put = |name, text: Option<String>| out.extend(text.map(|text| (name, text)));
    let plain = |text: &Option<String>| text.as_ref().map(|text| shown_cut(text, 300));
    put("what", plain(&rule.description));
    put("table", plain(&rule.table));
    put("owner", plain(&rule.owner));
    put("runbook", plain(&rule.runbook));
    put("opened", incident.opened.map(moment));
    put("first bad write", Some(first_text(incident)));
    let last_good = |(commit, write): &(Commit, Write)| match write.last_good {
        Some(good) => format!("bounded: something between #{good} and #{commit}"),
        None => "exact".to_owned(),
    };
    put("certainty", incident.first_bad.as_ref().map(last_good));
    let mut keys = grouped(incident.keys);
    if incident.is_event() {
        keys += &format!(", {}", counted(incident.onsets, "illegal write"));
    } else {
        keys += &format!(", {} bad now", grouped(incident.bad));
    }
    if incident.incomplete {
        keys += " (not all of them were kept)";
    }
    put("keys", Some(keys));
    put("impact", plain(&incident.impact));
    put("pace", incident.pace.map(|pace| pace.as_str().into()));
    put("overdue", incident.overdue.map(moment));
    let person = |person: &crate::incident::Person| {
        let parts = [
            person.time.map(moment),
            plain(&person.by),
            plain(&person.note),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    };
    put("acknowledged", incident.acknowledged.as_ref().map(person));
    put("marked", incident.marked.as_ref().map(person));
    put("muted until", incident.muted.map(moment));
    put(
        "closed",
        incident.closed.as_ref().map(|closed| match closed {
            Closing::Healed { commit, write, .. } => {
                format!("healed by {}", write_of(*commit, write))
            }
            Closing::Person(by) => format!("by a person {}", person(by)).trim_end().to_owned(),
        }),
    );
    out
}

fn keys_text(incident: &Incident, keys: &[Key], width: usize) -> String {
    if keys.is_empty() {
        return String::new();
    }
    let some = &keys[..keys.len().min(KEYS_SHOWN)];
    let column = |heading: &str, cell: &dyn Fn(&Key) -> String| {
        Column::new(heading, some.iter().map(cell).collect())
    };
    let cells = |map: &Map<String, Value>| {
        let pairs = map.iter().map(|(name, cell)| pair(name, cell));
        pairs.collect::<Vec<_>>().join(", ")
    };
    let mut columns = vec![
        column("key", &|key| cells(&key.key)).kept(),
        column("since", &|key| format!("#{}", key.onset)),
    ];
    if incident.rules.len() > 1 {
        columns.insert(0, column("rule", &|key| shown_cut(&key.rule, 60)));
    }
    if incident.is_event() {
        let times = |key: &Key| grouped(key.times.unwrap_or(1));
        columns.push(column("writes", &times).right());
    } else {
        let healed = |key: &Key| key.healed.map_or(String::new(), |at| format!("#{at}"));
        columns.push(column("healed", &healed));
    }
    if incident.rules.iter().any(|rule| rule.within_us.is_some()) {
        let deadline = |key: &Key| key.deadline.map(moment).unwrap_or_default();
        columns.push(column("overdue since", &deadline));
    }
    if some.iter().any(|key| !key.evidence.is_empty()) {
        columns.push(column("evidence", &|key| cells(&key.evidence)));
    }
    table::shrink(&mut columns, width.saturating_sub(2));
    let mut out = String::from("\n");
    for line in table::lines(&columns) {
        let _ = writeln!(out, "  {line}");
    }
    let more = incident.onsets.max(keys.len() as u64) - some.len() as u64;
    let more = if incident.is_event() {
        keys.len() as u64 - some.len() as u64
    } else {
        more
    };
    if more > 0 {
        let _ = writeln!(
            out,
            "  … and {} more: --format json lists what is kept",
            grouped(more)
        );
    }
    out
}
