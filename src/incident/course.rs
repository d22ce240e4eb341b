//! The course of one rule: its keys become pending, findings and healed, and make incidents.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::database::{Wrong, count, damaged, stored};
use super::notice::What;
use super::{Began, Detail, Healed, KEPT_MAX, OPEN_MAX, RuleFacts, Turns, Write};
use crate::change::Commit;

/// What changed, in order: the incident, and what became of it.
pub(super) type Told = Vec<(i64, What)>;

/// A rule as it stands.
pub(super) struct Course<'a> {
    pub(super) db: &'a Connection,
    pub(super) facts: RuleFacts,
    pub(super) verdict: String,
    pub(super) reason: Option<String>,
    pub(super) judged: Option<u64>,
    /// Findings that broke while it was watched and are bad now, and those of them without a row.
    pub(super) bad: u64,
    pub(super) beyond: u64,
    /// The same for what was bad before.
    pub(super) standing: u64,
    pub(super) standing_beyond: u64,
    /// Rows of keys that are bad now.
    held: u64,
    pub(super) incomplete: bool,
    /// The incident whose stretch runs.
    pub(super) incident: Option<i64>,
    pub(super) last: Option<i64>,
    pub(super) before: Option<i64>,
    /// Whether there may be findings that belong to no incident yet, and how many of them have no row.
    pub(super) fresh: bool,
    pub(super) spilled: u64,
    told: Told,
}

/// When something is decided: after which commit, by which write; at what time.
pub(super) struct Moment<'w> {
    pub(super) commit: Commit,
    pub(super) write: Option<&'w Write>,
    pub(super) time: Option<i64>,
}

const RULE: &str = "select facts, verdict, reason, judged, bad, beyond, standing, standing_beyond, held, incomplete, incident, last, before \
                    from rules where id = ?";

impl<'a> Course<'a> {
    /// A rule that is known.
    pub(super) fn load(db: &'a Connection, id: &str) -> Result<Option<Self>, Wrong> {
        let course = |row: &Row<'_>| -> Result<Result<Self, Wrong>, rusqlite::Error> {
            let number = |at: usize| Ok::<u64, rusqlite::Error>(count(row.get(at)?));
            let facts: String = row.get(0)?;
            let Some(facts) = RuleFacts::from_json(&facts) else {
                return Ok(Err(damaged("what it says of a rule cannot be read")));
            };
            Ok(Ok(Course {
                db,
                facts,
                verdict: row.get(1)?,
                reason: row.get(2)?,
                judged: row.get::<_, Option<i64>>(3)?.map(count),
                bad: number(4)?,
                beyond: number(5)?,
                standing: number(6)?,
                standing_beyond: number(7)?,
                held: number(8)?,
                incomplete: row.get(9)?,
                incident: row.get(10)?,
                last: row.get(11)?,
                before: row.get(12)?,
                fresh: false,
                spilled: 0,
                told: Told::new(),
            }))
        };
        db.query_row(RULE, [id], course).optional()?.transpose()
    }

    /// A rule, which is made known where it is not.
    pub(super) fn of(db: &'a Connection, facts: &RuleFacts) -> Result<Self, Wrong> {
        let make = "insert into rules (id, facts, verdict) values (?1, ?2, 'held') \
                    on conflict do update set facts = ?2";
        db.execute(make, params![facts.id, facts.to_json()])?;
        let course = Course::load(db, &facts.id)?;
        course.ok_or_else(|| damaged("a rule is missing"))
    }

    /// Writes the rule down, and says what changed.
    pub(super) fn save(self) -> Result<Told, Wrong> {
        let save = "update rules set verdict = ?2, reason = ?3, judged = ?4, bad = ?5, beyond = ?6, standing = ?7, \
                    standing_beyond = ?8, held = ?9, incomplete = ?10, incident = ?11, last = ?12, before = ?13 where id = ?1";
        self.db.execute(
            save,
            params![
                self.facts.id,
                self.verdict,
                self.reason,
                self.judged.map(stored),
                stored(self.bad),
                stored(self.beyond),
                stored(self.standing),
                stored(self.standing_beyond),
                stored(self.held),
                self.incomplete,
                self.incident,
                self.last,
                self.before,
            ],
        )?;
        Ok(self.told)
    }

    /// Takes over what became of the rule's keys after a position that was judged.
    pub(super) fn take(
        &mut self,
        turns: &Turns,
        (judged, until): (Commit, Commit),
        now: Option<i64>,
    ) -> Result<(), Wrong> {
        self.judged = turns.judged.or(self.judged);
        let mut commits: BTreeMap<Commit, (Vec<&Healed>, Vec<&Began>)> = BTreeMap::new();
        let new = |commit: Commit| (turns.late || commit > judged) && commit <= until;
        for healed in turns.healed.iter().filter(|healed| new(healed.at)) {
            commits.entry(healed.at).or_default().0.push(healed);
        }
        for began in turns.began.iter().filter(|began| new(began.onset)) {
            commits.entry(began.onset).or_default().1.push(began);
        }
        for (commit, (healed, began)) in commits {
            let writes = healed.iter().map(|one| &one.write);
            let write = writes.chain(began.iter().map(|one| &one.write)).next();
            let time = write.and_then(|write| write.time).or(now);
            let moment = Moment {
                commit,
                write,
                time,
            };
            self.pass(&moment)?;
            for one in healed {
                self.heal(one)?;
            }
            match self.facts.event {
                true => self.happen(&began, &moment)?,
                false => {
                    self.begin(&began, now)?;
                    self.settle(&moment)?;
                }
            }
        }
        let end = Moment {
            commit: until,
            write: None,
            time: now,
        };
        self.pass(&end)?;
        self.settle(&end)?;
        self.detail(&turns.details)
    }

    /// Keeps what was found out about keys that are bad. What a key costs counts as soon as it is known.
    fn detail(&mut self, details: &[Detail]) -> Result<(), Wrong> {
        // A key that comes back in the same stretch costs once.
        let known = "select seq, not exists (select 1 from violations other where other.incident = violations.incident \
                     and other.key_order = violations.key_order and other.impact is not null), incident from violations \
                     where rule = ?1 and key_order = ?2 and state in ('pending', 'finding')";
        let keep =
            "update violations set evidence = ?2, impact = coalesce(impact, ?3) where seq = ?1";
        let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        for detail in details {
            let known = self
                .db
                .query_row(known, params![self.facts.id, &*detail.order], row);
            let Some((seq, is_new, incident)): Option<(i64, bool, Option<i64>)> =
                known.optional()?
            else {
                continue;
            };
            let evidence = serde_json::Value::Object(detail.evidence.clone()).to_string();
            self.db
                .execute(keep, params![seq, evidence, detail.impact])?;
            if let (true, Some(number), Some(impact)) = (is_new, incident, &detail.impact) {
                super::stretch::cost(self.db, number, impact)?;
            }
        }
        Ok(())
    }

    /// What was bad where watching begins.
    pub(super) fn stand(
        &mut self,
        standing: &super::Standing,
        at: Commit,
        now: Option<i64>,
    ) -> Result<(), Wrong> {
        self.judged = standing.judged.or(self.judged);
        let deadline = self.deadline(now);
        for (order, key) in &standing.keys {
            let began = Began {
                order: order.clone(),
                key: key.clone(),
                onset: at,
                write: Write::default(),
            };
            self.add(&began, deadline, true)?;
        }
        self.standing += standing.unnamed;
        self.standing_beyond += standing.unnamed;
        self.settle(&Moment {
            commit: at,
            write: None,
            time: now,
        })?;
        self.detail(&standing.details)
    }

    fn deadline(&self, began: Option<i64>) -> Option<i64> {
        Some(began?.saturating_add(self.facts.within_us?))
    }

    /// Lets the clock go on: what was pending and has no time left is a finding.
    pub(super) fn pass(&mut self, moment: &Moment<'_>) -> Result<(), Wrong> {
        let Some(time) = moment.time.filter(|_| self.facts.within_us.is_some()) else {
            return Ok(());
        };
        loop {
            let next = "select min(deadline) from violations where rule = ?1 and state = 'pending' and deadline < ?2";
            let id = &self.facts.id;
            let query = self.db.query_row(next, params![id, time], |row| row.get(0));
            let Some(deadline): Option<i64> = query? else {
                return Ok(());
            };
            let due = "update violations set state = 'finding' \
                       where rule = ?1 and state = 'pending' and deadline = ?2 and pre_existing = ?3";
            let own = self.db.execute(due, params![id, deadline, false])?;
            let before = self.db.execute(due, params![id, deadline, true])?;
            self.bad += own as u64;
            self.standing += before as u64;
            self.fresh |= own > 0;
            self.settle(&Moment {
                commit: moment.commit,
                write: None,
                time: Some(deadline),
            })?;
        }
    }

    fn begin(&mut self, began: &[&Began], now: Option<i64>) -> Result<(), Wrong> {
        for one in began {
            let known = "select 1 from violations where rule = ?1 and key_order = ?2 and state in ('pending', 'finding')";
            let known = self
                .db
                .query_row(known, params![self.facts.id, &*one.order], |_| Ok(()));
            if known.optional()?.is_none() {
                self.add(one, self.deadline(one.write.time.or(now)), false)?;
            }
        }
        Ok(())
    }

    /// Adds a key that is bad.
    fn add(&mut self, one: &Began, deadline: Option<i64>, before: bool) -> Result<(), Wrong> {
        let pending = deadline.is_some();
        if self.held >= OPEN_MAX {
            self.incomplete = true;
            // What is pending and has no row would never become good or overdue.
            if !pending {
                let (all, beyond) = match before {
                    true => (&mut self.standing, &mut self.standing_beyond),
                    false => (&mut self.bad, &mut self.beyond),
                };
                (*all, *beyond) = (*all + 1, *beyond + 1);
                self.spilled += u64::from(!before);
                self.fresh |= !before;
            }
            return Ok(());
        }
        self.held += 1;
        if !pending {
            match before {
                true => self.standing += 1,
                false => self.bad += 1,
            }
            self.fresh |= !before;
        }
        let state = if pending { "pending" } else { "finding" };
        self.insert(one, (deadline, before, state, None))
    }

    pub(super) fn insert(
        &mut self,
        one: &Began,
        (deadline, before, state, incident): (Option<i64>, bool, &str, Option<i64>),
    ) -> Result<(), Wrong> {
        let insert = "insert into violations (rule, key_order, key, onset, wrote, onset_time, evidence, deadline, state, \
                      pre_existing, incident) values (?1, ?2, ?3, ?4, ?5, ?6, '{}', ?7, ?8, ?9, ?10)";
        let wrote = (!before).then(|| one.write.to_json(one.onset));
        self.db.execute(
            insert,
            params![
                self.facts.id,
                &*one.order,
                serde_json::Value::Object(one.key.clone()).to_string(),
                one.onset,
                wrote,
                one.write.time,
                deadline,
                state,
                before,
                incident,
            ],
        )?;
        Ok(())
    }

    fn heal(&mut self, healed: &Healed) -> Result<(), Wrong> {
        let known = "select seq, state, pre_existing, incident from violations \
                     where rule = ?1 and key_order = ?2 and state in ('pending', 'finding')";
        let row = |row: &Row<'_>| {
            let state: String = row.get(1)?;
            Ok((row.get(0)?, state, row.get(2)?, row.get(3)?))
        };
        let id = &self.facts.id;
        let known = self
            .db
            .query_row(known, params![id, &*healed.order], row)
            .optional()?;
        let Some((seq, state, before, incident)): Option<(i64, String, bool, Option<i64>)> = known
        else {
            return self.heal_unnamed();
        };
        self.held = self.held.saturating_sub(1);
        if state == "pending" {
            self.db
                .execute("delete from violations where seq = ?", [seq])?;
            return Ok(());
        }
        match before {
            true => self.standing = self.standing.saturating_sub(1),
            false => self.bad = self.bad.saturating_sub(1),
        }
        let many = "select count(*) from incidents where number = ?1 and onsets > ?2";
        let many: i64 = self
            .db
            .query_row(many, params![incident, stored(KEPT_MAX)], |row| row.get(0))?;
        if many > 0 {
            self.db
                .execute("delete from violations where seq = ?", [seq])?;
        } else {
            let heal = "update violations set state = 'healed', healed = ?2, healed_by = ?3 where seq = ?1";
            let by = healed.write.to_json(healed.at);
            self.db.execute(heal, params![seq, healed.at, by])?;
        }
        if let Some(number) = incident {
            self.tell(number, What::Healed(1))?;
        }
        Ok(())
    }

    /// A key that is not named: one of those beyond what is kept.
    fn heal_unnamed(&mut self) -> Result<(), Wrong> {
        let (all, beyond, incident) = if self.beyond > 0 {
            (&mut self.bad, &mut self.beyond, self.incident)
        } else if self.standing_beyond > 0 {
            (&mut self.standing, &mut self.standing_beyond, self.before)
        } else {
            return Ok(());
        };
        (*all, *beyond) = (all.saturating_sub(1), *beyond - 1);
        match incident {
            Some(number) => self.tell(number, What::Healed(1)),
            None => Ok(()),
        }
    }

    /// The verdict, after everything else; whether it became unknown, or known again.
    pub(super) fn conclude(&mut self, unknown: Option<&str>) -> Result<Option<What>, Wrong> {
        let was_unknown = self.verdict == "unknown";
        let judged = self.judged.unwrap_or(0);
        let bad = self.bad.saturating_add(self.standing);
        let violated = match (self.facts.event, self.incident) {
            (true, Some(number)) => self.closed(number)?.is_none(),
            (true, None) => false,
            (false, _) => self.facts.exceeds(bad, judged),
        };
        self.reason = unknown.map(str::to_owned);
        self.verdict = match (unknown, violated) {
            (Some(_), _) => "unknown",
            (None, true) => "violated",
            (None, false) => "held",
        }
        .to_owned();
        Ok(match (was_unknown, unknown) {
            (false, Some(reason)) => Some(What::Unknown(reason.to_owned())),
            (true, None) => Some(What::Known),
            _ => None,
        })
    }

    /// Keeps word of what became of an incident: what grows or heals several times is said once, what opens has its keys with it, and of
    /// an incident that a person closed nothing more is said.
    pub(super) fn tell(&mut self, number: i64, what: What) -> Result<(), Wrong> {
        if matches!(what, What::Grew(_) | What::Healed(_)) && self.closed(number)?.is_some() {
            return Ok(());
        }
        for (other, said) in self.told.iter_mut().rev() {
            if *other != number {
                continue;
            }
            match (said, &what) {
                (What::Closed(_), _) => break,
                (What::Opened | What::Reopened, What::Grew(_)) => return Ok(()),
                (What::Grew(keys), What::Grew(more)) => *keys += more,
                (What::Healed(keys), What::Healed(more)) => *keys += more,
                _ => continue,
            }
            return Ok(());
        }
        self.told.push((number, what));
        Ok(())
    }
}
