//! What can be wrong between a Postgres server and us, and whether trying again may help.

use std::io;
use std::time::Duration;

use crate::escape;

/// Why a server could not be asked, or what it answered instead. Texts hold no passwords and no values of rows.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// What the user named is wrong: exit 2.
    #[error("{message}")]
    Argument {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The server refused a request.
    #[error("the server says: {message} (SQLSTATE {sqlstate})")]
    Server {
        /// The five characters of the error's code.
        sqlstate: String,
        /// The server's first line, escaped. Its detail and context are left out: they hold values of rows.
        message: String,
    },
    /// The connection was not made, or is lost.
    #[error("cannot {doing}: {source}")]
    Io {
        /// What was done.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Encryption was wanted and did not come about.
    #[error("{message}")]
    Tls {
        /// What failed.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The server does not speak the protocol.
    #[error("the server breaks the protocol: {0}")]
    Protocol(String),
    /// Nothing came in time.
    #[error("no answer within {limit:?}: {doing}")]
    Timeout {
        /// What was waited for.
        doing: String,
        /// How long.
        limit: Duration,
    },
    /// We refuse what the server asks, or it asks for what we cannot do.
    #[error("{message}")]
    Refused {
        /// What is refused and why.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
}

impl PostgresError {
    /// A mistake of the user's, with what to write instead.
    pub(crate) fn argument(message: impl Into<String>, hint: impl Into<String>) -> Self {
        let hint = Some(hint.into()).filter(|hint: &String| !hint.is_empty());
        PostgresError::Argument {
            message: message.into(),
            hint,
        }
    }

    pub(crate) fn refused(message: impl Into<String>, hint: impl Into<String>) -> Self {
        PostgresError::Refused {
            message: message.into(),
            hint: Some(hint.into()),
        }
    }

    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        PostgresError::Protocol(message.into())
    }

    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| PostgresError::Io { doing, source }
    }

    /// The connection ended where more was to come.
    pub(crate) fn closed() -> Self {
        PostgresError::Io {
            doing: "hear from the server".into(),
            source: io::Error::new(io::ErrorKind::UnexpectedEof, "it has closed the connection"),
        }
    }

    /// What a server said. Data exceptions quote the value after a colon: that part is left out.
    pub(crate) fn server(sqlstate: &str, message: &str) -> Self {
        let message = match message.split_once(": ") {
            Some((what, _)) if sqlstate.starts_with("22") => what,
            _ => message,
        };
        PostgresError::Server {
            sqlstate: escape::terminal(sqlstate),
            message: escape::terminal(message),
        }
    }

    /// The server's error code, where the server refused.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            PostgresError::Server { sqlstate, .. } => Some(sqlstate),
            _ => None,
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            PostgresError::Argument { hint, .. }
            | PostgresError::Tls { hint, .. }
            | PostgresError::Refused { hint, .. } => hint.as_deref(),
            _ => None,
        }
    }

    /// The same request may succeed a little later: the connection was lost, the server starts, stops or is full, the slot is still in use by
    /// a connection that is about to end. The only place where it is decided what is tried again.
    pub fn is_transient(&self) -> bool {
        match self {
            PostgresError::Io { source, .. } => !matches!(
                source.kind(),
                io::ErrorKind::InvalidInput | io::ErrorKind::PermissionDenied
            ),
            PostgresError::Timeout { .. } => true,
            PostgresError::Server { sqlstate, .. } => {
                sqlstate.starts_with("08")
                    || matches!(
                        sqlstate.as_str(),
                        // Shutdowns, crashes, starts; too many connections; a slot in use; a lock that did not come; serialisation.
                        "57P01"
                            | "57P02"
                            | "57P03"
                            | "53300"
                            | "55006"
                            | "55P03"
                            | "40001"
                            | "40P01"
                    )
            }
            PostgresError::Argument { .. }
            | PostgresError::Tls { .. }
            | PostgresError::Protocol(_)
            | PostgresError::Refused { .. } => false,
        }
    }
}

impl From<tokio_postgres::Error> for PostgresError {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(said) = error.as_db_error() {
            return PostgresError::server(said.code().code(), said.message());
        }
        if error.is_closed() {
            return PostgresError::closed();
        }
        // Its text names what was done, never a value; the source of a conversion might.
        let what = error.to_string();
        match error
            .into_source()
            .map(|source| source.downcast::<io::Error>())
        {
            Some(Ok(source)) if source.kind() != io::ErrorKind::InvalidInput => PostgresError::Io {
                doing: "talk to the server".into(),
                source: *source,
            },
            _ => PostgresError::Protocol(escape::terminal(&what)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again() {
        let server = |sqlstate| PostgresError::server(sqlstate, "no");
        for sqlstate in ["08006", "57P01", "57P02", "57P03", "53300", "55006"] {
            assert!(server(sqlstate).is_transient(), "{sqlstate}");
        }
        for sqlstate in ["42704", "28P01", "3D000", "42501", "22P02"] {
            assert!(!server(sqlstate).is_transient(), "{sqlstate}");
        }
        assert!(PostgresError::closed().is_transient());
        assert!(!PostgresError::argument("no", "").is_transient());
        assert!(!PostgresError::protocol("no").is_transient());
    }

    #[test]
    fn a_value_that_the_server_quotes_is_left_out() {
        let error =
            PostgresError::server("22P02", "invalid input syntax for type integer: \"4711\"");
        assert_eq!(
            error.to_string(),
            "the server says: invalid input syntax for type integer (SQLSTATE 22P02)"
        );
        let hostile = PostgresError::server("42P01", "relation \"\u{1b}[2J\" does not exist");
        assert!(!hostile.to_string().contains('\u{1b}'));
    }
}
