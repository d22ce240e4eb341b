//! What vouches for the evidence: the place of the first bad write in the store's chain, and what the store has not seen.

use crate::change::Commit;
use crate::state::{Gap, History};
use crate::store::{Covered, Hash, Store};

/// How a store can prove later what it says now.
#[derive(Clone, Debug)]
pub struct Proof {
    /// The head of its chain.
    pub head: Hash,
    /// How many seals it has.
    pub seals: u64,
    /// When the last was sealed, in microseconds since the epoch.
    pub sealed: Option<i64>,
    /// The segment that holds the first bad write; None while it is not sealed, or is not kept any more.
    pub segment: Option<Segment>,
    /// The last snapshot before the first bad write, and the first after it.
    pub snapshots: Vec<Snapshot>,
    /// Which commits it has.
    pub coverage: Vec<Covered>,
    /// Commits that were not seen one by one.
    pub gaps: Vec<Gap>,
    /// When the store was last verified, the head then, and whether something was wrong.
    pub verified: Option<(i64, Option<Hash>, bool)>,
    /// The version of the program.
    pub version: &'static str,
}

/// Sealed files with the changes of a range of commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The first commit.
    pub from: Commit,
    /// The last one.
    pub to: Commit,
    /// The number of the seal that vouches for it.
    pub seal: u64,
    /// The hash of that seal.
    pub hash: Option<Hash>,
    /// Its files: path, bytes, hash.
    pub files: Vec<(String, u64, Hash)>,
}

/// A sealed state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The commit.
    pub at: Commit,
    /// How many rows it has.
    pub rows: u64,
    /// The fingerprint of the state.
    pub fingerprint: Hash,
}

pub(super) fn proof(store: &Store, history: &History, first_bad: Option<Commit>) -> Proof {
    let (chain, ledger) = (store.chain(), store.ledger());
    let snapshots = first_bad.map_or_else(Vec::new, |commit| {
        let before = ledger.snapshots.range(..commit).next_back();
        let after = ledger.snapshots.range(commit..).next();
        before.into_iter().chain(after).collect()
    });
    let snapshots = snapshots.into_iter().map(|(&at, kept)| Snapshot {
        at,
        rows: kept.rows,
        fingerprint: kept.fingerprint,
    });
    Proof {
        head: chain.head(),
        seals: chain.seals.len() as u64,
        sealed: ledger.sealed,
        segment: first_bad.and_then(|commit| segment(store, commit)),
        snapshots: snapshots.collect(),
        coverage: ledger.coverage(),
        gaps: history.gaps().to_vec(),
        verified: store.last_verified().map(|verified| {
            let damaged = verified.damage > 0;
            (verified.time, verified.head, damaged)
        }),
        version: env!("CARGO_PKG_VERSION"),
    }
}

fn segment(store: &Store, commit: Commit) -> Option<Segment> {
    let ledger = store.ledger();
    let (_, stretch) = ledger.segments.range(..=commit).next_back()?;
    if stretch.to < commit {
        return None;
    }
    let files: Vec<(String, u64, Hash)> = ledger
        .segment_files(stretch)
        .map(|(_, sealed)| (sealed.path.clone(), sealed.bytes, sealed.blake3))
        .collect();
    let seal = files
        .first()
        .and_then(|(path, ..)| ledger.files.get(path))?
        .seal;
    let hash = store
        .chain()
        .seals
        .iter()
        .find(|(one, ..)| one.seal == seal);
    Some(Segment {
        from: stretch.from,
        to: stretch.to,
        seal,
        hash: hash.map(|(_, hash, _)| *hash),
        files,
    })
}
