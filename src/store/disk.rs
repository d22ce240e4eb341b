//! Where a store keeps its bytes: one interface, a directory below it, and a twin in memory that forgets and fails on demand.
//!
//! Paths are relative to the store, with `/` between their parts. Every method is one thing that can fail; none retries. A write counts
//! as durable only after the file *and* the directory that names it were synced (`fsync`(2)).

mod local;
mod memory;

use std::fmt::Debug;
use std::io;

pub use local::Local;
pub use memory::{Fault, Memory};

/// What stands in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name in the directory.
    pub name: String,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Bytes of a file; 0 for a directory.
    pub bytes: u64,
}

/// Why a lock was not given.
#[derive(Debug)]
pub enum LockError {
    /// Somebody has it: who they said they are, as far as that can be read.
    Held(String),
    /// The system failed.
    Io(io::Error),
}

/// Holds a lock until it is dropped.
pub trait Lock: Debug + Send + Sync {}

/// Files by path. Implementations are shared by threads.
pub trait Disk: Debug + Send + Sync {
    /// The first so many bytes of a file, and one more when there are more.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when it is not there; whatever the system says.
    fn read(&self, path: &str, most: u64) -> io::Result<Vec<u8>>;

    /// The same bytes as [`Disk::read`] gives, piece by piece.
    ///
    /// # Errors
    /// As [`Disk::read`]; some pieces may have been handed on then.
    fn stream(&self, path: &str, most: u64, each: &mut dyn FnMut(&[u8])) -> io::Result<()>;

    /// Writes a file that is not there yet, and syncs its bytes. The directory must be there and is not synced.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`]; whatever the system says. A part of the file may be left behind.
    fn create(&self, path: &str, bytes: &[u8]) -> io::Result<()>;

    /// Adds bytes to the end of a file, and syncs them.
    ///
    /// # Errors
    /// Whatever the system says; a part of the bytes may be there then.
    fn append(&self, path: &str, bytes: &[u8]) -> io::Result<()>;

    /// Cuts a file off after so many bytes, and syncs it.
    ///
    /// # Errors
    /// Whatever the system says.
    fn truncate(&self, path: &str, bytes: u64) -> io::Result<()>;

    /// Gives a file another path; what was there is replaced. Neither directory is synced.
    ///
    /// # Errors
    /// Whatever the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Whatever the system says.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Removes a directory that is empty.
    ///
    /// # Errors
    /// Whatever the system says.
    fn remove_directory(&self, path: &str) -> io::Result<()>;

    /// Makes a directory and those above it, as far as they are missing; says whether it made one.
    ///
    /// # Errors
    /// Whatever the system says.
    fn make_directory(&self, path: &str) -> io::Result<bool>;

    /// Makes the names in a directory durable; the empty path is the store itself.
    ///
    /// # Errors
    /// Whatever the system says.
    fn sync_directory(&self, path: &str) -> io::Result<()>;

    /// What stands in a directory, by name; nothing when it is not there.
    ///
    /// # Errors
    /// Whatever the system says; [`io::ErrorKind::InvalidData`] for a name that is not UTF-8.
    fn list(&self, path: &str) -> io::Result<Vec<Entry>>;

    /// Takes the store's only lock for writing, and leaves word of its owner.
    ///
    /// # Errors
    /// Who has it.
    fn lock(&self, owner: &str) -> Result<Box<dyn Lock>, LockError>;

    /// Who has the lock; None when nobody has.
    ///
    /// # Errors
    /// Whatever the system says.
    fn holder(&self) -> io::Result<Option<String>>;
}

/// The directory part of a path; empty for a file of the store's own directory.
pub(super) fn directory_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// The file that is locked: empty, and never removed.
pub const LOCK: &str = "lock";
/// Who has the lock, in words; there while it is held.
pub const OWNER: &str = "owner";
