//! A repair as a file of SQL that people review, and as `firstbad/repair@1`.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::statement::SETTINGS;
use super::{KeyRepair, Repair};
use crate::change::Commit;
use crate::escape::terminal;
use crate::incident::Write as Wrote;
use crate::report::{counted, pair, safe_json};
use crate::schema::value::format_timestamp;
use crate::verdict::redact;

/// What a repair is about.
#[derive(Clone, Debug)]
pub struct About {
    /// The incident's name.
    pub incident: String,
    /// Its rules.
    pub rules: Vec<String>,
    /// Its first bad write; None for what was bad before anybody watched.
    pub first_bad: Option<(Commit, Wrote)>,
    /// The position of the state that the repair was proved against.
    pub at: Commit,
    /// Columns whose values are hidden in keys.
    pub redact: Vec<String>,
}

/// How a base backup is recovered to just before the first bad write, as lines of settings; the reason where no position is known.
///
/// # Errors
/// Why there is no such position.
pub fn pitr(about: &About) -> Result<String, String> {
    let Some((commit, write)) = &about.first_bad else {
        return Err("it was bad before anybody watched, so no position before it is known".into());
    };
    let Some(lsn) = &write.lsn else {
        return Err(format!(
            "the position of #{commit} in the server's log is not known"
        ));
    };
    if let Some(good) = write.last_good {
        return Err(format!(
            "the write lies after #{good} and up to #{commit}, so its position is not known"
        ));
    }
    let lsn = lsn.parse::<crate::postgres::Lsn>();
    let lsn = lsn.map_err(|_| format!("the position of #{commit} is no LSN"))?;
    Ok(format!(
        "restore_command = '…'                  # fetches archived log\n\
         recovery_target_lsn = '{lsn}'\n\
         recovery_target_inclusive = off        # everything before #{commit}, not itself\n\
         recovery_target_action = 'pause'\n"
    ))
}

impl About {
    /// A key for people, with what must not be shown hidden.
    fn key(&self, key: &KeyRepair) -> String {
        let hidden = self.hidden(&key.key.key);
        let pairs: Vec<String> = hidden
            .iter()
            .map(|(name, value)| pair(name, value))
            .collect();
        format!("{} {}", terminal(&key.key.rule), pairs.join(", "))
    }

    fn hidden(&self, key: &Map<String, Value>) -> Map<String, Value> {
        let mut key = key.clone();
        redact::hide_columns(&self.redact, [&mut key]);
        key
    }

    /// `#1207, xid 8123, 0/1A2B3C8, 2026-03-12 16:03:51Z, checkout v2.14.0`
    fn write(&self) -> String {
        let Some((commit, write)) = &self.first_bad else {
            return "bad before it was watched".to_owned();
        };
        let mut parts = vec![format!("#{commit}")];
        parts.extend(write.xid.map(|xid| format!("xid {xid}")));
        parts.extend(write.lsn.as_deref().map(terminal));
        parts.extend(
            write
                .time
                .map(|time| format_timestamp(time).replace('T', " ")),
        );
        let context = write.context.iter();
        for name in ["service", "version"] {
            let found = context
                .clone()
                .filter_map(|context| context.get(name)?.as_str());
            parts.extend(found.map(terminal));
        }
        parts.join(", ")
    }
}

impl Repair {
    /// The file. Every comment stays on its line, whatever the data holds.
    pub fn script(&self, about: &About) -> String {
        let mut out = self.head(about);
        if !self.statements.is_empty() {
            out += "\nbegin;\n";
            out += SETTINGS;
        }
        for (at, statement) in self.statements.iter().enumerate() {
            let keys = statement.keys.iter().map(|&key| about.key(&self.keys[key]));
            let keys = keys.collect::<Vec<_>>();
            let shown = keys.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
            let more = match keys.len().saturating_sub(3) {
                0 => String::new(),
                more => format!("; and {}", counted(more as u64, "key")),
            };
            let table = terminal(&statement.table);
            let _ = write!(
                out,
                "\n-- {}. {} {table}: {shown}{more}\n{}",
                at + 1,
                statement.op,
                statement.sql
            );
        }
        if !self.statements.is_empty() {
            out += "\ncommit;\n";
        }
        out + &self.remarks(about)
    }

    fn head(&self, about: &About) -> String {
        let refused = self.keys.iter().filter(|key| key.refused.is_some()).count();
        let all = self.keys.len();
        let rules: Vec<String> = about.rules.iter().map(|rule| terminal(rule)).collect();
        let mut out = format!(
            "-- repair of {}: {}\n-- first bad write {}\n-- {}: {} put right, {refused} refused; proved against the state after #{}\n",
            terminal(&about.incident),
            rules.join(", "),
            about.write(),
            counted(all as u64, "key"),
            all - refused,
            about.at
        );
        if self.statements.is_empty() {
            out += "-- nothing is changed: there is no statement\n";
        } else {
            out += "-- Nothing was run. Each statement changes exactly one row that is what it was, or ends the whole transaction.\n\
                    -- Review it, then run it: psql --no-psqlrc --set ON_ERROR_STOP=1 --file FILE\n";
        }
        out
    }

    /// What is refused and why, what stays as it is, and what rules of writes will say.
    fn remarks(&self, about: &About) -> String {
        let mut out = String::new();
        let refused = self
            .keys
            .iter()
            .filter_map(|key| Some((key, key.refused.as_ref()?)));
        for (at, (key, reason)) in refused.enumerate() {
            if at == 0 {
                out += "\n-- refused\n";
            }
            let _ = writeln!(out, "--   {}: {}", about.key(key), terminal(reason));
        }
        let noted = self
            .keys
            .iter()
            .filter(|key| key.refused.is_none() && !key.notes.is_empty());
        for (at, key) in noted.enumerate() {
            if at == 0 {
                out += "\n-- left as it is\n";
            }
            let _ = writeln!(
                out,
                "--   {}: {}",
                about.key(key),
                terminal(&key.notes.join("; "))
            );
        }
        for (at, (rule, count)) in self.events.iter().enumerate() {
            if at == 0 {
                out += "\n-- the repair is itself a write that rules report\n";
            }
            let keys = counted(*count as u64, "key");
            let _ = writeln!(out, "--   {}: {keys}", terminal(rule));
        }
        for (at, (rule, reason)) in self.unjudged.iter().enumerate() {
            if at == 0 {
                out += "\n-- could not be judged, neither before nor afterwards\n";
            }
            let _ = writeln!(out, "--   {}: {}", terminal(rule), terminal(reason));
        }
        if let Ok(settings) = pitr(about) {
            out += "\n-- The state before the first bad write, from a base backup that was made before it\n";
            for line in settings.lines() {
                let _ = writeln!(out, "--   {line}");
            }
        }
        out
    }

    /// `firstbad/repair@1`; the SQL holds real values, keys are hidden as in incidents.
    pub fn document(&self, about: &About) -> Map<String, Value> {
        let keys = self.keys.iter().enumerate().map(|(at, key)| {
            let own = self.statements.iter().enumerate();
            let own = own.filter(|(_, statement)| statement.keys.contains(&at));
            json!({
                "rule": key.key.rule,
                "key": about.hidden(&key.key.key),
                "onsets": key.key.onsets,
                "repaired": key.refused.is_none(),
                "reason": key.refused,
                "notes": key.notes,
                "statements": own.map(|(number, _)| number + 1).collect::<Vec<_>>(),
            })
        });
        let statements = self.statements.iter().map(
            |statement| json!({"table": statement.table, "op": statement.op, "sql": statement.sql}),
        );
        let events = self
            .events
            .iter()
            .map(|(rule, keys)| json!({"rule": rule, "keys": keys}));
        let unjudged = self.unjudged.iter();
        let unjudged = unjudged.map(|(rule, reason)| json!({"rule": rule, "reason": reason}));
        let first = about.first_bad.as_ref().map(|(commit, write)| {
            json!({
                "commit": commit,
                "lsn": write.lsn,
                "xid": write.xid,
                "time": write.time.map(format_timestamp),
                "context": write.context,
            })
        });
        let mut out = Map::new();
        out.insert("schema".into(), "firstbad/repair@1".into());
        out.insert("incident".into(), about.incident.clone().into());
        out.insert("rules".into(), about.rules.clone().into());
        out.insert("first_bad".into(), first.unwrap_or_default());
        out.insert("at".into(), about.at.into());
        out.insert("keys".into(), keys.collect());
        out.insert("statements".into(), statements.collect());
        out.insert("events".into(), events.collect());
        out.insert("unjudged".into(), unjudged.collect());
        out.insert("sql".into(), self.script(about).into());
        out.insert("recovery".into(), recovery(about));
        out
    }

    /// The same as text.
    pub fn json(&self, about: &About) -> String {
        let document = Value::Object(self.document(about));
        let text = serde_json::to_string_pretty(&document);
        safe_json(&text.expect("a JSON value can always be written")) + "\n"
    }
}

/// Settings of a recovery to just before the first bad write, or why there are none.
fn recovery(about: &About) -> Value {
    let lsn = about
        .first_bad
        .as_ref()
        .and_then(|(_, write)| write.lsn.clone());
    match pitr(about) {
        Ok(_) => json!({"recovery_target_lsn": lsn, "recovery_target_inclusive": false}),
        Err(reason) => json!({"reason": reason}),
    }
}
