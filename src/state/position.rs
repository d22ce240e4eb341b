//! Names of positions: `latest`, `#1207`, an LSN, a time, an age, the name of a dated snapshot.

use super::History;
use crate::change::Commit;
use crate::rule::parse_duration;
use crate::schema::value;

/// What a position's name means in a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The position: after this commit.
    pub position: Commit,
    /// The first commit that does not lie before what was named.
    pub first_at_or_after: Commit,
}

impl Resolved {
    fn commit(commit: Commit) -> Self {
        Resolved {
            position: commit,
            first_at_or_after: commit,
        }
    }
}

impl History {
    /// The position that a text names. Ages count back from `now_us`, else from the last commit's time.
    ///
    /// # Errors
    /// What is wrong with the text, or with this history for such a text; lower case, no full stop.
    pub fn resolve(&self, text: &str, now_us: Option<i64>) -> Result<Resolved, String> {
        let text = text.trim();
        if text == "latest" {
            return Ok(Resolved::commit(self.head()));
        }
        if let Some(commit) = self.snapshot(text) {
            return Ok(Resolved::commit(commit));
        }
        if let Some(number) = text.strip_prefix('#') {
            let commit: Commit = number
                .parse()
                .map_err(|_| format!("`{text}` is no commit; write e.g. #1207"))?;
            if commit > self.head() {
                return Err(format!(
                    "there is no commit #{commit}: the history ends at #{}",
                    self.head()
                ));
            }
            return Ok(Resolved::commit(commit));
        }
        if let Some(age) = text
            .strip_prefix('-')
            .and_then(|age| parse_duration(age).ok())
        {
            let now = now_us.or_else(|| self.now_at(self.head()));
            let now =
                now.ok_or("the source has no times, so an age means nothing: give --now TIME")?;
            return self.at_time(now.saturating_sub(age));
        }
        if let Some(lsn) = parse_lsn(text) {
            return self.at_lsn(lsn);
        }
        // Among snapshots without times, a date is the name of one that is not there.
        let timed = self.first_snapshot.is_none()
            || self.transactions.iter().any(|meta| meta.time.is_some());
        if let Some(time) = value::parse_timestamp(text).filter(|_| timed) {
            return self.at_time(time);
        }
        let names = match &self.first_snapshot {
            Some(first) => {
                let others = self
                    .transactions
                    .iter()
                    .filter_map(|meta| meta.snapshot.as_deref());
                let all: Vec<&str> = [first.as_str()].into_iter().chain(others).collect();
                format!("; the snapshots are {}", all.join(", "))
            }
            None => String::new(),
        };
        Err(format!(
            "`{text}` is no position: write latest, a commit (#1207), an LSN (0/16B3748), an RFC 3339 time, an age (-10m) \
             or the name of a dated snapshot{names}"
        ))
    }

    fn snapshot(&self, name: &str) -> Option<Commit> {
        if self.first_snapshot.as_deref() == Some(name) {
            return Some(0);
        }
        let at = self
            .transactions
            .iter()
            .position(|meta| meta.snapshot.as_deref() == Some(name))?;
        Commit::try_from(at + 1).ok()
    }

    fn at_lsn(&self, lsn: u64) -> Result<Resolved, String> {
        let lsns: Vec<Option<u64>> = self
            .transactions
            .iter()
            .map(|meta| meta.lsn.as_deref().and_then(parse_lsn))
            .collect();
        if lsns.iter().all(Option::is_none) {
            return Err("the source has no LSNs".into());
        }
        let last = lsns
            .iter()
            .rposition(|have| have.is_some_and(|have| have <= lsn));
        let first = lsns
            .iter()
            .position(|have| have.is_some_and(|have| have >= lsn));
        Ok(self.between(last, first))
    }

    fn at_time(&self, time: i64) -> Result<Resolved, String> {
        if self.transactions.iter().all(|meta| meta.time.is_none()) {
            return Err("the source has no times".into());
        }
        let last = self
            .transactions
            .iter()
            .rposition(|meta| meta.time.is_some_and(|have| have <= time));
        let first = self
            .transactions
            .iter()
            .position(|meta| meta.time.is_some_and(|have| have >= time));
        Ok(self.between(last, first))
    }

    fn between(&self, last: Option<usize>, first: Option<usize>) -> Resolved {
        let commit = |at: usize| Commit::try_from(at + 1).unwrap_or(Commit::MAX);
        Resolved {
            position: last.map_or(0, commit),
            first_at_or_after: first.map_or(self.head().saturating_add(1), commit),
        }
    }

    /// The position at an instant: after the last commit that was not later.
    pub fn position_at(&self, instant_us: i64) -> Commit {
        self.at_time(instant_us)
            .map_or(0, |resolved| resolved.position)
    }
}

/// An LSN as a number: `0/16B3748`.
pub fn parse_lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    let hex = |part: &str| {
        let plain =
            !part.is_empty() && part.len() <= 8 && part.bytes().all(|b| b.is_ascii_hexdigit());
        plain.then(|| u64::from_str_radix(part, 16).ok()).flatten()
    };
    Some((hex(high)? << 32) | hex(low)?)
}
