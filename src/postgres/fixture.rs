//! Messages of `pgoutput` as a server writes them, for tests: the other direction of the decoder, written by itself.

/// A value of a row.
#[derive(Clone, Debug)]
pub(super) enum Datum {
    Null,
    Unchanged,
    Text(Vec<u8>),
    Binary(Vec<u8>),
}

pub(super) fn text(value: &str) -> Datum {
    Datum::Text(value.as_bytes().to_vec())
}

/// A message that is being written.
#[derive(Clone, Debug)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn new(kind: u8) -> Self {
        Writer(vec![kind])
    }

    pub(super) fn byte(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(super) fn bytes(mut self, value: &[u8]) -> Self {
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(super) fn name(self, value: &str) -> Self {
        self.bytes(value.as_bytes()).byte(0)
    }

    pub(super) fn tuple(self, kind: u8, row: &[Datum]) -> Self {
        let count = u16::try_from(row.len()).expect("a row");
        row.iter()
            .fold(self.byte(kind).u16(count), |out, datum| match datum {
                Datum::Null => out.byte(b'n'),
                Datum::Unchanged => out.byte(b'u'),
                Datum::Text(value) => out.byte(b't').u32(length(value)).bytes(value),
                Datum::Binary(value) => out.byte(b'b').u32(length(value)).bytes(value),
            })
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a length")
}

/// A transaction begins: its commit record's LSN, its time since 2000, its id.
pub(super) fn begin(lsn: u64, micros: u64, xid: u32) -> Vec<u8> {
    Writer::new(b'B').u64(lsn).u64(micros).u32(xid).0
}

pub(super) fn commit(lsn: u64, end: u64) -> Vec<u8> {
    Writer::new(b'C').byte(0).u64(lsn).u64(end).u64(0).0
}

/// A table `public.<name>`: per column whether it is in the identity, name, type, modifier.
pub(super) fn relation(
    oid: u32,
    name: &str,
    identity: u8,
    columns: &[(bool, &str, u32, i32)],
) -> Vec<u8> {
    let count = u16::try_from(columns.len()).expect("columns");
    let begin = Writer::new(b'R')
        .u32(oid)
        .name("public")
        .name(name)
        .byte(identity)
        .u16(count);
    let column = |out: Writer, (key, name, oid, typmod): &(bool, &str, u32, i32)| {
        out.byte(u8::from(*key))
            .name(name)
            .u32(*oid)
            .bytes(&typmod.to_be_bytes())
    };
    columns.iter().fold(begin, column).0
}

pub(super) fn insert(oid: u32, row: &[Datum]) -> Vec<u8> {
    Writer::new(b'I').u32(oid).tuple(b'N', row).0
}

/// An update, with the old row's kind (`K` or `O`) where there is one.
pub(super) fn update(oid: u32, old: Option<(u8, &[Datum])>, row: &[Datum]) -> Vec<u8> {
    let begin = Writer::new(b'U').u32(oid);
    let begin = match old {
        Some((kind, old)) => begin.tuple(kind, old),
        None => begin,
    };
    begin.tuple(b'N', row).0
}

pub(super) fn delete(oid: u32, kind: u8, row: &[Datum]) -> Vec<u8> {
    Writer::new(b'D').u32(oid).tuple(kind, row).0
}

pub(super) fn truncate(oids: &[u32], options: u8) -> Vec<u8> {
    let count = u32::try_from(oids.len()).expect("tables");
    let begin = Writer::new(b'T').u32(count).byte(options);
    oids.iter().fold(begin, |out, oid| out.u32(*oid)).0
}

pub(super) fn message(transactional: bool, lsn: u64, prefix: &str, content: &[u8]) -> Vec<u8> {
    Writer::new(b'M')
        .byte(u8::from(transactional))
        .u64(lsn)
        .name(prefix)
        .u32(length(content))
        .bytes(content)
        .0
}

/// Random numbers that a seed repeats (xorshift).
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    /// From `FIRSTBAD_SEED`, or a fixed one; it is printed, so that a failure can be repeated.
    pub(super) fn new() -> Self {
        let seed = match std::env::var("FIRSTBAD_SEED") {
            Ok(seed) => seed.parse().expect("FIRSTBAD_SEED is a number"),
            Err(_) => 20_261_121,
        };
        eprintln!("FIRSTBAD_SEED={seed}");
        Random(seed | 1)
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let end = u64::try_from(end).expect("64 bits");
        usize::try_from((self.0 >> 11) % end).expect("below")
    }

    pub(super) fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).expect("a byte")
    }
}

/// One message of each kind and shape, with its name.
pub(super) fn corpus() -> Vec<(&'static str, Vec<u8>)> {
    let row = [
        text("17"),
        Datum::Null,
        Datum::Unchanged,
        text("größer 😀"),
        Datum::Binary(vec![0, 255]),
    ];
    let columns = [
        (true, "id", 23, -1),
        (false, "Total \"x\"", 1700, 786_438),
        (false, "note", 25, -1),
    ];
    vec![
        ("begin", begin(0x16B_3748, 1, 731)),
        ("commit", commit(0x16B_3748, 0x16B_3778)),
        ("origin", Writer::new(b'O').u64(9).name("elsewhere").0),
        (
            "type",
            Writer::new(b'Y').u32(9).name("public").name("mood").0,
        ),
        ("relation", relation(16_384, "orders", b'd', &columns)),
        (
            "relation without columns",
            relation(16_385, "none", b'n', &[]),
        ),
        ("insert", insert(16_384, &row)),
        ("insert of nothing", insert(16_385, &[])),
        ("update", update(16_384, None, &row)),
        (
            "update of the key",
            update(16_384, Some((b'K', &row[..2])), &row),
        ),
        ("update with all", update(16_384, Some((b'O', &row)), &row)),
        ("delete", delete(16_384, b'K', &row)),
        ("delete with all", delete(16_384, b'O', &row)),
        ("truncate", truncate(&[16_384, 16_385], 3)),
        ("truncate of nothing", truncate(&[], 0)),
        (
            "message",
            message(true, 77, "firstbad", b"{\"service\":\"checkout\"}"),
        ),
        ("message of others", message(false, 78, "", b"")),
    ]
}
