//! What can be wrong with a store, or with what is to be put into it.

use std::fmt;
use std::io;

use serde::Serialize;

/// Bytes of a store that are not what was sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// The file, by its path in the store.
    pub file: String,
    /// Offset of the first byte that may be wrong.
    pub from: u64,
    /// Offset behind the last byte that may be wrong.
    pub to: u64,
    /// What is wrong.
    pub problem: String,
    /// What cannot be trusted any more.
    pub affects: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage {
            file,
            from,
            to,
            problem,
            affects,
        } = self;
        write!(f, "{file}: bytes {from} to {to}: {problem}")?;
        if !affects.is_empty() {
            write!(f, "; this affects {affects}")?;
        }
        Ok(())
    }
}

/// Why a store cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no store.
    #[error("there is no store in {0}")]
    NotThere(String),
    /// It was made by a later version.
    #[error("this store has format version {found}; this firstbad reads up to version {known}")]
    Newer {
        /// The store's version.
        found: u64,
        /// The newest version that is known.
        known: u64,
    },
    /// Its bytes are not what was sealed.
    #[error("the store is damaged: {0}")]
    Damaged(Box<Damage>),
    /// Another process writes it.
    #[error("the store is being written by {0}")]
    Locked(String),
    /// A writer changed it faster than it could be read.
    #[error("the store changes while it is read")]
    Changing,
    /// The system failed.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was done.
        doing: &'static str,
        /// The path in the store.
        path: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// What is to be recorded does not fit what the store holds.
    #[error("{message}")]
    Refused {
        /// Why not.
        message: String,
        /// What to do.
        hint: String,
    },
}

impl StoreError {
    pub(super) fn io(doing: &'static str, path: &str) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_owned();
        move |source| StoreError::Io {
            doing,
            path,
            source,
        }
    }

    pub(super) fn refused(message: impl Into<String>, hint: impl Into<String>) -> StoreError {
        StoreError::Refused {
            message: message.into(),
            hint: hint.into(),
        }
    }

    pub(super) fn damaged(
        file: impl Into<String>,
        (from, to): (u64, u64),
        problem: impl Into<String>,
        affects: impl Into<String>,
    ) -> StoreError {
        StoreError::Damaged(Box::new(Damage {
            file: file.into(),
            from,
            to,
            problem: problem.into(),
            affects: affects.into(),
        }))
    }
}
