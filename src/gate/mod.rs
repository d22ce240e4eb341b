//! Whether tables may be relied on: clean, not clean, or not known, and up to where. The circuit breaker of pipelines.
//!
//! A table is clean when every rule that reads it holds and was judged as far as is asked for. What decides comes from a watcher's
//! store ([`watched`]) or from judging now ([`judged`]); both are [`Known`], and [`Known::gate`] decides.

mod ask;
mod kept;
#[cfg(test)]
mod tests;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::change::Commit;
use crate::diagnostic::nearest;
use crate::postgres::Lsn;
use crate::rule::Severity;
use crate::schema::TableName;
use crate::schema::value::format_timestamp;
use crate::verdict::{CheckReport, Verdict};

pub use kept::{Reads, keep_position, keep_rules, watched};

/// How old the last judged moment of a watcher may be, where nothing else is said.
pub const AGE_MAX: Duration = Duration::from_secs(300);

/// What is asked of a gate.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Tables, as `orders` or `sales.orders`; empty for all that rules read.
    pub tables: Vec<String>,
    /// Everything before this position of the server's log must be judged.
    pub lsn: Option<Lsn>,
    /// How old what was judged last may be; None for any age.
    pub age_max: Option<Duration>,
    /// The severity from which a violation closes the gate.
    pub fail_on: Severity,
    /// Whether writes that nobody saw are passed over.
    pub accept_gaps: bool,
}

impl Default for Ask {
    fn default() -> Self {
        Ask {
            tables: Vec::new(),
            lsn: None,
            age_max: None,
            fail_on: Severity::Error,
            accept_gaps: false,
        }
    }
}

/// What a gate says of a table, or of all that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Every rule holds, and was judged as far as is asked for.
    Clean,
    /// A rule is violated.
    NotClean,
    /// No rule is violated as far as that is known, and something is not known.
    Unknown,
}

impl Answer {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Answer::Clean => "clean",
            Answer::NotClean => "not_clean",
            Answer::Unknown => "unknown",
        }
    }

    /// The word for people.
    pub fn words(self) -> &'static str {
        match self {
            Answer::Clean => "clean",
            Answer::NotClean => "not clean",
            Answer::Unknown => "not known",
        }
    }

    /// The exit code: 0, 1 or 4.
    pub fn exit_code(self) -> u8 {
        match self {
            Answer::Clean => 0,
            Answer::NotClean => 1,
            Answer::Unknown => 4,
        }
    }

    /// What both come to together.
    fn and(self, other: Answer) -> Answer {
        match (self, other) {
            (Answer::NotClean, _) | (_, Answer::NotClean) => Answer::NotClean,
            (Answer::Unknown, _) | (_, Answer::Unknown) => Answer::Unknown,
            _ => Answer::Clean,
        }
    }
}

/// A rule as a gate knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleState {
    /// Its id.
    pub id: String,
    /// How bad a violation is.
    pub severity: Severity,
    /// Its verdict.
    pub verdict: Verdict,
    /// Why it is unknown.
    pub reason: Option<String>,
    /// Keys that violate it.
    pub bad: u64,
    /// Keys that still have time to heal.
    pub pending: u64,
    /// The tables that it reads, its subject among them, as `schema.name`.
    pub tables: BTreeSet<String>,
    /// Its incidents that are not closed.
    pub incidents: Vec<String>,
    /// Whether it judges writes: what happened in a gap it cannot know.
    pub event: bool,
}

/// Up to where everything was judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpTo {
    /// The last commit.
    pub commit: Option<Commit>,
    /// Everything before this position of the server's log.
    pub lsn: Option<Lsn>,
    /// By the server's clock, in microseconds since the epoch.
    pub time: Option<i64>,
}

/// All that a gate decides by.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// The rules.
    pub rules: Vec<RuleState>,
    /// Incidents that are not closed, of rules that nobody judges any more: the tables that they are about, and what is to be said.
    pub left: Vec<(BTreeSet<String>, String)>,
    /// Up to where they were judged.
    pub up_to: UpTo,
    /// Stretches of commits that nobody saw.
    pub gaps: Vec<(Commit, Commit)>,
}

/// What is said of one table.
#[derive(Clone, Debug, PartialEq)]
pub struct TableGate {
    /// The table, as `schema.name`.
    pub table: String,
    /// What is said of it.
    pub answer: Answer,
    /// The rules that decide, in the order of their ids: violated ones, and those that are unknown.
    pub rules: Vec<RuleState>,
    /// Incidents of these rules.
    pub incidents: Vec<String>,
    /// Why it is not known.
    pub reasons: Vec<String>,
}

/// What a gate says.
#[derive(Clone, Debug, PartialEq)]
pub struct Gate {
    /// What is said of all tables together.
    pub answer: Answer,
    /// The tables that were asked for.
    pub tables: Vec<TableGate>,
    /// Up to where everything was judged.
    pub up_to: UpTo,
    /// Why all of it is not known, beside what is said of single tables.
    pub reason: Option<String>,
}

impl Known {
    /// Why what was judged is not enough for what is asked; None where it is. `now_us` is the clock, in microseconds since the epoch.
    pub fn behind(&self, ask: &Ask, now_us: i64) -> Option<String> {
        if let Some(wanted) = ask.lsn {
            match self.up_to.lsn {
                Some(judged) if judged >= wanted => {}
                Some(judged) => return Some(format!("judged up to {judged}, not to {wanted} yet")),
                None => {
                    return Some(format!(
                        "whether {wanted} was judged is not known: positions of the log are not"
                    ));
                }
            }
        }
        let age_max = ask.age_max?;
        let Some(time) = self.up_to.time else {
            return Some("when it was judged last is not known".to_owned());
        };
        let age = Duration::from_micros(u64::try_from(now_us.saturating_sub(time)).unwrap_or(0));
        (age > age_max).then(|| {
            format!(
                "judged {} s ago, which is more than {} s",
                age.as_secs(),
                age_max.as_secs()
            )
        })
    }

    /// Decides.
    pub fn gate(&self, ask: &Ask, now_us: i64) -> Gate {
        let reason = self.behind(ask, now_us).or_else(|| {
            let none = self
                .rules
                .is_empty()
                .then(|| "no rule is judged".to_owned());
            none.filter(|_| ask.tables.is_empty())
        });
        let names: BTreeSet<String> = match ask.tables.is_empty() {
            true => self.tables().into_iter().map(str::to_owned).collect(),
            false => ask.tables.iter().map(|name| self.named(name)).collect(),
        };
        let tables: Vec<TableGate> = names
            .into_iter()
            .map(|name| self.table(name, ask))
            .collect();
        let behind = match &reason {
            Some(_) => Answer::Unknown,
            None => Answer::Clean,
        };
        let answers = tables.iter().map(|table| table.answer);
        Gate {
            answer: answers.fold(behind, Answer::and),
            tables,
            up_to: self.up_to.clone(),
            reason,
        }
    }

    /// The tables that rules read.
    fn tables(&self) -> BTreeSet<&str> {
        let rules = self.rules.iter().map(|rule| &rule.tables);
        let left = self.left.iter().map(|(tables, _)| tables);
        rules.chain(left).flatten().map(String::as_str).collect()
    }

    /// A table as rules name it.
    fn named(&self, asked: &str) -> String {
        let tables = self.tables();
        match tables.contains(asked) {
            true => asked.to_owned(),
            false => TableName::parse(asked).to_string(),
        }
    }

    fn table(&self, table: String, ask: &Ask) -> TableGate {
        let mut out = TableGate {
            answer: Answer::Clean,
            rules: Vec::new(),
            incidents: Vec::new(),
            reasons: Vec::new(),
            table,
        };
        let mut is_read = false;
        for rule in &self.rules {
            if !rule.tables.contains(&out.table) {
                continue;
            }
            is_read = true;
            let rule = match self.unseen(rule, ask) {
                Some(reason) => &RuleState {
                    verdict: Verdict::Unknown,
                    reason: Some(reason),
                    ..rule.clone()
                },
                None => rule,
            };
            let answer = match rule.verdict {
                Verdict::Held => continue,
                Verdict::Violated if rule.severity < ask.fail_on => continue,
                Verdict::Violated => Answer::NotClean,
                Verdict::Unknown => Answer::Unknown,
            };
            if answer == Answer::Unknown {
                let reason = rule.reason.as_deref().unwrap_or("it could not be judged");
                out.reasons.push(format!("{}: {reason}", rule.id));
            }
            out.answer = out.answer.and(answer);
            out.incidents.extend(rule.incidents.iter().cloned());
            out.rules.push(rule.clone());
        }
        for (tables, said) in &self.left {
            if tables.contains(&out.table) {
                is_read = true;
                out.answer = out.answer.and(Answer::Unknown);
                out.reasons.push(said.clone());
            }
        }
        if !is_read {
            out.answer = Answer::Unknown;
            out.reasons.push(self.unread(&out.table));
        }
        out.incidents.sort_by_key(|id| (id.len(), id.clone()));
        out.incidents.dedup();
        out
    }

    /// Why a rule that judges writes cannot know: some were not seen.
    fn unseen(&self, rule: &RuleState, ask: &Ask) -> Option<String> {
        let open = rule.event && rule.verdict == Verdict::Held && !ask.accept_gaps;
        let (first, last) = self.gaps.last().filter(|_| open)?;
        let which = match first == last {
            true => format!("#{first}"),
            false => format!("#{first} to #{last}"),
        };
        Some(format!("the writes of {which} were not seen"))
    }

    fn unread(&self, table: &str) -> String {
        let near = nearest(table, self.tables());
        let near = near.map(|near| format!("; did you mean {}?", TableName::parse(near).short()));
        format!("no rule reads it{}", near.unwrap_or_default())
    }
}

/// What judging now has come to; `reads` names for each outcome the tables that its rule reads.
pub fn judged(report: &CheckReport, reads: &BTreeMap<String, BTreeSet<String>>) -> Known {
    let rule = |outcome: &crate::verdict::Outcome| RuleState {
        id: outcome.rule.id.clone(),
        severity: outcome.severity(),
        verdict: outcome.verdict,
        reason: outcome.reason.clone(),
        bad: outcome.violations.unwrap_or(0),
        pending: outcome.pending,
        tables: reads.get(&outcome.rule.id).cloned().unwrap_or_default(),
        incidents: Vec::new(),
        event: false,
    };
    let lsn = report.at.meta.lsn.as_deref();
    Known {
        rules: report.outcomes.iter().map(rule).collect(),
        left: Vec::new(),
        up_to: UpTo {
            commit: report.at.commit,
            lsn: lsn.and_then(|text| text.parse().ok()),
            time: report.at.meta.time,
        },
        gaps: Vec::new(),
    }
}

impl Gate {
    /// Nothing is known at all, and why.
    pub fn not_known(reason: &str) -> Gate {
        Gate {
            answer: Answer::Unknown,
            tables: Vec::new(),
            up_to: UpTo::default(),
            reason: Some(reason.to_owned()),
        }
    }

    /// `firstbad/gate@1`.
    pub fn document(&self) -> Value {
        let table = |table: &TableGate| {
            let rules = table.rules.iter().map(|rule| {
                json!({
                    "id": rule.id,
                    "severity": rule.severity.as_str(),
                    "verdict": rule.verdict.as_str(),
                    "violations": rule.bad,
                    "pending": rule.pending,
                    "reason": rule.reason,
                })
            });
            let reason = (!table.reasons.is_empty()).then(|| table.reasons.join("; "));
            json!({
                "table": table.table,
                "verdict": table.answer.as_str(),
                "rules": rules.collect::<Vec<_>>(),
                "incidents": table.incidents,
                "reason": reason,
            })
        };
        json!({
            "schema": "firstbad/gate@1",
            "verdict": self.answer.as_str(),
            "tables": self.tables.iter().map(table).collect::<Vec<_>>(),
            "up_to": {
                "commit": self.up_to.commit,
                "lsn": self.up_to.lsn.map(|lsn| lsn.to_string()),
                "time": self.up_to.time.map(format_timestamp),
            },
            "reason": self.reason,
        })
    }

    /// The document as one line of ASCII, without anything that acts on a terminal or in a page.
    pub fn json(&self) -> String {
        crate::report::safe_json(&self.document().to_string()) + "\n"
    }
}
