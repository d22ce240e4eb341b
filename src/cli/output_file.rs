//! `--output FILE`: written beside the file and renamed when all is there, so that nobody ever reads half of it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A file that comes to be only when it is complete.
pub(super) struct OutputFile {
    out: BufWriter<File>,
    /// The file beside, and what it becomes; None for pipes and devices, which are written as they are.
    names: Option<(PathBuf, PathBuf)>,
}

impl OutputFile {
    /// Begins a file.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let replaced = fs::metadata(path);
        let place = match &replaced {
            Ok(there) if there.is_dir() => {
                return Err(io::Error::new(
                    io::ErrorKind::IsADirectory,
                    "it is a directory",
                ));
            }
            Ok(there) if !there.is_file() => {
                let out = OpenOptions::new().write(true).open(path)?;
                return Ok(OutputFile {
                    out: BufWriter::new(out),
                    names: None,
                });
            }
            // Through a link, the file that it leads to is replaced, not the link.
            Ok(_) => fs::canonicalize(path)?,
            Err(_) => path.to_path_buf(),
        };
        let replaced = replaced.ok();
        let name = place
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it has no name"))?;
        for attempt in 0..100 {
            let mut beside = OsString::from(".");
            beside.push(name);
            beside.push(format!(".{}-{attempt}.part", std::process::id()));
            let beside = place.with_file_name(beside);
            match OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(&beside)
            {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                opened => {
                    let file = OutputFile {
                        out: BufWriter::new(opened?),
                        names: Some((beside, place)),
                    };
                    // Who may read the file that is replaced may read the new one, and nobody else.
                    if let (Some(old), Some((beside, _))) = (&replaced, &file.names) {
                        fs::set_permissions(beside, old.permissions())?;
                    }
                    return Ok(file);
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Gives the file its name.
    pub(super) fn complete(mut self) -> io::Result<()> {
        self.out.flush()?;
        if let Some((beside, place)) = &self.names {
            self.out.get_ref().sync_all()?;
            fs::rename(beside, place)?;
            self.names = None;
        }
        Ok(())
    }
}

impl Write for &mut OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some((beside, _)) = &self.names {
            // The command has failed and says why; a leftover file would only confuse.
            let _ = fs::remove_file(beside);
        }
    }
}
