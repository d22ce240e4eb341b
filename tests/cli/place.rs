//! A directory of its own for each test, and the program run in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A temporary directory that a test fills.
pub(crate) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Place {
            directory: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    /// Adds a file; directories above it are made.
    pub(crate) fn with(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.write(path, content);
        self
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().expect("a file has a directory"))
            .expect("directories can be made");
        std::fs::write(path, content).expect("a file can be written");
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).expect("the file is there")
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    /// Runs the program in this directory.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        run(self.directory.path(), arguments, &[])
    }

    /// Runs the program with other variables in its environment.
    pub(crate) fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
        run(self.directory.path(), arguments, variables)
    }

    /// `firstbad check ARGUMENTS --format json`.
    pub(crate) fn check(&self, arguments: &[&str]) -> Ran {
        self.run(&[&["check", "--format", "json"], arguments].concat())
    }
}

/// Runs the program somewhere, without what the environment says about terminals.
pub(crate) fn run(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_firstbad"));
    command.current_dir(directory).args(arguments);
    for name in [
        "COLUMNS",
        "NO_COLOR",
        "CLICOLOR_FORCE",
        "FORCE_COLOR",
        "RUST_LOG",
    ] {
        command.env_remove(name);
    }
    let output = command
        .envs(variables.iter().copied())
        .output()
        .expect("the program can be started");
    Ran {
        code: output.status.code().expect("the program was not killed"),
        out: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
        err: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
    }
}

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Asserts the exit code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.code, code,
            "exit code\nstdout:\n{}\nstderr:\n{}",
            self.out, self.err
        );
        self
    }

    /// Asserts that the user's input was refused: exit 2, nothing on stdout, and stderr has all of these texts.
    #[track_caller]
    pub(crate) fn refused(self, texts: &[&str]) -> Self {
        let ran = self.exits(2).warns(texts);
        assert_eq!(ran.out, "", "stdout of a refused run");
        ran
    }

    /// Asserts that stderr has all of these texts.
    #[track_caller]
    pub(crate) fn warns(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(
                self.err.contains(text),
                "stderr has no `{text}`:\n{}",
                self.err
            );
        }
        self
    }

    /// Asserts that stdout has all of these texts.
    #[track_caller]
    pub(crate) fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(
                self.out.contains(text),
                "stdout has no `{text}`:\n{}",
                self.out
            );
        }
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| {
            panic!(
                "stdout is no JSON: {error}\nstdout:\n{}\nstderr:\n{}",
                self.out, self.err
            )
        })
    }

    /// A rule of the JSON document.
    #[track_caller]
    pub(crate) fn rule(&self, id: &str) -> Value {
        let document = self.json();
        let rules = document["rules"].as_array().expect("rules");
        rules
            .iter()
            .find(|rule| rule["id"] == id)
            .unwrap_or_else(|| panic!("no rule `{id}` in {document:#}"))
            .clone()
    }

    /// The keys in the sample of a rule.
    #[track_caller]
    pub(crate) fn keys(&self, id: &str) -> Value {
        let rule = self.rule(id);
        rule["sample"]
            .as_array()
            .expect("a sample")
            .iter()
            .map(|violation| violation["key"].clone())
            .collect()
    }
}

/// A page's blocks `text` that begin with a command show what it prints; `UPDATE_DOCS=1` writes that into them.
#[track_caller]
pub(crate) fn page_shows(place: &Place, page: &str) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = std::fs::read_to_string(&page).expect("the page is there");
    let mut real = String::new();
    for (at, block) in text.split("```").enumerate() {
        let commands = match (at % 2, block.strip_prefix("text\n")) {
            (1, Some(inside)) if inside.starts_with("$ firstbad ") => inside,
            _ => {
                real += if at > 0 { "```" } else { "" };
                real += block;
                continue;
            }
        };
        real += "```text\n";
        for command in commands.lines().filter_map(|line| line.strip_prefix("$ ")) {
            let words: Vec<&str> = command.split(' ').skip(1).collect();
            let ran = place.run_with(&words, &[("COLUMNS", "130")]).exits(0);
            real += &format!("$ {command}\n{}", ran.out);
        }
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&page, &real).expect("the page can be written");
        return;
    }
    assert_eq!(text, real, "UPDATE_DOCS=1 writes the real output");
}
