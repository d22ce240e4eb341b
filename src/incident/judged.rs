//! How the rules of a store stand: read beside a watcher, all of it at one moment.

use rusqlite::Connection;

use super::database::{self, IncidentError, Wrong, commit};
use super::list::Reading;
use super::take::{self, RuleVerdict};
use crate::change::Commit;

/// What judging has come to, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// Every rule that was ever watched, by id.
    pub rules: Vec<RuleVerdict>,
    /// Incidents that are not closed: the rule, the incident's name; a rule may have several.
    pub open: Vec<(String, String)>,
    /// Stretches of commits that nobody saw: the first, the last, and why.
    pub gaps: Vec<(Commit, Commit, String)>,
    /// What the watcher keeps for itself under the names that were asked for, in their order.
    pub settings: Vec<Option<String>>,
}

impl Reading {
    /// How the rules stand, and what the watcher keeps under some names.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn judged(&self, settings: &[&str]) -> Result<Judged, IncidentError> {
        self.read(|db| {
            let settings = settings.iter().map(|name| database::get(db, name));
            Ok(Judged {
                rules: take::verdicts(db)?,
                open: open(db)?,
                gaps: gaps(db)?,
                settings: settings.collect::<Result<_, _>>()?,
            })
        })
    }
}

fn open(db: &Connection) -> Result<Vec<(String, String)>, Wrong> {
    let query = "select distinct id, coalesce(part_of, number) from rules join incidents on number in (incident, before) \
                 where state <> 'closed' order by 1, 2";
    let mut statement = db.prepare(query)?;
    let rows = statement.query_map([], |row| {
        let number: i64 = row.get(1)?;
        Ok((row.get(0)?, format!("I-{number}")))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn gaps(db: &Connection) -> Result<Vec<(Commit, Commit, String)>, Wrong> {
    let mut statement = db.prepare("select first, last, reason from gaps order by first")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    let mut gaps = Vec::new();
    for row in rows {
        let (first, last, reason) = row?;
        gaps.push((commit(first)?, commit(last)?, reason));
    }
    Ok(gaps)
}
