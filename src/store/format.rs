//! `FORMAT`: what a store is, written once when it is made; and the names of its files.

use serde::{Deserialize, Serialize};

use super::error::StoreError;

use crate::change::{Commit, now_us};
use crate::schema::{Schema, Table};
use crate::state::{LEVELS, Origin};

/// The file that says what a store is.
pub const FORMAT: &str = "FORMAT";
/// The newest format version that is read, and the one that is written.
pub const VERSION: u64 = 1;
/// Where files lie until they are sealed and moved to their places, and before they are removed.
pub(super) const UNSEALED: &str = "unsealed";
/// Where segments lie.
pub(super) const SEGMENTS: &str = "segments";
/// Where the manifests of snapshots lie.
pub(super) const SNAPSHOTS: &str = "snapshots";
/// Where chunks of snapshots lie.
pub(super) const OBJECTS: &str = "objects";
/// What `verify` found last.
pub(super) const VERIFIED: &str = "verified";
/// What the file's `format` says.
const NAME: &str = "firstbad store";
/// The largest `FORMAT` that is read.
pub(super) const FORMAT_BYTES_MAX: u64 = 64 << 20;
/// How many letters of a table's name stand in a file's name.
const NAME_BYTES_MAX: usize = 60;

/// Where a store's changes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Recorded transactions.
    Changes,
    /// Differences between snapshots.
    Snapshots,
}

impl Kind {
    /// The kind of a history.
    pub fn of(origin: Origin) -> Kind {
        match origin {
            Origin::Changes | Origin::SnapshotOnly => Kind::Changes,
            Origin::SingleState | Origin::DatedSnapshots => Kind::Snapshots,
        }
    }
}

/// What a store is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Format {
    /// Always the same words.
    format: String,
    /// The format version.
    pub version: u64,
    /// When it was made, in microseconds since the epoch.
    pub created: i64,
    /// What it was made from, as the user named it.
    pub source: String,
    /// Where its changes come from.
    pub kind: Kind,
    /// Whether there was no snapshot at the beginning: rows may be met that no insert explains.
    pub partial_start: bool,
    /// The level of the fingerprints' tree at which snapshots are cut into chunks.
    pub chunk_level: u8,
    /// The tables.
    pub schema: Schema,
}

impl Format {
    /// A new store's.
    pub fn new(source: &str, kind: Kind, schema: Schema, partial_start: bool) -> Format {
        Format {
            format: NAME.into(),
            version: VERSION,
            created: now_us(),
            source: source.into(),
            kind,
            partial_start,
            chunk_level: 2,
            schema,
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a format is plain data");
        bytes.push(b'\n');
        bytes
    }

    /// Reads the file. A newer version is told from a damaged file: it says so itself.
    pub(super) fn parse(bytes: &[u8]) -> Result<Format, StoreError> {
        let damaged = || {
            let range = (0, bytes.len() as u64);
            StoreError::damaged(
                FORMAT,
                range,
                "it does not say what it should",
                "the whole store",
            )
        };
        if let Some(newer) = Format::newer(bytes) {
            return Err(newer);
        }
        let format: Format = serde_json::from_slice(bytes).map_err(|_| damaged())?;
        let tables = &format.schema.tables;
        let sound =
            format.format == NAME && format.chunk_level < LEVELS && tables.iter().all(is_sound);
        if sound { Ok(format) } else { Err(damaged()) }
    }

    /// The refusal of a file that says that it is of a later version.
    pub(super) fn newer(bytes: &[u8]) -> Option<StoreError> {
        #[derive(Deserialize)]
        struct Version {
            format: String,
            version: u64,
        }
        let said: Version = serde_json::from_slice(bytes).ok()?;
        let is_newer = said.format == NAME && said.version > VERSION;
        is_newer.then_some(StoreError::Newer {
            found: said.version,
            known: VERSION,
        })
    }
}

/// Whether the indexes inside a table lead somewhere.
fn is_sound(table: &Table) -> bool {
    table.primary_key.iter().all(|&at| at < table.columns.len())
}

/// The directory of a segment.
pub(super) fn segment_directory(from: Commit, to: Commit) -> String {
    format!("{SEGMENTS}/{from:010}-{to:010}")
}

/// The manifest of a snapshot.
pub(super) fn manifest_path(at: Commit) -> String {
    format!("{SNAPSHOTS}/{at:010}.json")
}

/// The place of a chunk.
pub(super) fn object_path(hash: &str) -> String {
    format!("{OBJECTS}/{}/{hash}.parquet", &hash[..2])
}

/// The file of a table's changes in a segment: the table's number, and its name as far as it is harmless.
pub(super) fn changes_file(number: usize, table: &Table) -> String {
    format!("{}.parquet", changes_stem(number, table))
}

/// The file of a part of a table's changes, where one file would be too large.
pub(super) fn changes_part(number: usize, table: &Table, part: u32) -> String {
    format!("{}.{part:06}.parquet", changes_stem(number, table))
}

fn changes_stem(number: usize, table: &Table) -> String {
    let harmless = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = table.name.short().chars().map(harmless).collect();
    let name = &name[..name.len().min(NAME_BYTES_MAX)];
    format!("{number}-{name}")
}

/// Where a file lies until it is sealed.
pub(super) fn unsealed(path: &str) -> String {
    format!("{UNSEALED}/{path}")
}
