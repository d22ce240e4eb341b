//! What was not seen cannot be judged: rules that need what lies in a gap are unknown (invariant 5).
//!
//! A state after a gap is as good as any other. What happened in the gap is not known: writes that it hides, and when in it a violation
//! began. A violation that lasted from before a gap to after it may have healed and begun again inside.

use super::{JudgeError, Prepared, Work};
use crate::change::Commit;
use crate::rule::Check;
use crate::state::{Gap, History};

/// Views that hold what happened, not what is.
const RECORDED: [&str; 4] = ["changes", "writes", "steps", "firstbad"];

/// When an interval of a violation can have begun, where parts of the history were not seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// At the earliest.
    pub earliest: Commit,
    /// At the latest; the same where it is exact.
    pub latest: Commit,
    /// The gap that makes them differ; None where it is the time before the first state.
    pub gap: Option<Gap>,
}

impl Begun {
    /// For an interval that is seen from `onset` on to before `end`.
    pub fn of(history: &History, onset: Commit, end: Commit) -> Self {
        let gaps = history.gaps();
        let first_inside = gaps.partition_point(|gap| gap.to <= onset);
        let after = gaps.partition_point(|gap| gap.to < end);
        let inside = gaps.get(first_inside..after).and_then(<[Gap]>::last);
        let inside = inside.copied();
        let began_in = history.gap_ended_by(onset);
        let is_first = onset <= history.first;
        Begun {
            earliest: match began_in {
                Some(gap) => gap.from,
                None if is_first => 0,
                None => onset,
            },
            latest: match inside {
                Some(gap) => gap.to,
                None if is_first => history.first,
                None => onset,
            },
            gap: inside.or(began_in),
        }
    }

    /// A time at or after which it began, in microseconds: that of its commit, or of the last commit before the gap in which it began.
    pub fn earliest_time(&self, history: &History) -> Option<i64> {
        let unseen = history.unseen_in(self.earliest..=self.earliest);
        history.began(unseen.map_or(self.earliest, |gap| gap.before()))
    }

    /// Whether it began with a commit or later.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn is_since(&self, since: Commit, history: &History) -> Result<bool, String> {
        match (self.earliest >= since, self.latest >= since) {
            (true, _) => Ok(true),
            (_, false) => Ok(false),
            (false, true) => Err(match self.gap {
                Some(gap) => format!("{gap}, so it is not known what began since #{since}"),
                None => format!(
                    "the history begins at #{}, so it is not known what began since #{since}",
                    history.first
                ),
            }),
        }
    }
}

impl Prepared {
    /// The same rule, as far as violations count that begin with this commit or later.
    pub fn counting_since(&self, since: Commit) -> Prepared {
        Prepared {
            since: self.since.max(since),
            ..self.clone()
        }
    }

    /// Why the rule cannot be judged up to a position, because of what was not seen.
    pub(super) fn unseen(&self, history: &History, until: Commit) -> Option<String> {
        if let Some(gap) = history.unseen_at(until) {
            return Some(gap.hidden());
        }
        let reads = self.planned.iter().flat_map(|planned| &planned.reads);
        let mut schemas = reads.map(|read| read.schema.as_str());
        let from = match &self.rule.check {
            // A key may have been deleted long before it comes back.
            Check::NoResurrection => 1,
            check if check.judges_writes() => self.since.max(1),
            _ if schemas.any(|schema| RECORDED.contains(&schema)) => 1,
            _ => return None,
        };
        history.unseen_in(from..=until).map(|gap| gap.to_string())
    }
}

impl Work {
    /// Whether what is bad at the position since it began has used up its grace, and counts: it is a finding, or else still pending; None
    /// where it does not count. `onset` is None for what began before all that was looked at, and that was enough; `due` is the latest
    /// time at which a finding can have begun.
    pub(super) fn is_finding(
        &self,
        onset: Option<Commit>,
        due: Option<i64>,
    ) -> Result<Option<bool>, JudgeError> {
        let history = &self.history;
        let begun = Begun::of(history, onset.unwrap_or(0), self.options.position + 1);
        let counts = begun.is_since(self.rule.since, history);
        if !counts.map_err(JudgeError::Unknown)? {
            return Ok(None);
        }
        let Some(due) = due else {
            return Ok(Some(true));
        };
        if onset.is_none() && begun.gap.is_none() {
            return Ok(Some(true));
        }
        let latest = history.began(begun.latest).ok_or_else(|| {
            let commit = begun.latest;
            JudgeError::Unknown(format!(
                "commit #{commit} has no time, so `within` cannot be judged"
            ))
        })?;
        match begun.gap {
            _ if latest < due => Ok(Some(true)),
            Some(gap) if begun.earliest_time(history).is_none_or(|time| time < due) => {
                Err(JudgeError::Unknown(format!(
                    "{gap}, so it is not known since when violations have lasted"
                )))
            }
            _ => Ok(Some(false)),
        }
    }

    /// Nothing, where all was seen that the rule needs.
    pub(super) fn seen(&self) -> Result<(), JudgeError> {
        let unseen = self.rule.unseen(&self.history, self.options.position);
        unseen.map_or(Ok(()), |reason| Err(JudgeError::Unknown(reason)))
    }
}

#[cfg(test)]
mod tests;
