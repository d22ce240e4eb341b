//! Which transactions a snapshot shows: exactly, by their ids.
//!
//! A position of the log does not say that. A transaction is in the log some time before others see it, and while its commit waits for a
//! standby that may be long; and transactions become visible in another order than that of the log. The snapshot itself says which were running,
//! and which had not begun; of what was committed, it shows all others.

use std::collections::BTreeSet;

use super::PostgresError;

/// What a snapshot shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visibility {
    /// The first id that was not given out yet, as the server counts: without wrapping around.
    next: u64,
    /// Transactions that were running.
    running: BTreeSet<u64>,
}

impl Visibility {
    /// Reads what `txid_current_snapshot()` says: `xmin:xmax:xid,xid,…`.
    ///
    /// # Errors
    /// When it says something else.
    pub fn parse(text: &str) -> Result<Visibility, PostgresError> {
        let odd =
            || PostgresError::protocol("the server describes a snapshot otherwise than it should");
        let number = |text: &str| text.parse::<u64>().map_err(|_| odd());
        let parts: Vec<&str> = text.split(':').collect();
        let [_, next, running] = parts.as_slice() else {
            return Err(odd());
        };
        let running = running.split(',').filter(|text| !text.is_empty());
        Ok(Visibility {
            next: number(next)?,
            running: running.map(number).collect::<Result<_, _>>()?,
        })
    }

    /// Whether a transaction that was committed is visible. The log has the lower half of its id: the upper one is that which brings it next to
    /// the snapshot, so it must not be two thousand million transactions older or younger.
    pub fn shows(&self, xid: u64) -> bool {
        let near = |a: u64| a & 0xFFFF_FFFF;
        let distance = near(self.next).wrapping_sub(near(xid)) & 0xFFFF_FFFF;
        // What is not older than the next one lies in the other half of the circle.
        let is_older = (1..1 << 31).contains(&distance);
        is_older
            && !self
                .running
                .iter()
                .any(|&running| near(running) == near(xid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_shows_what_was_committed_and_not_running() {
        let seen = Visibility::parse("100:110:100,105").expect("a snapshot");
        let shown: Vec<u64> = (95..115).filter(|&xid| seen.shows(xid)).collect();
        assert_eq!(
            shown,
            [95, 96, 97, 98, 99, 101, 102, 103, 104, 106, 107, 108, 109]
        );
        let quiet = Visibility::parse("7:7:").expect("a snapshot");
        assert!(quiet.shows(6) && !quiet.shows(7) && !quiet.shows(8));
    }

    #[test]
    fn ids_wrap_around() {
        let wrap = 1u64 << 32;
        let seen =
            Visibility::parse(&format!("{}:{}:{}", wrap - 2, wrap + 3, wrap - 2)).expect("one");
        assert!(seen.shows(wrap - 1) && seen.shows(0) && seen.shows(2));
        assert!(!seen.shows(wrap - 2) && !seen.shows(3) && !seen.shows(4));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "1:2", "1:2:3:4", "a:b:c", "1:2:x", "1:-2:"] {
            assert!(Visibility::parse(text).is_err(), "{text}");
        }
    }
}
