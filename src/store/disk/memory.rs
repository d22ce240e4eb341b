//! A disk in memory, which fails at its n-th operation and forgets at a crash what was not synced.
//!
//! What a crash leaves: a file's synced bytes, and of those written since any prefix, perhaps with its last sector garbled; of the names
//! that were not synced (files created, renamed, removed) any subset that could have come about, each rename whole.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Disk, Entry, Lock, LockError, directory_of};

/// What happens at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operation fails and does nothing.
    Fails,
    /// A write puts half of its bytes down and fails; any other operation fails.
    Short,
    /// There is no space: as `Short`, with that error.
    Full,
    /// The machine stops: this and every later operation fails until [`Memory::crash`].
    Stops,
}

#[derive(Clone, Debug, Default)]
struct File {
    bytes: Vec<u8>,
    synced: Vec<u8>,
}

/// A change of names that was not synced.
#[derive(Clone, Debug)]
enum Pending {
    Link(String, u64),
    Rename(String, String),
    Unlink(String),
}

impl Pending {
    fn names(&self) -> impl Iterator<Item = &str> {
        let (one, other) = match self {
            Pending::Link(path, _) | Pending::Unlink(path) => (path, None),
            Pending::Rename(from, to) => (from, Some(to)),
        };
        std::iter::once(one).chain(other).map(String::as_str)
    }

    fn touches(&self, directory: &str) -> bool {
        match self {
            Pending::Link(path, _) | Pending::Unlink(path) => directory_of(path) == directory,
            Pending::Rename(from, to) => {
                directory_of(from) == directory || directory_of(to) == directory
            }
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Pending::Link(path, file) => _ = names.insert(path.clone(), *file),
            Pending::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Pending::Unlink(path) => _ = names.remove(path),
        }
    }
}

#[derive(Debug, Default)]
struct State {
    files: HashMap<u64, File>,
    next: u64,
    names: BTreeMap<String, u64>,
    synced: BTreeMap<String, u64>,
    pending: Vec<Pending>,
    operations: u64,
    faults: BTreeMap<u64, Fault>,
    stopped: bool,
    owner: Option<String>,
}

/// The disk; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<State>>);

impl Memory {
    /// An empty disk.
    pub fn new() -> Self {
        Memory::default()
    }

    /// How many operations were asked for so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Lets an operation fail; the first one is number 1.
    pub fn fail(&self, operation: u64, fault: Fault) {
        self.state().faults.insert(operation, fault);
    }

    /// Takes back the faults that are still to come; a machine that has stopped goes on, and nothing is forgotten.
    pub fn repair(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.stopped = false;
    }

    /// The machine stops and comes back: what was not synced is there or not, as `random` says (each call a new number).
    pub fn crash(&self, mut random: impl FnMut() -> u64) {
        let mut state = self.state();
        let pending = std::mem::take(&mut state.pending);
        for change in pending {
            if random().is_multiple_of(2) {
                change.apply(&mut state.synced);
            }
        }
        state.names = state.synced.clone();
        let kept: Vec<u64> = state.names.values().copied().collect();
        state.files.retain(|file, _| kept.contains(file));
        for file in state.files.values_mut() {
            file.bytes = torn(file, &mut random);
            file.synced = file.bytes.clone();
        }
        state.faults.clear();
        state.stopped = false;
        state.owner = None;
    }

    /// All files, by path.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        let file = |(path, file): (&String, &u64)| (path.clone(), state.files[file].bytes.clone());
        state.names.iter().map(file).collect()
    }

    /// A disk that holds these files, all of them synced.
    pub fn holding(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let disk = Memory::new();
        let mut state = disk.state();
        for (path, bytes) in files {
            let number = state.next;
            state.next += 1;
            let synced = bytes.clone();
            state.files.insert(number, File { bytes, synced });
            state.names.insert(path, number);
        }
        state.synced = state.names.clone();
        drop(state);
        disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no holder panics")
    }

    /// Counts an operation, and says what is to go wrong with it.
    fn step(&self) -> io::Result<(MutexGuard<'_, State>, Option<Fault>)> {
        let mut state = self.state();
        state.operations += 1;
        let operation = state.operations;
        let fault = state.faults.get(&operation).copied();
        if state.stopped || fault == Some(Fault::Stops) {
            state.stopped = true;
            return Err(io::Error::other("the machine has stopped"));
        }
        Ok((state, fault))
    }

    /// An operation that happens or does not.
    fn whole(&self) -> io::Result<MutexGuard<'_, State>> {
        let (state, fault) = self.step()?;
        match fault {
            None => Ok(state),
            Some(fault) => Err(error_of(fault)),
        }
    }

    fn write(&self, number: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut state, fault) = self.step()?;
        let kept = match fault {
            None => bytes,
            Some(Fault::Fails) => &[],
            Some(_) => &bytes[..bytes.len() / 2],
        };
        let file = state.files.entry(number).or_default();
        file.bytes.extend_from_slice(kept);
        fault.map_or(Ok(()), |fault| Err(error_of(fault)))
    }

    fn sync(&self, number: u64) -> io::Result<()> {
        let mut state = self.whole()?;
        let file = state.files.entry(number).or_default();
        file.synced = file.bytes.clone();
        Ok(())
    }
}

/// What a crash leaves of a file.
fn torn(file: &File, random: &mut impl FnMut() -> u64) -> Vec<u8> {
    const SECTOR: usize = 512;
    if file.bytes == file.synced {
        return file.bytes.clone();
    }
    let Some(new) = file.bytes.strip_prefix(file.synced.as_slice()) else {
        // It was cut: either length.
        return if random().is_multiple_of(2) {
            file.bytes.clone()
        } else {
            file.synced.clone()
        };
    };
    let kept = (random() as usize) % (new.len() + 1);
    let mut bytes = file.synced.clone();
    bytes.extend_from_slice(&new[..kept]);
    let from = bytes.len().saturating_sub(SECTOR).max(file.synced.len());
    match random() % 8 {
        0 | 1 => bytes[from..].fill(0),
        2 => bytes[from..]
            .iter_mut()
            .for_each(|byte| *byte = random() as u8),
        _ => {}
    }
    bytes
}

fn error_of(fault: Fault) -> io::Error {
    match fault {
        Fault::Full => io::Error::from(io::ErrorKind::StorageFull),
        _ => io::Error::other("an input/output error"),
    }
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Disk for Memory {
    fn read(&self, path: &str, most: u64) -> io::Result<Vec<u8>> {
        let state = self.whole()?;
        let number = state.names.get(path).ok_or_else(missing)?;
        let bytes = &state.files[number].bytes;
        let most = usize::try_from(most.saturating_add(1)).unwrap_or(usize::MAX);
        Ok(bytes[..bytes.len().min(most)].to_vec())
    }

    fn stream(&self, path: &str, most: u64, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let bytes = self.read(path, most)?;
        each(&bytes);
        Ok(())
    }

    fn create(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let number = {
            let mut state = self.whole()?;
            if state.names.contains_key(path) {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            let number = state.next;
            state.next += 1;
            state.files.insert(number, File::default());
            state.names.insert(path.to_owned(), number);
            state.pending.push(Pending::Link(path.to_owned(), number));
            number
        };
        self.write(number, bytes)?;
        self.sync(number)
    }

    fn append(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let number = {
            let state = self.whole()?;
            *state.names.get(path).ok_or_else(missing)?
        };
        self.write(number, bytes)?;
        self.sync(number)
    }

    fn truncate(&self, path: &str, bytes: u64) -> io::Result<()> {
        let number = {
            let mut state = self.whole()?;
            let number = *state.names.get(path).ok_or_else(missing)?;
            let file = state.files.entry(number).or_default();
            file.bytes
                .truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
            number
        };
        self.sync(number)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.whole()?;
        let number = state.names.remove(from).ok_or_else(missing)?;
        state.names.insert(to.to_owned(), number);
        let change = Pending::Rename(from.to_owned(), to.to_owned());
        state.pending.push(change);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.whole()?;
        state.names.remove(path).ok_or_else(missing)?;
        state.pending.push(Pending::Unlink(path.to_owned()));
        Ok(())
    }

    fn remove_directory(&self, _path: &str) -> io::Result<()> {
        // Directories are there when something is in them.
        self.whole().map(|_| ())
    }

    fn make_directory(&self, _path: &str) -> io::Result<bool> {
        self.whole().map(|_| true)
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        let mut state = self.whole()?;
        let pending = std::mem::take(&mut state.pending);
        // What was done to the same names before is there as well, and nothing else.
        let mut names: HashSet<&str> = HashSet::new();
        let mut is_synced = vec![false; pending.len()];
        for (at, change) in pending.iter().enumerate().rev() {
            if change.touches(path) || change.names().any(|name| names.contains(name)) {
                names.extend(change.names());
                is_synced[at] = true;
            }
        }
        for (change, is_synced) in pending.into_iter().zip(is_synced) {
            if is_synced {
                change.apply(&mut state.synced);
            } else {
                state.pending.push(change);
            }
        }
        Ok(())
    }

    fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        let state = self.whole()?;
        let mut found: BTreeMap<String, Entry> = BTreeMap::new();
        for (name, number) in &state.names {
            let Some(rest) = below(name, path) else {
                continue;
            };
            let (name, is_directory) = match rest.split_once('/') {
                Some((directory, _)) => (directory, true),
                None => (rest, false),
            };
            let bytes = state.files[number].bytes.len() as u64;
            let entry = Entry {
                name: name.to_owned(),
                is_directory,
                bytes: if is_directory { 0 } else { bytes },
            };
            found.insert(name.to_owned(), entry);
        }
        Ok(found.into_values().collect())
    }

    fn lock(&self, owner: &str) -> Result<Box<dyn Lock>, LockError> {
        let mut state = self.whole().map_err(LockError::Io)?;
        if let Some(owner) = &state.owner {
            return Err(LockError::Held(owner.clone()));
        }
        state.owner = Some(owner.to_owned());
        Ok(Box::new(Held(self.clone())))
    }

    fn holder(&self) -> io::Result<Option<String>> {
        Ok(self.whole()?.owner.clone())
    }
}

fn below<'a>(name: &'a str, directory: &str) -> Option<&'a str> {
    if directory.is_empty() {
        return Some(name);
    }
    name.strip_prefix(directory)?.strip_prefix('/')
}

#[derive(Debug)]
struct Held(Memory);

impl Lock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.state().owner = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_keeps_what_was_synced_and_no_more_than_was_written() {
        for seed in 0..200u64 {
            let mut state = seed;
            let mut random = || {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                state >> 33
            };
            let disk = Memory::new();
            disk.create("chain", b"one\n").expect("no fault");
            disk.sync_directory("").expect("no fault");
            disk.append("chain", b"two\n").expect("no fault");
            disk.create("later", b"three").expect("no fault");
            disk.fail(disk.operations() + 3, Fault::Stops);
            assert!(disk.append("chain", b"never synced").is_err());
            assert!(disk.read("chain", 9).is_err(), "the machine has stopped");
            disk.crash(&mut random);
            let bytes = disk.read("chain", 99).expect("it was synced");
            assert!(bytes.starts_with(b"one\ntwo\n"), "seed {seed}");
            assert!(bytes.len() <= 8 + 12, "seed {seed}");
            if let Ok(later) = disk.read("later", 99) {
                assert_eq!(later, b"three", "seed {seed}: the bytes were synced");
            }
        }
    }

    #[test]
    fn the_nth_operation_fails_as_it_is_told() {
        let disk = Memory::new();
        // Opening, writing, syncing.
        disk.fail(2, Fault::Short);
        assert!(disk.create("orders", b"12345678").is_err());
        assert_eq!(disk.files()["orders"], b"1234");
        disk.fail(disk.operations() + 2, Fault::Full);
        let full = disk.append("orders", b"ab").expect_err("no space");
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        disk.fail(disk.operations() + 1, Fault::Fails);
        assert!(disk.rename("orders", "moved").is_err());
        assert!(disk.rename("orders", "moved").is_ok());
    }
}
