//! Messages of the wire protocol: a tag, a length, a body.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use bytes::{Buf, Bytes, BytesMut};

use super::PostgresError;

/// The longest message: no value of Postgres' is longer than 1 GiB.
pub(super) const MESSAGE_MAX: usize = 1 << 30;
/// How much is read at once.
pub(super) const READ_BYTES: usize = 256 << 10;
/// Tag and length.
const HEADER: usize = 5;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) tag: u8,
    /// Shares the memory that it was read into.
    pub(super) body: Bytes,
}

/// Takes the first message off what was read, where all of it is there. Makes room for the rest of it where it is not: no faster
/// than bytes arrive, for a length is only a claim.
///
/// # Errors
/// A length that cannot be, or is beyond `max`.
pub(super) fn take(input: &mut BytesMut, max: usize) -> Result<Option<Frame>, PostgresError> {
    let Some((&[tag, a, b, c, d], _)) = input.split_first_chunk::<HEADER>() else {
        reserve(input, HEADER);
        return Ok(None);
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    if length < 4 {
        return Err(PostgresError::protocol(
            "a message has an impossible length",
        ));
    }
    if length > max {
        return Err(PostgresError::protocol(format!(
            "a message has more than {max} bytes"
        )));
    }
    let total = length + 1;
    if input.len() < total {
        reserve(input, total - input.len());
        return Ok(None);
    }
    let mut body = input.split_to(total).freeze();
    body.advance(HEADER);
    Ok(Some(Frame { tag, body }))
}

/// Room for a read, at most doubling what is held.
fn reserve(input: &mut BytesMut, missing: usize) {
    let most = input.len().max(READ_BYTES);
    let room = input.capacity() - input.len();
    if room < missing.clamp(READ_BYTES / 4, most) {
        input.reserve(missing.clamp(READ_BYTES, most));
    }
}

/// Reads fields of a body.
pub(super) struct Reader(pub(super) Bytes);

impl Reader {
    fn short() -> PostgresError {
        PostgresError::protocol("a message is shorter than it says")
    }

    pub(super) fn u8(&mut self) -> Result<u8, PostgresError> {
        self.0.try_get_u8().map_err(|_| Reader::short())
    }

    pub(super) fn i16(&mut self) -> Result<i16, PostgresError> {
        self.0.try_get_i16().map_err(|_| Reader::short())
    }

    pub(super) fn i32(&mut self) -> Result<i32, PostgresError> {
        self.0.try_get_i32().map_err(|_| Reader::short())
    }

    pub(super) fn i64(&mut self) -> Result<i64, PostgresError> {
        self.0.try_get_i64().map_err(|_| Reader::short())
    }

    pub(super) fn u64(&mut self) -> Result<u64, PostgresError> {
        self.0.try_get_u64().map_err(|_| Reader::short())
    }

    /// The next bytes.
    pub(super) fn bytes(&mut self, count: usize) -> Result<Bytes, PostgresError> {
        if self.0.len() < count {
            return Err(Reader::short());
        }
        Ok(self.0.split_to(count))
    }

    /// The text up to the next NUL; what is not UTF-8 in it is replaced.
    pub(super) fn text(&mut self) -> Result<String, PostgresError> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let text = self.bytes(end.ok_or_else(Reader::short)?)?;
        self.u8()?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// What an error message of the server says: its code and its first line, without detail and context.
pub(super) fn server_error(body: Bytes) -> PostgresError {
    let mut reader = Reader(body);
    let (mut sqlstate, mut message) = (String::new(), String::new());
    // Fields end with a NUL; what is cut short is shown as far as it goes.
    while let Ok(kind @ 1..) = reader.u8() {
        match (kind, reader.text()) {
            (b'C', Ok(text)) => sqlstate = text,
            (b'M', Ok(text)) => message = text,
            (_, Ok(_)) => {}
            (_, Err(_)) => break,
        }
    }
    PostgresError::server(&sqlstate, &message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }

        fn below(&mut self, end: usize) -> usize {
            (self.next() % end as u64) as usize
        }
    }

    /// `FIRSTBAD_SEED` replays a run.
    fn seed() -> u64 {
        let given = std::env::var("FIRSTBAD_SEED").ok();
        let seed = given
            .and_then(|text| text.parse().ok())
            .unwrap_or(20_261_121);
        println!("FIRSTBAD_SEED={seed}");
        seed
    }

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).expect("bodies are short");
        [&[tag], length.to_be_bytes().as_slice(), body].concat()
    }

    #[test]
    fn messages_come_out_whole_however_they_were_cut() {
        let mut random = Random(seed());
        for _ in 0..2000 {
            let frames: Vec<(u8, Vec<u8>)> = (0..random.below(8))
                .map(|_| {
                    let body = (0..random.below(40)).map(|_| random.next() as u8).collect();
                    (random.next() as u8, body)
                })
                .collect();
            let bytes: Vec<u8> = frames
                .iter()
                .flat_map(|(tag, body)| message(*tag, body))
                .collect();
            let (mut input, mut out) = (BytesMut::new(), Vec::new());
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(1 + random.below(rest.len()));
                input.extend_from_slice(now);
                rest = later;
                while let Some(frame) = take(&mut input, MESSAGE_MAX).expect("they are well-formed")
                {
                    out.push((frame.tag, frame.body.to_vec()));
                }
            }
            assert_eq!(out, frames);
            assert!(input.is_empty());
        }
    }

    #[test]
    fn no_bytes_make_the_reader_fail_otherwise_than_by_saying_so() {
        let mut random = Random(seed());
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..random.below(64))
                .map(|_| random.next() as u8 & [0xff, 0x07][random.below(2)])
                .collect();
            let mut input = BytesMut::from(bytes.as_slice());
            while let Ok(Some(frame)) = take(&mut input, 48) {
                server_error(frame.body.clone());
                let mut reader = Reader(frame.body);
                let _ = (reader.u8(), reader.i16(), reader.text(), reader.i32());
                let _ = (reader.i64(), reader.u64(), reader.bytes(3));
            }
            assert!(
                input.capacity() <= READ_BYTES * 3,
                "a length that is claimed takes no memory"
            );
        }
        let mut input = BytesMut::from(message(b'd', b"")[..1].to_vec().as_slice());
        input.extend_from_slice(&[0x3f, 0xff, 0xff, 0xff]);
        assert_eq!(
            take(&mut input, MESSAGE_MAX).expect("it may be so long"),
            None
        );
        assert!(input.capacity() <= READ_BYTES * 3);
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        for length in [0u32, 3, 1 << 30 | 1, u32::MAX] {
            let mut input = BytesMut::from(
                [b"d".as_slice(), length.to_be_bytes().as_slice()]
                    .concat()
                    .as_slice(),
            );
            assert!(take(&mut input, MESSAGE_MAX).is_err(), "{length}");
        }
    }
}
