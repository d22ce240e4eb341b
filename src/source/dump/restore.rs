//! Dumps in the custom, directory and tar formats, made plain by Postgres' own `pg_restore`.

use std::ffi::OsString;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use crate::diagnostic::Diagnostic;
use crate::source::SourceError;

/// How much of what `pg_restore` complains about is kept.
const COMPLAINT_BYTES_MAX: u64 = 4096;

/// A running `pg_restore`, which prints the dump; it ends with this.
pub(super) struct Restore {
    child: Child,
    complaint: Option<JoinHandle<String>>,
}

impl Drop for Restore {
    fn drop(&mut self) {
        // It may have ended already, and then there is nothing to stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts `pg_restore` on an archive; gives its output, which is read to its end and then [finished](Restore::finish).
pub(super) fn start(
    path: &Path,
    schema_only: bool,
) -> Result<(BufReader<ChildStdout>, Restore), SourceError> {
    let mut arguments: Vec<OsString> = vec!["--no-owner".into(), "--no-privileges".into()];
    arguments.extend(schema_only.then(|| "--schema-only".into()));
    // Behind `--` no name is taken for an option.
    arguments.extend(["--file=-".into(), "--".into(), path.into()]);
    let mut child = Command::new("pg_restore")
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| not_started(path, error))?;
    let output = child.stdout.take().expect("stdout is piped");
    let errors = child.stderr.take().expect("stderr is piped");
    // Nobody reads it while the output is read, so it must not fill its pipe.
    let complaint = std::thread::spawn(move || {
        let mut kept = Vec::new();
        let mut errors = errors;
        let _ = errors
            .by_ref()
            .take(COMPLAINT_BYTES_MAX)
            .read_to_end(&mut kept);
        let _ = io::copy(&mut errors, &mut io::sink());
        String::from_utf8_lossy(&kept).into_owned()
    });
    let restore = Restore {
        child,
        complaint: Some(complaint),
    };
    Ok((BufReader::with_capacity(1 << 16, output), restore))
}

fn not_started(path: &Path, error: io::Error) -> SourceError {
    if error.kind() != io::ErrorKind::NotFound {
        return SourceError::io(path)(error);
    }
    SourceError::Tool {
        message: format!(
            "{} is an archive of pg_dump, and pg_restore, which reads it, is not installed",
            crate::escape::terminal(&path.display().to_string())
        ),
        hint: "install Postgres' client programs (Debian, Ubuntu: postgresql-client; Alpine: postgresql-client; macOS: \
               libpq), or write the dump with `pg_dump --format=plain`",
    }
}

impl Restore {
    /// Waits for the end, once all output was read.
    ///
    /// # Errors
    /// What `pg_restore` complained about.
    pub(super) fn finish(mut self, path: &Path) -> Result<(), SourceError> {
        let status = self.child.wait().map_err(SourceError::io(path))?;
        let complaint = self.complaint.take().map(JoinHandle::join);
        if status.success() {
            return Ok(());
        }
        let complaint = complaint.and_then(Result::ok).unwrap_or_default();
        let first = complaint.lines().next().unwrap_or("").trim();
        let said: String = first.chars().take(300).collect();
        if complaint.contains("unsupported version") {
            return Err(SourceError::Tool {
                message: format!(
                    "pg_restore is older than the pg_dump that wrote {}",
                    crate::escape::terminal(&path.display().to_string())
                ),
                hint: "install the client programs of the newer Postgres, first on the PATH",
            });
        }
        let message = match said.is_empty() {
            true => format!("pg_restore cannot read it ({status})"),
            false => format!("pg_restore cannot read it: {said}"),
        };
        Err(SourceError::Input(vec![
            Diagnostic::file(path, message).with_hint("the archive is damaged or was cut off"),
        ]))
    }
}
