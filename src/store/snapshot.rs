//! Making snapshots: all rows at once, or from the snapshot before and what changed since, where only the chunks that changed are read
//! and written.

mod next;

use std::collections::{BTreeMap, HashSet};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use next::{Next, Placed};

use super::Store;
use super::chain::{Act, Sealed, Vouched};
use super::error::StoreError;
use super::format::manifest_path;
use super::hash::Hash;
use super::manifest::{Chunk, KeyBytes, Manifest, TableManifest};
use super::parquet;
use super::segment::Unreadable;
use super::writer::{Staged, Writer};
use crate::change::{Commit, TransactionMeta};
use crate::schema::Table;
use crate::state::{
    Fingerprint, History, Print, StoredRows, TableVersions, heights, nodes, of_state, table_print,
};

/// A chunk's file before it is written.
type File = (Sealed, Vec<u8>);

/// Takes chunks' files as they are made.
pub(super) type Put<'a> = &'a (dyn Fn(File) -> Result<(), StoreError> + Sync);

impl Writer {
    /// Makes a snapshot of a history's state: from the store's last one before it where there is one, else of all rows.
    /// Says how many of its chunks were written: none where the store has this snapshot already.
    ///
    /// # Errors
    /// When the disk fails, or what is there is damaged.
    pub fn snapshot(&mut self, history: &History, at: Commit) -> Result<usize, StoreError> {
        let mut meta = history.meta(at).cloned().unwrap_or_default();
        if at == history.first && meta.snapshot.is_none() {
            meta.snapshot.clone_from(&history.first_snapshot);
        }
        self.snapshot_of(history, at, &meta)
    }

    /// The same, of a commit of which this is known.
    pub(super) fn snapshot_of(
        &mut self,
        history: &History,
        at: Commit,
        meta: &TransactionMeta,
    ) -> Result<usize, StoreError> {
        let ledger = self.store().ledger();
        if ledger.snapshots.contains_key(&at) {
            return Ok(0);
        }
        if !ledger.snapshots.is_empty() && !(ledger.first..=ledger.head()).contains(&at) {
            let (first, head) = (ledger.first, ledger.head());
            return Err(StoreError::refused(
                format!("a snapshot at #{at} of a store that holds #{first} to #{head}"),
                "record the changes up to it first",
            ));
        }
        let staged: Mutex<BTreeMap<String, Staged>> = Mutex::new(BTreeMap::new());
        let disk = Arc::clone(self.store().disk());
        // What lies in its place belongs to a snapshot that is kept.
        let is_kept = |path: &str| match disk.read(path, 0) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("read", path)(error)),
        };
        let put = |(sealed, bytes): File| {
            let path = sealed.path.clone();
            if is_kept(&path)? {
                return Ok(());
            }
            let mut all = staged.lock().expect("no holder panics");
            if all.contains_key(&path) {
                return Ok(());
            }
            let named = false;
            all.insert(path.clone(), Staged { sealed, named });
            drop(all);
            self.stage(&path, &bytes).map(|_| ())
        };
        let earlier = self.store().ledger().snapshots.range(..at).next_back();
        let mut manifest = match earlier {
            Some((&from, _)) => {
                self.store()
                    .next(&self.store().manifest(from)?, history, at, Some(&put))?
            }
            None => all(history, at, self.store().format().chunk_level, Some(&put))?,
        };
        manifest.tell(meta);
        let mut staged: Vec<Staged> = staged
            .into_inner()
            .expect("no holder panics")
            .into_values()
            .collect();
        let written = staged.len();
        staged.push(self.stage(&manifest_path(at), &manifest.bytes())?);
        let act = Act::Snapshot {
            at,
            rows: manifest.rows(),
            fingerprint: manifest.fingerprint,
            time: meta.time.or_else(|| history.now_at(at)),
        };
        self.seal(act, staged, Vec::new())?;
        Ok(written)
    }
}

impl Store {
    /// The manifest of a snapshot.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn manifest(&self, at: Commit) -> Result<Manifest, StoreError> {
        let path = manifest_path(at);
        let whole = |sealed: Option<&Sealed>| (0, sealed.map_or(0, |sealed| sealed.bytes));
        let sealed = self.ledger().manifest(at);
        let odd = || {
            let affects = self.ledger().affects(&path);
            StoreError::damaged(path.as_str(), whole(sealed), "it is no manifest", affects)
        };
        let bytes = self.fetch(sealed.ok_or_else(odd)?)?;
        let manifest: Manifest = serde_json::from_slice(bytes.bytes()).map_err(|_| odd())?;
        let is_whole = manifest.tables.len() == self.format().schema.tables.len();
        if is_whole { Ok(manifest) } else { Err(odd()) }
    }

    /// The paths of all chunks that snapshots refer to.
    pub(super) fn object_paths(&self) -> Result<HashSet<String>, StoreError> {
        let mut paths = HashSet::new();
        for &at in self.ledger().snapshots.keys() {
            let manifest = self.manifest(at)?;
            paths.extend(manifest.chunks().map(|(_, chunk)| chunk.sealed().path));
        }
        Ok(paths)
    }

    /// The rows of a chunk.
    ///
    /// # Errors
    /// When it is damaged.
    pub(super) fn rows(&self, table: &Table, chunk: &Chunk) -> Result<StoredRows, StoreError> {
        let sealed = chunk.sealed();
        let affects = format!("rows of {}", table.name.short());
        let bytes = self.fetch_for(&sealed, &affects)?;
        decode(table, bytes).map_err(|error| {
            let range = (0, sealed.bytes);
            StoreError::damaged(sealed.path.as_str(), range, error.to_string(), affects)
        })
    }

    /// The snapshot at a later position, from one before it and the history between them. The files of chunks that changed are
    /// handed to `put`; without it none are made.
    pub(super) fn next(
        &self,
        before: &Manifest,
        history: &History,
        at: Commit,
        put: Option<Put<'_>>,
    ) -> Result<Manifest, StoreError> {
        let level = self.format().chunk_level;
        let tables = history.tables.iter().zip(&before.tables);
        let tables = tables.map(|(versions, old)| {
            let (gone, come) = versions.difference(before.at, at);
            if gone.is_empty() && come.is_empty() {
                return Ok(old.clone());
            }
            if old.has_unknown() {
                // A later change may have told what a row held then.
                return whole(versions, at, level, put);
            }
            let next = Next {
                store: self,
                table: &versions.table,
                level,
                old,
                gone: Placed::new(versions, &gone, old),
                come: Placed::new(versions, &come, old),
                put,
            };
            next.table()
        });
        Ok(finish(history, at, tables.collect::<Result<_, _>>()?))
    }
}

/// The snapshot of a history's state, from all of its rows.
pub(super) fn all(
    history: &History,
    at: Commit,
    level: u8,
    put: Option<Put<'_>>,
) -> Result<Manifest, StoreError> {
    let tables = history.tables.iter();
    let tables = tables.map(|versions| whole(versions, at, level, put));
    Ok(finish(history, at, tables.collect::<Result<_, _>>()?))
}

/// A table of a snapshot, from all of its rows.
fn whole(
    versions: &TableVersions,
    at: Commit,
    level: u8,
    put: Option<Put<'_>>,
) -> Result<TableManifest, StoreError> {
    let table = &versions.table;
    let (rows, keys) = versions.ordered(at);
    let heights = heights(&keys);
    let cuts = cuts(&heights, level);
    let chunk = |number: usize| {
        let (start, end) = cuts[number];
        let last = start.checked_sub(1).map(|last| keys.get(last));
        let node = Run {
            table,
            rows: &versions.stored(&rows[start..end]),
            heights: &heights[start..end],
            level,
            from: last.map_or_else(KeyBytes::default, |last| between(last, keys.get(start))),
        };
        node.chunk(put)
    };
    let chunks = parallel(cuts.len(), chunk)?;
    Ok(table_manifest(table, level, chunks))
}

fn finish(history: &History, at: Commit, tables: Vec<TableManifest>) -> Manifest {
    let names = history.schema.tables.iter().map(|table| &table.name);
    let prints = tables.iter().map(|table| table.fingerprint.into());
    let fingerprint = of_state(names.zip(prints));
    Manifest {
        at,
        lsn: None,
        xid: None,
        time: None,
        name: None,
        fingerprint: fingerprint.into(),
        tables,
    }
}

fn table_manifest(table: &Table, level: u8, chunks: Vec<Chunk>) -> TableManifest {
    let nodes = chunks.iter().map(|chunk| {
        (
            Print::from_bytes(*chunk.print.as_bytes()),
            chunk.height,
            chunk.rows,
        )
    });
    TableManifest {
        table: table.name.to_string(),
        rows: chunks.iter().map(|chunk| chunk.rows).sum(),
        fingerprint: table_print(table, level, nodes).into(),
        chunks,
    }
}

impl From<Fingerprint> for Hash {
    fn from(fingerprint: Fingerprint) -> Self {
        Hash::from(*fingerprint.as_bytes())
    }
}

impl From<Hash> for Fingerprint {
    fn from(hash: Hash) -> Self {
        Fingerprint::from_bytes(*hash.as_bytes())
    }
}

/// Where rows with these heights are cut into nodes of a level.
fn cuts(heights: &[u8], level: u8) -> Vec<(usize, usize)> {
    let mut cuts = Vec::new();
    let mut start = 0;
    for (at, &height) in heights.iter().enumerate() {
        if height > level {
            cuts.push((start, at + 1));
            start = at + 1;
        }
    }
    if start < heights.len() {
        cuts.push((start, heights.len()));
    }
    cuts
}

/// The shortest bytes that are above one key and not above another.
fn between(below: &[u8], key: &[u8]) -> KeyBytes {
    let same = below.iter().zip(key).take_while(|(a, b)| a == b).count();
    KeyBytes(key[..(same + 1).min(key.len())].to_vec())
}

/// Rows that are one chunk.
struct Run<'a> {
    table: &'a Table,
    rows: &'a StoredRows,
    heights: &'a [u8],
    level: u8,
    from: KeyBytes,
}

impl Run<'_> {
    fn chunk(self, put: Option<Put<'_>>) -> Result<Chunk, StoreError> {
        let Run {
            table,
            rows,
            heights,
            level,
            from,
        } = self;
        let found = nodes(table, rows, heights, level);
        let [node] = found.as_slice() else {
            unreachable!("rows are cut into nodes")
        };
        let mut chunk = Chunk {
            from,
            rows: rows.len() as u64,
            height: node.height,
            print: Hash::from(*node.print.as_bytes()),
            unknown: rows.has_unknown(),
            object: Hash::from([0; 32]),
            bytes: 0,
            blocks: Vec::new(),
        };
        let Some(put) = put else {
            return Ok(chunk);
        };
        let bytes = encode(table, rows).map_err(|error| {
            let path = table.name.short();
            StoreError::io("encode rows of", &path)(std::io::Error::other(error.to_string()))
        })?;
        chunk.object = Hash::of(&bytes);
        let path = super::format::object_path(&chunk.object.to_string());
        let sealed = Sealed::of(path, &bytes);
        chunk.bytes = sealed.bytes;
        chunk.blocks.clone_from(&sealed.blocks);
        put((sealed, bytes))?;
        Ok(chunk)
    }
}

fn encode(table: &Table, rows: &StoredRows) -> Result<Vec<u8>, Unreadable> {
    Ok(parquet::encode(&rows.to_batch(table), &[])?)
}

pub(super) fn decode(table: &Table, bytes: Vouched) -> Result<StoredRows, Unreadable> {
    let parts = parquet::decode(bytes)?.map(|batch| {
        StoredRows::from_batch(table, &batch?).map_err(|error| Unreadable(error.to_string()))
    });
    let parts: Vec<StoredRows> = parts.collect::<Result<_, Unreadable>>()?;
    match parts.as_slice() {
        [] => Err(Unreadable("it holds no rows".into())),
        [one] => Ok(one.clone()),
        several => {
            let several: Vec<&StoredRows> = several.iter().collect();
            Ok(StoredRows::concat(&several))
        }
    }
}

/// Does jobs on all cores; their results in order, or the first error.
pub(super) fn parallel<T: Send>(
    jobs: usize,
    job: impl Fn(usize) -> Result<T, StoreError> + Sync,
) -> Result<Vec<T>, StoreError> {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let next = AtomicUsize::new(0);
    let done: Mutex<BTreeMap<usize, Result<T, StoreError>>> = Mutex::new(BTreeMap::new());
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= jobs {
                return;
            }
            let result = job(number);
            if result.is_err() {
                // The others end with what they are at.
                next.store(jobs, Ordering::Relaxed);
            }
            done.lock()
                .expect("no holder panics")
                .insert(number, result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..cores.min(jobs) {
            scope.spawn(work);
        }
        work();
    });
    done.into_inner()
        .expect("no holder panics")
        .into_values()
        .collect()
}
