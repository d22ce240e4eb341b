//! What the findings of a rule come to: stretches, and the incidents that they are.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::course::{Course, Moment};
use super::database::{Wrong, commit, count, stored};
use super::notice::What;
use super::{Began, KEPT_MAX, Write, cause, facts};
use crate::change::{Commit, Decimal};

impl Course<'_> {
    /// Decides what the findings come to after a commit, or at a time.
    pub(super) fn settle(&mut self, moment: &Moment<'_>) -> Result<(), Wrong> {
        if self.facts.event {
            return Ok(());
        }
        let judged = self.judged.unwrap_or(0);
        let violated = self
            .facts
            .exceeds(self.bad.saturating_add(self.standing), judged);
        self.settle_before(violated && self.standing > 0, moment)?;
        match (self.incident, violated && self.bad > 0) {
            (None, true) => self.start(moment),
            (Some(number), true) if self.fresh => self.join(number),
            (Some(number), false) => self.finish(number, moment),
            _ => Ok(()),
        }
    }

    /// The incident of what was bad before.
    fn settle_before(&mut self, violated: bool, moment: &Moment<'_>) -> Result<(), Wrong> {
        match self.before {
            None if violated => {
                let number = self.open(None, moment)?;
                self.before = Some(number);
                let join = "update violations set incident = ?2 where rule = ?1 and pre_existing and state = 'finding'";
                self.db.execute(join, params![self.facts.id, number])?;
                let keys = "update incidents set keys = ?2, onsets = ?2 where number = ?1";
                self.db
                    .execute(keys, params![number, stored(self.standing)])?;
                self.tell(number, What::Opened)
            }
            None => Ok(()),
            Some(number) => {
                let join = "update violations set incident = ?2 \
                            where rule = ?1 and pre_existing and state = 'finding' and incident is null";
                let more = match self.facts.within_us {
                    Some(_) => self.db.execute(join, params![self.facts.id, number])?,
                    None => 0,
                };
                if more > 0 {
                    let keys = "update incidents set keys = keys + ?2, onsets = onsets + ?2 where number = ?1";
                    self.db
                        .execute(keys, params![number, stored(more as u64)])?;
                    self.tell(number, What::Grew(more as u64))?;
                }
                match (self.closed(number)?, violated) {
                    (Some(healed), true) if healed => self.reopen(number),
                    (None, false) => self.close(number, moment),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Whether an incident is closed, and then whether that is because all its keys healed.
    pub(super) fn closed(&self, number: i64) -> Result<Option<bool>, Wrong> {
        let query = "select state, closed from incidents where number = ?";
        let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let (state, closed): (String, Option<String>) = self.db.query_row(query, [number], row)?;
        let closing = facts::object(&closed.unwrap_or_default());
        let healed = closing.get("reason").and_then(|reason| reason.as_str()) == Some("healed");
        Ok((state == "closed").then_some(healed))
    }

    fn open(
        &mut self,
        first: Option<&(Commit, String)>,
        moment: &Moment<'_>,
    ) -> Result<i64, Wrong> {
        let insert = "insert into incidents (rule, state, pre_existing, opened, first_bad, part_of, acknowledged) \
                      values (?1, ?2, ?3, ?4, ?5, ?6, (select acknowledged from incidents where number = ?6))";
        let first = first.map(|(_, wrote)| wrote);
        let (part_of, state) = match first {
            Some(first) => cause::of(self.db, first)?.unzip(),
            None => (None, None),
        };
        // What somebody takes care of already needs nobody else.
        let state = state.filter(|state| state == "acknowledged");
        let state = state.as_deref().unwrap_or("open");
        let opened = params![
            self.facts.id,
            state,
            first.is_none(),
            moment.time,
            first,
            part_of
        ];
        self.db.execute(insert, opened)?;
        Ok(self.db.last_insert_rowid())
    }

    /// A stretch begins, or turns out never to have ended.
    fn start(&mut self, moment: &Moment<'_>) -> Result<(), Wrong> {
        let limit = self.facts.limit(self.judged.unwrap_or(0));
        let rank = limit.saturating_sub(self.standing);
        let first = "select onset, wrote from violations where rule = ?1 and state = 'finding' and not pre_existing \
                     order by onset, key_order limit 1 offset ?2";
        let row = |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get(1)?));
        let first = self
            .db
            .query_row(first, params![self.facts.id, stored(rank)], row)
            .optional()?;
        let first = match first {
            Some((onset, wrote)) => (commit(onset)?, wrote),
            // Only keys without a row are left.
            None => {
                let write = moment.write.cloned().unwrap_or_default();
                (moment.commit, write.to_json(moment.commit))
            }
        };
        if let Some(last) = self.last.filter(|_| self.facts.threshold.is_none()) {
            let ended = "select ended from incidents where number = ?";
            let ended: Option<i64> = self.db.query_row(ended, [last], |row| row.get(0))?;
            if ended.is_some_and(|ended| ended >= i64::from(first.0)) {
                self.incident = Some(last);
                self.fresh = true;
                if self.closed(last)? == Some(true) {
                    self.reopen(last)?;
                }
                let runs = "update incidents set ended = null where number = ?";
                self.db.execute(runs, [last])?;
                return self.join(last);
            }
        }
        let number = self.open(Some(&first), moment)?;
        self.incident = Some(number);
        if self.facts.threshold.is_some() {
            // Keys that were too few to matter belong to the stretch that they are part of now.
            let leave = "update violations set incident = null where rule = ?1 and state = 'finding' and not pre_existing";
            self.db.execute(leave, [&self.facts.id])?;
        }
        self.tell(number, What::Opened)?;
        self.join(number)
    }

    /// New findings become part of the incident.
    fn join(&mut self, number: i64) -> Result<(), Wrong> {
        self.fresh = false;
        let fresh = "select seq, key_order, onset, onset_time, impact, wrote, deadline from violations \
                     where rule = ?1 and state = 'finding' and not pre_existing and incident is null order by onset, key_order";
        let mut tally = Tally::load(self.db, number)?;
        let mut statement = self.db.prepare(fresh)?;
        let rows = statement.query_map([&self.facts.id], Fresh::read)?;
        let rows: Vec<Fresh> = rows.collect::<Result<_, _>>()?;
        let again = "select 1 from violations where incident = ?1 and key_order = ?2";
        let mut again = self.db.prepare(again)?;
        let mut join = self
            .db
            .prepare("update violations set incident = ?2 where seq = ?1")?;
        let early = self.facts.threshold.is_none();
        let mut new = self.spilled;
        for row in &rows {
            let known = again.exists(params![number, row.order])?;
            new += u64::from(!known);
            tally.add(row, known, early)?;
            join.execute(params![row.seq, number])?;
        }
        tally.keys += self.spilled;
        tally.onsets += self.spilled;
        self.spilled = 0;
        tally.save(self.db, number)?;
        match new {
            0 => Ok(()),
            new => self.tell(number, What::Grew(new)),
        }
    }

    /// The stretch is over.
    fn finish(&mut self, number: i64, moment: &Moment<'_>) -> Result<(), Wrong> {
        let end = "update incidents set ended = ?2 where number = ?1";
        self.db.execute(end, params![number, moment.commit])?;
        (self.incident, self.last) = (None, Some(number));
        self.fresh = true;
        match self.closed(number)? {
            None => self.close(number, moment),
            Some(_) => Ok(()),
        }
    }

    fn close(&mut self, number: i64, moment: &Moment<'_>) -> Result<(), Wrong> {
        let by = moment.write.cloned().unwrap_or_default();
        let mut closing = facts::object(&by.to_json(moment.commit));
        closing.insert("reason".into(), "healed".into());
        closing.insert("at".into(), moment.time.into());
        let closing = serde_json::Value::Object(closing).to_string();
        let close = "update incidents set state = 'closed', closed = ?2 where number = ?1";
        self.db.execute(close, params![number, closing])?;
        self.tell(number, What::Closed("healed".into()))
    }

    fn reopen(&mut self, number: i64) -> Result<(), Wrong> {
        let open = "update incidents set state = 'open', closed = null where number = ?";
        self.db.execute(open, [number])?;
        self.tell(number, What::Reopened)
    }

    /// Illegal writes: they join the rule's incident until somebody closes it.
    pub(super) fn happen(&mut self, began: &[&Began], moment: &Moment<'_>) -> Result<(), Wrong> {
        let Some(first) = began.first() else {
            return Ok(());
        };
        if let Some(number) = self.incident
            && self.closed(number)?.is_some()
        {
            (self.incident, self.last) = (None, Some(number));
        }
        let number = match self.incident {
            Some(number) => number,
            None => {
                let first = (first.onset, first.write.to_json(first.onset));
                let number = self.open(Some(&first), moment)?;
                self.incident = Some(number);
                self.tell(number, What::Opened)?;
                number
            }
        };
        let mut tally = Tally::load(self.db, number)?;
        for one in began {
            let again =
                "update violations set times = times + 1 where incident = ?1 and key_order = ?2";
            let known = self.db.execute(again, params![number, &*one.order])? > 0;
            let fresh = Fresh {
                seq: 0,
                order: one.order.to_vec(),
                onset: one.onset.into(),
                time: one.write.time,
                impact: None,
                wrote: None,
                deadline: None,
            };
            let kept = tally.onsets < KEPT_MAX;
            tally.add(&fresh, known, false)?;
            match kept {
                true if !known => self.insert(one, (None, false, "event", Some(number)))?,
                false => self.incomplete = true,
                _ => {}
            }
        }
        tally.save(self.db, number)?;
        self.tell(number, What::Grew(began.len() as u64))
    }
}

/// A finding that belongs to no incident yet.
struct Fresh {
    seq: i64,
    order: Vec<u8>,
    onset: i64,
    time: Option<i64>,
    impact: Option<String>,
    wrote: Option<String>,
    deadline: Option<i64>,
}

impl Fresh {
    fn read(row: &Row<'_>) -> Result<Fresh, rusqlite::Error> {
        Ok(Fresh {
            seq: row.get(0)?,
            order: row.get(1)?,
            onset: row.get(2)?,
            time: row.get(3)?,
            impact: row.get(4)?,
            wrote: row.get(5)?,
            deadline: row.get(6)?,
        })
    }
}

/// What an incident counts.
struct Tally {
    keys: u64,
    onsets: u64,
    last_onset: Option<i64>,
    impact: Option<String>,
    impact_lost: bool,
    overdue: Option<i64>,
    first_bad: Option<String>,
}

impl Tally {
    fn load(db: &Connection, number: i64) -> Result<Tally, Wrong> {
        let query = "select keys, onsets, last_onset, impact, impact_lost, overdue, first_bad from incidents where number = ?";
        Ok(db.query_row(query, [number], |row| {
            Ok(Tally {
                keys: count(row.get(0)?),
                onsets: count(row.get(1)?),
                last_onset: row.get(2)?,
                impact: row.get(3)?,
                impact_lost: row.get(4)?,
                overdue: row.get(5)?,
                first_bad: row.get(6)?,
            })
        })?)
    }

    fn save(&self, db: &Connection, number: i64) -> Result<(), Wrong> {
        let save = "update incidents set keys = ?2, onsets = ?3, last_onset = ?4, impact = ?5, impact_lost = ?6, overdue = ?7, \
                    first_bad = ?8 where number = ?1";
        db.execute(
            save,
            params![
                number,
                stored(self.keys),
                stored(self.onsets),
                self.last_onset,
                self.impact,
                self.impact_lost,
                self.overdue,
                self.first_bad,
            ],
        )?;
        Ok(())
    }

    /// Counts a finding. `early` says whether one that began before the first bad write takes its place.
    fn add(&mut self, row: &Fresh, known: bool, early: bool) -> Result<(), Wrong> {
        self.onsets += 1;
        self.last_onset = self.last_onset.max(row.time);
        self.overdue = match (self.overdue, row.deadline) {
            (Some(old), Some(new)) => Some(old.min(new)),
            (old, new) => old.or(new),
        };
        if early && let Some(wrote) = &row.wrote {
            let first = self.first_bad.as_deref().and_then(Write::from_json);
            if first.is_none_or(|(commit, _)| i64::from(commit) > row.onset) {
                self.first_bad = Some(wrote.clone());
            }
        }
        if known {
            return Ok(());
        }
        self.keys += 1;
        if let Some(more) = &row.impact {
            self.cost(more);
        }
        Ok(())
    }

    fn cost(&mut self, more: &str) {
        self.impact = match sum(self.impact.as_deref(), more) {
            Some(sum) if !self.impact_lost => Some(sum),
            _ => {
                self.impact_lost = true;
                None
            }
        };
    }
}

/// Adds what a key of a stretch costs.
pub(super) fn cost(db: &Connection, number: i64, more: &str) -> Result<(), Wrong> {
    let mut tally = Tally::load(db, number)?;
    tally.cost(more);
    tally.save(db, number)
}

/// The exact sum of two decimals; None where it has more than 38 digits, or one of them is none.
pub(super) fn sum(old: Option<&str>, more: &str) -> Option<String> {
    let more = Decimal::parse(more)?;
    let Some(old) = old else {
        return Some(more.to_string());
    };
    let old = Decimal::parse(old)?;
    let scale = old.scale.max(more.scale);
    let (old, more) = (old.rescale(scale)?, more.rescale(scale)?);
    let sum = Decimal {
        unscaled: old.unscaled.checked_add(more.unscaled)?,
        scale,
    };
    Some(sum.rescale(scale)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn sums_are_exact_or_lost() {
        assert_eq!(sum(None, "0.10").as_deref(), Some("0.10"));
        assert_eq!(sum(Some("0.10"), "0.2").as_deref(), Some("0.30"));
        assert_eq!(
            sum(Some("99999999999999999999999999999999999999"), "1"),
            None
        );
        assert_eq!(sum(Some("1"), "NaN"), None);
    }
}
