//! What became of a violation under `within`: whether it was overdue, healed in time, or still has time.
//!
//! A gap in the history may hide when a violation began or healed, and whether it did both inside. What is the same for everything that can
//! have happened there is said; the rest is not known.

use crate::change::Commit;
use crate::judge::{Begun, Life};
use crate::state::History;

/// What became of a life under `within`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grace {
    /// It is a finding, since this time; the latest that is possible where it began in a gap.
    Overdue(i64),
    /// It healed in time.
    Healed,
    /// It still has time.
    Pending,
}

/// A violation is a finding when no commit at or before its deadline heals it, and now is after that. `bad` is the position that is judged.
///
/// # Errors
/// Why that is not known.
pub(super) fn grace(
    life: &Life,
    history: &History,
    (within, now): (i64, i64),
    bad: Commit,
) -> Result<Grace, String> {
    let timed = |commit: Commit, time: Option<i64>| {
        time.ok_or_else(|| format!("commit #{commit} has no time, so `within` cannot be judged"))
    };
    let began = |commit: Commit| timed(commit, history.began(commit));
    let deadline = began(life.onset)?.saturating_add(within);
    let healed = match life.healed {
        Some(commit) => timed(commit, history.meta(commit).and_then(|meta| meta.time))?,
        None => i64::MAX,
    };
    let begun = Begun::of(history, life.onset, life.healed.unwrap_or(bad + 1));
    let ended_in = life.healed.and_then(|commit| history.gap_ended_by(commit));
    let Some(gap) = begun.gap.or(ended_in) else {
        return Ok(outcome(deadline, healed, now));
    };
    // Whatever it did inside a gap, a heal that comes by then comes in time.
    let earliest = begun.earliest_time(history);
    let earliest = timed(begun.earliest, earliest)?.saturating_add(within);
    let kind = outcome(earliest, healed, now);
    if !matches!(kind, Grace::Overdue(_)) {
        return Ok(kind);
    }
    // From its onset to the next gap it was bad in every state.
    let next = history.unseen_in(life.onset + 1..=life.healed.unwrap_or(bad));
    let sure_until = match next {
        Some(gap) => began(gap.before())?,
        None => healed,
    };
    let is_last_sure = life.healed.is_some() || began(begun.latest)?.saturating_add(within) < now;
    if deadline < sure_until.min(now) && is_last_sure {
        return Ok(Grace::Overdue(deadline));
    }
    Err(format!(
        "{gap}, so it is not known whether a violation healed within its grace"
    ))
}

fn outcome(deadline: i64, healed: i64, now: i64) -> Grace {
    if healed != i64::MAX && healed <= deadline {
        return Grace::Healed;
    }
    match (now > deadline, healed == i64::MAX) {
        (true, _) => Grace::Overdue(deadline),
        (false, true) => Grace::Pending,
        (false, false) => Grace::Healed,
    }
}
