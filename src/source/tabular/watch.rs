//! Whether the system failed while a file was read, or the file is wrong.
//!
//! The readers of formats turn what goes wrong below them into words about the format, or lose it. So the file itself remembers
//! what the operating system said. Errors that it did not say, such as those of decompressors, are about the content.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::object_store::PutPayload;
use datafusion::parquet::errors::Result as ParquetResult;
use datafusion::parquet::file::reader::{ChunkReader, Length};

/// `bytes::Bytes`, as far as the engine lets its users name that crate.
type Bytes = <PutPayload as IntoIterator>::Item;

/// Remembers the first failure of the system below some files.
#[derive(Clone, Debug, Default)]
pub struct Watch(Arc<Mutex<Option<io::Error>>>);

impl Watch {
    /// Opens a file that this watch is told of.
    ///
    /// # Errors
    /// As [`File::open`].
    pub fn open(&self, path: &Path) -> io::Result<Watched> {
        self.told(File::open(path)).map(|file| self.over(file))
    }

    /// A file that is open already.
    pub(super) fn over(&self, file: File) -> Watched {
        Watched {
            file,
            watch: self.clone(),
        }
    }

    /// What failed first; None where nothing did, also when asked again.
    pub fn failure(&self) -> Option<io::Error> {
        self.slot().take()
    }

    /// Hands a result on, and remembers what the system said.
    pub(super) fn told<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && let Some(code) = error.raw_os_error()
            && error.kind() != io::ErrorKind::Interrupted
        {
            self.slot()
                .get_or_insert_with(|| io::Error::from_raw_os_error(code));
        }
        result
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<io::Error>> {
        // A reader that panicked in between has left an error or none, both whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file whose failures are remembered.
#[derive(Debug)]
pub struct Watched {
    file: File,
    watch: Watch,
}

impl Watched {
    /// Its length in bytes.
    pub(super) fn size(&self) -> io::Result<u64> {
        let metadata = self.watch.told(self.file.metadata())?;
        Ok(metadata.len())
    }

    /// The same file at the same place.
    pub(super) fn try_clone(&self) -> io::Result<Watched> {
        let file = self.watch.told(self.file.try_clone())?;
        Ok(self.watch.over(file))
    }
}

impl Read for Watched {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into);
        self.watch.told(read)
    }
}

impl Seek for Watched {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = self.file.seek(to);
        self.watch.told(place)
    }
}

impl Length for Watched {
    fn len(&self) -> u64 {
        self.size().unwrap_or(0)
    }
}

impl ChunkReader for Watched {
    type T = BufReader<Watched>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        let mut file = self.try_clone()?;
        file.seek(SeekFrom::Start(start))?;
        Ok(BufReader::new(file))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let mut file = self.try_clone()?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::with_capacity(length);
        file.take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() != length {
            let error = io::Error::from(io::ErrorKind::UnexpectedEof);
            return Err(error.into());
        }
        Ok(bytes.into())
    }
}
