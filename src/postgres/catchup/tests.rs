use super::*;
use crate::postgres::fixture::Random;

/// A binary `COPY` of one column.
fn copied(values: &[&[u8]]) -> Vec<u8> {
    let mut out = SIGNATURE.to_vec();
    out.extend([0; 8]);
    for value in values {
        out.extend(1i16.to_be_bytes());
        out.extend(i32::try_from(value.len()).expect("a length").to_be_bytes());
        out.extend_from_slice(value);
    }
    out.extend((-1i16).to_be_bytes());
    out
}

/// What is read from bytes that come in pieces of some lengths.
fn read(bytes: &[u8], mut length: impl FnMut() -> usize) -> Result<Vec<Vec<u8>>, Malformed> {
    let mut rows = BinaryRows::default();
    let mut out = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (head, tail) = rest.split_at(length().clamp(1, rest.len()));
        rows.push(Bytes::copy_from_slice(head));
        rest = tail;
        while let Some(value) = rows.next()? {
            out.push(value.to_vec());
        }
    }
    rows.end()?;
    Ok(out)
}

#[test]
fn rows_are_read_however_they_are_cut() {
    let values: [&[u8]; 4] = [b"one", b"", &[0xff; 300], b"\xff\xff"];
    let bytes = copied(&values);
    for length in [1, 2, 3, 7, 19, 20, 64, 10_000] {
        let found = read(&bytes, || length).unwrap_or_else(|error| panic!("{length}: {error}"));
        assert_eq!(found, values, "{length}");
    }
}

#[test]
fn what_is_no_copy_is_refused() {
    let bytes = copied(&[b"one", b"two"]);
    for end in 0..bytes.len() {
        assert!(read(&bytes[..end], || 1_000).is_err(), "cut at {end}");
    }
    let refused = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        read(&bytes, || 1_000).expect_err("refused").to_string()
    };
    assert!(refused(0, b'X').contains("another format"));
    assert!(refused(14, 1).contains("another format"));
    assert!(refused(20, 2).contains("not one column"));
    assert!(refused(21, 0xff).contains("NULL"));
    let mut more = bytes.clone();
    more.push(0);
    assert!(read(&more, || 1_000).is_err(), "a byte after the end");
}

#[test]
fn no_bytes_are_too_strange() {
    let mut random = Random::new();
    let bytes = copied(&[b"one", b"two", &[7; 50]]);
    for _ in 0..20_000 {
        let mut bytes = bytes.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            bytes[at] = random.byte();
        }
        let _ = read(&bytes, || 1 + random.below(40));
    }
}

#[test]
fn names_are_quoted() {
    assert_eq!(literal("it's"), "'it''s'");
}
