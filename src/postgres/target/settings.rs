//! The settings of a connection by name, from the places that psql reads them from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Environment;
use crate::diagnostic::nearest;
use crate::escape;
use crate::postgres::PostgresError;

/// Settings that change something here, and the variables that stand for them.
const KNOWN: [(&str, &str); 15] = [
    ("host", "PGHOST"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("dbname", "PGDATABASE"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("service", "PGSERVICE"),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("application_name", "PGAPPNAME"),
    ("fallback_application_name", ""),
];

/// Settings that psql knows and that change nothing here, with the values for which that is true; none named: any value.
const WITHOUT_EFFECT: [(&str, &str, &[&str]); 13] = [
    ("gssencmode", "PGGSSENCMODE", &["disable", "prefer"]),
    ("sslnegotiation", "PGSSLNEGOTIATION", &["postgres"]),
    ("target_session_attrs", "PGTARGETSESSIONATTRS", &["any"]),
    ("load_balance_hosts", "PGLOADBALANCEHOSTS", &["disable"]),
    ("client_encoding", "PGCLIENTENCODING", &[]),
    ("keepalives", "", &[]),
    ("keepalives_idle", "", &[]),
    ("keepalives_interval", "", &[]),
    ("keepalives_count", "", &[]),
    ("tcp_user_timeout", "", &[]),
    ("sslcompression", "PGSSLCOMPRESSION", &[]),
    ("sslsni", "PGSSLSNI", &[]),
    ("krbsrvname", "PGKRBSRVNAME", &[]),
];

/// Settings by name. A password may be among them: no Debug.
#[derive(Default)]
pub(super) struct Settings(BTreeMap<&'static str, String>);

impl Settings {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    /// Sets what is known; `place` says where it stands (`in the URL`).
    pub(super) fn set(
        &mut self,
        name: &str,
        value: String,
        place: &str,
    ) -> Result<(), PostgresError> {
        if let Some((known, _)) = KNOWN.iter().find(|(known, _)| *known == name) {
            self.0.insert(known, value);
            return Ok(());
        }
        let found = WITHOUT_EFFECT.iter().find(|(known, ..)| *known == name);
        if let Some((known, _, values)) = found {
            return without_effect(known, values, &value);
        }
        let names = KNOWN.iter().map(|(known, _)| *known);
        let hint = match name {
            "options" => "settings of the session are firstbad's own; leave it out".into(),
            "hostaddr" => "write the address as the host".into(),
            "ssl" => "write sslmode=require or sslmode=verify-full".into(),
            _ => match nearest(name, names.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are {}", names.collect::<Vec<_>>().join(", ")),
            },
        };
        Err(PostgresError::argument(
            format!(
                "unknown connection setting `{}` {place}",
                escape::terminal(name)
            ),
            hint,
        ))
    }

    /// Takes over what is not set yet.
    pub(super) fn complete(&mut self, other: Settings) {
        for (name, value) in other.0 {
            self.0.entry(name).or_insert(value);
        }
    }

    /// What variables of the environment say.
    pub(super) fn of_environment(environment: &Environment) -> Result<Settings, PostgresError> {
        let mut out = Settings::default();
        for (name, variable) in KNOWN {
            if let Some(value) = environment.variable(variable) {
                out.0.insert(name, value.to_owned());
            }
        }
        for (name, variable, values) in WITHOUT_EFFECT {
            if let Some(value) = environment.variable(variable) {
                without_effect(name, values, value)?;
            }
        }
        for (variable, hint) in [
            (
                "PGOPTIONS",
                "settings of the session are firstbad's own; unset it",
            ),
            ("PGHOSTADDR", "give the address as the host; unset it"),
        ] {
            if environment.variable(variable).is_some() {
                return Err(PostgresError::argument(
                    format!("{variable} is set and cannot be heeded"),
                    hint,
                ));
            }
        }
        Ok(out)
    }

    /// What a service file says of a service.
    pub(super) fn of_service(
        service: &str,
        environment: &Environment,
    ) -> Result<Settings, PostgresError> {
        let files: Vec<PathBuf> = [
            environment
                .variable("PGSERVICEFILE")
                .map(PathBuf::from)
                .or_else(|| environment.at_home(".pg_service.conf")),
            environment
                .variable("PGSYSCONFDIR")
                .map(|directory| Path::new(directory).join("pg_service.conf")),
        ]
        .into_iter()
        .flatten()
        .collect();
        for file in &files {
            let text = match std::fs::read_to_string(file) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    let file = escape::os(file.as_os_str());
                    return Err(PostgresError::io(format!("read the service file {file}"))(
                        error,
                    ));
                }
            };
            if let Some(found) = section(&text, service, file)? {
                return Ok(found);
            }
        }
        let looked: Vec<String> = files
            .iter()
            .map(|file| escape::os(file.as_os_str()))
            .collect();
        Err(PostgresError::argument(
            format!("there is no service `{}`", escape::terminal(service)),
            match looked.is_empty() {
                true => "name the service file in PGSERVICEFILE".to_owned(),
                false => format!("looked in {}", looked.join(" and ")),
            },
        ))
    }
}

fn without_effect(name: &str, values: &[&str], value: &str) -> Result<(), PostgresError> {
    if values.is_empty() || value.is_empty() || values.contains(&value) {
        return Ok(());
    }
    let value = escape::terminal(value);
    Err(PostgresError::argument(
        format!("{name}={value} cannot be heeded"),
        format!("leave it out, or write {name}={}", values.join(" or ")),
    ))
}

/// A section of a service file: `[name]`, then `setting=value` lines; `#` begins a comment line.
fn section(text: &str, service: &str, file: &Path) -> Result<Option<Settings>, PostgresError> {
    let mut found: Option<Settings> = None;
    let mut inside = false;
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            inside = name.strip_suffix(']') == Some(service);
            if inside {
                found = Some(Settings::default());
            }
            continue;
        }
        let Some(settings) = found.as_mut().filter(|_| inside) else {
            continue;
        };
        let place = format!("in {}:{}", escape::os(file.as_os_str()), at + 1);
        // The line itself is not shown: it may be a password.
        let Some((name, value)) = line.split_once('=') else {
            return Err(PostgresError::argument(
                format!("a line without `=` {place}"),
                "write setting=value",
            ));
        };
        if name.trim() == "service" {
            return Err(PostgresError::argument(
                format!("a service cannot name a service {place}"),
                "",
            ));
        }
        settings.set(name.trim(), value.trim().to_owned(), &place)?;
    }
    Ok(found)
}
