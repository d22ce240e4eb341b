//! Rows in canonical order as a tree that is cut by content: one changed row changes the few nodes above it, and the fingerprint of a
//! table is known from its nodes of any one level.
//!
//! * The **hash of a key** begins with the number of its canonical bytes, mixed; each 8 of these bytes, little-endian and the last ones
//!   filled with zeros, are xored to it, and it is mixed again. To mix is the step of splitmix64 (`mix`).
//! * The **height** of a row is how many of [`BITS`] are not more than the zero bits at the low end of that hash. Of several rows with
//!   equal keys only the last has one, the others have 0: equal keys are never parted.
//! * A **node of level 0** is a run of rows up to and including one of height 1 or more, or to the end. Its print is over the number of
//!   its rows and, for each row, the length of its canonical bytes and these.
//! * A **node of level i** is a run of nodes of level i - 1 up to and including one whose last row has height i + 1 or more, or to
//!   the end. Its print is over i, the number of its children, and their prints.
//! * A **table** is the number of its columns, then their names and types in the order of their names, the number of columns in its
//!   primary key and their names in its order, the number of its rows, and the number and the prints of its nodes of the highest level.
//!
//! Prints are BLAKE3 in its key-derivation mode, with one context each for nodes of rows, nodes of nodes and tables; numbers are 64 bits,
//! little-endian. Whoever chooses keys can choose heights: they say how well a tree is balanced, never what is right.

use std::fmt;
use std::sync::LazyLock;

use super::fingerprint::Fingerprint;
use super::key::Keys;
use super::row::{RowBytes, by_name, length, text};
use super::stored::StoredRows;
use crate::schema::Table;

const LEAF: &str = "firstbad 2026-03 fingerprint of a run of rows, version 2";
const NODE: &str = "firstbad 2026-03 fingerprint of a run of nodes, version 2";
const TABLE: &str = "firstbad 2026-03 fingerprint of a table, version 2";

/// How many zero bits at the low end of its key's hash give a row the height 1, 2, …: a node has about 32 children.
pub const BITS: [u32; 6] = [5, 10, 15, 20, 25, 30];

/// How many levels of nodes there are: 0 to `LEVELS - 1`.
pub const LEVELS: u8 = BITS.len() as u8;

/// Bytes of rows that are hashed at once.
const PIECE_BYTES: usize = 64 << 10;

/// What a node holds, in 32 bytes; shown as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Print([u8; 32]);

impl Print {
    /// A print that was written down.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Print(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Print {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Print {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Print({self})")
    }
}

/// A node of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it holds.
    pub print: Print,
    /// The height of its last row.
    pub height: u8,
    /// How many rows it holds, in all levels below it.
    pub rows: u64,
}

/// The heights of rows with these keys, which are in canonical order. The key of the last row must not go on after it.
pub fn heights(keys: &Keys) -> Vec<u8> {
    heights_of(keys.iter())
}

/// The same, for keys one after the other.
pub(super) fn heights_of<'a>(keys: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut keys = keys.peekable();
    let mut heights = Vec::with_capacity(keys.size_hint().0);
    while let Some(key) = keys.next() {
        let goes_on = keys.peek().is_some_and(|next| *next == key);
        heights.push(if goes_on { 0 } else { height(key) });
    }
    heights
}

/// The height of the last row with a key.
fn height(key: &[u8]) -> u8 {
    let mut hash = mix(key.len() as u64);
    for part in key.chunks(8) {
        let mut bytes = [0; 8];
        bytes[..part.len()].copy_from_slice(part);
        hash = mix(hash ^ u64::from_le_bytes(bytes));
    }
    let zeros = hash.trailing_zeros();
    BITS.iter().filter(|&&bits| bits <= zeros).count() as u8
}

/// The step of splitmix64 by Sebastiano Vigna, in the public domain (<https://prng.di.unimi.it/splitmix64.c>). It is one to one.
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

/// The nodes of a level that rows are: all rows of them, in canonical order, with their heights. The last node ends where the rows end.
///
/// # Panics
/// Where the rows are not of this table, there is not one height for each of them, or no such level.
pub fn nodes(table: &Table, rows: &StoredRows, heights: &[u8], level: u8) -> Vec<Node> {
    assert_eq!(rows.len(), heights.len(), "a height for each row");
    let mut tree = Tree::new(level);
    tree.rows(&RowBytes::new(table, rows), heights, heights.len());
    tree.finish()
}

/// The print of rows that are one node of a level.
///
/// # Panics
/// As [`nodes`] does, and where the rows are no or several nodes.
pub fn node(table: &Table, rows: &StoredRows, heights: &[u8], level: u8) -> Print {
    match nodes(table, rows, heights, level).as_slice() {
        [node] => node.print,
        found => panic!("rows of one node, not of {}", found.len()),
    }
}

/// The fingerprint of a table from all of its nodes of one level, in canonical order; each as its print, the height of its last row
/// and how many rows it holds.
///
/// # Panics
/// Where there is no such level.
pub fn table_print(
    table: &Table,
    level: u8,
    nodes: impl IntoIterator<Item = (Print, u8, u64)>,
) -> Fingerprint {
    let mut climb = Climb::new(level, LEVELS - 1);
    for (print, height, rows) in nodes {
        climb.push(Node {
            print,
            height,
            rows,
        });
    }
    of_nodes(table, &climb.finish())
}

/// The fingerprint of a table from its nodes of the highest level.
fn of_nodes(table: &Table, nodes: &[Node]) -> Fingerprint {
    let mut bytes = Vec::new();
    length(&mut bytes, table.columns.len());
    for at in by_name(table) {
        text(&mut bytes, &table.columns[at].name);
        text(&mut bytes, &table.columns[at].data_type.to_string());
    }
    length(&mut bytes, table.primary_key.len());
    for &at in &table.primary_key {
        text(&mut bytes, &table.columns[at].name);
    }
    let rows: u64 = nodes.iter().map(|node| node.rows).sum();
    bytes.extend_from_slice(&rows.to_le_bytes());
    length(&mut bytes, nodes.len());
    for node in nodes {
        bytes.extend_from_slice(&node.print.0);
    }
    Fingerprint::from_bytes(blake3::derive_key(TABLE, &bytes))
}

/// Rows on their way to nodes of a level. They come in pieces of any size.
pub(super) struct Tree {
    climb: Climb,
    /// Rows of the open node that were hashed, and its hash.
    open: Option<(u64, blake3::Hasher)>,
    bytes: Vec<u8>,
}

impl Tree {
    pub(super) fn new(level: u8) -> Self {
        Tree {
            climb: Climb::new(0, level),
            open: None,
            bytes: Vec::new(),
        }
    }

    /// Adds the first `count` rows. `heights` are theirs and those of all rows that are still to come.
    pub(super) fn rows(&mut self, rows: &RowBytes<'_>, heights: &[u8], count: usize) {
        for row in 0..count {
            if self.open.is_none() {
                let left = &heights[row..];
                let len = left.iter().position(|&height| height > 0);
                self.begin(len.map_or(left.len(), |last| last + 1));
            }
            let start = self.bytes.len();
            length(&mut self.bytes, 0);
            rows.put(row, &mut self.bytes);
            let len = (self.bytes.len() - start - size_of::<u64>()) as u64;
            self.bytes[start..start + size_of::<u64>()].copy_from_slice(&len.to_le_bytes());
            if let Some((rows, hasher)) = &mut self.open {
                *rows += 1;
                if self.bytes.len() >= PIECE_BYTES {
                    hasher.update(&self.bytes);
                    self.bytes.clear();
                }
            }
            if heights[row] > 0 || row + 1 == heights.len() {
                self.end(heights[row]);
            }
        }
    }

    fn begin(&mut self, len: usize) {
        static HASHER: LazyLock<blake3::Hasher> =
            LazyLock::new(|| blake3::Hasher::new_derive_key(LEAF));
        self.open = Some((0, HASHER.clone()));
        length(&mut self.bytes, len);
    }

    fn end(&mut self, height: u8) {
        let Some((rows, mut hasher)) = self.open.take() else {
            return;
        };
        hasher.update(&self.bytes);
        self.bytes.clear();
        self.climb.push(Node {
            print: Print(*hasher.finalize().as_bytes()),
            height,
            rows,
        });
    }

    /// The nodes, once all rows were added.
    pub(super) fn finish(self) -> Vec<Node> {
        self.climb.finish()
    }

    /// The fingerprint of the table, where the nodes are of the highest level.
    pub(super) fn of_table(self, table: &Table) -> Fingerprint {
        let nodes = self.climb.finish();
        of_nodes(table, &nodes)
    }
}

/// Nodes of a level on their way to a higher one.
struct Climb {
    from: u8,
    /// For each level up to the one that is wanted: the children of its open node. The last has the nodes that are wanted.
    open: Vec<Vec<Node>>,
}

impl Climb {
    fn new(from: u8, to: u8) -> Self {
        assert!(from <= to && to < LEVELS, "levels are 0 to {}", LEVELS - 1);
        Climb {
            from,
            open: vec![Vec::new(); usize::from(to - from) + 1],
        }
    }

    /// Adds a node of the lowest level.
    fn push(&mut self, node: Node) {
        let height = node.height;
        self.open[0].push(node);
        for at in 1..self.open.len() {
            // The node of the next level ends here where its last row is high enough.
            let level = self.from + at as u8;
            if height <= level {
                return;
            }
            self.close(at, level);
        }
    }

    /// Ends the open node of a level.
    fn close(&mut self, at: usize, level: u8) {
        let children = std::mem::take(&mut self.open[at - 1]);
        let node = parent(level, &children);
        self.open[at].extend(node);
    }

    fn finish(mut self) -> Vec<Node> {
        for at in 1..self.open.len() {
            self.close(at, self.from + at as u8);
        }
        self.open.pop().unwrap_or_default()
    }
}

/// A node from its children; None where it has none.
fn parent(level: u8, children: &[Node]) -> Option<Node> {
    static HASHER: LazyLock<blake3::Hasher> =
        LazyLock::new(|| blake3::Hasher::new_derive_key(NODE));
    let last = children.last()?;
    let mut bytes = Vec::with_capacity((children.len() + 1) * size_of::<Print>());
    length(&mut bytes, usize::from(level));
    length(&mut bytes, children.len());
    for child in children {
        bytes.extend_from_slice(&child.print.0);
    }
    Some(Node {
        print: Print(*HASHER.clone().update(&bytes).finalize().as_bytes()),
        height: last.height,
        rows: children.iter().map(|child| child.rows).sum(),
    })
}

#[cfg(test)]
mod tests;
