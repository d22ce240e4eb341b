//! The chain: one line of JSON a seal, each with the hash of the one before. A seal vouches for files, byte for byte, and so for all that
//! was sealed before it.
//!
//! A line ends with `,"hash":"<64 digits>"}` and a line feed. The hash is BLAKE3 in its key-derivation mode over the bytes of the line
//! before that, among which is the hash of the previous seal.

use serde::{Deserialize, Serialize};

use super::disk::Disk;
use super::hash::{Hash, Hasher};
use crate::change::Commit;

/// The file of the chain.
pub const CHAIN: &str = "chain";
/// The longest chain that is read.
pub(super) const CHAIN_BYTES_MAX: u64 = 4 << 30;

const CONTEXT: &str = "firstbad 2026-11 seal of a store, version 1";
const HASH_KEY: &str = ",\"hash\":\"";
/// `,"hash":"`, the digits, `"}`.
const TAIL_BYTES: usize = HASH_KEY.len() + 64 + 2;
/// The hash before the first one.
const NOTHING: [u8; 32] = [0; 32];
/// How many bytes of a file a block has: where a byte is wrong is told by blocks.
pub const BLOCK_BYTES: usize = 64 << 10;

/// Bytes whose hash was compared with the sealed one. Only [`Sealed::vouch`] makes them, and what reads files takes nothing else: so no
/// reader of Parquet or JSON ever sees other bytes.
#[derive(Debug)]
pub(super) struct Vouched(Vec<u8>);

impl Vouched {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// A file that a seal vouches for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// Its path in the store.
    pub path: String,
    /// How many bytes it has.
    pub bytes: u64,
    /// Their hash.
    pub blake3: Hash,
    /// For a file of more than one block: the first 16 digits of the hash of each, to tell where a byte is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<String>,
}

impl Sealed {
    /// What is to be said of a file's bytes.
    pub fn of(path: impl Into<String>, bytes: &[u8]) -> Sealed {
        Sealed {
            path: path.into(),
            bytes: bytes.len() as u64,
            blake3: Hash::of(bytes),
            blocks: blocks_of(bytes),
        }
    }

    /// These bytes, when they are the ones that were sealed; else they are given back.
    pub(super) fn vouch(&self, bytes: Vec<u8>) -> Result<Vouched, Vec<u8>> {
        if self.holds(&bytes) {
            Ok(Vouched(bytes))
        } else {
            Err(bytes)
        }
    }

    /// Whether these are the bytes that were sealed.
    pub fn holds(&self, bytes: &[u8]) -> bool {
        self.bytes == bytes.len() as u64 && Hash::of(bytes) == self.blake3
    }

    /// Whether a file has the bytes that were sealed, without holding it in memory.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn is_at(&self, disk: &dyn Disk, path: &str) -> std::io::Result<bool> {
        let mut hasher = Hasher::default();
        disk.stream(path, self.bytes, &mut |piece| hasher.update(piece))?;
        Ok(hasher.bytes() == self.bytes && hasher.finish() == self.blake3)
    }

    /// The range of bytes, end excluded, in which wrong bytes differ from the sealed ones, as narrow as the blocks tell.
    pub fn differs_in(&self, bytes: &[u8]) -> (u64, u64) {
        let end = self.bytes.max(bytes.len() as u64);
        let found = blocks_of(bytes);
        let wrong = |at: &usize| self.blocks.get(*at) != found.get(*at);
        let count = self.blocks.len().max(found.len());
        let first = (0..count).find(wrong);
        let last = (0..count).rev().find(wrong);
        match (first, last) {
            (Some(first), Some(last)) if !self.blocks.is_empty() && !found.is_empty() => {
                let start = (first * BLOCK_BYTES) as u64;
                (start, (((last + 1) * BLOCK_BYTES) as u64).min(end))
            }
            _ => (0, end),
        }
    }
}

fn blocks_of(bytes: &[u8]) -> Vec<String> {
    if bytes.len() <= BLOCK_BYTES {
        return Vec::new();
    }
    let block = |block: &[u8]| Hash::of(block).to_string()[..16].to_owned();
    bytes.chunks(BLOCK_BYTES).map(block).collect()
}

/// A stretch of commits and what is known of when it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stretch {
    /// The first commit.
    pub from: Commit,
    /// The last one.
    pub to: Commit,
    /// Whether only the state after `to` was seen: the changes are the differences between two states.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unseen: bool,
    /// How many changes there are.
    pub changes: u64,
    /// LSN of the first transaction that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lsn_from: Option<String>,
    /// LSN of the last transaction that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lsn_to: Option<String>,
    /// Time of the first transaction that has one, in microseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_from: Option<i64>,
    /// Time of the last transaction that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_to: Option<i64>,
}

/// What was sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Act {
    /// The store was made.
    Begin,
    /// A segment of changes.
    Changes(Stretch),
    /// A snapshot of the state after a commit.
    Snapshot {
        /// The commit.
        at: Commit,
        /// How many rows it has.
        rows: u64,
        /// The fingerprint of the state.
        fingerprint: Hash,
        /// The time of the commit in microseconds since the epoch, where it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time: Option<i64>,
    },
    /// Neighbouring segments became one.
    Merge(Stretch),
    /// What is older than a snapshot went, or snapshots went.
    Retain {
        /// The first position that is left.
        first: Commit,
        /// The commits of the snapshots that went.
        snapshots: Vec<Commit>,
    },
}

/// One line of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// Its number, from 1.
    pub seal: u64,
    /// When it was sealed, in microseconds since the epoch.
    pub time: i64,
    /// The hash of the seal before it; zeros for the first.
    pub previous: Hash,
    /// What was sealed.
    pub act: Act,
    /// Files that came.
    pub files: Vec<Sealed>,
    /// Paths of files that went.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
}

impl Seal {
    /// Whether its paths stay in the store and its commits are numbers of commits: whoever makes a chain of his own can write anything.
    fn is_sound(&self) -> bool {
        let is_commit = |commit: Commit| commit < Commit::MAX;
        let acts = match &self.act {
            Act::Begin => true,
            Act::Changes(stretch) | Act::Merge(stretch) => {
                (1..=stretch.to).contains(&stretch.from) && is_commit(stretch.to)
            }
            Act::Snapshot { at, .. } => is_commit(*at),
            Act::Retain { first, .. } => is_commit(*first),
        };
        let files = self.files.iter().map(|file| &file.path);
        acts && files.chain(&self.removed).all(|path| is_inside(path))
    }

    /// The line of the seal, and its hash.
    pub(super) fn line(&self) -> (String, Hash) {
        let mut line = serde_json::to_string(self).expect("a seal is plain data");
        let closing = line.pop();
        debug_assert_eq!(closing, Some('}'), "an object");
        let hash = Hash::derived(CONTEXT, line.as_bytes());
        line.push_str(&format!("{HASH_KEY}{hash}\"}}\n"));
        (line, hash)
    }
}

/// Whether a path leads to a file in the store.
fn is_inside(path: &str) -> bool {
    let is_name =
        |name: &str| !matches!(name, "" | "." | "..") && !name.contains(['\\', '\0', ':']);
    path.split('/').all(is_name)
}

/// What stands in the file of the chain.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// The seals in order, each with its hash and the offset of its line.
    pub seals: Vec<(Seal, Hash, u64)>,
    /// The bytes of the lines that are whole.
    pub whole: u64,
    /// What follows them, or is wrong with them.
    pub broken: Option<Broken>,
}

/// A line of the chain that is not what was sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Offset of the first byte.
    pub from: u64,
    /// Offset behind the last byte of the line; where no whole line follows it, behind the last byte of the file.
    pub to: u64,
    /// What is wrong.
    pub problem: &'static str,
    /// Whether whole lines follow it: then it cannot be the unfinished end of a write.
    pub inside: bool,
}

impl Chain {
    /// Reads a chain as far as it is whole.
    pub fn parse(bytes: &[u8]) -> Chain {
        let mut chain = Chain::default();
        while (chain.whole as usize) < bytes.len() {
            let from = chain.whole as usize;
            let rest = &bytes[from..];
            let end = rest.iter().position(|&byte| byte == b'\n');
            let line = &rest[..end.unwrap_or(rest.len())];
            let parsed = match end {
                Some(_) => chain.next(line),
                None => Err("the line is not finished"),
            };
            let to = from + line.len() + usize::from(end.is_some());
            match parsed {
                Ok((seal, hash)) => {
                    chain.seals.push((seal, hash, from as u64));
                    chain.whole = to as u64;
                }
                Err(problem) => {
                    let mut later = bytes[to..].split(|&byte| byte == b'\n');
                    let inside = later.any(|line| body(line).is_ok());
                    chain.broken = Some(Broken {
                        from: from as u64,
                        to: if inside { to } else { bytes.len() } as u64,
                        problem,
                        inside,
                    });
                    break;
                }
            }
        }
        chain
    }

    fn next(&self, line: &[u8]) -> Result<(Seal, Hash), &'static str> {
        let (body, hash) = body(line)?;
        let mut text = body.to_vec();
        text.push(b'}');
        let seal: Seal = serde_json::from_slice(&text).map_err(|_| "the line is not a seal")?;
        if !seal.is_sound() {
            return Err("the seal is none that firstbad writes");
        }
        if seal.previous != self.head() || seal.seal != self.seals.len() as u64 + 1 {
            return Err("the seal does not follow the one before it");
        }
        Ok((seal, hash))
    }

    /// The hash of the last seal; zeros when there is none.
    pub fn head(&self) -> Hash {
        let last = self.seals.last();
        last.map_or(Hash::from(NOTHING), |(_, hash, _)| *hash)
    }
}

/// What stands before the hash of a line, and the hash, which is right.
fn body(line: &[u8]) -> Result<(&[u8], Hash), &'static str> {
    let body = line.len().checked_sub(TAIL_BYTES);
    let (body, tail) = line.split_at(body.ok_or("the line is not a seal")?);
    let digits = std::str::from_utf8(tail)
        .ok()
        .and_then(|tail| tail.strip_prefix(HASH_KEY)?.strip_suffix("\"}"));
    let hash = digits
        .and_then(Hash::parse)
        .ok_or("the line does not end with a hash")?;
    if Hash::derived(CONTEXT, body) == hash {
        Ok((body, hash))
    } else {
        Err("the line is not the one that was sealed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> String {
        let mut chain = Chain::default();
        let mut text = String::new();
        let acts = [
            Act::Begin,
            Act::Changes(Stretch {
                from: 1,
                to: 7,
                changes: 12,
                lsn_to: Some("0/16B3748".into()),
                ..Stretch::default()
            }),
            Act::Retain {
                first: 7,
                snapshots: vec![0],
            },
        ];
        for (at, act) in (1..).zip(acts) {
            let seal = Seal {
                seal: at,
                time: 1_773_331_431_221_000,
                previous: chain.head(),
                act,
                files: vec![Sealed::of("segments/1-7/orders.parquet", b"rows")],
                removed: Vec::new(),
            };
            let (line, hash) = seal.line();
            chain.seals.push((seal, hash, text.len() as u64));
            text.push_str(&line);
        }
        assert_eq!(Chain::parse(text.as_bytes()).seals, chain.seals);
        text
    }

    #[test]
    fn every_wrong_byte_of_a_chain_is_found_in_its_line() {
        let text = chain();
        let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
        for at in 0..text.len() {
            for flip in [1u8, 0x20, 0x80] {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= flip;
                let found = Chain::parse(&bytes);
                let broken = found.broken.expect("a byte is wrong");
                let line = ends.iter().filter(|&&end| end <= at).count();
                assert_eq!(found.seals.len(), line, "byte {at}");
                assert!(broken.from <= at as u64 && (at as u64) < broken.to);
            }
        }
    }

    #[test]
    fn lines_that_are_missing_repeated_or_swapped_break_it() {
        let text = chain();
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for wrong in [
            vec![lines[1], lines[2]],
            vec![lines[0], lines[2]],
            vec![lines[0], lines[1], lines[1]],
            vec![lines[0], lines[2], lines[1]],
        ] {
            assert!(Chain::parse(wrong.concat().as_bytes()).broken.is_some());
        }
        for cut in 0..text.len() {
            let found = Chain::parse(&text.as_bytes()[..cut]);
            let at_end = cut == 0 || text.as_bytes()[cut - 1] == b'\n';
            assert_eq!(found.broken.is_none(), at_end, "cut after {cut} bytes");
        }
    }

    #[test]
    fn a_chain_that_somebody_made_leads_nowhere_else() {
        let with = |act: Act, path: &str| {
            let seal = Seal {
                seal: 1,
                time: 0,
                previous: Chain::default().head(),
                act,
                files: vec![Sealed::of(path, b"rows")],
                removed: Vec::new(),
            };
            Chain::parse(seal.line().0.as_bytes()).broken.is_none()
        };
        assert!(with(Act::Begin, "segments/1-7/0-orders.parquet"));
        for path in [
            "/dev/zero",
            "../orders",
            "a/../../b",
            "a//b",
            "",
            "./a",
            "a\\b",
        ] {
            assert!(!with(Act::Begin, path), "{path}");
        }
        for (from, to) in [(0, 1), (2, 1), (1, Commit::MAX)] {
            let stretch = Stretch {
                from,
                to,
                ..Stretch::default()
            };
            assert!(!with(Act::Changes(stretch), "a"), "{from} to {to}");
        }
    }

    #[test]
    fn a_wrong_byte_is_located_to_its_block() {
        let bytes: Vec<u8> = (0..BLOCK_BYTES * 3 + 10).map(|at| at as u8).collect();
        let sealed = Sealed::of("objects/aa/aa.parquet", &bytes);
        for at in [0, BLOCK_BYTES - 1, BLOCK_BYTES, bytes.len() - 1] {
            let mut wrong = bytes.clone();
            wrong[at] ^= 4;
            assert!(!sealed.holds(&wrong));
            let (from, to) = sealed.differs_in(&wrong);
            assert!(from <= at as u64 && (at as u64) < to && to - from <= BLOCK_BYTES as u64);
        }
        let cut = &bytes[..bytes.len() - 1];
        assert_eq!(sealed.differs_in(cut).1, bytes.len() as u64);
    }
}
