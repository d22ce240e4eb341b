//! Evidence and spread as JSON. Keys are only ever added.

use serde_json::{Map, Value, json};

use super::super::bisect::json::change;
use super::super::{json::at, safe_json};
use super::Whole;
use crate::evidence::{Bundle, LaterWrite, Neighbour, Proof, RowStory};
use crate::schema::value::format_timestamp;
use crate::spread::Summary;
use crate::verdict::Factor;

/// `firstbad/spread@1`: what was written from an incident's bad rows since; `rows` are listed where they are given.
pub fn spread(store: &str, incident: &str, summary: &Summary, rows: Option<Vec<Value>>) -> String {
    let mut out = Map::new();
    out.insert("schema".into(), "firstbad/spread@1".into());
    out.insert("store".into(), store.into());
    out.insert("incident".into(), incident.into());
    out.extend(summary.document());
    if let Some(rows) = rows {
        out.insert("list".into(), rows.into());
    }
    let text = serde_json::to_string_pretty(&out).expect("a JSON value can always be written");
    safe_json(&text) + "\n"
}

/// An incident with its evidence, in the form of `firstbad/incidents@1`.
pub(super) fn whole(whole: &Whole<'_>) -> String {
    super::super::incident::show_json(
        whole.store,
        whole.listed,
        whole.keys,
        whole.notices,
        Some(whole.bundle),
    )
}

/// What stands under `evidence` in an incident's document.
pub fn bundle(bundle: &Bundle) -> Value {
    let rule = |rule: &crate::evidence::RuleText| json!({"id": rule.id, "yaml": rule.yaml, "sql": rule.sql});
    let common = bundle.common.iter().map(|(rule, factors)| {
        let factors = factors.iter().map(factor).collect::<Vec<_>>();
        json!({"rule": rule, "factors": factors})
    });
    let release = |release: &crate::evidence::Release| {
        let mut out = at(&release.at);
        if let Some(map) = out.as_object_mut() {
            map.insert("service".into(), release.service.clone().into());
            map.insert("version".into(), release.version.clone().into());
            map.insert("before".into(), release.before.clone().into());
        }
        out
    };
    let moment = |moment: &crate::evidence::Moment| {
        json!({
            "commit": moment.commit,
            "time": moment.time.map(format_timestamp),
            "began": moment.began,
            "healed": moment.healed,
            "bad": moment.bad,
        })
    };
    let near = |list: &[Neighbour]| list.iter().map(neighbour).collect::<Vec<_>>();
    json!({
        "head": at(&bundle.head),
        "rules": bundle.rules.iter().map(rule).collect::<Vec<_>>(),
        "rows": rows(bundle),
        "rows_left_off": bundle.rows_left_off,
        "later_writes": later(bundle),
        "later_writes_left_off": bundle.later_left_off,
        "common": common.collect::<Vec<_>>(),
        "neighbours": near(&bundle.neighbours),
        "same_release": near(&bundle.same_release),
        "releases": bundle.releases.iter().map(release).collect::<Vec<_>>(),
        "course": bundle.course.iter().map(moment).collect::<Vec<_>>(),
        "spread": bundle.spread.document(),
        "tables": bundle.schema,
        "store": proof(&bundle.proof),
    })
}

/// The bad rows, one object each.
pub(super) fn rows(bundle: &Bundle) -> Vec<Value> {
    let row = |row: &RowStory| {
        json!({
            "rule": row.rule,
            "table": row.table,
            "key": row.key,
            "onset": at(&row.onset),
            "healed": row.healed,
            "last_good": row.last_good,
            "bad": row.bad,
            "now": row.now,
        })
    };
    bundle.rows.iter().map(row).collect()
}

/// Their later writes, one object each.
pub(super) fn later(bundle: &Bundle) -> Vec<Value> {
    let write = |write: &LaterWrite| {
        let mut out = at(&write.at);
        if let (Some(map), Value::Object(change)) = (out.as_object_mut(), change(&write.change)) {
            map.insert("context".into(), write.at.meta.context.clone().into());
            map.extend(change);
        }
        out
    };
    bundle.later.iter().map(write).collect()
}

fn factor(factor: &Factor) -> Value {
    json!({
        "factor": factor.factor,
        "bad": factor.bad,
        "bad_total": factor.bad_total,
        "good": factor.good,
        "good_total": factor.good_total,
    })
}

fn neighbour(neighbour: &Neighbour) -> Value {
    let changes = neighbour.changes.iter();
    let changes = changes.map(|(table, changes)| json!({"table": table, "changes": changes}));
    let mut out = at(&neighbour.at);
    if let Some(map) = out.as_object_mut() {
        map.insert("context".into(), neighbour.at.meta.context.clone().into());
        map.insert("changes".into(), changes.collect());
        map.insert("first_bad".into(), neighbour.is_first_bad.into());
    }
    out
}

/// What vouches for the evidence.
pub(super) fn proof(proof: &Proof) -> Value {
    let segment = proof.segment.as_ref().map(|segment| {
        let files = segment
            .files
            .iter()
            .map(|(path, bytes, hash)| json!({"path": path, "bytes": bytes, "blake3": hash}));
        json!({
            "from": segment.from,
            "to": segment.to,
            "seal": segment.seal,
            "hash": segment.hash,
            "files": files.collect::<Vec<_>>(),
        })
    });
    let snapshots = proof.snapshots.iter().map(|snapshot| {
        json!({"commit": snapshot.at, "rows": snapshot.rows, "fingerprint": snapshot.fingerprint})
    });
    let gaps = proof.gaps.iter();
    let gaps = gaps.map(|gap| json!({"from": gap.from, "to": gap.to, "reason": gap.to_string()}));
    let verified = proof.verified.as_ref().map(|(time, head, damaged)| {
        json!({"time": format_timestamp(*time), "head": head, "intact": !damaged})
    });
    json!({
        "head": proof.head,
        "seals": proof.seals,
        "sealed": proof.sealed.map(format_timestamp),
        "segment": segment,
        "snapshots": snapshots.collect::<Vec<_>>(),
        "coverage": proof.coverage,
        "gaps": gaps.collect::<Vec<_>>(),
        "verified": verified,
        "firstbad": proof.version,
    })
}
