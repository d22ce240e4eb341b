//! Messages of one transaction, each with its length before it: in memory, and from a limit on in a file that has no name any more.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::assemble::{AssembleError, Item, Limits, read};
use super::pgoutput::Malformed;
use super::relations::Relations;

/// How much is gathered before it is written to the file.
const WRITE_BYTES: usize = 1 << 20;
/// Room that is kept for the next transaction.
const ROOM_BYTES_MAX: usize = 1 << 20;

/// A transaction that was too large for memory. The file goes with it.
#[derive(Debug)]
pub struct Spill {
    /// Who reads moves the file's position.
    file: Mutex<File>,
    directory: String,
    bytes: u64,
    relations: Relations,
}

/// A file with the messages that were written to it.
#[derive(Debug)]
pub(super) struct Spilled {
    file: File,
    directory: String,
    bytes: u64,
}

impl Spill {
    /// Messages in a file, and what was known of the tables when the transaction began.
    pub(super) fn new(spilled: Spilled, relations: Relations) -> Self {
        Spill {
            file: Mutex::new(spilled.file),
            directory: spilled.directory,
            bytes: spilled.bytes,
            relations,
        }
    }

    /// How large the file is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Goes through the transaction in order, decoding one message after the other; any number of times, one at a time.
    ///
    /// # Errors
    /// What `take` gives; where the file or a message in it cannot be read.
    ///
    /// # Panics
    /// Where `take` goes through the same transaction.
    pub fn for_each<E: From<AssembleError>>(
        &self,
        mut take: impl FnMut(Item) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = |error| failed(&self.directory, error);
        // Who panicked before left nothing in the file that is not overwritten by the seek.
        let mut file = self.file.lock().unwrap_or_else(|held| held.into_inner());
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut reader = BufReader::with_capacity(WRITE_BYTES, &mut *file);
        let mut relations = self.relations.clone();
        let mut frame = Vec::new();
        let mut rest = self.bytes;
        while rest > 0 {
            let mut length = [0; 4];
            reader.read_exact(&mut length).map_err(failed)?;
            let length = u32::from_be_bytes(length);
            frame.clear();
            let read_bytes = reader.by_ref().take(length.into()).read_to_end(&mut frame);
            if read_bytes.map_err(failed)? != length as usize {
                let error = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                return Err(failed(error).into());
            }
            rest = rest.saturating_sub(u64::from(length) + 4);
            read(&mut relations, &frame, &mut take)?;
            if frame.capacity() > ROOM_BYTES_MAX {
                frame = Vec::new();
            }
        }
        Ok(())
    }
}

/// Messages that are being gathered.
#[derive(Debug)]
pub(super) struct Frames {
    /// All of them, or those that are not in the file yet.
    held: Vec<u8>,
    file: Option<Spilled>,
}

impl Frames {
    /// Without messages, in room that was used before.
    pub(super) fn new(room: Vec<u8>) -> Self {
        Frames {
            held: room,
            file: None,
        }
    }

    pub(super) fn push(&mut self, frame: &[u8], limits: &Limits) -> Result<(), AssembleError> {
        let length = u32::try_from(frame.len());
        let length = length.map_err(|_| Malformed::new("it is longer than 4 GiB"))?;
        self.held.extend_from_slice(&length.to_be_bytes());
        self.held.extend_from_slice(frame);
        let limit = match self.file {
            None => limits.held_bytes,
            Some(_) => WRITE_BYTES,
        };
        if self.held.len() > limit {
            self.write(limits)?;
        }
        Ok(())
    }

    /// Moves what is held to the file.
    fn write(&mut self, limits: &Limits) -> Result<(), AssembleError> {
        let directory = limits.directory.display().to_string();
        let failed = |error| failed(&directory, error);
        let spilled = match &mut self.file {
            Some(spilled) => spilled,
            None => self.file.insert(Spilled {
                file: nameless(&limits.directory).map_err(failed)?,
                directory: directory.clone(),
                bytes: 0,
            }),
        };
        spilled.file.write_all(&self.held).map_err(failed)?;
        spilled.bytes += u64::try_from(self.held.len()).unwrap_or(u64::MAX);
        self.held = Vec::with_capacity(WRITE_BYTES);
        Ok(())
    }

    /// The file, or all that is held.
    pub(super) fn finish(
        mut self,
        limits: &Limits,
    ) -> Result<Result<Spilled, Vec<u8>>, AssembleError> {
        if self.file.is_some() && !self.held.is_empty() {
            self.write(limits)?;
        }
        Ok(self.file.ok_or(self.held))
    }
}

/// Room for the next transaction, not more than is worth keeping.
pub(super) fn emptied(mut room: Vec<u8>) -> Vec<u8> {
    room.clear();
    room.shrink_to(ROOM_BYTES_MAX);
    room
}

/// The messages in memory, in order.
pub(super) fn frames(mut held: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = held.split_first_chunk::<4>()?;
        let (frame, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        held = rest;
        Some(frame)
    })
}

fn failed(directory: &str, error: std::io::Error) -> AssembleError {
    AssembleError::Spill {
        directory: directory.to_owned(),
        error,
    }
}

/// A new file that only this process can reach: its name is taken away as soon as it is open.
fn nameless(directory: &Path) -> std::io::Result<File> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // What a process with the same number left behind when it was killed is in the way a few times at most.
    for _ in 0..1_000 {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = directory.join(format!(".firstbad-spill-{}-{number}", std::process::id()));
        match options.open(&path) {
            Ok(file) => {
                std::fs::remove_file(&path)?;
                return Ok(file);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(std::io::ErrorKind::AlreadyExists.into())
}
