//! A PostgreSQL server of a test's own: made from the installed programs, reached by a socket in its directory alone, and stopped
//! when the test ends, also by a panic.
//!
//! The server does not run as root: where the tests do, it runs as `postgres` or `nobody`. `FIRSTBAD_PG_BIN` names the directory of
//! its programs where they are not in the usual places.

// Not every test target needs all of it.
#![allow(dead_code)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

const INSTALL: &str = "this test needs PostgreSQL's server programs (initdb, pg_ctl): install them with `apt-get install postgresql` \
                       (Debian, Ubuntu), `apk add postgresql` or `brew install postgresql`, or set FIRSTBAD_PG_BIN to their directory";

/// What a server is like, other than usual.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    /// Listens on a free port of the loopback addresses as well.
    pub(crate) tcp: bool,
    /// `name=value` settings.
    pub(crate) settings: &'a [&'a str],
    /// Lines for `pg_hba.conf` in place of its own (`trust` for everybody). `postgres` is let in by the socket in any case.
    pub(crate) hba: &'a [&'a str],
}

/// A running server.
pub(crate) struct Cluster {
    programs: PathBuf,
    directory: tempfile::TempDir,
    /// Who runs the server, where that is not who runs the test.
    user: Option<&'static str>,
    port: u16,
    /// What `pg_ctl` passes on to the server.
    options: String,
    is_running: AtomicBool,
}

impl Cluster {
    /// Makes a server and starts it.
    pub(crate) fn start() -> Cluster {
        Cluster::start_with(&Setup::default())
    }

    /// Makes a server that is other than usual and starts it.
    pub(crate) fn start_with(setup: &Setup<'_>) -> Cluster {
        let programs = programs();
        let user = match text("id", &["-u"]).as_str() {
            "0" => Some(
                ["postgres", "nobody"]
                    .into_iter()
                    .find(|user| succeeds("id", &["-u", user]))
                    .expect("a user who is not root: `postgres` or `nobody`"),
            ),
            _ => None,
        };
        let directory = tempfile::Builder::new()
            .prefix("pg")
            .tempdir()
            .expect("a temporary directory");
        if let Some(user) = user {
            let path = directory.path().display().to_string();
            assert!(
                succeeds("chown", &[user, &path]),
                "{path} can be given to {user}"
            );
        }
        let port = if setup.tcp { free_port() } else { 5432 };
        let listen = if setup.tcp { "127.0.0.1" } else { "" };
        let mut options = format!(
            "-k {} -p {port} -c listen_addresses={listen} -c fsync=off -c wal_level=logical -c timezone=Europe/Berlin",
            directory.path().display()
        );
        for setting in setup.settings {
            options.push_str(&format!(" -c {setting}"));
        }
        let cluster = Cluster {
            programs,
            directory,
            user,
            port,
            options,
            is_running: AtomicBool::new(false),
        };
        let data = cluster.data();
        cluster.server_program(
            "initdb",
            &[
                "-D",
                &data,
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
            ],
        );
        if !setup.hba.is_empty() {
            let mut lines = vec![
                "local all postgres trust",
                "local replication postgres trust",
            ];
            lines.extend(setup.hba);
            let file = cluster.directory.path().join("data/pg_hba.conf");
            std::fs::write(file, lines.join("\n") + "\n").expect("pg_hba.conf can be written");
        }
        cluster.run();
        cluster
    }

    /// Starts the server that was stopped.
    pub(crate) fn run(&self) {
        let log = self.directory.path().join("log").display().to_string();
        let (data, options) = (self.data(), self.options.as_str());
        self.server_program(
            "pg_ctl",
            &["-D", &data, "-l", &log, "-o", options, "-w", "start"],
        );
        self.is_running.store(true, Ordering::SeqCst);
    }

    /// Stops the server: `smart`, `fast` or `immediate`. False where it has not stopped after so many seconds.
    pub(crate) fn stop(&self, mode: &str, seconds: u32) -> bool {
        let (data, seconds) = (self.data(), seconds.to_string());
        let arguments = ["-D", &data, "-m", mode, "-t", &seconds, "-w", "stop"];
        let (status, _) = self.try_server_program("pg_ctl", &arguments);
        // A server that was asked before may have stopped just now.
        let is_gone = || !Path::new(&data).join("postmaster.pid").exists();
        let has_stopped = status.success() || is_gone();
        self.is_running.store(!has_stopped, Ordering::SeqCst);
        has_stopped
    }

    /// Where its sockets and files are.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The port it listens on, also the end of its socket's name.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a database by the socket, as `postgres`.
    pub(crate) fn url(&self, database: &str) -> String {
        let directory = self.directory.path().display().to_string();
        let host = directory.replace('/', "%2F");
        format!("postgres://postgres@{host}:{}/{database}", self.port)
    }

    /// Puts a file into the server's directory that only the server may read; gives its path.
    pub(crate) fn install(&self, file: &Path) -> PathBuf {
        let name = file.file_name().expect("a file has a name");
        let path = self.directory.path().join(name);
        std::fs::copy(file, &path).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let shown = path.display().to_string();
        assert!(succeeds("chmod", &["600", &shown]));
        if let Some(user) = self.user {
            assert!(succeeds("chown", &[user, &shown]));
        }
        path
    }

    fn data(&self) -> String {
        self.directory.path().join("data").display().to_string()
    }

    /// Runs a program as the server's user; fails with what it said.
    fn server_program(&self, name: &str, arguments: &[&str]) {
        let (status, said) = self.try_server_program(name, arguments);
        let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        assert!(status.success(), "{name} failed: {said}\n{log}");
    }

    fn try_server_program(&self, name: &str, arguments: &[&str]) -> (ExitStatus, String) {
        let program = self.programs.join(name);
        let mut command = match self.user {
            None => Command::new(program),
            Some(user) if succeeds("setpriv", &["--version"]) => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={user}"));
                command.args(["--clear-groups", "--"]).arg(program);
                command
            }
            Some(user) => {
                let mut command = Command::new("su");
                command
                    .args([user, "-s", "/bin/sh", "-c", "exec \"$0\" \"$@\""])
                    .arg(program);
                command
            }
        };
        // The server keeps what it inherits, so its output must not be a pipe that somebody reads to the end.
        let said = self.directory.path().join(format!("{name}.said"));
        let file = std::fs::File::create(&said).expect("a file for its output");
        let status = command
            .args(arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file can be shared"))
            .stderr(file)
            .status()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let said = std::fs::read_to_string(said).unwrap_or_default();
        (status, said)
    }

    /// Runs a client program against the server.
    pub(crate) fn client(&self, name: &str, arguments: &[&str]) -> Output {
        self.client_with(name, arguments, "")
    }

    fn client_with(&self, name: &str, arguments: &[&str], input: &str) -> Output {
        let mut child = Command::new(self.programs.join(name))
            .args(arguments)
            .env("PGHOST", self.directory.path())
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", "postgres")
            .env_remove("PGDATABASE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}; {INSTALL}"));
        let mut stdin = child.stdin.take().expect("stdin is piped");
        let input = input.to_owned();
        let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().expect("the program ends");
        let _ = writer.join().expect("the writer ends");
        assert!(
            output.status.success(),
            "{name} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    /// Runs SQL in a database and gives what psql prints.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> String {
        let arguments = [
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            database,
            "-f",
            "-",
        ];
        let output = self.client_with("psql", &arguments, sql);
        String::from_utf8(output.stdout).expect("psql prints UTF-8")
    }

    /// Dumps a database.
    pub(crate) fn dump(&self, database: &str, arguments: &[&str]) -> Vec<u8> {
        self.client("pg_dump", &[arguments, &[database]].concat())
            .stdout
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.is_running.load(Ordering::SeqCst) {
            return;
        }
        let data = self.data();
        let stop = std::panic::AssertUnwindSafe(|| {
            self.server_program("pg_ctl", &["-D", &data, "-m", "immediate", "-w", "stop"]);
        });
        if let Err(error) = std::panic::catch_unwind(stop)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(error);
        }
    }
}

/// A port of the loopback address that nobody listens on now.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    listener.local_addr().expect("it has an address").port()
}

/// The directory of the server's programs.
fn programs() -> PathBuf {
    let has_server =
        |directory: &Path| directory.join("initdb").is_file() && directory.join("pg_ctl").is_file();
    if let Some(named) = std::env::var_os("FIRSTBAD_PG_BIN").map(PathBuf::from) {
        assert!(
            has_server(&named),
            "FIRSTBAD_PG_BIN holds no server; {INSTALL}"
        );
        return named;
    }
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, directory)| has_server(directory))
        .collect();
    versions.sort();
    let on_path = std::env::var_os("PATH");
    let on_path = on_path.iter().flat_map(std::env::split_paths);
    versions
        .pop()
        .map(|(_, directory)| directory)
        .or_else(|| on_path.into_iter().find(|directory| has_server(directory)))
        .unwrap_or_else(|| panic!("{INSTALL}"))
}

fn text(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
