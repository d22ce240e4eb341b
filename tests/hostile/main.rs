//! Hostile rules, hostile data, hostile names: every case runs the real program, with a limit on its time and an eye on its memory.

mod data;
mod names;
mod numbers;
mod output;
mod sql;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// After this the program hangs.
const WALL_MAX: Duration = Duration::from_secs(60);
/// The flag given to every run, and what the process may take on top of it.
const MEMORY_LIMIT_MIB: u64 = 600;
const MEMORY_SLACK_MIB: u64 = 1024;

/// The table that most cases use.
pub(crate) const SCHEMA: &str = "create table orders(id bigint primary key, status text, total numeric(12,2), email text, placed timestamptz);\n";
/// Two rows of it.
pub(crate) const ORDERS: &str = "id,status,total,email,placed\n1,paid,10.00,a@b.co,2026-01-01T00:00:00Z\n2,SECRET7,5.00,zz,2026-01-02T00:00:00Z\n";
/// The rule that must be judged whatever the others do.
pub(crate) const HARMLESS: &str = "  - id: harmless\n    table: orders\n    not_null: [id]\n";

/// A source in a directory of its own.
pub(crate) struct Source {
    pub(crate) root: TempDir,
}

/// What a run said.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    peak_mib: u64,
}

impl Source {
    /// A history directory with [`SCHEMA`] and nothing else.
    pub(crate) fn new() -> Self {
        let source = Source {
            root: tempfile::tempdir().expect("a temporary directory"),
        };
        source.file("schema.sql", SCHEMA);
        std::fs::create_dir(source.path("snapshot")).expect("a directory");
        source.file("rules.yaml", format!("rules:\n{HARMLESS}"));
        source
    }

    /// One with [`ORDERS`].
    pub(crate) fn with_orders() -> Self {
        let source = Source::new();
        source.file("snapshot/orders.csv", ORDERS);
        source
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("below the root")).expect("a directory");
        std::fs::write(path, content).expect("a file");
        self
    }

    /// The harmless rule after one more: `body` is its lines but for the id.
    pub(crate) fn rule(&self, body: &str) -> &Self {
        let body: String = body.lines().map(|line| format!("    {line}\n")).collect();
        self.file(
            "rules.yaml",
            format!("rules:\n  - id: hostile\n{body}{HARMLESS}"),
        )
    }

    pub(crate) fn sql(&self, sql: &str) -> &Self {
        self.rule(&format!("sql: {}", Value::from(sql)))
    }

    /// `firstbad check` on the directory.
    pub(crate) fn check(&self, flags: &[&str]) -> Ran {
        self.check_at(self.root.path(), flags)
    }

    pub(crate) fn check_at(&self, source: &Path, flags: &[&str]) -> Ran {
        let limit = format!("{MEMORY_LIMIT_MIB}MiB");
        let mut command = Command::new(env!("CARGO_BIN_EXE_firstbad"));
        command
            .arg("check")
            .arg(source)
            .arg("--rules")
            .arg(self.path("rules.yaml"));
        command
            .args(["--rule-timeout", "2s", "--memory-limit", &limit])
            .args(flags);
        if !flags.contains(&"--format") {
            command.args(["--format", "jsonl"]);
        }
        run(command, self.root.path())
    }
}

/// Runs the program; panics when it hangs, takes too much memory, panics or dies of a signal.
pub(crate) fn run(mut command: Command, directory: &Path) -> Ran {
    let open = |name: &str| std::fs::File::create(directory.join(name)).expect("a file");
    let (out, err) = (".stdout", ".stderr");
    command
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(open(out))
        .stderr(open(err));
    command
        .env("NO_COLOR", "1")
        .env("FIRSTBAD_TEST_SECRET", "ENVSECRET");
    let start = Instant::now();
    let mut child = command.spawn().expect("the program starts");
    let mut peak_mib = 0;
    let status = loop {
        peak_mib = peak(child.id()).unwrap_or(0).max(peak_mib);
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status;
        }
        if start.elapsed() > WALL_MAX || peak_mib > MEMORY_LIMIT_MIB + MEMORY_SLACK_MIB {
            child.kill().expect("a child can be killed");
            child.wait().expect("a killed child ends");
            panic!(
                "killed after {:?} with {peak_mib} MiB: {command:?}",
                start.elapsed()
            );
        }
        // Waiting is what this loop is for: it polls another process.
        std::thread::park_timeout(Duration::from_millis(5));
    };
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).expect("output is UTF-8");
    let ran = Ran {
        code: status.code(),
        stdout: read(out),
        stderr: read(err),
        peak_mib,
    };
    assert!(
        !ran.stderr.contains("panicked"),
        "{command:?}\n{}",
        ran.stderr
    );
    assert!(
        ran.code.is_some(),
        "died of a signal: {command:?}\n{}",
        ran.stderr
    );
    ran
}

/// The most memory that a process held so far.
fn peak(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace()
        .nth(1)?
        .parse::<u64>()
        .ok()
        .map(|kib| kib / 1024)
}

impl Ran {
    /// The line of a rule in a jsonl report.
    pub(crate) fn outcome(&self, id: &str) -> Value {
        let lines = self
            .stdout
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut found = lines.filter(|line| line["type"] == "rule" && line["id"] == id);
        found.next().unwrap_or_else(|| {
            panic!(
                "no rule {id}: exit {:?}\n{}\n{}",
                self.code, self.stdout, self.stderr
            )
        })
    }

    pub(crate) fn verdict(&self, id: &str) -> String {
        self.outcome(id)["verdict"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// One message and exit 2; the message must hold `part`.
    pub(crate) fn refused(&self, part: &str, what: &str) {
        assert_eq!(
            self.code,
            Some(2),
            "{what}\n{}\n{}",
            self.stdout,
            self.stderr
        );
        assert!(
            self.stderr.contains(part),
            "{what}: no `{part}` in\n{}",
            self.stderr
        );
    }

    /// The hostile rule is unknown, the harmless one held, exit 4.
    pub(crate) fn unknown(&self, part: &str, what: &str) {
        let outcome = self.outcome("hostile");
        assert_eq!(outcome["verdict"], "unknown", "{what}: {outcome}");
        let reason = outcome["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(part), "{what}: no `{part}` in {reason}");
        assert_eq!(
            self.verdict("harmless"),
            "held",
            "{what}: peak {} MiB",
            self.peak_mib
        );
        assert_eq!(self.code, Some(4), "{what}");
    }
}
