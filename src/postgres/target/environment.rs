//! What a run finds around it: variables, the home directory, the user's name.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The surroundings that complete a server's URL. Tests make their own.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    home: Option<PathBuf>,
    user: Option<String>,
    socket_directories: Vec<PathBuf>,
}

impl std::fmt::Debug for Environment {
    /// Names only: a variable may be a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.keys())
            .finish_non_exhaustive()
    }
}

impl Environment {
    /// That of this process: its `PG…` variables, home directory and user, and where servers of this machine have their sockets.
    pub fn of_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with("PG"))
            .collect();
        let account = account();
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let home = variable("HOME").map(PathBuf::from);
        Environment {
            variables,
            home: home.or_else(|| account.as_ref().map(|(_, home)| home.clone())),
            user: account
                .map(|(name, _)| name)
                .or_else(|| variable("USER"))
                .or_else(|| variable("LOGNAME"))
                .or_else(|| variable("USERNAME")),
            socket_directories: vec!["/var/run/postgresql".into(), "/tmp".into()],
        }
    }

    /// The same with a variable.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// The same with a home directory.
    pub fn with_home(mut self, home: impl Into<PathBuf>) -> Self {
        self.home = Some(home.into());
        self
    }

    /// The same with an operating system's user.
    pub fn with_user(mut self, user: &str) -> Self {
        self.user = Some(user.into());
        self
    }

    /// The same with a directory where sockets of servers may be.
    pub fn with_socket_directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.socket_directories.push(directory.into());
        self
    }

    /// A variable that is set and not empty.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        let value = self.variables.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    /// A file in the home directory.
    pub(super) fn at_home(&self, name: &str) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.join(name))
    }

    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The first directory that holds the socket of the server with this port.
    pub(super) fn socket_directory(&self, port: u16) -> Option<PathBuf> {
        let holds = |directory: &&PathBuf| directory.join(format!(".s.PGSQL.{port}")).exists();
        self.socket_directories.iter().find(holds).cloned()
    }

    pub(super) fn is_socket_directory(&self, directory: &std::path::Path) -> bool {
        self.socket_directories
            .iter()
            .any(|known| known == directory)
    }
}

/// The name and home directory of the user this process runs as, from the list of accounts: variables may say something else.
#[cfg(unix)]
fn account() -> Option<(String, PathBuf)> {
    use std::os::unix::fs::MetadataExt;
    let uid = std::fs::metadata("/proc/self").ok()?.uid().to_string();
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    accounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, id, _, _, home, ..] = fields.as_slice() else {
            return None;
        };
        (*id == uid).then(|| ((*name).to_owned(), PathBuf::from(home)))
    })
}

#[cfg(not(unix))]
fn account() -> Option<(String, PathBuf)> {
    None
}
