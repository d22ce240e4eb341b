//! How the violations of an incident come.

use crate::change::Commit;

/// A violation's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Onset {
    /// The commit.
    pub commit: Commit,
    /// Its time in microseconds since the epoch.
    pub time: i64,
}

/// How violations come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// There is one.
    Single,
    /// All of them came in one commit, or within a second.
    Burst,
    /// They keep coming.
    Steady,
    /// They come faster than before.
    Growing,
    /// No more have come for long.
    Stopped,
}

impl Pace {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Pace::Single => "single",
            Pace::Burst => "burst",
            Pace::Steady => "steady",
            Pace::Growing => "growing",
            Pace::Stopped => "stopped",
        }
    }
}

const SECOND: i64 = 1_000_000;
/// The shortest silence that counts as an end.
const SILENCE: i64 = 300 * SECOND;
/// The fewest onsets that have a trend.
const TREND_MIN: i128 = 6;

/// The pace of onsets in the order of their commits, at a time; None without any. They have stopped when none came for ten times their mean
/// distance and five minutes; six or more grow when the last third of the time has more than one and a half times the rate of the rest.
pub fn pace(onsets: &[Onset], now: Option<i64>) -> Option<Pace> {
    let (first, rest) = onsets.split_first()?;
    if rest.is_empty() {
        return Some(Pace::Single);
    }
    let times = || onsets.iter().map(|onset| onset.time);
    let (begin, end) = (times().min()?, times().max()?);
    let span = end.saturating_sub(begin);
    if rest.iter().all(|onset| onset.commit == first.commit) || span <= SECOND {
        return Some(Pace::Burst);
    }
    let count = i128::try_from(onsets.len()).unwrap_or(i128::MAX);
    let mean = i128::from(span) / (count - 1);
    let silent = now.map_or(0, |now| i128::from(now) - i128::from(end));
    if silent > (10 * mean).max(SILENCE.into()) {
        return Some(Pace::Stopped);
    }
    let last_third = end.saturating_sub(span / 3);
    let late = times().filter(|time| *time > last_third).count();
    let late = i128::try_from(late).unwrap_or(i128::MAX);
    // late / (1/3) > 1.5 * (all - late) / (2/3)
    match count >= TREND_MIN && 4 * late > 3 * (count - late) {
        true => Some(Pace::Growing),
        false => Some(Pace::Steady),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: &[i64], now: i64) -> Option<&'static str> {
        let onsets: Vec<Onset> = seconds
            .iter()
            .enumerate()
            .map(|(at, second)| Onset {
                commit: at as Commit + 1,
                time: second * SECOND,
            })
            .collect();
        pace(&onsets, Some(now * SECOND)).map(Pace::as_str)
    }

    #[test]
    fn the_pace_of_onsets_is_told_from_their_times() {
        assert_eq!(at(&[], 0), None);
        assert_eq!(at(&[5], 1_000_000), Some("single"));
        assert_eq!(at(&[5, 6], 7), Some("burst"));
        let every_minute: Vec<i64> = (0..30).map(|minute| minute * 60).collect();
        assert_eq!(at(&every_minute, 29 * 60), Some("steady"));
        assert_eq!(at(&every_minute, 29 * 60 + 600), Some("steady"));
        assert_eq!(at(&every_minute, 29 * 60 + 601), Some("stopped"));
        assert_eq!(at(&[0, 2], 302), Some("steady"));
        assert_eq!(at(&[0, 2], 303), Some("stopped"));
        let faster = [0, 60, 120, 180, 190, 200, 210, 220, 230, 240];
        assert_eq!(at(&faster, 240), Some("growing"));
        let slower = [0, 10, 20, 30, 40, 50, 60, 120, 180, 240];
        assert_eq!(at(&slower, 240), Some("steady"));
    }

    #[test]
    fn one_commit_is_a_burst_and_odd_clocks_harm_nobody() {
        let one = |commit, time| Onset { commit, time };
        let now = Some(0);
        let same = [one(7, 0), one(7, 90 * SECOND)];
        assert_eq!(pace(&same, now), Some(Pace::Burst));
        let ends = [one(1, i64::MIN), one(2, i64::MAX), one(3, 0)];
        for clock in [None, Some(i64::MIN), Some(0), Some(i64::MAX)] {
            assert!(pace(&ends, clock).is_some());
        }
    }
}
