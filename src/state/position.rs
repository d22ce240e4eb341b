//! Names of positions: `latest`, `#1207`, an LSN, a time, an age, the name of a dated snapshot.

use super::History;
use crate::change::{Commit, TransactionMeta};
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
    /// The position that a text names. Ages count back from `now_us`, else from the last commit's time. It may lie in a gap:
    /// [`History::unseen_at`] tells.
    ///
    /// # Errors
    /// What is wrong with the text, or with this history for such a text; lower case, no full stop.
    pub fn resolve(&self, text: &str, now_us: Option<i64>) -> Result<Resolved, String> {
        let resolved = self.meaning(text, now_us)?;
        if resolved.position < self.first {
            return Err(format!(
                "`{}` lies before the first state that is known: the history begins at #{}",
                text.trim(),
                self.first
            ));
        }
        Ok(resolved)
    }

    /// The first commit that does not lie before what a text names, as [`History::resolve`] has it; it may lie before the first position.
    ///
    /// # Errors
    /// As for [`History::resolve`].
    pub fn since(&self, text: &str, now_us: Option<i64>) -> Result<Commit, String> {
        Ok(self.meaning(text, now_us)?.first_at_or_after)
    }

    fn meaning(&self, text: &str, now_us: Option<i64>) -> Result<Resolved, String> {
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
            return Some(self.first);
        }
        let base = self.base.snapshot.as_deref() == Some(name);
        let mut commits = self.commits();
        let found = commits.find(|(_, meta)| meta.snapshot.as_deref() == Some(name));
        found
            .map(|(commit, _)| commit)
            .or(base.then_some(self.first))
    }

    fn at_lsn(&self, lsn: u64) -> Result<Resolved, String> {
        let place = |meta: &TransactionMeta| meta.lsn.as_deref().and_then(parse_lsn);
        self.around(place, lsn)
            .ok_or_else(|| "the source has no LSNs".into())
    }

    fn at_time(&self, time: i64) -> Result<Resolved, String> {
        self.around(|meta| meta.time, time)
            .ok_or_else(|| "the source has no times".into())
    }

    /// The last commit whose attribute is not after a value, and the first whose attribute is not before it; None where no commit has one.
    /// A value between that of the last commit before a gap and that of the gap's end is a position inside the gap.
    fn around<T: Ord>(
        &self,
        attribute: impl Fn(&TransactionMeta) -> Option<T>,
        wanted: T,
    ) -> Option<Resolved> {
        let base = attribute(&self.base).map(|have| (self.first, have));
        let commits = self.commits();
        let known = commits.filter_map(|(commit, meta)| Some((commit, attribute(meta)?)));
        let mut resolved = None;
        let (mut is_after, mut is_exact) = (false, false);
        for (commit, have) in base.into_iter().chain(known) {
            let found = resolved.get_or_insert(Resolved {
                position: 0,
                first_at_or_after: self.head().saturating_add(1),
            });
            if have <= wanted {
                found.position = commit;
                is_exact = have == wanted;
            }
            if have >= wanted && !is_after {
                found.first_at_or_after = commit;
                is_after = true;
            }
        }
        let mut resolved: Resolved = resolved?;
        let next = resolved.position.saturating_add(1);
        if let Some(gap) = self.unseen_at(next).filter(|_| !is_exact)
            && next == gap.from
        {
            resolved.position = next;
        }
        Some(resolved)
    }

    /// The position at an instant: after the last commit that was not later. It may lie in a gap.
    pub fn position_at(&self, instant_us: i64) -> Commit {
        self.at_time(instant_us)
            .map_or(0, |resolved| resolved.position)
            .max(self.first)
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
