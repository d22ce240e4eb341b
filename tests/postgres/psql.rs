//! The files of `sql/`, run as their readers would.

use std::path::PathBuf;
use std::process::Command;

use crate::postgres::Cluster;

/// What psql left behind.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) err: String,
}

/// Runs a file of `sql/` with variables, as a role.
pub(crate) fn file(
    cluster: &Cluster,
    role: &str,
    database: &str,
    name: &str,
    variables: &[&str],
) -> Ran {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("sql")
        .join(name);
    let mut command = Command::new("psql");
    command.args(["-X", "-q", "-d", database, "-U", role]);
    for variable in variables {
        command.args(["-v", variable]);
    }
    let output = command
        .arg("-f")
        .arg(path)
        .env("PGHOST", cluster.directory())
        .env("PGPORT", cluster.port().to_string())
        .output()
        .unwrap_or_else(|error| panic!("psql: {error}; install PostgreSQL's client"));
    let ran = Ran {
        code: output.status.code().expect("psql was not killed"),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    let out = String::from_utf8_lossy(&output.stdout);
    assert_eq!(out, "", "{name} says nothing");
    ran
}

impl Ran {
    #[track_caller]
    pub(crate) fn works(self) {
        assert_eq!((self.code, self.err.as_str()), (0, ""));
    }

    #[track_caller]
    pub(crate) fn fails(self, text: &str) {
        assert_eq!(self.code, 3, "{}", self.err);
        assert!(self.err.contains(text), "no `{text}` in: {}", self.err);
    }
}

/// The URL of a database as a role.
pub(crate) fn url(cluster: &Cluster, role: &str, database: &str) -> String {
    let url = cluster.url(database);
    url.replacen("postgres://postgres@", &format!("postgres://{role}@"), 1)
}
