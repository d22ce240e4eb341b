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
mod ledger;
mod load;
mod manifest;
mod parquet;
mod reach;
mod record;
mod segment;
mod snapshot;
mod tidy;
pub mod verify;
mod writer;

use std::path::Path;
use std::sync::Arc;

pub use chain::{Act, BLOCK_BYTES, Broken, CHAIN, Chain, Seal, Sealed, Stretch};
pub use error::{Damage, StoreError};
pub use format::{FORMAT, Format, Kind, VERSION};
pub use hash::Hash;
pub use ledger::{Covered, Kept, Ledger, Live};
pub use manifest::{Chunk, KeyBytes, Manifest, TableManifest};
pub use record::{Recorded, Sealing};
pub use tidy::{Dropped, Retention, Usage};
pub use writer::Writer;

use chain::CHAIN_BYTES_MAX;
use disk::{Disk, Local};
use format::{FORMAT_BYTES_MAX, SEGMENTS, SNAPSHOTS, unsealed};

/// How often a store that changes while it is read is read again.
const READS_MAX: usize = 5;

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
            if again.chain.whole == store.chain.whole {
                return Err(wrong);
            }
            store = again;
        }
        Err(StoreError::Changing)
    }

    /// Reads what the store is and its chain; its files are not looked at.
    fn read(disk: Arc<dyn Disk>) -> Result<Store, StoreError> {
        let chain = read_chain(disk.as_ref())?;
        if let Some(broken) = chain.broken.as_ref().filter(|broken| broken.inside) {
            let range = (broken.from, broken.to);
            let affects = "everything that was sealed from there on";
            return Err(StoreError::damaged(CHAIN, range, broken.problem, affects));
        }
        let Some(sealed) = first_file(&chain) else {
            let range = (0, chain.whole);
            return Err(StoreError::damaged(
                CHAIN,
                range,
                "the chain does not begin with the store's format",
                "the whole store",
            ));
        };
        let read = |path: &str| disk.read(path, FORMAT_BYTES_MAX);
        let bytes = read(FORMAT)
            .or_else(|_| read(&unsealed(FORMAT)))
            .map_err(|error| missing_or(error, sealed, "the whole store"))?;
        let format = Format::parse(&bytes)?;
        if !sealed.holds(&bytes) {
            let range = sealed.differs_in(&bytes);
            let problem = "the bytes are not those that were sealed";
            return Err(StoreError::damaged(
                FORMAT,
                range,
                problem,
                "the whole store",
            ));
        }
        let ledger = Ledger::of(&chain);
        Ok(Store {
            disk,
            format,
            chain: Arc::new(chain),
            ledger,
        })
    }

    /// Segments and snapshots that are there without a seal, or missing in spite of one: names only, nothing is read.
    fn wrong_names(&self) -> Result<Option<StoreError>, StoreError> {
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
                    return Ok(Some(StoreError::damaged(
                        path.as_str(),
                        (0, entry.bytes),
                        "no seal names this",
                        "whatever was sealed after the end of the chain",
                    )));
                }
            }
        }
        Ok(None)
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
    /// [`StoreError::Damaged`] when they are other bytes or missing.
    pub fn fetch(&self, sealed: &Sealed) -> Result<Vec<u8>, StoreError> {
        self.fetch_for(sealed, &self.ledger.affects(&sealed.path))
    }

    fn fetch_for(&self, sealed: &Sealed, affects: &str) -> Result<Vec<u8>, StoreError> {
        let read = |path: &str| self.disk.read(path, sealed.bytes);
        let bytes = match read(&sealed.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // Sealed, and on its way.
                read(&unsealed(&sealed.path)).or_else(|_| read(&sealed.path))
            }
            read => read,
        };
        let bytes = bytes.map_err(|error| missing_or(error, sealed, affects))?;
        if sealed.holds(&bytes) {
            return Ok(bytes);
        }
        let range = sealed.differs_in(&bytes);
        let problem = "the bytes are not those that were sealed";
        Err(StoreError::damaged(
            sealed.path.as_str(),
            range,
            problem,
            affects,
        ))
    }
}

/// A file that is not there is damage; other errors are the system's.
fn missing_or(error: std::io::Error, sealed: &Sealed, affects: &str) -> StoreError {
    if error.kind() == std::io::ErrorKind::NotFound {
        let range = (0, sealed.bytes);
        return StoreError::damaged(sealed.path.as_str(), range, "the file is missing", affects);
    }
    StoreError::io("read", &sealed.path)(error)
}

fn read_chain(disk: &dyn Disk) -> Result<Chain, StoreError> {
    match disk.read(CHAIN, CHAIN_BYTES_MAX) {
        Ok(bytes) => Ok(Chain::parse(&bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(StoreError::damaged(
            CHAIN,
            (0, 0),
            "the file is missing",
            "the whole store",
        )),
        Err(error) => Err(StoreError::io("read", CHAIN)(error)),
    }
}

/// What the first seal says of `FORMAT`.
fn first_file(chain: &Chain) -> Option<&Sealed> {
    let (seal, _, _) = chain.seals.first()?;
    let format = seal.files.first()?;
    (seal.act == Act::Begin && format.path == FORMAT).then_some(format)
}
