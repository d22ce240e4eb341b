//! What the template shows: every text escaped for people and cut, every list bounded.

use serde_json::{Map, Value, json};

use super::super::evidence::Whole;
use super::super::{counted, grouped, position, shown_cut, value};
use super::{graph, timeline};
use crate::bisect::RowChange;
use crate::evidence::{Bundle, Neighbour, RowStory};
use crate::incident::{Incident, Pace};
use crate::schema::value::format_timestamp;
use crate::spread::TablePart;
use crate::verdict::At;

/// The most changes, rows, later writes, keys and notices that are shown; the files beside the report have more.
const LISTED: usize = 50;
/// The most columns of one row.
const CELLS: usize = 24;
/// The most characters of a value, a name, a text.
const VALUE: usize = 120;
const NAME: usize = 100;
const TEXT: usize = 2_000;
/// The longest text of a rule or its SQL, in characters.
const RULE: usize = 20_000;

fn moment(time: i64) -> String {
    format_timestamp(time).replace('T', " ")
}

fn name(text: &str) -> String {
    shown_cut(text, NAME)
}

fn table(text: &str) -> String {
    name(text.strip_prefix("public.").unwrap_or(text))
}

fn cell(cell: &Value) -> String {
    super::super::table::cut(&value(cell), VALUE)
}

fn pairs(map: &Map<String, Value>) -> String {
    let pairs = map.iter().take(CELLS);
    let pairs: Vec<String> = pairs
        .map(|(column, one)| format!("{} = {}", name(column), cell(one)))
        .collect();
    pairs.join(", ")
}

/// Text of several lines, each escaped.
fn lines(text: &str) -> String {
    let bounded: String = text.chars().take(RULE).collect();
    let escaped = bounded.lines().map(crate::escape::terminal);
    escaped.collect::<Vec<_>>().join("\n")
}

fn at(at: &At) -> String {
    let mut parts: Vec<String> = position(at).into_iter().collect();
    parts.extend(at.meta.xid.map(|xid| format!("xid {xid}")));
    parts.extend(at.meta.lsn.as_deref().map(name));
    parts.join(", ")
}

/// Service and version.
fn author(at: &At) -> String {
    let context = at.meta.context.as_ref();
    let words = ["service", "version"].map(|key| context.and_then(|context| context.get(key)));
    let words: Vec<String> = words
        .into_iter()
        .flatten()
        .filter(|one| !one.is_null())
        .map(cell)
        .collect();
    words.join(" ")
}

/// Everything.
pub(super) fn of(whole: &Whole<'_>) -> Value {
    let (incident, bundle) = (&whole.listed.0, whole.bundle);
    let first = bundle.neighbours.iter().find(|one| one.is_first_bad);
    let first_name = first.map(|one| {
        (
            one.at.commit.unwrap_or(0),
            format!("first bad write #{}", one.at.commit.unwrap_or(0)),
        )
    });
    let near = |list: &[Neighbour]| list.iter().map(neighbour).collect::<Vec<_>>();
    json!({
        "id": incident.id(),
        "store": shown_cut(whole.store, 200),
        "head": position(&bundle.head).unwrap_or_default(),
        "state": incident.state.as_str(),
        "severity": incident.severity().as_str(),
        "title": title(incident),
        "headline": headline(incident, bundle),
        "facts": facts(incident, first),
        "rules": rules(incident, bundle),
        "timeline": timeline::picture(bundle, first_name),
        "changes": changes(whole),
        "changes_left": grouped(changes_left(whole)),
        "rows": bundle.rows.iter().take(LISTED).map(story).collect::<Vec<_>>(),
        "rows_left": left(bundle.rows.len(), bundle.rows_left_off),
        "later": later(bundle),
        "later_left": left(bundle.later.len(), bundle.later_left_off),
        "common": common(bundle),
        "graph": graph::picture(bundle),
        "spread": spread(bundle),
        "neighbours": near(&bundle.neighbours),
        "same_release": near(&bundle.same_release),
        "notices": notices(whole),
        "proof": proof(bundle),
    })
}

/// How many more there are than are shown, as text; empty for none.
fn left(count: usize, more: u64) -> String {
    match count.saturating_sub(LISTED) as u64 + more {
        0 => String::new(),
        more => grouped(more),
    }
}

fn title(incident: &Incident) -> String {
    let rule = incident.rule();
    match &rule.description {
        Some(text) => shown_cut(text, 300),
        None => name(&rule.id),
    }
}

/// What happened, in one or two sentences.
fn headline(incident: &Incident, bundle: &Bundle) -> String {
    let keys = counted(incident.keys, "key");
    let since = match &incident.first_bad {
        None => "bad before anybody watched".to_owned(),
        Some((commit, write)) => {
            let time = write
                .time
                .map_or(String::new(), |time| format!(" at {}", moment(time)));
            let by = bundle
                .neighbours
                .iter()
                .find(|one| one.is_first_bad)
                .map(|one| author(&one.at));
            let by = by
                .filter(|by| !by.is_empty())
                .map_or(String::new(), |by| format!(", written by {by}"));
            match write.last_good {
                Some(good) => format!("broken between #{good} and #{commit}{time}"),
                None => format!("broken since #{commit}{time}{by}"),
            }
        }
    };
    let now = match (incident.is_event(), incident.bad) {
        (true, _) => counted(incident.onsets, "illegal write"),
        (false, 0) => "none is bad now".to_owned(),
        (false, bad) => format!("{} bad now", grouped(bad)),
    };
    let pace = match incident.pace {
        Some(Pace::Stopped) => "No new ones come.",
        Some(Pace::Growing) => "They come faster and faster.",
        Some(Pace::Steady) => "They keep coming.",
        Some(Pace::Burst) => "They came all at once.",
        Some(Pace::Single) | None => "",
    };
    let spread = match bundle.spread.rows {
        0 => "No other row was written from them.".to_owned(),
        rows => {
            let tables = counted(bundle.spread.tables.len() as u64, "table");
            format!(
                "{} in {tables} were written from them since.",
                counted(rows, "row")
            )
        }
    };
    let sentences = [format!("{keys} {since}, {now}."), pace.to_owned(), spread];
    let sentences: Vec<String> = sentences
        .into_iter()
        .filter(|one| !one.is_empty())
        .collect();
    sentences.join(" ")
}

fn facts(incident: &Incident, first: Option<&Neighbour>) -> Vec<Value> {
    let rule = incident.rule();
    let mut out = Vec::new();
    let mut put = |label: &str, text: Option<String>| {
        out.extend(text.map(|text| json!({"label": label, "text": text, "link": false})));
    };
    put("First bad write", first.map(|one| at(&one.at)));
    put(
        "Written by",
        first.map(|one| author(&one.at)).filter(|by| !by.is_empty()),
    );
    put(
        "Certainty",
        Some(incident.certainty().as_str().replace('_', " ")),
    );
    let last_good = incident.first_bad.as_ref();
    let last_good =
        last_good.and_then(|(commit, write)| write.last_good.or_else(|| commit.checked_sub(1)));
    put(
        "Last good position",
        last_good.map(|commit| format!("#{commit}")),
    );
    put(
        "Keys",
        Some(format!(
            "{}, {} bad now",
            grouped(incident.keys),
            grouped(incident.bad)
        )),
    );
    put("Impact", incident.impact.as_deref().map(name));
    put("Pace", incident.pace.map(|pace| pace.as_str().to_owned()));
    put("Opened", incident.opened.map(moment));
    put("Overdue since", incident.overdue.map(moment));
    put("Table", rule.table.as_deref().map(table));
    put("Owner", rule.owner.as_deref().map(name));
    if let Some(runbook) = &rule.runbook {
        let is_link = runbook.starts_with("https://") || runbook.starts_with("http://");
        out.push(json!({"label": "Runbook", "text": shown_cut(runbook, 500), "link": is_link}));
    }
    out
}

fn rules(incident: &Incident, bundle: &Bundle) -> Vec<Value> {
    let facts = incident.rules.iter();
    let rule = |rule: &crate::incident::RuleFacts| {
        let text = bundle.rules.iter().find(|one| one.id == rule.id);
        json!({
            "id": name(&rule.id),
            "severity": rule.severity.as_str(),
            "what": rule.description.as_deref().map(|text| shown_cut(text, TEXT)).unwrap_or_default(),
            "yaml": text.and_then(|one| one.yaml.as_deref()).map(lines).unwrap_or_default(),
            "sql": text.and_then(|one| one.sql.as_deref()).map(lines).unwrap_or_default(),
        })
    };
    facts.take(LISTED).map(rule).collect()
}

/// A change as lines of column, before, after.
fn change(one: &RowChange) -> Value {
    let empty = Map::new();
    let (before, after) = (
        one.before.as_ref().unwrap_or(&empty),
        one.after.as_ref().unwrap_or(&empty),
    );
    let columns = before
        .keys()
        .chain(after.keys().filter(|column| !before.contains_key(*column)));
    let cells = columns.take(CELLS).map(|column| {
        let old = before.get(column).map(cell);
        // An update names what it left as it was in neither image, or in both.
        let new = after.get(column).or_else(|| before.get(column).filter(|_| one.op == "update"));
        let new = new.map(cell);
        let changed = old != new && old.is_some() && new.is_some();
        json!({"column": name(column), "before": old.unwrap_or_default(), "after": new.unwrap_or_default(), "changed": changed})
    });
    json!({
        "op": one.op,
        "table": table(&one.table),
        "key": one.key.as_ref().map(pairs).unwrap_or_default(),
        "cells": cells.collect::<Vec<_>>(),
    })
}

fn changes(whole: &Whole<'_>) -> Vec<Value> {
    let changes = whole.listed.1.iter().flat_map(|(changes, _)| changes);
    changes.take(LISTED).map(change).collect()
}

fn changes_left(whole: &Whole<'_>) -> u64 {
    let changes = whole.listed.1.as_ref();
    changes.map_or(0, |(changes, left)| {
        changes.len().saturating_sub(LISTED) as u64 + left
    })
}

/// A bad row: its columns before, when it became bad, and now.
fn story(row: &RowStory) -> Value {
    let empty = Map::new();
    let images = [&row.last_good, &row.bad, &row.now].map(|image| image.as_ref());
    let mut columns: Vec<&String> = Vec::new();
    for image in images.into_iter().flatten() {
        columns.extend(image.keys().filter(|column| !row.key.contains_key(*column)));
    }
    let mut met = std::collections::HashSet::new();
    columns.retain(|column| met.insert(*column));
    let cells = columns.into_iter().take(CELLS).map(|column| {
        let [good, bad, now] = images.map(|image| image.unwrap_or(&empty).get(column).map(cell));
        json!({
            "column": name(column),
            "broke": good != bad && good.is_some() && bad.is_some(),
            "moved": bad != now && bad.is_some() && now.is_some(),
            "good": good.unwrap_or_default(),
            "bad": bad.unwrap_or_default(),
            "now": now.unwrap_or_default(),
        })
    });
    json!({
        "table": table(&row.table),
        "key": pairs(&row.key),
        "since": position(&row.onset).unwrap_or_default(),
        "healed": row.healed.map(|at| format!("#{at}")).unwrap_or_default(),
        "was": row.last_good.is_some(),
        "came": row.bad.is_some(),
        "stays": row.now.is_some(),
        "cells": cells.collect::<Vec<_>>(),
    })
}

fn later(bundle: &Bundle) -> Vec<Value> {
    let write = |write: &crate::evidence::LaterWrite| {
        let mut out = change(&write.change);
        if let Some(map) = out.as_object_mut() {
            map.insert("at".into(), position(&write.at).into());
            map.insert("by".into(), author(&write.at).into());
        }
        out
    };
    bundle.later.iter().take(LISTED).map(write).collect()
}

fn common(bundle: &Bundle) -> Vec<Value> {
    let share = |some: u64, all: u64| some.saturating_mul(100) / all.max(1);
    let factor = |factor: &crate::verdict::Factor| {
        json!({
            "factor": shown_cut(&factor.factor, 200),
            "bad": format!("{} of {}", grouped(factor.bad), grouped(factor.bad_total)),
            "good": format!("{} of {}", grouped(factor.good), grouped(factor.good_total)),
            "bad_share": share(factor.bad, factor.bad_total),
            "good_share": share(factor.good, factor.good_total),
        })
    };
    let rules = bundle.common.iter();
    let rule = rules.map(|(rule, factors)| {
        let factors = factors.iter().map(factor).collect::<Vec<_>>();
        json!({"rule": name(rule), "factors": factors})
    });
    rule.collect()
}

fn neighbour(one: &Neighbour) -> Value {
    let changes = one.changes.iter().take(CELLS);
    let changes = changes.map(|(of, count)| format!("{} {}", grouped(*count), table(of)));
    json!({
        "at": position(&one.at).unwrap_or_default(),
        "xid": one.at.meta.xid.map(|xid| xid.to_string()).unwrap_or_default(),
        "by": author(&one.at),
        "changes": changes.collect::<Vec<_>>().join(", "),
        "first": one.is_first_bad,
    })
}

fn spread(bundle: &Bundle) -> Value {
    let summary = &bundle.spread;
    let dated = |(commit, time): (u32, Option<i64>)| {
        let time = time.map_or(String::new(), |time| format!(", {}", moment(time)));
        format!("#{commit}{time}")
    };
    let part = |part: &TablePart| {
        let most = part
            .over_time
            .iter()
            .map(|one| one.rows)
            .max()
            .unwrap_or(1)
            .max(1);
        let from = summary
            .tables
            .iter()
            .flat_map(|one| one.over_time.first())
            .map(|one| one.from)
            .min();
        let bars = part.over_time.iter().map(|one| {
            let width = (one.to - one.from).max(1);
            let number = (one.from - from.unwrap_or(0)) / width;
            let height = (one.rows.saturating_mul(20) / most).max(1);
            json!({"x": number.clamp(0, 59) * 2, "y": 20 - height, "height": height})
        });
        let paths = part.examples.iter().map(super::super::evidence::path_text);
        json!({
            "table": table(&part.table),
            "rows": grouped(part.rows),
            "first": dated(part.first),
            "last": dated(part.last),
            "bars": bars.collect::<Vec<_>>(),
            "paths": paths.collect::<Vec<_>>(),
        })
    };
    let flow = |flow: &crate::spread::Flow| {
        let direction = if flow.up { "up" } else { "down" };
        json!({"link": shown_cut(&flow.link, 200), "direction": direction, "rows": grouped(flow.rows)})
    };
    let hub = |(of, key, link, rows): &(String, Map<String, Value>, String, u64)| json!({"row": format!("{} {}", table(of), pairs(key)), "link": shown_cut(link, 200), "rows": grouped(*rows)});
    json!({
        "rows": summary.rows,
        "shown": counted(summary.rows, "row"),
        "bad": counted(summary.starts, "bad row"),
        "until": format!("#{}", summary.until),
        "tables": summary.tables.iter().map(part).collect::<Vec<_>>(),
        "flows": summary.flows.iter().take(LISTED).map(flow).collect::<Vec<_>>(),
        "hubs": summary.hubs.iter().take(LISTED).map(hub).collect::<Vec<_>>(),
        "cut": summary.cut,
    })
}

fn notices(whole: &Whole<'_>) -> Vec<Value> {
    let last = whole.notices.len().saturating_sub(LISTED);
    let notice = |notice: &crate::incident::Notice| {
        let keys = notice.what.keys().map(|keys| format!(" {}", grouped(keys)));
        let reason = notice
            .what
            .reason()
            .map(|reason| format!(": {}", shown_cut(reason, 200)));
        let what = format!(
            "{}{}{}",
            notice.what.as_str(),
            keys.unwrap_or_default(),
            reason.unwrap_or_default()
        );
        json!({"time": notice.time.map(moment).unwrap_or_default(), "what": what})
    };
    whole.notices.iter().skip(last).map(notice).collect()
}

fn proof(bundle: &Bundle) -> Value {
    let proof = &bundle.proof;
    let segment = proof.segment.as_ref().map(|segment| {
        let files = segment.files.iter().take(LISTED).map(|(path, bytes, hash)| {
            json!({"path": shown_cut(path, 200), "bytes": grouped(*bytes), "hash": hash.to_string()})
        });
        let hash = segment.hash.map(|hash| hash.to_string());
        json!({
            "from": segment.from, "to": segment.to, "seal": segment.seal, "hash": hash.unwrap_or_default(),
            "files": files.collect::<Vec<_>>(),
        })
    });
    let snapshots = proof.snapshots.iter().map(|one| {
        json!({"at": one.at, "rows": grouped(one.rows), "fingerprint": one.fingerprint.to_string()})
    });
    let coverage = proof
        .coverage
        .iter()
        .take(LISTED)
        .map(|one| json!({"from": one.from, "to": one.to, "seen": one.seen}));
    let gaps = proof.gaps.iter().take(LISTED).map(ToString::to_string);
    let verified = proof.verified.as_ref().map(|(time, _, damaged)| {
        let found = if *damaged {
            "damage was found"
        } else {
            "intact"
        };
        format!("{}: {found}", moment(*time))
    });
    json!({
        "head": proof.head.to_string(),
        "seals": grouped(proof.seals),
        "sealed": proof.sealed.map(moment).unwrap_or_default(),
        "segment": segment,
        "snapshots": snapshots.collect::<Vec<_>>(),
        "coverage": coverage.collect::<Vec<_>>(),
        "gaps": gaps.collect::<Vec<_>>(),
        "verified": verified.unwrap_or_else(|| "not verified yet".to_owned()),
        "version": proof.version,
    })
}
