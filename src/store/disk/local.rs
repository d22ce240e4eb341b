//! A directory of the file system.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Disk, Entry, LOCK, Lock, LockError, OWNER};

/// The longest word of an owner that is read.
const OWNER_BYTES_MAX: u64 = 1000;
/// How often a lock that somebody has is asked for again.
const LOCK_TRIES: usize = 10;
/// How long is waited between.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// How much of a file is looked at at once.
const PIECE_BYTES: usize = 256 << 10;

/// A store's directory.
#[derive(Debug)]
pub struct Local {
    root: PathBuf,
}

impl Local {
    /// The store in a directory, which need not be there yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Local { root: root.into() }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn at(&self, path: &str) -> PathBuf {
        if path.is_empty() {
            self.root.clone()
        } else {
            self.root.join(path)
        }
    }

    /// Opens a file. Links, pipes and devices are no files of a store: some of them never end.
    fn file(&self, path: &str) -> io::Result<File> {
        let path = self.at(path);
        if !std::fs::symlink_metadata(&path)?.is_file() {
            let kind = io::ErrorKind::IsADirectory;
            return Err(io::Error::new(kind, "this is no regular file"));
        }
        File::open(path)
    }

    fn owner(&self) -> String {
        let text = self.read(OWNER, OWNER_BYTES_MAX).unwrap_or_default();
        match String::from_utf8_lossy(&text).trim() {
            "" => "another process".into(),
            owner => owner.to_owned(),
        }
    }
}

fn is_no_directory(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

impl Disk for Local {
    fn read(&self, path: &str, most: u64) -> io::Result<Vec<u8>> {
        let file = self.file(path)?;
        let bytes = file.metadata()?.len().min(most);
        let mut read = Vec::with_capacity(usize::try_from(bytes).unwrap_or_default());
        file.take(most.saturating_add(1)).read_to_end(&mut read)?;
        Ok(read)
    }

    fn stream(&self, path: &str, most: u64, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let mut file = self.file(path)?.take(most.saturating_add(1));
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match file.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(read) => each(&piece[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn create(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).open(self.at(path))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn append(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(self.at(path))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn truncate(&self, path: &str, bytes: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.at(path))?;
        file.set_len(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.at(from), self.at(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        std::fs::remove_file(self.at(path))
    }

    fn remove_directory(&self, path: &str) -> io::Result<()> {
        std::fs::remove_dir(self.at(path))
    }

    fn make_directory(&self, path: &str) -> io::Result<bool> {
        let path = self.at(path);
        if path.is_dir() {
            return Ok(false);
        }
        std::fs::create_dir_all(path)?;
        Ok(true)
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        File::open(self.at(path))?.sync_all()
    }

    fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        let entries = match std::fs::read_dir(self.at(path)) {
            Ok(entries) => entries,
            Err(error) if is_no_directory(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                // The directory went meanwhile.
                Err(error) if is_no_directory(&error) => break,
                Err(error) => return Err(error),
            };
            let name = entry.file_name().into_string().map_err(|name| {
                let name = crate::escape::os(&name);
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("the name `{name}` is not UTF-8"),
                )
            })?;
            // Not following links: a link is no file of a store.
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // It went meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            found.push(Entry {
                name,
                is_directory: metadata.is_dir(),
                bytes: if metadata.is_file() {
                    metadata.len()
                } else {
                    0
                },
            });
        }
        found.sort();
        Ok(found)
    }

    fn lock(&self, owner: &str) -> Result<Box<dyn Lock>, LockError> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false);
        let file = match self.file(LOCK) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => options.open(self.at(LOCK)),
        };
        let file = file.map_err(LockError::Io)?;
        let mut tries = 0;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                // Whoever asks for the holder has the lock for an instant.
                Err(TryLockError::WouldBlock) if tries < LOCK_TRIES => {
                    tries += 1;
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(TryLockError::WouldBlock) => return Err(LockError::Held(self.owner())),
                Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
            }
        }
        let owner_file = self.at(OWNER);
        // What an earlier owner left, or a link that leads elsewhere.
        let _ = std::fs::remove_file(&owner_file);
        let mut options = OpenOptions::new();
        let written = options.write(true).create_new(true).open(&owner_file);
        written
            .and_then(|mut file| file.write_all(owner.as_bytes()))
            .map_err(LockError::Io)?;
        Ok(Box::new(Held { file, owner_file }))
    }

    fn holder(&self) -> io::Result<Option<String>> {
        let file = match self.file(LOCK) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(self.owner())),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// The lock of a store; the system gives it back when the process ends, however it ends.
#[derive(Debug)]
struct Held {
    file: File,
    owner_file: PathBuf,
}

impl Lock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        // Only a word for people: the lock itself is what counts.
        let _ = std::fs::remove_file(&self.owner_file);
        let _ = self.file.unlock();
    }
}
