//! The password file, `~/.pgpass`: `host:port:database:user:password` lines, `*` for any, `\:` and `\\` for themselves.

use std::path::Path;

use super::Secret;
use crate::escape;

/// The lines of a password file.
#[derive(Default)]
pub(super) struct Passfile {
    lines: Vec<[String; 5]>,
}

impl Passfile {
    /// Reads it; a file that is not there has no lines. One that others may read is left alone, with a warning, as psql does.
    pub(super) fn read(path: &Path) -> (Passfile, Option<String>) {
        let warning = |what: &str| {
            let path = escape::os(path.as_os_str());
            (
                Passfile::default(),
                Some(format!("the password file {path} is not used: {what}")),
            )
        };
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(_) => return (Passfile::default(), None),
        };
        if !metadata.is_file() {
            return warning("it is no plain file");
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            if metadata.permissions().mode() & 0o077 != 0 {
                return warning("others may read it; `chmod 600` makes it yours");
            }
        }
        match std::fs::read(path) {
            Ok(bytes) => (Passfile::parse(&String::from_utf8_lossy(&bytes)), None),
            Err(error) => warning(&error.to_string()),
        }
    }

    fn parse(text: &str) -> Passfile {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Passfile {
            lines: lines.filter_map(fields).collect(),
        }
    }

    /// The password of the first line that fits.
    pub(super) fn password(
        &self,
        host: &str,
        port: u16,
        database: &str,
        user: &str,
    ) -> Option<Secret> {
        let port = port.to_string();
        let wanted = [host, &port, database, user];
        let fits = |line: &&[String; 5]| {
            let mut pairs = line.iter().zip(wanted);
            pairs.all(|(have, want)| have == ANY || have == want)
        };
        self.lines
            .iter()
            .find(fits)
            .map(|line| Secret(line[4].clone()))
    }
}

/// What stands for an unescaped `*`: no field can hold a NUL.
const ANY: &str = "\0";

/// The five fields of a line. The password is the rest of the line up to the next unescaped colon.
fn fields(line: &str) -> Option<[String; 5]> {
    let mut fields: Vec<String> = Vec::with_capacity(5);
    let (mut field, mut raw) = (String::new(), String::new());
    let mut chars = line.chars();
    loop {
        let next = chars.next();
        match next {
            Some('\\') => {
                field.push(chars.next().unwrap_or('\\'));
                raw.push_str("\\.");
            }
            Some(':') | None => {
                let is_any = raw == "*" && fields.len() < 4;
                let done = std::mem::take(&mut field);
                fields.push(if is_any { ANY.into() } else { done });
                raw.clear();
                if fields.len() == 5 || next.is_none() {
                    return fields.try_into().ok();
                }
            }
            Some(c) => {
                field.push(c);
                raw.push(c);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_holds_the_password() {
        let file = Passfile::parse(
            "# comment\n\ndb:5432:shop:ann:one\ndb:*:*:ann:two\\:with\\\\both\n*:*:*:\\*:star\n::::\nshort:line\n*:*:*:bob:\u{e9}t\u{e9}\n",
        );
        let find = |host, port, database, user| {
            let found = file.password(host, port, database, user);
            found.map(|secret| secret.0)
        };
        assert_eq!(find("db", 5432, "shop", "ann").as_deref(), Some("one"));
        assert_eq!(
            find("db", 5433, "shop", "ann").as_deref(),
            Some("two:with\\both")
        );
        assert_eq!(find("x", 1, "y", "bob").as_deref(), Some("été"));
        assert_eq!(find("x", 1, "y", "*").as_deref(), Some("star"));
        assert_eq!(find("x", 1, "y", "carl"), None);
    }

    #[test]
    fn any_line_is_read_without_an_end_of_patience() {
        for line in [
            "",
            ":",
            "::::",
            ":::::",
            "\\",
            "a:b:c:d:\\",
            "a:b:c:d",
            "a:b:c:d:",
            "*:*:*:*:*",
        ] {
            fields(line);
        }
        assert_eq!(
            fields("a:b:c:d:").map(|all| all[4].clone()),
            Some(String::new())
        );
        assert_eq!(fields("a:b:c:d"), None);
        assert_eq!(
            fields("a:b:c:d:*").map(|all| all[4].clone()).as_deref(),
            Some("*")
        );
    }
}
