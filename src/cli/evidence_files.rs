//! Where an export goes: a directory or an archive that comes to be only when all is there, and replaces nothing.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::output_file::OutputFile;
use super::{Stop, output};

/// Archives that are known by their names and not written.
const OTHER_ARCHIVES: [&str; 8] = [
    ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".zip", ".zst", ".tzst",
];

/// A directory or an archive that is to be written.
pub(super) enum Place {
    /// A new or empty directory.
    Directory(PathBuf),
    /// A new file.
    Archive(PathBuf),
}

impl Place {
    /// What a path names, unless something is there already.
    pub(super) fn of(path: &Path) -> Result<Place, Stop> {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().to_lowercase());
        let Some(name) = name else {
            return Err(wrong(
                path,
                "it has no name",
                "name a new directory, or FILE.tar.zst",
            ));
        };
        let is_archive = name.ends_with(".tar.zst");
        if !is_archive && OTHER_ARCHIVES.iter().any(|ending| name.ends_with(ending)) {
            return Err(wrong(
                path,
                "archives of this kind are not written",
                "name a FILE.tar.zst, or a directory",
            ));
        }
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(path, &error)),
            Ok(there) if is_archive || !there.is_dir() => {
                return Err(wrong(
                    path,
                    "it is there already",
                    "name another, or remove it",
                ));
            }
            Ok(_) => {
                let mut inside = fs::read_dir(path).map_err(|error| failed(path, &error))?;
                if inside.next().is_some() {
                    return Err(wrong(
                        path,
                        "the directory is not empty",
                        "name another, or empty it",
                    ));
                }
            }
        }
        Ok(match is_archive {
            true => Place::Archive(path.to_path_buf()),
            false => Place::Directory(path.to_path_buf()),
        })
    }

    /// Writes files; those of an archive stand below a directory with the incident's name and have the time it was opened, in
    /// microseconds since the epoch: the same evidence makes the same bytes.
    pub(super) fn write(
        &self,
        id: &str,
        opened: i64,
        files: &[(&'static str, Vec<u8>)],
    ) -> Result<(), Stop> {
        let (path, written) = match self {
            Place::Directory(path) => (path, directory(path, files)),
            Place::Archive(path) => (path, archive(path, id, opened, files)),
        };
        written.map_err(|error| failed(path, &error))
    }
}

fn wrong(path: &Path, what: &str, hint: &str) -> Stop {
    let path = crate::escape::os(output::mask().path(path).as_os_str());
    output::wrong_argument(&format!("cannot export to `{path}`: {what}"), Some(hint))
}

fn failed(path: &Path, error: &io::Error) -> Stop {
    let path = crate::escape::os(output::mask().path(path).as_os_str());
    output::world(&format!("cannot write {path}"), error)
}

fn directory(path: &Path, files: &[(&'static str, Vec<u8>)]) -> io::Result<()> {
    let mut beside = OsString::from(".");
    beside.push(path.file_name().unwrap_or_default());
    beside.push(format!(".{}.part", std::process::id()));
    let beside = path.with_file_name(beside);
    fs::create_dir(&beside)?;
    let filled = fill(&beside, files).and_then(|()| fs::rename(&beside, path));
    if filled.is_err() {
        // The command has failed and says why; a leftover would only confuse.
        let _ = fs::remove_dir_all(&beside);
    }
    filled
}

fn fill(directory: &Path, files: &[(&'static str, Vec<u8>)]) -> io::Result<()> {
    for (name, bytes) in files {
        let mut file = File::create_new(directory.join(name))?;
        file.write_all(bytes)?;
        file.sync_all()?;
    }
    Ok(())
}

fn archive(
    path: &Path,
    id: &str,
    opened: i64,
    files: &[(&'static str, Vec<u8>)],
) -> io::Result<()> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut sorted: Vec<&(&'static str, Vec<u8>)> = files.iter().collect();
    sorted.sort_by_key(|(name, _)| *name);
    for (name, bytes) in sorted {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(u64::try_from(opened / 1_000_000).unwrap_or(0));
        builder.append_data(&mut header, format!("{id}/{name}"), bytes.as_slice())?;
    }
    let packed = zstd::stream::encode_all(builder.into_inner()?.as_slice(), 0)?;
    let mut file = OutputFile::create(path)?;
    let mut out = &mut file;
    out.write_all(&packed)?;
    file.complete()
}
