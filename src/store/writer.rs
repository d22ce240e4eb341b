//! Writing a store: files are put down unsealed, then one line of the chain makes them part of it.

use std::collections::{BTreeSet, HashSet};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::chain::{Act, CHAIN, Chain, Seal, Sealed};
use super::disk::{Disk, Local, Lock, LockError, directory_of};
use super::error::StoreError;
use super::format::{FORMAT, Format, OBJECTS, SEGMENTS, SNAPSHOTS, UNSEALED, unsealed};
use super::{Store, is_store};
use crate::change::now_us;

/// A store that is being written; holds its lock.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    /// Set when something failed half-way: what is on the disk is not known then, and the store must be opened again.
    failed: bool,
    _lock: Box<dyn Lock>,
}

/// A file that was put down and waits for its seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Staged {
    pub(super) sealed: Sealed,
    /// Whether the seal names it; a chunk is vouched for by the manifest that does.
    pub(super) named: bool,
}

impl Writer {
    /// Opens the store in a directory for writing, and makes it when it is not there.
    ///
    /// # Errors
    /// As [`Store::open`]; [`StoreError::Locked`].
    pub fn open(directory: &Path, format: impl FnOnce() -> Format) -> Result<Writer, StoreError> {
        let shown = directory.display().to_string();
        std::fs::create_dir_all(directory).map_err(StoreError::io("make", &shown))?;
        if !is_store(directory) && !is_free(directory).map_err(StoreError::io("list", &shown))? {
            return Err(StoreError::refused(
                format!("`{shown}` is not empty and no store"),
                "name a new directory for the store",
            ));
        }
        Writer::on(Arc::new(Local::new(directory)), format)
    }

    /// Opens the store on a disk for writing, and makes it when there is none.
    ///
    /// # Errors
    /// As [`Writer::open`].
    pub fn on(disk: Arc<dyn Disk>, format: impl FnOnce() -> Format) -> Result<Writer, StoreError> {
        let lock = disk.lock(&owner()).map_err(|error| match error {
            LockError::Held(owner) => StoreError::Locked(owner),
            LockError::Io(error) => StoreError::io("lock", super::disk::LOCK)(error),
        })?;
        let has = |path: &str| match disk.read(path, 0) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("read", path)(error)),
        };
        if !has(CHAIN)? && !has(FORMAT)? {
            refuse_remains(disk.as_ref())?;
            begin(disk.as_ref(), &format())?;
        }
        let store = recover(disk)?;
        Ok(Writer {
            store,
            failed: false,
            _lock: lock,
        })
    }

    /// The store as it is now.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Puts a file down that the next seal will name.
    pub(super) fn stage(&self, path: &str, bytes: &[u8]) -> Result<Staged, StoreError> {
        stage(self.store.disk.as_ref(), path, bytes)?;
        Ok(Staged {
            sealed: Sealed::of(path, bytes),
            named: true,
        })
    }

    /// Seals what was put down: from now on it is part of the store, and `removed` is not.
    pub(super) fn seal(
        &mut self,
        act: Act,
        staged: Vec<Staged>,
        removed: Vec<String>,
    ) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::refused(
                "an earlier write to the store failed",
                "open it again",
            ));
        }
        self.failed = true;
        let disk = Arc::clone(&self.store.disk);
        let disk = disk.as_ref();
        let places: Vec<String> = staged.iter().map(|s| s.sealed.path.clone()).collect();
        sync_above(disk, places.iter().map(|path| unsealed(path)))?;
        for path in &removed {
            shift(disk, path, &unsealed(path))?;
        }
        let gone = removed
            .iter()
            .flat_map(|path| [path.clone(), unsealed(path)]);
        sync_above(disk, gone)?;
        let number = self.store.chain.seals.len() as u64 + 1;
        let seal = Seal {
            seal: number,
            time: now_us(),
            previous: self.store.chain.head(),
            act,
            files: staged
                .into_iter()
                .filter(|staged| staged.named)
                .map(|staged| staged.sealed)
                .collect(),
            removed,
        };
        let (line, hash) = seal.line();
        disk.append(CHAIN, line.as_bytes())
            .map_err(StoreError::io("append to", CHAIN))?;
        for path in &places {
            shift(disk, &unsealed(path), path)?;
        }
        let moved = places
            .iter()
            .flat_map(|path| [path.clone(), unsealed(path)]);
        sync_above(disk, moved)?;
        for path in &seal.removed {
            let path = unsealed(path);
            disk.remove(&path)
                .map_err(StoreError::io("remove", &path))?;
        }
        leave(disk, places.iter().map(|path| unsealed(path)));
        leave(disk, seal.removed.iter().cloned());
        leave(disk, seal.removed.iter().map(|path| unsealed(path)));
        self.store.ledger.take(&seal);
        let chain = Arc::make_mut(&mut self.store.chain);
        let from = chain.whole;
        chain.whole += line.len() as u64;
        chain.seals.push((seal, hash, from));
        self.failed = false;
        Ok(())
    }
}

/// Who writes, for whoever finds the store locked.
fn owner() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let host = read("/proc/sys/kernel/hostname");
    let boot = read("/proc/sys/kernel/random/boot_id");
    let program = std::env::args().next().unwrap_or_default();
    format!(
        "process {} ({}) on {} (boot {})",
        std::process::id(),
        crate::escape::terminal(&program),
        crate::escape::terminal(host.trim()),
        boot.trim()
    )
}

/// Whether a directory has nothing in it but what the beginning of a store leaves behind.
fn is_free(directory: &Path) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let ours = [UNSEALED, super::disk::LOCK, super::disk::OWNER];
        if !ours.iter().any(|ours| name == *ours) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A chain that is lost together with `FORMAT` leaves files behind; they are not overwritten by a new store.
fn refuse_remains(disk: &dyn Disk) -> Result<(), StoreError> {
    for place in [SEGMENTS, SNAPSHOTS, OBJECTS] {
        let entries = disk.list(place).map_err(StoreError::io("list", place))?;
        if !entries.is_empty() {
            return Err(StoreError::damaged(
                CHAIN,
                (0, 0),
                super::MISSING,
                "the whole store",
            ));
        }
    }
    Ok(())
}

/// Makes a store: its chain comes last, so that there is a store or none.
fn begin(disk: &dyn Disk, format: &Format) -> Result<(), StoreError> {
    for path in [unsealed(FORMAT), unsealed(CHAIN)] {
        match disk.remove(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(StoreError::io("remove", &path)(error));
            }
            _ => {}
        }
    }
    let bytes = format.bytes();
    stage(disk, FORMAT, &bytes)?;
    let seal = Seal {
        seal: 1,
        time: format.created,
        previous: Chain::default().head(),
        act: Act::Begin,
        files: vec![Sealed::of(FORMAT, &bytes)],
        removed: Vec::new(),
    };
    stage(disk, CHAIN, seal.line().0.as_bytes())?;
    sync_above(disk, [unsealed(CHAIN)])?;
    shift(disk, &unsealed(CHAIN), CHAIN)?;
    sync_above(disk, [CHAIN.to_owned(), unsealed(CHAIN)])
}

/// Reads a store whose lock is held, and finishes or undoes what its last writer did not finish.
fn recover(disk: Arc<dyn Disk>) -> Result<Store, StoreError> {
    // Refuses what a crash cannot have done, before anything is changed.
    let store = Store::on(Arc::clone(&disk))?;
    if let Some(sealed) = store.missing()? {
        let affects = store.ledger.affects(&sealed.path);
        let range = (0, sealed.bytes);
        return Err(StoreError::damaged(
            sealed.path.as_str(),
            range,
            super::MISSING,
            affects,
        ));
    }
    // Also where nothing is to be cut off: the last seal may have been written and not synced, and what follows relies on it.
    disk.truncate(CHAIN, store.chain.whole)
        .map_err(StoreError::io("cut", CHAIN))?;
    let store = Store::on(Arc::clone(&disk))?;
    let mut left = Vec::new();
    files_below(disk.as_ref(), UNSEALED, &mut left)?;
    let objects = if left.iter().any(|(path, _)| is_object(path)) {
        store.object_paths()?
    } else {
        HashSet::new()
    };
    let mut moved = Vec::new();
    for (path, _) in left {
        let place = &path[UNSEALED.len() + 1..];
        let is_live = store.ledger.files.contains_key(place) || objects.contains(place);
        let has_place = match disk.read(place, 0) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(error) => return Err(StoreError::io("read", place)(error)),
        };
        if is_live && !has_place {
            shift(disk.as_ref(), &path, place)?;
            moved.extend([path.clone(), place.to_owned()]);
        } else {
            disk.remove(&path)
                .map_err(StoreError::io("remove", &path))?;
        }
    }
    sync_above(disk.as_ref(), moved.iter().cloned())?;
    leave(disk.as_ref(), moved.into_iter());
    Ok(store)
}

/// Removes the directories of segments that may be empty now.
fn leave(disk: &dyn Disk, paths: impl Iterator<Item = String>) {
    let directories: BTreeSet<String> = paths
        .map(|path| directory_of(&path).to_owned())
        .filter(|directory| {
            let place = directory.strip_prefix("unsealed/").unwrap_or(directory);
            place.starts_with("segments/")
        })
        .collect();
    for directory in directories {
        // An empty directory does no harm, and one that is not empty stays.
        let _ = disk.remove_directory(&directory);
    }
}

fn is_object(path: &str) -> bool {
    path.strip_prefix(UNSEALED)
        .and_then(|path| path.strip_prefix('/'))
        .is_some_and(|path| path.starts_with(OBJECTS))
}

/// All files below a directory with their lengths.
pub(super) fn files_below(
    disk: &dyn Disk,
    directory: &str,
    out: &mut Vec<(String, u64)>,
) -> Result<(), StoreError> {
    let entries = disk
        .list(directory)
        .map_err(StoreError::io("list", directory))?;
    for entry in entries {
        let path = if directory.is_empty() {
            entry.name
        } else {
            format!("{directory}/{}", entry.name)
        };
        if entry.is_directory {
            files_below(disk, &path, out)?;
        } else {
            out.push((path, entry.bytes));
        }
    }
    Ok(())
}

fn stage(disk: &dyn Disk, path: &str, bytes: &[u8]) -> Result<(), StoreError> {
    let path = unsealed(path);
    make_directory(disk, directory_of(&path))?;
    let created = disk.create(&path, bytes);
    created.map_err(StoreError::io("write", &path))
}

/// Moves a file to another directory, which is made when it is missing.
fn shift(disk: &dyn Disk, from: &str, to: &str) -> Result<(), StoreError> {
    make_directory(disk, directory_of(to))?;
    disk.rename(from, to).map_err(StoreError::io("move", from))
}

fn make_directory(disk: &dyn Disk, path: &str) -> Result<(), StoreError> {
    if path.is_empty() {
        return Ok(());
    }
    let made = disk.make_directory(path);
    made.map(|_| ()).map_err(StoreError::io("make", path))
}

/// Syncs the directories of paths, and those above them.
fn sync_above(disk: &dyn Disk, paths: impl IntoIterator<Item = String>) -> Result<(), StoreError> {
    let mut directories = BTreeSet::new();
    for path in paths {
        let mut directory = directory_of(&path);
        loop {
            directories.insert(directory.to_owned());
            if directory.is_empty() {
                break;
            }
            directory = directory_of(directory);
        }
    }
    // The deepest first.
    for directory in directories.into_iter().rev() {
        disk.sync_directory(&directory)
            .map_err(StoreError::io("sync", &directory))?;
    }
    Ok(())
}
