//! Messages of the output plugin `pgoutput`, protocol version 1, as they come in the stream: decoded in place, nothing is copied but
//! the names in [`Relation`]s.
//!
//! The format is PostgreSQL's documentation, "Logical Replication Message Formats". Numbers are in network order, names end with a zero
//! byte. Every length is checked against the bytes that are there before anything is made of it.

#[cfg(test)]
mod tests;

/// Microseconds from 1970 to 2000, where PostgreSQL's clock begins.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// The most columns a table may have (`MaxHeapAttributeNumber` is 1600); a message that says more is none.
const COLUMNS_MAX: u16 = 1664;

/// Bytes that are no message of protocol version 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of the stream cannot be read: {what}")]
pub struct Malformed {
    /// What is wrong, without any value.
    pub what: String,
}

impl Malformed {
    /// An error that says what is wrong; the text must hold no value of a row.
    pub fn new(what: impl Into<String>) -> Self {
        Malformed { what: what.into() }
    }
}

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub enum Message<'a> {
    /// A transaction begins.
    Begin(Begin),
    /// A transaction ends.
    Commit(Commit),
    /// Where the transaction came from, when it was replicated to this server.
    Origin,
    /// What a table is like from here on.
    Relation(Relation<'a>),
    /// The name of a type that is not built in.
    Type {
        /// Its oid.
        oid: u32,
        /// Its schema.
        schema: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// A row came.
    Insert {
        /// The table.
        relation: u32,
        /// The row.
        new: Tuple<'a>,
    },
    /// A row changed.
    Update {
        /// The table.
        relation: u32,
        /// The row before, as far as the replica identity gives it.
        old: Option<Old<'a>>,
        /// The row after.
        new: Tuple<'a>,
    },
    /// A row went.
    Delete {
        /// The table.
        relation: u32,
        /// The row before, as far as the replica identity gives it.
        old: Old<'a>,
    },
    /// All rows of tables went.
    Truncate {
        /// The tables, in the order of the statement.
        relations: Oids<'a>,
        /// Whether tables that refer to them went along.
        cascade: bool,
        /// Whether their sequences begin anew.
        restart: bool,
    },
    /// A logical message that an application wrote into the log.
    Logical(Logical<'a>),
}

/// The beginning of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// Start of its commit record.
    pub final_lsn: u64,
    /// Its commit time, in microseconds since 1970.
    pub time_us: i64,
    /// Its id.
    pub xid: u32,
}

/// The end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Start of its commit record.
    pub lsn: u64,
    /// End of its commit record: where to go on.
    pub end_lsn: u64,
    /// Its commit time, in microseconds since 1970.
    pub time_us: i64,
}

/// A logical message (`pg_logical_emit_message`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logical<'a> {
    /// Whether it belongs to the transaction in which it was written.
    pub transactional: bool,
    /// Where it stands in the log.
    pub lsn: u64,
    /// Its prefix.
    pub prefix: &'a str,
    /// What it says.
    pub content: &'a [u8],
}

/// How a table says which row an update or delete means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// By its primary key.
    Default,
    /// Not at all.
    Nothing,
    /// By the whole old row.
    Full,
    /// By a unique index.
    Index,
}

/// What a table is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation<'a> {
    /// Its oid; of the root, where a publication publishes by way of it.
    pub oid: u32,
    /// Its schema.
    pub schema: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its replica identity.
    pub identity: Identity,
    /// Its columns, in order; those that are not sent (generated ones, ones outside of a column list) are not there.
    pub columns: Vec<RelationColumn<'a>>,
}

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationColumn<'a> {
    /// Whether it is part of the replica identity.
    pub is_key: bool,
    /// Its name.
    pub name: &'a str,
    /// The oid of its type.
    pub type_oid: u32,
    /// Its type's modifier; -1 for none.
    pub typmod: i32,
}

/// The row before a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old<'a> {
    /// Only the columns of the replica identity are known; the others are NULL in the tuple, whatever they were.
    Key(Tuple<'a>),
    /// The whole row.
    Full(Tuple<'a>),
}

/// A row: a value a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple<'a> {
    columns: u16,
    /// The values; their lengths were checked.
    bytes: &'a [u8],
}

/// A value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// NULL.
    Null,
    /// A value that was stored apart from its row and that the change left alone.
    Unchanged,
    /// A value in its text form.
    Text(&'a [u8]),
    /// A value in its binary form.
    Binary(&'a [u8]),
}

impl<'a> Tuple<'a> {
    /// How many columns it has.
    pub fn len(&self) -> usize {
        usize::from(self.columns)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.columns == 0
    }

    /// Its values, in the order of the relation's columns.
    pub fn values(&self) -> Values<'a> {
        Values { rest: self.bytes }
    }
}

/// The values of a row.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Values<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let mut reader = Reader { rest: self.rest };
        // The lengths were checked when the message was decoded.
        let value = reader.value().ok()?;
        self.rest = reader.rest;
        Some(value)
    }
}

/// Oids of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oids<'a>(&'a [u8]);

impl Oids<'_> {
    /// The oids in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        let (oids, _) = self.0.as_chunks::<4>();
        oids.iter().map(|oid| u32::from_be_bytes(*oid))
    }
}

/// The kind of a message and the table it is about, without reading the rest: enough to pass over changes of tables that nobody
/// watches. None for messages that are not about a row of one table.
pub fn row_of(message: &[u8]) -> Option<u32> {
    match message {
        [b'I' | b'U' | b'D', a, b, c, d, ..] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

/// Reads a message.
///
/// # Errors
/// Where the bytes are no message of protocol version 1, or one and more.
pub fn decode(message: &[u8]) -> Result<Message<'_>, Malformed> {
    let mut reader = Reader { rest: message };
    let kind = reader.byte()?;
    let message = match kind {
        b'B' => Message::Begin(Begin {
            final_lsn: reader.u64()?,
            time_us: reader.time()?,
            xid: reader.u32()?,
        }),
        b'C' => {
            // No flags are defined.
            reader.byte()?;
            Message::Commit(Commit {
                lsn: reader.u64()?,
                end_lsn: reader.u64()?,
                time_us: reader.time()?,
            })
        }
        b'O' => {
            reader.u64()?;
            reader.name()?;
            Message::Origin
        }
        b'R' => Message::Relation(reader.relation()?),
        b'Y' => Message::Type {
            oid: reader.u32()?,
            schema: reader.name()?,
            name: reader.name()?,
        },
        b'I' => Message::Insert {
            relation: reader.u32()?,
            new: reader.new_tuple()?,
        },
        b'U' => {
            let relation = reader.u32()?;
            let old = match reader.rest.first() {
                Some(b'N') => None,
                _ => Some(reader.old_tuple()?),
            };
            let new = reader.new_tuple()?;
            Message::Update { relation, old, new }
        }
        b'D' => Message::Delete {
            relation: reader.u32()?,
            old: reader.old_tuple()?,
        },
        b'T' => reader.truncate()?,
        b'M' => Message::Logical(reader.logical()?),
        b'S' | b'E' | b'c' | b'A' | b'b' | b'P' | b'K' | b'r' | b'p' => {
            let what = "a message of a later protocol version than 1, which was asked for";
            return Err(Malformed::new(what));
        }
        other => {
            let what = format!("no kind of message begins with byte {other}");
            return Err(Malformed::new(what));
        }
    };
    match reader.rest {
        [] => Ok(message),
        _ => Err(Malformed::new("more bytes than the message has")),
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        match self.rest.split_at_checked(length) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => Err(cut_off()),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(*head)
            }
            None => Err(cut_off()),
        }
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    fn time(&mut self) -> Result<i64, Malformed> {
        let since_2000 = self.array().map(i64::from_be_bytes)?;
        since_2000
            .checked_add(EPOCH_MICROS)
            .ok_or_else(|| Malformed::new("a time beyond all years"))
    }

    /// A length, which no bytes have been made room for.
    fn length(&mut self) -> Result<usize, Malformed> {
        let length = self.array().map(i32::from_be_bytes)?;
        usize::try_from(length).map_err(|_| Malformed::new("a negative length"))
    }

    fn name(&mut self) -> Result<&'a str, Malformed> {
        let length = self.rest.iter().position(|byte| *byte == 0);
        let length = length.ok_or_else(|| Malformed::new("a name that does not end"))?;
        let name = self.take(length)?;
        self.byte()?;
        std::str::from_utf8(name).map_err(|_| Malformed::new("a name that is not UTF-8"))
    }

    fn value(&mut self) -> Result<Value<'a>, Malformed> {
        match self.byte()? {
            b'n' => Ok(Value::Null),
            b'u' => Ok(Value::Unchanged),
            b't' => {
                let length = self.length()?;
                self.take(length).map(Value::Text)
            }
            b'b' => {
                let length = self.length()?;
                self.take(length).map(Value::Binary)
            }
            other => {
                let what = format!("no kind of value begins with byte {other}");
                Err(Malformed::new(what))
            }
        }
    }

    fn tuple(&mut self) -> Result<Tuple<'a>, Malformed> {
        let columns = self.u16()?;
        if columns > COLUMNS_MAX {
            return Err(Malformed::new(
                "a row of more columns than a table can have",
            ));
        }
        let begin = self.rest;
        for _ in 0..columns {
            self.value()?;
        }
        let bytes = &begin[..begin.len() - self.rest.len()];
        Ok(Tuple { columns, bytes })
    }

    fn new_tuple(&mut self) -> Result<Tuple<'a>, Malformed> {
        match self.byte()? {
            b'N' => self.tuple(),
            _ => Err(Malformed::new("a change without the new row")),
        }
    }

    fn old_tuple(&mut self) -> Result<Old<'a>, Malformed> {
        match self.byte()? {
            b'K' => self.tuple().map(Old::Key),
            b'O' => self.tuple().map(Old::Full),
            _ => Err(Malformed::new("an old row of no known kind")),
        }
    }

    fn relation(&mut self) -> Result<Relation<'a>, Malformed> {
        let oid = self.u32()?;
        // The system's own schema is sent as an empty name.
        let schema = match self.name()? {
            "" => "pg_catalog",
            name => name,
        };
        let name = self.name()?;
        let identity = match self.byte()? {
            b'd' => Identity::Default,
            b'n' => Identity::Nothing,
            b'f' => Identity::Full,
            b'i' => Identity::Index,
            _ => return Err(Malformed::new("a replica identity of no known kind")),
        };
        let count = self.u16()?;
        if count > COLUMNS_MAX {
            return Err(Malformed::new("a table of more columns than there can be"));
        }
        let mut columns = Vec::with_capacity(usize::from(count));
        for _ in 0..count {
            columns.push(RelationColumn {
                is_key: self.byte()? & 1 == 1,
                name: self.name()?,
                type_oid: self.u32()?,
                typmod: self.array().map(i32::from_be_bytes)?,
            });
        }
        Ok(Relation {
            oid,
            schema,
            name,
            identity,
            columns,
        })
    }

    fn truncate(&mut self) -> Result<Message<'a>, Malformed> {
        let count = self.length()?;
        let options = self.byte()?;
        let length = count.checked_mul(4).ok_or_else(cut_off)?;
        Ok(Message::Truncate {
            relations: Oids(self.take(length)?),
            cascade: options & 1 != 0,
            restart: options & 2 != 0,
        })
    }

    fn logical(&mut self) -> Result<Logical<'a>, Malformed> {
        let transactional = self.byte()? & 1 == 1;
        let lsn = self.u64()?;
        let prefix = self.name()?;
        let length = self.length()?;
        Ok(Logical {
            transactional,
            lsn,
            prefix,
            content: self.take(length)?,
        })
    }
}

fn cut_off() -> Malformed {
    Malformed::new("it ends too early")
}
