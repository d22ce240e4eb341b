//! `postgres://user:password@host:port,host:port/database?setting=value` in parts, as libpq takes it apart.

use super::settings::Settings;
use crate::postgres::PostgresError;

/// What stands behind the scheme of a server's URL.
pub(super) fn rest(text: &str) -> Option<&str> {
    text.strip_prefix("postgres://")
        .or_else(|| text.strip_prefix("postgresql://"))
}

/// The settings that a URL holds. What cannot be read is never quoted: it may be a part of a password.
pub(super) fn settings(text: &str) -> Result<Settings, PostgresError> {
    let Some(rest) = rest(text) else {
        return Err(PostgresError::argument(
            "this is no URL of a Postgres server",
            "write postgres://user@host:port/database",
        ));
    };
    let mut out = Settings::default();
    // As libpq: what stands before the first `@` that no `/` precedes is the user.
    let (credentials, rest) = match rest.split_once(['@', '/']) {
        Some((before, behind)) if rest[before.len()..].starts_with('@') => (Some(before), behind),
        _ => (None, rest),
    };
    let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (hosts, database) = match before.split_once('/') {
        Some((hosts, database)) => (hosts, Some(database)),
        None => (before, None),
    };
    if hosts.contains('@') || database.is_some_and(|name| name.contains('@')) {
        return Err(PostgresError::argument(
            "the URL of the server has an `@` or `/` too many",
            "in a password or a name, `@` is written %40, `:` %3A, `/` %2F, `?` %3F and `%` %25",
        ));
    }
    let place = "in the URL";
    if let Some(credentials) = credentials {
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(password)),
            None => (credentials, None),
        };
        out.set("user", decoded(user)?, place)?;
        if let Some(password) = password {
            out.set("password", decoded(password)?, place)?;
        }
    }
    self::hosts(hosts, &mut out)?;
    if let Some(database) = database {
        out.set("dbname", decoded(database)?, place)?;
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(PostgresError::argument(
                "a setting behind `?` in the URL has no value",
                "write name=value",
            ));
        };
        out.set(&decoded(name)?, decoded(value)?, place)?;
    }
    Ok(out)
}

/// `host:port,[::1]:port,…` as two lists.
fn hosts(text: &str, out: &mut Settings) -> Result<(), PostgresError> {
    if text.is_empty() {
        return Ok(());
    }
    let wrong = |what: &str| {
        PostgresError::argument(
            format!("the URL of the server has {what}"),
            "write host:port, and IPv6 addresses as [::1]:port; in a password, `:` is written %3A and `/` %2F",
        )
    };
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for part in text.split(',') {
        let (name, port) = match part.strip_prefix('[') {
            Some(inside) => {
                let (name, behind) = inside
                    .split_once(']')
                    .ok_or_else(|| wrong("a `[` without its `]`"))?;
                if name.is_empty() {
                    return Err(wrong("an empty address in brackets"));
                }
                let port = match behind.strip_prefix(':') {
                    Some(port) => port,
                    None if behind.is_empty() => "",
                    None => return Err(wrong("something between `]` and the port")),
                };
                (name, port)
            }
            None => part.split_once(':').unwrap_or((part, "")),
        };
        if !port.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(wrong("a port that is no number"));
        }
        names.push(decoded(name)?);
        ports.push(port.to_owned());
    }
    out.set("host", names.join(","), "in the URL")?;
    if ports.iter().any(|port| !port.is_empty()) {
        out.set("port", ports.join(","), "in the URL")?;
    }
    Ok(())
}

/// A text with its `%41` replaced.
fn decoded(text: &str) -> Result<String, PostgresError> {
    let wrong = || {
        PostgresError::argument(
            "the URL of the server has a `%` that is not followed by two hexadecimal digits of UTF-8 text",
            "write % as %25",
        )
    };
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(wrong());
        };
        out.push(u8::try_from(high * 16 + low).map_err(|_| wrong())?);
    }
    if out.contains(&0) {
        return Err(wrong());
    }
    String::from_utf8(out).map_err(|_| wrong())
}
