//! Files: rows as CSV, transactions as NDJSON, one file a day, put in place only when all of them are whole.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::change::{Commit, Op};

/// A day in milliseconds.
pub(super) const DAY: i64 = 24 * HOUR;
/// An hour in milliseconds.
pub(super) const HOUR: i64 = 60 * MINUTE;
/// A minute in milliseconds.
pub(super) const MINUTE: i64 = 60_000;

/// A value as the files spell it.
#[derive(Clone, Debug)]
pub(super) enum Val {
    Null,
    Int(i64),
    /// Hundredths, written with two places after the point.
    Cents(i64),
    Bool(bool),
    Text(String),
    /// Milliseconds since 1970, UTC.
    Time(i64),
    /// The day that holds these milliseconds since 1970, UTC.
    Date(i64),
}

impl From<&str> for Val {
    fn from(text: &str) -> Val {
        Val::Text(text.to_owned())
    }
}

impl From<i64> for Val {
    fn from(value: i64) -> Val {
        Val::Int(value)
    }
}

impl From<Option<&str>> for Val {
    fn from(text: Option<&str>) -> Val {
        text.map_or(Val::Null, Val::from)
    }
}

/// A row, or a part of one, in the order of the table's columns.
pub(super) type Image = Vec<(&'static str, Val)>;

/// One change as it will be written.
pub(super) struct Change {
    table: &'static str,
    op: Op,
    key: Option<Image>,
    before: Option<Image>,
    after: Option<Image>,
}

impl Change {
    pub(super) fn insert(table: &'static str, after: Image) -> Change {
        Change {
            table,
            op: Op::Insert,
            key: None,
            before: None,
            after: Some(after),
        }
    }

    /// `columns` are (name, before, after); the key is that of the old row.
    pub(super) fn update(
        table: &'static str,
        key: Image,
        columns: Vec<(&'static str, Val, Val)>,
    ) -> Change {
        let before = columns
            .iter()
            .map(|(name, old, _)| (*name, old.clone()))
            .collect();
        let after = columns
            .into_iter()
            .map(|(name, _, new)| (name, new))
            .collect();
        Change {
            table,
            op: Op::Update,
            key: Some(key),
            before: Some(before),
            after: Some(after),
        }
    }

    pub(super) fn delete(table: &'static str, before: Image) -> Change {
        Change {
            table,
            op: Op::Delete,
            key: None,
            before: Some(before),
            after: None,
        }
    }

    pub(super) fn truncate(table: &'static str) -> Change {
        Change {
            table,
            op: Op::Truncate,
            key: None,
            before: None,
            after: None,
        }
    }

    fn write(&self, out: &mut Vec<u8>) -> io::Result<()> {
        write!(
            out,
            "{{\"table\":\"{}\",\"op\":\"{}\"",
            self.table,
            self.op.as_str()
        )?;
        for (name, image) in [
            ("key", &self.key),
            ("before", &self.before),
            ("after", &self.after),
        ] {
            if let Some(image) = image {
                write!(out, ",\"{name}\":")?;
                write_object(out, image)?;
            }
        }
        out.push(b'}');
        Ok(())
    }
}

/// Who wrote a transaction.
pub(super) struct Context {
    pub(super) service: &'static str,
    pub(super) version: &'static str,
    pub(super) trace_id: u32,
}

/// Where the log stands after a transaction.
#[derive(Clone, Copy)]
pub(super) struct Stamp {
    pub(super) commit: Commit,
    /// Milliseconds since 1970, UTC.
    pub(super) time: i64,
}

/// The log being written: numbers transactions and keeps their clock strictly increasing.
pub(super) struct Log {
    dir: PathBuf,
    file: Option<(i64, BufWriter<File>)>,
    line: Vec<u8>,
    last: Stamp,
    lsn: u64,
    xid: u64,
    changes: u64,
}

impl Log {
    pub(super) fn create(dir: PathBuf, start: i64) -> io::Result<Log> {
        fs::create_dir_all(&dir)?;
        let last = Stamp {
            commit: 0,
            time: start,
        };
        Ok(Log {
            dir,
            file: None,
            line: Vec::new(),
            last,
            lsn: 0x16B_3748,
            xid: 731,
            changes: 0,
        })
    }

    pub(super) fn last(&self) -> Stamp {
        self.last
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Transaction ids that were used by something that rolled back.
    pub(super) fn skip_xids(&mut self, count: u64) {
        self.xid += count;
    }

    /// Writes one transaction that commits at `time`, which must be later than the last one.
    pub(super) fn commit(
        &mut self,
        time: i64,
        context: Option<&Context>,
        changes: &[Change],
    ) -> io::Result<Stamp> {
        assert!(time > self.last.time, "the clock of the log moves forward");
        assert!(!changes.is_empty(), "a transaction changes something");
        self.last = Stamp {
            commit: self.last.commit + 1,
            time,
        };
        self.xid += 1;
        self.line.clear();
        let (high, low) = (self.lsn >> 32, self.lsn & 0xffff_ffff);
        let mut line = std::mem::take(&mut self.line);
        write!(
            line,
            "{{\"commit\":{},\"lsn\":\"{high:X}/{low:X}\",\"xid\":{}",
            self.last.commit, self.xid
        )?;
        write!(line, ",\"time\":\"{}\"", timestamp(time))?;
        if let Some(Context {
            service,
            version,
            trace_id,
        }) = context
        {
            write!(
                line,
                ",\"context\":{{\"service\":\"{service}\",\"version\":\"{version}\""
            )?;
            write!(line, ",\"trace_id\":\"{trace_id:08x}\"}}")?;
        }
        line.extend_from_slice(b",\"changes\":[");
        for (at, change) in changes.iter().enumerate() {
            if at > 0 {
                line.push(b',');
            }
            change.write(&mut line)?;
        }
        line.extend_from_slice(b"]}\n");
        self.file_of(time.div_euclid(DAY))?.write_all(&line)?;
        // Records in a log are shorter than their JSON, and start at multiples of eight.
        self.lsn += (line.len() as u64 * 2 / 3 + 40) & !7;
        self.changes += changes.len() as u64;
        self.line = line;
        Ok(self.last)
    }

    fn file_of(&mut self, day: i64) -> io::Result<&mut BufWriter<File>> {
        if self.file.as_ref().is_none_or(|(open, _)| *open != day) {
            self.finish()?;
            let path = self.dir.join(format!("{}.ndjson", date(day * DAY)));
            self.file = Some((day, BufWriter::new(File::create(path)?)));
        }
        Ok(&mut self.file.as_mut().expect("opened above").1)
    }

    /// Makes the file of the last day whole.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if let Some((_, file)) = self.file.take() {
            file.into_inner()?.sync_all()?;
        }
        Ok(())
    }
}

/// One table of the snapshot being written.
pub(super) struct Csv {
    columns: &'static [&'static str],
    out: BufWriter<File>,
    rows: u64,
}

impl Csv {
    pub(super) fn create(
        dir: &Path,
        table: &str,
        columns: &'static [&'static str],
    ) -> io::Result<Csv> {
        let mut out = BufWriter::new(File::create(dir.join(format!("{table}.csv")))?);
        writeln!(out, "{}", columns.join(","))?;
        Ok(Csv {
            columns,
            out,
            rows: 0,
        })
    }

    /// Writes a whole row. RFC 4180; NULL is an empty field and the empty string is `""`.
    pub(super) fn row(&mut self, image: &Image) -> io::Result<()> {
        assert!(
            image.iter().map(|(name, _)| name).eq(self.columns),
            "a row has the columns of its table"
        );
        for (at, (_, value)) in image.iter().enumerate() {
            if at > 0 {
                self.out.write_all(b",")?;
            }
            match value {
                Val::Text(text) if text.is_empty() || text.contains([',', '"', '\n', '\r']) => {
                    write!(self.out, "\"{}\"", text.replace('"', "\"\""))?;
                }
                Val::Text(text) => self.out.write_all(text.as_bytes())?,
                Val::Null => {}
                Val::Int(number) => write!(self.out, "{number}")?,
                Val::Cents(cents) => self.out.write_all(decimal(*cents).as_bytes())?,
                Val::Bool(value) => write!(self.out, "{value}")?,
                Val::Time(ms) => self.out.write_all(timestamp(*ms).as_bytes())?,
                Val::Date(ms) => self.out.write_all(date(*ms).as_bytes())?,
            }
        }
        self.rows += 1;
        self.out.write_all(b"\n")
    }

    /// Makes the file whole and says how many rows it has.
    pub(super) fn finish(self) -> io::Result<u64> {
        self.out.into_inner()?.sync_all()?;
        Ok(self.rows)
    }
}

fn write_object(out: &mut Vec<u8>, image: &Image) -> io::Result<()> {
    out.push(b'{');
    for (at, (name, value)) in image.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write!(out, "\"{name}\":")?;
        match value {
            Val::Null => out.extend_from_slice(b"null"),
            Val::Int(number) => write!(out, "{number}")?,
            Val::Cents(cents) => write!(out, "\"{}\"", decimal(*cents))?,
            Val::Bool(value) => write!(out, "{value}")?,
            Val::Text(text) => serde_json::to_writer(&mut *out, text)?,
            Val::Time(ms) => write!(out, "\"{}\"", timestamp(*ms))?,
            Val::Date(ms) => write!(out, "\"{}\"", date(*ms))?,
        }
    }
    out.push(b'}');
    Ok(())
}

fn decimal(cents: i64) -> String {
    let (sign, absolute) = (if cents < 0 { "-" } else { "" }, cents.unsigned_abs());
    format!("{sign}{}.{:02}", absolute / 100, absolute % 100)
}

/// RFC 3339, UTC, milliseconds.
pub(super) fn timestamp(ms: i64) -> String {
    let rest = ms.rem_euclid(DAY);
    let (hour, minute) = (rest / HOUR, rest % HOUR / MINUTE);
    let (second, milli) = (rest % MINUTE / 1000, rest % 1000);
    format!("{}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z", date(ms))
}

/// The Gregorian calendar, by counting days from 0000-03-01 in eras of 400 years; `ms` after 1970.
pub(super) fn date(ms: i64) -> String {
    let days = ms.div_euclid(DAY) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Puts `entries` of `new` in the place of those of `dir`, each by a rename, and removes `new`.
pub(super) fn put_in_place(new: &Path, dir: &Path, entries: &[&str]) -> io::Result<()> {
    let old = new.join("replaced");
    fs::create_dir(&old)?;
    for entry in entries {
        let target = dir.join(entry);
        if target.symlink_metadata().is_ok() {
            fs::rename(&target, old.join(entry))?;
        }
        fs::rename(new.join(entry), &target)?;
    }
    File::open(dir)?.sync_all()?;
    fs::remove_dir_all(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_spelled_exactly() {
        for (cents, text) in [
            (0, "0.00"),
            (5, "0.05"),
            (-5, "-0.05"),
            (9995, "99.95"),
            (-123_456, "-1234.56"),
        ] {
            assert_eq!(decimal(cents), text);
        }
        let minute = |days: i64, ms| timestamp(days * DAY + ms);
        assert_eq!(minute(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(minute(20_524, 57_831_221), "2026-03-12T16:03:51.221Z");
        assert_eq!(minute(11_016, DAY - 1), "2000-02-29T23:59:59.999Z");
        assert_eq!(date(-DAY), "1969-12-31");
    }
}
