//! Where a server is and as whom to log in: a URL, completed from the places where psql looks.
//!
//! What is said first counts: the URL, the service file (`?service=`, `PGSERVICE`), the environment (`PGHOST`, …), the password file,
//! and what is usual. One thing differs from psql: where nothing is said of `sslmode`, a server that is not on this machine must
//! prove who it is (`verify-full`).

mod environment;
mod passfile;
mod settings;
#[cfg(test)]
mod tests;
mod url;

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::environment::Environment;
use self::passfile::Passfile;
use self::settings::Settings;
use super::PostgresError;
use crate::diagnostic::nearest;
use crate::escape;

/// How long a connection may take, where nothing is said.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// More hosts than anybody has.
const HOSTS_MAX: usize = 64;
const PORT: u16 = 5432;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A host's name or IP address.
    Tcp(String),
    /// The directory of a Unix socket.
    Socket(PathBuf),
}

/// One of the servers of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Where it listens.
    pub address: Address,
    /// The port, also the end of a socket's name.
    pub port: u16,
    pub(super) password: Option<Secret>,
}

/// How a connection is protected; what each proves is libpq's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Not at all.
    Disable,
    /// Encrypted where the server offers it, with whomever. `allow` means the same here.
    Prefer,
    /// Encrypted, with whomever; with `sslrootcert` as [`SslMode::VerifyCa`].
    Require,
    /// Encrypted, with a server whose certificate comes from a trusted authority.
    VerifyCa,
    /// The same, and the certificate names the host.
    VerifyFull,
}

/// Is the password's proof bound to the TLS connection, so that nobody between can pass it on?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// No.
    Disable,
    /// Where both sides can.
    Prefer,
    /// Or not at all.
    Require,
}

/// Which authorities are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Roots {
    /// Those that the web trusts.
    Web,
    /// Those in a file of PEM certificates.
    File(PathBuf),
}

/// Where a server is and as whom to log in. Neither its Debug nor [`Target::shown`] shows a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    hosts: Vec<Host>,
    user: String,
    database: String,
    ssl_mode: Option<SslMode>,
    pub(super) roots: Roots,
    /// A certificate file and its key file.
    pub(super) certificate: Option<(PathBuf, PathBuf)>,
    pub(super) binding: Binding,
    connect_timeout: Duration,
    application: Option<String>,
    warnings: Vec<String>,
}

impl Target {
    /// Is this text the URL of a Postgres server?
    pub fn is_url(text: &str) -> bool {
        url::rest(text).is_some()
    }

    /// The target of a URL in the surroundings of this process.
    ///
    /// # Errors
    /// [`PostgresError::Argument`] for what is wrong in the URL, the environment or the service file.
    pub fn parse(text: &str) -> Result<Target, PostgresError> {
        Target::parse_with(text, &Environment::of_process())
    }

    /// The target of a URL in given surroundings.
    ///
    /// # Errors
    /// As [`Target::parse`].
    pub fn parse_with(text: &str, environment: &Environment) -> Result<Target, PostgresError> {
        let mut settings = url::settings(text)?;
        let service = settings.get("service").map(str::to_owned);
        if let Some(service) = service.as_deref().or(environment.variable("PGSERVICE")) {
            settings.complete(Settings::of_service(service, environment)?);
        }
        settings.complete(Settings::of_environment(environment)?);

        let user = settings.get("user").or(environment.user());
        let user = user.ok_or_else(|| {
            PostgresError::argument(
                "nobody says as whom to log in",
                "write postgres://user@host/database",
            )
        })?;
        let database = settings.get("dbname").unwrap_or(user).to_owned();
        let user = user.to_owned();
        let mut warnings = Vec::new();
        let mut hosts = hosts(&settings, environment)?;
        match settings.get("password") {
            Some(password) => {
                for host in &mut hosts {
                    host.password = Some(Secret(password.to_owned()));
                }
            }
            None => {
                let named = settings.get("passfile").map(PathBuf::from);
                if let Some(path) = named.or_else(|| environment.at_home(".pgpass")) {
                    let (file, warning) = Passfile::read(&path);
                    warnings.extend(warning);
                    for host in &mut hosts {
                        let name = passfile_host(&host.address, environment);
                        host.password = file.password(&name, host.port, &database, &user);
                    }
                }
            }
        }
        let ssl_mode = ssl_mode(&settings)?;
        let application = settings
            .get("application_name")
            .or(settings.get("fallback_application_name"));
        Ok(Target {
            hosts,
            user,
            database,
            ssl_mode,
            roots: roots(&settings, environment, ssl_mode)?,
            certificate: certificate(&settings, environment)?,
            binding: binding(&settings)?,
            connect_timeout: connect_timeout(&settings)?,
            application: application.map(str::to_owned),
            warnings,
        })
    }

    /// The servers, in the order in which they are tried.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// As whom to log in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// How long connecting to one host may take, logging in included.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// The name under which the server lists the connection, where the user chose one.
    pub fn application(&self) -> Option<&str> {
        self.application.as_deref()
    }

    /// What was found and left alone, e.g. a password file that others may read.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The same server and user, in another database.
    pub fn with_database(&self, database: &str) -> Target {
        Target {
            database: database.to_owned(),
            ..self.clone()
        }
    }

    /// How a connection to a host is protected.
    pub fn ssl_mode(&self, host: &Host) -> SslMode {
        match (&host.address, self.ssl_mode) {
            (Address::Socket(_), _) => SslMode::Disable,
            // libpq's rule: who gives an authority wants it asked.
            (_, Some(SslMode::Require)) if self.roots != Roots::Web => SslMode::VerifyCa,
            (_, Some(mode)) => mode,
            (Address::Tcp(name), None) if is_loopback(name) => SslMode::Prefer,
            (_, None) => SslMode::VerifyFull,
        }
    }

    /// The URL without its password and its settings, for people; escaped.
    pub fn shown(&self) -> String {
        let hosts: Vec<String> = self.hosts.iter().map(Host::shown).collect();
        let (user, database) = (encoded(&self.user), encoded(&self.database));
        format!("postgres://{user}@{}/{database}", hosts.join(","))
    }
}

impl Host {
    /// The host as in a URL; escaped.
    pub fn shown(&self) -> String {
        match &self.address {
            Address::Tcp(name) if name.contains(':') => {
                let name = encoded(name).replace("%3A", ":");
                format!("[{name}]:{}", self.port)
            }
            Address::Tcp(name) => format!("{}:{}", encoded(name), self.port),
            Address::Socket(path) => format!("{}:{}", encoded(&path.to_string_lossy()), self.port),
        }
    }
}

/// Percent-encodes what has a meaning in a URL or on a terminal.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() || "-_.~".contains(c) {
            out.push(c);
        } else {
            let mut buffer = [0; 4];
            for byte in c.encode_utf8(&mut buffer).bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    escape::terminal(&out)
}

fn is_loopback(name: &str) -> bool {
    match name.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

fn hosts(settings: &Settings, environment: &Environment) -> Result<Vec<Host>, PostgresError> {
    let ports: Vec<u16> = match settings.get("port") {
        None => vec![PORT],
        Some(text) => text.split(',').map(port).collect::<Result<_, _>>()?,
    };
    let names: Vec<&str> = settings
        .get("host")
        .unwrap_or_default()
        .split(',')
        .collect();
    if names.len() > HOSTS_MAX || (ports.len() != 1 && ports.len() != names.len()) {
        return Err(PostgresError::argument(
            format!("{} hosts and {} ports are named", names.len(), ports.len()),
            format!("name one port, or one for each host; {HOSTS_MAX} hosts at most"),
        ));
    }
    let mut out = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        let port = ports.get(at).or(ports.first()).copied().unwrap_or(PORT);
        let address = match name.trim() {
            "" => match environment.socket_directory(port) {
                Some(directory) => Address::Socket(directory),
                None => Address::Tcp("localhost".into()),
            },
            name if name.starts_with('/') => Address::Socket(name.into()),
            name if name.starts_with('@') || name.contains([' ', '/']) => {
                return Err(PostgresError::argument(
                    "a host has characters that no host's name has",
                    "write a name, an IP address, or the directory of a Unix socket that begins with `/`",
                ));
            }
            name => Address::Tcp(name.into()),
        };
        out.push(Host {
            address,
            port,
            password: None,
        });
    }
    Ok(out)
}

fn port(text: &str) -> Result<u16, PostgresError> {
    match text.trim() {
        "" => Ok(PORT),
        text => match text.parse() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(PostgresError::argument(
                "a port is no number from 1 to 65535",
                "in a password, `:` is written %3A and `/` %2F",
            )),
        },
    }
}

/// The name of a host in the password file: the usual socket directory is `localhost` there.
fn passfile_host(address: &Address, environment: &Environment) -> String {
    match address {
        Address::Tcp(name) => name.clone(),
        Address::Socket(path) if environment.is_socket_directory(path) => "localhost".into(),
        Address::Socket(path) => path.to_string_lossy().into_owned(),
    }
}

fn ssl_mode(settings: &Settings) -> Result<Option<SslMode>, PostgresError> {
    const NAMES: [(&str, SslMode); 6] = [
        ("disable", SslMode::Disable),
        ("allow", SslMode::Prefer),
        ("prefer", SslMode::Prefer),
        ("require", SslMode::Require),
        ("verify-ca", SslMode::VerifyCa),
        ("verify-full", SslMode::VerifyFull),
    ];
    let Some(text) = settings.get("sslmode") else {
        return Ok(None);
    };
    let found = NAMES.iter().find(|(name, _)| *name == text);
    if let Some((_, mode)) = found {
        return Ok(Some(*mode));
    }
    let names = NAMES.map(|(name, _)| name);
    let hint = match nearest(text, names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("write one of {}", names.join(", ")),
    };
    Err(PostgresError::argument(
        format!("there is no sslmode `{}`", escape::terminal(text)),
        hint,
    ))
}

fn binding(settings: &Settings) -> Result<Binding, PostgresError> {
    match settings.get("channel_binding") {
        None | Some("prefer") => Ok(Binding::Prefer),
        Some("disable") => Ok(Binding::Disable),
        Some("require") => Ok(Binding::Require),
        Some(text) => Err(PostgresError::argument(
            format!("there is no channel_binding `{}`", escape::terminal(text)),
            "write disable, prefer or require",
        )),
    }
}

/// `sslrootcert`, else psql's own file of authorities where there is one.
fn roots(
    settings: &Settings,
    environment: &Environment,
    mode: Option<SslMode>,
) -> Result<Roots, PostgresError> {
    match settings.get("sslrootcert") {
        Some("system") if mode.is_some_and(|mode| mode != SslMode::VerifyFull) => {
            Err(PostgresError::argument(
                "sslrootcert=system goes with sslmode=verify-full only",
                "anybody can have a certificate of a public authority; only the name in it says whose it is",
            ))
        }
        Some("system") => Ok(Roots::Web),
        Some(file) => Ok(Roots::File(file.into())),
        None => Ok(environment
            .at_home(".postgresql/root.crt")
            .filter(|file| file.is_file())
            .map_or(Roots::Web, Roots::File)),
    }
}

/// `sslcert` and `sslkey`, else psql's own files where there are both.
fn certificate(
    settings: &Settings,
    environment: &Environment,
) -> Result<Option<(PathBuf, PathBuf)>, PostgresError> {
    let usual = |name: &str| environment.at_home(name).filter(|file| file.is_file());
    let (certificate, key) = (settings.get("sslcert"), settings.get("sslkey"));
    let certificate = match certificate {
        Some(file) => Some(Path::new(file).to_owned()),
        None => usual(".postgresql/postgresql.crt"),
    };
    let is_named = settings.get("sslcert").is_some() || key.is_some();
    let key = match key {
        Some(file) => Some(Path::new(file).to_owned()),
        None => usual(".postgresql/postgresql.key"),
    };
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        _ if is_named => Err(PostgresError::argument(
            "a client certificate needs both its files",
            "give sslcert=FILE and sslkey=FILE",
        )),
        _ => Ok(None),
    }
}

/// Seconds; zero and less mean without limit in libpq, here the longest that is sensible.
fn connect_timeout(settings: &Settings) -> Result<Duration, PostgresError> {
    const LONGEST: u64 = 3600;
    let Some(text) = settings.get("connect_timeout") else {
        return Ok(CONNECT_TIMEOUT);
    };
    match text.trim().parse::<i64>() {
        Ok(seconds) if seconds <= 0 => Ok(Duration::from_secs(LONGEST)),
        Ok(seconds) => Ok(Duration::from_secs(seconds.unsigned_abs().min(LONGEST))),
        Err(_) => Err(PostgresError::argument(
            format!(
                "connect_timeout is no number of seconds: `{}`",
                escape::terminal(text)
            ),
            "write e.g. connect_timeout=10",
        )),
    }
}
