//! Snapshots as they are written down: for each table its fingerprint and its chunks in key order.

use serde::{Deserialize, Serialize};

use super::chain::Sealed;
use super::format::object_path;
use super::hash::Hash;
use crate::change::{Commit, TransactionMeta};

/// A key, or the first bytes of one, as hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct KeyBytes(pub Vec<u8>);

impl From<KeyBytes> for String {
    fn from(key: KeyBytes) -> Self {
        key.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl TryFrom<String> for KeyBytes {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        const WRONG: &str = "hexadecimal digits, two a byte";
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(WRONG),
        };
        let pairs = text.as_bytes().chunks_exact(2);
        if !pairs.remainder().is_empty() {
            return Err(WRONG);
        }
        let bytes = pairs.map(|pair| Ok(digit(pair[0])? << 4 | digit(pair[1])?));
        bytes.collect::<Result<_, _>>().map(KeyBytes)
    }
}

/// Rows of a table that lie together in key order: one node of the fingerprint's tree, one Parquet file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// The keys of the chunk are not below this; those of the chunk before are.
    pub from: KeyBytes,
    /// How many rows it has.
    pub rows: u64,
    /// The height of its last row in the fingerprint's tree.
    pub height: u8,
    /// The print of its node.
    pub print: Hash,
    /// Whether some cell is not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
    /// The hash of its file, which is the file's name.
    pub object: Hash,
    /// How many bytes its file has.
    pub bytes: u64,
    /// For a file of more than one block: see [`Sealed::blocks`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<String>,
}

impl Chunk {
    /// The chunk's file.
    pub fn sealed(&self) -> Sealed {
        Sealed {
            path: object_path(&self.object.to_string()),
            bytes: self.bytes,
            blake3: self.object,
            blocks: self.blocks.clone(),
        }
    }
}

/// A table of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableManifest {
    /// Its name, for people: tables stand in the order of the store's schema.
    pub table: String,
    /// How many rows it has.
    pub rows: u64,
    /// Its fingerprint.
    pub fingerprint: Hash,
    /// Its chunks in key order.
    pub chunks: Vec<Chunk>,
}

/// A snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The commit whose state it is.
    pub at: Commit,
    /// The LSN of that commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lsn: Option<String>,
    /// Its transaction id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xid: Option<u64>,
    /// Its time in microseconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<i64>,
    /// Its name, where the source's state has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The fingerprint of the state.
    pub fingerprint: Hash,
    /// The tables, in the order of the store's schema.
    pub tables: Vec<TableManifest>,
}

impl TableManifest {
    /// Whether some cell is not known. A later change may tell what it was, so that state is not proved from the changes after it.
    pub fn has_unknown(&self) -> bool {
        self.chunks.iter().any(|chunk| chunk.unknown)
    }
}

impl Manifest {
    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }

    /// All chunks with the numbers of their tables.
    pub fn chunks(&self) -> impl Iterator<Item = (usize, &Chunk)> {
        let tables = self.tables.iter().enumerate();
        tables.flat_map(|(at, table)| table.chunks.iter().map(move |chunk| (at, chunk)))
    }

    /// Takes over what is known of its commit.
    pub(super) fn tell(&mut self, meta: &TransactionMeta) {
        self.lsn.clone_from(&meta.lsn);
        self.xid = meta.xid;
        self.time = meta.time;
        self.name.clone_from(&meta.snapshot);
    }

    /// What is known of its commit.
    pub fn meta(&self) -> TransactionMeta {
        TransactionMeta {
            lsn: self.lsn.clone(),
            xid: self.xid,
            time: self.time,
            context: None,
            snapshot: self.name.clone(),
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).expect("a manifest is plain data");
        bytes.push(b'\n');
        bytes
    }
}
