//! What is asked of a gate, as a URL has it.

use std::time::Duration;

use super::{AGE_MAX, Ask};
use crate::rule::{Severity, parse_duration};

/// The most tables that one request may name.
const TABLES_MAX: usize = 1_000;

impl Ask {
    /// How old what was judged last may be: what was said, else [`AGE_MAX`]; where a position of the log is asked for, that decides.
    #[must_use]
    pub fn with_age(mut self, said: Option<Duration>) -> Ask {
        self.age_max = said.or_else(|| self.lsn.is_none().then_some(AGE_MAX));
        self
    }

    /// Reads `table=orders&lsn=0/2A00F10&max_age=5m&fail_on=critical&accept_gaps=true`; `table` may be repeated.
    ///
    /// # Errors
    /// What is wrong with it, for whoever asks. What was sent is not repeated.
    pub fn of_query(query: &str) -> Result<Ask, String> {
        let mut ask = Ask::default();
        let mut age = None;
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "table" if value.is_empty() => return Err("table: no name".into()),
                "table" if ask.tables.len() == TABLES_MAX => {
                    return Err(format!("more than {TABLES_MAX} tables"));
                }
                "table" => ask.tables.push(value.into_owned()),
                "lsn" => {
                    let lsn = value.parse();
                    ask.lsn = Some(lsn.map_err(|error| format!("lsn: {error}"))?);
                }
                "max_age" => {
                    age = Some(duration(&value).ok_or("max_age: not a duration; write e.g. 5m")?)
                }
                "fail_on" => {
                    let severity = severity(&value);
                    ask.fail_on =
                        severity.ok_or("fail_on: there are info, warn, error and critical")?;
                }
                "accept_gaps" => {
                    ask.accept_gaps = match &*value {
                        "true" => true,
                        "false" => false,
                        _ => return Err("accept_gaps: true or false".into()),
                    };
                }
                _ => return Err("there are table, lsn, max_age, fail_on and accept_gaps".into()),
            }
        }
        Ok(ask.with_age(age))
    }
}

pub(super) fn severity(text: &str) -> Option<Severity> {
    let all = [
        Severity::Info,
        Severity::Warn,
        Severity::Error,
        Severity::Critical,
    ];
    all.into_iter().find(|severity| severity.as_str() == text)
}

fn duration(text: &str) -> Option<Duration> {
    let micros = parse_duration(text).ok()?;
    Some(Duration::from_micros(u64::try_from(micros).ok()?))
}
