//! How many keys of an incident were bad, commit by commit.

use std::collections::BTreeMap;

use super::bundle::Case;
use crate::change::Commit;
use crate::state::History;

/// The most moments that are kept; of more, evenly spaced ones.
const MOMENTS_MAX: usize = 2_000;

/// After a commit that made keys bad or healed some.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The commit.
    pub commit: Commit,
    /// Its time in microseconds, where it is known.
    pub time: Option<i64>,
    /// How many keys became bad by it.
    pub began: u64,
    /// How many it healed.
    pub healed: u64,
    /// How many are bad after it; of checks of writes, how many were written up to it.
    pub bad: u64,
}

/// The course of an incident.
pub(super) fn course(history: &History, case: &Case<'_>) -> Vec<Moment> {
    let mut turns: BTreeMap<Commit, (u64, u64)> = BTreeMap::new();
    for key in case.keys {
        turns.entry(key.onset.max(history.first)).or_default().0 += 1;
        if let Some(healed) = key.healed {
            turns.entry(healed).or_default().1 += 1;
        }
    }
    let mut bad = 0u64;
    let all: Vec<Moment> = turns
        .into_iter()
        .map(|(commit, (began, healed))| {
            bad = (bad + began).saturating_sub(healed);
            Moment {
                commit,
                time: history.meta(commit).and_then(|meta| meta.time),
                began,
                healed,
                bad,
            }
        })
        .collect();
    thinned(all)
}

/// Evenly spaced ones of too many, the first and the last among them; what was between them is counted with the next.
fn thinned(all: Vec<Moment>) -> Vec<Moment> {
    if all.len() <= MOMENTS_MAX {
        return all;
    }
    let step = all.len().div_ceil(MOMENTS_MAX);
    let (mut out, mut began, mut healed) = (Vec::new(), 0, 0);
    let last = all.len() - 1;
    for (at, moment) in all.into_iter().enumerate() {
        began += moment.began;
        healed += moment.healed;
        if at % step == 0 || at == last {
            out.push(Moment {
                began,
                healed,
                ..moment
            });
            (began, healed) = (0, 0);
        }
    }
    out
}
