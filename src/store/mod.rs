//! A store: a history that lasts, of which every byte is vouched for.
//!
//! ```text
//! FORMAT                          what the store is: version, schema, where its changes come from
//! chain                           one seal a line; each vouches for files and for the seal before it
//! segments/<from>-<to>/           transactions and the changes of each table, in Parquet, in commit order
//! snapshots/<commit>.json         for each table: its fingerprint and its chunks in key order
//! objects/<aa>/<hash>.parquet     chunks of rows, named by their hash, shared by all snapshots
//! unsealed/                       files on their way in or out; they count only as far as a seal says so
//! lock, owner                     who writes; verified: what `firstbad verify` found last
//! firstbad.db                     incidents, in SQLite: not part of the store, no seal vouches for it
//! ```
//!
//! The places of `segments`, `snapshots` and `objects` hold exactly what the chain says. A file is written below `unsealed/` and synced, a
//! seal names it, and only then it moves to its place; a file that goes moves to `unsealed/` first, a seal says that it is gone, and then
//! it is removed. So whatever stands in those places without a seal, or is missing there in spite of one, was not done by a crash.
//! After a crash, the next writer cuts an unfinished seal off, moves what was sealed to its place and removes the rest of
//! `unsealed/`; a reader looks there for what was sealed and has not moved yet.
//!
//! No byte of a file reaches a parser before its hash was compared with the one that was sealed.

mod chain;
pub mod disk;
mod error;
mod format;
mod hash;
mod in_place;
mod large;
mod ledger;
mod load;
mod manifest;
mod next_segment;
mod parquet;
mod reach;
mod record;
mod segment;
mod snapshot;
mod tidy;
pub mod verify;
mod writer;

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

pub use chain::{Act, BLOCK_BYTES, Broken, CHAIN, Chain, Seal, Sealed, Stretch};
pub use error::{Damage, StoreError};
pub use format::{FORMAT, Format, Kind, VERSION};
pub use hash::Hash;
pub use large::Large;
pub use ledger::{Covered, Kept, Ledger, Live};
pub use manifest::{Chunk, KeyBytes, Manifest, TableManifest};
pub use next_segment::NextSegment;
pub use record::{Recorded, Sealing};
pub use tidy::{Dropped, Retention, Usage};
pub use writer::Writer;

use chain::{CHAIN_BYTES_MAX, Vouched};
use disk::{Disk, Local};
use format::{FORMAT_BYTES_MAX, SEGMENTS, SNAPSHOTS, UNSEALED, unsealed};

/// How often a store that changes while it is read is read again.
const READS_MAX: usize = 5;
/// What lies beside the files of a store and is none of them: incidents, what SQLite keeps with them, and who tells of them.
pub const BESIDE: [&str; 5] = [
    "firstbad.db",
    "firstbad.db-wal",
    "firstbad.db-shm",
    "firstbad.db-journal",
    "firstbad.alerts.lock",
];
/// Said of a file that is not there.
const MISSING: &str = "the file is missing";
/// Said of a file with another hash than the sealed one.
const NOT_SEALED: &str = "the bytes are not those that were sealed";

/// A store that is being read.
#[derive(Clone, Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    format: Format,
    chain: Arc<Chain>,
    ledger: Ledger,
}

/// Whether a directory is a store, or what is left of one.
pub fn is_store(directory: &Path) -> bool {
    directory.join(CHAIN).is_file() || directory.join(FORMAT).is_file()
}

impl Store {
    /// Opens the store in a directory for reading.
    ///
    /// # Errors
    /// [`StoreError::NotThere`], [`StoreError::Newer`], [`StoreError::Damaged`] when its chain or the names of its files are not what
    /// was sealed; files are compared with their hashes when they are read.
    pub fn open(directory: &Path) -> Result<Store, StoreError> {
        if !is_store(directory) {
            return Err(StoreError::NotThere(directory.display().to_string()));
        }
        Store::on(Arc::new(Local::new(directory)))
    }

    /// Opens the store in a directory and reads from it: once more where a writer removed what was to be read.
    ///
    /// # Errors
    /// As [`Store::open`] and `read`; [`StoreError::Changing`].
    pub fn reading<T>(
        directory: &Path,
        read: impl Fn(&Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        for _ in 1..READS_MAX {
            match Store::open(directory).and_then(|store| read(&store)) {
                Err(StoreError::Changing) => {}
                result => return result,
            }
        }
        Store::open(directory).and_then(|store| read(&store))
    }

    /// Opens the store on a disk for reading.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn on(disk: Arc<dyn Disk>) -> Result<Store, StoreError> {
        let mut store = Store::read(Arc::clone(&disk))?;
        for _ in 0..READS_MAX {
            let wrong = match store.wrong_names()? {
                None => return Ok(store),
                Some(wrong) => wrong,
            };
            // A writer may have sealed something meanwhile.
            let again = Store::read(Arc::clone(&disk))?;
            if again.chain.whole == store.chain.whole && again.chain.broken == store.chain.broken {
                return Err(wrong);
            }
            store = again;
        }
        Err(StoreError::Changing)
    }

    /// Reads what the store is and its chain; its files are not looked at.
    fn read(disk: Arc<dyn Disk>) -> Result<Store, StoreError> {
        let chain = read_chain(disk.as_ref())?;
        let format = read_format(disk.as_ref(), &chain)?;
        if let Some(broken) = chain.broken.as_ref().filter(|broken| broken.inside) {
            return Err(broken_chain(broken));
        }
        let ledger = Ledger::of(&chain);
        Ok(Store {
            disk,
            format,
            chain: Arc::new(chain),
            ledger,
        })
    }

    /// Segments and snapshots that are there without a seal; where the chain ends in a line that is not whole, also what is missing in
    /// spite of a seal. Names only, nothing is read.
    fn wrong_names(&self) -> Result<Option<StoreError>, StoreError> {
        let stray = self.stray()?;
        let Some(broken) = &self.chain.broken else {
            return Ok(stray.map(|(path, bytes)| self.unsealed_file(&path, bytes)));
        };
        // The unfinished end of a write leaves nothing of its own in the places of sealed files, and takes nothing from them.
        let is_whole = stray.is_none() && self.missing()?.is_none();
        Ok((!is_whole).then(|| broken_chain(broken)))
    }

    /// A segment or snapshot that no seal names, and its length.
    fn stray(&self) -> Result<Option<(String, u64)>, StoreError> {
        for place in [SEGMENTS, SNAPSHOTS] {
            let entries = self
                .disk
                .list(place)
                .map_err(StoreError::io("list", place))?;
            for entry in entries {
                let path = format!("{place}/{}", entry.name);
                let below = format!("{path}/");
                let mut files = self.ledger.files.range(path.clone()..);
                let known = files
                    .next()
                    .is_some_and(|(file, _)| *file == path || file.starts_with(&below));
                // What went leaves its directory behind for a moment.
                let is_empty = || -> Result<bool, StoreError> {
                    let inside = self
                        .disk
                        .list(&path)
                        .map_err(StoreError::io("list", &path))?;
                    Ok(entry.is_directory && inside.is_empty())
                };
                if !known && !is_empty()? {
                    return Ok(Some((path, entry.bytes)));
                }
            }
        }
        Ok(None)
    }

    /// What a file says that no seal names: somebody put it there, or the chain lost its end.
    fn unsealed_file(&self, path: &str, bytes: u64) -> StoreError {
        if self.ledger.is_later(path) {
            let end = (self.chain.whole, self.chain.whole);
            let problem = format!("seals are missing at its end: `{path}` was sealed later");
            return StoreError::damaged(CHAIN, end, problem, "everything that was sealed since");
        }
        let affects = "nothing that was sealed";
        StoreError::damaged(path, (0, bytes), "no seal names this", affects)
    }

    /// The first sealed file that is neither at its place nor on its way there.
    fn missing(&self) -> Result<Option<&Sealed>, StoreError> {
        let mut found = Vec::new();
        for place in [SEGMENTS, SNAPSHOTS, UNSEALED] {
            writer::files_below(self.disk.as_ref(), place, &mut found)?;
        }
        let found: HashSet<&str> = found
            .iter()
            .map(|(path, _)| path.strip_prefix("unsealed/").unwrap_or(path))
            .collect();
        let is_missing = |live: &&Live| {
            let path = live.sealed.path.as_str();
            path != FORMAT && !found.contains(path)
        };
        let missing = self.ledger.files.values().find(is_missing);
        Ok(missing.map(|live| &live.sealed))
    }

    /// What the store is.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// The seals.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// What it holds.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Where it lies.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// The bytes of a sealed file, after their hash was compared.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when they are other bytes or missing; [`StoreError::Changing`] when a writer removed the file since the
    /// store was opened.
    fn fetch(&self, sealed: &Sealed) -> Result<Vouched, StoreError> {
        self.fetch_for(sealed, &self.ledger.affects(&sealed.path))
    }

    fn fetch_for(&self, sealed: &Sealed, affects: &str) -> Result<Vouched, StoreError> {
        let bytes = match read_file(self.disk.as_ref(), &sealed.path, sealed.bytes) {
            Err(error) if is_missing(&error) && self.has_let_go()? => {
                return Err(StoreError::Changing);
            }
            read => read.map_err(|error| missing_or(error, sealed, affects))?,
        };
        sealed.vouch(bytes).map_err(|bytes| {
            let range = sealed.differs_in(&bytes);
            StoreError::damaged(sealed.path.as_str(), range, NOT_SEALED, affects)
        })
    }

    /// Whether files were removed since the chain was read.
    fn has_let_go(&self) -> Result<bool, StoreError> {
        let now = read_chain(self.disk.as_ref())?;
        let known = self.chain.seals.len();
        let later = now.seals.get(known..).unwrap_or_default();
        let same = known == 0
            || now
                .seals
                .get(known - 1)
                .is_some_and(|(_, hash, _)| *hash == self.chain.head());
        Ok(same && later.iter().any(|(seal, _, _)| !seal.removed.is_empty()))
    }
}

/// The first so many bytes of a sealed file, and one more when there are more: at its place or, while it moves, where it waits for that.
fn read_file(disk: &dyn Disk, path: &str, most: u64) -> std::io::Result<Vec<u8>> {
    let gone = |error: &std::io::Error| error.kind() == ErrorKind::NotFound;
    match disk.read(path, most) {
        Err(error) if gone(&error) => match disk.read(&unsealed(path), most) {
            // It may have moved between the two.
            Err(error) if gone(&error) => disk.read(path, most),
            read => read,
        },
        read => read,
    }
}

/// Whether there is no such file; a directory in its place, or a file in place of its directory, is none.
fn is_missing(error: &std::io::Error) -> bool {
    use ErrorKind::{IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | IsADirectory | NotADirectory)
}

/// A file that is not there is damage; other errors are the system's.
fn missing_or(error: std::io::Error, sealed: &Sealed, affects: &str) -> StoreError {
    if is_missing(&error) {
        let range = (0, sealed.bytes);
        return StoreError::damaged(sealed.path.as_str(), range, MISSING, affects);
    }
    StoreError::io("read", &sealed.path)(error)
}

fn broken_chain(broken: &Broken) -> StoreError {
    let range = (broken.from, broken.to);
    let affects = "everything that was sealed from there on";
    StoreError::damaged(CHAIN, range, broken.problem, affects)
}

fn read_chain(disk: &dyn Disk) -> Result<Chain, StoreError> {
    match disk.read(CHAIN, CHAIN_BYTES_MAX) {
        Ok(bytes) => Ok(Chain::parse(&bytes)),
        Err(error) if is_missing(&error) => Err(StoreError::damaged(
            CHAIN,
            (0, 0),
            MISSING,
            "the whole store",
        )),
        Err(error) => Err(StoreError::io("read", CHAIN)(error)),
    }
}

/// What the store is, as the first seal vouches for it.
fn read_format(disk: &dyn Disk, chain: &Chain) -> Result<Format, StoreError> {
    let bytes = read_file(disk, FORMAT, FORMAT_BYTES_MAX);
    let Some(sealed) = first_file(chain) else {
        // A later version may keep its chain otherwise: what the file says of its version is believed without a seal.
        if let Some(newer) = bytes.ok().and_then(|bytes| Format::newer(&bytes)) {
            return Err(newer);
        }
        return Err(chain.broken.as_ref().map_or_else(
            || {
                let problem = "the chain does not begin with the store's format";
                StoreError::damaged(CHAIN, (0, chain.whole), problem, "the whole store")
            },
            broken_chain,
        ));
    };
    let bytes = bytes.map_err(|error| missing_or(error, sealed, "the whole store"))?;
    let vouched = sealed.vouch(bytes).map_err(|bytes| {
        let range = sealed.differs_in(&bytes);
        StoreError::damaged(FORMAT, range, NOT_SEALED, "the whole store")
    })?;
    Format::parse(vouched.bytes())
}

/// What the first seal says of `FORMAT`.
fn first_file(chain: &Chain) -> Option<&Sealed> {
    let (seal, _, _) = chain.seals.first()?;
    let format = seal.files.first()?;
    (seal.act == Act::Begin && format.path == FORMAT).then_some(format)
}
