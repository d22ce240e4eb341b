//! A place in a server's write-ahead log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::state::parse_lsn;

/// A place in a server's write-ahead log, in bytes from its beginning; written `0/16B3748` as Postgres does.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(into = "String", try_from = "String")]
pub struct Lsn(pub u64);

/// A text that is no LSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no LSN; one looks like 0/16B3748")]
pub struct NoLsn;

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Lsn {
    type Err = NoLsn;

    fn from_str(text: &str) -> Result<Self, NoLsn> {
        parse_lsn(text).map(Lsn).ok_or(NoLsn)
    }
}

impl TryFrom<String> for Lsn {
    type Error = NoLsn;

    fn try_from(text: String) -> Result<Self, NoLsn> {
        text.parse()
    }
}

impl From<Lsn> for String {
    fn from(lsn: Lsn) -> String {
        lsn.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lsn_is_written_as_postgres_writes_it() {
        for (number, text) in [
            (0, "0/0"),
            (0x16B_3748, "0/16B3748"),
            (0x1_0000_0000, "1/0"),
            (u64::MAX, "FFFFFFFF/FFFFFFFF"),
        ] {
            assert_eq!(Lsn(number).to_string(), text);
            assert_eq!(text.parse(), Ok(Lsn(number)));
            let json = serde_json::to_string(&Lsn(number)).expect("an LSN is JSON");
            assert_eq!(json, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Lsn>(&json).ok(), Some(Lsn(number)));
        }
        for text in ["", "0", "0/", "/0", "0/123456789", "x/1", "0/1 ", "-1/0"] {
            assert_eq!(text.parse::<Lsn>(), Err(NoLsn), "{text}");
        }
        assert!(Lsn(0x1_0000_0000) > Lsn(0xffff_ffff));
    }
}
